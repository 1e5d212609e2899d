"""Grades embeddings/custom.

The oracles are torch.nn.EmbeddingBag, by its function, on the learner's own weight; closed forms of the scaled and the
factorised vectors; and the identity of parameters.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from checkpoints.checks import Check, Draw, Workload
from checkpoints.misconceptions import Misconception
from exercises.embeddings.custom import EmbeddingBag, FactorizedEmbedding, ScaledEmbedding, TiedOutput
from exercises.embeddings.embedding import Embedding

MISCONCEPTIONS = [
    Misconception(
        "vectors multiplied by embedding_dim in the place of its square root",
        ("self.scale = math.sqrt(embedding_dim)", "self.scale = float(embedding_dim)"),
    ),
    Misconception(
        "vectors divided by sqrt(embedding_dim): it is a factor",
        ("super().forward(tokens) * self.scale", "super().forward(tokens) / self.scale"),
    ),
    Misconception(
        "vectors multiplied by the square root of the number of tokens, not of the width",
        ("self.scale = math.sqrt(embedding_dim)", "self.scale = math.sqrt(num_embeddings)"),
    ),
    Misconception(
        "a scaled embedding whose weight begins with variance 1: its vectors then have variance embedding_dim",
        ("self.weight.div_(self.scale)", "pass"),
    ),
    Misconception(
        "a scaled embedding without its padding token",
        (
            "super().__init__(num_embeddings, embedding_dim, padding_idx=padding_idx, generator=generator)",
            "super().__init__(num_embeddings, embedding_dim, generator=generator)",
        ),
    ),
    Misconception(
        "a projection with a bias, which makes something of the zeros of the padding",
        ("embedding_dim, bias=False)", "embedding_dim)"),
    ),
    Misconception(
        "the factors multiplied at construction: weights that are loaded or trained later are not in the product",
        (
            "nn.init.normal_(self.projection.weight, std=1.0 / math.sqrt(rank), generator=generator)",
            """
            nn.init.normal_(self.projection.weight, std=1.0 / math.sqrt(rank), generator=generator)
            self.table = self.projection(self.embedding.weight).detach()
            """,
        ),
        ("self.projection(self.embedding(tokens))", "self.table[tokens]"),
    ),
    Misconception(
        "a projection that keeps nn.Linear's own weights: their variance is 1/(3 rank), and no generator gives them",
        ("nn.init.normal_(self.projection.weight, std=1.0 / math.sqrt(rank), generator=generator)", ""),
    ),
    Misconception(
        "a projection of variance 1: the vectors then have variance rank", ("std=1.0 / math.sqrt(rank), ", "")
    ),
    Misconception(
        "an activation between the two factors: their product is linear",
        ("self.projection(self.embedding(tokens))", "self.projection(self.embedding(tokens).relu())"),
    ),
    Misconception(
        "the mean over the padded length, not over the real tokens",
        ("total / counts.clamp(min=1)", "total / bags.shape[1]"),
    ),
    Misconception(
        "padding counted among the tokens of a bag",
        (
            "torch.zeros_like(bags, dtype=torch.bool) if padding_idx is None else bags == padding_idx",
            "torch.zeros_like(bags, dtype=torch.bool)",
        ),
    ),
    Misconception(
        "a maximum that the zeros of the padding take part in: a negative one is lost", ('float("-inf")', "0.0")
    ),
    Misconception(
        "-inf as the maximum of a bag without tokens",
        ("return highest.masked_fill(counts == 0, 0.0)", "return highest"),
    ),
    Misconception("NaN as the mean of a bag without tokens: 0 / 0", ("counts.clamp(min=1)", "counts")),
    Misconception(
        "bags padded with token 0 taken for bags without padding: `if padding_idx` is false for 0",
        ("if padding_idx is None else bags", "if not padding_idx else bags"),
    ),
    Misconception(
        "tokens gathered over the batch, not over each bag",
        ("unsqueeze(-1), 0.0).sum(dim=1)", "unsqueeze(-1), 0.0).sum(dim=0)"),
        (".amax(dim=1)", ".amax(dim=0)"),
    ),
    Misconception(
        "tied by copy: two weights that begin alike and then part",
        ("self.weight = embedding.weight", "self.weight = nn.Parameter(embedding.weight.detach().clone())"),
    ),
    Misconception(
        "a second Parameter over the same numbers: two gradients, two parameters, and untied by `to`",
        ("self.weight = embedding.weight", "self.weight = nn.Parameter(embedding.weight.detach())"),
    ),
    Misconception(
        "tied to a detached tensor: the output layer sends no gradient to the weight",
        ("self.weight = embedding.weight", "self.weight = embedding.weight.detach()"),
    ),
    Misconception(
        "x @ weight in the place of x @ weight.T: a token is a row", ("F.linear(x, self.weight)", "x @ self.weight")
    ),
    Misconception(
        "logits multiplied by sqrt(embedding_dim): the scale belongs to the lookup alone",
        ("F.linear(x, self.weight)", "F.linear(x, self.weight) * math.sqrt(x.shape[-1])"),
    ),
]

_MODES = ("sum", "mean", "max")


def workload(task: Any, draw: Draw) -> list[Workload]:
    """Typical calls, for `compare`."""
    scaled: Any = draw.fill(task.ScaledEmbedding(4096, 128))
    factorized: Any = draw.fill(task.FactorizedEmbedding(4096, 32, 128))
    output: Any = task.TiedOutput(scaled)
    tokens, bags = draw.integers(0, 4096, 4, 128), draw.integers(0, 4, 64, 16) * draw.integers(0, 1365, 64, 16)
    calls = [
        Workload("ScaledEmbedding(4096, 128)(tokens)", scaled, (tokens,)),
        Workload("FactorizedEmbedding(4096, 32, 128)(tokens)", factorized, (tokens,)),
        Workload("TiedOutput(embedding)(x)", output, (draw.normal(4, 128, 128, requires_grad=True),)),
    ]
    for mode in _MODES:
        bag: Any = draw.fill(task.EmbeddingBag(4096, 128, mode=mode, padding_idx=0))
        calls.append(Workload(f'EmbeddingBag(4096, 128, mode="{mode}", padding_idx=0)(bags)', bag, (bags,)))
    return calls


def _shapes(entries: Callable[[], Any]) -> dict[str, str]:
    return {name: f"shape {tuple(entry.shape)}" for name, entry in dict(entries()).items()}


def _has_parameters(check: Check, module: Any, text: str, shapes: Mapping[str, tuple[int, ...]]) -> None:
    expected = {name: f"shape {shape}" for name, shape in shapes.items()}
    check.run(f"the parameters of {text}", partial(_shapes, module.named_parameters)).equals(expected)
    check.run(f"the state_dict of {text}", partial(_shapes, module.state_dict)).equals(expected)


def _is_normal(check: Check, text: str, weight: Tensor, variance: float) -> None:
    """Whether N = 10,000 numbers are normal; the bounds are six standard deviations of what is measured.

    With the variance divided out, the mean has a standard deviation of 0.01, the variance one of sqrt(2 / N) = 0.014,
    and the share within one standard deviation (0.683) one of sqrt(0.683 * 0.317 / N) = 0.0047.
    """
    assert weight.numel() == 10_000
    unit = weight.detach() / variance**0.5
    ratio, share = unit.var().item(), (unit.abs() < 1).float().mean().item()
    mean = unit.mean().item()
    got = f"a variance of about {ratio:.1f} * {variance:g}, and a mean of about {round(mean, 1) + 0.0}"  # no -0.0
    expected = f"a variance of {variance:g} and a mean of 0, but for chance"
    check.that(abs(mean) < 0.06 and abs(ratio - 1) < 0.085, call=text, got=got, expected=expected)
    got = f"{share:.0%} of them within one standard deviation"
    check.that(abs(share - 0.6827) < 0.028, call=text, got=got, expected="68% of them, as of a normal variable")


def _bags(draw: Draw, size: int, padding_idx: int, *shape: int) -> Tensor:
    """Bags with padding anywhere in them, but always a real token in the first place."""
    bags = draw.integers(0, size, *shape).masked_fill(draw.booleans(*shape, probability=0.4), padding_idx)
    bags[:, 0] = (padding_idx + draw.integers(1, size, len(bags))) % size
    return bags


def _has_one_weight(check: Check, embedding: Any, output: Any, when: str = "") -> None:
    weight = check.run("output.weight of output = TiedOutput(embedding)" + when, lambda: output.weight).has().value
    kind = "another Parameter" if isinstance(weight, nn.Parameter) else "a plain tensor, no Parameter"
    numbers = "the same numbers" if weight.data_ptr() == embedding.weight.data_ptr() else "numbers of its own"
    check.that(
        weight is embedding.weight,
        call="output.weight of output = TiedOutput(embedding)" + when,
        got=f"{kind}, with {numbers}",
        expected="embedding.weight itself: one object under two names",
    )


def _is_drawn_again(check: Check, make: Callable[[torch.Generator], Any], text: str) -> None:
    """Whether the weights come from the generator alone."""
    seed = check.draw.seed()
    first, again = (dict(make(torch.Generator().manual_seed(seed)).named_parameters()) for _ in range(2))
    for name, weight in first.items():
        answer = check.run(f"{name} of {text} from a generator of the same seed", partial(again.get, name))
        answer.equals(weight, rtol=0.0, atol=0.0)  # the same draws and the same operations: the same bits


def _tied(check: Check, size: int, dim: int, make: Any = ScaledEmbedding) -> tuple[Any, Any]:
    """An embedding of the learner's with fresh weights, and the output layer tied to it."""
    embedding = check.build(make, size, dim)
    check.load(embedding, {"weight": check.draw.normal(size, dim)})
    return embedding, check.build(TiedOutput, embedding)


