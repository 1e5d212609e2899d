"""Tables read by one-hot products, all heads as one linear map that is split, torch's own losses and initialisation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from .activations import ACTIVATIONS
from .mlp import MLP


@dataclass(frozen=True)
class Plan:
    """What a network looks like; refuses what none can look like."""

    numeric: int
    columns: dict[str, int]
    heads: dict[str, int]
    embedding_dim: int
    hidden: tuple[int, ...]
    activation: str

    def problems(self) -> Iterator[str]:
        for named in (self.columns, self.heads, {"embedding_dim": self.embedding_dim}):
            yield from (f"{name}: {size} is below 1" for name, size in named.items() if size <= 0)
        if self.numeric < 0 or not (self.numeric or self.columns):
            yield f"numeric_features: {self.numeric} will not do"
        if not self.heads:
            yield "heads: there is none"
        if not self.hidden or any(width <= 0 for width in self.hidden):
            yield f"hidden_sizes: {self.hidden} will not do"
        if self.activation not in ACTIVATIONS:
            yield f"activation: {self.activation!r} is unknown"

    def __post_init__(self) -> None:
        for problem in self.problems():
            raise ValueError(problem)


class MixedInputNetwork(nn.Module):
    def __init__(
        self,
        numeric_features: int,
        cardinalities: Mapping[str, int],
        heads: Mapping[str, int],
        *,
        embedding_dim: int = 8,
        hidden_sizes: Sequence[int] = (64, 64),
        activation: str = "relu",
        generator: Generator | None = None,
    ) -> None:
        plan = Plan(numeric_features, dict(cardinalities), dict(heads), embedding_dim, tuple(hidden_sizes), activation)
        super().__init__()
        self.plan = plan
        # The heads draw first here, then the tables, then the trunk.
        self.heads = nn.ModuleList(nn.Linear(plan.hidden[-1], size) for size in plan.heads.values())
        for head in self.heads:
            nn.init.xavier_uniform_(head.weight, generator=generator)
            nn.init.zeros_(head.bias)
        self.embeddings = nn.ModuleList(
            nn.Embedding(size, embedding_dim, _weight=torch.empty(size, embedding_dim).normal_(generator=generator))
            for size in plan.columns.values()
        )
        self.trunk = MLP(
            (plan.numeric + embedding_dim * len(plan.columns), *plan.hidden), activation=activation, generator=generator
        )

    def forward(self, numeric: Tensor, categorical: Tensor) -> dict[str, Tensor]:
        shapes = {"numeric": tuple(numeric.shape), "categorical": tuple(categorical.shape)}
        for (name, shape), width in zip(shapes.items(), (self.plan.numeric, len(self.plan.columns)), strict=True):
            if shape[1:] != (width,):
                raise ValueError(f"{name} {shape} should have {width} columns")
        if numeric.size(0) != categorical.size(0):
            raise ValueError(f"not the same rows in {shapes}")
        if categorical.dtype is not torch.int64:
            raise TypeError(f"categories are int64, not {categorical.dtype}")
        read = numeric.new_zeros(len(numeric), 0)
        for (name, size), table, column in zip(
            self.plan.columns.items(), self.embeddings, categorical.unbind(1), strict=True
        ):
            one_hot = column.unsqueeze(1) == torch.arange(size)
            lost = ~one_hot.any(dim=1)
            if lost.any():
                raise ValueError(f"{name!r} knows no {column[lost][0].item()}")
            read = torch.hstack([read, torch.einsum("bs,se->be", one_hot.to(table.weight.dtype), table.weight)])
        hidden = ACTIVATIONS[self.plan.activation](self.trunk(torch.hstack([numeric, read])))
        weight = torch.cat([head.weight for head in self.heads])
        bias = torch.cat([head.bias for head in self.heads])
        together = torch.addmm(bias, hidden, weight.T).split(list(self.plan.heads.values()), dim=1)
        named = zip(self.plan.heads, together, strict=True)
        return {name: part.reshape(-1) if part.size(1) == 1 else part for name, part in named}


def weighted_loss(
    outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor], weights: Mapping[str, float] | None = None
) -> tuple[Tensor, dict[str, Tensor]]:
    factors = dict.fromkeys(outputs, 1.0) | dict(weights or {})
    odd = (factors.keys() | targets.keys()) ^ outputs.keys() | (outputs.keys() - targets.keys())
    if odd:
        raise ValueError(f"heads, targets and weights do not agree about {sorted(odd)}")
    for name, factor in factors.items():
        if not factor >= 0.0:
            raise ValueError(f"{name} has the weight {factor}")
        if targets[name].shape != outputs[name].shape[:1]:
            raise ValueError(f"{name} has targets {tuple(targets[name].shape)} for {tuple(outputs[name].shape)}")

    def loss(name: str) -> Tensor:
        criterion = F.huber_loss if outputs[name].ndim == 1 else F.cross_entropy
        return criterion(outputs[name], targets[name])

    parts = {name: loss(name) for name in outputs}
    total = reduce(add, (factors[name] * part for name, part in parts.items()))
    with torch.no_grad():
        return total, {name: part.detach().clone() for name, part in parts.items()}
