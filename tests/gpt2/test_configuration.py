"""Grades gpt2/configuration.

The oracle is transformers: its models are counted on the meta device, its configuration reads what is written and
writes what is read. Small counts are done by hand.
"""

import dataclasses
import json
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
import transformers
from transformers.activations import ACT2FN

from checkpoints.checks import Answer, Check, Draw, Workload
from checkpoints.misconceptions import Misconception
from exercises.block.configurations import BlockConfig
from exercises.gpt2.configuration import PRESETS, GPT2Config, preset

MISCONCEPTIONS = [
    Misconception(
        "a head with a weight of its own: V C parameters too many",
        (
            "embeddings = (self.vocab_size + self.context_length) * width",
            "embeddings = (2 * self.vocab_size + self.context_length) * width",
        ),
    ),
    Misconception(
        "a count without the position embedding",
        (
            "embeddings = (self.vocab_size + self.context_length) * width",
            "embeddings = self.vocab_size * width",
        ),
    ),
    Misconception(
        "a count without the biases of the linear layers",
        ("return inputs * outputs + outputs", "return inputs * outputs"),
    ),
    Misconception(
        "a count without the final norm",
        (
            "self.num_layers * (2 * norm + attention + feed_forward) + norm",
            "self.num_layers * (2 * norm + attention + feed_forward)",
        ),
    ),
    Misconception("a count with one norm in each block, not two", ("(2 * norm + attention", "(norm + attention")),
    Misconception(
        "a count that takes the hidden layer for 4 C wide, whatever hidden_dim is",
        ("4 * width if self.hidden_dim is None else self.hidden_dim", "4 * width"),
    ),
    Misconception(
        "an activation written by the course's name: transformers knows no gelu_tanh",
        ('| {"gelu_tanh": "gelu_new"}', ""),
    ),
    Misconception(
        "gelu_new taken for the exact GELU; it is the approximation by tanh",
        ('| {"gelu_tanh": "gelu_new"}', '| {"gelu": "gelu_new", "gelu_tanh": "gelu"}'),
    ),
    Misconception(
        "n_head and n_layer exchanged",
        ('"num_layers": ("n_layer"', '"num_layers": ("n_head"'),
        ('"num_heads": ("n_head"', '"num_heads": ("n_layer"'),
    ),
    Misconception(
        "resid_pdrop and embd_pdrop exchanged",
        ('"dropout": ("resid_pdrop"', '"dropout": ("embd_pdrop"'),
        ('"embedding_dropout": ("embd_pdrop"', '"embedding_dropout": ("resid_pdrop"'),
    ),
    Misconception(
        "bos_token_id and eos_token_id left out, so that transformers has 50256 for both",
        (', "bos_token_id": None, "eos_token_id": None}', "}"),
    ),
    Misconception(
        "keys that say another model is meant, passed over like any other",
        ("if values.get(key, only) != only:", "if False:"),
    ),
    Misconception(
        "keys refused because this course has no field for them",
        (
            "read = {}",
            """
            read = {}
            if unknown := values.keys() - json.loads(cls().to_json()).keys():
                raise ValueError(f"unknown: {', '.join(unknown)}")
            """,
        ),
    ),
    Misconception(
        "a missing size filled in from the smallest GPT-2 without a word",
        ("elif field.name in _REQUIRED:", "elif False:"),
    ),
    Misconception(
        "true taken for the number 1, which it is to Python",
        ("if type(value) not in types:", "if not isinstance(value, types):"),
    ),
    Misconception(
        "types that nobody looks at: a size may be text",
        ("if type(value) not in types:", "if False:"),
    ),
    Misconception(
        "a preset whose changes stay in PRESETS, for whoever asks next",
        (
            "return GPT2Config(**{**PRESETS[name], **changes})",
            "PRESETS[name].update(changes)\nreturn GPT2Config(**PRESETS[name])",
        ),
    ),
    Misconception(
        "blocks with the default dropout, whatever the configuration says",
        ("dropout=self.dropout,", ""),
    ),
    Misconception("blocks with an epsilon of their own", ("eps=self.eps,", "")),
    Misconception(
        "a bad configuration refused only when its block is asked for",
        ("self.block  # noqa", "# self.block  # noqa"),
    ),
]

