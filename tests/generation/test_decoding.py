"""Grades generation/decoding.

The oracles are the greedy texts of transformers' GPT-2 with the same weights, read without a cache and one at a time,
its own `generate`, and models whose next token is a table: there every probability is known.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from checkpoints.checks import Check, Draw, Workload
from checkpoints.misconceptions import Misconception
from exercises.generation.decoding import PADDING, evaluation_mode, generate, pad_left, stream
from exercises.generation.strategies import RepetitionPenalty, Temperature, TopK
from exercises.gpt2.configuration import GPT2Config
from exercises.gpt2.model import GPT2

MISCONCEPTIONS = [
    Misconception(
        "padding behind the shorter prompts: their next token is read off the padding",
        (
            "[PADDING] * (length - len(prompt)) + list(prompt)",
            "list(prompt) + [PADDING] * (length - len(prompt))",
        ),
    ),
    Misconception(
        "padding that is not hidden from the tokens behind it",
        ("text != PADDING if padded else None", "None"),
    ),
    Misconception(
        "padding that is hidden while the prompts are read, and seen afterwards",
        (
            "text != PADDING if padded else None",
            "text != PADDING if padded and len(text[0]) == len(unread[0]) else None",
        ),
    ),
    Misconception(
        "filters that take padding for the token 0",
        (
            "chosen = choose(model.logits(hidden[:, -1]), text)",
            "chosen = choose(model.logits(hidden[:, -1]), text.clamp_min(0))",
        ),
    ),
    Misconception(
        "filters that see the last tokens alone, and not the whole text",
        (
            "chosen = choose(model.logits(hidden[:, -1]), text)",
            "chosen = choose(model.logits(hidden[:, -1]), text[:, -1:])",
        ),
    ),
    Misconception(
        "the logits of the first position in the place of the last",
        ("model.logits(hidden[:, -1])", "model.logits(hidden[:, 0])"),
    ),
    Misconception(
        "a result without the stop token",
        (
            "return written",
            "return [[token for token in new if token not in stop_tokens] for new in written]",
        ),
    ),
    Misconception(
        "texts that go on behind their stop token until all have stopped",
        (
            "going = [index for index, token in enumerate(tokens) if token not in stop_tokens]",
            """
            stopped = stopped | {index for index, token in enumerate(tokens) if token in stop_tokens}
            going = list(range(len(rows))) if len(stopped) < len(rows) else []
            """,
        ),
        ("for _ in range(max_new_tokens):", "stopped: set[int] = set()\nfor _ in range(max_new_tokens):"),
    ),
    Misconception(
        "all texts stop with the first that does",
        ("if not going:", "if len(going) < len(rows):"),
    ),
    Misconception(
        "only the first of the stop tokens stops a text",
        ("if token not in stop_tokens]", "if token not in sorted(stop_tokens)[:1]]"),
    ),
    Misconception(
        "caches that do not follow their texts, when one of them stops",
        ("cache.reorder(kept)", "cache.reorder(torch.arange(len(kept)))"),
    ),
    Misconception(
        "a cache that is never used: the whole text is read for each token",
        ("max_new_tokens) if cached else None", "max_new_tokens) if False else None"),
    ),
    Misconception(
        "the prompt among the new tokens",
        (
            "written: list[list[int]] = [[] for _ in prompts]",
            "written: list[list[int]] = [list(prompt) for prompt in prompts]",
        ),
    ),
    Misconception(
        "the likeliest token, also where sampling is asked for",
        (
            """
            choose = partial(next_token, filters=filters, sampling=sampling, generator=generator)
            written: list[list[int]] = [[] for _ in prompts]
            """,
            """
            choose = partial(next_token, filters=filters, sampling=False, generator=generator)
            written: list[list[int]] = [[] for _ in prompts]
            """,
        ),
    ),
    Misconception(
        "random numbers from torch's global generator, whichever is given",
        (
            """
            choose = partial(next_token, filters=filters, sampling=sampling, generator=generator)
            written: list[list[int]] = [[] for _ in prompts]
            """,
            """
            choose = partial(next_token, filters=filters, sampling=sampling)
            written: list[list[int]] = [[] for _ in prompts]
            """,
        ),
    ),
    Misconception("dropout while writing: the model is not put into evaluation", ("model.eval()", "pass")),
    Misconception(
        "a model that is left in evaluation", ("for module in training:\n    module.training = True", "pass")
    ),
    Misconception(
        "a model that is put into training as a whole, also what was not in it",
        ("for module in training:\n    module.training = True", "model.train()"),
    ),
    Misconception(
        "a model that is left in evaluation where an error ends the block",
        (
            """
            try:
                with torch.inference_mode():
                    yield
            finally:
                for module in training:
                    module.training = True
            """,
            """
            with torch.inference_mode():
                yield
            for module in training:
                module.training = True
            """,
        ),
    ),
    Misconception(
        "a stream that hands out nothing before all is written",
        ("return _one_by_one(model, steps)", "return iter(list(_one_by_one(model, steps)))"),
    ),
    Misconception(
        "a stream that keeps the model in evaluation while it waits",
        (
            """
                with evaluation_mode(model):
                    step = next(steps, None)
                if step is None:
                    return
                yield step[0][1]
            """,
            """
                with evaluation_mode(model):
                    step = next(steps, None)
                    if step is None:
                        return
                    yield step[0][1]
            """,
        ),
    ),
    Misconception(
        "a stream that refuses a prompt only when its first token is asked for",
        ("return _one_by_one(model, steps)", "yield from _one_by_one(model, steps)"),
    ),
    Misconception(
        "a text of exactly context_length tokens is refused",
        ("if len(prompt) + max_new_tokens > room:", "if len(prompt) + max_new_tokens >= room:"),
    ),
    Misconception(
        "a text that is too long is refused only when it has become so",
        ("if len(prompt) + max_new_tokens > room:", "if len(prompt) > room:"),
    ),
    Misconception("a negative token taken for padding", ("if not 0 <= token < size:", "if not token < size:")),
]

VOCABULARY, CONTEXT = 13, 20


def workload(task: Any, draw: Draw) -> list[Workload]:
    """Typical calls, for `compare`."""
    model: Any = draw.fill(GPT2(GPT2Config(256, 128, 64, 4, 4)), scale=0.1)
    prompts = [draw.integers(0, 256, length).tolist() for length in (9, 30, 17, 24)]
    return [
        Workload("generate(model, 4 prompts)", task.generate, (model, prompts), {"max_new_tokens": 40}),
        Workload("list(stream(model, prompt))", _listed(task.stream), (model, prompts[0]), {"max_new_tokens": 40}),
    ]


def _modes(model: Any) -> str:
    """Which parts of a GPT-2 of two blocks are in training, in words."""
    parts = {"the model": model, "h[0]": model.h[0], "h[1]": model.h[1]}
    words = [f"{name} in {'training' if part.training else 'evaluation'}" for name, part in parts.items()]
    return f"{', '.join(words)}; {sum(module.training for module in model.modules())} modules in training in all"


def _four(model: Any, prompt: list[int], **options: Any) -> list[int]:
    return list(stream(model, prompt, max_new_tokens=4, **options))


def _listed(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *args, **kwargs: list(function(*args, **kwargs))


def _pair(check: Check, dropout: float = 0.0) -> tuple[Any, Any]:
    """A GPT-2 of the course, in training, and the one of transformers, with the same weights, in float64."""
    from transformers.models.gpt2.configuration_gpt2 import GPT2Config as TheirConfig
    from transformers.models.gpt2.modeling_gpt2 import GPT2LMHeadModel

    make: Any = TheirConfig  # its annotations do not know every argument
    special = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"))
    config = make(vocab_size=VOCABULARY, n_positions=CONTEXT, n_embd=12, n_layer=2, n_head=2, **special)
    twin: Any = GPT2LMHeadModel(config).eval().double()
    # Strong attention and weak embeddings: what comes next depends on the whole text, and is seldom the last token.
    scales = {"bias": 0.0, "wte": 0.5, "wpe": 1.0, "c_attn": 1.0, "c_proj": 1.0}
    rates: dict[str, Any] = dict.fromkeys(("dropout", "attention_dropout", "embedding_dropout"), dropout)
    model: Any = GPT2(GPT2Config(VOCABULARY, CONTEXT, 12, 2, 2, **rates)).double()
    mine = dict(model.named_parameters())
    with torch.no_grad():
        for name, weight in sorted(twin.transformer.named_parameters()):
            scale = next((scale for part, scale in scales.items() if part in name), 0.3)
            weight.copy_(check.draw.normal(*weight.shape, scale=scale) + float("ln_" in name and "weight" in name))
            transposed = ".c_" in name and name.endswith("weight")  # GPT-2's Conv1D multiplies from the other side
            mine[name].copy_(weight.T if transposed else weight)
    return model, twin


@torch.no_grad()
def _greedy(twin: Any, prompt: Sequence[int], count: int, penalty: float = 1.0) -> tuple[list[int], float]:
    """The likeliest tokens, the whole text read for each of them; and by how much the closest was ahead."""
    text, lead = list(prompt), math.inf
    for _ in range(count):
        logits = twin(torch.tensor([text])).logits[0, -1]
        seen = torch.zeros(VOCABULARY, dtype=torch.bool).index_fill(0, torch.tensor(text), True)
        logits = torch.where(seen, torch.where(logits > 0, logits / penalty, logits * penalty), logits)
        best, second = logits.topk(2).values.tolist()
        lead = min(lead, best - second)
        text.append(int(logits.argmax()))
    return text[len(prompt) :], lead


def _theirs(twin: Any, prompt: Sequence[int], count: int, **options: Any) -> list[int]:
    """The new tokens by transformers' own `generate`."""
    tokens = torch.tensor([prompt])
    # Without a mask, it would take each 0 of the prompt for padding.
    options |= {"attention_mask": torch.ones_like(tokens), "do_sample": False, "pad_token_id": 0}
    new: list[int] = twin.generate(tokens, max_new_tokens=count, **options)[0, len(prompt) :].tolist()
    return new


