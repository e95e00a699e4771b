"""Pictures and their labels: a folder for each class (`class/name.jpg`), or a list of files."""

from __future__ import annotations

import os
from pathlib import Path

from labelembed.data.checks import printable
from labelembed.data.dataset import RawData
from labelembed.data.encoders.pictures import PictureFolder, ReadingProgress
from labelembed.data.files.parts import Reading
from labelembed.data.files.picture import PICTURE_SUFFIXES, Fit, ImageSize
from labelembed.data.readers.image_list import read_list
from labelembed.data.readers.picture_data import Entry, Listing, PictureReading, read_listing
from labelembed.data.splits import PARTS
from labelembed.errors import DataError

_SHOWN = 8


def read_images(
    *,
    path: str,
    image_size: ImageSize = None,
    fit: Fit = "crop",
    test_fraction: float | None = None,
    skip_unreadable: bool = False,
    paths: str | None = None,
    labels: str | None = None,
    split: str | None = None,
    delimiter: str | None = None,
    encoding: str | None = None,
    to_measure: bool = False,
    progress: ReadingProgress | None = None,
) -> RawData:
    """Returns the data set of a folder of pictures, or of a list of picture files.

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
        image_size: Height and width that pictures are brought to; auto: the median of the training pictures' shorter
            sides, but 16 to 64; null: they all have one size.
        fit: Where their proportions are others: `crop`, the middle; `stretch`; `pad`, black borders.
        test_fraction: Part of the pictures that becomes the test set where there is none; null: 0.2.
        skip_unreadable: Leave out pictures that cannot be read, with a note, instead of refusing the data.
        paths: Of a list, column of the paths; null: the one named `path`, `file_name`, `image` or the like, or the only
            one whose values end as pictures do.
        labels: Of a list, column of the labels, texts or whole numbers; null: the one named `label` or the like.
        split: Of a list, column of the parts; null: the one named `split`, `set`, `subset` or `partition`, if any.
        delimiter: Of a list, what stands between the cells of a CSV file; null: found.
        encoding: Of a list, that of the text file; null: UTF-8, or what a byte order mark says.
        to_measure: The pictures are for a finished run to measure: none are held out for a test, and any label will do.
        progress: Called with (done, total) while pictures are decoded.

    Raises:
        DataError: The folder has no such layout, the list cannot be read, a class has no pictures or stands in the test
            set only, the pictures have several sizes and there is no `image_size`, or some cannot be read.
        ValueError: An argument is out of its range.
    """
    how = PictureReading(
        image_size=image_size,
        fit=fit,
        test_fraction=test_fraction,
        skip_unreadable=skip_unreadable,
        to_measure=to_measure,
        progress=progress,
    )
    reading = Reading(delimiter=delimiter, encoding=encoding)
    faults = how.faults()
    faults.faults += reading.faults().faults
    faults.raise_if_any()
    place = Path(path).expanduser()
    try:
        is_list = place.is_file()
    except (OSError, ValueError) as error:  # a name too long for the system, or with a zero byte
        raise DataError(f"{str(place)!r}: cannot be read ({error})") from None
    if is_list and place.suffix.lower() in PICTURE_SUFFIXES:
        raise DataError(f"{place}: is one picture; expected a folder of pictures, class/name.jpg, or a list of them")
    if is_list:
        listing = read_list(place, reading=reading, paths=paths, labels=labels, split=split, to_measure=to_measure)
    else:
        listing = find_images(place)
    return read_listing(listing, how)


def find_images(folder: Path) -> Listing:
    """Returns the pictures of a folder with their labels; see `read_images`.

    Raises:
        DataError: The folder is missing or has none of the layouts, or a class has no pictures.
    """
    try:
        if not folder.is_dir():
            raise DataError(
                f"{folder}: does not exist; expected a folder of pictures, class/name.jpg, or a list of them"
            )
        return _of_folder(folder)
    except OSError as error:
        raise DataError(f"{error.filename or folder}: cannot be read ({error.strerror or error})") from None


def holds_pictures(folder: Path) -> bool:
    """Tells whether a folder, or one within it, has a file that is called as pictures are."""
    for _, inner, names in os.walk(folder):
        inner[:] = [name for name in inner if not name.startswith(".")]
        if any(Path(name).suffix.lower() in PICTURE_SUFFIXES for name in names if not name.startswith(".")):
            return True
    return False


