"""Learning rates that change while training: a warm-up, and then a cosine, or a plateau and a linear decay.

A schedule is a pure function: of the number of a step it gives the *factor*, from 0 to 1, by which the learning rate
is multiplied in that step. Steps are those of the optimizer, counted from 0; the last of N steps is N - 1. A pure
function has no state that could be lost, so that a training that goes on after an interruption needs only the number
of its step.
"""

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from torch.optim import Optimizer

if TYPE_CHECKING:  # matplotlib takes a third of a second to import: only who draws pays for it
    from matplotlib.figure import Figure


def warmup_cosine(step: int, *, warmup_steps: int, total_steps: int, final: float = 0.0) -> float:
    """Rise linearly to 1, then fall along half a cosine (Loshchilov and Hutter 2017, equation 5, without restarts).

    With W `warmup_steps` and N `total_steps`, the factor of step s is

        (s + 1) / W                                     for s < W: 1 / W at step 0, and 1 at step W - 1
        final + (1 - final) (1 + cos(π p)) / 2          for W <= s < N, where p = (s - W) / (N - W)
        final                                           for s >= N

    So step W has the factor 1 still, half of the way down is gone in the middle between W and N, and `final` would be
    reached at step N, right after the last: no step is taken at a learning rate of 0.

    Args:
        step: s, at least 0.
        warmup_steps: W, from 0 (no warm-up) to N.
        total_steps: N, at least 1.
        final: from 0 to 1.

    Returns:
        The factor, a plain float.

    Raises:
        ValueError: an argument is out of its range; the message names which, and its value.

    Example:
        >>> [round(warmup_cosine(step, warmup_steps=2, total_steps=6), 3) for step in range(7)]
        [0.5, 1.0, 1.0, 0.854, 0.5, 0.146, 0.0]
    """
    raise NotImplementedError("training/schedule: warmup_cosine")


def warmup_stable_decay(
    step: int, *, warmup_steps: int, total_steps: int, decay_steps: int, final: float = 0.0
) -> float:
    """Rise linearly to 1, stay there, and fall linearly in the last steps (Hu et al. 2024, *MiniCPM*, section 4).

    With W `warmup_steps`, N `total_steps` and D `decay_steps`, the factor of step s is

        (s + 1) / W                                     for s < W
        1                                               for W <= s < N - D
        1 - (1 - final) (s - (N - D)) / D               for N - D <= s < N
        final                                           for s >= N

    As with the cosine, `final` would be reached right after the last step.

    Args:
        step: s, at least 0.
        warmup_steps: W, at least 0.
        total_steps: N, at least 1.
        decay_steps: D, at least 0; W + D is at most N.
        final: from 0 to 1.

    Returns:
        The factor, a plain float.

    Raises:
        ValueError: an argument is out of its range; the message names which, and its value. Where W + D is more than N,
            it names all three.

    Example:
        >>> [warmup_stable_decay(step, warmup_steps=2, total_steps=8, decay_steps=4) for step in range(9)]
        [0.5, 1.0, 1.0, 1.0, 1.0, 0.75, 0.5, 0.25, 0.0]
    """
    raise NotImplementedError("training/schedule: warmup_stable_decay")


def apply_schedule(optimizer: Optimizer, factor: float) -> None:
    """Set each group's learning rate to `factor` times the one that it began with.

    The first call remembers it: a group that has no `"initial_lr"` gets one, its `"lr"` as it is then. Each later call
    multiplies that, never the learning rate of the step before. Being in the group, it is part of the optimizer's
    `state_dict()`, and comes back with it. (Torch's own schedulers keep theirs under the same name.)

    Args:
        optimizer: any; its groups may have learning rates of their own, and keep the ratios between them.
        factor: finite, and at least 0.

    Raises:
        ValueError: `factor` is negative or not finite; the message names it and its value.

    Example:
        >>> optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.5)
        >>> apply_schedule(optimizer, 0.5)
        >>> apply_schedule(optimizer, 0.5)
        >>> optimizer.param_groups[0]["lr"]
        0.25
    """
    raise NotImplementedError("training/schedule: apply_schedule")


def plot_schedule(schedules: Mapping[str, Callable[[int], float]], total_steps: int) -> "Figure":
    """Draw schedules, one line each: what one looks at before a training begins.

    The figure is matplotlib's `matplotlib.figure.Figure`, made without `pyplot`, which would keep every figure in a
    global list. Import matplotlib inside the function; it is slow to import.

    Args:
        schedules: for each name, the function from the step to the factor. At least one.
        total_steps: the steps 0 to `total_steps` - 1 are drawn; at least 1.

    Returns:
        A figure with one axes. It holds a line (`Axes.plot`) for each schedule, in their order, with the steps as x,
        the factors as y and the name as its label, and a legend of the names. The axes are called "step" and
        "factor"; the y axis begins at 0 or below.

    Raises:
        ValueError: there is no schedule, or `total_steps` is below 1; the message names which.

    Example:
        >>> figure = plot_schedule({"constant": lambda step: 1.0}, 100)
        >>> figure.axes[0].lines[0].get_label()
        'constant'
    """
    raise NotImplementedError("training/schedule: plot_schedule")
