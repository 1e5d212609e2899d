"""Plain: the whole folder is read into a dict, an ordinary model is made and given copies, no type hints."""
# ruff: noqa: PTH103, PTH105, PTH107, PTH110, PTH112, PTH113, PTH118, PTH119, PTH120, PTH123

import json
import os

import torch
from safetensors.torch import load, save

from .configuration import GPT2Config
from .model import GPT2

NAMES = ["gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl"]
TURNED = ("c_attn.weight", "c_proj.weight", "c_fc.weight")


class CheckpointError(ValueError):
    pass


def write_whole(path, content):
    other = path + ".new"
    try:
        with open(other, "wb") as file:
            file.write(content)
        os.replace(other, path)
    except BaseException:
        if os.path.exists(other):
            os.remove(other)
        raise


def save_pretrained(model, folder, tokenizer=None):
    folder = str(folder)
    os.makedirs(folder, exist_ok=True)
    tensors = {}
    for name, parameter in model.named_parameters():
        tensor = parameter.detach().cpu()
        if name.endswith(TURNED):
            tensor = tensor.transpose(0, 1)
        tensors["transformer." + name] = tensor.clone(memory_format=torch.contiguous_format)
    write_whole(os.path.join(folder, "config.json"), model.config.to_json().encode("utf-8"))
    write_whole(os.path.join(folder, "model.safetensors"), save(tensors, {"format": "pt"}))
    if tokenizer is not None:
        tokenizer.save(folder)


def read_tensors(path):
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError as problem:
        raise CheckpointError(path + ": " + str(problem))
    try:
        return load(content)
    except Exception as problem:
        raise CheckpointError(path + " is damaged: " + str(problem))


def find_tensors(folder):
    """A list of (file, key, tensor)."""
    found = []
    single = os.path.join(folder, "model.safetensors")
    index = os.path.join(folder, "model.safetensors.index.json")
    if os.path.isfile(single):
        for key, tensor in read_tensors(single).items():
            found.append((single, key, tensor))
    elif os.path.isfile(index):
        try:
            with open(index, encoding="utf-8") as file:
                places = json.load(file)["weight_map"]
            files = {}
            for key in places:
                files.setdefault(os.path.join(folder, os.path.basename(places[key])), []).append(key)
        except Exception:
            raise CheckpointError(index + ": there should be a weight_map from keys to files in it")
        for path in files:
            tensors = read_tensors(path)
            for key in files[path]:
                if key not in tensors:
                    raise CheckpointError(path + " does not hold " + key)
                found.append((path, key, tensors[key]))
    elif os.path.isfile(os.path.join(folder, "pytorch_model.bin")):
        raise CheckpointError(folder + " has only pytorch_model.bin, which is a pickle: it is not opened")
    else:
        raise CheckpointError(single + " does not exist")
    return found


def load_pretrained(source, dtype=None, device=None):
    folder = str(source)
    if not os.path.isdir(folder):
        if folder not in NAMES:
            raise CheckpointError(folder + " is no folder, and not one of " + ", ".join(NAMES))
        folder = fetch(folder)
    path = os.path.join(folder, "config.json")
    if not os.path.isfile(path):
        raise CheckpointError(path + " does not exist")
    try:
        with open(path, encoding="utf-8") as file:
            config = GPT2Config.from_json(file.read())
    except ValueError as problem:
        raise CheckpointError(path + ": " + str(problem))
    entries = find_tensors(folder)
    model = GPT2(config)
    wanted = dict(model.named_parameters())
    ready = {}
    head = None
    for path, key, tensor in entries:
        name = key
        if name.startswith("transformer."):
            name = name[len("transformer.") :]
        parts = name.split(".")
        if len(parts) == 4 and parts[0] == "h" and parts[2] == "attn" and parts[3] in ("bias", "masked_bias"):
            continue
        if name not in wanted and name != "lm_head.weight":
            raise CheckpointError("%s: what is %s?" % (path, key))
        if name in ready:
            raise CheckpointError("%s: %s twice" % (path, key))
        shape = list(wanted["wte.weight" if name == "lm_head.weight" else name].shape)
        if name.endswith(TURNED):
            shape.reverse()
        if list(tensor.shape) != shape:
            raise CheckpointError("%s: %s is %s, not %s" % (path, key, tuple(tensor.shape), tuple(shape)))
        if not tensor.dtype.is_floating_point:
            raise CheckpointError("%s: %s is of dtype %s" % (path, key, tensor.dtype))
        if name.endswith(TURNED):
            tensor = tensor.t()
        ready[name] = tensor
    head = ready.pop("lm_head.weight", None)
    for name in wanted:
        if name not in ready:
            raise CheckpointError("%s: there is no %s" % (folder, name))
    if head is not None and not bool((head == ready["wte.weight"]).all()):
        raise CheckpointError("%s: lm_head.weight is not wte.weight" % folder)
    for name in wanted:
        tensor = ready[name].clone(memory_format=torch.contiguous_format)
        if dtype is not None:
            tensor = tensor.to(dtype)
        if device is not None:
            tensor = tensor.to(device)
        ready[name] = tensor
    model.load_state_dict(ready, strict=False, assign=True)
    model.lm_head.weight = model.wte.weight
    model.eval()
    return model


def fetch(name):
    import huggingface_hub

    repository = "openai-community/" + name
    try:
        folder = None
        for file in ["config.json", "model.safetensors"]:
            folder = os.path.dirname(huggingface_hub.hf_hub_download(repository, file, local_files_only=True))
        return folder
    except Exception:
        pass
    try:
        huggingface_hub.HfApi().model_info(repository, timeout=5)
        for file in ["config.json", "model.safetensors"]:
            folder = os.path.dirname(huggingface_hub.hf_hub_download(repository, file))
        return folder
    except Exception as problem:
        raise CheckpointError("%s could not be fetched (%s): give a folder in its place" % (name, problem))
