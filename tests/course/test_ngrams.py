"""The n-gram baselines: worked out by hand, and probabilities that sum to 1."""

import math
from collections import Counter

import numpy
import pytest

from checkpoints.ngrams import DISCOUNT, NGrams


def _slow(rows: list[list[int]], order: int, vocab_size: int, text: list[int], token: int) -> float:
    """The probability of a token after a text, by the definition."""
    probability = 1.0 / vocab_size
    for length in range(1, order + 1):
        if length - 1 > len(text):
            break
        context = tuple(text[len(text) - length + 1 :])
        follow = Counter(
            row[place]
            for row in rows
            for place in range(1, len(row))
            if place >= length - 1 and tuple(row[place - length + 1 : place]) == context
        )
        total = sum(follow.values())
        if total:
            probability = (max(follow[token] - DISCOUNT, 0.0) + DISCOUNT * len(follow) * probability) / total
        else:
            break  # what was never seen has no longer context that was
    return probability


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_against_the_definition(order: int) -> None:
    generator = numpy.random.default_rng(order)
    rows = [[0, *generator.integers(1, 5, generator.integers(1, 9)).tolist(), 0] for _ in range(12)]
    held = [[0, *generator.integers(1, 6, 7).tolist(), 0] for _ in range(5)]  # token 5 is never seen
    model = NGrams([numpy.array(row) for row in rows], order, 6)
    slow = [-math.log(_slow(rows, order, 6, row[:end], row[end])) for row in held for end in range(1, len(row))]
    assert model.loss([numpy.array(row) for row in held]) == pytest.approx(sum(slow) / len(slow), rel=1e-12)
    longer = NGrams([numpy.array(row) for row in rows], order + 1, 6)
    assert longer.loss([numpy.array(row) for row in held], order) == model.loss([numpy.array(row) for row in held])
    for text in ([0], [0, 1, 2], [0, 5, 5], [0, 3, 1, 4, 2]):
        losses = [model.loss([numpy.array([*text, token])]) for token in range(6)]
        before = model.loss([numpy.array(text)]) * (len(text) - 1) if len(text) > 1 else 0.0
        total = sum(math.exp(-(loss * len(text) - before)) for loss in losses)
        assert total == pytest.approx(1.0, abs=1e-12)


def test_by_hand() -> None:
    """One text 0 1 1: of the two tokens predicted both are 1, which the discount lowers to (2 - 3/4) / 2 and a share."""
    model = NGrams([numpy.array([0, 1, 1])], 1, 2)
    one = (2 - 0.75 + 0.75 * 1 * 0.5) / 2
    assert model.loss([numpy.array([0, 1])]) == pytest.approx(-math.log(one))
    assert model.loss([numpy.array([0, 0])]) == pytest.approx(-math.log(1 - one))
    with pytest.raises(ValueError, match="order must be at least 1, got 0"):
        NGrams([numpy.array([0, 1])], 0, 2)
