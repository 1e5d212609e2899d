"""Grades generation/strategies.

The oracles are the logits processors of transformers, sums over sorted probabilities by a loop in float64, and for
what is drawn at random a chi-squared test against the exact distribution.
"""

import math
import operator
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from checkpoints.checks import Check, Draw, Workload, call_text
from checkpoints.misconceptions import Misconception
from exercises.generation.strategies import (
    LogitFilter,
    MinP,
    RepetitionPenalty,
    Temperature,
    TopK,
    TopP,
    chain,
    greedy,
    next_token,
    sample,
)

MISCONCEPTIONS = [
    Misconception(
        "the temperature multiplied, not divided by",
        ("return logits / self.temperature", "return logits * self.temperature"),
    ),
    Misconception(
        "the temperature applied after the softmax, to probabilities",
        ("return logits / self.temperature", "return logits.softmax(dim=-1) / self.temperature"),
    ),
    Misconception(
        "top-k with one token too many", ("min(self.k, logits.shape[-1])", "min(self.k + 1, logits.shape[-1])")
    ),
    Misconception(
        "top-k with one token too few",
        ("min(self.k, logits.shape[-1])", "max(1, min(self.k, logits.shape[-1]) - 1)"),
    ),
    Misconception(
        "top-k that drops tokens as likely as the k-th",
        (
            "return logits.masked_fill(logits < kth, -math.inf)",
            """
            best = logits.topk(min(self.k, logits.shape[-1])).indices
            return torch.full_like(logits, -math.inf).scatter(-1, best, logits.gather(-1, best))
            """,
        ),
    ),
    Misconception(
        "a logit of 0 for what top-k leaves out, which is a probability like any other",
        ("masked_fill(logits < kth, -math.inf)", "masked_fill(logits < kth, 0.0)"),
    ),
    Misconception(
        "-inf written into the logits that were given, which belong to whoever called",
        ("return logits.masked_fill(logits < kth, -math.inf)", "return logits.masked_fill_(logits < kth, -math.inf)"),
    ),
    Misconception(
        "top-p that drops the token with which the sum reaches p",
        (
            "dropped = ascending.softmax(dim=-1).cumsum(dim=-1) <= 1.0 - self.p",
            "dropped = ascending.flip(-1).softmax(dim=-1).cumsum(dim=-1).flip(-1) > self.p",
        ),
    ),
    Misconception(
        "top-p with one token more than is needed to reach p",
        (
            "dropped[:, -1] = False",
            "dropped = dropped & dropped.roll(-1, dims=-1)\ndropped[:, -1] = False",
        ),
    ),
    Misconception("top-p that drops as much as p, and keeps the rest", ("<= 1.0 - self.p", "<= self.p")),
    Misconception(
        "top-p with the least likely tokens in the place of the most likely",
        ("_wide(logits).sort()", "_wide(logits).sort(descending=True)"),
    ),
    Misconception(
        "top-p with what was found in sorted order applied to tokens in their own",
        ("dropped.scatter(-1, order, dropped)", "dropped"),
    ),
    Misconception(
        "the nucleus summed in half precision",
        ("_wide(logits).sort()", "logits.sort()"),
    ),
    Misconception(
        "min-p as a bound for the probability itself, not for its share of the largest",
        (
            "wide < wide.amax(dim=-1, keepdim=True) + margin",
            "wide.softmax(dim=-1) < self.p",
        ),
    ),
    Misconception(
        "min-p as a share of the largest logit, not of the largest probability",
        (
            "wide < wide.amax(dim=-1, keepdim=True) + margin",
            "wide < self.p * wide.amax(dim=-1, keepdim=True)",
        ),
    ),
    Misconception(
        "a penalty that divides negative logits too, and so makes them likelier",
        ("torch.where(logits > 0, logits / self.penalty, logits * self.penalty)", "logits / self.penalty"),
    ),
    Misconception(
        "a penalty applied once for each time that the token occurs",
        (
            "return torch.where(seen[:, :size], penalised, logits)",
            """
            times = (tokens.unsqueeze(-1) == torch.arange(size, device=tokens.device)).sum(dim=1)
            factor = self.penalty ** times.to(logits.dtype)
            return torch.where(logits > 0, logits / factor, logits * factor)
            """,
        ),
    ),
    Misconception(
        "padding penalised as a token: -1 taken for the last of the vocabulary",
        ("tokens.masked_fill(tokens < 0, size)", "tokens % size"),
    ),
    Misconception(
        "tokens penalised that occur in any text of the batch",
        ("return torch.where(seen[:, :size]", "return torch.where(seen[:, :size].any(dim=0)"),
    ),
    Misconception("a chain in the reverse order", ("for filter_ in filters:", "for filter_ in reversed(filters):")),
    Misconception(
        "a chain of which each filter works on the logits as they were: the last one alone counts",
        (
            """
            for filter_ in filters:
                logits = filter_(logits, tokens)
            return logits
            """,
            """
            filtered = logits
            for filter_ in filters:
                filtered = filter_(logits, tokens)
            return filtered
            """,
        ),
    ),
    Misconception(
        "a draw from all tokens that are left as if they were equally likely",
        (
            "_wide(logits).softmax(dim=-1).multinomial(1",
            "_wide(logits).softmax(dim=-1).gt(0).float().multinomial(1",
        ),
    ),
    Misconception(
        "one draw for the whole batch: what is drawn for the first row is given to all",
        (
            ".multinomial(1, generator=generator).squeeze(-1)",
            ".multinomial(1, generator=generator)[:1, 0].expand(len(logits))",
        ),
    ),
    Misconception(
        "a generator that is not used: torch's global one is",
        (".multinomial(1, generator=generator)", ".multinomial(1)"),
    ),
    Misconception(
        "the most likely token, whether to sample or not",
        ("return sample(logits, generator=generator) if sampling else greedy(logits)", "return greedy(logits)"),
    ),
    Misconception(
        "a token drawn, whether to sample or not",
        (
            "return sample(logits, generator=generator) if sampling else greedy(logits)",
            "return sample(logits, generator=generator)",
        ),
    ),
]

