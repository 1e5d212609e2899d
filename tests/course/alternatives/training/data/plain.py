"""Files read and written with Python's own means, lists in the place of arrays, no types."""

# ruff: noqa: PTH103, PTH105, PTH107, PTH110, PTH118, PTH123, PTH202

import array
import os
import random
import sys

import torch
from torch.utils.data import Dataset

from ..gpt2.input_output import IGNORED


def to_bytes(tokens):
    numbers = array.array("H", tokens)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tobytes()


def from_bytes(data):
    numbers = array.array("H")
    numbers.frombytes(data)
    if sys.byteorder == "big":
        numbers.byteswap()
    return list(numbers)


def split_documents(documents, validation, *, seed=0, column="text"):
    if not (validation > 0 and validation < 1):
        raise ValueError("validation is %s" % validation)
    if seed < 0:
        raise ValueError("seed is %d" % seed)
    if column not in documents.column_names:
        raise ValueError("no column called %s" % column)
    texts = list(documents[column])
    different = sorted(set(texts))
    if len(different) < 2:
        raise ValueError("only %d different" % len(different))
    random.Random(seed).shuffle(different)
    n = int(validation * len(different) + 0.5)
    if n < 1:
        n = 1
    if n > len(different) - 1:
        n = len(different) - 1
    chosen = set(different[:n])
    train = documents.filter(lambda row: row[column] not in chosen)
    held_out = documents.filter(lambda row: row[column] in chosen)
    return train, held_out


def write_shards(documents, encode, folder, *, end_of_text, prefix="train", shard_tokens=1048576, column="text"):
    if end_of_text < 0 or end_of_text > 65535:
        raise ValueError("end_of_text is %d" % end_of_text)
    if shard_tokens <= 0:
        raise ValueError("shard_tokens is %d" % shard_tokens)
    os.makedirs(folder, exist_ok=True)

    def name_of(n):
        return os.path.join(folder, prefix + "-" + str(n).zfill(5) + ".bin")

    def flush(n, tokens):
        name = name_of(n)
        temporary = os.path.join(folder, "." + prefix + ".tmp")
        try:
            with open(temporary, "wb") as f:
                f.write(to_bytes(tokens))
            os.replace(temporary, name)
        except BaseException:
            os.remove(temporary)
            raise

    count = 0
    current = None
    index = 0
    for document in documents:
        if column not in document:
            raise ValueError("document number %d: no %s" % (index, column))
        tokens = encode(document[column])
        for t in tokens:
            if t == end_of_text or t < 0 or t > 65535:
                raise ValueError("document number %d: the token %d is not allowed" % (index, t))
        if current is None:
            current = [end_of_text]
        elif len(current) + len(tokens) + 1 > shard_tokens:
            flush(count, current)
            count += 1
            current = [end_of_text]
        current.extend(tokens)
        current.append(end_of_text)
        index += 1
    if current is None:
        raise ValueError("documents is empty")
    flush(count, current)
    count += 1
    n = count
    while os.path.exists(name_of(n)):
        os.remove(name_of(n))
        n += 1
    return [name_of(i) for i in range(count)]


def number_of_tokens(path):
    size = os.path.getsize(path)
    if size % 2 == 1:
        raise ValueError("%s has an odd number of bytes" % path)
    return size // 2


def read_tokens(path, start, stop):
    with open(path, "rb") as f:
        f.seek(2 * start)
        return from_bytes(f.read(2 * (stop - start)))


class WindowDataset(Dataset):
    def __init__(self, shards, context_length, *, stride=None):
        if context_length < 1:
            raise ValueError("context_length is %d" % context_length)
        if stride is None:
            stride = context_length
        if stride < 1:
            raise ValueError("stride is %d" % stride)
        self.context_length = context_length
        self.places = []
        for path in shards:
            for start in range(0, number_of_tokens(path) - context_length, stride):
                self.places.append((path, start))
        if not self.places:
            raise ValueError("all shards are shorter than %d tokens" % (context_length + 1))

    def __len__(self):
        return len(self.places)

    def __getitem__(self, i):
        path, start = self.places[i]
        tokens = read_tokens(path, start, start + self.context_length + 1)
        return torch.tensor(tokens[:-1]), torch.tensor(tokens[1:])


class DocumentDataset(Dataset):
    def __init__(self, shards, *, end_of_text, context_length):
        if context_length < 1:
            raise ValueError("context_length is %d" % context_length)
        if len(shards) == 0:
            raise ValueError("no shards")
        self.rows = []
        for path in shards:
            tokens = read_tokens(path, 0, number_of_tokens(path))
            if len(tokens) < 2 or tokens[0] != end_of_text or tokens[-1] != end_of_text:
                raise ValueError("%s is not a shard of documents" % path)
            start = 0
            for i in range(1, len(tokens)):
                if i - start == context_length or tokens[i] == end_of_text:
                    self.rows.append((path, start, i + 1))
                    start = i

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        n = len(self.rows)
        if index >= n or index < -n:
            raise IndexError("there is no row %d of %d" % (index, n))
        return torch.tensor(read_tokens(*self.rows[index]), dtype=torch.long)


def collate_rows(rows):
    if len(rows) == 0:
        raise ValueError("empty batch")
    for i in range(len(rows)):
        if rows[i].ndim != 1 or rows[i].numel() < 2:
            raise ValueError("rows[%d] has shape %s" % (i, tuple(rows[i].shape)))
    T = max([row.numel() for row in rows]) - 1
    x = torch.zeros(len(rows), T, dtype=torch.long)
    y = torch.zeros(len(rows), T, dtype=torch.long) + IGNORED
    for i, row in enumerate(rows):
        n = row.numel() - 1
        x[i, :n] = row[:n]
        y[i, :n] = row[1:]
    return x, y
