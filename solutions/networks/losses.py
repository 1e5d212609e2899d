"""Losses: what a network is trained to make small, from logits and not from probabilities.

A logit is any real number; the softmax over the classes turns logits into probabilities. A loss needs the logarithm of
a probability, and to take the two steps at once is the only way that survives logits of a thousand: a probability may
round to 0, its logarithm is far from that.

Symbols: C classes on the last axis; `...` any axes before it (batch, then time), also none.
"""

import torch
from torch import Tensor

from ..basics.tensors import log_softmax


def cross_entropy(
    logits: Tensor,
    targets: Tensor,
    *,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
) -> Tensor:
    """Measure how surprised the softmax of the logits is by the right classes, in nats.

    The loss of one target t is -log p(t). With label smoothing ε (Szegedy et al. 2016, section 7) the truth is not all
    of t: ε of it is shared evenly among all C classes, t included. The loss is then (1 - ε) times -log p(t), plus ε
    times the mean of -log p over the classes.

    Args:
        logits: (..., C), of a floating dtype; each finite, and none so large that differences overflow. (Torch's own
            function has the classes on the second axis.)
        targets: (...), whole numbers of any integer dtype: the right class of each, from 0 to C - 1, or `ignore_index`.
        ignore_index: a target that does not count: its loss and its gradient are 0. It may be any whole number, also
            one that is a class.
        label_smoothing: ε, from 0 to 1.
        reduction: "mean" over the targets that count, "sum" over them, or "none".

    Returns:
        Of the dtype of `logits`: a scalar (), or for "none" the losses (...), 0 where ignored. Where no target
        counts, the mean is 0, as the sum is, and so is its gradient. (Torch gives NaN, 0/0; one batch of nothing but
        padding would carry it into every weight.)

    Raises:
        ValueError: the shape of `targets` is not that of `logits` without its last axis (the message gives both
            shapes); a target is neither a class nor `ignore_index` (it gives the target and C); `label_smoothing` is
            out of its range, or `reduction` none of the three (it names which, and its value).
        TypeError: `logits` are not floating, or `targets` no whole numbers; the message gives the dtype.

    Example:
        >>> logits = torch.tensor([[0.0, 0.0], [0.0, 100.0]])
        >>> cross_entropy(logits, torch.tensor([1, 0]), reduction="none")  # ln 2, and a long way to go
        tensor([  0.6931, 100.0000])
        >>> cross_entropy(logits, torch.tensor([1, -100]))
        tensor(0.6931)
    """
    if not 0.0 <= label_smoothing <= 1.0:
        raise ValueError(f"label_smoothing must be from 0 to 1, got {label_smoothing}")
    classes, counted = _checked(logits, targets, ignore_index)
    log_probabilities = log_softmax(logits)  # (..., C)
    losses = -_of_classes(log_probabilities, classes)  # (...)
    if label_smoothing:
        uniform = -log_probabilities.mean(dim=-1)  # (...), the cross-entropy of a truth spread evenly
        losses = torch.lerp(losses, uniform, label_smoothing)
    return _reduce(losses.masked_fill(~counted, 0.0), reduction, counted.sum())


