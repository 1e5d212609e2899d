"""Isolation: whatever the learner's code does, it gets its verdict, and nothing else suffers."""

import textwrap
from collections.abc import Callable

import pytest

from checkpoints.catalogue import Catalogue
from checkpoints.verdicts import Kind, TaskResult

from .conftest import Checkout, solution_with

LIMIT = 3.0  # seconds for one check: enough for a busy machine, and short for an endless loop

# name: (code, kind of the verdict, words in it)
FAULTS = {
    "endless loop": ("while True: pass", Kind.TIMEOUT, "endless loop"),
    "sleeping for ever": ("import time; time.sleep(1e6)", Kind.TIMEOUT, "still running"),
    "sys.exit(0)": ("import sys; sys.exit(0)", Kind.CRASH, "sys.exit(0)"),
    "os._exit(0)": ("import os; os._exit(0)", Kind.CRASH, "exit status 0"),
    "null pointer": ("import ctypes; ctypes.string_at(0)", Kind.CRASH, "segmentation fault"),
    "abort": ("import os; os.abort()", Kind.CRASH, "aborted"),
    "100 GB by torch": ("import torch; torch.empty(100 * 2**30, dtype=torch.uint8)", Kind.OUT_OF_MEMORY, "100.0 GiB"),
    "100 GB by Python": ("bytearray(100 * 2**30)", Kind.OUT_OF_MEMORY, "MemoryError"),
    "1 GB printed": ("for _ in range(1024): print('x' * 2**20)", Kind.CRASH, "16 MB"),
    "endless recursion": ("f = lambda: f()\nf()", Kind.CRASH, "RecursionError"),
    "fork bomb": ("import os\nwhile True: os.fork()", Kind.FORBIDDEN_SHORTCUT, "another process"),
    "another program": ("import subprocess, sys\nsubprocess.run([sys.executable])", Kind.FORBIDDEN_SHORTCUT, "process"),
    "killing the grader": (
        "import os, signal; os.kill(os.getppid(), signal.SIGKILL)",
        Kind.FORBIDDEN_SHORTCUT,
        "signal",
    ),
    "patched torch.allclose": (
        "import torch; torch.allclose = lambda *a, **k: True",
        Kind.FORBIDDEN_SHORTCUT,
        "torch.allclose",
    ),
    "patched torch.equal": ("import torch; torch.equal = lambda *a, **k: True", Kind.FORBIDDEN_SHORTCUT, "torch.equal"),
    "patched torch.isclose": (
        "import torch; torch.isclose = lambda *a, **k: a[0] == a[0]",
        Kind.FORBIDDEN_SHORTCUT,
        "torch.isclose",
    ),
    "patched assert_close": (
        "import torch; torch.testing.assert_close = lambda *a, **k: None",
        Kind.FORBIDDEN_SHORTCUT,
        "torch.testing.assert_close",
    ),
    "patched Tensor.__eq__": (
        "import torch; torch.Tensor.__eq__ = lambda a, b: True",
        Kind.FORBIDDEN_SHORTCUT,
        "torch.Tensor.__eq__",
    ),
    "patched pytest.raises": (
        "import sys; sys.modules['py' + 'test'].raises = None",
        Kind.FORBIDDEN_SHORTCUT,
        "pytest.raises",
    ),
    "patched pytest_check": (
        "import sys; type(sys.modules['py' + 'test_check'].check).fail = lambda *a, **k: None",
        Kind.FORBIDDEN_SHORTCUT,
        "pytest_check.check",
    ),
    "patched print": (
        "import builtins; builtins.isinstance = lambda *a: True",
        Kind.FORBIDDEN_SHORTCUT,
        "builtins.isinstance",
    ),
    "default dtype": ("import torch; torch.set_default_dtype(torch.float64)", Kind.FORBIDDEN_SHORTCUT, "default dtype"),
    "gradients off": ("import torch; torch.set_grad_enabled(False)", Kind.FORBIDDEN_SHORTCUT, "gradients switched off"),
    "writing to the record": (
        "import pathlib\n(pathlib.Path(__file__).parents[2] / 'checkpoints' / 'record.json').write_text('{}')",
        Kind.FORBIDDEN_SHORTCUT,
        "checkpoints/record.json",
    ),
    "deleting its tests": (
        "import pathlib\n(pathlib.Path(__file__).parents[2] / 'tests' / 'attention' / 'test_masking.py').unlink()",
        Kind.FORBIDDEN_SHORTCUT,
        "tests/attention/test_masking.py",
    ),
}
AT_IMPORT = {
    "syntax error": ("def broken(:", Kind.CANNOT_IMPORT, "SyntaxError"),
    "no such module": ("import nonexistent_package", Kind.CANNOT_IMPORT, "No module named 'nonexistent_package'"),
    "an error": ("1 / 0", Kind.CANNOT_IMPORT, "ZeroDivisionError"),
    "sys.exit(0)": ("import sys; sys.exit(0)", Kind.CANNOT_IMPORT, "sys.exit(0)"),
}


