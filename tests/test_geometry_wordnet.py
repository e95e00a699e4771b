"""WordNet from Princeton's files: made ones in the same format always, the real ones where they are."""

from __future__ import annotations

import math

import pytest
import torch

from labelembed.errors import DataError
from labelembed.geometry import WordNet, senses_for

from .made_wordnet import write_wordnet


def distance(wordnet, first, second):
    return float(wordnet.distances([first, second])[0, 1])


@pytest.fixture
def made(tmp_path):
    return WordNet(write_wordnet(tmp_path))


@pytest.mark.parametrize(
    ("first", "second", "edges"),
    [
        ("dog", "cat", 4),
        ("dog", "dog", 0),
        ("dog", "animal", 2),
        ("polar bear", "Dog", 4),
        ("dog.n.02", "dog", 5),  # the sausage: food, entity, animal, canine, dog
        ("rex", "dog", 1),  # an instance hypernym
        ("liger", "lion", 1),  # two hypernyms: the shorter path counts
        ("dog", "island", math.inf),  # no common ancestor
    ],
)
def test_distance_is_the_shortest_path_through_a_common_ancestor(made, first, second, edges):
    assert distance(made, first, second) == edges


def test_senses_stand_for_labels_and_none_leaves_out(made):
    table = made.distances(["dog", "hund", "cat"], {"hund": "dog.n.02", "cat": None})
    assert table.dtype == torch.float64
    assert table[:2, :2].tolist() == [[0, 5], [5, 0]]
    assert table[2].isnan().all()
    assert table[:, 2].isnan().all()


def test_missing_names_are_all_listed(made):
    names, senses = ["dog", "polar_baer", "hund", "cat.n.05", "run.v.01", "pig"], {"hund": "dgo", "pig": ["pig.n.01"]}
    with pytest.raises(DataError, match=r"lacks 5 of 6 .*: polar_baer, hund .as dgo., cat.n.05, run.v.01, pig"):
        made.distances(names, senses)
    with pytest.raises(DataError, match=r"'dgo' \(did you mean 'dog'\?\)"):
        made.distances(names, {"dgo": "dog.n.01"}, missing="drop")


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
        distance(WordNet(folder), "dog", "rex")


def test_folder_comes_from_argument_environment_and_usual_places(tmp_path, monkeypatch):
    folders = {name: write_wordnet(tmp_path / name) for name in ("argument/dict", "searched", "usual")}
    monkeypatch.setattr("labelembed.geometry.wordnet._FOLDERS", (str(folders["usual"]),))
    monkeypatch.setenv("WNSEARCHDIR", str(folders["searched"]))
    assert WordNet(str(tmp_path / "argument")).path == folders["argument/dict"]  # as the archive unpacks
    assert WordNet().path == folders["searched"]
    monkeypatch.setenv("WNSEARCHDIR", str(tmp_path / "absent"))
    with pytest.raises(DataError, match=r"WNSEARCHDIR.*no WordNet.*wordnet-base"):
        WordNet()
    monkeypatch.delenv("WNSEARCHDIR")
    assert WordNet().path == folders["usual"]
    monkeypatch.setattr("labelembed.geometry.wordnet._FOLDERS", (str(tmp_path / "absent"),))
    with pytest.raises(DataError, match="apt install wordnet-base"):
        WordNet()


def test_senses_are_found_by_the_names_of_the_data_set():
    assert senses_for(["dog", "automobile"]) == {"dog": "dog.n.01", "automobile": "automobile.n.01"}
    assert senses_for(["T-shirt/top", "Trouser"]) == {"T-shirt/top": None, "Trouser": "trouser.n.01"}
    assert senses_for(["T - shirt / top"]) == {"T - shirt / top": None}  # as another publisher writes it
    assert senses_for(["grizzly+bear", "otter"]) == {"grizzly+bear": "grizzly_bear.n.01", "otter": "otter.n.02"}
    assert senses_for(["dog", "digit seven"]) is None
    assert senses_for([]) is None
