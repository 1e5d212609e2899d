"""The capstone as a learner runs it: whose code it is, what it finds, interrupted, on other texts, on other weights."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from checkpoints import capstone, corpus
from checkpoints.catalogue import Catalogue

from .conftest import Checkout

BRIEFLY = ("--preset", "quick", "--minutes", "0.02")  # ten steps


def _results(checkout: Checkout, name: str = "stories-quick-0") -> dict[str, Any]:
    path = checkout.root / "checkpoints" / "capstone" / name / "results.json"
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def _words(text: str) -> str:
    return " ".join(text.split())


def test_a_mixture_runs_and_says_whose_it_is(checkout: Checkout, course: Catalogue) -> None:
    """What has passed is the learner's own, what has changed since or is a stub is lent; everything is kept."""
    own, changed = course.task("gpt2/model"), course.task("block/residual")
    checkout.solve(own, changed)
    for task in (own, changed):
        assert checkout.run("grade", task.sprint, task.name).returncode == 0
    with changed.exercise(checkout.root).open("a", encoding="utf-8") as file:
        file.write("\nraise RuntimeError('this text was never graded')\n")
    shown = checkout.run("capstone", *BRIEFLY)
    assert shown.returncode == 0, shown.stdout + shown.stderr
    said = _words(shown.stdout)
    assert "yours: gpt2/model " in said
    lent = said.split("lent from the solutions")[1].split("% of the running code")[0]
    assert "block/residual" in lent
    assert "gpt2/model" not in lent
    found = _results(checkout)
    assert 0.0 < found["share"] < 0.2
    assert found["evaluation"]["loss"] > found["floor"] > 0.0
    folder = checkout.root / "checkpoints" / "capstone" / "stories-quick-0"
    for name in ("loss", "schedule", "attention-0", "attention-1"):
        assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert "| loss |" in (folder / "evaluation.md").read_text(encoding="utf-8")


def test_interrupted_it_goes_on_and_beats_counting(checkout: Checkout) -> None:
    """Ctrl-C saves; the same command goes on from there, to a loss below what bigrams and 5-grams reach."""
    command = [sys.executable, "-m", "checkpoints", "capstone", "--preset", "quick"]
    environment = {**os.environ, "COLUMNS": "100", "PYTHONUTF8": "1"}
    process = subprocess.Popen(
        command, cwd=checkout.root, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8"
    )
    saved = checkout.root / "checkpoints" / "capstone" / "stories-quick-0" / "checkpoints"
    while not list(saved.glob("step-*.pt")):
        assert process.poll() is None, process.stdout.read() if process.stdout else ""
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "the same command goes on" in _words(said)
    step = max(int(path.name.split("-")[1].removesuffix(".pt")) for path in saved.glob("step-*.pt"))
    steps = capstone.PRESETS["quick"].steps
    assert step < steps
    shown = checkout.run("capstone", "--preset", "quick")
    assert shown.returncode == 0, shown.stdout + shown.stderr
    assert f"going on from the checkpoint of step {step}" in _words(shown.stdout)
    found = _results(checkout)
    assert [told["step"] for told in found["history"]] == sorted({told["step"] for told in found["history"]})
    assert found["history"][-1]["step"] == steps
    loss = found["evaluation"]["loss"]
    assert found["floor"] < loss < min(found["baselines"].values())


def test_texts_of_ones_own(checkout: Checkout, tmp_path: Path) -> None:
    """A folder of texts takes the place of the stories; then there is no floor. Texts that have changed are noticed."""
    folder = tmp_path / "my texts"
    folder.mkdir()
    stories = [corpus.story(1, number).text for number in range(300)]
    (folder / "eins.txt").write_text("\n\n".join(stories), encoding="utf-8")
    (folder / "zwei.md").write_text("# Überschrift\n\n" + "Größe, naïve, 漢字 🙂. " * 400, encoding="utf-8")
    arguments = ("capstone", *BRIEFLY, "--data", str(folder))
    shown = checkout.run(*arguments)
    assert shown.returncode == 0, shown.stdout + shown.stderr
    found = _results(checkout, "my texts-quick-0")
    assert found["floor"] is None
    assert found["evaluation"]["grammatical"] is None
    (folder / "drei.txt").write_text("more", encoding="utf-8")
    again = checkout.run(*arguments)
    assert again.returncode == 2
    assert "has changed since" in _words(again.stdout)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing", None, "no such file or folder"),
        ("empty.txt", b"", "two different paragraphs"),
        ("latin.txt", "Größe".encode("latin-1"), "not UTF-8 text"),
        ("table.xlsx", b"PK", "no file that ends in .txt"),
    ],
)
def test_texts_that_will_not_do(
    checkout: Checkout, tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    """What is wrong with a text is said in a line, without a traceback."""
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    shown = checkout.run("capstone", *BRIEFLY, "--data", str(path))
    assert shown.returncode == 2, shown.stdout
    assert message in _words(shown.stdout)
    assert "Traceback" not in shown.stdout + shown.stderr


def test_another_models_weights(checkout: Checkout, tmp_path: Path) -> None:
    """A folder that transformers saved is loaded into the model of the learner, who goes on from a prompt with it."""
    folder = tmp_path / "tiny"
    script = """
import sys, torch
from transformers import GPT2Config, GPT2LMHeadModel
from solutions.gpt2.tokenizer import train_bpe
tokenizer = train_bpe(["to be or not to be"] * 9, 270, special_tokens=["<|endoftext|>"])
end = tokenizer.special_tokens["<|endoftext|>"]
config = GPT2Config(vocab_size=tokenizer.vocab_size, n_positions=32, n_embd=16, n_layer=2, n_head=2,
                    bos_token_id=end, eos_token_id=end)
torch.manual_seed(0)
GPT2LMHeadModel(config).save_pretrained(sys.argv[1])
tokenizer.save(sys.argv[1])
"""
    subprocess.run([sys.executable, "-c", script, str(folder)], cwd=checkout.root, check=True, capture_output=True)
    arguments = ("capstone", "--checkpoint", str(folder), "--prompt", "to be", "--tokens", "9")
    shown = checkout.run(*arguments)
    assert shown.returncode == 0, shown.stdout + shown.stderr
    last = shown.stdout.strip().splitlines()[-1]
    assert last.startswith("to be")
    assert len(last) > len("to be")
    assert checkout.run(*arguments).stdout == shown.stdout  # of the same seed
    (folder / "model.safetensors").write_bytes(b"not weights")
    broken = checkout.run(*arguments)
    assert broken.returncode == 2
    assert "model.safetensors" in _words(broken.stdout).replace(" ", "")
    assert "Traceback" not in broken.stdout + broken.stderr


def test_lines_of_code_are_counted_alike() -> None:
    """Comments, docstrings and line breaks count nothing."""
    short = "def f(x):\n    return g(x, 1)\n"
    long = (
        'def f(\n    x,\n):\n    """Say\n\n    much."""\n    # and more\n    return g(\n        x,\n        1,\n    )\n'
    )
    assert capstone.code_lines(short) == capstone.code_lines(long) == 2


def test_pages_hold_all_of_a_text() -> None:
    """Paragraphs are put together into pages of so many tokens; one that is too long is cut between words."""

    def encode(text: str) -> list[int]:
        return list(text.encode())

    paragraphs = ["one two", "three", "four five six seven eight nine", "t" * 50, "ten"]
    pages = list(capstone.pages(paragraphs, encode, 20))
    assert all(len(encode(page)) <= 20 for page in pages)
    assert "".join("".join(pages).split()) == "".join("".join(paragraphs).split())
