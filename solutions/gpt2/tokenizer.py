"""Byte-level byte-pair encoding: between text and the tokens that a GPT-2 reads and writes.

A token is a number and stands for a sequence of bytes. The first 256 are the bytes themselves, so that there is no
text that has no tokens; each further one joins two earlier ones, as a list of *merges* says (Sennrich et al. 2016,
section 3.2; on bytes: Radford et al. 2019, section 2.2).
"""

import functools
import heapq
import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import regex  # type: ignore[import-untyped]
import tiktoken

from .configuration import PRESETS

# What a text is cut into before anything is joined, as published: English endings, then letters, digits and other
# signs, each with one blank before it if there is one, then white space.
GPT2_PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"

# How the published files write bytes: those that print as themselves in Latin-1 stand for themselves, the others for
# the characters from 256 on. This order is also that of the first 256 tokens.
_PRINTABLE = (*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1))
_HIDDEN = tuple(byte for byte in range(256) if byte not in _PRINTABLE)
_CHARACTERS = {byte: chr(byte) for byte in _PRINTABLE} | {byte: chr(256 + n) for n, byte in enumerate(_HIDDEN)}
_BYTES = {character: byte for byte, character in _CHARACTERS.items()}
_BYTE_TOKENS = {byte: token for token, byte in enumerate(_CHARACTERS)}
_FILES = ("vocab.json", "merges.txt")


