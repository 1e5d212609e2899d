"""Rotations as products with complex numbers, positions by advanced indexing, figures by pieces of matplotlib."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .sinusoidal import sinusoidal_encoding

SCHEMES = ("learned", "sinusoidal", "rotary")


def positive(**sizes: float) -> None:
    for name, size in sizes.items():
        if not size > 0:
            raise ValueError(f"{name}={size} should be positive")


def natural(**sizes: int) -> None:
    for name, size in sizes.items():
        if size < 0:
            raise ValueError(f"{name}={size} should not be negative")


class LearnedPositionalEmbedding(nn.Module):
    def __init__(self, max_length: int, embedding_dim: int, *, generator: torch.Generator | None = None, std=0.02):
        positive(max_length=max_length, embedding_dim=embedding_dim)
        super().__init__()
        self.register_parameter("weight", nn.Parameter(torch.zeros(max_length, embedding_dim)))
        with torch.no_grad():
            self.weight.normal_(0, std, generator=generator)

    def forward(self, x: Tensor, *, past: int = 0) -> Tensor:
        natural(past=past)
        rows, width = self.weight.size()
        try:
            _, length, c = x.shape
        except ValueError:
            raise ValueError(f"three axes wanted, got {list(x.shape)}") from None
        if c != width:
            raise ValueError(f"width {width} wanted, got {list(x.shape)}")
        if past + length > rows:
            raise ValueError(f"{past + length} positions > {rows}")
        return x.add(self.weight.narrow(0, past, length).unsqueeze(0))


def rotary_angles(
    length: int, head_dim: int, *, past: int = 0, base: float = 10_000, dtype=torch.float32, device=None
) -> tuple[Tensor, Tensor]:
    natural(length=length, past=past)
    positive(head_dim=head_dim, base=base)
    if head_dim & 1:
        raise ValueError(f"head_dim={head_dim} should be even")
    steps = np.exp(-np.log(base) * np.linspace(0, 1, head_dim // 2, endpoint=False))
    circle = np.exp(1j * np.arange(past, past + length)[:, None] * steps[None, :])
    cos, sin = (torch.tensor(part.copy(), dtype=dtype, device=device) for part in (circle.real, circle.imag))
    return cos, sin


def apply_rotary(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    for name, table in {"cos": cos, "sin": sin}.items():
        if list(table.shape[-2:-1]) != [x.shape[-2]] or x.shape[-1] != 2 * table.shape[-1]:
            raise ValueError(f"x {list(x.shape)} cannot be turned by {name} {list(table.shape)}")
    wide = torch.promote_types(torch.promote_types(x.dtype, cos.dtype), torch.float32)
    pairs = torch.stack(x.to(wide).tensor_split(2, dim=-1), dim=-1).contiguous()
    turned = torch.view_as_complex(pairs) * torch.complex(cos.to(wide), sin.to(wide))
    return torch.view_as_real(turned).transpose(-1, -2).flatten(-2).to(x.dtype)


class RecallModel(nn.Module):
    def __init__(self, scheme: str, vocabulary: int, max_length: int, generator: torch.Generator, width: int = 32):
        super().__init__()
        if scheme not in SCHEMES:
            raise ValueError(f"no scheme is called {scheme}")
        self.tokens = nn.Parameter(torch.randn(vocabulary, width, generator=generator))
        self.projection = nn.Parameter(torch.randn(3 * width, width, generator=generator) / math.sqrt(width))
        self.bias = nn.Parameter(torch.zeros(3 * width))
        self.output = nn.Parameter(torch.randn(vocabulary, width, generator=generator) / math.sqrt(width))
        self.scheme = scheme
        if scheme == SCHEMES[0]:
            self.positions = LearnedPositionalEmbedding(max_length, width, generator=generator)

    def place(self, x: Tensor) -> Tensor:
        if self.scheme == "sinusoidal":
            return x + sinusoidal_encoding(*x.shape[1:])
        return self.positions(x) if self.scheme == "learned" else x

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.place(self.tokens[tokens])
        query, key, value = (x @ part.T + bias for part, bias in zip(self.projection.chunk(3), self.bias.chunk(3)))
        if self.scheme == "rotary":
            tables = rotary_angles(*x.shape[1:])
            query, key = (apply_rotary(each, *tables) for each in (query, key))
        scores = torch.einsum("bqc,bkc->bqk", query, key) / math.sqrt(x.shape[-1])
        seen = torch.ones(scores.shape[-2:]).tril().bool()
        weights = torch.where(seen, scores, -torch.inf).softmax(-1)
        return torch.einsum("bqk,bkc,vc->bqv", weights, value, self.output)


def train_recall(
    model: nn.Module, vocabulary: int, *, length: int, distance: int, updates: int, generator: torch.Generator
) -> None:
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    while updates > 0:
        tokens = torch.randint(vocabulary, (32, length), generator=generator)
        logarithms = model(tokens)[:, distance:].log_softmax(-1)
        loss = -logarithms.gather(-1, tokens[:, :-distance, None]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        updates -= 1


def recall_accuracy(model, tokens: Tensor, distance: int) -> Tensor:
    with torch.inference_mode():
        logits = model(tokens)
        wanted = tokens.roll(distance, dims=1)
        right = (logits.max(-1).indices == wanted).to(torch.float32)
    return right[:, distance:].clone().sum(0) / tokens.shape[0]


@dataclasses.dataclass(frozen=True, slots=True)
class Extrapolation:
    train_length: int
    vocabulary: int
    positions: Tensor
    accuracy: dict[str, Tensor]


def extrapolation_experiment(
    *,
    seed: int,
    train_length: int = 16,
    test_length: int = 64,
    vocabulary: int = 8,
    distance: int = 3,
    updates: int = 200,
) -> Extrapolation:
    lengths = [distance, train_length, test_length]
    if sorted(set(lengths)) != lengths:
        raise ValueError(f"not in order, or not three: {lengths}")

    def generator(stream: int) -> torch.Generator:
        return torch.Generator().manual_seed(3 * seed + stream)

    tokens = torch.randint(vocabulary, (256, test_length), generator=generator(0))

    def accuracy(scheme: str) -> Tensor:
        model = RecallModel(scheme, vocabulary, test_length, generator(1))
        options: dict[str, Any] = dict(length=train_length, distance=distance, updates=updates)
        train_recall(model, vocabulary, generator=generator(2), **options)
        return recall_accuracy(model, tokens, distance)

    return Extrapolation(
        train_length=train_length,
        vocabulary=vocabulary,
        positions=torch.arange(distance, test_length, dtype=torch.int32),
        accuracy={scheme: accuracy(scheme) for scheme in SCHEMES},
    )


def plot_extrapolation(result: Extrapolation):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), dpi=80)
    axes = figure.add_axes((0.1, 0.15, 0.85, 0.75))
    where = result.positions.tolist()
    guide = {"color": "0.6", "linewidth": 1.0}
    axes.axhline(1 / result.vocabulary, linestyle="-.", label="guessing", **guide)
    axes.axvline(result.train_length, linestyle=(0, (4, 2)), label="training ends", **guide)
    for (scheme, shares), marker in zip(result.accuracy.items(), "osd", strict=False):
        axes.plot(where, shares.tolist(), marker=marker, label=scheme)
    axes.set(xlabel="position", ylabel="accuracy", ylim=(0, 1.1), title="Where each scheme is right")
    axes.legend(loc="lower left", ncols=2)
    return figure
