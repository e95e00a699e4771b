"""What kind of data a path holds and the recipe for it, by endings and folder names: for data without a recipe."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from labelembed.errors import DataError, nearest
from labelembed.lab.data.arrays import VectorReader
from labelembed.lab.data.checks import counted, few, printable, sizes
from labelembed.lab.data.columns import find_columns, find_label, is_text_column, likely_label, likely_text
from labelembed.lab.data.corpus.text_corpus import MANIFEST, read_manifest_of
from labelembed.lab.data.image_reader import ImageReader, files_below, holds_image_names, is_image
from labelembed.lab.data.published import FASHION_NAMES, MnistReader, find_cifar, is_idx_name
from labelembed.lab.data.splits import seen_first
from labelembed.lab.data.table_encoder import kind_of
from labelembed.lab.data.table_files import Reading, Table, is_missing, is_readable
from labelembed.lab.data.tables import Parts, read_parts
from labelembed.lab.pretrained_images import INSTALL, is_installed

#: The recipe for each reader that is named, where nobody need look.
RECIPES = {
    "mnist": "mnist-mlp", "vectors": "vectors-mlp", "cifar": "cifar10-small", "images": "pictures",
    "texts": "text-bag", "table": "table-mlp", "corpus": "translation-lstm",
}  # fmt: skip
# Of fewer texts the recipe for few of them learns more.
_FEW_TEXTS = 2_000
# Recipes that hold out 5,000 examples, for 50,000 images, take another share of fewer, and more steps.
_FEW_IMAGES = 20_000
_HOLD_OUT_A_SHARE = "data.validation={fraction: 0.15}"
_SMALLEST_IMAGE = 16  # of the residual network
# What is only said of tables.
_OF_TABLES = {"numeric", "categorical", "leave_out", "most_categories", "decimal"}
_WITHOUT_FEATURES = (
    f", from scratch: {INSTALL} brings the recipe pictures, which builds on a pre-trained network: 26 instead of 37 % "
    "error on photographs of ten dishes, in a fraction of the time"
)
_EXPECTED = """one of these, or the name of a recipe too:
  labelled texts (CSV, TSV, JSON lines, parquet, a saved data set): recipe text-bag or text-bag-small
  a table of numbers and categories, in the same kinds of file: recipe table-mlp
  pictures in a folder for each class, in a list of files, or in parquet files: recipe pictures
  vectors, in .npz or .npy files: recipe vectors-mlp
  pictures in .npz or .npy files, or CIFAR's own: recipe cifar10-small
  the four idx files of MNIST and the like: recipe mnist-mlp
  a corpus of sentence pairs that `labelembed preprocess` wrote: recipe translation-lstm"""


class Detected(NamedTuple):
    """What a path holds and the recipe that ships for it.

    Attributes:
        reader: Name of the reader.
        description: In words: ``4,952 texts, 6 classes, columns text and kind``.
        examples: Number of training examples, a validation set among them that is still to be held out.
        names: Names of the labels.
        shape: Shape of an input, where nothing has to be decoded or learned to know it; else empty.
        recipe: Name of the recipe.
        settings: What the recipe needs besides, as `--set` takes it.
        hint: What would give a better recipe.
    """

    reader: str
    description: str
    examples: int = 0
    names: tuple[str, ...] = ()
    shape: tuple[int, ...] = ()
    recipe: str = ""
    settings: tuple[str, ...] = ()
    hint: str = ""

    @property
    def line(self) -> str:
        """What to say of it."""
        more = f" with {', '.join(self.settings)}" if self.settings else ""
        return f"{self.description}; recipe {self.recipe}{more}{self.hint}"


def detect(place: str | Path, given: Mapping[str, Any]) -> Detected:
    """Returns what a path holds and the recipe for it.

    Args:
        place: A file or a folder.
        given: Keys of `data` that were typed, as ``{"label_column": "kind"}``.

    Raises:
        DataError: No recipe fits, or the data cannot be read; names the path, what was expected and the recipes.
    """
    if not str(place).strip():
        raise DataError("--data: is empty; name the place of the data")
    path = Path(place).expanduser()
    try:
        if not path.exists():
            beside = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
            raise DataError(f"{path}: does not exist{nearest(path.name, beside)}; expected a file or a folder of data")
        name = given.get("name")
        found = Detected(name, f"data {name!r} in {path}") if name in RECIPES else _detected(path, given)
        return found._replace(recipe=RECIPES[name]) if name in RECIPES else _with_recipe(found)
    except OSError as error:
        raise DataError(f"{error.filename or path}: cannot be read ({error.strerror or error})") from None
    except (ValueError, TypeError) as error:  # a path with a zero byte; a key that is of no such type
        raise DataError(f"{path}: cannot be read ({error})") from None


def _detected(path: Path, given: Mapping[str, Any]) -> Detected:
    entries = sorted(path.iterdir()) if path.is_dir() else [path]
    names = {entry.name for entry in entries}
    if MANIFEST in names:
        pairs = sum(about["pairs"] for about in read_manifest_of(path)["splits"].values())
        return Detected("corpus", f"{pairs:,} sentence pairs")
    if any(entry.suffix.lower() == (".npy" if path.is_dir() else ".npz") for entry in entries):
        raw = VectorReader(path=str(path)).read(to_evaluate=True)
        shape = tuple(raw.train.inputs.shape[1:])
        what = f"pictures of {sizes(shape[1:])}" if len(shape) == 3 else f"vectors of {shape[0]:,} numbers"
        labels = raw.names or tuple(map(str, sorted(set(raw.train.labels.tolist()))))
        return _found("vectors", raw.parts, what, labels)._replace(shape=shape)
    if path.is_dir() and any(map(is_idx_name, names)):
        raw = MnistReader(path=str(path)).read()
        return _found("mnist", raw.parts, "pictures of idx files", raw.names)
    if names & {"data_batch_1", "meta"}:
        version = find_cifar(path)
        return Detected(
            "cifar", f"{version.title}, {version.classes} classes", 50_000, tuple(map(str, range(version.classes)))
        )
    inside = [*entries, *path.glob("*/*.parquet")] if path.is_dir() else entries
    tables = [entry for entry in inside if is_readable(entry) and not (path.is_dir() and ".txt" in entry.suffixes)]
    if path.is_dir() and any(map(is_image, files_below(path))):
        with contextlib.suppress(DataError) if tables else contextlib.nullcontext():
            found = _images(path, {})
            if len(found.names) > 1 or not tables:  # a list may say what the labels of pictures beside it are
                return found
    if tables:
        reading = {key: given.get(key) for key in ("delimiter", "encoding", "columns")}
        is_right = not Reading(**reading).errors().errors  # what is wrong with it is said with the recipe
        split = given.get("split_column", given.get("split"))
        return _tabular(path, read_parts(path, Reading(**reading) if is_right else Reading(), split=split), given)
    held = f"holds {few(list(map(printable, sorted(names))), 5)}" if names else "is empty"
    what = held if path.is_dir() else f"is a file {''.join(path.suffixes[-2:])!r:.40}"
    raise DataError(f"{path}: {what}, and no recipe fits; expected {_EXPECTED}")


def _found(reader: str, parts: Mapping[str, Any], what: str, names: tuple[str, ...], more: str = "") -> Detected:
    description = f"{sum(map(len, parts.values())):,} {what}, {len(names):,} classes{more}"
    return Detected(reader, description, len(parts["train"]), names)


def _images(path: Path, given: Mapping[str, Any]) -> Detected:
    columns: dict[str, Any] = {key: given.get(key) for key in ("image_column", "label_column", "split_column")}
    raw = ImageReader(path=str(path), **columns).find(to_evaluate=True)
    return _found("images", raw.parts, raw.source.split(" in ")[0], raw.names)


def _tabular(path: Path, tables: Parts, given: Mapping[str, Any]) -> Detected:
    train = tables["train"]
    is_list = any(holds_image_names(train, name) for name in train.names)
    if is_list and path.is_dir():
        raise DataError(f"{path}: holds a list of its pictures; give the list itself: --data {train.source}")
    if is_list or "bytes" in train.left_aside.values():
        return _images(path, given)
    if len(tables) == 1:  # test examples that are still to be held out may not decide what the columns are
        train = train.select(seen_first(len(train), given.get("test_fraction")))
    label, named = given.get("label_column"), given.get("text_column")
    texts = (named,) if isinstance(named, str) else tuple(named or ())
    labels = label or likely_label(train)
    if not texts and not _OF_TABLES & given.keys():
        text = likely_text(train, label=labels)
        others = [name for name in train.names if name not in (text, labels) and kind_of(train, name)[0]]
        texts = (text,) if text is not None and (is_text_column(train, text) or len(others) < 2) else ()
    if texts or not any(kind_of(train, name)[0] for name in train.names if name != find_label(train, label)):
        texts, label = find_columns(train, texts=texts, label=label)
        columns = f", columns {' and '.join([*texts, label])}"
        return _found("texts", tables, "texts", _label_names(tables["train"], label), columns)
    label = find_label(train, label)
    columns = f", {counted(len(train.names) - 1, 'column')} and the labels in {label!r}"
    return _found("table", tables, "examples", _label_names(tables["train"], label), columns)


def _with_recipe(found: Detected) -> Detected:
    """Returns what was found with the recipe for it, and what to set besides."""
    recipe, settings = RECIPES[found.reader], []
    is_small = found.examples < _FEW_IMAGES
    if found.reader == "mnist":
        recipe = "fashion-mnist-cnn" if found.names == FASHION_NAMES else recipe
        settings = [_HOLD_OUT_A_SHARE] if is_small else []
    elif found.reader == "cifar":
        recipe, settings = f"cifar{len(found.names)}-small", ["data.name=cifar"]
    elif found.reader == "texts" and found.examples < _FEW_TEXTS:
        recipe = "text-bag-small"
    elif found.reader == "images" and not is_installed():
        return found._replace(recipe="images-resnet", hint=_WITHOUT_FEATURES)
    elif len(found.shape) == 3 and min(found.shape[-2:]) >= _SMALLEST_IMAGE:
        recipe, settings = "cifar10-small", ["data.name=vectors"]
        settings += [_HOLD_OUT_A_SHARE, "epochs=20", "batch_size=32"] if is_small else []
    return found._replace(recipe=recipe, settings=tuple(settings))


def _label_names(table: Table, label: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(str(value).strip() for value in table.values(label) if not is_missing(value)))
