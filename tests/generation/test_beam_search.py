"""Grades generation/beam_search.

The oracles are transformers' beam search with the same weights, hypothesis by hypothesis; all texts of a tiny
vocabulary, tried one by one; a search without caches that follows the contract step by step; and chains whose
probabilities are so simple that a pencil will do.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from checkpoints.checks import Answer, Check, Draw, Workload, call_text
from checkpoints.misconceptions import Misconception
from exercises.generation.beam_search import beam_search
from exercises.gpt2.configuration import GPT2Config
from exercises.gpt2.model import GPT2

MISCONCEPTIONS = [
    Misconception(
        "finished hypotheses forgotten, but for those of the last step",
        ("if over(new)]\n", "if len(new.tokens) == max_new_tokens]\n"),
    ),
    Misconception(
        "finished hypotheses that go on growing behind the end of text",
        (
            "return len(new.tokens) == max_new_tokens or new.tokens[-1] == end_of_text",
            "return len(new.tokens) == max_new_tokens",
        ),
    ),
    Misconception(
        "hypotheses ranked by probability, without the length penalty", ("total / length**length_penalty", "total")
    ),
    Misconception(
        "the length penalty inverted: multiplied, not divided by",
        ("total / length**length_penalty", "total * length**length_penalty"),
    ),
    Misconception(
        "the mean over the tokens, whatever the length penalty", ("total / length**length_penalty", "total / length")
    ),
    Misconception(
        "a length that does not count the end of text",
        ("total / length**length_penalty", "total / max(1, length - 1) ** length_penalty"),
    ),
    Misconception(
        "the same hypothesis num_beams times, from the first step on",
        (
            "beams, finished = [Hypothesis((), 0.0, 0.0)], ",
            "beams, finished = [Hypothesis((), 0.0, 0.0)] * num_beams, ",
        ),
        ("torch.tensor([list(prompt)], device=device)", "torch.tensor([list(prompt)] * num_beams, device=device)"),
        ("model.make_caches(1, ", "model.make_caches(num_beams, "),
    ),
    Misconception(
        "caches that do not follow their hypotheses",
        ("cache.reorder(rows)", "cache.reorder(torch.arange(len(rows)).clamp_max(len(logits) - 1))"),
    ),
    Misconception(
        "a search that is over with the first finished hypothesis",
        ("if len(finished) == num_beams and (early_stopping or beams[0].score <= finished[-1].score):", "if finished:"),
    ),
    Misconception(
        "a search that never stops before max_new_tokens, unless early_stopping",
        (
            "if len(finished) == num_beams and (early_stopping or beams[0].score <= finished[-1].score):",
            "if len(finished) == num_beams and early_stopping:",
        ),
    ),
    Misconception("early stopping, also where none is asked for", ("(early_stopping or", "(True or")),
    Misconception("no early stopping, also where it is asked for", ("(early_stopping or", "(False or")),
    Misconception(
        "a search that is over when the best of the finished cannot be beaten, and forgets about the others",
        ("beams[0].score <= finished[-1].score", "beams[0].score <= finished[0].score"),
    ),
    Misconception(
        "only num_beams candidates looked at: the beam gets narrower with each that ends",
        ("2 * num_beams, length_penalty", "num_beams, length_penalty"),
    ),
    Misconception(
        "finished hypotheses taken from all candidates, not from the first num_beams",
        ("in candidates[:num_beams] if over(new)", "in candidates if over(new)"),
    ),
    Misconception(
        "finished hypotheses ranked by probability, not by score",
        ("key=lambda hypothesis: hypothesis.score", "key=lambda hypothesis: hypothesis.log_probability"),
    ),
    Misconception(
        "the worst of the hypotheses first", ("return finished[:num_results]", "return finished[::-1][:num_results]")
    ),
    Misconception("sums of logits in the place of log-probabilities", (".log_softmax(dim=-1)", "")),
    Misconception(
        "the log-probability of the last token alone, not the sum",
        (
            "(sums[:, None] + logits.to(wide).log_softmax(dim=-1))",
            "(0 * sums[:, None] + logits.to(wide).log_softmax(dim=-1))",
        ),
    ),
    Misconception(
        "the prompt among the tokens",
        (
            "return finished[:num_results]",
            "return [Hypothesis((*prompt, *one.tokens), one.log_probability, one.score) for one in finished[:num_results]]",
        ),
    ),
    Misconception(
        "only the best, however many are asked for", ("return finished[:num_results]", "return finished[:1]")
    ),
    Misconception(
        "dropout while searching: the model is not put into evaluation",
        ("with evaluation_mode(model):", "with torch.inference_mode():"),
    ),
    Misconception(
        "a text of exactly context_length tokens is refused",
        ("if len(prompt) + max_new_tokens > room:", "if len(prompt) + max_new_tokens >= room:"),
    ),
    Misconception("more results than beams, without a word", ("if num_results > num_beams:", "if False:")),
]

CONTEXT = 14
END = 0  # the end of text, in all checks that have one


class Found(NamedTuple):
    """A hypothesis, as the test has it."""

    tokens: tuple[int, ...]
    log_probability: float
    score: float


def workload(task: Any, draw: Draw) -> list[Workload]:
    """Typical calls, for `compare`."""
    model: Any = draw.fill(GPT2(GPT2Config(256, 64, 64, 4, 4)), scale=0.1)
    prompt = draw.integers(0, 256, 20).tolist()

    def search(beams: int) -> list[float]:
        found = task.beam_search(model, prompt, num_beams=beams, max_new_tokens=30, end_of_text=0, num_results=beams)
        return [hypothesis.log_probability for hypothesis in found]

    return [Workload("4 beams, 30 tokens", search, (4,)), Workload("16 beams, 30 tokens", search, (16,))]


def _search(check: Check, model: Any, prompt: Sequence[int], **options: Any) -> Answer:
    """Call the learner's search; its hypotheses as tuples."""

    def plainly() -> list[tuple[tuple[int, ...], float, float]]:
        found = beam_search(model, prompt, **options)
        return [(tuple(one.tokens), one.log_probability, one.score) for one in found]

    return check.run(call_text(beam_search, (model, list(prompt)), options), plainly)


