"""A watcher object whose method is the hook, a context manager made of a generator, inference mode, padded cells."""

import re
from collections import ChainMap
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Layer:
    name: str
    type: str
    outputs: tuple[Shape, ...] | None
    parameters: int
    trainable: int


@dataclass(frozen=True)
class Summary:
    layers: tuple[Layer, ...]

    @property
    def parameters(self) -> int:
        return self._total("parameters")

    @property
    def trainable(self) -> int:
        return self._total("trainable")

    def _total(self, column: str) -> int:
        return sum(getattr(layer, column) for layer in self.layers)


class Watcher:
    def __init__(self, module: nn.Module) -> None:
        self.names = {each: name for name, each in module.named_modules()}
        self.outputs: dict[str, tuple[Shape, ...]] = {}

    def __call__(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        self.outputs[self.names[module]] = self.shapes(output)

    @classmethod
    def shapes(cls, output: Any) -> tuple[Shape, ...]:
        match output:
            case torch.Tensor():
                return (tuple(output.size()),)
            case Mapping():
                return cls.shapes([*output.values()])
            case [*entries]:
                return sum(map(cls.shapes, entries), ())
        return ()

    @contextmanager
    def watching(self) -> Generator[None, None, None]:
        modes = {module: module.training for module in self.names}
        handles = [module.register_forward_hook(self) for module in self.names]
        for module in self.names:
            module.training = False
        try:
            yield
        finally:
            for module, mode in modes.items():
                module.training = mode
            while handles:
                handles.pop().remove()


def _held(module: nn.Module) -> dict[int, nn.Parameter]:
    return {id(parameter): parameter for parameter in module.parameters(recurse=False)}


def summarize(module: nn.Module, *inputs: Any) -> Summary:
    watcher = Watcher(module)
    with watcher.watching(), torch.inference_mode():
        module(*inputs)
    # Of several modules that hold a parameter, the first in the order of names is its owner.
    owners = ChainMap(*({key: name for key in _held(each)} for each, name in watcher.names.items()))

    def row(each: nn.Module, name: str) -> Layer:
        own = [parameter for key, parameter in _held(each).items() if owners[key] == name]
        total, frozen = (sum(map(torch.numel, some)) for some in (own, [p for p in own if not p.requires_grad]))
        return Layer(name, type(each).__name__, watcher.outputs.get(name), total, total - frozen)

    return Summary(tuple(row(each, name) for each, name in watcher.names.items()))


def _cells(layer: Layer) -> Iterable[str]:
    safe = [re.sub(r"\|", r"\\|", text) for text in (layer.name, layer.type)]
    yield f"`{safe[0]}`" if safe[0] else ""
    yield safe[1]
    match layer.outputs:
        case None:
            yield "not called"
        case ():
            yield "no tensor"
        case shapes:
            yield repr(list(shapes))[1:-1]
    yield f"{layer.parameters:,d}"


def to_markdown(summary: Summary) -> str:
    table = [("Layer", "Type", "Output shape", "Parameters"), *map(tuple, map(_cells, summary.layers))]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    table.insert(1, tuple("-" * width for width in widths[:-1]) + ("-" * (widths[-1] - 1) + ":",))
    lines = ["| " + " | ".join(map(str.ljust, row, widths)) + " |" for row in table]
    return "\n".join([*lines, "", f"{summary.parameters:,d} parameters, {summary.trainable:,d} of them trainable"])
