"""Grades training/loop.

The oracle is a loop that puts all rows of a step into one sum, differentiates it once, and cuts the gradient back by
hand; for two processes, the same. What is resumed is compared with what was never interrupted, bit for bit.
"""

import copy
import dataclasses
import io
import itertools
import math
import multiprocessing
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import rich.console
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from checkpoints.checks import Answer, Check, Draw, Workload
from checkpoints.misconceptions import Misconception
from exercises.datasets.loader import BatchLoader, make_data_loader
from exercises.gpt2.configuration import GPT2Config
from exercises.gpt2.model import GPT2
from exercises.training.checkpointing import CheckpointStore, random_state, set_random_state
from exercises.training.data import collate_rows
from exercises.training.loop import Progress, ProgressBar, Trainer, TrainingConfig

MISCONCEPTIONS = [
    Misconception(
        "the mean of the micro-batches' means: a target counts more, the fewer there are beside it",
        (
            "loss = self._nats(self._ranks.replica, inputs, targets)",
            """
            loss = self._nats(self._ranks.replica, inputs, targets)
            loss = loss * total / ((targets != IGNORED).sum() * len(shares))
            """,
        ),
    ),
    Misconception(
        "the sum of the micro-batches' means: a gradient as many times too large as there are micro-batches",
        (
            "loss = self._nats(self._ranks.replica, inputs, targets)",
            """
            loss = self._nats(self._ranks.replica, inputs, targets)
            loss = loss * total / (targets != IGNORED).sum()
            """,
        ),
    ),
    Misconception(
        "a loss that is the last micro-batch's alone",
        ("nats = nats + loss.detach()", "nats = loss.detach() / (targets != IGNORED).sum() * total"),
    ),
    Misconception(
        "padding counted among the targets, so that the loss is too small",
        (
            "sum(int((targets != IGNORED).sum()) for _, targets in shares)",
            "sum(targets.numel() for _, targets in shares)",
        ),
    ),
    Misconception(
        "gradients that are never forgotten: each step adds to those of all steps before",
        ("self.model.zero_grad()", "pass"),
    ),
    Misconception(
        "gradients forgotten before each micro-batch: only the last one's is left",
        (
            "for number, (inputs, targets) in enumerate(shares):",
            """
            for number, (inputs, targets) in enumerate(shares):
                self.model.zero_grad()
            """,
        ),
    ),
    Misconception(
        "the gradient cut back after the optimizer's step, where it is too late, or never",
        ("self.model.parameters(), self.config.max_gradient_norm or math.inf", "self.model.parameters(), math.inf"),
    ),
    Misconception(
        "the gradient cut back after each micro-batch",
        (
            "nats = nats + loss.detach()",
            "nn.utils.clip_grad_norm_(self.model.parameters(), self.config.max_gradient_norm or math.inf)\n"
            "nats = nats + loss.detach()",
        ),
    ),
    Misconception(
        "the gradient of each parameter cut back by its own norm, which bends its direction",
        (
            "return float(nn.utils.clip_grad_norm_(self.model.parameters(), self.config.max_gradient_norm or math.inf))",
            """
            norm = float(nn.utils.clip_grad_norm_(self.model.parameters(), math.inf))
            for parameter in self.model.parameters():
                nn.utils.clip_grad_norm_([parameter], self.config.max_gradient_norm or math.inf)
            return norm
            """,
        ),
    ),
    Misconception(
        "the norm of the gradient after it was cut back",
        (
            "return float(nn.utils.clip_grad_norm_(self.model.parameters(), self.config.max_gradient_norm or math.inf))",
            """
            nn.utils.clip_grad_norm_(self.model.parameters(), self.config.max_gradient_norm or math.inf)
            return float(nn.utils.clip_grad_norm_(self.model.parameters(), math.inf))
            """,
        ),
    ),
    Misconception(
        "a schedule that counts micro-batches, not steps",
        ("self.schedule(self.step))", "self.schedule(self.step * self.config.accumulation))"),
    ),
    Misconception(
        "a schedule that begins with step 1: the first factor is never used",
        ("self.schedule(self.step))", "self.schedule(self.step + 1))"),
    ),
    Misconception(
        "the learning rate set after the step: each step is made with that of the one before",
        (
            """
                if self.schedule is not None:
                    apply_schedule(optimizer, self.schedule(self.step))
                self._scaler.step(optimizer)
            """,
            """
                self._scaler.step(optimizer)
                if self.schedule is not None:
                    apply_schedule(optimizer, self.schedule(self.step))
            """,
        ),
    ),
    Misconception(
        "a schedule for the first optimizer only",
        ("apply_schedule(optimizer, self", "apply_schedule(self.optimizers[0], self"),
    ),
    Misconception(
        "only the first of the optimizers makes its step",
        ("self._scaler.step(optimizer)", "self._scaler.step(optimizer) if optimizer is self.optimizers[0] else None"),
    ),
    Misconception("evaluation while training: dropout is part of the loss", ("self.model.eval()", "pass")),
    Misconception(
        "a model that an evaluation leaves in eval mode: from then on it is trained without dropout",
        ("self.model.train(training)", "pass"),
    ),
    Misconception(
        "a model that an evaluation puts into training mode, whatever it was in",
        ("self.model.train(training)", "self.model.train()"),
    ),
    Misconception(
        "the mean of the validation batches' means",
        (
            "nats += float(self._nats(self.model, inputs, targets))",
            "nats += float(self._nats(self.model, inputs, targets)) / int((targets != IGNORED).sum())",
        ),
        ("tokens += int((targets != IGNORED).sum())", "tokens += 1"),
    ),
    Misconception(
        "an evaluation that keeps a graph for gradients which nobody asks for",
        ("@torch.no_grad()", "@torch.enable_grad()"),
    ),
    Misconception(
        "an evaluation that draws random numbers, so that training goes on with others",
        ("set_random_state(randomness)", "pass"),
    ),
    Misconception("the same order in every epoch", ("self._counter.epoch = epoch", "self._counter.epoch = 0")),
    Misconception(
        "nothing told, measured or saved after the last step",
        (
            "return self.step == self.config.steps or (every is not None and self.step % every == 0)",
            "return every is not None and self.step % every == 0",
        ),
    ),
    Misconception(
        "a resumed run whose optimizer has forgotten its moments", ("optimizer.load_state_dict(own)", "pass")
    ),
    Misconception(
        "a resumed run that begins its epoch again", ('go_to(*state["place"])', 'go_to(state["place"][0], 0)')
    ),
    Misconception(
        "a resumed run that has forgotten which epoch it is in",
        ('go_to(*state["place"])', 'go_to(0, state["place"][1])'),
    ),
    Misconception(
        "a resumed run that draws other random numbers: other entries are dropped",
        ('set_random_state(state["random"][self._ranks.rank % len(state["random"])])', "pass"),
    ),
    Misconception(
        "random generators put back before the batches are passed over, which draw from them",
        (
            'self.model.load_state_dict(state["model"])',
            'self.model.load_state_dict(state["model"])\nset_random_state(state["random"][0])',
        ),
        ('set_random_state(state["random"][self._ranks.rank % len(state["random"])])', "pass"),
    ),
    Misconception(
        "a resumed run that counts its steps from 0: its schedule begins again",
        ('self.step, self._tokens, self._seconds = state["step"], ', "self.step, self._tokens, self._seconds = 0, "),
    ),
    Misconception(
        "a resumed run that has forgotten what was told before",
        ('[Progress(**told) for told in state["history"]]', "[]"),
    ),
    Misconception(
        "Ctrl-C that ends the training without saving",
        (
            """
                    self.save()
                    raise KeyboardInterrupt
            """,
            """
                    raise KeyboardInterrupt
            """,
        ),
    ),
    Misconception(
        "Ctrl-C that breaks off in the middle of a step",
        (
            "before = signal.signal(signal.SIGINT, note)",
            "before = signal.getsignal(signal.SIGINT)",
        ),
    ),
    Misconception(
        "Ctrl-C that nobody hears of: train returns as if it were done",
        (
            """
                    self.save()
                    raise KeyboardInterrupt
            """,
            """
                    self.save()
                    break
            """,
        ),
        ("if interrupted():  # in the last step, after which all is saved", "if False:"),
    ),
    Misconception(
        "a second Ctrl-C that does nothing, so that a step which hangs cannot be ended",
        ("signal.signal(signal.SIGINT, before)  # the second one shall not be noted, but obeyed", "pass"),
    ),
    Misconception(
        "a handler of signals that stays behind when training is over",
        (
            """
                yield noted.is_set
            finally:
                signal.signal(signal.SIGINT, before)
            """,
            """
                yield noted.is_set
            finally:
                pass
            """,
        ),
    ),
    Misconception(
        "signals handled in every thread, which Python allows in the main one only",
        ("if threading.current_thread() is not threading.main_thread():", "if False:"),
    ),
    Misconception(
        "a step made with a loss that is NaN: all weights are NaN from then on",
        ("if not math.isfinite(loss) or not (math.isfinite(norm) or self._scaler.is_enabled()):", "if False:"),
    ),
    Misconception(
        "a gradient that is not finite let through, because its loss is",
        (
            "if not math.isfinite(loss) or not (math.isfinite(norm) or self._scaler.is_enabled()):",
            "if not math.isfinite(loss):",
        ),
    ),
    Misconception(
        "an autocast that is asked for and never done", ("enabled=self.config.autocast is not None", "enabled=False")
    ),
    Misconception(
        "losses added up in bfloat16, which has three digits",
        ("logits = logits.to(torch.promote_types(logits.dtype, torch.float32))", "pass"),
    ),
    Misconception("processes that all do the whole batch", ("part[self.rank :: self.size]", "part")),
    Misconception(
        "processes whose means are averaged, however few targets one of them has",
        ("loss * (self._ranks.size / total)", "loss / max(1, sum(int((t != IGNORED).sum()) for _, t in shares))"),
    ),
    Misconception(
        "gradients averaged over the processes that should be summed", ("(self._ranks.size / total)", "(1 / total)")
    ),
    Misconception(
        "processes that never share their gradients, and train a model each",
        (
            "self.replica = DistributedDataParallel(model)",
            "pass",
        ),
    ),
    Misconception(
        "a loss that is the share of the first process",
        (
            "loss = self._ranks.sum(self._accumulate(shares, total)) / total",
            "loss = self._accumulate(shares, total) / total",
        ),
    ),
    Misconception(
        "progress told by every process",
        ("for listener in self.listeners if self._ranks.rank == 0 else ():", "for listener in self.listeners:"),
    ),
    Misconception(
        "checkpoints saved by every process",
        ("if self.store is not None and self._ranks.rank == 0:", "if self.store is not None:"),
    ),
]

