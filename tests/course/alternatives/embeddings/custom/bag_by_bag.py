"""Plain: a loop over the bags, weights drawn where they are needed, no types."""

import torch
from torch import nn

from .embedding import Embedding


class ScaledEmbedding(Embedding):
    def __init__(self, num_embeddings, embedding_dim, *, padding_idx=None, generator=None):
        super().__init__(num_embeddings, embedding_dim, padding_idx=padding_idx)
        nn.init.normal_(self.weight, mean=0.0, std=embedding_dim**-0.5, generator=generator)
        if padding_idx is not None:
            self.weight.data[padding_idx] = 0

    def forward(self, tokens):
        vectors = super().forward(tokens)
        return vectors * vectors.shape[-1] ** 0.5


class FactorizedEmbedding(nn.Module):
    def __init__(self, num_embeddings, rank, embedding_dim, *, padding_idx=None, generator=None):
        super().__init__()
        if rank < 1:
            raise ValueError("rank is too small: %d" % rank)
        if embedding_dim < 1:
            raise ValueError("embedding_dim is too small: %d" % embedding_dim)
        weight = torch.randn(embedding_dim, rank, generator=generator) / rank**0.5
        self.embedding = Embedding(num_embeddings, rank, padding_idx=padding_idx, generator=generator)
        self.projection = nn.Linear(rank, embedding_dim, bias=False)
        self.projection.weight = nn.Parameter(weight)

    def forward(self, tokens):
        narrow = self.embedding(tokens)
        return narrow.matmul(self.projection.weight.t())


class EmbeddingBag(nn.Module):
    def __init__(self, num_embeddings, embedding_dim, *, mode="mean", padding_idx=None, generator=None):
        super().__init__()
        self.embedding = Embedding(num_embeddings, embedding_dim, padding_idx=padding_idx, generator=generator)
        self.padding = padding_idx
        if mode == "sum":
            self.gather = lambda rows: rows.sum(0)
        elif mode == "mean":
            self.gather = lambda rows: rows.mean(0)
        elif mode == "max":
            self.gather = lambda rows: rows.max(0).values
        else:
            raise ValueError(f"I can't gather by {mode!r}")

    def forward(self, bags):
        if bags.ndim != 2:
            raise ValueError(f"want a batch of bags, got {bags.shape}")
        vectors = self.embedding(bags)
        result = []
        for bag, rows in zip(bags, vectors):
            if self.padding is not None:
                rows = rows[bag != self.padding]
            if len(rows) == 0:
                result.append(vectors.new_zeros(vectors.shape[-1]))
            else:
                result.append(self.gather(rows))
        if not result:
            return vectors.new_zeros(0, vectors.shape[-1])
        return torch.stack(result)


class TiedOutput(nn.Module):
    def __init__(self, embedding):
        super().__init__()
        self.register_parameter("weight", embedding.weight)

    def forward(self, x):
        width = self.weight.size(1)
        if x.size(-1) != width:
            raise ValueError(f"expected vectors of {width} numbers, got x of shape {x.shape}")
        return torch.matmul(x, self.weight.t())