def test_scaled(check: Check) -> None:
    """Four columns wide, each vector is its row times 2; else times sqrt(C), in value and gradient."""
    module = check.build(ScaledEmbedding, 3, 4)
    weight = torch.tensor([[0.0, 1.0, 2.0, 3.0], [4.0, 5.0, 6.0, 7.0], [8.0, 9.0, 10.0, 11.0]])
    check.load(module, {"weight": weight})
    check(module, torch.tensor([2, 0])).equals(torch.tensor([[16.0, 18.0, 20.0, 22.0], [0.0, 2.0, 4.0, 6.0]]))
    size, dim = check.draw.size(5, 9), check.draw.size(5, 9)
    module = check.build(ScaledEmbedding, size, dim, padding_idx=1)
    check.load(module, {"weight": check.draw.normal(size, dim)})
    tokens = check.draw.integers(0, size, 3, 4)
    tokens[:, 2] = 1
    expected = F.embedding(tokens, module.weight, padding_idx=1) * dim**0.5
    check(module, tokens).equals(expected).gradients_equal(expected, weight=module.weight)


def test_scaled_first_weights(check: Check) -> None:
    """Its weight begins with variance 1/C, drawn from the generator, with zeros for the padding token."""
    module = check.build(ScaledEmbedding, 625, 16)
    _has_parameters(check, module, "ScaledEmbedding(625, 16)", {"weight": (625, 16)})
    _is_normal(check, "the numbers in ScaledEmbedding(625, 16).weight", module.weight, 1 / 16)
    make = partial(check.build, ScaledEmbedding, 6, 4)
    _is_drawn_again(check, lambda generator: make(generator=generator), "ScaledEmbedding(6, 4)")
    padded = check.build(ScaledEmbedding, 4, 3, padding_idx=0)
    text = "which rows of ScaledEmbedding(4, 3, padding_idx=0).weight are zeros"
    check.run(text, lambda: (padded.weight == 0).all(dim=1)).equals(torch.arange(4) == 0)


