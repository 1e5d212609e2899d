"""Plain: loops over columns and heads, checks written out one after the other, a running total; no type hints."""

import torch
from torch import nn

from .activations import ACTIVATIONS
from .losses import cross_entropy, huber_loss
from .mlp import MLP, glorot_uniform_


class MixedInputNetwork(nn.Module):
    def __init__(
        self,
        numeric_features,
        cardinalities,
        heads,
        *,
        embedding_dim=8,
        hidden_sizes=(64, 64),
        activation="relu",
        generator=None,
    ):
        super().__init__()
        if numeric_features < 0:
            raise ValueError(f"numeric_features is negative: {numeric_features}")
        if numeric_features == 0 and len(cardinalities) == 0:
            raise ValueError("no input at all: numeric_features is 0 and there are no cardinalities")
        for column in cardinalities:
            if cardinalities[column] < 1:
                raise ValueError(f"column {column} has {cardinalities[column]} categories")
        if len(heads) == 0:
            raise ValueError("no heads")
        for head in heads:
            if heads[head] < 1:
                raise ValueError(f"head {head} has {heads[head]} classes")
        if embedding_dim < 1:
            raise ValueError(f"embedding_dim is {embedding_dim}")
        if len(hidden_sizes) == 0:
            raise ValueError("hidden_sizes is empty")
        for size in hidden_sizes:
            if size < 1:
                raise ValueError(f"hidden_sizes has a {size}")
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation {activation} does not exist")

        self.num_numeric = numeric_features
        self.columns = list(cardinalities.keys())
        self.sizes = list(cardinalities.values())
        self.names = list(heads.keys())
        self.act = ACTIVATIONS[activation]

        self.embeddings = nn.ModuleList()
        for size in self.sizes:
            table = nn.Embedding(size, embedding_dim)
            table.weight.data = torch.randn(size, embedding_dim, generator=generator)
            self.embeddings.append(table)
        inputs = numeric_features + embedding_dim * len(self.sizes)
        self.trunk = MLP([inputs] + list(hidden_sizes), activation, generator=generator)
        self.heads = nn.ModuleList()
        for name in self.names:
            linear = nn.Linear(hidden_sizes[-1], heads[name])
            glorot_uniform_(linear.weight, generator=generator)
            linear.bias.data.zero_()
            self.heads.append(linear)

    def forward(self, numeric, categorical):
        if numeric.dim() != 2 or numeric.size(1) != self.num_numeric:
            raise ValueError(f"numeric has the shape {tuple(numeric.shape)}")
        if categorical.dim() != 2 or categorical.size(1) != len(self.columns):
            raise ValueError(f"categorical has the shape {tuple(categorical.shape)}")
        if numeric.size(0) != categorical.size(0):
            raise ValueError(f"numbers of rows: {tuple(numeric.shape)} and {tuple(categorical.shape)}")
        if categorical.dtype != torch.long:
            raise TypeError(f"categorical is {categorical.dtype}")
        parts = [numeric]
        for i in range(len(self.columns)):
            column = categorical[:, i]
            for value in column.tolist():
                if value < 0 or value >= self.sizes[i]:
                    raise ValueError(f"column {self.columns[i]} has no category {value}")
            parts.append(self.embeddings[i](column))
        h = self.act(self.trunk(torch.cat(parts, 1)))
        result = {}
        for i in range(len(self.names)):
            out = self.heads[i](h)
            if out.size(1) == 1:
                out = out[:, 0]
            result[self.names[i]] = out
        return result


def weighted_loss(outputs, targets, weights=None):
    if weights is None:
        weights = {}
    for name in outputs:
        if name not in targets:
            raise ValueError(f"target of {name} is missing")
    for name in targets:
        if name not in outputs:
            raise ValueError(f"target {name} belongs to no head")
    for name in weights:
        if name not in outputs:
            raise ValueError(f"weight {name} belongs to no head")
        if weights[name] < 0 or weights[name] != weights[name]:
            raise ValueError(f"weight of {name} is {weights[name]}")
    total = 0.0
    log = {}
    for name in outputs:
        out = outputs[name]
        target = targets[name]
        if target.dim() != 1 or len(target) != len(out):
            raise ValueError(f"{name}: output {tuple(out.shape)}, target {tuple(target.shape)}")
        if out.dim() == 1:
            loss = huber_loss(out, target)
        else:
            loss = cross_entropy(out, target)
        weight = 1.0
        if name in weights:
            weight = weights[name]
        total = total + weight * loss
        log[name] = loss.detach()
    return total, log
