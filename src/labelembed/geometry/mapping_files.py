"""Files in which people write down what they know of labels: YAML or JSON mappings of texts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from labelembed.errors import DataError


def read_text(path: Path) -> str:
    """Returns the text of a file.

    Raises:
        DataError: When it is missing or no UTF-8 text.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else f"no UTF-8 text, {error.reason}"
        raise DataError(f"{path}: cannot be read ({reason})") from error


def read_mapping(path: Path) -> dict[str, Any]:
    """Returns the mapping that a YAML or, by its ending, JSON file holds; its scalars are texts.

    Raises:
        DataError: When it is missing, damaged or no mapping.
    """
    text = read_text(path)
    try:
        if path.suffix.lower() == ".json":
            found = json.loads(text, parse_int=str, parse_float=str)
        else:
            found = yaml.load(text, Loader=yaml.BaseLoader)  # makes nothing but texts: `no` is a label, not False
    except RecursionError as error:
        raise DataError(f"{path}: cannot be read (nested too deeply)") from error
    except (yaml.YAMLError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({' '.join(str(error).split())})") from error
    if not isinstance(found, dict) or not found:
        raise DataError(f"{path}: holds no mapping `name: value`")
    return found
