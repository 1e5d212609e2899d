"""Grades basics/documentation.

The oracle is counting by hand: small networks of known sizes, some with layers that this file defines.
"""

import re
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from checkpoints.checks import Answer, Check, Draw, Stop, Workload
from checkpoints.comparison import describe
from checkpoints.misconceptions import Misconception
from exercises.basics.documentation import Layer, Summary, summarize, to_markdown

MISCONCEPTIONS = [
    Misconception(
        "hooks left behind on the network",
        ("undo.enter_context(each.register_forward_hook(note))", "each.register_forward_hook(note)"),
    ),
    Misconception(
        "every hook removed at the end, also those that the network had before",
        (
            "undo.enter_context(each.register_forward_hook(note))",
            "undo.callback(each._forward_hooks.clear)\neach.register_forward_hook(note)",
        ),
    ),
    Misconception(
        "hooks and modes put back only after a forward pass that does not raise",
        ("with torch.no_grad(), ExitStack() as undo:", "undo = ExitStack()\nwith torch.no_grad():"),
        ("        module(*inputs)\n", "        module(*inputs)\n        undo.close()\n"),
    ),
    Misconception(
        "the network left in evaluation mode",
        ('undo.callback(setattr, each, "training", each.training)', "pass"),
    ),
    Misconception(
        "one mode put back for all, also for modules that were in another than the network itself",
        ('undo.callback(setattr, each, "training", each.training)', "undo.callback(module.train, module.training)"),
    ),
    Misconception(
        "the network run in the mode that it was in: dropout drops, and running statistics move",
        ("module.eval()", "pass"),
    ),
    Misconception("the network run with gradients", ("with torch.no_grad(), ExitStack()", "with ExitStack()")),
    Misconception(
        "a hook that returns the shapes: what a hook returns takes the place of the output",
        ("outputs[called] = tuple(_shapes(output))", "return outputs.setdefault(called, tuple(_shapes(output)))"),
    ),
    Misconception(
        "the method forward called by hand: it passes over the network's own hook",
        ("        module(*inputs)\n", "        module.forward(*inputs)\n"),
    ),
    Misconception("the shapes of what went in, not of what came out", ("_: Any, output: Any", "output: Any, _: Any")),
    Misconception(
        "the shapes of the first of several calls",
        ("outputs[called] = tuple(_shapes(output))", "outputs.setdefault(called, tuple(_shapes(output)))"),
    ),
    Misconception("the shapes without their first axis, the batch", ("tuple(output.shape)", "tuple(output.shape[1:])")),
    Misconception(
        "only the first of several outputs",
        (
            "for entry in output.values() if isinstance(output, Mapping) else output:",
            "for entry in list(output.values() if isinstance(output, Mapping) else output)[:1]:",
        ),
    ),
    Misconception("the tensors in dictionaries passed over", ("tuple | list | Mapping", "tuple | list")),
    Misconception(
        "the tensors passed over that lie deeper than one level",
        ("yield from _shapes(entry)", "yield from _shapes(entry) if isinstance(entry, Tensor) else ()"),
    ),
    Misconception(
        "the modules left out that were never called",
        (
            "for name, each in module.named_modules():",
            "for name, each in module.named_modules():\n    if each not in outputs:\n        continue",
        ),
    ),
    Misconception(
        "the network and its children only, without what is inside those",
        ("in module.named_modules():", 'in [("", module), *module.named_children()]:'),
    ),
    Misconception(
        "the modules in the order in which they finished",
        (
            "in module.named_modules():",
            "in sorted(module.named_modules(), key=lambda entry: [*outputs, entry[1]].index(entry[1])):",
        ),
    ),
    Misconception(
        "a row for every place in which a shared module stands",
        ("in module.named_modules():", "in module.named_modules(remove_duplicate=False):"),
    ),
    Misconception("shared weights counted at every module that holds them", (" if parameter not in counted", "")),
    Misconception(
        "the children's parameters counted once more at each of their parents",
        (
            "[parameter for parameter in each.parameters(recurse=False) if parameter not in counted]",
            "list(each.parameters())",
        ),
    ),
    Misconception(
        "the children's parameters counted at their parent, so the network itself has them all",
        ("each.parameters(recurse=False)", "each.parameters()"),
    ),
    Misconception(
        "only the parameters of modules without children, not those that a parent holds itself",
        ("if parameter not in counted", "if parameter not in counted and not list(each.children())"),
    ),
    Misconception(
        "only the trainable parameters counted, without the frozen ones",
        (
            "size = sum(parameter.numel() for parameter in own)",
            "size = sum(parameter.numel() for parameter in own if parameter.requires_grad)",
        ),
    ),
    Misconception(
        "frozen parameters counted among the trainable ones",
        (" for parameter in own if parameter.requires_grad", " for parameter in own"),
    ),
    Misconception(
        "buffers counted among the parameters",
        (
            "size = sum(parameter.numel() for parameter in own)",
            "size = sum(entry.numel() for entry in [*own, *each.buffers(recurse=False)])",
        ),
    ),
    Misconception(
        "the number of parameter tensors, not of the numbers in them",
        ("size = sum(parameter.numel() for parameter in own)", "size = len(own)"),
    ),
    Misconception(
        "the outputs as Python prints them: None, and tuples of tuples",
        (
            '"not called" if layer.outputs is None else ", ".join(map(str, layer.outputs)) or "no tensor"',
            "str(layer.outputs)",
        ),
    ),
    Misconception(
        "modules that were never called described as those that gave no tensor",
        (
            '"not called" if layer.outputs is None else ", ".join(map(str, layer.outputs)) or "no tensor"',
            '", ".join(map(str, layer.outputs or ())) or "no tensor"',
        ),
    ),
    Misconception("numbers without a comma between thousands", ("{layer.parameters:,}", "{layer.parameters}")),
    Misconception("a | in a name that ends its cell", ('text.replace("|", r"\\|")', "text")),
    Misconception(
        "a table without its delimiter row, which Markdown takes for plain text",
        (', "| --- | --- | --- | ---: |"]', "]"),
    ),
    Misconception(
        "a table without the totals",
        (
            'lines += ["", f"{summary.parameters:,} parameters, {summary.trainable:,} of them trainable"]',
            "pass",
        ),
    ),
    Misconception("all parameters given as trainable", ("{summary.trainable:,}", "{summary.parameters:,}")),
]


