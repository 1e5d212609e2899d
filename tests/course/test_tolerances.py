"""Every tolerance that a test sets by itself says why: an error bound in a comment, at its place or just above."""

import ast
import io
import tokenize

import pytest

from checkpoints import catalogue
from checkpoints.catalogue import Task

COURSE = catalogue.load()
ABOVE = 4  # a comment may stand so many lines above its statement


@pytest.mark.parametrize("task", list(COURSE.tasks()), ids=lambda task: task.id)
def test_tolerances_are_justified(task: Task) -> None:
    text = task.tests().read_text(encoding="utf-8")
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    comments = {token.start[0] for token in tokens if token.type == tokenize.COMMENT and len(token.string) > 15}
    tree = ast.parse(text)
    named = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            named[node.targets[0].id] = node
    bare = []
    for statement in ast.walk(tree):
        if not isinstance(statement, ast.stmt) or isinstance(
            statement, ast.FunctionDef | ast.ClassDef | ast.For | ast.With | ast.If
        ):
            continue
        for keyword in ast.walk(statement):
            if isinstance(keyword, ast.keyword) and keyword.arg in ("rtol", "atol") and not _is_zero(keyword.value):
                places: list[ast.stmt] = [statement]
                places += [
                    named[each.id]
                    for each in ast.walk(keyword.value)
                    if isinstance(each, ast.Name) and each.id in named
                ]
                if not any(_commented(place, comments) for place in places):
                    bare.append(f"line {keyword.lineno}: {ast.unparse(keyword)}")
    assert not bare, f"{task.id}: {bare}"


def _is_zero(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value == 0


def _commented(node: ast.stmt, comments: set[int]) -> bool:
    last = node.end_lineno or node.lineno
    return any(line in comments for line in range(node.lineno - ABOVE, last + 1))
