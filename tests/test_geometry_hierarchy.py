"""Hierarchies that people give: files of three forms, what is wrong with them, and agreement with a geometry."""

from __future__ import annotations

import json

import pytest
import torch

from labelembed.errors import DataError
from labelembed.geometry import LabelGeometry, group_agreement, read_hierarchy, read_senses, senses_for
from labelembed.geometry.senses import SHIPPED, dataset_of, shipped_senses

from .naive.geometry import naive_agreement, naive_path_lengths
from .test_geometry_wordnet import REAL, needs_wordnet

NAMES = ("cat", "dog", "eagle", "car", "bus", "oak tree")
PARENTS = {
    "cat": "mammals",
    "dog": "mammals",
    "mammals": "animals",
    "eagle": "animals",
    "animals": "all",
    "car": "vehicles",
    "bus": "vehicles",
    "vehicles": "all",
    "oak tree": "all",
}
NESTED = {"animals": {"mammals": ["cat", "dog"], "birds": "eagle"}, "vehicles": ["car", "bus"]}
YAML = "animals:\n  - mammals: [cat, dog]\n  - eagle\nvehicles: [car, bus]\noak: oak tree\n"
CSV = 'label,group\ncat,animals\ndog,animals\ncar,vehicles\nbus, vehicles\n\neagle,animals\n"oak tree",plants\n'


def write(folder, name, text):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_nested_groups_give_the_number_of_edges(tmp_path):
    names = NAMES[:5]
    parents = PARENTS | {"eagle": "birds", "birds": "animals"}
    expected = naive_path_lengths(parents, names)
    for name, text in (
        ("tree.json", json.dumps(NESTED)),
        ("tree.yaml", "animals:\n  mammals: [cat, dog]\n  birds: eagle\nvehicles: [car, bus]\n"),
        ("tree.yml", "animals: [mammals: [dog, cat], birds: [eagle]]\nvehicles: [bus, car]\n"),
    ):
        assert read_hierarchy(write(tmp_path, name, text), names).distances().tolist() == expected


def test_table_of_groups_is_read(tmp_path):
    hierarchy = read_hierarchy(write(tmp_path, "groups.csv", CSV), NAMES)
    assert hierarchy.distances()[0].tolist() == [0, 2, 2, 4, 4, 4]
    without_heading = write(tmp_path, "bare.csv", CSV.split("\n", 1)[1])
    assert torch.equal(read_hierarchy(without_heading, NAMES).distances(), hierarchy.distances())


def test_names_keep_their_letters(tmp_path):
    names = ("no", "1", "null", "犬", "a b")
    path = write(tmp_path, "odd.yaml", "group: [no, 1, null, 犬]\nother: a b\n")
    assert read_hierarchy(path, names).distances()[0].tolist() == [0, 2, 2, 2, 4]
    path = write(tmp_path, "odd.json", '{"group": ["no", 1, "null", "犬"], "other": "a b"}')
    assert read_hierarchy(path, names).distances()[0].tolist() == [0, 2, 2, 2, 4]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("t.yaml", "a: [cat, dog]\nb: [cat, car, bus, eagle]\n", ["missing (1): 'oak tree'", "repeated (1): 'cat'"]),
        ("t.yaml", "a: [cat, dgo]\nb: [car, bus, eagle, fish]\n", ["unknown (2): 'dgo' (did you mean 'dog'?), 'fish'"]),
        ("t.csv", "cat,a\ndog,a\n", ["holds each of the 6 labels once", "'eagle', 'car', 'bus', 'oak tree'"]),
        ("t.csv", "label,group\ncat,a\ndog\n", ["row 3", "expected label,group, got 'dog'"]),
        ("t.json", '{"a": ["cat"', ["cannot be read"]),
        ("t.yaml", "a: [cat, dog]\nb:\n", ["group 'b' holds an empty label"]),
        ("t.yaml", "- cat\n- dog\n", ["holds no mapping"]),
        ("t.yaml", "a: " + "[" * 1200, ["cannot be read"]),
        ("t.nwk", "(cat,dog);", ["a hierarchy is a file of groups (.yaml"]),
    ],
)
def test_bad_files_are_refused_with_what_is_wrong(tmp_path, name, text, words):
    path = write(tmp_path, name, text)
    with pytest.raises(DataError) as caught:
        read_hierarchy(path, NAMES)
    for word in (str(path), *words):
        assert word in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 10


def test_absent_file_and_unknown_name_are_refused(tmp_path):
    with pytest.raises(DataError, match="No such file"):
        read_hierarchy(tmp_path / "absent.yaml", NAMES)
    with pytest.raises(DataError, match=r"unknown hierarchy 'cifar10' \(did you mean 'cifar100'\?\)"):
        read_hierarchy("cifar10", NAMES)
    (tmp_path / "latin.csv").write_bytes(b"caf\xe9,a\n")
    with pytest.raises(DataError, match=r"latin\.csv: cannot be read"):
        read_hierarchy(tmp_path / "latin.csv", NAMES)


