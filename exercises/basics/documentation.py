"""A network documents itself: a table of its layers, as a model card has it.

`summarize` sends inputs through the network once and watches each module by a *forward hook*: a function that the
module calls after each of its forward passes, with itself, its inputs and its output.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Layer:
    """One module of the network: a row of the table."""

    name: str  # its path, as `named_modules` gives it: "encoder.0"; empty for the network itself
    type: str  # the name of its class
    outputs: tuple[tuple[int, ...], ...] | None  # the shape of each tensor it returned; None if it was never called
    parameters: int  # how many numbers it holds itself, without its children's
    trainable: int  # how many of those are not frozen


@dataclass(frozen=True)
class Summary:
    """The table: the network itself first, then the modules inside it."""

    layers: tuple[Layer, ...]

    @property
    def parameters(self) -> int:
        """How many numbers the network has in all."""
        return sum(layer.parameters for layer in self.layers)

    @property
    def trainable(self) -> int:
        """How many of them training changes."""
        return sum(layer.trainable for layer in self.layers)


def summarize(module: nn.Module, *inputs: Any) -> Summary:
    """Run a network once, and list its modules with what they gave and what they hold.

    The network runs as it does when it is used: in evaluation mode and without gradients, so nothing is dropped and no
    running statistics move. It is left as it was found, also where its forward pass raises: with the hooks that it had
    and no others, and each module in the mode, training or evaluation, that it was in.

    Args:
        module: the network; called as ``module(*inputs)``.
        inputs: its inputs.

    Returns:
        One `Layer` for each module, in the order of `module.named_modules()`, with

        - `outputs`: the shape of every tensor in what it returned, in order, however deep in tuples, lists and
          dictionaries; empty if there is none among it (it returned None, say). Of several calls, the last one's.
          None for a module that was never called: one that is not used, or only holds others, as `nn.ModuleList` does.
        - `parameters` and `trainable`: the numbers in the parameters that it holds directly. Each parameter is counted
          once, at the first module in the table that holds it, so the columns add up to the network's totals also
          where modules share weights. A module that stands in several places has one row, under its first name.

    Raises:
        Exception: whatever the network's forward pass raises, unchanged.

    Example:
        >>> for layer in summarize(nn.Sequential(nn.Linear(3, 2), nn.ReLU()), torch.zeros(4, 3)).layers:
        ...     print(layer)
        Layer(name='', type='Sequential', outputs=((4, 2),), parameters=0, trainable=0)
        Layer(name='0', type='Linear', outputs=((4, 2),), parameters=8, trainable=8)
        Layer(name='1', type='ReLU', outputs=((4, 2),), parameters=0, trainable=0)
    """
    raise NotImplementedError("basics/documentation: summarize")


def to_markdown(summary: Summary) -> str:
    r"""Write a summary as a Markdown table, and the totals under it.

    Args:
        summary: what `summarize` gave.

    Returns:
        Lines parted by newlines: a header, a delimiter row that aligns the numbers to the right, a row for each layer,
        an empty line, and the totals, as in the example. Cells may be padded with spaces. In them are

        - the name between backticks; nothing for the network itself, whose name is empty.
        - the type.
        - the shapes as Python writes tuples, parted by a comma and a space, a scalar's as ``()``; "no tensor" for
          empty `outputs`, "not called" for None.
        - the number of parameters, with a comma between thousands, as in the totals.

        A ``|`` in a name or type is written ``\|``: it would end the cell.

    Example:
        >>> print(to_markdown(summarize(nn.Sequential(nn.Linear(99, 20), nn.ReLU()), torch.zeros(4, 99))))
        | Layer | Type | Output shape | Parameters |
        | --- | --- | --- | ---: |
        |  | Sequential | (4, 20) | 0 |
        | `0` | Linear | (4, 20) | 2,000 |
        | `1` | ReLU | (4, 20) | 0 |
        <BLANKLINE>
        2,000 parameters, 2,000 of them trainable
    """
    raise NotImplementedError("basics/documentation: to_markdown")
