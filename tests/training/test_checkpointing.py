"""Grades training/checkpointing.

The oracles are torch's own reader, dictionaries, and the system itself, which kills a process in mid-write where its
file grows too large. Which files a store keeps is worked out step by step.
"""

import contextlib
import io
import math
import multiprocessing
import os
import pickle
import random
import signal
import sys
import tempfile
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy
import torch
from torch import Tensor, nn

from checkpoints.checks import Check, Draw, Stop, Workload
from checkpoints.misconceptions import Misconception
from exercises.training.checkpointing import CheckpointStore, load_state, random_state, save_state, set_random_state

try:
    import resource
except ImportError:  # Windows has no limits on the size of files
    resource = None  # type: ignore[assignment]

MISCONCEPTIONS = [
    Misconception(
        "a file written in its place: broken off, neither the old state nor the new one is there",
        (
            'descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}-", suffix=".tmp", dir=path.parent)',
            "temporary = path",
        ),
        ('with os.fdopen(descriptor, "wb") as file:', 'with open(path, "wb") as file:'),
        ("os.replace(temporary, path)  # noqa: PTH105  (the call that the course speaks of)", "pass"),
    ),
    Misconception(
        "the old file removed before the new one is written",
        (
            'with os.fdopen(descriptor, "wb") as file:',
            'path.unlink(missing_ok=True)\nwith os.fdopen(descriptor, "wb") as file:',
        ),
    ),
    Misconception(
        "a file renamed before it is flushed to the disk",
        ("os.fsync(file.fileno())  # else the name could reach the disk before what it names", "pass"),
    ),
    Misconception(
        "a temporary file left behind by every attempt that failed",
        ("Path(temporary).unlink()", "pass"),
    ),
    Misconception(
        "an error while writing that nobody hears of",
        (
            """
                Path(temporary).unlink()
                raise
            """,
            """
                Path(temporary).unlink()
                return
            """,
        ),
    ),
    Misconception(
        "objects saved that cannot be read back: it is found out when they are needed",
        ("elif type(value) not in _PLAIN:", "elif False:"),
    ),
    Misconception(
        "a numpy number taken for a float, which it is, and pickled as what it is: numpy's",
        ("elif type(value) not in _PLAIN:", "elif not isinstance(value, _PLAIN):"),
    ),
    Misconception(
        "objects looked for at the top only, not in the lists and dictionaries of the state",
        (
            '_refuse_objects(f"{place}[{key!r}]", entry)',
            'isinstance(entry, (dict, list, tuple)) or _refuse_objects(f"{place}[{key!r}]", entry)',
        ),
    ),
    Misconception(
        "a pickle read as a program: whatever it calls is called",
        ("weights_only=True)", "weights_only=False)"),
    ),
    Misconception(
        "a file that is no archive handed to torch all the same, which runs it",
        (
            """
            with zipfile.ZipFile(path) as archive:  # torch writes checksums, but does not look at them again
                if damaged := archive.testzip():
                    raise zipfile.BadZipFile(f"{damaged} does not agree with its checksum")
            state = torch.load(path, map_location="cpu", weights_only=True)
            """,
            """
            if zipfile.is_zipfile(path):
                with zipfile.ZipFile(path) as archive:
                    if damaged := archive.testzip():
                        raise zipfile.BadZipFile(f"{damaged} does not agree with its checksum")
            state = torch.load(path, map_location="cpu", weights_only=zipfile.is_zipfile(path))
            """,
        ),
    ),
    Misconception(
        "checksums that nobody looks at: a byte that has changed becomes a weight that has",
        ("if damaged := archive.testzip():", "if damaged := None:"),
    ),
    Misconception(
        "torch's own errors for a damaged file, which do not name it",
        ('raise ValueError(f"{path}: no checkpoint that can be read: {error}") from error', "raise"),
    ),
    Misconception(
        "tensors brought back to the GPU they were on, which this machine may not have",
        ('map_location="cpu", ', ""),
    ),
    Misconception(
        "whatever is in the file returned, also what is no state", ("if not isinstance(state, dict):", "if False:")
    ),
    Misconception("random_state without Python's generator", ('random.setstate(state["python"])', "pass")),
    Misconception(
        "random_state without numpy's generator",
        ('numpy.random.set_state(state["numpy"])', "pass"),
    ),
    Misconception("random_state without torch's generator", ('torch.set_rng_state(state["torch"])', "pass")),
    Misconception(
        "the seed that torch began with for where it is now",
        ('torch.set_rng_state(state["torch"])', "torch.manual_seed(torch.initial_seed())"),
    ),
    Misconception(
        "numpy's 624 numbers without the place among them",
        (
            'numpys["state"] | {"key": numpys["state"]["key"].tolist()}',
            '{"key": numpys["state"]["key"].tolist(), "pos": 0}',
        ),
    ),
    Misconception(
        "numpy's array in the random state, which cannot be read back",
        ('numpys | {"state": numpys["state"] | {"key": numpys["state"]["key"].tolist()}}', "numpys"),
    ),
    Misconception(
        "the latest by its name: step 9 comes after step 10",
        ("key=lambda entry: entry[1][0]", "key=lambda entry: str(entry[1][0])"),
    ),
    Misconception(
        "the latest by the time of its file, not by its step",
        ("key=lambda entry: entry[1][0]", "key=lambda entry: entry[0].stat().st_mtime_ns"),
    ),
    Misconception("the worst for the best", ("return min(losses, key", "return max(losses, key")),
    Misconception(
        "losses rounded in the name, so that better ones look equal", ("{float(loss)!r}", "{float(loss):.3f}")
    ),
    Misconception(
        "the best removed when it is no longer among the last", ("kept = {path, self.best(), ", "kept = {path, ")
    ),
    Misconception("one too many kept", ("[-self.keep_last :]", "[-self.keep_last - 1 :]")),
    Misconception("nothing ever removed", ("if other not in kept or", "if False and")),
    Misconception(
        "a checkpoint removed as soon as it is written, where the folder holds later ones",
        ("kept = {path, self", "kept = {self"),
    ),
    Misconception(
        "two files of one step, where it is saved again with another loss",
        (" or (of_step == step and other != path)", ""),
    ),
    Misconception("a loss of NaN or infinity that counts", ("not math.isfinite(loss)", "False")),
    Misconception(
        "a store that knows only what it has saved itself",
        ("self._damaged: set[Path] = set()", "self._damaged: set[Path] = set(self.folder.glob('step-*.pt'))"),
    ),
    Misconception(
        "nothing to go on from, where the newest is damaged and the one before it is whole",
        ("self._damaged.add(path)", "break"),
    ),
    Misconception(
        "an older checkpoint taken for the damaged one, and nobody told",
        ('warnings.warn(f"{error}; going on with the one before it", stacklevel=2)', "pass"),
    ),
    Misconception(
        "a damaged checkpoint that still counts as the latest",
        (
            "files = self._files()",
            "damaged, self._damaged = self._damaged, set()\nfiles = self._files()\nself._damaged = damaged",
        ),
    ),
]


