"""Grades one task in a process that can be lost.

The grader forks it from a process that has imported torch and nothing of the learner's (where forking is safe;
elsewhere it starts afresh). It runs pytest on the task's tests and sends each check's result as one line of JSON.
"""

import contextlib
import faulthandler
import gc
import io
import json
import os
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO, Any, NoReturn

from . import ROOT
from .catalogue import Catalogue, Task
from .trees import Source

OUTPUT_LIMIT = 16 * 2**20  # bytes that the learner's code may print or write to one file
PRINTED_SHOWN = 2000  # characters of it that a verdict shows


@dataclass(frozen=True)
class Job:
    """What a worker is to do."""

    course: Catalogue
    task: Task
    seed: int
    sources: Mapping[str, Source]  # task id to whose code it is; a task not here is the solutions'
    checks: tuple[str, ...]  # the checks to run, of those in the task's tests
    seconds: float  # how long one check may run
    import_seconds: float  # how long the import and pytest's start may take
    scratch: str  # a folder for the output and the trace of a lost process
    compare: bool = False  # run the task's workloads beside the solution's, not its checks

    @property
    def output(self) -> Path:
        """Where the learner's output goes."""
        return Path(self.scratch, "output.txt")

    @property
    def trace(self) -> Path:
        """Where the interpreter writes what it was doing when it was lost."""
        return Path(self.scratch, "trace.txt")


def new_scratch() -> str:
    """A folder for one worker."""
    return tempfile.mkdtemp(prefix="checkpoints-")


def work(job: Job, channel: Connection) -> NoReturn:
    """Run the job; the process ends here."""
    _take_over_output(job.output)
    trace = job.trace.open("w", encoding="utf-8")
    faulthandler.enable(trace)
    _limit_memory(job.task.memory_gib)
    with contextlib.suppress(OSError, AttributeError):
        os.setsid()  # so that the grader can end whatever the learner's code starts
    try:
        _run_pytest(job, channel, trace)
        _send(channel, {"done": True})
    except BaseException as error:  # the worker's own: the grader must hear of it
        _send(channel, {"broken": f"{type(error).__name__}: {error}"})
    os._exit(0)  # no exit handlers of the learner's


def _send(channel: Connection, message: dict[str, Any]) -> None:
    channel.send_bytes(json.dumps(message).encode())


def _take_over_output(path: Path) -> None:
    """File descriptors 1 and 2 write to a file, for extensions and for `print` alike."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    os.close(handle)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    raw = io.FileIO(1, "wb", closefd=False)  # no buffer: what is printed is there when the process is lost
    stream = io.TextIOWrapper(raw, encoding="utf-8", errors="replace", write_through=True)
    sys.stdout = sys.stderr = sys.__stdout__ = sys.__stderr__ = stream  # type: ignore[misc]
    sys.stdin = io.StringIO()


def _limit_memory(gib: float) -> None:
    """Cap the address space and the size of files, where the system can (elsewhere the grader watches)."""
    try:
        import resource
    except ImportError:  # Windows
        return
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_FSIZE, (OUTPUT_LIMIT, OUTPUT_LIMIT))
    with contextlib.suppress(ValueError, OSError):
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        limit = pages * resource.getpagesize() + int(gib * 2**30)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _run_pytest(job: Job, channel: Connection, trace: IO[str]) -> None:
    import pytest
    import torch

    from . import pytest_plugin, trees
    from .guards import Guard
    from .verdicts import CheckResult, check_to_json

    torch.set_num_threads(1)  # several tasks are graded side by side, and sums come out in one order
    guard = Guard(() if job.compare else job.task.forbidden, job.task.processes)
    guard.watch_system()
    session = pytest_plugin.Session(job.course, job.seed, lambda task: guard)

    def arm(seconds: float = job.seconds) -> None:
        trace.seek(0)
        trace.truncate()
        faulthandler.dump_traceback_later(seconds, exit=True, file=trace)

    def started(check: str) -> None:
        _send(channel, {"started": check})
        os.ftruncate(1, 0)
        arm()

    def finished(result: CheckResult) -> None:
        faulthandler.cancel_dump_traceback_later()
        result.printed = printed(job.output)
        _send(channel, {"check": check_to_json(result)})

    session.started, session.finished = started, finished
    pytest_plugin.Session.current = session
    trees.Tree(job.course, job.sources, guard.learner).install()
    arm(job.import_seconds)
    if job.compare:
        from . import comparing

        def tell(message: dict[str, Any]) -> None:
            arm()
            _send(channel, message)

        comparing.measure(job, guard, tell)
        return
    importing = [job.task.id, *(other for other in job.sources if not job.sources[other].lent)]
    for name in importing:
        __import__(job.course.task(name).module)
    if guard.breaches:
        faulthandler.cancel_dump_traceback_later()
        _send(channel, {"breach": guard.breaches[0]})
        return
    gc.freeze()  # collecting torch's own objects again and again would cost more than the checks
    problems: list[str] = []

    class Only:
        """Keeps the checks asked for, and hears of a file of tests that cannot be collected."""

        def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
            items[:] = [item for item in items if item.name in job.checks]

        def pytest_collectreport(self, report: pytest.CollectReport) -> None:
            if report.failed:
                problems.append(str(report.longrepr).strip().splitlines()[-1])

        def pytest_sessionfinish(self) -> None:
            if problems:
                _send(channel, {"broken": problems[0]})
            _send(channel, {"done": True})
            os._exit(0)  # unconfiguring pytest would only take time

    options = [
        "-p",
        "no:terminal",
        "-p",
        "no:faulthandler",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:capture",
        "-p",
        "no:unraisableexception",
        "-p",
        "no:threadexception",
    ]
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    os.chdir(ROOT)
    pytest.main([str(job.task.tests()), *options, "-p", "pytest_check.plugin"], plugins=[Only()])


def printed(output: Path) -> str:
    """The beginning of what was printed, and how much there was of it."""
    try:
        size = output.stat().st_size
        with output.open(encoding="utf-8", errors="replace") as file:
            text = file.read(PRINTED_SHOWN)
    except OSError:
        return ""
    if size > len(text.encode()):
        text += f"\n... ({size:,} bytes in all)"
    return text.rstrip()
