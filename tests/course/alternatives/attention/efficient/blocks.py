"""Blocks of queries too, each with an online softmax of its own; a class for the running state; new-style Function."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


@dataclass
class _Plan:
    """Which pairs are seen, and in which pieces they are looked at."""

    mask: Tensor | None
    causal: bool
    scale: float
    chunk: int
    queries: int
    keys: int

    def pieces(self, length: int) -> Iterator[slice]:
        return (slice(start, min(start + self.chunk, length)) for start in range(0, length, self.chunk))

    def scores(self, query: Tensor, key: Tensor, rows: slice, columns: slice) -> Tensor:
        """Of one block, hidden ones at -inf."""
        scores = torch.matmul(query[..., rows, :], key[..., columns, :].transpose(-2, -1)).mul_(self.scale)
        hidden = torch.zeros(rows.stop - rows.start, columns.stop - columns.start, dtype=torch.bool, device=key.device)
        if self.causal:
            offset = self.keys - self.queries + rows.start - columns.start
            hidden = hidden.logical_not().triu(offset + 1)
        if self.mask is not None:
            hidden = hidden | ~self.mask[..., rows, columns]
        return scores.masked_fill_(hidden, -math.inf)


class _Running:
    """The mean of the values seen so far, with the log of its weight."""

    def __init__(self, like: Tensor, width: int) -> None:
        self.mean = like.new_zeros(*like.shape[:-1], width)
        self.log_weight = like.new_full((*like.shape[:-1], 1), -math.inf)

    def add(self, scores: Tensor, value: Tensor) -> None:
        block = scores.logsumexp(dim=-1, keepdim=True)
        total = torch.logaddexp(self.log_weight, block)
        safe = total.masked_fill(total == -math.inf, 0.0)
        self.mean = self.mean * (self.log_weight - safe).exp() + (scores - safe).exp_() @ value
        self.log_weight = total


class _Blocks(torch.autograd.Function):
    @staticmethod
    def forward(query: Tensor, key: Tensor, value: Tensor, plan: _Plan) -> tuple[Tensor, Tensor]:
        means, logs = [], []
        for rows in plan.pieces(plan.queries):
            running = _Running(query[..., rows, :], value.shape[-1])
            for columns in plan.pieces(plan.keys):
                running.add(plan.scores(query, key, rows, columns), value[..., columns, :])
            means.append(running.mean)
            logs.append(running.log_weight)
        return torch.cat(means, dim=-2), torch.cat(logs, dim=-2)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        query, key, value, ctx.plan = inputs
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(query, key, value, *output)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, result, logs = ctx.saved_tensors
        plan = ctx.plan
        grads = [torch.zeros_like(tensor, memory_format=torch.contiguous_format) for tensor in (query, key, value)]
        logs = logs.masked_fill(logs == -math.inf, 0.0)
        for rows in plan.pieces(plan.queries):
            incoming = grad[..., rows, :]
            common = torch.linalg.vecdot(incoming, result[..., rows, :]).unsqueeze(-1)
            for columns in plan.pieces(plan.keys):
                weights = (plan.scores(query, key, rows, columns) - logs[..., rows, :]).exp()
                grads[2][..., columns, :] += weights.mT @ incoming
                change = weights * (incoming @ value[..., columns, :].mT - common) * plan.scale
                grads[0][..., rows, :] += change @ key[..., columns, :]
                grads[1][..., columns, :] += change.mT @ query[..., rows, :]
        return (*grads, None)


def chunked_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None = None,
    *,
    causal: bool = False,
    scale: float | None = None,
    chunk: int = 128,
) -> Tensor:
    """Blocks of chunk queries and chunk keys."""
    (*_, queries, width), (*_, keys, other) = query.shape, key.shape
    problems = {
        f"chunk is {chunk}, not positive": chunk < 1,
        f"query {tuple(query.shape)} and key {tuple(key.shape)}: other widths": width != other,
        f"key {tuple(key.shape)} and value {tuple(value.shape)}: other numbers": keys != value.shape[-2],
        f"causal, but {queries} queries and only {keys} keys": causal and queries > keys,
    }
    for problem, there in problems.items():
        if there:
            raise ValueError(problem)
    lead = (query[..., 0, 0] + key[..., 0, 0] + value[..., 0, 0]).shape
    if mask is not None:
        if mask.dtype is not torch.bool:
            raise TypeError(f"the mask is {mask.dtype}")
        wanted = (*lead, queries, keys)
        sizes = [1] * (len(wanted) - mask.dim()) + list(mask.shape)
        if len(sizes) > len(wanted) or any(size not in (1, full) for size, full in zip(sizes, wanted)):
            raise ValueError(f"the mask {tuple(mask.shape)} is not for {wanted}")
        mask = mask.expand(wanted)
    factor = 1 / math.sqrt(width) if scale is None else scale
    plan = _Plan(mask, causal, factor, chunk, queries, keys)
    tensors = [tensor.expand(lead + tensor.shape[-2:]) for tensor in (query, key, value)]
    return _Blocks.apply(*tensors, plan)[0]


class KVCache:
    """Keeps the tokens on the second axis, where they arrive, and shows them with the heads first."""

    def __init__(
        self,
        batch_size: int,
        num_kv_heads: int,
        capacity: int,
        head_dim: int,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | None = None,
    ) -> None:
        given = {k: v for k, v in locals().items() if isinstance(v, int) and v < 1}
        if given:
            raise ValueError(f"below 1: {given}")
        shape = (batch_size, capacity, num_kv_heads, head_dim)
        self._memory = {name: torch.empty(shape, dtype=dtype, device=device) for name in ("key", "value")}
        self._used = 0

    @property
    def length(self) -> int:
        return self._used

    @property
    def capacity(self) -> int:
        return self._memory["key"].shape[1]

    def update(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Write behind what is there."""
        new = {"key": key, "value": value}
        for name, memory in self._memory.items():
            shape = tuple(new[name].shape)
            if len(shape) != 4 or shape[:2] + shape[3:] != (len(memory), *memory.shape[2:]):
                raise ValueError(f"{name} {shape} does not fit into {tuple(memory.transpose(1, 2).shape)}")
            if new[name].dtype != memory.dtype:
                raise TypeError(f"{name}: got {new[name].dtype}, keeps {memory.dtype}")
            if new[name].device != memory.device:
                raise ValueError(f"{name}: got it on {new[name].device}, keeps on {memory.device}")
        if key.shape != value.shape:
            raise ValueError(f"{tuple(key.shape)} keys and {tuple(value.shape)} values")
        end = self._used + key.shape[2]
        if end > self.capacity:
            raise ValueError(f"{self._used} kept and {key.shape[2]} new: more than the capacity {self.capacity}")
        with torch.no_grad():
            for name, memory in self._memory.items():
                memory[:, self._used : end] = new[name].transpose(1, 2)
        self._used = end
        keys, values = (memory[:, :end].transpose(1, 2) for memory in self._memory.values())
        return keys, values

    def reset(self) -> None:
        """Count from 0 again."""
        self._used = 0

    def reorder(self, rows: Tensor) -> None:
        """Take the memory of the chosen sequences."""
        if rows.shape == (0,) or rows.dim() != 1:
            raise ValueError(f"expected rows (N,), got {tuple(rows.shape)}")
        count = len(self._memory["key"])
        unknown = rows[(rows < 0) | (rows >= count)].tolist()
        if unknown:
            raise IndexError(f"no sequences {unknown} among {count}")
        self._memory = {name: memory[rows] for name, memory in self._memory.items()}
