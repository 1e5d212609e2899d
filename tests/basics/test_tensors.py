"""Grades basics/tensors.

The oracles are torch's own functions, which the learner may not call here, and loops over the definition.
"""

import math
import sys
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from checkpoints.checks import Check, Draw, Workload
from checkpoints.misconceptions import Misconception
from exercises.basics.tensors import (
    batched_gather,
    log_softmax,
    one_hot,
    pairwise_distances,
    sliding_windows,
    softmax,
)

MISCONCEPTIONS = [
    Misconception(
        "squared distances: the root is missing",
        (
            "return torch.linalg.vector_norm(differences, dim=-1)",
            "return differences.square().sum(dim=-1)",
        ),
    ),
    Misconception(
        "the sum of the absolute differences, not the Euclidean distance",
        ("vector_norm(differences, dim=-1)", "vector_norm(differences, ord=1, dim=-1)"),
    ),
    Misconception(
        "the root of a sum of squares, whose gradient at distance 0 is NaN",
        (
            "return torch.linalg.vector_norm(differences, dim=-1)",
            "return differences.square().sum(dim=-1).sqrt()",
        ),
    ),
    Misconception(
        "the root of a sum of squares with something small added: equal points no longer have distance 0",
        (
            "return torch.linalg.vector_norm(differences, dim=-1)",
            "return (differences.square().sum(dim=-1) + 1e-6).sqrt()",
        ),
    ),
    Misconception(
        "|x|² + |y|² - 2 x·y, in which the digits cancel for points far from the origin",
        (
            "differences = points.unsqueeze(-2) - others.unsqueeze(-3)",
            "squares = points.square().sum(-1)[..., :, None] + others.square().sum(-1)[..., None, :]",
        ),
        (
            "return torch.linalg.vector_norm(differences, dim=-1)",
            "return (squares - 2 * points @ others.mT).clamp_min(1e-30).sqrt()",
        ),
    ),
    Misconception(
        "the transposed table: one row for each of the others",
        (
            "differences = points.unsqueeze(-2) - others.unsqueeze(-3)",
            "differences = points.unsqueeze(-3) - others.unsqueeze(-2)",
        ),
    ),
    Misconception(
        "points of one coordinate stretched to match points of several",
        ("points.shape[-1] != others.shape[-1]", "False"),
    ),
    Misconception(
        "whole numbers in the place of the dtype asked for", ("== every_class).to(dtype)", "== every_class).long()")
    ),
    Misconception(
        "the classes on the first axis, not on the last",
        ("== every_class).to(dtype)", "== every_class).to(dtype).movedim(-1, 0)"),
    ),
    Misconception(
        "a row of zeros for an index that is no class, or a negative one",
        ("_check_indices(indices, classes)", "pass"),
    ),
    Misconception(
        "one_hot worked out by a Python loop over the indices",
        (
            "return (indices.unsqueeze(-1) == every_class).to(dtype)",
            "return torch.tensor([[float(i == c) for c in range(classes)] for i in indices.flatten().tolist()]).reshape(*indices.shape, classes).to(dtype)",
        ),
    ),
    Misconception(
        "every sequence indexed by the indices of every other",
        ("return values[batch, indices.long()]", "return values[:, indices.long()]"),
    ),
    Misconception(
        "the entries of the first sequence for everybody",
        ("return values[batch, indices.long()]", "return values[0, indices.long()]"),
    ),
    Misconception(
        "indices of 8 bits taken for a mask",
        ("return values[batch, indices.long()]", "return values[batch, indices]"),
    ),
    Misconception(
        "negative indices counted from the end, and not refused",
        ("_check_indices(indices, values.shape[1])", "_check_indices(indices % values.shape[1], values.shape[1])"),
    ),
    Misconception(
        "a copy of the windows, not a view",
        ("(*lead, step * stride, stride))", "(*lead, step * stride, stride)).clone()"),
    ),
    Misconception(
        "windows that take the neighbours in memory for those along the axis: stride 1",
        ("*lead, stride = values.stride()", "lead, stride = values.stride()[:-1], 1"),
    ),
    Misconception(
        "windows counted from the start of the storage, not from that of the tensor",
        ("(*lead, step * stride, stride))", "(*lead, step * stride, stride), 0)"),
    ),
    Misconception("windows that ignore the step", ("(*lead, step * stride, stride))", "(*lead, stride, stride))")),
    Misconception(
        "one window too few: the last one that fits is missing",
        ("windows = (length - size) // step + 1", "windows = (length - size) // step"),
    ),
    Misconception(
        "the axes of the windows swapped",
        (
            "return values.as_strided((*values.shape[:-1], windows, size), (*lead, step * stride, stride))",
            "return values.as_strided((*values.shape[:-1], size, windows), (*lead, stride, step * stride))",
        ),
    ),
    Misconception(
        "exponentials of the logits as they are: they overflow, and inf / inf is NaN",
        ("return logits - logits.detach().amax(dim, keepdim=True)", "return logits"),
    ),
    Misconception(
        "the maximum of all the logits subtracted, not that along the axis: lower rows vanish",
        ("logits.detach().amax(dim, keepdim=True)", "logits.detach().amax()"),
    ),
    Misconception(
        "the last axis, whatever `dim` says",
        ("_check_floating(logits)", "_check_floating(logits); dim = -1"),
        (
            "return exponentials / exponentials.sum(dim, keepdim=True)",
            "return exponentials / exponentials.sum(-1, keepdim=True)",
        ),
        ("shifted - shifted.exp().sum(dim, keepdim=True).log()", "shifted - shifted.exp().sum(-1, keepdim=True).log()"),
    ),
    Misconception(
        "the logarithm of the softmax taken afterwards: -inf where the probability was rounded to 0",
        (
            "return shifted - shifted.exp().sum(dim, keepdim=True).log()",
            "return (shifted.exp() / shifted.exp().sum(dim, keepdim=True)).log()",
        ),
    ),
    Misconception(
        "the maximum added to the logarithm before that is subtracted: beside a large one, its digits are lost",
        (
            "return shifted - shifted.exp().sum(dim, keepdim=True).log()",
            "return logits - (logits.amax(dim, keepdim=True) + shifted.exp().sum(dim, keepdim=True).log())",
        ),
    ),
    Misconception(
        "a softmax whose normalizing sum is a constant to the gradient",
        (
            "exponentials / exponentials.sum(dim, keepdim=True)",
            "exponentials / exponentials.detach().sum(dim, keepdim=True)",
        ),
    ),
]


