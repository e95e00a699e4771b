"""Similar labels among many: the same as one by one, in the memory of a block, and from a run's file."""

from __future__ import annotations

import math

import pytest
import torch

from labelembed.errors import DataError
from labelembed.geometry import LabelGeometry, nearest
from labelembed.objectives import LabelEmbedding
from tests.made_cli import call, succeed
from tests.made_runs import make_run, measures

from .naive.cross_entropy import naive_softmax

torch.set_num_threads(1)
KINDS = ["euclidean", "cosine", "similarities"]


def make(kind, count=40, size=6, seed=0, *, coarse=False):
    """Returns a geometry; a coarse one has few different values, and so many equal scores."""
    source = torch.Generator().manual_seed(seed)
    width = count if kind == "similarities" else size
    table = torch.randint(0, 3, (count, width), generator=source).float() if coarse else None
    table = torch.randn(count, width, generator=source) if table is None else table
    names = [f"label {index}" for index in range(count)]
    if kind == "similarities":
        return LabelGeometry(names, similarities=table)
    return LabelGeometry(names, vectors=table, metric=kind)


def naive_scores(geometry, label):
    if geometry.similarities is not None:
        return naive_softmax(geometry.similarities[label].tolist())
    rows = geometry.vectors.tolist()
    if geometry.metric == "euclidean":
        return [-math.dist(rows[label], row) for row in rows]
    lengths = [math.sqrt(sum(a * a for a in row)) for row in rows]
    products = [sum(a * b for a, b in zip(rows[label], row, strict=True)) for row in rows]
    return [
        product / (lengths[label] * length) if length and lengths[label] else 0.0
        for product, length in zip(products, lengths, strict=True)
    ]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("k", [1, 5, 39, 100])
def test_neighbours_of_all_labels_equal_plain_loops(kind, k, monkeypatch):
    geometry = make(kind)
    monkeypatch.setattr(nearest, "_SCORES_AT_ONCE", 3 * 40)  # blocks of three labels, the last of one
    found = geometry.all_neighbours(k)
    assert list(found) == list(geometry.names)
    for label, name in enumerate(geometry.names):
        scores = naive_scores(geometry, label)
        expected = sorted((other for other in range(40) if other != label), key=lambda other: -scores[other])[:k]
        assert [near.name for near in found[name]] == [f"label {other}" for other in expected]
        # Float64 over six coordinates, or a softmax of 40.
        assert [near.score for near in found[name]] == pytest.approx([scores[other] for other in expected], abs=1e-12)


@pytest.mark.parametrize("kind", ["euclidean", "cosine"])
@pytest.mark.parametrize("shift", [0.0, 100.0])
def test_coarse_neighbours_are_the_same_to_six_digits(kind, shift, monkeypatch):
    """Far from the origin products of vectors lose digits; what is the same in all of them is taken off first."""
    vectors = torch.randn(40, 6, generator=torch.Generator().manual_seed(1)) + (shift if kind == "euclidean" else 0)
    monkeypatch.setattr(nearest, "_SCORES_AT_ONCE", 3 * 40)
    asked = [7, 0, 39, 12]
    geometry = LabelGeometry([str(label) for label in range(40)], vectors=vectors, metric=kind)
    places, scores = nearest.nearest_labels(vectors, asked, 5, kind=kind, coarse=True)
    assert scores.dtype == torch.float64
    for label, near, found in zip(asked, places.tolist(), scores.tolist(), strict=True):
        exact = naive_scores(geometry, label)
        expected = sorted((other for other in range(40) if other != label), key=lambda other: -exact[other])[:5]
        assert near == expected
        # Six digits of the largest score; a distance is the root of a difference, and keeps half as many near 0.
        assert found == pytest.approx([exact[other] for other in expected], rel=2e-5)


