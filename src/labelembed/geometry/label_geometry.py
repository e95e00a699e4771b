"""What an objective has learned about its labels: names with vectors, or with similarities."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from labelembed.errors import DataError, nearest
from labelembed.geometry.nearest import nearest_labels
from labelembed.json_files import MAXIMUM_BYTES
from labelembed.tensor_files import require_header, with_sorted_header

FORMAT_VERSION = 1
#: Above it the eigendecomposition of similarities takes many minutes and gigabytes.
MOST_DECOMPOSED = 8_000


class Neighbour(NamedTuple):
    """One similar label; a larger `score` is more alike."""

    name: str
    score: float


@dataclass(frozen=True, eq=False)
class LabelGeometry:
    """The labels of a task and where they stand to each other.

    Exactly one of `vectors` and `similarities` is given. Similarities are logits: the softmax of row y is
    the soft target of label y (Label Embedding Network, eq. 11 and 13), so that a saved geometry trains a
    new model (eq. 17). Vectors are points whose distances say how alike two labels are (Learning with
    Adaptive Labels, eq. 2).

    Args:
        names: The labels' names, in the order of their indices; all different.
        vectors: [C, D], one point a label.
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
        table = self._table
        names = tuple(str(name) for name in self.names)
        count = len(names)
        if count == 0:
            raise ValueError("a geometry needs one or more names")
        if table.ndim != 2 or table.shape[0] != count:
            raise ValueError(f"{count} names need a table [{count}, ...], got {list(table.shape)}")
        if self.similarities is not None and table.shape[1] != count:
            raise ValueError(f"`similarities` must be square, got {list(table.shape)}")
        if not torch.isfinite(table).all():
            row = int((~torch.isfinite(table)).any(dim=1).nonzero()[0])
            raise ValueError(f"the row of label {names[row]!r} holds a value that is not finite")
        if self.metric not in ("euclidean", "cosine"):
            raise ValueError(f"`metric` must be 'euclidean' or 'cosine', got {self.metric!r}")
        positions = {name: index for index, name in enumerate(names)}
        if len(positions) != count:
            double = next(name for index, name in enumerate(names) if positions[name] != index)
            raise ValueError(f"the name {double!r} stands for more than one label")
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "_positions", positions)

    def __len__(self) -> int:
        return len(self.names)

    def position(self, label: str | int) -> int:
        """Returns the index of a label given by name, or by index where no label has that name.

        Of a vocabulary of subwords a whole word is found by its name alone: ``"homme"`` is ``"▁homme"`` where no
        label is called ``"homme"``.

        Raises:
            KeyError: When there is no such label; the message names the nearest.
        """
        if str(label) in self._positions:
            return self._positions[str(label)]
        if isinstance(label, int) and 0 <= label < len(self):
            return label
        if f"\u2581{label}" in self._positions:
            return self._positions[f"\u2581{label}"]
        few = ", ".join(self.names[:10]) + (", ..." if len(self) > 10 else "")
        raise KeyError(f"no label {str(label)!r}{nearest(str(label), self.names)}; there are {len(self)}: {few}")

    def select(self, labels: Iterable[str | int]) -> Self:
        """Returns the geometry of some of the labels, given by name or index, in the order given.

        Raises:
            KeyError: When there is no such label.
        """
        chosen = [self.position(label) for label in labels]
        return replace(
            self,
            names=tuple(self.names[position] for position in chosen),
            vectors=None if self.vectors is None else self.vectors[chosen],
            similarities=None if self.similarities is None else self.similarities[chosen][:, chosen],
        )

    def neighbours(self, label: str | int, k: int = 5) -> list[Neighbour]:
        """Returns the `k` labels most like `label`, itself left out, most alike first.

        The score is the probability that `label`'s soft target gives to the other (similarities), minus
        the Euclidean distance, or the cosine (vectors).
        """
        (found,) = self.neighbours_of([label], k).values()
        return found

    def neighbours_of(self, labels: Iterable[str | int], k: int = 5) -> dict[str, list[Neighbour]]:
        """Returns the `neighbours` of several labels by name, in the order given; for many faster than one by one.

        Raises:
            KeyError: When there is no such label.
        """
        positions = [self.position(label) for label in labels]
        kind = self.metric if self.similarities is None else "similarities"
        places, scores = nearest_labels(self._table, positions, k, kind=kind)
        return {
            self.names[position]: [Neighbour(self.names[place], score) for place, score in zip(*near, strict=True)]
            for position, *near in zip(positions, places.tolist(), scores.tolist(), strict=True)
        }

    def all_neighbours(self, k: int = 5) -> dict[str, list[Neighbour]]:
        """Returns the `neighbours` of every label by name; no table [C, C] is made."""
        return self.neighbours_of(self.names, k)

    @property
    def _table(self) -> Tensor:
        table = self.vectors if self.vectors is not None else self.similarities
        assert table is not None  # as `__post_init__` holds
        return table

    @property
    def score_unit(self) -> str:
        """What the scores of `neighbours` are, in words."""
        if self.similarities is not None:
            return "probability in the label's soft target"
        kind = "minus the Euclidean distance between" if self.metric == "euclidean" else "cosine of"
        return f"{kind} {self._points}"

    @property
    def distance_unit(self) -> str:
        """What `distances` are, in words."""
        if self.similarities is not None:
            return "Euclidean distance between the labels as points of their scaled similarities"
        return f"{'Euclidean distance between' if self.metric == 'euclidean' else '1 - cosine of'} {self._points}"

    @property
    def is_class_means(self) -> bool:
        """Whether these are the class means of a network's outputs, which come with any objective."""
        return self.source.endswith("class means")

    @property
    def _points(self) -> str:
        return "class means" if self.is_class_means else "label vectors"

    def soft_targets(self) -> Tensor:
        """Returns [C, C], row y the soft target of label y; rows sum to 1.

        Softmax of the similarities (Label Embedding Network, eq. 13), or of minus the distances of the
        vectors (Learning with Adaptive Labels, eq. 2).
        """
        return self.logits().softmax(dim=1)

    def logits(self) -> Tensor:
        """Returns [C, C] float32, the logits of `soft_targets`."""
        if self.similarities is not None:
            return self.similarities.float()
        return -self.distances().float()

    def distances(self) -> Tensor:
        """Returns [C, C] float64 distances between labels, symmetric with a zero diagonal.

        Vectors: Euclidean, or 1 - cosine. Similarities: Learning with Adaptive Labels' way with a label
        embedding E: symmetrise, scale to [0, 1], eigendecompose to V L V^T, and take the Euclidean
        distances between the rows of V sqrt(max(L, 0)).

        Raises:
            ValueError: For similarities of more than `MOST_DECOMPOSED` labels.
        """
        if self.similarities is not None:
            if len(self) > MOST_DECOMPOSED:
                raise ValueError(
                    f"distances of similarities need an eigendecomposition, too large for {len(self):,} labels "
                    f"(at most {MOST_DECOMPOSED:,}); take some of them: geometry.select(range({MOST_DECOMPOSED}))"
                )
            symmetric = self.similarities.double()
            symmetric = (symmetric + symmetric.T) / 2
            low, high = symmetric.min(), symmetric.max()
            scaled = (symmetric - low) / (high - low).clamp_min(torch.finfo(torch.float64).tiny)
            values, eigenvectors = torch.linalg.eigh(scaled)
            points = eigenvectors * values.clamp_min(0).sqrt()
        else:
            points = self._table.double()
            if self.metric == "cosine":
                unit = torch.nn.functional.normalize(points, dim=1)
                # Rounding makes the cosine of equal directions a little more than 1.
                return self._symmetric((1 - unit @ unit.T).clamp_min(0))
        # The exact form, not the one by inner products, whose rounding shows between close labels.
        return self._symmetric(torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist"))

    @staticmethod
    def _symmetric(distances: Tensor) -> Tensor:
        return (distances + distances.T).fill_diagonal_(0) / 2

    def to_bytes(self) -> bytes:
        """Returns the safetensors form that `save` writes."""
        kind = "similarities" if self.similarities is not None else "vectors"
        about = {
            "format": "labelembed.label_geometry",
            "version": str(FORMAT_VERSION),
            "names": json.dumps(self.names, ensure_ascii=False),
            "metric": self.metric,
            "source": self.source,
        }
        return with_sorted_header(bytes(save({kind: self._table.detach().cpu().contiguous()}, metadata=about)))

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
            require_header(path, most=MAXIMUM_BYTES)  # the names of all labels stand in it
            with safe_open(path, framework="pt") as file:
                about: dict[str, Any] = file.metadata() or {}
                tables = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - no mapping
        except Exception as error:  # what a header can say makes the reader raise nearly anything
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
