"""One class with everything in it: gradients divided after the fact, processes that add theirs up by hand, few types."""

import math
import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any, Protocol, Self

import rich.console
import rich.progress
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from .checkpointing import random_state, set_random_state
from .metrics import Throughput
from .schedule import apply_schedule

Batch = tuple[Tensor, Tensor]  # inputs and targets, both (B, T) int64; a target that does not count is IGNORED


class Batches(Protocol):
    """What gives batches: a pass over them, as often as one is asked for."""

    def __iter__(self) -> Iterator[Any]:
        """Begin a pass."""
        ...


def positive(name, value):
    if value is None:
        return
    if not value > 0:
        raise ValueError("%s: %s is not positive" % (name, value))


@dataclass(frozen=True)
class TrainingConfig:
    steps: int
    accumulation: int = 1
    max_gradient_norm: float | None = 1.0
    evaluate_every: int | None = None
    checkpoint_every: int | None = None
    log_every: int = 10
    autocast: torch.dtype | None = None

    def __post_init__(self):
        for key, value in vars(self).items():
            if key != "autocast":
                positive(key, value)
        if self.autocast is not None and self.autocast not in [torch.float16, torch.bfloat16]:
            raise ValueError("autocast cannot be %s" % self.autocast)


@dataclass(frozen=True)
class Progress:
    """What is told of a step."""

    step: int  # how many steps have been made, this one counted
    loss: float  # of this step, before it: nats per target, over all its micro-batches
    learning_rate: float  # with which this step was made, of the first optimizer's first group
    gradient_norm: float  # of all parameters together, before it was cut back
    tokens: int  # targets that have been trained on, in all steps
    tokens_per_second: float  # of the last steps since an evaluation or a checkpoint, by `training/metrics`' Throughput
    seconds: float  # spent on all steps, without evaluations and checkpoints
    validation_loss: float | None  # of an evaluation after this step


