"""What objectives refuse: the argument by name with its value, and all errors at once."""

from __future__ import annotations

import pytest
import torch

from labelembed.errors import InvalidArguments
from labelembed.geometry import LabelGeometry
from labelembed.objectives import OBJECTIVES

from .made_objectives import label_vectors, needed

NAN = float("nan")
WITHOUT_LENGTH = LabelGeometry("abcde", vectors=torch.eye(5).index_fill(0, torch.tensor([2]), 0.0))
# Of each argument values just outside what is allowed, by objective.
EVERYWHERE = {
    "hidden_size": (0, -3, 4.0),
    "num_labels": (0, 6.0),
    "weight": ([1.0, 2.0], [1.0, -2.0, 1, 1, 1], [0.0] * 5, [NAN] * 5),
}
REFUSED = {
    "one_hot": {"impl": ("fast",)},
    "label_smoothing": {"smoothing": (-0.1, 1.5, NAN), "impl": ("fast",)},
    "confidence_penalty": {"penalty_weight": (-0.1, NAN)},
    "teacher_free": {"true_probability": (0.0, 1.1), "temperature": (0.0, NAN), "teacher_weight": (-0.1, 1.1)},
    "distillation": {
        "teacher_logits": (torch.zeros(7, 4), [0.0] * 5, torch.full((2, 5), NAN)),
        "temperature": (0.0, NAN),
        "teacher_weight": (-0.1, 1.1),
        "uniform_weight": (-0.1, 0.2),
    },
    "static_labels": {"delta": (0.0, NAN), "embedding": ("full", label_vectors(3), WITHOUT_LENGTH)},
    "adaptive_labels": {
        "label_dimension": (0, 10.0),
        "update_every": (0,),
        "warmup_steps": (-1, 2.0),
        "repel_weight": (-1.0,),
        "preset": ("papr",),
        "prediction": ("x",),
    },
    "online_label_smoothing": {
        "similarity_weight": (-0.1, 0.9),  # with 0.2 uniform more than 1
        "momentum": (1.5,),
        "preset": ("x",),
        "num_labels": (8_001,),
    },
    "retrospection": {
        "num_examples": (-1, 100.0),
        "store_every": (0,),
        "temperature": (-5.0,),
        "final_weight": (1.2,),
        "preset": ("x",),
        "store": ("x",),
    },
    "label_embedding": {
        "embedding": ("ful", label_vectors(3)),
        "auxiliary": ("shard",),
        "initial_scale": (0.0, "x"),
        "embedding_learning_rate": (0.0,),
        "preset": ("papr",),
        "rank": (0,),
        "temperature": (0.0, -1.0, NAN),
        "confidence_limit": (-0.1, 1.1),
        "output_weight": (-1.0,),
        "target_weight": (-1.0, NAN),
        "uniform_weight": (-1.0,),
        "target_warmup": (-0.5, 1.0, NAN),
    },
}
# Each argument at the edge of what is allowed, all in one.
ALLOWED = {
    "label_smoothing": {"smoothing": 1.0},
    "confidence_penalty": {"penalty_weight": 0.0, "ignore_index": None},
    "distillation": {"teacher_logits": None, "temperature": 1e-9, "teacher_weight": 0.0},
    "static_labels": {"embedding": LabelGeometry(["a"], vectors=torch.zeros(1, 1)), "normalize": False, "delta": 1e-9},
    "teacher_free": {"true_probability": 1.0, "temperature": 1e-9, "teacher_weight": 1.0},
    "adaptive_labels": {"label_dimension": 1, "warmup_steps": 0, "repel_weight": 0.0},
    "online_label_smoothing": {"similarity_weight": 0.5, "uniform_weight": 0.5, "momentum": 1.0},
    "retrospection": {"num_examples": 0, "store_every": 1, "final_weight": 1.0},
    "label_embedding": {"rank": 1, "temperature": 1e-9, "confidence_limit": 0.0, "target_weight": 0.0},
}


def errors_of(name, arguments):
    with pytest.raises(ValueError, match="got") as refused:
        OBJECTIVES[name](**({"hidden_size": 4, "num_labels": 5} | needed(name, 5) | arguments))
    assert isinstance(refused.value, InvalidArguments)
    return dict(refused.value.errors)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_an_argument_out_of_range_is_named_with_its_value(name):
    for argument, values in (EVERYWHERE | REFUSED[name]).items():
        for value in values:
            errors = errors_of(name, {argument: value})
            assert argument in errors
            # What is given as a table is said by its shape.
            assert not isinstance(value, int | float | str) or repr(value) in errors[argument] or value == 0.9


@pytest.mark.parametrize("name", OBJECTIVES)
def test_all_errors_are_named_at_once(name):
    arguments = {"hidden_size": 0} | {argument: values[0] for argument, values in REFUSED[name].items()}
    arguments.pop("num_labels", None)
    assert errors_of(name, arguments).keys() == arguments.keys()


def test_a_name_that_is_nearly_right_is_told():
    for argument, value, meant in (("preset", "papr", "paper"), ("auxiliary", "shard", "shared")):
        assert meant in errors_of("label_embedding", {argument: value})[argument]


@pytest.mark.parametrize("name", ALLOWED)
def test_arguments_at_the_edge_of_the_allowed_are_taken_by_keyword_only(name):
    assert OBJECTIVES[name](1, 1, **ALLOWED[name]).num_labels == 1
    with pytest.raises(TypeError, match="positional"):
        OBJECTIVES[name](4, 5, 0.5)
