"""Grades networks/mlp.

The oracle of the forward pass is an nn.Sequential built by hand, with the same weights. What is drawn at random is held
against the moments of its distribution, and against what follows from them through 50 layers.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from checkpoints.checks import Check, Draw, Workload
from checkpoints.misconceptions import Misconception
from checkpoints.verdicts import Kind
from exercises.networks.mlp import MLP, glorot_uniform_, he_normal_

MISCONCEPTIONS = [
    Misconception(
        "fan_out, the first axis of the weight, in the place of fan_in: the sum runs over the inputs",
        ("_, fan_in = _fans(weight)", "fan_in, _ = _fans(weight)"),
    ),
    Misconception(
        "He's variance taken for the standard deviation: the root is missing", ("* fan_in)) ** 0.5", "* fan_in))")
    ),
    Misconception(
        "1 / fan_in in the place of 2 / fan_in: half of the mean square is lost at each ReLU, and the signal dies",
        ("(2 / ((1 + negative_slope**2) * fan_in)) ** 0.5", "(1 / ((1 + negative_slope**2) * fan_in)) ** 0.5"),
    ),
    Misconception(
        "He's variance without regard to the leak", ("(2 / ((1 + negative_slope**2) * fan_in))", "(2 / fan_in)")
    ),
    Misconception(
        "1 + a in the place of 1 + a^2: what counts of a leak is its square",
        ("1 + negative_slope**2", "1 + negative_slope"),
    ),
    Misconception(
        "uniform numbers up to He's standard deviation: their variance is a third of its square",
        (
            "weight.normal_(0.0, (2 / ((1 + negative_slope**2) * fan_in)) ** 0.5, generator",
            "weight.uniform_(-((2 / ((1 + negative_slope**2) * fan_in)) ** 0.5), (2 / ((1 + negative_slope**2) * fan_in)) ** 0.5, generator",
        ),
    ),
    Misconception(
        "Glorot's standard deviation taken for the bound: a uniform number's variance is bound^2 / 3",
        ("gain * (6 / sum(", "gain * (2 / sum("),
    ),
    Misconception("Glorot's bound without its root", ("sum(_fans(weight))) ** 0.5", "sum(_fans(weight)))")),
    Misconception(
        "numbers from 0 to Glorot's bound, with a mean that is not 0", ("uniform_(-bound, bound", "uniform_(0.0, bound")
    ),
    Misconception("Glorot's bound without the gain", ("bound = gain * ", "bound = ")),
    Misconception(
        "Glorot's bound with the gain under the root",
        ("gain * (6 / sum(_fans(weight)))", "(gain * 6 / sum(_fans(weight)))"),
    ),
    Misconception(
        "a new tensor filled, and the weight left as it was",
        ("return weight.normal_(", "return torch.empty_like(weight).normal_("),
    ),
    Misconception(
        "tanh with a gain of 1 in the place of 5/3", ("partial(glorot_uniform_, gain=5 / 3)", "glorot_uniform_")
    ),
    Misconception(
        "one way of filling the weights for all activations, He's",
        ('"sigmoid": (torch.sigmoid, glorot_uniform_)', '"sigmoid": (torch.sigmoid, he_normal_)'),
        ('"identity": (lambda x: x, glorot_uniform_)', '"identity": (lambda x: x, he_normal_)'),
        ("partial(glorot_uniform_, gain=5 / 3)", "he_normal_"),
    ),
    Misconception("weights left as nn.Linear makes them", ("fill_(layer.weight, generator=generator)", "pass")),
    Misconception(
        "weights of zeros: all neurons of a layer stay equal for ever",
        ("fill_(layer.weight, generator=generator)", "nn.init.zeros_(layer.weight)"),
    ),
    Misconception(
        "only the first layer's weights filled",
        (
            "fill_(layer.weight, generator=generator)",
            "layer is layers[0] and fill_(layer.weight, generator=generator)",
        ),
    ),
    Misconception("biases left as nn.Linear makes them, not 0", ("nn.init.zeros_(layer.bias)", "pass")),
    Misconception(
        "weights not drawn from the generator", ("fill_(layer.weight, generator=generator)", "fill_(layer.weight)")
    ),
    Misconception("an activation behind the last layer too", ("return last(x)", "return activate(last(x))")),
    Misconception(
        "no activation at all: linear layers in a row are one linear layer", ("x = activate(layer(x))", "x = layer(x)")
    ),
    Misconception("ReLU, whatever activation was asked for", ("x = activate(layer(x))", "x = F.relu(layer(x))")),
    Misconception(
        "the activation before each layer, not behind it",
        (
            "*hidden, last = self.layers\nfor layer in hidden:\n    x = activate(layer(x))\nreturn last(x)",
            "for layer in self.layers:\n    x = layer(activate(x))\nreturn x",
        ),
    ),
    Misconception("one layer too few: the output is missing", ("in pairwise(sizes)]", "in pairwise(sizes[:-1])]")),
    Misconception("one layer too few: the input is missing", ("in pairwise(sizes)]", "in pairwise(sizes[1:])]")),
    Misconception(
        "layers in a plain list, where no parameter is registered: it takes nn.ModuleList",
        ("nn.ModuleList(layers)", "layers"),
    ),
    Misconception(
        "one layer in several places: layers of the same size share their weights",
        (
            "layers = [nn.Linear(before, after, bias=bias) for before, after in pairwise(sizes)]",
            "made = {pair: nn.Linear(*pair, bias=bias) for pair in pairwise(sizes)}\nlayers = [made[pair] for pair in pairwise(sizes)]",
        ),
    ),
    Misconception("biases although bias=False", ("nn.Linear(before, after, bias=bias)", "nn.Linear(before, after)")),
    Misconception(
        "GELU's tanh approximation under the name of the exact one",
        ('"gelu": (F.gelu, he', '"gelu": (partial(F.gelu, approximate="tanh"), he'),
    ),
]

_MODULES: Mapping[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "gelu_tanh": partial(nn.GELU, approximate="tanh"),
    "sigmoid": nn.Sigmoid,
    "identity": nn.Identity,
    "tanh": nn.Tanh,
}


def workload(task: Any, draw: Draw) -> list[Workload]:
    """Typical calls, for `compare`."""
    x = draw.normal(64, 128, requires_grad=True)
    network, deep = task.MLP([128, 512, 512, 10], "gelu"), task.MLP([128] * 31, "tanh")
    draw.fill(network, scale=0.05)
    draw.fill(deep, scale=0.08)
    weight = torch.empty(1024, 1024)

    def filled(fill_: Callable[..., Tensor]) -> Tensor:
        return fill_(weight, generator=torch.Generator().manual_seed(0)).square().mean().round(decimals=4)

    return [
        Workload("MLP([128, 512, 512, 10], 'gelu')(x)", network, (x,)),
        Workload("MLP([128] * 31, 'tanh')(x)", deep, (x,)),
        Workload("the mean square of he_normal_(weight)", filled, (task.he_normal_,)),
        Workload("the mean square of glorot_uniform_(weight)", filled, (task.glorot_uniform_,)),
    ]


def _weights(draw: Draw, sizes: Sequence[int], *, bias: bool = True, dtype: torch.dtype) -> dict[str, Tensor]:
    """Parameters of an MLP, by name."""
    weights = {}
    for index, (before, after) in enumerate(pairwise(sizes)):
        weights[f"layers.{index}.weight"] = draw.normal(after, before, dtype=dtype, scale=before**-0.5)
        if bias:
            weights[f"layers.{index}.bias"] = draw.normal(after, dtype=dtype)
    return weights


def _by_hand(sizes: Sequence[int], activation: str, *, bias: bool = True) -> nn.Sequential:
    """The same network as a sequence of torch's modules: linear layers at 0, 2, 4 and so on."""
    parts: list[nn.Module] = []
    for before, after in pairwise(sizes):
        parts += [nn.Linear(before, after, bias=bias), _MODULES[activation]()]
    return nn.Sequential(*parts[:-1])


