"""Grades block/encoder_decoder.

The oracles are torch.nn.TransformerEncoderLayer and TransformerDecoderLayer with the same weights; their boolean masks
mean the opposite of ours. Where a block differs, the first of its parts that does is named.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from checkpoints.checks import Check, Draw, Workload
from checkpoints.misconceptions import Misconception
from exercises.block.encoder_decoder import DecoderBlock, EncoderBlock

MISCONCEPTIONS = [
    Misconception(
        "one layer norm used for both sublayers: ln_2 is never called",
        ("return self.residual(x, self.mlp, self.ln_2)", "return self.residual(x, self.mlp, self.ln_1)"),
    ),
    Misconception(
        "a decoder with one layer norm used for two sublayers: ln_3 is never called",
        ("return self.residual(x, self.mlp, self.ln_3)", "return self.residual(x, self.mlp, self.ln_2)"),
    ),
    Misconception(
        "an encoder whose norms always stand before the sublayers, whatever the placement asked for",
        (
            """
            self.residual = Residual(placement, dropout)

        def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
            """,
            """
            self.residual = Residual("pre", dropout)

        def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
            """,
        ),
    ),
    Misconception(
        "an encoder whose norms always stand after the sum, whatever the placement asked for",
        (
            """
            self.residual = Residual(placement, dropout)

        def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
            """,
            """
            self.residual = Residual("post", dropout)

        def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
            """,
        ),
    ),
    Misconception(
        "an encoder without a residual connection around the feed-forward network",
        ("return self.residual(x, self.mlp, self.ln_2)", "return self.mlp(self.ln_2(x))"),
    ),
    Misconception(
        "a causal encoder: it reads, and may look ahead",
        (
            """
            self.attn = MultiHeadAttention(embed_dim, num_heads, dropout=dropout)
            self.ln_2 = LayerNorm(embed_dim, eps)
            self.mlp = FeedForward(embed_dim, hidden_dim, activation=activation)
            """,
            """
            self.attn = MultiHeadAttention(embed_dim, num_heads, dropout=dropout, causal=True)
            self.ln_2 = LayerNorm(embed_dim, eps)
            self.mlp = FeedForward(embed_dim, hidden_dim, activation=activation)
            """,
        ),
    ),
    Misconception(
        "a feed-forward network with GELU in the place of the activation asked for",
        (
            """
            self.mlp = FeedForward(embed_dim, hidden_dim, activation=activation)
            self.residual = Residual(placement, dropout)

        def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
            """,
            """
            self.mlp = FeedForward(embed_dim, hidden_dim)
            self.residual = Residual(placement, dropout)

        def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
            """,
        ),
    ),
    Misconception("a decoder that looks ahead: its self-attention is not causal", (", causal=True", "")),
    Misconception(
        "a decoder that never looks at the memory",
        ("x = self.residual(x, lambda tokens: self.cross_attn(tokens, memory, memory_mask), self.ln_2)", "pass"),
    ),
    Misconception(
        "cross-attention from the tokens to themselves, not to the memory",
        ("self.cross_attn(tokens, memory, memory_mask)", "self.cross_attn(tokens)"),
    ),
    Misconception(
        "a memory that is normalised along with the tokens",
        ("self.cross_attn(tokens, memory, memory_mask)", "self.cross_attn(tokens, self.ln_2(memory), memory_mask)"),
    ),
    Misconception(
        "cross-attention before the self-attention",
        (
            """
            x = self.residual(x, lambda tokens: self.attn(tokens, mask=mask), self.ln_1)
            x = self.residual(x, lambda tokens: self.cross_attn(tokens, memory, memory_mask), self.ln_2)
            """,
            """
            x = self.residual(x, lambda tokens: self.cross_attn(tokens, memory, memory_mask), self.ln_2)
            x = self.residual(x, lambda tokens: self.attn(tokens, mask=mask), self.ln_1)
            """,
        ),
    ),
    Misconception(
        "cross-attention that ignores the memory's mask",
        ("self.cross_attn(tokens, memory, memory_mask)", "self.cross_attn(tokens, memory)"),
    ),
    Misconception(
        "cross-attention with the weights of the self-attention: cross_attn is never called",
        (
            """
            x = self.residual(x, lambda tokens: self.attn(tokens, mask=mask), self.ln_1)
            x = self.residual(x, lambda tokens: self.cross_attn(tokens, memory, memory_mask), self.ln_2)
            """,
            """
            x = self.residual(x, lambda tokens: self.attn(tokens, mask=mask), self.ln_1)
            self.attn.causal = False
            x = self.residual(x, lambda tokens: self.attn(tokens, memory, memory_mask), self.ln_2)
            self.attn.causal = True
            """,
        ),
    ),
    Misconception(
        "dropout of the attention weights alone, and none of what the sublayers add",
        (
            """
            self.residual = Residual(placement, dropout)

        def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
            """,
            """
            self.residual = Residual(placement)

        def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
            """,
        ),
    ),
    Misconception(
        "dropout of what the sublayers add alone, and none of the attention weights",
        (
            """
            self.attn = MultiHeadAttention(embed_dim, num_heads, dropout=dropout)
            self.ln_2 = LayerNorm(embed_dim, eps)
            self.mlp = FeedForward(embed_dim, hidden_dim, activation=activation)
            """,
            """
            self.attn = MultiHeadAttention(embed_dim, num_heads)
            self.ln_2 = LayerNorm(embed_dim, eps)
            self.mlp = FeedForward(embed_dim, hidden_dim, activation=activation)
            """,
        ),
    ),
]

# What torch calls the parts of its layers, and what ours are called.
ENCODER = {"self_attn": "attn", "linear1": "mlp.c_fc", "linear2": "mlp.c_proj", "norm1": "ln_1", "norm2": "ln_2"}
DECODER = {**ENCODER, "multihead_attn": "cross_attn", "norm3": "ln_3"}
INSIDE = {"in_proj_weight": "c_attn.weight", "in_proj_bias": "c_attn.bias"}
INSIDE |= {"out_proj.weight": "c_proj.weight", "out_proj.bias": "c_proj.bias"}
PLACEMENTS = ("post", "pre")


def workload(task: Any, draw: Draw) -> list[Workload]:
    """Typical calls, for `compare`."""
    x, memory = draw.normal(8, 48, 128, requires_grad=True), draw.normal(8, 64, 128, requires_grad=True)
    encoder: Any = draw.fill(task.EncoderBlock(128, 4), scale=0.1)
    decoder: Any = draw.fill(task.DecoderBlock(128, 4, placement="pre"), scale=0.1)
    return [
        Workload("EncoderBlock(128, 4)(x)", encoder, (x,)),
        Workload('DecoderBlock(128, 4, placement="pre")(x, memory)', decoder, (x, memory)),
    ]


class _Twin(nn.Module):
    """One of torch's layers, called as ours is: with masks that are True where a token may attend."""

    def __init__(self, layer: nn.Module, heads: int) -> None:
        super().__init__()
        self.layer = layer.train()  # in eval mode torch takes another way, in which its parts are not called
        self.heads = heads

    def _hidden(self, mask: Tensor | None, x: Tensor, memory: Tensor) -> Tensor | None:
        if mask is None:
            return None
        return ~mask.expand(len(x), self.heads, x.shape[1], memory.shape[1]).flatten(0, 1)


