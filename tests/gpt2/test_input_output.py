"""Grades gpt2/input_output.

The oracles are rows picked one by one from the weights, torch's own layer norm and cross-entropy, a loop over pairs of
neighbours for the targets, and the moments of the normal distributions that the weights are drawn from.
"""

import math
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from checkpoints.checks import Check, Draw, Workload
from checkpoints.misconceptions import Misconception
from exercises.block.layer_norm import LayerNorm
from exercises.embeddings.custom import TiedOutput
from exercises.embeddings.embedding import Embedding
from exercises.embeddings.learned import LearnedPositionalEmbedding
from exercises.gpt2.configuration import GPT2Config
from exercises.gpt2.input_output import IGNORED, InputOutput, initialize, language_model_loss, next_tokens

MISCONCEPTIONS = [
    Misconception(
        "a head with a weight of its own, not tied to the token embedding",
        ("TiedOutput(self.wte)", "TiedOutput(Embedding(config.vocab_size, config.embed_dim))"),
    ),
    Misconception("logits without the final norm", ("self.lm_head(self.ln_f(hidden))", "self.lm_head(hidden)")),
    Misconception(
        "probabilities in the place of logits",
        ("self.lm_head(self.ln_f(hidden))", "self.lm_head(self.ln_f(hidden)).softmax(dim=-1)"),
    ),
    Misconception(
        "a final norm with an epsilon of its own",
        ("LayerNorm(config.embed_dim, config.eps)", "LayerNorm(config.embed_dim)"),
    ),
    Misconception(
        "vectors without their positions",
        ("self.drop(self.wpe(vectors, past=past))", "self.drop(vectors)"),
        ("self.drop(vectors + self.wpe.weight[positions])", "self.drop(vectors)"),
    ),
    Misconception(
        "positions that begin at 0 whatever came before",
        ("self.wpe(vectors, past=past)", "self.wpe(vectors)"),
    ),
    Misconception(
        "a past that is off by one: the last position again",
        ("self.wpe(vectors, past=past)", "self.wpe(vectors, past=max(past - 1, 0))"),
    ),
    Misconception(
        "positions that are given and not looked at",
        ("self.drop(vectors + self.wpe.weight[positions])", "self.drop(self.wpe(vectors, past=past))"),
    ),
    Misconception(
        "the past added to the positions that are given",
        ("self.wpe.weight[positions]", "self.wpe.weight[positions + past]"),
    ),
    Misconception(
        "token embeddings multiplied by sqrt(embed_dim), as in Vaswani et al. and not in GPT-2",
        ("vectors = self.wte(tokens)", "vectors = self.wte(tokens) * math.sqrt(self.config.embed_dim)"),
    ),
    Misconception(
        "dropout of the token's vector alone, not of the sum",
        ("self.drop(self.wpe(vectors, past=past))", "self.wpe(self.drop(vectors), past=past)"),
    ),
    Misconception(
        "dropout in evaluation too",
        (
            "self.drop(self.wpe(vectors, past=past))",
            "Dropout(self.config.embedding_dropout)(self.wpe(vectors, past=past))",
        ),
        (
            "self.drop(vectors + self.wpe.weight[positions])",
            "Dropout(self.config.embedding_dropout)(vectors + self.wpe.weight[positions])",
        ),
    ),
    Misconception(
        "dropout by the rate that is meant for the blocks",
        ("Dropout(config.embedding_dropout)", "Dropout(config.dropout)"),
    ),
    Misconception(
        "weights that begin as the layers were made, not as GPT-2's",
        ("initialize(self, config.num_layers, generator=generator)", "pass"),
    ),
    Misconception(
        "layers called c_proj drawn like the others, without regard to the depth",
        ("if adds else 0.02", "if False else 0.02"),
    ),
    Misconception(
        "one addition to the residual stream counted for each block, not two",
        ("math.sqrt(2 * num_layers)", "math.sqrt(num_layers)"),
    ),
    Misconception(
        "divided by 2 L in the place of its square root: variances add up, not deviations",
        ("math.sqrt(2 * num_layers)", "(2 * num_layers)"),
    ),
    Misconception(
        "a variance of 0.02 in the place of the standard deviation",
        ("normal_(std=std,", "normal_(std=std / math.sqrt(0.02),"),
    ),
    Misconception("biases left as they were", ("parameter.zero_()", "pass")),
    Misconception(
        "the norms' weights drawn at random like the others",
        ("elif parameter.dim() == 1:", "elif parameter.dim() == 0:"),
    ),
    Misconception(
        "weights that are not drawn from the generator", ("normal_(std=std, generator=generator)", "normal_(std=std)")
    ),
    Misconception(
        "targets that are the tokens themselves: nothing is shifted",
        ("targets[:, :-1] = tokens[:, 1:]", "targets[:] = tokens"),
    ),
    Misconception(
        "targets shifted twice: the token after the next",
        ("targets[:, :-1] = tokens[:, 1:]", "targets[:, :-2] = tokens[:, 2:]"),
    ),
    Misconception(
        "targets shifted the wrong way: the token before",
        ("targets[:, :-1] = tokens[:, 1:]", "targets[:, 1:] = tokens[:, :-1]"),
    ),
    Misconception(
        "the last position gets the first token for its target",
        ("targets = torch.full_like(tokens, IGNORED)", "targets = tokens.roll(-1, dims=1)"),
    ),
    Misconception(
        "padding among the targets: the mask is not looked at",
        ("targets[:, :-1].masked_fill_(~(mask[:, :-1] & mask[:, 1:]), IGNORED)", "pass"),
    ),
    Misconception(
        "the last token of a text is to be followed by padding",
        ("~(mask[:, :-1] & mask[:, 1:])", "~mask[:, :-1]"),
    ),
    Misconception(
        "padding on the left is to be followed by the first token",
        ("~(mask[:, :-1] & mask[:, 1:])", "~mask[:, 1:]"),
    ),
    Misconception(
        "targets that are shifted once more in the loss",
        ("cross_entropy(logits, targets, ignore_index", "cross_entropy(logits[:, :-1], targets[:, 1:], ignore_index"),
    ),
    Misconception(
        "the mean over all positions, those without a target included",
        (
            "cross_entropy(logits, targets, ignore_index=IGNORED)",
            'cross_entropy(logits, targets, ignore_index=IGNORED, reduction="sum") / targets.numel()',
        ),
    ),
    Misconception(
        "the mean of the texts' means: a token of a short text counts for more",
        (
            "cross_entropy(logits, targets, ignore_index=IGNORED)",
            "torch.stack([cross_entropy(*row, ignore_index=IGNORED) for row in zip(logits, targets)]).mean()",
        ),
    ),
    Misconception(
        "the sum over the tokens, not their mean",
        ("targets, ignore_index=IGNORED)", 'targets, ignore_index=IGNORED, reduction="sum")'),
    ),
]

