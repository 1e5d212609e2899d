"""Positions that are learned, positions that are rotated, and an experiment on which of them carry over to long texts.

Attention without a mask does not know in which order its tokens stand, so each token must be told its position. GPT-2
adds a learned row to it. Rotary embeddings turn the queries and keys instead, so that their dot products depend on
distances alone. `extrapolation_experiment` trains a tiny model with each of these, and with the sinusoidal encoding,
on short texts and looks at what is left of it on longer ones.

Symbols: B sequences in a batch, T their length, C the width of the model (`embedding_dim`), D the width of a head
(`head_dim`), V the size of the vocabulary.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .sinusoidal import sinusoidal_encoding

if TYPE_CHECKING:  # matplotlib takes a third of a second to import: only who draws pays for it
    from matplotlib.figure import Figure

SCHEMES = ("learned", "sinusoidal", "rotary")


class LearnedPositionalEmbedding(nn.Module):
    """Add to each token the learned row of its position, as GPT-2's `wpe` (Radford et al. 2018, section 3.1).

    Parameters:
        weight: (max_length, C), drawn from a normal distribution of mean 0 and standard deviation 0.02.

    Args:
        max_length: how many positions there are, at least 1.
        embedding_dim: C, at least 1.
        generator: where the weight is drawn from; torch's global one if None.

    Raises:
        ValueError: `max_length` or `embedding_dim` is less than 1; the message names which, and its value.

    Example:
        >>> positions = LearnedPositionalEmbedding(1024, 768)  # as in the smallest GPT-2
        >>> positions(torch.zeros(2, 5, 768)).shape
        torch.Size([2, 5, 768])
    """

    def __init__(self, max_length: int, embedding_dim: int, *, generator: torch.Generator | None = None) -> None:
        raise NotImplementedError("embeddings/learned: LearnedPositionalEmbedding.__init__")

    def forward(self, x: Tensor, *, past: int = 0) -> Tensor:
        """Add the rows `past`, `past` + 1 and so on to the tokens.

        Args:
            x: tokens (B, T, C).
            past: number of positions before the first token, at least 0; a decoder with a cache has some.

        Returns:
            (B, T, C).

        Raises:
            ValueError: `x` has not three axes, the last of size C, or `past` is negative, or `past` + T is more than
                `max_length`, for there is no such row. The message gives the shape, or names `past` and its value, or
                gives both `past` + T and `max_length`.
        """
        raise NotImplementedError("embeddings/learned: LearnedPositionalEmbedding.forward")


def rotary_angles(
    length: int,
    head_dim: int,
    *,
    past: int = 0,
    base: float = 10000.0,
    dtype: torch.dtype = torch.float32,
    device: torch.device | None = None,
) -> tuple[Tensor, Tensor]:
    """Cosines and sines of the angles by which each position's queries and keys are turned.

    At position p, pair i of a head, with i from 0 to D/2 - 1, is turned by the angle p / base^(2i/D), in radians (Su
    et al. 2021, section 3.2.2).

    Args:
        length: number of positions T, at least 0.
        head_dim: width of a head D, even and at least 2.
        past: the first position, at least 0; a decoder with a cache has tokens before it.
        base: pair i comes round after 2 pi base^(2i/D) positions; greater than 0.
        dtype: floating dtype of the results.
        device: where they are made.

    Returns:
        Cosines (T, D/2) and sines (T, D/2), row t for position past + t. Up to position 100,000 each number lies
        within 1e-6 of the true one in float32, and within 1e-9 in float64.

    Raises:
        ValueError: `length` or `past` is negative, `head_dim` is odd or less than 2, or `base` is not greater than 0;
            the message names which, and its value.

    Example:
        >>> rotary_angles(2, 4)[1]  # the sines of 0 and 0, then of 1 and 1/100
        tensor([[0.0000, 0.0000],
                [0.8415, 0.0100]])
    """
    raise NotImplementedError("embeddings/learned: rotary_angles")


def apply_rotary(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each pair of a query or key by its position's angle (Su et al. 2021, section 3.4.2).

    Coordinate i is paired with coordinate i + D/2, as in Llama; the paper pairs 2 * i with 2 * i + 1, which is the same
    up to the order of the coordinates. The pair (a, b) becomes (a cos - b sin, a sin + b cos). Queries and keys are
    turned, values are not. The dot product of a query at position m and a key at position n then depends on n - m
    only.

    Args:
        x: queries or keys (..., T, D), of a floating dtype.
        cos: cosines (T, D/2), as from `rotary_angles`; axes before these broadcast against those of `x`.
        sin: sines, of the same shape.

    Returns:
        (..., T, D), of the dtype of `x`. Where `cos` is wider, it is rounded only at the end.

    Raises:
        ValueError: the last two axes of `cos` or of `sin` are not (T, D/2); the message names which, and gives its
            shape and that of `x`.

    Example:
        >>> cos, sin = torch.tensor([[0.0]]), torch.tensor([[1.0]])  # a quarter turn
        >>> apply_rotary(torch.tensor([[3.0, 4.0]]), cos, sin)
        tensor([[-4.,  3.]])
    """
    raise NotImplementedError("embeddings/learned: apply_rotary")