def focal_loss(
    logits: Tensor,
    targets: Tensor,
    *,
    gamma: float = 2.0,
    alpha: Tensor | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Tensor:
    """Cross-entropy that counts easy examples less (Lin et al. 2017, section 3), here for any number of classes.

    The loss of one target t is -alpha[t] (1 - p(t))^gamma log p(t): where the network is sure and right, the factor
    is small, and what it finds hard makes up the loss. Gradients flow through the factor too. With gamma = 0 and
    without alpha it is the cross-entropy.

    Args:
        logits: (..., C), of a floating dtype; each finite, and none so large that differences overflow.
        targets: (...), whole numbers of any integer dtype: the right class of each, from 0 to C - 1, or `ignore_index`.
        gamma: how strongly easy examples are discounted, at least 0.
        alpha: weights (C,) of the classes, of the dtype of `logits`; all 1 if None.
        ignore_index: a target that does not count: its loss and its gradient are 0.
        reduction: "mean" over the targets that count (divided by their number, whatever their weights), "sum" over
            them, or "none".

    Returns:
        Of the dtype of `logits`: a scalar (), or for "none" the losses (...), 0 where ignored. It is finite, and so is
        its gradient, for every gamma and also where p(t) rounds to 0 or 1. Where no target counts, the mean is 0.

    Raises:
        ValueError: `gamma` is negative, or `reduction` none of the three (the message names which, and its value);
            `alpha` is not of shape (C,) (it gives the shape); `targets` as in `cross_entropy`.
        TypeError: as `cross_entropy`.

    Example:
        >>> focal_loss(torch.tensor([[0.0, 0.0]]), torch.tensor([1]))  # (1 - 1/2)² ln 2
        tensor(0.1733)
    """
    if not gamma >= 0.0:
        raise ValueError(f"gamma must be at least 0, got {gamma}")
    if alpha is not None and alpha.shape != logits.shape[-1:]:
        raise ValueError(f"alpha must be of shape {tuple(logits.shape[-1:])}, got {tuple(alpha.shape)}")
    classes, counted = _checked(logits, targets, ignore_index)
    log_p = _of_classes(log_softmax(logits), classes)  # (...)
    # 1 - p is -expm1(log p), which keeps its digits where p is nearly 1. It is clamped, for the slope of a power
    # below 1 is infinite at 0, and infinity times 0 is NaN; what is clamped gets no gradient, and needs none.
    missing = (-torch.expm1(log_p)).clamp_min(torch.finfo(log_p.dtype).tiny)
    losses = -log_p * missing**gamma
    if alpha is not None:
        losses = losses * alpha[classes]
    return _reduce(losses.masked_fill(~counted, 0.0), reduction, counted.sum())


def huber_loss(prediction: Tensor, target: Tensor, *, delta: float = 1.0, reduction: str = "mean") -> Tensor:
    """Half the squared error where that is small, and linear beyond (Huber 1964): outliers pull, but no harder.

    The loss of an error e is e² / 2 where |e| <= delta, and delta (|e| - delta / 2) elsewhere; value and slope meet
    at delta. Gradients flow to both arguments.

    Args:
        prediction: (...), of a floating dtype.
        target: of the same shape and dtype.
        delta: where the linear part begins, greater than 0.
        reduction: "mean" over all errors, "sum", or "none".

    Returns:
        Of their dtype: a scalar (), or for "none" the losses (...). It is finite, and so is its gradient, also where
        the square of an error would overflow.

    Raises:
        ValueError: the shapes differ (the message gives both); `delta` is not greater than 0, or `reduction` none of
            the three (it names which, and its value).

    Example:
        >>> huber_loss(torch.tensor([0.5, 3.0]), torch.tensor([0.0, 0.0]), reduction="none")
        tensor([0.1250, 2.5000])
    """
    if prediction.shape != target.shape:  # (N,) and (N, 1) would broadcast to (N, N), and train on nonsense
        raise ValueError(f"prediction {tuple(prediction.shape)} and target {tuple(target.shape)} differ in shape")
    if not delta > 0.0:
        raise ValueError(f"delta must be greater than 0, got {delta}")
    size = (prediction - target).abs()
    # One expression for both parts: below delta it is size * (size - size / 2), beyond delta * (size - delta / 2). No
    # more than delta is ever squared, so nothing overflows.
    near = size.clamp_max(delta)
    return _reduce(near * (size - 0.5 * near), reduction)


def _checked(logits: Tensor, targets: Tensor, ignore_index: int) -> tuple[Tensor, Tensor]:
    """Each target's class as an index, 0 where it is ignored, and whether it counts; refuses what is no target."""
    if targets.is_floating_point() or targets.is_complex() or targets.dtype == torch.bool:
        raise TypeError(f"targets must be whole numbers, got {targets.dtype}")
    if targets.shape != logits.shape[:-1]:
        raise ValueError(f"logits (..., C) and targets (...) do not fit: {tuple(logits.shape)}, {tuple(targets.shape)}")
    number, targets = logits.shape[-1], targets.long()  # as uint8, the number -100 would be 156, and a class
    counted = targets != ignore_index
    outside = targets[counted & ((targets < 0) | (targets >= number))]
    if len(outside):
        raise ValueError(f"a target must be at least 0 and below {number}, or {ignore_index}, got {int(outside[0])}")
    # As an index, -100 would be refused or, worse, count from the end.
    return targets.masked_fill(~counted, 0), counted


def _of_classes(values: Tensor, classes: Tensor) -> Tensor:
    """Pick the entry of each class from the last axis; (..., C) to (...)."""
    return values.gather(-1, classes.unsqueeze(-1)).squeeze(-1)


def _reduce(losses: Tensor, reduction: str, count: Tensor | None = None) -> Tensor:
    """Leave the losses as they are, add them up, or take their mean over as many as count (all of them if None)."""
    if reduction == "none":
        return losses
    if reduction == "sum":
        return losses.sum()
    if reduction == "mean":
        return losses.mean() if count is None else losses.sum() / count.clamp_min(1)
    raise ValueError(f'reduction must be "mean", "sum" or "none", got {reduction!r}')
