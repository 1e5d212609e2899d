"""Plain: every key is written out where it is needed, and one condition follows the other."""

import json
import math
from dataclasses import dataclass

from ..block.configurations import BlockConfig
from ..networks.activations import ACTIVATIONS

PRESETS = {
    "gpt2": dict(embed_dim=768, num_layers=12, num_heads=12),
    "gpt2-medium": dict(embed_dim=1024, num_layers=24, num_heads=16),
    "gpt2-large": dict(embed_dim=1280, num_layers=36, num_heads=20),
    "gpt2-xl": dict(embed_dim=1600, num_layers=48, num_heads=25),
}


def check_rate(name, rate):
    if rate >= 0 and rate < 1:
        return
    raise ValueError("%s is %s, which is no probability that something is dropped with" % (name, rate))


def whole_number(data, key):
    number = data[key]
    if isinstance(number, bool) or not isinstance(number, int):
        raise ValueError("%s: %r is no whole number" % (key, number))
    return number


def any_number(data, key, default):
    if key not in data:
        return default
    number = data[key]
    if isinstance(number, bool) or not isinstance(number, (int, float)):
        raise ValueError("%s: %r is no number" % (key, number))
    return float(number)


@dataclass(frozen=True)
class GPT2Config:
    vocab_size: int = 50257
    context_length: int = 1024
    embed_dim: int = 768
    num_layers: int = 12
    num_heads: int = 12
    hidden_dim: int | None = None
    activation: str = "gelu_tanh"
    dropout: float = 0.1
    attention_dropout: float = 0.1
    embedding_dropout: float = 0.1
    eps: float = 0.00001

    def __post_init__(self):
        if self.vocab_size <= 0:
            raise ValueError("vocab_size is %s: there are no tokens" % self.vocab_size)
        if self.context_length <= 0:
            raise ValueError("context_length is %s: there is no room for a text" % self.context_length)
        if self.num_layers <= 0:
            raise ValueError("num_layers is %s: there are no blocks" % self.num_layers)
        if self.embed_dim <= 0:
            raise ValueError("embed_dim is %s" % self.embed_dim)
        if self.num_heads <= 0:
            raise ValueError("num_heads is %s" % self.num_heads)
        if self.embed_dim % self.num_heads != 0:
            raise ValueError("embed_dim=%s cannot be shared by num_heads=%s" % (self.embed_dim, self.num_heads))
        if self.hidden_dim is not None and self.hidden_dim <= 0:
            raise ValueError("hidden_dim is %s" % self.hidden_dim)
        if self.activation not in ACTIVATIONS:
            raise ValueError("activation %s is not among %s" % (self.activation, list(ACTIVATIONS)))
        check_rate("dropout", self.dropout)
        check_rate("attention_dropout", self.attention_dropout)
        check_rate("embedding_dropout", self.embedding_dropout)
        if math.isnan(self.eps) or math.isinf(self.eps) or self.eps <= 0:
            raise ValueError("eps is %s" % self.eps)

    @property
    def block(self):
        return BlockConfig(
            embed_dim=self.embed_dim,
            num_heads=self.num_heads,
            num_kv_heads=self.num_heads,
            hidden_dim=self.hidden_dim,
            norm="layer_norm",
            placement="pre",
            activation=self.activation,
            gated=False,
            bias=True,
            attention="causal",
            dropout=self.dropout,
            attention_dropout=self.attention_dropout,
            eps=self.eps,
        )

    @property
    def num_parameters(self):
        c = self.embed_dim
        f = self.hidden_dim
        if f is None:
            f = 4 * c
        count = self.vocab_size * c + self.context_length * c
        for _ in range(self.num_layers):
            count += 2 * c  # ln_1
            count += 3 * c * c + 3 * c
            count += c * c + c
            count += 2 * c  # ln_2
            count += c * f + f
            count += f * c + c
        count += 2 * c
        return count

    def to_json(self):
        activation = self.activation
        if activation == "gelu_tanh":
            activation = "gelu_new"
        data = {}
        data["architectures"] = ["GPT2LMHeadModel"]
        data["model_type"] = "gpt2"
        data["vocab_size"] = self.vocab_size
        data["n_positions"] = self.context_length
        data["n_embd"] = self.embed_dim
        data["n_layer"] = self.num_layers
        data["n_head"] = self.num_heads
        data["n_inner"] = self.hidden_dim
        data["activation_function"] = activation
        data["resid_pdrop"] = self.dropout
        data["attn_pdrop"] = self.attention_dropout
        data["embd_pdrop"] = self.embedding_dropout
        data["layer_norm_epsilon"] = self.eps
        data["bos_token_id"] = None
        data["eos_token_id"] = None
        return json.dumps(data)

    @classmethod
    def from_json(cls, text):
        try:
            data = json.loads(text)
        except ValueError as problem:
            raise ValueError("not JSON: " + str(problem))
        if not isinstance(data, dict):
            raise ValueError("an object was expected at the top, not " + text[:20])
        for key in ["vocab_size", "n_positions", "n_embd", "n_layer", "n_head"]:
            if key not in data:
                raise ValueError(key + " is missing")
        if "model_type" in data and data["model_type"] != "gpt2":
            raise ValueError("model_type is %r, which is no GPT-2" % data["model_type"])
        for key in ["scale_attn_weights", "tie_word_embeddings"]:
            if key in data and data[key] is not True:
                raise ValueError("%s is %r and should be true" % (key, data[key]))
        for key in ["scale_attn_by_inverse_layer_idx", "add_cross_attention"]:
            if key in data and data[key] is not False:
                raise ValueError("%s is %r and should be false" % (key, data[key]))
        activation = data.get("activation_function", "gelu_new")
        if activation == "gelu_new":
            activation = "gelu_tanh"
        elif activation == "gelu_tanh" or not isinstance(activation, str) or activation not in ACTIVATIONS:
            names = "gelu_new, " + ", ".join(name for name in ACTIVATIONS if name != "gelu_tanh")
            raise ValueError("activation_function is %r, not one of %s" % (activation, names))
        hidden_dim = None
        if data.get("n_inner") is not None:
            hidden_dim = whole_number(data, "n_inner")
        return cls(
            whole_number(data, "vocab_size"),
            whole_number(data, "n_positions"),
            whole_number(data, "n_embd"),
            whole_number(data, "n_layer"),
            whole_number(data, "n_head"),
            hidden_dim,
            activation,
            any_number(data, "resid_pdrop", 0.1),
            any_number(data, "attn_pdrop", 0.1),
            any_number(data, "embd_pdrop", 0.1),
            any_number(data, "layer_norm_epsilon", 1e-5),
        )


def preset(name, **changes):
    if name not in PRESETS:
        raise ValueError("there is no %s, only %s" % (name, " and ".join(PRESETS)))
    sizes = PRESETS[name].copy()
    sizes.update(changes)
    return GPT2Config(**sizes)
