"""A context manager for the writing, generators for what is wrong with a state, a data class for each file."""

from __future__ import annotations

import contextlib
import math
import os
import random
import re
import uuid
import warnings
import zipfile
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Iterator, Mapping

import numpy
import torch


def _offences(value: Any, path: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], Any]]:
    if isinstance(value, dict) and type(value) in (dict, OrderedDict):
        for key, entry in value.items():
            yield from _offences(key, (*path, key))
            yield from _offences(entry, (*path, key))
    elif type(value) in (list, tuple, set):
        for number, entry in enumerate(value):
            yield from _offences(entry, (*path, number))
    else:
        plain = isinstance(value, (torch.Tensor, torch.dtype, str, bytes, bool, int, float, type(None)))
        if not plain or not type(value).__module__.startswith(("builtins", "torch")):
            yield path, value


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    beside = path.with_name(f"{uuid.uuid4().hex}.part")
    try:
        with beside.open("xb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream)
        beside.rename(path) if os.name != "nt" else beside.replace(path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            beside.unlink()


def save_state(path, state: Mapping[str, Any]) -> None:
    content = {key: state[key] for key in state}
    for place, value in _offences(content, ("state",)):
        raise TypeError(f"{' -> '.join(map(str, place))}: {type(value).__name__} is no plain data")
    target = Path(path)
    target.parent.mkdir(exist_ok=True, parents=True)
    with _replacing(target) as stream:
        torch.save(content, stream)


def load_state(path) -> dict[str, Any]:
    source = Path(path)
    if not source.exists():
        raise FileNotFoundError(source)
    reason = "it holds something else than a state"
    try:
        with zipfile.ZipFile(source) as archive:
            for entry in archive.namelist():
                archive.read(entry)
        found = torch.load(str(source), map_location=lambda storage, _: storage, weights_only=True)
    except Exception as error:
        found, reason = None, repr(error)
    if not isinstance(found, dict):
        raise ValueError(f"{source.name}: {reason}")
    return found


def random_state() -> dict[str, Any]:
    generator = numpy.random.get_state(legacy=False)
    key = torch.from_numpy(generator["state"]["key"].astype(numpy.int64))
    return dict(
        python=list(random.getstate()),
        numpy=dict(key=key, pos=generator["state"]["pos"], gauss=(generator["has_gauss"], generator["gauss"])),
        torch=[torch.get_rng_state(), *(torch.cuda.get_rng_state(gpu) for gpu in range(torch.cuda.device_count()))],
    )


def set_random_state(state: Mapping[str, Any]) -> None:
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    own = state["numpy"]
    numpy.random.set_state(("MT19937", own["key"].numpy().astype("u4"), own["pos"], *own["gauss"]))
    cpu, *gpus = state["torch"]
    torch.set_rng_state(cpu)
    for gpu, its in zip(range(torch.cuda.device_count()), gpus):
        torch.cuda.set_rng_state(its, torch.device("cuda", gpu))


@dataclass(frozen=True, order=True)
class _Saved:
    step: int
    path: Path
    loss: float | None

    @classmethod
    def of(cls, path: Path) -> _Saved | None:
        parts = re.match(r"^(?:loss=(?P<loss>[^,]+),)?at=(?P<step>[0-9]+)$", path.stem)
        if parts is None:
            return None
        return cls(int(parts["step"]), path, float(parts["loss"]) if parts["loss"] else None)


class CheckpointStore:
    def __init__(self, folder, *, keep_last: int = 2, suffix: str = ".state") -> None:
        if not keep_last > 0:
            raise ValueError(f"a store that keeps keep_last={keep_last} is of no use")
        self.folder, self.keep_last, self.suffix = Path(folder), keep_last, suffix
        self.broken: dict[Path, bool] = {}

    def _saved(self) -> list[_Saved]:
        paths = (path for path in self.folder.glob(f"*{self.suffix}") if not self.broken.get(path))
        return sorted(saved for saved in map(_Saved.of, paths) if saved is not None)

    def _champion(self) -> _Saved | None:
        judged = [saved for saved in self._saved() if saved.loss is not None]
        return min(judged, key=lambda saved: (saved.loss, -saved.step)) if judged else None

    def save(self, state: Mapping[str, Any], step: int, loss: float | None = None) -> Path:
        if step < 0:
            raise ValueError(f"{step=}, but the first step is 0")
        known = loss is not None and -math.inf < loss < math.inf
        name = f"loss={float(loss):.17g},at={step}" if known else f"at={step}"
        path = self.folder / (name + self.suffix)
        save_state(path, state)
        self.broken[path] = False
        everything = self._saved()
        stale = {saved for saved in everything if saved.step == step and saved.path != path}
        for saved in stale:
            saved.path.unlink()
        rest = [saved for saved in everything if saved not in stale]
        wanted = set(rest[-self.keep_last :]) | {self._champion()}
        for saved in rest:
            if saved not in wanted and saved.path != path:
                saved.path.unlink()
        return path

    def latest(self) -> Path | None:
        return max((saved.path for saved in self._saved()[-1:]), default=None)

    def best(self) -> Path | None:
        champion = self._champion()
        return champion and champion.path

    def load_latest(self) -> dict[str, Any] | None:
        for saved in self._saved()[::-1]:
            with contextlib.suppress(FileNotFoundError):
                try:
                    return load_state(saved.path)
                except ValueError as damage:
                    warnings.warn(str(damage), UserWarning, stacklevel=2)
                    self.broken[saved.path] = True
        return None
