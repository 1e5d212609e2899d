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
        ln_f: `LayerNorm` of width C, the final one, with the configuration's `eps`.
        lm_head: `TiedOutput` of `wte`: its weight is the very same parameter, which `named_parameters` gives once, as
            `wte.weight`.

    The state_dict holds what these four hold and nothing else. All begin as `initialize` leaves them.

    Args:
        config: the sizes.
        generator: where the weights are drawn from; torch's global one if None.

    Attributes:
        config: likewise.

    Example:
        >>> ends = InputOutput(GPT2Config())
        >>> vectors = ends.embed(torch.tensor([[15496, 11, 995]]))
        >>> vectors.shape
        torch.Size([1, 3, 768])
        >>> ends.logits(vectors).shape
        torch.Size([1, 3, 50257])
    """

    def __init__(self, config: GPT2Config, *, generator: torch.Generator | None = None) -> None:
        raise NotImplementedError("gpt2/input_output: InputOutput.__init__")

    def embed(self, tokens: Tensor, *, past: int = 0, positions: Tensor | None = None) -> Tensor:
        """Give each token the sum of its own and its position's vector.

        While training, each entry of the sum is dropped with the probability `embedding_dropout`.

        Args:
            tokens: (B, T), int32 or int64.
            past: how many tokens came before these in each row, and so the position of the first; a cache keeps some.
            positions: (B, T), int64, from 0 to context_length - 1: the position of each token, where they do not just
                count on from `past`, which is not looked at then. A text that is padded on the left begins later.

        Returns:
            (B, T, C).

        Raises:
            ValueError: `tokens` has not two axes (the message gives the shape); the text does not fit: there are more
                than `context_length` tokens, those before included, or a position is not below it or negative (it
                gives their number or the position, and `context_length`); `past` is negative (it gives it); or
                `positions` is not of the shape of `tokens` (it gives both).
            TypeError, IndexError: as `Embedding`, which says which tokens there are.

        Example:
            >>> ends = InputOutput(GPT2Config()).eval()
            >>> vector = ends.embed(torch.tensor([[995]]), past=2)[0, 0]
            >>> bool((vector == ends.wte.weight[995] + ends.wpe.weight[2]).all())
            True
        """
        raise NotImplementedError("gpt2/input_output: InputOutput.embed")

    def logits(self, hidden: Tensor) -> Tensor:
        """Say how likely each token of the vocabulary is to come next.

        Args:
            hidden: (..., C), out of the last block.

        Returns:
            Logits (..., V): of each token, the dot product of its embedding with the normalised vector.

        Raises:
            ValueError: the last axis of `hidden` is not of size C; the message gives C and the shape.
        """
        raise NotImplementedError("gpt2/input_output: InputOutput.logits")


@torch.no_grad()
def initialize(module: nn.Module, num_layers: int, *, generator: torch.Generator | None = None) -> None:
    """Let all parameters of a module begin as GPT-2's, in place.

    Biases begin as 0, the weights of norms as 1. Matrices and embeddings are drawn from a normal distribution of mean
    0 and standard deviation 0.02 (Radford et al. 2018, section 4.1), divided by √(2 L) in every layer called `c_proj`:
    each of the L blocks adds to the residual stream twice, through these, and what was added 2 L times shall be as
    large as what is added once (Radford et al. 2019, section 2.3).

    Args:
        module: its parameters are told apart by name and by axes: a name that ends in "bias" is one, any other of one
            axis is a norm's weight, and `c_proj` is the last part but one, as in ``h.0.attn.c_proj.weight``. A name may
            also have but one part, as ``weight`` of a single layer.
        num_layers: L, of the whole model, at least 1.
        generator: where the numbers are drawn from; torch's global one if None.

    Raises:
        ValueError: `num_layers` is less than 1; the message names it, and its value.

    Example:
        >>> layer = nn.ModuleDict({"c_proj": nn.Linear(768, 768)})
        >>> initialize(layer, 12)
        >>> round(layer["c_proj"].weight.std().item(), 4)  # 0.02 / √24
        0.0041
    """
    raise NotImplementedError("gpt2/input_output: initialize")


def next_tokens(tokens: Tensor, mask: Tensor | None = None) -> Tensor:
    """Make the targets of a batch of texts: at each position the token that follows.

    Args:
        tokens: (B, T), int32 or int64.
        mask: (B, T) bool, True where a token is real and no padding; all are if None.

    Returns:
        (B, T), of the dtype of `tokens`: at position t the token at t + 1. `IGNORED` at the last position, and
        wherever this or the next token is padding.

    Raises:
        ValueError: `tokens` has not two axes, or `mask` another shape; the message gives the shape, or both.
        TypeError: `tokens` are neither int32 nor int64, which is to say that they cannot be `IGNORED`; or `mask` is not
            boolean. The message gives the dtype.

    Example:
        >>> next_tokens(torch.tensor([[5, 6, 7], [8, 9, 0]]), torch.tensor([[True, True, True], [True, True, False]]))
        tensor([[   6,    7, -100],
                [   9, -100, -100]])
    """
    raise NotImplementedError("gpt2/input_output: next_tokens")


def language_model_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy over all targets that count, in nats per token.

    Args:
        logits: (B, T, V), floating.
        targets: (B, T), whole numbers: the token that follows each position, or `IGNORED`.

    Returns:
        A scalar, of the dtype of `logits`; 0 where no target counts. Every target that counts weighs as much as any
        other: a long text of a batch counts for more than a short one.

    Raises:
        ValueError, TypeError: as `cross_entropy` of networks/losses.

    Example:
        >>> logits = torch.zeros(1, 2, 50257)  # knows nothing: every token is as likely
        >>> language_model_loss(logits, torch.tensor([[995, IGNORED]]))  # ln 50257
        tensor(10.8249)
    """
    raise NotImplementedError("gpt2/input_output: language_model_loss")
