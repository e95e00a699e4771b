"""From the values of a column to labels: missing, rare and differently spelt ones, examples held out for a test."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from labelembed.data.checks import printable
from labelembed.data.files.parts import Parts
from labelembed.data.files.table import Table, is_missing, missing_column
from labelembed.data.splits import NO_TEST_NOTE, hold_out_test
from labelembed.errors import ArgumentFaults, DataError

_SHOWN = 8
# Numbers with fractions are labels where they are as few as the steps of a rating.
_MOST_FRACTIONS = 20

# The labels' names of each part, by the part; None: missing.
_Names = dict[str, list[str | None]]


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
class LabelledTables:
    """Tables with their labels, ready to be made into inputs.

    Attributes:
        tables: `train`, and `validation` and `test` where there are such, in that order.
        labels: Labels [N] of each part, int64.
        names: Names of the labels 0, 1, ...
        notes: What the user should know, one line each.
    """

    tables: Parts
    labels: Mapping[str, Tensor]
    names: tuple[str, ...]
    notes: tuple[str, ...]


def labelled_tables(tables: Parts, column: str, how: LabelReading, source: Path) -> LabelledTables:
    """Returns the rows that have a label, with a test set held out where there is none.

    Labels are numbered in the order of their names (as numbers where all are whole numbers), or as the file numbers
    them where it knows their names.

    Args:
        tables: As `read_parts` returned them.
        column: That of the labels.
        how: See the class.
        source: The data set's file or folder, for messages.

    Raises:
        DataError: Labels are missing or differ by case or spaces only, there is one label, there are about as many as
            rows, or one stands in the test rows only; names the column, and the setting that goes on.
    """
    notes = [note for table in tables.values() for note in table.notes]
    tables = _without_secret_test(tables, column, notes)
    names_of: _Names = {}
    for part, table in tables.items():
        if column not in table.names:
            raise DataError(missing_column(table, "label_column", column))
        known = tables["train"].label_names.get(column)
        names_of[part] = [_name_of(value, known, table, row) for row, value in enumerate(table.values(column))]
    tables, names_of = _complete(tables, names_of, column, how, notes)
    if how.to_measure:
        names = ordered_names({str(name) for found in names_of.values() for name in found})
    else:
        _merge_spellings(names_of, column, source, how, notes)
        tables, names_of, names = _frequent(tables, names_of, column, source, how, notes)
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
    if "test" in tables and how.test_fraction is not None and not how.to_measure:
        raise DataError(f"{source}: has a test set of its own; leave `test_fraction` out")
    if "test" not in tables and not how.to_measure:
        train, test, note = hold_out_test(labels["train"], how.test_fraction, where=str(source), what="rows")
        tables = tables | {name: tables["train"].select(r.tolist()) for name, r in (("train", train), ("test", test))}
        labels |= {"train": labels["train"][train], "test": labels["train"][test]}
        notes.append(note)
    return LabelledTables(tables=tables, labels=labels, names=tuple(names), notes=tuple(notes))


def ordered_names(found: set[str]) -> list[str]:
    """Returns label names in order: as numbers where all are whole numbers, and otherwise as texts."""
    # int() would take '٣' and '1_0' as well; '01' and '1' must stay apart
    numbers = all(name.isascii() and name.isdecimal() and len(name) < 19 for name in found)
    return sorted(found, key=lambda name: (int(name), name)) if numbers else sorted(found)


def _without_secret_test(tables: Parts, column: str, notes: list[str]) -> Parts:
    """Leaves a test set aside whose labels are kept secret: no column, nothing in it, or -1 everywhere."""
    if "test" not in tables:
        return tables
    test = tables["test"]
    if column in test.names and any(not is_missing(value) and value != -1 for value in test.values(column)):
        return tables
    notes.append(f"test rows without labels left aside: {len(test):,}")
    if "validation" not in tables:
        return {"train": tables["train"]}
    notes.append(NO_TEST_NOTE)
    return {"train": tables["train"], "test": tables["validation"]}


def _name_of(value: Any, known: Sequence[str] | None, table: Table, row: int) -> str | None:
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
    tables: Parts, names_of: _Names, column: str, how: LabelReading, notes: list[str]
) -> tuple[Parts, _Names]:
    """Returns the rows that have a label; refuses those without unless they are to be skipped."""
    for part, table in tables.items():
        missing = [row for row, name in enumerate(names_of[part]) if name is None]
        if missing and not how.skip_incomplete:
            raise DataError(
                f"{table.source}: column {column!r} has no label in {len(missing):,} of {len(table):,} rows "
                f"({table.places(missing)}); leave them out with --set data.skip_incomplete=true"
            )
        if missing:
            notes.append(f"rows without a label left out: {len(missing):,} of {len(table):,} ({table.places(missing)})")
    return _chosen(tables, names_of, lambda name: name is not None)


def _chosen(tables: Parts, names_of: _Names, is_chosen: Callable[[str | None], bool]) -> tuple[Parts, _Names]:
    """Returns the rows with the chosen labels."""
    kept_tables, kept_names = dict(tables), dict(names_of)
    for part, found in names_of.items():
        rows = [row for row, name in enumerate(found) if is_chosen(name)]
        if len(rows) < len(found):
            kept_tables[part], kept_names[part] = tables[part].select(rows), [found[row] for row in rows]
    return kept_tables, kept_names


def _merge_spellings(names_of: _Names, column: str, source: Path, how: LabelReading, notes: list[str]) -> None:
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
    tables: Parts, names_of: _Names, column: str, source: Path, how: LabelReading, notes: list[str]
) -> tuple[Parts, _Names, list[str]]:
    """Returns the rows of labels with enough training rows, and the names in order; refuses what are no labels."""
    counts = Counter(str(name) for name in names_of["train"])
    _refuse_no_labels(counts, len(names_of["train"]), column, source)
    rare = {name for name, count in counts.items() if count < how.minimum_rows}
    if rare:
        notes.append(f"labels with fewer than {how.minimum_rows} training rows left out: {_few(sorted(rare))}")
        tables, names_of = _chosen(tables, names_of, lambda name: name not in rare)
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


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count:,} rows"


def _few(names: Sequence[str]) -> str:
    shown = ", ".join(printable(name[:60]) for name in names[:_SHOWN])
    return f"{shown} and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else shown
