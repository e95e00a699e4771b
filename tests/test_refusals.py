"""What networks, search, optimisers and schedules refuse: argument and value, and all errors at once.

What objectives refuse stands in `test_objectives_arguments.py`, what a recipe may not hold in `reliability/`.
"""

from __future__ import annotations

from functools import partial

import pytest
from torch import nn

from labelembed.lab.models import (
    CNN,
    MLP,
    AttentionLSTM,
    BagOfWords,
    BeamSearch,
    InputScaling,
    PaperResNet,
    SmallResNet,
)
from labelembed.lab.training.network import Network
from labelembed.lab.training.optimizers import OPTIMIZERS, SCHEDULES
from labelembed.objectives import OneHot

WORDS = {"source_vocabulary_size": 11, "target_vocabulary_size": 13}
# (what is made, the arguments that are named, one line each)
CASES = [
    (
        lambda: MLP(input_shape=(3,), hidden_sizes=(0,), dropout=1.0, initialization="papr"),
        ["hidden_sizes", "dropout", "initialization"],
    ),
    (
        lambda: CNN(input_shape=(28, 28), channels=(3,), dense_size=0, dropout=1.0),
        ["input_shape", "dropout", "channels", "dense_size"],
    ),
    (lambda: InputScaling(offset=[0.0], scale=[1.0, 0.0]), ["scale"]),
    (lambda: PaperResNet(input_shape=(3, 12, 32), channels=(1, 2)), ["input_shape", "channels"]),
    (lambda: PaperResNet(input_shape=(3, 32, 32), depth=10), ["depth"]),
    (lambda: SmallResNet(input_shape=(1, 16, 15), channels=(1, 2)), ["input_shape", "channels"]),
    (
        lambda: BagOfWords(input_shape=(4,), vocabulary_size=6, embedding_size=0, layer_size=0, feature_dropout=1.0),
        ["embedding_size", "layer_size", "feature_dropout"],
    ),
    (lambda: AttentionLSTM(**WORDS, width=7), ["width"]),
    (
        lambda: AttentionLSTM(**WORDS, width=8, embedding_size=6, shared_embeddings=True, tied_output=True),
        ["target_vocabulary_size", "embedding_size"],
    ),
    (lambda: BeamSearch(beam=0, minimum_length=-1), ["beam", "minimum_length"]),
    (lambda: BeamSearch(beam=4, n_best=5), ["n_best"]),
    (
        lambda: BeamSearch(maximum_length=2, minimum_length=3, length_penalty=float("nan")),
        ["maximum_length", "length_penalty"],
    ),
]


@pytest.mark.parametrize(("make", "arguments"), CASES)
def test_arguments_that_make_no_network_or_search_are_all_named(make, arguments):
    with pytest.raises(ValueError, match="got") as caught:
        make()
    assert sorted(line.split("`")[1] for line in str(caught.value).splitlines()) == sorted(arguments)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("adam", {"learning_rate": 0.0}),
        ("adamw", {"weight_decay": -1.0}),
        ("adam", {"betas": (0.9, 1.0)}),
        ("constant", {"warmup_fraction": 1.0}),
        ("step", {"epochs": [0]}),
        ("step", {"factor": 0.0}),
        ("cosine", {"final_fraction": 1.5}),
    ],
)
def test_optimisers_and_schedules_refuse_what_is_out_of_range(name, arguments):
    network = Network(nn.Identity(), nn.Linear(4, 3), OneHot(3, 5))
    make = SCHEDULES[name] if name in SCHEDULES else partial(OPTIMIZERS[name], network)
    with pytest.raises(ValueError, match=f"`{next(iter(arguments))}` .*got"):
        make(**arguments)
