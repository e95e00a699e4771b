"""What kind of data a path holds and the recipe for it, by endings and folder names: for data without a recipe."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from labelembed.errors import DataError, nearest
from labelembed.lab.data.arrays import VectorReader
from labelembed.lab.data.checks import counted, few, sizes
from labelembed.lab.data.columns import find_columns, find_label, is_text_column, likely_label, likely_text
from labelembed.lab.data.corpus.text_corpus import MANIFEST, read_corpus
from labelembed.lab.data.dataset import RawData
from labelembed.lab.data.image_reader import ImageReader, files_below, holds_image_names, is_image
from labelembed.lab.data.published import MnistReader, is_idx_name
from labelembed.lab.data.splits import seen_first
from labelembed.lab.data.table_encoder import kind_of
from labelembed.lab.data.table_files import Reading, is_missing, is_readable
from labelembed.lab.data.tables import Parts, read_parts
from labelembed.lab.pretrained_images import INSTALL, is_installed

#: The recipe for each reader that is named, where nobody need look.
RECIPES = {
    "mnist": "mnist-mlp", "vectors": "vectors-mlp", "cifar": "cifar10-small", "images": "pictures",
    "texts": "text-bag", "table": "table-mlp", "corpus": "translation-lstm",
}  # fmt: skip
# Of fewer texts the recipe for few of them learns more.
_FEW_TEXTS = 2_000
# What is only said of tables.
_OF_TABLES = {"categorical", "leave_out", "decimal"}
_WITHOUT_FEATURES = f"; {INSTALL} brings the recipe pictures, a pre-trained network with a third fewer errors"


class Detected(NamedTuple):
    """What a path holds, in words, and the recipe that ships for it, with what it needs besides as `--set` takes it."""

    description: str
    recipe: str
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
    path = Path(place).expanduser()
    try:
        if not path.exists():
            beside = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
            raise DataError(f"{path}: does not exist{nearest(path.name, beside)}; expected a file or a folder of data")
        name = given.get("name")
        return Detected(f"data {name!r} in {path}", RECIPES[name]) if name in RECIPES else _detected(path, given)
    except OSError as error:
        raise DataError(f"{error.filename or path}: cannot be read ({error.strerror or error})") from None
    except (ValueError, TypeError) as error:  # a path with a zero byte; a key that is of no such type
        raise DataError(f"{path}: cannot be read ({error})") from None


def _detected(path: Path, given: Mapping[str, Any]) -> Detected:
    entries = sorted(path.iterdir()) if path.is_dir() else [path]
    names = {entry.name for entry in entries}
    if MANIFEST in names:
        pairs = sum(map(len, read_corpus(path).splits.values()))
        return Detected(f"{pairs:,} sentence pairs", RECIPES["corpus"])
    if any(entry.suffix.lower() == (".npy" if path.is_dir() else ".npz") for entry in entries):
        raw = VectorReader(path=str(path)).read(to_evaluate=True)
        what = f"arrays of {sizes(tuple(raw.train.inputs.shape[1:]))} numbers"
        return Detected(f"{sum(map(len, raw.parts.values())):,} {what}", RECIPES["vectors"])
    if path.is_dir() and any(map(is_idx_name, names)):
        raw = MnistReader(path=str(path)).read()
        return Detected(_described(raw, "pictures of idx files"), RECIPES["mnist"])
    if names & {"data_batch_1", "meta"}:
        classes = 10 if "data_batch_1" in names else 100
        return Detected(f"CIFAR-{classes}, {classes} classes", f"cifar{classes}-small", ("data.name=cifar",))
    inside = [*entries, *path.glob("*/*.parquet")] if path.is_dir() else entries
    holds_tables = any(is_readable(entry) and not (path.is_dir() and ".txt" in entry.suffixes) for entry in inside)
    if path.is_dir() and any(map(is_image, files_below(path))):
        with contextlib.suppress(DataError) if holds_tables else contextlib.nullcontext():
            raw = ImageReader(path=str(path)).find(to_evaluate=True)
            if len(raw.names) > 1 or not holds_tables:  # a list may say what the labels of pictures beside it are
                return _of_images(raw)
    if holds_tables:
        reading = Reading(given.get("delimiter"), given.get("encoding"))
        return _of_tables(path, read_parts(path, reading, split=given.get("split_column")), given)
    held = f"holds {few(sorted(names), 5)}" if names else "is empty"
    what = held if path.is_dir() else f"is a file {''.join(path.suffixes[-2:])!r:.40}"
    raise DataError(
        f"{path}: {what}, and no recipe fits; expected texts or a table (CSV, TSV, JSON lines, parquet, a saved data "
        "set), pictures in a folder for each class or a list of them, .npz or .npy arrays, the files of MNIST or "
        f"CIFAR, or a corpus of `labelembed preprocess`; recipes: {', '.join(RECIPES.values())}"
    )


def _described(raw: RawData, what: str) -> str:
    return f"{sum(map(len, raw.parts.values())):,} {what}, {len(raw.names):,} classes"


def _of_images(raw: RawData) -> Detected:
    recipe, hint = (RECIPES["images"], "") if is_installed() else ("images-resnet", _WITHOUT_FEATURES)
    return Detected(_described(raw, "pictures"), recipe, hint=hint)


def _of_tables(path: Path, tables: Parts, given: Mapping[str, Any]) -> Detected:
    train = tables["train"]
    is_list = any(holds_image_names(train, name) for name in train.names)
    if is_list and path.is_dir():
        raise DataError(f"{path}: holds a list of its pictures; give the list itself: --data {train.source}")
    if is_list or "bytes" in train.left_aside.values():
        columns = {key: given[key] for key in ("image_column", "label_column", "split_column") if key in given}
        return _of_images(ImageReader(path=str(path), **columns).find(to_evaluate=True))
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
        what, more = "texts", f", columns {' and '.join([*texts, label])}"
    else:
        label = find_label(train, label)
        what, more = "examples", f", {counted(len(train.names) - 1, 'column')} and the labels in {label!r}"
    classes = {str(value).strip() for value in tables["train"].values(label) if not is_missing(value)}
    description = f"{sum(map(len, tables.values())):,} {what}, {len(classes):,} classes{more}"
    if texts and len(tables["train"]) < _FEW_TEXTS:
        return Detected(description, "text-bag-small")
    return Detected(description, RECIPES["texts" if texts else "table"])
