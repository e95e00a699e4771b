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


def embedding_path(recipe: Recipe, *, base: Path | None = None) -> Path | None:
    """Returns the path of the objective's saved geometry, in the run folder `base` if that has it; None for none."""
    value = recipe.objective.get("embedding")
    if not isinstance(value, str):
        return None
    is_learned = not keys_of(OBJECTIVES[recipe.objective["name"]])["embedding"].is_required()
    if is_learned and value in ("full", "compressed"):
        return None
    # The recipe of a run is written last: without it the run has not begun.
    if base is not None and (base / EMBEDDING_FILE).is_file() and RunFolder(base).state() != "empty":
        return base / EMBEDDING_FILE
    return None if text_encoder(recipe) is not None else Path(value).expanduser()


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
    """Returns the objective's keys that are paths, as absolute paths; relative ones may lie `beside` the recipe."""
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
