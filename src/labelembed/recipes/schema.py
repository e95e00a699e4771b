"""What a recipe may say; unknown keys are refused and all faults are reported at once."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pydantic
from pydantic import ConfigDict, Field

from labelembed.data import DATA, DevelopmentSplit
from labelembed.errors import RecipeError, nearest
from labelembed.models import MODELS
from labelembed.objectives import OBJECTIVES
from labelembed.recipes.numbers import BatchSize, Number, PositiveInt, Seed
from labelembed.recipes.probing import mixing_faults, value_faults
from labelembed.recipes.signature import resolve
from labelembed.recipes.wording import refusal, shown
from labelembed.training.optimizers import OPTIMIZERS
from labelembed.training.schedules import SCHEDULES
from labelembed.training.settings import CheckpointPolicy, Selection, TrainingSettings

MOST_SEEDS = 1_000


class _Block(pydantic.BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class DevelopmentBlock(_Block):
    """Which training rows are held out to choose by; exactly one of `first`, `fraction` and `rows`."""

    first: PositiveInt | None = Field(None, description="the first so many rows of the training set")
    fraction: Annotated[Number, Field(gt=0, lt=1)] | None = Field(None, description="a share, at random, stratified")
    rows: PositiveInt | None = Field(None, description="so many rows, at random, stratified")
    seed: Seed = Field(0, description="of the random choice; the run's own seed does not change it")

    @pydantic.model_validator(mode="after")
    def _exactly_one(self) -> DevelopmentBlock:
        values = {name: getattr(self, name) for name in ("first", "fraction", "rows")}
        given = [f"{name}: {value}" for name, value in values.items() if value is not None]
        if len(given) != 1:
            raise ValueError(f"must give exactly one of first, fraction and rows, got {' and '.join(given) or 'none'}")
        return self

    def split(self) -> DevelopmentSplit:
        """Returns it as the data room takes it."""
        return DevelopmentSplit(first=self.first, fraction=self.fraction, rows=self.rows, seed=self.seed)


class SelectionBlock(_Block):
    """Which epoch's weights are kept."""

    by: Literal["auto", "development_error", "development_nll", "last_epoch"] = Field(
        "auto", description="auto: development_error where there is a development set, else last_epoch"
    )
    patience: PositiveInt | None = Field(None, description="stop after so many epochs without a new best")


class CheckpointBlock(_Block):
    """When to save what resuming needs."""

    minimum_seconds: Annotated[Number, Field(ge=0)] = Field(
        10.0, description="save at the end of an epoch when the last save is this old"
    )
    every_steps: PositiveInt | None = Field(None, description="and after every so many steps, for long epochs")
    keep: Annotated[int, Field(ge=2, le=1000, strict=True)] = Field(
        2, description="how many are kept; the older one is there if one breaks"
    )


class ComparisonBlock(_Block):
    """What `labelembed compare` runs when nothing else is said."""

    objectives: list[str | dict[str, Any]] = Field(
        ["one_hot", "label_smoothing", "label_embedding"],
        description="variants: a name, name:key=value, or a mapping with name and keys",
    )
    seeds: int | list[int] = Field(3, description="how many (from 0), or which")
    baseline: str | None = Field(None, description="the variant the others are compared with; null: the first")

    @pydantic.field_validator("objectives", mode="before")
    @classmethod
    def _are_variants(cls, value: Any) -> Any:
        if not isinstance(value, list) or not value:
            raise ValueError(f"must be a list of one or more objectives, got {shown(value)}")
        for place, variant in enumerate(value, start=1):
            if not isinstance(variant, str) and not (
                isinstance(variant, dict) and all(isinstance(k, str) for k in variant)
            ):
                wanted = "a text (name:key=value) or a mapping with a name"
                raise ValueError(f"entry {place} must be {wanted}, got {shown(variant)}")
        return value

    @pydantic.field_validator("seeds", mode="before")
    @classmethod
    def _are_seeds(cls, value: Any) -> Any:
        checked_seeds(value)
        return value


