"""The verb `bench` and what it measures with: every form is there, the numbers are ratios, bad sizes are refused."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from labelembed.cli.bench_verb import suggested
from labelembed.heads import measuring
from labelembed.heads.measured_forms import COMPRESSED, FULL, ONE_HOT, SHARED, HeadSize, MadeHead, names_that_fit
from labelembed.heads.measuring import Cost
from tests.made_cli import call, succeed

TINY = ["--labels", 40, "--hidden", 6, "--rows", 30, "--rank", 3, "--rounds", 2, "--no-memory"]
PLACE = "labelembed.objectives.label_embedding_arguments.machine_bytes"


def test_table_has_every_form_and_a_suggestion():
    found = call("bench", "head", *TINY)
    assert found.code == 0
    lines = found.out.splitlines()
    for name in names_that_fit(HeadSize(30, 6, 40, 3), None)[0]:
        assert sum(line.startswith(f"{name}  ") for line in lines) == 1, name
    assert lines[0].startswith("30 rows [6] over 40 labels, rank 3, on ")
    assert any(line.startswith("suggested, exact: objective: {name: label_embedding") for line in lines)
    assert "round 2 of 2" in found.err
    assert max(map(len, lines)) <= 120


def test_json_has_ratios_to_the_first_form():
    found = succeed("bench", "head", *TINY, "--json").json
    variants = {variant["name"]: variant for variant in found["variants"]}
    assert found["ratio_to"] == ONE_HOT
    assert variants[ONE_HOT]["ratio"] == {"of_minima": 1.0, "median": 1.0, "deviation": 0.0}
    for variant in variants.values():
        assert variant["n"] == 2
        least, base = variant["seconds"]["minimum"], variants[ONE_HOT]["seconds"]["minimum"]
        assert variant["ratio"]["of_minima"] == pytest.approx(least / base)
        assert variant["work_bytes"] is None
    assert found["suggested"]["exact"]["name"] == "label_embedding"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["head", "--labels", 1], "--labels"),
        (["head", "--rows", 0], "--rows"),
        (["head", "--hidden", "wide"], "--hidden"),
        (["tail"], "head"),
        ([], "WHAT"),
    ],
)
def test_bad_sizes_are_refused_with_2(words, said):
    found = call("bench", *words)
    assert found.code == 2
    assert said in found.err


def test_sizes_that_no_memory_holds_are_refused_in_gigabytes(monkeypatch):
    monkeypatch.setattr(PLACE, lambda: 2_000_000_000)
    found = call("bench", "head", "--labels", 10_000_000, "--hidden", 1024)
    assert found.code == 2
    assert "--labels 10,000,000 --hidden 1,024 --rows 2,048: layers, gradients" in found.err
    assert "GB and there are 2.0 GB; give smaller sizes" in found.err
    assert len(found.err.splitlines()) == 1


def test_forms_that_do_not_fit_are_left_out():
    size = HeadSize(4096, 512, 32_000)
    every, nothing = names_that_fit(size, None)
    assert not nothing
    assert not any(", full" in name for name in every)
    some, left_out = names_that_fit(size, 4_000_000_000)
    assert f"{COMPRESSED}, naive" in left_out
    assert COMPRESSED in some
    assert sorted([*some, *left_out]) == sorted(every)


def test_every_form_computes_what_the_naive_one_does():
    made = MadeHead(HeadSize(50, 8, 30, 4), full=True)
    losses = {name: float(loss().detach()) for name, loss in made.variants().items()}
    assert losses["one-hot, chunked"] == pytest.approx(losses[ONE_HOT], rel=1e-5)
    for embedding in (COMPRESSED, FULL):
        assert losses[embedding] == pytest.approx(losses[f"{embedding}, naive"], rel=1e-5)
    assert losses[f"{COMPRESSED}, o2 in bfloat16"] == pytest.approx(losses[COMPRESSED], rel=0.01)
    assert losses[f"{COMPRESSED}, 1/4 of the rows"] != losses[COMPRESSED]
    assert losses[SHARED] < losses[COMPRESSED]


def test_memory_of_the_naive_form_grows_with_the_rows_and_that_of_chunks_does_not():
    if not hasattr(measuring.os, "fork"):
        pytest.skip("this system does not tell the highest resident set")
    names = [f"{COMPRESSED}, naive", COMPRESSED]
    size = HeadSize(3_000, 8, 3_000, 4)
    costs = measuring.measured(size, names, rounds=1)
    naive, chunked = (cost.work_bytes for cost in costs)
    logits = 4 * size.rows * size.labels
    assert naive > 4 * logits
    assert chunked < 3.5 * logits  # chunks of 1,398 rows: two of them, and four blocks of 128
    assert chunked < naive / 2


def test_process_that_fails_says_why():
    with pytest.raises(RuntimeError, match="the process that measures the heads failed: KeyError: 'no such form'"):
        measuring.measured(HeadSize(4, 2, 3, 1), ["no such form"], rounds=1)


def test_failure_in_a_child_is_told():
    ran = subprocess.run(
        [sys.executable, "-m", "labelembed.heads.measuring", json.dumps(size_of("no such form"))],
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 1
    assert "measuring memory failed" in ran.stderr


def size_of(name):
    return {"rows": 4, "hidden": 2, "labels": 3, "rank": 1, "device": "cpu", "threads": 1, "memory": [name]}


def costs_of(**ratios):
    names = {
        "full": FULL,
        "full_naive": f"{FULL}, naive",
        "compressed": COMPRESSED,
        "naive": f"{COMPRESSED}, naive",
        "quarter": f"{COMPRESSED}, 1/4 of the rows",
        "low": f"{COMPRESSED}, 1/4 in bfloat16",
    }
    return {names[key]: Cost(names[key], [ratio], [ratio], ratio, None) for key, ratio in ratios.items()}


def test_suggestion_is_what_was_measured():
    many = suggested(HeadSize(8, 8, 32_000), costs_of(compressed=1.8, naive=2.1, quarter=1.28, low=1.15))
    assert many["exact"] == {"name": "label_embedding", "embedding": "compressed"}
    assert many["sampled"] == many["exact"] | {"auxiliary_fraction": 0.25, "auxiliary_dtype": "bfloat16"}
    slow = suggested(HeadSize(8, 8, 32_000), costs_of(compressed=2.2, naive=2.1, quarter=2.1, low=1.9))
    assert slow["exact"] == slow["sampled"] == many["exact"] | {"impl": "closed_form"}
    few = {"full": 1.2, "full_naive": 1.3, "compressed": 1.3, "naive": 1.4, "quarter": 1.1, "low": 1.09}
    found = suggested(HeadSize(8, 8, 500), costs_of(**few))
    assert found["exact"] == {"name": "label_embedding", "impl": "chunked"}
    assert found["sampled"] == found["exact"] | {"auxiliary_fraction": 0.25}
