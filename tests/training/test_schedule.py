"""Grades training/schedule.

The oracles are torch's own schedulers, put together piece by piece, and closed forms by hand. The figure is judged by
what it holds, never by its pixels.
"""

import copy
import math
import sys
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
import torch
from matplotlib.figure import Figure
from torch import nn
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR

from checkpoints.checks import Check, Draw, Workload
from checkpoints.misconceptions import Misconception
from exercises.training.schedule import apply_schedule, plot_schedule, warmup_cosine, warmup_stable_decay

pytestmark = pytest.mark.filterwarnings("ignore")  # what torch and matplotlib will do one day is no mistake

MISCONCEPTIONS = [
    Misconception(
        "a warm-up that starts at 0: the first step then does nothing",
        ("return (step + 1) / warmup_steps", "return step / warmup_steps"),
    ),
    Misconception(
        "a warm-up that is at 1 in the step after its last",
        ("return (step + 1) / warmup_steps", "return (step + 1) / (warmup_steps + 1)"),
    ),
    Misconception(
        "a cosine at its end in the last step, not after it",
        (
            "(step - warmup_steps) / (total_steps - warmup_steps)",
            "(step - warmup_steps) / max(total_steps - warmup_steps - 1, 1)",
        ),
    ),
    Misconception(
        "a cosine that is one step ahead",
        (
            "(step - warmup_steps) / (total_steps - warmup_steps)",
            "(step + 1 - warmup_steps) / (total_steps - warmup_steps)",
        ),
    ),
    Misconception(
        "a cosine over all steps: behind the warm-up it begins in the middle of its way",
        ("progress = (step - warmup_steps) / (total_steps - warmup_steps)", "progress = step / total_steps"),
    ),
    Misconception(
        "a whole cosine: it comes up again", ("math.cos(math.pi * progress)", "math.cos(2 * math.pi * progress)")
    ),
    Misconception(
        "an angle from 0 to 1, where it should go to π", ("math.cos(math.pi * progress)", "math.cos(progress)")
    ),
    Misconception("a straight line in the place of the cosine", ("math.cos(math.pi * progress)", "(1 - 2 * progress)")),
    Misconception(
        "`final` added to the cosine, whose height stays 1",
        ("final + (1.0 - final) * 0.5 * (1.0 + math.cos(", "final + 0.5 * (1.0 + math.cos("),
    ),
    Misconception(
        "the cosine cut off at `final`, where it should end there",
        (
            "final + (1.0 - final) * 0.5 * (1.0 + math.cos(math.pi * progress))",
            "max(final, 0.5 * (1.0 + math.cos(math.pi * progress)))",
        ),
    ),
    Misconception(
        "a cosine that goes on after the last step, and up again",
        (
            """
            if step >= total_steps:
                return final
            progress = (step - warmup_steps) / (total_steps - warmup_steps)
            """,
            "progress = (step - warmup_steps) / max(total_steps - warmup_steps, 1)",
        ),
    ),
    Misconception(
        "a decay that begins right after the warm-up: there is no plateau",
        (
            "late = step - (total_steps - decay_steps)",
            "late = (step - warmup_steps) * decay_steps / (total_steps - warmup_steps)",
        ),
    ),
    Misconception(
        "a linear decay that begins one step early, and is at its end in the last step",
        ("late = step - (total_steps - decay_steps)", "late = step + 1 - (total_steps - decay_steps)"),
    ),
    Misconception(
        "a linear decay to 0, whatever `final` is",
        ("1.0 - (1.0 - final) * late / decay_steps", "1.0 - late / decay_steps"),
    ),
    Misconception(
        "factors multiplied into each other: the learning rate of the step before, not the first one",
        ('group["lr"] = group.setdefault("initial_lr", group["lr"]) * factor', 'group["lr"] = group["lr"] * factor'),
    ),
    Misconception(
        "the factor taken for the learning rate",
        ('group["lr"] = group.setdefault("initial_lr", group["lr"]) * factor', 'group["lr"] = factor'),
    ),
    Misconception(
        "only the first group's learning rate set",
        ("for group in optimizer.param_groups:", "for group in optimizer.param_groups[:1]:"),
    ),
    Misconception(
        "one learning rate for all groups: they have their own",
        (
            'group.setdefault("initial_lr", group["lr"])',
            'optimizer.param_groups[0].setdefault("initial_lr", group["lr"])',
        ),
    ),
    Misconception(
        "the first learning rate kept where `state_dict` does not see it",
        (
            "for group in optimizer.param_groups:",
            "rates = optimizer.__dict__.setdefault('rates', {})\nfor index, group in enumerate(optimizer.param_groups):",
        ),
        ('group.setdefault("initial_lr", group["lr"])', 'rates.setdefault(index, group["lr"])'),
    ),
    Misconception("steps that are drawn from 1", ("axes.plot(steps,", "axes.plot([step + 1 for step in steps],")),
    Misconception("one step too many drawn", ("steps = range(total_steps)", "steps = range(total_steps + 1)")),
    Misconception("lines without their names", (", label=name)", ")"), ("axes.legend()", "pass")),
    Misconception("an axis of factors that does not show 0", (", ylim=(0.0, None))", ")")),
]


