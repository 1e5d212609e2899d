"""Grades datasets/builtin.

The oracles are Python's own reading of the files (lists, `json`), the definition of each split and of padding, and
torch's and the library's classes themselves. Every file is made in the check's own folder, and is a few rows long.
"""

import json
import math
import os
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import Any

import datasets  # type: ignore[import-untyped]
import pyarrow.parquet  # type: ignore[import-untyped]
import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, DataLoader, Subset, TensorDataset

from checkpoints.checks import Answer, Check, Draw, Workload
from checkpoints.misconceptions import Misconception
from exercises.datasets.builtin import (
    balance,
    drop_short,
    hold_out,
    load_documents,
    next_token_pairs,
    origin,
    padded_loader,
    split,
    stream_documents,
    tokenize,
)

datasets.disable_progress_bars()  # they would be shown as what the learner's code printed

MISCONCEPTIONS = [
    Misconception(
        "what the rounding down left over given to the first parts, as `random_split` does with fractions",
        ("for part in by_loss[: length - sum(sizes)]:", "for part in range(length - sum(sizes)):"),
    ),
    Misconception(
        "a split drawn from torch's global generator, so that its seed is of no use",
        (
            "return random_split(dataset, sizes, generator=torch.Generator().manual_seed(seed))",
            "return random_split(dataset, sizes)",
        ),
    ),
    Misconception(
        "only the beginning of each larger source, shuffled: the rest is never drawn",
        ("torch.randperm(size, generator=generator)", "torch.randperm(min(sizes), generator=generator)"),
    ),
    Misconception(
        "the first item of a source taken for one behind the end of the source before it",
        ("bisect_right(dataset.cumulative_sizes, index)  #", "bisect_right(dataset.cumulative_sizes, index - 1)  #"),
    ),
    Misconception(
        "blank lines of a text file kept as documents without a word",
        ("if line.strip():", "if True:"),
    ),
    Misconception(
        "rows that are not JSON skipped without a word",
        ('raise ValueError(f"{path}, row {number}: no JSON: {error}") from error', "continue"),
    ),
    Misconception(
        "a cache that knows the paths only: a file that has changed is not read again",
        ("[names, [(stat.st_size, stat.st_mtime_ns) for stat in stats]]", "names"),
    ),
    Misconception(
        "a stream that has read everything before it gives its first row",
        (
            "datasets.IterableDataset.from_generator(_documents, features=_DOCUMENTS, gen_kwargs=gen_kwargs)",
            "datasets.Dataset.from_list(list(_documents(**gen_kwargs))).to_iterable_dataset()",
        ),
    ),
    Misconception(
        "one row for each batch: the tokens of its documents run together",
        ('return {"tokens": tokens}', 'return {"tokens": [sum(tokens, [])]}'),
    ),
    Misconception(
        "the tokens beside the old columns, which should be gone",
        ("    remove_columns=documents.column_names,", ""),
        ("    features=_TOKENIZED,", ""),
    ),
    Misconception(
        "features guessed from the first batch, which has no type where its lists are empty",
        ("    features=_TOKENIZED,", ""),
    ),
    Misconception("the filter inverted: the short rows kept", ("len(tokens) >= minimum", "len(tokens) < minimum")),
    Misconception("the share held out taken for the share to train on", ("test_size=size", "train_size=size")),
    Misconception(
        "a mask that takes each real token that equals the padding for padding",
        (
            "return pad_sequence(tokens, batch_first=True, padding_value=padding), mask",
            "return (padded := pad_sequence(tokens, batch_first=True, padding_value=padding)), padded != padding",
        ),
    ),
]


def workload(task: Any, draw: Draw) -> list[Workload]:
    """Typical calls, for `compare`."""
    tokens, seed = draw.integers(0, 50_000, 100_001), draw.seed()
    texts = ["".join(map(chr, row)) for row in draw.integers(97, 123, 2000, 40).tolist()]
    rows = {"tokens": [list(map(ord, text[: 1 + number % 40])) for number, text in enumerate(texts)]}
    documents, tokenized = datasets.Dataset.from_dict({"text": texts}), datasets.Dataset.from_dict(rows)

    def tokenize_all() -> Any:
        return task.tokenize(documents, _letters)[:]["tokens"]

    def drop_some() -> Any:
        return task.drop_short(tokenized, 20)[:]["tokens"]

    return [
        Workload("next_token_pairs(tokens, 256)[0]", lambda: task.next_token_pairs(tokens, 256)[0]),
        Workload("len of the parts of split(...)", lambda: [len(p) for p in task.split(tokens, [0.9, 0.1], seed=seed)]),
        Workload("tokenize(documents, encode)", tokenize_all),
        Workload("drop_short(tokenized, 20)", drop_some),
        Workload("list(padded_loader(tokenized, 32))", lambda: _batches(task.padded_loader(tokenized, 32))),
    ]


