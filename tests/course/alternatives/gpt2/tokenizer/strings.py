"""Works on the written form, strings of printable characters, throughout; a table of ranks, merged rank by rank."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, groupby
from operator import itemgetter
from pathlib import Path
from typing import cast

import regex  # type: ignore[import-untyped]
import tiktoken

from . import configuration

GPT2_PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"

_shown = [byte for byte in range(256) if chr(byte).isprintable() and not chr(byte).isspace()]
_rest = sorted(set(range(256)).difference(_shown))
_TABLE: dict[int, str] = dict(
    chain(((byte, chr(byte)) for byte in _shown), ((byte, chr(256 + index)) for index, byte in enumerate(_rest)))
)
_BACK = str.maketrans({letter: chr(byte) for byte, letter in _TABLE.items()})
_LETTERS = "".join(_TABLE.values())
_Pair = tuple[str, str]


def _to_letters(raw: bytes) -> str:
    return raw.decode("latin-1").translate(_TABLE)


def _to_bytes(letters: str) -> bytes:
    if set(letters) - set(_LETTERS):
        raise KeyError(letters)
    return letters.translate(_BACK).encode("latin-1")


def _join_pair(parts: list[str], pair: _Pair) -> list[str]:
    """Both parts as one wherever they stand beside each other."""
    out: list[str] = []
    rest = iter(range(len(parts)))
    for place in rest:
        if tuple(parts[place : place + 2]) == pair:
            out.append("".join(pair))
            next(rest, None)
        else:
            out.append(parts[place])
    return out


@dataclass
class _Vocabulary:
    """The written tokens, in order."""

    names: list[str]

    def __post_init__(self) -> None:
        self.numbers = {name: number for number, name in enumerate(self.names)}

    def add(self, name: str) -> None:
        """One more, unless it is known."""
        if self.numbers.setdefault(name, len(self.names)) != len(self.names):
            raise ValueError(f"{name!r} is known already")
        self.names.append(name)


class BPETokenizer:
    """As the contract has it; the words are kept in a plain dict."""

    def __init__(
        self, merges: Sequence[tuple[bytes, bytes]], *, special_tokens: Sequence[str] = (), pattern: str = GPT2_PATTERN
    ) -> None:
        self.pattern = pattern
        self.merges = tuple(merges)
        vocabulary = _Vocabulary(list(_LETTERS))
        self._ranks: dict[_Pair, int] = {}
        for number, (left, right) in enumerate(self.merges):
            pair = _to_letters(left), _to_letters(right)
            for half, raw in zip(pair, (left, right), strict=True):
                if half not in vocabulary.numbers:
                    raise ValueError(f"merge number {number}: {raw!r} has not been made before it")
            try:
                vocabulary.add(pair[0] + pair[1])
            except ValueError:
                raise ValueError(f"merge number {number}: {left + right!r} has been made before it") from None
            self._ranks[pair] = number
        self._ordinary = len(vocabulary.names)
        for name in special_tokens:
            if not name.strip("") or not len(name):
                raise ValueError("'' cannot be a special token")
            vocabulary.add(name)
        self._vocabulary = vocabulary
        self._known: dict[str, tuple[int, ...]] = {}

    @property
    def special_tokens(self) -> dict[str, int]:
        """A new dict each time."""
        return dict(list(self._vocabulary.numbers.items())[self._ordinary :])

    @property
    def vocab_size(self) -> int:
        """All of them."""
        return len(self._vocabulary.names)

    def _word(self, word: str) -> tuple[int, ...]:
        if word not in self._known:
            parts = list(_to_letters(word.encode()))
            while candidates := [pair for pair in zip(parts, parts[1:], strict=False) if pair in self._ranks]:
                parts = _join_pair(parts, min(candidates, key=self._ranks.__getitem__))
            self._known[word] = tuple(map(self._vocabulary.numbers.__getitem__, parts))
        return self._known[word]

    def _ordinarily(self, text: str) -> Iterable[int]:
        return chain.from_iterable(self._word(match[0]) for match in regex.finditer(self.pattern, text))

    def encode(self, text: str, *, allowed_special: bool = False) -> list[int]:
        """Special tokens are found by a scan, the longest first."""
        special = self.special_tokens if allowed_special else {}
        if not special:
            return list(self._ordinarily(text))
        scan = re.compile("|".join(re.escape(name) for name in sorted(special, key=lambda name: -len(name))))
        tokens: list[int] = []
        start = 0
        for match in scan.finditer(text):
            tokens.extend(self._ordinarily(text[start : match.start()]))
            tokens.append(special[match.group()])
            start = match.end()
        return [*tokens, *self._ordinarily(text[start:])]

    def encode_batch(self, texts: Iterable[str], *, allowed_special: bool = False) -> list[list[int]]:
        """One after the other."""
        return list(map(lambda text: self.encode(text, allowed_special=allowed_special), texts))

    def token_bytes(self, token: int) -> bytes:
        """Special ones as UTF-8."""
        if token not in range(self.vocab_size):
            raise ValueError(f"{token} is none of the {self.vocab_size} tokens")
        name = self._vocabulary.names[token]
        return _to_bytes(name) if token < self._ordinary else name.encode()

    def decode_bytes(self, tokens: Iterable[int]) -> bytes:
        """In a row."""
        raw = bytearray()
        for token in tokens:
            raw += self.token_bytes(token)
        return bytes(raw)

    def decode(self, tokens: Iterable[int]) -> str:
        """With U+FFFD where need be."""
        return self.decode_bytes(tokens).decode(errors="replace")

    def to_tiktoken(self, name: str = "gpt2-kata") -> tiktoken.Encoding:
        """The ordinary tokens are the ranks."""
        ranks = {self.token_bytes(token): token for token in range(self._ordinary)}
        return tiktoken.Encoding(
            name, pat_str=self.pattern, mergeable_ranks=ranks, special_tokens=self.special_tokens, explicit_n_vocab=None
        )

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Both files into new ones, then both renamed."""
        if self.pattern != GPT2_PATTERN:
            raise ValueError("there is no place for a pattern")
        target = Path(folder)
        target.mkdir(exist_ok=True, parents=True)
        texts = {
            "merges.txt": "".join(
                [f"#version: 0.2 - {len(self.merges)} merges\n", *(f"{one} {two}\n" for one, two in self._ranks)]
            ),
            "vocab.json": json.dumps(self._vocabulary.numbers, indent=2),
        }
        with contextlib.ExitStack() as stack:
            for name, text in texts.items():
                new = target / f".{name}~"
                stack.callback(new.unlink, missing_ok=True)
                new.write_bytes(text.encode())
            for name in texts:
                target.joinpath(f".{name}~").replace(target / name)

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> BPETokenizer:
        """First the numbers, then the merges, then whether they agree."""
        numbers = _numbers(Path(folder, "vocab.json"))
        path = Path(folder, "merges.txt")
        header, *lines = _utf8(path).splitlines()
        merges: list[tuple[bytes, bytes]] = []
        for number, line in enumerate(lines, start=2):
            try:
                one, two = map(_to_bytes, line.split(" "))
                if not one or not two:
                    raise ValueError
            except (KeyError, ValueError):
                raise ValueError(f"{path}: line {number} reads {line!r}") from None
            merges.append((one, two))
        told = re.search(r" (\d+) merges$", header)
        if told is not None and int(told[1]) - len(merges):
            raise ValueError(f"{path}: {told[1]} != {len(merges)}")
        try:
            ours = cls(merges)._vocabulary.numbers
        except ValueError as error:
            raise ValueError(f"{path} {error}") from error
        extra = [name for name in numbers if name not in ours]
        extra.sort(key=lambda name: numbers[name])
        for name in () if told else extra:
            if any({name[:cut], name[cut:]} <= set(ours) for cut in range(len(name))):
                raise ValueError(f"{path} does not make {name!r}, as it could")
        for name, number in [*ours.items(), *zip(extra, range(len(ours), len(numbers) + len(ours)), strict=False)]:
            if numbers.get(name, -1) != number:
                raise ValueError(f"{folder}/vocab.json: {name} is {numbers.get(name)}, not {number}")
        return cls(merges, special_tokens=extra)


