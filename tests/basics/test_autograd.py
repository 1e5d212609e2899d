"""Grades basics/autograd.

The oracles are autograd on torch's own functions, `torch.autograd.gradcheck` in float64, and closed forms.
"""

import math
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from checkpoints.checks import Answer, Check, Draw, Workload
from checkpoints.misconceptions import Misconception
from checkpoints.verdicts import Kind
from exercises.basics.autograd import (
    BinaryCrossEntropy,
    accumulate_gradients,
    consistency_loss,
    numerical_gradient,
    straight_through_round,
)

MISCONCEPTIONS = [
    Misconception(
        "one-sided differences: (f(x + step) - f(x)) / step",
        ("- _number(function(centre - nudge))", "- _number(function(centre))"),
        ("difference / (2 * step)", "difference / step"),
    ),
    Misconception(
        "the difference over both sides divided by `step`, not by 2 · step",
        ("difference / (2 * step)", "difference / step"),
    ),
    Misconception(
        "one-sided differences, divided as if they went to both sides",
        ("- _number(function(centre - nudge))", "- _number(function(centre))"),
    ),
    Misconception(
        "entries that stay nudged while the next are tried",
        ("            nudge[index] = 0.0\n", ""),
    ),
    Misconception(
        "differences in the point's own dtype, where float32 leaves them few digits",
        ("centre = point.to(torch.float64)", "centre = point.detach()"),
    ),
    Misconception(
        "the point itself nudged in place, and left so",
        ("nudge[index] = step", "nudge[index] = step; centre += nudge"),
        ("_number(function(centre + nudge))", "_number(function(centre))"),
        ("_number(function(centre - nudge))", "_number(function(centre - 2 * nudge))"),
    ),
    Misconception(
        "a numerical gradient that drags a graph along",
        ("with torch.no_grad():", "with torch.enable_grad():"),
    ),
    Misconception(
        "the logarithm of the sigmoid as it is written: inf or NaN where the sigmoid rounds to 0 or 1",
        (
            "return logits.clamp_min(0) - logits * targets + logits.abs().neg().exp().log1p()",
            "return -targets * logits.sigmoid().log() - (1 - targets) * (1 - logits.sigmoid()).log()",
        ),
    ),
    Misconception(
        "log(1 + exp(x)) without care for its overflow",
        (
            "logits.clamp_min(0) - logits * targets + logits.abs().neg().exp().log1p()",
            "logits.exp().log1p() - logits * targets",
        ),
    ),
    Misconception(
        "log(1 + ...) where `log1p` keeps the digits of what is tiny",
        ("logits.abs().neg().exp().log1p()", "(1 + logits.abs().neg().exp()).log()"),
    ),
    Misconception(
        "the mean of the losses, not the loss of each element",
        ("logits.abs().neg().exp().log1p()", "logits.abs().neg().exp().log1p(); return losses.mean()"),
        ("return logits.clamp_min(0)", "losses = logits.clamp_min(0)"),
    ),
    Misconception(
        "the slopes that autograd finds for the stable formula: at a logit of 0 it takes one side of the corner",
        (
            "(logits.sigmoid() - targets)",
            "((logits >= 0).to(logits) - targets - logits.sign() * (-logits.abs()).sigmoid())",
        ),
    ),
    Misconception(
        "a backward pass that forgets the incoming gradient",
        ("grad_output * (logits.sigmoid() - targets)", "(logits.sigmoid() - targets)"),
        ("grad_output * -logits", "-logits"),
    ),
    Misconception(
        "the gradient for the logits with its sign turned",
        ("(logits.sigmoid() - targets)", "(targets - logits.sigmoid())"),
    ),
    Misconception(
        "no gradient for the targets",
        ("grad_output * -logits if ctx.needs_input_grad[1] else None", "None"),
    ),
    Misconception(
        "both gradients worked out, whether or not they are asked for",
        (" if ctx.needs_input_grad[0] else None", ""),
        (" if ctx.needs_input_grad[1] else None", ""),
    ),
    Misconception(
        "tensors left on `ctx` behind the back of `save_for_backward`: a change in place goes unnoticed",
        ("ctx.save_for_backward(logits, targets)", "ctx.saved = logits, targets"),
        ("logits, targets = ctx.saved_tensors", "logits, targets = ctx.saved"),
    ),
    Misconception(
        "a backward pass of constants: the sigmoid was worked out in forward, and has no graph of its own",
        ("ctx.save_for_backward(logits, targets)", "ctx.save_for_backward(logits, targets, logits.sigmoid())"),
        ("logits, targets = ctx.saved_tensors", "logits, targets, sigmoid = ctx.saved_tensors"),
        ("grad_output * (logits.sigmoid() - targets)", "grad_output * (sigmoid - targets)"),
    ),
    Misconception(
        "a backward pass cut off from its graph, which cannot be differentiated again",
        ("logits, targets = ctx.saved_tensors", "logits, targets = (saved.detach() for saved in ctx.saved_tensors)"),
    ),
    Misconception(
        "logits and targets of different shapes stretched to fit each other",
        ("if logits.shape != targets.shape:", "if False:"),
    ),
    Misconception(
        "a mean of means: each micro-batch counts the same, however small",
        ("* (len(inputs) / sum(sizes))", "/ len(sizes)"),
    ),
    Misconception(
        "the micro-batches' means added up without weights",
        (" * (len(inputs) / sum(sizes))", ""),
    ),
    Misconception(
        "gradients overwritten by those of the last micro-batch",
        ("share.backward()", "model.zero_grad(); share.backward()"),
    ),
    Misconception(
        "gradients that were there thrown away before the first micro-batch",
        ("shares = []", "shares = []; model.zero_grad()"),
    ),
    Misconception(
        "one backward pass at the end: the graphs of all the micro-batches lie in memory together",
        ("share.backward()  #", "#"),
        ("shares.append(share.detach())", "shares.append(share)"),
        (
            "return torch.stack(shares).sum()",
            "total = torch.stack(shares).sum(); total.backward(); return total.detach()",
        ),
    ),
    Misconception(
        "a loss that still carries its graph",
        ("shares.append(share.detach())", "shares.append(share)"),
    ),
    Misconception(
        "the last micro-batch's part of the loss for the whole",
        ("return torch.stack(shares).sum()", "return shares[-1]"),
    ),
    Misconception(
        "rounding with its own slope, which is 0",
        ("return values + (values.round() - values).detach()", "return values.round()"),
    ),
    Misconception(
        "cutting off the decimals in the place of rounding",
        ("values.round()", "values.trunc()"),
    ),
    Misconception(
        "halves rounded up, not to the even neighbour",
        ("values.round()", "(values + 0.5).floor()"),
    ),
    Misconception(
        "a target that moves: the gradient goes through both sides",
        ("target.detach()", "target"),
    ),
    Misconception(
        "the gradient stopped at the predictions, not at the target",
        ("(online - target.detach())", "(online.detach() - target)"),
    ),
    Misconception(
        "the sum of the squared differences, not their mean",
        (".square().mean()", ".square().sum()"),
    ),
    Misconception(
        "predictions and targets of different shapes stretched to fit each other",
        ("if online.shape != target.shape:", "if False:"),
    ),
]


