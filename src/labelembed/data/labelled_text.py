"""Labelled texts as bags of words: the reader `labelled-text`."""

from __future__ import annotations

import torch
from torch import Tensor

from labelembed.data.batch import Split
from labelembed.data.dataset import RawData
from labelembed.data.files.texts import read_text_rows
from labelembed.data.row_content import RowContent
from labelembed.data.word_bags import TextContent


def read_labelled_text(
    *,
    path: str,
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
    to_measure: bool = False,
    ngrams: int = 2,
    minimum_texts: int = 2,
    maximum_features: int = 200_000,
    maximum_words: int = 1_000,
) -> RawData:
    """Returns labelled texts of CSV, TSV, JSON lines or parquet, or of a saved data set, as the words that they have.

    The vocabulary is counted on the training rows that stay when development and test rows are held out.

    Args:
        path: A file, a folder with train, test and dev files, or a data set that the `datasets` library saved.
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
        to_measure: The rows are for a finished run to measure: none are held out for a test, and any label will do.
        ngrams: Words of a feature at most; 1: words alone, 2: pairs of neighbours too.
        minimum_texts: Training texts that a feature must stand in.
        maximum_features: Features at most, those of the most texts.
        maximum_words: Words of a text that are read.

    Raises:
        DataError: The files cannot be read, a column cannot be told, or rows cannot be used; names file and row, and
            the setting that goes on.
        ValueError: An argument is out of its range.
    """
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
    content = TextContent(
        rows.texts,
        ngrams=ngrams,
        minimum_texts=minimum_texts,
        maximum_features=maximum_features,
        maximum_words=maximum_words,
        column=rows.column,
        source=rows.source,
    )
    return raw_rows(content, rows.labels, rows.names, rows.source, rows.notes, label_column=rows.label_column)


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
        labels: Labels [N] of each part, in that order: `train`, and `development` and `test` if there are such.
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
        development=splits.get("development"),
        test=splits.get("test"),
        names=names,
        input_range=(0.0, 1.0),
        source=source,
        notes=notes,
        content=content,
        label_column=label_column,
    )
