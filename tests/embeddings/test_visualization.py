"""Grades embeddings/visualization.

Points for the projection are made of known axes and scores, so that the answer is known without any decomposition; one
check asks `torch.linalg.svd`. Neighbours are found by a loop over pairs of rows. The figures are judged by what they
hold, never by their pixels.
"""

import math
import sys
from itertools import pairwise
from typing import Any

import numpy
import pytest
import torch
from matplotlib.figure import Figure
from torch import Tensor

from checkpoints.checks import Answer, Check, Draw, Stop, Workload
from checkpoints.misconceptions import Misconception
from exercises.embeddings.visualization import (
    nearest_neighbours,
    pca_project,
    plot_embeddings,
    plot_positional_encoding,
    plot_similarity,
)

pytestmark = pytest.mark.filterwarnings("ignore")  # what matplotlib would do otherwise one day is no mistake

MISCONCEPTIONS = [
    Misconception("points that are not centred: the first axis then leads to their mean", ("x - x.mean(dim=0)", "x")),
    Misconception("points centred by the mean of all numbers: each column has its own", ("x.mean(dim=0)", "x.mean()")),
    Misconception(
        "each column divided by its standard deviation: the spread is what one asks about",
        ("x - x.mean(dim=0)", "torch.nan_to_num((x - x.mean(dim=0)) / x.std(dim=0))"),
    ),
    Misconception(
        "the axes of least variance: singular values come in descending order",
        ("axes = axes[:components]", "axes = axes[-components:].flip(0)"),
    ),
    Misconception(
        "columns of U without the singular values: all components then have the same spread",
        ("_, _, axes = torch.linalg.svd", "left, _, axes = torch.linalg.svd"),
        ("return centred @ (axes * largest.sign()).T", "return left[:, :components] * largest.sign().T"),
    ),
    Misconception(
        "the axes in the place of the points' coordinates along them",
        ("return centred @ (axes * largest.sign()).T", "return (axes * largest.sign()).T"),
    ),
    Misconception(
        "axes turned as the decomposition happens to give them",
        ("centred @ (axes * largest.sign()).T", "centred @ axes.T"),
    ),
    Misconception(
        "axes turned such that the largest score is positive: the largest entry of the axis is to be",
        (
            "largest = axes.gather(1, axes.abs().argmax(dim=1, keepdim=True))",
            "scores = axes @ centred.T\nlargest = scores.gather(1, scores.abs().argmax(dim=1, keepdim=True))",
        ),
    ),
    Misconception("the input centred in place", ("x - x.mean(dim=0)", "x.detach().sub_(x.detach().mean(dim=0))")),
    Misconception(
        "dot products in the place of cosines: long vectors are then near to all",
        ("directions = F.normalize(weight)", "directions = weight"),
    ),
    Misconception(
        "Euclidean distances in the place of angles",
        (
            "similarities = directions @ directions[query]",
            "similarities = -torch.cdist(weight, weight[query, None])[:, 0]",
        ),
    ),
    Misconception("the query among its own neighbours", ('similarities[query] = float("-inf")', "pass")),
    Misconception(
        "the first of k + 1 left out in the place of the query: another row may be as similar",
        ('similarities[query] = float("-inf")', "pass"),
        (
            "nearest = similarities.topk(k)\nreturn nearest.indices, nearest.values",
            "nearest = similarities.topk(k + 1)\nreturn nearest.indices[1:], nearest.values[1:]",
        ),
    ),
    Misconception(
        "the least similar first",
        ('float("-inf")', 'float("inf")'),
        ("similarities.topk(k)", "similarities.topk(k, largest=False)"),
    ),
    Misconception(
        "similarities before tokens: topk's order, not the one asked for",
        ("return nearest.indices, nearest.values", "return nearest.values, nearest.indices"),
    ),
    Misconception(
        "a row of zeros divided by its length: NaN, which is first of all",
        ("directions = F.normalize(weight)", "directions = weight / weight.norm(dim=-1, keepdim=True)"),
    ),
    Misconception(
        "labels shifted by one point",
        ("enumerate(labels or ())", "enumerate([*labels[1:], *labels[:1]] if labels else ())"),
    ),
    Misconception("labels in which dollar signs begin formulas", (", parse_math=False)", ")")),
    Misconception("a unit on one axis longer than on the other", (', aspect="equal")', ")")),
    Misconception(
        "a figure of pyplot, which keeps it",
        (
            """
            figure = Figure()
            axes = figure.add_subplot()
            axes.scatter(places[:, 0], places[:, 1])
            """,
            """
            from matplotlib import pyplot
            figure = pyplot.figure()
            axes = figure.add_subplot()
            axes.scatter(places[:, 0], places[:, 1])
            """,
        ),
    ),
    Misconception(
        "a heat map with positions as columns: they are the rows",
        ("_heat_map(encoding, limit,", "_heat_map(encoding.T, limit,"),
    ),
    Misconception("a heat map with position 0 at the bottom", ('aspect="auto")', 'aspect="auto", origin="lower")')),
    Misconception(
        "colours from the least to the greatest number: 0 then has a hue",
        ("vmin=-limit, vmax=limit", "vmin=values.min(), vmax=values.max()"),
    ),
    Misconception(
        "colours that begin at 0: all negative numbers look alike", ("vmin=-limit, vmax=limit", "vmin=0.0, vmax=limit")
    ),
    Misconception("sequential colours, which have no neutral middle for 0", ('cmap="RdBu_r"', 'cmap="viridis"')),
    Misconception(
        "dot products of positions in the place of their cosines",
        ("directions = F.normalize(encoding.double())", "directions = encoding.double()"),
    ),
]


