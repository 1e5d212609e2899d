"""NumPy tables turned into tensors; patterns joined of simpler masks; log-spaced slopes; one helper class for a panel."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .masking import causal_mask, combine_masks


def sliding_window_mask(length: int, window: int, *, past: int = 0, device: torch.device | None = None) -> Tensor:
    """Causal, without what a causal mask of `window` positions earlier would see."""
    if not window >= 1:
        raise ValueError(f"window {window}: at least the token itself is seen")
    recent = causal_mask(length, past=past, device=device)
    return recent & recent.triu(past - window + 1)


def strided_mask(length: int, stride: int, *, past: int = 0, device: torch.device | None = None) -> Tensor:
    """Blocks of residues: positions whose difference is a multiple of the stride have the same remainder."""
    if not stride >= 1:
        raise ValueError(f"stride {stride}: one step at least")
    causal = causal_mask(length, past=past, device=device)
    remainder = np.arange(past + length) % stride
    same = torch.from_numpy(np.equal.outer(remainder[past:], remainder)).to(causal.device)
    far = combine_masks(causal, same)
    assert far is not None
    return far | sliding_window_mask(length, stride, past=past, device=device)


def prefix_lm_mask(length: int, prefix: int | Tensor, *, device: torch.device | None = None) -> Tensor:
    """The causal mask, or a column of the prefix."""
    one = not isinstance(prefix, Tensor)
    where = device if one else prefix.device
    numbers = np.array([prefix]) if one else prefix.cpu().numpy()
    if numbers.ndim != 1:
        raise ValueError(f"prefix has the shape {numbers.shape}, instead of one axis")
    if ((numbers < 0) | (numbers > length)).any():
        raise ValueError(f"every prefix must lie between 0 and {length}: {numbers.tolist()}")
    rows, columns = np.ogrid[:length, :length]
    table = (columns <= rows) | (columns < numbers[:, None, None, None])
    return torch.from_numpy(table[0, 0] if one else table).to(where)


def alibi_slopes(num_heads: int, *, dtype: torch.dtype = torch.float32, device: torch.device | None = None) -> Tensor:
    """Log-spaced, as the exponents are equally spaced."""
    if num_heads < 1:
        raise ValueError(f"num_heads cannot be {num_heads}")
    power = 2 ** math.floor(math.log2(num_heads))

    def regular(count: int) -> Tensor:
        return torch.logspace(-8 / count, -8, count, base=2.0, dtype=torch.float64)

    slopes = torch.cat([regular(power), regular(2 * power)[0::2][: num_heads - power]])
    return slopes.to(device=device, dtype=dtype)


def alibi_bias(
    num_heads: int,
    length: int,
    *,
    past: int = 0,
    dtype: torch.dtype = torch.float32,
    device: torch.device | None = None,
) -> Tensor:
    """The outer product of slopes and distances."""
    if length < 0 or past < 0:
        raise ValueError(f"neither may be negative: length={length}, past={past}")
    slopes = alibi_slopes(num_heads, dtype=torch.float64)
    distances = np.abs(np.subtract.outer(np.arange(length) + past, np.arange(past + length)))
    bias = -torch.einsum("h,ts->hts", slopes, torch.from_numpy(distances).double())
    return bias.to(device=device, dtype=dtype)


@dataclasses.dataclass
class _Panel:
    axes: Any
    name: str

    def draw(self, values: np.ndarray, highest: float) -> Any:
        self.axes.set_title(self.name)
        self.axes.set_xlabel("key")
        self.axes.set_ylabel("query")
        self.axes.set_facecolor("lightblue")  # what is NaN is not drawn
        return self.axes.imshow(values, vmin=0.0, vmax=highest, cmap="inferno", origin="upper", aspect="auto")

    def label(self, tokens: Sequence[str], length: int) -> None:
        self.axes.set_xticks(range(len(tokens)), tokens, rotation=45, ha="right", rotation_mode="anchor")
        self.axes.set_yticks(range(length), list(tokens)[-length:])
        for text in [*self.axes.get_xticklabels(), *self.axes.get_yticklabels()]:
            text.set_parse_math(False)


def plot_attention(weights: Tensor, tokens: Sequence[str] | None = None, *, mask: Tensor | None = None) -> Any:
    """A column of panels, one under the other."""
    shape = tuple(weights.shape)
    if len(shape) not in {2, 3}:
        raise ValueError(f"cannot draw weights of shape {shape}")
    length, keys = shape[-2:]
    if tokens is not None and len(tokens) != keys:
        raise ValueError(f"the number of tokens, {len(tokens)}, is not that of the keys, {keys}")
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    seen = (weights != 0) if mask is None else mask.expand_as(weights)
    table = np.where(seen.cpu().numpy(), weights.detach().cpu().float().numpy(), np.nan).reshape(-1, length, keys)
    figure = Figure(layout="constrained")
    figure.set_size_inches(float(np.clip(0.2 * keys, 2, 6)) + 3, 3.5 * len(table))
    drawn, images = [], []
    for number, head in enumerate(table):
        panel = _Panel(figure.add_subplot(len(table), 1, number + 1), f"head {number}")
        images.append(panel.draw(head, float(weights.detach().max())))
        if tokens is None:
            panel.axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            panel.axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        else:
            panel.label(tokens, length)
        drawn.append(panel.axes)
    figure.colorbar(images[-1], ax=drawn).ax.set_ylabel("weight")
    return figure
