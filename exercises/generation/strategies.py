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
        raise NotImplementedError("generation/strategies: Temperature.__post_init__")

    def __call__(self, logits: Tensor, tokens: Tensor) -> Tensor:
        """Apply the filter: (B, V) to (B, V); `tokens` play no part."""
        raise NotImplementedError("generation/strategies: Temperature.__call__")


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
        raise NotImplementedError("generation/strategies: TopK.__post_init__")

    def __call__(self, logits: Tensor, tokens: Tensor) -> Tensor:
        """Apply the filter: (B, V) to (B, V); `tokens` play no part."""
        raise NotImplementedError("generation/strategies: TopK.__call__")


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
        raise NotImplementedError("generation/strategies: TopP.__post_init__")

    def __call__(self, logits: Tensor, tokens: Tensor) -> Tensor:
        """Apply the filter: (B, V) to (B, V); `tokens` play no part. Half precision is summed in float32."""
        raise NotImplementedError("generation/strategies: TopP.__call__")


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
        raise NotImplementedError("generation/strategies: MinP.__post_init__")

    def __call__(self, logits: Tensor, tokens: Tensor) -> Tensor:
        """Apply the filter: (B, V) to (B, V); `tokens` play no part. Half precision is compared in float32."""
        raise NotImplementedError("generation/strategies: MinP.__call__")


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
        raise NotImplementedError("generation/strategies: RepetitionPenalty.__post_init__")

    def __call__(self, logits: Tensor, tokens: Tensor) -> Tensor:
        """Apply the filter: (B, V) to (B, V).

        Raises:
            ValueError: `tokens` are not (B, T), or one is not below V; the message gives both shapes, or the token
                and V.
        """
        raise NotImplementedError("generation/strategies: RepetitionPenalty.__call__")


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
    raise NotImplementedError("generation/strategies: chain")


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
    raise NotImplementedError("generation/strategies: greedy")


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
    raise NotImplementedError("generation/strategies: sample")


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
    raise NotImplementedError("generation/strategies: next_token")