class RecallModel(nn.Module):
    """One head of causal attention that is to name, at each position, the token some steps before it.

    This is given, to be read: it shows where each scheme enters. It has no MLP, no norm and no residual, for the task
    needs nothing but to find the right position.

    Parameters:
        tokens: (V, C), a row for each token.
        projection: (3 C, C), which makes query, key and value; and its `bias` (3 C,). Whatever the tokens are, the
            biases give queries and keys something constant, which rotary embeddings can turn.
        output: (V, C), which makes the logits.
        positions: a `LearnedPositionalEmbedding`, of the learned scheme only.

    Args:
        scheme: one of `SCHEMES`.
        vocabulary: V.
        max_length: how many positions the learned scheme has rows for.
        generator: where the weights are drawn from, those that all schemes have first.
        width: C, which is D too.

    Raises:
        ValueError: `scheme` is none of them; the message gives it.
    """

    def __init__(
        self, scheme: str, vocabulary: int, max_length: int, generator: torch.Generator, width: int = 32
    ) -> None:
        super().__init__()
        if scheme not in SCHEMES:
            raise ValueError(f"scheme must be one of {', '.join(SCHEMES)}, got {scheme!r}")
        self.scheme = scheme
        self.tokens = nn.Parameter(torch.randn(vocabulary, width, generator=generator))
        self.projection = nn.Parameter(torch.randn(3 * width, width, generator=generator) / math.sqrt(width))
        self.bias = nn.Parameter(torch.zeros(3 * width))
        self.output = nn.Parameter(torch.randn(vocabulary, width, generator=generator) / math.sqrt(width))
        if scheme == "learned":
            self.positions = LearnedPositionalEmbedding(max_length, width, generator=generator)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits (B, T, V) for tokens (B, T), whole numbers from 0 to V - 1."""
        x = self.tokens[tokens]  # (B, T, C)
        length, width = x.shape[-2:]
        if self.scheme == "learned":
            x = self.positions(x)
        elif self.scheme == "sinusoidal":
            x = x + sinusoidal_encoding(length, width)
        query, key, value = F.linear(x, self.projection, self.bias).chunk(3, dim=-1)
        if self.scheme == "rotary":
            cos, sin = rotary_angles(length, width)
            query, key = apply_rotary(query, cos, sin), apply_rotary(key, cos, sin)
        return F.linear(F.scaled_dot_product_attention(query, key, value, is_causal=True), self.output)


def train_recall(
    model: nn.Module, vocabulary: int, *, length: int, distance: int, updates: int, generator: torch.Generator
) -> None:
    """Train a model to name the token `distance` steps back, on random sequences; given, to be read.

    Args:
        model: maps tokens (B, T) to logits (B, T, V).
        vocabulary: V.
        length: T of the sequences, more than `distance`.
        distance: how many steps back the token to be named stands, at least 1.
        updates: how many steps of Adam to make, each of a learning rate of 0.01 and on 32 fresh sequences.
        generator: where the sequences are drawn from.
    """
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(updates):
        tokens = torch.randint(vocabulary, (32, length), generator=generator)
        logits = model(tokens)[:, distance:]  # the first `distance` positions have nothing to name
        loss = F.cross_entropy(logits.flatten(0, 1), tokens[:, :-distance].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def recall_accuracy(model: Callable[[Tensor], Tensor], tokens: Tensor, distance: int) -> Tensor:
    """How often a model names the token `distance` steps back, at each position.

    In a causal model, what comes out at position p is what would come out at the end of a text of p + 1 tokens. So one
    batch of long sequences measures all shorter lengths as well.

    Args:
        model: maps tokens (B, T) to logits (B, T, V); it names the token of the greatest logit. It is only measured,
            so autograd need not record what it does, and shall not.
        tokens: whole numbers (B, T).
        distance: how many steps back the token to be named stands, at least 1 and less than T.

    Returns:
        Shares (T - distance,) of the B sequences, float32: entry i belongs to position i + distance, the earlier
        positions having nothing to name.

    Example:
        >>> def parrot(tokens):  # names the token that it sees
        ...     return F.one_hot(tokens, 3)
        >>> recall_accuracy(parrot, torch.tensor([[0, 0, 1], [2, 0, 0]]), 1)
        tensor([0.5000, 0.5000])
    """
    raise NotImplementedError("embeddings/learned: recall_accuracy")


@dataclass
class Extrapolation:
    """What the experiment found."""

    train_length: int  # the models were trained at the positions below it
    vocabulary: int  # V: who guesses is right once in V
    positions: Tensor  # (P,) whole numbers: where it was measured
    accuracy: dict[str, Tensor]  # for each of SCHEMES, in their order: shares (P,), from 0 to 1


def extrapolation_experiment(
    *,
    seed: int,
    train_length: int = 16,
    test_length: int = 64,
    vocabulary: int = 8,
    distance: int = 3,
    updates: int = 200,
) -> Extrapolation:
    """Train a `RecallModel` of each scheme on short sequences, and measure it at each position of longer ones.

    All three have the same sequences to train on, and the same 256 fresh ones to be measured on. Each model's
    `max_length` is `test_length`: the learned scheme has rows for all positions, of which training reaches the first
    `train_length`.

    Args:
        seed: everything random comes from it, by generators of its own: the same seed gives the same result.
        train_length: length of the sequences that are trained on, more than `distance`.
        test_length: length of the sequences that are measured on, more than `train_length`.
        vocabulary: V, at least 2.
        distance: how many steps back the token to be named stands, at least 1.
        updates: how many steps of training each model gets.

    Returns:
        The accuracies at the positions from `distance` to `test_length` - 1.

    Raises:
        ValueError: unless distance < train_length < test_length; the message gives the three.

    Example:
        >>> result = extrapolation_experiment(seed=0)  # in about a second
        >>> longer = result.positions >= result.train_length
        >>> bool(result.accuracy["rotary"][longer].mean() > 0.8)
        True
    """
    raise NotImplementedError("embeddings/learned: extrapolation_experiment")


def plot_extrapolation(result: Extrapolation) -> "Figure":
    """Draw each scheme's accuracy over the position, with the end of training and the level of guessing.

    The figure is matplotlib's `matplotlib.figure.Figure`, made without `pyplot`: pyplot keeps every figure it makes
    in a global list and may want a display. Import matplotlib inside the function; it is slow to import.

    Args:
        result: what the experiment found.

    Returns:
        A figure with one axes. For each scheme it has a line (`Axes.plot`) labelled with its name, the positions on
        the x axis, called "position", and the accuracies on the y axis, called "accuracy", which shows 0 to 1 and at
        most 0.2 more at either end. An upright line (`Axes.axvline`) labelled "training ends" stands at `train_length`,
        a level one (`Axes.axhline`) labelled "guessing" at 1 / `vocabulary`; both are dashed or dotted, in a colour
        that no scheme has. A legend names all lines.

    Example:
        >>> shares = {"rotary": torch.tensor([1.0, 1.0, 0.9])}
        >>> figure = plot_extrapolation(Extrapolation(3, 8, torch.tensor([1, 2, 3]), shares))
        >>> [line.get_label() for line in figure.axes[0].get_lines()]
        ['rotary', 'training ends', 'guessing']
    """
    raise NotImplementedError("embeddings/learned: plot_extrapolation")
