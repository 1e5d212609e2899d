"""First divergence: of a composed module that is wrong, the verdict names the part that differs first."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from checkpoints.catalogue import Catalogue
from checkpoints.checks import Check
from checkpoints.divergence import slice_of
from checkpoints.guards import Guard


class Chain(nn.Module):
    """Two layers with a tanh between them and a residual around them."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 4)
        self.second = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(torch.tanh(self.first(x)))


class NoTanh(Chain):
    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(self.first(x))


class NoResidual(Chain):
    def forward(self, x: Tensor) -> Tensor:
        return self.second(torch.tanh(self.first(x)))


class SecondMissing(Chain):
    def forward(self, x: Tensor) -> Tensor:
        return x + torch.tanh(self.first(x))[..., :3]


class FirstTwice(Chain):
    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(torch.tanh(self.first(x))) + self.first(x)[..., :3]


class LastTokenOnly(Chain):
    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.tanh(self.first(x))
        shift = torch.zeros_like(hidden)
        shift[:, -1] = 0.5
        return x + self.second(hidden + shift)


class Narrowed(Chain):
    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(torch.tanh(self.first(x[:, :2]))).sum(dim=1, keepdim=True)


class Broken(nn.Linear):
    """A part that is itself wrong."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * 2


def _broken_part() -> Chain:
    chain = Chain()
    chain.second = Broken(4, 3)
    return chain


WRONG: dict[str, tuple[Callable[[], Chain], list[str]]] = {
    "wiring": (NoTanh, ["what comes into second differs, though what goes out of first still agrees", "[:, :, :]"]),
    "after the last": (NoResidual, ["every part agrees: look at what is done after what goes out of second"]),
    "never called": (SecondMissing, ["second is never called; what goes out of first is the last that agrees"]),
    "called twice": (FirstTwice, ["every part agrees, but first is called 2 times in all"]),
    "a slice": (LastTokenOnly, ["what comes into second differs", "by up to 0.5, in [:, 4, :] of (2, 5, 4)"]),
    "a shape": (Narrowed, ["what comes into first differs", "(shape (2, 2, 3), not shape (2, 5, 3))"]),
    "a part": (_broken_part, ["second: what comes in agrees, what goes out differs"]),
}


@pytest.fixture
def check(course: Catalogue) -> Check:
    return Check(course.task("attention/masking"), "test_it", 1, Guard(), lambda text: None)


def _beside(check: Check, module: Chain) -> list[str]:
    reference = Chain()
    module.load_state_dict(reference.state_dict())
    check.beside(module, reference, check.draw.normal(2, 5, 3))
    return [verdict.divergence for verdict in check.verdicts]


@pytest.mark.parametrize("name", WRONG)
def test_the_first_part_that_differs_is_named(name: str, check: Check) -> None:
    make, words = WRONG[name]
    (divergence,) = _beside(check, make())
    for word in words:
        assert word in divergence
    assert divergence in " ".join(check.verdicts[0].text(width=1000).split())


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_difference_as_small_as_the_dtype_shows(dtype: torch.dtype, check: Check) -> None:
    """What counts as a difference is the same for the part as for the whole: 1e-7 in float64."""

    class Rounded(Chain):
        def forward(self, x: Tensor) -> Tensor:
            return x + self.second(torch.tanh(self.first(x)) + (1e-7 if x.dtype == torch.float64 else 0.5))

    module, reference = Rounded().to(dtype), Chain().to(dtype)
    module.load_state_dict(reference.state_dict())
    check.beside(module, reference, check.draw.normal(2, 5, 3).to(dtype))
    (verdict,) = check.verdicts
    assert "what comes into second differs" in verdict.divergence
    assert "in [" in verdict.divergence


def test_a_figure_that_cannot_be_kept_is_nobodys_mistake(check: Check, tmp_path: Path) -> None:
    class Figure:
        def savefig(self, target: Any, **options: Any) -> None:
            target.write(b"a picture")

    (tmp_path / "file").touch()
    check.gallery = tmp_path / "file"  # no folder can be made there
    check.keep(Figure(), "some")
    assert (check.verdicts, check.figures) == ([], [])
    check.gallery = tmp_path / "gallery"
    check.keep(Figure(), "some")
    assert check.figures == [str(tmp_path / "gallery" / "masking-some.png")]
    assert (tmp_path / "gallery" / "masking-some.png").read_bytes() == b"a picture"


def test_what_agrees_has_no_verdict_and_no_hooks_left(check: Check) -> None:
    chain = Chain()
    assert _beside(check, chain) == []
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in chain.modules())


def test_parts_of_other_names(check: Check) -> None:
    """A reference from a library calls its parts otherwise."""

    class Renamed(nn.Module):
        def __init__(self, chain: Chain) -> None:
            super().__init__()
            self.linear1, self.linear2, self.dropout = chain.first, chain.second, nn.Dropout(0.0)

        def forward(self, x: Tensor) -> tuple[Tensor, None]:
            return x + self.dropout(self.linear2(torch.tanh(self.linear1(x)))), None

    module = NoTanh()
    reference = Renamed(module)
    parts = {"linear1": "first", "linear2": "second"}
    check.beside(module, reference, check.draw.normal(1, 2, 3), parts=parts, pick=lambda output: output[0])
    assert "what comes into second differs" in check.verdicts[0].divergence


def test_slices() -> None:
    wrong = torch.zeros(4, 5, 6, dtype=torch.bool)
    wrong[1, 2:, 3] = wrong[1, 4, 3] = True
    assert slice_of(wrong) == "[1, 2:, 3]"
    wrong[0, 1, 2] = True
    assert slice_of(wrong) == "[:2, 1:, 2:4]"
    assert slice_of(torch.tensor(True)) == "the number"
    assert slice_of(torch.ones(1, 3, dtype=torch.bool)) == "[:, :]"
