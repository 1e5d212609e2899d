"""From documents to batches: held apart without a leak, written as tokens into shards, read back as windows or rows.

A *shard* is a file of tokens, each a whole number in two bytes, the least significant first. Documents lie in it one
after another, and the token E that ends a text (GPT-2's `<|endoftext|>`) stands before the first and after each:

    E  the first document  E  the second  E ... the last one  E

So each document of a shard has an E on either side: one to begin from, and one that says where it ends. Shards are
memory-mapped: a corpus may be larger than the memory.

Symbols: E the token `end_of_text`, T the most tokens a model sees at once (`context_length`), B rows in a batch.
"""

import hashlib
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import datasets  # type: ignore[import-untyped]
import numpy
import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, Dataset

from ..datasets.custom import TokenWindowDataset
from ..datasets.loader import pad_collate
from ..gpt2.input_output import IGNORED

_TOKEN = numpy.dtype("<u2")  # GPT-2's 50257 tokens fit into two bytes


def split_documents(
    documents: datasets.Dataset, validation: float, *, seed: int = 0, column: str = "text"
) -> tuple[datasets.Dataset, datasets.Dataset]:
    """Hold out some documents for validation, so that no text is on both sides.

    A corpus holds many texts twice. Were one copy trained on and the other held out, the loss on the held-out one would
    tell what the model remembers, not what it has learnt (Lee et al. 2022, section 6.2). So it is texts that are shared
    out: of D different ones, `validation` * D, rounded to the nearest whole number, are held out with all their copies;
    at least one, and not all.

    Which texts these are is decided by `seed` and the set of different texts alone: neither their order nor their
    number of copies counts. Every text is as likely to be held out as any other.

    Args:
        documents: a table, one document a row.
        validation: the share that is held out, above 0 and below 1.
        seed: a whole number, at least 0; another one holds out other texts.
        column: the name of the column with the texts.

    Returns:
        The documents for training and those for validation, with all their columns, in the order in which they were.

    Raises:
        ValueError: `validation` is not between 0 and 1, or `seed` is negative (the message names which, and its value);
            there is no such column (it names the column); or there are fewer than two different texts.

    Example:
        >>> documents = datasets.Dataset.from_dict({"text": ["a", "b", "a", "c"]})
        >>> train, held_out = split_documents(documents, 0.3)
        >>> sorted(train["text"]), held_out["text"][:]  # or the two "a" held out, or the "c"
        (['a', 'a', 'c'], ['b'])
    """
    if not 0.0 < validation < 1.0:
        raise ValueError(f"validation must be above 0 and below 1, got {validation}")
    if seed < 0:
        raise ValueError(f"seed must be at least 0, got {seed}")
    # 16 bytes each in the place of the texts, which may not fit into memory. Put in order, they are a random order of
    # the texts, that neither the rows' order nor Python's own changing hashes have a part in.
    digest = partial(hashlib.blake2b, digest_size=16, key=str(seed).encode())
    digests = [digest(text.encode()).digest() for text in _texts(documents, column)]
    distinct = sorted(set(digests))
    if len(distinct) < 2:
        raise ValueError(f"there must be at least two different texts to share out, got {len(distinct)}")
    count = min(max(round(validation * len(distinct)), 1), len(distinct) - 1)
    held_out = set(distinct[:count])
    sides: tuple[list[int], list[int]] = ([], [])
    for row, found in enumerate(digests):
        sides[found in held_out].append(row)
    return documents.select(sides[0]), documents.select(sides[1])