VOCABULARY = 7
PAUSE = 0.05  # seconds, which are much beside the few milliseconds of a step


class _Model(nn.Module):
    """A small language model: from a token's vector to the next token, with dropout between; it notes its calls."""

    def __init__(self, draw: Draw, dropout: float = 0.0) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, 6)
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(6, VOCABULARY)
        draw.fill(self, scale=0.7)
        self.calls: list[Any] = []
        self.note: Callable[[_Model, Tensor], Any] | None = None

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, T) to (B, T, V)."""
        if self.note is not None:
            self.calls.append(self.note(self, tokens))
        logits: Tensor = self.linear(self.dropout(self.embedding(tokens)))
        return logits


def workload(task: Any, draw: Draw) -> list[Workload]:
    """A typical call, for `compare`."""
    config = GPT2Config(
        vocab_size=50,
        context_length=32,
        embed_dim=32,
        num_layers=2,
        num_heads=2,
        dropout=0.0,
        attention_dropout=0.0,
        embedding_dropout=0.0,
    )
    weights = GPT2(config).state_dict()
    rows = [draw.integers(0, 50, 33) for _ in range(16)]

    def train() -> Tensor:
        model = GPT2(config)
        model.load_state_dict(weights)
        batches = BatchLoader(rows, 4, collate=collate_rows)
        task.Trainer(
            model, torch.optim.AdamW(model.parameters()), batches, task.TrainingConfig(10, accumulation=2)
        ).train()
        return nn.utils.parameters_to_vector(model.parameters())

    return [Workload("Trainer(...).train(), 10 steps of 2 micro-batches of 4 rows of 32 tokens", train)]


def _batches(draw: Draw, count: int) -> list[tuple[Tensor, Tensor]]:
    """Batches of different sizes, with different shares of targets that do not count; the first target always does."""
    made = []
    for _ in range(count):
        shape = (draw.integer(1, 5), draw.integer(2, 7))
        inputs, targets = draw.integers(0, VOCABULARY, *shape), draw.integers(0, VOCABULARY, *shape)
        hidden = draw.booleans(*shape, probability=float(draw.uniform(0.0, 0.9, 1)))
        hidden[0, 0] = False
        made.append((inputs, targets.masked_fill(hidden, -100)))
    return made


def _oracle(
    model: _Model,
    optimizers: Sequence[torch.optim.Optimizer],
    steps: Sequence[Sequence[tuple[Tensor, Tensor]]],
    max_norm: float = math.inf,
    schedule: Callable[[int], float] = lambda step: 1.0,
) -> dict[str, Any]:
    """Each step as one sum over all its rows, cut back by hand."""
    rates = [[group["lr"] for group in optimizer.param_groups] for optimizer in optimizers]
    told: dict[str, dict[str, float]] = {"loss": {}, "gradient_norm": {}, "learning_rate": {}}
    for number, step in enumerate(steps):
        nats = sum(
            F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten(), reduction="sum") for inputs, targets in step
        )
        loss = nats / sum(int((targets >= 0).sum()) for _, targets in step)
        assert isinstance(loss, Tensor)
        parameters = list(model.parameters())
        gradients = torch.autograd.grad(loss, parameters)
        norm = math.sqrt(sum(float(gradient.square().sum()) for gradient in gradients))
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient * min(1.0, max_norm / norm)
        for optimizer, own in zip(optimizers, rates, strict=True):
            for group, rate in zip(optimizer.param_groups, own, strict=True):
                group["lr"] = rate * schedule(number)
            optimizer.step()
        told["loss"][f"step {number + 1}"] = loss.item()
        told["gradient_norm"][f"step {number + 1}"] = norm
        told["learning_rate"][f"step {number + 1}"] = rates[0][0] * schedule(number)
    return {**told, **_weights(model)}


def _weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def _sgd(model: nn.Module, rate: float = 0.5) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=rate, momentum=0.5)


def _train(model: _Model, optimizers: Any, batches: Any, config: dict[str, Any], **options: Any) -> dict[str, Any]:
    """What the learner's trainer tells of each step, and the weights after the last."""
    trainer = Trainer(model, optimizers, batches, TrainingConfig(**{"log_every": 1, **config}), **options)
    history = trainer.train()
    names = ("loss", "gradient_norm", "learning_rate")
    by_step = {name: {f"step {told.step}": float(getattr(told, name)) for told in history} for name in names}
    return {**by_step, **_weights(model)}