class _EncoderTwin(_Twin):
    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """As `EncoderBlock`."""
        result: Tensor = self.layer(x, src_mask=self._hidden(mask, x, x))
        return result


class _DecoderTwin(_Twin):
    def forward(
        self, x: Tensor, memory: Tensor, mask: Tensor | None = None, memory_mask: Tensor | None = None
    ) -> Tensor:
        """As `DecoderBlock`."""
        earlier = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).tril()
        seen = earlier if mask is None else earlier & mask
        hidden, memory_hidden = self._hidden(seen, x, x), self._hidden(memory_mask, x, memory)
        result: Tensor = self.layer(x, memory, tgt_mask=hidden, memory_mask=memory_hidden)
        return result


def _our_name(name: str, parts: dict[str, str]) -> str:
    """Torch's name of a parameter in ours."""
    part, _, rest = name.partition(".")
    return f"{parts[part]}.{INSIDE.get(rest, rest)}"


def _pair(
    check: Check, make: Any, parts: dict[str, str], *, dtype: torch.dtype = torch.float32, **options: Any
) -> tuple[Any, _Twin, int]:
    """The learner's block, torch's layer with the same weights, and their width."""
    heads = check.draw.integer(2, 4)
    width = heads * check.draw.integer(2, 4)
    hidden = check.draw.integer(width + 1, 2 * width)
    block = check.build(make, width, heads, hidden, **options)
    kind = nn.TransformerEncoderLayer if make is EncoderBlock else nn.TransformerDecoderLayer
    activation: Any = options.get("activation", "relu")
    layer: nn.Module = kind(
        width,
        heads,
        hidden,
        dropout=0.0,
        activation=activation,
        norm_first=options.get("placement") == "pre",
        batch_first=True,
        dtype=dtype,
    )
    check.draw.fill(layer, scale=0.4)
    if isinstance(block, nn.Module):
        block.to(dtype)
    check.load(block, {_our_name(name, parts): weight for name, weight in layer.named_parameters()})
    twin = _EncoderTwin(layer, heads) if make is EncoderBlock else _DecoderTwin(layer, heads)
    return block, twin, width


