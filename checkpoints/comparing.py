"""`compare`: the learner's code beside the solution, as text and in what the two do.

`measure` runs in a worker, with the learner's module and the solution's side by side on the same fresh inputs;
the rest shows what came of it.
"""

import difflib
import importlib
import importlib.util
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from . import trees
from .catalogue import Task
from .screen import Screen

if TYPE_CHECKING:
    from .guards import Guard
    from .worker import Job

_BUDGET = 1.0  # seconds of timing for each workload
_ROUNDS = (6, 40)  # at least and at most so many rounds of it
_CONTEXT = 3  # unchanged lines that stay in view around a change


@dataclass
class Comparison:
    """What one workload gave, the learner's against the solution's."""

    name: str
    value: str  # "agree", or how they differ
    gradient: str  # "agree", "none" or how they differ
    time_ratio: float | None = None  # the learner's median time over the solution's
    peak_mib: tuple[float, float] | None = None  # the learner's and the solution's peak memory


def measure(job: "Job", guard: "Guard", tell: Callable[[dict[str, Any]], None]) -> None:
    """Run every workload of the task with both modules; tells each comparison as soon as it is there."""
    from .checks import Draw

    mine = _load(job, guard)
    trees.Tree(job.course.tasks(), {}, guard).install()
    theirs = importlib.import_module(job.task.module)
    tests = _tests_module(job.task)
    pairs = zip(
        tests.workload(mine, Draw(job.seed, job.task.id)),
        tests.workload(theirs, Draw(job.seed, job.task.id)),
        strict=True,
    )
    for one, other in pairs:
        tell({"started": one.name})
        tell({"comparison": asdict(_compare(one, other, guard))})


def _load(job: "Job", guard: "Guard") -> ModuleType:
    trees.Tree(job.course.tasks(), job.sources, guard, home=job.home).install()
    return importlib.import_module(job.task.module)


def _tests_module(task: Task) -> Any:
    spec = importlib.util.spec_from_file_location(f"workloads_{task.name}", task.tests())
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _compare(one: Any, other: Any, guard: "Guard") -> Comparison:
    from .comparison import difference

    try:
        with guard.learner():
            mine = one.function(*one.args, **one.kwargs)
    except BaseException as error:
        return Comparison(one.name, f"{type(error).__name__}: {error}".splitlines()[0], "none")
    theirs = other.function(*other.args, **other.kwargs)
    found = difference(mine, theirs, rtol=1e-4, atol=1e-5)
    value = "agree" if found is None else f"{found.kind}: got {found.got}, expected {found.expected}"
    gradient = _compare_gradients(one, mine, other, theirs, guard)
    del mine, theirs
    try:
        ratio = _time_ratio(one, other, guard)
        peaks = (_peak_mib(one, guard), _peak_mib(other, guard))
    except BaseException as error:
        return Comparison(one.name, f"{value}; then {type(error).__name__}: {error}".splitlines()[0], gradient)
    return Comparison(one.name, value, gradient, ratio, peaks)


def _leaves(work: Any) -> dict[str, Any]:
    """The inputs and parameters of a workload that require a gradient."""
    import torch

    named = {f"input {index + 1}": value for index, value in enumerate(work.args)} | dict(work.kwargs)
    if isinstance(work.function, torch.nn.Module):
        named |= dict(work.function.named_parameters())
    return {name: value for name, value in named.items() if isinstance(value, torch.Tensor) and value.requires_grad}


def _compare_gradients(one: Any, mine: Any, other: Any, theirs: Any, guard: "Guard") -> str:
    import torch

    from .comparison import difference

    right_leaves, leaves = _leaves(other), _leaves(one)
    if not isinstance(theirs, torch.Tensor) or not theirs.requires_grad or not right_leaves:
        return "none"
    if not isinstance(mine, torch.Tensor) or not mine.requires_grad:
        return "missing: the graph is cut"
    cotangent = torch.randn(theirs.shape, generator=torch.Generator().manual_seed(1), dtype=theirs.dtype)
    right = torch.autograd.grad((theirs * cotangent).sum(), list(right_leaves.values()), allow_unused=True)
    try:
        with guard.learner():
            total = (mine * cotangent.to(mine.dtype)).sum()
            got = torch.autograd.grad(total, list(leaves.values()), allow_unused=True)
    except Exception as error:
        return f"{type(error).__name__}: {error}".splitlines()[0]
    if list(leaves) != list(right_leaves):
        return f"of other parameters: {', '.join(sorted(set(leaves) ^ set(right_leaves)))}"
    for name, ours, oracle in zip(leaves, got, right, strict=True):
        if (ours is None) != (oracle is None):
            return f"missing for {name}" if ours is None else f"reaches {name}, where the solution's does not"
        found = None if ours is None else difference(ours, oracle, rtol=1e-3, atol=1e-4)
        if found is not None:
            return f"of {name}: got {found.got}, expected {found.expected}"
    return "agree"