def workload(task: Any, draw: Draw) -> list[Workload]:
    """Typical calls, for `compare`."""
    state = {
        "weight": draw.normal(1000, 1000),
        "step": 5,
        "history": [{"step": step, "loss": 1.0 / step} for step in range(1, 200)],
    }

    def there_and_back() -> Tensor:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "state.pt")
            task.save_state(path, state)
            loaded: Tensor = task.load_state(path)["weight"]
            return loaded

    def draw_again() -> Tensor:
        before = task.random_state()
        first = torch.rand(3)
        task.set_random_state(before)
        return first - torch.rand(3)

    return [
        Workload("save_state and load_state of 4 MB", there_and_back),
        Workload("random_state and set_random_state", draw_again),
    ]


def _state(draw: Draw) -> dict[str, Any]:
    """Some of everything that a state may hold."""
    return {
        "weight": draw.strided(3, 4),
        "half": draw.normal(5).bfloat16(),
        "double": draw.normal(2, 2, dtype=torch.float64),
        "mask": draw.booleans(6),
        "empty": torch.zeros(0, 3),
        "bytes": torch.arange(7, dtype=torch.uint8),
        "step": 12,
        "loss": 0.1 + 0.2,
        "infinite": math.inf,
        "name": "Zoë",
        "raw": b"\x00\xff",
        "none": None,
        "flag": True,
        "numbers": {1, 2},
        "dtype": torch.float16,
        "parameter": nn.Parameter(draw.normal(2)),
        "ordered": OrderedDict(b=2, a=1),
        "nested": {0: {"exp_avg": draw.normal(2)}, 1: {"exp_avg": draw.normal(2)}},
        "betas": (0.9, 0.999),
        "list": [1, "two", (3, [4.0])],
    }


def _as_read(path: Path) -> Any:
    """What torch itself reads out of a file, or why it cannot."""
    try:
        return torch.load(path, weights_only=True)
    except Exception as error:
        return f"what cannot be read: {type(error).__name__}"


