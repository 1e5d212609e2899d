"""Grades tasks side by side, lends what has not passed, and names the misconceptions behind wrong answers.

The grader itself never imports the learner's code: that runs in workers, which can be lost. A worker that hangs,
exits or crashes costs the check it was at, and another one goes on with the next.
"""

import functools
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from . import ROOT, accidents, diagnosis, stubs, trees, worker
from .catalogue import Catalogue, Task, checks_of
from .pool import Outcome, Pool
from .verdicts import CheckResult, Kind, TaskResult, Verdict

TIMEOUTS = 6  # after so many checks of a task that took too long, the rest is not tried
IMPORT = 30.0  # seconds that the import of a task and pytest's start may take at least, on a busy machine
HURRY = 5  # after the first of them, the limit is this many times shorter (but not under two seconds)

Whose = Callable[[Task], trees.Source]
Sources = dict[str, trees.Source]
Steps = Generator[list[worker.Job], list[Outcome], None]  # yields jobs, gets their outcomes
VariantSteps = Generator[list[worker.Job], list[Outcome], dict[str, list[CheckResult]]]


@dataclass
class _Grading:
    """One task on its way through the grader."""

    task: Task
    sources: Sources = field(default_factory=dict)
    lent: list[str] = field(default_factory=list)
    checks: list[CheckResult] = field(default_factory=list)
    ran: bool = False  # all of them have run
    settled: bool = False  # what was lent is what had to be
    complete: bool = False  # and wrong answers have been diagnosed

    @property
    def passed(self) -> bool:
        return bool(self.checks) and all(check.passed for check in self.checks)


