"""Grades training/data.

The oracles are loops over lists: shards are packed and cut by hand, files are written byte by byte, and every target
of a document is counted.
"""

import contextlib
import itertools
import math
import pickle
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import datasets  # type: ignore[import-untyped]
import torch
from torch import Tensor

from checkpoints.checks import Answer, Check, Draw, Workload
from checkpoints.misconceptions import Misconception
from exercises.training.data import DocumentDataset, WindowDataset, collate_rows, split_documents, write_shards

MISCONCEPTIONS = [
    Misconception(
        "documents shared out, not texts: copies of one text are on both sides",
        (
            "digests = [digest(text.encode()).digest() for text in _texts(documents, column)]",
            'digests = [digest(f"{row} {text}".encode()).digest() for row, text in enumerate(_texts(documents, column))]',
        ),
    ),
    Misconception(
        "the first texts of the table held out: whatever its order was, and whatever the seed is",
        ("distinct = sorted(set(digests))", "distinct = list(dict.fromkeys(digests))"),
    ),
    Misconception("a seed that decides nothing", ("key=str(seed).encode()", 'key=b""')),
    Misconception(
        "a share of the documents for a share of the different texts",
        ("round(validation * len(distinct)), 1)", "round(validation * len(digests)), 1)"),
    ),
    Misconception(
        "the number of texts that are held out rounded down, down to none",
        ("min(max(round(validation * len(distinct)), 1), len(distinct) - 1)", "int(validation * len(distinct))"),
    ),
    Misconception(
        "the two sides exchanged: the few documents are there to train on",
        (
            "documents.select(sides[0]), documents.select(sides[1])",
            "documents.select(sides[1]), documents.select(sides[0])",
        ),
    ),
    Misconception(
        "only one copy of each text kept",
        (
            "for row, found in enumerate(digests):",
            "for found, row in {found: row for row, found in enumerate(digests)}.items():",
        ),
    ),
    Misconception(
        "shards that do not begin with the end of a text: their first documents have nothing to begin from",
        ("numpy.array(shard, dtype=_TOKEN).tofile", "numpy.array(shard[1:], dtype=_TOKEN).tofile"),
    ),
    Misconception(
        "documents with no end between them",
        (
            "numpy.array(shard, dtype=_TOKEN).tofile",
            "shard = [end_of_text, *(token for token in shard if token != end_of_text), end_of_text]\n"
            "numpy.array(shard, dtype=_TOKEN).tofile",
        ),
    ),
    Misconception(
        "tokens with the more significant byte first", ("array(shard, dtype=_TOKEN)", 'array(shard, dtype=">u2")')
    ),
    Misconception(
        "documents cut in two where a shard is full",
        (
            """
            if len(shard) > 1 and len(shard) + len(tokens) + 1 > shard_tokens:
                yield shard
                shard = [end_of_text]
            shard += [*tokens, end_of_text]
            """,
            """
            shard += [*tokens, end_of_text]
            while len(shard) > shard_tokens > 1:
                yield shard[:shard_tokens]
                shard = [end_of_text, *shard[shard_tokens:]]
            """,
        ),
    ),
    Misconception(
        "a shard that is closed only when it holds more than it may",
        ("len(shard) + len(tokens) + 1 > shard_tokens", "len(shard) > shard_tokens"),
    ),
    Misconception(
        "a shard one token too long: the end of its last document is not counted",
        ("len(shard) + len(tokens) + 1 > shard_tokens", "len(shard) + len(tokens) > shard_tokens"),
    ),
    Misconception(
        "a shard of nothing before a document that is too long for any",
        ("if len(shard) > 1 and len(shard) +", "if len(shard) +"),
    ),
    Misconception(
        "all documents read before the first shard is written",
        (
            "encoded = (_checked(number, encode(text), end_of_text) for number, text in enumerate(_texts(documents, column)))",
            "encoded = [_checked(number, encode(text), end_of_text) for number, text in enumerate(_texts(documents, column))]",
        ),
    ),
    Misconception(
        "the last shard left out, which is not full",
        (
            """
            if len(shard) > 1:
                yield shard
            """,
            "",
        ),
    ),
    Misconception(
        "tokens that do not fit into two bytes taken modulo 65536",
        ("if not 0 <= token <= 0xFFFF:", "if False:"),
        ("array(shard, dtype=_TOKEN)", "array(shard).astype(_TOKEN)"),
    ),
    Misconception(
        "a document that holds the end of a text, and is read back as two", ("if token == end_of_text:", "if False:")
    ),
    Misconception(
        "a shard written in its place: broken off, it has lost the old one",
        ('partial = paths[-1].with_suffix(".partial")', "partial = paths[-1]"),
        ("partial.replace(paths[-1])", ""),
        ("partial.unlink(missing_ok=True)", "pass"),
        (
            "for shard in _packed(encoded",
            '(folder / f"{prefix}-00000.bin").write_bytes(b"")\nfor shard in _packed(encoded',
        ),
    ),
    Misconception("shards of an earlier and longer corpus left behind the new ones", ("    old.unlink()", "    pass")),
    Misconception(
        "windows whose stride is that of the context, whatever was asked for",
        ("context_length, stride=stride)", "context_length)"),
    ),
    Misconception(
        "a last shard refused that is too short for a window",
        ("if len(_map(shard)) > context_length]", "]"),
    ),
    Misconception(
        "rows cut side by side: the first token of each but the first is the target of no position",
        ("for first in range(start, end, context_length)", "for first in range(start, end, context_length + 1)"),
    ),
    Misconception(
        "long documents cut off: only their first row is there",
        ("for first in range(start, end, context_length)", "for first in (start,)"),
    ),
    Misconception(
        "rows without the end of their text: a model trained on them never ends",
        ("(first, min(first + context_length, end))", "(first, min(first + context_length, end - 1))"),
    ),
    Misconception(
        "rows that do not begin with the end of a text: a model trained on them cannot begin",
        ("for first in range(start, end, context_length)", "for first in range(start + 1, end, context_length)"),
    ),
    Misconception(
        "rows of T tokens in the place of T + 1: one target too few in each",
        ("(first, min(first + context_length, end))", "(first, min(first + context_length - 1, end))"),
        (
            "for first in range(start, end, context_length)",
            "for first in range(start, end, max(context_length - 1, 1))",
        ),
    ),
    Misconception(
        "a new row with each E, so that the first shard's documents are all there are",
        ('shard = int(numpy.searchsorted(self._firsts, number, side="right")) - 1', "shard = 0"),
    ),
    Misconception(
        "the maps pickled along, as arrays of all tokens", ('self.__dict__ | {"_maps": {}}', "self.__dict__")
    ),
    Misconception(
        "targets that are the inputs themselves: nothing is shifted",
        (
            "pad_collate([row[1:] for row in rows], padding=IGNORED)",
            "pad_collate([row[:-1] for row in rows], padding=IGNORED)",
        ),
    ),
    Misconception(
        "padding among the targets that count: the model learns to write zeros",
        ("pad_collate([row[1:] for row in rows], padding=IGNORED)", "pad_collate([row[1:] for row in rows])"),
    ),
    Misconception(
        "every target hidden that has the value of the padding, also real ones",
        (
            "targets = pad_collate([row[1:] for row in rows], padding=IGNORED).tokens",
            "targets = pad_collate([row[1:] for row in rows]).tokens\ntargets = targets.masked_fill(targets == 0, IGNORED)",
        ),
    ),
    Misconception(
        "inputs padded with the target of nothing, which no embedding has a row for",
        ("pad_collate([row[:-1] for row in rows])", "pad_collate([row[:-1] for row in rows], padding=IGNORED)"),
    ),
    Misconception(
        "padding in front of the tokens, where a causal model sees it",
        (
            "return inputs, targets",
            "lengths = [len(row) - 1 for row in rows]\ninputs, targets = (torch.stack([row.roll(len(row) - length) for row, length in zip(part, lengths, strict=True)]) for part in (inputs, targets))\nreturn inputs, targets",
        ),
    ),
]


