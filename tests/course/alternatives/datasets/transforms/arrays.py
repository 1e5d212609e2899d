"""NumPy statistics, dataclasses, functools.reduce, and Python's own random for what is drawn."""

from __future__ import annotations

import functools
import random
from dataclasses import dataclass, field
from typing import Any, Callable, Iterable, Mapping

import numpy as np
import torch
from torch import Tensor
from torch.utils import data as loading


def name_of(thing: Any) -> str:
    return getattr(thing, "__qualname__", None) or type(thing).__qualname__


class Compose:
    def __init__(self, transforms: Iterable[Callable[[Any], Any]]) -> None:
        self._chain = [*transforms]

    def __call__(self, item: Any) -> Any:
        return functools.reduce(lambda value, transform: transform(value), self._chain, item)

    def inverse(self, item: Any) -> Any:
        undoing = []
        for transform in self._chain:
            try:
                undoing.insert(0, transform.inverse)
            except AttributeError:
                raise TypeError(f"{name_of(transform)}: no way back") from None
        return functools.reduce(lambda value, undo: undo(value), undoing, item)


@dataclass
class Standardize:
    mean: Tensor
    std: Tensor

    def __post_init__(self) -> None:
        shapes = [list(self.mean.shape), list(self.std.shape)]
        if len(shapes[0]) != 1 or shapes[0] != shapes[1]:
            raise ValueError(f"mean {shapes[0]}, std {shapes[1]}: one number a feature is wanted of each")
        wrong = self.std[~(self.std > 0)]
        if wrong.numel():
            raise ValueError(f"every std must be positive, unlike {wrong[0].item()}")

    @classmethod
    def fit(cls, data: Tensor) -> Standardize:
        if data.ndim == 1 or data.ndim == 0 or data.numel() == 0:
            raise ValueError(f"cannot fit to a tensor of shape {list(data.shape)}")
        table = data.detach().cpu().numpy().reshape(-1, data.shape[-1])
        for feature, good in enumerate(np.isfinite(table).all(axis=0)):
            if not good:
                raise ValueError(f"not a finite number everywhere: feature {feature}")
        spread = np.where(np.ptp(table, axis=0) > 0, table.std(axis=0, dtype=np.float64), 1.0)
        return cls(*(torch.tensor(each, dtype=data.dtype) for each in (table.mean(axis=0, dtype=np.float64), spread)))

    def _like(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if list(x.shape[-1:]) != [len(self.mean)]:
            raise ValueError(f"{len(self.mean)} features were fitted, and x is {list(x.shape)}")
        return self.mean.type_as(x), self.std.type_as(x)

    def __call__(self, x: Tensor) -> Tensor:
        mean, std = self._like(x)
        return x.sub(mean).div(std)

    def inverse(self, x: Tensor) -> Tensor:
        mean, std = self._like(x)
        return torch.addcmul(mean, x, std)


def standardize_splits(splits: Mapping[str, Tensor], *, fit_on: str = "train") -> tuple[dict[str, Tensor], Standardize]:
    if not splits.keys() & {fit_on}:
        raise ValueError(f"{fit_on} is not among the splits {sorted(splits)}")
    fitted = Standardize.fit(splits[fit_on])
    return dict(zip(splits, map(fitted, splits.values()))), fitted


@dataclass
class Dice:
    """Python's generator, made of the transform's own seed and, in a worker, of the worker's."""

    key: str
    rolled: dict[str, random.Random] = field(default_factory=dict)

    @classmethod
    def of(cls, generator: torch.Generator) -> Dice:
        return cls(str(torch.empty((), dtype=torch.int64).random_(generator=generator).item()))

    def here(self) -> random.Random:
        worker = loading.get_worker_info()
        key = self.key if worker is None else f"{self.key}:{worker.seed}"
        return self.rolled.setdefault(key, random.Random(key))


class AddNoise:
    def __init__(self, std: float, generator: torch.Generator) -> None:
        if not (std >= 0 and std < float("inf")):
            raise ValueError(f"{std=}")
        self.std, self.dice = std, Dice.of(generator)

    def __call__(self, x: Tensor) -> Tensor:
        if not x.dtype.is_floating_point:
            raise TypeError(f"{x.dtype} is no floating dtype")
        gauss = self.dice.here().gauss
        noise = [gauss(0.0, self.std) for _ in range(x.numel())]
        return x + torch.tensor(noise, dtype=x.dtype).reshape(x.shape)


class RandomCrop:
    def __init__(self, length: int, generator: torch.Generator) -> None:
        if length < 1:
            raise ValueError(f"{length=}")
        self.length, self.dice = length, Dice.of(generator)

    def __call__(self, x: Tensor) -> Tensor:
        if len(x) < self.length:
            raise ValueError(f"{len(x)} are fewer than {self.length}")
        first = self.dice.here().randint(0, len(x) - self.length)
        return x[torch.arange(first, first + self.length)]
