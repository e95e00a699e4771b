"""Comparisons: variants of the objective times seeds, a run folder each, finished ones reused."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labelembed.errors import DataError
from labelembed.lab import report
from labelembed.lab.data import LabelledData, comparison_notes, reference_errors
from labelembed.lab.errors import RecipeError, RunFolderError, TrainingError
from labelembed.lab.pretrained_images import RANDOM
from labelembed.lab.recipes.choosing import choose_recipe, folder_name
from labelembed.lab.recipes.loading import with_whole_paths
from labelembed.lab.recipes.schema import ComparisonBlock, Recipe
from labelembed.lab.recipes.variants import Variant, baseline_among, seeds_of, variants_of
from labelembed.lab.runs import pools
from labelembed.lab.runs.build import build_data
from labelembed.lab.runs.display import RunDisplay, Shown, metrics_text, say
from labelembed.lab.runs.pools import Job
from labelembed.lab.runs.recipe_diff import check_same_recipe
from labelembed.lab.runs.results import Comparison
from labelembed.lab.runs.run import check_same_data, have_same_data, try_network
from labelembed.lab.runs.run_lock import locked
from labelembed.lab.runs.tuning import TUNING_FOLDER, Tuning, to_tune, tuned_variant
from labelembed.lab.training.comparison_folder import DESCRIPTION_FILE, ComparisonFile, VariantEntry, remove_comparison
from labelembed.lab.training.network import TrainingData
from labelembed.lab.training.reporter import tracker_names
from labelembed.lab.training.run_folder import RunFolder

if TYPE_CHECKING:
    from pandas import DataFrame

_WAY_OUT = "choose another --out, or start over with --overwrite"


def compare(
    recipe: str | None = None,
    *,
    data: str | Path | DataFrame | None = None,
    objectives: str | Sequence[str | dict[str, Any]] | None = None,
    seeds: str | int | Sequence[int] | None = None,
    baseline: str | None = None,
    settings: Mapping[str, Any] | Sequence[str] = (),
    out: str | Path | None = None,
    tuned: bool = False,
    trials: int | None = None,
    jobs: int | None = None,
    cluster: str | None = None,
    device: str | None = None,
    track: str | Sequence[str] = (),
    overwrite: bool = False,
    quiet: bool = False,
) -> Comparison:
    """Trains several objectives with several seeds and returns the comparison; `labelembed compare` calls it.

    A folder that holds a comparison of the same recipe gets what is new; finished runs are reused. The
    same call resumes an interrupted comparison.

    Args:
        recipe: A recipe that ships, or a YAML file; None: the one that fits `data`.
        data: Where the data are, or a DataFrame of examples, which is written beside the comparison as a CSV file.
        objectives: Names, ``"label_smoothing:smoothing=0.2"``, or blocks of a recipe; None: the recipe's own list.
        seeds: How many, or which; None: the recipe's own.
        baseline: The variant that the others are compared with; None: the folder's, else the recipe's.
        settings: Other values for keys of the recipe, ``{"optimizer.learning_rate": 0.01, "batch_size": 64}``.
        out: The comparison folder; None: ``comparisons/DATA-RECIPE``, of tuned ones with ``-tuned`` at its end.
        tuned: First tune learning rate, weight decay and arguments of each objective on the validation set.
        trials: With `tuned`: how many each objective gets; None: 10.
        jobs: Runs at once, one thread each; None: one a GPU, else one a core.
        cluster: The dask scheduler whose workers make the runs, ``tcp://host:port``; None: this machine.
        device: `cpu`; None: what there is. ``CUDA_VISIBLE_DEVICES`` chooses GPUs.
        track: Log each epoch to these trackers too: `tensorboard`, `wandb`, `mlflow`.
        overwrite: Start over: remove the comparison that is in the folder.
        quiet: Show no progress.

    Returns:
        The comparison; its `failed` names the runs that failed, which the same call tries again.

    Raises:
        LabelEmbedError: For what cannot be used; when another process makes the comparison; when every run failed.

    Example:
        >>> comparison = labelembed.compare("digits-mlp", objectives=["one_hot", "label_embedding"], seeds=8)
        >>> comparison.table()
    """
    if trials is not None and not tuned:
        raise RecipeError(["goes with --tuned (in Python tuned=True)"], source="--trials")
    if cluster is not None and jobs is not None:
        raise RecipeError(["goes with one machine; a worker of --cluster makes one run at a time"], source="--jobs")
    if device not in (None, "auto", "cpu"):
        raise RecipeError([f"must be auto or cpu, got {device!r}; CUDA_VISIBLE_DEVICES chooses GPUs"], source="device")
    where = (jobs, cluster, "cpu" if device == "cpu" else None, tracker_names(track))
    path = _written_frame(data, out) if hasattr(data, "to_csv") else None if data is None else str(data)
    chosen, name = choose_recipe(recipe, settings=_settings(settings), data=path, say=say)
    default = Path("comparisons") / (folder_name(chosen, name) + ("-tuned" if tuned else ""))
    folder = default if out is None else Path(out)
    if (folder / "recipe.yaml").exists():
        raise RunFolderError(f"{folder}: holds a single run; choose another folder with --out")
    with locked(folder, doing="made"):
        own: Any = (chosen.comparison or ComparisonBlock()).baseline
        about = ComparisonFile.model_construct(recipe=name, baseline=own, seeds=[], variants=[])
        if (folder / DESCRIPTION_FILE).exists() and not overwrite:
            about = ComparisonFile.read(folder)
        about.recipe = name
        variants, chosen = variants_of(chosen, objectives), with_whole_paths(chosen)
        variants = to_tune(chosen, variants) if tuned else variants
        making = _Making(chosen, folder, variants, seeds_of(chosen, seeds), about, *where, quiet)
        source, wanted = ("comparison.baseline", about.baseline) if baseline is None else ("--baseline", baseline)
        about.baseline = baseline_among([*variants, *making.kept], wanted, source=source)
        made = making.make((10 if trials is None else trials) if tuned else None, overwrite=overwrite)
        comparison = Comparison(report.write_comparison(folder, redraw=made))
    if comparison.failed and not any(variant.runs for variant in comparison.read.variants):
        raise failure_of(comparison)
    return comparison


def failure_of(comparison: Comparison) -> TrainingError:
    """Returns the error that lists the failed runs of a comparison."""
    failed = comparison.failed
    heading = f"{len(failed)} run{'s' if len(failed) != 1 else ''} failed; the same command tries again"
    reasons = [f"{name}: {(why.splitlines() or ['no reason'])[0]}" for name, why in failed.items()]
    return TrainingError("\n".join([heading, *reasons]))


def _settings(given: Mapping[str, Any] | Sequence[str]) -> list[str]:
    """Returns settings as `--set` takes them."""
    if not isinstance(given, Mapping):
        return list(given)
    import yaml

    plain = {key: one.tolist() if hasattr(one, "tolist") else one for key, one in given.items()}  # NumPy's too
    texts = {key: yaml.safe_dump([one], default_flow_style=True, width=10**9) for key, one in plain.items()}
    return [f"{key}={text[1:-2]}" for key, text in texts.items()]


def _written_frame(frame: Any, out: str | Path | None) -> str:
    """Writes a DataFrame as a CSV file that is named after its content, and returns its path."""
    content = frame.to_csv(index=False).encode()
    folder = Path("comparisons" if out is None else out)
    path = folder / f"frame-{hashlib.sha256(content).hexdigest()[:8]}.csv"
    folder.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return str(path)


def notes_of(recipe: Recipe, data: TrainingData) -> list[str]:
    """Returns the notes on the data, why a comparison may show little, and what a linear classifier reaches."""
    notes = list(data.notes)
    if isinstance(data, LabelledData):
        from_scratch = data.images is not None and recipe.model.get("weights", RANDOM) == RANDOM
        notes += comparison_notes(data, random_weights=from_scratch)
        if data.encoder.left_to_do is None:  # a dry run has stand-ins for features
            shown = ", ".join(f"{split} error {error:.2%}" for split, error in reference_errors(data).items())
            notes += [f"logistic regression on the same inputs: {shown}"] if shown else []
    return notes


@dataclass
class _Making:
    """A comparison in the making; the caller has the folder's lock. `about` is its ``comparison.json`` so far."""

    recipe: Recipe
    out: Path
    variants: list[Variant]
    seeds: list[int]
    about: ComparisonFile
    processes: int | None
    cluster: str | None
    device: str | None
    track: Sequence[str]
    quiet: bool

    @property
    def kept(self) -> list[Variant]:
        """The variants already in the folder that are not requested now; they stay in the table."""
        names = {variant.name for variant in self.variants}
        kept = [Variant(one.name, one.folder, one.objective) for one in self.about.variants if one.name not in names]
        tuned = {entry["name"]: entry["arguments"] for entry in self.about.tuning.get("variants", ())}
        return [tuned_variant(self.recipe, one, tuned[one.name]) if one.name in tuned else one for one in kept]

    @cached_property
    def data(self) -> TrainingData:
        """The data, read when first needed: the processes of the runs read them themselves."""
        with RunDisplay(quiet=self.quiet).watching() as display:
            return build_data(self.recipe, progress=display.reading)

    def jobs(self, variants: Sequence[Variant], seeds: Iterable[int]) -> list[Job]:
        """Returns runs, seed by seed, so that an early look compares all variants."""
        runs, recipe = self.out / "runs", self.recipe
        return [
            Job(f"{one.name} seed {seed}", one.recipe_of(recipe, seed), runs / one.folder / f"seed-{seed}", self.track)
            for seed in seeds
            for one in variants
        ]

    def make(self, trials: int | None, *, overwrite: bool) -> bool:
        """Makes the runs that are not finished, the trials of the variants first; returns whether there were any.

        Errors are raised before anything is written.
        """
        tuning = None
        if trials is not None:
            where = self.out / TUNING_FOLDER
            tuning = Tuning(self.recipe, where, self.variants, trials=trials, taken_seeds=self.seeds)
        if not overwrite:
            self._check_trials(trials)
            self._check_recipes()
        runs = self.jobs(self.variants, self.seeds)
        is_done = tuning is None and not overwrite and not _unfinished(runs)
        if not is_done and self.cluster is None:
            pools.start_fork_server()  # it imports while this process reads the data
        patterns = () if overwrite else ("runs/*/seed-*", f"{TUNING_FOLDER}/*/trial-*")
        folders = [RunFolder(path) for pattern in patterns for path in sorted(self.out.glob(pattern))]
        present = [folder for folder in folders if folder.state() != "empty"]
        if not have_same_data(self.recipe, present):
            for folder in present:
                check_same_data(self.recipe, folder, data=self.data)
        for run in () if is_done else runs[: len(self.variants)]:
            try_network(run.recipe, self.data)
        if tuning is not None and self.data.validation is None:
            message = "needs a validation set to choose by; hold one out with --set data.validation.fraction=0.1"
            raise RecipeError([message], source="--tuned")
        if not is_done and not {"validation", "test"} & self.data.splits.keys():
            raise DataError(f"{self.data.source}: has neither validation nor test examples to compare by")
        if self.cluster is not None and not is_done:
            pools.DaskPool(self.cluster).stop()  # it is there, before anything is removed
        if overwrite:
            remove_comparison(self.out)
        if tuning is not None:
            self._tune(tuning)
        return self._make_runs()

    def _check_trials(self, trials: int | None) -> None:
        """Raises RunFolderError where tuned and untuned variants, or numbers of trials, would be mixed."""
        before = self.about.tuning
        if self.about.variants and (trials is None) == bool(before):
            here, way_out = ("tuned", "give --tuned") if before else ("untuned", "leave out --tuned")
            raise RunFolderError(f"{self.out}: holds {here} variants, and all must be alike: {way_out}, or {_WAY_OUT}")
        if before and (trials or 0) < before["trials"]:
            raise RunFolderError(f"{self.out}: holds {before['trials']} trials each; give --trials {before['trials']}")
        asked = {variant.name for variant in self.variants}
        if before.get("trials") != trials and any(entry["was"] not in asked for entry in before.get("variants", ())):
            what = f"the others had {before['trials']} trials each, and all get the same number"
            raise RunFolderError(f"{self.out}: {what}: --trials {before['trials']}, or name all in --objectives")

    def _check_recipes(self) -> None:
        """Raises RunFolderError where a folder holds the run of another recipe."""
        for run in self.jobs([*self.kept, *self.variants], sorted({*self.seeds, *self.about.seeds})):
            if RunFolder(run.folder).state() != "empty":
                check_same_recipe(run.recipe, RunFolder(run.folder), way_out=_WAY_OUT)

    def _tune(self, tuning: Tuning) -> None:
        """Replaces the requested variants by their tuned forms."""
        self.variants, tuned = tuning.make(self._run)
        names = {entry["was"]: entry["name"] for entry in tuned["variants"]}
        self.about.baseline = names.get(self.about.baseline, self.about.baseline)
        others = [entry for entry in self.about.tuning.get("variants", ()) if entry["was"] not in names]
        self.about.tuning = tuned | {"variants": [*others, *tuned["variants"]]}
        self._check_recipes()

    def _make_runs(self) -> bool:
        runs, about = self.jobs(self.variants, self.seeds), self.about
        missing = _unfinished(runs)
        if len(missing) < len(runs) and not self.quiet:
            say(f"{len(runs) - len(missing)} of {len(runs)} runs reused")
        entries = [VariantEntry(name=one.name, folder=one.folder, objective=one.objective) for one in self.variants]
        about.add(entries, self.seeds)
        if missing:
            about.notes = notes_of(self.recipe, self.data)
            for note in about.notes:
                say(f"data: {note}")
        about.write(self.out)
        for run in missing:
            with suppress(OSError):  # the run says what is in the way
                (run.folder / "result.json").unlink()  # of one that failed before
        failed = self._run(missing, len(runs) - len(missing), len(runs))
        for run in missing:
            if run.name in failed and RunFolder(run.folder).state() != "failed":  # it could not write why
                try:
                    run.folder.mkdir(parents=True, exist_ok=True)
                    failure = {"format": 1, "status": "failed", "message": failed[run.name]}
                    RunFolder(run.folder).write("result.json", failure)
                except OSError as error:  # nor can we
                    raise TrainingError(f"{run.name}: {failed[run.name]}") from error
        return bool(missing)

    def _run(self, todo: Sequence[Job], done: int, total: int) -> dict[str, str]:
        """Makes runs and shows how many of all are done; returns why runs failed, by their name."""
        if not todo:
            return {}
        epochs, device = todo[0].recipe.number_of_epochs(self.data), self.device
        running, failed = {job.name: RunFolder(job.folder) for job in todo}, {}
        jobs, gpus = min(self.processes or pools.default_jobs(device), len(todo)), pools.visible_gpus(device)
        pool = pools.LocalPool(jobs, gpus=gpus) if self.cluster is None else pools.DaskPool(self.cluster)
        try:
            for job in todo:
                recipe, where = with_whole_paths(job.recipe), job.folder.absolute()
                pool.submit(replace(job, recipe=recipe, folder=where, device=device))
            with Shown(quiet=self.quiet).watching() as shown:
                while running:
                    at = {name: _epochs_made(folder) for name, folder in running.items()}
                    text = ", ".join(
                        f"{name}: epoch {min(int(made) + 1, epochs)}/{epochs}" for name, made in at.items() if made
                    )
                    shown.show(f"{done} of {total} runs", (done + sum(at.values()) / epochs) / total, text)
                    for job, error in pool.poll(0.25):
                        done, folder = done + 1, running.pop(job.name)
                        # Without the test set, so that it cannot influence a choice before the end.
                        reached = "FAILED: " + error if error else metrics_text(folder.result() | {"test": None})
                        shown.say(f"[{done}/{total}] {job.name}: {reached}".splitlines()[0])
                        if error:
                            failed[job.name] = error
        finally:
            pool.stop()
        return failed


def _unfinished(jobs: Sequence[Job]) -> list[Job]:
    return [job for job in jobs if RunFolder(job.folder).state() != "finished"]


def _epochs_made(folder: RunFolder) -> float:
    with suppress(OSError, ValueError):  # not there yet, or being written
        return float((folder.path / pools.PROGRESS_FILE).read_text())
    return 0.0
