"""Grades block/configurations.

The oracles are the GPT-2 block of transformers with the same weights, and for every other configuration a block put
together from torch's own layers. Where a block differs, the first of its parts that does is named.
"""

import math
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from checkpoints.checks import Check, Draw, Workload
from checkpoints.misconceptions import Misconception
from exercises.attention.efficient import KVCache
from exercises.attention.multi_head import MultiHeadAttention
from exercises.block.configurations import BlockConfig, TransformerBlock
from exercises.block.feed_forward import FeedForward
from exercises.block.layer_norm import LayerNorm, RMSNorm

MISCONCEPTIONS = [
    Misconception(
        "a pre-norm block written as a post-norm block",
        ("Residual(config.placement, config.dropout)", 'Residual("post", config.dropout)'),
    ),
    Misconception(
        "a block that is pre-norm whatever its placement",
        ("Residual(config.placement, config.dropout)", 'Residual("pre", config.dropout)'),
    ),
    Misconception(
        "a block without the residual connection around the feed-forward network",
        ("return self.residual(x, self.mlp, self.ln_2)", "return self.mlp(self.ln_2(x))"),
    ),
    Misconception(
        "a block without the residual connection around attention",
        (
            "x = self.residual(x, lambda tokens: self.attn(tokens, mask=mask, bias=bias, cache=cache), self.ln_1)",
            "x = self.attn(self.ln_1(x), mask=mask, bias=bias, cache=cache)",
        ),
    ),
    Misconception(
        "one norm used for both sublayers: ln_2 is never called",
        ("return self.residual(x, self.mlp, self.ln_2)", "return self.residual(x, self.mlp, self.ln_1)"),
    ),
    Misconception(
        "attention and feed-forward network side by side: both read the same x",
        (
            "x = self.residual(x, lambda tokens: self.attn(tokens, mask=mask, bias=bias, cache=cache), self.ln_1)",
            "before = x\nx = self.residual(x, lambda tokens: self.attn(tokens, mask=mask, bias=bias, cache=cache), self.ln_1)",
        ),
        (
            "return self.residual(x, self.mlp, self.ln_2)",
            "return x + self.residual(before, self.mlp, self.ln_2) - before",
        ),
    ),
    Misconception(
        "the feed-forward network before attention",
        (
            """
            x = self.residual(x, lambda tokens: self.attn(tokens, mask=mask, bias=bias, cache=cache), self.ln_1)
            return self.residual(x, self.mlp, self.ln_2)
            """,
            """
            x = self.residual(x, self.mlp, self.ln_2)
            return self.residual(x, lambda tokens: self.attn(tokens, mask=mask, bias=bias, cache=cache), self.ln_1)
            """,
        ),
    ),
    Misconception(
        "ReLU in the place of GELU: the activation asked for is not handed on",
        ("activation=config.activation", 'activation="relu"'),
    ),
    Misconception(
        "the exact GELU in the place of GPT-2's approximation by tanh",
        ('activation: str = "gelu_tanh"', 'activation: str = "gelu"'),
    ),
    Misconception("a feed-forward network that is never gated", (", gated=config.gated", "")),
    Misconception("layer norm also where RMS norm is asked for", ('if config.norm == "rms_norm":', "if False:")),
    Misconception("norms with an epsilon of their own", ("config.eps, config.bias)", "1e-6, config.bias)")),
    Misconception("norms with a bias also where none is wanted", ("config.eps, config.bias)", "config.eps)")),
    Misconception(
        "linear layers with biases also where none are wanted",
        ("bias=config.bias,\ndropout=config.attention_dropout,", "dropout=config.attention_dropout,"),
        ("gated=config.gated, bias=config.bias", "gated=config.gated"),
    ),
    Misconception(
        "as many heads of keys and values as of queries, however many are asked for",
        ("num_kv_heads=config.num_kv_heads,", "num_kv_heads=None,"),
    ),
    Misconception(
        "attention that sees later tokens", ('causal=config.attention in ("causal", "alibi")', "causal=False")
    ),
    Misconception(
        "attention that is causal also where it should see everything",
        ('causal=config.attention in ("causal", "alibi")', "causal=True"),
    ),
    Misconception(
        "a sliding window that forgets the tokens in the cache",
        ("self.config.window, past=past,", "self.config.window,"),
        ("mask = combine_masks", "mask = None if past else combine_masks"),
    ),
    Misconception(
        "the sliding window in the place of the mask given, not besides it",
        ("combine_masks(mask, sliding_window_mask(", "combine_masks(None, sliding_window_mask("),
    ),
    Misconception("attention without the bias of ALiBi", ("mask=mask, bias=bias, cache", "mask=mask, cache")),
    Misconception(
        "a bias of ALiBi that is the same for all heads: the first one's slope",
        ("past=past, dtype=x.dtype, device=x.device)", "past=past, dtype=x.dtype, device=x.device)[:1]"),
    ),
    Misconception(
        "a block that ignores its mask",
        ("self.attn(tokens, mask=mask, bias", "self.attn(tokens, bias"),
        ("combine_masks(mask, sliding", "combine_masks(None, sliding"),
    ),
    Misconception("a block that ignores its cache", ("bias=bias, cache=cache", "bias=bias")),
    Misconception(
        "dropout on the sum, so that numbers of x are dropped too",
        (
            "return self.residual(x, self.mlp, self.ln_2)",
            "return self.residual.dropout(x + self.mlp(self.ln_2(x)))",
        ),
        (
            "x = self.residual(x, lambda tokens: self.attn(tokens, mask=mask, bias=bias, cache=cache), self.ln_1)",
            """
            if self.config.placement == "post":
                x = self.residual(x, lambda tokens: self.attn(tokens, mask=mask, bias=bias, cache=cache), self.ln_1)
                return self.residual(x, self.mlp, self.ln_2)
            x = self.residual.dropout(x + self.attn(self.ln_1(x), mask=mask, bias=bias, cache=cache))
            """,
        ),
    ),
    Misconception(
        "dropout of the attention weights by the rate that is meant for the branches",
        ("dropout=config.attention_dropout", "dropout=config.dropout"),
    ),
    Misconception(
        "dropout of the branches by the rate that is meant for the attention weights",
        ("Residual(config.placement, config.dropout)", "Residual(config.placement, config.attention_dropout)"),
    ),
    Misconception(
        "a configuration that takes any name for a norm, a placement, an activation or a kind of attention",
        ("if getattr(self, name) not in known:", "if False:"),
    ),
    Misconception(
        "a configuration that takes a window with any kind of attention, or none with a sliding window",
        ('if (self.window is None) == (self.attention == "sliding_window"):', "if False:"),
    ),
]

