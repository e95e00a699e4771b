"""What networks and beam search refuse: every wrong argument by name."""

from __future__ import annotations

import pytest

from labelembed.lab.models import CNN, MLP, AttentionLSTM, BagOfWords, InputScaling, PaperResNet

# (what is made, its arguments, how many of them, the first, are wrong)
CASES = [
    (MLP, {"hidden_sizes": (0,), "dropout": 1.0, "initialization": "papr", "input_shape": (3,)}, 3),
    (CNN, {"input_shape": (28, 28), "channels": (3,), "dense_size": 0, "dropout": 1.0}, 4),
    (InputScaling, {"scale": [1.0, 0.0], "offset": [0.0]}, 1),
    (PaperResNet, {"channels": (1, 2), "input_shape": (3, 12, 32)}, 2),
    (PaperResNet, {"depth": 10, "input_shape": (3, 32, 32)}, 1),
    (BagOfWords, {"embedding_size": 0, "layer_size": 0, "feature_dropout": 1.0, "vocabulary_size": 6}, 3),
    (AttentionLSTM, {"width": 7, "source_vocabulary_size": 11, "target_vocabulary_size": 13}, 1),
]


@pytest.mark.parametrize(("make", "arguments", "wrong"), CASES)
def test_arguments_that_make_no_network_or_search_are_all_named(make, arguments, wrong):
    more = {"input_shape": (4,)} if make is BagOfWords else {}
    with pytest.raises(ValueError, match="got") as caught:
        make(**arguments, **more)
    assert sorted(line.split("`")[1] for line in str(caught.value).splitlines()) == sorted(list(arguments)[:wrong])
