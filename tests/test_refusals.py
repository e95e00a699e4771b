"""What networks, search, optimisers and schedules refuse: argument and value, and all errors at once."""

from __future__ import annotations

from functools import partial

import pytest
from torch import nn

from labelembed.lab.models import CNN, MLP, AttentionLSTM, BagOfWords, BeamSearch, InputScaling, PaperResNet
from labelembed.lab.training.network import Network
from labelembed.lab.training.optimizers import OPTIMIZERS, SCHEDULES
from labelembed.objectives import OneHot

# (what is made, its arguments, how many of them, the first, are wrong)
CASES = [
    (MLP, {"hidden_sizes": (0,), "dropout": 1.0, "initialization": "papr", "input_shape": (3,)}, 3),
    (CNN, {"input_shape": (28, 28), "channels": (3,), "dense_size": 0, "dropout": 1.0}, 4),
    (InputScaling, {"scale": [1.0, 0.0], "offset": [0.0]}, 1),
    (PaperResNet, {"channels": (1, 2), "input_shape": (3, 12, 32)}, 2),
    (PaperResNet, {"depth": 10, "input_shape": (3, 32, 32)}, 1),
    (BagOfWords, {"embedding_size": 0, "layer_size": 0, "feature_dropout": 1.0, "vocabulary_size": 6}, 3),
    (AttentionLSTM, {"width": 7, "source_vocabulary_size": 11, "target_vocabulary_size": 13}, 1),
    (BeamSearch, {"beam": 0, "minimum_length": -1}, 2),
    (BeamSearch, {"maximum_length": 2, "length_penalty": float("nan"), "minimum_length": 3}, 2),
]


@pytest.mark.parametrize(("make", "arguments", "wrong"), CASES)
def test_arguments_that_make_no_network_or_search_are_all_named(make, arguments, wrong):
    more = {"input_shape": (4,)} if make is BagOfWords else {}
    with pytest.raises(ValueError, match="got") as caught:
        make(**arguments, **more)
    assert sorted(line.split("`")[1] for line in str(caught.value).splitlines()) == sorted(list(arguments)[:wrong])


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("adam", {"learning_rate": 0.0}),
        ("adam", {"betas": (0.9, 1.0)}),
        ("constant", {"warmup_fraction": 1.0}),
        ("step", {"epochs": [0]}),
        ("cosine", {"final_fraction": 1.5}),
    ],
)
def test_optimisers_and_schedules_refuse_what_is_out_of_range(name, arguments):
    network = Network(nn.Identity(), nn.Linear(4, 3), OneHot(3, 5))
    make = SCHEDULES[name] if name in SCHEDULES else partial(OPTIMIZERS[name], network)
    with pytest.raises(ValueError, match=f"`{next(iter(arguments))}` .*got"):
        make(**arguments)
