"""Nested lists for the causal mask, and a softmax made of exponentials, computed in float64 inside."""

from itertools import compress

import numpy as np
import torch
from torch import Tensor


def _negative(**numbers: int) -> None:
    found = {name: number for name, number in numbers.items() if number < 0}
    if found:
        raise ValueError(f"must not be negative: {found}")


def causal_mask(length: int, *, past: int = 0, device: torch.device | None = None) -> Tensor:
    """One row after the other: so many times True, so many times False."""
    _negative(length=length, past=past)
    rows = [[True] * (past + row + 1) + [False] * (length - row - 1) for row in range(length)]
    return torch.tensor(rows, dtype=torch.bool, device=device).reshape(length, length + past)


def padding_mask(lengths: Tensor, size: int | None = None) -> Tensor:
    """The triangle's row number n has n times True: the mask is a choice of its rows."""
    if len(lengths.shape) != 1:
        raise ValueError(f"expected (B,), not {tuple(lengths.shape)}")
    numbers = lengths.cpu().numpy()
    width = int(numbers.max()) if size is None else size
    bad = list(compress(numbers, (numbers < 0) | (numbers > width)))
    if bad:
        raise ValueError(f"no such length in a size of {width}: {bad[0]}")
    triangle = np.tri(width + 1, width, -1, dtype=bool)
    return torch.from_numpy(triangle[numbers]).to(lengths.device)[:, np.newaxis, np.newaxis]


def combine_masks(*masks: Tensor | None) -> Tensor | None:
    """Where none of them hides."""
    hidden: Tensor | None = None
    for mask in filter(lambda mask: mask is not None, masks):
        assert mask is not None
        if mask.is_floating_point() or mask.is_complex() or mask.dtype != torch.bool:
            raise TypeError(f"{mask.dtype} is no boolean dtype")
        hidden = ~mask if hidden is None else torch.logical_or(hidden, ~mask)
    return None if hidden is None else ~hidden


def masked_softmax(scores: Tensor, mask: Tensor | None = None) -> Tensor:
    """exp(score - highest visible score) over the sum of them."""
    seen = torch.ones_like(scores, dtype=torch.bool) if mask is None else mask.broadcast_to(scores.shape)
    wide = scores.double()
    lowest = torch.finfo(torch.float64).min
    highest = torch.where(seen, wide, lowest).max(dim=-1, keepdim=True).values.detach()
    # What is hidden is replaced before the exponential: an inf there would make NaN gradients.
    parts = torch.where(seen, torch.exp(torch.where(seen, wide - highest, 0.0)), 0.0)
    total = parts.sum(-1, keepdim=True)
    return (parts / torch.where(total > 0, total, 1.0)).type_as(scores)
