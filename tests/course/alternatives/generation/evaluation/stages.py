"""Stages as classes, log-probabilities gathered under a mask, rows longest first, n-grams by zip, and templates."""

import itertools
import math
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ..gpt2.model import GPT2
from . import decoding


class Tokenizer:
    """Whatever encodes and decodes."""

    encode: Callable[[str], list[int]]
    decode: Callable[[Sequence[int]], str]


class Sample(NamedTuple):
    """A tuple with names."""

    text: str
    log_probability: float | None
    own_log_probability: float


class _Figures(NamedTuple):
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


ROW = "| {} | {} |"
TRIPLE = "| {} | {} | {} |"


class Evaluation(_Figures):
    """The figures, and how they are shown."""

    __slots__ = ()

    def to_markdown(self, num_samples: int = 10) -> str:
        """Both tables."""
        return "\n".join(itertools.chain(self._figures(), [""], self._texts(num_samples), [""]))

    def _figures(self) -> Iterator[str]:
        yield ROW.format("", "value")
        yield ROW.format("---", "---")
        for name in ("loss", "perplexity", "bits_per_byte", "floor"):
            value = getattr(self, name)
            if value is not None:
                yield ROW.format(name.replace("_", " "), format(value, ".4f"))
        shares: list[tuple[str, float | None]] = [("above the floor", self.above_floor)]
        shares.append(("grammatical", self.grammatical))
        shares.extend((f"distinct-{n}", value) for n, value in sorted(self.distinct.items()))
        shares.append(("repetition", self.repetition))
        for name, share in shares:
            if share is not None:
                yield ROW.format(name, f"{share * 100:.1f} %")

    def _texts(self, most: int) -> Iterator[str]:
        yield TRIPLE.format("sample", "nats", "reference")
        yield TRIPLE.format("---", "---", "---")
        shown = self.samples[:most]
        for sample, reference in itertools.zip_longest(shown, self.references[: len(shown)], fillvalue=""):
            assert isinstance(sample, Sample)
            price = sample.log_probability
            yield TRIPLE.format(
                _escaped(sample.text), "–" if price is None else format(price, ".2f"), _escaped(str(reference))
            )


def _escaped(text: str) -> str:
    return "<br>".join(text.split("\n")).replace("|", r"\|")


def _grams(sequence: Sequence[Hashable], n: int) -> Counter[tuple[Hashable, ...]]:
    if n < 1:
        raise ValueError(f"there are no n-grams of n = {n}")
    return Counter(zip(*(sequence[skipped:] for skipped in range(n)), strict=False))


def distinct_n(sequences: Sequence[Sequence[Hashable]], n: int) -> float:
    """All counted together."""
    together = sum((_grams(sequence, n) for sequence in sequences), _grams((), n))
    return len(together) / max(together.total(), 1)


def repetition(sequence: Sequence[Hashable], n: int) -> float:
    """What is not the first of its kind."""
    grams = _grams(sequence, n)
    return (grams.total() - len(grams)) / max(grams.total(), 1)


class _Reader:
    """Says how likely a model finds rows of tokens."""

    def __init__(self, model: GPT2, batch_size: int) -> None:
        self.model, self.batch_size = model, batch_size

    def __call__(self, rows: Sequence[Sequence[int]]) -> list[float]:
        """Longest first, and back in their order."""
        found: dict[int, float] = {}
        by_length = sorted(enumerate(rows), key=lambda pair: -len(pair[1]))
        with decoding.evaluation_mode(self.model):
            for start in range(0, len(by_length), self.batch_size):
                numbers, some = zip(*by_length[start : start + self.batch_size], strict=True)
                found.update(zip(numbers, self._batch(some), strict=True))
        return [found[number] for number in range(len(rows))]

    def _batch(self, rows: Sequence[Sequence[int]]) -> list[float]:
        padded = pad_sequence([torch.tensor(row) for row in rows], batch_first=True, padding_value=-1)
        real = padded[:, 1:] >= 0
        padded = padded.clamp_min(0).to(self.model.wte.weight.device)
        logits: Tensor = self.model(padded[:, :-1]).double()
        chosen = logits.gather(2, padded[:, 1:, None])[..., 0] - logits.logsumexp(2)
        return torch.where(real, chosen.cpu(), 0).sum(1).tolist()


class _Documents:
    """The texts as rows, and what their source needs for them."""

    def __init__(self, tokenizer: Any, texts: Sequence[str], end: int, room: int, source: Any) -> None:
        if not texts:
            raise ValueError("no document")
        self.texts = texts
        self.rows: list[list[int]] = []
        self.nats = 0.0
        for number, text in enumerate(texts):
            tokens = tokenizer.encode(text)
            if end in set(tokens):
                raise ValueError(f"document number {number}: token {end} ends texts, and cannot be inside of one")
            if 1 + len(tokens) > room:
                raise ValueError(f"document number {number}: 1 + {len(tokens)} tokens > {room}")
            self.rows.append([end, *tokens, end])
            if source:
                try:
                    self.nats -= source(text)
                except ValueError as refused:
                    raise ValueError(f"document number {number} cannot come from the source") from refused

    def targets(self) -> int:
        """How many tokens are foretold."""
        return sum(map(len, self.rows)) - len(self.rows)

    def size(self) -> int:
        """In bytes."""
        return len("".join(self.texts).encode("utf-8"))


def evaluate(
    model: GPT2,
    tokenizer: Any,
    documents: Sequence[str],
    *,
    end_of_text: int,
    num_samples: int = 100,
    max_new_tokens: int,
    log_probability: Callable[[str], float] | None = None,
    filters: Sequence[Any] = (),
    generator: torch.Generator | None = None,
    batch_size: int = 32,
    cached: bool = True,
) -> Evaluation:
    """Read the documents, write samples, read those."""
    for name, value in {"num_samples": num_samples, "batch_size": batch_size}.items():
        if value <= 0:
            raise ValueError(f"{name}={value}")
    known = _Documents(tokenizer, documents, end_of_text, model.config.context_length, log_probability)
    reader = _Reader(model, batch_size)
    nats = -sum(reader(known.rows))

    sizes = [batch_size] * (num_samples // batch_size) + [num_samples % batch_size]
    new = [
        text
        for size in sizes
        if size
        for text in decoding.generate(
            model,
            size * [(end_of_text,)],
            max_new_tokens=max_new_tokens,
            stop_tokens={end_of_text},
            filters=filters,
            sampling=True,
            generator=generator,
            cached=cached,
        )
    ]
    bare = [text[:-1] if text[-1] == end_of_text else text for text in new]

    def priced(number: int) -> float | None:
        if log_probability is None or len(bare[number]) == len(new[number]):
            return None
        try:
            return log_probability(tokenizer.decode(bare[number]))
        except ValueError:
            return None

    own = reader([[end_of_text, *text] for text in new])
    samples = [Sample(tokenizer.decode(bare[one]), priced(one), own[one]) for one in range(num_samples)]
    loss = nats / known.targets()
    floor = known.nats / known.targets() if log_probability else None
    share = sum(sample.log_probability is not None for sample in samples) / num_samples
    return Evaluation(
        loss,
        math.e**loss,
        nats / math.log(2) / known.size(),
        floor,
        loss / floor - 1 if floor else None,
        share if log_probability else None,
        {n: distinct_n(bare, n) for n in (1, 2, 3)},
        sum(repetition(text, 4) for text in bare) / num_samples,
        tuple(samples),
        tuple(documents[:num_samples]),
    )
