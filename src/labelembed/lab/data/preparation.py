"""From what a reader found to what a run trains on: examples held out, the encoder fitted, everything checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from textwrap import shorten
from typing import Any

import torch
from torch import Tensor

from labelembed.errors import ArgumentErrors, DataError
from labelembed.lab.data.batch import Examples, Split
from labelembed.lab.data.checks import few, first_invalid, require_finite, require_names
from labelembed.lab.data.data_notes import balance_notes, repeat_notes, repeated
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
        DataError: A part is empty, an example cannot be used, or there are fewer of them than asked for.
        ValueError: `train_examples` or `batch_size` is not at least 1.
    """
    errors = ArgumentErrors()
    for name, value in (("train_examples", train_examples), ("batch_size", batch_size)):
        errors.require(value is None or value >= 1, name, value, "must be >= 1")
    errors.raise_if_any()
    require_names(raw.names, None, raw.source)
    _check(raw, {name: f"{raw.source}: {display_name(name)} set" for name in raw.parts}, raw.names)
    notes: list[str] = []
    train, held_out = raw.train, raw.validation
    if held_out is None:
        try:
            train, held_out = hold_out(raw.train, validation)
        except DataError as error:
            raise DataError(f"{raw.source}: {error}") from None
    elif validation is not None:
        notes.append(f"validation set: the data's own {len(held_out):,} examples; data.validation holds out none")
    if train_examples is not None:
        if train_examples > len(train):
            raise DataError(
                f"{raw.source}: `train_examples` is {train_examples:,}, but the training set has "
                f"{_left(train, held_out)}"
            )
        order = stratified_order(train.labels, seed=0, purpose="train_rows")  # another would keep others
        train = train.select(order[:train_examples].sort().values)
    raw, parts = _without_rare_labels(raw, {"train": train, "validation": held_out, "test": raw.test}, notes)
    train, held_out = parts["train"], parts.get("validation")
    if batch_size is not None and batch_size > len(train):
        raise DataError(
            f"{raw.source}: `batch_size` {batch_size:,} is larger than the training set, "
            f"which has {_left(train, held_out)}; take at most {len(train):,}"
        )
    notes += balance_notes(train.labels, raw.names)
    return _encoded(raw, parts, encoder, notes=notes, progress=progress, dry_run=dry_run)


def prepare_to_evaluate(raw: RawData, encoder: Encoder) -> LabelledData:
    """Returns data that name no parts with every example in the test set, and none to train on.

    Raises:
        DataError: There is no example, or one cannot be used.
    """
    _check(raw, {"train": raw.source}, raw.names)
    nothing = raw.train.select(torch.zeros(0, dtype=torch.int64))
    return _encoded(raw, {"train": nothing, "test": raw.train}, encoder)


def _encoded(
    raw: RawData,
    examples: Mapping[str, Examples],
    encoder: Encoder | None,
    *,
    notes: Sequence[str] = (),
    progress: ReadingProgress | None = None,
    dry_run: bool = False,
) -> LabelledData:
    """Returns the parts with their inputs; without `encoder` the reader's is fitted."""
    is_fitted = encoder is not None
    if encoder is None:
        encoder = raw.new_encoder() if raw.input_range is None else IdentityEncoder(input_range=raw.input_range)
    encoder.progress, encoder.dry_run = progress, dry_run
    encoder.done, encoder.total = 0, sum(map(len, examples.values()))
    splits: dict[str, Split] = {}
    truncated = 0
    for name, part in examples.items():  # the training examples first
        learns = name == "train" and not is_fitted
        encoded = encoder.fit_transform(part.inputs) if learns else encoder.transform(part.inputs)
        splits[name] = Split(encoded.inputs, part.labels)
        truncated += encoded.truncated
        encoder.done += len(part)
    truncation = encoder.truncation(truncated, sum(map(len, splits.values()))) if truncated else None
    shown = {name: part.inputs for name, part in examples.items() if not isinstance(part.inputs, Tensor)}
    are_images = isinstance(examples["train"].inputs, Images)
    lines = {} if are_images else {name: inputs.lines() for name, inputs in shown.items()}
    return LabelledData(
        **splits,
        names=tuple(raw.names),
        input_shape=tuple(splits["train"].inputs.shape[1:]),
        input_range=encoder.input_range,
        source=raw.source,
        notes=(
            *raw.notes,
            *notes,
            *(_repeats(splits, shown, encoder) if shown else []),
            *encoder.notes,
            *([] if truncation is None else [truncation.note]),
        ),
        encoder=encoder,
        texts=(lambda split, index: str(lines[split][index])) if lines else None,
        images=(lambda split, index: shown[split].thumbnail(index)) if are_images else None,
        truncation=truncation,
        label_column=raw.label_column,
        label_values=raw.label_values,
    )