@contextlib.contextmanager
def _small_files() -> Iterator[None]:
    """Inside, no file of this process may grow beyond 64 KiB: a disk that is full."""
    assert resource is not None
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def _large_state() -> dict[str, Tensor]:
    """4 MB. No number of it is computed: with several threads, a forked process could wait for its parent's for ever."""
    return {"weight": torch.frombuffer(bytearray(1 << 22), dtype=torch.float32)}


def _save_and_be_killed(path: str) -> None:
    """Save 4 MB where files may have 64 KiB: the system ends this process, in the middle of the file."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # Python has it ignored
    with _small_files():
        save_state(path, _large_state())


def test_by_hand(check: Check) -> None:
    """What was saved is read back, from a file that torch itself can read; its folder is made."""
    path = check.folder / "runs" / "first" / "state.pt"
    state = {"step": 3, "weight": torch.ones(2)}
    check.run(
        "save_state('runs/first/state.pt', {'step': 3, 'weight': tensor([1., 1.])})", lambda: save_state(path, state)
    ).equals(None)
    check.run("load_state('runs/first/state.pt')", lambda: load_state(str(path))).equals(state)
    if path.exists():
        check.run("torch.load('runs/first/state.pt')", lambda: _as_read(path)).equals(state)


def test_everything(check: Check) -> None:
    """Tensors of any dtype and layout, nested dictionaries, texts: as they were; a new state replaces the old."""
    path = check.folder / "state.pt"

    def there_and_back(state: Mapping[str, Any]) -> dict[str, Any]:
        save_state(path, state)
        return load_state(path)

    for state in (_state(check.draw), {"step": 1}, OrderedDict(b=2, a=1)):
        answer = check.run(f"load_state of a state with {', '.join(state)}", partial(there_and_back, state))
        answer.equals(dict(state))
    tied = torch.ones(2)
    answer = check.run(
        "load_state of one tensor under two names", lambda: there_and_back({"wte": tied, "lm_head": tied})
    )
    same = answer.value["wte"].data_ptr() == answer.value["lm_head"].data_ptr()
    answer.satisfies(same, got="two tensors", expected="one tensor under two names, as it was saved")
    names = sorted(entry.name for entry in check.folder.iterdir())
    answer.satisfies(names == ["state.pt"], got=f"{len(names)} files in the folder", expected="state.pt alone")


def test_disk_full(check: Check) -> None:
    """Where the disk is full half-way, the error comes out, the old state is still there, and nothing else is."""
    path = check.folder / "state.pt"
    old = {"step": 1, "weight": torch.arange(5.0)}
    check.run("save_state of a small state", lambda: save_state(path, old)).equals(None)
    if check.verdicts:
        raise Stop
    if resource is None:
        return

    def fill() -> str:
        with _small_files():
            try:
                save_state(path, _large_state())
            except Exception:
                return "an error"
        return "no error"

    check.run("save_state of 4 MB over it, where the disk has 64 KiB", fill).equals("an error")
    found = check.run("what is in state.pt after the saving that failed", lambda: _as_read(path))
    found.equals(old, note="the old state, whole")
    left = check.run("how many files are in the folder then", lambda: len(list(check.folder.iterdir())))
    left.equals(1, note="a temporary file is removed")


def test_killed_in_mid_write(check: Check) -> None:
    """A process that is killed while it writes leaves the old state behind."""
    path = check.folder / "state.pt"
    old = {"step": 1, "weight": torch.arange(5.0)}
    check.run("save_state of a small state", lambda: save_state(path, old)).equals(None)
    if check.verdicts:
        raise Stop
    if resource is None:
        return

    def kill() -> int | None:
        process = multiprocessing.Process(target=_save_and_be_killed, args=(str(path),))
        process.start()
        process.join(20)
        if process.is_alive():
            process.kill()
            process.join()
        return process.exitcode

    ended = check.run("a process that is killed in save_state", kill)
    ended.satisfies(
        ended.value == -signal.SIGXFSZ, got=f"exit code {ended.value}", expected="killed while it wrote a file"
    )
    found = check.run("what is in state.pt after the process was killed", lambda: _as_read(path))
    found.equals(old, note="the old state, whole")


def test_temporary_file(check: Check) -> None:
    """The temporary file is made in the folder of the file, also where the system's own folder is another disk."""
    path, elsewhere = check.folder / "state.pt", check.folder / "another-disk"

    def save() -> str:
        with mock.patch("tempfile.tempdir", str(elsewhere)):  # it is not there: to write into it is an error
            try:
                save_state(path, {"step": 1})
            except OSError as error:
                if elsewhere.name in str(error):
                    return "made in the system's folder of temporary files"
                raise
        return "made in the folder of state.pt"

    check.run("where save_state's temporary file is", save).equals("made in the folder of state.pt")