def _letters(texts: list[str]) -> list[list[int]]:
    """A tokenizer: the code points."""
    return [[ord(letter) for letter in text] for text in texts]


class _Tokenizer:
    """The same, and it keeps what it was called with."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []

    def __call__(self, texts: list[str]) -> list[list[int]]:
        self.calls.append(list(texts))
        return _letters(texts)


def _is(answer: Answer, kind: type) -> Answer:
    """The value is of this class, of Python's or a library's; ends the check where it is not."""
    value, library = answer.value, kind.__module__.split(".")[0]
    wanted = f"a {kind.__name__}" if library == "builtins" else f"a {kind.__name__} of {library}"
    answer.satisfies(isinstance(value, kind), got=f"a {type(value).__name__}", expected=wanted)
    answer.failed = not isinstance(value, kind)
    return answer


def _flat(lists: Iterable[Iterable[Any]]) -> list[Any]:
    return list(chain.from_iterable(lists))


def _items_of(parts: Iterable[Any]) -> list[list[Any]]:
    """All items of each of several map-style datasets."""
    return [[part[index] for index in range(len(part))] for part in parts]


def _sizes_of(parts: Iterable[Any]) -> list[int]:
    return [len(part) for part in parts]


def read_to_the_end(stream: Iterable[Any]) -> list[Any]:
    """All that is left of a stream (named in verdicts as it is here)."""
    return list(stream)


def _batches(loader: Iterable[Any]) -> list[tuple[Any, ...]]:
    return [tuple(batch) for batch in loader]


def _items(check: Check, answer: Answer) -> Answer:
    """All items of a map-style dataset, in order."""
    return check.run(f"the items of {answer.call}", lambda: [answer.value[i] for i in range(len(answer.value))])


def _rows(check: Check, answer: Answer) -> Answer:
    """All rows of a table or a stream, their columns in alphabetical order."""

    def plain(row: dict[str, Any]) -> dict[str, Any]:
        # What comes out of a stream is what was put in, and a tokenizer may well give tuples or arrays.
        return {
            key: [int(token) for token in value] if key == "tokens" else value for key, value in sorted(row.items())
        }

    return check.run(f"the rows of {answer.call}", lambda: [plain(row) for row in answer.value])


def _documents(check: Check, answer: Answer, expected: Sequence[tuple[str, str]], note: str = "") -> None:
    """The rows of a table or a stream are these pairs of a file's name and a text, and have no other columns."""
    columns = check.run(f"{answer.call}.column_names", lambda: sorted(answer.value.column_names or []))
    columns.equals(["source", "text"])
    rows = check.run(f"the rows of {answer.call}", lambda: [(row["source"], row["text"]) for row in answer.value]).value
    texts = check.run(f"the texts of {answer.call}", lambda: [text for _, text in rows])
    texts.equals([text for _, text in expected], note=note)
    # The folder has another name in each run.
    sources = [str(source).replace(f"{check.folder}{os.sep}", "folder/") for source, _ in rows]
    check.run(f"the sources of {answer.call}", lambda: sources).equals([f"folder/{name}" for name, _ in expected])


def _here(check: Check, function: Callable[..., Any], *, cache: bool) -> Callable[[Sequence[str]], Any]:
    """The function on files of the check's folder, given by their names."""
    # Where the library keeps what it is given no place for; not in the home of whoever runs this.
    datasets.config.HF_DATASETS_CACHE = str(check.folder / "home")
    options = {"cache_dir": check.folder / "cache"} if cache else {}

    def call(names: Sequence[str]) -> Any:
        return function([check.folder / name for name in names], **options)

    call.__name__ = function.__name__
    return call


