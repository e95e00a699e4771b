"""Pictures and their labels: a folder for each class (`class/name.jpg`), or a list of files."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from labelembed.data.batch import Examples
from labelembed.data.checks import printable
from labelembed.data.dataset import RawData
from labelembed.data.encoder import ReadingProgress
from labelembed.data.encoders.pictures import PictureFolder
from labelembed.data.files.labels import LabelReading, labelled, numbered
from labelembed.data.files.parts import SPLIT_WORDS, Reading, by_column, read_file
from labelembed.data.files.picture import PICTURE_SUFFIXES
from labelembed.data.files.table import Table, is_missing, missing_column
from labelembed.data.readers.pictures import LabelledPictures, PictureReader, Places
from labelembed.data.splits import PARTS
from labelembed.errors import ArgumentFaults, DataError

_PATH_WORDS = ("path", "paths", "file", "file_name", "filename", "filepath", "file_path", "image", "image_path",
               "img", "img_path", "picture")  # fmt: skip
_LABEL_WORDS = ("label", "labels", "class", "class_name", "category", "target", "y")
_SHOWN = 8

# (file, label) of pictures.
_Listed = list[tuple[Path, str]]


@dataclass(frozen=True, kw_only=True)
class ImageReader(PictureReader):
    """A folder of pictures, or a list of picture files.

    Layouts of a folder, found by looking:

    - ``class/name.jpg``: every folder is a label. There is no test set, so `test_fraction` of the pictures becomes one.
    - ``train/class/name.jpg`` and ``test/class/name.jpg``, with a validation folder (``val``, ``valid``,
      ``validation``, ``dev``) or without; where there is no test folder the validation folder takes its place.
    - ``images/class/name.jpg`` with ``meta/train.txt`` and ``meta/test.txt``, which hold ``class/name`` a line, as
      Food-101 has it.

    The names of the class folders, sorted, are the labels; a class may have folders within it. Pictures are told by
    the ending of their name in either case (PNG, JPEG, WebP, GIF, BMP, TIFF, PPM); hidden and other files are passed
    over and counted.

    A list is a CSV or TSV file with a heading, JSON lines, or parquet, with a column of paths, relative to the list's
    folder, and one of labels. A column of parts (`train`, `val`, `test`) is used as the folders of these names are.

    Pictures become uint8 [N, 3, H, W], or [N, 1, H, W] where all of them are grey; what was converted is counted in
    the notes. They are kept decoded in ``~/.cache/labelembed`` (or the folder that the environment variable
    ``LABELEMBED_CACHE`` names) and found again by their content; those of more than 2 GiB lie in a file there and are
    read as they are needed.

    Args:
        path: The folder or the list.
        paths: Of a list, column of the paths; null: the one named `path`, `file_name`, `image` or the like, or the only
            one whose values end as pictures do.
        labels: Of a list, column of the labels, texts or whole numbers; null: the one named `label` or the like.
        split: Of a list, column of the parts; null: the one named `split`, `set`, `subset` or `partition`, if any.
        delimiter: Of a list, what stands between the cells of a CSV file; null: found.
        encoding: Of a list, that of the text file; null: UTF-8, or what a byte order mark says.

    Raises:
        ValueError: An argument is out of its range.
    """

    paths: str | None = None
    labels: str | None = None
    split: str | None = None
    delimiter: str | None = None
    encoding: str | None = None

    def faults(self) -> ArgumentFaults:
        """Returns what is wrong with the arguments."""
        faults = super().faults()
        faults.faults += Reading(delimiter=self.delimiter, encoding=self.encoding).faults().faults
        return faults

    def read(self, *, to_measure: bool = False, progress: ReadingProgress | None = None) -> RawData:
        """Returns the data set.

        Raises:
            DataError: The folder has no such layout, the list cannot be read, a class has no pictures or stands in the
                test set only, the pictures have several sizes and there is no `image_size`, or some cannot be read.
        """
        return self._decoded(self.find(to_measure=to_measure), to_measure=to_measure, progress=progress)

    def find(self, *, to_measure: bool = False) -> LabelledPictures:
        """Returns the pictures with their labels, before any is decoded.

        Raises:
            DataError: As `read`.
        """
        place = Path(self.path).expanduser()
        try:
            if place.is_file():
                if place.suffix.lower() in PICTURE_SUFFIXES:
                    raise DataError(
                        f"{place}: is one picture; expected a folder of pictures, class/name.jpg, or a list of them"
                    )
                return self._of_list(place, to_measure)
            if not place.is_dir():
                raise DataError(
                    f"{place}: does not exist; expected a folder of pictures, class/name.jpg, or a list of them"
                )
            return _of_folder(place, to_measure)
        except OSError as error:
            raise DataError(f"{error.filename or place}: cannot be read ({error.strerror or error})") from None
        except ValueError as error:  # a name with a zero byte
            raise DataError(f"{str(place)!r}: cannot be read ({error})") from None

    def _of_list(self, file: Path, to_measure: bool) -> LabelledPictures:
        reading = Reading(delimiter=self.delimiter, encoding=self.encoding)
        table = read_file(file, reading)
        split = None if to_measure and self.split not in table.names else self.split
        tables = by_column(table, file, _chosen(table, "split", split, SPLIT_WORDS), to_measure)
        train = tables["train"]
        path_column = _chosen(train, "paths", self.paths, _PATH_WORDS) or _by_endings(train)
        if path_column is None:
            raise DataError(f"{file}: which column holds the paths is unclear; name it by `paths` ({train.listed()})")
        label_column = _chosen(train, "labels", self.labels, _LABEL_WORDS)
        if label_column is None:
            raise DataError(f"{file}: which column holds the labels is unclear; name it by `labels` ({train.listed()})")
        if path_column == label_column:
            raise DataError(
                f"{file}: column {path_column!r} cannot hold both paths and labels; name them by `paths` and `labels`"
            )
        for table in tables.values():
            for row, value in enumerate(table.values(path_column)):
                if not isinstance(value, str) or is_missing(value) or "\0" in value:
                    raise DataError(f"{file}: {table.place(row)} has no path in column {path_column!r}")
        how = LabelReading(key="labels", merge=False, skip_incomplete=None, to_measure=to_measure)
        stripped = {part: _stripped(table, label_column) for part, table in tables.items()}
        found, names, notes = labelled(stripped, label_column, how, file)
        others = set(train.names) - {path_column, label_column, self.split}
        return LabelledPictures(
            parts={
                part: Examples(
                    Places(file.parent / value.strip() for value in examples.inputs.values(path_column)),
                    examples.labels,
                )
                for part, examples in found.items()
            },
            names=names,
            pictures=PictureFolder(file.parent),
            where=str(file.parent),
            source=f"pictures listed in {file}",
            notes=tuple(notes),
            found_labels=label_column if self.labels is None and others else None,
        )


def holds_pictures(folder: Path) -> bool:
    """Tells whether a folder, or one within it, has a file that is called as pictures are."""
    for _, inner, names in os.walk(folder):
        inner[:] = [name for name in inner if not name.startswith(".")]
        if any(Path(name).suffix.lower() in PICTURE_SUFFIXES for name in names if not name.startswith(".")):
            return True
    return False


def _chosen(table: Table, key: str, name: str | None, words: tuple[str, ...]) -> str | None:
    if name is not None and name not in table.names:
        raise DataError(missing_column(table, key, name))
    return name or next((column for word in words for column in table.names if column.strip().lower() == word), None)


def _by_endings(table: Table) -> str | None:
    """Returns the only column in which every value ends as a picture's name does."""
    found = [
        column
        for column in table.names
        if all(Path(str(value)).suffix.lower() in PICTURE_SUFFIXES for value in table.values(column))
    ]
    return found[0] if len(found) == 1 else None


