"""The catalogue: which sprints and tasks there are, what they are worth, and their hints.

The data stand beside this file: ``ladder.toml`` keeps the order of the sprints, ``SPRINT.toml`` describes one.
Only the standard library is used, so that ``nox -l`` is instant.
"""

import ast
import difflib
import functools
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import ROOT

HERE = Path(__file__).resolve().parent


class CatalogueError(Exception):
    """The catalogue is malformed; the message names the file and the key."""


class UnknownNameError(Exception):
    """Somebody asked for a sprint or task that does not exist; the message names the nearest."""


@dataclass(frozen=True)
class Task:
    """One exercise: a stub, its tests and its solution, all under the same path."""

    sprint: str
    name: str
    title: str  # what the learner builds, in a few words
    points: int
    backlog: str  # the line of the sprint backlog that it serves
    hints: tuple[str, str, str]  # a question, a pointer, nearly there
    note: tuple[str, str, str]  # for after passing: what it is for, what the solution does, something to think about
    given: tuple[str, ...] = ()  # names whose bodies stay in the stub: `function`, `Class.method`
    forbidden: tuple[str, ...] = ()  # patterns of torch functions that are what is being built
    seconds: float = 10.0  # how long one check may run
    memory_gib: float = 4.0  # how much more than the bare interpreter one process may take
    processes: bool = False  # whether the learner's code may start other processes
    preload: tuple[str, ...] = ()  # slow modules that the task or its tests import: once, before workers are forked

    @property
    def id(self) -> str:
        """``sprint/task``: the path in every tree and the name in every message."""
        return f"{self.sprint}/{self.name}"

    @property
    def module(self) -> str:
        """The name under which tests import it."""
        return f"exercises.{self.sprint}.{self.name}"

    def exercise(self, root: Path = ROOT) -> Path:
        """The learner's file."""
        return root / "exercises" / self.sprint / f"{self.name}.py"

    def solution(self, root: Path = ROOT) -> Path:
        """The reference."""
        return root / "solutions" / self.sprint / f"{self.name}.py"

    def tests(self, root: Path = ROOT) -> Path:
        """The grader's tests."""
        return root / "tests" / self.sprint / f"test_{self.name}.py"

    @property
    def command(self) -> str:
        """What grades this task alone."""
        return f"nox -s sprint-{self.sprint} -- {self.name}"

    @property
    def reading(self) -> str:
        """Where the idea is explained."""
        return f'exercises/{self.sprint}/README.md, "{self.name}"'


@dataclass(frozen=True)
class Sprint:
    """A rung of the ladder: tasks that are graded together at a checkpoint."""

    name: str
    title: str
    pass_mark: int  # per cent of its points
    tasks: tuple[Task, ...]

    @property
    def points(self) -> int:
        """What the whole sprint is worth."""
        return sum(task.points for task in self.tasks)

    @property
    def points_to_pass(self) -> float:
        """The points at which its checkpoint is passed."""
        return self.points * self.pass_mark / 100

    @property
    def command(self) -> str:
        """What grades it."""
        return f"nox -s sprint-{self.name}"

    def task(self, name: str) -> Task:
        """The task of that name, written ``masking`` or ``attention/masking``."""
        short = name.removeprefix(f"{self.name}/")
        for task in self.tasks:
            if task.name == short:
                return task
        raise UnknownNameError(_no_such("task", name, [task.name for task in self.tasks], f"sprint-{self.name}"))


@dataclass(frozen=True)
class Catalogue:
    """All sprints, in the order of the ladder."""

    sprints: tuple[Sprint, ...]

    def tasks(self) -> Iterator[Task]:
        """All tasks, in the order of the ladder."""
        for sprint in self.sprints:
            yield from sprint.tasks

    def sprint(self, name: str) -> Sprint:
        """The sprint of that name, with or without ``sprint-`` before it."""
        short = name.removeprefix("sprint-")
        for sprint in self.sprints:
            if sprint.name == short:
                return sprint
        raise UnknownNameError(_no_such("sprint", name, [sprint.name for sprint in self.sprints], "the ladder"))

    def task(self, name: str) -> Task:
        """The task written ``attention/masking``, or ``masking`` where that is unambiguous."""
        found = [task for task in self.tasks() if name in (task.id, task.name)]
        if len(found) == 1:
            return found[0]
        if found:
            choices = " or ".join(task.id for task in found)
            raise UnknownNameError(f"which {name!r} do you mean: {choices}?")
        raise UnknownNameError(_no_such("task", name, [task.id for task in self.tasks()], "the course"))


def _no_such(kind: str, name: str, known: list[str], place: str) -> str:
    short = {candidate.rsplit("/", 1)[-1]: candidate for candidate in known}
    near = difflib.get_close_matches(name.rsplit("/", 1)[-1], short, n=1, cutoff=0.5)
    nearest = f" Did you mean {short[near[0]]}?" if near else ""
    return f"there is no {kind} {name!r} in {place}.{nearest} There are: {', '.join(known)}."


