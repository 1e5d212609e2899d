"""Grades block/residual.

The oracle is the definition, x + f(norm(x)) or norm(x + f(x)), written out with torch's own modules. For depth 64 it is
arithmetic: a sublayer that is a rotation times 1/64 has singular values that are known exactly.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from checkpoints.checks import Check, Draw, Workload
from checkpoints.misconceptions import Misconception
from exercises.block.residual import Residual

MISCONCEPTIONS = [
    Misconception(
        "the two placements exchanged: pre normalises what the sublayer gets, post normalises the sum",
        ('self.placement == "pre" else x', 'self.placement == "post" else x'),
        ('self.placement == "post" else total', 'self.placement == "pre" else total'),
    ),
    Misconception(
        "post, whichever placement was asked for",
        ('sublayer(norm(x) if self.placement == "pre" else x)', "sublayer(x)"),
        ('norm(total) if self.placement == "post" else total', "norm(total)"),
    ),
    Misconception(
        "pre, whichever placement was asked for",
        ('sublayer(norm(x) if self.placement == "pre" else x)', "sublayer(norm(x))"),
        ('norm(total) if self.placement == "post" else total', "total"),
    ),
    Misconception(
        "pre with the sum normalised besides", ('norm(total) if self.placement == "post" else total', "norm(total)")
    ),
    Misconception(
        "post with the sublayer's input normalised besides",
        ('sublayer(norm(x) if self.placement == "pre" else x)', "sublayer(norm(x))"),
    ),
    Misconception(
        "pre that adds to the normalised x, not to x itself",
        (
            'branch = sublayer(norm(x) if self.placement == "pre" else x)',
            """
            x = norm(x) if self.placement == "pre" else x
            branch = sublayer(x)
            """,
        ),
    ),
    Misconception(
        "pre that normalises what the sublayer made, not what it gets",
        (
            'sublayer(norm(x) if self.placement == "pre" else x)',
            'norm(sublayer(x)) if self.placement == "pre" else sublayer(x)',
        ),
    ),
    Misconception(
        "post that normalises the branch alone, not the sum",
        ("total = x + self.dropout(branch)", "total = self.dropout(branch)"),
        (
            'return norm(total) if self.placement == "post" else total',
            'return x + (norm(total) if self.placement == "post" else total)',
        ),
    ),
    Misconception(
        "post without any normalisation: that of the sum forgotten",
        ('norm(total) if self.placement == "post" else total', "total"),
    ),
    Misconception(
        "no residual: the sublayer's result alone", ("total = x + self.dropout(branch)", "total = self.dropout(branch)")
    ),
    Misconception(
        "the branch subtracted, not added", ("total = x + self.dropout(branch)", "total = x - self.dropout(branch)")
    ),
    Misconception(
        "the mean of x and the branch, not their sum",
        ("total = x + self.dropout(branch)", "total = (x + self.dropout(branch)) / 2"),
    ),
    Misconception(
        "the sum divided by sqrt(2), which keeps the variance but scales x",
        ("total = x + self.dropout(branch)", "total = (x + self.dropout(branch)) / 2**0.5"),
    ),
    Misconception(
        "the way along x cut by detach: the gradient comes through the sublayer alone",
        ("total = x + self.dropout(branch)", "total = x.detach() + self.dropout(branch)"),
    ),
    Misconception(
        "dropout on the sum, where it drops numbers of x too",
        ("total = x + self.dropout(branch)", "total = self.dropout(x + branch)"),
    ),
    Misconception(
        "dropout on x, not on the branch", ("total = x + self.dropout(branch)", "total = self.dropout(x) + branch")
    ),
    Misconception(
        "dropout before the sublayer, not after it",
        (
            'sublayer(norm(x) if self.placement == "pre" else x)',
            'sublayer(self.dropout(norm(x) if self.placement == "pre" else x))',
        ),
        ("total = x + self.dropout(branch)", "total = x + branch"),
    ),
    Misconception("training without dropout", ("total = x + self.dropout(branch)", "total = x + branch")),
    Misconception(
        "dropout that goes on in evaluation: kept in a list, the Dropout is no submodule, and eval() does not reach it",
        (
            "self.dropout = Dropout(dropout, generator=generator)",
            "self.dropout = [Dropout(dropout, generator=generator)]",
        ),
        ("x + self.dropout(branch)", "x + self.dropout[0](branch)"),
    ),
    Misconception(
        "dropout not drawn from the generator", ("Dropout(dropout, generator=generator)", "Dropout(dropout)")
    ),
    Misconception(
        "x changed in place by `x += ...`", ("total = x + self.dropout(branch)", "total = x.add_(self.dropout(branch))")
    ),
    Misconception(
        "x added into the sublayer's result in place: where the sublayer gives x itself back, that changes x",
        ("total = x + self.dropout(branch)", "total = self.dropout(branch).add_(x)"),
    ),
    Misconception("shapes that are not compared: the sum broadcasts", ("if branch.shape != x.shape:", "if False:")),
    Misconception(
        "a result of fewer axes let through: the last axes compared alone",
        ("if branch.shape != x.shape:", "if branch.shape != x.shape[x.dim() - branch.dim() :]:"),
    ),
    Misconception(
        "a placement that does not exist taken for one of the two", ("if placement not in PLACEMENTS:", "if False:")
    ),
]


def workload(task: Any, draw: Draw) -> list[Workload]:
    """Typical calls, for `compare`."""
    x, weight = draw.normal(8, 128, 256, requires_grad=True), draw.normal(256, 256, scale=0.1)
    sublayer, norm = partial(F.linear, weight=weight), partial(F.layer_norm, normalized_shape=(256,))
    return [
        Workload("Residual('pre')(x, sublayer, norm)", task.Residual("pre"), (x, sublayer, norm)),
        Workload("Residual('post')(x, sublayer, norm)", task.Residual("post"), (x, sublayer, norm)),
    ]


def _parts(draw: Draw, width: int, dtype: torch.dtype = torch.float32) -> tuple[nn.Module, nn.Module]:
    """A sublayer and a normalisation with random weights, as a block would hand them in."""
    sublayer = nn.Sequential(nn.Linear(width, 2 * width), nn.Tanh(), nn.Linear(2 * width, width))
    return draw.fill(sublayer.to(dtype)), draw.fill(nn.LayerNorm(width, dtype=dtype))


def _pre(x: Tensor, sublayer: nn.Module, norm: nn.Module) -> Tensor:
    return x + sublayer(norm(x))


def _post(x: Tensor, sublayer: nn.Module, norm: nn.Module) -> Tensor:
    return norm(x + sublayer(x))


def _identity(x: Tensor) -> Tensor:
    return x


def test_by_hand(check: Check) -> None:
    """On (1, 3), with a sublayer that swaps, doubles and adds 1, and a norm that divides by the sum."""

    def sublayer(x: Tensor) -> Tensor:
        return 2 * x.flip(-1) + 1

    def norm(x: Tensor) -> Tensor:
        return x / x.sum(dim=-1, keepdim=True)

    x = torch.tensor([[1.0, 3.0]])
    pre, post = check.build(Residual, "pre"), check.build(Residual, "post")
    note = "norm (1/4, 3/4), sublayer (2.5, 1.5), added to (1, 3)"
    check(pre, x, sublayer, norm).equals(torch.tensor([[3.5, 4.5]]), note=note)
    note = "sublayer (7, 3), added to (1, 3), then the norm"
    check(post, torch.tensor([[1.0, 3.0]]), sublayer, norm).equals(torch.tensor([[8 / 14, 6 / 14]]), note=note)


def test_pre(check: Check) -> None:
    """Pre, which is also the default: x plus what the sublayer makes of the normalised x."""
    width = check.draw.size()
    sublayer, norm = _parts(check.draw, width)
    x = check.draw.strided(3, 4, width)
    expected = _pre(x, sublayer, norm).detach()
    for options in ((), ("pre",)):
        module = check.build(Residual, *options)
        check(module, x.clone(), sublayer, norm).equals(expected)


def test_post(check: Check) -> None:
    """Post: the sum of x and what the sublayer makes of it, normalised."""
    width = check.draw.size()
    sublayer, norm = _parts(check.draw, width)
    x = check.draw.strided(3, 4, width)
    expected = _post(x, sublayer, norm).detach()
    check(check.build(Residual, "post"), x, sublayer, norm).equals(expected)


def test_order_of_the_calls(check: Check) -> None:
    """Sublayer and normalisation are called once each: the normalisation first in pre, last in post."""
    for placement, order in (("pre", ["norm", "sublayer"]), ("post", ["sublayer", "norm"])):
        called: list[str] = []

        def sublayer(x: Tensor, called: list[str] = called) -> Tensor:
            called.append("sublayer")
            return 2 * x

        def norm(x: Tensor, called: list[str] = called) -> Tensor:
            called.append("norm")
            return x / 4

        module = check.build(Residual, placement)
        check(module, check.draw.normal(2, 3), sublayer, norm)
        check.run(f"what Residual({placement!r}) called", partial(list, called)).equals(order)


def test_gradients(check: Check) -> None:
    """Gradients go along x and through the branch, to the tokens and to every parameter."""
    width = check.draw.size()
    sublayer, norm = _parts(check.draw, width, torch.float64)
    x = check.draw.normal(2, 3, width, dtype=torch.float64, requires_grad=True)
    inputs: dict[str, Any] = {"x": x, **dict(sublayer.named_parameters())}
    inputs |= {f"norm.{name}": parameter for name, parameter in norm.named_parameters()}
    for placement, oracle in (("pre", _pre), ("post", _post)):
        module = check.build(Residual, placement)
        expected = oracle(x, sublayer, norm)
        check(module, x, sublayer, norm).equals(expected.detach()).gradients_equal(expected, **inputs)


def test_zero_sublayer(check: Check) -> None:
    """A sublayer whose last weights are zero leaves x as it is in pre, to the last bit; post normalises it."""
    width = check.draw.size()
    sublayer, norm = _parts(check.draw, width)
    nn.init.zeros_(sublayer[2].weight)  # type: ignore[index]
    nn.init.zeros_(sublayer[2].bias)  # type: ignore[index]
    x = check.draw.normal(2, 3, width)
    answer = check(check.build(Residual, "pre"), x.clone(), sublayer, norm)
    answer.equals(x, rtol=0.0, atol=0.0, note="x itself")  # x + 0 is x, without any rounding
    check(check.build(Residual, "post"), x, sublayer, norm).equals(norm(x).detach(), note="norm(x)")


def test_depth(check: Check) -> None:
    """Through 64 layers of pre the gradient keeps its size, where without the residual it would vanish."""
    depth, width = 64, 8
    module = check.build(Residual, "pre")
    # Rotations times 1/64. Without normalisation, each layer is I + Q/64, whose singular values lie between 1 - 1/64 and
    # 1 + 1/64: after 64 layers the gradient has between 0.365 and 2.70 times its size. Without the residual it would be
    # 64^-64 of it. With normalisation: tokens of deviation 3 lose at most 1/64 with each layer, so it stays above 2,
    # and the derivative of layer_norm is at most 1/2: 1 - 1/128 to 1 + 1/128, which makes 0.605 to 1.65.
    rotations = [torch.linalg.qr(check.draw.normal(width, width, dtype=torch.float64))[0] / depth for _ in range(depth)]
    x = (3 * F.layer_norm(check.draw.normal(4, width, dtype=torch.float64), (width,), eps=0.0)).requires_grad_()
    cotangent = check.draw.normal(4, width, dtype=torch.float64)
    layer_norm = partial(F.layer_norm, normalized_shape=(width,))
    norms: list[tuple[str, Callable[[Tensor], Tensor], float, float]]
    norms = [("without normalisation", _identity, 0.36, 2.71), ("with layer normalisation", layer_norm, 0.6, 1.65)]
    for text, norm, low, high in norms:

        def gradient(norm: Callable[[Tensor], Tensor] = norm) -> Tensor:
            stream = x.clone()
            for rotation in rotations:
                stream = module(stream, partial(F.linear, weight=rotation), norm)
            return torch.autograd.grad((stream * cotangent).sum(), x)[0]

        answer = check.run(f"the gradient through 64 layers of Residual('pre'), {text}", gradient)
        answer.has(shape=x.shape, dtype=x.dtype)
        size = answer.value.norm().item() / cotangent.norm().item()
        answer.satisfies(
            low < size < high,
            got=f"{size:.3g} times the gradient that came in" if math.isfinite(size) else f"a size of {size}",
            expected=f"between {low} and {high} times",
        )


def _dropped(check: Check, placement: str, x: Tensor, generator: torch.Generator | None) -> tuple[Any, Any]:
    """The result of a training step with a dropout of 1/4, and the module; the branch is 2 or 4."""

    def norm(x: Tensor) -> Tensor:
        return x.sign() if placement == "pre" else x

    def sublayer(x: Tensor) -> Tensor:
        return x.sign() + 3

    module = check.build(Residual, placement, dropout=0.25, generator=generator)
    check.mutating(module.train)
    return check(module, x.clone(), sublayer, norm).has(shape=x.shape, dtype=x.dtype), module


def test_dropout(check: Check) -> None:
    """In training each number is x, or x + f / (1 - p): the branch is dropped or scaled, x never."""
    for placement in ("pre", "post"):
        x = check.draw.normal(8, 24, 32)
        answer, _ = _dropped(check, placement, x, torch.Generator().manual_seed(check.draw.seed()))
        branch = x.sign() + 3
        kept = (answer.value - x).abs() > 1
        expected = torch.where(kept, x + branch / 0.75, x)
        answer.equals(expected, note=f"{placement}, x + 0 or x + f / 0.75, with f of 2 or 4")
        # Hoeffding: the share of N = 8 * 24 * 32 independent ones is off by t with probability below 2 exp(-2 N t^2),
        # which is 8e-10 at t = 0.042.
        share = 1 - kept.double().mean().item()
        answer.satisfies(
            abs(share - 0.25) < 0.042,
            got=f"a share of {share:.3f} of the branch dropped",
            expected="0.25, give or take 0.04",
        )


def test_dropout_from_the_generator(check: Check) -> None:
    """The dropout is drawn from the generator, or torch's global one: the same seed, the same result; never twice."""
    x, seed = check.draw.normal(4, 8, 16), check.draw.seed()
    first, module = _dropped(check, "pre", x, torch.Generator().manual_seed(seed))
    again, _ = _dropped(check, "pre", x, torch.Generator().manual_seed(seed))
    again.equals(first.value, note="from a generator of the same seed")
    following = check(module, x.clone(), torch.ones_like, torch.zeros_like)
    alike = ((following.value - x).abs() > 0.5).eq((first.value - x).abs() > 1)
    # Two independent masks agree in all 512 places with a probability of 0.625^512.
    following.satisfies(not alike.all(), got="the same numbers dropped again", expected="others, in another call")
    answers = []
    with torch.random.fork_rng(devices=[]):
        for each in (seed, seed, seed + 1):
            torch.manual_seed(each)
            answers.append(_dropped(check, "pre", x, None)[0])
    same, again, other = answers
    again.equals(same.value, note="from torch's global generator, of the same seed")
    other.satisfies(
        not torch.equal(other.value, same.value),
        got="the same numbers dropped, whatever the seed of torch's global generator",
        expected="numbers drawn from it, where no generator is given",
    )


