"""Embeddings made of the plain one: scaled, factorised, gathered in bags, and shared with the output layer.

Symbols: V tokens in the vocabulary (`num_embeddings`), C the width of their vectors (`embedding_dim`), R a smaller
width (`rank`); B bags in a batch, T the number of tokens that each is padded to.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .embedding import Embedding


class ScaledEmbedding(Embedding):
    """An embedding whose vectors are multiplied by sqrt(C) (Vaswani et al. 2017, section 3.4).

    The weight is small, that of an output layer: with variance 1/C its logits have the variance of the network's
    output. The same weight serves as embedding, for the factor brings the vectors back to variance 1.

    Parameters:
        weight: (V, C), row v times sqrt(C) is the vector of token v. Normal, with mean 0 and variance 1/C; the row of
            the padding token begins as zeros.

    The state_dict holds `weight` and nothing else.

    Args:
        num_embeddings: V, at least 1.
        embedding_dim: C, at least 1.
        padding_idx: the token that stands for padding, as in `Embedding`; none does if None.
        generator: where `weight` is drawn from; torch's global one if None.

    Raises:
        ValueError: as `Embedding`.

    Example:
        >>> embedding = ScaledEmbedding(3, 4)
        >>> bool((embedding(torch.tensor(1)) == 2.0 * embedding.weight[1]).all())
        True
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        *,
        padding_idx: int | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        raise NotImplementedError("embeddings/custom: ScaledEmbedding.__init__")

    def forward(self, tokens: Tensor) -> Tensor:
        """Give each token its row of the weight, times sqrt(C).

        Args:
            tokens: whole numbers of any shape (...), as in `Embedding`.

        Returns:
            (..., C), of the dtype of `weight`.

        Raises:
            TypeError, IndexError: as `Embedding`.
        """
        raise NotImplementedError("embeddings/custom: ScaledEmbedding.forward")


class FactorizedEmbedding(nn.Module):
    """An embedding of rank R: a narrow table, then a projection to the full width (Lan et al. 2020, section 3.1).

    It has V * R + R * C numbers in the place of V * C. ALBERT has V = 30,000, R = 128 and C = 768, and so 3,938,304 in
    the place of 23,040,000.

    Parameters:
        embedding: the `Embedding` (V, R), with its padding token; its name in the state_dict is `embedding.weight`.
        projection: an `nn.Linear` of R to C without bias, so that zeros stay zeros; `projection.weight` is (C, R).
            Normal, with mean 0 and variance 1/R, so that the vectors begin with variance 1 as those of `Embedding`.

    Args:
        num_embeddings: V, at least 1.
        rank: R, at least 1.
        embedding_dim: C, at least 1.
        padding_idx: the token that stands for padding, as in `Embedding`; none does if None.
        generator: where both weights are drawn from; torch's global one if None.

    Raises:
        ValueError: `num_embeddings`, `rank` or `embedding_dim` is less than 1, or `padding_idx` is out of its range;
            the message names which, and its value.

    Example:
        >>> embedding = FactorizedEmbedding(1000, 8, 64)
        >>> sum(parameter.numel() for parameter in embedding.parameters())
        8512
    """

    def __init__(
        self,
        num_embeddings: int,
        rank: int,
        embedding_dim: int,
        *,
        padding_idx: int | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        raise NotImplementedError("embeddings/custom: FactorizedEmbedding.__init__")

    def forward(self, tokens: Tensor) -> Tensor:
        """Give each token its narrow vector, projected.

        Args:
            tokens: whole numbers of any shape (...), as in `Embedding`.

        Returns:
            (..., C), of the dtype of the weights: for token v, `projection.weight` times row v of `embedding.weight`.

        Raises:
            TypeError, IndexError: as `Embedding`.
        """
        raise NotImplementedError("embeddings/custom: FactorizedEmbedding.forward")


class EmbeddingBag(nn.Module):
    """One vector for each bag of tokens, whatever their order: their sum, mean or maximum, as `torch.nn.EmbeddingBag`.

    Parameters:
        embedding: the `Embedding` (V, C), with its padding token; its name in the state_dict is `embedding.weight`.

    Args:
        num_embeddings: V, at least 1.
        embedding_dim: C, at least 1.
        mode: "sum", "mean" or "max".
        padding_idx: the token that bags are padded with, which is left out of them, as in `Embedding`; if None, every
            token counts.
        generator: where the weight is drawn from; torch's global one if None.

    Raises:
        ValueError: as `Embedding`; or `mode` is none of the three; the message gives it.

    Example:
        >>> bag = EmbeddingBag(1000, 64, mode="mean", padding_idx=0)
        >>> bag(torch.tensor([[7, 7, 8], [9, 0, 0], [0, 0, 0]])).shape
        torch.Size([3, 64])
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        *,
        mode: str = "mean",
        padding_idx: int | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        raise NotImplementedError("embeddings/custom: EmbeddingBag.__init__")

    def forward(self, bags: Tensor) -> Tensor:
        """Gather the vectors of each bag into one.

        Args:
            bags: tokens (B, T), as in `Embedding`; padding may stand anywhere among them.

        Returns:
            (B, C), of the dtype of the weight: for each bag the sum, the mean or, in each column by itself, the maximum
            of the vectors of its real tokens, each as often as it occurs. For a bag without any it is zeros, and sends
            no gradient back.

        Raises:
            ValueError: `bags` has not two axes; the message gives its shape.
            TypeError, IndexError: as `Embedding`.
        """
        raise NotImplementedError("embeddings/custom: EmbeddingBag.forward")


class TiedOutput(nn.Module):
    """An output layer that shares the weight of an embedding (Press and Wolf 2017; Vaswani et al. 2017, section 3.4).

    The logit of a token is the dot product of the network's output with the token's row. There is one parameter, and it
    is trained by both of its uses.

    Parameters:
        weight: the embedding's own: the very same `nn.Parameter`, no copy. A model that holds both modules has it once
            among its `parameters()`, and under both names in its state_dict. It stays the same when weights are copied
            into it (`load_state_dict`) or converted (`to`).

    Args:
        embedding: an `Embedding` with a weight (V, C). Of a `ScaledEmbedding` it is the weight that is shared; the
            scale is not applied again.

    Example:
        >>> embedding = Embedding(50257, 768)
        >>> output = TiedOutput(embedding)
        >>> output.weight is embedding.weight
        True
        >>> output(torch.zeros(2, 5, 768)).shape
        torch.Size([2, 5, 50257])
    """

    def __init__(self, embedding: Embedding) -> None:
        raise NotImplementedError("embeddings/custom: TiedOutput.__init__")

    def forward(self, x: Tensor) -> Tensor:
        """Compare each output of the network with every token's row.

        Args:
            x: (..., C).

        Returns:
            Logits (..., V): of each token, the dot product of `x` with its row of `weight`.

        Raises:
            ValueError: the last axis of `x` is not of size C; the message gives C and the shape.
        """
        raise NotImplementedError("embeddings/custom: TiedOutput.forward")
