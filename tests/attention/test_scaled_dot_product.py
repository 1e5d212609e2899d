"""Grades attention/scaled_dot_product.

The oracles are torch's own scaled_dot_product_attention, and for the weights the formula, one exponential for each
pair of a query and a key.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from checkpoints.checks import Check, Draw, Workload
from checkpoints.misconceptions import Misconception
from exercises.attention.scaled_dot_product import attention_weights, scaled_dot_product_attention

MISCONCEPTIONS = [
    Misconception(
        "attention without dividing by sqrt(D)", ("query.shape[-1] ** -0.5 if scale is None", "1.0 if scale is None")
    ),
    Misconception("attention divided by D in the place of sqrt(D)", ("** -0.5 if scale", "** -1.0 if scale")),
    Misconception("attention multiplied by sqrt(D)", ("** -0.5 if scale", "** 0.5 if scale")),
    Misconception(
        "attention divided by the square root of the number of keys, not of their width",
        ("query.shape[-1] ** -0.5 if scale", "key.shape[-2] ** -0.5 if scale"),
    ),
    Misconception(
        "attention that takes a scale of 0 for none given", ("if scale is None else scale", "if not scale else scale")
    ),
    Misconception("attention that ignores the `scale` it is given", ("if scale is None else scale", "")),
    Misconception("attention that divides by `scale`", ("(query * scale) @", "(query / scale) @")),
    Misconception(
        "softmax over the queries: the columns sum to 1",
        (
            "return masked_softmax(scores, mask)",
            "return masked_softmax(scores.mT, mask if mask is None else mask.expand(scores.shape).mT).mT",
        ),
    ),
    Misconception(
        "scores without a softmax",
        (
            "return masked_softmax(scores, mask)",
            "return scores if mask is None else scores.masked_fill(~mask, 0.0)",
        ),
    ),
    Misconception(
        "attention that ignores its mask", ("return masked_softmax(scores, mask)", "return masked_softmax(scores)")
    ),
    Misconception(
        "the mask inverted: hidden where it is True",
        ("return masked_softmax(scores, mask)", "return masked_softmax(scores, None if mask is None else ~mask)"),
    ),
    Misconception(
        "the mask applied after the softmax, so that rows no longer sum to 1",
        (
            "return masked_softmax(scores, mask)",
            "return masked_softmax(scores) * (1.0 if mask is None else mask.to(scores.dtype))",
        ),
    ),
    Misconception(
        "-1e9 for -inf: a query that may see nothing takes the mean of all values",
        (
            "return masked_softmax(scores, mask)",
            "return (scores if mask is None else scores.masked_fill(~mask, -1e9)).softmax(dim=-1)",
        ),
    ),
    Misconception(
        "NaN for a query that may see nothing",
        (
            "return masked_softmax(scores, mask)",
            'return (scores if mask is None else scores.masked_fill(~mask, float("-inf"))).softmax(dim=-1)',
        ),
    ),
    Misconception("attention that ignores its bias", ("scores = scores + bias", "pass")),
    Misconception(
        "the bias scaled along with the dot products", ("scores = scores + bias", "scores = scores + bias * scale")
    ),
    Misconception("the bias subtracted", ("scores = scores + bias", "scores = scores - bias")),
    Misconception(
        "an exponential without the maximum subtracted: it overflows",
        (
            "return masked_softmax(scores, mask)",
            """
            exponentials = scores.exp() if mask is None else scores.exp() * mask
            return exponentials / exponentials.sum(dim=-1, keepdim=True).clamp_min(1e-300)
            """,
        ),
    ),
    Misconception("dropout without dividing what remains by 1 - dropout", ("kept.div_(1.0 - dropout)", "kept")),
    Misconception(
        "`dropout` taken for the share that is kept",
        (".bernoulli_(1.0 - dropout, generator=generator)", ".bernoulli_(dropout, generator=generator)"),
        ("kept.div_(1.0 - dropout)", "kept.div_(dropout)"),
    ),
    Misconception(
        "dropout that is not drawn from the generator", ("1.0 - dropout, generator=generator", "1.0 - dropout")
    ),
    Misconception(
        "dropout of whole keys: the same for every query",
        ("torch.empty_like(weights)", "torch.empty_like(weights[..., :1, :])"),
    ),
    Misconception(
        "dropout of whole queries: all of a query's weights or none",
        ("torch.empty_like(weights)", "torch.empty_like(weights[..., :1])"),
    ),
    Misconception(
        "dropout of the result in the place of the weights",
        (
            "weights = weights * kept.div_(1.0 - dropout)",
            "return (result := weights @ value) * torch.empty_like(result).bernoulli_(1.0 - dropout, generator=generator).div_(1.0 - dropout)",
        ),
    ),
]


def workload(task: Any, draw: Draw) -> list[Workload]:
    """Typical calls, for `compare`."""
    query, key, value = (draw.normal(4, 8, 128, 32, requires_grad=True) for _ in range(3))
    causal = torch.ones(128, 128, dtype=torch.bool).tril()
    attend = task.scaled_dot_product_attention
    return [
        Workload("attention_weights(query, key, causal)", task.attention_weights, (query, key, causal)),
        Workload("scaled_dot_product_attention(query, key, value)", attend, (query, key, value)),
        Workload("scaled_dot_product_attention(query, key, value, causal)", attend, (query, key, value, causal)),
    ]


def _sizes(draw: Draw) -> tuple[int, int, int, int]:
    """T, S, D and Dv from 2 to 7, no two alike: whoever mixes two of them up is found out."""
    length, keys, width, value_width, *_ = (draw.permutation(6) + 2).tolist()
    return length, keys, width, value_width


def _inputs(draw: Draw, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    """Two sequences, three heads, not contiguous."""
    length, keys, width, value_width = _sizes(draw)
    query = draw.strided(2, 3, length, width, dtype=dtype)
    return query, draw.strided(2, 3, keys, width, dtype=dtype), draw.strided(2, 3, keys, value_width, dtype=dtype)


def _weights(query: Tensor, key: Tensor, mask: Tensor | None = None, bias: Tensor | float = 0.0) -> Tensor:
    """The formula, for scores that do not overflow."""
    products = torch.einsum("...td,...sd->...ts", query, key)
    exponentials = torch.exp(products / math.sqrt(query.shape[-1]) + bias)
    if mask is not None:
        exponentials = torch.where(mask, exponentials, 0.0)
    return exponentials / exponentials.sum(dim=-1, keepdim=True)


def _mask(draw: Draw, *shape: int) -> Tensor:
    """A mask that hides about half, in which each query sees a key at least, and some key is hidden."""
    mask = draw.booleans(*shape)
    mask[..., 0], mask[..., -1] = True, False
    return mask


def test_weights_by_hand(check: Check) -> None:
    """Scores 0 and ln 3, after dividing by sqrt(4), share the attention 1 : 3."""
    query = torch.tensor([[2 * math.log(3.0), 0.0, 0.0, 0.0], [0.0, 1.0, 1.0, 0.0]])
    key = torch.tensor([[0.0, 0.0, 0.0, 5.0], [1.0, 0.0, 0.0, 5.0]])
    expected = torch.tensor([[0.25, 0.75], [0.5, 0.5]])
    check(attention_weights, query, key).equals(
        expected, note="a row for each query; the first one's scores are 0, ln 3"
    )


def test_attention_by_hand(check: Check) -> None:
    """Two tokens of values 0 and 4: weights 1/4 and 3/4 make 3, equal weights make 2."""
    query = torch.tensor([[2 * math.log(3.0), 0.0, 0.0, 0.0], [0.0, 1.0, 1.0, 0.0]])
    key = torch.tensor([[0.0, 0.0, 0.0, 5.0], [1.0, 0.0, 0.0, 5.0]])
    value = torch.tensor([[0.0], [4.0]])
    check(scaled_dot_product_attention, query, key, value).equals(torch.tensor([[3.0], [2.0]]))
    mask = torch.tensor([[True, False], [True, True]])
    check(scaled_dot_product_attention, query, key, value, mask).equals(
        torch.tensor([[0.0], [2.0]]), note="the first query sees the first token alone"
    )


def test_weights_by_the_formula(check: Check) -> None:
    """Each pair's exponential over its row's sum, for two sequences of three heads, in float64."""
    query, key, _ = _inputs(check.draw, torch.float64)
    check(attention_weights, query, key).equals(_weights(query, key))
    mask = _mask(check.draw, 2, 1, query.shape[-2], key.shape[-2])
    check(attention_weights, query, key, mask).equals(_weights(query, key, mask), note="the same mask for every head")


def test_against_torch(check: Check) -> None:
    """The same as torch's own function: without a mask, with one for all heads, with one for all queries."""
    query, key, value = _inputs(check.draw)
    length, keys = query.shape[-2], key.shape[-2]
    expected = F.scaled_dot_product_attention(query, key, value)
    check(scaled_dot_product_attention, query, key, value).equals(expected)
    for shape in [(length, keys), (2, 1, 1, keys), (2, 3, length, keys)]:
        mask = _mask(check.draw, *shape)
        expected = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        check(scaled_dot_product_attention, query, key, value, mask).equals(expected)