def workload(task: Any, draw: Draw) -> list[Workload]:
    """Typical calls, for `compare`: what they give as plain tuples, for each side has a `Layer` of its own."""
    blocks = [nn.Sequential(nn.LayerNorm(64), nn.Linear(64, 256), nn.GELU(), nn.Linear(256, 64)) for _ in range(12)]
    network, inputs = nn.Sequential(nn.Embedding(100, 64), *blocks, nn.Linear(64, 100)), draw.integers(0, 100, 8, 16)
    rows = [(f"{index}.linear", "Linear", ((8, 16, 64),), 4160, 4160) for index in range(200)]

    def table(module: nn.Module, tokens: Tensor) -> list[Any]:
        return [_row(layer) for layer in task.summarize(module, tokens).layers]

    return [
        Workload("summarize(network, tokens)", table, (network, inputs)),
        Workload("to_markdown(summary of 200 layers)", task.to_markdown, (_made(task.Summary, task.Layer, rows),)),
    ]


# A row of a table as a plain tuple: name, type, outputs, parameters, and the trainable ones unless all are.
Shapes = tuple[tuple[int, ...], ...] | None
Row = tuple[str, str, Shapes, int] | tuple[str, str, Shapes, int, int]


class Does(nn.Module):
    """Gives what a function makes of the module and its input."""

    def __init__(self, function: Callable[[nn.Module, Any], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, given: Any) -> Any:
        """What the function makes of it."""
        return self.function(self, given)


class Scaled(nn.Module):
    """Holds a parameter, under two names, and a buffer itself, and a child besides."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(size, size, bias=False))
        self.scale = nn.Parameter(torch.ones(size))
        self.factor = self.scale
        self.register_buffer("mean", torch.zeros(size))

    def forward(self, given: Tensor) -> Tensor:
        """What the child gives, scaled."""
        return self.inner(given) * self.scale


class Branches(nn.Module):
    """Uses one of the layers in a list; another layer is never used."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Linear(5, 4)
        self.layers = nn.ModuleList([nn.Linear(3, 2), nn.Linear(3, 2, bias=False)])

    def forward(self, given: Tensor) -> Tensor:
        """What the second layer gives."""
        return self.layers[1](given)


def _row(layer: Any) -> tuple[Any, ...]:
    """A layer as a plain tuple; shapes may be lists or torch's own."""
    outputs = layer.outputs
    if isinstance(outputs, tuple | list):
        outputs = tuple(tuple(shape) if isinstance(shape, tuple | list) else shape for shape in outputs)
    return layer.name, layer.type, outputs, layer.parameters, layer.trainable


def _in_words(row: tuple[Any, ...]) -> str:
    name, kind, outputs, parameters, trainable = row
    shapes = "never called" if outputs is None else f"outputs {outputs}"
    return f"{name!r}: {kind}, {shapes}, {parameters} parameters, {trainable} of them trainable"


def _lists(answer: Answer, *rows: Row, note: str = "") -> Answer:
    """The summary has these rows; ends the check where it is no summary."""
    note = f" ({note})" if note else ""
    summary = answer.value
    if not isinstance(summary, Summary):
        answer.satisfies(False, got=describe(summary), expected="a Summary")
        raise Stop
    got = [_row(layer) for layer in summary.layers]
    expected = [row if len(row) == 5 else (*row, row[3]) for row in rows]
    if [row[0] for row in got] != [row[0] for row in expected]:
        return answer.satisfies(
            False,
            got=f"layers with the names {[row[0] for row in got]}",
            expected=f"{[row[0] for row in expected]}, as named_modules has them",
        )
    wrong = [index for index, row in enumerate(got) if row != expected[index]]
    return answer.satisfies(
        not wrong,
        got="; ".join(_in_words(got[index]) for index in wrong),
        expected="; ".join(_in_words(expected[index]) for index in wrong) + note,
    )


def test_summary_by_hand(check: Check) -> None:
    """Two linear layers with a ReLU between: 3 * 2 + 2 and 2 * 1 + 1 parameters."""
    network = nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 1))
    _lists(
        check(summarize, network, check.draw.normal(4, 3)),
        ("", "Sequential", ((4, 1),), 0),
        ("0", "Linear", ((4, 2),), 8),
        ("1", "ReLU", ((4, 2),), 0),
        ("2", "Linear", ((4, 1),), 3),
    )


