"""The promises: stubs score 0 on every check, solutions score full, every misconception is caught and named."""

import ast
from collections.abc import Iterator

import pytest

from checkpoints import catalogue, trees
from checkpoints.catalogue import Catalogue, Task, checks_of
from checkpoints.diagnosis import misconceptions_of
from checkpoints.grader import Grader
from checkpoints.misconceptions import Misconception
from checkpoints.verdicts import Kind, TaskResult

from .conftest import COUNTS, as_source, assert_well_formed, grade_all, solution_of, stub_of

COURSE = catalogue.load()
TABLE = [(task, entry) for task in COURSE.tasks() for entry in misconceptions_of(task.tests())]


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
def test_solutions_score_everything(offset: int, course: Catalogue, seed: int) -> None:
    """The solutions earn every point, whatever the inputs; nothing needs to be lent."""
    for result in grade_all(course, seed + offset, solution_of):
        assert result.passed, _failures(result)
        assert result.earned == result.points
        assert not result.lent
    COUNTS["checks"] = sum(len(checks_of(task.tests())) for task in course.tasks())


@pytest.fixture(scope="module")
def mutants(course: Catalogue, seed: int) -> dict[tuple[str, str], TaskResult]:
    """What comes of each misconception in the learner's place; all tasks' first ones side by side, then the second ..."""
    results: dict[tuple[str, str], TaskResult] = {}
    for batch in _batches(course):

        def whose(task: Task, batch: dict[str, Misconception] = batch) -> trees.Source:
            return as_source(task, batch[task.id].apply(task.solution().read_text(encoding="utf-8")))

        tasks = [course.task(name) for name in batch]
        for result in Grader(course, seed, whose).grade(tasks):
            results[result.task, batch[result.task].name] = result
    return results


def _batches(course: Catalogue) -> Iterator[dict[str, Misconception]]:
    lists = {task.id: misconceptions_of(task.tests()) for task in course.tasks()}
    for index in range(max(map(len, lists.values()))):
        yield {name: entries[index] for name, entries in lists.items() if index < len(entries)}


@pytest.mark.parametrize(("task", "entry"), TABLE, ids=[f"{task.id}: {entry.name}" for task, entry in TABLE])
def test_misconception_is_caught_and_named(
    task: Task, entry: Misconception, mutants: dict[tuple[str, str], TaskResult]
) -> None:
    """It loses points, and the first diagnosis that a learner reads is its own name."""
    result = mutants[task.id, entry.name]
    assert result.earned < result.points
    named = [verdict.misconception for check in result.checks for verdict in check.verdicts if verdict.misconception]
    assert named, _failures(result)
    assert named[0] == entry.name, _failures(result)
    COUNTS["misconceptions caught and named"] = COUNTS.get("misconceptions caught and named", 0) + 1


def test_every_verdict_on_a_misconception_is_well_formed(mutants: dict[tuple[str, str], TaskResult]) -> None:
    for result in mutants.values():
        for check in result.checks:
            for verdict in check.verdicts:
                assert_well_formed(verdict)


@pytest.mark.parametrize("task", COURSE.tasks(), ids=lambda task: task.id)
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
