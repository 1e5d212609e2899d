"""Does one job in a process that can be lost: grades a task, compares it with its solution, or runs wrong variants.

The pool forks it from a process that has imported torch and nothing of the learner's (where forking is safe;
elsewhere it starts afresh). It says what it finds as it goes, each message one line of JSON.
"""

import bdb
import contextlib
import faulthandler
import gc
import io
import multiprocessing
import os
import pdb  # noqa: T100
import socket
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing import resource_tracker
from pathlib import Path
from types import ModuleType
from typing import IO, TYPE_CHECKING, Any, NoReturn

from . import ROOT, channel, orphans
from .catalogue import Catalogue, Task
from .trees import Source

if TYPE_CHECKING:  # imported where they are needed: a process that is started afresh starts with this module
    import pytest

    from . import pytest_plugin
    from .verdicts import CheckResult

OUTPUT_LIMIT = 16 * 2**20  # bytes that the learner's code may print or write to one file
PRINTED_SHOWN = 2000  # characters of it that a verdict shows
_UNUSED = (
    "terminal",
    "debugging",
    "faulthandler",
    "cacheprovider",
    "capture",
    "unraisableexception",
    "threadexception",
)
PYTEST_OPTIONS = [*(option for name in _UNUSED for option in ("-p", f"no:{name}")), "-p", "pytest_check.plugin"]


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
    compare: bool = False  # instead of the checks, run the task's workloads beside the solution's
    gallery: str | None = None  # where figures are kept for the learner; nowhere if None
    variants: tuple[tuple[str, str], ...] = ()  # instead of the text in `sources`, run the checks on each of these
    until_wrong: bool = False  # and go on to the next with the first check that fails
    home: Path = ROOT  # the checkout whose `exercises` hold the learner's own helper modules
    threads: int = 1  # that torch computes with: several tasks are graded side by side

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


def work(job: Job, connection: socket.socket, key: bytes) -> NoReturn:
    """Run the job; the process ends here."""
    multiprocessing.current_process()._args = ()  # type: ignore[attr-defined]  # where the key would be found
    send = channel.sender(connection, key)
    del key
    orphans.end_with_parent()
    _close_inherited(connection.fileno())
    _take_over_output(job.output)
    trace = job.trace.open("w", encoding="utf-8")
    faulthandler.enable(trace)
    _limit_memory(job.task.memory_gib)
    with contextlib.suppress(OSError, AttributeError):
        os.setsid()  # so that the grader can end whatever the learner's code starts
    try:
        _Worker(job, send, trace).run()
    except BaseException as error:  # the worker's own: the grader must hear of it
        send({"broken": f"{type(error).__name__}: {error}"})
    os._exit(0)  # no exit handlers of the learner's


def _close_inherited(channel: int) -> None:
    """Close the files that a fork has left open: the grader's own, which are nothing to write to."""
    tracker = getattr(resource_tracker._resource_tracker, "_fd", None)
    with contextlib.suppress(OSError):  # where there is no such folder, nothing is forked
        for name in os.listdir("/proc/self/fd"):  # noqa: PTH208
            if int(name) not in (0, 1, 2, channel, tracker):
                with contextlib.suppress(OSError):
                    os.close(int(name))


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
    sys.breakpointhook = pdb.set_trace = _no_debugger


def _no_debugger(*args: object, **kwargs: object) -> NoReturn:
    raise bdb.BdbQuit("a debugger was called, and nobody sits at the keyboard")


