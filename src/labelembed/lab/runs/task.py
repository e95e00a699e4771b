"""The two tasks, classification and writing sentences; all that differs between them is here.

Both build the network, evaluate it after an epoch and at the end, and keep in the run folder what makes inputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from labelembed import seeds
from labelembed.lab.data import Encoder, Tokenizer
from labelembed.lab.data.corpus.text_corpus import SIDES
from labelembed.lab.data.text_encoder import ENCODER_FOLDER
from labelembed.lab.errors import RecipeError
from labelembed.lab.models import MODELS, SEQUENCE_MODELS, Augmentation, InputScaling, Mixing
from labelembed.lab.models.bag_of_words import texts_with_feature
from labelembed.lab.pretrained_images import RANDOM
from labelembed.lab.pretrained_text import encoder_folder
from labelembed.lab.recipes.components import takes
from labelembed.lab.recipes.schema import Recipe
from labelembed.lab.runs.build import build_data, build_objective, build_reader, component_errors
from labelembed.lab.training.checkpoints import load_newest
from labelembed.lab.training.decoding import Decoding, evaluate_text, sentence_diagnostics, token_metrics
from labelembed.lab.training.evaluation import calibrate, evaluate, shown_split
from labelembed.lab.training.network import Network, TrainingData
from labelembed.lab.training.reporter import Reporter
from labelembed.lab.training.run_folder import RunFolder
from labelembed.lab.training.settings import arguments_of


@dataclass(eq=False)
class Classification:
    """Examples with one label each, as an encoder learned from the training examples turns them into inputs.

    `label_column` is None where the labels stood in none; of a finished run there are no `data`.
    """

    recipe: Recipe
    names: tuple[str, ...]
    input_shape: tuple[int, ...]
    input_range: tuple[float, float]
    encoder: Encoder
    label_column: str | None = None
    data: Any = None

    def build_network(self, folder: Path | None = None, *, dry_run: bool = False) -> Network:
        """Builds input scaling, encoder and objective; raises RecipeError when a part does not fit the data.

        The files of the recipe are looked for in the run folder first. In a dry run no examples are remembered.
        """
        recipe, how = self.recipe, self.recipe.data
        kind, arguments = MODELS[recipe.model["name"]], arguments_of(recipe.model)
        # A network that is to predict, or of a run that goes on, has weights in the folder.
        is_filled = self.data is None or (folder and load_newest(RunFolder(folder).checkpoints)[0] is not None)
        if is_filled and "weights" in arguments:
            arguments["weights"] = RANDOM
        if takes(kind, "vocabulary_size"):
            arguments["vocabulary_size"] = int(self.input_range[1]) + 1
        if takes(kind, "texts_with_feature"):
            inputs = None if self.data is None else self.data.train.inputs
            arguments["texts_with_feature"] = None if inputs is None else texts_with_feature(inputs)
        if takes(kind, "encoder_folder"):
            kept = folder / ENCODER_FOLDER if is_filled and folder is not None else Path()
            arguments["encoder_filled"] = not (kept / "config.json").is_file()
            arguments["encoder_folder"] = encoder_folder(how["encoder"]) if arguments["encoder_filled"] else kept
        with component_errors("model"), seeds.seeded(recipe.seed, "encoder"):
            encoder: Any = kind(input_shape=self.input_shape, **arguments)
        objective = build_objective(recipe, encoder, len(self.names), self.data, folder, dry_run=dry_run)
        with component_errors("data"):
            augmentation = Augmentation(how["augmentation"], cutout=how["cutout"], input_shape=self.input_shape)
            mixing = None
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
        if self.data is None:  # the numbers are in the saved weights
            return InputScaling(offset=[1.0] * self.input_shape[0], scale=[1.0] * self.input_shape[0])
        mean, deviation = self.data.input_statistics()
        return InputScaling(offset=mean.tolist(), scale=deviation.tolist())

    def evaluate(self, network: Network, split: str) -> dict[str, Any] | None:
        """Returns error, NLL, calibration error and the like of a split, None where there is none."""
        examples = self.data.splits.get(split)
        return None if examples is None else evaluate(network, examples)

    def final_evaluation(self, network: Network, folder: RunFolder, result: dict[str, Any]) -> dict[str, Any]:
        """Returns for ``result.json`` the temperature and the metrics with it."""
        return calibrate(network, self.data, wanted=self.recipe.calibration)

    def keep(self, folder: RunFolder) -> dict[str, Any]:
        """Writes vocabularies, or how columns become numbers; returns labels and the form of the inputs."""
        for name, content in self.encoder.files().items():
            folder.write(name, content)
        about = {"names": list(self.names), "input_shape": list(self.input_shape)}
        return about | {"input_range": list(self.input_range), "label_column": self.label_column}


@dataclass(eq=False)
class Sentences:
    """Sentences that are written for others; `source` and `target` are tokenizers; a finished run has no `data`."""

    recipe: Recipe
    source: Tokenizer
    target: Tokenizer
    data: Any = None

    @property
    def decoding(self) -> Decoding:
        """How the test sentences are translated."""
        return self.recipe.decoding or Decoding()

    def build_network(self, folder: Path | None = None, *, dry_run: bool = False) -> Network:
        """Builds encoder-decoder and objective over the tokens of the target; see `Classification.build_network`."""
        recipe, source, target = self.recipe, self.source.vocabulary, self.target.vocabulary
        if recipe.model.get("shared_embeddings") and source != target:
            raise RecipeError(["model.shared_embeddings: must be false: the corpus has a vocabulary for each side"])
        sizes = {"source_vocabulary_size": len(source), "target_vocabulary_size": len(target)}
        with component_errors("model"), seeds.seeded(recipe.seed, "encoder"):
            encoder: Any = SEQUENCE_MODELS[recipe.model["name"]](**sizes, **arguments_of(recipe.model))
        objective = build_objective(recipe, encoder, len(target), self.data, folder, dry_run=dry_run)
        if encoder.tied_output:
            if objective.output.weight.shape != encoder.target_embedding.weight.shape:
                reason = "the output layer of this objective has another shape than the target embedding"
                raise RecipeError([f"model.tied_output: must be false: {reason}"])
            objective.output.weight = encoder.target_embedding.weight
        return Network(nn.Identity(), encoder, objective)

    def evaluate(self, network: Network, split: str) -> dict[str, Any] | None:
        """Returns the metrics of the tokens, and of the validation sentences BLEU of what is written greedily."""
        if split not in self.data.splits:
            return None
        metrics: dict[str, Any] = token_metrics(network, self.data.splits[split])
        return metrics | (evaluate_text(network, self.data, split, Decoding())[0] if split == "validation" else {})

    def final_evaluation(self, network: Network, folder: RunFolder, result: dict[str, Any]) -> dict[str, Any]:
        """Returns for ``result.json`` the metrics of what is written as the recipe decodes, and keeps the texts."""
        metrics: dict[str, Any] = {"temperature": None, "calibration": "none, for a corpus", "calibrated": None}
        for split in [name for name in self.data.splits if name != "train"]:
            its, written = evaluate_text(network, self.data, split, self.decoding)
            metrics[split] = result[split] | its
            folder.write(f"translations/{split}.txt", "".join(f"{line}\n" for line in written).encode())
            if split == shown_split(self.data):
                folder.write("diagnostics/sentences.json", sentence_diagnostics(self.data, split, written))
        return metrics

    def keep(self, folder: RunFolder) -> dict[str, Any]:
        """Writes the tokenizers of both sides."""
        for side, tokenizer in zip(SIDES, (self.source, self.target), strict=True):
            tokenizer.save(folder.path, side)
        return {}


Task = Classification | Sentences


def build_task(
    recipe: Recipe,
    *,
    data: TrainingData | None = None,
    folder: RunFolder | None = None,
    reporter: Reporter | None = None,
) -> Task:
    """Returns the task of a recipe; data that are not given are read, with the encoder of a run that has begun."""
    if data is None:
        keeps_encoder = folder is not None and recipe.text_inputs in ("features", "tokens")
        encoder = build_reader(recipe).new_encoder().load(folder.path, {}) if folder and keeps_encoder else None
        data = build_data(recipe, progress=reporter.reading if reporter else None, encoder=encoder)
    about: Any = data
    if recipe.of_sentences:
        return Sentences(recipe, about.source_tokenizer, about.target_tokenizer, data)
    names = ("names", "input_shape", "input_range", "encoder", "label_column")
    return Classification(recipe, **{name: getattr(about, name) for name in names}, data=data)


def saved_task(recipe: Recipe, folder: RunFolder) -> Task:
    """Returns the task of a finished run; nothing is unpickled, and a damaged folder may raise any error."""
    if recipe.of_sentences:
        return Sentences(recipe, *(Tokenizer.load(folder.path, side) for side in SIDES))
    about = folder.environment()["data"]
    names = tuple(map(str, about["names"]))
    input_shape = tuple(int(size) for size in about["input_shape"])
    low, high = (float(end) for end in about["input_range"])
    form = {"input_shape": input_shape, "input_range": (low, high)}
    encoder = build_reader(recipe).new_encoder().load(folder.path, form)
    column = about.get("label_column")
    return Classification(recipe, names, input_shape, (low, high), encoder, column and str(column))