def _write(check: Check, name: str, content: str | bytes | list[Any]) -> None:
    """Make a file: a list becomes lines of JSON, or the column "text" of a Parquet file."""
    path = check.folder / name
    if isinstance(content, list) and name.endswith(".parquet"):
        table = pyarrow.table({"number": list(range(len(content))), "text": pyarrow.array(content)})
        pyarrow.parquet.write_table(table, path, row_group_size=2)
    elif isinstance(content, list):
        path.write_bytes("".join(json.dumps({"id": 7, "text": text}) + "\n" for text in content).encode())
    else:
        path.write_bytes(content.encode() if isinstance(content, str) else content)


def _texts(draw: Draw, count: int, low: int = 0) -> list[str]:
    """Random texts of `low` to 8 letters, some of which take two bytes or three in UTF-8."""
    letters = "abc éλ中"
    return ["".join(letters[i] for i in draw.integers(0, 7, draw.integer(low, 9)).tolist()) for _ in range(count)]


def test_pairs_by_hand(check: Check) -> None:
    """Eight tokens in pairs of three: each target is the token after its input; what is left over is in no pair."""
    answer = _is(check(next_token_pairs, torch.tensor([5, 6, 7, 8, 9, 4, 3, 2]), 3), TensorDataset)
    expected = [([5, 6, 7], [6, 7, 8]), ([8, 9, 4], [9, 4, 3])]
    _items(check, answer).equals([(torch.tensor(inputs), torch.tensor(targets)) for inputs, targets in expected])


def test_pairs_of_any_text(check: Check) -> None:
    """Against lists: any length and dtype, views and no copies; one window too many is not made up; refusals."""
    length = check.draw.size()
    for size in (length + 1, 2 * length, 2 * length + 1, 5 * length - 1):
        tokens = check.draw.integers(0, 100, 2 * size).int()[::2]
        plain = tokens.tolist()
        starts = range(0, size - length, length)
        expected = [(plain[start : start + length], plain[start + 1 : start + length + 1]) for start in starts]
        answer = check(next_token_pairs, tokens, length)
        items = _items(check, answer)
        items.equals([tuple(torch.tensor(part, dtype=torch.int32) for part in pair) for pair in expected])
        if not items.failed and items.value and isinstance(items.value[0][1], Tensor):
            own = items.value[0][1].untyped_storage().data_ptr() == tokens.untyped_storage().data_ptr()
            answer.satisfies(own, got="a copy of the tokens", expected="views of the tokens")
    ones = check(next_token_pairs, torch.tensor([5, 6, 7]), 1)
    _items(check, ones).equals([(torch.tensor([token]), torch.tensor([token + 1])) for token in (5, 6)])
    check.raises(ValueError, next_token_pairs, torch.arange(4), 4, naming="4")
    for wrong in (0, -2):
        check.raises(ValueError, next_token_pairs, torch.arange(4), wrong, naming=("context_length", str(wrong)))
    check.raises(ValueError, next_token_pairs, torch.ones(2, 3), 1, naming="(2, 3)|[2, 3]")


def test_split_sizes(check: Check) -> None:
    """The sizes of the parts: what rounding down leaves goes to those that lost most; no part is empty."""
    for length, fractions, expected in (
        (10, [0.62, 0.19, 0.19], [6, 2, 2]),
        (100, [0.71, 0.29], [71, 29]),  # 0.29 * 100 is a little less than 29
        (12, [0.625, 0.25, 0.125], [8, 3, 1]),  # 7.5, 3 and 1.5: of equal losses, the earlier part's
        (1, [1.0], [1]),
        (10, [0.1] * 10, [1] * 10),  # which sum to 0.9999999999999999
    ):
        parts = check(split, range(length), fractions, seed=check.draw.seed())
        check.run(f"the sizes of {parts.call}", partial(_sizes_of, parts.value)).equals(
            expected, note=f"{expected} in all"
        )
    check.raises(ValueError, split, range(10), [math.nan, 0.5], seed=0, naming="nan")
    check.raises(ValueError, split, range(10), [0.5, 0.25], seed=0, naming="0.75")
    check.raises(ValueError, split, range(10), [0.98, 0.02], seed=0, naming=("0.02", "10"))
    check.raises(ValueError, split, range(10), [1.25, -0.25], seed=0, naming="-0.25")


