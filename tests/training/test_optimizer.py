"""Grades training/optimizer.

The oracle is `torch.optim.AdamW`, over many steps and in its whole state; small examples are done by hand. No line of
torch's own optimizers may run in a step of the learner's, however it is reached.
"""

import contextlib
import copy
import math
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import PurePath
from typing import Any

import torch
from torch import Tensor, nn

from checkpoints.checks import Answer, Check, Draw, Workload
from checkpoints.crashes import first_line, line_of
from checkpoints.misconceptions import Misconception
from checkpoints.verdicts import Kind
from exercises.training.optimizer import AdamW, weight_decay_groups

MISCONCEPTIONS = [
    Misconception(
        "Adam without its corrections: the means begin at 0, and are too small at first",
        ("math.sqrt(1 - beta2**step)", "1.0"),
        ("value=-lr / (1 - beta1**step)", "value=-lr"),
    ),
    Misconception(
        "only the mean of the squares corrected, not the mean of the gradients",
        ("value=-lr / (1 - beta1**step)", "value=-lr"),
    ),
    Misconception(
        "corrections of the step after this one: the first step is step 1",
        ("beta2**step)", "beta2**(step + 1))"),
        ("beta1**step)", "beta1**(step + 1))"),
    ),
    Misconception(
        "corrections by 1 - β in every step: it is 1 - β to the power of the step",
        ("beta2**step)", "beta2)"),
        ("beta1**step)", "beta1)"),
    ),
    Misconception(
        "L2 regularisation: the decay added to the gradient, and scaled by Adam as that is",
        ('parameter.mul_(1 - lr * group["weight_decay"])', 'gradient = gradient + group["weight_decay"] * parameter'),
    ),
    Misconception(
        "a decay that is not multiplied by the learning rate",
        ('1 - lr * group["weight_decay"]', '1 - group["weight_decay"]'),
    ),
    Misconception(
        "a decay by the learning rate that the optimizer was made with: a schedule changes the group's",
        ('1 - lr * group["weight_decay"]', '1 - self.defaults["lr"] * group["weight_decay"]'),
    ),
    Misconception(
        "the decay of what the step has made: it is that of the weights before the step",
        ('parameter.mul_(1 - lr * group["weight_decay"])', "pass"),
        (
            "parameter.addcdiv_(exp_avg, denominator, value=-lr / (1 - beta1**step))",
            """
            parameter.addcdiv_(exp_avg, denominator, value=-lr / (1 - beta1**step))
            parameter.mul_(1 - lr * group["weight_decay"])
            """,
        ),
    ),
    Misconception(
        "epsilon under the root",
        (
            'exp_avg_sq.sqrt().div_(math.sqrt(1 - beta2**step)).add_(group["eps"])',
            '(exp_avg_sq / (1 - beta2**step)).add_(group["eps"]).sqrt()',
        ),
    ),
    Misconception(
        "epsilon added before the root is corrected",
        (
            '.sqrt().div_(math.sqrt(1 - beta2**step)).add_(group["eps"])',
            '.sqrt().add_(group["eps"]).div_(math.sqrt(1 - beta2**step))',
        ),
    ),
    Misconception(
        "corrections in float32, as the counter is a tensor of that: too coarse for float64",
        ('step, exp_avg, exp_avg_sq = state["step"].item(),', 'step, exp_avg, exp_avg_sq = state["step"],'),
        ("value=-lr / (1 - beta1**step)", "value=-lr / float(1 - beta1**step)"),
    ),
    Misconception("the two betas exchanged", ('lr, (beta1, beta2) = group["lr"]', 'lr, (beta2, beta1) = group["lr"]')),
    Misconception(
        "division by the mean of the squares, without its root",
        ("exp_avg_sq.sqrt().div_(math.sqrt(1 - beta2**step))", "exp_avg_sq.clone().div_(1 - beta2**step)"),
    ),
    Misconception(
        "one counter of steps for all parameters: each counts its own",
        (
            "for group in self.param_groups:",
            "self._count = getattr(self, '_count', 0) + 1\nfor group in self.param_groups:",
        ),
        ('state["step"] += 1', 'state["step"].fill_(self._count)'),
    ),
    Misconception(
        "a gradient of None taken for zeros: the parameter decays, and goes on by its momentum",
        (
            "if parameter.grad is not None:\n    self._update(parameter, parameter.grad, group)",
            "missing = torch.zeros_like(parameter)\nself._update(parameter, missing if parameter.grad is None else parameter.grad, group)",
        ),
    ),
    Misconception(
        "the options the optimizer was made with, where a group has its own",
        (
            'lr, (beta1, beta2) = group["lr"], group["betas"]',
            "group = self.defaults\nlr, (beta1, beta2) = group['lr'], group['betas']",
        ),
    ),
    Misconception(
        "the gradient itself kept as the first mean: the next backward pass writes into it",
        ('state["exp_avg"] = torch.zeros_like(parameter)', 'state["exp_avg"] = gradient.mul_(0.0)'),
    ),
    Misconception(
        "a closure that is run without gradients",
        ("with torch.enable_grad():\n    loss = closure()", "loss = closure()"),
    ),
    Misconception(
        "weight decay on biases and norms as well",
        ('if parameter.dim() < 2], "weight_decay": 0.0}', 'if parameter.dim() < 2], "weight_decay": weight_decay}'),
    ),
    Misconception(
        "weight decay on norms: only what is called bias is left out",
        (
            "trained = [parameter for parameter in model.parameters() if parameter.requires_grad]",
            "trained = [parameter for parameter in model.parameters() if parameter.requires_grad]\nbiases = {id(parameter) for name, parameter in model.named_parameters() if name.endswith('bias')}",
        ),
        (
            "for parameter in trained if parameter.dim() >= 2]",
            "for parameter in trained if id(parameter) not in biases]",
        ),
        ("for parameter in trained if parameter.dim() < 2]", "for parameter in trained if id(parameter) in biases]"),
    ),
    Misconception(
        "weight decay for two axes only: what has three or four is left out",
        ("parameter.dim() >= 2]", "parameter.dim() == 2]"),
        ("parameter.dim() < 2]", "parameter.dim() != 2]"),
    ),
    Misconception(
        "frozen parameters among those to be trained",
        ("model.parameters() if parameter.requires_grad]", "model.parameters()]"),
    ),
    Misconception(
        "tied weights taken once for each of their names",
        (
            "for parameter in model.parameters() if",
            "for _, parameter in model.named_parameters(remove_duplicate=False) if",
        ),
    ),
]