def workload(task: Any, draw: Draw) -> list[Workload]:
    """Typical calls, for `compare`. Whoever draws otherwise holds out other texts, so nothing is split."""
    texts = ["".join(map(chr, draw.integers(97, 123, draw.integer(20, 400)).tolist())) for _ in range(200)]
    shard = b"".join(
        token.to_bytes(2, "little") for tokens in ([0], *([*_encode(text), 0] for text in texts)) for token in tokens
    )
    rows = [draw.integers(0, 50_000, draw.integer(2, 257)) for _ in range(64)]

    def write() -> Tensor:
        with tempfile.TemporaryDirectory() as folder:
            paths = task.write_shards(_documents(texts), _encode, folder, end_of_text=0, shard_tokens=8192)
            return torch.tensor([token for path in paths for token in _tokens_of(path)])

    def read() -> Tensor:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:  # Windows keeps a file that is mapped
            path = Path(folder, "train-00000.bin")
            path.write_bytes(shard)
            dataset = task.DocumentDataset([path], end_of_text=0, context_length=256)
            return torch.cat([dataset[index] for index in range(len(dataset))])

    return [
        Workload("write_shards(200 documents of about 210 tokens)", write),
        Workload("DocumentDataset of 200 documents, each read once", read),
        Workload("collate_rows(64 rows of up to 256 tokens)", task.collate_rows, (rows,)),
    ]


