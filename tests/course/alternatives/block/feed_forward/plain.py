"""Plain: if and else where the gated network differs, tokens laid out as rows of a matrix; no type hints."""

import torch.nn as nn

from ..networks import activations


class FeedForward(nn.Module):
    def __init__(self, embed_dim, hidden_dim=None, *, activation="gelu_tanh", gated=False, bias=True):
        super(FeedForward, self).__init__()
        if embed_dim <= 0:
            raise ValueError("embed_dim = %d makes no sense" % embed_dim)
        if hidden_dim is None:
            hidden_dim = embed_dim * 4
        if hidden_dim <= 0:
            raise ValueError("hidden_dim = %d makes no sense" % hidden_dim)
        try:
            self.act = activations.ACTIVATIONS[activation]
        except KeyError:
            raise ValueError("unknown activation %s, try one of %s" % (activation, list(activations.ACTIVATIONS)))
        self.C = embed_dim
        self.F = hidden_dim
        self.gated = gated
        self.c_proj = nn.Linear(hidden_dim, embed_dim, bias=bias)
        if gated:
            self.c_gate = nn.Linear(embed_dim, hidden_dim, bias=bias)
        self.c_fc = nn.Linear(embed_dim, hidden_dim, bias=bias)

    def forward(self, x):
        shape = x.shape
        if len(shape) == 0 or shape[-1] != self.C:
            raise ValueError("tokens of width %d, please, not a tensor %s" % (self.C, tuple(shape)))
        rows = x.reshape(x.numel() // self.C, self.C)
        if self.gated:
            gate = self.act(self.c_gate(rows))
            inner = self.c_fc(rows)
            out = self.c_proj(inner * gate)
        else:
            inner = self.c_fc(rows)
            out = self.c_proj(self.act(inner))
        return out.reshape(shape)
