"""Regularization: two layers that do one thing while a network trains and another when it is used.

Dropout disturbs the network while it trains, so that no unit may rely on a single other one. Batch normalization gives
every channel mean 0 and variance 1, by the batch's own statistics while training and by a running average of them
afterwards. `Module.train` and `Module.eval` switch both, by the attribute `training`.

Symbols: N examples in a batch, C channels (`num_features`), L positions of each channel; `...` any axes, also none.
"""

import torch
from torch import Tensor, nn


class Dropout(nn.Module):
    """Set numbers to 0 at random while training (Srivastava et al. 2014, section 4), in the inverted form.

    Each number is dropped with probability `p`, independently of all others; those that are kept are divided by
    ``1 - p``, so that every number keeps its mean and nothing is left to be done in evaluation (section 10).

    The module has no parameters, and its state_dict is empty: the generator is not in it. It can be copied by
    `copy.deepcopy`, alone or inside of another module; the copy has a generator of its own, in the same state.

    Args:
        p: probability with which a number is dropped, at least 0 and less than 1.
        generator: where the masks are drawn from; torch's global one if None.

    Raises:
        ValueError: `p` is out of its range; the message names it and its value.

    Example:
        >>> dropout = Dropout(0.5)
        >>> set(dropout(torch.ones(1000)).tolist()) == {0.0, 2.0}  # each with a probability of 1/2
        True
        >>> dropout.eval()(torch.ones(3))
        tensor([1., 1., 1.])
    """

    def __init__(self, p: float = 0.5, *, generator: torch.Generator | None = None) -> None:
        raise NotImplementedError("networks/regularization: Dropout.__init__")

    def forward(self, x: Tensor) -> Tensor:
        """Drop some of the numbers, if the module is in training.

        Args:
            x: (...), of a floating dtype; it is not changed.

        Returns:
            (...) of the dtype of `x`: while training, each number is 0 with probability p, else ``x / (1 - p)``; the
            gradient is 0 where it was dropped, and divided by ``1 - p`` elsewhere. In evaluation and for p = 0, the
            very values of `x`, and nothing is drawn from the generator.
        """
        raise NotImplementedError("networks/regularization: Dropout.forward")


class BatchNorm1d(nn.Module):
    """Give each channel mean 0 and variance 1 over the batch, then a learned scale and shift.

    Ioffe and Szegedy 2015, algorithms 1 and 2. While training, a channel's mean and variance are those of the batch,
    and gradients flow through both; running averages of them are kept. In evaluation the running ones take their
    place, so that an example's result does not depend on the others in its batch.

    Parameters and buffers, with torch's names; all but the last are (C,), and the state_dict holds just these:
        weight: the scale, ones at first; None if not `affine`.
        bias: the shift, zeros at first; None if not `affine`.
        running_mean: a buffer, zeros at first.
        running_var: a buffer, ones at first.
        num_batches_tracked: a buffer, the number of batches seen in training; int64 of shape (), 0 at first.

    Args:
        num_features: C.
        eps: added to the variance, under the root: a channel that does not vary is not divided by 0.
        momentum: the share of the new batch in the running statistics, ``(1 - momentum) * old + momentum * new`` (an
            optimizer's momentum is the share of the old). None: they are the plain averages over all batches so far.
        affine: whether there are `weight` and `bias`.

    Example:
        >>> norm = BatchNorm1d(1)
        >>> norm(torch.tensor([[1.0], [3.0]])).detach()  # mean 2, variance 1
        tensor([[-1.0000],
                [ 1.0000]])
        >>> norm.running_mean, norm.running_var  # 0.9 * 0 + 0.1 * 2, and 0.9 * 1 + 0.1 * 2: unbiased, the variance is 2
        (tensor([0.2000]), tensor([1.1000]))
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float | None = 0.1, affine: bool = True) -> None:
        raise NotImplementedError("networks/regularization: BatchNorm1d.__init__")

    def forward(self, x: Tensor) -> Tensor:
        """Normalize each channel.

        Args:
            x: (N, C) or (N, C, L), of the module's dtype. A channel's statistics are taken over the N or N * L numbers
                that it has in the batch.

        Returns:
            ``(x - mean) / sqrt(variance + eps) * weight + bias``, of the shape and dtype of `x`. While training, mean
            and variance are the batch's, the variance the biased one (divided by the count n of a channel's numbers).
            Along with it the module counts the batch and moves its running mean and variance, the variance by the
            unbiased one (divided by n - 1); no gradient is attached to what is kept. The statistics keep their digits
            where the mean is a thousand times the deviation. In evaluation, mean and variance are the running ones,
            and nothing is changed.

        Raises:
            ValueError: `x` has not two or three axes, or its second is not of size C; or the module is training, and
                a channel has fewer than two numbers. The message gives the shape. The module is left as it was.
        """
        raise NotImplementedError("networks/regularization: BatchNorm1d.forward")
