"""What isolation and diagnosis cost where all is right: ``python -m tests.course.cost [SPRINT ...]``.

The solutions of a sprint are graded in three ways, in turn, each time by a fresh Python: by the same checks in one
process, with no guard around the code (plain); each task in a process that can be lost, with all guards but without
diagnosis (isolated); and as a learner is graded (full). The figures are medians, and ratios of them.
"""

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence

import pytest
from rich.console import Console
from rich.table import Table

from checkpoints import ROOT, catalogue, trees
from checkpoints.catalogue import Sprint
from checkpoints.grader import Grader
from checkpoints.guards import Guard, preload
from checkpoints.pytest_plugin import Session
from checkpoints.worker import PYTEST_OPTIONS

from .conftest import solution_of

WAYS = ("plain", "isolated", "full")
SEED = 1


class _NoGuard(Guard):
    @contextlib.contextmanager
    def learner(self) -> Iterator[None]:
        yield


def grade(sprint: Sprint, way: str, jobs: int) -> bool:
    """Grade a sprint's solutions once; whether all passed."""
    import torch

    course = catalogue.load()
    if way != "plain":
        grader = Grader(course, SEED, solution_of, diagnose=way == "full", jobs=jobs)
        return all(result.passed for result in grader.grade(sprint.tasks))
    torch.set_num_threads(1)
    for task in sprint.tasks:
        preload(task.preload)
    trees.Tree(course.tasks(), {}).install()
    guard = _NoGuard()
    Session.current = Session(course, SEED, lambda task: guard)
    os.chdir(ROOT)
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    return pytest.main([str(task.tests()) for task in sprint.tasks] + PYTEST_OPTIONS) == 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.course.cost", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("sprints", nargs="*", default=["attention", "block"])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--jobs", type=int, default=1, help="processes side by side (1: as many as plain has)")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    course = catalogue.load()
    if options.way:
        return 0 if grade(course.sprint(options.sprints[0]), options.way, options.jobs) else 1
    shown = Table("sprint", *(f"{way}, s" for way in WAYS), "isolated / plain", "full / plain")
    for name in options.sprints:
        seconds: dict[str, list[float]] = {way: [] for way in WAYS}
        for _ in range(options.rounds):
            for way in WAYS:
                command = [sys.executable, "-m", "tests.course.cost", name, "--way", way, "--jobs", str(options.jobs)]
                start = time.perf_counter()
                subprocess.run(command, cwd=ROOT, check=True)
                seconds[way].append(time.perf_counter() - start)
        plain, isolated, full = (statistics.median(seconds[way]) for way in WAYS)
        ratios = (isolated / plain, full / plain)
        shown.add_row(name, *(f"{each:.2f}" for each in (plain, isolated, full, *ratios)))
    Console().print(shown)
    return 0


if __name__ == "__main__":
    sys.exit(main())
