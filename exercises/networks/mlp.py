"""Multi-layer perceptrons: linear layers with an activation between them, and weights that let signals through.

A layer multiplies the variance of what passes by a factor, forwards and backwards. Through L layers that factor is
taken to the power L, so it has to be 1, and the weights one begins with decide it.

Symbols: `fan_in` and `fan_out`, the numbers of inputs and outputs of a layer: its weight is (fan_out, fan_in), as in
`nn.Linear`. `...` any axes.
"""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def he_normal_(weight: Tensor, negative_slope: float = 0.0, *, generator: torch.Generator | None = None) -> Tensor:
    """Fill a weight with normal numbers that keep the variance through (leaky) ReLUs (He et al. 2015, section 2.2).

    A ReLU lets half of the mean square through, and a leaky one of slope a lets (1 + a^2) / 2 through; the weights
    make up for it.

    Args:
        weight: (fan_out, fan_in), filled in place; the operation itself is not recorded for gradients.
        negative_slope: a, the slope of the leaky ReLU before the layer; 0 is ReLU, 1 no activation at all.
        generator: where the numbers are drawn from; torch's global one if None.

    Returns:
        `weight` itself, now independent normal numbers of mean 0 and variance 2 / ((1 + a^2) * fan_in).

    Raises:
        ValueError: `weight` has not two axes; the message gives its shape.

    Example:
        >>> round(he_normal_(torch.empty(300, 200)).std().item(), 2)  # sqrt(2 / 200)
        0.1
    """
    raise NotImplementedError("networks/mlp: he_normal_")


def glorot_uniform_(weight: Tensor, gain: float = 1.0, *, generator: torch.Generator | None = None) -> Tensor:
    """Fill a weight with uniform numbers that suit both directions (Glorot and Bengio 2010, equation 16).

    Forwards 1 / fan_in would keep the variance, backwards 1 / fan_out; this is the inverse of their mean.

    Args:
        weight: (fan_out, fan_in), filled in place; the operation itself is not recorded for gradients.
        gain: factor of all weights, which makes up for what the activation takes away.
        generator: where the numbers are drawn from; torch's global one if None.

    Returns:
        `weight` itself, now independent numbers, uniform between -bound and bound, where bound is
        gain * sqrt(6 / (fan_in + fan_out)). Their variance is bound^2 / 3, gain^2 * 2 / (fan_in + fan_out).

    Raises:
        ValueError: `weight` has not two axes; the message gives its shape.

    Example:
        >>> bool(glorot_uniform_(torch.empty(20, 4)).abs().max() <= 0.5)  # sqrt(6 / 24)
        True
    """
    raise NotImplementedError("networks/mlp: glorot_uniform_")


class MLP(nn.Module):
    """Linear layers with an activation between any two of them, and none behind the last.

    Parameters:
        layers: `nn.Linear` of sizes[0] to sizes[1], of sizes[1] to sizes[2] and so on, so that the state_dict holds
            ``layers.0.weight``, ``layers.0.bias``, ``layers.1.weight`` and so on, and nothing else.

    All weights, the last layer's too, are filled as suits the activation:

    ====================================  ===========================================
    "relu", "silu", "gelu", "gelu_tanh"   `he_normal_`
    "leaky_relu" (of slope 0.01)          `he_normal_` with that slope
    "sigmoid", "identity" (none at all)   `glorot_uniform_`
    "tanh"                                `glorot_uniform_` with a gain of 5/3
    ====================================  ===========================================

    (5/3 is the gain of `nn.init.calculate_gain`: with it a signal of mean square 1 stays near 1 through any number of
    layers; without, each layer loses some.) All biases are 0.

    Args:
        sizes: the width of the input, of each hidden layer, and of the output: at least two, each at least 1.
        activation: one of the names above; "gelu" is the exact one.
        bias: whether the layers have biases.
        generator: where the weights are drawn from, the first layer's first; torch's global one if None.

    Raises:
        ValueError: `sizes` are fewer than two, or one of them is below 1; or `activation` is none of the names. The
            message gives the sizes, or the activation.

    Example:
        >>> network = MLP([784, 256, 256, 10], "relu")
        >>> network(torch.zeros(32, 784)).shape
        torch.Size([32, 10])
        >>> network.layers[0].weight.shape
        torch.Size([256, 784])
    """

    def __init__(
        self,
        sizes: Sequence[int],
        activation: str = "relu",
        *,
        bias: bool = True,
        generator: torch.Generator | None = None,
    ) -> None:
        raise NotImplementedError("networks/mlp: MLP.__init__")

    def forward(self, x: Tensor) -> Tensor:
        """Map the last axis.

        Args:
            x: (..., sizes[0]), of the dtype of the parameters.

        Returns:
            (..., sizes[-1]), of any sign: nothing is behind the last layer.

        Raises:
            ValueError: the last axis of `x` is not sizes[0] wide, or `x` has no axis; the message gives that number
                and the shape.
        """
        raise NotImplementedError("networks/mlp: MLP.forward")
