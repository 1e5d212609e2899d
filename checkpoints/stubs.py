"""Makes the stubs out of the solutions: no markers, nothing kept twice.

A stub keeps what a learner needs to see (imports, signatures, types, docstrings, constants, what the catalogue
calls given) and loses the bodies to be written, the private helpers and the comments inside them.
"""

import ast
from dataclasses import dataclass
from pathlib import Path

from . import ROOT
from .catalogue import Catalogue, Task


@dataclass(frozen=True)
class _Edit:
    """Lines from `first` to `last`, counted from 1, become `lines`."""

    first: int
    last: int
    lines: tuple[str, ...]


def generate(task: Task, root: Path = ROOT) -> str:
    """The stub's text."""
    text = task.solution(root).read_text(encoding="utf-8")
    tree = ast.parse(text)
    edits: list[_Edit] = []
    for node in tree.body:
        if (
            isinstance(node, ast.FunctionDef | ast.ClassDef)
            and node.name.startswith("_")
            and node.name not in task.given
        ):
            edits.append(_Edit(_start(node), node.end_lineno or node.lineno, ()))
        elif isinstance(node, ast.FunctionDef):
            edits += _emptied(node, task, node.name)
        elif isinstance(node, ast.ClassDef) and node.name not in task.given:
            for member in node.body:
                if (
                    isinstance(member, ast.FunctionDef)
                    and _is_private(member)
                    and f"{node.name}.{member.name}" not in task.given
                ):
                    edits.append(_Edit(_start(member), member.end_lineno or member.lineno, ()))
                elif isinstance(member, ast.FunctionDef):
                    edits += _emptied(member, task, f"{node.name}.{member.name}")
        elif (
            isinstance(node, ast.Assign | ast.AnnAssign)
            and _assigned(node).startswith("_")
            and _assigned(node) not in task.given
        ):
            edits.append(_Edit(_start(node), node.end_lineno or node.lineno, ()))
    lines = text.splitlines()
    for edit in sorted(edits, key=lambda edit: -edit.first):
        first = edit.first
        if not edit.lines:  # a removed helper takes its comment and the blank lines before it along
            while first > 1 and lines[first - 2].lstrip().startswith("#"):
                first -= 1
            while first > 1 and not lines[first - 2].strip():
                first -= 1
        lines[first - 1 : edit.last] = edit.lines
    return "\n".join(lines).rstrip("\n") + "\n"


def _is_private(node: ast.FunctionDef) -> bool:
    return node.name.startswith("_") and not node.name.startswith("__")


def _assigned(node: ast.Assign | ast.AnnAssign) -> str:
    target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
    return ast.unparse(target)


def _start(node: ast.stmt) -> int:
    decorators = getattr(node, "decorator_list", [])
    return min([node.lineno, *(decorator.lineno for decorator in decorators)])


def _emptied(node: ast.FunctionDef, task: Task, name: str) -> list[_Edit]:
    """The body of a function, but for its docstring, becomes `raise NotImplementedError`."""
    if name in task.given:
        return []
    body = node.body[1:] if ast.get_docstring(node) is not None else node.body
    documented = ast.get_docstring(node) is not None
    first = (node.body[0].end_lineno or 0) + 1 if documented else body[0].lineno
    raising = " " * node.body[0].col_offset + f'raise NotImplementedError("{task.id}: {name}")'
    return [_Edit(first, node.end_lineno or node.lineno, (raising,))]


def out_of_sync(course: Catalogue, root: Path = ROOT) -> list[Task]:
    """The tasks whose committed stub is not what the generator makes; a task without a solution has none."""
    return [
        task
        for task in course.tasks()
        if not task.solution(root).is_file()
        or not task.exercise(root).is_file()
        or _normal(task.exercise(root)) != generate(task, root)
    ]


def _normal(path: Path) -> str:
    return path.read_text(encoding="utf-8").replace("\r\n", "\n")


def is_untouched(task: Task, root: Path = ROOT) -> bool:
    """Whether the learner's file is still the stub (or is not there)."""
    path = task.exercise(root)
    return not path.exists() or _normal(path) == generate(task, root)


def write(task: Task, root: Path = ROOT, previous: str | None = None) -> bool:
    """Write the stub where no work of the learner's stands; returns whether it is now there.

    Args:
        task: the task.
        root: the checkout.
        previous: the text of the stub as it was before its solution changed, for maintainers: a file that is
            still that text is no work of anybody's.
    """
    path = task.exercise(root)
    text = generate(task, root)
    if path.exists() and _normal(path) not in (text, previous):
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="\n")
    return True
