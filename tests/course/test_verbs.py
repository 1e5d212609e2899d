"""The verbs as a learner calls them, in a checkout of their own: output, exit status, files."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from checkpoints.catalogue import Catalogue, checks_of

from .conftest import Checkout


def test_untouched(checkout: Checkout, course: Catalogue) -> None:
    """Exit status 1, 0 points, every task TODO, and the last line says what to do first."""
    for sprint in (course.sprints[0], course.sprints[-1]):
        shown = checkout.run("grade", sprint.name)
        assert shown.returncode == 1
        assert shown.stderr == ""
        assert shown.stdout.count("TODO") == len(sprint.tasks)
        last = shown.stdout.strip().splitlines()[-2:]
        first = sprint.tasks[0]
        assert f"0 of {sprint.points} points" in " ".join(last)
        assert f"start with exercises/{first.id}.py" in " ".join(last)


def test_solved(checkout: Checkout, course: Catalogue) -> None:
    """Exit status 0, full points; `progress` says so and `next` has nothing more."""
    checkout.solve(*course.tasks())
    sprint = course.sprints[-1]
    shown = checkout.run("grade", sprint.name)
    assert shown.returncode == 0, shown.stdout
    assert f"{sprint.points} of {sprint.points} points: sprint-{sprint.name} is complete" in " ".join(
        shown.stdout.split()
    ), shown.stdout
    ladder = checkout.run("ladder")
    assert ladder.returncode == 0
    assert "Every checkpoint of the ladder is passed" in ladder.stdout
    assert "lent" not in ladder.stdout
    for sprint in course.sprints:
        assert f"checkpoint {sprint.name}: {sprint.points} of {sprint.points} points, passed" in ladder.stdout
    total = sum(sprint.points for sprint in course.sprints)
    progress = checkout.run("progress").stdout
    assert f"{total} of {total} points" in progress
    assert progress.count("checkpoint passed") == len(course.sprints)
    assert "Every task is passed" in checkout.run("next").stdout


def test_the_ladder_stops_at_the_first_unfinished_sprint(checkout: Checkout) -> None:
    shown = checkout.run("ladder")
    assert shown.returncode == 1
    assert "sprint-basics" in shown.stdout
    assert "sprint-attention" not in shown.stdout


def test_passed_below_full(checkout: Checkout, course: Catalogue) -> None:
    """At the pass mark the checkpoint is passed, with work left to earn the rest."""
    sprint = course.sprint("attention")
    checkout.solve(*sprint.tasks[1:])
    shown = checkout.run("grade", "attention")
    assert shown.returncode == 0
    assert "lent: attention/masking" in " ".join(shown.stdout.split())
    assert "passed, and there is more to earn" in shown.stdout
    assert "attention/masking" in checkout.run("next").stdout or "basics/" in checkout.run("next").stdout


def test_one_task(checkout: Checkout, course: Catalogue) -> None:
    checkout.solve(course.task("attention/masking"))
    shown = checkout.run("grade", "attention", "masking")
    assert shown.returncode == 0
    assert "10 of 10 points: passed" in shown.stdout
    assert "multi_head" not in shown.stdout
    assert checkout.run("grade", "attention", "scaled_dot_product").returncode == 1


def test_no_checks_at_all_is_a_failure(checkout: Checkout, course: Catalogue) -> None:
    task = course.task("attention/masking")
    checkout.solve(task)
    task.tests(checkout.root).write_text("MISCONCEPTIONS = []\n", encoding="utf-8")
    shown = checkout.run("grade", "attention", "masking")
    assert shown.returncode == 1
    assert "0 of 10 points" in shown.stdout
    assert "changed since" not in checkout.run("progress").stdout, "it was never passed"


def test_unknown_names(checkout: Checkout) -> None:
    shown = checkout.run("grade", "attention", "maskign")
    assert shown.returncode == 2
    text = " ".join(shown.stdout.split())
    assert "Did you mean masking?" in text
    assert "multi_head" in text
    assert "Did you mean attention?" in " ".join(checkout.run("grade", "atention").stdout.split())
    assert "Did you mean attention/masking?" in " ".join(checkout.run("hint", "attention/mask").stdout.split())


def test_a_seed_repeats_the_inputs(checkout: Checkout, course: Catalogue) -> None:
    task = course.task("attention/masking")
    wrong = task.solution().read_text(encoding="utf-8").replace(".softmax(dim=-1)", ".softmax(dim=-2)")
    task.exercise(checkout.root).write_text(wrong, encoding="utf-8")
    one, again, other = (
        checkout.run("grade", "attention", "masking", "--seed", seed).stdout for seed in ("5", "5", "6")
    )
    assert "seed 5" in one
    assert one == again
    assert one.replace("seed 5", "") != other.replace("seed 6", "")


def test_reports_for_programs(checkout: Checkout, course: Catalogue) -> None:
    checkout.solve(course.task("attention/masking"))
    shown = checkout.run("grade", "attention", "--json", "out/v.json", "--junit", "out/v.xml", "--seed", "3")
    assert shown.returncode == 1
    data = json.loads((checkout.root / "out" / "v.json").read_text(encoding="utf-8"))
    assert (data["format"], data["version"], data["seed"]) == ("gpt2-kata/verdicts", 1, 3)
    (sprint,) = data["sprints"]
    assert (sprint["sprint"], sprint["earned"], sprint["passed"], sprint["whole"]) == ("attention", 10.0, False, True)
    masking, dot_product = sprint["tasks"][:2]
    assert masking["passed"]
    assert {verdict["kind"] for check in dot_product["checks"] for verdict in check["verdicts"]} == {"TODO"}
    assert dot_product["lent"] == []
    suites = ElementTree.parse(checkout.root / "out" / "v.xml").getroot()
    assert [suite.get("name") for suite in suites] == [task["task"] for task in sprint["tasks"]]
    assert suites[0].get("failures") == "0"
    assert len(suites[1].findall("testcase/failure")) == int(suites[1].get("tests", "0")) > 0


def test_a_report_that_cannot_be_written(checkout: Checkout) -> None:
    (checkout.root / "file").touch()
    shown = checkout.run("grade", "attention", "masking", "--json", "file/v.json")
    assert shown.returncode == 2
    assert "cannot be written" in shown.stdout


def test_hints_come_one_a_call_and_are_counted(checkout: Checkout, course: Catalogue) -> None:
    task = course.task("attention/masking")
    for rung in (1, 2, 3, 3):
        text = " ".join(checkout.run("hint", "masking").stdout.split())
        for index, hint in enumerate(task.hints, start=1):
            assert (" ".join(hint.split()) in text) == (index <= rung)
    assert "3 hints" in checkout.run("progress").stdout


def test_reset_keeps_the_text(checkout: Checkout, course: Catalogue) -> None:
    task = course.task("attention/masking")
    stub = task.exercise(checkout.root).read_text(encoding="utf-8")
    assert "nothing was changed" in checkout.run("reset", "masking").stdout
    task.exercise(checkout.root).write_text("# my work\n", encoding="utf-8")
    shown = checkout.run("reset", "masking")
    assert shown.returncode == 0
    assert task.exercise(checkout.root).read_text(encoding="utf-8") == stub
    (backup,) = (checkout.root / "checkpoints" / "backups" / "attention").iterdir()
    assert backup.relative_to(checkout.root).as_posix() in shown.stdout
    assert backup.read_text(encoding="utf-8") == "# my work\n"


def test_compare_asks_first(checkout: Checkout) -> None:
    shown = checkout.run("compare", "masking")
    assert shown.returncode == 1
    assert "not passed yet" in shown.stdout
    assert "stays hidden" in shown.stdout
    assert "masked_fill" not in shown.stdout
    assert "solution seen" not in checkout.run("progress").stdout


def test_compare_shows_text_and_behaviour(checkout: Checkout, course: Catalogue) -> None:
    task = course.task("attention/masking")
    mine = task.solution().read_text(encoding="utf-8")
    mine = mine.replace("return weights * visible", "return weights * visible * 1.01")
    mine = mine.replace("combined & mask", "torch.logical_and(combined, mask)")
    task.exercise(checkout.root).write_text(mine, encoding="utf-8")
    shown = checkout.run("compare", "masking", "--yes", COLUMNS="240")
    assert shown.returncode == 0, shown.stdout
    assert "torch.logical_and(combined, mask)" in shown.stdout
    assert "lines the same" in shown.stdout
    rows = {line.split("(")[0].strip(): line for line in shown.stdout.splitlines() if "MiB" in line}
    assert set(rows) == {"causal_mask", "padding_mask", "combine_masks", "masked_softmax"}
    assert "agree" in rows["combine_masks"]
    assert "WRONG VALUE" in rows["masked_softmax"]
    assert "solution seen" in checkout.run("progress").stdout


def test_compare_of_a_passed_task_does_not_ask(checkout: Checkout, course: Catalogue) -> None:
    checkout.solve(course.task("attention/masking"))
    checkout.run("grade", "attention", "masking")
    shown = checkout.run("compare", "masking", COLUMNS="160")
    assert shown.returncode == 0
    softmax = next(line for line in shown.stdout.splitlines() if line.startswith("masked_softmax"))
    assert softmax.split().count("agree") == 2, "in value and in gradient"
    assert "solution seen" not in checkout.run("progress").stdout


def test_compare_survives_learner_code_that_does_not(checkout: Checkout, course: Catalogue) -> None:
    task = course.task("attention/masking")
    text = (
        task.solution().read_text(encoding="utf-8") + "\n\ndef combine_masks(*masks):\n    import os\n    os._exit(3)\n"
    )
    task.exercise(checkout.root).write_text(text, encoding="utf-8")
    shown = checkout.run("compare", "masking", "--yes")
    assert shown.returncode == 0
    assert "exit status 3" in shown.stdout


def test_a_note_is_shown_once_by_the_verdict_and_again_by_compare(checkout: Checkout, course: Catalogue) -> None:
    task = course.task("attention/masking")
    checkout.solve(task)

    def shows_it(*arguments: str) -> list[bool]:
        text = " ".join(checkout.run(*arguments).stdout.split())
        return [" ".join(part.split()) in text for part in task.note]

    assert shows_it("grade", "attention", "masking") == [True, True, True]
    assert shows_it("grade", "attention", "masking") == [False, False, False]
    assert shows_it("compare", "masking") == [True, True, True]


def test_figures_are_kept_to_look_at(checkout: Checkout, course: Catalogue) -> None:
    task = course.task("attention/patterns")
    checkout.solve(task)
    shown = checkout.run("grade", "attention", "patterns")
    assert shown.returncode == 0, shown.stdout
    (figure,) = (checkout.root / "checkpoints" / "figures").rglob("*.png")
    assert figure.relative_to(checkout.root).as_posix() in shown.stdout
    assert figure.read_bytes().startswith(b"\x89PNG")


def test_interrupted(checkout: Checkout, course: Catalogue) -> None:
    """Ctrl-C: what was graded is recorded, the workers are gone, no traceback."""
    checkout.solve(course.task("attention/masking"))
    looping = course.task("attention/scaled_dot_product").exercise(checkout.root)
    looping.write_text("import time\ntime.sleep(1000)\n", encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, "-m", "checkpoints", "grade", "attention", "masking", "scaled_dot_product"],
        cwd=checkout.root,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        encoding="utf-8",
    )
    assert process.stdout is not None
    shown = ""
    while "10 of 10" not in shown:
        line = process.stdout.readline()
        assert line, shown
        shown += line
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    rest, errors = process.communicate(timeout=30)
    assert process.returncode == 130, shown + rest + errors
    assert "Interrupted; what had been graded is recorded" in rest
    assert "Traceback" not in rest + errors
    assert "10 of 10" in checkout.run("progress").stdout


def test_a_malformed_catalogue_is_refused_by_name(checkout: Checkout) -> None:
    path = checkout.root / "checkpoints" / "catalogue" / "attention.toml"
    path.write_text(path.read_text(encoding="utf-8").replace("points = ", "pionts = ", 1), encoding="utf-8")
    shown = checkout.run("progress")
    assert shown.returncode == 2
    assert "checkpoints/catalogue/attention.toml: tasks.masking.pionts: no such key (did you mean points?)" in " ".join(
        shown.stdout.split()
    )


@pytest.mark.parametrize(
    "environment",
    [{"COLUMNS": "40"}, {"NO_COLOR": "1", "TERM": "dumb"}, {"PYTHONUTF8": "0", "PYTHONIOENCODING": "cp1252"}],
)
def test_any_terminal(checkout: Checkout, environment: dict[str, str]) -> None:
    """Forty columns, no colour, an old code page: everything is shown, nothing breaks."""
    for arguments in (("grade", "attention", "masking"), ("progress",), ("hint", "masking"), ("next",)):
        process = subprocess.run(
            [sys.executable, "-m", "checkpoints", *arguments],
            cwd=checkout.root,
            capture_output=True,
            env={**os.environ, **environment},
            check=False,
        )
        assert b"Traceback" not in process.stderr, process.stderr.decode(errors="replace")
        assert process.returncode in (0, 1)


def test_a_read_only_course_is_still_graded(checkout: Checkout, course: Catalogue) -> None:
    """The record cannot be written: the verdicts come all the same, and it is said."""
    checkout.solve(course.task("attention/masking"))
    (checkout.root / "checkpoints" / "record.json.new").mkdir()  # for root too, the file cannot be made
    shown = checkout.run("grade", "attention", "masking")
    assert shown.returncode == 0
    assert "not recorded" in shown.stdout


def test_an_editors_pytest_gives_the_same_verdict(checkout: Checkout, course: Catalogue) -> None:
    task = course.task("attention/masking")
    wrong = task.solution().read_text(encoding="utf-8").replace("combined & mask", "combined | mask")
    task.exercise(checkout.root).write_text(wrong, encoding="utf-8")
    tests = Path("tests", "attention", "test_masking.py")
    shown = subprocess.run(
        [sys.executable, "-m", "pytest", str(tests), "-q"],
        cwd=checkout.root,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert shown.returncode == 1
    assert "WRONG VALUE" in shown.stdout
    assert "combine_masks(" in shown.stdout
    others = [check for check in checks_of(task.tests()) if "combined" not in check]
    passed = re.search(r"(\d+) passed", shown.stdout)
    assert passed, shown.stdout
    assert len(others) <= int(passed[1]) < len(checks_of(task.tests()))
    assert "Traceback" not in shown.stdout
