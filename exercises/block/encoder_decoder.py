"""Encoder and decoder blocks: one layer of the original transformer, put together from the learner's own parts.

Symbols: B sequences in a batch, T their length, S the length of the memory, C the width (`embed_dim`), H heads.
"""

from torch import Tensor, nn

from ..attention.multi_head import MultiHeadAttention
from .feed_forward import FeedForward
from .layer_norm import LayerNorm
from .residual import Residual


class EncoderBlock(nn.Module):
    """Self-attention that sees everything, then a feed-forward network (Vaswani et al. 2017, section 3.1).

    Each of the two is a sublayer with a residual connection and a norm of its own, placed as `Residual` has it.

    Parameters:
        ln_1, ln_2: `LayerNorm`, the norm of the attention and that of the feed-forward network.
        attn: `MultiHeadAttention`.
        mlp: `FeedForward`.

    The state_dict holds the weights and biases of these four and nothing else.

    Args:
        embed_dim: width C of the tokens.
        num_heads: number of heads H, which divides `embed_dim`.
        hidden_dim: width of the feed-forward network's hidden layer; 4 * `embed_dim` if None.
        activation: that of the feed-forward network, a name in `networks/activations`' ACTIVATIONS.
        placement: "post" (the original's) or "pre" (Xiong et al. 2020): where the norms stand.
        dropout: probability with which, while training, an attention weight is dropped, and an entry of what a
            sublayer adds.
        eps: the norms' epsilon.

    Raises:
        ValueError: as the four parts refuse their arguments.

    Example:
        >>> EncoderBlock(16, 4)(torch.zeros(2, 5, 16)).shape
        torch.Size([2, 5, 16])
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        hidden_dim: int | None = None,
        *,
        activation: str = "relu",
        placement: str = "post",
        dropout: float = 0.0,
        eps: float = 1e-5,
    ) -> None:
        raise NotImplementedError("block/encoder_decoder: EncoderBlock.__init__")

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Let the tokens hear of each other, then work on each alone.

        Args:
            x: tokens (B, T, C).
            mask: booleans that broadcast to (B, H, T, T), True where a token may attend; None hides nothing.

        Returns:
            (B, T, C).
        """
        raise NotImplementedError("block/encoder_decoder: EncoderBlock.forward")


class DecoderBlock(nn.Module):
    """Causal self-attention, attention to a memory, then a feed-forward network (Vaswani et al. 2017, section 3.1).

    What is written attends to what has been written before, then to what an encoder has read.

    Parameters:
        ln_1, ln_2, ln_3: `LayerNorm`, the norms of the three sublayers, in their order.
        attn: `MultiHeadAttention`, causal.
        cross_attn: `MultiHeadAttention`, whose keys and values come from the memory.
        mlp: `FeedForward`.

    The state_dict holds the weights and biases of these six and nothing else. In a pre-norm block the norm is of the
    tokens alone: the memory is taken as it comes, for the encoder has a norm of its own at its end.

    Args:
        embed_dim: width C of the tokens and of the memory's tokens.
        num_heads: number of heads H of either attention, which divides `embed_dim`.
        hidden_dim: width of the feed-forward network's hidden layer; 4 * `embed_dim` if None.
        activation: that of the feed-forward network, a name in `networks/activations`' ACTIVATIONS.
        placement: "post" (the original's) or "pre" (Xiong et al. 2020): where the norms stand.
        dropout: probability with which, while training, an attention weight is dropped, and an entry of what a
            sublayer adds.
        eps: the norms' epsilon.

    Raises:
        ValueError: as the parts refuse their arguments.

    Example:
        >>> DecoderBlock(16, 4)(torch.zeros(2, 5, 16), torch.zeros(2, 7, 16)).shape
        torch.Size([2, 5, 16])
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        hidden_dim: int | None = None,
        *,
        activation: str = "relu",
        placement: str = "post",
        dropout: float = 0.0,
        eps: float = 1e-5,
    ) -> None:
        raise NotImplementedError("block/encoder_decoder: DecoderBlock.__init__")

    def forward(
        self, x: Tensor, memory: Tensor, mask: Tensor | None = None, memory_mask: Tensor | None = None
    ) -> Tensor:
        """Go one layer on with what is being written.

        Args:
            x: tokens (B, T, C); each sees itself and those before it.
            memory: the encoder's tokens (B, S, C).
            mask: booleans that broadcast to (B, H, T, T), True where a token may attend to another of `x`, for
                padding: later tokens are hidden besides.
            memory_mask: booleans that broadcast to (B, H, T, S), True where a token may attend to the memory.

        Returns:
            (B, T, C).
        """
        raise NotImplementedError("block/encoder_decoder: DecoderBlock.forward")
