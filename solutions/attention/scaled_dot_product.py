"""Attention of one head: each query takes the mean of the values, weighted by how well their keys match it.

Symbols: `...` any axes before the last two (batch, then heads), T queries, S keys and as many values, D the width of
a query and of a key, Dv that of a value.
"""

import torch
from torch import Tensor

from .masking import masked_softmax


def attention_weights(
    query: Tensor,
    key: Tensor,
    mask: Tensor | None = None,
    *,
    bias: Tensor | None = None,
    scale: float | None = None,
) -> Tensor:
    """Say how much of its attention each query gives to each key (Vaswani et al. 2017, section 3.2.1).

    The score of a query and a key is their dot product times `scale`, plus `bias`. The weights are the softmax of a
    query's scores over the keys that it may see.

    Args:
        query: (..., T, D), of a floating dtype.
        key: (..., S, D), of the same dtype; its axes before the last two broadcast against those of `query`.
        mask: booleans that broadcast to the scores' shape (..., T, S), True where a query may attend; None hides
            nothing.
        bias: numbers of the same dtype that broadcast to the scores' shape; None adds nothing.
        scale: factor of the dot products; 1/sqrt(D) if None.

    Returns:
        Weights (..., T, S) of the dtype of `query`: exactly 0 where hidden, and each row sums to 1; a row that may
        see nothing is all zeros, never NaN, and so is its gradient.

    Raises:
        ValueError: `query` and `key` differ in D; or `mask` or `bias` does not broadcast to the scores' shape, which
            it must not enlarge. The message gives both shapes.
        TypeError: `mask` is not boolean, or `bias` is not floating; the message names which, and its dtype.

    Example:
        >>> query, key = torch.tensor([[0.0], [2.0]]), torch.tensor([[0.0], [1.0]])
        >>> attention_weights(query, key)
        tensor([[0.5000, 0.5000],
                [0.1192, 0.8808]])
        >>> attention_weights(query, key, torch.tensor([True, False]))
        tensor([[1., 0.],
                [1., 0.]])
    """
    if query.shape[-1] != key.shape[-1]:
        raise ValueError(f"query {tuple(query.shape)} and key {tuple(key.shape)} differ in their last axis")
    # A sum of D products of independent numbers of variance 1 has variance D. Divided by sqrt(D) it has variance 1
    # for every width, and the softmax does not saturate.
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    scores = (query * scale) @ key.mT  # (..., T, S); the queries are scaled, for they are fewer numbers
    if bias is not None:
        if not bias.is_floating_point():
            raise TypeError(f"bias must be floating, got {bias.dtype}: what hides a key is a mask")
        _refuse_unless_it_fits("bias", bias, scores)
        scores = scores + bias
    if mask is not None:
        if mask.dtype != torch.bool:
            raise TypeError(f"mask must be boolean, got {mask.dtype}: what is added to the scores is a bias")
        _refuse_unless_it_fits("mask", mask, scores)
    return masked_softmax(scores, mask)


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
    """Give each query the mean of the values, weighted by its attention (Vaswani et al. 2017, equation 1).

    Args:
        query: (..., T, D), of a floating dtype.
        key: (..., S, D), of the same dtype; its axes before the last two broadcast against those of `query`.
        value: (..., S, Dv), of the same dtype, with the axes of `key` before the last two.
        mask: booleans that broadcast to the scores' shape (..., T, S), True where a query may attend; None hides
            nothing.
        bias: numbers of the same dtype that broadcast to the scores' shape, added to the scaled scores before the
            softmax; None adds nothing.
        scale: factor of the dot products; 1/sqrt(D) if None.
        dropout: probability with which each weight is set to 0, each one independently; those that remain are
            divided by ``1 - dropout``. At least 0 and less than 1; at 0 nothing is drawn.
        generator: where the dropout is drawn from; torch's global one if None.

    Returns:
        (..., T, Dv) of the dtype of `query`; all zeros, in value and in gradient, for a query that may see nothing.

    Raises:
        ValueError: `query` and `key` differ in D; `key` and `value` differ in S; or `mask` or `bias` does not
            broadcast to the scores' shape, which it must not enlarge. The message gives both shapes. Or `dropout`
            is out of its range; the message names it and its value.
        TypeError: `mask` is not boolean, or `bias` is not floating; the message names which, and its dtype.

    Example:
        >>> query, key = torch.tensor([[0.0], [2.0]]), torch.tensor([[0.0], [1.0]])
        >>> scaled_dot_product_attention(query, key, value=torch.tensor([[10.0], [20.0]]))
        tensor([[15.0000],
                [18.8080]])
    """
    if key.shape[-2] != value.shape[-2]:
        raise ValueError(f"key {tuple(key.shape)} and value {tuple(value.shape)} are not equally many")
    if not 0.0 <= dropout < 1.0:
        raise ValueError(f"dropout must be at least 0 and less than 1, got {dropout}")
    weights = attention_weights(query, key, mask, bias=bias, scale=scale)  # (..., T, S)
    if dropout:
        kept = torch.empty_like(weights).bernoulli_(1.0 - dropout, generator=generator)
        weights = weights * kept.div_(1.0 - dropout)  # divided, so that each weight keeps its mean
    return weights @ value  # (..., T, Dv)


def _refuse_unless_it_fits(name: str, tensor: Tensor, scores: Tensor) -> None:
    """Refuse what does not broadcast to the scores' shape, or would enlarge it by axes of its own."""
    try:
        tensor.expand(scores.shape)  # a view: nothing is copied
    except RuntimeError:
        shapes = f"{name} {tuple(tensor.shape)} does not broadcast to the scores {tuple(scores.shape)}"
        raise ValueError(shapes) from None
