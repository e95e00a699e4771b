"""Comparisons: variants of the objective times seeds, a run folder each, finished ones reused."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from labelembed.lab import report
from labelembed.lab.errors import RecipeError, RunFolderError, TrainingError
from labelembed.lab.recipes.blocks import ComparisonBlock
from labelembed.lab.recipes.choosing import choose_recipe, folder_name
from labelembed.lab.recipes.schema import Recipe
from labelembed.lab.recipes.variants import Variant, baseline_among, seeds_of, variants_of
from labelembed.lab.runs.build import build_data
from labelembed.lab.runs.display import RunDisplay, RunsDisplay, say
from labelembed.lab.runs.pools import check_machines, job_for, opened_pool, start_fork_server
from labelembed.lab.runs.recipe_diff import check_same_recipe, differences, listed
from labelembed.lab.runs.results import Comparison
from labelembed.lab.runs.run import check_same_data, have_same_data, try_network
from labelembed.lab.runs.run_lock import locked
from labelembed.lab.runs.tuning import TUNING_FOLDER, plan_tuning, tune
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
_POLL_SECONDS = 0.25


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
    given = [name for name, value in {"--trials": trials, "--space": space}.items() if value]
    if given and not tuned:
        raise RecipeError(["goes with --tuned (in Python tuned=True)"], source=given[0])
    trackers = tracker_names(track)
    check_machines(jobs=jobs, cluster=cluster, device=device)
    path = _written_frame(data, out) if hasattr(data, "to_csv") else None if data is None else str(data)
    chosen, name = choose_recipe(recipe, settings=_settings(settings), data=path, say=say)
    default = Path("comparisons") / (folder_name(chosen, name) + ("-tuned" if tuned else ""))
    making = _Making(
        chosen,
        name,
        default if out is None else Path(out),
        {"jobs": jobs, "cluster": cluster, "device": device},
        trackers,
        quiet,
    )
    try:
        check_no_run_folder(making.out)
        with locked(making.out, doing="made"):
            plan = plan_comparison(
                chosen,
                name,
                making.out,
                objectives=objectives,
                seeds=seeds,
                baseline=baseline,
                tuned=(10 if trials is None else trials) if tuned else None,
                overwrite=overwrite,
            )
            made = making.make(plan, trials=plan.trials, space=space, overwrite=overwrite)
            comparison = Comparison(report.write_comparison(making.out, redraw=made))
    except KeyboardInterrupt:
        say("stopped; finished runs are kept. To go on, call the same again")
        raise
    if comparison.failed and not any(variant.runs for variant in comparison.read.variants):
        raise TrainingError("\n".join(f"{name}: {why.splitlines()[0]}" for name, why in comparison.failed.items()))
    return comparison


def _settings(given: Mapping[str, Any] | Sequence[str]) -> list[str]:
    """Returns settings as `--set` takes them."""
    if not isinstance(given, Mapping):
        return list(given)
    import yaml

    return [
        f"{key}={yaml.safe_dump([value], default_flow_style=True, width=10**9)[1:-2]}" for key, value in given.items()
    ]


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
    """One run of a comparison."""

    variant: Variant
    seed: int
    recipe: Recipe
    folder: Path

    @property
    def name(self) -> str:
        """What it is called."""
        return f"{self.variant.name} seed {self.seed}"

    @property
    def is_finished(self) -> bool:
        """Whether it is done."""
        return RunFolder(self.folder).state() == "finished"


@dataclass(frozen=True)
class ComparisonPlan:
    """What a comparison will run, all of it checked.

    Args:
        recipe: Everything but objective and seed.
        recipe_name: For people and for the comparison's folder.
        out: The comparison folder.
        variants: What is asked for, a line of the table each.
        baseline: Name of the variant that the others are compared with.
        seeds: Of the runs; the same for every variant, so that differences are paired.
        before: What the folder's ``comparison.json`` says so far; None for a new comparison.
        trials: Of each variant before the comparison; None: nothing is tuned.
        tuning: How the variants' arguments were found; empty where they were not tuned, or not yet.
    """

    recipe: Recipe
    recipe_name: str
    out: Path
    variants: list[Variant]
    baseline: str
    seeds: list[int]
    before: ComparisonFile | None = None
    trials: int | None = None
    tuning: dict[str, Any] | None = None

    @property
    def runs(self) -> list[PlannedRun]:
        """Every run that is asked for, seed by seed, so that an early look compares all variants."""
        return [
            PlannedRun(
                variant,
                seed,
                variant.recipe_of(self.recipe, seed),
                self.out / "runs" / variant.folder / f"seed-{seed}",
            )
            for seed in self.seeds
            for variant in self.variants
        ]

    @property
    def kept(self) -> list[VariantEntry]:
        """The variants of before that are not asked for and stay in the table."""
        names = {variant.name for variant in self.variants}
        return [entry for entry in (self.before.variants if self.before else ()) if entry.name not in names]

    def file(self) -> ComparisonFile:
        """Returns what ``comparison.json`` is to say."""
        entries = [VariantEntry(name=one.name, folder=one.folder, objective=one.objective) for one in self.variants]
        about = ComparisonFile(
            recipe=self.recipe_name,
            baseline=self.baseline,
            seeds=self.seeds,
            variants=[*self.kept, *entries],
            published=[figure.model_dump() for figure in self.recipe.published or ()],
            tuning=self.tuning or {},
        )
        if self.before is not None:
            about.variants = [one.model_copy(deep=True) for one in self.before.variants]
            kept = {entry.name for entry in self.kept}
            about.failed = [one for one in self.before.failed if one.variant in kept]
        about.add(entries, self.seeds)
        return about


def plan_comparison(
    recipe: Recipe,
    recipe_name: str,
    out: Path,
    *,
    objectives: str | Sequence[str | dict[str, Any]] | None = None,
    seeds: str | int | Sequence[int] | None = None,
    baseline: str | None = None,
    tuned: int | None = None,
    overwrite: bool = False,
) -> ComparisonPlan:
    """Returns what a comparison will run, with every recipe checked and every existing folder looked into.

    Where the folder holds a comparison already, variants and seeds are added to it. `tuned` is the number of trials.

    Raises:
        RecipeError: With every error of every variant.
        RunFolderError: When a folder holds the run of another recipe, or the comparison is of another one.
    """
    variants = variants_of(recipe, objectives)
    is_there = not overwrite and (out / DESCRIPTION_FILE).exists()
    before = ComparisonFile.read(out) if is_there else None
    plan = ComparisonPlan(
        recipe, recipe_name, out, variants, variants[0].name, seeds_of(recipe, seeds), before, trials=tuned
    )
    if before is not None:
        _check_tuned_alike(plan, before)
        if before.recipe != recipe_name or plan.kept:
            _check_kept_recipe(plan, before)
    own = (recipe.comparison or ComparisonBlock()).baseline
    here = [*variants, *(Variant(one.name, one.folder, one.objective) for one in plan.kept)]
    if baseline is not None:
        named = baseline_among(here, baseline, source="--baseline")
    elif before is not None and before.baseline in [one.name for one in here]:
        named = before.baseline
    else:
        named = baseline_among(variants, own, source="comparison.baseline")
    plan = ComparisonPlan(**(vars(plan) | {"baseline": named}))
    if not overwrite and tuned is None:
        _check_run_folders(plan)
    return plan


def _check_run_folders(plan: ComparisonPlan) -> None:
    for run in plan.runs:
        if RunFolder(run.folder).state() != "empty":
            check_same_recipe(run.recipe, RunFolder(run.folder), way_out=_WAY_OUT)


def _check_tuned_alike(plan: ComparisonPlan, before: ComparisonFile) -> None:
    """Raises RunFolderError where tuned and other variants, or such of unequal trials, would stand in one table."""
    if (plan.trials is not None) != bool(before.tuning):
        here, wanted = ("tuned", "--tuned") if before.tuning else ("untuned", "no --tuned")
        raise RunFolderError(f"{plan.out}: holds {here} variants, and all must be alike: give {wanted}, or {_WAY_OUT}")
    entries = before.tuning.get("variants", [])
    asked = {variant.name for variant in plan.variants}
    missing = [entry["name"] for entry in entries if entry.get("was") not in asked]
    if missing and before.tuning.get("trials") != plan.trials:
        raise RunFolderError(
            f"{plan.out}: {', '.join(missing)} had {before.tuning.get('trials')} trials each, and all variants get the "
            f"same number: give --trials {before.tuning.get('trials')}, or name all of them with --objectives"
        )


def _check_kept_recipe(plan: ComparisonPlan, before: ComparisonFile) -> None:
    """Raises RunFolderError, with the differences, where the variants that stay had another recipe."""
    tuned = {key for entry in before.tuning.get("variants", []) for key in entry.get("arguments", {})}
    for entry in plan.kept:
        folders = [RunFolder(plan.out / "runs" / entry.folder / f"seed-{seed}") for seed in entry.seeds]
        folder = next((folder for folder in folders if folder.state() != "empty"), None)
        differing = {} if folder is None else differences(plan.recipe, folder)
        own = {key for key in differing if key.startswith("objective.") or key == "seed" or key in tuned}
        if differing.keys() - own:
            rest = {key: values for key, values in differing.items() if key not in own}
            raise RunFolderError(f"{plan.out}: holds a comparison of another recipe; {_WAY_OUT}. {listed(rest)}")


def check_no_run_folder(out: Path) -> None:
    """Raises RunFolderError when a comparison is asked to go into a single run's folder, or onto a file."""
    if out.is_file():
        raise RunFolderError(f"{out}: is a file; name a folder with --out")
    if (out / "recipe.yaml").exists():
        raise RunFolderError(f"{out}: holds a single run; choose another folder with --out")


