"""One run, whoever asks for it: begun, continued, or found finished."""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors.torch import save as tensor_bytes

from labelembed.geometry import LabelGeometry
from labelembed.lab.data import LabelledData
from labelembed.lab.errors import (
    DivergedTraining,
    InterruptedTraining,
    LostProcess,
    NotEnoughMemory,
    RunFolderError,
    TrainingError,
)
from labelembed.lab.recipes.references import (
    EMBEDDING_FILE,
    KEPT_FILES,
    TEACHER_FILE,
    as_kept,
    embedding_path,
    teacher_path,
)
from labelembed.lab.recipes.schema import Recipe
from labelembed.lab.runs.build import build_data, data_stamp, given_embedding
from labelembed.lab.runs.options import RunOptions, describe_environment, peak_memory, reset_peak_memory
from labelembed.lab.runs.recipe_diff import check_change_ahead, check_same_recipe, differences, record_change
from labelembed.lab.runs.run_lock import locked
from labelembed.lab.runs.task import Task, build_task
from labelembed.lab.runs.teacher import attach_teacher_logits, check_teacher, write_table
from labelembed.lab.training.device import Stopped, lost_processes_named
from labelembed.lab.training.evaluation import class_means, error_diagnostics
from labelembed.lab.training.files import make_writable_folder, saving, sha256
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

    Args:
        recipe: What to run.
        out: The run folder.
        options: What this machine adds.
        reporter: Who watches, and may ask to stop.
        data: The recipe's data where they are in memory already.

    Returns:
        What stands in ``result.json``.

    Raises:
        RunFolderError: When another process trains the run, or the folder holds the run of another recipe or of other
            data, is damaged, or cannot be written.
        TrainingError: When the run fails; the folder says why.
        LostProcess: When of several processes another has died or hangs; the run can be resumed.
        InterruptedTraining: When it was asked to stop; it can be resumed.
    """
    folder = RunFolder(out)
    if not options.overwrite and folder.state() == "finished" and _is_unchanged(recipe, folder, options):
        check_same_data(recipe, folder, data=data, reporter=reporter)
        reporter.warn(f"{folder.path}: finished already, nothing to do")
        return folder.result()
    with locked(folder.path, patience=options.lock_seconds):
        try:
            with lost_processes_named(folder.path):
                return _run(recipe, folder, options, reporter, data)
        except Stopped as stopped:
            if folder.state() != "unfinished":
                raise
            message = f"stopped; to go on: labelembed resume {folder.path}"
            raise InterruptedTraining(message, signal_number=stopped.signal_number) from None


def _run(
    recipe: Recipe, folder: RunFolder, options: RunOptions, reporter: Reporter, data: TrainingData | None
) -> dict[str, Any]:
    has_begun = not options.overwrite and folder.state() != "empty"
    is_changed = has_begun and not _is_unchanged(recipe, folder, options)
    if has_begun and options.begin_only and folder.state() != "finished":
        how, resume = "failed" if folder.result() else "has not finished", f"labelembed resume {folder.path}"
        raise RunFolderError(f"{folder.path}: this run {how}; to go on: {resume}; to start over: add --overwrite")
    if has_begun and not is_changed and folder.state() == "finished":  # by the process that had the lock before
        return folder.result()
    task = build_task(recipe, data=data, folder=folder if has_begun else None, reporter=reporter)
    if has_begun:
        check_same_data(recipe, folder, data=task.data, reporter=reporter)
    network = _network(task, folder.path if has_begun else None)
    for note in [*(f"data: {note}" for note in task.data.notes), *coupling_notes(network, recipe.micro_batches)]:
        reporter.warn(note)
    reset_peak_memory()
    # All processes have looked into the folder once they have met in the trainer; of several one writes.
    trainer = Trainer(task, network, recipe, folder, reporter, device=options.device)
    with _explained_memory_errors(folder, trainer):
        writes = trainer.accelerator.is_main_process
        if writes and not has_begun:
            begin(folder, task, trainer, options, reporter)
        trainer.accelerator.wait_for_everyone()
        attach_teacher_logits(recipe, folder, task.data, network)
        if has_begun:
            _restore(recipe, folder, trainer, is_changed=is_changed)
        with tracked(folder, options.track, reporter.warn) if writes else nullcontext(trainer.log) as trainer.log:
            result = _fit(trainer, folder)
        return finish(folder, task, trainer, result)


def try_network(recipe: Recipe, data: TrainingData) -> Network:
    """Returns the network that a recipe trains, built to see whether it can be; raises what a run would raise."""
    return _network(build_task(recipe, data=data), None, dry_run=True)


def _network(task: Task, folder: Path | None, *, dry_run: bool = False) -> Network:
    if "teacher" in task.recipe.objective:
        check_teacher(teacher_path(Path(task.recipe.objective["teacher"]), base=folder), task.data)
    return task.build_network(folder, dry_run=dry_run)


def _is_unchanged(recipe: Recipe, folder: RunFolder, options: RunOptions) -> bool:
    """Returns whether a folder's run is of this recipe; refuses another one, except for changes that may be made."""
    way_out = f"choose another --out, or go on with a change: labelembed resume {folder.path} --set KEY=VALUE"
    check_same_recipe(recipe, folder, may_change=options.change, way_out=way_out)
    return not options.change or not differences(recipe, folder)


