"""Grades generation/perplexity.

The oracles: models whose losses tell what they were given to read, each target scored alone with just the context
that is its own, a Markov chain that is asked about its own text, and the recipe of Hugging Face over their GPT-2.
"""

import itertools
import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from checkpoints.checks import Check, Draw, Workload
from checkpoints.misconceptions import Misconception
from exercises.generation.perplexity import perplexity, sliding_window_losses

MISCONCEPTIONS = [
    Misconception(
        "targets scored again in each window that reaches them",
        ("answers[batch], stride))", "answers[batch], length))"),
    ),
    Misconception(
        "no more targets of the first window scored than of the others",
        (
            "_last_losses(model, windows[:1], answers[:1], length)]",
            "_last_losses(model, windows[:1], answers[:1], stride)]",
        ),
    ),
    Misconception("the targets behind the last whole window left out", ("if left:", "if False:")),
    Misconception(
        "the last window moved back until it is whole, and more context for its targets than the others have",
        (
            "model, inputs[None, begin:], targets[None, begin:], left)",
            "model, inputs[None, -length:], targets[None, -length:], left)",
        ),
    ),
    Misconception(
        "windows without context: of each, only the targets' own stretch is read",
        (
            "losses.append(_last_losses(model, windows[batch], answers[batch], stride))",
            "losses.append(_last_losses(model, windows[batch][:, -stride:], answers[batch][:, -stride:], stride))",
        ),
    ),
    Misconception(
        "windows with their last target among the T tokens: one token of context less than there could be",
        ("length = min(context_length, len(inputs))", "length = min(max(context_length - 1, stride), len(inputs))"),
    ),
    Misconception(
        "each token scored by the logits of its own position, which has read it",
        (
            "inputs, targets = tokens[:-1], tokens[1:]",
            "inputs, targets = tokens[1:], tokens[1:]",
        ),
    ),
    Misconception(
        "windows side by side, whatever the stride",
        ("stride = context_length if stride is None else stride", "stride = context_length"),
    ),
    Misconception(
        "bits in the place of nats", ("return torch.cat(losses)", "return torch.cat(losses) / 0.6931471805599453")
    ),
    Misconception("2 to the power of a mean in nats", (".double().mean().exp()", ".double().mean().exp2()")),
    Misconception(
        "the mean of the tokens' perplexities, not the exponential of the mean loss",
        (".double().mean().exp()", ".double().exp().mean()"),
    ),
    Misconception(
        "the mean of the windows' means, in which a short window counts as much as a whole one",
        (
            "losses.double().mean()",
            "torch.stack([part.mean() for part in losses.double().split(stride or context_length)]).mean()",
        ),
    ),
    Misconception(
        "a model that is left in training mode: its dropout plays a part",
        ("            module.eval()", "            pass"),
    ),
    Misconception(
        "a model that stays in evaluation mode afterwards",
        ("module.training = mode ", "pass "),
    ),
    Misconception(
        "a model in training mode afterwards, also those of its parts that were not",
        ("module.training = mode ", "module.training = max(modes.values()) "),
    ),
    Misconception("gradients recorded", ("with _evaluating(model), torch.no_grad():", "with _evaluating(model):")),
    Misconception(
        "losses in half precision",
        ("logits.to(torch.promote_types(logits.dtype, torch.float32))", "logits"),
    ),
    Misconception(
        "all windows at once, whatever the batch size",
        ("range(1, len(windows), batch_size)", "range(1, len(windows), len(windows))"),
        ("slice(start, start + batch_size)", "slice(start, None)"),
    ),
    Misconception(
        "one window at a time, whatever the batch size",
        ("range(1, len(windows), batch_size)", "range(1, len(windows))"),
        ("slice(start, start + batch_size)", "slice(start, start + 1)"),
    ),
]

Model = Callable[[Tensor], Tensor]


def workload(task: Any, draw: Draw) -> list[Workload]:
    """Typical calls, for `compare`."""
    table = draw.normal(500, 500)
    tokens = draw.integers(0, 500, 2000)

    def model(windows: Tensor) -> Tensor:
        return table[windows]

    return [
        Workload("perplexity of 2000 tokens", task.perplexity, (model, tokens), {"context_length": 128}),
        Workload(
            "with half of each window as context",
            task.perplexity,
            (model, tokens),
            {"context_length": 128, "stride": 64},
        ),
    ]


# For perplexities of float64: a loss of a few nats out of a softmax of a dozen terms is good to 1e-14, so is their mean,
# and its exponential has that as its relative error. (Numbers would be compared up to 1e-6.)
EXACT: dict[str, Any] = {"rtol": 1e-10, "atol": 0.0}


