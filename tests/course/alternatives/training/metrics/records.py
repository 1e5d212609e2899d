"""Keeps a record of each batch and each update, and adds them up only when somebody asks."""

from __future__ import annotations

import math
import operator
import time
from itertools import islice
from typing import Any, Callable, Iterable, NamedTuple

import torch
from torch import Tensor


class Batch(NamedTuple):
    nats: float
    tokens: int
    right: int


class LossMeter:
    def __init__(self, ignore_index: int = -100):
        self.ignored = ignore_index
        self.batches: list[Batch] = []

    def reset(self) -> None:
        del self.batches[:]

    def update(self, logits: Tensor, targets: Tensor) -> None:
        if targets.is_floating_point() or targets.is_complex() or targets.dtype is torch.bool:
            raise TypeError(f"targets of dtype {targets.dtype}, where indices are needed")
        if logits.shape[:-1] != targets.shape:
            raise ValueError(f"logits {tuple(logits.shape)} and targets {tuple(targets.shape)} do not go together")
        rows = logits.detach().flatten(0, -2) if logits.dim() > 1 else logits.detach()[None]
        answers = targets.flatten().to(torch.int64)
        known = (answers != self.ignored).nonzero().squeeze(1)
        rows, answers = rows[known], answers[known]
        for answer in answers.tolist():
            if answer not in range(rows.shape[-1]):
                raise ValueError(f"{answer} is no index into {rows.shape[-1]} logits")
        rows = rows.double() if rows.dtype == torch.float64 else rows.float()
        chosen = rows.gather(1, answers[:, None])[:, 0]
        losses = torch.logsumexp(rows, dim=1) - chosen
        right = torch.eq(rows.argmax(1), answers).sum().item()
        self.batches.append(Batch(math.fsum(losses.tolist()), len(answers), right))

    def total(self, what: str) -> Any:
        return sum(map(operator.attrgetter(what), self.batches))

    @property
    def nats(self) -> float:
        return float(self.total("nats"))

    @property
    def tokens(self) -> int:
        return self.total("tokens")

    def share(self, what: str) -> float:
        try:
            return self.total(what) / self.tokens
        except ZeroDivisionError:
            raise ValueError("there were no targets so far") from None

    loss = property(lambda self: self.share("nats"))
    accuracy = property(lambda self: self.share("right"))

    @property
    def perplexity(self) -> float:
        loss = self.loss
        return math.exp(loss) if loss < 709.0 else float("inf")


def bits_per_byte(nats: float, num_bytes: int) -> float:
    if num_bytes <= 0:
        raise ValueError(f"a text of num_bytes={num_bytes} is none")
    return nats * math.log2(math.e) / num_bytes


def gradient_norm(parameters: Iterable[Tensor]) -> Tensor:
    found = [each.grad.flatten() for each in parameters if each.grad is not None]
    if not found:
        return torch.tensor(0.0)
    wide = torch.float64 if any(each.dtype == torch.float64 for each in found) else torch.float32
    whole = torch.cat([each.to(wide) for each in found])
    return whole.dot(whole).sqrt()


def training_flops_per_token(config, length=None):
    if length is None:
        length = config.context_length
    if length < 1 or length > config.context_length:
        raise ValueError(f"{length=} but the model takes 1 to {config.context_length} tokens")
    looked_up = config.context_length * config.embed_dim
    forward = 2 * (config.num_parameters - looked_up) + 2 * 2 * config.num_layers * config.embed_dim * length
    return 3 * forward


class Throughput:
    def __init__(self, window: int = 20, *, clock: Callable[[], float] = time.perf_counter):
        if window <= 0:
            raise ValueError(f"{window} updates are no window")
        self.window, self.clock = window, clock
        self.reset()

    def reset(self) -> None:
        self.spans: list[tuple[float, int]] = []
        self.last = self.clock()

    def update(self, tokens: int) -> None:
        if tokens < 0:
            raise ValueError(f"{tokens} tokens cannot be done")
        now = self.clock()
        self.spans.insert(0, (now - self.last, tokens))
        self.last = now

    @property
    def tokens_per_second(self) -> float:
        spans = list(islice(self.spans, self.window))
        seconds = sum(span for span, _ in spans)
        return sum(tokens for _, tokens in spans) / seconds if seconds else 0.0


def flop_utilization(tokens_per_second: float, flops_per_token: float, peak_flops: float) -> float:
    if math.isnan(peak_flops) or peak_flops <= 0:
        raise ValueError(f"peak_flops cannot be {peak_flops}")
    return flops_per_token / peak_flops * tokens_per_second