def workload(task: Any, draw: Draw) -> list[Workload]:
    """Typical calls, for `compare`; figures cannot be compared."""
    x, _ = _points(draw, 1000, 64, [40.0, 30.0, 20.0, 10.0])
    return [
        Workload("pca_project(x)", task.pca_project, (x,)),
        Workload("pca_project(x, components=3)", task.pca_project, (x,), {"components": 3}),
        Workload("nearest_neighbours(weight, 7, 10)", task.nearest_neighbours, (draw.normal(5000, 64), 7, 10)),
    ]


def _points(draw: Draw, count: int, dim: int, spread: list[float]) -> tuple[Tensor, Tensor]:
    """Points in float64 whose scores along their principal axes are known: both of them.

    The scores' columns have mean 0, are perpendicular and have the lengths `spread`. The axes are perpendicular unit
    vectors, each with a largest entry that stands out by 0.01 and is positive.
    """
    rank = len(spread)
    columns = torch.cat((torch.ones(count, 1, dtype=torch.float64), draw.normal(count, rank, dtype=torch.float64)), 1)
    scores = torch.linalg.qr(columns).Q[:, 1:] * torch.tensor(spread, dtype=torch.float64)
    while True:
        axes = torch.linalg.qr(draw.normal(dim, rank, dtype=torch.float64)).Q.T  # (rank, dim)
        magnitudes = axes.abs().sort(dim=1, descending=True).values
        if bool((magnitudes[:, 0] - magnitudes[:, 1] > 0.01).all()):
            break
    axes *= axes.gather(1, axes.abs().argmax(dim=1, keepdim=True)).sign()
    return scores @ axes + draw.normal(dim, dtype=torch.float64, scale=3.0), scores


def _cosine(one: Tensor, other: Tensor) -> float:
    """The cosine similarity of two rows, by plain numbers; 0 where one of them is zeros."""
    left, right = one.tolist(), other.tolist()
    lengths = math.hypot(*left) * math.hypot(*right)
    return math.fsum(a * b for a, b in zip(left, right, strict=True)) / lengths if lengths else 0.0


def _neighbours(weight: Tensor, query: int) -> list[tuple[float, int]]:
    """All other rows with their similarities, the most similar first."""
    return sorted(
        ((_cosine(weight[query], row), token) for token, row in enumerate(weight) if token != query), reverse=True
    )


def _distinct(draw: Draw, tokens: int, dim: int) -> Tensor:
    """Rows of many lengths, and none of whose similarities to another are closer to each other than 1e-4."""
    while True:
        weight = draw.strided(tokens, dim) * draw.uniform(0.2, 5.0, tokens, 1)
        lists = [[similarity for similarity, _ in _neighbours(weight, query)] for query in range(tokens)]
        if all(a - b > 1e-4 for found in lists for a, b in pairwise(found)):
            return weight


