"""The learner's record: what was passed, tried and asked for, kept so that nothing loses it.

``checkpoints/record.json`` is only ever replaced whole: a temporary file is written and synced, the last good one
is kept as ``record.json.backup``, and ``os.replace`` puts the new one in its place. Everything in it is a set or a
maximum, so two records, from two sessions or two machines, merge by union.
"""

import contextlib
import hashlib
import json
import os
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock

from . import ROOT
from .catalogue import Catalogue, Task
from .verdicts import TaskResult

VERSION = 3  # 2: `explained` came; 3: `redone` and `hunts`


class RecordError(Exception):
    """The record cannot be read or written; the message says what to do."""


@dataclass
class Entry:
    """What is known of one task."""

    passes: dict[str, str] = field(default_factory=dict)  # digest of the exercise and its tests -> when first passed
    attempts: dict[str, float] = field(default_factory=dict)  # when -> points
    hints: dict[str, str] = field(default_factory=dict)  # rung ("1", "2", "3") -> when first read
    solution_seen: str = ""  # when `compare` first showed the solution before the task was passed
    explained: str = ""  # when the note of the passed task was first shown
    redone: dict[str, int] = field(default_factory=dict)  # when it was written again -> how well: 1 again ... 4 easy
    hunts: dict[str, str] = field(default_factory=dict)  # digest of a wrong implementation -> when first caught

    @property
    def best(self) -> float:
        """The most points that were ever earned."""
        return max(self.attempts.values(), default=0.0)

    def merge(self, other: "Entry") -> None:
        """Take in what another record knows: of two dates for one thing, the earlier."""
        for mine, theirs in ((self.passes, other.passes), (self.hints, other.hints), (self.hunts, other.hunts)):
            for key, when in theirs.items():
                mine[key] = min(mine.get(key, when), when)
        for when, points in other.attempts.items():
            self.attempts[when] = max(points, self.attempts.get(when, 0.0))
        for when, rating in other.redone.items():
            self.redone[when] = min(rating, self.redone.get(when, rating))
        self.solution_seen = min(filter(None, (self.solution_seen, other.solution_seen)), default="")
        self.explained = min(filter(None, (self.explained, other.explained)), default="")


