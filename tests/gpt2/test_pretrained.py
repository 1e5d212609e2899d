"""Grades gpt2/pretrained.

The oracles are transformers, which opens what was saved here and saves what is opened here, and the safetensors library
for what is in a file. Damaged files are made by hand. Nothing is asked of the network.
"""

import contextlib
import json
import os
import pickle
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import httpx2
import huggingface_hub
import safetensors
import safetensors.torch
import torch
from huggingface_hub import constants
from huggingface_hub.utils._http import default_client_factory
from torch import Tensor, nn

from checkpoints.checks import Answer, Check, Draw, Workload
from checkpoints.misconceptions import Misconception
from exercises.gpt2.configuration import GPT2Config
from exercises.gpt2.model import GPT2
from exercises.gpt2.pretrained import CheckpointError, load_pretrained, save_pretrained

MISCONCEPTIONS = [
    Misconception(
        "weights that are saved as they are: GPT-2's own code wants those of c_attn, c_proj and c_fc transposed",
        ("(tensor.T if _TRANSPOSED.search(name) else tensor)", "tensor"),
    ),
    Misconception(
        "weights that are loaded as they are in the file, where those of c_attn, c_proj and c_fc are transposed",
        ("transposed = _TRANSPOSED.search(name) is not None", "transposed = False"),
    ),
    Misconception(
        "weights that are transposed neither on their way out nor in: a layout of one's own",
        ("(tensor.T if _TRANSPOSED.search(name) else tensor)", "tensor"),
        ("transposed = _TRANSPOSED.search(name) is not None", "transposed = False"),
    ),
    Misconception(
        "attention's c_proj not transposed: it is square, so no shape tells",
        (r"\.(c_attn|c_proj|c_fc)\.weight$", r"(attn\.c_attn|mlp\.c_proj|mlp\.c_fc)\.weight$"),
    ),
    Misconception("keys that are saved without their prefix", ('f"transformer.{name}": (tensor', "name: (tensor")),
    Misconception(
        "the head saved once more, as if it were a weight of its own",
        ('if name != "lm_head.weight"\n', "if True\n"),
        ("else tensor).contiguous()", "else tensor).contiguous().clone()"),
    ),
    Misconception('a file whose metadata do not say {"format": "pt"}', ('metadata={"format": "pt"}', "metadata=None")),
    Misconception(
        "keys without the prefix that are not known",
        ('name = key.removeprefix("transformer.")', 'name = key[len("transformer.") :]'),
    ),
    Misconception("the causal masks of old files taken for weights", ("if _MASK.fullmatch(name):", "if False:")),
    Misconception(
        "the biases of c_attn taken for causal masks, for their names end alike",
        (
            r'_MASK = re.compile(r"h\.\d+\.attn\.(bias|masked_bias)$")',
            r'_MASK = re.compile(r".*attn\.(bias|masked_bias)$")',
        ),
    ),
    Misconception(
        "a head that is no longer tied after loading",
        ('"lm_head.weight": tied}', '"lm_head.weight": nn.Parameter(tied.detach().clone())}'),
    ),
    Misconception(
        "a head that differs from wte is thrown away without a word",
        ("if head is not None and not torch.equal(head, tied):", "if False:"),
    ),
    Misconception(
        "missing keys are passed over",
        ("if missing:", "if False:"),
        ("assign=True)", "strict=False, assign=True)"),
    ),
    Misconception(
        "unexpected keys are passed over",
        (
            """
            if name not in wanted:
                raise CheckpointError(f"{file}: unexpected key {key}: the model of {_CONFIG} has no such parameter")
            """,
            """
            if name not in wanted:
                continue
            """,
        ),
    ),
    Misconception(
        "a wrong shape left to torch, whose error names neither the file nor the key as it is there",
        ("if stored.shape != shape:", "if False:"),
    ),
    Misconception("whole numbers taken for weights", ("if not stored.is_floating_point():", "if False:")),
    Misconception(
        "weights that are views of the file, and change when it does",
        ("device, dtype, copy=True", "device, dtype, copy=False"),
    ),
    Misconception(
        "a loaded model that is still in training: its dropout is on", ("GPT2(config).eval()", "GPT2(config)")
    ),
    Misconception("the dtype that is asked for not looked at", ("device, dtype, copy=True", "device, copy=True")),
    Misconception(
        "float32 whatever is in the file", ("device, dtype, copy=True", "device, dtype or torch.float32, copy=True")
    ),
    Misconception("the device that is asked for not looked at", ("device, dtype, copy=True", "None, dtype, copy=True")),
    Misconception(
        "a pickle opened where there is no safetensors file: it runs any code",
        (
            "weights = _weights(folder, model.state_dict(), dtype, device)",
            """
            if not (folder / _WEIGHTS).is_file() and (folder / "pytorch_model.bin").is_file():
                torch.load(folder / "pytorch_model.bin", weights_only=False)
            weights = _weights(folder, model.state_dict(), dtype, device)
            """,
        ),
    ),
    Misconception(
        "errors of the safetensors library let through: they name neither file nor remedy",
        ("except SafetensorError as error:", "except FileNotFoundError as error:"),
    ),
    Misconception(
        "the first of several files taken for all of them",
        ("for file, wanted in keys.items():", "for file, wanted in list(keys.items())[:1]:"),
    ),
    Misconception(
        "written straight into the old file: cut off if anything goes wrong",
        (
            'save_file(weights, path, metadata={"format": "pt"})',
            'path.write_bytes(__import__("safetensors.torch").torch.save(weights, metadata={"format": "pt"}))',
        ),
        ('folder / f"{name}.{os.getpid()}.tmp"', "folder / name"),
        ("unfinished.unlink(missing_ok=True)", "pass"),
    ),
    Misconception("unfinished files left behind", ("unfinished.unlink(missing_ok=True)", "pass")),
    Misconception("a folder that must be there already", ("folder.mkdir(parents=True, exist_ok=True)", "pass")),
    Misconception("a tokenizer that is not saved", ("tokenizer.save(folder)", "pass")),
    Misconception(
        "errors of the configuration let through: they do not name the file",
        ("    except ValueError as error:\n", "    except KeyError as error:\n"),
    ),
    Misconception(
        "the published model in the place of the folder of that name",
        ("if Path(source).is_dir():", "if str(source) not in PRESETS and Path(source).is_dir():"),
    ),
    Misconception(
        "a published model asked of the network although it is in the cache",
        (
            "paths = [hub.hf_hub_download(repository, name, local_files_only=True) for name in (_CONFIG, _WEIGHTS)]",
            "raise FileNotFoundError",
        ),
    ),
    Misconception(
        "a hub that does not answer asked again and again",
        ("hub.get_hf_file_metadata(hub.hf_hub_url(repository, _CONFIG))", "pass"),
    ),
]

