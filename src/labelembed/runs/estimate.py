"""How long a run will take, from a few of its steps."""

from __future__ import annotations

import tempfile
import time
from functools import partial

import torch

from labelembed import seeds
from labelembed.data import LabelledData
from labelembed.objectives import Distillation
from labelembed.recipes.references import needs_table
from labelembed.recipes.schema import Recipe
from labelembed.runs.build import build_optimizer, build_schedule
from labelembed.runs.run import cached_data
from labelembed.runs.teacher_table import uniform_table
from labelembed.runs.training_network import network_for
from labelembed.training.batches import EVALUATION_EXAMPLES, TrainingData
from labelembed.training.decoding import Decoding, decode
from labelembed.training.evaluation import predicted_logits
from labelembed.training.network import Network
from labelembed.training.run_folder import RunFolder
from labelembed.training.trainer import Trainer

_WARM_STEPS, _STEPS = 3, 12
# Translated to see how long that takes.
_SENTENCES = 32


def seconds_of_run(recipe: Recipe) -> float:
    """Returns about how long one run takes on one thread of this machine.

    Some steps are made on a network that is then forgotten; nothing is written.

    Args:
        recipe: A checked recipe.

    Raises:
        DataError: When the data cannot be used.
    """
    data = cached_data(recipe)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory() as nowhere, seeds.seeded(recipe.seed, "estimate"):
            network = network_for(recipe, data)
            if isinstance(network.objective, Distillation) and needs_table(recipe):
                network.objective.teacher_table = uniform_table(recipe, data)
            trainer = Trainer(
                network,
                partial(build_optimizer, recipe),
                build_schedule(recipe),
                data,
                recipe,
                RunFolder(nowhere),
            )
            network.objective.start_epoch(0, trainer.epochs, trainer.batches)
            times = trainer.time_steps(_WARM_STEPS + _STEPS)
            times = times[_WARM_STEPS:] or times[-1:]  # a large network makes fewer steps
            step = sorted(times)[len(times) // 2] if times else 0.0
            example = _seconds_of_an_example(trainer.network, data)
    finally:
        torch.set_num_threads(threads)
    sizes = {name: len(split) for name, split in data.splits.items() if name != "train"}
    tested = trainer.epochs if recipe.test_every_epoch else 1
    measured = trainer.epochs * sizes.get("validation", 0) + tested * sizes.get("test", 0)
    return trainer.epochs * trainer.batches * step + measured * example


def _seconds_of_an_example(network: Network, data: TrainingData) -> float:
    """Returns about how long it takes to measure one validation or test example."""
    began = time.perf_counter()
    if isinstance(data, LabelledData):
        predicted_logits(network, data.train.inputs[:EVALUATION_EXAMPLES])
        tried = min(EVALUATION_EXAMPLES, len(data.train))
    else:
        tried = min(_SENTENCES, len(data.train))
        decode(network, [data.train.source[place] for place in range(tried)], Decoding())
    return (time.perf_counter() - began) / tried
