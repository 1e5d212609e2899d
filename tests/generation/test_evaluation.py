"""Grades generation/evaluation.

The oracles are chains over letters, of which every figure is known: the loss of one under another is a sum over the
letters of the documents; a uniform model has the loss ln V. Where the model is a real GPT-2, transformers' with the
same weights reads the documents one by one. What is sampled is priced again, letter by letter.
"""

import math
import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from checkpoints.checks import Answer, Check, Draw, Workload
from checkpoints.misconceptions import Misconception
from exercises.generation.evaluation import Evaluation, Sample, distinct_n, evaluate, repetition
from exercises.generation.strategies import TopK
from exercises.gpt2.configuration import GPT2Config
from exercises.gpt2.model import GPT2

MISCONCEPTIONS = [
    Misconception(
        "a loss without the end of each document",
        ("return [end_of_text, *tokens, end_of_text]", "return [end_of_text, *tokens]"),
    ),
    Misconception(
        "documents without the end of text before them: nothing foretells their first token",
        ("return [end_of_text, *tokens, end_of_text]", "return [*tokens, end_of_text]"),
    ),
    Misconception(
        "a mean over the documents' mean losses, and not over all tokens",
        (
            "loss = nats / num_targets",
            "each = _log_probabilities(model, rows, batch_size)\nloss = -sum(one / (len(row) - 1) for one, row in zip(each, rows)) / len(rows)",
        ),
    ),
    Misconception(
        "losses of the padding counted too",
        (
            "cross_entropy(logits, targets.to(device), ignore",
            "cross_entropy(logits, targets.to(device).clamp_min(0), ignore",
        ),
    ),
    Misconception("a perplexity of 2 to the power of the loss, which is in nats", ("math.exp(loss)", "2**loss")),
    Misconception(
        "bits per letter, not per byte",
        ('len(text.encode("utf-8")) for text', "len(text) for text"),
    ),
    Misconception(
        "bits per token, not per byte",
        ('bits_per_byte(nats, sum(len(text.encode("utf-8")) for text in documents))', "loss / math.log(2)"),
    ),
    Misconception(
        "a floor in nats per document, not per token",
        (
            "_price(log_probability, text, n) for n, text in enumerate(documents)) / num_targets",
            "_price(log_probability, text, n) for n, text in enumerate(documents)) / len(documents)",
        ),
    ),
    Misconception(
        "a floor whose tokens do not count the ends of the documents",
        (
            "_price(log_probability, text, n) for n, text in enumerate(documents)) / num_targets",
            "_price(log_probability, text, n) for n, text in enumerate(documents)) / (num_targets - len(documents))",
        ),
    ),
    Misconception(
        "a difference to the floor, not a share of it", ("loss / floor - 1 if floor", "loss - floor if floor")
    ),
    Misconception(
        "a loss in units of the floor, not how much is above it", ("loss / floor - 1 if floor", "loss / floor if floor")
    ),
    Misconception(
        "samples that were never finished, priced as if they were",
        ("if log_probability is not None and finished:", "if log_probability is not None:"),
    ),
    Misconception(
        "the end of text in the text of a sample",
        ("tokenizer.decode(tokens[:-1] if finished else tokens)", "tokenizer.decode(tokens)"),
    ),
    Misconception(
        "the last token of every sample cut off, whether or not it is an end of text",
        ("tokenizer.decode(tokens[:-1] if finished else tokens)", "tokenizer.decode(tokens[:-1])"),
    ),
    Misconception(
        "a model's price of its sample that leaves out the end of text",
        (
            "[[end_of_text, *tokens] for tokens in written]",
            "[[end_of_text, *(tokens[:-1] if tokens[-1] == end_of_text and len(tokens) > 1 else tokens)] for tokens in written]",
        ),
    ),
    Misconception(
        "samples that are not drawn, but the likeliest text again and again", ("sampling=True", "sampling=False")
    ),
    Misconception("samples drawn without the filters", ("filters=filters,", "filters=(),")),
    Misconception(
        "samples from torch's global generator, whichever is given", ("generator=generator,\n", "generator=None,\n")
    ),
    Misconception(
        "as many samples as fill the last batch, not as many as asked for",
        ("min(batch_size, num_samples - start)", "batch_size"),
    ),
    Misconception(
        "prices in the order in which the rows were read, not in that of the rows",
        (
            "result[numbers] = ",
            "result[start : start + len(numbers)] = ",
        ),
    ),
    Misconception(
        "an evaluation that ends with the first sample that is not grammatical",
        ("with suppress(ValueError):", "if True:"),
    ),
    Misconception(
        "ends of text among the n-grams of the samples",
        ("[[token for token in tokens if token != end_of_text] for tokens in written]", "written"),
    ),
    Misconception(
        "distinct n-grams of each text by itself, and the mean of that",
        (
            "return len(set(grams)) / len(grams) if grams else 0.0",
            """
            each = [len(set(_ngrams(one, n))) / len(_ngrams(one, n)) for one in sequences if _ngrams(one, n)]
            return sum(each) / len(each) if each else 0.0
            """,
        ),
    ),
    Misconception(
        "n-grams that begin in one text and end in the next",
        (
            "grams = [gram for sequence in sequences for gram in _ngrams(sequence, n)]",
            "grams = _ngrams([token for sequence in sequences for token in sequence], n)",
        ),
    ),
    Misconception(
        "distinct n-grams divided by the number of tokens, not of n-grams",
        (
            "return len(set(grams)) / len(grams) if grams else 0.0",
            "return len(set(grams)) / sum(map(len, sequences)) if grams else 0.0",
        ),
    ),
    Misconception(
        "n-grams side by side, that do not overlap",
        ("for start in range(len(sequence) - n + 1)]", "for start in range(0, len(sequence) - n + 1, n)]"),
    ),
    Misconception(
        "the share of n-grams that occur more than once, the first time included",
        (
            "return 1 - len(set(grams)) / len(grams) if grams else 0.0",
            "return sum(grams.count(gram) > 1 for gram in grams) / len(grams) if grams else 0.0",
        ),
    ),
    Misconception(
        "dropout while the documents are read: the model is not put into evaluation",
        ("with evaluation_mode(model):", "with torch.inference_mode():"),
    ),
    Misconception("a report whose cells end where a text has a bar", ('.replace("|", "\\\\|")', "")),
    Misconception("a report whose rows end where a line does", ('.replace("\\n", "<br>")', "")),
    Misconception(
        "a report without the references",
        ("self.references[number] if number < len(self.references) else", '"" if True else'),
    ),
]

