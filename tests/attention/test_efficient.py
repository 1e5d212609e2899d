"""Grades attention/efficient.

The oracle of `chunked_attention` is torch's own attention, and for rows that may see nothing the definition; that of
`KVCache` is a list of all the tokens given so far. Memory is measured: `_LiveMemory` below says how.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

from checkpoints.checks import Check, Draw, Workload
from checkpoints.misconceptions import Misconception
from checkpoints.verdicts import Kind
from exercises.attention.efficient import KVCache, chunked_attention
from exercises.attention.multi_head import MultiHeadAttention

MISCONCEPTIONS = [
    Misconception(
        "an online softmax left to autograd, which keeps the weights of every chunk for the backward pass",
        (
            """
            output: Tensor = _ChunkedAttention.apply(query * scale, key, value, mask, causal, chunk)
            return output
            """,
            """
            highest = query.new_full((*query.shape[:-1], 1), torch.finfo(query.dtype).min)
            total = torch.zeros_like(highest)
            output = query.new_zeros(*query.shape[:-1], value.shape[-1])
            for start in range(0, keys, chunk):
                columns = slice(start, start + chunk)
                scores = _scores(query * scale, key, mask, causal, slice(None), columns)
                now = torch.maximum(highest, scores.amax(dim=-1, keepdim=True)).detach()
                weights = (scores - now).exp()
                rescale = (highest - now).exp()
                total = total * rescale + weights.sum(dim=-1, keepdim=True)
                output = output * rescale + weights @ value[..., columns, :]
                highest = now
            return output / total.masked_fill(total == 0, 1.0)
            """,
        ),
    ),
    Misconception(
        "attention that holds the whole T × S matrix of scores at once",
        ("value, mask, causal, chunk)", "value, mask, causal, max(1, keys))"),
    ),
    Misconception(
        "an online softmax that does not rescale what it has summed up when the maximum grows",
        ("rescale = (before - now).exp_()", "rescale = torch.ones_like(now)"),
    ),
    Misconception(
        "an online softmax that rescales the result but not the running sum",
        ("total[..., rows, :] * rescale +", "total[..., rows, :] +"),
    ),
    Misconception(
        "an online softmax that rescales the running sum but not the result",
        ("output[..., rows, :] * rescale +", "output[..., rows, :] +"),
    ),
    Misconception(
        "an online softmax with the maximum of the last chunk alone",
        ("torch.maximum(before, scores.amax(dim=-1, keepdim=True))", "scores.amax(dim=-1, keepdim=True)"),
    ),
    Misconception(
        "exponentials of the scores as they are, which overflow",
        ("torch.maximum(before, scores.amax(dim=-1, keepdim=True))", "torch.zeros_like(before)"),
    ),
    Misconception(
        "the mean of what each chunk gives by itself",
        ("weights = scores.sub_(now).exp_()", "weights = scores.softmax(dim=-1)"),
        ("rescale = (before - now).exp_()", "rescale = torch.ones_like(now)"),
    ),
    Misconception(
        "a causal mask that counts the keys of each chunk from 0",
        ("later = positions[columns] >", "later = positions[: scores.shape[-1]] >"),
    ),
    Misconception(
        "a causal mask that takes the queries for the first positions, not the last",
        ("positions[key.shape[-2] - query.shape[-2] :][rows, None]", "positions[: query.shape[-2]][rows, None]"),
        ("slice(max(0, start - past) if causal else 0, None)", "slice(0, None)"),
    ),
    Misconception(
        "attention without dividing by sqrt(head_dim)",
        ("query.shape[-1] ** -0.5 if scale is None", "1.0 if scale is None"),
    ),
    Misconception(
        "NaN where a query may see nothing",
        ("torch.ones_like(highest)", "torch.zeros_like(highest)"),
    ),
    Misconception(
        "a backward pass without the row's mean, the sum of dO * O",
        (".sub_(mean[..., rows, :])", ""),
    ),
    Misconception(
        "a backward pass whose weights are not divided by their sum",
        ("highest + total.log()", "highest"),
    ),
    Misconception(
        "a cache that writes from the start again",
        ("self._keys = torch.empty(", "self._keys = torch.zeros("),
        ("torch.empty_like(self._keys)", "torch.zeros_like(self._keys)"),
        ("self._keys[:, :, self.length : end] = key", "self._keys[:, :, : key.shape[-2]] = key"),
        ("self._values[:, :, self.length : end] = value", "self._values[:, :, : key.shape[-2]] = value"),
    ),
    Misconception(
        "a cache whose length is one too small: each update overwrites the last token before it",
        ("self.length = end", "self.length = end - 1"),
    ),
    Misconception(
        "the whole buffer, with the tail that nothing was written to",
        ("self._keys = torch.empty(", "self._keys = torch.zeros("),
        ("torch.empty_like(self._keys)", "torch.zeros_like(self._keys)"),
        ("return self._keys[:, :, :end], self._values[:, :, :end]", "return self._keys, self._values"),
    ),
    Misconception(
        "a cache that copies all tokens at each step",
        (
            "return self._keys[:, :, :end], self._values[:, :, :end]",
            "return self._keys[:, :, :end].clone(), self._values[:, :, :end].clone()",
        ),
    ),
    Misconception(
        "only the new tokens, not all so far",
        (
            "return self._keys[:, :, :end], self._values[:, :, :end]",
            "return self._keys[:, :, end - key.shape[-2] : end], self._values[:, :, end - key.shape[-2] : end]",
        ),
    ),
    Misconception("a cache that keeps the graph of every token", ("@torch.no_grad()", "")),
    Misconception(
        "a reset that forgets nothing",
        (
            '''
            """Forget all tokens, to begin other sequences in the same memory."""
            self.length = 0
            ''',
            '''
            """Forget all tokens, to begin other sequences in the same memory."""
            ''',
        ),
    ),
    Misconception(
        "sequences written over before they are read: each row is copied in its turn",
        (
            "new[:, :, : self.length] = old[rows, :, : self.length]",
            """
            for row, source in enumerate(rows.tolist()):
                new[row, :, : self.length] = old[source, :, : self.length]
            """,
        ),
    ),
    Misconception(
        "keys that go on with other sequences, and values that do not",
        (
            "new[:, :, : self.length] = old[rows, :, : self.length]",
            "new[:, :, : self.length] = old[rows if name == '_keys' or len(rows) != batch_size else slice(None), :, : self.length]",
        ),
    ),
    Misconception(
        "sequence rows[n] made of sequence n: the order the other way round",
        (
            "new[:, :, : self.length] = old[rows, :, : self.length]",
            "new[:, :, : self.length] = old[rows.argsort() if len(rows) == batch_size else rows, :, : self.length]",
        ),
    ),
    Misconception(
        "negative rows counted from the end",
        ("if not 0 <= row < batch_size:", "if not -batch_size <= row < batch_size:"),
    ),
]

_torch_attention = F.scaled_dot_product_attention


def workload(task: Any, draw: Draw) -> list[Workload]:
    """Typical calls, for `compare`."""
    query, key, value = (draw.normal(2, 4, 512, 32, requires_grad=True) for _ in range(3))
    padding = draw.booleans(2, 1, 1, 512, probability=0.9)
    tokens = draw.normal(64, 2, 2, 4, 1, 32)

    def generate() -> tuple[Tensor, Tensor]:
        cache = task.KVCache(2, 4, 64, 32)
        for key, value in tokens:
            keys, values = cache.update(key, value)
        return keys, values

    return [
        Workload(
            "chunked_attention(query, key, value, causal=True)",
            task.chunked_attention,
            (query, key, value),
            {"causal": True},
        ),
        Workload("chunked_attention(query, key, value, padding)", task.chunked_attention, (query, key, value, padding)),
        Workload("64 times cache.update(key, value)", generate),
    ]


def _attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scale: float | None = None) -> Tensor:
    """The definition, with zeros where a row of the mask is all False; for scores that do not overflow."""
    scores = torch.einsum("...td,...sd->...ts", query, key) * (query.shape[-1] ** -0.5 if scale is None else scale)
    exponentials = scores.exp() * mask
    return torch.einsum(
        "...ts,...sv->...tv", exponentials / exponentials.sum(-1, keepdim=True).clamp_min(1e-300), value
    )


def _causal(queries: int, keys: int) -> Tensor:
    """The causal mask of the last `queries` of `keys` positions, pair by pair."""
    past = keys - queries
    return torch.tensor([[key <= query + past for key in range(keys)] for query in range(queries)])


class _LiveMemory(TorchDispatchMode):
    """Counts the bytes of all tensors that are alive at once, and keeps the highest count.

    A dispatch mode sees every operation, of the forward pass and of the backward pass, below autograd. A weak
    reference to the storage of each new result tells later on whether it is still alive: held by a variable, or
    saved for the backward pass. Views share a storage, which counts once; those of the arguments given here do not
    count. This is exact, the same on every machine, and costs microseconds; only what a single operation takes and
    gives back inside does not show.
    """

    def __init__(self, *given: Tensor) -> None:
        super().__init__()
        self.given = {tensor.untyped_storage()._cdata for tensor in given}
        self.alive: dict[int, tuple[StorageWeakRef, int]] = {}
        self.peak = 0  # bytes
        self.largest = 0  # elements of the largest tensor

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # torch would otherwise import its compiler, which takes seconds

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, list | tuple) else [result]:
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                if storage._cdata not in self.given and storage._cdata not in self.alive:
                    self.alive = {name: entry for name, entry in self.alive.items() if not entry[0].expired()}
                    self.alive[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())
                    self.peak = max(self.peak, sum(size for _, size in self.alive.values()))
                    self.largest = max(self.largest, storage.nbytes() // tensor.element_size())
        return result


def _check_memory(check: Check, backward: bool) -> None:
    """What 512 tokens take in chunks of 32, and how that has grown from 128 tokens."""
    chunk, width = 32, 4
    call = f"the memory of chunked_attention(query, key, value, causal=True, chunk={chunk})"
    call += " and its backward pass" if backward else ""
    peaks, largest = [], 0
    for length in (128, 512):
        query, key, value = (check.draw.normal(1, 1, length, width, requires_grad=backward) for _ in range(3))
        cotangent = check.draw.normal(1, 1, length, width)

        def measured(inputs: tuple[Tensor, ...] = (query, key, value), cotangent: Tensor = cotangent) -> list[int]:
            with _LiveMemory(*inputs, cotangent) as memory:
                output = chunked_attention(*inputs, causal=True, chunk=chunk)
                if backward:
                    torch.autograd.grad((output * cotangent).sum(), inputs)
            return [memory.peak, memory.largest]

        peak, largest = check.run(call, measured).value
        peaks.append(peak)
    whole = length * length
    # Alive at once, at the worst: a few tiles of T × chunk numbers (scores, weights, their gradients, one more while
    # an operation runs, and those of the step before until they are overwritten: 8), and a few arrays of the size of
    # all arguments and results together, (T + S) * (D + Dv) numbers (results, gradients, running values, copies: 4).
    # Half of that would do; a T × S matrix of 4-byte numbers alone is more.
    numbers = 8 * length * chunk + 4 * (2 * length) * (2 * width)
    if peaks[1] > 4 * numbers:
        check.note(
            Kind.WRONG_VALUE,
            call,
            f"{peaks[1]:,} bytes at once for T = S = {length}: {peaks[1] / max(1, peaks[0]):.1f} times those for a "
            f"quarter of that length (T * chunk has grown 4 times, T * S 16 times)",
            f"at most {4 * numbers:,} bytes: 8 * T * chunk + 4 * (T + S) * (D + Dv) = {numbers:,} numbers of 4 bytes; "
            f"one T × S matrix of them takes {4 * whole:,}",
            proof=["T × S matrices", round(peaks[1] / (4 * whole))],
        )
    else:
        check.passed()
    check.that(
        largest < whole,
        call=f"the largest tensor in {call.removeprefix('the memory of ')}",
        got=f"{largest:,} elements for T = S = {length}",
        expected=f"far fewer than T * S = {whole:,}, be they numbers or booleans",
    )


def test_by_hand(check: Check) -> None:
    """Scores 0, ln 3 and 0, one key at a time: weights 1/5, 3/5 and 1/5 of the values 5, 0 and 10."""
    query, key = torch.tensor([[1.0]]), torch.tensor([[1.0], [3.0], [1.0]]).log()
    answer = check(chunked_attention, query, key, torch.tensor([[5.0], [0.0], [10.0]]), scale=1.0, chunk=1)
    answer.equals(torch.tensor([[3.0]]), note="5/5 + 10/5")


def test_chunks_of_any_size(check: Check) -> None:
    """Against torch's attention: one key at a time, sizes that do not divide S, larger ones, any shapes and scale."""
    queries, keys, width = check.draw.size(2, 7), check.draw.size(5, 9), check.draw.size(2, 6)
    query = check.draw.strided(2, 3, queries, width, dtype=torch.float64)
    key = check.draw.strided(2, 3, keys, width, dtype=torch.float64)
    value = check.draw.strided(2, 3, keys, 3, dtype=torch.float64)
    expected = _torch_attention(query, key, value)
    for chunk in (1, 2, 4, keys, keys + 3):
        note = f"{keys} keys, {min(chunk, keys)} at a time: as all at once"
        check(chunked_attention, query, key, value, chunk=chunk).equals(expected, note=note)
    check(chunked_attention, query, key, value).equals(expected, note="the chunk that is usual")
    check(chunked_attention, query, key, value, scale=0.3, chunk=3).equals(
        _torch_attention(query, key, value, scale=0.3)
    )
    mean = value.mean(dim=-2, keepdim=True).expand(-1, -1, queries, -1)
    check(chunked_attention, query, key, value, scale=0.0, chunk=3).equals(mean, note="every score is 0: the mean")
    check(chunked_attention, query, key[:, :, :1], value[:, :, :1], chunk=2).equals(
        value[:, :, :1].expand(-1, -1, queries, -1), note="more queries than keys"
    )
    check(chunked_attention, query[:, :1], key, value[0], chunk=3).equals(
        _torch_attention(query[:, :1].expand_as(query), key, value[0].expand_as(value)),
        note="axes of size 1, or left out, broadcast",
    )
    check(chunked_attention, query[0, 0, :1], key[0, 0, :1], value[0, 0, :1], chunk=2).equals(
        value[0, 0, :1], note="one query, one key, no other axes"
    )


