"""Windows one after the other, gathered in a queue until a batch is full; sums by Python; no hints, no docstrings."""

import math

import torch
import torch.nn.functional as F


def sliding_window_losses(model, tokens, *, context_length, stride=None, batch_size=8):
    if stride is None:
        stride = context_length
    check_arguments(tokens, context_length, stride, batch_size)
    text = tokens.tolist()
    targets = len(text) - 1
    losses = [None] * targets
    queue = []
    modes = {}
    if hasattr(model, "modules"):
        modes = {part: part.training for part in model.modules()}
        model.eval()
    try:
        with torch.no_grad():
            begin, done = 0, 0
            while done < targets:
                end = min(begin + context_length, targets)
                if queue and len(queue[0][0]) != end - begin:
                    flush(model, queue, losses)
                queue.append((text[begin:end], text[begin + 1 : end + 1], begin, done))
                if len(queue) == batch_size:
                    flush(model, queue, losses)
                done = end
                begin += stride
            if queue:
                flush(model, queue, losses)
    finally:
        for part in modes:
            part.training = modes[part]
    return torch.stack(losses)


def flush(model, queue, losses):
    inputs = torch.tensor([window for window, _, _, _ in queue])
    logits = model(inputs)
    if list(logits.shape[:-1]) != list(inputs.shape):
        raise ValueError("logits of the shape %s for tokens of %s" % (tuple(logits.shape), tuple(inputs.shape)))
    size = logits.shape[-1]
    for row, (_, answers, begin, done) in enumerate(queue):
        for place in range(done - begin, len(answers)):
            if answers[place] >= size:
                raise ValueError("token %d does not exist in a vocabulary of %d" % (answers[place], size))
            values = logits[row, place]
            if values.dtype in (torch.float16, torch.bfloat16):
                values = values.to(torch.float32)
            losses[begin + place] = F.cross_entropy(values, torch.tensor(answers[place]))
    queue.clear()


def perplexity(model, tokens, *, context_length, stride=None, batch_size=8):
    losses = sliding_window_losses(model, tokens, context_length=context_length, stride=stride, batch_size=batch_size)
    values = losses.tolist()
    return math.exp(math.fsum(values) / len(values))


def check_arguments(tokens, context_length, stride, batch_size):
    if context_length < 1:
        raise ValueError("context_length must not be %d" % context_length)
    if not 0 < stride <= context_length:
        raise ValueError("stride must not be %d" % stride)
    if batch_size < 1:
        raise ValueError("batch_size must not be %d" % batch_size)
    if tokens.dtype.is_floating_point or tokens.dtype.is_complex or tokens.dtype is torch.bool:
        raise TypeError("tokens cannot be %s" % tokens.dtype)
    if len(tokens.shape) != 1:
        raise ValueError("tokens must lie in a row, not %s" % (tuple(tokens.shape),))
    if len(tokens) < 2:
        raise ValueError("%d tokens are too few" % len(tokens))
