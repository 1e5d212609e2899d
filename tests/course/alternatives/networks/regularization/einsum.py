"""Sums by einsum in float64, a context object for the running averages, and a dropout with a backward of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class _Masked(torch.autograd.Function):
    """Product with a mask that needs no gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, factors: Tensor) -> Tensor:
        ctx.factors = factors
        return torch.mul(x, factors)

    @staticmethod
    def backward(ctx: Any, *above: Tensor) -> Any:
        return above[0] * ctx.factors, None


class Dropout(nn.Module):
    def __init__(self, p: float = 0.5, *, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self._keep = 1.0 - p
        self._source = generator
        if p < 0 or not self._keep > 0:
            raise ValueError(f"no such p: {p}")

    def forward(self, x: Tensor) -> Tensor:
        if self._keep == 1.0 or not self.training:
            return x
        kept = torch.bernoulli(torch.full(tuple(x.shape), self._keep, dtype=torch.float64), generator=self._source)
        return _Masked.apply(x, (kept / self._keep).to(x.dtype))


class BatchNorm1d(nn.Module):
    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        *,
        precise: torch.dtype = torch.float64,
    ) -> None:
        super().__init__()
        self.settings = {"eps": eps, "momentum": momentum}
        self.precise = precise
        for name, value in {"weight": 1.0, "bias": 0.0}.items():
            parameter = nn.Parameter(torch.empty(num_features).fill_(value)) if affine else None
            self.register_parameter(name, parameter)
        buffers = {
            "running_mean": torch.zeros(num_features),
            "running_var": torch.ones(num_features),
            "num_batches_tracked": torch.tensor(0, dtype=torch.int64),
        }
        for name, buffer in buffers.items():
            self.register_buffer(name, buffer)

    @contextmanager
    def _moving(self) -> Iterator[float]:
        """Count a batch; gives the share that it has in the averages."""
        with torch.no_grad():
            self.num_batches_tracked.add_(1)
            share = self.settings["momentum"]
            yield 1.0 / float(self.num_batches_tracked) if share is None else share

    def forward(self, x: Tensor) -> Tensor:
        channels = self.running_mean.numel()
        if not (x.ndim == 2 or x.ndim == 3) or x.size(1) != channels:
            raise ValueError(f"of shape {tuple(x.shape)}, but (N, {channels}) or (N, {channels}, L) is wanted")
        blocks = (x.unsqueeze(2) if x.ndim == 2 else x).to(self.precise)
        mean, variance = self.running_mean, self.running_var
        if self.training:
            count = blocks.size(0) * blocks.size(2)
            if x.numel() < 2 * channels:
                raise ValueError(f"of shape {tuple(x.shape)}, too little for a variance")
            mean = torch.einsum("ncl->c", blocks) / count
            apart = blocks - mean.view(1, -1, 1)
            variance = torch.einsum("ncl,ncl->c", apart, apart) / count
            with self._moving() as share:
                self.running_mean += share * (mean - self.running_mean)
                self.running_var += share * (variance * count / (count - 1) - self.running_var)
        deviation = torch.sqrt(variance + self.settings["eps"])
        out = (blocks - mean.view(-1, 1)) / deviation.view(-1, 1)
        if self.weight is not None:
            out = torch.einsum("ncl,c->ncl", out, self.weight.to(self.precise))
            out = out + self.bias.view(-1, 1)
        return out.to(x.dtype).reshape(x.shape)
