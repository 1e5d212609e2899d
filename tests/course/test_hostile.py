"""Learners who would trick the grader, and days on which everything goes wrong. Each is really done.

What can be promised here, and what cannot, stands in `checkpoints/README.md`.
"""

import contextlib
import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from checkpoints import orphans, pool
from checkpoints.catalogue import Catalogue, Task
from checkpoints.record import Record, RecordError
from checkpoints.verdicts import CheckResult, Kind, TaskResult

from .conftest import Checkout, assert_well_formed, solution_with

LIMIT = 5.0  # seconds for one check
_CONTEXT: Any = multiprocessing.get_context(pool.START_METHOD)

# name: (code of `combine_masks`, words of the verdict)
TRICKS = {
    "imports the tests": ("from tests.attention import test_masking", "imports tests.attention"),
    "runs the tests' text": (
        "exec(open(__file__.replace('exercises', 'tests').replace('masking.', 'test_masking.')).read().replace('masking', ''))",
        "tried to read tests/",
    ),
    "imports the solution": ("from solutions.attention import masking", "imports solutions.attention"),
    "reads the solution": (
        "open(__file__.replace('exercises', 'solutions')).read()",
        "tried to read solutions/attention/masking.py",
    ),
    "reads the solution through the grader": (
        "import sys; trees = sys.modules['check' + 'points.trees']\n"
        "tree = next(finder for finder in sys.meta_path if isinstance(finder, trees.Tree))\n"
        "trees.solutions(tree.tasks[__name__])",
        "tried to read solutions/",
    ),
    "imports the grader": ("import checkpoints.grader", "imports checkpoints.grader"),
    "imports an oracle": ("import transformers", "imports transformers"),
    "imports an oracle by name": ("__import__('transformers')", "imports transformers"),
    "edits the catalogue": (
        "import pathlib, torch\nroot = pathlib.Path(__file__).parents[2]\n"
        "(root / 'checkpoints' / 'catalogue' / 'attention.toml').write_text('')",
        "tried to change checkpoints/catalogue/attention.toml",
    ),
    "edits its tests": (
        "import pathlib\nroot = pathlib.Path(__file__).parents[2]\n"
        "(root / 'tests' / 'attention' / 'test_masking.py').write_text('')",
        "tried to change tests/attention/test_masking.py",
    ),
    "moves its tests away": (
        "import os, pathlib\nroot = pathlib.Path(__file__).parents[2]\nos.rename(root / 'tests', root / 'tests.old')",
        "tried to change tests",
    ),
    "edits the record": (
        "import pathlib\nroot = pathlib.Path(__file__).parents[2]\n"
        "(root / 'checkpoints' / 'record.json').write_text('{}')",
        "tried to change checkpoints/record.json",
    ),
    "edits the record from a thread": (
        "import pathlib, threading, time\nroot = pathlib.Path(__file__).parents[2]\n"
        "def later():\n    time.sleep(0.05)\n    (root / 'checkpoints' / 'record.json').write_text('{}')\n"
        "threading.Thread(target=later).start()",
        "tried to change checkpoints/record.json",
    ),
    "replaces a verdict's class": (
        "import sys; sys.modules['check' + 'points.verdicts'].CheckResult.passed = True",
        "replaced checkpoints.verdicts.CheckResult.passed",
    ),
    "silences the notes": (
        "import sys; sys.modules['check' + 'points.checks'].Check.note = lambda *a, **k: None",
        "replaced checkpoints.checks.Check.note",
    ),
    "rewrites a comparison from within": (
        "import sys; sys.modules['check' + 'points.comparison'].difference.__code__ = (lambda *a: None).__code__",
        "changed checkpoints.comparison.difference from within",
    ),
    "replaces a module": (
        "import sys, types; sys.modules['torch'] = types.ModuleType('torch')",
        "replaced the module torch",
    ),
    "replaces json": ("import json; json.JSONEncoder.encode = lambda s, o: '{}'", "replaced json.JSONEncoder.encode"),
    "looks at its callers": ("import sys; sys._getframe(2).f_locals", "called sys._getframe"),
    "looks at its callers by inspect": ("import inspect; inspect.currentframe().f_back", "called sys._getframe"),
    "searches the memory": ("import gc; gc.get_objects()", "called gc.get_objects"),
    "leaves torch's functions unwatched": (
        "import torch\nwith torch._C.DisableTorchFunction(): pass",
        "uses torch's DisableTorchFunction",
    ),
    "the default device": ("import torch; torch.set_default_device('meta')", "default device"),
    "the recursion limit": ("import sys; sys.setrecursionlimit(99999)", "recursion limit"),
    "the working directory": ("import os; os.chdir('..')", "working directory"),
    "the output": ("import sys, io; sys.stdout = io.StringIO()", "replaced sys.stdout"),
}
# Ways to write into the channel between worker and grader: everything that can be found open is written to.
FORGERIES = {
    "a result": b'0 {"check": {"check": "test_combined_by_hand", "title": "", "verdicts": [], "printed": "", '
    b'"seconds": 0.0, "figures": []}, "variant": ""}\n',
    "the end": b'{"done": true}\n',
    "noise": bytes(range(256)) * 64,
    "half a message": b"\xff\xff\xff\xff",
}
MET = {"test_combined_by_hand", "test_combined_property", "test_combined_refuses"}


