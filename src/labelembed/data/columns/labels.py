"""From a column's values to labels: spellings that differ, rare and missing labels, rows held out for a test."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from labelembed.data.checks import printable
from labelembed.data.columns.column_table import ColumnTable, Value, is_missing
from labelembed.data.columns.parts import Parts, missing_column
from labelembed.data.development import stratified_order
from labelembed.data.listing import TEST_FRACTION, ordered_names
from labelembed.data.part_names import NO_TEST_NOTE
from labelembed.errors import ArgumentFaults, DataError

_SHOWN = 8
# Numbers with fractions are labels where they are as few as the steps of a rating.
_MOST_FRACTIONS = 20


@dataclass(frozen=True, kw_only=True)
class LabelReading:
    """How labels are read.

    Attributes:
        merge: Whether labels that differ by case or spaces are one; None: refuse them.
        minimum_rows: Labels with fewer training rows are left out.
        skip_incomplete: Leave rows without a label out; otherwise refuse them.
        test_fraction: Part of the rows that becomes the test set where there is none; None: 0.2.
        to_measure: The rows are for a finished run to measure: none are held out or left out for their label, which may
            be one of any part, and spellings are left to the run (see `measured`).
    """

    merge: bool | None = None
    minimum_rows: int = 1
    skip_incomplete: bool = False
    test_fraction: float | None = None
    to_measure: bool = False

    def faults(self) -> ArgumentFaults:
        """Returns what is wrong with it."""
        faults = ArgumentFaults()
        faults.require(self.minimum_rows >= 1, "minimum_label_rows", self.minimum_rows, "must be >= 1")
        share = self.test_fraction is None or 0 < self.test_fraction < 1
        faults.require(share, "test_fraction", self.test_fraction, "must be a number between 0 and 1, both excluded")
        return faults


@dataclass(frozen=True, eq=False, kw_only=True)
class LabelledParts:
    """Rows with their labels, ready to be made into inputs.

    Attributes:
        tables: Rows by part: `train`, `test` and, where there is one, `development`.
        labels: Labels [N] of each part, int64.
        names: Names of the labels 0, 1, ...
        source: Where they came from.
        notes: What the user should know, one line each.
    """

    tables: Mapping[str, ColumnTable]
    labels: Mapping[str, Tensor]
    names: tuple[str, ...]
    source: Path
    notes: tuple[str, ...]


def labelled_parts(parts: Parts, column: str, how: LabelReading) -> LabelledParts:
    """Returns the rows that have a label, with a test set held out where there is none.

    Labels are numbered in the order of their names (as numbers where all are whole numbers), or as the file numbers
    them where it knows their names.

    Raises:
        DataError: Labels are missing or differ by case or spaces only, there is one label, there are about as many as
            rows, or one stands in the test rows only; names the column, and the setting that goes on.
    """
    how.faults().raise_if_any()
    notes = [note for table in parts.tables.values() for note in table.notes]
    tables = dict(parts.tables)
    if "test" in tables and _has_no_labels(tables["test"], column):
        notes.append(f"test rows without labels left aside: {len(tables.pop('test')):,}")
        if "development" in tables:
            notes.append(NO_TEST_NOTE)
            tables["test"] = tables.pop("development")
    names_of: dict[str, list[str | None]] = {}
    for part, table in tables.items():
        if column not in table.columns:
            raise DataError(missing_column(table, "label_column", column))
        known = tables["train"].label_names.get(column)
        names_of[part] = [_name_of(value, known, table, row) for row, value in enumerate(table.columns[column])]
    tables, names_of = _complete(tables, names_of, column, how, notes)
    if how.to_measure:
        names = ordered_names({str(name) for found in names_of.values() for name in found})
    else:
        _merge_spellings(names_of, column, parts.source, how, notes)
        tables, names_of, names = _frequent(tables, names_of, column, parts.source, how, notes)
    number = {name: place for place, name in enumerate(names)}
    labels = {}
    for part, found in names_of.items():
        unknown = sorted({str(name) for name in found if name not in number})
        if unknown:
            raise DataError(
                f"{tables[part].source}: column {column!r} of the {part} rows has labels that no training row has: "
                f"{_few(unknown)}; the training rows have {_few(names)}"
            )
        labels[part] = torch.tensor([number[str(name)] for name in found], dtype=torch.int64)
    if how.to_measure:
        pass
    elif "test" not in tables:
        _hold_out_test(tables, labels, parts.source, how.test_fraction, notes)
    elif how.test_fraction is not None:
        raise DataError(f"{parts.source}: has a test set of its own; leave `test_fraction` out")
    return LabelledParts(tables=tables, labels=labels, names=tuple(names), source=parts.source, notes=tuple(notes))


def _has_no_labels(table: ColumnTable, column: str) -> bool:
    """Tells whether a test set's labels are kept secret: no column, nothing in it, or -1 everywhere."""
    values = table.columns.get(column)
    return values is None or all(is_missing(value) or value == -1 for value in values)