def _stripped(table: Table, column: str) -> Table:
    values = [value.strip() if isinstance(value, str) else value for value in table.values(column)]
    return replace(table, columns={**table.columns, column: values})


class _Walk:
    """What a folder holds: its pictures, by the names on the way to each, and what is passed over."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.pictures: list[tuple[str, ...]] = []
        self.others: list[str] = []
        self.folders: list[tuple[str, ...]] = []
        self.hidden = 0
        for place, inner, names in os.walk(root):
            way = Path(place).relative_to(root).parts
            shown = sorted(name for name in inner if not _is_hidden(name))
            self.hidden += len(inner) - len(shown)
            inner[:] = shown
            self.folders += [(*way, name) for name in shown]
            for name in sorted(names):
                if _is_hidden(name):
                    self.hidden += 1
                elif way and Path(name).suffix.lower() in PICTURE_SUFFIXES:
                    self.pictures.append((*way, name))
                else:
                    self.others.append(printable("/".join((*way, name))))

    def below(self, *way: str) -> _Listed:
        """Returns (file, class) of the pictures in the class folders of a folder.

        Raises:
            DataError: A class folder has none, or there is no class.
        """
        depth = len(way)
        found = [names for names in self.pictures if names[:depth] == way and len(names) > depth + 1]
        full = {names[depth] for names in found}
        empty = [names for names in self.folders if names[:-1] == way and names[depth] not in full]
        if empty:
            shown = ", ".join(printable("/".join(names)) for names in empty[:_SHOWN])
            more = f" and {len(empty) - _SHOWN} more" if len(empty) > _SHOWN else ""
            raise DataError(
                f"{self.root}: class folders without a picture: {shown}{more}; put pictures in, or remove them"
            )
        if not found:
            raise DataError(f"{self.root.joinpath(*way)}: holds no pictures; expected a folder a label: class/name.jpg")
        return [(self.root.joinpath(*names), names[depth]) for names in found]

    def notes(self) -> list[str]:
        """Returns what to say of what was passed over."""
        notes = [f"hidden files passed over: {self.hidden:,}"] if self.hidden else []
        if self.others:
            shown = ", ".join(self.others[:3]) + (", ..." if len(self.others) > 3 else "")
            notes.append(f"files that are no pictures passed over: {len(self.others):,} ({shown})")
        return notes


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _of_folder(folder: Path, to_measure: bool) -> LabelledPictures:
    notes = []
    if (folder / "images").is_dir() and (folder / "meta" / "train.txt").is_file():
        lists = {part: folder / "meta" / f"{part}.txt" for part in ("train", "test")}
        parts = {part: _listed(file, folder / "images") for part, file in lists.items() if file.is_file()}
    else:
        walk = _Walk(folder)
        tops = [names[0] for names in walk.folders if len(names) == 1]
        parted = _parts(walk, tops)
        if not tops:
            raise DataError(f"{folder}: {_what_instead(walk)}; expected a folder a label: class/name.jpg")
        top_files = [name for name in walk.others if "/" not in name]
        if not parted and len(tops) == 1 and not top_files and any(len(names) == 2 for names in walk.folders):
            return _of_folder(folder / tops[0], to_measure)  # an archive's own folder
        parts = {part: walk.below(top) for part, top in parted.items()} if parted else {"train": walk.below()}
        beside = [name for name in tops if name not in parted.values()] if parted else []
        if beside:
            notes.append(f"folders beside {parted['train']} left aside: {', '.join(beside[:_SHOWN])}")
        notes += walk.notes()
    source = f"pictures in {folder}"
    names, labels = numbered(_names(parts, source), f"{source}:", to_measure=to_measure)
    return LabelledPictures(
        parts={part: Examples(Places(file for file, _ in listed), labels[part]) for part, listed in parts.items()},
        names=names,
        pictures=PictureFolder(folder),
        where=str(folder),
        source=source,
        notes=tuple(notes),
    )


def _names(parts: Mapping[str, _Listed], source: str) -> dict[str, list[str]]:
    """Returns the name of each picture's label by part."""
    names = {part: [label for _, label in listed] for part, listed in parts.items()}
    for name in {name for of_part in names.values() for name in of_part}:
        try:
            name.encode()
        except UnicodeEncodeError:  # bytes of a file's name that are no UTF-8, which no file of a run could hold
            raise DataError(f"{source}: the label {name!r} is no valid text; rename it") from None
    return names