def test_factorized_parameters(check: Check) -> None:
    """A table V by R and a projection R to C without bias: V R + R C numbers in the place of V C."""
    module = check.build(FactorizedEmbedding, 50, 3, 12)
    shapes = {"embedding.weight": (50, 3), "projection.weight": (12, 3)}
    _has_parameters(check, module, "FactorizedEmbedding(50, 3, 12)", shapes)
    count = check.run("how many numbers it has", lambda: sum(entry.numel() for entry in module.parameters()))
    count.equals(186, note="50 * 3 + 3 * 12, where a full table has 600")


def test_factorized(check: Check) -> None:
    """Its vectors are rows of the product of both weights as they are now; both get their gradients."""
    module = check.build(FactorizedEmbedding, 3, 1, 2)
    weights = {
        "embedding.weight": torch.tensor([[1.0], [-2.0], [3.0]]),
        "projection.weight": torch.tensor([[10.0], [1.0]]),
    }
    check.load(module, weights)
    check(module, torch.tensor([1, 2])).equals(torch.tensor([[-20.0, -2.0], [30.0, 3.0]]))
    size, rank, dim = check.draw.size(6, 10), check.draw.size(2, 4), check.draw.size(5, 9)
    padding_idx = check.draw.integer(0, size)
    module = check.build(FactorizedEmbedding, size, rank, dim, padding_idx=padding_idx)
    tokens = check.draw.integers(0, size, 3, 4)
    tokens[:, 2] = padding_idx
    for _ in range(2):
        check.load(
            module,
            {"embedding.weight": check.draw.normal(size, rank), "projection.weight": check.draw.normal(dim, rank)},
        )
        parameters = dict(module.named_parameters())
        rows = F.embedding(tokens, parameters["embedding.weight"], padding_idx=padding_idx)
        expected = rows @ parameters["projection.weight"].T
        check(module, tokens).equals(expected).gradients_equal(expected, **parameters)