class Trainer:
    def __init__(self, model, optimizers, batches, config, *, schedule=None, validation=None, store=None, listeners=()):
        self.model = model
        if not isinstance(optimizers, (list, tuple)):
            optimizers = [optimizers]
        self.optimizers = optimizers
        self.batches = batches
        self.config = config
        self.schedule = schedule
        self.validation = validation
        self.store = store
        self.listeners = listeners

        self.world_size = int(os.environ.get("WORLD_SIZE", 1))
        self.rank = 0
        self.device = next(iter(model.parameters())).device
        if self.world_size > 1:
            self.rank = int(os.environ["RANK"])
            if self.device.type == "cuda":
                self.device = torch.device("cuda:" + os.environ["LOCAL_RANK"])
                model.to(self.device)
            if not dist.is_initialized():
                dist.init_process_group(backend="gloo")
            for p in model.state_dict().values():
                dist.broadcast(p, 0)
            if self.rank != 0:
                torch.manual_seed(torch.randint(2**31, (1,)).item() + self.rank)

        self.step = 0
        self.tokens = 0
        self.seconds = 0.0
        self.history = []
        self.throughput = Throughput()
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=config.autocast == torch.float16)

        # whose epoch decides the order
        self.owner = None
        if hasattr(batches, "epoch"):
            self.owner = batches
        elif hasattr(getattr(batches, "sampler", None), "epoch"):
            self.owner = batches.sampler
        self.epoch = self.owner.epoch if self.owner else 0
        self.taken = 0
        self.iterator = None
        self.done = (self.epoch, 0)

    def add_up(self, number):
        if self.world_size == 1:
            return number
        t = torch.tensor([number], dtype=torch.double)
        dist.all_reduce(t)
        return t.item()

    def next_batch(self):
        if self.iterator is None:
            if self.owner:
                self.owner.epoch = self.epoch
            self.iterator = iter(self.batches)
        try:
            batch = next(self.iterator)
        except StopIteration:
            if self.taken == 0:
                raise ValueError("no batches")
            self.epoch += 1
            self.taken = 0
            self.iterator = None
            return self.next_batch()
        self.taken += 1
        return batch[0], batch[1]

    def rewind(self, place):
        epoch, taken = place
        self.epoch = epoch
        self.taken = 0
        self.iterator = None
        while self.taken < taken:
            self.next_batch()
        self.done = (epoch, taken)

    def mine(self, batch):
        x, y = batch
        x = x[self.rank :: self.world_size].to(self.device)
        y = y[self.rank :: self.world_size].to(self.device)
        return x, y

    def loss_sum(self, x, y):
        dtype = self.config.autocast
        if dtype is None:
            logits = self.model(x)
        else:
            with torch.autocast(self.device.type, dtype=dtype):
                logits = self.model(x)
        if logits.dtype != torch.float64:
            logits = logits.float()
        V = logits.shape[-1]
        return F.cross_entropy(logits.reshape(-1, V), y.reshape(-1), reduction="sum")

    def train_step(self, batches):
        number = self.step + 1
        count = 0
        for x, y in batches:
            count += int(torch.sum(y != -100))
        count = int(self.add_up(count))
        if count == 0:
            raise ValueError("step %d has no targets" % number)
        for p in self.model.parameters():
            p.grad = None
        total = 0.0
        for x, y in batches:
            loss = self.loss_sum(x, y)
            self.scaler.scale(loss).backward()
            total += loss.item()
        loss = self.add_up(total) / count
        if not math.isfinite(loss):
            raise FloatingPointError("step %d: loss %s" % (number, loss))
        for optimizer in self.optimizers:
            self.scaler.unscale_(optimizer)
        squares = 0.0
        with torch.no_grad():
            for p in self.model.parameters():
                if p.grad is None:
                    continue
                if self.world_size > 1:
                    dist.all_reduce(p.grad)
                p.grad /= count
                squares += torch.linalg.vector_norm(p.grad).double().item() ** 2
        norm = squares**0.5
        if not math.isfinite(norm) and not self.scaler.is_enabled():
            raise FloatingPointError("step %d: gradient of norm %s" % (number, norm))
        limit = self.config.max_gradient_norm
        if limit is not None and norm > limit:
            for p in self.model.parameters():
                if p.grad is not None:
                    p.grad *= limit / norm
        for optimizer in self.optimizers:
            if self.schedule is not None:
                apply_schedule(optimizer, self.schedule(self.step))
            self.scaler.step(optimizer)
        self.scaler.update()
        self.step = number
        self.tokens += count
        self.throughput.update(count)
        self.done = (self.epoch, self.taken)
        return loss, norm

    def time_for(self, every):
        if self.step == self.config.steps:
            return True
        return every is not None and self.step % every == 0

    def train(self):
        pressed = []
        main = threading.current_thread() is threading.main_thread()
        if main:
            old = signal.getsignal(signal.SIGINT)

            def handler(*args):
                pressed.append(True)
                signal.signal(signal.SIGINT, old)

            signal.signal(signal.SIGINT, handler)
        try:
            self.loop(pressed)
        finally:
            if main:
                signal.signal(signal.SIGINT, old)
        return self.history[:]

    def loop(self, pressed):
        self.model.train()
        self.throughput.reset()
        if (self.epoch, self.taken) != self.done:
            self.rewind(self.done)
        while self.step < self.config.steps:
            t0 = time.perf_counter()
            batches = []
            for i in range(self.config.accumulation):
                batches.append(self.mine(self.next_batch()))
            loss, norm = self.train_step(batches)
            self.seconds += time.perf_counter() - t0
            self.report(loss, norm)
            if self.add_up(len(pressed)) > 0:
                self.save()
                raise KeyboardInterrupt()

    def report(self, loss, norm):
        evaluated = self.validation is not None and self.time_for(self.config.evaluate_every)
        if evaluated or self.time_for(self.config.log_every):
            speed = self.throughput.tokens_per_second
            lr = self.optimizers[0].param_groups[0]["lr"]
            validation_loss = self.evaluate() if evaluated else None
            told = Progress(self.step, loss, lr, norm, self.tokens, speed, self.seconds, validation_loss)
            self.history.append(told)
            if self.rank == 0:
                for listener in self.listeners:
                    listener(told)
        if evaluated:
            self.throughput.reset()
        if self.store is not None and self.time_for(self.config.checkpoint_every):
            self.save()
            self.throughput.reset()

    def evaluate(self):
        if self.validation is None:
            raise ValueError("no validation batches were given")
        mode = self.model.training
        state = random_state()
        total = 0.0
        count = 0
        self.model.eval()
        try:
            with torch.no_grad():
                for batch in self.validation:
                    x, y = self.mine(batch)
                    total += self.loss_sum(x, y).item()
                    count += (y != -100).sum().item()
        finally:
            self.model.train(mode)
            set_random_state(state)
        total, count = self.add_up(total), self.add_up(count)
        if count == 0:
            raise ValueError("the validation batches have no targets")
        return total / count

    def save(self):
        loss = None
        if len(self.history) > 0 and self.history[-1].step == self.step:
            loss = self.history[-1].validation_loss
        state = self.state_dict()
        if self.store is not None and self.rank == 0:
            self.store.save(state, self.step, loss)

    def resume(self):
        if self.store is None:
            return False
        state = self.store.load_latest()
        if state is None:
            return False
        self.load_state_dict(state)
        return True

    def state_dict(self):
        generators = [random_state()]
        if self.world_size > 1:
            generators = [None] * self.world_size
            dist.all_gather_object(generators, random_state())
        return {
            "weights": self.model.state_dict(),
            "optimizers": [o.state_dict() for o in self.optimizers],
            "scaler": self.scaler.state_dict(),
            "numbers": [self.step, self.tokens, self.seconds],
            "done": list(self.done),
            "generators": generators,
            "history": [asdict(told) for told in self.history],
        }

    def load_state_dict(self, state):
        self.model.load_state_dict(state["weights"])
        for i in range(len(self.optimizers)):
            self.optimizers[i].load_state_dict(state["optimizers"][i])
        self.scaler.load_state_dict(state["scaler"])
        self.step, self.tokens, self.seconds = state["numbers"]
        self.history = [Progress(**told) for told in state["history"]]
        self.rewind(state["done"])
        set_random_state(state["generators"][self.rank])


