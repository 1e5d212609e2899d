"""Plain lists and dictionaries, numbers of Python, a heap for what is finished; no type hints, no docstrings."""

import heapq
import itertools
import math

import torch


class Hypothesis:
    def __init__(self, tokens, log_probability, score):
        vars(self).update(tokens=tokens, log_probability=log_probability, score=score)

    def __setattr__(self, name, value):
        raise AttributeError("a hypothesis stays as it is")

    def __eq__(self, other):
        return isinstance(other, Hypothesis) and vars(self) == vars(other)

    def __hash__(self):
        return hash((self.tokens, self.score))


def beam_search(
    model,
    prompt,
    *,
    num_beams,
    max_new_tokens,
    end_of_text=None,
    length_penalty=1.0,
    early_stopping=False,
    num_results=1,
    device=None,
):
    if num_beams < 1 or max_new_tokens < 1 or num_results < 1 or num_results > num_beams:
        raise ValueError(
            f"cannot search with num_beams={num_beams}, max_new_tokens={max_new_tokens}, num_results={num_results}"
        )
    prompt = list(prompt)
    if not prompt:
        raise ValueError("prompt must not be empty")
    if len(prompt) + max_new_tokens > model.config.context_length:
        raise ValueError(
            f"{len(prompt)} + {max_new_tokens} tokens are more than the {model.config.context_length} there are"
        )
    modes = {module: module.training for module in model.modules()}
    try:
        model.eval()
        with torch.no_grad():
            results = search(model, prompt, num_beams, max_new_tokens, end_of_text, length_penalty, early_stopping)
    finally:
        for module in modes:
            module.training = modes[module]
    return results[:num_results]


def search(model, prompt, num_beams, max_new_tokens, end_of_text, length_penalty, early_stopping):
    caches = model.make_caches(1, len(prompt) + max_new_tokens)
    beams = [([], 0.0)]
    heap = []  # the worst of the finished comes first; the number of each keeps the order of equals
    numbers = itertools.count()
    unread = [prompt]
    length = 0
    while beams:
        length += 1
        hidden = model.hidden(torch.tensor(unread), caches=caches)
        rows = model.logits(hidden[:, -1]).double().log_softmax(dim=1).tolist()
        candidates = []
        for row, (tokens, total) in enumerate(beams):
            for token, log in enumerate(rows[row]):
                if log > -math.inf:
                    candidates.append((total + log, row, tokens + [token]))
        candidates = heapq.nlargest(2 * num_beams, candidates, key=lambda candidate: candidate[0])
        following = []
        for rank, (total, row, tokens) in enumerate(candidates):
            if tokens[-1] == end_of_text or length == max_new_tokens:
                if rank < num_beams:
                    heapq.heappush(heap, (total / length**length_penalty, -next(numbers), total, tuple(tokens)))
                    if len(heap) > num_beams:
                        heapq.heappop(heap)
            elif len(following) < num_beams:
                following.append((row, tokens, total))
        if not following:
            break
        if len(heap) == num_beams:
            if early_stopping:
                break
            if following[0][2] / length**length_penalty <= heap[0][0]:
                break
        for cache in caches:
            cache.reorder(torch.tensor([row for row, _, _ in following]))
        beams = [(tokens, total) for _, tokens, total in following]
        unread = [[tokens[-1]] for tokens, _ in beams]
    best = sorted(heap, reverse=True)
    return [Hypothesis(tokens, total, score) for score, _, total, tokens in best]