def _in_sequence(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Parameters of an MLP under the names that nn.Sequential gives them."""
    parts = ((name.split("."), tensor) for name, tensor in weights.items())
    return {f"{2 * int(index)}.{kind}": tensor for (_, index, kind), tensor in parts}


def _shapes(entries: Callable[[], Any]) -> dict[str, str]:
    return {name: f"shape {tuple(entry.shape)}" for name, entry in dict(entries()).items()}


def _has_variance(check: Check, call: str, weight: Tensor, variance: float, formula: str) -> None:
    """Mean 0 and the variance, within what chance allows.

    The mean of N independent numbers has the standard deviation sqrt(variance / N); their mean square has the relative
    one sqrt(2 / N) if they are normal and less if uniform. 7 of each are allowed.
    """
    values, count = weight.detach().double(), weight.numel()
    mean, ratio = float(values.mean()) / math.sqrt(variance), float(values.square().mean()) / variance
    _roughly(
        check,
        abs(ratio - 1) < 7 * math.sqrt(2 / count),
        ratio,
        call=f"the variance of {call}",
        got=f"{ratio * variance:.3g}, which is {ratio:.3g} times what it should be",
        expected=f"{formula} = {variance:.4g}, give or take {700 * math.sqrt(2 / count):.0f} %",
    )
    _roughly(
        check,
        abs(mean) < 7 / math.sqrt(count),
        mean,
        call=f"the mean of {call}",
        got=f"{mean * math.sqrt(variance):.2g}, {mean:.2g} standard deviations away from 0",
        expected=f"0, give or take {7 / math.sqrt(count):.2g} standard deviations",
    )


def _roughly(check: Check, condition: bool, figure: float, *, call: str, got: str, expected: str) -> None:
    """Note what is wrong with a figure of random numbers.

    It is known again by its first digit: another implementation may draw other numbers from the same generator.
    """
    if condition:
        check.passed()
    else:
        check.note(Kind.WRONG_VALUE, call, got, expected, proof=f"{figure:.1g}")


def _is_normal(check: Check, call: str, weight: Tensor, deviation: float) -> None:
    """Of normal numbers, 4.55 % lie beyond two standard deviations; of uniform ones with that variance, none.

    The share among N has the standard deviation sqrt(0.0455 * 0.9545 / N), 0.0008 for 64000. 7 of it are allowed.
    """
    share = float((weight.detach().abs() > 2 * deviation).double().mean())
    _roughly(
        check,
        abs(share - 0.0455) < 7 * math.sqrt(0.0455 * 0.9545 / weight.numel()),
        share,
        call=f"the share of {call} beyond two standard deviations, which are {2 * deviation:.4g}",
        got=f"{share:.3g}",
        expected="0.0455, as of normal numbers",
    )


def test_he(check: Check) -> None:
    """he_normal_ fills the weight in place with normal numbers of variance 2 / fan_in."""
    weight = torch.zeros(320, 200)
    answer = check.mutating(he_normal_, weight, generator=check.draw.generator).has(shape=(320, 200))
    answer.satisfies(answer.value is weight, got="another tensor", expected="the weight itself, filled in place")
    _has_variance(check, "he_normal_(weight (320, 200))", answer.value, 2 / 200, "2 / 200")
    _is_normal(check, "he_normal_(weight (320, 200))", answer.value, 0.1)


def test_he_leaky(check: Check) -> None:
    """Behind a leak of slope a, he_normal_ takes 2 / ((1 + a^2) * fan_in)."""
    for slope in (0.5, 1.0):
        weight = torch.zeros(320, 200)
        check.mutating(he_normal_, weight, slope, generator=check.draw.generator).has(shape=(320, 200))
        call, formula = f"he_normal_(weight (320, 200), {slope})", f"2 / ({1 + slope**2} * 200)"
        _has_variance(check, call, weight, 2 / ((1 + slope**2) * 200), formula)


def test_glorot(check: Check) -> None:
    """glorot_uniform_ fills the weight in place, evenly from -bound to bound, sqrt(6 / (fan_in + fan_out))."""
    for gain, text in ((1.0, ""), (3.0, ", gain=3.0")):
        weight = torch.zeros(320, 200)
        options = {"gain": gain} if text else {}
        answer = check.mutating(glorot_uniform_, weight, **options, generator=check.draw.generator)
        answer.has(shape=(320, 200))
        answer.satisfies(answer.value is weight, got="another tensor", expected="the weight itself, filled in place")
        call, bound = f"glorot_uniform_(weight (320, 200){text})", gain * math.sqrt(6 / 520)
        _has_variance(check, call, weight, bound**2 / 3, f"{gain**2:g} * 2 / (200 + 320)")
        # All 64000 below 0.999 of the bound has a probability of 0.999^64000, which is 1e-28.
        largest = float(weight.abs().max()) / bound
        _roughly(
            check,
            0.999 <= largest <= 1.000001,  # bound and number are rounded to float32, by 6e-8 each in a few steps
            largest,
            call=f"the largest entry of {call}",
            got=f"{largest * bound:.4g}",
            expected=f"just below the bound, {gain:g} * sqrt(6 / 520) = {bound:.4g}",
        )


def test_filling_is_no_step(check: Check) -> None:
    """A parameter is filled without a record for gradients; equal seeds fill equally; two axes are needed."""
    for fill_ in (he_normal_, glorot_uniform_):
        name = getattr(fill_, "__name__", "?")
        parameter = nn.Parameter(torch.zeros(5, 7))
        answer = check.mutating(fill_, parameter, generator=torch.Generator().manual_seed(3)).has(shape=(5, 7))
        check.that(
            parameter.grad_fn is None and parameter.is_leaf and parameter.requires_grad,
            call=f"{name}(parameter)",
            got="a parameter that is no leaf of the graph any more",
            expected="one that can be trained, as before",
        )
        again = check.mutating(fill_, torch.zeros(5, 7), generator=torch.Generator().manual_seed(3))
        again.equals(answer.value.detach(), note="from a generator of the same seed")
        for shape in ((4,), (2, 3, 4), ()):
            check.raises(ValueError, fill_, torch.zeros(shape), naming=str(shape))


def test_parameters(check: Check) -> None:
    """Its parameters are layers.0.weight, layers.0.bias and so on, each layer's own; without biases if so asked."""
    cases: tuple[tuple[Sequence[int], bool], ...] = (([3, 4, 4, 4, 2], True), ((5, 2), True), ([3, 6, 1], False))
    for sizes, bias in cases:
        module = check.build(MLP, sizes, bias=bias)
        expected = {}
        for index, (before, after) in enumerate(pairwise(sizes)):
            expected[f"layers.{index}.weight"] = f"shape {(after, before)}"
            if bias:
                expected[f"layers.{index}.bias"] = f"shape {(after,)}"
        text = f"MLP({list(sizes)}{'' if bias else ', bias=False'})"
        check.run(f"the parameters of {text}", partial(_shapes, module.named_parameters)).equals(expected)
        check.run(f"the state_dict of {text}", partial(_shapes, module.state_dict)).equals(expected)


def test_by_hand(check: Check) -> None:
    """Two hidden ReLUs make |x|, of x and of -x; the last layer takes 5 off, and the result may be negative."""
    module = check.build(MLP, [1, 2, 1])
    weights = {
        "layers.0.weight": torch.tensor([[1.0], [-1.0]]),
        "layers.0.bias": torch.zeros(2),
        "layers.1.weight": torch.tensor([[1.0, 1.0]]),
        "layers.1.bias": torch.tensor([-5.0]),
    }
    check.load(module, weights)
    check(module, torch.tensor([[-7.0], [0.0], [2.0]])).equals(torch.tensor([[2.0], [-5.0], [-3.0]]), note="|x| - 5")


def test_as_a_sequence(check: Check) -> None:
    """With the same weights, the same as an nn.Sequential built by hand, part by part, for each activation."""
    for activation in _MODULES:
        sizes = [check.draw.size() for _ in range(4)]
        module = check.build(MLP, sizes, activation)
        weights = _weights(check.draw, sizes, dtype=torch.float32)
        check.load(module, weights)
        twin = _by_hand(sizes, activation)
        twin.load_state_dict(_in_sequence(weights))
        x = 2 * check.draw.strided(5, sizes[0])
        check.beside(module, twin, x, parts={str(2 * index): f"layers.{index}" for index in range(3)})


def test_gradients(check: Check) -> None:
    """Gradients reach the input and every parameter, as through the nn.Sequential, in float64."""
    for activation, bias in (("tanh", True), ("gelu", False), ("relu", True)):
        sizes = [check.draw.size(2, 5) for _ in range(4)]
        module = check.build(MLP, sizes, activation, bias=bias)
        check.mutating(module.double)
        check.load(module, _weights(check.draw, sizes, bias=bias, dtype=torch.float64))
        parameters = dict(module.named_parameters())
        x = check.draw.normal(6, sizes[0], dtype=torch.float64, requires_grad=True)
        expected = functional_call(_by_hand(sizes, activation, bias=bias).double(), _in_sequence(parameters), (x,))
        check(module, x).equals(expected).gradients_equal(expected, x=x, **parameters)


def test_shapes(check: Check) -> None:
    """One vector, a batch of one, none, three axes; with only two sizes it is a linear layer."""
    sizes = [check.draw.size(), check.draw.size(), check.draw.size()]
    for widths in (sizes, sizes[:2]):
        module = check.build(MLP, widths, "silu")
        weights = _weights(check.draw, widths, dtype=torch.float32)
        check.load(module, weights)
        twin = _by_hand(widths, "silu")
        twin.load_state_dict(_in_sequence(weights))
        for axes in ((), (1,), (0,), (2, 1, 3)):
            x = check.draw.normal(*axes, widths[0])
            with torch.no_grad():
                check(module, x).equals(twin(x))


def test_initial_weights(check: Check) -> None:
    """Each layer's weights are filled as suits the activation: He's way for ReLU and its kin, Glorot's else."""
    sizes = [200, 320, 100]
    for activation in _MODULES:
        module = check.build(MLP, sizes, activation, generator=check.draw.generator)
        state = check.run(f"MLP({sizes}, {activation!r}).state_dict()", module.state_dict).value
        for index, (before, after) in enumerate(pairwise(sizes)):
            if activation in ("sigmoid", "identity", "tanh"):
                gain = "25/9 * " if activation == "tanh" else ""
                variance = (25 / 9 if gain else 1) * 2 / (before + after)
                formula = f"{gain}2 / ({before} + {after})"
            else:  # the leaky ReLU's 1 + 0.01^2 makes a difference of 0.01 %, for which there is a check of its own
                variance, formula = 2 / before, f"2 / {before}"
            weight = state[f"layers.{index}.weight"]
            call = f"layers.{index}.weight of MLP({sizes}, {activation!r})"
            _has_variance(check, call, weight, variance, formula)


def test_initial_leaky(check: Check) -> None:
    """The leaky ReLU's slope of 0.01 counts: its weights are those for ReLU, divided by sqrt(1 + 0.01^2)."""
    seed, squares = check.draw.seed(), []
    for activation in ("relu", "leaky_relu"):
        module = check.build(MLP, [5, 40, 40], activation, generator=torch.Generator().manual_seed(seed))
        state = check.run(f"MLP([5, 40, 40], {activation!r}).state_dict()", module.state_dict).value
        squares.append([state[f"layers.{index}.weight"].double().square().mean() for index in (0, 1)])
    for index, (plain, leaky) in enumerate(zip(*squares, strict=True)):
        ratio = float(leaky / plain)
        # Ten roundings of each weight, by 6e-8, make 1.2e-6 of its square at most. A slope of 0 would make 1.
        check.that(
            abs(ratio * 1.0001 - 1) < 1e-5,
            call=f"the mean square of layers.{index}.weight of MLP([5, 40, 40], 'leaky_relu')",
            got=f"{ratio:.6f} times that of 'relu' from an equal seed",
            expected=f"{1 / 1.0001:.6f} times that, 1 / (1 + 0.01^2)",
        )


def test_initial_biases(check: Check) -> None:
    """All biases begin at 0."""
    module = check.build(MLP, [6, 5, 4], "tanh")
    state = check.run("MLP([6, 5, 4], 'tanh').state_dict()", module.state_dict).value
    for name, size in (("layers.0.bias", 5), ("layers.1.bias", 4)):
        check.run(f"{name} of MLP([6, 5, 4], 'tanh')", partial(state.get, name)).equals(torch.zeros(size))


def test_generator(check: Check) -> None:
    """Equal seeds give equal weights, other seeds others; no two layers of one network are alike."""
    seed = check.draw.seed()
    states = []
    for entry in (seed, seed, seed + 1):
        module = check.build(MLP, [4, 4, 4], generator=torch.Generator().manual_seed(entry))
        states.append(check.run("MLP([4, 4, 4], generator=generator).state_dict()", module.state_dict).value)
    for name in ("layers.0.weight", "layers.1.weight"):
        call = f"{name} of MLP([4, 4, 4], generator=generator)"
        check.run(call, partial(states[1].get, name)).equals(states[0][name], note="from equal seeds")
        check.that(
            not torch.equal(states[0][name], states[2][name]),
            call=call,
            got="the same weights from another seed",
            expected="others",
        )
    for activation, filling, fill_ in (
        ("relu", "he_normal_", he_normal_),
        ("sigmoid", "glorot_uniform_", glorot_uniform_),
    ):
        generator = torch.Generator().manual_seed(seed)
        module = check.build(MLP, [4, 3, 5], activation, generator=torch.Generator().manual_seed(seed))
        text = f"MLP([4, 3, 5], {activation!r}, generator=generator)"
        state = check.run(f"{text}.state_dict()", module.state_dict).value
        for name, shape in (("layers.0.weight", (3, 4)), ("layers.1.weight", (5, 3))):
            filled = check.mutating(fill_, torch.zeros(shape), generator=generator).has(shape=shape).value
            note = f"as your {filling} fills two weights, the first layer's first, from an equal seed"
            check.run(f"{name} of {text}", partial(state.get, name)).equals(filled, note=note)
    check.that(
        not torch.equal(states[0]["layers.0.weight"], states[0]["layers.1.weight"]),
        call="the two weights of MLP([4, 4, 4], generator=generator)",
        got="the same numbers in both",
        expected="numbers of its own for each layer",
    )


def test_global_generator(check: Check) -> None:
    """If none is given, numbers come from torch's global generator: they follow its seed, and each call has others."""
    seed = check.draw.seed()
    makers: dict[str, Callable[[], Tensor]] = {
        "he_normal_(weight)": lambda: he_normal_(torch.zeros(5, 4)),
        "glorot_uniform_(weight)": lambda: glorot_uniform_(torch.zeros(5, 4)),
        "layers.0.weight of MLP([4, 5])": lambda: MLP([4, 5]).state_dict()["layers.0.weight"],
    }
    for name, make in makers.items():
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            first = check.run(name, make).has(shape=(5, 4)).value
            second = check.run(name, make).has(shape=(5, 4)).value
            torch.default_generator.manual_seed(seed)
            again = check.run(f"{name}, after torch.manual_seed with the same seed as before", make)
        again.equals(first, note="the same as before")
        check.that(
            not torch.equal(first, second),
            call=f"{name}, twice",
            got="the same numbers twice",
            expected="other numbers",
        )


def _through(module: nn.Module, x: Tensor, cotangent: Tensor) -> tuple[float, float]:
    """The mean squares of what comes out, and of the gradient that comes back."""
    output = module(x)
    (gradient,) = torch.autograd.grad((output * cotangent).sum(), x)
    return float(output.detach().double().square().mean()), float(gradient.double().square().mean())


def _signal(draw: Draw) -> tuple[Tensor, Tensor]:
    """Four vectors of width 256, each of mean square 1, and a random cotangent."""
    x = draw.normal(4, 256)
    return (x / x.square().mean(dim=-1, keepdim=True).sqrt()).requires_grad_(), draw.normal(4, 256)


def test_fifty_relu_layers(check: Check) -> None:
    """Through 50 ReLU layers a signal and its gradient keep their size: neither dies nor explodes."""
    x, cotangent = _signal(check.draw)
    module = check.build(MLP, [256] * 51, "relu", generator=check.draw.generator)
    answer = check.run(
        "the mean squares out of and back through MLP([256] * 51)", partial(_through, module, x, cotangent)
    )
    # Given a layer's input, its outputs z are independent normal numbers. The mean square after the next layer is in
    # the mean that of now times 2 * mean(relu(z)^2) / mean(z^2), for n = 256 a factor of mean 1 and variance 5 / n. So
    # the logarithm changes by -5 / 2n, give or take sqrt(5 / n), in each of 49 steps: by -0.5, give or take 1.0. The
    # first layer, which no ReLU precedes, doubles. Backwards it is the same. A factor of 1000 is 6.4 or more of these
    # standard deviations, while a variance wrong by a factor of 2 makes 2^50, which is 1e15.
    for what, size in zip(("output", "gradient"), answer.value, strict=True):
        check.that(
            1e-3 < size / 2 < 1e3,
            call=f"the mean square of the {what} after 50 layers of width 256",
            got=_order(size),
            expected="2, give or take a factor of 1000",
        )


def test_fifty_tanh_layers(check: Check) -> None:
    """Through 50 tanh layers a signal of mean square 1 stays near 1, for the gain makes up for what tanh takes."""
    x, cotangent = _signal(check.draw)
    module = check.build(MLP, [256] * 51, "tanh", generator=check.draw.generator)
    answer = check.run("the mean square out of MLP([256] * 51, 'tanh')", lambda: _through(module, x, cotangent)[0])
    # A mean square of q becomes 25/9 * E[tanh(sqrt(q) g)^2] with g normal, whose fixed point is q = 1.18, where its
    # slope is 0.43: deviations shrink by that with each layer. Each layer adds a relative one of variance at most
    # 2 / n, that of the mean of n squares of normal numbers. Together 2 / 256 / (1 - 0.43^2), a standard deviation of
    # 0.1: a factor of 2 is 7 of them. Without the gain, q falls as 1 / (2 * layers), to 0.01.
    size = answer.value
    check.that(
        0.5 < size / 1.18 < 2,
        call="the mean square of the output after 50 tanh layers of width 256",
        got=_order(size),
        expected="1.18, give or take a factor of 2",
    )


def _order(size: float) -> str:
    """The power of ten: another implementation may draw other numbers from the same generator."""
    if not math.isfinite(size) or size == 0:
        return str(size)
    return f"about 1e{round(math.log10(size))}"


def test_refused(check: Check) -> None:
    """Too few sizes, a size of 0, an activation of no such name, an input of another width are refused."""
    for sizes, named in (([], "[]|()"), ([4], "4"), ([4, 0, 2], "0"), ([0, 4], "0"), ([4, -3], "-3")):
        check.raises(ValueError, MLP, sizes, naming=("sizes", named))
    check.raises(ValueError, MLP, [4, 2], "rellu", naming=("activation", "rellu"))
    module = check.build(MLP, [4, 3, 2])
    check.raises(ValueError, module, check.draw.normal(2, 5), naming=("4", "(2, 5)"))
    check.raises(ValueError, module, check.draw.normal(4, 1), naming=("4", "(4, 1)"))
    check.raises(ValueError, module, torch.tensor(1.0), naming=("4", "()"))
