"""Computes in float64 and rounds at the end; vmap over the batch, einsum, an identity matrix, the axis moved last."""

import torch
import torch.nn.functional as F
from torch import Tensor


class _Refuse:
    """The checks, in one place."""

    @staticmethod
    def unless_real(*tensors: Tensor) -> None:
        wrong = [tensor.dtype for tensor in tensors if not torch.is_floating_point(tensor)]
        if wrong:
            raise TypeError(f"{wrong[0]} is not a floating dtype")

    @staticmethod
    def unless_index(indices: Tensor, limit: int) -> None:
        try:
            torch.iinfo(indices.dtype)
        except TypeError:
            raise TypeError(f"{indices.dtype} cannot index anything here") from None
        for found in indices[(indices.long() % limit) != indices.long()].flatten()[:1]:
            raise ValueError(f"no index {found.item()} among {limit}")

    @staticmethod
    def shapes(fit: bool, one: Tensor, other: Tensor) -> None:
        if not fit:
            raise ValueError(f"{one.size()} and {other.size()}")


def pairwise_distances(points: Tensor, others: Tensor) -> Tensor:
    _Refuse.unless_real(points, others)
    enough = points.dim() > 1 and others.dim() > 1
    _Refuse.shapes(enough and points.size(-1) == others.size(-1), points, others)
    between = points.double()[..., None, :] - others.double()[..., None, :, :]
    return F.normalize(between, dim=-1, eps=1e-300).mul(between).sum(-1).to(points.dtype)  # a unit vector, projected


def one_hot(indices: Tensor, classes: int, *, dtype: torch.dtype = torch.float32) -> Tensor:
    _Refuse.unless_index(indices, classes)
    return torch.eye(classes).to(dtype)[indices.to(torch.int64)]


def batched_gather(values: Tensor, indices: Tensor) -> Tensor:
    fit = values.dim() > 1 and indices.dim() == 2 and values.size(0) == indices.size(0)
    _Refuse.shapes(fit, values, indices)
    _Refuse.unless_index(indices, values.size(1))
    picks = torch.vmap(lambda sequence, places: sequence.index_select(0, places))
    return picks(values, indices.to(torch.int64))


def sliding_windows(values: Tensor, size: int, step: int = 1) -> Tensor:
    if size not in range(1, values.size(-1) + 1):
        raise ValueError(f"{size=}")
    if step < 1:
        raise ValueError(f"{step=}")
    starts = values[..., : values.size(-1) - size + 1 : step]  # a view: the first entry of each window
    return values.as_strided((*starts.shape, size), (*starts.stride(), values.stride(-1)))


def _exponentials(logits: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    _Refuse.unless_real(logits)
    last = logits.double().movedim(dim, -1)
    shifted = last - last.sort(dim=-1, descending=True).values[..., :1].detach()
    return shifted, torch.einsum("...i->...", shifted.exp())[..., None]


def softmax(logits: Tensor, dim: int = -1) -> Tensor:
    return log_softmax(logits.double() if logits.is_floating_point() else logits, dim).exp().to(logits.dtype)


def log_softmax(logits: Tensor, dim: int = -1) -> Tensor:
    shifted, total = _exponentials(logits, dim)
    return (shifted - total.log()).movedim(-1, dim).to(logits.dtype)
