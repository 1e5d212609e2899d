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
        h: the L blocks, `TransformerBlock`, in an `nn.ModuleList`: ``h.0.attn.c_attn.weight`` and so on.

    The state_dict holds what these five hold and nothing else. All begin as `initialize` leaves them.

    Args:
        config: the sizes.
        generator: where the weights are drawn from; torch's global one if None.

    Example:
        >>> model = GPT2(GPT2Config(vocab_size=100, context_length=16, embed_dim=32, num_layers=2, num_heads=4))
        >>> model(torch.tensor([[1, 2, 3]])).shape
        torch.Size([1, 3, 100])
    """

    def __init__(self, config: GPT2Config, *, generator: torch.Generator | None = None) -> None:
        raise NotImplementedError("gpt2/model: GPT2.__init__")

    def make_caches(self, batch_size: int, capacity: int | None = None) -> list[KVCache]:
        """Make an empty cache for each block, of the weights' dtype and on their device.

        Args:
            batch_size: B, at least 1.
            capacity: how many tokens there is room for, at least 1; `context_length` if None.

        Returns:
            L caches, the first block's first.

        Raises:
            ValueError: as `KVCache`.
        """
        raise NotImplementedError("gpt2/model: GPT2.make_caches")

    def hidden(self, tokens: Tensor, mask: Tensor | None = None, *, caches: Sequence[KVCache] | None = None) -> Tensor:
        """Run the tokens through all blocks.

        Args:
            tokens: (B, T), int32 or int64; with `caches`, those that follow the tokens that are kept there.
            mask: (B, S) bool, True where a token is real and no padding, for the tokens in the caches too; all are
                real if None. Padding is seen by no token, and a token's position is the number of real tokens before
                it in its row: a text gets the same numbers with padding as without, on whichever side that is.
            caches: one for each block, from `make_caches`; they get the new tokens.

        Returns:
            (B, T, C): what comes out of the last block. At padding the numbers mean nothing, but are finite.

        Raises:
            ValueError: `tokens` has not two axes, or a row has more than `context_length` of them that are real, those
                in the caches included (as `embed`); there are more or fewer caches than blocks (the message gives both
                numbers), or they are not of one length (it gives those); or `mask` is not of shape (B, S) (it gives
                its shape and that). The caches stay as they were.
            TypeError: `mask` is not boolean; the message gives its dtype. The caches stay as they were.
            ValueError, TypeError, IndexError: as `embed` and `KVCache.update`.

        Example:
            >>> model = GPT2(GPT2Config(num_layers=2)).eval()
            >>> caches = model.make_caches(batch_size=1)
            >>> prompt = model.hidden(torch.tensor([[15496, 11]]), caches=caches)
            >>> model.hidden(torch.tensor([[995]]), caches=caches).shape  # one token more, at position 2
            torch.Size([1, 1, 768])
        """
        raise NotImplementedError("gpt2/model: GPT2.hidden")

    def forward(self, tokens: Tensor, mask: Tensor | None = None, *, caches: Sequence[KVCache] | None = None) -> Tensor:
        """Say at each position how likely each token is to come next.

        Args:
            tokens: as of `hidden`.
            mask: as of `hidden`.
            caches: as of `hidden`.

        Returns:
            Logits (B, T, V).

        Raises:
            ValueError, TypeError, IndexError: as `hidden`.
        """
        raise NotImplementedError("gpt2/model: GPT2.forward")