def test_flushed(check: Check) -> None:
    """The new state is flushed down to the disk, all of it, while the old file is still in its place."""
    path = check.folder / "state.pt"
    path.write_bytes(b"old")
    seen: list[int] = []  # sizes of what is flushed in time
    calls: list[Any] = []

    def save() -> bool:
        module = sys.modules[save_state.__module__]
        with contextlib.ExitStack() as stack:
            for owner, name in [
                ("os", "fsync"),
                ("os", "fdatasync"),
                (module.__name__, "fsync"),
                (module.__name__, "fdatasync"),
            ]:
                real = getattr(sys.modules[owner], name, None)
                if real is not None:
                    stack.enter_context(mock.patch(f"{owner}.{name}", partial(_noting, seen, calls, path, real)))
            save_state(path, {"step": 1})
        return bool(seen)

    answer = check.run("save_state over an old file, its calls of os.fsync watched", save)
    got = "os.fsync called only after the renaming" if calls else "os.fsync never called"
    answer.satisfies(answer.value, got=got, expected="os.fsync called before the new file takes the old one's place")
    size = path.stat().st_size
    answer.satisfies(
        size in seen or not seen,
        got=f"os.fsync called when {max(seen, default=0)} bytes had left the program",
        expected=f"os.fsync called when all {size} had: what Python holds back is first let go by `flush`",
    )


def _noting(seen: list[int], calls: list[Any], path: Path, real: Callable[[Any], None], descriptor: Any) -> None:
    calls.append(descriptor)
    if path.read_bytes() == b"old":
        seen.append(os.fstat(descriptor if isinstance(descriptor, int) else descriptor.fileno()).st_size)
    real(descriptor)


class _Object:
    """Something that is not plain data."""


def test_refuses_objects(check: Check) -> None:
    """What could not be read back is refused by its place before anything is written."""
    path = check.folder / "state.pt"
    old = {"step": 1}
    save = partial(save_state, path)
    save.__name__ = "save_state"  # type: ignore[attr-defined]
    check.run("save_state of a state of plain data", lambda: save(old)).equals(None)
    if check.verdicts:
        raise Stop
    for state, words in [
        ({"model": _Object()}, ("model", "_Object")),
        ({"step": 1, "history": [1.0, 2.0, _Object()]}, ("state", "history", "2", "_Object")),
        ({"names": {Path("x"): 1}}, ("names", "Path")),
        ({"seen": {1, frozenset()}}, ("seen", "frozenset")),
        ({"config": {"sizes": (1, {"path": Path("x")})}}, ("config", "sizes", "path")),
        ({"loss": numpy.float64(1.5)}, ("loss", "float64")),
        ({"weights": [numpy.zeros(2)]}, ("weights", "ndarray")),
        ({"activation": torch.relu}, ("activation", "builtin_function")),
    ]:
        check.raises(TypeError, save, state, naming=words)
    found = check.run("what is in state.pt after states were refused", lambda: _as_read(path))
    found.equals(old, note="the old state: nothing was written")


def _load(check: Check) -> Callable[[str], Any]:
    def load(name: str) -> Any:
        return load_state(check.folder / name)

    load.__name__ = "load_state"
    return load


