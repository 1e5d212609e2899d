"""Composition: layer objects that keep their input and know their own backward; the network's names lead to them."""

import cmath
from dataclasses import dataclass, field

import torch
from torch import Generator, Tensor

from .tensors import log_softmax, one_hot, softmax


def spiral(
    points: int, arms: int, *, generator: Generator, turns: float = 0.75, noise: float = 0.04
) -> tuple[Tensor, Tensor]:
    """Each arm in the complex plane, one after another."""
    drawn, labels = [], []
    for arm in range(arms):
        radii = torch.empty(points).uniform_(0.4, 2, generator=generator)
        spokes = torch.polar(radii, cmath.pi * turns * radii) * cmath.exp(2j * cmath.pi * arm / arms)
        drawn.append(torch.view_as_real(spokes.to(torch.complex64)))
        labels += [arm] * points
    places = torch.cat(drawn)
    return places + torch.empty_like(places).normal_(generator=generator) * noise, torch.tensor(labels)


class Targets:
    """Right classes that have been looked at."""

    def __init__(self, logits: Tensor, classes: Tensor) -> None:
        count = logits.size(1)
        if classes.ndim != 1 or classes.size(0) != logits.size(0):
            raise ValueError(f"a target for each of {logits.size(0)} rows, please, not {list(classes.size())}")
        for target in classes.tolist():
            if target not in range(count):
                raise ValueError(f"there is no class {target} among {count}")
        self.rows = one_hot(classes, count, dtype=logits.dtype)


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    rows = Targets(logits, targets).rows
    return torch.einsum("bc,bc->", rows, -log_softmax(logits)) / rows.size(0)


@dataclass
class Layer:
    """A linear layer."""

    weight: Tensor
    bias: Tensor
    seen: Tensor | None = field(default=None)

    @classmethod
    def random(cls, inputs: int, outputs: int, generator: Generator, dtype: torch.dtype) -> "Layer":
        spread = torch.full((outputs, inputs), inputs**-0.5, dtype=dtype)
        return cls(torch.normal(0.0, spread, generator=generator), spread.new_zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        self.seen = x
        return torch.addmm(self.bias, x, self.weight.mT)

    def backward(self, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        assert self.seen is not None
        return (
            torch.einsum("bo,oi->bi", gradient, self.weight),
            torch.einsum("bo,bi->oi", gradient, self.seen),
            torch.einsum("bo->o", gradient),
        )


def _part(layer: str, attribute: str) -> property:
    def get(network: "OneHiddenLayerNetwork") -> Tensor:
        return getattr(getattr(network, layer), attribute)

    def put(network: "OneHiddenLayerNetwork", value: Tensor) -> None:
        setattr(getattr(network, layer), attribute, value)

    return property(get, put)


class OneHiddenLayerNetwork:
    hidden_weight = _part("first", "weight")
    hidden_bias = _part("first", "bias")
    output_weight = _part("second", "weight")
    output_bias = _part("second", "bias")

    def __init__(
        self,
        inputs: int,
        hidden: int,
        classes: int,
        *,
        generator: Generator,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.second = Layer.random(hidden, classes, generator, dtype)
        self.first = Layer.random(inputs, hidden, generator, dtype)
        self.logits: Tensor | None = None

    def parameters(self) -> dict[str, Tensor]:
        found = vars(OneHiddenLayerNetwork).items()
        return {name: value.fget(self) for name, value in found if isinstance(value, property)}

    def forward(self, inputs: Tensor) -> Tensor:
        if inputs.ndim != 2 or inputs.size(1) != self.first.weight.size(1):
            raise ValueError(f"rows of {self.first.weight.size(1)} numbers, please, not {inputs.size()}")
        self.logits = self.second.forward(self.first.forward(inputs).tanh())
        return self.logits

    def backward(self, targets: Tensor) -> dict[str, Tensor]:
        if self.logits is None or self.second.seen is None:
            raise RuntimeError("there was no forward pass")
        right = Targets(self.logits, targets).rows
        slope = 1 - self.second.seen.square()
        through, output_weight, output_bias = self.second.backward((softmax(self.logits) - right) / right.size(0))
        _, hidden_weight, hidden_bias = self.first.backward(through * slope)
        return dict(
            output_bias=output_bias, output_weight=output_weight, hidden_bias=hidden_bias, hidden_weight=hidden_weight
        )


def train(
    network: OneHiddenLayerNetwork, inputs: Tensor, targets: Tensor, *, steps: int, learning_rate: float
) -> list[float]:
    def step() -> float:
        loss = cross_entropy(network.forward(inputs), targets)
        for name, gradient in network.backward(targets).items():
            setattr(network, name, getattr(network, name) - learning_rate * gradient)
        return float(loss)

    return [step() for _ in range(steps)]
