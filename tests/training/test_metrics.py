"""Grades training/metrics.

The oracles are torch's cross-entropy over all targets at once, its `clip_grad_norm_`, and sums by hand. The clock is
the test's own: no check measures time.
"""

import contextlib
import math
import sys
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import PurePath
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from checkpoints.checks import Answer, Check, Draw, Workload
from checkpoints.misconceptions import Misconception
from exercises.gpt2.configuration import GPT2Config
from exercises.training.metrics import (
    LossMeter,
    Throughput,
    bits_per_byte,
    flop_utilization,
    gradient_norm,
    training_flops_per_token,
)

MISCONCEPTIONS = [
    Misconception(
        "the mean of the batches' means: a target of a small batch weighs more",
        ("self._right = 0", "self._right = 0\nself._means = []"),
        (
            "self.tokens += int(counted.sum())",
            "self.tokens += int(counted.sum())\nself._means.append(losses.sum().item() / max(int(counted.sum()), 1))",
        ),
        (
            "return self._per_token(self.nats)",
            "return self._per_token(self.nats) and sum(self._means) / len(self._means)",
        ),
    ),
    Misconception(
        "the mean of the batches' perplexities: it is the exponential of the mean loss",
        ("self._right = 0", "self._right = 0\nself._means = []"),
        (
            "self.tokens += int(counted.sum())",
            "self.tokens += int(counted.sum())\nself._means.append(losses.double().sum().div(max(int(counted.sum()), 1)).exp().item())",
        ),
        (
            "return math.exp(self.loss)",
            "return self.loss and sum(self._means) / len(self._means)",
        ),
    ),
    Misconception(
        "the mean of exp(loss) over the tokens: it is the exponential of the mean",
        ("self._right = 0", "self._right = 0\nself._exponentials = 0.0"),
        (
            "self.tokens += int(counted.sum())",
            "self.tokens += int(counted.sum())\nself._exponentials += losses.double()[counted].exp().sum().item()",
        ),
        (
            "return math.exp(self.loss)",
            "return self._per_token(self._exponentials)",
        ),
    ),
    Misconception(
        "a perplexity of 2 to the power of the loss: the loss is in nats, not in bits",
        ("return math.exp(self.loss)", "return 2.0**self.loss"),
    ),
    Misconception(
        "ignored targets among those that were right",
        ("(counted & (logits.argmax(dim=-1) == targets))", "(logits.argmax(dim=-1) == targets)"),
    ),
    Misconception(
        "all positions counted as tokens, the ignored ones too",
        ("self.tokens += int(counted.sum())", "self.tokens += targets.numel()"),
    ),
    Misconception(
        "targets of -100 ignored, whatever `ignore_index` is",
        ("ignore_index=self.ignore_index, reduction", "reduction"),
        ("targets != self.ignore_index", "targets != -100"),
    ),
    Misconception(
        "a sum in float32, in which a long evaluation stands still",
        (
            "self.nats += losses.sum().item()",
            "self.nats = (torch.tensor(self.nats) + losses.sum()).item()",
        ),
    ),
    Misconception(
        "a loss worked out in half precision",
        ("wide = logits.detach().to(torch.promote_types(logits.dtype, torch.float32))", "wide = logits.detach()"),
    ),
    Misconception(
        "a meter that is not wholly reset: what was right before still counts",
        ("self._right = 0", 'self._right = getattr(self, "_right", 0)'),
    ),
    Misconception(
        "a mean of nothing that is 0",
        ('raise ValueError("no targets have been counted yet: there is no mean of nothing")', "return 0.0"),
    ),
    Misconception("nats per byte, not bits", ("nats / math.log(2.0) / num_bytes", "nats / num_bytes")),
    Misconception("nats made bits by multiplying with ln 2", ("nats / math.log(2.0)", "nats * math.log(2.0)")),
    Misconception(
        "the sum of the tensors' norms: their squares add up",
        ("torch.linalg.vector_norm(torch.stack(norms))", "torch.stack(norms).sum()"),
    ),
    Misconception(
        "the mean of the tensors' norms", ("torch.linalg.vector_norm(torch.stack(norms))", "torch.stack(norms).mean()")
    ),
    Misconception(
        "the sum of the squares, without the root",
        ("torch.linalg.vector_norm(torch.stack(norms))", "torch.stack(norms).square().sum()"),
    ),
    Misconception(
        "the norm of the parameters, not of their gradients",
        ("gradients = [parameter.grad for parameter", "gradients = [parameter.detach() for parameter"),
    ),
    Misconception(
        "a norm worked out in half precision: 300 squared is more than float16 holds",
        (
            "torch.linalg.vector_norm(gradient, dtype=dtype)",
            "gradient.square().sum().sqrt()",
        ),
    ),
    Misconception("the forward pass alone: 2 operations for a weight, not 6", ("6 * weights", "2 * weights")),
    Misconception(
        "the table of positions counted, which multiplies nothing",
        ("config.num_parameters - config.context_length * config.embed_dim", "config.num_parameters"),
    ),
    Misconception(
        "the table of tokens left out, though it is the output layer",
        (
            "config.num_parameters - config.context_length * config.embed_dim",
            "config.num_parameters - (config.context_length + config.vocab_size) * config.embed_dim",
        ),
    ),
    Misconception(
        "attention's products left out",
        ("6 * weights + 12 * config.num_layers * config.embed_dim * length", "6 * weights"),
    ),
    Misconception(
        "attention counted at the greatest length, whatever the length is",
        ("config.embed_dim * length", "config.embed_dim * config.context_length"),
    ),
    Misconception("a rate over all updates, not over the last ones", ("deque(maxlen=window + 1)", "deque()")),
    Misconception(
        "a window of one update less: the time before the first of them is missing",
        ("deque(maxlen=window + 1)", "deque(maxlen=max(window, 2))"),
    ),
    Misconception(
        "the mean of the updates' rates: a short update weighs as much as a long one",
        (
            "return (after - before) / (end - start) if end > start else 0.0",
            "pairs = zip(self._marks, list(self._marks)[1:])\nrates = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in pairs if b[0] > a[0]]\nreturn sum(rates) / len(rates) if rates else 0.0",
        ),
    ),
    Misconception(
        "the time until now, not until the last update",
        (
            "return (after - before) / (end - start) if end > start else 0.0",
            "end = self._clock()\nreturn (after - before) / (end - start) if end > start else 0.0",
        ),
    ),
    Misconception(
        "a reset that leaves the clock running",
        (
            "self._marks.append((self._clock(), 0))",
            "self._start = getattr(self, '_start', None) or self._clock()\nself._marks.append((self._start, 0))",
        ),
    ),
    Misconception(
        "utilisation upside down: how much more the machine could do",
        ("tokens_per_second * flops_per_token / peak_flops", "peak_flops / (tokens_per_second * flops_per_token)"),
    ),
]


