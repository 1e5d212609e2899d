"""The verbs: ``python -m checkpoints VERB``; nox's sessions call them."""

import argparse
import difflib
import math
import os
import secrets
import shutil
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from . import (
    ROOT,
    Problem,
    capstone,
    catalogue,
    corpus,
    gradebook,
    hunt,
    latest,
    record,
    redo,
    report,
    reports,
    stubs,
    trees,
    upgrade,
    watch,
)
from .catalogue import Catalogue, Sprint, Task
from .screen import Screen, points
from .verdicts import TaskResult

INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit status."""
    options = _parser().parse_args(arguments)
    screen = Screen()
    try:
        course = catalogue.load()
        return int(options.run(course, screen, options))
    except catalogue.CatalogueError as error:
        return screen.close(f"The catalogue is malformed: {error}", 2)
    except (catalogue.UnknownNameError, Problem, record.RecordError, capstone.CapstoneError) as error:
        return screen.close(str(error), 2)
    except KeyboardInterrupt:
        return screen.close("Interrupted; what had been graded is recorded.", INTERRUPTED)
    except BrokenPipeError:  # the reader of our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m checkpoints", description="Grade the kata and keep its record.")
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    def verb(name: str, run: object, description: str) -> argparse.ArgumentParser:
        made = verbs.add_parser(name, help=description, description=description)
        made.set_defaults(run=run)
        return made

    grade = verb("grade", _grade, "grade a sprint, or some of its tasks")
    grade.add_argument("sprint")
    grade.add_argument("task", nargs="*", help="grade these tasks alone")
    ladder = verb("ladder", _ladder, "grade the sprints in order, up to the first unfinished one")
    for made in (grade, ladder):
        made.add_argument("--seed", type=_seed, help="draw the inputs of an earlier run again")
        made.add_argument(
            "--seconds", type=_seconds, help="how long one check may run, in the place of the catalogue's limit"
        )
        made.add_argument("--json", type=Path, metavar="FILE", help="write the verdicts as JSON")
        made.add_argument("--junit", type=Path, metavar="FILE", help="write the verdicts as JUnit XML")
    verb("next", _next, "where to go on, and why")
    verb("progress", _progress, "the ladder with your points")
    for name, run, description in (
        ("hint", _hint, "the next rung of a task's hints"),
        ("compare", _compare, "your code beside the solution"),
        ("reset", _reset, "put the stub back and keep your text in a backup"),
    ):
        made = verb(name, run, description)
        made.add_argument("task")
        if name == "compare":
            made.add_argument(
                "--yes", action="store_true", help="show the solution of a task that is not passed without asking"
            )
    made = verb("capstone", _capstone, "all the finished pieces as one program: train a model, and let it write")
    made.add_argument("--preset", choices=list(capstone.PRESETS), default="standard", help="how large (standard)")
    made.add_argument("--data", metavar="PATH", help="a text file or a folder, in the place of the course's stories")
    made.add_argument("--minutes", type=_seconds, help="train for so long, in the place of the preset's steps")
    made.add_argument("--seed", type=_seed, default=0, help="another run of the same kind (0)")
    made.add_argument("--fresh", action="store_true", help="begin anew, where there is a run to go on with")
    made.add_argument(
        "--checkpoint", metavar="FOLDER", help="load this GPT-2 in the place of training one, and go on from a prompt"
    )
    made.add_argument("--prompt", default="", help="what --checkpoint goes on from")
    made.add_argument("--tokens", type=_count, default=100, help="how many tokens --checkpoint writes at most (100)")
    for module, description in (
        (watch, "grade each file as it is saved"),
        (report, "your progress as a page, to open in a browser"),
        (redo, "a passed task again, as a fresh stub in a place of its own"),
        (hunt, "tell a subtly wrong implementation from the right one, by a test of yours"),
        (upgrade, "bring the course up to date, and leave your work as it is"),
        (gradebook, "for teachers: grade many checkouts by this one's tests"),
    ):
        module.arguments(verb(module.__name__.rpartition(".")[2], module.run, description))
    made = verb("stubs", _stubs, "for maintainers: write the stubs anew from the solutions")
    made.add_argument("--check", action="store_true", help="only say which stubs are not what the generator makes")
    return parser


def _seed(text: str) -> int:
    value = int(text)
    if not 0 <= value < 2**31:
        raise argparse.ArgumentTypeError("must be from 0 to 2147483647")
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError("must be above 0")
    return value


def _grade(course: Catalogue, screen: Screen, options: argparse.Namespace) -> int:
    sprint = course.sprint(options.sprint)
    tasks = [sprint.task(name) for name in options.task] or list(sprint.tasks)
    run = _Run(course, screen, options)
    results = run.grade(sprint, tasks, whole=bool(options.task))
    run.write_reports()
    if options.task:
        return _close_tasks(screen, tasks, results)
    return screen.close(*run.closing(sprint, results))


def _close_tasks(screen: Screen, tasks: Sequence[Task], results: Sequence[TaskResult]) -> int:
    """For tasks graded alone: passed is when each of them passed."""
    earned, possible = sum(result.earned for result in results), sum(task.points for task in tasks)
    text = f"{points(earned)} of {possible} points"
    for task, result in zip(tasks, results, strict=True):
        if not result.passed:
            return screen.close(f"{text}. Next: edit exercises/{task.id}.py, then {task.command}", 1)
    return screen.close(f"{text}: passed. Next: nox -s next", 0)


def _ladder(course: Catalogue, screen: Screen, options: argparse.Namespace) -> int:
    run = _Run(course, screen, options)
    for sprint in course.sprints:
        results = run.grade(sprint, sprint.tasks, whole=False)
        text, status = run.closing(sprint, results)
        if status:
            run.write_reports()
            return screen.close(text, status)
    run.write_reports()
    return screen.close("Every checkpoint of the ladder is passed.", 0)


class _Run:
    """One grading: its seed, the record it writes to, what it has found."""

    def __init__(self, course: Catalogue, screen: Screen, options: argparse.Namespace) -> None:
        self.course = course
        self.screen = screen
        self.options = options
        self.seed = secrets.randbelow(10**6) if options.seed is None else options.seed
        self.record = record.Record.load()
        self.graded: list[tuple[Sprint, list[TaskResult]]] = []

    def grade(self, sprint: Sprint, tasks: Sequence[Task], whole: bool) -> list[TaskResult]:
        """Grade these tasks, show and record each result as it comes."""
        from .grader import Grader

        grader = Grader(
            self.course,
            self.seed,
            passed=self.record.passed_now(self.course),
            seconds=self.options.seconds,
            gallery=ROOT / "checkpoints" / "figures",
        )
        results: list[TaskResult] = []
        self.graded.append((sprint, results))
        self.screen.sprint(sprint, self.seed)
        found = grader.grade(tasks)
        for task in tasks:
            self.screen.waiting(f"  grading {task.id} (Ctrl-C ends it)")
            try:
                result = next(found)
            finally:
                self.screen.waiting()
            results.append(result)
            digest = record.digest(task, grader.source(task).text)
            self.record.note_result(task, result, digest)
            latest.save(result, self.seed, digest)
            self.screen.task(task, result, whole)
            if result.passed and self.record.note_explained(task):
                self.screen.note(task)
            self._save()
        if len(results) == len(sprint.tasks):
            earned = sum(result.earned for result in results)
            if earned >= sprint.points_to_pass:
                self.record.note_checkpoint(sprint.name)
                self._save()
            self.screen.verdict_on(sprint, earned)
        return results

    def _save(self) -> None:
        """Record what is known so far; a record that cannot be written does not stop the grading."""
        try:
            self.record.save()
        except record.RecordError as error:
            self.record.notices.append(f"not recorded: {error}")
        for notice in dict.fromkeys(self.record.notices):
            self.screen.notice(notice)
        self.record.notices.clear()

    def closing(self, sprint: Sprint, results: Sequence[TaskResult]) -> tuple[str, int]:
        """The last line of a sprint's verdict, and the exit status."""
        earned = sum(result.earned for result in results)
        passed = earned >= sprint.points_to_pass
        text = f"{points(earned)} of {sprint.points} points"
        unfinished = next((task for task, result in zip(sprint.tasks, results, strict=True) if not result.passed), None)
        if unfinished is None:
            after = _after(self.course, sprint)
            return f"{text}: sprint-{sprint.name} is complete. Next: {after}", 0
        first = "start with" if not earned else "go on with"
        steps = f"{first} exercises/{unfinished.id}.py (read {unfinished.reading}), then {unfinished.command}"
        return (f"{text}: passed, and there is more to earn: {steps}", 0) if passed else (f"{text}. Next: {steps}", 1)

    def write_reports(self) -> None:
        """Write the files that were asked for."""
        for path, write in ((self.options.json, reports.write_json), (self.options.junit, reports.write_junit)):
            if path is not None:
                try:
                    write(path, self.graded, self.seed)
                except OSError as error:
                    raise Problem(f"{path} cannot be written: {error}") from error


