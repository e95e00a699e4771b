"""A finished run, ready to predict or to translate: needs its folder and nothing else."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from labelembed import seeds
from labelembed.errors import DataError
from labelembed.files import require_header
from labelembed.lab.data import LabelledData, Split, TextCorpus, Texts, prepare, read_corpus, renumbered
from labelembed.lab.data.preparation import prepare_to_evaluate
from labelembed.lab.errors import RecipeError, RunFolderError
from labelembed.lab.recipes.schema import Recipe
from labelembed.lab.runs.build import build_data, build_reader, stored_recipe
from labelembed.lab.runs.task import Classification, Sentences, Task, saved_task
from labelembed.lab.sparse_rows import SparseRows
from labelembed.lab.training.decoding import Decoding, decode, evaluate_text, hypothesis_text, token_metrics
from labelembed.lab.training.evaluation import evaluate, predicted_logits
from labelembed.lab.training.network import Network
from labelembed.lab.training.run_folder import RunFolder

# Lines translated together; sorted by length among themselves, and what is kept when the work is broken off.
_LINES_AT_ONCE = 256


@dataclass(frozen=True)
class SavedRun:
    """The network of a finished run with what it must know to read inputs and name what it predicts.

    Attributes:
        folder: Where it is.
        task: What it has learned.
        network: In evaluation mode, on the CPU.
        output_temperature: What the logits are divided by: fitted on the validation examples after training; 1 where
            none was fitted.
    """

    folder: RunFolder
    task: Task
    network: Network
    output_temperature: float = 1.0

    @classmethod
    def load(cls, path: str | Path) -> SavedRun:
        """Reads a finished run; nothing is unpickled. Raises RunFolderError or DataError where a file is damaged."""
        folder = RunFolder(path)
        folder.require_finished()
        recipe = stored_recipe(folder)
        folder.require_unchanged(folder.model_file)
        try:
            task = saved_task(recipe, folder)
            network = task.build_network(folder.path)
            require_header(folder.model_file)
            with safe_open(folder.model_file, framework="pt") as file:
                network.load_prediction_state({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
            temperature = float(folder.result().get("temperature") or 1.0)
            wrong = [name for name, value in network.state_dict().items() if not value.isfinite().all()]
            if wrong or not 0 < temperature < math.inf:
                raise ValueError(f"{wrong[0] if wrong else 'the temperature'} is not finite")
        except (DataError, RunFolderError):
            raise
        except Exception as error:  # whatever a file that is damaged, or not of this run's recipe, makes torch raise
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            raise RunFolderError(f"{folder.path}: damaged, its files do not fit together ({reason})") from error
        return cls(folder, task, network.eval(), temperature)

    @property
    def recipe(self) -> Recipe:
        """What it was trained with."""
        return self.task.recipe

    @property
    def classification(self) -> Classification:
        """Its task; raises RunFolderError where it writes sentences."""
        if isinstance(self.task, Sentences):
            raise RunFolderError(f"{self.folder.path}: was trained on a corpus; labelembed translate reads it")
        return self.task

    @property
    def sentences(self) -> Sentences:
        """Its task; raises RunFolderError where it predicts labels."""
        if isinstance(self.task, Classification):
            raise RunFolderError(f"{self.folder.path}: predicts labels, it translates nothing; see labelembed predict")
        return self.task

    # ---- labels

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the labels."""
        return self.classification.names

    @property
    def reads_texts(self) -> bool:
        """Whether inputs are made of texts."""
        return self.classification.encoder.reads_texts

    def probabilities(self, inputs: Tensor | SparseRows) -> Tensor:
        """Returns the predicted distribution [N, C], at the run's temperature, for raw inputs ``[N, *input_shape]``."""
        shape = self.classification.input_shape
        inputs = inputs if isinstance(inputs, SparseRows) else torch.as_tensor(inputs)  # arrays of NumPy too
        if tuple(inputs.shape[1:]) != shape:
            raise ValueError(f"`inputs` must be [N, {', '.join(map(str, shape))}], got {list(inputs.shape)}")
        return (predicted_logits(self.network, inputs) / self.output_temperature).softmax(dim=-1)

    def predict(self, inputs: Tensor | SparseRows, names: list[str]) -> list[dict[str, Any]]:
        """Returns one dictionary an input: `input`, `label`, `probability` and `probabilities` by label."""
        predictions = []
        for name, row in zip(names, self.probabilities(inputs).tolist(), strict=True):
            by_label = dict(zip(self.names, row, strict=True))
            best = {"label": max(by_label, key=by_label.__getitem__), "probability": max(row)}
            predictions.append({"input": name, **best, "probabilities": by_label})
        return predictions

    def evaluate_both(self, split: Split) -> tuple[dict[str, float], dict[str, float]]:
        """Returns the metrics of a split before and after calibration, as fractions and nats."""
        return evaluate(self.network, split), evaluate(self.network, split, temperature=self.output_temperature)

    def encode_texts(self, texts: Sequence[str]) -> tuple[Tensor | SparseRows, list[str]]:
        """Returns the inputs of texts, made as those of the training texts, and what the user should know."""
        if not self.reads_texts:
            raise DataError(f"{self.folder.path}: was not trained on texts (data {self.recipe.data['name']!r})")
        return self._encoded(Texts(texts))

    def _encoded(self, examples: Any) -> tuple[Tensor | SparseRows, list[str]]:
        inputs, truncated = self.classification.encoder.transform(examples)
        longer = f"{truncated:,} of {len(inputs):,} texts are longer than what is read of a text, as in training"
        return inputs, [longer] if truncated else []

    def read_inputs(self, file: Path) -> tuple[Tensor | SparseRows, list[str], list[str]]:
        """Returns the inputs [N, ...] of a file to predict for, their names, and what the user should know.

        A file is a picture, an array, or examples as the run's own data have them; of texts also a ``.txt`` file with
        one text a line. Raises DataError when it cannot be used.
        """
        new = build_reader(self.recipe).new_examples(file, self.classification.encoder)
        inputs, notes = self._encoded(new.inputs)
        return inputs, new.names, [*new.notes, *notes]

    def read_data(self, path: str | None = None) -> LabelledData:
        """Reads the data the run was trained on, or at another path data of the same kind for the run to evaluate.

        Those are read with the run's columns, encoding and labels, which are matched by name. Where they name parts,
        they have the same parts here; otherwise every example is in the test set. Raises DataError when they cannot be
        used, have other inputs, or labels that the run does not know.
        """
        task, block = self.classification, self.recipe.data
        if path is not None and "path" not in block:
            raise RecipeError([f"--data: data {block['name']!r} takes no path"], source=str(self.folder.path))
        if path is None or Path(path).expanduser().resolve() == Path(block["path"]).expanduser().resolve():
            own: Any = build_data(self.recipe, encoder=task.encoder)
            data: LabelledData = own
            if data.names != task.names:
                theirs, ours = (f"{', '.join(one.names[:6])} ({len(one.names)})" for one in (data, task))
                raise DataError(f"{data.source}: has the labels {theirs}, the run was trained on {ours}")
            begun = self.folder.environment().get("data", {}).get("fingerprint")
            # On another machine features differ in their last digits.
            if block.get("inputs") != "features" and begun not in (None, data.fingerprint()):
                what = "has changed since the run was trained, and a new split of it holds training examples"
                raise DataError(f"{data.source}: {what}; put the old file back, or name new examples with --data")
        else:
            data = self._data_to_evaluate(path)
        if data.input_shape != task.input_shape:
            shapes = f"{list(data.input_shape)}, the run was trained on {list(task.input_shape)}"
            raise DataError(f"{data.source}: inputs are {shapes}")
        return data

    def _data_to_evaluate(self, path: str) -> LabelledData:
        task, block = self.classification, self.recipe.data
        columns = {"label_column": task.label_column, "text_column": task.encoder.column}
        changes: dict[str, Any] = {key: name for key, name in columns.items() if block.get(key, "") is None}
        changes |= {"path": path} | dict.fromkeys({"test_fraction", "categorical", "leave_out"} & block.keys())
        raw = build_reader(self.recipe.model_copy(update={"data": block | changes})).read(to_evaluate=True)
        raw = renumbered(raw, task.names)
        if raw.test is None and raw.validation is None:
            return prepare_to_evaluate(raw, task.encoder)
        return prepare(raw, validation=None, encoder=task.encoder)

    def export(self, path: str | Path) -> float:
        """Writes the classifier as an ONNX file that takes raw inputs; returns the largest difference to the run.

        The file gives probabilities at the run's temperature. See `integrations.onnx.export_onnx`.
        """
        from labelembed.integrations.onnx import export_onnx

        task, network = self.classification, self.network.cpu()
        network.objective.output_temperature.fill_(self.output_temperature)
        raw = task.encoder.raw_inputs()  # of features of pictures, the pictures
        shape, (low, high) = (task.input_shape, task.input_range) if raw is None else (raw.shape, raw.range)
        generator = seeds.generator(3, "export")
        if getattr(network.encoder, "reads_words", False):  # of one word the exporter would take the number for fixed
            size = (3, 20) if task.encoder.sparse else (3, *shape)
            inputs = torch.randint(int(low), int(high) + 1, size, generator=generator, dtype=torch.int32)
        else:
            inputs = low + (high - low) * torch.rand(3, *shape, generator=generator)
        encoder = nn.Sequential(nn.Identity() if raw is None else raw.network.cpu(), network.scaling, network.encoder)
        return export_onnx(
            path,
            encoder,
            network.objective,
            inputs,
            probabilities=True,
            names=task.names,
            metadata={"input_shape": json.dumps(shape), "input_range": json.dumps((low, high))},
            free={1: "features"} if task.encoder.sparse else None,
        )

    # ---- sentences

    def read_corpus(self, path: str | None = None) -> TextCorpus:
        """Reads the corpus the run was trained on, or one of the same vocabularies at another path."""
        corpus, task = read_corpus(self.recipe.data["path"] if path is None else path), self.sentences
        pairs = ((corpus.source_tokenizer, task.source), (corpus.target_tokenizer, task.target))
        if any(theirs.digest() != ours.digest() for theirs, ours in pairs):
            what = f"has another vocabulary than {self.folder.path}; translate its text instead"
            raise DataError(f"{corpus.source}: {what}")
        return corpus

    def evaluate_corpus(self, corpus: TextCorpus, split: str) -> dict[str, float]:
        """Returns the metrics of a split of `read_corpus`: of its tokens, and of what is written for its sentences."""
        tokens = token_metrics(self.network, corpus.splits[split])
        return tokens | evaluate_text(self.network, corpus, split, self.sentences.decoding)[0]

    def translate(self, lines: Iterable[str], decoding: Decoding | None = None) -> Iterator[str]:
        """Yields the translation of each line, in order, some hundred lines at a time; "" for a line without a token.

        What the corpus did to its lines (lower case, subwords) is done here too; without `decoding` the recipe's is
        used. Raises ValueError when an argument is out of its range.
        """
        decoding = self.sentences.decoding if decoding is None else decoding
        decoding.search()  # says what is wrong before any line is read
        source, target = self.sentences.source, self.sentences.target
        rest = iter(lines)
        while block := list(islice(rest, _LINES_AT_ONCE)):
            tokens = source.encode_lines(block)
            hypotheses = iter(decode(self.network, [one for one in tokens if len(one)], decoding))
            for line, ids in zip(block, tokens, strict=True):
                best = next(hypotheses) if len(ids) else None
                yield hypothesis_text(best, line, source, target, replace_unknown=decoding.replace_unknown)
