"""How well distances between labels agree with a reference: a hierarchy that people have made, or WordNet."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from labelembed.errors import DataError, nearest, unknown_name
from labelembed.files import read_json

_SHIPPED: dict[str, Any] = json.loads(Path(__file__).with_name("hierarchies.json").read_text("utf-8"))


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
        above = [{path[:level]: len(path) + 1 - level for level in range(len(path) + 1)} for path in self.paths]
        return path_lengths(above).fill_diagonal_(0)

    def groups(self) -> list[int]:
        """Returns a number for each label; equal where two labels are in the same smallest group."""
        number = {path: index for index, path in enumerate(dict.fromkeys(self.paths))}
        return [number[path] for path in self.paths]


def path_lengths(ancestors: Sequence[Mapping[Any, int] | None]) -> Tensor:
    """Returns [C, C] float64, the edges between nodes through a common ancestor, from the steps up to each ancestor.

    Infinite without a common ancestor; nan in the row and the column of a node that has None.
    """
    known = np.array([above is not None for above in ancestors])
    table = np.where(known & known[:, None], np.inf, np.nan)
    below: dict[Any, list[tuple[int, int]]] = {}  # of each ancestor the nodes below it, and how far below
    for node, above in enumerate(ancestors):
        for ancestor, steps in (above or {}).items():
            below.setdefault(ancestor, []).append((node, steps))
    for pairs in below.values():
        nodes, steps_up = np.array(pairs).T
        block = np.ix_(nodes, nodes)
        table[block] = np.minimum(table[block], steps_up[:, None] + steps_up)
    return torch.from_numpy(table)


def shipped_hierarchy(names: Sequence[str]) -> Hierarchy | None:
    """Returns the hierarchy that ships for just these labels (CIFAR-100's), or None."""
    for name, groups in _SHIPPED.items():
        if {label for label, _ in _leaves(groups)} == set(names):
            return read_hierarchy(name, names)
    return None


def read_hierarchy(source: str | Path, names: Sequence[str]) -> Hierarchy:
    """Reads a hierarchy of these labels.

    Args:
        source: A JSON file ``{group: [labels]}``, groups in groups to any depth; or the name of a hierarchy that ships
            (``cifar100``).
        names: The labels, in the order of their indices.

    Raises:
        DataError: When the file cannot be read, or labels are missing, repeated or unknown; ten of each are listed.
    """
    if str(source) not in _SHIPPED and not Path(source).suffix:
        raise DataError(f"{unknown_name('hierarchy', str(source), _SHIPPED)}; or give a file of groups, as groups.json")
    try:
        groups = _SHIPPED.get(str(source)) or read_json(Path(source))
        leaves = list(_leaves(groups)) if isinstance(groups, dict) else None
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{source}: cannot be read as JSON ({getattr(error, 'strerror', None) or error})") from None
    if not leaves:
        raise DataError(f"{source}: must hold a JSON object {{group: [labels]}}")
    counts = Counter(label for label, _ in leaves)
    unknown = sorted(counts.keys() - set(names))
    errors = {
        "missing": [repr(name) for name in names if name not in counts],
        "repeated": [repr(name) for name, count in counts.items() if count > 1],
        "unknown": [repr(name) + (nearest(name, names) if index < 10 else "") for index, name in enumerate(unknown)],
    }
    if any(errors.values()):
        texts = {what: ", ".join(labels[:10] + ["..."] * (len(labels) > 10)) for what, labels in errors.items()}
        lines = [f"  {what} ({len(errors[what])}): {text}" for what, text in texts.items() if text]
        raise DataError("\n".join([f"{source}: a hierarchy holds each of the {len(names)} labels once", *lines]))
    paths = dict(leaves)
    return Hierarchy(tuple(names), tuple(paths[name] for name in names), str(source))


def _leaves(value: Any, above: tuple[str, ...] = ()) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yields each label of nested groups with the groups that it is in, the largest first."""
    if isinstance(value, dict):
        for name, inside in value.items():
            yield from _leaves(inside, (*above, name))
    elif isinstance(value, list):
        for inside in value:
            yield from _leaves(inside, above)
    elif value == "" or isinstance(value, bool) or not isinstance(value, (str, int)):
        raise ValueError(f"group {above[-1]!r} holds {value!r}, which is no label; write {{group: [labels]}}")
    else:
        yield str(value), above


class AgreementResult(NamedTuple):
    """Kendall's tau-b of each label's distances to a reference's.

    Attributes:
        mean: The mean over the labels that have a tau; nan where none has.
        per_label: Label and its tau, in the order of their indices.
        left_out: Label and why it has no tau.
    """

    mean: float
    per_label: dict[str, float]
    left_out: dict[str, str]

    def __str__(self) -> str:
        text = f"tau-b {self.mean:.3f} over {len(self.per_label)} labels"
        return f"{text}, without {', '.join(self.left_out)}" if self.left_out else text


def kendall_agreement(
    learned_distances: ArrayLike, reference_distances: ArrayLike, names: Sequence[str] | None = None
) -> AgreementResult:
    """Returns how well learned distances rank the labels as a reference does (Yu, Verma 2022, eq. 4).

    Of each label, tau-b between its two rows of distances without itself; then the mean over the labels. A row whose
    distances are all equal has no tau.

    Args:
        learned_distances: [C, C], e.g. `LabelGeometry.distances`.
        reference_distances: [C, C], e.g. `WordNet.distances`. A label whose row is nan throughout is left out, of the
            other rows as well.
        names: Of the labels; their indices by default.

    Raises:
        ValueError: When the tables or the names do not fit each other, or a learned distance is not finite.
    """
    learned, reference = (np.asarray(table, dtype=np.float64) for table in (learned_distances, reference_distances))
    count = learned.shape[0] if learned.ndim else 0
    if count == 0 or not learned.shape == reference.shape == (count, count):
        shapes = f"{list(learned.shape)} and {list(reference.shape)}"
        raise ValueError(f"learned and reference distances must both be square [C, C] of the same labels, got {shapes}")
    labels = [str(label) for label in (range(count) if names is None else names)]
    if len(labels) != count or len(set(labels)) != count:
        raise ValueError(f"{count} labels need {count} different names, got {len(set(labels))}")
    finite = np.isfinite(learned).all(axis=1)
    if not finite.all():
        raise ValueError(f"the learned distances of label {labels[finite.argmin()]!r} are not all finite")
    unknown, itself = np.isnan(reference), np.eye(count, dtype=bool)  # a label's distance to itself does not count
    known = np.asarray(~(unknown | itself).all(axis=1))
    if (unknown & ~itself)[np.ix_(known, known)].any():
        raise ValueError("the reference holds nan in the row of a label of which it knows other distances")

    from scipy.stats import kendalltau

    per_label: dict[str, float] = {}
    left_out: dict[str, str] = {}
    for row, label in enumerate(labels):
        others = known & (np.arange(count) != row)
        pair = learned[row, others], reference[row, others]
        if not known[row]:
            left_out[label] = "not in the reference"
        elif any(len(np.unique(distances)) < 2 for distances in pair):
            left_out[label] = "its learned or its reference distances are all equal"
        else:
            per_label[label] = float(kendalltau(*pair).statistic)
    mean = math.fsum(per_label.values()) / len(per_label) if per_label else math.nan
    return AgreementResult(mean, per_label, left_out)


class GroupAgreement(NamedTuple):
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


def group_agreement(distances: ArrayLike, hierarchy: Hierarchy) -> GroupAgreement:
    """Returns how well distances [C, C] between the labels of a hierarchy agree with it.

    Raises:
        ValueError: As `kendall_agreement`.
    """
    kendall = kendall_agreement(distances, hierarchy.distances(), hierarchy.names)
    table = np.asarray(distances, dtype=np.float64).copy()
    np.fill_diagonal(table, np.inf)
    groups = np.array(hierarchy.groups())
    same = groups[:, None] == groups
    np.fill_diagonal(same, False)
    counted = same.any(axis=1)
    if not counted.any():
        return GroupAgreement(kendall, math.nan, math.nan, 0)
    near = table == table.min(axis=1, keepdims=True)  # of several nearest labels each counts for its part
    shares = (near & same).sum(axis=1) / near.sum(axis=1)
    chance = same.sum(axis=1) / (len(table) - 1)
    return GroupAgreement(kendall, float(shares[counted].mean()), float(chance[counted].mean()), int(counted.sum()))