def test_coarse_neighbours_of_equal_vectors_have_distance_0_and_no_label_is_its_own():
    vectors = torch.tensor([[1.0, 2.0], [1.0, 2.0], [0.0, 0.0], [5.0, 5.0]])
    places, scores = nearest.nearest_labels(vectors, range(4), 3, kind="euclidean", coarse=True)
    assert places[0].tolist() == [1, 2, 3]
    assert scores[0].tolist() == pytest.approx([0.0, -(5**0.5), -5.0], abs=1e-3)
    assert all(label not in near for label, near in enumerate(places.tolist()))
    _, cosines = nearest.nearest_labels(vectors, range(4), 3, kind="cosine", coarse=True)
    assert cosines[2].tolist() == [0.0, 0.0, 0.0]  # a vector of zeros is like nothing
    soft = torch.randn(5, 5, generator=torch.Generator().manual_seed(0))
    one, other = (nearest.nearest_labels(soft, range(5), 2, kind="similarities", coarse=coarse) for coarse in (0, 1))
    assert torch.equal(one[0], other[0])
    assert torch.equal(one[1], other[1])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("k", [1, 3, 10])
def test_equal_scores_come_in_the_order_of_the_labels(kind, k):
    """With three different values an entry most scores have equals, also across the edge of the k."""
    geometry = make(kind, count=60, size=2, coarse=True)
    for label, name in enumerate(geometry.names):
        scores = naive_scores(geometry, label)
        others = sorted(
            (other for other in range(60) if other != label), key=lambda other: (-round(scores[other], 9), other)
        )
        assert [near.name for near in geometry.all_neighbours(k)[name]] == [f"label {other}" for other in others[:k]]


@pytest.mark.parametrize("kind", KINDS)
def test_several_labels_are_given_by_name_or_number_in_the_order_asked(kind):
    geometry = make(kind)
    found = geometry.neighbours_of(["label 7", 3, "label 39"], k=4)
    assert list(found) == ["label 7", "label 3", "label 39"]
    everything = geometry.all_neighbours(4)
    for name, near in found.items():
        assert [one.name for one in near] == [one.name for one in geometry.neighbours(name, k=4)]
        assert [one.name for one in near] == [one.name for one in everything[name]]
    assert geometry.neighbours_of([]) == {}
    with pytest.raises(KeyError, match=r"no label 'lable 7' \(did you mean 'label 7'\?\); there are 40"):
        geometry.neighbours_of(["label 3", "lable 7"])


def test_a_label_whose_name_is_anothers_number_is_its_own():
    geometry = LabelGeometry(("2", "0", "1"), vectors=torch.tensor([[1.0], [2.0], [4.0]]))
    assert {name: near[0].name for name, near in geometry.all_neighbours(1).items()} == {"2": "0", "0": "2", "1": "0"}


@pytest.mark.parametrize("seed", range(5))
def test_a_labels_neighbours_do_not_depend_on_who_else_is_asked_for(seed):
    geometry = make("cosine", count=301, size=37, seed=seed)
    everything = geometry.all_neighbours(4)
    for name in geometry.names[::50]:
        assert geometry.neighbours(name, k=4) == everything[name]


def test_labels_without_direction_are_alike_to_nothing():
    geometry = LabelGeometry(("a", "b", "zero"), vectors=torch.tensor([[1.0, 0], [1.0, 1.0], [0, 0]]), metric="cosine")
    assert [near.score for near in geometry.neighbours("zero")] == [0.0, 0.0]
    assert geometry.neighbours("a")[-1] == ("zero", 0.0)


def test_a_block_of_scores_is_all_that_is_made(monkeypatch):
    """No score of all labels with all is made at once."""
    sizes = []
    largest = nearest.stable_topk

    def watched(scores, k):
        sizes.append(scores.numel())
        return largest(scores, k)

    monkeypatch.setattr(nearest, "stable_topk", watched)
    monkeypatch.setattr(nearest, "_SCORES_AT_ONCE", 40_000)
    geometry = make("cosine", count=2_000, size=8)
    found = geometry.all_neighbours(3)
    assert len(found) == 2_000
    assert max(sizes) == 40_000
    assert sum(sizes) == 2_000 * 2_000