def begin(folder: RunFolder, task: Task, trainer: Trainer, options: RunOptions, reporter: Reporter) -> None:
    """Makes the folder; the recipe comes last of what a run begins with, so that with it all is there.

    Raises:
        RunFolderError: When the folder cannot be written, or holds something else.
    """
    recipe, data = task.recipe, task.data
    if options.overwrite and (folder.path / "recipe.yaml").exists():
        start_over(folder.path)
    if any(folder.checkpoints.glob("step-*")):
        what = "holds checkpoints but no recipe.yaml to say of what run"
        raise RunFolderError(f"{folder.path}: {what}; choose another folder with --out")
    make_writable_folder(folder.path)
    with saving(folder.path, way_on="When it can be saved again, give the same command again"):
        if "teacher" in recipe.objective:
            given, device = teacher_path(Path(recipe.objective["teacher"])), trainer.device
            write_table(folder.path / TEACHER_FILE, given, data, device=device, reporter=reporter)
        path, embedding = embedding_path(recipe), given_embedding(recipe, data.names, folder=None)
        if embedding is not None:
            folder.write(EMBEDDING_FILE, path.read_bytes() if path is not None else embedding.to_bytes())
        about = {
            "source": data.source,
            "fingerprint": data.fingerprint(),
            "examples": {name: len(split) for name, split in data.splits.items()},
            "notes": list(data.notes),
            "stamp": data_stamp(recipe),
            "files": task.files(folder.path),
        }
        environment = describe_environment(device=options.device) | {"data": about | task.facts()}
        if recipe.published:
            environment |= {"published": [figure.model_dump() for figure in recipe.published]}
        folder.write("environment.json", environment)
        folder.write_recipe(as_kept(recipe))


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


def _fit(trainer: Trainer, folder: RunFolder) -> dict[str, Any]:
    """Trains to the end; a run that fails says so in its folder."""
    try:
        return trainer.fit()
    except TrainingError as error:
        if trainer.accelerator.is_main_process:
            step = error.step if isinstance(error, DivergedTraining) else None
            failure = {"format": 1, "status": "failed", "message": str(error), "diverged_at_step": step}
            failure |= {"epochs": trainer.position.epoch, "seconds": round(trainer.position.seconds, 3)}
            with contextlib.suppress(OSError):  # a full disk is why it failed; the run then counts as unfinished
                folder.write("result.json", failure | {"parameters": trainer.network.parameter_count()})
        raise
    except RuntimeError as error:
        if trainer.signal.number is None:
            raise
        try:
            with lost_processes_named(folder.path):
                raise
        except LostProcess as lost:  # all were signalled, and another one had not begun to train
            raise InterruptedTraining(str(lost), signal_number=trainer.signal.number) from error


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
        errors, examples = error_diagnostics(network, trainer.data, temperature=result.get("temperature"))
        contiguous = {name: value.contiguous() for name, value in network.prediction_state().items()}
        # One entry only: safetensors writes several in any order, and equal runs should give equal files.
        about = {"format": "labelembed.network.1"}
        folder.write(folder.model_file.name, tensor_bytes(contiguous, metadata=about))
        folder.write(folder.geometry_file.name, geometry.to_bytes())
        folder.write(folder.class_means_file.name, by_means.to_bytes())
        if errors is not None:
            folder.write("diagnostics/errors.json", errors)
        if examples is not None:
            folder.write_examples(examples)
        written = (folder.model_file, folder.geometry_file, folder.class_means_file)
        result["files"] = {file.name: sha256(file) for file in written}
        folder.write("result.json", result)
    return result