def test_split_parts(check: Check) -> None:
    """Each item is in one part; a seed gives its split again, another one another; torch's generator is left alone."""
    items = check.draw.permutation(check.draw.integer(40, 60)).tolist()
    seed, state = check.draw.seed(), torch.get_rng_state()
    first = check(split, items, [0.5, 0.3, 0.2], seed=seed)
    kinds = check.run(f"the types of the parts of {first.call}", lambda: [_kind(part) for part in first.value])
    kinds.equals(["Subset"] * 3)
    parts = check.run(f"the items of the parts of {first.call}", partial(_items_of, first.value)).value
    check.run("all of them, sorted", lambda: sorted(_flat(parts))).equals(sorted(items))
    again = check(split, items, [0.5, 0.3, 0.2], seed=seed)
    check.run("the items for the same seed again", partial(_items_of, again.value)).equals(
        parts, note="as the first time"
    )
    # At random, two orders of 40 items agree with probability 1 / 40!, which is 1e-48.
    other = check(split, items, [0.5, 0.3, 0.2], seed=seed + 1)
    different = check.run("the items for another seed", partial(_items_of, other.value))
    different.satisfies(different.value != parts, got="the same split", expected="another split")
    check.that(
        torch.equal(torch.get_rng_state(), state),
        call="torch's global generator, after split",
        got="another state",
        expected="the state before: a seed is for a generator of one's own",
    )


def _kind(part: Any) -> str:
    return "Subset" if isinstance(part, Subset) else type(part).__name__


def test_balance(check: Check) -> None:
    """As many items of each source as the smallest has, drawn from all of it by the seed, none twice."""
    small, seed = 20 + check.draw.size(), check.draw.seed()
    sizes = [small + 25, small, small + 30]
    sources = [[f"{name}{number}" for number in range(size)] for name, size in zip("abc", sizes, strict=True)]
    answer = _is(check(balance, sources, seed=seed), Subset)
    items = _items(check, answer)
    drawn = items.value
    check.run(f"the sources of the items of {answer.call}", lambda: "".join(item[0] for item in drawn)).equals(
        "a" * small + "b" * small + "c" * small
    )
    check.run("how many different items they are", lambda: len(set(drawn))).equals(3 * small)
    # The largest source's are all among its first ones with probability 1 / C(small + 30, small) < 1e-14, and the
    # same for two seeds with that probability, times 1 / small! for their order.
    beyond = [item for item in drawn[2 * small :] if int(item[1:]) >= small]
    items.satisfies(len(beyond) > 0, got=f"none but the first {small} of a larger source", expected="any of its items")
    _items(check, check(balance, sources, seed=seed)).equals(drawn, note="the same seed")
    other = _items(check, check(balance, sources, seed=seed + 1))
    other.satisfies(other.value != drawn, got="the same items for another seed", expected="others")
    _items(check, check(balance, [["a"], ["b"]], seed=0)).equals(["a", "b"], note="one item each")
    check.raises(ValueError, balance, [["a", "b"], []], seed=0, naming="1")
    check.raises(ValueError, balance, [], seed=0, naming="no sources")


def test_origin(check: Check) -> None:
    """Where an item comes from: at the borders of sources, through every layer, counted from the end too."""
    one, two, three = ["a0", "a1", "a2"], ["b0", "b1"], ["c0", "c1", "c2", "c3"]
    joined: Any = ConcatDataset([one, [], two, three])  # type: ignore[list-item]
    expected = [(source, index) for source in (one, two, three) for index in range(len(source))]
    for index in range(9):
        call = f"origin(a ConcatDataset of lists of 3, 0, 2 and 4 items, {index})"
        check.run(call, partial(origin, joined, index)).equals(expected[index])
    order = check.draw.permutation(9).tolist()
    layered: Any = Subset(ConcatDataset([Subset(joined, order), one]), [10, *range(8, -1, -1), -1])  # type: ignore[list-item]
    for index in range(-11, 11):
        wanted = [(one, 1), *(expected[place] for place in reversed(order)), (one, 2)][index]
        check(origin, layered, index).equals(wanted)
    check(origin, three, -1).equals((three, 3), note="a dataset that is neither Subset nor ConcatDataset")
    check.raises(IndexError, origin, joined, 9, naming="9")
    check.raises(IndexError, origin, layered, -12, naming=("-12", "11"))


