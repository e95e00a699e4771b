"""A run's history in TensorBoard, Weights & Biases or MLflow, by Accelerate's trackers."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from labelembed.errors import LabelEmbedError, unknown_name
from labelembed.json_files import read_json
from labelembed.lab.training.device import one_for_all
from labelembed.lab.training.files import write_json
from labelembed.lab.training.progress import Progress
from labelembed.lab.training.run_folder import RunFolder

#: What can be named, and what is imported for it.
TRACKERS = {"tensorboard": "torch.utils.tensorboard", "wandb": "wandb", "mlflow": "mlflow"}
#: Of a run folder: TensorBoard's files, and the runs of all trackers by their ids, with which a resumed run goes on.
TENSORBOARD_FOLDER, TRACKING_FILE = "tensorboard", "tracking.json"


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
def tracked(
    folder: RunFolder, observe: Callable[[Progress], None], *, names: Sequence[str], warn: Callable[[str], None]
) -> Iterator[Callable[[Progress], None]]:
    """Gives what is to watch a run: `observe`, and before it the trackers.

    A tracker is first given the epochs of the history that it does not have: of a resumed run none is missing, wherever
    it was killed. One that fails later is left out for the rest of the run.

    Args:
        folder: The run's, with its recipe; its history is cut to where the run goes on.
        observe: Called in any case.
        names: See `tracker_names`. A run goes on with the trackers that it has, named or not.
        warn: Called when a tracker that was not named cannot be started, and when one fails.

    Raises:
        LabelEmbedError: When a tracker that was named cannot be started.
    """
    with contextlib.ExitStack() as open_trackers:
        trackers: dict[str, Any] = {}
        for name in dict.fromkeys([*_runs_of(folder), *names]):
            try:
                trackers[name] = _started(name, folder)
            except LabelEmbedError as error:
                if name in names:
                    raise
                warn(f"{error}; the run goes on without it")
                continue
            open_trackers.callback(_tell, trackers[name].finish, warn=warn)

        def watch(progress: Progress) -> None:
            for name, tracker in list(trackers.items()):
                line = progress.line
                if line is not None and not _tell(tracker.log, _numbers(line), step=line["epoch"], warn=warn):
                    del trackers[name]
            observe(progress)

        yield watch


def track_ended(path: Path, names: Sequence[str], *, device: str | None = None) -> None:
    """Gives the history of a run that has ended to the trackers that do not have it; of several processes one does.

    Raises:
        LabelEmbedError: When a tracker cannot be started.
    """
    if not names:
        return
    with one_for_all(device=device) as first:
        for name in names if first else ():
            if name not in _runs_of(RunFolder(path)):
                _tell(_started(name, RunFolder(path)).finish, warn=lambda message: print(message, file=sys.stderr))


def _runs_of(folder: RunFolder) -> dict[str, str]:
    """Returns the ids of a run by its trackers; none where the file is missing or damaged."""
    with contextlib.suppress(OSError, ValueError):
        known = read_json(folder.path / TRACKING_FILE)
        return {name: str(known[name]) for name in TRACKERS if name in known} if isinstance(known, dict) else {}
    return {}


def _started(name: str, folder: RunFolder) -> Any:
    """Returns a tracker that has the run's recipe as its configuration, and the epochs of the history.

    Raises:
        LabelEmbedError: It cannot be started.
    """
    try:
        return _with_history(name, folder)
    except Exception as error:  # a package that is missing, no login, no server: each raises its own
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise LabelEmbedError(f"--track {name}: cannot be started ({reason}); correct it, or leave it out") from error


def _with_history(name: str, folder: RunFolder) -> Any:
    from accelerate.tracking import MLflowTracker, TensorBoardTracker, WandBTracker

    known, run, done = _runs_of(folder), str(folder.path), 0
    identity = known.get(name)
    if name == "tensorboard":
        # With `purge_step` TensorBoard forgets what it read in older files.
        tracker = TensorBoardTracker(TENSORBOARD_FOLDER, logging_dir=run, purge_step=1)
    elif name == "wandb":
        project = os.environ.get("WANDB_PROJECT", "labelembed")
        tracker = WandBTracker(project, name=run, id=identity, resume="allow")
    else:
        experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME", "labelembed")
        import_module("mlflow").set_experiment(experiment)  # as several processes may at once, which `start` may not
        tracker = MLflowTracker(experiment, run_id=identity, run_name=run)
    tracker.main_process_only = False  # whoever calls this is the main process
    with contextlib.redirect_stdout(sys.stderr):
        tracker.start()
        if name == "wandb":
            known[name], done = tracker.tracker.id, tracker.tracker.step - 1
        elif name == "mlflow":
            known[name] = tracker.tracker.info.run_id
            client = import_module("mlflow").MlflowClient()
            done = max((one.step for one in client.get_metric_history(known[name], "seconds")), default=0)
        if identity is None:
            config = _flat(folder.recipe(), ".").items()
            plain = {key: value if isinstance(value, (int, float)) else str(value) for key, value in config}
            tracker.store_init_configuration(plain)
        for line in folder.history():
            if line["epoch"] > done:
                tracker.log(_numbers(line), step=line["epoch"])
    write_json(folder.path / TRACKING_FILE, known | {name: known.get(name, "")})
    return tracker


def _numbers(line: dict[str, Any]) -> dict[str, float]:
    """Returns the numbers of an epoch's line, for instance "train/total"."""
    numbers = {key: value for key, value in _flat(line, "/").items() if isinstance(value, (int, float))}
    return {key: value for key, value in numbers.items() if key != "epoch"}


def _flat(values: dict[str, Any], separator: str) -> dict[str, Any]:
    import pandas as pd

    return {str(key): value for key, value in pd.json_normalize(values, sep=separator).to_dict("records")[0].items()}


def _tell(call: Callable[..., None], *arguments: Any, warn: Callable[[str], None], **named: Any) -> bool:
    """Calls a tracker in the middle of a run, which goes on where that fails; returns whether it did not."""
    try:
        with contextlib.redirect_stdout(sys.stderr):
            call(*arguments, **named)
    except Exception as error:
        name = type(getattr(call, "__self__", call)).__name__
        warn(f"{name} has failed and is left out ({type(error).__name__}: {' '.join(str(error).split())})")
        return False
    return True
