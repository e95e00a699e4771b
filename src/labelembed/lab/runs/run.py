"""Recipes into run folders: begin, go on, or find it done."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from labelembed.errors import LabelEmbedError
from labelembed.lab.data import LabelledData, ReadingProgress
from labelembed.lab.errors import InterruptedTraining, LostProcess, RunFolderError, TrainingError
from labelembed.lab.recipes.loading import with_whole_paths
from labelembed.lab.recipes.schema import Recipe, parse_recipe
from labelembed.lab.runs.build import build_data, build_optimizer, build_reader, build_schedule, data_stamp
from labelembed.lab.runs.jobs import Job
from labelembed.lab.runs.memory import memory_errors_explained
from labelembed.lab.runs.recipe_diff import differences, record_change, refuse_change_behind, refuse_other_recipe
from labelembed.lab.runs.run_lock import locked
from labelembed.lab.runs.run_results import conclude, finish, note_failure
from labelembed.lab.runs.run_setup import begin, refuse_without_room
from labelembed.lab.runs.teacher import Asking, give_teacher
from labelembed.lab.runs.training_network import network_for
from labelembed.lab.runs.worker_log import LOG_FILE, opened_log
from labelembed.lab.runs.worker_log import note as write_note
from labelembed.lab.training.batches import TrainingData
from labelembed.lab.training.checkpoints import load_newest
from labelembed.lab.training.device import lost_processes_named
from labelembed.lab.training.environment import begin_peak
from labelembed.lab.training.files import saving
from labelembed.lab.training.network import coupling_notes
from labelembed.lab.training.progress import Progress, ignore_progress
from labelembed.lab.training.run_folder import HISTORY_LINE_BYTES, RunFolder
from labelembed.lab.training.signals import Stopped
from labelembed.lab.training.tracking import tracked
from labelembed.lab.training.trainer import Trainer

# Seconds that a run of a comparison waits for the process that made it before.
_PATIENCE = 20.0


def run_recipe(
    recipe: Recipe,
    out: str | Path,
    *,
    data: TrainingData | None = None,
    observe: Callable[[Progress], None] = ignore_progress,
    stop: Callable[[], bool] = lambda: False,
    device: str | None = None,
    warn: Callable[[str], None] = lambda message: None,
    reading: ReadingProgress | None = None,
    asking: Asking = lambda done, total: None,
    track: Sequence[str] = (),
    has_lock: bool = False,
    patience: float = 0.0,
    force: bool = False,
) -> dict[str, Any]:
    """Brings the run of a recipe in a folder to its end: begins it, goes on with it, or finds it done.

    Args:
        recipe: What to run.
        out: The run folder.
        data: The recipe's data where they are in memory already.
        observe: Called with where the run stands.
        stop: Asked after every step whether to save and stop, as a signal has it do in the main thread.
        device: `cpu`, or None for what there is.
        warn: Called with what the user should know.
        reading: Called with (done, total) while pictures are decoded.
        asking: Called with (done, total) while a teacher is asked about the training examples.
        track: Log the epochs to these trackers too, see `training.tracking`; a run goes on with those that it has.
        has_lock: The caller has the folder's lock (`runs.run_lock`); otherwise it is taken here.
        patience: Seconds to wait for another process that trains this run.
        force: Go on with a recipe that is not the folder's, from where the run stands, where its weights fit; the
            folder then says what was changed when. The schedule is that of the new recipe, from the step reached.

    Returns:
        What stands in ``result.json``.

    Raises:
        RunFolderError: When another process trains the run, or the folder holds the run of another recipe, is damaged,
            or cannot be written.
        TrainingError: When the run fails; the folder says why.
        LostProcess: When of several processes another has died or hangs; the run can be resumed.
        InterruptedTraining: When it was asked to stop; it can be resumed.
    """
    folder = RunFolder(out)
    unlocked = has_lock or (folder.state() == "finished" and not force)
    with nullcontext() if unlocked else locked(folder.path, patience=patience, stop=stop):
        try:
            changed = False
            if folder.state() != "empty":
                refuse_other_recipe(recipe, folder, may_change=force, way_out="choose another folder")
                changed = force and bool(differences(recipe, folder))
            if folder.state() == "finished" and not changed:
                return folder.result()
            if data is None:
                data = _data_of_run(recipe, folder, reading)
            for note in data.notes:
                warn(f"data: {note}")
            with lost_processes_named(folder.path):
                return _run(
                    recipe,
                    folder,
                    data,
                    changed=changed,
                    observe=observe,
                    stop=stop,
                    device=device,
                    warn=warn,
                    asking=asking,
                    track=track,
                )
        except Stopped as stopped:
            if folder.state() != "unfinished":
                raise
            message = f"stopped; to go on: labelembed resume {folder.path}"
            raise InterruptedTraining(message, signal_number=stopped.signal_number) from None


def _data_of_run(recipe: Recipe, folder: RunFolder, reading: ReadingProgress | None) -> TrainingData:
    """Reads the data; a run that has begun keeps the encoder that it fitted."""
    begun = folder.state() != "empty" and recipe.text_inputs in ("features", "tokens")
    encoder = build_reader(recipe).new_encoder().load(folder.path, {}) if begun else None
    return build_data(recipe, progress=reading, encoder=encoder)


def _run(
    recipe: Recipe,
    folder: RunFolder,
    data: TrainingData,
    *,
    changed: bool,
    observe: Callable[[Progress], None],
    stop: Callable[[], bool],
    device: str | None,
    warn: Callable[[str], None],
    asking: Asking,
    track: Sequence[str],
) -> dict[str, Any]:
    """Trains from where the folder says to the end, with the folder's lock; see `run_recipe`."""
    network = network_for(recipe, data, base=folder.path)
    if recipe.micro_batches > 1:
        for note in coupling_notes(network, recipe.micro_batches):
            warn(note)
    begin_peak()
    begun = folder.state() != "empty"
    if begun:
        refuse_other_data(folder, data)
    trainer = Trainer(
        network,
        partial(build_optimizer, recipe),
        build_schedule(recipe),
        data,
        recipe,
        folder,
        observe=observe,
        stop=stop,
        device=device,
    )
    # Of several processes one writes; that all have looked into the folder by now, the trainer has seen to.
    writes = trainer.accelerator.is_main_process
    if writes and not begun:
        begin(recipe, folder, data, trainer, device=device, stop=stop, asking=asking)
    elif writes:
        refuse_without_room(recipe, folder, data, trainer)
    trainer.accelerator.wait_for_everyone()
    give_teacher(recipe, folder, data, network)
    _go_on(folder, trainer, warn, changed=changed)
    if changed:
        refuse_change_behind(trainer.epochs, folder, trainer.position)
        if trainer.position.epoch >= trainer.last_epoch:  # patience has ended it: it begins anew
            trainer.position.patience_from = trainer.position.epoch
            trainer.save()
    if writes:
        with saving(folder.path, needed_bytes=HISTORY_LINE_BYTES * (trainer.position.epoch + 1)):
            folder.keep_history(trainer.position.epoch)
            if changed:
                record_change(recipe, folder, trainer.position)
            folder.forget_result()
    logged = tracked(folder, observe, names=track, warn=warn) if writes else nullcontext(observe)
    with logged as trainer.observe:
        result = _trained(trainer, folder)
    with memory_errors_explained(lambda: _place(folder, trainer), data):
        result |= conclude(recipe, trainer, result)
    if writes:
        finish(folder, trainer, data, result)
    return result


