"""Grades block/layer_norm.

The oracles are torch.nn.LayerNorm and torch.nn.RMSNorm with the same weights; for inputs in half precision, what they
give in float64, rounded.
"""

import math
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from checkpoints.checks import Check, Draw, Workload
from checkpoints.misconceptions import Misconception
from exercises.block.layer_norm import LayerNorm, RMSNorm

MISCONCEPTIONS = [
    Misconception(
        "a LayerNorm over the sequences of the batch, the first axis: it goes over the numbers of each token",
        ("wide - wide.mean(dim=-1, keepdim=True)", "wide - wide.mean(dim=0, keepdim=True)"),
        ("centred.square().mean(dim=-1, keepdim=True)", "centred.square().mean(dim=0, keepdim=True)"),
    ),
    Misconception(
        "a LayerNorm over the tokens, the second-last axis: it goes over the numbers of each token",
        ("wide - wide.mean(dim=-1, keepdim=True)", "wide - wide.mean(dim=-2, keepdim=True)"),
        ("centred.square().mean(dim=-1, keepdim=True)", "centred.square().mean(dim=-2, keepdim=True)"),
    ),
    Misconception(
        "a LayerNorm over the last two axes: one mean and variance for a whole sequence",
        ("wide - wide.mean(dim=-1, keepdim=True)", "wide - wide.mean(dim=(-2, -1), keepdim=True)"),
        ("centred.square().mean(dim=-1, keepdim=True)", "centred.square().mean(dim=(-2, -1), keepdim=True)"),
    ),
    Misconception(
        "a LayerNorm with the unbiased variance, divided by C - 1: that of torch.var, if nothing else is said",
        ("centred.square().mean(dim=-1, keepdim=True)", "wide.var(dim=-1, keepdim=True)"),
    ),
    Misconception(
        "a LayerNorm with eps outside the root, added to the standard deviation",
        ("centred * torch.rsqrt(variance + self.eps)", "centred / (variance.sqrt() + self.eps)"),
    ),
    Misconception(
        "a LayerNorm that divides by x.std() + eps: the deviation is unbiased, and eps outside the root",
        ("centred * torch.rsqrt(variance + self.eps)", "centred / (wide.std(dim=-1, keepdim=True) + self.eps)"),
    ),
    Misconception(
        "a LayerNorm without eps: a token of equal numbers is 0/0",
        ("torch.rsqrt(variance + self.eps)", "torch.rsqrt(variance)"),
    ),
    Misconception(
        "a LayerNorm with an eps of 1e-5 whatever it was given",
        ("torch.rsqrt(variance + self.eps)", "torch.rsqrt(variance + 1e-5)"),
    ),
    Misconception(
        "the variance as E[x^2] - E[x]^2, whose digits cancel where the mean is large",
        (
            "centred.square().mean(dim=-1, keepdim=True)",
            "wide.square().mean(dim=-1, keepdim=True) - wide.mean(dim=-1, keepdim=True).square()",
        ),
    ),
    Misconception(
        "a LayerNorm that divides by the variance, without the root",
        ("centred * torch.rsqrt(variance + self.eps)", "centred / (variance + self.eps)"),
    ),
    Misconception(
        "a LayerNorm that does not subtract the mean, only divides by the deviation from it",
        ("centred * torch.rsqrt(variance + self.eps)", "wide * torch.rsqrt(variance + self.eps)"),
    ),
    Misconception(
        "RMSNorm in the place of LayerNorm: nothing is subtracted",
        ("centred = wide - wide.mean(dim=-1, keepdim=True)", "centred = wide"),
    ),
    Misconception(
        "a LayerNorm that forgets its weight",
        ("torch.rsqrt(variance + self.eps) * self.weight", "torch.rsqrt(variance + self.eps)"),
    ),
    Misconception(
        "a LayerNorm that multiplies by its weight before the normalisation, not after it",
        (
            """
            wide = _widened(x, self.embed_dim)
            centred = wide - wide.mean(dim=-1, keepdim=True)
            """,
            """
            wide = _widened(x, self.embed_dim) * self.weight
            centred = wide - wide.mean(dim=-1, keepdim=True)
            """,
        ),
        ("torch.rsqrt(variance + self.eps) * self.weight", "torch.rsqrt(variance + self.eps)"),
    ),
    Misconception("a LayerNorm that forgets its bias", ("if self.bias is not None:", "if False:")),
    Misconception(
        "a LayerNorm that adds its bias before it multiplies by the weight",
        (
            "result = centred * torch.rsqrt(variance + self.eps) * self.weight",
            "result = centred * torch.rsqrt(variance + self.eps)",
        ),
        ("return result.to(x.dtype)", "return (result * self.weight).to(x.dtype)"),
    ),
    Misconception(
        "a LayerNorm with a bias although bias=False",
        ("nn.Parameter(torch.zeros(embed_dim)) if bias else None", "nn.Parameter(torch.zeros(embed_dim))"),
    ),
    Misconception(
        "a weight of random numbers at the start, where ones change nothing",
        (
            """
            self.weight = nn.Parameter(torch.ones(embed_dim))
            self.bias = nn.Parameter(torch.zeros(embed_dim)) if bias else None
            """,
            """
            self.weight = nn.Parameter(torch.randn(embed_dim))
            self.bias = nn.Parameter(torch.zeros(embed_dim)) if bias else None
            """,
        ),
    ),
    Misconception(
        "mean and variance detached: the gradient takes them for constants",
        (
            "centred * torch.rsqrt(variance + self.eps)",
            "(wide - wide.mean(dim=-1, keepdim=True).detach()) * torch.rsqrt(variance.detach() + self.eps)",
        ),
    ),
    Misconception(
        "statistics in half precision: squares overflow float16, and means lose their digits",
        ("return x.to(torch.promote_types(x.dtype, torch.float32))", "return x"),
    ),
    Misconception(
        "float64 rounded to float32: `float` is for half precision only",
        ("x.to(torch.promote_types(x.dtype, torch.float32))", "x.float()"),
    ),
    Misconception(
        "a result left in float32 where the input is in half precision",
        ("return result.to(x.dtype)", "return result"),
        ("* self.weight).to(x.dtype)", "* self.weight)"),
    ),
    Misconception(
        "a width that is not looked at: a last axis of 1 is broadcast against the weight",
        ("if x.dim() == 0 or x.shape[-1] != embed_dim:", "if False:"),
    ),
    Misconception(
        "an RMSNorm that subtracts the mean first, as LayerNorm does",
        (
            """
            wide = _widened(x, self.embed_dim)
            mean_square = wide.square().mean(dim=-1, keepdim=True)
            """,
            """
            wide = _widened(x, self.embed_dim)
            wide = wide - wide.mean(dim=-1, keepdim=True)
            mean_square = wide.square().mean(dim=-1, keepdim=True)
            """,
        ),
    ),
    Misconception(
        "an RMSNorm without the root: x divided by the mean square",
        ("wide * torch.rsqrt(mean_square + self.eps)", "wide / (mean_square + self.eps)"),
    ),
    Misconception(
        "an RMSNorm with the sum of the squares in the place of their mean",
        ("wide.square().mean(dim=-1, keepdim=True)", "wide.square().sum(dim=-1, keepdim=True)"),
    ),
    Misconception(
        "an RMSNorm with the mean absolute value in the place of the root of the mean square",
        ("wide.square().mean(dim=-1, keepdim=True)", "wide.abs().mean(dim=-1, keepdim=True).square()"),
    ),
    Misconception(
        "an RMSNorm with eps outside the root",
        ("wide * torch.rsqrt(mean_square + self.eps)", "wide / (mean_square.sqrt() + self.eps)"),
    ),
    Misconception(
        "an RMSNorm over all numbers of a sequence, not over those of each token",
        ("wide.square().mean(dim=-1, keepdim=True)", "wide.square().mean(dim=(-2, -1), keepdim=True)"),
    ),
    Misconception(
        "an RMSNorm that forgets its weight",
        ("torch.rsqrt(mean_square + self.eps) * self.weight", "torch.rsqrt(mean_square + self.eps)"),
    ),
]


