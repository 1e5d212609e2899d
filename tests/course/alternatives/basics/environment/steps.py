"""Plain steps without types: the file read as bytes, all lists made first, the device taken apart by hand."""

import tomllib
from importlib.metadata import PackageNotFoundError, distribution

import torch
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version


def check_environment(pyproject):
    try:
        data = pyproject.read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError("no such file: " + str(pyproject))
    try:
        tables = tomllib.loads(data.decode("utf-8"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ValueError("cannot read " + str(pyproject) + ", because " + str(error))

    if "project" not in tables or type(tables["project"]) is not dict:
        raise ValueError("the table project is missing from " + str(pyproject))
    wanted = tables["project"].get("dependencies")
    if wanted is None:
        wanted = []
    if type(wanted) is not list:
        raise ValueError(str(pyproject) + ": the dependencies are no list")
    for line in wanted:
        if type(line) is not str:
            raise ValueError(str(pyproject) + ": among the dependencies is something that is no text")

    result = {}
    for line in wanted:
        try:
            r = Requirement(line)
        except Exception:
            raise ValueError("the line " + line + " in " + str(pyproject) + " makes no sense")
        if r.marker and not r.marker.evaluate():
            continue
        try:
            there = distribution(r.name).version
        except PackageNotFoundError:
            result[canonicalize_name(r.name)] = None
            continue
        ok = True
        for one in r.specifier:
            if not one.contains(Version(there), prereleases=True):
                ok = False
        if not ok:
            result[canonicalize_name(r.name)] = there
    return result


def pick_device(prefer=None):
    if prefer is None:
        if torch.cuda.is_available():
            return torch.device("cuda")
        if torch.backends.mps.is_available():
            return torch.device("mps")
        return torch.device("cpu")

    kind = prefer.split(":")[0]
    if kind == "cuda" and torch.cuda.is_available():
        number = torch.cuda.device_count()
    elif kind == "mps" and torch.backends.mps.is_available():
        number = 1
    elif kind == "cpu":
        number = 1
    else:
        raise RuntimeError("no device " + prefer + " on this machine")
    if ":" in prefer and int(prefer.split(":")[1]) >= number:
        raise RuntimeError(prefer + ": only " + str(number) + " of these")
    return torch.device(prefer)
