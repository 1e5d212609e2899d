"""Grades gpt2/tokenizer.

The oracles are Hugging Face's tokenizers (training, encoding, and the files), tiktoken (encoding), and a training that
counts everything anew for each merge. Merges are compared as the published files write them: "Ġ t" for " " and "t".
"""

import json
import os
import pickle
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest.mock import patch

import httpx2
import huggingface_hub
import tiktoken
import tokenizers
from huggingface_hub import constants
from huggingface_hub.utils._http import default_client_factory
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer

from checkpoints.checks import Answer, Check, Draw, Workload
from checkpoints.crashes import ForbiddenError
from checkpoints.misconceptions import Misconception
from exercises.gpt2.tokenizer import GPT2_PATTERN, BPETokenizer, load_tokenizer, train_bpe

MISCONCEPTIONS = [
    Misconception(
        "training that takes the largest of equally frequent pairs, not the smallest",
        (
            "_, best = heapq.heappop(heap)",
            "_, best = max((counts[pair], pair) for word in tokens for pair in pairwise(word))",
        ),
    ),
    Misconception(
        "training that takes, of equally frequent pairs, the one that was met first",
        (
            "_, best = heapq.heappop(heap)",
            "best = max((pair for word in tokens for pair in pairwise(word)), key=counts.__getitem__)",
        ),
    ),
    Misconception(
        "each different word counted once, however often it occurs",
        ("times = list(words.values())", "times = [1] * len(words)"),
    ),
    Misconception(
        "pairs counted across the cuts of the pattern, from word to word",
        ("    matches = regex.compile(pattern)", r"    matches = regex.compile(r'[\s\S]+')"),
    ),
    Misconception(
        "counts that never shrink, though their pairs have been joined with others",
        ("counts[pair] -= times[number]", "counts[pair] -= times[number] * (best == pair)"),
    ),
    Misconception(
        "only the first place in each word joined",
        (
            "if token == right and joined and joined[-1] == left:",
            "if token == right and joined and joined[-1] == left and new not in joined:",
        ),
    ),
    Misconception(
        "pairs that occur once never joined",
        ("if not heap:", "if not heap or counts[heap[0][1]] < 2:"),
    ),
    Misconception(
        "vocab_size taken for the number of merges: the bytes not counted",
        ("_frequent_pairs(words, vocab_size - fewest)", "_frequent_pairs(words, vocab_size - len(special_tokens))"),
    ),
    Misconception(
        "special tokens besides vocab_size, not among it",
        ("_frequent_pairs(words, vocab_size - fewest)", "_frequent_pairs(words, vocab_size - 256)"),
    ),
    Misconception(
        "one text in the place of several taken letter by letter",
        ("if isinstance(texts, str):", "if False:"),
    ),
    Misconception(
        "the bytes numbered from 0 to 255, not in GPT-2's order",
        ("enumerate(_CHARACTERS)", "enumerate(sorted(_CHARACTERS))"),
        (
            "self._tokens = {bytes([byte]): token for byte, token in _BYTE_TOKENS.items()}",
            "self._tokens = {bytes([byte]): byte for byte in range(256)}",
        ),
        ("for byte in _CHARACTERS]", "for byte in sorted(_CHARACTERS)]"),
    ),
    Misconception(
        "the leftmost pair joined first, not the pair of the earliest merge",
        (
            'tokens = [_BYTE_TOKENS[byte] for byte in word.encode("utf-8")]',
            """
        tokens = [_BYTE_TOKENS[byte] for byte in word.encode("utf-8")]
        place = 0
        while place < len(tokens) - 1:
            if tuple(tokens[place : place + 2]) in self._joined:
                tokens[place : place + 2] = [self._joined[tokens[place], tokens[place + 1]]]
                place = 0
            else:
                place += 1
        return tokens
            """,
        ),
    ),
    Misconception(
        "the longest token that fits taken from the left, without regard to the merges",
        (
            'tokens = [_BYTE_TOKENS[byte] for byte in word.encode("utf-8")]',
            """
        tokens, rest = [], word.encode("utf-8")
        while rest:
            size = next(size for size in range(len(rest), 0, -1) if rest[:size] in self._tokens)
            tokens.append(self._tokens[rest[:size]])
            rest = rest[size:]
        return tokens
            """,
        ),
    ),
    Misconception(
        "merges done across the cuts of the pattern",
        ("self._matches = regex.compile(pattern)", "self._matches = regex.compile(r'[\\s\\S]+')"),
    ),
    Misconception(
        "the list in the cache handed out itself: whoever changes it changes later answers",
        (
            "tokens += self._tokens_of(match.group())",
            "found = self._tokens_of(match.group())\ntokens = tokens + found if tokens else found",
        ),
    ),
    Misconception(
        "special tokens taken out of any text, whether they are allowed or not",
        ("if not allowed_special:", "if not self.special_tokens:"),
    ),
    Misconception(
        "special tokens looked for in the order given, so that a short one hides a longer",
        ("sorted(self.special_tokens, reverse=True)", "list(self.special_tokens)"),
    ),
    Misconception(
        "each token decoded by itself: a character that is cut in two is lost",
        (
            'self.decode_bytes(tokens).decode("utf-8", errors="replace")',
            '"".join(self.token_bytes(token).decode("utf-8", errors="replace") for token in tokens)',
        ),
    ),
    Misconception("bytes that are no UTF-8 dropped without a word", ('errors="replace")', 'errors="ignore")')),
    Misconception("an error for bytes that are no UTF-8", ('.decode("utf-8", errors="replace")', '.decode("utf-8")')),
    Misconception("token -1 taken for the last one", ("if not 0 <= token < len(", "if not token < len(")),
    Misconception(
        "a merge of parts that are no tokens yet let in",
        (
            "if part not in self._tokens:",
            "if part not in self._tokens and part not in {a + b for a, b in self.merges}:",
        ),
        (
            "self._joined[self._tokens[left], self._tokens[right]]",
            "self._joined[self._tokens.get(left, -1), self._tokens.get(right, -1)]",
        ),
    ),
    Misconception(
        "a second merge to a token that is there already let in",
        ("if left + right in self._tokens:", "if False:"),
    ),
    Misconception(
        "an encoding of tiktoken that knows no special tokens",
        ("mergeable_ranks=self._tokens, special_tokens=special", "mergeable_ranks=self._tokens, special_tokens={}"),
    ),
    Misconception(
        "an encoding of tiktoken with its own idea of where to cut",
        ("pat_str=self.pattern", "pat_str=GPT2_PATTERN"),
    ),
    Misconception(
        "files in which bytes are written as Latin-1, not as the published ones are",
        ('return "".join(_CHARACTERS[byte] for byte in entry)', 'return entry.decode("latin-1")'),
    ),
    Misconception("vocab.json without the special tokens", (" | self.special_tokens\n", "\n")),
    Misconception(
        "a file that is overwritten in its place, so that a crash leaves half of it",
        (
            'with partial.open("wb") as file:',
            'partial = path\nwith partial.open("wb") as file:',
        ),
        ("partial.replace(path)", "pass"),
        ("partial.unlink(missing_ok=True)", "pass"),
    ),
    Misconception(
        "a list of merges that was cut off taken for a whole one",
        ("if promised and int(promised[1]) != len(merges):", "if False:"),
    ),
    Misconception(
        "numbers in vocab.json that nobody compares with the merges", ("if vocabulary.get(name) != token:", "if False:")
    ),
    Misconception(
        "a hub that does not answer asked again and again",
        ('get_hf_file_metadata(hf_hub_url(repository, "vocab.json"))', "pass"),
    ),
]