def workload(task: Any, draw: Draw) -> list[Workload]:
    """Typical calls, for `compare`."""
    point, logits = draw.normal(8, 16), draw.normal(256, 512, requires_grad=True)
    targets, predictions = draw.uniform(0, 1, 256, 512), draw.normal(256, 512, requires_grad=True)
    model = draw.fill(nn.Sequential(nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 1)))
    micro_batches = [(draw.normal(size, 64), draw.normal(size, 1)) for size in (32, 32, 32, 7)]
    return [
        Workload("numerical_gradient(log_sum_exp, point)", task.numerical_gradient, (_log_sum_exp, point)),
        Workload("BinaryCrossEntropy.apply(logits, targets)", task.BinaryCrossEntropy.apply, (logits, targets)),
        Workload(
            "accumulate_gradients(model, mse_loss, micro_batches)",
            task.accumulate_gradients,
            (model, F.mse_loss, micro_batches),
        ),
        Workload("straight_through_round(values)", task.straight_through_round, (logits,)),
        Workload("consistency_loss(online, target)", task.consistency_loss, (logits, predictions)),
    ]


def _log_sum_exp(x: Tensor) -> Tensor:
    return x.exp().sum().log()


def test_numerical_by_hand(check: Check) -> None:
    """Of x³, at 2 and -1, with a step of 1: (27 - 1) / 2 and (0 + 8) / 2."""

    def cubes(x: Tensor) -> Tensor:
        return (x**3).sum()

    check(numerical_gradient, cubes, torch.tensor([2.0, -1.0]), step=1.0).equals(
        torch.tensor([13.0, 4.0], dtype=torch.float64)
    )
    # At 0 what is found is the square of the step itself, to about ten roundings of 1.1e-16.
    check(numerical_gradient, cubes, torch.zeros(2)).equals(
        torch.tensor([1e-10, 1e-10], dtype=torch.float64), rtol=1e-14, atol=0.0, note="the square of a step of 1e-5"
    )


