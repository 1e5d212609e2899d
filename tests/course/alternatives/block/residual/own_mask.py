"""Plain: dropout by a mask of its own, everything in one forward with if and else."""

import torch
from torch import nn

PLACEMENTS = ("pre", "post")


class Residual(nn.Module):
    def __init__(self, placement: str = "pre", dropout: float = 0.0, *, generator: torch.Generator | None = None):
        super().__init__()
        if placement != "pre" and placement != "post":
            raise ValueError("there is no placement " + repr(placement) + ", only " + " and ".join(PLACEMENTS))
        if not (dropout >= 0 and dropout < 1):
            raise ValueError("a dropout of " + str(dropout) + " is not possible")
        self.is_pre = placement == "pre"
        self.p = dropout
        self.generator = generator

    def forward(self, x: torch.Tensor, sublayer, norm) -> torch.Tensor:
        if self.is_pre:
            f = sublayer(norm(x))
        else:
            f = sublayer(x)

        if f.size() != x.size():
            raise ValueError("x has " + str(list(x.size())) + ", the sublayer made " + str(list(f.size())))

        if self.training and self.p > 0:
            noise = torch.rand(f.shape, generator=self.generator, dtype=torch.float64)
            scaled = f / (1 - self.p)
            f = torch.where(noise < self.p, torch.zeros_like(scaled), scaled)

        result = torch.add(x, f)
        if not self.is_pre:
            result = norm(result)
        return result