def _failed(result: TaskResult) -> set[str]:
    return {check.check for check in result.checks if not check.passed}


def _said(result: TaskResult) -> str:
    for check in result.checks:
        for verdict in check.verdicts:
            assert_well_formed(verdict)
    return "\n".join(verdict.text(1000) for check in result.checks for verdict in check.verdicts)


@pytest.mark.parametrize("name", TRICKS)
def test_trick(name: str, course: Catalogue, grade: Callable[..., list[TaskResult]]) -> None:
    """It is refused and told, costs at least the checks that met it, and no other task."""
    code, words = TRICKS[name]
    task, other = course.task("attention/masking"), course.task("attention/scaled_dot_product")
    text = solution_with(task, "def combine_masks(*masks):\n" + textwrap.indent(code, "    ") + "\n    return None")
    result, untouched = grade([task.id, other.id], {task.id: text}, seconds=LIMIT)
    assert _failed(result) >= MET
    assert Kind.FORBIDDEN_SHORTCUT in {verdict.kind for check in result.checks for verdict in check.verdicts}
    assert words in _said(result)
    assert untouched.passed


@pytest.mark.parametrize("name", FORGERIES)
def test_forgery(name: str, course: Catalogue, grade: Callable[..., list[TaskResult]]) -> None:
    """What the worker has not said is not believed, and half a message does not make the grader wait."""
    code = f"""
        import os
        for handle in range(3, 256):
            try:
                os.write(handle, {FORGERIES[name]!r})
            except OSError:
                pass
        return None
    """
    task, other = course.task("attention/masking"), course.task("attention/scaled_dot_product")
    text = solution_with(task, "def combine_masks(*masks):\n" + textwrap.indent(textwrap.dedent(code), "    "))
    result, untouched = grade([task.id, other.id], {task.id: text}, seconds=LIMIT)
    assert _failed(result) >= MET
    assert "wrote into the channel" in _said(result)
    assert untouched.passed


def test_later_tasks_cannot_be_borrowed(course: Catalogue, grade: Callable[..., list[TaskResult]]) -> None:
    """What is not built yet is not lent: the solutions of later tasks could have the answer in them."""
    task = course.task("attention/masking")
    (result,) = grade([task.id], {task.id: "from .patterns import *\n" + solution_with(task, "")})
    assert result.earned == 0
    assert "attention/patterns comes later on the ladder" in _said(result)


def test_a_helper_module_is_the_learners_own(course: Catalogue, checkout: Checkout) -> None:
    """It may be there, and may no more than the task's own file."""
    task = course.task("attention/masking")
    checkout.solve(task)
    path = task.exercise(checkout.root)
    path.write_text("from .helpers import ONE\n" + path.read_text(encoding="utf-8"), encoding="utf-8")
    helper = path.with_name("helpers.py")
    helper.write_text("ONE = 1\n", encoding="utf-8")
    assert checkout.run("grade", "attention", "masking").returncode == 0
    helper.write_text("import transformers\nONE = 1\n", encoding="utf-8")
    shown = checkout.run("grade", "attention", "masking")
    assert shown.returncode == 1
    assert "imports transformers" in shown.stdout