def workload(task: Any, draw: Draw) -> list[Workload]:
    """All factors of a training, for `compare`."""
    cosine = partial(task.warmup_cosine, warmup_steps=1000, total_steps=20_000, final=0.1)
    stable = partial(task.warmup_stable_decay, warmup_steps=1000, total_steps=20_000, decay_steps=4000)
    return [
        Workload("warmup_cosine of 20,000 steps", lambda: [cosine(step) for step in range(20_000)]),
        Workload("warmup_stable_decay of 20,000 steps", lambda: [stable(step) for step in range(20_000)]),
    ]


def _optimizer(*rates: float) -> Optimizer:
    """An optimizer with a group for each learning rate."""
    return SGD([{"params": [nn.Parameter(torch.zeros(1))], "lr": rate} for rate in rates], lr=1.0)


def _factors(make: Any, steps: int) -> list[float]:
    """What a scheduler of torch's sets a learning rate of 1 to, for `steps` steps."""
    if steps < 1:
        return []
    optimizer = _optimizer(1.0)
    scheduler = make(optimizer)
    rates = []
    for _ in range(steps):
        rates.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        scheduler.step()
    return rates


def _warmup(steps: int) -> list[float]:
    """The warm-up by torch's LinearLR, from 1 / W to 1 within W - 1 steps."""
    if steps < 2:
        return [1.0] * steps
    return _factors(lambda optimizer: LinearLR(optimizer, 1 / steps, 1.0, steps - 1), steps)


def _compare(check: Check, function: Any, expected: list[float], **arguments: Any) -> None:
    """The factors of steps 0, 1 and so on."""
    for step, factor in enumerate(expected):
        check(function, step, **arguments).equals(factor, note=_case(step, **arguments))


def _case(step: int, *, warmup_steps: int, total_steps: int, decay_steps: int | None = None, final: float = 0.0) -> str:
    """In which part of a schedule a step is."""
    if step < warmup_steps:
        return f"step number {step + 1} of the {warmup_steps} that rise to 1"
    if step >= total_steps:
        return f"after the last step, which is {total_steps - 1}: final, {final}"
    if decay_steps is None:
        return f"the half cosine from 1 to {final}, when {step - warmup_steps} / {total_steps - warmup_steps} have gone"
    late = step - (total_steps - decay_steps)
    return f"{late} / {decay_steps} of the way from 1 to {final}" if late >= 0 else "the plateau"


def test_cosine_by_hand(check: Check) -> None:
    """Two steps up, four down, and then nothing: 1/2, 1, 1, (1 + √½) / 2, 1/2, (1 - √½) / 2, 0, 0."""
    root = math.sqrt(0.5)
    expected = [0.5, 1.0, 1.0, (1 + root) / 2, 0.5, (1 - root) / 2, 0.0, 0.0]
    _compare(check, warmup_cosine, expected, warmup_steps=2, total_steps=6)


def test_cosine_against_torch(check: Check) -> None:
    """A warm-up by torch's LinearLR, and then its CosineAnnealingLR."""
    warmup, rest = check.draw.integer(3, 9), check.draw.integer(5, 12)
    final = check.draw.integer(1, 9) / 16
    # The step at which the cosine ends belongs to it, and then the factor stays.
    cosine = _factors(lambda optimizer: CosineAnnealingLR(optimizer, rest, eta_min=final), rest + 1)
    expected = [*_warmup(warmup), *cosine, final, final]
    _compare(check, warmup_cosine, expected, warmup_steps=warmup, total_steps=warmup + rest, final=final)