# A chi-squared statistic of four degrees of freedom exceeds x with probability exp(-x / 2) (1 + x / 2): 4e-8 at 40.
# Every count expected below is above 1000, so the statistic is as good as chi-squared.
UNLIKELY = 40.0


def workload(task: Any, draw: Draw) -> list[Workload]:
    """Typical calls, for `compare`."""
    logits, tokens = draw.normal(16, 50257, scale=3.0), draw.integers(0, 50257, 16, 200)
    filters = [task.RepetitionPenalty(1.2), task.Temperature(0.8), task.TopK(50), task.TopP(0.95)]
    return [
        Workload("RepetitionPenalty(1.2)(logits, tokens)", filters[0], (logits, tokens)),
        Workload("TopK(50)(logits, tokens)", filters[2], (logits, tokens)),
        Workload("TopP(0.95)(logits, tokens)", filters[3], (logits, tokens)),
        Workload("MinP(0.05)(logits, tokens)", task.MinP(0.05), (logits, tokens)),
        Workload("next_token(logits, tokens, filters)", task.next_token, (logits, tokens, filters)),
    ]


def _filter(check: Check, kind: Any, *args: Any) -> LogitFilter:
    """A filter of the learner's, which verdicts call by how it was made."""
    return _called(call_text(kind, args, {}), check.build(kind, *args))


def _called(name: str, made: LogitFilter) -> LogitFilter:
    def call(logits: Tensor, tokens: Tensor) -> Tensor:
        return made(logits, tokens)

    call.__name__ = name
    return call


def _kept(logits: Tensor, *rows: Sequence[int]) -> Tensor:
    """The logits of these tokens of each row, and -inf for all others."""
    expected = torch.full_like(logits, -math.inf)
    for row, kept in enumerate(rows):
        expected[row, list(kept)] = logits[row, list(kept)]
    return expected


NONE = torch.zeros(1, 0, dtype=torch.int64)  # a text without tokens, as most filters do not look at it
SHARES = torch.tensor([[0.12, 0.4, 0.08, 0.3, 0.1]])


