"""Goes from module to module to initialize, looks rows up by products with one-hot vectors, flattens before the loss."""

from math import sqrt

import torch
from torch import Tensor, cat, nn

from ..block.layer_norm import LayerNorm
from ..embeddings import custom, embedding, learned
from ..networks.losses import cross_entropy
from ..networks.regularization import Dropout
from .configuration import GPT2Config

IGNORED = -100


def _rows(table: Tensor, indices: Tensor) -> Tensor:
    """The rows of a table, as a product: the gradient comes with it."""
    chosen = indices.unsqueeze(-1) == torch.arange(table.size(0), device=table.device)
    return chosen.to(table) @ table


def _two_axes(tokens: Tensor) -> None:
    if tokens.ndim != 2:
        raise ValueError(f"of (B, T) there must be two axes: {tuple(tokens.shape)}")


class InputOutput(nn.Module):
    """An `nn.ModuleDict` holds the dropout, which has no parameters."""

    def __init__(self, config: GPT2Config, *, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.config = config
        self.wpe = learned.LearnedPositionalEmbedding(config.context_length, config.embed_dim)
        self.wte = embedding.Embedding(config.vocab_size, config.embed_dim)
        self.lm_head = custom.TiedOutput(self.wte)
        self.ln_f = LayerNorm(config.embed_dim, config.eps)
        self.others = nn.ModuleDict({"dropout": Dropout(config.embedding_dropout)})
        initialize(self, config.num_layers, generator=generator)

    def _within(self, positions: Tensor) -> Tensor:
        size = self.config.context_length
        outside = positions[torch.logical_or(positions < 0, positions >= size)]
        if outside.numel() > 0:
            raise ValueError(f"{outside[0].item()} lies outside of the {size} positions (context_length)")
        return positions

    def embed(self, tokens: Tensor, *, past: int = 0, positions: Tensor | None = None) -> Tensor:
        """Both lookups and their sum."""
        _two_axes(tokens)
        words: Tensor = self.wte(tokens)
        if positions is not None:
            if positions.size() != tokens.size():
                raise ValueError(f"got {tuple(positions.shape)} positions for {tuple(tokens.shape)} tokens")
            places = _rows(self.wpe.weight, self._within(positions))
        else:
            places = self.wpe(torch.zeros_like(words), past=past)
        dropped: Tensor = self.others["dropout"](torch.stack([words, places]).sum(0))
        return dropped

    def logits(self, hidden: Tensor) -> Tensor:
        """The head after the norm."""
        return nn.Sequential(self.ln_f, self.lm_head)(hidden)


def initialize(module: nn.Module, num_layers: int, *, generator: torch.Generator | None = None) -> None:
    """Each module's own parameters; a tied one is drawn twice, which harms nothing."""
    if not num_layers > 0:
        raise ValueError(f"{num_layers=}")
    for path, part in module.named_modules():
        std = 0.02
        if path.rpartition(".")[2] == "c_proj":
            std /= sqrt(num_layers + num_layers)
        for kind, parameter in part.named_parameters(recurse=False):
            if kind.endswith("bias"):
                nn.init.zeros_(parameter)
            elif parameter.ndim > 1:
                nn.init.normal_(parameter, 0.0, std, generator=generator)
            else:
                nn.init.ones_(parameter)


def next_tokens(tokens: Tensor, mask: Tensor | None = None) -> Tensor:
    """A column of what is ignored, put behind what follows."""
    _two_axes(tokens)
    if tokens.dtype not in {torch.int32, torch.int64}:
        raise TypeError(f"{tokens.dtype} tokens, not int32 or int64")
    if mask is None:
        mask = torch.ones_like(tokens, dtype=torch.bool)
    if mask.shape != tokens.shape:
        raise ValueError(f"shapes {tuple(tokens.shape)} and {tuple(mask.shape)}: they must agree")
    if mask.dtype is not torch.bool:
        raise TypeError(f"a {mask.dtype} mask, not a boolean one")
    last = tokens.new_full((tokens.size(0), 1), IGNORED)
    both = mask & cat([mask[:, 1:], torch.zeros_like(last, dtype=torch.bool)], dim=1)
    return torch.where(both, cat([tokens[:, 1:], last], dim=1), torch.full_like(tokens, IGNORED))


def language_model_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Only the rows that count are handed on, unless the shapes are to be refused."""
    if logits.shape[:-1] != targets.shape:
        return cross_entropy(logits, targets)
    counted = targets.ne(IGNORED)
    return cross_entropy(logits[counted], targets[counted], ignore_index=IGNORED)
