"""The promises: stubs score 0 on every check, solutions score full, every misconception is caught and named."""

import ast
import os
import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from checkpoints import catalogue, diagnosis, trees
from checkpoints.catalogue import Catalogue, Task, checks_of
from checkpoints.diagnosis import misconceptions_of
from checkpoints.grader import Grader
from checkpoints.misconceptions import Misconception
from checkpoints.verdicts import Kind, TaskResult

from .conftest import COUNTS, as_source, assert_well_formed, grade_all, solution_of, stub_of

COURSE = catalogue.load()
TABLE = [(task, entry) for task in COURSE.tasks() for entry in misconceptions_of(task.tests())]

JOBS = (os.cpu_count() or 2) + 1  # one more than there are processors, for each waits now and then
ALONE = 5  # tasks whose misconceptions each get a process of their own

Batch = dict[str, Misconception]  # task -> one of its misconceptions


def _failures(result: TaskResult) -> str:
    return "\n".join(f"{check.check}: {verdict.text()}" for check in result.checks for verdict in check.verdicts)


def test_stubs_score_nothing(course: Catalogue, seed: int) -> None:
    """Freshly generated stubs: 0 points, and TODO on every single check."""
    for result in grade_all(course, seed, stub_of):
        assert result.earned == 0
        assert result.untouched, _failures(result)
        for check in result.checks:
            assert {verdict.kind for verdict in check.verdicts} == {Kind.TODO}, f"{result.task}: {check.check}"


@pytest.mark.parametrize("offset", range(3))
def test_solutions_score_everything(offset: int, course: Catalogue, seed: int, tmp_path: Path) -> None:
    """The solutions earn every point, whatever the inputs; nothing needs to be lent, and every figure can be drawn."""
    for result in grade_all(course, seed + offset, solution_of, gallery=tmp_path):
        assert result.passed, _failures(result)
        assert result.earned == result.points
        assert not result.lent
    COUNTS["checks"] = sum(len(checks_of(task.tests())) for task in course.tasks())


Graded = dict[str, dict[str, TaskResult]]  # task -> misconception -> what came of it in the learner's place


def _grade_misconceptions(course: Catalogue, seed: int, diagnose: bool, batches: Sequence[Batch]) -> Graded:
    """Put misconceptions in the learner's place: those of a batch, one a task, side by side."""
    results: Graded = {}
    for batch in batches:

        def whose(task: Task, batch: Batch = batch) -> trees.Source:
            return as_source(task, batch[task.id].apply(task.solution().read_text(encoding="utf-8")))

        tasks = [course.task(name) for name in batch]
        for result in Grader(course, seed, whose, diagnose=diagnose, lend_all=True, jobs=JOBS).grade(tasks):
            results.setdefault(result.task, {})[batch[result.task].name] = result
    return results


def _batches(wanted: Sequence[tuple[Task, Misconception]]) -> list[Batch]:
    lists: dict[str, list[Misconception]] = {}
    for task, entry in wanted:
        lists.setdefault(task.id, []).append(entry)
    return [
        {name: entries[index] for name, entries in lists.items() if index < len(entries)}
        for index in range(max(map(len, lists.values())))
    ]


@pytest.fixture(scope="module")
def mutants(course: Catalogue, seed: int, request: pytest.FixtureRequest) -> Graded:
    """All that this run asks for (``-k`` may ask for few), with their diagnosis.

    In the learner's place each gets the same verdicts, whether it has a process of its own, as a learner's text has,
    or shares one with others of its task, as where the grader looks for a diagnosis. The latter costs less; so it is
    done for all, and the former for those of some tasks, drawn anew in every run.
    """
    parameters = [item.callspec.params for item in request.session.items if hasattr(item, "callspec")]
    wanted = [(each["task"], each["entry"]) for each in parameters if "entry" in each] or TABLE
    tasks = list(dict.fromkeys(task for task, _ in wanted))
    variants = {task.id: Grader(course, seed, solution_of).variants(task) for task in tasks}
    alone = {task.id for task in random.Random(seed).sample(tasks, min(ALONE, len(tasks)))}
    learners = _grade_misconceptions(course, seed, False, _batches([each for each in wanted if each[0].id in alone]))
    for task, entry in wanted:
        if task.id not in alone:
            checks = variants[task.id][entry.name]
            learners.setdefault(task.id, {})[entry.name] = TaskResult(task.id, task.points, checks)
        diagnosis.name(learners[task.id][entry.name].checks, variants[task.id])
    return learners


def _assert_caught_and_named(result: TaskResult, name: str) -> None:
    assert result.earned < result.points
    named = [verdict.misconception for check in result.checks for verdict in check.verdicts if verdict.misconception]
    assert named, _failures(result)
    assert named[0] == name, _failures(result)


@pytest.mark.parametrize(("task", "entry"), TABLE, ids=[f"{task.id}: {entry.name}" for task, entry in TABLE])
def test_misconception_is_caught_and_named(task: Task, entry: Misconception, mutants: Graded) -> None:
    """It loses points, and the first diagnosis that a learner reads is its own name."""
    _assert_caught_and_named(mutants[task.id][entry.name], entry.name)
    COUNTS["misconceptions caught and named"] = COUNTS.get("misconceptions caught and named", 0) + 1


def test_the_grader_names_them_itself(course: Catalogue, seed: int) -> None:
    """One of each of ten tasks, drawn anew in every run, all the way through the grader and its own diagnosis.

    What the grader does there is what `mutants` does for all of them, but for one thing: it runs the variants itself,
    and no more of them than it needs.
    """
    draw = random.Random(seed)
    tasks = draw.sample(list(course.tasks()), 10)
    batch = {task.id: draw.choice(misconceptions_of(task.tests())) for task in tasks}
    for name, results in _grade_misconceptions(course, seed, True, [batch]).items():
        _assert_caught_and_named(results[batch[name].name], batch[name].name)


def test_every_verdict_on_a_misconception_is_well_formed(mutants: Graded) -> None:
    for results in mutants.values():
        for result in results.values():
            for check in result.checks:
                for verdict in check.verdicts:
                    assert_well_formed(verdict)


@pytest.mark.parametrize("task", list(COURSE.tasks()), ids=lambda task: task.id)
def test_enough_misconceptions(task: Task) -> None:
    """At least three a task, each of another name; five where the task is a module; attention has eight and more."""
    names = [entry.name for entry in misconceptions_of(task.tests())]
    classes = [
        node for node in ast.parse(task.solution().read_text(encoding="utf-8")).body if isinstance(node, ast.ClassDef)
    ]
    assert len(names) >= (5 if classes else 3)
    assert len(set(names)) == len(names)


def test_attention_has_the_usual_mistakes() -> None:
    both = [
        misconceptions_of(COURSE.task(f"attention/{name}").tests()) for name in ("scaled_dot_product", "multi_head")
    ]
    assert sum(map(len, both)) >= 8
