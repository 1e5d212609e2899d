"""What is measured while training: how good the model is, and how fast the machine.

Symbols: V the size of the vocabulary; `...` any axes (batch, then time); T the length of a text, C the width of a token
(`embed_dim`), L the number of blocks (`num_layers`).
"""

import functools
import math
import time
from collections import deque
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from ..gpt2.configuration import GPT2Config
from ..networks.losses import cross_entropy


class LossMeter:
    """Adds up a model's loss over batches, each target with the same weight.

    Batches hold unequal numbers of targets, so the mean of their means is not the mean: the meter keeps the sum over
    all targets, and their number. The sum over the batches is kept in float64, however long it grows.

    Attributes:
        nats: the sum of all targets' losses, in nats; 0.0 at first.
        tokens: how many targets were counted; 0 at first.

    Args:
        ignore_index: a target that does not count, neither as a loss nor for the accuracy.

    Example:
        >>> meter = LossMeter()
        >>> meter.update(torch.zeros(3, 4), torch.tensor([0, 3, -100]))  # of four tokens, all equally likely
        >>> meter.tokens, round(meter.perplexity, 6), meter.accuracy
        (2, 4.0, 0.5)
    """

    nats: float
    tokens: int

    def __init__(self, ignore_index: int = -100) -> None:
        self.ignore_index = ignore_index
        self.reset()

    def reset(self) -> None:
        """Forget all batches."""
        self.nats = 0.0
        self.tokens = 0
        self._right = 0

    def update(self, logits: Tensor, targets: Tensor) -> None:
        """Count a batch. It leaves the meter as it is where it raises an error.

        Args:
            logits: (..., V), of a floating dtype, on any device. Half precision is raised to float32 first.
            targets: (...), whole numbers of any integer dtype: the token that follows each position, or `ignore_index`.
                All of them may be ignored.

        Raises:
            ValueError: shapes that do not fit, or a target that is none: as `cross_entropy` of networks/losses.
            TypeError: targets that are no whole numbers; likewise.
        """
        wide = logits.detach().to(torch.promote_types(logits.dtype, torch.float32))
        losses = cross_entropy(wide, targets, ignore_index=self.ignore_index, reduction="none")  # (...), 0 if ignored
        counted = targets != self.ignore_index  # (...)
        self.nats += losses.sum().item()
        self.tokens += int(counted.sum())
        self._right += int((counted & (logits.argmax(dim=-1) == targets)).sum())

    @property
    def loss(self) -> float:
        """Mean loss in nats per token.

        Raises:
            ValueError: no target has been counted; the message says so. Likewise for `perplexity` and `accuracy`.
        """
        return self._per_token(self.nats)

    @property
    def perplexity(self) -> float:
        """exp(`loss`): as unsure as among so many equally likely tokens (infinite where float64 cannot hold it)."""
        try:
            return math.exp(self.loss)
        except OverflowError:
            return math.inf

    @property
    def accuracy(self) -> float:
        """The share of the targets, from 0 to 1, to which the model gave the greatest logit."""
        return self._per_token(self._right)

    def _per_token(self, total: float) -> float:
        if not self.tokens:
            raise ValueError("no targets have been counted yet: there is no mean of nothing")
        return total / self.tokens


def bits_per_byte(nats: float, num_bytes: int) -> float:
    """Say how many bits a model needs for each byte of text: a measure that does not depend on the tokenizer.

    A tokenizer with long tokens makes few of them, each with a large loss. Bits per byte compare what the whole text
    costs with its length (Gao et al. 2020, *The Pile*, section 3.1).

    Args:
        nats: the sum of the losses over the text, not their mean.
        num_bytes: length of the text in UTF-8, at least 1.

    Returns:
        Bits per byte; a nat is 1 / ln 2 bits.

    Raises:
        ValueError: `num_bytes` is below 1; the message names it and its value.

    Example:
        >>> bits_per_byte(8 * math.log(2), 4)
        2.0
    """
    if num_bytes < 1:
        raise ValueError(f"num_bytes must be at least 1, got {num_bytes}")
    return nats / math.log(2.0) / num_bytes