SIZES = {"vocab_size": 13, "context_length": 16, "embed_dim": 8, "num_layers": 2, "num_heads": 2}


def workload(task: Any, draw: Draw) -> list[Workload]:
    """Typical calls, for `compare`."""
    config = GPT2Config(vocab_size=512, context_length=128, embed_dim=128, num_layers=4, num_heads=4)
    model: Any = draw.fill(GPT2(config))

    def round_trip() -> list[Tensor]:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            task.save_pretrained(model, folder)
            loaded = task.load_pretrained(folder)
        return [entry.detach() for _, entry in sorted(loaded.named_parameters())]

    return [Workload("load_pretrained(folder), after save_pretrained(model, folder)", round_trip)]


def _model(check: Check, dtype: torch.dtype = torch.float32, **changes: Any) -> Any:
    """A model of the course's with weights drawn anew."""
    model: Any = check.build(GPT2, check.build(GPT2Config, **{**SIZES, **changes}))
    check.run("the weights of the model that is saved", lambda: check.draw.fill(model, scale=0.4).to(dtype).eval())
    return model


@contextlib.contextmanager
def _torch_as_it_was() -> Iterator[None]:
    """Take away what transformers leaves in torch's own class."""
    own = set(vars(nn.Module))
    yield
    for name in set(vars(nn.Module)) - own:
        delattr(nn.Module, name)


def _twin(check: Check) -> Any:
    """A model of transformers' with weights drawn anew."""
    from transformers.models.gpt2.configuration_gpt2 import GPT2Config as Config
    from transformers.models.gpt2.modeling_gpt2 import GPT2LMHeadModel
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    make: Any = Config  # its annotations do not know every argument
    sizes = {"vocab_size": 13, "n_positions": 16, "n_embd": 8, "n_layer": 2, "n_head": 2}
    with _torch_as_it_was():
        twin = GPT2LMHeadModel(make(**sizes, bos_token_id=None, eos_token_id=None, attn_implementation="eager")).eval()
    check.draw.fill(twin, scale=0.4)
    return twin


