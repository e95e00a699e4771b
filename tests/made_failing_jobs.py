"""Runs of a comparison or a tuning that come to harm in their worker processes, for the tests of what is left then.

Imported by the fork server of the tests, so that the runs of its processes come to harm where a file asks for it.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import time
from collections.abc import Callable
from typing import Any

import torch

from labelembed.lab.runs import pools
from labelembed.lab.runs.pools import Job
from labelembed.lab.training.run_folder import RunFolder

#: Beside the runs: what happens to which of them, ``{"variant/seed-N": ["killed", times]}``.
HARMS = "harms.json"
_attempt, _append = pools.attempt, RunFolder.append_history


def harmed(job: Job, stop: Callable[[], bool] = lambda: False) -> str:
    """Makes a run as `pools.attempt` does, to which after its second epoch, or a later one where it goes on from
    there, happens what `HARMS` says; a recipe that says what to `do` is no run at all.
    """
    if isinstance(job.recipe, dict):
        _do(job, stop)
        return ""
    base = next((parent for parent in job.folder.parents if (parent / HARMS).exists()), None)
    if base is not None:
        name = "/".join(job.folder.parts[-2:])
        how, times = json.loads((base / HARMS).read_text()).get(name, ("", 0))
        with (base / f"attempts-{name.replace('/', '-')}").open("a+") as attempts:
            attempts.write("x")
            made = attempts.tell()

        def append(folder: RunFolder, line: dict[str, Any]) -> None:
            _append(folder, line)
            if made <= times and line["epoch"] > 1:
                print("the last word", flush=True)
                _harm(how)

        RunFolder.append_history = append  # type: ignore[method-assign]
    return _attempt(job, stop)


def _harm(how: str) -> None:
    if how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    elif how == "a crash":
        ctypes.string_at(0)
    elif how == "ended":
        os._exit(7)
    raise RuntimeError("the job's own error")


def _do(job: Job, stop: Callable[[], bool]) -> None:
    facts: dict[str, Any] = {"pid": os.getpid(), "threads": torch.get_num_threads()}
    facts |= {name: os.environ.get(name) for name in ("CUDA_VISIBLE_DEVICES", "LABELEMBED_CACHE")}
    (job.folder / "facts.json").write_text(json.dumps(facts))
    while job.recipe["do"] == "wait" and not stop():
        time.sleep(0.02)


pools.attempt = harmed