def test_summary_of_nested_modules(check: Check) -> None:
    """Modules inside modules have dotted names, and only the innermost count their parameters."""
    batch, one, two, three = (check.draw.size() for _ in range(4))
    inner = nn.Sequential(nn.Linear(one, two), nn.Sequential(nn.Tanh(), nn.LayerNorm(two)))
    network = nn.Sequential(OrderedDict(encoder=inner, head=nn.Linear(two, three)))
    _lists(
        check(summarize, network, check.draw.strided(batch, one)),
        ("", "Sequential", ((batch, three),), 0),
        ("encoder", "Sequential", ((batch, two),), 0),
        ("encoder.0", "Linear", ((batch, two),), one * two + two),
        ("encoder.1", "Sequential", ((batch, two),), 0),
        ("encoder.1.0", "Tanh", ((batch, two),), 0),
        ("encoder.1.1", "LayerNorm", ((batch, two),), 2 * two),
        ("head", "Linear", ((batch, three),), two * three + three),
    )


def test_summary_of_what_parents_hold(check: Check) -> None:
    """A parent may hold a parameter itself; under two names it counts once, and buffers do not count."""
    size = check.draw.size()
    _lists(
        check(summarize, Scaled(size), check.draw.normal(1, size)),
        ("", "Scaled", ((1, size),), size),
        ("inner", "Sequential", ((1, size),), 0),
        ("inner.0", "Linear", ((1, size),), size * size),
        note=f"it holds {size} scales, and a buffer of {size} means, which is no parameter",
    )


def test_summary_of_a_shared_module(check: Check) -> None:
    """A module used in two places has one row, with the shape of its last call, and counts once."""
    shared, activation = nn.Linear(3, 3), nn.Tanh()
    network = nn.Sequential(shared, activation, shared, nn.Linear(3, 2), activation)
    _lists(
        check(summarize, network, check.draw.normal(4, 3)),
        ("", "Sequential", ((4, 2),), 0),
        ("0", "Linear", ((4, 3),), 12),
        ("1", "Tanh", ((4, 2),), 0),
        ("3", "Linear", ((4, 2),), 8),
        note="the tanh is called with (4, 3), and at the end with (4, 2)",
    )