SIZES = {"vocab_size": 13, "context_length": 9, "embed_dim": 6, "num_layers": 2, "num_heads": 2}


def workload(task: Any, draw: Draw) -> list[Workload]:
    """Typical calls, for `compare`."""
    config = GPT2Config(vocab_size=512, context_length=256, embed_dim=128, num_layers=4, num_heads=4)
    ends: Any = draw.fill(task.InputOutput(config)).eval()
    tokens, mask = draw.integers(0, 512, 8, 256), draw.booleans(8, 256, probability=0.9)
    logits = draw.normal(8, 256, 512, requires_grad=True)
    return [
        Workload("InputOutput(config).embed(tokens)", ends.embed, (tokens,)),
        Workload("InputOutput(config).logits(hidden)", ends.logits, (draw.normal(8, 256, 128, requires_grad=True),)),
        Workload("next_tokens(tokens, mask)", task.next_tokens, (tokens, mask)),
        Workload("language_model_loss(logits, targets)", task.language_model_loss, (logits, tokens)),
    ]


def _built(check: Check, **changes: Any) -> Any:
    return check.build(InputOutput, check.build(GPT2Config, **{**SIZES, **changes}))


def _loaded(check: Check, dtype: torch.dtype = torch.float32, **changes: Any) -> tuple[Any, dict[str, Tensor]]:
    """Both ends in evaluation mode with weights drawn anew, and these."""
    ends = _built(check, **changes)
    sizes = {**SIZES, **changes}
    width = sizes["embed_dim"]
    weights = {
        "wte.weight": check.draw.normal(sizes["vocab_size"], width, dtype=dtype),
        "wpe.weight": check.draw.normal(sizes["context_length"], width, dtype=dtype),
        "ln_f.weight": check.draw.normal(width, dtype=dtype),
        "ln_f.bias": check.draw.normal(width, dtype=dtype),
    }
    check.run("to(dtype).eval()", lambda: ends.to(dtype).eval())
    check.load(ends, weights)
    return ends, weights


