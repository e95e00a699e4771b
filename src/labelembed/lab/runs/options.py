"""Options of a run that do not change its result, and the environment that the run folder records."""

from __future__ import annotations

import contextlib
import platform
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

_PACKAGES = ("labelembed", "torch", "numpy", "accelerate", "safetensors", "scikit-learn")


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How a run is made on this machine; none of it changes the result.

    Args:
        device: `cpu`; None for what there is.
        track: Log the epochs to these trackers too, see `training.reporter`; a run keeps those that it has.
        overwrite: Train anew: what is in the folder goes once the new run can begin.
        change: Go on with a recipe that is not the folder's, from where the run stands, where its weights fit.
        lock_seconds: How long to wait for another process that trains this run.
    """

    device: str | None = None
    track: Sequence[str] = ()
    overwrite: bool = False
    change: bool = False
    lock_seconds: float = 0.0


def describe_environment(device: torch.device) -> dict[str, Any]:
    """Returns versions, machine, commit, command and threads as JSON values; `device` is the one trained on."""
    program = Path(sys.argv[0])
    is_ours = "labelembed" in (program.stem, program.parent.name)  # the script, or __main__.py of `python -m`
    packages: dict[str, str | None] = dict.fromkeys(_PACKAGES)
    for name in _PACKAGES:
        with contextlib.suppress(PackageNotFoundError):  # run from a source tree that was not installed
            packages[name] = version(name)
    return {
        "python": platform.python_version(),
        "packages": packages,
        "commit": _commit(),
        "platform": platform.platform(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "command": ["labelembed", *sys.argv[1:]] if is_ours else ["python", *filter(None, sys.argv)],
    }


@cache
def _commit() -> str | None:
    """Returns the commit of the source tree this package stands in, with `-modified` where it has changed."""
    here = Path(__file__).parent
    if (here.parents[3] / ".git").exists():
        words = ["git", "describe", "--always", "--exclude=*", "--abbrev=40", "--dirty=-modified"]
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            return subprocess.run(words, cwd=here, capture_output=True, text=True, timeout=5, check=True).stdout.strip()
    return None
