"""Plain classes with slots, loops over the rows, and draws by the inverse of the distribution; no hints, no docstrings."""

import math

import torch

LogitFilter = object


class _Value:
    __slots__ = ("value",)

    def __init__(self, value):
        object.__setattr__(self, "value", value)

    def __setattr__(self, name, value):
        raise AttributeError(f"{type(self).__name__} cannot be changed")

    def __eq__(self, other):
        return type(self) is type(other) and self.value == other.value

    def __hash__(self):
        return hash((type(self).__name__, self.value))


class Temperature(_Value):
    __slots__ = ()

    def __init__(self, temperature):
        if not (temperature > 0) or math.isinf(temperature):
            raise ValueError(f"a temperature of {temperature}")
        super().__init__(temperature)

    def __call__(self, logits, tokens):
        return logits * (1 / self.value) if self.value != 1 else logits


class TopK(_Value):
    __slots__ = ()

    def __init__(self, k):
        if k <= 0:
            raise ValueError(f"cannot keep k = {k} tokens")
        super().__init__(k)

    def __call__(self, logits, tokens):
        result = torch.empty_like(logits)
        for row, values in enumerate(logits):
            least = values.sort(descending=True).values[: self.value][-1]
            result[row] = torch.where(values >= least, values, -torch.inf)
        return result


class TopP(_Value):
    __slots__ = ()

    def __init__(self, p):
        if not (0 < p <= 1):
            raise ValueError(f"p = {p} is no probability above 0")
        super().__init__(p)

    def __call__(self, logits, tokens):
        result = torch.full_like(logits, float("-inf"))
        for row, values in enumerate(logits):
            probabilities = values.double().softmax(0).tolist()
            best_first = sorted(range(len(probabilities)), key=lambda token: -probabilities[token])
            total = 0.0
            for token in best_first:
                if total >= self.value or probabilities[token] == 0:
                    break
                result[row, token] = logits[row, token]
                total += probabilities[token]
        return result


class MinP(_Value):
    __slots__ = ()

    def __init__(self, p):
        if math.isnan(p) or p < 0 or p > 1:
            raise ValueError(f"a share p must lie between 0 and 1: {p}")
        super().__init__(p)

    def __call__(self, logits, tokens):
        result = logits.clone()
        for row, values in enumerate(logits):
            shares = (values.double() - values.double().max()).exp()
            result[row][shares < self.value] = float("-inf")
        return result


class RepetitionPenalty(_Value):
    __slots__ = ()

    def __init__(self, penalty):
        if not (0 < penalty < float("inf")):
            raise ValueError(f"no penalty: {penalty}")
        super().__init__(penalty)

    def __call__(self, logits, tokens):
        if tokens.dim() != 2 or tokens.shape[0] != logits.shape[0]:
            raise ValueError(f"tokens {tuple(tokens.shape)} for logits {tuple(logits.shape)}")
        result = logits.clone()
        for row, text in enumerate(tokens.tolist()):
            for token in set(text):
                if token >= logits.shape[1]:
                    raise ValueError(f"there is no token {token} among {logits.shape[1]}")
                if token >= 0:
                    logit = logits[row, token]
                    result[row, token] = logit / self.value if logit > 0 else logit * self.value
        return result


def chain(*filters):
    if not filters:
        return lambda logits, tokens: logits
    first, rest = filters[0], chain(*filters[1:])
    return lambda logits, tokens: rest(first(logits, tokens), tokens)


def check_logits(logits):
    for row, values in enumerate(logits):
        if values.isnan().any() or values.max().isinf():
            raise ValueError(f"nothing can be chosen in row {row}")


def greedy(logits):
    check_logits(logits)
    return torch.stack([(row == row.max()).nonzero()[0, 0] for row in logits])


def sample(logits, *, generator=None):
    check_logits(logits)
    bounds = logits.double().softmax(1).cumsum(1)
    bounds = bounds / bounds[:, -1:]
    drawn = torch.rand(len(logits), 1, dtype=torch.float64, generator=generator)
    # The first token whose bound is above the number drawn: one without a probability never is.
    return torch.searchsorted(bounds, drawn, right=True).squeeze(1)


def next_token(logits, tokens, filters=(), *, sampling=False, generator=None):
    for one in filters:
        logits = one(logits, tokens)
    if sampling:
        return sample(logits, generator=generator)
    return greedy(logits)
