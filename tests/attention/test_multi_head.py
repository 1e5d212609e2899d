"""Grades attention/multi_head.

The oracles are torch.nn.MultiheadAttention with the same weights, and a loop over the heads that cuts each head's rows
out of the weights; its boolean masks mean the opposite of ours.
"""

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from checkpoints.checks import Check, Draw, Workload
from checkpoints.misconceptions import Misconception
from exercises.attention.multi_head import MultiHeadAttention

MISCONCEPTIONS = [
    Misconception(
        "heads that take every H-th column in the place of D neighbouring ones",
        (
            "x.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)",
            "x.unflatten(-1, (self.head_dim, -1)).permute(0, 3, 1, 2)",
        ),
    ),
    Misconception(
        "heads made by reshaping to (B, heads, T, D) at once, which mixes tokens up: it takes a transposition",
        ("x.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)", "x.reshape(len(x), -1, x.shape[1], self.head_dim)"),
    ),
    Misconception(
        "heads put together without moving their axis back behind T",
        ("heads.transpose(1, 2).flatten(2)", "heads.reshape(x.shape)"),
    ),
    Misconception(
        "one head of the whole width in the place of many",
        ("x.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)", "x.unsqueeze(1)"),
    ),
    Misconception(
        "values made with the keys' weights",
        ("self._to_heads(key), self._to_heads(value)", "self._to_heads(key), self._to_heads(key)"),
    ),
    Misconception(
        "c_attn cut into keys, queries and values, in this wrong order",
        ("query, key, value = self.c_attn(x)", "key, query, value = self.c_attn(x)"),
    ),
    Misconception(
        "c_attn cut into queries, values and keys, in this wrong order",
        ("query, key, value = self.c_attn(x)", "query, value, key = self.c_attn(x)"),
        ("key, value = F.linear(memory", "value, key = F.linear(memory"),
    ),
    Misconception(
        "c_attn cut head by head into query, key and value",
        (
            "self.c_attn(x).split([self.embed_dim, kv_dim, kv_dim], dim=-1)",
            "(part.flatten(2) for part in self.c_attn(x).unflatten(-1, (self.num_heads, 3, self.head_dim)).unbind(3))",
        ),
    ),
    Misconception(
        "attention without the output projection",
        ("self.c_proj(heads.transpose(1, 2).flatten(2))", "heads.transpose(1, 2).flatten(2)"),
    ),
    Misconception("attention that ignores the memory", ("self.project(x, memory)", "self.project(x)")),
    Misconception(
        "queries made from the memory, not from x", ("F.linear(x, weights[0]", "F.linear(memory, weights[0]")
    ),
    Misconception(
        "cross-attention without c_attn's bias",
        ("F.linear(x, weights[0], biases[0])", "F.linear(x, weights[0])"),
        ("F.linear(memory, weights[1], biases[1])", "F.linear(memory, weights[1])"),
    ),
    Misconception(
        "attention that ignores its mask",
        ("query, key, value, mask, bias", "query, key, value, None, bias"),
        ("combine_masks(mask, causal", "combine_masks(None, causal"),
    ),
    Misconception(
        "the mask inverted: hidden where it is True",
        ("dropout = self.dropout if", "mask = None if mask is None else ~mask\ndropout = self.dropout if"),
    ),
    Misconception("attention that ignores its bias", ("mask, bias=bias, dropout", "mask, dropout")),
    Misconception("a causal module that sees later tokens", ("if self.causal and length > 1:", "if False:")),
    Misconception(
        "the causal mask in the place of the mask given, not besides it",
        ("combine_masks(mask, causal", "combine_masks(None, causal"),
    ),
    Misconception("a causal mask that forgets the cached tokens", ("past=keys - length, ", "")),
    Misconception("attention that ignores the cache", ("key, value = cache.update(key, value)", "pass")),
    Misconception(
        "attention to the cached tokens without the new ones",
        (
            "key, value = cache.update(key, value)",
            "key, value = (old[..., : -len(x[0]) or None, :] for old in cache.update(key, value))",
        ),
    ),
    Misconception(
        "heads of keys and values tiled (0, 1, 0, 1), so that neighbours do not share: it takes repeat_interleave",
        (
            "key.repeat_interleave(group, dim=1), value.repeat_interleave(group, dim=1)",
            "key.repeat(1, group, 1, 1), value.repeat(1, group, 1, 1)",
        ),
    ),
    Misconception(
        "scores divided by sqrt(embed_dim) in the place of sqrt(head_dim)",
        ("mask, bias=bias, dropout", "mask, bias=bias, scale=self.embed_dim**-0.5, dropout"),
    ),
    Misconception(
        "scores without dividing by sqrt(head_dim)", ("mask, bias=bias, dropout", "mask, bias=bias, scale=1.0, dropout")
    ),
    Misconception("dropout that goes on in evaluation", ("self.dropout if self.training else 0.0", "self.dropout")),
    Misconception("training without dropout", ("self.dropout if self.training else 0.0", "0.0")),
    Misconception("dropout not drawn from the generator", ("dropout=dropout, generator=generator", "dropout=dropout")),
]