def _parts(parts: dict[str, str]) -> dict[str, str]:
    return {f"layer.{theirs}": ours for theirs, ours in parts.items()}


def _shapes(entries: Callable[[], Any]) -> dict[str, str]:
    return {name: f"shape {tuple(entry.shape)}" for name, entry in dict(entries()).items()}


def _check_parameters(check: Check, block: Any, text: str, layer: nn.Module, parts: dict[str, str]) -> None:
    expected = {_our_name(name, parts): f"shape {tuple(entry.shape)}" for name, entry in layer.named_parameters()}
    check.run(f"the parameters of {text}", lambda: _shapes(block.named_parameters)).equals(expected)
    check.run(f"the state_dict of {text}", lambda: _shapes(block.state_dict)).equals(expected)


def test_encoder_parameters(check: Check) -> None:
    """An encoder block has the parameters of its norms, attention and feed-forward network, and no others."""
    block = check.build(EncoderBlock, 12, 4)
    _check_parameters(check, block, "EncoderBlock(12, 4)", nn.TransformerEncoderLayer(12, 4, 48), ENCODER)


def test_decoder_parameters(check: Check) -> None:
    """A decoder block has a third norm and a second attention besides."""
    block = check.build(DecoderBlock, 12, 4, 20)
    _check_parameters(check, block, "DecoderBlock(12, 4, 20)", nn.TransformerDecoderLayer(12, 4, 20), DECODER)
    block = check.build(DecoderBlock, 8, 2)
    _check_parameters(check, block, "DecoderBlock(8, 2)", nn.TransformerDecoderLayer(8, 2, 32), DECODER)


def test_by_hand(check: Check) -> None:
    """Attention that adds (2, 0), a feed-forward network that adds nothing: the sums and norms can be done by hand."""
    x = torch.tensor([[[1.0, 5.0]]])
    # pre: the token is (1, 5) + (2, 0) + (0, 0). post: the norm of (3, 5) is (-1, 1), which normalised again stays;
    # with the usual epsilon of 1e-5 beside a variance of 1, up to 1e-5.
    for placement, expected, note in (
        ("pre", [3.0, 5.0], "(1, 5) + (2, 0), which no norm is taken of"),
        ("post", [-1.0, 1.0], "the norm of (1, 5) + (2, 0)"),
    ):
        block = check.build(EncoderBlock, 2, 1, 2, placement=placement)
        weights = {name: torch.zeros_like(entry) for name, entry in block.named_parameters()}
        ones = {name: torch.ones(2) for name in ("ln_1.weight", "ln_2.weight")}
        check.load(block, {**weights, **ones, "attn.c_proj.bias": torch.tensor([2.0, 0.0])})
        # Each norm makes that 5e-6 less; the rounding of float32, 6e-8, is nothing beside it.
        check(block, x).equals(torch.tensor([[expected]]), rtol=0.0, atol=2e-5, note=note)