def workload(task: Any, draw: Draw) -> list[Workload]:
    """Typical calls, for `compare`."""
    points, others = draw.normal(400, 16, requires_grad=True), draw.normal(300, 16, requires_grad=True)
    classes, logits = draw.integers(0, 512, 64, 32), draw.normal(256, 1024, requires_grad=True)
    hidden, picked = draw.normal(32, 128, 64, requires_grad=True), draw.integers(0, 128, 32, 128)
    return [
        Workload("pairwise_distances(points, others)", task.pairwise_distances, (points, others)),
        Workload("one_hot(indices, 512)", task.one_hot, (classes, 512)),
        Workload("batched_gather(hidden, picked)", task.batched_gather, (hidden, picked)),
        Workload("sliding_windows(values, 64, step=3)", task.sliding_windows, (draw.normal(256, 1024), 64, 3)),
        Workload("softmax(logits)", task.softmax, (logits,)),
        Workload("log_softmax(logits, dim=0)", task.log_softmax, (logits, 0)),
    ]


def test_distances_by_hand(check: Check) -> None:
    """Two points against three: the sides 3, 4 and 5 of a triangle."""
    points = torch.tensor([[0.0, 0.0], [3.0, 4.0]])
    others = torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]])
    check(pairwise_distances, points, others).equals(torch.tensor([[0.0, 3.0, 4.0], [5.0, 4.0, 3.0]]))


def test_distances_pair_by_pair(check: Check) -> None:
    """Every pair against a loop; the axes in front broadcast, and there may be no point at all."""
    points = check.draw.strided(3, 1, 4, 5, dtype=torch.float64)
    others = check.draw.normal(2, 6, 5, dtype=torch.float64)
    expected = [
        [[[math.dist(one, other) for other in table] for one in rows[0]] for table in others.tolist()]
        for rows in points.tolist()
    ]
    check(pairwise_distances, points, others).equals(torch.tensor(expected, dtype=torch.float64))
    one = check.draw.normal(1, 1)
    check(pairwise_distances, one, -one).equals(2 * one.abs(), note="one point with one coordinate")
    check(pairwise_distances, torch.zeros(0, 3), torch.zeros(2, 3)).equals(torch.zeros(0, 2))


