"""How long a run will take and how much memory, from a few of its steps."""

from __future__ import annotations

import tempfile
import time
from functools import partial
from statistics import median
from typing import NamedTuple

import torch

from labelembed import seeds
from labelembed.data import LabelledData, TokenBudget
from labelembed.errors import NotEnoughMemory
from labelembed.objectives import Distillation
from labelembed.recipes.references import needs_table
from labelembed.recipes.schema import Recipe
from labelembed.runs.build import build_optimizer, build_schedule
from labelembed.runs.memory import in_gib, memory_of_device, memory_told, step_bytes, way_out
from labelembed.runs.run import cached_data
from labelembed.runs.teacher import uniform_table
from labelembed.runs.training_network import network_for
from labelembed.training.batches import TrainingData
from labelembed.training.decoding import Decoding, decode
from labelembed.training.evaluation import predicted_logits
from labelembed.training.network import Network
from labelembed.training.run_folder import RunFolder
from labelembed.training.trainer import Trainer

# Steps on whole batches are made where they take no longer than so many seconds together.
_WARM_STEPS, _STEPS, _STEPS_SECONDS = 3, 12, 2.0
# Examples of a small step (of a batch of tokens the share), and those that are measured or translated.
_SMALL_BATCH, _SMALL_SHARE, _MEASURED, _TRANSLATED = 4, 1 / 32, 16, 8


class Estimate(NamedTuple):
    """What a run takes.

    Attributes:
        seconds: On one thread of this machine.
        step_bytes: Memory of its largest step.
        free_bytes: Memory that is free on the device; None where the system does not tell.
    """

    seconds: float
    step_bytes: int
    free_bytes: int | None


def seconds_of_run(recipe: Recipe) -> float:
    """Returns about how long one run takes on one thread of this machine; see `estimate_run`."""
    return estimate_run(recipe, cached_data(recipe)).seconds


def estimate_run(recipe: Recipe, data: TrainingData) -> Estimate:
    """Returns about how long one run takes and how much memory a step needs.

    Some steps are made on a network that is then forgotten; nothing is written.

    Args:
        recipe: A checked recipe.
        data: Its data.

    Raises:
        NotEnoughMemory: A step takes more memory than the machine has.
    """
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
            with memory_told(lambda: "a step of this recipe", data):
                memory = _memory_of_a_step(trainer, recipe)
                step = _seconds_of_a_step(trainer)
                example = _seconds_of_an_example(trainer.network, data)
    finally:
        torch.set_num_threads(threads)
    sizes = {name: len(split) for name, split in data.splits.items() if name != "train"}
    tested = trainer.epochs if recipe.test_every_epoch else 1
    measured = trainer.epochs * sizes.get("validation", 0) + tested * sizes.get("test", 0)
    return Estimate(trainer.epochs * trainer.batches * step + measured * example, *memory)


def _memory_of_a_step(trainer: Trainer, recipe: Recipe) -> tuple[int, int | None]:
    """Returns the bytes of the largest step, and those that are free.

    Raises:
        NotEnoughMemory: They are more than the machine has.
    """
    how = {"micro_batches": recipe.micro_batches}
    with trainer.accelerator.autocast():
        needed = step_bytes(trainer.network.train(), trainer.data, trainer.batch_size, **how)
    memory = memory_of_device(trainer.device)
    if memory is not None and needed > memory[1]:
        where = "this machine" if trainer.device.type == "cpu" else "the GPU"
        what = f"a step takes about {in_gib(needed)} of memory, {where} has {in_gib(memory[1])}"
        raise NotEnoughMemory(f"{what}: {way_out(trainer.data)}")
    return needed, None if memory is None else memory[0]


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
    """Returns about how long it takes to measure one validation or test example."""
    tried = min(_MEASURED if isinstance(data, LabelledData) else _TRANSLATED, len(data.train))
    began = time.perf_counter()
    if isinstance(data, LabelledData):
        predicted_logits(network, data.train.inputs[:tried])
    else:
        decode(network, [data.train.source[place] for place in range(tried)], Decoding())
    return (time.perf_counter() - began) / tried
