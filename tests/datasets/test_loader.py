"""Grades datasets/loader.

The oracles are torch's DataLoader in the order 0, 1, 2 ..., a loop that pads row by row, and counting: a shuffled pass
holds each item once, whatever its order. How often each order comes is held against a binomial bound.
"""

import itertools
import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.utils.data import DataLoader, get_worker_info

from checkpoints.checks import Answer, Check, Draw, Workload
from checkpoints.crashes import ForbiddenError
from checkpoints.misconceptions import Misconception
from exercises.datasets.loader import BatchLoader, SeededSampler, make_data_loader, pad_collate

MISCONCEPTIONS = [
    Misconception(
        "padding at the left: the tokens belong in front of it",
        (
            "mask = torch.arange(int(lengths.max())) < lengths[:, None]",
            "mask = torch.arange(int(lengths.max())) >= lengths.max() - lengths[:, None]",
        ),
    ),
    Misconception(
        "the mask inverted: True where a token is padding",
        ("return PaddedBatch(tokens, lengths, mask)", "return PaddedBatch(tokens, lengths, ~mask)"),
    ),
    Misconception(
        "padding counted in the lengths",
        ("return PaddedBatch(tokens, lengths, mask)", "return PaddedBatch(tokens, 0 * lengths + mask.shape[1], mask)"),
    ),
    Misconception(
        "a mask made by looking for the padding's value, which real tokens may have too",
        ("return PaddedBatch(tokens, lengths, mask)", "return PaddedBatch(tokens, lengths, tokens != padding)"),
    ),
    Misconception("padding that is 0 whatever was asked for", ("mask.shape, padding, dtype", "mask.shape, 0, dtype")),
    Misconception(
        "tokens that are int64 whatever the sequences are",
        ("padding, dtype=sequences[0].dtype", "padding, dtype=torch.int64"),
    ),
    Misconception("the same order in every epoch", (", spawn_key=(epoch,)", "")),
    Misconception(
        "seed + epoch as the seed: epoch 1 of one seed is epoch 0 of the next",
        ("self.seed, spawn_key=(epoch,)", "self.seed + epoch"),
    ),
    Misconception(
        "a seed of more than 32 bits: torch's generator looks at the lower 32 only",
        ("manual_seed(mixed)", "manual_seed(self.seed << 32 | epoch)"),
    ),
    Misconception(
        "seed and epoch strung together: a seed of more than 32 bits is taken for two numbers",
        ("self.seed, spawn_key=(epoch,)", "[self.seed, epoch]"),
    ),
    Misconception(
        "an order drawn from torch's global generator, which knows neither seed nor epoch",
        ("generator = torch.Generator().manual_seed(mixed)", "generator = None"),
    ),
    Misconception(
        "torch.manual_seed, which sets the global generator for everybody",
        ("generator = torch.Generator().manual_seed(mixed)", "generator = torch.manual_seed(mixed)"),
    ),
    Misconception(
        "one generator that goes on from pass to pass: the order depends on the passes made before, not on epoch",
        (
            "generator = torch.Generator().manual_seed(mixed)",
            "generator = self.__dict__.setdefault('generator', torch.Generator().manual_seed(mixed))",
        ),
    ),
    Misconception(
        "numbers drawn with replacement: some come twice, others not at all",
        (
            "torch.randperm(self.length, generator=generator)",
            "torch.randint(max(self.length, 1), (self.length,), generator=generator)",
        ),
    ),
    Misconception(
        "a random start, from which the numbers go on in sequence",
        (
            "torch.randperm(self.length, generator=generator)",
            "torch.arange(self.length).roll(int(torch.randint(99, (1,), generator=generator)))",
        ),
    ),
    Misconception(
        "numbers that are tensors, not ints",
        (
            "iter(torch.randperm(self.length, generator=generator).tolist())",
            "iter(torch.randperm(self.length, generator=generator))",
        ),
    ),
    Misconception(
        "a sampler's epoch that counts finished passes: after one that was broken off its order comes again",
        (
            "self.epoch += 1\nif not self.shuffle:\n    return iter(range(self.length))",
            "if not self.shuffle:\n    yield from range(self.length)\n    self.epoch += 1\n    return",
        ),
        (
            "return iter(torch.randperm(self.length, generator=generator).tolist())",
            "yield from torch.randperm(self.length, generator=generator).tolist()\nself.epoch += 1",
        ),
    ),
    Misconception(
        "a loader's epoch that counts finished passes: after one that was broken off its order comes again",
        ("self.epoch += 1\norder = list(self.sampler)", "order = list(self.sampler)"),
        (
            "yield self.collate([self.dataset[number] for number in order[start : start + self.batch_size]])",
            "yield self.collate([self.dataset[number] for number in order[start : start + self.batch_size]])\n"
            "if start + self.batch_size >= len(self) * self.batch_size:\n"
            "    self.epoch += 1",
        ),
    ),
    Misconception(
        "drop_last forgotten in __len__",
        ("return whole if self.drop_last or not rest else whole + 1", "return whole if not rest else whole + 1"),
        (
            "len(self) * self.batch_size, self.batch_size",
            "len(order) - (self.batch_size - 1 if self.drop_last else 0), self.batch_size",
        ),
    ),
    Misconception(
        "drop_last ignored: the smaller batch comes all the same",
        ("return whole if self.drop_last or not rest else whole + 1", "return whole if not rest else whole + 1"),
    ),
    Misconception(
        "a last batch of fewer items dropped always",
        ("return whole if self.drop_last or not rest else whole + 1", "return whole"),
    ),
    Misconception(
        "a batch too many where the batch size divides the number of items",
        ("return whole if self.drop_last or not rest else whole + 1", "return whole if self.drop_last else whole + 1"),
    ),
    Misconception(
        "the whole dataset fetched before the first batch",
        ("order = list(self.sampler)", "items = [self.dataset[number] for number in self.sampler]"),
        (
            "self.collate([self.dataset[number] for number in order[start : start + self.batch_size]])",
            "self.collate(items[start : start + self.batch_size])",
        ),
    ),
    Misconception(
        "a dataset's exceptions let through: they do not say which item",
        ("self.dataset = SequenceDataset(dataset)", "self.dataset = dataset"),
        ("SequenceDataset(dataset),\nbatch_size,", "dataset,\nbatch_size,"),
    ),
    Misconception(
        "the DataLoader's own shuffling, which does not know the seed",
        ("sampler=SeededSampler(len(dataset), seed=seed, shuffle=shuffle)", "shuffle=shuffle"),
    ),
    Misconception("a DataLoader that was not told to drop the last batch", ("drop_last=drop_last,", "")),
    Misconception("a DataLoader that was not given the collate function", ("collate_fn=collate,", "")),
    Misconception(
        "a DataLoader without worker processes",
        ("num_workers=num_workers,", ""),
        ("persistent_workers=num_workers > 0,", ""),
    ),
    Misconception(
        "worker processes started anew for each epoch",
        ("persistent_workers=num_workers > 0,", ""),
    ),
    Misconception(
        "a DataLoader without a generator: each pass draws the workers' seed from the global one",
        ("generator=torch.Generator().manual_seed(seed),", ""),
    ),
]