SMALL = {"embed_dim": 12, "num_heads": 3}
KINDS: dict[str, dict[str, Any]] = {
    "causal": {},
    "full": {"attention": "full"},
    "sliding_window": {"attention": "sliding_window", "window": 3},
    "alibi": {"attention": "alibi"},
}


def workload(task: Any, draw: Draw) -> list[Workload]:
    """Typical calls, for `compare`."""
    x = draw.normal(8, 64, 128, requires_grad=True)
    gpt2: Any = draw.fill(task.TransformerBlock(task.BlockConfig(128, 4)), scale=0.1)
    modern = task.BlockConfig(128, 4, 2, norm="rms_norm", activation="silu", gated=True, bias=False)
    llama: Any = draw.fill(task.TransformerBlock(modern), scale=0.1)
    return [Workload("GPT-2's block", gpt2, (x,)), Workload("a block as later models have it", llama, (x,))]


def _attention_bias(config: dict[str, Any], length: int, mask: Tensor | None) -> Tensor:
    """What is added to the scores (1 or B, H, T, T): -inf where a pair is hidden, and ALiBi's part; pair by pair."""
    heads = config["num_heads"]
    kind = config.get("attention", "causal")
    bias = torch.zeros(heads, length, length, dtype=torch.float64)
    for query in range(length):
        for key in range(length):
            distance = query - key
            seen = kind == "full" or (0 <= distance < config.get("window", length))
            if kind == "alibi":
                # Press et al. 2022: the slopes of a number of heads that is a power of two
                slopes = torch.tensor([2.0 ** (-8 * (head + 1) / heads) for head in range(heads)], dtype=torch.float64)
                bias[:, query, key] -= slopes * distance
            if not seen:
                bias[:, query, key] = -math.inf
    whole = bias[None]
    return whole if mask is None else whole.masked_fill(~mask, -math.inf)