def test_temperature_by_hand(check: Check) -> None:
    """At 1/2 the logits are doubled, and probabilities of 1 : 3 become 1 : 9; at 1 nothing changes."""
    logits = torch.tensor([[0.0, math.log(3)]])
    check(_filter(check, Temperature, 0.5), logits, NONE).equals(torch.tensor([[0.0, math.log(9)]]))
    check(_filter(check, Temperature, 2.0), torch.tensor([[-3.0, 1.0]]), NONE).equals(torch.tensor([[-1.5, 0.5]]))
    check(_filter(check, Temperature, 1.0), logits, NONE).equals(logits)


def test_top_k_by_hand(check: Check) -> None:
    """The k largest are kept, and what is as large as the k-th; a k above V keeps all."""
    logits = torch.tensor([[1.0, -4.0, 3.0, 2.0], [0.0, 7.0, -1.0, -2.0]])
    tokens = torch.zeros(2, 1, dtype=torch.int64)
    check(_filter(check, TopK, 2), logits, tokens).equals(_kept(logits, [2, 3], [0, 1]))
    check(_filter(check, TopK, 1), logits, tokens).equals(_kept(logits, [2], [1]))
    for k in (4, 100):
        check(_filter(check, TopK, k), logits, tokens).equals(logits)
    equal = torch.tensor([[2.0, 5.0, 2.0, 1.0, 2.0]])
    check(_filter(check, TopK, 2), equal, NONE).equals(_kept(equal, [0, 1, 2, 4]), note="three share the second place")


def test_top_p_by_hand(check: Check) -> None:
    """Of 0.12, 0.4, 0.08, 0.3 and 0.1 the largest are kept until they make up p, the one that gets there included."""
    logits = SHARES.log() + 3
    for p, kept in ((0.6, [1, 3]), (0.75, [0, 1, 3]), (0.85, [0, 1, 3, 4]), (0.95, [0, 1, 2, 3, 4]), (0.39, [1])):
        together = f"the tokens {kept} have {float(SHARES[0, kept].sum()):.2f} together"
        check(_filter(check, TopP, p), logits, NONE).equals(_kept(logits, kept), note=together)
    check(_filter(check, TopP, 1e-9), logits, NONE).equals(_kept(logits, [1]), note="at least one is kept")
    check(_filter(check, TopP, 1.0), logits, NONE).equals(logits)


def test_top_p_of_equals(check: Check) -> None:
    """Of eight equally likely tokens five make up 0.55, of two one makes up 0.5: how many, and not which of them."""
    answer = check(_filter(check, TopP, 0.55), torch.full((3, 8), 2.0), NONE.expand(3, 0)).has(shape=(3, 8))
    counts = answer.value.isfinite().sum(dim=-1).tolist()
    answer.satisfies(counts == [5, 5, 5], got=f"{counts} tokens kept", expected="[5, 5, 5]")
    for dtype in (torch.float32, torch.float64):
        answer = check(_filter(check, TopP, 0.5), torch.zeros(1, 2, dtype=dtype), NONE).has(shape=(1, 2), dtype=dtype)
        kept = int(answer.value.isfinite().sum())
        answer.satisfies(kept == 1, got=f"{kept} tokens kept", expected="1: it has 0.5 already, exactly")


def test_min_p_by_hand(check: Check) -> None:
    """Of 0.12, 0.4, 0.08, 0.3 and 0.1 those are kept that are at least p times 0.4; 0 keeps all, 1 the first alone."""
    logits = SHARES.log() + 3
    for p, kept in ((0.5, [1, 3]), (0.28, [0, 1, 3]), (0.22, [0, 1, 3, 4]), (0.1, [0, 1, 2, 3, 4]), (1.0, [1])):
        least = f"{p} times the largest probability is {p * 0.4:.3f}"
        check(_filter(check, MinP, p), logits, NONE).equals(_kept(logits, kept), note=least)
    impossible = torch.tensor([[0.0, -math.inf, -2000.0]])
    check(_filter(check, MinP, 0.0), impossible, NONE).equals(impossible, note="p = 0 keeps all")