def _after(course: Catalogue, sprint: Sprint) -> str:
    index = course.sprints.index(sprint) + 1
    return course.sprints[index].command if index < len(course.sprints) else "nox -s progress (this was the last rung)"


def _load_record(screen: Screen) -> record.Record:
    loaded = record.Record.load()
    for notice in loaded.notices:
        screen.notice(notice)
    loaded.notices.clear()
    return loaded


def _next(course: Catalogue, screen: Screen, options: argparse.Namespace) -> int:
    known = _load_record(screen)
    now = known.passed_now(course)
    for task in course.tasks():
        if task.id in now:
            continue
        screen.line(f"{task.id}: {task.title}", "bold")
        screen.line(_why_next(task, known))
        screen.line(f"  read   {task.reading}")
        screen.line(f"  write  exercises/{task.id}.py")
        screen.line(f"  then   {task.command}")
        return 0
    screen.line("Every task is passed. nox -s progress shows the ladder.", "bold")
    return 0


def _why_next(task: Task, known: record.Record) -> str:
    entry = known.entry(task)
    if entry.passes:
        return "It was passed, but its text or its tests have changed since: grade it again."
    if entry.attempts:
        latest = entry.attempts[max(entry.attempts)]
        return (
            f"It is the first on the ladder that is not passed; you have {points(latest)} of its {task.points} points."
        )
    if stubs.is_untouched(task):
        return f"It is the first on the ladder that is not passed, and still untouched: {task.points} points."
    return f"It is the first on the ladder that is not passed, begun but not graded yet: {task.points} points."


