"""The process of which the processes of runs are forked: it has imported what a run needs.

This module imports no torch, so that a verb can start the server first and import torch while the server does.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import sys
from collections.abc import Iterator
from multiprocessing import forkserver, resource_tracker
from types import ModuleType

from labelembed.lab.training.signals import held_back


def start_fork_server() -> None:
    """Starts the fork server if there is none yet; its imports go on while this process does something else."""
    multiprocessing.get_context("forkserver").set_forkserver_preload(["labelembed.lab.runs.preloaded"])
    resource_tracker.ensure_running()  # first, because starting it would let signals come again
    with held_back(), main_module_hidden():
        forkserver.ensure_running()


@contextlib.contextmanager
def main_module_hidden() -> Iterator[None]:
    """Hides the main module, which a new process would import: a script may call `labelembed.compare` at its top."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
