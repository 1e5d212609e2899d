"""Every row stays in the batch until all have stopped; a mask of its own grows beside the text; classes, no generators."""

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..gpt2.model import GPT2
from .strategies import LogitFilter, next_token

PADDING = -1


class evaluation_mode:
    """Remembers the mode of each module, and puts all of them back."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.modes: dict[nn.Module, bool] = {}
        self.no_grad = torch.no_grad()

    def __enter__(self) -> None:
        for part in self.model.modules():
            self.modes[part] = part.training
        self.model.train(False)
        self.no_grad.__enter__()

    def __exit__(self, *error: Any) -> None:
        self.no_grad.__exit__(*error)
        for part, mode in self.modes.items():
            part.training = mode


def pad_left(prompts: Sequence[Sequence[int]]) -> Tensor:
    """A full tensor first, into which each text is written from the right."""
    longest = 0
    for prompt in prompts:
        longest = max(longest, len(prompt))
    padded = torch.full((len(prompts), longest), PADDING, dtype=torch.int64)
    for row, prompt in enumerate(prompts):
        padded[row, longest - len(prompt) :] = torch.as_tensor(prompt)
    return padded


class _Writer:
    """Texts that are being written; `step` adds a token to each."""

    def __init__(
        self,
        model: GPT2,
        prompts: Sequence[Sequence[int]],
        limit: int,
        stops: Collection[int],
        choose: Callable[[Tensor, Tensor], Tensor],
        cached: bool,
    ) -> None:
        self.model, self.choose, self.stops = model, choose, set(stops)
        self.text = pad_left(prompts).to(model.wte.weight.device)
        self.real = self.text.ge(0)
        self.active = [True] * len(prompts)
        self.left = limit
        self.caches = model.make_caches(len(prompts), self.text.size(1) + limit) if cached else None
        self.read = 0

    def over(self) -> bool:
        return self.left == 0 or not any(self.active)

    def step(self) -> list[int | None]:
        """The new token of each text, None for one that has stopped."""
        with evaluation_mode(self.model):
            tokens = torch.where(self.real, self.text, 0)[:, self.read :]
            logits = self.model(tokens, self.real, caches=self.caches)
            chosen = self.choose(logits[:, -1, :], self.text)
        if self.caches is not None:
            self.read = self.text.size(1)
        self.text = torch.cat((self.text, chosen.unsqueeze(1)), 1)
        self.real = torch.cat((self.real, torch.ones_like(chosen, dtype=torch.bool).unsqueeze(1)), 1)
        self.left -= 1
        new: list[int | None] = []
        for row, token in enumerate(chosen.tolist()):
            new.append(token if self.active[row] else None)
            self.active[row] = self.active[row] and token not in self.stops
        return new


class _Stream:
    """The iterator over the tokens of a single text."""

    def __init__(self, writer: _Writer) -> None:
        self.writer = writer

    def __iter__(self) -> Iterator[int]:
        return self

    def __next__(self) -> int:
        if self.writer.over():
            raise StopIteration
        (token,) = self.writer.step()
        assert token is not None
        return token


def generate(
    model: GPT2,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    stop_tokens: Collection[int] = (),
    filters: Sequence[LogitFilter] = (),
    sampling: bool = False,
    generator: torch.Generator | None = None,
    cached: bool = True,
) -> list[list[int]]:
    """All texts step by step, without those tokens that came behind a stop token."""
    refuse(model, prompts, max_new_tokens)
    results: list[list[int]] = [[] for _ in range(len(prompts))]
    if len(prompts) == 0:
        return results

    def choose(logits: Tensor, text: Tensor) -> Tensor:
        return next_token(logits, text, filters, sampling=sampling, generator=generator)

    writer = _Writer(model, prompts, max_new_tokens, stop_tokens, choose, cached)
    while not writer.over():
        for result, token in zip(results, writer.step(), strict=True):
            if token is not None:
                result.append(token)
    return results


def stream(
    model: GPT2,
    prompt: Sequence[int],
    *,
    max_new_tokens: int,
    stop_tokens: Collection[int] = (),
    filters: Sequence[LogitFilter] = (),
    sampling: bool = False,
    generator: torch.Generator | None = None,
    cached: bool = True,
) -> Iterator[int]:
    """The same for one text, each step when it is asked for."""
    refuse(model, (prompt,), max_new_tokens)

    def choose(logits: Tensor, text: Tensor) -> Tensor:
        return next_token(logits, text, filters, sampling=sampling, generator=generator)

    return _Stream(_Writer(model, (prompt,), max_new_tokens, stop_tokens, choose, cached))


def refuse(model: GPT2, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> None:
    """Whatever cannot be written on from."""
    if max_new_tokens <= 0:
        raise ValueError(f"max_new_tokens={max_new_tokens}, but one token at least has to be written")
    config = model.config
    for index, prompt in enumerate(prompts):
        if len(prompt) == 0:
            raise ValueError(f"an empty prompt: number {index}")
        wrong = [token for token in prompt if token < 0 or token >= config.vocab_size]
        if wrong:
            raise ValueError(f"there is no token {wrong[0]} in a vocabulary of {config.vocab_size} (prompt {index})")
        total = len(prompt) + max_new_tokens
        if total > config.context_length:
            raise ValueError(
                f"the model reads {config.context_length} tokens; prompt {index} has {len(prompt)}, and "
                f"{max_new_tokens} are to come"
            )
