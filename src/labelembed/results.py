"""Runs and comparisons from Python: `compare` makes one, `Run` and `Comparison` read what is there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labelembed import report
from labelembed.errors import RunFolderError, TrainingError, nearest
from labelembed.report.columns import ALL_MEASURES
from labelembed.report.frames import SPLITS, data_frame, flat_epoch, html_table, short
from labelembed.report.run_checks import journal_fault
from labelembed.training.run_folder import RunFolder, State

if TYPE_CHECKING:
    from pandas import DataFrame
    from torch import Tensor

    from labelembed.geometry import LabelGeometry
    from labelembed.recipes.schema import Recipe
    from labelembed.runs.comparison_plan import ComparisonPlan
    from labelembed.runs.saved_run import SavedRun
    from labelembed.runs.tuning_plan import TuningPlan


class Run:
    """One run folder; the run may still be going, or have failed. Made by `Run.load`.

    Attributes:
        path: The folder.
        state: `finished`, `failed` or `unfinished`, when it was read.
        recipe: The resolved recipe, as plain values.
        environment: What it ran on.
        result: How it ended, as in ``result.json``: fractions and nats; empty before the end.
        journal: One dictionary an epoch, as in ``journal.jsonl``.
    """

    def __init__(self, folder: RunFolder) -> None:
        self.path = folder.path
        self.recipe = folder.recipe()
        self.state: State = folder.state()
        self.environment = folder.environment()
        self.result = folder.result()
        self.journal = folder.journal()
        fault = journal_fault(self.journal)
        if fault:
            raise RunFolderError(f"{folder.path}/{fault}")

    @classmethod
    def load(cls, path: str | Path) -> Run:
        """Reads a run folder; nothing in it is unpickled.

        Args:
            path: What `labelembed train` left, or one of the folders below ``runs/`` of a comparison.

        Raises:
            RunFolderError: When it is no run folder, or a file in it is damaged.
        """
        folder = RunFolder(path)
        folder.require_run()
        return cls(folder)

    def rows(self) -> list[dict[str, Any]]:
        """Returns the journal as one flat dictionary an epoch, all with the same keys.

        `epoch`, `seconds`, `learning_rate` and the like, then each term as `train_<term>` and each measure as
        `validation_<measure>` or `test_<measure>`; None where an epoch has no such number.
        """
        lines = [flat_epoch(entry) for entry in self.journal]
        columns = dict.fromkeys(column for line in lines for column in line)
        # What is of the epoch itself stands first, whatever the first line lacks.
        ordered = sorted(columns, key=lambda column: column.split("_")[0] in SPLITS)
        return [{column: line.get(column) for column in ordered} for line in lines]

    def table(self) -> DataFrame:
        """Returns `rows` as a pandas DataFrame with the epoch as index."""
        frame = data_frame(self.rows())
        return frame.set_index("epoch") if "epoch" in frame else frame

    def label_geometry(self) -> LabelGeometry:
        """Returns what the run learned about the labels.

        Raises:
            DataError: When the file is missing, as of objectives that learn nothing, or damaged.
        """
        return RunFolder(self.path).label_geometry()

    @cached_property
    def saved(self) -> SavedRun:
        """The network, read when first asked for; see `SavedRun`.

        Raises:
            RunFolderError: When the run has not finished, is of a corpus (see `SavedTranslator`), or is damaged.
        """
        from labelembed.runs.saved_run import SavedRun

        return SavedRun.load(self.path)

    @cached_property
    def labels(self) -> LabelGeometry:
        """What the run learned about the labels, with their `names`; see `label_geometry`."""
        return self.label_geometry()

    def probabilities(self, inputs: Tensor) -> Tensor:
        """Returns the predicted distribution [N, C], at the run's temperature, for raw inputs ``[N, *input_shape]``."""
        return self.saved.probabilities(inputs)

    def predict(
        self, inputs: Tensor | str | Path | Sequence[str], names: list[str] | None = None
    ) -> list[dict[str, Any]]:
        """Returns one dictionary an example: `input`, `label`, `probability` and `probabilities` by label.

        Args:
            inputs: Raw inputs ``[N, *input_shape]``; or a list of texts, where the run was trained on texts; or the
                path of a file: a picture, an array, or examples as the run's own data have them.
            names: What to call each example, as `input`; None: its number, its text, or its place in the file.

        Raises:
            DataError: When the file cannot be used, or the run was not trained on texts.
            RunFolderError: See `saved`.
        """
        if isinstance(inputs, str | Path):
            inputs, found, _ = self.saved.read_inputs(Path(inputs))
        elif isinstance(inputs, Sequence):
            found = list(inputs)
            inputs, _ = self.saved.encode_texts(found)
        else:
            found = [str(number) for number in range(len(inputs))]
        return self.saved.predict(inputs, found if names is None else names)

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r}, {self._objective()}, {self.state}, epochs={len(self.journal)})"

    def _repr_html_(self) -> str:
        measures: dict[str, dict[str, Any]] = {split: self.result.get(split) or {} for split in SPLITS[1:]}
        names = list(dict.fromkeys(name for found in measures.values() for name in found))
        head = f"<b>{escape(self._objective())}</b>, {self.state}, {len(self.journal)} epochs: {escape(str(self.path))}"
        if self.state == "failed":
            return f"<p>{head}<br>{escape(str(self.result.get('message')))}</p>"
        if not names:
            return f"<p>{head}</p>"
        lines = [[split, *(short(found.get(name)) for name in names)] for split, found in measures.items() if found]
        epoch = self.result.get("selected_epoch")
        return f"<p>{head}</p>" + html_table([f"epoch {epoch}", *names], lines)

    def _objective(self) -> str:
        objective = self.recipe.get("objective")
        return str(objective.get("name", "run")) if isinstance(objective, dict) else "run"


