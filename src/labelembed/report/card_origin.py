"""What a card says of where a run comes from: data, recipe, command, machine, papers; of each path the last part.

A card is read by others, whom the folders of a machine do not concern.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

# An absolute path without spaces, up to its last part; not what follows the colon of an address.
_FOLDERS = re.compile(r"(?<![\w/:.~])~?/(?:[^\s/]+/)+")
# The same in an argument: behind `key=` or a variant's colon, relative too.
_FOLDERS_OF_ARGUMENT = re.compile(r"[^=,:\[\]]*/(?=[^/=,:\[\]])")
# Whose methods the objectives are.
_PAPERS = {
    "label_smoothing": "Szegedy, Vanhoucke, Ioffe, Shlens, Wojna 2016: *Rethinking the Inception Architecture for "
    "Computer Vision.*",
    "label_embedding": "Sun, Wei, Ren, Ma 2017: *Label Embedding Network: Learning Label Representation for Soft "
    "Training of Deep Networks.*",
    "adaptive_labels": "Yu, Verma 2022: *Improving model training via self-learned label representations.*",
    "retrospection": "Deng, Zhang 2021: *Learning with retrospection.*",
    "online_label_smoothing": "Zhang et al. 2021: *Delving deep into label smoothing.*",
    "confidence_penalty": "Pereyra, Tucker, Chorowski, Kaiser, Hinton 2017: *Regularizing Neural Networks by "
    "Penalizing Confident Output Distributions.*",
    "teacher_free": "Yuan, Tay, Li, Wang, Feng 2020: *Revisiting Knowledge Distillation via Label Smoothing "
    "Regularization.*",
    "distillation": "Hinton, Vinyals, Dean 2015: *Distilling the Knowledge in a Neural Network.*",
    "static_labels": "Chen, Li, Raghupathi, Lipson 2021: *Beyond Categorical Label Representations for Image "
    "Classification.*",
}


def without_folders(text: str, folders: Sequence[str] = ()) -> str:
    """Returns a text with the last part of each absolute path in it.

    Args:
        text: The text.
        folders: Folders that paths in it may lie in, with spaces in their names too.
    """
    for folder in sorted(folders, key=len, reverse=True):
        inside = rf"(?<![\w.]){re.escape(folder)}"
        text = re.sub(f"{inside}/", "", text)
        text = re.sub(rf"{inside}(?![^\s,;:)'\"])", Path(folder).name.replace("\\", r"\\"), text)
    return _FOLDERS.sub("", text)


def argument_without_folders(word: str) -> str:
    """Returns an argument of a command with the last part of each path in it; an address stays.

    Example:
        >>> argument_without_folders("data.path=/home/me/data/mnist/")
        'data.path=mnist'
    """
    return word if "://" in word else _FOLDERS_OF_ARGUMENT.sub("", word.rstrip("/"))


def recipe_without_folders(values: Any) -> Any:
    """Returns a recipe's values with the last part of each absolute path."""
    if isinstance(values, dict):
        return {key: recipe_without_folders(value) for key, value in values.items()}
    if isinstance(values, list):
        return [recipe_without_folders(value) for value in values]
    return Path(values).name if isinstance(values, str) and values.startswith(("/", "~/")) else values


def folders_of(recipe: Any) -> list[str]:
    """Returns the folders in which the absolute paths in a recipe's values lie."""
    if isinstance(recipe, str):
        folder = Path(recipe).parent
        return [str(folder)] if recipe.startswith("/") and folder.name else []
    parts = recipe.values() if isinstance(recipe, dict) else recipe if isinstance(recipe, list) else []
    return [folder for part in parts for folder in folders_of(part)]


def as_yaml(values: dict[str, Any]) -> str:
    """Returns values as YAML, in their order."""
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True).strip()


def data_of(environment: dict[str, Any], folders: Sequence[str]) -> dict[str, Any]:
    """Returns what ``environment.json`` says of the data; `notes` is a list of texts.

    Args:
        environment: What the file holds.
        folders: See `without_folders`.
    """
    found = environment.get("data")
    data: dict[str, Any] = dict(found) if isinstance(found, dict) else {}
    notes = data.get("notes")
    if "source" in data:
        data["source"] = without_folders(str(data["source"]), folders)
    return data | {"notes": [without_folders(str(note), folders) for note in notes] if isinstance(notes, list) else []}


def command_of(environment: dict[str, Any]) -> str:
    """Returns the command that made the run."""
    words = environment.get("command")
    if not isinstance(words, list):
        return "labelembed train recipe.yaml"
    return shlex.join(argument_without_folders(str(word)) for word in words)


def environment_lines(environment: dict[str, Any], folders: Sequence[str]) -> list[tuple[str, str]]:
    """Returns (name, value) of what is known of the machine and the versions; for `folders` see `without_folders`."""
    packages = environment.get("packages")
    versions = packages.items() if isinstance(packages, dict) else ()
    lines = [
        (key, "; ".join(map(str, told)) if isinstance(told := environment[key], list) else str(told))
        for key in ("changes", "device", "processor", "python", "commit")
        if environment.get(key)
    ]
    lines.append(("packages", ", ".join(f"{name} {version}" for name, version in versions if version)))
    return [(name, without_folders(value, folders)) for name, value in lines]


def citations_of(objective: str) -> list[str]:
    """Returns what to cite for a run with an objective, as Markdown: its paper, where it has one, and this package."""
    paper = _PAPERS.get(objective)
    return [*([paper] if paper else []), "The labelembed developers: *labelembed* (software), Apache-2.0."]
