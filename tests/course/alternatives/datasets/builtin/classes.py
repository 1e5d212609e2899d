"""A class for each kind of file, fractions counted exactly, tables shuffled and cut, padding by one scatter."""

from __future__ import annotations

import abc
import collections
import fractions as exact
import itertools
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import datasets
import numpy as np
import pyarrow
import pyarrow.parquet
import torch
from datasets import Features, Value
from torch import Tensor
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Subset, TensorDataset


def next_token_pairs(tokens: Tensor, context_length: int) -> TensorDataset:
    if len(tokens.shape) != 1:
        raise ValueError(f"shape {tuple(tokens.shape)} is not that of a text")
    if context_length <= 0:
        raise ValueError(f"{context_length=}")
    count = (tokens.numel() - 1) // context_length
    if count <= 0:
        raise ValueError(f"{tokens.numel()} tokens do not fill a window of {context_length} + 1")
    (step,) = tokens.stride()
    size, strides = (count, context_length), (context_length * step, step)
    offset = tokens.storage_offset()
    return TensorDataset(*(tokens.as_strided(size, strides, offset + shift * step) for shift in (0, 1)))


def split(dataset: Dataset, fractions: Sequence[float], *, seed: int) -> list[Subset]:
    if not np.isclose(np.sum(fractions), 1.0):
        raise ValueError(f"{fractions} make {sum(fractions)}, not 1")
    length = len(dataset)
    # As decimals are meant: 0.29 is 29 hundredths.
    shares = [exact.Fraction(str(fraction)) * length for fraction in fractions]
    sizes = [share.numerator // share.denominator for share in shares]
    order = sorted(enumerate(shares), key=lambda entry: (-(entry[1] % 1), entry[0]))
    for part, _ in order[: length - sum(sizes)]:
        sizes[part] += 1
    empty = [fraction for size, fraction in zip(sizes, fractions) if size < 1]
    if empty:
        raise ValueError(f"{empty[0]} of {length} items is none")
    shuffled = np.random.default_rng(seed).permutation(length).tolist()
    ends = list(itertools.accumulate(sizes))
    return [Subset(dataset, shuffled[end - size : end]) for size, end in zip(sizes, ends)]


def balance(sources: Sequence[Dataset], *, seed: int) -> Subset:
    lengths = list(map(len, sources))
    if not lengths:
        raise ValueError("no sources to balance")
    for number, length in enumerate(lengths):
        if not length:
            raise ValueError(f"nothing in source {number}")
    rng = np.random.default_rng(seed)
    offsets = np.cumsum([0, *lengths])
    drawn = [rng.choice(length, min(lengths), replace=False) + start for length, start in zip(lengths, offsets)]
    return Subset(ConcatDataset(sources), np.concatenate(drawn).tolist())


def origin(dataset: Dataset, index: int) -> tuple[Dataset, int]:
    try:
        place = range(len(dataset))[index]
    except IndexError:
        raise IndexError(f"{index} is not in a dataset of {len(dataset)}") from None
    match dataset:
        case Subset():
            return origin(dataset.dataset, dataset.indices[place])
        case ConcatDataset():
            ends = np.array(dataset.cumulative_sizes)
            number = int((ends <= place).sum())
            return origin(dataset.datasets[number], place - (int(ends[number - 1]) if number else 0))
    return dataset, place


class Reader(abc.ABC):
    """Gives the texts of a file; what is wrong is told with the file's name and the row's number."""

    kinds: ClassVar[dict[str, type[Reader]]] = {}

    def __init_subclass__(cls, suffix: str) -> None:
        Reader.kinds[suffix] = cls

    def __init__(self, name: str) -> None:
        self.name = name

    def wrong(self, row: int, what: str) -> ValueError:
        return ValueError(f"{self.name} (row {row}): {what}")

    def lines(self) -> Iterator[tuple[int, str]]:
        rest = Path(self.name).read_bytes().split(b"\n")
        if not rest[-1]:
            rest.pop()
        for row, line in enumerate(rest, 1):
            try:
                yield row, line.removesuffix(b"\r").decode()
            except UnicodeError as problem:
                raise self.wrong(row, str(problem)) from problem

    @abc.abstractmethod
    def texts(self) -> Iterator[str]: ...

    def documents(self) -> Iterator[dict[str, str]]:
        empty = True
        for text in self.texts():
            empty = False
            yield {"text": text, "source": self.name}
        if empty:
            raise ValueError(f"not one document in {self.name}")


class PlainReader(Reader, suffix=".txt"):
    def texts(self) -> Iterator[str]:
        return (line for _, line in self.lines() if line and not line.isspace())


class JSONReader(Reader, suffix=".jsonl"):
    def texts(self) -> Iterator[str]:
        for row, line in self.lines():
            try:
                entry = json.loads(line)
            except json.JSONDecodeError as problem:
                raise self.wrong(row, f"not JSON, {problem}") from problem
            match entry:
                case {"text": str(text)}:
                    yield text
                case _:
                    raise self.wrong(row, "no text")


class ParquetReader(Reader, suffix=".parquet"):
    def texts(self) -> Iterator[str]:
        try:
            file = pyarrow.parquet.ParquetFile(self.name)
        except pyarrow.ArrowInvalid as problem:
            raise ValueError(f"{self.name} cannot be read as Parquet: {problem}") from problem
        with file:
            if file.metadata.num_rows and "text" not in file.schema.names:
                raise self.wrong(1, "no column text")
            row = 0
            for group in range(file.num_row_groups):
                for scalar in file.read_row_group(group, columns=["text"])["text"]:
                    row += 1
                    if not isinstance(text := scalar.as_py(), str):
                        raise self.wrong(row, f"a string is wanted, not {text!r}")
                    yield text


def documents_of(names: list[str]) -> Iterator[dict[str, str]]:
    for name in names:
        yield from Reader.kinds[Path(name).suffix](name).documents()


def known(paths: Sequence[str | os.PathLike[str]]) -> list[str]:
    names = list(map(os.fspath, paths))
    if not names:
        raise ValueError("give some paths")
    if strange := {Path(name).suffix for name in names} - Reader.kinds.keys():
        raise ValueError(f"no reader for {', '.join(sorted(strange))}")
    return names


def load_documents(
    paths: Sequence[str | os.PathLike[str]], *, cache_dir: str | os.PathLike[str], keep_in_memory: bool = False
) -> datasets.Dataset:
    names = known(paths)
    states = [os.stat(name) for name in names]  # noqa: PTH116
    marks = [f"{state.st_size}-{state.st_mtime_ns}" for state in states]
    try:
        # What is among the arguments is part of the key of the cache.
        return datasets.Dataset.from_generator(
            lambda names, marks: documents_of(names),
            features=Features({"text": Value("string"), "source": Value("string")}),
            gen_kwargs={"names": names, "marks": tuple(marks)},
            cache_dir=os.fspath(cache_dir),
            keep_in_memory=keep_in_memory,
        )
    except datasets.exceptions.DatasetGenerationError as wrapped:
        if isinstance(wrapped.__cause__, ValueError):
            raise ValueError(str(wrapped.__cause__)) from wrapped
        raise


def stream_documents(paths: Sequence[str | os.PathLike[str]]) -> datasets.IterableDataset:
    features = Features({"text": Value("string"), "source": Value("string")})
    return datasets.IterableDataset.from_generator(documents_of, features, gen_kwargs={"names": known(paths)})


def tokenize(documents: Any, encode: Callable[[list[str]], list[list[int]]], *, batch_size: int = 1000) -> Any:
    features = Features({"tokens": datasets.List(Value("int64"))})

    def step(batch: dict[str, list[Any]]) -> dict[str, list[list[int]]]:
        given = list(batch["text"])
        made = [list(row) for row in encode(given)]
        if len(made) - len(given):
            raise ValueError(f"the tokenizer made {len(made)} rows of {len(given)} texts")
        return {"tokens": made}

    only = documents.select_columns(["text"])
    return only.map(step, batched=True, batch_size=batch_size, remove_columns=["text"], features=features)


def drop_short(tokenized: Any, minimum: int) -> Any:
    def long_enough(batch: dict[str, list[Any]]) -> list[bool]:
        return [len(row) >= minimum for row in batch["tokens"]]

    return tokenized.filter(long_enough, batched=True)


def hold_out(dataset: datasets.Dataset, share: float, *, seed: int) -> tuple[datasets.Dataset, datasets.Dataset]:
    rows = dataset.num_rows
    aside = round(rows * share) if 0.0 < share < 1.0 else -1
    if aside not in range(1, rows):
        raise ValueError(f"{share=} of {rows} rows cannot be held out")
    mixed = dataset.shuffle(seed=seed)
    return mixed.skip(aside), mixed.take(aside)


class TokenRows(Dataset):
    def __init__(self, table: datasets.Dataset) -> None:
        self.column = table.select_columns(["tokens"]).with_format("numpy")

    def __len__(self) -> int:
        return len(self.column)

    def __getitem__(self, index: int) -> Tensor:
        return torch.as_tensor(np.array(self.column[index]["tokens"], dtype=np.int64))


Batch = collections.namedtuple("Batch", ["tokens", "mask"])


def padded_loader(
    tokenized: datasets.Dataset, batch_size: int, *, padding: int = 0, shuffle: bool = False, seed: int = 0
) -> DataLoader:
    def collate(rows: Iterable[Tensor]) -> Batch:
        rows = list(rows)
        lengths = torch.tensor([row.numel() for row in rows])
        mask = torch.arange(int(lengths.max()))[None] < lengths[:, None]
        return Batch(torch.full(mask.shape, padding).masked_scatter(mask, torch.cat(rows)), mask)

    own = torch.Generator()
    own.manual_seed(seed)
    return DataLoader(TokenRows(tokenized), batch_size, shuffle=shuffle, generator=own, collate_fn=collate)
