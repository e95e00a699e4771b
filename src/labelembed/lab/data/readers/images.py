"""Pictures and their labels: a folder for each class (`class/name.jpg`), or a list of files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from labelembed.errors import ArgumentErrors, DataError
from labelembed.lab.data.batch import Examples
from labelembed.lab.data.checks import few, printable
from labelembed.lab.data.columns import find_label, numbered
from labelembed.lab.data.encoders.pictures import PictureFolder
from labelembed.lab.data.files.picture import PICTURE_SUFFIXES
from labelembed.lab.data.readers.pictures import LabelledPictures, PictureReader, Places, labelled_rows
from labelembed.lab.data.splits import PARTS
from labelembed.lab.data.table_files import Reading, Table, is_missing
from labelembed.lab.data.tables import Parts, read_parts

_PATH_WORDS = ("path", "paths", "file", "file_name", "filename", "filepath", "file_path", "image", "image_path",
               "img", "img_path", "picture")  # fmt: skip
_LOOKED_AT = 2_000

# (file, label) of pictures.
_Listed = list[tuple[Path, str]]


@dataclass(frozen=True, kw_only=True)
class ImageReader(PictureReader):
    """A folder of pictures, or a list of picture files.

    Layouts of a folder, found by looking:

    - ``class/name.jpg``: every folder is a label. There is no test set, so `test_fraction` of the pictures becomes one.
    - ``train/class/name.jpg`` and ``test/class/name.jpg``, with a validation folder (``val``, ``valid``,
      ``validation``, ``dev``) or without; where there is no test folder the validation folder takes its place.

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

    def errors(self) -> ArgumentErrors:
        """Returns what is wrong with the arguments."""
        errors = super().errors()
        errors.errors += Reading(delimiter=self.delimiter, encoding=self.encoding).errors().errors
        return errors

    def find(self, *, to_evaluate: bool = False) -> LabelledPictures:
        """Returns the pictures with their labels, before any is decoded.

        Raises:
            DataError: The folder has no such layout, the list cannot be read, or a class has no pictures or stands in
                the test set only.
        """
        place = Path(self.path).expanduser()
        try:
            if place.is_dir():
                return _of_folder(place, to_evaluate)
            if not place.exists() or _is_picture(place.name):
                there = "is one picture" if place.exists() else "does not exist"
                raise DataError(f"{place}: {there}; expected a folder of pictures, class/name.jpg, or a list of them")
        except (OSError, ValueError) as error:  # ValueError: a name with a zero byte
            raise DataError(f"{str(place)!r}: cannot be read ({error})") from None
        reading = Reading(delimiter=self.delimiter, encoding=self.encoding)
        return self._of_list(place, read_parts(place, reading, split=self.split, to_evaluate=to_evaluate), to_evaluate)

    def _of_list(self, file: Path, tables: Parts, to_evaluate: bool) -> LabelledPictures:
        train = tables["train"]
        paths = self._path_column(train)
        label = find_label(train, self.labels, key="labels", without=[paths])
        if paths == label:
            raise DataError(
                f"{file}: column {paths!r} cannot hold both paths and labels; name them by `paths` and `labels`"
            )
        for table in tables.values():
            for row, value in enumerate(table.values(paths)):
                if not isinstance(value, str) or is_missing(value) or "\0" in value:
                    raise DataError(f"{file}: {table.place(row)} has no path in column {paths!r}")
        found, names, notes = labelled_rows(tables, label, file, to_evaluate=to_evaluate)
        places = {
            part: Places(file.parent / value.strip() for value in examples.inputs.values(paths))
            for part, examples in found.items()
        }
        return LabelledPictures(
            parts={part: Examples(places[part], examples.labels) for part, examples in found.items()},
            names=names,
            pictures=PictureFolder(file.parent),
            where=str(file.parent),
            source=f"pictures listed in {file}",
            notes=tuple(notes),
            label_column=label,
            found_labels=label if self.labels is None and set(train.names) - {paths, label, self.split} else None,
        )

    def _path_column(self, table: Table) -> str:
        if self.paths is not None and self.paths not in table.names:
            raise DataError(table.missing_column("paths", self.paths))
        named = [name for word in _PATH_WORDS for name in table.names if name.strip().lower() == word]
        by_ending = [name for name in table.names if _is_picture_column(table, name)]
        found = self.paths or next(iter(named), None) or (by_ending[0] if len(by_ending) == 1 else None)
        if found is None:
            raise DataError(
                f"{table.source}: which column holds the paths is unclear; name it by `paths` ({table.listed()})"
            )
        return found


