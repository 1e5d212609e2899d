"""GPT-2 on disk, in the layout that Hugging Face's libraries share: they open what is saved here, and the reverse.

A folder holds `config.json`, the sizes, and `model.safetensors`, the weights: a header that says of each tensor its
name, dtype and shape, and then nothing but numbers. To open it runs no code of whoever made it. A pickle does, and so
none is ever opened here.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from .configuration import PRESETS, GPT2Config
from .model import GPT2

if TYPE_CHECKING:
    from .tokenizer import BPETokenizer

_CONFIG, _WEIGHTS, _INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
# GPT-2's own code multiplies by these from the other side ("Conv1D"): what is stored is the transpose.
_TRANSPOSED = re.compile(r"\.(c_attn|c_proj|c_fc)\.weight$")
# The causal mask, which old versions of the library saved along with the weights.
_MASK = re.compile(r"h\.\d+\.attn\.(bias|masked_bias)$")


class CheckpointError(ValueError):
    """A checkpoint cannot be opened; the message says which file it is, and what is wrong with it."""


def save_pretrained(model: GPT2, folder: str | Path, *, tokenizer: "BPETokenizer | None" = None) -> None:
    """Save a model, so that `load_pretrained` opens it, and `transformers.GPT2LMHeadModel.from_pretrained` too.

    Written are `config.json`, as `GPT2Config.to_json` has it, and `model.safetensors`. There, each parameter is called
    as in the model, after ``transformer.``: ``transformer.h.0.attn.c_attn.weight``. The weights of `c_attn`, `c_proj`
    and `c_fc` are stored transposed, (inputs, outputs), for so GPT-2's own code multiplies by them. The head is not
    stored: it is ``transformer.wte.weight``. The dtypes are the model's, and the file's metadata say
    ``{"format": "pt"}``.

    Each file is replaced in one go, when it is whole: whatever goes wrong, be it a full disk or a lost process, leaves
    either the old one or the new one, and an error leaves no other file behind.

    Args:
        model: the model, of any dtype and on any device; it is left as it is.
        folder: where to; made, along with those above it, if it is not there.
        tokenizer: is saved there too, by its own method `save`; none is if None.

    Example:
        >>> save_pretrained(model, "checkpoints/tiny", tokenizer=tokenizer)
        >>> twin = load_pretrained("checkpoints/tiny")
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    weights = {
        f"transformer.{name}": (tensor.T if _TRANSPOSED.search(name) else tensor).contiguous()
        for name, tensor in model.state_dict().items()
        if name != "lm_head.weight"
    }
    parts = {_WEIGHTS: lambda path: save_file(weights, path, metadata={"format": "pt"})}
    parts[_CONFIG] = lambda path: path.write_text(model.config.to_json(), encoding="utf-8")
    for name, write in parts.items():
        unfinished = folder / f"{name}.{os.getpid()}.tmp"  # beside it: only within a file system is a rename one step
        try:
            write(unfinished)
            with unfinished.open("r+b") as file:
                os.fsync(file.fileno())  # else the name may reach the disk before the numbers
            unfinished.replace(folder / name)
        finally:
            unfinished.unlink(missing_ok=True)
    if tokenizer is not None:
        tokenizer.save(folder)


def load_pretrained(
    source: str | Path, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None
) -> GPT2:
    """Open a GPT-2: one of a folder in Hugging Face's layout, or one of the four that were published.

    The weights are in `model.safetensors`; or, where that is not there, in several files, of which
    `model.safetensors.index.json` says under ``weight_map`` which key is in which. The keys are those of
    `save_pretrained`, with ``transformer.`` or without. What old versions saved besides is left out:
    ``h.0.attn.bias`` and ``h.0.attn.masked_bias``, of each block, which are no weights. ``lm_head.weight`` need not be
    there; where it is, it must be equal to ``wte.weight``, and is tied to it in any case. No file is ever unpickled.

    Args:
        source: the folder. Or "gpt2", "gpt2-medium", "gpt2-large" or "gpt2-xl", where there is no folder of that name:
            then the model comes from ``openai-community`` on Hugging Face's hub, or out of the hub's cache on this
            machine if it is there. With the environment variable HF_HUB_OFFLINE=1 only the cache is looked at.
        dtype: that of the parameters; if None, those in the file.
        device: where the parameters are; the CPU if None.

    Returns:
        The model, in evaluation mode. It holds the numbers itself, in contiguous parameters that require a gradient,
        and needs the file no longer.

    Raises:
        CheckpointError: the message names the file, and, where it is about one tensor, its key.

            - `source` is neither a folder nor a published name (the message lists those), or `config.json` or the
              weights are not in the folder. If the weights are there as a pickle only, `pytorch_model.bin`: that one.
            - `config.json` is not what `GPT2Config.from_json` takes: the message says what that says.
            - A file of weights is cut off or no safetensors file, such as a pickle under its name; or the index is no
              JSON with a ``weight_map``, or names a file that is not in the folder or that does not hold the key.
            - A key is missing, or is there twice, or is none of the model's: the key.
            - A tensor is not of the shape that the configuration asks for: the key and both shapes, as they are in
              the file; or is not floating: the key and its dtype. Or ``lm_head.weight`` is not ``wte.weight``.
            - A published model is neither in the cache nor to be had from the hub: its name, and that a folder can be
              given. That is known within seconds: a hub that does not answer is not asked again.

    Example:
        >>> model = load_pretrained("gpt2")
        >>> sum(parameter.numel() for parameter in model.parameters())
        124439808
    """
    folder = _folder(source)
    config = _config(folder / _CONFIG)
    with torch.device("meta"):  # takes no memory, and draws no numbers: all of them come out of the file
        model = GPT2(config).eval()
    weights = _weights(folder, model.state_dict(), dtype, device)
    head, tied = weights.get("lm_head.weight"), weights["wte.weight"]
    if head is not None and not torch.equal(head, tied):
        raise CheckpointError(f"{folder}: lm_head.weight differs from wte.weight, but GPT-2's head is tied to it")
    model.load_state_dict({**weights, "lm_head.weight": tied}, assign=True)
    return model