def test_numerical_of_quadratics(check: Check) -> None:
    """Exact for a quadratic function whatever the step, in float64 also where the point is float32."""
    for dtype in (torch.float64, torch.float32):
        point = check.draw.strided(3, 4, dtype=dtype)
        weights = check.draw.normal(3, 4, dtype=torch.float64)

        def quadratic(x: Tensor, weights: Tensor = weights) -> Tensor:
            return (weights * x.square()).sum() + x.sum().square()

        exact = 2 * weights * point + 2 * point.double().sum()
        check(numerical_gradient, quadratic, point, step=0.25).equals(exact)
        check(numerical_gradient, quadratic, point.T[:0].T).equals(exact[:, :0], note="of no entry, none")

        def with_axes(x: Tensor, weights: Tensor = weights) -> Tensor:
            return (weights * x).sum().reshape(1, 1)

        check(numerical_gradient, with_axes, point, step=0.25).equals(weights, note="of one number of shape (1, 1)")


def test_numerical_beside_autograd(check: Check) -> None:
    """With the usual step as good as autograd's to eight digits, for any shape, and without a graph."""
    weight = check.draw.uniform(1, 2, 2, 3, dtype=torch.float64).requires_grad_()

    def waves(x: Tensor) -> Tensor:
        return (weight * x).sin().sum()

    for point in (check.draw.uniform(-1, 1, 2, 3, dtype=torch.float64), torch.tensor(0.5, dtype=torch.float64)):
        point.requires_grad_()
        (expected,) = torch.autograd.grad(waves(point), point)
        # The third derivative is at most 6 · 2³, so step² / 6 of it 8e-10; two values of f, each rounded by a few
        # units of its last place (9e-16), differ by 1e-14 from the truth, and divided by 2 · step that is 5e-10.
        # One-sided differences are off by step / 2 times the second derivative, around 5e-6.
        answer = check(numerical_gradient, waves, point).equals(expected, rtol=0.0, atol=1e-8)
        answer.has(shape=point.shape).satisfies(
            not answer.value.requires_grad,
            got="a result that requires a gradient: it carries the graph of all those calls",
            expected="plain numbers, without a graph",
        )


def test_numerical_refuses(check: Check) -> None:
    """A step that goes nowhere, or backwards, and a function of many numbers are refused."""
    point = torch.tensor([1.0, 2.0, 3.0])
    check.raises(ValueError, numerical_gradient, torch.sum, point, step=0.0, naming=("step", "0"))
    check.raises(ValueError, numerical_gradient, torch.sum, point, step=-0.5, naming=("step", "-0.5"))
    check.raises(ValueError, numerical_gradient, torch.sum, point, step=math.nan, naming=("step", "nan"))
    check.raises(ValueError, numerical_gradient, torch.exp, point, naming="(3,)|[3]")


def test_cross_entropy_by_hand(check: Check) -> None:
    """Undecided costs ln 2; odds of 3 to 1 cost ln(4/3) where they are right, ln 4 where they are wrong."""
    logits, targets = torch.tensor([0.0, math.log(3), math.log(3)]), torch.tensor([1.0, 1.0, 0.0])
    expected = torch.tensor([math.log(2), math.log(4 / 3), math.log(4)])
    check(BinaryCrossEntropy.apply, logits, targets).equals(expected)