def _vectors(weights: dict[str, Tensor], tokens: Tensor, positions: Tensor) -> Tensor:
    """The sum of two rows for each token, one token at a time."""
    rows = [
        weights["wte.weight"][token] + weights["wpe.weight"][position]
        for token, position in zip(tokens.flatten().tolist(), positions.flatten().tolist(), strict=True)
    ]
    return torch.stack(rows).reshape(*tokens.shape, -1)


def test_parameters_of_gpt2(check: Check) -> None:
    """Both ends of the smallest GPT-2: 39,385,344 parameters, of which the head has none for itself."""
    with torch.device("meta"):
        ends = check.build(InputOutput, check.build(GPT2Config))
    call = "InputOutput(GPT2Config())"
    count = check.run(f"the parameters of {call}", lambda: sum(entry.numel() for entry in ends.parameters()))
    count.equals(50257 * 768 + 1024 * 768 + 2 * 768, note="wte, wpe and ln_f; the head's weight is wte's")
    names = check.run(f"the state_dict of {call}", lambda: sorted(ends.state_dict()))
    names.equals(["lm_head.weight", "ln_f.bias", "ln_f.weight", "wpe.weight", "wte.weight"])


def test_its_parts_are_the_pieces_built_before(check: Check) -> None:
    """Embeddings, norm and head are those of the earlier tasks, and the configuration is kept."""
    ends = _built(check)
    pieces = {"wte": Embedding, "wpe": LearnedPositionalEmbedding, "ln_f": LayerNorm, "lm_head": TiedOutput}
    for name, piece in {**pieces, "config": GPT2Config}.items():
        part = check.run(f"InputOutput(...).{name}", partial(getattr, ends, name))
        part.satisfies(
            isinstance(part.value, piece),
            got=f"{type(part.value).__module__}.{type(part.value).__name__}",
            expected=f"a {piece.__name__} of {piece.__module__.replace('.', '/')}",
        )


def test_embed_by_hand(check: Check) -> None:
    """Token 2 at position 0, token 0 at position 1: the rows (100, 200) + (0.5, 0.25) and (1, 2) + (3, 4)."""
    ends, _ = _loaded(check, vocab_size=3, context_length=3, embed_dim=2, num_heads=1)
    weights = dict(ends.named_parameters())
    check.load(
        ends,
        {
            **weights,
            "wte.weight": torch.tensor([[1.0, 2.0], [10.0, 20.0], [100.0, 200.0]]),
            "wpe.weight": torch.tensor([[0.5, 0.25], [3.0, 4.0], [7.0, 9.0]]),
        },
    )
    check(ends.embed, torch.tensor([[2, 0]])).equals(
        torch.tensor([[[100.5, 200.25], [4.0, 6.0]]]), note="wte[2] + wpe[0] and wte[0] + wpe[1]"
    )
    check(ends.embed, torch.tensor([[2, 0]]), past=1).equals(
        torch.tensor([[[103.0, 204.0], [8.0, 11.0]]]), note="one token came before: wte[2] + wpe[1], wte[0] + wpe[2]"
    )
    check(ends.embed, torch.tensor([[2, 0]]), positions=torch.tensor([[2, 0]])).equals(
        torch.tensor([[[107.0, 209.0], [1.5, 2.25]]]), note="wte[2] + wpe[2] and wte[0] + wpe[0]"
    )