def _limit_memory(gib: float) -> None:
    """Cap the address space and the size of files, where the system can (elsewhere the grader watches)."""
    try:
        import resource
    except ImportError:  # Windows
        return
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_FSIZE, (OUTPUT_LIMIT, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    with contextlib.suppress(ValueError, OSError):
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        limit = pages * resource.getpagesize() + int(gib * 2**30)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


class _Worker:
    """The job in hand: what surrounds the learner's code, the clock, the channel to the grader."""

    def __init__(self, job: Job, send: Callable[[dict[str, Any]], None], trace: IO[str]) -> None:
        import torch

        from .guards import guard_of

        self.job = job
        self.send = send  # tells the grader something
        self.trace = trace
        torch.set_num_threads(job.threads)
        self.guard = guard_of(job.task, shortcuts=job.compare)
        self.guard.watch_system()

    def run(self) -> None:
        """Do the job, and say that it is done."""
        self.arm(self.job.import_seconds)
        if self.job.compare:
            self.compare()
        elif self.job.variants:
            self.run_variants()
        else:
            self.grade()
        self.send({"done": True})

    def arm(self, seconds: float) -> None:
        """From now on the process may take so long, then it ends and leaves a trace of where it was."""
        self.trace.seek(0)
        self.trace.truncate()
        faulthandler.dump_traceback_later(seconds, exit=True, file=self.trace)

    def started(self, check: str, variant: str = "") -> None:
        """Tell that a check starts."""
        self.send({"started": check, "variant": variant})
        os.ftruncate(1, 0)
        self.arm(self.job.seconds)

    def finished(self, result: "CheckResult", variant: str = "") -> None:
        """Tell what came of a check."""
        from .verdicts import check_to_json

        faulthandler.cancel_dump_traceback_later()
        result.printed = printed(self.job.output)
        self.send({"check": check_to_json(result), "variant": variant})
        if not variant and self.guard.threads_left(0.0):
            self.send({"renew": True})
            os._exit(0)  # nothing else ends a thread

    def grade(self) -> None:
        """Import the learner's modules, then let pytest run the checks."""
        import pytest

        from . import pytest_plugin

        job = self.job
        self.install(job.sources)
        for name in (job.task.id, *(other for other, source in job.sources.items() if not source.lent)):
            __import__(job.course.task(name).module)
        faulthandler.cancel_dump_traceback_later()
        if self.guard.breaches:
            self.send({"breach": self.guard.breaches[0]})
            return
        gc.freeze()  # collecting torch's own objects again and again would cost more than the checks
        session = self.session()
        session.started, session.finished = self.started, self.finished
        pytest_plugin.Session.current = session
        os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
        os.chdir(ROOT)
        pytest.main([str(job.task.tests()), *PYTEST_OPTIONS], plugins=[self])

    def install(self, sources: Mapping[str, Source]) -> None:
        """Decide whose code `exercises` is, here and in every process that is started from here."""
        from . import child, trees

        tree = trees.Tree(list(self.job.course.tasks()), sources, self.guard, self.job.task, home=self.job.home)
        tree.install()
        if self.job.task.processes:
            child.share(tree, self.job.scratch)

    def session(self) -> "pytest_plugin.Session":
        """What pytest, or `run_check`, grades with."""
        from . import pytest_plugin

        session = pytest_plugin.Session(self.job.course, self.job.seed, lambda task: self.guard)
        session.scratch = self.job.scratch
        session.gallery = Path(self.job.gallery) if self.job.gallery else None
        return session

    def pytest_collection_modifyitems(self, items: "list[pytest.Item]") -> None:
        """Keep the checks asked for."""
        items[:] = [item for item in items if item.name in self.job.checks]

    def pytest_collectreport(self, report: "pytest.CollectReport") -> None:
        """Tell of a file of tests that cannot be collected."""
        if report.failed:
            self.send({"broken": str(report.longrepr).strip().splitlines()[-1]})

    def pytest_sessionfinish(self) -> None:
        """End here: unconfiguring pytest would only take time."""
        self.send({"done": True})
        os._exit(0)

    def run_variants(self) -> None:
        """Run the checks on each variant, one after the other and without pytest: these are the course's own texts."""
        from . import pytest_plugin

        job = self.job
        session = self.session()
        code = compile(job.task.tests().read_text(encoding="utf-8"), job.task.tests(), "exec")
        for variant, text in job.variants:
            path = job.sources[job.task.id].path
            self.install({**job.sources, job.task.id: Source(path, text)})
            # Under the name that pytest gives it, so that what it defines can be pickled into another process.
            tests = ModuleType(f"tests.{job.task.sprint}.test_{job.task.name}")
            tests.__file__ = str(job.task.tests())
            sys.modules[tests.__name__] = tests
            exec(code, vars(tests))
            for check in job.checks:
                self.started(check, variant)
                result = pytest_plugin.run_check(session, job.task, check, getattr(tests, check))
                self.finished(result, variant)
                if job.until_wrong and not result.passed:
                    break
            self.send({"finished": variant})

    def compare(self) -> None:
        """Run the task's workloads beside the solution's."""
        from . import comparing

        def tell(message: dict[str, Any]) -> None:
            self.arm(self.job.seconds)
            self.send(message)

        comparing.measure(self.job, self.guard, tell)


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
