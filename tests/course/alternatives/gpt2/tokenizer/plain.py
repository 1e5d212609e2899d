"""Plain: counts anew for each merge, looks for the best merge of a word from its beginning, keeps no words, no type hints."""
# ruff: noqa: PTH103, PTH105, PTH107, PTH112, PTH118, PTH120, PTH123

import json
import os
import tempfile

import regex
import tiktoken

from .configuration import PRESETS

GPT2_PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


def make_alphabet():
    """From a byte to the character that is written for it, in the order of the tokens."""
    alphabet = {}
    for byte in range(256):
        if 33 <= byte <= 126 or 161 <= byte <= 172 or 174 <= byte <= 255:
            alphabet[byte] = chr(byte)
    hidden = 0
    for byte in range(256):
        if byte not in alphabet:
            alphabet[byte] = chr(256 + hidden)
            hidden += 1
    return alphabet


ALPHABET = make_alphabet()
BYTE_OF = {}
for _byte, _letter in ALPHABET.items():
    BYTE_OF[_letter] = _byte


def show(some_bytes):
    letters = ""
    for byte in some_bytes:
        letters += ALPHABET[byte]
    return letters


def unshow(letters):
    """None where a letter stands for no byte."""
    found = []
    for letter in letters:
        if letter not in BYTE_OF:
            return None
        found.append(BYTE_OF[letter])
    return bytes(found)


class BPETokenizer:
    def __init__(self, merges, special_tokens=(), pattern=GPT2_PATTERN):
        self.merges = tuple(tuple(merge) for merge in merges)
        self.pattern = pattern
        self.entries = [bytes([byte]) for byte in ALPHABET]
        self.rank = {}
        there = set(self.entries)
        for index, merge in enumerate(self.merges):
            left, right = merge
            if left not in there:
                raise ValueError("in merge %d there is %r, which does not exist" % (index, left))
            if right not in there:
                raise ValueError("in merge %d there is %r, which does not exist" % (index, right))
            both = left + right
            if both in there:
                raise ValueError("merge %d gives %r again" % (index, both))
            there.add(both)
            self.rank[merge] = index
            self.entries.append(both)
        self.number_of = {}
        for number, entry in enumerate(self.entries):
            self.number_of[entry] = number
        self.special_tokens = {}
        for name in special_tokens:
            if name == "":
                raise ValueError("a special token is empty")
            if name in self.special_tokens:
                raise ValueError("special token " + name + " is there twice")
            if unshow(name) in self.number_of:
                raise ValueError("special token " + name + " is the name of another token")
            self.special_tokens[name] = len(self.entries)
            self.entries.append(name.encode())

    @property
    def vocab_size(self):
        return len(self.entries)

    def encode_word(self, word):
        parts = [bytes([byte]) for byte in word.encode("utf-8")]
        while True:
            best = None
            for place in range(len(parts) - 1):
                rank = self.rank.get((parts[place], parts[place + 1]))
                if rank is not None and (best is None or rank < best[0]):
                    best = (rank, place)
            if best is None:
                break
            place = best[1]
            parts[place : place + 2] = [parts[place] + parts[place + 1]]
        return [self.number_of[part] for part in parts]

    def encode_plain(self, text):
        tokens = []
        for word in regex.findall(self.pattern, text):
            tokens.extend(self.encode_word(word))
        return tokens

    def encode(self, text, allowed_special=False):
        if not allowed_special:
            return self.encode_plain(text)
        tokens = []
        waiting = ""  # what is no special token, as far as can be seen
        place = 0
        while place < len(text):
            here = None
            for name in self.special_tokens:
                if text.startswith(name, place) and (here is None or len(name) > len(here)):
                    here = name
            if here is None:
                waiting += text[place]
                place += 1
            else:
                tokens += self.encode_plain(waiting)
                tokens.append(self.special_tokens[here])
                waiting = ""
                place += len(here)
        return tokens + self.encode_plain(waiting)

    def encode_batch(self, texts, allowed_special=False):
        results = []
        for text in texts:
            results.append(self.encode(text, allowed_special=allowed_special))
        return results

    def token_bytes(self, token):
        if token < 0 or token >= len(self.entries):
            raise ValueError("token %d of a vocab_size of %d" % (token, len(self.entries)))
        return self.entries[token]

    def decode_bytes(self, tokens):
        result = b""
        for token in tokens:
            result += self.token_bytes(token)
        return result

    def decode(self, tokens):
        return str(self.decode_bytes(tokens), "utf-8", "replace")

    def to_tiktoken(self, name="gpt2-kata"):
        ranks = {}
        for number in range(256 + len(self.merges)):
            ranks[self.entries[number]] = number
        return tiktoken.Encoding(
            name=name, pat_str=self.pattern, mergeable_ranks=ranks, special_tokens=dict(self.special_tokens)
        )

    def save(self, folder):
        if self.pattern != GPT2_PATTERN:
            raise ValueError("only the pattern GPT2_PATTERN can be saved")
        os.makedirs(folder, exist_ok=True)
        vocabulary = {}
        for number in range(256 + len(self.merges)):
            vocabulary[show(self.entries[number])] = number
        vocabulary.update(self.special_tokens)
        text = "#version: 0.2 - %d merges\n" % len(self.merges)
        for left, right in self.merges:
            text += show(left) + " " + show(right) + "\n"
        put(folder, "vocab.json", json.dumps(vocabulary, indent=1, ensure_ascii=False))
        put(folder, "merges.txt", text)

    @classmethod
    def load(cls, folder):
        vocab_path = os.path.join(folder, "vocab.json")
        merges_path = os.path.join(folder, "merges.txt")
        vocabulary = read_vocabulary(vocab_path)
        lines = text_of(merges_path).split("\n")
        if lines[-1] == "":
            lines.pop()
        merges = []
        for index in range(1, len(lines)):
            parts = lines[index].split(" ")
            if len(parts) != 2 or not unshow(parts[0]) or not unshow(parts[1]):
                raise ValueError("%s: line %d is damaged" % (merges_path, index + 1))
            merges.append((unshow(parts[0]), unshow(parts[1])))
        words = lines[0].split(" ")
        counted = len(words) >= 2 and words[-1] == "merges"
        if counted and words[-2] != str(len(merges)):
            raise ValueError("%s: %s merges were promised, there are %d" % (merges_path, words[-2], len(merges)))
        try:
            plain = cls(merges)
        except ValueError as problem:
            raise ValueError(merges_path + ": " + str(problem))
        names = []
        for name in vocabulary:
            if unshow(name) not in plain.number_of:
                names.append(name)
                for cut in range(1, len(name)):
                    halves = unshow(name[:cut]), unshow(name[cut:])
                    if not counted and halves[0] in plain.number_of and halves[1] in plain.number_of:
                        raise ValueError("%s: the merge for %s is lost" % (merges_path, name))
        for entry, number in plain.number_of.items():
            if vocabulary.get(show(entry)) != number:
                raise ValueError("%s: %s should be %d" % (vocab_path, show(entry), number))
        names.sort(key=vocabulary.get)
        for place, name in enumerate(names):
            if vocabulary[name] != len(plain.entries) + place:
                raise ValueError("%s: %s should be %d" % (vocab_path, name, len(plain.entries) + place))
        return cls(merges, special_tokens=names)


