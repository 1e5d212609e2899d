"""Grades networks/inputs_outputs.

The oracle of the network looks rows up by indexing and multiplies by the weights it is given; that of the loss is made
of torch's own losses.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from checkpoints.checks import Check, Draw, Workload
from checkpoints.misconceptions import Misconception
from checkpoints.verdicts import Kind
from exercises.networks.inputs_outputs import MixedInputNetwork, weighted_loss

MISCONCEPTIONS = [
    Misconception(
        "no activation between trunk and heads: two linear layers in a row are one",
        ("hidden = ACTIVATIONS[self.activation](hidden)", "pass"),
    ),
    Misconception(
        "squeeze() of all axes: a batch of one loses its own", ("head(hidden).squeeze(-1)", "head(hidden).squeeze()")
    ),
    Misconception("numbers of shape (B, 1) in the place of (B,)", ("head(hidden).squeeze(-1)", "head(hidden)")),
    Misconception(
        "the embeddings before the numbers: the numbers come first",
        ("torch.cat([numeric, *looked_up], dim=-1)", "torch.cat([*looked_up, numeric], dim=-1)"),
    ),
    Misconception(
        "embeddings of the last column first: they stand in the order of the columns",
        ("torch.cat([numeric, *looked_up], dim=-1)", "torch.cat([numeric, *looked_up[::-1]], dim=-1)"),
    ),
    Misconception(
        "all embeddings looked up by the first column's categories",
        ("embedding(categorical[:, index])", "embedding(categorical[:, 0] % embedding.num_embeddings)"),
    ),
    Misconception(
        "one table of embeddings for all columns",
        (
            "looked_up = [embedding(categorical[:, index]) for",
            "looked_up = [max(self.embeddings, key=lambda table: table.num_embeddings)(categorical[:, index]) for",
        ),
    ),
    Misconception(
        "numbers cut off from the graph: no gradient reaches them",
        ("torch.cat([numeric, *looked_up], dim=-1)", "torch.cat([numeric.detach(), *looked_up], dim=-1)"),
    ),
    Misconception(
        "probabilities in the place of logits",
        (
            "name: head(hidden).squeeze(-1) for",
            "name: head(hidden).softmax(-1) if head.out_features > 1 else head(hidden).squeeze(-1) for",
        ),
    ),
    Misconception("the sizes of the trunk without the numbers", ("width = numeric_features + len(", "width = len(")),
    Misconception(
        "heads in a plain list, where no parameter is registered: it takes nn.ModuleList",
        (
            "self.heads = nn.ModuleList(nn.Linear(hidden_sizes[-1], size) for size in heads.values())",
            "self.heads = [nn.Linear(hidden_sizes[-1], size) for size in heads.values()]",
        ),
        (
            "for name, parameter in self.heads.named_parameters():",
            "for name, parameter in nn.ModuleList(self.heads).named_parameters():",
        ),
    ),
    Misconception(
        "embeddings in a plain list, where no parameter is registered: it takes nn.ModuleList",
        (
            "self.embeddings = nn.ModuleList(nn.Embedding(size, embedding_dim) for size in cardinalities.values())",
            "self.embeddings = [nn.Embedding(size, embedding_dim) for size in cardinalities.values()]",
        ),
        ("self.embeddings.parameters()", "nn.ModuleList(self.embeddings).parameters()"),
    ),
    Misconception(
        "embeddings not drawn from the generator",
        ("nn.init.normal_(embedding, generator=generator)", "nn.init.normal_(embedding)"),
    ),
    Misconception(
        "a category equal to the cardinality let through: the last is one less",
        ("categorical >= limits", "categorical > limits"),
    ),
    Misconception(
        "negative categories let through",
        ("(categorical < 0) | (categorical >= limits)", "categorical >= limits"),
    ),
    Misconception(
        "a category out of range taken for the nearest one that exists, where it should be refused",
        (
            "self._refuse(numeric, categorical)",
            "categorical = categorical.clamp(torch.zeros(len(self.cardinalities), dtype=torch.int64), torch.tensor(list(self.cardinalities.values()), dtype=torch.int64) - 1)\nself._refuse(numeric, categorical)",
        ),
    ),
    Misconception(
        "the message names another column than the one that is wrong",
        ("list(self.cardinalities)[column]", "list(self.cardinalities)[column - 1]"),
    ),
    Misconception("the losses added up without their weights", ("weights.get(name, 1.0) * loss for", "loss for")),
    Misconception(
        "a head without a weight left out: it counts once",
        ("weights.get(name, 1.0) * loss", "weights.get(name, 0.0) * loss"),
    ),
    Misconception(
        "the mean of the weighted losses, not their sum", ("losses.items()]).sum()", "losses.items()]).mean()")
    ),
    Misconception(
        "the weighted losses divided by the sum of the weights",
        ("losses.items()]).sum()", "losses.items()]).sum() / sum(weights.get(name, 1.0) for name in losses)"),
    ),
    Misconception(
        "the weights already in the losses to be logged",
        ("{name: loss.detach() for", "{name: weights.get(name, 1.0) * loss.detach() for"),
    ),
    Misconception(
        "losses to be logged that keep the graph of their batch: they are to be detached",
        ("{name: loss.detach() for", "{name: loss for"),
    ),
    Misconception(
        "a total made of detached losses, from which no gradient comes",
        ("weights.get(name, 1.0) * loss for", "weights.get(name, 1.0) * loss.detach() for"),
    ),
    Misconception(
        "half the squared error for numbers: the Huber loss is linear beyond 1",
        ("huber_loss(output, target) if", "0.5 * (output - target).square().mean() if"),
    ),
    Misconception(
        "the absolute error for numbers: the Huber loss is quadratic below 1",
        ("huber_loss(output, target) if", "(output - target).abs().mean() if"),
    ),
    Misconception(
        "losses summed over the rows: they are means",
        (
            "huber_loss(output, target) if output.dim() == 1 else cross_entropy(output, target)",
            'huber_loss(output, target, reduction="sum") if output.dim() == 1 else cross_entropy(output, target, reduction="sum")',
        ),
    ),
    Misconception(
        "a head without a target left out of the loss, where it should be refused",
        (
            'raise ValueError(f"head {name!r} has no target")',
            "continue",
        ),
    ),
    Misconception(
        "a target without a head passed over, where it should be refused",
        ("for name in [*targets, *weights]:", "for name in weights:"),
    ),
    Misconception(
        "a weight without a head passed over, where it should be refused",
        ("for name in [*targets, *weights]:", "for name in targets:"),
    ),
    Misconception(
        "a target of shape (B, 1) subtracted from (B,), which broadcasts to (B, B)",
        ("if target.shape != output.shape[:1]:", "if len(target) != len(output):"),
        ("huber_loss(output, target) if", "huber_loss(*torch.broadcast_tensors(output, target)) if"),
    ),
]

# Neither would do as a name in an nn.ModuleDict.
_COLUMNS, _HEADS = ("city", "user.kind", "weekday"), ("type", "label.main", "price")
_ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {"relu": F.relu, "tanh": torch.tanh, "gelu": F.gelu}


def workload(task: Any, draw: Draw) -> list[Workload]:
    """Typical calls, for `compare`."""
    cardinalities, heads = {"city": 200, "weekday": 7}, {"price": 1, "kind": 5}
    network: Any = draw.fill(task.MixedInputNetwork(16, cardinalities, heads), scale=0.1)
    numeric = draw.normal(256, 16, requires_grad=True)
    categorical = torch.stack([draw.integers(0, size, 256) for size in cardinalities.values()], dim=1)
    price, kind = draw.normal(256, requires_grad=True), draw.normal(256, 5, requires_grad=True)
    targets = {"price": draw.normal(256), "kind": draw.integers(0, 5, 256)}

    def kinds(numeric: Tensor, categorical: Tensor) -> Tensor:
        return network(numeric, categorical)["kind"]

    def total(price: Tensor, kind: Tensor) -> Tensor:
        return task.weighted_loss({"price": price, "kind": kind}, targets, {"kind": 0.5})[0]

    return [
        Workload("network(numeric, categorical)['kind']", kinds, (numeric, categorical)),
        Workload("weighted_loss(outputs, targets, {'kind': 0.5})[0]", total, (price, kind)),
    ]


class _Case:
    """A network of the learner's with weights drawn by the test, and inputs for it."""

    def __init__(
        self,
        check: Check,
        *,
        features: int,
        cardinalities: Sequence[int],
        sizes: Sequence[int],
        hidden_sizes: Sequence[int] = (6, 5),
        activation: str = "relu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.activation, self.draw = activation, check.draw
        self.cardinalities = dict(zip(_COLUMNS, cardinalities, strict=False))
        self.heads = dict(zip(_HEADS, sizes, strict=False))
        self.features, self.layers, width = features, len(hidden_sizes), check.draw.size(2, 5)
        self.module: Any = check.build(
            MixedInputNetwork,
            features,
            self.cardinalities,
            self.heads,
            embedding_dim=width,
            hidden_sizes=hidden_sizes,
            activation=activation,
        )
        check.mutating(self.module.to, dtype)
        shapes = _shapes(features, cardinalities, sizes, width, hidden_sizes)
        check.load(self.module, {name: check.draw.normal(*shape, dtype=dtype) for name, shape in shapes.items()})
        self.dtype = dtype

    def inputs(self, rows: int) -> tuple[Tensor, Tensor]:
        """Numbers, not contiguous, and categories."""
        columns = [self.draw.integers(0, size, rows) for size in self.cardinalities.values()]
        categorical = torch.stack(columns, dim=1) if columns else torch.zeros(rows, 0, dtype=torch.int64)
        return self.draw.strided(rows, self.features, dtype=self.dtype), categorical

    def expected(self, numeric: Tensor, categorical: Tensor) -> dict[str, Tensor]:
        """What the network gives, written out."""
        weights = dict(self.module.named_parameters())
        rows = [
            weights[f"embeddings.{index}.weight"][categorical[:, index]] for index in range(len(self.cardinalities))
        ]
        x = torch.cat([numeric, *rows], dim=1)
        for index in range(self.layers):
            x = F.linear(x, weights[f"trunk.layers.{index}.weight"], weights[f"trunk.layers.{index}.bias"])
            x = _ACTIVATIONS[self.activation](x)
        outputs = {}
        for index, (name, size) in enumerate(self.heads.items()):
            output = F.linear(x, weights[f"heads.{index}.weight"], weights[f"heads.{index}.bias"])
            outputs[name] = output[:, 0] if size == 1 else output
        return outputs


def _shapes(
    features: int, cardinalities: Sequence[int], sizes: Sequence[int], embedding_dim: int, hidden_sizes: Sequence[int]
) -> dict[str, tuple[int, ...]]:
    """The shapes of all parameters, by name."""
    shapes: dict[str, tuple[int, ...]] = {}
    for index, size in enumerate(cardinalities):
        shapes[f"embeddings.{index}.weight"] = (size, embedding_dim)
    before = features + len(cardinalities) * embedding_dim
    for index, width in enumerate(hidden_sizes):
        shapes[f"trunk.layers.{index}.weight"], shapes[f"trunk.layers.{index}.bias"] = (width, before), (width,)
        before = width
    for index, size in enumerate(sizes):
        shapes[f"heads.{index}.weight"], shapes[f"heads.{index}.bias"] = (size, before), (size,)
    return shapes


def _state_shapes(module: Any) -> dict[str, str]:
    return {name: f"shape {tuple(tensor.shape)}" for name, tensor in module.state_dict().items()}


def test_parameters(check: Check) -> None:
    """Its parameters are those of embeddings, trunk and heads, numbered in order, of the right sizes."""
    cases: tuple[tuple[int, tuple[int, ...], tuple[int, ...], dict[str, Any]], ...] = (
        (3, (5, 7), (1, 4), {"embedding_dim": 2, "hidden_sizes": (6, 5)}),
        (0, (4,), (2,), {"embedding_dim": 3, "hidden_sizes": [5]}),
        (2, (), (1,), {"hidden_sizes": (4,)}),
        (2, (1, 3), (1,), {}),
    )
    for features, cardinalities, sizes, options in cases:
        columns = dict(zip(_COLUMNS, cardinalities, strict=False))
        heads = dict(zip(_HEADS, sizes, strict=False))
        width, hidden = options.get("embedding_dim", 8), options.get("hidden_sizes", (64, 64))
        module = check.build(MixedInputNetwork, features, columns, heads, **options)
        shapes = _shapes(features, cardinalities, sizes, width, hidden)
        expected = {name: f"shape {shape}" for name, shape in shapes.items()}
        told = "".join(f", {name}={value}" for name, value in options.items()) or ", all else as by default"
        text = f"a network of {features} numbers, {len(columns)} columns and {len(heads)} heads{told}"
        check.run(f"the state_dict of {text}", partial(_state_shapes, module)).equals(expected)


def test_by_hand(check: Check) -> None:
    """Twice a number and a category are added; a ReLU; then 2 h + 1 for the price, h and -h for the two kinds."""
    options: dict[str, Any] = {"embedding_dim": 1, "hidden_sizes": [1]}
    module = check.build(MixedInputNetwork, 1, {"city": 2}, {"price": 1, "kind": 2}, **options)
    weights = {
        "embeddings.0.weight": [[10.0], [20.0]],
        "trunk.layers.0.weight": [[2.0, 1.0]],
        "trunk.layers.0.bias": [0.0],
        "heads.0.weight": [[2.0]],
        "heads.0.bias": [1.0],
        "heads.1.weight": [[1.0], [-1.0]],
        "heads.1.bias": [0.0, 0.0],
    }
    check.load(module, {name: torch.tensor(values) for name, values in weights.items()})
    numeric, categorical = torch.tensor([[1.0], [-30.0]]), torch.tensor([[1], [0]])
    expected = {"price": torch.tensor([45.0, 1.0]), "kind": torch.tensor([[22.0, -22.0], [0.0, 0.0]])}
    check(module, numeric, categorical).equals(expected, note="h: 2 * 1 + 20 is 22, and 2 * -30 + 10 becomes 0")


def test_outputs(check: Check) -> None:
    """With the same weights, all heads as written out: numbers (B,), logits (B, C), in the order of the heads."""
    for activation in _ACTIVATIONS:
        case = _Case(check, features=4, cardinalities=(5, 3, 6), sizes=(1, 4, 2), activation=activation)
        inputs = case.inputs(check.draw.size(4, 9))
        answer = check(case.module, *inputs).equals(case.expected(*inputs))
        names = list(answer.value)
        answer.satisfies(names == list(case.heads), got=f"heads {names}", expected=f"heads {list(case.heads)}")


def test_one_kind_of_input(check: Check) -> None:
    """Numbers alone, or categories alone, will do; so will a single head."""
    for features, cardinalities, sizes in ((3, (), (1,)), (0, (4, 5), (3,)), (0, (4,), (1, 2))):
        case = _Case(check, features=features, cardinalities=cardinalities, sizes=sizes, hidden_sizes=(7,))
        inputs = case.inputs(5)
        check(case.module, *inputs).equals(case.expected(*inputs))


def test_batch_of_one(check: Check) -> None:
    """A batch of one keeps its axis, in every head; so does an empty one."""
    case = _Case(check, features=2, cardinalities=(4, 3), sizes=(1, 3))
    for rows in (1, 0):
        inputs = case.inputs(rows)
        check(case.module, *inputs).equals(case.expected(*inputs), note=f"B is {rows}")


def test_gradients(check: Check) -> None:
    """From each head, gradients reach the numbers, the embeddings, the trunk and the head itself, in float64."""
    options: dict[str, Any] = {"activation": "tanh", "dtype": torch.float64}
    case = _Case(check, features=3, cardinalities=(4, 5), sizes=(1, 3), **options)
    numeric, categorical = case.inputs(6)
    numeric = numeric.requires_grad_()
    expected = case.expected(numeric, categorical)
    outputs = check(case.module, numeric, categorical).value
    parameters = dict(case.module.named_parameters())
    for name, oracle in expected.items():
        answer = check.run(f"network(numeric, categorical)[{name!r}]", lambda name=name: outputs[name])  # type: ignore[misc]
        answer.equals(oracle).gradients_equal(oracle, numeric=numeric, **parameters)


def test_rows_alone(check: Check) -> None:
    """Each row is predicted by itself: rows in another order give the same predictions in that order."""
    case = _Case(check, features=3, cardinalities=(6, 2), sizes=(1, 4), activation="gelu")
    numeric, categorical = case.inputs(7)
    order = check.draw.permutation(7)
    first = check(case.module, numeric, categorical).value
    expected = {name: output[order].detach() for name, output in case.expected(numeric, categorical).items()}
    check(case.module, numeric[order], categorical[order]).equals(expected, note="as in the first order, reordered")
    check.that(
        sorted(first) == sorted(case.heads),
        call="network(numeric, categorical)",
        got=f"heads {sorted(first)}",
        expected=f"heads {sorted(case.heads)}",
    )


def test_first_weights(check: Check) -> None:
    """All weights come from the generator, all biases are 0; embeddings begin as standard normal numbers."""
    seed = check.draw.seed()
    arguments: tuple[Any, ...] = (3, {"city": 400, "weekday": 7}, {"price": 1, "kind": 5})
    states = []
    for entry in (seed, seed, seed + 1):
        generator = torch.Generator().manual_seed(entry)
        module = check.build(MixedInputNetwork, *arguments, generator=generator)
        states.append(check.run("network.state_dict()", module.state_dict).value)
    for name, first in states[0].items():
        if name.endswith("bias"):
            check.run(f"{name} at the start", partial(states[0].get, name)).equals(torch.zeros_like(first))
            continue
        check.run(f"{name} at the start", partial(states[1].get, name)).equals(first, note="from equal seeds")
        call = f"{name} from two seeds"
        check.that(not torch.equal(first, states[2][name]), call=call, got="the same weights", expected="others")


def test_sizes_of_first_weights(check: Check) -> None:
    """Embeddings begin as standard normal numbers, the trunk as the MLP has it, heads as glorot_uniform_ does."""
    columns, heads = {"city": 400, "weekday": 7}, {"price": 1, "kind": 300}
    options: dict[str, Any] = {"hidden_sizes": (50,), "generator": check.draw.generator}
    module = check.build(MixedInputNetwork, 3, columns, heads, **options)
    state = check.run("network.state_dict()", module.state_dict).value
    for name, formula, wanted in (
        ("embeddings.0.weight", "1", 1.0),
        ("trunk.layers.0.weight", "2 / (3 + 2 * 8), as he_normal_ has it", 2 / 19),
        ("heads.1.weight", "2 / (50 + 300), as glorot_uniform_ has it", 2 / 350),
    ):
        # The mean square of N normal numbers is their variance, give or take sqrt(2 / N) of it, and less if uniform;
        # 8 times that is allowed.
        size, room = float(state[name].square().mean()), 8 * math.sqrt(2 / state[name].numel())
        _roughly(check, abs(size / wanted - 1) < room, size, f"the mean square of {name} at the start", formula)
    largest, bound = float(state["heads.1.weight"].abs().max()), math.sqrt(6 / 350)
    # The bound may be rounded to float32, by 6e-8, in a few steps.
    inside = largest <= 1.000001 * bound
    _roughly(check, inside, largest, "the largest entry of heads.1.weight at the start", "at most sqrt(6 / (50 + 300))")


def _roughly(check: Check, condition: bool, figure: float, call: str, wanted: str) -> None:
    """Note what is wrong with a figure of random numbers; its first digit is that of others from the same generator."""
    if condition:
        check.passed()
    else:
        check.note(Kind.WRONG_VALUE, call, f"{figure:.3g}", wanted, proof=f"{figure:.1g}")


def test_refuses_sizes(check: Check) -> None:
    """A network without a head or an input, and sizes below 1, are refused by name and value."""
    make, columns, heads = MixedInputNetwork, {"city": 4}, {"price": 1}
    check.raises(ValueError, make, 3, columns, {}, naming="head")
    check.raises(ValueError, make, 0, {}, heads, naming=("numeric_features", "0"))
    check.raises(ValueError, make, -2, columns, heads, naming=("numeric_features", "-2"))
    check.raises(ValueError, make, -1, {"city": 4, "shop": 3}, heads, naming=("numeric_features", "-1"))
    check.raises(ValueError, make, 3, {"city": 4, "shop": 0}, heads, naming=("shop", "0"))
    check.raises(ValueError, make, 3, columns, {"price": 1, "kind": -5}, naming=("kind", "-5"))
    check.raises(ValueError, make, 3, columns, heads, embedding_dim=0, naming=("embedding_dim", "0"))
    check.raises(ValueError, make, 3, columns, heads, hidden_sizes=(), naming="hidden_sizes")
    for sizes, wrong in (((8, 0), "0"), ((0, 8), "0"), ((8, -4, 8), "-4")):
        check.raises(ValueError, make, 3, columns, heads, hidden_sizes=sizes, naming=("hidden_sizes", wrong))
    for name in ("softsign", "identity"):  # the second is one of the MLP's, but not of ACTIVATIONS
        check.raises(ValueError, make, 3, columns, heads, activation=name, naming=("activation", name))


def test_refuses_inputs(check: Check) -> None:
    """Inputs of another shape, of another number of rows, or categories that are no whole numbers are refused."""
    module = check.build(MixedInputNetwork, 3, {"city": 4, "weekday": 7}, {"price": 1})
    numeric, categorical = check.draw.normal(5, 3), torch.zeros(5, 2, dtype=torch.int64)
    check.raises(ValueError, module, numeric[:, :2], categorical, naming=("numeric", "(5, 2)"))
    check.raises(ValueError, module, numeric[0], categorical, naming=("numeric", "(3,)"))
    check.raises(ValueError, module, numeric, categorical[:, :1], naming=("categorical", "(5, 1)"))
    check.raises(ValueError, module, numeric[:4], categorical, naming=("(4, 3)", "(5, 2)"))
    check.raises(ValueError, module, numeric, categorical[:4], naming=("(5, 3)", "(4, 2)"))
    for dtype in (torch.float32, torch.int32):
        check.raises(TypeError, module, numeric, categorical.to(dtype), naming=str(dtype).removeprefix("torch."))


def test_refuses_categories(check: Check) -> None:
    """A category out of range is refused by its column's name and its value; the last one is in range."""
    module = check.build(MixedInputNetwork, 1, {"city": 40, "weekday": 7}, {"price": 1})
    numeric = check.draw.normal(3, 1)
    last = torch.tensor([[39, 6], [0, 0], [39, 0]])
    check(module, numeric, last)  # is answered
    for row, column, name, value in (
        (1, 0, "city", 40),
        (0, 1, "weekday", 7),
        (2, 1, "weekday", 38),
        (2, 0, "city", -5),
    ):
        wrong = last.clone()
        wrong[row, column] = value
        check.raises(ValueError, module, numeric, wrong, naming=(name, str(value)))


def test_loss_by_hand(check: Check) -> None:
    """Errors 0 and 2 of a price, two rows of four equal logits: 0.75 for the one, ln 4 for the other."""
    outputs = {"price": torch.tensor([1.0, 3.0]), "kind": torch.zeros(2, 4)}
    targets = {"price": torch.tensor([1.0, 1.0]), "kind": torch.tensor([3, 0])}
    parts = {"price": torch.tensor(0.75), "kind": torch.tensor(math.log(4.0))}
    check(weighted_loss, outputs, targets).equals(
        (torch.tensor(0.75 + math.log(4.0)), parts),
        note="(0 + 1.5) / 2 for the price, ln 4 for the kind, and their sum",
    )
    weights = {"price": 3.0, "kind": 0.5}
    check(weighted_loss, outputs, targets, weights).equals(
        (torch.tensor(2.25 + math.log(2.0)), parts), note="3 * 0.75 + 0.5 * ln 4, and the losses without their weights"
    )


def _predictions(draw: Draw, rows: int) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Outputs of four heads in float64, and targets in another order; errors on both sides of Huber's delta."""
    outputs = {
        "price": draw.normal(rows, dtype=torch.float64, scale=3.0, requires_grad=True),
        "kind": draw.normal(rows, 4, dtype=torch.float64, requires_grad=True),
        "age": draw.normal(rows, dtype=torch.float64, scale=0.3, requires_grad=True),
        "type": draw.normal(rows, 2, dtype=torch.float64, requires_grad=True),
    }
    targets = {
        "type": draw.integers(0, 2, rows),
        "age": draw.normal(rows, dtype=torch.float64, scale=0.3),
        "kind": draw.integers(0, 4, rows),
        "price": draw.normal(rows, dtype=torch.float64, scale=3.0),
    }
    return outputs, targets


def _losses(outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Torch's loss of each head."""
    kinds: dict[int, Callable[..., Tensor]] = {1: F.huber_loss, 2: F.cross_entropy}
    return {name: kinds[output.dim()](output, targets[name]) for name, output in outputs.items()}


def _total(outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor], *weights: Mapping[str, float]) -> Tensor:
    return weighted_loss(outputs, targets, *weights)[0]


def test_loss(check: Check) -> None:
    """The sum of torch's losses, each times its weight, in value and gradient; a head without a weight counts once."""
    outputs, targets = _predictions(check.draw, check.draw.size(5, 9))
    losses = _losses(outputs, targets)
    factors: Mapping[str, float]
    for text, factors in (
        ("", {}),
        (
            ", {'price': 0.1, 'kind': 2.0, 'age': 5.0, 'type': 1.5}",
            {"price": 0.1, "kind": 2.0, "age": 5.0, "type": 1.5},
        ),
        (", {'kind': 0.25}", {"kind": 0.25}),
    ):
        expected = torch.stack([factors.get(name, 1.0) * loss for name, loss in losses.items()]).sum()
        arguments = (outputs, targets, factors) if text else (outputs, targets)
        answer = check.run(f"weighted_loss(outputs, targets{text})[0]", partial(_total, *arguments))
        answer.equals(expected).gradients_equal(expected, **outputs)


def test_loss_of_each_head(check: Check) -> None:
    """Beside the total, each head's own loss without its weight, detached from the graph."""
    outputs, targets = _predictions(check.draw, check.draw.size(5, 9))
    answer = check.run(
        "weighted_loss(outputs, targets, {'kind': 3.0})[1]", lambda: weighted_loss(outputs, targets, {"kind": 3.0})[1]
    )
    answer.equals({name: loss.detach() for name, loss in _losses(outputs, targets).items()})
    attached = [name for name, loss in answer.value.items() if getattr(loss, "requires_grad", False)]
    answer.satisfies(
        not attached, got=f"losses that keep their graph: {', '.join(attached)}", expected="detached ones, to be logged"
    )


def test_weight_of_zero(check: Check) -> None:
    """A head of weight 0 is switched off, and no gradient of it is left; in a batch of one."""
    outputs, targets = _predictions(check.draw, 1)
    losses = _losses(outputs, targets)
    expected = losses["price"] + losses["age"] + losses["type"]
    answer = check.run(
        "weighted_loss(outputs, targets, {'kind': 0.0})[0]", partial(_total, outputs, targets, {"kind": 0.0})
    )
    answer.equals(expected).gradients_equal(expected, **outputs)


def test_from_table_to_loss(check: Check) -> None:
    """One backward pass of the weighted loss reaches every parameter and every number, through both parts."""
    case = _Case(check, features=3, cardinalities=(4, 5), sizes=(1, 3), activation="gelu", dtype=torch.float64)
    numeric, categorical = case.inputs(8)
    numeric = numeric.requires_grad_()
    targets = {"type": check.draw.normal(8, dtype=torch.float64), "label.main": check.draw.integers(0, 3, 8)}
    losses = _losses(case.expected(numeric, categorical), targets)
    expected = 2.0 * losses["type"] + losses["label.main"]

    def total() -> Tensor:
        return weighted_loss(case.module(numeric, categorical), targets, {"type": 2.0})[0]

    answer = check.run("weighted_loss(network(numeric, categorical), targets, {'type': 2.0})[0]", total)
    answer.equals(expected).gradients_equal(expected, numeric=numeric, **dict(case.module.named_parameters()))


def test_loss_refuses(check: Check) -> None:
    """A missing head, an unknown one, a negative weight and a target of another shape are refused by name."""
    outputs = {"price": torch.zeros(3), "kind": torch.zeros(3, 4)}
    price, kind = torch.zeros(3), torch.zeros(3, dtype=torch.int64)
    targets = {"price": price, "kind": kind}
    check.raises(ValueError, weighted_loss, outputs, {"price": price}, naming="kind")
    check.raises(ValueError, weighted_loss, outputs, {"kind": kind}, naming="price")
    check.raises(ValueError, weighted_loss, outputs, {**targets, "age": price}, naming="age")
    check.raises(ValueError, weighted_loss, outputs, targets, {"prize": 2.0}, naming="prize")
    for weight in (-0.5, math.nan):
        check.raises(ValueError, weighted_loss, outputs, targets, {"kind": weight}, naming=("kind", str(weight)))
    check.raises(
        ValueError, weighted_loss, outputs, {"price": price[:, None], "kind": kind}, naming=("price", "(3, 1)")
    )
    check.raises(ValueError, weighted_loss, outputs, {"price": price, "kind": kind[:2]}, naming=("kind", "(2,)"))
