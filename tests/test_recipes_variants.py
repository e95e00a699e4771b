"""Variants of an objective, their names, the baseline and the seeds of a comparison."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from labelembed.lab.errors import RecipeError
from labelembed.lab.recipes.loading import load_recipe
from labelembed.lab.recipes.variants import (
    baseline_among,
    parse_variant,
    seeds_of,
    variant_folder,
    variant_name,
    variants_of,
)

THREE = "one_hot,label_smoothing:smoothing=0.2,label_smoothing:smoothing=0.4"
LONG = "a:x=" + "é" * 300


@pytest.mark.parametrize(
    ("text", "block", "name"),
    [
        ("one_hot", {}, "one_hot"),
        (
            "label_embedding:preset=paper:temperature=3",
            {"preset": "paper", "temperature": 3},
            "label_embedding preset=paper temperature=3",
        ),
        ("label_embedding:temperature=1e-3", {"temperature": "1e-3"}, "label_embedding temperature=1e-3"),
        ("label_embedding:hinge_reduction=null", {"hinge_reduction": None}, "label_embedding hinge_reduction=None"),
        (
            "label_embedding:embedding=C:/runs/a:rank=3",
            {"embedding": "C:/runs/a", "rank": 3},
            "label_embedding embedding=runs/a rank=3",
        ),
    ],
)
def test_variant_is_parsed_and_named(text, block, name):
    parsed = parse_variant(text, source="--objectives")
    assert parsed == {"name": name.split()[0]} | block
    assert variant_name(parsed) == name


@pytest.mark.parametrize(
    ("text", "word"),
    [
        *((text, "name:key=value") for text in ("", ":a=3", "one_hot:bias:rank=3")),
        ("one_hot:bias=true:bias=false", "more than once"),
        ("x:a=[1", "no valid YAML"),
    ],
)
def test_text_that_is_no_variant_is_refused(text, word):
    with pytest.raises(RecipeError, match=f"--objectives: .*{word}"):
        parse_variant(text, source="--objectives")


def test_variant_folders_are_names_that_a_file_system_takes():
    for text in ("a:x=../../etc", "a:x='b c'", "a:x=[1,2]", "a:x=b\\c", "../a:x=1", "a:x=é☃", LONG):
        folder = variant_folder(parse_variant(text, source=""))
        assert "/" not in folder
        assert folder not in ("", ".", "..")
        assert " " not in folder
        assert len(folder.encode()) <= 255
    assert variant_folder({"name": LONG}) != variant_folder({"name": f"{LONG}1"})


def plan(*, objectives=None, seeds=None, baseline=None, settings=()):
    recipe, _ = load_recipe("digits-mlp", settings=settings)
    variants = variants_of(recipe, objectives)
    named = baseline_among(variants, baseline, source="--baseline")
    return SimpleNamespace(variants=variants, seeds=seeds_of(recipe, seeds), baseline=named)


def plan_error(**options):
    with pytest.raises(RecipeError) as caught:
        plan(**options)
    return str(caught.value)


def test_comparison_has_every_variant_with_every_seed():
    made = plan(objectives="one_hot,label_smoothing:smoothing=0.4,label_embedding:preset=paper", seeds="3")
    names = ["one_hot", "label_smoothing smoothing=0.4", "label_embedding preset=paper"]
    assert [variant.name for variant in made.variants] == names
    assert len({variant.folder for variant in made.variants}) == 3
    assert made.baseline == "one_hot"
    listed = "[one_hot, 'label_smoothing:smoothing=0.4', {name: label_embedding, preset: paper}]"
    assert plan(settings=[f"comparison.objectives={listed}"]).variants == made.variants


def test_files_of_one_name_are_two_variants():
    files = ("a/g.safetensors", "b/g.safetensors")
    made = plan(objectives=",".join([*(f"label_embedding:embedding={file}" for file in files), "one_hot"]))
    names = [*(f"label_embedding embedding={file}" for file in files), "one_hot"]
    assert [variant.name for variant in made.variants] == names
    assert len({variant.folder for variant in made.variants}) == 3


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"objectives": ""}, ["--objectives", "no objective"]),
        (
            {"objectives": "one_hot,label_smoothing:smoothing=2:bais=1,one_ht,one_hot"},
            ["objective.smoothing", "objective.bais", "'one_hot'?", "more than once"],
        ),
        ({"settings": ["comparison.objectives=[{smoothing: 1}, one_hot]"]}, ["comparison.objectives", "missing"]),
        ({"baseline": ""}, ["--baseline", "name:key=value"]),
        ({"baseline": "one_hott"}, ["'one_hot'?"]),
        ({"objectives": THREE, "baseline": "label_smoothing"}, ["more than one", "label_smoothing smoothing=0.4"]),
        *(({"seeds": text}, ["--seeds", "how many seeds"]) for text in ("", "1,x", "²", "5-3")),
        ({"seeds": "0"}, ["--seeds", ">= 1"]),
        ({"seeds": "0-99999999999"}, ["1000"]),
    ],
)
def test_what_cannot_be_compared_is_refused_all_at_once(asked, words):
    message = plan_error(**asked)
    assert [word for word in words if word not in message] == []


@pytest.mark.parametrize(
    ("objectives", "baseline", "name"),
    [
        (THREE, None, "one_hot"),
        (THREE, "label_smoothing smoothing=0.2", "label_smoothing smoothing=0.2"),
        # an objective is meant where one variant has it; a variant's own name is nearer than its objective's
        ("one_hot,label_smoothing:smoothing=0.2", "label_smoothing", "label_smoothing smoothing=0.2"),
        ("one_hot,label_smoothing,label_smoothing:smoothing=0.2", "label_smoothing", "label_smoothing"),
    ],
)
def test_baseline_is_a_variant_or_its_objective(objectives, baseline, name):
    assert plan(objectives=objectives, baseline=baseline).baseline == name


@pytest.mark.parametrize(
    ("settings", "typed", "seeds"),
    [
        ([], None, list(range(8))),
        (["comparison=null"], None, [0, 1, 2]),
        ([], "5,0, 2", [5, 0, 2]),
        ([], "0-2", [0, 1, 2]),
        (["seed=5"], "3", [5, 6, 7]),
        (["seed=5", "comparison.seeds=2"], None, [5, 6]),
    ],
)
def test_a_number_of_seeds_begins_at_the_recipes_seed(settings, typed, seeds):
    assert plan(settings=settings, seeds=typed).seeds == seeds


def test_a_variant_of_the_recipes_own_objective_keeps_what_it_does_not_say():
    recipe, _ = load_recipe("translation-lstm", data="corpus")
    typed = "one_hot,label_embedding,label_embedding:preset=mixture:rank=64,label_embedding:embedding=full"
    found = {variant.name: variant.objective for variant in variants_of(recipe, typed)}
    own = found["label_embedding"]
    assert own == recipe.objective
    assert (own["embedding"], own["rank"]) == ("compressed", 128)
    changed = found["label_embedding preset=mixture rank=64"]
    # What presets decide comes from the preset that is named, and not from the recipe's own weights.
    of_presets = dict.fromkeys(("output_weight", "target_weight", "uniform_weight"))
    assert (own["output_weight"], own["target_weight"], own["uniform_weight"]) == (0.3, 0.5, 0.2)
    assert changed == own | of_presets | {"preset": "mixture", "rank": 64}
    assert found["label_embedding embedding=full"] == own | {"embedding": "full"}
    assert "embedding" not in found["one_hot"]
    # The option of `train` says the same.
    typed = "label_embedding:preset=mixture:rank=64"
    assert load_recipe("translation-lstm", data="corpus", objective=typed)[0].objective == changed
