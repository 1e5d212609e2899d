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
    raise NotImplementedError("embeddings/sinusoidal: sinusoidal_encoding")


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
        raise NotImplementedError("embeddings/sinusoidal: SinusoidalEncoding.__init__")

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
        raise NotImplementedError("embeddings/sinusoidal: SinusoidalEncoding.forward")
