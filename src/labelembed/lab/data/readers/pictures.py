"""Pictures and their labels, decoded: the one way for folders, lists of files and columns of pictures."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from labelembed.errors import ArgumentErrors, DataError
from labelembed.lab.data.arrays import ArrayReader
from labelembed.lab.data.batch import Examples, Split
from labelembed.lab.data.checks import few, require_names
from labelembed.lab.data.columns import LabelReading, labelled
from labelembed.lab.data.data_notes import label_column_note, repeat_notes
from labelembed.lab.data.dataset import RawData
from labelembed.lab.data.encoder import ReadingProgress
from labelembed.lab.data.encoders.pictures import (
    DecodedPictures,
    PictureSource,
    cached_gradient_histograms,
    decode_pictures,
)
from labelembed.lab.data.files.picture import EXTREME_ABOVE, FITS, Fit, ImageSize, automatic_side
from labelembed.lab.data.splits import assigned, display_name, fraction_errors
from labelembed.lab.data.tables import Parts

Features = Literal["pixels", "gradient_histograms"]

# Of pictures of an extreme shape a larger share is noted.
_MANY_EXTREME = 0.1


class Places(tuple[Any, ...]):
    """Where pictures lie, see `PictureSource`."""

    def select(self, indices: Tensor) -> Places:
        """Returns those at these positions [M] (int64)."""
        return Places(self[index] for index in indices.tolist())


@dataclass(frozen=True, kw_only=True)
class LabelledPictures:
    """Pictures and their labels, before any is decoded.

    Attributes:
        parts: `train`, and `validation` and `test` where there are such; their inputs are `Places`.
        names: Names of the labels 0, 1, ...
        pictures: Where they lie.
        where: File or folder, for messages.
        source: What the data are, for messages and reports.
        notes: What the user should know of the files.
        label_column: The column of the labels; None: not of a table.
        found_labels: The column that the labels were found in, where others could be meant; None: none could.
    """

    parts: Mapping[str, Examples]
    names: tuple[str, ...]
    pictures: PictureSource
    where: str
    source: str
    notes: tuple[str, ...] = ()
    label_column: str | None = None
    found_labels: str | None = None

    def __len__(self) -> int:
        return sum(map(len, self.parts.values()))


def labelled_rows(
    tables: Parts, label: str, source: Path, *, to_evaluate: bool
) -> tuple[dict[str, Examples], tuple[str, ...], list[str]]:
    """Returns the examples of tables with their labels, as `labelled` does, by the rules of all readers of pictures.

    Spaces around a label are no part of it; an example without one is refused.
    """
    tables = {
        part: replace(table, frame=table.frame.assign(**{label: [_stripped(value) for value in table.values(label)]}))
        if label in table.names
        else table
        for part, table in tables.items()
    }
    how = LabelReading(key="labels", merge=False, skip_incomplete=None, to_evaluate=to_evaluate)
    return labelled(tables, label, how, source)


def _stripped(value: Any) -> Any:
    return value.strip() if isinstance(value, str) else value


@dataclass(frozen=True, kw_only=True)
class PictureReader(ArrayReader):
    """What the readers of pictures share.

    Args:
        path: The folder or the file.
        image_size: Height and width that pictures are brought to; auto: the median of the training pictures' shorter
            sides, but 16 to 64; null: they all have one size.
        fit: Where their proportions are others: `crop`, the middle; `stretch`; `pad`, black borders.
        test_fraction: Share of the examples that becomes the test set where there is none; null: 0.2.
        skip_unreadable: Leave out pictures that cannot be read, with a note, instead of refusing the data.
        input_shape: (channels, height, width) of a run that is to evaluate the pictures; None: as the training
            pictures are.
    """

    path: str
    image_size: ImageSize = None
    fit: Fit = "crop"
    test_fraction: float | None = None
    skip_unreadable: bool = False
    input_shape: tuple[int, ...] | None = None

    def errors(self) -> ArgumentErrors:
        """Returns what is wrong with the arguments."""
        errors = fraction_errors(self.test_fraction)
        errors.choice("fit", self.fit, FITS)
        size = self.image_size
        known = size in (None, "auto") or (isinstance(size, int) and not isinstance(size, bool) and 1 <= size <= 4096)
        errors.require(known, "image_size", size, "must be a whole number of 1 to 4096, or 'auto'")
        return errors

    @property
    def fit_of_new(self) -> Fit | None:
        """How new pictures are brought to the size of the training pictures; None where these had it."""
        return None if self.image_size is None else self.fit

    @abstractmethod
    def find(self, *, to_evaluate: bool = False) -> LabelledPictures:
        """Returns the pictures with their labels, before any is decoded.

        Raises:
            DataError: They cannot be found, or what their labels are.
        """

    def read(self, *, to_evaluate: bool = False, progress: ReadingProgress | None = None) -> RawData:
        """Returns the data set; `find` says what is refused, and so are pictures that cannot be read."""
        return self.decoded(self.find(to_evaluate=to_evaluate), to_evaluate=to_evaluate, progress=progress)

    def decoded(
        self,
        found: LabelledPictures,
        *,
        to_evaluate: bool,
        progress: ReadingProgress | None,
        features: Features = "pixels",
    ) -> RawData:
        """Returns the data set of pictures, decoded.

        Raises:
            DataError: A label has no training picture, pictures cannot be read, or they have several sizes and there
                is no `image_size`.
        """
        parts, more = assigned(found.parts, self.test_fraction, source=found.source, to_evaluate=to_evaluate)
        notes = [*found.notes, *more]
        places = [place for part in parts.values() for place in part.inputs]
        decoded = decode_pictures(
            found.pictures,
            places,
            where=found.where,
            trained=len(parts["train"]),
            image_size=self.image_size,
            fit=self.fit,
            channels=None if self.input_shape is None else self.input_shape[0],
            progress=progress,
        )
        shown = {index: found.pictures.shown(places[index]) for index in decoded.unreadable}
        if shown and not self.skip_unreadable:
            raise DataError(_refusal(found.where, shown, decoded, len(places)))
        inputs = torch.from_numpy(
            decoded.pixels if features == "pixels" else cached_gradient_histograms(decoded.pixels, found.where)
        )
        splits: dict[str, Examples] = {}
        begin = 0
        for name, part in parts.items():
            split = Split(inputs[begin : begin + len(part)], part.labels)
            kept = [index for index in range(len(part)) if begin + index not in shown]
            splits[name] = split if len(kept) == len(part) else split.select(torch.tensor(kept, dtype=torch.int64))
            begin += len(part)
            if not kept:
                raise DataError(f"{found.source}: no {display_name(name)} picture can be read")
            left = set(splits[name].labels.tolist())
            lost = [found.names[label] for label in sorted(set(part.labels.tolist()) - left)]
            if lost and name == "train" and not to_evaluate:
                raise DataError(f"{found.source}: {few(lost)}: no training picture can be read")
            without = [label for place, label in enumerate(found.names) if place not in left]
            if without and name != "train":
                notes.append(f"no {name} picture of {few(without)}")
        notes += self._size_notes(decoded)
        if decoded.converted:
            what = "; ".join(f"{change}: {count:,}" for change, count in decoded.converted.items())
            notes.append(f"pictures converted: {what} (of {len(places):,})")
        if shown:
            reasons = sorted(f"{name} ({decoded.unreadable[index][:80]})" for index, name in shown.items())
            notes.append(f"unreadable pictures left out: {len(shown):,} of {len(places):,}: {few(reasons)}")
        if found.found_labels is not None:
            notes.insert(0, label_column_note(found.found_labels, splits["train"].labels, found.names, key="labels"))
        notes += repeat_notes(
            decoded.repeated,
            labels={display_name(name): part.labels for name, part in parts.items()},
            shown=lambda index, earlier: " = ".join(found.pictures.shown(places[place]) for place in (index, earlier)),
        )
        return RawData(
            parts=splits,
            names=require_names(found.names, None, found.source),
            input_range=(0.0, 255.0) if features == "pixels" else None,
            source=found.source,
            notes=tuple(notes),
            label_column=found.label_column,
        )

    def _size_notes(self, found: DecodedPictures) -> list[str]:
        """Returns which size was taken where it follows the pictures, and whether many lose most of themselves."""
        notes = []
        if self.image_size == "auto":
            side = automatic_side(found.typical)
            why = "the median of the training pictures' shorter sides"
            if found.typical != side:
                most = "most" if found.typical > side else "least"
                why = f"the {most} that `auto` takes ({why} is {found.typical:,})"
            notes.append(f"pictures become {side} x {side}, {why}; another size: --set data.image_size=NUMBER")
        number = len(found.pixels)
        if self.image_size is not None and self.fit == "crop" and found.extreme > _MANY_EXTREME * number:
            notes.append(
                f"{found.extreme:,} of {number:,} pictures have a side more than {EXTREME_ABOVE} times as long as the "
                "other and are cut to their middle; to keep all of them: --set data.fit=pad"
            )
        return notes


def _refusal(where: str, shown: Mapping[int, str], decoded: DecodedPictures, of: int) -> str:
    reasons = sorted(f"{name}: {decoded.unreadable[index]}" for index, name in shown.items())
    more = [f"and {len(reasons) - 8:,} more"] if len(reasons) > 8 else []
    heading = (
        f"{where}: {len(reasons):,} of {of:,} pictures cannot be read; repair them, or leave them out "
        "with --set data.skip_unreadable=true"
    )
    return "\n  ".join([heading, *(reason[:200] for reason in reasons[:8]), *more])
