"""Decoding: a model says what might come next; here it writes, one token after the other.

Each token that is written is read again to find the one after it. With a cache the model reads that one alone, and not
the whole text; and several texts are written at once, each of them until it stops.

Symbols: B texts in a batch, T tokens in the longest of them so far.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from ..gpt2.model import GPT2
from .strategies import LogitFilter, next_token

PADDING = -1  # stands before a text that is shorter than others of its batch: negative, as no token is


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Within it, the model drops nothing out and keeps no graph; after it, each of its modules is as it was before.

    Args:
        model: put into evaluation, and what was in training is put back into it, also if an exception ends the block.

    Example:
        >>> model = nn.Dropout(0.5)
        >>> with evaluation_mode(model):
        ...     model(torch.ones(3, requires_grad=True))
        tensor([1., 1., 1.])
        >>> model.training
        True
    """
    # Not only the model's own flag: part of it may have been put into evaluation by itself, and stays there.
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        for module in training:
            module.training = True


def pad_left(prompts: Sequence[Sequence[int]]) -> Tensor:
    """Put texts of unequal length into one tensor, so that they all end at its last column.

    There the next token of each is found, and there it is put.

    Args:
        prompts: B texts of tokens, none of them empty.

    Returns:
        int64 (B, T): T is the length of the longest; before a shorter one stands `PADDING`.

    Example:
        >>> pad_left([[5, 6, 7], [8]])
        tensor([[ 5,  6,  7],
                [-1, -1,  8]])
    """
    length = max(map(len, prompts))
    return torch.tensor([[PADDING] * (length - len(prompt)) + list(prompt) for prompt in prompts])


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
    """Write on from each prompt: choose a token by `next_token`, put it behind the text, and so on.

    All prompts are read at once, the shorter ones padded on the left, and what is written to each is what would be
    written to it alone (with sampling: by the same probabilities). A text that has stopped gets nothing more, and the
    others go on. The model is called once for each step, and not again when all have stopped. It is in evaluation
    meanwhile and keeps no graph, and afterwards each of its modules is as it was before. The prompts stay as they are.

    Args:
        model: the model; its weights' device is where everything happens.
        prompts: B texts of tokens, of any lengths.
        max_new_tokens: at most so many tokens are written to each, at least 1.
        stop_tokens: whichever of these is chosen is the last of its text.
        filters: of `next_token`; each sees the text so far, prompt and new tokens, with `PADDING` before it.
        sampling: whether to draw, or to take the most likely token.
        generator: of `next_token`.
        cached: whether the keys and values of the tokens read are kept. If not, the whole text is read for each new
            token: the same result, up to rounding, and slow.

    Returns:
        For each prompt its new tokens, without the prompt, and with the stop token if one ended it.

    Raises:
        ValueError: `max_new_tokens` is below 1; a prompt is empty, or has a token that is negative or not below
            vocab_size; or a prompt and `max_new_tokens` are more together than the model's context_length. The message
            gives the values, and the number of the prompt, counted from 0.

    Example:
        >>> model = GPT2(GPT2Config(vocab_size=100, context_length=16, embed_dim=32, num_layers=2, num_heads=4))
        >>> [len(new) for new in generate(model, [[1, 2, 3], [4]], max_new_tokens=5)]
        [5, 5]
    """
    _check(model, prompts, max_new_tokens)
    if not prompts:
        return []
    choose = partial(next_token, filters=filters, sampling=sampling, generator=generator)
    written: list[list[int]] = [[] for _ in prompts]
    with evaluation_mode(model):
        for step in _steps(model, prompts, max_new_tokens, frozenset(stop_tokens), choose, cached):
            for row, token in step:
                written[row].append(token)
    return written


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
    """Write on from one prompt, and hand out each token as soon as it is chosen.

    Nothing is computed that has not been asked for: after the first token, the model has been called once. While the
    caller has a token, the model is in the mode it was in before, and gradients are on if they were: between two
    tokens the caller may do anything, or leave.

    Args:
        model: as of `generate`; so are the other arguments.
        prompt: one text of tokens.
        max_new_tokens: likewise.
        stop_tokens: likewise.
        filters: likewise.
        sampling: likewise.
        generator: likewise.
        cached: likewise.

    Returns:
        An iterator over the new tokens, the same that `generate` would give, with the stop token if one ended it.

    Raises:
        ValueError: as `generate`, of prompt 0; and at the call, not when the first token is asked for.

    Example:
        >>> for token in stream(model, tokenizer.encode("Once"), max_new_tokens=20):
        ...     print(tokenizer.decode([token]), end="", flush=True)
    """
    _check(model, [prompt], max_new_tokens)
    choose = partial(next_token, filters=filters, sampling=sampling, generator=generator)
    steps = _steps(model, [prompt], max_new_tokens, frozenset(stop_tokens), choose, cached)
    return _one_by_one(model, steps)


def _one_by_one(model: GPT2, steps: Iterator[list[tuple[int, int]]]) -> Iterator[int]:
    """Go each step in evaluation, and yield outside of it: a generator that waits must leave nothing switched."""
    while True:
        with evaluation_mode(model):
            step = next(steps, None)
        if step is None:
            return
        yield step[0][1]


def _steps(
    model: GPT2,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    stop_tokens: frozenset[int],
    choose: Callable[[Tensor, Tensor], Tensor],
    cached: bool,
) -> Iterator[list[tuple[int, int]]]:
    """Yield at each step the prompts that go on: the number of each, and the token that it gets."""
    text = pad_left(prompts).to(model.wte.weight.device)  # (B, T)
    padded = bool((text == PADDING).any())  # without padding no mask is needed, and attention is faster
    rows = list(range(len(prompts)))
    caches = model.make_caches(len(rows), text.shape[1] + max_new_tokens) if cached else None
    for _ in range(max_new_tokens):
        unread = text if caches is None else text[:, caches[0].length :]
        hidden = model.hidden(unread.clamp_min(0), text != PADDING if padded else None, caches=caches)
        chosen = choose(model.logits(hidden[:, -1]), text)  # (B,): the head is needed for the last position alone
        tokens = chosen.tolist()
        yield [(rows[index], token) for index, token in enumerate(tokens)]
        going = [index for index, token in enumerate(tokens) if token not in stop_tokens]
        if not going:
            return
        if len(going) < len(rows):  # who has stopped costs nothing any more
            kept = torch.tensor(going, device=text.device)
            rows, text, chosen = [rows[index] for index in going], text[kept], chosen[kept]
            for cache in caches or ():
                cache.reorder(kept)
        text = torch.cat([text, chosen[:, None]], dim=1)


def _check(model: GPT2, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> None:
    """Refuse what cannot be continued, before anything is computed."""
    if max_new_tokens < 1:
        raise ValueError(f"max_new_tokens must be at least 1, got {max_new_tokens}")
    size, room = model.config.vocab_size, model.config.context_length
    for number, prompt in enumerate(prompts):
        if not prompt:
            raise ValueError(f"prompt {number} is empty: there is nothing to go on from")
        for token in (min(prompt), max(prompt)):
            if not 0 <= token < size:
                raise ValueError(f"prompt {number}: token {token} is out of range for a vocab_size of {size}")
        if len(prompt) + max_new_tokens > room:
            raise ValueError(
                f"prompt {number}: {len(prompt)} tokens and max_new_tokens={max_new_tokens} do not fit into a "
                f"context_length of {room}"
            )