def _progress(course: Catalogue, screen: Screen, options: argparse.Namespace) -> int:
    screen.progress(course, _load_record(screen))
    return _next(course, screen, options)


def _hint(course: Catalogue, screen: Screen, options: argparse.Namespace) -> int:
    task = course.task(options.task)
    known = _load_record(screen)
    read = len(known.entry(task).hints)
    for rung in range(1, min(read + 1, 3) + 1):
        style = "" if rung > read else "dim"
        screen.line(f"hint {rung} of 3: {task.hints[rung - 1]}", style)
    if read < 3:
        known.note_hint(task, read + 1)
        known.save()
    if read + 1 < 3:
        screen.line("(the same command gives the next one)", "dim")
    elif read < 3:
        screen.line(f"(that was the last; nox -s compare -- {task.id} shows the solution)", "dim")
    return 0


def _compare(course: Catalogue, screen: Screen, options: argparse.Namespace) -> int:
    from . import comparing
    from .grader import Grader

    task = course.task(options.task)
    known = _load_record(screen)
    if task.id not in known.passed_now(course):
        if not options.yes and not _agreed(f"{task.id} is not passed yet. Show its solution? [y/N] "):
            return screen.close(f"The solution stays hidden. Next: {task.command}, or nox -s hint -- {task.id}", 1)
        known.note_solution_seen(task)
        known.save()
    mine = trees.learners(task)
    comparing.show_diff(screen, task, mine.text or "", task.solution().read_text(encoding="utf-8"))
    screen.line()
    grader = Grader(course, secrets.randbelow(10**6), passed=known.passed_now(course))
    found, lost = grader.compare(task)
    if found:
        comparing.show_comparisons(screen, [comparing.Comparison(**entry) for entry in found])
    if lost is not None:
        screen.verdict(lost)
    screen.note(task)
    return 0