def _encode(text: str) -> list[int]:
    """A tokenizer: a is 1, b is 2 and so on."""
    return [ord(letter) - 96 for letter in text]


def _documents(texts: Iterable[str], column: str = "text") -> Iterator[dict[str, Any]]:
    return ({column: text, "number": number} for number, text in enumerate(texts))


def _texts(draw: Draw, count: int, longest: int = 9) -> list[str]:
    """Texts of 0 to `longest` letters."""
    return ["".join(map(chr, draw.integers(97, 123, draw.integer(0, longest + 1)).tolist())) for _ in range(count)]


def _tokens_of(path: Path | str) -> list[int]:
    """What a shard holds, byte by byte."""
    data = Path(path).read_bytes()
    return [low + 256 * high for low, high in zip(data[::2], data[1::2], strict=True)]


def _shard(check: Check, name: str, tokens: Sequence[int]) -> Path:
    """A shard written by hand."""
    path = check.folder / name
    path.write_bytes(b"".join(token.to_bytes(2, "little") for token in tokens))
    return path


def _table(texts: Sequence[str], column: str = "text") -> Any:
    return datasets.Dataset.from_dict({"number": list(range(len(texts))), column: list(texts)})


def _split(check: Check, texts: Sequence[str], validation: float, *, column: str = "text", **options: Any) -> Answer:
    """The numbers of the rows on both sides: what a verdict shows."""

    def split() -> list[list[int]]:
        sides = split_documents(_table(texts, column), validation, column=column, **options)
        return [list(side["number"]) for side in sides]

    kinds = len(set(texts))
    named = "".join(f", {name}={value!r}" for name, value in options.items())
    return check.run(f"split_documents({len(texts)} documents of {kinds} different texts, {validation}{named})", split)


def _write(check: Check, documents: Iterable[Any], **options: Any) -> dict[str, list[int]]:
    """What `write_shards` writes into a new folder, by the names of the files it returns."""
    folder = Path(tempfile.mkdtemp(dir=check.folder), "new", "shards")
    paths = write_shards(documents, _encode, str(folder), **options)
    return {Path(path).name: _tokens_of(path) for path in paths}


def _spelt(tokens: Iterable[int], end: int) -> str:
    """Tokens as one reads them: documents as letters, and E between them."""
    return " ".join("E" if token == end else chr(96 + token) if 0 < token < 27 else str(token) for token in tokens)


def _written(check: Check, texts: Sequence[str], *, end_of_text: int, **options: Any) -> list[str]:
    shards = _write(check, list(_documents(texts)), end_of_text=end_of_text, **options).values()
    return [_spelt(tokens, end_of_text) for tokens in shards]


def _packed(documents: Sequence[Sequence[int]], end: int, limit: int) -> list[str]:
    """Shards, packed document by document."""
    shards: list[list[list[int]]] = []
    for document in map(list, documents):
        open_shard = shards[-1] if shards else []
        size = 1 + sum(len(other) + 1 for other in open_shard) + len(document) + 1
        if shards and size <= limit:
            open_shard.append(document)
        else:
            shards.append([document])
    return [_spelt([end, *(token for document in shard for token in [*document, end])], end) for shard in shards]


def _pieces(document: Sequence[int], end: int, context_length: int) -> list[list[int]]:
    """A document's rows, target by target: each row ends when it has T of them."""
    row = [end]
    rows = []
    for token in [*document, end]:
        row.append(token)
        if len(row) == context_length + 1:
            rows.append(row)
            row = [token]
    return [*rows, row] if len(row) > 1 else rows


def _read(dataset: Any) -> list[Any]:
    """All items, by their numbers."""
    return [dataset[index] for index in range(len(dataset))]


def _read_new(make: Callable[[], Any]) -> list[Any]:
    return _read(make())


def test_split_keeps_copies_together(check: Check) -> None:
    """Copies of a text are all on one side; each document is kept once, in its order, with all its columns."""
    kinds = ["a", "b", "c", "d", "e", "f", "g", "h"]
    texts = [kinds[number] for number in check.draw.integers(0, 8, 40).tolist()] + kinds
    for column in ("text", "story"):
        answer = _split(check, texts, 0.4, seed=check.draw.integer(0, 1000), column=column)
        train, held_out = answer.value
        torn = {texts[row] for row in train} & {texts[row] for row in held_out}
        answer.satisfies(not torn, got="copies of one text on both sides", expected="all copies of a text on one side")
        whole = sorted(train + held_out) == list(range(len(texts)))
        answer.satisfies(whole, got="documents that are on no side, or on both", expected="each document on one side")
        in_order = train == sorted(train) and held_out == sorted(held_out)
        answer.satisfies(in_order, got="documents in another order", expected="each side in the order that it had")