def test_documents_by_hand(check: Check) -> None:
    """A text file, JSON lines and Parquet: what is a document in each, and where it comes from."""
    load = _here(check, load_documents, cache=True)
    _write(check, "a.txt", "Once.\n\n  if x:\t\r\n \t\r\nThe\u2028end\x0c")  # nothing but a line feed ends a line
    _write(check, "b.jsonl", '{"text": "two\\nlines", "id": 1}\r\n{"id": 2, "text": ""}')
    _write(check, "c.parquet", ["red", " ", "blue"])
    texts = {
        "a.txt": ["Once.", "  if x:\t", "The\u2028end\x0c"],
        "b.jsonl": ["two\nlines", ""],
        "c.parquet": ["red", " ", "blue"],
    }
    for name in texts:
        _documents(check, _is(check(load, [name]), datasets.Dataset), [(name, text) for text in texts[name]])
    both = [(name, text) for name in ("c.parquet", "a.txt") for text in texts[name]]
    _documents(check, check(load, ["c.parquet", "a.txt"]), both, note="in the order of the paths")
    path, folder = str(check.folder / "b.jsonl"), str(check.folder / "cache")
    answer = check.run("load_documents of paths that are strings", lambda: load_documents([path], cache_dir=folder))
    _documents(check, answer, [("b.jsonl", text) for text in texts["b.jsonl"]])


def test_documents_of_any_kind(check: Check) -> None:
    """Against Python's own reading, for files of random texts, in random order."""
    load = _here(check, load_documents, cache=True)
    lines = _texts(check.draw, 30)
    texts = {"a.jsonl": _texts(check.draw, 5), "b.parquet": _texts(check.draw, 7), "d.jsonl": _texts(check.draw, 1)}
    for name, content in texts.items():
        _write(check, name, content)
    _write(check, "c.txt", "\n".join([*lines, "last"]))
    texts["c.txt"] = [line for line in [*lines, "last"] if line and not line.isspace()]
    # The year 33658, which Python has no date for: it is in a column that nobody asks for.
    table = {"when": pyarrow.array([10**12], pyarrow.timestamp("s")), "text": ["late"]}
    pyarrow.parquet.write_table(pyarrow.table(table), check.folder / "e.parquet")
    texts["e.parquet"] = ["late"]
    names = [sorted(texts)[place] for place in check.draw.permutation(5).tolist()]
    answer = _is(check(load, names), datasets.Dataset)
    _documents(check, answer, [(name, text) for name in names for text in texts[name]])


def test_cache(check: Check) -> None:
    """The table lies in the folder given, and is found there again; a file that has changed is read anew."""
    load = _here(check, load_documents, cache=True)
    _write(check, "a.txt", "one\ntwo\n")
    answer = _is(check(load, ["a.txt"]), datasets.Dataset)
    _documents(check, answer, [("a.txt", "one"), ("a.txt", "two")])
    files = [Path(file["filename"]) for file in answer.value.cache_files]
    answer.satisfies(len(files) > 0, got="a table in memory", expected="a table in files, mapped into memory")
    answer.satisfies(
        all((check.folder / "cache").resolve() in file.resolve().parents for file in files),
        got="files outside of cache_dir",
        expected="the table's files under cache_dir",
    )
    strays = list((check.folder / "home").rglob("*.arrow"))
    answer.satisfies(not strays, got="files in the library's own cache too", expected="none but those in cache_dir")
    written = [file.stat().st_mtime_ns for file in files]
    _documents(check, check(load, ["a.txt"]), [("a.txt", "one"), ("a.txt", "two")], note="a second time")
    answer.satisfies(
        [file.stat().st_mtime_ns for file in files] == written,
        got="files that a second call for the same paths wrote again",
        expected="the files of the first call",
    )
    _write(check, "a.txt", "one\nthree\nfour\n")
    changed = [("a.txt", text) for text in ("one", "three", "four")]
    _documents(check, check(load, ["a.txt"]), changed, note="the file has changed since")
    path = check.folder / "a.txt"
    time = path.stat().st_mtime_ns
    _write(check, "a.txt", "one\nseven\nfour\n")
    os.utime(path, ns=(time, time + 10**9))
    changed[1] = ("a.txt", "seven")
    _documents(check, check(load, ["a.txt"]), changed, note="changed since: of the same size, but later")
    _write(check, "a.txt", "one\n")
    os.utime(path, ns=(time, time + 10**9))
    _documents(check, check(load, ["a.txt"]), changed[:1], note="changed since: of the same time, but shorter")