def checked_seeds(given: Any) -> list[int]:
    """Returns the seeds meant by a number of seeds, or by a list of them.

    Raises:
        ValueError: It is neither.
    """
    if isinstance(given, list):
        if not given or not all(type(seed) is int and 0 <= seed < 2**63 for seed in given):
            raise ValueError(f"must be whole numbers from 0 up, got {shown(given)}")
        twice = sorted({seed for seed in given if given.count(seed) > 1})
        if twice:
            raise ValueError(f"must be different numbers, got {twice[0]} more than once")
        return list(given)
    if type(given) is not int or given < 1:
        raise ValueError(f"must be a number of seeds from 1 up, or a list of seeds, got {shown(given)}")
    if given > MOST_SEEDS:
        raise ValueError(f"must be at most {MOST_SEEDS:,} seeds, got {given:,}; to name one seed give a list of one")
    return list(range(given))


class Recipe(_Block):
    """One run, whole. The blocks with a `name` take the keys of the component of that name."""

    data: dict[str, Any] = Field(description="where the rows come from")
    model: dict[str, Any] = Field(description="the network below the output layer")
    objective: dict[str, Any] = Field(description="output layer and loss")
    optimizer: dict[str, Any] = Field({"name": "adam"}, description="how the weights are moved")
    schedule: dict[str, Any] = Field({"name": "constant"}, description="how the learning rate goes")
    epochs: Annotated[int, Field(ge=1, le=1_000_000, strict=True)] = Field(description="passes over the training rows")
    batch_size: BatchSize = Field(
        description="rows of one optimiser step; {per_label: 50}: 50 times the number of labels"
    )
    seed: Seed = Field(0, description="start, order of rows, dropout")
    precision: Literal["float32", "bf16", "fp16"] = Field("float32", description="bf16 and fp16: mixed precision")
    compile: Annotated[bool, Field(strict=True)] = Field(
        False, description="torch.compile the network: a minute at the start, then faster steps on a GPU"
    )
    selection: SelectionBlock = Field(SelectionBlock(), description="which epoch's weights are kept")
    calibration: Annotated[bool, Field(strict=True)] = Field(
        True, description="fit a temperature on the development rows after training"
    )
    checkpoints: CheckpointBlock = Field(CheckpointBlock(), description="when to save what resuming needs")
    comparison: ComparisonBlock | None = Field(None, description="what `labelembed compare` runs by default")

    def rows_of_a_step(self, num_labels: int) -> int:
        """Returns the batch size in rows, for data with so many labels."""
        size = self.batch_size
        return size["per_label"] * num_labels if isinstance(size, dict) else size

    def settings(self, num_labels: int) -> TrainingSettings:
        """Returns what the training loop must know, for data with so many labels."""
        return TrainingSettings(
            epochs=self.epochs,
            batch_size=self.rows_of_a_step(num_labels),
            seed=self.seed,
            precision=self.precision,
            compile=self.compile,
            selection=Selection(**self.selection.model_dump()),
            checkpoints=CheckpointPolicy(**self.checkpoints.model_dump()),
        )

    def development(self) -> DevelopmentSplit | None:
        """Returns which rows are held out, None for none."""
        how = self.data["development"]
        return None if how is None else DevelopmentBlock(**how).split()

    def of_one_run(self) -> dict[str, Any]:
        """Returns the recipe as it stands in a run folder: plain values, without the comparison."""
        return self.model_dump(exclude={"comparison"})