def _name_of(value: Value, known: Sequence[str] | None, table: ColumnTable, row: int) -> str | None:
    if is_missing(value) or (known is not None and value == -1):
        return None
    if known is not None and isinstance(value, int) and not isinstance(value, bool):
        if not 0 <= value < len(known):
            raise DataError(
                f"{table.source}: {table.place(row)} has the label {value}; the file names labels 0 to {len(known) - 1}"
            )
        return known[value]
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():  # as pandas has whole numbers where one is missing
        value = int(value)
    return str(value)


def _complete(
    tables: dict[str, ColumnTable],
    names_of: dict[str, list[str | None]],
    column: str,
    how: LabelReading,
    notes: list[str],
) -> tuple[dict[str, ColumnTable], dict[str, list[str | None]]]:
    kept_tables, kept_names = {}, {}
    for part, found in names_of.items():
        missing = [row for row, name in enumerate(found) if name is None]
        table = tables[part]
        if missing and not how.skip_incomplete:
            raise DataError(
                f"{table.source}: column {column!r} has no label in {len(missing):,} of {len(table):,} rows "
                f"({table.places(missing)}); leave them out with --set data.skip_incomplete=true"
            )
        if missing:
            notes.append(f"rows without a label left out: {len(missing):,} of {len(table):,} ({table.places(missing)})")
        rows = [row for row, name in enumerate(found) if name is not None]
        kept_tables[part] = table.select(rows) if missing else table
        kept_names[part] = [found[row] for row in rows] if missing else found
    return kept_tables, kept_names


def _merge_spellings(
    names_of: dict[str, list[str | None]], column: str, source: Path, how: LabelReading, notes: list[str]
) -> None:
    """Makes labels that differ by case or spaces one, if that is asked for; otherwise asks."""
    counts = Counter(name for found in names_of.values() for name in found if name is not None)
    spellings: dict[str, list[str]] = {}
    for name in counts:
        spellings.setdefault(" ".join(name.split()).casefold(), []).append(name)
    several = [found for found in spellings.values() if len(found) > 1]
    if several and how.merge is None:
        groups = [
            " and ".join(f"{name!r} ({_rows(counts[name])})" for name in sorted(found, key=lambda name: -counts[name]))
            for found in several[:4]
        ]
        more = f"; and {len(several) - 4} more" if len(several) > 4 else ""
        raise DataError(
            f"{source}: column {column!r} has labels that differ by case or spaces only: {'; '.join(groups)}{more}\n"
            "  --set data.merge_labels=true makes them one label, --set data.merge_labels=false keeps them apart"
        )
    if how.merge is False:
        return
    # by the training rows alone, for the order of the names says which number a label has
    trained = Counter(names_of["train"])
    stands_for = {
        name: max(found, key=lambda name: trained[name]).strip() for found in spellings.values() for name in found
    }
    merged = [
        f"{', '.join(repr(n) for n in found if stands_for[n] != n)} as {stands_for[found[0]]!r}" for found in several
    ]
    if merged:
        notes.append(f"labels merged that differ by case or spaces: {'; '.join(merged[:6])}")
    for part, found in names_of.items():
        names_of[part] = [None if name is None else stands_for[name] for name in found]


