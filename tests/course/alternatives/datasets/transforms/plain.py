"""Formulas written out, without type hints: torch's generators, seeded by a hash where they are used."""

import hashlib

import torch
from torch.utils.data import get_worker_info


class Compose:
    def __init__(self, transforms):
        self.steps = list(transforms)

    def __call__(self, item):
        result = item
        for step in self.steps:
            result = step(result)
        return result

    def inverse(self, item):
        for i in range(len(self.steps) - 1, -1, -1):
            step = self.steps[i]
            if not hasattr(step, "inverse"):
                if hasattr(step, "__name__"):
                    name = step.__name__
                else:
                    name = step.__class__.__name__
                raise TypeError("cannot undo " + name)
            item = step.inverse(item)
        return item


class Standardize:
    def __init__(self, mean, std):
        if mean.ndim != 1 or std.ndim != 1 or len(mean) != len(std):
            raise ValueError("shapes %s and %s do not go together" % (mean.shape, std.shape))
        for number in std.tolist():
            if not number > 0:
                raise ValueError("a std of %r is not positive" % number)
        self.mean = mean
        self.std = std

    @staticmethod
    def fit(data):
        if data.ndim < 2 or 0 in data.shape:
            raise ValueError("no rows of features in data of shape %s" % (data.shape,))
        features = data.shape[-1]
        mean = torch.zeros(features, dtype=data.dtype)
        std = torch.ones(features, dtype=data.dtype)
        for j in range(features):
            column = data[..., j].reshape(-1).double()
            if torch.isnan(column).any() or torch.isinf(column).any():
                raise ValueError("feature %d is not finite everywhere" % j)
            average = column.sum() / len(column)
            mean[j] = average
            if (column != column[0]).any():
                std[j] = (((column - average) ** 2).sum() / len(column)) ** 0.5
        return Standardize(mean, std)

    def check(self, x):
        if x.ndim == 0 or x.shape[-1] != len(self.mean):
            raise ValueError("shape %s, but there are %d features" % (tuple(x.shape), len(self.mean)))

    def __call__(self, x):
        self.check(x)
        return ((x - self.mean) / self.std).to(x.dtype)

    def inverse(self, x):
        self.check(x)
        return (x * self.std + self.mean).to(x.dtype)


def standardize_splits(splits, fit_on="train"):
    try:
        training = splits[fit_on]
    except KeyError:
        raise ValueError("no split named %s among %s" % (fit_on, list(splits)))
    transform = Standardize.fit(training)
    result = {}
    for name in splits:
        result[name] = transform(splits[name])
    return result, transform


class Random:
    def __init__(self, generator):
        # Two numbers of 31 bits: the generator has moved on when the next transform asks.
        self.numbers = torch.randint(2**31, (2,), generator=generator).tolist()
        self.calls = 0

    def fresh(self):
        """A generator for one call only."""
        self.calls += 1
        words = self.numbers + [self.calls]
        worker = get_worker_info()
        if worker is not None:
            words.append(worker.seed)
        digest = hashlib.blake2b(repr(words).encode(), digest_size=4).digest()
        return torch.Generator().manual_seed(int.from_bytes(digest, "big"))


class AddNoise(Random):
    def __init__(self, std, generator):
        if std < 0 or std != std or std == float("inf"):
            raise ValueError("std = %s makes no sense" % std)
        super().__init__(generator)
        self.std = std

    def __call__(self, x):
        if not torch.is_floating_point(x):
            raise TypeError("cannot add noise to %s" % x.dtype)
        return x + torch.normal(0.0, 1.0, x.shape, generator=self.fresh()).to(x.dtype) * self.std


class RandomCrop(Random):
    def __init__(self, length, generator):
        if length <= 0:
            raise ValueError("length = %d makes no sense" % length)
        super().__init__(generator)
        self.length = length

    def __call__(self, x):
        places = x.shape[0] - self.length + 1
        if places < 1:
            raise ValueError("cannot cut %d out of %d" % (self.length, x.shape[0]))
        start = torch.randint(0, places, (1,), generator=self.fresh()).item()
        return x.narrow(0, start, self.length)
