"""What objectives refuse, and how they say it: argument and value, all at once; both shapes."""

from __future__ import annotations

import pytest
import torch

from labelembed.geometry import LabelGeometry
from labelembed.objectives import (
    OBJECTIVES,
    ConfidencePenalty,
    Distillation,
    LabelEmbedding,
    LabelSmoothing,
    OneHot,
    StaticLabels,
    TeacherFree,
)

from .made_objectives import label_vectors, needed

NAN = float("nan")
EVERYWHERE = [
    ({"hidden_size": 0}, "`hidden_size` must be >= 1, got 0"),
    ({"hidden_size": -3}, "`hidden_size` must be >= 1, got -3"),
    ({"num_labels": 0}, "`num_labels` must be >= 1, got 0"),
    ({"output_std": 0.0}, "`output_std` must be > 0, or None, got 0.0"),
    ({"output_std": -0.1}, "`output_std` must be > 0, or None, got -0.1"),
    ({"output_std": NAN}, "`output_std` must be > 0, or None, got nan"),
]
LABEL_SMOOTHING = [
    ({"smoothing": -0.1}, "`smoothing` must be in [0, 1], got -0.1"),
    ({"smoothing": 1.5}, "`smoothing` must be in [0, 1], got 1.5"),
    ({"smoothing": NAN}, "`smoothing` must be in [0, 1], got nan"),
]
CONFIDENCE_PENALTY = [
    ({"penalty_weight": -0.1}, "`penalty_weight` must be >= 0, got -0.1"),
    ({"penalty_weight": NAN}, "`penalty_weight` must be >= 0, got nan"),
]
TEACHER_FREE = [
    ({"true_probability": 0.0}, "`true_probability` must be in (0, 1], got 0.0"),
    ({"true_probability": 1.1}, "`true_probability` must be in (0, 1], got 1.1"),
    ({"true_probability": NAN}, "`true_probability` must be in (0, 1], got nan"),
    ({"temperature": 0.0}, "`temperature` must be > 0, got 0.0"),
    ({"temperature": NAN}, "`temperature` must be > 0, got nan"),
    ({"teacher_weight": -0.1}, "`teacher_weight` must be in [0, 1], got -0.1"),
    ({"teacher_weight": 1.1}, "`teacher_weight` must be in [0, 1], got 1.1"),
    ({"preset": "papr"}, "`preset` must be one of 'published_code', 'paper', got 'papr' (did you mean 'paper'?)"),
]
DISTILLATION = [
    ({"temperature": 0.0}, "`temperature` must be > 0, got 0.0"),
    ({"temperature": NAN}, "`temperature` must be > 0, got nan"),
    ({"teacher_weight": -0.1}, "`teacher_weight` must be in [0, 1], got -0.1"),
    ({"teacher_weight": 1.1}, "`teacher_weight` must be in [0, 1], got 1.1"),
    (
        {"teacher_logits": torch.zeros(7, 4)},
        "`teacher_logits` must be [examples, 5], one for each of training, got [7, 4]",
    ),
    ({"teacher_logits": torch.zeros(5)}, "`teacher_logits` must be [examples, 5], one for each of training, got [5]"),
    ({"teacher_logits": torch.full((2, 5), NAN)}, "`teacher_logits` must be finite, got 'inf or nan'"),
]
STATIC_LABELS = [
    ({"loss": "hubr"}, "`loss` must be one of 'huber', 'squared', 'cosine', got 'hubr' (did you mean 'huber'?)"),
    ({"delta": 0.0}, "`delta` must be > 0, got 0.0"),
    ({"delta": NAN}, "`delta` must be > 0, got nan"),
    ({"embedding": "full"}, "`embedding` must be a LabelGeometry, got 'full'"),
    ({"embedding": label_vectors(3)}, "`embedding` must have 5 labels as the data has, got 3"),
    (
        {"embedding": LabelGeometry("abcde", vectors=torch.eye(5).index_fill(0, torch.tensor([2]), 0.0))},
        "`embedding` must have no vector of length 0, got 'c'",
    ),
    (
        {"embedding": LabelGeometry("abcde", vectors=torch.eye(5)[[0, 1, 2, 1, 4]])},
        "`embedding` must have a vector of its own for every label, got 'b and d'",
    ),
    (  # of two lengths in one direction, which scaling makes one
        {"embedding": LabelGeometry("abcde", vectors=torch.tensor([[1.0], [2.0], [-1.0], [3.0], [4.0]]))},
        "`embedding` must have a vector of its own for every label, got 'a and b'",
    ),
]
LABEL_EMBEDDING = [
    ({"embedding": "ful"}, "`embedding` must be one of 'full', 'compressed', got 'ful' (did you mean 'full'?)"),
    (
        {"preset": "papr"},
        "`preset` must be one of 'paper', 'published_code', 'mixture', got 'papr' (did you mean 'paper'?)",
    ),
    ({"rank": 0}, "`rank` must be >= 1, got 0"),
    ({"temperature": 0.0}, "`temperature` must be > 0, got 0.0"),
    ({"temperature": -1.0}, "`temperature` must be > 0, got -1.0"),
    ({"temperature": NAN}, "`temperature` must be > 0, got nan"),
    ({"confidence_limit": -0.1}, "`confidence_limit` must be in [0, 1], got -0.1"),
    ({"confidence_limit": 1.1}, "`confidence_limit` must be in [0, 1], got 1.1"),
    ({"hinge_reduction": "avg"}, "`hinge_reduction` must be one of 'mean', 'sum', got 'avg'"),
    ({"output_weight": -1.0}, "`output_weight` must be >= 0, got -1.0"),
    ({"target_weight": -1.0}, "`target_weight` must be >= 0, got -1.0"),
    ({"target_weight": NAN}, "`target_weight` must be >= 0, got nan"),
    ({"uniform_weight": -1.0}, "`uniform_weight` must be >= 0, got -1.0"),
    (
        {"target_warmup_steps": -1},
        "`target_warmup_steps` must be a whole number of steps >= 0, or a share of the run between 0 and 1, got -1",
    ),
    (
        {"target_warmup_steps": -0.5},
        "`target_warmup_steps` must be a whole number of steps >= 0, or a share of the run between 0 and 1, got -0.5",
    ),
    (
        {"target_warmup_steps": 1.5},
        "`target_warmup_steps` must be a whole number of steps >= 0, or a share of the run between 0 and 1, got 1.5",
    ),
    (
        {"target_warmup_steps": float("inf")},
        "`target_warmup_steps` must be a whole number of steps >= 0, or a share of the run between 0 and 1, got inf",
    ),
    (
        {"target_warmup_steps": float("nan")},
        "`target_warmup_steps` must be a whole number of steps >= 0, or a share of the run between 0 and 1, got nan",
    ),
]
# Each argument at the edge of what is allowed, all in one.
EDGES = {
    OneHot: {"output_std": 1e-9, "ignore_index": None},
    LabelSmoothing: {"smoothing": 1.0, "output_std": 1e-9},
    ConfidencePenalty: {"penalty_weight": 0.0, "ignore_index": None},
    Distillation: {"teacher_logits": None, "temperature": 1e-9, "teacher_weight": 0.0},
    StaticLabels: {
        "embedding": LabelGeometry(["a"], vectors=torch.zeros(1, 1)),
        "normalize": False,
        "delta": 1e-9,
    },
    TeacherFree: {"true_probability": 1.0, "temperature": 1e-9, "teacher_weight": 1.0},
    LabelEmbedding: {
        "rank": 1,
        "temperature": 1e-9,
        "confidence_limit": 0.0,
        "output_weight": 0.0,
        "target_weight": 0.0,
        "uniform_weight": 0.0,
        "target_warmup_steps": 0,
        "embedding": "compressed",
    },
}


