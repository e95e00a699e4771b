"""One run: begin it, continue it, or find it finished."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as tensor_bytes

from labelembed.files import file_digest
from labelembed.geometry import LabelGeometry
from labelembed.lab import errors
from labelembed.lab.recipes import references
from labelembed.lab.recipes.loading import with_whole_paths
from labelembed.lab.recipes.schema import Recipe
from labelembed.lab.runs.build import build_data, data_stamp, given_embedding
from labelembed.lab.runs.options import RunOptions, describe_environment
from labelembed.lab.runs.recipe_diff import Differences, check_same_recipe
from labelembed.lab.runs.run_lock import locked
from labelembed.lab.runs.task import Task, build_task
from labelembed.lab.runs.teacher import read_table, teacher_table
from labelembed.lab.training.device import Stopped
from labelembed.lab.training.evaluation import class_means, error_diagnostics
from labelembed.lab.training.files import resume_command, saving
from labelembed.lab.training.network import Network, TrainingData, coupling_notes
from labelembed.lab.training.reporter import Reporter, tracked
from labelembed.lab.training.run_folder import RunFolder
from labelembed.lab.training.trainer import Trainer

_SILENT = Reporter()
# What a run leaves in its folder beside the recipe.
_OF_A_RUN: tuple[str, ...] = ("checkpoints", "diagnostics", "translations", "soft_labels", "tensorboard", "encoder")
_OF_A_RUN += ("result.json", "history.jsonl", "report.html", "worker.log", "tracking.json", "environment.json")
_OF_A_RUN += ("model.safetensors", "label_geometry.safetensors", "class_means.safetensors", *references.KEPT_FILES)


def run_recipe(
    recipe: Recipe,
    out: str | Path,
    *,
    options: RunOptions = RunOptions(),  # noqa: B008 - frozen
    reporter: Reporter = _SILENT,
    data: TrainingData | None = None,
) -> dict[str, Any]:
    """Brings the run of a recipe in a folder to its end: begins it, continues it, or finds it finished.

    `data` may be given. Returns the content of ``result.json``. Raises RunFolderError when another process
    trains the run, or the folder holds the run of another recipe or of other data, is damaged, or cannot be written;
    TrainingError when the run fails; InterruptedTraining when it was asked to stop.
    """
    folder = RunFolder(out)
    if not options.overwrite:  # which takes away a damaged run too
        folder.state()  # refuses a folder whose lock leads out of it
    try:
        with locked(folder.path, patience=options.lock_seconds):
            begun = None if options.overwrite or folder.state() == "empty" else folder
            changes = check_same_recipe(recipe, begun, may_change=options.change) if begun else {}
            if begun and not changes and begun.state() == "finished":
                check_same_data(recipe, begun, data=data, reporter=reporter)
                reporter.warn(f"{folder.path}: finished already, nothing to do")
                return begun.result()
            task = _task(recipe, begun, data, reporter)
            trainer = Trainer(task, _network(task, begun, reporter), recipe, folder, reporter, device=options.device)
            # Of several processes one writes, once all have read what is there; they have just met in the trainer.
            if begun:
                trainer.restore()
            elif trainer.accelerator.is_main_process:
                begin(folder, task, trainer, options, reporter)
            trainer.accelerator.wait_for_everyone()
            if begun:
                _go_on(recipe, begun, trainer, changes)
            if "teacher" in recipe.objective:
                trainer.network.objective.teacher_logits = read_table(folder.path).to(trainer.device)
            return finish(folder, task, trainer, _fit(trainer, folder, options, reporter))
    except Stopped as stopped:
        if folder.state() != "unfinished":
            raise
        message = f"stopped; to go on: {resume_command(folder.path)}"
        raise errors.InterruptedTraining(message, signal_number=stopped.signal_number) from None


def _task(recipe: Recipe, begun: RunFolder | None, data: TrainingData | None, reporter: Reporter) -> Task:
    """Builds the task; of a run that has begun with as many threads, which add up alike, and with the same data."""
    if begun is None:
        return build_task(recipe, data=data, reporter=reporter)
    threads = begun.environment().get("threads")
    torch.set_num_threads(threads if isinstance(threads, int) and 0 < threads <= 1024 else 1)
    task = build_task(recipe, data=data, folder=begun, reporter=reporter)
    check_same_data(recipe, begun, data=task.data, reporter=reporter)
    return task


def _network(task: Task, begun: RunFolder | None, reporter: Reporter) -> Network:
    network = task.build_network(begun.path if begun else None)
    for note in [*(f"data: {note}" for note in task.data.notes), *coupling_notes(network, task.recipe.micro_batches)]:
        reporter.warn(note)
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    return network


def begin(folder: RunFolder, task: Task, trainer: Trainer, options: RunOptions, reporter: Reporter) -> None:
    """Makes the folder; the recipe comes last of what a run begins with, so that with it all is there."""
    recipe, data = task.recipe, task.data
    kept: dict[str, bytes] = {}
    if "teacher" in recipe.objective:
        reporter.note(f"the teacher predicts {len(data.train):,} training examples")
        kept[references.TEACHER_FILE] = teacher_table(recipe, data, device=trainer.device)
    path, embedding = references.embedding_path(recipe), given_embedding(recipe, data.names, folder=None)
    if embedding is not None:
        kept[references.EMBEDDING_FILE] = path.read_bytes() if path is not None else embedding.to_bytes()
    if options.overwrite and (folder.path / "recipe.yaml").exists():
        folder.require_run()  # refuses a folder with a link that leads out of it
        for name in (*_OF_A_RUN, "recipe.yaml"):  # the recipe last; nothing else goes
            left = folder.path / name
            left.unlink(missing_ok=True) if left.is_file() else shutil.rmtree(left, ignore_errors=True)
    with saving(folder.path, way_on="When it can be saved again, give the same command again"):
        for name, content in kept.items():
            folder.write(name, content)
        about = {
            "source": data.source,
            "fingerprint": data.fingerprint(),
            "examples": {name: len(split) for name, split in data.splits.items()},
            "notes": list(data.notes),
            "stamp": data_stamp(recipe),
        }
        folder.write("environment.json", describe_environment(trainer.device) | {"data": about | task.keep(folder)})
        folder.write_recipe(with_whole_paths(recipe).of_one_run())


def _go_on(recipe: Recipe, folder: RunFolder, trainer: Trainer, changes: Differences) -> None:
    """Makes a restored run an unfinished one, of the changed recipe where it was changed."""
    position = trainer.position
    # A change of what all epochs were made with would change nothing but the recipe.
    if trainer.epochs < (least := position.epoch + (position.batch > 0 or bool(changes))):
        made = f"{position.epoch} epochs are made{' and the next has begun' if position.batch else ''}"
        raise errors.RunFolderError(f"{folder.path}: epochs: must be {least} or more, got {trainer.epochs}: {made}")
    if changes and position.epoch >= trainer.last_epoch:  # patience has ended it: it begins anew
        position.patience_from = position.epoch
        trainer.save()
    if trainer.accelerator.is_main_process:
        with saving(folder.path):
            (folder.path / "result.json").unlink(missing_ok=True)  # first: it is not of the changed recipe
            folder.keep_history(position.epoch)
            if changes:  # for the report and the model card
                what = "; ".join(f"{key} {here!r} became {asked!r}" for key, (here, asked) in changes.items())
                noted, line = folder.environment(), f"at step {position.step} (epoch {position.epoch + 1}): {what}"
                folder.write("environment.json", noted | {"changes": [*noted.get("changes", ()), line]})
                folder.write_recipe(with_whole_paths(recipe).of_one_run())


def _fit(trainer: Trainer, folder: RunFolder, options: RunOptions, reporter: Reporter) -> dict[str, Any]:
    """Trains to the end; the reason of a failure is written into the folder."""
    writes, position = trainer.accelerator.is_main_process, trainer.position
    try:
        trackers = tracked(folder, options.track, reporter.warn) if writes else nullcontext(trainer.log)
        with trackers as trainer.log:
            return trainer.fit()
    except errors.TrainingError as error:
        if writes:
            failure = {"format": 1, "status": "failed", "message": str(error), "epochs": position.epoch}
            with contextlib.suppress(OSError):  # a full disk, with which the run counts as unfinished
                folder.write("result.json", failure | {"diverged_at_step": getattr(error, "step", None)})
        raise
    except (MemoryError, RuntimeError) as error:
        if trainer.signal.number is not None:  # all processes were signalled, and another one had not begun to train
            raise errors.InterruptedTraining(str(error), signal_number=trainer.signal.number) from error
        if not isinstance(error, MemoryError | torch.OutOfMemoryError) and "allocate memory" not in str(error):
            raise
        way_out = "start over (--overwrite) with a smaller batch_size, or with micro_batches=N: a step in N parts"
        raise errors.NotEnoughMemory(f"{folder.path}: there is not enough memory for a step; {way_out}") from error


def finish(folder: RunFolder, task: Task, trainer: Trainer, result: dict[str, Any]) -> dict[str, Any]:
    """Writes what the selected epoch reached: final metrics, diagnostics, weights, geometry, the result last of all.

    The result takes in the SHA-256 of the files, which is held against them whenever they are read.
    """
    network, names = trainer.network, task.data.names
    if not trainer.accelerator.is_main_process:
        return result
    peak = torch.cuda.max_memory_allocated(trainer.device) if trainer.device.type == "cuda" else 0
    result["peak_memory"] = {"bytes": peak, "of": "gpu"} if peak else None
    with saving(folder.path):
        result |= task.final_evaluation(network, folder, result)
        means = class_means(network, trainer.data.train)
        by_means = LabelGeometry(names, vectors=means, source=f"{type(network.objective).__name__}, class means")
        geometry = network.objective.label_geometry(names) if network.objective.learns_labels else by_means
        wrong, examples = error_diagnostics(network, trainer.data, temperature=result.get("temperature"))
        contiguous = {name: value.contiguous() for name, value in network.prediction_state().items()}
        written = {
            # One entry only: safetensors writes several in any order, and equal runs should give equal files.
            folder.model_file: tensor_bytes(contiguous, metadata={"format": "labelembed.network.1"}),
            folder.geometry_file: geometry.to_bytes(),
            folder.class_means_file: by_means.to_bytes(),
        }
        for file, content in written.items():
            folder.write(file.name, content)
        if wrong is not None:
            folder.write("diagnostics/errors.json", wrong)
        if examples is not None:
            folder.write_examples(examples)
        result["files"] = {file.name: file_digest(file) for file in written}
        folder.write("result.json", result)
    return result


# ---- the data of a run


def check_same_data(
    recipe: Recipe, folder: RunFolder, *, data: TrainingData | None = None, reporter: Reporter = _SILENT
) -> None:
    """Raises RunFolderError when the run in a folder began with other data; they are read where their files changed."""
    if data is None and have_same_data(recipe, [folder]):
        return
    data = build_data(recipe, progress=reporter.reading) if data is None else data
    is_same = _begun_with(folder, "fingerprint") in (None, data.fingerprint())
    encoder = getattr(data, "encoder", None)
    for name, content in encoder.files().items() if encoder else ():  # ids are the same where all words are others
        kept = folder.path / name
        is_same &= not kept.is_file() or kept.read_bytes() == content
    if not is_same:
        what = f"the run began with other data than {data.source} now holds"
        raise errors.RunFolderError(f"{folder.path}: {what}; choose another folder, or put the old data back")


def have_same_data(recipe: Recipe, folders: Sequence[RunFolder]) -> bool:
    """Returns without reading the data whether runs began with them; where it is unsure see `check_same_data`."""
    stamp = data_stamp(recipe) if folders else ""
    return stamp is not None and all(_begun_with(folder, "stamp") == stamp for folder in folders)


def _begun_with(folder: RunFolder, key: str) -> Any:
    about = folder.environment().get("data")
    return about.get(key) if isinstance(about, dict) else None


# ---- before a run


def try_network(recipe: Recipe, data: TrainingData) -> Network:
    """Returns the network that a recipe trains, built to see whether it can be; raises what a run would raise."""
    if "teacher" in recipe.objective:
        teacher_table(recipe, data, dry_run=True)
    return build_task(recipe, data=data).build_network(dry_run=True)


def seconds_of_a_run(recipe: Recipe, data: TrainingData) -> float:
    """Returns about how long one run takes on one thread, by three steps on a network that is then forgotten."""
    torch.set_num_threads(1)
    task = build_task(recipe, data=data)
    trainer = Trainer(task, task.build_network(), recipe, RunFolder("nowhere"), Reporter())
    if "teacher" in recipe.objective:
        trainer.network.objective.teacher_logits = torch.zeros(
            data.train.num_examples, data.num_labels, device=trainer.device
        )
    return trainer.epochs * trainer.batches * min(trainer.time_steps(3))
