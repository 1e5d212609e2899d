"""One base class runs a list of steps for both blocks; the dropout is made of random numbers, the norms are numbered."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor, nn

from ..attention.masking import causal_mask, combine_masks
from ..attention.multi_head import MultiHeadAttention
from .feed_forward import FeedForward
from .layer_norm import LayerNorm

Step = Callable[[Tensor], Tensor]


class _Block(nn.Module):
    """What encoder and decoder have in common; `steps` is their own."""

    attentions: tuple[str, ...] = ()

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
        share: float | None = None,
    ) -> None:
        super().__init__()
        if placement not in {"pre", "post"}:
            raise ValueError(f"unknown placement: {placement!r}")
        for name in self.attentions:
            # Not causal by itself: the mask is made here, and combined with the one for padding.
            self.add_module(name, MultiHeadAttention(embed_dim, num_heads, dropout=dropout))
        width = 4 * embed_dim if hidden_dim is None else hidden_dim
        self.mlp = FeedForward(embed_dim, width, activation=activation)
        for number in range(len(self.attentions) + 1):
            setattr(self, f"ln_{number + 1}", LayerNorm(embed_dim, eps))
        self.before = placement == "pre"
        self.dropped = dropout if share is None else share

    def _thinned(self, branch: Tensor) -> Tensor:
        if not self.training or self.dropped == 0:
            return branch
        kept = torch.rand_like(branch) >= self.dropped
        return torch.where(kept, branch / (1 - self.dropped), torch.zeros_like(branch))

    def _run(self, x: Tensor, steps: Iterator[Step]) -> Tensor:
        for number, step in enumerate(steps, start=1):
            norm = getattr(self, f"ln_{number}")
            branch = step(norm(x) if self.before else x)
            x = torch.add(x, self._thinned(branch))
            x = x if self.before else norm(x)
        return x


class EncoderBlock(_Block):
    """Two steps."""

    attentions = ("attn",)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Reads."""
        return self._run(x, iter((partial(self.attn, mask=mask), self.mlp)))


class DecoderBlock(_Block):
    """Three steps."""

    attentions = ("attn", "cross_attn")

    def forward(
        self, x: Tensor, memory: Tensor, mask: Tensor | None = None, memory_mask: Tensor | None = None
    ) -> Tensor:
        """Writes."""

        def steps() -> Iterator[Step]:
            seen = combine_masks(causal_mask(x.size(1), device=x.device), mask)
            yield partial(self.attn, mask=seen)
            yield lambda tokens: self.cross_attn(tokens, memory, memory_mask)
            yield self.mlp

        return self._run(x, steps())
