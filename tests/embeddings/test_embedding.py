"""Grades embeddings/embedding.

The oracle is torch.nn.Embedding, by its function, on the learner's own weight; beside it products with one-hot vectors.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from checkpoints.checks import Check, Draw, Stop, Workload
from checkpoints.misconceptions import Misconception
from checkpoints.verdicts import Kind
from exercises.embeddings.embedding import Embedding

MISCONCEPTIONS = [
    Misconception(
        "negative tokens counted from the end, as indices are: -1 is not the last token, it is none",
        ("if not 0 <= token < self.num_embeddings:", "if token >= self.num_embeddings:"),
    ),
    Misconception(
        "tokens out of range moved to the nearest row: that hides the error that made them",
        ("if not 0 <= token < self.num_embeddings:", "if False:"),
        ("self.weight[tokens]", "self.weight[tokens.clamp(0, self.num_embeddings - 1)]"),
    ),
    Misconception(
        "floating tokens made whole without a word",
        ("if tokens.dtype not in (torch.int32, torch.int64):", "if tokens.dtype in (torch.bool, torch.uint8):"),
        ("self.weight[tokens]", "self.weight[tokens.long()]"),
    ),
    Misconception(
        "any whole numbers accepted: to an index, a tensor of uint8 or bool is a mask",
        ("if tokens.dtype not in (torch.int32, torch.int64):", "if tokens.is_floating_point():"),
    ),
    Misconception("a padding row that is trained like any other", ("if self.padding_idx is None:", "if True:")),
    Misconception(
        "zeros for the padding token, whatever its row holds",
        ("vectors.detach(), vectors)", "torch.zeros_like(vectors), vectors)"),
    ),
    Misconception("a padding row that begins with random numbers", ("weight[padding_idx] = 0.0", "pass")),
    Misconception(
        "padding_idx=0 taken for none: `if padding_idx` is false for the token 0 too",
        ("if padding_idx is not None:", "if padding_idx:"),
        ("if self.padding_idx is None:", "if not self.padding_idx:"),
    ),
    Misconception(
        "the gradient of the padding row blocked for every use of the weight, not for the lookup alone",
        ("if self.padding_idx is None:", "if True:"),
        (
            "self.weight = nn.Parameter(weight)",
            """
            self.weight = nn.Parameter(weight)
            if padding_idx is not None:
                self.weight.register_hook(lambda grad: grad.index_fill(0, torch.tensor([padding_idx]), 0.0))
            """,
        ),
    ),
    Misconception("weights uniform on [0, 1) in the place of normal ones", ("torch.randn(", "torch.rand(")),
    Misconception(
        "weights of variance 1/embedding_dim in the place of 1",
        ("embedding_dim, generator=generator)", "embedding_dim, generator=generator) / embedding_dim**0.5"),
    ),
    Misconception("weights not drawn from the generator", ("embedding_dim, generator=generator)", "embedding_dim)")),
    Misconception(
        "a weight that is a buffer: no optimizer sees it",
        ("self.weight = nn.Parameter(weight)", 'self.register_buffer("weight", weight)'),
    ),
    Misconception(
        "the weight transposed, a column for each token: it takes a row",
        (
            "torch.randn(num_embeddings, embedding_dim, generator",
            "torch.randn(embedding_dim, num_embeddings, generator",
        ),
        ("weight[padding_idx] = 0.0", "weight[:, padding_idx] = 0.0"),
        ("self.weight[tokens]", "self.weight.T[tokens]"),
    ),
    Misconception(
        "a lookup in weight.data, which no gradient passes through", ("self.weight[tokens]", "self.weight.data[tokens]")
    ),
    Misconception(
        "of a token that occurs more than once, only one occurrence in the gradient: they add up",
        ("self.weight[tokens]", "_Lookup.apply(self.weight, tokens)"),
        (
            "class Embedding(nn.Module):",
            """
            class _Lookup(torch.autograd.Function):
                @staticmethod
                def forward(ctx, weight, tokens):
                    ctx.save_for_backward(weight, tokens)
                    return weight[tokens]

                @staticmethod
                def backward(ctx, gradient):
                    weight, tokens = ctx.saved_tensors
                    rows = torch.zeros_like(weight)
                    rows[tokens] = gradient
                    return rows, None


            class Embedding(nn.Module):
            """,
        ),
    ),
    Misconception(
        "one row of vectors: the shape of the tokens lost",
        ("vectors = self.weight[tokens]", "tokens = tokens.flatten()\nvectors = self.weight[tokens]"),
    ),
]


def workload(task: Any, draw: Draw) -> list[Workload]:
    """Typical calls, for `compare`."""
    plain: Any = draw.fill(task.Embedding(8192, 128))
    padded: Any = draw.fill(task.Embedding(8192, 128, padding_idx=0))
    tokens = draw.integers(0, 8192, 8, 256)
    return [
        Workload("Embedding(8192, 128)(tokens)", plain, (tokens,)),
        Workload("Embedding(8192, 128, padding_idx=0)(tokens)", padded, (tokens,)),
    ]


def _shapes(entries: Callable[[], Any]) -> dict[str, str]:
    return {name: f"shape {tuple(entry.shape)}" for name, entry in dict(entries()).items()}


def _loaded(check: Check, size: int, dim: int, **options: Any) -> tuple[Any, Tensor]:
    """The learner's module, and the weight that was copied into it (its padding row is not zero)."""
    module = check.build(Embedding, size, dim, **options)
    weight = check.draw.normal(size, dim)
    check.load(module, {"weight": weight})
    return module, weight