def test_factorized_first_weights(check: Check) -> None:
    """The table begins with variance 1, the projection with 1/R, both from the generator; padding gives zeros."""
    for size, rank, dim in ((400, 25, 8), (8, 25, 400)):
        module = check.build(FactorizedEmbedding, size, rank, dim)
        text = f"FactorizedEmbedding({size}, {rank}, {dim})"
        parameters = check.run(f"the parameters of {text}", partial(dict, module.named_parameters())).value
        name, variance = ("embedding.weight", 1.0) if size > dim else ("projection.weight", 1 / rank)
        answer = check.run(f"{name} of {text}", partial(parameters.get, name)).has(shape=(max(size, dim), rank))
        _is_normal(check, f"the numbers in {name} of {text}", answer.value, variance)
    make = partial(check.build, FactorizedEmbedding, 6, 2, 4)
    _is_drawn_again(check, lambda generator: make(generator=generator), "FactorizedEmbedding(6, 2, 4)")
    padded = check.build(FactorizedEmbedding, 4, 2, 3, padding_idx=0)
    check(padded, torch.tensor([[0, 0]])).equals(torch.zeros(1, 2, 3), note="of padding, a row of zeros")


def test_bags_first_weights(check: Check) -> None:
    """A bag's table begins as that of Embedding: variance 1, from the generator, with zeros for the padding token."""
    module = check.build(EmbeddingBag, 625, 16, padding_idx=3)
    text = "embedding.weight of EmbeddingBag(625, 16, padding_idx=3)"
    answer = check.run(text, lambda: dict(module.named_parameters()).get("embedding.weight"))
    weight = answer.has(shape=(625, 16)).value
    _is_normal(check, f"the numbers in {text}", weight, 1.0)
    zeros = check.run("which rows of it are zeros", lambda: (weight == 0).all(dim=1).nonzero().flatten().tolist())
    zeros.equals([3], note="the row of the padding token")
    make = partial(check.build, EmbeddingBag, 6, 4)
    _is_drawn_again(check, lambda generator: make(generator=generator), "EmbeddingBag(6, 4)")


