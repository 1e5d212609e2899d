"""Looking at embeddings: their longest directions, their nearest neighbours, and pictures of both words and positions.

Symbols: N points of C numbers each; V tokens in the vocabulary; T positions.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:  # matplotlib takes a third of a second to import: only who draws pays for it
    from matplotlib.figure import Figure


def pca_project(x: Tensor, components: int = 2) -> Tensor:
    """Project points onto the directions in which they spread most: principal component analysis.

    The points are centred: the mean of each column is taken off. The first axis is the unit vector along which they
    then have the greatest variance; each further one has the greatest among those perpendicular to all before it
    (Pearson 1901; Jolliffe 2002, section 1.1). The columns are not scaled.

    An axis may be turned round. So that the result is determined, it is turned such that its own entry of largest
    magnitude is positive. (That leaves open what two equal variances, or two equal largest entries, leave open.) The
    decomposition is exact, not a randomised one: no random numbers are drawn.

    Args:
        x: points (N, C), float32 or float64, N and C at least 1; they may require a gradient.
        components: number of axes, from 1 to the smaller of N and C.

    Returns:
        Scores (N, components), of the dtype of `x`: for each point, its coordinate along each axis, the axis of
        greatest variance first. Points that are all the same, or a single one, get zeros.

    Raises:
        ValueError: `x` has not two axes, or `components` is out of its range; the message gives the shape, or names
            `components` and its value.

    Example:
        >>> pca_project(torch.tensor([[1.0, 2.0], [4.0, 6.0], [7.0, 10.0]]), components=1).round()
        tensor([[-5.],
                [ 0.],
                [ 5.]])
    """
    raise NotImplementedError("embeddings/visualization: pca_project")


def nearest_neighbours(weight: Tensor, query: int, k: int) -> tuple[Tensor, Tensor]:
    """Find the k tokens whose vectors point most nearly the same way as that of a token.

    The measure is the cosine similarity: the dot product of two vectors divided by both of their lengths, from -1 for
    opposite directions to 1 for the same (Mikolov et al. 2013, section 4).

    Args:
        weight: vectors (V, C), float32 or float64, row v that of token v; it may require a gradient.
        query: the token, from 0 to V - 1.
        k: number of neighbours, from 1 to V - 1.

    Returns:
        The neighbours' tokens (k,), int64, and their similarities (k,), of the dtype of `weight`, the most similar
        first. The query is never among them; another token of the same vector may be. A row of zeros has similarity 0
        to every other. Equally similar tokens come in any order.

    Raises:
        ValueError: `weight` has not two axes, or `k` is out of its range; the message gives the shape, or names `k`
            and its value.
        IndexError: `query` is out of its range; the message names it and its value.

    Example:
        >>> weight = torch.tensor([[1.0, 0.0], [0.0, 2.0], [9.0, 0.0], [-1.0, 0.0]])
        >>> nearest_neighbours(weight, 0, 2)
        (tensor([2, 1]), tensor([1., 0.]))
    """
    raise NotImplementedError("embeddings/visualization: nearest_neighbours")


def plot_embeddings(points: Tensor, labels: Sequence[str] | None = None) -> "Figure":
    """Draw points in the plane, each with its label: a map of embeddings after `pca_project`.

    The figure is matplotlib's `matplotlib.figure.Figure`, made without `pyplot`, as in all functions here: pyplot keeps
    every figure it makes in a global list. Import matplotlib inside the functions; it is slow to import.

    Args:
        points: (N, 2), of a floating dtype, on any device; they may require a gradient.
        labels: N of them, one for each point; there are none if None.

    Returns:
        A figure with one axes. It holds the points (`Axes.scatter`), and for each label a text that is anchored at its
        point: the `xy` of `Axes.annotate`, or the position of `Axes.text`. The texts are the labels as they are: a
        dollar sign begins no formula (`parse_math=False`). A unit is as long on the x axis as on the y axis (the
        aspect is "equal"), for distances are what one looks at; the axes are called "component 1" and "component 2".

    Raises:
        ValueError: `points` are not (N, 2), or `labels` are not N; the message gives the shape, or both numbers.

    Example:
        >>> figure = plot_embeddings(torch.tensor([[0.0, 0.0], [3.0, 4.0]]), ["to", "be"])
        >>> [text.get_text() for text in figure.axes[0].texts]
        ['to', 'be']
    """
    raise NotImplementedError("embeddings/visualization: plot_embeddings")


def plot_positional_encoding(encoding: Tensor) -> "Figure":
    """Draw a table of positional encodings as a heat map: what each position is given in each dimension.

    Args:
        encoding: (T, C), of a floating dtype, on any device; it may require a gradient.

    Returns:
        A figure with two axes. The first hold one image (`Axes.imshow`) of the table: a row for each position, the
        first at the top, and a column for each dimension; it fills the axes, however long or wide the table is (the
        aspect is "auto"). Their x axis is called "dimension", their y axis "position".
        The colours are diverging, as those of "RdBu_r" or "coolwarm": one hue for negative numbers, another for
        positive, and between them the neutral colour of 0. So the scale is symmetric, from -m to m with m the greatest
        magnitude in the table, or from -1 to 1 if all of it is 0. The second axes are the image's colour bar.

    Raises:
        ValueError: `encoding` has not two axes; the message gives its shape.

    Example:
        >>> figure = plot_positional_encoding(torch.tensor([[0.0, 1.0, -3.0]]))
        >>> figure.axes[0].images[0].get_clim()
        (-3.0, 3.0)
    """
    raise NotImplementedError("embeddings/visualization: plot_positional_encoding")


def plot_similarity(encoding: Tensor) -> "Figure":
    """Draw how alike the positions are to each other: the cosine similarity of each two rows, as a heat map.

    Args:
        encoding: (T, C), of a floating dtype, on any device; it may require a gradient.

    Returns:
        A figure as that of `plot_positional_encoding`, whose image is (T, T): in row i and column j the cosine
        similarity of rows i and j of the encoding, as in `nearest_neighbours`; 0 for a row of zeros, also to itself.
        Both axes are called "position", and the scale is from -1 to 1 whatever occurs.

    Raises:
        ValueError: `encoding` has not two axes; the message gives its shape.

    Example:
        >>> figure = plot_similarity(torch.tensor([[1.0, 0.0], [5.0, 0.0], [0.0, -2.0]]))
        >>> figure.axes[0].images[0].get_array().shape
        (3, 3)
    """
    raise NotImplementedError("embeddings/visualization: plot_similarity")