class DataCommon(_Block):
    """Keys of `data` that every reader has."""

    development: DevelopmentBlock | None = Field(
        None, description="held out of the training rows to choose by: {first: N}, {fraction: F, seed: S} or {rows: N}"
    )
    train_rows: PositiveInt | None = Field(None, description="train on so many rows only; null: all")
    scaling: Literal["unit", "standard"] = Field(
        "unit", description="unit: the range of the inputs to [0, 1]; standard: mean 0 and deviation 1 a channel"
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


TABLES: dict[str, Any] = {
    "data": DATA,
    "model": MODELS,
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
        RecipeError: With every fault found.
    """
    if not isinstance(values, dict):
        raise RecipeError([f"must be a mapping with data, model, objective, ...; got {kind_of(values)}"], source=source)
    faults: list[str] = []
    blocks: dict[str, Any] = {}
    for kind, table in TABLES.items():
        block = values.get(kind, Recipe.model_fields[kind].get_default())
        if kind not in values and Recipe.model_fields[kind].is_required():
            continue
        if isinstance(block, str):  # objective: one_hot
            block = {"name": block}
        if not isinstance(block, dict):
            faults.append(f"{kind}: must be a mapping with a name, got {kind_of(block)}")
            continue
        common: dict[str, Any] = {}
        if kind == "data":
            common = {key: block[key] for key in DataCommon.model_fields if key in block}
            block = {key: value for key, value in block.items() if key not in DataCommon.model_fields}
        known = list(DataCommon.model_fields) if kind == "data" else []
        blocks[kind], found = resolve(kind, table, block, common=known)
        faults += found
        if isinstance(blocks[kind].get("name"), str) and blocks[kind]["name"] in table:
            faults += value_faults(kind, blocks[kind])  # of the values whose types are right
        if kind == "data":
            try:
                blocks[kind] |= DataCommon(**common).model_dump()
            except pydantic.ValidationError as error:
                faults += _faults(error, DataCommon, prefix="data.")
    rest = {key: value for key, value in values.items() if key not in TABLES}
    try:
        recipe = Recipe.model_validate({**{kind: {} for kind in TABLES if kind in values}, **blocks, **rest})
    except pydantic.ValidationError as error:
        faults += _faults(error, Recipe)
    if not faults and blocks["data"]["mixing"] != "none":
        faults += mixing_faults(blocks["objective"])
    if faults:
        raise RecipeError(faults, source=source)
    if recipe.selection.by.startswith("development") and recipe.data["development"] is None:
        message = (
            f"selection.by: {recipe.selection.by!r} needs development rows; set data.development, "
            "for instance --set data.development.fraction=0.1"
        )
        raise RecipeError([message], source=source)
    return recipe


def kind_of(value: Any) -> str:
    """Returns what a value is that should have been a mapping: ``a list: [1, 2]``."""
    if value is None:
        return "nothing"
    names = {list: "a list", str: "a text", int: "a number", float: "a number", bool: "a truth value"}
    return f"{names.get(type(value), 'a ' + type(value).__name__)}: {shown(value)}"


def _faults(error: pydantic.ValidationError, model: type[pydantic.BaseModel], *, prefix: str = "") -> list[str]:
    """Returns pydantic's findings as `key: what is wrong` lines; one for each key."""
    lines: dict[str, str] = {}
    for finding in error.errors(include_url=False):
        path = [str(part) for part in finding["loc"]]
        key = prefix + ".".join(path)
        if finding["type"] in ("extra_forbidden", "invalid_key"):
            allowed = _fields_at(model, path[:-1])
            hint = nearest(path[-1], allowed) or f"; there are: {', '.join(allowed)}"
            lines[key] = f"{key}: unknown key{hint}"
        elif finding["type"] == "missing":
            lines[key] = f"{key}: missing"
        else:
            lines.setdefault(key, f"{key}: {refusal([finding], finding['input'])}")
    return list(lines.values())


def _fields_at(model: type[pydantic.BaseModel], path: list[str]) -> list[str]:
    for part in path:
        found = model.model_fields.get(part)
        kinds = [found.annotation, *getattr(found.annotation, "__args__", ())] if found else []
        inner = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, pydantic.BaseModel)]
        if inner:
            model = inner[0]
    return list(model.model_fields)
