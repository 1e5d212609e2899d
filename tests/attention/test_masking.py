"""Grades attention/masking.

The oracle is the definition, pair by pair: a loop asks of each query and key whether it may be seen.
"""

from typing import Any

import torch
from torch import Tensor

from checkpoints.checks import Check, Draw, Workload
from checkpoints.misconceptions import Misconception
from exercises.attention.masking import causal_mask, combine_masks, masked_softmax, padding_mask

MISCONCEPTIONS = [
    Misconception(
        "the mask inverted: True where attention is forbidden",
        (
            "dtype=torch.bool, device=device).tril(diagonal=past)",
            "dtype=torch.bool, device=device).triu(diagonal=past + 1)",
        ),
    ),
    Misconception(
        "a mask that hides the query's own position too", (".tril(diagonal=past)", ".tril(diagonal=past - 1)")
    ),
    Misconception("a causal mask that forgets the keys before the first query", (".tril(diagonal=past)", ".tril()")),
    Misconception(
        "the transposed mask: each query sees what comes after it",
        (".tril(diagonal=past)", ".triu(diagonal=past)"),
    ),
    Misconception(
        "a causal mask of whole numbers in the place of booleans",
        ("dtype=torch.bool, device=device", "device=device"),
    ),
    Misconception(
        "padding at the front: the last tokens taken for the real ones",
        (
            "real = torch.arange(size, device=lengths.device) < lengths[:, None]",
            "real = torch.arange(size, device=lengths.device) >= size - lengths[:, None]",
        ),
    ),
    Misconception(
        "one real token too many in each sequence",
        ("device=lengths.device) < lengths", "device=lengths.device) <= lengths"),
    ),
    Misconception(
        "the padding mask inverted: True where a key is padding",
        ("device=lengths.device) < lengths", "device=lengths.device) >= lengths"),
    ),
    Misconception(
        "a padding mask without the axes for heads and queries",
        ("return real[:, None, None, :]", "return real"),
    ),
    Misconception("masks joined by `or`: seen where any one of them allows it", ("combined & mask", "combined | mask")),
    Misconception("only the last of the masks", ("mask if combined is None else combined & mask", "mask")),
    Misconception(
        "NaN where a row may see nothing",
        ("~mask & visible", "~mask"),
        ("return weights * visible", "return weights"),
    ),
    Misconception(
        "the weights hidden after the softmax, without sharing theirs among the rest",
        ("(scores + hidden).softmax", "scores.softmax"),
        ("return weights * visible", "return weights * mask"),
    ),
    Misconception(
        "-1e9 for -inf: a row that may see nothing is spread evenly",
        ('~mask & visible, float("-inf")', "~mask, -1e9"),
        ("return weights * visible", "return weights"),
    ),
    Misconception(
        "softmax over the queries", ("(scores + hidden).softmax(dim=-1)", "(scores + hidden).softmax(dim=-2)")
    ),
    Misconception(
        "weights hidden where the mask allows",
        ("~mask & visible", "mask & visible"),
        ("return weights * visible", "return weights * ~mask"),
    ),
]


def workload(task: Any, draw: Draw) -> list[Workload]:
    """Typical calls, for `compare`."""
    lengths, scores = draw.integers(1, 257, 8), draw.normal(8, 4, 256, 256, requires_grad=True)
    mask = _seen(256, 0) & draw.booleans(8, 1, 1, 256, probability=0.9)
    return [
        Workload("causal_mask(1024)", task.causal_mask, (1024,)),
        Workload("padding_mask(lengths, 256)", task.padding_mask, (lengths, 256)),
        Workload("combine_masks(causal, padding)", task.combine_masks, (_seen(256, 0), mask)),
        Workload("masked_softmax(scores, mask)", task.masked_softmax, (scores, mask)),
    ]


def _seen(length: int, past: int) -> Tensor:
    """The causal mask, pair by pair."""
    rows = [[key <= query + past for key in range(past + length)] for query in range(length)]
    return torch.tensor(rows, dtype=torch.bool).reshape(length, past + length)


