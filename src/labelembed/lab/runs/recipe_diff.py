"""The recipe of a run folder beside the one that is asked for: refused with the differences, or taken by `resume`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from labelembed.geometry import LabelGeometry
from labelembed.lab.errors import RunFolderError
from labelembed.lab.recipes.references import EMBEDDING_FILE, TEACHER_FILE, as_kept, embedding_path, text_encoder
from labelembed.lab.recipes.schema import Recipe
from labelembed.lab.runs.build import encoder_source, stored_recipe
from labelembed.lab.runs.teacher import teacher_identity
from labelembed.lab.training.checkpoints import Position
from labelembed.lab.training.files import sha256
from labelembed.lab.training.run_folder import RunFolder

#: Keys with the value in a run folder and the one asked for.
Differences = dict[str, tuple[Any, Any]]
# With another of these the run would be neither the old one nor the new one. Class weights stand in the checkpoint,
# which would put the old ones back.
_FIXED: tuple[str, ...] = ("data.", "model.name", "objective.name", "objective.weight", "optimizer.name")
_FIXED += ("batch_size", "seed", "selection.by")


def differences(recipe: Recipe, folder: RunFolder) -> Differences:
    """Returns in which keys a recipe differs from that of a run folder; raises RunFolderError where that is damaged."""
    asked, here = _flat(as_kept(recipe)), _flat(stored_recipe(folder).of_one_run())
    keys = sorted(asked.keys() | here.keys())
    return {key: (here.get(key), asked.get(key)) for key in keys if asked.get(key) != here.get(key)}


def check_same_recipe(
    recipe: Recipe, folder: RunFolder, *, may_change: bool = False, way_out: str = "choose another --out"
) -> None:
    """Raises RunFolderError, with the differences, when a folder holds the run of another recipe.

    With `may_change` only changes are refused with which a run cannot go on; `way_out` is what to do instead.
    """
    differing = differences(recipe, folder)
    if may_change:
        differing = {key: values for key, values in differing.items() if key.startswith(_FIXED)}
    differing |= _of_files(recipe, folder.path)
    if differing:
        reason = "with such a change it cannot go on; " if may_change else ""
        what = f"holds the run of another recipe; {reason}{way_out}"
        raise RunFolderError(f"{folder.path}: {what}. {listed(differing)}")


def listed(differing: Differences) -> str:
    """Returns differences as the end of a message, one a line."""
    lines = [f"{key}: here {here!r}, asked for {asked!r}" for key, (here, asked) in differing.items()]
    more = [f"and {len(lines) - 6} more"] if len(lines) > 6 else []
    return "\n  ".join(["It differs in", *lines[:6], *more])


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns values by their whole keys, without the path of the data: they may move, and have a fingerprint."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        elif (prefix, key) != ("data.", "path"):
            flat[f"{prefix}{key}"] = value
    return flat


def _of_files(recipe: Recipe, folder: Path) -> Differences:
    """Returns what a recipe points to, and a folder keeps, where the content is another."""
    pairs: Differences = {}
    kept, encoder, asked = folder / EMBEDDING_FILE, text_encoder(recipe), embedding_path(recipe, base=folder)
    if encoder is not None and kept.is_file():
        pairs["objective.embedding"] = (LabelGeometry.load(kept).source, encoder_source(encoder))
    elif asked is not None and asked.is_file() and kept.is_file():
        pairs["objective.embedding"] = (sha256(kept), sha256(asked))
    kept = folder / TEACHER_FILE
    if "teacher" in recipe.objective and kept.is_file():
        teachers = (teacher_identity(kept), teacher_identity(Path(recipe.objective["teacher"]).expanduser()))
        pairs |= {"objective.teacher": teachers} if None not in teachers else {}
    return {key: (here, asked) for key, (here, asked) in pairs.items() if here != asked}


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
    changed = differences(recipe, folder).items()
    changes = "; ".join(f"{key} {here!r} became {asked!r}" for key, (here, asked) in changed)
    before = f"recipe.{1 + len(list(folder.path.glob('recipe.*.yaml')))}.yaml"
    noted = folder.environment()
    known = noted.get("changes")
    line = f"at step {position.step} (epoch {position.epoch + 1}): {changes}; before: {before}"
    folder.write(before, (folder.path / "recipe.yaml").read_bytes())
    folder.write("environment.json", noted | {"changes": [*(known if isinstance(known, list) else []), line]})
    folder.write_recipe(as_kept(recipe))