def _parts(walk: _Walk, tops: list[str]) -> dict[str, str]:
    """Returns the folders of the parts; nothing where `train` holds no folders and so is a label of its own."""
    parts: dict[str, str] = {}
    for name in tops:
        part = PARTS.get(name.lower())
        if part is None:
            continue
        if part in parts:
            raise DataError(f"{walk.root}: both {parts[part]} and {name} can be the {part} set; keep one")
        parts[part] = name
    has_classes = any(len(names) == 2 and names[0] == parts.get("train") for names in walk.folders)
    return parts if has_classes else {}


def _what_instead(walk: _Walk) -> str:
    pictures = [name for name in walk.others if Path(name).suffix.lower() in PICTURE_SUFFIXES]
    if pictures:
        return f"holds {len(pictures):,} pictures but no folders, so nothing says what their labels are"
    return f"holds no folders but {', '.join(walk.others[:5])}" if walk.others else "is empty"


def _listed(file: Path, images: Path) -> _Listed:
    """Returns (file, class) of the lines ``class/name`` of a list, the ending of the name left out or not."""
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: expected UTF-8 ({error})") from None
    found = []
    for number, line in enumerate(lines, start=1):
        name = line.strip()
        if not name:
            continue
        parts = name.split("/")
        if len(parts) < 2 or "\0" in name or any(part in ("", ".", "..") for part in parts):
            raise DataError(f"{file}: line {number} is {name[:80]!r}; expected class/name")
        plain = Path(name).suffix.lower() in PICTURE_SUFFIXES
        found.append((images / (name if plain else f"{name}.jpg"), parts[0]))
    if not found:
        raise DataError(f"{file}: names no picture; expected lines of class/name")
    return found
