"""Plain lists of tokens, padded anew at each step, and one generator for the texts; no type hints, no docstrings."""

import contextlib

import torch

from .strategies import next_token

PADDING = -1


@contextlib.contextmanager
def evaluation_mode(model):
    was = [(module, module.training) for module in model.modules()]
    try:
        with torch.no_grad():
            model.eval()
            yield model
    finally:
        for module, training in was:
            if training:
                module.training = True


def pad_left(prompts):
    longest = max(len(prompt) for prompt in prompts)
    rows = []
    for prompt in prompts:
        row = list(prompt)
        while len(row) < longest:
            row.insert(0, PADDING)
        rows.append(row)
    return torch.LongTensor(rows)


def one_step(model, texts, caches, read, options):
    tokens = pad_left(texts)
    mask = None if (tokens >= 0).all() else tokens != PADDING
    logits = model.logits(model.hidden(tokens[:, read:].clamp(min=0), mask, caches=caches)[:, -1:, :])
    return next_token(logits.squeeze(1), tokens, **options).tolist()


def generate(
    model, prompts, *, max_new_tokens, stop_tokens=(), filters=(), sampling=False, generator=None, cached=True
):
    check_prompts(model, prompts, max_new_tokens)
    if not prompts:
        return []
    options = {"filters": filters, "sampling": sampling, "generator": generator}
    texts = {number: list(prompt) for number, prompt in enumerate(prompts)}
    results = [[] for _ in prompts]
    longest = max(map(len, prompts))
    caches = model.make_caches(len(prompts), longest + max_new_tokens) if cached else None
    read = 0
    with evaluation_mode(model):
        for step in range(max_new_tokens):
            # Texts that are shorter than others keep their padding, also where the longest one has stopped.
            longest_now = longest + step
            padded = [[PADDING] * (longest_now - len(text)) + text for text in texts.values()]
            tokens = one_step(model, padded, caches, read, options)
            if caches is not None:
                read = longest_now
            keep = []
            for row, (number, token) in enumerate(zip(list(texts), tokens)):
                results[number].append(token)
                if token in stop_tokens:
                    del texts[number]
                else:
                    texts[number].append(token)
                    keep.append(row)
            if not keep:
                break
            if caches is not None:
                for cache in caches:
                    cache.reorder(torch.tensor(keep))
    return results


def stream(model, prompt, *, max_new_tokens, stop_tokens=(), filters=(), sampling=False, generator=None, cached=True):
    check_prompts(model, [prompt], max_new_tokens)
    options = {"filters": filters, "sampling": sampling, "generator": generator}

    def tokens_of():
        text = list(prompt)
        caches = model.make_caches(1, len(text) + max_new_tokens) if cached else None
        read = 0
        for _ in range(max_new_tokens):
            with evaluation_mode(model):
                (token,) = one_step(model, [text], caches, read, options)
            if cached:
                read = len(text)
            text.append(token)
            yield token
            if token in stop_tokens:
                break

    return tokens_of()


def check_prompts(model, prompts, max_new_tokens):
    if max_new_tokens < 1:
        raise ValueError("max_new_tokens = %d is too few" % max_new_tokens)
    for i, prompt in enumerate(prompts):
        if not len(prompt):
            raise ValueError("prompt %d must not be empty" % i)
        for token in prompt:
            if token not in range(model.config.vocab_size):
                raise ValueError("prompt %d has the token %d, which is not in the vocabulary" % (i, token))
        if len(prompt) + max_new_tokens > model.config.context_length:
            raise ValueError(
                "prompt %d of %d tokens and %d new ones are more than %d"
                % (i, len(prompt), max_new_tokens, model.config.context_length)
            )