# What a file may hold: key -> (type, whether it must be there).
_SPRINT_KEYS = {"title": (str, True), "pass_mark": (int, True), "tasks": (dict, True)}
_TASK_KEYS = {
    "title": (str, True),
    "points": (int, True),
    "backlog": (str, True),
    "hints": (list, True),
    "note": (list, True),
    "given": (list, False),
    "forbidden": (list, False),
    "seconds": (float, False),
    "memory_gib": (float, False),
    "processes": (bool, False),
    "preload": (list, False),
}
_THREE = {
    "hints": "a question, a pointer, nearly there",
    "note": "what it is for, what the solution does, something to think about",
}
_TYPE_NAMES = {
    str: "a string",
    int: "a whole number",
    dict: "a table",
    list: "a list",
    float: "a number",
    bool: "true or false",
}


def _checked(table: dict[str, Any], keys: dict[str, tuple[Any, bool]], where: str) -> dict[str, Any]:
    """The table, if it has just the keys it should, each of its type."""
    for key in table:
        if key not in keys:
            near = difflib.get_close_matches(key, keys, n=1)
            raise CatalogueError(f"{where}{key}: no such key" + (f" (did you mean {near[0]}?)" if near else ""))
    for key, (kind, required) in keys.items():
        if key not in table:
            if required:
                raise CatalogueError(f"{where}{key}: missing")
            continue
        value: Any = table[key]
        if kind is float and type(value) is int:
            value = table[key] = float(value)
        if type(value) is not kind:
            raise CatalogueError(f"{where}{key}: must be {_TYPE_NAMES[kind]}, not {value!r}")
        if kind is str and not value.strip():
            raise CatalogueError(f"{where}{key}: must not be empty")
        if kind in (int, float) and value <= 0:
            raise CatalogueError(f"{where}{key}: must be above 0, not {value!r}")
        if kind is list:
            for index, entry in enumerate(value):
                if not isinstance(entry, str) or not entry.strip():
                    raise CatalogueError(f"{where}{key}[{index}]: must be a string with something in it, not {entry!r}")
    return table


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CatalogueError(f"{_shown(path)}: no such file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CatalogueError(f"{_shown(path)}: not valid TOML: {error}") from None


def _shown(path: Path) -> str:
    return f"checkpoints/catalogue/{path.name}"


def _read_sprint(path: Path) -> Sprint:
    where = f"{_shown(path)}: "
    table = _checked(_read(path), _SPRINT_KEYS, where)
    if not 0 < table["pass_mark"] <= 100:
        raise CatalogueError(f"{where}pass_mark: must be from 1 to 100 (per cent), not {table['pass_mark']}")
    tasks = []
    for name, entry in table["tasks"].items():
        here = f"{where}tasks.{name}."
        if not isinstance(entry, dict):
            raise CatalogueError(f"{here[:-1]}: must be a table, not {entry!r}")
        if not name.isidentifier():
            raise CatalogueError(f"{here[:-1]}: a task's name must be a Python identifier")
        fields = _checked(entry, _TASK_KEYS, here)
        for key, parts in _THREE.items():
            if len(fields[key]) != 3:
                raise CatalogueError(f"{here}{key}: must be three ({parts}), not {len(fields[key])}")
        lists = {key: tuple(value) for key, value in fields.items() if isinstance(value, list)}
        tasks.append(Task(path.stem, name, **{**fields, **lists}))
    if not tasks:
        raise CatalogueError(f"{where}tasks: must hold at least one task")
    return Sprint(path.stem, table["title"], table["pass_mark"], tuple(tasks))


def load(folder: Path = HERE) -> Catalogue:
    """Read and check the catalogue.

    Raises:
        CatalogueError: a file or key is missing, unknown or of the wrong type; the message names it.
    """
    ladder = folder / "ladder.toml"
    names = _checked(_read(ladder), {"sprints": (list, True)}, f"{_shown(ladder)}: ")["sprints"]
    for index, name in enumerate(names):
        if name in names[:index]:
            raise CatalogueError(f"{_shown(ladder)}: sprints[{index}]: {name!r} is there twice")
    stray = sorted(path.name for path in folder.glob("*.toml") if path.stem not in {"ladder", *names})
    if stray:
        raise CatalogueError(f"{_shown(ladder)}: sprints: {stray[0]} is not on the ladder")
    return Catalogue(tuple(_read_sprint(folder / f"{name}.toml") for name in names))


@functools.cache
def checks_of(tests: Path) -> dict[str, str]:
    """The checks in a file of tests: name to title (the docstring's first line), without importing it."""
    tree = ast.parse(tests.read_text(encoding="utf-8"))
    return {
        node.name: (ast.get_docstring(node) or node.name).splitlines()[0]
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


@functools.cache
def public_names(solution: Path) -> tuple[str, ...]:
    """The names that a task's module must have: what its solution defines without a leading underscore."""
    names: list[str] = []
    for node in ast.parse(solution.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.append(node.name)
        elif isinstance(node, ast.Assign):
            names += [target.id for target in node.targets if isinstance(target, ast.Name)]
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.append(node.target.id)
    return tuple(name for name in names if not name.startswith("_"))