# Models are of float64, and so are sums of at most ten terms: what 1e-10 allows is thousands of times what they round.
CLOSE = 1e-10
# Transformers sums in float32, each of eight steps rounded to 6e-8 of numbers up to 20; so do two checks of their own.
CLOSE_FLOAT32 = 1e-5


def _agrees(answer: Answer, expected: Sequence[Found], note: str = "", close: float = CLOSE) -> None:
    """The same hypotheses in the same order; and the numbers of each."""
    if answer.failed:
        return
    found = [tokens for tokens, _, _ in answer.value]
    wanted = [one.tokens for one in expected]
    if found != wanted:
        place = next((n for n, pair in enumerate(zip(found, wanted, strict=False)) if pair[0] != pair[1]), -1)
        if place < 0:
            got, right = f"{len(found)} of the hypotheses", f"{len(wanted)} of them"
        else:
            got, right = f"hypothesis {place}: tokens {found[place]}", f"{wanted[place]}"
        answer.satisfies(False, got=got, expected=right + (f" ({note})" if note else ""))
        return
    for (tokens, log_probability, score), one in zip(answer.value, expected, strict=True):
        sums = ("log_probability", log_probability, one.log_probability, "the sum over its tokens")
        scores = ("score", score, one.score, "log_probability / length**length_penalty")
        for name, value, exact, words in (sums, scores):
            answer.satisfies(
                abs(value - exact) <= close * max(1.0, abs(exact)),
                got=f"{name} {value:.9g} of {tokens}",
                expected=f"{exact:.9g}, {words}",
            )