def put(folder, name, text):
    handle, path = tempfile.mkstemp(dir=folder)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
        os.replace(path, os.path.join(folder, name))
    except BaseException:
        os.remove(path)
        raise


def text_of(path):
    with open(path, "rb") as file:
        content = file.read()
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError(path + " is not UTF-8")


def read_vocabulary(path):
    try:
        vocabulary = json.loads(text_of(path))
    except json.JSONDecodeError:
        raise ValueError(path + " is not JSON")
    if not isinstance(vocabulary, dict):
        raise ValueError(path + " has no object")
    for name in vocabulary:
        if type(vocabulary[name]) is not int:
            raise ValueError(path + ": " + name + " has no whole number")
    return vocabulary


def train_bpe(texts, vocab_size, special_tokens=(), pattern=GPT2_PATTERN):
    if isinstance(texts, str):
        raise TypeError("texts is a str, and should be a list of them")
    needed = 256 + len(special_tokens)
    if vocab_size < needed:
        raise ValueError("vocab_size is %d and has to be %d" % (vocab_size, needed))
    entries = [bytes([byte]) for byte in ALPHABET]
    first = {byte: number for number, byte in enumerate(ALPHABET)}
    words = {}
    for text in texts:
        for word in regex.findall(pattern, text):
            key = tuple(first[byte] for byte in word.encode("utf-8"))
            words[key] = words.get(key, 0) + 1
    merges = []
    for _ in range(vocab_size - needed):
        counts = {}
        for word, times in words.items():
            for pair in zip(word, word[1:]):
                counts[pair] = counts.get(pair, 0) + times
        if len(counts) == 0:
            break
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        merges.append((entries[best[0]], entries[best[1]]))
        entries.append(entries[best[0]] + entries[best[1]])
        new_words = {}
        for word, times in words.items():
            new_word = []
            place = 0
            while place < len(word):
                if word[place : place + 2] == best:
                    new_word.append(len(entries) - 1)
                    place += 2
                else:
                    new_word.append(word[place])
                    place += 1
            key = tuple(new_word)
            new_words[key] = new_words.get(key, 0) + times
        words = new_words
    return BPETokenizer(merges, special_tokens=special_tokens, pattern=pattern)


def load_tokenizer(source):
    if os.path.isdir(source):
        return BPETokenizer.load(source)
    if source not in PRESETS:
        raise FileNotFoundError("%s is not there, and not one of %s" % (source, list(PRESETS)))
    import huggingface_hub

    repository = "openai-community/" + source
    try:
        huggingface_hub.hf_hub_download(repository, "vocab.json", local_files_only=True)
        path = huggingface_hub.hf_hub_download(repository, "merges.txt", local_files_only=True)
    except Exception:
        try:
            huggingface_hub.HfApi().model_info(repository, timeout=3)
            huggingface_hub.hf_hub_download(repository, "vocab.json")
            path = huggingface_hub.hf_hub_download(repository, "merges.txt")
        except Exception:
            raise FileNotFoundError(
                "vocab.json and merges.txt of %s cannot be had; get them and give the folder" % source
            ) from None
    return BPETokenizer.load(os.path.dirname(path))
