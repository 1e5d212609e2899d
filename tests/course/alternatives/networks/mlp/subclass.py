"""Inheritance: linear layers that fill themselves, in an nn.Sequential; modules as activations; drawn in float64."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn


def he_normal_(
    weight: torch.Tensor, negative_slope: float = 0.0, *, generator: torch.Generator | None = None
) -> torch.Tensor:
    _rows, columns = _matrix(weight)
    variance = torch.tensor(2.0, dtype=torch.float64) / columns / (1 + negative_slope**2)
    drawn = torch.empty(weight.shape, dtype=torch.float64).normal_(generator=generator)
    return _put(weight, drawn.mul(variance.sqrt()))


def glorot_uniform_(
    weight: torch.Tensor, gain: float = 1.0, *, generator: torch.Generator | None = None
) -> torch.Tensor:
    rows, columns = _matrix(weight)
    drawn = torch.empty(weight.shape, dtype=torch.float64).uniform_(-1.0, 1.0, generator=generator)
    return _put(weight, drawn * gain * (6.0 / (rows + columns)) ** 0.5)


@torch.no_grad()
def _put(weight: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
    return weight.copy_(numbers)


def _matrix(weight: torch.Tensor) -> tuple[int, ...]:
    try:
        rows, columns = weight.size()
    except ValueError:
        raise ValueError(f"weights of shape {tuple(weight.size())} are no matrix") from None
    return rows, columns


@dataclass
class Recipe:
    """An activation, and how the weights beside it are filled."""

    module: Callable[[], nn.Module]
    fill: Callable[..., torch.Tensor] = he_normal_
    options: dict[str, float] = field(default_factory=dict)


RECIPES = {
    "relu": Recipe(nn.ReLU),
    "leaky_relu": Recipe(nn.LeakyReLU, options={"negative_slope": 0.01}),
    "silu": Recipe(nn.SiLU),
    "gelu": Recipe(nn.GELU),
    "gelu_tanh": Recipe(lambda: nn.GELU("tanh")),
    "sigmoid": Recipe(nn.Sigmoid, glorot_uniform_),
    "identity": Recipe(nn.Identity, glorot_uniform_),
    "tanh": Recipe(nn.Tanh, glorot_uniform_, {"gain": 5 / 3}),
}


class Filled(nn.Linear):
    def __init__(self, before: int, after: int, bias: bool, recipe: Recipe, generator: torch.Generator | None) -> None:
        self.recipe, self.generator = recipe, generator
        super().__init__(before, after, bias)
        del self.recipe, self.generator

    def reset_parameters(self) -> None:
        self.recipe.fill(self.weight, generator=self.generator, **self.recipe.options)
        if self.bias is not None:
            torch.nn.init.constant_(self.bias, 0.0)


class MLP(nn.Module):
    def __init__(
        self,
        sizes: Iterable[int],
        activation: str = "relu",
        *,
        bias: bool = True,
        generator: torch.Generator | None = None,
        **_unused: Any,
    ) -> None:
        super().__init__()
        widths = tuple(sizes)
        try:
            recipe = RECIPES[activation]
        except KeyError as error:
            raise ValueError(f"no activation is called {activation}; there are {sorted(RECIPES)}") from error
        if not all(width >= 1 for width in widths) or len(widths) <= 1:
            raise ValueError(f"two sizes or more are needed, all of them positive; sizes are {widths}")
        pairs = zip(widths[:-1], widths[1:], strict=True)
        self.layers = nn.Sequential(*(Filled(a, b, bias, recipe, generator) for a, b in pairs))
        self.between = recipe.module()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first = self.layers[0].in_features
        if tuple(x.shape)[-1:] != (first,):
            raise ValueError(f"{first} inputs are needed, but there is a tensor {tuple(x.shape)}")
        result = self.layers[0](x)
        for layer in self.layers[1:]:
            result = layer(self.between(result))
        return result