def test_pca_by_hand(check: Check) -> None:
    """Three points on the line of direction (3, 4), 5 apart: the scores are -5, 0 and 5, and across it 0."""
    line = torch.tensor([[1.0, 2.0], [4.0, 6.0], [7.0, 10.0]])
    check(pca_project, line, components=1).equals(torch.tensor([[-5.0], [0.0], [5.0]]))
    check(pca_project, line).equals(torch.tensor([[-5.0, 0.0], [0.0, 0.0], [5.0, 0.0]]), note="two components")
    # Downhill: of the axis (3, -4) / 5 or (-3, 4) / 5, the second has its largest entry positive.
    downhill = torch.tensor([[7.0, 2.0], [1.0, 10.0], [4.0, 6.0]])
    check(pca_project, downhill, components=1).equals(torch.tensor([[-5.0], [5.0], [0.0]]))


def test_pca_known_axes(check: Check) -> None:
    """Points made of known scores along known axes, wherever their mean: the scores come back, in order and sign."""
    for _ in range(6):
        x, scores = _points(check.draw, check.draw.size(8, 14), check.draw.size(5, 9), [8.0, 4.0, 2.0, 1.0])
        components = check.draw.integer(1, 5)
        check(pca_project, x, components).equals(
            scores[:, :components], note="the largest entry of an axis is positive"
        )
    # float32 by way of the covariance: the second axis is off by about 36 / (9 - 1) * 1e-7, the scores by 10 times that.
    x, scores = _points(check.draw, 12, 5, [6.0, 3.0, 1.0])
    check(pca_project, x.float()).equals(scores[:, :2].float(), rtol=1e-4, atol=1e-4)


def test_pca_like_svd(check: Check) -> None:
    """On any points, the scores are those of torch.linalg.svd, up to the signs of the axes; nothing is random."""
    for count, dim in (
        (check.draw.size(9, 14), check.draw.size(3, 7)),
        (check.draw.size(3, 6), check.draw.size(8, 12)),
    ):
        x = check.draw.strided(count, dim, dtype=torch.float64) + check.draw.normal(dim, dtype=torch.float64, scale=3.0)
        left, singular, _ = torch.linalg.svd(x - x.mean(dim=0, keepdim=True), full_matrices=False)
        expected = left[:, :2] * singular[:2]
        before = torch.get_rng_state()
        answer = check(pca_project, x).has(shape=(count, 2), dtype=torch.float64)
        answer.satisfies(
            torch.equal(torch.get_rng_state(), before),
            got="random numbers drawn from torch's global generator, as by a randomised decomposition",
            expected="an exact decomposition, without any",
        )
        answer.satisfies(
            # Signs fall out of the products of each column's scores. 1e-8, for two near variances leave less exact axes.
            torch.allclose(_products(answer.value), _products(expected), rtol=0.0, atol=1e-8),
            got=f"columns of lengths {_listed(answer.value.norm(dim=0))}",
            expected=f"those of U S, of lengths {_listed(expected.norm(dim=0))}, or their opposites",
        )


def _products(scores: Tensor) -> Tensor:
    """Of each column, the products of its entries with each other: (components, N, N)."""
    return scores.T[:, :, None] * scores.T[:, None, :]


def _listed(numbers: Tensor) -> str:
    return ", ".join(f"{number:.6g}" for number in numbers.tolist())


def test_pca_keeps_distances(check: Check) -> None:
    """With as many components as there are, all distances between points stay as they are; a shift changes nothing."""
    count, dim = check.draw.size(6, 10), check.draw.size(3, 6)
    x = check.draw.normal(count, dim, dtype=torch.float64)
    scores = check(pca_project, x, dim).has(shape=(count, dim), dtype=torch.float64).value
    distances = check.run("the distances between the scores", lambda: (scores[:, None] - scores).norm(dim=-1))
    distances.equals((x[:, None] - x).norm(dim=-1), note="those between the points")
    shift = check.draw.normal(dim, dtype=torch.float64, scale=10.0)
    # The shift costs roundings of 1e-15, and an axis turns by that divided by how much two spreads differ, relatively,
    # which for random points is above 1e-7 but once in millions.
    check(pca_project, x + shift, dim).equals(scores, rtol=1e-7, atol=1e-7, note="as without the shift")


