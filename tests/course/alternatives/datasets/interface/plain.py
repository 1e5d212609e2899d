"""Plain classes without type hints: try and except in each place, a counter for the stream's items."""

import operator

import torch.utils.data

Items = object  # only named in type hints, of which there are none


class SequenceDataset(torch.utils.data.Dataset):
    def __init__(self, items, transform=None):
        self.source = items
        self.function = transform

    def __len__(self):
        return len(self.source)

    def __getitem__(self, index):
        try:
            wanted = operator.index(index)
        except TypeError:
            raise TypeError("a dataset's index must be a whole number, not a " + type(index).__name__)
        count = len(self)
        position = wanted + count if wanted < 0 else wanted
        if position < 0 or position >= count:
            raise IndexError("no item %d in a dataset of length %d" % (wanted, count))
        try:
            value = self.source[position]
            if self.function is not None:
                value = self.function(value)
        except Exception as problem:
            raise RuntimeError("could not make item %d (%s: %s)" % (position, type(problem).__name__, problem))
        return value


class ShardedStream(torch.utils.data.IterableDataset):
    def __init__(self, open_stream, transform=None, rank=0, world_size=1):
        super().__init__()
        if world_size < 1 or rank < 0 or rank >= world_size:
            raise ValueError("no such share: rank %d of world_size %d" % (rank, world_size))
        self.opener = open_stream
        self.function = transform
        self.me = rank
        self.all = world_size

    def __iter__(self):
        worker = torch.utils.data.get_worker_info()
        source = iter(self.opener())
        n = -1
        mine = 0  # items of this process so far
        while True:
            n += 1
            try:
                value = next(source)
            except StopIteration:
                break
            except Exception as problem:
                raise RuntimeError("the source broke at item %d: %s: %s" % (n, type(problem).__name__, problem))
            if n % self.all != self.me:
                continue
            mine += 1
            if worker is not None and (mine - 1) % worker.num_workers != worker.id:
                continue
            if self.function is not None:
                try:
                    value = self.function(value)
                except Exception as problem:
                    raise RuntimeError("the transform broke at item %d: %s: %s" % (n, type(problem).__name__, problem))
            yield value