def test_evaluation(check: Check) -> None:
    """In evaluation nothing is dropped, also where the Residual is a part of a larger module."""
    width = check.draw.size()
    sublayer, norm = _parts(check.draw, width)
    x = check.draw.normal(4, 8, width)
    for placement, oracle in (("pre", _pre), ("post", _post)):
        module = check.build(Residual, placement, dropout=0.5)
        block = nn.ModuleList([module, sublayer, norm])
        check.mutating(block.eval)
        expected = oracle(x, sublayer, norm).detach()
        check(module, x.clone(), sublayer, norm).equals(expected, note="in evaluation")


def test_no_parameters(check: Check) -> None:
    """It has no parameters and an empty state_dict, also after sublayer and norm have been handed in."""
    module = check.build(Residual, "post", 0.1)
    sublayer, norm = _parts(check.draw, 4)
    check(module, check.draw.normal(2, 4), sublayer, norm)
    check.run("the state_dict of Residual('post', 0.1)", lambda: list(module.state_dict())).equals([])
    names = check.run("the parameters of Residual('post', 0.1)", lambda: [n for n, _ in module.named_parameters()])
    names.equals([])


def test_edges(check: Check) -> None:
    """One token without a batch, no tokens at all, float64, bfloat16; and a sublayer that gives its input back."""
    width = check.draw.size()
    for placement, oracle in (("pre", _pre), ("post", _post)):
        module = check.build(Residual, placement)
        sublayer, norm = _parts(check.draw, width, torch.float64)
        for shape in ((width,), (1, 1, width), (1, 0, width), (2, 2, 3, width)):
            x = check.draw.normal(*shape, dtype=torch.float64)
            expected = oracle(x, sublayer, norm).detach()
            check(module, x, sublayer, norm).equals(expected, note=placement)
        sublayer, norm = _parts(check.draw, width, torch.bfloat16)
        x = check.draw.normal(2, width).bfloat16()
        check(module, x, sublayer, norm).has(shape=x.shape, dtype=torch.bfloat16)
        x = check.draw.normal(2, width)
        twice = 2 * x
        check(module, x, _identity, _identity).equals(twice, note="x + x, and x itself is not changed")


