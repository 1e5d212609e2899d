"""Grades block/feed_forward.

The oracle is the formula, of F.linear and torch's own activations, with the learner's weights; parameters are counted by
hand.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from checkpoints.checks import Check, Draw, Workload
from checkpoints.misconceptions import Misconception
from exercises.block.feed_forward import FeedForward

MISCONCEPTIONS = [
    Misconception(
        "GPT-2's GELU, whichever activation was asked for", ("ACTIVATIONS[activation]", 'ACTIVATIONS["gelu_tanh"]')
    ),
    Misconception(
        "the exact GELU in the place of gelu_tanh, its approximation: GPT-2 was trained with the latter",
        ("ACTIVATIONS[activation]", 'ACTIVATIONS["gelu" if activation == "gelu_tanh" else activation]'),
    ),
    Misconception(
        "the exact GELU as the default; it is gelu_tanh", ('activation: str = "gelu_tanh"', 'activation: str = "gelu"')
    ),
    Misconception(
        "ReLU as the default; it is gelu_tanh", ('activation: str = "gelu_tanh"', 'activation: str = "relu"')
    ),
    Misconception(
        "gate and value exchanged: it is c_gate's result that goes through the activation",
        ("self.activation(self.c_gate(x)) * hidden", "self.activation(hidden) * self.c_gate(x)"),
    ),
    Misconception(
        "a gate that does not go through the activation",
        ("self.activation(self.c_gate(x)) * hidden", "self.c_gate(x) * hidden"),
    ),
    Misconception(
        "gate and value both through the activation; it is the gate alone",
        ("self.activation(self.c_gate(x)) * hidden", "self.activation(self.c_gate(x)) * self.activation(hidden)"),
    ),
    Misconception(
        "the activation of gate times value; it is the gate's alone",
        ("self.activation(self.c_gate(x)) * hidden", "self.activation(self.c_gate(x) * hidden)"),
    ),
    Misconception(
        "the gate added to the value, not multiplied",
        ("self.activation(self.c_gate(x)) * hidden", "self.activation(self.c_gate(x)) + hidden"),
    ),
    Misconception(
        "a gate through the sigmoid, whichever activation was asked for",
        ("self.activation(self.c_gate(x)) * hidden", "self.c_gate(x).sigmoid() * hidden"),
    ),
    Misconception(
        "a gate made by c_fc, where it is c_gate's",
        ("self.activation(self.c_gate(x)) * hidden", "self.activation(hidden) * hidden"),
    ),
    Misconception(
        "the plain network although there is a gate",
        (
            "self.activation(hidden) if self.c_gate is None else self.activation(self.c_gate(x)) * hidden",
            "self.activation(hidden)",
        ),
    ),
    Misconception("a gate although none was asked for", (", bias=bias) if gated else None", ", bias=bias)")),
    Misconception(
        "a network without an activation, which is one linear map",
        ("self.activation(hidden) if self.c_gate is None", "hidden if self.c_gate is None"),
    ),
    Misconception(
        "an activation after c_proj too", ("return self.c_proj(hidden)", "return self.activation(self.c_proj(hidden))")
    ),
    Misconception(
        "an activation after c_proj in the place of the one before it",
        ("self.activation(hidden) if self.c_gate is None", "hidden if self.c_gate is None"),
        ("return self.c_proj(hidden)", "return self.activation(self.c_proj(hidden))"),
    ),
    Misconception("a network that ends before c_proj", ("return self.c_proj(hidden)", "return hidden")),
    Misconception(
        "x added to the result: that is the residual connection's, around this",
        ("return self.c_proj(hidden)", "return x + self.c_proj(hidden)"),
    ),
    Misconception(
        "a dropout of its own: that is the residual connection's, around this",
        (
            "return self.c_proj(hidden)",
            "return nn.functional.dropout(self.c_proj(hidden), 0.1, training=self.training)",
        ),
    ),
    Misconception(
        "a width inside of embed_dim, where it is 4 times that if none is given",
        ("4 * embed_dim if hidden_dim", "embed_dim if hidden_dim"),
    ),
    Misconception(
        "a width inside of 8/3 embed_dim if gated: that keeps the number of parameters, but has to be asked for",
        ("4 * embed_dim if hidden_dim", "(8 * embed_dim // 3 if gated else 4 * embed_dim) if hidden_dim"),
    ),
    Misconception(
        "a width inside of 4 embed_dim, whichever was asked for",
        ("4 * embed_dim if hidden_dim is None else hidden_dim", "4 * embed_dim"),
    ),
    Misconception(
        "a bias in c_proj although bias=False",
        ("nn.Linear(hidden_dim, embed_dim, bias=bias)", "nn.Linear(hidden_dim, embed_dim)"),
    ),
    Misconception(
        "a bias in c_gate although bias=False",
        ("nn.Linear(embed_dim, hidden_dim, bias=bias) if gated", "nn.Linear(embed_dim, hidden_dim) if gated"),
    ),
    Misconception(
        "biases in all three although bias=False",
        ("super().__init__()", "super().__init__()\nbias = True"),
    ),
    Misconception("no biases if nothing is said", ("bias: bool = True", "bias: bool = False")),
    Misconception(
        "an activation that does not exist left to the dict: its KeyError does not say which there are",
        ("if activation not in ACTIVATIONS:", "if False:"),
    ),
    Misconception(
        "an activation that does not exist replaced by GPT-2's GELU, without a word",
        ("if activation not in ACTIVATIONS:", "if False:"),
        ("ACTIVATIONS[activation]", 'ACTIVATIONS.get(activation, ACTIVATIONS["gelu_tanh"])'),
    ),
]

# The seven of networks/activations, by torch.
ORACLES: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "leaky_relu": F.leaky_relu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "silu": F.silu,
    "gelu": F.gelu,
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
}


def workload(task: Any, draw: Draw) -> list[Workload]:
    """Typical calls, for `compare`."""
    x = draw.normal(8, 64, 128, requires_grad=True)
    plain: Any = draw.fill(task.FeedForward(128), scale=0.1)
    gated: Any = draw.fill(task.FeedForward(128, 344, activation="silu", gated=True, bias=False), scale=0.1)
    name = 'FeedForward(128, 344, activation="silu", gated=True, bias=False)(x)'
    return [Workload("FeedForward(128)(x)", plain, (x,)), Workload(name, gated, (x,))]


def _weights(
    draw: Draw, width: int, hidden: int, *, gated: bool = False, bias: bool = True, dtype: torch.dtype = torch.float32
) -> dict[str, Tensor]:
    """Parameters of a module of these widths."""
    shapes: dict[str, tuple[int, ...]] = {}
    for name, rows, columns in (("c_fc", hidden, width), ("c_gate", hidden, width), ("c_proj", width, hidden)):
        if gated or name != "c_gate":
            shapes[f"{name}.weight"] = (rows, columns)
            shapes |= {f"{name}.bias": (rows,)} if bias else {}
    return {name: draw.normal(*shape, dtype=dtype, scale=0.5) for name, shape in shapes.items()}


def _expected(weights: Mapping[str, Tensor], x: Tensor, activation: str) -> Tensor:
    """The formula; gated where there are weights of a gate."""

    def linear(name: str, tokens: Tensor) -> Tensor:
        return F.linear(tokens, weights[f"{name}.weight"], weights.get(f"{name}.bias"))

    act, hidden = ORACLES[activation], linear("c_fc", x)
    return linear("c_proj", act(linear("c_gate", x)) * hidden if "c_gate.weight" in weights else act(hidden))


def _shapes(named: Callable[[], Any]) -> dict[str, str]:
    return {name: f"shape {tuple(tensor.shape)}" for name, tensor in dict(named()).items()}


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_parameters(check: Check) -> None:
    """Its parameters are those of c_fc and c_proj, if gated of c_gate too, and the state_dict has no others."""
    full = {"c_fc.weight": (12, 3), "c_fc.bias": (12,), "c_proj.weight": (3, 12), "c_proj.bias": (3,)}
    gated = full | {"c_gate.weight": (12, 3), "c_gate.bias": (12,)}
    narrow = {"c_fc.weight": (5, 3), "c_fc.bias": (5,), "c_proj.weight": (3, 5), "c_proj.bias": (3,)}
    bare = {name: shape for name, shape in gated.items() if name.endswith("weight")}
    cases: dict[str, tuple[dict[str, Any], dict[str, tuple[int, ...]]]] = {
        "FeedForward(3)": ({}, full),
        "FeedForward(3, gated=True)": ({"gated": True}, gated),
        "FeedForward(3, 5)": ({"hidden_dim": 5}, narrow),
        "FeedForward(3, gated=True, bias=False)": ({"gated": True, "bias": False}, bare),
    }
    for text, (options, shapes) in cases.items():
        module = check.build(FeedForward, 3, **options)
        expected = {name: f"shape {shape}" for name, shape in shapes.items()}
        check.run(f"the parameters of {text}", partial(_shapes, module.named_parameters)).equals(expected)
        check.run(f"the state_dict of {text}", partial(_shapes, module.state_dict)).equals(expected)


def test_counts(check: Check) -> None:
    """As many parameters as counted by hand: 4,722,432 in a block of the smallest GPT-2, 6 C^2 with a gate of 2 C."""
    plain = check.build(FeedForward, 768)
    check.run("the number of parameters of FeedForward(768)", partial(_count, plain)).equals(
        4_722_432, note="768 * 3072 + 3072, and 3072 * 768 + 768"
    )
    gated = check.build(FeedForward, 6, 16, gated=True, bias=False)
    check.run("the number of parameters of FeedForward(6, 16, gated=True, bias=False)", partial(_count, gated)).equals(
        3 * 6 * 16, note="as many as FeedForward(6, 24, bias=False) has: 2 * 6 * 24"
    )


def test_by_hand(check: Check) -> None:
    """A token of one number, 3, two numbers inside, 3 and -2, and ReLU; then with a gate of -1 and 4."""
    weights = {
        "c_fc.weight": torch.tensor([[1.0], [-1.0]]),
        "c_fc.bias": torch.tensor([0.0, 1.0]),
        "c_proj.weight": torch.tensor([[2.0, 5.0]]),
        "c_proj.bias": torch.tensor([0.5]),
    }
    gate = {"c_gate.weight": torch.tensor([[-1.0], [1.0]]), "c_gate.bias": torch.tensor([2.0, 1.0])}
    x = torch.tensor([[[3.0]]])
    plain = check.build(FeedForward, 1, 2, activation="relu")
    check.load(plain, weights)
    check(plain, x).equals(torch.tensor([[[6.5]]]), note="2 * 3 + 5 * 0 + 0.5")
    gated = check.build(FeedForward, 1, 2, activation="relu", gated=True)
    check.load(gated, weights | gate)
    check(gated, x).equals(torch.tensor([[[-39.5]]]), note="2 * (0 * 3) + 5 * (4 * -2) + 0.5")


def test_default(check: Check) -> None:
    """If nothing is said: 4 times the width inside, GPT-2's GELU, biases, no gate."""
    width = check.draw.size()
    weights = _weights(check.draw, width, 4 * width)
    module = check.build(FeedForward, width)
    check.load(module, weights)
    x = check.draw.strided(3, 4, width)
    check(module, x).equals(_expected(weights, x, "gelu_tanh"), note="c_proj(gelu_tanh(c_fc(x)))")


