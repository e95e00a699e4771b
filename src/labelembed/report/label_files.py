"""A label geometry as files: figures, trees for other programs, and a table of distances."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
from torch import Tensor

from labelembed.errors import RunFolderError
from labelembed.geometry import LabelGeometry, label_plane, linkage, to_json
from labelembed.geometry.clustering import LinkageMethod
from labelembed.report.label_figures import dendrogram, label_map, map_stress
from labelembed.report.label_matrix import Panel, label_matrix
from labelembed.report.writing import write_text


def export_geometry(
    geometry: LabelGeometry, folder: Path, *, method: LinkageMethod = "average", reference: Tensor | None = None
) -> list[Path]:
    """Writes dendrogram.svg, map.svg, heat-map.svg, tree.json and distances.csv; returns their paths.

    Args:
        geometry: Two labels or more, at most `MOST_LABELS`.
        folder: Made where it is not there.
        method: How groups of labels join.
        reference: [C, C] distances, nan rows for labels that it lacks, over which the map is laid: WordNet's. The map
            is then of the labels it has.

    Raises:
        ValueError: When the geometry is too large, or the method does not fit it.
        RunFolderError: When a file cannot be written.
    """
    names = geometry.names
    distances = geometry.distances().numpy()
    joined = linkage(geometry, method)
    apart = np.where(np.eye(len(names), dtype=bool), np.nan, distances)
    nearer = np.nanmean(apart, axis=1, keepdims=True) / np.maximum(apart, 1e-12)
    plane = label_plane(distances, reference)
    shown = [names[number] for number in plane.labels]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunFolderError(f"{folder}: cannot be made ({error.strerror})") from error
    return [
        dendrogram(names, joined).save(folder / "dendrogram.svg"),
        label_map(shown, plane, stress=map_stress(distances, plane)).save(folder / "map.svg"),
        label_matrix(names, joined, [Panel("times nearer than the mean label", nearer)]).save(folder / "heat-map.svg"),
        write_text(folder / "tree.json", to_json(joined, names)),
        write_text(folder / "distances.csv", _table(names, distances)),
    ]


def _table(names: tuple[str, ...], distances: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> str:
    written = io.StringIO()
    rows = csv.writer(written, lineterminator="\n")
    rows.writerow(["label", *names])
    for name, row in zip(names, distances.tolist(), strict=True):
        rows.writerow([name, *row])
    return written.getvalue()