def test_distances_far_from_the_origin(check: Check) -> None:
    """Points near each other and far from the origin keep their distances; a point is at 0 from itself."""
    # Two float32 numbers within a factor of 2 of each other are subtracted without any rounding, so the few roundings
    # that are left lie far within the usual tolerance; |x|² is about 3e8 here, its rounding alone is up to 16.
    points = 1e4 + check.draw.normal(5, 3)
    others = torch.cat([points[:2], 1e4 + check.draw.normal(4, 3)])
    expected = torch.tensor([[math.dist(one, other) for other in others.tolist()] for one in points.tolist()])
    answer = check(pairwise_distances, points, others).equals(expected, note="each coordinate is near 10000")
    answer.has(shape=(5, 6))
    itself = answer.value[:2, :2].diagonal()
    answer.satisfies(
        itself.count_nonzero() == 0,
        got=f"distances of two points from themselves: {itself.tolist()}",
        expected="exactly 0",
    )


def test_distances_gradient(check: Check) -> None:
    """Gradients reach both sets of points, and are finite where two points are equal: 0 for that pair."""
    points = check.draw.normal(4, 3, dtype=torch.float64)
    others = torch.cat([points[1:3], check.draw.normal(3, 3, dtype=torch.float64)]).requires_grad_()
    points.requires_grad_()
    by_differences = "donot_use_mm_for_euclid_dist"
    check(pairwise_distances, points, others).gradients_equal(
        torch.cdist(points, others, compute_mode=by_differences), points=points, others=others
    )
    check(pairwise_distances, points, points).gradients_equal(
        torch.cdist(points, points, compute_mode=by_differences), points=points
    )


def test_distances_refuse(check: Check) -> None:
    """Points that do not fit each other, even if they would broadcast, and whole numbers are refused."""
    points = torch.zeros(4, 2)
    check.raises(ValueError, pairwise_distances, points, torch.zeros(5, 3), naming=("(4, 2)|[4, 2]", "(5, 3)|[5, 3]"))
    check.raises(ValueError, pairwise_distances, points, torch.zeros(5, 1), naming=("(4, 2)|[4, 2]", "(5, 1)|[5, 1]"))
    check.raises(ValueError, pairwise_distances, torch.zeros(2), points, naming=("(2,)|[2]", "(4, 2)|[4, 2]"))
    check.raises(ValueError, pairwise_distances, points, torch.zeros(2), naming=("(4, 2)|[4, 2]", "(2,)|[2]"))
    check.raises(TypeError, pairwise_distances, points.long(), points, naming="int64")
    check.raises(TypeError, pairwise_distances, points, points.int(), naming="int32")


def test_one_hot(check: Check) -> None:
    """A one at the index and zeros elsewhere: by hand, and for any shape and dtype, beside torch's own."""
    check(one_hot, torch.tensor([2, 0]), 3).equals(torch.tensor([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]))
    classes = check.draw.size()
    indices = check.draw.integers(0, classes, 4, 2, 3).mT
    check(one_hot, indices, classes).equals(F.one_hot(indices, classes).float())
    check(one_hot, indices.int(), classes, dtype=torch.float64).equals(F.one_hot(indices, classes).double())
    check(one_hot, indices.byte(), classes, dtype=torch.bool).equals(F.one_hot(indices, classes).bool())
    check(one_hot, torch.tensor(1), 2).equals(torch.tensor([0.0, 1.0]), note="one index without axes gives one row")
    check(one_hot, torch.zeros(0, dtype=torch.int64), 4).equals(torch.zeros(0, 4), note="no index, no row")


def test_gather_by_hand(check: Check) -> None:
    """Each sequence has its own indices; one entry may be picked twice, of vectors as of numbers."""
    values = torch.tensor([[10, 11, 12], [20, 21, 22]])
    check(batched_gather, values, torch.tensor([[2, 0], [1, 1]])).equals(torch.tensor([[12, 10], [21, 21]]))
    vectors = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])
    check(batched_gather, vectors, torch.tensor([[1]])).equals(torch.tensor([[[3.0, 4.0]]]))


def test_gather_entry_by_entry(check: Check) -> None:
    """Against a loop, with two axes behind the picked one, in value and in gradient; any dtype of index."""
    values = check.draw.strided(3, 5, 4, 2, dtype=torch.float64).requires_grad_()
    indices = check.draw.integers(0, 5, 3, 6)  # 6 of 5: at least one is picked twice
    rows = [torch.stack([sequence[i] for i in row]) for sequence, row in zip(values, indices.tolist(), strict=True)]
    expected = torch.stack(rows)
    check(batched_gather, values, indices).equals(expected.detach()).gradients_equal(expected, values=values)
    check(batched_gather, values, indices.byte()).equals(expected.detach(), note="uint8 means an index here, no mask")
    check(batched_gather, values, indices[:, :0]).equals(torch.zeros(3, 0, 4, 2, dtype=torch.float64))


