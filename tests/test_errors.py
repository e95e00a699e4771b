"""What can go wrong, as types and messages."""

from __future__ import annotations

import copy
import pickle

import pytest

from labelembed.errors import DataError, LabelEmbedError
from labelembed.lab.errors import InterruptedTraining, RecipeError, RunFolderError, TrainingError


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RecipeError(["one: wrong", "two: wrong"], source="x.yaml"), 2),
        (RecipeError(["one: wrong"]), 2),
        (DataError("x.csv: row 3"), 2),
        (RunFolderError("no such folder"), 2),
        (TrainingError("loss is nan"), 1),
        (InterruptedTraining("stopped after epoch 3", signal_number=2), 130),
        (InterruptedTraining("stopped after epoch 3", signal_number=15), 143),
        (InterruptedTraining("stopped"), 130),
    ],
)
def test_errors_carry_their_exit_code_and_survive_the_way_back_from_a_worker_process(error, code):
    assert isinstance(error, LabelEmbedError)
    for back in (error, pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(back) is type(error)
        assert (str(back), back.exit_code, vars(back)) == (str(error), code, vars(error))
