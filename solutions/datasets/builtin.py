"""Datasets that others have written: torch's own, and Hugging Face's `datasets`, from files to padded batches.

Torch's map an index to an item, and are stacked: a `TensorDataset` pairs tensors, a `ConcatDataset` puts datasets one
after another, a `Subset` renumbers the items of another. None of them copies an item.

Hugging Face's `datasets.Dataset` is a table of named columns. It lies in Arrow files that are mapped into memory, so a
corpus may be larger than the memory; each step of its way (`map`, `filter`) makes a new table, kept under a
fingerprint of what made it. `datasets.IterableDataset` keeps nothing, and reads while it is iterated over.

A row of *documents* has the columns "text" and "source"; a row of *tokenized* documents has the column "tokens".

Symbols: B rows in a batch, T tokens of context, or of the longest row of a batch.
"""

import json
import math
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar

import datasets  # type: ignore[import-untyped]
import pyarrow.parquet  # type: ignore[import-untyped]
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Subset, TensorDataset, random_split

Rows = TypeVar("Rows", datasets.Dataset, datasets.IterableDataset)  # what is put in as a stream comes out as one


def next_token_pairs(tokens: Tensor, context_length: int) -> TensorDataset:
    """Cut a text that fits into memory into pairs of inputs and targets, without copying it.

    Args:
        tokens: whole numbers (L,), of any dtype.
        context_length: T, at least 1.

    Returns:
        A `TensorDataset` of floor((L - 1) / T) items. Item i is a pair of tensors (T,): the inputs, which are the
        tokens from position i * T on, and the targets, which are those from i * T + 1 on. All are views of `tokens`;
        what is left at the end and fills no pair is in none.

    Raises:
        ValueError: `tokens` has not exactly one axis, `context_length` is less than 1, or there are fewer than T + 1
            tokens; the message gives the shape, or the numbers.

    Example:
        >>> next_token_pairs(torch.tensor([5, 6, 7, 8, 9, 4]), 2)[1]
        (tensor([7, 8]), tensor([8, 9]))
    """
    if tokens.dim() != 1:
        raise ValueError(f"tokens must have one axis (L,), got shape {tuple(tokens.shape)}")
    if context_length < 1:
        raise ValueError(f"context_length must be at least 1, got {context_length}")
    count = (len(tokens) - 1) // context_length  # the last token is a target only
    if count < 1:
        raise ValueError(f"{len(tokens)} tokens are too few for a context_length of {context_length}, and one more")
    used = count * context_length
    shape = (count, context_length)
    return TensorDataset(tokens[:used].unflatten(0, shape), tokens[1 : used + 1].unflatten(0, shape))


def split(dataset: Dataset[Any], fractions: Sequence[float], *, seed: int) -> list[Subset[Any]]:
    """Share the items of a dataset out at random, none lost and none in two parts.

    The sizes follow the rule of the largest remainder: each part gets its fraction of the items, rounded down, and
    those left over go one each to the parts that lost most by the rounding; of equal ones, to the earlier. (Given
    fractions, `random_split` gives what is left over to the first parts: of 100 items by 0.71 and 0.29 it makes 72
    and 28, for in floating point 0.29 * 100 is a little less than 29.)

    Args:
        dataset: N items, map-style.
        fractions: one for each part; together 1, up to rounding.
        seed: of a generator of the split's own; the same seed gives the same parts, item by item. Torch's global
            generator is left alone.

    Returns:
        A `Subset` for each fraction, its items in random order.

    Raises:
        ValueError: the fractions do not sum to 1, or a part would have no item; the message gives the sum, or the
            fraction and N.

    Example:
        >>> [len(part) for part in split(range(8), [0.7, 0.15, 0.15], seed=0)]
        [6, 1, 1]
    """
    if not math.isclose(sum(fractions), 1.0):
        raise ValueError(f"fractions must sum to 1, got a sum of {sum(fractions)}")
    length = len(dataset)  # type: ignore[arg-type]  # torch's Dataset promises no length
    exact = [length * fraction for fraction in fractions]
    sizes = [int(share) for share in exact]
    by_loss = sorted(range(len(sizes)), key=lambda part: sizes[part] - exact[part])  # stable: equal ones keep order
    for part in by_loss[: length - sum(sizes)]:
        sizes[part] += 1
    for size, fraction in zip(sizes, fractions, strict=True):
        if size < 1:
            raise ValueError(f"a fraction of {fraction} of {length} items would be no item")
    return random_split(dataset, sizes, generator=torch.Generator().manual_seed(seed))


