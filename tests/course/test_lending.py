"""Whose code `exercises` is: lending, mixtures, renamed and missing names."""

from collections.abc import Callable

import pytest

from checkpoints import pool, trees
from checkpoints.catalogue import Catalogue
from checkpoints.verdicts import Kind, TaskResult

from .conftest import solution_with

Grade = Callable[..., list[TaskResult]]
BROKEN = "def masked_softmax(scores, mask=None):\n    return scores * 0\n"


def test_dependencies_follow_the_imports(course: Catalogue) -> None:
    found = [task.id for task in trees.dependencies(course.task("attention/multi_head"), course)]
    assert found[:2] == ["attention/masking", "attention/scaled_dot_product"]
    assert trees.dependencies(course.task("attention/masking"), course) == []


def test_an_earlier_piece_that_fails_is_lent(course: Catalogue, grade: Grade) -> None:
    """A task is graded on its own merits: full points on a broken earlier piece, and the verdict says what was lent."""
    earlier = course.task("attention/masking")
    first, second = grade([earlier.id, "attention/scaled_dot_product"], {earlier.id: solution_with(earlier, BROKEN)})
    assert not first.passed
    assert second.passed
    assert second.lent == [earlier.id]


def test_an_earlier_piece_that_passes_is_the_learners_own(course: Catalogue, grade: Grade) -> None:
    _, second = grade(["attention/masking", "attention/scaled_dot_product"], {})
    assert second.passed
    assert second.lent == []


def test_graded_alone_the_record_decides(course: Catalogue, grade: Grade) -> None:
    """Not passed before: lent. Passed before: the learner's own is used, so a piece broken since would show."""
    earlier, later = course.task("attention/masking"), "attention/scaled_dot_product"
    texts = {earlier.id: solution_with(earlier, BROKEN)}
    (lent,) = grade([later], texts)
    assert lent.passed
    assert lent.lent == [earlier.id]
    (own,) = grade([later], texts, passed=[earlier.id])
    assert not own.passed
    assert own.lent == []


def test_a_renamed_function_costs_only_its_own_checks(course: Catalogue, grade: Grade) -> None:
    task = course.task("attention/masking")
    text = task.solution().read_text(encoding="utf-8").replace("def combine_masks(", "def combined_masks(")
    (result,) = grade([task.id], {task.id: text})
    failed = [check for check in result.checks if not check.passed]
    assert {check.check for check in failed} == {
        "test_combined_by_hand",
        "test_combined_property",
        "test_combined_refuses",
    }
    for check in failed:
        assert check.verdicts[0].kind == Kind.CANNOT_IMPORT
        assert "has no combine_masks; it has combined_masks: was it renamed?" in check.verdicts[0].got


def test_where_processes_cannot_be_forked(course: Catalogue, grade: Grade, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers that start afresh give the same verdicts."""
    task = course.task("attention/masking")
    text = solution_with(task, "def combine_masks(*masks):\n    return masks[0]\n")
    (forked,) = grade([task.id], {task.id: text})
    monkeypatch.setattr(pool, "START_METHOD", "spawn")
    (started,) = grade([task.id], {task.id: text})
    assert [check.verdicts for check in started.checks] == [check.verdicts for check in forked.checks]
    assert 0 < started.earned < started.points


def test_a_missing_file(course: Catalogue, grade: Grade) -> None:
    grader_texts = {"attention/masking": None}
    (result,) = grade(["attention/masking"], grader_texts)
    assert {verdict.kind for check in result.checks for verdict in check.verdicts} == {Kind.CANNOT_IMPORT}
    assert "there is no file exercises/attention/masking.py" in result.checks[0].verdicts[0].got


def test_a_partly_written_file_earns_its_part(course: Catalogue, grade: Grade) -> None:
    """Partial credit: what is right counts, what is still to do says so."""
    task = course.task("attention/masking")
    text = solution_with(task, "def padding_mask(lengths, size=None):\n    raise NotImplementedError\n")
    (result,) = grade([task.id], {task.id: text})
    assert 0 < result.earned < result.points
    kinds = {verdict.kind for check in result.checks for verdict in check.verdicts}
    assert kinds == {Kind.TODO}
    assert result.earned == round(task.points * result.passed_checks / len(result.checks), 1)
