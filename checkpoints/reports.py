"""Verdicts for programs: JSON for scripts, JUnit XML for CI systems.

Their form is described in checkpoints/README.md.
"""

import json
import os
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .catalogue import Sprint
from .verdicts import TaskResult

FORMAT = "gpt2-kata/verdicts"
VERSION = 1


def as_data(graded: Sequence[tuple[Sprint, Sequence[TaskResult]]], seed: int) -> dict[str, Any]:
    """Everything that grading found, as plain data."""
    sprints = []
    for sprint, results in graded:
        earned = round(sum(result.earned for result in results), 1)
        sprints.append(
            {
                "sprint": sprint.name,
                "title": sprint.title,
                "whole": len(results) == len(sprint.tasks),
                "points": sum(result.points for result in results),
                "earned": earned,
                "points_to_pass": sprint.points_to_pass,
                "passed": len(results) == len(sprint.tasks) and earned >= sprint.points_to_pass,
                "tasks": [task_data(result) for result in results],
            }
        )
    return {"format": FORMAT, "version": VERSION, "seed": seed, "sprints": sprints}


def task_data(result: TaskResult) -> dict[str, Any]:
    """What grading one task found, as plain data."""
    return {
        "task": result.task,
        "points": result.points,
        "earned": result.earned,
        "passed": result.passed,
        "lent": result.lent,
        "checks": [
            {
                "check": check.check,
                "title": check.title,
                "passed": check.passed,
                "seconds": round(check.seconds, 4),
                "printed": check.printed,
                "figures": check.figures,
                "verdicts": [
                    {
                        "kind": str(verdict.kind),
                        "call": verdict.call,
                        "got": verdict.got,
                        "expected": verdict.expected,
                        "where": verdict.where,
                        "divergence": verdict.divergence,
                        "misconception": verdict.misconception,
                    }
                    for verdict in check.verdicts
                ],
            }
            for check in result.checks
        ],
    }


def write_json(path: Path, graded: Sequence[tuple[Sprint, Sequence[TaskResult]]], seed: int) -> None:
    """Write the verdicts as JSON, whole or not at all."""
    _write(path, json.dumps(as_data(graded, seed), indent=1, ensure_ascii=False) + "\n")


def write_junit(path: Path, graded: Sequence[tuple[Sprint, Sequence[TaskResult]]], seed: int) -> None:
    """Write the verdicts as JUnit XML, one suite a task, whole or not at all."""
    root = ElementTree.Element("testsuites", name="gpt2-kata")
    for _, results in graded:
        for result in results:
            failures = len(result.checks) - result.passed_checks
            seconds = sum(check.seconds for check in result.checks)
            suite = ElementTree.SubElement(
                root,
                "testsuite",
                name=result.task,
                tests=str(len(result.checks)),
                failures=str(failures),
                errors="0",
                time=f"{seconds:.4f}",
            )
            properties = ElementTree.SubElement(suite, "properties")
            for name, value in (("seed", seed), ("points", result.points), ("earned", result.earned)):
                ElementTree.SubElement(properties, "property", name=name, value=str(value))
            for check in result.checks:
                case = ElementTree.SubElement(
                    suite,
                    "testcase",
                    classname=result.task.replace("/", "."),
                    name=check.check,
                    time=f"{check.seconds:.4f}",
                )
                if not check.passed:
                    text = "\n".join([check.title, *(verdict.text() for verdict in check.verdicts)])
                    kinds = ", ".join(dict.fromkeys(str(verdict.kind) for verdict in check.verdicts))
                    ElementTree.SubElement(
                        case, "failure", type=kinds, message=_printable(check.title)
                    ).text = _printable(text)
                if check.printed:
                    ElementTree.SubElement(case, "system-out").text = _printable(check.printed)
    ElementTree.indent(root)
    _write(path, '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n")


def _printable(text: str) -> str:
    """The text without the characters that XML cannot hold."""
    return re.sub("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\ufffd", text)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".new")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)  # noqa: PTH105
