"""Grades datasets/custom.

The oracles are files written by hand, byte by byte, and windows cut out of a list by a loop. The memory that a large
file takes is measured.
"""

import contextlib
import gc
import pickle
import sys
import tempfile
import tracemalloc
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from checkpoints import ROOT
from checkpoints.checks import Answer, Check, Draw, Stop, Workload
from checkpoints.crashes import ForbiddenError
from checkpoints.misconceptions import Misconception
from exercises.datasets.custom import CSVDataset, TokenWindowDataset

MISCONCEPTIONS = [
    Misconception(
        "lines cut at every comma, also at those inside quotes",
        (
            "for row in reader:",
            """
            for number, row in enumerate(text.splitlines(), 1):
                yield number, row.split(",")
            for row in reader if not text else ():
            """,
        ),
    ),
    Misconception(
        "a quote that is never closed takes the rest of the file for one field: csv needs strict=True",
        ("StringIO(text), strict=True)", "StringIO(text))"),
    ),
    Misconception(
        "a byte order mark taken for a part of the first column's name", ('decode("utf-8-sig")', 'decode("utf-8")')
    ),
    Misconception(
        "bytes that are not UTF-8 replaced, and nobody told",
        ('decode("utf-8-sig")', 'decode("utf-8-sig", errors="replace")'),
    ),
    Misconception(
        "Python's own UnicodeDecodeError, which names neither the file nor the line",
        ('raise ValueError(f"{path}, line {line}: not UTF-8: {error.reason}") from error', "raise"),
    ),
    Misconception(
        "empty lines passed over, as csv.DictReader does", ("for row in reader:", "for row in filter(None, reader):")
    ),
    Misconception(
        "malformed rows left out, and nobody told",
        (
            'raise ValueError(f"{path}, line {line}: {len(row)} fields, but the header has {len(header)}")',
            "continue",
        ),
        (
            "table.append([_number(row[place], path, line, name) for name, place in columns])",
            """
            with __import__("contextlib").suppress(ValueError):
                table.append([_number(row[place], path, line, name) for name, place in columns])
            """,
        ),
    ),
    Misconception(
        "the fields beyond the header's dropped from a row that has too many",
        ("if len(row) != len(header):", "if len(row) < len(header):"),
    ),
    Misconception(
        "rows of any length taken, as long as they have the columns asked for",
        ("if len(row) != len(header):", "if len(row) <= max(place for _, place in columns):"),
    ),
    Misconception(
        "empty fields filled in with 0",
        ("number = float(text)", "number = float(text or 0)"),
    ),
    Misconception(
        "a number that float32 cannot hold turned into infinity",
        ("if not abs(number) <= _LARGEST:", "if not math.isfinite(number):"),
    ),
    Misconception(
        "NaN and infinity taken for numbers, because `float` reads them",
        ("if not abs(number) <= _LARGEST:", 'if math.isnan(number) and text.strip().lower() != "nan":'),
    ),
    Misconception(
        "lines counted from 0, or without the header",
        ("yield line, row", "yield line - 1, row"),
    ),
    Misconception(
        "rows counted in the place of lines: a quoted field may hold several lines",
        ("line = reader.line_num + 1", "line += 1"),
    ),
    Misconception(
        "the line on which a row ends, not the one on which it begins",
        ("yield line, row", "yield reader.line_num, row"),
    ),
    Misconception(
        "the columns in the file's order, not in that of `features`",
        ("for name in (*features, target)]", "for name in (*sorted(features, key=header.index), target)]"),
    ),
    Misconception(
        "a column that is there twice read from its first place",
        ("if header.count(name) != 1:", "if name not in header:"),
    ),
    Misconception("an empty dataset made of a file without rows", ("if not table:", "if False:")),
    Misconception(
        "a target of shape (1,), which would broadcast with the others of a batch", ("row[-1]\n", "row[-1:]\n")
    ),
    Misconception("the target left among the features", ("return row[:-1], row[-1]", "return row, row[-1]")),
    Misconception("items in float64", ("torch.tensor(table, dtype=torch.float32)", "torch.tensor(table).double()")),
    Misconception(
        "targets that are the inputs themselves, not the tokens after them",
        ("tokens[1:].astype", "tokens[:-1].astype"),
    ),
    Misconception(
        "the last window left out that just fits",
        ("(tokens - (context_length + 1)) // stride + 1", "(tokens - (context_length + 2)) // stride + 1"),
    ),
    Misconception(
        "one window too many: the last one's last target is not in the file",
        ("(tokens - (context_length + 1)) // stride + 1", "(tokens - context_length) // stride + 1"),
    ),
    Misconception(
        "windows that follow each other without overlap or gap, whatever the stride",
        (
            "start = _position(index, len(self)) * self.stride",
            "start = _position(index, len(self)) * self.context_length",
        ),
    ),
    Misconception(
        "as many windows as there would be with a stride of context_length",
        ("(tokens - (context_length + 1)) // stride + 1", "(tokens - 1) // context_length"),
    ),
    Misconception(
        "windows of stride 1 if no stride is given",
        ("stride = context_length if stride is None", "stride = 1 if stride is None"),
    ),
    Misconception("tokens read with their most significant byte first", ('newbyteorder("<")', 'newbyteorder(">")')),
    Misconception(
        "tokens read as signed numbers: from 32768 on they are negative",
        ('numpy.dtype(dtype).newbyteorder("<")', 'numpy.dtype(numpy.dtype(dtype).name.lstrip("u")).newbyteorder("<")'),
    ),
    Misconception("tokens of two bytes, whatever dtype says", ("numpy.dtype(dtype)", "numpy.dtype(numpy.uint16)")),
    Misconception(
        "items in the file's dtype, not in int64, which embeddings and losses want",
        ("tokens[:-1].astype(numpy.int64), tokens[1:].astype(numpy.int64)", "tokens[:-1].copy(), tokens[1:].copy()"),
    ),
    Misconception(
        "the whole file read into memory",
        ('numpy.memmap(self._path, dtype=self._dtype, mode="r")', "numpy.fromfile(self._path, dtype=self._dtype)"),
    ),
    Misconception(
        "the file opened for writing too: the mode of numpy.memmap is r+ where none is given",
        (', mode="r")', ")"),
    ),
    Misconception(
        "the map pickled along, as an array of all tokens", ('self.__dict__ | {"_map": None}', "self.__dict__")
    ),
    Misconception("the last, incomplete token of a file that was cut off left out", ("if rest:", "if False:")),
    Misconception(
        "a window without targets accepted: it takes one token more than the context length",
        ("if tokens < context_length + 1:", "if tokens < context_length:"),
    ),
    Misconception(
        "a dataset of no windows made of a file with too few tokens", ("if tokens < context_length + 1:", "if False:")
    ),
    Misconception(
        "views of the map where the file holds int64: writing to an item would write to the file",
        (
            "tokens[:-1].astype(numpy.int64), tokens[1:].astype(numpy.int64)",
            "tokens[:-1].astype(numpy.int64, copy=False), tokens[1:].astype(numpy.int64, copy=False)",
        ),
        ('mode="r"', 'mode="c"'),
    ),
    Misconception(
        "inputs and targets that are views of one copy: writing to the inputs writes to the targets",
        (
            "inputs, targets = tokens[:-1].astype(numpy.int64), tokens[1:].astype(numpy.int64)",
            "both = tokens.astype(numpy.int64)\ninputs, targets = both[:-1], both[1:]",
        ),
    ),
    Misconception(
        "a negative index refused", ("if not -length <= position < length:", "if not 0 <= position < length:")
    ),
    Misconception(
        "no IndexError: an index past the end counted from the start again",
        ("if not -length <= position < length:", "if False:"),
    ),
    Misconception("an index cut down to a whole number", ("operator.index(index)", "int(index)")),
]