class BPETokenizer:
    """Makes tokens of text and text of tokens, by a list of merges.

    Tokens 0 to 255 are the bytes in the order of the published vocabulary: first those that print, "!" (33) to "~"
    (126), 161 to 172 and 174 to 255; then the others, 0 to 32, 127 to 160 and 173. So 0 is "!" and 220 the blank.
    Token 256 + k is made by merge k. The special tokens come last, in the order given.

    Training and encoding are written here; tiktoken comes in where `to_tiktoken` hands the merges over, and not before.
    A tokenizer can be pickled.

    Args:
        merges: pairs of what two tokens stand for. The k-th makes a token of what both stand for together; each of the
            two must be a byte or be made by an earlier merge.
        special_tokens: names of tokens that stand for no text, such as "<|endoftext|>".
        pattern: regular expression of the package `regex`. A text is cut into its matches, from left to right, and
            nothing is ever joined across a cut. It must match any character.

    Attributes:
        merges: as given, as a tuple of pairs.
        special_tokens: dict from a special token's name to its number.
        pattern: as given.

    Raises:
        ValueError: a merge has a part that no earlier token is, or makes one that is there already; the message has
            its number, from 0, and that part or token. Or a special token is empty, there twice, or another token in
            `vocab.json`; the message names it.

    Example:
        >>> tokenizer = BPETokenizer([(b" ", b"t"), (b"h", b"e"), (b" t", b"he")])  # of the published, 0, 2 and 6
        >>> tokenizer.encode(" the the")
        [258, 258]
        >>> tokenizer.encode("the")
        [83, 257]
    """

    merges: tuple[tuple[bytes, bytes], ...]
    special_tokens: dict[str, int]
    pattern: str

    def __init__(
        self,
        merges: Sequence[tuple[bytes, bytes]],
        *,
        special_tokens: Sequence[str] = (),
        pattern: str = GPT2_PATTERN,
    ) -> None:
        self.merges = tuple((left, right) for left, right in merges)
        self.pattern = pattern
        self._matches = regex.compile(pattern)
        self._tokens = {bytes([byte]): token for byte, token in _BYTE_TOKENS.items()}
        self._joined: dict[tuple[int, int], int] = {}  # the token that a pair makes: the lower, the earlier its merge
        for number, (left, right) in enumerate(self.merges):
            for part in (left, right):
                if part not in self._tokens:
                    raise ValueError(f"merge {number} joins {part!r}, which is no earlier token")
            if left + right in self._tokens:
                raise ValueError(f"merge {number} makes {left + right!r}, which is a token already")
            self._joined[self._tokens[left], self._tokens[right]] = len(self._tokens)
            self._tokens[left + right] = len(self._tokens)
        self._bytes = list(self._tokens)
        self.special_tokens = {}
        for name in special_tokens:
            if not name:
                raise ValueError("special token '' is empty")
            if name in self.special_tokens or _meant(name) in self._tokens:
                raise ValueError(f"special token {name!r} is a token already")
            self.special_tokens[name] = len(self._bytes)
            self._bytes.append(name.encode("utf-8"))
        # A name comes before its own beginnings, for of two alternatives a regular expression takes the first that
        # matches. Without names it is one that nothing matches.
        names = map(regex.escape, sorted(self.special_tokens, reverse=True))
        self._special = regex.compile(f"({'|'.join(names) or '(?!)'})")
        self._tokens_of = functools.lru_cache(maxsize=65536)(self._join)  # texts have no end, memory has

    @property
    def vocab_size(self) -> int:
        """How many tokens there are: 256, one for each merge, and the special ones."""
        return len(self._bytes)

    def encode(self, text: str, *, allowed_special: bool = False) -> list[int]:
        """Make tokens of a text.

        It is cut by the pattern. Each piece, as UTF-8, is at first a row of single bytes; then, as long as there is a
        merge for any two neighbours, the earliest of those merges is done, at its leftmost place.

        Args:
            text: any text that UTF-8 can write (a surrogate alone is none: UnicodeEncodeError).
            allowed_special: whether the name of a special token in the text becomes that token (of two that begin at
                one place, the longer). If not, it is text like any other: so whoever can write a text cannot end it.

        Returns:
            The tokens.
        """
        if not allowed_special:
            return self._encode_ordinary(text)
        tokens: list[int] = []
        for part in self._special.split(text):
            if part in self.special_tokens:
                tokens.append(self.special_tokens[part])
            else:
                tokens += self._encode_ordinary(part)
        return tokens

    def encode_batch(self, texts: Iterable[str], *, allowed_special: bool = False) -> list[list[int]]:
        """Make tokens of several texts.

        Args:
            texts: the texts.
            allowed_special: as of `encode`.

        Returns:
            The tokens of each, as `encode` gives them.
        """
        return [self.encode(text, allowed_special=allowed_special) for text in texts]

    def token_bytes(self, token: int) -> bytes:
        """Say what a token stands for: of a special one, its name as UTF-8.

        Args:
            token: from 0 to `vocab_size` - 1.

        Raises:
            ValueError: there is no such token; the message has it, and `vocab_size`.
        """
        if not 0 <= token < len(self._bytes):  # -1 would be the last entry of a list
            raise ValueError(f"there is no token {token}: the vocabulary has {len(self._bytes)}, from 0")
        return self._bytes[token]

    def decode_bytes(self, tokens: Iterable[int]) -> bytes:
        """Give the bytes that tokens stand for, one after the other.

        Args:
            tokens: numbers of tokens.

        Raises:
            ValueError: as `token_bytes`.
        """
        return b"".join(map(self.token_bytes, tokens))

    def decode(self, tokens: Iterable[int]) -> str:
        """Give the text that tokens stand for: of what `encode` gave, the text it was given.

        Args:
            tokens: numbers of tokens. A character may be cut in two by the end of a list, for a token may be a part of
                its bytes: what is no UTF-8 becomes U+FFFD, as `bytes.decode` does it with ``errors="replace"``.

        Raises:
            ValueError: as `token_bytes`.
        """
        return self.decode_bytes(tokens).decode("utf-8", errors="replace")

    def to_tiktoken(self, name: str = "gpt2-kata") -> tiktoken.Encoding:
        """Hand the merges to `tiktoken`, whose `encode_ordinary` gives the same tokens in a fraction of the time.

        The same, that is, for merges that come from training. tiktoken joins two neighbours wherever a token stands
        for both together, whichever pair its merge was of, and a list that is written by hand can make a difference.

        Args:
            name: of the encoding.

        Returns:
            The encoding, with the pattern and the special tokens of this tokenizer.
        """
        special = self.special_tokens
        return tiktoken.Encoding(name, pat_str=self.pattern, mergeable_ranks=self._tokens, special_tokens=special)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the files in which the vocabulary was published, which Hugging Face's libraries open.

        `vocab.json` is an object of all tokens, from what they stand for to their number. `merges.txt` has the line
        ``#version: 0.2 - N merges`` for N merges, and then a line for each, its two parts with a blank between them.
        In both, a byte that prints is written as the character of the same number, the n-th of the others (from 0) as
        character 256 + n: " the" is "Ġthe". Special tokens stand in `vocab.json` by their names. Both are UTF-8.

        Each file is written to another place and then put into its own, so that nobody ever finds half of one, and
        one that was there is replaced as a whole. Where that fails, no other file is left in the folder.

        Args:
            folder: where to; it is made if it is not there.

        Raises:
            ValueError: the pattern is not GPT2_PATTERN: these files have no place for another.
        """
        if self.pattern != GPT2_PATTERN:
            raise ValueError(f"the files have no place for a pattern other than GPT2_PATTERN, got {self.pattern!r}")
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        vocabulary = {_written(entry): token for entry, token in self._tokens.items()} | self.special_tokens
        lines = [f"#version: 0.2 - {len(self.merges)} merges"]
        lines += [f"{_written(left)} {_written(right)}" for left, right in self.merges]
        _write(folder / "vocab.json", json.dumps(vocabulary))
        _write(folder / "merges.txt", "\n".join(lines) + "\n")

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> "BPETokenizer":
        """Read what `save` wrote, or the published files themselves.

        The tokens in `vocab.json` that neither are bytes nor are made by a merge are the special ones.

        Args:
            folder: with `vocab.json` and `merges.txt`.

        Raises:
            FileNotFoundError: one of the files is not there; the message names it.
            ValueError: a file is damaged; the message names it.

                - `vocab.json` is no UTF-8, no JSON, or no object of whole numbers. Or a token is missing, or its number
                  is not the one that the merges give it, or those of the special tokens do not follow: the message
                  has the token as it is written there.
                - `merges.txt` is no UTF-8. Or a line has not two parts, or one with a character that stands for no
                  byte: the line, counted from 1 and written as in "line 3". Or there are more or fewer merges than the
                  first line says. Where that says nothing, as in the published file, lines are lost if `vocab.json` has
                  a token that no merge makes and that two others would make. Or `BPETokenizer` refuses the merges.
        """
        vocabulary, merges = (Path(folder) / name for name in _FILES)
        pairs, complete = _read_merges(merges)
        try:
            known = cls(pairs)._tokens
        except ValueError as error:
            raise ValueError(f"{merges}: {error}") from error
        special = _read_special(vocabulary, {_written(entry): token for entry, token in known.items()})
        for entry in map(_meant, () if complete else special):
            if any(entry[:cut] in known and entry[cut:] in known for cut in range(1, len(entry))):
                raise ValueError(f"{merges} has no merge for {_written(entry)!r} of {vocabulary.name}: cut off?")
        return cls(pairs, special_tokens=special)

    def __reduce__(self) -> tuple[Any, ...]:
        """What is pickled: how to make it anew, without the words that were met."""
        make = functools.partial(BPETokenizer, special_tokens=tuple(self.special_tokens), pattern=self.pattern)
        return make, (self.merges,)

    def _encode_ordinary(self, text: str) -> list[int]:
        tokens: list[int] = []
        for match in self._matches.finditer(text):
            tokens += self._tokens_of(match.group())
        return tokens

    def _join(self, word: str) -> list[int]:
        """Do all merges of a word, in n log n for n bytes: a heap has the pairs that may be joined."""
        tokens = [_BYTE_TOKENS[byte] for byte in word.encode("utf-8")]
        # The neighbours of each place, past what has been joined.
        before = [place - 1 for place, _ in enumerate(tokens)]
        after = [place + 1 for place, _ in enumerate(tokens)]
        heap = [(self._joined[pair], place) for place, pair in enumerate(pairwise(tokens)) if pair in self._joined]
        heapq.heapify(heap)
        while heap:
            token, place = heapq.heappop(heap)
            gone = after[place]
            if gone == len(tokens) or self._joined.get((tokens[place], tokens[gone])) != token:
                continue  # one of the two has been joined with another since
            tokens[place], tokens[gone] = token, -1
            after[place] = after[gone]
            if after[gone] < len(tokens):
                before[after[gone]] = place
            for left in (before[place], place):  # -1, before the first, is the last to Python: nothing follows it
                if after[left] < len(tokens):
                    joined = self._joined.get((tokens[left], tokens[after[left]]))
                    if joined is not None:
                        heapq.heappush(heap, (joined, left))
        return [token for token in tokens if token >= 0]


def train_bpe(
    texts: Iterable[str],
    vocab_size: int,
    *,
    special_tokens: Sequence[str] = (),
    pattern: str = GPT2_PATTERN,
) -> BPETokenizer:
    """Learn the merges of texts: join the pair of neighbours that is most frequent, again and again.

    The texts are cut by the pattern, and each piece is at first a row of single bytes. Then, again and again, the pair
    of neighbours that occurs most often is joined wherever it stands, from left to right within a piece. Each place
    counts, also those that overlap: "aaa" has the pair "aa" twice. Of equally frequent pairs the smallest is taken:
    that with the smaller first token, by its number, then with the smaller second.

    Args:
        texts: the texts; they are gone through once. The name of a special token in them is text like any other.
        vocab_size: how many tokens there shall be, the bytes and the special ones among them. There are fewer where no
            pair is left to join: each piece is a single token then.
        special_tokens: as of `BPETokenizer`.
        pattern: as of `BPETokenizer`.

    Returns:
        The tokenizer.

    Raises:
        TypeError: `texts` is one str: its characters would be taken for texts.
        ValueError: `vocab_size` has no room for 256 bytes and the special tokens; the message has it, and how many
            it needs.

    Example:
        " ab" has two pairs, (" ", "a") and ("a", "b"); the second is there once more, in "ab".

        >>> train_bpe(["ab ab"], 257).merges
        ((b'a', b'b'),)
        >>> train_bpe(["ab ab"], 1000).merges  # no pair is left
        ((b'a', b'b'), (b' ', b'ab'))
    """
    if isinstance(texts, str):
        raise TypeError("texts must be several texts, got one str: put it into a list")
    fewest = len(_BYTE_TOKENS) + len(special_tokens)
    if vocab_size < fewest:
        raise ValueError(f"vocab_size must be at least {fewest}, the bytes and special tokens; got {vocab_size}")
    matches = regex.compile(pattern)
    words = Counter(match.group() for text in texts for match in matches.finditer(text))
    stands_for = [bytes([byte]) for byte in _CHARACTERS]
    merges = []
    for left, right in _frequent_pairs(words, vocab_size - fewest):
        merges.append((stands_for[left], stands_for[right]))
        stands_for.append(stands_for[left] + stands_for[right])
    return BPETokenizer(merges, special_tokens=special_tokens, pattern=pattern)


def load_tokenizer(source: str | os.PathLike[str]) -> BPETokenizer:
    """Load a tokenizer from a folder, or the published one.

    Args:
        source: a folder, as `BPETokenizer.load` reads it; or a name in `gpt2/configuration`'s PRESETS, whose files are
            taken from where `huggingface_hub` keeps them on this machine, or else fetched by it. All four have the
            same vocabulary, with one special token, "<|endoftext|>", the last: 50256.

    Raises:
        FileNotFoundError: `source` is no folder and no such name: the message has it, and the names. Or it is one, and
            the files are neither here nor can be fetched: the message names them, and says that a folder can be given.
            That is known within seconds: a hub that does not answer is not asked again.
        FileNotFoundError, ValueError: as `BPETokenizer.load`.
    """
    if Path(source).is_dir():
        return BPETokenizer.load(source)
    if source not in PRESETS:
        raise FileNotFoundError(f"{source} is no folder, nor a published model: {', '.join(PRESETS)}")
    return BPETokenizer.load(_published(source))


def _published(name: str) -> Path:
    """The folder in which the hub's library keeps the files of a published model."""
    # Here, for together these take longer to import than all the rest.
    from httpx2 import HTTPError
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url

    repository = f"openai-community/{name}"
    try:
        try:
            paths = [hf_hub_download(repository, file, local_files_only=True) for file in _FILES]
        except FileNotFoundError:
            # Where nobody answers this fails at once. A download would ask five times more, and wait longer each time.
            get_hf_file_metadata(hf_hub_url(repository, "vocab.json"))
            paths = [hf_hub_download(repository, file) for file in _FILES]
        return Path(paths.pop()).parent
    except (OSError, HTTPError) as error:
        raise FileNotFoundError(
            f"{' and '.join(_FILES)} of {name} are not on this machine and could not be fetched; get them elsewhere "
            "and give their folder: load_tokenizer(FOLDER)"
        ) from error