def test_cosine_property(check: Check) -> None:
    """It rises by equal parts, never leaves what is between 0 and 1, and falls as much before its middle as after."""
    warmup, rest = check.draw.integer(5, 40), check.draw.integer(10, 50)
    final = check.draw.integer(0, 15) / 16
    schedule = partial(warmup_cosine, warmup_steps=warmup, total_steps=warmup + rest, final=final)
    call = f"warmup_cosine(step, warmup_steps={warmup}, total_steps={warmup + rest}, final={final})"
    answer = check.run(f"{call} of all steps", lambda: [float(schedule(step)) for step in range(warmup + rest + 1)])
    rising, falling = answer.value[: warmup + 1], answer.value[warmup:]
    # As for plain numbers elsewhere: a few roundings in float32, of 6e-8 each, are no mistake.
    near = 1e-6
    check.that(
        all(abs(later - earlier - 1 / warmup) < near for earlier, later in pairwise(rising[:-1])),
        call=call,
        got="warm-up steps that differ",
        expected=f"a rise by 1 / {warmup} in each step of the warm-up",
    )
    check.that(
        all(0.0 < factor < 1.0 + near for factor in answer.value[:-1]) and abs(max(answer.value) - 1.0) < near,
        call=call,
        got=f"factors from {min(answer.value[:-1]):.6g} to {max(answer.value):.6g}",
        expected="above 0 in each step that is taken, and 1 at the greatest",
    )
    worst = max(abs(one + other - 1.0 - final) for one, other in zip(falling, reversed(falling), strict=True))
    check.that(
        worst < near,
        call=call,
        got=f"factors k steps after {warmup} and k steps before {warmup + rest} whose sum is off by {worst:.3g}",
        expected="sums of 1 + final: half a cosine is symmetric about its middle",
    )


def test_cosine_edges(check: Check) -> None:
    """Without a warm-up, with nothing but a warm-up, of one step, with a final of 1, and long after its end."""
    _compare(check, warmup_cosine, [1.0, 0.75, 0.25, 0.0], warmup_steps=0, total_steps=3)
    _compare(check, warmup_cosine, [0.25, 0.5, 0.75, 1.0, 0.5], warmup_steps=4, total_steps=4, final=0.5)
    _compare(check, warmup_cosine, [1.0, 0.0, 0.0], warmup_steps=0, total_steps=1)
    _compare(check, warmup_cosine, [1.0, 0.25], warmup_steps=1, total_steps=1, final=0.25)
    _compare(check, warmup_cosine, [0.5, 1.0, 1.0, 1.0, 1.0], warmup_steps=2, total_steps=4, final=1.0)
    check(warmup_cosine, 10**9, warmup_steps=2, total_steps=4, final=0.125).equals(0.125)
    check(warmup_cosine, 10**6, warmup_steps=0, total_steps=2 * 10**6).equals(0.5)


def test_cosine_refuses(check: Check) -> None:
    """A step, a number of steps or a final factor out of its range is refused by name, whatever the step."""
    check.raises(ValueError, warmup_cosine, -1, warmup_steps=2, total_steps=6, naming=("step", "-1"))
    check.raises(ValueError, warmup_cosine, 0, warmup_steps=0, total_steps=0, naming=("total_steps", "0"))
    check.raises(ValueError, warmup_cosine, 3, warmup_steps=-1, total_steps=6, naming=("warmup_steps", "-1"))
    check.raises(ValueError, warmup_cosine, 3, warmup_steps=7, total_steps=6, naming=("warmup_steps", "7"))
    for step, final in ((0, -0.25), (3, 1.5), (9, math.nan)):
        check.raises(
            ValueError, warmup_cosine, step, warmup_steps=2, total_steps=6, final=final, naming=("final", str(final))
        )


def test_stable_by_hand(check: Check) -> None:
    """Two steps up, three at 1, and the last four down: 1, 3/4, 1/2, 1/4, and 0 after them."""
    expected = [0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 0.75, 0.5, 0.25, 0.0, 0.0]
    _compare(check, warmup_stable_decay, expected, warmup_steps=2, total_steps=9, decay_steps=4)


def test_stable_against_torch(check: Check) -> None:
    """A warm-up and a decay by torch's LinearLR, and a plateau between them."""
    warmup, plateau, decay = (check.draw.integer(3, 9) for _ in range(3))
    final = check.draw.integer(1, 9) / 16
    down = _factors(lambda optimizer: LinearLR(optimizer, 1.0, final, decay), decay + 1)
    expected = [*_warmup(warmup), *[1.0] * plateau, *down, final, final]
    arguments = {"warmup_steps": warmup, "total_steps": warmup + plateau + decay, "decay_steps": decay}
    _compare(check, warmup_stable_decay, expected, **arguments, final=final)


