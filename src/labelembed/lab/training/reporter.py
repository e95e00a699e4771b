"""Progress, notes and warnings of a run, and the trackers that it is logged to."""

from __future__ import annotations

import contextlib
import os
import sys
import uuid
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from typing import Any, NamedTuple

from labelembed.errors import LabelEmbedError, unknown_name
from labelembed.lab.training.run_folder import RunFolder

#: Trackers by name, and what is imported for each.
TRACKERS = {"tensorboard": "torch.utils.tensorboard", "wandb": "wandb", "mlflow": "mlflow"}
#: Of a run folder: its trackers, and its id in each.
TRACKING_FILE = "tracking.json"


class Progress(NamedTuple):
    """The progress of a run."""

    epoch: int
    epochs: int
    batch: int
    batches: int
    line: dict[str, Any] | None
    """The history's line when an epoch has just ended."""


class Reporter:
    """Receives the progress of a run; this one ignores it, and subclasses show, log or forward it."""

    def progress(self, progress: Progress) -> None:
        """Receives the progress, a few times a second and at the end of each epoch."""

    def note(self, text: str) -> None:
        """Receives a sentence on the current activity."""

    def warn(self, text: str) -> None:
        """Receives a warning for the user."""

    def reading(self, done: int, total: int) -> None:
        """Receives how many examples are read, while pictures are decoded or texts are encoded."""

    def wants_stop(self) -> bool:
        """Returns whether to save and stop after this step, as a signal has it do in the main thread."""
        return False


def tracker_names(given: str | Sequence[str] | None) -> list[str]:
    """Returns the trackers that `--track` names, as a list or with commas between them; refuses what is not there."""
    parts = given.split(",") if isinstance(given, str) else given or ()
    names = list(dict.fromkeys(part.strip() for part in parts if part.strip()))
    for name in names:
        if name not in TRACKERS:
            raise LabelEmbedError(f"--track: {unknown_name('tracker', name, TRACKERS)}")
        try:
            import_module(TRACKERS[name])
        except ImportError as error:
            what = f"--track {name} needs the package {name}, which cannot be imported ({error})"
            raise LabelEmbedError(f"{what}: pip install 'labelembed[track]'") from error
    return names


@contextlib.contextmanager
def tracked(folder: RunFolder, names: Sequence[str], warn: Callable[[str], None]) -> Iterator[Callable[..., None]]:
    """Gives a function that logs the line of an epoch to the trackers; one that fails is left out, with a warning.

    A resumed run keeps its trackers, in wandb under the same id; `names` adds to them.
    """
    from pandas import json_normalize

    before = {name: str(identity) for name, identity in folder.read(TRACKING_FILE).items() if name in TRACKERS}
    known = {name: uuid.uuid4().hex for name in names} | before
    trackers: dict[str, Any] = {}

    def attempt(name: str, call: Callable[..., None], *arguments: Any) -> None:
        try:
            with contextlib.redirect_stdout(sys.stderr):
                call(*arguments)
        except Exception as error:  # a package that is missing, no login, no server: each raises its own
            trackers.pop(name, None)
            warn(f"--track {name} has failed and is left out ({type(error).__name__}: {' '.join(str(error).split())})")

    def start(name: str) -> None:
        trackers[name] = tracker = _tracker(name, folder, known[name])
        tracker.main_process_only = False  # whoever calls this is the main process
        tracker.start()
        config = json_normalize(folder.recipe()).to_dict("records")[0].items()
        plain = {str(key): value if isinstance(value, int | float) else str(value) for key, value in config}
        tracker.store_init_configuration(plain)

    def log(line: dict[str, Any]) -> None:
        values = json_normalize(line, sep="/").to_dict("records")[0].items()
        numbers = {key: value for key, value in values if isinstance(value, int | float)}
        for name, tracker in list(trackers.items()):
            attempt(name, tracker.log, numbers, line["epoch"])

    for name in known:
        attempt(name, start, name)
    if known:
        folder.write(TRACKING_FILE, known)
    try:
        yield log
    finally:
        for name, tracker in list(trackers.items()):
            attempt(name, tracker.finish)


def _tracker(name: str, folder: RunFolder, identity: str) -> Any:
    from accelerate.tracking import MLflowTracker, TensorBoardTracker, WandBTracker

    run = str(folder.path)
    if name == "tensorboard":  # with `purge_step` it forgets the epochs that a resumed run makes again
        return TensorBoardTracker("tensorboard", logging_dir=run, purge_step=len(folder.history()) + 1)
    if name == "wandb":
        return WandBTracker(os.environ.get("WANDB_PROJECT", "labelembed"), name=run, id=identity, resume="allow")
    return MLflowTracker(os.environ.get("MLFLOW_EXPERIMENT_NAME", "labelembed"), run_name=run)
