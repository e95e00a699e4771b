"""Single figures by name as files for a paper, and a label geometry as files."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
from torch import Tensor

from labelembed.errors import nearest, unknown_name
from labelembed.geometry import LabelGeometry, label_plane, linkage
from labelembed.lab.errors import RunFolderError
from labelembed.lab.report.comparison import Comparison, VariantRuns
from labelembed.lab.report.curves import curve_metrics, curve_sketch
from labelembed.lab.report.drawing import Sketch
from labelembed.lab.report.error_analysis import confusion_table, error_analysis
from labelembed.lab.report.forest import forest_sketch
from labelembed.lab.report.gathering import chosen_variant, load_several
from labelembed.lab.report.label_figures import dendrogram, groups_for, label_map, map_stress
from labelembed.lab.report.label_matrix import Panel, label_matrix
from labelembed.lab.report.label_section import label_figures
from labelembed.lab.report.ranking import best_method
from labelembed.lab.report.reliability import reliability_figure
from labelembed.lab.report.sentences import sentence_section
from labelembed.lab.report.similarities import label_similarities
from labelembed.lab.report.table import comparison_rows
from labelembed.lab.report.writing import write_text

FIGURES = ("forest", "curves", "heatmap", "dendrogram", "map", "reliability", "confusion", "attention")
_NEEDS = {
    "forest": "it needs a comparison whose variants share a seed",
    "curves": "it needs a history with this number",
    "reliability": "it needs diagnostics/errors.json, which runs of older versions lack",
    "confusion": "it needs diagnostics/errors.json, which runs of older versions lack, with mistakes",
    "attention": "it needs diagnostics/sentences.json, which runs on a corpus leave, of a network with attention",
}


def draw_figure(
    name: str,
    run: str | Path,
    out: str | Path,
    *,
    metric: str | None = None,
    log: bool = False,
    variant: str | None = None,
    width: float | None = None,
    baseline: str | None = None,
    groups: str | Path | None = None,
) -> Path:
    """Writes a figure.

    Args:
        name: One of `FIGURES`.
        run: A run or comparison folder.
        out: The file; PDF, SVG or PNG, as its name ends.
        metric: Of `curves`: place and name, as ``test-error``, ``validation-nll``, ``train-target``; None: what
            decides the comparison, of the test set where it was measured after every epoch.
        log: Of `curves`: a logarithmic axis.
        variant: Of figures of labels and of errors: whose; None: the method that the verdict is about.
        width: In inches; None: as it was laid out.
        baseline: The variant the others are compared with; None: as the comparison says.
        groups: A hierarchy that colours labels, as `geometry.read_hierarchy` takes it.

    Returns:
        The file.

    Raises:
        RunFolderError: When there is no such figure, variant or metric, the runs left nothing for it, or the file
            cannot be written.
        DataError: When `groups` cannot be read.
    """
    if name not in FIGURES:
        raise RunFolderError(unknown_name("figure", name, list(FIGURES)))
    comparison = load_several([run], baseline=baseline)
    if name == "curves":
        sketch = _curves(comparison, metric, log=log)
    elif name == "forest":
        narrow = width is not None and width < 6
        sketch = forest_sketch(comparison, comparison_rows(comparison), narrow=narrow)
    elif name == "reliability":
        errors = {one.name: found for one in comparison.variants if (found := error_analysis(one)) is not None}
        sketch = reliability_figure(comparison, errors)
    else:
        best = best_method(comparison) if variant is None else chosen_variant(comparison, variant, "--variant")
        if best is None:
            raise RunFolderError(f"{comparison.path}: no run has finished, so there is nothing to draw")
        sketch = _of_one(best, comparison, name, groups=groups)
    if sketch is None:
        raise RunFolderError(
            f"{run}: its runs left nothing to draw {name!r} of; {_NEEDS.get(name, 'it needs two labels or more')}"
        )
    return sketch.save(Path(out), width=width)


def _curves(comparison: Comparison, metric: str | None, *, log: bool) -> Sketch | None:
    known = {one.key: one for one in curve_metrics(comparison)}
    metric = next(iter(known), "test-error") if metric is None else metric
    if metric not in known:
        hint = nearest(metric, list(known))
        if not hint and metric.startswith("test"):
            hint = " (test metrics of every epoch are there with `test_every_epoch: true` only)"
        raise RunFolderError(f"--metric: no curves of {metric!r}{hint}; there are: {', '.join(known) or 'none'}")
    return curve_sketch(comparison, known[metric], log=log)


def _of_one(variant: VariantRuns, comparison: Comparison, name: str, *, groups: str | Path | None) -> Sketch | None:
    if name == "attention":
        seen = sentence_section(comparison, variant)
        return next(iter(seen["maps"]), None) if seen is not None else None
    similarities = label_similarities(variant)
    if similarities is None or not similarities.names:
        why = "" if similarities is None else f": {next(iter(similarities.left_out.values()))}"
        raise RunFolderError(f"{variant.name}: its runs left no label geometry that can be read{why}")
    if name == "confusion":
        errors = error_analysis(variant)
        counts = confusion_table(errors, similarities) if errors is not None else None
        if errors is None or counts is None or not counts.any():
            return None
        panel = Panel(f"{variant.name}: predicted instead, a run", counts / errors.runs, "confusions")
        return label_matrix(similarities.drawn, similarities.joined, [panel], key=name)
    if len(similarities.names) < 2:
        return None
    found = groups_for(similarities.names, groups)
    figures, _ = label_figures([(variant, similarities)], found, key=name, any_stress=True)
    return figures.get(name)


def export_geometry(geometry: LabelGeometry, folder: Path, *, reference: Tensor | None = None) -> list[Path]:
    """Writes dendrogram.svg, map.svg, heat-map.svg and distances.csv; returns their paths.

    Args:
        geometry: Two labels or more, at most `MOST_LABELS`.
        folder: Made where it is not there.
        reference: [C, C] distances, nan rows for labels that it lacks, over which the map is laid: WordNet's. The map
            is then of the labels it has.

    Raises:
        ValueError: When the geometry is too large.
        RunFolderError: When a file cannot be written.
    """
    names = geometry.names
    distances = geometry.distances().numpy()
    joined = linkage(geometry)
    apart = np.where(np.eye(len(names), dtype=bool), np.nan, distances)
    relative = apart / np.maximum(np.nanmean(apart, axis=1, keepdims=True), 1e-12)
    panel = Panel("relative distance", relative, "relative distance")
    plane = label_plane(distances, reference)
    shown = [names[number] for number in plane.labels]
    written = io.StringIO()
    table = csv.writer(written, lineterminator="\n")
    table.writerow(["label", *names])
    table.writerows([name, *row] for name, row in zip(names, distances.tolist(), strict=True))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunFolderError(f"{folder}: cannot be made ({error.strerror})") from error
    return [
        dendrogram(names, joined).save(folder / "dendrogram.svg"),
        label_map(shown, plane, stress=map_stress(distances, plane)).save(folder / "map.svg"),
        label_matrix(names, joined, [panel]).save(folder / "heat-map.svg"),
        write_text(folder / "distances.csv", written.getvalue()),
    ]