def test_scale(check: Check) -> None:
    """A scale that is given takes the place of 1/sqrt(D); at 0 every key counts the same."""
    query, key, value = _inputs(check.draw)
    scale = float(check.draw.uniform(0.7, 2.0, 1))
    expected = F.scaled_dot_product_attention(query, key, value, scale=scale)
    answer = check(scaled_dot_product_attention, query, key, value, scale=scale)
    answer.equals(expected, note=f"the dot products times {scale:.4g}, whatever D is")
    uniform = torch.full((2, 3, query.shape[-2], key.shape[-2]), 1 / key.shape[-2])
    note = f"every score is 0, so each of the {key.shape[-2]} keys gets the same"
    check(attention_weights, query, key, scale=0.0).equals(uniform, note=note)


def test_bias(check: Check) -> None:
    """A bias is added to the scaled scores before the softmax; a mask hides keys all the same."""
    query, key, value = _inputs(check.draw)
    bias = check.draw.normal(3, query.shape[-2], key.shape[-2], scale=2.0)
    note = "the softmax of dot product / sqrt(D) + bias"
    check(attention_weights, query, key, bias=bias).equals(_weights(query, key, bias=bias), note=note)
    check(attention_weights, query, key, bias=bias[0, 0]).equals(
        _weights(query, key, bias=bias[0, 0]), note="a bias (S,) is the same for every query"
    )
    mask = _mask(check.draw, query.shape[-2], key.shape[-2])
    hidden = bias.masked_fill(~mask, float("-inf")).expand(2, -1, -1, -1)
    expected = F.scaled_dot_product_attention(query, key, value, attn_mask=hidden, scale=0.5)
    check(scaled_dot_product_attention, query, key, value, mask, bias=bias, scale=0.5).equals(expected)


