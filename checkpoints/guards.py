"""What surrounds the learner's code while it runs: what it may not call, change or write to."""

import builtins
import contextlib
import fnmatch
import importlib
import math
import multiprocessing
import os
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy
import pytest
import pytest_check
import torch
from torch.overrides import TorchFunctionMode

from . import ROOT, misconceptions, trees, verdicts
from .catalogue import Task
from .crashes import ForbiddenError


class _NoShortcuts(TorchFunctionMode):
    """Refuses the torch functions that are what the task is about, under whatever name they were imported.

    A function mode sees each call of torch from Python: `F.softmax`, `Tensor.softmax`, an alias of either,
    `torch.ops.aten.softmax`, and what a library module's forward calls.
    """

    def __init__(self, guard: "Guard") -> None:
        super().__init__()
        self.guard = guard

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "").split(".")[0]  # an overload is called `softmax.int`
        if self.guard.is_forbidden(name):
            self.guard.refuse(f"called torch's {name}: this is what you are building")
        return func(*args, **(kwargs or {}))


# Everything that a comparison or an oracle rests on: a learner's module that replaces any of it is told so,
# and it is put back before anything is compared.
_NAMESPACES: tuple[tuple[str, Any], ...] = (
    ("torch", torch),
    ("torch.Tensor", torch.Tensor),
    ("torch._C.TensorBase", torch._C.TensorBase),
    ("torch.nn", torch.nn),
    ("torch.nn.Module", torch.nn.Module),
    ("torch.nn.functional", torch.nn.functional),
    ("torch.autograd", torch.autograd),
    ("torch.linalg", torch.linalg),
    ("torch.special", torch.special),
    ("torch.testing", torch.testing),
    ("numpy", numpy),
    ("math", math),
    ("builtins", builtins),
    ("pytest", pytest),
    ("pytest_check", pytest_check),
    ("pytest_check.check", type(pytest_check.check)),
    ("checkpoints.misconceptions", misconceptions),
    ("checkpoints.trees", trees),
    ("checkpoints.verdicts", verdicts),
)

_PROCESS_EVENTS = {
    "os.fork": "os.fork",
    "os.forkpty": "os.forkpty",
    "os.posix_spawn": "os.posix_spawn",
    "os.spawn": "os.spawn",
    "os.exec": "os.exec",
    "os.system": "os.system",
    "subprocess.Popen": "subprocess",
}
_WRITE_EVENTS = {
    "os.remove",
    "os.rename",
    "os.rmdir",
    "os.truncate",
    "os.chmod",
    "os.link",
    "os.symlink",
    "shutil.rmtree",
    "shutil.move",
}
_WRITE_FLAGS = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_PROTECTED = ("checkpoints", "solutions", "tests", "noxfile.py", "pyproject.toml", ".git")