def test_indices_refused(check: Check) -> None:
    """Indices that are negative, too large or no whole numbers are refused, and batches that do not fit."""
    indices, values = torch.tensor([[0, 2], [1, 1]]), torch.zeros(2, 3, 4)
    check.raises(ValueError, one_hot, torch.tensor([0, 7, 1]), 5, naming=("7", "5"))
    check.raises(ValueError, one_hot, torch.tensor([4, 5]), 5, naming="5")
    check.raises(ValueError, one_hot, torch.tensor([3, -4]), 5, naming=("-4", "5"))
    check.raises(ValueError, one_hot, torch.tensor(-1), 5, naming=("-1", "5"))
    check.raises(TypeError, one_hot, torch.tensor([0.0, 1.0]), 5, naming="float32")
    check.raises(TypeError, one_hot, torch.tensor([True, False]), 5, naming="bool")
    check.raises(TypeError, one_hot, torch.tensor([0j, 1j]), 5, naming="complex64")
    check.raises(ValueError, batched_gather, values, indices.where(indices < 2, 7), naming=("7", "3"))
    check.raises(ValueError, batched_gather, values, indices.where(indices > 0, -2), naming=("-2", "3"))
    check.raises(TypeError, batched_gather, values, indices.double(), naming="float64")
    check.raises(ValueError, batched_gather, values, indices[:1], naming=("(2, 3, 4)|[2, 3, 4]", "(1, 2)|[1, 2]"))
    check.raises(ValueError, batched_gather, values, indices[0], naming=("(2, 3, 4)|[2, 3, 4]", "(2,)|[2]"))
    check.raises(
        ValueError, batched_gather, values, indices[..., None], naming=("(2, 3, 4)|[2, 3, 4]", "(2, 2, 1)|[2, 2, 1]")
    )
    check.raises(ValueError, batched_gather, torch.zeros(2), indices, naming=("(2,)|[2]", "(2, 2)|[2, 2]"))


def test_windows_by_hand(check: Check) -> None:
    """Windows of three over six numbers, one step apart and two; as many as fit."""
    values = torch.arange(6)
    expected = torch.tensor([[0, 1, 2], [1, 2, 3], [2, 3, 4], [3, 4, 5]])
    check(sliding_windows, values, 3).equals(expected)
    check(sliding_windows, values, 3, step=2).equals(expected[::2])
    check(sliding_windows, values, 6, step=4).equals(values.reshape(1, 6), note="one window holds everything")
    check(sliding_windows, values, 1).equals(values.reshape(6, 1), note="each entry is a window of its own")


def test_windows_view(check: Check) -> None:
    """A view of the same memory, whatever its strides and offset; gradients of shared entries add up."""
    length, size, step = check.draw.size(9, 13), check.draw.size(3, 6), check.draw.size(2, 4)
    values = check.draw.strided(2, 3, length + 2, dtype=torch.float64)[..., 2:].requires_grad_()
    expected = values.unfold(-1, size, step)
    answer = check(sliding_windows, values, size, step).has(shape=expected.shape)
    answer.equals(
        expected.detach(),
        note=f"the strides of `values` are {values.stride()}, and it begins at entry {values.storage_offset()} of its memory",
    )
    answer.gradients_equal(expected, values=values)
    for name, tensor in {"strided values": values, "three whole numbers": torch.arange(3)}.items():
        answer = check(sliding_windows, tensor, 2).has(shape=(*tensor.shape[:-1], tensor.shape[-1] - 1, 2))
        answer.satisfies(
            answer.value.untyped_storage().data_ptr() == tensor.untyped_storage().data_ptr(),
            got=f"a copy of the {name}: its memory is another",
            expected="a view: the memory of `values` itself, seen with other strides",
        )


def test_windows_refuse(check: Check) -> None:
    """A window longer than the axis or empty, and a step that goes nowhere, are refused by name."""
    values = torch.zeros(2, 4)
    check.raises(ValueError, sliding_windows, values, 5, naming=("size", "5"))
    check.raises(ValueError, sliding_windows, values, 0, naming=("size", "0"))
    check.raises(ValueError, sliding_windows, values, 2, step=0, naming=("step", "0"))
    check.raises(ValueError, sliding_windows, values, 2, step=-3, naming=("step", "-3"))