def test_cross_entropy_values(check: Check) -> None:
    """Beside torch's own, up to logits of 10000 and down to losses of 1e-38; other shapes are refused."""
    logits = check.draw.strided(4, 5, dtype=torch.float64)
    targets = check.draw.uniform(0, 1, 4, 5, dtype=torch.float64)
    expected = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    check(BinaryCrossEntropy.apply, logits, targets).equals(expected)
    logits = torch.tensor([-1e4, 1e4, 1e4, -100.0, 100.0])
    targets = torch.tensor([1.0, 0.0, 0.25, 1.0, 0.0])
    check(BinaryCrossEntropy.apply, logits, targets).equals(torch.tensor([1e4, 1e4, 7500.0, 100.0, 100.0]))
    logits, targets = torch.tensor([20.0, -20.0, 85.0, 1e4]), torch.tensor([1.0, 0.0, 1.0, 1.0])
    # No tolerance that is absolute: 0 would lie within it. log(1 + y) is y here, to the last digit of float32, and of
    # the roundings of its exp and log, a few units of 6e-8, the usual relative tolerance is a hundredfold.
    check(BinaryCrossEntropy.apply, logits, targets).equals((-logits.abs()).exp(), rtol=1e-5, atol=0.0)
    for shape in ((3,), (3, 1), (2, 3)):
        check.raises(
            ValueError,
            BinaryCrossEntropy.apply,
            torch.zeros(1, 3),
            torch.zeros(shape),
            naming=("(1, 3)|[1, 3]", f"{shape}|{list(shape)}"),
        )


def test_cross_entropy_gradients(check: Check) -> None:
    """Both gradients beside torch's own: at a logit of 0, and at 10000, where others find 0 times inf."""
    logits = check.draw.strided(4, 5, dtype=torch.float64).requires_grad_()
    targets = check.draw.uniform(0, 1, 4, 5, dtype=torch.float64).requires_grad_()
    expected = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    check(BinaryCrossEntropy.apply, logits, targets).gradients_equal(expected, logits=logits, targets=targets)
    logits = torch.tensor([-1e4, -100.0, 0.0, 0.0, 100.0, 1e4], requires_grad=True)
    targets = torch.tensor([1.0, 0.5, 0.0, 1.0, 0.25, 0.0])
    expected = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    check(BinaryCrossEntropy.apply, logits, targets).gradients_equal(expected, logits=logits)


def test_cross_entropy_twice(check: Check) -> None:
    """The gradient has gradients itself: closed forms, and torch's gradcheck and gradgradcheck in float64."""
    logits, cotangent = (check.draw.normal(5, dtype=torch.float64, requires_grad=True) for _ in range(2))
    targets = check.draw.uniform(0, 1, 5, dtype=torch.float64).requires_grad_()
    losses = check(BinaryCrossEntropy.apply, logits, targets).has(shape=(5,)).value
    closed = {"logits": cotangent * (logits.sigmoid() - targets), "targets": -cotangent * logits}
    everything = {"logits": logits, "targets": targets, "grad_output": cotangent}
    direction = check.draw.normal(5, dtype=torch.float64)
    for name, tensor in (("logits", logits), ("targets", targets)):
        gradient = check.run(
            f"the gradient for the {name}, with create_graph=True",
            partial(_gradient, losses, tensor, cotangent, create_graph=True),
        ).equals(closed[name].detach())
        for other, by in everything.items():
            if not gradient.failed:
                check.run(
                    f"the gradient for {other} of the gradient for the {name}",
                    partial(_second_gradient, gradient.value, by, direction),
                ).equals(_second_gradient(closed[name], by, direction))
    for checker in (torch.autograd.gradcheck, torch.autograd.gradgradcheck):
        answer = check.run(
            f"torch.autograd.{checker.__name__}(BinaryCrossEntropy.apply, (logits, targets))",
            partial(
                checker,
                BinaryCrossEntropy.apply,
                (logits, targets),
                raise_exception=False,
                check_undefined_grad=False,
            ),
        )
        answer.satisfies(
            answer.failed or answer.value,
            got="gradients other than the numerical ones",
            expected="those that central differences give",
        )


def _gradient(result: Tensor, tensor: Tensor, cotangent: Tensor, create_graph: bool = False) -> Tensor | None:
    """The gradient, None where there is none: what runs the learner's backward."""
    return torch.autograd.grad(result, tensor, cotangent, create_graph=create_graph, allow_unused=True)[0]


def _second_gradient(result: Tensor, tensor: Tensor, cotangent: Tensor) -> Tensor:
    """The gradient, zeros where there is none."""
    return torch.autograd.grad(result, tensor, cotangent, retain_graph=True, materialize_grads=True)[0]


