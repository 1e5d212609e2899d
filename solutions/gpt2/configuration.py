"""What a GPT-2 is made of: one frozen configuration, the four published presets, and JSON both ways.

Symbols: V tokens in the vocabulary (`vocab_size`), T positions (`context_length`), C the width of a token
(`embed_dim`), F the width inside a feed-forward network (`hidden_dim`), L blocks (`num_layers`), H heads (`num_heads`).
"""

import json
import math
from dataclasses import dataclass, fields
from typing import Any

from ..block.configurations import BlockConfig
from ..networks.activations import ACTIVATIONS

# The sizes in which the four differ, for `preset` (Radford et al. 2019, table 2). They share everything else, and the
# heads are not in the table: each has 64 of the C numbers.
PRESETS: dict[str, dict[str, int]] = {
    "gpt2": {"embed_dim": 768, "num_layers": 12, "num_heads": 12},
    "gpt2-medium": {"embed_dim": 1024, "num_layers": 24, "num_heads": 16},
    "gpt2-large": {"embed_dim": 1280, "num_layers": 36, "num_heads": 20},
    "gpt2-xl": {"embed_dim": 1600, "num_layers": 48, "num_heads": 25},
}

# What a field is called in config.json, and what may stand there.
_KEYS: dict[str, tuple[str, tuple[type, ...]]] = {
    "vocab_size": ("vocab_size", (int,)),
    "context_length": ("n_positions", (int,)),
    "embed_dim": ("n_embd", (int,)),
    "num_layers": ("n_layer", (int,)),
    "num_heads": ("n_head", (int,)),
    "hidden_dim": ("n_inner", (int, type(None))),
    "activation": ("activation_function", (str,)),
    "dropout": ("resid_pdrop", (float, int)),
    "attention_dropout": ("attn_pdrop", (float, int)),
    "embedding_dropout": ("embd_pdrop", (float, int)),
    "eps": ("layer_norm_epsilon", (float, int)),
}
# What an activation is called there.
_ACTIVATIONS = {name: name for name in ACTIVATIONS} | {"gelu_tanh": "gelu_new"}
_REQUIRED = ("vocab_size", "context_length", "embed_dim", "num_layers", "num_heads")
# Choices that Hugging Face leaves open, and that GPT-2 has made.
_FIXED: dict[str, Any] = {
    "model_type": "gpt2",
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "tie_word_embeddings": True,
    "add_cross_attention": False,
}