def workload(task: Any, draw: Draw) -> list[Workload]:
    """Typical calls, for `compare`."""
    x = draw.normal(8, 128, 256, requires_grad=True)
    layer_norm, rms_norm = draw.fill(task.LayerNorm(256)), draw.fill(task.RMSNorm(256))
    return [Workload("LayerNorm(256)(x)", layer_norm, (x,)), Workload("RMSNorm(256)(x)", rms_norm, (x,))]


def _with_twin(check: Check, make: Any, width: int, dtype: torch.dtype = torch.float32, **options: Any) -> Any:
    """The learner's module of that dtype, and torch's with the same weights."""
    if make is LayerNorm:
        twin: nn.Module = nn.LayerNorm(width, **options)
    else:
        twin = nn.RMSNorm(width, **{"eps": 1e-5, **options})  # torch's default is another
    check.draw.fill(twin.to(dtype))
    module = check.build(make, width, **options)
    if dtype != torch.float32:
        check.mutating(module.to, dtype)
    check.load(module, dict(twin.named_parameters()))
    return module, twin


def _numbers(module: nn.Module) -> dict[str, dict[str, Tensor]]:
    """The numbers of a module's parameters, and those of its state_dict."""
    parameters = {name: tensor.detach().clone() for name, tensor in module.named_parameters()}
    return {"parameters": parameters, "state_dict": dict(module.state_dict())}