def test_a_thread_left_behind(course: Catalogue, grade: Callable[..., list[TaskResult]]) -> None:
    """It is told, ended with its process, and disturbs no other check."""
    code = """
        def combine_masks(*masks):
            import threading, time
            threading.Thread(target=lambda: [time.sleep(0.01) for _ in range(100_000)], name="spinning").start()
    """
    task = course.task("attention/masking")
    before = _processes()
    (result,) = grade([task.id], {task.id: solution_with(task, textwrap.dedent(code))}, seconds=LIMIT)
    assert _failed(result) == MET
    assert "a thread of yours still runs: spinning" in _said(result)
    assert _processes() <= before


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a process adopt what its descendants leave")
@pytest.mark.parametrize("way", ["child", "daemon"])
def test_a_process_left_behind(way: str, course: Catalogue, grade: Callable[..., list[TaskResult]]) -> None:
    """Where a task may start processes, those that are left are ended, also one that has left its group."""
    task = course.task("training/checkpointing")
    assert task.processes
    detach = "os.setsid()\n    if os.fork(): os._exit(0)" if way == "daemon" else "pass"
    code = f"import os, time\nif os.fork() == 0:\n    {detach}\n    time.sleep(1000)\n    os._exit(0)"
    before = _processes()
    (result,) = grade([task.id], {task.id: solution_with(task, code)})
    assert result.passed, _said(result)
    assert _processes() <= before


def _processes(parent: int | None = None) -> set[int]:
    """The processes that a process, or this one, has started, directly or not; none where the system does not say."""
    found: set[int] = set()
    pending = {parent or os.getpid()}
    while pending:
        pending = {child for process in pending for child in orphans.children(process)}
        found |= pending
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")
def test_the_grader_is_killed(course: Catalogue, checkout: Checkout) -> None:
    """Its workers do not outlive it, whatever they are at."""
    task = course.task("attention/masking")
    code = "def causal_mask(*a, **k):\n    while True: pass"
    task.exercise(checkout.root).write_text(solution_with(task, code), encoding="utf-8")
    command = [sys.executable, "-m", "checkpoints", "grade", "attention", "masking", "--seconds", "60"]
    grader = subprocess.Popen(command, cwd=checkout.root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    workers: set[int] = set()
    while not workers and grader.poll() is None:
        workers = _processes(grader.pid)
        time.sleep(0.05)
    assert workers
    grader.kill()
    grader.wait()
    for _ in range(200):
        if not any(Path(f"/proc/{worker}/exe").exists() for worker in workers):  # a zombie has none
            break
        time.sleep(0.05)
    else:
        pytest.fail(f"still there: {workers}")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "record.json"


@pytest.fixture
def task(course: Catalogue) -> Task:
    return course.task("attention/masking")


def _note(path: Path, task: Task, digest: str) -> None:
    known = Record.load(path)
    known.note_result(task, TaskResult(task.id, task.points, [CheckResult("test_it", "It works.")]), digest)
    known.save()


def _note_on_and_on(path: Path, task: Task) -> None:
    for number in range(10_000):
        _note(path, task, f"{number:05}")


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGKILL"])
def test_signals_while_the_record_is_written(name: str, path: Path, task: Task) -> None:
    """Whenever one comes: what had been saved is there, and nothing is damaged."""
    if not hasattr(signal, name):
        pytest.skip(f"this system has no {name}")
    _note(path, task, "first")
    kept = {"first"}
    for _ in range(6):
        child = _CONTEXT.Process(target=_note_on_and_on, args=(path, task))
        child.start()
        while Record.load(path).entry(task).passes.keys() <= kept:
            time.sleep(0.001)
        time.sleep(random.uniform(0, 0.02))
        os.kill(child.pid, getattr(signal, name))
        child.join()
        known = Record.load(path)
        assert not known.notices
        assert known.entry(task).passes.keys() >= kept
        kept = set(known.entry(task).passes)


def test_every_length_and_random_bytes(path: Path, task: Task) -> None:
    """Whatever stands in the file: no traceback, the last good state comes back, and the next save is whole."""
    _note(path, task, "one")
    _note(path, task, "two")
    whole = path.read_bytes()
    wrecks = [whole[:length] for length in range(len(whole))]
    for _ in range(300):
        start, length = random.randrange(len(whole)), random.randrange(1, 40)
        wrecks.append(whole[:start] + random.randbytes(length) + whole[start + length :])
        wrecks.append(random.randbytes(random.randrange(2000)))
    backup = path.with_name("record.json.backup").read_bytes()
    for wreck in wrecks:
        path.write_bytes(wreck)
        known = Record.load(path)
        assert "one" in known.entry(task).passes
        for aside in path.parent.glob("record.damaged-*"):
            aside.unlink()
    for wreck in random.sample(wrecks, 20):
        path.write_bytes(wreck)
        path.with_name("record.json.backup").write_bytes(backup)
        _note(path, task, "three")
        assert {"one", "three"} <= Record.load(path).entry(task).passes.keys()


def test_both_files_wrecked(path: Path, task: Task) -> None:
    """It begins afresh, says so, and keeps the wreck."""
    _note(path, task, "one")
    path.write_bytes(b"\x00" * 100)
    path.with_name("record.json.backup").write_bytes(b"[")
    known = Record.load(path)
    assert known.tasks == {}
    assert "it starts afresh" in known.notices[0]
    assert len(list(path.parent.glob("record.damaged-*"))) == 1


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)]
    if not shutil.which("mount") or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("a small file system cannot be mounted here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk(small_disk: Path, task: Task) -> None:
    """A save that finds no room leaves what was there, says so, and goes through when there is room again."""
    path = small_disk / "record.json"
    _note(path, task, "one")
    filler = small_disk / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 1024)
    with pytest.raises(RecordError, match="what was there before is unharmed"):
        _note(path, task, "two")
    assert set(Record.load(path).entry(task).passes) == {"one"}
    filler.unlink()
    _note(path, task, "two")
    assert set(Record.load(path).entry(task).passes) == {"one", "two"}