def _with_texts(
    check: Check, lengths: Sequence[int], count: int, *, penalty: float = 1.0, dropout: float = 0.0
) -> tuple[Any, Any, list[list[int]], list[list[int]]]:
    """A pair of models, prompts of those lengths, and how they go on.

    Drawn again until no choice is so close that rounding could turn it (float64 rounds 10 orders of magnitude below
    0.001, and the float32 of transformers' `generate` 3), and until the texts are not one token again and again.
    """
    while True:
        model, twin = _pair(check, dropout)
        prompts = [check.draw.integers(0, VOCABULARY, length).tolist() for length in lengths]
        texts = [_greedy(twin, prompt, count, penalty) for prompt in prompts]
        if min(lead for _, lead in texts) > 1e-3 and min(len(set(text)) for text, _ in texts) >= min(3, count):
            return model, twin, prompts, [text for text, _ in texts]


def _cut(tokens: Sequence[int], stops: Sequence[int]) -> list[int]:
    """Up to the first stop token, which is kept."""
    end = next((place + 1 for place, token in enumerate(tokens) if token in stops), len(tokens))
    return list(tokens[:end])


def _table(logits: Tensor, context: int = CONTEXT) -> Any:
    """A GPT-2 that says of the next token what the last one's row of a table says; it notes what it is given."""

    class Table(GPT2):
        def __init__(self) -> None:
            super().__init__(GPT2Config(len(logits), context, 2, 1, 1))
            self.read: list[tuple[int, int]] = []  # (B, T) of each call

        def hidden(self, tokens: Tensor, mask: Tensor | None = None, *, caches: Any = None) -> Tensor:
            self.read.append((tokens.shape[0], tokens.shape[1]))
            for cache in caches or ():
                nothing = torch.zeros(len(tokens), 1, tokens.shape[1], 2)
                cache.update(nothing, nothing)
            return F.one_hot(tokens, len(logits)).to(logits.dtype)

        def logits(self, hidden: Tensor) -> Tensor:
            return hidden @ logits

        def forward(self, tokens: Tensor, mask: Tensor | None = None, *, caches: Any = None) -> Tensor:
            return self.logits(self.hidden(tokens, mask, caches=caches))

    return Table()


