"""What objectives refuse, and how they say it: argument and value, and all errors at once."""

from __future__ import annotations

import pytest
import torch

from labelembed.geometry import LabelGeometry
from labelembed.objectives import OBJECTIVES

from .made_objectives import label_vectors, needed

NAN, INFINITE = float("nan"), float("inf")


def of(argument, rule, *values):
    """Returns what each of the values of one argument is refused with."""
    return [({argument: value}, f"`{argument}` {rule}, got {value!r}") for value in values]


SHARE = "must be in [0, 1]"
EVERYWHERE = [
    *of("hidden_size", "must be a whole number >= 1", 0, -3, 4.0),
    *of("num_labels", "must be a whole number >= 1", 0, 6.0),
]
REFUSED = {
    "label_smoothing": of("smoothing", SHARE, -0.1, 1.5, NAN),
    "confidence_penalty": of("penalty_weight", "must be >= 0", -0.1, NAN),
    "teacher_free": [
        *of("true_probability", "must be in (0, 1]", 0.0, 1.1, NAN),
        *of("temperature", "must be > 0", 0.0, NAN),
        *of("teacher_weight", SHARE, -0.1, 1.1),
    ],
    "distillation": [
        *of("temperature", "must be > 0", 0.0, NAN),
        *of("teacher_weight", SHARE, -0.1, 1.1),
        *of("uniform_weight", "must be in [0, 1 - teacher_weight]", -0.1, 0.2),
        *(
            (
                {"teacher_logits": torch.zeros(shape)},
                f"`teacher_logits` must be [examples, 5], logits of each training example, got {shape}",
            )
            for shape in ([7, 4], [5])
        ),
        ({"teacher_logits": torch.full((2, 5), NAN)}, "`teacher_logits` must be finite, got 'inf or nan'"),
    ],
    "static_labels": [
        *of("delta", "must be > 0", 0.0, NAN),
        *of("embedding", "must be a LabelGeometry", "full"),
        ({"embedding": label_vectors(3)}, "`embedding` must have 5 labels as the data has, got 3"),
        (
            {"embedding": LabelGeometry("abcde", vectors=torch.eye(5).index_fill(0, torch.tensor([2]), 0.0))},
            "`embedding` must have no vector of length 0, got 'c'",
        ),
    ],
    "adaptive_labels": [
        *of("label_dimension", "must be a whole number >= 1, or None", 0, 10.0),
        *of("update_every", "must be a whole number >= 1", 0),
        *of("warmup_steps", "must be a whole number >= 0", -1, 2.0),
        *of("repel_weight", "must be >= 0", -1.0),
        (
            {"preset": "papr"},
            "`preset` must be one of 'published_code', 'paper', got 'papr' (did you mean 'paper'?)",
        ),
        *of("prediction", "must be one of 'training_set', 'last'", "x"),
    ],
    "online_label_smoothing": [
        (
            {"similarity_weight": 0.75, "uniform_weight": 0.5},
            "`similarity_weight` and `uniform_weight` must add up to at most 1, got 1.25",
        ),
        *of("similarity_weight", SHARE, -0.1),
        *of("momentum", SHARE, 1.5),
        *of("preset", "must be one of 'moving_average', 'published'", "x"),
    ],
    "retrospection": [
        *of("num_examples", "must be a whole number >= 0", -1, 100.0),
        *of("store_every", "must be a whole number >= 1", 0),
        *of("temperature", "must be > 0", -5.0),
        *of("final_weight", SHARE, 1.2),
        *of("preset", "must be one of 'paper', 'published_port', 'progressive'", "x"),
        *of("store", "must be one of 'pass', 'steps'", "x"),
    ],
    "label_embedding": [
        ({"embedding": "ful"}, "`embedding` must be one of 'full', 'compressed', got 'ful' (did you mean 'full'?)"),
        ({"embedding": label_vectors(3)}, "`embedding` must have 5 labels as the data has, got 3"),
        (
            {"auxiliary": "shard"},
            "`auxiliary` must be one of 'separate', 'shared', got 'shard' (did you mean 'shared'?)",
        ),
        *of("initial_scale", "must be > 0, 'log' or None", 0.0, "x"),
        *of("embedding_learning_rate", "must be > 0", 0.0),
        (
            {"preset": "papr"},
            "`preset` must be one of 'paper', 'published_code', 'mixture', got 'papr' (did you mean 'paper'?)",
        ),
        *of("rank", "must be a whole number >= 1", 0),
        *of("temperature", "must be > 0", 0.0, -1.0, NAN),
        *of("confidence_limit", SHARE, -0.1, 1.1),
        *of("output_weight", "must be >= 0", -1.0),
        *of("target_weight", "must be >= 0", -1.0, NAN),
        *of("uniform_weight", "must be >= 0", -1.0),
        *of("target_warmup", "must be in [0, 1), a share of the run", -0.5, 1.0, 1.5, INFINITE, NAN),
    ],
}
# Each argument at the edge of what is allowed, all in one.
EDGES = {
    "one_hot": {"ignore_index": None},
    "label_smoothing": {"smoothing": 1.0},
    "confidence_penalty": {"penalty_weight": 0.0, "ignore_index": None},
    "distillation": {"teacher_logits": None, "temperature": 1e-9, "teacher_weight": 0.0},
    "static_labels": {
        "embedding": LabelGeometry(["a"], vectors=torch.zeros(1, 1)),
        "normalize": False,
        "delta": 1e-9,
    },
    "teacher_free": {"true_probability": 1.0, "temperature": 1e-9, "teacher_weight": 1.0},
    "adaptive_labels": {"label_dimension": 1, "warmup_steps": 0, "repel_weight": 0.0},
    "online_label_smoothing": {"similarity_weight": 0.5, "uniform_weight": 0.5, "momentum": 1.0},
    "retrospection": {"num_examples": 0, "store_every": 1, "final_weight": 1.0},
    "label_embedding": {
        "rank": 1,
        "temperature": 1e-9,
        "confidence_limit": 0.0,
        "output_weight": 0.0,
        "target_weight": 0.0,
        "uniform_weight": 0.0,
        "target_warmup": 0.0,
        "embedding": "compressed",
    },
}


def refusal(name, arguments):
    given = {"hidden_size": 4, "num_labels": 5} | needed(name, 5) | arguments
    with pytest.raises(ValueError, match="got") as caught:
        OBJECTIVES[name](**given)
    return str(caught.value)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_refuses_what_no_output_layer_can_be(name):
    for arguments, message in EVERYWHERE:
        lines = refusal(name, arguments).splitlines()
        assert message in lines
        assert "num_labels" in arguments or lines == [message]  # a table given with it does not fit them either


@pytest.mark.parametrize("name", REFUSED)
def test_an_argument_out_of_range_is_named_with_its_value(name):
    for arguments, message in REFUSED[name]:
        assert refusal(name, arguments) == message


@pytest.mark.parametrize("name", REFUSED)
def test_all_errors_are_named_at_once(name):
    arguments, messages = {}, []
    for argument, message in EVERYWHERE + REFUSED[name]:
        # One error of each argument; vectors are not looked at where the number of labels is none.
        if not arguments.keys() & argument.keys() and "num_labels" not in argument:
            arguments |= argument
            messages.append(message)
    assert len(messages) >= 2
    assert sorted(refusal(name, arguments).splitlines()) == sorted(messages)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_arguments_at_the_edge_of_the_allowed_are_taken_by_keyword_only(name):
    assert OBJECTIVES[name](1, 1, **EDGES[name]).num_labels == 1
    with pytest.raises(TypeError, match="positional"):
        OBJECTIVES[name](4, 5, 0.5)
