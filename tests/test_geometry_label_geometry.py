"""`LabelGeometry`: distances, soft targets and neighbours against plain loops, and files."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from labelembed.geometry import LabelGeometry, label_geometry

from .naive.cross_entropy import naive_softmax
from .naive.geometry import naive_cosine

KINDS = ["euclidean", "cosine", "similarities"]


def made(kind, count=40, size=6, seed=0, *, coarse=False):
    """Returns a geometry; a coarse one has few different values, and so many equal scores."""
    source = torch.Generator().manual_seed(seed)
    shape = count, count if kind == "similarities" else size
    table = torch.randint(0, 3, shape, generator=source).float() if coarse else torch.randn(shape, generator=source)
    names = [f"label {index}" for index in range(count)]
    if kind == "similarities":
        return LabelGeometry(names, similarities=table)
    return LabelGeometry(names, vectors=table, metric=kind)


def test_position_of_a_number_prefers_the_label_of_that_name():
    geometry = LabelGeometry(("2", "0", "1"), vectors=torch.tensor([[1.0], [2.0], [4.0]]))
    assert geometry.position(2) == geometry.position("2") == 0
    assert geometry.position(0) == geometry.position("0") == 1
    subwords = LabelGeometry(("hommes", "\u2581homme", "homme\u2581"), vectors=torch.eye(3))
    assert subwords.position("homme") == subwords.position(np.int64(1)) == 1
    nearest = {name: near[0].name for name, near in geometry.neighbours_of(geometry.names, 1).items()}
    assert nearest == {"2": "0", "0": "2", "1": "0"}


@pytest.mark.parametrize(("label", "hint"), [("hrose", "horse"), (4, ""), (-1, ""), ("", ""), ("quite unlike", "")])
def test_an_unknown_label_gives_a_key_error_with_the_nearest(label, hint):
    geometry = LabelGeometry(("cat", "dog", "horse", "car"), similarities=torch.eye(4))
    for ask in (geometry.position, geometry.neighbours, lambda name: geometry.neighbours_of(["cat", name])):
        with pytest.raises(KeyError, match=f"mean {hint!r}" if hint else f"no label {str(label)!r}; there are 4"):
            ask(label)


def naive_distances(geometry):
    """By vectors; of similarities the label embedding's way: symmetrise, scale to 0..1, V sqrt(max(L, 0))."""
    if geometry.similarities is None:
        points = geometry.vectors.tolist()
        distance = math.dist if geometry.metric == "euclidean" else lambda a, b: 1 - naive_cosine(a, b)
    else:
        table = geometry.similarities.double().numpy()
        table = (table + table.T) / 2
        values, vectors = np.linalg.eigh((table - table.min()) / (table.max() - table.min()))
        points, distance = (vectors * np.sqrt(values.clip(0))).tolist(), math.dist
    return torch.tensor([[distance(one, other) for other in points] for one in points], dtype=torch.float64)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [2, 67])
def test_distances_and_soft_targets_equal_plain_loops(kind, count):
    geometry = made(kind, count)
    distances = geometry.distances()
    # Float64; the square root of an eigenvalue near 0 may turn rounding of 1e-16 into 1e-8.
    tolerance = 1e-7 if kind == "similarities" else 1e-12
    torch.testing.assert_close(distances, naive_distances(geometry), rtol=0, atol=tolerance)
    assert torch.equal(distances, distances.T)
    assert not distances.diagonal().any()
    assert bool((distances >= 0).all())
    table = -distances if geometry.similarities is None else geometry.similarities
    expected = torch.tensor([naive_softmax(row) for row in table.tolist()])
    torch.testing.assert_close(geometry.soft_targets(), expected, rtol=1e-5, atol=1e-6)  # a float32 softmax