def test_pca_edges(check: Check) -> None:
    """One point, and points that are all the same, get zeros; one column only loses its mean."""
    dim = check.draw.size()
    check(pca_project, check.draw.normal(1, dim), 1).equals(torch.zeros(1, 1))
    # Halves have exact means, also of four.
    same = (check.draw.integers(-9, 10, dim) / 2).expand(4, dim)
    check(pca_project, same).equals(torch.zeros(4, 2))
    column = check.draw.normal(5, 1)
    check(pca_project, column, 1).equals(column - column.mean())
    parameter = torch.nn.Parameter(check.draw.normal(6, dim))
    check(pca_project, parameter).has(shape=(6, 2), dtype=torch.float32)


def test_pca_refuses(check: Check) -> None:
    """No component, more than there are points or columns, and points without two axes are refused."""
    x = check.draw.normal(5, 3)
    check.raises(ValueError, pca_project, x, 0, naming=("components", "0"))
    check.raises(ValueError, pca_project, x, 4, naming=("components", "4"))
    check.raises(ValueError, pca_project, x[:2], components=3, naming=("components", "3"))
    check.raises(ValueError, pca_project, check.draw.normal(2, 3, 4), naming="(2, 3, 4)|[2, 3, 4]")
    check.raises(ValueError, pca_project, check.draw.normal(4), 1, naming="(4,)|[4]")


def test_neighbours_by_hand(check: Check) -> None:
    """Of (1, 0): (9, 0) is as near as can be, however long; then (3, 4), cosine 0.6; last (-1, 0), cosine -1."""
    weight = torch.tensor([[1.0, 0.0], [3.0, 4.0], [-1.0, 0.0], [9.0, 0.0]])
    check(nearest_neighbours, weight, 0, 3).equals((torch.tensor([3, 1, 2]), torch.tensor([1.0, 0.6, -1.0])))
    check(nearest_neighbours, weight, 2, 1).equals((torch.tensor([1]), torch.tensor([-0.6])))


def test_neighbours_pair_by_pair(check: Check) -> None:
    """Each row against each other: the tokens and their cosines, the most similar first, for any k."""
    tokens, dim = check.draw.size(5, 9), check.draw.size(3, 6)
    weight = _distinct(check.draw, tokens, dim)
    for dtype in (torch.float32, torch.float64):
        query, k = check.draw.integer(0, tokens), check.draw.integer(2, tokens)
        found = _neighbours(weight, query)[:k]
        expected = (
            torch.tensor([token for _, token in found]),
            torch.tensor([similarity for similarity, _ in found], dtype=dtype),
        )
        check(nearest_neighbours, weight.to(dtype), query, k).equals(expected)
    parameter = torch.nn.Parameter(weight.clone())
    answer = check(nearest_neighbours, parameter, 0, 1)
    answer.equals((torch.tensor([_neighbours(weight, 0)[0][1]]), torch.tensor([_neighbours(weight, 0)[0][0]])))


def test_neighbours_of_the_same_direction(check: Check) -> None:
    """Of three tokens with the same vector, the other two are the nearest, and never the query itself."""
    weight = check.draw.normal(7, 4)
    twins = check.draw.permutation(7)[:3].tolist()
    weight[twins] = torch.tensor([1.0, -2.0, 2.0, 4.0])  # of length 5
    for query in twins:
        answer = check(nearest_neighbours, weight, query, 2)
        tokens = _tokens(answer)
        others = sorted(set(twins) - {query})
        answer.satisfies(sorted(tokens) == others, got=f"tokens {tokens}", expected=f"{others}, in any order")
    two = torch.tensor([[1.0, 2.0], [2.0, -1.0]])
    check(nearest_neighbours, two, 1, 1).equals((torch.tensor([0]), torch.tensor([0.0])), note="of two tokens")


def _tokens(answer: Answer) -> list[int]:
    """The tokens of an answer, as far as it has some."""
    value = answer.value
    if type(value) is tuple and len(value) == 2 and isinstance(value[0], Tensor):
        return [int(token) for token in value[0].flatten().tolist() if math.isfinite(token)]
    return []


