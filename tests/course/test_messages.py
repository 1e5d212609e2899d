"""What a learner reads: each kind of verdict in words, with the call, what was got, what was expected, and where."""

import io
import re
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

import numpy
import pytest
import torch
from rich.console import Console

from checkpoints.catalogue import Catalogue
from checkpoints.checks import _names
from checkpoints.comparison import describe, difference, evidence, same_evidence
from checkpoints.crashes import first_line
from checkpoints.screen import Screen
from checkpoints.verdicts import CheckResult, Kind, TaskResult, Verdict

from .conftest import assert_well_formed, solution_with

SOFTMAX = "def masked_softmax(scores, mask=None):\n"
RIGHT = "    mask = torch.ones_like(scores, dtype=torch.bool) if mask is None else mask\n    weights = scores.masked_fill(~mask, -torch.inf).softmax(-1).masked_fill(~mask, 0)\n"

# what the learner wrote: (kind, words in what was got, words in what was expected)
MESSAGES = {
    SOFTMAX + RIGHT: (Kind.WRONG_VALUE, "None: is a `return` missing?", "tensor("),
    SOFTMAX + RIGHT + "    return weights.detach().numpy()": (
        Kind.WRONG_VALUE,
        "a numpy array, not a tensor",
        "tensor(",
    ),
    SOFTMAX + RIGHT + "    return weights, mask": (Kind.WRONG_VALUE, "a tuple of 2, not one tensor", "tensor("),
    SOFTMAX + RIGHT + "    return weights[..., :1]": (Kind.WRONG_SHAPE, "shape (2, 1)", "shape (2, 2)"),
    SOFTMAX + RIGHT + "    return weights.float().half()": (Kind.WRONG_DTYPE, "float16 (2, 2)", "float32"),
    SOFTMAX + RIGHT + "    return weights * 1.5": (
        Kind.WRONG_VALUE,
        "[[0.375, 1.125], [1.5, 0]]",
        "[[0.25, 0.75], [1, 0]]",
    ),
    SOFTMAX + RIGHT + "    return weights.detach()": (Kind.NO_GRADIENT, "the graph is cut", "gradients for scores"),
    SOFTMAX + "    scores.data += 1\n" + RIGHT + "    return weights": (
        Kind.CHANGED_ITS_INPUT,
        "argument 1 was changed in place",
        "argument 1 as it was",
    ),
    SOFTMAX + "    scores[:] = 0\n    return scores": (Kind.CHANGED_ITS_INPUT, "in place", "as it was"),
    SOFTMAX + "    return scores @ mask": (Kind.CRASH, "RuntimeError: expected", "a result"),
    SOFTMAX + "    return score": (Kind.CRASH, "NameError: name 'score' is not defined", "a result"),
    "def masked_softmax(scores):\n    return scores": (
        Kind.CRASH,
        "takes 1 positional argument but 2 were given",
        "the signature of the stub: masked_softmax(scores, mask=None)",
    ),
    "def causal_mask(length, *, past=0, device=None):\n    return torch.ones(abs(length), abs(past) + abs(length)).bool().tril(past)": (
        Kind.DID_NOT_RAISE,
        "no error: it returned tensor([[True]])",
        "a ValueError that names length and -1",
    ),
    "def padding_mask(lengths, size=None):\n    assert lengths.dim() == 1 and lengths.min() >= 0\n    raise ValueError": (
        Kind.DID_NOT_RAISE,
        "AssertionError: no message",
        "a ValueError that names -1",
    ),
}


@pytest.mark.parametrize("code", MESSAGES)
def test_a_message(code: str, course: Catalogue, grade: Callable[..., list[TaskResult]]) -> None:
    kind, got, expected = MESSAGES[code]
    task = course.task("attention/masking")
    (result,) = grade([task.id], {task.id: solution_with(task, code)})
    verdicts = [verdict for check in result.checks for verdict in check.verdicts]
    found = [
        verdict for verdict in verdicts if verdict.kind == kind and got in verdict.got and expected in verdict.expected
    ]
    assert found, [verdict.text() for verdict in verdicts]
    for verdict in verdicts:
        assert_well_formed(verdict)


def test_what_was_printed_is_shown(course: Catalogue, grade: Callable[..., list[TaskResult]]) -> None:
    task = course.task("attention/masking")
    (result,) = grade(
        [task.id], {task.id: solution_with(task, "def combine_masks(*masks):\n    print('masks:', len(masks))")}
    )
    printed = {check.check: check.printed for check in result.checks}
    assert printed["test_combined_refuses"] == "masks: 2"
    assert printed["test_causal_by_hand"] == ""


def test_the_worst_element_is_named() -> None:
    expected = torch.zeros(4, 5)
    got = expected.clone()
    got[1, 2], got[3, 0] = 0.5, -2.0
    found = difference(got, expected)
    assert found is not None
    assert (found.got, found.expected) == ("-2 at [3, 0] of (4, 5)", "0 at [3, 0]")
    assert found.where == "2 of 20 elements differ, the worst at [3, 0] by 2; tolerance 1e-05 + 1e-05 * |expected|"


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_is_the_worst(bad: float) -> None:
    expected = torch.full((3, 4), 5.0)
    got = expected.clone()
    got[0, 0], got[2, 1] = 1e30, bad
    found = difference(got, expected)
    assert found is not None
    assert found.got.startswith(str(bad))
    assert "at [2, 1]" in found.got


class Pair(NamedTuple):
    x: int
    y: int


class Letter(StrEnum):
    B = "b"


