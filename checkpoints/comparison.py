"""Compares what was got with what was expected, and puts either in few words.

The functions that compare are taken here, before any learner's code is imported.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import torch

from .verdicts import Kind

_isclose = torch.isclose
_equal = torch.eq
_all = torch.all
_isnan = torch.isnan
_as_subclass = torch.Tensor.as_subclass
_Tensor = torch.Tensor

_SHOWN = 9  # a tensor of up to this many elements is written out, a larger one is described
_ALL_DIGITS = 17  # tell any two float64 apart
_AS_BASIC: dict[type, Callable[[Any], Any]] = {
    dict: lambda value: dict(dict.items(value)),
    list: lambda value: list(list.__iter__(value)),
    tuple: lambda value: tuple(tuple.__iter__(value)),
    str: str.__str__,
    int: int.__int__,
    float: float.__float__,
}
_KEPT = 512  # evidence keeps up to this many elements

# How far a right answer may lie from the oracle's. Both round each operation to half a unit in the last place
# (6e-8 in float32, 1.1e-16 in float64); sums of the few hundred terms that the tests use, in any order, stay
# within about a hundred of those units.
TOLERANCES = {
    torch.float64: (1e-10, 1e-10),
    torch.float32: (1e-5, 1e-5),
    torch.float16: (2e-3, 2e-3),
    torch.bfloat16: (1.6e-2, 1.6e-2),
}


@dataclass
class Difference:
    """How something got differs from what was expected."""

    kind: Kind
    got: str
    expected: str
    where: str = ""


def plain(value: Any) -> Any:
    """The value, with a tensor of any subclass made an ordinary one, so that no method of its own is asked."""
    if issubclass(type(value), _Tensor) and type(value) is not _Tensor and type(value) is not torch.nn.Parameter:
        with torch._C.DisableTorchFunctionSubclass():
            return _as_subclass(value, _Tensor)
    return value


def is_tensor(value: Any) -> bool:
    """Whether it really is a tensor, whatever it says of itself."""
    return issubclass(type(value), _Tensor)


def dtype_name(dtype: torch.dtype) -> str:
    """``float32`` for ``torch.float32``."""
    return str(dtype).removeprefix("torch.")


def number(value: float | complex, digits: int = 7) -> str:
    """A number in at most so many digits."""
    if type(value) in (bool, int):
        return str(value)
    return f"{value:.{digits}g}"


def describe(value: Any) -> str:
    """The value in few words: small ones in full, large ones by their shape and dtype."""
    value = plain(value)
    if is_tensor(value):
        kind = f"{dtype_name(value.dtype)} {shape_name(value.shape)}"
        if value.device.type == "meta" or value.numel() > _SHOWN:
            return f"a tensor {kind}"
        return f"tensor({_listed(value.detach().tolist())}) {kind}"
    if value is None or type(value) in (bool, int, float, complex):
        return repr(value)
    if type(value) in (list, tuple) and len(value) <= 8:
        inside = ", ".join(describe(entry) for entry in value)
        if type(value) is tuple:
            return f"({inside},)" if len(value) == 1 else f"({inside})"
        return f"[{inside}]"
    if type(value) is dict and len(value) <= 8:
        return "{" + ", ".join(f"{key!r}: {describe(entry)}" for key, entry in value.items()) + "}"
    if type(value) in (list, tuple, dict, set):
        return f"a {type(value).__name__} of {len(value)}"
    if type(value) is str:
        return repr(value) if len(value) <= 200 else f"{value[:80]!r}... ({len(value)} characters)"
    if type(value) is torch.dtype:
        return str(value)
    if type(value) is torch.device or isinstance(value, PurePath):
        return repr(str(value))
    if dataclasses.is_dataclass(type(value)):
        return _describe_fields(value)
    if isinstance(value, type) or callable(value):
        return getattr(value, "__name__", type(value).__name__)
    text = type(value).__name__
    if type(value).__module__ == "numpy":
        return f"a numpy {text}"
    return f"a {text}"


def _some(names: Iterable[Any]) -> str:
    """Names in order; of many, the first."""
    known = sorted(map(str, names))
    return str(known) if len(known) <= 12 else f"{str(known[:8])[:-1]}, ...] ({len(known)} in all)"


def _describe_fields(value: Any) -> str:
    """A dataclass by those of its fields that are not as by default; without asking any method of its own."""
    shown = []
    for field in dataclasses.fields(value):
        entry = vars(value).get(field.name) if hasattr(value, "__dict__") else None
        if type(entry) is not type(field.default) or entry != field.default:
            shown.append(f"{field.name}={describe(entry)}")
    return f"{type(value).__name__}({', '.join(shown)})" if len(shown) <= 12 else f"a {type(value).__name__}"


def shape_name(shape: torch.Size) -> str:
    """``(2, 3)``, and ``()`` for a scalar."""
    return str(tuple(shape))


def _listed(value: Any, digits: int = 7) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(_listed(entry, digits) for entry in value) + "]"
    return number(value, digits)


def difference(
    got: Any, expected: Any, rtol: float | None = None, atol: float | None = None, path: str = ""
) -> Difference | None:
    """How `got` differs from `expected`; None where it does not."""
    got = _basic(plain(got), type(expected))
    at = f" at {path}" if path else ""
    if is_tensor(expected):
        if not is_tensor(got):
            return Difference(Kind.WRONG_VALUE, _no_tensor(got, path) + at, describe(expected))
        return _tensor_difference(got, plain(expected), rtol, atol, at)
    if type(expected) in (int, float) and type(got) in (int, float):
        bound = (1e-6 if atol is None else atol) + (1e-6 if rtol is None else rtol) * abs(expected)
        exact = type(expected) is int and atol is None and rtol is None
        if (
            got == expected
            or (not exact and abs(got - expected) <= bound)
            or (math.isnan(got) and math.isnan(expected))
        ):
            return None
        digits = 7 if number(got) != number(expected) else _ALL_DIGITS
        return Difference(Kind.WRONG_VALUE, number(got, digits) + at, number(expected, digits))
    if type(got) is not type(expected):
        return Difference(Kind.WRONG_VALUE, _other_type(got, path) + at, describe(expected))
    if type(expected) in (list, tuple):
        if len(got) != len(expected):
            return Difference(
                Kind.WRONG_SHAPE,
                f"{len(got)} entries{at}: {describe(got)}",
                f"{len(expected)} entries: {describe(expected)}",
            )
        for index, (one, other) in enumerate(zip(got, expected, strict=True)):
            if found := difference(one, other, rtol, atol, f"{path}[{index}]"):
                return found
        return None
    if type(expected) is dict:
        if list(got) != list(expected) and set(got) != set(expected):
            return Difference(Kind.WRONG_VALUE, f"keys {_some(got)}{at}", f"keys {_some(expected)}")
        for key, other in expected.items():
            if found := difference(got[key], other, rtol, atol, f"{path}[{key!r}]"):
                return found
        return None
    if got == expected:
        return None
    where = ""
    if type(expected) is str:
        index = next(
            (i for i, (a, b) in enumerate(zip(got, expected, strict=False)) if a != b),
            min(len(got), len(expected)),
        )
        one, other = got[index : index + 30], expected[index : index + 30]
        where = f"first difference at character {index}: got {one!r}, expected {other!r}"
    return Difference(Kind.WRONG_VALUE, describe(got) + at, describe(expected), where)


def _basic(got: Any, kind: type) -> Any:
    """What is of a subclass of a basic type as that type: an OrderedDict is a dict, a named tuple is a tuple.

    By the basic type's own methods, so that none of the subclass is asked.
    """
    if kind not in _AS_BASIC or type(got) in (kind, bool) or not issubclass(type(got), kind):
        return got
    return _AS_BASIC[kind](got)


def _other_type(got: Any, path: str) -> str:
    if got is None:
        return "None" if path else "None: is a `return` missing?"
    return f"{describe(got)}, a {type(got).__name__}"


def _no_tensor(got: Any, path: str) -> str:
    if got is None:
        return "None" if path else "None: is a `return` missing?"
    if type(got) in (tuple, list):
        return f"a {type(got).__name__} of {len(got)}, not one tensor"
    if type(got).__module__ == "numpy":
        return "a numpy array, not a tensor"
    return f"{describe(got)}, not a tensor"


def _tensor_difference(
    got: torch.Tensor, expected: torch.Tensor, rtol: float | None, atol: float | None, at: str
) -> Difference | None:
    if got.shape != expected.shape:
        return Difference(Kind.WRONG_SHAPE, f"shape {shape_name(got.shape)}{at}", f"shape {shape_name(expected.shape)}")
    if got.dtype != expected.dtype:
        return Difference(
            Kind.WRONG_DTYPE,
            f"{dtype_name(got.dtype)} {shape_name(got.shape)}{at}",
            f"{dtype_name(expected.dtype)}",
        )
    if got.device != expected.device:
        return Difference(Kind.WRONG_VALUE, f"a tensor on {got.device}{at}", f"one on {expected.device}")
    got, expected = got.detach(), expected.detach()
    if got.layout != torch.strided:
        return Difference(Kind.WRONG_VALUE, f"a tensor of layout {got.layout}{at}", "an ordinary (dense) one")
    usual = TOLERANCES.get(got.dtype, (1e-5, 1e-5))
    rtol = usual[0] if rtol is None else rtol
    atol = usual[1] if atol is None else atol
    right = right_elements(got, expected, rtol, atol)
    inexact = got.dtype.is_floating_point or got.dtype.is_complex
    bounds = f"; tolerance {atol:g} + {rtol:g} * |expected|" if inexact else ""
    if bool(_all(right)):
        return None
    wrong = int((~right).sum())
    index = _worst(got, expected, right)
    place = f" at {list(index)}" if index else ""
    one, other = got[index].item(), expected[index].item()
    where = f"{wrong} of {got.numel()} elements differ"
    if bounds and math.isfinite(abs(one)) and math.isfinite(abs(other)):
        where += f", the worst{place} by {abs(one - other):.3g}{bounds}"
    elif bounds:
        where += f", the first such{place}"
    whole = got.numel() <= _SHOWN
    mine, theirs = (got.tolist(), expected.tolist()) if whole else (one, other)
    digits = 7 if _listed(mine) != _listed(theirs) else _ALL_DIGITS
    told, wanted = _listed(mine, digits), _listed(theirs, digits)
    if not whole:
        told, wanted = f"{told}{place} of {shape_name(got.shape)}", f"{wanted}{place}"
    return Difference(Kind.WRONG_VALUE, told + at, wanted, where)


def right_elements(got: torch.Tensor, expected: torch.Tensor, rtol: float, atol: float) -> torch.Tensor:
    """Where two tensors of one shape and dtype agree, element by element; a NaN agrees with a NaN."""
    if not (got.dtype.is_floating_point or got.dtype.is_complex):
        return _equal(got, expected)
    return _isclose(got, expected, rtol=rtol, atol=atol, equal_nan=False) | (_isnan(got) & _isnan(expected))


def _worst(got: torch.Tensor, expected: torch.Tensor, right: torch.Tensor) -> tuple[int, ...]:
    """The index of the element furthest off; one that is not finite counts as infinitely far."""
    if got.dtype.is_floating_point or got.dtype.is_complex:
        distance = (got - expected).abs().to(torch.float64).nan_to_num(nan=math.inf, posinf=math.inf)
        distance = torch.where(right, torch.zeros_like(distance), distance)
    else:
        distance = (~right).to(torch.float64)
    flat = int(distance.reshape(-1).argmax())
    index: list[int] = []
    for size in reversed(got.shape):  # torch.unravel_index would do, after importing sympy
        flat, place = divmod(flat, size)
        index.insert(0, place)
    return tuple(index)


def evidence(value: Any, depth: int = 0) -> Any:
    """The value as plain data, so that what two implementations gave can be compared later."""
    value = plain(value)
    if is_tensor(value):
        data: dict[str, Any] = {"shape": list(value.shape), "dtype": dtype_name(value.dtype)}
        if value.device.type != "meta" and value.layout == torch.strided and not value.dtype.is_complex:
            flat = value.detach().reshape(-1)
            step = max(1, math.ceil(flat.numel() / _KEPT))
            data["values"] = [float(f"{entry:.9g}") for entry in flat[::step].to(torch.float64).tolist()]
        return data
    if value is None or type(value) in (bool, int, float, str):
        return value
    if type(value) in (list, tuple) and depth < 4 and len(value) <= _KEPT:
        return [evidence(entry, depth + 1) for entry in value]
    if type(value) is dict and depth < 4:
        return {str(key): evidence(entry, depth + 1) for key, entry in value.items()}
    if isinstance(value, BaseException):
        return {"raised": type(value).__name__}
    if type(value) in (torch.device, torch.dtype):
        return str(value)
    return {"type": type(value).__name__}


def same_evidence(one: Any, other: Any) -> bool:
    """Whether two pieces of evidence agree up to rounding (which may differ between two ways of computing)."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, int | float) and isinstance(other, int | float):
        if math.isnan(one) or math.isnan(other):
            return math.isnan(one) and math.isnan(other)
        return math.isclose(one, other, rel_tol=1e-4, abs_tol=1e-6)
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same_evidence(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same_evidence, one, other))
    return bool(one == other)