def test_gradients(check: Check) -> None:
    """Gradients reach the queries, keys, values and bias as through torch's own function."""
    query, key, value = (tensor.requires_grad_() for tensor in _inputs(check.draw, torch.float64))
    bias = check.draw.normal(query.shape[-2], key.shape[-2], dtype=torch.float64, requires_grad=True)
    mask = _mask(check.draw, query.shape[-2], key.shape[-2])
    hidden = bias.masked_fill(~mask, float("-inf"))
    expected = F.scaled_dot_product_attention(query, key, value, attn_mask=hidden)
    answer = check(scaled_dot_product_attention, query, key, value, mask, bias=bias)
    answer.gradients_equal(expected, query=query, key=key, value=value, bias=bias)


def test_order_of_the_keys(check: Check) -> None:
    """Keys in another order, and their values along with them, make the same result: attention sees a set."""
    query, key, value = _inputs(check.draw)
    order = check.draw.permutation(key.shape[-2])
    expected = F.scaled_dot_product_attention(query, key, value)
    shuffled = check(scaled_dot_product_attention, query, key[..., order, :], value[..., order, :])
    shuffled.equals(expected, note="as for the keys in their first order")


def test_within_the_values(check: Check) -> None:
    """A result is a mean of the visible values: never below the least of them, nor above the greatest."""
    query, key, value = _inputs(check.draw, torch.float64)
    value = value.abs() + 1.0  # away from 0, which a hidden value must not pull towards
    mask = _mask(check.draw, key.shape[-2])
    answer = check(scaled_dot_product_attention, 3.0 * query, key, value, mask)
    answer.has(shape=(*query.shape[:-1], value.shape[-1]), dtype=torch.float64)
    least, greatest = (bound[..., None, :] for bound in value[..., mask, :].aminmax(dim=-2))
    beyond = torch.maximum(least - answer.value, answer.value - greatest).max().item()
    # Weights that sum to 1 up to 8 roundings of 1.1e-16, values below 10: 1e-14 would do.
    answer.satisfies(
        beyond <= 1e-12,
        got=f"a result that lies {beyond:.3g} outside of the visible values",
        expected="each result between the least and the greatest visible value",
    )