def write_shards(
    documents: Iterable[Mapping[str, Any]],
    encode: Callable[[str], list[int]],
    folder: str | os.PathLike[str],
    *,
    end_of_text: int,
    prefix: str = "train",
    shard_tokens: int = 1 << 20,
    column: str = "text",
) -> list[Path]:
    """Tokenize documents and write them into shards `PREFIX-00000.bin`, `PREFIX-00001.bin` and so on.

    Each document is in one shard as a whole, in the order in which they come. It goes into the shard of the one before
    it, unless that would then hold more than `shard_tokens` tokens, every E counted: then it begins the next. A
    document that is too long for any has a shard of its own.

    Documents are read once and never held together: no more than one shard is in memory. Each file appears under its
    name when it is complete, and not before; what it was until then is gone as well if writing fails. Files of these
    names are replaced, and those of the same prefix with higher numbers, which an earlier and longer corpus left there,
    removed at the end.

    Args:
        documents: rows with a text; a `datasets.Dataset`, a streamed one, a list of dictionaries, a generator.
        encode: makes tokens of a text.
        folder: where the files go; made if it is not there.
        end_of_text: E, from 0 to 65535.
        prefix: what the files' names begin with.
        shard_tokens: how many tokens fit into a shard, at least 1.
        column: the name of the column with the texts.

    Returns:
        The files, in order.

    Raises:
        ValueError: `end_of_text` does not fit into two bytes, or `shard_tokens` is below 1 (the message names which,
            and its value); there are no documents; or a document, which is named by its number from 0, has no such
            column, a token that is negative or above 65535, or one that is E, which would end it early (the message
            names the token).

    Example:
        >>> write_shards([{"text": "ab"}, {"text": "c"}], lambda text: [ord(letter) for letter in text], "shards",
        ...     end_of_text=0)
        [PosixPath('shards/train-00000.bin')]
        >>> numpy.fromfile("shards/train-00000.bin", dtype="<u2")
        array([ 0, 97, 98,  0, 99,  0], dtype=uint16)
    """
    if not 0 <= end_of_text <= 0xFFFF:
        raise ValueError(f"end_of_text must be from 0 to 65535, got {end_of_text}")
    if shard_tokens < 1:
        raise ValueError(f"shard_tokens must be at least 1, got {shard_tokens}")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    encoded = (_checked(number, encode(text), end_of_text) for number, text in enumerate(_texts(documents, column)))
    paths: list[Path] = []
    for shard in _packed(encoded, end_of_text, shard_tokens):
        paths.append(folder / f"{prefix}-{len(paths):05d}.bin")
        partial = paths[-1].with_suffix(".partial")
        try:
            numpy.array(shard, dtype=_TOKEN).tofile(partial)
            partial.replace(paths[-1])
        finally:
            partial.unlink(missing_ok=True)
    if not paths:
        raise ValueError("there are no documents to write")
    higher = (folder / f"{prefix}-{number:05d}.bin" for number in itertools.count(len(paths)))
    for old in itertools.takewhile(Path.exists, higher):
        old.unlink()
    return paths


class WindowDataset(ConcatDataset[tuple[Tensor, Tensor]]):
    """Windows over shards, as `datasets/custom`'s `TokenWindowDataset` makes them, one shard after another.

    A window does not care where documents begin and end; its tokens may come from several. It never reaches from one
    shard into the next. A shard of fewer than T + 1 tokens, as the last may be, has no window.

    Args:
        shards: the files.
        context_length: T, at least 1.
        stride: how many tokens a window begins after the one before it; T if None.

    Raises:
        FileNotFoundError: a file is not there.
        ValueError: there are no shards, or none is long enough for a window (the message gives T + 1); `context_length`
            or `stride` is below 1 (it names which); a file's size is odd (it names the file).

    Example:
        >>> numpy.array([0, 5, 6, 0, 7, 0], dtype="<u2").tofile("train-00000.bin")
        >>> dataset = WindowDataset(["train-00000.bin"], 2)
        >>> len(dataset), dataset[1]
        (2, (tensor([6, 0]), tensor([0, 7])))
    """

    def __init__(
        self, shards: Sequence[str | os.PathLike[str]], context_length: int, *, stride: int | None = None
    ) -> None:
        long_enough = [shard for shard in shards if len(_map(shard)) > context_length]
        if not long_enough:
            raise ValueError(f"none of {len(shards)} shards has the {context_length + 1} tokens that a window needs")
        super().__init__([TokenWindowDataset(shard, context_length, stride=stride) for shard in long_enough])


class DocumentDataset(Dataset[Tensor]):
    """The documents of shards, each as a row of tokens of its own: ``E, the document, E``.

    A model that is trained on such rows sees one document at a time, from its beginning, and learns to begin after E
    and to end with it. A row of more than T + 1 tokens is cut into several, in order. Each but the last has T + 1
    tokens, and each but the first begins with the token that the one before it ended with. So every token of the
    document, and the E behind it, is the target of exactly one position, and no row is longer than the context.

    All shards are read once, when the dataset is made, to find the documents. What is kept of that is two numbers a
    row. The files are memory-mapped when the first item is asked for; the maps are not pickled along.

    Args:
        shards: files as `write_shards` writes them.
        end_of_text: E.
        context_length: T, at least 1.

    Raises:
        FileNotFoundError: a file is not there.
        ValueError: `context_length` is below 1 (the message names it, and its value); there are no shards; or a file
            has an odd size, does not begin and end with E, or holds no document: it names the file.

    Example:
        >>> numpy.array([0, 5, 6, 7, 0, 8, 0], dtype="<u2").tofile("train-00000.bin")
        >>> dataset = DocumentDataset(["train-00000.bin"], end_of_text=0, context_length=3)
        >>> [row.tolist() for row in dataset]
        [[0, 5, 6, 7], [7, 0], [0, 8, 0]]
    """

    def __init__(self, shards: Sequence[str | os.PathLike[str]], *, end_of_text: int, context_length: int) -> None:
        if context_length < 1:
            raise ValueError(f"context_length must be at least 1, got {context_length}")
        if not shards:
            raise ValueError("there are no shards to read documents from")
        self.context_length = context_length
        self._paths = [Path(shard) for shard in shards]
        self._maps: dict[int, numpy.memmap[Any, Any]] = {}
        rows = [_rows(path, end_of_text, context_length) for path in self._paths]
        self._rows = numpy.concatenate(rows)  # (N, 2): first and last token
        self._firsts = numpy.cumsum([0, *map(len, rows)])  # the number of each shard's first row

    def __len__(self) -> int:
        """The number of rows."""
        return len(self._rows)

    def __getitem__(self, index: int) -> Tensor:
        """Read one row.

        Args:
            index: from 0 for the first row, or from -1 for the last.

        Returns:
            Its tokens, int64, from 2 to T + 1 of them.

        Raises:
            IndexError: `index` is out of range; the message names it and the number of rows.
        """
        if not -len(self) <= index < len(self):
            raise IndexError(f"index {index} is out of range for {len(self)} rows")
        number = index % len(self)
        first, last = self._rows[number]
        shard = int(numpy.searchsorted(self._firsts, number, side="right")) - 1
        if shard not in self._maps:
            self._maps[shard] = _map(self._paths[shard])
        return torch.from_numpy(self._maps[shard][first : last + 1].astype(numpy.int64))

    def __getstate__(self) -> dict[str, Any]:
        """What is pickled: everything but the maps, which would be pickled as arrays of all tokens."""
        return self.__dict__ | {"_maps": {}}