class Grader:
    """Grades tasks of a course.

    Args:
        course: the catalogue.
        seed: from which every input is drawn.
        whose: the text that is graded, task by task; the learner's unless something else is given.
        home: the checkout whose exercises are graded: this one, unless it is a submission. Tests and solutions are
            always this one's.
        passed: ids of the tasks whose text has passed before, as it is now: others are lent where they are needed.
        seconds: a limit for each check, in the place of the catalogue's.
        jobs: how many workers run at once.
        diagnose: whether wrong answers are compared with the misconceptions.
        lend_all: whether every earlier piece is lent, also where it is graded in the same run.
        gallery: a folder in which the figures that tasks draw are kept, by sprint; they are not kept if None.
        threads: that torch computes with in each worker; with one, sums come out in one order.
    """

    def __init__(
        self,
        course: Catalogue,
        seed: int,
        whose: Whose | None = None,
        passed: Iterable[str] = (),
        seconds: float | None = None,
        jobs: int | None = None,
        diagnose: bool = True,
        lend_all: bool = False,
        gallery: Path | None = None,
        threads: int = 1,
        home: Path = ROOT,
    ) -> None:
        self.course = course
        self.seed = seed
        self.passed = set(passed)
        self.seconds = seconds
        self.diagnose = diagnose
        self.lend_all = lend_all
        self.gallery = gallery
        self.threads = threads
        self.home = home
        self._whose = whose or functools.partial(trees.learners, home=home)
        self._texts: dict[str, trees.Source] = {}
        self._pool = Pool(jobs or max(2, min(8, os.cpu_count() or 2)))

    def source(self, task: Task) -> trees.Source:
        """The text that is graded, read once: a save in the meantime waits for the next grading."""
        if task.id not in self._texts:
            self._texts[task.id] = self._whose(task)
        return self._texts[task.id]

    def grade(self, tasks: Sequence[Task]) -> Iterator[TaskResult]:
        """Grade these tasks; yields each result as soon as it and those before it are there.

        All start at once, each on the assumption that the earlier pieces of this run will pass. Where one does not,
        what stands on it is graded anew, with that piece lent.
        """
        self._preload(tasks)
        gradings = {task.id: _Grading(task) for task in sorted(tasks, key=list(self.course.tasks()).index)}
        pending = [task.id for task in tasks]
        try:
            for grading in gradings.values():
                self._start(grading, gradings)
            while pending:
                self._pool.turn()
                for grading in gradings.values():
                    self._settle(grading, gradings)
                while pending and gradings[pending[0]].complete:
                    done = gradings[pending.pop(0)]
                    yield TaskResult(done.task.id, done.task.points, done.checks, done.lent)
        finally:
            self._pool.stop()

    def _preload(self, tasks: Iterable[Task]) -> None:
        """Nothing is imported for a stub: it gets no further than its `raise`."""
        begun = [task for task in tasks if self.source(task).text != stubs.generate(task)]
        self._pool.preload(module for task in begun for module in task.preload)

    def compare(self, task: Task) -> tuple[list[dict[str, Any]], Verdict | None]:
        """Run the task's workloads, the learner's code beside the solution's; and why that broke off, if it did."""
        self._preload([task])
        sources, _ = self._sources(task, {})
        outcomes: list[Outcome] = []
        job = replace(self._job(task, sources, ()), compare=True, seconds=self.seconds or 3 * task.seconds)
        self._pool.submit(job, outcomes.append)
        try:
            while not outcomes:
                self._pool.turn()
        finally:
            self._pool.stop()
        return outcomes[0].comparisons, outcomes[0].lost

    def _start(self, grading: _Grading, gradings: dict[str, _Grading]) -> None:
        grading.sources, grading.lent = self._sources(grading.task, gradings)
        grading.ran = False
        self._drive(self._run_checks(grading))

    def _settle(self, grading: _Grading, gradings: dict[str, _Grading]) -> None:
        """Once all earlier pieces are settled: grade anew if one is lent after all, else go on to the diagnosis."""
        if grading.settled or not grading.ran:
            return
        earlier = trees.dependencies(grading.task, self.course)
        if not all(gradings[other.id].settled for other in earlier if other.id in gradings):
            return
        if self._sources(grading.task, gradings)[1] != grading.lent:
            self._start(grading, gradings)
            return
        grading.settled = True
        self._drive(self._run_diagnosis(grading))

    def _sources(self, task: Task, gradings: dict[str, _Grading]) -> tuple[Sources, list[str]]:
        """Whose code stands for the task and for each earlier piece, and which of those are lent."""
        sources = {task.id: self.source(task)}
        lent = []
        for other in trees.dependencies(task, self.course):
            own = self._has_passed(gradings[other.id]) if other.id in gradings else other.id in self.passed
            own = own and not self.lend_all
            sources[other.id] = self.source(other) if own else trees.solutions(other)
            if not own:
                lent.append(other.id)
        return sources, lent

    def _has_passed(self, grading: _Grading) -> bool:
        """Whether a piece of this run has passed; while that is not known, whether it might."""
        if grading.ran:
            return grading.passed
        text = self.source(grading.task).text
        return text is not None and text != stubs.generate(grading.task)

    def _run_checks(self, grading: _Grading) -> Steps:
        """Run every check of a task, in as many workers as it takes."""
        task, titles = grading.task, checks_of(grading.task.tests())
        found: dict[str, CheckResult] = {}
        timeouts = 0
        while remaining := [check for check in titles if check not in found]:
            job = self._job(task, grading.sources, remaining)
            if self.gallery is not None:
                job = replace(job, gallery=str(self.gallery / task.sprint))
            if timeouts:
                job = replace(job, seconds=min(job.seconds, max(2.0, job.seconds / HURRY)))
            (outcome,) = yield [job]
            found |= outcome.results
            lost = outcome.lost or _not_reported(task)
            timeouts += lost.kind == Kind.TIMEOUT
            if outcome.at is not None and outcome.lost is not None:
                found[outcome.at] = CheckResult(outcome.at, titles[outcome.at], [lost], outcome.printed)
            nothing_new = outcome.at is None and not outcome.results
            ended = outcome.lost is None and not outcome.renewed
            if ended or outcome.whole or nothing_new or timeouts >= TIMEOUTS:
                for check in titles:
                    found.setdefault(check, CheckResult(check, titles[check], [lost]))
        grading.checks = [found[check] for check in titles]
        grading.ran = True

    def variants(
        self,
        task: Task,
        texts: Mapping[str, str] | None = None,
        checks: Sequence[str] | None = None,
        until_wrong: bool = False,
    ) -> dict[str, list[CheckResult]]:
        """What wrong texts give in the learner's place, check by check.

        Args:
            task: whose text is replaced.
            texts: the texts, by name; those of the task's misconceptions if None.
            checks: the checks to run, in this order; all if None.
            until_wrong: whether a text is done with at the first check that it fails.
        """
        self._preload([task])
        found: dict[str, list[CheckResult]] = {}
        known = _misconceptions(task) if texts is None else texts
        wanted = list(checks_of(task.tests())) if checks is None else checks

        def steps() -> Steps:
            found.update((yield from self._run_variants(task, self._sources(task, {})[0], wanted, known, until_wrong)))
            finished.append(True)

        finished: list[bool] = []
        self._drive(steps())
        while not finished:
            self._pool.turn()
        return found

    def _run_diagnosis(self, grading: _Grading) -> Steps:
        """Name the misconceptions behind what went wrong.

        Most of them have nothing to do with it. So all are run on the checks that failed, and on the others only those
        that explain something, where there are several to choose from.
        """
        if self.diagnose and diagnosis.is_worthwhile(grading.checks):
            task, sources = grading.task, grading.sources
            wrong = [check.check for check in grading.checks if not check.passed]
            right = [check.check for check in grading.checks if check.passed]
            known = _misconceptions(task)
            variants = yield from self._run_variants(task, sources, wrong, known)
            candidates = diagnosis.explaining(grading.checks, variants)
            if right and len(candidates) > 1:
                candidates_only = {name: known[name] for name in candidates}
                rest = yield from self._run_variants(task, sources, right, candidates_only)
                variants = {name: [*variants[name], *rest[name]] for name in candidates}
            diagnosis.name(grading.checks, variants)
        result = TaskResult(grading.task.id, grading.task.points, grading.checks)
        if result.untouched and grading.sources[grading.task.id].path == str(grading.task.exercise()):
            _tell_where_else(grading.checks, accidents.elsewhere(grading.task, self.course, self.home))
        grading.complete = True

    def _run_variants(
        self, task: Task, sources: Sources, checks: Sequence[str], texts: Mapping[str, str], until_wrong: bool = False
    ) -> VariantSteps:
        """Run checks on wrong texts: shared out among few workers, for these are our own."""
        found: dict[str, list[CheckResult]] = {}
        while remaining := [(name, text) for name, text in texts.items() if name not in found]:
            shares = [tuple(remaining[start :: self._pool.jobs]) for start in range(self._pool.jobs)]
            shares = [share for share in shares if share]
            outcomes = yield [
                replace(self._job(task, sources, checks), variants=share, until_wrong=until_wrong) for share in shares
            ]
            for share, outcome in zip(shares, outcomes, strict=True):
                found |= {name: outcome.variants[name] for name, _ in share if name in outcome.variants}
                if outcome.variant is not None or not outcome.variants:  # lost in one; those after it are run again
                    lost = CheckResult(outcome.at or "", "", [outcome.lost or _not_reported(task)])
                    found.setdefault(outcome.variant or share[0][0], []).append(lost)
        return {name: found[name] for name in texts}

    def _job(self, task: Task, sources: Sources, checks: Sequence[str]) -> worker.Job:
        seconds = self.seconds or task.seconds
        scratch = worker.new_scratch()
        starting = self.seconds or max(seconds, IMPORT)
        return worker.Job(
            self.course,
            task,
            self.seed,
            sources,
            tuple(checks),
            seconds,
            starting,
            scratch,
            home=self.home,
            threads=self.threads,
        )

    def _drive(self, steps: Steps, outcomes: list[Outcome] | None = None) -> None:
        """Take the next step, and hand over the jobs it asks for; their last outcome takes the step after."""
        try:
            jobs = next(steps) if outcomes is None else steps.send(outcomes)
        except StopIteration:
            return
        gathered: dict[int, Outcome] = {}

        def reply(index: int, outcome: Outcome) -> None:
            gathered[index] = outcome
            if len(gathered) == len(jobs):
                self._drive(steps, [gathered[index] for index in range(len(jobs))])

        for index, job in enumerate(jobs):
            self._pool.submit(job, functools.partial(reply, index))


def _tell_where_else(checks: Iterable[CheckResult], found: Mapping[str, str]) -> None:
    """Say, of what is still to do, that it stands in another file."""
    for check in checks:
        for verdict in check.verdicts:
            name = verdict.got.rpartition(": ")[2].partition(".")[0]
            if name in found:
                verdict.where = f"{found[name]} defines {name}: is it in the wrong file?"


def _misconceptions(task: Task) -> dict[str, str]:
    """The texts of a task's misconceptions, by their names."""
    solution = task.solution().read_text(encoding="utf-8")
    return {entry.name: entry.apply(solution) for entry in diagnosis.misconceptions_of(task.tests())}


def _not_reported(task: Task) -> Verdict:
    return Verdict(Kind.CRASH, f"the tests of {task.id}", "this check gave no result", "a result from every check")
