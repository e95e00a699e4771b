"""What a recipe points to: the labels' vectors, a text encoder for their names, the run that is the teacher.

A run folder keeps what came of it, so that to resume and to predict need the folder and nothing else.
"""

from __future__ import annotations

from pathlib import Path

from labelembed.lab.recipes.components import keys_of
from labelembed.lab.recipes.schema import Recipe
from labelembed.lab.training.run_folder import RunFolder
from labelembed.objectives import OBJECTIVES

# Where a run folder keeps the labels' vectors or similarities that it was given.
EMBEDDING_FILE = "embedding.safetensors"
# Where it keeps the teacher's predictions of the training examples.
TEACHER_FILE = "teacher.safetensors"
KEPT_FILES = (EMBEDDING_FILE, TEACHER_FILE)


def kept_file(folder: Path | None, name: str) -> Path | None:
    """Returns a file that a run folder keeps, None where the run has not begun: its recipe is written last."""
    begun = folder is not None and RunFolder(folder).state() != "empty"
    return folder / name if folder is not None and begun and (folder / name).is_file() else None


def embedding_path(recipe: Recipe, *, base: Path | None = None) -> Path | None:
    """Returns where the objective's saved geometry is, None when it takes none.

    Args:
        recipe: A checked recipe.
        base: The run folder; what it keeps is taken first.
    """
    value = recipe.objective.get("embedding")
    if not isinstance(value, str) or value in learned_embeddings(recipe):
        return None
    if (kept := kept_file(base, EMBEDDING_FILE)) is not None:
        return kept
    return None if text_encoder(recipe) is not None else Path(value).expanduser()


def learned_embeddings(recipe: Recipe) -> tuple[str, ...]:
    """Returns the values of `embedding` that are no path: those of an objective that can learn it."""
    key = keys_of(OBJECTIVES[recipe.objective["name"]])["embedding"]
    return () if key.is_required() else ("full", "compressed")


def text_encoder(recipe: Recipe) -> str | None:
    """Returns the path of the text encoder for the labels' names, `""` for the packaged one; None for none."""
    value = recipe.objective.get("embedding")
    if not isinstance(value, str) or not (value == "text" or value.startswith("text:")):
        return None
    return value.removeprefix("text").removeprefix(":")


def points_outside(recipe: Recipe) -> bool:
    """Tells whether the objective is given something that its recipe only points to."""
    return "teacher" in recipe.objective or embedding_path(recipe) is not None or text_encoder(recipe) is not None


def whole_paths(recipe: Recipe, beside: Path | None) -> dict[str, str]:
    """Returns the objective's keys that are paths, made whole.

    Args:
        recipe: A checked recipe.
        beside: The recipe's own folder: what it points to may lie there, or be kept there as a geometry.
    """
    paths: dict[str, str] = {}
    geometry = embedding_path(recipe)
    if geometry is not None and not geometry.exists():
        geometry = embedding_path(recipe, base=beside)
    named = {"teacher": recipe.objective.get("teacher"), "embedding": geometry}
    for key, value in named.items():
        given = Path(value or "").expanduser()
        below = given if beside is None else beside / given
        if value and (key == "teacher" or below.exists() or given.exists()):
            paths[key] = str((below if below.exists() else given).absolute())
    if encoder := text_encoder(recipe):
        paths["embedding"] = f"text:{Path(encoder).expanduser().absolute()}"
    return paths
