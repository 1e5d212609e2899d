"""Grades gpt2/model.

The oracle is GPT2LMHeadModel of transformers with the same weights: logits, loss, the gradient of every parameter,
caches and padding. Where a model differs, the first of its parts that does is named.
"""

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from checkpoints.checks import Check, Draw, Workload
from checkpoints.misconceptions import Misconception
from exercises.block.configurations import TransformerBlock
from exercises.gpt2.configuration import GPT2Config
from exercises.gpt2.input_output import InputOutput, language_model_loss, next_tokens
from exercises.gpt2.model import GPT2

MISCONCEPTIONS = [
    Misconception(
        "one block, run L times: all layers share their weights",
        (
            "nn.ModuleList(TransformerBlock(config.block) for _ in range(config.num_layers))",
            "nn.ModuleList([TransformerBlock(config.block)] * config.num_layers)",
        ),
    ),
    Misconception(
        "blocks in a plain list, where no optimizer and no state_dict finds them",
        (
            "nn.ModuleList(TransformerBlock(config.block) for _ in range(config.num_layers))",
            "[TransformerBlock(config.block) for _ in range(config.num_layers)]",
        ),
        (
            "initialize(self.h, config.num_layers, generator=generator)",
            "initialize(nn.ModuleList(self.h), config.num_layers, generator=generator)",
        ),
    ),
    Misconception("one block too few", ("in range(config.num_layers))", "in range(config.num_layers - 1))")),
    Misconception(
        "blocks that begin as the layers were made, not as GPT-2's",
        ("initialize(self.h, config.num_layers, generator=generator)", "pass"),
    ),
    Misconception(
        "each block initialised as if it were the only one: c_proj without regard to the depth",
        ("initialize(self.h, config.num_layers,", "initialize(self.h, 1,"),
    ),
    Misconception(
        "blocks that are not drawn from the generator",
        ("initialize(self.h, config.num_layers, generator=generator)", "initialize(self.h, config.num_layers)"),
    ),
    Misconception(
        "the final norm before the blocks, not behind them",
        (
            "x = self.embed(tokens, past=past, positions=positions)",
            "x = self.ln_f(self.embed(tokens, past=past, positions=positions))",
        ),
        ("return self.logits(self.hidden(", "return self.lm_head(self.hidden("),
    ),
    Misconception(
        "the final norm twice: logits has it already", ("        return x\n", "        return self.ln_f(x)\n")
    ),
    Misconception(
        "logits without the final norm", ("return self.logits(self.hidden(", "return self.lm_head(self.hidden(")
    ),
    Misconception(
        "every block reads the embeddings, not what the block before it made",
        (
            "x = self.embed(tokens, past=past, positions=positions)",
            "x = first = self.embed(tokens, past=past, positions=positions)",
        ),
        ("x = block(x, mask,", "x = block(first, mask,"),
    ),
    Misconception(
        "one more residual connection around each block, which has its own",
        ("x = block(x, mask,", "x = x + block(x, mask,"),
    ),
    Misconception("the blocks in reverse order", ("enumerate(self.h)", "reversed(list(enumerate(self.h)))")),
    Misconception(
        "the final norm behind every block, not behind the last",
        ("x = block(x, mask,", "x = self.ln_f(block(x, mask,"),
        ("else caches[layer])", "else caches[layer]))"),
        ("return self.logits(self.hidden(", "return self.lm_head(self.hidden("),
    ),
    Misconception(
        "a mask of queries, not of keys: padding is seen, and sees nothing",
        ("mask = mask[:, None, None, :]", "mask = mask[:, None, past:, None]"),
    ),
    Misconception("a mask that the blocks do not get: padding is seen", ("block(x, mask,", "block(x, None,")),
    Misconception("a mask that only the first block gets", ("block(x, mask,", "block(x, None if layer else mask,")),
    Misconception(
        "positions that count the padding",
        ("positions = (mask.cumsum(dim=-1) - 1).clamp_min(0)[:, past:]", "pass"),
    ),
    Misconception(
        "positions off by one where there is padding: the first real token is at 1",
        ("(mask.cumsum(dim=-1) - 1).clamp_min(0)", "mask.cumsum(dim=-1)"),
    ),
    Misconception(
        "the positions of the first tokens, not of the new ones",
        (".clamp_min(0)[:, past:]", ".clamp_min(0)[:, : tokens.shape[1]]"),
    ),
    Misconception(
        "positions that begin at 0 with each call, whatever the caches keep",
        ("self.embed(tokens, past=past,", "self.embed(tokens, past=0,"),
    ),
    Misconception(
        "positions of a cache off by one",
        ("self.embed(tokens, past=past,", "self.embed(tokens, past=max(past - 1, 0),"),
    ),
    Misconception(
        "caches that no block gets",
        ("x = block(x, mask, cache=None if caches is None else caches[layer])", "x = block(x, mask)"),
    ),
    Misconception("the first block's cache for all of them", ("else caches[layer])", "else caches[0])")),
    Misconception(
        "one cache, L times in a list",
        (
            """
            return [
                KVCache(batch_size, config.num_heads, capacity, head_dim, dtype=weight.dtype, device=weight.device)
                for _ in self.h
            ]
            """,
            "return [KVCache(batch_size, config.num_heads, capacity, head_dim, dtype=weight.dtype)] * len(self.h)",
        ),
    ),
    Misconception(
        "caches of float32 whatever the weights are", ("head_dim, dtype=weight.dtype, device", "head_dim, device")
    ),
    Misconception(
        "caches that always have room for context_length tokens",
        ("config.context_length if capacity is None else capacity", "config.context_length"),
    ),
    Misconception(
        "logits of the last position only",
        ("self.hidden(tokens, mask, caches=caches))", "self.hidden(tokens, mask, caches=caches)[:, -1:])"),
    ),
    Misconception(
        "dropout in evaluation too",
        (
            "x = self.embed(tokens, past=past, positions=positions)",
            "x = nn.functional.dropout(self.embed(tokens, past=past, positions=positions), 0.1)",
        ),
    ),
    Misconception(
        "more caches than blocks are taken, and the rest forgotten", ("if len(caches) != len(self.h):", "if False:")
    ),
    Misconception("caches of unequal length are taken for equal", ("if len(lengths) > 1:", "if False:")),
]