def test_parameters(check: Check) -> None:
    """They start with weights of 1 and a bias of 0, which change nothing, and have no other parameters."""
    width = check.draw.size()
    weight, bias = torch.ones(width), torch.zeros(width)
    both = {"weight": weight, "bias": bias}
    modules = {
        f"LayerNorm({width})": (check.build(LayerNorm, width), both),
        f"LayerNorm({width}, bias=False)": (check.build(LayerNorm, width, bias=False), {"weight": weight}),
        f"RMSNorm({width})": (check.build(RMSNorm, width), {"weight": weight}),
    }
    for text, (module, expected) in modules.items():
        answer = check.run(f"the parameters and the state_dict of {text}", partial(_numbers, module))
        answer.equals({"parameters": expected, "state_dict": expected})


def test_layer_norm_by_hand(check: Check) -> None:
    """The token (1, 3) has mean 2 and variance 1; with an eps of 3 the root is 2, and it becomes (-1/2, 1/2)."""
    module = check.build(LayerNorm, 2, eps=3.0)
    x = torch.tensor([[[1.0, 3.0], [3.0, 1.0]], [[1.0, 1.0], [-1.0, 1.0]]])
    normalized = torch.tensor([[[-0.5, 0.5], [0.5, -0.5]], [[0.0, 0.0], [-0.5, 0.5]]])
    check(module, x).equals(normalized, note="(x - mean) / sqrt(variance + 3), each pair by itself")
    weight, bias = torch.tensor([10.0, 20.0]), torch.tensor([1.0, 2.0])
    check.load(module, {"weight": weight, "bias": bias})
    check(module, x).equals(normalized * weight + bias, note="times the weight (10, 20), plus the bias (1, 2)")


def test_rms_norm_by_hand(check: Check) -> None:
    """The token (3, 4) has the mean square 12.5; with an eps of 3.5 the root is 4, and it becomes (3/4, 1)."""
    module = check.build(RMSNorm, 2, eps=3.5)
    x = torch.tensor([[3.0, 4.0], [0.0, 5.0]])
    check(module, x).equals(torch.tensor([[0.75, 1.0], [0.0, 1.25]]), note="x / sqrt(12.5 + 3.5)")
    check.load(module, {"weight": torch.tensor([4.0, 10.0])})
    check(module, x).equals(torch.tensor([[3.0, 10.0], [0.0, 12.5]]), note="times the weight (4, 10)")


