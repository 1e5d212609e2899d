"""Grades attention/patterns.

The oracle is the definition of each pattern, pair by pair: a loop asks of each query and key what holds for it. The
figure is judged by what it holds, never by its pixels; only one check draws, for matplotlib is slow to import.
"""

import sys
import warnings
from typing import Any

import numpy
import torch
from torch import Tensor

from checkpoints.checks import Answer, Check, Draw, Workload
from checkpoints.misconceptions import Misconception
from exercises.attention.patterns import (
    alibi_bias,
    alibi_slopes,
    plot_attention,
    prefix_lm_mask,
    sliding_window_mask,
    strided_mask,
)

MISCONCEPTIONS = [
    Misconception(
        "a window of one key too many: its own position is among the `window` keys",
        ("(distance < window)", "(distance <= window)"),
    ),
    Misconception(
        "a window that reaches as far ahead as back",
        ("(distance >= 0) & (distance < window)", "distance.abs() < window"),
    ),
    Misconception(
        "positions counted without the keys before the first query",
        ("return positions[past:, None] - positions", "return positions[:length, None] - positions"),
    ),
    Misconception(
        "strides counted from the start of the sequence, not back from the query",
        ("(distance % stride == 0)", "(torch.arange(past + length) % stride == 0)"),
    ),
    Misconception(
        "every stride-th key without the local part",
        ("((distance < stride) | (distance % stride == 0))", "(distance % stride == 0)"),
    ),
    Misconception(
        "the local part alone, without every stride-th key",
        ("((distance < stride) | (distance % stride == 0))", "(distance < stride)"),
    ),
    Misconception(
        "a prefix of one position too many",
        ("padding_mask(prefixes, length)", "padding_mask((prefixes + 1).clamp(max=length), length)"),
    ),
    Misconception(
        "a prefix whose queries see the future beyond it",
        (
            "| padding_mask(prefixes, length)  # (B, 1, T, T)",
            "| padding_mask(prefixes, length) | padding_mask(prefixes, length).mT",
        ),
    ),
    Misconception(
        "causal attention inside the prefix too",
        (
            "causal_mask(length, device=prefixes.device) | padding_mask(prefixes, length)",
            "causal_mask(length).expand(len(prefixes), 1, -1, -1)",
        ),
    ),
    Misconception(
        "slopes that begin at 1: the powers of 2^(-8/n) from the zeroth",
        ("2.0 ** (-8 * k / power) for k in range(1, power + 1)", "2.0 ** (-8 * k / power) for k in range(power)"),
    ),
    Misconception(
        "slopes at equal steps in the place of a geometric sequence", ("2.0 ** (-8 * k / power) for", "k / power for")
    ),
    Misconception(
        "slopes with the ratio 1/2 whatever the number of heads", ("2.0 ** (-8 * k / power) for", "2.0**-k for")
    ),
    Misconception(
        "the powers of 2^(-8/n) although n is no power of two",
        ("power = 1 << (num_heads.bit_length() - 1)", "power = num_heads"),
    ),
    Misconception(
        "the first slopes of 2m heads, not every second one, after those of m",
        ("(-8 * (k - 0.5) / power)", "(-8 * k / 2 / power)"),
    ),
    Misconception("a bias that favours distant keys: the wrong sign", ("* -_distance(", "* _distance(")),
    Misconception(
        "a bias of the wrong sign for keys after the query",
        ("* -_distance(length, past, device).abs()", "* -_distance(length, past, device)"),
    ),
    Misconception(
        "the same bias in every head", ("slopes[:, None, None] *", "slopes[:1, None, None].expand(num_heads, -1, -1) *")
    ),
    Misconception("heat maps with queries and keys exchanged", ("heads[number].numpy()", "heads[number].T.numpy()")),
    Misconception(
        "hidden pairs coloured as if they were seen, with weight 0", ('.masked_fill(hidden, float("nan"))', "")
    ),
]


