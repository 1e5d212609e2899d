"""Habits that would break the course on another system: unnamed encodings, fork without a fallback, paths of Unix."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from checkpoints import ROOT

FILES = sorted(
    path
    for place in ("noxfile.py", "checkpoints", "solutions", "tests")
    for path in ([ROOT / place] if place.endswith(".py") else (ROOT / place).rglob("*.py"))
)
FORKING = {"fork", "forkpty", "register_at_fork"}
# The one place that forks, and says what is done where that cannot be; what refuses forks; what tests both.
MAY_FORK = {"checkpoints/pool.py", "checkpoints/guards.py", "tests/course/test_faults.py"}
UNIX_PATHS = ("/" + "tmp", "/" + "dev/", "/" + "home/")


def _calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield (node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")), node


def _opens_text_without_encoding(name: str, call: ast.Call) -> bool:
    if name not in ("open", "read_text", "write_text", "fdopen", "NamedTemporaryFile", "TextIOWrapper"):
        return False
    if isinstance(call.func, ast.Attribute) and ast.unparse(call.func.value) in ("os", "webbrowser", "zipfile"):
        return False
    constants = [
        node.value
        for node in [*call.args, *(keyword.value for keyword in call.keywords)]
        if isinstance(node, ast.Constant)
    ]
    binary = any(isinstance(value, str) and "b" in value and set(value) <= set("rwabx+") for value in constants)
    named = any(keyword.arg == "encoding" for keyword in call.keywords)
    return not (binary or named)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_nothing_is_for_one_system_alone(path: Path) -> None:
    shown = path.relative_to(ROOT).as_posix()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for name, call in _calls(tree):
        where = f"{shown}:{call.lineno}"
        assert not _opens_text_without_encoding(name, call), f"{where}: opens a file without naming its encoding"
        if shown not in MAY_FORK:
            assert name not in FORKING, f"{where}: not every system can fork"
            forked = [entry for entry in ast.walk(call) if isinstance(entry, ast.Constant) and entry.value == "fork"]
            assert not (forked and name in ("get_context", "set_start_method")), f"{where}: not every system can fork"
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and shown not in MAY_FORK:
            found = [unix for unix in UNIX_PATHS if node.value.startswith(unix)]
            assert not found, f"{shown}:{node.lineno}: a path that only Unix has"