ALPHABET = sorted(ByteLevel.alphabet())  # how the 256 bytes are written, in the order of GPT-2's vocabulary
HIDDEN = [byte for byte in range(256) if chr(byte) not in ALPHABET]
BYTES = {letter: ord(letter) if ord(letter) < 256 else HIDDEN[ord(letter) - 256] for letter in ALPHABET}
LETTERS = {byte: letter for letter, byte in BYTES.items()}
# The first seven of the published merges, which make the tokens 256 to 262.
PUBLISHED = [(b" ", b"t"), (b" ", b"a"), (b"h", b"e"), (b"i", b"n"), (b"r", b"e"), (b"o", b"n"), (b" t", b"he")]
# Blanks, letters and digits of many scripts, characters of two to four bytes, some of several code points.
MIXED = "  \n\tabcé'stßλЖשعह中文가🙂👍🏽½²٣४!?-_.\u00a0\u3000\u2028\u0301"


def workload(task: Any, draw: Draw) -> list[Workload]:
    """Typical calls, for `compare`."""
    texts = [_text(draw, "abcdefgh    \n.'", 1000) for _ in range(9)]
    other = _text(draw, "abcdefgh    \n.'", 20_000)
    tokenizer = task.train_bpe(texts, 350)
    return [
        Workload("train_bpe(texts, 350).merges", lambda: _lines(task.train_bpe(texts, 350).merges)),
        Workload("tokenizer.encode(text)", tokenizer.encode, (other,)),
        Workload("tokenizer.decode(range(350))", tokenizer.decode, (range(350),)),
    ]


def _text(draw: Draw, alphabet: str, length: int) -> str:
    """A text of random characters."""
    return "".join(alphabet[place] for place in draw.integers(0, len(alphabet), length).tolist())


def _written(entry: bytes) -> str:
    return "".join(LETTERS[byte] for byte in entry)


def _lines(merges: Iterable[tuple[bytes, bytes]]) -> list[str]:
    """Merges, as merges.txt has them."""
    return [f"{_written(bytes(left))} {_written(bytes(right))}" for left, right in merges]


