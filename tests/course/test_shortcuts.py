"""The library's own version of what a task builds is refused, however it is reached; fair code is left alone."""

import textwrap
from collections.abc import Callable

import pytest

from checkpoints.catalogue import Catalogue
from checkpoints.verdicts import Kind, TaskResult

from .conftest import solution_with

SIGNATURE = "def scaled_dot_product_attention(query, key, value, mask=None, **options):"
WAYS = {
    "the function itself": "from torch.nn.functional import scaled_dot_product_attention",
    "an alias": "from torch.nn.functional import scaled_dot_product_attention as mine\n{signature}\n    return mine(query, key, value, mask)",
    "through its module": "import torch.nn.functional as f\n{signature}\n    return f.scaled_dot_product_attention(query, key, value, mask)",
    "getattr": "import torch\n{signature}\n    return getattr(torch.nn.functional, 'scaled_dot' + '_product_attention')(query, key, value, mask)",
    "torch._C": "import torch\n{signature}\n    return torch._C._nn.scaled_dot_product_attention(query, key, value, mask)",
    "torch.ops": "import torch\n{signature}\n    return torch.ops.aten.scaled_dot_product_attention(query, key, value, mask)",
    "an overload of torch.ops": "import torch\n{signature}\n    return torch.ops.aten.scaled_dot_product_attention.default(query, key, value, mask)",
    "behind except": "import torch\n{signature}\n    try:\n        return torch.nn.functional.scaled_dot_product_attention(query, key, value, mask)\n    except Exception:\n        return value",
    "nn.MultiheadAttention": "import torch\n{signature}\n    size = query.shape[-1]\n    return torch.nn.MultiheadAttention(size, 1, dtype=query.dtype, batch_first=True)(query, key, value)[0]",
    "nn.MultiheadAttention in eval mode": "import torch\n{signature}\n    size = query.shape[-1]\n    with torch.no_grad():\n        return torch.nn.MultiheadAttention(size, 1, dtype=query.dtype, batch_first=True).eval()(query, query, query)[0]",
}


@pytest.mark.parametrize("way", WAYS)
def test_attention_may_not_be_torchs(way: str, course: Catalogue, grade: Callable[..., list[TaskResult]]) -> None:
    task = course.task("attention/scaled_dot_product")
    text = solution_with(task, textwrap.dedent(WAYS[way]).format(signature=SIGNATURE))
    (result,) = grade([task.id], {task.id: text})
    using = [
        check
        for check in result.checks
        if any(v.call.startswith("scaled_dot_product_attention(") for v in check.verdicts)
    ]
    assert using
    refused = [check for check in using if any(verdict.kind == Kind.FORBIDDEN_SHORTCUT for verdict in check.verdicts)]
    assert len(refused) >= 0.7 * len(using), "only few checks may fail for another reason: options that torch has not"
    verdict = next(v for check in refused for v in check.verdicts if v.kind == Kind.FORBIDDEN_SHORTCUT)
    assert "this is what you are building" in verdict.got


def test_numpy_and_loops_are_fair(course: Catalogue, grade: Callable[..., list[TaskResult]]) -> None:
    """A shortcut is the library's own version, not another way to write one's own."""
    task = course.task("attention/masking")
    text = solution_with(
        task,
        textwrap.dedent(
            """
            def masked_softmax(scores, mask=None):
                seen = torch.ones_like(scores, dtype=torch.bool) if mask is None else mask.expand(scores.shape)
                low = torch.finfo(scores.dtype).min
                highest = scores.masked_fill(~seen, low).amax(-1, keepdim=True)
                exponentials = (scores.masked_fill(~seen, 0.0) - highest * seen).masked_fill(~seen, 0.0).exp() * seen
                return exponentials / exponentials.sum(-1, keepdim=True).clamp_min(torch.finfo(scores.dtype).tiny)
            """
        ),
    )
    (result,) = grade([task.id], {task.id: text})
    assert result.passed, [verdict.text() for check in result.checks for verdict in check.verdicts]