SIZE = 2**28  # bytes of the large file; few of them are written, and none is read but those of some windows
ALLOWED = SIZE // 4  # what reading those may take; it takes less than 1 MiB


def workload(task: Any, draw: Draw) -> list[Workload]:
    """Typical calls, for `compare`; each makes its file first."""
    text = "x,y,z\n" + "".join(f"{x!r},{y!r},{z!r}\n" for x, y, z in draw.normal(1000, 3).tolist())
    tokens = draw.integers(0, 2**16, 100_000).numpy().astype("<u2").tobytes()

    def read_csv() -> Tensor:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "table.csv")
            path.write_text(text, encoding="utf-8")
            dataset = task.CSVDataset(path, ["x", "y"], "z")
            return torch.stack(
                [torch.cat([features, target[None]]) for features, target in map(dataset.__getitem__, range(1000))]
            )

    def read_windows() -> Tensor:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:  # Windows keeps a file that is mapped
            path = Path(folder, "tokens.bin")
            path.write_bytes(tokens)
            dataset = task.TokenWindowDataset(path, 256)
            return torch.stack([torch.stack(dataset[index]) for index in range(len(dataset))])

    return [
        Workload("CSVDataset of 1000 rows, each read once", read_csv),
        Workload("TokenWindowDataset of 390 windows of 256 tokens, each read once", read_windows),
    ]


