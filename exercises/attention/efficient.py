"""The same attention for less: in little memory while training, and without repeated work while generating.

`chunked_attention` never holds the T × S matrix of weights; `KVCache` keeps what earlier tokens have computed.

Symbols: `...` any axes before the last two (batch, then heads), T queries, S keys and as many values, D the width of
a query and of a key, Dv that of a value; B sequences in a batch, G heads of keys and values (`num_kv_heads`).
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def chunked_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None = None,
    *,
    causal: bool = False,
    scale: float | None = None,
    chunk: int = 128,
) -> Tensor:
    """Scaled dot-product attention that looks at `chunk` keys at a time, in the forward and in the backward pass.

    The softmax is computed online, with a running maximum and a running sum for each query (Milakov & Gimelshein
    2018, section 3; Rabe & Staats 2021, section 2). The backward pass computes the weights of each chunk anew, from
    the log-sum-exp of each row (Dao et al. 2022, section 3.1 and appendix B). Value and gradients are those of
    `scaled_dot_product_attention`, up to rounding.

    Memory: besides the arguments, whatever is alive at any time, in either pass and between them, is of the order of
    T * chunk + (T + S) * (D + Dv) numbers for each of the `...`: nothing of size T × S, be it of numbers or booleans.

    Args:
        query: (..., T, D), of a floating dtype; T and S are at least 1.
        key: (..., S, D), of the same dtype; the axes before the last two broadcast against those of `query`.
        value: (..., S, Dv), likewise.
        mask: booleans that broadcast to (..., T, S), True where a query may attend; None hides nothing.
        causal: whether keys after the query are hidden besides. The queries are the last T of the S positions, as
            in ``causal_mask(T, past=S - T)``.
        scale: factor of the products; 1/sqrt(D) if None.
        chunk: how many keys are looked at together, at least 1; it need not divide S.

    Returns:
        (..., T, Dv), of the dtype of `query`; a query that may see nothing gets zeros, and so do its gradients.
        Gradients reach `query`, `key` and `value`. They need not be differentiable once more, but must not seem to be:
        who tries gets torch's RuntimeError (see `once_differentiable`) or what is right.

    Raises:
        ValueError: `chunk` is less than 1; `query` and `key` differ in D, or `key` and `value` in S; there are more
            queries than keys although `causal`; or `mask` does not broadcast. The message gives the number, or both
            shapes.
        TypeError: `mask` is not boolean; the message gives its dtype.

    Example:
        >>> query, key = torch.zeros(1, 4), torch.randn(3, 4)
        >>> chunked_attention(query, key, torch.tensor([[1.0], [2.0], [6.0]]), chunk=2)
        tensor([[3.]])
    """
    raise NotImplementedError("attention/efficient: chunked_attention")


class KVCache:
    """Keeps the keys and values of all tokens so far, so that generating computes only those of each new token.

    One layer of a model has one. Room for all tokens is taken at the start, and each update writes the new ones
    behind the others: nothing is copied twice, and what is kept is bit for bit what was given. (Attention over
    the cache then differs from that over the whole sequence at most by rounding, for a product of matrices may add
    up in another order when its shape is another.)

    Args:
        batch_size: number of sequences B.
        num_kv_heads: number of heads G of keys and values.
        capacity: how many tokens there is room for.
        head_dim: width D of a key and of a value.
        dtype: that of the keys and values.
        device: where they are kept.

    Attributes:
        capacity: how many tokens there is room for.
        length: how many tokens are kept; 0 at first.

    Raises:
        ValueError: one of the four sizes is less than 1; the message names which, and its value.

    Example:
        >>> cache = KVCache(batch_size=1, num_kv_heads=2, capacity=8, head_dim=4)
        >>> keys, values = cache.update(torch.zeros(1, 2, 3, 4), torch.ones(1, 2, 3, 4))  # the prompt
        >>> keys, values = cache.update(torch.zeros(1, 2, 1, 4), torch.ones(1, 2, 1, 4))  # one token more
        >>> keys.shape, cache.length
        (torch.Size([1, 2, 4, 4]), 4)
    """

    def __init__(
        self,
        batch_size: int,
        num_kv_heads: int,
        capacity: int,
        head_dim: int,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | None = None,
    ) -> None:
        raise NotImplementedError("attention/efficient: KVCache.__init__")

    @torch.no_grad()
    def update(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Append the keys and values of T new tokens.

        Args:
            key: (B, G, T, D), of the cache's dtype and on its device; T may be 0.
            value: (B, G, T, D), likewise.

        Returns:
            The keys and the values of all tokens so far, (B, G, length, D) each, the new ones last. They are views
            of the cache's own memory, not to be written to, and carry no gradient: a cache is for generating.

        Raises:
            ValueError: `key` or `value` has another B, G or D than the cache, or they differ in T, or one is on
                another device; or the new tokens do not fit: the message then gives their number, `length` and
                `capacity`, otherwise both shapes or devices. The cache stays as it was.
            TypeError: `key` or `value` is of another dtype; the message gives both.
        """
        raise NotImplementedError("attention/efficient: KVCache.update")

    def reset(self) -> None:
        """Forget all tokens, to begin other sequences in the same memory."""
        raise NotImplementedError("attention/efficient: KVCache.reset")

    def reorder(self, rows: Tensor) -> None:
        """Go on with other sequences: after it, sequence n is what sequence `rows[n]` was before.

        Beam search drops some of its hypotheses at each step and continues others more than once; a prompt that is read
        once is continued by several.

        Args:
            rows: (N,), int64, each from 0 to B - 1; N, at least 1, is the cache's `batch_size` from then on.

        Raises:
            ValueError: `rows` has not one axis, or is empty: the message gives its shape.
            IndexError: a row is negative, or B or more: the message gives it and B. The cache stays as it was.
        """
        raise NotImplementedError("attention/efficient: KVCache.reorder")