LETTERS = "·abcé|"  # the token of each is its place; 0 is the end of text, which no text contains
END = 0


class _Letters:
    """A tokenizer with a token for each letter."""

    def encode(self, text: str) -> list[int]:
        """The places of the letters."""
        return [LETTERS.index(letter) for letter in text]

    def decode(self, tokens: Sequence[int]) -> str:
        """The letters at those places."""
        return "".join(LETTERS[token] for token in tokens)


def workload(task: Any, draw: Draw) -> list[Workload]:
    """Typical calls, for `compare`."""
    size = len(LETTERS)
    model: Any = draw.fill(GPT2(GPT2Config(size, 64, 32, 2, 2)), scale=0.1)
    documents = ["".join(LETTERS[int(n)] for n in draw.integers(1, size, 20 + number)) for number in range(30)]
    tokens = draw.integers(0, 100, 4000).tolist()

    def loss() -> float:
        options = {"end_of_text": END, "max_new_tokens": 40, "num_samples": 30}
        return float(task.evaluate(model, _Letters(), documents, **options).loss)

    return [
        Workload("evaluate(model, tokenizer, 30 documents)", loss),
        Workload("distinct_n([4000 tokens], 3)", task.distinct_n, ([tokens], 3)),
        Workload("repetition(4000 tokens, 4)", task.repetition, (tokens, 4)),
    ]


