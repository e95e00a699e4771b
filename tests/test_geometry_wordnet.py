"""WordNet from Princeton's files: made ones in the same format always, the real ones where they are."""

from __future__ import annotations

import math

import pytest
import torch

from labelembed.errors import DataError
from labelembed.geometry import WordNet, kendall_agreement

from .made_wordnet import write_wordnet

try:
    REAL = WordNet()
except DataError as error:
    REAL, WHY = None, str(error)
else:
    WHY = ""
needs_wordnet = pytest.mark.skipif(REAL is None, reason=f"no WordNet here: {WHY[:80]}")


@pytest.fixture
def made(tmp_path):
    return WordNet(write_wordnet(tmp_path))


@pytest.mark.parametrize(
    ("one", "other", "edges"),
    [
        ("dog", "cat", 4),
        ("dog", "dog", 0),
        ("dog", "animal", 2),
        ("polar bear", "dog", 4),
        ("dog.n.02", "dog", 5),  # the sausage: food, entity, animal, canine, dog
        ("rex", "dog", 1),  # an instance hypernym
        ("liger", "lion", 1),  # two hypernyms: the shorter way counts
    ],
)
def test_distance_is_the_shortest_way_through_a_common_ancestor(made, one, other, edges):
    assert made.distance(one, other) == edges


def test_distance_without_common_ancestor_is_infinite(made):
    assert made.distance("dog", "island") == math.inf


def test_distances_equal_each_pairs_distance(made):
    names = ["dog", "cat", "polar bear", "liger", "rex", "food", "island"]
    table = made.distances(names)
    assert table.dtype == torch.float64
    assert table.tolist() == [[made.distance(one, other) for other in names] for one in names]


def test_senses_stand_for_labels_and_none_leaves_out(made):
    table = made.distances(["dog", "hund", "cat"], {"hund": "dog.n.02", "cat": None})
    assert table[:2, :2].tolist() == [[0, 5], [5, 0]]
    assert table[2].isnan().all()
    assert table[:, 2].isnan().all()


def test_missing_names_are_all_listed_with_near_ones(made):
    with pytest.raises(DataError) as caught:
        made.distances(["dog", "polar_baer", "brown bear", "hund", "cat.n.05", "run.v.01"], {"hund": "dgo"})
    message = str(caught.value)
    for words in (
        "index.noun: WordNet lacks 5 of 6 names",
        "polar_baer: near polar_bear",
        "brown bear",
        "hund (as dgo)",
        "cat.n.05: its senses are cat.n.01 to cat.n.01",
        "run.v.01: only nouns",
    ):
        assert words in message


def test_dropped_names_are_left_out_of_the_score_and_named(made):
    names = ["dog", "nowhere", "cat", "lion", "liger", "food"]
    table = made.distances(names, missing="drop")
    rows = [0, 2, 3, 4, 5]
    assert torch.equal(table[rows][:, rows], made.distances([names[row] for row in rows]))
    learned = torch.rand(6, 6, generator=torch.Generator().manual_seed(0))
    result = kendall_agreement(learned, table, names)
    kept = kendall_agreement(learned[rows][:, rows], table[rows][:, rows], [names[row] for row in rows])
    assert result.left_out == {"nowhere": "not in the reference"}
    assert result.per_label == kept.per_label
    with pytest.raises(ValueError, match="`missing` must be 'raise' or 'drop', got 'skip'"):
        made.distances(names, missing="skip")


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("index.noun", lambda text: text[:-19]),  # cut short
        ("index.noun", lambda text: text.replace(b"dog n 2 1 @ 2", b"dog n 3 1 @ 2")),
        ("data.noun", lambda text: text[: len(text) // 3]),
        ("data.noun", lambda text: text.replace(b"\n", b"\r\n")),
        ("data.noun", lambda text: text.replace(b" n 02 ", b" n zz ")),
    ],
)
def test_damaged_files_are_named(tmp_path, file, damage):
    folder = write_wordnet(tmp_path)
    (folder / file).write_bytes(damage((folder / file).read_bytes()))
    with pytest.raises(DataError, match=f"{folder / file}: .*wordnet-base"):
        WordNet(folder).distance("dog", "rex")


def test_folder_comes_from_argument_environment_and_usual_places(tmp_path, monkeypatch):
    folders = {name: write_wordnet(tmp_path / name) for name in ("argument/dict", "searched", "usual")}
    monkeypatch.setattr("labelembed.geometry.wordnet._USUAL_FOLDERS", (str(folders["usual"]),))
    monkeypatch.setenv("WNSEARCHDIR", str(folders["searched"]))
    assert WordNet(str(tmp_path / "argument")).path == folders["argument/dict"]  # as the archive unpacks
    assert WordNet().path == folders["searched"]
    monkeypatch.setenv("WNSEARCHDIR", str(tmp_path / "absent"))
    with pytest.raises(DataError, match=r"(?s)no WordNet there.*WNSEARCHDIR says so.*wordnet-base.*WNdb-3\.0"):
        WordNet()
    monkeypatch.delenv("WNSEARCHDIR")
    assert WordNet().path == folders["usual"]
    monkeypatch.setattr("labelembed.geometry.wordnet._USUAL_FOLDERS", (str(tmp_path / "absent"),))
    with pytest.raises(DataError, match=r"WordNet is not here.*apt install wordnet-base"):
        WordNet()


@needs_wordnet
def test_real_distances_are_those_of_nltk():
    # As nltk 3.10.4 gives them, which was equal for 1,500 random pairs of senses as well.
    assert REAL.distance("dog", "cat") == 4  # dog - canine - carnivore - feline - cat
    assert REAL.distance("dog", "wolf") == 2
    assert REAL.distance("entity", "dog") == 8  # through domestic animal, shorter than through canine
    assert REAL.distance("Paris", "london") == 2  # two instances of national capital
    assert REAL.distance("golden_retriever", "Dog") == 4  # retriever, sporting dog, hunting dog