def test_neighbours_of_zeros(check: Check) -> None:
    """A row of zeros, as padding has it, has similarity 0 to all: it is no NaN, and not near to itself."""
    weight = check.draw.normal(5, 4).abs()
    weight[3] = 0.0
    weight[4] *= -1.0
    found = [entry for entry in _neighbours(weight, 0) if entry[1] not in (3, 4)]
    last = _cosine(weight[0], weight[4])  # all its terms are negative
    expected = (
        torch.tensor([*(token for _, token in found), 3, 4]),
        torch.tensor([*(similarity for similarity, _ in found), 0.0, last]),
    )
    check(nearest_neighbours, weight, 0, 4).equals(expected)
    answer = check(nearest_neighbours, weight, 3, 4)
    tokens = _tokens(answer)
    answer.satisfies(sorted(tokens) == [0, 1, 2, 4], got=f"tokens {tokens}", expected="0, 1, 2 and 4, in any order")
    check.run(f"{answer.call}[1]", lambda: answer.value[1]).equals(torch.zeros(4))


def test_neighbours_refuse(check: Check) -> None:
    """No neighbours, as many as there are tokens, and a token that does not exist are refused by name and value."""
    weight = check.draw.normal(5, 3)
    check.raises(ValueError, nearest_neighbours, weight, 1, 0, naming=("k", "0"))
    check.raises(ValueError, nearest_neighbours, weight, 1, 5, naming=("k", "5"))
    check.raises(IndexError, nearest_neighbours, weight, 5, 2, naming=("query", "5"))
    check.raises(IndexError, nearest_neighbours, weight, -1, 2, naming=("query", "-1"))
    check.raises(ValueError, nearest_neighbours, check.draw.normal(6), 1, 2, naming="(6,)|[6]")


_WORDS = ["king", "queen", "prince", "cat", "dog", "horse", "one", "two", "$3$", "$4"]


def test_plot_of_points(check: Check) -> None:
    """The map of embeddings holds each point once, and at each its label as it is; units are as long on both axes."""
    centres = torch.tensor([[3.0, 1.5]] * 3 + [[-3.0, 1.0]] * 3 + [[0.0, -2.0]] * 4)
    apart = torch.tensor([[-0.7, 0.5], [0.6, 0.8], [0.1, -0.6]] * 3 + [[1.0, -0.1]])  # labels that can be read
    points = (centres + apart + check.draw.uniform(-0.2, 0.2, 10, 2)).requires_grad_()
    answer = _drawn(check, check(plot_embeddings, points, _WORDS), "embeddings")
    axes = _axes(answer, 1, "one axes")
    _check_points(check, answer.call, axes, points.detach())
    texts = {text.get_text(): text for text in axes.texts}
    got = sorted(text.get_text() for text in axes.texts)
    check.that(
        got == sorted(_WORDS), call=f"the texts of {answer.call}.axes[0].texts", got=f"{got}", expected=f"{_WORDS}"
    )
    if got == sorted(_WORDS):
        anchors = torch.tensor(
            [list(map(float, getattr(texts[word], "xy", texts[word].get_position()))) for word in _WORDS]
        )
        check.run(f"the anchors of {answer.call}.axes[0].texts", lambda: anchors).equals(
            points.detach(), note="label i at point i"
        )
        formulas = [word for word in _WORDS if texts[word].get_parse_math() and "$" in word]
        check.that(
            not formulas,
            call=f"get_parse_math() of {answer.call}.axes[0].texts",
            got=f"True for {formulas}",
            expected="False where a label holds a dollar sign",
        )
    aspect = axes.get_aspect()
    check.that(
        aspect in (1.0, "equal"), call=f"{answer.call}.axes[0].get_aspect()", got=f"{aspect!r}", expected="1.0, equal"
    )
    _check_names(check, answer.call, axes, "component 1", "component 2")


