"""The training loop: batches in, a trained model out, and at any moment a state from which it goes on.

One *step* changes the weights once. It may read several *micro-batches*, whose gradients add up to that of one large
batch which would not fit into memory. The trainer runs unchanged under `torchrun`: then each of several processes takes
a share of every micro-batch, and together they make the step that one alone would make.

Symbols: B rows in a micro-batch, T tokens in a row, V the size of the vocabulary.
"""

import atexit
import contextlib
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any, Protocol, Self

import rich.console
import rich.progress
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from ..gpt2.input_output import IGNORED
from ..networks.losses import cross_entropy
from .checkpointing import CheckpointStore, random_state, set_random_state
from .metrics import Throughput
from .schedule import apply_schedule

Batch = tuple[Tensor, Tensor]  # inputs and targets, both (B, T) int64; a target that does not count is IGNORED


class Batches(Protocol):
    """What gives batches: a pass over them, as often as one is asked for."""

    def __iter__(self) -> Iterator[Any]:
        """Begin a pass."""
        ...


@dataclass(frozen=True)
class TrainingConfig:
    """How long to train, and what happens every how many steps.

    Args:
        steps: how many steps there are in all, those of earlier runs counted.
        accumulation: how many micro-batches make a step.
        max_gradient_norm: to what norm the gradient of all parameters together is cut back; never if None.
        evaluate_every: after every how many steps there is an evaluation; after the last only, if None.
        checkpoint_every: likewise, for a checkpoint.
        log_every: likewise, for a `Progress`; there is one after the last step and after each evaluation, too.
        autocast: dtype to which autocast turns what bears it, bfloat16 or float16; everything stays as it is if None.
            With float16 gradients are scaled (`torch.amp.GradScaler`), lest they vanish, and a step whose scaled
            gradient overflows is left out: it counts, and changes no weight.

    Raises:
        ValueError: a number is below 1 (`max_gradient_norm`: not above 0), or `autocast` is another dtype; the message
            names which, and its value.
    """

    steps: int
    accumulation: int = 1
    max_gradient_norm: float | None = 1.0
    evaluate_every: int | None = None
    checkpoint_every: int | None = None
    log_every: int = 10
    autocast: torch.dtype | None = None

    def __post_init__(self) -> None:
        for name in ("steps", "accumulation", "evaluate_every", "checkpoint_every", "log_every"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if self.max_gradient_norm is not None and not self.max_gradient_norm > 0.0:
            raise ValueError(f"max_gradient_norm must be above 0, got {self.max_gradient_norm}")
        if self.autocast not in (None, torch.bfloat16, torch.float16):
            raise ValueError(f"autocast must be torch.bfloat16, torch.float16 or None, got {self.autocast}")


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
    """Trains a language model.

    A step does, in this order:

    1. takes `accumulation` micro-batches;
    2. computes the gradient of the mean loss over all targets of all of them: each target counts the same, however
       they are spread over rows and micro-batches, so it is the gradient of the one large batch (`IGNORED` targets
       count nowhere);
    3. cuts the gradient back to `max_gradient_norm` (Pascanu et al. 2013, section 3.2), once and as a whole;
    4. sets the learning rate to `schedule(step)` times that of each group, where the first step is number 0;
    5. lets the optimizers make their step.

    After the steps that `config` names, and after the last, it evaluates, tells of its progress, and saves: in this
    order. When the batches are used up, the next pass over them begins, also in the middle of a step.

    Ctrl-C does not break off a step: the step is finished, a checkpoint saved, and KeyboardInterrupt raised then. A
    second one breaks off at once. (Signals reach the main thread alone; elsewhere nothing is done about them.)

    Under `torchrun`, where the variable WORLD_SIZE is above 1, the processes make each step together, by
    `torch.distributed` and `DistributedDataParallel`, which the constructor sets up. All of them are given the same
    batches; each takes the rows ``rank::world_size`` of every micro-batch, and has random numbers of its own, which
    come back with `resume`. Gradient, loss and `Progress` are those of one process. Only rank 0 saves and calls
    `listeners`; `save`, `state_dict` and `evaluate` are to be called in all.

    Args:
        model: of tokens (B, T) to logits (B, T, V). It stays where it is, and batches are brought to it; under
            `torchrun` a model on a GPU is moved to the process's own.
        optimizers: one or several, of its parameters.
        batches: a `BatchLoader`, a `DataLoader`, or a list of batches: pairs of inputs and targets (B, T), int64. If it
            or its `sampler` has an `epoch`, which decides the order of the next pass, that is set.
        config: how long, and how often.
        schedule: gives the factor of the learning rate, by the number of the step from 0; always 1 if None.
        validation: batches to evaluate on; there is no evaluation if None.
        store: where checkpoints go; none are saved if None.
        listeners: are called with each `Progress`.

    Attributes:
        step: how many steps have been made.
        model: the model, as it was given.

    Example:
        >>> model = GPT2(GPT2Config(vocab_size=50, context_length=8, embed_dim=16, num_layers=1, num_heads=2))
        >>> rows = torch.arange(9).expand(4, 9)
        >>> trainer = Trainer(model, AdamW(model.parameters(), lr=0.01), [(rows[:, :-1], rows[:, 1:])],
        ...     TrainingConfig(steps=100))
        >>> trainer.train()[-1].loss < 0.1
        True
    """

    step: int

    def __init__(
        self,
        model: nn.Module,
        optimizers: Optimizer | Sequence[Optimizer],
        batches: Batches,
        config: TrainingConfig,
        *,
        schedule: Callable[[int], float] | None = None,
        validation: Iterable[Batch] | None = None,
        store: CheckpointStore | None = None,
        listeners: Sequence[Callable[[Progress], None]] = (),
    ) -> None:
        self.model = model
        self.optimizers = [optimizers] if isinstance(optimizers, Optimizer) else list(optimizers)
        self.config = config
        self.schedule = schedule
        self.validation = validation
        self.store = store
        self.listeners = listeners
        self.step = 0
        self._ranks = _Ranks(model)
        self._stream = _Stream(batches)
        self._place = self._stream.place  # behind the batches of the steps that have been made
        self._history: list[Progress] = []
        self._tokens = 0
        self._seconds = 0.0
        self._throughput = Throughput()
        # Half precision alone has so small a range that gradients are lost; disabled, the scaler does nothing.
        half = config.autocast == torch.float16
        self._scaler = torch.amp.GradScaler(self._ranks.device.type, enabled=half)

    def train(self) -> list[Progress]:
        """Make all steps that are left, with the model in training mode.

        After an error it may be called again: the step that was broken off is made anew, from its first batch.

        Returns:
            What was told of all steps, also of those before a `resume`.

        Raises:
            FloatingPointError: the loss or the gradient is not finite. The message names the step, by its number from
                1; neither the weights nor the optimizers have been changed by it, and it does not count.
            KeyboardInterrupt: Ctrl-C; a checkpoint has been saved.
            ValueError: there are no batches; or all targets of a step are `IGNORED`, and the message names it likewise.
        """
        self.model.train()
        self._throughput.reset()
        if self._stream.place != self._place:  # batches were taken for a step that was not made
            self._stream.go_to(*self._place)
        with _deferred_interrupt() as interrupted:
            while self.step < self.config.steps:
                start, shares = time.perf_counter(), []
                try:
                    shares = [self._ranks.share(self._stream.next()) for _ in range(self.config.accumulation)]
                except RuntimeError:
                    if not interrupted():  # else Ctrl-C has reached the workers of a DataLoader as well
                        raise
                if self._ranks.any(interrupted()):
                    self.save()
                    raise KeyboardInterrupt
                made = self._make_step(shares)
                self._seconds += time.perf_counter() - start
                self._after_step(*made)
            if interrupted():  # in the last step, after which all is saved
                raise KeyboardInterrupt
        return list(self._history)

    @torch.no_grad()
    def evaluate(self) -> float:
        """Measure the loss on the validation batches, without dropout and without leaving a trace in the training.

        Returns:
            Nats per target: each target of all batches counts the same.

        Raises:
            ValueError: there are no validation batches, or no targets in them.
        """
        if self.validation is None:
            raise ValueError("there are no validation batches")
        training, randomness = self.model.training, random_state()
        self.model.eval()
        nats, tokens = 0.0, 0
        try:
            for batch in self.validation:
                inputs, targets = self._ranks.share(batch)
                nats += float(self._nats(self.model, inputs, targets))
                tokens += int((targets != IGNORED).sum())
        finally:
            self.model.train(training)
            set_random_state(randomness)
        total = int(self._ranks.sum(tokens))
        if total == 0:
            raise ValueError("there are no targets in the validation batches")
        return self._ranks.sum(nats) / total

    def save(self) -> None:
        """Save a checkpoint, with the loss of the evaluation after the last step if there was one."""
        state = self.state_dict()
        if self.store is not None and self._ranks.rank == 0:
            last = self._history[-1] if self._history else None
            self.store.save(state, self.step, last.validation_loss if last and last.step == self.step else None)

    def resume(self) -> bool:
        """Go on from the latest checkpoint of the store that can be read.

        Returns:
            Whether there was one. What was trained from there is, number for number, what would have been trained
            without the interruption.
        """
        state = None if self.store is None else self.store.load_latest()
        if state is not None:
            self.load_state_dict(state)
        return state is not None

    def state_dict(self) -> dict[str, Any]:
        """All that training goes on from, as `save_state` takes it: the tensors are those in use, not copies.

        Returns:
            The states of model and optimizers, the step, the place in the order of the data (the epoch, and how many of
            its batches have been taken), where the random generators are, and what has been told.
        """
        return {
            "model": self.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "scaler": self._scaler.state_dict(),
            "step": self.step,
            "tokens": self._tokens,
            "seconds": self._seconds,
            "place": self._place,
            "random": self._ranks.gather(random_state()),
            "history": [asdict(progress) for progress in self._history],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from where another trainer, of the same model, optimizers and batches, was.

        Args:
            state: from its `state_dict`.
        """
        self.model.load_state_dict(state["model"])
        for optimizer, own in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(own)
        self._scaler.load_state_dict(state["scaler"])
        self.step, self._tokens, self._seconds = state["step"], state["tokens"], state["seconds"]
        self._history = [Progress(**told) for told in state["history"]]
        self._stream.go_to(*state["place"])
        self._place = self._stream.place
        # Last: whatever went before, above all the batches that were passed over, may have drawn numbers.
        set_random_state(state["random"][self._ranks.rank % len(state["random"])])

    def _make_step(self, shares: Sequence[Batch]) -> tuple[float, float, float]:
        """Change the weights once; returns the loss, the gradient's norm and the learning rate."""
        total = int(self._ranks.sum(sum(int((targets != IGNORED).sum()) for _, targets in shares)))
        if total == 0:
            raise ValueError(f"step {self.step + 1}: there are no targets in its batches")
        loss = self._ranks.sum(self._accumulate(shares, total)) / total
        norm = self._cut_back() if math.isfinite(loss) else math.nan
        # Where gradients are scaled, some overflow now and then: the scaler leaves those steps out by itself.
        if not math.isfinite(loss) or not (math.isfinite(norm) or self._scaler.is_enabled()):
            raise FloatingPointError(f"step {self.step + 1}: the loss is {loss}, the norm of its gradient {norm}")
        for optimizer in self.optimizers:
            if self.schedule is not None:
                apply_schedule(optimizer, self.schedule(self.step))
            self._scaler.step(optimizer)
        self._scaler.update()
        self.step += 1
        self._tokens += total
        self._throughput.update(total)
        self._place = self._stream.place
        return loss, norm, float(self.optimizers[0].param_groups[0]["lr"])

    def _accumulate(self, shares: Sequence[Batch], total: int) -> float:
        """Add up the gradient over this process's shares; returns the sum of their losses, in nats."""
        self.model.zero_grad()
        nats: Tensor | float = 0.0
        for number, (inputs, targets) in enumerate(shares):
            # Processes average their gradients when the last micro-batch has been added, and not before.
            with self._ranks.alone(number + 1 < len(shares)):
                loss = self._nats(self._ranks.replica, inputs, targets)
                # The average over the processes is to be the sum of their shares.
                self._scaler.scale(loss * (self._ranks.size / total)).backward()
            nats = nats + loss.detach()  # no float() here: a GPU would be waited for
        return float(nats)

    def _cut_back(self) -> float:
        """Cut the gradient back to its greatest norm; returns the norm that it had."""
        for optimizer in self.optimizers:
            self._scaler.unscale_(optimizer)
        return float(nn.utils.clip_grad_norm_(self.model.parameters(), self.config.max_gradient_norm or math.inf))

    def _nats(self, model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        """The sum of the losses of all targets."""
        with torch.autocast(inputs.device.type, self.config.autocast, enabled=self.config.autocast is not None):
            logits = model(inputs)  # (B, T, V)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))  # a sum of thousands of losses
        return cross_entropy(logits, targets, ignore_index=IGNORED, reduction="sum")

    def _after_step(self, loss: float, norm: float, rate: float) -> None:
        """Evaluate, tell and save, where it is time for it."""

        def due(every: int | None) -> bool:
            return self.step == self.config.steps or (every is not None and self.step % every == 0)

        evaluated = self.validation is not None and due(self.config.evaluate_every)
        if evaluated or due(self.config.log_every):
            speed = self._throughput.tokens_per_second
            validation_loss = self.evaluate() if evaluated else None
            progress = Progress(self.step, loss, rate, norm, self._tokens, speed, self._seconds, validation_loss)
            self._history.append(progress)
            for listener in self.listeners if self._ranks.rank == 0 else ():
                listener(progress)
        saved = self.store is not None and due(self.config.checkpoint_every)
        if saved:
            self.save()
        if evaluated or saved:
            self._throughput.reset()  # their time is not the training's


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


class _Stream:
    """Batches without end that knows its place: the epoch, and how many of its batches have been taken."""

    def __init__(self, batches: Batches) -> None:
        self._batches = batches
        # The order of a pass is decided by an `epoch`: of the loader, or of the sampler that a DataLoader has.
        self._counter = next((it for it in (batches, getattr(batches, "sampler", None)) if hasattr(it, "epoch")), None)
        self.go_to(0 if self._counter is None else self._counter.epoch, 0)

    def go_to(self, epoch: int, taken: int) -> None:
        """Go on behind the first batches of an epoch."""
        self.place = (epoch, 0)
        self._pass: Iterator[Any] | None = None
        for _ in range(taken):
            self.next()

    def next(self) -> Batch:
        """Take the next batch."""
        while True:
            epoch, taken = self.place
            if self._pass is None:
                if self._counter is not None:
                    self._counter.epoch = epoch
                self._pass = iter(self._batches)
            for inputs, targets in self._pass:
                self.place = (epoch, taken + 1)
                return inputs, targets
            if taken == 0:
                raise ValueError("there are no batches to train on")
            self.place = (epoch + 1, 0)
            self._pass = None


class _Ranks:
    """The processes that train together; often it is one alone."""

    def __init__(self, model: nn.Module) -> None:
        self.device = next(model.parameters()).device
        self.rank, self.size = 0, int(os.environ.get("WORLD_SIZE", "1"))  # torchrun says it in this way
        self.replica: nn.Module = model
        if self.size == 1:
            return
        if self.device.type == "cuda":
            self.device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
            torch.cuda.set_device(self.device)
            model.to(self.device)
        if not dist.is_initialized():
            dist.init_process_group()
            atexit.register(dist.destroy_process_group)
        self.rank = dist.get_rank()
        torch.manual_seed(torch.initial_seed() + self.rank)  # else all would drop the same entries
        self.replica = DistributedDataParallel(model)

    def share(self, batch: Batch) -> Batch:
        """This process's rows of a batch, on its device."""
        inputs, targets = (part[self.rank :: self.size].to(self.device) for part in batch)
        return inputs, targets

    def alone(self, apart: bool) -> contextlib.AbstractContextManager[None]:
        """Inside, if wanted, gradients are not averaged over the processes."""
        if apart and isinstance(self.replica, DistributedDataParallel):
            return self.replica.no_sync()
        return contextlib.nullcontext()

    def sum(self, value: float) -> float:
        """The sum of all processes' numbers."""
        if self.size == 1:
            return value
        total = torch.tensor(value, dtype=torch.float64, device=self.device)
        dist.all_reduce(total)
        return float(total)

    def any(self, asked: bool) -> bool:
        """Whether any of the processes was asked: what they decide by it, they decide alike."""
        return self.sum(float(asked)) > 0

    def gather(self, value: Any) -> list[Any]:
        """All processes' values, by rank."""
        values = [value] * self.size
        if self.size > 1:
            dist.all_gather_object(values, value)
        return values


@contextlib.contextmanager
def _deferred_interrupt() -> Iterator[Callable[[], bool]]:
    """Inside, the first Ctrl-C is only noted; gives a function that tells whether it came."""
    noted = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield noted.is_set
        return

    def note(number: int, frame: object) -> None:
        noted.set()
        signal.signal(signal.SIGINT, before)  # the second one shall not be noted, but obeyed

    before = signal.signal(signal.SIGINT, note)
    try:
        yield noted.is_set
    finally:
        signal.signal(signal.SIGINT, before)
