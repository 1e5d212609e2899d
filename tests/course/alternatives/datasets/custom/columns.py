"""Columns as tensors, a scanner of its own for the CSV, and the standard library's mmap for the tokens."""

import dataclasses
import functools
import mmap
import os
import pathlib
import re
from collections.abc import Generator, Sequence

import numpy as np
import torch
from torch.utils.data import Dataset

FIELD = re.compile(r'(?:"(?P<quoted>(?:[^"]|"")*)"|(?P<bare>[^,"\r\n][^,\r\n]*|))(?P<end>,|\r\n|\n|\Z)')


@dataclasses.dataclass
class Record:
    line: int
    cells: list[str] = dataclasses.field(default_factory=list)


class Trouble(ValueError):
    def __init__(self, path: pathlib.Path, what: str, line: int | None = None) -> None:
        super().__init__(": ".join([str(path)] + ([] if line is None else [f"line {line}"]) + [what]))


def scan(path: pathlib.Path) -> Generator[Record, None, None]:
    raw = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    try:
        text = raw.decode()
    except UnicodeDecodeError as problem:
        raise Trouble(path, "bytes that are not UTF-8", 1 + raw[: problem.start].count(10)) from None
    position, line = 0, 1
    while position < len(text):
        record = Record(line)
        while True:
            match = FIELD.match(text, position)
            if match is None:
                raise Trouble(path, "a quoted field without a proper end", record.line)
            position = match.end()
            quoted = match["quoted"]
            record.cells.append(match["bare"] if quoted is None else quoted.replace('""', '"'))
            if match["end"] != ",":
                break
        line += match.string.count("\n", 0, position) - (line - 1)
        yield Record(record.line, [] if record.cells == [""] and quoted is None else record.cells)


def parse(cell: str) -> float:
    value = torch.tensor(float(cell), dtype=torch.float64)
    if not value.float().isfinite():
        raise ValueError("out of range")
    return value.item()


class CSVDataset(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    def __init__(self, path: str | os.PathLike[str], features: Sequence[str], target: str) -> None:
        file = pathlib.Path(path)
        header, *rows = list(scan(file)) or [None]
        if header is None:
            raise Trouble(file, "an empty file")
        for name in [*features, target]:
            if (count := header.cells.count(name)) != 1:
                raise Trouble(file, f"column {name} is there {count} times", 1)
        if not rows:
            raise Trouble(file, "no rows behind the header")
        columns: dict[str, list[float]] = {name: [] for name in [*features, target]}
        for row in rows:
            if len(row.cells) != len(header.cells):
                raise Trouble(file, f"{len(row.cells)} fields in the place of {len(header.cells)}", row.line)
            record = dict(zip(header.cells, row.cells))
            for name, column in columns.items():
                try:
                    column.append(parse(record[name]))
                except ValueError:
                    raise Trouble(file, f"{record[name]!r} in column {name} is no number", row.line) from None
        self.columns = {name: torch.tensor(column, dtype=torch.float32) for name, column in columns.items()}
        self.features, self.target, self.size = list(features), target, len(rows)

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        row = position(index, self.size)
        return torch.stack([self.columns[name][row] for name in self.features]), self.columns[self.target][row]


def position(index: int, size: int) -> int:
    if not hasattr(index, "__index__"):
        raise TypeError(f"{index!r} is no whole number")
    places = range(size)
    if index not in range(-size, size):
        raise IndexError(f"{index} is outside of a dataset of length {size}")
    return places[index]


class TokenWindowDataset(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    def __init__(
        self,
        path: str | os.PathLike[str],
        context_length: int,
        *,
        stride: int | None = None,
        dtype: object = "uint16",
    ) -> None:
        for name, value in {"context_length": context_length, "stride": stride}.items():
            if value is not None and value <= 0:
                raise ValueError(f"{name}={value} is not positive")
        given = np.dtype(dtype)
        if given.kind not in ("i", "u"):
            raise TypeError(f"{given.name} is no type of whole numbers")
        self.width, self.signed = given.itemsize, given.kind == "i"
        file = self.file = pathlib.Path(path)
        self.context = context_length
        self.stride = stride or context_length
        size = file.stat().st_size
        if size % self.width:
            raise ValueError(f"{path} has {size} bytes, which {self.width} does not divide")
        self.tokens = size // self.width
        if self.tokens < context_length + 1:
            raise ValueError(f"{path} has {self.tokens} tokens; at least {context_length + 1} are needed")

    def __len__(self) -> int:
        return (self.tokens - self.context + self.stride - 1) // self.stride

    @functools.cached_property
    def memory(self) -> mmap.mmap:
        with self.file.open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def __reduce__(self):
        state = {key: value for key, value in self.__dict__.items() if key != "memory"}
        return object.__new__, (type(self),), state

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        begin = position(index, len(self)) * self.stride * self.width
        ends = range(begin, begin + (self.context + 1) * self.width, self.width)
        window = [int.from_bytes(self.memory[at : at + self.width], "little", signed=self.signed) for at in ends]
        both = torch.tensor([window[:-1], window[1:]], dtype=torch.int64)
        return both[0], both[1]
