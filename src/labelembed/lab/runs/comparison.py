"""Comparisons: variants of the objective times seeds, a run folder each, finished ones reused."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from labelembed.lab import report
from labelembed.lab.errors import RecipeError, RunFolderError, TrainingError
from labelembed.lab.recipes.choosing import choose_recipe, folder_name
from labelembed.lab.recipes.schema import ComparisonBlock, Recipe
from labelembed.lab.recipes.variants import Variant, baseline_among, seeds_of, variants_of
from labelembed.lab.runs.build import build_data
from labelembed.lab.runs.cluster import opened_pool
from labelembed.lab.runs.display import RunDisplay, RunsDisplay, say
from labelembed.lab.runs.pools import check_machines, job_for, start_fork_server
from labelembed.lab.runs.recipe_diff import check_same_recipe, differences, listed
from labelembed.lab.runs.results import Comparison
from labelembed.lab.runs.run import check_same_data, have_same_data, try_network
from labelembed.lab.runs.run_lock import locked
from labelembed.lab.runs.tuning import TUNING_FOLDER, Tuning, plan_tuning, tune
from labelembed.lab.training.comparison_folder import (
    DESCRIPTION_FILE,
    ComparisonFile,
    FailedRun,
    VariantEntry,
    remove_comparison,
)
from labelembed.lab.training.files import make_writable_folder
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
    space: Sequence[str] = (),
    jobs: int | None = None,
    cluster: str | None = None,
    device: str | None = None,
    track: str | Sequence[str] = (),
    overwrite: bool = False,
    quiet: bool = False,
) -> Comparison:
    """Trains several objectives with several seeds and returns the comparison; `labelembed compare` calls it.

    A folder that holds a comparison of the same recipe gets what is new; finished runs are reused. Interrupted
    (Ctrl-C, or the notebook's stop button) it keeps what is done, and the same call goes on.

    Args:
        recipe: A recipe that ships, or a YAML file; None: the one that fits `data`.
        data: Where the data are, or a DataFrame of examples, which is written beside the comparison as a CSV file.
        objectives: Names, ``"label_smoothing:smoothing=0.2"``, or blocks of a recipe; None: the recipe's own list.
        seeds: How many, or which; None: the recipe's own.
        baseline: The variant that the others are compared with; None: the folder's, else the recipe's.
        settings: Other values for keys of the recipe, ``{"optimizer.learning_rate": 0.01}``.
        out: The comparison folder; None: ``comparisons/DATA-RECIPE``, of tuned ones with ``-tuned`` at its end.
        tuned: First tune learning rate, weight decay and arguments of each objective on the validation set.
        trials: With `tuned`: how many each objective gets; None: 10.
        space: With `tuned`: what else or otherwise is tuned, as ``"objective.smoothing=0.05:0.6"``.
        jobs: Runs at once, one thread each; None: one a GPU, else one a core.
        cluster: The dask scheduler whose workers make the runs, ``tcp://host:port``; None: this machine.
        device: `cpu`, `cuda`, `cuda:1`, `mps`; None: what there is.
        track: Log each epoch to these trackers too: `tensorboard`, `wandb`, `mlflow`.
        overwrite: Start over: remove the comparison that is in the folder.
        quiet: Show no progress.

    Returns:
        The comparison; its `failed` names the runs that failed, which the same call tries again.

    Raises:
        RecipeError: With every error of recipe and variants.
        DataError: When the data cannot be used.
        RunFolderError: When the folder holds something else, a comparison of another recipe, or one that another
            process makes.
        TrainingError: When every run failed.
        LabelEmbedError: There is no such device or tracker.

    Example:
        >>> comparison = labelembed.compare("digits-mlp", objectives=["one_hot", "label_embedding"], seeds=8)
        >>> comparison.table()
    """
    given = [name for name, value in {"--trials": trials is not None, "--space": space}.items() if value]
    if given and not tuned:
        raise RecipeError(["goes with --tuned (in Python tuned=True)"], source=given[0])
    check_machines(jobs=jobs, cluster=cluster, device=device)
    trackers = tracker_names(track)
    path = _written_frame(data, out) if hasattr(data, "to_csv") else None if data is None else str(data)
    chosen, name = choose_recipe(recipe, settings=_settings(settings), data=path, say=say)
    number = (10 if trials is None else trials) if tuned else None
    default = Path("comparisons") / (folder_name(chosen, name) + ("-tuned" if tuned else ""))
    plan = Plan(chosen, name, default if out is None else Path(out), trials=number)
    making = _Making(chosen, name, {"jobs": jobs, "cluster": cluster, "device": device}, trackers, quiet)
    if plan.out.is_file() or (plan.out / "recipe.yaml").exists():
        what = "is a file" if plan.out.is_file() else "holds a single run"
        raise RunFolderError(f"{plan.out}: {what}; choose another folder with --out")
    try:
        with locked(plan.out, doing="made"):
            plan = plan_comparison(plan, objectives=objectives, seeds=seeds, baseline=baseline, overwrite=overwrite)
            made = making.make(plan, space, overwrite=overwrite)
            comparison = Comparison(report.write_comparison(plan.out, redraw=made))
    except KeyboardInterrupt:
        say("stopped; finished runs are kept. To go on, call the same again")
        raise
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
    make_writable_folder(folder)
    if not path.exists():
        path.write_bytes(content)
    return str(path)


# ---- what is to be run


class PlannedRun(NamedTuple):
    """One run: what it is called, its recipe and folder, and of what variant and seed it is."""

    name: str
    recipe: Recipe
    folder: Path
    variant: Variant
    seed: int


@dataclass(frozen=True)
class Plan:
    """What a comparison will run: its variants and seeds, which are the same for every variant.

    `trials` is the number of trials of each variant before the comparison, None where nothing is tuned; `before` what
    the folder's ``comparison.json`` says so far; `tuning` how the variants' arguments were found.
    """

    recipe: Recipe
    recipe_name: str
    out: Path
    trials: int | None = None
    variants: list[Variant] = field(default_factory=list)
    baseline: str = ""
    seeds: list[int] = field(default_factory=list)
    before: ComparisonFile | None = None
    tuning: dict[str, Any] = field(default_factory=dict)

    @property
    def runs(self) -> list[PlannedRun]:
        """Every run of the plan, seed by seed, so that an early look compares all variants."""
        return [
            PlannedRun(f"{one.name} seed {seed}", one.recipe_of(self.recipe, seed), folder, one, seed)
            for seed in self.seeds
            for one in self.variants
            for folder in [self.out / "runs" / one.folder / f"seed-{seed}"]
        ]

    @property
    def kept(self) -> list[VariantEntry]:
        """The variants of before that are not asked for and stay in the table."""
        names = {variant.name for variant in self.variants}
        return [entry for entry in (self.before.variants if self.before else ()) if entry.name not in names]

    def file(self) -> ComparisonFile:
        """Returns what ``comparison.json`` is to say."""
        entries = [VariantEntry(name=one.name, folder=one.folder, objective=one.objective) for one in self.variants]
        published = [figure.model_dump() for figure in self.recipe.published or ()]
        about = ComparisonFile(
            recipe=self.recipe_name, baseline=entries[0].name, seeds=self.seeds, variants=entries, published=published
        )
        if self.before is not None:
            kept = {entry.name for entry in self.kept}
            about.variants = list(self.before.variants)
            about.failed = [one for one in self.before.failed if one.variant in kept]
        about.baseline, about.tuning = self.baseline, self.tuning
        about.add(entries, self.seeds)
        return about

    def check_run_folders(self) -> None:
        """Raises RunFolderError where a folder holds the run of another recipe."""
        for run in self.runs:
            if RunFolder(run.folder).state() != "empty":
                check_same_recipe(run.recipe, RunFolder(run.folder), way_out=_WAY_OUT)


def plan_comparison(
    plan: Plan,
    *,
    objectives: str | Sequence[str | dict[str, Any]] | None = None,
    seeds: str | int | Sequence[int] | None = None,
    baseline: str | None = None,
    overwrite: bool = False,
) -> Plan:
    """Returns a complete plan, every recipe checked and every existing folder looked into.

    Where the folder holds a comparison already, variants and seeds are added to it.

    Raises:
        RecipeError: With every error of every variant.
        RunFolderError: When a folder holds the run of another recipe, or the comparison is of another one.
    """
    before = ComparisonFile.read(plan.out) if not overwrite and (plan.out / DESCRIPTION_FILE).exists() else None
    variants = variants_of(plan.recipe, objectives)
    plan = replace(plan, variants=variants, seeds=seeds_of(plan.recipe, seeds), before=before)
    here = [*variants, *(Variant(one.name, one.folder, one.objective) for one in plan.kept)]
    if before is not None:
        _check_tuned_alike(plan, before)
        _check_kept_recipe(plan, before)
    if baseline is not None:
        named = baseline_among(here, baseline, source="--baseline")
    elif before is not None and before.baseline in [one.name for one in here]:
        named = before.baseline
    else:
        own = (plan.recipe.comparison or ComparisonBlock()).baseline
        named = baseline_among(variants, own, source="comparison.baseline")
    plan = replace(plan, baseline=named)
    if not overwrite and plan.trials is None:
        plan.check_run_folders()
    return plan


def _check_tuned_alike(plan: Plan, before: ComparisonFile) -> None:
    """Raises RunFolderError where tuned and other variants, or such of unequal trials, would stand in one table."""
    if (plan.trials is not None) != bool(before.tuning):
        here, wanted = ("tuned", "--tuned") if before.tuning else ("untuned", "no --tuned")
        raise RunFolderError(f"{plan.out}: holds {here} variants, and all must be alike: give {wanted}, or {_WAY_OUT}")
    asked, trials = {variant.name for variant in plan.variants}, before.tuning.get("trials")
    missing = [one["name"] for one in before.tuning.get("variants", []) if one.get("was") not in asked]
    if missing and trials != plan.trials:
        what = f"{', '.join(missing)} had {trials} trials each, and all variants get the same number"
        raise RunFolderError(f"{plan.out}: {what}: give --trials {trials}, or name all of them with --objectives")


def _check_kept_recipe(plan: Plan, before: ComparisonFile) -> None:
    """Raises RunFolderError, with the differences, where the variants that stay had another recipe."""
    own = {"seed", *(key for one in before.tuning.get("variants", []) for key in one.get("arguments", {}))}
    for entry in plan.kept:
        folders = [RunFolder(plan.out / "runs" / entry.folder / f"seed-{seed}") for seed in entry.seeds]
        folder = next((folder for folder in folders if folder.state() != "empty"), None)
        differing = {} if folder is None else differences(plan.recipe, folder)
        differing = {key: two for key, two in differing.items() if key not in own and not key.startswith("objective.")}
        if differing:
            raise RunFolderError(f"{plan.out}: holds a comparison of another recipe; {_WAY_OUT}. {listed(differing)}")


# ---- making it


@dataclass(frozen=True)
class _Making:
    """Makes the runs of a comparison; the caller has the folder's lock."""

    recipe: Recipe
    recipe_name: str
    machines: dict[str, Any]
    track: Sequence[str]
    quiet: bool

    @cached_property
    def data(self) -> TrainingData:
        """The data, read when first needed: the processes of the runs read them themselves."""
        with RunDisplay(self.recipe.data["name"], quiet=self.quiet).watching() as display:
            data = build_data(self.recipe, progress=display.reading)
        for note in data.notes:
            say(f"data: {note}")
        return data

    def make(self, plan: Plan, space: Sequence[str], *, overwrite: bool) -> bool:
        """Makes the runs that are not finished, the trials of the variants first; returns whether there were any."""
        tuning = None
        if plan.trials is not None:
            tuned: dict[str, Any] = {
                "variants": plan.variants,
                "trials": plan.trials,
                "taken_seeds": plan.seeds,
                "space": space,
            }
            tuning = plan_tuning(self.recipe, plan.out / TUNING_FOLDER, **tuned)
            if plan.baseline in tuning.left_out:
                message = f"{plan.baseline} differs from another variant only in what is tuned; name that one"
                raise RecipeError([message], source="--baseline")
        is_done = (
            not overwrite and tuning is None and all(RunFolder(run.folder).state() == "finished" for run in plan.runs)
        )
        if not is_done and self.machines["cluster"] is None:
            start_fork_server()  # it imports while this process reads the data
        patterns = () if overwrite else ("runs/*/seed-*", f"{TUNING_FOLDER}/*/trial-*")
        folders = [RunFolder(path) for pattern in patterns for path in sorted(plan.out.glob(pattern))]
        present = [folder for folder in folders if folder.state() != "empty"]
        # An error is said once, here, before anything is written.
        if not is_done or not have_same_data(self.recipe, present):
            for folder in present:
                check_same_data(self.recipe, folder, data=self.data)
        if not is_done:
            for run in plan.runs[: len(plan.variants)]:
                try_network(run.recipe, self.data)
        if overwrite:
            remove_comparison(plan.out)
        if tuning is not None:
            plan = self._tuned(plan, tuning)
        return self._make_runs(plan)

    def _tuned(self, plan: Plan, tuning: Tuning) -> Plan:
        """Returns the plan with the variants that the trials chose."""
        for name in tuning.left_out:
            say(f"note: {name} is left out: it differs from another only in what is tuned")
        trials = tuning.folders()
        reused = sum((folder / "result.json").exists() for folder in trials)
        if not self.quiet and reused < len(trials):
            say(f"tuning first: {len(trials)} runs of trials, then {len(plan.runs)} runs of the comparison")
        display = RunsDisplay(total=len(trials), reused=reused, quiet=self.quiet, hide_test=True)
        variants, about = tune(tuning, lambda todo: self._run(todo, display))
        names = {entry["was"]: entry["name"] for entry in about["variants"]}
        if plan.before is not None:
            others = [one for one in plan.before.tuning["variants"] if one["name"] not in names.values()]
            about["variants"] = [*others, *about["variants"]]
        baseline = names.get(plan.baseline, plan.baseline)
        plan = replace(plan, variants=variants, baseline=baseline, tuning=about)
        plan.check_run_folders()
        return plan

    def _make_runs(self, plan: Plan) -> bool:
        missing = [run for run in plan.runs if RunFolder(run.folder).state() != "finished"]
        reused = len(plan.runs) - len(missing)
        if reused and not self.quiet:
            say(f"{reused} of {len(plan.runs)} runs reused")
        make_writable_folder(plan.out)
        about = plan.file().model_copy(update={"reused": reused, "made": len(missing)})
        about.write(plan.out)
        display = RunsDisplay(total=len(plan.runs), reused=reused, quiet=self.quiet)
        failed = self._run([run[:3] for run in missing], display, self.track)
        for run in missing:
            if run.name in failed and RunFolder(run.folder).state() != "failed":  # it could not write why
                about.failed.append(FailedRun(variant=run.variant.name, seed=run.seed, message=failed[run.name]))
        if about.failed:
            about.write(plan.out)
        return bool(missing)

    def _run(
        self, todo: Sequence[tuple[str, Recipe, Path]], display: RunsDisplay, track: Sequence[str] = ()
    ) -> dict[str, str]:
        """Makes runs with progress shown; returns why runs failed, by their name."""
        failed: dict[str, str] = {}
        if not todo:
            return failed
        epochs = todo[0][1].number_of_epochs(self.data)
        with opened_pool(most=len(todo), **self.machines) as pool, display.shown.watching():
            for name, recipe, folder in todo:
                display.add(name, folder, epochs)
                source = f"{self.recipe_name}, {name}"
                pool.submit(job_for(name, recipe, folder, source=source, device=self.machines["device"], track=track))
            count = 0
            while count < len(todo):
                display.update()
                for job, error in pool.poll(0.25):
                    count += 1
                    display.ended(job.name, error, {} if error else RunFolder(job.folder).result())
                    if error:
                        failed[job.name] = error
        return failed
