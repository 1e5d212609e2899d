"""What counting alone can do: n-gram models, with which the capstone compares what was trained.

Each order is interpolated with the one below it by absolute discounting (Ney, Essen and Kneser 1994, section 2): from
each count a constant is taken, and what that saves is shared out as the lower order says. The lowest is the same for
all tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy
from numpy.typing import NDArray

DISCOUNT = 0.75

Numbers = NDArray[numpy.int64]


@dataclass(frozen=True)
class _Order:
    """All runs of one length that occur in the texts."""

    keys: Numbers  # in ascending order; a run's key is the number of its context, times the vocabulary, plus its token
    counts: Numbers  # how often each was there to be predicted
    totals: Numbers  # of each context: how many tokens followed it
    kinds: Numbers  # of each context: how many different ones

    def find(self, keys: Numbers) -> Numbers:
        """The numbers of runs, -1 where there is no such run."""
        places = numpy.searchsorted(self.keys, keys).clip(max=len(self.keys) - 1)
        return numpy.where(self.keys[places] == keys, places, -1)


class NGrams:
    """An n-gram model of rows of tokens, each row a text of its own, whose first token is given.

    Args:
        rows: what is counted.
        order: how many tokens the longest run has, at least 1.
        vocab_size: how many tokens there are.
    """

    def __init__(self, rows: Sequence[Numbers], order: int, vocab_size: int) -> None:
        if order < 1:
            raise ValueError(f"order must be at least 1, got {order}")
        self.vocab_size = vocab_size
        self._orders: list[_Order] = []
        tokens, places = _joined(rows)
        contexts = numpy.zeros(len(tokens), dtype=numpy.int64)  # of length 0, which is the same before every token
        for length in range(1, order + 1):
            keys = numpy.where(places >= length - 1, contexts * vocab_size + tokens, -1)
            runs, numbers = numpy.unique(keys, return_inverse=True)
            counts = numpy.bincount(numbers[places >= 1], minlength=len(runs))
            known = runs >= 0
            owners = runs[known] // vocab_size
            totals = numpy.bincount(owners, counts[known]).astype(numpy.int64)
            self._orders.append(_Order(runs[known], counts[known], totals, numpy.bincount(owners, counts[known] > 0)))
            contexts = numpy.roll(numbers - int(not known[0]), 1)  # the run that ends just before each token

    def loss(self, rows: Sequence[Numbers], order: int | None = None) -> float:
        """The mean cross-entropy of every token but the first of each row, in nats per token.

        Args:
            rows: texts.
            order: of the longest run that is looked at, at most that of the model; all are if None.
        """
        tokens, places = _joined(rows)
        probability = numpy.full(len(tokens), 1.0 / self.vocab_size)
        contexts = numpy.zeros(len(tokens), dtype=numpy.int64)
        for length, runs_of in enumerate(self._orders[:order], start=1):
            possible = (places >= length - 1) & (contexts >= 0)
            runs = numpy.where(possible, runs_of.find(contexts * self.vocab_size + tokens), -1)
            totals = numpy.where(possible, runs_of.totals[contexts.clip(0, len(runs_of.totals) - 1)], 0)
            kinds = runs_of.kinds[contexts.clip(0, len(runs_of.kinds) - 1)]
            counts = numpy.where(runs >= 0, runs_of.counts[runs], 0)
            # What the discount takes from each kind of follower, so that the probabilities still sum to 1.
            shared = (counts - DISCOUNT).clip(0) + DISCOUNT * kinds * probability
            probability = numpy.where(totals > 0, shared / totals.clip(1), probability)
            contexts = numpy.roll(runs, 1)
        return float(-numpy.log(probability[places >= 1]).mean())


def _joined(rows: Sequence[Numbers]) -> tuple[Numbers, Numbers]:
    """All tokens one after the other, and for each its place in its row."""
    tokens = numpy.concatenate([numpy.asarray(row, dtype=numpy.int64) for row in rows])
    return tokens, numpy.concatenate([numpy.arange(len(row)) for row in rows])