def _total(check: Check, module: Any, tokens: Tensor, cotangent: Tensor) -> Tensor:
    """The sum of a lookup's vectors times what comes back to them; ends the check where no gradient can."""
    answer = check(module, tokens).has(shape=cotangent.shape)
    got = "vectors that require no gradient: the graph is cut"
    wanted = "vectors that the weight gets its gradient through"
    answer.satisfies(answer.value.requires_grad, got=got, expected=wanted, kind=Kind.NO_GRADIENT)
    if not answer.value.requires_grad:
        raise Stop
    return (answer.value * cotangent).sum()


def _gradient(total: Tensor, module: Any) -> Tensor:
    return torch.autograd.grad(total, module.weight, retain_graph=True)[0]


def test_parameters(check: Check) -> None:
    """Its one parameter is the weight, a row for each token, and the state_dict has nothing else."""
    for options in ({}, {"padding_idx": 2}):
        module = check.build(Embedding, 7, 3, **options)
        text = f"Embedding(7, 3{', padding_idx=2' if options else ''})"
        expected = {"weight": "shape (7, 3)"}
        check.run(f"the parameters of {text}", partial(_shapes, module.named_parameters)).equals(expected)
        check.run(f"the state_dict of {text}", partial(_shapes, module.state_dict)).equals(expected)


def test_by_hand(check: Check) -> None:
    """Tokens 2, 0 and 2 again: rows 2, 0 and 2 of the weight."""
    module = check.build(Embedding, 3, 2)
    check.load(module, {"weight": torch.tensor([[0.0, 1.0], [10.0, 11.0], [20.0, 21.0]])})
    check(module, torch.tensor([2, 0, 2])).equals(torch.tensor([[20.0, 21.0], [0.0, 1.0], [20.0, 21.0]]))


def test_any_shape(check: Check) -> None:
    """Tokens of any shape, int64 and int32, get a vector each, as from torch's Embedding."""
    size, dim = check.draw.size(5, 12), check.draw.size()
    module, weight = _loaded(check, size, dim)
    for shape in ((4,), (3, 5), (2, 3, 2)):
        tokens = check.draw.integers(0, size, *shape)
        check(module, tokens).equals(F.embedding(tokens, weight))
        check(module, tokens.int()).equals(F.embedding(tokens, weight), note="of int32 tokens")
    tokens = check.draw.integers(0, size, 4, 6)[:, ::2].T
    check(module, tokens).equals(F.embedding(tokens, weight), note="of tokens that are not contiguous")


def test_one_hot(check: Check) -> None:
    """A lookup is a product with one-hot vectors; an exchange of two tokens is one of two rows."""
    size, dim = check.draw.size(5, 12), check.draw.size()
    module, weight = _loaded(check, size, dim)
    tokens, names = check.draw.integers(0, size, 3, 7), check.draw.permutation(size)
    one_hot = F.one_hot(tokens, size).to(weight.dtype)
    check(module, tokens).equals(one_hot @ weight)
    check.load(module, {"weight": weight[names]})
    check(module, names.argsort()[tokens]).equals(one_hot @ weight, note="tokens and rows numbered anew alike")


def test_gradient_by_hand(check: Check) -> None:
    """In the gradient, the two occurrences of token 2 add up, and token 1, which does not occur, gets 0."""
    module = check.build(Embedding, 3, 2)
    check.load(module, {"weight": check.draw.normal(3, 2)})
    tokens, cotangent = torch.tensor([2, 0, 2]), torch.tensor([[1.0, 2.0], [10.0, 20.0], [100.0, 200.0]])
    total = _total(check, module, tokens, cotangent)
    answer = check.run(
        "the gradient of weight, where 1, 2 and 10, 20 and 100, 200 come back to tokens 2, 0 and 2",
        lambda: _gradient(total, module),
    )
    # Exact, in whatever order they are added: float32 has every whole number of this size.
    answer.equals(torch.tensor([[10.0, 20.0], [0.0, 0.0], [101.0, 202.0]]), rtol=0.0, atol=0.0)


