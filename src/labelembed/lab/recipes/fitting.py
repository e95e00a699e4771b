"""From a path to the recipe that ships for such data, minding what was typed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from labelembed.errors import DataError
from labelembed.lab.data import Detected, detect
from labelembed.lab.recipes.loading import put_setting


def path_in(settings: Sequence[str]) -> str | None:
    """Returns the `data.path` among settings, None where there is none."""
    path = _given(settings).get("path")
    return path if isinstance(path, str) and path.strip() else None


def fitting_recipe(path: str, settings: Sequence[str] = ()) -> Detected:
    """Returns what a path holds and the recipe that ships for it.

    Args:
        path: A file or a folder.
        settings: Those of `--set`. Keys of `data`, as `data.label_column=kind`, are minded here; what they set is
            not set again.

    Raises:
        DataError: No recipe fits, or the data cannot be read.
    """
    if not path.strip():
        raise DataError("--data: is empty; name the place of the data")
    found = detect(Path(path).expanduser(), _given(settings))
    typed = [setting.partition("=")[0].strip() for setting in settings]
    kept = [setting for setting in found.settings if not _is_typed(setting.partition("=")[0], typed)]
    return found._replace(settings=tuple(kept))


def _given(settings: Sequence[str]) -> Mapping[str, Any]:
    """Returns the keys of `data` that were typed."""
    values: dict[str, Any] = {}
    for setting in settings:
        put_setting(values, setting)  # what is wrong with it is said with the recipe
    block = values.get("data")
    return block if isinstance(block, dict) else {"name": block}


def _is_typed(key: str, typed: Sequence[str]) -> bool:
    return any(other == key or other.startswith(f"{key}.") for other in typed)