def workload(task: Any, draw: Draw) -> list[Workload]:
    """Ten steps of a block's worth of parameters, for `compare`."""
    shapes = [(768, 256), (768,), (256, 256), (256,), (1024, 256), (1024,), (256, 1024), (256,)]
    start = [draw.normal(*shape) for shape in shapes]
    gradients = [[draw.normal(*shape) for shape in shapes] for _ in range(10)]

    def ten_steps() -> list[Tensor]:
        parameters = [nn.Parameter(tensor.clone()) for tensor in start]
        optimizer = task.AdamW(parameters)
        for step in gradients:
            for parameter, gradient in zip(parameters, step, strict=True):
                parameter.grad = gradient
            optimizer.step()
        return [parameter.detach() for parameter in parameters]

    return [Workload("ten steps of AdamW", ten_steps)]


@contextlib.contextmanager
def _no_line_of_torchs(check: Check) -> Iterator[None]:
    """Refuse to run code of torch's optimizers, but for their base class: inherited, wrapped or called."""

    def watch(frame: Any, event: str, _: Any) -> None:
        *_, library, folder, file = ("", "", *PurePath(frame.f_code.co_filename).parts)
        if event == "call" and (library, folder) == ("torch", "optim") and file != "optimizer.py":
            check.guard.refuse(f"ran torch's own {file}: an optimizer is what you are building")

    before = sys.getprofile()
    sys.setprofile(watch)
    try:
        yield
    finally:
        sys.setprofile(before)


