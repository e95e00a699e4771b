"""From a path to the recipe that ships for such data: each reader says what it finds there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from labelembed.errors import DataError, nearest
from labelembed.lab.data.checks import printable
from labelembed.lab.data.corpus.text_corpus import MANIFEST, read_manifest_of
from labelembed.lab.data.found import Found, Place
from labelembed.lab.data.readers.cifar import CifarReader
from labelembed.lab.data.readers.images import ImageReader
from labelembed.lab.data.readers.mnist import FASHION_NAMES, MnistReader
from labelembed.lab.data.readers.parquet import ParquetReader
from labelembed.lab.data.readers.table import TableReader
from labelembed.lab.data.readers.texts import TextReader
from labelembed.lab.data.readers.vectors import VectorReader

#: The recipe for each reader, where it is named and nobody need look.
OF_READER = {
    "mnist": "mnist-mlp", "vectors": "vectors-mlp", "parquet": "cifar10-small", "cifar": "cifar10-small",
    "images": "images-resnet", "texts": "text-bag", "table": "table-mlp", "corpus": "translation-lstm",
}  # fmt: skip
# In this order: a parquet file of pictures, for instance, is a table too.
_READERS: tuple[tuple[str, Any], ...] = (
    ("vectors", VectorReader), ("mnist", MnistReader), ("cifar", CifarReader), ("parquet", ParquetReader),
    ("images", ImageReader), ("texts", TextReader), ("table", TableReader),
)  # fmt: skip
# Of fewer texts the recipe for few of them learns more.
_FEW_TEXTS = 2_000
# Recipes that hold out 5,000 examples, for 50,000 pictures, take another share of fewer, and more steps.
_FEW_PICTURES = 20_000
_HOLD_OUT_A_SHARE = "data.validation={fraction: 0.15}"
_SMALLEST_PICTURE = 16  # of the residual network

_EXPECTED = """one of these, or the name of a recipe too:
  labelled texts (CSV, TSV, JSON lines, parquet, a saved data set): recipe text-bag or text-bag-small
  a table of numbers and categories, in the same kinds of file: recipe table-mlp
  pictures in a folder for each class, or a list of picture files: recipe images-resnet
  vectors, in .npz, .npy or parquet files: recipe vectors-mlp
  pictures in .npz, .npy or parquet files, or CIFAR's own: recipe cifar10-small
  the four idx files of MNIST and the like: recipe mnist-mlp
  a corpus of sentence pairs that `labelembed preprocess` wrote: recipe translation-lstm"""


class Detected(NamedTuple):
    """What a path holds and the recipe for it.

    Attributes:
        reader: Name of the reader.
        description: What it is: ``4,952 texts, 6 classes, columns text and kind``.
        recipe: Name of the recipe that fits.
        settings: What the recipe needs besides, as `--set` takes it.
        examples: Number of examples to train on, those that validation will take among them.
        names: Of the labels.
        shape: Of an input, where nothing has to be decoded to know it; else empty.
    """

    reader: str
    description: str
    recipe: str
    settings: tuple[str, ...] = ()
    examples: int = 0
    names: tuple[str, ...] = ()
    shape: tuple[int, ...] = ()


def detect(path: str, given: Mapping[str, Any]) -> Detected:
    """Returns what a path holds and the recipe that ships for it.

    Args:
        path: A file or a folder.
        given: Keys of `data` that were typed, as ``{"label_column": "kind"}``.

    Raises:
        DataError: No recipe fits, or the data cannot be read; names the path, what was expected and the recipes.
    """
    if not path.strip():
        raise DataError("--data: is empty; name the place of the data")
    try:
        return _look(Place(Path(path).expanduser(), given))
    except OSError as error:
        raise DataError(f"{error.filename or path}: cannot be read ({error.strerror or error})") from None
    except ValueError as error:  # a path with a zero byte
        raise DataError(f"{path!r}: cannot be read ({error})") from None


def _look(place: Place) -> Detected:
    path, name = place.path, place.text("name")
    if not path.exists():
        beside = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        raise DataError(f"{path}: does not exist{nearest(path.name, beside)}; expected a file or a folder of data")
    if name in OF_READER:
        return Detected(name, f"data {name!r} in {path}", OF_READER[name])
    if (path / MANIFEST).is_file():
        pairs = sum(about["pairs"] for about in read_manifest_of(path)["splits"].values())
        return Detected("corpus", f"{pairs:,} sentence pairs", OF_READER["corpus"], examples=pairs)
    for name, reader in _READERS:
        found = reader.finds(place)
        if found is not None:
            recipe, settings = _recipe_for(name, found)
            return Detected(name, found.what, recipe, settings, found.train, found.names, found.shape)
    raise DataError(f"{path}: {_what_is_there(path)}, and no recipe fits; expected {_EXPECTED}")


def _recipe_for(reader: str, found: Found) -> tuple[str, tuple[str, ...]]:
    """Returns the recipe for what a reader found, and what to set besides."""
    is_small = found.train < _FEW_PICTURES
    classes = len(found.names)
    if reader == "mnist":
        recipe = "fashion-mnist-cnn" if found.names == FASHION_NAMES else OF_READER[reader]
        return recipe, (_HOLD_OUT_A_SHARE,) if is_small else ()
    if reader == "cifar":
        return f"cifar{classes}-small", ("data.name=cifar",)
    if reader == "texts":
        return "text-bag-small" if found.train < _FEW_TEXTS else "text-bag", ()
    are_vectors = len(found.shape) == 1 or (found.shape and min(found.shape[-2:]) < _SMALLEST_PICTURE)
    if reader in ("vectors", "parquet") and are_vectors:
        return OF_READER["vectors"], ("data.name=parquet",) if reader == "parquet" else ()
    if reader in ("vectors", "parquet"):
        settings = ("data.name=vectors",) if reader == "vectors" else ()
        few = (_HOLD_OUT_A_SHARE, "epochs=20", "batch_size=32") if is_small else ()
        return "cifar100-small" if reader == "parquet" and classes == 100 else "cifar10-small", (*settings, *few)
    return OF_READER[reader], ()


def _what_is_there(place: Path) -> str:
    if place.is_file():
        return f"is a file {''.join(place.suffixes[-2:])!r:.40}" if place.suffix else "is a file without an ending"
    names = sorted(printable(entry.name) for entry in place.iterdir())
    return f"holds {', '.join(names[:5])}{', ...' if len(names) > 5 else ''}" if names else "is empty"