def balance(sources: Sequence[Dataset[Any]], *, seed: int) -> Subset[Any]:
    """Join several sources, and take as many items of each as the smallest has: none outweighs another.

    Args:
        sources: map-style datasets.
        seed: of a generator of the function's own, by which the items are drawn; the same seed draws the same.

    Returns:
        A `Subset` of the `ConcatDataset` of the sources. With n the size of the smallest, its first n items are of
        the first source, the next n of the second, and so on: n different items of each, drawn at random, in random
        order.

    Raises:
        ValueError: there is no source, or one has no items; the message says "no sources", or gives its number,
            counted from 0.

    Example:
        >>> [item[0] for item in balance([["a1"], ["b1", "b2", "b3"]], seed=0)]
        ['a', 'b']
    """
    sizes = [len(source) for source in sources]  # type: ignore[arg-type]
    if not sizes:
        raise ValueError("there are no sources")
    if 0 in sizes:
        raise ValueError(f"source {sizes.index(0)} has no items")
    generator = torch.Generator().manual_seed(seed)
    joined: ConcatDataset[Any] = ConcatDataset(sources)
    starts = [0, *joined.cumulative_sizes[:-1]]
    chosen = [start + torch.randperm(size, generator=generator) for start, size in zip(starts, sizes, strict=True)]
    return Subset(joined, torch.cat([indices[: min(sizes)] for indices in chosen]).tolist())


def origin(dataset: Dataset[Any], index: int) -> tuple[Dataset[Any], int]:
    """Find where an item comes from, down through every `Subset` and `ConcatDataset`.

    Args:
        dataset: map-style; stacked of `Subset` and `ConcatDataset` to any depth, or neither of them.
        index: of an item of it; a negative one counts from the end.

    Returns:
        The innermost dataset, which is neither `Subset` nor `ConcatDataset`, and the item's index in it, at least 0.

    Raises:
        IndexError: there is no such item; the message names the index and the length.

    Example:
        >>> origin(Subset(ConcatDataset(["abc", "de"]), [4, 0, 3]), 0)
        ('de', 1)
    """
    length = len(dataset)  # type: ignore[arg-type]
    if not -length <= index < length:
        raise IndexError(f"index {index} is out of range for a dataset of {length} items")
    index %= length
    if isinstance(dataset, Subset):
        return origin(dataset.dataset, int(dataset.indices[index]))
    if isinstance(dataset, ConcatDataset):
        number = bisect_right(dataset.cumulative_sizes, index)  # the first source that ends after the index
        source = dataset.datasets[number]
        return origin(source, index - dataset.cumulative_sizes[number] + len(source))  # type: ignore[arg-type]
    return dataset, index


def load_documents(paths: Sequence[str | PathLike[str]], *, cache_dir: str | PathLike[str]) -> datasets.Dataset:
    """Read documents from files into a table that lies on disk, and is mapped into memory.

    The suffix of a file says what it holds (text is UTF-8; a line ends in a line feed, or a carriage return and one):

    - ".jsonl": a JSON object in each line, whose "text" is the document; its other entries are left out.
    - ".parquet": a document in each row of the column "text"; other columns are left out.
    - ".txt": a document in each line, without the line's end and otherwise as it is. Lines of nothing but white space
      are no documents: they may stand between them.

    Nothing else is dropped: a row that is no document is an error.

    Args:
        paths: the files, in the order in which their documents will stand.
        cache_dir: a folder for the table's Arrow files; made if it is not there. The same files are not read again
            but found there; a file whose size or time of change is another has changed, and is.

    Returns:
        A `datasets.Dataset` with the string columns "text" and "source"; the latter is the file's path, as given.

    Raises:
        ValueError: there are no paths (the message says "paths"), or one has another suffix (the message gives it).
            Or a file holds no document, or is no whole Parquet file (the message gives its path). Or a row is no
            document: its bytes are not UTF-8, or, in a ".jsonl" or ".parquet" file, it is not JSON (an empty line
            is not), no JSON object, without "text", or its "text" is no string. Then the message gives the path and
            the row, as "row 3": the number of the line, or of the row of a Parquet file, counted from 1.

    Example:
        >>> Path("one.jsonl").write_text('{"text": "Once.", "id": 7}', encoding="utf-8")
        26
        >>> load_documents(["one.jsonl"], cache_dir="cache")[0]
        {'text': 'Once.', 'source': 'one.jsonl'}
    """
    names = _checked(paths)
    # What the cache is keyed by. By default it would be the generator and its arguments, and these are only the paths.
    stats = [Path(name).stat() for name in names]
    fingerprint = datasets.fingerprint.Hasher.hash([names, [(stat.st_size, stat.st_mtime_ns) for stat in stats]])
    try:
        return datasets.Dataset.from_generator(
            _documents,
            gen_kwargs={"paths": names},
            cache_dir=str(cache_dir),
            fingerprint=fingerprint,
        )
    except datasets.exceptions.DatasetGenerationError as error:  # the library wraps what its generator raises
        raise (error.__cause__ or error) from None


