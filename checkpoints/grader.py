"""Grades tasks side by side, each in a process that can be lost, and says what came of it.

The grader itself never imports the learner's code. It imports torch once and forks a worker for each task (or,
where forking is not safe, starts one); a worker that hangs, exits or crashes costs the check it was at, and
another one goes on with the next.
"""

import contextlib
import gc
import json
import multiprocessing
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from . import ROOT, diagnosis, trees, worker
from .catalogue import Catalogue, Task, checks_of
from .crashes import FLOOD
from .verdicts import CheckResult, Kind, TaskResult, Verdict, check_from_json

TIMEOUTS = 6  # after so many checks of a task that took too long, the rest is not tried
HURRY = 5  # after the first of them, the limit is this many times shorter (but never under a second)
GRACE = 3.0  # seconds more than a check's own limit before the grader itself ends a worker

Whose = Callable[[Task], trees.Source]


@dataclass
class Outcome:
    """What came of one worker."""

    results: dict[str, CheckResult] = field(default_factory=dict)
    comparisons: list[dict[str, Any]] = field(default_factory=list)  # of `compare`'s workloads
    lost: Verdict | None = None  # why the process was lost, if it was
    at: str | None = None  # the check it was lost in; None: before the first
    whole: bool = False  # the cause concerns every check of the task


@dataclass
class _Running:
    job: worker.Job
    process: BaseProcess
    channel: connection.Connection
    last: float
    outcome: Outcome
    reply: Callable[[Outcome], None]
    done: bool = False
    killed: str = ""


