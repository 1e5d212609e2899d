"""Grades datasets/interface.

The oracles are Python's own lists, and counting: what a DataLoader with 0, 1 and 2 real worker processes hands out is
held against the source's items, one by one.
"""

import itertools
import pickle
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, get_worker_info

from checkpoints.checks import Check, Draw, Workload
from checkpoints.misconceptions import Misconception
from exercises.datasets.interface import SequenceDataset, ShardedStream

MISCONCEPTIONS = [
    Misconception(
        "a dataset without negative indexes: -1 is refused",
        ("if not -length <= number < length:", "if not 0 <= number < length:"),
    ),
    Misconception(
        "negative indexes off by one: -1 gives the last item but one",
        ("number %= length", "number = number if number >= 0 else (number + length - 1) % length"),
    ),
    Misconception(
        "negative indexes handed on to the items, which need not understand them", ("number %= length", "pass")
    ),
    Misconception(
        "indexes that start again behind the end, so that a loop over the dataset never ends",
        ("if not -length <= number < length:", "if not length:"),
    ),
    Misconception(
        "only the upper end checked: a negative index too far down gives some item",
        ("if not -length <= number < length:", "if number >= length:"),
    ),
    Misconception(
        "an IndexError that does not say the index and the length",
        (
            'raise IndexError(f"index {number} is out of range: the dataset has {length} items")',
            'raise IndexError("list index out of range")',
        ),
    ),
    Misconception(
        "an index made whole by int(), which takes 1.5 for 1 and reads text",
        ("operator.index(index)", "int(index)"),
    ),
    Misconception(
        "an index that must be an int itself: those of numpy and torch are whole numbers too",
        (
            "length, number = len(self.items), operator.index(index)",
            'if not isinstance(index, int):\n    raise TypeError(f"got {type(index).__name__}")\n'
            "length, number = len(self.items), index",
        ),
    ),
    Misconception(
        "all items transformed when the dataset is made, not when they are asked for",
        (
            "self.items = items\nself.transform = transform",
            "self.items = items if transform is None else [transform(items[i]) for i in range(len(items))]\n"
            "self.transform = None",
        ),
    ),
    Misconception(
        "the transform's exceptions let through: they do not say which item, and an IndexError ends a loop too early",
        (
            'raise RuntimeError(f"item {number}: {type(error).__name__}: {error}") from error',
            "raise",
        ),
    ),
    Misconception(
        "an error that says which item, but not what went wrong",
        ('RuntimeError(f"item {number}: {type(error).__name__}: {error}")', 'RuntimeError(f"item {number} failed")'),
    ),
    Misconception(
        "every worker gives out everything: with W workers each item comes W times",
        ("worker = get_worker_info()", "worker: Any = None"),
    ),
    Misconception(
        "rank and world_size left out: the processes repeat each other",
        (
            "first, step = self.rank + self.world_size * worker_id, self.world_size * num_workers",
            "first, step = worker_id, num_workers",
        ),
    ),
    Misconception(
        "in a worker, items shared among the workers alone: there the processes repeat each other",
        (
            "first, step = self.rank + self.world_size * worker_id, self.world_size * num_workers",
            "first, step = (self.rank, self.world_size) if worker is None else (worker_id, num_workers)",
        ),
    ),
    Misconception(
        "item n given to shard rank * W + w: what a process gets then depends on the number of its workers",
        ("self.rank + self.world_size * worker_id", "self.rank * num_workers + worker_id"),
    ),
    Misconception(
        "contiguous blocks, for which the whole source has to be read first",
        (
            "stream = iter(self.open_stream())",
            "whole = list(self.open_stream())\nstream = iter(whole)\nsize = -(-len(whole) // step)",
        ),
        ("if number % step == first:", "if number // size == first:"),
    ),
    Misconception(
        "the whole source read into a list at the start of each pass",
        ("stream = iter(self.open_stream())", "stream = iter(list(self.open_stream()))"),
    ),
    Misconception(
        "open_stream called when the dataset is made: the second pass finds that stream exhausted",
        ("self.open_stream = open_stream", "stream = open_stream()\nself.open_stream = lambda: stream"),
    ),
    Misconception(
        "one iterator kept for all passes: it is exhausted at the second",
        (
            "stream = iter(self.open_stream())",
            "self.stream = stream = getattr(self, 'stream', None) or iter(self.open_stream())",
        ),
    ),
    Misconception(
        "the items of the other shards transformed too, in vain",
        (
            "if number % step == first:\n"
            "    yield item if self.transform is None else _naming(number, self.transform, item)",
            "result = item if self.transform is None else _naming(number, self.transform, item)\n"
            "if number % step == first:\n"
            "    yield result",
        ),
    ),
    Misconception(
        "the number that the item has in its share, not in the source",
        (
            "yield item if self.transform is None else _naming(number, self.transform, item)",
            "yield item if self.transform is None else _naming(number // step, self.transform, item)",
        ),
    ),
    Misconception(
        "a rank equal to world_size let through: ranks end at world_size - 1",
        ("if not 0 <= rank < world_size:", "if not 0 <= rank <= world_size or world_size < 1:"),
    ),
]


