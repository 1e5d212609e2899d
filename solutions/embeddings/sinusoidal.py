"""Sinusoidal positions: waves of many lengths, read at each position, tell a model where a token stands.

Symbols: B sequences in a batch, T their length, C the width of the tokens (`embedding_dim`), which is even. Positions
are numbered from 0.
"""

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
    """Encode positions by the sine and cosine of angles that grow with them (Vaswani et al. 2017, section 3.5).

    For i from 0 to C/2 - 1, columns 2i and 2i + 1 of position p are the sine and the cosine, in this order and side by
    side, of the angle p / base^(2i/C), in radians.

    Args:
        length: number of positions T, at least 0.
        embedding_dim: C, even, at least 2.
        past: number of positions before the first, at least 0, as in `causal_mask` of attention/masking.
        base: the lengths of the waves run from 2 pi towards 2 pi times this number; greater than 0.
        dtype: floating dtype of the result.
        device: where it is made.

    Returns:
        (T, C), row t for position past + t. Up to position 100,000 each number lies within 1e-6 of the true one in
        float32, within 1e-9 in float64, and within a unit in the last place in a shorter dtype.

    Raises:
        ValueError: `length` or `past` is negative, `embedding_dim` is odd or less than 2, or `base` is not greater than
            0; the message names which, and its value.

    Example:
        >>> sinusoidal_encoding(2, 4)
        tensor([[0.0000, 1.0000, 0.0000, 1.0000],
                [0.8415, 0.5403, 0.0100, 0.9999]])
    """
    for name, size in (("length", length), ("past", past)):
        if size < 0:
            raise ValueError(f"{name} must be at least 0, got {size}")
    if embedding_dim < 2 or embedding_dim % 2:
        raise ValueError(f"embedding_dim must be even and at least 2, got {embedding_dim}")
    if not base > 0:
        raise ValueError(f"base must be greater than 0, got {base}")
    # In float32 an angle near 10,000 is only known to 0.0005, and its sine no better. So the angles are float64, which
    # not every device has, and what is rounded to `dtype` and moved is the result.
    positions = torch.arange(past, past + length)
    exponents = torch.arange(0, embedding_dim, 2, dtype=torch.float64) / embedding_dim
    angles = positions[:, None] / base**exponents  # (T, C / 2)
    encoding = torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1)  # (T, C / 2, 2) to (T, C)
    return encoding.to(device=device, dtype=dtype)


class SinusoidalEncoding(nn.Module):
    """Add its position's encoding to each token.

    It has no parameters, and nothing in its state_dict: what can be computed need be neither learned nor saved. There
    is no greatest length.

    Args:
        embedding_dim: C, even, at least 2.
        base: as in `sinusoidal_encoding`.

    Raises:
        ValueError: `embedding_dim` is odd or less than 2, or `base` is not greater than 0; the message names which, and
            its value.

    Example:
        >>> SinusoidalEncoding(4)(torch.ones(1, 2, 4))
        tensor([[[1.0000, 2.0000, 1.0000, 2.0000],
                 [1.8415, 1.5403, 1.0100, 1.9999]]])
    """

    def __init__(self, embedding_dim: int, *, base: float = 10000.0) -> None:
        super().__init__()
        sinusoidal_encoding(0, embedding_dim, base=base)  # refuses what it could not encode
        self.embedding_dim = embedding_dim
        self.base = base

    def forward(self, x: Tensor, *, past: int = 0) -> Tensor:
        """Add the encoding of positions past to past + T - 1 to the tokens of each sequence.

        Args:
            x: tokens (B, T, C), of a floating dtype.
            past: number of tokens before the first of `x`, at least 0; a decoder with a cache has some.

        Returns:
            (B, T, C), of the dtype of `x`, in which the encoding is computed too, as exactly as by
            `sinusoidal_encoding`; where `x` is.

        Raises:
            ValueError: `x` has not three axes, the last of size C, or `past` is negative; the message gives the shape,
                or names `past` and its value.
        """
        if x.dim() != 3 or x.shape[-1] != self.embedding_dim:
            raise ValueError(f"x must be (B, T, {self.embedding_dim}), got shape {tuple(x.shape)}")
        # Made anew, and no buffer: `to` would round that to a shorter dtype, and back without the digits it lost.
        encoding = sinusoidal_encoding(
            x.shape[1], self.embedding_dim, past=past, base=self.base, dtype=x.dtype, device=x.device
        )
        return x + encoding
