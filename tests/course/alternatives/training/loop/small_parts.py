"""Made of small parts: an endless generator of batches, a plan of one step as a function, the count of all in one dict."""

from __future__ import annotations

import functools
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, fields
from types import TracebackType
from typing import Any, NamedTuple, Protocol, Self

import rich.console
import rich.progress
import torch
from torch import Tensor, distributed, nn

from ..networks.losses import cross_entropy
from . import checkpointing, metrics
from . import schedule as schedules

Batch = tuple[Tensor, Tensor]  # inputs and targets, both (B, T) int64; a target that does not count is IGNORED


class Batches(Protocol):
    """What gives batches: a pass over them, as often as one is asked for."""

    def __iter__(self) -> Iterator[Any]:
        """Begin a pass."""
        ...


@dataclass(frozen=True)
class TrainingConfig:
    steps: int
    accumulation: int = 1
    max_gradient_norm: float | None = 1.0
    evaluate_every: int | None = None
    checkpoint_every: int | None = None
    log_every: int = 10
    autocast: torch.dtype | None = None

    def __post_init__(self) -> None:
        wrong = [
            f"{name}={value}"
            for name, value in ((field.name, getattr(self, field.name)) for field in fields(self))
            if value is not None and not self._is_right(name, value)
        ]
        if wrong:
            raise ValueError("cannot train with " + ", ".join(wrong))

    @staticmethod
    def _is_right(name: str, value: Any) -> bool:
        match name:
            case "autocast":
                return value in {torch.bfloat16, torch.float16}
            case "max_gradient_norm":
                return value > 0
            case _:
                return value >= 1


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


class Marked(NamedTuple):
    """A batch, and the place behind it."""

    batch: Any
    epoch: int
    taken: int


def endless(batches: Any, epoch: int, skip: int) -> Iterator[Marked]:
    """Batches for ever, from a place on."""
    holders = [holder for holder in (batches, getattr(batches, "sampler", None)) if hasattr(holder, "epoch")]
    while True:
        for holder in holders[:1]:
            holder.epoch = epoch
        taken = 0
        for taken, batch in enumerate(batches, 1):
            if taken > skip:
                yield Marked(batch, epoch, taken)
        if taken == 0:
            raise ValueError("an empty pass over the batches")
        epoch, skip = epoch + 1, 0


def first_epoch(batches: Any) -> int:
    return getattr(batches, "epoch", getattr(getattr(batches, "sampler", None), "epoch", 0))


@contextmanager
def ctrl_c() -> Iterator[Callable[[], bool]]:
    """Notes the first Ctrl-C."""
    came: list[int] = []
    if threading.main_thread() is not threading.current_thread():
        yield lambda: False
        return
    with ExitStack() as undo:
        usual = signal.getsignal(signal.SIGINT)
        undo.callback(signal.signal, signal.SIGINT, usual)

        def once(number: int, _: Any) -> None:
            came.append(number)
            signal.signal(number, usual)

        signal.signal(signal.SIGINT, once)
        yield lambda: bool(came)


@functools.cache
def join(kind: str) -> None:
    if not distributed.is_initialized():
        distributed.init_process_group("nccl" if kind == "cuda" else "gloo")