def _chain(rows: dict[int, dict[int, float]], context: int = CONTEXT, dtype: torch.dtype = torch.float64) -> Any:
    """A GPT-2 of five tokens that knows what follows the last one with which probability; it notes what it is given."""
    table = torch.zeros(5, 5, dtype=torch.float64)
    for token in range(5):
        for following, probability in rows.get(token, {END: 1.0}).items():
            table[token, following] = probability

    class Chain(GPT2):
        def __init__(self) -> None:
            super().__init__(GPT2Config(5, context, 2, 1, 1))
            self.read: list[tuple[int, int]] = []  # (N, T) of each call
            self.graph = False  # whether it was ever called with gradients on

        def hidden(self, tokens: Tensor, mask: Tensor | None = None, *, caches: Any = None) -> Tensor:
            self.read.append((tokens.shape[0], tokens.shape[1]))
            self.graph = self.graph or torch.is_grad_enabled()
            for cache in caches or ():
                nothing = torch.zeros(len(tokens), 1, tokens.shape[1], 2)
                cache.update(nothing, nothing)
            return F.one_hot(tokens, 5).double()

        def logits(self, hidden: Tensor) -> Tensor:
            # Not the logarithms themselves: a constant in each row makes no difference to a softmax.
            return (table[hidden.argmax(dim=-1)].log() + 3.0).to(dtype)

        def forward(self, tokens: Tensor, mask: Tensor | None = None, *, caches: Any = None) -> Tensor:
            return self.logits(self.hidden(tokens, mask, caches=caches))

    return Chain()


def _pair(check: Check, vocabulary: int, dropout: float = 0.0) -> tuple[Any, Any]:
    """A GPT-2 of the course, in training, and the one of transformers, with the same weights, in float64."""
    from transformers.models.gpt2.configuration_gpt2 import GPT2Config as TheirConfig
    from transformers.models.gpt2.modeling_gpt2 import GPT2LMHeadModel

    make: Any = TheirConfig  # its annotations do not know every argument
    special = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"))
    config = make(vocab_size=vocabulary, n_positions=CONTEXT, n_embd=8, n_layer=2, n_head=2, **special)
    twin: Any = GPT2LMHeadModel(config).eval().double()
    # Strong attention and weak embeddings: what comes next depends on the whole text, and is seldom certain.
    scales = {"bias": 0.0, "wte": 0.4, "wpe": 1.0, "c_attn": 1.0, "c_proj": 1.0}
    rates: dict[str, Any] = dict.fromkeys(("dropout", "attention_dropout", "embedding_dropout"), dropout)
    model: Any = GPT2(GPT2Config(vocabulary, CONTEXT, 8, 2, 2, **rates)).double()
    mine = dict(model.named_parameters())
    with torch.no_grad():
        for name, weight in sorted(twin.transformer.named_parameters()):
            scale = next((scale for part, scale in scales.items() if part in name), 0.3)
            weight.copy_(check.draw.normal(*weight.shape, scale=scale) + float("ln_" in name and "weight" in name))
            transposed = ".c_" in name and name.endswith("weight")  # GPT-2's Conv1D multiplies from the other side
            mine[name].copy_(weight.T if transposed else weight)
    return model, twin


@torch.no_grad()
def _by_the_contract(
    twin: Any, prompt: Sequence[int], beams: int, most: int, penalty: float, early: bool
) -> tuple[list[Found], float]:
    """The search step by step, all texts read anew each time; and how close the closest of its decisions was."""
    going, finished, closest = [Found((), 0.0, 0.0)], list[Found](), math.inf
    for length in range(1, most + 1):
        texts = torch.tensor([[*prompt, *one.tokens] for one in going])
        following = twin(texts).logits[:, -1].log_softmax(dim=-1).tolist()
        candidates = [
            Found((*one.tokens, token), one.log_probability + more, (one.log_probability + more) / length**penalty)
            for one, row in zip(going, following, strict=True)
            for token, more in enumerate(row)
        ]
        candidates.sort(key=lambda one: -one.log_probability)
        candidates = candidates[: 2 * beams + 1]
        closest = min([closest, *(a.log_probability - b.log_probability for a, b in itertools.pairwise(candidates))])
        going = []
        for rank, one in enumerate(candidates[: 2 * beams]):
            if one.tokens[-1] != END and length < most:
                going.append(one)
            elif rank < beams:
                finished.append(one)
        going = going[:beams]
        finished.sort(key=lambda one: -one.score)
        closest = min([closest, *(_margin(a, b, penalty) for a, b in itertools.pairwise(finished))])
        finished = finished[:beams]
        if not going:
            break
        if len(finished) == beams:
            closest = min(closest, abs(_margin(finished[-1], going[0], penalty)))
            if early or going[0].score <= finished[-1].score:
                break
    return finished, closest


