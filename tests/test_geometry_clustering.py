"""Agglomerative trees and their files, and labels as points in few dimensions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial import procrustes

from labelembed.geometry import LabelGeometry, label_plane, leaf_order, linkage, multidimensional_scaling, to_json

from .naive.geometry import naive_average_linkage


def made_geometry(count=6, size=3, seed=0):
    vectors = torch.randn(count, size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return LabelGeometry(range(count), vectors=vectors)


@pytest.mark.parametrize("count", [2, 3, 9])
def test_average_linkage_joins_at_the_mean_distance(count):
    geometry = made_geometry(count)
    joined = linkage(geometry)
    assert joined.shape == (count - 1, 4)
    assert joined[:, 2] == pytest.approx(naive_average_linkage(geometry.distances().tolist()), abs=1e-12)
    assert sorted(leaf_order(joined)) == list(range(count))


@pytest.mark.parametrize(
    ("geometry", "method", "words"),
    [
        (LabelGeometry("ab", similarities=torch.eye(2)), "ward", "`method` ward needs vectors"),
        (LabelGeometry("ab", vectors=torch.eye(2), metric="cosine"), "ward", "`method` ward needs vectors"),
        (LabelGeometry("ab", vectors=torch.eye(2)), "nearest", "nearest"),
        (LabelGeometry("a", vectors=torch.zeros(1, 1)), "average", "a tree has 2 to 5,000 labels, got 1"),
        (
            LabelGeometry([str(number) for number in range(5001)], vectors=torch.zeros(5001, 1)),
            "average",
            r"got 5,001;.*geometry\.select\(range\(5000\)\)",
        ),
    ],
)
def test_trees_that_cannot_be_are_refused(geometry, method, words):
    with pytest.raises(ValueError, match=words):
        linkage(geometry, method=method)


def test_a_tree_as_deep_as_it_has_labels_is_written():
    count = 3000
    points = torch.cumsum(torch.arange(count, dtype=torch.float64), 0)[:, None]  # each joins the chain alone
    names = [str(number) for number in range(count)]
    joined = linkage(LabelGeometry(names, vectors=points), method="single")
    assert sorted(leaf_order(joined)) == list(range(count))
    assert to_json(joined, names).count('"children"') == count - 1
    with pytest.raises(ValueError, match="the tree has 3000 labels, but there are 5 names"):
        to_json(joined, names[:5])


def test_scaling_finds_a_plane_again():
    points = np.random.default_rng(0).normal(size=(12, 2))
    distances = LabelGeometry([str(n) for n in range(12)], vectors=torch.from_numpy(points)).distances()
    found = multidimensional_scaling(distances)
    assert procrustes(found, points)[2] < 1e-12
    assert np.array_equal(found, multidimensional_scaling(distances))


@pytest.mark.parametrize(
    ("distances", "dimensions", "words"),
    [
        (np.zeros((2, 3)), 2, r"must be square \[C, C\], got \[2, 3\]"),
        (np.array([[0, np.inf], [np.inf, 0]]), 2, "must be finite"),
        (np.array([[0.0, 1.0], [2.0, 0.0]]), 2, "must be symmetric"),
        (np.zeros((2, 2)), 0, "`dimensions` must be >= 1, got 0"),
    ],
)
def test_scaling_refuses_what_are_no_distances(distances, dimensions, words):
    with pytest.raises(ValueError, match=words):
        multidimensional_scaling(distances, dimensions)


def test_map_is_laid_over_a_reference_without_what_it_lacks():
    distances = made_geometry(6).distances().numpy()
    reference = made_geometry(6, seed=1).distances().numpy()
    reference[2], reference[:, 2] = np.nan, np.nan
    rows = [0, 1, 3, 4, 5]
    found = label_plane(distances, reference)
    ours, theirs = (multidimensional_scaling(table[np.ix_(rows, rows)]) for table in (distances, reference))
    assert found.labels == rows
    assert all(map(np.array_equal, (found.reference, found.points, found.disparity), procrustes(theirs, ours)))
    for other in (None, np.full((6, 6), np.nan), np.where(np.eye(6) > 0, 0, np.inf)):
        plain = label_plane(distances, other)
        assert plain.labels == list(range(6))
        assert plain.reference is plain.disparity is None
    assert label_plane(distances, np.zeros((6, 6))).disparity is None  # one point for all labels fits nothing
