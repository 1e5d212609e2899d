"""A generator of what is unmet, the installed packages in one dictionary of normalised names, devices listed by name."""

import re
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from packaging.requirements import InvalidRequirement, Requirement


class ProjectError(ValueError):
    """Something in the project's file is not as it should be."""


def normalised(name: str) -> str:
    return re.sub("[-_.]+", "-", name).lower()


def installed_packages() -> dict[str, str]:
    """The first of each name on Python's path is the one that is imported."""
    found: dict[str, str] = {}
    for package in metadata.distributions():
        found.setdefault(normalised(package.metadata["Name"]), package.version)
    return found


def dependencies_of(path: Path) -> Any:
    with path.open(encoding="utf-8") as file:
        try:
            content = tomllib.loads(file.read())
        except ValueError as error:
            raise ProjectError(f"{path.name}: {error}") from None
    match content:
        case {"project": {"dependencies": [*lines]}} if all(isinstance(each, str) for each in lines):
            return lines
        case {"project": {"dependencies": other}}:
            raise ProjectError(f"{path.name}: cannot use {other!r} for dependencies")
        case {"project": {}}:
            return []
    raise ProjectError(f"{path.name}: where is [project]?")


def unmet(path: Path) -> Iterator[tuple[str, str | None]]:
    lines, there = dependencies_of(path), installed_packages()
    for line in lines:
        try:
            wanted = Requirement(line)
        except InvalidRequirement as error:
            raise ProjectError(f"{path.name}, in {line!r}: {error}") from error
        name = normalised(wanted.name)
        version = there.get(name)
        applies = wanted.marker is None or wanted.marker.evaluate()
        if applies and (version is None or version not in list(wanted.specifier.filter([version], prereleases=True))):
            yield name, version


def check_environment(pyproject: Path) -> dict[str, str | None]:
    return dict(unmet(pyproject))


def pick_device(prefer: str | None = None) -> torch.device:
    names = ["cpu", "cpu:0"]
    if torch.backends.mps.is_available():
        names = ["mps", "mps:0", *names]
    if torch.cuda.is_available():
        names = ["cuda", *(f"cuda:{index}" for index in range(torch.cuda.device_count())), *names]
    if (chosen := names[0] if prefer is None else prefer) not in names:
        raise RuntimeError(f"{prefer!r} is none of {', '.join(names)}")
    return torch.device(chosen)
