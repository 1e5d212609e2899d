"""Both from one base class, in float64 inside: tokens as rows of a matrix, a centring matrix kept as a buffer, einsum."""

from functools import wraps
from typing import Any

import torch
from torch import Tensor, nn


class _PerToken(nn.Module):
    """Scales each row of a matrix by a root mean square; what else is done to it, the subclasses say."""

    def __init__(self, embed_dim: int, eps: float) -> None:
        super().__init__()
        for name, value, least in (("embed_dim", embed_dim, 1), ("eps", eps, 0.0)):
            if not value >= least:
                raise ValueError(f"{name} is {value}, which is not {least} or more")
        self.eps = eps
        self.weight = nn.Parameter(torch.empty(embed_dim))
        nn.init.ones_(self.weight)

    def prepare(self, rows: Tensor) -> Tensor:
        return rows

    def finish(self, rows: Tensor) -> Tensor:
        return rows

    def forward(self, x: Tensor) -> Tensor:
        *_, width = x.shape or (None,)
        if width != len(self.weight):
            raise ValueError(f"each token has {len(self.weight)} numbers; these are {x.shape}")
        rows = self.prepare(x.reshape(-1, width).to(torch.float64))
        scales = torch.einsum("nc,nc->n", rows, rows).div(width).add(self.eps).pow(-0.5)
        scaled = torch.einsum("nc,n,c->nc", rows, scales, self.weight.to(torch.float64))
        return self.finish(scaled).to(x.dtype).reshape(x.shape)


class LayerNorm(_PerToken):
    centring: Tensor

    def __init__(self, embed_dim: int, eps: float = 1e-5, bias: bool = True, **unused: Any) -> None:
        super().__init__(embed_dim, eps)
        self.bias = nn.Parameter(torch.zeros_like(self.weight)) if bias else None
        self.register_buffer("centring", torch.eye(embed_dim, dtype=torch.float64) - 1 / embed_dim, persistent=False)

    @wraps(nn.Module._apply)
    def _apply(self, function: Any, recurse: bool = True) -> "LayerNorm":
        centring = self.centring
        super()._apply(function, recurse)
        self.centring = centring  # it stays in float64, whatever the parameters become
        return self

    def prepare(self, rows: Tensor) -> Tensor:
        return rows @ self.centring

    def finish(self, rows: Tensor) -> Tensor:
        return rows if self.bias is None else rows + self.bias


class RMSNorm(_PerToken):
    def __init__(self, embed_dim: int, eps: float = 1e-5) -> None:
        super().__init__(embed_dim, eps)
