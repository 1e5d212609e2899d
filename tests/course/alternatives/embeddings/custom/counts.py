"""A bag as a row of counts: sums and means are products with the table, a maximum looks at the tokens that occur."""

import torch
from torch import Tensor, nn

from .embedding import Embedding


class ScaledEmbedding(Embedding):
    def __init__(self, *sizes: int, padding_idx: int | None = None, generator: torch.Generator | None = None) -> None:
        super().__init__(*sizes, padding_idx=padding_idx, generator=generator)
        with torch.no_grad():
            self.weight *= sizes[1] ** -0.5

    def forward(self, tokens: Tensor) -> Tensor:
        factor = torch.tensor(self.weight.shape[1], dtype=torch.float64).sqrt()
        return (super().forward(tokens).double() * factor).to(self.weight.dtype)


class FactorizedEmbedding(nn.Module):
    def __init__(
        self,
        num_embeddings: int,
        rank: int,
        embedding_dim: int,
        *,
        padding_idx: int | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        wrong = [f"{name}={size}" for name, size in (("rank", rank), ("embedding_dim", embedding_dim)) if size < 1]
        if wrong:
            raise ValueError(f"not positive: {', '.join(wrong)}")
        self.embedding = Embedding(num_embeddings, rank, generator=generator, padding_idx=padding_idx)
        self.projection = nn.Linear(rank, embedding_dim, bias=False)
        with torch.no_grad():
            self.projection.weight.normal_(0.0, (1 / rank) ** 0.5, generator=generator)

    def forward(self, tokens: Tensor) -> Tensor:
        return torch.einsum("...r,cr->...c", self.embedding(tokens), self.projection.weight)


class EmbeddingBag(nn.Module):
    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        *,
        mode: str = "mean",
        padding_idx: int | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        gather = {"sum": self._sum, "mean": self._mean, "max": self._max}
        if mode not in gather:
            raise ValueError(f"unknown way to gather: {mode}")
        self._gather = gather[mode]
        self._padding = padding_idx
        self.embedding = Embedding(num_embeddings, embedding_dim, generator=generator, padding_idx=padding_idx)

    def forward(self, bags: Tensor) -> Tensor:
        if len(bags.shape) != 2:
            raise ValueError(f"bags have the axes B and T, these are {list(bags.shape)}")
        self.embedding(bags)  # refuses what is no token
        weight = self.embedding.weight
        counts = torch.zeros(len(bags), len(weight), dtype=torch.int64)
        counts.scatter_add_(1, bags.long(), torch.ones_like(bags, dtype=torch.int64))
        if self._padding is not None:
            counts[:, self._padding] = 0
        return self._gather(counts, weight)

    @staticmethod
    def _sum(counts: Tensor, weight: Tensor) -> Tensor:
        return counts.to(weight.dtype) @ weight

    @classmethod
    def _mean(cls, counts: Tensor, weight: Tensor) -> Tensor:
        sizes = counts.sum(1, keepdim=True)
        return cls._sum(counts, weight) / sizes.where(sizes > 0, 1)

    @staticmethod
    def _max(counts: Tensor, weight: Tensor) -> Tensor:
        occurs = counts > 0  # (B, V)
        some = occurs.any(dim=1, keepdim=True)
        least = torch.finfo(weight.dtype).min
        highest = torch.where(occurs[:, :, None], weight[None], least).max(dim=1).values
        return torch.where(some, highest, 0)


class TiedOutput(nn.Module):
    def __init__(self, embedding: nn.Module) -> None:
        super().__init__()
        self.weight = embedding.weight

    def forward(self, x: Tensor) -> Tensor:
        tokens, width = self.weight.shape
        if x.shape[-1:] != (width,):
            raise ValueError(f"{tokens} rows of {width} numbers cannot be compared with {tuple(x.shape)}")
        return torch.einsum("...c,vc->...v", x, self.weight)
