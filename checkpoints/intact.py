"""What must stay as it is while the learner's code runs: all that a comparison or an oracle rests on.

A module or class is remembered entry by entry. What the learner's code replaced is put back, before anything is
compared, and told.
"""

import builtins
import importlib
import json
import math
import operator
import os
import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from types import CodeType, ModuleType
from typing import Any

import numpy
import pytest
import pytest_check
import torch

from . import ROOT

_LIBRARIES: tuple[tuple[str, Any], ...] = (
    ("torch", torch),
    ("torch.Tensor", torch.Tensor),
    ("torch._C.TensorBase", torch._C.TensorBase),
    ("torch.nn", torch.nn),
    ("torch.nn.Module", torch.nn.Module),
    ("torch.nn.functional", torch.nn.functional),
    ("torch.autograd", torch.autograd),
    ("torch.linalg", torch.linalg),
    ("torch.special", torch.special),
    ("torch.testing", torch.testing),
    ("numpy", numpy),
    ("math", math),
    ("random", random),
    ("json", json),
    ("json.JSONEncoder", json.JSONEncoder),
    ("builtins", builtins),
    ("pytest", pytest),
    ("pytest_check", pytest_check),
    ("pytest_check.check", type(pytest_check.check)),
)
# The course's own modules that judge, with the classes in them.
_JUDGES = (
    "accidents",
    "channel",
    "checks",
    "comparison",
    "crashes",
    "diagnosis",
    "divergence",
    "guards",
    "intact",
    "misconceptions",
    "pytest_plugin",
    "trees",
    "verdicts",
    "worker",
)
_LEAVE = "leave it as it is, the grader has its own"
_GONE = object()
_INSTALLED = (sys.prefix + os.sep, sys.base_prefix + os.sep)
_EXERCISES = str(ROOT / "exercises") + os.sep


@dataclass(frozen=True)
class Settings:
    """What is set for the whole process, and may rightly be other from one call to the next."""

    gradients: bool
    device: torch.device
    folder: str
    streams: tuple[Any, Any]

    @classmethod
    def now(cls) -> "Settings":
        """As they are set now."""
        return cls(torch.is_grad_enabled(), torch.get_default_device(), _folder(), (sys.stdout, sys.stderr))


class Intact:
    """Remembers all of that as it is now."""

    def __init__(self) -> None:
        self._spaces = [(name, space, dict(vars(space))) for name, space in (*_LIBRARIES, *_judges())]
        self._modules = {space.__name__: space for _, space, _ in self._spaces if isinstance(space, ModuleType)}
        self._dtype = torch.get_default_dtype()
        self._threads = torch.get_num_threads()
        self._recursion = sys.getrecursionlimit()

    def put_back(self, before: Settings) -> Iterator[str]:
        """Undo what was changed; says each change. `before` is what was set before the learner's code ran."""
        yield from self._put_back_settings(before)
        for name, module in self._modules.items():
            if sys.modules.get(name) is not module:
                sys.modules[name] = module
                yield f"replaced the module {name}: {_LEAVE}"
        for name, space, saved in self._spaces:
            now = vars(space)
            if len(now) != len(saved) or not all(map(operator.is_, now.values(), saved.values())):
                yield from _put_back(name, space, saved)

    def _put_back_settings(self, before: Settings) -> Iterator[str]:
        if torch.get_default_dtype() != self._dtype:
            torch.set_default_dtype(self._dtype)
            yield "changed torch's default dtype for everybody: give a dtype where you make a tensor"
        if torch.get_default_device() != before.device:
            torch.set_default_device(None)
            yield "changed torch's default device for everybody: give a device where you make a tensor"
        if torch.get_num_threads() != self._threads:
            torch.set_num_threads(self._threads)
            yield "changed torch's number of threads for everybody"
        if torch.is_grad_enabled() != before.gradients:
            torch.set_grad_enabled(before.gradients)
            yield "left gradients switched off for everybody: use `with torch.no_grad():`"
        if sys.getrecursionlimit() != self._recursion:
            sys.setrecursionlimit(self._recursion)
            yield "changed Python's recursion limit for everybody"
        if (sys.stdout, sys.stderr) != before.streams:
            sys.stdout, sys.stderr = before.streams
            yield "replaced sys.stdout or sys.stderr for everybody: use `contextlib.redirect_stdout`"
        if before.folder and _folder() != before.folder:
            os.chdir(before.folder)
            yield "changed the working directory for everybody: use paths that do not need it"


def _judges() -> Iterator[tuple[str, Any]]:
    for short in _JUDGES:
        name = f"{__package__}.{short}"
        module = importlib.import_module(name)
        yield name, module
        for key, value in vars(module).items():
            if isinstance(value, type) and value.__module__ == name and key not in ("Session", "EditorSession"):
                yield f"{name}.{key}", value


def _folder() -> str:
    try:
        return os.getcwd()  # noqa: PTH109
    except OSError:  # it was deleted
        return ""


def _put_back(name: str, space: Any, saved: dict[str, Any]) -> Iterator[str]:
    for key, value in list(saved.items()):
        found = vars(space).get(key, _GONE)
        if found is value:
            continue
        if _is_a_librarys(key, found):
            saved[key] = found
            continue
        setattr(space, key, value)
        yield f"replaced {name}.{key}: {_LEAVE}"
    for key in vars(space).keys() - saved.keys():
        value = vars(space)[key]
        # In a class it would hide what is inherited; "__slotnames__" is Python's own note, from the first pickling.
        hides = isinstance(space, type) and key != "__slotnames__" and not _is_a_librarys(key, value)
        if hides and not str(getattr(value, "__module__", "")).startswith("torch"):
            delattr(space, key)
            yield f"replaced {name}.{key}: {_LEAVE}"
        else:
            saved[key] = value  # torch adds to itself lazily
    if len(saved) == len(vars(space)):  # and in the order that they now have
        ordered = {key: saved[key] for key in vars(space)}
        saved.clear()
        saved.update(ordered)


def _is_a_librarys(key: str, value: Any) -> bool:
    """Whether a library put this function under its own name: torch._dynamo wraps some, transformers adds some."""
    code = getattr(value, "__code__", None)
    if not isinstance(code, CodeType) or getattr(value, "__name__", "") != key:
        return False
    return code.co_filename.startswith(_INSTALLED) and not code.co_filename.startswith(_EXERCISES)