def _shared(scores: Tensor, mask: Tensor) -> Tensor:
    """The definition: each visible key's exponential over their sum, and zeros where nothing is visible."""
    exponentials = scores.exp() * mask
    return exponentials / exponentials.sum(dim=-1, keepdim=True).clamp_min(1e-30)


def test_causal_by_hand(check: Check) -> None:
    """Three tokens: each sees itself and those before it."""
    expected = torch.tensor([[True, False, False], [True, True, False], [True, True, True]])
    check(causal_mask, 3).equals(expected, note="a row for each query, True where it may see the key")


def test_causal_with_past(check: Check) -> None:
    """With keys before the first query, as a decoder with a cache has them, all of those are seen."""
    length, past = check.draw.size(), check.draw.size(2, 7)
    note = f"query 0 stands at position {past}, and sees the keys 0 to {past}"
    check(causal_mask, length, past=past).equals(_seen(length, past), note=note)
    check(causal_mask, 1, past=past).equals(_seen(1, past), note="one new token sees everything")


def test_causal_edges(check: Check) -> None:
    """Of length one, and of length zero."""
    check(causal_mask, 1).equals(torch.ones(1, 1, dtype=torch.bool))
    check(causal_mask, 0).equals(torch.ones(0, 0, dtype=torch.bool))
    check(causal_mask, 0, past=3).equals(torch.ones(0, 3, dtype=torch.bool), note="(T, past + T)")


def test_causal_refuses(check: Check) -> None:
    """A negative length or past is refused by name."""
    check.raises(ValueError, causal_mask, -1, naming=("length", "-1"))
    check.raises(ValueError, causal_mask, 2, past=-3, naming=("past", "-3"))


def test_padding_by_hand(check: Check) -> None:
    """Lengths 1 and 3: the keys behind them are hidden from every head and every query."""
    expected = torch.tensor([[True, False, False], [True, True, True]]).reshape(2, 1, 1, 3)
    note = "(B, 1, 1, S): True where the key is a real token, one of the first `length`"
    check(padding_mask, torch.tensor([1, 3])).equals(expected, note=note)


def test_padding_to_a_size(check: Check) -> None:
    """Against a loop, padded further than the longest; a sequence may be empty, a batch may hold one."""
    lengths = check.draw.integers(0, 6, 5)
    expected = torch.tensor([[key < length for key in range(8)] for length in lengths.tolist()])
    check(padding_mask, lengths, 8).equals(expected.reshape(5, 1, 1, 8))
    check(padding_mask, torch.tensor([2]), 4).equals(torch.tensor([True, True, False, False]).reshape(1, 1, 1, 4))
    full = torch.tensor([[False] * 3, [True] * 3]).reshape(2, 1, 1, 3)
    check(padding_mask, torch.tensor([0, 3]), 3).equals(full, note="all padding, and none")


def test_padding_refuses(check: Check) -> None:
    """Lengths that do not fit, are negative or have two axes are refused."""
    check.raises(ValueError, padding_mask, torch.tensor([2, 5]), 4, naming=("5", "4"))
    check.raises(ValueError, padding_mask, torch.tensor([2, -1]), 4, naming="-1")
    check.raises(ValueError, padding_mask, torch.tensor([[2, 1]]), 4, naming="(1, 2)")
    check.raises(ValueError, padding_mask, torch.tensor(2), 4, naming="()")


def test_combined_by_hand(check: Check) -> None:
    """Causal and padding together: a key must be allowed by both."""
    causal = _seen(2, 0)
    second = torch.tensor([True, False])
    expected = torch.tensor([[True, False], [True, False]])
    check(combine_masks, causal, None, second).equals(expected, note="True where both are; one row serves all queries")