# What crosses into worker processes stands at the top of this file: where they are started afresh, it is found by name.


class _Squares:
    """The squares below a length, as items that understand no index but those from 0 to length - 1."""

    def __init__(self, length: int) -> None:
        self.length = length
        self.asked: list[int] = []

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int, /) -> int:
        if not 0 <= index < self.length:
            raise ValueError(f"asked for the square of {index}")
        self.asked.append(index)
        return index**2


class _Failing:
    """Items, or a transform, of which one raises."""

    def __init__(self, number: int, error: Exception) -> None:
        self.number = number
        self.error = error

    def __len__(self) -> int:
        return 9

    def __getitem__(self, index: int, /) -> int:
        return self(index)

    def __call__(self, item: int) -> int:
        if item == self.number:
            raise self.error
        return item

    def stream(self) -> Iterator[int]:
        """The items 0 to 8, up to the one that raises."""
        return map(self, range(9))


class _Source:
    """Opens streams of the numbers below a length; notes how often, and how many items have been read."""

    def __init__(self, length: int) -> None:
        self.length = length
        self.opened = 0
        self.read = 0

    def __call__(self) -> Iterator[int]:
        self.opened += 1
        return self.numbers()

    def numbers(self) -> Iterator[int]:
        for number in range(self.length):
            self.read += 1
            yield number


def _negative_tensor(number: int) -> torch.Tensor:
    return torch.tensor(-number)


def _with_worker(item: int) -> str:
    """The item, and where it was made."""
    info = get_worker_info()
    return f"{item} in the main process" if info is None else f"{item} in worker {info.id} of {info.num_workers}"


def load_all(dataset: Any, *, num_workers: int, passes: int = 1, **options: Any) -> Any:
    """All that ``DataLoader(dataset, num_workers=...)`` gives; a list of each pass where there are several."""
    options |= {"num_workers": num_workers, "persistent_workers": passes > 1 and num_workers > 0}
    loader: DataLoader[Any] = DataLoader(dataset, **options)
    try:
        lists = [[batch.tolist() if torch.is_tensor(batch) else batch for batch in loader] for _ in range(passes)]
        return lists if passes > 1 else lists[0]
    except Exception as error:
        if not num_workers:
            raise
        failure = error.with_traceback(None)
    # Raised from here, and without the iterator, which is in a cycle with the traceback: one that has to be found by
    # the garbage collector waits five seconds for its workers.
    loader._iterator = None
    _, _, told = str(failure).rpartition(f"\n{type(failure).__name__}: ")  # the end of the worker's traceback says it
    if told:
        failure = type(failure)(f"in a worker: {told.strip()}")
    raise failure


load_all.__name__ = "all that comes out of DataLoader"  # what a verdict calls it


def take(stream: Any, count: int) -> list[Any]:
    """The first items that a loop over it gives, at most so many."""
    return list(itertools.islice(iter(stream), count))


def _getter(dataset: Any, text: str) -> Callable[[Any], Any]:
    """What gives ``dataset[index]``; a verdict shows the dataset as in `text`."""

    def get(index: Any) -> Any:
        return dataset[index]

    get.__name__ = f"{text}.__getitem__"
    return get


