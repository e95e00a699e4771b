"""Small runs, what must be equal between two of them, and what runs in other processes, for the tests of training."""

from __future__ import annotations

import contextlib
import faulthandler
import itertools
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch.optim.optimizer import register_optimizer_step_post_hook

from labelembed.geometry import LabelGeometry
from labelembed.lab.errors import InterruptedTraining
from labelembed.lab.recipes.schema import Recipe, parse_recipe
from labelembed.lab.runs.build import build_data
from labelembed.lab.runs.options import RunOptions
from labelembed.lab.runs.run import run_recipe
from labelembed.lab.training.checkpoints import Checkpoint, load_newest
from labelembed.lab.training.device import SIGNALS
from labelembed.lab.training.network import TrainingData
from labelembed.lab.training.reporter import Reporter
from labelembed.lab.training.run_folder import RunFolder
from labelembed.objectives import OBJECTIVES

# 5 batches an epoch (the last of 30 rows), 3 epochs: 15 steps.
BATCHES, EPOCHS = 5, 3
STEPS = BATCHES * EPOCHS


def small_recipe(**changes: Any) -> Recipe:
    """Returns a recipe of 15 steps on the digits with dropout; a change to a block with a name replaces it."""
    values: dict[str, Any] = {
        "data": {"name": "digits", "train_examples": 190, "validation": {"examples": 100}},
        "model": {"name": "mlp", "hidden_sizes": [12], "dropout": 0.3},
        "objective": {"name": "label_embedding"},
        "optimizer": {"name": "adam", "learning_rate": 0.01},
        "epochs": EPOCHS,
        "batch_size": 40,
        "checkpoints": {"minimum_seconds": 0.0},
    }
    return parse_recipe(values | changes, source="made recipe")


def objective_cases() -> dict[str, dict[str, Any]]:
    """Returns every objective, and those whose settings give them more state; see `with_saved_geometry`."""
    needed = {
        "static_labels": {"embedding": "SAVED"},
        "distillation": {"teacher": "TEACHER"},
        "retrospection": {"store_every": 2},  # of three epochs
    }
    return {name: {"name": name} | needed.get(name, {}) for name in OBJECTIVES} | {
        "adaptive, every third step": {"name": "adaptive_labels", "update_every": 3, "warmup_steps": 2},
        "online, published": {"name": "online_label_smoothing", "preset": "published"},
        "retrospection, after every epoch": {"name": "retrospection", "store_every": 1},
        "retrospection, in its steps": {"name": "retrospection", "store_every": 1, "store": "steps"},
        "shared head": {"name": "label_embedding", "auxiliary": "shared", "embedding_learning_rate": 10.0},
        "compressed": {"name": "label_embedding", "embedding": "compressed", "rank": 4, "target_warmup": 0.25},
        "fixed": {"name": "label_embedding", "embedding": "SAVED"},
    }