def _frequent_pairs(words: Counter[str], most: int) -> Iterator[tuple[int, int]]:
    """Join the most frequent pair of tokens, again and again, and say each time which it was."""
    tokens = [[_BYTE_TOKENS[byte] for byte in word.encode("utf-8")] for word in words]
    times = list(words.values())
    counts: Counter[tuple[int, int]] = Counter()
    places: defaultdict[tuple[int, int], set[int]] = defaultdict(set)  # the words in which a pair is, or once was
    for number, word in enumerate(tokens):
        for pair in pairwise(word):
            counts[pair] += times[number]
            places[pair].add(number)
    # A count that has changed since makes an entry stale. One that has grown has a new entry; one that has shrunk
    # comes up too early, and is put back to where it belongs. So the first that is true is the most frequent.
    heap = [(-count, pair) for pair, count in counts.items()]
    heapq.heapify(heap)
    for new in range(len(_BYTE_TOKENS), len(_BYTE_TOKENS) + most):
        while heap and counts[heap[0][1]] != -heap[0][0]:
            _, pair = heapq.heappop(heap)
            if counts[pair] > 0:
                heapq.heappush(heap, (-counts[pair], pair))
        if not heap:
            return
        _, best = heapq.heappop(heap)
        yield best
        grown = set()
        for number in places.pop(best):
            word = tokens[number]
            joined = tokens[number] = _joined(word, best, new)
            for pair in pairwise(word):
                counts[pair] -= times[number]
            for pair in pairwise(joined):
                counts[pair] += times[number]
                if new in pair:
                    places[pair].add(number)
                    grown.add(pair)
        for pair in grown:
            heapq.heappush(heap, (-counts[pair], pair))


