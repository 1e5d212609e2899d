"""Ends what the learner's code has started and left behind, even where it has left its worker's process group.

On Linux a process may ask to become the parent of whatever its descendants leave behind, and to be ended with its own
parent. Elsewhere the system has no such thing, and only what stayed in the worker's process group is ended with it.
"""

import contextlib
import ctypes
import multiprocessing
import os
import signal
import sys
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def adopt() -> None:
    """Become the parent of what workers leave behind."""
    _ask(_PR_SET_CHILD_SUBREAPER, 1)


def end_with_parent() -> None:
    """Let the system end this process when its parent has ended, even by a kill."""
    _ask(_PR_SET_PDEATHSIG, signal.SIGKILL if sys.platform == "linux" else 0)


def _ask(what: int, value: int) -> None:
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(what, value, 0, 0, 0)


def children(parent: int | None = None) -> set[int]:
    """The processes whose parent a process, or this one, is; none where the system does not say."""
    found: set[int] = set()
    for file in Path(f"/proc/{parent or 'self'}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found |= {int(word) for word in file.read_text(encoding="ascii").split()}
    return found


def end(before: set[int]) -> None:
    """End every child that was not there before and that nobody here has started."""
    own = {process.pid for process in multiprocessing.active_children()} | before
    for process in children() - own:
        with contextlib.suppress(ProcessLookupError, ChildProcessError, PermissionError):
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