@dataclass(frozen=True)
class Comparison:
    """A comparison folder, with the numbers of its report. Made by `compare` and `Comparison.load`.

    Attributes:
        read: What the report is made of: variants, their runs by seed, and those that failed.
        measured: One `report.Row` a variant: means, deviations and paired differences.
    """

    read: report.Comparison
    measured: Sequence[report.Row]

    @classmethod
    def load(cls, path: str | Path) -> Comparison:
        """Reads a comparison folder, or the folder of one finished run as a comparison of one variant.

        Args:
            path: What `labelembed compare` left. Runs that failed, are damaged or have not finished are said
                in `rows` and `run_rows`, and do not hide the others.

        Raises:
            RunFolderError: When it is no such folder, ``comparison.json`` is damaged, or its runs are of
                different data.
        """
        read = report.load_comparison(path)
        return cls(read, report.comparison_rows(read))

    @property
    def path(self) -> Path:
        """The folder."""
        return self.read.path

    @property
    def variants(self) -> list[str]:
        """The names of the variants, in the order in which they were asked for."""
        return [variant.name for variant in self.read.variants]

    @property
    def seeds(self) -> list[int]:
        """The seeds that were asked for."""
        return list(self.read.seeds)

    @property
    def baseline(self) -> str | None:
        """The variant the others are compared with; None for a single run."""
        return self.read.baseline

    def rows(self) -> list[dict[str, Any]]:
        """Returns the lines of ``comparison.csv``, one a variant: fractions and nats, None where there is no number."""
        return report.variants_as_cells(self.measured)

    def table(self) -> DataFrame:
        """Returns `rows` as a pandas DataFrame."""
        return data_frame(self.rows())

    def run_rows(self) -> list[dict[str, Any]]:
        """Returns the lines of ``runs.csv``, one a run, with those that failed or have not finished."""
        return report.runs_as_cells(self.read)

    def run_table(self) -> DataFrame:
        """Returns `run_rows` as a pandas DataFrame."""
        return data_frame(self.run_rows())

    def verdict(self) -> str:
        """Returns what the comparison shows, in plain words, as the report begins."""
        return "\n".join(report.verdict(self.read, self.measured))

    def report(self, path: str | Path | None = None) -> Path:
        """Writes the report, one HTML page, and returns where it is.

        Args:
            path: The file; None: ``report.html`` in the folder.

        Raises:
            RunFolderError: When it cannot be written.
        """
        return report.write_report(self.path, out=path)

    def run(self, variant: str, seed: int) -> Run:
        """Reads a finished run of the comparison.

        Args:
            variant: One of `variants`.
            seed: One of `seeds`.

        Raises:
            ValueError: When there is no such variant, or no finished run of it with the seed.
            RunFolderError: When its folder is damaged.
        """
        found = next((one for one in self.read.variants if one.name == variant), None)
        if found is None:
            hint = nearest(variant, self.variants)
            raise ValueError(f"`variant` must be one of {', '.join(self.variants)}, got {variant!r}{hint}")
        if seed not in found.runs:
            why = f": {found.failed[seed]}" if seed in found.failed else ""
            seeds = ", ".join(str(one) for one in sorted(found.runs)) or "none"
            raise ValueError(f"`seed` must be of a finished run of {variant} ({seeds}), got {seed!r}{why}")
        return Run.load(found.runs[seed].folder)

    def __repr__(self) -> str:
        return f"Comparison({str(self.path)!r}, variants={self.variants}, seeds={self.seeds})"

    def _repr_html_(self) -> str:
        shown = [measure for measure in ALL_MEASURES if any(measure.attribute in row.measures for row in self.measured)]
        headings = [f"{measure.heading} {measure.unit}".strip() for measure in shown]
        lines = [[row.name, str(row.n), *(measure.text(row) for measure in shown)] for row in self.measured]
        verdict = "<br>".join(escape(line) for line in self.verdict().splitlines())
        plot = report.forest_plot(self.read, self.measured)
        return f"<p>{verdict}</p>{plot}{html_table(['variant', 'n', *headings], lines)}"