def stream_documents(paths: Sequence[str | PathLike[str]]) -> datasets.IterableDataset:
    """Read the same documents while they are asked for, and keep none: for a corpus that is seen once.

    Args:
        paths: as for `load_documents`.

    Returns:
        A `datasets.IterableDataset` of the rows that `load_documents` gives, in the same order, its features
        included. A row is read when it is asked for, and none before: a malformed one raises when it is reached, and
        a file is opened when those before it are used up. Each file is a shard, which the workers of a `DataLoader`
        share among them. It may be iterated over again.

    Raises:
        ValueError: as `load_documents`; for the paths at once, for what the files hold when it is reached.

    Example:
        >>> Path("one.txt").write_text("Once upon a time.", encoding="utf-8")
        17
        >>> next(iter(stream_documents(["one.txt"])))
        {'text': 'Once upon a time.', 'source': 'one.txt'}
    """
    gen_kwargs = {"paths": _checked(paths)}  # a list here is what the library shares out as shards
    return datasets.IterableDataset.from_generator(_documents, features=_DOCUMENTS, gen_kwargs=gen_kwargs)


def tokenize(documents: Rows, encode: Callable[[list[str]], list[list[int]]], *, batch_size: int = 1000) -> Rows:
    """Turn each document into its tokens, many at a time: a fast tokenizer encodes them side by side.

    Args:
        documents: a table or a stream with the column "text", and any others.
        encode: gives the token ids of each of several texts.
        batch_size: how many texts `encode` is called with at most, at least 1.

    Returns:
        A table or a stream, as `documents` is, with a row for each document, in the same order. Its only column is
        "tokens": lists of int64, also where the first of them are empty.

    Raises:
        ValueError: `encode` does not give as many lists as it was given texts; the message gives both numbers. For a
            stream, when that is reached.

    Example:
        >>> documents = datasets.Dataset.from_dict({"text": ["ab", "a"], "source": ["x", "y"]})
        >>> tokenize(documents, lambda texts: [[ord(letter) for letter in text] for text in texts])[:]
        {'tokens': [[97, 98], [97]]}
    """

    def encoded(texts: list[str]) -> dict[str, list[list[int]]]:
        tokens = encode(texts)
        if len(tokens) != len(texts):  # a batched map may give any number of rows: nobody else would notice
            raise ValueError(f"encode was given {len(texts)} texts and gave {len(tokens)} lists of tokens")
        return {"tokens": tokens}

    return documents.map(
        encoded,
        batched=True,
        batch_size=batch_size,
        input_columns="text",
        remove_columns=documents.column_names,
        features=_TOKENIZED,  # guessed from the first batch, they would have no type where that batch is empty
    )


def drop_short(tokenized: Rows, minimum: int) -> Rows:
    """Leave out the rows that have too few tokens to learn from.

    Args:
        tokenized: a table or a stream with the column "tokens", and any others.
        minimum: how many tokens a row must have, to stay.

    Returns:
        A table or a stream, as `tokenized` is: the rows of at least `minimum` tokens, whole and in the same order.

    Example:
        >>> drop_short(datasets.Dataset.from_dict({"tokens": [[5], [6, 7], [8, 9, 4]]}), 2)[:]
        {'tokens': [[6, 7], [8, 9, 4]]}
    """
    return tokenized.filter(lambda tokens: len(tokens) >= minimum, input_columns="tokens")


def hold_out(dataset: datasets.Dataset, share: float, *, seed: int) -> tuple[datasets.Dataset, datasets.Dataset]:
    """Set a share of the rows aside, drawn at random, to measure a model on what it has not seen.

    Args:
        dataset: N rows.
        share: the share of them that is held out, more than 0 and less than 1; share * N is rounded to the nearest
            whole number. (`train_test_split` rounds it up: 0.07 of 100 would be 8 rows, for in floating point
            0.07 * 100 is a little more than 7.)
        seed: the same seed holds the same rows out.

    Returns:
        The rows to train on and those held out, each in random order, with all their columns. Each row is in one.

    Raises:
        ValueError: `share` is out of its range, or there would be no row in one of the two; the message names
            "share", and gives it and N.

    Example:
        >>> training, held_out = hold_out(datasets.Dataset.from_dict({"text": list("abcdefgh")}), 0.25, seed=0)
        >>> len(training), len(held_out)
        (6, 2)
    """
    size = round(share * len(dataset)) if math.isfinite(share) else 0
    if not 0 < size < len(dataset):
        raise ValueError(f"a share of {share} of {len(dataset)} rows leaves none on one side")
    parts = dataset.train_test_split(test_size=size, seed=seed)
    return parts["train"], parts["test"]