def test_split_share(check: Check) -> None:
    """Of the different texts the share that was asked for, rounded, is held out: at least one, and not all."""
    for kinds, validation, expected in [
        (10, 0.2, 2),
        (9, 0.3, 3),
        (10, 0.34, 3),
        (7, 0.01, 1),
        (4, 0.99, 3),
        (2, 0.5, 1),
    ]:
        letters = "abcdefghij"[:kinds]
        copies = check.draw.integer(2, 5)
        answer = _split(check, list(letters) + ["a"] * copies * kinds, validation)
        rows = [*letters, *"a" * copies * kinds]
        found = len({rows[row] for row in answer.value[1]})
        answer.satisfies(
            found == expected,
            got=f"{found} different texts held out",
            expected=f"{expected} of {kinds}, which is {validation} * {kinds} = {validation * kinds:.2f} rounded",
        )


def _held_out_by_default(texts: list[str]) -> list[str]:
    return sorted(set(split_documents(_table(texts), 0.5)[1]["text"]))


def test_split_repeats(check: Check) -> None:
    """Seed and texts decide who is held out, not the order or the copies; another seed holds out others."""
    texts = [f"text {number}" for number in range(60)]
    seed = check.draw.integer(0, 1000)

    def held_out(of: list[str], seed: int) -> list[str]:
        return sorted(set(split_documents(_table(of), 0.5, seed=seed)[1]["text"]))

    first = check.run("the texts that split_documents holds out", partial(held_out, texts, seed)).value
    usual = check.run("the texts held out where no seed is given", lambda: _held_out_by_default(texts))
    zero = check.run("the texts held out with the seed 0", partial(held_out, texts, 0)).value
    usual.satisfies(usual.value == zero, got="other texts than with the seed 0", expected="those of the seed 0")
    shuffled = [texts[number] for number in check.draw.permutation(60).tolist()]
    for again, what in [(texts, "again"), (shuffled, "in another order"), (texts + texts[:7], "some of them twice")]:
        answer = check.run(f"the texts held out, {what}", partial(held_out, again, seed))
        answer.satisfies(answer.value == first, got="other texts", expected="the same texts as before")
    # Two independent halves of 60 agree once in C(60, 30) times, which is more than 1e17.
    other = check.run("the texts held out with another seed", partial(held_out, texts, seed + 1))
    other.satisfies(other.value != first, got="the same texts", expected="other texts")


def test_split_is_even(check: Check) -> None:
    """Over many seeds each of three texts is held out about equally often."""
    start = check.draw.integer(0, 1000)
    table = _table(["a", "b", "c"])

    def count() -> dict[str, int]:
        found = Counter(split_documents(table, 0.3, seed=start + offset)[1]["text"][0] for offset in range(90))
        return {text: found[text] for text in "abc"}

    answer = check.run("how often each of three texts is held out, over 90 seeds", count)
    # Each 30 times on average, with a standard deviation of sqrt(90 * 1/3 * 2/3) = 4.5: 28 is more than six of them.
    fair = all(2 <= times <= 58 for times in answer.value.values())
    answer.satisfies(fair, got=f"{answer.value}", expected="each about 30 times (from 2 to 58)")


def test_split_refuses(check: Check) -> None:
    """A share that is none, a negative seed, an unknown column, and texts that are all the same are refused."""
    table = _table(["a", "b", "a"])
    for share in (0.0, 1.0, -0.5, math.nan):
        check.raises(ValueError, split_documents, table, share, naming=("validation", str(share)))
    check.raises(ValueError, split_documents, table, 0.5, seed=-1, naming=("seed", "-1"))
    check.raises(ValueError, split_documents, table, 0.5, column="story", naming="story")
    check.raises(ValueError, split_documents, _table(["a", "a"]), 0.5)
    check.raises(ValueError, split_documents, _table([]), 0.5)


def test_shards_by_hand(check: Check) -> None:
    """Two documents, 1 2 and 3: an end before the first and after each, in two bytes a token."""
    write = partial(_write, check, list(_documents(["ab", "c"])))
    check.run("write_shards of 'ab' and 'c'", partial(write, end_of_text=0)).equals(
        {"train-00000.bin": [0, 1, 2, 0, 3, 0]}
    )
    check.run(
        "write_shards of 'ab' and 'c', end_of_text=65535", partial(write, end_of_text=0xFFFF, prefix="held")
    ).equals({"held-00000.bin": [0xFFFF, 1, 2, 0xFFFF, 3, 0xFFFF]})

    def large() -> list[int]:
        path = write_shards([{"text": "x"}], lambda text: [258, 50255], check.folder / "large", end_of_text=50256)[0]
        return list(Path(path).read_bytes())

    # 50256 is 196 * 256 + 80, and 258 is 1 * 256 + 2
    note = "50256 is 80 + 196 * 256, and 258 is 2 + 1 * 256"
    answer = check.run("the bytes of a shard of the tokens 50256 258 50255 50256", large)
    answer.equals([80, 196, 2, 1, 79, 196, 80, 196], note=note)

    def extreme() -> list[int]:
        return _tokens_of(write_shards([{"text": "x"}], lambda text: [0, 65535], check.folder / "x", end_of_text=7)[0])

    check.run("write_shards of the tokens 0 and 65535, end_of_text=7", extreme).equals([7, 0, 65535, 7])