def compare(
    recipe: str | None = None,
    *,
    data: str | Path | None = None,
    objectives: str | Sequence[str | dict[str, Any]] | None = None,
    seeds: int | Sequence[int] | None = None,
    baseline: str | None = None,
    settings: Mapping[str, Any] | Sequence[str] = (),
    out: str | Path | None = None,
    tuned: bool = False,
    trials: int = 10,
    space: Sequence[str] = (),
    jobs: int | None = None,
    cluster: str | None = None,
    device: str | None = None,
    track: Sequence[str] = (),
    overwrite: bool = False,
    quiet: bool = False,
) -> Comparison:
    """Trains several objectives with several seeds and returns the comparison, as the verb `compare` does.

    A folder that holds a comparison of the same recipe gets what is new; finished runs are reused. Interrupted
    (Ctrl-C, or the notebook's stop button) it keeps what is done, and the same call goes on.

    Args:
        recipe: A recipe that ships, or a YAML file; None: the one that fits `data`.
        data: Where the data are.
        objectives: Names, ``"label_smoothing:smoothing=0.2"``, or blocks of a recipe; None: the recipe's own list.
        seeds: How many, or which; None: the recipe's own.
        baseline: The variant that the others are compared with; None: the folder's, else the recipe's.
        settings: Other values for keys of the recipe, ``{"optimizer.learning_rate": 0.01}``.
        out: The comparison folder; None: ``comparisons/RECIPE``, of tuned ones ``comparisons/RECIPE-tuned``.
        tuned: First tune learning rate, weight decay and arguments of each objective on the validation set.
        trials: Of each objective, where they are tuned.
        space: What else or otherwise is tuned, as ``"objective.smoothing=0.05:0.6"``.
        jobs: Runs at once, one thread each; None: one a GPU, else one a core.
        cluster: The dask scheduler whose workers make the runs, ``tcp://host:port``; None: this machine.
        device: `cpu`, or None for what there is.
        track: Log each epoch to these trackers too: `tensorboard`, `wandb`, `mlflow`.
        overwrite: Begin anew: remove the comparison that is in the folder.
        quiet: Show no progress.

    Raises:
        RecipeError: With every fault of recipe and variants.
        DataError: When the data cannot be used.
        RunFolderError: When the folder holds something else, a comparison of another recipe, or one that another
            process makes.
        TrainingError: When every run failed.

    Example:
        >>> comparison = labelembed.compare("digits-mlp", objectives=["one_hot", "label_embedding"], seeds=8)
        >>> comparison.table()
    """
    from labelembed.recipes.choosing import choose_recipe
    from labelembed.runs.machines import say

    where = None if data is None else str(data)
    chosen, name = choose_recipe(recipe, settings=_settings(settings), data=where, say=say)
    folder = comparison_folder(name, tuned=tuned) if out is None else Path(out)
    what: dict[str, Any] = {"objectives": objectives, "seeds": seeds, "baseline": baseline}
    what |= {"trials": trials if tuned else None, "space": space, "overwrite": overwrite}
    how: dict[str, Any] = {"jobs": jobs, "cluster": cluster, "device": device, "track": track, "quiet": quiet}
    try:
        found, failed = make_comparison(chosen, name, folder, **what, **how)
    except KeyboardInterrupt:
        say("stopped; finished runs are kept. To go on, call the same again")
        raise
    if failed and not any(variant.runs for variant in found.read.variants):
        raise TrainingError("\n".join(f"{name}: {why.splitlines()[0]}" for name, why in failed.items()))
    return found