def test_shapes_and_dtypes(check: Check) -> None:
    """One query, one key, no axes before the last two, keys shared by all heads; bfloat16 and float64."""
    length, keys, width, value_width = _sizes(check.draw)
    lone = check.draw.normal(1, 1, value_width)
    one = check.draw.normal(1, 1, width), check.draw.normal(1, 1, width), lone
    check(scaled_dot_product_attention, *one).equals(lone, note="one key gets all the attention")
    query, key = check.draw.normal(2, 3, length, width, scale=0.5), check.draw.normal(2, 1, keys, width)
    value = check.draw.normal(2, 1, keys, value_width)
    expected = F.scaled_dot_product_attention(query, key.expand(2, 3, -1, -1), value.expand(2, 3, -1, -1))
    check(scaled_dot_product_attention, query, key, value).equals(
        expected, note="one head of keys for three of queries"
    )
    for dtype in (torch.bfloat16, torch.float64):
        one_query, one_key, one_value = query[0, 0].to(dtype), key[0, 0].to(dtype), value[0, 0].to(dtype)
        expected = F.scaled_dot_product_attention(one_query.double(), one_key.double(), one_value.double())
        check(scaled_dot_product_attention, one_query, one_key, one_value).equals(expected.to(dtype))


def test_huge_scores(check: Check) -> None:
    """Scores of ±1e4: nothing overflows, and only their differences count."""
    query = torch.tensor([[1e4], [-1e4]], dtype=torch.float64)
    key = torch.tensor([[1.0], [1.0 - math.log(3.0) / 1e4], [-1.0]], dtype=torch.float64)
    weights = torch.tensor([[0.75, 0.25, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
    check(attention_weights, query, key).equals(weights, note="the first two scores are 1e4 and 1e4 - ln 3")
    query, key, value = query.float(), torch.tensor([[1.0], [0.0], [-1.0]]), torch.tensor([[100.0], [200.0], [300.0]])
    check(scaled_dot_product_attention, query, key, value, torch.tensor([False, True, True])).equals(
        torch.tensor([[200.0], [300.0]]), note="the first key is hidden"
    )


def test_nothing_to_see(check: Check) -> None:
    """A query that may see nothing gets zeros, never NaN, and gradients of zero."""
    length, keys, width, value_width = _sizes(check.draw)
    query = check.draw.normal(length, width, dtype=torch.float64, requires_grad=True)
    key = check.draw.normal(keys, width, dtype=torch.float64, requires_grad=True)
    value = check.draw.normal(keys, value_width, dtype=torch.float64, requires_grad=True)
    mask = _mask(check.draw, length, keys)
    mask[1] = False
    sighted = torch.arange(length) != 1
    seen = _weights(query, key, mask | ~sighted[:, None]) * sighted[:, None]
    note = "zeros for query 1, which may see nothing"
    answer = check(attention_weights, query, key, mask).equals(seen, note=note)
    answer.gradients_equal(seen, query=query, key=key)
    result = check(scaled_dot_product_attention, query, key, value, mask).equals(seen @ value, note=note)
    result.gradients_equal(seen @ value, query=query, key=key, value=value)


def test_dropout(check: Check) -> None:
    """Dropout drops single weights at its rate, from its generator, and divides the others by 1 - dropout."""
    shape = (3, 64)
    query, key = check.draw.normal(*shape, 5, requires_grad=True), check.draw.normal(*shape, 5, requires_grad=True)
    # The values are unit vectors, and a last column of ones: the result shows each weight, and then their sum.
    value = torch.cat([torch.eye(64), torch.ones(64, 1)], dim=1).expand(3, -1, -1)
    seed, rate = check.draw.seed(), 0.25

    def attend(seed: int) -> Any:
        generator = torch.Generator().manual_seed(seed)
        answer = check(scaled_dot_product_attention, query, key, value, dropout=rate, generator=generator)
        return answer.has(shape=(3, 64, 65), dtype=torch.float32)

    answer = attend(seed)
    shown = answer.value[..., :64].detach()
    kept = shown != 0
    expected = _weights(query, key) * kept / (1 - rate)
    expected = torch.cat([expected, expected.sum(dim=-1, keepdim=True)], dim=-1)
    note = "weights that are kept, divided by 0.75; the last column is the sum of the others"
    answer.equals(expected.detach(), note=note).gradients_equal(expected, query=query, key=key)
    # Hoeffding: the share of N = 3 * 64 * 64 independent ones is off by t with probability below
    # 2 exp(-2 N t^2), which is 5e-10 at t = 0.03. The 192 weights of two queries or keys are
    # alike by chance with probability (0.75^2 + 0.25^2)^192, below 1e-39.
    share = 1 - kept.double().mean().item()
    answer.satisfies(
        abs(share - rate) < 0.03,
        got=f"a share of {share:.3f} of the weights dropped",
        expected=f"{rate}, give or take 0.03",
    )
    pairs = [("queries", kept[:, 0], kept[:, 1]), ("keys", kept[..., 0], kept[..., 1]), ("heads", kept[0], kept[1])]
    alike = [name for name, one, other in pairs if one.equal(other)]
    answer.satisfies(
        not alike, got=f"the same drawn for all {' and '.join(alike)}", expected="each weight dropped on its own"
    )
    attend(seed).equals(answer.value, note="from a generator of the same seed")
    again = attend(seed + 1)
    again.satisfies(
        not torch.equal(again.value != 0, answer.value != 0),
        got="the same weights dropped from a generator of another seed",
        expected="others",
    )


def test_where_dropout_is_drawn_from(check: Check) -> None:
    """Without a generator dropout is drawn from torch's own; at a dropout of 0 nothing is drawn at all."""
    query, key, value = check.draw.normal(9, 3), check.draw.normal(30, 3), torch.eye(30)
    seed = check.draw.seed()
    drawn = []
    for start in (seed, seed + 1, seed):
        torch.manual_seed(start)
        drawn.append(check(scaled_dot_product_attention, query, key, value, dropout=0.5).has(shape=(9, 30)))
    drawn[2].equals(drawn[0].value, note="again after the same torch.manual_seed")
    drawn[1].satisfies(
        not torch.equal(drawn[1].value, drawn[0].value),
        got="the same weights dropped after another torch.manual_seed",
        expected="others",
    )
    generator = torch.Generator().manual_seed(seed)
    answer = check(scaled_dot_product_attention, query, key, value, dropout=0.0, generator=generator)
    answer.equals(_weights(query, key), note="nothing is dropped")
    answer.satisfies(
        torch.equal(generator.get_state(), torch.Generator().manual_seed(seed).get_state()),
        got="a generator from which something was drawn",
        expected="the generator as it was: at a dropout of 0 nothing is drawn",
    )


def test_shapes_refused(check: Check) -> None:
    """Keys of another width, values of another number, a dropout of 1: each refused by name."""
    query, key, value = check.draw.normal(2, 3), check.draw.normal(5, 4), check.draw.normal(5, 7)
    check.raises(ValueError, attention_weights, query, key, naming=("(2, 3)", "(5, 4)"))
    check.raises(ValueError, scaled_dot_product_attention, query, key, value, naming=("(2, 3)", "(5, 4)"))
    query, key, value = check.draw.normal(2, 4), check.draw.normal(5, 4), check.draw.normal(6, 7)
    check.raises(ValueError, scaled_dot_product_attention, query, key, value, naming=("(5, 4)", "(6, 7)"))
    arguments = (query, key, value[:5])
    check(scaled_dot_product_attention, *arguments, dropout=0.99).has(shape=(2, 7))
    for dropout in (1.0, -0.01, math.nan):
        check.raises(
            ValueError, scaled_dot_product_attention, *arguments, dropout=dropout, naming=("dropout", str(dropout))
        )


def test_masks_refused(check: Check) -> None:
    """A mask or bias that does not fit, would add axes, or is of the wrong dtype is refused by name."""
    query, key = check.draw.normal(3, 2, 4), check.draw.normal(3, 5, 4)
    mask, padding = torch.ones(2, 6, dtype=torch.bool), torch.ones(3, 1, 1, 5, dtype=torch.bool)
    check.raises(ValueError, attention_weights, query, key, mask, naming=("mask", "(2, 6)", "(3, 2, 5)"))
    check.raises(ValueError, attention_weights, query, key, padding, naming=("mask", "(3, 1, 1, 5)", "(3, 2, 5)"))
    bias = check.draw.normal(4, 1, 5)
    check.raises(ValueError, attention_weights, query, key, bias=bias, naming=("bias", "(4, 1, 5)", "(3, 2, 5)"))
    larger = torch.ones(3, 1, 5, dtype=torch.bool)  # three times as many as the scores of one sequence
    one = (query[:1], key[:1])
    check.raises(ValueError, attention_weights, *one, larger, naming=("mask", "(3, 1, 5)", "(1, 2, 5)"))
    check.raises(ValueError, attention_weights, *one, bias=larger.float(), naming=("bias", "(3, 1, 5)", "(1, 2, 5)"))
    value = check.draw.normal(3, 5, 2)
    numbers = torch.ones(2, 5)
    check.raises(TypeError, scaled_dot_product_attention, query, key, value, numbers, naming=("mask", "float32"))
    check.raises(TypeError, attention_weights, query, key, numbers.long(), naming=("mask", "int64"))
    check.raises(TypeError, attention_weights, query, key, bias=mask[:, :5], naming=("bias", "bool"))
    check.raises(TypeError, attention_weights, query, key, bias=numbers.long(), naming=("bias", "int64"))