def halves(tokens: Tensor) -> Tensor:
    """Takes token 0 for twice as likely as 1 and as 2, whatever came before."""
    return torch.tensor([0.5, 0.25, 0.25]).log().expand(*tokens.shape, 3)


def counting(tokens: Tensor) -> Tensor:
    """Of a text of zeros, the loss is the number of tokens that the model has read before the target."""
    read = torch.arange(1, tokens.shape[1] + 1, dtype=torch.float64).expand(tokens.shape)
    return torch.stack([-read, (-(-read).exp()).log1p()], dim=-1)  # p(0) = exp(-read)


def _remembering(table: Tensor) -> Model:
    """A model whose logits are the sum of a row for each token it has read: it sees all, and knows no positions."""

    def remembering(tokens: Tensor) -> Tensor:
        return table[tokens].cumsum(dim=1)

    return remembering


def _context(target: int, context_length: int, stride: int) -> int:
    """Where the first window that reaches a target begins."""
    begin = 0
    while begin + context_length < target:
        begin += stride
    return begin


def _alone(table: Tensor, tokens: Tensor, context_length: int, stride: int) -> Tensor:
    """The losses of the remembering model, each target alone."""
    losses = []
    for target in range(1, len(tokens)):
        logits = table[tokens[_context(target, context_length, stride) : target]].sum(dim=0)
        losses.append(logits.logsumexp(dim=0) - logits[tokens[target]])
    return torch.stack(losses)


def test_by_hand(check: Check) -> None:
    """Tokens of probability 1/4, 1/4 and 1/2: losses of 2 ln 2, 2 ln 2 and ln 2, and a perplexity of 2^(5/3)."""
    tokens = torch.tensor([0, 1, 2, 0])
    answer = check(sliding_window_losses, halves, tokens, context_length=8)
    answer.equals(torch.tensor([2.0, 2.0, 1.0]) * math.log(2), note="in nats; the first token has no context")
    mean = "exp of the mean loss, 5/3 ln 2"
    check(perplexity, halves, tokens, context_length=8).equals(2 ** (5 / 3), note=mean)
    check(perplexity, halves, tokens, context_length=2).equals(2 ** (5 / 3), note=f"{mean}, over all three tokens")


def test_windows_by_hand(check: Check) -> None:
    """Each loss is the number of tokens before the target in its window: 4 at most, and never fewer than needed."""
    tokens = torch.zeros(8, dtype=torch.int64)
    expected = {4: [1, 2, 3, 4, 1, 2, 3], 2: [1, 2, 3, 4, 3, 4, 3], 1: [1, 2, 3, 4, 4, 4, 4], 3: [1, 2, 3, 4, 2, 3, 4]}
    for stride, losses in expected.items():
        answer = check(sliding_window_losses, counting, tokens, context_length=4, stride=stride)
        answer.equals(torch.tensor(losses, dtype=torch.float64), note="the tokens before each of the 7 targets")
        value = check(perplexity, counting, tokens, context_length=4, stride=stride)
        value.equals(math.exp(sum(losses) / 7), note=f"exp of the mean of {losses}", **EXACT)


def test_default_stride(check: Check) -> None:
    """Without a stride, windows stand side by side, and still each target but the first token is scored."""
    tokens = torch.zeros(check.draw.size(8, 12), dtype=torch.int64)
    losses = [1.0 + index % 3 for index in range(len(tokens) - 1)]
    answer = check(sliding_window_losses, counting, tokens, context_length=3)
    answer.equals(torch.tensor(losses, dtype=torch.float64), note="the tokens before each target")
    check(perplexity, counting, tokens, context_length=3).equals(math.exp(sum(losses) / len(losses)), **EXACT)


def test_each_target_alone(check: Check) -> None:
    """Against each target scored alone, with just the context that its window gives it."""
    table = check.draw.normal(6, 6, dtype=torch.float64)
    for _ in range(4):
        context_length = check.draw.size(2, 7)
        tokens, stride = check.draw.integers(0, 6, check.draw.size(14, 30)), check.draw.integer(1, context_length + 1)
        expected = _alone(table, tokens, context_length, stride)
        given = {"context_length": context_length, "stride": stride, "batch_size": check.draw.size(1, 5)}
        check(sliding_window_losses, _remembering(table), tokens, **given).equals(expected)
        check(perplexity, _remembering(table), tokens, **given).equals(expected.mean().exp().item(), **EXACT)