def distill(
    comparison: str | Path,
    *,
    variant: str | None = None,
    finished_only: bool = False,
    settings: Mapping[str, Any] | Sequence[str] = (),
    jobs: int | None = None,
    cluster: str | None = None,
    device: str | None = None,
    track: Sequence[str] = (),
    quiet: bool = False,
) -> Comparison:
    """Trains one network for each seed on what the runs of a comparison predict together, as the verb `distill` does.

    The runs are there already: as an ensemble they are better than each of them, and cost as many times as much to
    predict with. A student learns ``0.15 onehot + 0.7 (mean prediction of the runs) + 0.15 / C`` and costs what one run
    costs. The students become one more variant of the comparison and of its report.

    Args:
        comparison: The comparison folder; its runs have one training set, and other seeds.
        variant: Whose runs teach; None: those with the lowest mean validation error.
        finished_only: Leave out runs that have failed or not finished.
        settings: Arguments of the objective, ``{"objective.teacher_weight": 0.6}``.
        jobs: See `compare`.
        cluster: See `compare`.
        device: See `compare`.
        track: See `compare`.
        quiet: Show no progress.

    Raises:
        RecipeError: A setting does not fit, or the data are not those of the runs.
        RunFolderError: It is no comparison, or fewer than two runs of the variant have finished.
        TrainingError: When every run failed.
    """
    how: dict[str, Any] = {"jobs": jobs, "cluster": cluster, "device": device, "track": track, "quiet": quiet}
    what: dict[str, Any] = {"variant": variant, "finished_only": finished_only, "settings": _settings(settings)}
    found, failed = make_students(Path(comparison), **what, **how)
    if failed:
        raise TrainingError("\n".join(f"{name}: {why.splitlines()[0]}" for name, why in failed.items()))
    return found


def make_students(
    folder: Path,
    *,
    variant: str | None = None,
    finished_only: bool = False,
    settings: Sequence[str] = (),
    track: Sequence[str] = (),
    **how: Any,
) -> tuple[Comparison, dict[str, str]]:
    """Adds students to a comparison; see `distill`. Returns it, and why runs failed, by their name."""
    from labelembed.runs.comparison import make_runs
    from labelembed.runs.distillation import plan_of_students, teachers_of, write_predictions
    from labelembed.runs.machines import read_shown, say
    from labelembed.runs.progress_text import duration
    from labelembed.training.run_lock import locked

    teachers = teachers_of(folder, variant=variant, finished_only=finished_only)
    with locked(folder, doing="made"):
        plan = plan_of_students(folder, teachers, settings)
        student = plan.runs[0][2]
        count, left = len(teachers.seeds), len(plan.runs) - len(plan.finished())
        if left:
            say(
                f"teachers: {count} runs of {teachers.variant}, trained in {duration(teachers.seconds)} together; "
                f"{left} students will take about {duration(teachers.seconds / count * left)} of training"
            )
            warning = write_predictions(folder, teachers, student, read_shown(student, quiet=how.get("quiet", False)))
            if warning is not None:
                say(f"warning: {warning}")
        made = make_runs(plan, student, folder, track=track, **how)
        found = Comparison(*report.write_comparison(folder, anew=made.anything_new))
    return found, made.failed


