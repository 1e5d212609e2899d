"""Grades networks/activations.

The oracles are torch's own functions, and the standard library's `math`, number by number, where float32 has lost
its digits. Nothing here looks at how a function is computed: each may be built from the others, or from scratch.
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
from exercises.networks.activations import (
    ACTIVATIONS,
    SwiGLU,
    gelu,
    gelu_tanh,
    leaky_relu,
    relu,
    sigmoid,
    silu,
    tanh,
)

MISCONCEPTIONS = [
    Misconception("a ReLU that lets the gradient through at 0, as clamp does: it is 0 there", ("x <= 0", "x < 0")),
    Misconception("a ReLU that turns NaN into 0", ("x.masked_fill(x <= 0, 0.0)", "torch.where(x > 0, x, 0.0)")),
    Misconception("a ReLU written into its input", ("x.masked_fill(", "x.masked_fill_(")),
    Misconception("a ReLU that keeps the negative numbers", ("x <= 0", "x >= 0")),
    Misconception(
        "the slope applied to the positive numbers, not to the negative",
        ("torch.where(x > 0, x, negative_slope * x)", "torch.where(x > 0, negative_slope * x, x)"),
    ),
    Misconception(
        "maximum(x, negative_slope * x), which holds for slopes up to 1 only",
        ("torch.where(x > 0, x, negative_slope * x)", "torch.maximum(x, negative_slope * x)"),
    ),
    Misconception("a leaky ReLU whose slope is fixed", ("x > 0, x, negative_slope * x", "x > 0, x, 0.01 * x")),
    Misconception(
        "1 / (1 + exp(-x)), whose exp overflows far below 0: its gradient is then NaN",
        ("_Sigmoid.apply(x)", "1 / (1 + torch.exp(-x))"),
    ),
    Misconception(
        "torch.where between two forms of which one overflows: 0 times its infinite gradient is NaN",
        (
            "_Sigmoid.apply(x)",
            "torch.where(x < 0, x.exp() / (1 + x.exp()), 1 / (1 + torch.exp(-x)))",
        ),
    ),
    Misconception(
        "a sigmoid and a tanh made with abs, whose gradient at 0 is 0",
        ("torch.where(x < 0, x, -x)", "-x.abs()"),
        ("_Sigmoid.apply(x)", "torch.where(x < 0, _minus_abs(x).exp(), 1.0) / (1 + _minus_abs(x).exp())"),
    ),
    Misconception(
        "(1 + tanh(x / 2)) / 2, which has no digits left far below 0",
        ("_Sigmoid.apply(x)", "(1 + tanh(x / 2)) / 2"),
    ),
    Misconception(
        "the sigmoid mirrored: exp(x) in the place of exp(-x)",
        ("_Sigmoid.apply(x)", "_Sigmoid.apply(-x)"),
    ),
    Misconception("a sigmoid whose gradient is the sigmoid itself, without 1 - y", ("(y * (1 - y))", "y")),
    Misconception(
        "(exp(x) - exp(-x)) / (exp(x) + exp(-x)) as it stands, which becomes inf / inf",
        ("torch.where(x < 0, decay, -decay) / (2 + decay)", "(x.exp() - (-x).exp()) / (x.exp() + (-x).exp())"),
    ),
    Misconception(
        "exp(...) - 1 in the place of expm1, which loses the digits of tanh near 0",
        ("torch.expm1(2 * _minus_abs(x))", "torch.exp(2 * _minus_abs(x)) - 1"),
    ),
    Misconception(
        "2 * sigmoid(2 * x) - 1, which loses the digits of tanh near 0",
        ("torch.where(x < 0, decay, -decay) / (2 + decay)", "2 * sigmoid(2 * x) - 1"),
    ),
    Misconception(
        "tanh(x / 2): the exponential is that of 2 * x",
        ("torch.expm1(2 * _minus_abs(x))", "torch.expm1(_minus_abs(x))"),
    ),
    Misconception(
        "SiLU without the factor x, which is the sigmoid alone", ("return x * sigmoid(x)", "return sigmoid(x)")
    ),
    Misconception(
        "x * sigmoid(1.702 * x), a rougher approximation, in the place of the exact GELU",
        ("0.5 * x * torch.erfc(-math.sqrt(0.5) * x)", "x * sigmoid(1.702 * x)"),
    ),
    Misconception(
        "GELU's tanh approximation in the place of the exact one",
        ("0.5 * x * torch.erfc(-math.sqrt(0.5) * x)", "gelu_tanh(x)"),
    ),
    Misconception(
        "1 + erf(...), which has no digits left far below 0: erfc is the small number itself",
        ("0.5 * x * torch.erfc(-math.sqrt(0.5) * x)", "0.5 * x * (1 + torch.erf(math.sqrt(0.5) * x))"),
    ),
    Misconception(
        "GELU with erf(x): the normal distribution has erf(x / sqrt(2))",
        ("torch.erfc(-math.sqrt(0.5) * x)", "torch.erfc(-x)"),
    ),
    Misconception(
        "the exact GELU in the place of the tanh approximation",
        ("x * sigmoid(math.sqrt(8 / math.pi) * (x + 0.044715 * x * x * x))", "gelu(x)"),
    ),
    Misconception(
        "x * sigmoid(1.702 * x), a rougher approximation, in the place of GPT-2's",
        ("x * sigmoid(math.sqrt(8 / math.pi) * (x + 0.044715 * x * x * x))", "x * sigmoid(1.702 * x)"),
    ),
    Misconception("GPT-2's GELU without sqrt(2 / pi)", ("math.sqrt(8 / math.pi) * (x", "2 * (x")),
    Misconception(
        "GPT-2's GELU with 2 / pi in the place of its root", ("math.sqrt(8 / math.pi) * (x", "4 / math.pi * (x")
    ),
    Misconception("(0.044715 * x)^3: only x is cubed", ("0.044715 * x * x * x", "(0.044715 * x) ** 3")),
    Misconception("x^2 in the place of x^3 inside the tanh", ("0.044715 * x * x * x", "0.044715 * x * x")),
    Misconception(
        "gate and value swapped: the gate is what goes through silu",
        ("silu(self.gate(x)) * self.value(x)", "self.gate(x) * silu(self.value(x))"),
    ),
    Misconception("a gate without silu", ("silu(self.gate(x)) * self.value(x)", "self.gate(x) * self.value(x)")),
    Misconception(
        "a gate of sigmoid, which is GLU: SwiGLU has silu",
        ("silu(self.gate(x)) * self.value(x)", "sigmoid(self.gate(x)) * self.value(x)"),
    ),
    Misconception(
        "one linear map for both gate and value",
        ("silu(self.gate(x)) * self.value(x)", "silu(self.gate(x)) * self.gate(x)"),
    ),
    Misconception(
        "silu after the product of gate and value",
        ("silu(self.gate(x)) * self.value(x)", "silu(self.gate(x) * self.value(x))"),
    ),
    Misconception(
        "biases although bias=False",
        (
            "self.gate = nn.Linear(in_features, out_features, bias=bias)",
            "self.gate = nn.Linear(in_features, out_features)",
        ),
        (
            "self.value = nn.Linear(in_features, out_features, bias=bias)",
            "self.value = nn.Linear(in_features, out_features)",
        ),
    ),
]

_gelu_tanh = partial(F.gelu, approximate="tanh")
# By a name of their own: what a function calls itself is nobody's business, `apply` for instance.
_FUNCTIONS: dict[str, tuple[Callable[..., Any], Callable[..., Tensor]]] = {
    "relu": (relu, F.relu),
    "leaky_relu": (leaky_relu, F.leaky_relu),
    "sigmoid": (sigmoid, torch.sigmoid),
    "tanh": (tanh, torch.tanh),
    "silu": (silu, F.silu),
    "gelu": (gelu, F.gelu),
    "gelu_tanh": (gelu_tanh, _gelu_tanh),
}


def workload(task: Any, draw: Draw) -> list[Workload]:
    """Typical calls, for `compare`."""
    x = draw.normal(64, 4096, scale=3.0, requires_grad=True)
    tokens = draw.normal(8, 64, 128, requires_grad=True)
    names = ("relu", "leaky_relu", "sigmoid", "tanh", "silu", "gelu", "gelu_tanh")
    calls = [Workload(f"{name}(x)", getattr(task, name), (x,)) for name in names]
    return [*calls, Workload("SwiGLU(128, 256)(x)", draw.fill(task.SwiGLU(128, 256), scale=0.1), (tokens,))]


def _around_zero(draw: Draw, dtype: torch.dtype = torch.float64) -> Tensor:
    """Numbers of both signs and 0 itself, in a tensor that is not contiguous."""
    x = 3 * draw.strided(3, 7, dtype=dtype)
    x[1, 2] = 0.0
    return x.requires_grad_()


def _compare(check: Check, name: str, slope: float) -> None:
    """Value and gradient, in float64 and in float32; first of all at 0, where the gradient is `slope`."""
    function, oracle = _FUNCTIONS[name]
    zero = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    answer = check(function, zero)
    if answer.has(shape=(1,)).value.requires_grad:  # if not, that is said below
        grad = partial(torch.autograd.grad, answer.value.sum(), zero, materialize_grads=True)
        at_zero = check.run(f"the gradient of {name}(x) at x = 0", lambda: grad()[0])
        at_zero.equals(torch.tensor([slope], dtype=torch.float64))
    for dtype in (torch.float64, torch.float32):
        x = _around_zero(check.draw, dtype)
        expected = oracle(x)
        check(function, x).equals(expected).gradients_equal(expected, x=x)


def test_by_hand(check: Check) -> None:
    """ReLU and its leak at -2, 0, 3; sigmoid(ln 3) = 3/4, tanh(ln 2) = 3/5, silu(ln 3) = 3/4 ln 3."""
    x = torch.tensor([-2.0, 0.0, 3.0])
    check(relu, x).equals(torch.tensor([0.0, 0.0, 3.0]))
    check(leaky_relu, x, 0.1).equals(torch.tensor([-0.2, 0.0, 3.0]))
    two, three = math.log(2.0), math.log(3.0)
    check(sigmoid, torch.tensor([-three, 0.0, three])).equals(torch.tensor([0.25, 0.5, 0.75]))
    check(tanh, torch.tensor([-two, 0.0, two])).equals(torch.tensor([-0.6, 0.0, 0.6]))
    check(silu, torch.tensor([-three, 0.0, three])).equals(torch.tensor([-three / 4, 0.0, 3 * three / 4]))
    note = "84.13 % of a normal distribution lie below 1"
    check(gelu, torch.tensor([-1.0, 0.0, 1.0])).equals(torch.tensor([-0.15865525, 0.0, 0.84134475]), note=note)
    note = "(1 + tanh(0.79788 * 1.044715)) / 2 is 0.84119"
    check(gelu_tanh, torch.tensor([-1.0, 0.0, 1.0])).equals(torch.tensor([-0.15880801, 0.0, 0.84119199]), note=note)


def test_relu(check: Check) -> None:
    """ReLU in value and gradient as torch's; at 0 the gradient is 0; NaN stays NaN."""
    _compare(check, "relu", 0.0)
    x = torch.tensor([0.0, 1.0], requires_grad=True)
    expected = F.relu(x)
    check(relu, x).equals(expected).gradients_equal(expected, x=x)
    check(relu, torch.tensor([-1.0, math.nan])).equals(torch.tensor([0.0, math.nan]))


