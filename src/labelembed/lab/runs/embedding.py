"""The labels' vectors or similarities that an objective is given: a saved geometry, or the labels' names encoded."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from labelembed.errors import DataError, nearest
from labelembed.geometry import LabelGeometry
from labelembed.lab.errors import RecipeError
from labelembed.lab.pretrained_text import PACKAGE, encode_names
from labelembed.lab.recipes.references import EMBEDDING_FILE, embedding_path, learned_embeddings, text_encoder
from labelembed.lab.recipes.schema import Recipe
from labelembed.lab.training.batches import TrainingData
from labelembed.lab.training.run_folder import RunFolder


def given_embedding(
    recipe: Recipe, *, base: Path | None = None, data: TrainingData | None = None
) -> LabelGeometry | None:
    """Returns the geometry that the recipe's objective is given; None where it is given none.

    Args:
        recipe: A checked recipe.
        base: The run folder; what it keeps is taken first.
        data: What is trained on, whose labels' names a text encoder reads; None: the network is to predict only.

    Raises:
        DataError: When a file cannot be read, or a text encoder is missing.
    """
    path, encoder = embedding_path(recipe, base=base), text_encoder(recipe)
    if path is None and encoder is None:
        return None
    try:
        if path is not None:
            RunFolder(path.parent).require_unchanged(path)  # it may be what another run has learned
            return LabelGeometry.load(path)
        if encoder is None or data is None:
            raise DataError(f"the run folder keeps no {EMBEDDING_FILE}")
        return _encoded(data.names, encoder)
    except DataError as error:
        learned = learned_embeddings(recipe)
        hint = nearest(str(recipe.objective["embedding"]), (*learned, "text"))
        words = "".join(f"{word!r}, " for word in learned)
        wanted = f"{words}'text', 'text:PATH' of a text encoder, or the path of a saved geometry"
        message = f"must be {wanted}; {error}" if encoder is None else str(error)
        raise DataError(f"objective.embedding{hint if encoder is None else ':'} {message}") from error


def encoder_source(encoder: str) -> str:
    """Returns what a geometry of encoded names says of where it is from."""
    return f"text encoder {encoder or PACKAGE.replace('_', '-')}"


@lru_cache(maxsize=4)
def _encoded(names: tuple[str, ...], encoder: str) -> LabelGeometry:
    vectors = encode_names(names, encoder or None)
    return LabelGeometry(names, vectors=vectors, metric="cosine", source=encoder_source(encoder))


def refuse_other_labels(recipe: Recipe, data: TrainingData, folder: Path | None) -> None:
    """Raises RecipeError when a saved geometry has the labels in another order, or other ones."""
    path = embedding_path(recipe, base=folder)
    if path is None:
        return
    names = LabelGeometry.load(path).names
    unnamed = tuple(str(number) for number in range(len(names)))
    for number, (theirs, ours) in enumerate(zip(names, data.names, strict=False)):
        if theirs != ours and unnamed not in (names, data.names):
            message = f"objective.embedding: label {number} is {theirs!r} in {path} and {ours!r} in the data"
            raise RecipeError([f"{message}; a fixed embedding needs the same labels in the same order"])