def refusal(objective_class, arguments):
    name = next(name for name, known in OBJECTIVES.items() if known is objective_class)
    given = {"hidden_size": 4, "num_labels": 5} | arguments
    given = needed(name, given["num_labels"] if given["num_labels"] >= 1 else 5) | given
    with pytest.raises(ValueError, match="got") as caught:
        objective_class(**given)
    return str(caught.value)


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize(("arguments", "message"), EVERYWHERE)
def test_every_objective_refuses_what_no_output_layer_can_be(name, arguments, message):
    lines = refusal(OBJECTIVES[name], arguments).splitlines()
    assert message in lines
    assert "num_labels" in arguments or lines == [message]  # a table given with it does not fit 0 labels either


@pytest.mark.parametrize(
    ("objective_class", "arguments", "message"),
    [(LabelSmoothing, *case) for case in LABEL_SMOOTHING]
    + [(ConfidencePenalty, *case) for case in CONFIDENCE_PENALTY]
    + [(TeacherFree, *case) for case in TEACHER_FREE]
    + [(Distillation, *case) for case in DISTILLATION]
    + [(StaticLabels, *case) for case in STATIC_LABELS]
    + [(LabelEmbedding, *case) for case in LABEL_EMBEDDING],
)
def test_argument_out_of_range_is_named_with_its_value(objective_class, arguments, message):
    assert refusal(objective_class, arguments) == message


def test_all_faults_of_a_label_embedding_are_named_at_once():
    arguments, messages = {}, []
    for argument, message in EVERYWHERE + LABEL_EMBEDDING:
        if not arguments.keys() & argument.keys():
            arguments |= argument
            messages.append(message)
    assert len(messages) == 13
    assert sorted(refusal(LabelEmbedding, arguments).splitlines()) == sorted(messages)


def test_all_faults_of_a_label_smoothing_are_named_at_once():
    lines = refusal(LabelSmoothing, {"num_labels": -1, "smoothing": 2.0}).splitlines()
    assert sorted(lines) == ["`num_labels` must be >= 1, got -1", "`smoothing` must be in [0, 1], got 2.0"]


@pytest.mark.parametrize("objective_class", EDGES)
def test_arguments_at_the_edge_of_the_allowed_are_taken(objective_class):
    objective = objective_class(1, 1, **EDGES[objective_class])
    assert objective.num_labels == 1


def test_geometry_of_another_number_of_labels_is_refused():
    geometry = LabelGeometry(("a", "b", "c"), similarities=torch.eye(3))
    message = refusal(LabelEmbedding, {"embedding": geometry})
    assert message == "`embedding` must have 5 labels as the data has, got 3"


@pytest.mark.parametrize("objective_class", [OneHot, LabelSmoothing, LabelEmbedding])
def test_hyper_parameters_are_keyword_only(objective_class):
    with pytest.raises(TypeError, match="positional"):
        objective_class(4, 5, 0.5)
