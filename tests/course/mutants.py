"""Grades the mutants of the solutions: ``nox -s mutants [-- SPRINT or TASK ...]``.

Each mutant of `mutation` stands in the learner's place until a check fails. One that passes all of them is tried with
other inputs; one that passes still must be known, with the reason why it is as right as the solution, to
``equivalents/SPRINT.toml``. What is neither killed nor known has survived, and the run fails.
"""

import argparse
import secrets
import sys
import tomllib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from checkpoints import catalogue
from checkpoints.catalogue import Catalogue, Task
from checkpoints.grader import Grader
from checkpoints.verdicts import CheckResult, Kind

from .conftest import solution_of
from .mutation import Mutant, mutants_of

EQUIVALENTS = Path(__file__).parent / "equivalents"
ROUNDS = 2  # one that is known as equivalent is tried with other inputs, so many times in all
MORE_ROUNDS = 8  # and one that is not, for whether it shows may depend on the inputs
PATIENCE = 10  # times the slowest check of the solution: one that takes longer will not end
LEAST = 5.0  # seconds


def equivalents_of(task: Task) -> dict[str, str]:
    """The mutants of a task that are as right as its solution, each with the reason."""
    path = EQUIVALENTS / f"{task.sprint}.toml"
    known: dict[str, str] = tomllib.loads(path.read_text(encoding="utf-8")).get(task.name, {}) if path.exists() else {}
    return known


@dataclass
class Outcome:
    """What came of the mutants of one task."""

    task: Task
    made: int = 0
    killed: int = 0
    lost: int = 0  # of them: the process ended or did not
    equivalent: int = 0
    survived: list[Mutant] = field(default_factory=list)
    mistaken: list[str] = field(default_factory=list)  # called equivalent, but killed, or not a mutant at all


def run(course: Catalogue, task: Task, seed: int, words: str = "", jobs: int | None = None) -> Outcome:
    """Grade the mutants of a task; of those only that have `words` in their id, if any are given."""
    known = equivalents_of(task)
    text = task.solution().read_text(encoding="utf-8")
    mutants = {each.id: each for each in mutants_of(text) if words in each.id}
    outcome = Outcome(task, len(mutants))
    outcome.mistaken = [name for name in known if name not in mutants and not words]
    (solution,) = Grader(course, seed, solution_of, diagnose=False, lend_all=True).grade([task])
    (itself,) = Grader(course, seed, solution_of, lend_all=True).variants(task, {"the solution itself": text}).values()
    if not solution.passed or _failed(itself):
        raise SystemExit(f"{task.id}: its solution does not pass (seed {seed}), so nothing can be told of mutants")
    quick_first = [check.check for check in sorted(solution.checks, key=lambda check: check.seconds)]
    limit = max(LEAST, PATIENCE * max(check.seconds for check in solution.checks))
    living = dict(mutants)
    for index in range(MORE_ROUNDS):
        texts = {name: mutant.text for name, mutant in living.items() if index < ROUNDS or name not in known}
        grader = Grader(course, seed + index, solution_of, seconds=limit, lend_all=True, jobs=jobs)
        results = grader.variants(task, texts, quick_first, until_wrong=True)
        doubtful = [
            name for name, checks in results.items() if _was_lost(checks) or (name in known and _failed(checks))
        ]
        for name in doubtful:
            # By a busy machine, or by what an earlier one left in the process? Alone in a new one it is seen.
            grader = Grader(course, seed + index, solution_of, seconds=limit, lend_all=True, jobs=1)
            results |= grader.variants(task, {name: texts[name]}, quick_first, until_wrong=True)
        for name, checks in results.items():
            if _failed(checks):
                outcome.killed += 1
                outcome.lost += _was_lost(checks)
                outcome.mistaken += [name] if name in known else []
                del living[name]
    outcome.equivalent = sum(name in known for name in living)
    outcome.survived = [mutant for name, mutant in living.items() if name not in known]
    return outcome


def _failed(checks: Sequence[CheckResult]) -> bool:
    return any(not check.passed for check in checks)


def _was_lost(checks: Sequence[CheckResult]) -> bool:
    kinds = {verdict.kind for check in checks for verdict in check.verdicts}
    return Kind.TIMEOUT in kinds or Kind.OUT_OF_MEMORY in kinds


def table(course: Catalogue, outcomes: Sequence[Outcome]) -> tuple[Table, bool]:
    """The figures by sprint, and whether all is well."""
    shown = Table("sprint")
    for name in ("mutants", "killed", "by time", "equivalent", "survived", "%"):
        shown.add_column(name, justify="right")
    total: Counter[str] = Counter()
    for sprint in course.sprints:
        sums: Counter[str] = Counter()
        for outcome in outcomes:
            if outcome.task.sprint == sprint.name:
                sums.update(made=outcome.made, killed=outcome.killed, lost=outcome.lost)
                sums.update(equivalent=outcome.equivalent, survived=len(outcome.survived))
        if sums["made"]:
            shown.add_row(sprint.name, *_row(sums))
        total.update(sums)
    shown.add_section()
    shown.add_row("all", *_row(total))
    return shown, not any(outcome.survived or outcome.mistaken for outcome in outcomes)


def share(sums: Counter[str]) -> float:
    """Per cent killed of those that are not equivalent."""
    return 100 * sums["killed"] / max(sums["made"] - sums["equivalent"], 1)


def _row(sums: Counter[str]) -> list[str]:
    return [*(f"{sums[name]:,}" for name in ("made", "killed", "lost", "equivalent", "survived")), f"{share(sums):.1f}"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the mutants of the tasks asked for; returns the exit status."""
    parser = argparse.ArgumentParser(prog="nox -s mutants --", description="Grade the mutants of the solutions.")
    parser.add_argument("what", nargs="*", help="sprints or tasks (sprint/name); all if none is given")
    parser.add_argument("--words", default="", help="only mutants that have this in their id")
    parser.add_argument("--seed", type=int, help="that the inputs are drawn from")
    parser.add_argument("--jobs", type=int, help="processes side by side")
    options = parser.parse_args(arguments)
    course = catalogue.load()
    tasks = [task for task in course.tasks() if not options.what or {task.id, task.sprint} & set(options.what)]
    seed = secrets.randbelow(10**6) if options.seed is None else options.seed
    console = Console()
    outcomes = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("mutants", total=len(tasks))
        for task in tasks:
            progress.update(bar, description=f"mutants of {task.id}")
            outcomes.append(outcome := run(course, task, seed, options.words, options.jobs))
            progress.advance(bar)
            _tell(console, outcome)
    shown, well = table(course, outcomes)
    console.print(shown)
    console.print(f"seed {seed}")
    return 0 if well else 1


def _tell(console: Console, outcome: Outcome) -> None:
    lines = [f"{outcome.task.id}: {outcome.killed} of {outcome.made} killed, {outcome.equivalent} equivalent"]
    for mutant in outcome.survived:
        lines += [f"  survived, line {mutant.line} ({mutant.rule})", f"    {mutant.id}"]
    for name in outcome.mistaken:
        lines += ["  listed as equivalent, but killed or not there", f"    {name}"]
    console.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
