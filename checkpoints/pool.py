"""A pool of workers: starts them, hears what they say, ends those that take too long, says why one was lost."""

import contextlib
import gc
import multiprocessing
import os
import re
import secrets
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from . import ROOT, channel, orphans, worker
from .crashes import FLOOD
from .verdicts import CheckResult, Kind, Verdict, check_from_json

START_METHOD = "fork" if sys.platform == "linux" else "spawn"  # elsewhere a fork of torch is not safe, or not there
GRACE = 3.0  # seconds more than a check's own limit before the pool itself ends a worker


@dataclass
class Outcome:
    """What came of one worker."""

    results: dict[str, CheckResult] = field(default_factory=dict)
    variants: dict[str, list[CheckResult]] = field(default_factory=dict)  # what each wrong variant gave
    comparisons: list[dict[str, Any]] = field(default_factory=list)  # of `compare`'s workloads
    lost: Verdict | None = None  # why the process was lost, if it was
    at: str | None = None  # the check it was lost in; None: before the first
    variant: str | None = None  # and the wrong variant
    whole: bool = False  # the cause concerns every check of the task
    renewed: bool = False  # the process ended because something was left in it: the other checks get a new one
    printed: str = ""  # what the learner's code had printed when the process ended


@dataclass
class _Running:
    job: worker.Job
    process: BaseProcess
    receiver: channel.Receiver
    last: float
    outcome: Outcome
    reply: Callable[[Outcome], None]
    done: bool = False
    killed: str = ""


class Pool:
    """Runs jobs, each in a process of its own, so many at once.

    Torch is imported once, here, and the workers are forked from this process, which never runs code of the
    learner's; where forking is not safe, each worker starts afresh.
    """

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs
        self._context: Any = multiprocessing.get_context(START_METHOD)
        self._queue: list[tuple[worker.Job, Callable[[Outcome], None]]] = []
        self._running: list[_Running] = []
        self._children = orphans.children()
        orphans.adopt()
        _warm_up()

    def preload(self, modules: Iterable[str]) -> None:
        """Import what the tasks' tests are slow to import, once for all workers that are forked."""
        if START_METHOD == "fork":
            from .guards import preload

            gc.disable()
            preload(modules)
            gc.enable()
            gc.freeze()

    def submit(self, job: worker.Job, reply: Callable[[Outcome], None]) -> None:
        """Put a job into the queue; `reply` is called by `turn` with what came of it."""
        self._queue.append((job, reply))

    def turn(self) -> None:
        """Start what there is room for, hear what the workers say, end those that take too long."""
        while self._queue and len(self._running) < self.jobs:
            job, reply = self._queue.pop(0)
            mine, theirs = socket.socketpair()
            key = secrets.token_bytes(32)
            process = self._context.Process(target=worker.work, args=(job, theirs, key), daemon=False)
            process.start()
            theirs.close()
            receiver = channel.Receiver(mine, key)
            self._running.append(_Running(job, process, receiver, time.monotonic(), Outcome(), reply))
        if not self._running:
            return
        connection.wait([run.receiver.channel for run in self._running], timeout=0.1)
        for run in list(self._running):
            over = self._listen(run)
            if not over and not run.killed:
                self._watch(run)
            if over:
                self._running.remove(run)
                self._finish(run)

    def _listen(self, run: _Running) -> bool:
        """Take in what a worker has said; True when it will say no more."""
        gone = run.process.exitcode is not None  # asked before reading, so that nothing said is lost
        try:
            for message in run.receiver.receive():
                self._take(run, message)
        except channel.Forged:
            self._take(run, {"breach": "wrote into the channel between the grader and its worker"})
        return gone or run.done or run.receiver.ended

    def _take(self, run: _Running, message: dict[str, Any]) -> None:
        run.last = time.monotonic()
        outcome = run.outcome
        if "started" in message:
            outcome.at, outcome.variant = message["started"], message.get("variant") or None
        elif "check" in message:
            result = check_from_json(message["check"])
            outcome.at = None
            if message["variant"]:
                outcome.variants.setdefault(message["variant"], []).append(result)
            elif result.check in run.job.checks:
                outcome.results[result.check] = result
        elif "finished" in message:
            outcome.variant = None
        elif "comparison" in message:
            outcome.comparisons.append(message["comparison"])
        elif "breach" in message:
            expected = "a module that leaves torch, pytest and the course as they are"
            call = f"a call in {outcome.at}" if outcome.at else f"import {run.job.task.module}"
            outcome.lost = Verdict(Kind.FORBIDDEN_SHORTCUT, call, message["breach"], expected)
            outcome.whole = run.done = True
        elif "broken" in message:
            outcome.lost = Verdict(
                Kind.CRASH, f"the tests of {run.job.task.id}", message["broken"], "a module that they can use"
            )
            outcome.whole = run.done = True
        elif "renew" in message:
            outcome.renewed = run.done = True
        elif "done" in message:
            run.done = True

    def _watch(self, run: _Running) -> None:
        """End a worker that outstays its limit or floods its output."""
        with contextlib.suppress(OSError):
            if run.job.output.stat().st_size > 2 * worker.OUTPUT_LIMIT:
                run.killed = "flood"
        limit = run.job.seconds if run.outcome.at else run.job.import_seconds
        if time.monotonic() - run.last > limit + GRACE:
            run.killed = "timeout"
        if run.killed:
            _kill(run.process)

    def _finish(self, run: _Running) -> None:
        """Reap a worker that is over, and say why it was lost, if it was."""
        if not run.done:
            run.process.join(1.0)
        code = run.process.exitcode
        self._end(run)
        outcome = run.outcome
        if not run.done:
            outcome.lost = _loss(run, code)
        outcome.printed = worker.printed(run.job.output)
        shutil.rmtree(run.job.scratch, ignore_errors=True)
        run.reply(outcome)

    def _end(self, run: _Running) -> None:
        """End a worker, what it has started, and the channel to it."""
        _kill(run.process)
        run.process.join()
        if run.job.task.processes:
            orphans.end(self._children)
        run.receiver.channel.close()

    def stop(self) -> None:
        """End every worker that is still there: the grading was given up."""
        for run in self._running:
            self._end(run)
            shutil.rmtree(run.job.scratch, ignore_errors=True)
        for job, _ in self._queue:
            shutil.rmtree(job.scratch, ignore_errors=True)
        self._running.clear()
        self._queue.clear()


