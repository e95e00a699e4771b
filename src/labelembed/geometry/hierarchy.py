"""A hierarchy of labels that people have made, and how well a geometry agrees with it."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

from labelembed.errors import DataError, nearest, unknown_name
from labelembed.geometry.agreement import AgreementResult, kendall_agreement
from labelembed.geometry.label_tree import TreeNode, path_lengths, read_newick
from labelembed.geometry.small_files import read_mapping, read_text

_SHIPPED = Path(__file__).with_name("hierarchies")
_NEWICK = (".nwk", ".newick", ".tree", ".tre", ".nw")
_FORMS = "groups (.yaml, .yml, .json), a table label,group (.csv) or Newick (.nwk)"


@dataclass(frozen=True)
class Hierarchy:
    """A tree whose leaves are the labels of a task, each once.

    Attributes:
        root: The tree.
        names: The labels, in the order of their numbers.
        source: The file, or the name of one that ships.
    """

    root: TreeNode
    names: tuple[str, ...]
    source: str = ""

    def distances(self) -> Tensor:
        """Returns [C, C] float64, the number of edges between labels: 2 within a group."""
        return path_lengths(self.root, self.names)

    def groups(self) -> list[int]:
        """Returns a number for each label; equal where two labels hang from the same node."""
        group_of = {
            child.name: number
            for number, node in enumerate(self.root.walk())
            for child in node.children
            if not child.children
        }
        return [group_of[name] for name in self.names]


@dataclass(frozen=True)
class GroupAgreement:
    """How well distances agree with a hierarchy.

    Attributes:
        kendall: Tau-b to the path lengths in the tree.
        same_group: The share of labels whose nearest label is of their own group; nan without such labels.
        by_chance: That share if every other label were as likely to be the nearest.
        labels: How many labels the two are over: those whose group has another label.
    """

    kendall: AgreementResult
    same_group: float
    by_chance: float
    labels: int


def shipped_hierarchies() -> list[str]:
    """Returns the names of the hierarchies that ship."""
    return sorted(path.stem for path in _SHIPPED.glob("*.yaml"))


def read_hierarchy(source: str | Path, names: Sequence[str]) -> Hierarchy:
    """Reads a hierarchy of these labels.

    Args:
        source: A file: groups as YAML or JSON (``{group: [labels]}``, groups in groups to any depth), a CSV table
            ``label,group``, or Newick; or the name of one that ships (``cifar100``).
        names: The labels, in the order of their numbers.

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
    kind, called = path.suffix.lower(), str(source)
    if kind in (".yaml", ".yml", ".json"):
        root = _of_groups(path, read_mapping(path))
    elif kind == ".csv":
        root = _of_table(path, read_text(path))
    elif kind in _NEWICK:
        try:
            root = read_newick(read_text(path))
        except ValueError as error:
            raise DataError(f"{path}: no Newick, {error}") from error
    else:
        raise DataError(f"{path}: a hierarchy is a file of {_FORMS}")
    _require_each_once(called, [leaf.name for leaf in root.leaves()], names)
    return Hierarchy(root, tuple(names), called)


def group_agreement(distances: ArrayLike, hierarchy: Hierarchy) -> GroupAgreement:
    """Returns how well distances between labels agree with a hierarchy.

    Args:
        distances: [C, C], the labels in the order of `hierarchy.names`.
        hierarchy: As `read_hierarchy` returns it. A group is what hangs from one node.

    Raises:
        ValueError: When the distances are of another number of labels, or not finite.
    """
    kendall = kendall_agreement(distances, hierarchy.distances(), hierarchy.names)
    table = np.asarray(distances, dtype=np.float64).copy()
    np.fill_diagonal(table, np.inf)
    groups = np.array(hierarchy.groups())
    same = groups[:, None] == groups[None]
    np.fill_diagonal(same, False)
    counted = same.any(axis=1)
    if not counted.any():
        return GroupAgreement(kendall, float("nan"), float("nan"), 0)
    # Of several nearest labels each counts for its part.
    near = table == table.min(axis=1, keepdims=True)
    shares = (near & same).sum(axis=1) / near.sum(axis=1)
    chance = same.sum(axis=1) / (len(table) - 1)
    return GroupAgreement(kendall, float(shares[counted].mean()), float(chance[counted].mean()), int(counted.sum()))


def _of_groups(path: Path, groups: dict[str, Any]) -> TreeNode:
    root = TreeNode()
    todo: list[tuple[TreeNode, Any]] = [(root, groups)]
    while todo:
        node, value = todo.pop()
        if not value:
            raise DataError(f"{path}: group {node.name!r} holds no labels; write it as group: [label, label]")
        for entry in value if isinstance(value, list) else [value]:
            if isinstance(entry, dict) and isinstance(value, list):
                todo.append((node, entry))
            elif isinstance(entry, dict):
                for name, inside in entry.items():
                    node.children.append(TreeNode(str(name)))
                    todo.append((node.children[-1], inside))
            elif isinstance(entry, str) and entry:
                node.children.append(TreeNode(entry))
            else:
                raise DataError(f"{path}: group {node.name!r}: {entry!r} is no label; write labels as texts")
    return root


def _of_table(path: Path, text: str) -> TreeNode:
    root = TreeNode()
    groups: dict[str, TreeNode] = {}
    for number, row in enumerate(csv.reader(io.StringIO(text)), start=1):
        cells = [cell.strip() for cell in row]
        if not any(cells) or (number == 1 and [cell.lower() for cell in cells] == ["label", "group"]):
            continue
        if len(cells) != 2 or not all(cells):
            raise DataError(f"{path}: row {number}: expected label,group, got {','.join(row)[:60]!r}")
        label, group = cells
        if group not in groups:
            groups[group] = TreeNode(group)
            root.children.append(groups[group])
        groups[group].children.append(TreeNode(label))
    return root


def _require_each_once(called: str, leaves: list[str], names: Sequence[str]) -> None:
    counts = Counter(leaves)
    there = set(names)
    missing = [name for name in names if name not in counts]
    unknown = [name for name in counts if name not in there]
    # What is near is looked for only as often as a message has room for it: it takes time.
    hints = [nearest(name, missing or names) if number < 10 else "" for number, name in enumerate(unknown)]
    faults = {
        "missing": [repr(name) for name in missing],
        "repeated": [repr(name) for name, count in counts.items() if count > 1],
        "unknown": [f"{name!r}{hint}" for name, hint in zip(unknown, hints, strict=True)],
    }
    if any(faults.values()):
        lines = [f"  {kind} ({len(found)}): {', '.join(found)}" for kind, found in faults.items() if found]
        raise DataError("\n".join([f"{called}: a hierarchy holds each of the {len(names)} labels once", *lines]))