def test_a_limit_on_files(path: Path, task: Task) -> None:
    """The same where the system refuses to let a file grow; also without the right to mount anything."""
    resource = pytest.importorskip("resource")
    _note(path, task, "one")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, limits[1]))
    try:
        with pytest.raises(RecordError, match="unharmed"):
            _note(path, task, "two")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert set(Record.load(path).entry(task).passes) == {"one"}


def test_two_gradings_at_once(course: Catalogue, checkout: Checkout) -> None:
    """Both are graded and both are recorded."""
    names = ("masking", "scaled_dot_product", "patterns")
    checkout.solve(*(course.task(f"attention/{name}") for name in names))
    command = [sys.executable, "-m", "checkpoints", "grade", "attention"]
    both = [
        subprocess.Popen(
            [*command, name], cwd=checkout.root, stdout=subprocess.PIPE, env={**os.environ, "PYTHONUTF8": "1"}
        )
        for name in names
    ]
    for process in both:
        process.communicate(timeout=120)
        assert process.returncode == 0
    shown = checkout.run("progress").stdout
    assert shown.count("passed 20") >= len(names), shown


def test_the_clock_set_back(course: Catalogue, checkout: Checkout) -> None:
    """What the record and the files say of a time to come harms nothing: no pass is lost, a new one is noted."""
    first, second = course.task("attention/masking"), course.task("attention/scaled_dot_product")
    checkout.solve(first, second)
    assert checkout.run("grade", "attention", "masking").returncode == 0
    path = checkout.root / "checkpoints" / "record.json"
    known = Record.load(path)
    for entry in known.tasks.values():
        entry.passes = dict.fromkeys(entry.passes, "2999-01-01T00:00:00+00:00")
        entry.attempts = {f"2999{when[4:]}": points for when, points in entry.attempts.items()}
    path.write_text(json.dumps(known._data()), encoding="utf-8")
    for file in (first.exercise(checkout.root), path):
        os.utime(file, (32_000_000_000, 32_000_000_000))
    shown = checkout.run("grade", "attention", "scaled_dot_product")
    assert shown.returncode == 0, shown.stdout
    assert not shown.stderr
    assert checkout.run("grade", "attention", "masking").returncode == 0
    progress = checkout.run("progress").stdout
    assert "20 of 755 points" in " ".join(progress.split()), progress
    assert "2999" not in progress, "the earlier of two dates stays"


