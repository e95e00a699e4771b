"""From a path to the recipe that ships for such data: what is found there, and what else must be set."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from labelembed.data import OLD_NAMES, ImageReader, MnistReader, ParquetReader, VectorReader
from labelembed.data.checks import printable
from labelembed.data.corpus.text_corpus import MANIFEST, read_manifest_of
from labelembed.data.encoders.table_columns import kind_of
from labelembed.data.files.arrays import holds_arrays
from labelembed.data.files.columns import (
    find_columns,
    find_label_column,
    find_only_labels,
    find_text_columns,
    surely_texts,
)
from labelembed.data.files.parquet import saved_splits
from labelembed.data.files.parts import Parts, Reading, is_readable, read_parts
from labelembed.data.files.picture import PICTURE_SUFFIXES
from labelembed.data.files.table import Table, is_missing
from labelembed.data.readers.cifar import published_version
from labelembed.data.readers.images import holds_pictures
from labelembed.data.readers.mnist import FASHION_NAMES, holds_idx
from labelembed.data.readers.pictures import LabelledPictures
from labelembed.data.splits import PARTS
from labelembed.errors import DataError, nearest
from labelembed.recipes.loading import put_setting

#: The recipe for each reader, where it is named and nobody need look.
OF_READER = {
    "mnist": "mnist-mlp", "vectors": "vectors-mlp", "parquet": "cifar10-small", "cifar": "cifar10-small",
    "images": "images-resnet", "texts": "text-bag", "table": "table-mlp",
    "labelled-text": "text-bag", "text-features": "text-features", "text-tokens": "text-finetune",
    "corpus": "translation-lstm",
}  # fmt: skip
# Of fewer texts the recipe for few of them learns more.
_FEW_TEXTS = 2_000
# Recipes that hold out 5,000 examples, for 50,000 pictures, take another share of fewer, and more steps.
_FEW_PICTURES = 20_000
_SMALLEST_PICTURE = 16  # of the residual network
_LOOKED_AT = 2_000
_ONLY_TABLES = {"numeric", "categorical", "leave_out", "most_categories"}

_INNER = {"data", *PARTS}

# Keys of `data` that were typed.
Given = Mapping[str, Any]


class Fitting(NamedTuple):
    """What a path holds and the recipe for it.

    Attributes:
        found: What was found: ``4,952 texts, 6 classes, columns text and kind``.
        recipe: Name of the recipe.
        settings: What the recipe needs besides, as `--set` takes it.
    """

    found: str
    recipe: str
    settings: tuple[str, ...] = ()

    @property
    def line(self) -> str:
        """What to say of it."""
        more = f" with {', '.join(self.settings)}" if self.settings else ""
        return f"{self.found}; recipe {self.recipe}{more}"


def path_in(settings: Sequence[str]) -> str | None:
    """Returns the `data.path` among settings, None where there is none."""
    path = _given(settings).get("path")
    return path if isinstance(path, str) and path.strip() else None


def fitting_recipe(path: str, settings: Sequence[str] = ()) -> Fitting:
    """Returns what a path holds and the recipe that ships for it.

    Args:
        path: A file or a folder.
        settings: Those of `--set`. Keys of `data`, as `data.label_column=kind`, are minded here; what they set is
            not set again.

    Raises:
        DataError: No recipe fits, or the data cannot be read; names the path, what was expected and the recipes.
    """
    if not path.strip():
        raise DataError("--data: is empty; name the place of the data")
    given = _given(settings)
    reader = given.get("name")
    place = Path(path).expanduser()
    try:
        if not place.exists():
            beside = [entry.name for entry in place.parent.iterdir()] if place.parent.is_dir() else []
            raise DataError(
                f"{place}: does not exist{nearest(place.name, beside)}; expected a file or a folder of data"
            )
        if isinstance(reader, str) and reader not in OF_READER:
            reader = OLD_NAMES.get(reader, {}).get("name")
        if isinstance(reader, str) and reader in OF_READER:
            return Fitting(f"data {reader!r} in {place}", OF_READER[reader])
        found = next((found for look in _KINDS if (found := look(place, given)) is not None), None)
        if found is None:
            raise DataError(f"{place}: {_what_is_there(place)}, and no recipe fits; expected {_EXPECTED}")
    except OSError as error:
        raise DataError(f"{error.filename or place}: cannot be read ({error.strerror or error})") from None
    except ValueError as error:  # a path with a zero byte
        raise DataError(f"{str(place)!r}: cannot be read ({error})") from None
    typed = [setting.partition("=")[0].strip() for setting in settings]
    kept = [setting for setting in found.settings if not _is_typed(setting.partition("=")[0], typed)]
    return found._replace(settings=tuple(kept))


_EXPECTED = """one of these, or the name of a recipe too:
  labelled texts (CSV, TSV, JSON lines, parquet, a saved data set): recipe text-bag or text-bag-small
  a table of numbers and categories, in the same kinds of file: recipe table-mlp
  pictures in a folder for each class, or a list of picture files: recipe images-resnet
  vectors, in .npz, .npy or parquet files: recipe vectors-mlp
  pictures in .npz, .npy or parquet files, or CIFAR's own: recipe cifar10-small
  the four idx files of MNIST and the like: recipe mnist-mlp
  a corpus of sentence pairs that `labelembed preprocess` wrote: recipe translation-lstm"""


def _given(settings: Sequence[str]) -> Given:
    values: dict[str, Any] = {}
    for setting in settings:
        put_setting(values, setting)  # what is wrong with it is said with the recipe
    block = values.get("data")
    return block if isinstance(block, dict) else {"name": block}


def _is_typed(key: str, typed: Sequence[str]) -> bool:
    return any(other == key or other.startswith(f"{key}.") for other in typed)


def _text(given: Given, key: str) -> str | None:
    """Returns a text that was typed; what is none is refused with the recipe."""
    value = given.get(key)
    return value if isinstance(value, str) else None


def _what_is_there(place: Path) -> str:
    if place.is_file():
        return f"is a file {''.join(place.suffixes[-2:])!r:.40}" if place.suffix else "is a file without an ending"
    names = sorted(printable(entry.name) for entry in place.iterdir())
    return f"holds {', '.join(names[:5])}{', ...' if len(names) > 5 else ''}" if names else "is empty"


def _corpus(place: Path, given: Given) -> Fitting | None:
    if not (place / MANIFEST).is_file():
        return None
    splits = read_manifest_of(place)["splits"]
    return Fitting(f"{sum(about['pairs'] for about in splits.values()):,} sentence pairs", OF_READER["corpus"])


def _arrays(place: Path, given: Given) -> Fitting | None:
    if not (place.suffix.lower() == ".npz" if place.is_file() else holds_arrays(place)):
        return None
    raw = VectorReader(path=str(place)).read(to_measure=True)
    shape = raw.train.inputs.shape[1:]
    kind = "pictures" if len(shape) == 3 else "vectors"
    sizes = f"{' x '.join(map(str, shape[-2:]))}" if kind == "pictures" else f"{shape[0]:,} numbers"
    found = (
        f"{sum(map(len, raw.parts.values())):,} {kind} of {sizes}, {len(np.unique(raw.train.labels.numpy())):,} classes"
    )
    if kind == "vectors" or min(shape[-2:]) < _SMALLEST_PICTURE:
        return Fitting(found, OF_READER["vectors"])
    return _pictures(found, "vectors", train=len(raw.train))


def _idx(place: Path, given: Given) -> Fitting | None:
    if not (place.is_dir() and holds_idx(place)):
        return None
    raw = MnistReader(path=str(place), prefix=_text(given, "prefix")).read()
    found = f"{sum(map(len, raw.parts.values())):,} pictures of idx files, {len(raw.names):,} classes"
    recipe = "fashion-mnist-cnn" if raw.names == FASHION_NAMES else OF_READER["mnist"]
    return Fitting(found, recipe, _held_out(len(raw.train)))


def _cifar(place: Path, given: Given) -> Fitting | None:
    version = published_version(place)
    if version is None:
        return None
    title, classes = version
    return Fitting(f"{title}, {classes} classes", f"cifar{classes}-small", ("data.name=cifar",))


def _parquet(place: Path, given: Given) -> Fitting | None:
    if not (place.suffix.lower() == ".parquet" if place.is_file() else _holds_parquet(place)):
        return None
    columns = ParquetReader(path=str(place), labels=_text(given, "labels")).look()
    if columns is None:
        return None
    what = "vectors" if columns.kind == "vectors" else "pictures"
    count, classes = sum(map(len, columns.parts.values())), len(columns.names)
    found = f"{count:,} {what} in parquet files, {classes:,} classes"
    if what == "vectors":
        return Fitting(found, OF_READER["vectors"], ("data.name=parquet",))
    recipe = "cifar100-small" if classes == 100 else "cifar10-small"
    return _pictures(found, "parquet", train=len(columns.parts["train"]), recipe=recipe)


def _holds_parquet(folder: Path) -> bool:
    if len([entry for entry in folder.iterdir() if entry.is_file() and is_readable(entry)]) == 1:
        return False  # of one file alone test examples are held out, as of one table
    folders = [folder, *(entry for entry in folder.iterdir() if entry.is_dir() and entry.name.lower() in _INNER)]
    return any(any(place.glob("*.parquet")) for place in folders)


def _pictures(found: str, reader: str, *, train: int, recipe: str = "cifar10-small") -> Fitting:
    settings = [] if reader == "parquet" else [f"data.name={reader}"]
    settings += _held_out(train)
    if train < _FEW_PICTURES:
        settings += ["epochs=20", "batch_size=32"]
    return Fitting(found, recipe, tuple(settings))


def _held_out(train: int) -> tuple[str, ...]:
    return ("data.validation={fraction: 0.15}",) if train < _FEW_PICTURES else ()


def _images(place: Path, given: Given) -> Fitting | None:
    if not (place.is_dir() and holds_pictures(place)):
        return None
    has_list = bool(_lists(place))  # which may say what the labels of pictures beside it are
    try:
        found = ImageReader(path=str(place)).find(to_measure=True)
    except DataError:
        if has_list:
            return None
        raise
    if has_list and len(found.names) < 2:
        return None
    return Fitting(_shown(found), OF_READER["images"])


def _lists(folder: Path) -> list[Path]:
    return [entry for entry in sorted(folder.iterdir()) if is_readable(entry) and ".txt" not in entry.suffixes]


def _shown(found: LabelledPictures) -> str:
    return f"{sum(map(len, found.parts.values())):,} pictures, {len(found.names):,} classes"


def _columns(place: Path, given: Given) -> Fitting | None:
    """Looks at columns: those of a list of pictures, of labelled texts, or of a table."""
    if place.is_dir() and saved_splits(place) is None and not _lists(place) and not _holds_parquet(place):
        return None
    if place.is_file() and not is_readable(place):
        return None
    reading = Reading(
        delimiter=_text(given, "delimiter"),
        encoding=_text(given, "encoding"),
        columns=_names(given.get("columns")),
    )
    if reading.faults().faults:
        reading = Reading()  # what is wrong with it is said with the recipe
    parts = read_parts(place, reading, split=_text(given, "split_column"))
    if any(_names_pictures(parts["train"], name) for name in parts["train"].names):
        return _listed(place, given)
    return _of_table(parts, given)


def _names(value: Any) -> list[str] | None:
    """Returns names of columns that were typed as a list; None: there are none."""
    return value if isinstance(value, list) and value and all(isinstance(name, str) for name in value) else None


def _listed(place: Path, given: Given) -> Fitting:
    if place.is_dir():
        lists = ", ".join(str(entry) for entry in _lists(place)[:3])
        raise DataError(f"{place}: holds a list of pictures; give the list itself: --data {lists}")
    asked: Any = {key: _text(given, key) for key in ("paths", "labels", "split", "delimiter", "encoding")}
    found = ImageReader(path=str(place), **asked).find()
    return Fitting(f"a list of {_shown(found)}", OF_READER["images"])


def _names_pictures(table: Table, name: str) -> bool:
    values = [value for value in table.values(name)[:_LOOKED_AT] if not is_missing(value)]
    return bool(values) and all(
        isinstance(value, str) and Path(value.strip()).suffix.lower() in PICTURE_SUFFIXES for value in values
    )


def _of_table(parts: Parts, given: Given) -> Fitting:
    table, label = parts["train"], _text(given, "label_column")
    count = sum(map(len, parts.values()))
    texts = _text_columns(table, given, label)
    if texts:
        texts, label = find_columns(table, texts=texts, label=label)
        found = f"{count:,} texts, {_classes(table, label):,} classes, columns {' and '.join([*texts, label])}"
        return Fitting(found, "text-bag-small" if count < _FEW_TEXTS else "text-bag")
    label = find_only_labels(table, label=label)
    if not _usable(table, without={label}):
        find_columns(table, texts=(), label=label)  # which says what would be needed
    found = f"{count:,} examples, {_classes(table, label):,} classes, {len(table.names) - 1:,} columns and the labels "
    return Fitting(f"{found}in {label!r}", OF_READER["table"])


def _text_columns(table: Table, given: Given, label: str | None) -> tuple[str, ...]:
    """Returns the columns of texts, none where the rows are to be read as numbers and categories."""
    asked = given.get("text_column")
    asked = [asked] if isinstance(asked, str) else _names(asked)
    if asked:
        return tuple(asked)
    if _ONLY_TABLES & given.keys():
        return ()
    label = label or find_label_column(table, without=())
    try:
        (text,) = find_text_columns(table, texts=())
    except DataError:
        return ()
    if text == label:
        return ()
    return (text,) if surely_texts(table, text) or len(_usable(table, without={text, label})) < 2 else ()


def _usable(table: Table, *, without: set[str | None]) -> list[str]:
    """Returns the columns of numbers and categories."""
    names = [name for name in table.names if name not in without]
    return [name for name in names if kind_of(name, table.values(name)[:_LOOKED_AT]).kind is not None]


def _classes(table: Table, label: str) -> int:
    return len({str(value).strip() for value in table.values(label) if not is_missing(value)})


_KINDS: tuple[Callable[[Path, Given], Fitting | None], ...] = (
    _corpus, _arrays, _idx, _cifar, _parquet, _images, _columns,
)  # fmt: skip
