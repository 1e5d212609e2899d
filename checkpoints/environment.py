"""Makes the one environment, ``.venv``, that every session shares.

Standard library only: this runs before anything is installed.
A stamp inside says for which dependencies, and which Python, the environment is complete. It is written last, so an
interrupted installation has none and is made anew; a changed `pyproject.toml` has another.
"""

import contextlib
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

from . import ROOT

COMPLETE = "course-complete"  # inside .venv: the digest of what is installed
BUILDING = "course-building"  # inside .venv: an installation has begun


class InstallError(Exception):
    """The environment could not be made; the message says what to do."""


def dependencies(root: Path = ROOT) -> list[str]:
    """The pinned requirements of `pyproject.toml`."""
    try:
        with (root / "pyproject.toml").open("rb") as file:
            found: list[str] = tomllib.load(file)["project"]["dependencies"]
    except (OSError, tomllib.TOMLDecodeError, KeyError) as error:
        raise InstallError(f"pyproject.toml cannot be used: {error}") from error
    return found


def digest(root: Path = ROOT) -> str:
    """What the environment must be complete for: the requirements, this Python, this kind of machine."""
    parts = [
        *dependencies(root),
        f"{sys.version_info.major}.{sys.version_info.minor}",
        sys.platform,
        platform.machine(),
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def python_of(venv: Path) -> Path:
    """The environment's interpreter."""
    return venv / "Scripts" / "python.exe" if os.name == "nt" else venv / "bin" / "python"


def ready(root: Path = ROOT) -> Path:
    """Make the environment if it is not there, whole and up to date; returns its interpreter.

    Raises:
        InstallError: it cannot be made.
    """
    venv = root / ".venv"
    wanted = digest(root)
    if _is_complete(venv, wanted):
        return python_of(venv)
    with _lock(root):
        if not _is_complete(venv, wanted):  # another session may have made it while this one waited
            _make(venv, wanted, root)
    return python_of(venv)


def _is_complete(venv: Path, wanted: str) -> bool:
    try:
        return (venv / COMPLETE).read_text(encoding="utf-8") == wanted and python_of(venv).exists()
    except OSError:
        return False


@contextlib.contextmanager
def _lock(root: Path) -> Iterator[None]:
    """One installation at a time. Nox brings virtualenv, and that brings filelock."""
    try:
        from filelock import FileLock
    except ImportError:
        yield
        return
    with FileLock(str(root / ".venv.lock")):
        yield


def _make(venv: Path, wanted: str, root: Path) -> None:
    ours = (venv / BUILDING).exists()
    if (venv / COMPLETE).exists():
        _say("pyproject.toml (or Python) has changed: making the environment anew")
        shutil.rmtree(venv)
    elif ours:
        _say("an installation was interrupted: making the environment anew")
        shutil.rmtree(venv)
    elif python_of(venv).exists():
        _say("installing the course's packages into the .venv that is there")
    else:
        if venv.exists():
            shutil.rmtree(venv)
        _say("making the environment, .venv (once; torch is large, so this takes a few minutes)")
    uv = shutil.which("uv")
    if not python_of(venv).exists():
        command = (
            [uv, "venv", "--python", sys.executable, str(venv)] if uv else [sys.executable, "-m", "venv", str(venv)]
        )
        _run(command, root)
    (venv / BUILDING).write_text(wanted, encoding="utf-8")
    python = str(python_of(venv))
    if uv:
        _run([uv, "pip", "install", "--python", python, *dependencies(root)], root)
    else:
        _run([python, "-m", "pip", "install", "--disable-pip-version-check", *dependencies(root)], root)
    (venv / COMPLETE).write_text(wanted, encoding="utf-8")
    (venv / BUILDING).unlink()
    _say("the environment is complete")


def _run(command: list[str], root: Path) -> None:
    """Run an installer with its own output and progress bars in view."""
    environment = dict(os.environ)
    if "PIP_FIND_LINKS" in environment:  # uv has its own name for it, and parts the entries by commas
        environment.setdefault("UV_FIND_LINKS", ",".join(environment["PIP_FIND_LINKS"].split()))
    try:
        code = subprocess.call(command, cwd=root, env=environment)
    except OSError as error:
        raise InstallError(f"{Path(command[0]).name} could not be started: {error}") from error
    if code:
        name = "uv" if Path(command[0]).stem == "uv" else "python -m " + command[2]
        raise InstallError(f"{name} ended with exit status {code} (see above); run the same command again to go on")


def _say(text: str) -> None:
    print(f"course > {text}", file=sys.stderr, flush=True)