def test_embed(check: Check) -> None:
    """Row by row: at every past, with positions of their own, in float64, from int32, of one token."""
    ends, weights = _loaded(check)
    length = check.draw.size(2, 6)
    tokens = check.draw.integers(0, 13, length, 3).T  # not contiguous
    for past in (0, check.draw.integer(1, 3), 9 - length):
        positions = (past + torch.arange(length)).expand(3, -1)
        check(ends.embed, tokens, past=past).equals(_vectors(weights, tokens, positions))
    positions = check.draw.integers(0, 9, 3, length)
    check(ends.embed, tokens, positions=positions).equals(_vectors(weights, tokens, positions))
    check(ends.embed, tokens, past=1, positions=positions % 8).equals(
        _vectors(weights, tokens, positions % 8), note="`past` is not looked at where positions are given"
    )
    one = torch.tensor([[12]], dtype=torch.int32)
    check(ends.embed, one, past=8).equals(_vectors(weights, one, torch.tensor([[8]])))
    ends, weights = _loaded(check, torch.float64)
    check(ends.embed, tokens).equals(_vectors(weights, tokens, torch.arange(length).expand(3, -1)))


def test_embed_gradients(check: Check) -> None:
    """The gradient reaches the row of each token and of each position, once for each time that it occurs."""
    ends, weights = _loaded(check, torch.float64)
    twins = {name: weight.requires_grad_() for name, weight in weights.items() if not name.startswith("ln_f")}
    parameters = {name: entry for name, entry in ends.named_parameters() if name in twins}
    tokens = torch.tensor([[3, 5, 3, 3], [3, 0, 12, 5]])
    counted = torch.arange(4).expand(2, -1)
    expected = _vectors(twins, tokens, counted)
    check(ends.embed, tokens).equals(expected.detach()).gradients_equal(expected, parameters, twins=twins)
    positions = torch.tensor([[0, 0, 0, 1], [0, 1, 2, 3]])  # the first row is padded on the left
    expected = _vectors(twins, tokens, positions)
    answer = check(ends.embed, tokens, positions=positions).equals(expected.detach())
    answer.gradients_equal(expected, parameters, twins=twins)


def test_embed_refuses(check: Check) -> None:
    """A text that is too long, positions that are not there, and what has other axes are refused with the numbers."""
    ends, _ = _loaded(check)
    check.raises(ValueError, ends.embed, torch.zeros(2, 10, dtype=torch.int64), naming=("10", "9"))
    check.raises(ValueError, ends.embed, torch.zeros(2, 4, dtype=torch.int64), past=6, naming=("10", "9"))
    check.raises(ValueError, ends.embed, torch.zeros(2, 4, dtype=torch.int64), past=-2, naming="-2")
    check.raises(ValueError, ends.embed, torch.tensor([1, 2, 3]), naming="(3,)")
    check.raises(ValueError, ends.embed, torch.tensor([[[1, 2, 3]]]), naming="(1, 1, 3)")
    tokens = torch.tensor([[1, 2, 3], [4, 5, 6]])
    for position in (11, 9, -1):
        wrong = torch.tensor([[7, 8, position], [0, 1, 2]])
        check.raises(ValueError, ends.embed, tokens, positions=wrong, naming=(str(position), "9"))
    for axes in ((0, 1, 2), ((0, 1, 2),)):  # either would broadcast
        wrong = torch.tensor(axes)
        check.raises(ValueError, ends.embed, tokens, positions=wrong, naming=(str(tuple(wrong.shape)), "(2, 3)"))
    check.raises(IndexError, ends.embed, torch.tensor([[1, 13]]), naming="13")
    check.raises(TypeError, ends.embed, torch.tensor([[1.0, 2.0]]), naming="float32")
    check.raises(TypeError, ends.embed, tokens.byte(), positions=tokens, naming="uint8")


