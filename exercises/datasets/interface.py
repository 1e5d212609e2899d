"""Datasets: items by their number, and items in a stream.

A *map-style* dataset says how many items it has and gives any of them by its number, so they can be taken in any order.
An *iterable-style* dataset gives its items one after the other, for data that has no numbers: a log, a pipe, a file too
large to count. `torch.utils.data.DataLoader` takes either, and lets worker processes fetch the items: each has a copy
of the dataset. It hands the numbers of a map-style dataset round among them; a stream must share itself out.

Symbols: n the number of an item, counted from 0; W worker processes (`num_workers`), of which this is w; R processes
that train side by side (`world_size`), of which this is r (`rank`).
"""

import itertools
import operator
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol, SupportsIndex, TypeVar

from torch.utils.data import Dataset, IterableDataset, get_worker_info


class Items(Protocol):
    """What has a length and gives its items by number: a list, a tensor, a map-style dataset."""

    def __len__(self) -> int:
        """How many items there are."""
        ...

    def __getitem__(self, index: int, /) -> Any:
        """The item of that number."""
        ...


class SequenceDataset(Dataset[Any]):
    """A map-style dataset over anything with a length and numbered items.

    It can be pickled if `items` and `transform` can, as a worker process that is started afresh needs it.

    Args:
        items: where the items are; kept as it is, and asked for an item only when that is wanted, by a number from 0
            to its length - 1.
        transform: called with an item each time that it is asked for, so that a random one gives something else each
            time; what it returns is given out. None leaves the items as they are.

    Example:
        >>> dataset = SequenceDataset(["one", "two", "three"], transform=len)
        >>> len(dataset), dataset[0], dataset[-1]
        (3, 3, 5)
    """

    def __init__(self, items: Items, transform: Callable[[Any], Any] | None = None) -> None:
        raise NotImplementedError("datasets/interface: SequenceDataset.__init__")

    def __len__(self) -> int:
        """How many items there are."""
        raise NotImplementedError("datasets/interface: SequenceDataset.__len__")

    def __getitem__(self, index: SupportsIndex) -> Any:
        """Give one item.

        Args:
            index: a whole number of any kind that `operator.index` takes: an int, a numpy integer, an integer tensor
                of one element. A negative one counts from the end, as in a list: -1 is the last item.

        Returns:
            The item, transformed.

        Raises:
            TypeError: `index` is no whole number (a float, a slice, a string); the message names its type.
            IndexError: there is no such item; the message names `index` and the length. It also is what ends a
                ``for`` loop over the dataset.
            RuntimeError: the transform raised an exception, or `items` did; the message names the item's number,
                counted from 0, and holds the exception's type and message. This goes for an IndexError of theirs too,
                which would otherwise end a ``for`` loop too early, without a word.
        """
        raise NotImplementedError("datasets/interface: SequenceDataset.__getitem__")


class ShardedStream(IterableDataset[Any]):
    """An iterable-style dataset that shares its items out, without repeats and without gaps.

    Item n of the source goes to process r = n mod R. What a process gets is dealt out among the workers of its
    DataLoader in turn: its first item to worker 0, its second to worker 1, and so on. So a process gets the same items
    whatever the number of its workers is, and where the DataLoader does not batch (``batch_size=None``), in the
    source's order. Outside of a worker all items of the process come from one pass.

    It can be pickled if `open_stream` and `transform` can, as a worker process that is started afresh needs it.

    Args:
        open_stream: called without arguments once for each pass, in the process that makes the pass; gives the
            source's items from the first on, the same ones in the same order each time. Where there are W workers, W
            passes are made. The items are read one at a time, when they are needed: the source may be endless.
        transform: called with each item that falls to this pass, and not with those of others; what it returns is
            given out. None leaves the items as they are.
        rank: r, the number of this process, from 0 to R - 1.
        world_size: R, how many processes share the source.

    Raises:
        ValueError: `world_size` is below 1, or `rank` is not from 0 to `world_size` - 1; the message names both
            arguments and their values.

    Example:
        >>> [list(ShardedStream(lambda: range(7), rank=rank, world_size=3)) for rank in range(3)]
        [[0, 3, 6], [1, 4], [2, 5]]
    """

    def __init__(
        self,
        open_stream: Callable[[], Iterable[Any]],
        *,
        transform: Callable[[Any], Any] | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        raise NotImplementedError("datasets/interface: ShardedStream.__init__")

    def __iter__(self) -> Iterator[Any]:
        """Make a pass over what falls to this process, and in a worker of a DataLoader to this worker.

        Yields:
            The items, transformed, in the source's order.

        Raises:
            RuntimeError: the source raised an exception while it was read, or the transform did; the message names
                the item's number in the source, counted from 0, and holds the exception's type and message. The items
                before it have been given out.
        """
        raise NotImplementedError("datasets/interface: ShardedStream.__iter__")