# What crosses into worker processes stands at the top of this file: where they are started afresh, it is found by name.


class _Records:
    """Items of several parts, as a default collate has to stack them."""

    def __init__(self, rows: Tensor) -> None:
        self.rows = rows
        self.asked: list[int] = []

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int, /) -> dict[str, Any]:
        self.asked.append(index)
        return {"row": self.rows[index], "pair": (index, float(index) / 2)}


class _Failing:
    """Items, of which one raises."""

    def __init__(self, length: int, broken: int) -> None:
        self.length = length
        self.broken = broken

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int, /) -> int:
        if index == self.broken:
            raise ValueError("a bad row")
        return index


def _where(items: list[Any]) -> str:
    """A batch that says where it was made."""
    info = get_worker_info()
    return f"{items} in the main process" if info is None else f"{items} in worker {info.id} of {info.num_workers}"


def _process(items: list[Any]) -> int:
    """The number of the process that makes a batch."""
    return os.getpid()


def batches(loader: Any, limit: int = 99) -> list[Any]:
    """The first batches of a pass, tensors as lists; all, where they are no more than the limit."""
    try:
        return [batch.tolist() if torch.is_tensor(batch) else batch for batch in itertools.islice(iter(loader), limit)]
    except Exception as error:
        if not getattr(loader, "num_workers", 0):
            raise
        failure = error.with_traceback(None)
    # Raised from here, and without the iterator, which is in a cycle with the traceback: one that has to be found by
    # the garbage collector waits five seconds for its workers.
    loader._iterator = None
    _, _, told = str(failure).rpartition(f"\n{type(failure).__name__}: ")  # the end of the worker's traceback says it
    if told:
        failure = type(failure)(f"in a worker: {told.strip()}")
    raise failure