def _remembering(size: int) -> Any:
    """A GPT-2 that counts on from the first token of each text by its length, which its caches alone tell it."""

    class Remembering(GPT2):
        def __init__(self) -> None:
            super().__init__(GPT2Config(size, CONTEXT, 2, 1, 1))

        def hidden(self, tokens: Tensor, mask: Tensor | None = None, *, caches: Any = None) -> Tensor:
            new = tokens if mask is None else tokens.masked_fill(~mask[:, -tokens.shape[1] :], -1)
            kept = new.float()
            for cache in caches or ():
                keys = kept[:, None, -tokens.shape[1] :, None].expand(-1, 1, -1, 2).contiguous()
                kept = cache.update(keys, keys)[0][:, 0, :, 0]
            texts = [[int(token) for token in row if token >= 0] for row in kept.tolist()]
            chosen = torch.tensor([(text[0] + len(text)) % size for text in texts])
            return F.one_hot(chosen, size).float()[:, None].expand(-1, tokens.shape[1], -1)

        def logits(self, hidden: Tensor) -> Tensor:
            return hidden * 9.0

        def forward(self, tokens: Tensor, mask: Tensor | None = None, *, caches: Any = None) -> Tensor:
            return self.logits(self.hidden(tokens, mask, caches=caches))

    return Remembering()