def test_softmax_by_hand(check: Check) -> None:
    """Logits 0 and 1 share 1 : e, and so do any two that lie 1 apart: at 10000, and at -10000."""
    logits = torch.tensor([[0.0, 1.0], [1e4, 1e4 + 1], [-1e4, 1 - 1e4]])  # all exact in float32
    low, high = 1 / (1 + math.e), math.e / (1 + math.e)
    check(softmax, logits).equals(torch.tensor([[low, high]] * 3))
    check(log_softmax, logits).equals(torch.tensor([[math.log(low), math.log(high)]] * 3))


def test_softmax_along_any_axis(check: Check) -> None:
    """Along any axis, counted from either end, beside torch's own, in value and in gradient."""
    logits = check.draw.strided(3, 4, 5, dtype=torch.float64).requires_grad_()
    for dim in (-1, 0, 1, -2):
        for function, oracle in ((softmax, F.softmax), (log_softmax, F.log_softmax)):
            expected = oracle(logits, dim)
            check(function, logits, dim=dim).equals(expected.detach()).gradients_equal(expected, logits=logits)
    half = check.draw.normal(3, 4).bfloat16()
    check(softmax, half).equals(F.softmax(half, -1), note="the dtype of the logits stays")
    check(log_softmax, half).equals(F.log_softmax(half, -1), note="the dtype of the logits stays")
    single = check.draw.normal(4, 1)
    check(softmax, single).equals(torch.ones(4, 1), note="one alone gets everything")
    check(log_softmax, single).equals(torch.zeros(4, 1))


def test_softmax_extremes(check: Check) -> None:
    """Logits 20000 apart, and -inf: no overflow, no log of 0; NaN only where everything is -inf."""
    nothing, half = -math.inf, math.log(0.5)
    logits = torch.tensor([[-1e4, 1e4, nothing], [nothing, 1e30, 1e30], [nothing, nothing, nothing]])
    check(softmax, logits).equals(torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.5, 0.5], [math.nan] * 3]))
    check(log_softmax, logits).equals(torch.tensor([[-2e4, 0.0, nothing], [nothing, half, half], [math.nan] * 3]))
    for function in (softmax, log_softmax):
        check.raises(TypeError, function, torch.tensor([1, 2]), naming="int64")
        check.raises(TypeError, function, torch.tensor([1j, 2j]), naming="complex64")


class _Steps(TorchFunctionMode):
    """Counts the steps that the learner's code takes: lines of its own file, and calls of torch."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return func(*args, **(kwargs or {}))

    def trace(self, frame: FrameType, event: str, argument: Any) -> Any:
        """Count each line; a loop on one line, and a comprehension, count at every turn."""
        if not str(frame.f_globals.get("__name__")).startswith("exercises."):
            return None
        self.count += 1
        return self.trace

    def of(self, function: Callable[..., Any], *args: Any) -> None:
        """Call the function and count."""
        before = sys.gettrace()
        sys.settrace(self.trace)
        try:
            with self:
                function(*args)
        finally:
            sys.settrace(before)


def test_no_python_loop(check: Check) -> None:
    """A larger input takes no more lines of Python and no more calls of torch: no loop over entries."""

    def inputs(size: int) -> list[tuple[Callable[..., Tensor], tuple[Any, ...]]]:
        square, indices = check.draw.normal(size, size), check.draw.integers(0, size, size, size)
        return [
            (pairwise_distances, (check.draw.normal(size, size, 2), square[:, :2])),
            (one_hot, (indices, size)),
            (batched_gather, (check.draw.normal(size, size, 2), indices)),
            (sliding_windows, (square, 2)),
            (softmax, (square, 0)),
            (log_softmax, (square, 0)),
        ]

    for (function, small), (_, large) in zip(inputs(3), inputs(24), strict=True):
        few, many = _Steps(), _Steps()
        answer = check.run(f"{function.__name__} of sizes of 3", partial(few.of, function, *small))
        if not answer.failed:
            check.run(f"{function.__name__} of sizes of 24", partial(many.of, function, *large)).satisfies(
                many.count <= few.count,
                got=f"{many.count} steps (lines run, calls of torch), and {few.count} for sizes of 3: a Python loop",
                expected="no more for large inputs than for small ones: each operation takes the whole tensor",
            )
