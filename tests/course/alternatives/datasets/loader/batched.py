"""An iterator class for a pass, orders sorted by hashed keys, padding by F.pad, a DataLoader subclassed."""

from __future__ import annotations

import hashlib
import itertools
import typing
from collections.abc import Callable, Iterable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, default_collate

from .interface import Items, SequenceDataset

Collate = Callable[[list[typing.Any]], typing.Any]


class PaddedBatch(typing.NamedTuple):
    tokens: Tensor
    lengths: Tensor
    mask: Tensor


def pad_collate(sequences: typing.Sequence[Tensor], *, padding: int = 0) -> PaddedBatch:
    if not len(sequences):
        raise ValueError("nothing to pad")
    head = sequences[0]
    for place, each in enumerate(sequences):
        if each.ndim != 1:
            raise ValueError(f"number {place} has shape {each.shape}, which is no sequence")
        if each.dtype is not head.dtype:
            raise ValueError(f"number {place} is {each.dtype}, unlike the first, {head.dtype}")
    sizes = [each.numel() for each in sequences]
    tokens = torch.stack([F.pad(each, (0, max(sizes) - size), value=padding) for each, size in zip(sequences, sizes)])
    ones = [torch.ones(size, dtype=torch.bool) for size in sizes]
    mask = torch.stack([F.pad(each, (0, max(sizes) - size), value=False) for each, size in zip(ones, sizes)])
    return PaddedBatch(tokens, mask.sum(dim=1), mask)


def at_least(name: str, value: int, least: int) -> int:
    if value < least:
        raise ValueError(f"{name}={value} is less than {least}")
    return value


class SeededSampler:
    def __init__(self, length: int, *, seed: int = 0, shuffle: bool = True) -> None:
        self.length, self.seed = at_least("length", length, 0), at_least("seed", seed, 0)
        self.shuffle = shuffle
        self.epoch = 0

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[int]:
        epoch, self.epoch = self.epoch, self.epoch + 1
        return iter(sorted(range(self.length), key=lambda number: self._key(epoch, number)))

    def _key(self, epoch: int, number: int) -> bytes:
        if not self.shuffle:
            return number.to_bytes(8, "big")
        return hashlib.sha256(f"{self.seed}/{epoch}/{number}".encode()).digest()


class Pass:
    """One pass over a loader's batches."""

    def __init__(self, loader: BatchLoader, order: Iterable[int]) -> None:
        self.loader = loader
        self.order = iter(order)
        self.left = len(loader)

    def __iter__(self) -> Pass:
        return self

    def __next__(self) -> typing.Any:
        if not self.left:
            raise StopIteration
        self.left -= 1
        numbers = itertools.islice(self.order, self.loader.batch_size)
        return self.loader.collate(list(map(self.loader.items.__getitem__, numbers)))


class BatchLoader:
    def __init__(
        self,
        dataset: Items,
        batch_size: int,
        *,
        shuffle: bool = False,
        seed: int = 0,
        drop_last: bool = False,
        collate: Collate = default_collate,
    ) -> None:
        self.items = dataset if isinstance(dataset, SequenceDataset) else SequenceDataset(dataset)
        self.batch_size = at_least("batch_size", batch_size, 1)
        self.seed, self.shuffle = at_least("seed", seed, 0), shuffle
        self.rest_counts = not drop_last
        self.collate = collate
        self.epoch = 0

    def __len__(self) -> int:
        added = self.batch_size - 1 if self.rest_counts else 0
        return (len(self.items) + added) // self.batch_size

    def __iter__(self) -> Pass:
        sampler = SeededSampler(len(self.items), seed=self.seed, shuffle=self.shuffle)
        sampler.epoch = self.epoch
        self.epoch += 1
        return Pass(self, sampler)


class SeededDataLoader(DataLoader):
    def __init__(self, items: SequenceDataset, size: int, sampler: SeededSampler, **options: typing.Any) -> None:
        own = torch.Generator()
        own.manual_seed(sampler.seed)
        super().__init__(items, size, sampler=sampler, generator=own, **options)


def make_data_loader(
    dataset: Items,
    batch_size: int,
    *,
    shuffle: bool = False,
    seed: int = 0,
    drop_last: bool = False,
    collate: Collate = default_collate,
    num_workers: int = 0,
) -> DataLoader:
    loader = BatchLoader(dataset, batch_size, seed=seed)  # for its checks
    return SeededDataLoader(
        loader.items,
        batch_size,
        SeededSampler(len(dataset), seed=seed, shuffle=shuffle),
        drop_last=drop_last,
        collate_fn=collate,
        num_workers=num_workers,
        persistent_workers=bool(num_workers),
    )