def _capstone(course: Catalogue, screen: Screen, options: argparse.Namespace) -> int:
    known = _load_record(screen)
    if options.checkpoint:
        return capstone.go_on(course, screen, known, options.checkpoint, options.prompt, options.tokens, options.seed)
    data = str(Path(options.data).resolve()) if options.data else ""
    if data and not Path(data).exists():
        raise Problem(f"{options.data}: no such file or folder")
    digest = capstone.digest_of(Path(data)) if data else corpus.edition()
    steps = capstone.PRESETS[options.preset].steps
    settings = capstone.Settings(options.preset, steps, options.seed, data, digest)
    try:
        return capstone.run(course, screen, known, settings, options.minutes, options.fresh)
    except KeyboardInterrupt:
        text = "Interrupted; the last checkpoint is kept, and the same command goes on from it."
        return screen.close(text, INTERRUPTED)


def _agreed(question: str) -> bool:
    if not sys.stdin or not sys.stdin.isatty():
        print(question + "(no terminal to answer at: give --yes)", flush=True)
        return False
    try:
        return input(question).strip().lower() in ("y", "yes")
    except EOFError:
        return False


def _reset(course: Catalogue, screen: Screen, options: argparse.Namespace) -> int:
    task = course.task(options.task)
    path = task.exercise()
    if path.exists() and stubs.is_untouched(task):
        screen.line(f"exercises/{task.id}.py is the stub already; nothing was changed.")
        return 0
    if path.exists():
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%f")
        backup = ROOT / "checkpoints" / "backups" / task.sprint / f"{task.name}-{stamp}.py"
        try:
            backup.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, backup)
        except OSError as error:
            raise Problem(f"your text could not be backed up ({error}); nothing was changed") from error
        screen.line(f"your text is kept as {backup.relative_to(ROOT).as_posix()}")
        path.unlink()
    stubs.write(task)
    screen.line(f"exercises/{task.id}.py is the stub again")
    return 0


def _stubs(course: Catalogue, screen: Screen, options: argparse.Namespace) -> int:
    stale = stubs.out_of_sync(course)
    unsolved = [task for task in stale if not task.solution().is_file()]
    for task in unsolved:
        screen.line(f"there is no solution yet, so no stub: solutions/{task.id}.py")
    stale = [task for task in stale if task not in unsolved]
    if options.check:
        for task in stale:
            mine = task.exercise().read_text(encoding="utf-8").splitlines() if task.exercise().exists() else []
            difference = difflib.unified_diff(
                mine, stubs.generate(task).splitlines(), f"exercises/{task.id}.py", "generated", lineterm="", n=1
            )
            screen.line("\n".join(difference))
        if stale or unsolved:
            text = f"{len(stale) + len(unsolved)} stubs are not what the generator makes: nox -s stubs"
            return screen.close(text, 1)
        screen.line("every stub is what the generator makes")
        return 0
    for task in stale:
        committed = _committed(task)
        written = stubs.write(task, previous=committed)
        screen.line(f"{'wrote' if written else 'left alone, it was worked on:'} exercises/{task.id}.py")
    return 0


def _committed(task: Task) -> str | None:
    """The exercise as git has it: a file that is still that text is no work of a learner's."""
    import subprocess

    found = subprocess.run(
        ["git", "show", f"HEAD:exercises/{task.id}.py"], cwd=ROOT, capture_output=True, encoding="utf-8", check=False
    )
    return found.stdout if found.returncode == 0 else None


if __name__ == "__main__":
    raise SystemExit(main())
