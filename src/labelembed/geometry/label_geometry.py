"""What an objective has learned about its labels: names with vectors, or with similarities."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from numbers import Integral
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import Tensor

from labelembed.errors import DataError, nearest
from labelembed.files import MAXIMUM_BYTES, require_header

FORMAT_VERSION = 1
#: Above it the eigendecomposition of similarities takes many minutes and gigabytes.
MOST_DECOMPOSED = 8_000
# Scores held at once: in float64 64 MiB.
_SCORES_AT_ONCE = 1 << 23


class Neighbour(NamedTuple):
    """One similar label; a larger `score` is more similar."""

    name: str
    score: float


@dataclass(frozen=True, eq=False)
class LabelGeometry:
    """The labels of a task and how they relate: either `vectors` or `similarities`.

    The soft target of label y is softmax(S[y]) of similarities S (Label Embedding Network, eq. 11 and 13; with it a
    saved geometry trains a new model, eq. 17), or softmax(-distances[y]) of vectors (Learning with Adaptive Labels,
    eq. 2).

    Args:
        names: The labels' names, in the order of their indices; all different.
        vectors: [C, D], a point for each label.
        similarities: [C, C], row y the logits of label y's soft target.
        metric: How vectors are compared; similarities ignore it.
        source: Where it comes from, for people: an objective's name, a file.

    Raises:
        ValueError: When shapes and names do not fit, or a value is not finite.

    Example:
        >>> import torch
        >>> geometry = LabelGeometry(("cat", "dog", "car"), vectors=torch.tensor([[0.0], [1.0], [9.0]]))
        >>> geometry.neighbours("cat", k=1)
        [Neighbour(name='dog', score=-1.0)]
    """

    names: tuple[str, ...]
    vectors: Tensor | None = None
    similarities: Tensor | None = None
    metric: Literal["euclidean", "cosine"] = "euclidean"
    source: str = ""
    _positions: dict[str, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if (self.vectors is None) == (self.similarities is None):
            raise ValueError("give exactly one of `vectors` and `similarities`")
        table, names = self._table, tuple(str(name) for name in self.names)
        count = len(names)
        if count == 0 or table.ndim != 2 or len(table) != count:
            raise ValueError(f"`vectors` must be [C, D] and `names` [C], got {list(table.shape)} and {count} names")
        if self.similarities is not None and table.shape[1] != count:
            raise ValueError(f"`similarities` must be square [C, C], got {list(table.shape)}")
        finite = torch.isfinite(table).all(dim=1)
        if not finite.all():
            raise ValueError(f"the row of label {names[int(finite.int().argmin())]!r} holds a value that is not finite")
        if self.metric not in ("euclidean", "cosine"):
            raise ValueError(f"`metric` must be 'euclidean' or 'cosine', got {self.metric!r}")
        positions = {name: index for index, name in enumerate(names)}
        if len(positions) != count:
            repeated = next(name for index, name in enumerate(names) if positions[name] != index)
            raise ValueError(f"the name {repeated!r} stands for more than one label")
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "_positions", positions)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def _table(self) -> Tensor:
        table = self.vectors if self.vectors is not None else self.similarities
        assert table is not None  # checked by `__post_init__`
        return table

    def position(self, label: str | int) -> int:
        """Returns the index of a label given by name, by index, or by the word of a subword (``homme``: ``▁homme``).

        Raises:
            KeyError: When there is no such label; the message names the nearest.
        """
        if str(label) in self._positions:
            return self._positions[str(label)]
        if isinstance(label, Integral) and 0 <= label < len(self):  # NumPy's too
            return int(label)
        if f"\u2581{label}" in self._positions:
            return self._positions[f"\u2581{label}"]
        few = ", ".join(self.names[:10]) + (", ..." if len(self) > 10 else "")
        raise KeyError(f"no label {str(label)!r}{nearest(str(label), self.names)}; there are {len(self)}: {few}")

    def select(self, labels: Iterable[str | int]) -> Self:
        """Returns the geometry of some labels, given as to `position`, in the order given."""
        chosen = [self.position(label) for label in labels]
        return replace(
            self,
            names=tuple(self.names[index] for index in chosen),
            vectors=None if self.vectors is None else self.vectors[chosen],
            similarities=None if self.similarities is None else self.similarities[chosen][:, chosen],
        )

    def neighbours(self, label: str | int, k: int = 5) -> list[Neighbour]:
        """Returns the `k` labels most similar to `label` (see `position`), without itself, the most similar first.

        The score is the probability that `label`'s soft target gives to the other (similarities), minus the Euclidean
        distance, or the cosine (vectors); see `score_unit`.
        """
        return next(iter(self.neighbours_of([label], k).values()))

    def neighbours_of(self, labels: Iterable[str | int], k: int = 5) -> dict[str, list[Neighbour]]:
        """Returns the `neighbours` of several labels by name, in the order given; faster than one by one."""
        asked = [self.position(label) for label in labels]
        indices, scores = self.nearest(asked, k)
        return {
            self.names[index]: [Neighbour(self.names[other], score) for other, score in zip(*near, strict=True)]
            for index, *near in zip(asked, indices.tolist(), scores.tolist(), strict=True)
        }

    def nearest(self, labels: Sequence[int], k: int) -> tuple[Tensor, Tensor]:
        """Returns the indices and the scores (float64) of the `neighbours` of n labels, [n, min(k, C - 1)] each.

        No table [C, C] is made. Equal scores come in the order of the labels.

        Args:
            labels: [n], indices of labels.
            k: How many others of each.
        """
        k = min(max(k, 0), len(self) - 1)
        best = [(torch.empty(0, k, dtype=torch.int64), torch.empty(0, k, dtype=torch.float64))]
        table = self._table.detach().cpu()
        if self.similarities is None:
            table = F.normalize(table.double(), dim=1) if self.metric == "cosine" else table.double()
        for rows in torch.split(torch.as_tensor(labels, dtype=torch.int64), max(1, _SCORES_AT_ONCE // len(table))):
            scores = self._scores(table, rows)
            scores[torch.arange(len(rows)), rows] = -torch.inf  # no label is a neighbour of itself
            values, indices = scores.sort(dim=1, descending=True, stable=True)
            best.append((indices[:, :k].clone(), values[:, :k].clone()))  # a view would keep the whole block in memory
        all_indices, all_values = zip(*best, strict=True)
        return torch.cat(all_indices), torch.cat(all_values)

    def _scores(self, table: Tensor, rows: Tensor) -> Tensor:
        """Returns the scores [n, C] of some labels with all labels."""
        if self.similarities is not None:
            return table[rows].double().softmax(dim=1)
        if self.metric == "cosine":
            # The last digit of a product depends on the size of the block, and equal vectors must score equally.
            return (table[rows] @ table.T).round_(decimals=12)
        return -torch.cdist(table[rows], table, compute_mode="donot_use_mm_for_euclid_dist")

    @property
    def is_class_means(self) -> bool:
        """Whether these are the class means of a network's outputs, which come with any objective."""
        return self.source.endswith("class means")

    @property
    def score_unit(self) -> str:
        """What the scores of `neighbours` are, in words."""
        if self.similarities is not None:
            return "probability in the label's soft target"
        kind = "minus the Euclidean distance between" if self.metric == "euclidean" else "cosine of"
        return f"{kind} {'class means' if self.is_class_means else 'label vectors'}"

    def soft_targets(self) -> Tensor:
        """Returns [C, C], row y the soft target of label y; rows sum to 1."""
        return self.logits().softmax(dim=1)

    def logits(self) -> Tensor:
        """Returns [C, C] float32, the logits of `soft_targets`: the similarities, or minus the distances."""
        if self.similarities is not None:
            return self.similarities.float()
        return -self.distances().float()

    def distances(self) -> Tensor:
        """Returns [C, C] float64 distances between labels, symmetric with a zero diagonal.

        Of vectors: Euclidean, or 1 - cosine. Of similarities, as Yu, Verma (2022) do with a label embedding: those of
        the rows of V sqrt(max(L, 0)), where V L V^T are the similarities, symmetrised and scaled to [0, 1].

        Raises:
            ValueError: For similarities of more than `MOST_DECOMPOSED` labels.
        """
        points = self._table.double()
        if self.similarities is not None:
            if len(self) > MOST_DECOMPOSED:
                what = f"similarities of {len(self):,} labels are too many to decompose (at most {MOST_DECOMPOSED:,})"
                raise ValueError(f"{what}; take some: geometry.select(geometry.names[:{MOST_DECOMPOSED}])")
            symmetric = (points + points.T) / 2
            low, high = symmetric.aminmax()
            values, eigenvectors = torch.linalg.eigh((symmetric - low) / (high - low).clamp_min(1e-300))
            points = eigenvectors * values.clamp_min(0).sqrt()
        if self.similarities is None and self.metric == "cosine":
            unit = F.normalize(points, dim=1)
            distances = (1 - unit @ unit.T).clamp_min(0)  # rounding makes a cosine a little more than 1
        else:  # by differences: the rounding of matrix products shows between close labels
            distances = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")
        return (distances + distances.T).fill_diagonal_(0) / 2

    def to_bytes(self) -> bytes:
        """Returns the safetensors file that `save` writes, in float32; of equal geometries equal bytes.

        safetensors itself writes the entries of its header in any order.
        """
        about = {
            "format": "labelembed.label_geometry",
            "version": str(FORMAT_VERSION),
            "names": json.dumps(self.names, ensure_ascii=False),
            "metric": self.metric,
            "source": self.source,
        }
        table = self._table.detach().float().cpu().contiguous().numpy()
        entry = {"dtype": "F32", "shape": table.shape, "data_offsets": [0, table.nbytes]}
        key = "similarities" if self.similarities is not None else "vectors"
        header = json.dumps({"__metadata__": about, key: entry}, ensure_ascii=False).encode()
        header += b" " * (-len(header) % 8)  # tensors begin at a multiple of eight bytes
        return len(header).to_bytes(8, "little") + header + table.astype("<f4").tobytes()

    def save(self, path: str | Path) -> Path:
        """Writes one safetensors file; returns its path."""
        path = Path(path)
        path.write_bytes(self.to_bytes())
        return path

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Reads a file written by `save`.

        Raises:
            DataError: When the file is missing, damaged or something else.
        """
        path = Path(path)
        if not path.is_file():
            raise DataError(f"{path}: no such file; a label geometry is a .safetensors file that a run leaves")
        try:
            require_header(path, most=MAXIMUM_BYTES)  # it holds the names of all labels
            with safe_open(path, framework="pt") as file:
                about: dict[str, Any] = file.metadata() or {}
                tables = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - no mapping
        except Exception as error:  # a damaged header makes the reader raise nearly anything
            raise DataError(f"{path}: damaged, or no safetensors file ({str(error)[:300]})") from error
        if about.get("format") != "labelembed.label_geometry":
            raise DataError(f"{path}: a safetensors file, but not a label geometry (holds {sorted(tables)[:5]!r:.400})")
        try:
            if int(about["version"]) > FORMAT_VERSION:
                raise DataError(f"{path}: written by a newer labelembed (format {about['version']}); update labelembed")
            names = json.loads(about["names"])
            if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
                raise ValueError("its names are no list of texts")
            return cls(tuple(names), **tables, metric=about.get("metric", "euclidean"), source=about.get("source", ""))
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise DataError(f"{path}: damaged label geometry ({error})") from error