def test_activations(check: Check) -> None:
    """With each of the seven activations by name, side by side, without a gate."""
    _each_activation(check, gated=False)


def test_gated(check: Check) -> None:
    """With a gate: c_proj(activation(c_gate(x)) * c_fc(x)), for each of the seven activations."""
    _each_activation(check, gated=True)


def _each_activation(check: Check, *, gated: bool) -> None:
    """All modules are built before the first is called: none may keep its activation where the next replaces it."""
    width, hidden = check.draw.size(), check.draw.size(5, 9)
    weights = _weights(check.draw, width, hidden, gated=gated)
    x = check.draw.normal(2, 5, width, scale=2.0)
    modules = {}
    for name in ORACLES:
        modules[name] = check.build(FeedForward, width, hidden, activation=name, gated=gated)
        check.load(modules[name], weights)
    formula = "c_proj({0}(c_gate(x)) * c_fc(x))" if gated else "c_proj({0}(c_fc(x)))"
    for name, module in modules.items():
        check(module, x).equals(_expected(weights, x, name), note=formula.format(name))


def test_each_token_alone(check: Check) -> None:
    """Each token is transformed by itself: in another order, or without the others, it gives the same."""
    width = check.draw.size()
    for gated in (False, True):
        module = check.build(FeedForward, width, activation="silu", gated=gated)
        weights = _weights(check.draw, width, 4 * width, gated=gated)
        check.load(module, weights)
        x = check.draw.normal(2, 3, 4, width)
        expected = _expected(weights, x, "silu")
        check(module, x).equals(expected, note="of four axes")
        order = check.draw.permutation(4)
        check(module, x[:, :, order]).equals(expected[:, :, order], note="the tokens in another order")
        check(module, x[1, 2, 3]).equals(expected[1, 2, 3], note="one token, by itself")