def test_refused(check: Check) -> None:
    """A placement that does not exist is refused by name, with those that do; and a dropout of 1."""
    check.raises(ValueError, Residual, "middle", naming=("middle", "pre", "post"))
    check.raises(ValueError, Residual, "", naming=("pre", "post"))
    check.raises(ValueError, Residual, "pre", 1.0, naming="1")
    check.raises(ValueError, Residual, "post", dropout=-0.1, naming="-0.1")
    check.raises(ValueError, Residual, "post", dropout=math.nan, naming="nan")


def test_refused_sizes(check: Check) -> None:
    """A sublayer whose result has an axis of another size is refused with both shapes: of size 1 it would broadcast."""

    def first_token(x: Tensor) -> Tensor:
        return x[:, :1]

    def mean(x: Tensor) -> Tensor:
        return x.mean(dim=-1, keepdim=True)

    x, full = check.draw.normal(2, 3, 4), "(2, 3, 4)|[2, 3, 4]"
    for placement in ("pre", "post"):
        module = check.build(Residual, placement)
        check.raises(ValueError, module, x, first_token, _identity, naming=("(2, 1, 4)|[2, 1, 4]", full))
        check.raises(ValueError, module, x, mean, _identity, naming=("(2, 3, 1)|[2, 3, 1]", full))


def test_refused_axes(check: Check) -> None:
    """A sublayer whose result has fewer axes, or more, is refused with both shapes: it would broadcast too."""

    def last_token(x: Tensor) -> Tensor:
        return x[-1, -1]

    def new_axis(x: Tensor) -> Tensor:
        return x[None]

    x, full = check.draw.normal(2, 3, 4), "(2, 3, 4)|[2, 3, 4]"
    for placement in ("pre", "post"):
        module = check.build(Residual, placement)
        check.raises(ValueError, module, x, last_token, _identity, naming=("(4,)|[4]", full))
        check.raises(ValueError, module, x, new_axis, _identity, naming=("(1, 2, 3, 4)|[1, 2, 3, 4]", full))