def _table(logits: Tensor, context: int = 32) -> Any:
    """A GPT-2 that says of the next token what the last one's row of a table says."""

    class Table(GPT2):
        def __init__(self) -> None:
            super().__init__(GPT2Config(len(logits), context, 2, 1, 1))
            self.rows: list[int] = []  # of each call
            self.graph = False  # whether it was ever called with gradients on

        def hidden(self, tokens: Tensor, mask: Tensor | None = None, *, caches: Any = None) -> Tensor:
            self.rows.append(len(tokens))
            self.graph = self.graph or torch.is_grad_enabled()
            for cache in caches or ():
                nothing = torch.zeros(len(tokens), 1, tokens.shape[1], 2)
                cache.update(nothing, nothing)
            return F.one_hot(tokens, len(logits)).to(logits.dtype)

        def logits(self, hidden: Tensor) -> Tensor:
            return hidden @ logits

        def forward(self, tokens: Tensor, mask: Tensor | None = None, *, caches: Any = None) -> Tensor:
            return self.logits(self.hidden(tokens, mask, caches=caches))

    return Table()


def _price(table: Tensor, tokens: Sequence[int]) -> float:
    """The log-probability of tokens behind an end of text, by a chain's log-probabilities, one by one."""
    return math.fsum(float(table[before, token]) for before, token in zip([END, *tokens], tokens, strict=False))


def _source(table: Tensor) -> Callable[[str], float]:
    """The log-probability of a text that ends, by a chain's log-probabilities; ValueError where it is -inf."""

    def log_probability(text: str) -> float:
        price = _price(table, [*_Letters().encode(text), END])
        if price == -math.inf:
            raise ValueError(f"{text!r} is not of this source")
        return price

    return log_probability


def _chains(check: Check) -> tuple[Tensor, Tensor]:
    """Log-probabilities of a model over the letters, and of a source that never writes c after a, or é at the end."""
    size = len(LETTERS)
    model, source = check.draw.normal(2, size, size, dtype=torch.float64)
    source[1, 3] = source[4, END] = -math.inf
    return model.log_softmax(dim=-1), source.log_softmax(dim=-1)


def _documents(check: Check, count: int) -> list[str]:
    """Texts of the source of `_chains`: of a, b, é and the bar, and never é at the end."""
    found = []
    for number in range(count):
        letters = [LETTERS[(1, 2, 4, 5)[int(n)]] for n in check.draw.integers(0, 4, 1 + number % 7)]
        found.append("".join(letters) + "b")
    return found


def _evaluated(check: Check, model: Any, documents: Sequence[str], **options: Any) -> Answer:
    """Call the learner's evaluation of texts of letters."""
    options = {"end_of_text": END, "max_new_tokens": 10, "num_samples": 3, **options}
    shown = ", ".join(f"{name}={value}" for name, value in options.items() if isinstance(value, int))
    call = f"evaluate(model, tokenizer, {len(documents)} documents, {shown}, ...)"
    return check.run(call, lambda: evaluate(model, _Letters(), documents, **options))


WORDS = {
    "loss": "nats / tokens, each document's end among them",
    "perplexity": "exp(loss)",
    "bits_per_byte": "nats / ln 2 / bytes of UTF-8",
    "floor": "the source's nats / tokens, each document's end among them",
    "above_floor": "loss / floor - 1",
    "grammatical": "samples that are priced / all samples",
    "repetition": "the mean over the samples",
}
# Models are of float64 (the one of float32 has losses without rounding): a sum of a few hundred losses of a few nats,
# each out of a softmax of six terms, is good to 1e-13.
CLOSE = 1e-10


def _figures(answer: Answer, note: str = "", **expected: float | None) -> None:
    """The figures of an evaluation, each by its name."""
    for name, right in expected.items():
        value = getattr(answer.value, name)
        if right is None or value is None:
            agrees = value is right
        else:
            agrees = abs(value - right) <= CLOSE * max(1.0, abs(right))
        shown = [number if number is None else f"{number:.9g}" for number in (value, right)]
        wanted = f"{shown[1]} ({note or WORDS[name]})"
        answer.satisfies(agrees, got=f"{name} {shown[0]}", expected=wanted)


def test_distinct_by_hand(check: Check) -> None:
    """Of a b a and a b: two words, and two pairs, of which ab comes twice; no pair from one text to the next."""
    texts = [["a", "b", "a"], ["a", "b"]]
    check(distinct_n, texts, 1).equals(2 / 5)
    check(distinct_n, texts, 2).equals(2 / 3)
    check(distinct_n, texts, 3).equals(1.0, note="aba alone")
    check(distinct_n, [[7, 7, 7, 7]], 2).equals(1 / 3)


