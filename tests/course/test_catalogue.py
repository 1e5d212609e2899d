"""The catalogue, the trees and the tests name the same tasks; what is malformed is refused by file and key."""

import ast
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from checkpoints import ROOT, catalogue
from checkpoints.catalogue import Catalogue, CatalogueError, UnknownNameError, checks_of

GOOD = """
title = "Something"
pass_mark = 80
[tasks.first]
title = "a thing"
points = 10
backlog = "Do the thing"
hints = ["What?", "That.", "Nearly."]
note = ["For this.", "So.", "And why?"]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., Path]:
    """A made-up catalogue."""

    def write(ladder: str = 'sprints = ["some"]', some: str = GOOD) -> Path:
        (tmp_path / "ladder.toml").write_text(ladder, encoding="utf-8")
        (tmp_path / "some.toml").write_text(some, encoding="utf-8")
        return tmp_path

    return write


def test_a_good_one(folder: Callable[..., Path]) -> None:
    course = catalogue.load(folder())
    (task,) = course.tasks()
    assert (task.id, task.points, task.hints[2], course.sprints[0].points_to_pass) == ("some/first", 10, "Nearly.", 8)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("points = 10", 'points = "ten"', "some.toml: tasks.first.points: must be a whole number, not 'ten'"),
        ("points = 10", "points = true", "some.toml: tasks.first.points: must be a whole number"),
        ("points = 10", "points = 0", "some.toml: tasks.first.points: must be above 0"),
        ("points = 10", "", "some.toml: tasks.first.points: missing"),
        ("points = 10", "point = 10", "some.toml: tasks.first.point: no such key (did you mean points?)"),
        ('title = "a thing"', 'title = " "', "some.toml: tasks.first.title: must not be empty"),
        (', "Nearly."]', "]", "some.toml: tasks.first.hints: must be three"),
        (', "And why?"]', "]", "some.toml: tasks.first.note: must be three (what it is for, what the solution does"),
        ('"Nearly."', "3", "some.toml: tasks.first.hints[2]: must be a string"),
        ("pass_mark = 80", "pass_mark = 120", "some.toml: pass_mark: must be from 1 to 100"),
        (
            "[tasks.first]",
            "[tasks.'not a name']",
            "some.toml: tasks.not a name: a task's name must be a Python identifier",
        ),
        ("pass_mark = 80", "pass_mark = ", "some.toml: not valid TOML"),
        ("[tasks.first]", "[tasks.first]\nseconds = -1", "some.toml: tasks.first.seconds: must be above 0"),
    ],
)
def test_a_malformed_sprint(folder: Callable[..., Path], old: str, new: str, words: str) -> None:
    with pytest.raises(CatalogueError) as caught:
        catalogue.load(folder(some=GOOD.replace(old, new)))
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("ladder", "words"),
    [
        ('sprints = ["some", "other"]', "other.toml: no such file"),
        ('sprints = ["some", "some"]', "ladder.toml: sprints[1]: 'some' is there twice"),
        ("sprints = []", "ladder.toml: sprints: some.toml is not on the ladder"),
        ('sprint = ["some"]', "ladder.toml: sprint: no such key"),
    ],
)
def test_a_malformed_ladder(folder: Callable[..., Path], ladder: str, words: str) -> None:
    with pytest.raises(CatalogueError) as caught:
        catalogue.load(folder(ladder=ladder))
    assert words in str(caught.value)


def test_names_and_the_nearest(course: Catalogue) -> None:
    assert course.sprint("sprint-attention").task("attention/masking") is course.task("masking")
    with pytest.raises(
        UnknownNameError, match=r"no task 'maskin' in sprint-attention\. Did you mean masking\? There are: masking, "
    ):
        course.sprint("attention").task("maskin")
    with pytest.raises(UnknownNameError, match=r"no sprint 'atention' in the ladder.*Did you mean attention"):
        course.sprint("atention")


def test_the_trees_hold_the_same_tasks(course: Catalogue) -> None:
    """No task without its four files, and no stray file."""
    ids = {task.id for task in course.tasks()}
    for tree, prefix in (("exercises", ""), ("solutions", ""), ("tests", "test_")):
        files = {
            f"{path.parent.name}/{path.stem.removeprefix(prefix)}"
            for path in (ROOT / tree).glob("*/*.py")
            if path.parent.name != "course"
        }
        stray = files - ids if tree != "exercises" else set()  # a learner may add modules of their own
        assert not stray, f"{tree} holds what the catalogue does not name"
        assert ids <= files, f"{tree} lacks what the catalogue names"
    sprints = {sprint.name for sprint in course.sprints}
    assert {
        path.name for path in (ROOT / "solutions").iterdir() if path.is_dir() and path.name != "__pycache__"
    } == sprints


def test_every_sprint_teaches(course: Catalogue) -> None:
    """Each sprint has a README with a section for each task: that is where verdicts send the learner."""
    for sprint in course.sprints:
        text = (ROOT / "exercises" / sprint.name / "README.md").read_text(encoding="utf-8")
        for task in sprint.tasks:
            assert f"\n## {task.name}\n" in text, task.id


def test_the_readme_shows_the_ladder(course: Catalogue) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| [`sprint-")]
    assert len(rows) == len(course.sprints)
    for row, sprint in zip(rows, course.sprints, strict=True):
        assert f"`sprint-{sprint.name}`" in row
        assert sprint.title in row
        assert ", ".join(task.name for task in sprint.tasks) in row
        assert f"{sprint.pass_mark} %" in text


def test_every_hint_says_something(course: Catalogue) -> None:
    for task in course.tasks():
        assert len(set(task.hints)) == 3, task.id
        for hint in task.hints:
            assert len(hint.split()) >= 6, f"{task.id}: {hint}"


def test_every_note_says_something(course: Catalogue) -> None:
    """What it is for, what the solution does, and something to think about, which is a question."""
    for task in course.tasks():
        assert len(set(task.note)) == 3, task.id
        for part in task.note:
            assert len(part.split()) >= 8, f"{task.id}: {part}"
        assert "?" in task.note[2], task.id


def test_every_backlog_line_is_served_once(course: Catalogue) -> None:
    lines = [task.backlog for task in course.tasks()]
    assert len(set(lines)) == len(lines)


def test_checks_are_plain_functions_with_titles(course: Catalogue) -> None:
    """What `checks_of` finds without importing is all there is, and each title fits into a line."""
    for task in course.tasks():
        tree = ast.parse(task.tests().read_text(encoding="utf-8"))
        found = {
            node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name.startswith("test")
        }
        checks = checks_of(task.tests())
        assert found == set(checks)
        for check, title in checks.items():
            assert title != check, f"{task.id}: {check} has no title"
            assert len(title) <= 110, f"{task.id}: {check}"
        assert len(set(checks.values())) == len(checks), task.id


def test_the_catalogue_is_read_without_torch() -> None:
    code = "import sys; from checkpoints import catalogue, environment; catalogue.load(); print(sorted({'torch', 'rich', 'pytest'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, encoding="utf-8", check=True)
    assert found.stdout.strip() == "[]"


def test_nothing_else_stands_at_the_top() -> None:
    allowed = {"README.md", "LICENSE", "pyproject.toml", "noxfile.py", "exercises", "solutions", "tests", "checkpoints"}
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, encoding="utf-8", check=False)
    if tracked.returncode:
        pytest.skip("this is not a git checkout, so what belongs to the course cannot be told from what does not")
    top = {line.split("/")[0] for line in tracked.stdout.splitlines()}
    assert {name for name in top if not name.startswith(".")} == allowed
