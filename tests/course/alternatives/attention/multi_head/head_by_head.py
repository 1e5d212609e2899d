"""One head after the other, each with its own rows of the weights; plain code without types."""

import torch
from torch import nn

from .masking import causal_mask, combine_masks
from .scaled_dot_product import scaled_dot_product_attention


class Cache:
    """Whoever keeps keys and values: has `update(key, value)`."""


class MultiHeadAttention(nn.Module):
    def __init__(self, embed_dim, num_heads, *, num_kv_heads=None, bias=True, dropout=0.0, causal=False):
        super().__init__()
        if num_kv_heads is None:
            num_kv_heads = num_heads
        if embed_dim <= 0 or num_heads <= 0 or embed_dim % num_heads != 0:
            raise ValueError(f"cannot cut embed_dim {embed_dim} into num_heads {num_heads}")
        if num_kv_heads <= 0 or num_heads % num_kv_heads != 0:
            raise ValueError(f"cannot share num_kv_heads {num_kv_heads} among num_heads {num_heads}")
        if not (dropout >= 0 and dropout < 1):
            raise ValueError(f"bad dropout: {dropout}")
        self.width = embed_dim
        self.head_width = embed_dim // num_heads
        self.heads = num_heads
        self.kv_heads = num_kv_heads
        self.p = dropout
        self.causal = causal
        self.c_proj = nn.Linear(embed_dim, embed_dim, bias=bias)
        self.c_attn = nn.Linear(embed_dim, self.head_width * (num_heads + num_kv_heads + num_kv_heads), bias=bias)

    def _one(self, tokens, number):
        """What the rows of block `number` of c_attn make of the tokens: one head's queries, keys or values."""
        first = number * self.head_width
        result = torch.matmul(tokens, self.c_attn.weight[first : first + self.head_width].transpose(0, 1))
        if self.c_attn.bias is not None:
            result = result + self.c_attn.bias[first : first + self.head_width]
        return result

    def _check(self, name, tokens):
        if tokens.ndim != 3 or tokens.shape[2] != self.width:
            raise ValueError(f"shape {tuple(tokens.shape)} for {name}, but it takes three axes, the last {self.width}")

    def project(self, x, memory=None):
        self._check("x", x)
        if memory is None:
            memory = x
        else:
            self._check("memory", memory)
            if memory.shape[0] != x.shape[0]:
                raise ValueError(f"batches differ: x {tuple(x.shape)}, memory {tuple(memory.shape)}")
        numbers = list(range(self.heads + 2 * self.kv_heads))
        queries = [self._one(x, number) for number in numbers[: self.heads]]
        rest = [self._one(memory, number) for number in numbers[self.heads :]]
        return (
            torch.stack(queries, 1),
            torch.stack(rest[: self.kv_heads], 1),
            torch.stack(rest[self.kv_heads :], 1),
        )

    def forward(self, x, memory=None, mask=None, *, bias=None, cache=None, generator=None):
        if memory is not None:
            if self.causal:
                raise ValueError("causal attention takes no memory")
            if cache is not None:
                raise ValueError("a cache is of no use for a memory")
        queries, keys, values = self.project(x, memory)
        if cache is not None:
            keys, values = cache.update(keys, values)
        new, everything = x.shape[1], keys.shape[2]
        if self.causal:
            mask = combine_masks(mask, causal_mask(new, past=everything - new))
        whole = (x.shape[0], self.heads, new, everything)
        result = 0
        for head in range(self.heads):
            shared = head // (self.heads // self.kv_heads)
            brought = scaled_dot_product_attention(
                queries[:, head],
                keys[:, shared],
                values[:, shared],
                None if mask is None else mask.expand(whole)[:, head],
                bias=None if bias is None else bias.expand(whole)[:, head],
                dropout=self.p if self.training else 0.0,
                generator=generator,
            )
            # Side by side and then c_proj is the same as the sum of each head's own columns of it.
            columns = self.c_proj.weight[:, head * self.head_width : (head + 1) * self.head_width]
            result = result + brought @ columns.T
        return result if self.c_proj.bias is None else result + self.c_proj.bias
