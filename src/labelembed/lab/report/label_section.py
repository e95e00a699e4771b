"""What a page shows of the labels: one matrix for all variants, tree and map, the nearest and how stable they are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from labelembed.geometry import label_plane
from labelembed.lab.report.comparison import VariantRuns
from labelembed.lab.report.drawing import Sketch
from labelembed.lab.report.error_analysis import ErrorAnalysis, confusion_table
from labelembed.lab.report.formatting import counted, number, packed, packed_json, shortened
from labelembed.lab.report.label_figures import (
    MOST_LABEL_NAMES,
    LabelGroups,
    dendrogram,
    groups_for,
    label_map,
    map_stress,
)
from labelembed.lab.report.label_matrix import MOST_BESIDE, Panel, label_matrix
from labelembed.lab.report.similarities import DRAWN_LABELS, LabelSimilarities, Neighbours

#: A map that loses more of the distances than this misleads.
MOST_STRESS = 0.2
_MOST_PANELS = 3
_LISTED, _LISTED_OF_OTHERS, _NEAREST = 200, 20, 5
_SEARCHED, _MOST_NEIGHBOURS = 20, 700_000
_NAME_LENGTH, _LONGEST_NAME, _LONGEST_TITLE = 40, 300, 10_000
_UNITS = {
    "lift": "lift over a uniform distribution of the other labels",
    "relative distance": "relative distance: 1 is a label's mean distance to the others",
}
_COLOURS = {"lift": "blue above 1, orange below", "relative distance": "green, the darker the nearer"}


def label_section(
    learned: Sequence[tuple[VariantRuns, LabelSimilarities]],
    errors: ErrorAnalysis | None = None,
    groups: str | Path | None = None,
) -> dict[str, Any] | None:
    """Returns what the page says of labels; None where no variant left any.

    Args:
        learned: The variants that left a geometry, the one that the verdict is about first.
        errors: What the first variant gets wrong, for the matrix of confusions.
        groups: Colours tree and map; see `groups_for`.

    Returns:
        `figures`, see `label_figures`, and `tree`, whether the page draws the tree by itself; `order`, the labels'
        numbers from top to bottom of the matrix; `nearest` of each variant, see `_nearest`; `search`, what the search
        box looks in, as JSON values (None without labels); `notes`, what is not shown and why.
    """
    readable = [(variant, found) for variant, found in learned if len(found.names) > 1]
    if not readable:
        left_out = [line for variant, found in learned for line in _left_out(variant, found)]
        return {"figures": {}, "nearest": [], "search": None, "notes": left_out} if left_out else None
    first = readable[0][1]
    names = first.names
    same = [(variant, found) for variant, found in readable if found.names == names]
    notes = [
        f"{variant.name} has other labels and is not shown." for variant, found in readable if found.names != names
    ]
    found_groups = groups_for(names, groups)
    figures, more = label_figures(same, found_groups, errors, key="labels")
    more += [f"Colours of tree and map: {found_groups.source}."] if found_groups is not None else []
    search, cut = _search(same)
    count = len(first.order)
    return {
        "figures": figures,
        # Named, and not already beside the matrix without groups.
        "tree": count <= MOST_LABEL_NAMES and (count > MOST_BESIDE or found_groups is not None),
        "order": first.order,
        "nearest": [_nearest(variant, found, place == 0) for place, (variant, found) in enumerate(same)],
        "search": search,
        "notes": [*notes, *more, *cut],
    }


def label_figures(
    learned: Sequence[tuple[VariantRuns, LabelSimilarities]],
    groups: LabelGroups | None,
    errors: ErrorAnalysis | None = None,
    *,
    key: str,
    any_stress: bool = False,
) -> tuple[dict[str, Sketch], list[str]]:
    """Returns `heatmap`, `dendrogram` and `map` of the first variant, and notes on what is not drawn.

    Args:
        learned: Variants of the same labels; the matrix shows the first three.
        groups: Colours tree and map.
        errors: What the first variant gets wrong; None: no matrix of confusions.
        key: Begins the names of the figures.
        any_stress: Draw the map whatever its stress.
    """
    first, drawn = learned[0][1], learned[0][1].drawn
    count, notes = len(drawn), []
    confused = confusion_table(errors, first) if errors is not None else None
    others = learned[: _MOST_PANELS - int(confused is not None and bool(confused.any()))]
    panels = [
        Panel(variant.name + (f" ({found.measure})" if found.measure != "lift" else ""), found.relative, found.measure)
        for variant, found in others
    ]
    if confused is not None and errors is not None and confused.any():
        of_label = errors.of_label
        totals = np.ones(count) if of_label is None else of_label[first.skipped : first.skipped + count]
        shares = confused / np.maximum(totals, 1)[:, None] / errors.runs
        panels.append(Panel(f"predicted instead, by {learned[0][0].name}", shares, "confusions"))
    figures = {
        "heatmap": label_matrix(drawn, first.joined, panels, key=f"{key}-matrix", caption=_caption(first, panels))
    }
    if len(first.names) > count:
        notes.append(f"The figures are of the first {count:,} of {len(first.names):,} labels, the most frequent.")
    groups = groups.select(range(count)) if groups is not None else None
    figures["dendrogram"] = dendrogram(drawn, first.joined, groups=groups, key=f"{key}-tree")
    plane = label_plane(first.distances)
    stress = map_stress(first.distances, plane)
    if stress < MOST_STRESS or any_stress:
        of_map = groups.select(plane.labels) if groups is not None else None
        shown = [drawn[label] for label in plane.labels]
        figures["map"] = label_map(shown, plane, stress=stress, groups=of_map, key=f"{key}-map")
    else:
        notes.append(
            f"No map: a plane keeps too little of the distances (stress {number(stress, 2)}; one is drawn below "
            f"{MOST_STRESS})."
        )
    return figures, notes


def _caption(first: LabelSimilarities, panels: Sequence[Panel]) -> str:
    text = f"Mean over {counted(first.runs, 'run')}, one line a label, in the order of the tree. "
    shown = [kind for kind in dict.fromkeys(panel.shows for panel in panels) if kind != "confusions"]
    text += f"Colour: {'; '.join(f'{_UNITS[kind]}, {_COLOURS[kind]}' for kind in shown)}."
    if first.kind == "share":
        text += f" A label keeps {number(100 * first.own_share, 1)} % for itself on average (grey)."
    return text + (
        " Purple: how often the row's class is predicted as the column's." if panels[-1].shows == "confusions" else ""
    )


def _nearest(variant: VariantRuns, found: LabelSimilarities, is_first: bool) -> dict[str, Any]:
    """Returns the nearest labels of one variant, as the page lists them.

    Each of `lines` has the label's number and name, the whole name where that is longer (else empty), the nearest as
    (number, name, text, value), and in how many seeds the first is the nearest; `unit` is what the values are.
    """
    small = len(found.names) <= DRAWN_LABELS
    near = found.neighbours(_NEAREST, min(_LISTED if is_first else _LISTED_OF_OTHERS, len(found.names)))
    kind, lines = found.measure if small else found.kind, []
    for label, (places, scores) in enumerate(zip(near.places.tolist(), near.scores.tolist(), strict=True)):
        others = [
            (other, shortened(found.names[other], _NAME_LENGTH), similarity_text(score, kind), score)
            for other, score in zip(places, scores, strict=True)
        ]
        name = found.names[label]
        whole = shortened(name, _LONGEST_TITLE) if len(name) > _NAME_LENGTH else ""
        agreed = f"{found.nearest_in[label]} of {found.runs}" if small and found.runs > 1 else ""
        lines.append((label, shortened(name, _NAME_LENGTH), whole, others, agreed))
    unit = _UNITS[found.measure] if small else {"share": "share of the soft target"}.get(found.kind, found.kind)
    return {
        "variant": variant.name,
        "unit": unit,
        "stability": _stability(found, small),
        "lines": lines,
        "of": len(found.names),
        "left_out": _left_out(variant, found),
    }


def _stability(found: LabelSimilarities, small: bool) -> str:
    if not small:
        return "Of so many labels the first run alone is read."
    if math.isnan(found.agreement):
        return "One run: how stable this is over seeds is not known." if found.runs == 1 else ""
    always = int((found.nearest_in == found.runs).sum())
    return (
        f"Mean over {found.runs} seeds. The seeds rank the pairs of labels with a correlation of "
        f"{number(found.agreement, 2)}; for {always} of {len(found.nearest_in)} labels the nearest is the same in each."
    )


def _left_out(variant: VariantRuns, found: LabelSimilarities) -> list[str]:
    return [f"Left out, {variant.name}, seed {seed}: {why}" for seed, why in found.left_out.items()]


def similarity_text(value: float, kind: str) -> str:
    """Returns how similar two labels are: a lift, a relative distance, a share in per cent, a distance, or a cosine."""
    if kind == "lift":
        return f"{value:.2f}\u00d7"
    if kind == "relative distance":
        return f"{value:.2f}"
    if kind == "share":
        return f"{100 * value:.3g} %"
    return f"distance {-value:.3g}" if kind == "distance" else f"cosine {value:.3g}"


def _search(learned: Sequence[tuple[VariantRuns, LabelSimilarities]]) -> tuple[dict[str, Any], list[str]]:
    """Returns what the search box looks in, names once for all variants, and notes on what is cut."""
    names = learned[0][1].names
    room, notes, shown = _MOST_NEIGHBOURS, [], []
    for variant, found in learned:
        k = min(_SEARCHED, room // len(names), len(names) - 1)
        if k < min(_NEAREST, len(names) - 1):
            notes.append(f"{variant.name} is not in the list: with {len(names):,} labels it would be too large.")
            continue
        room -= k * len(names)
        small = len(names) <= DRAWN_LABELS
        about = {"kind": found.measure, "unit": _UNITS[found.measure]} if small else {"kind": found.kind, "unit": ""}
        shown.append({"variant": variant.name} | about | _packed(found.neighbours(k)))
    short = [shortened(name, _LONGEST_NAME) for name in names]
    cut = sum(len(name) > _LONGEST_NAME for name in names)
    if cut:
        notes.append(f"Of {counted(cut, 'name')} only the first {_LONGEST_NAME} characters are shown.")
    return {"names": packed_json(short), "count": len(names), "variants": shown}, notes


def _packed(near: Neighbours) -> dict[str, Any]:
    """Returns neighbours rank by rank: their numbers, and floats of 12 bits that count, which pack well."""
    wide = near.places.max(initial=0) > 65_535
    places = near.places.T.astype(np.uint32 if wide else np.uint16)
    rounded = (np.ascontiguousarray(near.scores.T, dtype="<f4").view(np.uint32) + 0x800) & np.uint32(0xFFFFF000)
    return {"k": int(near.places.shape[1]), "wide": bool(wide), "places": packed(places), "scores": packed(rounded)}