def _margin(better: Found, worse: Found, penalty: float) -> float:
    """How far two scores are apart, in units of the log-probability of the shorter."""
    return (better.score - worse.score) * min(len(better.tokens), len(worse.tokens)) ** penalty


def test_by_hand(check: Check) -> None:
    """After 0, 1 is likelier than 2 (0.6 to 0.4); but 3 after 1 has 0.5, and after 2 it is certain."""
    model = _chain({0: {1: 0.6, 2: 0.4}, 1: {3: 0.5, 4: 0.3, 2: 0.2}, 2: {3: 1.0}})
    prompt = [0]
    answer = _search(check, model, prompt, num_beams=2, max_new_tokens=2, num_results=2)
    answer.satisfies(prompt == [0], got=f"the prompt has become {prompt}", expected="the prompt as it was: [0]")
    best = [Found((2, 3), math.log(0.4), math.log(0.4) / 2), Found((1, 3), math.log(0.3), math.log(0.3) / 2)]
    _agrees(answer, best, note="0.4 · 1 is more than 0.6 · 0.5")
    answer = _search(check, model, [0], num_beams=1, max_new_tokens=2)
    _agrees(answer, best[1:], note="one beam alone is greedy")


def test_finished_by_hand(check: Check) -> None:
    """E has 0.5, 3 E has 0.2, and 2 2 2 2 has 0.3 · 0.9³ = 0.2187: which are best depends on the length penalty."""
    model = _chain({1: {END: 0.5, 2: 0.3, 3: 0.2}, 2: {2: 0.9, END: 0.1}, 3: {END: 1.0}})
    at_once, later = ((END,), 0.5), ((3, END), 0.2)
    long, ended = ((2, 2, 2, 2), 0.3 * 0.9**3), ((2, 2, 2, END), 0.3 * 0.9**2 * 0.1)
    for penalty, early, order in (
        (0.0, False, [at_once, long]),
        (1.0, False, [long, at_once]),
        (2.0, False, [long, ended]),
        (0.0, True, [at_once, later]),
        (1.0, True, [at_once, later]),
        (2.0, True, [later, at_once]),
        (-1.0, False, [at_once, later]),
    ):
        options: dict[str, Any] = {"length_penalty": penalty} | ({"early_stopping": True} if early else {})
        answer = _search(check, model, [1], num_beams=2, max_new_tokens=4, end_of_text=END, num_results=2, **options)
        logs = [(tokens, math.log(probability)) for tokens, probability in order]
        _agrees(answer, [Found(tokens, log, log / len(tokens) ** penalty) for tokens, log in logs])

    answer = _search(check, model, [1], num_beams=1, max_new_tokens=4, end_of_text=END)
    _agrees(answer, [Found((END,), math.log(0.5), math.log(0.5))], note="ln 0.3 is worse, if it ended now")
    model = _chain({1: {2: 0.6, END: 0.4}, 2: {3: 0.5, 4: 0.3, END: 0.2}, 3: {END: 1.0}})
    answer = _search(check, model, [1], num_beams=1, max_new_tokens=4, end_of_text=END, length_penalty=0.0)
    _agrees(answer, [Found((2, 3, END), math.log(0.3), math.log(0.3))], note="E, with 0.4, is not the first of one")