def test_markov_chain(check: Check) -> None:
    """A Markov chain is asked about its own text: one token of context is all it needs, so windows are no matter."""
    chain = torch.softmax(check.draw.normal(5, 5, dtype=torch.float64), dim=-1)
    tokens = [0]
    for _ in range(39):
        tokens.append(int(chain[tokens[-1]].multinomial(1, generator=check.draw.generator)))

    def markov(windows: Tensor) -> Tensor:
        return chain[windows].log()

    probabilities = [chain[before, after].item() for before, after in itertools.pairwise(tokens)]
    expected = math.prod(probabilities) ** (-1 / len(probabilities))  # one over their geometric mean
    for context_length, stride in ((1, 1), (7, 7), (7, 2), (39, 39), (100, 3)):
        text = torch.tensor(tokens)
        check(perplexity, markov, text, context_length=context_length, stride=stride).equals(expected, **EXACT)


def test_recipe_of_hugging_face(check: Check) -> None:
    """Over a GPT-2 of transformers, the same as their own recipe for texts longer than the context."""
    context_length = check.draw.size(5, 9)
    gpt2 = _gpt2(check.draw, context_length)
    tokens = check.draw.integers(0, 13, 30)
    for stride in (context_length, 2):
        given = {"context_length": context_length, "stride": stride}
        with torch.no_grad():
            expected = _recipe(gpt2, tokens, context_length + 1, stride)
        check(perplexity, gpt2, tokens, **given).equals(expected, **EXACT)


def _gpt2(draw: Draw, context_length: int) -> Model:
    """A small GPT-2 of transformers."""
    from transformers.models.gpt2.configuration_gpt2 import GPT2Config
    from transformers.models.gpt2.modeling_gpt2 import GPT2LMHeadModel

    make: Any = GPT2Config  # its annotations do not know every argument
    sizes = {"vocab_size": 13, "n_positions": context_length, "n_embd": 8, "n_layer": 2, "n_head": 2}
    twin: Any = GPT2LMHeadModel(make(**sizes, bos_token_id=None, eos_token_id=None)).double().eval()
    draw.fill(twin, scale=0.7)

    def gpt2(windows: Tensor) -> Tensor:
        logits: Tensor = twin(windows).logits
        return logits

    return gpt2


def _recipe(model: Model, tokens: Tensor, max_length: int, stride: int) -> float:
    """As in "Perplexity of fixed-length models", but that the last token of a window is a target only."""
    total, scored, previous_end = 0.0, 0, 0
    for begin in range(0, len(tokens), stride):
        end = min(begin + max_length, len(tokens))
        labels = tokens[begin:end].clone()
        labels[: -(end - previous_end)] = -100  # scored before
        logits = model(tokens[None, begin : end - 1])[0]
        total += F.cross_entropy(logits, labels[1:], reduction="sum").item()
        scored += int((labels[1:] != -100).sum())
        previous_end = end
        if end == len(tokens):
            break
    return math.exp(total / scored)


def test_edges(check: Check) -> None:
    """Two tokens; a window longer than the text; a window of one token; other integers; tokens that lie apart."""
    table = check.draw.normal(4, 4, dtype=torch.float64)
    tokens = check.draw.integers(0, 4, 9)
    for text, context_length, stride in ((tokens[:2], 4, 2), (tokens, 50, 7), (tokens, 8, 3), (tokens, 1, 1)):
        given = {"context_length": context_length, "stride": stride}
        expected = _alone(table, text, context_length, stride)
        check(sliding_window_losses, _remembering(table), text, **given).equals(expected)
    expected = _alone(table, tokens, 3, 2)
    apart = torch.stack([tokens, tokens.flip(0)], dim=1)[:, 0]
    for text in (tokens.to(torch.int16), tokens.to(torch.uint8), apart):
        check(sliding_window_losses, _remembering(table), text, context_length=3, stride=2).equals(expected)


