"""A finished run, ready to predict: needs its folder and nothing else."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from labelembed.data import (
    Encoding,
    FeatureEncoding,
    Fit,
    LabelledData,
    Split,
    TableEncoding,
    TokenEncoding,
    WordBags,
    read_inputs,
    read_texts,
)
from labelembed.data.columns.parts import Reading, read_file
from labelembed.errors import DataError, RecipeError, RunFolderError
from labelembed.recipes.building import build_network, build_rows, empty_scaling
from labelembed.recipes.changing import stored_recipe
from labelembed.recipes.data_facts import kept_encoding
from labelembed.recipes.saved_weights import with_saved_weights
from labelembed.recipes.schema import Recipe
from labelembed.training.evaluation import BeforeAndAfter, evaluate_both, predicted_logits
from labelembed.training.network import Network
from labelembed.training.run_folder import RunFolder


@dataclass(frozen=True)
class SavedRun:
    """The network of a finished run with what it must know to read inputs and name labels.

    Args:
        folder: Where it is.
        recipe: What it was trained with.
        network: In evaluation mode, on the CPU.
        names: Of the labels.
        input_shape: Of one input.
        input_range: Smallest and largest value of the inputs.
        temperature: What the logits are divided by: fitted on the development rows after training; 1 where
            none was fitted, as in folders of older versions.
        encoding: What makes inputs of texts or of a table's rows, as learned from the training rows; None where files
            hold the inputs themselves.
    """

    folder: RunFolder
    recipe: Recipe
    network: Network
    names: tuple[str, ...]
    input_shape: tuple[int, ...]
    input_range: tuple[float, float]
    temperature: float = 1.0
    encoding: Encoding | None = None

    @classmethod
    def load(cls, path: str | Path) -> SavedRun:
        """Reads a finished run; nothing in the folder is unpickled.

        Raises:
            RunFolderError: When there is none, it has not finished, or a file is damaged.
        """
        folder = RunFolder(path)
        folder.require_finished()
        recipe = stored_recipe(folder)
        if recipe.of_sentences:
            raise RunFolderError(f"{folder.path}: was trained on a corpus; labelembed translate reads it")
        about = folder.environment().get("data", {})
        try:
            names = tuple(str(name) for name in about["names"])
            input_shape = tuple(int(size) for size in about["input_shape"])
            low, high = (float(end) for end in about["input_range"])
        except (TypeError, KeyError, ValueError, AttributeError, OverflowError) as error:
            what = "missing or damaged, it does not say what data the run was trained on"
            raise RunFolderError(f"{folder.path / 'environment.json'}: {what}") from error
        network = with_saved_weights(
            folder,
            lambda: build_network(
                recipe,
                num_labels=len(names),
                input_shape=input_shape,
                input_range=(low, high),
                scaling=empty_scaling(recipe, input_shape),
                base=folder.path,
            ),
        )
        encoding = kept_encoding(recipe.data["name"], folder)
        return cls(folder, recipe, network, names, input_shape, (low, high), _temperature(folder), encoding)

    @property
    def fit(self) -> Fit | None:
        """How the training pictures were brought to their size, and new ones are; None where they had it."""
        return self.recipe.data.get("fit") if self.recipe.data.get("image_size") is not None else None

    def probabilities(self, inputs: Tensor) -> Tensor:
        """Returns the predicted distribution [N, C], at the run's temperature, for raw inputs ``[N, *input_shape]``."""
        if tuple(inputs.shape[1:]) != self.input_shape:
            raise ValueError(f"`inputs` must be [N, {', '.join(map(str, self.input_shape))}], got {list(inputs.shape)}")
        return (predicted_logits(self.network, inputs) / self.temperature).softmax(dim=-1)

    def read_data(self, path: str | None = None) -> LabelledData:
        """Reads the data the run was trained on, or data of the same kind at another path.

        Raises:
            DataError: When the data cannot be used, or have other labels or inputs.
        """
        recipe = self.recipe
        if path is not None:
            if "path" not in recipe.data:
                raise RecipeError([f"--data: data {recipe.data['name']!r} takes no path"], source=str(self.folder.path))
            # Rows to measure need not be enough to train on.
            recipe = recipe.model_copy(update={"data": recipe.data | {"path": path}, "batch_size": 1})
        data = build_rows(recipe, encoding=self.encoding)
        if data.names != self.names:
            raise DataError(
                f"{data.source}: has the labels {_few(data.names)}, the run was trained on {_few(self.names)}"
            )
        if data.input_shape != self.input_shape:
            raise DataError(
                f"{data.source}: inputs are {list(data.input_shape)}, the run was trained on {list(self.input_shape)}"
            )
        return data

    def read_inputs(self, file: Path, *, invert: bool = False) -> tuple[Tensor, list[str], list[str]]:
        """Reads what is to be predicted from a file: pictures and arrays, or texts where the run was trained on such.

        Args:
            file: An image, an array, or a file of rows as the run's own data.
            invert: Exchange dark and light, of pictures.

        Returns:
            inputs: [N, ...].
            names: What each row is called.
            notes: What the user should know.

        Raises:
            DataError: When the file cannot be used.
        """
        if isinstance(self.encoding, WordBags | FeatureEncoding | TokenEncoding):
            own = ("text_column", "columns", "delimiter", "encoding")
            how = {key: self.recipe.data[key] for key in own}
            texts, places = read_texts(file, expected=self.encoding.column, **how)
            return self.encoding.encode_texts(texts), [f"{file.name} {place}" for place in places], []
        if isinstance(self.encoding, TableEncoding):
            reading = Reading(**{key: self.recipe.data[key] for key in ("columns", "delimiter", "encoding")})
            table = read_file(file, reading)
            names = [f"{file.name} {table.place(row)}" for row in range(len(table))]
            return self.encoding.encode(table), names, []
        return read_inputs(
            file, input_shape=self.input_shape, input_range=self.input_range, invert=invert, fit=self.fit
        )

    def evaluate(self, split: Split) -> dict[str, float]:
        """Returns the measures of a split at the run's temperature, as fractions and nats."""
        return self.evaluate_both(split).after

    def evaluate_both(self, split: Split) -> BeforeAndAfter:
        """Returns the measures of a split before and after calibration, as fractions and nats."""
        return evaluate_both(self.network, split, temperature=self.temperature)

    def predict(self, inputs: Tensor, names: list[str]) -> list[dict[str, Any]]:
        """Returns one dictionary a row: `input`, `label`, `probability` and `probabilities` by label."""
        rows = []
        for name, row in zip(names, self.probabilities(inputs).tolist(), strict=True):
            best = max(range(len(row)), key=row.__getitem__)
            by_label = dict(zip(self.names, row, strict=True))
            rows.append({"input": name, "label": self.names[best], "probability": row[best], "probabilities": by_label})
        return rows


def _temperature(folder: RunFolder) -> float:
    value = folder.result().get("temperature")
    if value is None:
        return 1.0
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not (math.isfinite(value) and value > 0):
        raise RunFolderError(f"{folder.path / 'result.json'}: damaged, the temperature is {value!r}")
    return float(value)


def _few(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:6])
    return f"{shown}, ... ({len(names)})" if len(names) > 6 else shown