def _compare(check: Check, call: str, found: Callable[[], Any], expected: Any, note: str = "") -> Answer:
    # Sums come in another order, and clip_grad_norm_ divides by the norm and 1e-6: of norms of 0.1 and more that is
    # 1e-5, some of which each step hands on to the next.
    return check.run(call, found).equals(expected, rtol=2e-4, atol=2e-5, note=note)


def _called(model: str = "model", /, **config: Any) -> str:
    return f"Trainer({model}, ..., TrainingConfig({', '.join(f'{name}={value!r}' for name, value in config.items())})).train()"


class _Scores(nn.Module):
    """Two scores, whatever the tokens are."""

    def __init__(self) -> None:
        super().__init__()
        self.scores = nn.Parameter(torch.zeros(2))

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, T) to (B, T, 2)."""
        return self.scores.expand(*tokens.shape, 2)


def test_by_hand(check: Check) -> None:
    """Two scores of 0 and targets 0 0 0 1: loss ln 2, gradient (-1/4, 1/4), and a step of rate 1 against it."""
    model = _Scores()
    batch = (torch.zeros(2, 3, dtype=torch.int64), torch.tensor([[0, 0, -100], [0, 1, -100]]))

    def train() -> dict[str, Any]:
        trainer = Trainer(model, torch.optim.SGD(model.parameters(), lr=1.0), [batch], TrainingConfig(1))
        history = trainer.train()
        names = ("step", "loss", "learning_rate", "gradient_norm", "tokens", "validation_loss")
        return {
            "times told": len(history),
            **{name: getattr(told, name) for told in history[-1:] for name in names},
            "scores": model.scores.detach(),
            "trainer.step": trainer.step,
        }

    numbers = {"step": 1, "loss": math.log(2), "learning_rate": 1.0, "gradient_norm": math.sqrt(2) / 4, "tokens": 4}
    scores = torch.tensor([0.25, -0.25])
    answer = check.run("Trainer(two scores, ..., TrainingConfig(1)).train()", train)
    if not answer.failed and answer.value["times told"] != 1:
        answer.satisfies(
            False, got=f"told {answer.value['times told']} times", expected="told once, after the last step"
        )
        return
    expected = {"times told": 1, **numbers, "validation_loss": None, "scores": scores, "trainer.step": 1}
    answer.equals(expected, note="of the 6 targets 4 count")


def test_config(check: Check) -> None:
    """A configuration has its defaults, cannot be changed, and refuses by name what cannot be meant."""
    config = check.build(TrainingConfig, 5)
    names = ["accumulation", "max_gradient_norm", "evaluate_every", "checkpoint_every", "log_every", "autocast"]
    check.run("the defaults of TrainingConfig(5)", lambda: [getattr(config, name) for name in names]).equals(
        [1, 1.0, None, None, 10, None]
    )
    check.raises(AttributeError, setattr, config, "steps", 6)
    for name in ("steps", "accumulation", "evaluate_every", "checkpoint_every", "log_every"):
        check.raises(ValueError, TrainingConfig, **{"steps": 5, name: 0}, naming=(name, "0"))
    check.build(TrainingConfig, 1, 1, 0.25, 1, 1, 1, torch.float16)  # all allowed
    for norm in (0.0, -0.5, math.nan):
        check.raises(ValueError, TrainingConfig, 5, max_gradient_norm=norm, naming=("max_gradient_norm", str(norm)))
    for dtype in (torch.int8, torch.float32):
        check.raises(ValueError, TrainingConfig, 5, autocast=dtype, naming=("autocast", str(dtype)))


def test_steps(check: Check) -> None:
    """Step by step as in a plain loop: batches of unequal sizes, padding, one after another."""
    batches = _batches(check.draw, 5)
    model = _Model(check.draw)
    twin = copy.deepcopy(model)
    expected = _oracle(twin, [_sgd(twin)], [[batch] for batch in batches])
    config = {"steps": 5, "max_gradient_norm": None}
    _compare(check, _called(**config), lambda: _train(model, _sgd(model), batches, config), expected)
    model = _Model(check.draw).double()
    twin = copy.deepcopy(model)
    expected = _oracle(twin, [_sgd(twin)], [batches[:2], batches[2:4]])
    config = {"steps": 2, "accumulation": 2, "max_gradient_norm": None}
    answer = check.run(_called("a model in float64", **config), lambda: _train(model, _sgd(model), batches, config))
    # Sums of at most 40 losses, each of some 20 operations, rounded by 1.1e-16 each: 1e-13 of what they are.
    answer.equals(expected, rtol=1e-11, atol=1e-11)


def test_accumulation(check: Check) -> None:
    """Three micro-batches of unequal numbers of targets make the step of the one large batch."""
    batches = _batches(check.draw, 12)
    model = _Model(check.draw)
    twin = copy.deepcopy(model)
    expected = _oracle(twin, [_sgd(twin)], [batches[start : start + 3] for start in range(0, 12, 3)], max_norm=0.3)
    config = {"steps": 4, "accumulation": 3, "max_gradient_norm": 0.3}
    note = "as with all rows of a step in one batch"
    _compare(check, _called(**config), lambda: _train(model, _sgd(model), batches, config), expected, note)


def test_clipping(check: Check) -> None:
    """The gradient is cut back as a whole, once a step, where it is longer than allowed; its own norm is told."""
    batches = _batches(check.draw, 4)
    for max_norm in (0.05, 100.0, None):
        model = _Model(check.draw)
        twin = copy.deepcopy(model)
        expected = _oracle(twin, [_sgd(twin)], [batches[:2], batches[2:]], max_norm=max_norm or math.inf)
        config = {"steps": 2, "accumulation": 2, "max_gradient_norm": max_norm}
        _compare(check, _called(**config), partial(_train, model, _sgd(model), batches, config), expected)


def test_schedule(check: Check) -> None:
    """Each step is made with its own factor, from that of step 0 on; groups and optimizers keep their own rates."""
    factors = [0.25, 1.0, 0.5, 0.125, 0.75, 0.0625, 0.375, 0.875, 0.625]
    batches = _batches(check.draw, 6)
    model = _Model(check.draw)
    twin = copy.deepcopy(model)

    def optimizers(of: _Model) -> list[torch.optim.Optimizer]:
        groups = [{"params": [of.embedding.weight], "lr": 0.4}, {"params": [of.linear.bias], "lr": 1.5}]
        return [torch.optim.SGD(groups, lr=0.1), torch.optim.SGD([of.linear.weight], lr=0.8, momentum=0.5)]

    steps = [batches[start : start + 2] for start in range(0, 6, 2)]
    expected = _oracle(twin, optimizers(twin), steps, schedule=factors.__getitem__)
    config = {"steps": 3, "accumulation": 2, "max_gradient_norm": None}
    call = (
        "Trainer(..., two optimizers, ..., TrainingConfig(3, accumulation=2), schedule=[0.25, 1.0, 0.5, ...]).train()"
    )
    _compare(
        check, call, lambda: _train(model, optimizers(model), batches, config, schedule=factors.__getitem__), expected
    )


def test_progress(check: Check) -> None:
    """Progress is told every few steps and after the last: to the listeners as it happens, and all of it at the end."""
    batches = _batches(check.draw, 7)
    model = _Model(check.draw)
    heard: list[Progress] = []
    screens = [io.StringIO() for _ in range(3)]
    consoles = [rich.console.Console(file=screen, force_terminal=True, width=150) for screen in screens]
    bar, plain_bar = ProgressBar(7, floor=0.123, console=consoles[0]), ProgressBar(7, console=consoles[1])

    def train() -> dict[str, Any]:
        with bar, plain_bar:
            listeners: list[Callable[[Progress], None]] = [heard.append, bar, plain_bar]
            history = Trainer(model, _sgd(model), batches, TrainingConfig(7, log_every=3), listeners=listeners).train()
        fine = [told.seconds > 0.0 and told.tokens_per_second > 0.0 for told in history]
        later = [after.seconds >= before.seconds for before, after in itertools.pairwise(history)]
        return {
            "steps": [told.step for told in history],
            "tokens": [told.tokens for told in history],
            "the listener heard the same": heard == history,
            "seconds and tokens per second above 0, and seconds never less": all(fine + later),
        }

    counts = [sum(int((targets >= 0).sum()) for _, targets in batches[:steps]) for steps in (3, 6, 7)]
    answer = check.run(_called(steps=7, log_every=3), train)
    answer.equals(
        {
            "steps": [3, 6, 7],
            "tokens": counts,
            "the listener heard the same": True,
            "seconds and tokens per second above 0, and seconds never less": True,
        }
    )
    if answer.failed or not heard:
        return
    with ProgressBar(7, console=consoles[2]) as third:
        third(dataclasses.replace(heard[-1], validation_loss=0.456))
    told = [f"loss {heard[-1].loss:.3f}{rest}" for rest in (" (floor 0.123)", "", ", held out 0.456")]
    lines = check.run("what three progress bars show at the end", lambda: [_last_line(screen) for screen in screens])
    lines.equals([f"step 7 of 7 ... {text}, {heard[-1].tokens_per_second:,.0f} tokens/s 0:00:00" for text in told])
    check.raises(AttributeError, setattr, heard[-1], "step", 8)


def _last_line(screen: io.StringIO) -> str:
    """The last line of a terminal, without colours, and with points for the bar."""
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue())
    if "_" in text:
        return f"an underscore in {text!r}"
    return re.sub(r"[^ -~]+", "...", [line for line in re.split(r"[\r\n]+", text) if line.strip()][-1]).strip()


class _Waiting:
    """Batches that let `PAUSE` seconds pass before each pass over them."""

    def __init__(self, batches: list[tuple[Tensor, Tensor]]) -> None:
        self.batches = batches

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        time.sleep(PAUSE)
        return iter(self.batches)


class _WaitingStore(CheckpointStore):
    """A store on a slow disk."""

    def save(self, *args: Any, **kwargs: Any) -> Path:
        """As a store."""
        time.sleep(PAUSE)
        return super().save(*args, **kwargs)


def test_speed(check: Check) -> None:
    """Seconds and tokens per second are of the steps alone, without what comes before, between and after them."""
    batches = [(torch.ones(2, 5, dtype=torch.int64), torch.ones(2, 5, dtype=torch.int64))]
    for what in ("evaluations", "checkpoints"):
        model = _Model(check.draw)
        config = TrainingConfig(5, log_every=1, evaluate_every=2, checkpoint_every=2)
        options: dict[str, Any] = {"validation": _Waiting(batches)}
        if what == "checkpoints":
            options = {"store": _WaitingStore(check.folder / "slow")}
        trainer = check.build(Trainer, model, _sgd(model), batches, config, **options)
        time.sleep(PAUSE)
        start = time.perf_counter()
        answer = check.run(f"train() of 5 steps with {what} that take long, after 2, 4 and 5", trainer.train)
        # What is left of the time when the three pauses, which last at least as long, are taken off.
        most = time.perf_counter() - start - 3 * PAUSE
        history = answer.value
        answer.satisfies(
            0.0 < history[-1].seconds <= most,
            got=f"seconds={history[-1].seconds:.3f}",
            expected=f"at most {most:.3f}: the {what} took the rest",
        )
        for told, since in ((history[0], "train began"), (history[-1], f"the {what} after step 4")):
            answer.satisfies(
                told.tokens_per_second >= 10 / most,
                got=f"tokens_per_second={told.tokens_per_second:.0f} at step {told.step}",
                expected=f"at least {10 / most:.0f}: 10 tokens since {since}",
            )
    model = _Model(check.draw)
    model.note = lambda model, _: None if model.calls else time.sleep(PAUSE)
    config = TrainingConfig(2, log_every=2, checkpoint_every=1)
    answer = check.run("train() of 2 steps, of which the first takes long", lambda: _train_only(model, batches, config))
    answer.satisfies(
        answer.value[-1].tokens_per_second <= 20 / PAUSE,
        got=f"tokens_per_second={answer.value[-1].tokens_per_second:.0f} at step 2",
        expected=f"at most {20 / PAUSE:.0f}: it is of both steps",
    )


def _train_only(model: _Model, batches: Any, config: TrainingConfig) -> list[Progress]:
    history: list[Progress] = Trainer(model, _sgd(model), batches, config).train()
    return history


class _Elsewhere(Tensor):
    """Tokens that are on another device until they are brought to the model's; it is only said, as there is but one."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = super().__torch_function__(func, types, args, kwargs or {})
        moved = func in (Tensor.to, Tensor.cpu) and isinstance(result, Tensor)
        return result.as_subclass(Tensor) if moved else result


