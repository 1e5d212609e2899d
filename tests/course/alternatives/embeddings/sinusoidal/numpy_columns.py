"""With numpy, column by column; a cosine is a sine a quarter turn on."""

import numpy as np
import torch
from torch import Tensor, nn


def sinusoidal_encoding(
    length: int, embedding_dim: int, *, past: int = 0, base: float = 1e4, dtype=torch.float32, device=None
) -> Tensor:
    problems = [
        f"length is {length}" if length < 0 else "",
        f"past is {past}" if past < 0 else "",
        f"embedding_dim is {embedding_dim}" if embedding_dim not in range(2, embedding_dim + 1, 2) else "",
        "" if base > 0 else f"base is {base}",
    ]
    if any(problems):
        raise ValueError("; ".join(problem for problem in problems if problem))
    positions = np.arange(past, past + length, dtype=np.float64)
    columns = []
    for column in range(embedding_dim):
        pair, second = divmod(column, 2)
        wavelength = 2 * np.pi * base ** (2 * pair / embedding_dim)
        columns.append(np.sin(2 * np.pi * (positions / wavelength + second / 4)))
    return torch.from_numpy(np.stack(columns, axis=1)).to(dtype=dtype, device=device)


class SinusoidalEncoding(nn.Module):
    def __init__(self, embedding_dim: int, *, base: float = 1e4):
        super().__init__()
        sinusoidal_encoding(1, embedding_dim, base=base)
        self.width = embedding_dim
        self.base = base

    def extra_repr(self):
        return f"{self.width}, base={self.base}"

    def forward(self, x: Tensor, *, past: int = 0) -> Tensor:
        if len(x.shape) != 3 or x.shape[-1] != self.width:
            raise ValueError(f"the last of three axes should have {self.width}: {tuple(x.shape)}")
        encoding = sinusoidal_encoding(x.shape[1], self.width, past=past, base=self.base, dtype=torch.float64)
        result = x.clone()
        result += encoding.to(x)
        return result
