"""Each pair is a complex number on the unit circle; the module keeps the longest table so far, in float64."""

import torch
from torch import Tensor, nn


def sinusoidal_encoding(
    length: int,
    embedding_dim: int,
    *,
    past: int = 0,
    base: float = 10000.0,
    dtype: torch.dtype = torch.float32,
    device: torch.device | None = None,
) -> Tensor:
    if min(length, past) < 0:
        raise ValueError(f"neither may be negative: length={length}, past={past}")
    pairs, rest = divmod(embedding_dim, 2)
    if rest or pairs < 1:
        raise ValueError(f"embedding_dim={embedding_dim} is not made of pairs")
    if not 0 < base:
        raise ValueError(f"no waves with base={base}")
    logarithm = torch.tensor(base, dtype=torch.float64).log()
    speeds = (-logarithm / pairs * torch.arange(pairs)).exp()
    angles = torch.outer(torch.arange(past, past + length).double(), speeds)
    circle = torch.polar(torch.ones_like(angles), angles)  # cosine + i sine
    sine_first = torch.view_as_real(circle).flip(-1)
    return sine_first.reshape(length, embedding_dim).to(dtype).to(device)


class SinusoidalEncoding(nn.Module):
    def __init__(self, embedding_dim: int, *, base: float = 10000.0) -> None:
        super().__init__()
        self._width, self._base = embedding_dim, base
        self._table = [self._rows(0)]  # in a list, where `to` does not find it

    def _rows(self, count: int) -> Tensor:
        return sinusoidal_encoding(count, self._width, base=self._base, dtype=torch.float64)

    def forward(self, x: Tensor, *, past: int = 0) -> Tensor:
        if x.ndim != 3 or x.shape[2] != self._width:
            raise ValueError(f"(batch, time, {self._width}) it should be, but is {list(x.shape)}")
        if past < 0:
            raise ValueError(f"past={past} lies before the beginning")
        end = past + x.shape[1]
        if len(self._table[0]) < end:
            self._table[0] = self._rows(2 * end)
        return x + self._table[0][past:end].to(device=x.device, dtype=x.dtype)
