"""Composition: a Sequential of c_fc and c_proj, a middle handed in, both inner maps as one product by einsum."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..networks.activations import ACTIVATIONS

Middle = Callable[[Tensor], Tensor]


class Gate:
    """The first half through the activation, times the second."""

    pieces = ("c_gate", "c_fc")

    def __init__(self, function: Middle) -> None:
        self.function = function

    def __call__(self, inside: Tensor) -> Tensor:
        gate, value = inside.tensor_split(2, dim=-1)
        return torch.mul(value, self.function(gate))


class Plain(Gate):
    pieces = ("c_fc",)

    def __call__(self, inside: Tensor) -> Tensor:
        return self.function(inside)


class FeedForward(nn.Sequential):
    def __init__(
        self,
        embed_dim: int,
        hidden_dim: int | None = None,
        *,
        activation: str = "gelu_tanh",
        gated: bool = False,
        bias: bool = True,
    ) -> None:
        if activation not in ACTIVATIONS:
            known = " ".join(sorted(ACTIVATIONS))
            raise ValueError(f"{activation!r} is none of: {known}")
        widths = {"embed_dim": embed_dim, "hidden_dim": 4 * embed_dim if hidden_dim is None else hidden_dim}
        for key in widths:
            if not widths[key] > 0:
                raise ValueError(f"{key}={widths[key]}")
        outside, inside = widths.values()
        middle = (Gate if gated else Plain)(ACTIVATIONS[activation])
        inner = [(piece, nn.Linear(outside, inside, bias)) for piece in middle.pieces]
        super().__init__(OrderedDict([*inner, ("c_proj", nn.Linear(inside, outside, bias))]))
        self.middle = middle

    def forward(self, x: Tensor) -> Tensor:
        *maps, last = self
        if x.shape[-1:] != (last.out_features,):
            raise ValueError(f"(..., {last.out_features}) is wanted, {tuple(x.shape)} was given")
        inside = torch.einsum("...c,fc->...f", x, torch.cat([each.weight for each in maps]))
        if last.bias is not None:
            inside = inside + torch.cat([each.bias for each in maps])
        return last(self.middle(inside))