def test_epsilon(check: Check) -> None:
    """Every norm has the epsilon asked for: with 3, the norm of (3, 5), whose variance is 1, is (-1/2, 1/2)."""
    x = torch.tensor([[[1.0, 5.0]]], dtype=torch.float64)
    for make, norms in ((EncoderBlock, 2), (DecoderBlock, 3)):
        block = check.build(make, 2, 1, 2, placement="post", eps=3.0)
        check.run("block.double()", block.double)
        weights = {name: torch.zeros_like(entry) for name, entry in block.named_parameters()}
        weights |= {f"ln_{number + 1}.weight": torch.ones(2) for number in range(norms)}
        # The first attention adds (2, 0); what comes after it adds nothing, and each norm divides once more.
        check.load(block, {**weights, "attn.c_proj.bias": torch.tensor([2.0, 0.0])})
        half = 1.0
        for _ in range(norms):
            half /= math.sqrt(half**2 + 3.0)
        expected = torch.tensor([[[-half, half]]], dtype=torch.float64)
        check(block, x, *[x] * (norms - 2)).equals(expected, note=f"{norms} norms, one after the other")


def test_encoder(check: Check) -> None:
    """With the same weights, the same as torch's TransformerEncoderLayer, in post-norm and in pre-norm."""
    for placement in PLACEMENTS:
        block, twin, width = _pair(check, EncoderBlock, ENCODER, placement=placement)
        check.beside(block, twin, check.draw.strided(3, 5, width), parts=_parts(ENCODER))
        check.beside(block, twin, check.draw.normal(1, 1, width), parts=_parts(ENCODER))


def test_encoder_with_padding(check: Check) -> None:
    """A mask hides padding: True where a token may attend."""
    for placement in PLACEMENTS:
        block, twin, width = _pair(check, EncoderBlock, ENCODER, placement=placement)
        mask = (torch.arange(6) < torch.tensor([[4], [6]]))[:, None, None, :]
        check.beside(block, twin, check.draw.normal(2, 6, width), mask, parts=_parts(ENCODER))


def test_activation(check: Check) -> None:
    """The feed-forward network has the activation asked for, by default the original's ReLU."""
    choices: list[dict[str, Any]] = [{}, {"activation": "gelu"}]
    for options in choices:
        block, twin, width = _pair(check, EncoderBlock, ENCODER, **options)
        check.beside(block, twin, check.draw.normal(2, 4, width), parts=_parts(ENCODER))


def test_decoder(check: Check) -> None:
    """With the same weights, the same as torch's TransformerDecoderLayer, in post-norm and in pre-norm."""
    for placement in PLACEMENTS:
        block, twin, width = _pair(check, DecoderBlock, DECODER, placement=placement)
        x, memory = check.draw.strided(3, 4, width), check.draw.strided(3, 6, width)
        check.beside(block, twin, x, memory, parts=_parts(DECODER))
        check.beside(block, twin, x[:1, :1], memory[:1], parts=_parts(DECODER))


def test_decoder_with_padding(check: Check) -> None:
    """Masks hide padding among the tokens and in the memory, each its own."""
    block, twin, width = _pair(check, DecoderBlock, DECODER, placement="pre")
    x, memory = check.draw.normal(2, 5, width), check.draw.normal(2, 7, width)
    mask = torch.tensor([[True, True, True, False, True], [True, False, True, True, True]])[:, None, None, :]
    memory_mask = (torch.arange(7) < torch.tensor([[7], [3]]))[:, None, None, :]
    check.beside(block, twin, x, memory, mask, parts=_parts(DECODER))
    check.beside(block, twin, x, memory, None, memory_mask, parts=_parts(DECODER))
    check.beside(block, twin, x, memory, mask, memory_mask, parts=_parts(DECODER))