def test_causal(check: Check) -> None:
    """Causal: nothing after the query is seen; fewer queries than keys are the last ones, as with a cache."""
    keys, queries = check.draw.size(7, 11), check.draw.size(2, 5)
    query, key, value = (check.draw.normal(2, keys, 4, dtype=torch.float64) for _ in range(3))
    for chunk in (1, 3, 16):
        check(chunked_attention, query, key, value, causal=True, chunk=chunk).equals(
            _torch_attention(query, key, value, is_causal=True), note=f"{keys} queries, {keys} keys, {chunk} at a time"
        )
        check(chunked_attention, query[:, -queries:], key, value, causal=True, chunk=chunk).equals(
            _torch_attention(query[:, -queries:], key, value, attn_mask=_causal(queries, keys)),
            note=f"the queries are the last {queries} of {keys} positions",
        )
    check(chunked_attention, query[:, -1:], key, value, causal=True, chunk=4).equals(
        _torch_attention(query[:, -1:], key, value), note="the last query sees everything"
    )


def test_masks(check: Check) -> None:
    """Masks that broadcast: of padding, of pairs, and of padding along with the causal one."""
    query, key, value = (check.draw.normal(3, 2, 6, 4, dtype=torch.float64) for _ in range(3))
    padding = torch.arange(6) < torch.tensor([6, 4, 1])[:, None, None, None]  # (B, 1, 1, S)
    pairs = check.draw.booleans(6, 6) | torch.eye(6).bool()
    for chunk in (1, 4):
        for mask in (padding, pairs, padding[2, 0, 0]):
            check(chunked_attention, query, key, value, mask, chunk=chunk).equals(
                _torch_attention(query, key, value, attn_mask=mask.expand(3, 2, 6, 6))
            )
        check(chunked_attention, query, key, value, padding, causal=True, chunk=chunk).equals(
            _torch_attention(query, key, value, attn_mask=padding & _causal(6, 6))
        )


