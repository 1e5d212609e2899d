"""GPT-2: embeddings, a stack of blocks, a final norm, and the tied head.

Symbols: B sequences in a batch, T their length, S the number of all tokens so far (T, and those in the caches), C the
width of a token (`embed_dim`), V the size of the vocabulary, L the number of blocks (`num_layers`).
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..attention.efficient import KVCache
from ..block.configurations import TransformerBlock
from .configuration import GPT2Config
from .input_output import InputOutput, initialize


class GPT2(InputOutput):
    """GPT-2 (Radford et al. 2019, section 2.3), with the published parameter names.

    Parameters:
        wte, wpe, ln_f, lm_head: of `InputOutput`.
        h: the L blocks, `TransformerBlock`: `h.0.attn.c_attn.weight` and so on.

    Args:
        config: the sizes.
        generator: where the weights are drawn from; torch's global one if None.

    Example:
        >>> model = GPT2(GPT2Config(vocab_size=100, context_length=16, embed_dim=32, num_layers=2, num_heads=4))
        >>> model(torch.tensor([[1, 2, 3]])).shape
        torch.Size([1, 3, 100])
    """

    def __init__(self, config: GPT2Config, *, generator: torch.Generator | None = None) -> None:
        super().__init__(config, generator=generator)
        self.h = nn.ModuleList(TransformerBlock(config.block) for _ in range(config.num_layers))
        initialize(self.h, config.num_layers, generator=generator)

    def make_caches(self, batch_size: int, capacity: int | None = None) -> list[KVCache]:
        """Make an empty cache for each block, of the weights' dtype and on their device.

        Args:
            batch_size: B.
            capacity: how many tokens there is room for; `context_length` if None.
        """
        config, weight = self.config, self.wte.weight
        capacity = config.context_length if capacity is None else capacity
        head_dim = config.embed_dim // config.num_heads
        return [
            KVCache(batch_size, config.num_heads, capacity, head_dim, dtype=weight.dtype, device=weight.device)
            for _ in self.h
        ]

    def hidden(self, tokens: Tensor, mask: Tensor | None = None, *, caches: Sequence[KVCache] | None = None) -> Tensor:
        """Run the tokens through all blocks.

        Args:
            tokens: (B, T), int32 or int64; with `caches`, those that follow the tokens that are kept there.
            mask: (B, S) bool, True where a token is real and no padding; all are if None. Padding is seen by no
                token, and a token's position is the number of real tokens before it.
            caches: one for each block, from `make_caches`; they get the new tokens.

        Returns:
            (B, T, C): what comes out of the last block. At padding the numbers mean nothing, but are finite.
        """
        past = caches[0].length if caches is not None else 0
        positions = None
        if mask is not None:
            positions = (mask.cumsum(dim=-1) - 1).clamp_min(0)[:, past:]  # (B, T)
            mask = mask[:, None, None, :]  # (B, 1, 1, S), the same keys for all heads and queries
        x = self.embed(tokens, past=past, positions=positions)
        for layer, block in enumerate(self.h):
            x = block(x, mask, cache=None if caches is None else caches[layer])
        return x

    def forward(self, tokens: Tensor, mask: Tensor | None = None, *, caches: Sequence[KVCache] | None = None) -> Tensor:
        """Say at each position how likely each token is to come next.

        Args:
            tokens: as of `hidden`.
            mask: as of `hidden`.
            caches: as of `hidden`.

        Returns:
            Logits (B, T, V).
        """
        return self.logits(self.hidden(tokens, mask, caches=caches))
