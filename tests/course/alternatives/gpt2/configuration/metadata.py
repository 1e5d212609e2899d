"""Each field knows its own key and its own conditions, as metadata; parameters are counted as products of shapes."""

from __future__ import annotations

import dataclasses
import json
import operator
from collections.abc import Callable, Iterator
from functools import cached_property
from math import isfinite, prod
from typing import Any

from ..block import configurations
from ..networks.activations import ACTIVATIONS

PRESETS: dict[str, dict[str, int]] = {
    name: {"embed_dim": 64 * heads, "num_layers": layers, "num_heads": heads}
    for name, layers, heads in (
        ("gpt2", 12, 12),
        ("gpt2-medium", 24, 16),
        ("gpt2-large", 36, 20),
        ("gpt2-xl", 48, 25),
    )
}

_TheirName = {"gelu_tanh": "gelu_new"}


def _entry(default: Any, key: str, fits: Callable[[Any], bool], *, needed: bool = False) -> Any:
    return dataclasses.field(default=default, metadata={"key": key, "fits": fits, "needed": needed})


def _size(value: Any) -> bool:
    return type(value) is int and value >= 1


def _rate(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value < 1


@dataclasses.dataclass(frozen=True)
class GPT2Config:
    """As the contract has it."""

    vocab_size: int = _entry(50257, "vocab_size", _size, needed=True)
    context_length: int = _entry(1024, "n_positions", _size, needed=True)
    embed_dim: int = _entry(768, "n_embd", _size, needed=True)
    num_layers: int = _entry(12, "n_layer", _size, needed=True)
    num_heads: int = _entry(12, "n_head", _size, needed=True)
    hidden_dim: int | None = _entry(None, "n_inner", lambda value: value is None or _size(value))
    activation: str = _entry("gelu_tanh", "activation_function", lambda value: value in list(ACTIVATIONS))
    dropout: float = _entry(0.1, "resid_pdrop", _rate)
    attention_dropout: float = _entry(0.1, "attn_pdrop", _rate)
    embedding_dropout: float = _entry(0.1, "embd_pdrop", _rate)
    eps: float = _entry(
        1e-5, "layer_norm_epsilon", lambda value: type(value) in (int, float) and isfinite(value) and value > 0
    )

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = vars(self)[field.name]
            if not field.metadata["fits"](value):
                known = f"; known are {' '.join(ACTIVATIONS)}" if field.name == "activation" else ""
                raise ValueError(f"{field.name} ({field.metadata['key']} in a file) cannot be {value!r}{known}")
        if self.num_heads * (self.embed_dim // self.num_heads) != self.embed_dim:
            raise ValueError(f"embed_dim: {self.embed_dim} numbers, num_heads: {self.num_heads} heads, and a remainder")

    @cached_property
    def block(self) -> configurations.BlockConfig:
        """The fields that both have."""
        both = {field.name for field in dataclasses.fields(configurations.BlockConfig)} & set(vars(self))
        return configurations.BlockConfig(**{name: vars(self)[name] for name in both})

    def _shapes(self) -> Iterator[tuple[int, ...]]:
        width, inner = self.embed_dim, self.hidden_dim or 4 * self.embed_dim
        yield self.vocab_size, width
        yield self.context_length, width
        yield from [(width,)] * 2
        for rows, columns in ((width, 3 * width), (width, width), (width, inner), (inner, width)):
            yield self.num_layers, rows, columns
            yield self.num_layers, columns
        yield from [(self.num_layers, width)] * 4

    @property
    def num_parameters(self) -> int:
        """All of them."""
        return sum(map(prod, self._shapes()))

    def to_json(self) -> str:
        """The object, key by key."""
        text = {field.metadata["key"]: vars(self)[field.name] for field in dataclasses.fields(self)}
        text["activation_function"] = _TheirName.get(self.activation, self.activation)
        text.update(model_type="gpt2", architectures=["GPT2LMHeadModel"], bos_token_id=None, eos_token_id=None)
        return json.dumps(text, sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> GPT2Config:
        """What is read must fit before anything is made of it."""
        try:
            values = json.JSONDecoder().decode(text)
        except json.JSONDecodeError:
            raise ValueError("this cannot be read as JSON") from None
        if not isinstance(values, dict):
            raise ValueError("the text holds no object")
        wanted: dict[str, Any] = {"model_type": "gpt2"}
        wanted |= dict.fromkeys(["scale_attn_weights", "tie_word_embeddings"], True)
        wanted |= dict.fromkeys(["scale_attn_by_inverse_layer_idx", "add_cross_attention"], False)
        for key in values.keys() & wanted.keys():
            if operator.ne(values[key], wanted[key]):
                raise ValueError(f"{key}={values[key]} is another model than {key}={wanted[key]}")
        back = {_TheirName.get(name, name): name for name in ACTIVATIONS}
        found: dict[str, Any] = {}
        for field in dataclasses.fields(cls):
            key = field.metadata["key"]
            if key not in values:
                if field.metadata["needed"]:
                    raise ValueError(f"without {key} the shapes are not known")
                continue
            value = values[key]
            if field.name == "activation":
                if value not in list(back):
                    raise ValueError(f"{key} {value} is unknown, as all but {list(back)}")
                value = back[value]
            if not field.metadata["fits"](value):
                raise ValueError(f"{key} ({field.name} here) cannot be {value}")
            found[field.name] = value
        return cls(**found)


def preset(name: str, **changes: Any) -> GPT2Config:
    """A copy of the published one."""
    try:
        published = GPT2Config(**PRESETS[name])
    except KeyError:
        raise ValueError(f"{name}: published were {sorted(PRESETS)}") from None
    return dataclasses.replace(published, **changes)