def _frequent(
    tables: dict[str, ColumnTable],
    names_of: dict[str, list[str | None]],
    column: str,
    source: Path,
    how: LabelReading,
    notes: list[str],
) -> tuple[dict[str, ColumnTable], dict[str, list[str | None]], list[str]]:
    """Returns the rows of labels with enough training rows, and the names in order; refuses what are no labels."""
    train = names_of["train"]
    counts = Counter(str(name) for name in train)
    _refuse_no_labels(counts, len(train), column, source)
    rare = sorted(name for name, count in counts.items() if count < how.minimum_rows)
    if rare:
        kept_tables, kept_names = {}, {}
        for part, found in names_of.items():
            rows = [row for row, name in enumerate(found) if name not in set(rare)]
            kept_tables[part], kept_names[part] = tables[part].select(rows), [found[row] for row in rows]
        notes.append(f"labels with fewer than {how.minimum_rows} training rows left out: {_few(rare)}")
        tables, names_of = kept_tables, kept_names
        counts = Counter(str(name) for name in names_of["train"])
    if len(counts) < 2:
        only = _few(sorted(counts)) or "none"
        raise DataError(f"{source}: column {column!r} has one label only, {only}; there is nothing to tell apart")
    single = sorted(name for name, count in counts.items() if count == 1)
    if single:
        notes.append(
            f"labels with one row only: {_few(single)}: nothing can be learned from one; "
            "--set data.minimum_label_rows=2 leaves them out"
        )
    known = tables["train"].label_names.get(column)
    if known is not None and not rare and set(counts) <= set(known):
        return tables, names_of, list(known)
    return tables, names_of, ordered_names(set(counts))


def _refuse_no_labels(counts: Mapping[str, int], rows: int, column: str, source: Path) -> None:
    different = len(counts)
    if different == rows and rows > 2:
        raise DataError(
            f"{source}: column {column!r} has as many values as rows ({rows:,}): it is probably a number or a text of "
            "each row, not a label; name another with --set data.label_column=..."
        )
    if different > max(2, rows // 2):
        raise DataError(
            f"{source}: column {column!r} has {different:,} values in {rows:,} rows; labels must repeat, so name "
            "another with --set data.label_column=..."
        )
    fractions = [name for name in counts if _has_fraction(name)]
    if len(fractions) > _MOST_FRACTIONS and len(fractions) > different // 2:
        shown = ", ".join(f"{float(name):.3g}" for name in sorted(fractions)[:3])
        raise DataError(
            f"{source}: column {column!r} holds {different:,} numbers with fractions ({shown}, ...): "
            "measurements, not labels; name another with --set data.label_column=..."
        )


def _has_fraction(name: str) -> bool:
    try:
        return not float(name).is_integer()
    except (ValueError, OverflowError):
        return False


def _hold_out_test(
    tables: dict[str, ColumnTable], labels: dict[str, Tensor], source: Path, fraction: float | None, notes: list[str]
) -> None:
    share = TEST_FRACTION if fraction is None else fraction
    train, train_labels = tables["train"], labels["train"]
    count = round(share * len(train))
    if not 0 < count < len(train):
        raise DataError(
            f"{source}: `test_fraction` {share:g} of {len(train):,} rows leaves an empty "
            f"{'training' if count else 'test'} set"
        )
    # a seed of its own, not the run's, so that every run is tested on the same rows
    order = stratified_order(train_labels, seed=0, purpose="test")
    stays = set(train_labels[order[count:]].tolist())
    # a label's only row is trained on
    chosen = sorted(row for row in order[:count].tolist() if int(train_labels[row]) in stays)
    left = sorted(set(range(len(train))) - set(chosen))
    tables["train"], tables["test"] = train.select(left), train.select(chosen)
    labels["train"], labels["test"] = train_labels[left], train_labels[chosen]
    notes.append(
        f"no test set: {len(chosen):,} of {len(train):,} rows held out for it, stratified and always the same "
        f"(test_fraction {share:g})"
    )


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count:,} rows"


def _few(names: Sequence[str]) -> str:
    shown = ", ".join(printable(name[:60]) for name in names[:_SHOWN])
    return f"{shown} and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else shown