def test_gradients(check: Check) -> None:
    """In float64, the gradients of both blocks reach every input and parameter, as torch's do."""
    for make, parts, inputs in ((EncoderBlock, ENCODER, 1), (DecoderBlock, DECODER, 2)):
        block, twin, width = _pair(check, make, parts, dtype=torch.float64)
        args = [check.draw.normal(2, 3, width, dtype=torch.float64, requires_grad=True) for _ in range(inputs)]
        answer = check(block, *args)
        expected = twin(*args)
        answer.equals(expected.detach())
        own = dict(block.named_parameters())
        twins = {_our_name(name, parts): weight for name, weight in twin.layer.named_parameters()}
        named = dict(zip(("x", "memory"), args, strict=False))
        answer.gradients_equal(expected, named | {name: own[name] for name in twins}, twins=twins)


def test_what_each_token_sees(check: Check) -> None:
    """The encoder's first token hears of the last; the decoder's does not, though it hears of all the memory."""
    encoder, _, width = _pair(check, EncoderBlock, ENCODER)
    x = check.draw.normal(1, 5, width, requires_grad=True)
    _check_seen(check, encoder, (x,), x, [0, 1, 2, 3, 4])
    decoder, _, width = _pair(check, DecoderBlock, DECODER)
    x = check.draw.normal(1, 5, width, requires_grad=True)
    memory = check.draw.normal(1, 4, width, requires_grad=True)
    _check_seen(check, decoder, (x, memory), x, [0, 1, 2])
    _check_seen(check, decoder, (x, memory), memory, [0, 1, 2, 3])


def _check_seen(check: Check, block: Any, args: tuple[Tensor, ...], by: Tensor, expected: list[int]) -> None:
    """Which tokens of `by` the output at position 2 depends on."""
    answer = check(block, *args).has(shape=args[0].shape)
    cotangent = check.draw.normal(args[0].shape[-1])
    answer.satisfies(
        answer.value.requires_grad, got="a result without gradient", expected="one that depends on its inputs"
    )
    if not answer.value.requires_grad:
        return
    (gradient,) = torch.autograd.grad((answer.value[0, 2] * cotangent).sum(), [by], allow_unused=True)
    # What is seen moves the output by a good part of itself; what is not, by no more than rounding.
    seen = [] if gradient is None else (gradient[0].abs().amax(dim=-1) > 1e-7).nonzero().flatten().tolist()
    whose = "x" if by is args[0] else "the memory"
    answer.satisfies(
        seen == expected,
        got=f"position 2 depends on {whose} at {seen}",
        expected=f"on {whose} at {expected}",
    )


def test_order_means_nothing_to_an_encoder(check: Check) -> None:
    """Permute the tokens of an encoder, and its output is permuted alike."""
    block, _, width = _pair(check, EncoderBlock, ENCODER, placement="pre")
    x, order = check.draw.normal(2, 6, width), check.draw.permutation(6)
    straight = check(block, x).has(shape=x.shape)
    check(block, x[:, order]).equals(straight.value[:, order].detach(), note="as in the first order, permuted")


