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
    ResNet,
    SmallResNet,
)
from labelembed.lab.training.network import Network
from labelembed.lab.training.optimizers import OPTIMIZERS, SCHEDULES
from labelembed.objectives import OneHot

WORDS = {"source_vocabulary_size": 11, "target_vocabulary_size": 13}
SIDES = "`input_shape` must be (channels, height, width)"
DROPOUT = "`dropout` must be in [0, 1), got 1.0"
CASES = [
    (
        lambda: MLP(input_shape=(3,), hidden_sizes=(), dropout=1.0, initialization="papr"),
        [
            "`hidden_sizes` must be one or more widths >= 1, got []",
            DROPOUT,
            "`initialization` must be one of 'paper', 'pytorch', got 'papr' (did you mean 'paper'?)",
        ],
    ),
    (
        lambda: CNN(input_shape=(28, 28), channels=(3,), dense_size=0, dropout=1.0),
        [
            f"{SIDES}, 4 pixels or more a side, got [28, 28]",
            DROPOUT,
            "`channels` must be two numbers >= 1, got [3]",
            "`dense_size` must be >= 1, got 0",
        ],
    ),
    (lambda: InputScaling(offset=[0.0], scale=[1.0, 0.0]), ["`scale` must not hold a zero, got [1.0, 0.0]"]),
    (
        lambda: ResNet(input_shape=(3, 7, 32), depth=18, channels=(1, 0, 2), shortcut="paddin", dropout=1.0),
        [
            f"{SIDES}, 8 pixels or more a side, got [3, 7, 32]",
            DROPOUT,
            "`depth` must be 6 n + 2: 8, 14, 20, 32, 44, 56, ..., got 18",
            "`channels` must be three numbers >= 1, got [1, 0, 2]",
            "`shortcut` must be one of 'padding', 'projection', got 'paddin' (did you mean 'padding'?)",
        ],
    ),
    (
        lambda: PaperResNet(input_shape=(3, 12, 32), channels=(1, 2)),
        [
            f"{SIDES}, 13 pixels or more a side, got [3, 12, 32]",
            "`channels` must be 3 numbers >= 1 for depth 8, got [1, 2]",
        ],
    ),
    (lambda: PaperResNet(input_shape=(3, 32, 32), depth=10), ["`depth` must be one of 8, 18, got 10"]),
    (
        lambda: SmallResNet(input_shape=(1, 16, 15), channels=(1, 2)),
        [f"{SIDES}, 16 pixels or more a side, got [1, 16, 15]", "`channels` must be three numbers >= 1, got [1, 2]"],
    ),
    (
        lambda: BagOfWords(input_shape=(4,), vocabulary_size=6, embedding_size=0, layer_size=0, feature_dropout=1.0),
        [
            "`embedding_size` must be >= 1, got 0",
            "`layer_size` must be >= 1, or null, got 0",
            "`feature_dropout` must be in [0, 1), got 1.0",
        ],
    ),
    (lambda: AttentionLSTM(**WORDS, width=7), ["`width` must be even for a bidirectional encoder, got 7"]),
    (
        lambda: AttentionLSTM(**WORDS, width=8, embedding_size=6, shared_embeddings=True, tied_output=True),
        [
            "`target_vocabulary_size` must be the source's 11 for shared embeddings, got 13",
            "`embedding_size` must be the width 8 for a tied output layer, got 6",
        ],
    ),
    (
        lambda: BeamSearch(beam=0, minimum_length=-1),
        ["`beam` must be >= 1, got 0", "`minimum_length` must be >= 0, got -1"],
    ),
    (lambda: BeamSearch(beam=4, n_best=5), ["`n_best` must be from 1 to the beam of 4, got 5"]),
    (
        lambda: BeamSearch(maximum_length=2, minimum_length=3, length_penalty=float("nan")),
        [
            "`maximum_length` must be >= 1 and no less than the minimum length of 3, got 2",
            "`length_penalty` must be a finite number, got nan",
        ],
    ),
]


@pytest.mark.parametrize(("make", "lines"), CASES)
def test_arguments_that_make_no_network_or_search_are_all_named(make, lines):
    with pytest.raises(ValueError, match="got") as caught:
        make()
    assert sorted(str(caught.value).splitlines()) == sorted(lines)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("adam", {"learning_rate": 0.0}, "`learning_rate` must be > 0, got 0.0"),
        ("adamw", {"weight_decay": -1.0}, "`weight_decay` must be >= 0, got -1.0"),
        ("adam", {"betas": (0.9, 1.0)}, r"`betas` must both be in \[0, 1\), got \[0.9, 1.0\]"),
        ("sgd", {"momentum": 0.0, "nesterov": True}, "`nesterov` needs a momentum > 0, got True"),
        ("constant", {"warmup_fraction": 1.0}, r"`warmup_fraction` must be in \[0, 1\), got 1.0"),
        ("step", {"epochs": [0]}, r"`epochs` must be numbers >= 1, got \[0\]"),
        ("step", {"factor": 0.0}, r"`factor` must be in \(0, 1\], got 0.0"),
        ("cosine", {"final_fraction": 1.5}, r"`final_fraction` must be in \[0, 1\], got 1.5"),
    ],
)
def test_optimisers_and_schedules_refuse_what_is_out_of_range(name, arguments, message):
    network = Network(nn.Identity(), nn.Linear(4, 3), OneHot(3, 5))
    make = SCHEDULES[name] if name in SCHEDULES else partial(OPTIMIZERS[name], network)
    with pytest.raises(ValueError, match=message):
        make(**arguments)
