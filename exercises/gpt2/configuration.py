"""What a GPT-2 is made of: one frozen configuration, the four published presets, and JSON both ways."""

from dataclasses import dataclass

from ..block.configurations import BlockConfig


@dataclass(frozen=True)
class GPT2Config:
    """The sizes of a GPT-2. The defaults are those of the smallest that was published (Radford et al. 2019, table 2).

    Args:
        vocab_size: number of tokens V.
        context_length: how many positions T there are, the longest text that fits.
        embed_dim: width C of the tokens.
        num_layers: number of blocks L.
        num_heads: number of heads H, which divides `embed_dim`.
        hidden_dim: width of the feed-forward networks' hidden layer; 4 * `embed_dim` if None.
        activation: a name in `networks/activations`' ACTIVATIONS.
        dropout: probability of dropping an entry of what a sublayer adds; at least 0 and less than 1.
        attention_dropout: likewise, for an attention weight.
        embedding_dropout: likewise, for an entry of the sum of token and position embedding.
        eps: the layer norms' epsilon, above 0.
    """

    vocab_size: int = 50257
    context_length: int = 1024
    embed_dim: int = 768
    num_layers: int = 12
    num_heads: int = 12
    hidden_dim: int | None = None
    activation: str = "gelu_tanh"
    dropout: float = 0.1
    attention_dropout: float = 0.1
    embedding_dropout: float = 0.1
    eps: float = 1e-5

    def __post_init__(self) -> None:
        raise NotImplementedError("gpt2/configuration: GPT2Config.__post_init__")

    @property
    def block(self) -> BlockConfig:
        """What each of the L blocks is made of."""
        raise NotImplementedError("gpt2/configuration: GPT2Config.block")


PRESETS = {
    "gpt2": GPT2Config(),
    "gpt2-medium": GPT2Config(embed_dim=1024, num_layers=24, num_heads=16),
    "gpt2-large": GPT2Config(embed_dim=1280, num_layers=36, num_heads=20),
    "gpt2-xl": GPT2Config(embed_dim=1600, num_layers=48, num_heads=25),
}
