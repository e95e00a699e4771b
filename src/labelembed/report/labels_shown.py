"""What a page shows of the labels: for each variant its pictures, for all one list to search in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from labelembed.geometry import kendall_agreement, label_plane
from labelembed.geometry.agreement import published_scores
from labelembed.metrics import Summary, summarise
from labelembed.report.comparison import Comparison, VariantRuns
from labelembed.report.drawing import Sketch
from labelembed.report.formatting import counted, shortened
from labelembed.report.heat_map import heat_data, heat_map, likeness_text
from labelembed.report.label_figures import dendrogram, label_map
from labelembed.report.label_groups import Reference
from labelembed.report.packing import packed_neighbours, packed_text
from labelembed.report.ranking import drawn_positions
from labelembed.report.similarities import (
    LabelSimilarities,
    Neighbours,
    SimilaritiesOf,
    class_means_of,
    label_similarities,
)

# Pictures of more variants than these make a page heavy and long; the list to search in has more.
_MOST_PICTURED = 4
_MOST_LISTED_VARIANTS = 12
LISTED_LABELS = 200
# Of the variants after the first, whose labels the search box has.
LISTED_OF_OTHERS = 20
LISTED_NEIGHBOURS = 5
SEARCHED_NEIGHBOURS = 20
# Of all variants together, which keeps a page of 50,000 labels below 5 MB.
_MOST_NEIGHBOURS = 1_050_000
_NAME_LENGTH = 40
_LONGEST_NAME = 300
_LONGEST_TITLE = 10_000


@dataclass(frozen=True)
class LabelSection:
    """One variant's labels.

    Attributes:
        variant: Its name.
        similarities: What its runs learned.
        figures: Heat map, tree and map, those that there are.
        heat: What the zoomable heat map draws; None where there is none.
    """

    variant: str
    similarities: LabelSimilarities
    figures: dict[str, Sketch] = field(default_factory=dict)
    heat: dict[str, Any] | None = None


@dataclass(frozen=True)
class KendallRow:
    """Agreement with WordNet.

    Attributes:
        name: The variant, or the method of the paper.
        learned: Tau-b of what was learned, over the runs; None where there is none.
        means: Tau-b of the class means of the outputs, which every objective leaves.
        published: What the paper has; None where it has none.
    """

    name: str
    learned: Summary | None
    means: Summary | None
    published: float | None = None


def label_sections(
    comparison: Comparison,
    reference_of: Callable[[Sequence[str]], Reference],
    order: Sequence[VariantRuns],
    similarities_of: SimilaritiesOf = label_similarities,
) -> tuple[list[LabelSection], Reference]:
    """Returns the labels of each variant that left any, and what is known of the labels.

    Args:
        comparison: What is shown.
        reference_of: Returns the `Reference` of names; asked once, with the labels of the first variant that has any.
        order: The variants in the order of their weight; the pictures are of the first four.
        similarities_of: Reads what a variant's runs learned.
    """
    sections: list[LabelSection] = []
    reference: Reference | None = None
    for variant in order[:_MOST_LISTED_VARIANTS]:
        found = similarities_of(variant)
        if found is None:
            continue
        if reference is None and found.names:
            reference = reference_of(found.names)
        number = comparison.variants.index(variant)
        # Of tens of thousands of labels one variant's pictures are as many as a page can carry.
        pictured = 1 if len(found.names) > len(found.likeness) else _MOST_PICTURED
        if found.names and len(sections) < pictured:
            pictures = label_pictures(found, variant.name, reference or Reference(), f"labels-{number}")
            sections.append(LabelSection(variant.name, found, pictures, heat_data(found)))
        else:
            sections.append(LabelSection(variant.name, found))
    return sections, reference or Reference()


def label_pictures(similarities: LabelSimilarities, variant: str, reference: Reference, key: str) -> dict[str, Sketch]:
    """Returns heat map, tree and map of a variant's labels by their names, those that can be drawn."""
    count = len(similarities.drawn)
    if count < 2:
        return {}
    found: dict[str, Sketch] = {}
    heat = heat_map(similarities, variant, f"{key}-heat")
    if heat is not None:
        found["heatmap"] = heat
    whole = len(similarities.names) == count
    groups = reference.groups.select(range(count)) if reference.groups is not None else None
    found["dendrogram"] = dendrogram(similarities.drawn, similarities.joined, groups=groups, key=f"{key}-tree")
    theirs = reference.wordnet if reference.wordnet is not None and whole else None
    plane = label_plane(similarities.distances, theirs)
    names = [similarities.names[place] for place in plane.labels]
    groups = groups.select(plane.labels) if groups is not None else None
    found["map"] = label_map(names, plane, groups=groups, key=f"{key}-map")
    return found