batches.__name__ = "list"  # what a verdict calls it


@contextmanager
def _without_data_loader() -> Iterator[None]:
    """Inside, torch's DataLoader gives nothing: a `BatchLoader` is to do its work."""

    def refuse(loader: Any) -> Iterator[Any]:
        raise ForbiddenError("took a torch DataLoader's batches: this is what you are building")

    with mock.patch.object(DataLoader, "__iter__", refuse):
        yield


def workload(task: Any, draw: Draw) -> list[Workload]:
    """Typical calls, for `compare`. Whoever mixes seed and epoch otherwise has other orders, so nothing is shuffled."""
    rows = draw.normal(2048, 16)
    sequences = [draw.integers(0, 50_000, draw.integer(1, 512)) for _ in range(64)]
    loader = task.BatchLoader(rows, 32)
    return [
        Workload("pad_collate(64 sequences)", lambda given: tuple(task.pad_collate(given)), (sequences,)),
        Workload("list(BatchLoader(rows, 32))", list, (loader,)),
        Workload("list(SeededSampler(100_000, shuffle=False))", list, (task.SeededSampler(100_000, shuffle=False),)),
    ]


def _padded(check: Check, sequences: list[Tensor], **options: Any) -> Answer:
    """The parts of the batch that the learner makes of them, by name."""
    batch = check(pad_collate, sequences, **options)
    made = batch.value
    return check.run(batch.call, lambda: {name: getattr(made, name) for name in ("tokens", "lengths", "mask")})


def _by_rows(sequences: list[Tensor], padding: float) -> dict[str, Tensor]:
    """The same, row by row."""
    size = max(len(sequence) for sequence in sequences)
    rows = [sequence.tolist() + [padding] * (size - len(sequence)) for sequence in sequences]
    real = [[place < len(sequence) for place in range(size)] for sequence in sequences]
    return {
        "tokens": torch.tensor(rows, dtype=sequences[0].dtype),
        "lengths": torch.tensor([len(sequence) for sequence in sequences]),
        "mask": torch.tensor(real, dtype=torch.bool),
    }


def _orders(make: Callable[[], Any], epochs: int) -> list[list[int]]:
    """The orders of the first epochs of a sampler."""
    sampler = make()
    return [list(itertools.islice(iter(sampler), 999)) for _ in range(epochs)]


def _resumed(make: Callable[[], Any], epoch: int) -> list[Any]:
    """A pass over a new loader or sampler that is set to an epoch."""
    made = make()
    made.epoch = epoch
    return batches(made)


def _sizes(found: Any) -> list[int]:
    """How many items each batch holds."""
    return [len(batch) for batch in batches(found)]


def _cut(order: list[int], size: int, drop_last: bool = False) -> list[list[int]]:
    """An order in batches."""
    cut = [order[start : start + size] for start in range(0, len(order), size)]
    return [batch for batch in cut if len(batch) == size or not drop_last]