def test_gradients(check: Check) -> None:
    """The gradient of the weight is that of torch's Embedding, also with many repetitions."""
    for size, shape in ((9, (2, 5)), (4, (3, 4, 5))):
        module, _ = _loaded(check, size, check.draw.size())
        tokens = check.draw.integers(0, size, *shape)
        expected = F.embedding(tokens, module.weight)
        check(module, tokens).equals(expected).gradients_equal(expected, weight=module.weight)


def test_padding(check: Check) -> None:
    """The padding row is returned as it is, zeros or not, and gets no gradient; padding_idx=0 is one too."""
    size, dim = check.draw.size(4, 9), check.draw.size()
    for padding_idx in (check.draw.integer(1, size - 1), 0, size - 1):
        module, weight = _loaded(check, size, dim, padding_idx=padding_idx)
        check(module, torch.tensor([padding_idx])).equals(weight[None, padding_idx], note="the padding row as it is")
        tokens = check.draw.integers(0, size, 4, 5)
        tokens[:, 3] = padding_idx
        expected = F.embedding(tokens, module.weight, padding_idx=padding_idx)
        check(module, tokens).equals(expected).gradients_equal(expected, weight=module.weight)


def test_padding_gradient_is_zero(check: Check) -> None:
    """The padding row's gradient is exactly 0; by another use of the weight than the lookup it gets one."""
    module = check.build(Embedding, 3, 2, padding_idx=1)
    check.load(module, {"weight": check.draw.normal(3, 2)})
    tokens, cotangent = torch.tensor([0, 1, 1]), torch.tensor([[1.0, 2.0], [10.0, 20.0], [100.0, 200.0]])
    total = _total(check, module, tokens, cotangent)
    answer = check.run(
        "the gradient of weight by a lookup of tokens 0, 1 and 1, of which 1 is padding",
        lambda: _gradient(total, module),
    )
    # Exact, here and below: whole numbers, and sums of two of them.
    answer.equals(torch.tensor([[1.0, 2.0], [0.0, 0.0], [0.0, 0.0]]), rtol=0.0, atol=0.0)
    other = torch.tensor([[3.0, 4.0], [5.0, 6.0], [7.0, 8.0]])
    answer = check.run(
        "the gradient of weight by that lookup and by a sum over all of weight together",
        lambda: _gradient(total + (module.weight * other).sum(), module),
    )
    answer.equals(torch.tensor([[4.0, 6.0], [5.0, 6.0], [7.0, 8.0]]), rtol=0.0, atol=0.0)


def test_first_weights(check: Check) -> None:
    """The weight begins as standard normal numbers, the padding row as zeros."""
    module = check.build(Embedding, 250, 40)
    weight = check.run("Embedding(250, 40).weight", lambda: module.weight).has(shape=(250, 40)).value.detach()
    # Of N = 10,000 numbers the mean has a standard deviation of 0.01, the variance one of sqrt(2 / N) = 0.014, and
    # the share within one standard deviation (0.683) one of sqrt(0.683 * 0.317 / N) = 0.0047: six of each.
    mean, variance = weight.mean().item(), weight.var().item()
    share = (weight.abs() < 1).float().mean().item()
    call = "the numbers in Embedding(250, 40).weight"
    got = f"a mean of about {round(mean, 1) + 0.0} and a variance of about {variance:.1f}"  # no -0.0
    expected = "mean 0 and variance 1, but for chance"
    check.that(abs(mean) < 0.06 and abs(variance - 1) < 0.085, call=call, got=got, expected=expected)
    share_text = f"{share:.0%} of them between -1 and 1"
    check.that(abs(share - 0.6827) < 0.028, call=call, got=share_text, expected="68% of them, as of a normal variable")
    for padding_idx in (3, 0):
        padded = check.build(Embedding, 5, 4, padding_idx=padding_idx)
        text = f"Embedding(5, 4, padding_idx={padding_idx}).weight"
        rows = check.run(f"which rows of {text} are zeros", lambda: (padded.weight == 0).all(dim=1))  # noqa: B023
        rows.equals(torch.arange(5) == padding_idx)