def test_extremes(check: Check) -> None:
    """A uniform model has the size of its vocabulary; a sure one 1; a token that cannot come makes it infinite."""
    tokens = check.draw.integers(0, 7, 11)

    def uniform(windows: Tensor) -> Tensor:
        return torch.full((*windows.shape, 7), 1e4)

    def ahead(windows: Tensor) -> Tensor:  # sure that the next number comes next
        return 1e5 * F.one_hot((windows + 1) % 7, 7).float()

    check(perplexity, uniform, tokens, context_length=4, stride=3).equals(7.0)
    check(perplexity, ahead, torch.arange(11) % 7, context_length=4, stride=3).equals(1.0)
    check(sliding_window_losses, ahead, torch.tensor([1, 2, 2]), context_length=4).equals(torch.tensor([0.0, 1e5]))

    def without_two(windows: Tensor) -> Tensor:
        return torch.tensor([0.0, 0.0, -math.inf]).expand(*windows.shape, 3)

    check(perplexity, without_two, torch.tensor([0, 1, 2, 0]), context_length=4).equals(math.inf)
    check(perplexity, without_two, torch.tensor([2, 1, 1, 0]), context_length=4).equals(2.0)


def test_mean_in_float64(check: Check) -> None:
    """Losses of 100, 100 and 101 in float32 have a mean that float32 has no digits for, and no room for its exp."""

    def unlikely(windows: Tensor) -> Tensor:
        return torch.tensor([0.0, -100.0, -101.0]).expand(*windows.shape, 3)

    # The losses are whole numbers, exact in float32: beside the 1, exp(-100) is nothing.
    check(perplexity, unlikely, torch.tensor([0, 1, 1, 2]), context_length=4).equals(math.exp(301 / 3), **EXACT)


def test_half_precision(check: Check) -> None:
    """Logits of bfloat16 and float16 go through the softmax in float32."""
    tokens = check.draw.integers(0, 50, 20)
    for dtype in (torch.bfloat16, torch.float16):
        table = check.draw.normal(50, 50, scale=3.0).to(dtype)

        def model(windows: Tensor, table: Tensor = table) -> Tensor:
            return table[windows]

        expected = F.cross_entropy(table[tokens[:-1]].float(), tokens[1:], reduction="none")
        check(sliding_window_losses, model, tokens, context_length=6, stride=4).equals(expected)


def test_batches(check: Check) -> None:
    """Windows are read in batches of up to batch_size, none longer than T, and it does not change the losses."""
    read: list[tuple[int, ...]] = []
    table = check.draw.normal(5, 5, dtype=torch.float64)

    def recording(windows: Tensor) -> Tensor:
        read.append(tuple(windows.shape))
        return _remembering(table)(
            windows.view(-1).view(windows.shape)
        )  # as a model may that wants one piece of memory

    tokens = check.draw.integers(0, 5, 62)
    expected = _alone(table, tokens, 4, 2)
    for given in (1, 3, 8, 100, None):
        read.clear()
        options = {"context_length": 4, "stride": 2} | ({} if given is None else {"batch_size": given})
        answer = check(sliding_window_losses, recording, tokens, **options)
        answer.has(shape=(61,)).equals(expected)
        batch_size = given or 8
        call = f"what the model is given to read with batch_size={batch_size}{'' if given else ', as by default'}"
        rows, columns = max(shape[0] for shape in read), max(shape[1] for shape in read)
        check.that(
            rows <= batch_size and columns <= 4,
            call=call,
            got=f"up to {rows} windows of up to {columns} tokens",
            expected=f"up to {batch_size} of up to 4",
        )
        fewest = min(shape[0] for shape in read)
        check.that(fewest > 0, call=call, got="a batch of no windows", expected="one window at least")
        # 61 targets: 29 whole windows, and one that is shorter. The first and the last may go alone.
        most = math.ceil(29 / batch_size) + 2
        check.that(len(read) <= most, call=call, got=f"{len(read)} batches", expected=f"at most {most}, for 30 windows")
    read.clear()
    check(perplexity, recording, tokens, context_length=4, stride=2).equals(expected.mean().exp().item(), **EXACT)
    rows = max((shape[0] for shape in read), default=0)
    check.that(rows == 8, call="what perplexity gives the model", got=f"{rows} windows", expected="8, as by default")


class Dropping(nn.Module):
    """A bigram table with dropout in front, and behind it a part that is frozen."""

    def __init__(self, table: Tensor, fails: bool = False) -> None:
        super().__init__()
        self.table = nn.Parameter(table)
        self.dropout = nn.Dropout(0.5)
        self.frozen = nn.Dropout(0.5).eval()
        self.fails = fails
        self.recorded = False

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits of each token's row."""
        if self.fails:
            raise RuntimeError("a model that fails")
        self.recorded = self.recorded or torch.is_grad_enabled()
        logits: Tensor = self.frozen(self.dropout(self.table[tokens]))
        return logits