def test_stable_edges(check: Check) -> None:
    """Without a warm-up, without a decay, without a plateau, of one step, and long after its end."""
    _compare(check, warmup_stable_decay, [1.0, 1.0, 0.5, 0.0], warmup_steps=0, total_steps=3, decay_steps=2)
    _compare(
        check, warmup_stable_decay, [0.5, 1.0, 1.0, 0.25], warmup_steps=2, total_steps=3, decay_steps=0, final=0.25
    )
    _compare(check, warmup_stable_decay, [0.5, 1.0, 1.0, 0.5, 0.0], warmup_steps=2, total_steps=4, decay_steps=2)
    _compare(check, warmup_stable_decay, [1.0, 0.5, 0.5], warmup_steps=0, total_steps=1, decay_steps=1, final=0.5)
    _compare(check, warmup_stable_decay, [0.5, 1.0, 0.0], warmup_steps=2, total_steps=2, decay_steps=0)
    check(warmup_stable_decay, 10**9, warmup_steps=2, total_steps=4, decay_steps=1, final=0.125).equals(0.125)


def test_stable_refuses(check: Check) -> None:
    """An argument out of its range is refused by name; so are a warm-up and a decay that do not fit together."""
    check.raises(
        ValueError, warmup_stable_decay, -1, warmup_steps=2, total_steps=6, decay_steps=1, naming=("step", "-1")
    )
    check.raises(
        ValueError, warmup_stable_decay, 0, warmup_steps=2, total_steps=6, decay_steps=-1, naming=("decay_steps", "-1")
    )
    check.raises(
        ValueError,
        warmup_stable_decay,
        0,
        warmup_steps=4,
        total_steps=6,
        decay_steps=3,
        naming=("warmup_steps", "decay_steps", "total_steps"),
    )
    check.raises(
        ValueError, warmup_stable_decay, 0, warmup_steps=0, total_steps=0, decay_steps=0, naming=("total_steps", "0")
    )
    check.raises(
        ValueError, warmup_stable_decay, 1, warmup_steps=-1, total_steps=6, decay_steps=0, naming=("warmup_steps", "-1")
    )
    check.raises(
        ValueError, warmup_stable_decay, 1, warmup_steps=7, total_steps=6, decay_steps=0, naming=("warmup_steps", "7")
    )
    for step, final in ((0, 2.0), (4, -0.5), (9, math.nan)):
        arguments = {"warmup_steps": 2, "total_steps": 6, "decay_steps": 3, "final": final}
        check.raises(ValueError, warmup_stable_decay, step, **arguments, naming=("final", str(final)))


def _apply(check: Check, optimizer: Optimizer, factor: float) -> None:
    """Call it, and end the check where that fails."""
    check.run(f"apply_schedule(optimizer, {factor})", lambda: apply_schedule(optimizer, factor)).value  # noqa: B018


def _rates_are(check: Check, when: str, optimizer: Optimizer, expected: list[float], note: str = "") -> None:
    """Compare what the groups have now."""
    rates = {f"group {number}": rate for number, rate in enumerate(expected, 1)}
    found = check.run(
        f"the learning rates {when}",
        lambda: {f"group {number}": group["lr"] for number, group in enumerate(optimizer.param_groups, 1)},
    )
    found.equals(rates, note=note)


def test_apply_by_hand(check: Check) -> None:
    """A learning rate of 0.5 and factors 1/2, 1/2, 0, 1, 3: 0.25, 0.25, 0, 0.5, 1.5."""
    optimizer = _optimizer(0.5)
    for factor, rate in ((0.5, 0.25), (0.5, 0.25), (0.0, 0.0), (1.0, 0.5), (3.0, 1.5)):
        _apply(check, optimizer, factor)
        note = f"the first learning rate, 0.5, times {factor}"
        _rates_are(check, f"after a factor of {factor}", optimizer, [rate], note)


def test_apply_to_groups(check: Check) -> None:
    """Each group has its own learning rate, also one that comes later; the ratios stay."""
    optimizer = _optimizer(0.25, 2.0, 0.0)
    _apply(check, optimizer, 0.5)
    note = "half of 0.25, 2 and 0"
    _rates_are(check, "of three groups after a factor of 0.5", optimizer, [0.125, 1.0, 0.0], note)
    optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(1))], "lr": 8.0})
    _apply(check, optimizer, 0.25)
    note = "a quarter of 0.25, 2, 0 and 8"
    _rates_are(check, "of four groups after a factor of 0.25", optimizer, [0.0625, 0.5, 0.0, 2.0], note)


def test_apply_remembers(check: Check) -> None:
    """What a group began with lies in it as "initial_lr"; where that is there already, as torch keeps it, it counts."""
    optimizer = _optimizer(0.5, 2.0)
    optimizer.param_groups[1]["initial_lr"] = 8.0
    _apply(check, optimizer, 0.25)
    _rates_are(check, "after a factor of 0.25", optimizer, [0.125, 2.0], "a quarter of 0.5, and of an initial_lr of 8")
    kept = check.run(
        'the "initial_lr" of each group', lambda: [group.get("initial_lr") for group in optimizer.param_groups]
    )
    kept.equals([0.5, 8.0])


