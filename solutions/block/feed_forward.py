"""The feed-forward network of a block: works on each token alone, where attention works between them.

Symbols: C the width of a token (`embed_dim`), F the width inside (`hidden_dim`). "..." stands for any axes before
C, usually (B, T): B sequences of T tokens.
"""

from torch import Tensor, nn

from ..networks.activations import ACTIVATIONS


class FeedForward(nn.Module):
    """Two linear maps with an activation between them, the same for each token (Vaswani et al. 2017, section 3.3).

        plain    c_proj(activation(c_fc(x)))
        gated    c_proj(activation(c_gate(x)) * c_fc(x))

    The gated one (Shazeer 2020, section 2) multiplies each number inside by a gate; with the activation "silu" it is
    SwiGLU. There is no dropout in here: the residual connection around it has that.

    Parameters:
        c_fc: `nn.Linear` of C to F.
        c_gate: `nn.Linear` of C to F; only there if gated.
        c_proj: `nn.Linear` of F to C.

    The state_dict holds the weights and biases of these and nothing else; c_fc and c_proj are GPT-2's names.

    Args:
        embed_dim: C, at least 1.
        hidden_dim: F, at least 1; 4 C if None.
        activation: a name in `networks.activations.ACTIVATIONS`; GPT-2 has "gelu_tanh".
        gated: whether there is a gate.
        bias: whether the linear maps have biases.

    Raises:
        ValueError: `embed_dim` or `hidden_dim` is below 1: the message names which, and its value. Or there is no
            such activation: the message names it and those that there are.

    Example:
        >>> mlp = FeedForward(768)  # as in the smallest GPT-2
        >>> mlp(torch.zeros(2, 5, 768)).shape
        torch.Size([2, 5, 768])
        >>> sum(parameter.numel() for parameter in mlp.parameters())
        4722432
    """

    def __init__(
        self,
        embed_dim: int,
        hidden_dim: int | None = None,
        *,
        activation: str = "gelu_tanh",
        gated: bool = False,
        bias: bool = True,
    ) -> None:
        super().__init__()
        hidden_dim = 4 * embed_dim if hidden_dim is None else hidden_dim
        for name, width in (("embed_dim", embed_dim), ("hidden_dim", hidden_dim)):
            if width < 1:
                raise ValueError(f"{name} must be at least 1, got {width}")
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}, got {activation!r}")
        self.embed_dim = embed_dim
        self.activation = ACTIVATIONS[activation]
        self.c_fc = nn.Linear(embed_dim, hidden_dim, bias=bias)
        self.c_gate = nn.Linear(embed_dim, hidden_dim, bias=bias) if gated else None
        self.c_proj = nn.Linear(hidden_dim, embed_dim, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Transform each token by itself.

        Args:
            x: tokens (..., C).

        Returns:
            (..., C).

        Raises:
            ValueError: the last axis of `x` is not of size C, or `x` has no axis; the message gives C and the shape.
        """
        if x.dim() == 0 or x.shape[-1] != self.embed_dim:
            raise ValueError(f"x must be (..., {self.embed_dim}), got shape {tuple(x.shape)}")
        hidden = self.c_fc(x)  # (..., F)
        hidden = self.activation(hidden) if self.c_gate is None else self.activation(self.c_gate(x)) * hidden
        return self.c_proj(hidden)  # (..., C)