def _agree(check: Check, call: str, found: Any, expected: Any, whose: str) -> None:
    """Two passes agree; what is told of them if not does not depend on their order, which is random."""
    kinds = [sorted({type(part).__name__ for part in parts}) for parts in (found, expected)]
    got = "others"
    if len(found) != len(expected):
        got, whose = f"{len(found)} of them", f"{len(expected)}: {whose}"
    elif kinds[0] != kinds[1]:
        got, whose = f"of type {' and '.join(kinds[0])}", f"{whose}, of type {' and '.join(kinds[1])}"
    elif sorted(map(str, found)) == sorted(map(str, expected)):
        got = "the same, in another order"
    check.that(found == expected, call=call, got=got, expected=whose)


def _hold_once(check: Check, call: str, found: list[Any], length: int) -> None:
    """These are the numbers below `length`, each once, in any order."""
    wrong = "some twice, and others not at all" if len(found) == length else f"{len(found)} of them"
    check.that(sorted(map(int, found)) == list(range(length)), call=call, got=wrong, expected="each once")


def test_padding_by_hand(check: Check) -> None:
    """Sequences of three tokens and of one: two zeros behind the second, which the mask tells from tokens."""
    _padded(check, [torch.tensor([5, 6, 7]), torch.tensor([8])]).equals(
        {
            "tokens": torch.tensor([[5, 6, 7], [8, 0, 0]]),
            "lengths": torch.tensor([3, 1]),
            "mask": torch.tensor([[True, True, True], [True, False, False]]),
        }
    )


def test_padding(check: Check) -> None:
    """As row by row: any dtype and padding, tokens equal to it, empty sequences, a batch of one, strided memory."""
    lengths = check.draw.integers(1, 6, 5).tolist()
    for padding, dtype in [(0, torch.int64), (2, torch.int64), (-1, torch.int32), (1, torch.float64)]:
        sequences = [check.draw.integers(0, 3, length).to(dtype) for length in lengths]
        _padded(check, sequences, padding=padding).equals(_by_rows(sequences, padding))
    table = check.draw.integers(0, 9, 6, 4)
    strided = [table[:, 1], table[::2, 2], table[:0, 3]]
    _padded(check, strided, padding=9).equals(_by_rows(strided, 9))
    _padded(check, strided[2:]).equals(_by_rows(strided[2:], 0))
    _padded(check, strided[:1]).equals(_by_rows(strided[:1], 0))


def test_order_by_hand(check: Check) -> None:
    """Without shuffling: 0, 1, 2 in each epoch, as ints, and epochs are counted from 0."""
    sampler = check.build(SeededSampler, 3, shuffle=False)
    check.run("len(sampler)", lambda: len(sampler)).equals(3)
    check.run("sampler.epoch before the first pass", lambda: sampler.epoch).equals(0)
    check.run("two epochs", partial(_orders, lambda: sampler, 2)).equals([[0, 1, 2], [0, 1, 2]])
    check.run("sampler.epoch after two passes", lambda: sampler.epoch).equals(2)
    check.run("the order of no items", partial(_orders, partial(SeededSampler, 0), 1)).equals([[]])


def test_defaults(check: Check) -> None:
    """Where nothing else is said, the seed is 0; a sampler shuffles, and a loader of either kind does not."""
    length = check.draw.integer(30, 60)
    for make, args, shuffles in (
        (SeededSampler, (length,), True),
        (BatchLoader, (range(length), 4), False),
        (make_data_loader, (range(length), 4), False),
    ):

        def order(*, make: Any = make, args: Any = args, **options: Any) -> list[Any]:
            return batches(make(*args, **options))

        order.__name__ = f"the order of {make.__name__}"
        by_default = check(order).value
        _agree(check, order.__name__, by_default, check(order, shuffle=shuffles).value, f"as with shuffle={shuffles}")
        shuffled = check(order, shuffle=True).value
        expected = check(order, shuffle=True, seed=0).value
        _agree(check, f"{order.__name__}, shuffled, with no seed given", shuffled, expected, "as with seed=0")


