"""How long a run will take, from a few of its steps."""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from functools import partial

import torch

from labelembed import seeds
from labelembed.recipes.building import build_network, build_optimizer, build_scaling, build_schedule
from labelembed.recipes.running import cached_data
from labelembed.recipes.schema import Recipe
from labelembed.training.evaluation import EVALUATION_ROWS, predicted_logits
from labelembed.training.loop import Trainer
from labelembed.training.run_folder import RunFolder

_WARM_STEPS, _STEPS = 3, 12


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
            scaling = build_scaling(recipe, data)
            network = build_network(
                recipe,
                num_labels=data.num_labels,
                input_shape=data.input_shape,
                num_rows=len(data.train),
                scaling=scaling,
                data=data,
            )
            trainer = Trainer(
                network,
                partial(build_optimizer, recipe),
                build_schedule(recipe),
                data,
                replace(recipe.settings(data.num_labels), epochs=1),
                RunFolder(nowhere),
            )
            times = trainer.time_steps(_WARM_STEPS + _STEPS)
            times = times[_WARM_STEPS:] or times[-1:]  # a large network makes fewer steps
            step = sorted(times)[len(times) // 2] if times else 0.0
            rows = sum(len(split) for name, split in data.splits.items() if name != "train")
            began = time.perf_counter()
            predicted_logits(trainer.network, data.train.inputs[:EVALUATION_ROWS])
            evaluation = (time.perf_counter() - began) / min(EVALUATION_ROWS, len(data.train)) * rows
    finally:
        torch.set_num_threads(threads)
    return recipe.epochs * (trainer.batches * step + evaluation)
