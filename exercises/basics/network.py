"""A network with one hidden layer, its gradients derived by hand, and gradient descent.

Everything that `torch.nn`, autograd and `torch.optim` do for larger networks is here in the open.

Symbols: B examples in a batch, at least one, D numbers in each, H hidden units, C classes.
"""

import math

import torch
from torch import Tensor

from .tensors import log_softmax, one_hot, softmax


def spiral(
    points: int, arms: int, *, generator: torch.Generator, turns: float = 0.75, noise: float = 0.04
) -> tuple[Tensor, Tensor]:
    """Draw points on interleaved spiral arms: classes that no straight line separates.

    Args:
        points: how many points each arm gets.
        arms: how many arms there are; each is a class.
        generator: the source of randomness.
        turns: how far an arm winds around the origin for each 2 of its radius, in full turns.
        noise: standard deviation of each coordinate around its arm.

    Returns:
        Positions (arms * points, 2), float32, at a radius from 0.4 to 2, and the arm of each (arms * points,),
        int64, the points of one arm after those of another.
    """
    radius = 0.4 + 1.6 * torch.rand(arms, points, generator=generator)
    start = torch.arange(arms)[:, None] / arms  # in full turns, as everything until the next line
    angle = 2 * math.pi * (start + turns * radius / 2)
    positions = torch.stack([radius * angle.cos(), radius * angle.sin()], dim=-1).reshape(-1, 2)
    positions += noise * torch.randn(positions.shape, generator=generator)
    return positions, torch.arange(arms).repeat_interleave(points)


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Average, over the batch, of -log of the probability that the softmax gives to the right class.

    Args:
        logits: (B, C), of a floating dtype, of any size: logits of 1e4 give a finite loss.
        targets: the right classes (B,), int64, from 0 to C - 1.

    Returns:
        The mean loss in nats, a tensor () of the dtype of `logits`.

    Raises:
        ValueError: `targets` is not of shape (B,), or one of them is no class; the message gives the shape that was
            got, or the target and C.

    Example:
        >>> cross_entropy(torch.zeros(3, 2), torch.tensor([0, 1, 1]))  # two classes alike: ln 2
        tensor(0.6931)
    """
    raise NotImplementedError("basics/network: cross_entropy")


class OneHiddenLayerNetwork:
    """A layer of tanh units and a layer of logits, without any help from autograd.

        hidden = tanh(inputs @ hidden_weight.T + hidden_bias)    (B, H)
        logits = hidden @ output_weight.T + output_bias          (B, C)

    The weights start as independent normal numbers of mean 0 and standard deviation 1 / sqrt(fan_in), where fan_in
    is how many numbers a unit adds up: D for a hidden unit, H for a logit. A sum of that many then has a variance
    of the size of its inputs', so the tanh units start where they are neither saturated nor all alike (LeCun et al.
    1998, Efficient BackProp, section 4.6). The biases start at 0. Weights of 0 would never learn: every hidden unit
    would get the same gradient as its neighbour.

    Args:
        inputs: D.
        hidden: H.
        classes: C.
        generator: where the weights are drawn from; the same seed gives the same weights.
        dtype: of all four parameters.

    Attributes:
        hidden_weight: (H, D). All four are plain tensors with `requires_grad` False, and are read anew by every
            call, so one may write into them or put another tensor in their place.
        hidden_bias: (H,).
        output_weight: (C, H).
        output_bias: (C,).
    """

    def __init__(
        self,
        inputs: int,
        hidden: int,
        classes: int,
        *,
        generator: torch.Generator,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        raise NotImplementedError("basics/network: OneHiddenLayerNetwork.__init__")

    def parameters(self) -> dict[str, Tensor]:
        """All that is learnt, by name.

        Returns:
            The tensors `hidden_weight`, `hidden_bias`, `output_weight` and `output_bias` under these names: the
            tensors themselves, so that writing into one changes the network.
        """
        raise NotImplementedError("basics/network: OneHiddenLayerNetwork.parameters")

    def forward(self, inputs: Tensor) -> Tensor:
        """Compute the logits, and keep what `backward` will need.

        Args:
            inputs: (B, D), of the dtype of the parameters.

        Returns:
            Logits (B, C).

        Raises:
            ValueError: `inputs` is not of shape (B, D); the message gives the shape that was got, and D.

        Example:
            >>> network = OneHiddenLayerNetwork(2, 8, 3, generator=torch.Generator().manual_seed(0))
            >>> network.forward(torch.zeros(1, 2))  # tanh(0) is 0, and so are the biases
            tensor([[0., 0., 0.]])
        """
        raise NotImplementedError("basics/network: OneHiddenLayerNetwork.forward")

    def backward(self, targets: Tensor) -> dict[str, Tensor]:
        """Compute the gradients of the loss of the last `forward`, by the chain rule and without autograd.

        The loss is that of `cross_entropy`: the mean over the batch. The parameters are left as they are, and
        calling it again gives the same gradients again: nothing is added up.

        Args:
            targets: the right classes (B,) of the inputs that `forward` last got, int64, from 0 to C - 1.

        Returns:
            For each name of `parameters()` the gradient with respect to that parameter, of its shape and dtype.

        Raises:
            RuntimeError: there has been no `forward` yet; the message says that forward comes first.
            ValueError: `targets` is not of shape (B,), or one of them is no class; the message gives the shape that
                was got, or the target and C.

        Example:
            >>> network = OneHiddenLayerNetwork(2, 8, 3, generator=torch.Generator().manual_seed(0))
            >>> _ = network.forward(torch.zeros(1, 2))
            >>> network.backward(torch.tensor([2]))["output_bias"]
            tensor([ 0.3333,  0.3333, -0.6667])
        """
        raise NotImplementedError("basics/network: OneHiddenLayerNetwork.backward")


def train(
    network: OneHiddenLayerNetwork, inputs: Tensor, targets: Tensor, *, steps: int, learning_rate: float
) -> list[float]:
    """Go down the gradient of the loss: every step sees the whole batch and changes every parameter.

    A step is parameter <- parameter - learning_rate * gradient, with all gradients taken at the parameters as they
    were before it. There is no momentum and no weight decay.

    Args:
        network: is changed.
        inputs: (B, D).
        targets: (B,), int64.
        steps: how many steps to take; with 0 the network stays as it is.
        learning_rate: the factor before the gradient.

    Returns:
        The loss before each step, `steps` numbers.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> positions, arm = spiral(50, 3, generator=generator)
        >>> network = OneHiddenLayerNetwork(2, 32, 3, generator=generator)
        >>> losses = train(network, positions, arm, steps=300, learning_rate=1.0)
        >>> losses[-1] < 0.1 * losses[0]
        True
    """
    raise NotImplementedError("basics/network: train")
