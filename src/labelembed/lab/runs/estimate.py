"""How long a run will take and how much memory, from a few of its steps."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from functools import partial
from statistics import median
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from labelembed import seeds
from labelembed.lab.data import LabelledData, TokenBudget
from labelembed.lab.recipes.schema import Recipe
from labelembed.lab.runs.build import build_optimizer, build_schedule
from labelembed.lab.runs.memory import memory_errors_explained
from labelembed.lab.runs.teacher import uniform_table
from labelembed.lab.runs.training_network import network_for
from labelembed.lab.training.batches import AnyBatch, TrainingData, micro_batches
from labelembed.lab.training.decoding import Decoding, decode
from labelembed.lab.training.evaluation import predicted_logits
from labelembed.lab.training.network import Network
from labelembed.lab.training.run_folder import RunFolder
from labelembed.lab.training.trainer import Trainer
from labelembed.objectives import Distillation

# Steps on whole batches are made where they take no longer than so many seconds together.
_WARM_STEPS, _STEPS, _STEPS_SECONDS = 3, 12, 2.0
# Examples of a small step (of a batch of tokens the share), and those that are measured or translated.
_SMALL_BATCH, _SMALL_SHARE, _MEASURED, _TRANSLATED = 4, 1 / 32, 16, 8
# Weights, gradients and Adam's two moments.
_COPIES_OF_WEIGHTS = 4


class Estimate(NamedTuple):
    """What a run takes.

    Attributes:
        seconds: On one thread of this machine.
        step_bytes: Memory of its largest step.
    """

    seconds: float
    step_bytes: int


def estimate_run(recipe: Recipe, data: TrainingData) -> Estimate:
    """Returns about how long one run takes and how much memory a step needs.

    Some steps are made on a network that is then forgotten; nothing is written.

    Args:
        recipe: A checked recipe.
        data: Its data.

    Raises:
        NotEnoughMemory: There is too little for a step.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory() as nowhere, seeds.seeded(recipe.seed, "estimate"):
            network = network_for(recipe, data)
            if isinstance(network.objective, Distillation):
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
            with memory_errors_explained(lambda: "a step of this recipe", data):
                with trainer.accelerator.autocast():
                    memory = step_bytes(trainer.network.train(), _largest_batch(data, trainer.batch_size, recipe))
                step = _seconds_of_a_step(trainer)
                example = _seconds_of_an_example(trainer.network, data)
    finally:
        torch.set_num_threads(threads)
    sizes = {name: len(split) for name, split in data.splits.items() if name != "train"}
    tested = trainer.epochs if recipe.test_every_epoch else 1
    measured = trainer.epochs * sizes.get("validation", 0) + tested * sizes.get("test", 0)
    return Estimate(trainer.epochs * trainer.batches * step + measured * example, memory)


def _largest_batch(data: TrainingData, batch_size: int | TokenBudget, recipe: Recipe) -> AnyBatch:
    """Returns the first batch of labelled examples, of a corpus that of the longest lines; of micro-batches one."""
    order = None
    if not isinstance(data, LabelledData):
        lengths = np.maximum(data.train.source.lengths, data.train.target.lengths)
        if isinstance(batch_size, TokenBudget):
            batch_size = max(1, batch_size.tokens // (int(lengths.max()) + 1))
        order = torch.from_numpy(np.argsort(lengths)[-batch_size:].copy())
    batches: Iterator[AnyBatch] = data.train.batches(batch_size, order=order)
    batch = next(batches)
    return micro_batches(batch, recipe.micro_batches, step_examples=len(batch.labels), processes=1)[0]


def step_bytes(network: Network, batch: AnyBatch) -> int:
    """Returns the bytes of a step: what it keeps for the backward pass, weights, gradients and Adam's moments.

    Args:
        network: In training mode; its objective's buffers are changed.
        batch: The largest of an epoch.
    """
    own = {value.untyped_storage().data_ptr() for value in (*network.parameters(), *network.buffers())}
    kept: dict[int, int] = {}

    def keep(value: Tensor) -> Tensor:
        storage = value.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return value

    batch = batch.to(next(network.parameters()).device)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
        terms = network(batch.inputs, batch.labels, batch.indices)
    del terms
    weights = sum(value.numel() * value.element_size() for value in network.parameters())
    return sum(kept.values()) + _COPIES_OF_WEIGHTS * weights


def _seconds_of_a_step(trainer: Trainer) -> float:
    """Returns about how long an optimiser step takes: from a small one, where whole ones would take long to make."""
    size = trainer.batch_size
    if isinstance(size, int):
        small: list[int | TokenBudget] = [min(size, _SMALL_BATCH), min(size, 2 * _SMALL_BATCH)]
        steps_larger = size / _SMALL_BATCH - 1
    else:
        small = [TokenBudget(max(1, round(size.tokens * _SMALL_SHARE * times))) for times in (1, 2)]
        steps_larger = 1 / _SMALL_SHARE - 1
    one, two = (trainer.time_steps(2, batch_size=some)[-1] for some in small)  # the first of all is slower
    about = one + max(0.0, two - one) * max(0.0, steps_larger)
    if about * (_WARM_STEPS + _STEPS) > _STEPS_SECONDS:
        return about
    times = trainer.time_steps(_WARM_STEPS + _STEPS)
    return median(times[_WARM_STEPS:] or times[-1:])


def _seconds_of_an_example(network: Network, data: TrainingData) -> float:
    """Returns about how long it takes to evaluate one validation or test example."""
    tried = min(_MEASURED if isinstance(data, LabelledData) else _TRANSLATED, len(data.train))
    began = time.perf_counter()
    if isinstance(data, LabelledData):
        predicted_logits(network, data.train.inputs[:tried])
    else:
        decode(network, [data.train.source[place] for place in range(tried)], Decoding())
    return (time.perf_counter() - began) / tried