def gradient_norm(parameters: Iterable[Tensor]) -> Tensor:
    """Measure all gradients as if they were one long vector: the L2 norm, which clipping compares with its limit.

    Args:
        parameters: an iterable that is gone through once, `model.parameters()` for one. Those without a gradient are
            left out.

    Returns:
        A scalar (), on the device of the gradients: the root of the sum of the squares of all their numbers. It is of
        dtype float64 if one of the gradients is, else float32, and summed in that: half precision would overflow. 0
        in float32, if there are no gradients.

    Example:
        >>> one, other = torch.zeros(2, requires_grad=True), torch.zeros(1, requires_grad=True)
        >>> one.grad, other.grad = torch.tensor([1.0, 2.0]), torch.tensor([2.0])
        >>> gradient_norm([one, other])
        tensor(3.)
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    dtype = functools.reduce(torch.promote_types, (gradient.dtype for gradient in gradients), torch.float32)
    norms = [torch.linalg.vector_norm(gradient, dtype=dtype) for gradient in gradients]
    # The norm of the norms is the norm of the whole; it stays a tensor, so that nobody waits for a GPU.
    return torch.linalg.vector_norm(torch.stack(norms)) if norms else torch.zeros(())


def training_flops_per_token(config: GPT2Config, length: int | None = None) -> int:
    """Count the floating-point operations that training takes for each token (Chowdhery et al. 2022, appendix B).

    They are 6 N + 12 L C T. Each of N weights multiplies and adds once forward and twice backward: 6 operations. The
    scores and the weighted sum of attention are 2 products of C numbers with each of T tokens, in each of L blocks:
    again 6 operations for each of these 2 L C T products. The causal half is counted too, as it is by convention.

    N is the number of all parameters but the table of positions: a table's rows are looked up, and nothing is
    multiplied. The table of tokens counts, once, for it is the output layer as well. Biases and norms count, though
    they do less; they are few.

    Args:
        config: the model's sizes.
        length: T, from 1 to `context_length`; that, if None.

    Returns:
        The count.

    Raises:
        ValueError: `length` is out of its range; the message names it and its value.

    Example:
        >>> training_flops_per_token(GPT2Config())  # 6 · 123,653,376 + 12 · 12 · 768 · 1024
        855166464
    """
    length = config.context_length if length is None else length
    if not 1 <= length <= config.context_length:
        raise ValueError(f"length must be from 1 to {config.context_length}, got {length}")
    weights = config.num_parameters - config.context_length * config.embed_dim
    return 6 * weights + 12 * config.num_layers * config.embed_dim * length


class Throughput:
    """Measures tokens per second over the last few steps.

    Time begins to count when the object is made, or at the last `reset`. Each update says that so many tokens have been
    worked through since the update before it.

    Args:
        window: over how many of the last updates the rate is taken, at least 1.
        clock: gives the time in seconds, never less than before.

    Raises:
        ValueError: `window` is below 1; the message names it and its value.

    Example:
        >>> times = iter([0.0, 1.0, 3.0])
        >>> throughput = Throughput(clock=lambda: next(times))
        >>> throughput.update(100)  # at 1.0
        >>> throughput.update(500)  # at 3.0
        >>> throughput.tokens_per_second
        200.0
    """

    def __init__(self, window: int = 20, *, clock: Callable[[], float] = time.perf_counter) -> None:
        if window < 1:
            raise ValueError(f"window must be at least 1, got {window}")
        self._clock = clock
        self._marks: deque[tuple[float, int]] = deque(maxlen=window + 1)  # when, and how many tokens until then
        self.reset()

    def reset(self) -> None:
        """Forget all updates, and count the time from now: after an evaluation, whose time is not the training's."""
        self._marks.clear()
        self._marks.append((self._clock(), 0))

    def update(self, tokens: int) -> None:
        """Note that `tokens` more have been worked through; asks the clock once.

        Raises:
            ValueError: `tokens` is negative; the message names it and its value.
        """
        if tokens < 0:
            raise ValueError(f"tokens must be at least 0, got {tokens}")
        self._marks.append((self._clock(), self._marks[-1][1] + tokens))

    @property
    def tokens_per_second(self) -> float:
        """All tokens of the last `window` updates, divided by all the time that they took.

        It is 0.0 before the first update, and while the clock has not moved. It does not ask the clock.
        """
        (start, before), (end, after) = self._marks[0], self._marks[-1]
        return (after - before) / (end - start) if end > start else 0.0


def flop_utilization(tokens_per_second: float, flops_per_token: float, peak_flops: float) -> float:
    """Say what share of a machine's operations goes into the model (Chowdhery et al. 2022, section 4.1).

    Args:
        tokens_per_second: what was measured.
        flops_per_token: of `training_flops_per_token`.
        peak_flops: operations per second that the machine could do, above 0, as its data sheet says for the dtype.

    Returns:
        The share, from 0 to 1 for figures that are right.

    Raises:
        ValueError: `peak_flops` is not above 0; the message names it and its value.

    Example:
        >>> flop_utilization(100_000.0, 0.9e9, 312e12)
        0.28846153846153844
    """
    if not peak_flops > 0.0:
        raise ValueError(f"peak_flops must be above 0, got {peak_flops}")
    return tokens_per_second * flops_per_token / peak_flops
