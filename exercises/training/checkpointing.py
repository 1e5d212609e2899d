"""Checkpoints: all that a run needs to go on, in files that are whole or not there.

Training is interrupted: by a crash, a full disk, a power cut, somebody who needs the machine. What was saved must then
be there, and what goes on from it must be the run that would have been, number for number. For the first, a file is
written beside its place and renamed into it; for the second, the state of the random generators is kept with the rest.
"""

import math
import os
import random
import re
import tempfile
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy
import torch


def save_state(path: str | os.PathLike[str], state: Mapping[str, Any]) -> None:
    """Write a state into a file, so that at any moment the file holds all of the old state or all of the new one.

    The state goes into a temporary file in the same folder, which is flushed down to the disk (fsync) and only then
    renamed. Whatever ends the process in between, what was there before is still there. If it is an exception, the
    temporary file is removed as well.

    Args:
        path: the file; its folder is made if it is not there.
        state: tensors, numbers, texts, bytes, booleans, None and torch dtypes, in dictionaries, lists, tuples and sets
            of such: what `load_state` reads without running code. A tensor under two names stays one.

    Raises:
        TypeError: there is something else in the state. The message names its place, as in ``state['history'][2]``,
            and its type, and nothing has been written.

    Example:
        >>> save_state("run.pt", {"step": 3, "weight": torch.ones(2)})
        >>> load_state("run.pt")
        {'step': 3, 'weight': tensor([1., 1.])}
    """
    raise NotImplementedError("training/checkpointing: save_state")


def load_state(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a state that `save_state` wrote, with all tensors on the CPU.

    A pickle may call any function when it is read, so a file of unknown origin is a program. Nothing but plain data is
    unpickled here (`weights_only`), and every byte is held against the checksums in the file.

    Args:
        path: the file.

    Returns:
        The state.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, cut off, no state at all, or would run code. The message names the file.
    """
    raise NotImplementedError("training/checkpointing: load_state")


def random_state() -> dict[str, Any]:
    """Take down where the global random generators are: torch's, Python's, numpy's, and those of all GPUs.

    Returns:
        What `set_random_state` takes and `save_state` saves.

    Example:
        >>> state = random_state()
        >>> first = torch.rand(1), random.random()
        >>> set_random_state(state)
        >>> first == (torch.rand(1), random.random())
        True
    """
    raise NotImplementedError("training/checkpointing: random_state")


def set_random_state(state: Mapping[str, Any]) -> None:
    """Put the global random generators back to where they were.

    Args:
        state: from `random_state`. What it says of GPUs that this machine does not have is left out.
    """
    raise NotImplementedError("training/checkpointing: set_random_state")


class CheckpointStore:
    """A folder of checkpoints that keeps the last few and the best.

    What a file is, its name says: its step, and its loss if that is known. So there is no list of the files beside them
    that could disagree with them, and another store of the same folder, in another process, knows the same.

    Args:
        folder: where they are; made by the first `save`.
        keep_last: how many of the last to keep, at least 1.

    Raises:
        ValueError: `keep_last` is below 1; the message gives it.

    Example:
        >>> store = CheckpointStore("run", keep_last=1)
        >>> paths = [store.save({"weight": torch.ones(2)}, step, loss) for step, loss in [(1, 3.0), (2, 2.5), (3, 2.7)]]
        >>> store.latest() == paths[2], store.best() == paths[1], paths[0].exists()
        (True, True, False)
    """

    def __init__(self, folder: str | os.PathLike[str], *, keep_last: int = 2) -> None:
        raise NotImplementedError("training/checkpointing: CheckpointStore.__init__")

    def save(self, state: Mapping[str, Any], step: int, loss: float | None = None) -> Path:
        """Write a checkpoint as `save_state` does, then remove those that need not be kept.

        Kept are this one, the `keep_last` of the greatest steps, and the best. One of the same step is replaced.

        Args:
            state: as of `save_state`.
            step: how many steps it has been trained, at least 0.
            loss: of validation, by which the best is found. One that is not finite counts as none.

        Returns:
            The file.

        Raises:
            ValueError: `step` is negative; the message gives it.
        """
        raise NotImplementedError("training/checkpointing: CheckpointStore.save")

    def latest(self) -> Path | None:
        """The checkpoint of the greatest step; None where there is none."""
        raise NotImplementedError("training/checkpointing: CheckpointStore.latest")

    def best(self) -> Path | None:
        """The checkpoint of the lowest loss, of equal ones the latest; None where no loss is known."""
        raise NotImplementedError("training/checkpointing: CheckpointStore.best")

    def load_latest(self) -> dict[str, Any] | None:
        """Read the checkpoint of the greatest step that can be read.

        One that is damaged is left where it is and counts no longer, for this store, until it is saved anew; a
        UserWarning names it.

        Returns:
            The state; None where there is none that can be read.
        """
        raise NotImplementedError("training/checkpointing: CheckpointStore.load_latest")
