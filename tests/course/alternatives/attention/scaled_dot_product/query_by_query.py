"""A loop over the queries, each of which asks all keys, with everything in float64 until the end."""

from collections.abc import Iterator

import torch
from torch import Tensor

from .masking import masked_softmax


def _broadcast(name: str, extra: Tensor, shape: torch.Size) -> Tensor:
    try:
        whole = torch.broadcast_shapes(extra.shape, shape)
    except RuntimeError as error:
        raise ValueError(f"{name}: {tuple(extra.shape)} against {tuple(shape)}") from error
    if whole != shape:
        raise ValueError(f"{name}: {tuple(extra.shape)} is more than {tuple(shape)}")
    return extra.broadcast_to(shape)


def _rows(query: Tensor, key: Tensor, mask: Tensor | None, bias: Tensor | None, factor: float) -> Iterator[Tensor]:
    """The weights of one query after the other, each (..., S)."""
    for row in range(query.shape[-2]):
        score = (key * query[..., row : row + 1, :]).sum(dim=-1) * factor
        if bias is not None:
            score = score + bias[..., row, :]
        yield masked_softmax(score, None if mask is None else mask[..., row, :])


def attention_weights(
    query: Tensor,
    key: Tensor,
    mask: Tensor | None = None,
    *,
    bias: Tensor | None = None,
    scale: float | None = None,
) -> Tensor:
    """One query at a time."""
    (*_, length, width), (*_, keys, other) = query.shape, key.shape
    if width != other:
        raise ValueError(f"widths differ: query has {tuple(query.shape)}, key has {tuple(key.shape)}")
    lead = torch.broadcast_shapes(query.shape[:-2], key.shape[:-2])
    shape = torch.Size((*lead, length, keys))
    if mask is not None:
        if mask.dtype is not torch.bool:
            raise TypeError(f"mask: {mask.dtype} instead of booleans")
        mask = _broadcast("mask", mask, shape)
    if bias is not None:
        if not bias.dtype.is_floating_point:
            raise TypeError(f"bias: {bias.dtype} instead of floating numbers")
        bias = _broadcast("bias", bias, shape).double()
    factor = width**-0.5 if scale is None else scale
    rows = list(_rows(query.double(), key.double(), mask, bias, factor))
    return torch.stack(rows, dim=-2).to(query.dtype)


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None = None,
    *,
    bias: Tensor | None = None,
    scale: float | None = None,
    dropout: float = 0.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """The values' mean, query by query; what is dropped is drawn row by row."""
    if value.shape[-2] != key.shape[-2]:
        raise ValueError(f"{tuple(key.shape)} for the keys, but {tuple(value.shape)} for the values")
    if dropout != dropout or dropout < 0 or dropout >= 1:
        raise ValueError(f"dropout out of range: {dropout}")
    results = []
    for row in attention_weights(query, key, mask, bias=bias, scale=scale).unbind(dim=-2):
        if dropout:
            dropped = torch.bernoulli(torch.full_like(row, dropout), generator=generator)
            row = row * (1 - dropped) * (1 / (1 - dropout))
        results.append((row[..., None] * value).sum(dim=-2))
    return torch.stack(results, dim=-2)
