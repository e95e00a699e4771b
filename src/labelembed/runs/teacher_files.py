"""The files that hold a teacher's predictions: what they say of themselves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from labelembed.errors import DataError
from labelembed.tensor_files import require_header
from labelembed.training.files import sha256
from labelembed.training.run_folder import RunFolder

# The formats: all logits, or soft labels by their largest entries (see `teacher_table`).
LOGITS = "labelembed.teacher.1"
SOFT_LABELS = "labelembed.teacher_soft_labels.1"
_WORDS = {LOGITS: "logits", SOFT_LABELS: "soft labels"}


def about_table(path: Path, *formats: str) -> dict[str, Any]:
    """Returns what a table says of itself.

    Args:
        path: The file.
        formats: Those wanted.

    Raises:
        DataError: When it is damaged, or of none of these formats.
    """
    try:
        require_header(path)
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {}).get("about", "{}"))
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: damaged, or no safetensors file ({error})") from error
    if not isinstance(about, dict) or about.get("format") not in formats:
        words = " or ".join(_WORDS[each] for each in formats)
        raise DataError(f"{path}: a safetensors file, but no table of a teacher's {words}")
    return about


def identity(path: Path) -> str | None:
    """Returns the SHA-256 of the teacher's weights, None where they are gone."""
    if path.is_file():
        return str(about_table(path, LOGITS, SOFT_LABELS).get("model"))
    weights = RunFolder(path).model_file
    return sha256(weights) if weights.is_file() else None
