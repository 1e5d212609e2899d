"""What the tests of a task are written with: `Check` calls the learner's code and compares what it gives.

    def test_three_tokens(check: Check) -> None:
        '''Three tokens: each sees itself and those before it.'''
        check(causal_mask, 3).equals(torch.tensor([[True, False, False], [True, True, False], [True, True, True]]))

A comparison that fails is noted and the check goes on (the comparisons are soft), so a learner sees all that is
wrong at once. Nothing here ever raises the learner's own exceptions: each becomes a verdict.
"""

import contextlib
import functools
import io
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest_check
import torch
from torch import Tensor, nn

from . import ROOT, accidents
from .catalogue import Task
from .comparison import describe, difference, dtype_name, evidence, is_tensor, plain, shape_name
from .crashes import ForbiddenError, first_line, is_no_answer, line_of, verdict_of
from .divergence import first_divergence, tracing
from .guards import Guard
from .intact import Settings
from .trees import ImportFailure, Missing
from .verdicts import Kind, Verdict

_grad = torch.autograd.grad
_clone = torch.clone


@dataclass(frozen=True)
class Workload:
    """A typical call, for `compare`: run with the learner's code and with the solution's on the same inputs.

    A file of tests has a function ``workload(task, draw)`` that returns a list of these; `task` is the module of
    one or the other. Gradients are compared with respect to every input and parameter that requires one.
    """

    name: str  # as a learner would write the call
    function: Callable[..., Any]
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)


class Stop(Exception):
    """Ends a check whose next step needs something that was not got; the verdict has been noted."""