class Grader:
    """Grades tasks of a course.

    Args:
        course: the catalogue.
        seed: from which every input is drawn.
        whose: the text that is graded, task by task; the learner's unless something else is given.
        passed: ids of the tasks whose text has passed before, as it is now: others are lent where they are needed.
        seconds: a limit for each check, in the place of the catalogue's.
        jobs: how many workers run at once.
        diagnose: whether wrong answers are compared with the misconceptions.

    """

    def __init__(
        self,
        course: Catalogue,
        seed: int,
        whose: Whose = trees.learners,
        passed: Iterable[str] = (),
        seconds: float | None = None,
        jobs: int | None = None,
        diagnose: bool = True,
    ) -> None:
        self.course = course
        self.seed = seed
        self.whose = whose
        self.passed = set(passed)
        self.seconds = seconds
        self.jobs = jobs or max(2, min(8, os.cpu_count() or 2))
        self.diagnose = diagnose
        self._context: Any = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
        self._queue: list[tuple[worker.Job, Callable[[Outcome], None]]] = []
        self._running: list[_Running] = []

    def grade(self, tasks: Sequence[Task]) -> Iterator[TaskResult]:
        """Grade these tasks; yields each result as soon as it and those before it are there."""
        _warm_up()
        results: dict[str, TaskResult] = {}
        waiting = list(tasks)
        pending = [task.id for task in tasks]
        try:
            while pending:
                for task in [task for task in waiting if self._ready(task, tasks, results)]:
                    waiting.remove(task)
                    self._advance(self._one(task, results), results)
                self._turn()
                while pending and pending[0] in results:
                    yield results[pending.pop(0)]
        finally:
            self._stop()

    def compare(self, task: Task) -> tuple[list[dict[str, Any]], Verdict | None]:
        """Run the task's workloads, the learner's code beside the solution's; and why that broke off, if it did."""
        _warm_up()
        sources, _ = self._sources(task, {})
        outcomes: list[Outcome] = []
        job = replace(self._job(task, sources, ()), compare=True, seconds=self.seconds or 3 * task.seconds)
        self._queue.append((job, outcomes.append))
        try:
            while not outcomes:
                self._turn()
        finally:
            self._stop()
        return outcomes[0].comparisons, outcomes[0].lost

    def _ready(self, task: Task, tasks: Sequence[Task], results: dict[str, TaskResult]) -> bool:
        """Whether it is known of every earlier piece of this run if it has passed."""
        graded = {other.id for other in tasks}
        needed = [other.id for other in trees.dependencies(task, self.course) if other.id in graded]
        return all(other in results for other in needed)

    def _one(
        self, task: Task, results: dict[str, TaskResult]
    ) -> Generator[list[worker.Job], list[Outcome], TaskResult]:
        """Grade one task: yields the jobs to be run, gets their outcomes."""
        titles = checks_of(task.tests())
        sources, lent = self._sources(task, results)
        found: dict[str, CheckResult] = {}
        remaining = list(titles)
        timeouts = 0
        while remaining:
            job = self._job(task, sources, remaining)
            if timeouts:
                job = replace(job, seconds=min(job.seconds, max(1.0, job.seconds / HURRY)))
            (outcome,) = yield [job]
            found |= outcome.results
            remaining = [check for check in remaining if check not in found]
            if outcome.lost is None:
                for check in remaining:
                    found[check] = CheckResult(check, titles[check], [_not_reported(task)])
                break
            timeouts += outcome.lost.kind == Kind.TIMEOUT
            if outcome.at is not None and not outcome.whole:
                found[outcome.at] = CheckResult(
                    outcome.at,
                    titles[outcome.at],
                    [outcome.lost],
                    outcome.results.get("", CheckResult("", "")).printed,
                )
                remaining = [check for check in remaining if check != outcome.at]
            if outcome.at is None or outcome.whole or timeouts >= TIMEOUTS:
                for check in remaining:
                    found[check] = CheckResult(check, titles[check], [outcome.lost])
                break
        checks = [found[check] for check in titles]
        if self.diagnose and (suspects := diagnosis.worth_diagnosing(checks)):
            solution = task.solution().read_text(encoding="utf-8")
            known = [(entry.name, entry.apply(solution)) for entry in diagnosis.misconceptions_of(task.tests())]
            path = sources[task.id].path
            jobs = [self._job(task, {**sources, task.id: trees.Source(path, text)}, suspects) for _, text in known]
            outcomes = yield jobs
            variants = {
                name: list(outcome.results.values()) for (name, _), outcome in zip(known, outcomes, strict=True)
            }
            diagnosis.name(checks, variants)
        return TaskResult(task.id, task.points, checks, lent)

    def _sources(self, task: Task, results: dict[str, TaskResult]) -> tuple[dict[str, trees.Source], list[str]]:
        """Whose code stands for the task and for each earlier piece, and which of those are lent."""
        sources = {task.id: self.whose(task)}
        lent = []
        for other in trees.dependencies(task, self.course):
            own = results[other.id].passed if other.id in results else other.id in self.passed
            sources[other.id] = self.whose(other) if own else trees.solutions(other)
            if not own:
                lent.append(other.id)
        return sources, lent

    def _job(self, task: Task, sources: dict[str, trees.Source], checks: Sequence[str]) -> worker.Job:
        return worker.Job(
            self.course,
            task,
            self.seed,
            sources,
            tuple(checks),
            self.seconds or task.seconds,
            worker.new_scratch(),
        )

    def _advance(
        self,
        coroutine: Generator[list[worker.Job], list[Outcome], TaskResult],
        results: dict[str, TaskResult],
    ) -> None:
        """Drive one task's grading on until it wants workers, and put those into the queue."""

        def on(outcomes: list[Outcome] | None) -> None:
            try:
                jobs = coroutine.send(outcomes)  # type: ignore[arg-type]  # the first send of a generator is None
            except StopIteration as end:
                results[end.value.task] = end.value
                return
            gathered: list[Outcome | None] = [None] * len(jobs)
            if not jobs:
                on([])
            for index, job in enumerate(jobs):

                def reply(outcome: Outcome, index: int = index) -> None:
                    gathered[index] = outcome
                    complete = [entry for entry in gathered if entry is not None]
                    if len(complete) == len(gathered):
                        on(complete)

                self._queue.append((job, reply))

        on(None)

    def _turn(self) -> None:
        """Start what there is room for, hear what the workers say, end those that take too long."""
        while self._queue and len(self._running) < self.jobs:
            job, reply = self._queue.pop(0)
            mine, theirs = self._context.Pipe(duplex=False)
            process = self._context.Process(target=worker.work, args=(job, theirs), daemon=False)
            process.start()
            theirs.close()
            self._running.append(_Running(job, process, mine, time.monotonic(), Outcome(), reply))
        if not self._running:
            return
        connection.wait([run.channel for run in self._running], timeout=0.1)
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
            while run.channel.poll():
                self._take(run, json.loads(run.channel.recv_bytes()))
        except (EOFError, OSError, ValueError):
            return True
        return gone or run.done

    def _take(self, run: _Running, message: dict[str, Any]) -> None:
        run.last = time.monotonic()
        outcome = run.outcome
        if "started" in message:
            outcome.at = message["started"]
        elif "check" in message:
            result = check_from_json(message["check"])
            if result.check in run.job.checks:
                outcome.results[result.check] = result
                outcome.at = None if result.check == outcome.at else outcome.at
        elif "comparison" in message:
            outcome.comparisons.append(message["comparison"])
        elif "breach" in message:
            expected = "a module that leaves torch, pytest and the course as they are"
            outcome.lost = Verdict(
                Kind.FORBIDDEN_SHORTCUT,
                f"import exercises.{run.job.task.id.replace('/', '.')}",
                message["breach"],
                expected,
            )
            outcome.whole = run.done = True
        elif "broken" in message:
            outcome.lost = Verdict(
                Kind.CRASH, f"the tests of {run.job.task.id}", message["broken"], "a module that they can use"
            )
            outcome.whole = run.done = True
        elif "done" in message:
            run.done = True

    def _watch(self, run: _Running) -> None:
        """End a worker that outstays its limit or floods its output."""
        with contextlib.suppress(OSError):
            if run.job.output.stat().st_size > 2 * worker.OUTPUT_LIMIT:
                run.killed = "flood"
        if time.monotonic() - run.last > run.job.seconds + GRACE:
            run.killed = "timeout"
        if run.killed:
            _kill(run.process)

    def _finish(self, run: _Running) -> None:
        """Reap a worker that is over, and say why it was lost, if it was."""
        if not run.done:
            run.process.join(1.0)
        code = run.process.exitcode
        _kill(run.process)
        run.process.join()
        run.channel.close()
        outcome = run.outcome
        if not run.done:
            outcome.lost = _loss(run, code)
        outcome.results.setdefault("", CheckResult("", "", printed=worker.printed(run.job.output)))
        shutil.rmtree(run.job.scratch, ignore_errors=True)
        run.reply(outcome)

    def _stop(self) -> None:
        """End every worker that is still there: the grading was given up."""
        for run in self._running:
            _kill(run.process)
            run.process.join()
            shutil.rmtree(run.job.scratch, ignore_errors=True)
        for job, _ in self._queue:
            shutil.rmtree(job.scratch, ignore_errors=True)
        self._running.clear()
        self._queue.clear()


def _warm_up() -> None:
    """Import once what every worker needs; nothing here may run an operation that starts threads."""
    if "torch" in sys.modules:
        return
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # so that numpy starts none that a fork would lose
    gc.disable()  # collecting while torch is imported finds nothing
    from . import pytest_plugin  # noqa: F401

    gc.enable()
    gc.freeze()


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
    limit = f"{run.job.seconds:g} s"
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


def _not_reported(task: Task) -> Verdict:
    return Verdict(Kind.CRASH, f"the tests of {task.id}", "this check gave no result", "a result from every check")
