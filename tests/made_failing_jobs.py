"""Runs of a comparison or a tuning that come to harm in their worker processes, for the tests of what is left then."""

from __future__ import annotations

import ctypes
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from labelembed.lab.runs.jobs import run_job

from labelembed.lab.training.reporter import Progress
from tests.made_training import attempt

#: Beside the runs: what happens to which of them, ``{"variant/seed-N": ["killed", times]}``.
HARMS = "harms.json"


def harmed_job(payload: dict[str, Any], observe: Callable[[Progress], None], stop: Callable[[], bool]) -> Any:
    """Makes a run of a comparison as `run_job` does, to which after its second epoch, or a later one where it
    goes on from there, happens what `HARMS` says.
    """
    folder = Path(payload["folder"])
    base = next(parent for parent in folder.parents if (parent / HARMS).exists())
    how, times = json.loads((base / HARMS).read_text()).get("/".join(folder.parts[-2:]), ("", 0))
    made = attempt(f"{base}/attempts-{'-'.join(folder.parts[-2:])}")

    def watch(progress: Progress) -> None:
        observe(progress)
        if progress.line is not None and progress.epoch >= 2 and made <= times:
            _harm(how)

    return run_job(payload, watch, stop)


def _harm(how: str) -> None:
    if how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    elif how == "a crash":
        ctypes.string_at(0)
    elif how == "ended":
        print("the last word", flush=True)
        os._exit(7)
    raise RuntimeError("the job's own error")