def test_summary_of_shared_weights(check: Check) -> None:
    """Weights that two modules share, as GPT-2's embedding and head do, count at the first: the column adds up."""
    words, size = check.draw.size(5, 9), check.draw.size()
    embedding, head = nn.Embedding(words, size), nn.Linear(size, words)
    head.weight = embedding.weight
    network = nn.Sequential(embedding, head)
    answer = _lists(
        check(summarize, network, check.draw.integers(0, words, 2, 3)),
        ("", "Sequential", ((2, 3, words),), 0),
        ("0", "Embedding", ((2, 3, size),), words * size),
        ("1", "Linear", ((2, 3, words),), words),
        note=f"both hold the one matrix ({words}, {size}), which counts at '0', and the second a bias of {words}",
    )
    got, expected = sum(layer.parameters for layer in answer.value.layers), words * size + words
    answer.satisfies(
        got == expected, got=f"a column that adds up to {got}", expected=f"{expected}, as the network has in all"
    )


def test_summary_of_frozen_parameters(check: Check) -> None:
    """Frozen parameters count as parameters, but not as trainable ones."""
    network = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 4))
    network[0].weight.requires_grad_(False)
    network[1].requires_grad_(False)
    _lists(
        check(summarize, network, check.draw.normal(1, 3)),
        ("", "Sequential", ((1, 4),), 0, 0),
        ("0", "Linear", ((1, 2),), 8, 2),
        ("1", "Linear", ((1, 4),), 12, 0),
        note="the weight of '0' and all of '1' are frozen",
    )


def test_summary_of_several_outputs(check: Check) -> None:
    """The tensors in tuples, lists and dictionaries, however deep, in order; there may be none at all."""
    batch = check.draw.size()
    x = check.draw.normal(batch, 3)

    def many(_: nn.Module, given: Tensor) -> Any:
        return given, {"logits": given[:, :1], "more": [given[0], (given.sum(), None)], "loss": 0.5}

    def shapes(module: nn.Module, given: Any) -> Any:
        return {"first": given[0][:2], "second": given[0][1]}

    network = nn.Sequential(Does(many), Does(shapes), Does(lambda *_: None))
    _lists(
        check(summarize, network, x),
        ("", "Sequential", (), 0),
        ("0", "Does", ((batch, 3), (batch, 1), (3,), ()), 0),
        ("1", "Does", ((2, 3), (3,)), 0),
        ("2", "Does", (), 0),
        note="'0' gives a tensor, and a dictionary of a tensor, a list and a number; '1' a dictionary; '2' None",
    )
    length, size = check.draw.size(), check.draw.size()
    _lists(
        check(summarize, nn.LSTM(3, size), check.draw.normal(length, batch, 3)),
        ("", "LSTM", ((length, batch, size), (1, batch, size), (1, batch, size)), 4 * size * (3 + size + 2)),
    )


def test_summary_of_what_is_not_called(check: Check) -> None:
    """Modules that were never called are listed without outputs: unused layers, and lists of layers."""
    _lists(
        check(summarize, Branches(), check.draw.normal(2, 3)),
        ("", "Branches", ((2, 2),), 0),
        ("unused", "Linear", None, 24),
        ("layers", "ModuleList", None, 0),
        ("layers.0", "Linear", None, 8),
        ("layers.1", "Linear", ((2, 2),), 6),
        note="only layers.1 is called",
    )


def test_summary_edges(check: Check) -> None:
    """A single layer, several inputs, float64, a scalar output, a batch of one in front of a batch norm."""
    one, other = check.draw.normal(4, 2, dtype=torch.float64), check.draw.normal(4, 3, dtype=torch.float64)
    bilinear = nn.Bilinear(2, 3, 5).double()
    _lists(check(summarize, bilinear, one, other), ("", "Bilinear", ((4, 5),), 35))
    _lists(check(summarize, nn.MSELoss(), one, one + 1), ("", "MSELoss", ((),), 0))
    _lists(check(summarize, nn.BatchNorm1d(3), check.draw.normal(1, 3)), ("", "BatchNorm1d", ((1, 3),), 6))


def _hooks(network: nn.Module) -> dict[str, list[Any]]:
    """The hooks on each module, and those for all modules."""
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks")
    found = {
        f"{name!r}": [hook for kind in kinds for hook in getattr(module, kind).values()]
        + [key for key in ("forward", "__call__") if key in vars(module)]  # a method replaced is a hook as well
        for name, module in network.named_modules()
    }
    everywhere = vars(nn.modules.module)
    found["all modules"] = [hook for kind in kinds for hook in everywhere[f"_global{kind}"].values()]
    return found