def test_layer_norm(check: Check) -> None:
    """With the same weights, the same as torch.nn.LayerNorm, with a bias and without."""
    width = check.draw.size(4, 12)
    cases: list[dict[str, Any]] = [{}, {"eps": 1e-2}, {"bias": False}]
    for options in cases:
        module, twin = _with_twin(check, LayerNorm, width, **options)
        x = check.draw.strided(3, 5, width)
        check(module, x).equals(twin(x), note="as torch's, over each token of 3 times 5")


def test_rms_norm(check: Check) -> None:
    """With the same weights, the same as torch.nn.RMSNorm; the mean is not subtracted."""
    width = check.draw.size(4, 12)
    cases: list[dict[str, Any]] = [{}, {"eps": 1e-2}]
    for options in cases:
        module, twin = _with_twin(check, RMSNorm, width, **options)
        x = check.draw.strided(3, 5, width) + 1.5
        check(module, x).equals(twin(x), note="as torch's, over each token of 3 times 5")


def test_each_token_alone(check: Check) -> None:
    """However many axes come before the last, each token is normalised by itself: no other has a say."""
    width = check.draw.size(4, 9)
    for make in (LayerNorm, RMSNorm):
        module, twin = _with_twin(check, make, width)
        x = check.draw.normal(2, 3, 4, width) + 0.5
        check(module, x).equals(twin(x), note="of four axes")
        check(module, x[0, 1]).equals(twin(x)[0, 1], note="the same tokens in a batch of their own")
        check(module, x[0, 1, 2]).equals(twin(x)[0, 1, 2], note="one of them, by itself")


def test_invariance(check: Check) -> None:
    """With an eps of 0, a token shifted and stretched gives the same LayerNorm; RMSNorm allows stretching only."""
    width = check.draw.size(4, 9)
    x = check.draw.normal(3, width, dtype=torch.float64)
    stretch, shift = (
        check.draw.uniform(2.0, 9.0, 3, 1, dtype=torch.float64),
        check.draw.normal(3, 1, dtype=torch.float64),
    )
    for make, other in ((LayerNorm, stretch * x + shift), (RMSNorm, stretch * x)):
        module, _ = _with_twin(check, make, width, torch.float64, eps=0.0)
        first = check(module, x).has(shape=x.shape, dtype=x.dtype)
        check(module, other).equals(first.value.detach(), note="as before it was shifted or stretched, to ten digits")
    module, twin = _with_twin(check, RMSNorm, width, torch.float64, eps=0.0)
    check(module, x + 3.0).equals(twin(x + 3.0), note="RMSNorm of shifted tokens is another")


def test_tiny_variances(check: Check) -> None:
    """Where a token's numbers differ by 1e-5, eps decides: it is added to the variance, under the root."""
    width = check.draw.size(4, 9)
    x = check.draw.normal(3, width, scale=1e-5)
    for make in (LayerNorm, RMSNorm):
        module, twin = _with_twin(check, make, width, eps=1e-8)
        # The results are near 0.1, and the usual tolerance of 1e-5 is far less.
        check(module, x).equals(twin(x), note="variances near 1e-10, an eps of 1e-8")


def test_equal_numbers(check: Check) -> None:
    """A token of equal numbers gives the bias alone, one of zeros gives zeros; their gradients are finite."""
    module, twin = _with_twin(check, LayerNorm, 4, torch.float64)
    x = torch.tensor([[3.0] * 4, [0.0] * 4, [1.0, 2.0, 3.0, 4.0]], dtype=torch.float64, requires_grad=True)
    check(module, x).equals(twin(x)).gradients_equal(twin(x), x=x)
    module, twin = _with_twin(check, RMSNorm, 4, torch.float64)
    check(module, x).equals(twin(x)).gradients_equal(twin(x), x=x)
    module, twin = _with_twin(check, LayerNorm, 1)
    one = check.draw.normal(2, 1)
    check(module, one).equals(twin.bias.detach().expand(2, 1), note="of width 1, every token is its own mean")