@pytest.mark.parametrize(
    ("got", "expected", "same"),
    [
        (torch.tensor([1.0]), torch.tensor([1.0 + 5e-6]), True),
        (torch.tensor([1.0]), torch.tensor([1.0 + 5e-5]), False),
        (torch.tensor([1.0], dtype=torch.float64), torch.tensor([1.0 + 1e-8], dtype=torch.float64), False),
        (torch.tensor([1]), torch.tensor([2]), False),
        (torch.tensor(float("nan")), torch.tensor(float("nan")), True),
        (torch.zeros(0, 3), torch.zeros(0, 3), True),
        (torch.zeros(0, 3), torch.zeros(0, 4), False),
        (3, 3, True),
        (3, 3.0, True),
        (True, 1, False),
        (0.1 + 0.2, 0.3, True),
        ("a", "b", False),
        ([1, (2.0, "x")], [1, (2.0, "x")], True),
        ((1, 2), [1, 2], False),
        (OrderedDict(a=1), {"a": 1}, True),
        (OrderedDict(a=1), {"a": 2}, False),
        (Pair(1, 2), (1, 2), True),
        (Pair(1, 3), (1, 2), False),
        (numpy.float64(0.5), 0.5, True),
        (Letter.B, "b", True),
        (True, 1.0, False),
        ({"a": 1}, {"a": 2}, False),
        (None, None, True),
    ],
)
def test_what_counts_as_equal(got: object, expected: object, same: bool) -> None:
    assert (difference(got, expected) is None) == same


@pytest.mark.parametrize(
    ("message", "word", "named"),
    [
        ("got shape (4, 2)", "(4, 2)", True),
        ("got torch.Size([4, 2])", "(4, 2)", True),
        ("got [3]", "(3,)", True),
        ("got (4, 20)", "(4, 2)", False),
        ("Length is -1", "length", True),
        ("it is -1", "length|-1", True),
    ],
)
def test_what_an_error_names(message: str, word: str, named: bool) -> None:
    assert _names(message, [word]) == named


def test_large_values_are_described_not_dumped() -> None:
    assert describe(torch.zeros(3, 4)) == "a tensor float32 (3, 4)"
    assert describe(torch.tensor([[True, False]])) == "tensor([[True, False]]) bool (1, 2)"
    assert describe([0] * 100) == "a list of 100"
    assert len(describe("x" * 10_000)) < 120


def test_dataclasses_are_described_by_what_is_not_default() -> None:
    @dataclass(frozen=True)
    class Config:
        width: int
        norm: str = "layer"
        bias: bool = True

    assert describe(Config(3)) == "Config(width=3)"
    assert describe(Config(3, bias=False)) == "Config(width=3, bias=False)"
    assert describe(Config(3, norm=1)) == "Config(width=3, norm=1)"  # type: ignore[arg-type]


def test_evidence_tells_answers_apart() -> None:
    one = torch.linspace(0, 1, 7)
    assert same_evidence(evidence(one), evidence(one + 1e-6))
    assert not same_evidence(evidence(one), evidence(one + 1e-2))
    assert not same_evidence(evidence(one), evidence(one.double()))
    assert not same_evidence(evidence(one), evidence(one[None]))
    assert not same_evidence(evidence(True), evidence(1))
    assert same_evidence(evidence((1, [one], None)), evidence((1, [one], None)))


def _shown(result: TaskResult, course: Catalogue, width: int, whole: bool) -> str:
    stream = io.StringIO()
    Screen(Console(file=stream, width=width, highlight=False)).task(course.task(result.task), result, whole)
    return stream.getvalue()


def test_one_cause_is_shown_once(course: Catalogue) -> None:
    """Fourteen checks with one syntax error are one message, not fourteen."""
    verdict = Verdict(
        Kind.CANNOT_IMPORT, "causal_mask(3)", "SyntaxError: oops", "a module", "exercises/attention/masking.py:3"
    )
    result = TaskResult(
        "attention/masking", 10, [CheckResult(f"test_{n}", f"Title {n}.", [verdict]) for n in range(14)]
    )
    text = _shown(result, course, 100, whole=True)
    assert text.count("SyntaxError") == 1
    assert "14 checks" in text


def test_square_brackets_are_text(course: Catalogue) -> None:
    """What looks like the terminal's markup comes out as the learner's code has it."""
    verdict = Verdict(Kind.WRONG_VALUE, "f([red], [/])", "[bold]x[0]", "[1, 2]")
    result = TaskResult(
        "attention/masking", 10, [CheckResult("test_a", "About [x].", [verdict], printed="[dim]hello[/dim]")]
    )
    text = _shown(result, course, 100, whole=True)
    for part in ("f([red], [/])", "[bold]x[0]", "[1, 2]", "About [x].", "[dim]hello[/dim]"):
        assert part in text


@pytest.mark.parametrize("width", [40, 80, 200])
def test_lines_fit_the_terminal(course: Catalogue, width: int) -> None:
    verdict = Verdict(Kind.WRONG_VALUE, "f(" + "a tensor float32 (2, 3), " * 8 + ")", "x" * 300, "y " * 100, "z" * 50)
    result = TaskResult("attention/masking", 10, [CheckResult("test_a", "A title.", [verdict])])
    lines = _shown(result, course, width, whole=True).splitlines()
    assert max(map(len, lines)) <= max(width, 60)
    assert not any(re.search(r"\s$", line) and len(line) > width for line in lines)


def test_a_checks_own_folder_is_not_told() -> None:
    """It has another name in each run, so neither a learner nor a diagnosis can do anything with it."""
    for path in (
        "/scratch/checkpoints-18st_rfq/check-e8m5byvn/train-00003.bin",
        "C:\\Temp\\check-e8m5byvn\\train-00003.bin",
    ):
        assert first_line(ValueError(f"{path}: 4 tokens")) == "train-00003.bin: 4 tokens"
    assert first_line(ValueError("no file in '/scratch/check-e8m5byvn'")) == "no file in ''"