def _step(check: Check, optimizer: Any, *closure: Any) -> Answer:
    """A step of the learner's optimizer; ends the check where it fails."""

    def step() -> Any:
        try:
            with _no_line_of_torchs(check):
                return optimizer.step(*closure)
        except RuntimeError as error:
            if "leaf Variable" not in str(error):
                raise
            # Elsewhere that is an input changed without leave; here it is to be changed, only not by way of autograd.
            got, wanted = f"RuntimeError: {first_line(error)}", "an update that autograd does not see: torch.no_grad()"
            check.note(Kind.CRASH, call, got, wanted, line_of(error))
            return None

    call = "AdamW(...).step()"
    answer = check.run(call, step)
    answer.value  # noqa: B018
    return answer


def _parameters(*tensors: Tensor) -> list[nn.Parameter]:
    return [nn.Parameter(tensor.clone()) for tensor in tensors]


def _give(parameters: list[nn.Parameter], gradients: list[Tensor | None]) -> None:
    """Give gradients as a backward pass does after `zero_grad(set_to_none=False)`: written into what is there."""
    for parameter, gradient in zip(parameters, gradients, strict=True):
        if gradient is None:
            parameter.grad = None
        elif parameter.grad is None:
            parameter.grad = gradient.clone(memory_format=torch.preserve_format)
        else:
            parameter.grad.copy_(gradient)


def _run(
    check: Check,
    optimizer: Any,
    oracle: torch.optim.Optimizer,
    parameters: list[nn.Parameter],
    twins: list[nn.Parameter],
    steps: list[list[Tensor | None]],
) -> None:
    """Take the same steps with both."""
    for gradients in steps:
        _give(parameters, gradients)
        _give(twins, gradients)
        _step(check, optimizer)
        oracle.step()


def _same(
    check: Check, what: str, parameters: list[nn.Parameter], twins: list[nn.Parameter], *names: str, note: str = ""
) -> None:
    """Compare the parameters, which may have names of their own."""
    names = names or tuple(f"parameter {number}" for number in range(1, len(twins) + 1))
    mine, theirs = (
        {name: entry.detach() for name, entry in zip(names, tensors, strict=True)} for tensors in (parameters, twins)
    )
    check.run(f"the parameters after {what}", lambda: mine).equals(theirs, note=note)


def _same_state(check: Check, what: str, optimizer: Any, oracle: torch.optim.Optimizer) -> None:
    """Compare the states; one without a step may be there, as it was made, or not there yet."""

    def state() -> Any:
        found = optimizer.state_dict()["state"]
        return {number: entry for number, entry in found.items() if number in expected or entry.get("step") != 0}

    expected = oracle.state_dict()["state"]
    check.run(f"AdamW(...).state_dict()['state'] after {what}", state).equals(expected)


def test_by_hand(check: Check) -> None:
    """A gradient that stays the same moves a weight by the learning rate in each step, whatever its size."""
    (weight,) = _parameters(torch.tensor([1.0, -2.0]))
    optimizer = check.build(AdamW, [weight], lr=0.1, weight_decay=0.2)
    expected = [1.0, -2.0]
    for step in range(1, 4):
        weight.grad = torch.tensor([0.5, -300.0])
        _step(check, optimizer)
        # The decay takes 0.1 · 0.2 of the weight; both means of a constant, corrected, are the constant.
        note = f"0.98 · {expected[0]:.4g} - 0.1 and 0.98 · {expected[1]:.4g} + 0.1: the decay, and the learning rate"
        expected = [0.98 * expected[0] - 0.1, 0.98 * expected[1] + 0.1]
        check.run(f"the weight after step {step}", weight.detach().clone).equals(torch.tensor(expected), note=note)


