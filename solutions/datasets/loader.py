"""From a dataset to batches: in which order the items come, and how several become one.

A loader takes three decisions, each of which is a piece of its own: a *sampler* puts the items' numbers in order, the
loader cuts that order into batches, and a *collate* function makes one batch of several items. An *epoch* is one pass
over the whole dataset.

Symbols: N items in the dataset, B items in a batch (`batch_size`), T the length of the longest sequence of a batch.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler, default_collate

from .interface import Items, SequenceDataset


class PaddedBatch(NamedTuple):
    """Sequences of different lengths in one rectangle, with what tells their tokens from the padding behind them."""

    tokens: Tensor  # (B, T)
    lengths: Tensor  # (B,) int64
    mask: Tensor  # (B, T) bool, True where a token is real


def pad_collate(sequences: Sequence[Tensor], *, padding: int = 0) -> PaddedBatch:
    """Make one batch of sequences of different lengths: each at the left, padding behind it.

    Args:
        sequences: at least one tensor (T_i,), all of one dtype; some may have length 0.
        padding: what is written behind them; real tokens may have the same value.

    Returns:
        The batch: `tokens` (B, T) of the sequences' dtype, where T is the greatest of their lengths; `lengths` (B,)
        int64, without the padding; `mask` (B, T) bool, True where a token is real.

    Raises:
        ValueError: there is no sequence at all; or one has not exactly one axis, or another dtype than the first has.
            The message names its place in the batch, from 0, and its shape or dtype.

    Example:
        >>> batch = pad_collate([torch.tensor([5, 6, 7]), torch.tensor([8])])
        >>> batch.tokens
        tensor([[5, 6, 7],
                [8, 0, 0]])
        >>> batch.lengths
        tensor([3, 1])
    """
    if not sequences:
        raise ValueError("a batch needs at least one sequence, got none")
    for place, sequence in enumerate(sequences):
        if sequence.dim() != 1:
            raise ValueError(f"sequence {place} must have one axis, got shape {tuple(sequence.shape)}")
        if sequence.dtype != sequences[0].dtype:
            raise ValueError(f"sequence {place} has dtype {sequence.dtype}, sequence 0 has {sequences[0].dtype}")
    lengths = torch.tensor([len(sequence) for sequence in sequences])
    mask = torch.arange(int(lengths.max())) < lengths[:, None]  # (B, T)
    tokens = torch.full(mask.shape, padding, dtype=sequences[0].dtype)
    tokens[mask] = torch.cat(list(sequences))  # row by row, which is the order in which they lie in the cat
    return PaddedBatch(tokens, lengths, mask)


class SeededSampler(Sampler[int]):
    """The numbers 0 to N - 1, each once, in an order that seed and epoch decide.

    Each pass is an epoch of its own. Its order depends on `length`, `seed` and the epoch's number alone, so that it can
    be had again, and any two pairs of seed and epoch have unrelated orders. That goes for epoch 1 of seed 0 and epoch 0
    of seed 1 too, which ``seed + epoch`` would make the same. Every order is as likely as any other. torch's global
    generator is neither drawn from nor set.

    Attributes:
        epoch: the number of the next pass. It starts at 0, and each pass raises it by one as it begins, also a pass
            that is broken off later. Set it to go on from where an earlier run stopped.

    Args:
        length: N, at least 0.
        seed: a whole number, at least 0.
        shuffle: whether the order is random; it is 0, 1, 2 ... if not.

    Raises:
        ValueError: `length` or `seed` is negative; the message names which, and its value.

    Example:
        >>> sampler = SeededSampler(3, shuffle=False)
        >>> list(sampler), list(sampler), sampler.epoch
        ([0, 1, 2], [0, 1, 2], 2)
    """

    epoch: int

    def __init__(self, length: int, *, seed: int = 0, shuffle: bool = True) -> None:
        for name, value in (("length", length), ("seed", seed)):
            if value < 0:
                raise ValueError(f"{name} must be at least 0, got {value}")
        self.length = length
        self.seed = seed
        self.shuffle = shuffle
        self.epoch = 0

    def __len__(self) -> int:
        """N."""
        return self.length

    def __iter__(self) -> Iterator[int]:
        """Begin the next pass.

        Yields:
            The numbers, as Python's ints.
        """
        epoch = self.epoch
        self.epoch += 1
        if not self.shuffle:
            return iter(range(self.length))
        # A torch.Generator looks at 32 bits of its seed. SeedSequence stirs both numbers into them; a sum, or a shift
        # of one of them, would make pairs alike. So would [seed, epoch]: it is strung together from words of 32 bits.
        (mixed,) = np.random.SeedSequence(self.seed, spawn_key=(epoch,)).generate_state(1).tolist()
        generator = torch.Generator().manual_seed(mixed)
        return iter(torch.randperm(self.length, generator=generator).tolist())


class BatchLoader:
    """Batches of a map-style dataset, made in this process: what a `DataLoader` does at heart.

    A loop over it is a pass over the dataset: the items in the order that a `SeededSampler` of N, `seed` and `shuffle`
    gives, cut into batches of B. Where B does not divide N, the last batch is smaller, or left out.

    Attributes:
        epoch: as that of `SeededSampler`.

    Args:
        dataset: N items, with a length and numbers from 0 to N - 1.
        batch_size: B, at least 1.
        shuffle: whether the order is random, and another one in each epoch.
        seed: what decides the order, if it is random.
        drop_last: whether a last batch of fewer than B items is left out.
        collate: makes a batch of a list of items. The default stacks tensors and numbers along a new first axis, also
            those in tuples and dictionaries.

    Raises:
        ValueError: `batch_size` is below 1, or `seed` is negative; the message names which, and its value.

    Example:
        >>> loader = BatchLoader([10, 20, 30], 2)
        >>> len(loader), list(loader)
        (2, [tensor([10, 20]), tensor([30])])
    """

    epoch: int

    def __init__(
        self,
        dataset: Items,
        batch_size: int,
        *,
        shuffle: bool = False,
        seed: int = 0,
        drop_last: bool = False,
        collate: Callable[[list[Any]], Any] = default_collate,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        self.dataset = SequenceDataset(dataset)  # whose errors say which item it was
        self.batch_size = batch_size
        self.drop_last = drop_last
        self.collate = collate
        self.sampler = SeededSampler(len(dataset), seed=seed, shuffle=shuffle)
        self.epoch = 0

    def __len__(self) -> int:
        """How many batches a pass gives."""
        whole, rest = divmod(len(self.sampler), self.batch_size)
        return whole if self.drop_last or not rest else whole + 1

    def __iter__(self) -> Iterator[Any]:
        """Begin the next pass.

        Yields:
            The batches, as `collate` makes them. The items of a batch are asked for when it is.

        Raises:
            RuntimeError: the dataset raised an exception; the message names the item's number and holds the
                exception's type and message, as that of a `SequenceDataset` does.
        """
        self.sampler.epoch = self.epoch
        self.epoch += 1
        order = list(self.sampler)
        for start in range(0, len(self) * self.batch_size, self.batch_size):
            yield self.collate([self.dataset[number] for number in order[start : start + self.batch_size]])


def make_data_loader(
    dataset: Items,
    batch_size: int,
    *,
    shuffle: bool = False,
    seed: int = 0,
    drop_last: bool = False,
    collate: Callable[[list[Any]], Any] = default_collate,
    num_workers: int = 0,
) -> DataLoader[Any]:
    """Set up torch's own `DataLoader` to give the batches of a `BatchLoader`, fetched by worker processes.

    Args:
        dataset: as of `BatchLoader`; workers get a copy by fork or by pickle.
        batch_size: as of `BatchLoader`.
        shuffle: as of `BatchLoader`.
        seed: as of `BatchLoader`.
        drop_last: as of `BatchLoader`.
        collate: as of `BatchLoader`; called in the workers.
        num_workers: how many processes fetch items and collate them; 0 does both in this one. Workers stay from one
            pass to the next.

    Returns:
        The loader, whose batches are in every epoch those of the `BatchLoader` of the same arguments, in the same
        order. Its `sampler` is a `SeededSampler`, whose `epoch` counts the passes and may be set. Nothing is drawn from
        torch's global generator.

        A loop over it raises what `BatchLoader` does: a RuntimeError that names the item's number, also where the
        exception was raised in a worker.

    Raises:
        ValueError: as `BatchLoader`.

    Example:
        >>> list(make_data_loader([10, 20, 30], 2, drop_last=True))
        [tensor([10, 20])]
    """
    return DataLoader(
        SequenceDataset(dataset),
        batch_size,
        sampler=SeededSampler(len(dataset), seed=seed, shuffle=shuffle),
        num_workers=num_workers,
        collate_fn=collate,
        drop_last=drop_last,
        # Else each pass would draw the workers' seed from the global generator, whatever it is needed for elsewhere.
        generator=torch.Generator().manual_seed(seed),
        # Else each epoch would start its workers anew: seconds each, where processes are not forked.
        persistent_workers=num_workers > 0,
    )
