"""Turns an exception out of the learner's code into the verdict that fits it."""

import errno
import re
import traceback

from . import ROOT, accidents
from .catalogue import Task
from .trees import ImportFailure
from .verdicts import Kind, Verdict

FLOOD = "printed or wrote more than 16 MB: is a print inside a loop?"
_MEMORY_MESSAGES = ("DefaultCPUAllocator", "not enough memory", "CUDA out of memory", "can't allocate memory")
_OWN_MAKING = "an answer of your own making"


class ForbiddenError(RuntimeError):
    """Raised into the learner's code when it does what is not allowed."""


def verdict_of(error: BaseException, call: str, task: Task, pure: bool = False) -> Verdict:
    """The verdict on a call that ended with this exception; `pure` of one that was to change nothing."""
    if isinstance(error, ImportFailure):
        return _import_verdict(error, call, task)
    where, proof = line_of(error), {"raised": type(error).__name__, "message": first_line(error)}
    if isinstance(error, ForbiddenError):
        return Verdict(Kind.FORBIDDEN_SHORTCUT, call, str(error), _OWN_MAKING, where)
    if is_stub(error):
        told = str(error) or "NotImplementedError"
        wanted = "your code in the place of `raise NotImplementedError`"
        if accidents.raise_was_left(where):
            wanted = "that line gone: your code runs up to `raise NotImplementedError`, and no further"
        return Verdict(Kind.TODO, call, told, wanted, where)
    if _out_of_memory(error):
        return Verdict(Kind.OUT_OF_MEMORY, call, _asked_for(error), f"a result within {task.memory_gib:g} GiB", where)
    if _flood(error):
        return Verdict(Kind.CRASH, call, FLOOD, "a few lines at most", where)
    if isinstance(error, SystemExit):
        wanted = "a result; the program that calls you goes on"
        return Verdict(Kind.CRASH, call, f"called sys.exit({error.code!r})", wanted, where)
    told = f"{type(error).__name__}: {first_line(error)}"
    if "leaf Variable that requires grad" in told:
        if pure:
            wanted = "its inputs as they were: use the form without the underscore"
            return Verdict(Kind.CHANGED_ITS_INPUT, call, told, wanted, where, evidence=proof)
        wanted = "what is trained changed under `torch.no_grad()`, where autograd does not follow"
        return Verdict(Kind.CRASH, call, told, wanted, where, evidence=proof)
    wanted = accidents.remedy(error, task, where) or "a result"
    return Verdict(Kind.CRASH, call, told, wanted, where, evidence=proof)


def _import_verdict(error: ImportFailure, call: str, task: Task) -> Verdict:
    cause, where = error.cause, error.where
    if isinstance(cause, ForbiddenError):
        return Verdict(Kind.FORBIDDEN_SHORTCUT, call, str(cause), _OWN_MAKING, where)
    if _flood(cause):
        return Verdict(Kind.CRASH, call, FLOOD, "a few lines at most", where)
    if _out_of_memory(cause):
        return Verdict(Kind.OUT_OF_MEMORY, call, _asked_for(cause), f"an import within {task.memory_gib:g} GiB", where)
    wanted = f"exercises/{task.id}.py imports, and defines what its stub defined"
    return Verdict(Kind.CANNOT_IMPORT, call, str(error), wanted, where)


def is_no_answer(error: BaseException) -> bool:
    """Whether an error says nothing of whether the input was refused: the code is missing or was lost on the way."""
    lost = (ImportFailure, ForbiddenError, RecursionError)
    return (
        is_stub(error)
        or isinstance(error, lost)
        or not isinstance(error, Exception)
        or _out_of_memory(error)
        or _flood(error)
    )


def is_stub(error: BaseException) -> bool:
    """Whether a line `raise NotImplementedError` raised it; torch raises that error too, for reasons of its own."""
    return isinstance(error, NotImplementedError) and "raise NotImplementedError" in line_of(error)


def _out_of_memory(error: BaseException | None) -> bool:
    told = isinstance(error, RuntimeError) and any(text in str(error) for text in _MEMORY_MESSAGES)
    return told or isinstance(error, MemoryError)


def _flood(error: BaseException | None) -> bool:
    """Whether the limit on what may be printed or written was met."""
    return isinstance(error, OSError) and error.errno == errno.EFBIG


def _asked_for(error: BaseException | None) -> str:
    """How much memory was asked for, where the message says."""
    found = re.search(r"tried to allocate (\d+) bytes", str(error))
    return f"asked for {int(found[1]) / 2**30:,.1f} GiB at once" if found else f"{type(error).__name__}: {error}"


def first_line(error: BaseException) -> str:
    """The first line of an exception's message; of the check's own files, whose folder changes, only the name."""
    message = re.sub(r"[^\s'\"]*[/\\]check-\w{8}(?:[/\\]|\b)", "", str(error))
    lines = message.strip().splitlines()
    return lines[0][:300] if lines else "no message"


def line_of(error: BaseException) -> str:
    """The innermost line of the learner's own that an exception came through."""
    folder = str(ROOT / "exercises")
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.startswith(folder)]
    if not frames:
        return ""
    frame = frames[-1]
    path = frame.filename[len(str(ROOT)) + 1 :].replace("\\", "/")
    return f"{path}:{frame.lineno}: {frame.line or ''}".rstrip(": ")