def padded_loader(
    tokenized: datasets.Dataset, batch_size: int, *, padding: int = 0, shuffle: bool = False, seed: int = 0
) -> DataLoader[tuple[Tensor, Tensor]]:
    """Set up torch's `DataLoader` for rows of different lengths.

    Args:
        tokenized: a table with the column "tokens"; others are not read.
        batch_size: B, at least 1; the last batch may have fewer rows.
        padding: what stands behind a row that is shorter than the longest of its batch. It may be the id of a real
            token too.
        shuffle: whether the rows come in random order, in another in each pass.
        seed: of a generator of the loader's own. Loaders of the same seed give the same orders, pass by pass.

    Returns:
        A `DataLoader` of pairs (tokens, mask). The tokens are int64 (B, T), with T the length of the longest row of
        the batch; the mask is boolean (B, T), True where a token is real.

    Example:
        >>> tokens, mask = next(iter(padded_loader(datasets.Dataset.from_dict({"tokens": [[5, 6], [7]]}), 2)))
        >>> tokens
        tensor([[5, 6],
                [7, 0]])
        >>> mask
        tensor([[ True,  True],
                [ True, False]])
    """
    return DataLoader(
        tokenized.select_columns("tokens").with_format("torch"),
        batch_size,
        shuffle,
        collate_fn=partial(_pad, padding=padding),  # unlike a lambda, it can be sent to the loader's workers
        generator=torch.Generator().manual_seed(seed),
    )


def _pad(rows: list[dict[str, Tensor]], padding: int) -> tuple[Tensor, Tensor]:
    """The rows' tokens side by side (B, T), and where they are real (B, T)."""
    tokens = [row["tokens"] for row in rows]
    mask = pad_sequence([torch.ones_like(row, dtype=torch.bool) for row in tokens], batch_first=True)
    return pad_sequence(tokens, batch_first=True, padding_value=padding), mask


def _checked(paths: Sequence[str | PathLike[str]]) -> list[str]:
    """The paths as strings, their suffixes known."""
    if not paths:
        raise ValueError("paths must hold at least one file")
    for path in paths:
        if Path(path).suffix not in _READERS:
            raise ValueError(f"{path} has the suffix {Path(path).suffix!r}, none of {', '.join(_READERS)}")
    return [str(path) for path in paths]


def _documents(paths: Sequence[str]) -> Iterator[dict[str, str]]:
    """The rows of the files, checked; none is read before it is asked for."""
    for path in paths:
        row = None
        for number, row in _READERS[Path(path).suffix](Path(path)):
            where = f"{path}, row {number}"
            if not isinstance(row, dict):
                raise ValueError(f"{where}: a JSON object is wanted, got {row!r:.40}")
            if not isinstance(row.get("text"), str):
                raise ValueError(f'{where}: a string "text" is wanted, got {row.get("text", "none")!r:.40}')
            yield {"text": row["text"], "source": path}
        if row is None:
            raise ValueError(f"{path} holds no document")


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a file, without their ends, numbered from 1."""
    # Opened as bytes, it is cut at line feeds alone and decoded line by line, so that an error belongs to a row.
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                yield number, line.decode("utf-8").removesuffix("\n").removesuffix("\r")
            except UnicodeDecodeError as error:
                raise ValueError(f"{path}, row {number}: {error}") from error


def _read_text(path: Path) -> Iterator[tuple[int, Any]]:
    for number, line in _lines(path):
        if line.strip():
            yield number, {"text": line}


def _read_json_lines(path: Path) -> Iterator[tuple[int, Any]]:
    for number, line in _lines(path):
        try:
            yield number, json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}, row {number}: no JSON: {error}") from error


def _read_parquet(path: Path) -> Iterator[tuple[int, Any]]:
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            batches = file.iter_batches(columns=["text"])  # without "text", as many rows of nothing
            yield from enumerate((row for batch in batches for row in batch.to_pylist()), start=1)
    except pyarrow.ArrowInvalid as error:
        raise ValueError(f"{path} is no whole Parquet file: {error}") from error


_READERS = {".jsonl": _read_json_lines, ".parquet": _read_parquet, ".txt": _read_text}
_DOCUMENTS = datasets.Features({"text": datasets.Value("string"), "source": datasets.Value("string")})
_TOKENIZED = datasets.Features({"tokens": datasets.List(datasets.Value("int64"))})
