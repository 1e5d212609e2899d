"""Plain: rotate_half as in Llama's code, tables of full width inside, loops in the experiment; without types."""

import torch
import torch.nn.functional as F
from torch import nn

from .sinusoidal import sinusoidal_encoding

SCHEMES = ("learned", "sinusoidal", "rotary")


class LearnedPositionalEmbedding(nn.Module):
    def __init__(self, max_length, embedding_dim, *, generator=None):
        super().__init__()
        if max_length <= 0:
            raise ValueError("max_length is %s" % max_length)
        if embedding_dim <= 0:
            raise ValueError("embedding_dim is %s" % embedding_dim)
        self.max_length = max_length
        self.embedding_dim = embedding_dim
        self.weight = nn.Parameter(0.02 * torch.randn(max_length, embedding_dim, generator=generator))

    def forward(self, x, *, past=0):
        if x.ndim != 3 or x.shape[2] != self.embedding_dim:
            raise ValueError("tokens should be (B, T, %d) and are %s" % (self.embedding_dim, x.shape))
        if past < 0:
            raise ValueError("past is %d" % past)
        length = x.shape[1]
        if past + length > self.max_length:
            raise ValueError("there are %d positions, %d are wanted" % (self.max_length, past + length))
        positions = torch.arange(past, past + length, device=x.device)
        return x + self.weight.index_select(0, positions)


def rotary_angles(length, head_dim, *, past=0, base=10000.0, dtype=torch.float32, device=None):
    if length < 0:
        raise ValueError("length is %d" % length)
    if past < 0:
        raise ValueError("past is %d" % past)
    if head_dim % 2 != 0 or head_dim <= 0:
        raise ValueError("head_dim is %d" % head_dim)
    if base <= 0 or base != base:
        raise ValueError("base is %s" % base)
    frequencies = torch.tensor([base ** (-2 * i / head_dim) for i in range(head_dim // 2)], dtype=torch.float64)
    angles = torch.einsum("t,i->ti", torch.arange(past, past + length).double(), frequencies)
    return torch.cos(angles).to(dtype).to(device), torch.sin(angles).to(dtype).to(device)


def rotate_half(x):
    half = x.shape[-1] // 2
    return torch.cat((-x[..., half:], x[..., :half]), dim=-1)


def apply_rotary(x, cos, sin):
    fits = (x.shape[-2], x.shape[-1] / 2)
    if tuple(cos.shape[-2:]) != fits:
        raise ValueError("cos %s does not fit to %s" % (tuple(cos.shape), tuple(x.shape)))
    if tuple(sin.shape[-2:]) != fits:
        raise ValueError("sin %s does not fit to %s" % (tuple(sin.shape), tuple(x.shape)))
    full_cos = torch.cat((cos, cos), dim=-1)
    full_sin = torch.cat((sin, sin), dim=-1)
    return (x * full_cos + rotate_half(x) * full_sin).type(x.dtype)


class RecallModel(nn.Module):
    def __init__(self, scheme, vocabulary, max_length, generator, width=32):
        super().__init__()
        if scheme not in SCHEMES:
            raise ValueError("scheme %s is unknown" % scheme)
        self.scheme = scheme
        self.tokens = nn.Parameter(torch.randn(vocabulary, width, generator=generator))
        self.projection = nn.Parameter(torch.randn(3 * width, width, generator=generator) * width**-0.5)
        self.bias = nn.Parameter(torch.zeros(3 * width))
        self.output = nn.Parameter(torch.randn(vocabulary, width, generator=generator) * width**-0.5)
        if scheme == "learned":
            self.positions = LearnedPositionalEmbedding(max_length, width, generator=generator)

    def forward(self, tokens):
        x = self.tokens[tokens]
        if self.scheme == "learned":
            x = self.positions(x)
        if self.scheme == "sinusoidal":
            x = x + sinusoidal_encoding(x.shape[1], x.shape[2])
        q, k, v = (x @ self.projection.T + self.bias).chunk(3, dim=-1)
        if self.scheme == "rotary":
            table = rotary_angles(x.shape[1], x.shape[2])
            q = apply_rotary(q, *table)
            k = apply_rotary(k, *table)
        return F.scaled_dot_product_attention(q, k, v, is_causal=True) @ self.output.T


def train_recall(model, vocabulary, *, length, distance, updates, generator):
    adam = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(updates):
        tokens = torch.randint(0, vocabulary, (32, length), generator=generator)
        logits = model(tokens)
        loss = F.cross_entropy(logits[:, distance:].reshape(-1, vocabulary), tokens[:, :-distance].reshape(-1))
        adam.zero_grad()
        loss.backward()
        adam.step()


@torch.no_grad()
def recall_accuracy(model, tokens, distance):
    answers = model(tokens).argmax(-1)
    shares = []
    for position in range(distance, tokens.shape[1]):
        right = answers[:, position] == tokens[:, position - distance]
        shares.append(right.sum().item() / len(tokens))
    return torch.tensor(shares)


class Extrapolation:
    def __init__(self, train_length, vocabulary, positions, accuracy):
        self.train_length = train_length
        self.vocabulary = vocabulary
        self.positions = positions
        self.accuracy = accuracy


def extrapolation_experiment(*, seed, train_length=16, test_length=64, vocabulary=8, distance=3, updates=200):
    if distance >= train_length or train_length >= test_length:
        raise ValueError("%d < %d < %d is not true" % (distance, train_length, test_length))
    test_generator = torch.Generator().manual_seed(seed + 1000)
    test_tokens = torch.randint(0, vocabulary, (256, test_length), generator=test_generator)
    accuracy = {}
    for scheme in SCHEMES:
        model_generator = torch.Generator()
        model_generator.manual_seed(seed)
        train_generator = torch.Generator()
        train_generator.manual_seed(seed + 2000)
        model = RecallModel(scheme, vocabulary, test_length, model_generator)
        train_recall(
            model, vocabulary, length=train_length, distance=distance, updates=updates, generator=train_generator
        )
        accuracy[scheme] = recall_accuracy(model, test_tokens, distance)
    positions = torch.tensor(list(range(distance, test_length)))
    return Extrapolation(train_length, vocabulary, positions, accuracy)


def plot_extrapolation(result):
    import matplotlib.figure

    figure = matplotlib.figure.Figure(figsize=(8, 5), layout="tight")
    axes = figure.subplots()
    for scheme in result.accuracy:
        axes.plot(result.positions, result.accuracy[scheme], label=scheme)
    axes.axvline(x=result.train_length, color="black", ls="dashed", label="training ends")
    axes.axhline(y=1 / result.vocabulary, color="black", ls="dotted", label="guessing")
    axes.set_xlabel("position")
    axes.set_ylabel("accuracy")
    axes.set_ylim(-0.05, 1.05)
    figure.legend(loc="upper right")
    return figure