def test_leaky_relu(check: Check) -> None:
    """Leaky ReLU as torch's: with slope 0.01, a slope given, one of 0, one above 1 and one below 0."""
    for dtype in (torch.float64, torch.float32):
        x = check.draw.strided(3, 7, dtype=dtype).requires_grad_()
        expected = F.leaky_relu(x)
        check(leaky_relu, x).equals(expected).gradients_equal(expected, x=x)
        for slope in (0.25, 0.0, 2.0, -0.5):
            expected = F.leaky_relu(x, slope)
            check(leaky_relu, x, negative_slope=slope).equals(expected).gradients_equal(expected, x=x)


def test_sigmoid(check: Check) -> None:
    """The sigmoid in value and gradient as torch's; its gradient at 0 is 1/4."""
    _compare(check, "sigmoid", 0.25)


def test_tanh(check: Check) -> None:
    """The hyperbolic tangent in value and gradient as torch's; its gradient at 0 is 1."""
    _compare(check, "tanh", 1.0)


def test_silu(check: Check) -> None:
    """SiLU in value and gradient as torch's; its gradient at 0 is 1/2."""
    _compare(check, "silu", 0.5)


def test_gelu(check: Check) -> None:
    """GELU in value and gradient as torch's exact one; its gradient at 0 is 1/2."""
    _compare(check, "gelu", 0.5)


