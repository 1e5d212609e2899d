"""Plain: principal components out of the covariance, neighbours by sorting, figures step by step; without types."""

import torch


def pca_project(x, components=2):
    if x.dim() != 2:
        raise ValueError("x has the shape %s" % (x.shape,))
    n, c = x.shape
    if components < 1 or components > n or components > c:
        raise ValueError("components = %d is not possible for %d points of %d numbers" % (components, n, c))
    centred = x.double() - x.double().mean(0, keepdim=True)
    covariance = centred.T @ centred
    values, vectors = torch.linalg.eigh(covariance)
    order = torch.argsort(values, descending=True)[:components]
    result = []
    for index in order:
        axis = vectors[:, index]
        biggest = torch.argmax(torch.abs(axis))
        if axis[biggest] < 0:
            axis = -axis
        result.append(centred @ axis)
    return torch.stack(result, 1).to(x.dtype)


def cosine_table(rows, others):
    lengths = rows.norm(dim=1).clamp(min=1e-30)
    other_lengths = others.norm(dim=1).clamp(min=1e-30)
    return (rows / lengths[:, None]) @ (others / other_lengths[:, None]).T


def nearest_neighbours(weight, query, k):
    if weight.dim() != 2:
        raise ValueError("weight has the shape %s" % (weight.shape,))
    v = weight.shape[0]
    if query < 0 or query >= v:
        raise IndexError("query %d is not a token" % query)
    if k <= 0 or k >= v:
        raise ValueError("k = %d neighbours cannot be found among %d tokens" % (k, v))
    similarities = cosine_table(weight[query : query + 1], weight)[0]
    others = torch.tensor([token for token in range(v) if token != query])
    order = torch.sort(similarities[others], descending=True)
    return others[order.indices[:k]], order.values[:k]


def plot_embeddings(points, labels=None):
    from matplotlib.figure import Figure

    if points.dim() != 2 or points.size(1) != 2:
        raise ValueError("points have the shape %s" % (points.shape,))
    if labels is not None:
        if len(labels) != points.size(0):
            raise ValueError("%d labels for %d points" % (len(labels), points.size(0)))
    x = points[:, 0].tolist()
    y = points[:, 1].tolist()
    figure = Figure(figsize=(9, 9))
    ax = figure.subplots()
    ax.scatter(x, y, color="tab:green", marker="x")
    if labels is not None:
        for i in range(len(labels)):
            ax.text(x[i], y[i], labels[i], parse_math=False, fontsize=8)
    ax.set_xlabel("component 1")
    ax.set_ylabel("component 2")
    ax.axis("equal")
    ax.grid(True)
    return figure


def plot_positional_encoding(encoding):
    if encoding.dim() != 2:
        raise ValueError("encoding has the shape %s" % (encoding.shape,))
    m = encoding.abs().max().item()
    if m == 0:
        m = 1.0
    return heat_map(encoding.tolist(), m, "dimension", "auto")


def plot_similarity(encoding):
    if encoding.dim() != 2:
        raise ValueError("encoding has the shape %s" % (encoding.shape,))
    rows = encoding.double()
    return heat_map(cosine_table(rows, rows).tolist(), 1.0, "position", "equal")


def heat_map(rows, m, x_name, aspect):
    from matplotlib.figure import Figure

    figure = Figure(layout="constrained")
    ax = figure.add_subplot(1, 1, 1)
    picture = ax.imshow(rows, cmap="coolwarm", vmin=-m, vmax=m, aspect=aspect, interpolation="nearest")
    ax.set_xlabel(x_name)
    ax.set_ylabel("position")
    bar = figure.colorbar(picture, ax=ax)
    bar.set_label("value")
    return figure
