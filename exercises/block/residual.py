"""The residual connection: a sublayer adds to its input in the place of replacing it.

Symbols: x the tokens (..., C) of width C, the *residual stream*; f the sublayer (attention, or a feed-forward network),
whose result is the *branch*.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..networks.regularization import Dropout

PLACEMENTS = ("pre", "post")


class Residual(nn.Module):
    """Add what a sublayer makes of x to x itself (He et al. 2016, section 3.2), with a normalisation.

    The two places for the normalisation (Xiong et al. 2020, section 3 and figure 1), and what is computed:

        "pre"     x + dropout(f(norm(x)))       GPT-2: the sum is untouched, so x has a free way through all layers
        "post"    norm(x + dropout(f(x)))       Vaswani et al. 2017, section 3.1: each sum is normalised

    The dropout is on the branch alone, after the sublayer: no number of x is ever dropped or scaled.

    The module has no parameters, and its state_dict is empty: sublayer and normalisation belong to the block, which
    hands them in with each call. So a block keeps GPT-2's flat names (`ln_1`, `attn`, `ln_2`, `mlp`).

    Args:
        placement: "pre" or "post", one of `PLACEMENTS`.
        dropout: probability with which a number of the branch is dropped while training; at least 0 and less than 1.
        generator: where the dropout is drawn from; torch's global one if None.

    Raises:
        ValueError: there is no such placement: the message names it and those that there are. Or `dropout` is out of
            its range: the message gives its value.

    Example:
        >>> x = torch.tensor([1.0, 3.0])
        >>> Residual("pre")(x, lambda h: 10 * h, lambda h: h - h.mean())
        tensor([-9., 13.])
        >>> Residual("post")(x, lambda h: 10 * h, lambda h: h - h.mean())
        tensor([-11.,  11.])
    """

    def __init__(
        self, placement: str = "pre", dropout: float = 0.0, *, generator: torch.Generator | None = None
    ) -> None:
        raise NotImplementedError("block/residual: Residual.__init__")

    def forward(self, x: Tensor, sublayer: Callable[[Tensor], Tensor], norm: Callable[[Tensor], Tensor]) -> Tensor:
        """Call sublayer and normalisation, each once, and add.

        Args:
            x: tokens (..., C), which are not changed in place.
            sublayer: f, makes a tensor of the same shape. (What needs more than one argument is bound beforehand:
                ``lambda h: attention(h, mask=mask)``.)
            norm: normalises a tensor (..., C).

        Returns:
            (..., C).

        Raises:
            ValueError: the sublayer's result is not of the shape of `x`; the message gives both shapes. Added as it
                is, a result (B, 1, C) would broadcast to all tokens, and nobody would notice.
        """
        raise NotImplementedError("block/residual: Residual.forward")
