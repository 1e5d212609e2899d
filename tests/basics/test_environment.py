"""Grades basics/environment.

The oracles: made-up packages in a temporary folder, whose versions are known; `importlib.metadata` for what is really
installed; and made-up machines: what torch says of its devices is replaced while `pick_device` runs.
"""

import importlib.metadata
import json
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

import torch

from checkpoints import ROOT
from checkpoints.checks import Check, Draw, Workload
from checkpoints.comparison import describe
from checkpoints.misconceptions import Misconception
from exercises.basics.environment import check_environment, pick_device

MISCONCEPTIONS = [
    Misconception(
        "the versions compared as texts, where 1.2.0+cpu satisfies ==1.2.0 though it is another text",
        (
            "not requirement.specifier.contains(installed, prereleases=True)",
            'str(requirement.specifier) not in ("", f"=={installed}")',
        ),
    ),
    Misconception(
        "any version whose text begins with the wanted one",
        (
            "not requirement.specifier.contains(installed, prereleases=True)",
            'not installed.startswith(str(requirement.specifier).lstrip("="))',
        ),
    ),
    Misconception(
        "the local part cut off on both sides, though 1.2.0 is not enough where 1.2.0+cpu is wanted",
        (
            "not requirement.specifier.contains(installed, prereleases=True)",
            'not type(requirement.specifier)(str(requirement.specifier).split("+")[0])'
            '.contains(installed.split("+")[0], prereleases=True)',
        ),
    ),
    Misconception(
        "any version that is installed, wanted or not",
        (" or not requirement.specifier.contains(installed, prereleases=True)", ""),
    ),
    Misconception(
        "the names as the project spells them, not normalised",
        ("canonicalize_name(requirement.name)", "requirement.name"),
    ),
    Misconception(
        "the names in lower case only: underscores and dots become hyphens too",
        ("canonicalize_name(requirement.name)", "requirement.name.lower()"),
    ),
    Misconception(
        "the requirements that are meant for other systems judged too",
        ("requirement.marker is not None and not requirement.marker.evaluate()", "False"),
    ),
    Misconception(
        "every requirement with a marker passed over, also where the marker holds",
        (" and not requirement.marker.evaluate()", ""),
    ),
    Misconception(
        "the packages that are not installed left out",
        ("installed is None or not", "installed is not None and not"),
    ),
    Misconception(
        "the version that is wanted in the place of the one that is installed",
        (
            "unmet[canonicalize_name(requirement.name)] = installed",
            'unmet[canonicalize_name(requirement.name)] = installed and str(requirement.specifier).lstrip("=")',
        ),
    ),
    Misconception(
        "the requirements that are met listed as well",
        (
            "if installed is None or not requirement.specifier.contains(installed, prereleases=True):",
            "if True:",
        ),
    ),
    Misconception(
        "a file that does not exist taken for a project that requires nothing",
        (
            'with pyproject.open("rb") as file:',
            'if not pyproject.exists():\n    return []\nwith pyproject.open("rb") as file:',
        ),
    ),
    Misconception(
        "the parser's own error passed on, which does not say which file it is about",
        ('raise ValueError(f"{pyproject} is not TOML: {error}") from error', "raise"),
    ),
    Misconception(
        "a file without the table [project] taken for a project that requires nothing",
        ('tomllib.load(file).get("project")', 'tomllib.load(file).get("project", {})'),
    ),
    Misconception(
        "the dependencies taken as they come: of a text in the place of the list, each letter",
        ("not isinstance(lines, list) or not all(isinstance(line, str) for line in lines)", "False"),
    ),
    Misconception(
        "a line that is no requirement passed over in silence",
        ('raise ValueError(f"{pyproject}: {line!r} is not a requirement: {error}") from error', "continue"),
    ),
    Misconception(
        "MPS before CUDA",
        (
            """
            "cuda": torch.cuda.device_count() if torch.cuda.is_available() else 0,
            "mps": int(torch.backends.mps.is_available()),
            """,
            """
            "mps": int(torch.backends.mps.is_available()),
            "cuda": torch.cuda.device_count() if torch.cuda.is_available() else 0,
            """,
        ),
    ),
    Misconception("MPS forgotten: CUDA or the CPU", ("int(torch.backends.mps.is_available())", "0")),
    Misconception(
        "what torch was built for, which says nothing of this machine",
        (
            "torch.cuda.device_count() if torch.cuda.is_available() else 0",
            "max(torch.cuda.device_count(), 1) if torch.backends.cuda.is_built() else 0",
        ),
        ("int(torch.backends.mps.is_available())", "int(torch.backends.mps.is_built())"),
    ),
    Misconception("the device's name as text, not a torch.device", ("return torch.device(next(", "return str(next(")),
    Misconception(
        "an index that nobody asked for",
        (
            "return torch.device(next(kind for kind, count in counts.items() if count))",
            "return torch.device(next(kind for kind, count in counts.items() if count), 0)",
        ),
    ),
    Misconception("the best device there is, whichever is preferred", ("if prefer is None:", "if True:")),
    Misconception(
        "the CPU in the place of a preferred device that is not there",
        (
            'raise RuntimeError(f"the device {prefer!r} is not available: there are {counts}")',
            'return torch.device("cpu")',
        ),
    ),
    Misconception(
        "an index one too high allowed: of two devices the last is number 1",
        ("(device.index or 0) >= counts", "(device.index or 0) > counts"),
    ),
    Misconception(
        "the index not looked at: any will do where there is one such device",
        ("(device.index or 0) >= counts.get(device.type, 0)", "not counts.get(device.type, 0)"),
    ),
    Misconception(
        "the preferred device without a look at whether it is there",
        ("(device.index or 0) >= counts.get(device.type, 0)", "False"),
    ),
]