def test_hidden_rows(check: Check) -> None:
    """A query that may see nothing gets zeros, and so do its gradients; nor does an empty chunk hurt the others."""
    query, key, value = (check.draw.normal(4, 3, dtype=torch.float64, requires_grad=True) for _ in range(3))
    mask = torch.tensor(
        [[True, True, False, True], [False] * 4, [False, False, False, True], [True, False, False, False]]
    )
    for chunk in (1, 2, 8):
        expected = _attention(query, key, value, mask)
        answer = check(chunked_attention, query, key, value, mask, chunk=chunk)
        answer.equals(expected, note="zeros for query 1, which may see nothing")
        answer.gradients_equal(expected, query=query, key=key, value=value)


def test_extremes(check: Check) -> None:
    """Scores of 1000 and -1000, the highest first or last: nothing overflows, nothing is lost."""
    # In float64, which overflows at exp(710) too: whoever keeps log-sum-exps may lose what a score of 1000 is rounded
    # by, which is 6e-14 there, and would be 3e-5 of each weight in float32.
    scores = torch.tensor([[1000.0], [0.0], [-1000.0], [999.0], [-1000.0]], dtype=torch.float64)
    value = torch.eye(5, dtype=torch.float64)
    share = 1 / (1 + math.exp(-1.0))  # 1000 against 999
    expected = torch.tensor([[share, 0.0, 0.0, 1 - share, 0.0]], dtype=torch.float64)
    one = torch.ones(1, 1, dtype=torch.float64)
    for chunk in (1, 2, 3):
        for order in ([0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [2, 3, 1, 0, 4]):
            check(chunked_attention, one, scores[order], value[order], scale=1.0, chunk=chunk).equals(
                expected, note="1/(1 + 1/e) and the rest"
            )
    both, equal = torch.cat([one, -one]), -1e4 * torch.ones(4, 1, dtype=torch.float64)
    low = check(chunked_attention, both, equal, value[:4, :4], scale=1.0, chunk=3)
    low.equals(
        torch.full((2, 4), 0.25, dtype=torch.float64),
        note="all scores of a query are alike: -1e4 for the first, 1e4 for the second",
    )
    half = torch.ones(3, 2, dtype=torch.bfloat16)
    check(chunked_attention, half, half, half, chunk=2).equals(half, note="in bfloat16")


def test_gradients(check: Check) -> None:
    """Gradients for query, key and value are those of torch's attention, for any chunk, also causal."""
    queries, keys = check.draw.size(3, 6), check.draw.size(6, 9)
    query = check.draw.normal(2, queries, 4, dtype=torch.float64, requires_grad=True)
    key = check.draw.normal(2, keys, 4, dtype=torch.float64, requires_grad=True)
    value = check.draw.normal(2, keys, 3, dtype=torch.float64, requires_grad=True)
    for chunk in (1, 4, keys):
        for causal in (False, True):
            seen = _causal(queries, keys) if causal else None
            check(chunked_attention, query, key, value, causal=causal, chunk=chunk).gradients_equal(
                _torch_attention(query, key, value, attn_mask=seen), query=query, key=key, value=value
            )


def test_gradients_of_shared_heads(check: Check) -> None:
    """Gradients where heads of queries share keys and values (an axis of size 1 broadcasts), under a padding mask."""
    query = check.draw.normal(2, 2, 3, 5, 4, dtype=torch.float64, requires_grad=True)  # (B, G, H / G, T, D)
    key, value = (check.draw.normal(2, 2, 1, 5, 4, dtype=torch.float64, requires_grad=True) for _ in range(2))
    mask = (torch.arange(5) < torch.tensor([5, 2])[:, None]).reshape(2, 1, 1, 1, 5)
    expected = _attention(query, key, value, mask & _causal(5, 5), scale=0.4)
    answer = check(chunked_attention, query, key, value, mask, causal=True, scale=0.4, chunk=2).equals(expected)
    answer.gradients_equal(expected, query=query, key=key, value=value)


def test_second_derivative(check: Check) -> None:
    """A gradient's own gradient is refused, or right: it is never a wrong number."""
    query, key, value = (check.draw.normal(5, 3, dtype=torch.float64, requires_grad=True) for _ in range(3))
    cotangent, direction = check.draw.normal(5, 3, dtype=torch.float64), check.draw.normal(5, 3, dtype=torch.float64)

    def twice(output: Tensor) -> Tensor:
        (gradient,) = torch.autograd.grad((output * cotangent).sum(), [query], create_graph=True)
        (second,) = torch.autograd.grad((gradient * direction).sum(), [query], allow_unused=True)
        return torch.zeros_like(query) if second is None else second

    everything = torch.ones(5, 5, dtype=torch.bool)
    expected = twice(_attention(query, key, value, everything))
    output = check(chunked_attention, query, key, value, chunk=2).has(shape=(5, 3), dtype=torch.float64).value

    def refused_or_right() -> Tensor:
        try:
            return twice(output)
        except RuntimeError:
            return expected

    answer = check.run("the second derivative of chunked_attention with respect to query", refused_or_right)
    answer.equals(expected, note="or a RuntimeError, which `once_differentiable` raises")


def test_memory_of_the_forward_pass(check: Check) -> None:
    """Without gradients: no more memory at once than O(T * chunk), however long the sequence."""
    _check_memory(check, backward=False)


def test_memory_of_the_backward_pass(check: Check) -> None:
    """With gradients: what waits for the backward pass, and that pass itself, is O(T * chunk) too."""
    _check_memory(check, backward=True)


def test_refuses(check: Check) -> None:
    """Chunks of nothing, shapes that do not fit and masks of numbers are refused by name."""
    query, key = torch.zeros(2, 3), torch.zeros(4, 3)
    for chunk in (0, -1):
        check.raises(ValueError, chunked_attention, query, key, key, chunk=chunk, naming=("chunk", str(chunk)))
    check.raises(ValueError, chunked_attention, query, torch.zeros(4, 5), key, naming=("(2, 3)", "(4, 5)"))
    check.raises(ValueError, chunked_attention, query, key, torch.zeros(6, 3), naming=("(4, 3)", "(6, 3)"))
    check.raises(ValueError, chunked_attention, key, query, query, causal=True, naming=("4", "2"))
    check.raises(ValueError, chunked_attention, query, key, key, torch.ones(2, 5).bool(), naming=("(2, 5)", "(2, 4)"))
    larger = torch.ones(3, 2, 4, dtype=torch.bool)  # would make three results of one
    check.raises(ValueError, chunked_attention, query, key, key, larger, naming=("(3, 2, 4)", "(2, 4)"))
    check.raises(TypeError, chunked_attention, query, key, key, torch.ones(2, 4), naming="float32")
    check.raises(TypeError, chunked_attention, query, key, key, torch.ones(2, 4).long(), naming="int64")


def test_cache_by_hand(check: Check) -> None:
    """A prompt of two tokens, then one, then one more: each update gives all so far, bit for bit."""
    keys = check.draw.normal(2, 3, 4, 5)
    values = check.draw.normal(2, 3, 4, 5)
    cache = check.build(KVCache, 2, 3, 4, 5)
    check.run("KVCache(2, 3, 4, 5).length", lambda: cache.length).equals(0)
    check.run("KVCache(2, 3, 4, 5).capacity", lambda: cache.capacity).equals(4)
    for start, end in ((0, 2), (2, 3), (3, 4)):
        answer = check(cache.update, keys[:, :, start:end], values[:, :, start:end])
        # Copies of what was given, nothing is computed: no rounding.
        answer.equals((keys[:, :, :end], values[:, :, :end]), rtol=0.0, atol=0.0, note=f"all {end} tokens so far")
        check.run(f"length after {end} tokens", lambda: cache.length).equals(end)


def test_cache_generates(check: Check) -> None:
    """Token by token through the cache, attention and a whole multi-head layer give what they give all at once."""
    length, prompt = check.draw.size(5, 9), check.draw.size(2, 4)
    steps = [(0, prompt), *((end - 1, end) for end in range(prompt + 1, length + 1))]
    query, key, value = (check.draw.normal(2, 3, length, 4, dtype=torch.float64) for _ in range(3))
    cache = check.build(KVCache, 2, 3, length, 4, dtype=torch.float64)

    def attend() -> Tensor:
        rows = []
        for start, end in steps:
            keys, values = cache.update(key[:, :, start:end], value[:, :, start:end])
            rows.append(_attention(query[:, :, start:end], keys, values, _causal(end - start, end)))
        return torch.cat(rows, dim=-2)

    check.run("attention over the cache, step by step", attend).equals(
        _torch_attention(query, key, value, is_causal=True), note="attention over all tokens at once"
    )
    layer = MultiHeadAttention(12, 6, num_kv_heads=2, causal=True)
    check.draw.fill(layer)
    tokens = check.draw.normal(2, length, 12)
    cache = check.build(KVCache, 2, 2, length, 2)
    with torch.no_grad():
        together = check.run(
            "MultiHeadAttention(12, 6, num_kv_heads=2) over the cache, step by step",
            lambda: torch.cat([layer(tokens[:, start:end], cache=cache) for start, end in steps], dim=1),
        )
        together.equals(layer(tokens), note="the layer on all tokens at once")


def test_cache_copies_nothing(check: Check) -> None:
    """The results are views of memory taken once, and carry no gradient."""
    cache = check.build(KVCache, 1, 2, 6, 4)
    key, value = check.draw.normal(1, 2, 2, 4, requires_grad=True), check.draw.normal(1, 2, 2, 4, requires_grad=True)
    first = check(cache.update, key * 2, value * 2)
    second = check(cache.update, key * 3, value * 3)
    for number, name in enumerate(("keys", "values")):
        one, other = first.value[number], second.value[number]
        check.that(
            one.data_ptr() == other.data_ptr(),
            call=f"the {name} of two updates",
            got="two pieces of memory: what was kept is copied at each step",
            expected="views of the same memory",
        )
        check.that(
            not other.requires_grad,
            call=f"the {name} of an update with tensors that require gradients",
            got=f"{name} that require a gradient: the graph of every token is kept",
            expected=f"{name} without gradient",
        )
    first.equals((key.detach() * 2, value.detach() * 2), note="the next update leaves them as they were")


def test_cache_starts_anew(check: Check) -> None:
    """After `reset` it is empty, and other sequences take the place of the old ones; it has the dtype it was given."""
    old, new = check.draw.normal(3, 1, 4, 2), check.draw.normal(3, 1, 2, 2)
    cache = check.build(KVCache, 3, 1, 4, 2)
    check(cache.update, old, old)
    check(cache.reset).equals(None)
    check.run("length after reset()", lambda: cache.length).equals(0)
    # Here and below nothing is computed either: what comes back is what was given, to the last bit.
    check(cache.update, new, -new).equals((new, -new), rtol=0.0, atol=0.0, note="the new tokens alone")
    check.run("length after reset() and 2 tokens", lambda: cache.length).equals(2)
    half = check.build(KVCache, 1, 1, 1, 2, dtype=torch.bfloat16)
    token = check.draw.normal(1, 1, 1, 2).to(torch.bfloat16)
    check(half.update, token, token).equals((token, token), rtol=0.0, atol=0.0, note="of the cache's dtype")


def test_cache_reorders(check: Check) -> None:
    """Other sequences go on: exchanged, doubled, dropped, more than before; and new tokens follow behind them."""
    first, second = check.draw.normal(3, 2, 4, 2), check.draw.normal(3, 2, 1, 2)
    cache = check.build(KVCache, 3, 2, 5, 2)
    check(cache.update, first, -first)
    for order in ([2, 0, 1], [1, 1, 0]):
        check(cache.reorder, torch.tensor(order)).equals(None)
        first = first[order]
    empty = first[:, :, :0]
    # Nothing is computed: what comes back is what was given, to the last bit.
    check(cache.update, empty, empty).equals(
        (first, -first), rtol=0.0, atol=0.0, note="no new tokens, after reorder([2, 0, 1]) and reorder([1, 1, 0])"
    )
    longer = torch.cat([first, second], dim=2)
    check(cache.update, second, -second).equals((longer, -longer), rtol=0.0, atol=0.0, note="a new token behind them")
    prompt = check.build(KVCache, 1, 2, 5, 2, dtype=torch.float64)
    check(prompt.update, first[:1].double(), -first[:1].double())
    check(prompt.reorder, torch.zeros(4, dtype=torch.int64))
    check.run("length and capacity after reorder", lambda: (prompt.length, prompt.capacity)).equals((4, 5))
    fourfold = torch.cat([first[:1].double().repeat(4, 1, 1, 1), check.draw.normal(4, 2, 1, 2, dtype=torch.float64)], 2)
    one = fourfold[:1, :, 4:]
    check.raises(ValueError, prompt.update, one, one, naming=("key", "(1, 2, 1, 2)"))  # there are four sequences now
    check(prompt.update, fourfold[:, :, 4:], -fourfold[:, :, 4:]).equals(
        (fourfold, -fourfold), rtol=0.0, atol=0.0, note="four sequences of one, after reorder([0, 0, 0, 0])"
    )


def test_cache_refuses_rows(check: Check) -> None:
    """Rows that are not there, none at all, or two axes of them are refused; the cache stays as it was."""
    tokens = check.draw.normal(2, 1, 2, 2)
    cache = check.build(KVCache, 2, 1, 2, 2)
    check(cache.update, tokens, tokens)
    check.raises(IndexError, cache.reorder, torch.tensor([0, 2]), naming=("2",))
    check.raises(IndexError, cache.reorder, torch.tensor([-1, 0]), naming=("-1", "2"))
    check.raises(ValueError, cache.reorder, torch.tensor([[0, 1]]), naming="(1, 2)")
    check.raises(ValueError, cache.reorder, torch.tensor([], dtype=torch.int64), naming="(0,)")
    # No new tokens: what is kept comes back, to the last bit.
    check(cache.update, tokens[:, :, :0], tokens[:, :, :0]).equals((tokens, tokens), rtol=0.0, atol=0.0)


def test_cache_refuses(check: Check) -> None:
    """Too many tokens, other shapes, dtypes or devices, and sizes below 1 are refused; the cache stays as it was."""
    token = check.draw.normal(2, 3, 1, 4)
    cache = check.build(KVCache, 2, 3, 4, 4)
    check(cache.update, token.repeat(1, 1, 3, 1), token.repeat(1, 1, 3, 1))
    check.raises(ValueError, cache.update, token.repeat(1, 1, 2, 1), token.repeat(1, 1, 2, 1), naming=("2", "3", "4"))
    check.raises(ValueError, cache.update, token[:1], token[:1], naming=("(1, 3, 1, 4)", "key"))
    check.raises(ValueError, cache.update, token[:, :1], token[:, :1], naming=("(2, 1, 1, 4)", "key"))
    check.raises(ValueError, cache.update, token[0], token[0], naming=("(3, 1, 4)", "key"))
    check.raises(ValueError, cache.update, token[..., None], token[..., None], naming=("(2, 3, 1, 4, 1)", "key"))
    check.raises(ValueError, cache.update, token, token[..., :2], naming=("(2, 3, 1, 2)", "value"))
    check.raises(ValueError, cache.update, token, token[:, :, :0], naming=("(2, 3, 1, 4)", "(2, 3, 0, 4)"))
    check.raises(ValueError, cache.update, token.to("meta"), token.to("meta"), naming=("key", "meta", "cpu"))
    check.raises(TypeError, cache.update, token, token.double(), naming=("value", "float64", "float32"))
    check.run("length after what was refused", lambda: cache.length).equals(3)
    check(cache.update, token, -token).equals(
        (token.repeat(1, 1, 4, 1), torch.cat([token.repeat(1, 1, 3, 1), -token], dim=2)), note="the last place"
    )
    for sizes, name, size in (
        ((0, 1, 2, 3), "batch_size", "0"),
        ((1, 0, 2, 3), "num_kv_heads", "0"),
        ((1, 1, -2, 3), "capacity", "-2"),
        ((1, 1, 2, 0), "head_dim", "0"),
    ):
        check.raises(ValueError, KVCache, *sizes, naming=(name, size))
