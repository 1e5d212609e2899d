"""Beam search: of all texts that might follow, look for the most likely, and not at each step for the likeliest token.

Symbols: N hypotheses that are being continued, at most `num_beams`; V the size of the vocabulary.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..gpt2.model import GPT2
from .decoding import evaluation_mode


@dataclass(frozen=True)
class Hypothesis:
    """A text that may follow the prompt; a value, which cannot be changed.

    Attributes:
        tokens: the new tokens, with end of text if it ended.
        log_probability: of all of them, in nats: the sum of each one's, given the prompt and those before it.
        score: `log_probability` / len(tokens)**length_penalty: by this, finished hypotheses are ranked.
    """

    tokens: tuple[int, ...]
    log_probability: float
    score: float


def beam_search(
    model: GPT2,
    prompt: Sequence[int],
    *,
    num_beams: int,
    max_new_tokens: int,
    end_of_text: int | None = None,
    length_penalty: float = 1.0,
    early_stopping: bool = False,
    num_results: int = 1,
) -> list[Hypothesis]:
    """Keep the `num_beams` likeliest hypotheses at each step, and return the best that were finished.

    (Sutskever et al. 2014, section 3.2; in its details as transformers does it.) At first there is one, without any
    token. A step:

    1. Continue each hypothesis by each token: N * V candidates, and the sums of their log-probabilities.
    2. Take the 2 * `num_beams` likeliest of them, best first; those of probability 0 are none.
    3. A candidate that ends in `end_of_text`, or has `max_new_tokens` tokens, is finished: it is never continued. If
       it is among the first `num_beams`, it joins the finished hypotheses, of which the `num_beams` of the highest
       scores are kept; if not, it is forgotten.
    4. The first `num_beams` of the other candidates are continued. (That is why twice as many are taken: half of them
       may have ended.)

    It is over when nothing is left to continue, or when `num_beams` hypotheses are finished and either
    `early_stopping`, or the likeliest that is being continued would not have a higher score than the worst of the
    finished, if it ended at its present length.

    The prompt is read once, and each new token once: the caches follow their hypotheses. Log-probabilities are taken
    and summed in the dtype of the logits, but of half precision in float32. The model is in evaluation meanwhile and
    keeps no graph, and afterwards each of its modules is as it was before. The prompt stays as it is.

    Args:
        model: the model; its weights' device is where everything happens.
        prompt: the tokens to go on from.
        num_beams: how many hypotheses are kept, at least 1.
        max_new_tokens: how long a hypothesis may become, at least 1.
        end_of_text: the token that finishes a hypothesis, if there is one.
        length_penalty: the exponent of the length (Wu et al. 2016, section 7, without its constants): 0 ranks by
            probability, which favours short texts; 1 by the mean over the tokens; above it, long texts are favoured.
        early_stopping: whether to be content with the first `num_beams` that are finished.
        num_results: how many to return, from 1 to `num_beams`.

    Returns:
        The finished hypotheses of the highest scores, best first: `num_results` of them, fewer only if there are not
        so many.

    Raises:
        ValueError: `num_beams`, `max_new_tokens` or `num_results` is below 1, or `num_results` above `num_beams`; the
            prompt is empty, or longer, with `max_new_tokens`, than the model's context_length. The message gives names
            and values.

    Example:
        Of two first tokens with probabilities 0.6 and 0.4 the second is right, if what follows it is certain, and what
        follows the first has only 0.5:

        >>> beam_search(model, [0], num_beams=2, max_new_tokens=2)[0]
        Hypothesis(tokens=(2, 3), log_probability=-0.916..., score=-0.458...)
    """
    _check(model, prompt, num_beams, max_new_tokens, num_results)
    device = model.wte.weight.device
    beams, finished = [Hypothesis((), 0.0, 0.0)], list[Hypothesis]()
    unread = torch.tensor([list(prompt)], device=device)  # (N, T): what the caches do not have yet

    def over(new: Hypothesis) -> bool:
        return len(new.tokens) == max_new_tokens or new.tokens[-1] == end_of_text

    with evaluation_mode(model):
        caches = model.make_caches(1, len(prompt) + max_new_tokens)
        while True:
            logits = model.logits(model.hidden(unread, caches=caches)[:, -1])  # (N, V)
            candidates = _continuations(beams, logits, 2 * num_beams, length_penalty)
            finished += [new for _, new in candidates[:num_beams] if over(new)]
            finished = sorted(finished, key=lambda hypothesis: hypothesis.score, reverse=True)[:num_beams]
            going = [(row, new) for row, new in candidates if not over(new)][:num_beams]
            beams = [new for _, new in going]
            if not beams:
                break
            # Of equal length, the likeliest is also the one of the highest score.
            if len(finished) == num_beams and (early_stopping or beams[0].score <= finished[-1].score):
                break
            rows = torch.tensor([row for row, _ in going], device=device)
            for cache in caches:
                cache.reorder(rows)
            unread = torch.tensor([[new.tokens[-1]] for new in beams], device=device)
    return finished[:num_results]


def _continuations(
    beams: Sequence[Hypothesis], logits: Tensor, count: int, length_penalty: float
) -> list[tuple[int, Hypothesis]]:
    """The likeliest continuations of all beams by one token, best first, each with the row of the beam it continues."""
    size, wide = logits.shape[-1], torch.promote_types(logits.dtype, torch.float32)
    sums = torch.tensor([beam.log_probability for beam in beams], dtype=wide, device=logits.device)
    totals = (sums[:, None] + logits.to(wide).log_softmax(dim=-1)).flatten()  # (N * V,)
    totals, places = totals.topk(min(count, len(totals)))
    length = len(beams[0].tokens) + 1
    return [
        (place // size, Hypothesis((*beams[place // size].tokens, place % size), total, total / length**length_penalty))
        for total, place in zip(totals.tolist(), places.tolist(), strict=True)
        if total > -math.inf
    ]


def _check(model: GPT2, prompt: Sequence[int], num_beams: int, max_new_tokens: int, num_results: int) -> None:
    """Refuse what cannot be searched, before anything is computed."""
    for name, number in (("num_beams", num_beams), ("max_new_tokens", max_new_tokens), ("num_results", num_results)):
        if number < 1:
            raise ValueError(f"{name} must be at least 1, got {number}")
    if num_results > num_beams:
        raise ValueError(f"num_results must be at most num_beams, got {num_results} of {num_beams}")
    if not prompt:
        raise ValueError("the prompt is empty: there is nothing to go on from")
    room = model.config.context_length
    if len(prompt) + max_new_tokens > room:
        raise ValueError(
            f"{len(prompt)} tokens and max_new_tokens={max_new_tokens} do not fit into a context_length of {room}"
        )
