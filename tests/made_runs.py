"""Run and comparison folders made by hand, with given numbers, for the tests of what reads them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from labelembed.geometry import LabelGeometry
from labelembed.lab.training.run_folder import RunFolder

ENVIRONMENT = {
    "python": "3.11.2",
    "packages": {"labelembed": "0.3.0", "torch": "2.6.0"},
    "commit": "0123abc",
    "processor": "a processor",
    "cores": 2,
    "command": ["labelembed", "compare", "digits-mlp", "--seeds", "8"],
    "data": {
        "source": "digits",
        "fingerprint": "4567def",
        "names": ["0", "1"],
        "examples": {"train": 1000, "test": 360},
    },
}


def history_lines(errors: Sequence[float | None]) -> list[dict[str, Any]]:
    """Returns a history with these errors; None for an epoch in which nothing was measured."""
    measured = [None if error is None else {"error": error, "nll": 3 * error} for error in errors]
    return [
        {
            "epoch": epoch,
            "seconds": 2.0,
            "learning_rate": 0.001,
            "train": {"total": 1.0 / epoch, "output": 0.5 / epoch},
            "validation": one,
            "test": one,
        }
        for epoch, one in enumerate(measured, start=1)
    ]


def metrics(error: float, *, nll: float | None = None) -> dict[str, float]:
    nll = 3 * error if nll is None else nll
    return {"error": error, "nll": nll, "calibration_error": error / 2, "brier": 1.5 * error}


def make_run(
    path: Path,
    *,
    seed: int = 0,
    objective: Mapping[str, Any] | None = None,
    test: Mapping[str, float] | None = None,
    validation: Mapping[str, float] | None = None,
    history: Sequence[Mapping[str, Any]] = (),
    geometry: LabelGeometry | None = None,
    selected_epoch: int | None = None,
    recipe: Mapping[str, Any] | None = None,
    calibrated: Mapping[str, Any] | None = None,
) -> RunFolder:
    """Makes the folder of a finished run; `calibrated` holds a temperature and the metrics with it."""
    folder = RunFolder(path)
    folder.path.mkdir(parents=True, exist_ok=True)
    settings = {
        "data": {"name": "digits"},
        "model": {"name": "mlp", "hidden": [500, 500]},
        "objective": dict(objective or {"name": "one_hot"}),
        "optimizer": {"name": "adam", "learning_rate": 0.001},
        "epochs": max(len(history), 1),
        "batch_size": 100,
        "seed": seed,
    }
    folder.write_recipe({**settings, **(recipe or {})})
    folder.write("environment.json", ENVIRONMENT)
    for line in history:
        # Written by hand, for a history may hold a NaN that another program wrote.
        with (folder.path / "history.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
    if geometry is not None:
        geometry.save(folder.geometry_file)
    folder.write(
        "result.json",
        {
            "format": 1,
            "status": "finished",
            "message": None,
            "epochs": len(history),
            "selected_epoch": selected_epoch or len(history),
            "selected_by": "validation error",
            "seconds": 30.0,
            "parameters": 650_000,
            "train": {"total": 0.1},
            "validation": dict(validation) if validation else None,
            "test": dict(test) if test else None,
            "temperature": calibrated["temperature"] if calibrated else None,
            "calibrated": dict(calibrated) if calibrated else None,
        },
    )
    return folder


def forget_checksums(path: Path) -> None:
    """Takes the SHA-256 of its files out of a run's result: it is then as of an older version, or of a forger."""
    folder = RunFolder(path)
    folder.write("result.json", {key: value for key, value in folder.result().items() if key != "files"})


def change_result(path: Path, variant: str, seed: int, **changes: Any) -> None:
    """Changes values of the result of a run of a comparison."""
    folder = RunFolder(run_path(path, variant, seed))
    folder.write("result.json", folder.result() | changes)


def fail_run(path: Path, message: str, *, seed: int = 0) -> None:
    folder = RunFolder(path)
    folder.path.mkdir(parents=True, exist_ok=True)
    folder.write_recipe({"objective": {"name": "one_hot"}, "seed": seed})
    folder.write("result.json", {"format": 1, "status": "failed", "message": message, "epochs": 0})


def run_folder_name(variant: str) -> str:
    return variant.replace(" ", "-").replace("/", "_")


def run_path(path: Path, variant: str, seed: int) -> Path:
    return path / "runs" / run_folder_name(variant) / f"seed-{seed}"


def make_comparison(
    path: Path,
    errors: Mapping[str, Mapping[int, float]],
    *,
    validation_errors: Mapping[str, Mapping[int, float]] | None = None,
    nll: Mapping[str, Mapping[int, float]] | None = None,
    curves: Mapping[str, Mapping[int, Sequence[float | None]]] | None = None,
    geometry: Mapping[str, Mapping[int, LabelGeometry]] | None = None,
    improving: bool = False,
) -> Path:
    """Makes a comparison folder from the test errors of each variant by seed.

    What is not given follows from the errors: the validation error is the test error, NLL three times it,
    and the curve falls over three epochs to it. Without `improving` the epoch before the last was selected.
    """
    objectives = {name: {"name": name.split()[0]} for name in errors}
    seeds = sorted({seed for by_seed in errors.values() for seed in by_seed})
    folders = [{"name": name, "folder": run_folder_name(name), "objective": objectives[name]} for name in errors]
    about = {"format": 1, "recipe": "digits-mlp", "baseline": next(iter(errors)), "seeds": seeds}
    path.mkdir(parents=True, exist_ok=True)
    (path / "comparison.json").write_text(json.dumps(about | {"variants": folders}), encoding="utf-8")
    for name, by_seed in errors.items():
        for seed, error in by_seed.items():
            curve = (curves or {}).get(name, {}).get(seed, [min(1.0, 4 * error), min(1.0, 2 * error), error])
            developed = (validation_errors or errors)[name][seed]
            make_run(
                run_path(path, name, seed),
                seed=seed,
                objective=objectives[name],
                test=metrics(error, nll=nll[name][seed] if nll else None),
                validation=metrics(developed),
                history=history_lines(curve),
                geometry=(geometry or {}).get(name, {}).get(seed),
                selected_epoch=len(curve) if improving else max(len(curve) - 1, 1),
            )
    return path


def embedding_geometry(names: Sequence[str], *, seed: int = 0) -> LabelGeometry:
    """Returns similarities in which each label is most like the next ones, as a trained E has them."""
    count = len(names)
    places = torch.arange(count, dtype=torch.float32)
    apart = (places[:, None] - places[None, :]).abs()
    generator = torch.Generator().manual_seed(seed)
    similarities = -0.3 * torch.minimum(apart, count - apart)
    similarities += 0.1 * torch.randn(count, count, generator=generator)
    return LabelGeometry(tuple(names), similarities=similarities.fill_diagonal_(3.0), source="LabelEmbedding")
