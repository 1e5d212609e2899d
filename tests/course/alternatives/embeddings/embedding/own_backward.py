"""With a forward and a backward pass of its own, which counts in float64 and adds row by row."""

from typing import Any

import torch
from torch import Tensor, nn


class _Rows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, tokens: Tensor, skipped: int | None) -> Tensor:
        ctx.save_for_backward(tokens)
        ctx.table = weight.shape, weight.dtype
        ctx.skipped = skipped
        width = weight.shape[1]
        where = tokens.long().unsqueeze(-1).expand(*tokens.shape, width)
        return torch.gather(weight, 0, where.reshape(-1, width)).view(where.shape)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (tokens,) = ctx.saved_tensors
        shape, dtype = ctx.table
        sums = torch.zeros(shape, dtype=torch.float64)
        for token, row in zip(tokens.flatten().tolist(), gradients[0].reshape(-1, shape[1]), strict=True):
            if token != ctx.skipped:
                sums[token] += row
        return sums.to(dtype), None, None


class Embedding(nn.Module):
    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        *,
        padding_idx: int | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if min(num_embeddings, embedding_dim) < 1:
            raise ValueError(f"num_embeddings={num_embeddings} and embedding_dim={embedding_dim} must be positive")
        if padding_idx is not None and (padding_idx < 0 or padding_idx >= num_embeddings):
            raise ValueError(f"no such token: padding_idx={padding_idx}")
        rows = [torch.randn(embedding_dim, generator=generator) for _ in range(num_embeddings)]
        if padding_idx is not None:
            rows[padding_idx] = torch.zeros(embedding_dim)
        self.weight = nn.Parameter(torch.stack(rows))
        self.skipped = padding_idx

    def forward(self, tokens: Tensor) -> Tensor:
        if str(tokens.dtype) not in ("torch.int32", "torch.int64"):
            raise TypeError(f"int32 or int64 wanted, not {tokens.dtype}")
        for token in tokens.unique().tolist():
            if token < 0 or token >= len(self.weight):
                raise IndexError(f"{token} is not one of {len(self.weight)} tokens")
        return _Rows.apply(self.weight, tokens, self.skipped)