def test_damaged(check: Check) -> None:
    """A file that is cut off, empty, of text, or has one changed byte is refused by its name."""
    load = _load(check)
    weight = torch.full((1000,), 1.5)
    torch.save({"weight": weight}, check.folder / "whole.pt")
    check.run("load_state of a file that torch.save wrote", lambda: load("whole.pt")).equals({"weight": weight})
    data = (check.folder / "whole.pt").read_bytes()
    for size in (0, 1, 30, len(data) // 2, len(data) - 1):
        (check.folder / f"cut-{size}.pt").write_bytes(data[:size])
        check.raises(ValueError, load, f"cut-{size}.pt", naming=f"cut-{size}.pt")
    (check.folder / "text.pt").write_text("step: 3", encoding="utf-8")
    check.raises(ValueError, load, "text.pt", naming="text.pt")
    place = data.index(b"\x00\x00\xc0\x3f" * 9) + 4 * check.draw.integer(0, 9)  # 1.5, among the weights
    (check.folder / "changed.pt").write_bytes(data[:place] + b"\x01" + data[place + 1 :])
    check.raises(ValueError, load, "changed.pt", naming="changed.pt")
    check.raises(FileNotFoundError, load, "missing.pt")


class _Hostile:
    """Pickled, it asks whoever reads it to make a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = str(marker)

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (self.marker, "w"))


def test_hostile(check: Check) -> None:
    """A file that would run code when it is read is refused, and none is run; what is no dictionary is refused."""
    load, marker = _load(check), check.folder / "marker"
    torch.save({"step": _Hostile(marker)}, check.folder / "archive.pt")
    (check.folder / "pickle.pt").write_bytes(pickle.dumps({"step": _Hostile(marker)}))
    legacy = io.BytesIO()
    torch.save({"step": _Hostile(marker)}, legacy, _use_new_zipfile_serialization=False)
    (check.folder / "legacy.pt").write_bytes(legacy.getvalue())
    for name in ("archive.pt", "pickle.pt", "legacy.pt"):
        check.raises(ValueError, load, name, naming=name)
        check.that(
            not marker.exists(),
            call=f"load_state('{name}')",
            got="the code in the file was run",
            expected="nothing run",
            proof=name,
        )
        marker.unlink(missing_ok=True)
    torch.save([1, 2], check.folder / "list.pt")
    check.raises(ValueError, load, "list.pt", naming="list.pt")


def test_from_another_device(check: Check) -> None:
    """What was saved on a GPU comes to the CPU."""
    with mock.patch("torch.serialization.location_tag", return_value="cuda:0"):
        torch.save({"weight": torch.ones(3)}, check.folder / "state.pt")
    answer = check.run("load_state of a file from a GPU", lambda: _load(check)("state.pt"))
    answer.equals({"weight": torch.ones(3)})
    device = str(answer.value["weight"].device)
    answer.satisfies(device == "cpu", got=f"a tensor on {device}", expected="a tensor on the CPU")


def _drawn() -> dict[str, list[float]]:
    """Numbers from each of the global generators; odd counts of normal numbers, for these come in pairs."""
    return {
        "torch": [*torch.randn(3).tolist(), *torch.rand(2).tolist()],
        "python": [random.gauss(0.0, 1.0), random.random(), float(random.randrange(10**6))],
        "numpy": [float(numpy.random.randn()), float(numpy.random.rand())],
    }


@contextlib.contextmanager
def _stirred(draw: Draw) -> Iterator[None]:
    """Inside, the global generators are somewhere in their sequences; afterwards they are where they were."""
    torchs, pythons, numpys = torch.get_rng_state(), random.getstate(), numpy.random.get_state()
    torch.manual_seed(draw.seed())
    random.seed(draw.seed())
    numpy.random.seed(draw.seed())
    try:
        for _ in range(draw.integer(1, 4)):
            _drawn()
        yield
    finally:
        torch.set_rng_state(torchs)
        random.setstate(pythons)
        numpy.random.set_state(numpys)


def test_random_state(check: Check) -> None:
    """torch's, Python's and numpy's generators give the same numbers again, also after a state was saved and loaded."""
    with _stirred(check.draw):
        state = check.run("random_state()", random_state).value
        path = check.folder / "random.pt"
        first = _drawn()
        check.run("set_random_state(the state before)", lambda: set_random_state(state)).equals(None)
        check.run("the numbers drawn again", _drawn).equals(first, note="those of the first time")

        def through_a_file() -> dict[str, list[float]]:
            save_state(path, {"random": state})
            set_random_state(load_state(path)["random"])
            return _drawn()

        check.run("the numbers drawn after the state went through a file", through_a_file).equals(first)
        second = _drawn()
        check.run("set_random_state once more", lambda: set_random_state(state)).equals(None)
        check.run("two rounds of numbers", lambda: [_drawn(), _drawn()]).equals([first, second])


class _GPUs:
    """Stands in for `torch.cuda` on a machine of a few GPUs, each of which has one number for its generator's state."""

    def __init__(self, *states: int) -> None:
        self.states = list(states)

    def _number(self, device: Any) -> int:
        number = device if isinstance(device, int) else torch.device(device).index
        if number is None or not 0 <= number < len(self.states):
            raise RuntimeError(f"CUDA error: invalid device ordinal: {device}")
        return int(number)

    def get_rng_state(self, device: Any = "cuda") -> Tensor:
        return torch.tensor([self.states[self._number(device)]], dtype=torch.uint8)

    def set_rng_state(self, new_state: Tensor, device: Any = "cuda") -> None:
        self.states[self._number(device)] = int(new_state)

    def get_rng_state_all(self) -> list[Tensor]:
        return [self.get_rng_state(number) for number in range(len(self.states))]

    def set_rng_state_all(self, new_states: Sequence[Tensor]) -> None:
        for number, state in enumerate(new_states):
            self.set_rng_state(state, number)

    @contextlib.contextmanager
    def there(self) -> Iterator[None]:
        """Inside, `torch.cuda` speaks of these."""
        names = ("get_rng_state", "set_rng_state", "get_rng_state_all", "set_rng_state_all")
        stand_ins = {name: getattr(self, name) for name in names}
        count = len(self.states)
        with mock.patch.multiple(torch.cuda, is_available=lambda: count > 0, device_count=lambda: count, **stand_ins):
            yield


def test_random_state_of_gpus(check: Check) -> None:
    """The generators of all GPUs are put back as well; what is said of GPUs that are not there is left out."""
    with _stirred(check.draw), _GPUs(7, 9).there():
        state = check.run("random_state() on a machine with two GPUs", random_state).value
    for gpus, expected in ((_GPUs(1, 2), [7, 9]), (_GPUs(1), [7]), (_GPUs(1, 2, 3), [7, 9, 3]), (_GPUs(), [])):
        call = f"set_random_state of it on a machine with {len(expected)} GPU(s)"
        with _stirred(check.draw), gpus.there():
            check.run(call, partial(set_random_state, state)).value  # noqa: B018
        found = check.run(f"the states of the GPUs' generators after {call}", partial(list, gpus.states))
        found.equals(expected, note="7 and 9 where those two are")


def _trained(steps: int, path: Path, resume: bool = False) -> list[float]:
    """Losses of a small network with dropout and noise, which saves itself after the last step."""
    network = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 1))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.linspace(-1, 1, parameter.numel()).reshape(parameter.shape))
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.01)
    losses: list[float] = []
    if resume:
        state = load_state(path)
        network.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        losses = state["losses"]
        set_random_state(state["random"])
    while len(losses) < steps:
        x = torch.from_numpy(numpy.random.randn(6, 4)).float() * random.uniform(0.5, 1.5)
        loss = (network(x) - x.sum(dim=-1, keepdim=True)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    save_state(
        path,
        {
            "model": network.state_dict(),
            "optimizer": optimizer.state_dict(),
            "losses": losses,
            "random": random_state(),
        },
    )
    return losses


def test_resume(check: Check) -> None:
    """10 steps, a file, and 10 more are 20 steps, bit for bit: weights, optimizer, dropout and noise."""
    path = check.folder / "run.pt"
    with _stirred(check.draw):
        seeds = [check.draw.seed() for _ in range(3)]
        torch.manual_seed(seeds[0]), random.seed(seeds[1]), numpy.random.seed(seeds[2])
        whole = check.run("20 steps, then save_state", lambda: _trained(20, path)).value
        torch.manual_seed(seeds[0]), random.seed(seeds[1]), numpy.random.seed(seeds[2])
        check.run("10 steps, then save_state", lambda: _trained(10, path)).equals(whole[:10], rtol=0.0, atol=0.0)
        _drawn()
        answer = check.run("10 steps more, after load_state", lambda: _trained(20, path, resume=True))
        answer.equals(whole, rtol=0.0, atol=0.0, note="bit for bit, as without the interruption")


class _Folder:
    """A folder of checkpoints, each known by the step that it was saved at, whatever its file is called."""

    def __init__(self, check: Check, name: str, **options: Any) -> None:
        self.path = check.folder / name
        self.options = options
        self.store = CheckpointStore(self.path, **options)
        self.steps: dict[Path, int] = {}

    def save(self, step: int, loss: float | None = None, content: float = 0.0) -> None:
        self.steps[Path(self.store.save({"step": step, "content": content}, step, loss))] = step

    def step_of(self, path: Path | None) -> int | str | None:
        return None if path is None else self.steps.get(Path(path), "a file that was not saved")

    def ends(self) -> dict[str, Any]:
        return {"latest": self.step_of(self.store.latest()), "best": self.step_of(self.store.best())}

    def kept(self) -> list[int]:
        """The steps whose files are there, read by torch itself."""
        return sorted(
            int(torch.load(path, weights_only=True)["step"]) for path in self.path.rglob("*") if path.is_file()
        )


def _after(
    check: Check, saves: Sequence[tuple[int, float | None]], read: Callable[[_Folder], Any], **options: Any
) -> Any:
    """What a store says after some calls of save(state, step, loss)."""
    folder = _Folder(check, f"store-{len(check.verdicts)}-{check.draw.seed()}", **options)
    for step, loss in saves:
        folder.save(step, loss)
    return read(folder)


def _named(saves: Sequence[tuple[int, float | None]]) -> str:
    return ", ".join(f"({step}, {loss})" for step, loss in saves)


def test_store_by_hand(check: Check) -> None:
    """Steps 1, 2 and 3 with losses 3.0, 2.5 and 2.7, one to keep: step 3 is the latest, 2 the best, 1 is gone."""
    saves = [(1, 3.0), (2, 2.5), (3, 2.7)]
    answer = check.run(
        f"a store with keep_last=1, after saves of (step, loss) {_named(saves)}",
        lambda: _after(check, saves, lambda folder: {**folder.ends(), "files": folder.kept()}, keep_last=1),
    )
    answer.equals({"latest": 3, "best": 2, "files": [2, 3]})
    empty = check.run(
        "a store of a folder that is not there",
        lambda: _after(
            check, [], lambda folder: [folder.store.latest(), folder.store.best(), folder.store.load_latest()]
        ),
    )
    empty.equals([None, None, None])


def test_store_latest(check: Check) -> None:
    """The latest is the one of the greatest step, however many digits it has and whenever it was saved."""
    for saves in (
        [(9, None), (10, None)],
        [(99999999, None), (100000000, None)],
        [(300, None), (20, None)],
        [(0, None)],
    ):
        call = f"latest() after saves of (step, loss) {_named(saves)}"
        answer = check.run(call, partial(_after, check, saves, lambda folder: folder.ends()["latest"]))
        answer.equals(max(step for step, _ in saves))


def test_store_best(check: Check) -> None:
    """The best has the lowest loss, to the last digit; losses that are None, NaN or infinite count nowhere."""
    cases: list[tuple[list[tuple[int, float | None]], int | None]] = [
        ([(1, 0.5), (2, 0.25), (3, 0.75)], 2),
        ([(1, 2.00001), (2, 2.0000100001), (3, 2.00002)], 1),
        ([(1, 10.5), (2, 9.5), (3, 1e-5), (4, 2.0)], 3),
        ([(1, math.nan), (2, 3.0), (3, None), (4, -math.inf)], 2),
        ([(1, -1.5), (2, -2.5)], 2),
        ([(1, 0.5), (2, 0.5), (3, 0.75)], 2),
        ([(8, 0.5), (2, 0.5)], 8),
        ([(1, math.inf), (2, 3.0)], 2),
        ([(1, None), (2, math.nan)], None),
    ]
    for saves, best in cases:
        call = f"best() after saves of (step, loss) {_named(saves)}"
        check.run(call, partial(_after, check, saves, lambda folder: folder.ends()["best"])).equals(best)


def test_store_keeps(check: Check) -> None:
    """After each save the last few are there, and the best of all, and nothing else."""
    for keep_last in (1, 2, 3):
        losses = [round(loss, 3) for loss in check.draw.uniform(1.0, 9.0, 8).tolist()]
        losses[1] = 0.5
        saves = [(10 * number + 10, loss) for number, loss in enumerate(losses)]

        def read_each(keep_last: int, saves: list[tuple[int, float]]) -> list[list[int]]:
            folder = _Folder(check, f"kept-{keep_last}", keep_last=keep_last)
            seen = []
            for step, loss in saves:
                folder.save(step, loss)
                seen.append(folder.kept())
            return seen

        expected = []
        for count in range(1, len(saves) + 1):
            best = min(saves[:count], key=lambda save: save[1])[0]
            expected.append(sorted({best, *(step for step, _ in saves[max(0, count - keep_last) : count])}))
        call = f"the steps that a store with keep_last={keep_last} holds after each of {_named(saves)}"
        check.run(call, partial(read_each, keep_last, saves)).equals(expected)


def test_store_saves_earlier_steps(check: Check) -> None:
    """A run that went back keeps what it has just saved; a step that is saved again has one file, the new one."""

    def go_back() -> list[int]:
        folder = _Folder(check, "back", keep_last=1)
        for step in (10, 20, 5):
            folder.save(step)
        return folder.kept()

    found = check.run("the steps that a store with keep_last=1 holds after saves of steps 10, 20 and 5", go_back)
    found.equals([5, 20], note="the last by its step, and the one just saved")

    def twice() -> dict[str, Any]:
        folder = _Folder(check, "twice")
        folder.save(7, 1.0, content=1.0)
        folder.save(7, 2.0, content=2.0)
        return {"files": folder.kept(), "load_latest()": folder.store.load_latest(), **folder.ends()}

    answer = check.run("a store after two saves of step 7, with other losses and contents", twice)
    answer.equals({"files": [7], "load_latest()": {"step": 7, "content": 2.0}, "latest": 7, "best": 7})

    def usual() -> list[int]:
        folder = _Folder(check, "usual")
        for step in (1, 2, 3, 4):
            folder.save(step)
        return folder.kept()

    found = check.run("the steps that a store holds after saves of steps 1 to 4, where keep_last is not given", usual)
    found.equals([3, 4], note="two")


def test_store_is_found_again(check: Check) -> None:
    """Another store of the same folder knows latest and best, and keeps the best when it saves."""

    def again() -> dict[str, Any]:
        folder = _Folder(check, "again", keep_last=1)
        for step, loss in [(1, 5.0), (2, 1.5), (3, 4.0)]:
            folder.save(step, loss)
        folder.store = CheckpointStore(folder.path, keep_last=1)
        found = folder.ends()
        folder.save(4, 2.0)
        return {"at first": found, "load_latest()": folder.store.load_latest(), "files": folder.kept()}

    answer = check.run("a new store of a folder of steps 1 to 3, at first and after a save of step 4", again)
    latest = {"step": 4, "content": 0.0}
    answer.equals({"at first": {"latest": 3, "best": 2}, "load_latest()": latest, "files": [2, 4]})


def test_store_falls_back(check: Check) -> None:
    """Where the newest is damaged, load_latest warns of it by name and goes on with the one before."""

    def fall_back(broken: Sequence[int]) -> dict[str, Any]:
        folder = _Folder(check, f"broken-{len(broken)}", keep_last=3)
        for step in (1, 2, 3):
            folder.save(step)
        paths = {step: path for path, step in folder.steps.items()}
        for step in broken:
            paths[step].write_bytes(paths[step].read_bytes()[:-9])
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            state = folder.store.load_latest()
        told = [warning for warning in told if issubclass(warning.category, UserWarning)]
        named = [step for step in (3, 2, 1) if any(paths[step].name in str(warning.message) for warning in told)]
        left = sorted(step for step, path in paths.items() if path.exists())
        return {"the step read": state and state["step"], "warned of": named, "files": left}

    for broken in ([3], [3, 2], [3, 2, 1]):
        answer = check.run(
            f"load_latest(), where step{'s' * (len(broken) > 1)} {', '.join(map(str, broken))} of 3 cannot be read",
            partial(fall_back, broken),
        )
        answer.equals({"the step read": 3 - len(broken) or None, "warned of": broken, "files": [1, 2, 3]})


def test_store_goes_on_after_damage(check: Check) -> None:
    """A damaged checkpoint counts no longer: what is saved after going back is the latest."""

    def go_on() -> dict[str, Any]:
        folder = _Folder(check, "going-on", keep_last=2)
        for step in (10, 20, 30):
            folder.save(step)
        paths = {step: path for path, step in folder.steps.items()}
        paths[30].write_bytes(b"")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            state = folder.store.load_latest()
        folder.save(22)
        folder.save(24)
        found = {"the step read": state and state["step"], "latest after 24": folder.step_of(folder.store.latest())}
        found["files after 24"] = sorted(step for path, step in folder.steps.items() if path.exists())
        folder.save(30)
        return {**found, "latest after 30": folder.step_of(folder.store.latest())}

    answer = check.run(
        "a store with keep_last=2: steps 10, 20, 30; 30 is damaged; load_latest(); then steps 22, 24 and 30 again",
        go_on,
    )
    expected = {"the step read": 20, "latest after 24": 24, "files after 24": [22, 24, 30], "latest after 30": 30}
    answer.equals(expected, note="the damaged file is left, and does not count until it is saved anew")


def test_store_refuses(check: Check) -> None:
    """A store that keeps nothing, and a negative step, are refused by name."""
    check.raises(ValueError, CheckpointStore, "run", keep_last=0, naming=("keep_last", "0"))
    store = check.build(CheckpointStore, check.folder / "refusing")

    def save(step: int) -> Any:
        return store.save({}, step)

    save.__name__ = "save"
    check.raises(ValueError, save, -1, naming=("step", "-1"))