def test_exhaustive(check: Check) -> None:
    """With as many beams as there are texts, the best of all texts are found, in their order."""
    vocabulary, most = 4, 3
    for penalty in (0.0, 1.0, 2.5, -0.5):
        while True:
            model, twin = _pair(check, vocabulary)
            prompt = check.draw.integers(0, vocabulary, check.draw.size(1, 5)).tolist()
            texts = sorted(_all_texts(twin, prompt, vocabulary, most, penalty), key=lambda one: -one.score)[:11]
            if min(a.score - b.score for a, b in itertools.pairwise(texts)) > 1e-5:  # float32 rounds below 1e-6
                break
        options = {"num_beams": 64, "max_new_tokens": most, "end_of_text": END, "num_results": 10}
        answer = _search(check, model, prompt, length_penalty=penalty, **options)
        _agrees(answer, texts[:10], note="of all texts, tried one by one")


@torch.no_grad()
def _all_texts(twin: Any, prompt: Sequence[int], vocabulary: int, most: int, penalty: float) -> list[Found]:
    """Every text of at most so many tokens, END only as its last, and without one if it is as long as it may be."""
    found = []
    for length in range(1, most + 1):
        texts = [
            tokens
            for tokens in itertools.product(range(vocabulary), repeat=length)
            if END not in tokens[:-1] and (tokens[-1] == END or length == most)
        ]
        whole = torch.tensor([[*prompt, *tokens] for tokens in texts])
        logs = twin(whole).logits.log_softmax(dim=-1)[:, len(prompt) - 1 : -1]
        sums = logs.gather(-1, whole[:, len(prompt) :, None]).sum(dim=(1, 2)).tolist()
        found += [Found(tokens, total, total / length**penalty) for tokens, total in zip(texts, sums, strict=True)]
    return found


def test_as_transformers(check: Check) -> None:
    """All hypotheses of transformers' beam search, with length penalties, early stopping and without."""
    vocabulary, most = 9, 8
    for penalty, early in ((1.0, False), (0.0, False), (2.0, False), (0.5, True), (2.0, True)):
        beams = check.draw.integer(2, 5)  # twice as many are fewer than the tokens: transformers needs that
        while True:
            model, twin = _pair(check, vocabulary)
            prompt = check.draw.integers(0, vocabulary, check.draw.size(1, 6)).tolist()
            expected, closest = _by_the_contract(twin, prompt, beams, most, penalty, early)
            # No decision so close that the float32 sums of transformers, good to 2e-6, could turn it.
            if closest > 1e-5 and len(expected) == beams:
                break
        theirs = twin.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.int64),
            max_new_tokens=most,
            num_beams=beams,
            num_return_sequences=beams,
            length_penalty=penalty,
            early_stopping=early,
            do_sample=False,
            eos_token_id=END,
            pad_token_id=END,
            output_scores=True,
            return_dict_in_generate=True,
        )
        rows = [_until_end(row) for row in theirs.sequences[:, len(prompt) :].tolist()]
        scores = theirs.sequences_scores.tolist()
        found = [
            Found(tokens, score * len(tokens) ** penalty, score) for tokens, score in zip(rows, scores, strict=True)
        ]
        options = {"num_beams": beams, "max_new_tokens": most, "end_of_text": END, "num_results": beams}
        answer = _search(check, model, prompt, length_penalty=penalty, early_stopping=early, **options)
        _agrees(answer, found, note="as transformers finds them", close=CLOSE_FLOAT32)


def _until_end(tokens: Sequence[int]) -> tuple[int, ...]:
    return tuple(tokens[: tokens.index(END) + 1] if END in tokens else tokens)


def test_by_the_contract(check: Check) -> None:
    """Against a search without caches, step by step, over a dozen models: the caches follow their hypotheses."""
    for number in range(12):
        beams, penalty, early = check.draw.integer(1, 7), (1.0, 0.0, 3.0)[number % 3], number % 4 == 3
        while True:
            model, twin = _pair(check, 6)
            prompt = check.draw.integers(0, 6, check.draw.size(1, 6)).tolist()
            expected, closest = _by_the_contract(twin, prompt, beams, 7, penalty, early)
            if closest > 1e-5:
                break
        options = {"num_beams": beams, "max_new_tokens": 7, "end_of_text": END, "num_results": beams}
        answer = _search(check, model, prompt, length_penalty=penalty, early_stopping=early, **options)
        _agrees(answer, expected, note="by the same steps without caches")