def workload(task: Any, draw: Draw) -> list[Workload]:
    """Typical calls, for `compare`."""
    batches = [(draw.normal(8, 64, 512), draw.integers(0, 512, 8, 64)) for _ in range(4)]

    def measure() -> tuple[float, float, float]:
        meter = task.LossMeter()
        for logits, targets in batches:
            meter.update(logits, targets)
        return meter.loss, meter.perplexity, meter.accuracy

    parameters = [nn.Parameter(torch.zeros(256, 256)) for _ in range(50)]
    for parameter in parameters:
        parameter.grad = draw.normal(256, 256)
    return [
        Workload("LossMeter over four batches", measure),
        Workload("gradient_norm(parameters)", task.gradient_norm, (parameters,)),
        Workload("training_flops_per_token(GPT2Config())", task.training_flops_per_token, (GPT2Config(),)),
    ]


def _update(check: Check, meter: Any, logits: Tensor, targets: Tensor) -> None:
    """Count a batch; ends the check where that fails."""
    check(meter.update, logits, targets).value  # noqa: B018


def _read(check: Check, meter: Any, name: str, when: str = "") -> Answer:
    return check.run(f"LossMeter(...).{name}{' ' if when else ''}{when}", lambda: getattr(meter, name))


def _has_no_mean(check: Check, meter: Any, name: str, what: str) -> None:
    """To read that of a meter without targets is refused."""

    def read() -> Any:
        return getattr(meter, name)

    read.__name__ = f"(lambda: {what}.{name})"
    check.raises(ValueError, read, naming="target|token")