def workload(task: Any, draw: Draw) -> list[Workload]:
    """Typical calls, for `compare`."""
    rows = draw.normal(2000, 8)
    dataset = task.SequenceDataset(rows, torch.neg)
    stream = task.ShardedStream(partial(range, 20000), transform=_with_worker, rank=1, world_size=4)
    return [
        Workload("list(SequenceDataset(rows, torch.neg))", list, (dataset,)),
        Workload("dataset[-1]", dataset.__getitem__, (-1,)),
        Workload("list(ShardedStream(source, rank=1, world_size=4))", list, (stream,)),
    ]


def test_items_by_hand(check: Check) -> None:
    """Three words and their lengths: len, and each item by its number."""
    dataset = check.build(SequenceDataset, ["one", "three", "eleven"], len)
    check.run("len(dataset)", lambda: len(dataset)).equals(3)
    for number, expected in enumerate([3, 5, 6]):
        check.run(
            f'SequenceDataset(["one", "three", "eleven"], len)[{number}]', partial(dataset.__getitem__, number)
        ).equals(expected, note=f"the length of item {number}")
    plain = check.build(SequenceDataset, ["one", "three", "eleven"])
    check.run('SequenceDataset(["one", "three", "eleven"])[1]', lambda: plain[1]).equals(
        "three", note="no transform leaves the item as it is"
    )


def test_negative_index(check: Check) -> None:
    """A negative index counts from the end, as in a list, whatever the items themselves understand."""
    length = check.draw.size()
    squares = [number**2 for number in range(length)]
    dataset = check.build(SequenceDataset, _Squares(length))
    for index in (-1, -2, -length):
        check.run(f"dataset[{index}] of the {length} items {squares}", partial(dataset.__getitem__, index)).equals(
            squares[index]
        )


def test_index_out_of_range(check: Check) -> None:
    """An index outside of -length to length - 1 is an IndexError that names it and the length."""
    get = _getter(check.build(SequenceDataset, range(13)), "SequenceDataset(range(13))")
    for index in (47, -14, -50):
        check.raises(IndexError, get, index, naming=(str(index), "13"))
    check.raises(IndexError, get, 13, naming="13")
    nothing = check.build(SequenceDataset, [])
    check.run("len(SequenceDataset([]))", lambda: len(nothing)).equals(0)
    for index in (0, -1):
        check.raises(IndexError, _getter(nothing, "SequenceDataset([])"), index, naming=(str(index), "0"))


def test_loop_ends(check: Check) -> None:
    """A loop over the dataset ends by itself, after its last item."""
    length = check.draw.size()
    dataset = check.build(SequenceDataset, _Squares(length))
    check(take, dataset, length + 5).equals([number**2 for number in range(length)])
    check(take, check.build(SequenceDataset, []), 5).equals([])


def test_kinds_of_index(check: Check) -> None:
    """Whole numbers of numpy and torch are indexes; a float, a slice or a string is none, and named as such."""
    items = [10, 20, 30]
    dataset = check.build(SequenceDataset, items)
    get = _getter(dataset, "SequenceDataset([10, 20, 30])")
    for index in (np.int64(2), torch.tensor(0), torch.tensor([-1])[0]):
        check.run(f"SequenceDataset([10, 20, 30])[{index!r}]", partial(get, index)).equals(items[int(index)])
    for given, kind in [(1.0, "float"), ("1", "str"), (slice(0, 2), "slice")]:
        check.raises(TypeError, get, given, naming=kind)


def test_transform_when_asked(check: Check) -> None:
    """An item is fetched and transformed when it is asked for, each time anew, and no other is."""
    squares, seen = _Squares(6), []

    def count(item: int) -> int:
        seen.append(item)
        return len(seen)

    dataset = check.build(SequenceDataset, squares, count)
    check.run("len(dataset)", lambda: len(dataset)).equals(6)
    check.run("the items transformed before any was asked for", lambda: list(seen)).equals([])
    indexes = [4, 1, 4]
    check.run(
        "the transform's count in dataset[4], dataset[1], dataset[4]", lambda: [dataset[index] for index in indexes]
    ).equals([1, 2, 3])
    check.run("the items that the transform got then", lambda: list(seen)).equals([16, 1, 16])
    check.run("the indexes that the items were asked for", lambda: list(squares.asked)).equals(indexes)


