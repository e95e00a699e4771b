"""From what a reader found to what a run trains on: examples held out, the encoder fitted, everything checked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from textwrap import shorten
from typing import Any

import torch
from torch import Tensor

from labelembed.errors import DataError
from labelembed.lab.data.batch import Examples, Split
from labelembed.lab.data.checks import few
from labelembed.lab.data.data_notes import label_notes, repeat_notes
from labelembed.lab.data.dataset import LabelledData, RawData
from labelembed.lab.data.encoder import Encoder, IdentityEncoder, ReadingProgress
from labelembed.lab.data.image_files import Images
from labelembed.lab.data.splits import ValidationSplit, hold_out, stratified_order


def prepare(
    raw: RawData,
    *,
    validation: ValidationSplit | None,
    train_examples: int | None = None,
    batch_size: int | None = None,
    encoder: Encoder | None = None,
    progress: ReadingProgress | None = None,
    dry_run: bool = False,
) -> LabelledData:
    """Returns the data set for a run.

    The validation set is held out first (unless the data bring their own), so that it is the same however few examples
    are trained on. Then only `train_examples` of the others are kept, in the order they stood in: the beginning of a
    random order that is stratified by label and always the same (see `stratified_order`), so that a smaller training
    set is part of a larger one. The encoder learns from those alone.

    Args:
        raw: What a reader returned.
        validation: Which training examples are held out; None for none.
        train_examples: How many training examples to keep; None for all.
        batch_size: Examples of an optimiser step, to check that the training set has as many; None skips the check.
        encoder: The encoder that a run has fitted already; None: the reader's, fitted here.
        progress: Told how far a long encoding is.
        dry_run: Nobody trains on it: see `Encoder`.

    Raises:
        DataError: A part is empty, or there are fewer examples than asked for.
    """
    twice = [repr(name) for name, count in Counter(raw.names).items() if count > 1 or not name.strip()]
    if twice:
        raise DataError(f"{raw.source}: each label needs a name of its own, but these are empty or twice: {few(twice)}")
    for name, part in raw.parts.items():
        where = f"{raw.source}: {name} set"
        if not len(part):
            raise DataError(f"{where}: is empty; expected at least one example")
        for row in (part.labels >= len(raw.names)).nonzero()[:1, 0].tolist():
            raise DataError(f"{where}: row {row} has the label {part.labels[row]}; expected 0 to {len(raw.names) - 1}")
    notes = list(raw.notes)
    train, held_out = raw.train, raw.validation
    if held_out is None:
        train, held_out = hold_out(raw.train, validation)
    elif validation is not None:
        notes.append(f"validation set: the data's own {len(held_out):,} examples; data.validation holds out none")
    for key, number in (("train_examples", train_examples), ("batch_size", batch_size)):
        if number is not None and number > len(train):
            left = f"{len(train):,} examples" + (f" after {len(held_out):,} were held out" if held_out else "")
            raise DataError(f"{raw.source}: `{key}` {number:,} is more than the training set has, {left}")
        if key == "train_examples" and number is not None:
            order = stratified_order(train.labels, seed=0, purpose="train_rows")  # another would keep others
            train = train.select(order[:number].sort().values)
    notes += label_notes(train.labels, raw.names)
    every = {"train": train, "validation": held_out, "test": raw.test}
    is_fitted = encoder is not None
    if encoder is None:
        encoder = raw.new_encoder() if raw.input_range is None else IdentityEncoder(input_range=raw.input_range)
    encoder.progress, encoder.dry_run = progress, dry_run
    parts = {name: part for name, part in every.items() if part is not None}
    return _encoded(raw, parts, encoder, is_fitted=is_fitted, notes=notes)


def prepare_to_evaluate(raw: RawData, encoder: Encoder) -> LabelledData:
    """Returns all of a data set as the test set of a finished run, with the labels and the encoder of the run."""
    if not len(raw.train):
        raise DataError(f"{raw.source}: is empty; expected at least one example")
    nothing = raw.train.select(torch.zeros(0, dtype=torch.int64))
    return _encoded(raw, {"train": nothing, "test": raw.train}, encoder, is_fitted=True, notes=raw.notes)


def _encoded(
    raw: RawData, parts: Mapping[str, Examples], encoder: Encoder, *, is_fitted: bool, notes: Sequence[str]
) -> LabelledData:
    """Returns the parts with their inputs; an encoder that is not fitted learns from the training examples."""
    encoder.done, encoder.total = 0, sum(map(len, parts.values()))
    splits: dict[str, Any] = {}
    truncated = 0
    for name, part in parts.items():  # the training examples first
        learns = name == "train" and not is_fitted
        encoded = encoder.fit_transform(part.inputs) if learns else encoder.transform(part.inputs)
        splits[name] = Split(encoded.inputs, part.labels)
        truncated += encoded.truncated
        encoder.done += len(part)
        if encoded.inputs.shape[1:] != splits["train"].inputs.shape[1:]:
            shapes = f"{tuple(splits['train'].inputs.shape[1:])} as in the training set"
            found = tuple(encoded.inputs.shape[1:])
            raise DataError(f"{raw.source}: {name} set: expected inputs of shape {shapes}, found {found}")
    inputs: dict[str, Any] = {name: part.inputs for name, part in parts.items()}
    are_images, lines, repeats = isinstance(inputs["train"], Images), {}, []
    if are_images:
        repeats = repeat_notes(
            {name: its.digests for name, its in inputs.items()}, lambda split, index: inputs[split].shown(index)
        )
    elif not isinstance(inputs["train"], Tensor):
        lines = {name: its.lines() for name, its in inputs.items()}
        used = {name: its.lines(without=encoder.left_out) for name, its in inputs.items()}
        repeats = repeat_notes(used, lambda split, index: repr(shorten(used[split][index], 60)))
    notes = [*notes, *repeats, *encoder.notes]
    if truncated:
        key, limit = encoder.read_limit
        longer = f"{truncated:,} of {encoder.total:,} texts ({truncated / encoder.total:.1%}) are longer than"
        notes.append(f"{longer} the {limit:,} {key.removeprefix('maximum_')} that are read (data.{key})")
    return LabelledData(
        **splits,
        names=tuple(raw.names),
        input_shape=tuple(splits["train"].inputs.shape[1:]),
        input_range=encoder.input_range,
        source=raw.source,
        notes=tuple(notes),
        encoder=encoder,
        texts=(lambda split, index: str(lines[split][index])) if lines else None,
        images=(lambda split, index: inputs[split].thumbnail(index)) if are_images else None,
        label_column=raw.label_column,
    )
