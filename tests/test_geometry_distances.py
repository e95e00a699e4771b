"""Labels by name and index, their distances and soft targets, against plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from labelembed.geometry import LabelGeometry

from .naive.cross_entropy import naive_softmax

torch.set_num_threads(1)  # with tensors this small, threads that wait for each other take most of the time
ANIMALS = ("cat", "dog", "horse", "car")


def make_vectors(count=7, size=3, seed=0, **arguments):
    vectors = torch.randn(count, size, generator=torch.Generator().manual_seed(seed))
    return LabelGeometry([f"label {index}" for index in range(count)], vectors=vectors, **arguments)


def make_similarities(count=7, seed=0):
    table = torch.randn(count, count, generator=torch.Generator().manual_seed(seed))
    return LabelGeometry([f"label {index}" for index in range(count)], similarities=table)


def naive_euclidean(one, other):
    return math.sqrt(sum((a - b) ** 2 for a, b in zip(one, other, strict=True)))


def naive_cosine(one, other):
    product = sum(a * b for a, b in zip(one, other, strict=True))
    return product / math.sqrt(sum(a * a for a in one)) / math.sqrt(sum(b * b for b in other))


def naive_distances(points, distance):
    return torch.tensor([[distance(one, other) for other in points] for one in points], dtype=torch.float64)


def naive_embedding_distances(table):
    """The label embedding's way: symmetrise, scale to 0..1, V sqrt(max(L, 0)), Euclidean."""
    count = len(table)
    symmetric = [[(table[i][j] + table[j][i]) / 2 for j in range(count)] for i in range(count)]
    low, high = min(map(min, symmetric)), max(map(max, symmetric))
    scaled = np.array([[(value - low) / (high - low) for value in row] for row in symmetric])
    values, eigenvectors = np.linalg.eigh(scaled)
    points = [
        [float(eigenvectors[i, k]) * math.sqrt(max(float(values[k]), 0.0)) for k in range(count)] for i in range(count)
    ]
    return naive_distances(points, naive_euclidean)


def test_position_of_a_number_prefers_the_label_of_that_name():
    geometry = LabelGeometry(("2", "1", "0"), similarities=torch.eye(3))
    assert geometry.position(2) == geometry.position("2") == 0
    assert geometry.position(0) == geometry.position("0") == 2


@pytest.mark.parametrize(
    ("label", "hint"), [("hrose", " (did you mean 'horse'?)"), (4, ""), (-1, ""), ("", ""), ("quite unlike", "")]
)
def test_unknown_label_gives_a_key_error_with_the_nearest(label, hint):
    geometry = LabelGeometry(ANIMALS, similarities=torch.eye(4))
    with pytest.raises(KeyError) as caught:
        geometry.position(label)
    assert caught.value.args[0] == f"no label {str(label)!r}{hint}; there are 4: cat, dog, horse, car"
    many = LabelGeometry([f"n{index:03}" for index in range(500)], vectors=torch.zeros(500, 1))
    with pytest.raises(KeyError, match=r"there are 500: n000, .*, n009, \.\.\."):
        many.neighbours(label if label != 4 else 500)


@pytest.mark.parametrize(("k", "count"), [(0, 0), (-3, 0), (1, 1), (6, 6), (7, 6), (10**6, 6)])
def test_neighbours_are_at_most_all_the_others(k, count):
    found = [neighbour.name for neighbour in make_vectors().neighbours(3, k=k)]
    assert len(found) == len(set(found)) == count
    assert "label 3" not in found


def test_a_single_label_has_no_neighbours_and_no_distance():
    geometry = LabelGeometry(("alone",), similarities=torch.tensor([[2.0]]))
    assert geometry.neighbours("alone") == []
    assert geometry.distances().tolist() == [[0.0]]
    assert geometry.soft_targets().tolist() == [[1.0]]


def test_euclidean_and_cosine_distances_equal_plain_loops():
    for seed in range(3):
        points = make_vectors(seed=seed).vectors.tolist()
        euclidean = make_vectors(seed=seed).distances()
        cosine = make_vectors(seed=seed, metric="cosine").distances()
        # Float64 over three coordinates.
        torch.testing.assert_close(euclidean, naive_distances(points, naive_euclidean), rtol=0, atol=1e-12)
        expected = naive_distances(points, lambda one, other: 1 - naive_cosine(one, other))
        torch.testing.assert_close(cosine, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("count", [2, 7, 20])
def test_distances_of_similarities_equal_the_eigendecomposition_recipe(count):
    for seed in range(3):
        geometry = make_similarities(count, seed)
        expected = naive_embedding_distances(geometry.similarities.double().tolist())
        # The square root of an eigenvalue near 0 may turn rounding of 1e-16 into 1e-8.
        torch.testing.assert_close(geometry.distances(), expected, rtol=0, atol=1e-7)
        assert float(geometry.distances().max()) > 0.1


def test_distances_of_equal_similarities_are_zero():
    assert torch.equal(LabelGeometry(ANIMALS, similarities=torch.ones(4, 4)).distances(), torch.zeros(4, 4).double())


@pytest.mark.parametrize("kind", ["euclidean", "cosine", "similarities"])
@pytest.mark.parametrize("count", [2, 67, 300])
def test_distances_are_symmetric_not_negative_and_zero_on_the_diagonal(kind, count):
    geometry = make_similarities(count) if kind == "similarities" else make_vectors(count, 33, metric=kind)
    distances = geometry.distances()
    assert distances.dtype == torch.float64
    assert torch.equal(distances, distances.T)
    assert bool((distances.diagonal() == 0).all())
    assert bool((distances >= 0).all())


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_distances_between_equal_points_are_zero(metric):
    points = torch.randn(20, 33, generator=torch.Generator().manual_seed(0)).repeat(2, 1)
    names = [str(index) for index in range(40)]
    distances = LabelGeometry(names, vectors=points, metric=metric).distances()
    twins = torch.cat([distances.diagonal(20), distances.diagonal(-20)])
    assert bool((twins >= 0).all())
    assert float(twins.max()) < 1e-15  # a unit in the last place of a cosine of 1


def test_close_labels_keep_their_distance():
    """Where inner products of large vectors would cancel every digit."""
    points = torch.tensor([[1e4, 1e4], [1e4, 1e4 + 1 / 512]])
    distances = LabelGeometry(("a", "b"), vectors=points).distances()
    assert float(distances[0, 1]) == float(points[1, 1] - points[0, 1])
    assert 0.0009 < float(distances[0, 1]) < 0.003


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_soft_targets_of_similarities_are_their_softmax(dtype):
    table = make_similarities().similarities.to(dtype)
    geometry = LabelGeometry([str(index) for index in range(7)], similarities=table)
    soft = geometry.soft_targets()
    expected = torch.tensor([naive_softmax(row) for row in table.tolist()])
    assert soft.dtype == torch.float32
    torch.testing.assert_close(soft, expected, rtol=1e-5, atol=1e-6)  # a float32 softmax
    torch.testing.assert_close(soft.sum(dim=1), torch.ones(7), rtol=0, atol=1e-6)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_soft_targets_of_vectors_are_the_softmax_of_minus_the_distances(metric):
    geometry = make_vectors(metric=metric)
    expected = torch.tensor([naive_softmax((-row).tolist()) for row in geometry.distances()])
    torch.testing.assert_close(geometry.soft_targets(), expected, rtol=1e-5, atol=1e-6)
    assert geometry.soft_targets().argmax(dim=1).tolist() == list(range(7))
    torch.testing.assert_close(geometry.soft_targets().sum(dim=1), torch.ones(7), rtol=0, atol=1e-6)
