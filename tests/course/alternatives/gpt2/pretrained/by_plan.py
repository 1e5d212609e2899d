"""Plans first, from the headers alone, which key of which file goes where; then reads tensor by tensor into a meta model."""

import json
import pathlib
import re
import tempfile
from collections import ChainMap, Counter
from dataclasses import dataclass, field
from typing import Any, NoReturn

import safetensors
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from . import configuration
from . import model as gpt2

_Path = str | pathlib.Path
_LINEAR = frozenset({"c_attn", "c_fc", "c_proj"})
_OLD = re.compile(r"(?:transformer\.)?h\.[0-9]+\.attn\.(?:masked_)?bias")


class CheckpointError(ValueError):
    """What is wrong with a file."""


def _refuse(where: Any, *words: object) -> NoReturn:
    raise CheckpointError(" ".join(map(str, (f"{where}:", *words))))


def _flips(name: str) -> bool:
    *_, layer, kind = name.split(".")[-2:]
    return kind == "weight" and layer in _LINEAR


def save_pretrained(model: gpt2.GPT2, folder: _Path, *, tokenizer: Any = None) -> None:
    """Everything is made in a folder inside of the folder, which goes in any case."""
    target = pathlib.Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters(prefix="transformer"):
        value = parameter.detach()
        tensors[name] = (value.mT if _flips(name) else value).contiguous()
    with tempfile.TemporaryDirectory(dir=target) as inner:
        made = pathlib.Path(inner)
        (made / "config.json").write_bytes(model.config.to_json().encode())
        save_file(tensors, made / "model.safetensors", {"format": "pt"})
        for file in sorted(made.iterdir(), reverse=True):
            file.replace(target / file.name)
    if tokenizer is not None:
        tokenizer.save(target)


@dataclass
class _Plan:
    """From the model's names to files and keys."""

    folder: pathlib.Path
    shapes: dict[str, tuple[int, ...]]
    places: dict[str, tuple[pathlib.Path, str]] = field(default_factory=dict)

    def files(self) -> dict[pathlib.Path, list[str] | None]:
        """Those that there should be, with the keys wanted out of them; all, where it is None."""
        one, index = self.folder / "model.safetensors", self.folder / "model.safetensors.index.json"
        if one.exists():
            return {one: None}
        if not index.exists():
            pickles = [path.name for path in self.folder.glob("*.bin")]
            _refuse(one, "is missing;", *(pickles and ["not opened, for they are pickles:", *pickles]))
        try:
            places = json.loads(index.read_text(encoding="utf-8"))["weight_map"].items()
            files: dict[pathlib.Path, list[str] | None] = {self.folder / name: [] for _, name in places}
            for key, name in places:
                (files[self.folder / name] or files.setdefault(self.folder / name, [])).append(key)  # type: ignore
        except (LookupError, AttributeError, TypeError, ValueError):
            _refuse(index, "has no weight_map in JSON")
        return {file: [key for key, name in places if self.folder / name == file] for file in files}

    def make(self) -> None:
        """Look into each file."""
        for file, keys in self.files().items():
            try:
                with safetensors.safe_open(file, "pt") as opened:
                    there = set(opened.keys())
                    for key in sorted(there) if keys is None else keys:
                        if key not in there:
                            _refuse(file, "no", key)
                        part = opened.get_slice(key)
                        self.note(file, key, tuple(part.get_shape()), part.get_dtype())
            except (OSError, safetensors.SafetensorError) as error:
                raise CheckpointError(f"{file}: {error}") from error

    def note(self, file: pathlib.Path, key: str, shape: tuple[int, ...], kind: str) -> None:
        """One tensor more."""
        if _OLD.fullmatch(key):
            return
        name = key.removeprefix("transformer.")
        expected = self.shapes.get(name)
        if expected is None:
            _refuse(file, key, "belongs to another model")
        if name in self.places:
            _refuse(file, key, "has been met before")
        if shape != expected:
            _refuse(file, key, shape, "in the place of", expected)
        if not kind.startswith(("F", "BF")):
            names = {"C64": "complex64", "I8": "int8", "BOOL": "bool"}
            _refuse(file, key, "holds", names.get(kind, kind.replace("I", "int").replace("U", "uint")))
        self.places[name] = file, key

    def read(self, name: str) -> Tensor:
        """The tensor in our own layout."""
        file, key = self.places[name]
        with safetensors.safe_open(file, "pt") as opened:
            value: Tensor = opened.get_tensor(key)
        return value.mT if _flips(name) else value


def load_pretrained(
    source: _Path, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None
) -> gpt2.GPT2:
    """Plan, compare, read."""
    folder = pathlib.Path(source)
    if not folder.is_dir():
        folder = _from_hub(str(source))
    file = folder / "config.json"
    try:
        config = configuration.GPT2Config.from_json(file.read_bytes().decode("utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{file}: {error}") from error
    with torch.device("meta"):
        model = gpt2.GPT2(config)
    shapes = {name: tuple(entry.shape) for name, entry in model.state_dict().items()}
    plan = _Plan(folder, {name: shape[::-1] if _flips(name) else shape for name, shape in shapes.items()})
    plan.make()
    lost = Counter(shapes.keys()) - Counter([*plan.places, "lm_head.weight"])
    if lost:
        _refuse(folder, "without", *lost)
    if "lm_head.weight" in plan.places and plan.read("lm_head.weight").ne(plan.read("wte.weight")).any():
        _refuse(plan.places["lm_head.weight"][0], "lm_head.weight and wte.weight should be one")
    own = ChainMap({"lm_head": model.wte}, dict(model.named_modules()))
    for name in shapes.keys() - {"lm_head.weight"}:
        value = plan.read(name)
        new = torch.empty_like(value, dtype=dtype, device=device, memory_format=torch.contiguous_format).copy_(value)
        path, _, kind = name.rpartition(".")
        setattr(own[path], kind, nn.Parameter(new))
    model.lm_head.weight = model.wte.weight
    return model.train(False)


def _from_hub(name: str) -> pathlib.Path:
    if name not in configuration.PRESETS:
        _refuse(name, "is no folder and was not published, as", *configuration.PRESETS)
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url

    options: dict[str, Any] = {"repo_id": f"openai-community/{name}"}
    files = ("config.json", "model.safetensors")
    try:
        for local in (True, False):
            try:
                found = [hf_hub_download(filename=file, local_files_only=local, **options) for file in files]
                return pathlib.Path(found[0]).parent
            except FileNotFoundError:
                get_hf_file_metadata(hf_hub_url(options["repo_id"], files[0]), timeout=5)
    except Exception as error:
        raise CheckpointError(f"{name}: {type(error).__name__}. Fetch {files} elsewhere, give the folder") from error
    _refuse(name, "not to be had: give a folder with", *files)
