"""Runs and comparisons from Python, as their folders have them; `comparison.compare` makes comparisons."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
        """Reads a run folder; nothing in it is unpickled. Raises RunFolderError when it is none, or damaged."""
        return cls(RunFolder(path))

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
        """What the run learned about the labels; raises DataError when the file is missing or damaged."""
        return RunFolder(self.path).label_geometry()

    def predict(
        self, inputs: Tensor | SparseRows | str | Path | Sequence[str], names: list[str] | None = None
    ) -> list[dict[str, Any]]:
        """Returns one dictionary an example: `input`, `label`, `probability` and `probabilities` by label.

        `inputs` are raw inputs ``[N, *input_shape]``; or a text or a list of texts, where the run was trained on texts;
        or the path of a file: a picture, an array, or examples as the run's own data have them. `names` say what to
        call each example as `input`; None: its number, its text, or its place in the file. Raises DataError when the
        file cannot be used, or the run was not trained on texts.
        """
        if isinstance(inputs, str) and self.saved.reads_texts and not is_file_name(inputs):
            inputs = [inputs]
        if isinstance(inputs, str | Path):
            inputs, own, _ = self.saved.read_inputs(Path(inputs))
        elif isinstance(inputs, Sequence):
            own = list(inputs)
            inputs, _ = self.saved.encode_texts(own)
        else:
            own = [str(number) for number in range(len(inputs))]
        return self.saved.predict(inputs, own if names is None else names)

    def __repr__(self) -> str:
        objective = self.recipe.get("objective")
        name = objective.get("name") if isinstance(objective, dict) else None
        return f"Run({str(self.path)!r}, {name}, {self.state}, epochs={len(self.history)})"


@dataclass(frozen=True)
class Comparison:
    """A comparison folder, with the numbers of its report. Made by `compare` and `Comparison.load`.

    Attributes:
        read: What the report is made of: variants, their runs by seed, and those that failed.
    """

    read: report.Comparison

    @classmethod
    def load(cls, path: str | Path) -> Comparison:
        """Reads a comparison folder, or that of one finished run; raises RunFolderError where it cannot.

        Runs that failed, are damaged or have not finished do not hide the others.
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
    def failed(self) -> dict[str, str]:
        """Why runs failed, by their name."""
        return {f"{one.name} seed {seed}": why for one in self.read.variants for seed, why in one.failed.items()}

    def table(self) -> DataFrame:
        """Returns the numbers of ``comparison.csv``, a row a variant: fractions and nats, NaN where there is none."""
        return report.comparison_rows(self.read)

    def rows(self) -> list[dict[str, Any]]:
        """Returns `table` as one dictionary a variant; None where there is no number."""
        frame = self.table().astype(object)
        rows: list[dict[str, Any]] = frame.where(frame.notna(), None).to_dict("records")
        return rows

    def verdict(self) -> str:
        """Returns what the comparison shows, in plain words, as the report begins."""
        return "\n".join(report.verdict(self.read))

    def report(self, path: str | Path | None = None) -> Path:
        """Writes the report, one HTML page, and returns where it is; None: ``report.html`` in the folder."""
        return report.write_report(self.path, out=path)

    def run(self, variant: str, seed: int) -> Run:
        """Reads a finished run of the comparison; raises ValueError when there is none of this variant and seed."""
        for one in self.read.variants:
            if one.name == variant and seed in one.runs:
                return Run.load(one.runs[seed].folder)
        known = ", ".join(f"{one.name} seeds {sorted(one.runs)}" for one in self.read.variants)
        raise ValueError(f"`variant`, `seed` must be of a finished run ({known}), got {variant!r}, {seed!r}")

    def __repr__(self) -> str:
        return f"Comparison({str(self.path)!r}, variants={self.variants}, seeds={list(self.read.seeds)})"

    def _repr_html_(self) -> str:
        return report.notebook_html(self.read)


def is_file_name(word: str) -> bool:
    """Tells whether a word names a file, or looks as if it were to, rather than being a text."""
    from labelembed.lab.data.table_files import is_readable

    looks_so = is_readable(Path(word)) or word.startswith(("/", "./", "../", "~/"))
    return looks_so or os.path.exists(os.path.expanduser(word))


def best_run(path: Path, *, without: str | None = None) -> Path:
    """Returns a run folder as it is, and of a comparison folder the finished run that is best on the validation set.

    Runs of the objective `without` take no part. Raises RunFolderError where there is no run to choose.
    """
    if not (path / DESCRIPTION_FILE).is_file():
        return path
    scores: dict[Path, tuple[float, float]] = {}
    for variant in ComparisonFile.read(path).variants:
        for seed in variant.seeds if variant.objective.get("name") != without else ():
            folder = RunFolder(path / "runs" / variant.folder / f"seed-{seed}")
            metrics = folder.result().get("validation") if folder.state() == "finished" else None
            if metrics:
                score = -metrics["bleu"] if "bleu" in metrics else metrics["error"]
                scores[folder.path] = (score, metrics.get("nll", 0.0))
    if not scores:
        raise RunFolderError(f"{path}: has no finished run with a validation set to choose by; name one below runs/")
    return min(scores, key=lambda run: scores[run])
