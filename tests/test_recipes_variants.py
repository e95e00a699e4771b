"""Variants of an objective, their names, the baseline and the seeds of a comparison."""

from __future__ import annotations

from pathlib import Path

import pytest

from labelembed.lab.errors import RecipeError
from labelembed.lab.recipes.loading import load_recipe, parse_variant, variant_folder, variant_name
from labelembed.lab.runs.comparison import Plan, plan_comparison
from labelembed.lab.runs.pools import default_jobs, visible_gpus
from labelembed.objectives import OBJECTIVES


@pytest.mark.parametrize(
    ("text", "block", "name"),
    [
        ("one_hot", {}, "one_hot"),
        (
            "label_embedding:preset=paper:temperature=3",
            {"preset": "paper", "temperature": 3},
            "label_embedding preset=paper temperature=3",
        ),
        ("label_embedding: temperature = 3", {"temperature": 3}, "label_embedding temperature=3"),
        ("label_embedding:temperature=1e-3", {"temperature": "1e-3"}, "label_embedding temperature=1e-3"),
        ("label_embedding:hinge_reduction=null", {"hinge_reduction": None}, "label_embedding hinge_reduction=None"),
        ("x:sizes=[1,2]", {"sizes": [1, 2]}, "x sizes=[1, 2]"),
        (
            "label_embedding:embedding=C:/runs/a:rank=3",
            {"embedding": "C:/runs/a", "rank": 3},
            "label_embedding embedding=a rank=3",
        ),
    ],
)
def test_variant_is_parsed_and_named(text, block, name):
    parsed = parse_variant(text, source="--objectives")
    assert parsed == {"name": name.split()[0]} | block
    assert variant_name(parsed) == name


@pytest.mark.parametrize("text", ["", ":a=3", "one_hot:bias", "a=3", "one_hot:bias:rank=3"])
def test_text_that_is_no_variant_is_refused(text):
    with pytest.raises(RecipeError) as caught:
        parse_variant(text, source="--objectives")
    wanted = "name or name:key=value:key=value, for instance label_smoothing:smoothing=0.2"
    assert str(caught.value) == f"--objectives: {text!r} must be {wanted}"


def test_variant_with_a_key_twice_or_no_value_is_refused():
    with pytest.raises(RecipeError, match="gives 'bias' more than once"):
        parse_variant("one_hot:bias=true:bias=false", source="--objectives")
    with pytest.raises(RecipeError, match=r"--objective: x: a: '\[1' cannot be read: line 1, column 3: no valid YAML"):
        parse_variant("x:a=[1", source="--objective")


def test_variant_folders_are_names_that_a_file_system_takes():
    for text in ("a:x=../../etc", "a:x='b c'", "a:x=[1,2]", "a:x=b\\c", "../a:x=1", "a:x=é☃"):
        folder = variant_folder(parse_variant(text, source=""))
        assert "/" not in folder
        assert folder not in ("", ".", "..")
        assert " " not in folder


def plan(*, objectives=None, seeds=None, baseline=None, settings=()):
    recipe, name = load_recipe("digits-mlp", settings=settings)
    return plan_comparison(Plan(recipe, name, Path("out")), objectives=objectives, seeds=seeds, baseline=baseline)


def plan_error(**options):
    with pytest.raises(RecipeError) as caught:
        plan(**options)
    return str(caught.value)


def test_comparison_has_every_variant_with_every_seed():
    made = plan(objectives="one_hot,label_smoothing:smoothing=0.4,label_embedding:preset=paper", seeds="3")
    names = ["one_hot", "label_smoothing smoothing=0.4", "label_embedding preset=paper"]
    assert [variant.name for variant in made.variants] == names
    assert [(run.variant.name, run.seed) for run in made.runs] == [(n, s) for s in range(3) for n in names]
    assert all(run.recipe.seed == run.seed and run.recipe.objective == run.variant.objective for run in made.runs)
    assert len({run.folder for run in made.runs}) == 9
    assert made.baseline == "one_hot"