def test_bags_by_hand(check: Check) -> None:
    """Bags of tokens 1 and 3, of 2 twice, and of 2 alone, each with padding: their sum, mean and maximum."""
    weight = torch.tensor([[100.0, 100.0], [1.0, 10.0], [2.0, -20.0], [3.0, 30.0]])
    bags = torch.tensor([[1, 3, 0, 0], [2, 0, 2, 0], [0, 2, 0, 0]])
    expected = {
        "sum": [[4.0, 40.0], [4.0, -40.0], [2.0, -20.0]],
        "mean": [[2.0, 20.0], [2.0, -20.0], [2.0, -20.0]],
        "max": [[3.0, 30.0], [2.0, -20.0], [2.0, -20.0]],
    }
    for mode in _MODES:
        module = check.build(EmbeddingBag, 4, 2, mode=mode, padding_idx=0)
        _has_parameters(
            check, module, f'EmbeddingBag(4, 2, mode="{mode}", padding_idx=0)', {"embedding.weight": (4, 2)}
        )
        check.load(module, {"embedding.weight": weight})
        check(module, bags).equals(torch.tensor(expected[mode]), note="token 0 is padding, and does not count")


def test_bags(check: Check) -> None:
    """The same as torch's EmbeddingBag, in value and gradient, with padding and without."""
    size, dim = check.draw.size(5, 9), check.draw.size()
    for mode in _MODES:
        for padding_idx in (check.draw.integer(1, size), 0, None):
            module = check.build(EmbeddingBag, size, dim, mode=mode, padding_idx=padding_idx)
            check.load(module, {"embedding.weight": check.draw.normal(size, dim)})
            bags = _bags(check.draw, size, padding_idx or 0, 4, 6)
            (weight,) = module.parameters()
            expected = F.embedding_bag(bags, weight, mode=mode, padding_idx=padding_idx)
            check(module, bags).equals(expected).gradients_equal(expected, weight=weight)


def test_bags_have_no_order(check: Check) -> None:
    """The order of the tokens in a bag does not matter, and neither does padding put among or behind them."""
    size, dim = check.draw.size(5, 9), check.draw.size()
    padding_idx = check.draw.integer(0, size)
    bags = _bags(check.draw, size, padding_idx, 3, 5)
    longer = torch.cat([bags, torch.full((3, 4), padding_idx)], dim=1)[:, check.draw.permutation(9)]
    for mode in _MODES:
        module = check.build(EmbeddingBag, size, dim, mode=mode, padding_idx=padding_idx)
        check.load(module, {"embedding.weight": check.draw.normal(size, dim)})
        first = check(module, bags).has(shape=(3, dim))
        check(module, longer).equals(first.value.detach(), note="as before four more of padding, and another order")
        check(module, bags[:, check.draw.permutation(5)]).equals(first.value.detach(), note="as in the first order")


def test_empty_bags(check: Check) -> None:
    """A bag without a real token gives zeros and a gradient of 0, never NaN or -inf."""
    dim = check.draw.size()
    bags = torch.tensor([[2, 2, 2], [1, 2, 4], [2, 2, 2]])
    for mode in _MODES:
        module = check.build(EmbeddingBag, 5, dim, mode=mode, padding_idx=2)
        check.load(module, {"embedding.weight": check.draw.normal(5, dim)})
        (weight,) = module.parameters()
        expected = F.embedding_bag(bags, weight, mode=mode, padding_idx=2)
        check(module, bags).equals(expected, note="zeros for the bags of padding").gradients_equal(
            expected, weight=weight
        )
        check(module, torch.zeros(2, 0, dtype=torch.int64)).equals(torch.zeros(2, dim), note="two bags of no tokens")
        check(module, torch.zeros(0, 3, dtype=torch.int64)).equals(torch.zeros(0, dim), note="no bags")