def _csv(check: Check) -> Callable[..., Any]:
    """`CSVDataset` of a file that holds a given text; a verdict shows the text."""

    def read(*, file_holding: str, encoding: str = "utf-8", features: Sequence[str], target: str) -> Any:
        (check.folder / "people.csv").write_bytes(file_holding.encode(encoding))
        with contextlib.chdir(check.folder):  # so that messages are the same wherever the folder is
            return CSVDataset("people.csv", features, target)

    read.__name__ = "CSVDataset"
    return read


def _tokens(check: Check) -> Callable[..., Any]:
    """`TokenWindowDataset` of a file that holds given tokens, or is of a given size."""

    def read(
        context_length: int,
        *,
        file_holding: Sequence[int] = (),
        itemsize: int = 2,
        file_size: int | None = None,
        **options: Any,
    ) -> Any:
        path = check.folder / "tokens.bin"
        data = b"".join(token.to_bytes(itemsize, "little") for token in file_holding)
        path.write_bytes(data if file_size is None else bytes(file_size))
        return TokenWindowDataset(path, context_length, **options)

    read.__name__ = "TokenWindowDataset"
    return read


def _compare(check: Check, made: Answer, items: list[tuple[Tensor, Tensor]], note: str = "") -> None:
    """The length of the dataset that a call made, and all of its items."""
    dataset = made.value
    check.run(f"len({made.call})", lambda: len(dataset)).equals(len(items), note=note)
    check.run(f"all items of {made.call}", lambda: [dataset[i] for i in range(len(dataset))]).equals(items, note=note)


def _getter(dataset: Any, name: str) -> Callable[[Any], Any]:
    """What gives ``dataset[index]``; a verdict shows it by a name that tells what it is a dataset of."""

    def get(index: Any) -> Any:
        return dataset[index]

    get.__name__ = f"{name}.__getitem__"
    return get


def _windows(tokens: list[int], length: int, stride: int) -> list[tuple[Tensor, Tensor]]:
    """The windows of a list, one after the other, as long as inputs and targets fit."""
    found, start = [], 0
    while start + length + 1 <= len(tokens):
        found.append(
            (torch.tensor(tokens[start : start + length]), torch.tensor(tokens[start + 1 : start + length + 1]))
        )
        start += stride
    return found


def _row(features: list[float], target: float) -> tuple[Tensor, Tensor]:
    return torch.tensor(features), torch.tensor(target)


def test_csv_by_hand(check: Check) -> None:
    """Two rows by hand: the features in the order asked for, the target a scalar, commas inside quotes left alone."""
    text = 'name,height,weight,"shoe, EU"\n"Smith, Ann",1.5,60,38\nBob,1.75,-0.5,4e1\n'
    made = check(_csv(check), file_holding=text, features=["shoe, EU", "height"], target="weight")
    _compare(check, made, [_row([38.0, 1.5], 60.0), _row([40.0, 1.75], -0.5)])
    made = check(_csv(check), file_holding="height,weight\n1.5,60", features=["weight", "height"], target="height")
    _compare(check, made, [_row([60.0, 1.5], 1.5)], note="the target may be among the features")


def test_csv_any_columns(check: Check) -> None:
    """Columns in any order, beside others of any text: quotes, line breaks, umlauts; one row or many."""
    remarks = ["Smith, Ann", 'she said "1,2"', "two\nlines", "", "Zoë, größer", "a\r\nb", "1.5"]
    for rows in (1, check.draw.size(5, 9)):
        numbers = (
            check.draw.normal(rows, 3, dtype=torch.float64) * 10.0 ** check.draw.integers(-3, 6, rows, 3)
        ).tolist()
        order = check.draw.permutation(4).tolist()
        names = ["alpha", "beta", "gamma", "note"]
        lines = [[names[place] for place in order]]
        for number, values in enumerate(numbers):
            remark = remarks[(number + rows) % len(remarks)].replace('"', '""')
            cells = [*map(repr, values), f'"{remark}"']
            lines.append([cells[place] for place in order])
        end = check.draw.integer(0, 2) * "\n"  # the last line may end in a line break or not
        text = "\n".join(",".join(line) for line in lines) + end
        made = check(_csv(check), file_holding=text, features=["gamma", "alpha"], target="beta")
        _compare(check, made, [_row([gamma, alpha], beta) for alpha, beta, gamma in numbers])


