"""The recipe of a run folder, and from a checked recipe to data, network parts and objective."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import zip_longest
from pathlib import Path
from typing import Any

from torch import nn

from labelembed import seeds
from labelembed.errors import LabelEmbedError
from labelembed.geometry import LabelGeometry
from labelembed.lab.data import CORPORA, DATA, Encoder, ReadingProgress, TextCorpus, prepare
from labelembed.lab.data.cache import files_stamp
from labelembed.lab.errors import RecipeError, RunFolderError
from labelembed.lab.pretrained_text import PACKAGE, encode_names
from labelembed.lab.recipes.components import BUILD_ERRORS, POINTED_TO, argument_errors, as_lines, keys_of, takes
from labelembed.lab.recipes.loading import put_settings, with_whole_paths
from labelembed.lab.recipes.references import embedding_path, text_encoder
from labelembed.lab.recipes.schema import Recipe, parse_recipe
from labelembed.lab.training.network import TrainingData
from labelembed.lab.training.run_folder import RunFolder
from labelembed.lab.training.settings import arguments_of
from labelembed.objectives import OBJECTIVES, Objective


def stored_recipe(folder: RunFolder) -> Recipe:
    """Returns the recipe of a run folder; raises RunFolderError when there is no run, or its recipe is damaged."""
    values = folder.recipe()
    try:
        return parse_recipe(values, source="recipe.yaml")
    except Exception as error:
        packages = folder.environment().get("packages")
        made_by = packages.get("labelembed") if isinstance(packages, dict) else None
        what = f"damaged, or of another version of labelembed (it was made by {made_by or 'an unknown version'})"
        raise RunFolderError(f"{folder.path}: {what}: {error}") from error


def changed_recipe(folder: RunFolder, settings: Sequence[str]) -> Recipe:
    """Returns the recipe of a run folder with `key.key=value` settings put into it; refuses a bad one."""
    values, source = folder.recipe(), f"{folder.path / 'recipe.yaml'} with --set"
    if errors := put_settings(values, settings):
        raise RecipeError(errors, source=source)
    return with_whole_paths(parse_recipe(values, source=source))


def build_data(
    recipe: Recipe, *, progress: ReadingProgress | None = None, encoder: Encoder | None = None, dry_run: bool = False
) -> TrainingData:
    """Reads the data and cuts them into splits, which a corpus comes in; see `prepare` for arguments and errors."""
    data: Any = build_reader(recipe)
    if not isinstance(data, TextCorpus):
        examples = {key: recipe.data[key] for key in ("validation", "train_examples")}
        data = prepare(data.read(), **examples, encoder=encoder, progress=progress, dry_run=dry_run)
    if data.validation is None and recipe.selection.by.startswith("validation"):
        way_out = "set data.validation, for instance --set data.validation.fraction=0.1"
        raise RecipeError([f"selection.by: {recipe.selection.by!r} needs validation examples; {way_out}"])
    return data  # type: ignore[no-any-return]


def build_reader(recipe: Recipe) -> Any:
    """Returns the reader of a recipe with labelled examples, nothing is read yet; or a corpus, opened."""
    kind: Any = (CORPORA if recipe.of_sentences else DATA)[recipe.data["name"]]
    with component_errors("data"):
        return kind(**{key: recipe.data[key] for key in keys_of(kind)})


def data_stamp(recipe: Recipe) -> str | None:
    """Returns a stamp that changes with the data files, made without reading them; None where there is none."""
    if "path" not in recipe.data:
        return str(recipe.data["name"])
    path = Path(recipe.data["path"]).expanduser()
    # The pictures of a list may lie anywhere.
    return None if recipe.data["name"] == "images" and path.is_file() else files_stamp(path)


def build_objective(
    recipe: Recipe, encoder: Any, num_labels: int, data: TrainingData | None, folder: Path | None, *, dry_run: bool
) -> Objective:
    """Builds the recipe's objective over an encoder, with the same first output layer for all objectives of a seed.

    A teacher's predictions are attached when the run begins.
    """
    kind = OBJECTIVES[recipe.objective["name"]]
    num_examples = 0 if data is None or dry_run else data.train.num_examples
    given: dict[str, Any] = {"num_examples": num_examples, "teacher_logits": None}
    if embedding := given_embedding(recipe, None if data is None else data.names, folder=folder):
        given["embedding"] = embedding
    arguments = {key: value for key, value in arguments_of(recipe.objective).items() if key not in POINTED_TO.values()}
    arguments |= {key: value for key, value in given.items() if takes(kind, key)}
    with component_errors("objective"), seeds.seeded(recipe.seed, "objective"):
        objective: Objective = kind(hidden_size=encoder.hidden_size, num_labels=num_labels, **arguments)
    every = getattr(objective, "store_every", None)
    if every is not None and data is not None and (epochs := recipe.number_of_epochs(data)) <= every:
        raise RecipeError([f"objective.store_every: must be less than the {epochs} epochs, is {every}"])
    for name in ("output", "auxiliary") if encoder.output_std is not None else ():
        layer, std = getattr(objective, name, None), encoder.output_std
        if isinstance(layer, nn.Linear):
            with seeds.seeded(recipe.seed, name):
                nn.init.trunc_normal_(layer.weight, std=std, a=-2 * std, b=2 * std)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return objective


def given_embedding(recipe: Recipe, names: tuple[str, ...] | None, *, folder: Path | None) -> LabelGeometry | None:
    """Returns the saved geometry, or the encoded names of the labels, that the recipe's objective is given.

    What the run folder keeps is taken first; `names` are None where the network is to predict only. Raises DataError
    when a file cannot be read, or a text encoder is missing, and RecipeError when a saved geometry has other labels.
    """
    path, encoder = embedding_path(recipe, base=folder), text_encoder(recipe)
    if path is None:
        return None if encoder is None or names is None else _encoded(names, encoder)
    RunFolder(path.parent).require_unchanged(path)  # it may be what another run has learned
    geometry = LabelGeometry.load(path)
    unnamed = tuple(map(str, range(len(geometry))))
    if names is not None and unnamed not in (names, geometry.names):
        check_same_labels("objective.embedding", path, geometry.names, names)
    return geometry


def check_same_labels(key: str, source: Path, theirs: Sequence[str], ours: Sequence[str]) -> None:
    """Raises RecipeError where what a key names has other labels than the data, or in another order."""
    for number, (its, own) in enumerate(zip_longest(theirs, ours)):
        if its != own:
            what = f"label {number} is {its!r} in {source} and {own!r} in the data"
            raise RecipeError([f"{key}: {what}; it needs the same labels in the same order"])


@lru_cache(maxsize=4)
def _encoded(names: tuple[str, ...], encoder: str) -> LabelGeometry:
    vectors = encode_names(names, encoder or None)
    source = f"text encoder {encoder or PACKAGE.replace('_', '-')}"
    return LabelGeometry(names, vectors=vectors, metric="cosine", source=source)


@contextmanager
def component_errors(kind: str) -> Iterator[None]:
    """Turns what a component says about its arguments into a RecipeError."""
    try:
        yield
    except LabelEmbedError:
        raise
    except BUILD_ERRORS as error:
        raise RecipeError(as_lines(argument_errors(kind, error))) from error