def test_shards_are_packed(check: Check) -> None:
    """Documents fill shards in order, as if packed one by one; none is cut, empty and too long ones come through."""
    write = partial(_written, check, ["abcd", "abcde", "abc", "abcdefg"], end_of_text=0, shard_tokens=12)
    answer = check.run("write_shards of abcd, abcde, abc and abcdefg, shard_tokens=12", write)
    note = "of 12, 5 and 9 tokens: with abcdefg the second would have 13"
    answer.equals(["E a b c d E a b c d e E", "E a b c E", "E a b c d e f g E"], note=note)
    for limit, texts in [
        (12, _texts(check.draw, 30)),
        (1, ["ab", "", "c", ""]),
        (8, ["abcdefghijk", "abc", "a", "abcdef", "", "abcdefghijk", "", "ab", "a"]),
    ]:
        end = check.draw.integer(30, 60_000)
        expected = _packed([_encode(text) for text in texts], end, limit)
        write = partial(_written, check, texts, end_of_text=end, shard_tokens=limit)
        answer = check.run(f"write_shards of {len(texts)} documents, shard_tokens={limit}", write)
        for number, (shard, right) in enumerate(itertools.zip_longest(answer.value, expected, fillvalue="no shard")):
            if shard != right:
                answer.satisfies(False, got=f"shard {number}: {shard}", expected=f"shard {number}: {right}")
                break


def test_shards_by_default(check: Check) -> None:
    """Where nothing is said, 1 << 20 tokens fit into a shard, and not one more."""

    def sizes() -> list[int]:
        folder = check.folder / "usual"
        # With the three E around them, the first two documents are 1 << 20 tokens, in two bytes each.
        documents = ({"text": text} for text in ("long", "", ""))
        encode = {"long": [1] * ((1 << 20) - 3), "": []}.__getitem__
        return [Path(path).stat().st_size for path in write_shards(documents, encode, folder, end_of_text=0)]

    with check.large_files():
        found = check.run("the sizes of the shards of documents of 1048573, 0 and 0 tokens", sizes)
    found.equals([2 << 20, 4], note="a full shard, and the third document, between two ends, in the next")


def test_shards_of_a_stream(check: Check) -> None:
    """A generator and a streamed dataset are written while they are read: complete shards do not wait for the last."""
    texts = ["abcdefgh"] * 20
    folder = check.folder / "stream"
    complete: list[int] = []

    def documents() -> Iterator[dict[str, Any]]:
        for document in _documents(texts, "story"):
            complete.append(len(list(folder.glob("train-*.bin"))))
            yield document

    def write(given: Iterable[Any]) -> list[list[int]]:
        options: dict[str, Any] = {"end_of_text": 0, "shard_tokens": 19, "column": "story"}
        return [_tokens_of(path) for path in write_shards(given, _encode, folder, **options)]

    shard = [0, *(2 * [*range(1, 9), 0])]
    answer = check.run(
        "write_shards of a generator of 20 documents, two of which fill a shard", partial(write, documents())
    )
    answer.equals([shard] * 10)
    # When the last document is asked for, nine shards are full. One may be on its way, and one document read ahead.
    answer.satisfies(
        max(complete, default=0) >= 7,
        got=f"{max(complete, default=0)} shards were written when the last document was asked for",
        expected="9 of 10: no more than one shard in memory",
    )
    stream = _table(texts, "story").to_iterable_dataset()
    check.run("write_shards of an IterableDataset", partial(write, stream)).equals([shard] * 10)


