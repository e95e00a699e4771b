"""Whether what an objective remembers fits the memory of the machine, told before anything is made."""

from __future__ import annotations

from typing import Any

import torch

from labelembed.errors import RecipeError
from labelembed.objectives import OBJECTIVES
from labelembed.objectives.label_embedding_arguments import machine_bytes
from labelembed.recipes.schema import Recipe
from labelembed.recipes.signature import keys_of, takes
from labelembed.recipes.teacher_table import needs_table
from labelembed.training.training_data import TrainingData

# Saving a checkpoint makes two copies of each file's tensors, one after the other of the files.
_WHILE_SAVING = 3


def remembered_bytes(recipe: Recipe, data: TrainingData) -> int:
    """Returns how many bytes the recipe's objective takes for the data by what grows with rows, or with labels squared.

    Those that store something a row or a label are built without memory, and their buffers counted. `LabelEmbedding`
    looks to its own.
    """
    kind, block = OBJECTIVES[recipe.objective["name"]], recipe.objective
    if "teacher" in block:
        return 0 if needs_table(recipe) else 4 * data.train.num_rows * data.num_labels
    labels = data.num_labels
    if "label_dimension" in block:
        return 4 * labels * (block["label_dimension"] or labels)
    if not takes(kind, "top_k"):
        return 0
    arguments: dict[str, Any] = {key: value for key, value in block.items() if key != "name"}
    if takes(kind, "num_rows"):
        arguments["num_rows"] = data.train.num_rows
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        made = kind(2, labels, **arguments)
    return sum(value.numel() * value.element_size() for value in made.buffers())


def memory_notes(recipe: Recipe, data: TrainingData) -> list[str]:
    """Returns what the user should know of the memory that the objective takes: a line, or nothing.

    Raises:
        RecipeError: When the memory cannot hold it at all.
    """
    refuse_too_large(recipe, data)
    memory, needed = machine_bytes(), remembered_bytes(recipe, data)
    if memory is None or _WHILE_SAVING * needed <= memory:
        return []
    name = recipe.objective["name"]
    return [
        f"memory: {name} takes {_size(needed)} for {_what(recipe, data)}, and up to {_size(_WHILE_SAVING * needed)} "
        f"while a checkpoint is saved; the memory is {_size(memory)}{_way_out(recipe)}"
    ]


def refuse_too_large(recipe: Recipe, data: TrainingData) -> None:
    """Raises RecipeError when what the objective remembers is more than the memory holds."""
    memory = machine_bytes()
    needed = 0 if memory is None else remembered_bytes(recipe, data)
    if memory is not None and needed > memory:
        name = recipe.objective["name"]
        what = f"{name!r} takes {_size(needed)} for {_what(recipe, data)}, the memory is {_size(memory)}"
        raise RecipeError([f"objective.name: {what}{_way_out(recipe)}"])


def _what(recipe: Recipe, data: TrainingData) -> str:
    rows = "tokens" if recipe.of_sentences else "rows"
    labels = f"{data.num_labels:,} labels"
    per_row = "teacher" in recipe.objective or takes(OBJECTIVES[recipe.objective["name"]], "num_rows")
    return f"{data.train.num_rows:,} training {rows} and {labels}" if per_row else labels


def _way_out(recipe: Recipe) -> str:
    keys = keys_of(OBJECTIVES[recipe.objective["name"]])
    ways = []
    if "top_k" in keys:
        given = recipe.objective["top_k"]
        ways.append("a small objective.top_k" if given is None else f"an objective.top_k below {given}")
    if recipe.objective.get("storage") == "memory":
        ways.append("objective.storage=disk" + (" with store=pass" if recipe.objective["store"] != "pass" else ""))
    return f"; less: {' or '.join(ways)}" if ways else ""


def _size(count: int) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e8 else f"{count / 1e6:,.1f} MB"
