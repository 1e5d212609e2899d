"""What a learner sees: results, the ladder, hints, in the terminal's width and with its colours."""

import os
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from .catalogue import Catalogue, Sprint, Task
from .record import Record
from .verdicts import CheckResult, Kind, TaskResult, Verdict, labelled

_COLOURS = {Kind.TODO: "yellow", Kind.FORBIDDEN_SHORTCUT: "magenta", Kind.TIMEOUT: "magenta"}
_SHOWN_IN_SPRINT = 2  # of a task's groups of failing checks, when the whole sprint is graded
_SHOWN_VERDICTS = 3  # of one check


def make_console() -> Console:
    """A console that survives any terminal: an encoding that lacks a character shows another in its place."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    return Console(highlight=False, soft_wrap=False)


class Screen:
    """Writes to the learner's terminal."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or make_console()
        self.plain = not (self.console.encoding or "").lower().startswith("utf")

    def close(self, text: str, status: int) -> int:
        """Say the last line: through nox, whose own message would otherwise come after it, or here."""
        closing = os.environ.get("CHECKPOINTS_CLOSING")
        if closing and status:
            Path(closing).write_text(text, encoding="utf-8")
        else:
            self.line(text, "bold")
        return status

    def line(self, text: str = "", style: str = "") -> None:
        """One line or paragraph; square brackets are text."""
        self.console.print(escape(text), style=style)

    def notice(self, text: str) -> None:
        """Something that the learner should know besides."""
        self.console.print(escape(text), style="yellow")

    def waiting(self, text: str = "") -> None:
        """A line that the next one replaces, on a terminal that can; it takes no thread, which a fork would lose."""
        if self.console.is_terminal and not self.console.is_dumb_terminal:
            self.console.file.write("\r\x1b[2K" + text[: self.console.width - 1])
            self.console.file.flush()

    def table(self, rows: Mapping[str, str]) -> None:
        """Names and what is to be said of them."""
        table = Table.grid(padding=(0, 2))
        for name, value in rows.items():
            table.add_row(f"  [bold]{escape(name)}[/]", escape(value))
        self.console.print(table)

    def stream(self, texts: Iterable[str]) -> str:
        """A text as it grows, each time given as a whole; returns it when it is complete."""
        text = ""
        for longer in texts:
            self.console.print(escape(longer.removeprefix(text)), end="", soft_wrap=True)
            text = longer
        self.console.print()
        return text

    def mark(self, good: bool, started: bool = True) -> str:
        """A sign for passed, begun and untouched."""
        if good:
            return "[green]+[/]" if self.plain else "[green]✓[/]"
        if started:
            return "[red]x[/]" if self.plain else "[red]✗[/]"
        return "[dim].[/]" if self.plain else "[dim]·[/]"

    def sprint(self, sprint: Sprint, seed: int) -> None:
        """The heading of a sprint."""
        self.console.print(f"[bold]sprint-{sprint.name}[/]: {escape(sprint.title)}   [dim]seed {seed}[/]")

    def task(self, task: Task, result: TaskResult, whole: bool) -> None:
        """One task's result; `whole` shows every failing check of it."""
        started = not result.untouched
        state = "TODO" if result.untouched else f"{result.passed_checks} of {len(result.checks)} checks"
        name = task.id.ljust(max(32, len(task.id)))
        self.console.print(
            f"  {self.mark(result.passed, started)} {name} {points(result.earned):>5} of {task.points:<3}  {state}"
        )
        if result.lent and started:
            lent = f"{_shortened(result.lent)} (from the solutions: not passed yet, or changed since)"
            self._labelled("lent:", lent, "dim")
        figures = list(dict.fromkeys(figure for check in result.checks for figure in check.figures))
        if figures:
            self._labelled("drawn:", ", ".join(figures), "dim")
        if result.passed:
            return
        if result.untouched:
            if whole:
                self._todo(task, result)
            return
        groups = _grouped(result.checks)
        shown = groups if whole else groups[:_SHOWN_IN_SPRINT]
        for group in shown:
            self._group(group)
        self.console.print()
        for label, body in (("read", task.reading), ("hint", f"nox -s hint -- {task.id}")):
            self._labelled(label, body, "dim")
        if len(shown) < len(groups):
            more = sum(len(group) for group in groups[len(shown) :])
            self._labelled("more", f"{more} more failing checks: {task.command}", "dim")
        self.console.print()

    def note(self, task: Task) -> None:
        """What is to be said of a task once it has passed."""
        self.console.print()
        for label, body in zip(("idea", "solution", "question"), task.note, strict=True):
            self._labelled(label, body)
        self.console.print()

    def _todo(self, task: Task, result: TaskResult) -> None:
        self.console.print()
        self.line(f"    {task.title}. The checks:")
        for check in result.checks:
            self.line(f"      - {check.title}", "dim")
        wheres = dict.fromkeys(verdict.where for check in result.checks for verdict in check.verdicts)
        for where in wheres:
            if "wrong file" in where:
                self._labelled("where", where)
        self._labelled("read", task.reading)
        self._labelled("write", f"exercises/{task.id}.py")
        self._labelled("next", task.command)

    def _group(self, group: Sequence[CheckResult]) -> None:
        """One check, or several that fail for one and the same reason."""
        first = group[0]
        self.console.print()
        if len(group) == 1:
            self.console.print(f"    [bold]{escape(first.title)}[/]")
        else:
            self.console.print(f"    [bold]{len(group)} checks[/] [dim](the first: {escape(first.title)})[/]")
        for verdict in first.verdicts[:_SHOWN_VERDICTS]:
            self.verdict(verdict)
        if len(first.verdicts) > _SHOWN_VERDICTS:
            self.line(f"    and {len(first.verdicts) - _SHOWN_VERDICTS} more in this check", "dim")
        if first.printed:
            self._labelled("printed", first.printed, "dim")

    def verdict(self, verdict: Verdict) -> None:
        """One thing that is wrong."""
        self.console.print(f"    [{_COLOURS.get(verdict.kind, 'red')}]{verdict.kind}[/]")
        for label, body in verdict.lines():
            self._labelled(label, body, "bold" if label == "diagnosis" else "")

    def _labelled(self, label: str, body: str, style: str = "") -> None:
        width = min(self.console.width, 110) - 4
        for line in labelled(label, body, width):
            self.console.print("  " + escape(line), style=style, soft_wrap=True)

    def verdict_on(self, sprint: Sprint, earned: float) -> None:
        """The sprint's sum."""
        passed = earned >= sprint.points_to_pass
        word = "[green]passed[/]" if passed else "[red]not passed yet[/]"
        need = points(sprint.points_to_pass)
        self.console.print(
            f"\ncheckpoint {sprint.name}: {points(earned)} of {sprint.points} points, {word} (at {need})"
        )

    def progress(self, course: Catalogue, record: Record) -> None:
        """The ladder with points, bars and what has changed since."""
        now = record.passed_now(course)
        total = 0.0
        for sprint in course.sprints:
            earned = sum(record.entry(task).best for task in sprint.tasks)
            total += earned
            reached = (
                f"checkpoint passed {day(record.checkpoints[sprint.name])}" if sprint.name in record.checkpoints else ""
            )
            self.console.print(
                f"[bold]sprint-{sprint.name}[/]  {self._bar(earned / sprint.points)}"
                f"  {points(earned)} of {sprint.points}   [green]{reached}[/]"
            )
            table = Table.grid(padding=(0, 2))
            for task in sprint.tasks:
                table.add_row(*self._row(task, record, now))
            self.console.print(table)
        everything = sum(sprint.points for sprint in course.sprints)
        self.console.print(f"\n[bold]{points(total)} of {everything} points[/]")

    def _row(self, task: Task, record: Record, now: set[str]) -> list[str]:
        entry = record.entry(task)
        notes = []
        if entry.passes:
            notes.append(
                f"passed {day(min(entry.passes.values()))}" + ("" if task.id in now else ", [yellow]changed since[/]")
            )
        elif entry.attempts:
            notes.append(f"{len(entry.attempts)} attempt" + "s" * (len(entry.attempts) != 1))
        if entry.hints:
            notes.append(f"{len(entry.hints)} hint" + "s" * (len(entry.hints) != 1))
        if entry.solution_seen:
            notes.append("solution seen")
        return [
            f"  {self.mark(bool(entry.passes), bool(entry.attempts))}",
            escape(task.name),
            self._bar(entry.best / task.points, 10),
            f"{points(entry.best)} of {task.points}",
            "; ".join(notes),
        ]

    def _bar(self, share: float, width: int = 20) -> str:
        full = min(width, int(share * width + 1e-9))
        one, none = ("#", "-") if self.plain else ("█", "░")
        return f"[green]{one * full}[/][dim]{none * (width - full)}[/]"


