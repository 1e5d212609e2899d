"""Imported first by a process that a worker's code starts afresh: decides there, too, whose code `exercises` is.

A forked process has that with everything else. Where processes are started afresh (macOS, Windows, newer Pythons),
`multiprocessing` imports the parent's main module before it unpickles anything; a worker names this one.
"""

import os
import pickle
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .trees import Tree

VARIABLE = "CHECKPOINTS_TREE"


def share(tree: "Tree", scratch: str) -> None:
    """Let the processes that this one starts have the same tree."""
    path = Path(scratch, "tree.pickle")
    path.write_bytes(pickle.dumps((list(tree.tasks.values()), dict(tree.sources), str(tree.root), str(tree.home))))
    os.environ[VARIABLE] = str(path)
    main = ModuleType("__main__")
    main.__spec__ = __spec__  # what multiprocessing asks for the name of the module to import
    sys.modules["__main__"] = main


def _take_over() -> None:
    from .trees import Tree

    tasks, sources, root, home = pickle.loads(Path(os.environ[VARIABLE]).read_bytes())
    Tree(tasks, sources, root=Path(root), home=Path(home)).install()


if __name__ == "__mp_main__":
    _take_over()
