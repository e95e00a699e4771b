"""What a run tells whoever watches it, and the trackers that it is logged to."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from typing import Any, NamedTuple

from labelembed.errors import LabelEmbedError, unknown_name
from labelembed.lab.errors import RunFolderError
from labelembed.lab.training.run_folder import RunFolder

#: Trackers by name, and what is imported for each.
TRACKERS = {"tensorboard": "torch.utils.tensorboard", "wandb": "wandb", "mlflow": "mlflow"}
#: Of a run folder: TensorBoard's files, and the run's ids in all trackers, with which a resumed run goes on.
TENSORBOARD_FOLDER, TRACKING_FILE = "tensorboard", "tracking.json"


class Progress(NamedTuple):
    """Where a run stands, for whoever watches."""

    epoch: int
    epochs: int
    batch: int
    batches: int
    seconds: float
    line: dict[str, Any] | None
    """The history's line when an epoch has just ended."""


class Reporter:
    """Watches a run; this one says nothing. Whoever shows, logs or forwards what happens overrides its methods."""

    def progress(self, progress: Progress) -> None:
        """Takes where the run stands, a few times a second and at the end of each epoch."""

    def note(self, text: str) -> None:
        """Takes what goes on, for people."""

    def warn(self, text: str) -> None:
        """Takes what the user should know."""

    def reading(self, done: int, total: int) -> None:
        """Takes how many examples are read, while pictures are decoded or texts go through an encoder."""

    def wants_stop(self) -> bool:
        """Returns whether to save and stop after this step, as a signal has it do in the main thread."""
        return False


def tracker_names(given: str | Sequence[str] | None) -> list[str]:
    """Returns the trackers that `--track` names, as a list or with commas between them.

    Raises:
        LabelEmbedError: One of them is unknown, or its package is not installed.
    """
    parts = given.split(",") if isinstance(given, str) else given or ()
    names = list(dict.fromkeys(part.strip() for part in parts if part.strip()))
    for name in names:
        if name not in TRACKERS:
            raise LabelEmbedError(f"--track: {unknown_name('tracker', name, TRACKERS)}")
        try:
            import_module(TRACKERS[name])
        except ImportError as error:
            raise LabelEmbedError(
                f"--track {name} needs the package {name}, which cannot be imported ({error}): pip install {name}, "
                "or all trackers: pip install 'labelembed[track]'"
            ) from error
    return names


@contextlib.contextmanager
def tracked(folder: RunFolder, names: Sequence[str], warn: Callable[[str], None]) -> Iterator[Callable[..., None]]:
    """Gives a function that logs the line of an epoch to the trackers; one that fails later is left out.

    Args:
        folder: The run's, with its recipe.
        names: See `tracker_names`. A run goes on with the trackers that it has, named or not.
        warn: Called when a tracker that was not named cannot be started, and when one fails.

    Raises:
        LabelEmbedError: When a tracker that was named cannot be started.
    """
    known: dict[str, Any] = {}
    with contextlib.suppress(RunFolderError):  # a damaged file: they begin new runs
        known = {name: value for name, value in folder.read(TRACKING_FILE).items() if name in TRACKERS}
    trackers: dict[str, Any] = {}
    for name in dict.fromkeys([*known, *names]):
        try:
            trackers[name], known[name] = _started(name, folder, known.get(name))
        except Exception as error:  # a package that is missing, no login, no server: each raises its own
            what = f"--track {name}: cannot be started ({type(error).__name__}: {' '.join(str(error).split())})"
            if name in names:
                raise LabelEmbedError(f"{what}; correct it, or leave it out") from error
            warn(f"{what}; the run goes on without it")
    if trackers:
        folder.write(TRACKING_FILE, known)

    def tell(name: str, call: Callable[..., None], *arguments: Any, **named: Any) -> None:
        try:
            with contextlib.redirect_stdout(sys.stderr):
                call(*arguments, **named)
        except Exception as error:
            trackers.pop(name, None)
            warn(f"{name} has failed and is left out ({type(error).__name__}: {' '.join(str(error).split())})")

    def log(line: dict[str, Any]) -> None:
        numbers = {key: value for key, value in _flat(line, "/").items() if isinstance(value, (int, float))}
        numbers.pop("epoch")
        for name, tracker in list(trackers.items()):
            tell(name, tracker.log, numbers, step=line["epoch"])

    try:
        yield log
    finally:
        for name, tracker in list(trackers.items()):
            tell(name, tracker.finish)


def _started(name: str, folder: RunFolder, identity: str | None) -> tuple[Any, str]:
    """Returns a tracker, of a new run with the recipe as its configuration, and the run's id in it."""
    from accelerate.tracking import MLflowTracker, TensorBoardTracker, WandBTracker

    run = str(folder.path)
    if name == "tensorboard":  # with `purge_step` it forgets the epochs that a resumed run makes again
        tracker = TensorBoardTracker(TENSORBOARD_FOLDER, logging_dir=run, purge_step=len(folder.history()) + 1)
    elif name == "wandb":
        project = os.environ.get("WANDB_PROJECT", "labelembed")
        tracker = WandBTracker(project, name=run, id=identity or None, resume="allow")
    else:
        experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME", "labelembed")
        import_module("mlflow").set_experiment(experiment)  # as several processes may at once, which `start` may not
        tracker = MLflowTracker(experiment, run_id=identity or None, run_name=run)
    tracker.main_process_only = False  # whoever calls this is the main process
    with contextlib.redirect_stdout(sys.stderr):
        tracker.start()
        if identity is None:
            config = _flat(folder.recipe(), ".").items()
            plain = {key: value if isinstance(value, (int, float)) else str(value) for key, value in config}
            tracker.store_init_configuration(plain)
    if name == "tensorboard":
        return tracker, ""
    return tracker, tracker.tracker.id if name == "wandb" else tracker.tracker.info.run_id


def _flat(values: dict[str, Any], separator: str, prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        below = isinstance(value, dict)
        flat |= _flat(value, separator, f"{prefix}{key}{separator}") if below else {f"{prefix}{key}": value}
    return flat
