"""The transformer block, in all the forms that language models use: one configuration says which.

Symbols: B sequences in a batch, T their length, C the width (`embed_dim`), H heads, S the number of keys: of all
tokens so far, where a cache keeps earlier ones.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from ..attention.efficient import KVCache
from ..attention.masking import combine_masks
from ..attention.multi_head import MultiHeadAttention
from ..attention.patterns import alibi_bias, sliding_window_mask
from ..networks.activations import ACTIVATIONS
from .feed_forward import FeedForward
from .layer_norm import LayerNorm, RMSNorm
from .residual import PLACEMENTS, Residual

NORMS = ("layer_norm", "rms_norm")
ATTENTIONS = ("causal", "full", "sliding_window", "alibi")


@dataclass(frozen=True)
class BlockConfig:
    """What a block is made of. The defaults are GPT-2's (Radford et al. 2019, section 2.3).

    Args:
        embed_dim: width C of the tokens.
        num_heads: number of heads H, which divides `embed_dim`.
        num_kv_heads: number of heads of keys and values, which divides `num_heads`; as many as `num_heads` if None.
        hidden_dim: width of the feed-forward network's hidden layer; 4 * `embed_dim` if None.
        norm: one of NORMS.
        placement: one of `block/residual`'s PLACEMENTS: "pre", the norm before the sublayer, or "post", after the sum.
        activation: a name in `networks/activations`' ACTIVATIONS.
        gated: whether the feed-forward network has a gate (Shazeer 2020).
        bias: whether the linear layers and the layer norms have biases.
        attention: one of ATTENTIONS: what a token sees. "causal": itself and what came before it. "full": everything.
            "sliding_window": the last `window` tokens up to itself. "alibi": as causal, and each score is lowered by
            the key's distance.
        window: how many tokens a sliding window holds, at least 1; None for every other kind of attention.
        dropout: probability with which, while training, an entry of what a sublayer adds is dropped; at least 0 and
            less than 1.
        attention_dropout: likewise, for an attention weight.
        eps: the norms' epsilon, above 0.

    Raises:
        ValueError: a field has a value that it may not have, or two do not go together. The message names the fields
            and their values, and for a name that is unknown those that are known.

    Example:
        >>> BlockConfig(embed_dim=768, num_heads=12).activation
        'gelu_tanh'
        >>> BlockConfig(embed_dim=768, num_heads=12, norm="batch_norm")
        Traceback (most recent call last):
            ...
        ValueError: norm must be one of layer_norm, rms_norm; got 'batch_norm'
    """

    embed_dim: int
    num_heads: int
    num_kv_heads: int | None = None
    hidden_dim: int | None = None
    norm: str = "layer_norm"
    placement: str = "pre"
    activation: str = "gelu_tanh"
    gated: bool = False
    bias: bool = True
    attention: str = "causal"
    window: int | None = None
    dropout: float = 0.0
    attention_dropout: float = 0.0
    eps: float = 1e-5

    def __post_init__(self) -> None:
        choices = {"norm": NORMS, "placement": PLACEMENTS, "attention": ATTENTIONS, "activation": tuple(ACTIVATIONS)}
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}; got {getattr(self, name)!r}")
        for name in ("embed_dim", "num_heads", "num_kv_heads", "hidden_dim", "window", "eps"):
            value = getattr(self, name)
            if value is not None and not value > 0:  # nor is NaN
                raise ValueError(f"{name} must be above 0, got {value}")
        for whole, part in (("embed_dim", "num_heads"), ("num_heads", "num_kv_heads")):
            size, parts = getattr(self, whole), getattr(self, part)
            if parts is not None and size % parts:
                raise ValueError(f"{part} must divide {whole}, got {part}={parts} and {whole}={size}")
        for name in ("dropout", "attention_dropout"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ValueError(f"{name} must be at least 0 and less than 1, got {getattr(self, name)}")
        if (self.window is None) == (self.attention == "sliding_window"):
            raise ValueError(
                f"window goes with attention='sliding_window' and with no other, got window={self.window} and "
                f"attention={self.attention!r}"
            )


class TransformerBlock(nn.Module):
    """Attention, then a feed-forward network, each with a residual connection and a norm of its own.

    Parameters (GPT-2's names):
        ln_1, ln_2: `LayerNorm` or `RMSNorm`, of the attention and of the feed-forward network.
        attn: `MultiHeadAttention`.
        mlp: `FeedForward`.

    The state_dict holds what these four hold and nothing else.

    Args:
        config: what the block is made of.

    Attributes:
        config: likewise.

    Example:
        >>> block = TransformerBlock(BlockConfig(embed_dim=768, num_heads=12))  # one of the smallest GPT-2's twelve
        >>> sum(parameter.numel() for parameter in block.parameters())
        7087872
    """

    def __init__(self, config: BlockConfig) -> None:
        super().__init__()
        self.config = config
        self.ln_1 = _norm(config)
        self.attn = MultiHeadAttention(
            config.embed_dim,
            config.num_heads,
            num_kv_heads=config.num_kv_heads,
            bias=config.bias,
            dropout=config.attention_dropout,
            causal=config.attention in ("causal", "alibi"),
        )
        self.ln_2 = _norm(config)
        self.mlp = FeedForward(
            config.embed_dim, config.hidden_dim, activation=config.activation, gated=config.gated, bias=config.bias
        )
        self.residual = Residual(config.placement, config.dropout)

    def forward(self, x: Tensor, mask: Tensor | None = None, *, cache: KVCache | None = None) -> Tensor:
        """Go one layer on.

        Args:
            x: tokens (B, T, C).
            mask: booleans that broadcast to (B, H, T, S), True where a token may attend, for padding: what the kind of
                attention hides is hidden besides. None hides nothing more.
            cache: keeps the keys and values of earlier tokens, and gets those of `x`, which follow them.

        Returns:
            (B, T, C).
        """
        length, past = x.shape[1], cache.length if cache is not None else 0
        bias = None
        if self.config.window is not None:
            mask = combine_masks(mask, sliding_window_mask(length, self.config.window, past=past, device=x.device))
        elif self.config.attention == "alibi":
            bias = alibi_bias(self.config.num_heads, length, past=past, dtype=x.dtype, device=x.device)
        x = self.residual(x, lambda tokens: self.attn(tokens, mask=mask, bias=bias, cache=cache), self.ln_1)
        return self.residual(x, self.mlp, self.ln_2)


def _norm(config: BlockConfig) -> nn.Module:
    if config.norm == "rms_norm":
        return RMSNorm(config.embed_dim, config.eps)
    return LayerNorm(config.embed_dim, config.eps, config.bias)
