"""Grades networks/losses.

The oracles are torch's own losses, which want the classes on the second axis and may not be called by the learner; for
the focal loss, which torch lacks, its formula in float64; and for the gradients, differences of the values.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from checkpoints.checks import Check, Draw, Workload
from checkpoints.misconceptions import Misconception
from exercises.networks.losses import cross_entropy, focal_loss, huber_loss

MISCONCEPTIONS = [
    Misconception(
        "the mean over all targets, those that are ignored included",
        ("losses.sum() / count.clamp_min(1)", "losses.mean()"),
    ),
    Misconception(
        "the sum in the place of the mean",
        ("losses.mean() if count is None else losses.sum() / count.clamp_min(1)", "losses.sum()"),
    ),
    Misconception(
        "the sum divided by the number of sequences, not by that of the targets",
        ("count.clamp_min(1)", "(len(losses) if losses.dim() else 1)"),
    ),
    Misconception(
        "0/0 where no target counts: NaN in the loss, and then in every weight", ("count.clamp_min(1)", "count")
    ),
    Misconception(
        "any word taken for the mean: a misspelt reduction goes unnoticed", ('if reduction == "mean":', "if True:")
    ),
    Misconception(
        "ignored targets used as an index, where -100 counts from the end: they must not count at all",
        (
            "return targets.masked_fill(~counted, 0), counted",
            "return targets % number, torch.ones_like(counted)",
        ),
    ),
    Misconception(
        "negative targets that count from the last class, and are not refused",
        (
            "outside = targets[counted & ((targets < 0) | (targets >= number))]",
            "outside = targets[counted & (targets >= number)]",
        ),
        ("return targets.masked_fill", "return (targets % number).masked_fill"),
    ),
    Misconception(
        "targets compared in a small dtype of their own: in uint8, -100 is 156",
        ("number, targets = logits.shape[-1], targets.long()", "number = logits.shape[-1]"),
        ("return targets.masked_fill", "return targets.long().masked_fill"),
    ),
    Misconception(
        "-100 ignored, whatever `ignore_index` says",
        ("counted = targets != ignore_index", "counted = (targets != -100) & (targets < logits.shape[-1])"),
    ),
    Misconception(
        "smoothing that shares ε among the C - 1 wrong classes, not among all C",
        (
            "uniform = -log_probabilities.mean(dim=-1)",
            "uniform = (-log_probabilities.sum(dim=-1) - losses) / (logits.shape[-1] - 1)",
        ),
    ),
    Misconception(
        "smoothing that gives ε to each class, not ε / C",
        ("-log_probabilities.mean(dim=-1)", "-log_probabilities.sum(dim=-1)"),
    ),
    Misconception(
        "smoothing the wrong way round: 1 - ε shared evenly, and ε for the truth",
        ("torch.lerp(losses, uniform, label_smoothing)", "torch.lerp(uniform, losses, label_smoothing)"),
    ),
    Misconception(
        "smoothing added, without taking ε from the truth",
        ("torch.lerp(losses, uniform, label_smoothing)", "losses + label_smoothing * uniform"),
    ),
    Misconception(
        "smoothing whose even share counts for ignored targets too",
        (
            "losses = torch.lerp(losses, uniform, label_smoothing)",
            "losses = torch.lerp(losses.masked_fill(~counted, 0.0), uniform, label_smoothing)\nreturn _reduce(losses, reduction, counted.sum())",
        ),
    ),
    Misconception(
        "a softmax of the softmax: logits must go in as they are",
        ("log_probabilities = log_softmax(logits)", "log_probabilities = log_softmax(log_softmax(logits).exp())"),
    ),
    Misconception(
        "logits taken for log-probabilities: nothing makes them sum to 1",
        ("log_probabilities = log_softmax(logits)", "log_probabilities = logits"),
    ),
    Misconception(
        "the logarithm of a softmax: a probability that rounds to 0 has the logarithm -inf",
        ("log_probabilities = log_softmax(logits)", "log_probabilities = log_softmax(logits).exp().log()"),
    ),
    Misconception(
        "the logarithm of a softmax with 1e-8 added: no loss is greater than 18.4, and nothing draws it down from there",
        ("log_probabilities = log_softmax(logits)", "log_probabilities = (log_softmax(logits).exp() + 1e-8).log()"),
    ),
    Misconception(
        "the softmax over the second axis: the classes are on the last",
        (
            "log_probabilities = log_softmax(logits)",
            "log_probabilities = log_softmax(logits, dim=min(1, logits.dim() - 1))",
        ),
    ),
    Misconception(
        "the softmax over the first axis: the examples compete, not the classes",
        ("log_probabilities = log_softmax(logits)", "log_probabilities = log_softmax(logits, dim=0)"),
    ),
    Misconception(
        "p^gamma in the place of (1 - p)^gamma: what is easy counts most",
        ("-log_p * missing**gamma", "-log_p * log_p.exp() ** gamma"),
    ),
    Misconception("(1 - p)^gamma alone, without the cross-entropy", ("-log_p * missing**gamma", "missing**gamma")),
    Misconception("gamma as a factor: it is the exponent of 1 - p", ("missing**gamma", "missing * gamma")),
    Misconception("the gradient cut at the factor (1 - p)^gamma", ("missing**gamma", "missing.detach() ** gamma")),
    Misconception(
        "a slope of (1 - p)^gamma that is infinite at p = 1: times 0 it makes a gradient of NaN",
        (".clamp_min(torch.finfo(log_p.dtype).tiny)", ""),
    ),
    Misconception("focal loss without its alpha", ("losses = losses * alpha[classes]", "pass")),
    Misconception(
        "the mean divided by the sum of the weights alpha, not by the number of targets",
        (
            "losses = losses * alpha[classes]",
            'losses = losses * alpha[classes]\nif reduction == "mean":\n    losses = losses * counted.sum() / alpha[classes][counted].sum()',
        ),
    ),
    Misconception(
        "the square not halved",
        ("near * (size - 0.5 * near)", "torch.where(size <= delta, size * size, delta * (size - 0.5 * delta))"),
    ),
    Misconception(
        "a linear part without its factor delta: the loss jumps there, and the slope is 1",
        ("near * (size - 0.5 * near)", "torch.where(size <= delta, 0.5 * size * size, size - 0.5 * delta)"),
    ),
    Misconception(
        "a linear part that does not begin where the square ends: delta² / 2 is not taken off",
        ("near * (size - 0.5 * near)", "torch.where(size <= delta, 0.5 * size * size, delta * size)"),
    ),
    Misconception(
        "squared beyond delta and linear below: the wrong way round",
        ("near * (size - 0.5 * near)", "torch.where(size > delta, 0.5 * size * size, delta * (size - 0.5 * delta))"),
    ),
    Misconception("the absolute error everywhere", ("near * (size - 0.5 * near)", "size")),
    Misconception("half the squared error everywhere", ("near * (size - 0.5 * near)", "0.5 * size * size")),
    Misconception(
        "smooth L1, which is the Huber loss divided by delta",
        ("near * (size - 0.5 * near)", "near * (size - 0.5 * near) / delta"),
    ),
    Misconception(
        "shapes that broadcast: (N,) and (N, 1) are compared each with each",
        ("if prediction.shape != target.shape:", "if False:"),
    ),
]

REDUCTIONS = ("mean", "sum", "none")

# Beside 1e4, float32 has digits down to 1e-3, and beside 2e4 to 2e-3. Whoever subtracts the whole log-sum-exp, maximum
# included, rounds to half of that and is right; a probability is then off by as much, and so is its gradient times a
# cotangent, which is hardly ever above 5. A loss of 2e4 is rounded in ten steps or so, each by 6e-8 of it.
AT_1E4: dict[str, Any] = {"rtol": 1e-6, "atol": 1e-2}


def workload(task: Any, draw: Draw) -> list[Workload]:
    """Typical calls, for `compare`."""
    logits, targets = draw.normal(8, 64, 512, requires_grad=True), draw.integers(0, 512, 8, 64)
    targets[:, 50:] = -100
    prediction, target = draw.normal(256, 64, scale=2.0, requires_grad=True), draw.normal(256, 64)
    return [
        Workload("cross_entropy(logits, targets)", task.cross_entropy, (logits, targets)),
        Workload(
            "cross_entropy(logits, targets, label_smoothing=0.1)",
            task.cross_entropy,
            (logits, targets),
            {"label_smoothing": 0.1},
        ),
        Workload("focal_loss(logits, targets)", task.focal_loss, (logits, targets)),
        Workload("huber_loss(prediction, target)", task.huber_loss, (prediction, target)),
    ]


def _torchs(logits: Tensor, targets: Tensor, **options: Any) -> Tensor:
    """Torch's cross-entropy, with the classes moved to its second axis."""
    if targets.dim():
        logits = logits.movedim(-1, 1)
    return F.cross_entropy(logits, targets, **options)


