"""What the course's tests of itself share."""

import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from checkpoints import ROOT, catalogue, stubs, trees
from checkpoints.catalogue import Catalogue, Task
from checkpoints.grader import Grader, Whose
from checkpoints.verdicts import TaskResult, Verdict

# A shell lets what it runs in the background ignore Ctrl-C, and whoever is started from there would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

COUNTS: dict[str, int] = {}  # figures that the last lines of the run show


@pytest.fixture(scope="session")
def course() -> Catalogue:
    return catalogue.load()


@pytest.fixture(scope="session")
def seed() -> int:
    """Fresh inputs in every run of the course's own tests too; the closing lines say which."""
    COUNTS["seed"] = secrets.randbelow(10**6)
    return COUNTS["seed"]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for name, figure in COUNTS.items():
        terminalreporter.write_line(f"{name}: {figure}")


def as_source(task: Task, text: str) -> trees.Source:
    """A text in the place of the learner's file."""
    return trees.Source(str(task.exercise()), text)


def stub_of(task: Task) -> trees.Source:
    return as_source(task, stubs.generate(task))


def solution_of(task: Task) -> trees.Source:
    return as_source(task, task.solution().read_text(encoding="utf-8"))


def solution_with(task: Task, addition: str) -> str:
    """The solution's text with something after it: a later definition of a name replaces the earlier."""
    return task.solution().read_text(encoding="utf-8") + "\n\n" + addition + "\n"


@pytest.fixture
def grade(course: Catalogue, seed: int) -> Callable[..., list[TaskResult]]:
    """Grade texts in the place of the learner's; what is not given is the solution's."""

    def run(
        tasks: Sequence[str],
        texts: dict[str, str],
        seconds: float | None = None,
        passed: Sequence[str] = (),
        diagnose: bool = False,
    ) -> list[TaskResult]:
        def whose(task: Task) -> trees.Source:
            return as_source(task, texts[task.id]) if task.id in texts else solution_of(task)

        grader = Grader(course, seed, whose, passed=passed, seconds=seconds, diagnose=diagnose)
        return list(grader.grade([course.task(name) for name in tasks]))

    return run


def grade_all(course: Catalogue, seed: int, whose: Whose, gallery: Path | None = None) -> list[TaskResult]:
    return list(Grader(course, seed, whose, gallery=gallery).grade(list(course.tasks())))


def assert_well_formed(verdict: Verdict) -> None:
    """A verdict says the call, what was got and what was expected, in lines that fit, without the grader's insides."""
    text = verdict.text()
    for part in (verdict.call, verdict.got, verdict.expected):
        assert part.strip(), text
    assert all(len(line) <= 120 for line in text.splitlines()), text
    for insides in (
        "Traceback",
        "checkpoints/checks.py",
        "checkpoints/worker.py",
        "_pytest",
        "site-packages",
        str(ROOT),
    ):
        assert insides not in text, text
    for dumped in re.findall(r"\[[^\]]*\]", text):
        assert dumped.count(",") <= 12, text


class Checkout:
    """A copy of the course that a test may do anything with."""

    def __init__(self, root: Path, course: Catalogue) -> None:
        self.root = root
        for name in ("checkpoints", "exercises", "solutions", "tests"):
            ignored = shutil.ignore_patterns(
                "__pycache__",
                "record.json*",
                "record.damaged*",
                "backups",
                "figures",
                "capstone",
                "latest",
                "redo",
                "hunts",
            )
            shutil.copytree(ROOT / name, root / name, ignore=ignored)
        for name in ("pyproject.toml", "noxfile.py"):
            shutil.copy(ROOT / name, root / name)
        for task in course.tasks():
            task.exercise(root).write_text(stubs.generate(task), encoding="utf-8")

    def solve(self, *tasks: Task) -> None:
        for task in tasks:
            shutil.copy(task.solution(self.root), task.exercise(self.root))

    def run(self, *arguments: str, stdin: str | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
        """`python -m checkpoints` in this copy."""
        return subprocess.run(
            [sys.executable, "-m", "checkpoints", *arguments],
            cwd=self.root,
            input=stdin,
            capture_output=True,
            encoding="utf-8",
            timeout=120,
            check=False,
            env={**os.environ, "COLUMNS": "100", "PYTHONUTF8": "1", **environment},
        )


@pytest.fixture
def checkout(tmp_path: Path, course: Catalogue) -> Checkout:
    """A copy with every exercise untouched."""
    return Checkout(tmp_path / "course", course)
