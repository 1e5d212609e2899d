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
    _, fan_in = _fans(weight)
    with torch.no_grad():
        return weight.normal_(0.0, (2 / ((1 + negative_slope**2) * fan_in)) ** 0.5, generator=generator)


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
    bound = gain * (6 / sum(_fans(weight))) ** 0.5
    with torch.no_grad():
        return weight.uniform_(-bound, bound, generator=generator)


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
        super().__init__()
        if len(sizes) < 2 or min(sizes) < 1:
            raise ValueError(f"sizes must be at least two, each at least 1, got {list(sizes)}")
        if activation not in _ACTIVATIONS:
            raise ValueError(f"activation must be one of {', '.join(_ACTIVATIONS)}, got {activation!r}")
        layers = [nn.Linear(before, after, bias=bias) for before, after in pairwise(sizes)]
        _, fill_ = _ACTIVATIONS[activation]
        for layer in layers:
            fill_(layer.weight, generator=generator)
            if bias:
                nn.init.zeros_(layer.bias)
        self.in_features = sizes[0]
        self.activation = activation
        self.layers = nn.ModuleList(layers)  # a plain list would hide them from `parameters()`

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
        if x.dim() == 0 or x.shape[-1] != self.in_features:
            raise ValueError(f"x must be (..., {self.in_features}), got shape {tuple(x.shape)}")
        activate, _ = _ACTIVATIONS[self.activation]
        *hidden, last = self.layers
        for layer in hidden:
            x = activate(layer(x))
        return last(x)


# By name: the function, and what fills the weights of the layers about it. The module keeps only the name, so that it
# can be copied and pickled.
_ACTIVATIONS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[..., Tensor]]] = {
    "relu": (F.relu, he_normal_),
    "leaky_relu": (F.leaky_relu, partial(he_normal_, negative_slope=0.01)),
    "silu": (F.silu, he_normal_),
    "gelu": (F.gelu, he_normal_),
    "gelu_tanh": (partial(F.gelu, approximate="tanh"), he_normal_),
    "sigmoid": (torch.sigmoid, glorot_uniform_),
    "identity": (lambda x: x, glorot_uniform_),
    "tanh": (torch.tanh, partial(glorot_uniform_, gain=5 / 3)),
}


def _fans(weight: Tensor) -> tuple[int, int]:
    """The numbers of outputs and of inputs."""
    if weight.dim() != 2:
        raise ValueError(f"weight must be (fan_out, fan_in), got shape {tuple(weight.shape)}")
    fan_out, fan_in = weight.shape
    return fan_out, fan_in