def test_distinct_property(check: Check) -> None:
    """Against a list of those seen, for n from 1 to 4; texts shorter than n have no n-gram, and 0 stands for none."""
    texts = [check.draw.integers(0, 3, 2 + number).tolist() for number in range(6)]
    for n in (1, 2, 3, 4):
        seen: list[list[int]] = []
        count = 0
        for text in texts:
            for start in range(len(text) - n + 1):
                count += 1
                if text[start : start + n] not in seen:
                    seen.append(text[start : start + n])
        check(distinct_n, texts, n).equals(len(seen) / count)
    check(distinct_n, [[1, 2], [], [3]], 3).equals(0.0)
    check(distinct_n, [], 1).equals(0.0)
    check.raises(ValueError, distinct_n, texts, 0, naming=("n", "0"))


def test_repetition_by_hand(check: Check) -> None:
    """In a b a b, of the pairs ab, ba, ab the last was there before; a text of one word n times repeats all but one."""
    check(repetition, ["a", "b", "a", "b"], 2).equals(1 / 3)
    check(repetition, ["a", "b", "a", "b"], 1).equals(1 / 2)
    check(repetition, [5] * 9, 4).equals(5 / 6)
    check(repetition, list(range(9)), 1).equals(0.0)


def test_repetition_property(check: Check) -> None:
    """Against a list of those seen before, for n from 1 to 4; 0 where there is no n-gram."""
    text = check.draw.integers(0, 3, 30).tolist()
    for n in (1, 2, 3, 4):
        grams = [text[start : start + n] for start in range(len(text) - n + 1)]
        check(repetition, text, n).equals(sum(gram in grams[:place] for place, gram in enumerate(grams)) / len(grams))
    check(repetition, [1, 2], 3).equals(0.0)
    check(repetition, [], 1).equals(0.0)
    check.raises(ValueError, repetition, text, -1, naming=("n", "-1"))


def test_by_hand(check: Check) -> None:
    """A uniform model of 6 tokens, "ab" and "b": 5 tokens of ln 6 each, with 3 bytes; the source needs 5 nats."""
    model = _table(torch.zeros(6, 6, dtype=torch.float64))
    answer = _evaluated(check, model, ["ab", "b"], log_probability=lambda text: -1.0 - len(text))
    _figures(answer, loss=math.log(6), perplexity=6.0, bits_per_byte=5 * math.log2(6) / 3)
    _figures(answer, floor=1.0, above_floor=math.log(6) - 1)
    references = list(answer.value.references)
    answer.satisfies(references == ["ab", "b"], got=f"references {references}", expected="both documents, in order")


def test_results_are_values(check: Check) -> None:
    """Neither an evaluation nor one of its samples can be changed."""
    answer = _evaluated(check, _table(torch.zeros(6, 6, dtype=torch.float64)), ["ab"])
    check.raises(AttributeError, setattr, answer.value, "loss", 0.0)
    check.raises(AttributeError, setattr, answer.value.samples[0], "text", "")


def test_sums_in_float64(check: Check) -> None:
    """Of float32 logits, losses of 100 + 2^-17, 100 and 50 are summed to the last digit, which float32 has not."""
    table = torch.full((6, 6), -200.0)
    table[END, END] = table[1, 1] = table[2, 2] = 0.0  # and beside it exp(-50) is nothing: each loss is exact
    table[END, 1], table[1, 2], table[2, END] = -100.0 - 2**-17, -100.0, -50.0
    _figures(_evaluated(check, _table(table), ["ab"], max_new_tokens=1), loss=(250 + 2**-17) / 3)


def test_batches(check: Check) -> None:
    """Of documents and of samples, batch_size are read or written at once; by default it is 32, and 100 samples."""
    documents = _documents(check, 70)
    for options, most in (({"batch_size": 9}, 9), ({}, 32)):
        model = _table(_chains(check)[0])
        call = f"evaluate(model, tokenizer, 70 documents, end_of_text=0, max_new_tokens=1, {options})"
        given: dict[str, Any] = {"end_of_text": END, "max_new_tokens": 1, **options}
        answer = check.run(call, partial(evaluate, model, _Letters(), documents, **given))
        samples = len(answer.value.samples)
        answer.satisfies(samples == 100, got=f"{samples} samples", expected="100, as by default")
        rows = max(model.rows, default=0)
        answer.satisfies(rows == most, got=f"up to {rows} rows at once", expected=f"up to {most}")
        answer.satisfies(not model.graph, got="the model is called with gradients on", expected="no graph is kept")


