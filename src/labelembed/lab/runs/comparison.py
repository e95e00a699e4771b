"""Comparisons: variants of the objective times seeds, a run folder each, finished ones reused."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from labelembed.lab.runs.recipe_diff import check_same_recipe, differences, listed
from labelembed.lab.runs.results import Comparison
from labelembed.lab.runs.run import check_same_data, have_same_data, try_network
from labelembed.lab.runs.run_lock import locked
from labelembed.lab.runs.tuning import TUNING_FOLDER, Tuning
from labelembed.lab.training.comparison_folder import (
    DESCRIPTION_FILE,
    ComparisonFile,
    FailedRun,
    VariantEntry,
    remove_comparison,
)
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
    lr: float | None = None,
    batch_size: int | None = None,
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

    A folder that holds a comparison of the same recipe gets what is new; finished runs are reused. Interrupted
    it keeps what is done, and the same call goes on.

    Args:
        recipe: A recipe that ships, or a YAML file; None: the one that fits `data`.
        data: Where the data are, or a DataFrame of examples, which is written beside the comparison as a CSV file.
        objectives: Names, ``"label_smoothing:smoothing=0.2"``, or blocks of a recipe; None: the recipe's own list.
        seeds: How many, or which; None: the recipe's own.
        baseline: The variant that the others are compared with; None: the folder's, else the recipe's.
        settings: Other values for keys of the recipe, ``{"model.dropout": 0.1}``.
        lr: The learning rate; None: the recipe's.
        batch_size: Examples of a step; None: the recipe's.
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
    device, trackers = "cpu" if device == "cpu" else None, tracker_names(track)
    machines = {"jobs": jobs, "cluster": cluster, "device": device}
    named = {"optimizer.learning_rate": lr, "batch_size": batch_size}
    typed = [*_settings(settings), *_settings({key: value for key, value in named.items() if value is not None})]
    path = _written_frame(data, out) if hasattr(data, "to_csv") else None if data is None else str(data)
    chosen, name = choose_recipe(recipe, settings=typed, data=path, say=say)
    default = Path("comparisons") / (folder_name(chosen, name) + ("-tuned" if tuned else ""))
    folder = default if out is None else Path(out)
    if folder.is_file() or (folder / "recipe.yaml").exists():
        what = "is a file" if folder.is_file() else "holds a single run"
        raise RunFolderError(f"{folder}: {what}; choose another folder with --out")
    with locked(folder, doing="made"):
        before = ComparisonFile.read(folder) if (folder / DESCRIPTION_FILE).exists() and not overwrite else None
        variants, chosen = variants_of(chosen, objectives), with_whole_paths(chosen)
        making = _Making(chosen, name, folder, variants, seeds_of(chosen, seeds), before, machines, trackers, quiet)
        making.choose_baseline(baseline)
        made = making.make((10 if trials is None else trials) if tuned else None, overwrite=overwrite)
        comparison = Comparison(report.write_comparison(folder, redraw=made))
    if comparison.failed and not any(variant.runs for variant in comparison.read.variants):
        raise failure_of(comparison)
    return comparison


def failure_of(comparison: Comparison) -> TrainingError:
    """Returns what to say of the runs of a comparison that failed."""
    failed = comparison.failed
    heading = f"{len(failed)} run{'s' if len(failed) != 1 else ''} failed; the same command tries again"
    reasons = [f"{name}: {(why.splitlines() or ['no reason'])[0]}" for name, why in failed.items()]
    return TrainingError("\n".join([heading, *reasons]))


def _settings(given: Mapping[str, Any] | Sequence[str]) -> list[str]:
    """Returns settings as `--set` takes them."""
    if not isinstance(given, Mapping):
        return list(given)
    import yaml

    texts = {key: yaml.safe_dump([one], default_flow_style=True, width=10**9) for key, one in given.items()}
    return [f"{key}={text[1:-2]}" for key, text in texts.items()]


def _written_frame(frame: Any, out: str | Path | None) -> str:
    """Writes a DataFrame as a CSV file that is named after its content, and returns its path."""
    content = frame.to_csv(index=False).encode()
    folder = Path("comparisons" if out is None else out)
    path = folder / f"frame-{hashlib.sha256(content).hexdigest()[:8]}.csv"
    folder.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        path.write_bytes(content)
    return str(path)


def notes_of(recipe: Recipe, data: TrainingData) -> list[str]:
    """Returns what speaks against a comparison on these data, and what a linear classifier reaches, a line each."""
    notes = list(data.notes)
    if isinstance(data, LabelledData):
        from_scratch = data.images is not None and recipe.model.get("weights", RANDOM) == RANDOM
        notes += comparison_notes(data, random_weights=from_scratch)
        # a dry run has stand-ins for features
        if data.encoder.left_to_do is None and (reference := reference_errors(data)) is not None:
            errors = {"validation": reference.validation_error, "test": reference.test_error}
            shown = ", ".join(f"{split} error {error:.2%}" for split, error in errors.items() if error is not None)
            notes.append(f"{reference.name} on the same inputs: {shown}")
    return notes


@dataclass
class _Making:
    """A comparison in the making; the caller has the folder's lock.

    `before` is what the folder's ``comparison.json`` says so far, `tuning` how the variants' arguments were found.
    """

    recipe: Recipe
    name: str
    out: Path
    variants: list[Variant]
    seeds: list[int]
    before: ComparisonFile | None
    machines: dict[str, Any]
    track: Sequence[str]
    quiet: bool
    baseline: str = ""
    tuning: dict[str, Any] = field(default_factory=dict)

    @property
    def runs(self) -> list[Job]:
        """Every run, seed by seed, so that an early look compares all variants."""
        return [
            Job(f"{one.name} seed {seed}", one.recipe_of(self.recipe, seed), self._folder(one, seed), self.track)
            for seed in self.seeds
            for one in self.variants
        ]

    @property
    def missing(self) -> list[Job]:
        """The runs that are not finished."""
        return [run for run in self.runs if RunFolder(run.folder).state() != "finished"]

    def _folder(self, variant: Variant | VariantEntry, seed: int) -> Path:
        return self.out / "runs" / variant.folder / f"seed-{seed}"

    @property
    def kept(self) -> list[VariantEntry]:
        """The variants of before that are not asked for and stay in the table."""
        names = {variant.name for variant in self.variants}
        return [entry for entry in (self.before.variants if self.before else ()) if entry.name not in names]

    @cached_property
    def data(self) -> TrainingData:
        """The data, read when first needed: the processes of the runs read them themselves."""
        with RunDisplay(quiet=self.quiet).watching() as display:
            return build_data(self.recipe, progress=display.reading)

    def choose_baseline(self, asked: str | None) -> None:
        """Takes the baseline that is asked for, else that of before, else the recipe's own."""
        own = self.before.baseline if self.before else (self.recipe.comparison or ComparisonBlock()).baseline
        here = [*self.variants, *(Variant(one.name, one.folder, one.objective) for one in self.kept)]
        source = "comparison.baseline" if asked is None else "--baseline"
        self.baseline = baseline_among(here, own if asked is None else asked, source=source)

    def make(self, trials: int | None, *, overwrite: bool) -> bool:
        """Makes the runs that are not finished, the trials of the variants first; returns whether there were any.

        What is wrong is said once, here, before anything is written.
        """
        trials_folder, tuning = self.out / TUNING_FOLDER, None
        if self.before is not None:
            self._check_alike(self.before, trials)
        if trials is not None:
            tuning = Tuning(self.recipe, trials_folder, self.variants, trials=trials, taken_seeds=self.seeds)
        elif not overwrite:
            self._check_recipes()
        is_done = tuning is None and not overwrite and not self.missing
        if not is_done and self.machines["cluster"] is None:
            pools.start_fork_server()  # it imports while this process reads the data
        patterns = () if overwrite else ("runs/*/seed-*", f"{TUNING_FOLDER}/*/trial-*")
        folders = [RunFolder(path) for pattern in patterns for path in sorted(self.out.glob(pattern))]
        present = [folder for folder in folders if folder.state() != "empty"]
        if not is_done or not have_same_data(self.recipe, present):
            for folder in present:
                check_same_data(self.recipe, folder, data=self.data)
        for run in () if is_done else self.runs[: len(self.variants)]:
            try_network(run.recipe, self.data)
        if overwrite:
            remove_comparison(self.out)
        if tuning is not None:
            self._tune(tuning)
        return self._make_runs()

    def _check_alike(self, before: ComparisonFile, trials: int | None) -> None:
        """Raises RunFolderError where variants of before had other trials, or another recipe, than those to add."""
        if (trials is None) == bool(before.tuning):
            here, way_out = ("tuned", "give --tuned") if before.tuning else ("untuned", "leave out --tuned")
            raise RunFolderError(f"{self.out}: holds {here} variants, and all must be alike: {way_out}, or {_WAY_OUT}")
        asked, tuned = {variant.name for variant in self.variants}, before.tuning.get("variants", [])
        others = [one["name"] for one in tuned if one["was"] not in asked]
        if others and before.tuning["trials"] != trials:
            what = f"{', '.join(others)} had {before.tuning['trials']} trials each, and all get the same number"
            raise RunFolderError(f"{self.out}: {what}: --trials {before.tuning['trials']}, or name all in --objectives")
        own = {"seed", *(key for one in tuned for key in one["arguments"])}
        runs = (RunFolder(self._folder(entry, seed)) for entry in self.kept for seed in entry.seeds)
        if folder := next((run for run in runs if run.state() != "empty"), None):
            every = differences(self.recipe, folder).items()
            if differing := {key: two for key, two in every if not (key in own or key.startswith("objective."))}:
                what = f"holds a comparison of another recipe; {_WAY_OUT}. {listed(differing)}"
                raise RunFolderError(f"{self.out}: {what}")

    def _check_recipes(self) -> None:
        """Raises RunFolderError where a folder holds the run of another recipe."""
        for run in self.runs:
            if RunFolder(run.folder).state() != "empty":
                check_same_recipe(run.recipe, RunFolder(run.folder), way_out=_WAY_OUT)

    def _tune(self, tuning: Tuning) -> None:
        """Puts the variants that the trials choose in the place of those that were asked for."""
        for name, other in tuning.left_out.items():
            say(f"note: {name} is left out: it differs from {other} only in what is tuned")
        self.variants, self.tuning = tuning.make(self._run)
        names = {entry["was"]: entry["name"] for entry in self.tuning["variants"]}
        asked = tuning.left_out.get(self.baseline, self.baseline)
        self.baseline = names.get(asked, asked)
        others = [one for one in (self.before.tuning["variants"] if self.before else ()) if one["was"] not in names]
        self.tuning["variants"] = [*others, *self.tuning["variants"]]
        self._check_recipes()

    def _make_runs(self) -> bool:
        missing, before = self.missing, self.before
        entries = [VariantEntry(name=one.name, folder=one.folder, objective=one.objective) for one in self.variants]
        if len(missing) < len(self.runs) and not self.quiet:
            say(f"{len(self.runs) - len(missing)} of {len(self.runs)} runs reused")
        about = ComparisonFile(recipe=self.name, baseline=entries[0].name, seeds=self.seeds, variants=entries)
        if before is not None:
            kept = {entry.name for entry in self.kept}
            about.variants, about.notes = list(before.variants), before.notes
            about.failed = [one for one in before.failed if one.variant in kept]
        about.add(entries, self.seeds)
        about.baseline, about.tuning = self.baseline, self.tuning
        about.published = [figure.model_dump() for figure in self.recipe.published or ()]
        if missing:
            about.notes = notes_of(self.recipe, self.data)
            for note in self.data.notes:
                say(f"data: {note}")
        about.write(self.out)
        failed = self._run(missing, len(self.runs) - len(missing), len(self.runs))
        for run in missing:
            if run.name in failed and RunFolder(run.folder).state() != "failed":  # it could not write why
                variant = run.name.rpartition(" seed ")[0]
                about.failed.append(FailedRun(variant=variant, seed=run.recipe.seed, message=failed[run.name]))
        if about.failed:
            about.write(self.out)
        return bool(missing)

    def _run(self, todo: Sequence[Job], done: int, total: int) -> dict[str, str]:
        """Makes runs and shows how many of all are done; returns why runs failed, by their name."""
        failed: dict[str, str] = {}
        if not todo:
            return failed
        epochs = todo[0].recipe.number_of_epochs(self.data)
        running = {job.name: RunFolder(job.folder) for job in todo}
        pool, device = pools.opened_pool(**self.machines, most=len(todo)), self.machines["device"]
        try:
            for job in todo:
                recipe, where = with_whole_paths(job.recipe), job.folder.absolute()
                pool.submit(replace(job, recipe=recipe, folder=where, device=device))
            with Shown(quiet=self.quiet).watching() as shown:
                while running:
                    at = {name: epoch for name, folder in running.items() if (epoch := _epochs_made(folder))}
                    text = ", ".join(f"{name}: epoch {epoch}/{epochs}" for name, epoch in at.items())
                    shown.show(f"{done} of {total} runs", (done + sum(at.values()) / epochs) / total, text)
                    for job, error in pool.poll(0.25):
                        done, folder = done + 1, running.pop(job.name)
                        # Nothing of the test set before the end: nobody is to choose by it, not even by watching.
                        reached = "FAILED: " + error if error else metrics_text(folder.result() | {"test": None})
                        shown.say(f"[{done}/{total}] {job.name}: {reached}".splitlines()[0])
                        failed |= {job.name: error} if error else {}
        finally:
            pool.stop()
        return failed


def _epochs_made(folder: RunFolder) -> int:
    with suppress(RunFolderError, OSError):  # the run itself says what is wrong with its folder
        return len(folder.history())
    return 0
