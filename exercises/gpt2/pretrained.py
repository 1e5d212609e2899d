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
    raise NotImplementedError("gpt2/pretrained: save_pretrained")


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
    raise NotImplementedError("gpt2/pretrained: load_pretrained")