_LAYERS = 3
_LENGTH = 16


def workload(task: Any, draw: Draw) -> list[Workload]:
    """Typical calls, for `compare`."""
    config = GPT2Config(vocab_size=512, context_length=128, embed_dim=128, num_layers=4, num_heads=4)
    model: Any = draw.fill(task.GPT2(config), scale=0.1).eval()
    tokens = draw.integers(0, 512, 4, 128)
    mask = torch.arange(128) >= draw.integers(0, 64, 4, 1)
    return [
        Workload("model(tokens)", model, (tokens,)),
        Workload("model(tokens, mask)", model, (tokens, mask)),
        Workload("model.make_caches(8)", lambda: len(model.make_caches(8))),
    ]


class _Twin(nn.Module):
    """The GPT-2 of transformers, called as ours."""

    def __init__(self, vocab_size: int, width: int, heads: int) -> None:
        super().__init__()
        from transformers.models.gpt2.configuration_gpt2 import GPT2Config as Config
        from transformers.models.gpt2.modeling_gpt2 import GPT2LMHeadModel

        make: Any = Config  # its annotations do not know every argument
        sizes = {"vocab_size": vocab_size, "n_positions": _LENGTH, "n_embd": width, "n_layer": _LAYERS, "n_head": heads}
        config = make(**sizes, bos_token_id=None, eos_token_id=None, attn_implementation="eager")
        own = set(vars(nn.Module))
        self.gpt2 = GPT2LMHeadModel(config).eval()
        for name in set(vars(nn.Module)) - own:  # a helper that the library leaves behind: torch stays as it is
            delattr(nn.Module, name)

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """As `GPT2`."""
        options: dict[str, Tensor] = {}
        if mask is not None:
            options = {"attention_mask": mask.long(), "position_ids": (mask.cumsum(dim=-1) - 1).clamp_min(0)}
        logits: Tensor = self.gpt2(tokens, use_cache=False, **options).logits
        return logits


_PARTS = {f"gpt2.transformer.{name}": name for name in ("wte", "ln_f")} | {"gpt2.lm_head": "lm_head"}
for _layer in range(_LAYERS):
    for _name in ("", ".ln_1", ".attn", ".ln_2", ".mlp"):
        _PARTS[f"gpt2.transformer.h.{_layer}{_name}"] = f"h.{_layer}{_name}"


