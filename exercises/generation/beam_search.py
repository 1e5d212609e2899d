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
    raise NotImplementedError("generation/beam_search: beam_search")