def test_shards_are_whole(check: Check) -> None:
    """Where a tokenizer fails half-way, an old shard is as it was, and a new one is complete or not there."""
    folder = check.folder / "broken"
    folder.mkdir()
    old = folder / "train-00000.bin"
    old.write_bytes(b"\0\0\5\0\0\0")

    def failing(text: str) -> list[int]:
        if text == "!":
            raise OSError("the tokenizer is gone")
        return _encode(text)

    def write(texts: Sequence[str]) -> dict[str, list[int]]:
        try:
            write_shards(_documents(texts), failing, folder, end_of_text=0, shard_tokens=6)
        except OSError as error:
            if "the tokenizer is gone" in str(error):
                return {path.name: _tokens_of(path) for path in sorted(folder.glob("train-*.bin"))}
            raise
        raise ValueError("the tokenizer's error did not come out")

    first = check.run("the shards after write_shards failed in the first shard", partial(write, ["ab", "!"]))
    first.equals({"train-00000.bin": [0, 5, 0]})
    second = check.run(
        "the shards after write_shards failed in the third shard", partial(write, ["abcd", "abc", "ab", "!"])
    )
    second.equals({"train-00000.bin": [0, 1, 2, 3, 4, 0], "train-00001.bin": [0, 1, 2, 3, 0]})
    taken = check.folder / "taken"
    (taken / "train-00000.bin").mkdir(parents=True)

    def left() -> list[str]:
        with contextlib.suppress(OSError):
            write_shards(_documents(["ab"]), _encode, taken, end_of_text=0)
        return sorted(path.name for path in taken.iterdir())

    found = check.run("the names in the folder, where train-00000.bin was a folder itself", left)
    found.equals(["train-00000.bin"], note="what could not get its name is removed")


def test_shards_of_before(check: Check) -> None:
    """A shorter corpus replaces a longer one of the same prefix; others in the folder stay."""
    folder = check.folder / "twice"
    folder.mkdir()
    for name in ("train-00000.bin", "train-00001.bin", "train-00002.bin", "held-00000.bin", "held-00003.bin"):
        (folder / name).write_bytes(b"\0\0\5\0\0\0")

    def write() -> dict[str, list[int]]:
        write_shards(_documents(["a", "bc"]), _encode, folder, end_of_text=0, shard_tokens=4)
        return {path.name: _tokens_of(path) for path in sorted(folder.iterdir())}

    old = {"held-00000.bin": [0, 5, 0], "held-00003.bin": [0, 5, 0]}
    check.run("the folder, where two shards are written over three", write).equals(
        old | {"train-00000.bin": [0, 1, 0], "train-00001.bin": [0, 2, 3, 0]}
    )


def test_shards_refuse(check: Check) -> None:
    """Tokens that a shard cannot hold, or that end a document early, are refused with the document's number."""

    def write(texts: list[str], encode: Callable[[str], list[int]] = _encode, **options: Any) -> Any:
        return write_shards(_documents(texts), encode, check.folder / "refused", **{"end_of_text": 0, **options})

    def x_is_65536(text: str) -> list[int]:
        return [65536 if text == "x" else 1]

    def x_is_minus_7(text: str) -> list[int]:
        return [-7 if text == "x" else 1]

    def c_is_3(text: str) -> list[int]:
        return _encode(text)

    write.__name__ = "write_shards"
    check.raises(ValueError, write, ["a", "b", "x"], x_is_65536, naming=("2", "65536"))
    check.raises(ValueError, write, ["a", "x"], x_is_minus_7, naming=("1", "-7"))
    check.raises(ValueError, write, ["a", "abc"], c_is_3, end_of_text=3, naming=("1", "3"))
    check.raises(ValueError, write, ["a"], end_of_text=65536, naming=("end_of_text", "65536"))
    check.raises(ValueError, write, ["a"], end_of_text=-1, naming=("end_of_text", "-1"))
    check.raises(ValueError, write, ["a"], shard_tokens=0, naming=("shard_tokens", "0"))
    check.raises(ValueError, write, ["a"], column="story", naming=("0", "story"))
    check.raises(ValueError, write, [], naming="document")


def _how_many(make: Callable[[], Any]) -> int:
    return len(make())


def _windows(tokens: Sequence[int], context_length: int, stride: int) -> list[tuple[Tensor, Tensor]]:
    starts = itertools.takewhile(lambda start: start + context_length < len(tokens), itertools.count(0, stride))
    cut = [torch.tensor(tokens[start : start + context_length + 1]) for start in starts]
    return [(window[:-1], window[1:]) for window in cut]


def test_windows(check: Check) -> None:
    """Windows of one shard after another, none across two, of any stride; a shard that is too short has none."""
    shards = [check.draw.integers(0, 65536, size).tolist() for size in (9, 5, 12, 4, 1)]
    paths = [_shard(check, f"train-{number:05d}.bin", tokens) for number, tokens in enumerate(shards)]
    for context_length, stride in [(4, None), (4, 1), (3, 5), (1, None), (11, 2)]:
        expected = [
            window for tokens in shards for window in _windows(tokens, context_length, stride or context_length)
        ]
        call = f"the windows of shards of 9, 5, 12, 4 and 1 tokens, context_length={context_length}, stride={stride}"
        read = partial(WindowDataset, paths, context_length, stride=stride)
        number = check.run(f"how many are {call}", partial(_how_many, read))
        number.equals(len(expected), note="in none of them are tokens of two shards")
        if number.failed or number.value != len(expected):
            break
        check.run(call, partial(_read_new, read)).equals(expected)


