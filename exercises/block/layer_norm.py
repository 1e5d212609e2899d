"""Normalisation: brings the numbers of each token to one scale, whatever the layers before have made of them.

Symbols: C the width of a token (`embed_dim`). "..." stands for any axes before it, usually (B, T): B sequences of T
tokens. Each token is normalised by itself, so no other token and no other sequence has a say.
"""

import torch
from torch import Tensor, nn


class LayerNorm(nn.Module):
    """Give each token mean 0 and variance 1, then a learned scale and shift (Ba et al. 2016, section 3).

    With mean and variance taken over the C numbers of one token,

        result = (x - mean) / sqrt(variance + eps) * weight + bias

    The variance is the biased one, the mean of the squared distances from the mean. It is computed from these
    distances: the shorter E[x^2] - E[x]^2 is the difference of two large numbers where the mean is large, and loses
    all digits.

    Parameters:
        weight: (C,), ones at the start.
        bias: (C,), zeros at the start; there is none with ``bias=False``.

    The state_dict holds these and nothing else, as that of `torch.nn.LayerNorm`.

    Args:
        embed_dim: C, at least 1.
        eps: added to the variance, under the root; at least 0. It decides where a token's numbers are nearly equal.
        bias: whether there is a bias.

    Raises:
        ValueError: `embed_dim` or `eps` is out of its range, as NaN is; the message names which, and its value.

    Example:
        >>> LayerNorm(2)(torch.tensor([[1.0, 3.0], [10.0, 70.0]])).detach()
        tensor([[-1.0000,  1.0000],
                [-1.0000,  1.0000]])
    """

    def __init__(self, embed_dim: int, eps: float = 1e-5, bias: bool = True) -> None:
        raise NotImplementedError("block/layer_norm: LayerNorm.__init__")

    def forward(self, x: Tensor) -> Tensor:
        """Normalise each token by itself.

        Args:
            x: tokens (..., C), of a floating dtype.

        Returns:
            (..., C), of the dtype of `x`, whatever that of the parameters. Where `x` is in half precision (float16,
            bfloat16) all is computed in float32 at least, and rounded once at the end; float64 stays float64.

        Raises:
            ValueError: `x` has no axis, or its last is not of size C; the message gives C and the shape.
        """
        raise NotImplementedError("block/layer_norm: LayerNorm.forward")


class RMSNorm(nn.Module):
    """Give each token a root mean square of 1, then a learned scale (Zhang and Sennrich 2019, section 4, equation 4).

        result = x / sqrt(mean of x^2 + eps) * weight

    Nothing is subtracted and nothing is added: a token's mean stays. Later models have it in the place of LayerNorm,
    for it does less and serves them as well.

    Parameters:
        weight: (C,), ones at the start.

    The state_dict holds this and nothing else, as that of `torch.nn.RMSNorm`.

    Args:
        embed_dim: C, at least 1.
        eps: added to the mean square, under the root; at least 0.

    Raises:
        ValueError: `embed_dim` or `eps` is out of its range, as NaN is; the message names which, and its value.

    Example:
        >>> RMSNorm(2)(torch.tensor([[3.0, 4.0], [0.0, 1.0]])).detach()
        tensor([[0.8485, 1.1314],
                [0.0000, 1.4142]])
    """

    def __init__(self, embed_dim: int, eps: float = 1e-5) -> None:
        raise NotImplementedError("block/layer_norm: RMSNorm.__init__")

    def forward(self, x: Tensor) -> Tensor:
        """Divide each token by its root mean square.

        Args:
            x: tokens (..., C), of a floating dtype.

        Returns:
            (..., C), of the dtype of `x`, computed as `LayerNorm` does: in float32 at least.

        Raises:
            ValueError: `x` has no axis, or its last is not of size C; the message gives C and the shape.
        """
        raise NotImplementedError("block/layer_norm: RMSNorm.forward")
