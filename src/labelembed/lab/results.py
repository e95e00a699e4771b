"""Runs and comparisons from Python, as their folders have them; `comparing` makes comparisons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labelembed.errors import nearest
from labelembed.lab import report
from labelembed.lab.errors import RunFolderError
from labelembed.lab.report.comparison import history_error, number_in
from labelembed.lab.report.formatting import NOTHING
from labelembed.lab.training.run_folder import RunFolder, State

if TYPE_CHECKING:
    from pandas import DataFrame
    from torch import Tensor

    from labelembed.geometry import LabelGeometry
    from labelembed.lab.runs.saved_run import SavedRun
    from labelembed.lab.sparse_rows import SparseRows

_SPLITS = ("train", "validation", "test")


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
        self.environment = folder.environment()
        self.result = folder.result()
        self.history = folder.history()
        error = history_error(self.history)
        if error:
            raise RunFolderError(f"{folder.path}/{error}")

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
        """Returns the history as one flat dictionary an epoch, all with the same keys.

        `epoch`, `seconds`, `learning_rate` and the like, then each term as `train_<term>` and each metric as
        `validation_<metric>` or `test_<metric>`; None where an epoch has no such number.
        """
        lines = [_flat_epoch(entry) for entry in self.history]
        columns = dict.fromkeys(column for line in lines for column in line)
        # What is of the epoch itself stands first, whatever the first line lacks.
        ordered = sorted(columns, key=lambda column: column.split("_")[0] in _SPLITS)
        return [{column: line.get(column) for column in ordered} for line in lines]

    def table(self) -> DataFrame:
        """Returns `rows` as a pandas DataFrame with the epoch as index."""
        frame = _data_frame(self.rows())
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
        from labelembed.lab.runs.saved_run import SavedRun

        return SavedRun.load(self.path)

    @cached_property
    def labels(self) -> LabelGeometry:
        """What the run learned about the labels, with their `names`; see `label_geometry`."""
        return self.label_geometry()

    def probabilities(self, inputs: Tensor | SparseRows) -> Tensor:
        """Returns the predicted distribution [N, C], at the run's temperature, for raw inputs ``[N, *input_shape]``."""
        return self.saved.probabilities(inputs)

    def predict(
        self, inputs: Tensor | SparseRows | str | Path | Sequence[str], names: list[str] | None = None
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
        return f"Run({str(self.path)!r}, {self._objective()}, {self.state}, epochs={len(self.history)})"

    def _repr_html_(self) -> str:
        metrics: dict[str, dict[str, Any]] = {split: self.result.get(split) or {} for split in _SPLITS[1:]}
        names = list(dict.fromkeys(name for found in metrics.values() for name in found))
        head = f"<b>{escape(self._objective())}</b>, {self.state}, {len(self.history)} epochs: {escape(str(self.path))}"
        if self.state == "failed":
            return f"<p>{head}<br>{escape(str(self.result.get('message')))}</p>"
        if not names:
            return f"<p>{head}</p>"
        lines = [[split, *(_short(found.get(name)) for name in names)] for split, found in metrics.items() if found]
        epoch = self.result.get("selected_epoch")
        return f"<p>{head}</p>" + _html_table([f"epoch {epoch}", *names], lines)

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

        Args:
            path: What `labelembed compare` left. Runs that failed, are damaged or have not finished are said
                in `rows` and `run_rows`, and do not hide the others.

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

    def rows(self) -> list[dict[str, Any]]:
        """Returns the lines of ``comparison.csv``, one a variant: fractions and nats, None where there is no number."""
        return _records(self.table())

    def table(self) -> DataFrame:
        """Returns `rows` as a pandas DataFrame."""
        return report.comparison_rows(self.read)

    def run_rows(self) -> list[dict[str, Any]]:
        """Returns the lines of ``runs.csv``, one a run, with those that failed or have not finished."""
        return _records(self.run_table())

    def run_table(self) -> DataFrame:
        """Returns `run_rows` as a pandas DataFrame."""
        return report.runs_table(self.read)

    def verdict(self) -> str:
        """Returns what the comparison shows, in plain words, as the report begins."""
        return "\n".join(report.verdict(self.read))

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
        return report.notebook_html(self.read)


def _records(frame: DataFrame) -> list[dict[str, Any]]:
    """Returns the lines of a table as dictionaries; None where there is no number."""
    lines: list[dict[str, Any]] = frame.astype(object).where(frame.notna(), None).to_dict("records")
    return lines


def _flat_epoch(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a history's line with a key for each metric: ``validation_error``."""
    flat: dict[str, Any] = {}
    for key, value in entry.items():
        if isinstance(value, dict):
            flat |= {f"{key}_{name}": part for name, part in value.items()}
        elif key not in _SPLITS:  # an epoch without metrics has None there, and no numbers
            flat[key] = value
    return flat


def _data_frame(rows: Sequence[Mapping[str, Any]]) -> DataFrame:
    """Returns rows of equal keys as a DataFrame; None where there is no number becomes NaN."""
    import pandas  # here, so that `import labelembed` stays light

    frame = pandas.DataFrame(list(rows))
    # A column without one number is of numbers all the same, as in the CSV file read back.
    return frame.astype({column: "float64" for column in frame if frame[column].isna().all()})


def _short(value: object) -> str:
    """Returns a number in four digits, and a dash for anything else."""
    known = number_in(value)
    return NOTHING if known is None else f"{known:.4g}"


def _html_table(headings: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Returns a small table of cells as HTML."""
    import pandas

    return str(pandas.DataFrame(list(lines), columns=list(headings)).to_html(index=False, border=0))