def _counting(size: int, context: int = CONTEXT) -> Any:
    """A model that counts: after each number comes the next, and after the last comes 0."""
    return _table(torch.eye(size).roll(1, dims=1) * 9.0, context)


def test_padding_by_hand(check: Check) -> None:
    """Texts of three tokens and of one: the shorter gets two times padding before it."""
    check(pad_left, [[5, 6, 7], [8]]).equals(torch.tensor([[5, 6, 7], [-1, -1, 8]]), note="PADDING is -1")
    check(pad_left, [[4]]).equals(torch.tensor([[4]]))


def test_padding_property(check: Check) -> None:
    """Texts of any lengths end at the last column, and only what is missing is padding; token 0 is none."""
    lengths = check.draw.integers(1, 9, 6).tolist()
    texts = [check.draw.integers(0, 3, length).tolist() for length in lengths]
    expected = torch.full((6, max(lengths)), PADDING)
    for row, text in enumerate(texts):
        for place, token in enumerate(reversed(text), start=1):
            expected[row, -place] = token
    check(pad_left, texts).equals(expected)
    check(pad_left, tuple(map(tuple, texts))).equals(expected, note="any sequences will do")


def test_evaluation_mode(check: Check) -> None:
    """Within it nothing is dropped and no graph is kept; afterwards each module is as it was, also after an error."""
    model = nn.Sequential(nn.Dropout(0.5), nn.Sequential(nn.Dropout(0.5)), nn.Linear(4, 4))
    model[1].eval()

    def training() -> str:
        names = [name or "the whole" for name, module in model.named_modules() if module.training]
        return f"in training: {', '.join(names) or 'none'}"

    def inside() -> str:
        with evaluation_mode(model):
            return training()

    def graph() -> str:
        with evaluation_mode(model):
            return "a graph" if model(torch.ones(2, 4)).requires_grad else "no graph"

    def failing() -> str:
        try:
            with evaluation_mode(model):
                raise KeyError
        except KeyError:
            return training()
        return "the error has been lost"

    before = training()
    check.run("within evaluation_mode(model)", inside).equals("in training: none")
    check.run("after evaluation_mode(model)", training).equals(before, note="what was in evaluation stays there")
    check.run("the model's output within evaluation_mode(model)", graph).equals("no graph")
    check.run("after an error within evaluation_mode(model)", failing).equals(before)
    model.eval()
    check.run("after evaluation_mode(model) of a model in evaluation", lambda: (inside(), training())[1]).equals(
        "in training: none"
    )


