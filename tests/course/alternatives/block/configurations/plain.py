"""Plain: the sums are written out where they are, each kind of attention has its branch, no type hints."""

from dataclasses import dataclass

import torch
from torch import nn

from ..attention.multi_head import MultiHeadAttention
from ..attention.patterns import alibi_slopes
from ..networks.activations import ACTIVATIONS
from ..networks.regularization import Dropout
from .feed_forward import FeedForward
from .layer_norm import LayerNorm, RMSNorm

NORMS = ("layer_norm", "rms_norm")
ATTENTIONS = ("causal", "full", "sliding_window", "alibi")


@dataclass(frozen=True)
class BlockConfig:
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

    def __post_init__(self):
        if self.norm not in NORMS:
            raise ValueError("norm %r: there are %s" % (self.norm, NORMS))
        if self.placement != "pre" and self.placement != "post":
            raise ValueError("placement %r: there are pre and post" % self.placement)
        if self.activation not in ACTIVATIONS:
            raise ValueError("activation %r: there are %s" % (self.activation, list(ACTIVATIONS)))
        if self.attention not in ATTENTIONS:
            raise ValueError("attention %r: there are %s" % (self.attention, ATTENTIONS))
        if self.embed_dim < 1:
            raise ValueError("embed_dim is %s" % self.embed_dim)
        if self.num_heads < 1:
            raise ValueError("num_heads is %s" % self.num_heads)
        if self.num_kv_heads is not None and self.num_kv_heads < 1:
            raise ValueError("num_kv_heads is %s" % self.num_kv_heads)
        if self.hidden_dim is not None and self.hidden_dim < 1:
            raise ValueError("hidden_dim is %s" % self.hidden_dim)
        if self.embed_dim % self.num_heads:
            raise ValueError("embed_dim %s is no multiple of num_heads %s" % (self.embed_dim, self.num_heads))
        if self.num_kv_heads is not None and self.num_heads % self.num_kv_heads:
            raise ValueError("num_heads %s is no multiple of num_kv_heads %s" % (self.num_heads, self.num_kv_heads))
        if self.attention == "sliding_window":
            if self.window is None:
                raise ValueError("attention sliding_window, but window is None")
            if self.window < 1:
                raise ValueError("window is %s" % self.window)
        elif self.window is not None:
            raise ValueError("window is %s, but attention is %s" % (self.window, self.attention))
        if not (self.dropout >= 0 and self.dropout < 1):
            raise ValueError("dropout is %s" % self.dropout)
        if not (self.attention_dropout >= 0 and self.attention_dropout < 1):
            raise ValueError("attention_dropout is %s" % self.attention_dropout)
        if not self.eps > 0:
            raise ValueError("eps is %s" % self.eps)


class TransformerBlock(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        if config.norm == "layer_norm":
            self.ln_1 = LayerNorm(config.embed_dim, eps=config.eps, bias=config.bias)
            self.ln_2 = LayerNorm(config.embed_dim, eps=config.eps, bias=config.bias)
        else:
            self.ln_1 = RMSNorm(config.embed_dim, eps=config.eps)
            self.ln_2 = RMSNorm(config.embed_dim, eps=config.eps)
        self.attn = MultiHeadAttention(
            config.embed_dim,
            config.num_heads,
            num_kv_heads=config.num_kv_heads,
            bias=config.bias,
            dropout=config.attention_dropout,
        )
        hidden = config.hidden_dim
        if hidden is None:
            hidden = config.embed_dim * 4
        self.mlp = FeedForward(
            config.embed_dim, hidden, activation=config.activation, gated=config.gated, bias=config.bias
        )
        self.dropout = Dropout(config.dropout)

    def attend(self, x, mask, cache):
        length = x.size(1)
        past = 0
        if cache is not None:
            past = cache.length
        # How far back each key lies, row by row of the queries; what comes later lies at negative distances.
        queries = torch.arange(past, past + length, device=x.device).reshape(length, 1)
        distance = queries - torch.arange(past + length, device=x.device)
        bias = None
        if self.config.attention == "full":
            seen = distance == distance
        else:
            seen = distance >= 0
        if self.config.attention == "sliding_window":
            seen = seen & (distance < self.config.window)
        if self.config.attention == "alibi":
            slopes = alibi_slopes(self.config.num_heads, dtype=x.dtype, device=x.device)
            bias = -slopes.reshape(-1, 1, 1) * distance.to(x.dtype)
        if mask is not None:
            seen = seen & mask
        return self.attn(x, mask=seen, bias=bias, cache=cache)

    def forward(self, x, mask=None, cache=None):
        if self.config.placement == "pre":
            x = x + self.dropout(self.attend(self.ln_1(x), mask, cache))
            x = x + self.dropout(self.mlp(self.ln_2(x)))
        else:
            x = self.ln_1(x + self.dropout(self.attend(x, mask, cache)))
            x = self.ln_2(x + self.dropout(self.mlp(x)))
        return x
