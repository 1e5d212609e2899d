"""Patterns of attention: masks and biases that let a query see less than everything before it, and a picture of them.

A mask is boolean and True where a query *may* attend, as in `attention/masking`. A bias is added to the scores before
the softmax, as the `bias` of `attention/scaled_dot_product`. Both end in the axes (query, key).

Symbols: B sequences in a batch, H heads, T queries, S = past + T keys. Query i stands at position i + past, key j at
position j.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .masking import causal_mask, padding_mask

if TYPE_CHECKING:  # matplotlib takes a third of a second to import: only who draws pays for it
    from matplotlib.figure import Figure


def sliding_window_mask(length: int, window: int, *, past: int = 0, device: torch.device | None = None) -> Tensor:
    """Let each position see the last `window` positions, its own among them, and nothing after it.

    The causal form of the window in Longformer (Beltagy et al. 2020, section 3.1), used by Mistral 7B (Jiang et al.
    2023, section 2). Through k layers of it a token hears of what lies up to k * (window - 1) positions back.

    Args:
        length: number of queries T, at least 0.
        window: how many keys a query sees at most, at least 1.
        past: number of keys before the first query, at least 0, as in `causal_mask`.
        device: where the mask is made.

    Returns:
        Booleans (T, past + T), True where key j is among the `window` last positions up to i + past.

    Raises:
        ValueError: `window` is less than 1, or `length` or `past` is negative; the message names which, and its value.

    Example:
        >>> sliding_window_mask(4, 2)
        tensor([[ True, False, False, False],
                [ True,  True, False, False],
                [False,  True,  True, False],
                [False, False,  True,  True]])
    """
    if window < 1:
        raise ValueError(f"window must be at least 1, got {window}")
    distance = _distance(length, past, device)
    return (distance >= 0) & (distance < window)


def strided_mask(length: int, stride: int, *, past: int = 0, device: torch.device | None = None) -> Tensor:
    """Let each position see the last `stride` positions, and before them every `stride`-th, counted back from it.

    The strided pattern of the Sparse Transformer, both of its parts in one mask (Child et al. 2019, section 4.3). Two
    layers of it join any position to all before it; with a stride near sqrt(T), each row has only about 2 * sqrt(T)
    keys.

    Args:
        length: number of queries T, at least 0.
        stride: length of the local part, and step of the distant one, at least 1.
        past: number of keys before the first query, at least 0, as in `causal_mask`.
        device: where the mask is made.

    Returns:
        Booleans (T, past + T), True where key j is not after position i + past, and either fewer than `stride`
        positions before it or a whole multiple of `stride` before it.

    Raises:
        ValueError: `stride` is less than 1, or `length` or `past` is negative; the message names which, and its value.

    Example:
        >>> strided_mask(5, 2)
        tensor([[ True, False, False, False, False],
                [ True,  True, False, False, False],
                [ True,  True,  True, False, False],
                [False,  True,  True,  True, False],
                [ True, False,  True,  True,  True]])
    """
    if stride < 1:
        raise ValueError(f"stride must be at least 1, got {stride}")
    distance = _distance(length, past, device)
    return (distance >= 0) & ((distance < stride) | (distance % stride == 0))


def prefix_lm_mask(length: int, prefix: int | Tensor, *, device: torch.device | None = None) -> Tensor:
    """Let every position see the whole prefix, and what follows the prefix causally.

    The prefix is read in both directions, as by an encoder; the rest is written left to right (Raffel et al. 2020,
    section 3.2.1).

    Args:
        length: number of positions T, at least 0.
        prefix: how many positions the prefix has, from 0 to T; or one such number for each sequence, whole
            numbers (B,).
        device: where the mask is made, if `prefix` is one number; otherwise it is made where `prefix` is.

    Returns:
        Booleans (T, T), True where j <= i or j < prefix; for a `prefix` (B,), booleans (B, 1, T, T), whose axis of
        size 1 stands for every head.

    Raises:
        ValueError: a prefix is negative or greater than `length`, or `prefix` has more than one axis, or is a tensor
            without any; the message names `prefix`, and gives the value or the shape.

    Example:
        >>> prefix_lm_mask(4, 2)
        tensor([[ True,  True, False, False],
                [ True,  True, False, False],
                [ True,  True,  True, False],
                [ True,  True,  True,  True]])
    """
    prefixes = prefix if isinstance(prefix, Tensor) else torch.tensor([prefix], device=device)
    if prefixes.dim() != 1:
        raise ValueError(f"prefix must be one number, or have one axis (B,), got shape {tuple(prefixes.shape)}")
    unfit = prefixes[(prefixes < 0) | (prefixes > length)]
    if len(unfit):
        raise ValueError(f"prefix must be from 0 to the length {length}, got {int(unfit[0])}")
    # The keys of a prefix are hidden from nobody, just as the real tokens before a padding are.
    mask = causal_mask(length, device=prefixes.device) | padding_mask(prefixes, length)  # (B, 1, T, T)
    return mask if isinstance(prefix, Tensor) else mask[0, 0]


def alibi_slopes(num_heads: int, *, dtype: torch.dtype = torch.float32, device: torch.device | None = None) -> Tensor:
    """How steeply each head's attention falls with distance in ALiBi (Press et al. 2022, section 3).

    For n heads, n a power of two, they are the powers of 2^(-8/n), from the first to the n-th: 1/2 to 1/256 for 8
    heads. For another n, those of the greatest power of two m < n come first; the remaining n - m are taken from
    the sequence of 2m heads: its first, third, fifth and so on, which lie between those there already (the rule of
    the authors' own code).

    Args:
        num_heads: number of heads H, at least 1.
        dtype: floating dtype of the slopes.
        device: where they are made.

    Returns:
        Slopes (H,), each above 0 and below 1.

    Raises:
        ValueError: `num_heads` is less than 1; the message names it and its value.

    Example:
        >>> alibi_slopes(3)
        tensor([0.0625, 0.0039, 0.2500])
    """
    if num_heads < 1:
        raise ValueError(f"num_heads must be at least 1, got {num_heads}")
    power = 1 << (num_heads.bit_length() - 1)  # the greatest power of two up to num_heads
    slopes = [2.0 ** (-8 * k / power) for k in range(1, power + 1)]
    between = [2.0 ** (-8 * (k - 0.5) / power) for k in range(1, num_heads - power + 1)]
    return torch.tensor(slopes + between, dtype=dtype, device=device)


def alibi_bias(
    num_heads: int,
    length: int,
    *,
    past: int = 0,
    dtype: torch.dtype = torch.float32,
    device: torch.device | None = None,
) -> Tensor:
    """Lower each score in proportion to the distance of its key, in each head by its own slope (Press et al. 2022).

    It takes the place of position embeddings. It hides nothing: causal attention needs a mask besides. Keys after the
    query, which such a mask hides, are lowered by their distance too, so that the bias serves an encoder as well.

    Args:
        num_heads: number of heads H, at least 1.
        length: number of queries T, at least 0.
        past: number of keys before the first query, at least 0, as in `causal_mask`.
        dtype: floating dtype of the bias.
        device: where it is made.

    Returns:
        Numbers (H, T, past + T): minus the head's slope times the distance between position i + past and position j.

    Raises:
        ValueError: `num_heads` is less than 1, or `length` or `past` is negative; the message names which, and its
            value.

    Example:
        >>> alibi_bias(8, 3)[0]
        tensor([[ 0.0000, -0.5000, -1.0000],
                [-0.5000,  0.0000, -0.5000],
                [-1.0000, -0.5000,  0.0000]])
    """
    slopes = alibi_slopes(num_heads, dtype=dtype, device=device)
    return slopes[:, None, None] * -_distance(length, past, device).abs()  # (H, 1, 1) * (T, S)


def plot_attention(weights: Tensor, tokens: Sequence[str] | None = None, *, mask: Tensor | None = None) -> "Figure":
    """Draw attention as heat maps: for each head, a square for each query (row) and key (column).

    The figure is matplotlib's `matplotlib.figure.Figure`, made without `pyplot`: pyplot keeps every figure it makes
    in a global list and may want a display. Import matplotlib inside the function; it is slow to import.

    Args:
        weights: attention weights (H, T, S), or (T, S) for one head, of a floating dtype, on any device; they may
            require a gradient.
        tokens: labels of the S keys; the queries are the last T of them. They are shown as they are: a dollar sign
            begins no formula. If None, positions are numbered, by whole numbers.
        mask: booleans that broadcast to the shape of `weights`, True where a query may attend; if None, the pairs
            of weight exactly 0 are taken for hidden.

    Returns:
        A figure with H + 1 axes. The first H hold one image each (`Axes.imshow`), of a head's weights (T, S), the
        first query at the top; their title is "head 0", "head 1" and so on, their x axis is called "key", their y
        axis "query", and their ticks show the tokens. All have the same colour scale, from 0 to the greatest weight,
        and the last axes are its colour bar, labelled "weight". Hidden pairs are masked in the image's array (NaN, or
        a NumPy mask) and have a colour that no weight has. It can be read: once drawn, the heads' axes are of one
        size, an inch at least in either direction, and a tenth of an inch for each of up to 40 keys, but never more
        than 10 inches; and nothing reaches beyond the figure.

    Raises:
        ValueError: `weights` has neither two nor three axes, or `tokens` are not S; the message gives the shape, or
            both numbers.

    Example:
        >>> figure = plot_attention(torch.tensor([[1.0, 0.0], [0.25, 0.75]]), ["to", "be"])
        >>> [axes.get_title() for axes in figure.axes]
        ['head 0', '']
    """
    if weights.dim() not in (2, 3):
        raise ValueError(f"weights must be (H, T, S) or (T, S), got shape {tuple(weights.shape)}")
    queries, keys = weights.shape[-2:]
    if tokens is not None and len(tokens) != keys:
        raise ValueError(f"tokens must be as many as the {keys} keys, got {len(tokens)}")
    from matplotlib.figure import Figure

    hidden = weights == 0 if mask is None else ~mask
    heads = weights.detach().masked_fill(hidden, float("nan")).float().cpu().reshape(-1, queries, keys)
    side = min(2.0 + 0.2 * keys, 8.0)  # of a head, in inches, with its labels
    figure = Figure(figsize=(side * len(heads), side), layout="constrained")
    panels = figure.subplots(1, len(heads), squeeze=False)[0]
    for number, axes in enumerate(panels):
        # A NaN is not drawn: the white ground shows, which is no colour of a weight.
        image = axes.imshow(heads[number].numpy(), vmin=0.0, vmax=float(weights.max()))
        axes.set(title=f"head {number}", xlabel="key", ylabel="query")
        if tokens is None:
            axes.locator_params(integer=True)
        else:
            axes.set_xticks(range(keys), labels=tokens, rotation="vertical", parse_math=False)
            axes.set_yticks(range(queries), labels=tokens[keys - queries :], parse_math=False)
    figure.colorbar(image, label="weight")
    return figure


def _distance(length: int, past: int, device: torch.device | None) -> Tensor:
    """How far key j lies before query i: (T, past + T), negative for what comes after it."""
    if length < 0:
        raise ValueError(f"length must be at least 0, got {length}")
    if past < 0:
        raise ValueError(f"past must be at least 0, got {past}")
    positions = torch.arange(past + length, device=device)
    return positions[past:, None] - positions