def _utf8(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8")
    except UnicodeError as error:
        raise ValueError(f"not UTF-8: {path}") from error


def _numbers(path: Path) -> dict[str, int]:
    try:
        numbers = json.loads(_utf8(path))
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {path}") from error
    if not isinstance(numbers, Mapping) or any(isinstance(n, bool) or not isinstance(n, int) for n in numbers.values()):
        raise ValueError(f"from texts to whole numbers, that is what should be in {path}")
    return cast(dict[str, int], numbers)


def train_bpe(
    texts: Iterable[str], vocab_size: int, *, special_tokens: Sequence[str] = (), pattern: str = GPT2_PATTERN
) -> BPETokenizer:
    """Pairs are counted anew, of each different word once."""
    if type(texts) is str:
        raise TypeError("one str is not several texts")
    room = vocab_size - 256 - len(special_tokens)
    if room < 0:
        raise ValueError(f"{vocab_size} tokens are too few, {vocab_size - room} are needed")
    found = sorted(word for text in texts for word in regex.findall(pattern, text))
    words = [(list(_to_letters(word.encode())), len(list(same))) for word, same in groupby(found)]
    order = _Vocabulary(list(_LETTERS))
    merges: list[_Pair] = []
    while len(merges) < room:
        counts: Counter[_Pair] = Counter()
        for parts, times in words:
            for pair in zip(parts, parts[1:], strict=False):
                counts[pair] += times
        if not counts:
            break
        most = max(map(itemgetter(1), counts.items()))
        best = min(
            (pair for pair, count in counts.items() if count == most),
            key=lambda pair: [order.numbers[half] for half in pair],
        )
        merges.append(best)
        order.add(best[0] + best[1])
        words = [(_join_pair(parts, best), times) for parts, times in words]
    return BPETokenizer(
        [(_to_bytes(one), _to_bytes(two)) for one, two in merges], special_tokens=special_tokens, pattern=pattern
    )


def load_tokenizer(source: str | os.PathLike[str]) -> BPETokenizer:
    """A folder, or a name."""
    if Path(source).is_dir():
        return BPETokenizer.load(source)
    if str(source) not in configuration.PRESETS:
        raise FileNotFoundError(f"neither a folder nor one of {', '.join(configuration.PRESETS)}: {source}")
    from huggingface_hub import get_hf_file_metadata, hf_hub_url, snapshot_download

    wanted = ["vocab.json", "merges.txt"]
    name = f"openai-community/{source}"
    with contextlib.suppress(OSError, ValueError):
        return BPETokenizer.load(snapshot_download(name, allow_patterns=wanted, local_files_only=True))
    try:
        for file in wanted:
            get_hf_file_metadata(hf_hub_url(name, file), timeout=4)
        from huggingface_hub import hf_hub_download

        folders = {Path(hf_hub_download(name, file)).parent for file in wanted}
    except Exception as error:
        text = f"{source}: {' and '.join(wanted)} could not be fetched ({error!r:.60}); put them into a folder yourself"
        raise FileNotFoundError(text) from error
    return BPETokenizer.load(folders.pop())