def workload(task: Any, draw: Draw) -> list[Workload]:
    """Typical calls, for `compare`."""
    return [
        Workload("check_environment(the course's own project)", task.check_environment, (ROOT / "pyproject.toml",)),
        Workload("pick_device()", task.pick_device),
        Workload('pick_device("cpu")', task.pick_device, ("cpu",)),
    ]


@contextmanager
def _packages(**versions: str) -> Iterator[Path]:
    """A folder on Python's path where these packages, and no code, are installed."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        for package, version in versions.items():
            information = folder / f"{package}-{version}.dist-info"
            information.mkdir()
            text = f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n"
            (information / "METADATA").write_text(text, encoding="utf-8")
        with mock.patch.object(sys, "path", [name, *sys.path]):
            yield folder


def _check_project(check: Check, folder: Path, dependencies: Sequence[str], expected: Mapping[str, str | None]) -> None:
    """A made-up project with these dependencies, where the packages of that folder are installed."""
    project = folder / "made_up.toml"
    listed = json.dumps(list(dependencies))
    project.write_text(f'[project]\nname = "made-up"\ndependencies = {listed}\n', encoding="utf-8")
    answer = check.run(
        f"check_environment of a project with dependencies = {listed}", lambda: check_environment(project)
    )
    if answer.failed:
        return
    got = answer.value
    there = ", ".join(sorted(path.stem.replace("-", " ") for path in folder.glob("*.dist-info"))) or "none of them"
    answer.satisfies(
        isinstance(got, dict) and got == dict(expected),
        got=repr(got)[:400] if isinstance(got, dict) else describe(got),
        expected=f"{dict(expected)!r} (installed: {there})",
    )


def _version(check: Check) -> str:
    """A version of three numbers."""
    return ".".join(str(number) for number in check.draw.integers(1, 30, 3).tolist())


def test_environment_by_hand(check: Check) -> None:
    """Three packages are pinned: one is right, one at another version, one not there."""
    there = _version(check)
    with _packages(made_up_one="1.2.0", made_up_two="2.12.1", made_up_four=there) as folder:
        _check_project(
            check,
            folder,
            ["made-up-one==1.2.0", "made-up-two==2.13.0", "made-up-three==3.0"],
            {"made-up-two": "2.12.1", "made-up-three": None},
        )
        _check_project(check, folder, [f"made-up-four==1{there}"], {"made-up-four": there})


def test_environment_all_right(check: Check) -> None:
    """The result is empty when all is right, and where nothing is required."""
    one, other = _version(check), _version(check)
    with _packages(made_up=one, another=other) as folder:
        _check_project(check, folder, [f"made-up=={one}", f"another=={other}", "made-up>=0.1"], {})
        _check_project(check, folder, [], {})
        project = folder / "made_up.toml"
        project.write_text('[project]\nname = "made-up"\n', encoding="utf-8")
        answer = check.run(
            "check_environment of a project without the key dependencies", lambda: check_environment(project)
        )
    answer.equals({})


def test_environment_of_the_course(check: Check) -> None:
    """This course's own pyproject.toml, package by package against importlib.metadata."""
    project = ROOT / "pyproject.toml"
    expected: dict[str, str | None] = {}
    for line in tomllib.loads(project.read_text(encoding="utf-8"))["project"]["dependencies"]:
        package, wanted = line.split("==")
        try:
            installed = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            expected[package] = None
        else:
            if installed.split("+")[0] != wanted:
                expected[package] = installed
    check.run("check_environment of the course's own pyproject.toml", lambda: check_environment(project)).equals(
        expected
    )


