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
from labelembed.lab.data.data_notes import label_notes, repeat_notes, telling_notes
from labelembed.lab.data.dataset import LabelledData, RawData
from labelembed.lab.data.encoder import Encoder, IdentityEncoder, ReadingProgress
from labelembed.lab.data.image_files import Images
from labelembed.lab.data.splits import hold_out, stratified_order
from labelembed.lab.data.table_files import Table


def prepare(
    raw: RawData,
    *,
    validation: Mapping[str, Any] | None,
    train_examples: int | None = None,
    encoder: Encoder | None = None,
    progress: ReadingProgress | None = None,
    dry_run: bool = False,
) -> LabelledData:
    """Returns the data set for a run; raises DataError where a part is empty, or smaller than asked for.

    The validation set is held out first, so that it is the same however few examples are trained on. The encoder learns
    from those that are trained on alone.

    Args:
        raw: What a reader returned.
        validation: Arguments of `hold_out`, unless the data bring a validation set; None: none is held out.
        train_examples: How many training examples to keep, the beginning of a stratified order that is always the same,
            so that a smaller training set is part of a larger one; None for all.
        encoder: The encoder that a run has fitted already; None: the reader's, fitted here.
        progress: Told how far a long encoding is.
        dry_run: Not for training: an encoder may skip its work, see `Encoder`.
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
    if validation is not None and held_out is None:
        train, held_out = hold_out(raw.train, **validation)
    elif validation is not None and held_out is not None:
        notes.append(f"validation set: the data's own {len(held_out):,} examples; data.validation holds out none")
    if train_examples is not None:
        if train_examples > len(train):
            most = f"must be at most the {len(train):,} that are not held out, got {train_examples:,}"
            raise DataError(f"{raw.source}: data.train_examples: {most}")
        order = stratified_order(train.labels, seed=0, purpose="train_rows")  # another would keep others
        train = train.select(order[:train_examples].sort().values)
    notes += label_notes(train.labels, raw.names)
    is_fitted = encoder is not None
    if encoder is None:
        encoder = raw.new_encoder() if raw.input_range is None else IdentityEncoder(input_range=raw.input_range)
    encoder.progress, encoder.dry_run = progress, dry_run
    every = {"train": train, "validation": held_out, "test": raw.test}
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
        found, shape = (tuple(splits[one].inputs.shape[1:]) for one in (name, "train"))
        if found != shape:
            raise DataError(f"{raw.source}: {name} set: inputs have the shape {found}, in the training set {shape}")
    inputs: dict[str, Any] = {name: part.inputs for name, part in parts.items()}
    texts = images = None
    repeats: list[str] = []
    if isinstance(inputs["train"], Images):
        images = lambda split, index: inputs[split].thumbnail(index)  # noqa: E731
        digests = {name: its.digests for name, its in inputs.items()}
        repeats = repeat_notes(digests, lambda split, index: inputs[split].shown(index))
    elif not isinstance(inputs["train"], Tensor):
        lines = {name: its.lines() for name, its in inputs.items()}
        texts = lambda split, index: str(lines[split][index])  # noqa: E731
        used = {name: its.lines(without=encoder.left_out) for name, its in inputs.items()}
        repeats = repeat_notes(used, lambda split, index: repr(shorten(used[split][index], 60)))
        if isinstance(inputs["train"], Table):
            repeats += telling_notes(inputs["train"].without(encoder.left_out).frame, parts["train"].labels)
    if truncated:
        longer = f"{truncated:,} of {encoder.total:,} texts ({truncated / encoder.total:.1%}) are longer than what is"
        repeats.append(f"{longer} read, data.{encoder.limit_key}={getattr(encoder, encoder.limit_key)}")
    return LabelledData(
        **splits,
        names=tuple(raw.names),
        input_shape=shape,
        input_range=encoder.input_range,
        source=raw.source,
        notes=(*notes, *encoder.notes, *repeats),
        encoder=encoder,
        texts=texts,
        images=images,
        label_column=raw.label_column,
    )