def workload(task: Any, draw: Draw) -> list[Workload]:
    """Typical calls, for `compare`; figures cannot be compared."""
    prefixes = draw.integers(0, 257, 8)
    return [
        Workload("sliding_window_mask(1024, 128)", task.sliding_window_mask, (1024, 128)),
        Workload("strided_mask(1024, 32)", task.strided_mask, (1024, 32)),
        Workload("prefix_lm_mask(256, prefixes)", task.prefix_lm_mask, (256, prefixes)),
        Workload("alibi_slopes(12)", task.alibi_slopes, (12,)),
        Workload("alibi_bias(12, 512)", task.alibi_bias, (12, 512)),
    ]


def _window(length: int, window: int, past: int = 0) -> Tensor:
    """The sliding window, pair by pair."""
    positions = range(past, past + length)
    rows = [[key in range(query - window + 1, query + 1) for key in range(past + length)] for query in positions]
    return torch.tensor(rows, dtype=torch.bool).reshape(length, past + length)


def _strided(length: int, stride: int, past: int = 0) -> Tensor:
    """The strided pattern: of each query, the local keys and those met on the way back in steps of `stride`."""
    seen = torch.zeros(length, past + length, dtype=torch.bool)
    for row, query in enumerate(range(past, past + length)):
        seen[row, max(0, query - stride + 1) : query + 1] = True
        for key in range(query, -1, -stride):
            seen[row, key] = True
    return seen


def _prefix(length: int, prefix: int) -> Tensor:
    """The mask with a prefix, pair by pair."""
    rows = [[key <= query or key < prefix for key in range(length)] for query in range(length)]
    return torch.tensor(rows, dtype=torch.bool).reshape(length, length)


def test_window_by_hand(check: Check) -> None:
    """A window of two: each position sees itself and the one before it."""
    expected = [
        [True, False, False, False],
        [True, True, False, False],
        [False, True, True, False],
        [False, False, True, True],
    ]
    note = "[query, key]: query 2 sees the keys 1 and 2, itself"
    check(sliding_window_mask, 4, 2).equals(torch.tensor(expected), note=note)


def test_window_pair_by_pair(check: Check) -> None:
    """Of any width, also after keys from a cache; as wide as the sequence it is the causal mask."""
    length, window, past = check.draw.size(4, 9), check.draw.size(2, 4), check.draw.size(3, 7)
    note = f"[query, key]: the last {window} keys up to the query itself"
    check(sliding_window_mask, length, window).equals(_window(length, window), note=note)
    note = f"query 0 stands at position {past}, and sees the keys {past - window + 1} to {past}"
    check(sliding_window_mask, length, window, past=past).equals(_window(length, window, past), note=note)
    check(sliding_window_mask, length, length + 1).equals(torch.ones(length, length).tril().bool(), note="causal")
    check(sliding_window_mask, length, 1).equals(torch.eye(length).bool(), note="only itself")
    check(sliding_window_mask, 0, 3).equals(torch.ones(0, 0).bool())


def test_window_refuses(check: Check) -> None:
    """A window of no keys, a negative length or a negative past is refused by name."""
    check.raises(ValueError, sliding_window_mask, 4, 0, naming=("window", "0"))
    check.raises(ValueError, sliding_window_mask, -2, 3, naming=("length", "-2"))
    check.raises(ValueError, sliding_window_mask, 2, 3, past=-1, naming=("past", "-1"))


def test_strided_by_hand(check: Check) -> None:
    """A stride of three, five tokens: the last three keys, and the one three steps back."""
    expected = [
        [True, False, False, False, False],
        [True, True, False, False, False],
        [True, True, True, False, False],
        [True, True, True, True, False],
        [False, True, True, True, True],
    ]
    note = "[query, key]: query 4 sees the keys 2 to 4, and key 1, three steps back"
    check(strided_mask, 5, 3).equals(torch.tensor(expected), note=note)


def test_strided_pair_by_pair(check: Check) -> None:
    """Of any stride, also after keys from a cache; the strides are counted back from each query."""
    length, stride, past = check.draw.size(8, 14), check.draw.size(3, 6), check.draw.size(4, 8)
    note = f"[query, key]: the last {stride} keys, and those {stride}, {2 * stride}, ... steps back"
    check(strided_mask, length, stride).equals(_strided(length, stride), note=note)
    note = f"query 0 stands at position {past}"
    check(strided_mask, length, stride, past=past).equals(_strided(length, stride, past), note=note)
    check(strided_mask, length, length).equals(torch.ones(length, length).tril().bool(), note="causal")
    check(strided_mask, length, 1).equals(torch.ones(length, length).tril().bool(), note="every single step back")
    check(strided_mask, 1, 4).equals(torch.ones(1, 1).bool())
    check(strided_mask, 0, 4, past=2).equals(torch.ones(0, 2).bool(), note="(T, past + T)")