class _Search:
    """Collects pictures, and counts what is passed over."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.hidden: set[Path] = set()
        self.others: dict[str, None] = {}
        self.notes: list[str] = []

    def folders(self, place: Path) -> list[Path]:
        """Returns the folders in a folder, sorted, without hidden ones; files there are counted as passed over."""
        found = []
        for entry in sorted(place.iterdir()):
            if entry.is_dir() and entry.name != "__MACOSX" and not entry.name.startswith("."):
                found.append(entry)
            else:
                self.passed_over(entry)
        return found

    def passed_over(self, entry: Path) -> None:
        """Counts a file that is no picture in its place."""
        if entry.name.startswith(".") or entry.name == "__MACOSX":
            self.hidden.add(entry)
        else:
            self.others[printable(entry.relative_to(self.root).as_posix())] = None

    def classes(self, place: Path) -> list[Entry]:
        """Returns (file, class) of all pictures in the class folders of a folder.

        Raises:
            DataError: A class folder has none.
        """
        found: list[Entry] = []
        empty = []
        for folder in self.folders(place):
            pictures = self.pictures(folder)
            found += [(picture, folder.name) for picture in pictures]
            if not pictures:
                empty.append(printable(folder.relative_to(self.root).as_posix()))
        if empty:
            more = f" and {len(empty) - _SHOWN} more" if len(empty) > _SHOWN else ""
            raise DataError(
                f"{self.root}: class folders without a picture: {', '.join(empty[:_SHOWN])}{more}; put pictures in, or "
                "remove them"
            )
        return found

    def pictures(self, folder: Path) -> list[Path]:
        """Returns the pictures in a folder and the folders within it, sorted."""
        found = []
        for place, inner, names in os.walk(folder):
            inner[:] = sorted(name for name in inner if not name.startswith("."))
            for name in sorted(names):
                entry = Path(place, name)
                if entry.suffix.lower() in PICTURE_SUFFIXES and not name.startswith("."):
                    found.append(entry)
                else:
                    self.passed_over(entry)
        return found

    def all_notes(self) -> tuple[str, ...]:
        """Returns the notes, with what was passed over."""
        notes = list(self.notes)
        if self.hidden:
            notes.append(f"hidden files passed over: {len(self.hidden):,}")
        if self.others:
            shown = ", ".join(list(self.others)[:3]) + (", ..." if len(self.others) > 3 else "")
            notes.append(f"files that are no pictures passed over: {len(self.others):,} ({shown})")
        return tuple(notes)


def _of_folder(folder: Path) -> Listing:
    search = _Search(folder)
    parts: dict[str, list[Entry]] = {}
    if (folder / "images").is_dir() and (folder / "meta" / "train.txt").is_file():
        lists = {part: folder / "meta" / f"{part}.txt" for part in ("train", "test")}
        parts = {part: _listed(file, folder / "images") for part, file in lists.items() if file.is_file()}
    else:
        tops = search.folders(folder)
        places = _parts(folder, tops)
        if places:
            others = [entry.name for entry in tops if entry not in places.values()]
            if others:
                search.notes.append(f"folders beside {places['train'].name} left aside: {', '.join(others[:_SHOWN])}")
        elif not tops:
            raise DataError(f"{folder}: {_what_instead(search)}; expected a folder a label: class/name.jpg")
        elif len(tops) == 1 and not search.others and any(entry.is_dir() for entry in tops[0].iterdir()):
            return _of_folder(tops[0])  # an archive's own folder
        for part, place in (places or {"train": folder}).items():
            parts[part] = search.classes(place)
            if not parts[part]:
                raise DataError(f"{place}: holds no pictures; expected a folder a label: class/name.jpg")
    return Listing(
        parts=parts,
        pictures=PictureFolder(folder),
        where=str(folder),
        source=f"pictures in {folder}",
        notes=search.all_notes(),
    )


def _parts(folder: Path, tops: list[Path]) -> dict[str, Path]:
    """Returns the folders of the parts; nothing where `train` holds no folders and so is a label of its own."""
    parts: dict[str, Path] = {}
    for entry in tops:
        part = PARTS.get(entry.name.lower())
        if part is None:
            continue
        if part in parts:
            raise DataError(f"{folder}: both {parts[part].name} and {entry.name} can be the {part} set; keep one")
        parts[part] = entry
    has_classes = "train" in parts and any(entry.is_dir() for entry in parts["train"].iterdir())
    return parts if has_classes else {}


def _what_instead(search: _Search) -> str:
    pictures = [name for name in search.others if Path(name).suffix.lower() in PICTURE_SUFFIXES]
    if pictures:
        return f"holds {len(pictures):,} pictures but no folders, so nothing says what their labels are"
    return f"holds no folders but {', '.join(list(search.others)[:5])}" if search.others else "is empty"


def _listed(file: Path, images: Path) -> list[Entry]:
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
