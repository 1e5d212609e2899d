"""One document after the other in a batch filled by hand, counters and loops; no type hints, no docstrings."""

import math

import torch
import torch.nn.functional as F

from .decoding import evaluation_mode, generate


class Tokenizer:
    def encode(self, text): ...

    def decode(self, tokens): ...


class _Record:
    def __setattr__(self, name, value):
        raise AttributeError(f"{name} cannot be changed")


class Sample(_Record):
    def __init__(self, text, log_probability, own_log_probability):
        self.__dict__.update(text=text, log_probability=log_probability, own_log_probability=own_log_probability)


class Evaluation(_Record):
    def __init__(
        self,
        loss,
        perplexity,
        bits_per_byte,
        floor,
        above_floor,
        grammatical,
        distinct,
        repetition,
        samples,
        references=(),
    ):
        fields = dict(locals())
        del fields["self"]
        self.__dict__.update(fields)

    def to_markdown(self, num_samples=10):
        report = "# Evaluation\n\n| what | how much |\n|---|---|\n"
        report += "| loss | %.4f |\n" % self.loss
        report += "| perplexity | %.4f |\n" % self.perplexity
        report += "| bits per byte | %.4f |\n" % self.bits_per_byte
        if self.floor is not None:
            report += "| floor | %.4f |\n" % self.floor
        if self.above_floor is not None:
            report += "| above the floor | %.1f %% |\n" % (100 * self.above_floor)
        if self.grammatical is not None:
            report += "| grammatical | %.1f %% |\n" % (100 * self.grammatical)
        for n in self.distinct:
            report += "| distinct-%d | %.1f %% |\n" % (n, 100 * self.distinct[n])
        report += "| repetition | %.1f %% |\n" % (100 * self.repetition)
        report += "\n## Samples\n\n|written|price|read|\n|:--|--:|:--|\n"
        i = 0
        while i < len(self.samples) and i < num_samples:
            sample = self.samples[i]
            report += "|" + inside_a_cell(sample.text)
            report += "|" + ("–" if sample.log_probability is None else "%.2f" % sample.log_probability)
            report += "|" + (inside_a_cell(self.references[i]) if i < len(self.references) else "") + "|\n"
            i += 1
        return report


def inside_a_cell(text):
    return "".join({"|": "\\|", "\n": "<br>"}.get(letter, letter) for letter in text)


def count_grams(sequence, n, counts):
    if n <= 0:
        raise ValueError("n must be positive, not %d" % n)
    for end in range(n, len(sequence) + 1):
        gram = tuple(sequence[end - n : end])
        counts[gram] = counts.get(gram, 0) + 1
    return counts


def distinct_n(sequences, n):
    counts = count_grams([], n, {})
    for sequence in sequences:
        count_grams(sequence, n, counts)
    total = sum(counts.values())
    if total == 0:
        return 0.0
    return len(counts) / total


def repetition(sequence, n):
    counts = count_grams(sequence, n, {})
    total = sum(counts.values())
    if total == 0:
        return 0.0
    return sum(count - 1 for count in counts.values()) / total


def prices(model, rows, batch_size):
    found = []
    for first in range(0, len(rows), batch_size):
        batch = rows[first : first + batch_size]
        longest = max(len(row) for row in batch)
        tokens = torch.zeros(len(batch), longest - 1, dtype=torch.long)
        for i, row in enumerate(batch):
            tokens[i, : len(row) - 1] = torch.tensor(row[:-1])
        with evaluation_mode(model):
            logs = F.log_softmax(model(tokens), dim=-1)
        for i, row in enumerate(batch):
            total = 0.0
            for place in range(1, len(row)):
                total += logs[i, place - 1, row[place]].item()
            found.append(total)
    return found


def evaluate(
    model,
    tokenizer,
    documents,
    *,
    end_of_text,
    num_samples=100,
    max_new_tokens,
    log_probability=None,
    filters=(),
    generator=None,
    batch_size=32,
):
    if len(documents) == 0:
        raise ValueError("at least one document is needed")
    if num_samples < 1:
        raise ValueError("num_samples = %d" % num_samples)
    if batch_size < 1:
        raise ValueError("batch_size = %d" % batch_size)
    rows = []
    num_bytes = 0
    num_targets = 0
    of_source = 0.0
    for i, document in enumerate(documents):
        tokens = list(tokenizer.encode(document))
        if tokens.count(end_of_text) > 0:
            raise ValueError("the end of text, %d, is in document %d" % (end_of_text, i))
        if len(tokens) >= model.config.context_length:
            raise ValueError(
                "document %d has %d tokens, and one stands before them: more than %d"
                % (i, len(tokens), model.config.context_length)
            )
        if log_probability is not None:
            try:
                of_source += log_probability(document)
            except ValueError as why:
                raise ValueError("document %d: %s" % (i, why))
        rows.append([end_of_text] + tokens + [end_of_text])
        num_bytes += len(document.encode())
        num_targets += len(tokens) + 1
    nats = 0.0
    for price in prices(model, rows, batch_size):
        nats -= price

    written = []
    while len(written) < num_samples:
        count = min(batch_size, num_samples - len(written))
        written.extend(
            generate(
                model,
                [[end_of_text] for _ in range(count)],
                max_new_tokens=max_new_tokens,
                stop_tokens=[end_of_text],
                filters=filters,
                sampling=True,
                generator=generator,
            )
        )
    own = prices(model, [[end_of_text] + tokens for tokens in written], batch_size)
    samples = []
    texts = []
    good = 0
    for i in range(num_samples):
        tokens = written[i]
        price = None
        if tokens[-1] == end_of_text:
            tokens = tokens[:-1]
            if log_probability is not None:
                try:
                    price = log_probability(tokenizer.decode(tokens))
                    good += 1
                except ValueError:
                    price = None
        texts.append(tokens)
        samples.append(Sample(tokenizer.decode(tokens), price, own[i]))

    floor = None
    above_floor = None
    if log_probability is not None:
        floor = -of_source / num_targets
        if floor != 0:
            above_floor = (nats / num_targets - floor) / floor
    return Evaluation(
        loss=nats / num_targets,
        perplexity=math.exp(nats / num_targets),
        bits_per_byte=nats / (math.log(2) * num_bytes),
        floor=floor,
        above_floor=above_floor,
        grammatical=None if log_probability is None else good / num_samples,
        distinct={n: distinct_n(texts, n) for n in range(1, 4)},
        repetition=sum(repetition(text, 4) for text in texts) / num_samples,
        samples=tuple(samples),
        references=tuple(documents)[:num_samples],
    )