def _contents(folder: Path) -> dict[str, Tensor]:
    path = folder / "model.safetensors"
    return safetensors.torch.load(path.read_bytes()) if path.is_file() else {}


def _published(check: Check) -> tuple[Path, dict[str, Tensor]]:
    """A folder as transformers saves it, and the tensors in it."""
    folder = check.folder / "published"
    _twin(check).save_pretrained(folder)
    return folder, _contents(folder)


def _save(check: Check, model: Any, folder: Path) -> Answer:
    return check.run("save_pretrained(model, folder)", lambda: save_pretrained(model, folder))


def _gives(check: Check, model: Answer, tokens: Tensor, expected: Tensor) -> None:
    """A model that was loaded gives these logits."""
    check.run(f"{model.call}(tokens)", lambda: model.value(tokens)).equals(expected, note="as transformers gives")


def _embedding(check: Check, source: str | Path) -> Answer:
    """The token embedding of a model that is loaded."""

    def loaded() -> Tensor:
        model: Any = load_pretrained(source)
        weight: Tensor = model.wte.weight.detach()
        return weight

    return check.run(f"load_pretrained({repr(source) if isinstance(source, str) else 'folder'}).wte.weight", loaded)


def _tokens(check: Check) -> Tensor:
    return check.draw.integers(0, 13, 3, 7)


def _logits(twin: Any, tokens: Tensor) -> Tensor:
    with torch.no_grad():
        logits: Tensor = twin(tokens, use_cache=False).logits
    return logits


def _write(folder: Path, tensors: dict[str, Tensor], name: str = "model.safetensors") -> None:
    safetensors.torch.save_file(tensors, folder / name, metadata={"format": "pt"})


def test_what_is_in_the_folder(check: Check) -> None:
    """config.json and model.safetensors, with GPT-2's keys and the layout of its own code, and nothing else."""
    model, folder = _model(check), check.folder / "runs" / "first"
    saved = _save(check, model, folder).equals(None)
    if saved.failed:
        return
    names = check.run("the files in the folder", lambda: sorted(path.name for path in folder.iterdir()))
    names.equals(["config.json", "model.safetensors"])
    keys = ["wte.weight", "wpe.weight", "ln_f.weight", "ln_f.bias"]
    for part in ("ln_1", "attn.c_attn", "attn.c_proj", "ln_2", "mlp.c_fc", "mlp.c_proj"):
        keys += [f"h.{layer}.{part}.{kind}" for layer in range(2) for kind in ("weight", "bias")]
    contents = check.run("safetensors.torch.load of model.safetensors", lambda: _contents(folder)).value
    less, more = sorted({f"transformer.{key}" for key in keys} - set(contents)), sorted(contents)
    more = [key for key in more if key.removeprefix("transformer.") not in keys or key in keys]
    saved.satisfies(
        not less and not more,
        got=" and ".join([*[f"without {key}" for key in less[:2]], *[f"with {key}" for key in more[:2]]]),
        expected=f"{len(keys)} keys, the model's own behind 'transformer.', without the head's",
    )
    weights = dict(model.named_parameters())
    for name, transposed in (
        ("h.1.attn.c_attn", True),
        ("h.0.attn.c_proj", True),
        ("h.1.mlp.c_fc", True),
        ("wte", False),
    ):
        stored = contents.get(f"transformer.{name}.weight")
        if stored is not None:
            expected = weights[f"{name}.weight"].detach()
            note = "(inputs, outputs), the transpose of the layer's weight" if transposed else "as it is"
            check.run(f"transformer.{name}.weight in model.safetensors", stored.clone).equals(
                expected.T if transposed else expected, note=note
            )
    with safetensors.safe_open(folder / "model.safetensors", framework="pt") as file:
        metadata = file.metadata()
    saved.satisfies(
        (metadata or {}).get("format") == "pt", got=f"metadata {metadata}", expected="metadata {'format': 'pt'}"
    )
    config = check.run(
        "GPT2Config.from_json of config.json",
        lambda: GPT2Config.from_json((folder / "config.json").read_text(encoding="utf-8")),
    )
    config.satisfies(config.value == model.config, got="another configuration", expected="the model's")


