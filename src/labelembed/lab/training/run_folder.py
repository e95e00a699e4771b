"""One training run on the disk: what is in the folder, and what state it is in.

`recipe.yaml` is the resolved recipe, `environment.json` what the run ran on and how `resume --set` changed the recipe,
`history.jsonl` a line an epoch, `checkpoints/` what resuming needs. A finished run has the files `model`,
`label_geometry` and `class_means` (`.safetensors`) of the selected weights, `diagnostics/` for the report, and
`result.json`, written last, with the SHA-256 of the three.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import yaml
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save

from labelembed.files import file_digest, parse_json, read_bounded, read_json, require_header
from labelembed.geometry import LabelGeometry
from labelembed.lab.errors import RunFolderError
from labelembed.lab.training.files import check_format, plain_values, reading, resume_command, write_bytes, write_json

_RECIPE_BYTES = 400_000  # at most; it has every key, each with its default
RESULT_FORMAT = 1
State = Literal["empty", "unfinished", "finished", "failed"]


class ExampleOutcomes(NamedTuple):
    """What a network says of each of the N examples of a split."""

    split: str  # `test`, or `validation` where there is no test set
    right: NDArray[np.bool_]  # whether the predicted class is the true class
    nll: NDArray[np.float16]  # negative log-likelihood in nats
    nll_calibrated: NDArray[np.float16] | None  # the same at the fitted temperature; None where none was fitted


class RunFolder:
    """Reads and writes one run folder, which need not exist yet; what is damaged raises RunFolderError."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.checkpoints = self.path / "checkpoints"
        self.model_file = self.path / "model.safetensors"
        self.geometry_file = self.path / "label_geometry.safetensors"
        self.class_means_file = self.path / "class_means.safetensors"
        self.examples_file = self.path / "diagnostics" / "examples.safetensors"

    def read(self, name: str) -> dict[str, Any]:
        """Returns a JSON or YAML file of the folder, ``diagnostics/errors.json`` for instance; {} for none."""
        path = self.path / name
        if not path.exists():
            return {}
        with reading(path):
            if path.suffix == ".yaml" and path.stat().st_size > _RECIPE_BYTES:
                raise ValueError(f"larger than {_RECIPE_BYTES:,} bytes, which no recipe is")
            value = read_json(path) if path.suffix == ".json" else plain_values(path.read_text(encoding="utf-8"))
            if not isinstance(value, dict):
                raise ValueError("it holds no mapping")
        return value

    def write(self, name: str, content: dict[str, Any] | bytes) -> None:
        """Writes a file of the folder, whole or not at all: a mapping as JSON, or bytes."""
        path = self.path / name
        if path.parent != self.path:  # a run folder that was removed is not made anew
            path.parent.mkdir(exist_ok=True)
        if isinstance(content, bytes):
            write_bytes(path, content)
        else:
            write_json(path, content, indent=None if path.parent != self.path else 2)

    def state(self) -> State:
        """Returns how far the run got; raises RunFolderError where a link leads out of the folder."""
        if not self._has_recipe():
            return "empty"
        result = self.result()
        return "unfinished" if not result else "finished" if result.get("status") == "finished" else "failed"

    def _has_recipe(self) -> bool:
        # A folder from anybody is read and written within itself.
        for entry in itertools.chain(self.path.glob("*"), self.path.glob("*/*")):
            if entry.is_symlink() and not entry.resolve().is_relative_to(self.path.resolve()):
                raise RunFolderError(f"{entry}: is a link that leads out of the run folder; remove it")
        return (self.path / "recipe.yaml").is_file()

    def require_run(self) -> None:
        """Raises RunFolderError unless the folder holds a run."""
        if not self.path.exists():
            raise RunFolderError(f"{self.path}: no such folder; a run folder is what `labelembed train` leaves")
        if not self._has_recipe():
            is_comparison = (self.path / "comparison.json").is_file()
            hint = "; it is a comparison folder, its runs are below runs/" if is_comparison else ""
            raise RunFolderError(f"{self.path}: no run folder, it has no recipe.yaml{hint}")

    def require_finished(self) -> None:
        """Raises RunFolderError unless the run has finished."""
        self.require_run()
        if (result := self.result()).get("status") != "finished":
            why = f"the run failed: {result.get('message')}" if result else "the run has not finished"
            raise RunFolderError(f"{self.path}: {why}; {resume_command(self.path)}")

    def write_recipe(self, recipe: dict[str, Any]) -> None:
        """Writes the resolved recipe."""
        text = yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True, default_flow_style=None)
        self.write("recipe.yaml", f"# The resolved recipe of this run; it runs the run again.\n{text}".encode())

    def recipe(self) -> dict[str, Any]:
        """Returns the resolved recipe as plain values."""
        self.require_run()
        return self.read("recipe.yaml")

    def environment(self) -> dict[str, Any]:
        """Returns the versions and the machine of the run; empty where they are not written yet."""
        return self.read("environment.json")

    def append_history(self, line: dict[str, Any]) -> None:
        """Adds one epoch's line; see `history`."""
        with (self.path / "history.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, allow_nan=False) + "\n")

    def keep_history(self, epochs: int) -> None:
        """Drops the lines after the first `epochs` epochs, which a resumed run writes again."""
        kept = [line for line in self.history() if line["epoch"] <= epochs]
        self.write("history.jsonl", "".join(json.dumps(line) + "\n" for line in kept).encode())

    def history(self) -> list[dict[str, Any]]:
        """Returns one dictionary an epoch (`test` may be None); a last line that a kill cut short is left out."""
        path = self.path / "history.jsonl"
        if not path.exists():
            return []
        with reading(path):
            *lines, _ = read_bounded(path).split(b"\n")  # no line break after the last: cut short
            entries = [parse_json(line) for line in lines]
            if not all(type(entry["epoch"]) is int for entry in entries):
                raise ValueError("a line without an epoch")
        return entries

    def result(self) -> dict[str, Any]:
        """Returns how the run ended; empty when it has not."""
        result = self.read("result.json")
        check_format(self.path / "result.json", result.get("format"), RESULT_FORMAT)
        return result

    def write_examples(self, outcomes: ExampleOutcomes) -> None:
        """Writes the outcome of each test example: a byte for right or wrong, two bytes for each NLL."""
        tensors = {name: value for name, value in outcomes._asdict().items() if isinstance(value, np.ndarray)}
        self.write("diagnostics/examples.safetensors", save(tensors, metadata={"split": outcomes.split}))

    def examples(self) -> ExampleOutcomes | None:
        """Returns what `write_examples` wrote; None where there is nothing, as of sentence pairs."""
        if not self.examples_file.exists():
            return None
        with reading(self.examples_file):
            require_header(self.examples_file, most=10_000)
            with safe_open(self.examples_file, framework="numpy") as file:
                split = file.metadata()["split"]
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
            right = tensors.pop("right")
            fits = all(nll.shape == right.shape and np.isfinite(nll).all() for nll in tensors.values())
            if not fits or right.dtype != np.bool_ or right.ndim != 1 or split not in ("test", "validation"):
                raise ValueError("it does not hold the outcomes of examples of a split")
            return ExampleOutcomes(split, right, tensors["nll"], tensors.get("nll_calibrated"))

    def label_geometry(self) -> LabelGeometry:
        """Returns the learned label geometry; raises DataError where the file is missing or damaged."""
        self.require_unchanged(self.geometry_file)
        return LabelGeometry.load(self.geometry_file)

    def class_means(self) -> LabelGeometry:
        """Returns the mean output over the training examples of each label."""
        self.require_unchanged(self.class_means_file)
        return LabelGeometry.load(self.class_means_file)

    def require_unchanged(self, file: Path) -> None:
        """Raises RunFolderError where a file has another SHA-256 than ``result.json`` says, if that names the file."""
        files = self.result().get("files", {})
        expected = files.get(file.name) if isinstance(files, dict) else files
        if expected is not None and file.is_file() and file_digest(file) != expected:
            raise RunFolderError(f"{file}: has changed since the run wrote it; put a copy back, or train again")
