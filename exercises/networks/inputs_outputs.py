"""Networks for tables: numbers and categories in, several predictions out, one loss over all of them.

Symbols: B rows in a batch, F numeric features, K categorical columns, E the width of a category's embedding, C the
number of classes of a head.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from .activations import ACTIVATIONS
from .losses import cross_entropy, huber_loss
from .mlp import MLP, glorot_uniform_


class MixedInputNetwork(nn.Module):
    """One trunk that reads numbers and categories, and a head for each thing to be predicted from it.

    Each category is looked up in a table of its column's own (Guo and Berkhahn 2016, section 3); the F numbers and then
    the K embeddings, in the order of the columns, stand side by side as the F + K * E inputs of the trunk. Behind the
    trunk comes the activation once more, for the heads are linear, and two linear layers in a row would be one. The
    heads share all but themselves (Caruana 1997, section 1).

    Parameters:
        embeddings: an `nn.ModuleList` with an `nn.Embedding` for each column: ``embeddings.0.weight`` and so on.
        trunk: the `MLP` of sizes F + K * E, then `hidden_sizes`: ``trunk.layers.0.weight`` and so on.
        heads: an `nn.ModuleList` with an `nn.Linear` for each head: ``heads.0.weight``, ``heads.0.bias`` and so on.

    Columns and heads are numbered in the order of their mappings, so that their names may be any strings. The
    state_dict holds nothing else. All weights are drawn from the generator: embeddings from the standard normal
    distribution, the trunk's as the MLP has it, the heads' by `glorot_uniform_`; all biases are 0.

    Args:
        numeric_features: F, at least 0.
        cardinalities: of each categorical column, by its name, how many categories it has, at least 1.
        heads: of each head, by its name, the number of classes C; 1 stands for a number to be predicted (regression).
        embedding_dim: E, at least 1.
        hidden_sizes: the widths of the trunk's layers: one or more, each at least 1.
        activation: the name of one of `ACTIVATIONS`, between the trunk's layers and behind it.
        generator: where the weights are drawn from; torch's global one if None.

    Raises:
        ValueError: one of these is out of its range, or `activation` unknown, or there is no head, or no input at all.
            The message names the argument or, in a mapping, the column or the head, and gives the value.

    Example:
        >>> network = MixedInputNetwork(3, {"city": 40, "weekday": 7}, {"price": 1, "kind": 5})
        >>> outputs = network(torch.zeros(8, 3), torch.zeros(8, 2, dtype=torch.int64))
        >>> {name: tuple(output.shape) for name, output in outputs.items()}
        {'price': (8,), 'kind': (8, 5)}
    """

    def __init__(
        self,
        numeric_features: int,
        cardinalities: Mapping[str, int],
        heads: Mapping[str, int],
        *,
        embedding_dim: int = 8,
        hidden_sizes: Sequence[int] = (64, 64),
        activation: str = "relu",
        generator: torch.Generator | None = None,
    ) -> None:
        raise NotImplementedError("networks/inputs_outputs: MixedInputNetwork.__init__")

    def forward(self, numeric: Tensor, categorical: Tensor) -> dict[str, Tensor]:
        """Predict all heads.

        Args:
            numeric: (B, F), of the dtype of the parameters; best standardised.
            categorical: int64 (B, K), in column k from 0 to that column's cardinality less 1.

        Returns:
            For each head, by its name and in the order of `heads`: a number for each row, (B,), where the head's size
            is 1, else the logits of its classes, (B, C). A batch of one keeps its axis.

        Raises:
            ValueError: `numeric` or `categorical` has another shape (the message names which, and gives its shape), or
                they differ in B (it gives both shapes), or a category is out of its range (it names the column and
                gives the category).
            TypeError: `categorical` is not int64; the message gives its dtype.
        """
        raise NotImplementedError("networks/inputs_outputs: MixedInputNetwork.forward")


def weighted_loss(
    outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor], weights: Mapping[str, float] | None = None
) -> tuple[Tensor, dict[str, Tensor]]:
    """Add up the losses of all heads, each times its weight.

    The loss of a head is a mean over the rows: the Huber loss (delta 1) of a number, the cross-entropy of classes.

    Args:
        outputs: of each head, by its name, a number for each row, (B,), or logits (B, C).
        targets: of each head the truth (B,): of the dtype of the outputs for a number, int64 for classes. There must be
            one for each head and no others.
        weights: factors, by the heads' names, each at least 0; a head without one counts once, all do if None. They are
            not made to sum to 1.

    Returns:
        The weighted sum, a scalar (), and the loss of each head by its name, without its weight and detached: to be
        logged.

    Raises:
        ValueError: a head has no target; a target or a weight has no head; a weight is negative or NaN; or a target
            has not the shape (B,). The message names the head, and gives the weight, or the shapes of output and
            target.

    Example:
        >>> outputs = {"price": torch.tensor([1.0, 3.0]), "kind": torch.zeros(2, 4)}
        >>> targets = {"price": torch.tensor([1.0, 1.0]), "kind": torch.tensor([3, 0])}
        >>> weighted_loss(outputs, targets, {"kind": 2.0})  # (0 + 1.5) / 2 + 2 ln 4
        (tensor(3.5226), {'price': tensor(0.7500), 'kind': tensor(1.3863)})
    """
    raise NotImplementedError("networks/inputs_outputs: weighted_loss")