# ---- the geometry of a compressed embedding


def compressed(num_labels, **arguments):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return LabelEmbedding(3, num_labels, embedding="compressed", rank=4, **arguments)


@pytest.mark.parametrize(("num_labels", "of_rows"), [(2_000, False), (2_001, True)])
def test_above_2000_labels_a_compressed_embedding_gives_the_rows_of_a_by_cosine(num_labels, of_rows):
    objective = compressed(num_labels)
    geometry = objective.label_geometry()
    if not of_rows:
        assert torch.equal(geometry.similarities, objective.embedding(torch.arange(num_labels)).detach())
        return
    assert torch.equal(geometry.vectors, objective.embedding.left.detach())
    assert (geometry.metric, geometry.source) == ("cosine", "LabelEmbedding")
    assert len(geometry.to_bytes()) < 200_000  # 16 MB as similarities


def test_a_full_embedding_stays_similarities():
    assert LabelEmbedding(3, 2_001).label_geometry().similarities.shape == (2_001, 2_001)


def test_files_of_earlier_versions_are_read(tmp_path):
    """They hold vectors without a metric, or by Euclid, or similarities of many labels."""
    from safetensors.torch import save_file

    about = {"format": "labelembed.label_geometry", "version": "1", "names": '["a", "b"]', "source": "LabelEmbedding"}
    save_file({"vectors": torch.eye(2)}, tmp_path / "old.safetensors", metadata=about)
    assert LabelGeometry.load(tmp_path / "old.safetensors").metric == "euclidean"
    save_file({"similarities": torch.eye(2)}, tmp_path / "dense.safetensors", metadata=about)
    assert LabelGeometry.load(tmp_path / "dense.safetensors").neighbours("a")[0].name == "b"
    save_file({"vectors": torch.eye(2)}, tmp_path / "other.safetensors", metadata=about | {"metric": "taxicab"})
    with pytest.raises(DataError, match="damaged label geometry"):
        LabelGeometry.load(tmp_path / "other.safetensors")


# ---- the verb


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run's folder whose geometry is of many words."""
    names = ["hund", "katze", *(f"wort{number}" for number in range(298))]
    table = torch.randn(300, 4, generator=torch.Generator().manual_seed(0))
    geometry = LabelGeometry(names, vectors=table, metric="cosine", source="LabelEmbedding")
    folder = tmp_path_factory.mktemp("many") / "run"
    make_run(folder, test=measures(0.1), geometry=geometry)
    return folder


def test_without_a_label_the_first_200_are_shown_and_it_is_said(run):
    called = succeed("labels", run, "-k", 1)
    lines = called.out.splitlines()
    assert "learned labels, nearest pairs" in " ".join(lines[201:])
    assert lines[0] == "(in brackets: cosine of label vectors)"
    assert lines[1].startswith("hund: ")
    said = "note: the first 200 of 300 labels; --first N lists more of them, or name those you want"
    assert called.err.splitlines()[0] == said
    as_json = succeed("labels", run, "--json")
    assert len(as_json.json["nearest"]) == 200
    assert "--first N" in as_json.err


def test_first_lists_more_labels(run):
    called = succeed("labels", run, "--first", 300, "--json")
    assert len(called.json["nearest"]) == 300
    assert called.err == ""


def test_labels_asked_for_are_shown_and_no_more(run):
    geometry = LabelGeometry.load(run / "label_geometry.safetensors")
    called = succeed("labels", run, "katze", "hund", "-k", 2, "--json")
    assert list(called.json["nearest"]) == ["katze", "hund"]
    assert called.json["scores"] == []
    expected = [{"name": near.name, "score": near.score} for near in geometry.neighbours("katze", k=2)]
    assert called.json["nearest"]["katze"] == expected
    assert called.err == ""


def test_an_unknown_word_is_refused_with_the_nearest(run):
    called = call("labels", run, "hund", "katse")
    assert called.code == 2
    assert called.out == ""
    assert "no label 'katse' (did you mean 'katze'?)" in called.err