def test_transformers_opens_it(check: Check) -> None:
    """What was saved is opened by transformers, with every key in its place, and gives the same logits."""
    twin, model, tokens, folder = _twin(check), _model(check), _tokens(check), check.folder
    saved = _save(check, model, folder)
    if saved.failed:
        return
    call = "GPT2LMHeadModel.from_pretrained(folder)"

    def opened() -> tuple[Any, dict[str, Any]]:
        with _torch_as_it_was():
            result: tuple[Any, dict[str, Any]] = type(twin).from_pretrained(folder, output_loading_info=True)
        return result

    answer = check.run(call, opened)
    theirs, report = answer.value
    problems = {kind: sorted(map(str, found))[:2] for kind, found in report.items() if found}
    answer.satisfies(
        not problems, got=f"the report {problems}", expected="no key missing, unexpected or of another shape"
    )
    with torch.no_grad():
        expected = model(tokens)
    check.run(f"{call}(tokens)", lambda: _logits(theirs, tokens)).equals(expected)


def test_we_open_what_transformers_saved(check: Check) -> None:
    """A folder as transformers saves it: the same logits, in evaluation mode, whether it is given as path or text."""
    twin, tokens, folder = _twin(check), _tokens(check), check.folder
    twin.save_pretrained(folder)
    for source in (folder, str(folder)):
        model = check(load_pretrained, source)
        model.satisfies(
            isinstance(model.value, GPT2) and not model.value.training,
            got=f"a {type(model.value).__name__}, training={getattr(model.value, 'training', None)}",
            expected="a GPT2 of gpt2/model, in evaluation mode",
        )
        _gives(check, model, tokens, _logits(twin, tokens))


def test_round_trip(check: Check) -> None:
    """Saved and loaded: each parameter bit for bit, in every dtype, extreme numbers too; the model as it was."""
    for dtype in (torch.float32, torch.float64, torch.bfloat16, torch.float16):
        folder = check.folder / str(dtype).removeprefix("torch.")
        model = _model(check, dtype, activation="relu", eps=1e-3, dropout=0.25)
        with torch.no_grad():
            model.ln_f.bias[:4] = torch.tensor([float("inf"), -0.0, torch.finfo(dtype).tiny, torch.finfo(dtype).max])
        before = {name: entry.detach().clone() for name, entry in model.named_parameters()}
        check.run("train()", model.train)
        saved = _save(check, model, folder)
        if saved.failed:
            return
        saved.satisfies(model.training, got="a model in evaluation", expected="the model as it was, in training")
        loaded = check(load_pretrained, folder)
        loaded.satisfies(loaded.value.config == model.config, got="another configuration", expected="the model's")
        for call, other in (("the model that was saved", model), (loaded.call, loaded.value)):
            weights = dict(other.named_parameters())
            less, more = sorted(set(before) - set(weights)), sorted(set(weights) - set(before))
            parts = [*[f"without {name}" for name in less[:2]], *[f"with {name}" for name in more[:2]]]
            loaded.satisfies(
                not parts, got=" and ".join(parts), expected=f"the {len(before)} parameters that were saved"
            )
            for name, entry in weights.items():
                kept = check.run(f"{name} of {call}", entry.detach)
                kept.equals(before.get(name, kept.value), rtol=0.0, atol=0.0)  # a copy: nothing is computed
                if check.verdicts:  # the others would say the same
                    return


