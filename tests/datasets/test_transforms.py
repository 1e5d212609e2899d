"""Grades datasets/transforms.

The oracles are the standard library's `statistics`, inverses, counts of what is drawn, with bounds derived where they
stand, and real worker processes: what two of them draw is compared.
"""

import math
import pickle
import statistics
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from checkpoints.checks import Answer, Check, Draw, Stop, Workload
from checkpoints.misconceptions import Misconception
from exercises.datasets.transforms import AddNoise, Compose, RandomCrop, Standardize, standardize_splits

MISCONCEPTIONS = [
    Misconception("the last transform applied first", ("in self.transforms:", "in reversed(self.transforms):")),
    Misconception(
        "each transform given the original item, so that only the last one counts",
        (
            "for transform in self.transforms:\n    item = transform(item)\nreturn item",
            "result = item\nfor transform in self.transforms:\n    result = transform(item)\nreturn result",
        ),
    ),
    Misconception(
        "transforms undone in the order in which they were applied: the last must be undone first",
        ("in reversed(self.transforms):", "in tuple(self.transforms):"),
    ),
    Misconception(
        "the standard deviation over N - 1 (torch's default, correction=1), not over N",
        ("dim=0, correction=0", "dim=0"),
    ),
    Misconception(
        "the variance in the place of the standard deviation", ("torch.std_mean(rows", "torch.var_mean(rows")
    ),
    Misconception(
        "one mean and one standard deviation for all features together",
        (
            "torch.std_mean(rows, dim=0, correction=0)",
            "(each.expand(rows.shape[1]) for each in torch.std_mean(rows, correction=0))",
        ),
    ),
    Misconception(
        "statistics over the features of each row, not over the rows of each feature",
        ("torch.std_mean(rows, dim=0,", "torch.std_mean(rows, dim=1,"),
        ("rows.amin(dim=0) == rows.amax(dim=0)", "rows.amin(dim=1) == rows.amax(dim=1)"),
    ),
    Misconception(
        "the variance as the mean of the squares less the square of the mean, which cancels in float32",
        (
            "std, mean = torch.std_mean(rows, dim=0, correction=0)",
            """
            mean = rows.float().mean(dim=0)
            std = (rows.float().square().mean(dim=0) - mean.square()).clamp_min(1e-12).sqrt()
            """,
        ),
    ),
    Misconception(
        "a constant feature divided by a standard deviation of 0",
        ("std.masked_fill(constant, 1.0)", "std"),
        ("if not bool((std > 0).all()):", "if False:"),
    ),
    Misconception(
        "a constant feature divided by a deviation that is nothing but the rounding of its mean",
        (
            "std, mean = torch.std_mean(rows, dim=0, correction=0)",
            "mean = data.flatten(end_dim=-2).mean(dim=0)\nstd = (data.flatten(end_dim=-2) - mean).square().mean(dim=0).sqrt()",
        ),
        ("rows.amin(dim=0) == rows.amax(dim=0)", "std == 0"),
    ),
    Misconception(
        "a small number added to every standard deviation, which changes features of a small scale",
        ("std.masked_fill(constant, 1.0)", "(std + 1e-5)"),
    ),
    Misconception("scaled first and then shifted", ("return (x - mean) / std", "return x / std - mean")),
    Misconception(
        "an inverse that shifts first and then scales: the steps must be undone in reverse",
        ("return x * std + mean", "return (x + mean) * std"),
    ),
    Misconception("standardized in place", ("return (x - mean) / std", "return x.sub_(mean).div_(std)")),
    Misconception(
        "a result in the dtype of the statistics, not of the input",
        ("return self.mean.to(x), self.std.to(x)", "return self.mean.double(), self.std.double()"),
    ),
    Misconception(
        "one feature broadcast against the statistics of many",
        ("if x.shape[-1:] != self.mean.shape:", "if x.shape[-1] not in (1, len(self.mean)):"),
    ),
    Misconception(
        "NaN in the data that makes all of its feature NaN, and nobody told",
        ("if not finite.all():", "if False:"),
        ("if not bool((std > 0).all()):", "if bool((std <= 0).any()):"),
    ),
    Misconception(
        "statistics over all splits, validation and test among them",
        (
            "Standardize.fit(splits[fit_on])",
            "Standardize.fit(torch.cat([each.flatten(end_dim=-2) for each in splits.values()]))",
        ),
    ),
    Misconception(
        "each split standardized by its own statistics",
        ("name: standardize(data) for", "name: Standardize.fit(data)(data) for"),
    ),
    Misconception(
        "noise from torch's global generator",
        ("self._source.generator().standard_normal(x.shape)", "torch.randn_like(x)"),
    ),
    Misconception(
        "places from torch's global generator",
        ("self._source.generator().integers(last + 1)", "int(torch.randint(last + 1, ()))"),
    ),
    Misconception(
        "noise drawn once and used again in each call",
        (
            "noise = self._source.generator().standard_normal(x.shape)",
            """
            if getattr(self, "_noise", x[:0]).shape != x.shape:
                self._noise = self._source.generator().standard_normal(x.shape)
            noise = self._noise
            """,
        ),
    ),
    Misconception(
        "one number for the whole item, not one for each element",
        ("standard_normal(x.shape)", "standard_normal()"),
    ),
    Misconception("std taken for the variance", ("x + self.std * torch", "x + self.std**0.5 * torch")),
    Misconception(
        "noise added in place",
        (
            "return x + self.std * torch.as_tensor(noise, dtype=x.dtype, device=x.device)",
            "return x.add_(self.std * torch.as_tensor(noise, dtype=x.dtype))",
        ),
    ),
    Misconception(
        "a place that is never the last: torch.randint and numpy's integers leave their upper end out",
        ("integers(last + 1)", "integers(max(last, 1))"),
    ),
    Misconception(
        "places up to the end of the sequence, where the crop no longer fits",
        ("integers(last + 1)", "integers(len(x))"),
    ),
    Misconception("the crop always at the start", ("return x[start : start + self.length]", "return x[: self.length]")),
    Misconception(
        "the same numbers in every worker: each has a copy of the generator, which nobody seeds anew",
        ("worker = get_worker_info()", "worker = get_worker_info() if False else None"),
    ),
    Misconception(
        "a generator seeded anew in each call in a worker, so that all of its items get the same numbers",
        ("if seeds != self._seeds:", "if worker or not self._seeds:"),
    ),
    Misconception(
        "a generator seeded anew in each call, which draws the same each time",
        ("if seeds != self._seeds:", "if True:"),
    ),
    Misconception(
        "the generator kept that the main process had made before: all workers go on from its state",
        ("if seeds != self._seeds:", "if not self._seeds:"),
    ),
    Misconception(
        "workers seeded by their number, so that every epoch draws the same",
        ("(self._seed, worker.seed)", "(self._seed, worker.id)"),
    ),
    Misconception(
        "workers seeded by chance, so that no run can be repeated",
        ("(self._seed, worker.seed)", "(self._seed, __import__('os').getpid())"),
    ),
    Misconception(
        "the worker's seed alone: all transforms in a worker draw the same numbers, whatever their generators",
        ("(self._seed, worker.seed)", "(worker.seed,)"),
    ),
    Misconception(
        "the worker's seed added to the generator's: neighbouring seeds draw the same in neighbouring workers",
        ("int(torch.randint(2**62, (), generator=generator, device=generator.device))", "generator.initial_seed()"),
        (
            "numpy.random.default_rng(seeds)",
            "numpy.random.default_rng(sum(seeds))",
        ),
    ),
    Misconception(
        "the seed of the generator alone: transforms made with one generator draw the same",
        ("int(torch.randint(2**62, (), generator=generator, device=generator.device))", "generator.initial_seed()"),
    ),
    Misconception(
        "a lambda kept as an attribute, which cannot be pickled",
        (
            "self.std = std\nself._source = _Source(generator)",
            "self._scale = lambda x: self.std * x\nself.std = std\nself._source = _Source(generator)",
        ),
    ),
]