def test_by_hand(check: Check) -> None:
    """A model that counts to 7 and begins again: it goes on from 2, and from 5, 6."""
    prompts = [[2], [5, 6]]
    check(generate, _counting(8), prompts, max_new_tokens=3).equals([[3, 4, 5], [7, 0, 1]])
    check.run("the prompts, after generate has read them", lambda: prompts).equals([[2], [5, 6]])
    check(generate, _counting(8), [[2], [5, 6]], max_new_tokens=3, cached=False).equals([[3, 4, 5], [7, 0, 1]])


def test_stop_tokens(check: Check) -> None:
    """A text ends with whichever stop token comes first, and the others go on; one in the prompt stops nothing."""
    model = _counting(8)
    answer = check(generate, model, [[0], [5], [2, 7], [3]], max_new_tokens=5, stop_tokens=[7, 3])
    answer.equals([[1, 2, 3], [6, 7], [0, 1, 2, 3], [4, 5, 6, 7]])
    check(generate, model, [[6], [6]], max_new_tokens=5, stop_tokens={7}).equals([[7], [7]])


def test_greedy_as_transformers(check: Check) -> None:
    """The likeliest tokens are those that transformers' `generate` writes, with stop tokens and without."""
    model, twin, [prompt], [expected] = _with_texts(check, [check.draw.size()], 10)
    check(generate, model, [prompt], max_new_tokens=10).equals([_theirs(twin, prompt, 10)])
    stops = [expected[check.draw.integer(3, 9)], expected[-1]]
    answer = check(generate, model, [prompt], max_new_tokens=10, stop_tokens=stops)
    answer.equals([_theirs(twin, prompt, 10, eos_token_id=stops)])


def test_batch_as_one_at_a_time(check: Check) -> None:
    """Prompts of unequal length get what each would get alone, with a cache and without; some stop early."""
    model, _, prompts, expected = _with_texts(check, [3, 1, 7, 4], 9)
    for cached in (True, False):
        answer = check(generate, model, prompts, max_new_tokens=9, cached=cached)
        answer.equals(expected, note="which the text gets alone")
    for text in expected:  # whichever stops first, the others go on with caches of their own
        stops = [text[1], text[4]]
        for cached in (True, False):
            answer = check(generate, model, prompts, max_new_tokens=9, stop_tokens=stops, cached=cached)
            answer.equals([_cut(other, stops) for other in expected], note="which the text gets alone")


def test_caches_follow_their_texts(check: Check) -> None:
    """A model that knows each text by its caches alone still knows them when some have stopped."""
    firsts = check.draw.permutation(11)[:4].tolist()
    prompts = [[first] * length for first, length in zip(firsts, (2, 1, 3, 1), strict=True)]
    expected = [[(prompt[0] + len(prompt) + step) % 11 for step in range(7)] for prompt in prompts]
    for text in expected:
        stops = [text[1]]
        answer = check(generate, _remembering(11), prompts, max_new_tokens=7, stop_tokens=stops)
        answer.equals([_cut(other, stops) for other in expected])