def _logits(*probabilities: float) -> Tensor:
    return torch.tensor(probabilities).log()


def test_meter_by_hand(check: Check) -> None:
    """Probabilities 1/2, 1/4 and 1/8 of the right tokens, in batches of one and two: loss 2 ln 2, perplexity 4."""
    meter = check.build(LossMeter)
    _update(check, meter, _logits(0.5, 0.25, 0.25)[None], torch.tensor([0]))
    logits = torch.stack((_logits(0.5, 0.25, 0.25), _logits(0.625, 0.25, 0.125)))
    _update(check, meter, logits[None], torch.tensor([[1, 2]]))
    for name, expected, note in (
        ("tokens", 3, "1 and 2"),
        ("nats", 6 * math.log(2), "ln 2 + ln 4 + ln 8"),
        ("loss", 2 * math.log(2), "(ln 2 + ln 4 + ln 8) / 3"),
        ("perplexity", 4.0, "the exponential of the loss, which is 2 ln 2"),
        ("accuracy", 1 / 3, "only the first target has the greatest logit"),
    ):
        _read(check, meter, name).equals(expected, note=note)


def test_meter_over_unequal_batches(check: Check) -> None:
    """Batches of different sizes, with ignored targets: each target has the same weight, as in one large batch."""
    meter, size = check.build(LossMeter), check.draw.size(4, 9)
    batches = []
    for batch, length in ((1, 2), (3, 5), (2, 7), (1, 1)):
        targets = check.draw.integers(0, size, batch, length)
        targets.masked_fill_(check.draw.booleans(batch, length, probability=0.3), -100)
        targets[0, 0] = 0
        # The sizes of the losses differ from batch to batch, so that weights tell.
        batches.append((check.draw.strided(batch, length, size) * float(check.draw.uniform(0.1, 6.0, 1)), targets))
    for logits, targets in batches:
        _update(check, meter, logits, targets)
    everything = torch.cat([logits.reshape(-1, size) for logits, _ in batches])
    answers = torch.cat([targets.reshape(-1) for _, targets in batches])
    loss = F.cross_entropy(everything.double(), answers).item()
    counted = answers != -100
    note = f"the targets that are not ignored, of {answers.numel()}"
    _read(check, meter, "tokens", "over four batches").equals(int(counted.sum()), note=note)
    # The losses are float32. Each takes about 20 operations on logits of up to 30, of which each rounds by 6e-8 of that:
    # 4e-5 at the very worst, and a tenth of it as a rule.
    _read(check, meter, "loss", "over four batches").equals(loss, rtol=1e-5, atol=1e-5)
    # What the loss is off by, its exponential is off by as a share of itself.
    _read(check, meter, "perplexity", "over four batches").equals(math.exp(loss), rtol=1e-4)
    right = (everything.argmax(dim=-1) == answers)[counted].double().mean().item()
    _read(check, meter, "accuracy", "over four batches").equals(right)


def test_meter_ignores(check: Check) -> None:
    """What is ignored counts nowhere, even if the model has guessed that token; a batch may be all ignored."""
    meter = check.build(LossMeter, ignore_index=2)
    logits = torch.stack((_logits(0.75, 0.125, 0.125), _logits(0.125, 0.125, 0.75), _logits(0.25, 0.5, 0.25)))
    _update(check, meter, logits, torch.tensor([0, 2, 0]))
    _update(check, meter, logits[1:2], torch.tensor([2]))
    _read(check, meter, "tokens", "where 2 of 4 targets are ignored").equals(2)
    note = "one right of the two that count"
    _read(check, meter, "accuracy", "where 2 of 4 targets are ignored").equals(0.5, note=note)
    _read(check, meter, "loss", "where 2 of 4 targets are ignored").equals(0.5 * math.log(4 / 3) + 0.5 * math.log(4))
    plain = check.build(LossMeter)  # -100 is what is ignored otherwise; 2 is a token like others
    _update(check, plain, logits, torch.tensor([-100, 2, 0]))
    _read(check, plain, "accuracy", "where -100 is ignored").equals(0.5)


