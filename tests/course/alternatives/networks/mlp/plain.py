"""Plain: a chain of ifs for the activations, randn and rand scaled by hand, F.linear; no type hints."""

import math

import torch
import torch.nn.functional as F
from torch import nn


def check_two_axes(weight):
    if len(weight.shape) != 2:
        raise ValueError("expected a matrix, but the weight has the shape " + str(tuple(weight.shape)))


def he_normal_(weight, negative_slope=0.0, *, generator=None):
    check_two_axes(weight)
    std = math.sqrt(2.0 / (1.0 + negative_slope * negative_slope)) / math.sqrt(weight.size(1))
    weight.data.copy_(torch.randn(weight.shape, generator=generator) * std)
    return weight


def glorot_uniform_(weight, gain=1.0, *, generator=None):
    check_two_axes(weight)
    std = gain * math.sqrt(2.0 / (weight.size(0) + weight.size(1)))
    a = math.sqrt(3.0) * std
    weight.data.copy_(torch.rand(weight.shape, generator=generator) * 2 * a - a)
    return weight


def apply_activation(name, z):
    if name == "relu":
        return torch.maximum(z, torch.zeros_like(z))
    if name == "leaky_relu":
        return torch.where(z >= 0, z, 0.01 * z)
    if name == "silu":
        return z * torch.sigmoid(z)
    if name == "gelu":
        return 0.5 * z * (1 + torch.erf(z / math.sqrt(2)))
    if name == "gelu_tanh":
        return 0.5 * z * (1 + torch.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3)))
    if name == "sigmoid":
        return 1 / (1 + torch.exp(-z))
    if name == "tanh":
        return torch.tanh(z)
    return z


class MLP(nn.Module):
    def __init__(self, sizes, activation="relu", *, bias=True, generator=None):
        super().__init__()
        sizes = list(sizes)
        if len(sizes) < 2:
            raise ValueError(f"need at least an input and an output size, sizes is {sizes}")
        for size in sizes:
            if size <= 0:
                raise ValueError(f"sizes must be positive: {sizes}")
        names = ["relu", "leaky_relu", "silu", "gelu", "gelu_tanh", "sigmoid", "identity", "tanh"]
        if activation not in names:
            raise ValueError(f"unknown activation {activation}")
        self.sizes = sizes
        self.activation = activation
        self.layers = nn.ModuleList()
        for i in range(len(sizes) - 1):
            self.layers.append(nn.Linear(sizes[i], sizes[i + 1], bias))
        for layer in self.layers:
            if activation == "leaky_relu":
                he_normal_(layer.weight, 0.01, generator=generator)
            elif activation in ("relu", "silu", "gelu", "gelu_tanh"):
                he_normal_(layer.weight, generator=generator)
            elif activation == "tanh":
                glorot_uniform_(layer.weight, 5.0 / 3.0, generator=generator)
            else:
                glorot_uniform_(layer.weight, generator=generator)
            if layer.bias is not None:
                layer.bias.data.fill_(0)

    def forward(self, x):
        if x.ndim < 1 or x.size(-1) != self.sizes[0]:
            raise ValueError(f"the input has shape {tuple(x.shape)}, its last axis must be {self.sizes[0]}")
        for i in range(len(self.layers)):
            x = F.linear(x, self.layers[i].weight, self.layers[i].bias)
            if i < len(self.layers) - 1:
                x = apply_activation(self.activation, x)
        return x