def _joined(word: list[int], pair: tuple[int, int], new: int) -> list[int]:
    """The word with the pair joined wherever it stands, from left to right."""
    left, right = pair
    joined: list[int] = []
    for token in word:
        if token == right and joined and joined[-1] == left:
            joined[-1] = new
        else:
            joined.append(token)
    return joined


def _written(entry: bytes) -> str:
    """Bytes as the published files write them."""
    return "".join(_CHARACTERS[byte] for byte in entry)


def _meant(text: str) -> bytes:
    """The bytes that are written so in the published files; none where a character is no byte's."""
    return bytes(_BYTES[each] for each in text) if all(each in _BYTES for each in text) else b""


def _write(path: Path, text: str) -> None:
    """Write a file whole or not at all: under another name first, then put into its place."""
    partial = path.with_name(f"{path.name}.partial")
    try:
        with partial.open("wb") as file:
            file.write(text.encode("utf-8"))
            file.flush()
            os.fsync(file.fileno())  # else a machine that goes down may leave the name in place and nothing in it
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no UTF-8: {error}") from error


def _read_merges(path: Path) -> tuple[list[tuple[bytes, bytes]], bool]:
    """The merges, and whether the first line says that they are all."""
    header, *lines = _read(path).removesuffix("\n").split("\n")
    merges = []
    for number, line in enumerate(lines, 2):
        parts = [_meant(part) for part in line.split(" ")]
        if len(parts) != 2 or not all(parts):
            raise ValueError(f"{path}, line {number}: no merge of two parts: {line!r}")
        merges.append((parts[0], parts[1]))
    promised = regex.search(r"(\d+) merges$", header)
    if promised and int(promised[1]) != len(merges):
        raise ValueError(f"{path}: {len(merges)} merges, but its first line says {promised[1]}: cut off?")
    return merges, promised is not None


def _read_special(path: Path, known: dict[str, int]) -> list[str]:
    """The tokens in vocab.json that the merges do not make, in order; all others must be as the merges say."""
    try:
        vocabulary = json.loads(_read(path))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is no JSON: {error}") from error
    if not isinstance(vocabulary, dict) or {type(token) for token in vocabulary.values()} != {int}:
        raise ValueError(f"{path} must hold a JSON object of whole numbers")
    special = sorted(vocabulary.keys() - known.keys(), key=vocabulary.__getitem__)
    expected = known | {name: len(known) + place for place, name in enumerate(special)}
    for name, token in expected.items():
        if vocabulary.get(name) != token:
            raise ValueError(f"{path}: token {name!r} has the number {vocabulary.get(name)}, expected {token}")
    return special
