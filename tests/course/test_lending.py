"""Whose code `exercises` is: lending, mixtures, renamed and missing names."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from checkpoints import ROOT, pool, trees
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


def test_processes_that_learner_code_starts_afresh_have_the_same_code(course: Catalogue, tmp_path: Path) -> None:
    """Where a data loader's workers are not forked, `exercises` is in them, too, what the grader has decided."""
    task = course.task("attention/masking")
    text = solution_with(task, "class Told:\n    def __call__(self):\n        return 'the graded text'")
    parent = (
        "import multiprocessing, pathlib, sys\n"
        "from checkpoints import catalogue, child, trees\n"
        "if __name__ == '__main__':\n"
        "    course = catalogue.load()\n"
        "    source = trees.Source(str(course.task('masking').exercise()), pathlib.Path(sys.argv[1]).read_text('utf-8'))\n"
        "    tree = trees.Tree(list(course.tasks()), {'attention/masking': source})\n"
        "    tree.install()\n"
        "    child.share(tree, sys.argv[2])\n"
        "    from exercises.attention.masking import Told\n"
        "    with multiprocessing.get_context('spawn').Pool(1) as workers:\n"
        "        print(workers.apply(Told()))\n"
    )
    (tmp_path / "text.py").write_text(text, encoding="utf-8")
    (tmp_path / "parent.py").write_text(parent, encoding="utf-8")
    command = [sys.executable, str(tmp_path / "parent.py"), str(tmp_path / "text.py"), str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    found = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", check=False, env=environment)
    assert found.stdout.strip() == "the graded text", found.stderr


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
