"""A schedule as a list of segments, each with its end and a function of how much of it is gone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Callable, Iterable


@dataclass
class Segment:
    until: int
    shape: Callable[[float], float]


def _between(low: float, value: float, high: float, what: str) -> None:
    if not (low <= value <= high):
        raise ValueError(f"bad {what}: {value} is not in [{low}, {high}]")


def _linear(start: float, stop: float) -> Callable[[float], float]:
    return lambda gone: start * (1 - gone) + stop * gone


def _half_cosine(stop: float) -> Callable[[float], float]:
    middle, swing = (1 + stop) / 2, (1 - stop) / 2
    return lambda gone: middle + swing * math.sin(math.pi * (0.5 - gone))


def _evaluate(step: int, segments: Iterable[Segment], otherwise: float) -> float:
    begin = 0
    for segment in segments:
        if begin <= step < segment.until:
            return segment.shape((step - begin) / (segment.until - begin))
        begin = segment.until
    return otherwise


def warmup_cosine(step: int, *, warmup_steps: int, total_steps: int, final: float = 0.0) -> float:
    _between(0, step, math.inf, "step")
    _between(1, total_steps, math.inf, "total_steps")
    _between(0, warmup_steps, total_steps, "warmup_steps")
    _between(0, final, 1, "final")
    first = 1 / max(warmup_steps, 1)
    rise = Segment(warmup_steps, _linear(first, 1 + first))
    return _evaluate(step, [rise, Segment(total_steps, _half_cosine(final))], final)


def warmup_stable_decay(
    step: int, *, warmup_steps: int, total_steps: int, decay_steps: int, final: float = 0.0
) -> float:
    for what, least in dict(step=0, total_steps=1, decay_steps=0, warmup_steps=0).items():
        _between(least, locals()[what], math.inf, what)
    _between(0.0, final, 1.0, "final")
    plateau = total_steps - decay_steps - warmup_steps
    if plateau < 0:
        raise ValueError(f"{total_steps=} has no room for {warmup_steps=} and {decay_steps=}: {-plateau} too many")
    first = 1 / max(warmup_steps, 1)
    segments = [
        Segment(warmup_steps, _linear(first, 1 + first)),
        Segment(warmup_steps + plateau, lambda gone: 1),
        Segment(total_steps, _linear(1, final)),
    ]
    return _evaluate(step, segments, final)


def apply_schedule(optimizer: Any, factor: float) -> None:
    if math.isnan(factor) or math.isinf(factor) or factor < 0:
        raise ValueError(f"a learning rate cannot be multiplied by a factor of {factor}")
    groups = optimizer.param_groups
    for group in groups:
        if "initial_lr" not in group:
            group["initial_lr"] = group["lr"]
    for group in groups:
        group.update(lr=factor * group["initial_lr"])


def plot_schedule(schedules, total_steps, title: str = ""):
    from matplotlib import figure as matplotlib_figure

    if len(schedules) == 0:
        raise ValueError("no schedules to draw")
    if total_steps < 1:
        raise ValueError(f"total_steps is {total_steps}, so there is nothing to draw")
    result = matplotlib_figure.Figure()
    ax = result.subplots()
    for name in schedules:
        xs, ys = zip(*((step, schedules[name](step)) for step in range(total_steps)))
        ax.plot(xs, ys, ".-", label=name)
    ax.set_title(title)
    ax.set_xlabel("step")
    ax.set_ylabel("factor")
    ax.set_ylim(-0.05, 1.05)
    result.legend(*ax.get_legend_handles_labels(), loc="upper right")
    return result
