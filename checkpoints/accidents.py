"""The accidents of every beginner, each in words of its own: what to do, and not only what Python says."""

import ast
import bdb
import linecache
import re
from pathlib import Path

from torch import nn

from . import ROOT
from .catalogue import Catalogue, Task, public_names

_SIGNATURE = re.compile(r"^([\w.]+)\(\) (got an unexpected|takes|missing|got multiple values|got some positional)")
_NO_INIT = re.compile(r"before Module\.__init__\(\) call|has no attribute '_(parameters|buffers|modules|\w*hooks)'")
_DEVICES = ("Expected all tensors to be on the same device", "is not on the expected device", "Device Propagation")


def remedy(error: BaseException, task: Task, where: str) -> str:
    """What to do about an exception out of the learner's code; empty where there is nothing to say that it does not.

    Args:
        error: the exception.
        task: in whose code.
        where: the learner's line that it came through; empty if it came through none.
    """
    told = str(error)
    if isinstance(error, TypeError) and not where and (found := _SIGNATURE.match(told)):
        signature = signature_of(task, found[1])
        return f"the signature of the stub: {signature}" if signature else ""
    if isinstance(error, AttributeError) and _NO_INIT.search(told):
        return "a module that is one: `super().__init__()` is the first line of its `__init__`"
    if isinstance(error, RuntimeError) and any(words in told for words in _DEVICES):
        return "tensors on one device: give those that you make `device=x.device`"
    if isinstance(error, RuntimeError) and "Boolean value of Tensor with more than one value" in told:
        return "one answer for each element: `&`, `|` and `~` (or `.all()`, `.any()`), not `and`, `or`, `not`, `if`"
    if isinstance(error, EOFError):
        return "all that it needs as arguments: nobody sits at the keyboard for `input()`"
    if isinstance(error, bdb.BdbQuit):
        return "no `breakpoint()`: to look inside, run the task's tests from your editor"
    return ""


def signature_of(task: Task, qualified: str) -> str:
    """A function's or method's signature in the task's solution, without types; empty if it has none of this name."""
    body: list[ast.stmt] = ast.parse(task.solution().read_text(encoding="utf-8")).body
    *owners, name = qualified.split(".")
    for part in (*owners, name):
        found = next((each for each in body if getattr(each, "name", None) == part), None)
        if not isinstance(found, ast.FunctionDef | ast.ClassDef):
            return ""
        body = found.body
    if not isinstance(found, ast.FunctionDef):
        return ""
    for argument in ast.walk(found.args):
        if isinstance(argument, ast.arg):
            argument.annotation = None
    shown = re.sub(r"^self(, |$)", "", ast.unparse(found.args))
    return f"{'.'.join(owners) if name == '__init__' else qualified}({shown})"


def raise_was_left(where: str) -> bool:
    """Whether the stub's `raise`, at a line FILE:LINE of the learner's, stands after code of theirs."""
    file, _, rest = where.partition(":")
    line = int(rest.partition(":")[0] or 0)
    try:
        tree = ast.parse("".join(linecache.getlines(str(ROOT / file))))
    except (SyntaxError, ValueError):
        return False
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.lineno <= line <= (node.end_lineno or 0):
            before = [each for each in node.body if each.lineno < line and not _is_docstring(each)]
            if before and any(each.lineno == line for each in node.body):
                return True
    return False


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def hidden_parameters(module: nn.Module) -> str:
    """Tells of parameters that a module keeps in a plain list, tuple or dict, where it does not know of them."""
    known = {id(each) for each in (*module.parameters(), *module.modules())}
    for part in module.modules():
        for name, value in vars(part).items():
            if type(value) not in (list, tuple, dict):
                continue
            entries = value.values() if type(value) is dict else value
            theirs = [entry for entry in entries if isinstance(entry, nn.Parameter | nn.Module)]
            lost = [entry for entry in theirs if id(entry) not in known]
            if lost:
                plural = "Parameter" if isinstance(lost[0], nn.Parameter) else "Module"
                kind = "Dict" if type(value) is dict else "List"
                return (
                    f"{type(part).__name__}.{name} is a plain {type(value).__name__}, so the module does not know "
                    f"what is in it: use nn.{plural}{kind}"
                )
    return ""


def elsewhere(task: Task, course: Catalogue, root: Path = ROOT) -> dict[str, str]:
    """The names of an untouched task that some other file of the learner's defines, and the file."""
    own = {other.exercise(root): other for other in course.tasks()}
    names = public_names(task.solution())
    found: dict[str, str] = {}
    for path in sorted([*(root / "exercises").rglob("*.py"), *root.glob("*.py")]):
        if path == task.exercise(root) or path.name == "noxfile.py":
            continue
        try:
            text = path.read_text(encoding="utf-8")
            here = {name for name in names if re.search(rf"^(def|class) {name}\b", text, re.MULTILINE)}
            if here and path in own:
                here -= set(public_names(own[path].solution()))
        except (OSError, ValueError):
            continue
        found |= {name: path.relative_to(root).as_posix() for name in here}
    return found
