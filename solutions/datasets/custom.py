"""Datasets of one's own: the rows of a CSV file, and windows over a file of tokens that is larger than memory.

Both are map-style: a length, and an item for each index. The first reads its file once and refuses what it cannot
read, for a row that is dropped in silence is found by nobody. The second reads nothing before it is asked for.

Symbols: N rows or tokens, F features, T the length of a window (`context_length`).
"""

import csv
import io
import math
import operator
from collections.abc import Iterator, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy
import torch
from numpy.typing import DTypeLike
from torch import Tensor
from torch.utils.data import Dataset

_LARGEST = torch.finfo(torch.float32).max


class CSVDataset(Dataset[tuple[Tensor, Tensor]]):
    """The rows of a CSV file: an item is a row's features and its target.

    The file is UTF-8, with or without a byte order mark; its lines end in LF or CRLF, and its first row is the header.
    Fields may be quoted, and then hold commas, doubled quotes and line breaks (RFC 4180, section 2). It is read once,
    when the dataset is made, and all of it is checked: nothing is left out, filled in or guessed.

    Args:
        path: the file.
        features: names of the columns that make the features, in this order, whatever their order in the file.
        target: name of the column that makes the target. Columns that are not named may hold any text.

    Raises:
        FileNotFoundError: there is no such file; the message names it.
        ValueError: something in the file cannot be used. Each message names the file. Lines are counted from 1 as an
            editor counts them, the header among them, and written as in "line 3"; a row counts from the line on which
            it begins.

            - The file is empty, or holds a header and no rows.
            - A column asked for is not in the header, or is there more than once: the message names line 1 and the
              column.
            - A row has more or fewer fields than the header: the line and both numbers. An empty line is a row of 0
              fields.
            - A field of a named column is no number as `float` reads it, or none that float32 can hold: not finite,
              or too large ("1e39"). An empty field is no number. The line, the column and the field's text.
            - A quoted field does not end, or goes on after its closing quote: the line.
            - Bytes that are not UTF-8: the line.

    Example:
        With a file of the lines ``name,height,weight`` and ``"Smith, Ann",1.5,60``:

        >>> dataset = CSVDataset("people.csv", ["weight", "height"], "height")
        >>> len(dataset)
        1
        >>> dataset[0]
        (tensor([60.0000,  1.5000]), tensor(1.5000))
    """

    def __init__(self, path: str | PathLike[str], features: Sequence[str], target: str) -> None:
        rows = _rows(path)
        first = next(rows, None)
        if first is None:
            raise ValueError(f"{path}: the file is empty, without even a header")
        _, header = first
        columns = [(name, _column(path, header, name)) for name in (*features, target)]
        table = []
        for line, row in rows:
            if len(row) != len(header):
                raise ValueError(f"{path}, line {line}: {len(row)} fields, but the header has {len(header)}")
            table.append([_number(row[place], path, line, name) for name, place in columns])
        if not table:
            raise ValueError(f"{path}: a header, but no rows")
        self._table = torch.tensor(table, dtype=torch.float32)  # (N, F + 1): the target is the last column

    def __len__(self) -> int:
        """The number of rows N, without the header."""
        return len(self._table)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Give one row.

        Args:
            index: from 0 for the first row, or from -1 for the last.

        Returns:
            The features, float32 (F,), and the target, float32 ().

        Raises:
            IndexError: `index` is not from -N to N - 1; the message names it and N.
            TypeError: `index` is no whole number.
        """
        row = self._table[_position(index, len(self))]
        return row[:-1], row[-1]


class TokenWindowDataset(Dataset[tuple[Tensor, Tensor]]):
    """Windows over a file of tokens, each with the next tokens as its targets: what a language model is trained on.

    The file holds nothing but tokens, each as a whole number in binary, the least significant byte first (little
    endian) on every machine. Window k begins at token k * stride. It needs T + 1 tokens, for the target of its last
    input is the token after it. What is left at the end, too short for a window, is not used.

    The file is memory-mapped (`numpy.memmap`), for reading only: the system reads the pages that a window touches and
    no others, and may forget them again. So the dataset needs the memory of the windows that are in use, however large
    the file is, and takes a file that may not be written to.
    The map is opened when the first item is asked for, and is not pickled along: a pickled dataset takes a few
    hundred bytes, and each DataLoader worker opens the file for itself.

    Args:
        path: the file.
        context_length: length T of a window, at least 1.
        stride: how many tokens a window begins after the one before it, at least 1. If None it is `context_length`:
            then each token but the last is an input of one window, apart from the end. Less makes windows that
            overlap, more leaves tokens out.
        dtype: numpy's integer type of the tokens in the file; its own byte order does not count.

    Raises:
        FileNotFoundError: there is no such file; the message names it.
        TypeError: `dtype` is no type of whole numbers; the message names it.
        ValueError: `context_length` or `stride` is less than 1: the message names which, and its value. Or the file's
            size is not that of a whole number of tokens, as when it was cut off: the file, its size in bytes and the
            size of a token. Or it has fewer than T + 1 tokens: the file, its number of tokens and T + 1.

    Example:
        >>> numpy.arange(10, dtype="<u2").tofile("tokens.bin")
        >>> dataset = TokenWindowDataset("tokens.bin", 4)
        >>> len(dataset)
        2
        >>> dataset[1]
        (tensor([4, 5, 6, 7]), tensor([5, 6, 7, 8]))
    """

    def __init__(
        self,
        path: str | PathLike[str],
        context_length: int,
        *,
        stride: int | None = None,
        dtype: DTypeLike = numpy.uint16,
    ) -> None:
        stride = context_length if stride is None else stride
        if context_length < 1:
            raise ValueError(f"context_length must be at least 1, got {context_length}")
        if stride < 1:
            raise ValueError(f"stride must be at least 1, got {stride}")
        self._dtype = numpy.dtype(dtype).newbyteorder("<")
        if self._dtype.kind not in "iu":
            raise TypeError(f"dtype must be a type of whole numbers, got {self._dtype.name}")
        size = Path(path).stat().st_size
        tokens, rest = divmod(size, self._dtype.itemsize)
        if rest:
            raise ValueError(
                f"{path}: {size} bytes are no whole number of {self._dtype.itemsize}-byte tokens: cut off?"
            )
        if tokens < context_length + 1:
            raise ValueError(f"{path}: {tokens} tokens, but one window and its targets need {context_length + 1}")
        self.context_length = context_length
        self.stride = stride
        self._path = Path(path)
        self._length = (tokens - (context_length + 1)) // stride + 1
        self._map: numpy.memmap[Any, Any] | None = None

    def __len__(self) -> int:
        """The number of windows."""
        return self._length

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Read one window.

        Args:
            index: from 0 for the first window, or from -1 for the last.

        Returns:
            The inputs, int64 (T,), and the targets, int64 (T,): the target of an input is the token after it. Both
            are copies of their own: to write to one changes neither the other, nor the file, nor later items.

        Raises:
            IndexError: `index` is not from minus the length to the length - 1; the message names it and the length.
            TypeError: `index` is no whole number.
        """
        start = _position(index, len(self)) * self.stride
        tokens = self._tokens()[start : start + self.context_length + 1]
        # Two copies and not two views of one: whoever hides some of the inputs would hide targets along with them.
        inputs, targets = tokens[:-1].astype(numpy.int64), tokens[1:].astype(numpy.int64)
        return torch.from_numpy(inputs), torch.from_numpy(targets)

    def __getstate__(self) -> dict[str, Any]:
        """What is pickled: everything but the map, which would be pickled as an array of all tokens."""
        return self.__dict__ | {"_map": None}

    def _tokens(self) -> "numpy.memmap[Any, Any]":
        if self._map is None:
            self._map = numpy.memmap(self._path, dtype=self._dtype, mode="r")
        return self._map


