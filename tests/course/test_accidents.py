"""The accidents of every beginner: each is graded for real, and its verdict says what to do."""

import textwrap
from collections.abc import Callable

import pytest

from checkpoints import accidents, stubs
from checkpoints.catalogue import Catalogue
from checkpoints.verdicts import Kind, TaskResult, Verdict

from .conftest import Checkout, assert_well_formed, solution_with

# what happened: (task, code after the solution, words of the verdict that it gets)
ACCIDENTS = {
    "forgot to return": (
        "attention/masking",
        "def causal_mask(length, *, past=0, device=None):\n    mask = torch.ones(length, past + length).tril(past).bool()",
        "is a `return` missing?",
    ),
    "a numpy array": (
        "attention/masking",
        "def causal_mask(length, *, past=0, device=None):\n    return torch.ones(length, past + length).tril(past).bool().numpy()",
        "a numpy array, not a tensor",
    ),
    "a tuple for a tensor": (
        "attention/masking",
        "def causal_mask(length, *, past=0, device=None):\n    return torch.ones(length, past + length).tril(past).bool(), length",
        "a tuple of 2, not one tensor",
    ),
    "renamed the function": (
        "attention/masking",
        "causal_masks = causal_mask\ndel causal_mask",
        "exercises/attention/masking.py has no causal_mask",
    ),
    "another signature": (
        "attention/masking",
        "def causal_mask(size):\n    return torch.ones(size, size).tril().bool()",
        "the signature of the stub: causal_mask(length, *, past=0, device=None)",
    ),
    "another signature of a method": (
        "block/layer_norm",
        "class LayerNorm(LayerNorm):\n    def __init__(self, width):\n        super().__init__(width)",
        "the signature of the stub: LayerNorm(embed_dim, eps=1e-05, bias=True)",
    ),
    "left the raise": (
        "attention/masking",
        "def causal_mask(length, *, past=0, device=None):\n    mask = torch.ones(length, past + length).tril(past).bool()\n"
        "    raise NotImplementedError('attention/masking: causal_mask')\n    return mask",
        "that line gone: your code runs up to `raise NotImplementedError`",
    ),
    "forgot super().__init__()": (
        "block/layer_norm",
        "class LayerNorm(nn.Module):\n    def __init__(self, embed_dim, eps=1e-5, bias=True):\n"
        "        self.weight = nn.Parameter(torch.ones(embed_dim))",
        "`super().__init__()` is the first line of its `__init__`",
    ),
    "parameters in a plain list": (
        "block/layer_norm",
        "class LayerNorm(nn.Module):\n    def __init__(self, embed_dim, eps=1e-5, bias=True):\n        super().__init__()\n"
        "        self.both = [nn.Parameter(torch.ones(embed_dim)), nn.Parameter(torch.zeros(embed_dim))]\n"
        "    def forward(self, x):\n        return torch.nn.functional.linear(x, self.both[0][None])",
        "LayerNorm.both is a plain list, so the module does not know what is in it: use nn.ParameterList",
    ),
    "tensors on two devices": (
        "attention/masking",
        "def masked_softmax(scores, mask=None):\n    return scores + torch.zeros(scores.shape, device='meta')",
        "give those that you make `device=x.device`",
    ),
    "`and` of two tensors": (
        "attention/masking",
        "def combine_masks(*masks):\n    return masks[0] and masks[1]",
        "one answer for each element",
    ),
    "input()": ("attention/masking", "def causal_mask(*a, **k):\n    return input()", "nobody sits at the keyboard"),
    "pdb": ("attention/masking", "import pdb\ndef causal_mask(*a, **k):\n    pdb.set_trace()", "no `breakpoint()`"),
    "breakpoint()": ("attention/masking", "def causal_mask(*a, **k):\n    breakpoint()", "no `breakpoint()`"),
    "a print in a hot loop": (
        "attention/masking",
        "def causal_mask(*a, **k):\n    while True:\n        print('x' * 1000)",
        "is a print inside a loop?",
    ),
    "changed its input": (
        "attention/masking",
        "def masked_softmax(scores, mask=None):\n    return scores.mul_(2).softmax(-1)",
        "was changed in place",
    ),
}


def _verdicts(result: TaskResult) -> list[Verdict]:
    return [verdict for check in result.checks for verdict in check.verdicts]


@pytest.mark.parametrize("name", ACCIDENTS)
def test_accident(name: str, course: Catalogue, grade: Callable[..., list[TaskResult]]) -> None:
    task_id, code, words = ACCIDENTS[name]
    task = course.task(task_id)
    (result,) = grade([task.id], {task.id: solution_with(task, code)}, seconds=30 if "devices" in name else 6)
    assert result.earned < result.points
    texts = [" ".join(verdict.text().split()) for verdict in _verdicts(result)]
    assert any(words in text for text in texts), "\n".join(texts)
    for verdict in _verdicts(result):
        assert_well_formed(verdict)


def test_the_wrong_file(course: Catalogue, checkout: Checkout) -> None:
    """Code in a neighbour's file, or beside it, is found and told."""
    task = course.task("attention/masking")
    neighbour = course.task("attention/patterns").exercise(checkout.root)
    code = textwrap.dedent("def causal_mask(length):\n    return 0\n")
    neighbour.write_text(neighbour.read_text(encoding="utf-8") + code, encoding="utf-8")
    told = "exercises/attention/patterns.py defines causal_mask"
    shown = " ".join(checkout.run("grade", "attention", "masking").stdout.split())
    assert f"{told}: is it in the wrong file?" in shown
    neighbour.write_text(stubs.generate(course.task("attention/patterns")), encoding="utf-8")
    assert not accidents.elsewhere(task, course, checkout.root)
    (checkout.root / "exercises" / "causal_mask.py").write_text(code, encoding="utf-8")
    assert accidents.elsewhere(task, course, checkout.root) == {"causal_mask": "exercises/causal_mask.py"}


def test_solutions_own_names_are_in_their_place(course: Catalogue) -> None:
    """No task's solution stands, as far as names go, in the wrong file."""
    for task in course.tasks():
        assert accidents.signature_of(task, "no_such_name") == ""
    assert (
        accidents.signature_of(course.task("attention/masking"), "causal_mask")
        == "causal_mask(length, *, past=0, device=None)"
    )


def test_some_printing_is_shown_in_part(course: Catalogue, grade: Callable[..., list[TaskResult]]) -> None:
    """What is printed costs no points; a verdict shows the beginning, and how much it was."""
    task = course.task("attention/masking")
    code = "def causal_mask(*a, **k):\n    for index in range(10_000):\n        print('row', index)\n    return None"
    (result,) = grade([task.id], {task.id: solution_with(task, code)})
    check = next(each for each in result.checks if each.check == "test_causal_by_hand")
    assert check.printed.startswith("row 0")
    assert "bytes in all" in check.printed
    assert len(check.printed) < 2100
    assert Kind.WRONG_VALUE in {verdict.kind for verdict in check.verdicts}
