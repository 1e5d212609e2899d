"""As a plain programmer would write it: positions compared with positions, -inf filled in, no type hints."""

import functools

import torch


def causal_mask(length, *, past=0, device=None):
    for name, number in (("length", length), ("past", past)):
        if number < 0:
            raise ValueError(f"{name} is {number}, but cannot be negative")
    keys = torch.arange(past + length, device=device)
    queries = torch.arange(past, past + length, device=device)
    return keys.unsqueeze(0) <= queries.unsqueeze(1)


def padding_mask(lengths, size=None):
    if lengths.ndim != 1:
        raise ValueError(f"one axis wanted, got {tuple(lengths.shape)}")
    counts = lengths.tolist()
    if size is None:
        size = max(counts)
    for count in counts:
        if count < 0 or count > size:
            raise ValueError(f"{count} tokens in a row of {size}")
    mask = torch.zeros(len(counts), 1, 1, size, dtype=torch.bool, device=lengths.device)
    for row, count in enumerate(counts):
        mask[row, ..., :count] = True
    return mask


def combine_masks(*masks):
    given = [mask for mask in masks if mask is not None]
    wrong = [str(mask.dtype) for mask in given if mask.dtype is not torch.bool]
    if wrong:
        raise TypeError(f"only booleans can be combined, not {', '.join(wrong)}")
    return functools.reduce(torch.logical_and, given) if given else None


def masked_softmax(scores, mask=None):
    if mask is None:
        return torch.softmax(scores, -1)
    hidden = mask.logical_not().expand(scores.shape)
    blind = hidden.all(dim=-1, keepdim=True)
    # A row that sees nothing is shared evenly first, and emptied in the end.
    shifted = scores.masked_fill(hidden, -torch.inf).masked_fill(blind, 0)
    return torch.softmax(shifted, -1).masked_fill(hidden, 0)
