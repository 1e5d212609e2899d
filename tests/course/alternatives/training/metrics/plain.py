"""What a plain programmer would write: counters, loops, torch's own loss after the checks of the course's; no types."""

import math
import time

import torch
import torch.nn.functional as F

from ..networks.losses import cross_entropy


class LossMeter(object):
    def __init__(self, ignore_index=-100):
        self.ignore_index = ignore_index
        self.nats = 0.0
        self.tokens = 0
        self.correct = 0

    def reset(self):
        self.__init__(self.ignore_index)

    def update(self, logits, targets):
        with torch.no_grad():
            if logits.dtype in (torch.float16, torch.bfloat16):
                logits = logits.to(torch.float32)
            cross_entropy(logits, targets, ignore_index=self.ignore_index)  # complains where something is wrong
            mask = targets.ne(self.ignore_index)
            n = mask.sum().item()
            if n > 0:
                picked = logits[mask]
                wanted = targets[mask].long()
                loss = F.cross_entropy(picked, wanted, reduction="mean")
                self.nats = self.nats + loss.double().item() * n
                self.tokens = self.tokens + n
                self.correct = self.correct + (picked.max(dim=-1).indices == wanted).float().sum().item()

    def check(self):
        if self.tokens == 0:
            raise ValueError("No tokens: call update() first")

    @property
    def loss(self):
        self.check()
        return self.nats / self.tokens

    @property
    def perplexity(self):
        self.check()
        return torch.exp(torch.tensor(self.loss, dtype=torch.float64)).item()

    @property
    def accuracy(self):
        self.check()
        return self.correct / self.tokens


def bits_per_byte(nats, num_bytes):
    if num_bytes < 1:
        raise ValueError("num_bytes is %d" % num_bytes)
    bits = nats / math.log(2)
    return bits / num_bytes


def gradient_norm(parameters):
    total = torch.zeros((), dtype=torch.float64)
    double = False
    for p in parameters:
        if p.grad is None:
            continue
        if p.grad.dtype == torch.float64:
            double = True
        total += (p.grad.detach().double() ** 2).sum()
    norm = torch.sqrt(total)
    if double:
        return norm
    else:
        return norm.float()


def training_flops_per_token(config, length=None):
    T = config.context_length if length is None else length
    if not (0 < T <= config.context_length):
        raise ValueError("length = %d is not between 1 and %d" % (T, config.context_length))
    N = config.num_parameters
    N -= config.context_length * config.embed_dim
    attention = 0
    for layer in range(config.num_layers):
        attention += 12 * config.embed_dim * T
    return 6 * N + attention


class Throughput(object):
    def __init__(self, window=20, *, clock=time.perf_counter):
        if window < 1:
            raise ValueError("window is %d, it must be positive" % window)
        self.window = window
        self.clock = clock
        self.reset()

    def reset(self):
        self.times = [self.clock()]
        self.counts = []

    def update(self, tokens):
        if tokens < 0:
            raise ValueError("negative tokens: %d" % tokens)
        self.times.append(self.clock())
        self.counts.append(tokens)
        if len(self.counts) > self.window:
            self.times.pop(0)
            self.counts.pop(0)

    @property
    def tokens_per_second(self):
        elapsed = self.times[-1] - self.times[0]
        if elapsed == 0:
            return 0.0
        return sum(self.counts) / elapsed


def flop_utilization(tokens_per_second, flops_per_token, peak_flops):
    if not (peak_flops > 0):
        raise ValueError("peak_flops must be positive, not %s" % peak_flops)
    achieved = tokens_per_second * flops_per_token
    return achieved / peak_flops