@dataclass
class Record:
    """What is known of every task, by id, and of every checkpoint."""

    tasks: dict[str, Entry] = field(default_factory=dict)
    checkpoints: dict[str, str] = field(default_factory=dict)  # sprint -> when its checkpoint was first passed
    path: Path = ROOT / "checkpoints" / "record.json"
    notices: list[str] = field(default_factory=list)  # what the learner should hear of the record's health

    def entry(self, task: Task) -> Entry:
        """What is known of a task; nothing is a fact too."""
        return self.tasks.setdefault(task.id, Entry())

    def passed_now(self, course: Catalogue, root: Path = ROOT) -> set[str]:
        """The tasks that passed with just the text, and the tests, that stand there now."""
        return {
            task.id
            for task in course.tasks()
            if task.id in self.tasks and digest(task, root=root) in self.tasks[task.id].passes
        }

    def note_result(self, task: Task, result: TaskResult, graded: str) -> None:
        """Note an attempt and, where everything passed, the pass; `graded` is the digest of what was graded."""
        now = _now()
        entry = self.entry(task)
        entry.attempts[now] = result.earned
        if result.passed:
            entry.passes[graded] = min(entry.passes.get(graded, now), now)  # a clock may have been set back

    def note_checkpoint(self, sprint: str) -> None:
        """Note that a sprint's checkpoint was passed."""
        now = _now()
        self.checkpoints[sprint] = min(self.checkpoints.get(sprint, now), now)

    def note_hint(self, task: Task, rung: int) -> None:
        """Note that a rung of a task's hints was read."""
        self.entry(task).hints.setdefault(str(rung), _now())

    def note_explained(self, task: Task) -> bool:
        """Note that the note of a passed task is shown; whether this is the first time."""
        entry = self.entry(task)
        first = not entry.explained
        entry.explained = entry.explained or _now()
        return first

    def note_solution_seen(self, task: Task) -> None:
        """Note that the solution was shown before the task was passed."""
        entry = self.entry(task)
        entry.solution_seen = entry.solution_seen or _now()

    def merge(self, other: "Record") -> None:
        """Take in everything that another record knows."""
        for name, entry in other.tasks.items():
            self.tasks.setdefault(name, Entry()).merge(entry)
        for sprint, when in other.checkpoints.items():
            self.checkpoints[sprint] = min(self.checkpoints.get(sprint, when), when)

    @property
    def backup(self) -> Path:
        """The last good record before the present one."""
        return self.path.with_name(self.path.name + ".backup")

    @classmethod
    def load(cls, path: Path | None = None) -> "Record":
        """Read the record; a damaged one is set aside under a name that is said, and the last good one used.

        Raises:
            RecordError: it was written by a newer version of the course, or cannot be opened.
        """
        record = cls(path=path or cls.path)
        found = _read(record.path)
        if isinstance(found, _Damage):
            aside = record._set_aside()
            found = _read(record.backup)
            usable = not isinstance(found, _Damage) and found is not None
            rest = (
                f"the last good one, {record.backup.name}, is used"
                if usable
                else "there is no earlier one: it starts afresh"
            )
            kept = f"it was kept as {aside.name}" if aside else "it is left where it is"
            record.notices.append(f"{record.path.name} was damaged; {kept}, and {rest}.")
        elif found is None:  # lost between two steps of a save, or deleted: the backup knows
            found = _read(record.backup)
        if found is not None and not isinstance(found, _Damage):
            record.tasks, record.checkpoints = found
        return record

    def _set_aside(self) -> Path | None:
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%f")
        aside = self.path.with_name(f"record.damaged-{stamp}.json")
        try:
            os.replace(self.path, aside)  # noqa: PTH105  (kept as os.replace: the atomic step, here and below)
        except OSError:
            return None
        return aside

    def save(self) -> None:
        """Merge with what stands on disk and replace it, so that two sessions lose nothing of each other.

        Raises:
            RecordError: the file cannot be written; nothing on disk has changed.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(str(self.path) + ".lock", timeout=30):
                on_disk = Record.load(self.path)
                self.notices += on_disk.notices
                self.merge(on_disk)
                self._replace()
        except (OSError, TimeoutError) as error:
            raise RecordError(
                f"the record could not be written ({error}); what was there before is unharmed"
            ) from error

    def _replace(self) -> None:
        temporary = self.path.with_name(self.path.name + ".new")
        with temporary.open("w", encoding="utf-8") as file:
            file.write(json.dumps(self._data(), indent=1, ensure_ascii=False))
            file.flush()
            os.fsync(file.fileno())
        if _is_good(self.path):
            os.replace(self.path, self.backup)  # noqa: PTH105
        os.replace(temporary, self.path)  # noqa: PTH105
        _sync_folder(self.path.parent)

    def _data(self) -> dict[str, Any]:
        tasks = {
            name: {
                "passes": entry.passes,
                "attempts": entry.attempts,
                "hints": entry.hints,
                "solution_seen": entry.solution_seen,
                "explained": entry.explained,
                "redone": entry.redone,
                "hunts": entry.hunts,
            }
            for name, entry in sorted(self.tasks.items())
        }
        return _sealed({"version": VERSION, "checkpoints": self.checkpoints, "tasks": tasks})


class _Damage(Exception):
    """What stands on disk is no record."""


def _sealed(data: dict[str, Any]) -> dict[str, Any]:
    """The data with a digest of themselves: half a file, or an edited one, is told from a whole one."""
    text = json.dumps(data, sort_keys=True, ensure_ascii=False)
    return {**data, "seal": hashlib.sha256(text.encode()).hexdigest()}


def _read(path: Path) -> tuple[dict[str, Entry], dict[str, str]] | _Damage | None:
    """What the file holds; None where there is none."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise RecordError(f"{path.name} cannot be read: {error}") from error
    try:
        data = json.loads(raw.decode("utf-8"))
        if data["version"] > VERSION:
            raise RecordError(
                f"{path.name} was written by a newer version of the course ({data['version']}): upgrade this checkout"
            )
        if _sealed({key: value for key, value in data.items() if key != "seal"}) != data:
            return _Damage()
        return {name: Entry(**entry) for name, entry in data["tasks"].items()}, dict(data["checkpoints"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return _Damage()


def _is_good(path: Path) -> bool:
    found = _read(path)
    return found is not None and not isinstance(found, _Damage)


def _sync_folder(folder: Path) -> None:
    with contextlib.suppress(OSError, AttributeError):  # a folder cannot be opened on Windows
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")


def digest(task: Task, text: str | None = None, root: Path = ROOT) -> str:
    """A digest of an exercise's text (the learner's file, if none is given) and of its tests.

    Line endings do not matter: git may have changed them.
    """
    if text is None:
        text = _text(task.exercise(root))
    parts = [part.replace("\r\n", "\n") for part in (text, _text(task.tests(root)))]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
