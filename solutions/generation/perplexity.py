"""Perplexity of a text longer than the model's context: a window slides along it, and every token is scored once.

Symbols: N tokens in the text, T in a window (`context_length`), B windows in a batch, V the size of the vocabulary.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ..basics.tensors import sliding_windows
from ..networks.losses import cross_entropy


def sliding_window_losses(
    model: Callable[[Tensor], Tensor],
    tokens: Tensor,
    *,
    context_length: int,
    stride: int | None = None,
    batch_size: int = 8,
) -> Tensor:
    """Measure how surprised a model is by each token of a text but the first, in nats.

    Windows of T tokens begin at 0, `stride`, 2 `stride` and so on, and the token after each of a window's tokens is
    its target, as in training. Where windows overlap, a target belongs to the first window that reaches it: the first
    window scores T targets, every later one its last `stride`, whose T - `stride` tokens before them are context. The
    last window ends where the text does, and is shorter where the numbers do not come out even; a text of no more than
    T targets is one window. (These are the windows of Hugging Face's documentation, "Perplexity of fixed-length
    models", whose `max_length` is T + 1: it counts the last target too.)

    Args:
        model: called with tokens, int64 (B, T), gives logits (B, T, V): at each position for the token after it. It
            may be any function. A module is put into evaluation mode, and afterwards, also after an error, it and each
            of its parts are in the mode in which they were. No gradients are recorded.
        tokens: (N,), whole numbers of any integer dtype, on the device of the model; it is not changed.
        context_length: T, at least 1; no more than the model can read.
        stride: from 1 to T; T if None. The smaller, the more context each target has, and the more there is to do:
            with T, windows do not overlap; with 1, each target behind the first T has T tokens before it.
        batch_size: how many windows the model reads at once, at least 1; the first, and a shorter last one, may go
            alone. It changes nothing but the time and the memory needed.

    Returns:
        (N - 1,): the loss -log p of the tokens 1 to N - 1, in their order; in the dtype of the logits, but half
        precision is brought up to float32 before the softmax.

    Raises:
        ValueError: `tokens` have not one axis (the message gives their shape), or there are fewer than two (it gives
            their number); `context_length`, `stride` or `batch_size` is out of its range (it names which, and its
            value); the logits are not (B, T, V) (it gives their shape), or a target is not below V (it gives both).
        TypeError: `tokens` are no whole numbers; the message gives their dtype.

    Example:
        >>> def model(tokens):  # knows two tokens, and takes both for equally likely
        ...     return torch.zeros(*tokens.shape, 2)
        >>> sliding_window_losses(model, torch.tensor([0, 1, 1, 0]), context_length=2, stride=1)  # ln 2 each
        tensor([0.6931, 0.6931, 0.6931])
    """
    stride = context_length if stride is None else stride
    _check(tokens, context_length, stride, batch_size)
    tokens = tokens.long()
    inputs, targets = tokens[:-1], tokens[1:]  # (N - 1,)
    length = min(context_length, len(inputs))
    windows, answers = (sliding_windows(row, length, stride) for row in (inputs, targets))  # (windows, T)
    with _evaluating(model), torch.no_grad():
        losses = [_last_losses(model, windows[:1], answers[:1], length)]  # nobody has scored any of these before
        for start in range(1, len(windows), batch_size):
            batch = slice(start, start + batch_size)
            losses.append(_last_losses(model, windows[batch], answers[batch], stride))
        begin = len(windows) * stride
        left = len(inputs) - (begin - stride + length)  # targets beyond the last whole window
        if left:
            losses.append(_last_losses(model, inputs[None, begin:], targets[None, begin:], left))
    return torch.cat(losses)


def perplexity(
    model: Callable[[Tensor], Tensor],
    tokens: Tensor,
    *,
    context_length: int,
    stride: int | None = None,
    batch_size: int = 8,
) -> float:
    """Measure among how many equally likely tokens a model would be as undecided as it is in this text.

    The exponential of the mean of `sliding_window_losses` over all N - 1 targets (Jelinek et al. 1977). The mean is
    taken in float64.

    Args:
        model: as of `sliding_window_losses`.
        tokens: likewise.
        context_length: likewise.
        stride: likewise.
        batch_size: likewise.

    Returns:
        At least 1; infinite where the text holds a token of probability 0.

    Raises:
        ValueError, TypeError: as `sliding_window_losses`.

    Example:
        >>> def model(tokens):  # sure that a token comes twice as often as the other
        ...     return torch.tensor([2.0, 1.0]).log().expand(*tokens.shape, 2)
        >>> perplexity(model, torch.tensor([0, 0, 1, 0]), context_length=8)  # (3/2 · 3 · 3/2) ** (1/3)
        1.8898816...
    """
    losses = sliding_window_losses(model, tokens, context_length=context_length, stride=stride, batch_size=batch_size)
    return losses.double().mean().exp().item()


def _last_losses(model: Callable[[Tensor], Tensor], windows: Tensor, targets: Tensor, count: int) -> Tensor:
    """The losses of the last `count` targets of each window, one window's after the other's."""
    logits = model(windows.contiguous())  # (B, T, V); windows share memory, and not every model can read that
    if logits.shape[:2] != windows.shape:
        raise ValueError(f"expected logits ({windows.shape[0]}, {windows.shape[1]}, V), got {tuple(logits.shape)}")
    logits = logits[:, -count:]  # before the softmax: with a small stride most of it would be for nothing
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return cross_entropy(wide, targets[:, -count:], reduction="none").flatten()


@contextmanager
def _evaluating(model: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Put a module into evaluation mode for a while; a function has none."""
    modes = {module: module.training for module in model.modules()} if isinstance(model, nn.Module) else {}
    try:
        for module in modes:
            module.eval()
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode  # and not train(mode), which would thaw parts that were frozen on purpose


def _check(tokens: Tensor, context_length: int, stride: int, batch_size: int) -> None:
    if tokens.is_floating_point() or tokens.is_complex() or tokens.dtype == torch.bool:
        raise TypeError(f"tokens must be whole numbers, got {tokens.dtype}")
    if tokens.ndim != 1:
        raise ValueError(f"tokens must be (N,), got {tuple(tokens.shape)}")
    if len(tokens) < 2:
        raise ValueError(f"a token and one after it are needed, got {len(tokens)} tokens")
    for name, number in (("context_length", context_length), ("stride", stride), ("batch_size", batch_size)):
        if number < 1:
            raise ValueError(f"{name} must be at least 1, got {number}")
    if stride > context_length:  # it would jump over targets
        raise ValueError(f"stride must be at most context_length {context_length}, got {stride}")