def test_each_once(check: Check) -> None:
    """Each epoch's order holds every number once, as an int, and is another than the last one's."""
    length = check.draw.integer(30, 60)
    sampler = check.build(SeededSampler, length, seed=check.draw.seed())
    orders = check.run("the orders of three epochs", partial(_orders, lambda: sampler, 3)).value
    for epoch, order in enumerate(orders):
        _hold_once(check, f"the numbers of epoch {epoch}, of a sampler of {length}", order, length)
        kinds = sorted({type(number).__name__ for number in order})
        check.run(f"the types of the numbers of epoch {epoch}", partial(list, kinds)).equals(["int"])
    # By chance two epochs agree once in length! times, which is more than 1e32.
    different = len({str(order) for order in orders})
    check.that(different == 3, call="the orders of three epochs", got=f"{different} different", expected="3 different")


def test_orders_repeat(check: Check) -> None:
    """Seed and epoch decide the order: another sampler has it again, set to that epoch, or after a broken-off pass."""
    length, seed = check.draw.integer(30, 60), check.draw.seed()
    check.build(SeededSampler, length, seed=seed)
    make = partial(SeededSampler, length, seed=seed)
    first = check.run("the orders of four epochs", partial(_orders, make, 4)).value
    again = check.run("the orders of four epochs, by a second sampler", partial(_orders, make, 4)).value
    _agree(check, "the orders of a second sampler of the same seed", again, first, "those of the first one")
    for epoch in (3, 1):
        back = check.run(f"the order of a sampler set to epoch {epoch}", partial(_resumed, make, epoch)).value
        _agree(check, f"the order of a new sampler set to epoch {epoch}", back, first[epoch], f"that of epoch {epoch}")
    sampler = make()
    check.run("the first number of epoch 0, and no more", lambda: next(iter(sampler)))
    check.run("sampler.epoch after a pass that was broken off", lambda: sampler.epoch).equals(1)
    after = check.run("the order of the pass after that", lambda: list(sampler)).value
    _agree(check, "the order of the pass after one that was broken off", after, first[1], "that of epoch 1")


def test_pairs_of_seed_and_epoch(check: Check) -> None:
    """Another seed or another epoch is another order: epoch 1 of a seed is not epoch 0 of the next one."""
    length, seed = check.draw.integer(30, 60), check.draw.seed()
    # Side by side, and at the distances of seeds that are multiplied, or shifted, to make room for an epoch.
    pairs = [(offset, epoch) for offset in (0, 1, 2) for epoch in (0, 1, 2)]
    pairs += [pair for power in range(1, 7) for pair in ((0, 10**power), (10**power, 0))]
    pairs += [(0, 2**16), (2**16, 0), (2**32, 0)]
    found: dict[str, list[str]] = {}
    for offset, epoch in pairs:
        name = f"epoch {epoch} of seed s + {offset}".removesuffix(" + 0")
        make = partial(SeededSampler, length, seed=seed + offset)
        order = check.run(f"the order of {name}", partial(_resumed, make, epoch)).value
        found.setdefault(str(order), []).append(name)
    alike = next((places for places in found.values() if len(places) > 1), [])
    check.that(
        not alike,
        call=f"the orders of {len(pairs)} pairs of seed and epoch",
        got=f"{' and '.join(alike[:2])} in the same order",
        expected="all of them different",
    )


def test_every_order(check: Check) -> None:
    """Over many epochs each of the six orders of three items comes about equally often."""
    sampler = check.build(SeededSampler, 3, seed=check.draw.seed())
    orders = check.run("600 orders of three items", partial(_orders, lambda: sampler, 600)).value
    counts = Counter(map(str, orders))
    # Each comes 100 times on average, with a standard deviation of sqrt(600 * 1/6 * 5/6) = 9.1: 70 is more than seven.
    fair = len(counts) == 6 and min(counts.values()) >= 30 and max(counts.values()) <= 170
    check.that(
        fair,
        call="600 epochs of three items",
        got="orders that are not equally likely" if len(counts) == 6 else f"{len(counts)} different orders",
        expected="6 orders, each about 100 times (from 30 to 170)",
    )