def test_csv_index(check: Check) -> None:
    """An index may count from the end; one out of range, or no whole number, is refused."""
    text = "x,y\n1,10\n2,20\n3,30\n"
    dataset = check(_csv(check), file_holding=text, features=["x"], target="y").value
    get = _getter(dataset, "CSVDataset of 3 rows")
    for index, expected in ((-1, _row([3.0], 30.0)), (-3, _row([1.0], 10.0)), (1, _row([2.0], 20.0))):
        check(get, index).equals(expected)
    for wrong in (7, 3, -4):
        check.raises(IndexError, get, wrong, naming=dict.fromkeys((str(wrong), "3")))
    check.raises(TypeError, get, 1.5)


def test_csv_numbers(check: Check) -> None:
    """A field that is no finite number of float32 is refused by file, line and column; an empty one too."""
    largest = torch.finfo(torch.float32).max
    made = check(_csv(check), file_holding=f"x,y\n{largest!r}, -2.5 \n", features=["x"], target="y")
    _compare(check, made, [_row([largest], -2.5)], note="the largest number of float32; `float` passes over spaces")
    for cell in ("", "tall", '"1,5"', "nan", "-inf", "1e39", "-3.5e38"):
        text = f"name,height,weight\nAnn,1.5,60\nBob,{cell},70\nCy,1.6,65\n"
        naming = ("people.csv", "line 3", "height")
        check.raises(ValueError, _csv(check), file_holding=text, features=["height"], target="weight", naming=naming)
    text, words = "height,weight\n1,none\n", ("people.csv", "line 2", "weight", "none")
    check.raises(ValueError, _csv(check), file_holding=text, features=["height"], target="weight", naming=words)


def test_csv_fields(check: Check) -> None:
    """A row of too few or too many fields is refused by line and both numbers, also where no named column is hit."""
    head = "height,weight,name,shoe\n1.5,60,Ann,38\n"
    for row, fields in (("1.6,70\n", "2"), ("1.6,70,Bob,40,7\n", "5"), ("1.6\n", "1"), ("\n", "0")):
        naming = ("people.csv", "line 3", fields, "4")
        text = head + row + "1.7,65,Cy,39\n"
        check.raises(ValueError, _csv(check), file_holding=text, features=["height"], target="weight", naming=naming)
    text = head + "\n"
    check.raises(ValueError, _csv(check), file_holding=text, features=["height"], target="weight", naming="line 3")


def test_csv_lines(check: Check) -> None:
    """The line is that of an editor: the header is line 1, a quoted field may span several, a row begins on one."""
    head = "name,height,weight\n"
    for body, line in (
        ("Ann,x,60\n", "line 2"),
        ('"Ann\nLee",1.5,60\nBob,x,70\n', "line 4"),
        ('Bob,1.5,70\n"Ann\n\nLee",x,60\n', "line 3"),
        ('"Ann\n\nLee",1.5,60\nBob,70\n', "line 5"),
    ):
        naming = ("people.csv", line)
        check.raises(
            ValueError, _csv(check), file_holding=head + body, features=["height"], target="weight", naming=naming
        )
    text, naming = '"full\nname",height,weight\nAnn,x,60\n', ("people.csv", "line 3")
    check.raises(ValueError, _csv(check), file_holding=text, features=["height"], target="weight", naming=naming)
    text = "height,weight\r\n1.5,60\r\n1.6,70\r\nx,70\r\n"
    check.raises(ValueError, _csv(check), file_holding=text, features=["height"], target="weight", naming="line 4")