def _left_as_found(check: Check, call: str, before: dict[str, list[Any]], after: dict[str, list[Any]]) -> None:
    """No hook has been added or removed."""
    wrong = [name for name in before if before[name] != after[name]]
    check.that(
        not wrong,
        call=f"the hooks after {call}",
        got=", ".join(f"{len(after[name])} on {name}" for name in wrong),
        expected=", ".join(f"{len(before[name])} on {name}" for name in wrong) + ", as before",
    )


def test_hooks_are_removed(check: Check) -> None:
    """The network's hooks are afterwards those that it had before, and no others."""
    network = nn.Sequential(nn.Linear(3, 2), nn.Sequential(nn.ReLU()))
    network[1].register_forward_hook(lambda *_: None)
    before = _hooks(network)
    answer = check(summarize, network, check.draw.normal(2, 3))
    if not answer.failed:
        _left_as_found(check, answer.call, before, _hooks(network))


def _modes(network: nn.Module) -> dict[str, str]:
    return {name: "training" if module.training else "evaluation" for name, module in network.named_modules()}


def _modes_as_found(check: Check, call: str, before: dict[str, str], after: dict[str, str]) -> None:
    """Each module is in the mode in which it was."""
    wrong = [name for name in before if after[name] != before[name]]
    check.that(
        not wrong,
        call=f"the modes after {call}",
        got=", ".join(f"{name!r} in {after[name]}" for name in wrong),
        expected=", ".join(f"{name!r} in {before[name]}" for name in wrong) + ", as before",
    )


def _mixed(check: Check) -> nn.Sequential:
    """A network in training, but for some parts of it, at random."""
    norm, dropout, head = nn.BatchNorm1d(2), nn.Dropout(0.5), nn.Linear(2, 2)
    inner = nn.Sequential(norm, dropout)
    inner.training, norm.training = check.draw.booleans(2).tolist()
    head.training = False
    return nn.Sequential(nn.Linear(3, 2), inner, head)


def test_modes_are_put_back(check: Check) -> None:
    """Each module is afterwards in the mode, training or evaluation, in which it was before."""
    for training in (True, False):
        network = _mixed(check)
        network.training = training
        before = _modes(network)
        answer = check(summarize, network, check.draw.normal(2, 3))
        if not answer.failed:
            _modes_as_found(check, answer.call, before, _modes(network))


def test_network_runs_as_in_use(check: Check) -> None:
    """While it runs, every module is in evaluation mode and gradients are off."""
    seen: list[str] = []

    def look(module: nn.Module, given: Any) -> Any:
        mode = "training" if module.training else "evaluation"
        seen.append(f"{mode} mode, gradients {'on' if torch.is_grad_enabled() else 'off'}")
        return given

    network = nn.Sequential(Does(look), nn.Sequential(Does(look)))
    answer = check(summarize, network, check.draw.normal(2, 3))
    answer.satisfies(
        set(seen) == {"evaluation mode, gradients off"},
        got=f"ran in {' and in '.join(sorted(set(seen)))}" if seen else "never ran",
        expected="evaluation mode, gradients off",
    )


def test_network_stays_as_it_is(check: Check) -> None:
    """Parameters, running statistics and gradients are afterwards what they were before."""
    network = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    for parameter in network.parameters():
        parameter.grad = check.draw.normal(*parameter.shape)
    tensors = {**network.state_dict(), **{f"the gradient of {name}": p.grad for name, p in network.named_parameters()}}
    before = {name: tensor.clone() for name, tensor in tensors.items() if tensor is not None}
    answer = check(summarize, network, check.draw.normal(5, 3) + 1)
    after = {**network.state_dict(), **{f"the gradient of {name}": p.grad for name, p in network.named_parameters()}}
    changed = [name for name, tensor in before.items() if after[name] is None or not torch.equal(after[name], tensor)]
    answer.satisfies(
        not changed, got=f"changed: {', '.join(changed)}", expected="every parameter, buffer and gradient as it was"
    )


def test_put_back_after_an_error(check: Check) -> None:
    """An error in the forward pass comes through unchanged, and hooks and modes are put back all the same."""

    def fail(_: nn.Module, given: Any) -> Any:
        raise ArithmeticError("a made-up error")

    network = nn.Sequential(nn.Linear(3, 2), Does(fail), nn.Dropout())
    network[2].eval()
    hooks, modes = _hooks(network), _modes(network)
    check.raises(ArithmeticError, summarize, network, check.draw.normal(2, 3), naming="a made-up error")
    _left_as_found(check, "a forward pass that raised", hooks, _hooks(network))
    _modes_as_found(check, "a forward pass that raised", modes, _modes(network))