def test_penalty_by_hand(check: Check) -> None:
    """Positive logits are halved, negative ones doubled; how often a token occurs is no matter, nor is padding."""
    logits = torch.tensor([[4.0, -4.0, 0.0, 3.0], [4.0, -4.0, 3.0, -6.0]])
    penalty = _filter(check, RepetitionPenalty, 2.0)
    tokens = torch.tensor([[0, 1, 2, 0], [-1, 2, 3, 2]])
    check(penalty, logits, tokens).equals(torch.tensor([[2.0, -8.0, 0.0, 3.0], [4.0, -4.0, 1.5, -12.0]]))
    check(penalty, logits, torch.tensor([[-1], [-5]])).equals(logits, note="padding alone")
    check(penalty, logits, NONE.expand(2, 0)).equals(logits, note="no token so far")
    favour = _filter(check, RepetitionPenalty, 0.5)
    check(favour, logits[:1], torch.tensor([[1, 3]])).equals(torch.tensor([[4.0, -2.0, 0.0, 6.0]]))


def _midway(values: Tensor, place: int) -> float:
    """Half way between two neighbours in a row: a bound that no rounding moves past either."""
    return float(values[place] + values[place + 1]) / 2


def _bounds(row: Tensor, kept: int) -> tuple[float, float]:
    """The p with which top-p keeps that many tokens of a row, and that of min-p; both far from any boundary."""
    probabilities = row.double().softmax(dim=-1).sort(descending=True).values
    sums = torch.cat([torch.zeros(1, dtype=torch.float64), probabilities.cumsum(dim=-1)])
    return _midway(sums, kept - 1), _midway(probabilities / probabilities[0], kept - 1)


def test_filters_of_transformers(check: Check) -> None:
    """Each filter gives the same as that of transformers, in float32 and float64, for one text and several."""
    from transformers.generation import logits_process as theirs

    for batch, dtype in ((1, torch.float32), (4, torch.float64)):
        vocabulary = check.draw.size(12, 30)
        # By 4: a few likely tokens and a long tail, as a model has them
        logits = check.draw.strided(batch, vocabulary, dtype=dtype) * 4
        tokens = check.draw.integers(0, vocabulary, batch, 9)
        top_p, min_p = _bounds(logits[0], check.draw.size(2, 6))
        k, temperature, penalty = check.draw.size(1, 6), 0.1 + 2 * check.draw.size() / 7, 1.0 + check.draw.size() / 5
        pairs: list[tuple[Any, float, Any]] = [
            (Temperature, temperature, theirs.TemperatureLogitsWarper),
            (TopK, k, theirs.TopKLogitsWarper),
            (TopP, top_p, theirs.TopPLogitsWarper),
            (MinP, min_p, theirs.MinPLogitsWarper),
            (RepetitionPenalty, penalty, theirs.RepetitionPenaltyLogitsProcessor),
        ]
        for kind, value, twin in pairs:
            expected = twin(value)(tokens, logits)
            check(_filter(check, kind, value), logits, tokens).equals(expected)


def test_half_precision(check: Check) -> None:
    """Of bfloat16, sums and bounds are taken in float32: of 768 small probabilities just the right ones are kept."""
    # All numbers of bfloat16 from 1/4 to 2 and from -2 to -1/4, in a random order: neighbours are 1/512 apart or more.
    values = torch.arange(0x3E80, 0x4000, dtype=torch.int16).view(torch.bfloat16)
    logits = torch.cat([values, -values])
    logits = logits[check.draw.permutation(len(logits))][None]
    order = logits[0].float().argsort(descending=True).tolist()
    for kept in range(check.draw.integer(60, 90), 700, 30):
        top_p, min_p = _bounds(logits[0], kept)
        expected = _kept(logits, order[:kept])
        for nucleus, bound in ((TopP, top_p), (MinP, min_p)):
            check(_filter(check, nucleus, bound), logits, NONE).equals(expected, note=f"{kept} tokens are kept")
    for kind, value in ((Temperature, 0.5), (TopK, 3), (RepetitionPenalty, 2.0)):
        check(_filter(check, kind, value), logits, NONE).has(shape=logits.shape, dtype=torch.bfloat16)


