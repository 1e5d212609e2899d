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

_PLAIN = (torch.Tensor, torch.nn.Parameter, torch.dtype, bool, int, float, str, bytes, type(None))
_NAME = re.compile(r"step-(\d+)(?:-loss-(.+))?\.pt")


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
    _refuse_objects("state", dict(state))
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # In the same folder: only within a file system is a renaming one step.
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}-", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            torch.save(dict(state), file)
            file.flush()
            os.fsync(file.fileno())  # else the name could reach the disk before what it names
        os.replace(temporary, path)  # noqa: PTH105  (the call that the course speaks of)
    except BaseException:  # also of Ctrl-C
        Path(temporary).unlink()
        raise


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
    try:
        with zipfile.ZipFile(path) as archive:  # torch writes checksums, but does not look at them again
            if damaged := archive.testzip():
                raise zipfile.BadZipFile(f"{damaged} does not agree with its checksum")
        state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # of a damaged file torch and pickle raise errors of any kind
        raise ValueError(f"{path}: no checkpoint that can be read: {error}") from error
    if not isinstance(state, dict):
        raise ValueError(f"{path}: no checkpoint: it holds a {type(state).__name__}, not a dictionary")
    return state


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
    numpys = numpy.random.get_state(legacy=False)
    return {
        "torch": torch.get_rng_state(),
        "python": random.getstate(),
        # Its 624 numbers are an array, which is not among what is read back without running code.
        "numpy": numpys | {"state": numpys["state"] | {"key": numpys["state"]["key"].tolist()}},
        "cuda": torch.cuda.get_rng_state_all(),
    }


def set_random_state(state: Mapping[str, Any]) -> None:
    """Put the global random generators back to where they were.

    Args:
        state: from `random_state`. What it says of GPUs that this machine does not have is left out.
    """
    torch.set_rng_state(state["torch"])
    random.setstate(state["python"])
    numpy.random.set_state(state["numpy"])
    for device, generator in enumerate(state["cuda"][: torch.cuda.device_count()]):
        torch.cuda.set_rng_state(generator, device)


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
        if keep_last < 1:
            raise ValueError(f"keep_last must be at least 1, got {keep_last}")
        self.folder = Path(folder)
        self.keep_last = keep_last
        self._damaged: set[Path] = set()

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
        if step < 0:
            raise ValueError(f"step must be at least 0, got {step}")
        known = "" if loss is None or not math.isfinite(loss) else f"-loss-{float(loss)!r}"
        path = self.folder / f"step-{step:08d}{known}.pt"
        save_state(path, state)
        self._damaged.discard(path)
        files = self._files()
        kept = {path, self.best(), *list(files)[-self.keep_last :]}
        for other, (of_step, _) in files.items():
            if other not in kept or (of_step == step and other != path):
                other.unlink()
        return path

    def latest(self) -> Path | None:
        """The checkpoint of the greatest step; None where there is none."""
        return next(reversed(self._files()), None)

    def best(self) -> Path | None:
        """The checkpoint of the lowest loss, of equal ones the latest; None where no loss is known."""
        losses = {path: loss for path, (_, loss) in reversed(self._files().items()) if loss is not None}
        return min(losses, key=losses.__getitem__, default=None)

    def load_latest(self) -> dict[str, Any] | None:
        """Read the checkpoint of the greatest step that can be read.

        One that is damaged is left where it is and counts no longer, for this store, until it is saved anew; a
        UserWarning names it.

        Returns:
            The state; None where there is none that can be read.
        """
        while (path := self.latest()) is not None:
            try:
                return load_state(path)
            except ValueError as error:
                warnings.warn(f"{error}; going on with the one before it", stacklevel=2)
                self._damaged.add(path)
        return None

    def _files(self) -> dict[Path, tuple[int, float | None]]:
        """The step and loss of each checkpoint, by step."""
        found = {}
        for path in self.folder.glob("step-*.pt"):
            if (match := _NAME.fullmatch(path.name)) and path not in self._damaged:
                found[path] = (int(match[1]), float(match[2]) if match[2] else None)
        return dict(sorted(found.items(), key=lambda entry: entry[1][0]))


def _refuse_objects(place: str, value: Any) -> None:
    """Refuse what could be written and not be read back: better now than when it is needed."""
    if type(value) in (dict, OrderedDict):
        for key, entry in value.items():
            _refuse_objects(f"{place}[{key!r}]", entry)
            _refuse_objects(f"the key {key!r} of {place}", key)
    elif type(value) in (list, tuple, set):
        for index, entry in enumerate(value):
            _refuse_objects(f"{place}[{index}]", entry)
    elif type(value) not in _PLAIN:  # by its very type: a numpy.float64 is a float, but is pickled as numpy's
        raise TypeError(f"{place} is a {type(value).__name__}, which could not be read back")