def _made(summary: Any, layer: Any, rows: list[Any]) -> Any:
    """A summary with these rows."""
    return summary(tuple(layer(*row) for row in rows))


def _canonical(line: str) -> str:
    """A line of a table with one space around each cell; in a delimiter row, three hyphens (`:---` is the default)."""
    if not line.strip().startswith("|"):
        return line.rstrip()
    cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip())[1:]]
    if all(re.fullmatch(r":?-+:?", cell) for cell in cells[:-1]):
        cells = [re.sub("-+", "---", cell if cell.endswith(":") else cell.lstrip(":")) for cell in cells]
    return " | ".join(["", *cells]).strip()


def _check_markdown(check: Check, rows: list[Any], *expected: str) -> None:
    """The summary of these rows, line by line."""
    summary = check.run("Summary(...)", lambda: _made(Summary, Layer, rows)).value
    answer = check.run(f"to_markdown of a summary of {len(rows)} layers", lambda: to_markdown(summary))
    text = answer.value
    if not isinstance(text, str):
        answer.satisfies(False, got=describe(text), expected="a text")
        return
    head = ["| Layer | Type | Output shape | Parameters |", "| --- | --- | --- | ---: |"]
    wanted = [*head, *expected]
    lines = [_canonical(line) for line in text.strip().splitlines()]
    place = next(
        (i for i, (mine, right) in enumerate(zip(lines, wanted, strict=False)) if mine != right),
        min(len(lines), len(wanted)),
    )
    row = rows[place - len(head)] if len(head) <= place < len(head) + len(rows) else None
    answer.satisfies(
        lines == wanted,
        got=f"line {place + 1}: {lines[place] or 'empty'}" if place < len(lines) else f"no line {place + 1}",
        expected=((wanted[place] or "an empty line") if place < len(wanted) else f"no more than {len(wanted)} lines")
        + (f" (for {_in_words(row)})" if row else ""),
    )


def test_markdown_by_hand(check: Check) -> None:
    """A header, a delimiter row, a row for each layer, an empty line and the totals."""
    _check_markdown(
        check,
        [("", "Sequential", ((4, 2),), 0, 0), ("0", "Linear", ((4, 2),), 8, 6), ("1.act", "ReLU", ((4, 2),), 0, 0)],
        "|  | Sequential | (4, 2) | 0 |",
        "| `0` | Linear | (4, 2) | 8 |",
        "| `1.act` | ReLU | (4, 2) | 0 |",
        "",
        "8 parameters, 6 of them trainable",
    )


def test_markdown_of_outputs(check: Check) -> None:
    """Several shapes in one cell, a vector's and a scalar's; no tensor at all; a module that was never called."""
    _check_markdown(
        check,
        [
            ("lstm", "LSTM", ((5, 2, 4), (4,), ()), 3, 3),
            ("print", "Print", (), 0, 0),
            ("layers", "ModuleList", None, 0, 0),
        ],
        "| `lstm` | LSTM | (5, 2, 4), (4,), () | 3 |",
        "| `print` | Print | no tensor | 0 |",
        "| `layers` | ModuleList | not called | 0 |",
        "",
        "3 parameters, 3 of them trainable",
    )


def test_markdown_of_large_numbers(check: Check) -> None:
    """Numbers have a comma between thousands, and the totals add up."""
    one, other, frozen = (check.draw.integer(1000, 10**8) for _ in range(3))
    _check_markdown(
        check,
        [("wte", "Embedding", ((1, 7, 9),), one, one), ("head", "Linear", ((1, 7, 9),), other + frozen, other)],
        f"| `wte` | Embedding | (1, 7, 9) | {one:,} |",
        f"| `head` | Linear | (1, 7, 9) | {other + frozen:,} |",
        "",
        f"{one + other + frozen:,} parameters, {one + other:,} of them trainable",
    )


def test_markdown_escapes(check: Check) -> None:
    """A | in a name or a type does not end its cell."""
    _check_markdown(
        check,
        [("a|b", "Either|Or", ((2,),), 1, 0)],
        r"| `a\|b` | Either\|Or | (2,) | 1 |",
        "",
        "1 parameters, 0 of them trainable",
    )