def _rows(path: str | PathLike[str]) -> Iterator[tuple[int, list[str]]]:
    """Each row of a CSV file, with the number of the line on which it begins."""
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")  # without the mark with which spreadsheets begin a file
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ValueError(f"{path}, line {line}: not UTF-8: {error.reason}") from error
    # Without strict=True a quote that is never closed would take the rest of the file for one field.
    reader = csv.reader(io.StringIO(text), strict=True)
    line = 1
    try:
        for row in reader:
            yield line, row
            line = reader.line_num + 1  # counts lines, not rows: a quoted field may hold several
    except csv.Error as error:
        raise ValueError(f"{path}, line {line}: {error}") from error


def _column(path: str | PathLike[str], header: list[str], name: str) -> int:
    """Where a column stands."""
    if header.count(name) != 1:
        raise ValueError(f"{path}, line 1: column {name!r} is there {header.count(name)} times in the header {header}")
    return header.index(name)


def _number(text: str, path: str | PathLike[str], line: int, name: str) -> float:
    """The number in a field; the rest says where it stands."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not abs(number) <= _LARGEST:  # true of NaN as well, which is not less than anything
        raise ValueError(f"{path}, line {line}, column {name!r}: {text!r} is no finite number of float32")
    return number


def _position(index: int, length: int) -> int:
    """The index counted from the front."""
    position = operator.index(index)
    if not -length <= position < length:
        raise IndexError(f"index {position} is out of range for a length of {length}")
    return position % length
