"""One base class asks each filter which tokens it keeps; sorted from the most likely down; a race of exponentials draws."""

import functools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

LogitFilter = Callable[[Tensor, Tensor], Tensor]


def _demand(condition: bool, name: str, value: float) -> None:
    if not condition:
        raise ValueError(f"{name}={value} is out of range")


def _probabilities(logits: Tensor) -> Tensor:
    precise = logits if logits.dtype == torch.float64 else logits.float()
    return (precise - precise.logsumexp(-1, keepdim=True)).exp()


class _Keeping(ABC):
    """Leaves the logits of what is kept alone."""

    @abstractmethod
    def keeps(self, logits: Tensor) -> Tensor:
        """(B, V) bool."""

    def __call__(self, logits: Tensor, tokens: Tensor) -> Tensor:
        """Everything else gets -inf."""
        return torch.where(self.keeps(logits), logits, torch.tensor(-math.inf, dtype=logits.dtype))


@dataclass(frozen=True)
class Temperature:
    """By a division."""

    temperature: float

    def __post_init__(self) -> None:
        """Neither 0 nor infinite."""
        _demand(math.isfinite(self.temperature) and self.temperature > 0, "temperature", self.temperature)

    def __call__(self, logits: Tensor, tokens: Tensor) -> Tensor:
        """Of all logits."""
        return torch.div(logits, self.temperature)


@dataclass(frozen=True)
class TopK(_Keeping):
    """By the rank: fewer than k tokens are larger."""

    k: int

    def __post_init__(self) -> None:
        """One at least."""
        _demand(self.k > 0, "k", self.k)

    def keeps(self, logits: Tensor) -> Tensor:
        """What is not below the k-th smallest of those turned round."""
        negative = -logits.float() if logits.dtype != torch.float64 else -logits
        size = logits.size(-1)
        bound = negative.kthvalue(size if self.k > size else self.k, dim=-1, keepdim=True).values
        return negative <= bound


@dataclass(frozen=True)
class TopP(_Keeping):
    """By what comes before each token in the descending order."""

    p: float

    def __post_init__(self) -> None:
        """A probability, and not 0."""
        _demand(self.p > 0 and self.p <= 1, "p", self.p)

    def keeps(self, logits: Tensor) -> Tensor:
        """Those that have less than p before them."""
        probabilities = _probabilities(logits).double()
        order = torch.argsort(probabilities, dim=1, descending=True)
        ordered = torch.take_along_dim(probabilities, order, dim=1)
        before = torch.nn.functional.pad(ordered.cumsum(1)[:, :-1], (1, 0))
        kept = (before < self.p) & (ordered > 0)
        back = order.argsort(dim=1)
        return kept.gather(1, back)


@dataclass(frozen=True)
class MinP(_Keeping):
    """By the probabilities themselves."""

    p: float

    def __post_init__(self) -> None:
        """A share."""
        _demand(0 <= self.p <= 1, "p", self.p)

    def keeps(self, logits: Tensor) -> Tensor:
        """Those with a share of the largest."""
        probabilities = _probabilities(logits)
        return probabilities >= self.p * probabilities.max(1, keepdim=True).values


@dataclass(frozen=True)
class RepetitionPenalty:
    """By a factor for each token: 1 for those that have not occurred."""

    penalty: float

    def __post_init__(self) -> None:
        """Neither 0 nor infinite."""
        _demand(math.isfinite(self.penalty) and self.penalty > 0, "penalty", self.penalty)

    def __call__(self, logits: Tensor, tokens: Tensor) -> Tensor:
        """Gather what occurs, change it, and put it back."""
        if logits.shape[:1] != tokens.shape[:-1]:
            raise ValueError(f"there must be a text for each row: {tuple(logits.shape)} and {tuple(tokens.shape)}")
        vocabulary = logits.shape[1]
        for token in tokens.flatten().tolist():
            if token >= vocabulary:
                raise ValueError(f"token {token} of a vocabulary of {vocabulary}")
        rows, columns = (tokens >= 0).nonzero(as_tuple=True)
        found = tokens[rows, columns]
        values = logits[rows, found]
        changed = logits.clone()
        changed[rows, found] = torch.where(values < 0, values * self.penalty, values / self.penalty)
        return changed


def chain(*filters: LogitFilter) -> LogitFilter:
    """One function of both arguments."""

    def all_of_them(logits: Tensor, tokens: Tensor) -> Tensor:
        return functools.reduce(lambda so_far, each: each(so_far, tokens), filters, logits)

    return all_of_them


def _choosable(logits: Tensor) -> Tensor:
    best = logits.max(dim=1).values.tolist()
    for number, value in enumerate(best):
        if not math.isfinite(value):
            raise ValueError(f"row {number}: the largest logit is {value}")
    return logits


def greedy(logits: Tensor) -> Tensor:
    """By the position of the maximum."""
    return _choosable(logits).max(dim=1).indices


def sample(logits: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
    """Each token waits for a time, on average one over its probability, and the first wins."""
    probabilities = _probabilities(_choosable(logits)).double()
    waits = torch.empty_like(probabilities).exponential_(generator=generator) / probabilities
    return waits.argmin(dim=1)


def next_token(
    logits: Tensor,
    tokens: Tensor,
    filters: Iterable[LogitFilter] | Sequence[LogitFilter] = (),
    *,
    sampling: bool = False,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Filtered first."""
    choose = functools.partial(sample, generator=generator) if sampling else greedy
    return choose(chain(*filters)(logits, tokens))