def _trained(trainer: Trainer, folder: RunFolder) -> dict[str, Any]:
    """Trains to the end; a run that fails says so in its folder."""
    try:
        with (
            lost_processes_named(folder.path),
            memory_errors_explained(lambda: _place(folder, trainer), trainer.data),
        ):
            return trainer.run()
    except TrainingError as error:
        if trainer.accelerator.is_main_process:
            note_failure(folder, trainer, error)
        raise
    except LostProcess as lost:
        if trainer.signal.number is None:
            raise
        # All were signalled, and another one had not begun to train.
        raise InterruptedTraining(str(lost), signal_number=trainer.signal.number) from lost


def _place(folder: RunFolder, trainer: Trainer) -> str:
    return f"{folder.path}: step {trainer.position.step + 1} (epoch {trainer.position.epoch + 1})"


def _go_on(folder: RunFolder, trainer: Trainer, warn: Callable[[str], None], *, changed: bool) -> None:
    """Puts the trainer where the newest whole checkpoint was saved; without one it stays at the beginning."""
    checkpoint, damaged = load_newest(folder.checkpoints)
    for line in damaged:
        warn(f"damaged checkpoint skipped: {line}")
    if checkpoint is None:
        if damaged:
            warn(f"{folder.path}: none of its {len(damaged)} checkpoints is whole; the run starts over")
        return
    try:
        trainer.restore(checkpoint)
    except LabelEmbedError:
        raise
    except Exception as error:  # what is damaged, or of another run, makes torch raise nearly anything
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        if changed:
            raise RunFolderError(
                f"{folder.path}: what the run has learned does not fit the changed recipe ({reason}); "
                "train again in another folder"
            ) from error
        raise RunFolderError(
            f"{folder.checkpoints}: the checkpoint of step {checkpoint.step} is not of this run ({reason}); "
            f"without the folder the run starts over"
        ) from error