def test_dropout(check: Check) -> None:
    """While training, entries of the sum are dropped by embedding_dropout; in evaluation nothing is."""
    rate = 0.25
    ends, weights = _loaded(check, context_length=40, embedding_dropout=rate, dropout=0.5, attention_dropout=0.6)
    check.load(ends, {**weights, "wte.weight": torch.ones(13, 6), "wpe.weight": torch.ones(40, 6)})
    tokens, positions = check.draw.integers(0, 13, 40, 40), check.draw.integers(0, 40, 40, 40)
    check(ends.embed, tokens).equals(torch.full((40, 40, 6), 2.0))
    check.run("train()", ends.train)
    for options in ({}, {"positions": positions}):
        answer = check(ends.embed, tokens, **options).has(shape=(40, 40, 6))
        # Three operations on numbers below 4, each rounded by up to 6e-8 of them: 1e-6 at most.
        kept = (answer.value - 2 / (1 - rate)).abs() < 1e-5
        strange = answer.value.detach()[~kept & (answer.value != 0)]
        example = float(strange[0]) if len(strange) else 0.0
        answer.satisfies(
            len(strange) == 0,
            got=f"{len(strange)} of {kept.numel()} entries are others, as {example:.3f}",
            expected=f"each entry 0, or the sum of the two ones divided by 1 - embedding_dropout: {2 / (1 - rate):.3f}",
        )
        # Independent draws: the share of those kept has a standard deviation of sqrt(p (1 - p) / n); 6.5 of them.
        share, bound = float(kept.float().mean()), 6.5 * math.sqrt(rate * (1 - rate) / kept.numel())
        answer.satisfies(
            abs(share - (1 - rate)) < bound, got=f"{share:.3f} are kept", expected=f"{1 - rate}, up to {bound:.3f}"
        )


def test_logits_by_hand(check: Check) -> None:
    """(1, 3) is normalised to (-1, 1), weighed to (-1, 2), shifted to (0, 2), and compared with three tokens."""
    ends, weights = _loaded(check, vocab_size=3, embed_dim=2, num_heads=1)
    new = {"wte.weight": torch.tensor([[5.0, 1.0], [-4.0, 0.5], [0.0, -3.0]])}
    new |= {"ln_f.weight": torch.tensor([1.0, 2.0]), "ln_f.bias": torch.tensor([1.0, 0.0])}
    check.load(ends, {**weights, **new})
    # The epsilon of 1e-5 beside the variance of 1 makes the normalised numbers less by 5e-6 of them: a logit moves by up
    # to 3e-5. Rounding, 6e-8 in each of some ten operations on numbers up to 10, is less.
    check(ends.logits, torch.tensor([1.0, 3.0])).equals(torch.tensor([2.0, 1.0, -6.0]), rtol=0.0, atol=5e-5)


def _logits(weights: dict[str, Tensor], hidden: Tensor, eps: float) -> Tensor:
    normal = F.layer_norm(hidden, hidden.shape[-1:], weights["ln_f.weight"], weights["ln_f.bias"], eps)
    return torch.einsum("...c,vc->...v", normal, weights["wte.weight"])


def test_logits(check: Check) -> None:
    """As torch's layer norm and a product with each token's embedding, with any axes before, and their gradients."""
    ends, weights = _loaded(check)
    for hidden in (check.draw.strided(2, 5, 6), check.draw.normal(6), check.draw.normal(1, 1, 6, scale=1e-3)):
        check(ends.logits, hidden).equals(_logits(weights, hidden, 1e-5))
    ends, weights = _loaded(check, torch.float64, eps=0.3)
    twins = {name: weight.requires_grad_() for name, weight in weights.items() if name != "wpe.weight"}
    hidden = check.draw.normal(2, 3, 6, dtype=torch.float64, requires_grad=True)
    expected = _logits(twins, hidden, 0.3)
    parameters = {name: entry for name, entry in ends.named_parameters() if name in twins}
    answer = check(ends.logits, hidden).equals(expected.detach(), note="the epsilon of the norm is the config's, 0.3")
    answer.gradients_equal(expected, parameters, twins=twins, hidden=hidden)
    check.raises(ValueError, ends.logits, torch.zeros(2, 5, dtype=torch.float64), naming=("6", "(2, 5)"))


