"""Loops without type hints: the Arrow file written by hand, Python's own random, padding token by token."""

import hashlib
import json
import pathlib
import random

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch.utils.data import ConcatDataset, DataLoader, RandomSampler, Subset, TensorDataset


def next_token_pairs(tokens, context_length):
    if tokens.ndim != 1:
        raise ValueError("one axis is wanted, not the shape %s" % (tokens.shape,))
    if context_length < 1:
        raise ValueError("context_length = %d is less than 1" % context_length)
    if len(tokens) < context_length + 1:
        raise ValueError("%d tokens, but at least %d are needed" % (len(tokens), context_length + 1))
    inputs = tokens[:-1].unfold(0, context_length, context_length)
    targets = tokens[1:].unfold(0, context_length, context_length)
    return TensorDataset(inputs, targets)


def split(dataset, fractions, seed):
    total = sum(fractions)
    if not abs(total - 1) < 1e-6:
        raise ValueError("the fractions sum to %r" % total)
    n = len(dataset)
    sizes = []
    losses = []
    for fraction in fractions:
        size = int(fraction * n)
        sizes.append(size)
        losses.append(fraction * n - size)
    while sum(sizes) < n:
        best = losses.index(max(losses))
        sizes[best] += 1
        losses[best] = -1
    for i in range(len(fractions)):
        if sizes[i] <= 0:
            raise ValueError("nothing left for the fraction %r of %d" % (fractions[i], n))
    order = list(range(n))
    random.Random(seed).shuffle(order)
    parts = []
    for size in sizes:
        parts.append(Subset(dataset, order[:size]))
        order = order[size:]
    return parts


def balance(sources, seed):
    if len(sources) == 0:
        raise ValueError("no sources at all")
    least = len(sources[0])
    for i in range(len(sources)):
        if len(sources[i]) == 0:
            raise ValueError("source number %d is empty" % i)
        least = min(least, len(sources[i]))
    dice = random.Random(seed)
    indices = []
    start = 0
    for source in sources:
        for index in dice.sample(range(len(source)), least):
            indices.append(start + index)
        start += len(source)
    return Subset(ConcatDataset(sources), indices)


def origin(dataset, index):
    if index >= len(dataset) or index < -len(dataset):
        raise IndexError("no item %d among %d" % (index, len(dataset)))
    if index < 0:
        index += len(dataset)
    while True:
        if isinstance(dataset, Subset):
            index = dataset.indices[index]
            dataset = dataset.dataset
            if index < 0:
                index += len(dataset)
        elif isinstance(dataset, ConcatDataset):
            for source in dataset.datasets:
                if index < len(source):
                    dataset = source
                    break
                index -= len(source)
        else:
            return dataset, index


def check_paths(paths):
    if len(paths) == 0:
        raise ValueError("an empty list of paths")
    for path in paths:
        ending = pathlib.Path(path).suffix
        if ending not in (".txt", ".jsonl", ".parquet"):
            raise ValueError("cannot read files that end in '%s'" % ending)
    return [str(path) for path in paths]


def read_lines(path):
    number = 0
    with pathlib.Path(path).open("rb") as file:
        for line in file:
            number += 1
            if line.endswith(b"\n"):
                line = line[:-1]
            if line.endswith(b"\r"):
                line = line[:-1]
            try:
                text = str(line, "utf-8")
            except UnicodeDecodeError:
                raise ValueError("%s: row %d is not UTF-8" % (path, number))
            yield number, text


def read_file(path):
    found = 0
    if path.endswith(".txt"):
        for number, text in read_lines(path):
            if text.strip() != "":
                found += 1
                yield text
    elif path.endswith(".jsonl"):
        for number, line in read_lines(path):
            found += 1
            try:
                value = json.loads(line)
                text = value["text"]
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError("%s: row %d: %s: %s" % (path, number, type(error).__name__, error))
            if not isinstance(text, str):
                raise ValueError("%s: row %d: the text is %r" % (path, number, text))
            yield text
    else:
        try:
            table = pq.read_table(path)
        except pa.ArrowInvalid as error:
            raise ValueError("%s: %s" % (path, error))
        if table.num_rows and "text" not in table.column_names:
            raise ValueError("%s: row 1: no column text" % path)
        if table.num_rows:
            for text in table["text"].to_pylist():
                found += 1
                if type(text) is not str:
                    raise ValueError("%s: row %d: the text is %r" % (path, found, text))
                yield text
    if not found:
        raise ValueError("%s: there is nothing in it" % path)


def rows(paths):
    for path in paths:
        for text in read_file(path):
            yield {"text": text, "source": path}


FEATURES = datasets.Features(text=datasets.Value("string"), source=datasets.Value("string"))


def load_documents(paths, cache_dir):
    paths = check_paths(paths)
    folder = pathlib.Path(cache_dir)
    folder.mkdir(parents=True, exist_ok=True)
    key = hashlib.sha1()
    for path in paths:
        status = pathlib.Path(path).stat()
        key.update(repr((path, status.st_size, status.st_mtime_ns)).encode())
    target = folder / ("documents-" + key.hexdigest() + ".arrow")
    if not target.exists():
        unfinished = target.with_suffix(".part")
        schema = FEATURES.arrow_schema
        with pa.OSFile(str(unfinished), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
            batch = []
            for row in rows(paths):
                batch.append(row)
                if len(batch) == 1000:
                    writer.write_table(pa.Table.from_pylist(batch, schema=schema))
                    batch = []
            writer.write_table(pa.Table.from_pylist(batch, schema=schema))
        unfinished.rename(target)
    return datasets.Dataset.from_file(str(target))


def stream_documents(paths):
    return datasets.IterableDataset.from_generator(rows, features=FEATURES, gen_kwargs={"paths": check_paths(paths)})


def tokenize(documents, encode, batch_size=1000):
    def to_tokens(batch):
        texts = batch["text"]
        lists = encode(texts)
        if len(lists) != len(texts):
            raise ValueError("%d texts became %d lists" % (len(texts), len(lists)))
        return {"tokens": lists}

    return documents.map(
        to_tokens,
        batched=True,
        batch_size=batch_size,
        remove_columns=list(documents.features),
        features=datasets.Features({"tokens": datasets.Sequence(datasets.Value("int64"))}),
    )


def drop_short(tokenized, minimum):
    return tokenized.filter(lambda row: len(row["tokens"]) >= minimum)


def hold_out(dataset, share, seed):
    n = len(dataset)
    out = 0
    if 0 < share < 1:
        out = int(share * n + 0.5)
    if out == 0 or out == n:
        raise ValueError("a share of %r makes no sense for %d rows" % (share, n))
    order = list(range(n))
    random.Random(seed).shuffle(order)
    return dataset.select(order[out:]), dataset.select(order[:out])


class Padder:
    def __init__(self, padding):
        self.padding = padding

    def __call__(self, batch):
        longest = max(len(row["tokens"]) for row in batch)
        tokens = torch.full((len(batch), longest), self.padding, dtype=torch.long)
        mask = torch.zeros((len(batch), longest), dtype=torch.bool)
        for i, row in enumerate(batch):
            for j, token in enumerate(row["tokens"]):
                tokens[i, j] = token
                mask[i, j] = True
        return tokens, mask


def padded_loader(tokenized, batch_size, padding=0, shuffle=False, seed=0):
    sampler = None
    if shuffle:
        sampler = RandomSampler(tokenized, generator=torch.Generator().manual_seed(seed))
    return DataLoader(tokenized, batch_size=batch_size, sampler=sampler, collate_fn=Padder(padding))
