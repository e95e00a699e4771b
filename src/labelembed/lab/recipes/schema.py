"""What a recipe may say; unknown keys are refused and all errors are reported at once."""

from __future__ import annotations

from typing import Any

import pydantic
from pydantic import Field

from labelembed.lab.data import CORPORA, DATA, ValidationSplit
from labelembed.lab.errors import RecipeError
from labelembed.lab.models import MODELS, SEQUENCE_MODELS
from labelembed.lab.recipes.blocks import ComparisonBlock, DataCommon, PublishedBlock, ValidationBlock
from labelembed.lab.recipes.probing import mixing_errors, value_errors
from labelembed.lab.recipes.signature import resolve
from labelembed.lab.recipes.wording import errors_of, shown
from labelembed.lab.training.decoding import Decoding
from labelembed.lab.training.optimizers import OPTIMIZERS
from labelembed.lab.training.schedules import SCHEDULES
from labelembed.lab.training.settings import Block, Flag, TrainingSettings
from labelembed.objectives import OBJECTIVES


class _Components(Block):
    """The blocks with a `name`, which take the keys of the component of that name."""

    data: dict[str, Any] = Field(description="where the examples come from")
    model: dict[str, Any] = Field(description="the network below the output layer")
    objective: dict[str, Any] = Field(description="output layer and loss")
    optimizer: dict[str, Any] = Field({"name": "adam"}, description="how the weights are moved")
    schedule: dict[str, Any] = Field({"name": "constant"}, description="how the learning rate goes")


class Recipe(TrainingSettings, _Components):
    """One run, whole: its components, how it is trained, and what is done when it is over."""

    calibration: Flag = Field(True, description="fit a temperature on the validation examples after training")
    decoding: Decoding | None = Field(
        None, description="of a corpus: how sentences are found when the run is done; null: greedily"
    )
    comparison: ComparisonBlock | None = Field(None, description="what `labelembed compare` runs by default")
    published: list[PublishedBlock] | None = Field(
        None, description="figures of a paper for the report: objective, metric, value, deviation, runs, source"
    )

    @property
    def of_sentences(self) -> bool:
        """Whether the data are a corpus of sentence pairs."""
        return self.data["name"] in CORPORA

    @property
    def of_words(self) -> bool:
        """Whether the inputs are numbers of words, which nothing scales or changes."""
        return self.text_inputs in ("words", "tokens")

    @property
    def text_inputs(self) -> str | None:
        """What texts become: `words`, `features` or `tokens`; None: the data are no texts."""
        return self.data["inputs"] if self.data["name"] == "texts" else None

    def validation(self) -> ValidationSplit | None:
        """Returns which examples are held out, None for none."""
        how = self.data["validation"]
        return None if how is None else ValidationBlock(**how).split()

    def of_one_run(self) -> dict[str, Any]:
        """Returns the recipe as it stands in a run folder: plain values, without what it is compared with."""
        return self.model_dump(exclude={"comparison", "published"})


TABLES: dict[str, Any] = {
    "data": DATA | CORPORA,
    "model": MODELS | SEQUENCE_MODELS,
    "objective": OBJECTIVES,
    "optimizer": OPTIMIZERS,
    "schedule": SCHEDULES,
}


def parse_recipe(values: Any, *, source: str) -> Recipe:
    """Returns a checked recipe with every default filled in.

    Args:
        values: What the YAML held.
        source: Where it came from, for messages.

    Raises:
        RecipeError: With every error found.
    """
    if not isinstance(values, dict):
        raise RecipeError([f"must be a mapping with data, model, objective, ...; got {kind_of(values)}"], source=source)
    errors: list[str] = []
    blocks: dict[str, Any] = {}
    for kind, table in TABLES.items():
        field = Recipe.model_fields[kind]
        if kind not in values and field.is_required():
            continue
        block = values.get(kind, field.get_default())
        if isinstance(block, str):  # objective: one_hot
            block = {"name": block}
        if not isinstance(block, dict):
            errors.append(f"{kind}: must be a mapping with a name, got {kind_of(block)}")
            continue
        blocks[kind], found = resolve(kind, table, block, common=DataCommon if kind == "data" else None)
        errors += found
        if blocks[kind]:  # of the values whose types are right
            component = table[blocks[kind]["name"]]
            errors += value_errors(kind, component, blocks[kind])
    rest = {key: value for key, value in values.items() if key not in TABLES}
    try:
        recipe = Recipe.model_validate({**{kind: {} for kind in TABLES if kind in values}, **blocks, **rest})
    except pydantic.ValidationError as error:
        errors += errors_of(error, Recipe)
    if not errors and blocks["data"]["mixing"] != "none":
        errors += mixing_errors(blocks["objective"])
    if not errors:
        errors += kind_errors(recipe)
    if errors:
        raise RecipeError(errors, source=source)
    return recipe