def test_defaults(check: Check) -> None:
    """It is a torch optimizer, with the options and the defaults of torch's AdamW, each kept in its groups."""
    (weight,) = _parameters(torch.zeros(2))
    optimizer = check.build(AdamW, [weight])
    check.that(
        isinstance(optimizer, torch.optim.Optimizer),
        call="AdamW([weight])",
        got=f"a {type(optimizer).__name__} that is no torch.optim.Optimizer",
        expected="a subclass of torch.optim.Optimizer",
    )
    group = check.run("AdamW([weight]).param_groups[0]", lambda: dict(optimizer.param_groups[0])).value
    defaults = {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.01}
    for name, value in defaults.items():
        # A default is not computed: it is that very number.
        check.run(f"AdamW([weight]).param_groups[0][{name!r}]", partial(group.__getitem__, name)).equals(
            value, rtol=0.0, atol=0.0
        )


def test_hundred_steps(check: Check) -> None:
    """A hundred steps with drawn options: parameters and state are those of torch.optim.AdamW."""
    draw = check.draw
    shapes = [(3, 5), (4,), (), (1, 1, 2)]
    start = [draw.normal(*shape, dtype=torch.float64) for shape in shapes]
    # Gradients of very different sizes, some of them zero; what an element gets does not depend on its value, so that
    # rounding is not amplified from step to step.
    scales = [10.0 ** draw.integer(-6, 4) for _ in shapes]
    steps: list[list[Tensor | None]] = [
        [
            draw.normal(*shape, dtype=torch.float64, scale=scale) * draw.booleans(*shape, probability=0.8)
            for shape, scale in zip(shapes, scales, strict=True)
        ]
        for _ in range(100)
    ]
    lr, beta1, beta2, decay = (
        float(draw.uniform(*ends, 1)) for ends in ((0.01, 0.1), (0.5, 0.95), (0.9, 0.999), (0.1, 0.5))
    )
    options: dict[str, Any] = {"lr": lr, "betas": (beta1, beta2), "eps": 1e-6, "weight_decay": decay}
    parameters, twins = _parameters(*start), _parameters(*start)
    optimizer, oracle = check.build(AdamW, parameters, **options), torch.optim.AdamW(twins, **options)
    _run(check, optimizer, oracle, parameters, twins, steps)
    _same(check, "100 steps", parameters, twins, note="in float64, where rounding takes less than 1e-10 in all")
    _same_state(check, "100 steps", optimizer, oracle)


def test_float32(check: Check) -> None:
    """With the default options in float32, on parameters and gradients that are not contiguous, as torch does."""
    start = [check.draw.strided(4, 6), check.draw.strided(2, 3, 2)]
    steps: list[list[Tensor | None]] = [[check.draw.strided(4, 6), check.draw.strided(2, 3, 2)] for _ in range(20)]
    parameters = [nn.Parameter(entry.clone(memory_format=torch.preserve_format)) for entry in start]
    twins = [nn.Parameter(entry.clone(memory_format=torch.preserve_format)) for entry in start]
    optimizer, oracle = check.build(AdamW, parameters), torch.optim.AdamW(twins)
    _run(check, optimizer, oracle, parameters, twins, steps)
    _same(check, "20 steps in float32", parameters, twins)
    _same_state(check, "20 steps in float32", optimizer, oracle)


def test_epsilon(check: Check) -> None:
    """A gradient as small as epsilon moves a weight by half the learning rate; one of zero does not move it."""
    small = torch.tensor([1e-8, -1e-8, 0.0, 3e-8], dtype=torch.float64)
    (weight,) = _parameters(torch.zeros_like(small))
    optimizer = check.build(AdamW, [weight], lr=0.5, eps=1e-8, weight_decay=0.0)
    weight.grad = small.clone()
    _step(check, optimizer)
    # g / (|g| + eps) is 1/2, -1/2, 0 and 3/4
    expected = torch.tensor([-0.25, 0.25, 0.0, -0.375], dtype=torch.float64)
    note = "0.5 · g / (|g| + eps) against the gradient"
    check.run("the weight after a step", weight.detach().clone).equals(expected, note=note)


def test_decay(check: Check) -> None:
    """Gradients of zero leave the decay alone: in each step a weight loses the share lr · weight_decay of itself."""
    start = check.draw.normal(3, 4, dtype=torch.float64, scale=100.0)
    (weight,) = _parameters(start)
    optimizer = check.build(AdamW, [weight], lr=0.25, weight_decay=0.2)
    for _ in range(3):
        weight.grad = torch.zeros_like(start)
        _step(check, optimizer)
    note = "0.95 · 0.95 · 0.95 of what it was"
    check.run("the weight after 3 steps", weight.detach().clone).equals(start * 0.95**3, note=note)