def test_without_end(check: Check) -> None:
    """Without an end of text, every hypothesis is as long as it may be, and token 0 is like any other."""
    vocabulary, most = 4, 3
    while True:
        model, twin = _pair(check, vocabulary)
        whole = torch.tensor([[2, 1, *tokens] for tokens in itertools.product(range(vocabulary), repeat=most)])
        with torch.no_grad():
            logs = twin(whole).logits.log_softmax(dim=-1)[:, 1:-1]
        sums = logs.gather(-1, whole[:, 2:, None]).sum(dim=(1, 2)).tolist()
        texts = [Found(tuple(row[2:]), total, total / 3) for row, total in zip(whole.tolist(), sums, strict=True)]
        texts = sorted(texts, key=lambda one: -one.score)[:6]
        if min(a.score - b.score for a, b in itertools.pairwise(texts)) > 1e-5:
            break
    _agrees(_search(check, model, [2, 1], num_beams=64, max_new_tokens=most, num_results=5), texts[:5])


def test_what_the_model_reads(check: Check) -> None:
    """The prompt is read once, and then one token of each hypothesis, of which there are at most num_beams."""
    model = _chain({token: {1: 0.4, 2: 0.3, 3: 0.2, 4: 0.1} for token in range(5)})
    answer = _search(check, model, [1, 2, 3], num_beams=3, max_new_tokens=4, end_of_text=END)
    widths, rows = [width for _, width in model.read], [row for row, _ in model.read]
    answer.satisfies(widths == [3, 1, 1, 1], got=f"texts read in pieces of {widths} tokens", expected="[3, 1, 1, 1]")
    answer.satisfies(max(rows, default=0) <= 3, got=f"up to {max(rows, default=0)} texts at once", expected="at most 3")
    answer.satisfies(not model.graph, got="the model is called with gradients on", expected="no graph is kept")


def _modes(model: Any) -> str:
    """Which parts of a GPT-2 of two blocks are in training, in words."""
    parts = {"the model": model, "h[0]": model.h[0], "h[1]": model.h[1]}
    words = [f"{name} in {'training' if part.training else 'evaluation'}" for name, part in parts.items()]
    return f"{', '.join(words)}; {sum(module.training for module in model.modules())} modules in training in all"


def test_equal_scores(check: Check) -> None:
    """The search is over also where the one that goes on has just the score of the worst of the finished."""
    # 2 E and 2 3 have the probability 0.5 · 0.4 both, to the last digit; 2 3 E would have a better mean.
    model = _chain({1: {END: 0.5, 2: 0.5}, 2: {END: 0.4, 3: 0.4, 4: 0.2}, 3: {END: 1.0}})
    answer = _search(check, model, [1], num_beams=2, max_new_tokens=4, end_of_text=END, num_results=2)
    expected = [Found((END,), math.log(0.5), math.log(0.5)), Found((2, END), math.log(0.2), math.log(0.2) / 2)]
    _agrees(answer, expected, note="(2, 3) has the score of (2, 0), which is not higher")


def test_half_precision(check: Check) -> None:
    """Of logits in bfloat16, which have three digits, log-probabilities have the six of float32."""
    model = _chain({1: {2: 0.7, 3: 0.3}, 2: {3: 0.55, 4: 0.45}}, dtype=torch.bfloat16)
    answer = _search(check, model, [1], num_beams=2, max_new_tokens=2)
    logs = model.logits(F.one_hot(torch.tensor([1, 2]), 5)).double().log_softmax(dim=-1)
    total = float(logs[0, 2] + logs[1, 3])
    _agrees(answer, [Found((2, 3), total, total / 2)], close=CLOSE_FLOAT32)