def test_malformed_rows(check: Check) -> None:
    """A row that is no document is refused with its file and its number, and never skipped."""
    load = _here(check, load_documents, cache=True)
    good = '{"text": "fine"}\n'
    cases: list[tuple[str, str | bytes | list[Any], int]] = [
        ("broken.jsonl", good + good + '{"text": "no end\n' + good, 3),
        ("blank.jsonl", good + "\n" + good, 2),
        ("array.jsonl", good + '["text"]\n', 2),
        ("other.jsonl", good * 3 + '{"txt": "wrong name"}\n', 4),
        ("number.jsonl", '{"text": 5}\n' + good, 1),
        ("none.jsonl", good + '{"text": null}', 2),
        ("latin.jsonl", good.encode() + '{"text": "é"}\n'.encode("latin-1"), 2),
        ("latin.txt", "\nné\n\n".encode() + "né\n".encode("latin-1"), 4),
        ("none.parquet", ["fine", "fine", None, "fine"], 3),
        ("number.parquet", [1, 2], 1),
    ]
    for name, content, row in cases:
        _write(check, name, content)
        check.raises(ValueError, load, [name], naming=(name, f"row {row}"))
    pyarrow.parquet.write_table(pyarrow.table({"txt": ["wrong name"]}), check.folder / "other.parquet")
    check.raises(ValueError, load, ["other.parquet"], naming=("other.parquet", "row 1"))
    _write(check, "blank.jsonl", good)
    _documents(check, check(load, ["blank.jsonl"]), [("blank.jsonl", "fine")], note="mended since")


def test_refused_files(check: Check) -> None:
    """A file without a document, no whole Parquet file, an unknown suffix, no file at all: refused by name."""
    load, stream = _here(check, load_documents, cache=True), _here(check, stream_documents, cache=False)
    _write(check, "good.txt", "fine\n")
    _write(check, "rows.csv", "text\nfine\n")
    pyarrow.parquet.write_table(
        pyarrow.table({"text": pyarrow.array([], pyarrow.string())}), check.folder / "no.parquet"
    )
    cases: dict[str, str] = {"empty.jsonl": "", "blank.txt": "\n \n", "empty.parquet": "", "bad.parquet": "fine\n" * 9}
    for name, content in cases.items():
        _write(check, name, content)
    _write(check, "whole.parquet", ["fine", "fine"])
    _write(check, "cut.parquet", (check.folder / "whole.parquet").read_bytes()[:-9])
    for name in ("no.parquet", "cut.parquet", *cases):
        check.raises(ValueError, load, ["good.txt", name], naming=name)
    for function in (load, stream):
        check.raises(ValueError, function, ["good.txt", "rows.csv"], naming=".csv")
        check.raises(ValueError, function, [], naming="paths")


def test_stream(check: Check) -> None:
    """A stream gives the same rows, but reads none before it is asked for; each file is a shard of it."""
    stream = _here(check, stream_documents, cache=False)
    texts = _texts(check.draw, 6)
    _write(check, "a.jsonl", texts[:4])
    _write(check, "b.parquet", texts[4:])
    answer = _is(check(stream, ["a.jsonl", "b.parquet"]), datasets.IterableDataset)
    expected = [("a.jsonl", text) for text in texts[:4]] + [("b.parquet", text) for text in texts[4:]]
    _documents(check, answer, expected)
    _documents(check, answer, expected, note="iterated over again")
    check.run(f"{answer.call}.num_shards", lambda: answer.value.num_shards).equals(2)
    _write(check, "late.jsonl", '{"text": "first"}\n{"text": "second"}\n{"text": \n')
    late = check(stream, ["late.jsonl", "missing.txt"])

    def first_rows() -> list[str]:
        rows = iter(late.value)
        return [next(rows)["text"], next(rows)["text"]]

    taken = check.run(f"the first two rows of {late.call}, whose third is broken", first_rows)
    taken.equals(["first", "second"])
    check.raises(ValueError, read_to_the_end, late.value, naming=("late.jsonl", "row 3"))