class _Attention(nn.Module):
    """Attention with one fused projection, by torch's own function."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        width, self.heads = config["embed_dim"], config["num_heads"]
        self.kv_heads = config.get("num_kv_heads", self.heads)
        self.head_dim = width // self.heads
        bias = config.get("bias", True)
        self.c_attn = nn.Linear(width, (self.heads + 2 * self.kv_heads) * self.head_dim, bias=bias)
        self.c_proj = nn.Linear(width, width, bias=bias)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """Attend, with what is hidden in the bias."""
        sizes = [heads * self.head_dim for heads in (self.heads, self.kv_heads, self.kv_heads)]
        query, key, value = (
            part.unflatten(-1, (-1, self.head_dim)).transpose(1, 2) for part in self.c_attn(x).split(sizes, dim=-1)
        )
        grouped = self.kv_heads < self.heads
        result = F.scaled_dot_product_attention(query, key, value, bias.to(x.dtype), enable_gqa=grouped)
        projected: Tensor = self.c_proj(result.transpose(1, 2).flatten(2))
        return projected


class _FeedForward(nn.Module):
    """Two or three linear layers."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        width, bias = config["embed_dim"], config.get("bias", True)
        hidden = config.get("hidden_dim", 4 * width)
        self.c_fc = nn.Linear(width, hidden, bias=bias)
        self.c_gate = nn.Linear(width, hidden, bias=bias) if config.get("gated") else None
        self.c_proj = nn.Linear(hidden, width, bias=bias)
        self.activation = {
            "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
            "gelu": F.gelu,
            "relu": F.relu,
            "silu": F.silu,
        }[config.get("activation", "gelu_tanh")]

    def forward(self, x: Tensor) -> Tensor:
        """Each token alone."""
        hidden = self.c_fc(x)
        hidden = self.activation(hidden) if self.c_gate is None else self.activation(self.c_gate(x)) * hidden
        result: Tensor = self.c_proj(hidden)
        return result


class _Reference(nn.Module):
    """A block of torch's own layers, with the parts named as ours."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        width, eps, bias = config["embed_dim"], config.get("eps", 1e-5), config.get("bias", True)
        rms = config.get("norm") == "rms_norm"
        self.config = config
        self.ln_1 = nn.RMSNorm(width, eps) if rms else nn.LayerNorm(width, eps, bias=bias)
        self.attn = _Attention(config)
        self.ln_2 = nn.RMSNorm(width, eps) if rms else nn.LayerNorm(width, eps, bias=bias)
        self.mlp = _FeedForward(config)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """As `TransformerBlock`."""
        bias = _attention_bias(self.config, x.shape[1], mask)
        if self.config.get("placement") == "post":
            x = self.ln_1(x + self.attn(x, bias))
            return self.ln_2(x + self.mlp(x))
        x = x + self.attn(self.ln_1(x), bias)
        return x + self.mlp(self.ln_2(x))


class _GPT2(nn.Module):
    """The block of transformers, called as ours: its causal mask comes from the model around it."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        from transformers.models.gpt2.configuration_gpt2 import GPT2Config
        from transformers.models.gpt2.modeling_gpt2 import GPT2Block

        make: Any = GPT2Config  # its annotations do not know every argument
        config = make(n_embd=width, n_head=heads, attn_implementation="eager")
        self.block = GPT2Block(config, layer_idx=0).eval()

    def forward(self, x: Tensor) -> Tensor:
        """As `TransformerBlock`."""
        hidden = torch.full((x.shape[1], x.shape[1]), torch.finfo(x.dtype).min, dtype=x.dtype).triu(diagonal=1)
        result: Tensor = self.block(x, attention_mask=hidden[None, None])
        return result


def _block(check: Check, config: dict[str, Any]) -> Any:
    return check.build(TransformerBlock, check.build(BlockConfig, **config))


def _with_reference(check: Check, config: dict[str, Any], dtype: torch.dtype = torch.float32) -> tuple[Any, _Reference]:
    """The learner's block, and one of torch's layers with the same weights."""
    block = _block(check, config)
    reference = _Reference(config)
    check.draw.fill(reference.to(dtype), scale=0.4)
    if isinstance(block, nn.Module):
        block.to(dtype)
    check.load(block, dict(reference.named_parameters()))
    return block, reference


