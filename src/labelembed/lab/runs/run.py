"""One run, whoever asks for it: begun, continued, or found finished."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from statistics import median
from typing import Any

import torch
from safetensors.torch import save as tensor_bytes

from labelembed.geometry import LabelGeometry
from labelembed.lab import errors
from labelembed.lab.recipes import references
from labelembed.lab.recipes.schema import Recipe
from labelembed.lab.runs.build import build_data, data_stamp, given_embedding
from labelembed.lab.runs.options import RunOptions, describe_environment, peak_memory, reset_peak_memory
from labelembed.lab.runs.recipe_diff import check_change_ahead, check_same_recipe, differences, record_change
from labelembed.lab.runs.run_lock import locked
from labelembed.lab.runs.task import Task, build_task
from labelembed.lab.runs.teacher import attach_teacher_logits, teacher_table
from labelembed.lab.training.device import Stopped
from labelembed.lab.training.evaluation import class_means, error_diagnostics
from labelembed.lab.training.files import saving, sha256
from labelembed.lab.training.network import Network, TrainingData, coupling_notes
from labelembed.lab.training.reporter import Reporter, tracked
from labelembed.lab.training.run_folder import RunFolder
from labelembed.lab.training.trainer import Trainer


def run_recipe(
    recipe: Recipe,
    out: str | Path,
    *,
    options: RunOptions = RunOptions(),  # noqa: B008 - frozen
    reporter: Reporter = Reporter(),  # noqa: B008 - without state
    data: TrainingData | None = None,
) -> dict[str, Any]:
    """Brings the run of a recipe in a folder to its end: begins it, continues it, or finds it finished.

    Data may be in memory already. Returns what stands in ``result.json``.

    Raises:
        RunFolderError: When another process trains the run, or the folder holds the run of another recipe or of other
            data, is damaged, or cannot be written.
        TrainingError: When the run fails; the folder says why.
        InterruptedTraining: When it was asked to stop; it can be resumed.
    """
    folder = RunFolder(out)
    # Also while somebody has the folder; and one whose lock leads out of it is refused.
    if not options.overwrite and folder.state() == "finished" and not _find(recipe, folder, options)[1]:
        check_same_data(recipe, folder, data=data, reporter=reporter)
        reporter.warn(f"{folder.path}: finished already, nothing to do")
        return folder.result()
    try:
        with locked(folder.path, patience=options.lock_seconds):
            has_begun, is_changed = _find(recipe, folder, options)
            if has_begun and not is_changed and folder.state() == "finished":  # by whom had the lock before
                return folder.result()
            if has_begun:  # as many threads add up in the same order, so that the numbers are those of an unbroken run
                threads = folder.environment().get("threads")
                torch.set_num_threads(threads if isinstance(threads, int) and threads > 0 else 1)
            task = build_task(recipe, data=data, folder=folder if has_begun else None, reporter=reporter)
            if has_begun:
                check_same_data(recipe, folder, data=task.data, reporter=reporter)
            network = _network(task, folder.path if has_begun else None, reporter)
            # All processes have looked into the folder once they have met in the trainer; of several one writes.
            trainer = Trainer(task, network, recipe, folder, reporter, device=options.device)
            if not has_begun and trainer.accelerator.is_main_process:
                begin(folder, task, trainer, options, reporter)
            trainer.accelerator.wait_for_everyone()
            attach_teacher_logits(recipe, folder, task.data, network)
            if has_begun:
                _restore(recipe, folder, trainer, is_changed=is_changed)
            return finish(folder, task, trainer, _fit(trainer, folder, options, reporter))
    except Stopped as stopped:
        if folder.state() != "unfinished":
            raise
        message = f"stopped; to go on: labelembed resume {folder.path}"
        raise errors.InterruptedTraining(message, signal_number=stopped.signal_number) from None


def _find(recipe: Recipe, folder: RunFolder, options: RunOptions) -> tuple[bool, bool]:
    """Returns whether the folder holds the run of a recipe, and whether the recipe was changed; refuses another run."""
    if options.overwrite or folder.state() == "empty":
        return False, False
    way_out = f"choose another --out, or go on with a change: labelembed resume {folder.path} --set KEY=VALUE"
    check_same_recipe(recipe, folder, may_change=options.change, way_out=way_out)
    if options.begin_only and folder.state() != "finished":
        how, resume = "failed" if folder.result() else "has not finished", f"labelembed resume {folder.path}"
        raise errors.RunFolderError(
            f"{folder.path}: this run {how}; to go on: {resume}; to start over: add --overwrite"
        )
    return True, options.change and bool(differences(recipe, folder))


def _network(task: Task, folder: Path | None, reporter: Reporter) -> Network:
    network = task.build_network(folder)
    for note in [*(f"data: {note}" for note in task.data.notes), *coupling_notes(network, task.recipe.micro_batches)]:
        reporter.warn(note)
    reset_peak_memory()
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
        start_over(folder.path)
    if any(folder.checkpoints.glob("step-*")):
        what = "holds checkpoints but no recipe.yaml to say of what run"
        raise errors.RunFolderError(f"{folder.path}: {what}; choose another folder with --out")
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
        environment = describe_environment(device=options.device) | {"data": about | task.keep(folder)}
        if recipe.published:
            environment |= {"published": [figure.model_dump() for figure in recipe.published]}
        folder.write("environment.json", environment)
        folder.write_recipe(references.as_kept(recipe))


def _restore(recipe: Recipe, folder: RunFolder, trainer: Trainer, *, is_changed: bool) -> None:
    """Goes to the newest checkpoint, with a changed recipe where it was changed; the run counts as unfinished."""
    trainer.restore()
    position = trainer.position
    if is_changed:
        check_change_ahead(folder, position, epochs=trainer.epochs)
        if position.epoch >= trainer.last_epoch:  # patience has ended it: it begins anew
            position.patience_from = position.epoch
            trainer.save()
    if trainer.accelerator.is_main_process:
        with saving(folder.path):
            folder.keep_history(position.epoch)
            if is_changed:
                record_change(recipe, folder, position)
            (folder.path / "result.json").unlink(missing_ok=True)


def _fit(trainer: Trainer, folder: RunFolder, options: RunOptions, reporter: Reporter) -> dict[str, Any]:
    """Trains to the end; a run that fails says so in its folder."""
    writes, position = trainer.accelerator.is_main_process, trainer.position
    try:
        trackers = tracked(folder, options.track, reporter.warn) if writes else nullcontext(trainer.log)
        with trackers as trainer.log:
            return trainer.fit()
    except errors.TrainingError as error:
        if writes:
            step = error.step if isinstance(error, errors.DivergedTraining) else None
            failure = {"format": 1, "status": "failed", "message": str(error), "diverged_at_step": step}
            failure |= {"epochs": position.epoch, "seconds": round(position.seconds, 3)}
            with contextlib.suppress(OSError):  # a full disk, with which the run counts as unfinished
                folder.write("result.json", failure | {"parameters": trainer.network.parameter_count()})
        raise
    except (MemoryError, RuntimeError) as error:
        if trainer.signal.number is not None:  # all processes were signalled, and another one had not begun to train
            raise errors.InterruptedTraining(str(error), signal_number=trainer.signal.number) from error
        if not isinstance(error, MemoryError | torch.OutOfMemoryError) and "allocate memory" not in str(error):
            raise
        what = f"step {position.step + 1} (epoch {position.epoch + 1}): there is not enough memory"
        way_out = "take a smaller batch_size, or micro_batches=N to make a step in N parts"
        raise errors.NotEnoughMemory(f"{folder.path}: {what}; {way_out}") from error


def finish(folder: RunFolder, task: Task, trainer: Trainer, result: dict[str, Any]) -> dict[str, Any]:
    """Writes what the selected epoch reached: final metrics, diagnostics, weights, geometry, the result last of all.

    The result takes in the SHA-256 of the files, which is held against them whenever they are read.
    """
    network, names, writes = trainer.network, task.data.names, trainer.accelerator.is_main_process
    result["peak_memory"] = peak_memory(trainer.device)
    with saving(folder.path):
        result |= task.final_evaluation(network, folder if writes else None, result)
        if not writes:
            return result
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
        result["files"] = {file.name: sha256(file) for file in written}
        folder.write("result.json", result)
    return result


def start_over(path: Path) -> None:
    """Removes what a run left in a folder and no new run writes anew, and nothing else."""
    folder = RunFolder(path)
    folder.require_run()
    for name in ("checkpoints", "diagnostics", "translations", "soft_labels", "tensorboard", "encoder"):
        shutil.rmtree(path / name, ignore_errors=True)
    files = ("result.json", "history.jsonl", "report.html", "worker.log", "tracking.json", "environment.json")
    weights = (folder.model_file.name, folder.geometry_file.name, folder.class_means_file.name)
    changed = [before.name for before in path.glob("recipe.*.yaml")]
    for name in (*files, *weights, *references.KEPT_FILES, *changed, "recipe.yaml"):
        (path / name).unlink(missing_ok=True)


# ---- the data of a run


def check_same_data(
    recipe: Recipe, folder: RunFolder, *, data: TrainingData | None = None, reporter: Reporter | None = None
) -> None:
    """Raises RunFolderError when the run in a folder began with other data; they are read where their files changed."""
    if data is None and have_same_data(recipe, [folder]):
        return
    data = build_data(recipe, progress=reporter.reading if reporter else None) if data is None else data
    encoder = getattr(data, "encoder", None)
    is_same = _begun_with(folder).get("fingerprint") in (None, data.fingerprint())
    for name, content in encoder.files().items() if encoder else ():  # ids are the same where all words are others
        kept = folder.path / name
        is_same &= not kept.is_file() or kept.read_bytes() == content
    if not is_same:
        what = f"the run began with other data than {data.source} now holds (the content differs)"
        way_out = "choose another folder with --out, or put the old data back"
        raise errors.RunFolderError(f"{folder.path}: {what}; {way_out}")


def have_same_data(recipe: Recipe, folders: Sequence[RunFolder]) -> bool:
    """Returns without reading the data whether runs began with them; where it is unsure see `check_same_data`."""
    stamp = data_stamp(recipe) if folders else None
    return all(stamp is not None and _begun_with(folder).get("stamp") == stamp for folder in folders)


def _begun_with(folder: RunFolder) -> dict[str, Any]:
    about = folder.environment().get("data")
    return about if isinstance(about, dict) else {}


# ---- before a run


def try_network(recipe: Recipe, data: TrainingData) -> Network:
    """Returns the network that a recipe trains, built to see whether it can be; raises what a run would raise."""
    if "teacher" in recipe.objective:
        teacher_table(recipe, data, dry_run=True)
    return build_task(recipe, data=data).build_network(dry_run=True)


def seconds_of_a_run(recipe: Recipe, data: TrainingData) -> float:
    """Returns about how long one run takes on one thread, by a few steps on a network that is then forgotten."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        task = build_task(recipe, data=data)
        trainer = Trainer(task, task.build_network(), recipe, RunFolder("nowhere"), Reporter())
        if "teacher" in recipe.objective:
            trainer.network.objective.teacher_logits = torch.zeros(data.train.num_examples, data.num_labels)
        times = trainer.time_steps(4)
    finally:
        torch.set_num_threads(threads)
    return trainer.epochs * trainer.batches * median(times[1:] or times)
