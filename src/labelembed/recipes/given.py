"""What an objective is given that a recipe can only point to: the labels' vectors, a teacher's logits.

Whatever it was made from, a run folder keeps what came of it, so that to resume and to predict need the folder
and nothing else.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from labelembed.data import LabelledData
from labelembed.errors import DataError, RecipeError, nearest
from labelembed.geometry import LabelGeometry
from labelembed.models.text_transformer import encode_names
from labelembed.objectives import OBJECTIVES
from labelembed.pretrained_text import PACKAGE
from labelembed.recipes import teacher
from labelembed.recipes.schema import Recipe
from labelembed.recipes.signature import keys_of
from labelembed.recipes.teacher import TEACHER_FILE
from labelembed.recipes.teacher_table import needs_table, refuse_unfit_teacher
from labelembed.training.files import sha256
from labelembed.training.run_folder import RunFolder
from labelembed.training.training_data import TrainingData

# Where a run folder keeps the labels' vectors or similarities that it was given.
EMBEDDING_FILE = "embedding.safetensors"
KEPT_FILES = (EMBEDDING_FILE, TEACHER_FILE)


def objective_arguments(
    recipe: Recipe, *, base: Path | None = None, data: TrainingData | None = None
) -> dict[str, Any]:
    """Returns the keyword arguments of the recipe's objective, what it points to in the place of where that is.

    Args:
        recipe: A checked recipe.
        base: The run folder; what it keeps is taken first.
        data: What is trained on: the labels' names are encoded, the rows shown to the teacher. None: the network
            is to predict only.

    Raises:
        DataError: When a file cannot be read, or a text encoder is missing.
        RecipeError: When the teacher was trained on other labels or inputs.
        RunFolderError: When the teacher is no finished run.
    """
    arguments = {key: value for key, value in recipe.objective.items() if key != "name"}
    if embedding_path(recipe, base=base) is not None or _text(recipe) is not None:
        arguments["embedding"] = _geometry(recipe, base=base, data=data)
    if "teacher" in arguments:
        given = Path(arguments.pop("teacher"))
        path = teacher.teacher_path(given, base=base)
        if needs_table(recipe) and data is not None:
            refuse_unfit_teacher(path, recipe, data)  # the table itself is given when the run begins
        arguments["teacher_logits"] = None
        if isinstance(data, LabelledData) and not needs_table(recipe):
            arguments["teacher_logits"] = teacher.teacher_logits(path, data)
    return arguments


def embedding_path(recipe: Recipe, *, base: Path | None = None) -> Path | None:
    """Returns where the objective's saved geometry is, None when it takes none."""
    value = recipe.objective.get("embedding")
    if not isinstance(value, str) or value in _learned(recipe):
        return None
    if _text(recipe) is not None:  # encoded once, when the run began
        return teacher.kept_file(base, EMBEDDING_FILE)
    below = (base / value) if base is not None else None
    return below if below is not None and below.is_file() else Path(value).expanduser()


def _learned(recipe: Recipe) -> tuple[str, ...]:
    """Returns the values of `embedding` that are no path: those of an objective that can learn it."""
    key = keys_of(OBJECTIVES[recipe.objective["name"]])["embedding"]
    return () if key.required else ("full", "compressed")


def _text(recipe: Recipe) -> str | None:
    """Returns the path of the text encoder for the labels' names, `""` for the packaged one; None for none."""
    value = recipe.objective.get("embedding")
    if not isinstance(value, str) or not (value == "text" or value.startswith("text:")):
        return None
    return value.removeprefix("text").removeprefix(":")


def _source(encoder: str) -> str:
    return f"text encoder {encoder or PACKAGE.replace('_', '-')}"


@lru_cache(maxsize=4)
def _encoded(names: tuple[str, ...], encoder: str) -> LabelGeometry:
    vectors = encode_names(names, encoder or None)
    return LabelGeometry(names, vectors=vectors, metric="cosine", source=_source(encoder))


