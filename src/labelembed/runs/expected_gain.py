"""Would a learned similarity help? One run with cross entropy, and the rule of `metrics.expected_gain`."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import torch

from labelembed.data import LabelledData
from labelembed.metrics import ExpectedGain, Prediction, diagnose, expected_gain
from labelembed.recipes.schema import Recipe
from labelembed.runs.run import run_recipe
from labelembed.runs.saved_run import SavedRun
from labelembed.training.evaluation import predicted_logits
from labelembed.training.progress import Progress, ignore_progress

#: `labelembed check` trains no run that is expected to take longer.
LONGEST_SECONDS = 60.0
# Of more training examples the first so many say enough.
_TRAINING_EXAMPLES = 10_000


def gain_on(
    recipe: Recipe, data: LabelledData, *, observe: Callable[[Progress], None] = ignore_progress
) -> ExpectedGain:
    """Trains the recipe's network with cross entropy, keeps nothing of it, and returns what to expect.

    Args:
        recipe: A checked recipe.
        data: Its data, with a validation set.
        observe: Called with where the run stands.
    """
    assert data.validation is not None
    cross_entropy = recipe.model_copy(update={"objective": {"name": "one_hot"}, "comparison": None})
    with tempfile.TemporaryDirectory() as folder:
        run_recipe(cross_entropy, Path(folder) / "run", data=data, observe=observe)
        network = SavedRun.load(Path(folder) / "run").network
    train = data.train.select(torch.arange(min(len(data.train), _TRAINING_EXAMPLES)))
    logits = [predicted_logits(network, split.inputs).float() for split in (train, data.validation)]
    found = diagnose(logits[0], train.labels, logits[1], data.validation.labels, training_examples=len(data.train))
    return expected_gain(found)


def gain_text(gain: ExpectedGain) -> str:
    """Returns what to expect in one sentence."""
    sides = {_side(part) for part in gain}
    heading = "no clear gain" if sides <= {""} else " and ".join(sorted(sides - {""}))
    error, nll = gain
    return (
        f"{heading}: against tuned label smoothing online label smoothing would change the error by "
        f"{100 * error.mean:+.0f} % of it [{100 * error.low:+.0f}, {100 * error.high:+.0f}] and the NLL by "
        f"{nll.mean:+.3f} nats [{nll.low:+.3f}, {nll.high:+.3f}] (95 % prediction intervals)"
    )


def _side(part: Prediction) -> str:
    if part.high < 0:
        return "likely a gain"
    return "likely a loss" if part.low > 0 else ""