def test_variants_in_yaml_are_those_of_the_option():
    listed = "[one_hot, 'label_smoothing:smoothing=0.4', {name: label_embedding, temperature: 3}]"
    from_yaml = plan(settings=[f"comparison.objectives={listed}"])
    from_option = plan(objectives="one_hot,label_smoothing:smoothing=0.4,label_embedding:temperature=3")
    assert from_yaml.variants == from_option.variants


def test_files_of_one_name_are_two_variants():
    made = plan(
        objectives="label_embedding:embedding=a/g.safetensors,label_embedding:embedding=b/g.safetensors,one_hot"
    )
    assert [variant.name for variant in made.variants] == [
        "label_embedding embedding=a/g.safetensors",
        "label_embedding embedding=b/g.safetensors",
        "one_hot",
    ]
    assert len({variant.folder for variant in made.variants}) == 3


@pytest.mark.parametrize(
    ("objectives", "message"),
    [
        ("", "--objectives: no objective to compare"),
        (" , ", "--objectives: no objective to compare"),
        ("one_hot,one_hot", "--objectives: one_hot: is given more than once"),
        (
            "one_hot,label_smoothing:smothing=0.1",
            "--objectives: label_smoothing smothing=0.1: objective.smothing: unknown key of 'label_smoothing' "
            "(did you mean 'smoothing'?)",
        ),
    ],
)
def test_wrong_variants_are_refused_by_name(objectives, message):
    assert plan_error(objectives=objectives) == message


def test_errors_of_several_variants_are_told_together():
    message = plan_error(objectives="one_ht,label_smoothing:smoothing=2:bais=1,one_hot,one_hot")
    assert message.splitlines() == [
        "--objectives: 4 errors",
        "  one_ht: objective.name: unknown objective 'one_ht' (did you mean 'one_hot'?); there are: "
        + ", ".join(sorted(OBJECTIVES)),
        "  label_smoothing smoothing=2 bais=1: objective.bais: unknown key of 'label_smoothing' (did you mean 'bias'?)",
        "  label_smoothing smoothing=2 bais=1: objective.smoothing: must be in [0, 1], got 2.0",
        "  one_hot: is given more than once",
    ]


def test_invalid_variants_of_a_recipe_are_named_by_their_key():
    faulty = plan_error(settings=["comparison.objectives=[{smoothing: 1}, one_hot]"])
    assert faulty.startswith("comparison.objectives: ? smoothing=1: objective.name: missing; there are: ")
    assert plan_error(settings=["comparison.objectives=['a=3']"]).startswith(
        "comparison.objectives: 'a=3' must be name"
    )


# ---------------------------------------------------------------------------------------- baseline and seeds


THREE = "one_hot,label_smoothing:smoothing=0.2,label_smoothing:smoothing=0.4"


@pytest.mark.parametrize(
    ("objectives", "baseline", "name"),
    [
        (THREE, None, "one_hot"),
        (THREE, "label_smoothing:smoothing=0.4", "label_smoothing smoothing=0.4"),
        (THREE, "label_smoothing smoothing=0.2", "label_smoothing smoothing=0.2"),
        # an objective is meant where one variant has it; a variant's own name is nearer than its objective's
        ("one_hot,label_smoothing:smoothing=0.2", "label_smoothing", "label_smoothing smoothing=0.2"),
        ("one_hot,label_smoothing,label_smoothing:smoothing=0.2", "label_smoothing", "label_smoothing"),
    ],
)
def test_baseline_is_a_variant_or_its_objective(objectives, baseline, name):
    assert plan(objectives=objectives, baseline=baseline).baseline == name


