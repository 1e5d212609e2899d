"""What the grader says: the kinds of verdict, and the form they are written in."""

import textwrap
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any


class Kind(StrEnum):
    """Every kind of verdict there is."""

    TODO = "TODO"
    WRONG_SHAPE = "WRONG SHAPE"
    WRONG_DTYPE = "WRONG DTYPE"
    WRONG_VALUE = "WRONG VALUE"
    NO_GRADIENT = "NO GRADIENT"
    CHANGED_ITS_INPUT = "CHANGED ITS INPUT"
    FORBIDDEN_SHORTCUT = "FORBIDDEN SHORTCUT"
    DID_NOT_RAISE = "DID NOT RAISE"
    TIMEOUT = "TIMEOUT"
    OUT_OF_MEMORY = "OUT OF MEMORY"
    CRASH = "CRASH"
    CANNOT_IMPORT = "CANNOT IMPORT"


@dataclass
class Verdict:
    """One thing that is wrong: the call, what came of it, what should have, and where."""

    kind: Kind
    call: str
    got: str
    expected: str
    where: str = ""  # the worst element, or the line of the learner's code
    divergence: str = ""  # of a composed module: the first of its parts that differs
    misconception: str = ""  # the named misconception that gives exactly this answer
    comparison: int = 0  # which comparison of its check this was; diagnosis matches on it
    evidence: Any = None  # what was got, in a form that can be compared with what a misconception gives

    def lines(self) -> list[tuple[str, str]]:
        """Labels and texts, in the order in which they are shown."""
        rows = [("call", self.call), ("got", self.got), ("expected", self.expected)]
        if self.where:
            rows.append(("where", self.where))
        if self.divergence:
            rows.append(("first", self.divergence))
        if self.misconception:
            rows.append(("diagnosis", f"equals {self.misconception}"))
        return rows

    def text(self, width: int = 100) -> str:
        """The verdict as plain text."""
        parts = [str(self.kind)]
        for label, body in self.lines():
            parts += labelled(label, body, width)
        return "\n".join(parts)


def labelled(label: str, body: str, width: int) -> list[str]:
    """``label  body`` as lines, wrapped under the body's first column; line breaks in the body stay."""
    lead = f"  {label:<9} "
    lines: list[str] = []
    for paragraph in body.splitlines() or [""]:
        lines += textwrap.wrap(
            paragraph,
            max(width, len(lead) + 20),
            initial_indent=lead,
            subsequent_indent=" " * len(lead),
            break_long_words=True,
            break_on_hyphens=False,
            replace_whitespace=False,
        ) or [lead.rstrip()]
        lead = " " * len(lead)
    return lines


@dataclass
class CheckResult:
    """What came of one check: one test function of a task."""

    check: str
    title: str
    verdicts: list[Verdict] = field(default_factory=list)
    printed: str = ""  # the beginning of what the learner's code printed
    seconds: float = 0.0
    figures: list[str] = field(default_factory=list)  # files of figures that it kept for the learner to look at

    @property
    def passed(self) -> bool:
        """Whether nothing was wrong."""
        return not self.verdicts


@dataclass
class TaskResult:
    """What came of grading one task."""

    task: str
    points: int
    checks: list[CheckResult]
    lent: list[str] = field(default_factory=list)  # ids of the pieces that came from the solutions

    @property
    def passed_checks(self) -> int:
        """How many checks passed."""
        return sum(check.passed for check in self.checks)

    @property
    def earned(self) -> float:
        """The points earned, in tenths: the share of the checks that passed."""
        if not self.checks:  # zero checks run is a failure
            return 0.0
        return round(self.points * self.passed_checks / len(self.checks), 1)

    @property
    def passed(self) -> bool:
        """Whether everything passed."""
        return bool(self.checks) and self.passed_checks == len(self.checks)

    @property
    def untouched(self) -> bool:
        """Whether every check found only what is still to be written."""
        kinds = {verdict.kind for check in self.checks for verdict in check.verdicts}
        return not self.passed_checks and kinds == {Kind.TODO}


def check_to_json(check: CheckResult) -> dict[str, Any]:
    """The check's result as plain data, for the channel from the worker."""
    return asdict(check)


def check_from_json(data: dict[str, Any]) -> CheckResult:
    """The inverse of `check_to_json`."""
    verdicts = [Verdict(**{**verdict, "kind": Kind(verdict["kind"])}) for verdict in data["verdicts"]]
    return CheckResult(**{**data, "verdicts": verdicts})