def test_filters_as_transformers(check: Check) -> None:
    """Filters see prompt and new tokens, and no padding: a repetition penalty does what it does in transformers."""
    model, twin, prompts, expected = _with_texts(check, [2, 5, 1], 8, penalty=3.0)
    answer = check(generate, model, prompts[1:2], max_new_tokens=8, filters=[RepetitionPenalty(3.0)])
    answer.equals([_theirs(twin, prompts[1], 8, repetition_penalty=3.0)])
    answer = check(generate, model, prompts, max_new_tokens=8, filters=[RepetitionPenalty(3.0)])
    answer.equals(expected, note="of each prompt what it gets alone")


def test_what_filters_see(check: Check) -> None:
    """A filter is given the text so far, with padding before it, and the logits of one token for each text."""
    seen: list[str] = []

    def spy(logits: Tensor, tokens: Tensor) -> Tensor:
        texts = [[max(token, PADDING) for token in row] for row in tokens.tolist()]
        seen.append(f"logits {tuple(logits.shape)} and tokens {texts}")
        return logits

    prompt = [4, 5]
    answers = [check(generate, _counting(8), [[1, 2, 3], prompt], max_new_tokens=1, filters=[spy])]
    answers.append(check(generate, _counting(8), [prompt], max_new_tokens=2, filters=[spy]))
    if any(answer.failed for answer in answers):
        return
    whole = ["logits (2, 8) and tokens [[1, 2, 3], [-1, 4, 5]]"]
    whole += ["logits (1, 8) and tokens [[4, 5]]", "logits (1, 8) and tokens [[4, 5, 6]]"]
    check.run("what a filter is given, in three steps", lambda: seen).equals(whole)


def test_what_the_model_reads(check: Check) -> None:
    """With a cache all prompts once, then each new token once; without, the whole text; after the last stop nothing."""
    whole = ([3, 4, 5, 6], "all that is there, for each new token")
    pieces = ([3, 1, 1, 1], "what the cache does not have yet")
    for options, (widths, words) in (({"cached": True}, pieces), ({"cached": False}, whole), ({}, pieces)):
        model, prompt = _counting(8), [0, 1, 2]
        answer = check(generate, model, [prompt, [3]], max_new_tokens=4, **options)
        read = [width for _, width in model.read]
        answer.satisfies(
            read == widths, got=f"texts are read in pieces of {read} tokens", expected=f"{widths}: {words}"
        )
        model.read.clear()
        answer = check.run(f"stream(model, {prompt}, {options})", partial(_four, model, prompt, **options))
        read = [width for _, width in model.read]
        answer.satisfies(
            read == widths, got=f"the text is read in pieces of {read} tokens", expected=f"{widths}: {words}"
        )
    model = _counting(8)
    answer = check(generate, model, [[0, 1, 2], [3]], max_new_tokens=6, stop_tokens=[4])
    calls = len(model.read)
    answer.satisfies(calls == 2, got=f"{calls} calls of the model", expected="2: the texts have 1 and 2 new tokens")


def _bound(count: int, probability: float) -> float:
    """How far a count may be from its mean: Bernstein's inequality, 1e-8 for each side of one count."""
    level = math.log(1e8)
    variance = count * probability * (1 - probability)
    return level / 3 + math.sqrt(level**2 / 9 + 2 * level * variance)


def test_sampling(check: Check) -> None:
    """Sampled pairs of tokens come as often as the model says, also through filters; greedy is another thing."""
    count, size = 2000, 4
    model = _table(check.draw.normal(size, size, dtype=torch.float64))
    logits = model.logits(torch.eye(size, dtype=torch.float64))
    kept = logits.masked_fill(logits < logits.topk(3, dim=-1).values[:, -1:], -math.inf)
    for filters, chain in (((), logits.softmax(dim=-1)), ((TopK(3), Temperature(0.5)), (kept * 2).softmax(dim=-1))):
        generator = torch.Generator().manual_seed(check.draw.seed())
        options: dict[str, Any] = {"sampling": True, "filters": filters, "generator": generator}
        call = f"generate(model, {count} times [1], max_new_tokens=2, sampling=True, filters={list(filters)})"
        answer = check.run(call, partial(generate, model, [[1]] * count, max_new_tokens=2, **options))
        pairs = [tuple(pair) for pair in answer.value]
        for first, second in itertools.product(range(size), repeat=2):
            probability = float(chain[1, first] * chain[first, second])
            found, bound = pairs.count((first, second)), _bound(count, probability) if probability else 0.0
            answer.satisfies(
                abs(found - count * probability) <= bound,
                got=f"{found} of {count} are [{first}, {second}]",
                expected=f"{count * probability:.1f}, give or take {bound:.1f}",
            )


