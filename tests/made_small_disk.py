"""Real small file systems: a run on one that fills up, or becomes read-only under it, in a process of its own.

`python -m tests.made_small_disk FOLDER WHAT` is started where it may mount, as `unshare -rm` lets it, and writes what
came of it to FOLDER/outcome.json.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from labelembed.errors import LabelEmbedError
from labelembed.lab.training.checkpoints import load_newest
from labelembed.lab.training.progress import Progress
from labelembed.lab.training.run_folder import RunFolder
from tests.made_training import after_steps, contents, differences, small_recipe, train

BYTES = 16 * 2**20
_NAMESPACE = ["unshare", "-rm"]


def outcome_on_small_disk(folder: Path, what: str) -> dict[str, Any]:
    """Runs this module in a mount namespace of its own and returns the outcome; skips where there can be none."""
    folder.mkdir(parents=True, exist_ok=True)
    mount = f"mount -t tmpfs -o size={BYTES} small '{folder}'"
    try:
        tried = subprocess.run([*_NAMESPACE, "sh", "-c", mount], capture_output=True, text=True, timeout=30)
        reason = tried.stderr.strip() if tried.returncode else ""
    except OSError as error:
        reason = str(error)
    if reason:
        pytest.skip(f"a file system cannot be mounted here ({reason})")
    words = [*_NAMESPACE, sys.executable, "-m", "tests.made_small_disk", str(folder), what]
    made = subprocess.run(words, capture_output=True, text=True, timeout=280, cwd=Path(__file__).parents[1])
    assert made.returncode == 0, made.stderr
    outcome: dict[str, Any] = json.loads((folder / "outcome.json").read_text())
    return outcome


def _mounted(folder: Path, *options: str) -> None:
    subprocess.run(["mount", *options, str(folder)], check=True, timeout=30)


def _made_read_only(folder: Path) -> None:
    """Lays the file system over itself, read-only: itself cannot be, while a run has its lock open for writing."""
    _mounted(folder, "--bind", str(folder))
    _mounted(folder, "-o", "remount,bind,ro")


def _fill(folder: Path) -> None:
    with contextlib.suppress(OSError), (folder / "ballast").open("wb", buffering=0) as file:
        for size in (2**16, 2**12):
            with contextlib.suppress(OSError):
                while True:
                    file.write(bytes(size))


def _broken_by(folder: Path, unbroken: Path, harm: Any, heal: Any) -> dict[str, Any]:
    """Runs with harm done to the disk after the first epoch, and again when it is healed."""
    steps: list[int] = []

    def watch(progress: Progress) -> None:
        if progress.line is not None and progress.epoch == 1:
            harm()

    found: dict[str, Any] = {}
    with after_steps(1, lambda: steps.append(1)):
        try:
            train(small_recipe(), folder, observe=watch)
        except LabelEmbedError as error:
            found = {"message": str(error), "code": error.exit_code, "steps": len(steps)}
    checkpoint, damaged = load_newest(folder / "checkpoints")
    found |= {"kept": None if checkpoint is None else checkpoint.step, "damaged": damaged}
    heal()
    train(small_recipe(), folder)
    return found | {"differences": differences(contents(folder), contents(unbroken))}


def main() -> None:
    """Does what the words say."""
    folder, what = Path(sys.argv[1]), sys.argv[2]
    torch.set_num_threads(1)
    disk = folder / "disk"
    disk.mkdir()
    _mounted(disk, "-t", "tmpfs", "-o", f"size={BYTES}", "small")
    outcome: dict[str, Any] = {"free": shutil.disk_usage(disk).free}
    train(small_recipe(), folder / "unbroken")
    if what == "full":
        try:
            train(small_recipe(model={"name": "mlp", "hidden_sizes": [1200, 400]}), disk / "large")
        except LabelEmbedError as error:
            outcome |= {"message": str(error), "code": error.exit_code, "state": RunFolder(disk / "large").state()}
        outcome["run"] = _broken_by(disk / "run", folder / "unbroken", lambda: _fill(disk), (disk / "ballast").unlink)
    else:
        outcome["run"] = _broken_by(
            disk / "run",
            folder / "unbroken",
            lambda: _made_read_only(disk),
            lambda: subprocess.run(["umount", str(disk)], check=True, timeout=30),
        )
    (folder / "outcome.json").write_text(json.dumps(outcome))


if __name__ == "__main__":
    main()
