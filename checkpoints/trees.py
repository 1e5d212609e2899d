"""Whose code ``exercises`` is: the one mechanism behind grading, lending, misconceptions and the capstone.

Tests write ``from exercises.attention.masking import causal_mask``. Before anything imports that, a `Tree` is
installed that says, task by task, which text stands there: the learner's, the solution's, a misconception's, or
any mixture of them. Modules import their neighbours relatively, so the same text runs whoever wrote it.
"""

import ast
import difflib
import functools
import importlib.machinery
import importlib.util
import linecache
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from . import ROOT
from .catalogue import Catalogue, Task, public_names

if TYPE_CHECKING:
    from .guards import Guard

PACKAGE = "exercises"


@dataclass(frozen=True)
class Source:
    """The text that stands for one task, and the path that messages give for it."""

    path: str
    text: str | None  # None: the file does not exist
    lent: bool = False


def learners(task: Task, home: Path = ROOT) -> Source:
    """The learner's own text, from the checkout `home`; messages name it as if it stood in this one."""
    return Source(str(task.exercise()), _read(task.exercise(home)).text)


def solutions(task: Task, root: Path = ROOT) -> Source:
    """The reference's text."""
    source = _read(task.solution(root))
    return Source(source.path, source.text, lent=True)


def _read(path: Path) -> Source:
    try:
        return Source(str(path), path.read_text(encoding="utf-8"))
    except OSError:
        return Source(str(path), None)
    except UnicodeDecodeError as error:  # kept as a text that cannot be imported and says why
        return Source(str(path), f"raise SyntaxError('not UTF-8 text: byte {error.start}')")


def dependencies(task: Task, catalogue: Catalogue, root: Path = ROOT) -> list[Task]:
    """The earlier tasks that a task's solution stands on, directly or not, in the order of the ladder."""
    known = {other.id: other for other in catalogue.tasks()}
    found: set[str] = set()
    pending = [task]
    while pending:
        current = pending.pop()
        for name in _relative_imports(current, root):
            if name in known and name not in found and name != task.id:
                found.add(name)
                pending.append(known[name])
    return [other for other in catalogue.tasks() if other.id in found]


