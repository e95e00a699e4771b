"""A list of picture files with their labels, and the data set that it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from labelembed.data.batch import Split
from labelembed.data.checks import printable, require_names
from labelembed.data.data_notes import label_column_note, repeat_notes
from labelembed.data.dataset import RawData
from labelembed.data.files.labels import ordered_names
from labelembed.data.picture_files import PictureRows, ReadingProgress, read_picture_files, shown_file
from labelembed.data.picture_fitting import EXTREME_ABOVE, Fit, ImageSize, automatic_side
from labelembed.data.splits import hold_out_test
from labelembed.errors import ArgumentFaults, DataError

_SHOWN = 8
# Of pictures of an extreme shape a larger share is told.
_MANY_EXTREME = 0.1


@dataclass(frozen=True, kw_only=True)
class Listing:
    """Picture files and their labels' names.

    Attributes:
        root: The folder that names in messages are relative to.
        train: (file, name of its label) of every training picture.
        test: The same of the test set; None: there is none, and rows are held out for it.
        validation: The same of a validation set that the data bring themselves, or None.
        source: What the data are, for messages and reports.
        notes: What the user should know of the files.
        found_labels: The column of a list that the labels were found in, where others could be meant; None: none could.
    """

    root: Path
    train: list[tuple[Path, str]]
    test: list[tuple[Path, str]] | None
    source: str
    notes: tuple[str, ...] = ()
    validation: list[tuple[Path, str]] | None = None
    found_labels: str | None = None


def check_arguments(*, image_size: ImageSize, test_fraction: float | None) -> None:
    """Raises ValueError where a reader's arguments are out of their range."""
    faults = ArgumentFaults()
    whole = isinstance(image_size, int) and not isinstance(image_size, bool) and 1 <= image_size <= 4096
    known = whole or image_size in (None, "auto")
    faults.require(known, "image_size", image_size, "must be a whole number of 1 to 4096, or 'auto'")
    share = test_fraction is None or (not isinstance(test_fraction, bool) and 0 < test_fraction < 1)
    faults.require(share, "test_fraction", test_fraction, "must be a number between 0 and 1, both excluded")
    faults.raise_if_any()


def read_listing(
    listing: Listing,
    *,
    image_size: ImageSize,
    fit: Fit,
    test_fraction: float | None,
    skip_unreadable: bool,
    to_measure: bool,
    progress: ReadingProgress | None,
) -> RawData:
    """Returns the data set of a list of picture files.

    Labels are numbered in the order of their names (as numbers where all are whole numbers). Of pictures for a finished
    run to measure (`to_measure`) none are held out for a test, and any label will do.

    Raises:
        DataError: There is no picture, a label has no training picture, pictures cannot be read and `skip_unreadable`
            is off, or the pictures have several sizes and there is no `image_size`.
    """
    held_out: list[str] = []
    if not to_measure:
        listing, held_out = _with_test(listing, test_fraction)
    listed = {"training": listing.train, "validation": listing.validation or [], "test": listing.test or []}
    decided_by = listed.values() if to_measure else [listing.train]
    names = ordered_names({label for entries in decided_by for _, label in entries})
    if len(names) < 2 and not to_measure:
        raise DataError(f"{listing.source}: has one label only, {names[0]!r}; there is nothing to tell apart")
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError:  # bytes of a file's name that are no UTF-8, which no file of a run could hold
            raise DataError(f"{listing.source}: the label {name!r} is no valid text; rename it") from None
    number = {name: place for place, name in enumerate(names)}
    for part, entries in listed.items():
        unknown = sorted({label for _, label in entries if label not in number})
        if unknown:
            raise DataError(
                f"{listing.source}: {_few(unknown)}: no training picture, only {part} pictures; the training set has "
                f"{_few(names)}"
            )
    rows = [entry for entries in listed.values() for entry in entries]
    files = [file for file, _ in rows]
    pictures = read_picture_files(
        files, root=listing.root, trained=len(listing.train), image_size=image_size, fit=fit, progress=progress
    )
    if pictures.unreadable and not skip_unreadable:
        _refuse_unreadable(listing, files, pictures)
    labels = torch.tensor([number[label] for _, label in rows], dtype=torch.int64)
    parts: dict[str, Split] = {}
    begin = 0
    for part, entries in listed.items():
        if not entries:
            continue
        end = begin + len(entries)
        split = _readable(Split(torch.from_numpy(pictures.pixels[begin:end]), labels[begin:end]), begin, pictures)
        parts[part], begin = split, end
        missing = [name for place, name in enumerate(names) if not (split.labels == place).any()]
        if part == "training" and missing and not to_measure:
            raise DataError(f"{listing.source}: {_few(missing)}: no training picture can be read")
        if len(split) == 0:
            raise DataError(f"{listing.source}: no {part} picture can be read")
        if missing:
            held_out.append(f"no {part} picture of {_few(missing)}")
    notes = [*listing.notes, *held_out, *_size_notes(pictures, image_size, fit)]
    notes += _picture_notes(files, listing.root, pictures)
    if listing.found_labels is not None:
        notes.insert(0, label_column_note(listing.found_labels, parts["training"].labels, names, key="labels"))
    notes += repeat_notes(
        pictures.repeated,
        labels=dict(zip(listed, torch.split(labels, [len(entries) for entries in listed.values()]), strict=True)),
        shown=lambda row, earlier: " = ".join(shown_file(files[place], listing.root) for place in (row, earlier)),
    )
    return RawData(
        train=parts["training"],
        development=parts.get("validation"),
        test=parts.get("test"),
        names=require_names(names, None, listing.source),
        input_range=(0.0, 255.0),
        source=listing.source,
        notes=tuple(notes),
    )


