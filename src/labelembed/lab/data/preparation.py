"""From what a reader found to what a run trains on: examples held out, the encoder fitted, everything checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from textwrap import shorten
from typing import Any

import torch
from torch import Tensor

from labelembed.errors import DataError
from labelembed.lab.data.batch import Examples, Split, require_whole
from labelembed.lab.data.checks import few, require_names
from labelembed.lab.data.data_notes import balance_notes, repeat_notes
from labelembed.lab.data.dataset import LabelledData, RawData
from labelembed.lab.data.encoder import Encoder, IdentityEncoder, ReadingProgress
from labelembed.lab.data.image_files import Images
from labelembed.lab.data.splits import ValidationSplit, display_name, hold_out, stratified_order


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
    require_names(raw.names, None, raw.source)
    for name, part in raw.parts.items():
        where = f"{raw.source}: {display_name(name)} set"
        if not len(part):
            raise DataError(f"{where}: is empty; expected at least one example")
        if isinstance(part.inputs, Tensor) and isinstance(raw.train.inputs, Tensor):
            shape, expected = tuple(part.inputs.shape[1:]), tuple(raw.train.inputs.shape[1:])
            if shape != expected:
                raise DataError(f"{where}: expected inputs of shape {expected} as in the training set, found {shape}")
        if (label := int(part.labels.max())) >= len(raw.names):
            raise DataError(f"{where}: has the label {label}, but there are names of {len(raw.names)} labels only")
    notes: list[str] = []
    train, held_out = raw.train, raw.validation
    if held_out is None:
        try:
            train, held_out = hold_out(raw.train, validation)
        except DataError as error:
            raise DataError(f"{raw.source}: {error}") from None
    elif validation is not None:
        notes.append(f"validation set: the data's own {len(held_out):,} examples; data.validation holds out none")
    for key, number in (("train_examples", train_examples), ("batch_size", batch_size)):
        if number is not None and require_whole(key, number) > len(train):
            left = f"{len(train):,} examples" + (f" after {len(held_out):,} were held out" if held_out else "")
            raise DataError(f"{raw.source}: `{key}` {number:,} is more than the training set has, {left}")
        if key == "train_examples" and number is not None:
            order = stratified_order(train.labels, seed=0, purpose="train_rows")  # another would keep others
            train = train.select(order[:number].sort().values)
    every = {"train": train, "validation": held_out, "test": raw.test}
    raw, parts = _without_rare_labels(raw, {name: part for name, part in every.items() if part is not None}, notes)
    notes += balance_notes(parts["train"].labels, raw.names)
    is_fitted = encoder is not None
    if encoder is None:
        encoder = raw.new_encoder() if raw.input_range is None else IdentityEncoder(input_range=raw.input_range)
    encoder.progress, encoder.dry_run = progress, dry_run
    return _encoded(raw, parts, encoder, is_fitted=is_fitted, notes=notes)


def prepare_to_evaluate(raw: RawData, encoder: Encoder) -> LabelledData:
    """Returns data that name no parts with every example in the test set, and none to train on."""
    if not len(raw.train):
        raise DataError(f"{raw.source}: is empty; expected at least one example")
    nothing = raw.train.select(torch.zeros(0, dtype=torch.int64))
    return _encoded(raw, {"train": nothing, "test": raw.train}, encoder, is_fitted=True)


def _encoded(
    raw: RawData, parts: Mapping[str, Examples], encoder: Encoder, *, is_fitted: bool, notes: Sequence[str] = ()
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
    truncation = encoder.truncation(truncated, encoder.total) if truncated else None
    inputs: dict[str, Any] = {name: part.inputs for name, part in parts.items()}
    are_images, are_read = isinstance(inputs["train"], Images), not isinstance(inputs["train"], Tensor)
    lines = {name: its.lines() for name, its in inputs.items()} if are_read and not are_images else {}
    data = LabelledData(
        **splits,
        names=tuple(raw.names),
        input_shape=tuple(splits["train"].inputs.shape[1:]),
        input_range=encoder.input_range,
        source=raw.source,
        encoder=encoder,
        texts=(lambda split, index: str(lines[split][index])) if lines else None,
        images=(lambda split, index: inputs[split].thumbnail(index)) if are_images else None,
        truncation=truncation,
        label_column=raw.label_column,
        label_values=raw.label_values,
    )
    repeats = []
    if are_images:
        digests = {name: its.digests for name, its in inputs.items()}
        repeats = repeat_notes(digests, splits, lambda split, index: inputs[split].shown(index), "picture")
    elif are_read:
        used = {name: its.lines(without=encoder.left_out) for name, its in inputs.items()}
        repeats = repeat_notes(used, splits, lambda split, i: repr(shorten(used[split][i], 60)), "example")
    of_length = [] if truncation is None else [truncation.note]
    return replace(data, notes=(*raw.notes, *notes, *repeats, *encoder.notes, *of_length))


def _without_rare_labels(
    raw: RawData, parts: dict[str, Examples], notes: list[str]
) -> tuple[RawData, dict[str, Examples]]:
    """Leaves out labels with too few training examples, counted over those that are trained on; notes which."""
    least = raw.minimum_label_examples
    if least is None:
        return raw, parts
    counts = torch.bincount(parts["train"].labels, minlength=len(raw.names))
    single = [name for name, count in zip(raw.names, counts.tolist(), strict=True) if count == 1]
    if single and least < 2:
        notes.append(
            f"labels with one training example only: {few(single)}: nothing can be learned from one; "
            "--set data.minimum_label_examples=2 leaves them out"
        )
    is_kept = (counts >= least) | (least == 1)
    if is_kept.all():
        return raw, parts
    kept = is_kept.nonzero()[:, 0].tolist()
    rare = few([name for label, name in enumerate(raw.names) if label not in kept])
    what = f"labels with fewer than {least} training examples left out: {rare}"
    if len(kept) < 2:
        raise DataError(f"{raw.source}: {what}; that leaves nothing to tell apart, so lower `minimum_label_examples`")
    notes.append(what)
    number = is_kept.cumsum(0) - 1
    for name, part in parts.items():
        chosen = part.select(is_kept[part.labels].nonzero()[:, 0])
        if not len(chosen):
            raise DataError(f"{raw.source}: {what}; that leaves an empty {display_name(name)} set")
        parts[name] = replace(chosen, labels=number[chosen.labels])
    names, values = ([these[label] for label in kept] for these in (raw.names, raw.label_values or raw.names))
    return replace(raw, names=tuple(names), label_values=tuple(values) if raw.label_values else ()), parts
