"""The chain so far: the learner's block runs on the learner's attention, feed-forward network, norms and residuals."""

from collections.abc import Callable

import pytest

from checkpoints import stubs
from checkpoints.catalogue import Catalogue
from checkpoints.verdicts import TaskResult

from .conftest import Checkout, solution_with

Grade = Callable[..., list[TaskResult]]
BLOCK = "block/configurations"
PIECES = {
    "attention/multi_head": "MultiHeadAttention",
    "block/feed_forward": "FeedForward",
    "block/layer_norm": "LayerNorm",
    "block/residual": "Residual",
}


def _telling(course: Catalogue, task: str, name: str) -> str:
    """The solution's text, in which the class says that it runs."""
    told = f"print('{task} is the learner's own')".replace("r's", "r\\'s")
    return solution_with(
        course.task(task),
        f"_forward = {name}.forward\n\n\ndef _telling(self, *args, **kwargs):\n    {told}\n"
        f"    return _forward(self, *args, **kwargs)\n\n\n{name}.forward = _telling",
    )


def _heard(result: TaskResult) -> set[str]:
    """The pieces that said that they ran."""
    lines = {line for check in result.checks for line in check.printed.splitlines()}
    return {task for task in PIECES if f"{task} is the learner's own" in lines}


def test_the_block_runs_on_the_learners_own_pieces(course: Catalogue, grade: Grade) -> None:
    texts = {task: _telling(course, task, name) for task, name in PIECES.items()}
    (result,) = grade([BLOCK], texts, passed=[task.id for task in course.tasks()])
    assert result.passed
    assert result.lent == []
    assert _heard(result) == set(PIECES)


@pytest.mark.parametrize("missing", PIECES)
def test_a_piece_that_is_missing_is_lent(missing: str, course: Catalogue, grade: Grade) -> None:
    """Full points are to be had with a stub in its place; the others are still the learner's."""
    texts = {task: _telling(course, task, name) for task, name in PIECES.items()}
    texts[missing] = stubs.generate(course.task(missing))
    (result,) = grade([BLOCK], texts, passed=[task.id for task in course.tasks() if task.id != missing])
    assert result.passed
    assert result.lent == [missing]
    assert _heard(result) == set(PIECES) - {missing}


def test_the_verdict_says_what_is_lent(checkout: Checkout, course: Catalogue) -> None:
    """As a learner sees it who has skipped attention/multi_head, and graded the rest."""
    checkout.solve(*(task for task in course.tasks() if task.id != "attention/multi_head"))
    for sprint in ("networks", "attention"):
        checkout.run("grade", sprint)
    shown = checkout.run("grade", "block")
    text = " ".join(shown.stdout.split())
    assert shown.returncode == 0, shown.stdout
    points = course.sprint("block").points
    assert f"{points} of {points} points" in text
    for later in ("block/encoder_decoder", BLOCK):
        after = text[text.index(later) :]
        assert after.index("lent: attention/multi_head (from the solutions") < 120


ATTEND = "x = self.residual(x, lambda tokens: self.attn(tokens, mask=mask, bias=bias, cache=cache), self.ln_1)"
WRONG_PARTS = {
    "pre-norm written as post-norm": (
        "Residual(config.placement, config.dropout)",
        'Residual("post", config.dropout)',
        "what comes into ln_1 differs, though the input still agrees",
    ),
    "a missing residual": (
        ATTEND,
        "x = self.attn(self.ln_1(x), mask=mask, bias=bias, cache=cache)",
        "what comes into ln_2 differs, though what goes out of attn still agrees: look between the two",
    ),
    "one norm used twice": (
        "return self.residual(x, self.mlp, self.ln_2)",
        "return self.residual(x, self.mlp, self.ln_1)",
        "ln_2 is never called; what goes out of attn is the last that agrees",
    ),
    "ReLU for GELU": (
        "activation=config.activation",
        'activation="relu"',
        "what comes into mlp.c_proj differs, though what goes out of mlp.c_fc still agrees",
    ),
    "the exact GELU for that by tanh": (
        "activation=config.activation",
        'activation="gelu"',
        "what comes into mlp.c_proj differs, though what goes out of mlp.c_fc still agrees",
    ),
}


@pytest.mark.parametrize("name", WRONG_PARTS)
def test_a_wrong_part_of_a_block_is_found(name: str, course: Catalogue, grade: Grade) -> None:
    """Beside the GPT-2 block of transformers: the first part that differs, by how much, and on which slice."""
    task = course.task(BLOCK)
    old, new, words = WRONG_PARTS[name]
    text = task.solution().read_text(encoding="utf-8")
    assert old in text
    (result,) = grade([BLOCK], {BLOCK: text.replace(old, new)}, passed=[other.id for other in course.tasks()])
    divergence = next(check for check in result.checks if check.check == "test_gpt2").verdicts[0].divergence
    assert words in divergence
    if "never called" not in words:
        assert ", by up to " in divergence
        assert ", in [" in divergence