def test_batches_are_brought(check: Check) -> None:
    """Batches that are on another device are brought to the model's: in training, and in evaluations."""
    model = _Model(check.draw)
    model.note = lambda _, tokens: "another device" if isinstance(tokens, _Elsewhere) else "the model's device"
    inputs, targets = _batches(check.draw, 1)[0]
    batches = [(inputs.as_subclass(_Elsewhere), targets.as_subclass(_Elsewhere))]

    def train() -> list[str]:
        Trainer(model, _sgd(model), batches, TrainingConfig(1), validation=batches).train()
        return model.calls

    answer = check.run("where the model's input is, in a step and in an evaluation, of batches elsewhere", train)
    answer.equals(["the model's device"] * 2)


def test_training_mode(check: Check) -> None:
    """Training is done in training mode, in whichever the model was before."""
    model = _Model(check.draw, dropout=0.5).eval()
    model.note = lambda model, _: model.training

    def train() -> list[bool]:
        Trainer(model, _sgd(model), _batches(check.draw, 2), TrainingConfig(2)).train()
        return model.calls

    answer = check.run("model.training in each of 2 steps, where model.eval() was called before", train)
    answer.equals([True, True])


def test_order_of_the_data(check: Check) -> None:
    """Batches come in the loader's order, pass after pass, each of its own epoch; a step may span two passes."""
    rows = torch.arange(1, 7)[:, None].expand(6, 3)
    seed = check.draw.integer(0, 1000)
    loader = BatchLoader(rows, 2, shuffle=True, seed=seed, collate=_first_tokens)
    loader.epoch = 4
    expected = [_rows_of(inputs) for epoch in (4, 5, 6) for inputs, _ in _epoch(rows, seed, epoch)]
    model = _Model(check.draw)
    model.note = lambda _, inputs: _rows_of(inputs)

    def train() -> list[str]:
        Trainer(model, _sgd(model), loader, TrainingConfig(4, accumulation=2)).train()
        return model.calls

    check.run("the batches that 4 steps of 2 micro-batches take from a loader of 3 batches, at epoch 4", train).equals(
        expected[:8]
    )


