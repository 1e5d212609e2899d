"""All parameters of a group at once, by torch's functions for lists of tensors."""

from __future__ import annotations

import math
from typing import Any, Callable, Iterable

import torch
from torch import Tensor, nn


def _at_least_zero(**values: float) -> None:
    bad = {key: value for key, value in values.items() if math.isnan(value) or value < 0}
    if bad:
        raise ValueError("these must not be negative: " + ", ".join(f"{key} = {value}" for key, value in bad.items()))


class AdamW(torch.optim.Optimizer):
    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 0.001,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-08,
        weight_decay: float = 0.01,
        *,
        name: str = "AdamW",
    ) -> None:
        _at_least_zero(lr=lr, eps=eps, weight_decay=weight_decay)
        first, second = betas
        if min(first, second) < 0 or max(first, second) >= 1 or math.isnan(first + second):
            raise ValueError(f"betas = {betas}, but each lies in [0, 1)")
        self.name = name
        super().__init__(params, defaults=dict(eps=eps, betas=betas, weight_decay=weight_decay, lr=lr))

    def _state_of(self, parameter: Tensor) -> dict[str, Tensor]:
        state = self.state[parameter]
        for key in ("exp_avg", "exp_avg_sq"):
            state.setdefault(key, torch.zeros_like(parameter, memory_format=torch.preserve_format))
        state.setdefault("step", torch.tensor(0, dtype=torch.float32))
        return state

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure:
            with torch.set_grad_enabled(True):
                loss = closure()
        with torch.no_grad():
            if any(p.grad is not None and p.grad.is_sparse for group in self.param_groups for p in group["params"]):
                raise RuntimeError("no sparse gradients, please")
            for group in self.param_groups:
                self._step_of_group(group)
        return loss

    def _step_of_group(self, group: dict[str, Any]) -> None:
        moving = [p for p in group["params"] if p.grad is not None]
        if not moving:
            return
        states = [self._state_of(p) for p in moving]
        gradients = [p.grad for p in moving]
        first, second = group["betas"]
        eta = group["lr"]
        ages, means, squares = ([state[key] for state in states] for key in ("step", "exp_avg", "exp_avg_sq"))

        torch._foreach_add_(ages, 1.0)
        torch._foreach_mul_(means, first)
        torch._foreach_add_(means, gradients, alpha=1 - first)
        torch._foreach_mul_(squares, second)
        torch._foreach_addcmul_(squares, gradients, gradients, 1 - second)

        ages = [age.item() for age in ages]
        roots = torch._foreach_sqrt(squares)
        torch._foreach_mul_(roots, [(1 - second**age) ** -0.5 for age in ages])
        torch._foreach_add_(roots, group["eps"])
        moves = torch._foreach_div(means, roots)
        torch._foreach_mul_(moves, [-eta / (1 - first**age) for age in ages])
        torch._foreach_add_(moves, torch._foreach_mul(moving, -eta * group["weight_decay"]))
        torch._foreach_add_(moving, moves)


def weight_decay_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    _at_least_zero(weight_decay=weight_decay)
    groups: list[dict[str, Any]] = [dict(weight_decay=weight_decay, params=[]), dict(weight_decay=0.0, params=[])]
    for parameter in filter(lambda each: each.requires_grad, model.parameters()):
        groups[parameter.ndim < 2]["params"].append(parameter)
    return groups
