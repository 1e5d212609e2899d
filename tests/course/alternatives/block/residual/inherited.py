"""A Residual is a Dropout of the branch: inheritance, and a method for each placement; without types."""

from ..networks.regularization import Dropout

PLACEMENTS = ("pre", "post")


class Residual(Dropout):
    def __init__(self, placement="pre", dropout=0.0, *, generator=None):
        try:
            way = {"pre": self._pre, "post": self._post}[placement]
        except KeyError:
            raise ValueError(f"I know pre and post, but not {placement}") from None
        super().__init__(dropout, generator=generator)
        self.way = way

    def forward(self, x, sublayer, norm):
        return self.way(x, sublayer, norm)

    def _pre(self, x, sublayer, norm):
        return self._sum(x, sublayer(norm(x)))

    def _post(self, x, sublayer, norm):
        return norm(self._sum(x, sublayer(x)))

    def _sum(self, x, branch):
        if list(branch.shape) != list(x.shape):
            raise ValueError(f"cannot add {branch.shape} to {x.shape}")
        return super().forward(branch) + x