class ProgressBar:
    """Shows how far training is: a listener of `Trainer`, used as a context manager around it.

    Args:
        total_steps: how many steps there are.
        floor: the lowest loss that any model can reach, if that is known; shown beside the loss.
        console: where to draw; the terminal if None.

    Example:
        >>> with ProgressBar(1000, floor=0.41) as bar:
        ...     Trainer(model, optimizer, batches, TrainingConfig(1000), listeners=[bar]).train()
    """

    def __init__(
        self, total_steps: int, *, floor: float | None = None, console: rich.console.Console | None = None
    ) -> None:
        self._floor = "" if floor is None else f" (floor {floor:.3f})"
        self._bar = rich.progress.Progress(
            rich.progress.TextColumn("step {task.completed:.0f} of {task.total:.0f}"),
            rich.progress.BarColumn(),
            rich.progress.TextColumn("{task.description}"),
            rich.progress.TimeRemainingColumn(),
            console=console,
        )
        self._task = self._bar.add_task("", total=total_steps)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bar.stop()

    def __call__(self, progress: Progress) -> None:
        """Draw what is told."""
        held_out = "" if progress.validation_loss is None else f", held out {progress.validation_loss:.3f}"
        text = f"loss {progress.loss:.3f}{held_out}{self._floor}, {progress.tokens_per_second:,.0f} tokens/s"
        self._bar.update(self._task, completed=progress.step, description=text)