def _without_rare_labels(
    raw: RawData, parts: Mapping[str, Examples | None], notes: list[str]
) -> tuple[RawData, dict[str, Examples]]:
    """Leaves out labels with too few training examples, counted over those that are trained on; notes which."""
    known = {name: part for name, part in parts.items() if part is not None}
    least = raw.minimum_label_examples
    if least is None:
        return raw, known
    counts = torch.bincount(known["train"].labels, minlength=len(raw.names)).tolist()
    kept = [label for label, count in enumerate(counts) if count >= least or least == 1]
    single = [raw.names[label] for label in kept if counts[label] == 1]
    if single:
        notes.append(
            f"labels with one training example only: {few(single)}: nothing can be learned from one; "
            "--set data.minimum_label_examples=2 leaves them out"
        )
    if len(kept) == len(counts):
        return raw, known
    rare = few([name for label, name in enumerate(raw.names) if label not in kept])
    what = f"labels with fewer than {least} training examples left out: {rare}"
    if len(kept) < 2:
        raise DataError(f"{raw.source}: {what}; that leaves nothing to tell apart, so lower `minimum_label_examples`")
    notes.append(what)
    number = torch.full((len(counts),), -1).index_copy(0, torch.tensor(kept), torch.arange(len(kept)))
    for name, part in known.items():
        chosen = part.select((number[part.labels] >= 0).nonzero()[:, 0])
        known[name] = replace(chosen, labels=number[chosen.labels])
        if not len(chosen):
            raise DataError(f"{raw.source}: {what}; that leaves an empty {display_name(name)} set")
    values = [raw.label_values[label] for label in kept] if raw.label_values else []
    return replace(raw, names=tuple(raw.names[label] for label in kept), label_values=tuple(values)), known


def _repeats(splits: Mapping[str, Split], shown: Mapping[str, Any], encoder: Encoder) -> list[str]:
    """Returns what to say of equal texts, pictures or rows of a table, equal by what inputs are made of."""
    are_images = isinstance(shown["train"], Images)
    every: list[str] = []
    for split in splits:
        every += shown[split].digests if are_images else shown[split].lines(without=encoder.left_out)
    places = [(split, index) for split in splits for index in range(len(splits[split]))]

    def pair(place: int, earlier: int) -> str:
        if are_images:
            return " = ".join(shown[split].shown(index) for split, index in (places[place], places[earlier]))
        return repr(shorten(every[place], 60, placeholder=" ..."))

    return repeat_notes(
        repeated(every),
        labels={display_name(name): split.labels for name, split in splits.items()},
        shown=pair,
        what="picture" if are_images else "example",
    )


def _check(raw: RawData, wheres: Mapping[str, str], names: Sequence[str]) -> None:
    """Raises DataError where a part is empty, or an example of it cannot be used."""
    for name, where in wheres.items():
        part = raw.parts[name]
        if len(part) == 0 or (isinstance(part.inputs, Tensor) and part.inputs.numel() == 0):
            raise DataError(f"{where}: is empty; expected at least one example")
        if isinstance(part.inputs, Tensor):
            shape, wanted = tuple(part.inputs.shape[1:]), tuple(raw.train.inputs.shape[1:])
            if shape != wanted:
                raise DataError(f"{where}: expected inputs of shape {wanted} as in the training set, found {shape}")
            require_finite(part.inputs.cpu().numpy(), where)
        invalid = first_invalid(part.labels.cpu().numpy(), lambda chunk: (chunk < 0) | (chunk >= len(names)))
        if invalid is not None:
            raise DataError(
                f"{where}: row {invalid[0]} has the label {invalid[1]}; expected 0 to {len(names) - 1}, "
                f"for there are {len(names)} label names"
            )


def _left(train: Examples, held_out: Examples | None) -> str:
    left = f"{len(train):,} examples"
    return left if held_out is None else f"{left} after {len(held_out):,} were held out"