def start_over(path: Path) -> None:
    """Removes what a run left in a folder, and nothing else."""
    folder = RunFolder(path)
    folder.require_run()
    about: Any = None
    with contextlib.suppress(RunFolderError):
        about = folder.environment().get("data")
    listed = about.get("files") if isinstance(about, dict) else None
    kept = [name for name in listed if isinstance(name, str)] if isinstance(listed, list) else []
    for name in kept:
        if (path / name).resolve().is_relative_to(path.resolve()):
            (path / name).unlink(missing_ok=True)
    for name in ("checkpoints", "diagnostics", "translations", "soft_labels", "tensorboard", "encoder"):
        shutil.rmtree(path / name, ignore_errors=True)
    names = (
        "result.json",
        "history.jsonl",
        "report.html",
        "worker.log",
        "tracking.json",
        "environment.json",
        *KEPT_FILES,
    )
    weights = (folder.model_file.name, folder.geometry_file.name, folder.class_means_file.name)
    for name in (*names, *weights, *(before.name for before in path.glob("recipe.*.yaml")), "recipe.yaml"):
        (path / name).unlink(missing_ok=True)


# ---- the data of a run


def check_same_data(
    recipe: Recipe, folder: RunFolder, *, data: TrainingData | None = None, reporter: Reporter | None = None
) -> None:
    """Raises RunFolderError when the run in a folder is known to have begun with other data.

    Args:
        recipe: Whose data.
        folder: The run folder.
        data: Where they are in memory already; None: they are read if their files have changed.
        reporter: Told how far the reading is.
    """
    if data is None and have_same_data(recipe, [folder]):
        return
    data = build_data(recipe, progress=reporter.reading if reporter else None) if data is None else data
    known, files = _begun_with(folder).get("fingerprint"), {}
    if isinstance(data, LabelledData):  # the ids of words are the same where all words are others
        files = {folder.path / name: content for name, content in data.encoder.files().items()}
    has_other_files = any(file.is_file() and file.read_bytes() != content for file, content in files.items())
    if has_other_files or (known is not None and known != data.fingerprint()):
        raise RunFolderError(
            f"{folder.path}: the run began with other data than {data.source} now holds (the content differs); "
            "choose another folder with --out, or put the old data back"
        )


def have_same_data(recipe: Recipe, folders: Sequence[RunFolder]) -> bool:
    """Returns without reading the data whether runs began with them; where it is unsure see `check_same_data`."""
    stamp = data_stamp(recipe) if folders else None
    return all(stamp is not None and _begun_with(folder).get("stamp") == stamp for folder in folders)


def _begun_with(folder: RunFolder) -> dict[str, Any]:
    about = folder.environment().get("data")
    return about if isinstance(about, dict) else {}


# ---- time and memory


def seconds_of_a_run(recipe: Recipe, data: TrainingData) -> float:
    """Returns about how long one run takes on one thread, by a few steps on a network that is then forgotten."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with TemporaryDirectory() as nowhere, torch.random.fork_rng():
            task = build_task(recipe, data=data)
            trainer = Trainer(task, task.build_network(), recipe, RunFolder(nowhere), Reporter())
            if "teacher" in recipe.objective:
                logits = torch.zeros(1, 1).expand(data.train.num_examples, data.num_labels)
                trainer.network.objective.teacher_logits = logits
            times = trainer.time_steps(4)
    finally:
        torch.set_num_threads(threads)
    return trainer.epochs * trainer.batches * median(times[1:] or times)


@contextlib.contextmanager
def _explained_memory_errors(folder: RunFolder, trainer: Trainer) -> Iterator[None]:
    """Turns what is raised for want of memory into NotEnoughMemory, with the place of the run and the way out."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        text, data = str(error), trainer.data
        if not isinstance(error, MemoryError | torch.OutOfMemoryError) and "allocate memory" not in text:
            raise
        way_out = "take a smaller batch_size, or micro_batches=N to make a step in N parts"
        if not isinstance(data, LabelledData):
            longest = int(max(data.train.source.lengths.max(), data.train.target.lengths.max()))
            what = f"the longest training line has {longest:,} tokens: leave such lines out"
            way_out = f"{what} (labelembed preprocess --max-length), or take a smaller batch_size"
        asked = re.search(r"allocate (\d+) bytes", text)
        tried = f" ({int(asked[1]) / 2**30:,.1f} GiB asked for at once)" if asked else ""
        where = f"step {trainer.position.step + 1} (epoch {trainer.position.epoch + 1})"
        raise NotEnoughMemory(f"{folder.path}: {where}: there is not enough memory{tried}; {way_out}") from error