def test_dropout(check: Check) -> None:
    """While training, what a sublayer adds is dropped entry by entry, and nothing of the tokens; else nothing is."""
    rate = 0.25
    for make, extra in ((EncoderBlock, 0), (DecoderBlock, 1)):
        block = check.build(make, 8, 2, placement="pre", dropout=rate)
        weights = {name: torch.zeros_like(entry) for name, entry in block.named_parameters()}
        check.load(block, {**weights, "mlp.c_proj.bias": torch.ones(8)})  # the last sublayer adds 1 to every entry
        x = check.draw.normal(40, 50, 8)
        memory = [check.draw.normal(40, 3, 8)] * extra
        check.run("block.eval()", block.eval)
        check(block, x, *memory).equals(x + 1, note="in evaluation: the last sublayer adds 1, the others nothing")
        check.run("block.train()", block.train)
        answer = check(block, x, *memory).has(shape=x.shape)
        added = answer.value.detach() - x
        kept = (added - 1 / (1 - rate)).abs() < 1e-5
        strange = int((~(kept | (added.abs() < 1e-5))).sum())
        answer.satisfies(
            strange == 0,
            got=f"{strange} of {x.numel()} entries that are neither x nor x + 1 / (1 - {rate})",
            expected="each entry of x as it was, or with what the sublayer adds, divided by 1 - dropout",
        )
        # Independent draws: the share of those kept has a standard deviation of sqrt(p (1 - p) / n); 6.5 of them.
        share, bound = float(kept.float().mean()), 6.5 * math.sqrt(rate * (1 - rate) / x.numel())
        answer.satisfies(
            abs(share - (1 - rate)) < bound,
            got=f"{share:.3f} of what is added is kept",
            expected=f"{1 - rate} of it, up to {bound:.3f}",
        )


def test_dropout_of_attention(check: Check) -> None:
    """While training, the weights of every attention are dropped too: what it brings back is no longer the same."""
    rate = 0.5
    for make, attention in ((EncoderBlock, "attn"), (DecoderBlock, "attn"), (DecoderBlock, "cross_attn")):
        block = check.build(make, 2, 1, placement="pre", dropout=rate)
        weights = {name: torch.zeros_like(entry) for name, entry in block.named_parameters()}
        # Equal weights and values of 1: each token gets the sum of its attention weights, which is 1 undropped.
        weights[f"{attention}.c_attn.bias"] = torch.tensor([0.0, 0.0, 0.0, 0.0, 1.0, 1.0])
        weights[f"{attention}.c_proj.weight"] = torch.eye(2)
        check.load(block, weights)
        check.run("block.train()", block.train)
        x = check.draw.normal(20, 9, 2)
        answer = check(block, x, *([] if make is EncoderBlock else [x])).has(shape=x.shape)
        # Position 8 sees 9 tokens, of which k are kept: k / 9 / (1 - rate), and once more by 1 - rate in the residual.
        # That all 20 sums, or none, hold just 4.5 kept weights cannot be; without dropout all would be 1 / (1 - rate).
        added = answer.value.detach()[:, 8] - x[:, 8]
        left = added[added.abs() > 1e-5]
        same = bool(((left - 1 / (1 - rate)).abs() < 1e-4).all())
        answer.satisfies(
            not same,
            got=f"weights of {attention} that sum to 1 for every token: none is dropped",
            expected=f"sums that differ from token to token, with dropout={rate} while training",
        )


def test_refuses(check: Check) -> None:
    """Heads that do not divide the width, an unknown placement or activation, and tokens of another width."""
    for make in (EncoderBlock, DecoderBlock):
        check.raises(ValueError, make, 10, 4, naming=("num_heads", "10", "4"))
        check.raises(ValueError, make, 8, 2, placement="between", naming="between")
        check.raises(ValueError, make, 8, 2, activation="step", naming="step")
        for dropout in (1.0, -0.5):
            check.raises(ValueError, make, 8, 2, dropout=dropout, naming=str(dropout))
    x = check.draw.normal(2, 3, 6)
    check.raises(ValueError, check.build(EncoderBlock, 8, 2), x, naming="(2, 3, 6)")
    decoder, tokens = check.build(DecoderBlock, 8, 2), check.draw.normal(2, 3, 8)
    check.raises(ValueError, decoder, tokens, x, naming="(2, 3, 6)")
    check.raises(ValueError, decoder, tokens, tokens[:1], naming=("(2, 3, 8)", "(1, 3, 8)"))