def _with_gpt2(check: Check) -> tuple[Any, _GPT2, dict[str, Tensor], int]:
    """The learner's block, the one of transformers, its parameters by our names and in our layout, and the width."""
    heads = check.draw.integer(2, 4)
    width = heads * check.draw.integer(2, 5)
    block = _block(check, {"embed_dim": width, "num_heads": heads})
    twin = _GPT2(width, heads)
    check.draw.fill(twin, scale=0.3)
    theirs: dict[str, Tensor] = {name.removeprefix("block."): entry for name, entry in twin.named_parameters()}
    check.load(block, {name: _in_our_layout(name, entry) for name, entry in theirs.items()})
    return block, twin, theirs, width


def _in_our_layout(name: str, entry: Tensor) -> Tensor:
    """GPT-2's Conv1D multiplies from the other side: its weights are the transposes of a linear layer's."""
    return entry.detach().T.clone() if _is_transposed(name) else entry.detach().clone()


def _is_transposed(name: str) -> bool:
    return ".c_" in name and name.endswith("weight")


def test_config_defaults(check: Check) -> None:
    """A configuration of two sizes is GPT-2's, and cannot be changed."""
    config = check.build(BlockConfig, 768, 12)
    names = ["norm", "placement", "activation", "gated", "bias", "attention", "window", "dropout", "attention_dropout"]
    expected = ["layer_norm", "pre", "gelu_tanh", False, True, "causal", None, 0.0, 0.0]
    names, expected = [*names, "num_kv_heads", "hidden_dim", "eps"], [*expected, None, None, 1e-5]
    for name, value in zip(names, expected, strict=True):
        check.run(f"BlockConfig(768, 12).{name}", partial(getattr, config, name)).equals(value)
    check.raises(AttributeError, setattr, config, "num_heads", 6)


def test_config_refuses_names(check: Check) -> None:
    """An unknown norm, placement, activation or kind of attention is refused by name, with those that are known."""
    check.raises(ValueError, BlockConfig, 12, 3, norm="batch_norm", naming=("norm", "batch_norm", "rms_norm"))
    check.raises(ValueError, BlockConfig, 12, 3, placement="before", naming=("placement", "before", "pre", "post"))
    check.raises(ValueError, BlockConfig, 12, 3, activation="step", naming=("activation", "step", "gelu_tanh"))
    check.raises(ValueError, BlockConfig, 12, 3, attention="local", naming=("attention", "local", "sliding_window"))


def test_config_refuses_sizes(check: Check) -> None:
    """Sizes below 1, heads that do not divide, rates and an epsilon out of their range are refused by name."""
    for size in (0, -3):
        check.raises(ValueError, BlockConfig, size, 3, naming=("embed_dim", str(size)))
        check.raises(ValueError, BlockConfig, 12, size, naming=("num_heads", str(size)))
        check.raises(ValueError, BlockConfig, 12, 6, num_kv_heads=size, naming=("num_kv_heads", str(size)))
        check.raises(ValueError, BlockConfig, 12, 6, hidden_dim=size, naming=("hidden_dim", str(size)))
    check.raises(ValueError, BlockConfig, 10, 4, naming=("num_heads", "embed_dim", "10", "4"))
    check.raises(ValueError, BlockConfig, 12, 6, num_kv_heads=4, naming=("num_kv_heads", "num_heads", "6", "4"))
    for rate in (1.0, -0.1, float("nan")):
        for name in ("dropout", "attention_dropout"):
            check.raises(ValueError, BlockConfig, 12, 6, **{name: rate}, naming=(name, str(rate)))
    for eps in (0.0, -1e-5, float("nan")):
        check.raises(ValueError, BlockConfig, 12, 6, eps=eps, naming=("eps", str(eps)))


def test_config_of_the_least(check: Check) -> None:
    """The least that makes sense is taken: one of everything, as many heads of keys as of queries, nothing dropped."""
    least = {"embed_dim": 1, "num_heads": 1, "num_kv_heads": 1, "hidden_dim": 1, "attention": "sliding_window"}
    least |= {"window": 1, "dropout": 0.0, "attention_dropout": 0.0, "eps": 1e-30}
    several = {"embed_dim": 6, "num_heads": 6, "num_kv_heads": 6, "dropout": 0.99, "attention_dropout": 0.99}
    for options in (least, several):
        config = check(BlockConfig, **options)
        got = check.run(f"the fields of {config.call}", lambda: {name: getattr(config.value, name) for name in options})  # noqa: B023
        got.equals(options)


