"""Plain: statement after statement, row after row, no type hints; a mask is written out for every query."""

import torch
from torch import nn

from ..attention.efficient import KVCache
from ..block.configurations import TransformerBlock
from .input_output import InputOutput, initialize


class GPT2(InputOutput):
    def __init__(self, config, generator=None):
        InputOutput.__init__(self, config, generator=generator)
        self.h = nn.ModuleList()
        for number in range(config.num_layers):
            self.h.append(TransformerBlock(config.block))
        initialize(self, config.num_layers, generator=generator)

    def make_caches(self, batch_size, capacity=None):
        if capacity is None:
            capacity = self.config.context_length
        caches = []
        for block in self.h:
            weight = block.attn.c_attn.weight
            width = self.config.embed_dim
            heads = self.config.num_heads
            cache = KVCache(batch_size, heads, capacity, width // heads, dtype=weight.dtype, device=weight.device)
            caches.append(cache)
        return caches

    def hidden(self, tokens, mask=None, caches=None):
        if tokens.dim() != 2:
            raise ValueError("tokens need two axes, these have the shape " + str(tuple(tokens.shape)))
        rows, new = tokens.shape
        old = 0
        if caches is not None:
            if len(caches) != len(self.h):
                raise ValueError("got %d caches for %d blocks" % (len(caches), len(self.h)))
            old = caches[0].length
            for cache in caches:
                if cache.length != old:
                    raise ValueError("one cache keeps %d tokens, another %d" % (old, cache.length))
        if mask is None:
            x = self.embed(tokens, past=old)
            seen = None
        else:
            if mask.dtype != torch.bool:
                raise TypeError("the mask has dtype " + str(mask.dtype) + ", not bool")
            if list(mask.shape) != [rows, old + new]:
                raise ValueError("mask: %s in the place of %s" % (tuple(mask.shape), (rows, old + new)))
            positions = torch.zeros(rows, new, dtype=torch.long, device=tokens.device)
            for row in range(rows):
                count = int(mask[row, :old].sum())
                for column in range(new):
                    if mask[row, old + column]:
                        positions[row, column] = count
                        count = count + 1
            x = self.embed(tokens, positions=positions)
            seen = mask.reshape(rows, 1, 1, old + new).repeat(1, 1, new, 1)
        for number in range(len(self.h)):
            if caches is None:
                x = self.h[number](x, seen)
            else:
                x = self.h[number](x, seen, cache=caches[number])
        return x

    def forward(self, tokens, mask=None, caches=None):
        x = self.hidden(tokens, mask, caches=caches)
        return self.logits(x)
