"""What surrounds the learner's code while it runs: what it may not call, import, read, change or write to.

It keeps mistakes and temptations from the grader. It is no sandbox: see PROMISES.md.
"""

import ast
import contextlib
import fnmatch
import functools
import importlib
import multiprocessing
import os
import sys
import threading
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

from torch.overrides import TorchFunctionMode

from . import ROOT
from .catalogue import Task
from .crashes import ForbiddenError
from .intact import Intact, Settings


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
_UNREAD = ("solutions", "tests")
_REACHING_EVENTS = {
    "gc.get_objects",
    "gc.get_referrers",
    "gc.get_referents",
    "sys._getframe",
    "sys.settrace",
    "sys.setprofile",
    "sys.addaudithook",
}
_WATCHED = {"open", "os.kill", "os.killpg", "object.__setattr__", *_WRITE_EVENTS, *_PROCESS_EVENTS, *_REACHING_EVENTS}

# What the graders are made of, and libraries that have a GPT-2 of their own. A task may import of these what its
# solution imports.
_FOREIGN = frozenset({"checkpoints", "solutions", "tests", "pytest", "pytest_check"}) | {
    "transformers",
    "tokenizers",
    "tiktoken",
}


class Guard:
    """Arms and disarms all of that; `breaches` keeps what was refused, even if the learner's code hid it."""

    def __init__(
        self,
        forbidden: Sequence[str] = (),
        processes: bool = False,
        root: Path = ROOT,
    ) -> None:
        self.forbidden = forbidden
        self.processes = processes
        self.breaches: list[str] = []
        self._depth = 0
        self._decided: dict[str, bool] = {}  # by name: the question comes with each call of torch
        self._protected = tuple(os.path.realpath(root / name) for name in _PROTECTED)
        self._unread = tuple(os.path.realpath(root / name) + os.sep for name in _UNREAD)
        self._exercises = str(root / "exercises") + os.sep
        self._figures = os.path.realpath(root / "checkpoints" / "figures")
        self._intact = Intact()
        self._busy = threading.local()
        self._home = threading.get_ident()
        self._threads = {thread.ident for thread in threading.enumerate()}

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

    @property
    def armed(self) -> bool:
        """Whether it is the learner's code that runs: within a call of it, or in a thread that it has started."""
        return self._depth > 0 or threading.get_ident() != self._home

    def _audit(self, event: str, args: tuple[Any, ...]) -> None:
        if event not in _WATCHED or getattr(self._busy, "on", False):
            return
        self._busy.on = True  # what is asked here is an event as well
        try:
            if self.armed or ((event != "open" or _writes(args)) and self._is_on_the_stack()):
                self._judge(event, args)
        finally:
            self._busy.on = False

    def _judge(self, event: str, args: tuple[Any, ...]) -> None:
        if event == "open":
            (self._refuse_path if _writes(args) else self._refuse_reading)(args[0])
        elif event in _WRITE_EVENTS:
            for path in args[:2]:
                self._refuse_path(path)
        elif event in _PROCESS_EVENTS and not self.processes and not _lists_fonts(event, args):
            self.refuse(f"tried to start another process ({_PROCESS_EVENTS[event]})")
        elif event in ("os.kill", "os.killpg") and not (self.processes and _is_own_child(args[0])):
            self.refuse("tried to send a signal to a process")
        elif event in _REACHING_EVENTS and self._is_learners(_caller()):
            self.refuse(f"called {event}: what the grader is made of could be reached so")
        elif event == "object.__setattr__" and args[1] in ("__code__", "__defaults__", "__kwdefaults__"):
            owner = getattr(args[0], "__module__", None) or ""
            if owner.split(".")[0] in ("torch", "numpy", "pytest", "pytest_check", "checkpoints", "tests"):
                self.refuse(f"changed {owner}.{getattr(args[0], '__name__', '?')} from within")

    def _is_on_the_stack(self) -> bool:
        """Whether code of the exercises runs that nobody has called by a check: the end of an object, say."""
        frame: FrameType | None = _caller()
        while frame is not None:
            if frame.f_code.co_filename.startswith(self._exercises):
                return True
            frame = frame.f_back
        return False

    def _is_learners(self, frame: FrameType) -> bool:
        """Whether a frame runs code of the exercises, or one that was made of a text there and then."""
        return frame.f_code.co_filename.startswith((self._exercises, "<string>"))

    def _refuse_reading(self, path: Any) -> None:
        if not isinstance(path, str | bytes | os.PathLike):
            return
        real = os.path.realpath(os.fsdecode(path))
        if real.startswith(self._unread) and not _quotes(_caller()):
            self.refuse(f"tried to read {self._shown(real)}: the answer is to be yours")

    def _shown(self, real: str) -> str:
        return Path(os.path.relpath(real, os.path.dirname(self._protected[0]))).as_posix()  # noqa: PTH120

    def read(self, text: str, task: Task | None) -> None:
        """Look through a text of the learner's for a task, before it runs, for what it may not name.

        Modules that are already there are imported without a word to any hook, so this is seen in the text alone.
        """
        try:
            tree = ast.parse(text)
        except (SyntaxError, ValueError):
            return  # it will not run either
        with self.trusted():
            foreign = _FOREIGN - (imported(task) if task else set())
        for node in ast.walk(tree):
            for name in _modules_in(node):
                if name.split(".")[0] in foreign:
                    self.refuse(f"imports {name}: solve it with torch and Python alone")
            if self.forbidden and _name_in(node).startswith(("DisableTorchFunction", "_DisableTorch")):
                self.refuse(f"uses torch's {_name_in(node)}, behind which shortcuts hide")

    def _refuse_path(self, path: Any) -> None:
        if not isinstance(path, str | bytes | os.PathLike):
            return
        real = os.path.realpath(os.fsdecode(path))
        if real.startswith(self._figures + os.sep):
            return
        for protected in self._protected:
            if real == protected or real.startswith(protected + os.sep):
                self.refuse(f"tried to change {self._shown(real)}, which belongs to the course")

    @contextmanager
    def learner(self) -> Iterator[None]:
        """Surround a call of the learner's code."""
        before = Settings.now()
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
                self.breaches += self._intact.put_back(before)

    def settle(self, before: Settings) -> None:
        """Undo and note what the learner's code has changed between its calls: in a thread, at the end of an object."""
        streams = sys.stdout, sys.stderr  # an editor's pytest has others at the end of a check
        self.breaches += self._intact.put_back(replace(before, streams=streams))

    @contextmanager
    def trusted(self) -> Iterator[None]:
        """Surround what the course itself does in the middle of a call of the learner's code: read what it lends."""
        depth, self._depth = self._depth, 0
        try:
            yield
        finally:
            self._depth = depth

    def threads_left(self, patience: float = 0.5) -> list[str]:
        """The names of threads that the learner's code has started and that do not end, however long one waits."""
        left = [each for each in threading.enumerate() if each.ident not in self._threads and not _serves(each)]
        for thread in left:
            thread.join(patience / len(left))
        return [thread.name for thread in left if thread.is_alive()]


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