# ---- making it


@dataclass(frozen=True)
class _Making:
    """Makes a comparison; the caller has the folder's lock."""

    recipe: Recipe
    recipe_name: str
    out: Path
    machines: dict[str, Any]
    track: Sequence[str]
    quiet: bool

    def make(self, plan: ComparisonPlan, *, trials: int | None, space: Sequence[str], overwrite: bool) -> bool:
        """Makes the runs that are not finished, the trials of the variants first; returns whether there were any."""
        read = cache(self._read_data)
        tuning = None
        if trials is not None:
            where = {"variants": plan.variants, "taken_seeds": plan.seeds, "space": space}
            tuning = plan_tuning(self.recipe, self.out / TUNING_FOLDER, trials=trials, **where)
            if plan.baseline in tuning.left_out:
                message = f"{plan.baseline} differs from another variant only in what is tuned; name that one"
                raise RecipeError([message], source="--baseline")
        first = tuning.runs() if tuning else [(run.name, run.recipe, run.folder) for run in plan.runs]
        missing = [run for run in first if overwrite or RunFolder(run[2]).state() not in ("finished", "failed")]
        is_complete = not missing and tuning is None and all(run.is_finished for run in plan.runs)
        if not is_complete and self.machines["cluster"] is None:
            start_fork_server()  # it imports while this process reads the data
        patterns = () if overwrite else ("runs/*/seed-*", f"{TUNING_FOLDER}/*/trial-*")
        folders = [RunFolder(path) for pattern in patterns for path in sorted(self.out.glob(pattern))]
        present = [folder for folder in folders if folder.state() != "empty"]
        # An error is said once, here, before anything is written; the processes of the runs read the data themselves.
        if not is_complete or not have_same_data(self.recipe, present):
            for folder in present:
                check_same_data(self.recipe, folder, data=read())
            if not is_complete:
                tried: dict[str, Recipe] = {}
                for run in plan.runs:
                    tried.setdefault(run.variant.name, run.recipe)
                for recipe in tried.values():
                    try_network(recipe, read())
        if overwrite:
            remove_comparison(self.out)
        if tuning is not None:
            plan = self._tuned(plan, tuning, read)
        return self._make_runs(plan, read)

    def _tuned(self, plan: ComparisonPlan, tuning: Any, read: Any) -> ComparisonPlan:
        for name in tuning.left_out:
            say(f"note: {name} is left out: it differs from another only in what is tuned")
        total = len(tuning.runs())
        reused = sum((folder / "result.json").exists() for *_, folder in tuning.runs())
        if not self.quiet and reused < total:
            say(f"tuning first: {total} runs of trials, then {len(plan.runs)} runs of the comparison")
        variants, about = tune(tuning, partial(self._made, total=total, read=read, trials=True))
        names = {entry["was"]: entry["name"] for entry in about["variants"]}
        if plan.before is not None:
            others = [entry for entry in plan.before.tuning["variants"] if entry["name"] not in names.values()]
            about["variants"] = [*others, *about["variants"]]
        baseline = names.get(plan.baseline, plan.baseline)
        plan = ComparisonPlan(**(vars(plan) | {"variants": variants, "baseline": baseline, "tuning": about}))
        _check_run_folders(plan)
        return plan

    def _make_runs(self, plan: ComparisonPlan, read: Any) -> bool:
        missing = [run for run in plan.runs if not run.is_finished]
        reused = len(plan.runs) - len(missing)
        if not self.quiet:
            if reused:
                say(f"{reused} of {len(plan.runs)} runs reused")
            if plan.kept:
                say(f"in the table too, from before: {', '.join(entry.name for entry in plan.kept)}")
        make_writable_folder(self.out)
        about = plan.file()
        about.reused, about.made = reused, len(missing)
        about.write(self.out)

        def note(name: str, why: str) -> None:
            run = next(run for run in missing if run.name == name)
            if not _tells_its_failure(run.folder):
                about.failed.append(FailedRun(variant=run.variant.name, seed=run.seed, message=why))
                about.write(self.out)

        todo = [(run.name, run.recipe, run.folder) for run in missing]
        self._made(todo, total=len(plan.runs), read=read, note=note)
        return bool(missing)

    def _made(
        self,
        todo: Sequence[tuple[str, Recipe, Path]],
        *,
        total: int,
        read: Any,
        trials: bool = False,
        note: Any = lambda name, why: None,
    ) -> dict[str, str]:
        """Makes runs with progress shown; returns why runs failed, by their name."""
        failed: dict[str, str] = {}
        if not todo:
            return failed
        epochs = todo[0][1].number_of_epochs(read())
        display = RunsDisplay([(name, path) for name, _, path in todo], total=total, epochs=epochs, quiet=self.quiet)
        with opened_pool(most=len(todo), **self.machines) as pool, display.shown.watching():
            for name, recipe, folder in todo:
                source, device = f"{self.recipe_name}, {name}", self.machines["device"]
                track = () if trials else self.track
                pool.submit(job_for(name, recipe, folder, source=source, device=device, track=track))
            under_way = {name for name, *_ in todo}
            while under_way:
                display.update()
                for job, error in pool.poll(_POLL_SECONDS):
                    under_way.remove(job.name)
                    result = {} if error else RunFolder(job.folder).result()
                    # Nobody is to choose by the test set, not even by watching.
                    display.ended(job.name, error, result | ({"test": None} if trials else {}))
                    if error:
                        failed[job.name] = error
                        note(job.name, error)
        return failed

    def _read_data(self) -> TrainingData:
        display = RunDisplay(self.recipe.data["name"], quiet=self.quiet)
        with display.watching() if not self.quiet else nullcontext():
            data = build_data(self.recipe, progress=display.reading)
        for note in data.notes:
            say(f"data: {note}")
        return data


def _tells_its_failure(folder: Path) -> bool:
    """Tells whether a run that failed has written why into its folder; one that was killed has not."""
    try:
        return RunFolder(folder).state() == "failed"
    except RunFolderError:
        return False