def _rows_of(inputs: Tensor) -> str:
    return f"rows {int(inputs[0, 0])} and {int(inputs[1, 0])}"


def _first_tokens(rows: list[Tensor]) -> tuple[Tensor, Tensor]:
    tokens = torch.stack(rows)
    return tokens, tokens


def _epoch(rows: Tensor, seed: int, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
    loader = BatchLoader(rows, 2, shuffle=True, seed=seed, collate=_first_tokens)
    loader.epoch = epoch
    return iter(loader)


class _Restless:
    """Validation batches that draw from torch's global generator, as a DataLoader does."""

    def __init__(self, batches: list[tuple[Tensor, Tensor]]) -> None:
        self.batches = batches

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        torch.rand(5)
        return iter(self.batches)


def _mean_loss(model: _Model, batches: Sequence[tuple[Tensor, Tensor]]) -> float:
    """Nats per target over all batches, without dropout."""
    with torch.no_grad():
        logits = torch.cat([model.linear(model.embedding(inputs)).flatten(0, 1) for inputs, _ in batches])
    return float(F.cross_entropy(logits, torch.cat([targets.flatten() for _, targets in batches])))


def test_evaluation(check: Check) -> None:
    """The loss over all validation targets, without dropout and gradients; the model is left as it was."""
    held_out = _batches(check.draw, 4)
    for training in (True, False):
        model = _Model(check.draw, dropout=0.5).train(training)
        model.note = lambda model, _: {"training": model.training, "gradients": torch.is_grad_enabled()}
        trainer = check.build(
            Trainer, model, _sgd(model), _batches(check.draw, 1), TrainingConfig(1), validation=held_out
        )
        expected = _mean_loss(model, held_out)
        answer = check.run("trainer.evaluate()", trainer.evaluate)
        # Sums of at most 100 losses in float32, in any order: each step rounds by 6e-8, and most of that cancels.
        answer.equals(expected, rtol=1e-5, note="each target of all batches counts the same")
        quiet = all(call == {"training": False, "gradients": False} for call in model.calls)
        answer.satisfies(
            quiet and len(model.calls) == 4,
            got=f"the model called in the state {next((call for call in model.calls if any(call.values())), 'right')}, {len(model.calls)} times",
            expected="called once a batch, in eval mode and without gradients",
        )
        check.run("model.training after evaluate()", partial(getattr, model, "training")).equals(
            training, note="as before"
        )
    without = check.build(Trainer, model, _sgd(model), _batches(check.draw, 1), TrainingConfig(1))
    check.raises(ValueError, without.evaluate)
    inputs, targets = held_out[0]
    hidden = [(inputs, torch.full_like(targets, -100))]
    nothing = check.build(Trainer, model, _sgd(model), _batches(check.draw, 1), TrainingConfig(1), validation=hidden)
    check.raises(ValueError, nothing.evaluate)
    lonely = [(inputs[:1, :1], targets[:1, :1])]
    single = check.build(Trainer, model, _sgd(model), _batches(check.draw, 1), TrainingConfig(1), validation=lonely)
    # One loss in float32, of some 20 operations.
    check.run("evaluate() of a single target", single.evaluate).equals(_mean_loss(model, lonely), rtol=1e-5)


def test_evaluation_while_training(check: Check) -> None:
    """It comes every few steps and after the last, and training goes on as if there had been none, bit for bit."""
    batches, held_out = _batches(check.draw, 5), _Restless(_batches(check.draw, 2))
    first = _Model(check.draw, dropout=0.4)
    second = copy.deepcopy(first)
    seed = check.draw.seed()
    losses: list[float] = []

    def train(model: _Model, **options: Any) -> dict[str, Any]:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            history = Trainer(
                model, _sgd(model), batches, TrainingConfig(5, log_every=5, evaluate_every=2), **options
            ).train()
        losses[:] = [told.validation_loss for told in history if told.validation_loss is not None]
        return {"evaluated at": [told.step for told in history if told.validation_loss is not None], **_weights(model)}

    expected = check.run(
        _called("a model with dropout", steps=5, evaluate_every=2) + " without validation batches", lambda: train(first)
    )
    answer = check.run(
        _called("a model with dropout", steps=5, evaluate_every=2) + " with them",
        lambda: train(second, validation=held_out),
    )
    # The same operations on the same numbers give the same bits.
    answer.equals(
        {**expected.value, "evaluated at": [2, 4, 5]}, rtol=0.0, atol=0.0, note="an evaluation leaves no trace"
    )
    # Sums of at most 50 losses in float32, in any order, as in the check before.
    check.run("the validation loss after the last step", lambda: losses[-1]).equals(
        _mean_loss(second, held_out.batches), rtol=1e-5
    )


def _noisy(rows: list[Tensor]) -> tuple[Tensor, Tensor]:
    """A batch of rows, some of whose tokens are replaced at random: the data draws from the global generator, too."""
    inputs, targets = collate_rows(rows)
    return torch.where(torch.rand(inputs.shape) < 0.2, 0, inputs), targets


def _run_of(check: Check, loader: str, name: str, **options: Any) -> tuple[Any, Any, Any]:
    """A trainer with all that there is to remember: dropout, noise, an order, moments, a schedule, a store."""
    model = _Model(Draw(1, loader), dropout=0.3)
    rows = [Draw(2, f"{loader} {number}").integers(0, VOCABULARY, 3 + number % 4) for number in range(10)]
    make = BatchLoader if loader == "BatchLoader" else make_data_loader
    batches: Any = make(rows, 3, shuffle=True, seed=5, collate=_noisy)
    store = CheckpointStore(check.folder / name)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05)
    config = TrainingConfig(**{"steps": 20, "accumulation": 3, "log_every": 1, **options})
    trainer = Trainer(model, optimizer, batches, config, schedule=lambda step: 1 / (1 + step), store=store)
    return trainer, model, store


def _told(history: Sequence[Progress]) -> dict[str, dict[str, float]]:
    names = ("loss", "learning_rate", "gradient_norm", "tokens")
    return {f"step {told.step}": {name: getattr(told, name) for name in names} for told in history}


