"""The recipe of a run folder beside the one that is asked for: refused with the differences, or taken by `resume`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from labelembed.geometry import LabelGeometry
from labelembed.lab.errors import RunFolderError
from labelembed.lab.recipes.references import EMBEDDING_FILE, TEACHER_FILE, as_kept, embedding_path, text_encoder
from labelembed.lab.recipes.schema import Recipe
from labelembed.lab.runs.build import encoder_source, stored_recipe
from labelembed.lab.runs.teacher import identity
from labelembed.lab.training.checkpoints import Position
from labelembed.lab.training.files import sha256
from labelembed.lab.training.run_folder import RunFolder

# With another of these the run would be neither the old one nor the new one: what it has learned, the examples it has
# seen of the epoch in progress, and what its best epoch was chosen by belong to the old one. Class weights stand in
# the checkpoint, which would put the old ones back.
_FIXED = (
    "data.",
    "model.name",
    "objective.name",
    "objective.weight",
    "optimizer.name",
    "batch_size",
    "seed",
    "selection.by",
)


def flat_recipe(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns a recipe's values by their whole keys, without the path of its data, which may move."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= flat_recipe(value, f"{prefix}{key}.")
        elif (prefix, key) != ("data.", "path"):  # data that moved are held to their fingerprint, not their path
            flat[f"{prefix}{key}"] = value
    return flat


def differences(recipe: Recipe, folder: RunFolder) -> dict[str, tuple[Any, Any]]:
    """Returns the keys in which a recipe differs from that of a run folder, with the value here and the one asked for.

    Raises:
        RunFolderError: When there is no run, or its recipe is damaged.
    """
    wanted = flat_recipe(as_kept(recipe))
    present = flat_recipe(stored_recipe(folder).of_one_run())
    keys = sorted(wanted.keys() | present.keys())
    return {key: (present.get(key), wanted.get(key)) for key in keys if wanted.get(key) != present.get(key)}


def check_same_recipe(
    recipe: Recipe, folder: RunFolder, *, may_change: bool = False, way_out: str = "choose another --out"
) -> None:
    """Raises RunFolderError, with the differences, when a folder holds the run of another recipe.

    Args:
        recipe: What is asked for.
        folder: The run folder.
        may_change: Refuse only changes with which a run cannot go on.
        way_out: What to do instead, for the message.
    """
    differing = differences(recipe, folder)
    if may_change:
        differing = {key: values for key, values in differing.items() if key.startswith(_FIXED)}
    lines = [*_lines(differing), *_differences_from_kept(recipe, folder.path)]
    if lines:
        reason = "with such a change it cannot go on; " if may_change else ""
        raise RunFolderError(f"{folder.path}: holds the run of another recipe; {reason}{way_out}. {_listed(lines)}")


def listed(differing: dict[str, tuple[Any, Any]]) -> str:
    """Returns differences as the end of a message, one a line."""
    return _listed(_lines(differing))


def _lines(differing: dict[str, tuple[Any, Any]]) -> list[str]:
    return [f"{key}: here {here!r}, asked for {asked!r}" for key, (here, asked) in differing.items()]


def _listed(lines: Sequence[str]) -> str:
    more = [f"and {len(lines) - 6} more"] if len(lines) > 6 else []
    return "\n  ".join(["It differs in", *lines[:6], *more])


def _differences_from_kept(recipe: Recipe, folder: Path) -> list[str]:
    """Returns in what the things a recipe points to differ from what a run folder keeps of them."""
    lines = []
    kept, encoder = folder / EMBEDDING_FILE, text_encoder(recipe)
    asked = embedding_path(recipe, base=folder)
    if encoder is not None and kept.is_file():
        source = LabelGeometry.load(kept).source
        if source != encoder_source(encoder):
            lines.append(f"objective.embedding: here of {source!r}, asked for {encoder_source(encoder)!r}")
    elif asked is not None and asked.is_file() and kept.is_file() and sha256(asked) != sha256(kept):
        lines.append("objective.embedding: the saved geometry has another content")
    if "teacher" in recipe.objective and (folder / TEACHER_FILE).is_file():
        here, there = (identity(one) for one in (folder / TEACHER_FILE, Path(recipe.objective["teacher"]).expanduser()))
        if None not in (here, there) and here != there:
            lines.append("objective.teacher: the teacher is another run")
    return lines


def check_change_ahead(folder: RunFolder, position: Position, *, epochs: int) -> None:
    """Raises RunFolderError when a changed recipe of so many epochs ends before the run's place, or there is none."""
    if position.step == 0 and folder.state() == "finished":
        what = "the run has finished and left no checkpoint to go on from; train again in another folder"
        raise RunFolderError(f"{folder.path}: {what}")
    least = position.epoch + (position.batch > 0)
    if epochs < least:
        stands = f"{'in' if position.batch else 'after'} epoch {least}"
        raise RunFolderError(f"{folder.path}: epochs: must be {least} or more, the run is {stands}, got {epochs}")


def record_change(recipe: Recipe, folder: RunFolder, position: Position) -> None:
    """Writes a changed recipe into a run folder, keeps the one before as ``recipe.N.yaml``, and notes what changed.

    The note stands in ``environment.json`` as `changes`, which the report and the model card show.
    """
    changes = "; ".join(
        f"{key} {here!r} became {asked!r}" for key, (here, asked) in differences(recipe, folder).items()
    )
    number = 1
    while (folder.path / f"recipe.{number}.yaml").exists():
        number += 1
    noted = folder.environment()
    known = noted.get("changes")
    line = f"at step {position.step} (epoch {position.epoch + 1}): {changes}; before: recipe.{number}.yaml"
    folder.write(f"recipe.{number}.yaml", (folder.path / "recipe.yaml").read_bytes())
    folder.write("environment.json", noted | {"changes": [*(known if isinstance(known, list) else []), line]})
    folder.write_recipe(as_kept(recipe))
