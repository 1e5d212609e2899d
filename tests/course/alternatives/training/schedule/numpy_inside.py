"""Straight lines by numpy's interpolation, and every check written where it is needed; no types."""

import numpy as np


def must(condition, message):
    if not condition:
        raise ValueError(message)


def warmup_cosine(step, *, warmup_steps, total_steps, final=0.0):
    must(step >= 0, "step is negative: %d" % step)
    must(total_steps >= 1, "total_steps is too small: %d" % total_steps)
    must(warmup_steps >= 0, "warmup_steps is negative: %d" % warmup_steps)
    must(warmup_steps <= total_steps, "warmup_steps %d > total_steps %d" % (warmup_steps, total_steps))
    must(final >= 0 and final <= 1, "final is out of range: %s" % final)
    if step < warmup_steps:
        factor = np.interp(step, [-1, warmup_steps - 1], [0, 1])
    elif step < total_steps:
        angle = np.pi * (step - warmup_steps) / (total_steps - warmup_steps)
        factor = 1 - (1 - final) * np.sin(angle / 2) ** 2
    else:
        factor = final
    return float(factor)


def warmup_stable_decay(step, *, warmup_steps, total_steps, decay_steps, final=0.0):
    must(step >= 0, "step is negative: %d" % step)
    must(total_steps >= 1, "total_steps is too small: %d" % total_steps)
    must(warmup_steps >= 0, "warmup_steps is negative: %d" % warmup_steps)
    must(decay_steps >= 0, "decay_steps is negative: %d" % decay_steps)
    must(
        warmup_steps + decay_steps <= total_steps,
        "warmup_steps = %d and decay_steps = %d do not fit into total_steps = %d"
        % (warmup_steps, decay_steps, total_steps),
    )
    must(final >= 0 and final <= 1, "final is out of range: %s" % final)
    if step >= total_steps:
        return float(final)
    if step < warmup_steps:
        return float(np.linspace(0, 1, warmup_steps + 1)[step + 1])
    if decay_steps == 0:
        return 1.0
    return float(np.interp(step, [total_steps - decay_steps, total_steps], [1, final]))


def apply_schedule(optimizer, factor):
    must(np.isfinite(factor) and factor >= 0, "factor must be a number from 0 on, not %s" % factor)
    for i in range(len(optimizer.param_groups)):
        g = optimizer.param_groups[i]
        try:
            base = g["initial_lr"]
        except KeyError:
            base = g["lr"]
            g["initial_lr"] = base
        g["lr"] = base * factor


def plot_schedule(schedules, total_steps):
    must(bool(schedules), "give at least one schedule")
    must(total_steps > 0, "total_steps must be positive: %d" % total_steps)
    import matplotlib.figure

    fig = matplotlib.figure.Figure(figsize=(6, 3))
    ax = fig.add_axes([0.1, 0.15, 0.85, 0.8])
    x = np.arange(total_steps)
    for name, schedule in schedules.items():
        y = np.array([schedule(int(s)) for s in x])
        ax.plot(x, y, label=name)
    ax.set_xlabel("step")
    ax.set_ylabel("factor")
    ax.set_ylim(bottom=0)
    ax.legend()
    return fig