def test_hidden_stays_hidden(check: Check) -> None:
    """A token that a filter before has taken out stays out, and has no share in what is worked out; one is enough."""
    hidden = torch.tensor([[-math.inf, 2.0, -math.inf, 1.0]])
    tokens = torch.tensor([[0, 2]])
    for kind, value in ((Temperature, 0.5), (TopK, 3), (TopP, 0.999), (MinP, 0.01), (RepetitionPenalty, 1.5)):
        expected = hidden / 0.5 if kind is Temperature else hidden
        check(_filter(check, kind, value), hidden, tokens).equals(expected)
        check(_filter(check, kind, value), torch.zeros(1, 1), NONE).equals(
            torch.zeros(1, 1), note="a vocabulary of one"
        )


def test_chain(check: Check) -> None:
    """Filters one behind the other, in the order in which they are given; none at all leaves the logits alone."""
    logits, tokens = torch.tensor([[1.0, 3.0, 2.0, -1.0]]), torch.tensor([[1]])
    penalty, top = check.build(RepetitionPenalty, 3.0), check.build(TopK, 1)

    def plus_one(logits: Tensor, tokens: Tensor) -> Tensor:
        return logits + 1

    made = check.build(chain, penalty, top)
    check(_called("chain(RepetitionPenalty(3.0), TopK(1))", made), logits, tokens).equals(_kept(logits, [2]))
    made = check.build(chain, top, penalty)
    check(_called("chain(TopK(1), RepetitionPenalty(3.0))", made), logits, tokens).equals(_kept(logits, [1]) / 3)
    made = check.build(chain, plus_one, check.build(Temperature, 0.5), plus_one)
    check(_called("chain(plus_one, Temperature(0.5), plus_one)", made), logits, tokens).equals(logits * 2 + 3)
    check(_called("chain()", check.build(chain)), logits, tokens).equals(logits)
    nested = check.build(chain, plus_one, made)
    check(_called("chain(plus_one, chain(...))", nested), logits, tokens).equals(logits * 2 + 5)


def test_greedy(check: Check) -> None:
    """The most likely token of each row, and the first of equals."""
    check(greedy, torch.tensor([[1.0, 3.0, 2.0], [-1.0, -3.0, -2.0]])).equals(torch.tensor([1, 0]))
    check(greedy, torch.tensor([[0.0, 7.0, 7.0, -math.inf]])).equals(torch.tensor([1]))
    logits = check.draw.strided(6, 9, dtype=torch.float64)
    expected = [max(range(9), key=row.__getitem__) for row in logits.tolist()]
    check(greedy, logits).equals(torch.tensor(expected))


def _chi_squared(drawn: Tensor, probabilities: Tensor) -> float:
    """How far counts lie from those expected, over the tokens that may come."""
    counts = drawn.bincount(minlength=len(probabilities)).double()
    expected = probabilities.double() * len(drawn)
    possible = expected > 0
    surplus = math.inf if counts[~possible].any() else 0.0
    return float(((counts - expected).square()[possible] / expected[possible]).sum()) + surplus


def _is_drawn_from(check: Check, call: str, draw: Callable[[], Tensor], count: int, probabilities: Tensor) -> None:
    """What is drawn has the right shape, and this distribution."""
    answer = check.run(call, draw).has(shape=(count,), dtype=torch.int64)
    outside = [token for token in answer.value.tolist() if not 0 <= token < len(probabilities)]
    answer.satisfies(not outside, got=f"the token {outside[:1]}", expected=f"tokens below {len(probabilities)}")
    if outside:
        return
    shares = answer.value.bincount(minlength=len(probabilities)).double() / count
    answer.satisfies(
        _chi_squared(answer.value, probabilities) < UNLIKELY,
        got=f"shares of {', '.join(f'{share:.3f}' for share in shares.tolist())}",
        expected=f"{', '.join(f'{share:.3f}' for share in probabilities.tolist())}",
    )


