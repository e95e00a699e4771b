"""Files in which people write down what they know of labels: YAML or JSON mappings of texts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from labelembed.errors import DataError


def read_mapping(path: Path) -> dict[str, Any]:
    """Returns the mapping that a YAML or JSON file holds; its scalars are texts.

    Raises:
        DataError: When it is missing, damaged or no mapping.
    """
    try:
        # JSON is YAML too. This loader makes nothing but texts: `no` is a label, not False.
        found = yaml.load(path.read_text(encoding="utf-8-sig"), Loader=yaml.BaseLoader)
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else " ".join(str(error).split())
        raise DataError(f"{path}: cannot be read ({reason})") from error
    if not isinstance(found, dict) or not found:
        raise DataError(f"{path}: holds no mapping `name: value`")
    return found
