"""The network that a run trains: built with what its objective is given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from labelembed.lab.data import LabelledData, TextCorpus
from labelembed.lab.errors import RecipeError
from labelembed.lab.models import MODELS
from labelembed.lab.models.bag_of_words import texts_with_feature
from labelembed.lab.recipes.components import takes
from labelembed.lab.recipes.references import teacher_path
from labelembed.lab.recipes.schema import Recipe
from labelembed.lab.runs.build import build_network, build_scaling, build_sequence_network
from labelembed.lab.runs.embedding import given_embedding, refuse_other_labels
from labelembed.lab.runs.teacher import refuse_unfit_teacher
from labelembed.lab.sparse_rows import SparseRows
from labelembed.lab.training.batches import TrainingData
from labelembed.lab.training.network import Network


def network_for(recipe: Recipe, data: TrainingData, *, base: Path | None = None, to_try: bool = False) -> Network:
    """Builds the network that is trained on the data; see `build_network`.

    Args:
        recipe: What to build.
        data: What it is trained on.
        base: The run folder.
        to_try: It is built to see whether it can be, and remembers no examples.

    Raises:
        DataError: When a saved geometry cannot be read.
        RecipeError: When a part does not fit the data.
        RunFolderError: When the teacher is no finished run.
    """
    _refuse_too_few_epochs(recipe, data)
    given: dict[str, Any] = {
        "num_examples": 0 if to_try else data.train.num_examples,
        "base": base,
        "trained": True,
        "embedding": given_embedding(recipe, base=base, data=data),
    }
    if "teacher" in recipe.objective:
        refuse_unfit_teacher(teacher_path(Path(recipe.objective["teacher"]), base=base), recipe, data)
    if isinstance(data, TextCorpus):
        shared = data.source_tokenizer.vocabulary == data.target_tokenizer.vocabulary
        if recipe.model.get("shared_embeddings") and not shared:
            reason = "the corpus has a vocabulary for each side (labelembed preprocess --shared-vocabulary makes one)"
            raise RecipeError([f"model.shared_embeddings: must be false: {reason}"])
        sizes = len(data.source_tokenizer.vocabulary), len(data.target_tokenizer.vocabulary)
        network = build_sequence_network(recipe, vocabulary_sizes=sizes, **given)
    else:
        network = build_network(
            recipe,
            num_labels=data.num_labels,
            input_shape=data.input_shape,
            input_range=data.input_range,
            scaling=build_scaling(recipe, data),
            texts_with_feature=_texts_with_feature(recipe, data),
            **given,
        )
    refuse_other_labels(recipe, data, base)
    return network


def _texts_with_feature(recipe: Recipe, data: LabelledData) -> Tensor | None:
    """Returns how many training texts have each feature; None for a network that does not weigh them."""
    if not takes(MODELS.get(recipe.model["name"], Network), "texts_with_feature"):
        return None
    assert isinstance(data.train.inputs, SparseRows)  # as the encoder of words makes them
    return texts_with_feature(data.train.inputs)


def _refuse_too_few_epochs(recipe: Recipe, data: TrainingData) -> None:
    """Raises RecipeError where the objective stores soft labels every k epochs and the run ends before they are read.

    Not part of reading a recipe: of {steps: ...} the data say how many epochs there are.
    """
    every, epochs = recipe.objective.get("store_every"), recipe.number_of_epochs(data)
    if every is not None and epochs <= every:
        reason = f"{recipe.objective['name']!r} would be plain cross entropy; take a smaller one, or more epochs"
        raise RecipeError([f"objective.store_every: must be less than epochs, {epochs}, got {every}: {reason}"])
