"""Tables of functions: one for each norm, placement and kind of attention; conditions as data."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

from torch import Tensor, nn

from ..attention import efficient, masking, multi_head, patterns
from ..networks import activations, regularization
from . import feed_forward, layer_norm

_Step = Callable[[Tensor], Tensor]
_Hidden = tuple["Tensor | None", "Tensor | None"]  # a mask and a bias


def _layer_norm(config: BlockConfig) -> nn.Module:
    return layer_norm.LayerNorm(config.embed_dim, bias=config.bias, eps=config.eps)


def _rms_norm(config: BlockConfig) -> nn.Module:
    return layer_norm.RMSNorm(config.embed_dim, eps=config.eps)


def _before(x: Tensor, norm: _Step, sublayer: _Step, drop: _Step) -> Tensor:
    return drop(sublayer(norm(x))).add(x)


def _behind(x: Tensor, norm: _Step, sublayer: _Step, drop: _Step) -> Tensor:
    return norm(drop(sublayer(x)).add(x))


def _nothing(config: BlockConfig, x: Tensor, past: int) -> _Hidden:
    return None, None


def _window(config: BlockConfig, x: Tensor, past: int) -> _Hidden:
    assert config.window is not None
    return patterns.sliding_window_mask(x.shape[1], config.window, past=past, device=x.device), None


def _alibi(config: BlockConfig, x: Tensor, past: int) -> _Hidden:
    bias = patterns.alibi_bias(config.num_heads, x.shape[1], past=past, dtype=x.dtype, device=x.device)
    return masking.causal_mask(x.shape[1], past=past, device=x.device), bias


_NORMS = {"layer_norm": _layer_norm, "rms_norm": _rms_norm}
_PLACES = {"pre": _before, "post": _behind}
_KINDS = {"causal": _nothing, "full": _nothing, "sliding_window": _window, "alibi": _alibi}
NORMS, ATTENTIONS = tuple(_NORMS), tuple(_KINDS)


@dataclass(frozen=True)
class BlockConfig:
    """As the contract has it."""

    embed_dim: int
    num_heads: int
    num_kv_heads: int | None = None
    hidden_dim: int | None = None
    norm: str = "layer_norm"
    placement: str = "pre"
    activation: str = "gelu_tanh"
    gated: bool = False
    bias: bool = True
    attention: str = "causal"
    window: int | None = None
    dropout: float = 0.0
    attention_dropout: float = 0.0
    eps: float = 1e-5

    def __post_init__(self) -> None:
        def positive(value: Any) -> bool:
            return value is None or value > 0

        def rate(value: Any) -> bool:
            return bool(0 <= value < 1)

        tables: dict[str, Any] = {"norm": _NORMS, "placement": _PLACES, "attention": _KINDS}
        tables["activation"] = activations.ACTIVATIONS
        conditions: dict[str, Callable[[Any], bool]] = {name: table.__contains__ for name, table in tables.items()}
        sizes = ("embed_dim", "num_heads", "num_kv_heads", "hidden_dim", "window", "eps")
        conditions |= dict.fromkeys(sizes, positive) | dict.fromkeys(("dropout", "attention_dropout"), rate)
        values = asdict(self)
        for name, holds in conditions.items():
            if not holds(values[name]):
                known = f" (known: {' '.join(tables[name])})" if name in tables else ""
                raise ValueError(f"{name} cannot be {values[name]}{known}")
        heads = {"embed_dim": self.embed_dim, "num_heads": self.num_heads}
        heads |= {} if self.num_kv_heads is None else {"num_kv_heads": self.num_kv_heads}
        for one, other in zip(heads, list(heads)[1:], strict=False):
            if divmod(heads[one], heads[other])[1]:
                raise ValueError(f"{one}={heads[one]} cannot be shared out by {other}={heads[other]}")
        if (self.attention == "sliding_window") is not (self.window is not None):
            raise ValueError(f"attention is {self.attention} and window is {self.window}")


class TransformerBlock(nn.Module):
    """What is chosen by name is chosen when the block is made."""

    def __init__(self, config: BlockConfig) -> None:
        super().__init__()
        self.config = config
        for name in ("ln_1", "ln_2"):
            self.add_module(name, _NORMS[config.norm](config))
        sizes: dict[str, Any] = {"bias": config.bias, "dropout": config.attention_dropout}
        sizes["causal"] = config.attention == "causal"
        self.attn = multi_head.MultiHeadAttention(
            config.embed_dim, config.num_heads, num_kv_heads=config.num_kv_heads or config.num_heads, **sizes
        )
        network = replace(config, hidden_dim=config.hidden_dim or 4 * config.embed_dim)
        self.mlp = feed_forward.FeedForward(
            network.embed_dim,
            network.hidden_dim,
            gated=network.gated,
            bias=network.bias,
            activation=network.activation,
        )
        self.drops = nn.ModuleList(regularization.Dropout(config.dropout) for _ in range(2))
        self._step = _PLACES[config.placement]

    def forward(self, x: Tensor, mask: Tensor | None = None, *, cache: efficient.KVCache | None = None) -> Tensor:
        """Two steps."""
        own, bias = _KINDS[self.config.attention](self.config, x, 0 if cache is None else cache.length)
        seen = own if mask is None else mask if own is None else mask.logical_and(own)
        attend = functools.partial(self.attn, mask=seen, bias=bias, cache=cache)
        for norm, sublayer, drop in zip((self.ln_1, self.ln_2), (attend, self.mlp), self.drops, strict=True):
            x = self._step(x, norm, sublayer, drop)
        return x