# Published sizes: width, blocks, heads, parameters (with the tied head counted once).
PUBLISHED: dict[str, tuple[int, int, int, int]] = {
    "gpt2": (768, 12, 12, 124_439_808),
    "gpt2-medium": (1024, 24, 16, 354_823_168),
    "gpt2-large": (1280, 36, 20, 774_030_080),
    "gpt2-xl": (1600, 48, 25, 1_557_611_200),
}
THEIRS = {
    "vocab_size": "vocab_size",
    "context_length": "n_positions",
    "embed_dim": "n_embd",
    "num_layers": "n_layer",
    "num_heads": "n_head",
    "hidden_dim": "n_inner",
    "dropout": "resid_pdrop",
    "attention_dropout": "attn_pdrop",
    "embedding_dropout": "embd_pdrop",
    "eps": "layer_norm_epsilon",
}
FUNCTIONS = {
    "relu": torch.relu,
    "leaky_relu": F.leaky_relu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "silu": F.silu,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
}
REQUIRED: dict[str, Any] = {"vocab_size": 10, "n_positions": 4, "n_embd": 6, "n_layer": 1, "n_head": 3}


def workload(task: Any, draw: Draw) -> list[Workload]:
    """Typical calls, for `compare`."""
    text = json.dumps({**REQUIRED, "n_ctx": 4, "activation_function": "gelu"})
    return [
        Workload('preset("gpt2-xl").num_parameters', lambda: task.preset("gpt2-xl").num_parameters),
        Workload("GPT2Config().to_json()", lambda: json.loads(task.GPT2Config().to_json())["n_embd"]),
        Workload("GPT2Config.from_json(text)", lambda: dataclasses.asdict(task.GPT2Config.from_json(text))),
    ]


def _sizes(draw: Draw) -> dict[str, Any]:
    """A small configuration in which no two fields are alike."""
    heads = draw.integer(2, 5)
    rates = [float(rate) / 100 for rate in (draw.permutation(60)[:3] + 1).tolist()]
    return {
        "vocab_size": draw.integer(100, 200),
        "context_length": draw.integer(50, 100),
        "embed_dim": heads * draw.integer(4, 8),
        "num_layers": 5 + draw.integer(0, 3),
        "num_heads": heads,
        "hidden_dim": draw.integer(33, 50),
        "activation": "relu",
        "dropout": rates[0],
        "attention_dropout": rates[1],
        "embedding_dropout": rates[2],
        "eps": draw.integer(2, 9) * 1e-3,
    }


def _fields(check: Check, answer: Answer) -> Answer:
    """All fields of a configuration, as a dict; ends the check where it is none."""
    value = answer.value
    if not isinstance(value, GPT2Config):
        answer.equals("a GPT2Config")
    fields = [field.name for field in dataclasses.fields(GPT2Config)]
    return check.run(f"the fields of {answer.call}", lambda: {name: getattr(value, name) for name in fields})


def _seen(check: Check, call: str, value: Any) -> Answer:
    """A value that the test took out of an answer, to be compared under a name of its own."""
    return check.run(call, lambda: value)


def _value(text: str, key: str) -> Any:
    return json.loads(text)[key]


def _parameters(check: Check, config: Any, call: str) -> Answer:
    return check.run(f"{call}.num_parameters", lambda: config.num_parameters)


def test_parameters_by_hand(check: Check) -> None:
    """V = 10, T = 4, C = 2, one block: 106 parameters; with F = 3, 81; with two blocks of those, 130."""
    config = check.build(GPT2Config, 10, 4, 2, 1, 1)
    _parameters(check, config, "GPT2Config(10, 4, 2, 1, 1)").equals(106, note="20 + 8 + (8 + 18 + 6 + 24 + 18) + 4")
    config = check.build(GPT2Config, 10, 4, 2, 1, 1, 3)
    _parameters(check, config, "GPT2Config(10, 4, 2, 1, 1, 3)").equals(81, note="20 + 8 + (8 + 18 + 6 + 9 + 8) + 4")
    config = check.build(GPT2Config, 10, 4, 2, 2, 1, 3)
    _parameters(check, config, "GPT2Config(10, 4, 2, 2, 1, 3)").equals(130, note="20 + 8 + 2 * 49 + 4")


