"""What a recipe may say; unknown keys are refused and all errors are reported at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field

from labelembed.lab.data import CORPORA, DATA
from labelembed.lab.errors import RecipeError
from labelembed.lab.models import MODELS, SEQUENCE_MODELS
from labelembed.lab.recipes.components import Errors, as_lines, model_errors, resolve, shown, small_objective
from labelembed.lab.training.decoding import Decoding
from labelembed.lab.training.network import mixing_refusal
from labelembed.lab.training.optimizers import OPTIMIZERS, SCHEDULES
from labelembed.lab.training.settings import Block, Flag, Number, PositiveInt, Seed, TrainingSettings
from labelembed.objectives import OBJECTIVES

#: The components of each block with a `name`.
TABLES: dict[str, Any] = {
    "data": DATA | CORPORA,
    "model": MODELS | SEQUENCE_MODELS,
    "objective": OBJECTIVES,
    "optimizer": OPTIMIZERS,
    "schedule": SCHEDULES,
}
MOST_SEEDS = 1_000


def _different(values: list[int]) -> list[int]:
    if len(set(values)) < len(values):
        raise ValueError(f"must be different numbers, got {shown(values)}")
    return values


Seeds = (
    Annotated[int, Field(ge=1, le=MOST_SEEDS, strict=True)]
    | Annotated[list[Seed], Field(min_length=1, max_length=MOST_SEEDS), pydantic.AfterValidator(_different)]
)


class ValidationBlock(Block):
    """Which training examples are held out to choose by; exactly one of `first`, `fraction` and `examples`."""

    first: PositiveInt | None = Field(None, description="the first so many examples of the training set")
    fraction: Annotated[Number, Field(gt=0, lt=1)] | None = Field(None, description="a share, at random, stratified")
    examples: PositiveInt | None = Field(None, description="so many examples, at random, stratified")
    seed: Seed = Field(0, description="of the random choice; the run's own seed does not change it")

    @pydantic.model_validator(mode="after")
    def _exactly_one(self) -> ValidationBlock:
        given = self.model_dump(exclude={"seed"}, exclude_none=True)
        if len(given) != 1:
            raise ValueError(f"must give exactly one of first, fraction and examples, got {given or 'none'}")
        return self


class DataCommon(Block):
    """Keys of `data` that every reader has."""

    validation: ValidationBlock | None = Field(
        None,
        description="held out of the training set to choose by: {first: N}, {fraction: F, seed: S} or {examples: N}",
    )
    train_examples: PositiveInt | None = Field(None, description="train on so many examples only; null: all")
    scaling: Literal["unit", "standard"] = Field(
        "unit", description="unit: the range of training inputs to [0, 1]; standard: mean 0 and deviation 1 a channel"
    )
    augmentation: Literal["none", "flip", "crop_flip"] = Field(
        "none", description="of training pictures: flip: mirrored; crop_flip: also moved by up to 4 pixels"
    )
    cutout: PositiveInt | None = Field(
        None, description="cut a square of so many pixels a side out of each training picture; null: none"
    )
    mixing: Literal["none", "mixup", "cutmix"] = Field(
        "none", description="mix training inputs in pairs: mixup: faded; cutmix: a rectangle of the other"
    )
    mixing_alpha: Annotated[Number, Field(gt=0)] = Field(
        1.0, description="shares are drawn from Beta(alpha, alpha); less than 1: mostly near 0 and 1"
    )


class ComparisonBlock(Block):
    """What `labelembed compare` runs by default."""

    objectives: Annotated[list[str | dict[str, Any]], Field(min_length=1)] = Field(
        ["one_hot", "label_smoothing", "label_embedding"],
        description="variants: a name, name:key=value, or a mapping with name and keys",
    )
    seeds: Seeds = Field(3, description="how many, from the recipe's seed on, or which")
    baseline: str | None = Field(None, description="the variant the others are compared with; null: the first")


class _Components(Block):
    """The blocks with a `name`, beside optimiser and schedule: each takes the keys of the component of that name."""

    data: dict[str, Any] = Field(description="where the examples come from")
    model: dict[str, Any] = Field(description="the network below the output layer")
    objective: dict[str, Any] = Field(description="output layer and loss")


class Recipe(TrainingSettings, _Components):
    """One run, whole: its components, how it is trained, and what is done when it is over."""

    calibration: Flag = Field(True, description="fit a temperature on the validation examples after training")
    decoding: Decoding | None = Field(
        None, description="of a corpus: how sentences are found when the run is done; null: greedily"
    )
    comparison: ComparisonBlock | None = Field(None, description="what `labelembed compare` runs by default")

    @property
    def of_sentences(self) -> bool:
        """Whether the data are a corpus of sentence pairs."""
        return self.data["name"] in CORPORA

    @property
    def of_words(self) -> bool:
        """Whether the inputs are ids of words, which nothing scales or changes."""
        return self.text_inputs in ("words", "tokens")

    @property
    def text_inputs(self) -> str | None:
        """What texts become: `words`, `features` or `tokens`; None: the data are no texts."""
        return self.data["inputs"] if self.data["name"] == "texts" else None

    def of_one_run(self) -> dict[str, Any]:
        """Returns the recipe as it stands in a run folder: plain values, without what it is compared with."""
        return self.model_dump(exclude={"comparison"})


def parse_recipe(values: Any, *, source: str, found: Sequence[str] = ()) -> Recipe:
    """Returns a checked recipe with every default filled in.

    `values` are those of the YAML, `source` says in messages where they came from, and RecipeError lists every error,
    those `found` before among them.
    """
    if not isinstance(values, dict):
        wanted = "must be a mapping with data, model, objective, ...; `labelembed init` writes one"
        raise RecipeError([f"{wanted}; got {'nothing' if values is None else shown(values)}"], source=source)
    errors: Errors = {}
    checked = dict(values)
    for kind, table in TABLES.items():
        block = values.get(kind, Recipe.model_fields[kind].get_default())
        block = {"name": block} if isinstance(block, str) else block  # objective: one_hot
        if isinstance(block, dict):
            checked[kind], wrong = resolve(kind, table, block, common=DataCommon if kind == "data" else None)
            errors |= wrong
        elif kind in values:
            checked[kind] = {}
            errors[kind] = f"must be a mapping with a name, got {shown(block)}"
    try:
        recipe = Recipe.model_validate(checked)
    except pydantic.ValidationError as error:
        errors |= model_errors(error, Recipe)
    if not errors:
        errors = dict(combination_errors(recipe))
    if errors or found:
        raise RecipeError([*found, *as_lines(errors)], source=source)
    return recipe


def combination_errors(recipe: Recipe) -> Iterator[tuple[str, str]]:
    """Yields (key, message) of the blocks of a recipe, each of them right, that do not go together."""
    yield from _errors_with_a_corpus(recipe) if recipe.of_sentences else _errors_with_examples(recipe)
    size = recipe.batch_size
    if isinstance(size, int) and recipe.micro_batches > size:
        yield "micro_batches", f"must be at most batch_size, {size}, got {recipe.micro_batches}"


def _unusual(recipe: Recipe, *ignored: str) -> Iterator[tuple[str, Any]]:
    """Yields the common keys of `data` that differ from their default, with it."""
    for key, default in DataCommon().model_dump(exclude=set(ignored)).items():
        if recipe.data[key] != default:
            yield f"data.{key}", default


def _errors_with_a_corpus(recipe: Recipe) -> Iterator[tuple[str, str]]:
    name = recipe.model["name"]
    if name not in SEQUENCE_MODELS:
        wanted = ", ".join(sorted(SEQUENCE_MODELS))
        yield "model.name", f"{name!r} cannot read the sentences of a corpus; these can: {wanted}"
    for key, _ in _unusual(recipe, "train_examples"):
        yield key, "must be left out of a corpus, which `labelembed preprocess` has split and cut"
    if isinstance(recipe.batch_size, dict) and "per_label" in recipe.batch_size:
        yield "batch_size", "of a corpus must be a number of sentences, or {tokens: TOKENS}"
    if recipe.compile:
        yield "compile", "must be false with a corpus, whose batches all have another shape"


def _errors_with_examples(recipe: Recipe) -> Iterator[tuple[str, str]]:
    name, reader, by = recipe.model["name"], f"data {recipe.data['name']!r}", recipe.selection.by
    reader += f" (inputs: {recipe.text_inputs})" if recipe.text_inputs else ""
    readable = {model for model, kind in MODELS.items() if getattr(kind, "reads_words", False) == recipe.of_words}
    if recipe.text_inputs == "words":  # an encoder reads the tokens of its own tokenizer
        readable.discard("text_transformer")
    if name not in readable:
        yield "model.name", f"{name!r} cannot read {reader}; these can: {', '.join(sorted(readable))}"
    if isinstance(recipe.batch_size, dict) and "tokens" in recipe.batch_size:
        yield "batch_size", f"{{tokens: N}} is for a corpus, not for {reader}"
    if recipe.decoding is not None:
        yield "decoding", f"is for a corpus, not for {reader}"
    if by == "validation_bleu":
        yield "selection.by", f"{by!r} is for a corpus, not for {reader}"
    if recipe.of_words:
        for key, default in _unusual(recipe, "validation", "train_examples", "mixing_alpha"):
            yield key, f"must be {'left out' if default is None else repr(default)} with {reader}"
    elif recipe.data["mixing"] != "none":
        reason = mixing_refusal(small_objective(recipe.objective))
        if reason is not None:
            yield "data.mixing", f"must be 'none' with the objective {recipe.objective['name']!r}: {reason}"
