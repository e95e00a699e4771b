"""Runs and comparisons from Python, as their folders have them; `comparison.compare` makes comparisons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labelembed.errors import DataError, nearest
from labelembed.lab import report
from labelembed.lab.errors import RunFolderError
from labelembed.lab.report.comparison import history_error
from labelembed.lab.training.comparison_folder import DESCRIPTION_FILE, ComparisonFile
from labelembed.lab.training.run_folder import RunFolder, State

if TYPE_CHECKING:
    from pandas import DataFrame
    from torch import Tensor

    from labelembed.geometry import LabelGeometry
    from labelembed.lab.runs.saved_run import SavedRun
    from labelembed.lab.sparse_rows import SparseRows


class Run:
    """One run folder; the run may still be going, or have failed. Made by `Run.load`.

    Attributes:
        path: The folder.
        state: `finished`, `failed` or `unfinished`, when it was read.
        recipe: The resolved recipe, as plain values.
        environment: What it ran on.
        result: How it ended, as in ``result.json``: fractions and nats; empty before the end.
        history: One dictionary an epoch, as in ``history.jsonl``.
    """

    def __init__(self, folder: RunFolder) -> None:
        self.path = folder.path
        self.recipe = folder.recipe()
        self.state: State = folder.state()
        self.environment, self.result, self.history = folder.environment(), folder.result(), folder.history()
        if error := history_error(self.history):
            raise RunFolderError(f"{folder.path}/{error}")

    @classmethod
    def load(cls, path: str | Path) -> Run:
        """Reads a run folder; nothing in it is unpickled.

        Raises:
            RunFolderError: When it is no run folder, or a file in it is damaged.
        """
        folder = RunFolder(path)
        folder.require_run()
        return cls(folder)

    def table(self) -> DataFrame:
        """Returns the history, a row an epoch: `seconds` and the like, ``train_<term>``, ``validation_<metric>``."""
        import pandas

        frame = pandas.json_normalize(self.history, sep="_")
        frame = frame.drop(columns=["train", "validation", "test"], errors="ignore")  # of epochs without metrics
        return frame.set_index("epoch") if "epoch" in frame else frame

    @cached_property
    def saved(self) -> SavedRun:
        """The network, read when first asked for; see `SavedRun.load`."""
        from labelembed.lab.runs.saved_run import SavedRun

        return SavedRun.load(self.path)

    @cached_property
    def labels(self) -> LabelGeometry:
        """What the run learned about the labels, with their `names`.

        Raises:
            DataError: When the file is missing or damaged.
        """
        return RunFolder(self.path).label_geometry()

    def probabilities(self, inputs: Tensor | SparseRows) -> Tensor:
        """Returns the predicted distribution [N, C], at the run's temperature, for raw inputs ``[N, *input_shape]``."""
        return self.saved.probabilities(inputs)

    def predict(
        self, inputs: Tensor | SparseRows | str | Path | Sequence[str], names: list[str] | None = None
    ) -> list[dict[str, Any]]:
        """Returns one dictionary an example: `input`, `label`, `probability` and `probabilities` by label.

        Args:
            inputs: Raw inputs ``[N, *input_shape]``; or a text or a list of texts, where the run was trained on texts;
                or the path of a file: a picture, an array, or examples as the run's own data have them.
            names: What to call each example, as `input`; None: its number, its text, or its place in the file.

        Raises:
            DataError: When the file cannot be used, or the run was not trained on texts.
            RunFolderError: See `saved`.
        """
        if isinstance(inputs, str) and self.saved.reads_texts and not is_file_name(inputs):
            inputs = [inputs]
        if isinstance(inputs, str | Path):
            inputs, found, _ = self.saved.read_inputs(Path(inputs))
        elif isinstance(inputs, Sequence):
            found = list(inputs)
            inputs, _ = self.saved.encode_texts(found)
        else:
            found = [str(number) for number in range(len(inputs))]
        return self.saved.predict(inputs, found if names is None else names)

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r}, {self._objective()}, {self.state}, epochs={len(self.history)})"

    def _repr_html_(self) -> str:
        import pandas

        head = f"<b>{escape(self._objective())}</b>, {self.state}, {len(self.history)} epochs: {escape(str(self.path))}"
        if self.state == "failed":
            return f"<p>{head}<br>{escape(str(self.result.get('message')))}</p>"
        metrics = {split: self.result[split] for split in ("validation", "test") if self.result.get(split)}
        return f"<p>{head}</p>" + (pandas.DataFrame(metrics).T.to_html(border=0) if metrics else "")

    def _objective(self) -> str:
        objective = self.recipe.get("objective")
        return str(objective.get("name", "run")) if isinstance(objective, dict) else "run"