def test_resume(check: Check) -> None:
    """1 step, 9 and 10 more, each in another trainer, are 20 steps, bit for bit: with either kind of loader."""
    for loader in ("BatchLoader", "DataLoader"):
        before = random_state()
        torch.manual_seed(check.draw.seed())
        start = random_state()
        try:

            def whole(loader: str = loader) -> dict[str, Any]:
                trainer, model, _ = _run_of(check, loader, f"{loader}-whole")
                return {"told": _told(trainer.train()), **_weights(model)}

            def part(steps: int, loader: str = loader) -> dict[str, Any]:
                trainer, _, store = _run_of(check, loader, f"{loader}-parts", steps=steps)
                resumed = trainer.resume()
                trainer.train()
                return {"resumed": resumed, "saved": store.latest() is not None, "trainer.step": trainer.step}

            def rest(loader: str = loader) -> dict[str, Any]:
                torch.rand(7)
                trainer, model, _ = _run_of(check, loader, f"{loader}-parts")
                resumed, step = trainer.resume(), trainer.step
                return {"resumed": resumed, "at": step, "told": _told(trainer.train()), **_weights(model)}

            expected = check.run(f"20 steps, batches from a {loader}", whole).value
            set_random_state(start)
            first = check.run("1 step, in the middle of the first pass, and a checkpoint", partial(part, 1))
            first.equals({"resumed": False, "saved": True, "trainer.step": 1})
            torch.rand(3)
            second = check.run("resume() in a new trainer, 9 steps and a checkpoint", partial(part, 10))
            second.equals({"resumed": True, "saved": True, "trainer.step": 10})
            answer = check.run(
                f"resume() in a third trainer, and the rest of 20 steps, batches from a {loader}",
                rest,
            )
            expected = {"resumed": True, "at": 10, **expected}
            # The same operations on the same numbers give the same bits.
            answer.equals(expected, rtol=0.0, atol=0.0, note="bit for bit, as without the interruption")
        finally:
            set_random_state(before)


def _steps_of(trainer: Any) -> list[int]:
    return [told.step for told in trainer.train()]


def test_resume_from_nothing(check: Check) -> None:
    """Without a store, and with an empty one, there is nothing to go on from: resume says so, and training begins."""
    model = _Model(check.draw)
    config = TrainingConfig(2, log_every=1)
    for store, what in [(None, "without a store"), (CheckpointStore(check.folder / "empty"), "with an empty store")]:
        trainer = check.build(Trainer, model, _sgd(model), _batches(check.draw, 2), config, store=store)
        check.run(f"resume() {what}", trainer.resume).equals(False)
        check.run("the steps that train() makes then", partial(_steps_of, trainer)).equals([1, 2])


def test_checkpoints(check: Check) -> None:
    """One every few steps and after the last; the best is the one of the lowest validation loss."""
    batches, held_out = _batches(check.draw, 6), _batches(check.draw, 2)
    model = _Model(check.draw)
    store = CheckpointStore(check.folder / "run", keep_last=9)
    saved: dict[Path, int] = {}
    config = TrainingConfig(5, log_every=1, evaluate_every=2, checkpoint_every=2)

    def train() -> dict[str, Any]:
        trainer = Trainer(
            model,
            _sgd(model, 2.0),
            batches,
            config,
            validation=held_out,
            store=store,
            listeners=[lambda told: look(told.step)],
        )
        history = trainer.train()
        look(6)
        losses = {told.step: told.validation_loss for told in history if told.validation_loss is not None}
        best = store.best()
        return {
            "checkpoints of the steps": sorted(saved.values()),
            "the best is that of the lowest loss": best is not None
            and saved[best] == min(losses, key=lambda step: losses[step] or 0.0),
            "latest": saved.get(store.latest() or Path()),
        }

    def look(step: int) -> None:
        """Whatever is there when a step is told of was saved after the step before."""
        for path in (check.folder / "run").glob("*"):
            saved.setdefault(path, step - 1)

    expected = {"checkpoints of the steps": [2, 4, 5], "the best is that of the lowest loss": True, "latest": 5}
    check.run(_called(steps=5, evaluate_every=2, checkpoint_every=2), train).equals(expected)
    noting = _Noting(check.folder / "noted")
    config = TrainingConfig(4, log_every=9, evaluate_every=2, checkpoint_every=3)
    trainer = check.build(Trainer, model, _sgd(model), batches, config, validation=held_out, store=noting)
    check.run(_called(steps=4, evaluate_every=2, checkpoint_every=3), trainer.train).value  # noqa: B018
    with_loss = check.run("the steps that were saved, and whether with a loss", lambda: dict(noting.noted))
    with_loss.equals({3: False, 4: True}, note="there was no evaluation after step 3")
    without = check.build(Trainer, model, _sgd(model), batches, TrainingConfig(1))
    check.run("save() without a store", without.save).equals(None)


class _Noting(CheckpointStore):
    """A store that notes the steps that it saves, and whether they have a loss."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.noted: dict[int, bool] = {}

    def save(self, state: Mapping[str, Any], step: int, loss: float | None = None) -> Path:
        """As a store."""
        self.noted[step] = loss is not None
        return super().save(state, step, loss)


def _interrupting(counts: Sequence[int]) -> Callable[[_Model, Tensor], None]:
    """Presses Ctrl-C in the middle of the numbered calls of a model, as often as the number is there."""

    def press(model: _Model, tokens: Tensor) -> None:
        for _ in range(counts.count(len(model.calls) + 1)):
            signal.raise_signal(signal.SIGINT)

    return press


def _interrupted(trainer: Any) -> str:
    """How training ends, with another handler of Ctrl-C set before, which is to be set afterwards, too."""

    def handler(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, handler)
    try:
        try:
            trainer.train()
            ending = "train() returned"
        except KeyboardInterrupt:
            ending = "KeyboardInterrupt"
        if signal.getsignal(signal.SIGINT) is not handler:
            ending += ", and Ctrl-C is not what it was before"
    finally:
        signal.signal(signal.SIGINT, before)
    return ending


def test_interrupt(check: Check) -> None:
    """Ctrl-C in the middle of step 4: the step is finished, a checkpoint saved, and what resumes from it goes on."""
    batches = _batches(check.draw, 7)
    start = _Model(check.draw)
    twin = copy.deepcopy(start)
    expected = _oracle(
        twin, [_sgd(twin)], [[batches[number % 7], batches[(number + 1) % 7]] for number in range(0, 12, 2)]
    )
    config = TrainingConfig(6, accumulation=2, max_gradient_norm=None)
    store = CheckpointStore(check.folder / "run")

    def interrupt() -> dict[str, Any]:
        model = copy.deepcopy(start)
        model.note = _interrupting([7])
        trainer = Trainer(model, _sgd(model), batches, config, store=store)
        return {
            "ends with": _interrupted(trainer),
            "trainer.step": trainer.step,
            "a checkpoint": store.latest() is not None,
        }

    answer = check.run("train(), with Ctrl-C in the first micro-batch of step 4", interrupt)
    expected_end = {"ends with": "KeyboardInterrupt", "trainer.step": 4, "a checkpoint": True}
    answer.equals(expected_end, note="step 4 is finished and saved first")

    def go_on() -> dict[str, Any]:
        model = copy.deepcopy(start)
        trainer = Trainer(model, _sgd(model), batches, config, store=store)
        resumed = [trainer.resume(), trainer.step]
        return {"resumed": resumed, "ends with": _interrupted(trainer), **_weights(model)}

    weights = {name: value for name, value in expected.items() if isinstance(value, Tensor)}
    _compare(
        check,
        "resume() and train() in a new trainer",
        go_on,
        {"resumed": [True, 4], "ends with": "train() returned", **weights},
        "as without Ctrl-C",
    )

    def in_the_last() -> dict[str, Any]:
        model = copy.deepcopy(start)
        model.note = _interrupting([12])
        trainer = Trainer(model, _sgd(model), batches, config)
        return {"ends with": _interrupted(trainer), "trainer.step": trainer.step}

    last = check.run("train() without a store, with Ctrl-C in the last of 6 steps", in_the_last)
    last.equals({"ends with": "KeyboardInterrupt", "trainer.step": 6}, note="also where all steps have been made")


def test_second_interrupt(check: Check) -> None:
    """A second Ctrl-C breaks off at once; in a thread, which signals never reach, training runs as well."""
    model, batches = _Model(check.draw), _batches(check.draw, 6)
    twin = copy.deepcopy(model)
    expected = _oracle(twin, [_sgd(twin)], [[batch] for batch in batches])
    weights = {name: value for name, value in expected.items() if isinstance(value, Tensor)}
    model.note = _interrupting([4, 4])
    trainer = check.build(Trainer, model, _sgd(model), batches, TrainingConfig(6, max_gradient_norm=None))

    def break_off() -> dict[str, Any]:
        return {"ends with": _interrupted(trainer), "trainer.step": trainer.step}

    answer = check.run("train(), with Ctrl-C twice in step 4", break_off)
    answer.equals({"ends with": "KeyboardInterrupt", "trainer.step": 3}, note="step 4 is not finished")

    def go_on() -> dict[str, Any]:
        model.note = None
        return {"ends with": _interrupted(trainer), "trainer.step": trainer.step, **_weights(model)}

    expected = {"ends with": "train() returned", "trainer.step": 6, **weights}
    _compare(check, "train() once more, in the same trainer", go_on, expected, "step 4 made anew with its batch")
    other = _Model(check.draw)
    done: list[int] = []

    def in_a_thread() -> list[int]:
        errors: list[BaseException] = []

        def work() -> None:
            try:
                done.extend(
                    told.step
                    for told in Trainer(other, _sgd(other), _batches(check.draw, 2), TrainingConfig(3)).train()
                )
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        for error in errors:
            raise error
        return done

    check.run("train() in a thread, 3 steps", in_a_thread).equals([3])


class _Steep(torch.autograd.Function):
    """Adds nothing, with a gradient that is infinite."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """As it is."""
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        """Infinite."""
        return gradients[0] * math.inf


class _Breaking(_Model):
    """A model whose loss, or the gradient of it, is not finite from its fifth call on."""

    def __init__(self, draw: Draw, steep: bool) -> None:
        super().__init__(draw)
        self.steep = steep
        self.note = lambda *_: None

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, T) to (B, T, V)."""
        logits = super().forward(tokens)
        if len(self.calls) < 5:
            return logits
        steep: Tensor = _Steep.apply(logits) if self.steep else logits * math.nan
        return steep