def test_environment_versions(check: Check) -> None:
    """A pin means the very version, up to a local part that it does not give; 1.2 and 1.2.0 are the same."""
    version = _version(check)
    variants = {
        "local": f"{version}+cpu",
        "plain": version,
        "post": f"{version}.post1",
        "early": f"{version}rc1",
        "longer": f"{version}0",
        "zero": "1.2.0",
    }
    with _packages(**variants) as folder:
        for package, pin, right in (
            ("local", version, True),
            ("local", f"{version}+cpu", True),
            ("local", f"{version}+cu130", False),
            ("plain", f"{version}+cpu", False),
            ("post", version, False),
            ("early", version, False),
            ("longer", version, False),
            ("zero", "1.2", True),
        ):
            _check_project(check, folder, [f"{package}=={pin}"], {} if right else {package: variants[package]})


def test_environment_ranges(check: Check) -> None:
    """What is not pinned: no version at all, ranges, wildcards; 2.13 is more than 2.9."""
    met = ["made-up", "made-up>=2.9", "made-up==2.13.*", "made-up~=2.9", "made-up!=2.12,<3", "early>=2.5"]
    unmet = ["made-up>=2.14", "made-up==2.1.*", "made-up~=2.9.0", "made-up!=2.13.0", "made-up<2.13"]
    address = "https://example.org/made_up.whl"
    with _packages(made_up="2.13.0", early="3.0rc1") as folder:
        _check_project(check, folder, met, {})
        for line in unmet:
            _check_project(check, folder, [line], {"made-up": "2.13.0"})
        _check_project(
            check,
            folder,
            [f"made-up @ {address}", f"nowhere @ {address}", "no-such-package"],
            {"nowhere": None, "no-such-package": None},
        )


def test_environment_names(check: Check) -> None:
    """A name may be spelled in several ways: Made_Up, made.up and MADE-UP are one package, made-up."""
    version = _version(check)
    spellings = ["Made_Up", "made.up", "MADE-UP", "made-_up"]
    with _packages(made_up=version) as folder:
        _check_project(check, folder, [f"{name}=={version}" for name in spellings], {})
        for name in spellings:
            _check_project(check, folder, [f"{name}=={version}.1"], {"made-up": version})
        _check_project(check, folder, ["No_Such.Package==1.0"], {"no-such-package": None})


