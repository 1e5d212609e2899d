"""Plain: one way for all positions, loops, no type hints, and numbers that are drawn and then scaled."""

import torch
from torch import nn

from ..block.layer_norm import LayerNorm
from ..embeddings.custom import TiedOutput
from ..embeddings.embedding import Embedding
from ..embeddings.learned import LearnedPositionalEmbedding
from ..networks.losses import cross_entropy
from ..networks.regularization import Dropout

IGNORED = -100


class InputOutput(nn.Module):
    def __init__(self, config, generator=None):
        super(InputOutput, self).__init__()
        self.config = config
        vocab_size, width = config.vocab_size, config.embed_dim
        self.wte = Embedding(vocab_size, width)
        self.wpe = LearnedPositionalEmbedding(config.context_length, width)
        self.ln_f = LayerNorm(width, eps=config.eps)
        self.lm_head = TiedOutput(self.wte)
        self.embedding_dropout = Dropout(config.embedding_dropout)
        initialize(self, config.num_layers, generator)

    def embed(self, tokens, past=0, positions=None):
        if len(tokens.shape) != 2:
            raise ValueError("expected tokens with two axes, not " + str(tuple(tokens.shape)))
        rows, length = tokens.shape
        limit = self.config.context_length
        if positions is None:
            if past < 0:
                raise ValueError("past is negative: %d" % past)
            if past + length > limit:
                raise ValueError("%d tokens are too many for the context_length %d" % (past + length, limit))
            positions = torch.arange(past, past + length, device=tokens.device).repeat(rows, 1)
        elif tuple(positions.shape) != (rows, length):
            raise ValueError("positions have shape %s, tokens %s" % (tuple(positions.shape), (rows, length)))
        for position in set(positions.flatten().tolist()):
            if position < 0 or position >= limit:
                raise ValueError("there is no position %d where context_length is %d" % (position, limit))
        sum_of_both = self.wpe.weight[positions] + self.wte(tokens)
        return self.embedding_dropout(sum_of_both)

    def logits(self, hidden):
        normalised = self.ln_f(hidden)
        return self.lm_head(normalised)


def initialize(module, num_layers, generator=None):
    if num_layers < 1:
        raise ValueError("num_layers is %d, but a model has one layer at least" % num_layers)
    for name, parameter in module.named_parameters():
        if name.endswith("bias"):
            new = torch.zeros(parameter.shape)
        elif len(parameter.shape) == 1:
            new = torch.ones(parameter.shape)
        else:
            new = 0.02 * torch.randn(parameter.shape, generator=generator)
            parts = name.split(".")
            if len(parts) >= 2 and parts[-2] == "c_proj":
                new = new * (2 * num_layers) ** -0.5
        with torch.no_grad():
            parameter.copy_(new)


def next_tokens(tokens, mask=None):
    if len(tokens.shape) != 2:
        raise ValueError("expected tokens with two axes, not " + str(tuple(tokens.shape)))
    if tokens.dtype != torch.int32 and tokens.dtype != torch.int64:
        raise TypeError("tokens of type " + str(tokens.dtype) + " cannot be ignored")
    if mask is not None and mask.shape != tokens.shape:
        raise ValueError("the mask is %s, tokens are %s" % (tuple(mask.shape), tuple(tokens.shape)))
    if mask is not None and mask.dtype != torch.bool:
        raise TypeError("the mask should be bool and is " + str(mask.dtype))
    rows, length = tokens.shape
    targets = tokens.clone()
    for t in range(length):
        if t == length - 1:
            targets[:, t] = IGNORED
        else:
            targets[:, t] = tokens[:, t + 1]
            if mask is not None:
                targets[~mask[:, t], t] = IGNORED
                targets[~mask[:, t + 1], t] = IGNORED
    return targets


def language_model_loss(logits, targets):
    losses = cross_entropy(logits, targets, ignore_index=IGNORED, reduction="none")
    count = (targets != IGNORED).sum()
    return losses.sum() / torch.clamp(count, min=1)