def comparison_folder(name: str, *, tuned: bool) -> Path:
    """Returns where a comparison of a recipe is made when nobody says where."""
    return Path("comparisons") / (f"{name}-tuned" if tuned else name)


def plan(
    recipe: Recipe, name: str, out: Path, *, trials: int | None, space: Sequence[str], overwrite: bool, **what: Any
) -> tuple[ComparisonPlan, TuningPlan | None]:
    """Returns what a comparison will run, and the trials before it; see `make_comparison`."""
    from labelembed.runs.comparison_plan import plan_comparison, refuse_run_folder
    from labelembed.runs.tuning import plan_of_tuning

    refuse_run_folder(out)
    asked = plan_comparison(recipe, name, out, **what, tuned=trials is not None, overwrite=overwrite)
    return asked, None if trials is None else plan_of_tuning(asked, recipe, out, trials=trials, space=space)


def make_comparison(
    recipe: Recipe,
    name: str,
    out: Path,
    *,
    trials: int | None = None,
    space: Sequence[str] = (),
    track: Sequence[str] = (),
    overwrite: bool = False,
    objectives: Any = None,
    seeds: Any = None,
    baseline: str | None = None,
    **how: Any,
) -> tuple[Comparison, dict[str, str]]:
    """Makes a comparison, the trials of its variants first, with its report; see `compare`.

    Args:
        recipe: A checked recipe.
        name: Of the recipe.
        out: The comparison folder.
        trials: Of each objective; None: nothing is tuned.
        space: See `compare`.
        track: See `compare`.
        overwrite: See `compare`.
        objectives: See `comparison_plan.plan_comparison`.
        seeds: The same.
        baseline: The same.
        how: `jobs`, `cluster`, `device` and `quiet`; see `comparison.make_runs`.

    Returns:
        The comparison, and why runs failed, by their name.
    """
    from labelembed.runs.comparison import make_runs
    from labelembed.runs.comparison_folder import remove_comparison
    from labelembed.runs.comparison_plan import refuse_run_folder
    from labelembed.runs.machines import refuse_jobs_on_cluster
    from labelembed.runs.tuning import tuned_plan
    from labelembed.training.run_lock import locked

    refuse_jobs_on_cluster(how.get("jobs"), how.get("cluster"))
    refuse_run_folder(out)
    what: dict[str, Any] = {"objectives": objectives, "seeds": seeds, "baseline": baseline}
    with locked(out, doing="made"):  # the trials of its tuning lie in it
        asked, tuning = plan(recipe, name, out, trials=trials, space=space, overwrite=overwrite, **what)
        if tuning is not None:
            if overwrite:
                remove_comparison(out)
            asked = tuned_plan(asked, tuning, recipe, out, **how)
        made = make_runs(asked, recipe, out, track=track, overwrite=overwrite and tuning is None, **how)
        found = Comparison(*report.write_comparison(out, anew=made.anything_new))
    return found, made.failed


def _settings(given: Mapping[str, Any] | Sequence[str]) -> list[str]:
    """Returns settings as `--set` takes them."""
    if not isinstance(given, Mapping):
        return list(given)
    import yaml

    return [
        f"{key}={yaml.safe_dump([value], default_flow_style=True, width=10**9)[1:-2]}" for key, value in given.items()
    ]
