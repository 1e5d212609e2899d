"""Plain: Python's math, a number at a time; no types."""

import math

import torch
from torch import nn


def _check_width_and_base(embedding_dim, base):
    if embedding_dim <= 0 or embedding_dim % 2 == 1:
        raise ValueError(f"embedding_dim = {embedding_dim}, but it must be a positive even number")
    if base <= 0 or math.isnan(base):
        raise ValueError(f"base = {base}, but it must be positive")


def sinusoidal_encoding(length, embedding_dim, *, past=0, base=10000.0, dtype=torch.float32, device=None):
    if length < 0:
        raise ValueError(f"length = {length} is negative")
    if past < 0:
        raise ValueError(f"past = {past} is negative")
    _check_width_and_base(embedding_dim, base)
    table = torch.empty(length, embedding_dim, dtype=dtype)
    for t in range(length):
        for i in range(embedding_dim // 2):
            angle = (past + t) / math.pow(base, 2 * i / embedding_dim)
            table[t, 2 * i] = math.sin(angle)
            table[t, 2 * i + 1] = math.cos(angle)
    return table.to(device)


class SinusoidalEncoding(nn.Module):
    def __init__(self, embedding_dim, *, base=10000.0):
        super().__init__()
        _check_width_and_base(embedding_dim, base)
        self.options = {"embedding_dim": embedding_dim, "base": base}

    def forward(self, x, *, past=0):
        width = self.options["embedding_dim"]
        if x.dim() != 3 or x.size(2) != width:
            raise ValueError(f"want three axes with {width} numbers in the last, not {x.shape}")
        rows = sinusoidal_encoding(x.size(1), past=past, dtype=x.dtype, device=x.device, **self.options)
        return rows.unsqueeze(0).expand(x.size(0), -1, -1) + x