def test_csv_header(check: Check) -> None:
    """A column that is missing or there twice, an empty file and one without rows are refused."""
    read, text = _csv(check), "name,height,weight\nAnn,1.5,60\n"
    for features, target, name in ((["height", "age"], "weight", "age"), (["height"], "Weight", "Weight")):
        naming = ("people.csv", "line 1", name)
        check.raises(ValueError, read, file_holding=text, features=features, target=target, naming=naming)
    twice = "size,y,size\n1,2,3\n"
    naming = ("people.csv", "line 1", "size")
    check.raises(ValueError, read, file_holding=twice, features=["size"], target="y", naming=naming)
    other = check(read, file_holding=twice.replace("y", "z,y").replace("2", "2,5"), features=["z"], target="y")
    _compare(
        check, other, [_row([2.0], 5.0)], note="a column that is there twice does no harm where nobody asks for it"
    )
    check.raises(ValueError, read, file_holding="", features=["x"], target="y", naming="people.csv")
    check.raises(ValueError, read, file_holding="x,y\n", features=["x"], target="y", naming="people.csv")


def test_csv_encoding(check: Check) -> None:
    """UTF-8 with or without a byte order mark; other bytes are refused by file and line."""
    read, text = _csv(check), "größe,gewicht\n1.5,60\n"
    for encoding in ("utf-8", "utf-8-sig"):
        made = check(read, file_holding=text, encoding=encoding, features=["größe"], target="gewicht")
        _compare(check, made, [_row([1.5], 60.0)])
    text, naming = "x,y,name\n1,2,Ann\n3,4,Zoë\n5,6,Bob\n", ("people.csv", "line 3")
    check.raises(ValueError, read, file_holding=text, encoding="latin-1", features=["x"], target="y", naming=naming)


def test_csv_quotes(check: Check) -> None:
    """A quoted field that does not end, or that goes on after its quote, is refused by the row's line."""
    for text, line in (
        ('x,y,name\n1,2,Ann\n3,4,"Bob\n5,6,Cy\n', "line 3"),
        ('x,y,name\n1,2,Ann\n3,4,"Bob"by\n5,6,Cy\n', "line 3"),
        ('x,y,"name\n1,2,Ann\n', "line 1"),
    ):
        naming = ("people.csv", line)
        check.raises(ValueError, _csv(check), file_holding=text, features=["x"], target="y", naming=naming)


def test_no_file(check: Check) -> None:
    """A file that does not exist is said to be missing, when the dataset is made."""
    check.raises(FileNotFoundError, CSVDataset, check.folder / "none.csv", ["x"], "y", naming="none.csv")
    check.raises(FileNotFoundError, TokenWindowDataset, check.folder / "none.bin", 4, naming="none.bin")


def test_tokens_by_hand(check: Check) -> None:
    """Ten tokens, windows of four: two of them, each target the token after its input."""
    made = check(_tokens(check), 4, file_holding=list(range(10, 20)))
    first = torch.tensor([10, 11, 12, 13]), torch.tensor([11, 12, 13, 14])
    second = torch.tensor([14, 15, 16, 17]), torch.tensor([15, 16, 17, 18])
    _compare(check, made, [first, second])
    text = str(check.folder / "tokens.bin")
    named = check.run("TokenWindowDataset of the same file, its name a str", lambda: TokenWindowDataset(text, 4)).value
    check.run("its item 1", lambda: named[1]).equals(second)


def test_tokens_strides(check: Check) -> None:
    """Windows that overlap, touch or leave gaps, cut out by a loop; the last one may just fit."""
    read, length = _tokens(check), check.draw.size(3, 6)
    for stride in (1, length - 1, length, length + 2):
        for windows, over in ((3, 0), (3, stride - 1), (1, 0)):
            # So many tokens that the last window just fits, and the same with as many more as make no further window.
            count = (windows - 1) * stride + length + 1 + over
            tokens = check.draw.integers(0, 50257, count).tolist()
            made = check(read, length, file_holding=tokens, stride=stride)
            _compare(check, made, _windows(tokens, length, stride), note=f"{count} tokens, T = {length}")
    tokens = check.draw.integers(0, 50257, 9).tolist()
    made = check(read, 1, file_holding=tokens)
    _compare(check, made, _windows(tokens, 1, 1), note="windows of one token")


