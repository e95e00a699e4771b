"""The recipe of a run folder beside the one that is asked for: refused with the differences, or taken by `resume`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from labelembed.geometry import LabelGeometry
from labelembed.lab.errors import RunFolderError
from labelembed.lab.recipes.references import (
    EMBEDDING_FILE,
    TEACHER_FILE,
    as_kept,
    embedding_path,
    teacher_path,
    text_encoder,
)
from labelembed.lab.recipes.schema import Recipe
from labelembed.lab.runs.embedding import encoder_source
from labelembed.lab.runs.stored import stored_recipe
from labelembed.lab.runs.teacher import identity
from labelembed.lab.training.files import sha256, write_bytes
from labelembed.lab.training.run_folder import RunFolder
from labelembed.lab.training.state import Position

HEADING = "The resolved recipe of this run; it runs the run again."
# With another of these the run would be neither the old one nor the new one: what it has learned, the examples it has
# seen of the epoch in progress, and what its best epoch was chosen by belong to the old one.
_FIXED = ("data.", "model.name", "objective.name", "optimizer.name", "batch_size", "seed", "selection.by")


def flat_recipe(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns a recipe's values by their whole keys, without the path of its data, which may move."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= flat_recipe(value, f"{prefix}{key}.")
        elif (prefix, key) != ("data.", "path"):  # data that moved is held to its fingerprint, not its path
            flat[f"{prefix}{key}"] = value
    return flat


def differences(recipe: Recipe, folder: RunFolder) -> dict[str, tuple[Any, Any]]:
    """Returns the keys in which a recipe differs from that of a run folder, with the value here and the one asked for.

    Raises:
        RunFolderError: When there is no run, or its recipe is damaged.
    """
    wanted = flat_recipe(as_kept(recipe))
    present = flat_recipe(stored_recipe(folder).of_one_run())
    return {
        key: (present.get(key), wanted.get(key))
        for key in sorted(wanted.keys() | present.keys())
        if wanted.get(key) != present.get(key)
    }


def refuse_other_recipe(
    recipe: Recipe, folder: RunFolder, *, may_change: bool = False, way_out: str = "choose another --out"
) -> None:
    """Raises RunFolderError, with the differences, when a folder holds the run of another recipe.

    Args:
        recipe: What is asked for.
        folder: The run folder.
        may_change: Refuse only changes with which a run cannot go on.
        way_out: What to do instead, for the message.
    """
    found = differences(recipe, folder)
    if may_change:
        # Class weights stand in the checkpoint, which would put the old ones back.
        found = {key: values for key, values in found.items() if key.startswith(_FIXED) or key == "objective.weight"}
    differing = [_line(key, *values) for key, values in found.items()]
    differing += _differences_from_kept(recipe, folder.path)
    if not differing:
        return
    reason = "with such a change it cannot go on; " if may_change else ""
    raise RunFolderError(f"{folder.path}: holds the run of another recipe; {reason}{way_out}. {_listed(differing)}")


def listed(found: dict[str, tuple[Any, Any]]) -> str:
    """Returns differences as the end of a message, one a line."""
    return _listed([_line(key, *values) for key, values in found.items()])


def _line(key: str, here: Any, asked: Any) -> str:
    return f"{key}: here {here!r}, asked for {asked!r}"


def _listed(lines: Sequence[str]) -> str:
    more = [f"and {len(lines) - 6} more"] if len(lines) > 6 else []
    return "\n  ".join(["It differs in", *lines[:6], *more])


def _differences_from_kept(recipe: Recipe, folder: Path) -> list[str]:
    """Returns in what the things a recipe points to differ from what a run folder keeps of them."""
    found = []
    kept, encoder = folder / EMBEDDING_FILE, text_encoder(recipe)
    asked = embedding_path(recipe, base=folder)
    if encoder is not None and kept.is_file():
        source = LabelGeometry.load(kept).source
        if source != encoder_source(encoder):
            found.append(f"objective.embedding: here of {source!r}, asked for {encoder_source(encoder)!r}")
    elif asked is not None and asked.is_file() and kept.is_file() and sha256(asked) != sha256(kept):
        found.append("objective.embedding: the saved geometry has another content")
    if "teacher" in recipe.objective and (folder / TEACHER_FILE).is_file():
        given = teacher_path(Path(recipe.objective["teacher"]))
        here, there = identity(folder / TEACHER_FILE), identity(given)
        if None not in (here, there) and here != there:
            found.append("objective.teacher: the teacher is another run")
    return found


def refuse_change_behind(epochs: int, folder: RunFolder, position: Position) -> None:
    """Raises RunFolderError when a changed recipe of so many epochs ends before the run's place, or there is none."""
    if position.step == 0 and folder.state() == "finished":
        raise RunFolderError(
            f"{folder.path}: the run has finished and left no checkpoint to go on from; train again in another folder"
        )
    least = position.epoch + (position.batch > 0)
    if epochs < least:
        stands = f"in epoch {least}" if position.batch else f"after epoch {least}"
        what = f"epochs: must be {least} or more, the run is {stands}, got {epochs}"
        raise RunFolderError(f"{folder.path}: {what}")


def record_change(recipe: Recipe, folder: RunFolder, position: Position) -> None:
    """Writes a changed recipe into a run folder, keeps the one before as ``recipe.N.yaml``, and notes what changed.

    The note stands in ``environment.json`` as `changes`, which the report and the model card show.
    """
    found = differences(recipe, folder)
    if not found:
        return
    before = _kept_before(folder.path)
    changes = "; ".join(f"{key} {here!r} became {asked!r}" for key, (here, asked) in found.items())
    noted = folder.environment()
    known = noted.get("changes")
    line = f"at step {position.step} (epoch {position.epoch + 1}): {changes}; before: {before.name}"
    write_bytes(before, (folder.path / "recipe.yaml").read_bytes())
    folder.write_environment(noted | {"changes": [*(known if isinstance(known, list) else []), line]})
    folder.write_recipe(as_kept(recipe), heading=HEADING)


def _kept_before(folder: Path) -> Path:
    number = 1
    while (folder / f"recipe.{number}.yaml").exists():
        number += 1
    return folder / f"recipe.{number}.yaml"