def _few(names: Sequence[str]) -> str:
    shown = ", ".join(printable(name) for name in names[:_SHOWN])
    return f"{shown} and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else shown


def _with_test(listing: Listing, test_fraction: float | None) -> tuple[Listing, list[str]]:
    """Returns the listing with a test set, and what to say of that."""
    if listing.test is not None:
        if test_fraction is not None:
            raise DataError(f"{listing.source}: has a test set of its own; leave `test_fraction` out")
        return listing, []
    labels = [label for _, label in listing.train]
    number = {name: place for place, name in enumerate(sorted(set(labels)))}
    numbers = torch.tensor([number[label] for label in labels])
    train, test, note = hold_out_test(numbers, test_fraction, where=listing.source, what="pictures")
    chosen = [[listing.train[row] for row in rows.tolist()] for rows in (train, test)]
    return replace(listing, train=chosen[0], test=chosen[1]), [note]


def _refuse_unreadable(listing: Listing, files: list[Path], pictures: PictureRows) -> None:
    reasons = sorted(f"{shown_file(files[row], listing.root)}: {why}" for row, why in pictures.unreadable.items())
    more = [f"and {len(reasons) - _SHOWN:,} more"] if len(reasons) > _SHOWN else []
    heading = (
        f"{listing.root}: {len(reasons):,} of {len(files):,} pictures cannot be read; repair them, or leave them out "
        "with --set data.skip_unreadable=true"
    )
    raise DataError("\n  ".join([heading, *(reason[:200] for reason in reasons[:_SHOWN]), *more]))


def _readable(split: Split, begin: int, pictures: PictureRows) -> Split:
    """Returns the rows of a part without the unreadable ones; without a copy where there are none."""
    if not pictures.unreadable:
        return split
    rows = [row for row in range(len(split)) if begin + row not in pictures.unreadable]
    return split if len(rows) == len(split) else split.select(torch.tensor(rows, dtype=torch.int64))


def _size_notes(pictures: PictureRows, image_size: ImageSize, fit: Fit) -> list[str]:
    """Returns which size was taken where it follows the pictures, and whether many lose most of themselves by it."""
    notes = []
    if image_size == "auto":
        side = automatic_side(pictures.typical)
        why = "the median of the training pictures' shorter sides"
        if pictures.typical != side:
            most = "most" if pictures.typical > side else "least"
            why = f"the {most} that `auto` takes ({why} is {pictures.typical:,})"
        notes.append(f"pictures become {side} x {side}, {why}; another size: --set data.image_size=NUMBER")
    number = len(pictures.pixels)
    if image_size is not None and fit == "crop" and pictures.extreme > _MANY_EXTREME * number:
        notes.append(
            f"{pictures.extreme:,} of {number:,} pictures have a side more than {EXTREME_ABOVE} times as long as the "
            "other and are cut to their middle; to keep all of them: --set data.fit=pad"
        )
    return notes


def _picture_notes(files: list[Path], root: Path, pictures: PictureRows) -> list[str]:
    notes = []
    if pictures.converted:
        what = "; ".join(f"{change}: {count:,}" for change, count in pictures.converted.items())
        notes.append(f"pictures converted: {what} (of {len(files):,})")
    if pictures.unreadable:
        rows = sorted(f"{shown_file(files[row], root)} ({why[:80]})" for row, why in pictures.unreadable.items())
        shown = ", ".join(rows[:10])
        more = f" and {len(rows) - 10:,} more" if len(rows) > 10 else ""
        notes.append(f"unreadable pictures left out: {len(rows):,} of {len(files):,}: {shown}{more}")
    return notes
