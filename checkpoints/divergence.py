"""Where two modules of the same parts part first: what a wrong answer of a composed module is traced to.

Both run on the same input with the same weights, and each part notes what comes in and what goes out. Along the
reference's way, the first thing that differs says where to look: what comes in differs where everything before
agreed, so it is the wiring between two parts; what goes out differs where what came in agreed, so it is that part.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from .comparison import TOLERANCES, Difference, difference, is_tensor, plain, right_elements


@dataclass(frozen=True)
class Passage:
    """Something that passed the edge of a part: what came in at its k-th call, or what went out."""

    part: str
    call: int
    goes_out: bool
    value: Tensor | None  # the first tensor of what passed


@dataclass
class Trace:
    """Every passage of one run, in order."""

    passages: list[Passage] = field(default_factory=list)
    _calls: dict[str, int] = field(default_factory=dict)

    def calls(self, part: str) -> int:
        """How often a part was called."""
        return self._calls.get(part, 0)

    def find(self, wanted: Passage) -> Passage | None:
        """The same passage in this run."""
        place = (wanted.part, wanted.call, wanted.goes_out)
        return next((found for found in self.passages if (found.part, found.call, found.goes_out) == place), None)

    def enter(self, part: str, values: Any) -> None:
        """Note what comes in."""
        self._calls[part] = self.calls(part) + 1
        self.passages.append(Passage(part, self.calls(part), False, _first_tensor(values)))

    def leave(self, part: str, values: Any) -> None:
        """Note what goes out."""
        self.passages.append(Passage(part, self.calls(part), True, _first_tensor(values)))


def _first_tensor(values: Any) -> Tensor | None:
    """A copy: what comes later may write into it."""
    if is_tensor(values):
        return plain(values).detach().clone()
    if isinstance(values, tuple | list):
        return next((tensor for tensor in map(_first_tensor, values) if tensor is not None), None)
    return None


@contextmanager
def tracing(module: nn.Module, names: Mapping[str, str]) -> Iterator[Trace]:
    """Note what passes the parts of a module; `names` says which parts, and what they are called in the trace."""
    trace = Trace()

    def hooks(part: str) -> tuple[Callable[..., None], Callable[..., None]]:
        def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            trace.enter(part, [*args, *kwargs.values()])

        def after(_: nn.Module, __: Any, output: Any) -> None:
            trace.leave(part, output)

        return before, after

    with ExitStack() as undo:
        for name, part in nn.Module.named_modules(module):
            if name in names:
                before, after = hooks(names[name])
                undo.callback(nn.Module.register_forward_pre_hook(part, before, with_kwargs=True).remove)
                undo.callback(nn.Module.register_forward_hook(part, after).remove)
        yield trace


def first_divergence(mine: Trace, theirs: Trace) -> str:
    """In words: the first part along the reference's way where the two differ, by how much, and on which slice.

    Where every part agrees, it is what is done with the last of them, or a call too many.
    """
    before = "the input"
    for expected in theirs.passages:
        part = expected.part if expected.call == 1 else f"call {expected.call} of {expected.part}"
        got = mine.find(expected)
        if got is None:
            times = mine.calls(expected.part)
            if expected.goes_out:
                return f"{part} is begun and never finished"
            if times:
                return f"{expected.part} is called {times} time{'s' * (times != 1)}, not {theirs.calls(expected.part)}"
            return f"{part} is never called; {before} is the last that agrees"
        found = _difference(got.value, expected.value)
        if found is not None:
            if expected.goes_out:
                return f"{part}: what comes in agrees, what goes out differs{found}"
            return f"what comes into {part} differs, though {before} still agrees: look between the two{found}"
        before = f"what goes out of {part}" if expected.goes_out else f"what comes into {part}"
    for extra in mine.passages:
        if not extra.goes_out and theirs.find(extra) is None:
            return f"every part agrees, but {extra.part} is called {mine.calls(extra.part)} times in all"
    return f"every part agrees: look at what is done after {before}"


def _difference(got: Tensor | None, expected: Tensor | None) -> str | None:
    """How the two differ, as the end of a sentence; None where they do not."""
    if got is None or expected is None:
        return None  # nothing that could be compared passes here
    found = difference(got, expected)
    return None if found is None else _in_words(found, got, expected)


def _in_words(found: Difference, got: Tensor, expected: Tensor) -> str:
    if got.shape != expected.shape or got.dtype != expected.dtype:
        return f" ({found.got}, not {found.expected})"
    most = float((got.double() - expected.double()).abs().max())
    wrong = ~right_elements(got, expected, *TOLERANCES.get(got.dtype, (1e-5, 1e-5)))  # as `difference` has it
    return f", by up to {most:.3g}, in {slice_of(wrong)} of {tuple(got.shape)}"


def slice_of(wrong: Tensor) -> str:
    """The smallest slice that holds everything wrong: ``[:, 2:, 5]``."""
    if not wrong.dim():
        return "the number"
    parts = []
    for axis in range(wrong.dim()):
        others = [other for other in range(wrong.dim()) if other != axis]
        along = wrong.sum(dim=others) if others else wrong
        places = along.nonzero().flatten().tolist()
        first, last, size = places[0], places[-1], wrong.shape[axis]
        if first == last:
            parts.append(str(first) if size > 1 else ":")
        else:
            parts.append(f"{first or ''}:{'' if last == size - 1 else last + 1}")
    return f"[{', '.join(parts)}]"
