"""Array work all through: texts ranked by a drawn permutation, rows found by cumulative sums, generators and classes."""

from __future__ import annotations

import bisect
import re
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

TWO_BYTES = 2


def split_documents(documents: Any, validation: float, *, seed: int = 0, column: str = "text") -> tuple[Any, Any]:
    if np.isnan(validation) or validation <= 0 or validation >= 1:
        raise ValueError(f"0 < validation < 1 is needed, not {validation}")
    if seed < 0:
        raise ValueError(f"seed = {seed}, which is negative")
    if column not in documents.features:
        raise ValueError(f"{column!r} is none of the columns {documents.column_names}")
    texts, which = np.unique(np.array(documents[column][:], dtype=object), return_inverse=True)
    if texts.size <= 1:
        raise ValueError("a split takes different texts; all of these are the same")
    share = int(np.clip(np.rint(validation * texts.size), 1, texts.size - 1))
    rank = np.random.default_rng(seed).permutation(texts.size)
    out = rank[which] < share
    return documents.select(np.flatnonzero(~out)), documents.select(np.flatnonzero(out))


@dataclass
class _Writer:
    folder: Path
    prefix: str
    limit: int
    end: int
    paths: list[Path] = field(default_factory=list)
    pending: list[np.ndarray] = field(default_factory=list)

    def add(self, tokens: np.ndarray) -> None:
        if self.pending and 1 + sum(map(len, self.pending)) + len(tokens) + 1 > self.limit:
            self.close()
        self.pending.append(np.append(tokens, self.end))

    def close(self) -> None:
        path = self.folder / "{}-{:05}.bin".format(self.prefix, len(self.paths))
        shard = np.concatenate([[self.end], *self.pending]).astype("<u2")
        with tempfile.TemporaryDirectory(dir=self.folder) as aside:
            written = Path(aside) / "shard"
            written.write_bytes(shard.tobytes())
            written.replace(path)
        self.paths.append(path)
        self.pending = []


def write_shards(
    documents: Iterable[Mapping[str, Any]],
    encode: Callable[[str], list[int]],
    folder: Any,
    *,
    end_of_text: int,
    prefix: str = "train",
    shard_tokens: int = 2**20,
    column: str = "text",
) -> list[Path]:
    for name, value, low, high in (("end_of_text", end_of_text, 0, 65535), ("shard_tokens", shard_tokens, 1, np.inf)):
        if not low <= value <= high:
            raise ValueError(f"{name}={value} is not from {low} to {high}")
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    writer = _Writer(target, prefix, shard_tokens, end_of_text)
    for place, row in enumerate(documents):
        try:
            text = row[column]
        except KeyError:
            raise ValueError(f"[{place}] has {list(row)}, but not {column}") from None
        tokens = np.asarray(encode(text), dtype=np.int64)
        bad = tokens[(tokens < 0) | (tokens >= 65536) | (tokens == end_of_text)]
        if bad.size:
            raise ValueError(f"[{place}] would put {bad[0]} into the shard")
        writer.add(tokens)
    if not writer.pending:
        raise ValueError("not one document was given")
    writer.close()
    for path in list(target.iterdir()):
        numbered = re.fullmatch(re.escape(prefix) + r"-(\d{5,})\.bin", path.name)
        if numbered and int(numbered[1]) >= len(writer.paths):
            path.unlink()
    return writer.paths


class _File:
    """A shard that is opened when it is read, and never travels open."""

    def __init__(self, path: Any) -> None:
        self.path = Path(path)
        length, odd = divmod(self.path.stat().st_size, TWO_BYTES)
        if odd:
            raise ValueError(f"half a token at the end of {self.path}")
        self.length = length

    def read(self, first: int = 0, count: int = -1) -> np.ndarray:
        return np.fromfile(self.path, dtype="<u2", count=count, offset=first * TWO_BYTES).astype(np.int64)


class WindowDataset(Dataset):
    def __init__(self, shards: Sequence[Any], context_length: int, *, stride: int | None = None) -> None:
        stride = context_length if stride is None else stride
        if min(context_length, stride) < 1:
            raise ValueError(f"{context_length=} and {stride=} are to be positive")
        self.width, self.stride = context_length + 1, stride
        self.files = [_File(shard) for shard in shards]
        self.counts = np.array([max(0, (file.length - self.width) // stride + 1) for file in self.files], dtype=int)
        if not self.counts.sum():
            raise ValueError(f"a window takes {self.width} tokens in a row, and there are no so many")
        self.ends = np.cumsum(self.counts).tolist()

    def __len__(self) -> int:
        return self.ends[-1]

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        file = bisect.bisect_right(self.ends, index)
        inside = index - (self.ends[file] - self.counts[file])
        window = torch.from_numpy(self.files[file].read(int(inside) * self.stride, self.width))
        return window[:-1], window[1:]


class DocumentDataset(Dataset):
    def __init__(self, shards: Sequence[Any], *, end_of_text: int, context_length: int) -> None:
        if context_length < 1:
            raise ValueError(f"context_length cannot be {context_length}")
        if not len(shards):
            raise ValueError("at least one shard, please")
        self.files = [_File(shard) for shard in shards]
        self.index = np.concatenate([self._rows_of(n, end_of_text, context_length) for n in range(len(shards))])

    def _rows_of(self, number: int, end_of_text: int, context_length: int) -> np.ndarray:
        file = self.files[number]
        tokens = file.read() if file.length else np.array([-1])
        ends = np.flatnonzero(tokens == end_of_text)
        if {0, len(tokens) - 1} - set(ends.tolist()) or len(ends) == 1:
            raise ValueError(f"{file.path} holds no documents between {end_of_text} and {end_of_text}")
        targets = np.diff(ends)
        pieces = -(-targets // context_length)
        nth = np.arange(pieces.sum()) - np.repeat(np.cumsum(pieces) - pieces, pieces)
        first = np.repeat(ends[:-1], pieces) + nth * context_length
        count = np.minimum(np.repeat(ends[1:], pieces) - first, context_length) + 1
        return np.stack([np.full_like(first, number), first, count], axis=1)

    def __len__(self) -> int:
        return self.index.shape[0]

    def __getitem__(self, index: int) -> Tensor:
        try:
            number, first, count = self.index[index].tolist()
        except IndexError:
            raise IndexError(f"row {index} was asked for, of {len(self)}") from None
        return torch.as_tensor(self.files[number].read(first, count))


def _pairs(rows: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
    for place, row in enumerate(rows):
        if len(row.shape) != 1 or row.shape[0] <= 1:
            raise ValueError(f"cannot use row {place}, of shape {tuple(row.shape)}")
        yield row[:-1], row[1:]


def collate_rows(rows: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    if not rows:
        raise ValueError("nothing to make a batch of")
    inputs, targets = zip(*_pairs(rows))
    return pad_sequence(inputs, batch_first=True), pad_sequence(targets, batch_first=True, padding_value=-100)
