"""One training run on the disk: what is in the folder, and what state it is in.

========================================  ===========================================================
``recipe.yaml``                           the fully resolved recipe, which runs the run again
``recipe.N.yaml``                         those before it, where `resume --set` changed it
``environment.json``                      versions, machine, commit, command, fingerprint of the data
``history.jsonl``                         one line an epoch
``result.json``                           written last: what the selected epoch reached, or why it failed; with the
                                          SHA-256 of the three ``.safetensors`` files below
``model.safetensors``                     the selected weights
``label_geometry.safetensors``            what was learned about the labels, from the selected weights
``class_means.safetensors``               mean output over the training examples of each label, for any objective
``diagnostics/``                          what it gets wrong and a sample of what it wrote, small, for the report;
                                          right or wrong and NLL of each test example
``checkpoints/``                          all that resuming needs
``report.html``                           one page, made on demand
``worker.log``                            of a run of a comparison: what its process wrote, the end of it
``tracking.json``                         the run's ids in the trackers of `--track`, where there are any
``tensorboard/``                          the history for TensorBoard, where that is one of them
``.lock``                                 which process trains the run, or did last
========================================  ===========================================================
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import yaml

from labelembed.geometry import LabelGeometry
from labelembed.json_files import parse_json, read_bounded, read_json
from labelembed.lab.errors import RunFolderError
from labelembed.lab.training.example_outcomes import ExampleOutcomes, outcome_bytes, read_outcomes
from labelembed.lab.training.files import sha256, write_bytes, write_json
from labelembed.lab.training.plain_yaml import plain_values

# A recipe that a run has resolved has every key, each with its default.
_RECIPE_BYTES = 400_000
# What a run reads in its folder and writes into it.
_SUFFIXES = (".yaml", ".json", ".jsonl", ".safetensors", ".txt", ".model")
_NAMES = (".lock", "checkpoints", "diagnostics", "translations", "soft_labels", "encoder", "tensorboard", "worker.log")

# About what one epoch takes in the history: what a file system gives it.
HISTORY_LINE_BYTES = 4_096
RESULT_FORMAT = 1

State = Literal["empty", "unfinished", "finished", "failed"]


class RunFolder:
    """Reads and writes one run folder.

    Args:
        path: The folder; it need not exist yet.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.checkpoints = self.path / "checkpoints"
        self.model_file = self.path / "model.safetensors"
        self.geometry_file = self.path / "label_geometry.safetensors"
        self.class_means_file = self.path / "class_means.safetensors"
        self.diagnostics_folder = self.path / "diagnostics"
        self.examples_file = self.diagnostics_folder / "examples.safetensors"
        self._recipe = self.path / "recipe.yaml"
        self._environment = self.path / "environment.json"
        self._history = self.path / "history.jsonl"
        self._result = self.path / "result.json"

    def state(self) -> State:
        """Returns how far the run got; `failed` when it stopped by an error of its own."""
        self.refuse_links()
        if not self._recipe.exists():
            return "empty"
        if not self._result.exists():
            return "unfinished"
        return "finished" if self.result().get("status") == "finished" else "failed"

    def refuse_links(self) -> None:
        """Raises RunFolderError where something in the folder is a link that leads out of it.

        A run folder may come from anybody; what is written into it and read from it stays in it.
        """
        own = self.path.resolve()
        for entry in self.path.iterdir() if self.path.is_dir() else ():
            if entry.name not in _NAMES and entry.suffix not in _SUFFIXES:
                continue  # a run may stand in a folder of other things
            for one in (entry, *(entry.rglob("*") if entry.is_dir() and not entry.is_symlink() else ())):
                if one.is_symlink() and not one.resolve().is_relative_to(own):
                    raise RunFolderError(
                        f"{one}: is a link that leads out of the run folder; put the file itself there, or remove it"
                    )

    def require_run(self) -> None:
        """Raises RunFolderError unless the folder holds a run."""
        if not self.path.exists():
            raise RunFolderError(f"{self.path}: no such folder; a run folder is what `labelembed train` leaves")
        self.refuse_links()
        if not self._recipe.is_file():
            entries = self.path.iterdir() if self.path.is_dir() else ()
            inside = sorted(entry.name for entry in entries if not entry.name.startswith("."))[:5]
            hint = "; it is a comparison folder, its runs are below runs/" if "runs" in inside else ""
            raise RunFolderError(f"{self.path}: no run folder, it has no recipe.yaml (holds {inside}){hint}")

    def require_finished(self) -> None:
        """Raises RunFolderError unless the run has finished."""
        self.require_run()
        state = self.state()
        if state == "unfinished":
            raise RunFolderError(f"{self.path}: the run has not finished; labelembed resume {self.path}")
        if state == "failed":
            raise RunFolderError(f"{self.path}: the run failed: {self.result().get('message')}")

    def write_recipe(self, recipe: dict[str, Any], *, heading: str = "") -> None:
        """Writes the resolved recipe; `heading` stands above it as comments."""
        comment = "".join(f"# {line}\n" for line in heading.splitlines())
        text = yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True, default_flow_style=None)
        write_bytes(self._recipe, (comment + text).encode())

    def recipe(self) -> dict[str, Any]:
        """Returns the resolved recipe as plain values; that of a run of version 0.1 is refused."""
        self.require_run()
        try:
            if self._recipe.stat().st_size > _RECIPE_BYTES:
                raise ValueError(f"larger than {_RECIPE_BYTES:,} bytes, which no recipe is")
            recipe = plain_values(self._recipe.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise RunFolderError(f"{self._recipe}: damaged, cannot be read ({error})") from error
        if not isinstance(recipe, dict):
            raise RunFolderError(f"{self._recipe}: damaged, holds no recipe")
        packages = self.environment().get("packages")
        events_of = str(packages.get("labelembed")) if isinstance(packages, dict) else ""
        if events_of.startswith("0.1."):
            raise RunFolderError(
                f"{self.path}: made by labelembed {events_of}, whose runs this version does not read; "
                "use that version, or train again"
            )
        return recipe

    def write_environment(self, environment: dict[str, Any]) -> None:
        """Writes what the run ran on."""
        write_json(self._environment, environment)

    def environment(self) -> dict[str, Any]:
        """Returns what the run ran on; empty when it was not written yet."""
        return self._read_json(self._environment) if self._environment.exists() else {}

    def append_history(self, line: dict[str, Any]) -> None:
        """Adds one epoch's line; see `history`."""
        with self._history.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, allow_nan=False) + "\n")

    def keep_history(self, epochs: int) -> None:
        """Drops the lines after the first `epochs` epochs, which a resumed run writes again."""
        kept = [line for line in self.history() if line["epoch"] <= epochs]
        write_bytes(self._history, "".join(json.dumps(line) + "\n" for line in kept).encode())

    def history(self) -> list[dict[str, Any]]:
        """Returns one dictionary an epoch: `epoch` (from 1), `seconds`, `train`, `validation`, `test`.

        `test` is None where the test set is measured once, at the end. A last line that a kill cut short is left out.

        Raises:
            RunFolderError: When another line is damaged.
        """
        if not self._history.exists():
            return []
        try:
            lines = read_bounded(self._history).split(b"\n")
        except (OSError, ValueError) as error:
            raise RunFolderError(f"{self._history}: damaged, cannot be read ({error})") from error
        entries: list[dict[str, Any]] = []
        for number, text in enumerate(lines, start=1):
            if not text.strip():
                continue
            try:
                entry = parse_json(text)
                if not isinstance(entry, dict) or type(entry.get("epoch")) is not int:
                    raise ValueError("no epoch in it")
            except ValueError as error:
                if number == len(lines):  # no line break after it: cut short
                    break
                raise RunFolderError(f"{self._history}: line {number} is damaged ({error})") from error
            entries.append(entry)
        return entries

    def write_result(self, result: dict[str, Any]) -> None:
        """Writes how the run ended; with this file the run is over."""
        write_json(self._result, result)

    def result(self) -> dict[str, Any]:
        """Returns how the run ended; empty when it has not.

        Raises:
            RunFolderError: When it is damaged, or of a newer version.
        """
        result = self._read_json(self._result) if self._result.exists() else {}
        version = result.get("format", RESULT_FORMAT)
        if type(version) is int and version > RESULT_FORMAT:
            raise RunFolderError(f"{self._result}: written by a newer labelembed (format {version}); update labelembed")
        return result

    def forget_result(self) -> None:
        """Makes an ended run one to go on with."""
        self._result.unlink(missing_ok=True)

    def write_evidence(self, name: str, value: dict[str, Any]) -> None:
        """Writes one of the files that the report looks into: `errors` or `sentences`."""
        self.diagnostics_folder.mkdir(exist_ok=True)
        write_json(self.diagnostics_folder / f"{name}.json", value, indent=None)

    def evidence(self, name: str) -> dict[str, Any]:
        """Returns what `write_evidence` wrote; empty where there is none.

        Raises:
            RunFolderError: When it is damaged.
        """
        path = self.diagnostics_folder / f"{name}.json"
        return self._read_json(path) if path.exists() else {}

    def write_examples(self, outcomes: ExampleOutcomes) -> None:
        """Writes right or wrong and NLL of each test example."""
        self.diagnostics_folder.mkdir(exist_ok=True)
        write_bytes(self.examples_file, outcome_bytes(outcomes))

    def examples(self) -> ExampleOutcomes | None:
        """Returns what `write_examples` wrote; None where there is nothing, as of sentence pairs.

        Raises:
            RunFolderError: When it is damaged.
        """
        if not self.examples_file.exists():
            return None
        try:
            return read_outcomes(self.examples_file)
        except (OSError, ValueError) as error:
            raise RunFolderError(f"{self.examples_file}: damaged, cannot be read ({error})") from error

    def label_geometry(self) -> LabelGeometry:
        """Returns what the run learned about the labels.

        Raises:
            DataError: When the file is missing or damaged.
            RunFolderError: When the file is not the one that the run wrote.
        """
        self.require_unchanged(self.geometry_file)
        return LabelGeometry.load(self.geometry_file)

    def class_means(self) -> LabelGeometry:
        """Returns the mean output over the training examples of each label; raises as `label_geometry` does."""
        self.require_unchanged(self.class_means_file)
        return LabelGeometry.load(self.class_means_file)

    def require_unchanged(self, file: Path) -> None:
        """Raises RunFolderError where a file of the folder has another SHA-256 than ``result.json`` says.

        A missing file, and one that ``result.json`` does not name, is not looked at.
        """
        files = self.result().get("files", {})
        expected = files.get(file.name) if isinstance(files, dict) else files
        if expected is None or not file.is_file():
            return
        found = sha256(file)
        if found != expected:
            raise RunFolderError(
                f"{file}: has changed since the run wrote it: its SHA-256 is {found}, {self._result.name} says "
                f"{expected!s:.80}; put the file back from a copy, or train the run again"
            )

    def _read_json(self, path: Path) -> dict[str, Any]:
        try:
            value = read_json(path)
        except (OSError, ValueError) as error:
            raise RunFolderError(f"{path}: damaged, cannot be read ({error})") from error
        if not isinstance(value, dict):
            raise RunFolderError(f"{path}: damaged, holds no mapping")
        return value