def test_meter_of_extremes(check: Check) -> None:
    """A large loss and many small ones after it: none is lost. What float64 cannot hold is an infinite perplexity."""
    meter = check.build(LossMeter)
    large, small = torch.tensor([[0.0, 2.0**24]]), torch.zeros(1, 2)
    _update(check, meter, large, torch.tensor([0]))
    for _ in range(50):
        _update(check, meter, small, torch.tensor([1]))
    # Next to 2 ** 24 float32 numbers are 2 apart: a sum in float32 would stay where it is, 35 too small. Those of float64
    # are 4e-9 apart, and each of the 50 losses of float32 is off by at most 1e-7.
    rest = check.run("LossMeter(...).nats - 2 ** 24", lambda: meter.nats - 2.0**24)
    rest.equals(50 * math.log(2), rtol=0.0, atol=1e-5, note="50 losses of ln 2 came after the one of 2 ** 24")
    _read(check, meter, "perplexity", "of a loss of 328,966").equals(math.inf)
    meter = check.build(LossMeter)
    _update(check, meter, torch.tensor([[0.0, 200.0]]), torch.tensor([0]))
    # Near 200, float32 numbers are 1.5e-5 apart; the exponential is off by as much of itself.
    _read(check, meter, "perplexity", "of a loss of 200").equals(math.exp(200.0), rtol=1e-4)


def test_meter_of_half_precision(check: Check) -> None:
    """Logits of float16, bfloat16 and float64: the loss is worked out in float32 at least, and is a plain number."""
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        logits = check.draw.normal(4, 6, 20, dtype=torch.float64, scale=3.0).to(dtype).requires_grad_()
        targets = check.draw.integers(0, 20, 4, 6).to(torch.int32 if dtype == torch.bfloat16 else torch.int64)
        meter = check.build(LossMeter)
        _update(check, meter, logits, targets)
        expected = F.cross_entropy(logits.detach().double().reshape(-1, 20), targets.reshape(-1).long()).item()
        # 24 losses of about 5, each of some 20 operations on numbers of up to 10 whose roundings (6e-8 in float32 and
        # 1.1e-16 in float64) are at random; in half precision they would be off by 1e-3 and more each.
        near, note = (1e-13, "in float64") if dtype == torch.float64 else (2e-6, "in float32")
        _read(check, meter, "loss", f"of logits of {dtype}").equals(expected, rtol=near, atol=0.0, note=note)


def test_meter_starts_anew(check: Check) -> None:
    """Without targets there is no mean, and it says so: at first, after a reset, and where all were ignored."""
    meter = check.build(LossMeter)
    for when, what in (("at first", "a_new_meter"), ("after a reset", "a_meter_after_reset")):
        for name in ("loss", "perplexity", "accuracy"):
            _has_no_mean(check, meter, name, what)
        _read(check, meter, "tokens", when).equals(0)
        _read(check, meter, "nats", when).equals(0.0)
        _update(check, meter, torch.eye(3), torch.tensor([0, 1, 2]))
        check.run("LossMeter(...).reset()", meter.reset).value  # noqa: B018
    _update(check, meter, torch.eye(3), torch.tensor([0, 2, 1]))
    note = "one of the three targets since the reset"
    _read(check, meter, "accuracy", "after a reset and a batch").equals(1 / 3, note=note)
    _read(check, meter, "loss", "after a reset and a batch").equals(math.log(math.e + 2) - 1 / 3)
    ignored = check.build(LossMeter)
    _update(check, ignored, torch.eye(3), torch.full((3,), -100))
    _has_no_mean(check, ignored, "loss", "a_meter_of_ignored_targets")