def kind_of(value: Any) -> str:
    """Returns what a value is that should have been a mapping: ``a list: [1, 2]``."""
    if value is None:
        return "nothing"
    names = {list: "a list", str: "a text", int: "a number", float: "a number", bool: "a truth value"}
    return f"{names.get(type(value), 'a ' + type(value).__name__)}: {shown(value)}"


# What a corpus has of its own, or has no use for.
_OF_EXAMPLES = {
    "validation": "a corpus brings its own validation sentences (labelembed preprocess --validation)",
    "train_examples": "a corpus is preprocessed to the sentences wanted",
}


def kind_errors(recipe: Recipe) -> list[str]:
    """Returns what of a recipe is for the other kind of data than it names, or for no recipe's training loop."""
    errors = _errors_with_a_corpus(recipe) if recipe.of_sentences else _errors_with_examples(recipe)
    size = recipe.batch_size
    if isinstance(size, int) and recipe.micro_batches > size:
        errors.append(f"micro_batches: must be at most batch_size, {size}, got {recipe.micro_batches}")
    return errors


def _errors_with_a_corpus(recipe: Recipe) -> list[str]:
    errors = []
    name = recipe.model["name"]
    if name not in SEQUENCE_MODELS:
        wanted = ", ".join(sorted(SEQUENCE_MODELS))
        errors.append(f"model.name: {name!r} cannot read the sentences of a corpus; these can: {wanted}")
    for key, default in DataCommon().model_dump().items():
        if recipe.data[key] != default:
            reason = _OF_EXAMPLES.get(key, "a corpus holds tokens, not pictures")
            errors.append(f"data.{key}: must be left out of a corpus: {reason}")
    if isinstance(recipe.batch_size, dict) and "per_label" in recipe.batch_size:
        errors.append("batch_size: of a corpus it must be a number of sentences, or {tokens: TOKENS}")
    if recipe.compile:
        errors.append("compile: must be false with a corpus, whose batches all have another shape")
    return errors


def _errors_with_examples(recipe: Recipe) -> list[str]:
    kind, chosen_by = recipe.data["name"], recipe.selection.by
    errors = _errors_with_words(recipe)
    if recipe.model["name"] in SEQUENCE_MODELS:
        wanted = ", ".join(sorted(MODELS))
        errors.append(f"model.name: {recipe.model['name']!r} reads a corpus, not data {kind!r}; these do: {wanted}")
    if isinstance(recipe.batch_size, dict) and "tokens" in recipe.batch_size:
        errors.append(f"batch_size: {{tokens: N}} is for a corpus, not for data {kind!r}")
    if recipe.decoding is not None:
        errors.append(f"decoding: is for a corpus, not for data {kind!r}")
    if chosen_by == "validation_bleu":
        errors.append(f"selection.by: 'validation_bleu' is for a corpus, not for data {kind!r}")
    elif chosen_by.startswith("validation") and recipe.data["validation"] is None:
        errors.append(
            f"selection.by: {chosen_by!r} needs validation examples; set data.validation, "
            "for instance --set data.validation.fraction=0.1"
        )
    return errors


def _errors_with_words(recipe: Recipe) -> list[str]:
    """Returns what of a recipe does not go with inputs that are numbers of words, or asks for them of other data."""
    name, kind = recipe.model["name"], f"data {recipe.data['name']!r}"
    if recipe.text_inputs is not None:
        kind += f" (inputs: {recipe.text_inputs})"
    readers = sorted(model for model, found in MODELS.items() if getattr(found, "reads_words", False))
    if not recipe.of_words:
        others = ", ".join(sorted(MODELS.keys() - readers))
        return [f"model.name: {name!r} reads words, not {kind}; these do: {others}"] if name in readers else []
    errors = []
    if recipe.text_inputs != "tokens":  # an encoder reads the tokens of its own tokenizer
        readers.remove("text_transformer")
    if name in MODELS and name not in readers:
        errors.append(f"model.name: {name!r} cannot read the words of {kind}; these can: {', '.join(readers)}")
    for key, default in DataCommon().model_dump().items():
        if key not in ("validation", "train_examples", "mixing_alpha") and recipe.data[key] != default:
            wanted = "left out" if default is None else repr(default)
            errors.append(f"data.{key}: must be {wanted} with {kind}")
    return errors
