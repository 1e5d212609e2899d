"""Both placements written out line by line, without the residual module and without types."""

from torch import nn

from ..attention.multi_head import MultiHeadAttention
from ..networks.regularization import Dropout
from .feed_forward import FeedForward
from .layer_norm import LayerNorm


def _is_pre(placement):
    if placement == "pre":
        return True
    if placement == "post":
        return False
    raise ValueError(f"placement can be pre or post, and not {placement}")


class EncoderBlock(nn.Module):
    def __init__(
        self, embed_dim, num_heads, hidden_dim=None, *, activation="relu", placement="post", dropout=0.0, eps=1e-5
    ):
        super().__init__()
        if hidden_dim is None:
            hidden_dim = 4 * embed_dim
        self.pre = _is_pre(placement)
        self.mlp = FeedForward(embed_dim, hidden_dim, activation=activation)
        self.attn = MultiHeadAttention(embed_dim, num_heads, dropout=dropout)
        self.ln_1 = LayerNorm(embed_dim, eps=eps)
        self.ln_2 = LayerNorm(embed_dim, eps=eps)
        self.drop = Dropout(dropout)

    def forward(self, x, mask=None):
        if self.pre:
            x = x + self.drop(self.attn(self.ln_1(x), None, mask))
            x = x + self.drop(self.mlp(self.ln_2(x)))
        else:
            x = self.ln_1(self.drop(self.attn(x, None, mask)) + x)
            x = self.ln_2(self.drop(self.mlp(x)) + x)
        return x


class DecoderBlock(nn.Module):
    def __init__(
        self, embed_dim, num_heads, hidden_dim=None, *, activation="relu", placement="post", dropout=0.0, eps=1e-5
    ):
        super().__init__()
        if hidden_dim is None:
            hidden_dim = 4 * embed_dim
        self.pre = _is_pre(placement)
        self.mlp = FeedForward(embed_dim, hidden_dim, activation=activation)
        self.cross_attn = MultiHeadAttention(embed_dim, num_heads, dropout=dropout)
        self.attn = MultiHeadAttention(embed_dim, num_heads, causal=True, dropout=dropout)
        self.ln_1, self.ln_2, self.ln_3 = (LayerNorm(embed_dim, eps=eps) for _ in range(3))
        self.drop = Dropout(dropout)

    def forward(self, x, memory, mask=None, memory_mask=None):
        if self.pre:
            own = self.drop(self.attn(self.ln_1(x), mask=mask))
            x = x + own
            looked_up = self.drop(self.cross_attn(self.ln_2(x), memory=memory, mask=memory_mask))
            x = x + looked_up
            return x + self.drop(self.mlp(self.ln_3(x)))
        x = self.ln_1(x + self.drop(self.attn(x, mask=mask)))
        x = self.ln_2(x + self.drop(self.cross_attn(x, memory=memory, mask=memory_mask)))
        return self.ln_3(x + self.drop(self.mlp(x)))