class Trainer:
    def __init__(
        self,
        model: nn.Module,
        optimizers: Any,
        batches: Batches,
        config: TrainingConfig,
        *,
        schedule: Callable[[int], float] | None = None,
        validation: Iterable[Batch] | None = None,
        store: checkpointing.CheckpointStore | None = None,
        listeners: Sequence[Callable[[Progress], None]] = (),
        verbose: bool = False,
    ) -> None:
        self.model, self.config, self.batches = model, config, batches
        self.optimizers = list(optimizers) if isinstance(optimizers, Sequence) else [optimizers]
        self.factor = schedule or (lambda step: 1.0)
        self.validation, self.store, self.verbose = validation, store, verbose
        self.together = int(os.environ.get("WORLD_SIZE", "0")) > 1
        self.device = next(model.parameters()).device
        self.wrapped = model
        self.rank, self.world = 0, 1
        if self.together:
            join(self.device.type)
            self.rank, self.world = distributed.get_rank(), distributed.get_world_size()
            if self.device.type == "cuda":
                self.device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
                model.to(self.device)
            torch.manual_seed(torch.initial_seed() + 1000 * self.rank)
            self.wrapped = nn.parallel.DistributedDataParallel(model)
        self.listeners = tuple(listeners) if self.rank == 0 else ()
        self.speed = metrics.Throughput()
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=config.autocast is torch.float16)
        self.counts: dict[str, Any] = dict(step=0, tokens=0, seconds=0.0, epoch=first_epoch(batches), taken=0)
        self.told: list[Progress] = []
        self.feed: Iterator[Marked] | None = None

    def at_place(self) -> Iterator[Marked]:
        epoch, taken = self.counts["epoch"], self.counts["taken"]
        feed = endless(self.batches, epoch, max(taken - 1, 0))
        if taken:
            next(feed)
        return feed

    @property
    def step(self) -> int:
        return self.counts["step"]

    def everybody(self, *numbers: float) -> list[float]:
        """The sums over the processes."""
        sums = torch.tensor(numbers, dtype=torch.float64, device=self.device)
        if self.together:
            distributed.all_reduce(sums, distributed.ReduceOp.SUM)
        return sums.tolist()

    def share(self, batch: Any) -> Batch:
        inputs, targets, *_ = batch
        return tuple(part.to(self.device)[self.rank : None : self.world] for part in (inputs, targets))

    def nats(self, model: nn.Module, batch: Batch) -> Tensor:
        kind = self.config.autocast
        with nullcontext() if kind is None else torch.autocast(self.device.type, dtype=kind):
            logits = model(batch[0])
        wide = logits if logits.dtype is torch.float64 else logits.to(torch.float32)
        return cross_entropy(wide, batch[1], reduction="none").sum()

    def train(self) -> list[Progress]:
        self.model.train()
        self.speed.reset()
        if self.feed is None:
            self.feed = self.at_place()
        with ctrl_c() as pressed:
            try:
                while self.step < self.config.steps:
                    self.one_step()
                    if self.everybody(pressed())[0]:
                        self.save()
                        raise KeyboardInterrupt
            except BaseException:
                self.feed = None
                raise
        return list(self.told)

    def one_step(self) -> None:
        began = time.perf_counter()
        marked = [next(self.feed) for _ in range(self.config.accumulation)]
        shares = [self.share(each.batch) for each in marked]
        (targets,) = self.everybody(sum(int(targets.ne(-100).sum()) for _, targets in shares))
        where = f"step {self.step + 1}"
        if not targets:
            raise ValueError(f"{where} teaches nothing: all its targets are ignored")
        loss = self.gradient(shares, targets)
        if not math.isfinite(loss):
            raise FloatingPointError(f"{where} has a loss of {loss:g}")
        for optimizer in self.optimizers:
            self.scaler.unscale_(optimizer)
        limit = self.config.max_gradient_norm
        gradients = [parameter.grad for parameter in self.model.parameters() if parameter.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        if not (norm.isfinite() or self.scaler.is_enabled()):
            raise FloatingPointError(f"{where} has a gradient of norm {norm.item():g}")
        if limit is not None:
            scale = torch.clamp(limit / (norm + 1e-12), max=1.0)
            for gradient in gradients:
                gradient.mul_(scale)
        for optimizer in self.optimizers:
            schedules.apply_schedule(optimizer, self.factor(self.step))
            self.scaler.step(optimizer)
        self.scaler.update()
        self.speed.update(int(targets))
        self.counts.update(epoch=marked[-1].epoch, taken=marked[-1].taken)
        for what, more in (("step", 1), ("tokens", int(targets)), ("seconds", time.perf_counter() - began)):
            self.counts[what] += more
        self.afterwards(loss, norm.item())

    def gradient(self, shares: list[Batch], targets: float) -> float:
        """Leaves it in the parameters, and returns the loss."""
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        self.model.zero_grad()
        *early, last = shares
        nats = []
        for share in early:
            with self.wrapped.no_sync() if self.together else nullcontext():
                nats.append(self.backward(share, targets))
        nats.append(self.backward(last, targets))
        return self.everybody(math.fsum(nats))[0] / targets

    def backward(self, share: Batch, targets: float) -> float:
        nats = self.nats(self.wrapped, share)
        self.scaler.scale(nats / targets * self.world).backward()
        return nats.item()

    def due(self, name: str) -> bool:
        every = getattr(self.config, name)
        return self.step == self.config.steps or bool(every) and not self.step % every

    def afterwards(self, loss: float, norm: float) -> None:
        speed, seconds = self.speed.tokens_per_second, self.counts["seconds"]
        held_out = None
        if self.validation is not None and self.due("evaluate_every"):
            held_out = self.evaluate()
            self.speed.reset()
        if held_out is not None or self.due("log_every"):
            rate = self.optimizers[0].param_groups[0]["lr"]
            self.told.append(Progress(self.step, loss, rate, norm, self.counts["tokens"], speed, seconds, held_out))
            for listener in self.listeners:
                listener(self.told[-1])
        if self.store and self.due("checkpoint_every"):
            self.save()
            self.speed.reset()

    def evaluate(self) -> float:
        if self.validation is None:
            raise ValueError("to evaluate takes validation batches")
        with ExitStack() as undo:
            undo.callback(checkpointing.set_random_state, checkpointing.random_state())
            undo.callback(self.model.train, self.model.training)
            undo.enter_context(torch.inference_mode())
            self.model.eval()
            shares = map(self.share, self.validation)
            pairs = [(self.nats(self.model, share).item(), int(share[1].ne(-100).sum())) for share in shares]
        nats, targets = self.everybody(*(math.fsum(column) for column in zip((0.0, 0), *pairs)))
        if not targets:
            raise ValueError("validation without a target")
        return nats / targets

    def save(self) -> None:
        state = self.state_dict()
        if self.store and self.rank == 0:
            losses = {told.step: told.validation_loss for told in self.told}
            self.store.save(state, self.step, losses.get(self.step))

    def resume(self) -> bool:
        state = self.store and self.store.load_latest()
        if state:
            self.load_state_dict(state)
        return bool(state)

    def state_dict(self) -> dict[str, Any]:
        generators = [checkpointing.random_state()]
        if self.together:
            mine, generators = generators[0], [None] * self.world
            distributed.all_gather_object(generators, mine)
        return dict(
            model=dict(self.model.state_dict()),
            optimizers={str(n): optimizer.state_dict() for n, optimizer in enumerate(self.optimizers)},
            scaler=self.scaler.state_dict(),
            counts=dict(self.counts),
            generators=generators,
            told=[vars(told) for told in self.told],
        )

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        for n, optimizer in enumerate(self.optimizers):
            optimizer.load_state_dict(state["optimizers"][str(n)])
        self.scaler.load_state_dict(state["scaler"])
        self.counts = dict(state["counts"])
        self.told = [Progress(**told) for told in state["told"]]
        self.feed = self.at_place()  # before the generators: to pass over batches may draw numbers
        checkpointing.set_random_state(state["generators"][self.rank % len(state["generators"])])


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