@functools.cache
def imported(task: Task) -> frozenset[str]:
    """The packages that a task's solution imports."""
    tree = ast.parse(task.solution().read_text(encoding="utf-8"))
    return frozenset(name.split(".")[0] for node in ast.walk(tree) for name in _modules_in(node))


def _modules_in(node: ast.AST) -> list[str]:
    """The modules that a piece of a text imports, or names as one would to import them at run time."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return [node.module] if node.module and not node.level else []
    if isinstance(node, ast.Call) and _name_in(node.func) in ("import_module", "__import__"):
        return [entry.value for entry in node.args if isinstance(entry, ast.Constant) and isinstance(entry.value, str)]
    if isinstance(node, ast.Subscript) and _name_in(node.value) == "modules" and isinstance(node.slice, ast.Constant):
        return [str(node.slice.value)]
    return []


def _name_in(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    if isinstance(node, ast.alias):
        return node.name
    return node.id if isinstance(node, ast.Name) else ""


def _writes(args: tuple[Any, ...]) -> bool:
    """Whether a file is opened for writing."""
    return isinstance(args[2], int) and bool(args[2] & _WRITE_FLAGS)


def _caller() -> FrameType:
    """Who made the event happen: the first frame that is not in this file; of a call of `inspect`, who called that."""
    frame = sys._getframe(1)
    while frame.f_back is not None and (frame.f_code.co_filename == __file__ or frame.f_code.co_name == "currentframe"):
        frame = frame.f_back
    return frame


def _quotes(frame: FrameType | None) -> bool:
    """Whether a file is read to quote a line of it in a traceback."""
    for _ in range(4):
        if frame is None:
            break
        if frame.f_globals.get("__name__") == "linecache":
            return True
        frame = frame.f_back
    return False


def _serves(thread: threading.Thread) -> bool:
    """Whether a library's own thread: a queue's, a pool's."""
    made = getattr(getattr(thread, "_target", None), "__module__", None) or type(thread).__module__
    return made.split(".")[0] in ("multiprocessing", "concurrent", "torch", "tqdm", "asyncio")


def _is_own_child(process: int) -> bool:
    return process in {child.pid for child in multiprocessing.active_children()}


def _lists_fonts(event: str, args: tuple[Any, ...]) -> bool:
    """Matplotlib, when it is first imported on a machine, asks the system for its fonts."""
    return event == "subprocess.Popen" and Path(str(args[1][0])).name in ("fc-list", "system_profiler")