def test_presets(check: Check) -> None:
    """The four published models: their sizes, and their numbers of parameters."""
    for name, (width, layers, heads, parameters) in PUBLISHED.items():
        answer = check(preset, name)
        fields = _fields(check, answer).value
        expected: dict[str, Any] = {
            "vocab_size": 50257,
            "context_length": 1024,
            "embed_dim": width,
            "num_layers": layers,
        }
        expected |= {"num_heads": heads, "activation": "gelu_tanh", "eps": 1e-5}
        got = {key: fields[key] for key in expected}
        _seen(check, f"the sizes of {answer.call}", got).equals(expected)
        _parameters(check, answer.value, answer.call).equals(parameters, note="as published")
    _seen(check, "sorted(PRESETS)", sorted(PRESETS)).equals(sorted(PUBLISHED))


def test_defaults(check: Check) -> None:
    """Without arguments: the smallest GPT-2, field by field. What has been made cannot be changed."""
    expected: dict[str, Any] = {"vocab_size": 50257, "context_length": 1024, "embed_dim": 768, "num_layers": 12}
    expected |= {"num_heads": 12, "hidden_dim": None, "activation": "gelu_tanh", "eps": 1e-5}
    expected |= {"dropout": 0.1, "attention_dropout": 0.1, "embedding_dropout": 0.1}
    answer = check(GPT2Config)
    _fields(check, answer).equals(expected)
    check.raises(AttributeError, setattr, answer.value, "num_layers", 3)


def test_preset_with_changes(check: Check) -> None:
    """A preset with changes has them and is else as published; PRESETS stays as it is; an unknown name is refused."""
    length, vocabulary = check.draw.integer(100, 200), check.draw.integer(300, 400)
    changed = check(preset, "gpt2-medium", context_length=length, vocab_size=vocabulary, dropout=0.0)
    plain = _fields(check, check(preset, "gpt2-medium"))
    plain.satisfies(
        plain.value["context_length"] == 1024 and plain.value["dropout"] == 0.1,
        got=f"context_length={plain.value['context_length']} and dropout={plain.value['dropout']} the next time",
        expected="the published 1024 and 0.1, whatever was changed for another caller",
    )
    wanted = {**plain.value, "context_length": length, "vocab_size": vocabulary, "dropout": 0.0}
    _fields(check, changed).equals(wanted)
    _fields(check, check(preset, "gpt2-xl", embed_dim=50)).equals(
        {**_fields(check, check(preset, "gpt2-xl")).value, "embed_dim": 50}
    )
    check.raises(ValueError, preset, "gpt3", naming=("gpt3", "gpt2-medium", "gpt2-xl"))


def test_parameters_of_any_size(check: Check) -> None:
    """Against the model of transformers, made without memory: as many parameters, tied weights once."""
    for changes in ({}, {"hidden_dim": None}, {"num_layers": 1, "num_heads": 1}):
        sizes = {**_sizes(check.draw), **changes}
        config = check.build(GPT2Config, **sizes)
        with torch.device("meta"):
            model = transformers.GPT2LMHeadModel(_their_config(sizes))
        count = sum(parameter.numel() for parameter in model.parameters())
        _parameters(check, config, "GPT2Config(...)").equals(count, note=f"of {sizes['num_layers']} blocks")


def _their_config(sizes: dict[str, Any], **more: Any) -> Any:
    """The configuration of transformers of the same sizes."""
    theirs = {key: sizes[name] for name, key in THEIRS.items()}
    return transformers.GPT2Config(**theirs, bos_token_id=None, eos_token_id=None, **more)


def test_block(check: Check) -> None:
    """What a block is made of: the configuration's sizes and rates, and for the rest GPT-2's choices."""
    sizes = _sizes(check.draw)
    config = check.build(GPT2Config, **sizes)
    names = ("embed_dim", "num_heads", "hidden_dim", "activation", "dropout", "attention_dropout", "eps")
    answer = check.run("GPT2Config(...).block", lambda: config.block)
    answer.satisfies(
        isinstance(answer.value, BlockConfig), got=f"a {type(answer.value).__name__}", expected="a BlockConfig"
    )
    block = check.run("the fields of GPT2Config(...).block", lambda: dataclasses.asdict(answer.value))
    expected = {name: sizes[name] for name in names}
    expected |= {"norm": "layer_norm", "placement": "pre", "gated": False, "bias": True, "attention": "causal"}
    # num_kv_heads may be None or the number of heads, which is the same.
    check.run("the fields of GPT2Config(...).block", lambda: {key: block.value[key] for key in expected}).equals(
        expected, note="as the configuration says, or else as in GPT-2"
    )


