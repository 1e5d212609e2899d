"""By products with one-hot vectors, the padding's among them with a weight that is cut off."""

import torch
import torch.nn as nn
import torch.nn.functional as F


class Embedding(nn.Module):
    def __init__(self, num_embeddings, embedding_dim, *, padding_idx=None, generator=None, std=1.0):
        super().__init__()
        for what, size in {"num_embeddings": num_embeddings, "embedding_dim": embedding_dim}.items():
            if size <= 0:
                raise ValueError(f"{what} = {size}: there has to be one at least")
        if padding_idx is not None and padding_idx not in range(num_embeddings):
            raise ValueError(f"padding_idx = {padding_idx} is no token")
        self.size = num_embeddings
        self.padding = padding_idx
        self.weight = nn.Parameter(torch.empty(num_embeddings, embedding_dim))
        nn.init.normal_(self.weight, std=std, generator=generator)
        if padding_idx is not None:
            nn.init.zeros_(self.weight[padding_idx])

    def forward(self, tokens):
        if tokens.dtype is not torch.int64 and tokens.dtype is not torch.int32:
            raise TypeError(f"these tokens are {tokens.dtype}")
        wrong = tokens[(tokens < 0) | (tokens >= self.size)]
        if len(wrong):
            raise IndexError(f"there is no token {wrong[0].item()} among {self.size}")
        hot = F.one_hot(tokens.long(), self.size).to(self.weight)
        if self.padding is None:
            return hot @ self.weight
        only = torch.zeros_like(hot)
        only[..., self.padding] = hot[..., self.padding]
        return (hot - only) @ self.weight + only @ self.weight.detach()
