"""What version 0.1 wrote into recipes and run folders, read by the names of today: `development` is `validation`."""

from __future__ import annotations

from typing import Any


def with_new_keys(values: Any) -> Any:
    """Returns a mapping in which `development` is called `validation`, in its place; anything else as it is."""
    if not isinstance(values, dict) or "development" not in values:
        return values
    return {"validation" if key == "development" else key: value for key, value in values.items()}


def with_new_words(text: Any) -> Any:
    """Returns a name such as `development_error` as it is today; anything else as it is."""
    return text.replace("development", "validation") if isinstance(text, str) else text


def new_recipe(values: dict[str, Any]) -> dict[str, Any]:
    """Returns a recipe with the keys and names of today."""
    selection = values.get("selection")
    if isinstance(selection, dict) and "by" in selection:
        values = values | {"selection": selection | {"by": with_new_words(selection["by"])}}
    return values | {"data": with_new_keys(values["data"])} if "data" in values else values


def new_result(result: dict[str, Any]) -> dict[str, Any]:
    """Returns how a run ended with the keys and names of today."""
    renamed: dict[str, Any] = with_new_keys(result)
    for key, new in (("calibrated", with_new_keys), ("selected_by", with_new_words), ("calibration", with_new_words)):
        if key in renamed:
            renamed = renamed | {key: new(renamed[key])}
    return renamed


def new_environment(environment: dict[str, Any]) -> dict[str, Any]:
    """Returns what a run ran on with the names of today for the splits of its data."""
    data = environment.get("data")
    if not isinstance(data, dict) or "rows" not in data:
        return environment
    return environment | {"data": data | {"rows": with_new_keys(data["rows"])}}