def test_gelu_tanh(check: Check) -> None:
    """GPT-2's GELU in value and gradient as torch's with approximate="tanh", and not as the exact one."""
    _compare(check, "gelu_tanh", 0.5)
    # The two differ most, by 4.7e-4, near 2.7: far more than the tolerance.
    x = torch.tensor([-2.7, 2.7])
    check(gelu_tanh, x).equals(_gelu_tanh(x))


# Half a unit in the last place of 1: what one rounding changes, as a share of the number.
_UNITS = {torch.float32: 2.0**-24, torch.float64: 2.0**-53}


def _ratio(function: Callable[[Tensor], Tensor], x: Tensor, exact: Tensor) -> Tensor:
    """What a function gives, in units of the exact value."""
    return function(x).double() / exact


def test_digits_near_zero(check: Check) -> None:
    """tanh(x) is x to all digits where x is tiny: no 1 may be added and taken off again."""
    for dtype, unit in _UNITS.items():
        x = torch.tensor([1e-6, -1e-6, 3e-5], dtype=dtype) * check.draw.uniform(1.0, 2.0, 3, dtype=dtype)
        exact = torch.tensor([math.tanh(value) for value in x.tolist()], dtype=torch.float64)
        text = f"tanh(x) / exact for x near 1e-6, -1e-6 and 3e-5, in {str(dtype).removeprefix('torch.')}"
        answer = check.run(text, partial(_ratio, tanh, x, exact))
        # An expm1 is right to two roundings or so, and there are a few more operations: 20 roundings leave room.
        answer.equals(torch.ones(3, dtype=torch.float64), rtol=0.0, atol=20 * unit)