def test_tokens_dtypes(check: Check) -> None:
    """Whole numbers of one to eight bytes, little endian; the highest are not negative; items are int64."""
    read = _tokens(check)
    for name, itemsize, highest in (
        ("uint16", 2, 2**16 - 1),
        ("uint32", 4, 2**32 - 1),
        ("uint8", 1, 2**8 - 1),
        ("int64", 8, 2**63 - 1),
        (">u2", 2, 2**16 - 1),
    ):
        tokens = [1, highest, highest // 2 + 1, 2, 0, check.draw.integer(3, 128)]
        options = {} if name == "uint16" else {"dtype": name}
        made = check(read, 2, file_holding=tokens, itemsize=itemsize, **options)
        _compare(check, made, _windows(tokens, 2, 2), note=name)


def test_tokens_index(check: Check) -> None:
    """An index of a window may count from the end; one out of range, or no whole number, is refused."""
    tokens = check.draw.integers(0, 2**16, 13).tolist()
    windows = _windows(tokens, 4, 3)
    dataset = check(_tokens(check), 4, file_holding=tokens, stride=3).value
    get = _getter(dataset, "TokenWindowDataset of 3 windows")
    for index, expected in ((-1, windows[2]), (-3, windows[0]), (1, windows[1])):
        check(get, index).equals(expected)
    for wrong in (5, 3, -4):
        check.raises(IndexError, get, wrong, naming=dict.fromkeys((str(wrong), "3")))
    check.raises(TypeError, get, 1.5)


def test_tokens_refused(check: Check) -> None:
    """A file that was cut off or is too short is refused by name and size; so is a length, stride or dtype."""
    read = _tokens(check)
    check.raises(ValueError, read, 2, file_size=13, naming=("tokens.bin", "13", "2"))
    check.raises(ValueError, read, 2, file_size=26, dtype=numpy.uint32, naming=("tokens.bin", "26", "4"))
    check.raises(ValueError, read, 6, file_holding=[1, 2, 3, 4, 5, 6], naming=("tokens.bin", "6", "7"))
    check.raises(ValueError, read, 1, file_size=0, naming=("tokens.bin", "0", "2"))
    for wrong in (0, -2):
        check.raises(ValueError, read, wrong, file_holding=[1, 2, 3], naming=("context_length", str(wrong)))
        check.raises(ValueError, read, 1, file_holding=[1, 2, 3], stride=wrong, naming=("stride", str(wrong)))
    for dtype in ("float32", "bool"):
        check.raises(TypeError, read, 1, file_holding=[1, 2, 3, 4], dtype=dtype, naming=dtype)


def test_tokens_are_only_read(check: Check) -> None:
    """A file that may not be written to is as good as another."""
    path = ROOT / "pyproject.toml"  # the course's: what the learner's code opens for writing there is refused
    with contextlib.chdir(path.parent):  # so that messages are the same wherever the course is
        dataset = check.run(
            "TokenWindowDataset of such a file", lambda: TokenWindowDataset(path.name, 8, dtype="u1")
        ).value

        def read() -> Any:
            try:
                return dataset[1]
            except ForbiddenError:
                check.guard.breaches.clear()
                raise PermissionError("opened for writing, which nobody may") from None

        expected = _windows(list(path.read_bytes()[:17]), 8, 8)
        check.run("dataset[1] of a file that may not be written to", read).equals(expected[1])


def test_tokens_are_copies(check: Check) -> None:
    """Writing to the inputs of an item changes neither its targets, nor the file, nor the item when read again."""
    for name, itemsize in (("int64", 8), ("uint16", 2)):
        tokens = check.draw.integers(1, 2**15, 9).tolist()
        dataset = check(_tokens(check), 4, file_holding=tokens, itemsize=itemsize, dtype=name).value
        _check_copies(check, partial(dataset.__getitem__, 1), _windows(tokens, 4, 4)[1], name)


def _check_copies(check: Check, read: Callable[[], Any], expected: tuple[Tensor, Tensor], dtype: str) -> None:
    item, again = (check.run("dataset[1]", read).equals(expected, note=dtype) for _ in range(2))
    if check.verdicts:
        raise Stop
    # Two copies that are both in use lie in two places. (To write to a map that may only be read ends the process.)
    inputs, targets = item.value
    apart = inputs.data_ptr() != again.value[0].data_ptr()
    item.satisfies(
        apart, got=f"the same memory each time it is read ({dtype})", expected="a copy, in memory of its own"
    )
    if not apart:
        raise Stop
    inputs.zero_()
    check.run("the targets of dataset[1] after its inputs were set to 0", lambda: targets).equals(expected[1])
    check.run("dataset[1] after the inputs that it gave before were set to 0", read).equals(expected)


def test_tokens_in_batches(check: Check) -> None:
    """A DataLoader makes batches (B, T) of it, in order."""
    tokens = check.draw.integers(0, 2**16, 33).tolist()
    dataset = check(_tokens(check), 4, file_holding=tokens).value
    windows = _windows(tokens, 4, 4)
    expected = [
        [torch.stack([window[part] for window in windows[start : start + 3]]) for part in (0, 1)] for start in (0, 3, 6)
    ]
    check.run("list(DataLoader(dataset, batch_size=3))", lambda: list(DataLoader(dataset, batch_size=3))).equals(
        expected
    )


def test_tokens_pickled(check: Check) -> None:
    """After an item was read it pickles without its tokens, and the copy reads the same items."""
    tokens = check.draw.integers(0, 2**16, 20_000).tolist()
    dataset = check(_tokens(check), 8, file_holding=tokens, stride=3).value
    expected = _windows(tokens[:200], 8, 3)
    check.run("dataset[5]", lambda: dataset[5]).equals(expected[5])
    pickled = check.run("pickle.dumps(dataset)", lambda: pickle.dumps(dataset))
    size = len(pickled.value)
    # Paths, sizes and a dtype take a few hundred bytes; the file has 40,000.
    pickled.satisfies(
        size < 10_000, got="more than 10,000 bytes, of a file of 40,000", expected="a few hundred: no token among them"
    )
    copy = check.run("pickle.loads(pickle.dumps(dataset))", lambda: pickle.loads(pickled.value)).value
    check.run("len(copy)", lambda: len(copy)).equals((20_000 - 9) // 3 + 1)
    check.run("copy[7]", lambda: copy[7]).equals(expected[7])


def test_tokens_large(check: Check) -> None:
    """A few windows of a file of 256 MiB take the memory of a few windows."""
    length, last = 64, SIZE // 2 - 65
    # Once on a small file, so that what is imported or made at the first use is not counted.
    small = check(_tokens(check), length, file_holding=list(range(200)), stride=1).value
    check.run("dataset[0]", lambda: small[0]).equals(_windows(list(range(65)), length, 1)[0])
    if check.verdicts:
        raise Stop
    places = [0, check.draw.integer(length, last // 2), check.draw.integer(last // 2 + length, last - length), last]
    written = {place: check.draw.integers(0, 2**16, length + 1).tolist() for place in places}
    path = check.folder / "large.bin"
    with check.large_files(), path.open("wb") as file:
        file.truncate(SIZE)  # a hole: it takes no room on most disks, and reads as zeros
        for place, tokens in written.items():
            file.seek(2 * place)
            file.write(b"".join(token.to_bytes(2, "little") for token in tokens))
    with _Memory() as memory:
        dataset = check(TokenWindowDataset, path, length, stride=1).value
        items = {place: check.run(f"dataset[{place}]", partial(dataset.__getitem__, place)) for place in places}
        size = check.run("len(dataset)", lambda: len(dataset))
    size.equals(last + 1)
    for place, item in items.items():
        item.equals(_windows(written[place], length, 1)[0])
    # To the nearest 64 MiB, so that two runs say the same.
    check.that(
        memory.risen < ALLOWED,
        call="four windows of a file of 256 MiB",
        got=f"the process's memory rose by about {round(memory.risen / 2**26) * 64} MiB",
        expected="less than 1 MiB: nothing but those windows is read",
    )


class _Memory:
    """How far the memory of this process rises while it is watched.

    Two measures, and the greater of them counts. Python and numpy tell tracemalloc what they allocate, on every
    system. The system knows the highest resident memory, of which the maps and torch's own tensors are a part; Linux
    lets it be measured anew. Elsewhere it goes back to the start of the process, and may have been higher before
    than it is now: then it rises less than it would, or not at all, and never blames right code.
    """

    risen = 0

    def __enter__(self) -> "_Memory":
        gc.collect()
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the highest is now the present
        self._before = _highest_resident()
        tracemalloc.start()
        return self

    def __exit__(self, *error: object) -> None:
        allocated = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        self.risen = max(allocated, _highest_resident() - self._before)


def _highest_resident() -> int:
    """The highest resident memory of this process, in bytes; 0 where the system does not tell (Windows)."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    try:
        import resource
    except ImportError:
        return 0
    highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return highest if sys.platform == "darwin" else highest * 1024
