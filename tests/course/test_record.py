"""The record: atomic, locked, versioned, merged by union, and mended from its last good copy."""

import json
import multiprocessing
import os
import random
import subprocess
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from checkpoints import ROOT, pool, record
from checkpoints.catalogue import Catalogue, Task
from checkpoints.record import Entry, Record, RecordError
from checkpoints.verdicts import CheckResult, TaskResult

from .conftest import Checkout

_CONTEXT: Any = multiprocessing.get_context(pool.START_METHOD)
KILLED = 77  # the exit status of a process that ends between two lines, with nothing flushed or put back


def _result(task: Task, passed: bool = True) -> TaskResult:
    check = CheckResult("test_it", "It works.")
    if not passed:
        check.verdicts.append(None)  # type: ignore[arg-type]  # any verdict will do
    return TaskResult(task.id, task.points, [check])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "record.json"


@pytest.fixture
def task(course: Catalogue) -> Task:
    return course.task("attention/masking")


def _saved(path: Path, task: Task, digest: str = "one") -> Record:
    known = Record(path=path)
    known.note_result(task, _result(task), digest)
    known.note_hint(task, 1)
    known.note_checkpoint("attention")
    known.save()
    return known


def test_what_is_saved_is_loaded(path: Path, task: Task) -> None:
    known = _saved(path, task)
    again = Record.load(path)
    assert (again.tasks, again.checkpoints, again.notices) == (known.tasks, known.checkpoints, [])
    assert again.entry(task).best == task.points


def test_a_failed_attempt_is_no_pass(path: Path, task: Task) -> None:
    known = Record(path=path)
    known.note_result(task, _result(task, passed=False), "one")
    assert known.entry(task).passes == {}
    assert list(known.entry(task).attempts.values()) == [0.0]


def test_killed_at_every_line(path: Path, task: Task) -> None:
    """A save that is killed at any line of it leaves the old record or the new one, whole."""
    old = _saved(path, task)
    lines = 0
    while True:
        for stale in path.parent.glob("record*"):
            stale.unlink()
        _saved(path, task).save()  # twice, so that there is a backup
        child = _CONTEXT.Process(target=_save_and_die_at, args=(lines, path, task))
        child.start()
        child.join()
        after = Record.load(path)
        assert "one" in after.entry(task).passes, f"killed at line {lines}"
        assert set(after.entry(task).passes) <= {"one", "two"}
        assert after.checkpoints.keys() == old.checkpoints.keys()
        assert not after.notices, "a kill is no damage"
        if child.exitcode != KILLED:
            assert child.exitcode == 0
            assert "two" in after.entry(task).passes
            break
        lines += 1
    assert lines > 30, "the save was really interrupted at each of its lines"


def _save_and_die_at(line: int, path: Path, task: Task) -> None:
    known = Record.load(path)
    known.note_result(task, _result(task), "two")
    left = line

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal left
        if frame.f_code.co_filename != record.__file__:
            return None
        if event == "line":
            if left == 0:
                os._exit(KILLED)
            left -= 1
        return trace

    sys.settrace(trace)
    known.save()
    sys.settrace(None)


@pytest.mark.parametrize("damage", ["cut", "bytes", "edited", "empty", "a list", "not UTF-8"])
def test_a_damaged_record_is_set_aside(path: Path, task: Task, damage: str) -> None:
    """The last good one is used, the damaged one kept under a name that is said, and the next save is whole again."""
    _saved(path, task)
    known = Record.load(path)
    known.note_result(task, _result(task), "two")
    known.save()
    good = path.read_bytes()
    damaged = {
        "cut": good[: random.randrange(1, len(good) - 1)],
        "bytes": random.randbytes(len(good)),
        "edited": good.replace(b'"one"', b'"eno"'),
        "empty": b"",
        "a list": b"[1, 2]",
        "not UTF-8": b"\xff\xfe" + good,
    }[damage]
    path.write_bytes(damaged)
    again = Record.load(path)
    assert "one" in again.entry(task).passes
    (notice,) = again.notices
    (aside,) = path.parent.glob("record.damaged-*.json")
    assert aside.name in notice
    assert "record.json.backup" in notice
    assert aside.read_bytes() == damaged
    again.save()
    assert Record.load(path).entry(task).passes == again.entry(task).passes


def test_every_truncation(path: Path, task: Task) -> None:
    """Cut anywhere, a record is damage, never half a truth and never a traceback."""
    _saved(path, task)
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        loaded = Record.load(path)
        assert loaded.tasks == {}
        assert len(loaded.notices) == 1
        for aside in path.parent.glob("record.damaged-*"):
            aside.unlink()