def test_shipped_groups_of_cifar_100_are_20_of_5():
    names = list(shipped_senses("cifar100"))
    hierarchy = read_hierarchy("cifar100", names)
    groups = hierarchy.groups()
    assert len(names) == 100
    assert sorted(groups.count(group) for group in set(groups)) == [5] * 20
    assert set(hierarchy.distances().unique().tolist()) == {0, 2, 4}
    plain = {path[-1].replace("-", "_") for path in hierarchy.paths}
    assert plain == set(shipped_senses("cifar100_groups"))


def test_group_agreement_counts_nearest_of_the_same_group(tmp_path):
    hierarchy = read_hierarchy(write(tmp_path, "groups.csv", CSV), NAMES)
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


def test_senses_are_found_by_the_names_of_the_data_set():
    assert senses_for(["dog", "automobile"]) == {"dog": "dog.n.01", "automobile": "automobile.n.01"}
    assert senses_for(["T-shirt/top", "Trouser"]) == {"T-shirt/top": None, "Trouser": "trouser.n.01"}
    assert senses_for(["T - shirt / top"]) == {"T - shirt / top": None}  # as another publisher writes it
    assert senses_for(["grizzly+bear", "otter"]) == {"grizzly+bear": "grizzly_bear.n.01", "otter": "otter.n.02"}
    assert dataset_of(["ray", "Oak Tree"]) == "cifar100"
    assert senses_for(["dog", "digit seven"]) is None
    assert senses_for([]) is None


def test_shipped_senses_have_every_label_and_agree_with_each_other():
    sizes = {"cifar10": 10, "cifar100": 100, "cifar100_groups": 20, "fashion_mnist": 10, "awa2": 50}
    assert {name: len(shipped_senses(name)) for name in SHIPPED} == sizes
    assert sum(sense is not None for sense in shipped_senses("fashion_mnist").values()) == 8
    meanings = {}
    for name in SHIPPED:
        for label, sense in shipped_senses(name).items():
            assert meanings.setdefault(label, sense) == sense
    published = "otter.n.02 skunk.n.04 weasel.n.02 tiger.n.02 leopard.n.02 dalmatian.n.02 chihuahua.n.03 raccoon.n.02"
    assert all(shipped_senses("awa2")[sense.split(".")[0]] == sense for sense in published.split())


@needs_wordnet
@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_senses_are_in_wordnet_and_of_the_right_kind(name):
    senses = shipped_senses(name)
    labels = [label for label, sense in senses.items() if sense]
    assert REAL.distances(labels, senses).isfinite().all()
    if name == "awa2":  # furs, places and units are 12 steps and more from the mammals
        assert all(REAL.distance(senses[label], "mammal") <= 8 for label in labels)
    if name == "cifar100":
        plants = ("oak_tree", "palm_tree", "rose", "tulip", "willow_tree", "maple_tree")
        assert all(REAL.distance(senses[label], "plant.n.02") <= 6 for label in plants)
        animals = ("ray", "seal", "mouse", "crab", "turtle", "whale", "trout", "beaver", "lobster", "shrew", "skunk")
        assert all(REAL.distance(senses[label], "animal") <= 9 for label in animals)
        things = ("plate", "table", "tank", "television", "bowl", "lamp", "keyboard", "castle")
        assert all(REAL.distance(senses[label], "artifact.n.01") <= 6 for label in things)


def test_own_senses_are_read(tmp_path):
    path = write(tmp_path, "senses.yaml", "cat: cat.n.01\noak tree: null\ndog: 'dog.n.03' # a man\n")
    assert read_senses(path, NAMES) == {"cat": "cat.n.01", "oak tree": None, "dog": "dog.n.03"}
    path = write(tmp_path, "senses.json", '{"cat": "cat.n.01", "oak tree": null}')
    assert read_senses(path, NAMES) == {"cat": "cat.n.01", "oak tree": None}


def test_bad_own_senses_are_all_listed(tmp_path):
    path = write(tmp_path, "senses.yaml", "cat: cat\ndgo: dog.n.01\neagle: [eagle.n.01]\nbus: bus.v.01\n")
    with pytest.raises(DataError) as caught:
        read_senses(path, NAMES)
    for words in (
        f"{path}: 4 of its lines cannot be used",
        "cat: 'cat' is no synset; write it as otter.n.02",
        "there is no label 'dgo' (did you mean 'dog'?)",
        "eagle: ['eagle.n.01'] is no synset",
        "bus: 'bus.v.01' is no synset",
    ):
        assert words in str(caught.value)
