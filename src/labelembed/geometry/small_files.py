"""Small YAML and JSON files of a user: texts in lists and mappings, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from labelembed.errors import DataError

MAXIMUM_BYTES = 10_000_000
MAXIMUM_YAML_BYTES = 1_000_000  # about 15 s of reading


class _TextLoader(yaml.BaseLoader):
    """YAML whose every value is a text (``no`` is a label, not False), without references and repeated keys."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):  # few lines of them unfold to millions of values
            where = f"after line {parent.start_mark.line + 1}: " if parent else ""
            raise yaml.YAMLError(f"{where}references (*name) are not read")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: dict[str, int] = {}
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.YAMLError(f"line {line}: a list cannot be a name")
            if key.value in seen:
                raise yaml.YAMLError(f"line {line}: {key.value!r} stands in line {seen[key.value]} as well")
            seen[key.value] = line
        return super().construct_mapping(node, deep=deep)


def read_text(path: Path) -> str:
    """Returns the text of a file of moderate size.

    Raises:
        DataError: When it is missing, too large or no text.
    """
    try:
        if path.stat().st_size > MAXIMUM_BYTES:
            raise DataError(f"{path}: {path.stat().st_size:,} bytes; such a file has at most {MAXIMUM_BYTES:,}")
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else f"no UTF-8 text, {error.reason}"
        raise DataError(f"{path}: cannot be read ({reason})") from error


def read_mapping(path: Path) -> dict[str, Any]:
    """Returns the mapping that a YAML or, by its ending, JSON file holds; its scalars are texts.

    Raises:
        DataError: When it is missing, damaged or no mapping, or a name in it stands twice.
    """
    text = read_text(path)
    is_json = path.suffix.lower() == ".json"
    if not is_json and len(text) > MAXIMUM_YAML_BYTES:
        raise DataError(f"{path}: YAML of {len(text):,} letters, at most {MAXIMUM_YAML_BYTES:,}; write it as JSON")
    try:
        if is_json:
            found = json.loads(text, object_pairs_hook=_each_once, parse_int=str, parse_float=str)
        else:
            found = yaml.load(text, Loader=_TextLoader)  # it makes nothing but texts
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else " ".join(str(error).split())
        raise DataError(f"{path}: cannot be read ({reason})") from error
    if not isinstance(found, dict) or not found:
        raise DataError(f"{path}: holds no mapping `name: value`")
    return found


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} stands twice")
    return mapping