class _Affine:
    """x * scale + shift, and back."""

    def __init__(self, scale: float, shift: float) -> None:
        self.scale, self.shift = scale, shift

    def __call__(self, x: Any) -> Any:
        return x * self.scale + self.shift

    def inverse(self, x: Any) -> Any:
        return (x - self.shift) / self.scale


class _Square:
    """A transform that cannot be undone."""

    def __call__(self, x: Any) -> Any:
        return x * x


def halve(x: Any) -> Any:
    """A function as a transform."""
    return x / 2


class _Items(Dataset[Tensor]):
    """Eight items: each is what the transforms make of the numbers from 0 on, one row for each of them."""

    def __init__(self, transforms: Sequence[Callable[[Tensor], Tensor]], numbers: int) -> None:
        self.transforms, self.numbers = transforms, numbers

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> Tensor:
        return torch.stack([transform(torch.arange(float(self.numbers))) for transform in self.transforms])


def workload(task: Any, draw: Draw) -> list[Workload]:
    """Typical calls, for `compare`. Whoever draws otherwise draws other numbers, so nothing is left to chance."""
    data, seed = draw.normal(4096, 64), draw.seed()
    standardize = task.Standardize.fit(data)
    return [
        Workload("Standardize.fit(data)(data)", lambda: task.Standardize.fit(data)(data)),
        Workload("standardize.inverse(data)", standardize.inverse, (data,)),
        Workload("Compose([standardize] * 4)(data)", task.Compose([standardize] * 4), (data,)),
        Workload("AddNoise(0.0, generator)(data)", task.AddNoise(0.0, _seeded(seed)), (data,)),
        Workload("RandomCrop(4096, generator)(data)", task.RandomCrop(4096, _seeded(seed)), (data,)),
    ]


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _by_columns(data: Tensor) -> tuple[Tensor, Tensor]:
    """The mean and standard deviation of each feature, by the standard library."""
    columns = data.double().reshape(-1, data.shape[-1]).T.tolist()
    means, deviations = [statistics.fmean(each) for each in columns], [statistics.pstdev(each) for each in columns]
    return torch.tensor(means, dtype=data.dtype), torch.tensor(deviations, dtype=data.dtype)