def test_a_path_with_spaces_and_letters_of_other_scripts(tmp_path: Path, course: Catalogue) -> None:
    """Grading, wrong code, reports and hints work in any folder."""
    checkout = Checkout(tmp_path / "Übung für später 練習 (2)", course)
    task = course.task("attention/masking")
    checkout.solve(task)
    assert checkout.run("grade", "attention", "masking", "--json", "ergebnis ä.json").returncode == 0
    assert (checkout.root / "ergebnis ä.json").exists()
    text = task.exercise(checkout.root).read_text(encoding="utf-8")
    task.exercise(checkout.root).write_text(text.replace("raise ValueError", "1 / 0  #"), encoding="utf-8")
    shown = checkout.run("grade", "attention", "masking")
    assert shown.returncode == 1
    assert not shown.stderr
    assert "exercises/attention/masking.py:" in shown.stdout
    assert checkout.run("hint", "attention/masking").returncode == 0


@pytest.mark.parametrize("code", ["return 1 / 0", "while True: pass"])
def test_any_terminal_with_verdicts(code: str, course: Catalogue, checkout: Checkout) -> None:
    """Forty columns, no colour, an old code page: a failing task is told in lines that fit."""
    task = course.task("attention/masking")
    text = solution_with(task, f"def combine_masks(*masks):\n    {code}")
    task.exercise(checkout.root).write_text(text, encoding="utf-8")
    settings = {"COLUMNS": "40", "NO_COLOR": "1", "PYTHONIOENCODING": "cp1252", "PYTHONUTF8": "0", "TERM": "dumb"}
    done = subprocess.run(
        [sys.executable, "-m", "checkpoints", "grade", "attention", "masking", "--seconds", "3"],
        cwd=checkout.root,
        capture_output=True,
        timeout=120,
        check=False,
        env={**os.environ, **settings},
    )
    shown = done.stdout.decode("cp1252")
    assert done.returncode == 1
    assert not done.stderr
    assert "\x1b" not in shown
    assert "Traceback" not in shown
    assert max(map(len, shown.splitlines())) <= 60, shown


@pytest.fixture
def frozen(checkout: Checkout) -> Iterator[Callable[[], None]]:
    """Makes the checkout read-only: a mount, which not even root can write through."""
    mounted = []

    def freeze() -> None:
        root = str(checkout.root)
        for command in (["mount", "--bind", root, root], ["mount", "-o", "remount,ro,bind", root]):
            if not shutil.which("mount") or subprocess.run(command, capture_output=True, check=False).returncode:
                pytest.skip("nothing can be mounted here")
            mounted.append(root)

    yield freeze
    if mounted:
        subprocess.run(["umount", mounted[0]], check=True)


def test_a_read_only_checkout(course: Catalogue, checkout: Checkout, frozen: Callable[[], None], task: Task) -> None:
    """The verdicts come all the same, with exit status and all, and it is said that nothing is recorded."""
    checkout.solve(task)
    frozen()
    shown = checkout.run("grade", "attention", "masking")
    assert shown.returncode == 0, shown.stdout
    assert "10 of 10" in shown.stdout
    assert "not recorded" in shown.stdout
    assert "Traceback" not in shown.stdout + shown.stderr
    assert not list((checkout.root / "checkpoints").glob("record.json*"))
    for verb in (("progress",), ("next",), ("hint", "attention/masking"), ("reset", "attention/masking")):
        shown = checkout.run(*verb)
        assert "Traceback" not in shown.stdout + shown.stderr, shown.stderr