@dataclass(frozen=True)
class GPT2Config:
    """The sizes of a GPT-2. The defaults are those of the smallest that was published (Radford et al. 2019, table 2).

    Args:
        vocab_size: number of tokens V, at least 1.
        context_length: how many positions T there are, the longest text that fits; at least 1.
        embed_dim: width C of the tokens.
        num_layers: number of blocks L, at least 1.
        num_heads: number of heads H, which divides `embed_dim`.
        hidden_dim: width F of the feed-forward networks' hidden layer; 4 * `embed_dim` if None.
        activation: a name in `networks/activations`' ACTIVATIONS.
        dropout: probability of dropping an entry of what a sublayer adds; at least 0 and less than 1.
        attention_dropout: likewise, for an attention weight.
        embedding_dropout: likewise, for an entry of the sum of token and position embedding.
        eps: the layer norms' epsilon, above 0 and finite.

    Raises:
        ValueError: a field has a value that it may not have, or two do not go together. The message names the fields
            and their values, and for an activation that is unknown those that are known.

    Example:
        >>> GPT2Config().num_parameters
        124439808
        >>> GPT2Config(embed_dim=768, num_heads=10)
        Traceback (most recent call last):
            ...
        ValueError: num_heads must divide embed_dim, got num_heads=10 and embed_dim=768
    """

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
    eps: float = 1e-5

    def __post_init__(self) -> None:
        for name in ("vocab_size", "context_length", "num_layers"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0.0 <= self.embedding_dropout < 1.0:
            raise ValueError(f"embedding_dropout must be at least 0 and less than 1, got {self.embedding_dropout}")
        if not self.eps < math.inf:  # nor is NaN, which JSON may bring; the block refuses what is not above 0
            raise ValueError(f"eps must be above 0 and finite, got {self.eps}")
        self.block  # noqa: B018  (a block's configuration refuses what is wrong with the other fields)

    @property
    def block(self) -> BlockConfig:
        """What each of the L blocks is made of; what is not said here stays as `BlockConfig` has it for GPT-2."""
        return BlockConfig(
            self.embed_dim,
            self.num_heads,
            hidden_dim=self.hidden_dim,
            activation=self.activation,
            dropout=self.dropout,
            attention_dropout=self.attention_dropout,
            eps=self.eps,
        )

    @property
    def num_parameters(self) -> int:
        """How many numbers training changes in a model of this configuration, worked out without making one.

        They are those of both embeddings (V C and T C), of the L blocks and of the final norm (2 C). A block has two
        norms (2 C each), attention with `c_attn` (C to 3 C) and `c_proj` (C to C), and the feed-forward network with
        `c_fc` (C to F) and `c_proj` (F to C); each linear layer has a bias. The head has none of its own: its weight is
        the token embedding's.

        Example:
            V = 10, T = 4, C = 2, L = 1 (F = 8): 20 + 8 + (8 + 18 + 6 + 24 + 18) + 4 = 106.

            >>> GPT2Config(10, 4, 2, 1, 1).num_parameters
            106
        """
        width = self.embed_dim
        hidden = 4 * width if self.hidden_dim is None else self.hidden_dim
        norm = 2 * width
        attention = _linear(width, 3 * width) + _linear(width, width)
        feed_forward = _linear(width, hidden) + _linear(hidden, width)
        embeddings = (self.vocab_size + self.context_length) * width
        return embeddings + self.num_layers * (2 * norm + attention + feed_forward) + norm

    def to_json(self) -> str:
        """Write the configuration as Hugging Face's `config.json`, which `transformers` opens as a GPT-2 of its own.

        The keys: `vocab_size`, `n_positions` (`context_length`), `n_embd` (`embed_dim`), `n_layer` (`num_layers`),
        `n_head` (`num_heads`), `n_inner` (`hidden_dim`, null if None), `activation_function`, `resid_pdrop`
        (`dropout`), `attn_pdrop` (`attention_dropout`), `embd_pdrop` (`embedding_dropout`) and `layer_norm_epsilon`
        (`eps`). The activation "gelu_tanh" is called "gelu_new" there, every other as here.

        Besides, `model_type` is "gpt2" and `architectures` ["GPT2LMHeadModel"]; and `bos_token_id` and `eos_token_id`
        are null, for they are the tokenizer's matter: left out, they would be 50256 to `transformers`.

        Returns:
            The text of a JSON object. `from_json` makes an equal configuration of it.
        """
        values = {key: getattr(self, name) for name, (key, _) in _KEYS.items()}
        values["activation_function"] = _ACTIVATIONS[self.activation]
        values |= _FIXED | {"architectures": ["GPT2LMHeadModel"], "bos_token_id": None, "eos_token_id": None}
        return json.dumps(values, indent=2)

    @classmethod
    def from_json(cls, text: str) -> "GPT2Config":
        """Read a `config.json` of Hugging Face's, as the published models have one and as `to_json` writes it.

        `vocab_size`, `n_positions`, `n_embd`, `n_layer` and `n_head` must be there. Of the others that `to_json` names,
        one that is missing has its default. Any key that does not change what the model computes is ignored.

        Args:
            text: of the file.

        Raises:
            ValueError: the text is no JSON, or no JSON object; one of the five keys is missing; a value is of another
                type than that of its field (true is no whole number, 12.0 neither); or it asks for what this GPT-2
                has not: an activation that is unknown (the message has those that are known), `model_type` other than
                "gpt2", `scale_attn_weights` or `tie_word_embeddings` that are not true,
                `scale_attn_by_inverse_layer_idx` or `add_cross_attention` that are not false. The message names the
                key as it is in the file, and its value. Or the values do not make a configuration: as `GPT2Config`.
        """
        try:
            values = json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"the configuration is no JSON: {error}") from error
        if not isinstance(values, dict):
            raise ValueError(f"the configuration must be a JSON object, got {type(values).__name__}")
        for key, only in _FIXED.items():
            if values.get(key, only) != only:
                raise ValueError(f"{key} must be {json.dumps(only)}, got {json.dumps(values[key])}")
        read = {}
        for field in fields(cls):
            key, types = _KEYS[field.name]
            if key in values:
                read[field.name] = _checked(key, values[key], types)
            elif field.name in _REQUIRED:
                raise ValueError(f"the configuration has no {key}")
        if "activation" in read:
            own = {theirs: name for name, theirs in _ACTIVATIONS.items()}
            if read["activation"] not in own:
                raise ValueError(
                    f"activation_function must be one of {', '.join(own)}; got {json.dumps(read['activation'])}"
                )
            read["activation"] = own[read["activation"]]
        return cls(**read)


def preset(name: str, **changes: Any) -> GPT2Config:
    """Give the configuration of a published model, or one that differs from it in some fields.

    Args:
        name: a name in PRESETS.
        **changes: fields of `GPT2Config` that shall be other than the published ones.

    Returns:
        The configuration. PRESETS stays as it is.

    Raises:
        ValueError: the name is unknown; the message has it, and those there are. Or the changes do not make a
            configuration: as `GPT2Config`.

    Example:
        >>> preset("gpt2-xl").num_parameters
        1557611200
        >>> preset("gpt2", context_length=256).context_length
        256
    """
    if name not in PRESETS:
        raise ValueError(f"no preset is called {name!r}; there are {', '.join(PRESETS)}")
    return GPT2Config(**{**PRESETS[name], **changes})


def _linear(inputs: int, outputs: int) -> int:
    """The number of parameters of a linear layer with a bias."""
    return inputs * outputs + outputs


def _checked(key: str, value: Any, types: tuple[type, ...]) -> Any:
    if type(value) not in types:  # and not isinstance: a bool is an int to Python
        raise ValueError(f"{key} must be {' or '.join(kind.__name__ for kind in types)}, got {json.dumps(value)}")
    return value
