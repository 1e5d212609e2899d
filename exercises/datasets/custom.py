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
        raise NotImplementedError("datasets/custom: CSVDataset.__init__")

    def __len__(self) -> int:
        """The number of rows N, without the header."""
        raise NotImplementedError("datasets/custom: CSVDataset.__len__")

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
        raise NotImplementedError("datasets/custom: CSVDataset.__getitem__")


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
        raise NotImplementedError("datasets/custom: TokenWindowDataset.__init__")

    def __len__(self) -> int:
        """The number of windows."""
        raise NotImplementedError("datasets/custom: TokenWindowDataset.__len__")

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
        raise NotImplementedError("datasets/custom: TokenWindowDataset.__getitem__")

    def __getstate__(self) -> dict[str, Any]:
        """What is pickled: everything but the map, which would be pickled as an array of all tokens."""
        raise NotImplementedError("datasets/custom: TokenWindowDataset.__getstate__")
