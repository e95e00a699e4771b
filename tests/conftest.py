"""What every test starts from."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

try:
    from labelembed.lab.runs import pools
except ModuleNotFoundError:  # the library alone, whose tests need no lab
    pass
else:
    # Runs in processes of their own come to harm where a test asks for it, whichever folder it stands in.
    pools.PRELOADED.append("tests.made_failing_jobs")
    _PATHS = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, _PATHS))

# One thread: the tests' matrices are small, and several test processes would fight over the cores.
torch.set_num_threads(1)

# What tests decode stays out of the cache of whoever runs them; the folder goes with the process.
_CACHE = tempfile.TemporaryDirectory(prefix="labelembed-tests-")
os.environ["LABELEMBED_CACHE"] = _CACHE.name


@pytest.fixture(scope="session", autouse=True)
def first_fork_server() -> None:
    """Starts the fork server in the processes of xdist, before any test changes what its processes can import."""
    if "PYTEST_XDIST_WORKER" in os.environ and "labelembed.lab.runs" in sys.modules:  # not for the library alone
        from tests.made_training import fork_server

        fork_server()


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Leaves the next test with one thread, whatever this one has set."""
    yield
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def no_flush(monkeypatch: pytest.MonkeyPatch) -> None:
    """Saves without waiting for the disk; processes that are killed are others, which do wait."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


@pytest.fixture
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Works in the folder of the test."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def hooks() -> Iterator[list[Any]]:
    """Collects handles of hooks on all modules and optimisers, which are removed after the test."""
    handles: list[Any] = []
    yield handles
    for handle in handles:
        handle.remove()