@dataclass(frozen=True)
class Comparison:
    """A comparison folder, with the numbers of its report. Made by `compare` and `Comparison.load`.

    Attributes:
        read: What the report is made of: variants, their runs by seed, and those that failed.
    """

    read: report.Comparison

    @classmethod
    def load(cls, path: str | Path) -> Comparison:
        """Reads a comparison folder, or the folder of one finished run as a comparison of one variant.

        Runs that failed, are damaged or have not finished are said in the tables and do not hide the others.

        Raises:
            RunFolderError: When it is no such folder, ``comparison.json`` is damaged, or its runs are of
                different data.
        """
        return cls(report.load_comparison(path))

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

    @property
    def failed(self) -> dict[str, str]:
        """Why runs failed, by their name."""
        failed = [(one.name, seed, why) for one in self.read.variants for seed, why in one.failed.items()]
        return {f"{name} seed {seed}": why for name, seed, why in failed}

    def table(self) -> DataFrame:
        """Returns the numbers of ``comparison.csv``, a row a variant: fractions and nats, NaN where there is none."""
        return report.comparison_rows(self.read)

    def rows(self) -> list[dict[str, Any]]:
        """Returns `table` as one dictionary a variant; None where there is no number."""
        frame = self.table()
        rows: list[dict[str, Any]] = frame.astype(object).where(frame.notna(), None).to_dict("records")
        return rows

    def run_table(self) -> DataFrame:
        """Returns the numbers of ``runs.csv``, a row a run, with those that failed or have not finished."""
        return report.runs_table(self.read)

    def verdict(self) -> str:
        """Returns what the comparison shows, in plain words, as the report begins."""
        return "\n".join(report.verdict(self.read))

    def report(self, path: str | Path | None = None) -> Path:
        """Writes the report, one HTML page, and returns where it is; None: ``report.html`` in the folder.

        Raises:
            RunFolderError: When it cannot be written.
        """
        return report.write_report(self.path, out=path)

    def run(self, variant: str, seed: int) -> Run:
        """Reads a finished run of the comparison.

        Raises:
            ValueError: When there is no such variant, or no finished run of it with the seed.
            RunFolderError: When its folder is damaged.
        """
        one = next((one for one in self.read.variants if one.name == variant), None)
        if one is None:
            hint = nearest(variant, self.variants)
            raise ValueError(f"`variant` must be one of {', '.join(self.variants)}, got {variant!r}{hint}")
        if seed not in one.runs:
            why = f": {one.failed[seed]}" if seed in one.failed else ""
            seeds = ", ".join(map(str, sorted(one.runs))) or "none"
            raise ValueError(f"`seed` must be of a finished run of {variant} ({seeds}), got {seed!r}{why}")
        return Run.load(one.runs[seed].folder)

    def __repr__(self) -> str:
        return f"Comparison({str(self.path)!r}, variants={self.variants}, seeds={self.seeds})"

    def _repr_html_(self) -> str:
        return report.notebook_html(self.read)


def is_file_name(word: str) -> bool:
    """Tells whether a word names a file, or looks as if it were to, rather than being a text."""
    from labelembed.lab.data.table_files import is_readable

    try:
        if Path(word).expanduser().exists():
            return True
    except (OSError, ValueError):  # too long for a name, or with a zero byte
        return False
    return is_readable(Path(word)) or word.startswith(("/", "./", "../", "~/"))


def best_run(path: Path) -> Path:
    """Returns a run folder as it is, and of a comparison folder the finished run that is best on the validation set.

    Raises:
        RunFolderError: No run of the comparison has finished.
        DataError: Its runs have no validation set to choose by.
    """
    if not (path / DESCRIPTION_FILE).is_file():
        return path
    runs = []
    for variant in ComparisonFile.read(path).variants:
        folders = [RunFolder(path / "runs" / variant.folder / f"seed-{seed}") for seed in variant.seeds]
        runs += [folder for folder in folders if folder.state() == "finished"]
    if not runs:
        raise RunFolderError(f"{path}: no run of this comparison has finished; labelembed compare continues it")
    scores = {folder.path: _validation_score(folder) for folder in runs}
    known = {run: score for run, score in scores.items() if score is not None}
    if not known:
        raise DataError(f"{path}: its runs have no validation set to choose by; name one of those below runs/")
    return min(known, key=lambda run: known[run])


def _validation_score(folder: RunFolder) -> tuple[float, float] | None:
    """Returns what a run is chosen by, the smaller the better: what it was selected by, then the NLL."""
    metrics = folder.result().get("validation")
    if not isinstance(metrics, dict):
        return None
    by = str(folder.result().get("selected_by")).removeprefix("validation ").lower()
    sign, name = (-1, "bleu") if by == "bleu" else (1, by if by in metrics else "error")
    return sign * float(metrics[name]), float(metrics.get("nll", 0.0))