def test_environment_markers(check: Check) -> None:
    """A requirement counts only where its marker holds; extras change nothing."""
    elsewhere = ['made-up==1.1.0; python_version < "3"', 'nowhere==1.0; sys_platform == "made-up"']
    here = ['made-up==1.1.0; python_version >= "3"', f'nowhere==1.0; sys_platform == "{sys.platform}"']
    with _packages(made_up="1.2.0") as folder:
        _check_project(check, folder, elsewhere, {})
        _check_project(check, folder, here, {"made-up": "1.2.0", "nowhere": None})
        _check_project(check, folder, ["made-up[fast,small]==1.2.0", 'nowhere; extra == "test"'], {})
        _check_project(check, folder, ["made-up[fast]==1.1.0"], {"made-up": "1.2.0"})


def _check_refused(
    check: Check, text: str | bytes | None, *, naming: tuple[str, ...], error: type[Exception] = ValueError
) -> None:
    """A file of that text (None: no file) is refused; the first of the words is its name."""
    with TemporaryDirectory() as folder:
        if text is not None:
            (Path(folder) / naming[0]).write_bytes(text if isinstance(text, bytes) else text.encode())

        def called(name: str) -> object:
            return check_environment(Path(folder) / name)

        # As messages show it, with what is in the file and without the temporary folder.
        there = "where there is no such file" if text is None else f"where the file holds {text!r}"
        called.__name__ = f"{there}: check_environment"
        check.raises(error, called, naming[0], naming=naming)


def test_environment_refuses_a_missing_file(check: Check) -> None:
    """A file that does not exist is named."""
    _check_refused(check, None, naming=("not_there.toml",), error=FileNotFoundError)


def test_environment_refuses_what_is_not_toml(check: Check) -> None:
    """A file that is no TOML, or not in UTF-8, is named: the parser's own message does not."""
    _check_refused(check, "[project]\ndependencies = [\n", naming=("syntax_error.toml",))
    _check_refused(check, '[project]\nname = "café"\n'.encode("latin-1"), naming=("not_in_utf_8.toml",))


def test_environment_refuses_no_project(check: Check) -> None:
    """A file without the table [project], or whose dependencies are not a list of strings, is named."""
    _check_refused(check, "[tool.ruff]\nline-length = 120\n", naming=("no_such_table.toml", "project"))
    _check_refused(check, "", naming=("empty_file.toml", "project"))
    _check_refused(check, 'project = "made-up"\n', naming=("no_table_but_text.toml", "project"))
    _check_refused(check, '[project]\ndependencies = "numpy"\n', naming=("one_string.toml", "dependencies"))
    _check_refused(check, '[project]\ndependencies = ["numpy", 2]\n', naming=("a_number.toml", "dependencies"))
    _check_refused(check, '[project.dependencies]\nnumpy = "2.4"\n', naming=("a_table.toml", "dependencies"))


def test_environment_refuses_no_requirement(check: Check) -> None:
    """A line that is no requirement, such as made-up=1.0, is named along with its file."""
    for name, line in (("one_equals_sign.toml", "made-up=1.0"), ("two_words.toml", "made up")):
        _check_refused(check, f'[project]\ndependencies = ["numpy", "{line}"]\n', naming=(name, line))


@contextmanager
def _machine(cuda: int, mps: bool, usable: bool = True) -> Iterator[str]:
    """A machine with so many CUDA devices and one MPS device or none, as torch tells it; its description."""
    available = cuda > 0 and usable
    best = torch.device("cuda" if available else "mps") if available or mps else None
    told: list[tuple[Any, str, object]] = [
        # A build may know kinds of devices that the machine does not have.
        (torch.backends.cuda, "is_built", True),
        (torch.backends.mps, "is_built", True),
        (torch.cuda, "is_available", available),
        (torch.cuda, "device_count", cuda),
        (torch.backends.mps, "is_available", mps),
        # Other ways to ask the same.
        (torch.mps, "is_available", mps),
        (torch.mps, "device_count", int(mps)),
        (torch.accelerator, "is_available", best is not None),
        (torch.accelerator, "current_accelerator", best),
        (torch.accelerator, "device_count", cuda if available else int(mps)),
    ]
    with ExitStack() as stack:
        for owner, name, answer in told:
            stack.enter_context(mock.patch.object(owner, name, lambda *_, told=answer, **__: told))
        devices = f"{cuda or 'no'} CUDA device{'' if cuda == 1 else 's'}"
        driver = "" if usable else " that its driver cannot use (is_available() is False)"
        yield f"{devices}{driver} and {'one' if mps else 'no'} MPS device"


