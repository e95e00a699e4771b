"""From the values of a column to labels: missing, rare and differently spelt ones, numbers for their names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from labelembed.errors import DataError
from labelembed.lab.data.batch import Examples
from labelembed.lab.data.checks import counted, few
from labelembed.lab.data.files.parts import Parts
from labelembed.lab.data.files.table import Table, is_missing, missing_column

# Numbers with fractions are labels where they are as few as the steps of a rating.
_MOST_FRACTIONS = 20


@dataclass(frozen=True, kw_only=True)
class LabelReading:
    """How labels are read.

    Attributes:
        key: The setting that names their column.
        merge: Whether labels that differ by case or spaces are one; None: refuse them.
        skip_incomplete: Leave examples without a label out; otherwise refuse them. None: no setting does that.
        to_evaluate: The examples are for a finished run to evaluate: none is left out for its label, which may be
            one of any part, and spellings are left to the run (see `measured`).
    """

    key: str = "label_column"
    merge: bool | None = None
    skip_incomplete: bool | None = False
    to_evaluate: bool = False


def labelled(
    tables: Parts, column: str, how: LabelReading, source: Path
) -> tuple[dict[str, Examples], tuple[str, ...], list[str]]:
    """Returns the examples that have a label, by part and without its column, the names of the labels, and notes.

    Labels are numbered in the order of their names (as numbers where all are whole numbers), or as the file numbers
    them where it knows their names.

    Args:
        tables: As `read_parts` returned them.
        column: That of the labels.
        how: See the class.
        source: The data set's file or folder, for messages.

    Raises:
        DataError: Labels are missing or differ by case or spaces only, there is one label, there are about as many as
            examples, or one stands in another part only; names the column, and the setting that goes on.
    """
    notes = list(dict.fromkeys(note for table in tables.values() for note in table.notes))
    tables = _without_secret_test(tables, column, notes)
    known = tables["train"].label_names.get(column)
    names: dict[str, list[str]] = {}
    for part, table in tables.items():
        if column not in table.names:
            raise DataError(missing_column(table, how.key, column))
        of_part = table.label_names.get(column, known)  # another file may number the same names otherwise
        found = [_name_of(value, of_part, table, row) for row, value in enumerate(table.values(column))]
        missing = [row for row, name in enumerate(found) if name is None]
        if missing:
            _minds_missing(table, missing, column, how, notes)
            tables[part] = table.select([row for row, name in enumerate(found) if name is not None])
        names[part] = [name for name in found if name is not None]
    where = f"{source}: column {column!r}"
    if not how.to_evaluate:
        _merge_spellings(names, where, how, notes)
        if known is None:
            _refuse_no_labels(names["train"], where, how.key)
        known = known if known and set(names["train"]) <= set(known) else None
    label_names, labels = numbered(names, where, names=known, to_evaluate=how.to_evaluate)
    return (
        {part: Examples(table.without((column,)), labels[part]) for part, table in tables.items()},
        label_names,
        notes,
    )


def numbered(
    found: Mapping[str, Sequence[str]], where: str, *, names: Sequence[str] | None = None, to_evaluate: bool = False
) -> tuple[tuple[str, ...], dict[str, Tensor]]:
    """Returns the names of the labels in order, and the labels [N] of each part, int64.

    Args:
        found: The name of each example's label, by part.
        where: What holds them, for messages.
        names: The names in order; None: those of the training examples, sorted.
        to_evaluate: Names of any part will do, and a single one.

    Raises:
        DataError: There is one label only, or one that no training example has.
    """
    decided_by = found.values() if to_evaluate else [found["train"]]
    ordered = list(names or ordered_names({name for part in decided_by for name in part}))
    if len(ordered) < 2 and not to_evaluate:
        raise DataError(f"{where} has one label only, {few(ordered) or 'none'}; there is nothing to tell apart")
    number = {name: place for place, name in enumerate(ordered)}
    for part, of_part in found.items():
        unknown = sorted(set(of_part) - set(ordered))
        if unknown:
            raise DataError(
                f"{where} has labels in the {part} set that no training example has: {few(unknown)}; the training set "
                f"has {few(ordered)}"
            )
    labels = {part: torch.tensor([number[name] for name in names], dtype=torch.int64) for part, names in found.items()}
    return tuple(ordered), labels


def ordered_names(found: Iterable[str]) -> list[str]:
    """Returns label names in order: as numbers where all are whole numbers, and otherwise as texts."""
    names = set(found)
    # int() would take '٣' and '1_0' as well; '01' and '1' must stay apart
    numbers = all(name.isascii() and name.isdecimal() and len(name) < 19 for name in names)
    return sorted(names, key=lambda name: (int(name), name)) if numbers else sorted(names)


def _without_secret_test(tables: Parts, column: str, notes: list[str]) -> Parts:
    """Leaves a test set aside whose labels are kept secret: no column, nothing in it, or -1 everywhere."""
    test, train = tables.get("test"), tables["train"]
    if test is None:
        return dict(tables)
    found = [value for value in test.values(column) if not is_missing(value)] if column in test.names else []
    # -1 may be a label of the training examples
    is_label = column not in train.label_names and any(map(_is_minus_one, train.columns.get(column, ())))
    if found and (is_label or not all(map(_is_minus_one, found))):
        return dict(tables)
    notes.append(f"test examples without labels left out: {len(test):,}")
    return {name: table for name, table in tables.items() if name != "test"}


def _is_minus_one(value: Any) -> bool:
    return value == -1 or (isinstance(value, str) and value.strip() == "-1")


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
    if isinstance(value, float) and value.is_integer():  # as whole numbers are where one is missing
        value = int(value)
    try:
        return str(value)
    except ValueError:  # Python refuses to write out a number of very many digits
        raise DataError(f"{table.source}: {table.place(row)} has a number of very many digits for a label") from None


def _minds_missing(table: Table, missing: Sequence[int], column: str, how: LabelReading, notes: list[str]) -> None:
    """Notes examples without a label, or refuses them unless they are to be skipped."""
    of = f"{len(missing):,} of {len(table):,} examples ({table.places_of(missing)})"
    if not how.skip_incomplete:
        raise DataError(
            f"{table.source}: column {column!r} has no label in {of}"
            + ("" if how.skip_incomplete is None else "; leave them out with --set data.skip_incomplete=true")
        )
    notes.append(f"left out, without a label: {of}")


def _merge_spellings(parts: dict[str, list[str]], where: str, how: LabelReading, notes: list[str]) -> None:
    """Makes labels that differ by case or spaces one, if that is asked for; otherwise asks."""
    counts = Counter(name for names in parts.values() for name in names)
    spellings: dict[str, list[str]] = {}
    for name in counts:
        spellings.setdefault(" ".join(name.split()).casefold(), []).append(name)
    several = [found for found in spellings.values() if len(found) > 1]
    if several and how.merge is None:
        groups = [
            " and ".join(
                f"{name!r} ({counted(counts[name], 'example')})"
                for name in sorted(found, key=lambda name: -counts[name])
            )
            for found in several[:4]
        ]
        more = f"; and {len(several) - 4} more" if len(several) > 4 else ""
        raise DataError(
            f"{where} has labels that differ by case or spaces only: {'; '.join(groups)}{more}\n"
            "  --set data.merge_labels=true makes them one label, --set data.merge_labels=false keeps them apart"
        )
    if how.merge is False:
        return
    # by the training examples alone, for the order of the names says which number a label has
    trained = Counter(parts["train"])
    stands_for = {
        name: max(found, key=lambda name: trained[name]).strip() for found in spellings.values() for name in found
    }
    merged = [
        f"{', '.join(repr(n) for n in found if stands_for[n] != n)} as {stands_for[found[0]]!r}" for found in several
    ]
    if merged:
        notes.append(f"labels merged that differ by case or spaces: {'; '.join(merged[:6])}")
    for part, names in parts.items():
        parts[part] = [stands_for[name] for name in names]


def _refuse_no_labels(names: Sequence[str], where: str, key: str) -> None:
    """Raises DataError where a column holds no labels but texts, numbers or measurements."""
    found, examples = set(names), len(names)
    different = len(found)
    if different == examples and examples > 2:
        raise DataError(
            f"{where} has as many values as examples ({examples:,}): it is probably a number or a text of each, not a "
            f"label; name another with --set data.{key}=..."
        )
    if different > max(2, examples // 2):
        raise DataError(
            f"{where} has {different:,} values in {examples:,} examples; labels must repeat, so name another with "
            f"--set data.{key}=..."
        )
    fractions = [name for name in found if _has_fraction(name)]
    if len(fractions) > _MOST_FRACTIONS and len(fractions) > different // 2:
        shown = ", ".join(f"{float(name):.3g}" for name in sorted(fractions)[:3])
        raise DataError(
            f"{where} holds {different:,} numbers with fractions ({shown}, ...): measurements, not labels; name "
            f"another with --set data.{key}=..."
        )


def _has_fraction(name: str) -> bool:
    try:
        return not float(name).is_integer()
    except (ValueError, OverflowError):
        return False
