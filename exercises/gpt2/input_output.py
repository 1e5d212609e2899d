"""Both ends of GPT-2: from tokens to vectors, from vectors to logits, how its weights begin, and its loss.

Symbols: B sequences in a batch, T their length, C the width of a token (`embed_dim`), V the size of the vocabulary,
L the number of blocks (`num_layers`).
"""

import math

import torch
from torch import Tensor, nn

from ..block.layer_norm import LayerNorm
from ..embeddings.custom import TiedOutput
from ..embeddings.embedding import Embedding
from ..embeddings.learned import LearnedPositionalEmbedding
from ..networks.losses import cross_entropy
from ..networks.regularization import Dropout
from .configuration import GPT2Config

IGNORED = -100  # the target of a position that has none: `cross_entropy` leaves it out


class InputOutput(nn.Module):
    """GPT-2 but for its blocks (Radford et al. 2018, section 3.1; Radford et al. 2019, section 2.3).

    The sum of a token's embedding and that of its position goes in; what comes out of the last block is normalised
    once more, and compared with each token's embedding.

    Parameters (the published names):
        wte: `Embedding` (V, C) of the tokens.
        wpe: `LearnedPositionalEmbedding` (context_length, C) of the positions.
        ln_f: `LayerNorm`, the final one.
        lm_head: `TiedOutput` of `wte`: its weight is the very same parameter.

    All begin as `initialize` leaves them.

    Args:
        config: the sizes.
        generator: where the weights are drawn from; torch's global one if None.

    Attributes:
        config: likewise.
    """

    def __init__(self, config: GPT2Config, *, generator: torch.Generator | None = None) -> None:
        raise NotImplementedError("gpt2/input_output: InputOutput.__init__")

    def embed(self, tokens: Tensor, *, past: int = 0, positions: Tensor | None = None) -> Tensor:
        """Give each token the sum of its own and its position's vector, with dropout while training.

        Args:
            tokens: (B, T), int32 or int64.
            past: number of positions before the first token; not 0 where a cache keeps earlier ones.
            positions: (B, T), int64, the position of each token, where they are not `past`, `past` + 1 and so on in
                every row: texts padded on the left begin later.

        Returns:
            (B, T, C).
        """
        raise NotImplementedError("gpt2/input_output: InputOutput.embed")

    def logits(self, hidden: Tensor) -> Tensor:
        """Say how likely each token of the vocabulary is to come next.

        Args:
            hidden: (..., C), out of the last block.

        Returns:
            Logits (..., V).
        """
        raise NotImplementedError("gpt2/input_output: InputOutput.logits")


@torch.no_grad()
def initialize(module: nn.Module, num_layers: int, *, generator: torch.Generator | None = None) -> None:
    """Let all weights begin as GPT-2's (Radford et al. 2019, section 2.3)."""
    raise NotImplementedError("gpt2/input_output: initialize")


def next_tokens(tokens: Tensor, mask: Tensor | None = None) -> Tensor:
    """Make the targets of a batch of texts: at each position the token that follows.

    Args:
        tokens: (B, T), int64.
        mask: (B, T) bool, True where a token is real and no padding; all are if None.

    Returns:
        (B, T), int64: at position t the token at t + 1; `IGNORED` at the last position, and wherever this or the next
        token is padding.
    """
    raise NotImplementedError("gpt2/input_output: next_tokens")


def language_model_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy over all targets that count, in nats per token.

    Args:
        logits: (B, T, V).
        targets: (B, T), int64: the token that follows each position, or `IGNORED`.

    Returns:
        A scalar.
    """
    raise NotImplementedError("gpt2/input_output: language_model_loss")