def refuse_other_data(folder: RunFolder, data: TrainingData) -> None:
    """Raises RunFolderError when the run in a folder is known to have begun with other data."""
    known, files = _begun_with(folder).get("fingerprint"), {}
    if isinstance(data, LabelledData):  # the numbers of words are the same where all words are others
        files = {folder.path / name: content for name, content in data.encoder.files().items()}
    has_other_files = any(file.is_file() and file.read_bytes() != content for file, content in files.items())
    if has_other_files or (known is not None and known != data.fingerprint()):
        raise RunFolderError(
            f"{folder.path}: the run began with other data than {data.source} now holds (the content differs); "
            "choose another folder with --out, or put the old data back"
        )


def have_same_data(recipe: Recipe, folders: Sequence[RunFolder]) -> bool:
    """Tells without reading the data whether runs began with them; where it is unsure see `refuse_other_data`."""
    stamp = data_stamp(recipe) if folders else None
    return all(stamp is not None and _begun_with(folder).get("stamp") == stamp for folder in folders)


def _begun_with(folder: RunFolder) -> dict[str, Any]:
    """Returns what a run's folder says of its data."""
    found = folder.environment().get("data")
    return found if isinstance(found, dict) else {}


def job_for(
    name: str, recipe: Recipe, folder: Path, *, source: str, device: str | None, track: Sequence[str] = (), **more: Any
) -> Job:
    """Returns the job of one run of a comparison or a tuning.

    Args:
        name: For people.
        recipe: Of the run.
        folder: Where it goes; made whole, for a worker of a cluster is in another one.
        source: What the recipe is called in messages.
        device: See `machines.Machines`; its process sees no other GPU.
        track: See `run_recipe`.
        more: What else the worker gets.
    """
    folder = folder.absolute()
    payload: dict[str, Any] = {"recipe": with_whole_paths(recipe).of_one_run(), "source": source, "folder": str(folder)}
    payload |= {"device": "cpu" if device == "cpu" else None, "track": list(track)}
    return Job(name, payload | more, log=folder / LOG_FILE)


def run_job(payload: dict[str, Any], observe: Callable[[Progress], None], stop: Callable[[], bool]) -> dict[str, Any]:
    """Makes one run of a comparison in a worker process, see `job_for`; warnings go into its log."""
    recipe = parse_recipe(payload["recipe"], source=payload["source"])

    def warn(text: str) -> None:
        with opened_log(Path(payload["folder"]) / LOG_FILE) as file:
            write_note(file, text)

    return run_recipe(
        recipe,
        payload["folder"],
        observe=observe,
        stop=stop,
        device=payload["device"],
        warn=warn,
        track=payload["track"],
        patience=_PATIENCE,  # one that was lost may still be saving when its run is handed on
    )
