"""Einstein sums throughout: grouped queries get an axis of their own, and no key is repeated."""

from typing import Any, Protocol

import torch
from torch import Tensor, nn

from .masking import masked_softmax


class Cache(Protocol):
    """Has the one method that is called."""

    def update(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]: ...


class MultiHeadAttention(nn.Module):
    """Keeps its sizes in one dictionary, and cuts its weights by their shape."""

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        *,
        num_kv_heads: int | None = None,
        bias: bool = True,
        dropout: float = 0.0,
        causal: bool = False,
        initial_std: float = 0.02,
    ) -> None:
        kv = num_heads if num_kv_heads is None else num_kv_heads
        if any(number < 1 for number in (embed_dim, num_heads, kv)) or embed_dim % num_heads or num_heads % kv:
            raise ValueError(f"does not divide: embed_dim={embed_dim}, num_heads={num_heads}, num_kv_heads={kv}")
        if dropout != dropout or dropout < 0 or dropout >= 1:
            raise ValueError(f"dropout={dropout} is not in [0, 1)")
        super().__init__()
        self.sizes = {"C": embed_dim, "G": kv, "R": num_heads // kv, "D": embed_dim // num_heads}
        self.options: dict[str, Any] = {"dropout": dropout, "causal": causal}
        self.c_attn = nn.Linear(embed_dim, embed_dim + 2 * kv * self.sizes["D"], bias=bias)
        self.c_proj = nn.Linear(embed_dim, embed_dim, bias=bias)
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=initial_std)

    def project(self, x: Tensor, memory: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (B, H, T, D), keys and values (B, G, S, D)."""
        given = {"x": x} if memory is None else {"x": x, "memory": memory}
        for name, tokens in given.items():
            if tokens.dim() != 3 or tokens.size(-1) != self.sizes["C"]:
                raise ValueError(f"{name} is {tuple(tokens.shape)}, wanted (any, any, {self.sizes['C']})")
        source = x if memory is None else memory
        if source.size(0) != x.size(0):
            raise ValueError(f"x {tuple(x.shape)} does not fit to memory {tuple(source.shape)}")
        blocks = self.c_attn.weight.reshape(-1, self.sizes["D"], self.sizes["C"])  # (H + 2 G, D, C)
        heads, kv = self.sizes["G"] * self.sizes["R"], self.sizes["G"]
        query = torch.einsum("btc,hdc->bhtd", x, blocks[:heads])
        both = torch.einsum("bsc,hdc->bhsd", source, blocks[heads:])
        if self.c_attn.bias is not None:
            offsets = self.c_attn.bias.reshape(-1, 1, self.sizes["D"])
            query, both = query + offsets[:heads], both + offsets[heads:]
        return query, both[:, :kv], both[:, kv:]

    def forward(
        self,
        x: Tensor,
        memory: Tensor | None = None,
        mask: Tensor | None = None,
        *,
        bias: Tensor | None = None,
        cache: Cache | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Scores (B, G, R, T, S): R query heads for each head of keys."""
        if memory is not None and self.options["causal"]:
            raise ValueError("either causal or a memory, not both")
        if memory is not None and cache is not None:
            raise ValueError("either a cache or a memory, not both")
        query, key, value = self.project(x, memory)
        if cache is not None:
            key, value = cache.update(key, value)
        batch, heads, length, width = query.shape
        keys = key.size(2)
        grouped = query.unflatten(1, (self.sizes["G"], self.sizes["R"]))
        scores = torch.einsum("bgrtd,bgsd->bgrts", grouped, key).flatten(1, 2) / width**0.5
        if bias is not None:
            scores = scores + bias
        if self.options["causal"]:
            ages = torch.arange(keys - length, keys, device=x.device)[:, None] - torch.arange(keys, device=x.device)
            mask = ages >= 0 if mask is None else mask & (ages >= 0)
        weights = masked_softmax(scores, mask)
        if self.training and self.options["dropout"]:
            kept = 1 - self.options["dropout"]
            drawn = torch.empty(weights.shape, dtype=weights.dtype).uniform_(generator=generator)
            weights = weights * (drawn < kept) / kept
        result = torch.einsum("bgrts,bgsd->btgrd", weights.unflatten(1, (self.sizes["G"], -1)), value)
        return self.c_proj(result.reshape(batch, length, heads * width))
