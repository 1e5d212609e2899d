"""Folds over blocks and caches, and counts the real tokens by a product with a triangle; the checks stand by themselves."""

from collections.abc import Iterable, Sequence
from functools import reduce

import torch
from torch import Tensor
from torch.nn import ModuleList

from ..attention import efficient
from ..block import configurations
from . import input_output
from .configuration import GPT2Config

_Caches = Sequence[efficient.KVCache] | None


def _common(values: Iterable[int]) -> int:
    """The one value that all of them have."""
    first, *others = values
    if any(other != first for other in others):
        raise ValueError(f"caches with different numbers of tokens: {[first, *others]}")
    return first


def _counted(mask: Tensor) -> Tensor:
    """How many real tokens there are before each (B, S)."""
    size = mask.size(1)
    earlier = torch.ones(size, size, dtype=torch.float64, device=mask.device).triu(1)  # [i, j]: i comes before j
    return (mask.double() @ earlier).long()


class GPT2(input_output.InputOutput):
    """The stack."""

    def __init__(self, config: GPT2Config, *, generator: torch.Generator | None = None) -> None:
        super().__init__(config, generator=generator)
        stack = [configurations.TransformerBlock(config.block) for _ in [None] * config.num_layers]
        for block in stack:
            holder = ModuleList([block])
            input_output.initialize(holder, config.num_layers, generator=generator)
        self.h = ModuleList(stack)

    def make_caches(self, batch_size: int, capacity: int | None = None) -> list[efficient.KVCache]:
        """As many as there are blocks."""
        parameter = next(self.parameters())
        sizes = {
            "batch_size": batch_size,
            "num_kv_heads": self.config.num_heads,
            "head_dim": self.config.embed_dim // self.config.num_heads,
            "capacity": self.config.context_length,
        }
        if capacity is not None:
            sizes["capacity"] = capacity
        make = efficient.KVCache
        return list(map(lambda _: make(**sizes, dtype=parameter.dtype, device=parameter.device), self.h))

    def hidden(self, tokens: Tensor, mask: Tensor | None = None, *, caches: _Caches = None) -> Tensor:
        """A fold: what is folded is x."""
        start = 0
        if caches is not None:
            if len(caches) - len(self.h):
                raise ValueError(f"{len(caches)} caches do not go with {len(self.h)} blocks")
            start = _common(cache.length for cache in caches)
        where: dict[str, Tensor | int] = {"past": start}
        keys = None
        if mask is not None:
            full = torch.Size([tokens.size(0), start + tokens.size(-1)])
            if mask.size() != full:
                raise ValueError(f"a mask of {tuple(full)} is needed, here is one of {tuple(mask.size())}")
            if mask.dtype is not torch.bool:
                raise TypeError(f"a mask holds booleans, and not {mask.dtype}")
            # Padding may be at any position that there is.
            where = {"positions": _counted(mask).masked_fill(~mask, 0)[:, start:]}
            keys = mask.unsqueeze(1).unsqueeze(1)
        pairs = zip(self.h, caches if caches is not None else [None] * len(self.h))
        return reduce(lambda x, pair: pair[0](x, keys, cache=pair[1]), pairs, self.embed(tokens, **where))

    def forward(self, tokens: Tensor, mask: Tensor | None = None, *, caches: _Caches = None) -> Tensor:
        """From tokens to logits."""
        return self.logits(self.hidden(tokens, mask, caches=caches))