def test_cross_entropy_only_what_is_asked(check: Check) -> None:
    """Where one of the two inputs requires no gradient, None stands for it: nothing is worked out."""
    logits, targets, cotangent = (check.draw.normal(4) for _ in range(3))
    for name, gradients in {
        "logits": (cotangent * (logits.sigmoid() - targets), None),
        "targets": (None, -cotangent * logits),
    }.items():
        inputs = [logits.clone().requires_grad_(name == "logits"), targets.clone().requires_grad_(name == "targets")]
        losses = check(BinaryCrossEntropy.apply, *inputs).has(shape=(4,)).value
        check.run(
            f"BinaryCrossEntropy.backward(ctx, grad_output) where only the {name} require a gradient",
            partial(_backward, losses, cotangent),
        ).equals(gradients)


def _backward(losses: Any, grad_output: Tensor) -> Any:
    """What backward itself returns: the node of the graph is the `ctx`, and its `apply` calls backward."""
    return losses.grad_fn.apply(grad_output)


def test_cross_entropy_changed_in_between(check: Check) -> None:
    """A change in place between forward and backward is noticed: no wrong gradient comes of it."""
    for changed in ("logits", "targets"):
        inputs = {name: check.draw.normal(4, dtype=torch.float64) for name in ("logits", "targets")}
        start = inputs["logits"].requires_grad_()
        inputs["logits"] = start * 1
        right = (start.sigmoid() - inputs["targets"]).detach()
        losses = check(BinaryCrossEntropy.apply, *inputs.values()).has(shape=(4,)).value
        with torch.no_grad():
            inputs[changed] += 1
        answer = check.run(
            f"the backward pass after a change of the {changed} in place", partial(_gradient_or_refusal, losses, start)
        )
        if answer.value == "refused":
            check.passed()
        else:
            answer.equals(right, note="or an error: `ctx.save_for_backward` lets autograd notice the change")


def _gradient_or_refusal(losses: Tensor, tensor: Tensor) -> Tensor | str | None:
    try:
        return _gradient(losses, tensor, torch.ones_like(losses))
    except RuntimeError as error:
        if "modified by an inplace operation" not in str(error):
            raise
        return "refused"


def _network(check: Check) -> nn.Module:
    network = nn.Sequential(nn.Linear(10, 4), nn.Tanh(), nn.Linear(4, 1)).to(torch.float64)
    return check.draw.fill(network, scale=0.3)


def _micro_batches(check: Check, *sizes: int) -> list[tuple[Tensor, Tensor]]:
    return [
        (check.draw.normal(size, 10, dtype=torch.float64), check.draw.normal(size, 1, dtype=torch.float64))
        for size in sizes
    ]


def _whole(network: nn.Module, micro_batches: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, list[Tensor]]:
    """Loss and gradients of all the examples as one batch."""
    inputs, targets = (torch.cat(parts) for parts in zip(*micro_batches, strict=True))
    loss = F.mse_loss(network(inputs), targets)
    return loss.detach(), list(torch.autograd.grad(loss, list(network.parameters())))


def _compare_gradients(check: Check, answer: Answer, network: nn.Module, expected: list[Tensor], note: str) -> None:
    if answer.failed:
        return
    for (name, parameter), gradient in zip(network.named_parameters(), expected, strict=True):
        call = f"the `grad` of {name} after {answer.call}"
        if check.that(parameter.grad is not None, call=call, got="None", expected="a gradient", kind=Kind.NO_GRADIENT):
            check.run(call, partial(getattr, parameter, "grad")).equals(gradient, note=note)


def test_accumulation_by_hand(check: Check) -> None:
    """Mean slope of one example, 3, and of two, 7.5: over all three it is 6."""
    line = nn.Linear(1, 1, bias=False)

    def mean(outputs: Tensor, targets: Tensor) -> Tensor:
        return outputs.mean()

    check.load(line, {"weight": torch.tensor([[0.5]])})
    micro_batches = [(torch.tensor([[3.0]]), torch.zeros(1)), (torch.tensor([[6.0], [9.0]]), torch.zeros(2))]
    answer = check(accumulate_gradients, line, mean, micro_batches).equals(torch.tensor(3.0))
    _compare_gradients(check, answer, line, [torch.tensor([[6.0]])], "each example counts the same")


