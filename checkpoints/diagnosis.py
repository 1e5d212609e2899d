"""Names the misconception behind a wrong answer.

A wrong variant of the solution is graded just as the learner's text was, on the same inputs. Where both fail the
same comparison with the same value, the variant's name is the diagnosis.
"""

import ast
from collections.abc import Mapping, Sequence
from pathlib import Path

from .misconceptions import Misconception
from .verdicts import CheckResult, Kind, Verdict

# Losing the process says nothing of the value, and what is still to do has none.
NAMEABLE = set(Kind) - {
    Kind.TODO,
    Kind.TIMEOUT,
    Kind.OUT_OF_MEMORY,
    Kind.CANNOT_IMPORT,
    Kind.FORBIDDEN_SHORTCUT,
}


def misconceptions_of(tests: Path) -> list[Misconception]:
    """The list ``MISCONCEPTIONS`` of a file of tests, without importing it."""
    for node in ast.parse(tests.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["MISCONCEPTIONS"]:
            assert isinstance(node.value, ast.List), f"{tests}: MISCONCEPTIONS must be a list"
            return [
                Misconception(*map(ast.literal_eval, entry.args))
                for entry in node.value.elts
                if isinstance(entry, ast.Call)
            ]
    return []


def is_worthwhile(results: Sequence[CheckResult]) -> bool:
    """Whether there is a verdict that a misconception could explain."""
    return any(_could_be_named(verdict) for result in results for verdict in result.verdicts)


def _could_be_named(verdict: Verdict) -> bool:
    return verdict.kind in NAMEABLE and verdict.evidence is not None


def explaining(results: Sequence[CheckResult], variants: Mapping[str, Sequence[CheckResult]]) -> list[str]:
    """The variants that explain at least one of the wrong comparisons."""
    return [variant for variant, theirs in variants.items() if _matches(results, theirs)]


def name(results: Sequence[CheckResult], variants: Mapping[str, Sequence[CheckResult]]) -> None:
    """Write into each verdict the name of the variant that explains it.

    Of several, that is the one that explains most; then the one that fails the fewest checks that the answer passes;
    then the one with the fewest wrong comparisons, for the others are wrong in some that the answer has right.
    """
    matches = {variant: _matches(results, theirs) for variant, theirs in variants.items()}
    right = {result.check for result in results if result.passed}
    against = {
        variant: sum(their.check in right and not their.passed for their in theirs)
        for variant, theirs in variants.items()
    }
    wrong = {variant: sum(len(their.verdicts) for their in theirs) for variant, theirs in variants.items()}
    order = sorted(matches, key=lambda variant: (-len(matches[variant]), against[variant], wrong[variant]))
    for result in results:
        for verdict in result.verdicts:
            place = (result.check, verdict.comparison)
            verdict.misconception = next((variant for variant in order if place in matches[variant]), "")


def _matches(mine: Sequence[CheckResult], theirs: Sequence[CheckResult]) -> set[tuple[str, int]]:
    """The comparisons at which both fail in the same way."""
    from .comparison import same_evidence

    other = {(result.check, verdict.comparison): verdict for result in theirs for verdict in result.verdicts}
    found = set()
    for result in mine:
        for verdict in result.verdicts:
            twin = other.get((result.check, verdict.comparison))
            if (
                twin is not None
                and _could_be_named(verdict)
                and twin.kind == verdict.kind
                and same_evidence(verdict.evidence, twin.evidence)
            ):
                found.add((result.check, verdict.comparison))
    return found