def test_plot_of_points_without_labels(check: Check) -> None:
    """Without labels there is no text; points of another shape and labels of another number are refused."""
    points = check.draw.normal(check.draw.size(), 2).to(torch.bfloat16)
    answer = check(plot_embeddings, points)
    axes = _axes(answer, 1, "one axes")
    _check_points(check, answer.call, axes, points.float())
    answer.satisfies(not axes.texts, got=f"{len(axes.texts)} texts", expected="none")
    check.raises(ValueError, plot_embeddings, check.draw.normal(4, 3), naming="(4, 3)|[4, 3]")
    check.raises(ValueError, plot_embeddings, check.draw.normal(4), naming="(4,)|[4]")
    check.raises(ValueError, plot_embeddings, check.draw.normal(3, 2, 4), naming="(3, 2, 4)|[3, 2, 4]")
    for labels in (["to", "be"], list("abcdef"), []):
        check.raises(ValueError, plot_embeddings, check.draw.normal(4, 2), labels, naming=(str(len(labels)), "4"))


def test_plot_of_positions(check: Check) -> None:
    """The heat map of positions: a row for each, the first at the top, in diverging colours with 0 in their middle."""
    angles = torch.arange(60.0)[:, None] / 10000.0 ** (torch.arange(0, 32, 2) / 32)
    waves = torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1)
    answer = _drawn(check, check(plot_positional_encoding, waves), "positions")
    _check_heat_map(check, answer, waves, 1.0, "dimension", "position")
    aspect = answer.value.axes[0].get_aspect()
    text = f"{answer.call}.axes[0].get_aspect()"
    check.that(aspect == "auto", call=text, got=f"{aspect!r}", expected="'auto': the table fills its axes")
    # Numbers that are not symmetric about 0, and the other way round, which one row is enough for.
    for length, dim, sign in ((check.draw.size(), 9, 1.0), (1, check.draw.size(), -1.0)):
        table = (sign * (check.draw.uniform(-1.0, 3.0, length, dim))).requires_grad_()
        answer = check(plot_positional_encoding, table)
        _check_heat_map(check, answer, table.detach(), float(table.detach().abs().max()), "dimension", "position")
    table = torch.zeros(2, 3, dtype=torch.bfloat16)
    _check_heat_map(check, check(plot_positional_encoding, table), table, 1.0, "dimension", "position")


def test_plot_of_similarity(check: Check) -> None:
    """The heat map of similarities holds the cosines of all pairs of positions, on a scale from -1 to 1."""
    angles = torch.arange(60.0)[:, None] / 10000.0 ** (torch.arange(0, 32, 2) / 32)
    waves = torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1)
    answer = _drawn(check, check(plot_similarity, waves), "similarity")
    expected = torch.cos(angles.double()[:, None] - angles.double()).mean(dim=-1)  # by the addition theorem
    _check_heat_map(check, answer, expected, 1.0, "position", "position")
    length, dim = check.draw.size(), check.draw.size()
    table = check.draw.normal(length, dim) * check.draw.uniform(0.2, 5.0, length, 1)
    table[1] = 0.0
    cosines = torch.tensor([[_cosine(one, other) for other in table] for one in table])
    answer = check(plot_similarity, table.requires_grad_())
    _check_heat_map(check, answer, cosines, 1.0, "position", "position")
    half = torch.tensor([[2.0, 0.0], [0.0, 0.0], [0.0, -3.0]], dtype=torch.float16)
    _check_heat_map(check, check(plot_similarity, half), torch.diag(half.any(dim=1)), 1.0, "position", "position")


def test_heat_maps_refuse(check: Check) -> None:
    """Encodings without two axes are refused with their shape."""
    for function in (plot_positional_encoding, plot_similarity):
        check.raises(ValueError, function, torch.ones(2, 3, 4), naming="(2, 3, 4)|[2, 3, 4]")
        check.raises(ValueError, function, torch.ones(5), naming="(5,)|[5]")


def _drawn(check: Check, answer: Answer, name: str) -> Answer:
    """The answer, once it is known to be a figure that can be drawn and that pyplot does not hold."""
    figure = answer.value
    answer.satisfies(
        isinstance(figure, Figure), got=f"a {type(figure).__name__}", expected="a matplotlib.figure.Figure"
    )
    if not isinstance(figure, Figure):
        raise Stop
    # Pyplot keeps the figures it made in a list; it is asked only where it has been imported.
    helpers = sys.modules.get("matplotlib._pylab_helpers")
    kept = any(manager.canvas.figure is figure for manager in helpers.Gcf.figs.values()) if helpers else False
    answer.satisfies(not kept, got="a figure that is in pyplot's global list", expected="one that is not: no pyplot")
    check.keep(figure, name)
    return answer