def _focal(
    logits: Tensor,
    targets: Tensor,
    gamma: float,
    alpha: Tensor | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Tensor:
    """The formula, for logits whose probabilities do not round to 0 or 1."""
    counted = targets != ignore_index
    truth = F.one_hot(targets.where(counted, 0), logits.shape[-1]).to(logits.dtype)
    p = (F.softmax(logits, dim=-1) * truth).sum(dim=-1)
    weights = truth.sum(dim=-1) if alpha is None else (truth * alpha).sum(dim=-1)
    losses = -weights * (1 - p).pow(gamma) * p.log() * counted
    if reduction == "none":
        return losses
    return losses.sum() / (counted.sum() if reduction == "mean" else 1)


def _by_differences(check: Check, text: str, function: Callable[..., Tensor], *inputs: Tensor) -> None:
    """The gradients in float64 are the slope of the learner's own values, along a random direction (`gradcheck`)."""
    # Central differences are off by step² times the third derivative, some 1e-12, and by rounding over the step, some
    # 1e-9; where a step crosses the corner of a slope, by the step. `torch.autograd.gradcheck` itself asks each
    # coordinate, and imports sympy first, which takes a second.
    step = 1e-6
    directions = [check.draw.normal(*tensor.shape, dtype=torch.float64) for tensor in inputs]

    def slope() -> Tensor:
        sides = [[x + sign * step * d for x, d in zip(inputs, directions, strict=True)] for sign in (1, -1)]
        ahead, behind = (function(*side).detach() for side in sides)
        return (ahead - behind) / (2 * step)

    def product() -> Tensor:
        gradients = torch.autograd.grad(function(*inputs), inputs)
        return torch.stack([(g * d).sum() for g, d in zip(gradients, directions, strict=True)]).sum()

    expected = check.run(f"differences of {text} along a direction", slope).has(shape=(), dtype=torch.float64).value
    # A corner crossed: the step, times the squares of a few components. Ten times the step.
    check.run(f"the gradient of {text} along a direction", product).equals(expected, rtol=1e-5, atol=1e-5)


def _inputs(draw: Draw, *shape: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Logits (*shape, C), not contiguous, and a class for each; C is none of the other sizes."""
    number = 9 + draw.size()
    logits = draw.strided(*shape, number, dtype=dtype) if shape else draw.normal(number, dtype=dtype)
    return logits * 2.0, draw.integers(0, number, *shape)


def _some_ignored(draw: Draw, targets: Tensor, index: int) -> Tensor:
    """About half of the targets put to `index`: one at least, and not all."""
    hidden = draw.booleans(*targets.shape)
    hidden[..., 0], hidden[..., -1] = True, False
    return targets.masked_fill(hidden, index)


def test_cross_entropy_by_hand(check: Check) -> None:
    """Logits 0 and ln 3 are probabilities 1/4 and 3/4: losses ln 4 and ln 4/3, and the mean of both."""
    logits = torch.tensor([[0.0, math.log(3.0)], [0.0, math.log(3.0)]])
    targets = torch.tensor([0, 1])
    losses = torch.tensor([math.log(4.0), math.log(4 / 3)])
    check(cross_entropy, logits, targets, reduction="none").equals(losses, note="-ln 1/4 and -ln 3/4")
    check(cross_entropy, logits, targets).equals(losses.mean(), note="the mean of ln 4 and ln 4/3")
    check(cross_entropy, logits, torch.tensor([0, -100])).equals(losses[0], note="the second does not count")
    check(cross_entropy, torch.zeros(2, 3, 50257), torch.full((2, 3), 9)).equals(
        torch.tensor(math.log(50257.0)), note="equal logits: ln C, where the training of every GPT-2 begins"
    )


def test_cross_entropy_against_torch(check: Check) -> None:
    """For logits (C,), (N, C), (B, T, C) and one axis more, the same as torch's, for each reduction."""
    for shape in ((), (1,), (6,), (3, 4), (2, 3, 2)):
        logits, targets = _inputs(check.draw, *shape)
        for reduction in REDUCTIONS:
            expected = _torchs(logits, targets, reduction=reduction)
            check(cross_entropy, logits, targets, reduction=reduction).equals(expected)
    logits, targets = _inputs(check.draw, 3, 5, dtype=torch.float64)
    for dtype in (torch.int16, torch.int32, torch.uint8):
        check(cross_entropy, logits, targets.to(dtype)).equals(_torchs(logits, targets))
    targets = torch.tensor([156, 3, 250, 0])
    for number, note in ((511, "all four count, though in uint8 -100 is 156"), (1000, "in uint8, 1000 would be 232")):
        logits = check.draw.normal(4, number)
        for loss, oracle in ((cross_entropy, _torchs), (focal_loss, partial(_focal, gamma=2.0))):
            check(loss, logits, targets.to(torch.uint8)).equals(oracle(logits, targets), note=note)


def test_half_precision(check: Check) -> None:
    """In float16 and bfloat16 the losses have their dtype, and are as near as a few roundings let them be."""
    # Eight roundings of numbers up to 8, each by half a unit in the last place: 64 * 2^-12 and 64 * 2^-9.
    for dtype, bound in ((torch.float16, 0.016), (torch.bfloat16, 0.13)):
        logits, targets = check.draw.uniform(-2.0, 2.0, 4, 6).to(dtype), check.draw.integers(0, 6, 4)
        expected = _torchs(logits.float(), targets, reduction="none").to(dtype)
        # Rounded as said above; the largest loss is below 4 + ln 6.
        check(cross_entropy, logits, targets, reduction="none").equals(expected, rtol=0.0, atol=bound)
        for loss in (cross_entropy, focal_loss):
            check(loss, logits, targets).has(shape=(), dtype=dtype)


def test_ignored(check: Check) -> None:
    """Ignored targets count in no reduction, nor in the number that the mean is divided by."""
    logits, targets = _inputs(check.draw, 3, 7)
    for index in (-100, -1, 0, 255):
        some = _some_ignored(check.draw, targets, index)
        for reduction in REDUCTIONS:
            expected = _torchs(logits, some, ignore_index=index, reduction=reduction)
            check(cross_entropy, logits, some, ignore_index=index, reduction=reduction).equals(
                expected, note="the ignored ones count nowhere"
            )
    single, targets = check.draw.normal(3, 1), torch.tensor([0, -100, 0])
    for loss in (cross_entropy, focal_loss):
        check(loss, single, targets, reduction="none").equals(torch.zeros(3), note="a single class is certain")


def test_nothing_counts(check: Check) -> None:
    """Where every target is ignored, or there is none, the loss is 0 and so is its gradient, never NaN."""
    for loss in (cross_entropy, focal_loss):
        for length in (4, 0):
            logits = check.draw.normal(length, 5, requires_grad=True)
            targets = torch.full((length,), -100)
            answer = check(loss, logits, targets).equals(torch.tensor(0.0), note="no target counts")
            answer.gradients_equal(0.0 * logits.sum(), logits=logits)


def test_smoothing(check: Check) -> None:
    """With ε = 0.2 and two classes, the truth is 0.9 and 0.1; with more classes, as torch's."""
    logits = torch.tensor([[0.0, math.log(3.0)]])
    expected = torch.tensor(0.1 * math.log(4.0) + 0.9 * math.log(4 / 3))
    check(cross_entropy, logits, torch.tensor([1]), label_smoothing=0.2).equals(
        expected, note="0.9 * ln 4/3 + 0.1 * ln 4"
    )
    logits, targets = _inputs(check.draw, 3, 7)
    for smoothing in (0.0, 0.1, 0.7, 1.0):
        for reduction in REDUCTIONS:
            options = {"label_smoothing": smoothing, "reduction": reduction}
            check(cross_entropy, logits, targets, **options).equals(_torchs(logits, targets, **options))
    some = _some_ignored(check.draw, targets, -100)
    for reduction in REDUCTIONS:
        options = {"label_smoothing": 0.3, "reduction": reduction}
        check(cross_entropy, logits, some, **options).equals(
            _torchs(logits, some, **options), note="some targets are ignored"
        )


def test_cross_entropy_extremes(check: Check) -> None:
    """Logits of ±1e4: a loss of 20000 or of ln 2, finite, with a gradient that still points the right way."""
    logits = torch.tensor(
        [[1e4, -1e4, 0.0], [1e4, -1e4, 0.0], [-1e4, -1e4, -3e4], [1e4, 1e4, -1e4]], requires_grad=True
    )
    targets = torch.tensor([1, 0, 0, 1])
    losses = torch.tensor([20000.0, 0.0, math.log(2.0), math.log(2.0)])
    answer = check(cross_entropy, logits, targets, reduction="none").equals(losses, **AT_1E4)
    answer.gradients_equal(_torchs(logits, targets, reduction="none"), logits=logits, **AT_1E4)
    options = {"reduction": "none", "label_smoothing": 0.3}
    # Of the even share: the mean of 0, 20000 and 10000 of the first row.
    answer = check(cross_entropy, logits[:1], targets[:1], **options).equals(
        torch.tensor([0.7 * 20000 + 0.3 * 10000]), **AT_1E4
    )
    answer.gradients_equal(_torchs(logits[:1], targets[:1], **options), logits=logits, **AT_1E4)


def test_cross_entropy_gradients(check: Check) -> None:
    """In float64, gradients as torch's and as differences, with smoothing and ignored targets too."""
    logits, targets = _inputs(check.draw, 2, 4, dtype=torch.float64)
    logits.requires_grad_()
    targets = _some_ignored(check.draw, targets, -100)
    for options in ({}, {"label_smoothing": 0.2}, {"reduction": "none"}):
        expected = _torchs(logits, targets, **options)
        check(cross_entropy, logits, targets, **options).gradients_equal(expected, logits=logits)
    _by_differences(check, "cross_entropy", partial(cross_entropy, targets=targets, label_smoothing=0.2), logits)


def test_cross_entropy_refuses(check: Check) -> None:
    """Targets that are no class, no whole numbers or of another shape, and options out of range, by name."""
    logits, targets = check.draw.normal(4, 5), torch.tensor([1, 0, 4, 2])
    for wrong in (5, -1):
        check.raises(ValueError, cross_entropy, logits, torch.tensor([1, wrong, 0, 2]), naming=(str(wrong), "5"))
    check.raises(ValueError, cross_entropy, logits, torch.tensor([1, -100, 0, 2]), ignore_index=-1, naming="-100")
    check.raises(ValueError, cross_entropy, logits, targets[:3], naming=("(4, 5)", "(3,)"))
    check.raises(ValueError, cross_entropy, logits, targets[:, None], naming=("(4, 5)", "(4, 1)"))
    check.raises(ValueError, cross_entropy, logits[0], targets[:1], naming=("(5,)", "(1,)"))
    _refuses_dtypes(check, cross_entropy)
    for smoothing in (-0.1, 1.01, math.nan):
        named = ("label_smoothing", str(smoothing))
        check.raises(ValueError, cross_entropy, logits, targets, label_smoothing=smoothing, naming=named)
    check.raises(ValueError, cross_entropy, logits, targets, reduction="average", naming=("reduction", "average"))


def _refuses_dtypes(check: Check, loss: Callable[..., Tensor]) -> None:
    """Targets that are no whole numbers, and logits that are."""
    logits, targets = check.draw.normal(2, 5), torch.tensor([1, 0])
    for dtype in (torch.float32, torch.bool, torch.complex64):
        check.raises(TypeError, loss, logits, targets.to(dtype), naming=str(dtype).removeprefix("torch."))
    check.raises(TypeError, loss, logits.long(), targets, naming="int64")


def test_focal_by_hand(check: Check) -> None:
    """Where p = 1/4, gamma = 2 leaves 9/16 of the loss ln 4; where p = 3/4, 1/16 of ln 4/3."""
    logits = torch.tensor([[0.0, math.log(3.0)], [0.0, math.log(3.0)]])
    losses = torch.tensor([9 / 16 * math.log(4.0), 1 / 16 * math.log(4 / 3)])
    targets = torch.tensor([0, 1])
    check(focal_loss, logits, targets, reduction="none").equals(losses, note="gamma is 2")
    check(focal_loss, logits, targets).equals(losses.mean(), note="the mean of both")
    weighted = torch.tensor([2.0, 0.5]) * losses
    check(focal_loss, logits, targets, alpha=torch.tensor([2.0, 0.5])).equals(
        weighted.mean(), note="alpha is 2 for the first class and 1/2 for the second; the mean of two"
    )


def test_focal_formula(check: Check) -> None:
    """By the formula in float64, for each gamma and reduction, with weights and ignored targets."""
    logits, targets = _inputs(check.draw, 3, 6, dtype=torch.float64)
    check(focal_loss, logits, targets, gamma=0.0).equals(_torchs(logits, targets), note="gamma 0: the cross-entropy")
    alpha = check.draw.uniform(0.2, 2.0, logits.shape[-1], dtype=torch.float64)
    some = _some_ignored(check.draw, targets, 0)
    for gamma in (0.5, 1.0, 3.0):
        expected = _focal(logits, targets, gamma)
        check(focal_loss, logits, targets, gamma=gamma).equals(expected)
        for reduction in REDUCTIONS:
            expected = _focal(logits, some, gamma, alpha, 0, reduction)
            options = {"gamma": gamma, "alpha": alpha, "ignore_index": 0, "reduction": reduction}
            check(focal_loss, logits, some, **options).equals(expected)
    for shape in ((), (1,), (2, 3, 2)):
        logits, targets = _inputs(check.draw, *shape)
        check(focal_loss, logits, targets, reduction="none").equals(_focal(logits, targets, 2.0, reduction="none"))


def test_focal_gradients(check: Check) -> None:
    """Gradients flow through the factor (1 - p)^gamma too, as through the formula and as differences."""
    logits, targets = _inputs(check.draw, 5, dtype=torch.float64)
    logits.requires_grad_()
    targets = _some_ignored(check.draw, targets, -100)
    for gamma in (0.0, 0.5, 2.0):
        expected = _focal(logits, targets, gamma)
        check(focal_loss, logits, targets, gamma=gamma).gradients_equal(expected, logits=logits)
    _by_differences(check, "focal_loss", partial(focal_loss, targets=targets), logits)


def test_focal_extremes(check: Check) -> None:
    """Logits of ±1e4, where p rounds to 0 or to 1: values and gradients stay finite for every gamma."""
    logits = torch.tensor([[1e4, -1e4, 0.0], [1e4, -1e4, 0.0]], requires_grad=True)
    targets = torch.tensor([1, 0])
    # Where p is 0 the factor is 1 and does not change: what is left is the cross-entropy. Where p is 1, all is 0.
    expected = _torchs(logits, targets, reduction="none")
    for gamma in (0.0, 0.5, 1.0, 2.0):
        answer = check(focal_loss, logits, targets, gamma=gamma, reduction="none")
        answer.equals(torch.tensor([20000.0, 0.0]), **AT_1E4).gradients_equal(expected, logits=logits, **AT_1E4)


def test_focal_refuses(check: Check) -> None:
    """A negative gamma, weights that are not one for each class, and what cross_entropy refuses, by name."""
    logits, targets = check.draw.normal(4, 5), torch.tensor([1, 0, 4, 2])
    for gamma in (-0.5, math.nan):
        check.raises(ValueError, focal_loss, logits, targets, gamma=gamma, naming=("gamma", str(gamma)))
    for shape in ((4,), (4, 5), (1,)):
        check.raises(ValueError, focal_loss, logits, targets, alpha=torch.ones(shape), naming=("alpha", str(shape)))
    for wrong in (5, -1):
        check.raises(ValueError, focal_loss, logits, torch.tensor([1, wrong, 0, 2]), naming=(str(wrong), "5"))
    check.raises(ValueError, focal_loss, logits, targets[:3], naming=("(4, 5)", "(3,)"))
    _refuses_dtypes(check, focal_loss)
    check.raises(ValueError, focal_loss, logits, targets, reduction="average", naming=("reduction", "average"))


def test_huber_by_hand(check: Check) -> None:
    """Errors 1, -2 and 4 with delta 2: half the squares 1/2 and 2, then 2 · (4 - 1) = 6; with delta 1, otherwise."""
    prediction, target = torch.tensor([3.0, 1.0, 4.0]), torch.tensor([2.0, 3.0, 0.0])
    losses = torch.tensor([0.5, 2.0, 6.0])
    check(huber_loss, prediction, target, delta=2.0, reduction="none").equals(
        losses, note="1² / 2, 2² / 2, and 2 · (4 - 2 / 2)"
    )
    check(huber_loss, prediction, target, delta=2.0).equals(losses.mean(), note="the mean of 0.5, 2 and 6")
    check(huber_loss, prediction, target, reduction="sum").equals(torch.tensor(0.5 + 1.5 + 3.5), note="delta is 1")


def test_huber_against_torch(check: Check) -> None:
    """The same as torch's, for each delta and reduction, in float64 and bfloat16, and for a scalar."""
    prediction, target = check.draw.strided(4, 6) * 2.0, check.draw.normal(4, 6)
    for delta in (0.3, 1.0, 2.5):
        for reduction in REDUCTIONS:
            expected = F.huber_loss(prediction, target, delta=delta, reduction=reduction)
            check(huber_loss, prediction, target, delta=delta, reduction=reduction).equals(expected)
    for dtype in (torch.float64, torch.bfloat16):
        one, other = prediction.to(dtype), target.to(dtype)
        # The loss of an error that is itself rounded: in bfloat16 by 2^-9 of it, in both.
        expected = F.huber_loss(one, other, delta=0.5, reduction="none")
        check(huber_loss, one, other, delta=0.5, reduction="none").equals(expected)
    check(huber_loss, prediction[0, 0], target[0, 0]).equals(F.huber_loss(prediction[0, 0], target[0, 0]))


def test_huber_gradients(check: Check) -> None:
    """Gradients reach both arguments: the error up to delta, then delta with its sign, at 0 and at delta too."""
    target = check.draw.strided(4, 6, dtype=torch.float64).requires_grad_()
    prediction = (check.draw.normal(4, 6, dtype=torch.float64) * 2.0).requires_grad_()
    for delta in (0.5, 1.5):
        expected = F.huber_loss(prediction, target, delta=delta)
        answer = check(huber_loss, prediction, target, delta=delta)
        answer.gradients_equal(expected, prediction=prediction, target=target)
    _by_differences(check, "huber_loss", huber_loss, prediction, target)
    corners = torch.tensor([0.0, 1.0, -1.0], dtype=torch.float64, requires_grad=True)
    zeros = torch.zeros(3, dtype=torch.float64)
    answer = check(huber_loss, corners, zeros, reduction="sum")
    answer.gradients_equal(0.5 * corners.square().sum(), corners=corners)


def test_huber_extremes(check: Check) -> None:
    """Errors of 1e30, whose square overflows, have a finite loss and the gradient delta."""
    prediction = torch.tensor([1e30, -1e30, 0.5, 0.0], requires_grad=True)
    losses = torch.tensor([2e30, 2e30, 0.125, 0.0])
    answer = check(huber_loss, prediction, torch.zeros(4), delta=2.0, reduction="none").equals(losses)
    slopes = torch.tensor([2.0, -2.0, 0.5, 0.0])
    answer.gradients_equal(prediction * slopes, prediction=prediction)


def test_huber_refuses(check: Check) -> None:
    """Shapes that differ are refused though they would broadcast; so are a delta of 0 and another reduction."""
    prediction, target = check.draw.normal(4), check.draw.normal(4, 1)
    check.raises(ValueError, huber_loss, prediction, target, naming=("(4,)", "(4, 1)"))
    check.raises(ValueError, huber_loss, prediction, target[0, 0], naming=("(4,)", "()"))
    for delta in (0.0, -1.0, math.nan):
        check.raises(ValueError, huber_loss, prediction, target[:, 0], delta=delta, naming=("delta", str(delta)))
    check.raises(ValueError, huber_loss, prediction, target[:, 0], reduction="max", naming=("reduction", "max"))