class Guard:
    """Arms and disarms all of that; `breaches` keeps what was refused, even if the learner's code hid it."""

    def __init__(self, forbidden: Sequence[str] = (), processes: bool = False, root: Path = ROOT) -> None:
        self.forbidden = forbidden
        self.processes = processes
        self.breaches: list[str] = []
        self._depth = 0
        self._decided: dict[str, bool] = {}  # by name: the question comes with each call of torch
        self._protected = tuple(os.path.realpath(root / name) for name in _PROTECTED)
        self._figures = os.path.realpath(root / "checkpoints" / "figures")
        self._saved = [(name, space, dict(vars(space))) for name, space in _NAMESPACES]
        self._modes = (torch.get_default_dtype(), torch.get_num_threads())

    def is_forbidden(self, name: str) -> bool:
        """Whether a torch function of this name is what is being built."""
        if name not in self._decided:
            self._decided[name] = any(fnmatch.fnmatchcase(name, pattern) for pattern in self.forbidden)
        return self._decided[name]

    def refuse(self, what: str) -> None:
        """Note the breach and raise it into the learner's code."""
        self.breaches.append(what)
        raise ForbiddenError(what)

    def watch_system(self) -> None:
        """Refuse, while armed, to start processes and to write to the course. For good: hooks cannot be removed."""
        sys.addaudithook(self._audit)

    def _audit(self, event: str, args: tuple[Any, ...]) -> None:
        if not self._depth:
            return
        if event == "open":
            path, _, flags = args
            if isinstance(flags, int) and flags & _WRITE_FLAGS:
                self._refuse_path(path)
        elif event in _WRITE_EVENTS:
            for path in args[:2]:
                self._refuse_path(path)
        elif event in _PROCESS_EVENTS and not self.processes and not _lists_fonts(event, args):
            self.refuse(f"tried to start another process ({_PROCESS_EVENTS[event]})")
        elif event in ("os.kill", "os.killpg") and not (self.processes and _is_own_child(args[0])):
            self.refuse("tried to send a signal to a process")

    def _refuse_path(self, path: Any) -> None:
        if not isinstance(path, str | bytes | os.PathLike):
            return
        real = os.path.realpath(os.fsdecode(path))
        if real.startswith(self._figures + os.sep):
            return
        for protected in self._protected:
            if real == protected or real.startswith(protected + os.sep):
                shown = os.path.relpath(real, os.path.dirname(self._protected[0]))  # noqa: PTH120
                self.refuse(f"tried to change {Path(shown).as_posix()}, which belongs to the course")

    @contextmanager
    def learner(self) -> Iterator[None]:
        """Surround a call of the learner's code."""
        gradients = torch.is_grad_enabled()
        self._depth += 1
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("default")  # shown as printed; an error only in the course's own code
                if self.forbidden and self._depth == 1:
                    with _NoShortcuts(self):
                        yield
                else:
                    yield
        finally:
            self._depth -= 1
            if not self._depth:
                self._put_back(gradients)

    def _put_back(self, gradients: bool) -> None:
        """Undo and note what the learner's code changed in torch, pytest and Python themselves."""
        dtype, threads = self._modes
        if torch.get_default_dtype() != dtype:
            torch.set_default_dtype(dtype)
            self.breaches.append("changed torch's default dtype for everybody: give a dtype where you make a tensor")
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
            self.breaches.append("changed torch's number of threads for everybody")
        if torch.is_grad_enabled() != gradients:
            torch.set_grad_enabled(gradients)
            self.breaches.append("left gradients switched off for everybody: use `with torch.no_grad():`")
        for name, space, saved in self._saved:
            now = vars(space)
            if len(now) == len(saved) and all(map(_is, now.values(), saved.values())):
                continue
            for key, value in saved.items():
                if now.get(key, _GONE) is not value:
                    setattr(space, key, value)
                    self.breaches.append(f"replaced {name}.{key}: {_LEAVE}")
            for key in vars(space).keys() - saved.keys():
                value = vars(space)[key]
                if key == "__slotnames__":
                    saved[key] = value  # Python's own note, from the first time that a tensor is pickled
                elif isinstance(space, type) and not str(getattr(value, "__module__", "")).startswith("torch"):
                    delattr(space, key)  # it would hide what the class inherits
                    self.breaches.append(f"replaced {name}.{key}: {_LEAVE}")
                else:
                    saved[key] = value  # torch adds to itself lazily: no breach


def guard_of(task: Task, shortcuts: bool = False) -> Guard:
    """What surrounds a task's code; `shortcuts` lets it call what it is about."""
    preload(task.preload)  # before the guard remembers what torch is: a library may put something of its own there
    return Guard(() if shortcuts else task.forbidden, task.processes)


def preload(modules: Iterable[str]) -> None:
    """Import what the tests are slow to import; one that cannot be imported is left for them to meet."""
    for name in modules:
        with contextlib.suppress(ImportError), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            importlib.import_module(name)


_GONE = object()
_LEAVE = "leave it as it is, the grader has its own"


def _is_own_child(process: int) -> bool:
    return process in {child.pid for child in multiprocessing.active_children()}


def _lists_fonts(event: str, args: tuple[Any, ...]) -> bool:
    """Matplotlib, when it is first imported on a machine, asks the system for its fonts."""
    return event == "subprocess.Popen" and Path(str(args[1][0])).name in ("fc-list", "system_profiler")


def _is(left: object, right: object) -> bool:
    return left is right