def _axes(answer: Answer, number: int, wanted: str) -> Any:
    """The first axes of a figure that has so many; ends the check where it has not."""
    found = getattr(answer.value, "axes", [])
    answer.satisfies(len(found) == number, got=f"{len(found)} axes", expected=wanted)
    if len(found) != number:
        raise Stop
    return found[0]


def _check_points(check: Check, call: str, axes: Any, points: Tensor) -> None:
    """The dots of a scatter, in their order."""
    places = [numpy.ma.asarray(dots.get_offsets()).filled(math.nan).reshape(-1, 2) for dots in axes.collections]
    drawn = torch.from_numpy(numpy.concatenate([*places, numpy.empty((0, 2))])).float()
    check.run(f"{call}.axes[0].collections[0].get_offsets()", lambda: drawn).equals(points, note="the points")


def _check_names(check: Check, call: str, axes: Any, xlabel: str, ylabel: str) -> None:
    for name, got, expected in (
        ("get_xlabel()", axes.get_xlabel(), xlabel),
        ("get_ylabel()", axes.get_ylabel(), ylabel),
    ):
        check.that(got == expected, call=f"{call}.axes[0].{name}", got=repr(got), expected=repr(expected))


def _check_heat_map(check: Check, answer: Answer, table: Tensor, limit: float, xlabel: str, ylabel: str) -> None:
    """A heat map's array, direction, scale, colours, colour bar and names."""
    axes = _axes(answer, 2, "two axes: the heat map and its colour bar")
    answer.satisfies(len(axes.images) == 1, got=f"{len(axes.images)} images in the first axes", expected="one image")
    if len(axes.images) != 1:
        return
    call, image = f"{answer.call}.axes[0]", axes.images[0]
    drawn = torch.from_numpy(numpy.ma.asarray(image.get_array(), dtype=float).filled(math.nan))
    # Whoever keeps to float32 may: numbers up to 3, or sums of 32 products, each rounded by 6e-8, are within 1e-5.
    check.run(f"{call}.images[0].get_array()", lambda: drawn).equals(table.double(), rtol=1e-5, atol=1e-5)
    bottom, top = axes.get_ylim()
    check.that(bottom > top, call=f"{call}.get_ylim()", got=f"({bottom}, {top})", expected="position 0 at the top")
    least, greatest = image.get_clim()  # within 1e-5 of the limit, as the numbers are
    check.that(
        abs(least + limit) <= 1e-5 * limit and abs(greatest - limit) <= 1e-5 * limit,
        call=f"{call}.images[0].get_clim()",
        got=f"({least:.7g}, {greatest:.7g})",
        expected=f"({-limit:.7g}, {limit:.7g}): 0 in the middle",
    )
    # Diverging: the middle is lighter than both ends, or darker than both, and the ends are of different colours.
    low, middle, high = image.cmap([0.0, 0.5, 1.0])[:, :3]
    weights = numpy.array([0.2126, 0.7152, 0.0722])  # how bright red, green and blue appear (ITU-R BT.709)
    steps = [float(weights @ (middle - end)) for end in (low, high)]
    check.that(
        min(steps) > 0.1 or max(steps) < -0.1,
        call=f"{call}.images[0].cmap",
        got=f"{image.cmap.name}: its middle is lighter than its ends by {steps[0]:.2f} and {steps[1]:.2f}",
        expected="diverging colours: both above 0.1, or both below -0.1",
    )
    check.that(
        float(abs(low - high).max()) > 0.1,
        call=f"{call}.images[0].cmap",
        got=f"{image.cmap.name}: the same colour at both ends",
        expected="diverging colours: one hue for negative numbers, another for positive",
    )
    check.that(
        image.colorbar is not None,
        call=f"{call}.images[0].colorbar",
        got="None",
        expected="a colour bar of this image (Figure.colorbar)",
    )
    _check_names(check, answer.call, axes, xlabel, ylabel)