def test_not_finite(check: Check) -> None:
    """A loss or a gradient that is not finite ends the training by the number of its step, and changes nothing."""
    batches = _batches(check.draw, 6)
    for steep in (False, True):
        model = _Breaking(check.draw, steep)
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
        twin = copy.deepcopy(model)
        config: dict[str, Any] = {"accumulation": 2, "max_gradient_norm": 0.5}
        check.run(
            "train() of 2 steps",
            partial(_train, twin, torch.optim.AdamW(twin.parameters(), lr=0.1), batches, {"steps": 2, **config}),
        )
        trainer = check.build(Trainer, model, optimizer, batches, TrainingConfig(9, **config))

        def train(trainer: Any = trainer) -> Any:
            return trainer.train()

        train.__name__ = f"train, where the {'gradient' if steep else 'loss'} of step 3 is not finite: "
        check.raises(FloatingPointError, train, naming=("step", "3"))

        def left(trainer: Any = trainer, model: Any = model, optimizer: Any = optimizer) -> dict[str, Any]:
            counts = [int(state["step"]) for state in optimizer.state.values()]
            return {"trainer.step": trainer.step, "the optimizer's steps": counts, **_weights(model)}

        expected = {"trainer.step": 2, "the optimizer's steps": [2, 2, 2], **_weights(twin)}
        check.run("what is left then", left).equals(expected, note="as after step 2")


def test_refuses(check: Check) -> None:
    """No batches, and a step in which nothing counts, are refused: the second by its number."""
    model = _Model(check.draw)
    empty = check.build(Trainer, model, _sgd(model), [], TrainingConfig(3))
    check.raises(ValueError, empty.train)
    inputs, targets = _batches(check.draw, 1)[0]
    batches = [(inputs, targets), (inputs, torch.full_like(targets, -100))]
    nothing = check.build(Trainer, model, _sgd(model), batches, TrainingConfig(3))
    check.raises(ValueError, nothing.train, naming=("step", "2"))
    failing = check.build(Trainer, model, _sgd(model), _Failing(), TrainingConfig(3))
    check.raises(RuntimeError, failing.train, naming="the disk is gone")


class _Failing:
    """Batches that cannot be read."""

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        raise RuntimeError("the disk is gone")


