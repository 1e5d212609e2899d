"""Loops and lists without type hints: rows padded one by one, Python's own random to shuffle."""

import collections
import random

import torch
from torch.utils.data import DataLoader, default_collate

from .interface import SequenceDataset

PaddedBatch = collections.namedtuple("PaddedBatch", "tokens lengths mask")


def pad_collate(sequences, padding=0):
    if len(sequences) == 0:
        raise ValueError("cannot pad an empty list")
    kind = sequences[0].dtype
    longest = 0
    for i in range(len(sequences)):
        shape = list(sequences[i].shape)
        if len(shape) != 1:
            raise ValueError("element %d: expected one axis, but the shape is %s" % (i, shape))
        if sequences[i].dtype != kind:
            raise ValueError("element %d: dtype %s differs from %s" % (i, sequences[i].dtype, kind))
        longest = max(longest, shape[0])
    tokens = torch.zeros(len(sequences), longest, dtype=kind)
    lengths = torch.zeros(len(sequences), dtype=torch.long)
    mask = torch.zeros(len(sequences), longest, dtype=torch.bool)
    for i in range(len(sequences)):
        n = sequences[i].shape[0]
        tokens[i, :n] = sequences[i]
        tokens[i, n:] = padding
        lengths[i] = n
        mask[i, :n] = True
    return PaddedBatch(tokens, lengths, mask)


class SeededSampler(torch.utils.data.Sampler):
    def __init__(self, length, seed=0, shuffle=True):
        if length < 0:
            raise ValueError("a negative length: %d" % length)
        if seed < 0:
            raise ValueError("a negative seed: %d" % seed)
        self.n = length
        self.seed = seed
        self.shuffle = shuffle
        self.epoch = 0

    def __len__(self):
        return self.n

    def __iter__(self):
        numbers = list(range(self.n))
        now = self.epoch
        self.epoch = now + 1
        if self.shuffle:
            random.Random("%d, %d" % (self.seed, now)).shuffle(numbers)
        for number in numbers:
            yield number


class BatchLoader:
    def __init__(self, dataset, batch_size, shuffle=False, seed=0, drop_last=False, collate=default_collate):
        if batch_size < 1:
            raise ValueError("batch_size is %d, but a batch holds at least one item" % batch_size)
        self.items = SequenceDataset(dataset)
        self.size = batch_size
        self.order = SeededSampler(len(dataset), seed, shuffle)
        self.drop_last = drop_last
        self.collate = collate

    @property
    def epoch(self):
        return self.order.epoch

    @epoch.setter
    def epoch(self, value):
        self.order.epoch = value

    def __len__(self):
        n = len(self.items) // self.size
        if not self.drop_last and len(self.items) > n * self.size:
            n += 1
        return n

    def __iter__(self):
        batch = []
        for number in self.order:
            batch.append(self.items[number])
            if len(batch) == self.size:
                yield self.collate(batch)
                batch = []
        if batch and not self.drop_last:
            yield self.collate(batch)


def make_data_loader(
    dataset, batch_size, shuffle=False, seed=0, drop_last=False, collate=default_collate, num_workers=0
):
    generator = torch.Generator()
    order = SeededSampler(len(dataset), seed, shuffle)
    if num_workers > 0:
        extra = {"num_workers": num_workers, "persistent_workers": True}
    else:
        extra = {}
    return DataLoader(
        SequenceDataset(dataset),
        batch_size=batch_size,
        sampler=order,
        drop_last=drop_last,
        collate_fn=collate,
        generator=generator,
        **extra,
    )
