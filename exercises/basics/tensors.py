"""Tensors: whole arrays at once, never a Python loop over their entries.

A loop in Python costs about a microsecond at every step; one torch operation on a whole tensor costs that once.
So every function here does the same few operations whatever the sizes are. They are built from three ideas:
*broadcasting* (an axis of size 1 stretches to fit), *indexing* with a tensor of whole numbers, and *views* (another
shape and other strides over the same memory).

Symbols: N and M are numbers of points and D their dimension; C is a number of classes; B sequences of length T
stand in a batch, and K entries of each are picked; W is a number of windows; `...` is any number of axes, also none.
"""

import torch
from torch import Tensor


def pairwise_distances(points: Tensor, others: Tensor) -> Tensor:
    """Measure the Euclidean distance of each point from each of the others.

    Args:
        points: (..., N, D), of a floating dtype.
        others: (..., M, D), of the same dtype; the axes before the last two broadcast against those of `points`.

    Returns:
        Distances (..., N, M) of that dtype, as exact as the differences of the coordinates are: points that lie
        near each other and far from the origin do not suffer, and equal points have distance exactly 0. The
        gradient is finite everywhere: equal points, where none is defined, get 0.

    Raises:
        TypeError: `points` or `others` is not of a floating dtype; the message gives the dtype.
        ValueError: either has fewer than two axes, or their last axes differ in size; the message gives both shapes.

    Example:
        >>> pairwise_distances(torch.tensor([[0.0, 0.0], [3.0, 4.0]]), torch.tensor([[0.0, 0.0], [3.0, 0.0]]))
        tensor([[0., 3.],
                [5., 4.]])
    """
    raise NotImplementedError("basics/tensors: pairwise_distances")


def one_hot(indices: Tensor, classes: int, *, dtype: torch.dtype = torch.float32) -> Tensor:
    """Write each index as a row with a one at its place and zeros elsewhere.

    Args:
        indices: (...), whole numbers of any integer dtype, from 0 to C - 1.
        classes: their number C.
        dtype: of the result.

    Returns:
        (..., C) of that dtype.

    Raises:
        TypeError: `indices` are not whole numbers; the message gives their dtype.
        ValueError: an index is negative, or not below `classes`; the message gives the index and `classes`.

    Example:
        >>> one_hot(torch.tensor([2, 0]), 3)
        tensor([[0., 0., 1.],
                [1., 0., 0.]])
    """
    raise NotImplementedError("basics/tensors: one_hot")


def batched_gather(values: Tensor, indices: Tensor) -> Tensor:
    """Pick entries of each sequence of a batch, other ones in each.

    Args:
        values: (B, T, ...), of any dtype.
        indices: (B, K), whole numbers of any integer dtype, from 0 to T - 1; one may be picked more than once.

    Returns:
        (B, K, ...) of the dtype of `values`: entry [b, k] is ``values[b, indices[b, k]]``. The gradient of an entry
        that was picked more than once is the sum over its copies.

    Raises:
        TypeError: `indices` are not whole numbers; the message gives their dtype.
        ValueError: `values` has fewer than two axes, `indices` has not exactly two, or their batches differ in size
            (the message gives both shapes); or an index is negative, or not below T (it gives the index and T).

    Example:
        >>> batched_gather(torch.tensor([[10, 11, 12], [20, 21, 22]]), torch.tensor([[2, 0], [1, 1]]))
        tensor([[12, 10],
                [21, 21]])
    """
    raise NotImplementedError("basics/tensors: batched_gather")


def sliding_windows(values: Tensor, size: int, step: int = 1) -> Tensor:
    """See the last axis as windows that overlap, without copying anything.

    Args:
        values: (..., T), of at least one axis and any dtype and strides.
        size: length of a window, from 1 to T.
        step: how far each window starts behind the one before, at least 1.

    Returns:
        A view (..., W, size) of the memory of `values`, with W = (T - size) // step + 1 windows, as many as fit:
        entry [..., w, i] is ``values[..., w * step + i]``. Windows share their entries, so what is written into
        one shows in others. Gradients flow back through it.

    Raises:
        ValueError: `size` is less than 1 or greater than T, or `step` is less than 1; the message names which,
            and its value.

    Example:
        >>> sliding_windows(torch.arange(6), 3, step=2)
        tensor([[0, 1, 2],
                [2, 3, 4]])
    """
    raise NotImplementedError("basics/tensors: sliding_windows")


def softmax(logits: Tensor, dim: int = -1) -> Tensor:
    """Turn logits into probabilities, exp(logits) over its sum, however large or small they are.

    Args:
        logits: of any shape with at least one axis and a floating dtype; each is finite or -inf.
        dim: the axis that shares a probability of 1; negative counts from the last.

    Returns:
        Probabilities of the shape and dtype of `logits`, as exact as the differences of the logits are, and with no
        overflow on the way; -inf gets exactly 0. Where all along `dim` is -inf, there is no distribution: NaN, as
        torch's own.

    Raises:
        TypeError: `logits` are not of a floating dtype; the message gives the dtype.

    Example:
        >>> softmax(torch.tensor([10000.0, 10000.0, -float("inf")]))
        tensor([0.5000, 0.5000, 0.0000])
    """
    raise NotImplementedError("basics/tensors: softmax")


def log_softmax(logits: Tensor, dim: int = -1) -> Tensor:
    """Logarithm of the softmax, right also where a probability is too small for its dtype.

    Args:
        logits: of any shape with at least one axis and a floating dtype; each is finite or -inf.
        dim: the axis that shares a probability of 1; negative counts from the last.

    Returns:
        Log-probabilities of the shape and dtype of `logits`, as exact as the differences of the logits are, and
        finite wherever the logit is, though the probability be as small as exp(-20000); -inf gets -inf. Where all
        along `dim` is -inf: NaN, as torch's own.

    Raises:
        TypeError: `logits` are not of a floating dtype; the message gives the dtype.

    Example:
        >>> log_softmax(torch.tensor([0.0, -10000.0]))
        tensor([     0., -10000.])
    """
    raise NotImplementedError("basics/tensors: log_softmax")
