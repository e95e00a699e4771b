"""From a listing of pictures and labels to a data set: the one way for folders, lists of files and parquet files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from labelembed.data.batch import Split
from labelembed.data.checks import printable, require_names
from labelembed.data.data_notes import label_column_note, repeat_notes
from labelembed.data.dataset import RawData
from labelembed.data.encoders.pictures import (
    DecodedPictures,
    PictureSource,
    ReadingProgress,
    cached_gradient_histograms,
    decode_pictures,
)
from labelembed.data.files.labels import ordered_names
from labelembed.data.files.picture import EXTREME_ABOVE, FITS, Fit, ImageSize, automatic_side
from labelembed.data.splits import NO_TEST_NOTE, hold_out_test, share_faults, validation_and_test
from labelembed.errors import ArgumentFaults, DataError

Features = Literal["pixels", "gradient_histograms"]
#: Where a picture lies (see `PictureSource`), and the name of its label.
Entry = tuple[Any, str]

_SHOWN = 8
# Of pictures of an extreme shape a larger share is noted.
_MANY_EXTREME = 0.1


@dataclass(frozen=True, kw_only=True)
class Listing:
    """Pictures and the names of their labels.

    Attributes:
        parts: (place, label) of every picture by part: `train`, and `validation` and `test` where there are such.
        pictures: Where they lie.
        where: File or folder, for messages.
        source: What the data are, for messages and reports.
        notes: What the user should know of the files.
        names: The labels' names in order; None: those of the training pictures, sorted.
        found_labels: The column that the labels were found in, where others could be meant; None: none could.
    """

    parts: dict[str, list[Entry]]
    pictures: PictureSource
    where: str
    source: str
    notes: tuple[str, ...] = ()
    names: Sequence[str] | None = None
    found_labels: str | None = None


@dataclass(frozen=True, kw_only=True)
class PictureReading:
    """How pictures are read.

    Attributes:
        image_size: Height and width that they are brought to, see `ImageSize`.
        fit: How, see `fitted`.
        features: Their pixels, or fixed features of them.
        test_fraction: Part of them that becomes the test set where there is none; None: 0.2.
        skip_unreadable: Leave out those that cannot be read, with a note, instead of refusing the data.
        to_measure: They are for a finished run to measure: none are held out, and any label will do.
        progress: Called with (done, total) while they are decoded.
    """

    image_size: ImageSize = None
    fit: Fit = "crop"
    features: Features = "pixels"
    test_fraction: float | None = None
    skip_unreadable: bool = False
    to_measure: bool = False
    progress: ReadingProgress | None = field(default=None, compare=False)

    def faults(self) -> ArgumentFaults:
        """Returns what is wrong with it."""
        faults = share_faults(self.test_fraction)
        faults.choice("fit", self.fit, FITS)
        faults.choice("features", self.features, ("pixels", "gradient_histograms"))
        size = self.image_size
        known = size in (None, "auto") or (isinstance(size, int) and not isinstance(size, bool) and 1 <= size <= 4096)
        faults.require(known, "image_size", size, "must be a whole number of 1 to 4096, or 'auto'")
        return faults


def read_listing(listing: Listing, how: PictureReading) -> RawData:
    """Returns the data set of a listing of pictures.

    Labels are numbered in the order of their names (as numbers where all are whole numbers).

    Raises:
        DataError: There is no picture, a label has no training picture, pictures cannot be read, or they have several
            sizes and there is no `image_size`.
    """
    parts, notes = _with_roles(listing, how)
    names = _label_names(listing, parts, how)
    number = {name: place for place, name in enumerate(names)}
    entries = [entry for part in parts.values() for entry in part]
    places = [place for place, _ in entries]
    found = decode_pictures(
        listing.pictures,
        places,
        where=listing.where,
        trained=len(parts["training"]),
        image_size=how.image_size,
        fit=how.fit,
        progress=how.progress,
    )
    if found.unreadable and not how.skip_unreadable:
        _refuse_unreadable(listing, places, found)
    inputs = found.pixels
    if how.features == "gradient_histograms":
        inputs = cached_gradient_histograms(inputs, listing.where)
    labels = torch.tensor([number[label] for _, label in entries], dtype=torch.int64)
    splits: dict[str, Split] = {}
    begin = 0
    for part, of_part in parts.items():
        chosen = slice(begin, begin + len(of_part))
        split = _readable(Split(torch.from_numpy(inputs[chosen]), labels[chosen]), begin, found)
        if len(split) == 0:
            raise DataError(f"{listing.source}: no {part} picture can be read")
        missing = [name for place, name in enumerate(names) if not (split.labels == place).any()]
        if missing and part == "training" and listing.names is None and not how.to_measure:
            raise DataError(f"{listing.source}: {_few(missing)}: no training picture can be read")
        if missing and part != "training":
            notes.append(f"no {part} picture of {_few(missing)}")
        splits[part] = split
        begin = chosen.stop
    notes += [*_size_notes(found, how), *_picture_notes(listing, places, found)]
    if listing.found_labels is not None:
        notes.insert(0, label_column_note(listing.found_labels, splits["training"].labels, names, key="labels"))
    notes += repeat_notes(
        found.repeated,
        labels=dict(zip(parts, torch.split(labels, [len(part) for part in parts.values()]), strict=True)),
        shown=lambda index, earlier: " = ".join(listing.pictures.shown(places[place]) for place in (index, earlier)),
    )
    return RawData(
        train=splits["training"],
        validation=splits.get("validation"),
        test=splits.get("test"),
        names=require_names(names, None, listing.source),
        input_range=(0.0, 255.0) if how.features == "pixels" else None,
        source=listing.source,
        notes=tuple(notes),
    )


def _with_roles(listing: Listing, how: PictureReading) -> tuple[dict[str, list[Entry]], list[str]]:
    """Returns the pictures by what they are used for, with a test set held out where there is none, and the notes."""
    notes = list(listing.notes)
    validation, test = validation_and_test(listing.parts)
    if validation is None and "validation" in listing.parts:
        notes.append(NO_TEST_NOTE)
    train = listing.parts["train"]
    if test is not None and how.test_fraction is not None:
        raise DataError(f"{listing.source}: has a test set of its own; leave `test_fraction` out")
    if test is None and not how.to_measure:
        numbers: dict[str, int] = {}
        labels = torch.tensor([numbers.setdefault(label, len(numbers)) for _, label in train])
        rows = hold_out_test(labels, how.test_fraction, where=listing.source, what="pictures")
        train, test = ([train[row] for row in chosen.tolist()] for chosen in rows[:2])
        notes.append(rows[2])
    return {
        part: entries for part, entries in (("training", train), ("validation", validation), ("test", test)) if entries
    }, notes


def _label_names(listing: Listing, parts: dict[str, list[Entry]], how: PictureReading) -> list[str]:
    decided_by = parts.values() if how.to_measure else [parts["training"]]
    names = list(listing.names or ordered_names({label for entries in decided_by for _, label in entries}))
    if len(names) < 2 and not how.to_measure:
        raise DataError(f"{listing.source}: has one label only, {names[0]!r}; there is nothing to tell apart")
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError:  # bytes of a file's name that are no UTF-8, which no file of a run could hold
            raise DataError(f"{listing.source}: the label {name!r} is no valid text; rename it") from None
    for part, entries in parts.items():
        unknown = sorted({label for _, label in entries} - set(names))
        if unknown:
            raise DataError(
                f"{listing.source}: {_few(unknown)}: no training picture, only {part} pictures; the training set has "
                f"{_few(names)}"
            )
    return names


def _few(names: Sequence[str]) -> str:
    shown = ", ".join(printable(name) for name in names[:_SHOWN])
    return f"{shown} and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else shown


def _refuse_unreadable(listing: Listing, places: Sequence[Any], found: DecodedPictures) -> None:
    reasons = sorted(f"{listing.pictures.shown(places[index])}: {why}" for index, why in found.unreadable.items())
    more = [f"and {len(reasons) - _SHOWN:,} more"] if len(reasons) > _SHOWN else []
    heading = (
        f"{listing.where}: {len(reasons):,} of {len(places):,} pictures cannot be read; repair them, or leave them out "
        "with --set data.skip_unreadable=true"
    )
    raise DataError("\n  ".join([heading, *(reason[:200] for reason in reasons[:_SHOWN]), *more]))


def _readable(split: Split, begin: int, found: DecodedPictures) -> Split:
    """Returns the examples of a part without the unreadable ones; without a copy where there are none."""
    kept = [index for index in range(len(split)) if begin + index not in found.unreadable]
    return split if len(kept) == len(split) else split.select(torch.tensor(kept, dtype=torch.int64))


def _size_notes(found: DecodedPictures, how: PictureReading) -> list[str]:
    """Returns which size was taken where it follows the pictures, and whether many lose most of themselves by it."""
    notes = []
    if how.image_size == "auto":
        side = automatic_side(found.typical)
        why = "the median of the training pictures' shorter sides"
        if found.typical != side:
            most = "most" if found.typical > side else "least"
            why = f"the {most} that `auto` takes ({why} is {found.typical:,})"
        notes.append(f"pictures become {side} x {side}, {why}; another size: --set data.image_size=NUMBER")
    number = len(found.pixels)
    if how.image_size is not None and how.fit == "crop" and found.extreme > _MANY_EXTREME * number:
        notes.append(
            f"{found.extreme:,} of {number:,} pictures have a side more than {EXTREME_ABOVE} times as long as the "
            "other and are cut to their middle; to keep all of them: --set data.fit=pad"
        )
    return notes


def _picture_notes(listing: Listing, places: Sequence[Any], found: DecodedPictures) -> list[str]:
    notes = []
    if found.converted:
        what = "; ".join(f"{change}: {count:,}" for change, count in found.converted.items())
        notes.append(f"pictures converted: {what} (of {len(places):,})")
    if found.unreadable:
        reasons = found.unreadable.items()
        rows = sorted(f"{listing.pictures.shown(places[index])} ({why[:80]})" for index, why in reasons)
        more = f" and {len(rows) - 10:,} more" if len(rows) > 10 else ""
        left_out = f"unreadable pictures left out: {len(rows):,} of {len(places):,}"
        notes.append(f"{left_out}: {', '.join(rows[:10])}{more}")
    return notes
