"""Grades networks/regularization.

The oracles are torch.nn.BatchNorm1d with the same weights, over several batches, and for dropout its definition: what
is kept is read off the result, and how often by bounds that a right answer misses less than once in 1e9 runs.
"""

import copy
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from checkpoints.checks import Check, Draw, Workload
from checkpoints.misconceptions import Misconception
from checkpoints.verdicts import Kind
from exercises.networks.regularization import BatchNorm1d, Dropout

MISCONCEPTIONS = [
    Misconception("dropout that does not divide what it keeps by 1 - p", ("mask.div_(1.0 - self.p)", "mask")),
    Misconception(
        "what is kept divided by p, not by 1 - p",
        ("mask.div_(1.0 - self.p)", "mask.div_(self.p)"),
    ),
    Misconception(
        "what is kept multiplied by 1 - p: it must be divided, so that the mean stays",
        ("mask.div_(1.0 - self.p)", "mask.mul_(1.0 - self.p)"),
    ),
    Misconception(
        "numbers kept with probability p, and dropped with 1 - p",
        ("bernoulli_(1.0 - self.p, generator", "bernoulli_(self.p, generator"),
    ),
    Misconception(
        "p and 1 - p swapped, in the mask and in the divisor alike",
        ("bernoulli_(1.0 - self.p, generator", "bernoulli_(self.p, generator"),
        ("mask.div_(1.0 - self.p)", "mask.div_(self.p)"),
    ),
    Misconception(
        "dropout in evaluation too",
        ("if not self.training or self.p == 0.0:", "if self.p == 0.0:"),
    ),
    Misconception(
        "evaluation multiplied by 1 - p, although training has divided by it already",
        (
            "if not self.training or self.p == 0.0:",
            "if not self.training:\n    return x * (1.0 - self.p)\nif self.p == 0.0:",
        ),
    ),
    Misconception(
        "something drawn from the generator at p = 0",
        ("if not self.training or self.p == 0.0:", "if not self.training:"),
    ),
    Misconception(
        "one mask for all examples of the batch",
        ("torch.empty_like(x).bernoulli_", "torch.empty_like(x[:1]).bernoulli_"),
    ),
    Misconception(
        "whole rows dropped: one draw for all numbers of the last axis",
        ("torch.empty_like(x).bernoulli_", "torch.empty_like(x[..., :1]).bernoulli_"),
    ),
    Misconception(
        "dropout drawn from torch's global generator, not from its own",
        ("bernoulli_(1.0 - self.p, generator=self.generator)", "bernoulli_(1.0 - self.p)"),
    ),
    Misconception(
        "a new generator of a fixed seed where none is given: every module draws the same masks",
        ("self.generator = generator", "self.generator = generator or torch.Generator()"),
    ),
    Misconception(
        "one mask drawn once and used for ever",
        (
            "mask = torch.empty_like(x).bernoulli_(1.0 - self.p, generator=self.generator)",
            "if getattr(self, 'mask', x[..., :0]).shape != x.shape:\n    self.mask = torch.empty_like(x).bernoulli_(1.0 - self.p, generator=self.generator)\nmask = self.mask.clone()",
        ),
    ),
    Misconception("p = 1 accepted, and 0/0 computed", ("if not 0.0 <= p < 1.0:", "if not 0.0 <= p <= 1.0:")),
    Misconception(
        "p kept as a buffer: it is a setting, and has no place in the state_dict",
        ("self.p = p", 'self.register_buffer("p", torch.tensor(p, dtype=torch.float64))'),
    ),
    Misconception(
        "training with the running statistics, not with those of the batch",
        ("return variance, mean", "return self.running_var, self.running_mean"),
    ),
    Misconception(
        "evaluation with the batch's statistics, not with the running ones",
        (
            "variance, mean = self.running_var, self.running_mean",
            "variance, mean = torch.var_mean(x, dim=(0,) if x.dim() == 2 else (0, 2), correction=0)",
        ),
    ),
    Misconception(
        "running statistics that evaluation moves as well",
        (
            "variance, mean = self.running_var, self.running_mean",
            "variance, mean = self.running_var.clone(), self.running_mean.clone()\nif len(x) > 1:\n    self._batch_statistics(x)",
        ),
    ),
    Misconception(
        "normalization by the unbiased variance: the batch's own is divided by n",
        ("correction=0)", "correction=1)"),
        ("variance * (count / (count - 1))", "variance"),
    ),
    Misconception(
        "the biased variance in running_var: what is kept is divided by n - 1",
        ("variance * (count / (count - 1))", "variance"),
    ),
    Misconception(
        "the variance as mean of the squares minus square of the mean, in which the digits cancel",
        (
            "variance, mean = torch.var_mean(x, dim=axes, correction=0)",
            "mean = x.mean(dim=axes)\nvariance = ((x * x).mean(dim=axes) - mean * mean).clamp_min(0.0)",
        ),
    ),
    Misconception(
        "momentum the wrong way round: it is the share of the new batch",
        ("else self.momentum", "else 1.0 - self.momentum"),
    ),
    Misconception(
        "momentum=None taken for 0.1: it asks for plain averages",
        ("1.0 / self.num_batches_tracked.item() if", "0.1 if"),
    ),
    Misconception(
        "batches that are never counted",
        ("self.num_batches_tracked += 1", "pass"),
        ("1.0 / self.num_batches_tracked.item() if", "1.0 if"),
    ),
    Misconception(
        "eps added to the standard deviation: it belongs under the root",
        ("(variance + self.eps).rsqrt()", "1.0 / (variance.sqrt() + self.eps)"),
    ),
    Misconception(
        "each example normalized over its own channels, as layer normalization does",
        (
            "variance, mean = self._batch_statistics(x)",
            "self._batch_statistics(x)\nx = (x - x.mean(dim=1, keepdim=True)) * (x.var(dim=1, correction=0, keepdim=True) + self.eps).rsqrt()\nvariance, mean = torch.full_like(self.running_var, 1.0 - self.eps), torch.zeros_like(self.running_mean)",
        ),
    ),
    Misconception(
        "each position of (N, C, L) normalized by itself: its statistics are taken over N alone, not over N and L",
        (
            "variance, mean = self._batch_statistics(x)",
            "self._batch_statistics(x)\nx = (x - x.mean(dim=0, keepdim=True)) * (x.var(dim=0, correction=0, keepdim=True) + self.eps).rsqrt()\nvariance, mean = torch.full_like(self.running_var, 1.0 - self.eps), torch.zeros_like(self.running_mean)",
        ),
    ),
    Misconception(
        "each example of (N, C, L) normalized by itself: its statistics are taken over L alone, not over N and L",
        (
            "variance, mean = self._batch_statistics(x)",
            "variance, mean = self._batch_statistics(x)\nif x.dim() == 3:\n    x = (x - x.mean(dim=2, keepdim=True)) * (x.var(dim=2, correction=0, keepdim=True) + self.eps).rsqrt()\n    variance, mean = torch.full_like(self.running_var, 1.0 - self.eps), torch.zeros_like(self.running_mean)",
        ),
    ),
    Misconception(
        "running statistics as parameters: an optimizer would train them",
        (
            'self.register_buffer("running_mean", torch.zeros(num_features))',
            "self.running_mean = nn.Parameter(torch.zeros(num_features))",
        ),
        (
            'self.register_buffer("running_var", torch.ones(num_features))',
            "self.running_var = nn.Parameter(torch.ones(num_features))",
        ),
    ),
    Misconception(
        "running statistics as plain attributes, which are not saved with the weights",
        (
            'self.register_buffer("running_mean", torch.zeros(num_features))',
            "self.running_mean = torch.zeros(num_features)",
        ),
        (
            'self.register_buffer("running_var", torch.ones(num_features))',
            "self.running_var = torch.ones(num_features)",
        ),
    ),
    Misconception(
        "running statistics with a graph attached, which keeps every batch in memory",
        ("with torch.no_grad():", "with torch.enable_grad():"),
    ),
    Misconception(
        "mean and variance taken for constants in the backward pass",
        ("return variance, mean", "return variance.detach(), mean.detach()"),
    ),
    Misconception(
        "one number per channel accepted in training: it is its own mean, and all becomes 0",
        ("if count < 2:", "if count < 1:"),
        ("variance * (count / (count - 1))", "variance * (count / max(count - 1, 1))"),
    ),
    Misconception(
        "a single example refused although it has several positions",
        ("if count < 2:", "if len(x) < 2:"),
    ),
]