def with_saved_geometry(objective: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Returns an objective's block in which `SAVED` and `TEACHER` are paths of what was written into the folder."""
    if objective.get("teacher") == "TEACHER":
        train(small_recipe(objective={"name": "one_hot"}, epochs=1, seed=7), folder / "teacher")
        return objective | {"teacher": str(folder / "teacher")}
    if objective.get("embedding") != "SAVED":
        return objective
    path = folder / "saved.safetensors"
    table = 3 * torch.eye(10) + torch.randn(10, 10, generator=torch.Generator().manual_seed(1))
    LabelGeometry([str(digit) for digit in range(10)], similarities=table).save(path)
    return objective | {"embedding": str(path)}


@lru_cache(maxsize=2)
def _data_of(recipe: str) -> TrainingData:
    return build_data(Recipe.model_validate_json(recipe))


def cached_data(recipe: Recipe) -> TrainingData:
    """The data of a recipe, read once a process for all that share the data block and batch size."""
    alike = recipe.model_copy(update={"objective": {}, "model": {}, "seed": 0, "comparison": None})
    return _data_of(alike.model_dump_json())


def train(recipe: Recipe, folder: Path, **calls: Callable[..., Any]) -> dict[str, Any]:
    """Brings a run to its end on the CPU, the data read once a process; the calls stand for methods of the reporter."""
    torch.manual_seed(12345)  # a process of its own would begin with a random state that has nothing to do with the run
    reporter = Reporter()
    vars(reporter).update(calls)
    return run_recipe(recipe, folder, options=RunOptions(device="cpu"), reporter=reporter, data=cached_data(recipe))


@contextlib.contextmanager
def after_steps(steps: int, act: Callable[[], None]) -> Iterator[None]:
    """Calls `act` after each optimiser step from the given one on."""
    made = itertools.count(1)

    def count(*_: object) -> None:
        if next(made) >= steps:
            act()

    handle = register_optimizer_step_post_hook(count)
    try:
        yield
    finally:
        handle.remove()


def stop_after(recipe: Recipe, folder: Path, steps: int) -> InterruptedTraining:
    """Trains until so many steps are made in this process, asks to stop as Ctrl-C would, and returns the answer."""
    asked: list[bool] = []
    with after_steps(steps, lambda: asked.append(True)), pytest.raises(InterruptedTraining) as stopped:
        train(recipe, folder, wants_stop=lambda: bool(asked))
    return stopped.value


def kill_after(recipe: Recipe, folder: Path, steps: int) -> None:
    """Trains until so many steps are made in this process and leaves with nothing saved, as a kill would."""

    def kill() -> None:
        raise BaseException("killed")

    with after_steps(steps, kill), pytest.raises(BaseException, match="killed"):
        train(recipe, folder)


def newest(folder: Path) -> Checkpoint:
    """Returns the newest checkpoint of a run, which must be whole."""
    checkpoint, damaged = load_newest(folder / "checkpoints")
    assert damaged == []
    assert isinstance(checkpoint, Checkpoint), f"{folder} has no checkpoint"
    return checkpoint


def timeless(value: Any) -> Any:
    """Returns JSON values without what says how long something took."""
    if isinstance(value, dict):
        measured = ("seconds", "peak_memory")  # never the same twice
        return {key: timeless(inner) for key, inner in value.items() if not key.endswith(measured)}
    return [timeless(inner) for inner in value] if isinstance(value, list) else value


def contents(folder: Path) -> dict[str, Any]:
    """Returns all that a run leaves and must not depend on where it was broken off, flat: name to value."""
    checkpoint, found = newest(folder), {}
    for file in ("model", "label_geometry"):
        with safe_open(folder / f"{file}.safetensors", framework="pt") as opened:
            found |= {f"{file}: {name}": opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - no mapping
            found[f"{file}: about"] = opened.metadata()  # in the file itself its entries are in any order
    for group, tensors in checkpoint.tensors.items():
        found |= {f"checkpoint: {group}: {name}": value for name, value in tensors.items()}
    found |= {f"checkpoint: {name}": value for name, value in timeless(checkpoint.values).items()}
    found["checkpoint: step"] = checkpoint.step
    found["history"] = timeless(RunFolder(folder).history())
    found["result"] = timeless(RunFolder(folder).result())
    return found


def differences(first: dict[str, Any], second: dict[str, Any]) -> list[str]:
    """Returns the names of what is not the same to the last bit."""

    def same(one: Any, other: Any) -> bool:
        if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
            return one.dtype == other.dtype and one.numpy().tobytes() == other.numpy().tobytes()
        return type(one) is type(other) and one == other

    return sorted(name for name in first.keys() | second.keys() if not same(first.get(name), second.get(name)))


def _assert_close(found: Any, expected: Any, where: str) -> None:
    if isinstance(expected, dict):
        assert found.keys() == expected.keys(), where
        for key in expected:
            _assert_close(found[key], expected[key], f"{where}: {key}")
    elif isinstance(expected, list):
        _assert_close(dict(enumerate(found)), dict(enumerate(expected)), where)
    elif where.endswith("error"):  # one or two examples may lie on the border between two labels
        assert abs(found - expected) <= 2 / 200, where
    elif isinstance(expected, (torch.Tensor, float)):
        # Float32 sums in another order, over 144 steps at most; a stored soft label may be rounded to the next float16.
        close = 2**-10 if isinstance(expected, torch.Tensor) and expected.dtype == torch.float16 else 1e-5
        torch.testing.assert_close(found, expected, rtol=close, atol=1e-5, msg=lambda text: f"{where}: {text}")
    else:
        assert found == expected, where


def assert_same_run(folder: Path, single: Path) -> None:
    """Holds a run to another that only split its steps otherwise."""
    found, expected = contents(folder), contents(single)
    for run in (found, expected):  # weights that differ by rounding have another SHA-256
        run["result"] = {name: value for name, value in run["result"].items() if name != "files"}
    _assert_close(found, expected, "run")


# ---- the command line in a process of its own


def command_line(arguments: Sequence[str], output: str, environment: dict[str, str], kill_at: str | None) -> None:
    """Runs `labelembed` with its outputs in a file; `kill_at="replace 2"` kills it at the second call of that."""
    os.setpgrp()  # a terminal signals a whole group, and here that is this process with its children
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # held back where a comparison has started the server
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # also where the tests were started with `nohup`
    signal.signal(signal.SIGINT, signal.default_int_handler)  # or in the background
    handle = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(handle, stream)
    os.environ.update(environment, PYTHONFAULTHANDLER="1")
    faulthandler.enable()
    sys.argv = ["labelembed", *arguments]
    if kill_at is not None:
        name, number = kill_at.split()
        left, call = [None] * (int(number) - 1), getattr(os, name)
        die = signal.raise_signal
        setattr(os, name, lambda *args, **named: (left.pop() if left else die(9), call(*args, **named))[1])
    from labelembed.lab import cli

    torch.set_num_threads(1)  # as the runs that these are compared with
    ready, app = Path(f"{output}-ready"), cli.app
    cli.app = lambda **given: (ready.touch(), app(**given))[1]
    cli.main()


# torch._dynamo is what the first optimiser of a process imports, and takes longest.
_PRELOADED = ["pytest", "labelembed.lab.cli", "filelock", "labelembed.lab.runs.run", "sklearn.datasets"]
_PRELOADED += ["torch._dynamo", "tests.made_failing_jobs"]


def fork_server() -> Any:
    """Returns multiprocessing's fork server, which starts processes that have torch imported already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    forkserver.ensure_running()
    return context


class CommandLines:
    """Starts `labelembed` in real processes that need not import torch anew (multiprocessing's fork server)."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._started, self._context = folder, 0, fork_server()

    def start(self, *arguments: str, environment: dict[str, str] | None = None, kill_at: str | None = None) -> Command:
        """Begins one process; see `command_line`."""
        self._started += 1
        output = self._folder / f"output-{self._started}"
        how = (arguments, str(output), environment or {}, kill_at)
        process = self._context.Process(target=command_line, args=how)
        process.start()
        return Command(process, output)


class Command:
    """One process of the command line."""

    def __init__(self, process: Any, output: Path) -> None:
        self.process, self._output = process, output

    def code(self) -> int:
        """Waits for the end and returns the exit code, negative for a signal."""
        self.process.join(150)
        if self.process.exitcode is None:
            os.killpg(self.process.pid, signal.SIGABRT)  # on which each process prints where it is
            self.process.join(5)
            raise AssertionError(f"does not end: {self.output()}")
        return int(self.process.exitcode)

    def ready(self) -> bool:
        """Tells whether it answers signals, or has come to where it waits."""
        return Path(f"{self._output}-ready").exists()

    def running(self) -> bool:
        """Tells whether it has not ended."""
        return bool(self.process.is_alive())

    def signal(self, number: int) -> None:
        """Sends a signal, if there is still somebody to hear it."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.process.pid, number)

    def output(self) -> str:
        """Returns what it has printed."""
        return self._output.read_text() if self._output.exists() else ""


def wait_until(holds: Callable[[], bool], command: Command) -> None:
    """Waits for something that the running command brings about, or for its end."""
    until = time.monotonic() + 150
    while not holds() and command.running():
        assert time.monotonic() < until, command.output()
        time.sleep(0.001)