def test_apply_after_a_restart(check: Check) -> None:
    """A state_dict brings the first learning rate along: a training that is resumed goes on as it would have."""
    optimizer, other = _optimizer(0.5, 4.0), _optimizer(7.0, 7.0)
    _apply(check, optimizer, 0.25)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    _apply(check, other, 0.5)
    note = "half of 0.5 and of 4"
    _rates_are(check, "after a factor of 0.25, a restart, and a factor of 0.5", other, [0.25, 2.0], note)


def test_apply_refuses(check: Check) -> None:
    """A factor that is negative or not finite is refused by name, and changes nothing."""
    optimizer = _optimizer(0.5)
    for factor in (-0.5, -1e-300, math.nan, math.inf):
        check.raises(ValueError, apply_schedule, optimizer, factor, naming=("factor", str(factor)))
    _rates_are(check, "after factors that are refused", optimizer, [0.5])


def test_plot(check: Check) -> None:
    """A line for each schedule with its name, the steps from 0, a legend, names of the axes, and 0 in sight."""
    steps = check.draw.integer(8, 20)
    factors = {name: check.draw.uniform(0.5, 1.0, steps).tolist() for name in ("cosine", "stable")}
    # There is a factor also after the last step: who draws too much is to hear of it in other words than an IndexError.
    schedules = {name: [*values, 0.0, 0.0].__getitem__ for name, values in factors.items()}
    answer = check.run(
        f"plot_schedule({{'cosine': ..., 'stable': ...}}, {steps})", lambda: plot_schedule(schedules, steps)
    )
    figure = answer.value
    if not check.that(
        isinstance(figure, Figure) and len(figure.axes) == 1,
        call=answer.call,
        got=f"a {type(figure).__name__}" + (f" of {len(figure.axes)} axes" if isinstance(figure, Figure) else ""),
        expected="a matplotlib.figure.Figure of one axes",
    ):
        return
    axes = figure.axes[0]
    names = [str(line.get_label()) for line in axes.lines]
    check.run("the labels of the lines", lambda: names).equals(list(schedules))
    across = dict(zip(schedules, ([*map(float, line.get_xdata())] for line in axes.lines), strict=False))
    check.run("the steps that are drawn", lambda: across).equals(
        {name: [*map(float, range(steps))] for name in schedules}
    )
    heights = dict(zip(schedules, ([*map(float, line.get_ydata())] for line in axes.lines), strict=False))
    check.run("the factors that are drawn", lambda: heights).equals(factors)
    legend = axes.get_legend() or next(iter(figure.legends), None)
    shown = [text.get_text() for text in legend.get_texts()] if legend is not None else []
    check.run("the names in the legend", lambda: shown).equals(list(schedules))
    check.run("the names of the axes", lambda: [axes.get_xlabel(), axes.get_ylabel()]).equals(["step", "factor"])
    check.that(
        axes.get_ylim()[0] <= 0.0,
        call=answer.call,
        got=f"a y axis that begins at {axes.get_ylim()[0]:.3g}",
        expected="one that begins at 0 or below: heights are to be compared",
    )
    check.keep(figure, "schedules")


def test_plot_is_no_pyplot(check: Check) -> None:
    """The figure is not made by pyplot, which would keep it; a single step is drawn as well."""
    pyplot = sys.modules.get("matplotlib.pyplot")
    before = list(pyplot.get_fignums()) if pyplot is not None else []
    check.run("plot_schedule({'constant': ...}, 1)", lambda: plot_schedule({"constant": lambda step: 1.0}, 1)).value  # noqa: B018
    pyplot = sys.modules.get("matplotlib.pyplot")
    kept = [number for number in (pyplot.get_fignums() if pyplot is not None else []) if number not in before]
    check.that(
        not kept,
        call="plot_schedule({'constant': ...}, 1)",
        got="a figure that pyplot keeps for ever",
        expected="one that is gone when nobody uses it: matplotlib.figure.Figure(...)",
    )
    if pyplot is not None:
        for number in kept:
            pyplot.close(number)


def test_plot_refuses(check: Check) -> None:
    """Nothing to draw, and no steps to draw it for, are refused by name."""
    check.raises(ValueError, plot_schedule, {}, 10, naming="schedule")
    check.raises(ValueError, plot_schedule, {"constant": lambda step: 1.0}, 0, naming=("total_steps", "0"))
