"""A hierarchy of labels that people have made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from labelembed.errors import DataError, nearest, unknown_name
from labelembed.geometry.mapping_files import read_mapping

_SHIPPED = Path(__file__).with_name("hierarchies")
_FORMS = "groups (.yaml, .yml, .json) or a table label,group (.csv)"


@dataclass(frozen=True)
class Hierarchy:
    """A tree whose leaves are the labels of a task, each once.

    Attributes:
        names: The labels, in the order of their indices.
        paths: For each label the names of the groups that it is in, the largest first.
        source: The file, or the name of one that ships.
    """

    names: tuple[str, ...]
    paths: tuple[tuple[str, ...], ...]
    source: str = ""

    def distances(self) -> Tensor:
        """Returns [C, C] float64, the number of edges between labels: 2 within a group."""
        lengths = np.array([len(path) + 1.0 for path in self.paths])
        table = lengths[:, None] + lengths
        for level in range(1, int(lengths.max())):
            begins = [path[:level] if len(path) >= level else None for path in self.paths]
            number = {path: index for index, path in enumerate(dict.fromkeys(begins))}
            groups = np.array([-1 if path is None else number[path] for path in begins])
            # A group that two labels share is on the way to neither.
            table -= 2 * ((groups[:, None] == groups) & (groups >= 0))
        np.fill_diagonal(table, 0)
        return torch.from_numpy(table)

    def groups(self) -> list[int]:
        """Returns a number for each label; equal where two labels are in the same smallest group."""
        number = {path: index for index, path in enumerate(dict.fromkeys(self.paths))}
        return [number[path] for path in self.paths]


def shipped_hierarchies() -> list[str]:
    """Returns the names of the hierarchies that ship."""
    return sorted(path.stem for path in _SHIPPED.glob("*.yaml"))


def read_hierarchy(source: str | Path, names: Sequence[str]) -> Hierarchy:
    """Reads a hierarchy of these labels.

    Args:
        source: A file: groups as YAML or JSON (``{group: [labels]}``, groups in groups to any depth), or a CSV table
            ``label,group``; or the name of one that ships (``cifar100``).
        names: The labels, in the order of their indices.

    Raises:
        DataError: When the file cannot be read, or labels are missing, repeated or unknown; all are listed.
    """
    path = Path(source)
    if not path.exists() and not path.suffix:
        if str(source) not in shipped_hierarchies():
            raise DataError(
                f"{unknown_name('hierarchy', str(source), shipped_hierarchies())}, or give a file: {_FORMS}"
            )
        path = _SHIPPED / f"{source}.yaml"
    kind = path.suffix.lower()
    if kind in (".yaml", ".yml", ".json"):
        leaves = list(_leaves(path, read_mapping(path)))
    elif kind == ".csv":
        leaves = _of_table(path)
    else:
        raise DataError(f"{path}: a hierarchy is a file of {_FORMS}")
    _require_each_once(str(source), [label for label, _ in leaves], names)
    paths = dict(leaves)
    return Hierarchy(tuple(names), tuple(paths[name] for name in names), str(source))


def _leaves(path: Path, value: Any, above: tuple[str, ...] = ()) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yields each label of nested groups with the groups that it is in, the largest first."""
    if isinstance(value, dict):
        for name, inside in value.items():
            yield from _leaves(path, inside, (*above, name))
    elif isinstance(value, list):
        for inside in value:
            yield from _leaves(path, inside, above)
    elif value:
        yield str(value), above
    else:
        raise DataError(f"{path}: group {above[-1]!r} holds an empty label")


def _of_table(path: Path) -> list[tuple[str, tuple[str, ...]]]:
    import pandas as pd

    try:
        table = pd.read_csv(
            path, header=None, names=["label", "group"], index_col=False, dtype=str, keep_default_na=False
        )
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as a table label,group ({error})") from error
    rows: list[tuple[str, tuple[str, ...]]] = [
        (label.strip(), (group.strip(),)) for label, group in table.itertuples(index=False)
    ]
    for number, (label, (group,)) in enumerate(rows, start=1):
        if not label or not group:
            raise DataError(f"{path}: row {number}: expected label,group, got {label or group!r}")
    return rows[1:] if rows and rows[0] == ("label", ("group",)) else rows


def _require_each_once(called: str, leaves: list[str], names: Sequence[str]) -> None:
    counts, wanted = Counter(leaves), set(names)
    missing = [name for name in names if name not in counts]
    unknown = [name for name in counts if name not in wanted]
    # What is near is looked for only as often as a message has room for it: it takes time.
    hints = [nearest(name, missing or names) for name in unknown[:10]] + [""] * len(unknown[10:])
    errors = {
        "missing": [repr(name) for name in missing],
        "repeated": [repr(name) for name, count in counts.items() if count > 1],
        "unknown": [f"{name!r}{hint}" for name, hint in zip(unknown, hints, strict=True)],
    }
    if any(errors.values()):
        lines = [f"  {kind} ({len(found)}): {', '.join(found)}" for kind, found in errors.items() if found]
        raise DataError("\n".join([f"{called}: a hierarchy holds each of the {len(names)} labels once", *lines]))
