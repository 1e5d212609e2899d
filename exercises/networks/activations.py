"""Activation functions: what stands between two linear layers, without which both would be one.

Each is applied element by element, to a tensor of any shape and of a floating dtype; the result has the same shape
and dtype. In float32 and float64 all values and gradients are finite wherever the input is between -1e4 and 1e4.

Symbols: exp the exponential function, Φ the distribution function of the standard normal, `...` any axes.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


def relu(x: Tensor) -> Tensor:
    """Keep what is positive, and make the rest 0 (Nair and Hinton 2010, section 2).

    Args:
        x: numbers of any shape. NaN stays NaN: a broken input shall not look like a quiet one.

    Returns:
        max(x, 0). The gradient is 1 where x > 0 and 0 elsewhere, at 0 itself too.

    Example:
        >>> relu(torch.tensor([-2.0, 0.0, 3.0]))
        tensor([0., 0., 3.])
    """
    raise NotImplementedError("networks/activations: relu")


def leaky_relu(x: Tensor, negative_slope: float = 0.01) -> Tensor:
    """Keep what is positive, and make the rest small, so that a gradient is left (Maas et al. 2013, section 2).

    Args:
        x: numbers of any shape.
        negative_slope: by which what is not positive is multiplied; any number.

    Returns:
        x where x > 0, and negative_slope * x elsewhere. The gradient is 1 above 0, and `negative_slope` below; at 0
        itself it may be anything.

    Example:
        >>> leaky_relu(torch.tensor([-2.0, 3.0]), 0.1)
        tensor([-0.2000,  3.0000])
    """
    raise NotImplementedError("networks/activations: leaky_relu")


def sigmoid(x: Tensor) -> Tensor:
    """Map all numbers to probabilities, 0 to 1/2: the logistic function.

    Args:
        x: numbers of any shape.

    Returns:
        1 / (1 + exp(-x)), up to rounding even where that is tiny: sigmoid(-50) is 1.9287e-22. The gradient is
        sigmoid(x) * (1 - sigmoid(x)): 1/4 at 0, never NaN.

    Example:
        >>> sigmoid(torch.tensor([0.0, math.log(3.0), -10000.0]))
        tensor([0.5000, 0.7500, 0.0000])
    """
    raise NotImplementedError("networks/activations: sigmoid")


def tanh(x: Tensor) -> Tensor:
    """Map all numbers to -1 to 1, odd about 0: the hyperbolic tangent.

    Args:
        x: numbers of any shape.

    Returns:
        (exp(x) - exp(-x)) / (exp(x) + exp(-x)), up to rounding even where that is tiny: tanh(1e-6) is 1e-6 to all
        digits. The gradient is 1 - tanh(x)^2: 1 at 0, never NaN.

    Example:
        >>> tanh(torch.tensor([0.0, math.log(2.0), -10000.0]))
        tensor([ 0.0000,  0.6000, -1.0000])
    """
    raise NotImplementedError("networks/activations: tanh")


def silu(x: Tensor) -> Tensor:
    """Let each number through as far as its own sigmoid opens: SiLU (Elfwing et al. 2018, section 2), or Swish.

    Args:
        x: numbers of any shape.

    Returns:
        x * sigmoid(x), as precise as `sigmoid` where x is far below 0.

    Example:
        >>> silu(torch.tensor([-10000.0, 0.0, math.log(3.0)]))
        tensor([-0.0000, 0.0000, 0.8240])
    """
    raise NotImplementedError("networks/activations: silu")


def gelu(x: Tensor) -> Tensor:
    """Let each number through with the probability that a normal one is below it (Hendrycks and Gimpel 2016).

    The exact form, of BERT; GPT-2 has that of `gelu_tanh`.

    Args:
        x: numbers of any shape.

    Returns:
        x * Φ(x), up to rounding even where that is tiny: gelu(-5) is -1.4333e-06 in float32 too. Φ(x) is
        (1 + erf(x / sqrt(2))) / 2, and also erfc(-x / sqrt(2)) / 2.

    Example:
        >>> gelu(torch.tensor([-10000.0, 0.0, 1.0]))
        tensor([-0.0000, 0.0000, 0.8413])
    """
    raise NotImplementedError("networks/activations: gelu")


def gelu_tanh(x: Tensor) -> Tensor:
    """Approximate GELU by a hyperbolic tangent (Hendrycks and Gimpel 2016, section 2): the activation of GPT-2.

    Args:
        x: numbers of any shape.

    Returns:
        0.5 * x * (1 + tanh(sqrt(2 / π) * (x + 0.044715 * x^3))).

    Example:
        >>> gelu_tanh(torch.tensor([-10000.0, 0.0, 1.0]))
        tensor([-0.0000, 0.0000, 0.8412])
    """
    raise NotImplementedError("networks/activations: gelu_tanh")


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": relu,
    "leaky_relu": leaky_relu,
    "sigmoid": sigmoid,
    "tanh": tanh,
    "silu": silu,
    "gelu": gelu,
    "gelu_tanh": gelu_tanh,
}


class SwiGLU(nn.Module):
    """Two linear maps of one input, of which the first opens and shuts the second (Shazeer 2020, section 2).

    ``forward(x) = silu(gate(x)) * value(x)``

    Parameters:
        gate: `nn.Linear` of `in_features` to `out_features`, which goes through `silu`.
        value: another of the same shape, which does not.

    Args:
        in_features: the width of the input, at least 1.
        out_features: the width of the output, at least 1.
        bias: whether `gate` and `value` have biases.

    Raises:
        ValueError: a width is below 1; the message names it and its value.

    Example:
        >>> SwiGLU(768, 2048)(torch.zeros(2, 5, 768)).shape
        torch.Size([2, 5, 2048])
    """

    def __init__(self, in_features: int, out_features: int, *, bias: bool = True) -> None:
        raise NotImplementedError("networks/activations: SwiGLU.__init__")

    def forward(self, x: Tensor) -> Tensor:
        """Map the last axis.

        Args:
            x: (..., in_features).

        Returns:
            (..., out_features).

        Raises:
            ValueError: the last axis of `x` is not `in_features` wide, or `x` has no axis; the message gives that
                number and the shape.
        """
        raise NotImplementedError("networks/activations: SwiGLU.forward")