class _Sure(nn.Module):
    """A model that is nearly sure of token 0, in float16 where autocast has it; a factor of its logits may be NaN."""

    def __init__(self, factor: float = 1.0) -> None:
        super().__init__()
        self.factor = factor
        self.linear = nn.Linear(1, 2)
        with torch.no_grad():
            self.linear.weight.copy_(torch.tensor([[0.5], [0.0]]))
            self.linear.bias.copy_(torch.tensor([20.0, 0.0]))

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, T) to (B, T, 2)."""
        logits: Tensor = self.linear(torch.full((*tokens.shape, 1), 0.5)) * self.factor
        return logits


def test_float16(check: Check) -> None:
    """In float16 gradients are scaled: one that overflows leaves its step out, and the next is scaled less."""
    token = torch.ones(1, 1, dtype=torch.int64)

    def trainer_of(steps: int, store: CheckpointStore | None = None, factor: float = 1.0) -> tuple[_Sure, Any]:
        model = _Sure(factor)
        config = TrainingConfig(steps, max_gradient_norm=None, log_every=1, autocast=torch.float16)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.25)
        return model, Trainer(model, optimizer, [(token, token)], config, store=store)

    def train(steps: int, store: CheckpointStore | None = None) -> dict[str, Any]:
        model, trainer = trainer_of(steps, store)
        trainer.resume()
        last = trainer.train()[-1]
        norm = last.gradient_norm if math.isfinite(last.gradient_norm) else "not finite"
        return {"trainer.step": trainer.step, "gradient_norm": norm, **_weights(model)}

    # The gradient of the two logits is (1, -1). Times 65536, with which GradScaler begins, float16 cannot hold it; times
    # 32768 it can, and the weights, whose input is 0.5, have gradients of (0.5, -0.5). All these are exact in float16.
    unmoved = {"linear.weight": torch.tensor([[0.5], [0.0]]), "linear.bias": torch.tensor([20.0, 0.0])}
    moved = {"linear.weight": torch.tensor([[0.375], [0.125]]), "linear.bias": torch.tensor([19.75, 0.25])}
    store = CheckpointStore(check.folder / "half")
    first = check.run(
        "train() of 1 step with autocast=float16, whose scaled gradient overflows", partial(train, 1, store)
    )
    first.equals({"trainer.step": 1, "gradient_norm": "not finite", **unmoved}, note="the step is left out")
    second = {"trainer.step": 2, "gradient_norm": math.sqrt(2.5), **moved}
    answer = check.run("train() of 2 steps with autocast=float16", partial(train, 2))
    answer.equals(second, note="the second step is scaled by half as much, and made")
    answer = check.run("resume() after step 1, and train() of the second", partial(train, 2, store))
    answer.equals(second, note="as without the interruption")
    _, broken = check.run("Trainer(a model of NaN, ...)", lambda: trainer_of(2, factor=math.nan)).value

    def train_broken() -> str:
        return f"what was told of {len(broken.train())} steps"

    train_broken.__name__ = "train, of a model whose logits are NaN, with autocast=float16: "
    for _ in range(2):  # also when it is called again
        check.raises(FloatingPointError, train_broken, naming=("step", "1"))


def test_autocast(check: Check) -> None:
    """With autocast the model computes in bfloat16, and its logits are turned to float32 for the loss."""
    batch = (check.draw.integers(0, VOCABULARY, 8, 40), check.draw.integers(0, VOCABULARY, 8, 40))
    model = _Model(check.draw)
    model.note = lambda *_: torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else None
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        logits = copy.deepcopy(model)(batch[0])
    loss = F.cross_entropy(logits.float().flatten(0, 1), batch[1].flatten())
    config = {"steps": 1, "autocast": torch.bfloat16}

    def train(config: dict[str, Any]) -> dict[str, Any]:
        model.calls.clear()
        told = Trainer(model, _sgd(model), [batch], TrainingConfig(**config), validation=[batch]).train()[0]
        return {"called with autocast to": [str(call) for call in model.calls], "loss": told.loss}

    answer = check.run(_called(**config), partial(train, config))
    # The sum of 320 losses in float32, in any order; in bfloat16 it would be off by 1e-3.
    answer.equals({"called with autocast to": ["torch.bfloat16"] * 2, "loss": float(loss)}, rtol=1e-5)
    off = check.run(
        _called(steps=1) + ": whether autocast is on", lambda: train({"steps": 1})["called with autocast to"]
    )
    off.equals(["None"] * 2)


def test_overfits(check: Check) -> None:
    """A small GPT-2 learns one batch by heart: its loss goes below 0.05, from about ln 11 = 2.4."""
    sizes = {"vocab_size": 11, "context_length": 8, "embed_dim": 16, "num_layers": 1, "num_heads": 2}
    rates = {"dropout": 0.0, "attention_dropout": 0.0, "embedding_dropout": 0.0}
    model = GPT2(GPT2Config(**sizes, **rates), generator=check.draw.generator)  # type: ignore[arg-type]
    # Rows that begin with tokens of their own, or nobody could tell them apart.
    rows = [torch.cat([torch.tensor([row]), check.draw.integers(0, 11, 5 + row)]) for row in range(4)]

    def train() -> list[float]:
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.03, weight_decay=0.0)
        history = Trainer(model, optimizer, [collate_rows(rows)], TrainingConfig(60, log_every=1)).train()
        return [history[0].loss, history[-1].loss]

    answer = check.run(_called("GPT2(...)", steps=60) + ": the first loss, and the last", train)
    first, last = answer.value
    answer.satisfies(
        2.2 < first < 2.6, got=f"a first loss of {first:.2f}", expected="about 2.4: all tokens equally likely"
    )
    answer.satisfies(last < 0.05, got=f"a last loss of {last:.3f}", expected="below 0.05")


class _Counting(CheckpointStore):
    """A store that counts what it saves."""

    saves = 0

    def save(self, *args: Any, **kwargs: Any) -> Path:
        """As a store."""
        self.saves += 1
        return super().save(*args, **kwargs)


def _in_one_of_two(rank: int, port: int, folder: str, seed: int) -> None:
    """What each of two processes does: it trains as if it were alone, and writes down what it has seen."""
    os.environ |= {"WORLD_SIZE": "2", "RANK": str(rank), "LOCAL_RANK": str(rank), "USE_LIBUV": "0"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    try:
        found = _together(Path(folder), seed)
    except BaseException as error:
        found = {"error": f"{type(error).__name__}: {error}"}
    torch.save(found, Path(folder, f"rank-{rank}.pt"))


def _together(folder: Path, seed: int) -> dict[str, Any]:
    """The training that one process and two do alike."""
    draw = Draw(seed, "together")
    batches, held_out = _batches(draw, 6), _batches(draw, 3)
    model = _Model(draw).double()
    torch.manual_seed(seed)
    heard: list[Progress] = []
    store = _Counting(folder / "run")
    config = {"steps": 3, "accumulation": 2, "max_gradient_norm": 0.3}
    found = _train(model, _sgd(model), batches, config, listeners=[heard.append], store=store, validation=held_out)
    told = [told.validation_loss for told in heard if told.validation_loss is not None]
    drawn = torch.rand(3).tolist()
    if dist.is_initialized():
        dist.barrier()  # what the first has saved is there when the second reads it
    again = Trainer(copy.deepcopy(model), _sgd(model), batches, TrainingConfig(3), store=store)
    resumed = again.resume()
    found |= {"resumed": resumed, "the same random numbers after resume()": torch.rand(3).tolist() == drawn}
    heard_tokens = [told.tokens for told in heard]
    return {**found, "saved": store.saves, "heard": heard_tokens, "validation": told, "drawn": drawn}


def _in_two_processes(folder: Path, seed: int) -> list[dict[str, Any]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [
        multiprocessing.Process(target=_in_one_of_two, args=(rank, port, str(folder), seed)) for rank in range(2)
    ]
    for process in processes:
        process.start()
    deadline = time.monotonic() + 25
    for process in processes:
        process.join(max(deadline - time.monotonic(), 0.0))
        if process.is_alive():  # it waits for the other one
            process.kill()
            process.join()
    found = []
    for rank in range(2):
        path = folder / f"rank-{rank}.pt"
        found.append(torch.load(path) if path.exists() else {"error": "no answer"})
        if "error" in found[-1]:
            raise RuntimeError(f"in process {rank}: {found[-1]['error']}")
    return found


def test_two_processes(check: Check) -> None:
    """Two processes, as torchrun starts them, make the steps of one; only the first saves and tells of it."""
    seed = check.draw.seed()
    draw = Draw(seed, "together")
    batches, held_out = _batches(draw, 6), _batches(draw, 3)
    model = _Model(draw).double()
    expected = _oracle(model, [_sgd(model)], [batches[start : start + 2] for start in (0, 2, 4)], max_norm=0.3)
    counts = [sum(int((targets >= 0).sum()) for _, targets in batches[:end]) for end in (2, 4, 6)]
    expected |= {"saved": 1, "heard": counts, "validation": [_mean_loss(model, held_out)]}
    expected |= {"resumed": True, "the same random numbers after resume()": True}
    alone = check.folder / "alone"
    alone.mkdir()

    def in_one() -> dict[str, Any]:
        with torch.random.fork_rng():
            found = _together(alone, seed)
        del found["drawn"]
        return found

    _compare(check, "train() in one process", in_one, expected)
    if check.verdicts:
        return
    both = check.run("train() in two processes", partial(_in_two_processes, check.folder, seed))
    first, second = both.value
    exact, found = expected["loss"]["step 1"], first["loss"]["step 1"]
    # The sum of at most 60 losses in float64, each of some 20 operations: 1e-13 of it. In float32 it would be 6e-8.
    both.satisfies(
        abs(found - exact) <= 1e-11 * exact,
        got=f"a loss of {found:.13g} in step 1 of a model in float64",
        expected=f"{exact:.13g}: what the processes add up is float64 as well",
    )
    both.satisfies(
        first.pop("drawn") != second.pop("drawn"),
        got="the same random numbers in both processes",
        expected="others in each: they would drop the same entries",
    )
    _compare(check, "train() in two processes: the first", lambda: first, expected, "as one process on all rows")
    quiet = {**expected, "saved": 0, "heard": [], "validation": []}
    _compare(check, "train() in two processes: the second", lambda: second, quiet, "the same weights, and silence")
