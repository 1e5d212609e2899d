"""Lists and open files, without type hints: rows kept as Python's numbers, windows read by seek and read."""

import csv
import operator
from pathlib import Path

import numpy as np
import torch

BIGGEST = float(np.finfo(np.float32).max)


def check_utf8(path):
    with Path(path).open("rb") as file:
        for count, line in enumerate(file, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError:
                raise ValueError(f"{path}: line {count} holds bytes that are no UTF-8")


def to_number(text):
    try:
        value = float(text)
    except ValueError:
        return None
    if value != value or value > BIGGEST or value < -BIGGEST:
        return None
    return value


class CSVDataset(torch.utils.data.Dataset):
    def __init__(self, path, features, target):
        check_utf8(path)
        self.rows = []
        with Path(path).open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            header = None
            places = None
            wanted = list(features) + [target]
            while True:
                line = reader.line_num + 1
                try:
                    row = next(reader)
                except StopIteration:
                    break
                except csv.Error as error:
                    raise ValueError("%s: line %d: bad quotes (%s)" % (path, line, error))
                if header is None:
                    header = row
                    for name in wanted:
                        if name not in header:
                            raise ValueError("%s: line 1: no column %s" % (path, name))
                        if header.count(name) > 1:
                            raise ValueError("%s: line 1: more than one column %s" % (path, name))
                    places = [header.index(name) for name in wanted]
                    continue
                if len(row) != len(header):
                    message = "%s: line %d: expected %d fields but found %d"
                    raise ValueError(message % (path, line, len(header), len(row)))
                numbers = []
                for name, place in zip(wanted, places):
                    number = to_number(row[place])
                    if number is None:
                        message = "%s: line %d: column %s: cannot use %r as a number"
                        raise ValueError(message % (path, line, name, row[place]))
                    numbers.append(number)
                self.rows.append(numbers)
        if header is None:
            raise ValueError("%s: nothing in it" % path)
        if not self.rows:
            raise ValueError("%s: no rows" % path)

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        try:
            numbers = self.rows[operator.index(index)]
        except IndexError:
            raise IndexError("no row %d among %d" % (index, len(self.rows)))
        return torch.tensor(numbers[:-1], dtype=torch.float32), torch.tensor(numbers[-1], dtype=torch.float32)


class TokenWindowDataset(torch.utils.data.Dataset):
    def __init__(self, path, context_length, stride=None, dtype=np.uint16):
        dtype = np.dtype(dtype)
        if not np.issubdtype(dtype, np.integer):
            raise TypeError("tokens must be whole numbers, not %s" % dtype)
        if stride is None:
            stride = context_length
        if context_length < 1:
            raise ValueError("context_length = %d, but it must be positive" % context_length)
        if stride < 1:
            raise ValueError("stride = %d, but it must be positive" % stride)
        size = Path(path).stat().st_size
        if size % dtype.itemsize != 0:
            raise ValueError("%s: %d bytes, but a token takes %d" % (path, size, dtype.itemsize))
        count = size // dtype.itemsize
        if count <= context_length:
            raise ValueError("%s: %d tokens, but %d are needed" % (path, count, context_length + 1))
        self.path = Path(path).absolute()
        self.T = context_length
        self.stride = stride
        self.dtype = np.dtype("<" + dtype.str[1:])
        self.starts = range(0, count - context_length, stride)

    def __len__(self):
        return len(self.starts)

    def __getitem__(self, index):
        index = operator.index(index)
        if index >= len(self.starts) or index < -len(self.starts):
            raise IndexError("no window %d among %d" % (index, len(self.starts)))
        with self.path.open("rb") as file:
            file.seek(self.starts[index] * self.dtype.itemsize)
            data = file.read((self.T + 1) * self.dtype.itemsize)
        tokens = np.frombuffer(data, self.dtype).tolist()
        return torch.tensor(tokens[: self.T]), torch.tensor(tokens[1:])
