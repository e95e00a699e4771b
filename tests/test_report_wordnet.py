"""The page held against WordNet: Kendall's tau-b beside the published one, groups that colour, the map laid over it."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

from labelembed.errors import DataError
from labelembed.geometry import LabelGeometry, WordNet, label_plane
from labelembed.report import label_section, load_comparison, write_report
from labelembed.report.label_groups import reference_for
from labelembed.report.label_section import kendall_table
from labelembed.report.similarities import label_similarities
from labelembed.training.run_folder import RunFolder
from tests.made_runs import embedding_geometry, make_comparison, run_path
from tests.made_wordnet import write_wordnet

from .naive.geometry import naive_agreement, naive_path_lengths

NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
PARENTS = {
    "entity": None,
    "animal": "entity",
    "vehicle": "entity",
    "pet": "animal",
    "hoofed": "animal",
    "road": "vehicle",
    "cat": "pet",
    "dog": "pet",
    "deer": "hoofed",
    "horse": "hoofed",
    "bird": "animal",
    "frog": "animal",
    "automobile": "road",
    "truck": "road",
    "airplane": "vehicle",
    "ship": "vehicle",
}
EMBEDDING = "label_embedding preset=paper"


@pytest.fixture(autouse=True)
def wordnet(tmp_path, monkeypatch):
    tree = {lemma: [above] if above else [] for lemma, above in PARENTS.items()}
    monkeypatch.setenv("WNSEARCHDIR", str(write_wordnet(tmp_path / "wordnet", tree=tree, senses={})))


def _made(folder, names=NAMES, *, seeds=(0, 1)):
    """Makes a comparison of two variants; both left class means, one a geometry."""
    learned = {seed: embedding_geometry(names, seed=seed, noise=1.0) for seed in seeds}
    errors = {name: dict.fromkeys(seeds, error) for name, error in (("one_hot", 0.2), (EMBEDDING, 0.1))}
    make_comparison(folder, errors, geometry={EMBEDDING: learned})
    means = {}
    for place, name in enumerate(errors):
        for seed in seeds:
            vectors = torch.randn(len(names), 4, generator=torch.Generator().manual_seed(10 * place + seed))
            means[name, seed] = LabelGeometry(names, vectors=vectors)
            means[name, seed].save(RunFolder(run_path(folder, name, seed)).class_means_file)
    return learned, means


def _tau(geometry):
    paths = naive_path_lengths(PARENTS, NAMES)
    return naive_agreement(geometry.distances().tolist(), paths)[0]


def test_kendall_rows_are_those_of_the_definition_beside_the_published_ones(tmp_path):
    learned, means = _made(tmp_path / "c")
    comparison = load_comparison(tmp_path / "c")
    variant = comparison.variants[1]
    table = kendall_table(comparison, [(variant, label_similarities(variant))], reference_for(NAMES))
    rows = {line.name.split(" (Yu")[0]: [cell.value for cell in line.cells[1:]] for line in table.lines}
    assert list(rows) == ["one_hot", EMBEDDING, "LwAL", "LwAL10", "LwAL10+rpl"]
    # One-hot learned nothing about labels; its outputs say something all the same.
    outputs = [_tau(means["one_hot", seed]) for seed in (0, 1)]
    assert rows["one_hot"] == [None, pytest.approx(np.mean(outputs), abs=1e-12), None]
    taus = [_tau(geometry) for geometry in learned.values()]
    outputs = [_tau(means[EMBEDDING, seed]) for seed in (0, 1)]
    assert rows[EMBEDDING] == [*(pytest.approx(np.mean(one), abs=1e-12) for one in (taus, outputs)), None]
    assert [rows[name][2] for name in ("LwAL", "LwAL10", "LwAL10+rpl")] == [0.473, 0.544, 0.609]
    text = " ".join(re.sub("<[^>]+>", " ", write_report(tmp_path / "c").read_text(encoding="utf-8")).split())
    assert "Agreement with WordNet" in text
    assert "LwAL10+rpl (Yu, Verma 2022) \u2013 \u2013 \u2013 0.609" in text
    assert f"{np.mean(taus):.3f} ± {np.std(taus, ddof=1):.3f}".replace("-", "\u2212") in text


def test_labels_are_coloured_by_the_branches_of_wordnets_tree():
    found = reference_for(NAMES, wordnet=True).groups
    assert found.source == "WordNet's tree of nouns"
    groups = {}
    for name, group in zip(NAMES, found.of, strict=True):
        groups.setdefault(group, set()).add(name)
    # Five parts: what is two steps apart stands together, animals and vehicles never do.
    assert {frozenset(one) for one in groups.values()} >= {
        frozenset({"cat", "dog"}),
        frozenset({"deer", "horse"}),
        frozenset({"automobile", "truck"}),
    }
    animals = {"bird", "cat", "deer", "dog", "frog", "horse"}
    assert all(one <= animals or not one & animals for one in groups.values())
    assert len(groups) == 5


def test_label_that_wordnet_lacks_has_no_group_and_is_said(tmp_path):
    names = (*NAMES[:-1], "spaceelevator")
    _made(tmp_path / "c", names, seeds=(0,))
    page = write_report(tmp_path / "c", wordnet=True).read_text(encoding="utf-8")
    assert "Colours of tree and map: WordNet&#39;s tree of nouns." in page
    assert "WordNet lacks 1 label." in page
    assert reference_for(names, wordnet=True).groups.of[-1] is None
    # No published score is of these labels.
    assert "Yu, Verma 2022" not in page


def test_map_is_laid_over_wordnets(tmp_path, monkeypatch):
    learned, _ = _made(tmp_path / "c", seeds=(0,))
    monkeypatch.setattr(label_section, "MOST_STRESS", 1.0)  # made at random, no plane keeps these distances
    disparity = label_plane(learned[0].distances(), WordNet().distances(NAMES)).disparity
    page = write_report(tmp_path / "c").read_text(encoding="utf-8")
    assert f"over those of WordNet; disparity {disparity:.3f}" in page


def test_without_wordnet_the_page_says_so_and_asking_for_it_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("WNSEARCHDIR", str(tmp_path / "nowhere"))
    _made(tmp_path / "c", seeds=(0,))
    page = write_report(tmp_path / "c").read_text(encoding="utf-8")
    assert "Not compared with WordNet: " in page
    assert "Agreement with WordNet" not in page
    with pytest.raises(DataError, match="nowhere"):
        write_report(tmp_path / "c", wordnet=True)