def _check_device(
    check: Check, cuda: int, mps: bool, prefer: str | None, expected: str, *, usable: bool = True
) -> None:
    """What is picked on such a machine."""
    call = "pick_device()" if prefer is None else f"pick_device({prefer!r})"
    with _machine(cuda, mps, usable) as machine:
        answer = check.run(
            f"{call} on a machine with {machine}", lambda: pick_device() if prefer is None else pick_device(prefer)
        )
    if answer.failed:
        return
    got = answer.value
    answer.satisfies(
        isinstance(got, torch.device) and got == torch.device(expected),
        got=repr(got) if isinstance(got, torch.device) else f"{describe(got)}, not a torch.device",
        expected=repr(torch.device(expected)),
    )


def test_device_by_hand(check: Check) -> None:
    """CUDA if there is one that can be used, else MPS, else the CPU."""
    _check_device(check, check.draw.size(1, 9), False, None, "cuda")
    _check_device(check, 0, True, None, "mps")
    _check_device(check, 0, False, None, "cpu")
    _check_device(check, 1, True, None, "cuda")
    _check_device(check, 2, True, None, "mps", usable=False)


def test_device_preferred(check: Check) -> None:
    """A preferred device that is there is taken, also if another is faster."""
    count = check.draw.size(2, 9)
    _check_device(check, count, True, "cpu", "cpu")
    _check_device(check, count, True, "mps", "mps")
    _check_device(check, count, False, "cuda", "cuda")
    _check_device(check, count, False, f"cuda:{count - 1}", f"cuda:{count - 1}")
    _check_device(check, count, False, "cuda:0", "cuda:0")
    _check_device(check, 0, True, "mps:0", "mps:0")
    _check_device(check, 0, False, "cpu", "cpu")
    _check_device(check, 0, False, "cpu:0", "cpu:0")


def _check_no_device(check: Check, machine: str, prefer: str) -> None:
    """Such a device is refused."""

    def called(prefer: str) -> str:
        return repr(pick_device(prefer))

    called.__name__ = f"on a machine with {machine}: pick_device"
    check.raises(RuntimeError, called, prefer, naming=prefer or ())


def test_device_refuses(check: Check) -> None:
    """A preferred device that is not there is refused by name, never replaced by another."""
    count = check.draw.size(1, 9)
    with _machine(0, False) as machine:
        _check_no_device(check, machine, "cuda")
        _check_no_device(check, machine, "mps")
    with _machine(0, True) as machine:
        _check_no_device(check, machine, "cuda:0")
    with _machine(count, False) as machine:
        _check_no_device(check, machine, f"cuda:{count}")
        _check_no_device(check, machine, f"cuda:{count + 1}")
        _check_no_device(check, machine, "mps")
    with _machine(2, False, usable=False) as machine:
        _check_no_device(check, machine, "cuda:1")


def test_device_refuses_other_kinds(check: Check) -> None:
    """What is no device, a second CPU, or of another kind than CUDA, MPS and the CPU, is refused by name."""
    with _machine(3, True) as machine:
        _check_no_device(check, machine, "cpu:1")
        _check_no_device(check, machine, "mps:1")
        _check_no_device(check, machine, "gpu")
        _check_no_device(check, machine, "")
        _check_no_device(check, machine, "meta")