def _assert_named(result: TaskResult, kind: Kind, words: str, checks: set[str]) -> None:
    """Just these checks fail, each with a verdict of this kind that says these words."""
    failed = {check.check for check in result.checks if not check.passed}
    assert failed == checks, [
        (check.check, [verdict.text() for verdict in check.verdicts]) for check in result.checks if not check.passed
    ]
    for check in result.checks:
        if check.check in checks:
            texts = [verdict.text() for verdict in check.verdicts]
            assert kind in [verdict.kind for verdict in check.verdicts], texts
            assert any(words in verdict.got for verdict in check.verdicts if verdict.kind == kind), texts


@pytest.mark.parametrize("name", FAULTS)
def test_fault_in_a_call(name: str, course: Catalogue, grade: Callable[..., list[TaskResult]]) -> None:
    """A fault in `combine_masks` costs the checks that call it, and no other check and no other task."""
    code, kind, words = FAULTS[name]
    body = "def combine_masks(*masks):\n" + textwrap.indent(code, "    ")
    task, other = course.task("attention/masking"), course.task("attention/scaled_dot_product")
    texts = {task.id: solution_with(task, body)}
    result, untouched = grade([task.id, other.id], texts, seconds=LIMIT)
    _assert_named(result, kind, words, {"test_combined_by_hand", "test_combined_property", "test_combined_refuses"})
    assert untouched.passed


@pytest.mark.parametrize("name", FAULTS | AT_IMPORT)
def test_fault_at_import(name: str, course: Catalogue, grade: Callable[..., list[TaskResult]]) -> None:
    """A fault while the module is imported costs its task, and no other."""
    code, kind, words = (FAULTS | AT_IMPORT)[name]
    task, other = course.task("attention/masking"), course.task("attention/scaled_dot_product")
    result, untouched = grade([task.id, other.id], {task.id: solution_with(task, code)}, seconds=LIMIT)
    assert result.earned == 0
    kinds = {verdict.kind for check in result.checks for verdict in check.verdicts}
    expected = (
        kind
        if kind != Kind.CRASH or name in ("os._exit(0)", "null pointer", "abort", "1 GB printed")
        else Kind.CANNOT_IMPORT
    )
    assert kinds == {expected}, result.checks[0].verdicts[0].text()
    assert all(words in verdict.got for check in result.checks for verdict in check.verdicts), (
        result.checks[0].verdicts[0].text()
    )
    assert untouched.passed
    assert untouched.lent == [task.id]


