"""AdamW, and which parameters decay.

Symbols: for one parameter, θ its values, g its gradient, m and v the running means of g and of g², t the number of the
step, counted from 1.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT


class AdamW(Optimizer):
    """Adam with decoupled weight decay (Kingma and Ba 2015, algorithm 1; Loshchilov and Hutter 2019, algorithm 2).

    Step t of a parameter, with the learning rate η (`lr`) as it is now, decay λ (`weight_decay`) and ε (`eps`):

        θ ← θ - η λ θ
        m ← β₁ m + (1 - β₁) g            m̂ = m / (1 - β₁ᵗ)
        v ← β₂ v + (1 - β₂) g²           v̂ = v / (1 - β₂ᵗ)
        θ ← θ - η m̂ / (√v̂ + ε)

    m and v begin at 0, and t counts the steps of this one parameter: one whose gradient is None is left out of a step
    altogether, and neither decays nor counts it. The decay does not pass through m and v.

    The state of a parameter is `step` (t, a float32 scalar on the CPU), `exp_avg` (m) and `exp_avg_sq` (v), both of the
    parameter's shape, dtype and device: the names of `torch.optim.AdamW`, so that each can load the other's
    `state_dict()` and go on (without torch's options `amsgrad` and `maximize`).

    Args:
        params: parameters of a real floating dtype, or groups of them: dicts with "params", and with any of the
            options below where a group has its own, as `weight_decay_groups` makes them. At each step the options are
            read from the group, where a schedule may have changed them.
        lr: the learning rate η, at least 0.
        betas: β₁ and β₂, each at least 0 and less than 1.
        eps: ε, at least 0; it keeps the quotient finite where all gradients were 0.
        weight_decay: λ, at least 0.

    Raises:
        ValueError: `lr`, `betas`, `eps` or `weight_decay` is out of its range; the message names which, and its value.

    Example:
        >>> weight = nn.Parameter(torch.tensor([1.0]))
        >>> weight.grad = torch.tensor([0.5])
        >>> AdamW([weight], lr=0.1, weight_decay=0.2).step()  # 1 - 0.1 · 0.2 · 1, and 0.1 against the gradient's sign
        >>> weight
        Parameter containing:
        tensor([0.8800], requires_grad=True)
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:
        for name, value in (("lr", lr), ("eps", eps), ("weight_decay", weight_decay)):
            if not value >= 0.0:  # true of NaN as well
                raise ValueError(f"{name} must be at least 0, got {value}")
        if not all(0.0 <= beta < 1.0 for beta in betas):
            raise ValueError(f"betas must be at least 0 and less than 1, got {betas}")
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Update each parameter that has a gradient, in place.

        Args:
            closure: computes the loss and its gradients anew; called once, before the update, with gradients enabled.

        Returns:
            What the closure returned; None without one.

        Raises:
            RuntimeError: a gradient is sparse; the message says so, and its parameter is as it was.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, parameter.grad, group)
        return loss

    def _update(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        """One step of one parameter."""
        if gradient.is_sparse:
            raise RuntimeError("AdamW does not take sparse gradients: a row without one would still decay and move")
        state = self.state[parameter]
        if not state:
            state["step"] = torch.tensor(0.0)  # on the CPU: to read it must not make the CPU wait for a GPU
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        state["step"] += 1
        step, exp_avg, exp_avg_sq = state["step"].item(), state["exp_avg"], state["exp_avg_sq"]
        lr, (beta1, beta2) = group["lr"], group["betas"]

        parameter.mul_(1 - lr * group["weight_decay"])
        exp_avg.lerp_(gradient, 1 - beta1)
        exp_avg_sq.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        # √v̂ + ε. The two corrections are plain numbers: m̂ and v̂ need no tensors of their own.
        denominator = exp_avg_sq.sqrt().div_(math.sqrt(1 - beta2**step)).add_(group["eps"])
        parameter.addcdiv_(exp_avg, denominator, value=-lr / (1 - beta1**step))


def weight_decay_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Divide a model's parameters into those that decay and those that do not.

    Matrices decay: linear layers and embeddings, whatever has two axes or more. Biases and the weights of norms, with
    one axis or none, do not: they are few, and a norm's weight belongs near 1 and not near 0.

    Args:
        model: the model. A parameter that occurs in several places, as tied weights do, is taken once; one that is
            frozen (`requires_grad` is False) is left out.
        weight_decay: of the first group, at least 0.

    Returns:
        Two groups for an optimizer, also where one is empty: `{"params": [...], "weight_decay": weight_decay}` and
        `{"params": [...], "weight_decay": 0.0}`, each list in the order of `model.parameters()`.

    Raises:
        ValueError: `weight_decay` is negative or NaN; the message names it and its value.

    Example:
        >>> layer = nn.Linear(3, 2)
        >>> decaying, others = weight_decay_groups(layer, 0.1)
        >>> decaying["params"][0] is layer.weight, others["params"][0] is layer.bias
        (True, True)
    """
    if not weight_decay >= 0.0:
        raise ValueError(f"weight_decay must be at least 0, got {weight_decay}")
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return [
        {"params": [parameter for parameter in trained if parameter.dim() >= 2], "weight_decay": weight_decay},
        {"params": [parameter for parameter in trained if parameter.dim() < 2], "weight_decay": 0.0},
    ]