def kendall_rows(comparison: Comparison, sections: Sequence[LabelSection], reference: Reference) -> list[KendallRow]:
    """Returns each variant's agreement with WordNet, and the published ones; nothing without WordNet.

    A variant that learned nothing about labels has its class means in the table, which the others are to better.
    """
    if reference.wordnet is None:
        return []
    rows = []
    names = next(section.similarities.names for section in sections if section.similarities.names)
    learned_by = {one.variant: one.similarities for one in sections if one.similarities.names == names}
    for position in drawn_positions(comparison):
        variant = comparison.variants[position]
        similarities = learned_by.get(variant.name)
        learned = [_tau(geometry, reference) for geometry in (similarities.geometries.values() if similarities else ())]
        means = [
            _tau(geometry, reference)
            for run in variant.runs.values()
            if (geometry := class_means_of(run)) is not None and geometry.names == names
        ]
        if learned or means:
            rows.append(KendallRow(variant.name, _summary(learned), _summary(means)))
    return rows + [KendallRow(name, None, None, value) for name, value in published_scores(names).items()]


def search_data(sections: Sequence[LabelSection]) -> tuple[dict[str, Any] | None, list[str]]:
    """Returns what the search box looks in, as JSON values, and what was left out of it, in words.

    Names stand once for all variants of the same labels; a variant of other labels is left out.
    """
    sections = [section for section in sections if len(section.similarities.names) > 1]
    if not sections:
        return None, []
    names = sections[0].similarities.names
    room, notes, shown = _MOST_NEIGHBOURS, [], []
    for section in sections:
        if section.similarities.names != names:
            notes.append(f"{section.variant} has other labels and is not in the list.")
            continue
        k = min(SEARCHED_NEIGHBOURS, room // len(names), len(names) - 1)
        if k < min(LISTED_NEIGHBOURS, len(names) - 1):
            notes.append(f"{section.variant} is not in the list: with {len(names):,} labels it would be too large.")
            continue
        room -= k * len(names)
        near = section.similarities.neighbours(k)
        kind, runs = section.similarities.kind, section.similarities.runs
        shown.append(
            {"variant": section.variant, "kind": kind, "runs": runs}
            | packed_neighbours(near.places, near.scores, len(names))
        )
    short = [shortened(name, _LONGEST_NAME) for name in names]
    cut = sum(len(name) > _LONGEST_NAME for name in names)
    if cut:
        notes.append(f"Of {counted(cut, 'name')} only the first {_LONGEST_NAME} characters are shown.")
    return {"names": packed_text(short), "count": len(names), "variants": shown}, notes


def listed_neighbours(
    similarities: LabelSimilarities, most: int = LISTED_LABELS
) -> list[tuple[str, str, list[tuple[str, str, str]]]]:
    """Returns the first labels, each with its most similar others, as the page lists them.

    Returns:
        For each label its name, the whole name where that is longer (else an empty text), and the others: name, how
        alike as people read it, and in full.
    """
    if len(similarities.names) < 2:
        return []
    near = _first_neighbours(similarities, min(most, len(similarities.names)))
    found = []
    for name, places, scores in zip(similarities.drawn, near.places.tolist(), near.scores.tolist(), strict=False):
        others = [
            (
                shortened(similarities.names[place], _NAME_LENGTH),
                likeness_text(score, similarities.kind),
                repr(score),
            )
            for place, score in zip(places, scores, strict=True)
        ]
        found.append((shortened(name, _NAME_LENGTH), _whole_name(name), others))
    return found


def left_out_note(section: LabelSection) -> list[str]:
    """Returns why runs are not in the mean, a line each."""
    return [f"Left out, seed {seed}: {reason}" for seed, reason in section.similarities.left_out.items()]


def sources_note(reference: Reference) -> str:
    """Returns what labels are held against, or why they are not."""
    parts = []
    if reference.groups is not None:
        parts.append(f"Colours of trees and maps: {reference.groups.source}.")
    if reference.wordnet is not None:
        lacking = int(np.isnan(reference.wordnet).all(axis=1).sum())
        parts.append(f"WordNet lacks {counted(lacking, 'label')}." if lacking else "")
    elif reference.why_not:
        parts.append(f"Not held against WordNet: {reference.why_not}")
    return " ".join(part for part in parts if part)


def _whole_name(name: str) -> str:
    return shortened(name, _LONGEST_TITLE) if len(name) > _NAME_LENGTH else ""


def _first_neighbours(similarities: LabelSimilarities, shown: int) -> Neighbours:
    if len(similarities.names) <= len(similarities.likeness):
        near = similarities.neighbours(LISTED_NEIGHBOURS)
        return Neighbours(near.places[:shown], near.scores[:shown])
    return similarities.neighbours_of_first(shown, LISTED_NEIGHBOURS)


def _tau(geometry: Any, reference: Reference) -> float:
    assert reference.wordnet is not None
    return kendall_agreement(geometry.distances().numpy(), reference.wordnet, geometry.names).mean


def _summary(values: Sequence[float]) -> Summary | None:
    known = [value for value in values if np.isfinite(value)]
    return summarise(known) if known else None
