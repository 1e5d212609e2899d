"""The course's sessions: one for each sprint, made from the catalogue, and the verbs.

Each is a thin call of `python -m checkpoints` in the one environment that they share.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

if sys.version_info < (3, 11):  # noqa: UP036  (nox itself may run on an older one)
    raise SystemExit("The course needs Python 3.11 or newer; nox runs on " + sys.version.split()[0] + ".")

import nox

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT))

from checkpoints import catalogue, environment  # noqa: E402

nox.needs_version = ">=2024.4.15"
nox.options.sessions = ["ladder"]
nox.options.default_venv_backend = "none"  # one environment for all of them, made by checkpoints/environment.py

try:
    COURSE = catalogue.load()
except catalogue.CatalogueError as error:
    raise SystemExit(f"The catalogue is malformed: {error}") from None


def checkpoints(session: nox.Session, *arguments: str) -> None:
    """Run `python -m checkpoints` in the course's environment; where it fails, its closing line is nox's last."""
    with tempfile.TemporaryDirectory(prefix="checkpoints-") as folder:
        closing = Path(folder, "closing.txt")
        code = run(session, "-m", "checkpoints", *arguments, CHECKPOINTS_CLOSING=str(closing))
        if code:
            text = closing.read_text(encoding="utf-8") if closing.exists() else f"exit status {code}"
            session.error(text.strip().rstrip("."))


def run(session: nox.Session, *arguments: str, **variables: str) -> int:
    """Run the environment's Python; returns its exit status."""
    try:
        python = environment.ready(ROOT)
    except environment.InstallError as error:
        session.error(str(error))
    process = subprocess.Popen([str(python), *arguments], cwd=ROOT, env={**os.environ, **variables})
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:  # the process has had it too, and ends by itself
            continue


def tool(session: nox.Session, *arguments: str, **variables: str) -> None:
    """Run a tool of the environment, as `python -m`; its failure is the session's."""
    code = run(session, "-m", *arguments, **variables)
    if code:
        session.error(f"{arguments[0]} ended with exit status {code}")


def _sprint_session(sprint: catalogue.Sprint) -> Callable[[nox.Session], None]:
    def grade(session: nox.Session) -> None:
        checkpoints(session, "grade", sprint.name, *session.posargs)

    grade.__doc__ = f"{sprint.title}: {len(sprint.tasks)} tasks, {sprint.points} points."
    return grade


for _sprint in COURSE.sprints:
    nox.session(name=f"sprint-{_sprint.name}")(_sprint_session(_sprint))


def _verb(verb: str, description: str) -> None:
    def session_function(session: nox.Session) -> None:
        checkpoints(session, verb, *session.posargs)

    session_function.__doc__ = description
    nox.session(name=verb)(session_function)


_verb("ladder", "Grade the sprints in order, up to the first that is unfinished (plain `nox` does this).")
_verb("next", "Where to go on, and why.")
_verb("progress", "The ladder with your points.")
_verb("hint", "A hint: `nox -s hint -- TASK`; three rungs, one a call.")
_verb("compare", "Your code beside the solution: `nox -s compare -- TASK`.")
_verb("capstone", "Your pieces as one program: train a model, and let it write (`-- --minutes 5`, `-- --data PATH`).")
_verb("watch", "Grades each file as you save it; keys: hint, compare, next, ladder, reset, quit.")
_verb("report", "Your progress as one page, to open in a browser.")
_verb("redo", "A task that you have passed, again: a fresh stub in a place of its own, when it is due.")
_verb("hunt", "A subtly wrong implementation: write the test that tells it from the right one (`-- TASK`).")
_verb("upgrade", "Brings the course up to date, and leaves your work as it is.")
_verb("gradebook", "For teachers: `nox -s gradebook -- FOLDER` grades the checkouts in it by this course's tests.")
_verb("reset", "The stub again: `nox -s reset -- TASK`; your text is kept in a backup.")


@nox.session
def tests(session: nox.Session) -> None:
    """The course proves itself: stubs fail, solutions pass, wrong answers are caught and named."""
    # On a busy machine, threads that wait for each other by spinning keep each other from running.
    tool(session, "pytest", "tests/course", *session.posargs, OMP_WAIT_POLICY="PASSIVE")


@nox.session
def mutants(session: nox.Session) -> None:
    """The tests prove themselves: each small thing made wrong in a solution is noticed (`-- SPRINT or TASK`)."""
    code = run(session, "-m", "tests.course.mutants", *session.posargs)
    if code:
        session.error("mutants survived, or the list of the equivalent ones is wrong: see above")


@nox.session
def lint(session: nox.Session) -> None:
    """Style, types, and that the stubs are what the generator makes."""
    tool(session, "ruff", "check", ".")
    tool(session, "ruff", "format", "--check", ".")
    tool(session, "mypy")
    checkpoints(session, "stubs", "--check")


@nox.session
def stubs(session: nox.Session) -> None:
    """For maintainers: write the stubs anew from the solutions; a file that was worked on is left alone."""
    checkpoints(session, "stubs", *session.posargs)