def test_digits_far_below_zero(check: Check) -> None:
    """sigmoid, silu and gelu keep their digits where they are tiny: gelu(-5) is -1.4333e-06, in float32 too."""
    for dtype, unit in _UNITS.items():
        x = torch.tensor([-30.0, -45.0, -60.0], dtype=dtype) - check.draw.uniform(0.0, 1.0, 3, dtype=dtype)
        exact = torch.tensor([1 / (1 + math.exp(-value)) for value in x.tolist()], dtype=torch.float64)
        near = torch.tensor([-4.0, -5.0, -6.0], dtype=dtype) - check.draw.uniform(0.0, 1.0, 3, dtype=dtype)
        normal = [value * math.erfc(-value * math.sqrt(0.5)) / 2 for value in near.tolist()]
        exact_gelu = torch.tensor(normal, dtype=torch.float64)
        for name, function, where, true in (
            ("sigmoid(x) / exact for x near -30, -45 and -60", sigmoid, x, exact),
            ("silu(x) / exact for x near -30, -45 and -60", silu, x, x.double() * exact),
            ("gelu(x) / exact for x near -4, -5 and -6", gelu, near, exact_gelu),
        ):
            text = f"{name}, in {str(dtype).removeprefix('torch.')}"
            answer = check.run(text, partial(_ratio, function, where, true))
            # To round the argument of an exponential, up to 61 (or 7^2 / 2, in two steps), changes the result by 61
            # roundings. 500, which are 3e-5 in float32, leave room for some such steps, and for few digits less.
            answer.equals(torch.ones(3, dtype=torch.float64), rtol=0.0, atol=500 * unit)


def test_extremes(check: Check) -> None:
    """From -1e4 to 1e4 all values and gradients are finite, and those of torch."""
    for dtype in (torch.float32, torch.float64):
        for function, oracle in _FUNCTIONS.values():
            x = torch.tensor([-1e4, -1e3, -100.0, 100.0, 1e3, 1e4], dtype=dtype, requires_grad=True)
            expected = oracle(x)
            check(function, x).equals(expected).gradients_equal(expected, x=x)
            sizes = 10.0 ** check.draw.uniform(0.0, 4.0, 20, dtype=dtype)  # of every size in between
            x = torch.cat([-sizes, sizes]).requires_grad_()
            expected = oracle(x)
            check(function, x).equals(expected).gradients_equal(expected, x=x)


def test_gradients_of_others(check: Check) -> None:
    """A backward pass leaves alone what it is given: of activation(x) + y, the gradient of y is right too."""
    for name, (function, oracle) in _FUNCTIONS.items():
        x, y = (check.draw.normal(4, 5, dtype=torch.float64, requires_grad=True) for _ in range(2))
        expected = oracle(x) + y
        answer = check.run(f"{name}(x) + y", lambda f=function, x=x, y=y: f(x) + y)  # type: ignore[misc]
        answer.equals(expected).gradients_equal(expected, x=x, y=y)


def test_gradcheck(check: Check) -> None:
    """Each gradient is the slope measured by finite differences: torch's gradcheck in float64."""
    for name, (function, _) in _FUNCTIONS.items():
        # At least 0.1 away from 0, where two of them have a corner.
        x = check.draw.uniform(0.1, 3.0, 6, dtype=torch.float64) * torch.tensor([1.0, -1.0]).repeat(3)
        x.requires_grad_()
        slope = partial(torch.autograd.gradcheck, function, (x,), raise_exception=False)
        answer = check.run(f"torch.autograd.gradcheck({name}, x)", slope)
        answer.satisfies(
            answer.value is True,
            got="False: the gradient is not the slope of the function's own values",
            expected="True: the slope that finite differences find",
        )