def _geometry(recipe: Recipe, *, base: Path | None, data: TrainingData | None) -> LabelGeometry:
    path, encoder = embedding_path(recipe, base=base), _text(recipe)
    try:
        if path is not None:
            RunFolder(path.parent).require_unchanged(path)  # it may be what another run has learned
            return LabelGeometry.load(path)
        if encoder is None or data is None:
            raise DataError(f"the run folder keeps no {EMBEDDING_FILE}")
        return _encoded(data.names, encoder)
    except DataError as error:
        learned = _learned(recipe)
        hint = nearest(str(recipe.objective["embedding"]), (*learned, "text"))
        words = "".join(f"{word!r}, " for word in learned)
        wanted = f"{words}'text', 'text:PATH' of a text encoder, or the path of a saved geometry"
        message = f"must be {wanted}; {error}" if encoder is None else str(error)
        raise DataError(f"objective.embedding{hint if encoder is None else ':'} {message}") from error


def points_outside(recipe: Recipe) -> bool:
    """Tells whether the objective is given something that its recipe only points to."""
    return "teacher" in recipe.objective or embedding_path(recipe) is not None or _text(recipe) is not None


def whole_paths(recipe: Recipe, beside: Path | None) -> dict[str, str]:
    """Returns the objective's keys that are paths, made whole, so that the recipe works from anywhere.

    Args:
        recipe: A checked recipe.
        beside: The recipe's own folder: what it points to may lie there, as it does in a run folder.
    """
    found: dict[str, str] = {}
    geometry, encoder = embedding_path(recipe, base=beside), _text(recipe)
    if encoder:
        found["embedding"] = f"text:{Path(encoder).expanduser().absolute()}"
    elif encoder is None and geometry is not None and geometry.is_file():
        found["embedding"] = str(geometry.absolute())
    if "teacher" in recipe.objective:
        given = Path(recipe.objective["teacher"]).expanduser()
        below = given if beside is None else beside / given
        found["teacher"] = str((below if below.exists() else given).absolute())
    return found


def as_kept(recipe: Recipe) -> dict[str, Any]:
    """Returns the recipe as a run folder keeps it: what it points to is the folder's own."""
    kept = recipe.of_one_run()
    if embedding_path(recipe) is not None or _text(recipe) is not None:
        kept["objective"] = kept["objective"] | {"embedding": EMBEDDING_FILE}
    if "teacher" in recipe.objective:
        kept["objective"] = kept["objective"] | {"teacher": TEACHER_FILE}
    return kept


def files_to_keep(recipe: Recipe, data: TrainingData) -> dict[str, bytes]:
    """Returns what a run folder keeps of what the recipe points to, by the file's name."""
    files: dict[str, bytes] = {}
    path = embedding_path(recipe)
    if path is not None:
        files[EMBEDDING_FILE] = path.read_bytes()
    elif _text(recipe) is not None:
        files[EMBEDDING_FILE] = _geometry(recipe, base=None, data=data).to_bytes()
    if "teacher" in recipe.objective and isinstance(data, LabelledData) and not needs_table(recipe):
        files[TEACHER_FILE] = teacher.table_bytes(teacher.teacher_path(Path(recipe.objective["teacher"])), data)
    return files


def differences_from_kept(recipe: Recipe, folder: Path) -> list[str]:
    """Returns in what the things a recipe points to differ from what a run folder keeps of them."""
    found = []
    kept, encoder = folder / EMBEDDING_FILE, _text(recipe)
    asked = embedding_path(recipe, base=folder)
    if encoder is not None and kept.is_file():
        source = LabelGeometry.load(kept).source
        if source != _source(encoder):
            found.append(f"objective.embedding: here of {source!r}, asked for {_source(encoder)!r}")
    elif asked is not None and asked.is_file() and kept.is_file() and sha256(asked) != sha256(kept):
        found.append("objective.embedding: the saved geometry has another content")
    if "teacher" in recipe.objective and (folder / TEACHER_FILE).is_file():
        given = teacher.teacher_path(Path(recipe.objective["teacher"]))
        here, there = teacher.identity(folder / TEACHER_FILE), teacher.identity(given)
        if None not in (here, there) and here != there:
            found.append("objective.teacher: the teacher is another run")
    return found


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