def test_model_is_the_source(check: Check) -> None:
    """A model that knows the source is on the floor: nothing is above it."""
    chain, _ = _chains(check)
    answer = _evaluated(check, _table(chain), _documents(check, 12), log_probability=_source(chain))
    _figures(answer, floor=answer.value.loss, above_floor=0.0)


def test_figures_of_a_chain(check: Check) -> None:
    """Of documents of many lengths, letter by letter: a mean over tokens, and bytes in which é counts twice."""
    chain, source = _chains(check)
    documents = [*_documents(check, 17), "b"]
    rows = [[*_Letters().encode(text), END] for text in documents]
    targets, nats = sum(map(len, rows)), -math.fsum(_price(chain, row) for row in rows)
    floor = -math.fsum(_price(source, row) for row in rows) / targets
    num_bytes = sum(len(text) + text.count("é") for text in documents)
    expected: dict[str, Any] = {"loss": nats / targets, "perplexity": math.exp(nats / targets)}
    for batch_size in (1, 5, 32):
        answer = _evaluated(check, _table(chain), documents, log_probability=_source(source), batch_size=batch_size)
        _figures(answer, **expected, bits_per_byte=nats / math.log(2) / num_bytes)
        _figures(answer, floor=floor, above_floor=nats / targets / floor - 1)


def test_without_a_source(check: Check) -> None:
    """Without a source there is no floor, and nothing is known of the samples; with a floor of 0, no share of it."""
    chain, _ = _chains(check)
    answer = _evaluated(check, _table(chain), ["ab", "b"])
    _figures(answer, floor=None, above_floor=None, grammatical=None)
    priced = sum(sample.log_probability is not None for sample in answer.value.samples)
    answer.satisfies(priced == 0, got=f"{priced} samples with a log_probability", expected="None for each")
    answer = _evaluated(check, _table(chain), ["ab", "b"], log_probability=lambda text: 0.0)
    _figures(answer, floor=0.0, above_floor=None)


def test_gpt2(check: Check) -> None:
    """The loss of a GPT-2 in training is that of transformers', which reads one document at a time, without dropout."""
    from transformers.models.gpt2.configuration_gpt2 import GPT2Config as TheirConfig
    from transformers.models.gpt2.modeling_gpt2 import GPT2LMHeadModel

    make: Any = TheirConfig  # its annotations do not know every argument
    special = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"))
    twin: Any = GPT2LMHeadModel(make(vocab_size=6, n_positions=12, n_embd=8, n_layer=2, n_head=2, **special)).eval()
    check.draw.fill(twin.double(), scale=0.6)
    rates: dict[str, Any] = dict.fromkeys(("dropout", "attention_dropout", "embedding_dropout"), 0.5)
    model: Any = GPT2(GPT2Config(6, 12, 8, 2, 2, **rates)).double()
    with torch.no_grad():
        for name, weight in twin.transformer.named_parameters():
            transposed = ".c_" in name and name.endswith("weight")  # GPT-2's Conv1D multiplies from the other side
            model.get_parameter(name).copy_(weight.T if transposed else weight)
    documents = _documents(check, 9)
    nats, targets = 0.0, 0
    for text in documents:
        row = torch.tensor([[END, *_Letters().encode(text), END]])
        with torch.no_grad():
            logs = twin(row[:, :-1]).logits.log_softmax(dim=-1)
        nats -= float(logs.gather(-1, row[:, 1:, None]).sum())
        targets += row.shape[1] - 1
    model.h[0].eval()
    before = _modes(model)
    answer = _evaluated(check, model, documents, batch_size=4)
    _figures(answer, note="as transformers has it, without dropout", loss=nats / targets)
    check.run("modules in training after evaluate(model, ...)", lambda: _modes(model)).equals(before)


def _modes(model: Any) -> str:
    """Which parts of a GPT-2 of two blocks are in training, in words."""
    parts = {"the model": model, "h[0]": model.h[0], "h[1]": model.h[1]}
    words = [f"{name} in {'training' if part.training else 'evaluation'}" for name, part in parts.items()]
    return f"{', '.join(words)}; {sum(module.training for module in model.modules())} modules in training in all"


