"""The mutants: what the rules make, that the list of equivalents is about mutants, and that a run tells right."""

import random

import pytest

from checkpoints import catalogue
from checkpoints.catalogue import Catalogue, Task

from . import mutants, mutation
from .mutants import equivalents_of
from .mutation import mutants_of

COURSE = catalogue.load()
SOURCE = '''
"""A docstring of 1 line."""
import torch
from torch import Tensor

def scaled(x: Tensor, factor: float = 2.0, *, shift: int | None = None) -> Tensor:
    """Not 3 of it."""
    if factor <= 0 or factor != factor:
        raise ValueError(f"factor must be above {0}, got {factor}")
    shift = 0 if shift is None else shift
    total = (x + shift).detach().mean(dim=-1, keepdim=True)
    x[: len(x)].clamp(min=0)
    with torch.no_grad():
        x = x * total
    return x.clamp(-1.0, factor) @ x.mT
'''


def _changes(source: str) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for mutant in mutants_of(source):
        old, new = source.splitlines(), mutant.text.splitlines()
        lines = {one.strip() for one in new} - {one.strip() for one in old}
        found.setdefault(mutant.rule, set()).update(lines or {"(a line less)"})
    return found


def test_every_rule_by_hand() -> None:
    found = _changes(SOURCE)
    assert "def scaled(x: Tensor, factor: float = 4.0, *, shift: int | None = None) -> Tensor:" in found["constant"]
    assert "if factor < 0 or factor != factor:" in found["comparison"]
    assert "if ((factor <= 0) and (factor != factor)):" in found["boolean"]
    assert "if ((factor != factor)):" in found["boolean"]
    assert "if False:" in found["condition"]
    assert 'raise RuntimeError(f"factor must be above {0}, got {factor}")' in found["error"]
    assert "shift = (shift)" in found["condition"]
    assert "total = ((x) - (shift)).detach().mean(dim=-1, keepdim=True)" in {
        line.replace("(((", "((").replace(")))", "))") for line in found["arithmetic"]
    }
    assert "total = (x + shift).mean(dim=-1, keepdim=True)" in found["method"]
    assert "total = (x + shift).detach().mean(dim=-1)" in found["keyword"]
    assert "total = (x + shift).detach().mean(keepdim=True)" in found["keyword"]
    assert "total = (x + shift).detach().sum(dim=-1, keepdim=True)" in found["twin"]
    assert "total = (x.add_(shift)).detach().mean(dim=-1, keepdim=True)" in found["in place"]
    assert "x[: (len(x)) + 1].clamp(min=0)" in found["off by one"]
    assert "with __import__('contextlib').nullcontext():" in found["context"]
    assert "return x.clamp_(-1.0, factor) @ x.mT" in found["in place"]
    assert "return x.clamp(factor, -1.0) @ x.mT" in found["arguments"]
    assert "return ((x.mT) @ (x.clamp(-1.0, factor)))" in found["operands"]
    assert "pass" in found["statement"]


def test_docstrings_types_and_words_of_errors_stay() -> None:
    for mutant in mutants_of(SOURCE):
        for kept in (
            '"""A docstring of 1 line."""',
            '"""Not 3 of it."""',
            'must be above {0}, got {factor}"',
            "x: Tensor",
        ):
            assert kept in mutant.text


@pytest.mark.parametrize("task", list(COURSE.tasks()), ids=lambda task: task.id)
def test_mutants_are_programs_each_of_its_own(task: Task) -> None:
    """They compile, differ, and their ids are unique; every equivalent is one of them, and has a reason."""
    made = mutants_of(task.solution().read_text(encoding="utf-8"))
    assert len(made) >= 20
    assert len({mutant.id for mutant in made}) == len(made)
    assert len({mutant.text for mutant in made}) == len(made)
    known = equivalents_of(task)
    assert set(known) <= {mutant.id for mutant in made}
    for name, reason in known.items():
        assert len(reason.split()) >= 6, f"{name}: {reason}"
    assert len(known) <= 0.15 * len(made), "so many that are as right as the solution: is the solution too long?"


def test_a_run_tells_killed_from_survived(course: Catalogue, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mutant that is wrong is killed, one that is the solution survives, and a false claim is told."""
    task = course.task("attention/masking")
    solution = task.solution().read_text(encoding="utf-8")
    wrong = mutation.Mutant("wrong", "test", 1, solution + "\n\ndef causal_mask(*a, **k):\n    return None\n")
    endless = mutation.Mutant("endless", "test", 1, solution + "\n\ndef causal_mask(*a, **k):\n    while True: pass\n")
    same = mutation.Mutant("same", "test", 1, solution + "\n# the same\n")
    monkeypatch.setattr(mutants, "mutants_of", lambda text: [wrong, endless, same])
    monkeypatch.setattr(mutants, "equivalents_of", lambda task: {"wrong": "It is claimed to be right, falsely."})
    outcome = mutants.run(course, task, seed)
    assert (outcome.made, outcome.killed, outcome.lost) == (3, 2, 1)
    assert [mutant.id for mutant in outcome.survived] == ["same"]
    assert outcome.mistaken == ["wrong"]
    assert not mutants.table(course, [outcome])[1]


def test_some_mutants_are_killed(course: Catalogue, seed: int) -> None:
    """Those of a task drawn anew in every run; `nox -s mutants` does it for all."""
    task = random.Random(seed).choice([task for task in course.tasks() if task.seconds <= 10])
    outcome = mutants.run(course, task, seed)
    assert not outcome.mistaken, f"{task.id}: {outcome.mistaken}"
    assert not outcome.survived, f"{task.id}: {[mutant.id for mutant in outcome.survived]}"
