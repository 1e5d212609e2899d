"""The capstone's own figures."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor


def loss_curve(history: Sequence[Any], floor: float | None, baselines: Mapping[str, float]) -> "Figure":
    """Training and held-out loss by step, with the floor and the baselines as lines."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import ScalarFormatter

    figure = Figure(figsize=(8.0, 5.0), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(
        [told.step for told in history], [told.loss for told in history], color="tab:blue", alpha=0.5, label="training"
    )
    held_out = [told for told in history if told.validation_loss is not None]
    steps, losses = [told.step for told in held_out], [told.validation_loss for told in held_out]
    axes.plot(steps, losses, "o-", color="tab:orange", label="held out")
    styles = iter(((0, (1, 1)), (0, (5, 2)), (0, (3, 1, 1, 1))))
    for name, loss in baselines.items():
        axes.axhline(loss, color="grey", linestyle=next(styles), label=f"{name}, by counting: {loss:.3f}")
    if floor is not None:
        axes.axhline(floor, color="black", label=f"floor: {floor:.3f}")
    axes.set(xlabel="step", ylabel="loss (nats per token)", yscale="log")
    axes.yaxis.set_major_formatter(ScalarFormatter())
    axes.yaxis.set_minor_formatter(ScalarFormatter())
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def attention_of(
    model: Any, tokens: Sequence[int], mask: "Tensor", attention_weights: Callable[..., "Tensor"]
) -> Iterator["Tensor"]:
    """The attention weights (H, T, T) of each block of a GPT-2."""
    import torch

    inputs: list[Tensor] = []
    hooks = [block.attn.register_forward_pre_hook(lambda _, args: inputs.append(args[0])) for block in model.h]
    with torch.no_grad():
        model(torch.tensor([list(tokens)], device=mask.device))
        for hook in hooks:
            hook.remove()
        for block, x in zip(model.h, inputs, strict=True):
            query, key, _ = block.attn.project(x)
            yield attention_weights(query, key, mask)[0]
