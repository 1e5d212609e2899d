"""Real tokens are gathered by scatter_reduce, which leaves the zeros of an empty bag alone; modules share a base."""

from torch import Tensor, nn

from .embedding import Embedding

REDUCTION = dict(sum="sum", mean="mean", max="amax")


class _Holder(nn.Module):
    """Has an embedding."""

    def __init__(self, *sizes, **options):
        super().__init__()
        self.embedding = Embedding(*sizes, **options)


class ScaledEmbedding(nn.Module):
    def __init__(self, num_embeddings, embedding_dim, **options):
        super().__init__()
        lookup = Embedding(num_embeddings, embedding_dim, **options)
        lookup.weight.data /= embedding_dim**0.5
        self.weight = lookup.weight
        # In a list, so that the table has one name only.
        self._lookup = [lookup]
        self._factor = embedding_dim**0.5

    def forward(self, tokens):
        self._lookup[0].weight = self.weight
        return self._factor * self._lookup[0](tokens)


class FactorizedEmbedding(_Holder):
    def __init__(self, num_embeddings, rank, embedding_dim, *, padding_idx=None, generator=None):
        for size, name in [(rank, "rank"), (embedding_dim, "embedding_dim")]:
            if not size > 0:
                raise ValueError(f"{name} should be positive and is {size}")
        super().__init__(num_embeddings, rank, padding_idx=padding_idx, generator=generator)
        self.projection = nn.Linear(in_features=rank, out_features=embedding_dim, bias=False)
        self.projection.weight.data.normal_(std=rank**-0.5, generator=generator)

    def forward(self, tokens):
        return nn.functional.linear(self.embedding(tokens), self.projection.weight)


class EmbeddingBag(_Holder):
    def __init__(self, num_embeddings, embedding_dim, *, mode="mean", padding_idx=None, generator=None):
        try:
            self_mode = REDUCTION[mode]
        except KeyError:
            raise ValueError(f"{mode} is not among {list(REDUCTION)}") from None
        super().__init__(num_embeddings, embedding_dim, padding_idx=padding_idx, generator=generator)
        self.mode = self_mode
        self.padding = padding_idx

    def forward(self, bags: Tensor) -> Tensor:
        try:
            number, _ = bags.shape
        except ValueError:
            raise ValueError(f"of bags the shape is (B, T), not {bags.shape}") from None
        vectors = self.embedding(bags)
        real = bags == bags if self.padding is None else bags != self.padding
        owner = real.nonzero()[:, 0]
        vectors = vectors[real]
        start = vectors.new_zeros(number, vectors.shape[-1])
        return start.scatter_reduce(0, owner[:, None].expand_as(vectors), vectors, self.mode, include_self=False)


class TiedOutput(nn.Module):
    def __init__(self, embedding):
        super().__init__()
        self.weight = embedding.weight

    def forward(self, x):
        c = self.weight.shape[1]
        if x.shape[-1] != c:
            raise ValueError(f"last axis must be {c}: {tuple(x.shape)}")
        return (x.unsqueeze(-2) * self.weight).sum(-1)
