"""What each task's last grading found, kept for `report`: ``checkpoints/latest/SPRINT/TASK.json``.

Only the newest is kept, and it may be deleted at any time: what counts is in the record.
"""

import contextlib
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from . import ROOT, reports
from .catalogue import Task
from .verdicts import TaskResult

FOLDER = ROOT / "checkpoints" / "latest"


def save(result: TaskResult, seed: int, digest: str, folder: Path = FOLDER) -> None:
    """Keep what a grading found; where it cannot be written, grading goes on without.

    Args:
        result: of the task.
        seed: that its inputs were drawn from.
        digest: of the text and the tests that were graded, as in the record.
        folder: where.
    """
    path = folder / f"{result.task}.json"
    when = datetime.now(UTC).isoformat(timespec="microseconds")
    data = {"when": when, "seed": seed, "digest": digest, **reports.task_data(result)}
    temporary = path.with_suffix(f".{os.getpid()}.new")
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(data, indent=1, ensure_ascii=False), encoding="utf-8")
        os.replace(temporary, path)  # noqa: PTH105


def load(task: Task, folder: Path = FOLDER) -> dict[str, Any] | None:
    """What the last grading of a task found, in the form of `reports.task_data`; None if nothing readable is kept."""
    try:
        data = json.loads((folder / f"{task.id}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return data if isinstance(data, dict) and data.get("task") == task.id else None