def test_item_errors(check: Check) -> None:
    """What the transform or the items raise becomes a RuntimeError with the item's number, also an IndexError."""
    number = check.draw.integer(2, 7)
    for error in (ValueError("a bad row"), KeyError("colour"), IndexError("an empty row")):
        words = (str(number), type(error).__name__, str(error.args[0]))
        failing = _Failing(number, error)
        for text, broken in [
            (f"dataset whose transform fails for item {number}", check.build(SequenceDataset, range(9), failing)),
            (f"dataset whose items have no item {number}", check.build(SequenceDataset, failing)),
        ]:
            check.raises(RuntimeError, _getter(broken, text), number, naming=words)
            check.raises(RuntimeError, _getter(broken, text), number - 9, naming=words)  # still counted from 0
            check.raises(RuntimeError, take, broken, 12, naming=words)
            check.run(f"dataset[{number - 1}], beside the broken item", partial(broken.__getitem__, number - 1)).equals(
                number - 1
            )


def test_dataset_in_workers(check: Check) -> None:
    """A DataLoader with 0, 1 and 2 worker processes gives the same batches, in order."""
    length = check.draw.size(5, 9)
    dataset = check.build(SequenceDataset, range(length), _negative_tensor)
    expected = [[-number for number in range(length)[start : start + 2]] for start in range(0, length, 2)]
    for num_workers in (0, 1, 2):
        check(load_all, dataset, batch_size=2, num_workers=num_workers).equals(expected)


def test_stream_by_hand(check: Check) -> None:
    """Seven items among three processes: 0, 3, 6, then 1, 4, then 2, 5; and one process alone gets all."""
    for rank, expected in enumerate([[0, 3, 6], [1, 4], [2, 5]]):
        stream = check.build(ShardedStream, _Source(7), rank=rank, world_size=3)
        check.run(f"the items 0 to 6: rank {rank} of 3", partial(take, stream, 20)).equals(expected)
    stream = check.build(ShardedStream, _Source(7), transform=str)
    check.run("the items 0 to 6 through str, for one process alone", partial(take, stream, 20)).equals(list("0123456"))


def test_stream_of_anything(check: Check) -> None:
    """What open_stream gives may be a list, and its items anything, None among them: only the source's end is one."""
    items = ["a", None, 0, "", None, "b"]
    for world_size, expected in [(1, items), (2, ["a", 0, None])]:
        stream = check.build(ShardedStream, lambda: items, world_size=world_size)
        check.run(f"the stream of {items}, rank 0 of {world_size}", partial(take, stream, 20)).equals(expected)


def test_stream_shares(check: Check) -> None:
    """For any length and any number of processes, also more than there are items: no item twice, none left out."""
    for length, world_size in [(check.draw.integer(5, 40), check.draw.size(2, 6)), (3, 5), (0, 2)]:
        for rank in range(world_size):
            stream = check.build(ShardedStream, _Source(length), rank=rank, world_size=world_size)
            expected = [number for number in range(length) if number % world_size == rank]
            check.run(f"rank {rank} of {world_size}, {length} items", partial(take, stream, 99)).equals(expected)


def test_stream_afresh(check: Check) -> None:
    """The source is opened once for each pass, and not before: a second pass gives everything again."""
    source = _Source(5)
    stream = check.build(ShardedStream, source)
    check.run("how often open_stream was called before the first pass", lambda: source.opened).equals(0)
    for number in (1, 2):
        check.run(f"the items of pass {number}", lambda: take(stream, 20)).equals([0, 1, 2, 3, 4])
        check.run(f"how often open_stream was called in {number} passes", lambda: source.opened).equals(number)
    check.run("two passes side by side", lambda: list(itertools.islice(zip(stream, stream, strict=True), 20))).equals(
        [(number, number) for number in range(5)]
    )


def test_stream_is_lazy(check: Check) -> None:
    """Items are read when they are needed, for a source may be endless; only the share's own are transformed."""
    source, seen = _Source(10_000), []

    def note(item: int) -> int:
        seen.append(item)
        return -item

    stream = check.build(ShardedStream, source, transform=note, rank=2, world_size=4)
    check(take, stream, 3).equals([-2, -6, -10])
    check.run("the items that were transformed for these three", lambda: list(seen)).equals([2, 6, 10])
    check.that(
        source.read <= 50,  # 11 are needed; some more would do no harm
        call="how much of a source of 10,000 items was read for the three",
        got=f"{source.read} items",
        expected="11, up to the last of the three",
        proof=source.read,
    )