def test_generator(check: Check) -> None:
    """The same seed gives the same texts, and torch's global generator is left alone."""
    model = _table(check.draw.normal(9, 9), 64)
    seed, before = check.draw.seed(), torch.get_rng_state()

    def texts() -> list[list[int]]:
        generator = torch.Generator().manual_seed(seed)
        new: list[list[int]] = generate(model, [[1], [2, 3]], max_new_tokens=40, sampling=True, generator=generator)
        return new

    first = check.run("generate(model, [[1], [2, 3]], max_new_tokens=40, sampling=True, generator=generator)", texts)
    again = check.run("the same with another generator of the same seed", texts)
    # Two of 80 tokens that are drawn independently would agree with a chance far below 1e-6.
    again.equals(first.value, note="as from the first generator")
    untouched = torch.equal(torch.get_rng_state(), before)
    torch.set_rng_state(before)
    again.satisfies(untouched, got="torch's global generator has moved on", expected="it is as it was")


def test_stream_as_generate(check: Check) -> None:
    """A stream gives the tokens of `generate`, up to the stop token, with a cache and without; it drops nothing out."""
    model, _, [prompt], [expected] = _with_texts(check, [4], 9, dropout=0.5)
    stop = expected[4]
    for cached in (True, False):
        options: dict[str, Any] = {"max_new_tokens": 9, "stop_tokens": [stop], "cached": cached}
        answer = check.run(
            f"list(stream(model, {prompt}, {options}))", partial(_listed(stream), model, prompt, **options)
        )
        answer.equals(_cut(expected, [stop]))


def test_stream_draws_as_generate(check: Check) -> None:
    """A stream draws through the filters, and from the generator: with the same seed what `generate` draws."""
    model = _table(check.draw.normal(9, 9), 64)
    seed = check.draw.seed()

    def options() -> dict[str, Any]:
        generator = torch.Generator().manual_seed(seed)
        return {"max_new_tokens": 40, "filters": [TopK(2)], "sampling": True, "generator": generator}

    drawn = check.run(
        "generate(model, [[1]], filters=[TopK(2)], sampling=True, generator=generator)",
        partial(generate, model, [[1]], **options()),
    )
    call = "list(stream(model, [1], filters=[TopK(2)], sampling=True, generator=a generator of the same seed))"
    # What is drawn otherwise would have to agree by chance in all of 40 tokens.
    check.run(call, partial(_listed(stream), model, [1], **options())).equals(drawn.value[0])


def test_stream_is_lazy(check: Check) -> None:
    """After the first token the model has been called once, and after the second twice."""
    model = _counting(8)

    def calls() -> str:
        counts = []
        for _ in zip(range(3), stream(model, [1], max_new_tokens=6), strict=False):
            counts.append(len(model.read))
        return f"{counts} calls of the model"

    answer = check.run("a stream whose tokens are taken one by one", calls)
    answer.equals("[1, 2, 3] calls of the model", note="when the first, second and third token are there")


def test_stream_leaves_no_trace(check: Check) -> None:
    """While the caller has a token, the model is in its own mode and gradients are on; and when the caller leaves."""
    model = _counting(8)

    def state() -> str:
        mode = "training" if model.training else "evaluation"
        return f"in {mode}, gradients {'on' if torch.is_grad_enabled() else 'off'}"

    def between() -> str:
        tokens = stream(model, [1], max_new_tokens=6)
        try:
            next(tokens)
            return state() + (", in inference mode" if torch.is_inference_mode_enabled() else "")
        finally:
            getattr(tokens, "close", list)()

    check.run("between two tokens of a stream", between).equals("in training, gradients on")
    check.run("after a stream that was left", state).equals("in training, gradients on")


