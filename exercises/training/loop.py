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
        raise NotImplementedError("training/loop: TrainingConfig.__post_init__")


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
        raise NotImplementedError("training/loop: Trainer.__init__")

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
        raise NotImplementedError("training/loop: Trainer.train")

    @torch.no_grad()
    def evaluate(self) -> float:
        """Measure the loss on the validation batches, without dropout and without leaving a trace in the training.

        Returns:
            Nats per target: each target of all batches counts the same.

        Raises:
            ValueError: there are no validation batches, or no targets in them.
        """
        raise NotImplementedError("training/loop: Trainer.evaluate")

    def save(self) -> None:
        """Save a checkpoint, with the loss of the evaluation after the last step if there was one."""
        raise NotImplementedError("training/loop: Trainer.save")

    def resume(self) -> bool:
        """Go on from the latest checkpoint of the store that can be read.

        Returns:
            Whether there was one. What was trained from there is, number for number, what would have been trained
            without the interruption.
        """
        raise NotImplementedError("training/loop: Trainer.resume")

    def state_dict(self) -> dict[str, Any]:
        """All that training goes on from, as `save_state` takes it: the tensors are those in use, not copies.

        Returns:
            The states of model and optimizers, the step, the place in the order of the data (the epoch, and how many of
            its batches have been taken), where the random generators are, and what has been told.
        """
        raise NotImplementedError("training/loop: Trainer.state_dict")

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from where another trainer, of the same model, optimizers and batches, was.

        Args:
            state: from its `state_dict`.
        """
        raise NotImplementedError("training/loop: Trainer.load_state_dict")


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
