"""What fits together: a corpus with a network that reads sentences, rows with one that reads rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labelembed.data import encoding_kind
from labelembed.models import MODELS, SEQUENCE_MODELS
from labelembed.recipes.blocks import DataCommon

if TYPE_CHECKING:
    from labelembed.recipes.schema import Recipe

# What a corpus has of its own, or has no use for.
_OF_ROWS = {
    "development": "a corpus brings its own development sentences (labelembed preprocess --dev)",
    "train_rows": "a corpus is preprocessed to the sentences wanted",
}


def kind_faults(recipe: Recipe) -> list[str]:
    """Returns what of a recipe is for the other kind of data than it names, or for no recipe's training loop."""
    faults = _faults_with_a_corpus(recipe) if recipe.of_sentences else _faults_with_rows(recipe)
    size = recipe.batch_size
    if isinstance(size, int) and recipe.micro_batches > size:
        faults.append(f"micro_batches: must be at most batch_size, {size}, got {recipe.micro_batches}")
    return faults


def _faults_with_a_corpus(recipe: Recipe) -> list[str]:
    faults = []
    name = recipe.model["name"]
    if name not in SEQUENCE_MODELS:
        wanted = ", ".join(sorted(SEQUENCE_MODELS))
        faults.append(f"model.name: {name!r} cannot read the sentences of a corpus; these can: {wanted}")
    for key, default in DataCommon().model_dump().items():
        if recipe.data[key] != default:
            reason = _OF_ROWS.get(key, "a corpus holds tokens, not pictures")
            faults.append(f"data.{key}: must be left out of a corpus: {reason}")
    if isinstance(recipe.batch_size, dict) and "per_label" in recipe.batch_size:
        faults.append("batch_size: of a corpus it must be a number of sentences, or {tokens: TOKENS}")
    if recipe.compile:
        faults.append("compile: must be false with a corpus, whose batches all have another shape")
    return faults


def _faults_with_words(recipe: Recipe) -> list[str]:
    """Returns what of a recipe does not go with inputs that are numbers of words, or asks for them of other data."""
    name, kind = recipe.model["name"], _data_of(recipe)
    readers = sorted(model for model, found in MODELS.items() if getattr(found, "reads_words", False))
    if not recipe.of_words:
        if name not in readers:
            return []
        return [f"model.name: {name!r} reads words, not {kind}; these do: {_others(readers)}"]
    faults = []
    if encoding_kind(recipe.data) != "tokens":  # an encoder reads the tokens of its own tokenizer
        readers.remove("text_transformer")
    if name in MODELS and name not in readers:
        faults.append(f"model.name: {name!r} cannot read the words of {kind}; these can: {', '.join(readers)}")
    for key, default in DataCommon().model_dump().items():
        if key not in ("development", "train_rows", "mixing_alpha") and recipe.data[key] != default:
            wanted = "left out" if default is None else repr(default)
            faults.append(f"data.{key}: must be {wanted} with {kind}")
    return faults


def _data_of(recipe: Recipe) -> str:
    kind = recipe.data["name"]
    return f"data {kind!r} (inputs: {recipe.data['inputs']})" if kind == "texts" else f"data {kind!r}"


def _others(readers: list[str]) -> str:
    return ", ".join(sorted(model for model in MODELS if model not in readers))


def _faults_with_rows(recipe: Recipe) -> list[str]:
    faults = _faults_with_words(recipe)
    kind = recipe.data["name"]
    if recipe.model["name"] in SEQUENCE_MODELS:
        wanted = ", ".join(sorted(MODELS))
        faults.append(f"model.name: {recipe.model['name']!r} reads a corpus, not data {kind!r}; these do: {wanted}")
    if isinstance(recipe.batch_size, dict) and "tokens" in recipe.batch_size:
        faults.append(f"batch_size: {{tokens: N}} is for a corpus, not for data {kind!r}")
    if recipe.decoding is not None:
        faults.append(f"decoding: is for a corpus, not for data {kind!r}")
    if recipe.selection.by == "development_bleu":
        faults.append(f"selection.by: 'development_bleu' is for a corpus, not for data {kind!r}")
    return faults