def _sampled(check: Check, **options: Any) -> tuple[Answer, Tensor, Tensor, list[str]]:
    """An evaluation with 40 samples of at most 6 tokens; the model's chain, the source's, and the documents."""
    chain, source = _chains(check)
    chain[:, END] = -1.5  # near 0.15: most samples are finished, and some are not
    chain = chain.log_softmax(dim=-1)
    documents = _documents(check, 50)
    given = {"num_samples": 40, "max_new_tokens": 6, "batch_size": 7, "log_probability": _source(source), **options}
    given.setdefault("generator", torch.Generator().manual_seed(check.draw.seed()))
    return _evaluated(check, _table(chain), documents, **given), chain, source, documents


def test_samples(check: Check) -> None:
    """Each sample has its text without the end, its price under the source if it is one of its, and the model's own."""
    answer, chain, source, documents = _sampled(check)
    samples = answer.value.samples
    answer.satisfies(len(samples) == 40, got=f"{len(samples)} samples", expected="40")
    for place, sample in enumerate(samples):
        finished = len(sample.text) < 6
        if LETTERS[END] in sample.text or len(sample.text) > 6:
            wanted = f"at most six letters, and none that stands for the end of text, {LETTERS[END]!r}"
            answer.satisfies(False, got=f"sample {place}: {sample.text!r}", expected=wanted)
            return
        tokens = _Letters().encode(sample.text) + [END] * finished
        price, own = _price(source, tokens), _price(chain, tokens)
        right = price if finished and price > -math.inf else None
        value = sample.log_probability
        agrees = value is right
        if value is not None and right is not None:
            agrees = abs(value - right) < CLOSE * max(1.0, abs(right))
        shown = f"{sample.text!r}, which {'was' if finished else 'was not'} finished"
        words = "None: the source never writes it" if right is None else f"{right}, the source's price"
        wanted = words if finished else "None: nobody knows how it would have gone on"
        answer.satisfies(agrees, got=f"log_probability {value} of {shown}", expected=wanted)
        answer.satisfies(
            abs(sample.own_log_probability - own) < CLOSE * max(1.0, abs(own)),
            got=f"own_log_probability {sample.own_log_probability:.9g} of {shown}",
            expected=f"{own:.9g}, {'with' if finished else 'without'} the end of text",
        )
    _figures(answer, grammatical=sum(sample.log_probability is not None for sample in samples) / 40)
    references = list(answer.value.references)
    answer.satisfies(
        references == documents[:40], got=f"{len(references)} references", expected="the first 40 documents, in order"
    )


def test_variety_of_the_samples(check: Check) -> None:
    """The distinct n-grams of all samples, and the mean share of 4-grams that a sample repeats, by their letters."""
    answer, _, _, _ = _sampled(check, max_new_tokens=25)
    texts = [sample.text for sample in answer.value.samples]
    for n in (1, 2, 3):
        grams = [text[start : start + n] for text in texts for start in range(len(text) - n + 1)]
        right, value = len(set(grams)) / len(grams), answer.value.distinct.get(n, math.nan)
        answer.satisfies(abs(value - right) < 1e-9, got=f"distinct-{n} {value:.6g}", expected=f"{right:.6g}")
    shares = []
    for text in texts:
        grams = [text[start : start + 4] for start in range(len(text) - 3)]
        shares.append(sum(gram in grams[:place] for place, gram in enumerate(grams)) / max(1, len(grams)))
    _figures(answer, repetition=math.fsum(shares) / len(texts))


