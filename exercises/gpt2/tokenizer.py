"""Byte-level byte-pair encoding: between text and the tokens that a GPT-2 reads and writes.

A token is a number and stands for a sequence of bytes. The first 256 are the bytes themselves, so that there is no
text that has no tokens; each further one joins two earlier ones, as a list of *merges* says (Sennrich et al. 2016,
section 3.2; on bytes: Radford et al. 2019, section 2.2).
"""

import functools
import heapq
import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import regex  # type: ignore[import-untyped]
import tiktoken

from .configuration import PRESETS

# What a text is cut into before anything is joined, as published: English endings, then letters, digits and other
# signs, each with one blank before it if there is one, then white space.
GPT2_PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


class BPETokenizer:
    """Makes tokens of text and text of tokens, by a list of merges.

    Tokens 0 to 255 are the bytes in the order of the published vocabulary: first those that print, "!" (33) to "~"
    (126), 161 to 172 and 174 to 255; then the others, 0 to 32, 127 to 160 and 173. So 0 is "!" and 220 the blank.
    Token 256 + k is made by merge k. The special tokens come last, in the order given.

    Training and encoding are written here; tiktoken comes in where `to_tiktoken` hands the merges over, and not before.
    A tokenizer can be pickled.

    Args:
        merges: pairs of what two tokens stand for. The k-th makes a token of what both stand for together; each of the
            two must be a byte or be made by an earlier merge.
        special_tokens: names of tokens that stand for no text, such as "<|endoftext|>".
        pattern: regular expression of the package `regex`. A text is cut into its matches, from left to right, and
            nothing is ever joined across a cut. It must match any character.

    Attributes:
        merges: as given, as a tuple of pairs.
        special_tokens: dict from a special token's name to its number.
        pattern: as given.

    Raises:
        ValueError: a merge has a part that no earlier token is, or makes one that is there already; the message has
            its number, from 0, and that part or token. Or a special token is empty, there twice, or another token in
            `vocab.json`; the message names it.

    Example:
        >>> tokenizer = BPETokenizer([(b" ", b"t"), (b"h", b"e"), (b" t", b"he")])  # of the published, 0, 2 and 6
        >>> tokenizer.encode(" the the")
        [258, 258]
        >>> tokenizer.encode("the")
        [83, 257]
    """

    merges: tuple[tuple[bytes, bytes], ...]
    special_tokens: dict[str, int]
    pattern: str

    def __init__(
        self,
        merges: Sequence[tuple[bytes, bytes]],
        *,
        special_tokens: Sequence[str] = (),
        pattern: str = GPT2_PATTERN,
    ) -> None:
        raise NotImplementedError("gpt2/tokenizer: BPETokenizer.__init__")

    @property
    def vocab_size(self) -> int:
        """How many tokens there are: 256, one for each merge, and the special ones."""
        raise NotImplementedError("gpt2/tokenizer: BPETokenizer.vocab_size")

    def encode(self, text: str, *, allowed_special: bool = False) -> list[int]:
        """Make tokens of a text.

        It is cut by the pattern. Each piece, as UTF-8, is at first a row of single bytes; then, as long as there is a
        merge for any two neighbours, the earliest of those merges is done, at its leftmost place.

        Args:
            text: any text that UTF-8 can write (a surrogate alone is none: UnicodeEncodeError).
            allowed_special: whether the name of a special token in the text becomes that token (of two that begin at
                one place, the longer). If not, it is text like any other: so whoever can write a text cannot end it.

        Returns:
            The tokens.
        """
        raise NotImplementedError("gpt2/tokenizer: BPETokenizer.encode")

    def encode_batch(self, texts: Iterable[str], *, allowed_special: bool = False) -> list[list[int]]:
        """Make tokens of several texts.

        Args:
            texts: the texts.
            allowed_special: as of `encode`.

        Returns:
            The tokens of each, as `encode` gives them.
        """
        raise NotImplementedError("gpt2/tokenizer: BPETokenizer.encode_batch")

    def token_bytes(self, token: int) -> bytes:
        """Say what a token stands for: of a special one, its name as UTF-8.

        Args:
            token: from 0 to `vocab_size` - 1.

        Raises:
            ValueError: there is no such token; the message has it, and `vocab_size`.
        """
        raise NotImplementedError("gpt2/tokenizer: BPETokenizer.token_bytes")

    def decode_bytes(self, tokens: Iterable[int]) -> bytes:
        """Give the bytes that tokens stand for, one after the other.

        Args:
            tokens: numbers of tokens.

        Raises:
            ValueError: as `token_bytes`.
        """
        raise NotImplementedError("gpt2/tokenizer: BPETokenizer.decode_bytes")

    def decode(self, tokens: Iterable[int]) -> str:
        """Give the text that tokens stand for: of what `encode` gave, the text it was given.

        Args:
            tokens: numbers of tokens. A character may be cut in two by the end of a list, for a token may be a part of
                its bytes: what is no UTF-8 becomes U+FFFD, as `bytes.decode` does it with ``errors="replace"``.

        Raises:
            ValueError: as `token_bytes`.
        """
        raise NotImplementedError("gpt2/tokenizer: BPETokenizer.decode")

    def to_tiktoken(self, name: str = "gpt2-kata") -> tiktoken.Encoding:
        """Hand the merges to `tiktoken`, whose `encode_ordinary` gives the same tokens in a fraction of the time.

        The same, that is, for merges that come from training. tiktoken joins two neighbours wherever a token stands
        for both together, whichever pair its merge was of, and a list that is written by hand can make a difference.

        Args:
            name: of the encoding.

        Returns:
            The encoding, with the pattern and the special tokens of this tokenizer.
        """
        raise NotImplementedError("gpt2/tokenizer: BPETokenizer.to_tiktoken")

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the files in which the vocabulary was published, which Hugging Face's libraries open.

        `vocab.json` is an object of all tokens, from what they stand for to their number. `merges.txt` has the line
        ``#version: 0.2 - N merges`` for N merges, and then a line for each, its two parts with a blank between them.
        In both, a byte that prints is written as the character of the same number, the n-th of the others (from 0) as
        character 256 + n: " the" is "Ġthe". Special tokens stand in `vocab.json` by their names. Both are UTF-8.

        Each file is written to another place and then put into its own, so that nobody ever finds half of one, and
        one that was there is replaced as a whole. Where that fails, no other file is left in the folder.

        Args:
            folder: where to; it is made if it is not there.

        Raises:
            ValueError: the pattern is not GPT2_PATTERN: these files have no place for another.
        """
        raise NotImplementedError("gpt2/tokenizer: BPETokenizer.save")

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> "BPETokenizer":
        """Read what `save` wrote, or the published files themselves.

        The tokens in `vocab.json` that neither are bytes nor are made by a merge are the special ones.

        Args:
            folder: with `vocab.json` and `merges.txt`.

        Raises:
            FileNotFoundError: one of the files is not there; the message names it.
            ValueError: a file is damaged; the message names it.

                - `vocab.json` is no UTF-8, no JSON, or no object of whole numbers. Or a token is missing, or its number
                  is not the one that the merges give it, or those of the special tokens do not follow: the message
                  has the token as it is written there.
                - `merges.txt` is no UTF-8. Or a line has not two parts, or one with a character that stands for no
                  byte: the line, counted from 1 and written as in "line 3". Or there are more or fewer merges than the
                  first line says. Where that says nothing, as in the published file, lines are lost if `vocab.json` has
                  a token that no merge makes and that two others would make. Or `BPETokenizer` refuses the merges.
        """
        raise NotImplementedError("gpt2/tokenizer: BPETokenizer.load")

    def __reduce__(self) -> tuple[Any, ...]:
        """What is pickled: how to make it anew, without the words that were met."""
        raise NotImplementedError("gpt2/tokenizer: BPETokenizer.__reduce__")


def train_bpe(
    texts: Iterable[str],
    vocab_size: int,
    *,
    special_tokens: Sequence[str] = (),
    pattern: str = GPT2_PATTERN,
) -> BPETokenizer:
    """Learn the merges of texts: join the pair of neighbours that is most frequent, again and again.

    The texts are cut by the pattern, and each piece is at first a row of single bytes. Then, again and again, the pair
    of neighbours that occurs most often is joined wherever it stands, from left to right within a piece. Each place
    counts, also those that overlap: "aaa" has the pair "aa" twice. Of equally frequent pairs the smallest is taken:
    that with the smaller first token, by its number, then with the smaller second.

    Args:
        texts: the texts; they are gone through once. The name of a special token in them is text like any other.
        vocab_size: how many tokens there shall be, the bytes and the special ones among them. There are fewer where no
            pair is left to join: each piece is a single token then.
        special_tokens: as of `BPETokenizer`.
        pattern: as of `BPETokenizer`.

    Returns:
        The tokenizer.

    Raises:
        TypeError: `texts` is one str: its characters would be taken for texts.
        ValueError: `vocab_size` has no room for 256 bytes and the special tokens; the message has it, and how many
            it needs.

    Example:
        " ab" has two pairs, (" ", "a") and ("a", "b"); the second is there once more, in "ab".

        >>> train_bpe(["ab ab"], 257).merges
        ((b'a', b'b'),)
        >>> train_bpe(["ab ab"], 1000).merges  # no pair is left
        ((b'a', b'b'), (b' ', b'ab'))
    """
    raise NotImplementedError("gpt2/tokenizer: train_bpe")


def load_tokenizer(source: str | os.PathLike[str]) -> BPETokenizer:
    """Load a tokenizer from a folder, or the published one.

    Args:
        source: a folder, as `BPETokenizer.load` reads it; or a name in `gpt2/configuration`'s PRESETS, whose files are
            taken from where `huggingface_hub` keeps them on this machine, or else fetched by it. All four have the
            same vocabulary, with one special token, "<|endoftext|>", the last: 50256.

    Raises:
        FileNotFoundError: `source` is no folder and no such name: the message has it, and the names. Or it is one, and
            the files are neither here nor can be fetched: the message names them, and says that a folder can be given.
            That is known within seconds: a hub that does not answer is not asked again.
        FileNotFoundError, ValueError: as `BPETokenizer.load`.
    """
    raise NotImplementedError("gpt2/tokenizer: load_tokenizer")
