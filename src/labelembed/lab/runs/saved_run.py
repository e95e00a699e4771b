"""A finished run, ready to predict: needs its folder and nothing else."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from labelembed.errors import DataError
from labelembed.lab.data import Encoder, IdentityEncoder, LabelledData, Split, Texts, prepare, renumbered
from labelembed.lab.data.preparation import prepare_to_evaluate
from labelembed.lab.data.readers.pictures import PictureReader
from labelembed.lab.errors import RecipeError, RunFolderError
from labelembed.lab.recipes.schema import Recipe
from labelembed.lab.runs.build import build_examples, build_network, build_reader, empty_scaling
from labelembed.lab.runs.embedding import given_embedding
from labelembed.lab.runs.stored import stored_recipe, with_saved_weights
from labelembed.lab.sparse_rows import SparseRows
from labelembed.lab.training.evaluation import evaluate_both, predicted_logits
from labelembed.lab.training.network import Network
from labelembed.lab.training.run_folder import RunFolder


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
        output_temperature: What the logits are divided by: fitted on the validation examples after training; 1 where
            none was fitted.
        encoder: What makes inputs of examples, as learned from the training examples.
        label_column: The column of the labels; None: they stood in none.
        label_values: The labels as the run's data spell them, where the recipe names them otherwise.
    """

    folder: RunFolder
    recipe: Recipe
    network: Network
    names: tuple[str, ...]
    input_shape: tuple[int, ...]
    input_range: tuple[float, float]
    output_temperature: float = 1.0
    encoder: Encoder = field(default_factory=IdentityEncoder)
    label_column: str | None = None
    label_values: tuple[str, ...] = ()

    @classmethod
    def load(cls, path: str | Path) -> SavedRun:
        """Reads a finished run; nothing in the folder is unpickled.

        Raises:
            DataError: When what makes inputs of examples is missing or damaged.
            RunFolderError: When there is none, it has not finished, or another file is damaged.
        """
        folder = RunFolder(path)
        folder.require_finished()
        recipe = stored_recipe(folder)
        if recipe.of_sentences:
            raise RunFolderError(f"{folder.path}: was trained on a corpus; labelembed translate reads it")
        about = folder.environment().get("data", {})
        try:
            names = tuple(str(name) for name in about["names"])
            label_values = tuple(str(value) for value in about.get("label_values", ()))
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
                embedding=given_embedding(recipe, base=folder.path),
            ),
        )
        made_of = {"input_shape": input_shape, "input_range": (low, high)}
        encoder = build_reader(recipe).new_encoder().load(folder.path, made_of)
        if encoder.sparse:
            input_shape = (int(high) + 1,)  # a run of an older version has the length of its longest text
        column = about.get("label_column")
        return cls(
            folder,
            recipe,
            network,
            names,
            input_shape,
            (low, high),
            _temperature(folder),
            encoder,
            column if isinstance(column, str) else None,
            label_values,
        )

    def probabilities(self, inputs: Tensor | SparseRows) -> Tensor:
        """Returns the predicted distribution [N, C], at the run's temperature, for raw inputs ``[N, *input_shape]``."""
        if tuple(inputs.shape[1:]) != self.input_shape:
            raise ValueError(f"`inputs` must be [N, {', '.join(map(str, self.input_shape))}], got {list(inputs.shape)}")
        return (predicted_logits(self.network, inputs) / self.output_temperature).softmax(dim=-1)

    def read_data(self, path: str | None = None) -> LabelledData:
        """Reads the data the run was trained on, or data of the same kind at another path for the run to evaluate.

        Data at another path are read with the run's columns, encoding and labels. Where they name parts, as folders
        for training and test do, they have the same parts here. Otherwise every example is in the test set and the
        training set is empty.

        Args:
            path: File or folder; None, or the recipe's own path: the data the run was trained on.

        Raises:
            DataError: When the data cannot be used, or have other inputs, or labels that the run does not know.
        """
        block = self.recipe.data
        if path is not None and "path" not in block:
            raise RecipeError([f"--data: data {block['name']!r} takes no path"], source=str(self.folder.path))
        if path is None or _same_place(path, block["path"]):
            more = {} if path is None else {"path": path}
            data = build_examples(self._reading(more), encoder=self.encoder)
            values = self.label_values or data.label_values  # a run of an older version has not kept them
            if (data.names, data.label_values) != (self.names, values):
                found, known = data.label_values or data.names, values or self.names
                raise DataError(f"{data.source}: has the labels {_few(found)}, the run was trained on {_few(known)}")
        else:
            data = self._read_to_evaluate(path)
        if data.input_shape != self.input_shape:
            raise DataError(
                f"{data.source}: inputs are {list(data.input_shape)}, the run was trained on {list(self.input_shape)}"
            )
        return data

    def _read_to_evaluate(self, path: str) -> LabelledData:
        block = self.recipe.data
        of_labels = self.label_column
        found = {"label_column": of_labels, "labels": of_labels, "text_column": self.encoder.column}
        more: dict[str, Any] = {key: name for key, name in found.items() if key in block and block[key] is None}
        if "test_fraction" in block:
            more["test_fraction"] = None
        if block.get("image_size") == "auto":  # of the run's own pictures
            more["image_size"] = self.input_shape[1]
        recipe = self._reading(more | {"path": path})
        reader = build_reader(recipe)
        if isinstance(reader, PictureReader) and len(self.input_shape) == 3:
            reader = replace(reader, input_shape=self.input_shape)
        raw = reader.read(to_evaluate=True)
        if None not in (of_labels, raw.label_column) and of_labels != raw.label_column:
            reason = f"the labels are in column {raw.label_column!r}, those of the run were in {of_labels!r}"
            raise DataError(f"{raw.source}: {reason}; rename the column")
        merge = block.get("merge_labels", False)
        raw = renumbered(raw, self.names, label_values=self.label_values, merge=merge)
        if raw.test is None and raw.validation is None:
            return prepare_to_evaluate(raw, self.encoder)
        return prepare(
            raw,
            validation=recipe.validation(),
            train_examples=block["train_examples"],
            batch_size=1,
            encoder=self.encoder,
        )

    def _reading(self, more: dict[str, Any]) -> Recipe:
        # examples to evaluate need not be enough to train on
        return self.recipe.model_copy(update={"data": self.recipe.data | more} | ({"batch_size": 1} if more else {}))

    @property
    def reads_texts(self) -> bool:
        """Whether inputs are made of texts."""
        return self.encoder.reads_texts

    def encode_texts(self, texts: Sequence[str]) -> tuple[Tensor | SparseRows, list[str]]:
        """Returns the inputs of texts, as those of the training texts were made, and what the user should know.

        Args:
            texts: N texts.

        Raises:
            DataError: The run was not trained on texts, or its encoder cannot be read.
        """
        if not self.reads_texts:
            raise DataError(f"{self.folder.path}: was not trained on texts (data {self.recipe.data['name']!r})")
        return self._encoded(Texts(texts))

    def _encoded(self, examples: Any) -> tuple[Tensor | SparseRows, list[str]]:
        inputs, truncated = self.encoder.transform(examples)
        if not truncated:
            return inputs, []
        about = self.encoder.truncation(truncated, len(inputs))
        longer = "1 text is" if truncated == 1 else f"{truncated:,} texts are"
        limit = "" if about is None else f"{about.limit:,} {about.setting.removeprefix('maximum_')}"
        return inputs, [f"{longer} longer than {limit} (of {len(inputs):,}); the rest is not read, as in training"]

    def read_inputs(self, file: Path, *, invert: bool = False) -> tuple[Tensor | SparseRows, list[str], list[str]]:
        """Reads what is to be predicted from a file: pictures and arrays, or texts where the run was trained on such.

        Args:
            file: An image, an array, or a file of examples as the run's own data; of texts also a ``.txt`` file with
                one text a line.
            invert: Exchange dark and light, of pictures.

        Returns:
            inputs: [N, ...].
            names: What each example is called.
            notes: What the user should know.

        Raises:
            DataError: When the file cannot be used.
        """
        new = build_reader(self.recipe).new_examples(file, self.encoder, invert=invert)
        inputs, notes = self._encoded(new.inputs)
        return inputs, new.names, [*new.notes, *notes]

    def evaluate(self, split: Split) -> dict[str, float]:
        """Returns the metrics of a split at the run's temperature, as fractions and nats."""
        return self.evaluate_both(split)[1]

    def evaluate_both(self, split: Split) -> tuple[dict[str, float], dict[str, float]]:
        """Returns the metrics of a split before and after calibration, as fractions and nats."""
        return evaluate_both(self.network, split, temperature=self.output_temperature)

    def predict(self, inputs: Tensor | SparseRows, names: list[str]) -> list[dict[str, Any]]:
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


def _same_place(path: str, own: str) -> bool:
    with contextlib.suppress(OSError, ValueError, RuntimeError):  # a name too long, a zero byte, a loop of links
        return Path(path).expanduser().resolve() == Path(own).expanduser().resolve()
    return False


def _few(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:6])
    return f"{shown}, ... ({len(names)})" if len(names) > 6 else shown