def test_combined_property(check: Check) -> None:
    """Any number of masks, in any order, broadcast; none at all hides nothing, and a lone one must be boolean too."""
    one, other, third = (
        check.draw.booleans(2, 1, 1, 5),
        check.draw.booleans(4, 5),
        check.draw.booleans(3, 4, 1),
    )
    everywhere = torch.stack(torch.broadcast_tensors(one, other, third)).all(dim=0)
    check(combine_masks, one, other, third).equals(everywhere)
    check(combine_masks, third, None, one, other).equals(everywhere, note="the order does not matter")
    check(combine_masks, None, None).equals(None)
    check(combine_masks).equals(None)
    check.raises(TypeError, combine_masks, None, torch.tensor([0, 1]), naming="int64")


def test_combined_refuses(check: Check) -> None:
    """A mask of numbers is refused by its dtype: 0 and 1, or 0 and -inf?"""
    check.raises(TypeError, combine_masks, _seen(2, 0), torch.ones(2, 2), naming="float32")


def test_softmax_by_hand(check: Check) -> None:
    """Scores 0 and ln 3 share 1 : 3; hide the second and the first gets all."""
    scores = torch.tensor([[1.0, 3.0], [1.0, 3.0]]).log()
    mask = torch.tensor([[True, True], [True, False]])
    expected = torch.tensor([[0.25, 0.75], [1.0, 0.0]])
    check(masked_softmax, scores, mask).equals(expected, note="each row sums to 1 over the keys that its query may see")


def test_softmax_property(check: Check) -> None:
    """Rows sum to 1 over what may be seen, hidden keys get exactly 0, and their scores do not matter."""
    scores = check.draw.strided(2, 3, 4, 5, dtype=torch.float64)
    mask = check.draw.booleans(4, 5)
    mask[:, 2] = True
    answer = check(masked_softmax, scores, mask).has(shape=scores.shape, dtype=scores.dtype)
    answer.equals(_shared(scores, mask))
    answer.satisfies(
        (answer.value * ~mask).count_nonzero() == 0,
        got=f"{int((answer.value * ~mask).count_nonzero())} hidden weights that are not 0",
        expected="exactly 0",
    )
    everything = torch.ones(4, 5, dtype=torch.bool)
    check(masked_softmax, scores).equals(_shared(scores, everything), note="no mask hides nothing")


def test_softmax_of_broadcast_masks(check: Check) -> None:
    """A mask of padding, or of whole queries, serves every head; the dtype stays that of the scores."""
    scores = check.draw.normal(2, 3, 4, 5)
    padding = torch.tensor([[True, True, True, False, False], [True] * 5]).reshape(2, 1, 1, 5)
    queries = torch.tensor([True, False, True, True]).reshape(4, 1)
    for dtype in (torch.float32, torch.bfloat16):
        for mask, note in ((padding, "padding behind the first sequence"), (queries, "query 1 may see nothing")):
            expected = _shared(scores.to(dtype).double(), mask).to(dtype)
            check(masked_softmax, scores.to(dtype), mask).equals(expected, note=note)


def test_softmax_extremes(check: Check) -> None:
    """Visible scores far below zero still get all the weight: a hidden key has none, not just little."""
    scores = torch.tensor([[-2e9, -2e9, 0.0], [1e30, -1e30, 1e30]])
    mask = torch.tensor([[True, True, False], [True, True, False]])
    expected = torch.tensor([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]])
    check(masked_softmax, scores, mask).equals(expected, note="the third key is hidden from both queries")


def test_softmax_of_a_hidden_row(check: Check) -> None:
    """A row that may see nothing is all zeros, in value and in gradient."""
    scores = check.draw.normal(3, 4, dtype=torch.float64, requires_grad=True)
    mask = torch.tensor([[True, True, False, True], [False] * 4, [True, False, False, False]])
    expected = _shared(scores, mask)
    answer = check(masked_softmax, scores, mask).equals(expected.detach(), note="query 1 may see nothing: zeros")
    answer.gradients_equal(expected, scores=scores)
