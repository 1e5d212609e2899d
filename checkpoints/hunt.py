"""`hunt`: a subtly wrong implementation, to be told from the right one by a test of the learner's."""

import argparse

from . import Problem
from .catalogue import Catalogue
from .screen import Screen


def arguments(parser: argparse.ArgumentParser) -> None:
    """What may be given after the verb."""


def run(course: Catalogue, screen: Screen, options: argparse.Namespace) -> int:
    """Run the verb; returns the exit status."""
    raise Problem("not there yet")