def test_sample_follows_the_softmax(check: Check) -> None:
    """Of 20000 rows, each token gets its share, in each dtype; the rows are drawn independently of each other."""
    shares = check.draw.uniform(0.5, 1.4, 5, dtype=torch.float64)
    shares = shares / shares.sum()  # none below 0.5 / 6.1: 1600 of 20000
    for dtype in (torch.float32, torch.float64):
        logits = (shares.log() + 50).to(dtype).expand(20000, 5)
        generator = torch.Generator().manual_seed(check.draw.seed())
        call = f"sample of 20000 equal rows, {str(dtype).removeprefix('torch.')}"
        _is_drawn_from(check, call, partial(sample, logits, generator=generator), 20000, shares)


def test_sample_by_row(check: Check) -> None:
    """Each row has its own distribution: where one token is left, or far above the others, it is drawn."""
    tokens = check.draw.integers(0, 7, 50)
    hidden = torch.full((50, 7), -math.inf).scatter(1, tokens[:, None], check.draw.normal(50, 1))
    check(sample, hidden, generator=check.draw.generator).equals(tokens)
    sure = torch.zeros(50, 7).scatter(1, tokens[:, None], 1e4)
    check(sample, sure, generator=check.draw.generator).equals(tokens)
    check(sample, sure.bfloat16()).equals(tokens)
    check(sample, torch.zeros(1, 1)).equals(torch.tensor([0]))


def test_sample_from_a_generator(check: Check) -> None:
    """The generator alone decides: the same from one seed, another draw the next time, and the global one rests."""
    logits, seed = check.draw.normal(200, 11), check.draw.seed()
    generator = torch.Generator().manual_seed(seed)
    before = torch.get_rng_state()
    first = check(sample, logits, generator=generator).has(shape=(200,))
    check.that(
        torch.equal(before, torch.get_rng_state()),
        call="torch.get_rng_state() around sample(logits, generator=generator)",
        got="another state: the global generator was used",
        expected="the same: the numbers come from the generator given",
    )
    second = check(sample, logits, generator=generator).has(shape=(200,))
    # Rows of eleven tokens agree twice with probability 0.8 at the very most: all of 200 with less than 1e-19.
    second.satisfies(
        not torch.equal(first.value, second.value), got="the same 200 tokens again", expected="the next draw"
    )
    check(sample, logits, generator=torch.Generator().manual_seed(seed)).equals(first.value)


def test_next_token(check: Check) -> None:
    """Through the filters in their order, with the text so far; the most likely token unless it is to be drawn."""
    logits = torch.tensor([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0]])
    tokens = torch.tensor([[-1, 0], [0, 1]])
    check(next_token, logits, tokens).equals(torch.tensor([0, 0]), note="no draw was asked for")
    penalty, top = check.build(RepetitionPenalty, 4.0), check.build(TopK, 1)
    check(next_token, logits, tokens, [penalty]).equals(torch.tensor([1, 2]))
    check(next_token, logits, tokens, (top, penalty)).equals(torch.tensor([0, 0]))
    generator = torch.Generator().manual_seed(check.draw.seed())
    many, texts = logits[:1].expand(300, 3), tokens[:1].expand(300, 2)
    check(next_token, many, texts, generator=generator).equals(
        torch.zeros(300, dtype=torch.int64), note="no draw was asked for"
    )
    check(next_token, logits, tokens, [penalty, top], sampling=True).equals(torch.tensor([1, 2]))
    seed = check.draw.seed()
    draws = [
        check(next_token, many, texts, sampling=True, generator=torch.Generator().manual_seed(seed)) for _ in range(2)
    ]
    # Each of 300 tokens is drawn again by chance with probability 0.52: all of them with less than 1e-80.
    draws[1].equals(draws[0].value, note="as from the first generator of this seed")


