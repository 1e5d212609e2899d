"""Multi-head attention: several heads attend side by side, each in its own part of the width.

Symbols: B sequences in a batch, T their length, S the number of keys (of a memory, or of all tokens so far), C the
width of the model (`embed_dim`), H heads (`num_heads`), G heads of keys and values (`num_kv_heads`), and D = C / H
the width of a head (`head_dim`).
"""

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .masking import causal_mask, combine_masks
from .scaled_dot_product import scaled_dot_product_attention


class Cache(Protocol):
    """Keeps the keys and values of earlier tokens, so that they need not be computed again."""

    def update(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Append those of the new tokens, each (B, G, T, D); return all so far, each (B, G, S, D)."""
        ...


class MultiHeadAttention(nn.Module):
    """Attention of several heads (Vaswani et al. 2017, section 3.2.2), with GPT-2's parameter names.

    The heads of keys and values may be fewer than those of queries (grouped-query attention, Ainslie et al. 2023,
    section 2.2; with one it is Shazeer's multi-query attention of 2019): query head h uses the keys and values of
    head ``h // (H / G)``, so that neighbours share.

    Parameters:
        c_attn: `nn.Linear` of C to (H + 2 G) * D. The rows of its weight, and the numbers of its bias, make the
            queries, then the keys, then the values; within each of these, the D rows of the first head come first.
        c_proj: `nn.Linear` of C to C, which mixes the heads' results, laid side by side in their order.

    The state_dict holds the weights and biases of these two and nothing else. (GPT-2's published weights are the
    transposes: its `Conv1D` multiplies from the other side. Whoever loads them transposes them.)

    Args:
        embed_dim: C, the width of the tokens, of the memory's tokens and of the result.
        num_heads: H, which divides `embed_dim`.
        num_kv_heads: G, which divides `num_heads`; as many as `num_heads` if None.
        bias: whether `c_attn` and `c_proj` have biases.
        dropout: probability with which an attention weight is dropped while training; at least 0 and less than 1.
        causal: whether each token sees itself and earlier tokens only.

    Raises:
        ValueError: `num_heads` does not divide `embed_dim`, or `num_kv_heads` does not divide `num_heads`, or one of
            them is below 1; or `dropout` is out of its range. The message names the arguments and their values.

    Example:
        >>> attention = MultiHeadAttention(768, 12, causal=True)  # as in the smallest GPT-2
        >>> attention(torch.zeros(2, 5, 768)).shape
        torch.Size([2, 5, 768])
        >>> attention.c_attn.weight.shape
        torch.Size([2304, 768])
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        *,
        num_kv_heads: int | None = None,
        bias: bool = True,
        dropout: float = 0.0,
        causal: bool = False,
    ) -> None:
        super().__init__()
        num_kv_heads = num_heads if num_kv_heads is None else num_kv_heads
        if not 0 < num_heads <= embed_dim or embed_dim % num_heads:
            raise ValueError(f"num_heads must divide embed_dim, got num_heads={num_heads} and embed_dim={embed_dim}")
        if num_kv_heads < 1 or num_heads % num_kv_heads:
            raise ValueError(
                f"num_kv_heads must divide num_heads, got num_kv_heads={num_kv_heads} and num_heads={num_heads}"
            )
        if not 0.0 <= dropout < 1.0:
            raise ValueError(f"dropout must be at least 0 and less than 1, got {dropout}")
        self.embed_dim = embed_dim
        self.num_heads = num_heads
        self.num_kv_heads = num_kv_heads
        self.head_dim = embed_dim // num_heads
        self.dropout = dropout
        self.causal = causal
        self.c_attn = nn.Linear(embed_dim, (num_heads + 2 * num_kv_heads) * self.head_dim, bias=bias)
        self.c_proj = nn.Linear(embed_dim, embed_dim, bias=bias)

    def project(self, x: Tensor, memory: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Make the queries, keys and values of all heads.

        Args:
            x: tokens (B, T, C), which make the queries.
            memory: tokens (B, S, C), which make the keys and values; `x` itself if None.

        Returns:
            Queries (B, H, T, D), keys (B, G, S, D) and values (B, G, S, D).

        Raises:
            ValueError: `x` or `memory` has not three axes, the last of size C, or they differ in B; the message
                names which, and gives the shape.
        """
        for name, tokens in (("x", x), ("memory", memory)):
            if tokens is not None and (tokens.dim() != 3 or tokens.shape[-1] != self.embed_dim):
                raise ValueError(f"{name} must be (B, T, {self.embed_dim}), got shape {tuple(tokens.shape)}")
        kv_dim = self.num_kv_heads * self.head_dim
        if memory is None:
            query, key, value = self.c_attn(x).split([self.embed_dim, kv_dim, kv_dim], dim=-1)
        else:
            if len(memory) != len(x):
                raise ValueError(f"x {tuple(x.shape)} and memory {tuple(memory.shape)} differ in their first axis")
            # The first rows of the fused weight see `x`, the others `memory`: no product is made in vain.
            rows = [self.embed_dim, 2 * kv_dim]
            weights = self.c_attn.weight.split(rows)
            biases = (None, None) if self.c_attn.bias is None else self.c_attn.bias.split(rows)
            query = F.linear(x, weights[0], biases[0])  # (B, T, C)
            key, value = F.linear(memory, weights[1], biases[1]).chunk(2, dim=-1)  # (B, S, G * D) each
        return self._to_heads(query), self._to_heads(key), self._to_heads(value)

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
        """Let each token take what it needs from the tokens that it may see.

        Args:
            x: tokens (B, T, C), which ask.
            memory: tokens (B, S, C), which are asked (cross-attention); `x` itself if None (self-attention).
            mask: booleans that broadcast to (B, H, T, S), True where a token may attend; None hides nothing. A
                causal module hides later tokens besides.
            bias: numbers that broadcast to (B, H, T, S), added to the scaled scores; None adds nothing.
            cache: gets the new tokens' keys and values, once, and gives those of all tokens so far, which are then
                attended to: S counts all of them, and the T of `x` are the last.
            generator: where the dropout is drawn from; torch's global one if None.

        Returns:
            (B, T, C).

        Raises:
            ValueError: as `project`; or there is a `memory` although the module is causal, or along with a `cache`:
                a memory has no later tokens and does not grow. The message names what does not go together.
        """
        if memory is not None and (self.causal or cache is not None):
            raise ValueError(f"a memory does not go together with {'causal=True' if self.causal else 'a cache'}")
        query, key, value = self.project(x, memory)
        if cache is not None:
            key, value = cache.update(key, value)
        length, keys = query.shape[-2], key.shape[-2]
        if self.causal and length > 1:  # a single token is the last, and sees everything
            mask = combine_masks(mask, causal_mask(length, past=keys - length, device=x.device))
        if self.num_kv_heads < self.num_heads:
            group = self.num_heads // self.num_kv_heads
            key, value = key.repeat_interleave(group, dim=1), value.repeat_interleave(group, dim=1)  # (B, H, S, D)
        dropout = self.dropout if self.training else 0.0
        heads = scaled_dot_product_attention(
            query, key, value, mask, bias=bias, dropout=dropout, generator=generator
        )  # (B, H, T, D)
        return self.c_proj(heads.transpose(1, 2).flatten(2))  # (B, T, H * D), side by side, to (B, T, C)

    def _to_heads(self, x: Tensor) -> Tensor:
        """Cut the last axis into heads and bring them beside the batch, where attention runs over each alone."""
        return x.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)  # (B, T, heads, D) to (B, heads, T, D)
