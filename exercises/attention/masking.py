"""Masks: which key each query may see.

A mask here is boolean and True where a query *may* attend, as in `torch.nn.functional.scaled_dot_product_attention`;
the older `torch.nn.MultiheadAttention` means the opposite. Its last two axes are (query, key), and it broadcasts
over the axes before them: batch, then heads.

Symbols: B sequences in a batch, T their length, S the number of keys.
"""

import torch
from torch import Tensor


def causal_mask(length: int, *, past: int = 0, device: torch.device | None = None) -> Tensor:
    """Let each position see itself and what came before it (Vaswani et al. 2017, section 3.2.3).

    Args:
        length: number of queries T, at least 0.
        past: number of keys before the first query, at least 0; a decoder with a cache has some.
        device: where the mask is made.

    Returns:
        Booleans (T, past + T), True where query i may see key j: where j <= i + past.

    Raises:
        ValueError: `length` or `past` is negative; the message names which, and its value.

    Example:
        >>> causal_mask(2, past=1)
        tensor([[ True,  True, False],
                [ True,  True,  True]])
    """
    raise NotImplementedError("attention/masking: causal_mask")


def padding_mask(lengths: Tensor, size: int | None = None) -> Tensor:
    """Hide the padding behind each sequence of a batch.

    Args:
        lengths: whole numbers (B,), B at least 1: how many real tokens each sequence begins with.
        size: the padded length S; the longest of `lengths` if None.

    Returns:
        Booleans (B, 1, 1, S), True where a key is a real token: the two axes of size 1 stand for every head and
        every query.

    Raises:
        ValueError: `lengths` has not exactly one axis, or one of them is negative or greater than `size`; the
            message gives the shape or the length.

    Example:
        >>> padding_mask(torch.tensor([1, 3]))[:, 0, 0]
        tensor([[ True, False, False],
                [ True,  True,  True]])
    """
    raise NotImplementedError("attention/masking: padding_mask")


def combine_masks(*masks: Tensor | None) -> Tensor | None:
    """Let a query see a key only where every mask does.

    Args:
        masks: booleans that broadcast against each other, True where a query may attend; None hides nothing.

    Returns:
        Booleans of the broadcast shape; None if there is no mask at all, or every one is None.

    Raises:
        TypeError: a mask is not boolean; the message gives its dtype.

    Example:
        >>> combine_masks(causal_mask(2), None, torch.tensor([True, False]))
        tensor([[ True, False],
                [ True, False]])
    """
    raise NotImplementedError("attention/masking: combine_masks")


def masked_softmax(scores: Tensor, mask: Tensor | None = None) -> Tensor:
    """Share each query's attention among the keys that it may see; softmax over the last axis.

    Args:
        scores: (..., T, S), of a floating dtype.
        mask: booleans that broadcast to the shape of `scores`, True where a query may attend; None hides nothing.

    Returns:
        Weights (..., T, S) of the dtype of `scores`: exactly 0 where hidden, and each row sums to 1; a row that
        may see nothing is all zeros, never NaN, and so is its gradient.

    Example:
        >>> masked_softmax(torch.zeros(2, 2), torch.tensor([[True, False], [False, False]]))
        tensor([[1., 0.],
                [0., 0.]])
    """
    raise NotImplementedError("attention/masking: masked_softmax")
