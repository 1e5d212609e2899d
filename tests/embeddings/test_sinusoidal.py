"""Grades embeddings/sinusoidal.

The oracle is the paper's formula, number by number, in Python's own floating-point numbers; beside it two properties
that follow from it: a shift is a rotation, and a dot product depends on the distance alone.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from checkpoints.checks import Answer, Check, Draw, Workload
from checkpoints.misconceptions import Misconception
from exercises.embeddings.sinusoidal import SinusoidalEncoding, sinusoidal_encoding

MISCONCEPTIONS = [
    Misconception(
        "all sines in the first half of the columns and all cosines in the second: they alternate",
        (
            "torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1)",
            "torch.cat((angles.sin(), angles.cos()), dim=-1)",
        ),
    ),
    Misconception("cosines before sines", ("(angles.sin(), angles.cos())", "(angles.cos(), angles.sin())")),
    Misconception(
        "the exponent i/C in the place of 2i/C: the waves reach only to the square root of the base",
        (
            "torch.arange(0, embedding_dim, 2, dtype=torch.float64)",
            "torch.arange(embedding_dim // 2, dtype=torch.float64)",
        ),
    ),
    Misconception(
        "the exponent 2i/(C - 2) in the place of 2i/C: the last wave then has the whole base",
        ("dtype=torch.float64) / embedding_dim", "dtype=torch.float64) / (embedding_dim - 2)"),
    ),
    Misconception(
        "positions multiplied by the powers of the base: they are divided by them",
        ("positions[:, None] / base**exponents", "positions[:, None] * base**exponents"),
    ),
    Misconception(
        "another angle in each column: a sine and its cosine share one",
        (
            "exponents = torch.arange(0, embedding_dim, 2, dtype=torch.float64) / embedding_dim",
            "exponents = torch.arange(embedding_dim, dtype=torch.float64) / embedding_dim",
        ),
        ("(angles.sin(), angles.cos()), dim=-1)", "(angles[:, ::2].sin(), angles[:, 1::2].cos()), dim=-1)"),
    ),
    Misconception(
        "positions numbered from 1", ("torch.arange(past, past + length)", "torch.arange(past + 1, past + length + 1)")
    ),
    Misconception(
        "angles in degrees: sin and cos take radians",
        ("base**exponents", "base**exponents * math.pi / 180"),
        ("import torch\n", "import math\n\nimport torch\n"),
    ),
    Misconception("the base of the paper, whatever base is given", ("/ base**exponents", "/ 10000.0**exponents")),
    Misconception(
        "past forgotten: positions that begin at 0", ("torch.arange(past, past + length)", "torch.arange(length)")
    ),
    Misconception(
        "past counted twice", ("torch.arange(past, past + length)", "torch.arange(2 * past, 2 * past + length)")
    ),
    Misconception(
        "angles in float32: near position 10,000 they are off by up to 0.0005, and so are their sines",
        (
            "torch.arange(0, embedding_dim, 2, dtype=torch.float64)",
            "torch.arange(0, embedding_dim, 2, dtype=torch.float32)",
        ),
    ),
    Misconception(
        "positions of the dtype asked for: float16 knows no odd number above 2048",
        ("torch.arange(past, past + length)", "torch.arange(past, past + length).to(dtype)"),
    ),
    Misconception("a module that does not hand on past", ("past=past, base=self.base, ", "base=self.base, ")),
    Misconception("a module that does not hand on its base", ("past=past, base=self.base, ", "past=past, ")),
    Misconception(
        "sequences numbered in the place of positions: the batch's axis is the first",
        ("x.shape[1], self", "x.shape[0], self"),
        ("return x + encoding", "return x + encoding[:, None]"),
    ),
    Misconception(
        "tokens multiplied by sqrt(C) once more: that is the embedding's business",
        ("return x + encoding", "return x * self.embedding_dim**0.5 + encoding"),
    ),
    Misconception(
        "the encoding alone, not added to the tokens",
        ("return x + encoding", "return encoding.expand_as(x)"),
    ),
    Misconception(
        "the encoding of the first call kept for all later ones",
        (
            "return x + encoding",
            "self._first = getattr(self, '_first', encoding)\nreturn x + self._first[: x.shape[1]]",
        ),
    ),
    Misconception(
        "an encoding that is trained, as a Parameter",
        (
            "self.base = base",
            "self.base = base\nself.encoding = nn.Parameter(sinusoidal_encoding(128, embedding_dim, base=base))",
        ),
        (
            "return x + encoding",
            "return x + (self.encoding[past : past + x.shape[1]] if past + x.shape[1] < 128 else encoding)",
        ),
    ),
    Misconception(
        "a table in the state_dict: what can be computed need not be saved",
        (
            "self.base = base",
            """
            self.base = base
            self.register_buffer("encoding", sinusoidal_encoding(128, embedding_dim, base=base))
            """,
        ),
    ),
    Misconception(
        "a table made once in float32 and converted: in float64 its digits are missing",
        ("dtype=x.dtype", "dtype=torch.float32"),
        ("return x + encoding", "return x + encoding.to(x.dtype)"),
    ),
]


def workload(task: Any, draw: Draw) -> list[Workload]:
    """Typical calls, for `compare`."""
    module = task.SinusoidalEncoding(128)
    x = draw.normal(8, 256, 128, requires_grad=True)
    return [
        Workload("sinusoidal_encoding(1024, 128)", task.sinusoidal_encoding, (1024, 128)),
        Workload("sinusoidal_encoding(1, 768, past=5000)", task.sinusoidal_encoding, (1, 768), {"past": 5000}),
        Workload("SinusoidalEncoding(128)(x)", module, (x,)),
    ]


def _formula(length: int, dim: int, past: int = 0, base: float = 10000.0) -> Tensor:
    """The paper's formula in float64, number by number."""
    rows = []
    for position in range(past, past + length):
        angles = [position / base ** (2 * (column // 2) / dim) for column in range(dim)]
        rows.append([math.cos(angle) if column % 2 else math.sin(angle) for column, angle in enumerate(angles)])
    return torch.tensor(rows, dtype=torch.float64).reshape(length, dim)


# What is promised, up to position 100,000, and what the oracle itself may be off: in float32 by its rounding, 2^-25 =
# 3e-8; in float64 by its angles, each right to a relative 1.5e-15 (that of the exponent, 1.1e-16, is multiplied by ln
# 10,000 = 9.2; the power and the division add three roundings), which is 1.5e-10 at position 100,000.
_BOUNDS = {torch.float32: 1e-6 + 3e-8, torch.float64: 1e-9 + 1.5e-10}


def _equals(answer: Answer, true: Tensor, dtype: torch.dtype = torch.float32, note: str = "") -> None:
    """Whether an encoding is as exact as promised."""
    answer.equals(true.to(dtype), rtol=0.0, atol=_BOUNDS[dtype], note=note)  # the promise is absolute


def _even(draw: Draw, low: int = 2, high: int = 6) -> int:
    """An even width."""
    return 2 * draw.integer(low, high)


def _shapes(entries: Callable[[], Any]) -> dict[str, str]:
    return {name: f"shape {tuple(entry.shape)}" for name, entry in dict(entries()).items()}


def test_by_hand(check: Check) -> None:
    """Four columns: sine and cosine of the position, then of a hundredth of it; position 0 is 0, 1, 0, 1."""
    expected = [[0.0, 1.0, 0.0, 1.0]] + [
        [math.sin(position), math.cos(position), math.sin(position / 100), math.cos(position / 100)]
        for position in (1, 2)
    ]
    _equals(check(sinusoidal_encoding, 1, 4), torch.tensor(expected[:1]), note="position 0 comes first")
    _equals(check(sinusoidal_encoding, 2, 4), torch.tensor(expected[:2]), note="sin 1, cos 1, sin 0.01, cos 0.01")
    _equals(check(sinusoidal_encoding, 3, 4), torch.tensor(expected))


def test_formula(check: Check) -> None:
    """The formula number by number, for any length, width and base."""
    for _ in range(3):
        length, dim, base = check.draw.size(), _even(check.draw, 3, 8), float(check.draw.integer(50, 5000))
        _equals(check(sinusoidal_encoding, length, dim), _formula(length, dim))
        _equals(check(sinusoidal_encoding, length, dim, base=base), _formula(length, dim, base=base))


def test_past(check: Check) -> None:
    """With positions before the first, as a decoder with a cache has them, the rows go on from there."""
    length, dim, past = check.draw.size(), _even(check.draw), check.draw.size()
    one = check(sinusoidal_encoding, 1, 4, past=past)
    _equals(one, _formula(1, 4, past), note=f"position {past}: sines and cosines of {past} and {past / 100}")
    _equals(check(sinusoidal_encoding, length, dim, past=past), _formula(length, dim, past))


def test_shift_is_a_rotation(check: Check) -> None:
    """A shift by k is the same rotation for every position: each pair turns by k times its own frequency."""
    length, dim, shift = check.draw.size(4, 9), _even(check.draw), check.draw.size()
    rotation = torch.zeros(dim, dim, dtype=torch.float64)
    for column in range(0, dim, 2):
        angle = shift / 10000.0 ** (column / dim)
        sine, cosine = math.sin(angle), math.cos(angle)
        turn = torch.tensor([[cosine, sine], [-sine, cosine]], dtype=torch.float64)
        rotation[column : column + 2, column : column + 2] = turn
    here = check(sinusoidal_encoding, length, dim, dtype=torch.float64).has(shape=(length, dim), dtype=torch.float64)
    there = check(sinusoidal_encoding, length, dim, past=shift, dtype=torch.float64)
    # Each number is a sum of two that are off by 1e-9 at most, times a sine and a cosine, and is so far off itself.
    there.equals(
        here.value @ rotation.T, rtol=0.0, atol=2.5e-9, note=f"the first {length} positions, turned; in all digits"
    )


def test_dot_products(check: Check) -> None:
    """The dot product of two positions depends on their distance alone: it is the sum of the cosines of its angles."""
    length, dim, past = check.draw.size(4, 9), _even(check.draw), check.draw.size()
    encoding = check(sinusoidal_encoding, length, dim, past=past, dtype=torch.float64).has(shape=(length, dim)).value
    frequencies = [10000.0 ** (-column / dim) for column in range(0, dim, 2)]
    sums = [sum(math.cos(distance * frequency) for frequency in frequencies) for distance in range(length)]
    table = [[sums[abs(row - column)] for column in range(length)] for row in range(length)]
    products = check.run("the products of the encodings with each other", lambda: encoding @ encoding.T)
    # Sums of up to 10 products of numbers up to 1, each of which may be off by 1e-9.
    expected = torch.tensor(table, dtype=torch.float64)
    products.equals(expected, rtol=0.0, atol=2e-8, note="C / 2 with itself, less with others")


def test_far_positions(check: Check) -> None:
    """Far from the start, near positions 10,000 and 100,000, it is as exact as near it."""
    # A float32 angle near 10,000 is off by up to 2^-11 = 5e-4 by its own rounding, and by 10,000 * 2^-24 = 6e-4 by that
    # of a frequency.
    for past in (10_000 + check.draw.integer(0, 1000), 99_900):
        dim = _even(check.draw, 4, 8)
        expected = _formula(5, dim, past)
        _equals(check(sinusoidal_encoding, 5, dim, past=past), expected)
        _equals(check(sinusoidal_encoding, 5, dim, past=past, dtype=torch.float64), expected, torch.float64)


def test_dtypes(check: Check) -> None:
    """In float64, and in float16 and bfloat16, which do not know all whole numbers: positions must."""
    for dtype in (torch.float64, torch.float16, torch.bfloat16):
        dim = _even(check.draw, 3, 8)
        for past in (0, 2 * check.draw.integer(1500, 2000)):
            answer, true = check(sinusoidal_encoding, 4, dim, past=past, dtype=dtype), _formula(4, dim, past)
            if dtype in _BOUNDS:
                _equals(answer, true, dtype)
            else:
                # A unit in the last place is at most eps times the number; below the least normal number it is `least`.
                least = torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps
                answer.equals(true.to(dtype), rtol=torch.finfo(dtype).eps, atol=least)


def test_edges(check: Check) -> None:
    """Of one position, of none, of two columns: sine and cosine of the position itself; waves of one length."""
    _equals(check(sinusoidal_encoding, 1, 2), torch.tensor([[0.0, 1.0]]))
    check(sinusoidal_encoding, 0, 6).equals(torch.zeros(0, 6))
    _equals(check(sinusoidal_encoding, 4, 2, past=2), _formula(4, 2, 2))
    _equals(check(sinusoidal_encoding, 3, 6, base=1.0), _formula(3, 6, base=1.0), note="all waves of one length")
    _equals(check(sinusoidal_encoding, 3, 6, base=0.5), _formula(3, 6, base=0.5), note="waves that get shorter")


def test_refused(check: Check) -> None:
    """An odd width, none, a negative length or past, a base of 0, less, or NaN: refused by name and value."""
    check.raises(ValueError, sinusoidal_encoding, 4, 7, naming=("embedding_dim", "7"))
    for dim in (0, 1, -2):
        check.raises(ValueError, sinusoidal_encoding, 4, dim, naming=("embedding_dim", str(dim)))
    check.raises(ValueError, sinusoidal_encoding, -3, 6, naming=("length", "-3"))
    check.raises(ValueError, sinusoidal_encoding, 4, 6, past=-2, naming=("past", "-2"))
    for base in (0.0, -2.5, math.nan):
        check.raises(ValueError, sinusoidal_encoding, 4, 6, base=base, naming=("base", f"{base:g}"))


def test_module_adds(check: Check) -> None:
    """The module adds the same encoding to every sequence, and the gradient goes straight through to the tokens."""
    module = check.build(SinusoidalEncoding, 4)
    for batch in (1, 2):  # of one token each, so both are at position 0
        expected = torch.tensor([[[30.0, 31.0, 30.0, 31.0]]]).expand(batch, 1, 4)
        check(module, torch.full((batch, 1, 4), 30.0)).equals(expected, note="30 + 0, 30 + 1, 30 + 0, 30 + 1")
    length, dim = check.draw.size(), _even(check.draw)
    module = check.build(SinusoidalEncoding, dim)
    for batch, tokens in ((length + 2, length), (1, length), (3, 1)):
        x = check.draw.strided(batch, tokens, dim).requires_grad_()
        expected = x + _formula(tokens, dim).float()
        check(module, x).equals(expected).gradients_equal(expected, x=x)
    for shape in ((2, 0, dim), (0, length, dim)):
        check(module, torch.zeros(shape)).equals(torch.zeros(shape), note="no tokens to add anything to")


def test_module_goes_on(check: Check) -> None:
    """Token by token with past, the module gives what it gives for all tokens at once; its base counts."""
    dim, length, base = _even(check.draw), check.draw.size(5, 9), float(check.draw.integer(50, 5000))
    module = check.build(SinusoidalEncoding, dim, base=base)
    x = check.draw.normal(2, length, dim)
    expected = x + _formula(length, dim, base=base).float()
    check(module, x[:, :3]).equals(expected[:, :3])
    for position in range(3, length):
        answer = check(module, x[:, position : position + 1], past=position)
        answer.equals(expected[:, position : position + 1], note=f"position {position}")
    check(module, x).equals(expected, note="all at once")
    far = x + _formula(length, dim, 10_000, base).float()
    check(module, x, past=10_000).equals(far, note="from position 10,000 on")


def test_module_keeps_nothing(check: Check) -> None:
    """It has no parameters, and its state_dict is empty, before and after it is used."""
    dim = _even(check.draw)
    module = check.build(SinusoidalEncoding, dim)
    for _ in range(2):
        check.run("the parameters of SinusoidalEncoding", partial(_shapes, module.named_parameters)).equals({})
        check.run("the state_dict of SinusoidalEncoding", partial(_shapes, module.state_dict)).equals({})
        x = check.draw.normal(2, 3, dim)
        check(module, x).has(shape=(2, 3, dim))


def test_module_follows_dtype(check: Check) -> None:
    """It goes along to float64 with all its digits, and to float16 and back."""
    dim, length = _even(check.draw, 3, 6), check.draw.size()
    module = check.build(SinusoidalEncoding, dim)
    x = check.draw.normal(2, length, dim, dtype=torch.float64)
    for dtype in (torch.float32, torch.float64, torch.float16, torch.float64):
        check.mutating(module.to, dtype)
        check(module, x.to(dtype)).equals(x.to(dtype) + _formula(length, dim).to(dtype), note="all digits of x's dtype")


def test_module_refuses(check: Check) -> None:
    """An odd width or a base of 0 when it is made; tokens of another width, without a batch, a negative past."""
    check.raises(ValueError, SinusoidalEncoding, 5, naming=("embedding_dim", "5"))
    check.raises(ValueError, SinusoidalEncoding, 0, naming=("embedding_dim", "0"))
    for base in (0.0, math.nan):
        check.raises(ValueError, SinusoidalEncoding, 4, base=base, naming=("base", f"{base:g}"))
    module = check.build(SinusoidalEncoding, 6)
    check.raises(ValueError, module, check.draw.normal(2, 3, 4), naming=("6", "(2, 3, 4)|[2, 3, 4]"))
    check.raises(ValueError, module, check.draw.normal(3, 6), naming="(3, 6)|[3, 6]")
    check.raises(ValueError, module, check.draw.normal(1, 2, 3, 6), naming="(1, 2, 3, 6)|[1, 2, 3, 6]")
    check.raises(ValueError, module, check.draw.normal(2, 3, 6), past=-1, naming=("past", "-1"))