def test_refuses_bad_sizes(check: Check) -> None:
    """A configuration that makes no sense is refused when it is made; the message names the field and its value."""
    for name in ("vocab_size", "context_length", "num_layers", "embed_dim", "num_heads"):
        for size in (0, -1):
            check.raises(ValueError, GPT2Config, **{name: size}, naming=(name, str(size)))
    check.raises(ValueError, GPT2Config, embed_dim=10, num_heads=4, naming=("num_heads", "4", "10"))
    check.raises(ValueError, GPT2Config, hidden_dim=0, naming=("hidden_dim", "0"))
    check.raises(ValueError, GPT2Config, activation="softmax", naming=("softmax", "gelu_tanh"))
    for name in ("dropout", "attention_dropout", "embedding_dropout"):
        for rate in (1.0, -0.1, float("nan")):
            check.raises(ValueError, GPT2Config, **{name: rate}, naming=(name, str(rate)))
    for eps in (0.0, -1e-5, float("nan"), float("inf")):
        check.raises(ValueError, GPT2Config, eps=eps, naming=("eps", str(eps)))


def test_least_sizes(check: Check) -> None:
    """The least that makes sense is taken: one of everything, no dropout, or nearly nothing else."""
    ones = dict.fromkeys(("vocab_size", "context_length", "embed_dim", "num_layers", "num_heads", "hidden_dim"), 1)
    for rate in (0.0, 0.99):
        rates = dict.fromkeys(("dropout", "attention_dropout", "embedding_dropout"), rate)
        sizes = {**ones, "activation": "relu", **rates, "eps": 1e-12}
        _fields(check, check(GPT2Config, **sizes)).equals(sizes)


def test_json_opens_in_transformers(check: Check) -> None:
    """What to_json wrote opens in transformers, from a folder, as a GPT-2 of the same sizes."""
    for hidden in (check.draw.integer(33, 50), None):
        sizes = {**_sizes(check.draw), "hidden_dim": hidden}
        text = check(check.build(GPT2Config, **sizes).to_json).value
        (check.folder / "config.json").write_text(text, encoding="utf-8")
        call = "AutoConfig.from_pretrained(folder)"
        opened = check.run(call, lambda: transformers.AutoConfig.from_pretrained(check.folder)).value
        theirs = {f"{key}, our {name}": getattr(opened, key, None) for name, key in THEIRS.items()}
        wanted = {f"{key}, our {name}": sizes[name] for name, key in THEIRS.items()}
        _seen(check, "the sizes that transformers reads", theirs).equals(wanted, note="what was written")
        expected = {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]}
        rest = {key: getattr(opened, key, None) for key in expected}
        _seen(check, "the kind of model that transformers reads", rest).equals(expected)
        ends = {key: getattr(opened, key, "none") for key in ("bos_token_id", "eos_token_id")}
        _seen(check, "bos_token_id and eos_token_id that transformers reads", ends).equals(
            dict.fromkeys(ends), note="null in the file: left out, it would be 50256"
        )


def test_json_activations(check: Check) -> None:
    """Every activation is written by the name under which transformers has the same function."""
    x = check.draw.normal(50, dtype=torch.float64, scale=2.0)
    for name, function in FUNCTIONS.items():
        answer = check(check.build(GPT2Config, activation=name).to_json)
        written = check.run("its activation_function", partial(_value, answer.value, "activation_function")).value
        known = check.that(
            written in ACT2FN,
            call=f"GPT2Config(activation={name!r}).to_json()",
            got=f"activation_function {written!r}, which transformers does not know",
            expected="a name that transformers knows",
            proof=written,
        )
        if known:
            _seen(check, f"{written} as transformers has it, for {name}", ACT2FN[written](x)).equals(
                function(x), note=f"{name} as this course has it"
            )


