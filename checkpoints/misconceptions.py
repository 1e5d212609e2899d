"""Misconceptions: small wrong variants of a solution, each with the words that name it.

A task's tests keep a list of them under the name ``MISCONCEPTIONS``. They have two uses. When a learner's answer
is wrong, it is compared with what each variant gives on the same inputs, and the verdict names the one that
matches. And put in the learner's place, each must lose points and be named: that is how the course tests its tests.
"""

import textwrap
from dataclasses import dataclass


class EditError(Exception):
    """An edit does not fit the solution's text."""


@dataclass(frozen=True, init=False)
class Misconception:
    """A named wrong variant, written as edits of the solution's text.

    ``Misconception("attention without dividing by sqrt(head_dim)", ("scores / math.sqrt(d)", "scores"))``

    Args:
        name: completes the sentence "equals ...".
        edits: pairs (old, new); each old text must stand in the solution exactly once. Several lines may be
            given; their common indentation does not matter, and where the old text starts a line the new text
            is indented as the old one was.
    """

    name: str
    edits: tuple[tuple[str, str], ...]

    def __init__(self, name: str, *edits: tuple[str, str]) -> None:
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "edits", edits)

    def apply(self, solution: str) -> str:
        """The wrong variant's text.

        Raises:
            EditError: an edit's old text is not in the solution, or more than once.
        """
        text = solution
        for old, new in self.edits:
            text = _replace(text, old, new, self.name)
        return text


def _replace(text: str, old: str, new: str, name: str) -> str:
    if "\n" in old.strip("\n"):
        old, new = textwrap.dedent(old).strip("\n"), textwrap.dedent(new).strip("\n")
        indents = {line[: len(line) - len(line.lstrip())] for line in text.splitlines()}
        found = [indent for indent in indents if "\n" + textwrap.indent(old, indent) + "\n" in f"\n{text}\n"]
        if len(found) != 1:
            raise EditError(f"{name!r}: found {len(found)} times: {old!r}")
        old, new = textwrap.indent(old, found[0]), textwrap.indent(new, found[0])
    if text.count(old) != 1:
        raise EditError(f"{name!r}: found {text.count(old)} times: {old!r}")
    start = text.index(old)
    line = text[text.rfind("\n", 0, start) + 1 : start]
    if "\n" in new and "\n" not in old and not line.strip():
        new = textwrap.indent(textwrap.dedent(new).strip("\n"), line).removeprefix(line)
    return text[:start] + new + text[start + len(old) :]