def _warm_up() -> None:
    """Import once what every worker needs; nothing here may run an operation that starts threads."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # so that numpy starts none that a fork would lose
    gc.disable()  # collecting while torch is imported finds nothing
    from . import pytest_plugin  # noqa: F401

    gc.enable()
    gc.freeze()  # so that a worker's collections do not touch, and thereby copy, what it shares with this process


def _kill(process: BaseProcess) -> None:
    """End a worker and all that it started."""
    if process.pid is None:
        return
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    if process.exitcode is None:
        process.kill()


def _loss(run: _Running, code: int | None) -> Verdict:
    """Why a worker was lost, from how it ended and from what the interpreter wrote last."""
    try:
        trace = run.job.trace.read_text(encoding="utf-8", errors="replace")
    except OSError:
        trace = ""
    task = run.job.task
    where = _last_line(trace, run.job)
    call = f"a call in {run.outcome.at}" if run.outcome.at else f"import {task.module}"
    limit = f"{run.job.seconds if run.outcome.at else run.job.import_seconds:g} s"
    if run.killed == "flood":
        return Verdict(
            Kind.CRASH,
            call,
            FLOOD,
            "a few lines at most",
            where,
        )
    if run.killed or trace.startswith("Timeout"):
        return Verdict(
            Kind.TIMEOUT,
            call,
            f"still running after {limit}: an endless loop?",
            f"an answer within {limit}",
            where,
        )
    if code is not None and code < 0:
        name = signal.Signals(-code).name if -code in signal.valid_signals() else str(-code)
        if name == "SIGKILL":
            return Verdict(
                Kind.OUT_OF_MEMORY,
                call,
                "the system ended the process, as it does when memory runs out",
                f"at most {task.memory_gib:g} GiB",
                where,
            )
        told = {
            "SIGSEGV": "a segmentation fault (memory was read that is not the process's)",
            "SIGABRT": "the process was aborted",
        }
        return Verdict(Kind.CRASH, call, told.get(name, f"the process was ended by {name}"), "an answer", where)
    return Verdict(
        Kind.CRASH, call, f"the process ended at once with exit status {code}: os._exit?", "an answer", where
    )


def _last_line(trace: str, job: worker.Job) -> str:
    """The innermost line of the learner's in an interpreter's trace (innermost first)."""
    folder = str(ROOT / "exercises")
    for path, line, function in re.findall(r'File "([^"]+)", line (\d+) in (\S+)', trace):
        if path.startswith(folder):
            shown = Path(path).relative_to(ROOT).as_posix()
            text = next((source.text for source in job.sources.values() if source.path == path), None) or ""
            with contextlib.suppress(IndexError):
                return f"{shown}:{line}: {text.splitlines()[int(line) - 1].strip()}"
            return f"{shown}:{line}, in {function}"
    return ""