def test_config_refuses_windows(check: Check) -> None:
    """A window without a sliding window, a sliding window without one, and a window of nothing are refused."""
    check.raises(ValueError, BlockConfig, 12, 3, window=4, naming=("window", "4", "attention", "causal"))
    check.raises(ValueError, BlockConfig, 12, 3, attention="sliding_window", naming=("window", "None"))
    for window in (0, -1):
        naming = ("window", str(window))
        check.raises(ValueError, BlockConfig, 12, 3, attention="sliding_window", window=window, naming=naming)


def test_size_of_gpt2(check: Check) -> None:
    """A block of the smallest GPT-2 has 7,087,872 parameters, by GPT-2's names."""
    with torch.device("meta"):
        block = _block(check, {"embed_dim": 768, "num_heads": 12})
    call = "TransformerBlock(BlockConfig(768, 12))"
    count = check.run(f"the parameters of {call}", lambda: sum(entry.numel() for entry in block.parameters()))
    # two norms of 2 * 768; attention 768 * 2304 + 2304 and 768 * 768 + 768; 768 * 3072 + 3072 and 3072 * 768 + 768
    expected = 2 * 1536 + 1771776 + 590592 + 2362368 + 2360064
    count.equals(expected, note="two norms, attention's c_attn and c_proj, the feed-forward network's c_fc and c_proj")
    shapes = check.run(f"the state_dict of {call}", lambda: sorted(block.state_dict()))
    parts = ("attn.c_attn", "attn.c_proj", "ln_1", "ln_2", "mlp.c_fc", "mlp.c_proj")
    shapes.equals([f"{part}.{kind}" for part in parts for kind in ("bias", "weight")])


def test_its_parts_are_the_pieces_built_before(check: Check) -> None:
    """The block stands on the course's own pieces: attention, feed-forward network and norms of the earlier tasks."""
    for norm, kind in (("layer_norm", LayerNorm), ("rms_norm", RMSNorm)):
        block = _block(check, {**SMALL, "norm": norm})
        for name, piece in (("attn", MultiHeadAttention), ("mlp", FeedForward), ("ln_1", kind), ("ln_2", kind)):
            part = check.run(f"TransformerBlock(...).{name}", partial(getattr, block, name))
            part.satisfies(
                isinstance(part.value, piece),
                got=f"{type(part.value).__module__}.{type(part.value).__name__}",
                expected=f"a {piece.__name__} of {piece.__module__.replace('.', '/')}",
            )


def test_by_hand(check: Check) -> None:
    """Attention adds (2, 0), the feed-forward network nothing: pre-norm gives the sum, post-norm its norm."""
    x = torch.tensor([[[1.0, 5.0]]])
    for placement, expected in (("pre", [3.0, 5.0]), ("post", [-1.0, 1.0])):
        block = _block(check, {"embed_dim": 2, "num_heads": 1, "placement": placement})
        weights = {name: torch.zeros_like(entry) for name, entry in block.named_parameters()}
        ones = {name: torch.ones(2) for name in ("ln_1.weight", "ln_2.weight")}
        check.load(block, {**weights, **ones, "attn.c_proj.bias": torch.tensor([2.0, 0.0])})
        # (3, 5) has mean 4 and variance 1; beside it, an epsilon of 1e-5 moves each of two norms by 5e-6. Rounding, 6e-8
        # in each of a few dozen operations on numbers up to 5, is less.
        check(block, x).equals(
            torch.tensor([[expected]]),
            rtol=0.0,
            atol=2e-5,
            note=f"(1, 5) + (2, 0){', normalised' * (placement == 'post')}",
        )


