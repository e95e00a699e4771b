"""Agreement with a reference and a hierarchy, trees and maps, against loops."""

from __future__ import annotations

import json
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial import procrustes

from labelembed import geometry
from labelembed.errors import DataError
from labelembed.geometry import (
    LabelGeometry,
    group_agreement,
    kendall_agreement,
    linkage,
    multidimensional_scaling,
    read_hierarchy,
    shipped_hierarchy,
)

from .naive.geometry import naive_agreement, naive_average_linkage, naive_path_lengths

NAMES = ("cat", "dog", "eagle", "car", "bus", "oak tree")
GROUPS = {"animals": {"mammals": ["cat", "dog"], "birds": "eagle"}, "vehicles": ["car", "bus"], "plants": ["oak tree"]}
PARENTS = {"cat": "mammals", "dog": "mammals", "mammals": "animals", "eagle": "birds", "birds": "animals"}
PARENTS |= {"animals": "all", "car": "vehicles", "bus": "vehicles", "vehicles": "all"}
PARENTS |= {"oak tree": "plants", "plants": "all"}


def made_distances(count, seed, *, ties):
    random = np.random.default_rng(seed)
    table = random.integers(1, 4, (count, count)).astype(float) if ties else random.random((count, count))
    table = table + table.T
    np.fill_diagonal(table, 0)
    return table