def _grouped(checks: Sequence[CheckResult]) -> list[list[CheckResult]]:
    """The failing checks, those with one cause together; what is still to do comes last."""
    groups: dict[tuple[str, ...], list[CheckResult]] = {}
    for check in checks:
        if check.passed:
            continue
        first = check.verdicts[0]
        if first.kind == Kind.TODO:
            key: tuple[str, ...] = (Kind.TODO, first.got)
        elif first.kind == Kind.TIMEOUT:  # the limits may differ
            key = (Kind.TIMEOUT, first.where)
        elif first.kind in (Kind.CANNOT_IMPORT, Kind.TIMEOUT, Kind.OUT_OF_MEMORY, Kind.CRASH, Kind.FORBIDDEN_SHORTCUT):
            key = (first.kind, first.got, first.where)
        else:
            key = (check.check,)
        groups.setdefault(key, []).append(check)
    return sorted(groups.values(), key=lambda group: group[0].verdicts[0].kind == Kind.TODO)


def _shortened(names: Sequence[str]) -> str:
    """Ids of tasks; where there are many, of a sprint that has several of them only their number."""
    if len(names) <= 6:
        return ", ".join(names)
    sprints = Counter(name.split("/")[0] for name in names)
    parts = [f"{count} of {sprint}" for sprint, count in sprints.items() if count > 1]
    return ", ".join(parts + [name for name in names if sprints[name.split("/")[0]] == 1])


def points(value: float) -> str:
    """Points without a needless decimal."""
    return f"{value:.1f}".removesuffix(".0")


def day(when: str) -> str:
    """The date of a time stamp."""
    return when[:10]
