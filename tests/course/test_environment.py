"""The one environment: made once, trusted only when complete, rebuilt when the dependencies change."""

import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from checkpoints import ROOT, environment
from checkpoints.environment import InstallError

PYPROJECT = '[project]\nname = "x"\nversion = "1"\ndependencies = ["tiny-course-package=={version}"]\n'

# Stands for uv: notes how it was called, makes what uv would make.
FAKE_UV = """#!{python}
import json, os, pathlib, sys
log = pathlib.Path({log!r})
with log.open("a", encoding="utf-8") as file:
    file.write(json.dumps([sys.argv[1:], os.environ.get("UV_FIND_LINKS")]) + "\\n")
if sys.argv[1] == "venv":
    target = pathlib.Path(sys.argv[-1], "bin", "python")
    target.parent.mkdir(parents=True)
    target.symlink_to(sys.executable)
elif {failing!r}:
    sys.exit(3)
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "a path with spaces and ö"
    root.mkdir()
    (root / "pyproject.toml").write_text(PYPROJECT.format(version="1.0"), encoding="utf-8")
    return root


@pytest.fixture
def with_uv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    def install(failing: bool = False) -> Path:
        log = tmp_path / "calls.jsonl"
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        uv = folder / "uv"
        uv.write_text(FAKE_UV.format(python=sys.executable, log=str(log), failing=failing), encoding="utf-8")
        uv.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
        return log

    return install


def _calls(log: Path) -> list[list[str]]:
    return [json.loads(line)[0] for line in log.read_text(encoding="utf-8").splitlines()] if log.exists() else []


def test_a_second_call_installs_nothing(project: Path, with_uv: Callable[..., Path]) -> None:
    log = with_uv()
    python = environment.ready(project)
    assert python == project / ".venv" / "bin" / "python"
    assert [call[0] for call in _calls(log)] == ["venv", "pip"]
    assert _calls(log)[1][-1] == "tiny-course-package==1.0"
    assert environment.ready(project) == python
    assert len(_calls(log)) == 2


def test_changed_dependencies_rebuild(
    project: Path, with_uv: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    log = with_uv()
    environment.ready(project)
    stale = project / ".venv" / "stale"
    stale.touch()
    text = PYPROJECT.format(version="1.0")
    (project / "pyproject.toml").write_text(text + "\n[tool.ruff]\nline-length = 90\n", encoding="utf-8")
    environment.ready(project)
    assert len(_calls(log)) == 2, "settings of tools are no dependencies"
    (project / "pyproject.toml").write_text(PYPROJECT.format(version="2.0"), encoding="utf-8")
    environment.ready(project)
    assert len(_calls(log)) == 4
    assert not stale.exists()
    assert "changed" in capsys.readouterr().err


def test_an_interrupted_installation_is_made_anew(
    project: Path, with_uv: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    with_uv(failing=True)
    with pytest.raises(InstallError, match="uv ended with exit status 3"):
        environment.ready(project)
    half = project / ".venv" / "half"
    half.touch()
    log = with_uv(failing=False)
    before = len(_calls(log))
    environment.ready(project)
    assert [call[0] for call in _calls(log)[before:]] == ["venv", "pip"]
    assert not half.exists()
    assert "interrupted" in capsys.readouterr().err


def test_a_venv_of_the_users_own_is_kept(project: Path, with_uv: Callable[..., Path]) -> None:
    python = environment.python_of(project / ".venv")
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    mine = project / ".venv" / "mine"
    mine.touch()
    log = with_uv()
    environment.ready(project)
    assert [call[0] for call in _calls(log)] == ["pip"]
    assert mine.exists()


def test_find_links_are_passed_on(project: Path, with_uv: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_FIND_LINKS", "one two")
    monkeypatch.delenv("UV_FIND_LINKS", raising=False)
    log = with_uv()
    environment.ready(project)
    assert json.loads(log.read_text(encoding="utf-8").splitlines()[-1])[1] == "one,two"


@pytest.mark.parametrize("text", ["[project", "[tool.x]\n"])
def test_a_broken_pyproject_is_named(project: Path, text: str) -> None:
    (project / "pyproject.toml").write_text(text, encoding="utf-8")
    with pytest.raises(InstallError, match=r"pyproject\.toml"):
        environment.ready(project)


def _wheel(folder: Path, version: str) -> None:
    """A package small enough to be made here."""
    name = f"tiny_course_package-{version}"
    with zipfile.ZipFile(folder / f"{name}-py3-none-any.whl", "w") as wheel:
        wheel.writestr("tiny_course_package.py", f"version = {version!r}\n")
        wheel.writestr(
            f"{name}.dist-info/METADATA", f"Metadata-Version: 2.1\nName: tiny-course-package\nVersion: {version}\n"
        )
        wheel.writestr(
            f"{name}.dist-info/WHEEL", "Wheel-Version: 1.0\nGenerator: here\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{name}.dist-info/RECORD", "")


def test_with_venv_and_pip_for_real(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without uv: the standard library's venv and pip; killed half-way, then made whole."""
    links = tmp_path / "links"
    links.mkdir()
    _wheel(links, "1.0")
    monkeypatch.setenv("PIP_FIND_LINKS", str(links))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setattr("shutil.which", lambda name: None)
    code = (
        "import sys; from pathlib import Path; from checkpoints import environment\n"
        "environment.shutil.which = lambda name: None\n"
        "environment.ready(Path(sys.argv[1]))"
    )
    session = subprocess.Popen([sys.executable, "-c", code, str(project)], cwd=ROOT, start_new_session=True)
    while not (project / ".venv" / environment.BUILDING).exists() and session.poll() is None:
        time.sleep(0.01)
    os.killpg(session.pid, signal.SIGKILL)
    session.wait()
    assert not (project / ".venv" / environment.COMPLETE).exists()
    python = environment.ready(project)
    found = subprocess.run(
        [str(python), "-c", "import tiny_course_package; print(tiny_course_package.version)"],
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    assert found.stdout.strip() == "1.0"


def test_two_sessions_make_one_environment(project: Path, with_uv: Callable[..., Path]) -> None:
    log = with_uv()
    code = "import sys; from pathlib import Path; from checkpoints import environment; environment.ready(Path(sys.argv[1]))"
    sessions = [subprocess.Popen([sys.executable, "-c", code, str(project)], cwd=ROOT) for _ in range(3)]
    assert [session.wait(60) for session in sessions] == [0, 0, 0]
    assert [call[0] for call in _calls(log)] == ["venv", "pip"]


def test_dependencies_are_pinned_exactly() -> None:
    for requirement in environment.dependencies():
        name, _, version = requirement.partition("==")
        assert name, requirement
        assert version, requirement