def test_strided_in_two_steps(check: Check) -> None:
    """Two layers join each position to everything before it, though one row holds few keys."""
    length = check.draw.size(12, 20)
    answer = check(strided_mask, length, 4).has(shape=(length, length), dtype=torch.bool)
    steps = answer.value.double()
    joined = int((steps @ steps).count_nonzero())
    pairs = length * (length + 1) // 2
    answer.satisfies(
        bool(((steps @ steps).bool() == torch.ones(length, length).tril().bool()).all()),
        got=f"{joined} pairs joined by two layers",
        expected=f"the {pairs} pairs of a position and one not after it",
    )
    most = int(steps.sum(dim=-1).max())
    bound = 4 + -(-length // 4)
    answer.satisfies(
        most <= bound, got=f"a row that sees {most} keys", expected=f"at most {bound}: 4 near, the rest far"
    )


def test_strided_refuses(check: Check) -> None:
    """A stride of nothing, a negative length or a negative past is refused by name."""
    check.raises(ValueError, strided_mask, 4, 0, naming=("stride", "0"))
    check.raises(ValueError, strided_mask, -2, 3, naming=("length", "-2"))
    check.raises(ValueError, strided_mask, 2, 3, past=-1, naming=("past", "-1"))


def test_prefix_by_hand(check: Check) -> None:
    """A prefix of two out of four: both see each other; the rest is causal."""
    expected = [
        [True, True, False, False],
        [True, True, False, False],
        [True, True, True, False],
        [True, True, True, True],
    ]
    note = "[query, key]: all see the keys 0 and 1; query 2 sees itself besides"
    check(prefix_lm_mask, 4, 2).equals(torch.tensor(expected), note=note)


def test_prefix_pair_by_pair(check: Check) -> None:
    """Of any length from none to all; a batch has a prefix for each sequence, and an axis for the heads."""
    length = check.draw.size(4, 9)
    prefix = check.draw.integer(1, length)
    note = f"True where key <= query or key < {prefix}"
    check(prefix_lm_mask, length, prefix).equals(_prefix(length, prefix), note=note)
    check(prefix_lm_mask, length, 0).equals(torch.ones(length, length).tril().bool(), note="causal")
    check(prefix_lm_mask, length, length).equals(torch.ones(length, length).bool(), note="everything sees everything")
    prefixes = check.draw.integers(0, length + 1, 5)
    expected = torch.stack([_prefix(length, int(entry)) for entry in prefixes])[:, None]
    check(prefix_lm_mask, length, prefixes).equals(expected, note="(B, 1, T, T), each sequence with its own prefix")
    check(prefix_lm_mask, length, torch.tensor([prefix])).equals(
        _prefix(length, prefix)[None, None], note="a batch of one"
    )


def test_prefix_refuses(check: Check) -> None:
    """A prefix that is negative, longer than the sequence, or has two axes is refused."""
    check.raises(ValueError, prefix_lm_mask, 4, 5, naming=("prefix", "5"))
    check.raises(ValueError, prefix_lm_mask, 4, -1, naming=("prefix", "-1"))
    check.raises(ValueError, prefix_lm_mask, 6, torch.tensor([2, 7, 1]), naming=("prefix", "7"))
    check.raises(ValueError, prefix_lm_mask, 6, torch.tensor([2, -1]), naming=("prefix", "-1"))
    check.raises(ValueError, prefix_lm_mask, 4, torch.tensor([[3, 1]]), naming=("prefix", "(1, 2)"))
    check.raises(ValueError, prefix_lm_mask, 4, torch.tensor(2), naming=("prefix", "()"))


def test_slopes_of_a_power_of_two(check: Check) -> None:
    """8 heads: 1/2, 1/4, ... 1/256, as published; 16 heads: a ratio of 1/sqrt(2)."""
    check(alibi_slopes, 8).equals(torch.tensor([1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32, 1 / 64, 1 / 128, 1 / 256]))
    root = 0.7071067811865476
    expected = torch.tensor([root, 0.5, root / 2, 0.25, root / 4, 0.125, root / 8, 0.0625], dtype=torch.float64)
    check(alibi_slopes, 16, dtype=torch.float64).equals(torch.cat([expected, expected / 16]))
    check(alibi_slopes, 1).equals(torch.tensor([1 / 256]))


def test_slopes_of_another_number(check: Check) -> None:
    """12 heads: those of 8, then the first, third, fifth and seventh of 16; 6, 3 and 7 heads likewise."""
    root = 0.7071067811865476
    first = [1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32, 1 / 64, 1 / 128, 1 / 256]
    note = "those of 8 heads, then the first, third, fifth and seventh of 16"
    check(alibi_slopes, 12).equals(torch.tensor([*first, root, root / 2, root / 4, root / 8]), note=note)
    four = [1 / 4, 1 / 16, 1 / 64, 1 / 256]
    check(alibi_slopes, 6).equals(torch.tensor([*four, 1 / 2, 1 / 8]))
    check(alibi_slopes, 7).equals(torch.tensor([*four, 1 / 2, 1 / 8, 1 / 32]))
    check(alibi_slopes, 3).equals(torch.tensor([1 / 16, 1 / 256, 1 / 4]))
    check.raises(ValueError, alibi_slopes, 0, naming=("num_heads", "0"))


def test_bias_by_hand(check: Check) -> None:
    """8 heads, three tokens: the first head takes 1/2 off for each step, the last 1/256."""
    steps = torch.tensor([[0.0, 1.0, 2.0], [1.0, 0.0, 1.0], [2.0, 1.0, 0.0]])
    slopes = [1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32, 1 / 64, 1 / 128, 1 / 256]
    expected = torch.stack([-slope * steps for slope in slopes])
    check(alibi_bias, 8, 3).equals(expected, note="[head, query, key]: minus the head's slope times the distance")


def test_bias_pair_by_pair(check: Check) -> None:
    """After keys from a cache, in float64; one new token gets the last row of the whole bias."""
    length, past = check.draw.size(3, 7), check.draw.size(2, 6)
    distances = [[abs(query - key) for key in range(past + length)] for query in range(past, past + length)]
    steps = torch.tensor(distances, dtype=torch.float64)
    expected = torch.stack([-slope * steps for slope in (1 / 16, 1 / 256)])
    check(alibi_bias, 2, length, past=past, dtype=torch.float64).equals(expected)
    check(alibi_bias, 2, 1, past=past + length - 1, dtype=torch.float64).equals(expected[:, -1:])
    check.raises(ValueError, alibi_bias, 0, 3, naming=("num_heads", "0"))
    check.raises(ValueError, alibi_bias, 2, -3, naming=("length", "-3"))
    check.raises(ValueError, alibi_bias, 2, 3, past=-1, naming=("past", "-1"))


def test_plot(check: Check) -> None:
    """The figure holds each head's weights and the tokens, in one colour scale; the hidden stand out."""
    # Imported before any of the learner's code runs: the first import of all looks for the system's fonts.
    from matplotlib.figure import Figure

    warnings.simplefilter("ignore")  # pytest puts it back; what matplotlib would do otherwise one day is no mistake
    tokens = ["to", "be", "$\\or$", "not", "understandable"]
    mask = _window(5, 3)
    scores = check.draw.normal(3, 5, 5).masked_fill(~mask, float("-inf"))
    weights = scores.softmax(dim=-1)[:, 2:].requires_grad_()  # three queries, five keys
    answer = check(plot_attention, weights, tokens)
    figure = answer.value
    answer.satisfies(
        isinstance(figure, Figure), got=f"a {type(figure).__name__}", expected="a matplotlib.figure.Figure"
    )
    if not isinstance(figure, Figure):
        return
    _no_pyplot(check, answer.call)
    _check_drawn(check, answer, keys=5)
    check.keep(figure, "attention")
    images = [len(axes.images) for axes in figure.axes]
    answer.satisfies(
        images == [1, 1, 1, 0],
        got=f"axes with {images} images",
        expected="four axes with [1, 1, 1, 0] images: three heads and a colour bar",
    )
    if images != [1, 1, 1, 0]:
        return
    for number, axes in enumerate(figure.axes[:3]):
        _check_panel(check, f"{answer.call}.axes[{number}]", axes, weights[number].detach(), ~mask[2:], tokens)
        check.run(f"{answer.call}.axes[{number}].get_title()", axes.get_title).equals(f"head {number}")
        limits, highest = axes.images[0].get_clim(), float(weights.detach().max())
        check.that(
            limits[0] == 0.0 and abs(limits[1] - highest) < 1e-5,
            call=f"{answer.call}.axes[{number}].images[0].get_clim()",
            got=f"({limits[0]}, {limits[1]})",
            expected=f"(0.0, {highest:.7g}): one scale for all heads",
        )
    # One head, whose key 1 is seen with weight 0: only a mask can say so.
    single = torch.tensor([[1.0, 0.0, 0.0], [0.5, 0.0, 0.5]], dtype=torch.bfloat16)
    seen = torch.tensor([[True, True, False], [True, True, True]])
    answer = check(plot_attention, single, mask=seen)
    if len(answer.value.axes) == 2:
        _check_panel(check, f"{answer.call}.axes[0]", answer.value.axes[0], single, ~seen, None)
    else:
        answer.satisfies(False, got=f"{len(answer.value.axes)} axes", expected="2 axes: one head and a colour bar")


def test_plot_can_be_read(check: Check) -> None:
    """However many tokens: the heads of one size, not too small for them nor too large, and nothing cut off."""
    from matplotlib.figure import Figure

    warnings.simplefilter("ignore")
    for heads, keys in ((3, 40), (1, 200)):
        answer = check(plot_attention, torch.ones(heads, 2, keys) / keys)
        if isinstance(answer.value, Figure):
            _check_drawn(check, answer, keys)
        else:
            answer.equals("a matplotlib.figure.Figure")
    answer = check(plot_attention, torch.zeros(2, 2))
    check.run(f"drawing {answer.call}", answer.value.draw_without_rendering).equals(None, note="though all is hidden")


def _check_drawn(check: Check, answer: Answer, keys: int) -> None:
    """Of a drawn figure: how large each head is, that they are alike, that all lies inside, the colour bar's label."""
    figure = answer.value
    check.run(f"drawing {answer.call}", figure.draw_without_rendering).equals(None)
    *panels, bar = figure.axes
    inches = figure.get_size_inches()
    # Before the image's own shape makes them narrower: squares are as wide as they are high.
    boxes = [axes.get_position(original=True) for axes in panels]
    sizes = [(box.width * inches[0], box.height * inches[1]) for box in boxes]
    for number, (width, height) in enumerate(sizes):
        least = max(1.0, 0.1 * min(keys, 40))
        check.that(
            least <= width <= 10.0 and 1.0 <= height <= 10.0,
            call=f"{answer.call}.axes[{number}]",
            got=f"{width:.2f} inches wide and {height:.2f} high, for {keys} keys",
            expected=f"{least:.1f} to 10 inches wide and 1 to 10 high",
        )
    apart = max(max(side) - min(side) for side in zip(*sizes, strict=True)) if sizes else 0.0
    answer.satisfies(
        apart <= 0.1,
        got=f"heads that differ in width or height by {apart:.2f} inches",
        expected="all heads of one size; give the colour bar all of their axes",
    )
    box = figure.get_tightbbox()
    beyond = max(-box.x0, -box.y0, box.x1 - inches[0], box.y1 - inches[1])
    answer.satisfies(
        beyond <= 0.02,
        got=f"labels that reach {beyond:.2f} inches beyond the figure",
        expected="everything inside the figure; matplotlib has layouts for that",
    )
    labels = [bar.get_xlabel(), bar.get_ylabel()]
    answer.satisfies(
        "weight" in labels,
        got=f"the colour bar's axes are labelled {' and '.join(map(repr, labels))}",
        expected="one of them 'weight'",
    )


def _no_pyplot(check: Check, call: str) -> None:
    """Pyplot keeps the figures it made in a list, asked only where it has been imported; no name of the file is its."""
    helpers = sys.modules.get("matplotlib._pylab_helpers")
    kept = len(helpers.Gcf.figs) if helpers else 0
    check.that(not kept, call=call, got=f"pyplot's global list holds {kept} figures", expected="none: no pyplot")
    found = [
        name
        for name, thing in vars(sys.modules[plot_attention.__module__]).items()
        if (getattr(thing, "__module__", None) or getattr(thing, "__name__", None) or "").startswith("matplotlib")
    ]
    check.that(
        not found,
        call="import exercises.attention.patterns",
        got=f"{', '.join(found)} imported from matplotlib along with the file",
        expected="matplotlib imported inside plot_attention: it is slow to import",
    )


def _check_panel(check: Check, call: str, axes: Any, weights: Tensor, hidden: Tensor, tokens: list[str] | None) -> None:
    """One head's axes: the image's array and what it hides, the labels, the direction of the rows."""
    (image,) = axes.images
    array = numpy.ma.asarray(image.get_array())
    masked = torch.from_numpy(numpy.ma.getmaskarray(array).copy())
    drawn = torch.from_numpy(array.filled(0.0)).double()
    # A picture may be kept in float32, which rounds a weight by 6e-8 of itself.
    check.run(f"{call}.images[0].get_array()", lambda: drawn).equals(
        weights.double().masked_fill(hidden, 0.0), rtol=1e-6, atol=1e-7, note="[query, key]; hidden pairs read as 0"
    )
    check.run(f"{call}.images[0].get_array().mask", lambda: masked).equals(hidden, note="True where hidden")
    for name, got, expected in (
        ("get_xlabel()", axes.get_xlabel(), "key"),
        ("get_ylabel()", axes.get_ylabel(), "query"),
    ):
        check.that(got == expected, call=f"{call}.{name}", got=repr(got), expected=repr(expected))
    bottom, top = axes.get_ylim()
    check.that(bottom > top, call=f"{call}.get_ylim()", got=f"({bottom}, {top})", expected="the first query at the top")
    if tokens is not None:
        for name, labels, wanted in (
            ("get_xticklabels()", axes.get_xticklabels(), tokens),
            ("get_yticklabels()", axes.get_yticklabels(), tokens[len(tokens) - len(weights) :]),
        ):
            texts = [label.get_text() for label in labels]
            check.that(texts == wanted, call=f"the texts of {call}.{name}", got=f"{texts}", expected=f"{wanted}")
    else:
        for name, ticks, size in (
            ("get_xticks()", axes.get_xticks(), weights.shape[-1]),
            ("get_yticks()", axes.get_yticks(), weights.shape[-2]),
        ):
            shown = [float(tick) for tick in ticks if -0.5 < tick < size - 0.5]
            whole = all(tick == round(tick) for tick in shown) and bool(shown)
            check.that(whole, call=f"{call}.{name}", got=f"positions at {shown}", expected="whole numbers")
    # A hidden pair's colour, on the ground of the axes, against the colours of 256 weights: at least one of red,
    # green and blue is 0.1 or more away from each of them.
    from matplotlib.colors import to_rgb

    shades = image.cmap(numpy.linspace(0.0, 1.0, 256))[:, :3]
    *bad, alpha = image.cmap(numpy.ma.masked_all(1))[0]
    ground = numpy.array(to_rgb(axes.get_facecolor()))
    apart = float(abs(shades - (alpha * numpy.array(bad) + (1 - alpha) * ground)).max(axis=1).min())
    check.that(
        apart >= 0.1,
        call=f"{call}.images[0].cmap",
        got=f"hidden pairs in a colour that differs from some weight's by {apart:.2g} in red, green and blue",
        expected="a colour that no weight has: at least 0.1 apart in one of the three",
    )


def test_plot_refuses(check: Check) -> None:
    """Weights with four axes, and labels that are too few, are refused with the numbers."""
    check.raises(ValueError, plot_attention, torch.ones(1, 2, 3, 3), naming="(1, 2, 3, 3)")
    check.raises(ValueError, plot_attention, torch.ones(2, 3, 4), ["to", "be"], naming=("tokens", "2", "4"))