def test_json_by_hand(check: Check) -> None:
    """A file with the five sizes and keys that change nothing; what is missing is as in the smallest GPT-2."""
    more = {"n_ctx": 4, "task_specific_params": {"text-generation": {"max_length": 50}}, "summary_first_dropout": 0.1}
    text = json.dumps({**REQUIRED, "model_type": "gpt2", "n_inner": None, "attn_pdrop": 0, **more})
    read = _fields(check, check(GPT2Config.from_json, text))
    expected: dict[str, Any] = {"vocab_size": 10, "context_length": 4, "embed_dim": 6, "num_layers": 1, "num_heads": 3}
    expected |= {"hidden_dim": None, "activation": "gelu_tanh", "eps": 1e-5}
    read.equals(expected | {"dropout": 0.1, "attention_dropout": 0.0, "embedding_dropout": 0.1})


def test_json_that_transformers_wrote(check: Check) -> None:
    """What transformers writes is read: all of its keys, with any activation."""
    for ours, theirs in (("gelu_tanh", "gelu_new"), ("gelu", "gelu"), ("silu", "silu"), ("relu", "relu")):
        sizes = {**_sizes(check.draw), "activation": ours}
        text = _their_config(sizes, activation_function=theirs).to_json_string(use_diff=False)
        _fields(check, check(GPT2Config.from_json, text)).equals(sizes)


def test_json_both_ways(check: Check) -> None:
    """What to_json wrote, from_json reads, to the last digit of every field; equal, and of equal hash."""
    several: list[dict[str, Any]] = [{}, {"hidden_dim": None, "dropout": 1 / 3, "eps": 1e-12}, {"activation": "gelu"}]
    for changes in several:
        sizes = {**_sizes(check.draw), **changes}
        config = check.build(GPT2Config, **sizes)
        text = check(config.to_json).value
        again = check(GPT2Config.from_json, text)
        _fields(check, again).equals(sizes, rtol=0.0, atol=0.0)  # JSON has as many digits as it takes: nothing is lost
        again.satisfies(
            again.value == config and hash(again.value) == hash(config),
            got="a configuration that is not equal to the one written, or has another hash",
            expected="an equal one",
        )


def _written(value: Any) -> str:
    """What an error may call a value: as JSON has it, or as Python does; a text with or without quotes."""
    return value if isinstance(value, str) else f"{json.dumps(value)}|{value!r}"


def test_json_of_other_models(check: Check) -> None:
    """A key that asks for what this GPT-2 has not is refused by its name."""
    for key, value in (
        ("scale_attn_weights", False),
        ("scale_attn_weights", None),
        ("scale_attn_by_inverse_layer_idx", True),
        ("tie_word_embeddings", False),
        ("add_cross_attention", True),
        ("model_type", "gpt_neo"),
        ("activation_function", "quick_gelu"),
    ):
        words = (key, _written(value), "relu") if key == "activation_function" else (key, _written(value))
        check.raises(ValueError, GPT2Config.from_json, json.dumps({**REQUIRED, key: value}), naming=words)
    for eps in ("NaN", "Infinity"):
        text = json.dumps({**REQUIRED, "layer_norm_epsilon": float(eps)})
        check.raises(ValueError, GPT2Config.from_json, text, naming=("eps", "nan" if eps == "NaN" else "inf"))
    check.raises(ValueError, GPT2Config.from_json, json.dumps({**REQUIRED, "n_head": 4}), naming=("num_heads", "4"))


def test_json_that_is_damaged(check: Check) -> None:
    """Broken JSON, a missing size and a value of another type are refused; the message names the key."""
    check.raises(ValueError, GPT2Config.from_json, json.dumps(REQUIRED)[:-1], naming="JSON")
    check.raises(ValueError, GPT2Config.from_json, "", naming="JSON")
    check.raises(ValueError, GPT2Config.from_json, "[1, 2]", naming="list|array|object")
    for key in REQUIRED:
        text = json.dumps({name: value for name, value in REQUIRED.items() if name != key})
        check.raises(ValueError, GPT2Config.from_json, text, naming=key)
    for key, value in (
        ("n_layer", "1"),
        ("n_layer", True),
        ("n_layer", None),
        ("n_embd", "6"),
        ("n_embd", 6.0),
        ("n_inner", [24]),
    ):
        check.raises(
            ValueError, GPT2Config.from_json, json.dumps({**REQUIRED, key: value}), naming=(key, _written(value))
        )
    for key, other in (("attn_pdrop", "0.1"), ("layer_norm_epsilon", False), ("activation_function", 1)):
        check.raises(
            ValueError, GPT2Config.from_json, json.dumps({**REQUIRED, key: other}), naming=(key, _written(other))
        )
