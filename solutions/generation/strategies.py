"""Strategies: which of the tokens that might come next is written.

A *filter* takes logits and gives logits; what may not come gets -inf. Filters are put one behind the other, and at the
end a token is chosen: the most likely one, or one drawn at random.

Symbols: B texts in a batch, T tokens in each so far, V the size of the vocabulary.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

LogitFilter = Callable[[Tensor, Tensor], Tensor]
"""filter(logits, tokens) -> logits: for the next token of each text, (B, V), and the text so far, int64 (B, T).

A negative number among the tokens is padding and stands for no token. A filter leaves both tensors as they are, and
gives logits of the same shape and dtype. -inf, from a filter before it, stays -inf.
"""


@dataclass(frozen=True)
class Temperature:
    """Divide the logits by a temperature: below 1 likely tokens become likelier, above 1 all become more alike.

    Args:
        temperature: above 0 and finite; 1 changes nothing.

    Raises:
        ValueError: it is not; the message names `temperature` and its value.

    Example:
        >>> Temperature(0.5)(torch.tensor([[1.0, 2.0]]), torch.tensor([[0]]))
        tensor([[2., 4.]])
    """

    temperature: float

    def __post_init__(self) -> None:
        if not 0.0 < self.temperature < math.inf:
            raise ValueError(f"temperature must be above 0 and finite, got {self.temperature}")

    def __call__(self, logits: Tensor, tokens: Tensor) -> Tensor:
        """Apply the filter: (B, V) to (B, V); `tokens` play no part."""
        return logits / self.temperature


@dataclass(frozen=True)
class TopK:
    """Keep the k most likely tokens (Fan et al. 2018, section 5.4); the others get -inf.

    Tokens as likely as the k-th are kept too. A k above V keeps all.

    Args:
        k: at least 1.

    Raises:
        ValueError: it is not; the message names `k` and its value.

    Example:
        >>> TopK(2)(torch.tensor([[1.0, 3.0, 2.0]]), torch.tensor([[0]]))
        tensor([[-inf, 3., 2.]])
    """

    k: int

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ValueError(f"k must be at least 1, got {self.k}")

    def __call__(self, logits: Tensor, tokens: Tensor) -> Tensor:
        """Apply the filter: (B, V) to (B, V); `tokens` play no part."""
        kth = logits.topk(min(self.k, logits.shape[-1])).values[:, -1:]  # (B, 1)
        return logits.masked_fill(logits < kth, -math.inf)


@dataclass(frozen=True)
class TopP:
    """Keep the nucleus (Holtzman et al. 2020, section 3.1): the fewest tokens that have probability p together.

    These are the most likely ones, and the token with which their sum reaches p is among them. So at least one is
    kept. Where the last of them is as likely as others, any of those may take its place. The others get -inf.

    Args:
        p: above 0 and at most 1; 1 keeps every token that has a probability.

    Raises:
        ValueError: it is not; the message names `p` and its value.

    Example:
        >>> TopP(0.6)(torch.tensor([[5.0, 2.0, 3.0]]).log(), torch.tensor([[0]])).exp()  # 0.5 and 0.3 are above 0.6
        tensor([[5., 0., 3.]])
    """

    p: float

    def __post_init__(self) -> None:
        if not 0.0 < self.p <= 1.0:
            raise ValueError(f"p must be above 0 and at most 1, got {self.p}")

    def __call__(self, logits: Tensor, tokens: Tensor) -> Tensor:
        """Apply the filter: (B, V) to (B, V); `tokens` play no part. Half precision is summed in float32."""
        ascending, order = _wide(logits).sort()  # (B, V)
        # Summed from the least likely up: small numbers keep their digits while the sum is small, and what is dropped
        # is what they make up together, up to 1 - p.
        dropped = ascending.softmax(dim=-1).cumsum(dim=-1) <= 1.0 - self.p
        dropped[:, -1] = False  # a p near 0 drops everything else
        return logits.masked_fill(dropped.scatter(-1, order, dropped), -math.inf)


@dataclass(frozen=True)
class MinP:
    """Keep the tokens that are at least p times as likely as the most likely one (Nguyen et al. 2024, section 3).

    The others get -inf. Where the model is sure, few are kept; where it is not, many.

    Args:
        p: from 0, which keeps all, to 1, which keeps the most likely alone.

    Raises:
        ValueError: it is not; the message names `p` and its value.

    Example:
        >>> MinP(0.5)(torch.tensor([[5.0, 2.0, 3.0]]).log(), torch.tensor([[0]])).exp()  # at least half of 0.5
        tensor([[5., 0., 3.]])
    """

    p: float

    def __post_init__(self) -> None:
        if not 0.0 <= self.p <= 1.0:
            raise ValueError(f"p must be from 0 to 1, got {self.p}")

    def __call__(self, logits: Tensor, tokens: Tensor) -> Tensor:
        """Apply the filter: (B, V) to (B, V); `tokens` play no part. Half precision is compared in float32."""
        wide = _wide(logits)
        # A ratio of probabilities is a difference of logits: no softmax is needed.
        margin = math.log(self.p) if self.p else -math.inf
        return logits.masked_fill(wide < wide.amax(dim=-1, keepdim=True) + margin, -math.inf)


@dataclass(frozen=True)
class RepetitionPenalty:
    """Make tokens that the text has already less likely (Keskar et al. 2019, section 4.1).

    The logit of each token that occurs in its text, however often, is divided by the penalty if it is positive, and
    multiplied by it if it is negative, as transformers does: either way, a penalty above 1 makes it smaller. Padding
    occurs nowhere.

    Args:
        penalty: above 0 and finite; 1 changes nothing, less than 1 favours what was there before.

    Raises:
        ValueError: it is not; the message names `penalty` and its value.

    Example:
        >>> RepetitionPenalty(2.0)(torch.tensor([[4.0, -4.0, 4.0]]), torch.tensor([[-1, 0, 1, 1]]))
        tensor([[ 2., -8.,  4.]])
    """

    penalty: float

    def __post_init__(self) -> None:
        if not 0.0 < self.penalty < math.inf:
            raise ValueError(f"penalty must be above 0 and finite, got {self.penalty}")

    def __call__(self, logits: Tensor, tokens: Tensor) -> Tensor:
        """Apply the filter: (B, V) to (B, V).

        Raises:
            ValueError: `tokens` are not (B, T), or one is not below V; the message gives both shapes, or the token
                and V.
        """
        size = logits.shape[-1]
        if tokens.ndim != 2 or len(tokens) != len(logits):
            raise ValueError(
                f"logits (B, V) and tokens (B, T) do not fit: {tuple(logits.shape)}, {tuple(tokens.shape)}"
            )
        if tokens.numel() and tokens.max() >= size:
            raise ValueError(f"a token must be below {size}, got {int(tokens.max())}")
        # One column more than there are tokens, for the padding to fall into.
        seen = torch.zeros(len(logits), size + 1, dtype=torch.bool, device=logits.device)
        seen.scatter_(-1, tokens.masked_fill(tokens < 0, size), True)
        penalised = torch.where(logits > 0, logits / self.penalty, logits * self.penalty)
        return torch.where(seen[:, :size], penalised, logits)


def chain(*filters: LogitFilter) -> LogitFilter:
    """Make one filter of several: the first works on the logits, the second on what it gives, and so on.

    Args:
        *filters: in their order, which matters; with none, the logits stay as they are.

    Returns:
        The filter; all get the same `tokens`.

    Example:
        >>> chain(TopK(2), Temperature(0.5))(torch.tensor([[1.0, 3.0, 2.0]]), torch.tensor([[0]]))
        tensor([[-inf, 6., 4.]])
    """

    def chained(logits: Tensor, tokens: Tensor) -> Tensor:
        for filter_ in filters:
            logits = filter_(logits, tokens)
        return logits

    return chained


def greedy(logits: Tensor) -> Tensor:
    """Choose the most likely token of each row, the first of several that are equal.

    Args:
        logits: (B, V).

    Returns:
        int64 (B,).

    Raises:
        ValueError: a row has no largest finite logit: it holds NaN or infinity, or nothing but -inf. The message gives
            the number of the row.

    Example:
        >>> greedy(torch.tensor([[1.0, 3.0, 2.0]]))
        tensor([1])
    """
    _check_rows(logits)
    return logits.argmax(dim=-1)


def sample(logits: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
    """Draw a token of each row, each with its probability under the softmax of the row.

    Args:
        logits: (B, V); half precision is brought up to float32 first.
        generator: where the random numbers come from, on the device of `logits`; torch's global one if None.

    Returns:
        int64 (B,). A token whose logit is -inf is never drawn. Rows are independent of each other.

    Raises:
        ValueError: as `greedy`.

    Example:
        >>> sample(torch.tensor([[-math.inf, 3.0, -math.inf]]))
        tensor([1])
    """
    _check_rows(logits)
    return _wide(logits).softmax(dim=-1).multinomial(1, generator=generator).squeeze(-1)


def next_token(
    logits: Tensor,
    tokens: Tensor,
    filters: Sequence[LogitFilter] = (),
    *,
    sampling: bool = False,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Choose the next token of each text: through all filters, then by `sample` or `greedy`.

    Args:
        logits: (B, V), of the next token.
        tokens: int64 (B, T), the texts so far; negative where there is padding.
        filters: applied in their order.
        sampling: whether to draw; the most likely token is taken if not.
        generator: as of `sample`; not used where nothing is drawn.

    Returns:
        int64 (B,).

    Raises:
        ValueError: as `greedy`, of the logits behind all filters; and what the filters refuse.

    Example:
        >>> logits, tokens = torch.tensor([[3.0, 2.0]]), torch.tensor([[0]])
        >>> next_token(logits, tokens), next_token(logits, tokens, [RepetitionPenalty(2.0)])
        (tensor([0]), tensor([1]))
    """
    logits = chain(*filters)(logits, tokens)
    return sample(logits, generator=generator) if sampling else greedy(logits)


def _wide(logits: Tensor) -> Tensor:
    """In float32 at least: half precision would lose the sum of thousands of small probabilities."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def _check_rows(logits: Tensor) -> None:
    """Refuse what has no most likely token."""
    largest = logits.amax(dim=-1)  # (B,); NaN where the row has any
    if not largest.isfinite().all():
        row = int((~largest.isfinite()).nonzero()[0])
        raise ValueError(f"row {row} has no largest finite logit, but {largest[row].item()}")