def test_meter_refuses(check: Check) -> None:
    """Shapes that do not fit and tokens outside the vocabulary are refused, and the meter stays as it was."""
    meter = check.build(LossMeter)
    _update(check, meter, torch.zeros(2, 4), torch.tensor([1, 2]))
    check.raises(ValueError, meter.update, torch.zeros(2, 3, 4), torch.zeros(2, dtype=torch.int64))
    check.raises(ValueError, meter.update, torch.zeros(2, 4), torch.tensor([1, 4]), naming="4")
    check.raises(TypeError, meter.update, torch.zeros(2, 4), torch.tensor([1.0, 2.0]), naming="float32")
    _read(check, meter, "tokens", "after batches that were refused").equals(2)
    _read(check, meter, "loss", "after batches that were refused").equals(math.log(4))


def test_bits_per_byte(check: Check) -> None:
    """8 ln 2 nats are 8 bits: 2 for each of 4 bytes. Long tokens and short ones of one text come out the same."""
    check(bits_per_byte, 8 * math.log(2), 4).equals(2.0, note="8 ln 2 nats are 8 bits")
    nats, size = float(check.draw.uniform(1.0, 500.0, 1)), check.draw.integer(3, 400)
    check(bits_per_byte, nats, size).equals(math.log2(math.exp(nats / size)))
    check(bits_per_byte, 0.0, 1).equals(0.0)
    check.raises(ValueError, bits_per_byte, 1.0, 0, naming=("num_bytes", "0"))
    check.raises(ValueError, bits_per_byte, 1.0, -5, naming=("num_bytes", "-5"))
    check.raises(ValueError, bits_per_byte, 0.0, 0, naming=("num_bytes", "0"))


@contextlib.contextmanager
def _no_line_of_torchs(check: Check) -> Iterator[None]:
    """Refuse to run torch's module of gradient clipping, which measures the norm as well."""

    def watch(frame: Any, event: str, _: Any) -> None:
        *_, folder, file = ("", *PurePath(frame.f_code.co_filename).parts)
        if event == "call" and (folder, file) == ("utils", "clip_grad.py"):
            check.guard.refuse(f"ran torch's own {file}: the norm is what you are building")

    before = sys.getprofile()
    sys.setprofile(watch)
    try:
        yield
    finally:
        sys.setprofile(before)


def _norm(check: Check, what: str, parameters: Iterable[Tensor]) -> Answer:
    def measure() -> Any:
        with _no_line_of_torchs(check):
            return gradient_norm(parameters)

    return check.run(f"gradient_norm({what})", measure)


def _with_gradients(*gradients: Tensor | None) -> list[nn.Parameter]:
    """Parameters with these gradients, whose own numbers are others."""
    parameters = [
        nn.Parameter(torch.full_like(entry, 7.0) if entry is not None else torch.ones(2)) for entry in gradients
    ]
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient
    return parameters


def _gradients_of(parameters: list[nn.Parameter]) -> list[Tensor | None]:
    return [parameter.grad for parameter in parameters]


def test_norm_by_hand(check: Check) -> None:
    """Gradients (1, 2), (2, 4) and none: the root of 1 + 4 + 4 + 16 is 5. Without any gradient it is 0."""
    parameters = _with_gradients(torch.tensor([1.0, 2.0]), None, torch.tensor([[2.0], [4.0]]))
    note = "the root of 1 + 4 + 4 + 16"
    _norm(check, "parameters with gradients (1, 2), None and ((2), (4))", parameters).equals(
        torch.tensor(5.0), note=note
    )
    _norm(check, "parameters without gradients", _with_gradients(None, None)).equals(torch.tensor(0.0))
    _norm(check, "[]", []).equals(torch.tensor(0.0))