def test_global_generator(check: Check) -> None:
    """The global generator of torch decides no order, and is left as it was, by either loader."""
    options = {"shuffle": True, "seed": check.draw.seed()}
    for make in (BatchLoader, make_data_loader):
        loaders = [check.build(make, range(40), 8, **options) for _ in range(2)]
        before = torch.get_rng_state()
        name = f"{make.__name__}(range(40), 8, shuffle=True)"
        first = check.run(f"a pass over {name}", partial(batches, loaders[0])).value
        check.that(
            torch.equal(before, torch.get_rng_state()),
            call=f"the state of the global generator after a pass over {name}",
            got="another than before",
            expected="the same as before: nothing was drawn from it, nor was it set",
        )
        torch.manual_seed(check.draw.seed())
        text = f"a pass over {name} after torch.manual_seed"
        second = check.run(text, partial(batches, loaders[1])).value
        _agree(check, text, second, first, "the batches of before")


def test_batches_by_hand(check: Check) -> None:
    """Seven items by three: two batches of three and one of one, or without that; with no DataLoader of torch's."""
    items = [10, 20, 30, 40, 50, 60, 70]
    for drop_last, expected in [(False, [[10, 20, 30], [40, 50, 60], [70]]), (True, [[10, 20, 30], [40, 50, 60]])]:
        loader = check.build(BatchLoader, items, 3, drop_last=drop_last)
        with _without_data_loader():
            check.run(f"list(BatchLoader({items}, 3, drop_last={drop_last}))", partial(batches, loader)).equals(
                expected
            )
        check.run(f"len(BatchLoader({items}, 3, drop_last={drop_last}))", partial(len, loader)).equals(len(expected))


def test_number_of_batches(check: Check) -> None:
    """Its len is the number of batches: also where one size divides the other, or there are no items."""
    size = check.draw.size(2, 5)
    for length in (0, 1, size - 1, size, size + 1, 3 * size, 4 * size - 1):
        whole, rest = divmod(length, size)
        for drop_last in (False, True):
            sizes = [size] * whole + ([rest] if rest and not drop_last else [])
            loader = check.build(BatchLoader, range(length), size, drop_last=drop_last)
            call = f"BatchLoader(range({length}), {size}, drop_last={drop_last})"
            check.run(f"len({call})", partial(len, loader)).equals(len(sizes))
            check.run(f"the sizes of the batches of {call}", partial(_sizes, loader)).equals(sizes)


def test_against_torch(check: Check) -> None:
    """In order, the same batches as torch's DataLoader: of rows, and of dictionaries with tuples inside."""
    length, size = check.draw.integer(5, 12), check.draw.size(2, 5)
    rows = check.draw.strided(length, 3)
    for dataset in (rows, _Records(rows)):
        for drop_last in (False, True):
            expected = list(DataLoader(dataset, size, drop_last=drop_last))  # type: ignore[arg-type]
            loader = check.build(BatchLoader, dataset, size, drop_last=drop_last)
            check.run(f"list(BatchLoader(dataset, {size}, drop_last={drop_last}))", partial(list, loader)).equals(
                expected
            )


def test_shuffled_batches(check: Check) -> None:
    """Shuffled: each item once an epoch, in full batches but the last, in a SeededSampler's order."""
    size, seed = check.draw.size(3, 6), check.draw.seed()
    length = 10 * size + 1
    loader = check.build(BatchLoader, range(length), size, shuffle=True, seed=seed)
    orders = check.run("the sampler's orders", partial(_orders, partial(SeededSampler, length, seed=seed), 2)).value
    for epoch, order in enumerate(orders):
        found = check.run(f"the batches of epoch {epoch}", partial(batches, loader)).value
        check.run(f"the sizes of the batches of epoch {epoch}", partial(_sizes, found)).equals([size] * 10 + [1])
        _hold_once(
            check, f"the items of epoch {epoch}, of {length}", list(itertools.chain.from_iterable(found)), length
        )
        text = f"the batches of epoch {epoch}: BatchLoader(range({length}), {size}, shuffle=True)"
        _agree(
            check, text, found, _cut(order, size), f"the order of SeededSampler({length}) of the same seed and epoch"
        )