def test_tokenize(check: Check) -> None:
    """A row of tokens for each document, all other columns gone; the texts are encoded in batches, each text once."""
    texts = _texts(check.draw, 11, low=1)
    documents = datasets.Dataset.from_dict({"id": list(range(11)), "text": texts, "source": ["a.txt"] * 11})
    answer = _is(check(tokenize, documents, _letters, batch_size=4), datasets.Dataset)
    check.run(f"{answer.call}.column_names", lambda: answer.value.column_names).equals(["tokens"])
    _rows(check, answer).equals([{"tokens": [ord(letter) for letter in text]} for text in texts])
    encode = _Tokenizer()
    check(tokenize, documents, encode, batch_size=4)
    check.run("all texts that encode was called with", lambda: _flat(encode.calls)).equals(texts)
    check.run("the most texts that encode was called with at once", lambda: max(map(len, encode.calls))).equals(
        4, note="batch_size=4"
    )
    many, encode = datasets.Dataset.from_dict({"text": ["a"] * 1001}), _Tokenizer()
    _rows(check, check(tokenize, many, encode)).equals([{"tokens": [97]}] * 1001)
    check.run("the most texts that encode was called with at once", lambda: max(map(len, encode.calls))).equals(
        1000, note="where no batch_size is given"
    )


def test_tokenize_edges(check: Check) -> None:
    """Documents without a token come first; a stream stays a stream; a row too few is refused with both numbers."""
    texts = ["", "", "ab", ""]
    documents = datasets.Dataset.from_dict({"text": texts})
    answer = _is(check(tokenize, documents, _letters, batch_size=1), datasets.Dataset)
    _rows(check, answer).equals([{"tokens": row} for row in _letters(texts)])
    nothing = check(tokenize, documents.select([0, 1]), _letters)
    kind = check.run(f"the type of the tokens of {nothing.call}", lambda: str(nothing.value.features["tokens"]))
    kind.equals("List(Value('int64'))")
    stream = check(tokenize, documents.to_iterable_dataset(), _letters, batch_size=3)
    _rows(check, _is(stream, datasets.IterableDataset)).equals([{"tokens": row} for row in _letters(texts)])

    def forgetful(texts: list[str]) -> list[list[int]]:
        return _letters(texts)[:-1]

    check.raises(ValueError, tokenize, documents, forgetful, naming=("4", "3"))


def test_drop_short(check: Check) -> None:
    """Rows of at least the minimum stay, whole and in order; in a table as in a stream."""
    lengths = [2, 0, 3, 1, 2, 5, *check.draw.integers(0, 6, 6).tolist()]
    rows = [{"id": number, "tokens": list(range(length))} for number, length in enumerate(lengths)]
    tokenized = datasets.Dataset.from_list(rows)
    for minimum in (2, 0, 5):
        answer = _is(check(drop_short, tokenized, minimum), datasets.Dataset)
        _rows(check, answer).equals([row for row in rows if len(row["tokens"]) >= minimum])  # type: ignore[arg-type]
    answer = _is(check(drop_short, tokenized.to_iterable_dataset(), 3), datasets.IterableDataset)
    _rows(check, answer).equals([row for row in rows if len(row["tokens"]) >= 3])  # type: ignore[arg-type]


def test_hold_out(check: Check) -> None:
    """The share of the rows is held out, by the seed; each row is on one side, with all its columns."""
    seed = check.draw.seed()
    for size, share, expected in ((100, 0.07, [93, 7]), (40, 0.26, [30, 10]), (3, 0.4, [2, 1])):
        rows = [{"id": number, "text": f"text {number}"} for number in range(size)]
        dataset = datasets.Dataset.from_list(rows)
        answer = _is(check(hold_out, dataset, share, seed=seed), tuple)
        parts = check.run(f"the rows of {answer.call}", partial(_items_of, answer.value)).value
        call = f"how many rows of {size} are left to train on, and how many held out, for a share of {share}"
        check.run(call, partial(_sizes_of, parts)).equals(expected)
        check.run("all rows, sorted", partial(sorted, _flat(parts), key=itemgetter("id"))).equals(rows)
        again = check(hold_out, dataset, share, seed=seed)
        check.run("the rows for the same seed", partial(_items_of, again.value)).equals(parts)
    # Two draws of 10 rows of 40 are the same with probability 1 / C(40, 10), 1e-9, and in one order with 3e-16.
    dataset = datasets.Dataset.from_dict({"id": list(range(40))})
    first, other = (_is(check(hold_out, dataset, 0.25, seed=number), tuple) for number in (seed, seed + 1))
    held = check.run("the rows held out", lambda: list(first.value[1]["id"])).value
    others = check.run("the rows held out for another seed", lambda: list(other.value[1]["id"]))
    others.satisfies(others.value != held, got="the same rows", expected="others")
    three = datasets.Dataset.from_dict({"id": [0, 1, 2]})
    for share in (0.0, 1.0, 1.5, 0.9, -0.25, math.nan, math.inf):
        check.raises(ValueError, hold_out, three, share, seed=0, naming=("share", f"{share}", "3"))