def _time_ratio(one: Any, other: Any, guard: "Guard") -> float:
    """The ratio of median times, in rounds that alternate so that a busy machine slows both."""
    mine: list[float] = []
    theirs: list[float] = []
    end = time.perf_counter() + _BUDGET
    while len(mine) < _ROUNDS[0] or (len(mine) < _ROUNDS[1] and time.perf_counter() < end):
        # Each goes first in every other round: what goes first finds the caches cold.
        for work, times in ((one, mine), (other, theirs))[:: 1 if len(mine) % 2 else -1]:
            start = time.perf_counter()
            with guard.learner():  # the same surroundings for both
                work.function(*work.args, **work.kwargs)
            times.append(time.perf_counter() - start)
    return statistics.median(mine) / statistics.median(theirs)


def _peak_mib(work: Any, guard: "Guard") -> float:
    """The most memory that torch held at once for the call, by its allocator's own account."""
    import torch

    with (
        torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile,
        guard.learner(),
    ):
        result = work.function(*work.args, **work.kwargs)
    del result
    kineto = profile.profiler.kineto_results if profile.profiler else None
    changes = [event for event in kineto.events() if event.name() == "[memory]"] if kineto else []
    held = peak = 0
    for event in sorted(changes, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak / 2**20


def show_comparisons(screen: Screen, comparisons: list[Comparison]) -> None:
    """A table of what the two do."""
    table = Table(box=None, padding=(0, 2), header_style="bold", pad_edge=False)
    for heading in ("call", "value", "gradient", "time", "peak memory"):
        table.add_column(heading, overflow="fold")
    for entry in comparisons:
        took = "" if entry.time_ratio is None else f"{entry.time_ratio:.2f} x"
        peak = "" if entry.peak_mib is None else f"{entry.peak_mib[0]:.2f} / {entry.peak_mib[1]:.2f} MiB"
        table.add_row(
            *(escape(text) for text in (entry.name, entry.value, entry.gradient, took, peak)),
            style="" if entry.value == "agree" and entry.gradient in ("agree", "none") else "red",
        )
    screen.console.print(table)
    screen.line(
        "time: yours over the solution's, medians of alternating rounds; peak memory: yours / the solution's", "dim"
    )


def show_diff(screen: Screen, task: Task, mine: str, theirs: str) -> None:
    """The two texts side by side; what is the same is folded."""
    left, right = mine.splitlines(), theirs.splitlines()
    table = Table(expand=True, show_lines=False, box=None, padding=(0, 1))
    table.add_column(f"yours: exercises/{task.id}.py", ratio=1, overflow="fold")
    table.add_column(f"the solution: solutions/{task.id}.py", ratio=1, overflow="fold")
    for tag, a, b, c, d in difflib.SequenceMatcher(None, left, right, autojunk=False).get_opcodes():
        if tag == "equal":
            _add_equal(table, left[a:b], first=a == 0, last=b == len(left))
            continue
        for index in range(max(b - a, d - c)):
            table.add_row(
                Text(left[a + index], style="red") if a + index < b else Text(""),
                Text(right[c + index], style="green") if c + index < d else Text(""),
            )
    screen.console.print(table)


def _add_equal(table: Table, lines: list[str], first: bool, last: bool) -> None:
    head = [] if first else lines[:_CONTEXT]
    tail = [] if last else lines[max(len(head), len(lines) - _CONTEXT) :]
    folded = len(lines) - len(head) - len(tail)
    for line in head:
        table.add_row(Text(line, style="dim"), Text(line, style="dim"))
    if folded:
        note = f"... {folded} line{'s' * (folded != 1)} the same ..."
        table.add_row(Text(note, style="dim italic"), Text(note, style="dim italic"))
    for line in tail:
        table.add_row(Text(line, style="dim"), Text(line, style="dim"))