def test_stream_in_workers(check: Check) -> None:
    """A DataLoader with 0, 1 and 2 worker processes gives each item once, in the source's order, in each pass."""
    length = check.draw.integer(5, 12)
    stream = check.build(ShardedStream, _Source(length), transform=_with_worker)
    alone = [f"{number} in the main process" for number in range(length)]
    check(load_all, stream, passes=2, batch_size=None, num_workers=0).equals([alone, alone])
    for workers in (1, 2):
        dealt = [f"{number} in worker {number % workers} of {workers}" for number in range(length)]
        check(load_all, stream, passes=2, batch_size=None, num_workers=workers).equals(
            [dealt, dealt], note=f"in each of the two passes, every item once, dealt out to {workers} workers in turn"
        )


def test_stream_in_workers_of_processes(check: Check) -> None:
    """Two processes with two workers each: a process's share is what it would get without workers."""
    length, rank = check.draw.integer(9, 16), check.draw.integer(0, 2)
    stream = check.build(ShardedStream, _Source(length), rank=rank, world_size=2)
    check(take, stream, 20).equals(list(range(rank, length, 2)))
    check(load_all, stream, batch_size=None, num_workers=2).equals(
        list(range(rank, length, 2)), note=f"the share of rank {rank}, dealt out to its two workers in turn"
    )


def test_pickle(check: Check) -> None:
    """Copies made by pickle, as worker processes get them, give the same items."""
    for what, source, expected in [
        ("the dataset", check.build(SequenceDataset, range(4), _with_worker), range(4)),
        (
            "the stream of 0 to 6, rank 1 of 3",
            check.build(ShardedStream, _Source(7), transform=_with_worker, rank=1, world_size=3),
            (1, 4),
        ),
    ]:
        copy = check.run(f"pickle.loads(pickle.dumps(...)) of {what}", partial(_copy, source))
        check.run(f"the items of a pickled copy of {what}", partial(take, copy.value, 20)).equals(
            [f"{number} in the main process" for number in expected]
        )


def _copy(dataset: Any) -> Any:
    return pickle.loads(pickle.dumps(dataset))


def test_stream_errors(check: Check) -> None:
    """What the source or the transform raises becomes a RuntimeError with the item's number in the source."""
    number = 2 * check.draw.integer(1, 4) + 1
    source = _Failing(number, OSError("disk on fire"))
    transform = _Failing(number, ValueError("a bad row"))
    for rank, stream, error in [
        (1, check.build(ShardedStream, source.stream, rank=1, world_size=2), source.error),
        (1, check.build(ShardedStream, _Source(9), transform=transform, rank=1, world_size=2), transform.error),
        # The source breaks at an item that is another's.
        (0, check.build(ShardedStream, source.stream, rank=0, world_size=2), source.error),
    ]:
        check.raises(RuntimeError, take, stream, 20, naming=(str(number), type(error).__name__, str(error)))
        before = list(range(rank, number, 2))
        check.run(
            f"the items of rank {rank} of 2 before the broken item {number}", partial(take, stream, len(before))
        ).equals(before)


def test_errors_in_a_worker(check: Check) -> None:
    """An error in a worker process reaches the main process with the item's number and what went wrong."""
    number = check.draw.integer(2, 7)
    words = (str(number), "ValueError", "a bad row")
    transform = _Failing(number, ValueError("a bad row"))
    dataset = check.build(SequenceDataset, range(9), transform)
    check.raises(RuntimeError, load_all, dataset, num_workers=1, batch_size=4, naming=words)
    stream = check.build(ShardedStream, _Source(9), transform=transform)
    check.raises(RuntimeError, load_all, stream, num_workers=1, batch_size=None, naming=words)


def test_stream_refuses(check: Check) -> None:
    """A rank that is none of the world's, or a world of nobody, is refused with both numbers."""
    for rank, world_size in [(2, 2), (-1, 3), (5, 4), (0, 0)]:
        words = ("rank", str(rank), "world_size", str(world_size))
        check.raises(ValueError, ShardedStream, _Source(3), rank=rank, world_size=world_size, naming=words)
