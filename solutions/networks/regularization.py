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
        super().__init__()
        if not 0.0 <= p < 1.0:  # written so that NaN is refused too
            raise ValueError(f"p must be at least 0 and less than 1, got {p}")
        self.p = p
        self.generator = generator

    def forward(self, x: Tensor) -> Tensor:
        """Drop some of the numbers, if the module is in training.

        Args:
            x: (...), of a floating dtype; it is not changed.

        Returns:
            (...) of the dtype of `x`: while training, each number is 0 with probability p, else ``x / (1 - p)``; the
            gradient is 0 where it was dropped, and divided by ``1 - p`` elsewhere. In evaluation and for p = 0, the
            very values of `x`, and nothing is drawn from the generator.
        """
        if not self.training or self.p == 0.0:
            return x
        # Drawn straight into the dtype of `x`: `rand` and a comparison would make two more tensors, and take longer.
        mask = torch.empty_like(x).bernoulli_(1.0 - self.p, generator=self.generator)
        return x * mask.div_(1.0 - self.p)


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
        super().__init__()
        self.num_features = num_features
        self.eps = eps
        self.momentum = momentum
        self.weight = nn.Parameter(torch.ones(num_features)) if affine else None
        self.bias = nn.Parameter(torch.zeros(num_features)) if affine else None
        # Buffers: they are saved and moved along with the parameters, and no optimizer touches them.
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))
        self.register_buffer("num_batches_tracked", torch.tensor(0))

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
        if x.dim() not in (2, 3) or x.shape[1] != self.num_features:
            raise ValueError(
                f"x must be (N, {self.num_features}) or (N, {self.num_features}, L), got shape {tuple(x.shape)}"
            )
        if self.training:
            variance, mean = self._batch_statistics(x)
        else:
            variance, mean = self.running_var, self.running_mean
        # Centred first: x * scale + (bias - mean * scale) would subtract large numbers where the mean is large.
        centred = x - _along_channels(mean, x)
        scale = (variance + self.eps).rsqrt()
        if self.weight is not None:  # the factors of a channel meet first: C products are fewer than N * L * C
            scale = scale * self.weight
        result = centred * _along_channels(scale, x)
        return result if self.bias is None else result + _along_channels(self.bias, x)

    def _batch_statistics(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The biased variance and the mean of each channel, each (C,); moves the running statistics."""
        count = x.numel() // self.num_features
        if count < 2:
            raise ValueError(f"training needs at least two numbers per channel, got shape {tuple(x.shape)}")
        axes = (0,) if x.dim() == 2 else (0, 2)
        variance, mean = torch.var_mean(x, dim=axes, correction=0)
        with torch.no_grad():  # with a graph attached, each batch would keep all those before it in memory
            self.num_batches_tracked += 1
            share = 1.0 / self.num_batches_tracked.item() if self.momentum is None else self.momentum
            self.running_mean.lerp_(mean, share)
            self.running_var.lerp_(variance * (count / (count - 1)), share)
        return variance, mean


def _along_channels(values: Tensor, x: Tensor) -> Tensor:
    """Turn one number per channel (C,) so that it broadcasts against `x`: (C,) or (C, 1)."""
    return values if x.dim() == 2 else values.unsqueeze(-1)