def test_how_samples_are_drawn(check: Check) -> None:
    """Letters come first as often as the model says; through the filters; and the same from the same seed."""
    count, chain = 300, _chains(check)[0]
    model = _table(chain)
    seed, before = check.draw.seed(), torch.get_rng_state()

    def texts(number: int, **more: Any) -> tuple[Answer, list[str]]:
        generator = torch.Generator().manual_seed(seed)
        options: dict[str, Any] = {"num_samples": number, "max_new_tokens": 2, "batch_size": 128, **more}
        answer = _evaluated(check, model, ["ab"], generator=generator, **options)
        return answer, [sample.text for sample in answer.value.samples]

    answer, drawn = texts(count)
    for token in range(len(LETTERS)):
        letter = LETTERS[token] if token else ""
        probability = float(chain[END, token].exp())
        found = sum(text[:1] == letter for text in drawn)
        # Bernstein's inequality: 1e-8 for each side of each count.
        level = math.log(1e8)
        bound = level / 3 + math.sqrt(level**2 / 9 + 2 * level * count * probability * (1 - probability))
        answer.satisfies(
            abs(found - count * probability) <= bound,
            got=f"{found} of {len(drawn)} samples begin with {letter!r}",
            expected=f"{count * probability:.1f}, give or take {bound:.1f}",
        )
    # 40 texts of two tokens, drawn independently, agree with a chance far below 1e-6.
    (_, few), (again, repeated) = texts(40), texts(40)
    again.satisfies(repeated == few, got="other samples from the same seed", expected="the same ones")
    untouched = torch.equal(torch.get_rng_state(), before)
    torch.set_rng_state(before)
    again.satisfies(untouched, got="torch's global generator has moved on", expected="it is as it was")
    first = int(chain[END].argmax())
    likeliest = LETTERS[first] if first else ""
    filtered, texts_filtered = texts(20, filters=[TopK(1)])
    strange = sum(text[:1] != likeliest for text in texts_filtered)
    filtered.satisfies(
        strange == 0, got=f"with TopK(1), {strange} samples that do not begin with {likeliest!r}", expected="none"
    )
    _figures(filtered, note="the filters are for the samples alone", loss=answer.value.loss)
    for sample in filtered.value.samples:
        own = _price(chain, [*_Letters().encode(sample.text), END][:2])
        filtered.satisfies(
            abs(sample.own_log_probability - own) < CLOSE * max(1.0, abs(own)),
            got=f"with TopK(1), own_log_probability {sample.own_log_probability:.9g} of {sample.text!r}",
            expected=f"{own:.9g}: what the model says before any filter",
        )


def _rows(report: str) -> list[list[str]]:
    """The cells of each row of the tables, without the lines under the headings; a bar after a backslash ends none."""
    lines = [line.strip() for line in report.splitlines() if line.strip()]
    rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines if line.startswith("|")]
    return [row for row in rows if not all(re.fullmatch(r":?-+:?", cell) for cell in row)]


def _report(check: Check, evaluation: Any, *args: int) -> tuple[Answer, list[list[str]]]:
    answer = check.run(
        f"Evaluation(...).to_markdown({', '.join(map(str, args))})", lambda: evaluation.to_markdown(*args)
    )
    answer.satisfies(
        isinstance(answer.value, str) and answer.value.endswith("\n"),
        got=f"{answer.value!r:.60}",
        expected="Markdown that ends with a line break",
    )
    return answer, _rows(answer.value)


def _has(answer: Answer, rows: list[list[str]], row: list[str], note: str) -> None:
    near = next((found for found in rows if found[:1] == row[:1]), None)
    got = f"no row that begins with {row[0]}" if near is None else f"the row {' | '.join(near)}"
    answer.satisfies(row in rows, got=got, expected=f"{' | '.join(row)} ({note})")


def _is_two_tables(answer: Answer) -> None:
    """Blocks of rows between blank lines (and titles, if there are any): each with headings, and dashes below them."""
    blocks = [
        [line.strip() for line in block.splitlines() if not line.startswith("#")]
        for block in re.split(r"\n\s*\n", answer.value)
    ]
    tables = [block for block in blocks if any(line.startswith("|") for line in block)]
    answer.satisfies(len(tables) == 2, got=f"tables between blank lines: {len(tables)}", expected="2")
    for number, lines in enumerate(tables, start=1):
        cells = [re.split(r"(?<!\\)\|", line)[1:-1] for line in lines]
        dashes = [all(re.fullmatch(r"\s*:?-+:?\s*", cell) for cell in row) for row in cells]
        answer.satisfies(
            dashes[:2] == [False, True] and not any(dashes[2:]) and len({len(row) for row in cells}) == 1,
            got=f"table {number} begins with {' and '.join(lines[:2])}",
            expected="a row of headings, one of dashes, and then rows of as many cells",
        )