def test_mode(check: Check) -> None:
    """It writes without dropout and without a graph; afterwards its modules are as before, also after an error.

    One of its blocks has been put into evaluation by itself, the others are in training.
    """
    model, _, prompts, expected = _with_texts(check, [3, 5], 6, dropout=0.5)
    model.h[0].eval()
    before = _modes(model)
    graph: list[bool] = []

    def watching(logits: Tensor, tokens: Tensor) -> Tensor:
        graph.append(logits.requires_grad)
        return logits

    def broken(logits: Tensor, tokens: Tensor) -> Tensor:
        raise KeyError("a filter that fails")

    check(generate, model, prompts, max_new_tokens=6, filters=[watching]).equals(expected)
    check.run("modules in training after generate(model, ...)", lambda: _modes(model)).equals(before)
    answer = check.run(
        f"list(stream(model, {prompts[0]}, max_new_tokens=6))",
        partial(_listed(stream), model, prompts[0], max_new_tokens=6, filters=[watching]),
    )
    answer.equals(expected[0], note="as without dropout")
    got = f"logits with a graph in {sum(graph)} of {len(graph)} steps"
    answer.satisfies(not any(graph), got=got, expected="none: nobody will ask for a gradient")
    check.run("modules in training after a stream", lambda: _modes(model)).equals(before)

    def failing() -> str:
        try:
            generate(model, prompts, max_new_tokens=6, filters=[broken])
        except KeyError:
            return _modes(model)
        return "the error of the filter has been lost"

    check.run("modules in training after generate(model, ...) with a filter that fails", failing).equals(before)


def test_edges(check: Check) -> None:
    """One token from one token; up to the last position; no prompts at all; float32 as well as float64."""
    check(generate, _counting(3), [[2]], max_new_tokens=1).equals([[0]])
    check(generate, _counting(8, 6), [[0, 1, 2], [5]], max_new_tokens=3).equals([[3, 4, 5], [6, 7, 0]])
    check(generate, _counting(8), [], max_new_tokens=3).equals([])
    model, _, [prompt], [expected] = _with_texts(check, [CONTEXT - 5], 5)
    check(generate, model.float(), [tuple(prompt)], max_new_tokens=5).equals([expected])


def test_refuses(check: Check) -> None:
    """An empty prompt, a token that does not exist, too long a text and no tokens to write are refused by number."""
    model = _counting(8, 6)
    check.raises(ValueError, generate, model, [[1], []], max_new_tokens=2, naming=("1", "empty"))
    check.raises(ValueError, generate, model, [[1], [2], [3, -1]], max_new_tokens=2, naming=("2", "-1"))
    check.raises(ValueError, generate, model, [[1, 8]], max_new_tokens=2, naming=("0", "8"))
    check.raises(ValueError, generate, model, [[1], [2, 3, 4, 5]], max_new_tokens=3, naming=("1", "4", "3", "6"))
    check.raises(ValueError, generate, model, [[1]], max_new_tokens=0, naming=("max_new_tokens", "0"))


def test_stream_refuses(check: Check) -> None:
    """A stream refuses the same, at the call: not when its first token is asked for."""
    model = _counting(8, 6)
    check.raises(ValueError, stream, model, [], max_new_tokens=2, naming="empty")
    check.raises(ValueError, stream, model, [3, -1], max_new_tokens=2, naming="-1")
    check.raises(ValueError, stream, model, [2, 3, 4, 5], max_new_tokens=3, naming=("4", "3", "6"))
    check.raises(ValueError, stream, model, [1], max_new_tokens=-2, naming=("max_new_tokens", "-2"))