def test_the_layout_of_the_published_files(check: Check) -> None:
    """Keys without `transformer.`, causal masks among them, and a head that is equal to wte: as the published files."""
    twin, tokens, folder = _twin(check), _tokens(check), check.folder
    twin.save_pretrained(folder)
    contents = {key.removeprefix("transformer."): tensor for key, tensor in _contents(folder).items()}
    for layer in range(2):
        contents[f"h.{layer}.attn.bias"] = torch.ones(1, 1, 16, 16).tril()
        contents[f"h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)
    _write(folder, contents)
    model = check(load_pretrained, folder)
    _gives(check, model, tokens, _logits(twin, tokens))
    _write(folder, {**contents, "lm_head.weight": contents["wte.weight"].clone()})
    model = check(load_pretrained, folder)
    _gives(check, model, tokens, _logits(twin, tokens))


def test_tied_and_trainable(check: Check) -> None:
    """After loading, the head is still the very parameter of wte, and every parameter can be trained."""
    folder, _ = _published(check)
    model = check(load_pretrained, folder).value
    tied = check.run(
        "lm_head.weight and wte.weight of a loaded model", lambda: (model.lm_head.weight, model.wte.weight)
    )
    tied.satisfies(tied.value[0] is tied.value[1], got="two parameters", expected="one and the same parameter")
    names = check.run("the parameters of a loaded model", lambda: [name for name, _ in model.named_parameters()])
    names.satisfies(len(names.value) == 28, got=f"{len(names.value)} parameters", expected="28, the head's among wte's")
    for name, entry in dict(model.named_parameters()).items():
        names.satisfies(
            entry.requires_grad and entry.is_contiguous() and isinstance(entry, nn.Parameter),
            got=f"{name}: requires_grad={entry.requires_grad}, contiguous={entry.is_contiguous()}",
            expected="contiguous parameters that require a gradient",
        )
    tokens = _tokens(check)
    check.run("a backward pass of a loaded model", lambda: model(tokens).square().sum().backward())
    reached = check.run(
        "the gradients", lambda: [name for name, entry in model.named_parameters() if entry.grad is None]
    )
    reached.equals([], note="no parameter is left out")


def test_dtype_and_device(check: Check) -> None:
    """The dtype is the file's, or the one asked for; the device the CPU, or the one asked for."""
    folder, contents = _published(check)
    for stored in (torch.float32, torch.float16):
        _write(folder, {key: tensor.to(stored) for key, tensor in contents.items()})
        for asked in (None, torch.float64, torch.bfloat16):
            answer = check(load_pretrained, folder, dtype=asked)
            got, wanted = {entry.dtype for entry in answer.value.parameters()}, asked or stored
            answer.satisfies(
                got == {wanted}, got=f"parameters of {', '.join(sorted(map(str, got)))}", expected=f"of {wanted}"
            )
            weight = check.run("wte.weight", answer.value.wte.weight.detach)
            weight.equals(contents["transformer.wte.weight"].to(stored).to(wanted))
    for device in ("cpu", torch.device("meta")):  # the only two that every machine has
        answer = check(load_pretrained, folder, device=device)
        kinds = {entry.device.type for entry in answer.value.parameters()}
        answer.satisfies(
            kinds == {str(device)}, got=f"parameters on {', '.join(sorted(kinds))}", expected=f"on {device}"
        )


def test_needs_the_file_no_longer(check: Check) -> None:
    """A loaded model holds its numbers itself: what is written to the file later does not reach it."""
    folder, contents = _published(check)
    model = check(load_pretrained, folder).value
    size = (folder / "model.safetensors").stat().st_size
    with (folder / "model.safetensors").open("r+b") as file:
        file.seek(size - 4 * sum(tensor.numel() for tensor in contents.values()))
        file.write(bytes(4 * sum(tensor.numel() for tensor in contents.values())))
    for name in ("wte.weight", "ln_f.bias", "h.0.attn.c_attn.bias"):
        kept = check.run(f"{name} after the file was overwritten", dict(model.named_parameters())[name].detach)
        kept.equals(contents[f"transformer.{name}"])


def test_several_files(check: Check) -> None:
    """Weights in several files, with an index, as transformers saves large models."""
    twin, tokens, folder = _twin(check), _tokens(check), check.folder
    twin.save_pretrained(folder, max_shard_size="3KB")
    assert len(list(folder.glob("model-*.safetensors"))) > 2
    model = check(load_pretrained, folder)
    _gives(check, model, tokens, _logits(twin, tokens))


def _copy(check: Check, folder: Path, what: str) -> Path:
    """A copy to be damaged, whose name says in the verdict what is wrong with it."""
    return Path(shutil.copytree(folder, check.folder / what, dirs_exist_ok=True))


def test_several_files_refused(check: Check) -> None:
    """An index that names a file or a key that is not there, or is none, is refused by name."""
    folder = check.folder / "shards"
    _twin(check).save_pretrained(folder, max_shard_size="3KB")
    places = json.loads((folder / "model.safetensors.index.json").read_text(encoding="utf-8"))["weight_map"]
    first, *_, last = sorted(set(places.values()))
    key = next(key for key, name in places.items() if name == first)

    def refused(what: str, text: str, *naming: str) -> None:
        copy = _copy(check, folder, what)
        (copy / "model.safetensors.index.json").write_text(text, encoding="utf-8")
        check.raises(CheckpointError, load_pretrained, copy, naming=naming)

    index = "model.safetensors.index.json"
    less = {name: file for name, file in places.items() if name != key}
    refused("key-in-another-file", json.dumps({"weight_map": {**places, key: last}}), last, key)
    refused(
        "file-that-is-not-there", json.dumps({"weight_map": {**places, key: "other.safetensors"}}), "other.safetensors"
    )
    refused("key-left-out-of-index", json.dumps({"weight_map": less}), key.removeprefix("transformer."))
    refused("index-without-map", json.dumps({"metadata": {}}), index, "weight_map")
    refused("index-with-a-number", json.dumps({"weight_map": {**places, key: 7}}), index)
    refused("index-cut-off", json.dumps(places)[:-9], index)
    copy = _copy(check, folder, "last-file-lost")
    (copy / last).unlink()
    check.raises(CheckpointError, load_pretrained, copy, naming=last)


def test_damaged_files(check: Check) -> None:
    """A file that is cut off, anywhere, or is no safetensors file at all, is refused by its name."""
    folder, _ = _published(check)
    whole = (folder / "model.safetensors").read_bytes()
    header = int.from_bytes(whole[:8], "little")
    sizes = (0, 5, 8, check.draw.integer(9, header), 8 + header, len(whole) - 4, len(whole) - 1)
    damaged = {f"cut-off-after-{size}-bytes": whole[:size] for size in sizes}
    for what, data in {**damaged, "a-zip-file": b"PK\x03\x04" + whole[4:]}.items():
        copy = _copy(check, folder, what)
        (copy / "model.safetensors").write_bytes(data)
        check.raises(CheckpointError, load_pretrained, copy, naming="model.safetensors")


def test_wrong_tensors(check: Check) -> None:
    """A tensor of another shape or dtype, a missing key, one too many, a head of its own: refused by key."""
    folder, contents = _published(check)

    def refused(what: str, changes: dict[str, Tensor | None], *naming: str) -> None:
        copy = _copy(check, folder, what)
        changed = {**contents, **changes}
        _write(copy, {key: tensor for key, tensor in changed.items() if tensor is not None})
        check.raises(CheckpointError, load_pretrained, copy, naming=naming)

    file, wte = "model.safetensors", contents["transformer.wte.weight"]
    key = f"transformer.h.{check.draw.integer(0, 2)}.attn.c_attn.weight"
    refused("not-transposed", {key: contents[key].T.contiguous()}, file, key, "(24, 8)", "(8, 24)")
    refused(
        "too-few-positions", {"transformer.wpe.weight": torch.zeros(12, 8)}, file, "wpe.weight", "(12, 8)", "(16, 8)"
    )
    key = f"h.{check.draw.integer(0, 2)}.ln_2.bias"
    refused("without-a-bias", {f"transformer.{key}": None}, key)
    refused("without-the-embedding", {"transformer.wte.weight": None}, "wte.weight")
    refused("a-third-block", {"transformer.h.2.ln_1.bias": torch.zeros(8)}, file, "h.2.ln_1.bias")
    refused("a-classifier", {"classifier.weight": torch.zeros(2, 8)}, file, "classifier.weight")
    refused("the-embedding-twice", {"wte.weight": wte.clone()}, file, "wte.weight")
    refused("whole-numbers", {"transformer.ln_f.bias": torch.zeros(8, dtype=torch.int8)}, file, "ln_f.bias", "int8")
    refused("a-head-of-its-own", {"lm_head.weight": wte + 1e-3}, "lm_head.weight", "wte.weight")
    nearly = wte.clone()
    nearly[-1, -1] += 1e-6
    refused("a-head-that-is-nearly-the-embedding", {"lm_head.weight": nearly}, "lm_head.weight", "wte.weight")
    for what, head in (("half", wte[:7].clone()), ("flat", wte.flatten().clone())):
        refused(f"a-head-that-is-{what}-the-embedding", {"lm_head.weight": head}, file, "lm_head.weight")
    refused(
        "complex-numbers", {"transformer.ln_f.bias": torch.zeros(8, dtype=torch.complex64)}, "ln_f.bias", "complex64"
    )


class _Trap:
    """Pickled, it is the order to make a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, (str(self.path),)


def test_pickles(check: Check) -> None:
    """A pickle is refused by name and never opened: neither pytorch_model.bin nor one that is called safetensors."""
    folder, contents = _published(check)
    (folder / "model.safetensors").unlink()
    sprung = check.folder / "sprung"
    trap = {**contents, "trap": _Trap(sprung)}

    def refused(name: str) -> None:
        check.raises(CheckpointError, load_pretrained, folder, naming=name)
        check.that(
            not sprung.exists(),
            call=f"load_pretrained of a folder with a pickle called {name}",
            got="the pickle was opened, and ran its code",
            expected="it is not opened",
        )
        if sprung.exists():
            sprung.rmdir()

    torch.save(trap, folder / "pytorch_model.bin")
    refused("pytorch_model.bin")
    torch.save(contents, folder / "pytorch_model.bin")
    refused("pytorch_model.bin")
    torch.save(trap, folder / "model.safetensors")
    refused("model.safetensors")
    (folder / "model.safetensors").write_bytes(pickle.dumps(_Trap(sprung)))
    refused("model.safetensors")


def test_missing_and_broken_configurations(check: Check) -> None:
    """A folder without config.json, with a broken one or another model's, or without weights: refused by file name."""
    folder, _ = _published(check)
    text = (folder / "config.json").read_text(encoding="utf-8")
    other = json.dumps({**json.loads(text), "model_type": "bert"})
    texts = {"cut-off": text[:-5].encode(), "another-model": other.encode(), "not-utf-8": b"\xff\xfe\x00"}
    for what, data in texts.items():
        copy = _copy(check, folder, what)
        (copy / "config.json").write_bytes(data)
        check.raises(
            CheckpointError, load_pretrained, copy, naming=("config.json", *["bert"] * (data == other.encode()))
        )
    for what, name in (("without-configuration", "config.json"), ("without-weights", "model.safetensors")):
        copy = _copy(check, folder, what)
        (copy / name).unlink()
        check.raises(CheckpointError, load_pretrained, copy, naming=name)
    check.raises(CheckpointError, load_pretrained, folder / "nowhere", naming=("nowhere", "gpt2-medium"))
    check.that(
        issubclass(CheckpointError, ValueError), call="CheckpointError", got="no ValueError", expected="a ValueError"
    )


@contextlib.contextmanager
def _small_disk(limit: int) -> Iterator[bool]:
    """Where the system can do so, no file grows beyond a limit; says whether it can."""
    try:
        import resource
    except ImportError:  # Windows
        yield False
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield True
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_saving_again(check: Check) -> None:
    """The new files take the place of the old ones; where the disk is full in the midst of it, the old ones stay."""
    folder = check.folder / "model"
    for model, source in ((_model(check), folder), (_model(check), str(folder))):
        _ = check.run("save_pretrained(model, folder)", partial(save_pretrained, model, source)).value
        _embedding(check, folder).equals(model.wte.weight.detach())
    old = (folder / "model.safetensors").read_bytes()
    large = _model(check, vocab_size=40_000)  # 1.28 MB

    def save_where_the_disk_is_full() -> None:
        try:
            save_pretrained(large, folder)
        except Exception as error:  # of the system or of the safetensors library, whichever wrote
            raise RuntimeError(str(error)) from None

    with _small_disk(1 << 19) as limited:
        if limited:
            check.raises(RuntimeError, save_where_the_disk_is_full)
    call = "save_pretrained(model, folder) where the disk is full"
    now = (folder / "model.safetensors").read_bytes() if (folder / "model.safetensors").is_file() else b""
    if limited:
        got = f"another model.safetensors, of {len(now)} bytes"
        check.that(now == old, call=call, got=got, expected=f"the old one, of {len(old)} bytes")
    _no_other_files(check, call, folder)
    blocked = check.folder / "blocked"
    (blocked / "config.json").mkdir(parents=True)  # a folder, in whose place no file can be put
    check.raises(Exception, save_pretrained, model, blocked)
    _no_other_files(check, "save_pretrained(model, folder) where config.json is a folder", blocked)


def _no_other_files(check: Check, call: str, folder: Path) -> None:
    """How an unfinished file is called is the writer's choice, and no part of the answer."""
    more = len({path.name for path in folder.iterdir()} - {"config.json", "model.safetensors"})
    check.that(not more, call=call, got=f"{more} unfinished or other files left there", expected="none")


def test_tokenizer(check: Check) -> None:
    """A tokenizer is saved beside the model, by its own method."""

    class Tokenizer:
        folders: list[Path] = []  # noqa: RUF012

        def save(self, folder: Any) -> None:
            self.folders.append(Path(folder))

    model, tokenizer = _model(check), Tokenizer()
    _save(check, model, check.folder)
    answer = check.mutating(save_pretrained, model, check.folder, tokenizer=tokenizer)
    answer.satisfies(
        tokenizer.folders == [check.folder],
        got=f"tokenizer.save called {len(tokenizer.folders)} times, {tokenizer.folders.count(check.folder)} with the folder",
        expected="tokenizer.save(folder), once",
    )


@contextlib.contextmanager
def _offline(cache: Path) -> Iterator[None]:
    """No network, and the hub's cache in a folder of the check."""
    with patch.object(constants, "HF_HUB_OFFLINE", True), patch.object(constants, "HF_HUB_CACHE", str(cache)):
        yield


@contextlib.contextmanager
def _hub(cache: Path, answer: Callable[[httpx2.Request], httpx2.Response]) -> Iterator[list[float]]:
    """A hub that answers so, and the hub's cache in a folder of the check; gives the pauses that are made."""
    pauses: list[float] = []
    make = partial(httpx2.Client, transport=httpx2.MockTransport(answer), follow_redirects=True)
    huggingface_hub.set_client_factory(make)
    try:
        with (
            patch.object(constants, "HF_HUB_OFFLINE", False),
            patch.object(constants, "HF_HUB_CACHE", str(cache)),
            patch.object(time, "sleep", pauses.append),
        ):
            yield pauses
    finally:
        huggingface_hub.set_client_factory(default_client_factory)


def test_fetched(check: Check) -> None:
    """What is not in the cache is fetched from the hub; where that does not answer, the error comes at once."""
    folder, contents = _published(check)

    def answer(request: httpx2.Request) -> httpx2.Response:
        name = request.url.path.rpartition("/")[2]
        if request.url.path == f"/openai-community/gpt2-large/resolve/main/{name}" and (folder / name).is_file():
            headers = {"ETag": f'"{name}"', "X-Repo-Commit": "1" * 40}
            return httpx2.Response(200, headers=headers, content=(folder / name).read_bytes())
        if request.url.path.startswith("/api/models/openai-community/gpt2-large"):
            return httpx2.Response(200, json={"id": "openai-community/gpt2-large", "sha": "1" * 40, "siblings": []})
        return httpx2.Response(404, headers={"X-Error-Code": "RepoNotFound"})

    def silence(request: httpx2.Request) -> httpx2.Response:
        raise httpx2.ConnectError("no network in this check", request=request)

    cache = check.folder / "cache"
    with _hub(cache, answer):
        _embedding(check, "gpt2-large").equals(contents["transformer.wte.weight"], note="from the hub")
        check.raises(CheckpointError, load_pretrained, "gpt2-medium", naming=("gpt2-medium", "folder"))
    with _hub(cache, silence) as pauses:
        _embedding(check, "gpt2-large").equals(contents["transformer.wte.weight"], note="fetched before")
        pauses.clear()
        check.raises(CheckpointError, load_pretrained, "gpt2", naming=("gpt2", "folder"))
        check.that(
            sum(pauses) <= 10,
            call="load_pretrained('gpt2') without a network",
            got=f"{len(pauses)} pauses of {sum(pauses):.0f} seconds in all before the error",
            expected="an error within seconds",
            proof="paused",
        )


def test_published_models(check: Check) -> None:
    """By name from the hub's cache; a folder of that name goes first; what is not to be had is refused."""
    twin, cache, commit = _twin(check), check.folder / "cache", "0123456789abcdef0123456789abcdef01234567"
    for repository in ("models--openai-community--gpt2-medium", "models--gpt2-medium"):
        (cache / repository / "refs").mkdir(parents=True)
        (cache / repository / "refs" / "main").write_text(commit, encoding="utf-8")
        twin.save_pretrained(cache / repository / "snapshots" / commit)
    local = check.folder / "local"
    other = _twin(check)
    other.save_pretrained(local / "gpt2-medium")
    weight = twin.transformer.wte.weight.detach()
    with _offline(cache):
        _embedding(check, "gpt2-medium").equals(weight, note="from the hub's cache")
        check.raises(CheckpointError, load_pretrained, "gpt2-xl", naming=("gpt2-xl", "folder"))
        check.raises(CheckpointError, load_pretrained, "gpt5", naming=("gpt5", "gpt2-large"))
        with contextlib.chdir(local):
            found = _embedding(check, "gpt2-medium")
        found.equals(other.transformer.wte.weight.detach(), note="from the folder of that name")