# Where a module's code runs besides its import: name -> the code around the fault, and a check that gets there.
PATHS = {
    "construction": (
        "class LayerNorm(LayerNorm):\n"
        "    def __init__(self, *arguments, **options):\n"
        "        super().__init__(*arguments, **options)\n"
        "{fault:8}",
        "test_layer_norm",
    ),
    "forward": (
        "class LayerNorm(LayerNorm):\n    def forward(self, x):\n{fault:8}\n        return super().forward(x)",
        "test_layer_norm",
    ),
    "backward": (
        "class Faulty(torch.autograd.Function):\n"
        "    @staticmethod\n"
        "    def forward(ctx, x):\n"
        "        return x.clone()\n"
        "    @staticmethod\n"
        "    def backward(ctx, gradient):\n"
        "{fault:8}\n"
        "        return gradient\n"
        "class LayerNorm(LayerNorm):\n"
        "    def forward(self, x):\n"
        "        return Faulty.apply(super().forward(x))",
        "test_layer_norm_gradients",
    ),
    "teardown": ("class LayerNorm(LayerNorm):\n    def __del__(self):\n{fault:8}", "test_layer_norm"),
}
# Without effect there: at the end of an object Python swallows exceptions; autograd puts its own mode back.
HARMLESS = {
    "teardown": {"sys.exit(0)", "100 GB by torch", "100 GB by Python", "1 GB printed", "endless recursion"},
    "backward": {"gradients off"},
}
OTHER_CHECK = "test_rms_norm"  # of the other class of the same file


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.parametrize("path", PATHS)
def test_fault_on_every_path(
    path: str, name: str, course: Catalogue, grade: Callable[..., list[TaskResult]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever it happens, the check that met it gets its verdict, and the next one its points."""
    code, kind, words = FAULTS[name]
    template, met = PATHS[path]
    monkeypatch.setattr("checkpoints.grader.checks_of", lambda tests: {met: "Met.", OTHER_CHECK: "Not met."})
    task = course.task("block/layer_norm")
    body = template.replace("{fault:8}", textwrap.indent(code, " " * 8))
    (result,) = grade([task.id], {task.id: solution_with(task, body)}, seconds=LIMIT)
    if name in HARMLESS.get(path, ()):
        assert result.passed, [verdict.text() for check in result.checks for verdict in check.verdicts]
    else:
        _assert_named(result, kind, words, {met})


def test_an_answer_that_equals_everything(course: Catalogue, grade: Callable[..., list[TaskResult]]) -> None:
    """The input returned as a tensor whose every comparison is true is still the wrong answer."""
    liar = """
    class Liar(torch.Tensor):
        def __eq__(self, other): return torch.ones(self.shape, dtype=torch.bool)
        __ne__ = __eq__
        @classmethod
        def __torch_function__(cls, func, types, args=(), kwargs=None):
            if func in (torch.isclose, torch.eq, torch.equal, torch.allclose): return torch.tensor(True)
            return super().__torch_function__(func, types, args, kwargs or {})

    def masked_softmax(scores, mask=None):
        return scores.as_subclass(Liar)
    """
    task = course.task("attention/masking")
    (result,) = grade([task.id], {task.id: solution_with(task, textwrap.dedent(liar))})
    names = {check for check in (entry.check for entry in result.checks) if "softmax" in check}
    _assert_named(result, Kind.WRONG_VALUE, "", names)

    anything = "class Anything:\n    __eq__ = __ge__ = __le__ = lambda *a: True\n    __bool__ = lambda s: True\n    __class__ = torch.Tensor\n\ndef masked_softmax(scores, mask=None):\n    return Anything()\n"
    (result,) = grade([task.id], {task.id: solution_with(task, anything)})
    _assert_named(result, Kind.WRONG_VALUE, "not a tensor", names)


def test_the_line_is_named(course: Catalogue, grade: Callable[..., list[TaskResult]]) -> None:
    """A lost process, a crash and a syntax error each say where."""
    task = course.task("attention/masking")
    for code in ("while True: pass", "import ctypes; ctypes.string_at(0)", "return 1 / 0"):
        text = solution_with(task, f"def combine_masks(*masks):\n    {code}")
        line = text.splitlines().index(f"    {code}") + 1
        (result,) = grade([task.id], {task.id: text}, seconds=LIMIT)
        wheres = {verdict.where for check in result.checks for verdict in check.verdicts}
        assert all(f"exercises/attention/masking.py:{line}" in where for where in wheres), wheres


def test_the_record_survives(course: Catalogue, checkout: Checkout) -> None:
    """Learner code that writes over the record by a way that no hook sees loses nothing of it."""
    first, second = course.task("attention/masking"), course.task("attention/scaled_dot_product")
    checkout.solve(first)
    assert checkout.run("grade", "attention", "masking").returncode == 0
    sly = "import ctypes\nctypes.CDLL(None).truncate(b'checkpoints/record.json', ctypes.c_long(5))\n"
    second.exercise(checkout.root).write_text(sly, encoding="utf-8")
    shown = checkout.run("grade", "attention", "scaled_dot_product")
    assert shown.returncode == 1
    assert "damaged" in shown.stdout
    assert "10 of 10" in checkout.run("progress").stdout
