"""Stubs come from solutions, are committed as generated, and never cost a learner's work."""

import ast
import inspect
from dataclasses import replace
from pathlib import Path

import pytest

from checkpoints import stubs
from checkpoints.catalogue import Catalogue, Task

SOLUTION = '''"""A module."""

import math

from torch import Tensor

LIMIT = 3
_SECRET = math.pi


# How it is done.
def _helper(x: Tensor) -> Tensor:
    return x * _SECRET


def public(x: Tensor, *, size: int = LIMIT) -> Tensor:
    """Do it.

    Returns:
        Something.
    """
    # the trick
    if size:
        return _helper(x)
    return x


def kept(x: Tensor) -> Tensor:
    """Given."""
    return x  # as it is


class Thing:
    """A thing."""

    size: int = 3

    def __init__(self, size: int) -> None:
        """Make it."""
        self.size = size

    @property
    def double(self) -> int:
        return 2 * self.size

    def _inner(self) -> int:
        return 1
'''

STUB = '''"""A module."""

import math

from torch import Tensor

LIMIT = 3


def public(x: Tensor, *, size: int = LIMIT) -> Tensor:
    """Do it.

    Returns:
        Something.
    """
    raise NotImplementedError("attention/masking: public")


def kept(x: Tensor) -> Tensor:
    """Given."""
    return x  # as it is


class Thing:
    """A thing."""

    size: int = 3

    def __init__(self, size: int) -> None:
        """Make it."""
        raise NotImplementedError("attention/masking: Thing.__init__")

    @property
    def double(self) -> int:
        raise NotImplementedError("attention/masking: Thing.double")
'''


@pytest.fixture
def made_up(course: Catalogue, tmp_path: Path) -> tuple[Task, Path]:
    task = replace(course.task("attention/masking"), given=("kept",))
    task.solution(tmp_path).parent.mkdir(parents=True)
    task.solution(tmp_path).write_text(SOLUTION, encoding="utf-8")
    return task, tmp_path


def test_bodies_and_helpers_go_the_rest_stays(made_up: tuple[Task, Path]) -> None:
    task, root = made_up
    assert stubs.generate(task, root) == STUB


def test_work_is_never_overwritten(made_up: tuple[Task, Path]) -> None:
    task, root = made_up
    assert stubs.write(task, root)
    assert stubs.is_untouched(task, root)
    assert stubs.write(task, root), "the stub itself may be written again"
    task.exercise(root).write_text(STUB.replace("raise", "return 1  #", 1), encoding="utf-8")
    mine = task.exercise(root).read_bytes()
    assert not stubs.write(task, root)
    assert not stubs.is_untouched(task, root)
    assert task.exercise(root).read_bytes() == mine


def test_a_stale_stub_is_replaced_only_if_it_is_the_committed_one(made_up: tuple[Task, Path]) -> None:
    task, root = made_up
    stubs.write(task, root)
    task.solution(root).write_text(SOLUTION.replace("size: int = LIMIT", "size: int = 4"), encoding="utf-8")
    assert not stubs.write(task, root)
    assert stubs.write(task, root, previous=STUB)
    assert "size: int = 4" in task.exercise(root).read_text(encoding="utf-8")


def test_windows_line_endings_are_no_change(made_up: tuple[Task, Path]) -> None:
    task, root = made_up
    task.exercise(root).parent.mkdir(parents=True)
    task.exercise(root).write_bytes(STUB.replace("\n", "\r\n").encode())
    assert stubs.is_untouched(task, root)


def test_stubs_give_nothing_away(course: Catalogue) -> None:
    """Every body that is to be written is a docstring and a `raise`, and every public name has its contract."""
    for task in course.tasks():
        tree = ast.parse(stubs.generate(task))
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and not set(task.given) & {node.name}:
                last = node.body[-1]
                if not isinstance(last, ast.Raise):
                    continue
                assert len(node.body) <= 2, f"{task.id}: {node.name}"
        raising = [node for node in ast.walk(tree) if isinstance(node, ast.Raise)]
        assert raising, f"{task.id} leaves nothing to write"
        for entry in tree.body:
            if isinstance(entry, ast.FunctionDef | ast.ClassDef):
                text = ast.get_docstring(entry)
                assert text, f"{task.id}: {entry.name} has no contract"
        assert "NotImplementedError" not in inspect.cleandoc(task.solution().read_text(encoding="utf-8")), task.id