def _pairs(lines: Iterable[str]) -> list[tuple[bytes, bytes]]:
    """What such lines mean."""
    return [(_meant(line.split(" ")[0]), _meant(line.split(" ")[1])) for line in lines]


def _meant(text: str) -> bytes:
    return bytes(BYTES[letter] for letter in text)


def _train_tokenizers(texts: Sequence[str], vocab_size: int) -> list[str]:
    """The merges that the library tokenizers finds."""
    model = tokenizers.Tokenizer(tokenizers.models.BPE())
    model.pre_tokenizer = ByteLevel(add_prefix_space=False)
    trainer = BpeTrainer(vocab_size=vocab_size, initial_alphabet=ALPHABET, show_progress=False)
    model.train_from_iterator(texts, trainer)
    return [f"{left} {right}" for left, right in json.loads(model.to_str())["model"]["merges"]]


def _train_slowly(pieces: Iterable[str], merges: int) -> list[str]:
    """The merges by the definition: all pairs are counted anew each time."""
    numbers = {letter: number for number, letter in enumerate(ALPHABET)}
    words = [[LETTERS[byte] for byte in piece.encode()] for piece in pieces]
    lines: list[str] = []
    for _ in range(merges):
        counts = Counter(pair for word in words for pair in pairwise(word))
        if not counts:
            break
        left, right = min(counts, key=lambda pair: (-counts[pair], numbers[pair[0]], numbers[pair[1]]))
        lines.append(f"{left} {right}")
        numbers[left + right] = len(numbers)
        for word in words:
            place = 0
            while place < len(word) - 1:
                if (word[place], word[place + 1]) == (left, right):
                    word[place : place + 2] = [left + right]
                place += 1
    return lines


def _merges(check: Check, answer: Answer) -> Answer:
    """The merges of a tokenizer, as lines."""
    return check.run(f"{answer.call}.merges", partial(_lines_of, answer.value))


def _lines_of(tokenizer: Any) -> list[str]:
    return _lines(tokenizer.merges)


def _list_of(tokenizer: Any) -> list[tuple[bytes, bytes]]:
    return list(tokenizer.merges)


def _bytes_of(tokenizer: Any, tokens: list[int]) -> list[int]:
    return list(tokenizer.decode_bytes(tokens))


def _numbers(tokenizer: Any) -> list[Any]:
    return [tokenizer.vocab_size, tokenizer.special_tokens]


def _copied(tokenizer: Any) -> Any:
    return pickle.loads(pickle.dumps(tokenizer))


def _oracle(merges: Sequence[tuple[bytes, bytes]], pattern: str = GPT2_PATTERN) -> tiktoken.Encoding:
    """An encoding of tiktoken, put together here."""
    ranks = {bytes([BYTES[letter]]): number for number, letter in enumerate(ALPHABET)}
    ranks |= {left + right: 256 + number for number, (left, right) in enumerate(merges)}
    return tiktoken.Encoding("oracle", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})


@contextmanager
def _alone() -> Iterator[None]:
    """Refuse the libraries that do what is being built."""

    def refuse(name: str) -> Callable[..., Any]:
        def refused(*args: Any, **kwargs: Any) -> Any:
            raise ForbiddenError(f"called {name}: this is what you are building")

        return refused

    with ExitStack() as stack:
        for owner, names in (
            (tiktoken.Encoding, ("encode", "encode_ordinary", "encode_batch", "encode_ordinary_batch")),
            (tokenizers, ("Tokenizer", "ByteLevelBPETokenizer")),
        ):
            for name in names:
                stack.enter_context(patch.object(owner, name, refuse(f"{owner.__name__}.{name}")))
        yield


def test_training_by_hand(check: Check) -> None:
    """A few letters: the most frequent pair first; of equally frequent ones, that of the smaller numbers."""
    with _alone():
        answer = check(train_bpe, ["ab ab ab cd"], 259)
        _merges(check, answer).equals(["a b", "Ġ ab", "c d"], note="a b: 3 times; Ġ ab: twice; c d before Ġ c")
        answer = check(train_bpe, ["aaab", "aaab"], 259)
        _merges(check, answer).equals(["a a", "a b", "aa ab"], note="a a: 4 times, for its places overlap; a b: 2")


