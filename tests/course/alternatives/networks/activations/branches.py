"""Plain: each branch of a torch.where gets an argument that it can bear, and autograd does the rest; no type hints."""

import math

import torch
from torch import nn


def relu(x):
    return x * (x > 0)


def leaky_relu(x, negative_slope=0.01):
    return x.clamp(min=0) + negative_slope * x.clamp(max=0)


def sigmoid(x):
    right = x >= 0
    zero = torch.zeros_like(x)
    e_right = torch.exp(-torch.where(right, x, zero))
    e_left = torch.exp(torch.where(right, zero, x))
    return torch.where(right, 1 / (1 + e_right), e_left / (1 + e_left))


def tanh(x):
    right = x >= 0
    zero = torch.zeros_like(x)
    # e^-2x - 1 and e^2x - 1
    e_right = torch.expm1(-2 * torch.where(right, x, zero))
    e_left = torch.expm1(2 * torch.where(right, zero, x))
    return torch.where(right, -e_right / (e_right + 2), e_left / (e_left + 2))


def silu(x):
    s = sigmoid(x)
    return s * x


def gelu(x):
    Phi = torch.special.erfc(-x / math.sqrt(2)) / 2
    return Phi * x


def gelu_tanh(x):
    u = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
    return 0.5 * x * (1 + tanh(u))


ACTIVATIONS = {
    "relu": relu,
    "leaky_relu": leaky_relu,
    "sigmoid": sigmoid,
    "tanh": tanh,
    "silu": silu,
    "gelu": gelu,
    "gelu_tanh": gelu_tanh,
}


class SwiGLU(nn.ModuleDict):
    def __init__(self, in_features, out_features, *, bias=True):
        if in_features <= 0:
            raise ValueError("in_features has to be positive, it is %d" % in_features)
        if out_features <= 0:
            raise ValueError("out_features has to be positive, it is %d" % out_features)
        super().__init__({name: nn.Linear(in_features, out_features, bias) for name in ("gate", "value")})
        self.width = in_features

    def forward(self, x):
        if x.ndim == 0 or x.size(-1) != self.width:
            raise ValueError(f"got a tensor {tuple(x.shape)} whose last axis is not {self.width}")
        g, v = self["gate"](x), self["value"](x)
        return v * silu(g)