def test_tied_is_the_same(check: Check) -> None:
    """Its weight is the very Parameter of the embedding: a model with both has one, and a change shows in both."""
    for make in (Embedding, ScaledEmbedding):
        embedding, output = _tied(check, 5, 3, make)
        model = nn.ModuleDict({"embedding": embedding, "output": output})
        _has_one_weight(check, embedding, output)
        both = check.run("the parameters of a model with both", partial(_shapes, model.named_parameters))
        both.equals({"embedding.weight": "shape (5, 3)"})
        alone = check.run("the parameters of TiedOutput", partial(_shapes, output.named_parameters))
        alone.equals({"weight": "shape (5, 3)"})
        saved = check.run("the state_dict of a model with both", partial(_shapes, model.state_dict))
        saved.equals({"embedding.weight": "shape (5, 3)", "output.weight": "shape (5, 3)"})
        changed, x = check.draw.normal(5, 3), check.draw.normal(2, 3)
        check.load(embedding, {"weight": changed})
        check(output, x).equals(x @ changed.T, note="with the embedding's weight as it is after a change in place")


def test_tied_logits(check: Check) -> None:
    """Its logits are the dot products with the embedding's rows, without the scale of the lookup."""
    embedding, output = _tied(check, 3, 2)
    check.load(embedding, {"weight": torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 4.0]])})
    output = check.build(TiedOutput, embedding)
    check(output, torch.tensor([[1.0, 10.0]])).equals(torch.tensor([[1.0, 20.0, 43.0]]))
    for size, dim in ((check.draw.size(6, 9), check.draw.size(3, 6)), (4, 4)):
        embedding, output = _tied(check, size, dim)
        x = check.draw.strided(2, 5, dim).requires_grad_()
        expected = torch.einsum("btc,vc->btv", x, embedding.weight)
        check(output, x).equals(expected).gradients_equal(expected, x=x, weight=embedding.weight)
        check(output, x[0, 0]).equals(expected[0, 0], note="of one vector without other axes")


def test_tied_gradient(check: Check) -> None:
    """The gradients of both uses add up in the one weight."""
    embedding, output = _tied(check, 2, 1, Embedding)
    check.load(embedding, {"weight": torch.tensor([[2.0], [3.0]])})

    def by_hand() -> Tensor:
        return torch.autograd.grad(output(embedding(torch.tensor([0])))[0, 1], embedding.weight)[0]

    text = "the gradient, in weight [[2], [3]], of the logit of token 1 after token 0, which is 2 * 3"
    check.run(text, by_hand).equals(torch.tensor([[3.0], [2.0]]))
    size, dim = check.draw.size(5, 9), check.draw.size()
    embedding, output = _tied(check, size, dim)
    tokens = check.draw.integers(0, size, 2, 4)
    expected = F.embedding(tokens, embedding.weight) @ embedding.weight.T * dim**0.5
    answer = check.run("output(embedding(tokens))", lambda: output(embedding(tokens))).equals(expected)
    answer.gradients_equal(expected, weight=embedding.weight)


def test_still_tied(check: Check) -> None:
    """It is still tied after load_state_dict, and after conversion to float64."""
    size, dim = check.draw.size(), check.draw.size()
    embedding, output = _tied(check, size, dim, Embedding)
    model = nn.ModuleDict({"embedding": embedding, "output": output})
    weight = check.draw.normal(size, dim)
    state = dict.fromkeys(("embedding.weight", "output.weight"), weight)
    answer = check.run("loading a state_dict into both", lambda: str(model.load_state_dict(state)))
    answer.equals("<All keys matched successfully>")
    _has_one_weight(check, embedding, output, ", after load_state_dict")
    check.run("the weight of the embedding after load_state_dict", lambda: embedding.weight).equals(weight)
    dtypes = check.run(
        "dtypes after conversion", lambda: [entry.dtype for entry in model.to(torch.float64).parameters()]
    )
    dtypes.equals([torch.float64])
    _has_one_weight(check, embedding, output, ", after conversion to float64")
    x = check.draw.normal(3, dim, dtype=torch.float64)
    check(output, x).equals(x @ weight.double().T, note="with the weight that was loaded, in float64")
    doubled = 2 * weight.double()
    check.load(embedding, {"weight": doubled})
    check(output, x).equals(x @ doubled.T, note="after a change of the embedding's weight in place")


