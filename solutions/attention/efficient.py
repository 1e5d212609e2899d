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
    if chunk < 1:
        raise ValueError(f"chunk must be at least 1, got {chunk}")
    if query.shape[-1] != key.shape[-1]:
        raise ValueError(f"query {tuple(query.shape)} and key {tuple(key.shape)} must have the same last axis")
    if key.shape[-2] != value.shape[-2]:
        raise ValueError(f"key {tuple(key.shape)} and value {tuple(value.shape)} must be equally many")
    queries, keys = query.shape[-2], key.shape[-2]
    if causal and queries > keys:
        raise ValueError(f"causal attention needs a key for each query, got {queries} queries and {keys} keys")
    first, *_ = torch.broadcast_tensors(*(tensor[..., 0, 0] for tensor in (query, key, value)))
    query, key, value = (tensor.expand(*first.shape, -1, -1) for tensor in (query, key, value))  # views: take no memory
    if mask is not None:
        if mask.dtype != torch.bool:
            raise TypeError(f"mask must be boolean, got {mask.dtype}")
        shape = (*first.shape, queries, keys)
        try:
            mask = mask.expand(shape)
        except RuntimeError:
            raise ValueError(f"mask {tuple(mask.shape)} does not broadcast to the scores' shape {shape}") from None
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    output: Tensor = _ChunkedAttention.apply(query * scale, key, value, mask, causal, chunk)
    return output


class _ChunkedAttention(torch.autograd.Function):
    """Attention by chunks of keys, with a backward of its own: autograd's would keep the weights of every chunk."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, causal: bool, chunk: int
    ) -> Tensor:
        # The lowest finite number, not -inf: below, -inf - highest must never become -inf + inf.
        highest = query.new_full((*query.shape[:-1], 1), torch.finfo(query.dtype).min)  # (..., T, 1)
        # Gone as soon as a key is seen, by the first rescaling; the output of a row that sees none ends as 0 / 1.
        total = torch.ones_like(highest)
        output = query.new_zeros(*query.shape[:-1], value.shape[-1])  # (..., T, Dv)
        for rows, columns in _tiles(query, key, causal, chunk):
            scores = _scores(query, key, mask, causal, rows, columns)  # (..., rows, chunk)
            before = highest[..., rows, :]
            now = torch.maximum(before, scores.amax(dim=-1, keepdim=True))
            weights = scores.sub_(now).exp_()
            # What was summed up so far was in units of exp(before), and from here on is in units of exp(now).
            rescale = (before - now).exp_()
            total[..., rows, :] = total[..., rows, :] * rescale + weights.sum(dim=-1, keepdim=True)
            output[..., rows, :] = output[..., rows, :] * rescale + weights @ value[..., columns, :]
            highest[..., rows, :] = now
        output /= total
        ctx.save_for_backward(query, key, value, mask, output, highest + total.log())
        ctx.causal, ctx.chunk = causal, chunk
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, mask, output, logsumexp = ctx.saved_tensors
        # The softmax's backward takes from each weight's gradient the row's mean of them, sum_j P_ij dP_ij. With
        # dP_ij = dO_i · V_j and O_i = sum_j P_ij V_j that is dO_i · O_i, which needs no weights.
        mean = (grad_output * output).sum(dim=-1, keepdim=True)  # (..., T, 1)
        grad_query, grad_key, grad_value = torch.zeros_like(query), torch.empty_like(key), torch.empty_like(value)
        for rows, columns in _tiles(query, key, ctx.causal, ctx.chunk):
            scores = _scores(query, key, mask, ctx.causal, rows, columns)  # (..., rows, chunk)
            weights = scores.sub_(logsumexp[..., rows, :]).exp_()
            grad = grad_output[..., rows, :]
            grad_value[..., columns, :] = weights.mT @ grad
            grad_scores = (grad @ value[..., columns, :].mT).sub_(mean[..., rows, :]).mul_(weights)
            grad_query[..., rows, :] += grad_scores @ key[..., columns, :]
            grad_key[..., columns, :] = grad_scores.mT @ query[..., rows, :]
        return grad_query, grad_key, grad_value, None, None, None


def _tiles(query: Tensor, key: Tensor, causal: bool, chunk: int) -> Iterator[tuple[slice, slice]]:
    """The chunks of keys, each with the queries that may see any of it: in causal attention, the later ones."""
    past = key.shape[-2] - query.shape[-2]
    for start in range(0, key.shape[-2], chunk):
        yield slice(max(0, start - past) if causal else 0, None), slice(start, start + chunk)


def _scores(query: Tensor, key: Tensor, mask: Tensor | None, causal: bool, rows: slice, columns: slice) -> Tensor:
    """One tile of the scores, -inf where hidden: (..., rows, columns)."""
    scores = query[..., rows, :] @ key[..., columns, :].mT
    if mask is not None:
        scores.masked_fill_(~mask[..., rows, columns], float("-inf"))
    if causal:
        positions = torch.arange(key.shape[-2], device=key.device)
        later = positions[columns] > positions[key.shape[-2] - query.shape[-2] :][rows, None]
        scores.masked_fill_(later, float("-inf"))
    return scores


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
        sizes = {"batch_size": batch_size, "num_kv_heads": num_kv_heads, "capacity": capacity, "head_dim": head_dim}
        for name, size in sizes.items():
            if size < 1:
                raise ValueError(f"{name} must be at least 1, got {size}")
        self.capacity = capacity
        self.length = 0
        self._keys = torch.empty(tuple(sizes.values()), dtype=dtype, device=device)  # (B, G, capacity, D)
        self._values = torch.empty_like(self._keys)

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
        batch_size, num_kv_heads, _, head_dim = self._keys.shape
        for name, new in (("key", key), ("value", value)):
            if new.dim() != 4 or (*new.shape[:2], new.shape[3]) != (batch_size, num_kv_heads, head_dim):
                wanted = f"({batch_size}, {num_kv_heads}, T, {head_dim})"
                raise ValueError(f"{name} must be {wanted} as the cache is, got shape {tuple(new.shape)}")
            if new.dtype != self._keys.dtype:
                raise TypeError(f"{name} must be {self._keys.dtype} as the cache is, got {new.dtype}")
            if new.device != self._keys.device:
                raise ValueError(f"{name} must be on {self._keys.device} as the cache is, got {new.device}")
        if key.shape != value.shape:
            raise ValueError(f"key {tuple(key.shape)} and value {tuple(value.shape)} must be equally many")
        end = self.length + key.shape[-2]
        if end > self.capacity:
            raise ValueError(f"{key.shape[-2]} new tokens do not fit: length {self.length} of capacity {self.capacity}")
        self._keys[:, :, self.length : end] = key
        self._values[:, :, self.length : end] = value
        self.length = end
        return self._keys[:, :, :end], self._values[:, :, :end]

    def reset(self) -> None:
        """Forget all tokens, to begin other sequences in the same memory."""
        self.length = 0

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
        if rows.dim() != 1 or not len(rows):
            raise ValueError(f"rows must be (N,) with N at least 1, got shape {tuple(rows.shape)}")
        batch_size = len(self._keys)
        for row in map(int, rows.aminmax()):
            if not 0 <= row < batch_size:
                raise IndexError(f"row {row} is out of range for a batch_size of {batch_size}")
        for name in ("_keys", "_values"):
            old = getattr(self, name)
            new = old if len(rows) == batch_size else old.new_empty(len(rows), *old.shape[1:])
            # The right side is a copy, taken before anything is written: a sequence may be read after its turn.
            new[:, :, : self.length] = old[rows, :, : self.length]
            setattr(self, name, new)
