"""Plain: index_select on flat tokens; checks in a function of their own; a buffer-free module with an extra method."""

import torch
from torch import nn


def check_tokens(tokens: torch.Tensor, count: int) -> None:
    if tokens.dtype == torch.int64 or tokens.dtype == torch.int32:
        pass
    else:
        raise TypeError("Tokens of dtype " + str(tokens.dtype) + " cannot be looked up")
    if tokens.numel() == 0:
        return
    low = int(tokens.min())
    high = int(tokens.max())
    if low < 0:
        raise IndexError("Token " + str(low) + " is negative, allowed: 0 <= token < " + str(count))
    if high >= count:
        raise IndexError("Token " + str(high) + " is too large, allowed: 0 <= token < " + str(count))


class Embedding(nn.Module):
    weight: nn.Parameter

    def __init__(self, num_embeddings: int, embedding_dim: int, *, padding_idx=None, generator=None):
        nn.Module.__init__(self)
        if not num_embeddings >= 1:
            raise ValueError("num_embeddings is " + str(num_embeddings))
        if not embedding_dim >= 1:
            raise ValueError("embedding_dim is " + str(embedding_dim))
        if padding_idx is not None:
            if padding_idx < 0 or padding_idx > num_embeddings - 1:
                raise ValueError("padding_idx is " + str(padding_idx))
        table = torch.zeros(num_embeddings, embedding_dim)
        table.normal_(generator=generator)
        self.weight = nn.Parameter(table)
        self.padding_idx = padding_idx
        if padding_idx is not None:
            with torch.no_grad():
                self.weight[padding_idx].fill_(0)

    def extra_repr(self) -> str:
        return f"{tuple(self.weight.shape)}, padding_idx={self.padding_idx}"

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        count, width = self.weight.shape
        check_tokens(tokens, count)
        flat = tokens.reshape(-1)
        rows = torch.index_select(self.weight, 0, flat)
        if self.padding_idx is not None:
            # A hook on the looked-up rows: what comes back to padding is set to 0 before it reaches the weight.
            real = (flat != self.padding_idx).reshape(-1, 1)
            if rows.requires_grad:
                rows.register_hook(lambda gradient: gradient * real)
        return rows.reshape(*tokens.shape, width)