def test_edges(check: Check) -> None:
    """In float64 and bfloat16, with int32 tokens that are not contiguous; of one token, one column and rank one."""
    tokens, weight = check.draw.integers(0, 5, 6, 4)[::2, ::2].T.int(), check.draw.normal(5, 3, dtype=torch.float64)
    projection = check.draw.normal(4, 3, dtype=torch.float64)
    rows = F.embedding(tokens, weight)
    cases: list[tuple[Any, dict[str, Tensor], Tensor]] = [
        (check.build(ScaledEmbedding, 5, 3), {"weight": weight}, rows * 3**0.5),
        (
            check.build(FactorizedEmbedding, 5, 3, 4),
            {"embedding.weight": weight, "projection.weight": projection},
            rows @ projection.T,
        ),
    ]
    for mode in _MODES:
        for padding_idx in (None, 2):
            bag = check.build(EmbeddingBag, 5, 3, mode=mode, padding_idx=padding_idx)
            expected = F.embedding_bag(tokens, weight, mode=mode, padding_idx=padding_idx)
            cases.append((bag, {"embedding.weight": weight}, expected))
    for module, weights, expected in cases:
        check.mutating(module.double)
        check.load(module, weights)
        check(module, tokens).equals(expected, note="in float64")
        check.mutating(module.bfloat16)
        check(module, tokens).has(shape=expected.shape, dtype=torch.bfloat16)
    factorized = check.build(FactorizedEmbedding, 1, 1, 1)
    check.load(factorized, dict.fromkeys(("embedding.weight", "projection.weight"), torch.tensor([[3.0]])))
    check(factorized, torch.tensor(0)).equals(torch.tensor([9.0]), note="of one token without axes, one vector")


def test_refused(check: Check) -> None:
    """A rank of 0, a mode that does not exist, bags without their axis, outputs of another width; bad tokens."""
    check.raises(ValueError, FactorizedEmbedding, 5, 0, 3, naming=("rank", "0"))
    check.raises(ValueError, FactorizedEmbedding, 5, 2, -3, naming=("embedding_dim", "-3"))
    check.raises(ValueError, FactorizedEmbedding, -5, 2, 3, naming=("num_embeddings", "-5"))
    check.raises(ValueError, FactorizedEmbedding, 5, 2, 0, naming=("embedding_dim", "0"))
    check.raises(ValueError, EmbeddingBag, 5, 3, mode="median", naming="median")
    for make in (ScaledEmbedding, EmbeddingBag, partial(FactorizedEmbedding, embedding_dim=6)):
        check.raises(ValueError, make, 0, 3, naming=("num_embeddings", "0"))
        check.raises(ValueError, make, 5, 3, padding_idx=5, naming=("padding_idx", "5"))
        check.raises(ValueError, make, 5, 3, padding_idx=-1, naming=("padding_idx", "-1"))
    check.raises(ValueError, ScaledEmbedding, 5, 0, naming=("embedding_dim", "0"))
    check.raises(ValueError, EmbeddingBag, 5, 0, naming=("embedding_dim", "0"))
    bag, factorized, scaled = (
        check.build(EmbeddingBag, 11, 3),
        check.build(FactorizedEmbedding, 11, 2, 3),
        check.build(ScaledEmbedding, 11, 3),
    )
    check.raises(ValueError, bag, torch.tensor([1, 2]), naming="(2,)|[2]")
    check.raises(ValueError, bag, torch.tensor([[[1, 2]]]), naming="(1, 1, 2)|[1, 1, 2]")
    for module in (bag, factorized, scaled):
        check.raises(IndexError, module, torch.tensor([[1, 17]]), naming=("17", "11"))
        check.raises(IndexError, module, torch.tensor([[-1, 1]]), naming=("-1", "11"))
        check.raises(TypeError, module, torch.tensor([[1.0, 2.0]]), naming="float32")
    output = check.build(TiedOutput, scaled)
    check.raises(ValueError, output, torch.zeros(2, 4), naming=("3", "(2, 4)|[2, 4]"))
