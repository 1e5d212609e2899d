"""Transforms: what is done to the items of a dataset on their way into a batch.

A transform is anything that can be called with an item and gives a new one. Those here are classes that keep their
settings as attributes, so that they can be pickled into the worker processes of a DataLoader; a lambda cannot.

Random transforms (`AddNoise`, `RandomCrop`) draw fresh numbers in each call, and nothing from torch's global generator:
what they draw is decided by the `torch.Generator` that they are made with, and by its seed if it is new. A DataLoader
gives each of its workers a copy of the dataset, and so of the transforms. Therefore what they draw in a worker process
is decided by the worker's seed besides (`torch.utils.data.get_worker_info().seed`), which the DataLoader draws anew for
each epoch. It follows that

- two workers draw other numbers, and so do two epochs;
- a DataLoader whose own generator has the same seed makes the same batches again;
- transforms made with generators of different seeds draw other numbers;
- so do transforms made with one and the same generator, in a worker as well.

Symbols: N rows of data, F features, T the length of a sequence.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy
import torch
from torch import Tensor
from torch.utils.data import get_worker_info


class Compose:
    """Apply transforms one after the other, the first first.

    Args:
        transforms: callables of one argument; each gets what the one before it gave. None of them leaves an item as
            it is.

    Example:
        >>> Compose([torch.exp, torch.neg])(torch.zeros(2))
        tensor([-1., -1.])
    """

    def __init__(self, transforms: Iterable[Callable[[Any], Any]]) -> None:
        self.transforms = tuple(transforms)

    def __call__(self, item: Any) -> Any:
        """Transform an item."""
        for transform in self.transforms:
            item = transform(item)
        return item

    def inverse(self, item: Any) -> Any:
        """Undo it: apply the method `inverse` of each transform, the last transform's first.

        Raises:
            TypeError: a transform has no such method; the message names the transform, by the name of the function
                or of the class.
        """
        for transform in reversed(self.transforms):
            undo = getattr(transform, "inverse", None)
            if undo is None:
                raise TypeError(f"{getattr(transform, '__name__', type(transform).__name__)} has no inverse")
            item = undo(item)
        return item


class Standardize:
    """Bring each feature to mean 0 and standard deviation 1: (x - mean) / std.

    Made by `fit` from training data, or from numbers known already. Features stand on the last axis.

    Args:
        mean: of each feature (F,).
        std: of each feature (F,), all above 0.

    Attributes:
        mean: as given.
        std: as given.

    Raises:
        ValueError: `mean` has not one axis, or `std` has another shape, or holds a number that is not above 0; the
            message gives both shapes, or the number.

    Example:
        >>> standardize = Standardize.fit(torch.tensor([[1.0, 7.0], [3.0, 7.0]]))
        >>> standardize.mean, standardize.std
        (tensor([2., 7.]), tensor([1., 1.]))
        >>> standardize(torch.tensor([5.0, 8.0]))
        tensor([3., 1.])
    """

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        if mean.dim() != 1 or mean.shape != std.shape:
            raise ValueError(f"mean and std must both be (F,), got {tuple(mean.shape)} and {tuple(std.shape)}")
        if not bool((std > 0).all()):
            raise ValueError(f"std must be above 0, got {float(std.min())}")
        self.mean = mean
        self.std = std

    @classmethod
    def fit(cls, data: Tensor) -> "Standardize":
        """Take the mean and the standard deviation of each feature.

        The standard deviation is that of the data themselves, not an estimate for those that they were drawn from:
        the mean square distance is over N, not over N - 1. So the data come out with a variance of exactly 1.

        Args:
            data: training data (..., F), of a floating dtype; all axes but the last count rows. Never give it data
                for validation or test: what they are like must not be known when a model is trained.

        Returns:
            A transform of the mean and std found, in the dtype of the data. A feature that is the same number in every
            row has a std of 1: it comes out as 0, up to the rounding of its mean.

        Raises:
            ValueError: `data` has fewer than two axes or no number; the message gives its shape. Or a number is not
                finite; the message names its feature, counted from 0, as in "feature 2".
        """
        if data.dim() < 2 or not data.numel():
            raise ValueError(f"data must be (..., F) with at least one row, got shape {tuple(data.shape)}")
        rows = data.flatten(end_dim=-2)  # (N, F)
        finite = rows.isfinite().all(dim=0)
        if not finite.all():
            raise ValueError(f"feature {finite.tolist().index(False)} holds a number that is not finite")
        std, mean = torch.std_mean(rows, dim=0, correction=0)
        # Not `std == 0`: a mean that had to be rounded may leave the equal numbers a deviation of 1e-8, and divided by
        # that they would be noise.
        constant = rows.amin(dim=0) == rows.amax(dim=0)
        return cls(mean, std.masked_fill(constant, 1.0))

    def __call__(self, x: Tensor) -> Tensor:
        """Standardize.

        Args:
            x: (..., F), of a floating dtype.

        Returns:
            (..., F), of the dtype of `x`.

        Raises:
            ValueError: the last axis of `x` is not of size F; the message gives its shape, and F.
        """
        mean, std = self._fitting(x)
        return (x - mean) / std

    def inverse(self, x: Tensor) -> Tensor:
        """Give the features their mean and standard deviation back: x * std + mean. Shapes and errors as above."""
        mean, std = self._fitting(x)
        return x * std + mean

    def _fitting(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if x.shape[-1:] != self.mean.shape:
            raise ValueError(f"x must be (..., {len(self.mean)}), got shape {tuple(x.shape)}")
        return self.mean.to(x), self.std.to(x)


def standardize_splits(splits: Mapping[str, Tensor], *, fit_on: str = "train") -> tuple[dict[str, Tensor], Standardize]:
    """Standardize all splits of a data set by what one of them is like.

    Args:
        splits: tensors (..., F) by name: "train", "validation" and so on.
        fit_on: the name of the split to which the transform is fitted, and the only one.

    Returns:
        The splits, standardized, by the same names; and the transform.

    Raises:
        ValueError: there is no split of the name `fit_on`; the message gives it and the names that there are.

    Example:
        >>> splits, _ = standardize_splits({"train": torch.tensor([[1.0], [3.0]]), "test": torch.tensor([[4.0]])})
        >>> splits["test"]
        tensor([[2.]])
    """
    if fit_on not in splits:
        raise ValueError(f"there is no split {fit_on!r} to fit on, only {', '.join(splits)}")
    standardize = Standardize.fit(splits[fit_on])
    return {name: standardize(data) for name, data in splits.items()}, standardize


class AddNoise:
    """Add normal noise to an item: fresh numbers in each call, one for each element.

    The module's docstring says what is drawn in the worker processes of a DataLoader.

    Args:
        std: standard deviation of the noise, at least 0.
        generator: decides what noise is drawn.

    Raises:
        ValueError: `std` is negative or not finite; the message names it and its value.

    Example:
        >>> AddNoise(0.0, torch.Generator().manual_seed(1))(torch.ones(2))
        tensor([1., 1.])
    """

    def __init__(self, std: float, generator: torch.Generator) -> None:
        if not 0.0 <= std < math.inf:
            raise ValueError(f"std must be at least 0 and finite, got {std}")
        self.std = std
        self._source = _Source(generator)

    def __call__(self, x: Tensor) -> Tensor:
        """Add noise.

        Args:
            x: of any shape, of a floating dtype.

        Returns:
            A new tensor of the shape and dtype of `x`.

        Raises:
            TypeError: `x` is not of a floating dtype; the message names the dtype.
        """
        if not x.is_floating_point():
            raise TypeError(f"noise can be added to floating numbers, not to {x.dtype}")
        noise = self._source.generator().standard_normal(x.shape)
        return x + self.std * torch.as_tensor(noise, dtype=x.dtype, device=x.device)


class RandomCrop:
    """Cut a stretch out of a sequence, at a place drawn anew in each call; every place is equally likely.

    The module's docstring says what is drawn in the worker processes of a DataLoader.

    Args:
        length: length L of the stretch, at least 1.
        generator: decides which places are drawn.

    Raises:
        ValueError: `length` is less than 1; the message names it and its value.

    Example:
        >>> RandomCrop(3, torch.Generator().manual_seed(1))(torch.arange(3))
        tensor([0, 1, 2])
    """

    def __init__(self, length: int, generator: torch.Generator) -> None:
        if length < 1:
            raise ValueError(f"length must be at least 1, got {length}")
        self.length = length
        self._source = _Source(generator)

    def __call__(self, x: Tensor) -> Tensor:
        """Crop.

        Args:
            x: (T, ...), of any dtype.

        Returns:
            (L, ...): L neighbours of `x` along its first axis, beginning anywhere from 0 to T - L.

        Raises:
            ValueError: `x` is shorter than L; the message gives both lengths.
        """
        last = len(x) - self.length
        if last < 0:
            raise ValueError(f"a crop of length {self.length} does not fit into a sequence of length {len(x)}")
        start = self._source.generator().integers(last + 1)
        return x[start : start + self.length]


class _Source:
    """What a transform draws from: a generator of numpy's, made anew in each process.

    Each source draws its seed from the generator that it is given, so that those that are given one do not draw the
    same. A generator of torch's could not be sent to every process: where these are started afresh, torch would send
    its state as shared memory that is gone by the time it is opened.
    """

    def __init__(self, generator: torch.Generator) -> None:
        self._seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
        self._seeds: tuple[int, ...] = ()  # that the generator was made of

    def generator(self) -> numpy.random.Generator:
        """The generator of this process; another one for each worker."""
        worker = get_worker_info()
        seeds = (self._seed,) if worker is None else (self._seed, worker.seed)
        if seeds != self._seeds:  # a worker's copy may hold the generator of the process that it comes from
            # Mixed and not added: the seeds of workers follow each other.
            self._seeds, self._generator = seeds, numpy.random.default_rng(seeds)
        return self._generator