def test_learning_rate_that_changes(check: Check) -> None:
    """A schedule that changes the group's learning rate is heeded at once, also by the decay."""
    start = check.draw.normal(4, dtype=torch.float64)
    parameters, twins = _parameters(start), _parameters(start)
    optimizer = check.build(AdamW, parameters, lr=0.3, weight_decay=0.2)
    oracle = torch.optim.AdamW(twins, lr=0.3, weight_decay=0.2)
    for lr in (0.01, 0.0, 0.2):
        optimizer.param_groups[0]["lr"] = oracle.param_groups[0]["lr"] = lr
        _run(check, optimizer, oracle, parameters, twins, [[check.draw.normal(4, dtype=torch.float64)]])
        _same(check, f"a step at a learning rate of {lr}", parameters, twins)


def test_groups(check: Check) -> None:
    """Groups with options of their own, of which one has only some and takes the others from the constructor."""
    start = [check.draw.normal(2, 3, dtype=torch.float64) for _ in range(3)]
    steps: list[list[Tensor | None]] = [
        [check.draw.normal(2, 3, dtype=torch.float64) for _ in range(3)] for _ in range(5)
    ]

    def groups(parameters: list[nn.Parameter]) -> list[dict[str, Any]]:
        return [
            {"params": parameters[:1], "weight_decay": 0.0},
            {"params": parameters[1:2], "lr": 0.5, "betas": (0.3, 0.6), "eps": 0.1},
            {"params": parameters[2:]},
        ]

    parameters, twins = _parameters(*start), _parameters(*start)
    optimizer = check.build(AdamW, groups(parameters), lr=0.05, weight_decay=0.4)
    oracle = torch.optim.AdamW(groups(twins), lr=0.05, weight_decay=0.4)
    _run(check, optimizer, oracle, parameters, twins, steps)
    names = ("of the group with weight_decay", "of the group with lr, betas and eps", "of the group without options")
    _same(check, "5 steps in three groups", parameters, twins, *names)


def test_without_a_gradient(check: Check) -> None:
    """A parameter whose gradient is None is left alone in that step, and its steps are counted for itself."""
    start = [check.draw.normal(3, dtype=torch.float64) for _ in range(3)]

    def gradient() -> Tensor:
        return check.draw.normal(3, dtype=torch.float64)

    # The first always gets one; the second in steps 1 and 4 only; the third never.
    steps = [[gradient(), gradient() if step in (0, 3) else None, None] for step in range(5)]
    parameters, twins = _parameters(*start), _parameters(*start)
    options: dict[str, Any] = {"lr": 0.2, "weight_decay": 0.3}
    optimizer, oracle = check.build(AdamW, parameters, **options), torch.optim.AdamW(twins, **options)
    _run(check, optimizer, oracle, parameters, twins, steps)
    names = ("with a gradient in each step", "with one in steps 1 and 4", "without any")
    note = "where the gradient is None nothing moves, decays or counts"
    _same(check, "5 steps, some without a gradient", parameters, twins, *names, note=note)
    _same_state(check, "5 steps, some without a gradient", optimizer, oracle)


def test_gradients_stay(check: Check) -> None:
    """A step changes the parameters in place, and leaves the gradients as they are."""
    (weight,) = _parameters(check.draw.normal(3, 2))
    gradient, place = check.draw.normal(3, 2), weight.data_ptr()
    weight.grad = gradient.clone()
    optimizer = check.build(AdamW, [weight], weight_decay=0.5)
    _step(check, optimizer)
    check.run("the gradient after a step", lambda: weight.grad).equals(gradient)
    check.that(
        weight.data_ptr() == place,
        call="AdamW(...).step()",
        got="the parameter's numbers are in another place",
        expected="the parameter changed in place: a model's buffers and tied weights point there",
    )