def test_two_records_merge_by_union(path: Path, task: Task, course: Catalogue) -> None:
    """Whatever the order: both know all afterwards, the earlier of two dates stays, nothing counts twice."""
    other_task = course.task("basics/tensors")
    one, other = Record(path=path), Record(path=path)
    one.tasks = {task.id: Entry({"d": "2026-01-02"}, {"2026-01-02": 4.0}, {"1": "2026-01-02"})}
    other.tasks = {
        task.id: Entry(
            {"d": "2026-01-01", "e": "2026-01-03"},
            {"2026-01-02": 4.0, "2026-01-03": 10.0},
            {"2": "2026-01-03"},
            "2026-01-05",
        ),
        other_task.id: Entry({}, {"2026-01-04": 1.0}),
    }
    other.checkpoints = {"attention": "2026-01-03"}
    left, right = Record(path=path), Record(path=path)
    for source in (one, other, one):
        left.merge(source)
    for source in (other, one):
        right.merge(source)
    assert left.tasks == right.tasks
    assert left.checkpoints == right.checkpoints == {"attention": "2026-01-03"}
    assert left.entry(task) == Entry(
        {"d": "2026-01-01", "e": "2026-01-03"},
        {"2026-01-02": 4.0, "2026-01-03": 10.0},
        {"1": "2026-01-02", "2": "2026-01-03"},
        "2026-01-05",
    )


def test_sessions_at_once_lose_nothing_of_each_other(path: Path, task: Task) -> None:
    code = (
        "import sys; from pathlib import Path; from checkpoints import catalogue; from checkpoints.record import Record\n"
        "from checkpoints.verdicts import CheckResult, TaskResult\n"
        f"task = catalogue.load().task({task.id!r})\n"
        "for number in range(8):\n"
        "    known = Record(path=Path(sys.argv[1]))\n"
        "    known.note_result(task, TaskResult(task.id, 10, [CheckResult('a', 'b')]), f'{sys.argv[2]}-{number}')\n"
        "    known.save()\n"
    )
    sessions = [subprocess.Popen([sys.executable, "-c", code, str(path), str(index)], cwd=ROOT) for index in range(4)]
    assert [session.wait(60) for session in sessions] == [0, 0, 0, 0]
    assert len(Record.load(path).entry(task).passes) == 32


def test_a_newer_version_is_left_alone(path: Path) -> None:
    text = json.dumps({"version": record.VERSION + 1, "tasks": {}, "checkpoints": {}})
    path.write_text(text, encoding="utf-8")
    with pytest.raises(RecordError, match="newer version"):
        Record.load(path)
    assert path.read_text(encoding="utf-8") == text


def test_a_record_of_the_first_version_is_read(path: Path, task: Task) -> None:
    """It knew nothing of notes: each is shown once more, and everything else is kept."""
    entry = {"passes": {"one": "2026-01-01"}, "attempts": {}, "hints": {}, "solution_seen": ""}
    old = {"version": 1, "checkpoints": {"attention": "2026-01-02"}, "tasks": {task.id: entry}}
    path.write_text(json.dumps(record._sealed(old)), encoding="utf-8")
    known = Record.load(path)
    assert known.notices == []
    assert known.entry(task).passes == {"one": "2026-01-01"}
    assert known.note_explained(task)
    assert not known.note_explained(task)
    known.save()
    assert Record.load(path).entry(task) == known.entry(task)
    assert json.loads(path.read_text(encoding="utf-8"))["version"] == record.VERSION


def test_a_record_that_cannot_be_written(path: Path, task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk changes nothing of what was there, and says so."""
    _saved(path, task)
    before = path.read_bytes()

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    known = Record.load(path)
    known.note_result(task, _result(task), "two")
    with pytest.raises(RecordError, match="No space left"):
        known.save()
    assert path.read_bytes() == before


def test_passed_and_changed_since(course: Catalogue, checkout: Checkout) -> None:
    """After going back to the stub the record still knows what had been passed, and says it has changed."""
    task = course.task("attention/masking")
    stub = task.exercise(checkout.root).read_bytes()
    checkout.solve(task)
    assert checkout.run("grade", "attention", "masking").returncode == 0
    assert "changed since" not in checkout.run("progress").stdout
    task.exercise(checkout.root).write_bytes(stub)
    shown = checkout.run("progress").stdout
    assert "10 of 10" in shown
    assert "changed since" in shown
    task.exercise(checkout.root).write_bytes(task.solution(checkout.root).read_bytes().replace(b"\n", b"\r\n"))
    assert "changed since" not in checkout.run("progress").stdout, "line endings are no change"
