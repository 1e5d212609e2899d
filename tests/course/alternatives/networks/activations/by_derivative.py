"""Calculus by hand: every function is a torch.autograd.Function with a derivative of its own, worked out in float64."""

from __future__ import annotations

from math import pi, sqrt
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function


def smooth(value: Any, derivative: Any) -> Any:
    """An activation from two functions of a float64 tensor."""

    class Activation(Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor, *extra: float) -> Tensor:
            ctx.save_for_backward(x)
            ctx.extra = extra
            return value(x.double(), *extra).to(x.dtype)

        @staticmethod
        def backward(ctx: Any, *upstream: Tensor) -> Any:
            (x,) = ctx.saved_tensors
            (above,) = upstream
            slope = derivative(x.double(), *ctx.extra)
            return (above.double() * slope).to(above.dtype), *(None for _ in ctx.extra)

    return Activation.apply


def _logistic(x: Tensor) -> Tensor:
    # the exponential is at most e^708 in float64
    return (1.0 + torch.exp(-x.clamp(-700.0, 700.0))).reciprocal()


def _hyperbolic(x: Tensor) -> Tensor:
    near = x.clamp(-20.0, 20.0)
    return torch.sinh(near) / torch.cosh(near)


def _normal_below(x: Tensor) -> Tensor:
    return torch.erfc(-x / sqrt(2.0)) / 2.0


def _inner(x: Tensor) -> Tensor:
    return sqrt(2.0 / pi) * (x + 0.044715 * torch.pow(x, 3))


def _silu_slope(x: Tensor) -> Tensor:
    s = _logistic(x)
    return s + x * s * (1.0 - s)


def _gelu_slope(x: Tensor) -> Tensor:
    return _normal_below(x) + x * torch.exp(-x.square() / 2.0) / sqrt(2.0 * pi)


def _gelu_tanh_slope(x: Tensor) -> Tensor:
    t = _hyperbolic(_inner(x))
    return 0.5 * (1.0 + t) + 0.5 * x * (1.0 - t.square()) * sqrt(2.0 / pi) * (1.0 + 3 * 0.044715 * x.square())


_relu = smooth(lambda x: (x + x.abs()) / 2.0, lambda x: (x > 0).double())
_leaky = smooth(
    lambda x, slope: torch.where(x < 0, slope * x, x), lambda x, slope: torch.ones_like(x).masked_fill(x < 0, slope)
)
sigmoid = smooth(_logistic, lambda x: _logistic(x) * _logistic(-x))
tanh = smooth(_hyperbolic, lambda x: 1.0 - _hyperbolic(x).square())
silu = smooth(lambda x: x * _logistic(x), _silu_slope)
gelu = smooth(lambda x: x * _normal_below(x), _gelu_slope)
gelu_tanh = smooth(lambda x: 0.5 * x * (1.0 + _hyperbolic(_inner(x))), _gelu_tanh_slope)


def relu(x: Tensor) -> Tensor:
    return _relu(x)


def leaky_relu(x: Tensor, negative_slope: float = 0.01) -> Tensor:
    return _leaky(x, negative_slope)


names = ("relu", "leaky_relu", "sigmoid", "tanh", "silu", "gelu", "gelu_tanh")
ACTIVATIONS = {name: globals()[name] for name in names}


class SwiGLU(nn.Module):
    def __init__(self, in_features: int, out_features: int, *, bias: bool = True) -> None:
        super().__init__()
        widths = {"in_features": in_features, "out_features": out_features}
        wrong = [f"{name} = {width}" for name, width in widths.items() if not width > 0]
        if wrong:
            raise ValueError("too small: " + ", ".join(wrong))
        self.value = nn.Linear(**widths, bias=bias)
        self.gate = nn.Linear(**widths, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        wanted = self.value.in_features
        if list(x.shape)[-1:] != [wanted]:
            raise ValueError(f"shape {tuple(x.shape)} should end in {wanted}")
        # Both maps as one product.
        weight = torch.cat([self.gate.weight, self.value.weight])
        product = torch.einsum("oi,...i->...o", weight, x)
        if self.gate.bias is not None:
            product = product + torch.cat([self.gate.bias, self.value.bias])
        gate, value = product.chunk(2, dim=-1)
        return silu(gate).mul(value)