def test_hypotheses_are_values(check: Check) -> None:
    """A hypothesis is equal to another of the same tokens and numbers, and cannot be changed."""
    model = _chain({1: {2: 0.7, 3: 0.3}})
    one, other = (
        check(beam_search, model, [1], num_beams=1, max_new_tokens=2, end_of_text=token).value[0] for token in (0, 0)
    )
    equal = check.run("the hypothesis of a search == that of the same search", lambda: one == other)
    equal.satisfies(equal.value is True, got="they are not equal", expected="equal: all that they hold is")
    check.raises(AttributeError, setattr, one, "score", 0.0)


def test_mode(check: Check) -> None:
    """The model searches without dropout; afterwards it is in training, but for the block that was not before."""
    while True:
        model, twin = _pair(check, 6, dropout=0.5)
        expected, closest = _by_the_contract(twin, [1, 2], 3, 5, 1.0, False)
        if closest > 1e-5:
            break
    model.h[0].eval()
    before = _modes(model)
    answer = _search(check, model, [1, 2], num_beams=3, max_new_tokens=5, end_of_text=END, num_results=3)
    _agrees(answer, expected, note="as without dropout")
    check.run("modules in training after beam_search(model, ...)", lambda: _modes(model)).equals(before)


def test_edges(check: Check) -> None:
    """One token; fewer texts than beams; what has no probability; up to the last position; float32."""
    model = _chain({1: {2: 0.7, 3: 0.3}, 2: {END: 1.0}})
    one, other = math.log(0.7), math.log(0.3)
    answer = _search(check, model, (1,), num_beams=1, max_new_tokens=1, end_of_text=END)
    _agrees(answer, [Found((2,), one, one)])
    answer = _search(check, model, [1], num_beams=4, max_new_tokens=3, end_of_text=END, num_results=4)
    both = [Found((2, END), one, one / 2), Found((3, END), other, other / 2)]
    _agrees(answer, both, note="there are no others")
    short = _chain({1: {2: 0.7, 3: 0.3}, 2: {END: 1.0}}, context=6)
    answer = _search(check, short, [4, 4, 4, 1], num_beams=2, max_new_tokens=2, end_of_text=END)
    _agrees(answer, both[:1], note="six tokens, as many as there are positions")
    while True:
        gpt2, twin = _pair(check, 6)
        expected, closest = _by_the_contract(twin, [3], 2, 5, 1.0, False)
        if closest > 1e-3:  # in float32 all the way, logits are good to 1e-5
            break
    answer = _search(check, gpt2.float(), [3], num_beams=2, max_new_tokens=5, end_of_text=END, num_results=2)
    tokens = [tokens for tokens, _, _ in answer.value]
    right = [one.tokens for one in expected]
    answer.satisfies(tokens == right, got=f"tokens {tokens}", expected=f"{right}")


def test_refuses(check: Check) -> None:
    """An empty prompt, too long a text, and numbers of beams, tokens or results that cannot be are refused by name."""
    model = _chain({}, context=6)
    check.raises(ValueError, beam_search, model, [], num_beams=2, max_new_tokens=2, naming="empty")
    check.raises(ValueError, beam_search, model, [1, 2, 3, 4], num_beams=2, max_new_tokens=3, naming=("4", "3", "6"))
    check.raises(ValueError, beam_search, model, [1], num_beams=0, max_new_tokens=2, naming=("num_beams", "0"))
    check.raises(ValueError, beam_search, model, [1], num_beams=2, max_new_tokens=-1, naming=("max_new_tokens", "-1"))
    check.raises(
        ValueError, beam_search, model, [1], num_beams=2, max_new_tokens=2, num_results=0, naming=("num_results", "0")
    )
    check.raises(
        ValueError,
        beam_search,
        model,
        [1],
        num_beams=2,
        max_new_tokens=2,
        num_results=3,
        naming=("num_results", "num_beams", "3", "2"),
    )