@functools.cache
def _relative_imports(task: Task, root: Path) -> tuple[str, ...]:
    found = []
    for node in ast.walk(ast.parse(task.solution(root).read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level == 1 and node.module:
            found.append(f"{task.sprint}/{node.module}")
        elif isinstance(node, ast.ImportFrom) and node.level == 2 and node.module:
            found.append(node.module.replace(".", "/", 1))
    return tuple(found)


class ImportFailure(Exception):
    """A task's module, or one of its names, could not be had; carries the exception that was the cause."""

    def __init__(self, message: str, cause: BaseException | None = None, where: str = "") -> None:
        super().__init__(message)
        self.cause = cause
        self.where = where


class Missing:
    """Stands for a name that could not be imported: any use of it raises the `ImportFailure`."""

    def __init__(self, name: str, failure: ImportFailure) -> None:
        object.__setattr__(self, "_name", name)
        object.__setattr__(self, "_failure", failure)

    def __getattr__(self, attribute: str) -> Any:
        if attribute == "__name__":
            return object.__getattribute__(self, "_name")
        raise object.__getattribute__(self, "_failure")

    def __call__(self, *args: object, **kwargs: object) -> Any:
        """Raise the failure: there is nothing to call."""
        raise object.__getattribute__(self, "_failure")


class _Loader(importlib.machinery.SourceFileLoader):
    """Loads one task's text; never fails: what is missing becomes `Missing`."""

    def __init__(
        self,
        name: str,
        source: Source,
        expected: Sequence[str],
        guard: "Guard | None",
        task: Task | None,
    ) -> None:
        super().__init__(name, source.path)
        self._task = task
        self._source = source
        self._expected = expected
        self._guard = guard

    def get_code(self, fullname: str) -> Any:
        """Compile the text that stands for the task."""
        # Never from __pycache__: its time stamps are too coarse for two saves within a second.
        text = self._source.text or ""
        linecache.cache[self.path] = (len(text), None, text.splitlines(keepends=True), self.path)
        return compile(text, self.path, "exec", dont_inherit=True)

    def exec_module(self, module: ModuleType) -> None:
        """Run it, guarded; what then is missing is made up by `Missing`."""
        shown = f"{PACKAGE}/" + "/".join(module.__name__.split(".")[1:]) + ".py"
        failure = None
        try:
            if self._source.text is None:
                raise ImportFailure(f"there is no file {shown}")
            if self._guard is None:
                super().exec_module(module)
            else:
                with self._guard.learner():
                    if not self._source.lent:
                        self._guard.read(self._source.text, self._task)
                    super().exec_module(module)
        except ImportFailure as error:
            failure = error
        except BaseException as error:
            failure = ImportFailure(_why(error, shown), error, _line_of(error, self.path, shown))
        for name in self._expected:
            if failure is None and not hasattr(module, name):
                setattr(module, name, Missing(name, ImportFailure(_no_name(name, module, shown))))
            elif failure is not None:
                setattr(module, name, Missing(name, failure))


def _why(error: BaseException, shown: str) -> str:
    if isinstance(error, SystemExit):
        return f"importing {shown} called sys.exit({error.code!r})"
    if isinstance(error, SyntaxError):
        return f"{type(error).__name__}: {error.msg}"
    return f"{type(error).__name__}: {error}"


def _line_of(error: BaseException, path: str, shown: str) -> str:
    if isinstance(error, SyntaxError) and error.lineno:
        text = (error.text or "").rstrip("\n")
        stripped = text.lstrip()
        column = max((error.offset or 1) - 1 - (len(text) - len(stripped)), 0)
        return f"{shown}:{error.lineno}: {stripped}\n{' ' * (len(f'{shown}:{error.lineno}: ') + column)}^"
    line = None
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == path:
            line = trace.tb_lineno
        trace = trace.tb_next
    return f"{shown}:{line}" if line else shown


def _no_name(name: str, module: ModuleType, shown: str) -> str:
    own = [
        key
        for key, value in vars(module).items()
        if not key.startswith("_") and getattr(value, "__module__", None) == module.__name__
    ]
    near = difflib.get_close_matches(name, own, n=1, cutoff=0.5)
    hint = f"; it has {near[0]}: was it renamed?" if near else f"; it has {', '.join(own) or 'no names of its own'}"
    return f"{shown} has no {name}{hint}"


class Tree:
    """Decides what each ``exercises.SPRINT.TASK`` is. Install it before anything imports one.

    Args:
        tasks: of the course, in the order of the ladder.
        sources: whose text stands for which task, by id; the solution's where nothing is said.
        guard: what surrounds the texts while they are imported.
        last: the task that is graded: code of the learner's may not import what comes after it.
        root: the checkout.
        home: the checkout whose `exercises` hold the learner's own helper modules, if it is another.
    """

    def __init__(
        self,
        tasks: Iterable[Task],
        sources: Mapping[str, Source],
        guard: "Guard | None" = None,
        last: Task | None = None,
        root: Path = ROOT,
        home: Path | None = None,
    ) -> None:
        self.tasks = {task.module: task for task in tasks}
        self.sources = sources
        self.guard = guard
        self.last = last
        self.root = root
        self.home = home or root

    def install(self) -> None:
        """Put this tree in the place of any other, and forget what was imported from that one."""
        sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, Tree)]
        sys.meta_path.insert(0, self)
        for name in [name for name in sys.modules if name == PACKAGE or name.startswith(f"{PACKAGE}.")]:
            del sys.modules[name]

    def find_spec(self, name: str, path: object = None, target: object = None) -> importlib.machinery.ModuleSpec | None:
        """The import system's question: where does this name come from?"""
        if name == PACKAGE or (name.startswith(f"{PACKAGE}.") and name.count(".") == 1):
            spec = importlib.machinery.ModuleSpec(name, None, is_package=True)
            spec.submodule_search_locations = [str(self.root.joinpath(*name.split(".")))]
            return spec
        if not name.startswith(f"{PACKAGE}."):
            return None
        self._refuse_later(name)
        with self.guard.trusted() if self.guard is not None else nullcontext():
            source, expected = self._source_of(name)
        if source is None:
            return None
        loader = _Loader(name, source, expected, self.guard, self.tasks.get(name))
        return importlib.util.spec_from_file_location(name, source.path, loader=loader)

    def _refuse_later(self, name: str) -> None:
        """What is not built yet is not lent to the learner's code: the answer could be in it."""
        if self.last is not None and self.guard is not None and self.guard.armed and name in self.tasks:
            order = list(self.tasks)
            if order.index(name) > order.index(self.last.module):
                raise ImportError(f"{self.tasks[name].id} comes later on the ladder")

    def _source_of(self, name: str) -> tuple[Source | None, Sequence[str]]:
        """The text that stands for a module, and the names that it must have."""
        task = self.tasks.get(name)
        if task is None:  # a helper module of the learner's own
            parts = name.split(".")
            path = self.home.joinpath(*parts).with_suffix(".py")
            shown = self.root.joinpath(*parts).with_suffix(".py")
            return (Source(str(shown), _read(path).text) if path.exists() else None), ()
        source = self.sources.get(task.id) or solutions(task, self.root)
        return source, public_names(task.solution(self.root))