def collate_rows(rows: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Make one batch of rows of different lengths: what the model reads, and at each position the token that follows.

    Padding stands behind the tokens. A causal model needs no mask for it: no token sees what comes after it.

    Args:
        rows: B tensors (n,), int64, of at least two tokens each; T is one less than the longest has.

    Returns:
        Inputs (B, T), int64: each row without its last token, then 0s. Targets (B, T), int64: each without its first,
        then `IGNORED`, which the loss leaves out.

    Raises:
        ValueError: there are no rows; or one has not exactly one axis, or fewer than two tokens: the message names its
            place in the batch, from 0, and its shape.

    Example:
        >>> collate_rows([torch.tensor([9, 5, 6, 9]), torch.tensor([9, 7])])
        (tensor([[9, 5, 6],
                [9, 0, 0]]), tensor([[   5,    6,    9],
                [   7, -100, -100]]))
    """
    for place, row in enumerate(rows):
        if row.dim() != 1 or len(row) < 2:
            raise ValueError(f"row {place} must have one axis and at least two tokens, got shape {tuple(row.shape)}")
    inputs = pad_collate([row[:-1] for row in rows]).tokens
    targets = pad_collate([row[1:] for row in rows], padding=IGNORED).tokens
    return inputs, targets


def _texts(documents: Iterable[Mapping[str, Any]], column: str) -> Iterator[str]:
    """The text of each document; the errors name its number."""
    for number, document in enumerate(documents):
        if not isinstance(document.get(column), str):
            raise ValueError(f"document {number} has no text in a column {column!r}; its columns: {sorted(document)}")
        yield document[column]


def _checked(number: int, tokens: list[int], end_of_text: int) -> list[int]:
    """A document's tokens, none of which a shard could not hold or would read back as something else."""
    for token in tokens:
        if not 0 <= token <= 0xFFFF:
            raise ValueError(f"document {number} has the token {token}, which two bytes cannot hold")
        if token == end_of_text:
            raise ValueError(f"document {number} has the token {token} inside, which ends a document")
    return tokens


def _packed(documents: Iterable[list[int]], end_of_text: int, shard_tokens: int) -> Iterator[list[int]]:
    """Fill one shard after another with whole documents."""
    shard = [end_of_text]
    for tokens in documents:
        if len(shard) > 1 and len(shard) + len(tokens) + 1 > shard_tokens:
            yield shard
            shard = [end_of_text]
        shard += [*tokens, end_of_text]
    if len(shard) > 1:
        yield shard


def _map(path: str | os.PathLike[str]) -> "numpy.memmap[Any, Any]":
    """A shard, mapped into memory."""
    size = Path(path).stat().st_size
    if size == 0 or size % _TOKEN.itemsize:
        raise ValueError(f"{path}: {size} bytes are no shard of 2-byte tokens: cut off?")
    return numpy.memmap(path, _TOKEN, "r")


def _rows(path: Path, end_of_text: int, context_length: int) -> "numpy.ndarray[Any, Any]":
    """The places in a shard of each row's first and last token."""
    tokens = _map(path)
    ends = numpy.flatnonzero(tokens == end_of_text)
    if len(ends) < 2 or ends[0] != 0 or ends[-1] != len(tokens) - 1:
        raise ValueError(
            f"{path}: documents must stand between tokens {end_of_text}, the first and the last of a shard"
        )
    rows = [
        (first, min(first + context_length, end))
        for start, end in itertools.pairwise(ends.tolist())
        for first in range(start, end, context_length)
    ]
    return numpy.array(rows)