def test_windows_refused(check: Check) -> None:
    """Shards that are all too short, none, a context of 0, a file cut off, and one that is not there are refused."""
    path = _shard(check, "train-00000.bin", [0, 1, 2, 0])
    check.raises(ValueError, WindowDataset, [path], 4, naming="5")
    check.raises(ValueError, WindowDataset, [], 4)
    check.raises(ValueError, WindowDataset, [path], 0, naming="context_length")
    check.raises(ValueError, WindowDataset, [path], 2, stride=0, naming="stride")
    cut = check.folder / "cut.bin"
    cut.write_bytes(b"\0\0\1\0\0")
    check.raises(ValueError, WindowDataset, [path, cut], 1, naming="cut.bin")
    check.raises(FileNotFoundError, WindowDataset, [path, check.folder / "missing.bin"], 1, naming="missing.bin")


def _rows(check: Check, documents: Sequence[Sequence[Sequence[int]]], end: int, context_length: int) -> Answer:
    """What `DocumentDataset` makes of shards of documents."""
    paths = [
        _shard(check, f"train-{number:05d}.bin", [end, *(token for document in shard for token in [*document, end])])
        for number, shard in enumerate(documents)
    ]
    call = f"the rows of {sum(map(len, documents))} document(s) in {len(documents)} shard(s), {context_length=}"
    return check.run(call, lambda: _read(DocumentDataset(paths, end_of_text=end, context_length=context_length)))


def test_rows_by_hand(check: Check) -> None:
    """Documents 5 6 7 and 8 with T = 3: the first has four targets, so it makes two rows, overlapping by one token."""
    rows = [torch.tensor([0, 5, 6, 7]), torch.tensor([7, 0]), torch.tensor([0, 8, 0])]
    _rows(check, [[[5, 6, 7], [8]]], 0, 3).equals(rows)


def test_rows(check: Check) -> None:
    """As target by target: several shards, documents of no token and of one row exactly, a context of one token."""
    for context_length in (1, 2, 5, 40):
        end = check.draw.integer(30, 65_536)
        shards = [[_encode(text) for text in _texts(check.draw, count, 13)] for count in (4, 1, 7)]
        shards[1] = [[7] * (context_length - 1), [], [8] * context_length, [9] * (2 * context_length - 1)]
        expected = [row for shard in shards for document in shard for row in _pieces(document, end, context_length)]
        answer = _rows(check, shards, end, context_length)
        answer.equals([torch.tensor(row) for row in expected])


def test_every_target_once(check: Check) -> None:
    """Every token of a document, and the end behind it, is the target of exactly one position."""
    document = check.draw.permutation(60).tolist()
    for context_length in (1, 7, 59, 60, 61, 62):
        answer = _rows(check, [[document]], 60, context_length)
        targets = Counter(token for row in answer.value for token in row[1:].tolist())
        wrong = sum(abs(targets[token] - 1) for token in range(61))
        answer.satisfies(wrong == 0, got=f"{wrong} of 61 tokens missing or repeated as targets", expected="each once")
        longest = max((len(row) for row in answer.value), default=0)
        answer.satisfies(
            longest <= context_length + 1,
            got=f"a row of {longest} tokens",
            expected=f"at most context_length + 1 = {context_length + 1}",
        )


def test_rows_by_index(check: Check) -> None:
    """Indices count from the end as well; what is out of range is refused."""
    path = _shard(check, "train-00000.bin", [0, 5, 6, 0, 7, 0])
    dataset = check.build(DocumentDataset, [path], end_of_text=0, context_length=8)
    check.run("len(dataset)", lambda: len(dataset)).equals(2)
    check.run("dataset[-1]", lambda: dataset[-1]).equals(torch.tensor([0, 7, 0]))
    check.run("dataset[-2]", lambda: dataset[-2]).equals(torch.tensor([0, 5, 6, 0]))
    rows = [torch.tensor([0, 5, 6, 0]), torch.tensor([0, 7, 0])]
    check.run("[row for row in dataset]", lambda: [row for row in dataset]).equals(rows)  # noqa: C416
    for index in (2, -3):
        check.raises(IndexError, lambda index=index: dataset[index], naming=(str(index), "2"))


