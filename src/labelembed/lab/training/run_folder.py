"""One training run on the disk: what is in the folder, and what state it is in.

`recipe.yaml` is the resolved recipe, `environment.json` what the run ran on and how `resume --set` changed the recipe,
`history.jsonl` a line an epoch, `checkpoints/` what resuming needs. A finished run has the files `model`,
`label_geometry` and `class_means` (`.safetensors`) of the selected weights, `diagnostics/` for the report, and
`result.json`, written last, with the SHA-256 of the three.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import yaml
from numpy.typing import NDArray

from labelembed.files import parse_json, read_bounded, read_json, require_header
from labelembed.geometry import LabelGeometry
from labelembed.lab.errors import RunFolderError
from labelembed.lab.training.files import plain_values, sha256, write_bytes, write_json

# A recipe that a run has resolved has every key, each with its default.
_RECIPE_BYTES = 400_000
# What a run reads in its folder and writes into it.
_SUFFIXES = (".yaml", ".json", ".jsonl", ".safetensors", ".txt", ".model")
_NAMES = (".lock", "checkpoints", "diagnostics", "translations", "soft_labels", "encoder", "tensorboard", "worker.log")
_OUTCOME_BYTES = 500_000_000  # of a hundred million examples

RESULT_FORMAT = 1
# Whose runs are not read any more.
_OLD_EDITIONS = ("0.1.",)

State = Literal["empty", "unfinished", "finished", "failed"]


class ExampleOutcomes(NamedTuple):
    """What a network says of each example of a split.

    Attributes:
        split: `test`, or `validation` where there is no test set.
        right: Whether the predicted class is the true class, bool ``[N]``.
        nll: Negative log-likelihood in nats, float16 ``[N]``.
        nll_calibrated: The same with the logits divided by the fitted temperature; None where none was fitted.
    """

    split: str
    right: NDArray[np.bool_]
    nll: NDArray[np.float16]
    nll_calibrated: NDArray[np.float16] | None


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

    def read(self, name: str) -> dict[str, Any]:
        """Returns a JSON file of the folder, ``diagnostics/errors.json`` for instance; {} where there is none.

        Raises:
            RunFolderError: It is damaged.
        """
        path = self.path / name
        if not path.exists():
            return {}
        try:
            value = read_json(path)
        except (OSError, ValueError) as error:
            raise RunFolderError(f"{path}: damaged, cannot be read ({error})") from error
        if not isinstance(value, dict):
            raise RunFolderError(f"{path}: damaged, holds no mapping")
        return value

    def write(self, name: str, content: dict[str, Any] | bytes) -> None:
        """Writes a file of the folder, whole or not at all: a mapping as JSON, or bytes."""
        path = self.path / name
        if path.parent != self.path:  # a run folder that was removed is not made anew
            path.parent.mkdir(exist_ok=True)
        if isinstance(content, bytes):
            write_bytes(path, content)
        else:
            write_json(path, content, indent=None if path.parent == self.diagnostics_folder else 2)

    def state(self) -> State:
        """Returns how far the run got; `failed` when it stopped by an error of its own."""
        self._check_links()
        if not (self.path / "recipe.yaml").exists():
            return "empty"
        result = self.result()
        return "unfinished" if not result else "finished" if result.get("status") == "finished" else "failed"

    def _check_links(self) -> None:
        """Raises RunFolderError where a link leads out: a folder from anybody is read and written within itself."""
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
        self._check_links()
        if not (self.path / "recipe.yaml").is_file():
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

    def write_recipe(self, recipe: dict[str, Any]) -> None:
        """Writes the resolved recipe."""
        text = yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True, default_flow_style=None)
        self.write("recipe.yaml", f"# The resolved recipe of this run; it runs the run again.\n{text}".encode())

    def recipe(self) -> dict[str, Any]:
        """Returns the resolved recipe as plain values."""
        self.require_run()
        path = self.path / "recipe.yaml"
        try:
            if path.stat().st_size > _RECIPE_BYTES:
                raise ValueError(f"larger than {_RECIPE_BYTES:,} bytes, which no recipe is")
            recipe = plain_values(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise RunFolderError(f"{path}: damaged, cannot be read ({error})") from error
        if not isinstance(recipe, dict):
            raise RunFolderError(f"{path}: damaged, holds no recipe")
        packages = self.environment().get("packages")
        made_by = str(packages.get("labelembed")) if isinstance(packages, dict) else ""
        if made_by.startswith(_OLD_EDITIONS):
            what = f"made by labelembed {made_by}, whose runs this version does not read"
            raise RunFolderError(f"{self.path}: {what}; use that version, or train again")
        return recipe

    def environment(self) -> dict[str, Any]:
        """Returns what the run ran on; empty when it was not written yet."""
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
        """Returns one dictionary an epoch: `epoch` (from 1), `epochs` of the run, `seconds`, `train`, `validation`, ...

        `test` is None where the test set is measured once, at the end. A last line that a kill cut short is left out.

        Raises:
            RunFolderError: When another line is damaged.
        """
        path = self.path / "history.jsonl"
        if not path.exists():
            return []
        try:
            lines = read_bounded(path).split(b"\n")
        except (OSError, ValueError) as error:
            raise RunFolderError(f"{path}: damaged, cannot be read ({error})") from error
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
                raise RunFolderError(f"{path}: line {number} is damaged ({error})") from error
            entries.append(entry)
        return entries

    def result(self) -> dict[str, Any]:
        """Returns how the run ended; empty when it has not.

        Raises:
            RunFolderError: When it is damaged, or of a newer version.
        """
        result = self.read("result.json")
        version = result.get("format", RESULT_FORMAT)
        if type(version) is int and version > RESULT_FORMAT:
            what = f"written by a newer labelembed (format {version}); update labelembed"
            raise RunFolderError(f"{self.path / 'result.json'}: {what}")
        return result

    def write_examples(self, outcomes: ExampleOutcomes) -> None:
        """Writes the outcome of each test example: a bit for right or wrong, two bytes for each NLL."""
        from safetensors.numpy import save

        tensors: dict[str, NDArray[Any]] = {"right": np.packbits(outcomes.right), "nll": outcomes.nll}
        if outcomes.nll_calibrated is not None:
            tensors["nll_calibrated"] = outcomes.nll_calibrated
        # One entry only: safetensors writes several in any order, and equal runs should give equal files.
        about = {"examples": json.dumps({"format": 1, "split": outcomes.split, "examples": len(outcomes.right)})}
        self.write("diagnostics/examples.safetensors", save(tensors, metadata=about))

    def examples(self) -> ExampleOutcomes | None:
        """Returns what `write_examples` wrote; None where there is nothing, as of sentence pairs.

        Raises:
            RunFolderError: When it is damaged.
        """
        if not self.examples_file.exists():
            return None
        try:
            return _read_outcomes(self.examples_file)
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
        """Raises RunFolderError where a file has another SHA-256 than ``result.json`` says, if that names the file."""
        files = self.result().get("files", {})
        expected = files.get(file.name) if isinstance(files, dict) else files
        if expected is not None and file.is_file() and sha256(file) != expected:
            raise RunFolderError(
                f"{file}: has changed since the run wrote it: result.json has its SHA-256, {expected!s:.80}; "
                "put the file back from a copy, or train the run again"
            )


def _read_outcomes(path: Path) -> ExampleOutcomes:
    from safetensors import SafetensorError, safe_open

    require_header(path, most=10_000)
    if path.stat().st_size > _OUTCOME_BYTES:
        raise ValueError(f"larger than {_OUTCOME_BYTES:,} bytes, which no such file is")
    try:
        with safe_open(path, framework="numpy") as file:
            about = parse_json((file.metadata() or {}).get("examples", "null"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except (SafetensorError, TypeError) as error:
        raise ValueError(" ".join(str(error).split())[:300]) from error
    if not isinstance(about, dict) or about.get("format") != 1 or about.get("split") not in ("test", "validation"):
        raise ValueError("does not say that it holds outcomes of examples in format 1, and of which split")
    right, nlls, count = tensors.pop("right", np.empty(0)), list(tensors.values()), about.get("examples")
    if type(count) is not int or tensors.keys() not in ({"nll"}, {"nll", "nll_calibrated"}):
        raise ValueError("does not hold the outcomes of examples")
    fits = all(one.dtype == np.float16 and one.shape == (count,) and np.isfinite(one).all() for one in nlls)
    if not fits or right.dtype != np.uint8 or right.shape != ((count + 7) // 8,):
        raise ValueError(f"does not hold the outcomes of {count!r:.40} examples")
    found = np.unpackbits(right, count=count).astype(bool)
    return ExampleOutcomes(about["split"], found, tensors["nll"], tensors.get("nll_calibrated"))