def _build(check: Check, **changes: Any) -> Any:
    sizes = {"vocab_size": 13, "context_length": _LENGTH, "embed_dim": 8, "num_layers": _LAYERS, "num_heads": 2}
    return check.build(GPT2, check.build(GPT2Config, **{**sizes, **changes}))


def _in_our_layout(name: str, entry: Tensor) -> Tensor:
    """GPT-2's Conv1D multiplies from the other side: its weights are the transposes of a linear layer's."""
    return entry.detach().T.clone() if _is_transposed(name) else entry.detach().clone()


def _is_transposed(name: str) -> bool:
    return ".c_" in name and name.endswith("weight")


def _with_twin(check: Check, **changes: Any) -> tuple[Any, _Twin, dict[str, Tensor]]:
    """The learner's model in evaluation mode, that of transformers with the same weights, and these in our layout."""
    vocab_size, heads = check.draw.integer(11, 20), check.draw.integer(1, 4)
    width = heads * (6 // heads + check.draw.integer(0, 3))  # of 2 numbers, a norm would leave nothing but their order
    model = _build(check, **{"vocab_size": vocab_size, "embed_dim": width, "num_heads": heads, **changes})
    twin = _Twin(vocab_size, width, heads)
    check.draw.fill(twin, scale=0.4)
    weights = {
        name.removeprefix("gpt2.transformer."): _in_our_layout(name, entry)
        for name, entry in twin.named_parameters()
        if "lm_head" not in name
    }
    check.run("eval()", model.eval)
    check.load(model, weights)
    return model, twin, weights


def _texts(check: Check, model: Any, rows: int, length: int) -> Tensor:
    return check.draw.integers(0, model.config.vocab_size, rows, length)


def test_sizes_that_were_published(check: Check) -> None:
    """The four published models have 124,439,808, 354,823,168, 774,030,080 and 1,557,611,200 parameters."""
    counts = {
        (768, 12, 12): 124439808,
        (1024, 24, 16): 354823168,
        (1280, 36, 20): 774030080,
        (1600, 48, 25): 1557611200,
    }
    for (width, layers, heads), expected in counts.items():
        config = check.build(GPT2Config, embed_dim=width, num_layers=layers, num_heads=heads)
        with torch.device("meta"):
            model = check.build(GPT2, config)
        call = f"the parameters of GPT2(embed_dim={width}, num_layers={layers}, num_heads={heads})"
        count = check.run(call, lambda: sum(entry.numel() for entry in model.parameters()))  # noqa: B023
        count.equals(expected, note=f"{layers} blocks with weights of their own between both ends")


def test_names_that_were_published(check: Check) -> None:
    """The state_dict has the names of transformers' GPT2LMHeadModel but for its prefix, and the same shapes."""
    model, twin = _build(check), _Twin(13, 8, 2)
    answer = check.run("GPT2(config).state_dict()", lambda: dict(model.state_dict()))
    theirs = {name.removeprefix("transformer."): entry for name, entry in twin.gpt2.state_dict().items()}
    less, more = sorted(theirs.keys() - answer.value.keys()), sorted(answer.value.keys() - theirs.keys())
    parts = [f"{len(less)} names less, such as {less[0]}"] if less else []
    parts += [f"{len(more)} names more, such as {more[0]}"] if more else []
    answer.satisfies(not parts, got=" and ".join(parts), expected=f"{len(theirs)} names, as in transformers")
    shapes = {name: tuple(entry.shape) for name, entry in answer.value.items()}
    for name, entry in theirs.items():
        wanted = tuple(_in_our_layout(name, entry).shape)
        answer.satisfies(
            shapes.get(name, wanted) == wanted, got=f"{name} of shape {shapes.get(name)}", expected=f"shape {wanted}"
        )


def test_its_parts_are_the_pieces_built_before(check: Check) -> None:
    """The model is an InputOutput with L different TransformerBlocks of the configuration."""
    model = _build(check)
    answer = check.run("isinstance(GPT2(config), InputOutput)", lambda: isinstance(model, InputOutput)).equals(True)
    blocks = check.run("GPT2(config).h", lambda: list(model.h)).value
    answer.satisfies(
        len(set(map(id, blocks))) == _LAYERS and all(isinstance(block, TransformerBlock) for block in blocks),
        got=f"{len(set(map(id, blocks)))} different blocks in h, {', '.join(sorted({type(block).__name__ for block in blocks}))}",
        expected=f"{_LAYERS} different TransformerBlocks of block/configurations",
    )
    others = [index for index, block in enumerate(blocks) if block.config != model.config.block]
    answer.satisfies(
        not others, got=f"another configuration in the blocks {others}", expected="config.block for each of them"
    )


def test_by_hand(check: Check) -> None:
    """Embeddings (1, 1), blocks that add (0, 1) and (0, 1) and (1, 0): hidden (2, 3), normalised (-1, 1)."""
    model = _build(check, vocab_size=3, embed_dim=2, num_heads=1)
    check.run("eval()", model.eval)
    weights = {name: torch.zeros_like(entry) for name, entry in model.named_parameters()}
    weights |= {"wte.weight": torch.tensor([[0.0, 0.0], [1.0, 0.0], [3.0, 5.0]])}
    weights["wpe.weight"] = torch.tensor([[0.0, 1.0]] * _LENGTH)
    weights |= {"h.0.mlp.c_proj.bias": torch.tensor([0.0, 1.0]), "h.1.attn.c_proj.bias": torch.tensor([0.0, 1.0])}
    weights |= {"h.2.mlp.c_proj.bias": torch.tensor([1.0, 0.0]), "ln_f.weight": torch.ones(2)}
    check.load(model, weights)
    check(model.hidden, torch.tensor([[1]])).equals(
        torch.tensor([[[2.0, 3.0]]]), note="(1, 0) of wte, (0, 1) of wpe, and the biases of c_proj in each block"
    )
    # The variance is 1/4, beside which the epsilon of 1e-5 moves the norm by up to 2e-5, and a logit by up to 2e-4.
    # Rounding, 6e-8 in each of a few dozen operations on numbers up to 5, is less.
    check(model, torch.tensor([[1]])).equals(
        torch.tensor([[[0.0, -1.0, 2.0]]]), rtol=0.0, atol=2e-4, note="the norm makes (-1, 1) of (2, 3)"
    )


def test_gpt2(check: Check) -> None:
    """With the same weights, the same logits as the GPT-2 of transformers: of one token, of any number, of the most."""
    model, twin, _ = _with_twin(check)
    for rows, length in ((3, check.draw.size()), (1, 1), (2, _LENGTH)):
        check.beside(model, twin, _texts(check, model, length, rows).T, parts=_PARTS)
        if check.verdicts:  # has been said, and where to look: more of the same would hide it
            return
    tokens = _texts(check, model, 2, 5)
    with torch.no_grad():
        expected = twin(tokens)
    check(model, tokens.int()).equals(expected, note="tokens of int32")


def test_hidden(check: Check) -> None:
    """`hidden` is what comes out of the last block, before the final norm."""
    model, twin, _ = _with_twin(check)
    passed: list[Tensor] = []
    with twin.gpt2.transformer.ln_f.register_forward_pre_hook(lambda _, args: passed.append(args[0].detach())):
        tokens = _texts(check, model, 2, 6)
        twin(tokens)
    check(model.hidden, tokens).equals(passed[0])


def test_gradients_of_gpt2(check: Check) -> None:
    """The gradient of every parameter is that of the GPT-2 of transformers, in float64."""
    model, twin, weights = _with_twin(check)
    check.run("double()", model.double)
    tokens = _texts(check, model, 2, 7)
    # The oracle is differentiated by weights in our layout, which it gets transposed; its head is tied by itself.
    leaves = {name: entry.double().requires_grad_() for name, entry in weights.items()}
    theirs = {f"gpt2.transformer.{name}": leaf.T if _is_transposed(name) else leaf for name, leaf in leaves.items()}
    expected = torch.func.functional_call(twin.double(), theirs, (tokens,))
    answer = check(model, tokens).equals(expected.detach())
    if not check.verdicts:  # else no gradient can be right
        answer.gradients_equal(expected, dict(model.named_parameters()), twins=leaves)


def test_causality(check: Check) -> None:
    """What comes later changes nothing: another token at place t changes the logits from t on, and none before."""
    model, _, _ = _with_twin(check)
    tokens = _texts(check, model, 2, 9)
    place = check.draw.integer(2, 8)
    others = tokens.clone()
    others[:, place] = (tokens[:, place] + 1) % model.config.vocab_size
    before, after = check(model, tokens).value.detach(), check(model, others).value.detach()
    call = f"model(tokens) with another token at place {place}"
    check.run(f"{call}, before it", lambda: after[:, :place]).equals(before[:, :place], note="as with the first token")
    same = (before == after).all(dim=-1).any(dim=0).nonzero().flatten().tolist()
    same = [index for index in same if index >= place]
    check.that(
        not same,
        call=f"{call}, from there on",
        got=f"the same logits as with the first token at the places {same}",
        expected="other logits at each place that sees it",
    )


def test_caches(check: Check) -> None:
    """Piece by piece with caches, the logits of the whole; in float64 too."""
    model, twin, _ = _with_twin(check)
    for dtype in (torch.float32, torch.float64):
        check.run("to(dtype)", partial(model.to, dtype))
        tokens = _texts(check, model, 3, 10)
        with torch.no_grad():
            whole = twin.to(dtype)(tokens)
        caches = check.run("model.make_caches(3)", lambda: model.make_caches(3)).value
        for start, end in ((0, 4), (4, 5), (5, 8), (8, 10)):
            answer = check.mutating(model, tokens[:, start:end], caches=caches)
            answer.equals(whole[:, start:end], note=f"tokens {start} to {end - 1}, the ones before in the caches")
            lengths = [cache.length for cache in caches]
            answer.satisfies(lengths == [end] * _LAYERS, got=f"caches of {lengths}", expected=f"each of {end} tokens")
            if check.verdicts:  # what follows would be wrong for the same reason
                return


def test_made_caches(check: Check) -> None:
    """There is a cache for each block, empty, with room for context_length tokens or for as many as asked."""
    model = _build(check)
    for options, capacity in (({}, _LENGTH), ({"capacity": 5}, 5)):
        caches = check(model.make_caches, 2, **options)
        sizes = [(cache.length, cache.capacity) for cache in caches.value]
        caches.satisfies(
            len(set(map(id, caches.value))) == _LAYERS and sizes == [(0, capacity)] * _LAYERS,
            got=f"{len(set(map(id, caches.value)))} different caches, with (length, capacity) {sizes}",
            expected=f"{_LAYERS} different caches, each with length 0 and capacity {capacity}",
        )
    check.raises(ValueError, model.make_caches, 0, naming=("batch_size", "0"))
    check.raises(ValueError, model.make_caches, 1, 0, naming=("capacity", "0"))
    caches = check.run("model.make_caches(2, 5)", lambda: model.make_caches(2, 5)).value
    check.raises(ValueError, model, check.draw.integers(0, 13, 2, 6), caches=caches, naming=("6", "5"))
    check.raises(ValueError, model, check.draw.integers(0, 13, 3, 2), caches=caches, naming=("2", "3"))
    lengths = check.run("the caches after calls that were refused", lambda: [cache.length for cache in caches])
    lengths.equals([0] * _LAYERS, note="as they were")


def test_padding(check: Check) -> None:
    """Texts that are padded, on either side, get the logits that they get alone, whatever the padding is."""
    model, twin, _ = _with_twin(check)
    length, lengths = 9, [9, 1, 4, 6]
    texts = [_texts(check, model, 1, size) for size in lengths]
    for left in (True, False):
        tokens, mask = _texts(check, model, len(texts), length), torch.zeros(len(texts), length, dtype=torch.bool)
        places = [slice(length - size, None) if left else slice(0, size) for size in lengths]
        for row, place in enumerate(places):
            tokens[row, place], mask[row, place] = texts[row][0], True
        answer = check(model, tokens, mask).has(shape=(len(texts), length, model.config.vocab_size))
        with torch.no_grad():
            expected = [twin(text)[0] for text in texts]
        # At padding the numbers mean nothing; those of the oracle are filled in there.
        right = answer.value.detach().clone()
        for row, place in enumerate(places):
            right[row, place] = expected[row]
        answer.equals(right, note=f"each text as it is alone, padded on the {'left' if left else 'right'}")
        answer.satisfies(answer.value.isfinite().all(), got="numbers at padding that are not finite", expected="finite")
    empty = check(model, tokens, mask & (torch.arange(len(texts))[:, None] != 1))
    strange = int((~empty.value.isfinite()).sum())
    empty.satisfies(
        strange == 0, got=f"{strange} numbers that are not finite", expected="finite ones, if a row is all padding"
    )


def test_loss_of_gpt2(check: Check) -> None:
    """With next_tokens and language_model_loss, the loss that transformers gives, padding included."""
    model, twin, _ = _with_twin(check)
    tokens = _texts(check, model, 3, 8)
    mask = torch.arange(8) < torch.tensor([[8], [3], [6]])
    with torch.no_grad():
        labels = tokens.masked_fill(~mask, -100)
        expected = twin.gpt2(tokens, attention_mask=mask.long(), labels=labels, use_cache=False).loss
    answer = check.run(
        "language_model_loss(model(tokens, mask), next_tokens(tokens, mask))",
        lambda: language_model_loss(model(tokens, mask), next_tokens(tokens, mask)),
    )
    answer.equals(expected, note="the mean over the targets that are no padding")


def test_padding_with_caches(check: Check) -> None:
    """Prompts that are padded on the left go on token by token as each would alone; real tokens are counted."""
    model, twin, _ = _with_twin(check)
    lengths, steps = [2, 5, 4], 4
    texts = [_texts(check, model, 1, size + steps) for size in lengths]
    width = max(lengths) + steps
    tokens, mask = torch.zeros(3, width, dtype=torch.int64), torch.zeros(3, width, dtype=torch.bool)
    for row, text in enumerate(texts):
        tokens[row, width - text.shape[1] :], mask[row, width - text.shape[1] :] = text[0], True
    with torch.no_grad():
        expected = [twin(text)[0] for text in texts]
    caches = check.run("model.make_caches(3)", lambda: model.make_caches(3)).value
    for start, end in ((0, max(lengths)), *((place, place + 1) for place in range(max(lengths), width))):
        answer = check.mutating(model, tokens[:, start:end], mask[:, :end], caches=caches)
        wanted = torch.stack([text[end - width - 1] for text in expected])
        last = check.run(f"{answer.call}[:, -1]", lambda: answer.value[:, -1])  # noqa: B023
        last.equals(wanted, note="each text as it is alone")
        if check.verdicts:
            return


def test_long_texts(check: Check) -> None:
    """What counts is the number of real tokens: padding beyond context_length is no reason to refuse a text."""
    model, twin, _ = _with_twin(check)
    text, padding = _texts(check, model, 1, _LENGTH), torch.zeros(1, 4, dtype=torch.int64)
    with torch.no_grad():
        expected = twin(text)
    tokens, mask = torch.cat([text, padding], dim=1), torch.arange(_LENGTH + 4)[None] < _LENGTH
    padded = check.run("model(padded tokens, mask)[:, :-4]", lambda: model(tokens, mask)[:, :-4])
    padded.equals(expected, note="context_length real tokens, then 4 of padding")
    tokens, mask = torch.cat([padding, text], dim=1), torch.arange(_LENGTH + 4)[None] >= 4
    padded = check.run("model(padded tokens, mask)[:, 4:]", lambda: model(tokens, mask)[:, 4:])
    padded.equals(expected, note="4 tokens of padding, then context_length real ones")
    too_many = torch.arange(_LENGTH + 4)[None] >= 3
    check.raises(ValueError, model, tokens, too_many, naming=str(_LENGTH))
    check.raises(ValueError, model, tokens, naming=(str(_LENGTH + 4), str(_LENGTH)))


def test_dropout(check: Check) -> None:
    """While training, two passes differ, in evaluation they do not; without dropout, training is as evaluation."""
    tokens = check.draw.integers(0, 13, 2, 9)
    model = _build(check, dropout=0.5)
    check.draw.fill(model)
    check.run("train()", model.train)
    first, second = check(model, tokens).value, check(model, tokens)
    second.satisfies(not torch.equal(first, second.value), got="the same logits twice", expected="some entries dropped")
    check.run("eval()", model.eval)
    first = check(model, tokens).value.detach()
    check(model, tokens).equals(first, note="in evaluation nothing is dropped")
    model = _build(check, dropout=0.0, attention_dropout=0.0, embedding_dropout=0.0)
    check.draw.fill(model)
    check.run("eval()", model.eval)
    first = check(model, tokens).value.detach()
    check.run("train()", model.train)
    check(model, tokens).equals(first, note="every rate is 0")


def test_initial_weights(check: Check) -> None:
    """The blocks begin with 0.02, c_proj with 0.02 / sqrt(2 L), biases with 0, norms with 1; from the generator."""
    layers = check.draw.integer(2, 6)
    config = check.build(GPT2Config, vocab_size=13, context_length=4, embed_dim=48, num_layers=layers, num_heads=2)
    seed = check.draw.seed()
    model, twin, other = (
        check.build(GPT2, config, generator=torch.Generator().manual_seed(number)) for number in (seed, seed, seed + 1)
    )
    for name, entry in dict(model.named_parameters()).items():
        call = f"{name} of a new GPT2 of {layers} layers"
        if entry.dim() == 1:
            expected = (
                torch.ones_like(entry) if ".ln_" in f".{name}" and name.endswith("weight") else torch.zeros_like(entry)
            )
            check.run(call, entry.detach).equals(expected, note="a norm's weight is 1, a bias 0")
        elif name.startswith("h."):
            # The mean square of n >= 2304 normal numbers has a relative deviation of sqrt(2 / n) <= 0.03: 8 of them.
            std, square = 0.02 / math.sqrt(2 * layers if "c_proj" in name else 1), float(entry.detach().square().mean())
            wide = math.sqrt(square)
            check.that(
                abs(square / std**2 - 1) < 0.24,
                call=call,
                got=f"a standard deviation of {wide:.4f}",
                expected=f"{std:.4f}",
                proof=[name, round(math.log2(wide / std), 0) if wide else "zeros"],
            )
    same = check.run("from a generator of the same seed", lambda: [entry.detach() for entry in twin.parameters()])
    same.equals([entry.detach() for entry in model.parameters()])
    name = "h.0.mlp.c_fc.weight"
    matrix = check.run(f"{name} from a generator of another seed", lambda: other.get_parameter(name))
    matrix.satisfies(
        not torch.equal(matrix.value, model.get_parameter(name)), got="the same numbers", expected="others"
    )


def test_refuses(check: Check) -> None:
    """Masks and caches that do not fit, and texts that are too long, are refused, and no cache is written to."""
    model = _build(check)
    check.run("eval()", model.eval)
    tokens = check.draw.integers(0, 13, 2, 4)
    check.raises(ValueError, model, tokens[0], naming="(4,)")
    check.raises(IndexError, model, tokens + 13, naming="13")
    for shape in ((2, 3), (1, 4), (4,), (2, 1, 1, 4)):  # some would broadcast
        check.raises(ValueError, model, tokens, torch.ones(shape, dtype=torch.bool), naming=(str(shape), "(2, 4)"))
    for dtype, name in ((torch.float32, "float32"), (torch.int64, "int64")):
        check.raises(TypeError, model, tokens, torch.ones(2, 4, dtype=dtype), naming=name)
    caches = check.run("model.make_caches(2)", lambda: model.make_caches(2)).value
    check.raises(ValueError, model, tokens, caches=caches[:2], naming=("3", "2"))
    check.raises(ValueError, model, tokens, caches=[*caches, *caches[:1]], naming=("3", "4"))
    check.mutating(model, tokens, caches=caches).has(shape=(2, 4, 13))
    check.raises(ValueError, model, check.draw.integers(0, 13, 2, 13), caches=caches, naming=("17", "16"))
    check.raises(
        ValueError, model, tokens, torch.ones(2, 4, dtype=torch.bool), caches=caches, naming=("(2, 4)", "(2, 8)")
    )
    lengths = check.run("the caches after calls that were refused", lambda: [cache.length for cache in caches])
    lengths.equals([4] * _LAYERS, note="as they were")
    caches[1].reset()
    check.raises(ValueError, model, tokens, caches=caches, naming=("0", "4"))