def made_geometry(count=6, size=3, seed=0):
    vectors = torch.randn(count, size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return LabelGeometry(range(count), vectors=vectors)


@pytest.mark.parametrize("count", [2, 3, 23])
@pytest.mark.parametrize("ties", [False, True])
def test_agreement_equals_the_loops(count, ties):
    for seed in range(5):
        learned = made_distances(count, seed, ties=ties)
        reference = made_distances(count, seed + 100, ties=True)
        mean, taus = naive_agreement(learned.tolist(), reference.tolist())
        result = kendall_agreement(learned, reference)
        assert result.mean == pytest.approx(mean, abs=1e-12, nan_ok=True)
        found = [result.per_label.get(str(label)) for label in range(count)]
        assert found == pytest.approx(taus, abs=1e-12)
        assert set(result.left_out) == {str(label) for label, tau in enumerate(taus) if tau is None}


def test_a_label_without_a_tau_is_left_out_of_the_mean_and_named():
    learned, reference = (made_distances(6, seed, ties=False) for seed in (1, 2))
    reference[3], reference[:, 3] = 2.0, 2.0  # all equal
    reference[5], reference[:, 5] = np.nan, np.nan
    result = kendall_agreement(learned, reference, list("abcdef"))
    assert list(result.per_label) == ["a", "b", "c", "e"]
    assert "equal" in result.left_out["d"]
    assert "not in the reference" in result.left_out["f"]
    np.fill_diagonal(reference, np.nan)  # as people leave it blank
    kept = kendall_agreement(learned[:5, :5], reference[:5, :5], list("abcde"))
    assert result.per_label == kept.per_label


def write(folder, groups, name="groups.json"):
    path = folder / name
    path.write_text(groups if isinstance(groups, str) else json.dumps(groups, ensure_ascii=False), encoding="utf-8")
    return path


def test_nested_groups_give_the_number_of_edges(tmp_path):
    hierarchy = read_hierarchy(write(tmp_path, GROUPS), NAMES)
    assert hierarchy.distances().tolist() == naive_path_lengths(PARENTS, NAMES)
    in_lists = {"animals": [{"mammals": ["cat", "dog"]}, {"birds": ["eagle"]}], "vehicles": ["car", "bus"]}
    again = read_hierarchy(write(tmp_path, in_lists), NAMES[:5])
    assert torch.equal(again.distances(), hierarchy.distances()[:5, :5])
    assert len(set(hierarchy.groups())) == 4


@pytest.mark.parametrize(
    ("groups", "words"),
    [
        (
            {"a": ["cat", "dog"], "b": ["cat", "car", "bus", "eagle"]},
            ["missing (1): 'oak tree'", "repeated (1): 'cat'"],
        ),
        ({"a": ["cat", "dgo", "fish"]}, ["unknown (2): 'dgo' (did you mean 'dog'?), 'fish'", "missing (5)"]),
        ('{"a": ["cat"', ["JSON"]),
        ("animals: [cat, dog]\n", ["JSON"]),
        ({"a": ["cat", "dog"], "b": [None]}, ["group 'b' holds None"]),
        ({"a": ["cat", "dog"], "b": ""}, ["group 'b' holds ''"]),
        (["cat", "dog"], ["JSON object"]),
        ('{"a": ' + "[" * 990 + "]" * 990 + "}", ["nested"]),
        ('{"a": ' + "[" * 100_000, ["JSON"]),
    ],
)
def test_bad_hierarchies_are_refused_with_all_that_is_wrong(tmp_path, groups, words):
    path = write(tmp_path, groups)
    with pytest.raises(DataError) as caught:
        read_hierarchy(path, NAMES)
    assert all(word in str(caught.value) for word in (str(path), *words))


def test_shipped_groups_of_cifar_100_are_20_of_5():
    with pytest.raises(DataError, match=r"unknown .99.: 'aquarium_fish'"):
        read_hierarchy("cifar100", ["apple"])
    assert shipped_hierarchy(["apple", "pear"]) is None
    groups = json.loads(Path(geometry.__file__).with_name("hierarchies.json").read_text())["cifar100"]
    names = sorted(chain.from_iterable(groups.values()))
    hierarchy = shipped_hierarchy(names)
    assert [len(names), hierarchy.source] == [100, "cifar100"]
    assert sorted(hierarchy.groups().count(group) for group in set(hierarchy.groups())) == [5] * 20
    assert set(hierarchy.distances().unique().tolist()) == {0, 2, 4}


def test_group_agreement_counts_nearest_of_the_same_group(tmp_path):
    groups = {"animals": ["cat", "dog", "eagle"], "vehicles": ["car", "bus"], "plants": ["oak tree"]}
    hierarchy = read_hierarchy(write(tmp_path, groups), NAMES)
    # cat, dog, eagle, car, bus, oak tree on a line: eagle lies beside car, and dog has two nearest.
    points = torch.tensor([[0.0], [1.0], [9.0], [10.0], [12.0], [2.0]], dtype=torch.float64)
    distances = LabelGeometry(NAMES, vectors=points).distances()
    found = group_agreement(distances, hierarchy)
    # cat 1; dog 1/2 (cat or oak tree); eagle 0 (car); car 0 (eagle); bus 1; oak tree has no other in its group
    assert found.same_group == pytest.approx((1 + 0.5 + 0 + 0 + 1) / 5)
    assert found.by_chance == pytest.approx((2 / 5 * 3 + 1 / 5 * 2) / 5)
    assert found.labels == 5
    mean, _ = naive_agreement(distances.tolist(), hierarchy.distances().tolist())
    assert found.kendall.mean == pytest.approx(mean, abs=1e-12)
    assert list(found.kendall.left_out) == ["oak tree"]


@pytest.mark.parametrize("count", [2, 3, 9])
def test_average_linkage_joins_at_the_mean_distance(count):
    made = made_geometry(count)
    tree = linkage(made)
    assert tree[:, 2] == pytest.approx(naive_average_linkage(made.distances().tolist()), abs=1e-12)


def test_scaling_finds_a_plane_again():
    points = np.random.default_rng(0).normal(size=(12, 2))
    distances = LabelGeometry(range(12), vectors=torch.from_numpy(points)).distances()
    found = multidimensional_scaling(distances)
    assert procrustes(found, points)[2] < 1e-12
    assert np.array_equal(found, multidimensional_scaling(distances))
    assert multidimensional_scaling([[0.0]]).tolist() == [[0.0, 0.0]]
