"""Pair by pair, as the contract says it, in plain loops without types; the figure is a grid made with a GridSpec."""

import torch


def _refuse_below(least, **numbers):
    for name, number in numbers.items():
        if number < least:
            raise ValueError(f"{name}={number}, which is less than {least}")


def _by_pairs(length, past, device, sees):
    mask = torch.zeros(length, past + length, dtype=torch.bool)
    for i in range(length):
        for j in range(past + i + 1):
            mask[i, j] = sees(past + i - j)
    return mask.to(device)


def sliding_window_mask(length, window, *, past=0, device=None):
    _refuse_below(1, window=window)
    _refuse_below(0, length=length, past=past)
    return _by_pairs(length, past, device, lambda steps: steps < window)


def strided_mask(length, stride, *, past=0, device=None):
    _refuse_below(1, stride=stride)
    _refuse_below(0, length=length, past=past)
    return _by_pairs(length, past, device, lambda steps: steps < stride or steps % stride == 0)


def prefix_lm_mask(length, prefix, *, device=None):
    if torch.is_tensor(prefix):
        if prefix.ndim != 1:
            raise ValueError(f"what prefix is this, of shape {tuple(prefix.shape)}?")
        return torch.stack([prefix_lm_mask(length, p, device=prefix.device) for p in prefix.tolist()]).unsqueeze(1)
    if prefix < 0 or prefix > length:
        raise ValueError(f"a prefix of {prefix} in {length} positions")
    mask = torch.ones(length, length, dtype=torch.bool, device=device).tril()
    mask[:, :prefix] = True
    return mask


def alibi_slopes(num_heads, *, dtype=torch.float32, device=None):
    _refuse_below(1, num_heads=num_heads)
    m = 1
    while 2 * m <= num_heads:
        m *= 2
    slopes, step = [], 2 ** (-8 / m)
    for _ in range(m):
        slopes.append(slopes[-1] * step if slopes else step)
    if num_heads > m:
        twice = alibi_slopes(2 * m, dtype=torch.float64)
        slopes += twice[::2][: num_heads - m].tolist()
    return torch.tensor(slopes, dtype=dtype, device=device)


def alibi_bias(num_heads, length, *, past=0, dtype=torch.float32, device=None):
    slopes = alibi_slopes(num_heads, dtype=dtype, device=device).tolist()
    _refuse_below(0, length=length, past=past)
    bias = torch.empty(num_heads, length, past + length, dtype=dtype, device=device)
    for head, slope in enumerate(slopes):
        for i in range(length):
            for j in range(past + length):
                bias[head, i, j] = -slope * abs(past + i - j)
    return bias


def plot_attention(weights, tokens=None, *, mask=None):
    if weights.ndim == 2:
        weights = weights.unsqueeze(0)
    if weights.ndim != 3:
        raise ValueError(f"(H, T, S) or (T, S), not {tuple(weights.shape)}")
    H, T, S = weights.shape
    if tokens is not None and len(tokens) != S:
        raise ValueError(f"{len(tokens)} tokens for {S} keys")
    import numpy as np
    from matplotlib import colormaps
    from matplotlib.figure import Figure
    from matplotlib.gridspec import GridSpec

    values = np.array(weights.detach().double().tolist()).reshape(H, T, S)
    hidden = values == 0 if mask is None else np.broadcast_to(~np.array(mask.tolist()), values.shape)
    columns = min(H, 3)
    rows = (H + columns - 1) // columns
    inches = max(4.0, min(7.5, 0.25 * S))
    figure = Figure(figsize=(inches * columns + 2, inches * rows), constrained_layout=True)
    grid = GridSpec(rows, columns, figure=figure)
    colours = colormaps["magma"].copy()
    colours.set_bad((0.4, 0.9, 0.4))
    every = []
    for h in range(H):
        ax = figure.add_subplot(grid[h // columns, h % columns])
        picture = ax.imshow(np.ma.masked_array(values[h], hidden[h]), cmap=colours, vmin=0, vmax=values.max())
        ax.set_title("head %d" % h)
        ax.set_xlabel("key")
        ax.set_ylabel("query")
        if tokens is None:
            ax.set_xticks(np.arange(0, S, max(1, S // 8)))
            ax.set_yticks(np.arange(0, T, max(1, T // 8)))
        else:
            ax.set_xticks(np.arange(S))
            ax.set_yticks(np.arange(T))
            for axis, labels in ((ax.xaxis, tokens), (ax.yaxis, tokens[S - T :])):
                axis.set_ticklabels([str(label) for label in labels], parse_math=False)
            for label in ax.get_xticklabels():
                label.set_rotation(60)
        every.append(ax)
    figure.colorbar(picture, ax=every, location="bottom").set_label("weight")
    return figure