def test_generator(check: Check) -> None:
    """The weight is drawn from the generator, or from torch's global one: the same seed, the same weight."""
    seed, size, dim = check.draw.seed(), check.draw.size(), check.draw.size()
    first, again = (check.build(Embedding, size, dim, generator=torch.Generator().manual_seed(seed)) for _ in range(2))
    other = check.build(Embedding, size, dim, generator=torch.Generator().manual_seed(seed + 1))
    answer = check.run("the weight from a generator of the same seed", lambda: again.weight)
    answer.equals(first.weight, rtol=0.0, atol=0.0)  # the same draws and the same operations: the same bits
    answer = check.run("the weight from a generator of another seed", lambda: other.weight)
    answer.satisfies(not answer.value.equal(first.weight), got="the same weight as before", expected="another")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = check.build(Embedding, size, dim)
        following = check.build(Embedding, size, dim)
        torch.manual_seed(seed)
        again = check.build(Embedding, size, dim)
    answer = check.run("the weight from torch's global generator of the same seed", lambda: again.weight)
    answer.equals(module.weight, rtol=0.0, atol=0.0)  # the same bits, as above
    answer = check.run("the weight of the next Embedding, without a generator", lambda: following.weight)
    answer.satisfies(not answer.value.equal(module.weight), got="the same weight as before", expected="another")


def test_edges(check: Check) -> None:
    """No tokens, a single one without axes, a vocabulary of one, a weight of float64 and of bfloat16."""
    module, weight = _loaded(check, 5, 3, padding_idx=1)
    for empty in (torch.zeros(0, dtype=torch.int64), torch.zeros(2, 0, dtype=torch.int32)):
        check(module, empty).equals(torch.zeros(*empty.shape, 3), note="no tokens, no vectors")
    check(module, torch.tensor(4)).equals(weight[4], note="one token without axes, one vector")
    check(module, torch.tensor([[0]])).equals(weight[:1, None], note="a batch of one sequence of one")
    alone, row = _loaded(check, 1, 1)
    check(alone, torch.tensor([0, 0])).equals(row.expand(2, 1))
    check.mutating(module.double)
    check.load(module, {"weight": check.draw.normal(5, 3, dtype=torch.float64)})
    tokens = torch.tensor([[4, 1, 0], [0, 1, 4]])
    expected = F.embedding(tokens, module.weight, padding_idx=1)
    check(module, tokens).equals(expected).gradients_equal(expected, weight=module.weight)
    check.mutating(module.bfloat16)
    answer = check(module, tokens)
    answer.equals(expected.detach().bfloat16(), note="of a weight of bfloat16, vectors of bfloat16")


def test_refuses_tokens_out_of_range(check: Check) -> None:
    """A token of V or more is refused; the message names it and V."""
    module, _ = _loaded(check, 11, 3)
    for tokens in (torch.tensor([[3, 17], [0, 1]]), torch.tensor(29), torch.tensor([5, 17], dtype=torch.int32)):
        check.raises(IndexError, module, tokens, naming=(str(int(tokens.max())), "11"))
    check.raises(IndexError, module, torch.tensor([10, 11, 0]), naming="11")


def test_refuses_negative_tokens(check: Check) -> None:
    """A negative token is refused too: it does not count from the end."""
    module, _ = _loaded(check, 11, 3)
    check.raises(IndexError, module, torch.tensor([[3, -1], [0, 10]]), naming=("-1", "11"))
    check.raises(IndexError, module, torch.tensor([-17, 2]), naming=("-17", "11"))


def test_refuses_other_dtypes(check: Check) -> None:
    """Tokens that are no int32 or int64 are refused by their dtype: floats, booleans, and uint8 too."""
    module, _ = _loaded(check, 3, 2)
    check.raises(TypeError, module, torch.tensor([1.0, 0.5]), naming="float32")
    check.raises(TypeError, module, torch.tensor([True, False, True]), naming="bool")
    check.raises(TypeError, module, torch.tensor([1, 0, 1], dtype=torch.uint8), naming="uint8")
    check.raises(TypeError, module, torch.tensor([1, 0, 1], dtype=torch.int16), naming="int16")


def test_refuses_sizes(check: Check) -> None:
    """No tokens, no width, a padding token that does not exist: refused by name and value."""
    check.raises(ValueError, Embedding, 0, 4, naming=("num_embeddings", "0"))
    check.raises(ValueError, Embedding, -3, 4, naming=("num_embeddings", "-3"))
    check.raises(ValueError, Embedding, 4, 0, naming=("embedding_dim", "0"))
    check.raises(ValueError, Embedding, 4, -2, naming=("embedding_dim", "-2"))
    check.raises(ValueError, Embedding, 4, 2, padding_idx=4, naming=("padding_idx", "4"))
    check.raises(ValueError, Embedding, 4, 2, padding_idx=-1, naming=("padding_idx", "-1"))