def test_rows_refused(check: Check) -> None:
    """A context of 0, files that are no shards or are not there, and no files at all are refused."""

    def read(tokens: Sequence[int], context_length: int = 4, data: bytes = b"") -> Any:
        path = _shard(check, "train-00007.bin", tokens)
        path.write_bytes(path.read_bytes() + data)
        return DocumentDataset([path], end_of_text=0, context_length=context_length)

    read.__name__ = "DocumentDataset of a file of the tokens "
    check.raises(ValueError, read, [0, 1, 0], 0, naming=("context_length", "0"))
    check.raises(ValueError, read, [0, 1, 0], data=b"\1", naming="train-00007")
    for tokens in ([1, 2, 0], [0, 1, 2], [1, 0, 2, 0], [0, 1, 0, 2], [0], []):
        check.raises(ValueError, read, tokens, naming="train-00007")
    missing = check.folder / "missing.bin"
    check.raises(FileNotFoundError, DocumentDataset, [missing], end_of_text=0, context_length=4, naming="missing.bin")
    check.raises(ValueError, DocumentDataset, [], end_of_text=0, context_length=4, naming="shard")


def test_rows_pickled(check: Check) -> None:
    """After an item was read the dataset pickles without its tokens, and the copy reads the same items."""
    tokens = [0, *([*check.draw.integers(1, 65_536, 9_999).tolist(), 0] * 5)]
    path = _shard(check, "train-00000.bin", tokens)
    dataset = check.build(DocumentDataset, [path], end_of_text=0, context_length=20_000)
    expected = check.run("dataset[3]", lambda: dataset[3]).value
    pickled = check.run("pickle.dumps(dataset)", lambda: pickle.dumps(dataset))
    size = len(pickled.value)
    pickled.satisfies(
        size < 20_000,
        got=f"{size} bytes, of a file of 100,002",
        expected="a few hundred: without the tokens in the file",
    )
    check.run("pickle.loads(pickle.dumps(dataset))[3]", lambda: pickle.loads(pickled.value)[3]).equals(expected)
    check.run("dataset[4]", lambda: dataset[4]).equals(torch.tensor(tokens[40_000:]))


def test_collated_by_hand(check: Check) -> None:
    """Rows of four tokens and of two: inputs and targets are shifted by one, and what is padded has no target."""
    answer = check(collate_rows, [torch.tensor([9, 5, 6, 9]), torch.tensor([9, 7])])
    answer.equals((torch.tensor([[9, 5, 6], [9, 0, 0]]), torch.tensor([[5, 6, 9], [7, -100, -100]])))


def test_collated(check: Check) -> None:
    """As row by row: tokens that are 0, a batch of one, rows of two tokens, strided memory; input stays as it is."""
    table = check.draw.integers(0, 3, 8, 12)
    lengths = [*check.draw.integers(2, 9, 5).tolist(), 8]
    rows = [table[:length, 2 * place] for place, length in enumerate(lengths)]
    for batch in (rows, rows[:1], [rows[0][:2], rows[1][:2]]):
        size = max(map(len, batch)) - 1
        inputs = [row.tolist()[:-1] + [0] * (size + 1 - len(row)) for row in batch]
        targets = [row.tolist()[1:] + [-100] * (size + 1 - len(row)) for row in batch]
        check(collate_rows, batch).equals((torch.tensor(inputs), torch.tensor(targets)))


def test_collate_refuses(check: Check) -> None:
    """No rows, a row with nothing to predict, and a row of two axes are refused; the message names its place."""
    check.raises(ValueError, collate_rows, [])
    check.raises(ValueError, collate_rows, [torch.tensor([1, 2]), torch.tensor([1])], naming=("1", "(1,)"))
    check.raises(ValueError, collate_rows, [torch.tensor([1, 2]), torch.tensor([[1, 2]])], naming=("1", "(1, 2)"))
    check.raises(ValueError, collate_rows, [torch.tensor([[1, 2], [3, 4]])], naming=("0", "(2, 2)"))
    check.raises(ValueError, collate_rows, [torch.tensor([1, 2]), torch.tensor(5)], naming=("1", "()"))


def test_all_the_way(check: Check) -> None:
    """From a table to batches: each token of each document on one side is a target once, and nothing else is."""
    texts = [*_texts(check.draw, 30, 14), "abc", "xyz"]

    def count() -> list[int]:
        counts = [0] * 27
        for number, side in enumerate(split_documents(_table(texts), 0.3)):
            paths = write_shards(
                side, _encode, check.folder / "way", end_of_text=0, prefix=f"side{number}", shard_tokens=40
            )
            dataset = DocumentDataset(paths, end_of_text=0, context_length=5)
            _, targets = collate_rows([dataset[index] for index in range(len(dataset))])
            counts = [had + int((targets == token).sum()) for token, had in enumerate(counts)]
        return counts

    letters = Counter(token for text in texts for token in [*_encode(text), 0])
    check.run("how often each token is a target, on both sides together", count).equals(
        [letters[token] for token in range(27)]
    )
