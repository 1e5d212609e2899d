"""Evaluation: how good is a model? One pipeline measures how well it foretells texts, and what it writes.

What it foretells is measured in nats: the loss, and how far that is from the lowest possible, where the source of the
texts is known. What it writes is measured by the source too, and by how often it repeats itself.
"""

import math
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ..gpt2.input_output import IGNORED
from ..gpt2.model import GPT2
from ..networks.losses import cross_entropy
from ..training.data import collate_rows
from ..training.metrics import bits_per_byte
from .decoding import evaluation_mode, generate
from .strategies import LogitFilter


class Tokenizer(Protocol):
    """Turns text into tokens and back: `gpt2/tokenizer`'s, or any other object with these two methods."""

    def encode(self, text: str) -> list[int]:
        """The text's tokens."""
        ...

    def decode(self, tokens: Sequence[int]) -> str:
        """The tokens' text."""
        ...


@dataclass(frozen=True)
class Sample:
    """A text that the model wrote; a value, which cannot be changed.

    Attributes:
        text: without end of text.
        log_probability: of the text under the source, in nats; None if the source is not known, would never write
            this text, or the text was not finished.
        own_log_probability: of its tokens under the model, with the end of text if it was finished: before any filter,
            in nats.
    """

    text: str
    log_probability: float | None
    own_log_probability: float


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` finds out; a value, which cannot be changed.

    Attributes:
        loss: nats per token over the documents, the end of each among its tokens.
        perplexity: exp(loss): among so many equally likely tokens the model hesitates.
        bits_per_byte: the loss in bits per byte of the documents' UTF-8; can be compared across tokenizers.
        floor: the loss of a model that knows the source, nats per token; None if the source is not known.
        above_floor: loss / floor - 1, how much of the loss could be saved; None if `floor` is None or 0.
        grammatical: share of the samples that the source might write; None if the source is not known.
        distinct: for n = 1, 2 and 3, `distinct_n` of all samples' tokens.
        repetition: mean over the samples of the `repetition` of their tokens, n = 4.
        samples: what the model wrote.
        references: as many documents, the first, to hold beside them; fewer if there are not so many.
    """

    loss: float
    perplexity: float
    bits_per_byte: float
    floor: float | None
    above_floor: float | None
    grammatical: float | None
    distinct: dict[int, float]
    repetition: float
    samples: tuple[Sample, ...]
    references: tuple[str, ...] = ()

    def to_markdown(self, num_samples: int = 10) -> str:
        """Write a report: one table of the figures, another of samples side by side with the references.

        Figures that are None are left out. A figure has a row ``| name | value |`` with the names "loss", "perplexity",
        "bits per byte", "floor", "above the floor", "grammatical", "distinct-1" and so on, and "repetition"; shares are
        in per cent with one digit behind the point ("12.5 %"), other numbers have four digits behind it. A sample's row
        is ``| sample | log-probability under the source | reference |``, the second with two digits behind the point or
        "–" for None. Within a text, a line break becomes ``<br>``, and before ``|`` comes a backslash, so that it
        cannot end the cell. As in any Markdown, each table begins with a row of headings and one of dashes, and a blank
        line is between the two.

        Args:
            num_samples: how many samples are shown, the first; all, if there are not so many.

        Returns:
            Markdown, which ends with a line break.
        """
        raise NotImplementedError("generation/evaluation: Evaluation.to_markdown")


def distinct_n(sequences: Sequence[Sequence[Hashable]], n: int) -> float:
    """Measure how varied texts are: different n-grams / all n-grams.

    Li et al. 2016, section 5, "distinct-1". (There, whatever n is, what is divided by is the number of tokens.)

    Args:
        sequences: texts as sequences of words or tokens; an n-gram lies within one text.
        n: length of the n-grams, at least 1.

    Returns:
        From 0 to 1, the n-grams of all texts together; 0 if there is none.

    Raises:
        ValueError: `n` is below 1; the message names it and its value.

    Example:
        >>> distinct_n([["a", "b", "a"], ["a", "b"]], 2)  # ab, ba, ab: two different ones of three
        0.6666666666666666
    """
    raise NotImplementedError("generation/evaluation: distinct_n")


def repetition(sequence: Sequence[Hashable], n: int) -> float:
    """Measure how often a text repeats itself: the share of its n-grams that occurred before in it.

    Welleck et al. 2020, section 6, "seq-rep-n".

    Args:
        sequence: one text as a sequence of words or tokens.
        n: length of the n-grams, at least 1.

    Returns:
        From 0 to less than 1; 0 if there is no n-gram.

    Raises:
        ValueError: `n` is below 1; the message names it and its value.

    Example:
        >>> repetition(["a", "b", "a", "b"], 2)  # ab, ba, ab: one of three was there before
        0.3333333333333333
    """
    raise NotImplementedError("generation/evaluation: repetition")


def evaluate(
    model: GPT2,
    tokenizer: Tokenizer,
    documents: Sequence[str],
    *,
    end_of_text: int,
    num_samples: int = 100,
    max_new_tokens: int,
    log_probability: Callable[[str], float] | None = None,
    filters: Sequence[LogitFilter] = (),
    generator: torch.Generator | None = None,
    batch_size: int = 32,
) -> Evaluation:
    """Measure a model on documents, and by what it writes. E is `end_of_text`.

    A document is a row of tokens, E, its own, E: the model begins with the first E, and has to foretell all the others,
    the last E among them. A sample begins with E too: its tokens are drawn until an E comes, which finishes it, or
    there are `max_new_tokens` of them. Losses are summed in float64. The model is in evaluation meanwhile and keeps no
    graph, and afterwards each of its modules is as it was before.

    Args:
        model: the model; its weights' device is where everything happens.
        tokenizer: makes tokens of the documents, and texts of the samples' tokens.
        documents: at least one.
        end_of_text: the token E, which stands in no document.
        num_samples: how many texts the model writes, at least 1.
        max_new_tokens: at most so many tokens has a sample, its E among them.
        log_probability: of a text under its source, in nats; raises ValueError for a text that the source would never
            write. None if the source is not known.
        filters: through which the samples are drawn, as of `next_token`. The losses know nothing of them.
        generator: where the samples are drawn from; torch's global one if None.
        batch_size: how many rows are read, or written, at once. It changes no figure of the documents, but rounding.

    Returns:
        The figures, which `Evaluation` describes. A sample that was not finished is not grammatical.

    Raises:
        ValueError: there is no document; `num_samples` or `batch_size` is below 1; a document and the E before it do
            not fit into the model's context_length, it contains E, or `log_probability` refuses it. The message gives
            the values, and the number of the document, counted from 0.

    Example:
        >>> found = evaluate(model, tokenizer, stories, end_of_text=0, max_new_tokens=80, log_probability=grammar.price)
        >>> print(found.to_markdown())
    """
    raise NotImplementedError("generation/evaluation: evaluate")
