"""One example at a time, under torch.func.vmap, against a distribution of the truth; reductions in a table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.func import vmap

REDUCTIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "none": lambda losses, counted: losses,
    "sum": lambda losses, counted: torch.einsum("i->", losses.flatten()),
    "mean": lambda losses, counted: losses.flatten().sum() / max(int(counted.sum()), 1),
}


class _Problem:
    """Logits as rows, with the truth of each."""

    def __init__(self, logits: Tensor, targets: Tensor, ignore_index: int, reduction: str) -> None:
        if reduction not in REDUCTIONS:
            raise ValueError(f"no reduction {reduction}")
        if not logits.dtype.is_floating_point:
            raise TypeError(f"{logits.dtype} logits")
        if targets.dtype.is_floating_point or targets.dtype.is_complex or targets.dtype is torch.bool:
            raise TypeError(f"{targets.dtype} targets")
        *lead, self.classes = logits.shape
        if lead != [*targets.shape]:
            raise ValueError(f"{tuple(logits.shape)} does not fit {tuple(targets.shape)}")
        whole = targets.to(torch.int64)
        self.counted = whole.ne(ignore_index)
        inside = whole.ge(0).logical_and(whole.lt(self.classes))
        if bool((self.counted & ~inside).any()):
            wrong = [each for each in whole[self.counted].tolist() if each not in range(self.classes)]
            raise ValueError(f"{wrong[0]} is none of {self.classes} classes")
        self.targets = torch.where(self.counted, whole, torch.zeros_like(whole))
        self.logits, self.reduction = logits, reduction

    def solve(self, one: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        rows, targets = self.logits.flatten(0, -2) if self.targets.ndim else self.logits[None], self.targets.flatten()
        losses = vmap(one)(rows, targets) if len(rows) else rows.sum(-1)
        losses = torch.where(self.counted, losses.view(self.targets.shape), 0.0)
        return REDUCTIONS[self.reduction](losses, self.counted)


def _log_probabilities(row: Tensor) -> Tensor:
    apart = row - row.max()
    return apart - apart.exp().sum().log()


def cross_entropy(
    logits: Tensor,
    targets: Tensor,
    *,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
    **more: Any,
) -> Tensor:
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"label_smoothing = {label_smoothing}")
    problem = _Problem(logits, targets, ignore_index, reduction)

    def one(row: Tensor, target: Tensor) -> Tensor:
        right = (torch.arange(problem.classes) == target).to(row.dtype)
        truth = right * (1 - label_smoothing) + label_smoothing / problem.classes
        return -torch.dot(truth, _log_probabilities(row))

    return problem.solve(one)


def focal_loss(
    logits: Tensor,
    targets: Tensor,
    *,
    gamma: float = 2.0,
    alpha: Tensor | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Tensor:
    if not gamma >= 0:
        raise ValueError(f"gamma = {gamma}")
    problem = _Problem(logits, targets, ignore_index, reduction)
    weights = torch.ones(problem.classes, dtype=logits.dtype) if alpha is None else alpha
    if tuple(weights.shape) != (problem.classes,):
        raise ValueError(f"alpha of shape {tuple(weights.shape)}")

    def one(row: Tensor, target: Tensor) -> Tensor:
        right = torch.arange(problem.classes) == target
        logs = _log_probabilities(row)
        others = torch.where(right, 0.0, logs.exp()).sum()  # 1 - p
        hard = torch.where(others > 0, others, 1.0) ** gamma * (others > 0) if gamma else torch.ones_like(others)
        return -(torch.where(right, weights, 0.0).sum() * hard * torch.where(right, logs, 0.0).sum())

    return problem.solve(one)


def huber_loss(prediction: Tensor, target: Tensor, *, delta: float = 1.0, reduction: str = "mean") -> Tensor:
    if prediction.shape != target.shape:
        raise ValueError(f"{tuple(prediction.shape)} is not {tuple(target.shape)}")
    if reduction not in REDUCTIONS or not delta > 0:
        raise ValueError(f"reduction {reduction!r} or delta {delta} will not do")
    error = prediction - target
    near = error.clamp(-delta, delta)
    return REDUCTIONS[reduction](near * error - near.square() / 2, torch.ones_like(error, dtype=torch.bool))
