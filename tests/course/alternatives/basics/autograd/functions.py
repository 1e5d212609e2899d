"""Functions with setup_context, nudges as rows of an identity, gradients fetched by autograd.grad and added by hand."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function


@torch.no_grad()
def numerical_gradient(function: Callable[[Tensor], Tensor], point: Tensor, step: float = 1e-5) -> Tensor:
    """Both sides of all entries first, then one subtraction."""
    if not (step > 0.0):
        raise ValueError(f"{step=} leads nowhere")
    shape, count = point.shape, point.numel()
    nudges = (step * torch.eye(count, dtype=torch.float64)).reshape(count, *shape)
    sides = [[function(point.double() + sign * nudge) for nudge in nudges] for sign in (1, -1)]
    for value in sum(sides, []):
        if value.shape.numel() != 1:
            raise ValueError(f"one number is needed, not those of a shape {list(value.shape)}")
    above, below = (torch.as_tensor([float(value) for value in side], dtype=torch.float64) for side in sides)
    return ((above - below) / (step + step)).view(shape)


class BinaryCrossEntropy(Function):
    """log(1 + exp(-|x|)) and the part of x that is wrong."""

    @staticmethod
    def forward(logits: Tensor, targets: Tensor) -> Tensor:
        if logits.size() != targets.size():
            raise ValueError(f"{logits.size()} logits for {targets.size()} targets")
        size = torch.abs(logits)
        wrong = torch.where(logits < 0, targets, 1 - targets)
        return torch.addcmul(torch.log1p(torch.exp(-size)), size, wrong)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (incoming,) = gradients
        logits, targets = ctx.saved_tensors
        formulas = (lambda: torch.sigmoid(logits) - targets, lambda: -logits)
        return tuple(
            incoming * formula() if asked else None
            for formula, asked in zip(formulas, ctx.needs_input_grad, strict=True)
        )


def accumulate_gradients(
    model: nn.Module,
    loss_function: Callable[[Tensor, Tensor], Tensor],
    micro_batches: Sequence[tuple[Tensor, Tensor]],
) -> Tensor:
    """A running mean: each part moves it by its share of all examples so far; the gradients are added at the end."""
    for index, (inputs, _) in enumerate(micro_batches):
        if not inputs.size(0):
            raise ValueError(f"micro_batches[{index}] is without examples")
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    means: list[Tensor] = []
    seen = 0
    for inputs, targets in micro_batches:
        loss = loss_function(model(inputs), targets)
        found = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
        news = [loss.detach(), *found]
        seen += inputs.size(0)
        means = [mean + (new - mean) * (inputs.size(0) / seen) for mean, new in zip(means or news, news, strict=True)]
    if not means:
        raise ValueError("no micro_batches")
    for parameter, mean in zip(parameters, means[1:], strict=True):
        parameter.grad = mean if parameter.grad is None else parameter.grad + mean
    return means[0]


class _Round(Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        return values.round()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient


straight_through_round = _Round.apply


def consistency_loss(online: Tensor, target: Tensor) -> Tensor:
    if (shapes := (online.shape, target.shape))[0] != shapes[1]:
        raise ValueError("{} and {}".format(*shapes))
    with torch.no_grad():
        fixed = torch.clone(target)
    distance = (fixed - online).flatten()
    return distance @ distance / max(distance.numel(), 1)