def test_next_token_is_drawn(check: Check) -> None:
    """Drawn 20000 times through three filters, a token has the share that transformers' filters give it."""
    from transformers.generation import logits_process as theirs

    logits = torch.tensor([[2.0, 1.5, 1.0, 0.5, 0.0, -1.0, 1.2]])
    tokens = torch.tensor([[0, -1, 0]])
    twins: list[Any] = [
        theirs.RepetitionPenaltyLogitsProcessor(1.6),
        theirs.TemperatureLogitsWarper(0.8),
        theirs.TopKLogitsWarper(5),
    ]
    wanted = logits
    for twin in twins:
        wanted = twin(torch.zeros(1, 1, dtype=torch.int64), wanted)
    filters = [check.build(RepetitionPenalty, 1.6), check.build(Temperature, 0.8), check.build(TopK, 5)]
    generator = torch.Generator().manual_seed(check.draw.seed())
    _is_drawn_from(
        check,
        "next_token(20000 equal rows, tokens, [RepetitionPenalty(1.6), Temperature(0.8), TopK(5)], sampling=True)",
        lambda: next_token(
            logits.expand(20000, 7), tokens.expand(20000, 3), filters, sampling=True, generator=generator
        ),
        20000,
        wanted[0].double().softmax(dim=-1),
    )


def test_filters_are_values(check: Check) -> None:
    """A filter cannot be changed; two of the same kind are equal if their numbers are."""
    kinds: list[tuple[Any, str, float]] = [
        (Temperature, "temperature", 0.5),
        (TopK, "k", 3),
        (TopP, "p", 0.75),
        (MinP, "p", 0.25),
        (RepetitionPenalty, "penalty", 1.5),
    ]
    for kind, field, value in kinds:
        one, same, other = (check.build(kind, number) for number in (value, value, 1))
        names = [call_text(kind, (number,), {}) for number in (value, 1)]
        equal = check.run(f"{names[0]} == {names[0]}", partial(operator.eq, one, same))
        equal.satisfies(equal.value is True, got="they are not equal", expected="equal: the number is the same")
        equal = check.run(f"{names[0]} == {names[1]}", partial(operator.eq, one, other))
        equal.satisfies(equal.value is False, got="they are equal", expected="not equal: the numbers are others")
        check.raises(AttributeError, setattr, one, field, value)  # of which FrozenInstanceError is a kind


def test_refuses_numbers(check: Check) -> None:
    """A number out of its range is refused when the filter is made, by its name and value."""
    wrong: list[tuple[Any, str, Sequence[float]]] = [
        (Temperature, "temperature", (0.0, -1.5, math.inf, math.nan)),
        (TopK, "k", (0, -2)),
        (TopP, "p", (0.0, -0.5, 1.25, math.nan)),
        (MinP, "p", (-0.25, 1.5, math.nan)),
        (RepetitionPenalty, "penalty", (0.0, -1.5, math.inf, math.nan)),
    ]
    for kind, name, values in wrong:
        for value in values:
            check.raises(ValueError, kind, value, naming=(name, str(value)))


def test_refuses_tensors(check: Check) -> None:
    """Rows without a most likely token are refused by their number; a text that does not fit by its shape or token."""
    for bad in (math.nan, math.inf, -math.inf):
        logits = torch.tensor([[0.0, 1.0], [0.5, 0.0], [bad, -math.inf]])
        for function in (greedy, sample):
            check.raises(ValueError, function, logits, naming="2")
        tokens = torch.zeros(3, 1, dtype=torch.int64)
        check.raises(ValueError, next_token, logits, tokens, naming="2")
    check.raises(ValueError, greedy, torch.tensor([[0.0, 1.0], [5.0, math.nan]]), naming="1")
    penalty = _filter(check, RepetitionPenalty, 2.0)
    check.raises(
        ValueError, penalty, torch.zeros(2, 4), torch.zeros(3, 5, dtype=torch.int64), naming=("(2, 4)", "(3, 5)")
    )
    check.raises(ValueError, penalty, torch.zeros(2, 4), torch.tensor([0, 1]), naming=("(2, 4)", "(2,)"))
    for token in (9, 5, 4):
        check.raises(
            ValueError, penalty, torch.zeros(1, 4), torch.tensor([[1, token]]), naming=("token", str(token), "4")
        )
