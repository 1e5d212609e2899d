"""Einstein sums, the scale applied to the finished scores, a mask that is made a bias, and uniform numbers for dropout."""

import math

import torch
from torch.nn import functional


def _check_that_it_fits(what, tensor, wanted):
    fits = len(tensor.shape) <= len(wanted) and all(
        size in (1, full) for size, full in zip(reversed(tensor.shape), reversed(wanted))
    )
    if not fits:
        raise ValueError(f"cannot broadcast the {what} of shape {tuple(tensor.shape)} to {tuple(wanted)}")


def attention_weights(query, key, mask=None, *, bias=None, scale=None):
    if query.size(-1) != key.size(-1):
        raise ValueError(f"D is not the same in query {tuple(query.shape)} and key {tuple(key.shape)}")
    scores = torch.einsum("...td,...sd->...ts", query, key)
    scores = scores / math.sqrt(query.size(-1)) if scale is None else scores * scale
    if bias is not None:
        if not torch.is_floating_point(bias):
            raise TypeError(f"a bias of {bias.dtype}?")
        _check_that_it_fits("bias", bias, scores.shape)
        scores = scores + bias
    if mask is None:
        return functional.softmax(scores, dim=-1)
    if mask.dtype != torch.bool:
        raise TypeError(f"a mask of {mask.dtype}?")
    _check_that_it_fits("mask", mask, scores.shape)
    blind = ~mask.any(-1, keepdim=True)
    scores = torch.where(mask | blind, scores, -math.inf)
    return torch.where(blind, 0.0, functional.softmax(scores, dim=-1))


def scaled_dot_product_attention(query, key, value, mask=None, *, bias=None, scale=None, dropout=0.0, generator=None):
    if not (dropout >= 0 and dropout < 1):
        raise ValueError(f"dropout={dropout} is no probability below 1")
    if key.size(-2) != value.size(-2):
        raise ValueError(f"as many values as keys, please: key {tuple(key.shape)}, value {tuple(value.shape)}")
    weights = attention_weights(query, key, mask, bias=bias, scale=scale)
    if dropout > 0:
        lucky = torch.rand(weights.shape, generator=generator) >= dropout
        weights = weights.masked_fill(~lucky.to(weights.device), 0) / (1 - dropout)
    return torch.einsum("...ts,...sv->...tv", weights, value)
