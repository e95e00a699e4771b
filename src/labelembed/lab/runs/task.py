"""What a run learns: to classify examples, or to write sentences; all that differs between the two is here."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, Self

from torch import nn

from labelembed import seeds
from labelembed.lab.data import Encoder, LabelledData, Split, TextCorpus, Tokenizer
from labelembed.lab.data.corpus.text_corpus import SIDES
from labelembed.lab.data.encoders.text_encoder import ENCODER_FOLDER
from labelembed.lab.errors import RecipeError, RunFolderError
from labelembed.lab.models import MODELS, SEQUENCE_MODELS, Augmentation, InputScaling, Mixing
from labelembed.lab.models.bag_of_words import texts_with_feature
from labelembed.lab.pretrained_text import encoder_folder
from labelembed.lab.recipes.components import takes
from labelembed.lab.recipes.schema import Recipe
from labelembed.lab.runs.build import (
    arguments_of,
    build_data,
    build_objective,
    build_reader,
    component_errors,
    given_embedding,
)
from labelembed.lab.training.checkpoints import load_newest
from labelembed.lab.training.decoding import Decoding, evaluate_text, sentence_diagnostics, token_metrics
from labelembed.lab.training.evaluation import calibrate, evaluate, shown_split
from labelembed.lab.training.network import Network, TrainingData
from labelembed.lab.training.reporter import Reporter
from labelembed.lab.training.run_folder import RunFolder


class Task(ABC):
    """What a run learns, from its data, or from the folder of a finished run to predict again.

    Attributes:
        recipe: Of the run.
        data: What is trained on; of a finished run there are none.
    """

    recipe: Recipe
    data: TrainingData

    @property
    def trains(self) -> bool:
        """Whether there are data to train on; otherwise it is there to predict."""
        return hasattr(self, "data")

    @abstractmethod
    def build_network(self, folder: Path | None = None, *, dry_run: bool = False) -> Network:
        """Builds the network. The encoder's start comes from (seed, "encoder") and the objective's from its own.

        Args:
            folder: The run folder, where the recipe's files are looked for first.
            dry_run: It is built to see whether it can be, and remembers no examples.

        Raises:
            DataError: When a saved geometry cannot be read.
            RecipeError: When a part does not fit the data.
        """

    @abstractmethod
    def evaluate(self, network: Network, split: str) -> dict[str, Any] | None:
        """Returns the metrics of a split after an epoch, None where there is none."""

    @abstractmethod
    def final_evaluation(self, network: Network, folder: RunFolder | None, result: dict[str, Any]) -> dict[str, Any]:
        """Returns what is measured once, with the selected weights, for ``result.json``.

        Args:
            network: With the selected weights.
            folder: Where its texts and samples go; None where another process of the run writes them.
            result: What the run reached.
        """

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """Returns what ``environment.json`` says of the data, and what a finished run needs of that."""

    @abstractmethod
    def files(self, folder: Path) -> list[str]:
        """Writes what makes inputs of examples into a run folder; returns the names of the files."""

    @classmethod
    @abstractmethod
    def saved(cls, recipe: Recipe, folder: RunFolder) -> Self:
        """Returns the task of a finished run; nothing in the folder is unpickled."""

    def objective_given(self, folder: Path | None, *, dry_run: bool) -> dict[str, Any]:
        """Returns what the objective is given by the data and the files of the run."""
        names = self.data.names if self.trains else None
        self._check_epochs()
        return {
            "num_examples": self.data.train.num_examples if self.trains and not dry_run else 0,
            "embedding": given_embedding(self.recipe, names, folder=folder),
        }

    def _check_epochs(self) -> None:
        """Raises RecipeError where the objective stores soft labels so seldom that the run ends before they are read.

        Not part of reading a recipe: of {steps: ...} the data say how many epochs there are.
        """
        every = self.recipe.objective.get("store_every")
        if every is not None and self.trains and (epochs := self.recipe.number_of_epochs(self.data)) <= every:
            reason = (
                f"{self.recipe.objective['name']!r} would be plain cross entropy; take a smaller one, or more epochs"
            )
            raise RecipeError([f"objective.store_every: must be less than epochs, {epochs}, got {every}: {reason}"])


class Classification(Task):
    """Examples with one label each.

    Args:
        recipe: Of the run.
        names: Of the labels.
        input_shape: Of one input.
        input_range: Smallest and largest value of the inputs.
        encoder: What makes inputs of examples, as learned from the training examples.
        label_column: The column of the labels; None: they stood in none.
        label_values: The labels as the run's data spell them, where the recipe names them otherwise.
    """

    data: LabelledData

    def __init__(
        self,
        recipe: Recipe,
        *,
        names: tuple[str, ...],
        input_shape: tuple[int, ...],
        input_range: tuple[float, float],
        encoder: Encoder,
        label_column: str | None,
        label_values: tuple[str, ...],
    ) -> None:
        self.recipe, self.names, self.encoder = recipe, names, encoder
        self.label_column, self.label_values = label_column, label_values
        self.input_shape, self.input_range = input_shape, input_range

    @classmethod
    def of(cls, recipe: Recipe, data: LabelledData) -> Self:
        """Returns the task of learning the labels of examples."""
        given = ("names", "input_shape", "input_range", "encoder", "label_column", "label_values")
        facts: Any = {name: getattr(data, name) for name in given}
        task = cls(recipe, **facts)
        task.data = data
        return task

    @classmethod
    def saved(cls, recipe: Recipe, folder: RunFolder) -> Self:
        """Returns the task of a finished run; see `Task.saved`."""
        about = folder.environment().get("data", {})
        try:
            names = tuple(str(name) for name in about["names"])
            input_shape = tuple(int(size) for size in about["input_shape"])
            low, high = (float(end) for end in about["input_range"])
            column, values = about.get("label_column"), tuple(str(value) for value in about.get("label_values", ()))
        except (TypeError, KeyError, ValueError, AttributeError, OverflowError) as error:
            what = "missing or damaged, it does not say what data the run was trained on"
            raise RunFolderError(f"{folder.path / 'environment.json'}: {what}") from error
        form: dict[str, Any] = {"input_shape": input_shape, "input_range": (low, high)}
        encoder = build_reader(recipe).new_encoder().load(folder.path, form)
        of_labels: dict[str, Any] = {
            "label_column": column if isinstance(column, str) else None,
            "label_values": values,
        }
        return cls(recipe, names=names, encoder=encoder, **form, **of_labels)

    def build_network(self, folder: Path | None = None, *, dry_run: bool = False) -> Network:
        """Builds input scaling, encoder and objective; see `Task.build_network`."""
        recipe, how = self.recipe, self.recipe.data
        kind, arguments = MODELS[recipe.model["name"]], arguments_of(recipe.model)
        # A network that is to predict, or of a run that goes on, has weights in the folder.
        is_filled = not self.trains or (
            folder is not None and load_newest(RunFolder(folder).checkpoints)[0] is not None
        )
        if is_filled and "weights" in arguments:
            arguments["weights"] = None
        if takes(kind, "vocabulary_size"):
            arguments["vocabulary_size"] = int(self.input_range[1]) + 1
        if takes(kind, "texts_with_feature"):
            inputs: Any = self.data.train.inputs if self.trains else None
            arguments["texts_with_feature"] = texts_with_feature(inputs) if self.trains else None
        if takes(kind, "encoder_folder"):
            kept = None if folder is None else folder / ENCODER_FOLDER
            is_kept = is_filled and kept is not None and (kept / "config.json").is_file()
            arguments["encoder_folder"] = kept if is_kept else encoder_folder(how["encoder"])
            arguments["encoder_filled"] = not is_kept
        with component_errors("model"), seeds.seeded(recipe.seed, "encoder"):
            encoder: Any = kind(input_shape=self.input_shape, **arguments)
        objective = build_objective(recipe, encoder, len(self.names), **self.objective_given(folder, dry_run=dry_run))
        mixing = None
        with component_errors("data"):
            augmentation = Augmentation(how["augmentation"], cutout=how["cutout"], input_shape=self.input_shape)
            if how["mixing"] != "none":
                mixing = Mixing(how["mixing"], alpha=how["mixing_alpha"], input_shape=self.input_shape)
        return Network(self._scaling(), encoder, objective, augmentation, mixing)

    def _scaling(self) -> nn.Module:
        """Returns the input scaling, with the statistics of the training examples; of words none."""
        if self.recipe.of_words:
            return nn.Identity()
        if self.recipe.data["scaling"] != "standard":
            low, high = self.input_range
            return InputScaling(offset=[float(low)], scale=[float(high - low) or 1.0])
        if not self.trains:  # the numbers are in the saved weights
            return InputScaling(offset=[1.0] * self.input_shape[0], scale=[1.0] * self.input_shape[0])
        mean, deviation = self.data.input_statistics()
        return InputScaling(offset=mean.tolist(), scale=deviation.tolist())

    def evaluate(self, network: Network, split: str) -> dict[str, Any] | None:
        """Returns error, NLL, calibration error and the like."""
        examples: Split | None = self.data.splits.get(split)
        return None if examples is None else evaluate(network, examples)

    def final_evaluation(self, network: Network, folder: RunFolder | None, result: dict[str, Any]) -> dict[str, Any]:
        """Returns the temperature and the metrics with it."""
        return calibrate(network, self.data, wanted=self.recipe.calibration)

    def facts(self) -> dict[str, Any]:
        """Returns the labels and the form of the inputs."""
        cut, column = self.data.cut, self.label_column
        about: dict[str, Any] = (
            {} if cut is None else {"cut_texts": {"count": cut.count, "of": cut.of, cut.setting: cut.limit}}
        )
        about |= {} if column is None else {"label_column": column}
        about |= {"label_values": list(self.label_values)} if self.label_values else {}
        shape, limits = list(self.input_shape), list(self.input_range)
        return about | {"names": list(self.names), "input_shape": shape, "input_range": limits}

    def files(self, folder: Path) -> list[str]:
        """Writes vocabularies, or how columns become numbers."""
        for name, content in self.encoder.files().items():
            RunFolder(folder).write(name, content)
        return list(self.encoder.files())


class Sentences(Task):
    """Sentences that are written for other sentences.

    Args:
        recipe: Of the run.
        source: Tokenizer of the source.
        target: Tokenizer of the target.
    """

    data: TextCorpus

    def __init__(self, recipe: Recipe, source: Tokenizer, target: Tokenizer) -> None:
        self.recipe, self.source, self.target = recipe, source, target
        self.decoding = recipe.decoding or Decoding()

    @classmethod
    def of(cls, recipe: Recipe, data: TextCorpus) -> Self:
        """Returns the task of learning a corpus."""
        task = cls(recipe, data.source_tokenizer, data.target_tokenizer)
        task.data = data
        return task

    @classmethod
    def saved(cls, recipe: Recipe, folder: RunFolder) -> Self:
        """Returns the task of a finished run; see `Task.saved`."""
        return cls(recipe, *(Tokenizer.load(folder.path, side) for side in SIDES))

    def build_network(self, folder: Path | None = None, *, dry_run: bool = False) -> Network:
        """Builds encoder-decoder and objective over the tokens of the target; see `Task.build_network`."""
        recipe, source, target = self.recipe, self.source.vocabulary, self.target.vocabulary
        if recipe.model.get("shared_embeddings") and source != target:
            reason = "the corpus has a vocabulary for each side (labelembed preprocess --shared-vocabulary makes one)"
            raise RecipeError([f"model.shared_embeddings: must be false: {reason}"])
        sizes = {"source_vocabulary_size": len(source), "target_vocabulary_size": len(target)}
        with component_errors("model"), seeds.seeded(recipe.seed, "encoder"):
            encoder: Any = SEQUENCE_MODELS[recipe.model["name"]](**sizes, **arguments_of(recipe.model))
        objective = build_objective(recipe, encoder, len(target), **self.objective_given(folder, dry_run=dry_run))
        if encoder.tied_output:
            shapes = [list(layer.weight.shape) for layer in (objective.output, encoder.target_embedding)]
            if shapes[0] != shapes[1]:
                reason = f"the output layer is {shapes[0]}, the target embedding {shapes[1]}"
                raise RecipeError([f"model.tied_output: must be false where shapes differ: {reason}"])
            objective.output.weight = encoder.target_embedding.weight
        return Network(nn.Identity(), encoder, objective)

    def evaluate(self, network: Network, split: str) -> dict[str, Any] | None:
        """Returns the metrics of the tokens, and of the validation sentences BLEU of what is written greedily."""
        if split not in self.data.splits:
            return None
        metrics: dict[str, Any] = token_metrics(network, self.data.splits[split])
        return metrics | (evaluate_text(network, self.data, split, Decoding())[0] if split == "validation" else {})

    def final_evaluation(self, network: Network, folder: RunFolder | None, result: dict[str, Any]) -> dict[str, Any]:
        """Returns the metrics of what is written as the recipe decodes; the texts go into ``translations/``."""
        metrics: dict[str, Any] = {"temperature": None, "calibration": "none, for a corpus", "calibrated": None}
        for split in [name for name in self.data.splits if name != "train"]:
            its, written = evaluate_text(network, self.data, split, self.decoding)
            metrics[split] = result[split] | its
            if folder is None:
                continue
            folder.write(f"translations/{split}.txt", "".join(f"{line}\n" for line in written).encode())
            if split == shown_split(self.data):
                folder.write("diagnostics/sentences.json", sentence_diagnostics(self.data, split, written))
        return metrics

    def facts(self) -> dict[str, Any]:
        """Returns what the tokens are, and how many."""
        sides = (self.source, self.target)
        sizes = [len(side.vocabulary) for side in sides]
        return {"levels": [side.level for side in sides], "vocabulary_sizes": sizes}

    def files(self, folder: Path) -> list[str]:
        """Writes the tokenizers of both sides."""
        for side, tokenizer in zip(SIDES, (self.source, self.target), strict=True):
            tokenizer.save(folder, side)
        return sorted(file.name for side in SIDES for file in folder.glob(f"{side}-*"))


def build_task(
    recipe: Recipe,
    *,
    data: TrainingData | None = None,
    folder: RunFolder | None = None,
    reporter: Reporter | None = None,
) -> Task:
    """Returns what a recipe learns.

    Args:
        recipe: A checked recipe.
        data: Where they are in memory already; None: they are read.
        folder: Of a run that has begun, which keeps the encoder that it has fitted.
        reporter: Told how far the reading is.
    """
    if data is None:
        keeps_encoder = folder is not None and recipe.text_inputs in ("features", "tokens")
        encoder = build_reader(recipe).new_encoder().load(folder.path, {}) if folder and keeps_encoder else None
        data = build_data(recipe, progress=reporter.reading if reporter else None, encoder=encoder)
    return Classification.of(recipe, data) if isinstance(data, LabelledData) else Sentences.of(recipe, data)


def saved_task(recipe: Recipe, folder: RunFolder) -> Task:
    """Returns what a finished run has learned."""
    return (Sentences if recipe.of_sentences else Classification).saved(recipe, folder)
