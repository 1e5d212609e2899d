"""Without types: one hook for all modules of the program, try and finally, a list of cells for each line."""

from dataclasses import dataclass
from typing import Optional, Tuple

import torch


@dataclass(frozen=True)
class Layer:
    name: str
    type: str
    outputs: Optional[Tuple[Tuple[int, ...], ...]]
    parameters: int
    trainable: int


@dataclass(frozen=True)
class Summary:
    layers: Tuple[Layer, ...]

    @property
    def parameters(self):
        return sum([layer.parameters for layer in self.layers])

    @property
    def trainable(self):
        return sum([layer.trainable for layer in self.layers])


def collect(thing, shapes):
    if torch.is_tensor(thing):
        shapes.append(tuple(thing.shape))
    if isinstance(thing, (list, tuple)):
        for part in thing:
            collect(part, shapes)
    if isinstance(thing, dict):
        for key in thing:
            collect(thing[key], shapes)


def summarize(module, *inputs):
    seen = {}

    def hook(m, given, result):
        shapes = []
        collect(result, shapes)
        seen[id(m)] = tuple(shapes)

    old_modes = []
    for m in module.modules():
        old_modes.append((m, m.training))
    handle = torch.nn.modules.module.register_module_forward_hook(hook)
    try:
        module.eval()
        with torch.no_grad():
            module(*inputs)
    finally:
        handle.remove()
        for m, old in old_modes:
            m.training = old

    rows = []
    done = []
    for name, m in module.named_modules():
        count = 0
        free = 0
        for _, p in m.named_parameters(recurse=False):
            if id(p) in done:
                continue
            done.append(id(p))
            count += p.numel()
            if p.requires_grad:
                free += p.numel()
        rows.append(Layer(name, m.__class__.__name__, seen.get(id(m)), count, free))
    return Summary(tuple(rows))


def to_markdown(summary):
    table = [["Layer", "Type", "Output shape", "Parameters"], ["---", "---", "---", "---:"]]
    for layer in summary.layers:
        if layer.outputs is None:
            shape = "not called"
        elif len(layer.outputs) == 0:
            shape = "no tensor"
        else:
            shape = ", ".join([str(s) for s in layer.outputs])
        name = layer.name.replace("|", "\\|")
        if name != "":
            name = "`" + name + "`"
        table.append([name, layer.type.replace("|", "\\|"), shape, format(layer.parameters, ",")])
    text = ""
    for cells in table:
        text += "| " + " | ".join(cells) + " |\n"
    return text + "\n{:,} parameters, {:,} of them trainable\n".format(summary.parameters, summary.trainable)