def test_head_is_tied(check: Check) -> None:
    """The head's weight is the embedding's own: after a change of dtype, after loading, and in the gradient."""
    ends, weights = _loaded(check, torch.float64)
    saved = check.run("state_dict()", ends.state_dict).value
    table = check.draw.normal(13, 6, dtype=torch.float64)
    check.run(
        "load_state_dict(...)", lambda: ends.load_state_dict({**saved, "wte.weight": table, "lm_head.weight": table})
    )
    same = check.run("lm_head.weight is wte.weight", lambda: ends.lm_head.weight is ends.wte.weight)
    same.equals(True)
    # What goes in is what is compared with, so both uses add to one gradient.
    tokens = check.draw.integers(0, 13, 2, 4)
    twins = {"wte.weight": table.clone().requires_grad_()}
    expected = _logits(
        {**weights, **twins}, _vectors({**weights, **twins}, tokens, torch.arange(4).expand(2, -1)), 1e-5
    )
    answer = check.run("logits(embed(tokens))", lambda: ends.logits(ends.embed(tokens))).equals(expected.detach())
    answer.gradients_equal(expected, {"wte.weight": ends.wte.weight}, twins=twins)


def _is_normal(check: Check, call: str, weight: Tensor, std: float) -> None:
    """Whether n numbers are normal; the bounds are six standard deviations of what is measured.

    With the deviation divided out, the mean of n has a standard deviation of 1 / sqrt(n), their mean square one of
    sqrt(2 / n), and the share within one deviation (0.683) one of sqrt(0.683 * 0.317 / n).
    """
    unit, n = weight.detach().double().flatten() / std, weight.numel()
    mean, square, share = (float(value.mean()) for value in (unit, unit.square(), (unit.abs() < 1).double()))
    right = abs(mean) < 6 / math.sqrt(n) and abs(square - 1) < 6 * math.sqrt(2 / n)
    right = right and abs(share - 0.6827) < 6 * math.sqrt(0.683 * 0.317 / n)
    got = f"mean {mean * std:.4f}, standard deviation {math.sqrt(square) * std:.4f}"
    expected = f"normal numbers of mean 0 and standard deviation {std:.4f}"
    # The spread in steps of a third or so is the proof: how the numbers fall does not matter, how wide they are does.
    proof = [call, round(2 * math.log2(math.sqrt(square)), 0) if square > 0 else "zeros"]
    check.that(right, call=call, got=got, expected=expected, proof=proof)


def test_initial_weights(check: Check) -> None:
    """Embeddings begin with a deviation of 0.02, the norm as 1 and 0; a generator's seed decides all."""
    sizes = {"vocab_size": 200, "context_length": 150, "embed_dim": 64, "num_heads": 4}
    ends = _built(check, **sizes)
    for name in ("wte.weight", "wpe.weight"):
        where = f"{name} of a new InputOutput"
        _is_normal(check, where, check.run(where, partial(ends.get_parameter, name)).value, 0.02)
    for name, expected in (("ln_f.weight", torch.ones(64)), ("ln_f.bias", torch.zeros(64))):
        check.run(f"{name} of a new InputOutput", partial(ends.get_parameter, name)).equals(expected)
    config, seed = check.build(GPT2Config, **SIZES), check.draw.seed()

    def drawn(number: int) -> Tensor:
        twin: Any = InputOutput(config, generator=torch.Generator().manual_seed(number))
        return torch.cat([twin.wte.weight, twin.wpe.weight]).detach()

    first = check.run("the weights of InputOutput(config, generator=generator)", lambda: drawn(seed))
    check.run("the same from a generator of the same seed", lambda: drawn(seed)).equals(first.value)
    other = check.run("the same from a generator of another seed", lambda: drawn(seed + 1))
    other.satisfies(not torch.equal(other.value, first.value), got="the same weights", expected="others")


