"""The course's machinery: the catalogue, the grader, the learner's record and the verbs."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


class Problem(Exception):
    """What was asked for cannot be done; the message says why, and what to do."""