def _is_picture_column(table: Table, name: str) -> bool:
    """Tells whether the values of a column end as the names of pictures do."""
    values = [value for value in table.values(name)[:_LOOKED_AT] if not is_missing(value)]
    return bool(values) and all(isinstance(value, str) and _is_picture(value.strip()) for value in values)


def _is_picture(name: str) -> bool:
    return Path(name).suffix.lower() in PICTURE_SUFFIXES


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


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
            self.hidden += len(inner) - len(shown) + sum(map(_is_hidden, names))
            inner[:] = shown
            self.folders += [(*way, name) for name in shown]
            for name in sorted(name for name in names if not _is_hidden(name)):
                if way and _is_picture(name):
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
        empty = ["/".join(names) for names in self.folders if names[:-1] == way and names[depth] not in full]
        if empty:
            raise DataError(
                f"{self.root}: class folders without a picture: {few(empty)}; put pictures in, or remove them"
            )
        if not found:
            raise DataError(f"{self.root.joinpath(*way)}: holds no pictures; expected a folder a label: class/name.jpg")
        return [(self.root.joinpath(*names), names[depth]) for names in found]

    def parts(self, tops: Sequence[str]) -> dict[str, str]:
        """Returns the folders of the parts; nothing where `train` holds no folders and so is a label of its own."""
        parts: dict[str, str] = {}
        for name in tops:
            part = PARTS.get(name.lower())
            if part in parts:
                raise DataError(f"{self.root}: both {parts[part]} and {name} can be the {part} set; keep one")
            if part is not None:
                parts[part] = name
        has_classes = any(len(names) == 2 and names[0] == parts.get("train") for names in self.folders)
        return parts if has_classes else {}

    def notes(self) -> list[str]:
        """Returns what to say of what was passed over."""
        notes = [f"hidden files skipped: {self.hidden:,}"] if self.hidden else []
        if self.others:
            shown = ", ".join(self.others[:3]) + (", ..." if len(self.others) > 3 else "")
            notes.append(f"files that are no pictures skipped: {len(self.others):,} ({shown})")
        return notes

    def instead(self) -> str:
        """Returns what a folder without folders holds."""
        pictures = [name for name in self.others if _is_picture(name)]
        if pictures:
            return f"holds {len(pictures):,} pictures but no folders, so nothing says what their labels are"
        return f"holds no folders but {', '.join(self.others[:5])}" if self.others else "is empty"


def _of_folder(folder: Path, to_evaluate: bool) -> LabelledPictures:
    notes = []
    walk = _Walk(folder)
    tops = [names[0] for names in walk.folders if len(names) == 1]
    if not tops:
        raise DataError(f"{folder}: {walk.instead()}; expected a folder a label: class/name.jpg")
    parted = walk.parts(tops)
    is_alone = not parted and len(tops) == 1 and all("/" in name for name in walk.others)
    if is_alone and any(len(names) == 2 for names in walk.folders):
        return _of_folder(folder / tops[0], to_evaluate)  # an archive's own folder
    parts = {part: walk.below(top) for part, top in parted.items()} if parted else {"train": walk.below()}
    beside = [name for name in tops if name not in parted.values()] if parted else []
    if beside:
        notes.append(f"folders beside {parted['train']} ignored: {few(beside)}")
    notes += walk.notes()
    source = f"pictures in {folder}"
    label_names = {part: [label for _, label in listed] for part, listed in parts.items()}
    for name in {name for names in label_names.values() for name in names}:
        if name != name.encode(errors="replace").decode():  # bytes that are no UTF-8, which no file of a run could hold
            raise DataError(f"{source}: the label {name!r} is no valid text; rename it")
    names, labels = numbered(label_names, f"{source}:", to_evaluate=to_evaluate)
    return LabelledPictures(
        parts={part: Examples(Places(file for file, _ in listed), labels[part]) for part, listed in parts.items()},
        names=names,
        pictures=PictureFolder(folder),
        where=str(folder),
        source=source,
        notes=tuple(notes),
    )
