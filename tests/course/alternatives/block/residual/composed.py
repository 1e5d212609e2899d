"""Functions are composed when it is made: before, branch and after; the dropout is a submodule with another name."""

from collections.abc import Callable

from torch import Tensor, nn

from ..networks.regularization import Dropout

Function = Callable[[Tensor], Tensor]
PLACEMENTS: tuple[str, ...] = ("pre", "post")


def nothing(x: Tensor) -> Tensor:
    return x


class Residual(nn.Module):
    def __init__(self, placement: str = PLACEMENTS[0], dropout: float = 0.0, *, generator=None, scale: float = 1.0):
        super().__init__()
        assert_known(placement)
        self.scale = scale
        self.at = PLACEMENTS.index(placement)
        self.drop_branch = nn.Sequential(Dropout(dropout, generator=generator))

    def forward(self, x: Tensor, sublayer: Function, norm: Function) -> Tensor:
        before, after = (norm, nothing) if self.at == 0 else (nothing, norm)
        branch = sublayer(before(x))
        same = branch.dim() == x.dim() and all(a == b for a, b in zip(branch.shape, x.shape))
        if not same:
            raise ValueError(f"shapes {tuple(x.shape)} and {tuple(branch.shape)} of x and branch are different")
        stream = x.clone()
        stream += self.scale * self.drop_branch(branch)
        return after(stream)


def assert_known(placement: str) -> None:
    known = ", ".join(map(repr, PLACEMENTS))
    if placement not in PLACEMENTS:
        raise ValueError(f"{placement!r} is none of {known}")
