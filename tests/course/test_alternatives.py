"""Right code in another style gets every point: what the tests demand is the contract, not the solution's ways.

``alternatives/SPRINT/TASK/NAME.py`` is a whole other implementation of a task. There are at least two of each task.
"""

import itertools
from pathlib import Path

import pytest

from checkpoints import ROOT, catalogue, trees
from checkpoints.catalogue import Catalogue, Task
from checkpoints.grader import Grader
from checkpoints.verdicts import TaskResult

from .conftest import COUNTS, as_source

ALTERNATIVES = Path(__file__).parent / "alternatives"
COURSE = catalogue.load()


def alternatives_of(task: Task) -> list[Path]:
    return sorted((ALTERNATIVES / task.sprint / task.name).glob("*.py"))


ROUNDS = max(len(alternatives_of(task)) for task in COURSE.tasks())


@pytest.mark.parametrize("index", range(ROUNDS))
def test_alternatives_score_everything(index: int, course: Catalogue, seed: int) -> None:
    """Each earns every point; those of a round stand on the solutions of the earlier tasks.

    Every other round computes with two threads, where sums come out in another order.
    """
    chosen = {task.id: found[index] for task in course.tasks() if len(found := alternatives_of(task)) > index}

    def whose(task: Task) -> trees.Source:
        return as_source(task, chosen[task.id].read_text(encoding="utf-8"))

    # Threads that have to wait for each other are slow where the machine is busy, and some alternatives are slow anyway.
    grader = Grader(course, seed + index, whose, diagnose=False, lend_all=True, threads=1 + index % 2, seconds=100)
    for result in grader.grade([course.task(name) for name in chosen]):
        assert result.passed, f"{chosen[result.task].relative_to(ROOT)}\n{_failures(result)}"
        assert result.earned == result.points
    COUNTS["alternatives"] = COUNTS.get("alternatives", 0) + len(chosen)


@pytest.mark.parametrize("task", list(COURSE.tasks()), ids=lambda task: task.id)
def test_enough_alternatives(task: Task) -> None:
    """At least two, which are other programs than the solution and than each other, and say what is other in them."""
    paths = alternatives_of(task)
    assert len(paths) >= 2
    texts = [path.read_text(encoding="utf-8") for path in (task.solution(), *paths)]
    for text in texts[1:]:
        assert text.startswith('"""'), "an alternative begins with a docstring that says in which style it is"
    for one, other in itertools.combinations(texts, 2):
        lines = [{line.strip() for line in text.splitlines() if len(line.strip()) > 20} for text in (one, other)]
        shared = len(lines[0] & lines[1]) / max(min(map(len, lines)), 1)
        assert shared < 0.6, f"{task.id}: {100 * shared:.0f} % of the lines are the same"


def _failures(result: TaskResult) -> str:
    return "\n".join(f"{check.check}: {verdict.text()}" for check in result.checks for verdict in check.verdicts)