def test_closure(check: Check) -> None:
    """A closure is called once, with gradients enabled, before the update; its loss is returned."""
    (weight,) = _parameters(torch.tensor([3.0]))
    optimizer = check.build(AdamW, [weight], lr=0.1, weight_decay=0.0)
    calls: list[dict[str, bool | float]] = []

    def closure() -> float:
        calls.append({"gradients enabled": torch.is_grad_enabled(), "the weight": weight.item()})
        weight.grad = torch.tensor([4.0])
        return 2.5

    _step(check, optimizer, closure).equals(2.5)
    seen = check.run("what the closure saw in each of its calls", lambda: list(calls))
    seen.equals([{"gradients enabled": True, "the weight": 3.0}])
    check.run("the weight after the closure's step", weight.detach().clone).equals(torch.tensor([2.9]))
    weight.grad = torch.tensor([4.0])
    _step(check, optimizer).equals(None)


def test_exchanged_states(check: Check) -> None:
    """A state_dict of torch's AdamW can be loaded and gone on with, and the other way round."""
    start = [check.draw.normal(2, 3, dtype=torch.float64), check.draw.normal(4, dtype=torch.float64)]
    steps: list[list[Tensor | None]] = [
        [check.draw.normal(2, 3, dtype=torch.float64), check.draw.normal(4, dtype=torch.float64)] for _ in range(8)
    ]
    options: dict[str, Any] = {"lr": 0.1, "betas": (0.8, 0.9), "eps": 1e-3, "weight_decay": 0.2}
    straight = _parameters(*start)
    oracle = torch.optim.AdamW(straight, **options)
    for gradients in steps:
        _give(straight, gradients)
        oracle.step()
    for name, first in (("torch's", torch.optim.AdamW), ("your", None)):
        parameters = _parameters(*start)
        one = first(parameters, **options) if first else check.build(AdamW, parameters, **options)
        # Made with other options: those of the state count.
        other = check.build(AdamW, parameters) if first else torch.optim.AdamW(parameters)
        for gradients in steps[:4]:
            _give(parameters, gradients)
            one.step() if first else _step(check, one)
        state = copy.deepcopy(check.run(f"the state_dict() of {name} AdamW", one.state_dict).value)
        load = partial(other.load_state_dict, state)
        check.run(f"load_state_dict() of the other, of a state of {name} AdamW", load).value  # noqa: B018
        for gradients in steps[4:]:
            _give(parameters, gradients)
            _step(check, other) if first else check.run("a step of torch's", other.step)
        _same(check, f"4 steps of {name} AdamW and 4 of the other", parameters, straight)


def test_refuses(check: Check) -> None:
    """A learning rate, betas, epsilon or decay out of range, and a sparse gradient, are refused by name."""
    (weight,) = _parameters(torch.zeros(4, 2))
    check.raises(ValueError, AdamW, [weight], lr=-0.1, naming=("lr|learning rate", "-0.1"))
    check.raises(ValueError, AdamW, [weight], lr=math.nan, naming=("lr|learning rate", "nan"))
    check.raises(ValueError, AdamW, [weight], betas=(1.0, 0.9), naming=("beta", "1.0"))
    check.raises(ValueError, AdamW, [weight], betas=(0.9, -0.5), naming=("beta", "-0.5"))
    check.raises(ValueError, AdamW, [weight], betas=(-0.25, 0.9), naming=("beta", "-0.25"))
    check.raises(ValueError, AdamW, [weight], betas=(0.9, math.nan), naming=("beta", "nan"))
    check.raises(ValueError, AdamW, [weight], eps=-1e-8, naming=("eps", "-1e-08"))
    check.raises(ValueError, AdamW, [weight], eps=math.nan, naming=("eps", "nan"))
    check.raises(ValueError, AdamW, [weight], weight_decay=-0.25, naming=("weight_decay|weight decay", "-0.25"))
    check.raises(ValueError, AdamW, [weight], weight_decay=math.nan, naming=("weight_decay|weight decay", "nan"))
    check.build(AdamW, [weight], lr=0.0, betas=(0.0, 0.0), eps=0.0, weight_decay=0.0)  # all allowed
    (weight,) = _parameters(torch.ones(4, 2))
    optimizer = check.build(AdamW, [weight], weight_decay=0.5)
    weight.grad = torch.sparse_coo_tensor(torch.tensor([[1]]), torch.ones(1, 2), (4, 2), check_invariants=True)
    check.raises(RuntimeError, optimizer.step, naming="sparse")
    after = check.run("the weight after a sparse gradient was refused", weight.detach().clone)
    after.equals(torch.ones(4, 2), note="as it was: what is refused changes nothing")


