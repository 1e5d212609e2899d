"""Plain torch without types: roots of what is not 0 only, torch.gather, one assignment into zeros, explicit maxima."""

import torch


def need_floats(t):
    if t.dtype not in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        raise TypeError("this must be floating, it is " + str(t.dtype))


def need_whole_numbers(t, n):
    if t.dtype not in (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64):
        raise TypeError("indices of " + str(t.dtype) + " are not whole numbers")
    if t.numel() == 0:
        return
    low = t.min().item()
    high = t.max().item()
    if low < 0:
        raise ValueError("index " + str(low) + " is below 0 (there are " + str(n) + ")")
    if high > n - 1:
        raise ValueError("index " + str(high) + " is too high (there are " + str(n) + ")")


def pairwise_distances(points, others):
    need_floats(points)
    need_floats(others)
    a, b = tuple(points.shape), tuple(others.shape)
    if len(a) < 2 or len(b) < 2 or a[-1] != b[-1]:
        raise ValueError("shapes " + str(a) + " and " + str(b) + " do not go together")
    d = points[..., :, None, :] - others[..., None, :, :]
    squares = (d * d).sum(-1)
    same = squares == 0
    roots = torch.where(same, torch.ones_like(squares), squares).sqrt()
    return torch.where(same, torch.zeros_like(squares), roots)


def one_hot(indices, classes, *, dtype=torch.float32):
    need_whole_numbers(indices, classes)
    flat = indices.reshape(-1).long()
    rows = torch.zeros(flat.numel(), classes, dtype=dtype)
    rows[torch.arange(flat.numel()), flat] = 1
    return rows.reshape(list(indices.shape) + [classes])


def batched_gather(values, indices):
    if values.dim() < 2 or indices.dim() != 2 or values.shape[0] != indices.shape[0]:
        raise ValueError("cannot gather from " + str(tuple(values.shape)) + " with " + str(tuple(indices.shape)))
    need_whole_numbers(indices, values.shape[1])
    index = indices.long()
    for size in values.shape[2:]:
        index = index.unsqueeze(-1).expand(list(index.shape) + [size])
    return torch.gather(values, 1, index)


def sliding_windows(values, size, step=1):
    total = values.shape[-1]
    if size > total or size < 1:
        raise ValueError("a size of " + str(size) + " does not fit into " + str(total))
    if step <= 0:
        raise ValueError("the step " + str(step) + " goes nowhere")
    count = 0
    if total >= size:
        count = 1 + (total - size) // step
    last = values.stride(-1)
    shape = list(values.shape[:-1]) + [count, size]
    strides = list(values.stride()[:-1]) + [last * step, last]
    return torch.as_strided(values, shape, strides, values.storage_offset())


def softmax(logits, dim=-1):
    need_floats(logits)
    largest = torch.max(logits, dim=dim, keepdim=True).values
    e = torch.exp(logits - largest)
    return e / torch.sum(e, dim=dim, keepdim=True)


def log_softmax(logits, dim=-1):
    need_floats(logits)
    largest = torch.max(logits, dim=dim, keepdim=True).values
    z = logits - largest
    return z - torch.log(torch.sum(torch.exp(z), dim=dim, keepdim=True))