def test_closed_gate(check: Check) -> None:
    """A gate of zeros lets nothing through: what remains is c_proj's bias. An open one makes the network linear."""
    width = check.draw.size()
    module = check.build(FeedForward, width, 6, activation="relu", gated=True)
    weights = _weights(check.draw, width, 6, gated=True)
    x = check.draw.normal(2, 3, width)
    weights["c_gate.weight"] = torch.zeros(6, width)
    weights["c_gate.bias"] = torch.zeros(6)
    check.load(module, weights)
    check(module, x).equals(weights["c_proj.bias"].expand(2, 3, -1), note="a gate of 0 everywhere")
    weights["c_gate.bias"] = torch.ones(6)
    check.load(module, weights)
    linear = (x @ weights["c_fc.weight"].T + weights["c_fc.bias"]) @ weights["c_proj.weight"].T + weights["c_proj.bias"]
    check(module, x).equals(linear, note="a gate of 1 everywhere")


def test_gradients(check: Check) -> None:
    """Gradients reach the tokens and every parameter, plain and gated, as through the formula."""
    width = check.draw.size()
    for gated in (False, True):
        module = check.build(FeedForward, width, 5, activation="gelu_tanh", gated=gated)
        check.mutating(module.double)
        check.load(module, _weights(check.draw, width, 5, gated=gated, dtype=torch.float64))
        x = check.draw.normal(2, 3, width, dtype=torch.float64, requires_grad=True)
        parameters = dict(module.named_parameters())
        expected = _expected(parameters, x, "gelu_tanh")
        check(module, x).equals(expected.detach()).gradients_equal(expected, x=x, **parameters)


