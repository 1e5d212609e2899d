"""Gradients: by differences, by a backward pass of one's own, added up over parts of a batch, and stopped.

Autograd records what is done to a tensor that requires a gradient, and plays it backwards. Here are the four places
where one must know how: to check a gradient without it, to give it a better one than it would find, to let it add
up what does not fit into memory at once, and to keep it out.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn


def numerical_gradient(function: Callable[[Tensor], Tensor], point: Tensor, step: float = 1e-5) -> Tensor:
    """Find a gradient by central differences, without autograd.

    Each entry of the result is (f(x + step · e) - f(x - step · e)) / (2 · step), where e is 1 at that entry and 0
    elsewhere. Its error shrinks with step², that of the one-sided difference only with `step`; but the difference
    of two nearly equal numbers has few digits, so a smaller step is not always a better one.

    Args:
        function: takes a float64 tensor of the shape of `point` and returns one number as a tensor of one element.
        point: where, of any shape and floating dtype; left as it was.
        step: how far to go to either side, above 0.

    Returns:
        The gradient, of the shape of `point`, always worked out in float64 and without a graph, also where
        `point`, or something else that `function` uses, requires a gradient.

    Raises:
        ValueError: `step` is not above 0, as NaN is not (the message names it and its value), or `function` returns
            other than one element (the message gives the shape).

    Example:
        >>> numerical_gradient(lambda x: (x**3).sum(), torch.tensor([2.0, -1.0]), step=1.0)
        tensor([13.,  4.], dtype=torch.float64)
    """
    if not step > 0:  # refuses NaN too
        raise ValueError(f"step must be above 0, got {step}")
    with torch.no_grad():
        centre = point.to(torch.float64)
        nudge, gradient = torch.zeros_like(centre), torch.empty_like(centre)
        for index in itertools.product(*map(range, centre.shape)):
            nudge[index] = step
            difference = _number(function(centre + nudge)) - _number(function(centre - nudge))
            gradient[index] = difference / (2 * step)
            nudge[index] = 0.0
    return gradient


def _number(value: Tensor) -> Tensor:
    if value.numel() != 1:
        raise ValueError(f"function must return one number, got shape {tuple(value.shape)}")
    return value


class BinaryCrossEntropy(torch.autograd.Function):
    """The loss -t · log σ(x) - (1 - t) · log(1 - σ(x)) of each logit x and its target t, with its own gradients.

    As written, that is infinite for logits of ±1000, with gradients that are NaN: σ rounds to 0 or 1. The same
    number is max(x, 0) - x · t + log(1 + exp(-|x|)), where nothing can overflow; but autograd knows no slope for
    the corners of max and of |x| at 0. The true gradients have neither trouble.

    Call it as ``BinaryCrossEntropy.apply(logits, targets)``. It may be differentiated twice.

    Example:
        >>> logits = torch.tensor([0.0, 1000.0], requires_grad=True)
        >>> BinaryCrossEntropy.apply(logits, torch.tensor([1.0, 0.0])).sum().backward()
        >>> logits.grad
        tensor([-0.5000,  1.0000])
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor) -> Tensor:
        """Work out the losses, and save what the backward pass needs.

        Args:
            ctx: what connects the two passes. Tensors for the backward pass go through its `save_for_backward`,
                which notices when one is changed in place in between: then the backward pass raises
                `RuntimeError`, or is right all the same; it never gives a wrong gradient.
            logits: of any shape and floating dtype.
            targets: from 0 to 1, of the same shape and dtype.

        Returns:
            The loss of each element, of the same shape and dtype: finite for every finite logit, and right in its
            leading digits also where it is tiny (a logit of 20 for a target of 1 costs 2.1e-9, in float32 too).

        Raises:
            ValueError: the two shapes differ, even if they would broadcast; the message gives both.
        """
        if logits.shape != targets.shape:
            raise ValueError(f"logits and targets differ in shape: {tuple(logits.shape)} and {tuple(targets.shape)}")
        ctx.save_for_backward(logits, targets)
        return logits.clamp_min(0) - logits * targets + logits.abs().neg().exp().log1p()

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Carry the gradient back from the losses to the logits and the targets.

        With create_graph, autograd records this pass too: built from operations on the saved inputs alone, it can
        be differentiated again, with respect to them and to `grad_output`.

        Args:
            ctx: as `forward` left it; `needs_input_grad` says whose gradient is asked for.
            grad_output: gradient of what follows with respect to each loss.

        Returns:
            The gradients for logits and targets, each of their shape: `grad_output` times σ(x) - t, and times -x.
            None stands for one that is not asked for: it is not worked out.
        """
        logits, targets = ctx.saved_tensors
        for_logits = grad_output * (logits.sigmoid() - targets) if ctx.needs_input_grad[0] else None
        for_targets = grad_output * -logits if ctx.needs_input_grad[1] else None
        return for_logits, for_targets


def accumulate_gradients(
    model: nn.Module,
    loss_function: Callable[[Tensor, Tensor], Tensor],
    micro_batches: Sequence[tuple[Tensor, Tensor]],
) -> Tensor:
    """Get the gradients of one large batch from small parts of it, one part in memory at a time.

    Each micro-batch is taken forward and then backward before the next one begins, so its graph is freed first.

    Args:
        model: maps inputs to outputs, each example on its own.
        loss_function: takes outputs and targets and returns the *mean* loss of their examples, as a scalar.
        micro_batches: pairs (inputs, targets) whose first axes count their examples; sizes may differ.

    Returns:
        The mean loss of all the examples together: a scalar without a graph. The gradients of that mean are added
        to the `grad` of each parameter, on top of what is there, as `Tensor.backward` does; clearing them is the
        caller's affair.

    Raises:
        ValueError: there is no micro-batch, or one has no example; the message gives its index.

    Example:
        >>> model = nn.Linear(1, 1, bias=False)
        >>> loss = accumulate_gradients(model, lambda outputs, targets: outputs.mean(), [
        ...     (torch.tensor([[3.0]]), torch.zeros(1)), (torch.tensor([[6.0], [9.0]]), torch.zeros(2)),
        ... ])
        >>> model.weight.grad
        tensor([[6.]])
    """
    sizes = [len(inputs) for inputs, _ in micro_batches]
    if not sizes:
        raise ValueError("there is no micro-batch")
    if 0 in sizes:
        raise ValueError(f"micro-batch {sizes.index(0)} has no example")
    shares = []
    for inputs, targets in micro_batches:
        # A mean of means would count the examples of a small micro-batch for more than the others.
        share = loss_function(model(inputs), targets) * (len(inputs) / sum(sizes))
        share.backward()  # adds to what is in each `grad`
        shares.append(share.detach())
    return torch.stack(shares).sum()


def straight_through_round(values: Tensor) -> Tensor:
    """Round, and let the gradient pass as if nothing had been done: the straight-through estimator.

    The slope of rounding is 0 wherever there is one, so nothing in front of it would ever learn
    (Bengio, Léonard and Courville 2013, "Estimating or propagating gradients through stochastic neurons").

    Args:
        values: of any shape and floating dtype.

    Returns:
        The nearest whole numbers, in the shape and dtype of `values`; halves go to the even neighbour, as with
        `torch.round`. The gradient with respect to `values` is the incoming one, unchanged.

    Example:
        >>> values = torch.tensor([0.4, 1.7], requires_grad=True)
        >>> straight_through_round(values).detach()
        tensor([0., 2.])
        >>> torch.autograd.grad(straight_through_round(values).square().sum(), values)
        (tensor([0., 4.]),)
    """
    return values + (values.round() - values).detach()


def consistency_loss(online: Tensor, target: Tensor) -> Tensor:
    """Pull predictions towards a target that stands still, though it was computed as they were.

    The mean squared difference, with a stop-gradient on the target, as when a network learns from a copy of itself
    (BYOL, Grill et al. 2020, section 3.1): if both sides could move, they would meet at something trivial.

    Args:
        online: predictions, of any shape and floating dtype.
        target: what they should be, of the same shape and dtype.

    Returns:
        The loss, a scalar. Its gradient reaches `online` alone, even where both come from the same parameters.

    Raises:
        ValueError: the two shapes differ, even if they would broadcast; the message gives both.

    Example:
        >>> weight = torch.tensor(3.0, requires_grad=True)
        >>> consistency_loss(weight * 2, weight * 1).backward()
        >>> weight.grad
        tensor(12.)
    """
    if online.shape != target.shape:
        raise ValueError(f"online and target differ in shape: {tuple(online.shape)} and {tuple(target.shape)}")
    return (online - target.detach()).square().mean()
