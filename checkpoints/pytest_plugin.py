"""Teaches pytest the course: the fixture ``check``, whose code ``exercises`` is, verdicts instead of tracebacks.

The grader's worker runs pytest with this plugin in a process that can be lost. An editor that runs a task's tests
itself gets the same verdicts from the learner's files, without the isolation.

PYTEST_DONT_REWRITE (the worker has imported this before pytest starts)
"""

import random
import secrets
import time
from collections.abc import Callable, Generator
from pathlib import Path

import pytest
import pytest_check
import torch

from . import ROOT, catalogue, record, trees
from .checks import Check
from .guards import Guard, guard_of
from .verdicts import CheckResult, Kind, Verdict

_check_key = pytest.StashKey[Check]()


class Session:
    """What one pytest run grades with; the worker installs its own before pytest starts."""

    current: "Session | None" = None

    def __init__(self, course: catalogue.Catalogue, seed: int, guard_for: Callable[[catalogue.Task], Guard]) -> None:
        self.course = course
        self.seed = seed
        self.guard_for = guard_for
        self.scratch: str | None = None  # where checks make their folders
        self.gallery: Path | None = None  # where they keep figures
        self.started: Callable[[str], None] = lambda check: None
        self.finished: Callable[[CheckResult], None] = lambda result: None

    def task_of(self, path: Path) -> catalogue.Task | None:
        """The task that a file of tests grades; None for the course's tests of itself."""
        return next((task for task in self.course.tasks() if task.tests(ROOT) == path), None)


class EditorSession(Session):
    """For a pytest run that the grader did not start: the learner's files, with lending by the record."""

    def __init__(self) -> None:
        course = catalogue.load()
        super().__init__(course, secrets.randbelow(10**6), guard_of)
        self.passed = record.Record.load().passed_now(course)

    def install(self, task: catalogue.Task) -> None:
        """Before a task's tests are imported: the task is the learner's own, earlier pieces where they have passed."""
        own = {other.id: trees.learners(other) for other in self.course.tasks() if other.id in {task.id, *self.passed}}
        trees.Tree(self.course.tasks(), own, self.guard_for(task), task).install()


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Decide whose code `exercises` is, just before a file of tests imports it; the worker has done so already."""
    if isinstance(collector, pytest.Module):
        session = Session.current = Session.current or EditorSession()
        task = session.task_of(collector.path)
        if task is not None and isinstance(session, EditorSession):
            session.install(task)
    return (yield)


def new_check(
    session: Session, task: catalogue.Task, name: str, fail: Callable[[str], object] = pytest_check.check.fail
) -> Check:
    """A fresh `Check`, with every source of randomness set from the session's seed."""
    torch.manual_seed(session.seed)  # for code that takes no generator
    random.seed(session.seed)
    made = Check(task, name, session.seed, session.guard_for(task), fail)
    made.scratch, made.gallery = session.scratch, session.gallery
    return made


def run_check(session: Session, task: catalogue.Task, name: str, function: Callable[[Check], None]) -> CheckResult:
    """Run one check without pytest: what the fixture and the hooks below do, for code that cannot break pytest."""
    made = new_check(session, task, name, lambda text: None)
    try:
        function(made)
    except Exception as error:
        made.fail_with(error)
    made.settle()
    return CheckResult(name, name, made.verdicts)


@pytest.fixture
def check(request: pytest.FixtureRequest) -> Check:
    """Calls the learner's code and notes what is wrong."""
    session = Session.current
    task = session.task_of(request.node.path) if session else None
    if session is None or task is None:
        raise LookupError(f"{request.node.path} grades no task of the catalogue")
    request.node.stash[_check_key] = new_check(session, task, request.node.name)
    return request.node.stash[_check_key]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, bool, bool]:
    """Tell the worker when a check starts and what came of it."""
    session = Session.current
    if session is None or session.task_of(item.path) is None:
        return (yield)
    session.started(item.name)
    start = time.perf_counter()
    done = yield
    result = CheckResult(item.name, _title(item), seconds=time.perf_counter() - start)
    if _check_key in item.stash:
        result.verdicts, result.figures = item.stash[_check_key].verdicts, item.stash[_check_key].figures
    else:
        result.verdicts = [Verdict(Kind.CRASH, item.name, "the check could not be set up", "a check that runs")]
    session.finished(result)
    return done


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Put verdicts in the place of a traceback."""
    made = item.stash.get(_check_key, None)
    if made is not None and call.when == "call":
        if call.excinfo is not None:
            made.fail_with(call.excinfo.value)
        made.settle()
    report = yield
    if made is not None and made.verdicts and call.when == "call":
        report.outcome = "failed"
        session = Session.current
        seed = f"seed {session.seed}" if session else ""
        lines = [
            _title(item),
            *(verdict.text() for verdict in made.verdicts),
            f"  read      {made.task.reading}",
            f"  next      {made.task.command}   ({seed})",
        ]
        report.longrepr = "\n".join(lines)
    return report


def _title(item: pytest.Item) -> str:
    text = getattr(item, "obj", None).__doc__ or item.name
    return str(text).strip().splitlines()[0]