def test_half_precision(check: Check) -> None:
    """In float16 and bfloat16 the result has their dtype, and is as near as a few roundings let it be."""
    # Ten roundings by half a unit in the last place: 10 * 2^-11 and 10 * 2^-8.
    for dtype, bound in ((torch.float16, 5e-3), (torch.bfloat16, 4e-2)):
        x = check.draw.uniform(-4.0, 4.0, 4, 5).to(dtype)
        for function, oracle in _FUNCTIONS.values():
            check(function, x).equals(oracle(x.float()).to(dtype), rtol=bound, atol=bound)  # ten roundings, as above


def test_shapes(check: Check) -> None:
    """A single number, nothing at all, four axes: the shape stays."""
    for function, oracle in _FUNCTIONS.values():
        for shape in ((), (0,), (1, 2, 1, 3)):
            x = check.draw.normal(*shape)
            check(function, x).equals(oracle(x))


def test_table(check: Check) -> None:
    """ACTIVATIONS finds each of the seven by its name."""
    x = check.draw.normal(2, 5, scale=2.0)
    for name, (_, oracle) in _FUNCTIONS.items():
        check.run(f"ACTIVATIONS[{name!r}](x)", lambda name=name: ACTIVATIONS[name](x)).equals(oracle(x))  # type: ignore[misc]


def _gated(x: Tensor, weights: dict[str, Tensor]) -> Tensor:
    """SwiGLU, written out."""
    gate = F.linear(x, weights["gate.weight"], weights.get("gate.bias"))
    return gate * torch.sigmoid(gate) * F.linear(x, weights["value.weight"], weights.get("value.bias"))


def test_swiglu_by_hand(check: Check) -> None:
    """A gate of ln 3 lets 3/4 ln 3 through, and one of -ln 3 a quarter of -ln 3; times the values 10 and 20."""
    module = check.build(SwiGLU, 1, 2)
    three = math.log(3.0)
    weights = {
        "gate.weight": torch.tensor([[three], [-three]]),
        "gate.bias": torch.zeros(2),
        "value.weight": torch.zeros(2, 1),
        "value.bias": torch.tensor([10.0, 20.0]),
    }
    check.load(module, weights)
    check(module, torch.ones(1, 1)).equals(
        torch.tensor([[7.5 * three, -5.0 * three]]), note="silu(ln 3) * 10 and silu(-ln 3) * 20"
    )


def test_swiglu(check: Check) -> None:
    """With the same weights, silu(gate(x)) * value(x), in value and in every gradient; with biases and without."""
    width, out = check.draw.size(2, 5), check.draw.size(5, 8)
    for bias in (True, False):
        module = check.build(SwiGLU, width, out, bias=bias)
        check.mutating(module.double)
        shapes: dict[str, tuple[int, ...]] = {"gate.weight": (out, width), "value.weight": (out, width)}
        if bias:
            shapes |= {"gate.bias": (out,), "value.bias": (out,)}
        check.load(module, {name: check.draw.normal(*shape, dtype=torch.float64) for name, shape in shapes.items()})
        parameters = dict(module.named_parameters())
        x = check.draw.strided(2, 3, width, dtype=torch.float64).requires_grad_()
        expected = _gated(x, parameters)
        check(module, x).equals(expected).gradients_equal(expected, x=x, **parameters)
        single = x.detach()[0, 0]
        check(module, single).equals(_gated(single, parameters), note="one vector without a batch")


def test_swiglu_refuses(check: Check) -> None:
    """A width of 0 and an input of another width are refused by name and number."""
    check.raises(ValueError, SwiGLU, 0, 4, naming=("in_features", "0"))
    check.raises(ValueError, SwiGLU, 4, 0, naming=("out_features", "0"))
    check.raises(ValueError, SwiGLU, 4, -1, naming=("out_features", "-1"))
    module = check.build(SwiGLU, 6, 4)
    check.raises(ValueError, module, check.draw.normal(2, 5), naming=("6", "(2, 5)"))
    check.raises(ValueError, module, check.draw.normal(6, 1), naming=("6", "(6, 1)"))
    check.raises(ValueError, module, torch.tensor(1.0), naming=("6", "()"))