def test_epochs(check: Check) -> None:
    """A loader's epoch is the number of the next pass, also after one that was broken off; set it to resume."""
    make = partial(BatchLoader, range(40), 8, shuffle=True, seed=check.draw.seed())
    loader = check.build(BatchLoader, range(40), 8, **make.keywords)
    check.run("loader.epoch before the first pass", lambda: loader.epoch).equals(0)
    passes = [check.run(f"the batches of epoch {epoch}", partial(batches, loader)).value for epoch in range(3)]
    check.run("loader.epoch after three passes", lambda: loader.epoch).equals(3)
    back = check.run("the batches of a loader set to epoch 2", partial(_resumed, make, 2)).value
    _agree(check, "the batches of a new loader set to epoch 2", back, passes[2], "those of epoch 2")
    other = make()
    check.run("the first batch of epoch 0, and no more", partial(batches, other, 1))
    check.run("loader.epoch after a pass that was broken off", lambda: other.epoch).equals(1)
    after = check.run("the batches of the pass after that", partial(batches, other)).value
    _agree(check, "the batches of the pass after one that was broken off", after, passes[1], "those of epoch 1")


def test_collate(check: Check) -> None:
    """A collate function of one's own gets each batch's items in a list, fetched when the batch is asked for."""
    records = _Records(check.draw.normal(9, 2))
    got: list[Any] = []

    def collate(items: list[Any]) -> list[int]:
        got.append(type(items).__name__)
        return [item["pair"][0] for item in items]

    loader = check.build(BatchLoader, records, 2, collate=collate)
    check(batches, loader, 2).equals([[0, 1], [2, 3]])
    check.run("what kind of thing collate got", lambda: list(got)).equals(["list", "list"])
    check.run("the items asked for in two batches of two", lambda: list(records.asked)).equals([0, 1, 2, 3])
    sequences = [torch.ones(length, dtype=torch.int64) for length in (2, 5, 1)]
    loader = check.build(BatchLoader, sequences, 2, collate=partial(pad_collate, padding=7))
    check.run("the padded tokens of two batches", lambda: [batch.tokens.tolist() for batch in loader]).equals(
        [[[1, 1, 7, 7, 7], [1] * 5], [[1]]]
    )


def test_data_loader(check: Check) -> None:
    """What make_data_loader makes is torch's DataLoader, with the order and the batches of a BatchLoader."""
    size, seed = check.draw.size(3, 6), check.draw.seed()
    length = size * check.draw.integer(8, 12) + check.draw.integer(1, size)  # the last batch is a smaller one
    for shuffle, drop_last in [(False, False), (False, True), (True, True), (True, False)]:
        options = {"shuffle": shuffle, "seed": seed, "drop_last": drop_last, "collate": _where}
        loader = check.build(make_data_loader, range(length), size, **options)
        text = f"make_data_loader(range({length}), {size}, shuffle={shuffle}, drop_last={drop_last})"
        kind = type(loader).__name__
        check.that(isinstance(loader, DataLoader), call=text, got=f"a {kind}", expected="a DataLoader of torch's")
        make = partial(SeededSampler, length, seed=seed, shuffle=shuffle)
        for epoch, order in enumerate(check.run("the sampler's orders", partial(_orders, make, 2)).value):
            call = f"the batches of epoch {epoch} of {text}"
            found = check.run(call, partial(batches, loader)).value
            expected = [f"{batch} in the main process" for batch in _cut(order, size, drop_last)]
            _agree(check, call, found, expected, "a SeededSampler's order, cut and collated")