class _Cache:
    """Keeps what it is given, as the protocol `Cache` has it."""

    def __init__(self) -> None:
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []

    def update(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        self.keys.append(key)
        self.values.append(value)
        return torch.cat(self.keys, dim=2), torch.cat(self.values, dim=2)


def workload(task: Any, draw: Draw) -> list[Workload]:
    """Typical calls, for `compare`."""
    x, memory = draw.normal(8, 96, 128, requires_grad=True), draw.normal(8, 64, 128, requires_grad=True)
    self_attention: Any = draw.fill(task.MultiHeadAttention(128, 4, causal=True), scale=0.1)
    cross_attention: Any = draw.fill(task.MultiHeadAttention(128, 4), scale=0.1)
    grouped: Any = draw.fill(task.MultiHeadAttention(128, 8, num_kv_heads=2), scale=0.1)
    return [
        Workload("MultiHeadAttention(128, 4, causal=True)(x)", self_attention, (x,)),
        Workload("MultiHeadAttention(128, 4)(x, memory)", cross_attention, (x, memory)),
        Workload("MultiHeadAttention(128, 8, num_kv_heads=2)(x)", grouped, (x,)),
        Workload("MultiHeadAttention(128, 4).project(x)", cross_attention.project, (x,)),
    ]


def _shapes(entries: Callable[[], Any]) -> dict[str, str]:
    return {name: f"shape {tuple(entry.shape)}" for name, entry in dict(entries()).items()}


def _sizes(draw: Draw) -> tuple[int, int]:
    """A number of heads, and another number for their width."""
    heads = draw.integer(2, 4)
    return heads, heads + draw.integer(1, 3)


def _weights(
    draw: Draw, embed_dim: int, outputs: int, *, bias: bool = True, dtype: torch.dtype = torch.float32
) -> dict[str, Tensor]:
    """Parameters of a module whose c_attn has so many outputs; they leave the tokens' variance about as it is."""
    shapes: dict[str, tuple[int, ...]] = {
        "c_attn.weight": (outputs, embed_dim),
        "c_proj.weight": (embed_dim, embed_dim),
    }
    if bias:
        shapes |= {"c_attn.bias": (outputs,), "c_proj.bias": (embed_dim,)}
    return {name: draw.normal(*shape, dtype=dtype, scale=embed_dim**-0.5) for name, shape in shapes.items()}


def _with_twin(check: Check, heads: int, head_dim: int, **options: Any) -> tuple[Any, nn.MultiheadAttention]:
    """The learner's module, and torch's with the same weights."""
    width = heads * head_dim
    weights = _weights(check.draw, width, 3 * width)
    module = check.build(MultiHeadAttention, width, heads, **options)
    check.load(module, weights)
    twin = nn.MultiheadAttention(width, heads, batch_first=True)
    names = {
        "in_proj_weight": "c_attn.weight",
        "in_proj_bias": "c_attn.bias",
        "out_proj.weight": "c_proj.weight",
        "out_proj.bias": "c_proj.bias",
    }
    twin.load_state_dict({theirs: weights[ours] for theirs, ours in names.items()})
    return module, twin


def _attended(twin: nn.MultiheadAttention, x: Tensor, memory: Tensor, mask: Tensor) -> Tensor:
    """What torch's module gives for a mask that is True where a token may attend."""
    hidden = ~mask.expand(len(x), twin.num_heads, x.shape[1], memory.shape[1])
    return twin(x, memory, memory, attn_mask=hidden.flatten(0, 1), need_weights=False)[0]


def _projected(
    weights: Mapping[str, Tensor], x: Tensor, memory: Tensor, heads: int, kv_heads: int
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """The queries, keys and values of each head, from the rows of c_attn that make them."""
    width = x.shape[-1]
    head_dim = width // heads
    weight = weights["c_attn.weight"]
    bias = weights.get("c_attn.bias", torch.zeros(len(weight), dtype=x.dtype))

    def make(tokens: Tensor, start: int, count: int) -> list[Tensor]:
        cuts = [slice(start + head * head_dim, start + (head + 1) * head_dim) for head in range(count)]
        return [tokens @ weight[cut].T + bias[cut] for cut in cuts]

    kv_width = kv_heads * head_dim
    return make(x, 0, heads), make(memory, width, kv_heads), make(memory, width + kv_width, kv_heads)


def _by_heads(
    weights: Mapping[str, Tensor],
    x: Tensor,
    heads: int,
    *,
    kv_heads: int | None = None,
    memory: Tensor | None = None,
    bias: Tensor | None = None,
) -> Tensor:
    """Multi-head attention, one head after the other; `bias` has the heads first, and -inf where a key is hidden."""
    kv_heads = kv_heads or heads
    queries, keys, values = _projected(weights, x, x if memory is None else memory, heads, kv_heads)
    results = []
    for head, query in enumerate(queries):
        shared = head * kv_heads // heads
        added = None if bias is None else bias[head]
        results.append(F.scaled_dot_product_attention(query, keys[shared], values[shared], attn_mask=added))
    return F.linear(torch.cat(results, dim=-1), weights["c_proj.weight"], weights.get("c_proj.bias"))


def test_parameters(check: Check) -> None:
    """Its parameters are GPT-2's c_attn and c_proj, of the right shapes, and the state_dict has no others."""
    full = {"c_attn.weight": (36, 12), "c_attn.bias": (36,), "c_proj.weight": (12, 12), "c_proj.bias": (12,)}
    grouped = full | {"c_attn.weight": (24, 12), "c_attn.bias": (24,)}
    bare = {name: shape for name, shape in full.items() if name.endswith("weight")}
    cases: list[tuple[dict[str, Any], dict[str, tuple[int, ...]]]]
    cases = [({"causal": True}, full), ({"num_kv_heads": 2}, grouped), ({"bias": False}, bare)]
    for options, shapes in cases:
        module = check.build(MultiHeadAttention, 12, 4, **options)
        expected = {name: f"shape {shape}" for name, shape in shapes.items()}
        text = f"MultiHeadAttention(12, 4, {next(iter(options))}={next(iter(options.values()))})"
        check.run(f"the parameters of {text}", partial(_shapes, module.named_parameters)).equals(expected)
        check.run(f"the state_dict of {text}", partial(_shapes, module.state_dict)).equals(expected)


def test_by_hand(check: Check) -> None:
    """Queries of zero give equal weights: each token gets the mean, if causal that of the tokens so far."""
    x = torch.tensor([[[1.0, 10.0], [3.0, 30.0]]])
    weights = {
        "c_attn.weight": torch.tensor([[0.0, 0.0], [0.0, 0.0], [5.0, 0.0], [0.0, 5.0], [1.0, 0.0], [0.0, 1.0]]),
        "c_attn.bias": torch.zeros(6),
        "c_proj.weight": torch.tensor([[0.0, 1.0], [1.0, 0.0]]),
        "c_proj.bias": torch.tensor([0.0, 0.5]),
    }
    for causal, expected in [(False, [[20.0, 2.5], [20.0, 2.5]]), (True, [[10.0, 1.5], [20.0, 2.5]])]:
        module = check.build(MultiHeadAttention, 2, 2, causal=causal)
        check.load(module, weights)
        means = "(1, 10), then the mean (2, 20)" if causal else "the mean (2, 20)"
        note = f"c_proj swaps the two heads of {means}, and adds 0.5 to the second"
        check(module, x).equals(torch.tensor([expected]), note=note)


def test_self_attention(check: Check) -> None:
    """With the same weights, the same as torch's MultiheadAttention."""
    heads, head_dim = _sizes(check.draw)
    module, twin = _with_twin(check, heads, head_dim)
    x = check.draw.strided(3, 5, heads * head_dim)
    note = f"torch's, of {heads} heads of width {head_dim}"
    check(module, x).equals(twin(x, x, x, need_weights=False)[0], note=note)


def test_cross_attention(check: Check) -> None:
    """With a memory: queries from x, keys and values from the memory, as torch's MultiheadAttention."""
    heads, head_dim = _sizes(check.draw)
    module, twin = _with_twin(check, heads, head_dim)
    x, memory = check.draw.strided(2, 4, heads * head_dim), check.draw.strided(2, 7, heads * head_dim)
    note = "queries from x, keys and values from the memory"
    check(module, x, memory).equals(twin(x, memory, memory, need_weights=False)[0], note=note)
    mask = check.draw.booleans(4, 7)
    mask[:, 2] = True
    expected = _attended(twin, x, memory, mask)
    check(module, x, memory, mask).equals(expected, note="with a mask over the memory")
    bare = check.build(MultiHeadAttention, heads * head_dim, heads, bias=False)
    weights = _weights(check.draw, heads * head_dim, 3 * heads * head_dim, bias=False)
    check.load(bare, weights)
    check(bare, x, memory).equals(_by_heads(weights, x, heads, memory=memory), note="without biases")


def test_masks(check: Check) -> None:
    """Masks for all sequences, for each one's padding, for each head: True where a token may attend."""
    heads, head_dim = _sizes(check.draw)
    module, twin = _with_twin(check, heads, head_dim)
    x = check.draw.normal(2, 6, heads * head_dim)
    itself = torch.eye(6, dtype=torch.bool)
    mask = check.draw.booleans(6, 6) | itself
    check(module, x, mask=mask).equals(_attended(twin, x, x, mask), note="one mask (T, T) for all")
    mask = (torch.arange(6) < torch.tensor([[4], [6]]))[:, None, None, :]
    check(module, x, mask=mask).equals(_attended(twin, x, x, mask), note="padding behind the first sequence")
    mask = check.draw.booleans(2, heads, 6, 6) | itself
    check(module, x, mask=mask).equals(_attended(twin, x, x, mask), note="a mask of each head's own")


def test_causal(check: Check) -> None:
    """A causal module hides later tokens, and what its mask hides besides."""
    heads, head_dim = _sizes(check.draw)
    module, twin = _with_twin(check, heads, head_dim, causal=True)
    x = check.draw.normal(2, 5, heads * head_dim)
    earlier = torch.ones(5, 5, dtype=torch.bool).tril()
    check(module, x).equals(_attended(twin, x, x, earlier), note="each token sees itself and those before it")
    real = torch.tensor([[True, True, True, True, True], [True, False, True, True, False]])[:, None, None, :]
    check(module, x, mask=real).equals(_attended(twin, x, x, earlier & real), note="with two tokens of padding")


def test_no_look_ahead(check: Check) -> None:
    """In a causal module the gradient of a result reaches its own and earlier tokens, and no later one."""
    heads, head_dim = _sizes(check.draw)
    width, length = heads * head_dim, check.draw.size()
    module = check.build(MultiHeadAttention, width, heads, causal=True)
    check.load(module, _weights(check.draw, width, 3 * width))
    x = check.draw.normal(1, length, width, requires_grad=True)
    answer = check(module, x).has(shape=x.shape, dtype=x.dtype)
    answer.satisfies(answer.value.requires_grad, got="a result without gradient", expected="one with a gradient")
    mixture = check.draw.normal(width)

    def reached() -> Tensor:
        rows = [torch.autograd.grad((row * mixture).sum(), x, retain_graph=True)[0][0] for row in answer.value[0]]
        return torch.stack(rows).ne(0).any(dim=-1)

    depends = check.run("which tokens (columns) each result (row) depends on", reached)
    depends.equals(torch.ones(length, length, dtype=torch.bool).tril())


def test_project(check: Check) -> None:
    """Its project gives each head the rows of c_attn that are its own: queries, then keys, then values."""
    head_dim = check.draw.size()
    x, memory = check.draw.strided(3, 5, 4 * head_dim), check.draw.strided(3, 2, 4 * head_dim)
    for kv_heads in (4, 2):
        weights = _weights(check.draw, 4 * head_dim, (4 + 2 * kv_heads) * head_dim)
        module = check.build(MultiHeadAttention, 4 * head_dim, 4, num_kv_heads=kv_heads)
        check.load(module, weights)
        for tokens in ((x,), (x, memory)):
            expected = _projected(weights, x, tokens[-1], 4, kv_heads)
            check(module.project, *tokens).equals(tuple(torch.stack(part, dim=1) for part in expected))


def test_grouped(check: Check) -> None:
    """Fewer heads of keys and values: neighbouring query heads share one, as in a loop over the heads."""
    head_dim = check.draw.size()
    x, memory = check.draw.normal(2, 5, 6 * head_dim), check.draw.normal(2, 3, 6 * head_dim)
    for kv_heads in (3, 2, 1):
        weights = _weights(check.draw, 6 * head_dim, (6 + 2 * kv_heads) * head_dim)
        module = check.build(MultiHeadAttention, 6 * head_dim, 6, num_kv_heads=kv_heads)
        check.load(module, weights)
        note = f"each head of keys serves {6 // kv_heads} neighbouring heads of queries"
        check(module, x).equals(_by_heads(weights, x, 6, kv_heads=kv_heads), note=note)
        check(module, x, memory).equals(_by_heads(weights, x, 6, kv_heads=kv_heads, memory=memory), note=note)


def test_bias(check: Check) -> None:
    """A bias of each head's own is added to its scaled scores, along with the masks, and over a memory too."""
    heads, head_dim = _sizes(check.draw)
    width = heads * head_dim
    weights = _weights(check.draw, width, 3 * width)
    x, bias = check.draw.normal(2, 5, width), check.draw.normal(heads, 5, 5, scale=2.0)
    later = torch.ones(5, 5, dtype=torch.bool).triu(1)
    for causal in (False, True):
        module = check.build(MultiHeadAttention, width, heads, causal=causal)
        check.load(module, weights)
        hidden = bias.masked_fill(later, float("-inf")) if causal else bias
        check(module, x, bias=bias).equals(
            _by_heads(weights, x, heads, bias=hidden), note="head h with bias[h] added to its scores"
        )
    module = check.build(MultiHeadAttention, width, heads)
    check.load(module, weights)
    memory = check.draw.normal(2, 3, width)
    expected = _by_heads(weights, x, heads, memory=memory, bias=bias[..., :3])
    check(module, x, memory, bias=bias[..., :3]).equals(expected, note="head h with bias[h] over the memory")


def test_order_of_the_tokens(check: Check) -> None:
    """Without a mask, tokens in another order give the same results in that order."""
    heads, head_dim = _sizes(check.draw)
    width, length = heads * head_dim, check.draw.size()
    module = check.build(MultiHeadAttention, width, heads)
    check.load(module, _weights(check.draw, width, 3 * width))
    x = check.draw.normal(2, length, width)
    order = check.draw.permutation(length)
    first = check(module, x).has(shape=x.shape, dtype=x.dtype)
    check(module, x[:, order]).equals(first.value[:, order], note="as in the first order, reordered")


def test_gradients(check: Check) -> None:
    """Gradients reach every parameter, the tokens and the memory, as through a loop over the heads."""
    head_dim = check.draw.size(2, 4)
    width = 4 * head_dim
    module = check.build(MultiHeadAttention, width, 4, num_kv_heads=2)
    check.mutating(module.double)
    check.load(module, _weights(check.draw, width, 8 * head_dim, dtype=torch.float64))
    x = check.draw.normal(2, 3, width, dtype=torch.float64, requires_grad=True)
    memory = check.draw.normal(2, 5, width, dtype=torch.float64, requires_grad=True)
    parameters = dict(module.named_parameters())
    expected = _by_heads(parameters, x, 4, kv_heads=2)
    check(module, x).equals(expected).gradients_equal(expected, x=x, **parameters)
    expected = _by_heads(parameters, x, 4, kv_heads=2, memory=memory)
    check(module, x, memory).equals(expected).gradients_equal(expected, x=x, memory=memory, **parameters)


def test_cache(check: Check) -> None:
    """Three tokens, two, then one, with a cache: as all six at once; without `causal` they see all there is so far."""
    head_dim = check.draw.size(2, 5)
    width = 4 * head_dim
    padded = torch.tensor([[True] * 6, [True, False, True, True, False, True]])
    for kv_heads, real in [(4, None), (2, padded)]:
        module = check.build(MultiHeadAttention, width, 4, num_kv_heads=kv_heads, causal=True)
        weights = _weights(check.draw, width, (4 + 2 * kv_heads) * head_dim)
        check.load(module, weights)
        x = check.draw.normal(2, 6, width)
        seen = torch.ones(2, 6, 6, dtype=torch.bool).tril() & (True if real is None else real[:, None, :])
        hidden = torch.zeros(4, 2, 6, 6).masked_fill(~seen, float("-inf"))
        expected = _by_heads(weights, x, 4, kv_heads=kv_heads, bias=hidden)
        cache, start = _Cache(), 0
        for end in (3, 5, 6):
            mask = None if real is None else real[:, None, None, :end]
            note = f"tokens {start} to {end - 1} of 6"
            check(module, x[:, start:end], mask=mask, cache=cache).equals(expected[:, start:end], note=note)
            start = end
        _, keys, values = (torch.stack(part, dim=1) for part in _projected(weights, x, x, 4, kv_heads))
        check.run("how many updates the cache got in three calls", partial(len, cache.keys)).equals(3)
        check.run("the keys that the cache was given, together", partial(torch.cat, cache.keys, 2)).equals(keys)
        check.run("the values that the cache was given, together", partial(torch.cat, cache.values, 2)).equals(values)
    module = check.build(MultiHeadAttention, width, 4)
    weights = _weights(check.draw, width, 3 * width)
    check.load(module, weights)
    cache, x = _Cache(), check.draw.normal(2, 5, width)
    for start, end in ((0, 3), (3, 5)):
        expected = _by_heads(weights, x[:, start:end], 4, memory=x[:, :end])
        answer = check(module, x[:, start:end], cache=cache)
        answer.equals(expected, note=f"tokens {start} to {end - 1} see tokens 0 to {end - 1}: it is not causal")


def test_dropout(check: Check) -> None:
    """Dropout drops weights in training, from the generator, and none in evaluation."""
    size, rate = 16, 0.25
    module = check.build(MultiHeadAttention, size, 1, dropout=rate)
    # Queries of zero give equal weights; tokens, values and projection are unit vectors, so the result is the weights.
    zeros, identity = torch.zeros(size, size), torch.eye(size)
    weights = {"c_attn.weight": torch.cat([zeros, zeros, identity]), "c_attn.bias": torch.zeros(3 * size)}
    check.load(module, {**weights, "c_proj.weight": identity, "c_proj.bias": torch.zeros(size)})
    x = identity.expand(24, -1, -1)
    seed = check.draw.seed()
    check.mutating(module.train)
    answer = check(module, x, generator=torch.Generator().manual_seed(seed)).has(shape=x.shape, dtype=x.dtype)
    kept = answer.value.detach() > 0.5 / size
    answer.equals(kept / size / (1 - rate), note="in training: weights of 1/16, each dropped or divided by 0.75")
    # Hoeffding: the share of N = 24 * 16 * 16 independent ones is off by t with probability below
    # 2 exp(-2 N t^2), which is 8e-10 at t = 0.042.
    share = 1 - kept.double().mean().item()
    answer.satisfies(
        abs(share - rate) < 0.042,
        got=f"a share of {share:.3f} of the weights dropped",
        expected=f"{rate}, give or take 0.04",
    )
    again = check(module, x, generator=torch.Generator().manual_seed(seed))
    again.equals(answer.value, note="from a generator of the same seed")
    check.mutating(module.eval)
    check(module, x).equals(torch.full((24, size, size), 1 / size), note="in evaluation")


def test_edges(check: Check) -> None:
    """One token, one head, no biases, float64; a token that may see nothing gets c_proj's bias."""
    width = check.draw.size()
    weights = _weights(check.draw, width, 3 * width, bias=False, dtype=torch.float64)
    module = check.build(MultiHeadAttention, width, 1, bias=False, causal=True)
    check.mutating(module.double)
    check.load(module, weights)
    x = check.draw.strided(1, 1, width, dtype=torch.float64)
    alone = x @ weights["c_attn.weight"][2 * width :].T @ weights["c_proj.weight"].T
    check(module, x).equals(alone, note="its own value, projected")
    heads, head_dim = _sizes(check.draw)
    width = heads * head_dim
    module = check.build(MultiHeadAttention, width, heads)
    weights = _weights(check.draw, width, 3 * width)
    check.load(module, weights)
    x = check.draw.normal(1, 3, width)
    expected = _by_heads(weights, x, heads).index_copy(1, torch.tensor([1]), weights["c_proj.bias"].expand(1, 1, -1))
    check(module, x, mask=torch.tensor([[True], [False], [True]])).equals(expected, note="the second may see nothing")


def test_refused(check: Check) -> None:
    """Heads that do not divide, a dropout of 1, tokens of another width: each refused by name and value."""
    make: Any = MultiHeadAttention
    check.raises(ValueError, make, 10, 4, naming=("embed_dim", "10", "num_heads", "4"))
    for embed_dim, heads in ((10, 0), (12, -3), (0, 4)):
        check.raises(ValueError, make, embed_dim, heads, naming=("embed_dim", str(embed_dim), "num_heads", str(heads)))
    check.raises(ValueError, make, 12, 6, num_kv_heads=4, naming=("num_kv_heads", "4", "num_heads", "6"))
    for kv_heads in (0, -2):
        check.raises(ValueError, make, 12, 6, num_kv_heads=kv_heads, naming=("num_kv_heads", str(kv_heads)))
    for dropout in (1.0, -0.01, math.nan):
        check.raises(ValueError, make, 12, 6, dropout=dropout, naming=("dropout", str(dropout)))
    check.build(make, 12, 6, dropout=0.99)
    x, narrow = check.draw.normal(2, 3, 12), check.draw.normal(2, 3, 8)
    module, causal = check.build(make, 12, 6), check.build(make, 12, 6, causal=True)
    check.raises(ValueError, module, narrow, naming=("x", "12", "(2, 3, 8)"))
    check.raises(ValueError, module, x[0], naming=("x", "(3, 12)"))
    check.raises(ValueError, module.project, narrow, naming=("x", "12", "(2, 3, 8)"))
    check.raises(ValueError, module, x, narrow, naming=("memory", "12", "(2, 3, 8)"))
    check.raises(ValueError, module, x, x[0], naming=("memory", "(3, 12)"))
    check.raises(ValueError, module, x, x[:1], naming=("memory", "(2, 3, 12)", "(1, 3, 12)"))
    check.raises(ValueError, causal, x, x, naming=("memory", "causal"))
    check.raises(ValueError, module, x, x, cache=_Cache(), naming=("memory", "cache"))