def workload(task: Any, draw: Draw) -> list[Workload]:
    """Typical calls, for `compare`."""
    x, signal = draw.normal(256, 512, requires_grad=True), draw.normal(32, 64, 128, requires_grad=True)
    norm: Any = draw.fill(task.BatchNorm1d(512))
    channels: Any = draw.fill(task.BatchNorm1d(64))
    # Evaluation is drawn from nothing: the two sides would draw different masks, for the second goes on.
    return [
        Workload("Dropout(0.1).eval()(x)", task.Dropout(0.1).eval(), (x,)),
        Workload("BatchNorm1d(512)(x)", norm, (x,)),
        Workload("BatchNorm1d(64)(signal)", channels, (signal,)),
        Workload("BatchNorm1d(64).eval()(signal)", copy.deepcopy(channels).eval(), (signal,)),
    ]


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _away_from_zero(draw: Draw, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Numbers of both signs and none near 0, so that a 0 in the result is one that was dropped."""
    values = draw.normal(*shape, dtype=dtype)
    return values + torch.where(values < 0, -0.5, 0.5).to(dtype)


def _twin(
    check: Check, channels: int, dtype: torch.dtype = torch.float32, **options: Any
) -> tuple[Any, nn.BatchNorm1d]:
    """The learner's module, and torch's with the same weights."""
    module = check.build(BatchNorm1d, channels, **options)
    twin = nn.BatchNorm1d(channels, **options)
    if dtype != torch.float32:
        check.mutating(module.to, dtype)
        twin.to(dtype)
    weights = {name: check.draw.normal(channels, dtype=dtype) + 2.0 for name, _ in twin.named_parameters()}
    check.load(module, weights)
    twin.load_state_dict(twin.state_dict() | weights)
    return module, twin


def _batches(draw: Draw, channels: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Batches of both kinds, each channel with a mean and a deviation of its own."""
    means, scales = draw.normal(channels, dtype=dtype) * 2.0, draw.uniform(0.5, 3.0, channels, dtype=dtype)
    flat, deep = (
        draw.strided(draw.size(4, 9), channels, dtype=dtype),
        draw.strided(3, channels, draw.size(4, 9), dtype=dtype),
    )
    return [flat * scales + means, deep * scales[:, None] + means[:, None], draw.normal(2, channels, dtype=dtype)]


def _buffers(module: nn.Module) -> dict[str, Tensor]:
    return {name: buffer.detach().clone() for name, buffer in module.named_buffers()}


def _listed(module: nn.Module, method: str) -> dict[str, Tensor]:
    return {name: tensor.detach() for name, tensor in dict(getattr(module, method)()).items()}


def _same_statistics(check: Check, module: Any, twin: nn.BatchNorm1d, when: str) -> None:
    """The learner's running statistics are torch's."""
    for name, expected in twin.named_buffers():
        check.run(f"{name} {when}", partial(getattr, module, name)).equals(expected)


def test_dropout_scale(check: Check) -> None:
    """Dropout(0.2) of anything: each number becomes 0, or is divided by 0.8."""
    x = _away_from_zero(check.draw, 40, 50)
    for rate, factor in ((0.2, 1.25), (0.75, 4.0)):
        module = check.build(Dropout, rate, generator=_seeded(check.draw.seed()))
        answer = check(module, x).has(shape=x.shape, dtype=x.dtype)
        # None of 2000 numbers is kept with a probability of 0.75^2000, below 1e-249.
        kept = answer.value != 0
        factors = (answer.value / x)[kept]
        least, greatest = (float(bound) for bound in factors.aminmax()) if len(factors) else (0.0, 0.0)
        between = f"{least:.4g}" if f"{least:.4g}" == f"{greatest:.4g}" else f"from {least:.4g} to {greatest:.4g}"
        check.that(
            bool(kept.any()) and abs(least - factor) < 1e-4 and abs(greatest - factor) < 1e-4,
            call=f"what {answer.call} does to the numbers that it keeps",
            got=f"multiplies them by {between}",
            expected=f"multiplies them by 1 / (1 - {rate}) = {factor}",
        )


def test_dropout_independence(check: Check) -> None:
    """Each number is dropped on its own: examples, positions and columns have masks that differ, and so do calls."""
    module = check.build(Dropout, 0.5, generator=_seeded(check.draw.seed()))
    x = torch.ones(10, 10, 10)
    answer = check(module, x).has(shape=x.shape, dtype=x.dtype)
    kept = answer.value != 0
    # The 100 numbers of two slices are alike by chance with a probability of 0.5^100, below 1e-30.
    slices = {
        "example of the batch": (kept[0], kept[1]),
        "position of the middle axis": (kept[:, 0], kept[:, 1]),
        "number of the last axis": (kept[..., 0], kept[..., 1]),
        "call": (kept, check(module, x).has(shape=x.shape, dtype=x.dtype).value != 0),
    }
    for name, (one, other) in slices.items():
        check.that(
            not one.equal(other),
            call=f"where {answer.call} is 0",
            got=f"the same for every {name}",
            expected="each number dropped on its own",
        )


def test_dropout_rate(check: Check) -> None:
    """Over 40000 numbers, the share of zeros is p; 0.5 if none is given."""
    # Hoeffding: the share of N = 40000 independent ones is off by t with probability below 2 exp(-2 N t^2), which is
    # 4e-14 at t = 0.02.
    x = torch.ones(200, 200)
    for given in (0.1, 0.5, 0.8, None):
        rate, rates = (0.5, ()) if given is None else (given, (given,))
        module = check.build(Dropout, *rates, generator=_seeded(check.draw.seed()))
        answer = check(module, x).has(shape=x.shape, dtype=x.dtype)
        share = (answer.value == 0).double().mean().item()
        if abs(share - rate) < 0.02:
            check.passed()
        else:
            # Known again by its first digit: another implementation may draw another mask from the same generator.
            call, wanted = f"the share of zeros in {answer.call}", f"{rate}, give or take 0.02"
            check.note(Kind.WRONG_VALUE, call, f"{share:.3g}", wanted, proof=f"{share:.1f}")


def test_dropout_generator(check: Check) -> None:
    """The mask comes out of the generator given, and out of torch's global one if none is."""
    x, seed = torch.ones(20, 20), check.draw.seed()
    before = torch.get_rng_state()
    generator = _seeded(seed)
    first = check(check.build(Dropout, 0.5, generator=generator), x).has(shape=x.shape).value
    check.that(
        torch.get_rng_state().equal(before) and not generator.get_state().equal(_seeded(seed).get_state()),
        call="Dropout(0.5, generator=generator)(x)",
        got="a mask that was not drawn from the generator alone",
        expected="one drawn from the generator, and from no other",
    )
    # Two masks of 400 numbers are alike by chance with a probability of 0.5^400.
    for text, other_seed, same in (("the same seed", seed, True), ("another seed", seed + 1, False)):
        other = check(check.build(Dropout, 0.5, generator=_seeded(other_seed)), x).has(shape=x.shape).value
        check.that(
            first.equal(other) is same,
            call=f"Dropout(0.5, generator=generator)(x) with two generators of {text}",
            got="other masks" if same else "the same mask",
            expected="the same mask" if same else "other masks",
        )
    before = torch.get_rng_state()
    check(check.build(Dropout, 0.5), x)
    check.that(
        not torch.get_rng_state().equal(before),
        call="Dropout(0.5)(x)",
        got="a mask that was not drawn from torch's global generator",
        expected="one from there, where no generator is given",
    )


def test_dropout_off(check: Check) -> None:
    """In evaluation and at p = 0 it is the identity, to the last bit, and draws nothing."""
    usual, extreme = check.draw.normal(30, 10), torch.tensor([float("inf"), -0.0, 1e-45, 3e38, -1.0])
    for rate, training in ((0.5, False), (0.0, True), (0.0, False)):
        seed, when = check.draw.seed(), "in training" if training else "in evaluation"
        generator = _seeded(seed)
        module = check.build(Dropout, rate, generator=generator)
        check.mutating(module.train, training)
        for x in (usual, extreme):
            # Nothing is computed, so nothing is rounded.
            answer = check(module, x).equals(x, rtol=0.0, atol=0.0, note=f"{when}: the very values of x")
            answer.satisfies(
                generator.get_state().equal(_seeded(seed).get_state()),
                got=f"something drawn from the generator, {when}",
                expected="nothing drawn",
            )


def test_dropout_gradient(check: Check) -> None:
    """The gradient is 0 where a number was dropped, and multiplied by 1 / (1 - p) elsewhere; in bfloat16 too."""
    x = _away_from_zero(check.draw, 6, 7, 8, dtype=torch.float64).mT.requires_grad_()
    module = check.build(Dropout, 0.75, generator=_seeded(check.draw.seed()))
    answer = check(module, x).has(shape=x.shape, dtype=torch.float64)
    expected = x * (answer.value.detach() != 0) * 4.0
    answer.equals(expected.detach(), note="what is kept, times 4").gradients_equal(expected, x=x)
    # A single number, and none: an axis of length 0.
    for small in (torch.tensor([[-2.0]], dtype=torch.bfloat16), torch.zeros(0, 3)):
        answer = check(module, small).has(shape=small.shape, dtype=small.dtype)
        answer.equals(small * (answer.value != 0) * 4.0)


def test_dropout_refuses(check: Check) -> None:
    """A p below 0, of 1 or above is refused by name: at 1 there would be nothing left to scale."""
    for rate in (-0.25, -1e-9, 1.0, 1.5, float("nan")):
        check.raises(ValueError, Dropout, rate, naming=("p", str(rate)))


def test_dropout_copies(check: Check) -> None:
    """A network that holds one can be copied and saved: nothing of it is in the state_dict."""
    dropout = check.build(Dropout, 0.5, generator=_seeded(check.draw.seed()))
    network = nn.Sequential(dropout, nn.Linear(3, 2))
    keys = check.run(
        "the keys of the state_dict of nn.Sequential(Dropout(0.5), nn.Linear(3, 2))", lambda: [*network.state_dict()]
    )
    keys.equals(["1.weight", "1.bias"])
    x = torch.ones(50, 3)
    clone = check.run(
        "copy.deepcopy(nn.Sequential(Dropout(0.5), nn.Linear(3, 2)))", lambda: copy.deepcopy(network)
    ).value
    copied = check.run("its copy's result", lambda: clone(x)).has(shape=(50, 2))
    original = check.run("its own result, after that", lambda: network(x)).has(shape=(50, 2))
    # Two masks of 150 numbers are alike by chance with a probability of 0.5^150.
    check.that(
        copied.value.equal(original.value),
        call="a network with dropout, and its deep copy",
        got="other masks: the copy draws from another generator, or from the very same one",
        expected="the same mask: the copy has its own generator, in the same state",
    )


def test_norm_by_hand(check: Check) -> None:
    """Numbers 1 and 3 have mean 2 and variance 1; with eps = 3, they become -1/2 and 1/2."""
    x = torch.tensor([[1.0], [3.0]])
    module = check.build(BatchNorm1d, 1, eps=3.0)
    check(module, x).equals(torch.tensor([[-0.5], [0.5]]), note="(x - 2) / sqrt(1 + 3)")
    check.run("running_mean after it", lambda: module.running_mean).equals(
        torch.tensor([0.2]), note="0.9 * 0 + 0.1 * 2"
    )
    check.run("running_var after it", lambda: module.running_var).equals(
        torch.tensor([1.1]), note="0.9 * 1 + 0.1 * 2, for the unbiased variance is 2"
    )


def test_norm_parameters(check: Check) -> None:
    """Parameters and buffers are torch's, by name, shape, dtype and first value; so is the state_dict."""
    for options in ({}, {"affine": False}):
        module, twin = check.build(BatchNorm1d, 3, **options), nn.BatchNorm1d(3, **options)
        text = "BatchNorm1d(3, affine=False)" if options else "BatchNorm1d(3)"
        for name in ("named_parameters", "named_buffers"):
            check.run(f"dict({text}.{name}())", partial(_listed, module, name)).equals(_listed(twin, name))
        check.run(f"{text}.state_dict()", partial(_listed, module, "state_dict")).equals(_listed(twin, "state_dict"))


def test_norm_training(check: Check) -> None:
    """In training, batches (N, C) and (N, C, L) come out as from torch's module with the same weights."""
    channels = check.draw.size(3, 7)
    for options in ({}, {"eps": 0.5}, {"affine": False}):
        module, twin = _twin(check, channels, **options)
        for x in _batches(check.draw, channels):
            over = "N" if x.dim() == 2 else "N and L"
            note = f"as torch's: a channel's mean and variance go over {over}"
            check(module, x).equals(twin(x).detach(), note=note)


def test_norm_running(check: Check) -> None:
    """After each of several batches, running mean, variance and count are torch's, whatever the momentum."""
    channels = check.draw.size(3, 7)
    for momentum in (0.1, 0.0, 0.7, 1.0):
        module, twin = _twin(check, channels, momentum=momentum)
        for number, x in enumerate(_batches(check.draw, channels), start=1):
            check(module, x)
            twin(x)
            _same_statistics(check, module, twin, f"after batch {number}, with momentum={momentum}")


def test_norm_average(check: Check) -> None:
    """With momentum=None, the running statistics are the plain averages over all batches."""
    channels = check.draw.size(3, 7)
    module, twin = _twin(check, channels, momentum=None)
    for x in _batches(check.draw, channels):
        check(module, x)
        twin(x)
    _same_statistics(check, module, twin, "after three batches, with momentum=None")


def test_norm_evaluation(check: Check) -> None:
    """In evaluation the running statistics are used and left alone, and each example stands for itself."""
    channels = check.draw.size(3, 7)
    module, twin = check.build(BatchNorm1d, channels), nn.BatchNorm1d(channels)
    state = {name: check.draw.normal(channels) for name in ("weight", "bias", "running_mean")}
    state |= {"running_var": check.draw.uniform(0.3, 3.0, channels), "num_batches_tracked": torch.tensor(7)}
    check.load(module, state, buffers=True)
    twin.load_state_dict(state)
    check.mutating(module.eval)
    twin.eval()
    for x in _batches(check.draw, channels):
        expected = twin(x).detach()
        check(module, x).equals(expected, note="in evaluation, by the running statistics")
        check(module, x[:1]).equals(expected[:1], note="in evaluation, the first example alone")
    _same_statistics(check, module, twin, "after six calls in evaluation")


def test_norm_after_training(check: Check) -> None:
    """Trained in float64 on three batches and then evaluated, it is torch's all along."""
    channels = check.draw.size(3, 7)
    module, twin = _twin(check, channels, torch.float64, momentum=0.3)
    batches = _batches(check.draw, channels, torch.float64)
    for x in batches:
        check(module, x).equals(twin(x).detach())
    check.mutating(module.eval)
    twin.eval()
    for x in batches:
        check(module, x).equals(twin(x).detach(), note="in evaluation")


def test_norm_gradients(check: Check) -> None:
    """Gradients reach x, weight and bias as through torch's module: in training by way of mean and variance too."""
    channels = check.draw.size(3, 7)
    for training in (True, False):
        module, twin = _twin(check, channels, torch.float64)
        check.mutating(module.train, training)
        twin.train(training)
        for x in _batches(check.draw, channels, torch.float64):
            x.requires_grad_()
            parameters = dict(module.named_parameters())
            expected = F.batch_norm(x, twin.running_mean, twin.running_var, **parameters, training=training)
            check(module, x).gradients_equal(expected, x=x, **parameters)


def test_norm_keeps_no_graph(check: Check) -> None:
    """What is kept of a batch has no gradient attached: else every batch would stay in memory."""
    module = check.build(BatchNorm1d, 3)
    check(module, check.draw.normal(4, 3, requires_grad=True)).has(shape=(4, 3))
    for name in ("running_mean", "running_var"):
        kept = check.run(f"{name} after a batch in training", partial(getattr, module, name)).has(shape=(3,))
        kept.satisfies(
            not kept.value.requires_grad,
            got="a tensor that requires a gradient",
            expected="a buffer without: nobody trains it, and it must not hold on to the batch",
        )


def test_norm_extremes(check: Check) -> None:
    """A channel that does not vary becomes its bias; one far from 0 keeps its digits."""
    module, _ = _twin(check, 2)
    x = torch.tensor([[7.0, 1.0], [7.0, 2.0], [7.0, 3.0]], requires_grad=True)
    answer = check(module, x).has(shape=(3, 2), dtype=torch.float32)
    constant = check.run("its first channel, which does not vary", lambda: answer.value[:, 0])
    # x * scale + (bias - mean * scale) is right too, and rounds numbers as large as 7 * weight / sqrt(eps), some 1e4,
    # to half a unit in the last place, 5e-4, a few times: ten of those.
    constant.equals(module.bias.detach()[0].expand(3), atol=5e-3, note="its bias, for there is no deviation")
    (gradient,) = torch.autograd.grad(answer.value.square().sum(), x) if answer.value.requires_grad else (x.detach(),)
    answer.satisfies(gradient.isfinite().all(), got="a gradient that is not finite", expected="a finite one")
    # A mean of 3000 beside a deviation of 1: in float32 a number has digits down to 3000 * 6e-8 = 2e-4, and a right
    # answer is off by a few of these; the mean of the squares, 9e6, has them down to 0.5.
    x = check.draw.normal(64, 2) + 3000.0
    expected = (x.double() - x.double().mean(dim=0)) / (x.double().var(dim=0, correction=0) + 1e-5).sqrt()
    answer = check(check.build(BatchNorm1d, 2), x).has(shape=(64, 2), dtype=torch.float32)
    check.that(
        bool(((answer.value - expected).abs() < 5e-3).all()),
        call=answer.call + ", of numbers around 3000 with a deviation of 1",
        got="a result with an error of more than 0.005",
        expected="one as exact as the numbers are, to about 0.001",
    )


def test_norm_refuses(check: Check) -> None:
    """One number per channel in training, other axes or other channels are refused by their shape."""
    module = check.build(BatchNorm1d, 3)
    before = _buffers(module)
    for shape in ((1, 3), (1, 3, 1), (0, 3), (2, 3, 0), (3,), (2, 3, 4, 5), (3, 4), (2, 4, 3), (2, 1)):
        check.raises(ValueError, module, check.draw.normal(*shape), naming=str(shape))
    check.run("the buffers, after these", lambda: _buffers(module)).equals(before, note="left as they were")
    check(module, torch.tensor([[[1.0, 3.0], [2.0, 2.0], [0.0, 2.0]]])).equals(
        torch.tensor([[[-1.0, 1.0], [0.0, 0.0], [-1.0, 1.0]]]), note="one example of two positions is enough"
    )
    check.mutating(module.eval)
    for shape in ((1, 3), (0, 3), (1, 3, 1)):
        zeros = torch.zeros(shape)
        check(module, zeros).has(shape=shape)
    for shape in ((2, 4), (3,), (2, 3, 1, 1)):
        check.raises(ValueError, module, check.draw.normal(*shape), naming=str(shape))