def test_training_on_any_text(check: Check) -> None:
    """Merge for merge as the library tokenizers finds them, and as they are if all is counted anew each time."""
    for alphabet, length in (("ab  ", 60), ("abcdef '\n", 80), (MIXED, 60)):
        texts = [_text(check.draw, alphabet, check.draw.integer(length // 2, length)) for _ in range(9)]
        size = 256 + check.draw.integer(20, 60)
        answer = check(train_bpe, texts, size)
        _merges(check, answer).equals(_train_tokenizers(texts, size), note="as the library tokenizers finds them")
    for alphabet in ("a", "ab", "abcd"):  # long words, runs of one letter, words that come again
        words = [" " + _text(check.draw, alphabet, check.draw.integer(1, 25)) for _ in range(6)]
        words += [words[number] for number in check.draw.integers(0, 6, 8).tolist()]
        answer = check(train_bpe, ["".join(words[:5]), *words[5:]], 256 + 25)
        _merges(check, answer).equals(_train_slowly(words, 25), note="all pairs counted anew for each merge")


def test_training_to_the_end(check: Check) -> None:
    """Training ends early where no pair is left; the texts may come from a generator; bad arguments are refused."""
    answer = check(train_bpe, (text for text in ("ab", " ab")), 1000, special_tokens=["<|end|>"])
    _merges(check, answer).equals(["a b", "Ġ ab"])
    numbers = check.run("vocab_size and special_tokens", partial(_numbers, answer.value))
    numbers.equals([259, {"<|end|>": 258}], note="256 bytes, two merges, and then the special token")
    answer = check(train_bpe, ["ab ab"], 258, special_tokens=["<|end|>"])
    _merges(check, answer).equals(["a b"], note="258 tokens with the special one: room for one merge")
    _merges(check, check(train_bpe, ["ab"], 256)).equals([])
    _merges(check, check(train_bpe, [], 300)).equals([])
    check.raises(ValueError, train_bpe, ["ab"], 255, naming=("256", "255"))
    check.raises(ValueError, train_bpe, ["ab"], 257, special_tokens=["<|a|>", "<|b|>"], naming=("258", "257"))
    check.raises(TypeError, train_bpe, "one text", 300, naming="str")


def test_bytes(check: Check) -> None:
    """The first 256 tokens are the bytes in the order of the published vocabulary; there is no token -1."""
    tokenizer = check.build(BPETokenizer, [])
    entries = check.run("token_bytes of 0 to 255", lambda: [ord(tokenizer.token_bytes(n)) for n in range(256)])
    entries.equals([BYTES[letter] for letter in ALPHABET], note="the bytes that print, then the others")
    check(tokenizer.encode, "!a é").equals([0, 64, 220, 127, 102], note="é is C3 A9 in UTF-8")
    check.raises(ValueError, tokenizer.token_bytes, 256, naming="256")
    for token in (300, -1):
        check.raises(ValueError, tokenizer.token_bytes, token, naming=(str(token), "256"))
        check.raises(ValueError, tokenizer.decode, [64, token], naming=(str(token), "256"))


def test_encoding_by_hand(check: Check) -> None:
    """With the first seven published merges: the earliest merge first, wherever it stands."""
    with _alone():
        tokenizer = check.build(BPETokenizer, PUBLISHED)
        check(tokenizer.encode, "the the").equals([83, 258, 262], note="t he, then Ġthe")
        check(tokenizer.encode, " then").equals([262, 77], note="Ġt and he before anything else, then Ġthe")
        check(tokenizer.encode, "hein").equals([258, 259])
        check(tokenizer.encode, "").equals([])
        tokenizer = check.build(BPETokenizer, [(b"b", b"c"), (b"a", b"b"), (b"ab", b"d"), (b"bc", b"d")])
        check(tokenizer.encode, "abcd").equals([64, 259], note="b c comes before a b, though it stands further right")
        check(tokenizer.encode, "abd").equals([258])
        tokenizer = check.build(BPETokenizer, [(b"a", b"a")])
        check(tokenizer.encode, "aaaaa").equals([256, 256, 64], note="from left to right")


def test_words(check: Check) -> None:
    """Nothing is joined across a cut of the pattern: of GPT-2's, which is checked by hand, and of another."""
    text = "I'll  go 42x, d'accord?!\n\n 漢字 "
    words = ["I", "'ll", " ", " go", " 42", "x", ",", " d", "'", "accord", "?!", "\n\n", " 漢字", " "]
    answer = check(train_bpe, [text], 1000)  # each word becomes one token
    tokens = check(answer.value.encode, text)
    shown = check.run(
        "the text of each of its tokens", lambda: [answer.value.decode([token]) for token in tokens.value]
    )
    shown.equals(words)
    # Two characters at a time, whatever they are.
    merges, text = [(b"a", b" "), (b" ", b"b"), (b"b", b"a")], "a b" + _text(check.draw, "ab ", 40)
    for pattern in (GPT2_PATTERN, r"[\s\S]{1,2}"):
        tokenizer = check.build(BPETokenizer, merges, pattern=pattern)
        check(tokenizer.encode, text).equals(
            _oracle(merges, pattern).encode_ordinary(text), note="no merge goes across a cut"
        )


def test_encoding_like_tiktoken(check: Check) -> None:
    """Texts of all kinds, token for token as tiktoken with the same merges; and several at once."""
    for alphabet in ("ab ", "abcde  '\n", MIXED):
        merges = _pairs(_train_tokenizers([_text(check.draw, alphabet, 300) for _ in range(4)], 340))
        tokenizer, oracle = check.build(BPETokenizer, merges), _oracle(merges)
        texts = [_text(check.draw, alphabet, length) for length in (1, 7, 60, 200)]
        for text in texts:
            check(tokenizer.encode, text).equals(oracle.encode_ordinary(text), note="as tiktoken with the same merges")
        batch = check(tokenizer.encode_batch, texts)
        batch.equals([oracle.encode_ordinary(text) for text in texts])


def test_round_trip(check: Check) -> None:
    """Any text comes back as it was; what is no UTF-8 is replaced, as Python does it."""
    tokenizer = check(train_bpe, [_text(check.draw, MIXED, 200)], 330).value
    for text in (_text(check.draw, MIXED, 100), "\x00\x7f\xad\uffff", "👩🏽‍🚀 e\u0301 \u202e", ""):
        tokens = check(tokenizer.encode, text)
        check(tokenizer.decode, tokens.value).equals(text)
    tokens = check(tokenizer.encode, "x🙂y")
    whole = [tokens.value[:cut] for cut in range(len(tokens.value) + 1)]
    for part in whole:
        raw = check.run("decode_bytes", partial(_bytes_of, tokenizer, part))
        raw.equals(list("x🙂y".encode()[: len(raw.value)]))
        check(tokenizer.decode, part).equals("x🙂y".encode()[: len(raw.value)].decode(errors="replace"))
    plain = check.build(BPETokenizer, [])
    check(plain.decode, [64, 172, 253]).equals(bytes([97, 240, 159]).decode(errors="replace"), note="half a character")


def test_special_tokens(check: Check) -> None:
    """Special tokens come last; in a text they are text like any other, unless they are allowed."""
    tokenizer = check.build(BPETokenizer, PUBLISHED, special_tokens=["<|a|>", "<|a|>b"])
    numbers = check.run("vocab_size and special_tokens", partial(_numbers, tokenizer))
    numbers.equals([265, {"<|a|>": 263, "<|a|>b": 264}], note="behind 256 bytes and 7 merges")
    text = "the<|a|> the<|a|>b<|a|>"
    check(tokenizer.encode, text, allowed_special=True).equals([83, 258, 263, 262, 264, 263], note="the longer one")
    ordinary = _oracle(PUBLISHED).encode_ordinary(text)
    check(tokenizer.encode, text).equals(ordinary, note="not allowed: as any other text")
    check(tokenizer.encode_batch, [text, ""], allowed_special=True).equals([[83, 258, 263, 262, 264, 263], []])
    check(tokenizer.encode_batch, [text]).equals([ordinary])
    check(tokenizer.decode, [83, 258, 263, 264]).equals("the<|a|><|a|>b")
    none = check.build(BPETokenizer, PUBLISHED)
    check(none.encode, text, allowed_special=True).equals(ordinary, note="there are no special tokens")
    tokenizer = check.build(BPETokenizer, [], special_tokens=["<|(.+)|>"])
    check(tokenizer.encode, "<|a|><|(.+)|>", allowed_special=True).equals([27, 91, 64, 91, 29, 256])


def test_refuses_merges(check: Check) -> None:
    """Merges of what is no token yet, or that make one twice, are refused by number; special tokens by name."""

    def tokenizer_of(*lines: str) -> Any:  # the verdict has them as a line of merges.txt has one
        return BPETokenizer(_pairs(lines))

    check.raises(ValueError, tokenizer_of, "a b", "bc d", naming=("1", "bc"))
    check.raises(ValueError, tokenizer_of, "a b", "c de", naming=("1", "de"))
    check.raises(ValueError, tokenizer_of, "ab c", "a b", naming=("0", "ab"))
    check.raises(ValueError, tokenizer_of, "b c", "a b", "ab c", "a bc", naming=("3", "abc"))
    check.raises(ValueError, tokenizer_of, " c", naming="0")
    check.raises(ValueError, BPETokenizer, [], special_tokens=["<|a|>", "<|b|>", "<|a|>"], naming="<|a|>")
    check.raises(ValueError, BPETokenizer, [(b"a", b"b")], special_tokens=["ab"], naming="ab")
    check.raises(ValueError, BPETokenizer, [], special_tokens=[""], naming="''|\"\"|empty")
    check.raises(ValueError, BPETokenizer, [], special_tokens=["Ġ"], naming="Ġ")


def test_handed_to_tiktoken(check: Check) -> None:
    """The encoding of tiktoken has the same tokens, pattern, special tokens and name."""
    text, pattern = _text(check.draw, MIXED, 120), r"\s+|\S{1,3}"
    for options, words in (({}, GPT2_PATTERN), ({"pattern": pattern}, pattern)):
        tokenizer = check(train_bpe, [_text(check.draw, MIXED, 300)], 340, special_tokens=["<|end|>"], **options).value
        merges = check.run("its merges", partial(_list_of, tokenizer)).value
        encoding = check(tokenizer.to_tiktoken, "mine").value
        call = "to_tiktoken().encode_ordinary(text)"
        tokens = check.run(call, partial(encoding.encode_ordinary, text))
        tokens.equals(_oracle(merges, words).encode_ordinary(text), note=f"cut by {words[:12]}")
        call = "to_tiktoken().encode('<|end|>', allowed_special='all')"
        check.run(call, partial(encoding.encode, "<|end|>", allowed_special="all")).equals([256 + len(merges)])
        check.run("to_tiktoken().name", partial(getattr, encoding, "name")).equals("mine")
        check.run("to_tiktoken().n_vocab", partial(getattr, encoding, "n_vocab")).equals(257 + len(merges))
    tokenizer = check.build(BPETokenizer, [], special_tokens=["end", "!?"])
    encoding = check(tokenizer.to_tiktoken).value
    check.run("to_tiktoken().encode_ordinary('end!?')", partial(encoding.encode_ordinary, "end!?")).equals(
        [68, 77, 67, 0, 30], note="special tokens are not for ordinary text"
    )
    check.run("to_tiktoken().name", partial(getattr, encoding, "name")).equals("gpt2-kata", note="by default")
    tokenizer = check.build(BPETokenizer, [(b"a", b" ")], pattern=r"[\s\S]{1,2}")
    encoding = check(tokenizer.to_tiktoken).value
    check.run("to_tiktoken().encode_ordinary('a a')", partial(encoding.encode_ordinary, "a a")).equals([256, 64])


def test_saved(check: Check) -> None:
    """Both files are as published: the library tokenizers opens them, and so does load."""
    texts = [_text(check.draw, MIXED, 200) for _ in range(3)]
    tokenizer = check(train_bpe, texts, 330, special_tokens=["<|end|>", "<|é|>"]).value
    folder = check.folder / "new" / "one"
    check.run("tokenizer.save(folder)", partial(tokenizer.save, folder)).equals(None)
    merges = check.run("its merges", partial(_lines_of, tokenizer)).value
    lines = check.run(
        "the lines of merges.txt", lambda: (folder / "merges.txt").read_text(encoding="utf-8").split("\n")
    )
    lines.equals([f"#version: 0.2 - {len(merges)} merges", *merges, ""])
    vocabulary = check.run("vocab.json", lambda: json.loads((folder / "vocab.json").read_bytes())).value
    names = [*ALPHABET, *(line.replace(" ", "") for line in merges), "<|end|>", "<|é|>"]
    expected = {name: number for number, name in enumerate(names)}
    less, more = sorted(expected.keys() - vocabulary.keys()), sorted(vocabulary.keys() - expected.keys())
    found = [f"without {', '.join(less[:3])}"] * bool(less) + [f"with {', '.join(more[:3])} besides"] * bool(more)
    call, wanted = "the tokens in vocab.json", f"256 bytes, {len(merges)} merges and the 2 special tokens"
    check.that(not found, call=call, got=f"{len(vocabulary)}: {' and '.join(found)}", expected=wanted)
    _seen(check, "the numbers in vocab.json", vocabulary).equals(expected)
    files = (str(folder / "vocab.json"), str(folder / "merges.txt"))
    theirs = check.run(
        "the library tokenizers, which opens them", lambda: tokenizers.ByteLevelBPETokenizer(*files)
    ).value
    loaded = check.run("BPETokenizer.load(folder)", partial(BPETokenizer.load, folder))
    for text in texts:
        check(loaded.value.encode, text).equals(theirs.encode(text).ids)
    check.run("its special_tokens", lambda: loaded.value.special_tokens).equals(
        {"<|end|>": len(names) - 2, "<|é|>": len(names) - 1}
    )
    # "he" could be made of two tokens, yet there is no merge for it: it was a special token from the first.
    other = check.build(BPETokenizer, PUBLISHED[:2], special_tokens=["he", "<|中|>"])
    check.run("tokenizer.save(str(folder))", partial(other.save, str(check.folder / "other"))).equals(None)
    loaded = check.run("BPETokenizer.load(folder)", partial(BPETokenizer.load, check.folder / "other"))
    check.run("its special_tokens", lambda: loaded.value.special_tokens).equals({"he": 258, "<|中|>": 259})
    other = check.build(BPETokenizer, [], pattern=r"[\s\S]")
    check.raises(ValueError, other.save, str(check.folder / "other"), naming="pattern")


def test_saving_that_fails(check: Check) -> None:
    """Where a file cannot be put into its place, nothing else is left in the folder."""
    tokenizer = check.build(BPETokenizer, PUBLISHED)
    for name in ("vocab.json", "merges.txt"):
        folder = check.folder / name
        (folder / name / "in the way").mkdir(parents=True)
        check.raises(OSError, tokenizer.save, folder)
        others = sorted({path.name for path in folder.iterdir()} - {"vocab.json", "merges.txt"})
        check.that(
            not others,
            call=f"tokenizer.save(folder) where {name} is a folder",
            got=f"{', '.join(others)} left behind",
            expected="no other files",
        )


def _seen(check: Check, call: str, value: Any) -> Answer:
    """A value that the test took out of an answer, to be compared under a name of its own."""
    return check.run(call, lambda: value)


def test_saved_again(check: Check) -> None:
    """Files that are there already are replaced as a whole, not overwritten in their place; nothing else is left."""
    for merges in (PUBLISHED, PUBLISHED[:2]):
        tokenizer = check.build(BPETokenizer, merges)
        check.run("tokenizer.save(folder)", partial(tokenizer.save, check.folder)).equals(None)
        names = sorted(path.name for path in check.folder.iterdir() if not path.name.startswith("old"))
        _seen(check, "the files in the folder", names).equals(["merges.txt", "vocab.json"])
        for name in ("merges.txt", "vocab.json"):
            old = check.folder / f"old-{name}"
            if not old.exists():
                os.link(check.folder / name, old)  # another name of the same file: it keeps what is in it
                continue
            kept = len(old.read_text(encoding="utf-8"))
            now = len((check.folder / name).read_text(encoding="utf-8"))
            check.that(
                now < kept,
                call=f"tokenizer.save(folder) where there is a {name}",
                got="the new text in the old file",
                expected="a new file in its place: whoever reads the old one can read it to its end",
                proof=name,
            )


def _publish(folder: Path, merges: Sequence[str], special: Sequence[str] = (), header: str = "#version: 0.2") -> None:
    """Write the two files in the published layout."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [*ALPHABET, *(line.replace(" ", "") for line in merges), *special]
    text = json.dumps({name: number for number, name in enumerate(names)})
    (folder / "vocab.json").write_text(text, encoding="utf-8")
    (folder / "merges.txt").write_text("\n".join([header, *merges, ""]), encoding="utf-8")


def test_loaded(check: Check) -> None:
    """Files as they were published load, from a str and from a Path, and the tokenizer can be pickled."""
    _publish(check.folder, _lines(PUBLISHED), ["<|endoftext|>"])
    for source in (check.folder, str(check.folder)):
        tokenizer = check.run("load_tokenizer(folder)", partial(load_tokenizer, source)).value
        numbers = check.run("its vocab_size and special_tokens", partial(_numbers, tokenizer))
        numbers.equals([264, {"<|endoftext|>": 263}])
        check(tokenizer.encode, " the then").equals([262, 262, 77])
        first = check(tokenizer.encode, "tin").value
        if isinstance(first, list):
            first.append(0)  # it is the caller's
        check(tokenizer.encode, "tin").equals([83, 259], note="the same as the first time")
        copy = check.run("pickle.loads(pickle.dumps(tokenizer))", partial(_copied, tokenizer))
        check(copy.value.encode, "in the<|endoftext|>", allowed_special=True).equals([259, 262, 263])
    tokenizer = check.build(BPETokenizer, [(b"a", b" ")], pattern=r"[\s\S]{1,2}")
    copy = check.run("pickle.loads(pickle.dumps(tokenizer))", partial(_copied, tokenizer))
    check(copy.value.encode, "a a").equals([256, 64], note="with a pattern of its own")


def test_damaged(check: Check) -> None:
    """A file that is missing or damaged is refused by its name."""
    lines, special = _lines(PUBLISHED), ["<|endoftext|>"]
    vocab, merges = check.folder / "vocab.json", check.folder / "merges.txt"
    count = f"#version: 0.2 - {len(lines)} merges"

    def load(damage: str) -> Any:
        return BPETokenizer.load(check.folder)

    def refused(damage: str, *words: str, error: type[Exception] = ValueError) -> None:
        check.raises(error, load, damage, naming=words)
        _publish(check.folder, lines, special, count)

    _publish(check.folder, lines, special, count)
    loaded = check(load, "both files as they should be")
    check(loaded.value.encode, " the").equals([262])
    for path in (vocab, merges):
        path.unlink()
        refused(f"no {path.name}", path.name, error=FileNotFoundError)
        path.write_bytes(b"\xff" + path.read_bytes())
        refused(f"a {path.name} that is not UTF-8", path.name)
    vocab.write_bytes(vocab.read_bytes()[:-9])
    refused("a vocab.json without its last bytes", "vocab.json")
    vocab.write_bytes(b"[]")
    refused("a vocab.json that is a list", "vocab.json")
    for header in (count, "#version: 0.2"):
        merges.write_text("\n".join([header, *lines[:-1], ""]), encoding="utf-8")
        refused(f"a merges.txt that begins with {header!r} and lacks its last line", "merges.txt")
    _publish(check.folder, lines[:6], special)
    merges.write_text("\n".join(["#version: 0.2", *lines[:5], ""]), encoding="utf-8")
    refused("a merges.txt that lacks its last line, 'o n'", "merges.txt")
    for fewer, more in ((lines[:-1], len(lines)), (lines, len(lines) - 1)):
        _publish(check.folder, fewer, special, f"#version: 0.2 - {more} merges")
        refused(f"{len(fewer)} merges in both files, and a first line that says {more}", "merges.txt")
    for line, word in (("he", "line 4"), ("h e r", "line 4"), ("h ", "line 4"), ("h e中", "line 4"), ("xy z", "xy")):
        merges.write_text("\n".join([count, *lines[:2], line, *lines[3:], ""]), encoding="utf-8")
        refused(f"a merges.txt with the line {line!r}", "merges.txt", word)
    numbers = json.loads(vocab.read_text(encoding="utf-8"))
    for name, number in (("he", 259), ("<|endoftext|>", 300)):
        vocab.write_text(json.dumps({**numbers, name: number}), encoding="utf-8")
        refused(f"a vocab.json in which {name!r} has the number {number}", "vocab.json", name)
    for name, value in (("A", "32"), ('"', True), ("#", 2.0), ("<|endoftext|>", "263"), ("<|other|>", "264")):
        vocab.write_text(json.dumps({**numbers, name: value}), encoding="utf-8")
        refused(f"a vocab.json in which {name!r} is {json.dumps(value)}, no whole number", "vocab.json")
    del numbers["Ġthe"]
    vocab.write_text(json.dumps(numbers), encoding="utf-8")
    refused("a vocab.json without 'Ġthe'", "vocab.json", "Ġthe")


def test_published_names(check: Check) -> None:
    """A published name is taken from the hub's cache; without that and a network, the error comes at once."""
    hub = check.folder / "hub"
    waited: list[float] = []
    snapshot = hub / "models--openai-community--gpt2" / "snapshots" / ("0" * 40)
    _publish(snapshot, _lines(PUBLISHED), ["<|endoftext|>"])
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("0" * 40, encoding="utf-8")
    with (
        patch.object(constants, "HF_HUB_CACHE", str(hub)),
        patch.object(constants, "HF_HUB_OFFLINE", False),
        patch.object(socket, "getaddrinfo", side_effect=socket.gaierror("no network in this check")),
        patch.object(time, "sleep", waited.append),
    ):
        tokenizer = check(load_tokenizer, "gpt2")
        check(tokenizer.value.encode, " the<|endoftext|>", allowed_special=True).equals([262, 263])
        waited.clear()
        check.raises(
            FileNotFoundError, load_tokenizer, "gpt2-xl", naming=("gpt2-xl", "vocab.json", "merges.txt", "folder")
        )
        check.that(
            sum(waited) <= 10,
            call="load_tokenizer('gpt2-xl') without a network",
            got=f"{len(waited)} pauses of {sum(waited):.0f} seconds in all before the error",
            expected="an error within seconds",
            proof="paused",
        )
        check.raises(FileNotFoundError, load_tokenizer, "gpt9", naming=("gpt9", "gpt2-medium"))


def test_fetched(check: Check) -> None:
    """What is not on this machine is fetched from the hub, of the published name and no other."""
    published = check.folder / "published"
    _publish(published, _lines(PUBLISHED), ["<|endoftext|>"])

    def answer(request: httpx2.Request) -> httpx2.Response:
        name = request.url.path.rpartition("/")[2]
        if request.url.path == f"/openai-community/gpt2-large/resolve/main/{name}" and (published / name).is_file():
            headers = {"ETag": f'"{name}"', "X-Repo-Commit": "1" * 40}
            return httpx2.Response(200, headers=headers, content=(published / name).read_bytes())
        if request.url.path.startswith("/api/models/openai-community/gpt2-large"):
            return httpx2.Response(200, json={"id": "openai-community/gpt2-large", "sha": "1" * 40, "siblings": []})
        return httpx2.Response(404, headers={"X-Error-Code": "RepoNotFound"})

    hub = httpx2.MockTransport(answer)
    huggingface_hub.set_client_factory(partial(httpx2.Client, transport=hub, follow_redirects=True))
    try:
        with (
            patch.object(constants, "HF_HUB_CACHE", str(check.folder / "hub")),
            patch.object(constants, "HF_HUB_OFFLINE", False),
            patch.object(time, "sleep"),
        ):
            tokenizer = check(load_tokenizer, "gpt2-large")
            check(tokenizer.value.encode, " the<|endoftext|>", allowed_special=True).equals([262, 263])
            check.raises(FileNotFoundError, load_tokenizer, "gpt2-medium", naming=("gpt2-medium", "vocab.json"))
    finally:
        huggingface_hub.set_client_factory(default_client_factory)