def test_modes(check: Check) -> None:
    """A module is in evaluation mode meanwhile, and each of its parts as it was afterwards, also after an error."""
    tokens, table = check.draw.integers(0, 5, 12), check.draw.normal(5, 5)
    expected = F.cross_entropy(table[tokens[:-1]], tokens[1:], reduction="none")
    model = Dropping(table)
    check(sliding_window_losses, model, tokens, context_length=4).equals(expected, note="without dropout")
    _has_modes(check, "after sliding_window_losses", model, [True, True, False])
    check(perplexity, model, tokens, context_length=4).equals(
        # Float32 losses below 20, which a softmax of five terms rounds a few times by 6e-8 of that: 1e-5 in the exponent.
        expected.double().mean().exp().item(),
        rtol=1e-5,
    )
    _has_modes(check, "after perplexity", model, [True, True, False])
    model.eval()
    check(perplexity, model, tokens, context_length=4)
    _has_modes(check, "after perplexity of a model in evaluation mode", model, [False, False, False])
    failing = Dropping(table, fails=True)
    check.raises(RuntimeError, perplexity, failing, tokens, context_length=4, naming="a model that fails")
    _has_modes(check, "after an error in the model", failing, [True, True, False])


def _has_modes(check: Check, when: str, model: Dropping, expected: list[bool]) -> None:
    got = [model.training, model.dropout.training, model.frozen.training]
    check.that(got == expected, call=when, got=_modes_in_words(got), expected=_modes_in_words(expected), proof=got)


def _modes_in_words(training: list[bool]) -> str:
    names = ("the model", "its dropout", "its frozen part")
    return ", ".join(
        f"{name} in {'training' if on else 'evaluation'}" for name, on in zip(names, training, strict=True)
    )


def test_no_gradients(check: Check) -> None:
    """Nothing is recorded for a backward pass: neither in the model, nor in the losses."""
    model = Dropping(check.draw.normal(5, 5))
    answer = check(sliding_window_losses, model, check.draw.integers(0, 5, 12), context_length=4, stride=2)
    answer.has(shape=(11,))
    answer.satisfies(not answer.value.requires_grad, got="losses with a graph", expected="none")
    check.that(
        not model.recorded,
        call="torch.is_grad_enabled() while the model is called",
        got="True: all its activations are kept for a backward pass",
        expected="False",
    )


def test_refuses_sizes(check: Check) -> None:
    """A window of nothing, a stride that stands still or jumps over targets, a batch of none: each by its name."""
    tokens = torch.tensor([0, 1, 2, 0, 1])
    for function in (perplexity, sliding_window_losses):
        check.raises(ValueError, function, halves, tokens, context_length=0, naming=("context_length", "0"))
        check.raises(ValueError, function, halves, tokens, context_length=2, stride=0, naming=("stride", "0"))
        check.raises(ValueError, function, halves, tokens, context_length=2, stride=3, naming=("stride", "3"))
        check.raises(ValueError, function, halves, tokens, context_length=2, batch_size=0, naming=("batch_size", "0"))


def test_refuses_tokens(check: Check) -> None:
    """A batch, a text without a target, numbers that are no tokens, and logits that do not fit are refused."""
    given = {"context_length": 2}
    check.raises(ValueError, perplexity, halves, torch.zeros(2, 5, dtype=torch.int64), naming="(2, 5)", **given)
    few = "two|2|token|text"
    check.raises(ValueError, perplexity, halves, torch.tensor([1]), naming=("1", few), **given)
    check.raises(ValueError, perplexity, halves, torch.tensor([1])[:0], naming=("0", few), **given)
    for dtype in (torch.float32, torch.bool, torch.complex64):
        name = str(dtype).removeprefix("torch.")
        check.raises(TypeError, perplexity, halves, torch.tensor([0, 1, 1]).to(dtype), naming=name, **given)
    check.raises(ValueError, perplexity, halves, torch.tensor([0, 3, 1]), naming="3", **given)

    def last_only(tokens: Tensor) -> Tensor:
        return torch.zeros(tokens.shape[0], 3)

    check.raises(ValueError, perplexity, last_only, torch.tensor([0, 1, 2]), naming="(1, 3)", **given)

    def one_number(tokens: Tensor) -> Tensor:
        return torch.zeros(tokens.shape)

    def too_many(tokens: Tensor) -> Tensor:
        return torch.zeros(tokens.shape[0], tokens.shape[1] + 1, 3)

    check.raises(ValueError, perplexity, one_number, torch.tensor([0, 1, 2]), naming="(1, 2)", **given)
    check.raises(ValueError, perplexity, too_many, torch.tensor([0, 1, 2]), naming="(1, 3, 3)", **given)
