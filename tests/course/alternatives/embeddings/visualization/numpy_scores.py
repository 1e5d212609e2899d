"""With numpy: scores out of U and S, signs afterwards, neighbours by a mask; one class draws all heat maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


def _array(table: Tensor) -> np.ndarray:
    return table.detach().cpu().to(torch.float64).numpy()


def _table(tensor: Tensor, what: str) -> np.ndarray:
    if tensor.ndim != 2:
        raise ValueError(f"{what}: no table, but {tensor.ndim} axes, {list(tensor.shape)}")
    return _array(tensor)


def pca_project(x: Tensor, components: int = 2) -> Tensor:
    points = _table(x, "x")
    if components not in range(1, min(points.shape) + 1):
        raise ValueError(f"components={components} for {points.shape[0]} points in {points.shape[1]} dimensions")
    u, s, vh = np.linalg.svd(points - points.mean(axis=0), full_matrices=False)
    scores = u[:, :components] * s[:components]
    for column, axis in enumerate(vh[:components]):
        if axis[np.abs(axis).argmax()] < 0:
            scores[:, column] *= -1
    return torch.from_numpy(scores).to(x.dtype)


def nearest_neighbours(weight: Tensor, query: int, k: int) -> tuple[Tensor, Tensor]:
    rows = _table(weight, "weight")
    if query not in range(len(rows)):
        raise IndexError(f"query={query} is out of range")
    if k not in range(1, len(rows)):
        raise ValueError(f"k={k} is out of range")
    cosines = _cosines(rows)[query]
    candidates = np.delete(np.arange(len(rows)), query)
    best = candidates[np.argsort(-cosines[candidates], kind="stable")][:k]
    return torch.from_numpy(best), torch.from_numpy(cosines[best]).to(weight.dtype)


def _cosines(rows: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(rows, axis=1)
    products = np.einsum("ic,jc->ij", rows, rows)
    scale = np.outer(lengths, lengths)
    return np.divide(products, scale, out=np.zeros_like(products), where=scale > 0)


def plot_embeddings(points: Tensor, labels: Sequence[str] | None = None):
    from matplotlib.figure import Figure

    places = _array(points)
    if places.shape != (len(places), 2):
        raise ValueError(f"points in the plane are (N, 2), these are {list(places.shape)}")
    names = ["" for _ in places] if labels is None else list(labels)
    if len(names) != len(places):
        raise ValueError(f"{len(names)} names for {len(places)} points")
    figure = Figure(figsize=(6, 6), dpi=90)
    axes = figure.add_subplot(aspect=1)
    for place, name in zip(places, names):
        axes.scatter(*place, s=5, c="k")
        if labels is not None:
            axes.annotate(
                name, xy=tuple(place), xytext=(3, -8), textcoords="offset pixels", parse_math=False, rotation=10
            )
    axes.set(xlabel="component 1", ylabel="component 2", title="A map")
    return figure


@dataclass
class HeatMap:
    values: np.ndarray
    most: float
    columns: str

    def draw(self):
        from matplotlib.figure import Figure

        figure = Figure()
        axes = figure.subplots()
        image = axes.imshow(self.values, cmap="PiYG", aspect="auto", origin="upper")
        image.set_clim(-self.most, self.most)
        figure.colorbar(image, ax=axes, orientation="horizontal")
        axes.set(xlabel=self.columns, ylabel="position")
        return figure


def plot_positional_encoding(encoding: Tensor):
    values = _table(encoding, "encoding")
    return HeatMap(values, np.abs(values).max() or 1.0, "dimension").draw()


def plot_similarity(encoding: Tensor):
    return HeatMap(_cosines(_table(encoding, "encoding")), 1.0, "position").draw()
