"""An embedding: a table that holds a vector for each token, and learns them.

Symbols: V tokens in the vocabulary (`num_embeddings`), numbered from 0; C the width of their vectors
(`embedding_dim`).
"""

import torch
from torch import Tensor, nn


class Embedding(nn.Module):
    """Look up a vector for each token, as `torch.nn.Embedding`.

    Parameters:
        weight: (V, C), row v is the vector of token v. Drawn from the standard normal distribution; the row of the
            padding token begins as zeros.

    The state_dict holds `weight` and nothing else.

    A lookup of the padding token gives its row like any other, but sends no gradient back to it. A gradient that
    reaches `weight` by another way is left alone: an output layer may use the same parameter.

    Args:
        num_embeddings: V, at least 1.
        embedding_dim: C, at least 1.
        padding_idx: the token that stands for padding, from 0 to V - 1; none does if None.
        generator: where `weight` is drawn from; torch's global one if None.

    Raises:
        ValueError: `num_embeddings` or `embedding_dim` is less than 1, or `padding_idx` is out of its range; the
            message names which, and its value.

    Example:
        >>> embedding = Embedding(50257, 768)  # as in the smallest GPT-2
        >>> embedding(torch.tensor([[15496, 995]])).shape
        torch.Size([1, 2, 768])
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        *,
        padding_idx: int | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        raise NotImplementedError("embeddings/embedding: Embedding.__init__")

    def forward(self, tokens: Tensor) -> Tensor:
        """Give each token its vector.

        Args:
            tokens: whole numbers of any shape (...), int32 or int64, each from 0 to V - 1.

        Returns:
            (..., C), of the dtype of `weight`. In the gradient of `weight` each occurrence of a token adds to the row
            of that token. A row whose token does not occur gets exactly 0, and so does the row of the padding token.

        Raises:
            TypeError: `tokens` are neither int32 nor int64; the message gives their dtype.
            IndexError: a token is negative, or V or more; the message gives the token and V.

        Example:
            >>> embedding = Embedding(3, 2)
            >>> bool((embedding(torch.tensor([2, 0, 2])) == embedding.weight[[2, 0, 2]]).all())
            True
        """
        raise NotImplementedError("embeddings/embedding: Embedding.forward")