def test_edges(check: Check) -> None:
    """Without biases, in float64; a batch of one, one token or none, one number inside."""
    width = check.draw.size()
    for hidden, gated in ((1, False), (1, True), (7, False), (7, True)):
        module = check.build(FeedForward, width, hidden, activation="gelu", gated=gated, bias=False)
        check.mutating(module.double)
        weights = _weights(check.draw, width, hidden, gated=gated, bias=False, dtype=torch.float64)
        check.load(module, weights)
        x = check.draw.strided(1, 1, width, dtype=torch.float64)
        check(module, x).equals(_expected(weights, x, "gelu"), note="without biases, with gelu")
        check(module, x[:, :0]).equals(x[:, :0], note="no tokens, no results")


def test_training(check: Check) -> None:
    """In training and in evaluation the same: there is no dropout inside."""
    width = check.draw.size()
    module = check.build(FeedForward, width)
    weights = _weights(check.draw, width, 4 * width)
    check.load(module, weights)
    x = check.draw.normal(4, 8, width)
    for text, switch in (("in training", module.train), ("in evaluation", module.eval)):
        check.mutating(switch)
        check(module, x).equals(_expected(weights, x, "gelu_tanh"), note=text)


def test_refused_activation(check: Check) -> None:
    """An activation that does not exist is refused by name, with those that do."""
    check.raises(ValueError, FeedForward, 4, activation="swish", naming=("swish", *ORACLES))
    check.raises(ValueError, FeedForward, 4, activation="GELU", gated=True, naming=("GELU", *ORACLES))


def test_refused_widths(check: Check) -> None:
    """Widths below 1 are refused by name and value; so are tokens of another width."""
    check.raises(ValueError, FeedForward, 0, naming=("embed_dim", "0"))
    check.raises(ValueError, FeedForward, -3, 8, naming=("embed_dim", "-3"))
    check.raises(ValueError, FeedForward, 4, 0, naming=("hidden_dim", "0"))
    check.raises(ValueError, FeedForward, 4, -8, gated=True, naming=("hidden_dim", "-8"))
    module = check.build(FeedForward, 6)
    check.raises(ValueError, module, check.draw.normal(2, 3, 4), naming=("6", "(2, 3, 4)"))
    check.raises(ValueError, module, check.draw.normal(6, 1), naming=("6", "(6, 1)"))
    check.raises(ValueError, module, torch.tensor(1.0), naming=("6", "()"))