def _stack() -> nn.ModuleDict:
    """Layers with GPT-2's names and some that are nearly these, filled with 7."""
    block = {"c_attn": nn.Linear(50, 90), "c_proj": nn.Linear(50, 90), "ln_1": nn.LayerNorm(50)}
    stack = nn.ModuleDict({"attn": nn.ModuleDict(block), "c_proj": nn.Linear(60, 70, bias=False)})
    stack["c_projection"] = nn.Linear(50, 60)
    stack["heads"] = nn.MultiheadAttention(40, 2)  # its biases are in_proj_bias and out_proj.bias
    stack.register_parameter("table", nn.Parameter(torch.empty(80, 40)))  # a name of one part
    with torch.no_grad():
        for entry in stack.parameters():
            entry.fill_(7.0)
    return stack


def _initialized(check: Check, layers: int, seed: int) -> dict[str, Tensor]:
    """The parameters of a stack that the learner's code was let loose on; ends the check where that fails."""
    stack, generator = _stack(), torch.Generator().manual_seed(seed)
    _ = check.run(f"initialize(module, {layers})", partial(initialize, stack, layers, generator=generator)).value
    return {name: entry.detach() for name, entry in stack.named_parameters()}


def test_initialize(check: Check) -> None:
    """Matrices 0.02, those of a c_proj divided by sqrt(2 L); biases 0, norms 1; drawn from the generator."""
    for layers in (1, check.draw.integer(3, 40)):
        seed = check.draw.seed()
        entries, twins = _initialized(check, layers, seed), _initialized(check, layers, seed)
        for name, entry in entries.items():
            where = f"{name} after initialize(module, {layers})"
            if entry.dim() == 1:
                expected = torch.zeros_like(entry) if name.endswith("bias") else torch.ones_like(entry)
                check.run(where, partial(Tensor.clone, entry)).equals(expected)
            else:
                _is_normal(check, where, entry, 0.02 / math.sqrt(2 * layers) if "c_proj." in name else 0.02)
            same = check.run(f"{name} from a generator of the same seed", partial(Tensor.clone, twins[name]))
            same.equals(entry)
    check.raises(ValueError, initialize, _stack(), 0, naming=("num_layers", "0"))


def test_initial_loss(check: Check) -> None:
    """A new model knows nothing: the loss of random texts is ln(vocab_size), nearly."""
    ends = _built(check, vocab_size=500, context_length=50, embed_dim=64, num_heads=4)
    check.run("eval()", ends.eval)
    tokens = check.draw.integers(0, 500, 40, 50)
    answer = check.run(
        "language_model_loss(logits(embed(tokens)), next_tokens(tokens))",
        lambda: language_model_loss(ends.logits(ends.embed(tokens)), next_tokens(tokens)),
    )
    # A logit is a sum of 64 products of a normalised number and one of deviation 0.02: its deviation is 0.16, its
    # variance 0.026. That raises the loss by half the variance; each token's own logit, of about 0.9, by another 0.003.
    # The mean over 1960 targets strays by 0.16 / sqrt(1960) = 0.004. All of it is within 0.05.
    answer.equals(torch.tensor(math.log(500)), rtol=0.0, atol=0.05, note="ln 500: each of 500 tokens is as likely")


def _targets(tokens: Tensor, mask: Tensor) -> Tensor:
    """Pair by pair."""
    targets = torch.full_like(tokens, -100)
    for row in range(tokens.shape[0]):
        for place in range(tokens.shape[1] - 1):
            if mask[row, place] and mask[row, place + 1]:
                targets[row, place] = tokens[row, place + 1]
    return targets


def test_targets_by_hand(check: Check) -> None:
    """5, 6, 7: after 5 comes 6, after 6 comes 7, and after 7 nothing that is known."""
    tokens = torch.tensor([[5, 6, 7]])
    check(next_tokens, tokens).equals(torch.tensor([[6, 7, -100]]))
    check(next_tokens, tokens, torch.tensor([[True, True, False]])).equals(
        torch.tensor([[6, -100, -100]]), note="the last token is padding: nobody's target, and without one"
    )
    check(next_tokens, tokens, torch.tensor([[False, True, True]])).equals(
        torch.tensor([[-100, 7, -100]]), note="the first token is padding, and has no target"
    )
    check.that(IGNORED == -100, call="IGNORED", got=str(IGNORED), expected="-100")


