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
    raise NotImplementedError("attention/scaled_dot_product: attention_weights")


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
    raise NotImplementedError("attention/scaled_dot_product: scaled_dot_product_attention")