def test_norm_against_torch(check: Check) -> None:
    """What `clip_grad_norm_` says of drawn gradients of many shapes, from an iterator, which they survive unchanged."""
    shapes = [(3, 4), (5,), (), (2, 1, 3)]
    for dtype in (torch.float32, torch.float64):
        gradients = [
            check.draw.normal(*shape, dtype=dtype, scale=10.0 ** check.draw.integer(-2, 2)) for shape in shapes
        ]
        gradients.append(check.draw.strided(4, 5, dtype=dtype))
        parameters = _with_gradients(*(entry.clone() for entry in gradients))
        answer = _norm(check, f"iterator over {dtype}", iter(parameters))
        answer.equals(nn.utils.clip_grad_norm_(_with_gradients(*gradients), max_norm=1e9))
        check.run("the gradients after it", partial(_gradients_of, parameters)).equals(gradients)


def test_norm_of_half_precision(check: Check) -> None:
    """Gradients of float16 and bfloat16 are measured in float32; one of float64 makes the result float64."""
    # The square of 300 is more than float16 can hold; the root of 4 · 90,000 is 600.
    half = torch.tensor([300.0, 300.0, -300.0, 300.0], dtype=torch.float16)
    note = "float32: the square of 300 is more than float16 holds"
    _norm(check, "four float16 numbers of size 300", _with_gradients(half)).equals(torch.tensor(600.0), note=note)
    mixed = _with_gradients(torch.tensor([2.0], dtype=torch.bfloat16), torch.tensor([1.0, 2.0], dtype=torch.float16))
    _norm(check, "bfloat16 and float16", mixed).equals(torch.tensor(3.0))
    wide = _with_gradients(torch.tensor([2.0, 1.0]), torch.tensor([2.0], dtype=torch.float64))
    _norm(check, "float32 and float64", wide).equals(torch.tensor(3.0, dtype=torch.float64))


def test_flops_by_hand(check: Check) -> None:
    """The smallest GPT-2: 6 · 123,653,376 + 12 · 12 · 768 · 1024 operations; less for shorter texts."""
    for arguments, length in (((), 1024), ((128,), 128), ((1,), 1)):
        note = f"6 · 123,653,376 + 12 · 12 · 768 · {length}"
        expected = 6 * 123_653_376 + 12 * 12 * 768 * length
        check(training_flops_per_token, GPT2Config(), *arguments).equals(expected, note=note)
    check(training_flops_per_token, GPT2Config(), length=2).equals(6 * 123_653_376 + 12 * 12 * 768 * 2)


def test_flops_part_by_part(check: Check) -> None:
    """A drawn configuration, added up weight by weight."""
    draw = check.draw
    width, hidden, layers, length = 4 * draw.integer(2, 6), draw.integer(5, 50), draw.integer(1, 5), draw.integer(3, 9)
    config = GPT2Config(draw.integer(20, 90), length, width, layers, 4, hidden_dim=hidden)
    norm, linear = 2 * width, lambda one, other: one * other + other
    block = 2 * norm + linear(width, 3 * width) + linear(width, width) + linear(width, hidden) + linear(hidden, width)
    weights = config.vocab_size * width + layers * block + norm
    for some in (1, length - 1, length):
        note = f"6 · {weights} + 12 · {layers} · {width} · {some}"
        check(training_flops_per_token, config, some).equals(6 * weights + 12 * layers * width * some, note=note)
    check.raises(ValueError, training_flops_per_token, config, 0, naming=("length", "0"))
    check.raises(ValueError, training_flops_per_token, config, length + 1, naming=("length", str(length + 1)))


class _Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def _work(check: Check, throughput: Any, clock: _Clock, seconds: float, tokens: int) -> None:
    """Let time pass, and say what was done in it."""
    clock.now += seconds
    check.run(f"Throughput(...).update({tokens})", lambda: throughput.update(tokens)).value  # noqa: B018


def _rate(check: Check, throughput: Any, when: str) -> Answer:
    return check.run(f"Throughput(...).tokens_per_second {when}", lambda: throughput.tokens_per_second)