class Draw:
    """Fresh inputs from a seed: each check of each run has a stream of its own."""

    def __init__(self, seed: int, name: str) -> None:
        # One number from both: torch's generator looks at 32 bits of its seed.
        self.generator = torch.Generator().manual_seed(zlib.crc32(f"{seed}:{name}".encode()))

    def normal(
        self, *shape: int, dtype: torch.dtype = torch.float32, scale: float = 1.0, requires_grad: bool = False
    ) -> Tensor:
        """Independent normal numbers of mean zero."""
        values = torch.randn(shape, generator=self.generator, dtype=dtype) * scale
        return values.requires_grad_(requires_grad)

    def uniform(self, low: float, high: float, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """Independent numbers, uniform on [low, high)."""
        return torch.rand(shape, generator=self.generator, dtype=dtype) * (high - low) + low

    def integers(self, low: int, high: int, *shape: int) -> Tensor:
        """Independent whole numbers from `low` to `high` - 1, as int64."""
        return torch.randint(low, high, shape, generator=self.generator)

    def integer(self, low: int, high: int) -> int:
        """One whole number from `low` to `high` - 1."""
        return int(self.integers(low, high, 1))

    def size(self, low: int = 3, high: int = 8) -> int:
        """An odd size or an even one: shapes that hide nothing."""
        return self.integer(low, high)

    def booleans(self, *shape: int, probability: float = 0.5) -> Tensor:
        """Independent booleans, each True with the given probability."""
        return torch.rand(shape, generator=self.generator) < probability

    def permutation(self, length: int) -> Tensor:
        """The numbers below `length` in random order."""
        return torch.randperm(length, generator=self.generator)

    def strided(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """Normal numbers in a tensor that is not contiguous: every second column of a larger one, transposed."""
        *lead, rows, columns = shape
        return torch.randn(*lead, columns, 2 * rows, generator=self.generator, dtype=dtype)[..., ::2].mT

    def seed(self) -> int:
        """A seed for code that takes one."""
        return self.integer(0, 2**31)

    def fill(self, module: nn.Module, scale: float = 0.5) -> nn.Module:
        """Give every parameter of a module normal numbers, in the order of their names; returns the module."""
        with torch.no_grad():
            for _, parameter in sorted(module.named_parameters()):
                parameter.copy_(self.normal(*parameter.shape, scale=scale))
        return module


class Answer:
    """What one call of the learner's code gave; compare it by the methods."""

    def __init__(self, check: "Check", call: str, value: Any = None, failed: bool = False) -> None:
        self._check = check
        self._value = value
        self.call = call
        self.failed = failed  # a verdict on the call itself has been noted: comparisons have nothing to add

    @property
    def value(self) -> Any:
        """The value itself; ends the check where the call gave none."""
        if self.failed:
            raise Stop
        return self._value

    def equals(
        self,
        expected: Any,
        *,
        rtol: float | None = None,
        atol: float | None = None,
        note: str = "",
        divergence: Callable[[], str] = str,
    ) -> "Answer":
        """Shape, dtype and value are those expected, up to rounding.

        Args:
            expected: a tensor, a number, a string, or a tuple, list or dict of such.
            rtol: relative tolerance, where the usual one for the dtype will not do; say why in a comment.
            atol: absolute tolerance, likewise.
            note: said after what was expected: why that is the right answer.
            divergence: tells, of a composed module whose answer differs, the first part that does.
        """
        if not self.failed:
            found = difference(self._value, expected, rtol, atol)
            if found is None:
                self._check.passed()
            else:
                wanted = f"{found.expected} ({note})" if note else found.expected
                self._check.note(
                    found.kind, self.call, found.got, wanted, found.where, evidence(self._value), divergence()
                )
                if is_tensor(expected) and not is_tensor(self._value):
                    self.failed = True  # whatever it is, nothing can be computed from it
        return self

    def has(self, *, shape: Iterable[int] | None = None, dtype: torch.dtype | None = None) -> "Answer":
        """It is a tensor of that shape and dtype; ends the check where it is not."""
        if self.failed:
            raise Stop
        value = plain(self._value)
        if not is_tensor(value):
            got = "None: is a `return` missing?" if value is None else f"{describe(value)}, not a tensor"
            self._check.note(Kind.WRONG_VALUE, self.call, got, "a tensor", proof=evidence(value))
        elif shape is not None and value.shape != torch.Size(shape):
            self._check.note(
                Kind.WRONG_SHAPE,
                self.call,
                f"shape {shape_name(value.shape)}",
                f"shape {shape_name(torch.Size(shape))}",
                proof=evidence(value),
            )
        elif dtype is not None and value.dtype != dtype:
            self._check.note(
                Kind.WRONG_DTYPE, self.call, dtype_name(value.dtype), dtype_name(dtype), proof=evidence(value)
            )
        else:
            self._check.passed()
            return self
        raise Stop

    def satisfies(
        self, condition: bool | Tensor, *, got: str, expected: str, kind: Kind = Kind.WRONG_VALUE
    ) -> "Answer":
        """A property of the value that the test worked out itself."""
        if not self.failed:
            self._check.that(
                bool(condition),
                call=self.call,
                got=got,
                expected=expected,
                kind=kind,
                proof=evidence(self._value),
            )
        return self

    def gradients_equal(
        self,
        expected: Tensor,
        by: Mapping[str, Tensor] | None = None,
        *,
        twins: Mapping[str, Tensor] | None = None,
        rtol: float | None = None,
        atol: float | None = None,
        **inputs: Tensor,
    ) -> "Answer":
        """Its gradients by the named inputs are those of `expected`, the oracle's value on the same inputs.

        Both are pulled back from one random cotangent, so a wrong factor or a cut anywhere shows.

        Args:
            expected: the oracle's value.
            by: more that the answer is differentiated by, whose names are no identifiers: parameters.
            twins: what the oracle is differentiated by, where that is another tensor of the same name: a parameter of
                its own.
            rtol: relative tolerance, as in `equals`.
            atol: absolute tolerance, likewise.
            **inputs: what the answer is differentiated by.
        """
        inputs = {**inputs, **(by or {})}
        if self.failed:
            return self
        value = plain(self._value)
        if not is_tensor(value) or value.shape != expected.shape:
            return self.equals(expected)
        cotangent = self._check.draw.normal(*expected.shape, dtype=torch.float64).to(expected.dtype)
        if not value.requires_grad:
            wanted = f"gradients for {', '.join(inputs)}"
            got = "a result without gradient: the graph is cut"
            self._check.note(Kind.NO_GRADIENT, self.call, got, wanted, proof=["no graph", evidence(value)])
            return self
        right = _pull_back(expected, cotangent, {**inputs, **(twins or {})})
        call = f"the backward pass of {self.call}"
        backward = self._check.run(call, lambda: _pull_back(value, cotangent.to(value.dtype), inputs))
        if backward.failed:
            return self
        for (name, tensor), mine, oracle in zip(inputs.items(), backward.value, right, strict=True):
            oracle = torch.zeros_like(tensor) if oracle is None else oracle
            if mine is None and bool(oracle.count_nonzero()):
                got, wanted = f"no gradient reaches {name}", f"a gradient of shape {shape_name(tensor.shape)}"
                self._check.note(Kind.NO_GRADIENT, self.call, got, wanted, proof=["no gradient", name])
                continue
            mine = torch.zeros_like(tensor) if mine is None else mine
            Answer(self._check, f"the gradient of {self.call} with respect to {name}", mine).equals(
                oracle, rtol=rtol, atol=atol
            )
        return self


class Check:
    """Calls the learner's code, notes what is wrong; tests get one as the fixture ``check``."""

    def __init__(
        self, task: Task, name: str, seed: int, guard: Guard, fail: Callable[[str], object] = pytest_check.check.fail
    ) -> None:
        self.task = task
        self._fail = fail  # how a verdict is made known to whoever runs the check
        self.draw = Draw(seed, f"{task.id}:{name}")
        self.guard = guard
        self.verdicts: list[Verdict] = []
        self.figures: list[str] = []  # files of figures that were kept
        self.scratch: str | None = None  # where `folder` is made; the system's place if None
        self.gallery: Path | None = None  # where `keep` puts figures; nowhere if None
        self._comparisons = 0
        self._before = Settings.now()
        self._built: nn.Module | None = None  # the module that the learner's code made last

    @functools.cached_property
    def folder(self) -> Path:
        """An empty folder for the check's files, gone with the check."""
        self._folder = tempfile.TemporaryDirectory(prefix="check-", dir=self.scratch, ignore_cleanup_errors=True)
        return Path(self._folder.name)

    @contextlib.contextmanager
    def large_files(self) -> Iterator[None]:
        """Lift the limit on the size of files, for those that the check itself makes."""
        try:
            import resource
        except ImportError:  # Windows has no such limit
            yield
            return
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limits[1], limits[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    def keep(self, figure: Any, name: str) -> None:
        """Where a learner is being graded, draw a figure of theirs and keep it as a PNG to look at."""
        if self.gallery is None:
            return
        picture = io.BytesIO()
        drawn = self.run(f"savefig of the figure {name}", lambda: figure.savefig(picture, format="png", dpi=100))
        target = self.gallery / f"{self.task.name}-{name}.png"
        with contextlib.suppress(OSError):  # a checkout that cannot be written to is no mistake of the learner's
            if not drawn.failed:
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(picture.getvalue())
                self.figures.append(target.relative_to(ROOT).as_posix() if target.is_relative_to(ROOT) else str(target))

    def passed(self) -> None:
        """Count a comparison that found nothing wrong."""
        self._comparisons += 1

    def note(
        self,
        kind: Kind,
        call: str,
        got: str,
        expected: str,
        where: str = "",
        proof: Any = None,
        divergence: str = "",
    ) -> None:
        """Note a verdict; the check goes on."""
        if self._built is not None and (hidden := accidents.hidden_parameters(self._built)):
            where = f"{where}\n{hidden}" if where else hidden
        verdict = Verdict(kind, call, got, expected, where, divergence, comparison=self._comparisons, evidence=proof)
        self._comparisons += 1
        self.verdicts.append(verdict)
        self._fail(verdict.text())

    def that(
        self,
        condition: bool,
        *,
        call: str,
        got: str,
        expected: str,
        kind: Kind = Kind.WRONG_VALUE,
        where: str = "",
        proof: Any = None,
    ) -> bool:
        """A property that the test worked out itself; returns whether it holds."""
        if condition:
            self.passed()
        else:
            self.note(kind, call, got, expected, where, [got, proof])
        return condition

    def __call__(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Answer:
        """Call a function or module of the learner's with these arguments, which it must not change."""
        before = [(name, tensor, _clone(tensor.detach())) for name, tensor in _tensors(args, kwargs)]
        answer = self.run(call_text(function, args, kwargs), lambda: function(*args, **kwargs), pure=True)
        for name, tensor, saved in before:
            if difference(tensor.detach(), saved, rtol=0.0, atol=0.0) is not None:
                self.note(
                    Kind.CHANGED_ITS_INPUT,
                    answer.call,
                    f"{name} was changed in place",
                    f"{name} as it was",
                    proof=evidence(tensor),
                )
        return answer

    def mutating(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Answer:
        """Call something that may change its arguments: that is its purpose."""
        return self.run(call_text(function, args, kwargs), lambda: function(*args, **kwargs))

    def run(self, call: str, thunk: Callable[[], Any], pure: bool = False) -> Answer:
        """Run learner's code behind a description of one's own; `pure` where it is to change nothing."""
        answer = Answer(self, call, failed=True)
        try:
            with self.guard.learner():
                value = thunk()
            answer = Answer(self, call, plain(value))
            if isinstance(value, nn.Module):
                self._built = value
        except BaseException as error:
            self._note_error(call, error, pure)
        self._note_breaches(call)
        if any(verdict.call == call for verdict in self.verdicts):
            answer.failed = True
        return answer

    def beside(
        self,
        module: Any,
        reference: nn.Module,
        /,
        *args: Any,
        parts: Mapping[str, str] | None = None,
        pick: Callable[[Any], Any] = lambda output: output,
        **kwargs: Any,
    ) -> Answer:
        """Call a composed module and a reference of the same weights, and compare; names the part that differs first.

        Args:
            module: the learner's.
            reference: another module of the same parts; called with the same arguments, without gradients.
            parts: the names of the reference's parts and what the learner's are called; all, of the same names, if
                None.
            pick: takes what is compared out of the reference's output.
            *args: of the call.
            **kwargs: of the call.
        """
        if parts is None:
            parts = {name: name for name, _ in reference.named_modules() if name}
        with torch.no_grad(), tracing(reference, parts) as theirs:
            expected = pick(reference(*args, **kwargs))
        with tracing(module, {name: name for name in parts.values()}) as mine:
            answer = self(module, *args, **kwargs)
        return answer.equals(expected, divergence=lambda: first_divergence(mine, theirs))

    def build(self, make: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Construct a class of the learner's; ends the check where that fails."""
        module = self.mutating(make, *args, **kwargs).value
        if isinstance(module, nn.Module):
            module.__dict__["_call_text"] = call_text(make, args, kwargs)
        return module

    def load(self, module: nn.Module, weights: Mapping[str, Tensor], *, buffers: bool = False) -> None:
        """Copy weights into a module of the learner's; ends the check where names or shapes are others."""
        call = _name_of(module)
        own = dict(self.run(f"{call}.named_parameters()", lambda: dict(module.named_parameters())).value)
        if buffers:
            own |= dict(module.named_buffers())
        wanted = {name: tuple(tensor.shape) for name, tensor in weights.items()}
        got = {name: tuple(tensor.shape) for name, tensor in own.items()}
        if set(got) != set(wanted):
            less, more = sorted(set(wanted) - set(got)), sorted(set(got) - set(wanted))
            parts = ([f"without {', '.join(less)}"] if less else []) + (
                [f"with {', '.join(more)} besides"] if more else []
            )
            self.note(
                Kind.WRONG_VALUE,
                f"the parameters of {call}",
                "; ".join(parts),
                ", ".join(wanted),
                proof=sorted(got),
            )
            raise Stop
        for name, shape in wanted.items():
            if got[name] != shape:
                self.note(
                    Kind.WRONG_SHAPE,
                    f"{call}.{name}",
                    f"shape {got[name]}",
                    f"shape {shape}",
                    proof=[name, list(got[name])],
                )
                raise Stop
        self.passed()
        with torch.no_grad():
            for name, tensor in weights.items():
                own[name].copy_(tensor)

    def raises(
        self,
        error: type[Exception] | tuple[type[Exception], ...],
        function: Callable[..., Any],
        /,
        *args: Any,
        naming: str | Iterable[str] = (),
        **kwargs: Any,
    ) -> None:
        """The call is refused with such an error, whose message holds each of the words in `naming`.

        Several words may be joined by ``|`` where any of them will do.
        """
        call = call_text(function, args, kwargs)
        kinds = error if isinstance(error, tuple) else (error,)
        wanted = " or ".join(kind.__name__ for kind in kinds)
        wanted = f"{'an' if wanted[0] in 'AEIOU' else 'a'} {wanted}"
        words = [naming] if isinstance(naming, str) else list(naming)
        named = f" that names {' and '.join(word.replace('|', ' or ') for word in words)}" if words else ""
        value, raised = None, None
        try:
            with self.guard.learner():
                value = plain(function(*args, **kwargs))
        except BaseException as error_got:
            raised = error_got
        if raised is None:
            self.note(
                Kind.DID_NOT_RAISE,
                call,
                f"no error: it returned {describe(value)}",
                f"{wanted}{named}",
                proof=["returned", evidence(value)],
            )
        elif is_no_answer(raised):
            self._note_error(call, raised)
        elif isinstance(raised, kinds) and _names(str(raised), words):
            self.passed()
        else:
            told = f"{type(raised).__name__}: {first_line(raised)}"
            proof = {"raised": type(raised).__name__, "named": False}
            self.note(Kind.DID_NOT_RAISE, call, told, f"{wanted}{named}", line_of(raised), proof)
        # The exception holds this frame, which would hold it: what it keeps alive (workers!) shall not wait for the
        # garbage collector.
        raised = None
        self._note_breaches(call)

    def fail_with(self, error: BaseException) -> None:
        """Note an exception that the test itself met, using what the learner's code gave it."""
        if isinstance(error, KeyError) and not line_of(error):  # a parameter, say, that the check asks for by its name
            missing = f"no {error.args[0]!r}" if error.args else "a name less than expected"
            self.note(Kind.WRONG_VALUE, "what the check looks up in yours", missing, "one of that name", proof=missing)
        elif not isinstance(error, Stop):
            self._note_error("the check's own use of your code", error)
            self._note_breaches("the check's own use of your code")
        if not self.verdicts:  # an exception is never a pass
            self.note(
                Kind.CRASH,
                "the check's own use of your code",
                f"{type(error).__name__}: {first_line(error)}",
                "a result",
            )

    def settle(self) -> None:
        """At the end of the check: what the learner's code has left behind."""
        call = "the end of the check"
        self.guard.settle(self._before)
        self._note_breaches(call)
        for name in self.guard.threads_left():
            got = f"a thread of yours still runs: {name}"
            self.note(Kind.CRASH, call, got, "threads that end with the call that has started them: join them")

    def _note_breaches(self, call: str) -> None:
        for breach in self.guard.breaches:
            if not any(verdict.got == breach for verdict in self.verdicts):
                self.note(
                    Kind.FORBIDDEN_SHORTCUT,
                    call,
                    breach,
                    "an answer of your own making, which leaves torch and the course as they are",
                )
        self.guard.breaches.clear()

    def _note_error(self, call: str, error: BaseException, pure: bool = False) -> None:
        """Note an exception out of the learner's code; what the guard refused is noted with its breaches."""
        if isinstance(error, Stop) or (isinstance(error, ForbiddenError) and self.guard.breaches):
            return
        if isinstance(error, ImportFailure):
            self.guard.breaches.clear()
        verdict = verdict_of(error, call, self.task, pure)
        self.note(verdict.kind, verdict.call, verdict.got, verdict.expected, verdict.where, verdict.evidence)


def _pull_back(output: Tensor, cotangent: Tensor, inputs: Mapping[str, Tensor]) -> tuple[Tensor | None, ...]:
    """The gradients of the product with a cotangent. (Given as `grad_outputs` it would make torch import sympy.)"""
    total = (output * cotangent).sum()
    return _grad(total, list(inputs.values()), retain_graph=True, allow_unused=True)


def _names(message: str, words: Iterable[str]) -> bool:
    """Whether an error's message holds each of the words; ``a|b`` asks for either."""
    told = _spelt(message)
    return all(any(_spelt(choice) in told for choice in word.split("|")) for word in words)


def _spelt(text: str) -> str:
    """In one spelling: a shape may be told as (4, 2), as [4, 2] or as torch.Size([4, 2])."""
    return text.lower().translate(str.maketrans("[]", "()")).replace(",)", ")")


def _tensors(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[tuple[str, Tensor]]:
    found: list[tuple[str, Tensor]] = []

    def look(name: str, value: Any) -> None:
        if is_tensor(value) and value.device.type != "meta":
            found.append((name, value))
        elif type(value) in (list, tuple):
            for index, entry in enumerate(value):
                look(f"{name}[{index}]", entry)
        elif type(value) is dict:
            for key, entry in value.items():
                look(f"{name}[{key!r}]", entry)

    for index, value in enumerate(args):
        look(f"argument {index + 1}", value)
    for name, value in kwargs.items():
        look(name, value)
    return found


def call_text(function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    """The call as one would write it, large tensors described."""
    inside = [describe(value) for value in args] + [f"{name}={describe(value)}" for name, value in kwargs.items()]
    return f"{_name_of(function)}({', '.join(inside)})"


def _name_of(function: Any) -> str:
    if type(function) is Missing:
        return str(function.__name__)
    if isinstance(function, nn.Module):
        return str(function.__dict__.get("_call_text", type(function).__name__))
    owner = getattr(function, "__self__", None)
    if isinstance(owner, ModuleType):  # as a builtin function has it
        owner = None
    if owner is not None and not isinstance(owner, type):
        return f"{_name_of(owner)}.{function.__name__}"
    if owner is not None:
        return f"{owner.__name__}.{function.__name__}"
    return str(getattr(function, "__name__", type(function).__name__))
