"""An objective's arguments by its name: what is wrong is named, all at once; and what an installation lacks."""

from __future__ import annotations

import importlib
import sys

import numpy as np
import pytest

from labelembed.errors import ArgumentErrors
from labelembed.objectives import OBJECTIVES
from labelembed.objectives.arguments import checked_arguments, parameters_of
from tests.made_objectives import needed


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_defaults_and_what_is_needed_are_right(name):
    errors = ArgumentErrors()
    defaults = {key: default for key, (_, default) in parameters_of(OBJECTIVES[name]).items()}
    assert checked_arguments(name, defaults | needed(name, 3), errors).keys() == defaults.keys()
    assert errors.errors == []
    assert {"weight", "bias", "ignore_index"} <= defaults.keys()


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("one_hut", {}, [("objective", "one_hot")]),
        ("static_labels", {}, [("embedding", "LabelGeometry")]),
        (
            "label_embedding",
            {"temperatur": 1.0, "rank": 2.5, "preset": "papr", "temperature": "warm", "initial_scale": True},
            [
                ("temperatur", "temperature"),
                ("rank", "2.5"),
                ("preset", "did you mean 'paper'"),
                ("temperature", "a number"),
                ("initial_scale", "'log', a number or None"),
            ],
        ),
    ],
)
def test_all_that_is_wrong_is_named_with_the_way_out(name, arguments, words):
    errors = ArgumentErrors()
    checked_arguments(name, arguments, errors)
    for (named, message), (argument, word) in zip(errors.errors, words, strict=True):
        assert named == argument
        assert word in message


def test_numbers_of_numpy_are_plain_numbers_and_what_the_caller_supplies_is_refused():
    errors = ArgumentErrors()
    checked = checked_arguments("retrospection", {"store_every": np.int64(2)}, errors, supplied=("num_examples",))
    assert type(checked["store_every"]) is int
    checked_arguments("retrospection", {"num_examples": 3}, errors, supplied=("num_examples",))
    assert [name for name, _ in errors.errors] == ["num_examples"]


@pytest.mark.parametrize("package", ["sklearn", "transformers", "lightning"])
def test_a_missing_package_is_named_with_its_extra(package, monkeypatch):
    for name in (package, "sklearn.base", "lightning.pytorch", "pytorch_lightning"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, f"labelembed.integrations.{package}", raising=False)
    with pytest.raises(ImportError, match=rf"labelembed\[{package}\]"):
        importlib.import_module(f"labelembed.integrations.{package}")