def test_accumulation_equals_the_whole(check: Check) -> None:
    """Micro-batches of other sizes, also a single one, give the whole batch's gradients and mean loss."""
    for sizes in ((5, 1, 2), (3, 3), (4,)):
        network, micro_batches = _network(check), _micro_batches(check, *sizes)
        loss, gradients = _whole(network, micro_batches)
        answer = check(accumulate_gradients, network, F.mse_loss, micro_batches).equals(loss)
        _compare_gradients(check, answer, network, gradients, "as of all the examples in one batch")
        answer.has(shape=()).satisfies(
            not answer.value.requires_grad,
            got="a loss that requires a gradient: it keeps graphs alive",
            expected="a plain number, without a graph",
        )


def test_accumulation_adds(check: Check) -> None:
    """Gradients that are there already are added to, as `backward` does; clearing is the caller's affair."""
    network, micro_batches = _network(check), _micro_batches(check, 2, 3)
    _, gradients = _whole(network, micro_batches)
    before = [check.draw.normal(*parameter.shape, dtype=torch.float64) for parameter in network.parameters()]
    for parameter, there in zip(network.parameters(), before, strict=True):
        parameter.grad = there.clone()
    answer = check(accumulate_gradients, network, F.mse_loss, micro_batches)
    expected = [there + gradient for there, gradient in zip(before, gradients, strict=True)]
    _compare_gradients(check, answer, network, expected, "what was there, and the new")


def test_accumulation_one_graph_at_a_time(check: Check) -> None:
    """Each micro-batch goes backward before the next goes forward; none, or an empty one, is refused."""
    network, micro_batches = _network(check), _micro_batches(check, 2, 1, 3)
    events: list[str] = []

    def recorded(outputs: Tensor, targets: Tensor) -> Tensor:
        events.append("forward")
        outputs.register_hook(lambda _: events.append("backward"))
        return F.mse_loss(outputs, targets)

    check(accumulate_gradients, network, recorded, micro_batches).satisfies(
        events == ["forward", "backward"] * 3,
        got=", ".join(events) or "nothing",
        expected="forward, backward, forward, backward, forward, backward",
    )
    check.raises(ValueError, accumulate_gradients, network, F.mse_loss, [])
    empty = [*micro_batches, *_micro_batches(check, 0)]
    check.raises(ValueError, accumulate_gradients, network, F.mse_loss, empty, naming="3")


def test_straight_through(check: Check) -> None:
    """Forward it rounds, halves to the even neighbour; backward it lets the gradient through unchanged."""
    values = torch.tensor([0.4, 0.6, -1.2, -1.7, 0.5, 2.5, 1e6], requires_grad=True)
    expected = torch.tensor([0.0, 1.0, -1.0, -2.0, 0.0, 2.0, 1e6])
    # A whole number is met or missed: a sum of the value and its difference from it does not round either.
    answer = check(straight_through_round, values).equals(expected, rtol=0.0, atol=0.0, note="whole, halves to even")
    answer.gradients_equal(values * 1, values=values)
    values = (4 * check.draw.strided(3, 5, dtype=torch.float64)).requires_grad_()
    check(straight_through_round, values).equals(values.detach().round()).gradients_equal(values * 1, values=values)


def test_consistency(check: Check) -> None:
    """The mean squared difference; its gradient moves the predictions alone. Other shapes are refused."""
    online, target = (check.draw.strided(3, 4, dtype=torch.float64).requires_grad_() for _ in range(2))
    expected = F.mse_loss(online, target.detach().clone())
    answer = check(consistency_loss, online, target).equals(expected.detach())
    answer.gradients_equal(expected, online=online, target=target)
    # One weight of 3 that makes both: were the target to move too, the slope of (2 w - w)² would be 2 w, not 4 w.
    weight = torch.tensor(3.0, requires_grad=True)
    answer = check(consistency_loss, weight * 2, weight * 1).equals(torch.tensor(9.0))
    answer.gradients_equal((weight * 2 - 3.0).square(), weight=weight)
    check.raises(ValueError, consistency_loss, torch.zeros(4, 1), torch.zeros(4), naming=("(4, 1)|[4, 1]", "(4,)|[4]"))
