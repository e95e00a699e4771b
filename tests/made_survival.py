"""Runs that are killed and signalled in processes of their own, and what an unbroken one leaves."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from labelembed.lab.training.run_folder import RunFolder
from tests.made_corpus import write_corpus
from tests.made_training import Command, CommandLines, contents, differences

gloo = torch.distributed.is_available() and torch.distributed.is_gloo_available()
LOOPBACK = "lo0" if sys.platform == "darwin" else "lo"
# Saved after every 3 steps and every epoch: at most times there is a save under way.
OFTEN = "checkpoints={minimum_seconds: 0, every_steps: 3}"
SELDOM = "checkpoints={minimum_seconds: 1000}"
# The kinds of runs that `cases` makes.
KINDS = ("rows", "sentences", "rows, two processes", "sentences, two processes")


@dataclass(frozen=True)
class Case:
    """One kind of run, of so many optimiser steps; when it saves is no part of the numbers and stands apart."""

    recipe: str
    settings: Sequence[str]
    steps: int
    processes: int = 1

    def train(self, out: Path, *, saves: str = OFTEN) -> list[str]:
        """Returns the words that begin the run."""
        options = [word for setting in (*self.settings, saves) for word in ("--set", setting)]
        return ["train", self.recipe, *options, "--out", str(out), "--device", "cpu", "--quiet"]

    def resume(self, out: Path) -> list[str]:
        """Returns the words that go on with it."""
        return ["resume", str(out), "--device", "cpu", "--quiet"]

    def start(self, commands: CommandLines, words: Sequence[str]) -> list[Command]:
        """Begins its processes."""
        return [commands.start(*words)] if self.processes == 1 else start_two(commands, *words)

    def finish(self, commands: CommandLines, folder: Path) -> None:
        """Goes on with a run to its end; a kill or signal leaves no broken checkpoint, whenever it comes."""
        for command in self.start(commands, self.resume(folder)):
            assert command.code() == 0, command.output()
            assert "damaged" not in command.output()

    def unbroken(self, commands: CommandLines, out: Path) -> dict[str, Any]:
        """Returns what a run leaves that nobody disturbs."""
        for command in self.start(commands, self.train(out, saves=SELDOM)):
            assert command.code() == 0, command.output()
        return contents(out)


def cases(folder: Path) -> dict[str, Case]:
    """Returns the kinds of runs by name, all with dropout; a small corpus for them is made in the folder."""
    rows = ["data.train_examples=400", "model.hidden_sizes=[24]", "model.dropout=0.2", "batch_size=50", "epochs=20"]
    text = [
        f"data.path={write_corpus(folder).folder}",
        "model={name: attention_lstm, width: 12, embedding_size: 8, dropout: 0.3}",
        "optimizer={name: adam, learning_rate: 0.01}",
        "max_gradient_norm=5",
        "batch_size=8",
        "epochs=8",
    ]
    one, other = Case("digits-mlp", rows, 160), Case("translation-lstm", text, 64)
    return dict(zip(KINDS, (one, other, replace(one, processes=2), replace(other, processes=2)), strict=True))


def start_two(commands: CommandLines, *words: str, last: Sequence[Sequence[str]] = ((), ())) -> list[Command]:
    """Starts two processes of one run, as torchrun does, with the same words and some more of their own."""
    if not gloo:
        pytest.skip("this torch has no gloo, by which processes on a CPU talk")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "GLOO_SOCKET_IFNAME": LOOPBACK}
    ranks = [meeting | {"RANK": str(rank), "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": "2"} for rank in range(2)]
    return [commands.start(*words, *own, environment=rank) for rank, own in zip(ranks, last, strict=True)]


def saves(folder: Path) -> list[Path]:
    """Returns the files of saves under way, or left by a kill."""
    return list((folder / "checkpoints").glob(".step-*"))


def step_of(folder: Path) -> int:
    """Returns the step of the newest checkpoint by its name, 0 when there is none."""
    names = [path.name for path in (folder / "checkpoints").glob("step-*")]
    return int(max(names).split("-")[1]) if names else 0


def interrupt_runs(
    case: Case,
    wanted: int,
    place: Path,
    commands: CommandLines,
    unbroken: dict[str, Any],
    interrupt: Callable[[Path, list[str]], bool],
) -> None:
    """Interrupts runs so often in all, goes on with each to its end, and holds it to the unbroken one."""
    done = runs = 0
    while done < wanted:
        runs += 1
        folder = place / f"run-{runs}"
        # Not to the run's last steps, where it would end before it is hit.
        while done < wanted and step_of(folder) < 0.8 * case.steps:
            begun = RunFolder(folder).state() != "empty"
            if not interrupt(folder, case.resume(folder) if begun else case.train(folder)):
                break
            done += 1
        if RunFolder(folder).state() != "empty":
            case.finish(commands, folder)
            assert differences(contents(folder), unbroken) == [], folder
            assert saves(folder) == []