def test_distances_and_neighbours_of_one_label_and_of_equal_ones():
    alone = LabelGeometry(("alone",), similarities=torch.tensor([[2.0]]))
    assert (alone.neighbours("alone"), alone.neighbours_of([])) == ([], {})
    assert (alone.distances().tolist(), alone.soft_targets().tolist()) == ([[0.0]], [[1.0]])
    assert not LabelGeometry("abcd", similarities=torch.ones(4, 4)).distances().any()
    points = torch.randn(20, 33, generator=torch.Generator().manual_seed(0)).repeat(2, 1)
    for metric in ("euclidean", "cosine"):
        twins = LabelGeometry(range(40), vectors=points, metric=metric).distances().diagonal(20)
        assert 0 <= float(twins.min()) <= float(twins.max()) < 1e-15  # a unit in the last place of a cosine of 1


def naive_scores(geometry, label):
    if geometry.similarities is not None:
        return naive_softmax(geometry.similarities[label].tolist())
    rows = geometry.vectors.tolist()
    if geometry.metric == "euclidean":
        return [-math.dist(rows[label], row) for row in rows]
    return [naive_cosine(rows[label], row) for row in rows]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("k", [0, 5, 100])
@pytest.mark.parametrize("coarse", [False, True])
def test_neighbours_equal_plain_loops_and_equal_scores_come_in_the_order_of_the_labels(kind, k, coarse, monkeypatch):
    geometry = made(kind, size=2 if coarse else 6, coarse=coarse)
    monkeypatch.setattr(label_geometry, "_SCORES_AT_ONCE", 3 * 40)  # blocks of three labels, the last of one
    found = geometry.neighbours_of(geometry.names, k)
    for label, name in enumerate(geometry.names):
        scores = naive_scores(geometry, label)
        others = [other for other in range(40) if other != label]
        others.sort(key=lambda other: (-round(scores[other], 9), other))
        assert [near.name for near in found[name]] == [f"label {other}" for other in others[:k]]
        # Float64 over six coordinates, or a softmax of 40.
        expected = [scores[other] for other in others[:k]]
        assert [near.score for near in found[name]] == pytest.approx(expected, abs=1e-12)
        assert geometry.neighbours(label, k=k) == found[name]  # whoever else is asked for
    some = geometry.neighbours_of(["label 7", 3], k=k)
    assert some == {name: found[name] for name in ("label 7", "label 3")}


ODD_NAMES = ("<script>alert(1)</script>", "", "🐈 cat", 'Ärger\n\t"quoted"', "犬", "a" * 1000, "null", "0", " ", "\x00")


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({}, "exactly one of"),
        ({"vectors": torch.zeros(3, 2)}, r"got \[3, 2\] and 2 names"),
        ({"similarities": torch.zeros(2, 3)}, "square"),
        ({"vectors": torch.tensor([[0.0], [float("nan")]])}, "'dog' holds a value that is not finite"),
        ({"names": ("cat", "cat"), "vectors": torch.zeros(2, 1)}, "'cat' stands for more than one"),
    ],
)
def test_tables_that_do_not_fit_are_refused(arguments, word):
    with pytest.raises(ValueError, match=word):
        LabelGeometry(**{"names": ("cat", "dog")} | arguments)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", ["vectors", "similarities"])
def test_a_file_keeps_everything_bit_for_bit(tmp_path, kind, dtype):
    count = len(ODD_NAMES)
    table = torch.randn(count, count, generator=torch.Generator().manual_seed(0)).to(dtype).T  # a view
    saved = LabelGeometry(ODD_NAMES, **{kind: table}, metric="cosine", source='LabelEmbedding "ü" 🐈')
    loaded = LabelGeometry.load(saved.save(tmp_path / "geometry of labels 🐈.safetensors"))
    assert (loaded.names, loaded.metric, loaded.source) == (ODD_NAMES, saved.metric, saved.source)
    assert torch.equal(getattr(loaded, kind), table.float())
    assert loaded.to_bytes() == saved.to_bytes()