def test_report(check: Check) -> None:
    """A report has a row for each figure that is known, and one for each sample, with a document beside it."""
    samples = (Sample("ab", -2.346, -1.0), Sample("a|b\nc", None, -3.0), Sample("b", -0.5, -0.5))
    figures: dict[str, Any] = {"loss": 1.23456, "perplexity": math.exp(1.23456), "bits_per_byte": 1.7811}
    shares: dict[str, Any] = {"distinct": {1: 0.25, 2: 0.5}, "repetition": 0.0612, "samples": samples}
    known = check.run(
        "Evaluation(...)",
        lambda: Evaluation(
            **figures, floor=1.1, above_floor=0.1223, grammatical=1 / 3, **shares, references=("x|y", "z")
        ),
    )
    answer, rows = _report(check, known.value)
    expected = [("loss", "1.2346"), ("perplexity", "3.4369"), ("bits per byte", "1.7811"), ("floor", "1.1000")]
    expected += [("above the floor", "12.2 %"), ("grammatical", "33.3 %"), ("distinct-1", "25.0 %")]
    expected += [("distinct-2", "50.0 %"), ("repetition", "6.1 %")]
    for name, value in expected:
        _has(answer, rows, [name, value], "a figure")
    _has(
        answer,
        rows,
        ["ab", "-2.35", r"x\|y"],
        "a sample, its price, a document",
    )
    _has(answer, rows, [r"a\|b<br>c", "–", "z"], "a bar and a line break that must not end the cell; no price")
    _has(answer, rows, ["b", "-0.50", ""], "there is no third document")
    _is_two_tables(answer)
    answer, rows = _report(check, known.value, 1)
    count = sum(len(row) == 3 for row in rows) - 1
    answer.satisfies(count == 1, got=f"{count} samples", expected="1, as asked for")
    shares["samples"] = tuple(Sample("ab" * number, None, -1.0) for number in range(1, 13))
    unknown = check.run(
        "Evaluation(...)", lambda: Evaluation(**figures, floor=None, above_floor=None, grammatical=None, **shares)
    )
    answer, rows = _report(check, unknown.value)
    names = {row[0] for row in rows} & {"floor", "above the floor", "grammatical"}
    answer.satisfies(not names, got=f"rows of {sorted(names)}, which are None", expected="no such rows")
    count = sum(len(row) == 3 for row in rows) - 1
    answer.satisfies(count == 10, got=f"{count} samples of 12", expected="10, as by default")


def test_edges(check: Check) -> None:
    """One document of one letter, one sample of one token; a document that just fits; one that is empty."""
    model = _table(torch.zeros(6, 6, dtype=torch.float64), context=4)
    answer = _evaluated(check, model, ["a"], num_samples=1, max_new_tokens=1, batch_size=1)
    _figures(answer, loss=math.log(6), bits_per_byte=2 * math.log2(6))
    answer = _evaluated(check, model, ["abc", "", "b"], num_samples=1, max_new_tokens=3)
    _figures(answer, note="three letters and the end of text before them fill 4 positions", loss=math.log(6))
    _figures(answer, bits_per_byte=7 * math.log2(6) / 4)


def test_refuses(check: Check) -> None:
    """No documents, documents that do not fit, contain the end or are not of the source, and numbers below 1."""
    model = _table(torch.zeros(6, 6, dtype=torch.float64), context=4)
    rest: dict[str, Any] = {"end_of_text": END, "max_new_tokens": 2}
    check.raises(ValueError, evaluate, model, _Letters(), [], **rest, naming="document")
    check.raises(ValueError, evaluate, model, _Letters(), ["a", "abca"], **rest, naming=("document", "1", "4"))
    check.raises(ValueError, evaluate, model, _Letters(), ["a", "b", "a·"], **rest, naming=("document", "2"))
    check.raises(ValueError, evaluate, model, _Letters(), ["a"], num_samples=0, **rest, naming=("num_samples", "0"))
    check.raises(ValueError, evaluate, model, _Letters(), ["a"], batch_size=-1, **rest, naming=("batch_size", "-1"))

    def refusing(text: str) -> float:
        if "c" in text:
            raise ValueError("what is this c?")
        return -1.0

    check.raises(
        ValueError, evaluate, model, _Letters(), ["a", "ac"], log_probability=refusing, **rest, naming=("document", "1")
    )
