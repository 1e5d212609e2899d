"""First a plan of all windows as a list of spans, then batches of equal ones; losses by torch's own log_softmax."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor, nn


@dataclass
class Window:
    """Reads tokens begin to end - 1; the last `count` of its targets are scored."""

    begin: int
    end: int
    count: int

    def kind(self) -> tuple[int, int]:
        """Windows of one kind can be read together."""
        return self.end - self.begin, self.count


def plan(targets: int, context_length: int, stride: int) -> Iterator[Window]:
    """The windows in their order."""
    scored = begin = 0
    while scored < targets:
        end = min(begin + context_length, targets)
        yield Window(begin, end, end - scored)
        scored = end
        begin += stride


def sliding_window_losses(
    model: Callable[[Tensor], Tensor],
    tokens: Tensor,
    *,
    context_length: int,
    stride: int | None = None,
    batch_size: int = 8,
) -> Tensor:
    """Kind by kind, batch by batch."""
    step = stride if stride is not None else context_length
    if context_length < 1:
        raise ValueError(f"a window must hold something: context_length={context_length}")
    if step < 1 or step > context_length:
        raise ValueError(f"stride={step} is not in 1..{context_length}")
    if batch_size <= 0:
        raise ValueError(f"batch_size={batch_size}")
    if tokens.dtype not in (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8):
        raise TypeError(f"{tokens.dtype} is no dtype of tokens")
    if tokens.dim() != 1:
        raise ValueError(f"one text is wanted, not {tuple(tokens.shape)}")
    if tokens.numel() <= 1:
        raise ValueError(f"a text of {tokens.numel()} has nothing to foretell")
    text = tokens.to(torch.int64)
    was = [(module, module.training) for module in model.modules()] if isinstance(model, nn.Module) else []
    if isinstance(model, nn.Module):
        model.train(mode=False)
    losses: list[Tensor] = []
    try:
        with torch.inference_mode():
            for (_, count), group in groupby(plan(len(text) - 1, context_length, step), key=Window.kind):
                alike = list(group)
                for first in range(0, len(alike), batch_size):
                    losses += score(model, text, alike[first : first + batch_size], count)
    finally:
        for module, mode in was:
            module.training = mode
    return torch.cat(losses).clone()


def score(model: Callable[[Tensor], Tensor], text: Tensor, windows: list[Window], count: int) -> list[Tensor]:
    """The losses of each window."""
    inputs = torch.stack([text[one.begin : one.end] for one in windows])
    answers = torch.stack([text[one.end - count + 1 : one.end + 1] for one in windows])
    logits = model(inputs)
    if logits.dim() != 3 or logits.size(0) != inputs.size(0) or logits.size(1) != inputs.size(1):
        raise ValueError(f"these are no logits of windows {tuple(inputs.shape)}: {tuple(logits.shape)}")
    if int(answers.max()) >= logits.size(2):
        raise ValueError(f"there is a token {int(answers.max())} in the text, and logits for {logits.size(2)}")
    scored = logits[:, logits.size(1) - count :]
    if scored.element_size() < 4:
        scored = scored.float()
    return list(-torch.log_softmax(scored, 2).gather(2, answers.unsqueeze(2)).squeeze(2))


def perplexity(
    model: Callable[[Tensor], Tensor],
    tokens: Tensor,
    *,
    context_length: int,
    stride: int | None = None,
    batch_size: int = 8,
) -> float:
    """The exponential of the mean."""
    losses = sliding_window_losses(
        model, tokens, context_length=context_length, stride=stride, batch_size=batch_size
    ).to(torch.float64)
    return float(torch.exp(losses.sum() / losses.numel()))
