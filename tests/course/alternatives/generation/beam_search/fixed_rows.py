"""Always num_beams rows, those that are not there yet with a sum of -inf; texts and sums in tensors, as libraries do it."""

from typing import NamedTuple

import torch
from torch import Tensor

from ..gpt2.model import GPT2
from .decoding import evaluation_mode


class Hypothesis(NamedTuple):
    """A tuple with names."""

    tokens: tuple[int, ...]
    log_probability: float
    score: float


def beam_search(
    model: GPT2,
    prompt: list[int],
    *,
    num_beams: int,
    max_new_tokens: int,
    end_of_text: int | None = None,
    length_penalty: float = 1.0,
    early_stopping: bool = False,
    num_results: int = 1,
) -> list[Hypothesis]:
    """All rows begin with the prompt; of the first step, only the first row counts."""
    for what, number, most in (
        ("num_beams", num_beams, None),
        ("max_new_tokens", max_new_tokens, None),
        ("num_results", num_results, num_beams),
    ):
        if number < 1:
            raise ValueError(f"{what} = {number} is too small")
        if most is not None and number > most:
            raise ValueError(f"{what} = {number} is more than num_beams = {most}")
    if len(prompt) == 0:
        raise ValueError("an empty prompt cannot be continued")
    if len(prompt) + max_new_tokens > model.config.context_length:
        raise ValueError(
            f"a prompt of {len(prompt)} and {max_new_tokens} new tokens exceed {model.config.context_length} positions"
        )
    with evaluation_mode(model):
        return _search(model, prompt, num_beams, max_new_tokens, end_of_text, length_penalty, early_stopping)[
            :num_results
        ]


def _search(
    model: GPT2,
    prompt: list[int],
    num_beams: int,
    max_new_tokens: int,
    end_of_text: int | None,
    length_penalty: float,
    early_stopping: bool,
) -> list[Hypothesis]:
    caches = model.make_caches(num_beams, len(prompt) + max_new_tokens)
    text = torch.tensor(prompt).expand(num_beams, -1)
    new = text[:, :0]
    sums: Tensor | None = None
    done: list[Hypothesis] = []
    for step in range(max_new_tokens):
        logits = model(text if step == 0 else new[:, -1:], caches=caches)[:, -1, :]
        if logits.dtype not in (torch.float32, torch.float64):
            logits = logits.float()
        logs = logits - torch.logsumexp(logits, dim=-1, keepdim=True)
        if sums is None:
            sums = torch.full((num_beams,), -torch.inf, dtype=logs.dtype)
            sums[0] = 0.0
        totals = sums.unsqueeze(1) + logs
        vocabulary = totals.shape[1]
        ranked = totals.reshape(-1).sort(descending=True, stable=True)
        ranking = zip(ranked.values.tolist(), ranked.indices.tolist(), strict=True)
        norm = (step + 1) ** length_penalty
        chosen: list[tuple[int, int, float]] = []
        for rank, (total, index) in enumerate(ranking):
            if rank == 2 * num_beams or total == -torch.inf:
                break
            row, token = divmod(index, vocabulary)
            if step + 1 < max_new_tokens and token != end_of_text:
                if len(chosen) < num_beams:
                    chosen.append((row, token, total))
            elif rank < num_beams:
                done.append(Hypothesis((*new[row].tolist(), token), total, total / norm))
        done.sort(key=lambda one: one.score)
        done = done[::-1][:num_beams]
        if not chosen:
            break
        if len(done) == num_beams and (early_stopping or not chosen[0][2] / norm > done[-1].score):
            break
        alive = len(chosen)
        chosen += [(0, 0, -torch.inf)] * (num_beams - alive)
        rows = torch.tensor([row for row, _, _ in chosen])
        added = torch.tensor([[token] for _, token, _ in chosen])
        sums = torch.tensor([total for _, _, total in chosen], dtype=sums.dtype)
        new = torch.cat((new[rows], added), dim=1)
        for cache in caches:
            cache.reorder(rows)
    return done
