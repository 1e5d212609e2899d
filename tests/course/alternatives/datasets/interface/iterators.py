"""Small parts put together: a context manager that names items, an iterator class of its own, itertools.islice."""

from __future__ import annotations

import contextlib
import itertools
import operator
from dataclasses import dataclass, field
from typing import Any, Callable, Iterable, Iterator, Protocol

from torch.utils.data import Dataset, IterableDataset, get_worker_info


class Items(Protocol):
    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


def identity(item: Any) -> Any:
    return item


@contextlib.contextmanager
def blaming(counter: Callable[[], int]) -> Iterator[None]:
    try:
        yield
    except Exception as cause:
        kind = type(cause).__qualname__
        message = f"{kind} at item no. {counter()}: {', '.join(map(str, cause.args))}"
        raise RuntimeError(message) from cause


class SequenceDataset(Dataset):
    """Resolves the index by way of a range, which knows negative ones."""

    def __init__(self, items: Items, transform: Callable[[Any], Any] | None = None, *, name: str = "dataset") -> None:
        super().__init__()
        self._parts = (items, identity if transform is None else transform)
        self._name = name

    def __len__(self) -> int:
        items, _ = self._parts
        return len(items)

    def __getitem__(self, index: Any) -> Any:
        items, transform = self._parts
        try:
            place = range(len(items))[operator.index(index)]
        except IndexError:
            raise IndexError(f"{self._name}: length {len(items)}, but index {int(index)} asked for") from None
        with blaming(lambda: place):
            return transform(items[place])


@dataclass
class CountingReader:
    """Goes through a source and remembers the number of the item that it is at."""

    source: Iterator[Any]
    number: int = field(default=-1)

    def __iter__(self) -> CountingReader:
        return self

    def __next__(self) -> tuple[int, Any]:
        self.number += 1
        try:
            return self.number, next(self.source)
        except StopIteration:
            raise
        except Exception as cause:
            raise RuntimeError(f"{type(cause).__name__} at item no. {self.number}: {cause}") from cause


class ShardedStream(IterableDataset):
    def __init__(
        self,
        open_stream: Callable[[], Iterable[Any]],
        *,
        transform: Callable[[Any], Any] | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if rank not in range(world_size):
            raise ValueError(f"{rank=} is none of the ranks below {world_size=}")
        self._opener = open_stream
        self._transform = identity if transform is None else transform
        self._shard = (rank, world_size)

    def __iter__(self) -> Iterator[Any]:
        start, step = self._shard
        if (info := get_worker_info()) is not None:
            start, step = start + step * info.id, step * info.num_workers
        reader = CountingReader(iter(self._opener()))
        return self._finish(itertools.islice(reader, start, None, step))

    def _finish(self, share: Iterable[tuple[int, Any]]) -> Iterator[Any]:
        for number, item in share:
            with blaming(lambda: number):
                item = self._transform(item)
            yield item