def _check_fitted(check: Check, fitted: Any, mean: Tensor, std: Tensor, data: str = "data") -> None:
    check.run(f"Standardize.fit({data}).mean", lambda: fitted.mean).equals(mean)
    check.run(f"Standardize.fit({data}).std", lambda: fitted.std).equals(std)


def _called(name: str, transform: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The same transform; a verdict shows it by a name that tells how it was made."""

    def call(x: Any) -> Any:
        return transform(x)

    call.__name__ = name
    return call


def test_compose_by_hand(check: Check) -> None:
    """Doubled, then one added: 3 becomes 7, and back again; an item may be anything."""
    double, add = _Affine(2.0, 0.0), _Affine(1.0, 1.0)
    composed = check.build(Compose, [double, add])
    check.run("Compose([double, add_one])(3.0)", lambda: composed(3.0)).equals(7.0)
    check.run("Compose([double, add_one]).inverse(7.0)", lambda: composed.inverse(7.0)).equals(3.0)
    words = check.build(Compose, [str.strip, str.split])
    check.run("Compose([str.strip, str.split])(' to be ')", lambda: words(" to be ")).equals(["to", "be"])
    nothing = check.build(Compose, [])
    check.run("Compose([])(3.0)", lambda: nothing(3.0)).equals(3.0)
    check.run("Compose([]).inverse(3.0)", lambda: nothing.inverse(3.0)).equals(3.0)


def test_compose_inverse(check: Check) -> None:
    """Any number of transforms, one inside another, undone in reverse; one that cannot be is refused by name."""
    steps = [_Affine(check.draw.integer(2, 5), check.draw.integer(1, 9)) for _ in range(check.draw.size(3, 5))]
    x = check.draw.strided(3, 4, dtype=torch.float64)
    expected = x
    for step in steps:
        expected = expected * step.scale + step.shift
    composed = check.build(Compose, iter(steps))
    check(composed, x).equals(expected)
    check(composed, x).equals(expected, note="called again")
    check(composed.inverse, expected).equals(x)
    inner = check.build(Compose, steps[1:])
    outer = check.build(Compose, [steps[0], inner])
    check(outer, x).equals(expected, note="one Compose in another")
    check(outer.inverse, expected).equals(x)
    for last, name in ((_Square(), "_Square"), (halve, "halve")):
        check.raises(TypeError, check.build(Compose, [steps[0], last]).inverse, x, naming=name)


def test_fit_by_hand(check: Check) -> None:
    """The numbers 1 and 5: mean 3, standard deviation 2; one feature of two, and back again."""
    data = torch.tensor([[1.0, 10.0], [5.0, 70.0]])
    fitted = check(Standardize.fit, data).value
    text = "[[1, 10], [5, 70]]"
    _check_fitted(check, fitted, torch.tensor([3.0, 40.0]), torch.tensor([2.0, 30.0]), text)
    apply = _called(f"Standardize.fit({text})", fitted)
    check(apply, data).equals(torch.tensor([[-1.0, -1.0], [1.0, 1.0]]))
    check(apply, torch.tensor([7.0, 10.0])).equals(torch.tensor([2.0, -1.0]), note="new data, one row without a batch")
    undo = _called(f"Standardize.fit({text}).inverse", partial(_undo, fitted))
    check(undo, torch.tensor([2.0, -1.0])).equals(torch.tensor([7.0, 10.0]))


def test_fit_statistics(check: Check) -> None:
    """Mean and deviation of each feature over all rows, as the standard library has them; also over three axes."""
    features = check.draw.size(2, 5)
    shift = check.draw.uniform(-3.0, 3.0, features)
    for data in (
        check.draw.strided(check.draw.size(6, 12), features) * (shift.abs() + 0.5) + shift,
        check.draw.strided(3, 7, features, dtype=torch.float64) * 4.0 + shift,
        check.draw.normal(50, features) + 1000.0,
    ):
        fitted = check(Standardize.fit, data).value
        _check_fitted(check, fitted, *_by_columns(data))


def test_standardized(check: Check) -> None:
    """What it was fitted on comes out with mean 0 and variance 1, whatever its scale; in the input's dtype."""
    data = check.draw.normal(64, 3, dtype=torch.float64) * torch.tensor([1e-6, 1.0, 1e6]) + torch.tensor(
        [1e-6, -2.0, 3e5]
    )
    mean, std = _by_columns(data)
    fitted = check(Standardize.fit, data).value
    answer = check(fitted, data).equals((data - mean) / std)
    squares = answer.value.double().square().mean(dim=0)
    # Mean, deviation and mean square are sums of 64 numbers of float64, each right to 64 * 2^-53 = 7e-15 of it, and no
    # mean is more than a few times the deviation.
    answer.satisfies(
        bool(((squares - 1).abs() < 1e-12).all()), got=f"mean squares {squares.tolist()}", expected="1 in each feature"
    )
    other = check.draw.strided(2, 3, 3)
    check(fitted, other).equals(((other.double() - mean) / std).float(), note="float32, standardized by float64")


def test_inverse(check: Check) -> None:
    """The inverse gives back what went in, and x * std + mean of anything else."""
    for dtype in (torch.float32, torch.float64):
        mean = check.draw.uniform(-5.0, 5.0, 4, dtype=dtype)
        std = check.draw.uniform(0.5, 3.0, 4, dtype=dtype)
        standardize = check.build(Standardize, mean, std)
        x = check.draw.strided(2, 3, 4, dtype=dtype)
        check(_called("Standardize(mean, std)", standardize), x).equals((x - mean) / std)
        check(_called("Standardize(mean, std).inverse", partial(_undo, standardize)), x).equals(x * std + mean)
        check(_called("standardize.inverse of standardize", partial(_there_and_back, standardize)), x).equals(x)


def _undo(transform: Any, x: Any) -> Any:
    return transform.inverse(x)


def _there_and_back(transform: Any, x: Any) -> Any:
    return transform.inverse(transform(x))


def test_constant_feature(check: Check) -> None:
    """A feature that never changes has a std of 1 and comes out as 0, also where its mean must be rounded."""
    data = check.draw.normal(700, 4)
    data[:, 1:] = torch.tensor([0.1, 1 / 3, 7.0])  # neither 0.1 nor 1/3 is a number of float32
    mean, std = _by_columns(data)
    std[1:] = 1.0
    fitted = check(Standardize.fit, data).value
    _check_fitted(check, fitted, mean, std)
    check(fitted, data).equals((data - mean) / std)
    check(fitted.inverse, torch.zeros(4)).equals(mean)
    row = check.draw.normal(1, 3)
    single = check(Standardize.fit, row).value
    _check_fitted(check, single, row[0], torch.ones(3))


def test_fit_refuses(check: Check) -> None:
    """Data without rows, of one axis or with numbers not finite are refused; so are features that do not fit."""
    for shape in ((3,), (0, 3), (3, 0)):
        check.raises(ValueError, Standardize.fit, torch.ones(shape), naming=_shape(*shape))
    data = check.draw.normal(5, 3)
    for place, number in ((2, math.nan), (1, math.inf)):
        broken = data.clone()
        broken[3, place] = number
        check.raises(ValueError, Standardize.fit, broken, naming=f"feature {place}")
    for wrong, words in ((-1.5, "-1.5"), (0.0, "std"), (math.nan, "nan")):
        check.raises(ValueError, Standardize, torch.zeros(2), torch.tensor([1.0, wrong]), naming=words)
    for shapes in (((2,), (3,)), ((2, 2), (2, 2)), ((), ())):
        mean, std = map(torch.ones, shapes)
        check.raises(ValueError, Standardize, mean, std, naming=[_shape(*shape) for shape in shapes])
    fitted = check(Standardize.fit, data).value
    for name, method in (("", fitted), (".inverse", partial(_undo, fitted))):
        call = _called(f"Standardize.fit(data of 3 features){name}", method)
        check.raises(ValueError, call, torch.ones(4, 1), naming=(_shape(4, 1), "3"))


def _shape(*sizes: int) -> str:
    """A shape as a message may give it: as a tuple or as torch does."""
    return f"{sizes}|{list(sizes)}"


def test_splits(check: Check) -> None:
    """All splits are standardized by the training data alone: no other split changes what comes out of it."""
    train, validation = check.draw.normal(12, 3), check.draw.normal(5, 3) * 2.0 + 4.0
    mean, std = _by_columns(train)
    splits = {"train": train, "validation": validation, "test": check.draw.normal(1, 3)}
    expected = {name: (data - mean) / std for name, data in splits.items()}
    result, fitted = check(standardize_splits, splits).value
    check.run("standardize_splits(splits)[0]", lambda: result).equals(expected)
    _check_fitted(check, fitted, mean, std)
    mean, std = _by_columns(validation)
    result, _ = check(standardize_splits, splits, fit_on="validation").value
    check.run("standardize_splits(splits, fit_on='validation')[0]", lambda: result).equals(
        {name: (data - mean) / std for name, data in splits.items()}
    )
    check.raises(ValueError, standardize_splits, {"first": train, "test": train}, naming=("train", "first", "test"))


def test_noise(check: Check) -> None:
    """Normal noise of the given deviation: an own number for each element, and fresh ones in each call."""
    std = 2.5
    noisy = check.build(AddNoise, std, _seeded(check.draw.seed()))
    x = check.draw.normal(200, 100) * 10.0
    add = _called(f"AddNoise({std}, generator)", noisy)
    answer = check(add, x).has(shape=x.shape, dtype=x.dtype)
    noise = (answer.value - x).double() / std
    count = noise.numel()
    # Of 20,000 standard normal numbers the mean has a standard deviation of 0.0071 and the variance one of 0.01; the
    # share beyond 2 is 0.0455, with one of 0.0015. All bounds are six of these wide.
    for name, got, expected, bound in (
        ("mean", float(noise.mean()), 0.0, 0.043),
        ("variance", float(noise.var()), 1.0, 0.06),
        ("share beyond two deviations", float((noise.abs() > 2).double().mean()), 0.0455, 0.009),
    ):
        answer.satisfies(
            abs(got - expected) < bound,
            got=f"noise that, divided by std, has a {name} of {got:.3f}",
            expected=f"a {name} of {expected:.3g}, give or take {bound:.2g}",
        )
    # Few of them are equal up to the rounding of the sum; numbers for each row or column would be 200 or 100.
    different = len(noise.float().unique())
    answer.satisfies(
        different > count / 2, got=f"{different} different numbers for {count} elements", expected="one for each"
    )
    again = check(add, x).has(shape=x.shape, dtype=x.dtype)
    again.satisfies(
        not torch.equal(again.value, answer.value), got="the noise of the call before", expected="fresh noise"
    )


def test_noise_edges(check: Check) -> None:
    """No noise, no elements, float64, one number; a negative deviation and whole numbers are refused."""
    noisy = check.build(AddNoise, 0.5, _seeded(check.draw.seed()))
    for x in (
        check.draw.strided(2, 3, dtype=torch.float64),
        check.draw.normal(2).bfloat16(),
        check.draw.normal(),
        check.draw.normal(0, 3),
    ):
        check(_called("AddNoise(0.5, generator)", noisy), x).has(shape=x.shape, dtype=x.dtype)
    silent = check.build(AddNoise, 0.0, _seeded(1))
    x = check.draw.strided(3, 2)
    check(_called("AddNoise(0.0, generator)", silent), x).equals(x)
    for wrong in (-0.5, math.inf, math.nan):
        check.raises(ValueError, AddNoise, wrong, _seeded(1), naming=("std", str(wrong)))
    check.raises(TypeError, _called("AddNoise(0.5, generator)", noisy), torch.arange(3), naming="int64")


def test_crop(check: Check) -> None:
    """A stretch of neighbours from every place alike, the first and the last among them."""
    extra = check.draw.size(2, 4)
    crop = check.build(RandomCrop, 3, _seeded(check.draw.seed()))
    x = torch.arange(10, 13 + extra)
    first = check(crop, x).has(shape=(3,), dtype=torch.int64)
    calls = 600
    crops = check.run(
        f"{calls} calls of RandomCrop(3, generator)(x)", lambda: torch.stack([crop(x) for _ in range(calls)])
    )
    starts = crops.has(shape=(calls, 3)).value[:, 0] - 10
    crops.equals(x[starts.clamp(0, extra)[:, None] + torch.arange(3)], note="neighbours in their order")
    if first.failed or crops.failed or check.verdicts:
        return
    counts = starts.bincount(minlength=extra + 1)
    # The count of a place is binomial, with a standard deviation of sqrt(600 p (1 - p)); seven of them either way.
    share = 1 / (extra + 1)
    bound = 7 * math.sqrt(calls * share * (1 - share))
    crops.satisfies(
        bool(((counts - calls * share).abs() < bound).all()),
        got=f"places drawn {counts.tolist()} times",
        expected=f"each of the {extra + 1} about {calls * share:.0f} times, give or take {bound:.0f}",
    )


def test_crop_edges(check: Check) -> None:
    """Rows of features stay whole; a crop of the whole length is all of it; one that does not fit is refused."""
    x = check.draw.strided(5, 6)
    whole = check.build(RandomCrop, 5, _seeded(check.draw.seed()))
    check(whole, x).equals(x)
    single = check.build(RandomCrop, 1, _seeded(check.draw.seed()))
    check(single, x[:1]).equals(x[:1])
    answer = check(single, x).has(shape=(1, 6), dtype=x.dtype)
    answer.satisfies(bool((answer.value == x).all(dim=1).any()), got="numbers of no row", expected="one of the rows")
    check.raises(ValueError, _called("RandomCrop(5, generator)", whole), x[:4], naming=("5", "4"))
    for wrong in (0, -3):
        check.raises(ValueError, RandomCrop, wrong, _seeded(1), naming=("length", str(wrong)))


def _makers(check: Check) -> list[tuple[str, Callable[[torch.Generator], Any], Tensor]]:
    """Each random transform, and an item that shows what it draws."""
    return [
        ("AddNoise(1.0, generator)", lambda generator: check.build(AddNoise, 1.0, generator), torch.zeros(4)),
        ("RandomCrop(1, generator)", lambda generator: check.build(RandomCrop, 1, generator), torch.arange(2**16)),
    ]


def test_generator(check: Check) -> None:
    """All is drawn from the generator: the same from one of the same seed, and torch's global one is left alone."""
    for name, make, item in _makers(check):
        seed = check.draw.seed()
        one, twin, other = make(_seeded(seed)), make(_seeded(seed)), make(_seeded(seed + 1))
        before = torch.get_rng_state()
        drawn = [check(one, item).value for _ in range(4)]
        check.that(
            torch.equal(torch.get_rng_state(), before),
            call=f"{name}(x)",
            got="numbers drawn from torch's global generator",
            expected="none: the global generator as it was",
        )
        torch.manual_seed(check.draw.seed())
        for entry in drawn:
            check(_called(name, twin), item).equals(entry, note="as from another generator of the same seed")
        others = [check(other, item).value for _ in range(4)]
        check.that(
            not all(map(torch.equal, drawn, others)),
            call=name,
            got="the same from generators of two seeds",
            expected="other numbers",
        )


def test_many_transforms(check: Check) -> None:
    """A hundred transforms draw a hundred things, whether their seeds follow each other or they share a generator."""
    seed, shared, x = check.draw.seed(), _seeded(check.draw.seed()), torch.zeros(2)
    for whose, generators in (
        ("generators of seeds that follow each other", [_seeded(seed + number) for number in range(100)]),
        ("one generator", [shared] * 100),
    ):
        drawn = check.run(
            f"what 100 transforms AddNoise(1.0, generator) draw, made with {whose}",
            partial(_draws, generators, x),
        )
        different = len(set(drawn.value))
        drawn.satisfies(different == 100, got=f"{different} different draws", expected="100 different draws")


def _draws(generators: Sequence[torch.Generator], x: Tensor) -> list[str]:
    """What a transform made with each of the generators draws."""
    return [str(AddNoise(1.0, generator)(x).tolist()) for generator in generators]


def test_pickled(check: Check) -> None:
    """A pipeline of all of them can be pickled, and its copy does the same."""
    data, seed = check.draw.normal(9, 3), check.draw.seed()
    mean, std = _by_columns(data)
    stages = [
        check.build(Standardize, mean, std),
        check.build(AddNoise, 0.5, _seeded(seed)),
        check.build(RandomCrop, 4, _seeded(seed + 1)),
    ]
    pipeline = check.build(Compose, stages)
    copy = check.run("pickle.loads(pickle.dumps(pipeline))", partial(_copy, pipeline)).value
    expected = check(pipeline, data).has(shape=(4, 3), dtype=data.dtype).value
    check.run("the copy of the pipeline, called with the same data", lambda: copy(data)).equals(expected)


def _copy(pipeline: Any) -> Any:
    return pickle.loads(pickle.dumps(pipeline))


def _counted(transforms: Sequence[Any]) -> str:
    """As in ``3 RandomCrop``."""
    return f"{len(transforms)} {type(transforms[0]).__name__}"


def _epochs(check: Check, transforms: Sequence[Any], seed: int, numbers: int = 4, epochs: int = 1) -> Answer:
    """What a DataLoader with two real workers makes of `_Items`: (epochs, items, transforms, ...)."""
    # Where processes are started afresh on Linux (from Python 3.14 on), a generator of torch's cannot be sent to them.
    context = "fork" if sys.platform == "linux" else None

    def run() -> Tensor:
        loader = DataLoader(
            _Items(transforms, numbers),
            batch_size=None,
            num_workers=2,
            generator=_seeded(seed),
            multiprocessing_context=context,
        )
        return torch.stack([torch.stack(list(loader)) for _ in range(epochs)])

    answer = check.run(f"DataLoader(dataset, num_workers=2), through {_counted(transforms)}", run)
    if answer.failed:
        raise Stop
    return answer


def _check_different(answer: Answer, drawn: Tensor, what: str) -> None:
    """All rows of (..., row) differ."""
    rows = drawn.flatten(end_dim=-2).tolist()
    count = len(set(map(tuple, rows)))
    answer.satisfies(
        count == len(rows), got=f"{count} different among {len(rows)} draws {what}", expected=f"{len(rows)} different"
    )


def test_workers_noise(check: Check) -> None:
    """Two worker processes: each item gets noise of its own, in one worker and across both."""
    noisy = check.build(AddNoise, 1.0, _seeded(check.draw.seed()))
    check(_called("AddNoise(1.0, generator)", noisy), torch.zeros(4))  # used here too, before it is copied
    answer = _epochs(check, [noisy], check.draw.seed())
    _check_different(answer, answer.value[0], "for 8 items")


def test_workers_crops(check: Check) -> None:
    """Two worker processes: each item is cropped at a place of its own, in one worker and across both."""
    crop = check.build(RandomCrop, 1, _seeded(check.draw.seed()))
    # Three crops make a draw, so that chance makes no two of them alike: there are 2^48.
    answer = _epochs(check, [crop] * 3, check.draw.seed(), numbers=2**16)
    _check_different(answer, answer.value[0].flatten(1), "for 8 items")


def test_workers_repeat(check: Check) -> None:
    """Two epochs differ; a DataLoader of the same seed makes the same again."""
    seed, loader_seed = check.draw.seed(), check.draw.seed()
    noisy = check.build(AddNoise, 1.0, _seeded(seed))
    answer = _epochs(check, [noisy], loader_seed, epochs=2)
    _check_different(answer, answer.value, "for 8 items in two epochs")
    again = _epochs(check, [check.build(AddNoise, 1.0, _seeded(seed))], loader_seed)
    same = torch.equal(answer.value[:1], again.value)
    check.that(same, call=again.call, got="other numbers than before", expected="the same: all seeds are the same")


def test_workers_several(check: Check) -> None:
    """Transforms in one worker draw other numbers, whether their seeds are neighbours or they share a generator."""
    seed, shared = check.draw.seed(), _seeded(check.draw.seed())
    generators = [_seeded(seed), _seeded(seed + 1), _seeded(seed + 2), shared, shared]
    transforms = [check.build(AddNoise, 1.0, generator) for generator in generators]
    answer = _epochs(check, transforms, check.draw.seed())
    _check_different(answer, answer.value[0, :, :3], "for 8 items and generators of the seeds s, s + 1 and s + 2")
    _check_different(answer, answer.value[0, :, 3:], "for 8 items and two transforms with one generator")