def test_throughput_by_hand(check: Check) -> None:
    """100 tokens in 1 second and 500 in the next 2: 200 a second. Before that it is 0."""
    clock = _Clock()
    throughput = check.build(Throughput, clock=clock)
    _rate(check, throughput, "at first").equals(0.0)
    _work(check, throughput, clock, 0.0, 50)
    _rate(check, throughput, "while the clock has not moved").equals(0.0)
    throughput = check.build(Throughput, clock=clock)
    _work(check, throughput, clock, 1.0, 100)
    _work(check, throughput, clock, 2.0, 500)
    clock.now += 60.0  # nobody has said what was done in this minute
    note = "600 tokens in 3 seconds, until the last update"
    _rate(check, throughput, "after two updates, and a minute without one").equals(200.0, note=note)


def test_throughput_over_a_window(check: Check) -> None:
    """Only the last updates count, 20 if not said otherwise; a reset forgets them all, and the time until then."""
    clock, window = _Clock(), check.draw.integer(2, 5)
    throughput = check.build(Throughput, window, clock=clock)
    work = [(float(check.draw.uniform(0.1, 9.0, 1)), check.draw.integer(0, 1000)) for _ in range(9)]
    for count, (seconds, tokens) in enumerate(work, 1):
        _work(check, throughput, clock, seconds, tokens)
        last = work[max(0, count - window) : count]
        done, spent = sum(entry[1] for entry in last), sum(entry[0] for entry in last)
        note = f"the last {len(last)}: {done} tokens in {spent:.6g} s"
        _rate(check, throughput, f"after {count} updates, with a window of {window}").equals(done / spent, note=note)
    clock.now += 100.0
    check.run("Throughput(...).reset()", throughput.reset).value  # noqa: B018
    _rate(check, throughput, "after a reset").equals(0.0)
    _work(check, throughput, clock, 0.5, 60)
    _rate(check, throughput, "after a reset and an update").equals(120.0, note="60 tokens in 0.5 s since the reset")
    usual, single = check.build(Throughput, clock=clock), check.build(Throughput, 1, clock=clock)
    for tokens in (1000, *[10] * 19):
        _work(check, usual, clock, 1.0, tokens)
        _work(check, single, clock, 0.0, tokens)
    _rate(check, usual, "after 20 updates").equals(59.5, note="1190 tokens in 20 s, and all 20 count")
    _rate(check, single, "with a window of 1").equals(10.0, note="the last update alone: 10 tokens in 1 s")
    _work(check, usual, clock, 1.0, 0)
    _rate(check, usual, "after 21 updates").equals(9.5, note="190 tokens in 20 s: the first has gone out of the window")


def test_throughput_refuses(check: Check) -> None:
    """A window of nothing, and fewer tokens than none, are refused by name; the real clock is the default."""
    check.raises(ValueError, Throughput, 0, naming=("window", "0"))
    throughput = check.build(Throughput)
    check.raises(ValueError, throughput.update, -1, naming=("tokens", "-1"))
    _rate(check, throughput, "after an update that was refused").equals(0.0)


def test_utilization(check: Check) -> None:
    """Half of the machine's operations: 1000 tokens of 2e9 operations a second, of 4e12."""
    check(flop_utilization, 1000.0, 2e9, 4e12).equals(0.5, note="2e12 operations a second, of 4e12")
    check(flop_utilization, 0.5, 0.25, 0.5).equals(0.25)
    speed, flops, peak = check.draw.uniform(1.0, 9.0, 3, dtype=torch.float64).tolist()
    check(flop_utilization, speed * 1e4, flops * 1e8, peak * 1e14).equals(speed * flops / peak * 1e-2)
    check.raises(ValueError, flop_utilization, 1000.0, 2e9, 0.0, naming=("peak_flops", "0.0"))
    check.raises(ValueError, flop_utilization, 1000.0, 2e9, -0.5, naming=("peak_flops", "-0.5"))
    check.raises(ValueError, flop_utilization, 1000.0, 2e9, math.nan, naming=("peak_flops", "nan"))