def test_large_mean(check: Check) -> None:
    """Numbers near 10,000 keep their differences: the variance is the mean of squared distances from the mean."""
    module = check.build(LayerNorm, 8)
    x = 1e4 + check.draw.normal(30, 8, scale=10.0)
    expected = F.layer_norm(x.double(), (8,)).float()
    # The sum of the 8 numbers rounds 7 times by at most half a unit of 2^-7, so the mean is off by at most 0.0034, and
    # by a rounding of 0.0005 more. The deviation of a token is near 10; it is below 0.4 with a probability of 1e-9.
    # E[x^2] - E[x]^2 is made of multiples of 8: it is off by several of the variance's 100.
    check(module, x).equals(expected, atol=0.01, note="computed in float64")


def test_half_precision(check: Check) -> None:
    """In float16 and bfloat16 the statistics are computed in float32, and the result is of the input's dtype."""
    width = check.draw.size(6, 12)
    # Squares of more than 256 overflow float16; the mean of numbers near 100 is off by up to 1/4 in bfloat16.
    large = check.draw.normal(3, 4, width, scale=300.0).to(torch.float16)
    shifted = (100 + 2 * check.draw.normal(3, 4, width)).to(torch.bfloat16)
    for make in (LayerNorm, RMSNorm):
        for x in (large, shifted):
            for dtype in (torch.float32, x.dtype):
                module, twin = _with_twin(check, make, width, dtype)
                expected = twin.double()(x.double()).to(x.dtype)
                check(module, x).equals(expected, note=f"with parameters in {str(dtype).removeprefix('torch.')}")


def test_float64(check: Check) -> None:
    """In float64 all digits are kept; the result is of the input's dtype, whatever that of the parameters."""
    width = check.draw.size()
    x = check.draw.strided(1, 3, width, dtype=torch.float64)
    for make in (LayerNorm, RMSNorm):
        for dtype in (torch.float64, torch.float32, torch.bfloat16):
            module, twin = _with_twin(check, make, width, dtype)
            expected, note = twin.double()(x), f"with parameters in {str(dtype).removeprefix('torch.')}"
            check(module, x).equals(expected, note=note)
            check(module, x.float()).equals(expected.float(), note=note)
        check(module, x[:, :0]).equals(x[:, :0], note="no tokens")


def test_layer_norm_gradients(check: Check) -> None:
    """The gradients of LayerNorm are torch's: for the tokens through mean and variance too, for weight and bias."""
    width = check.draw.size()
    module, twin = _with_twin(check, LayerNorm, width, torch.float64)
    x = check.draw.normal(3, 4, width, dtype=torch.float64, requires_grad=True)
    mine = dict(module.named_parameters())
    expected = F.layer_norm(x, (width,), mine["weight"], mine["bias"], 1e-5)
    check(module, x).equals(twin(x)).gradients_equal(expected, x=x, **mine)


def test_rms_norm_gradients(check: Check) -> None:
    """The gradients of RMSNorm are torch's: for the tokens through the mean square too, and for the weight."""
    width = check.draw.size()
    module, twin = _with_twin(check, RMSNorm, width, torch.float64)
    x = check.draw.normal(3, 4, width, dtype=torch.float64, requires_grad=True)
    mine = dict(module.named_parameters())
    expected = F.rms_norm(x, (width,), mine["weight"], 1e-5)
    check(module, x).equals(twin(x)).gradients_equal(expected, x=x, **mine)


def test_refused(check: Check) -> None:
    """Tokens of another width are refused, as are a width below 1 and an eps that is not at least 0, by value."""
    for make in (LayerNorm, RMSNorm):
        module = check.build(make, 6)
        check.raises(ValueError, module, check.draw.normal(2, 3, 1), naming=("6", "(2, 3, 1)|[2, 3, 1]"))
        check.raises(ValueError, module, check.draw.normal(6, 4), naming=("6", "(6, 4)|[6, 4]"))
        check.raises(ValueError, module, check.draw.normal(), naming=("6", "()|[]"))
        check.raises(ValueError, make, 0, naming=("embed_dim", "0"))
        check.raises(ValueError, make, -3, naming=("embed_dim", "-3"))
        check.raises(ValueError, make, 6, eps=-1e-5, naming=("eps", "-1e-05"))
        check.raises(ValueError, make, 6, eps=math.nan, naming=("eps", "nan"))
