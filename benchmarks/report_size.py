"""The report of 200 runs: seconds to build it, bytes, and how soon a browser shows it.

The runs are made up: 100 epochs, ten labels, all that a run leaves for the report, with a digit of chance in every
number, for what is the same everywhere packs to nothing.
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from labelembed.geometry import LabelGeometry
from labelembed.lab.training.files import write_json
from labelembed.lab.training.run_folder import RunFolder

EPOCHS, LABELS, ROWS, OPENINGS = 100, 10, 1_000, 5
TERMS = ("total", "output", "target", "auxiliary", "hinge", "embedding")
MOST_SECONDS, MOST_BYTES = 30.0, 3_000_000
MOST_SECONDS_TO_OPEN = 2.0
_CHROMIUM = ("chromium", "chromium-browser", "google-chrome")


def make_runs(path: Path, variants: int, seeds: int, *, epochs: int = EPOCHS) -> Path:
    """Makes a comparison folder of runs; its variants are five objectives, or one with as many settings."""
    names = ["one_hot", "label_smoothing", "confidence_penalty", "label_embedding", "adaptive_labels"]
    objectives = [{"name": name} for name in names[:variants]]
    objectives += [{"name": "label_smoothing", "smoothing": (nth + 1) / 1_000} for nth in range(variants - len(names))]
    about: list[dict[str, Any]] = []
    for place, objective in enumerate(objectives):
        name = " ".join([str(objective["name"]), *(f"{key}={objective[key]}" for key in objective if key != "name")])
        about.append({"name": name, "folder": name.replace(" ", "-"), "objective": objective})
        for seed in range(seeds):
            make_run(path / "runs" / about[-1]["folder"] / f"seed-{seed}", objective, place, seed, epochs=epochs)
    described = {"format": 1, "recipe": "made", "baseline": "one_hot", "seeds": list(range(seeds)), "variants": about}
    write_json(path / "comparison.json", described)
    return path


def make_run(path: Path, objective: dict[str, Any], place: int, seed: int, *, epochs: int = EPOCHS) -> None:
    """Makes the folder of a finished run."""
    draws = np.random.default_rng([place, seed])
    folder = RunFolder(path)
    folder.path.mkdir(parents=True)
    settings = {"data": {"name": "digits"}, "model": {"name": "mlp", "hidden": [500, 500]}, "objective": objective}
    folder.write_recipe(settings | {"epochs": epochs, "batch_size": 100, "seed": seed})
    data = {"source": "digits", "fingerprint": "4567def", "names": [str(label) for label in range(LABELS)]}
    folder.write("environment.json", {"python": "3.11", "command": ["labelembed", "compare", "made"], "data": data})
    for epoch in range(1, epochs + 1):
        shrunk = 0.05 + 0.5 / epoch
        line: dict[str, Any] = {"epoch": epoch, "seconds": 2.0, "training_seconds": shrunk + draws.random()}
        line["train"] = {term: shrunk * (3 + draws.random()) for term in TERMS}
        folder.append_history(line | {split: measured(shrunk, draws) for split in ("validation", "test")})
    ended: dict[str, Any] = {split: measured(0.06, draws) for split in ("validation", "test")}
    folder.write(
        "result.json",
        {"format": 1, "status": "finished", "message": None, "epochs": epochs, "selected_epoch": epochs}
        | {"selected_by": "validation error", "seconds": 2.0 * epochs, "parameters": 650_000, "train": {"total": 0.1}}
        | {"temperature": 1 + draws.random(), "calibrated": ended, **ended},
    )
    table = torch.from_numpy(draws.normal(size=(LABELS, LABELS))).float()
    geometry = LabelGeometry(tuple(data["names"]), similarities=table, source="LabelEmbedding")
    geometry.save(folder.geometry_file)
    geometry.save(folder.class_means_file)
    folder.write("diagnostics/errors.json", errors(draws))


def measured(error: float, draws: np.random.Generator) -> dict[str, float]:
    """Returns the metrics of an epoch."""
    shares = {"error": 1, "top5_error": 0.2, "nll": 3, "calibration_error": 0.5, "brier": 1.5}
    return {name: share * error * (1 + 0.1 * draws.random()) for name, share in shares.items()}


def errors(draws: np.random.Generator) -> dict[str, Any]:
    """Returns the evidence of a run's errors, with a dozen pictures."""
    table = draws.integers(0, 4, (LABELS, LABELS))
    bins = {"count": draws.integers(1, 100, 15).tolist()}
    bins |= {name: draws.random(15).tolist() for name in ("confidence", "accuracy")}
    picture = "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAAAAADhZOFXAAAADklEQVR4nGOsZ4AARkoZAEEtAIGbRqTUAAAAAElFTkSuQmCC"
    return {
        "format": 1,
        "split": "test",
        "examples": ROWS,
        "labels": LABELS,
        "confusions": [[a, b, int(table[a, b])] for a in range(LABELS) for b in range(LABELS) if a != b],
        "left_out": 0,
        "of_label": [ROWS // LABELS] * LABELS,
        "right": [ROWS // LABELS - 9] * LABELS,
        "reliability": {"before": bins, "calibrated": bins},
        "worst": [
            {"row": row, "label": 0, "predicted": 1, "share": 0.01, "predicted_share": 0.9, "png": picture}
            for row in range(12)
        ],
    }


def run() -> None:
    """Prints seconds and bytes of two pages, and how soon a browser shows them."""
    with tempfile.TemporaryDirectory() as place, browser() as chromium:
        for variants, seeds in ((5, 40), (200, 1)):
            folder = make_runs(Path(place) / f"{variants}-{seeds}", variants, seeds)
            page, began = folder / "page.html", time.perf_counter()
            words = [sys.executable, "-m", "labelembed", "report", str(folder), "--out", str(page)]
            subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
            seconds = time.perf_counter() - began
            print(
                f"  {variants} variants x {seeds} seeds, {EPOCHS} epochs: built in {seconds:.1f} s (goal at most "
                f"{MOST_SECONDS:g}), {page.stat().st_size / 1e6:.2f} MB (goal at most {MOST_BYTES / 1e6:g})",
                flush=True,
            )
            print_opening(chromium, page)


@contextmanager
def browser() -> Iterator[Any]:
    """Gives Chromium; None, and the reason printed, where it or Playwright is not there."""
    found = next((path for name in _CHROMIUM if (path := shutil.which(name))), None)
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        found = None
    if found is None:
        print("  no Chromium or no Playwright: how soon the pages open is not measured")
        yield None
        return
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-gpu"])
        yield started
        started.close()


def print_opening(chromium: Any, page: Path) -> None:
    """Prints how soon the page is whole."""
    if chromium is None:
        return
    opened = []
    for _ in range(OPENINGS):
        context = chromium.new_context(viewport={"width": 1200, "height": 900})
        shown = context.new_page()
        shown.goto(page.as_uri())
        opened.append(shown.evaluate("performance.now()") / 1e3)
        context.close()
    print(
        f"    ready after {statistics.median(opened):.2f} s (of {OPENINGS}: {min(opened):.2f} to {max(opened):.2f}; "
        f"goal at most {MOST_SECONDS_TO_OPEN:g})",
        flush=True,
    )
