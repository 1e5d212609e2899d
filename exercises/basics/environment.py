"""Is this the environment that the project asks for, and which device is there to compute on?

A project says in the table `[project]` of its `pyproject.toml` which packages it needs (PEP 621), each as a
requirement (PEP 508) such as ``torch==2.13.0``. Installers read these lines (`uv pip install -r pyproject.toml`); what
came of it is told by `importlib.metadata`. The package `packaging`, which pytest brings along, knows the rules for
requirements, names and versions: pip itself uses it.
"""

import importlib.metadata
import tomllib
from pathlib import Path

import torch
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name


def check_environment(pyproject: Path) -> dict[str, str | None]:
    """Tell which of a project's requirements this environment does not meet.

    Read are the `dependencies` of the table `[project]`; without that key there are none. A requirement is met if its
    package is installed, at a version that it allows by the rules of PEP 440:

    - ``==2.13.0`` allows 2.13.0 and the local version 2.13.0+cpu, but not 2.13.0.post1; ``==2.13.*`` and ``>=2.9``
      allow 2.13.0, for versions are compared number by number, not as text.
    - An installed pre-release is a version like any other: ``>=2`` allows 3.0rc1.
    - Without a version (``numpy``, or ``name @ URL``) every version will do.
    - A requirement whose environment marker does not hold here (``; sys_platform == "win32"``) is passed over.
    - Extras are not followed: ``rich[jupyter]==15.0.0`` is met by rich 15.0.0 alone.

    Args:
        pyproject: the path of the file, which need not be called `pyproject.toml`.

    Returns:
        For each requirement that is not met, under its package's name, the version that is installed, or None where
        there is none; empty when all is right. Names are normalised (PEP 503): in lower case, each run of ``-``, ``_``
        and ``.`` one hyphen.

    Raises:
        FileNotFoundError: there is no such file; the message names it.
        ValueError: the file is no TOML (in UTF-8), has no table `[project]`, its `dependencies` are not a list of
            strings, or one of them is not a requirement. The message names the file and what is wrong in it:
            `project`, `dependencies` or the requirement (for what is no TOML, the file will do).

    Example:
        With ``dependencies = ["torch==2.13.0", "Typing.Extensions", "no-such-package>=1"]``, where torch 2.12.1 and
        some version of typing_extensions are installed:

        >>> check_environment(Path("pyproject.toml"))
        {'torch': '2.12.1', 'no-such-package': None}
    """
    raise NotImplementedError("basics/environment: check_environment")


def pick_device(prefer: str | None = None) -> torch.device:
    """Pick the device to compute on: CUDA if there is one, else MPS (Apple's GPUs), else the CPU.

    What there is, torch is asked anew at each call: `torch.cuda.is_available()`, `torch.cuda.device_count()` and
    `torch.backends.mps.is_available()`. There is always one CPU, and at most one MPS device. Where
    `torch.cuda.is_available()` is False there is no CUDA device, whatever is counted: the driver may be too old.

    Args:
        prefer: the device that is wanted, such as "cpu", "cuda" or "cuda:1"; the best there is if None.

    Returns:
        The device, with an index only if `prefer` gives one: "cuda" alone is each process's current GPU.

    Raises:
        RuntimeError: `prefer` names no device, one of a kind other than these three, or one that is not there
            ("cuda:2" where there are two); the message names it. It is never replaced by another.

    Example:
        >>> pick_device("cpu")
        device(type='cpu')
    """
    raise NotImplementedError("basics/environment: pick_device")