class _Model(nn.Module):
    """What a language model has, and a convolution, a scalar, tied weights and something frozen besides."""

    def __init__(self) -> None:
        super().__init__()
        self.wte = nn.Embedding(7, 4)
        self.wpe = nn.Embedding(5, 4)
        self.wpe.weight.requires_grad_(False)
        self.ln_1 = nn.LayerNorm(4)
        self.c_fc = nn.Linear(4, 6)
        self.c_fc.bias.requires_grad_(False)
        self.conv = nn.Conv1d(2, 3, 2)
        self.scale = nn.Parameter(torch.ones(()))
        self.lm_head = nn.Linear(4, 7, bias=False)
        self.lm_head.weight = self.wte.weight


def _names(model: nn.Module, groups: Any) -> dict[str, Any]:
    """Each group's parameters by their names, and its decay."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found: dict[str, Any] = {}
    for number, group in enumerate(groups, 1):
        found[f"group {number}, params"] = [names.get(id(entry), "something else") for entry in group["params"]]
        found[f"group {number}, weight_decay"] = group["weight_decay"]
    return found


def _two_groups(decaying: list[str], weight_decay: float, others: list[str]) -> dict[str, Any]:
    """What `_names` says of the right groups."""
    first = {"group 1, params": decaying, "group 1, weight_decay": weight_decay}
    return first | {"group 2, params": others, "group 2, weight_decay": 0.0}


def test_weight_decay_groups(check: Check) -> None:
    """Matrices decay; biases, norms and scalars do not; a tied weight is there once, a frozen one not at all."""
    model = _Model()
    groups = check(weight_decay_groups, model, 0.25).value
    named = check.run("weight_decay_groups(model, 0.25), by name", lambda: _names(model, groups))
    decaying, others = ["wte.weight", "c_fc.weight", "conv.weight"], ["scale", "ln_1.weight", "ln_1.bias", "conv.bias"]
    named.equals(_two_groups(decaying, 0.25, others))
    named = check.run(
        "weight_decay_groups(model, 0.0), by name", lambda: _names(model, weight_decay_groups(model, 0.0))
    )
    named.equals(_two_groups(decaying, 0.0, others))
    check.raises(ValueError, weight_decay_groups, model, -0.5, naming=("weight_decay|weight decay", "-0.5"))
    check.raises(ValueError, weight_decay_groups, model, math.nan, naming=("weight_decay|weight decay", "nan"))


def test_groups_go_into_an_optimizer(check: Check) -> None:
    """An optimizer takes the groups, also where one is empty, and only the first decays."""
    layer = nn.Linear(3, 2)
    nn.init.ones_(layer.bias)
    before = layer.weight.detach().clone()
    groups = check(weight_decay_groups, layer, 0.5).value
    oracle = check.run("torch.optim.SGD(weight_decay_groups(...))", lambda: torch.optim.SGD(groups, lr=0.5)).value
    for parameter in layer.parameters():
        parameter.grad = torch.zeros_like(parameter)
    oracle.step()
    check.run("a weight after a step of 0", layer.weight.detach().clone).equals(before * 0.75)
    check.run("a bias after a step of 0", layer.bias.detach().clone).equals(torch.ones(2))
    plain = nn.Linear(3, 2, bias=False)
    found = check(weight_decay_groups, plain, 0.5)
    named = check.run("the groups of a model without biases", lambda: _names(plain, found.value))
    named.equals(_two_groups(["weight"], 0.5, []))