def test_gpt2(check: Check) -> None:
    """With the same weights, the same as the GPT-2 block of transformers."""
    block, twin, _, width = _with_gpt2(check)
    parts = {f"block.{name}": name for name in ("ln_1", "attn", "ln_2", "mlp")}
    parts |= {f"block.{name}": name for name in ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")}
    check.beside(block, twin, check.draw.strided(3, 5, width), parts=parts)
    check.beside(block, twin, check.draw.normal(1, 1, width), parts=parts)


def test_gradients_of_gpt2(check: Check) -> None:
    """The gradient of every parameter is that of the GPT-2 block of transformers, in float64."""
    block, twin, theirs, width = _with_gpt2(check)
    if isinstance(block, nn.Module):
        block.double()
    x = check.draw.normal(2, 4, width, dtype=torch.float64, requires_grad=True)
    answer = check(block, x)
    # The oracle is differentiated by weights in our layout, which it gets transposed.
    leaves = {name: _in_our_layout(name, entry).double().requires_grad_() for name, entry in theirs.items()}
    weights = {f"block.{name}": leaf.T if _is_transposed(name) else leaf for name, leaf in leaves.items()}
    expected = torch.func.functional_call(twin, weights, (x,))
    answer.equals(expected.detach())
    answer.gradients_equal(expected, dict(block.named_parameters()), twins=leaves, x=x)


def _beside(check: Check, config: dict[str, Any], *lengths: int, dtype: torch.dtype = torch.float32) -> None:
    block, reference = _with_reference(check, config, dtype)
    for length in lengths:
        check.beside(block, reference, check.draw.normal(2, length, config["embed_dim"], dtype=dtype))


def test_kinds_of_attention(check: Check) -> None:
    """Causal, full, a sliding window, ALiBi: each as pair by pair, at any length; in float64 too."""
    for options in KINDS.values():
        _beside(check, {"embed_dim": 12, "num_heads": 4, **options}, 7, 1)
        # Of 16 heads, ALiBi's slopes are no powers of two: rounded to float32, they would show.
        _beside(check, {"embed_dim": 32, "num_heads": 16, **options}, 6, dtype=torch.float64)


def test_norms_and_placements(check: Check) -> None:
    """Layer norm and RMS norm, before the sublayer and after the sum, with the epsilon asked for."""
    for norm in ("layer_norm", "rms_norm"):
        for placement in ("pre", "post"):
            _beside(check, {**SMALL, "norm": norm, "placement": placement}, 5)
    block, reference = _with_reference(check, {**SMALL, "eps": 0.3})
    check.beside(block, reference, check.draw.normal(1, 4, 12))


def test_feed_forward_networks(check: Check) -> None:
    """Every activation, with a gate and without, of the width asked for."""
    for activation in ("gelu_tanh", "gelu", "relu", "silu"):
        _beside(check, {**SMALL, "activation": activation, "hidden_dim": check.draw.integer(5, 30)}, 4)
    _beside(check, {**SMALL, "activation": "silu", "gated": True, "hidden_dim": 20}, 4)


def test_without_biases(check: Check) -> None:
    """With bias=False, neither a linear layer nor a layer norm has one."""
    _beside(check, {**SMALL, "bias": False}, 5)


def test_grouped_heads(check: Check) -> None:
    """Fewer heads of keys and values than of queries."""
    _beside(check, {"embed_dim": 16, "num_heads": 4, "num_kv_heads": 2}, 5)


def test_as_later_models(check: Check) -> None:
    """All at once, in float64: RMS norm, a gated SiLU, grouped heads, a window, no biases."""
    config = {"embed_dim": 16, "num_heads": 4, "num_kv_heads": 1, "norm": "rms_norm", "activation": "silu"}
    config |= {"gated": True, "hidden_dim": 24, "bias": False, **KINDS["sliding_window"]}
    block, reference = _with_reference(check, config, torch.float64)
    check.beside(block, reference, check.draw.strided(2, 8, 16, dtype=torch.float64))


def test_padding(check: Check) -> None:
    """A mask hides padding besides what the kind of attention hides."""
    mask = (torch.arange(6) >= torch.tensor([[2], [0]]))[:, None, None, :] | torch.eye(6, dtype=torch.bool)
    for options in KINDS.values():
        block, reference = _with_reference(check, {"embed_dim": 8, "num_heads": 2, **options})
        check.beside(block, reference, check.draw.normal(2, 6, 8), mask)


def test_cache(check: Check) -> None:
    """Token by token with a cache, the same as all at once: causal, with a sliding window, with ALiBi."""
    for kind in ("causal", "sliding_window", "alibi"):
        block, reference = _with_reference(check, {"embed_dim": 8, "num_heads": 2, **KINDS[kind]})
        x = check.draw.normal(2, 7, 8)
        whole = reference(x).detach()
        cache: Any = KVCache(2, 2, 7, 4)
        for start, end in ((0, 3), (3, 4), (4, 6), (6, 7)):
            answer = check(block, x[:, start:end], cache=cache)
            answer.equals(whole[:, start:end], note=f"tokens {start} to {end - 1}, the ones before in the cache")
            if answer.failed or cache.length != end:
                answer.satisfies(cache.length == end, got=f"a cache of {cache.length}", expected=f"one of {end} tokens")
                return


def _biased_block(check: Check, **options: Any) -> tuple[Any, Tensor]:
    """A block whose attention brings 1 from everywhere and whose feed-forward network adds 1; and its input."""
    block = _block(check, {"embed_dim": 4, "num_heads": 1, **options})
    weights = {name: torch.zeros_like(entry) for name, entry in block.named_parameters()}
    values = torch.cat([torch.zeros(8), torch.ones(4)])
    check.load(block, {**weights, "attn.c_attn.bias": values, "mlp.c_proj.bias": torch.ones(4)})
    return block, check.draw.normal(60, 30, 4)


def test_dropout_of_the_branches(check: Check) -> None:
    """While training, what the feed-forward network adds is dropped entry by entry, and nothing of x; else nothing."""
    rate = 0.25
    block, x = _biased_block(check, dropout=rate)
    check.run("block.eval()", block.eval)
    check(block, x).equals(x + 1)
    check.run("block.train()", block.train)
    answer = check(block, x).has(shape=x.shape)
    added = answer.value.detach() - x
    # Numbers of x up to 5, and three operations, each rounded by up to 6e-8 of them: 1e-6.
    kept = (added - 1 / (1 - rate)).abs() < 1e-5
    strange = added[~(kept | (added.abs() < 1e-5))]
    example = float(strange[0]) if len(strange) else 0.0
    answer.satisfies(
        len(strange) == 0,
        got=f"to {len(strange)} of {x.numel()} entries of x other numbers are added, as {example:.3f}",
        expected=f"0 to each entry of x, or the branch's 1 divided by 1 - dropout: {1 / (1 - rate):.3f}",
    )
    # Independent draws: the share of those kept has a standard deviation of sqrt(p (1 - p) / n); 6.5 of them.
    share, bound = float(kept.float().mean()), 6.5 * math.sqrt(rate * (1 - rate) / x.numel())
    answer.satisfies(
        abs(share - (1 - rate)) < bound,
        got=f"{share:.3f} of what is added is kept",
        expected=f"{1 - rate} of it, up to {bound:.3f}",
    )


def test_dropout_of_attention(check: Check) -> None:
    """While training, attention weights are dropped by the rate that is theirs; else none is."""
    rate = 0.5
    block, x = _biased_block(check, attention_dropout=rate)
    with torch.no_grad():
        block.get_parameter("attn.c_proj.weight").copy_(torch.eye(4))
    check.run("block.eval()", block.eval)
    check(block, x).equals(x + 2, note="each sublayer adds 1")
    check.run("block.train()", block.train)
    added = check(block, x).has(shape=x.shape)
    sums = (added.value.detach() - x - 1)[..., 0]
    # The first token sees itself alone: its only weight is dropped (0) or kept (1 / (1 - rate)), half the time each.
    # Some ten operations on numbers up to 8, each rounded by up to 6e-8 of them, are within 1e-5.
    first = sums[:, 0]
    odd = first[(first.abs() > 1e-4) & ((first - 1 / (1 - rate)).abs() > 1e-4)]
    added.satisfies(
        len(odd) == 0,
        got=f"{len(odd)} of 60 first tokens with another weight for themselves, as {float(odd[0]) if len(odd) else 0:.3f}",
        expected=f"0, or 1 divided by 1 - attention_dropout: {1 / (1 - rate):.3f}",
    )
    # 60 independent draws: mean 30, standard deviation sqrt(60) / 2 = 3.9; all or none of them would be 7.7 off.
    dropped = int((first.abs() < 1e-4).sum())
    added.satisfies(
        0 < dropped < 60,
        got=f"{dropped} of 60 first tokens whose only weight is dropped",
        expected="about half of them",
    )