def test_data_loader_with_workers(check: Check) -> None:
    """With two worker processes: the same batches in the same order, made there; its sampler's epoch can be set."""
    seed = check.draw.seed()
    loader = check.build(make_data_loader, range(9), 2, shuffle=True, seed=seed, collate=_where, num_workers=2)
    make = partial(SeededSampler, 9, seed=seed)
    orders = check.run("the sampler's orders", partial(_orders, make, 3)).value
    for epoch in (0, 1, 2, 0):
        if not epoch:
            check.run("loader.sampler.epoch = 0", lambda: setattr(loader.sampler, "epoch", 0))
        found = check.run(f"the batches of epoch {epoch}, by two workers", partial(batches, loader)).value
        made = [str(batch).partition(" in ") for batch in found]
        # Batches are handed to the workers in turn; which of them begins is the DataLoader's own affair.
        places = sorted({place for _, _, place in made})
        text = f"where the batches of epoch {epoch} were made"
        check.run(text, partial(list, places)).equals(["worker 0 of 2", "worker 1 of 2"])
        expected = [str(batch) for batch in _cut(orders[epoch], 2)]
        text = f"the batches of epoch {epoch} of make_data_loader(range(9), 2, num_workers=2, shuffle=True)"
        _agree(check, text, [batch for batch, _, _ in made], expected, "a SeededSampler's order, cut and collated")


def test_workers_stay(check: Check) -> None:
    """The worker processes of one pass are those of the next."""
    loader = check.build(make_data_loader, range(3), 1, collate=_process, num_workers=1)
    first, second = (check.run("a pass with num_workers=1", partial(batches, loader)).value for _ in range(2))
    check.that(
        sorted(map(str, first)) == sorted(map(str, second)),
        call="the processes of two passes over make_data_loader(range(3), 1, num_workers=1)",
        got="another one in the second pass",
        expected="the same one in both: to start one takes seconds where processes are not forked",
    )


def test_item_errors(check: Check) -> None:
    """What a dataset raises becomes a RuntimeError with the item's number, here and out of a worker process."""
    broken = check.draw.integer(3, 8)
    words = (str(broken), "ValueError", "a bad row")
    dataset = _Failing(9, broken)
    loader = check.build(BatchLoader, dataset, 2)
    check.raises(RuntimeError, batches, loader, naming=words)
    check.run("the first batch of that dataset", partial(batches, loader, 1)).equals([[0, 1]])
    for num_workers in (0, 1):
        loader = check.build(make_data_loader, dataset, 2, num_workers=num_workers)
        check.raises(RuntimeError, batches, loader, naming=words)


def test_refuses(check: Check) -> None:
    """By name: a batch size below 1, a negative seed or length; by place: what cannot be padded into one batch."""
    for size in (0, -2):
        check.raises(ValueError, BatchLoader, [1, 2], size, naming=("batch_size", str(size)))
        check.raises(ValueError, make_data_loader, [1, 2], size, naming=("batch_size", str(size)))
    right = torch.tensor([1, 2])
    square = torch.ones(2, 2, dtype=torch.int64)
    check.raises(ValueError, pad_collate, [])
    check.raises(ValueError, pad_collate, [right, square], naming=("1", "(2, 2)|[2, 2]"))
    check.raises(ValueError, pad_collate, [square, square], naming=("0", "(2, 2)|[2, 2]"))
    check.raises(ValueError, pad_collate, [right, right, torch.tensor(3)], naming=("2", "()|[]"))
    check.raises(ValueError, pad_collate, [right, right, torch.ones(3)], naming=("2", "float32"))
    check.raises(ValueError, SeededSampler, -1, naming=("length", "-1"))
    check.raises(ValueError, SeededSampler, 3, seed=-5, naming=("seed", "-5"))
    for make in (BatchLoader, make_data_loader):
        for shuffle in (True, False):
            check.raises(ValueError, make, [1, 2], 1, shuffle=shuffle, seed=-5, naming=("seed", "-5"))