def test_ambiguous_or_unknown_baseline_lists_the_variants():
    listed = "one_hot, label_smoothing smoothing=0.2, label_smoothing smoothing=0.4"
    assert plan_error(objectives=THREE, baseline="label_smoothing") == (
        f"--baseline: 'label_smoothing' stands for more than one of the variants: {listed}"
    )
    assert plan_error(objectives=THREE, baseline="one_hott") == (
        f"--baseline: 'one_hott' is none of the variants (did you mean 'one_hot'?): {listed}"
    )
    assert plan_error(baseline="").startswith("--baseline: '' must be name or name:key=value")
    assert plan_error(settings=["comparison.baseline=x"]).startswith("comparison.baseline: 'x' is none of the variants")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        *(
            (text, f"{text!r} must be how many seeds (8), or which ones: a range (0-7) or a list (3,5; one s")
            for text in ("", ",", "-1", "1.5", "1,x", "²")
        ),
        ("0", "must be a number of seeds from 1 up, or a list of seeds, got 0; for the seed 0 alone give '0,'"),
        ("1,2,1", "must be different numbers, got 1 more than once"),
        ("20241104", "must be at most 1,000 seeds, got 20,241,104; to name one seed give a list of one"),
    ],
)
def test_wrong_seeds_are_refused(given, message):
    assert plan_error(seeds=given).startswith(f"--seeds: {message}")


@pytest.mark.parametrize(
    ("settings", "typed", "seeds"),
    [
        ([], None, list(range(8))),
        (["comparison=null"], None, [0, 1, 2]),
        ([], "12,", [12]),
        ([], "5,0, 2", [5, 0, 2]),
        ([], "0-2", [0, 1, 2]),
        (["seed=5"], "3", [5, 6, 7]),
        (["seed=5"], "0,9", [0, 9]),
        (["seed=5", "comparison.seeds=2"], None, [5, 6]),
        (["seed=5", "comparison.seeds=[4, 2]"], None, [4, 2]),
    ],
)
def test_a_number_of_seeds_begins_at_the_recipes_seed(settings, typed, seeds):
    made = plan(settings=settings, seeds=typed)
    assert made.seeds == seeds
    assert {run.seed for _, run, *_ in made.runs} == set(seeds)


# ------------------------------------------------------------------------------------------------------- GPUs


@pytest.fixture
def two_gpus(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def test_by_default_one_run_a_gpu_is_made_at_a_time(two_gpus, monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda process: range(16))
    assert (visible_gpus(None), default_jobs(None)) == (["0", "1"], 2)
    assert (visible_gpus("cpu"), default_jobs("cpu")) == ([], 16)
    assert (visible_gpus("cuda:1"), default_jobs("cuda:1")) == (["1"], 1)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, GPU-5f")  # of those that this process sees
    assert visible_gpus(None) == ["3", "GPU-5f"]
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert (visible_gpus(None), default_jobs(None)) == ([], 16)


def test_a_variant_of_the_recipes_own_objective_keeps_what_it_does_not_say(tmp_path):
    recipe, name = load_recipe("translation-lstm", data="corpus")
    typed = "one_hot,label_embedding,label_embedding:preset=mixture:rank=64,label_embedding:embedding=full"
    plan = plan_comparison(Plan(recipe, name, tmp_path), objectives=typed, seeds="1")
    found = {variant.name: variant.objective for variant in plan.variants}
    own = found["label_embedding"]
    assert own == recipe.objective
    assert (own["embedding"], own["rank"]) == ("compressed", 128)
    changed = found["label_embedding preset=mixture rank=64"]
    # What presets decide comes from the preset that is named, and not from the recipe's own weights.
    of_presets = dict.fromkeys(("output_weight", "target_weight", "uniform_weight", "hinge_reduction"))
    assert (own["output_weight"], own["target_weight"], own["uniform_weight"]) == (0.3, 0.5, 0.2)
    assert changed == own | of_presets | {"preset": "mixture", "rank": 64}
    assert found["label_embedding embedding=full"] == own | {"embedding": "full"}
    assert "embedding" not in found["one_hot"]
    # The recipe's own list of variants and the option of `train` say the same.
    listed = {variant.name: variant.objective for variant in plan_comparison(Plan(recipe, name, tmp_path)).variants}
    assert listed["label_embedding"] == own
    assert (
        load_recipe("translation-lstm", data="corpus", objective="label_embedding:preset=mixture:rank=64")[0].objective
        == changed
    )
    assert load_recipe("translation-lstm", data="corpus", objective="one_hot")[0].objective == found["one_hot"]
