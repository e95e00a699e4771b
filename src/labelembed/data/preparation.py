"""From what a reader found to what a run trains on: rows held out, rows left out, everything checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from textwrap import shorten

import torch
from torch import Tensor

from labelembed.data.batch import Split
from labelembed.data.checks import first_fault, require_finite, require_names
from labelembed.data.data_notes import balance_notes, repeat_notes, repeated_texts
from labelembed.data.dataset import LabelledData, RawData
from labelembed.data.row_content import Encoding, RowContent
from labelembed.data.splits import ValidationSplit, hold_out, stratified_order
from labelembed.errors import ArgumentFaults, DataError


def prepare(
    raw: RawData,
    *,
    validation: ValidationSplit | None,
    train_rows: int | None = None,
    batch_size: int | None = None,
    encoding: Encoding | None = None,
) -> LabelledData:
    """Returns the data set for a run.

    The validation examples are held out first (unless the data bring their own), so that they are the same rows however
    few are trained on. Then only `train_rows` training rows are kept, in the order they stood in: the beginning of a
    random order that is stratified by label and always the same (see `stratified_order`), so that a smaller training
    set is part of a larger one.

    Args:
        raw: What a reader returned.
        validation: Which training rows are held out; None for none.
        train_rows: How many training rows to keep; None for all.
        batch_size: Rows of an optimiser step, to see that the training set has as many; None leaves it unseen.
        encoding: What a run has learned already of rows that become inputs here; None: it is learned from the training
            rows that stay.

    Raises:
        DataError: A split is empty, a row cannot be used, or there are fewer training rows than asked for.
        ValueError: `train_rows` or `batch_size` is not at least 1.
    """
    faults = ArgumentFaults()
    for name, value in (("train_rows", train_rows), ("batch_size", batch_size)):
        faults.require(value is None or value >= 1, name, value, "must be >= 1")
    faults.raise_if_any()
    names = require_names(raw.names, None, raw.source)
    input_shape = tuple(raw.train.inputs.shape[1:])
    for part, split in (("training", raw.train), ("validation", raw.validation), ("test", raw.test)):
        if split is not None:
            check_split(split, f"{raw.source}: {part} set", input_shape, len(names))
    notes = list(raw.notes)
    train, held_out = raw.train, raw.validation
    if held_out is None:
        try:
            train, held_out = hold_out(raw.train, validation)
        except DataError as error:
            raise DataError(f"{raw.source}: {error}") from None
    elif validation is not None:
        notes.append(f"validation examples: {len(held_out):,} of the data's own; data.validation holds out none")
    if train_rows is not None:
        if train_rows > len(train):
            raise DataError(
                f"{raw.source}: `train_rows` is {train_rows:,}, but the training set has {_rows_left(train, held_out)}"
            )
        order = stratified_order(train.labels, seed=0, purpose="train_rows")
        train = train.select(order[:train_rows].sort().values)
    if batch_size is not None and batch_size > len(train):
        raise DataError(
            f"{raw.source}: `batch_size` {batch_size:,} is larger than the training set, "
            f"which has {_rows_left(train, held_out)}; take at most {len(train):,}"
        )
    data = LabelledData(
        train=train,
        validation=held_out,
        test=raw.test,
        names=names,
        input_shape=input_shape,
        input_range=raw.input_range or value_range(train.inputs),
        source=raw.source,
        notes=(*notes, *balance_notes(raw.train.labels, names)),
        label_column=raw.label_column,
    )
    return data if raw.content is None else encoded(data, raw.content, encoding)


def encoded(data: LabelledData, content: RowContent, encoding: Encoding | None) -> LabelledData:
    """Returns the data with inputs in the place of the numbers of rows; for `encoding` see `prepare`."""
    numbers = {name: split.inputs[:, 0].long() for name, split in data.splits.items()}
    encoding = encoding or content.fit(numbers["train"])
    splits = {name: Split(content.inputs(encoding, numbers[name]), split.labels) for name, split in data.splits.items()}
    cut = content.cut(encoding, torch.cat(list(numbers.values())))
    return replace(
        data,
        **splits,  # type: ignore[arg-type]
        input_shape=tuple(splits["train"].inputs.shape[1:]),
        input_range=encoding.input_range,
        notes=(
            *data.notes,
            *_repeats(splits, numbers, content, encoding),
            *encoding.notes,
            *([] if cut is None else [cut.note]),
        ),
        cut=cut,
        encoding=encoding,
        texts=lambda split, row: content.shown(int(numbers[split][row])),
    )


def value_range(inputs: Tensor) -> tuple[float, float]:
    """Returns (0, 1) for training inputs that keep within it, and otherwise their smallest and largest value."""
    low, high = (float(end) for end in torch.aminmax(inputs))
    return (0.0, 1.0) if low >= 0 and high <= 1 else (low, high)


def _repeats(
    splits: Mapping[str, Split], numbers: Mapping[str, Tensor], content: RowContent, encoding: Encoding
) -> list[str]:
    """Returns what to say of equal texts or table rows."""
    rows = torch.cat(list(numbers.values())).tolist()
    texts = (content.shown(row, encoding) for row in rows)
    repeated = repeated_texts(texts, text_at=lambda place: content.shown(rows[place], encoding))
    return repeat_notes(
        repeated,
        labels={"training" if name == "train" else name: split.labels for name, split in splits.items()},
        shown=lambda row, earlier: repr(shorten(content.shown(rows[row], encoding), 60, placeholder=" ...")),
        what="example",
    )


def check_split(split: Split, where: str, input_shape: tuple[int, ...], num_labels: int) -> None:
    """Raises DataError where a part is empty, or an example of it cannot be used.

    Args:
        split: The part.
        where: How messages call it.
        input_shape: Of one input of the training set.
        num_labels: C.
    """
    if len(split) == 0 or split.inputs.numel() == 0:
        raise DataError(f"{where}: is empty; expected at least one row")
    if tuple(split.inputs.shape[1:]) != input_shape:
        raise DataError(
            f"{where}: expected inputs of shape {input_shape} as in the training set, "
            f"found {tuple(split.inputs.shape[1:])}"
        )
    require_finite(split.inputs.cpu().numpy(), where)
    fault = first_fault(split.labels.cpu().numpy(), lambda chunk: (chunk < 0) | (chunk >= num_labels))
    if fault is not None:
        raise DataError(
            f"{where}: row {fault[0]} has the label {fault[1]}; expected 0 to {num_labels - 1}, "
            f"for there are {num_labels} label names"
        )


def _rows_left(train: Split, held_out: Split | None) -> str:
    left = f"{len(train):,} rows"
    return left if held_out is None else f"{left} after {len(held_out):,} were held out"