def test_targets_with_padding(check: Check) -> None:
    """Pair by pair: padding on the left, on the right, in the middle; of one token; in int32."""
    length = check.draw.size(4, 9)
    tokens = check.draw.integers(0, 50, length, 5).T  # not contiguous
    lengths = torch.tensor([0, 1, 2, length - 1, length])[check.draw.permutation(5), None]
    everywhere = torch.ones(5, length, dtype=torch.bool)
    check(next_tokens, tokens).equals(_targets(tokens, everywhere))
    places = torch.arange(length)
    for mask in (places < lengths, places >= lengths, check.draw.booleans(5, length), everywhere, ~everywhere):
        check(next_tokens, tokens, mask).equals(_targets(tokens, mask))
    check(next_tokens, tokens[:1, :1]).equals(torch.tensor([[-100]]))
    check(next_tokens, tokens.int(), everywhere).equals(_targets(tokens, everywhere).int())


def test_targets_refuse(check: Check) -> None:
    """Tokens of one axis or that cannot hold -100, and a mask that does not fit, are refused by shape or dtype."""
    check.raises(ValueError, next_tokens, torch.tensor([1, 2]), naming="(2,)")
    check.raises(ValueError, next_tokens, torch.ones(1, 2, 3, dtype=torch.int64), naming="(1, 2, 3)")
    for dtype, name in ((torch.uint8, "uint8"), (torch.int16, "int16"), (torch.float64, "float64")):
        check.raises(TypeError, next_tokens, torch.ones(2, 3, dtype=dtype), naming=name)
    tokens = torch.tensor([[1, 2, 3], [4, 5, 6]])
    for shape in ((2, 2), (1, 3), (3,)):  # some would broadcast
        wrong = torch.ones(shape, dtype=torch.bool)
        check.raises(ValueError, next_tokens, tokens, wrong, naming=(str(shape), "(2, 3)"))
    check.raises(TypeError, next_tokens, tokens, torch.ones(2, 3), naming="float32")
    check.raises(TypeError, next_tokens, tokens, tokens, naming="int64")


def test_loss_by_hand(check: Check) -> None:
    """Probabilities 1/2, 1/4 and 1/8 of the right tokens, one text of two and one of one: (1 + 2 + 3) / 3 = 2 bits."""
    logits = torch.tensor([[[1.0, 1.0, 0.0], [1.0, 3.0, 0.0]], [[1.0, 7.0, 0.0], [9.0, 9.0, 9.0]]]).log()
    targets = torch.tensor([[0, 0], [0, -100]])
    check(language_model_loss, logits.clamp_min(-1e4), targets).equals(
        torch.tensor(2 * math.log(2)), note="1 + 2 + 3 bits over the three targets that count, in nats"
    )


def test_loss(check: Check) -> None:
    """As torch's cross-entropy over the targets that count, with its gradient; 0 where none does."""
    logits = check.draw.normal(3, 5, 7, dtype=torch.float64, scale=3.0, requires_grad=True)
    targets = check.draw.integers(0, 7, 3, 5).masked_fill(torch.arange(5) > torch.tensor([[4], [0], [2]]), -100)
    expected = F.cross_entropy(logits.mT, targets, ignore_index=-100)
    check(language_model_loss, logits, targets).equals(expected.detach()).gradients_equal(expected, logits=logits)
    large = check.draw.normal(1, 2, 7, scale=1e4)
    check(language_model_loss, large, targets[:1, :2]).equals(F.cross_entropy(large.mT, targets[:1, :2]))
    nothing = torch.full((2, 3), -100)
    check(language_model_loss, torch.zeros(2, 3, 7), nothing).equals(torch.tensor(0.0), note="no target counts")
    check.raises(ValueError, language_model_loss, torch.zeros(2, 3, 7), nothing[:, :2], naming=("(2, 3, 7)", "(2, 2)"))
