"""Pictures a second of the wide ResNet-18 on a GPU: a run of the recipe against a plain float32 loop."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from labelembed.lab.models import Augmentation, InputScaling, PaperResNet
from labelembed.lab.recipes.loading import load_recipe
from labelembed.lab.runs.build import build_data
from labelembed.lab.runs.task import build_task
from labelembed.lab.training.reporter import Reporter
from labelembed.lab.training.run_folder import RunFolder
from labelembed.lab.training.trainer import Trainer
from labelembed.objectives import LabelEmbedding

LABELS, ROWS, BATCH = 100, 12_800, 128
WARM_STEPS, STEPS, ROUNDS = 5, 40, 3


def cifar_sized(folder: Path) -> Path:
    """Writes pictures of noise as CIFAR-100 has them; returns the file's path."""
    random = np.random.default_rng(0)
    arrays = {}
    for split, rows in (("train", ROWS), ("test", 1_000)):
        arrays[f"{split}_inputs"] = random.integers(0, 256, (rows, 3, 32, 32), dtype=np.uint8)
        arrays[f"{split}_labels"] = np.arange(rows) % LABELS
    np.savez(folder / "pictures.npz", **arrays)
    return folder / "pictures.npz"


def trainer_of(path: Path, out: Path, *settings: str) -> Trainer:
    """Returns the trainer of the recipe, warmed up."""
    common = ["data.name=vectors", "objective=label_embedding"]
    recipe, _ = load_recipe("cifar100-resnet18", data=str(path), settings=[*common, *settings])
    task = build_task(recipe, data=build_data(recipe))
    made = Trainer(task, task.build_network(), recipe, RunFolder(out), Reporter())
    made.time_steps(WARM_STEPS)
    return made


def plain_loop(path: Path) -> float:
    """Returns the seconds of a step of what one would write without this library."""
    with np.load(path) as arrays:
        inputs, labels = torch.from_numpy(arrays["train_inputs"]), torch.from_numpy(arrays["train_labels"])
    scaling = InputScaling(offset=[127.5] * 3, scale=[73.9] * 3).cuda()
    augmentation = Augmentation("crop_flip", input_shape=(3, 32, 32))
    network = PaperResNet(input_shape=(3, 32, 32), depth=18).to(memory_format=torch.contiguous_format).cuda()
    head = LabelEmbedding(network.hidden_size, LABELS).cuda()
    optimizer = torch.optim.Adam([*network.parameters(), *head.parameters()], foreach=False)
    for step in range(WARM_STEPS + STEPS):
        if step == WARM_STEPS:
            torch.cuda.synchronize()
            began = time.perf_counter()
        rows = torch.arange(BATCH) + BATCH * (step % (ROWS // BATCH))
        pictures = augmentation(scaling(inputs[rows].cuda()))
        loss = head(network.layers(pictures), labels[rows].cuda()).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()
    torch.cuda.synchronize()
    return (time.perf_counter() - began) / STEPS


def run() -> None:
    if not torch.cuda.is_available():
        print("  left out, there is no GPU")
        return
    print(f"  {torch.cuda.get_device_name()}")
    variants = {
        "recipe, float32": [],
        "recipe, bf16": ["precision=bf16"],
        "recipe, bf16, compiled": ["precision=bf16", "compile=true"],
    }
    with tempfile.TemporaryDirectory() as folder:
        path = cifar_sized(Path(folder))
        trainers = {name: trainer_of(path, Path(folder) / "run", *given) for name, given in variants.items()}
        seconds: dict[str, list[float]] = {"plain float32 loop": [], **{name: [] for name in variants}}
        for _ in range(ROUNDS):
            seconds["plain float32 loop"].append(plain_loop(path))
            for name, trainer in trainers.items():
                seconds[name].append(statistics.mean(trainer.time_steps(STEPS)))
    plain = seconds["plain float32 loop"]
    for name, found in seconds.items():
        ratios = [one / other for one, other in zip(plain, found, strict=True)]
        goal = "  (goal at least 5)" if name.endswith("compiled") else ""
        print(
            f"  {name:<24} {BATCH / statistics.median(found):9,.0f} pictures a second, "
            f"{statistics.median(ratios):.2f} ± {statistics.stdev(ratios):.2f} times, n = {ROUNDS}{goal}"
        )