def _weights(
    folder: Path, wanted: Mapping[str, Tensor], dtype: torch.dtype | None, device: torch.device | str | None
) -> dict[str, nn.Parameter]:
    """The parameters out of a folder's files, by the model's names; refuses what does not fit those that are wanted."""
    weights: dict[str, nn.Parameter] = {}
    for file, key, stored in _tensors(folder):
        name = key.removeprefix("transformer.")
        if _MASK.fullmatch(name):
            continue
        if name not in wanted:
            raise CheckpointError(f"{file}: unexpected key {key}: the model of {_CONFIG} has no such parameter")
        if name in weights:
            raise CheckpointError(f"{file}: {key} is there twice")
        transposed = _TRANSPOSED.search(name) is not None
        shape = wanted[name].T.shape if transposed else wanted[name].shape
        if stored.shape != shape:
            raise CheckpointError(
                f"{file}: {key} has shape {tuple(stored.shape)}, but {_CONFIG} asks for {tuple(shape)}"
            )
        if not stored.is_floating_point():
            raise CheckpointError(f"{file}: {key} is {stored.dtype}, but weights are floating")
        # A copy in any case, for what was read is a view of the file, which may change or go.
        tensor = (stored.T if transposed else stored).to(
            device, dtype, copy=True, memory_format=torch.contiguous_format
        )
        weights[name] = nn.Parameter(tensor)
    missing = [name for name in wanted if name not in weights and name != "lm_head.weight"]
    if missing:
        raise CheckpointError(f"{folder}: {len(missing)} keys are missing: {', '.join(missing[:5])}")
    return weights


def _tensors(folder: Path) -> Iterator[tuple[Path, str, Tensor]]:
    """Each tensor of a folder's safetensors files, with its file and its key."""
    if (folder / _WEIGHTS).is_file():
        with _opened(folder / _WEIGHTS) as opened:
            keys = {folder / _WEIGHTS: list(opened.keys())}
    else:
        keys = _keys_by_file(folder)
    for file, wanted in keys.items():
        with _opened(file) as opened:
            for key in wanted:
                yield file, key, opened.get_tensor(key)


def _keys_by_file(folder: Path) -> dict[Path, list[str]]:
    """Where several files hold the weights, which keys are in which, as the index has it."""
    index = folder / _INDEX
    if not index.is_file():
        there = sorted(path.name for path in folder.iterdir())
        raise CheckpointError(
            f"{folder}: no {_WEIGHTS}, only {', '.join(there)}; no pickle is opened, for it may run any code"
        )
    keys: dict[Path, list[str]] = {}
    try:
        for key, name in json.loads(index.read_bytes())["weight_map"].items():
            keys.setdefault(folder / Path(name).name, []).append(key)  # its name alone: no way out of the folder
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{index}: not JSON with a weight_map from keys to files: {error!r}") from error
    return keys


@contextmanager
def _opened(file: Path) -> Iterator[safe_open]:
    if not file.is_file():
        raise CheckpointError(f"{file}: {_INDEX} names it, but there is no such file")
    try:
        with safe_open(file, framework="pt") as opened:
            yield opened
    except SafetensorError as error:  # also where a key is not in the file
        raise CheckpointError(f"{file}: cannot be read as safetensors: {error}") from error


def _config(path: Path) -> GPT2Config:
    try:
        return GPT2Config.from_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file") from None
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from error


def _folder(source: str | Path) -> Path:
    """Where the files are, fetched first if need be."""
    if Path(source).is_dir():
        return Path(source)
    if str(source) not in PRESETS:
        raise CheckpointError(f"{source}: no such folder, and none of the published models {', '.join(PRESETS)}")
    import huggingface_hub as hub  # takes a while to import: only who needs it pays for it

    repository = f"openai-community/{source}"
    try:
        try:
            paths = [hub.hf_hub_download(repository, name, local_files_only=True) for name in (_CONFIG, _WEIGHTS)]
        except FileNotFoundError:
            # Where nobody answers this fails at once. A download would go on trying for half a minute.
            hub.get_hf_file_metadata(hub.hf_hub_url(repository, _CONFIG))
            paths = [hub.hf_hub_download(repository, name) for name in (_CONFIG, _WEIGHTS)]
        return Path(paths.pop()).parent
    except Exception as error:  # whatever the hub's client raises: its versions differ in what it is built on
        raise CheckpointError(
            f"{source}: neither in the hub's cache, {hub.constants.HF_HUB_CACHE}, nor to be had from the hub "
            f"({type(error).__name__}). With access to the network it is fetched once. Without, copy {_CONFIG} and "
            f"{_WEIGHTS} of https://huggingface.co/{repository} into a folder, and give that folder as the source."
        ) from error