def test_padded_loader(check: Check) -> None:
    """Rows of different lengths in batches: padded behind their ends, with a mask that knows what is real."""
    rows = [[5, 6, 0], [7], [0, 0], [], [9, 8, 7, 6]]
    tokenized = datasets.Dataset.from_dict({"id": list(range(5)), "tokens": rows})
    for padding in (0, 9):
        answer = _is(check(padded_loader, tokenized, 2, padding=padding), DataLoader)
        expected = [_padded(rows[start : start + 2], padding) for start in (0, 2, 4)]
        check.run(f"the batches of {answer.call}", partial(_batches, answer.value)).equals(expected)
    answer = check(padded_loader, tokenized.select([3, 3, 1, 0]), 2)
    expected = [_padded([[], []], 0), _padded([[7], [5, 6, 0]], 0)]
    check.run(f"the batches of {answer.call}", partial(_batches, answer.value)).equals(expected, note="padding=0")


def test_padded_loader_seeds(check: Check) -> None:
    """Two loaders of one seed give one order, and of two seeds two; the seed is 0 if none is given."""
    tokenized = datasets.Dataset.from_dict({"tokens": [[number] for number in range(30)]})

    def order(**options: Any) -> list[int]:
        loader = padded_loader(tokenized, 30, shuffle=True, **options)
        return [token for tokens, _ in loader for token in tokens.flatten().tolist()]

    order.__name__ = "the order of padded_loader"
    seed = check.draw.integer(1, 10**6)
    first, zero = check(order, seed=seed).value, check(order, seed=0).value
    check(order, seed=seed).equals(first, note="as from another loader of this seed")
    check(order).equals(zero, note="as with seed=0")
    # By chance they agree once in 30!, which is 2e32.
    check.that(
        first != zero,
        call=f"the orders of padded_loader with seed={seed} and seed=0",
        got="the same order",
        expected="two different orders",
    )


def _padded(rows: list[list[int]], padding: int) -> tuple[Tensor, Tensor]:
    """A batch, number by number."""
    longest = max(map(len, rows))
    tokens = [[row[i] if i < len(row) else padding for i in range(longest)] for row in rows]
    mask = [[i < len(row) for i in range(longest)] for row in rows]
    return torch.tensor(tokens, dtype=torch.int64), torch.tensor(mask, dtype=torch.bool)


def test_from_files_to_batches(check: Check) -> None:
    """The whole way, from files to shuffled batches: nothing lost, each pass in another order, the same by the seed."""
    load = _here(check, load_documents, cache=True)
    texts = [f"{number} {text}" for number, text in enumerate(_texts(check.draw, 40))]
    _write(check, "a.jsonl", texts[:25])
    _write(check, "b.txt", "\n".join(texts[25:]))
    seed, kept = check.draw.seed(), sorted(row for row in _letters(texts) if len(row) >= 4)

    def batches() -> DataLoader[tuple[Tensor, Tensor]]:
        tokenized = drop_short(tokenize(load(["a.jsonl", "b.txt"]), _letters, batch_size=16), 4)
        return padded_loader(tokenized, 8, padding=-1, shuffle=True, seed=seed)

    def rows(loader: Any) -> list[list[int]]:
        return [row[real].tolist() for tokens, mask in loader for row, real in zip(tokens, mask, strict=True)]

    loader = check.run("padded_loader(drop_short(tokenize(load_documents(...))), shuffle=True)", batches).value
    first = check.run("the rows of the first pass", lambda: rows(loader)).value
    check.run("the rows of the first pass, sorted", lambda: sorted(first)).equals(kept)
    second = check.run("the rows of the second pass", lambda: rows(loader))
    # Of more than 20 rows, which all differ, two orders agree with probability below 1 / 20!, which is 4e-19.
    second.satisfies(second.value != first, got="the order of the first pass", expected="another order")
    check.run("the rows of the second pass, sorted", lambda: sorted(second.value)).equals(kept)
    again = check.run("the same once more, from files to batches", batches)
    check.run("the rows of its first pass", lambda: rows(again.value)).equals(first, note="the same seed")
