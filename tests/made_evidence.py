"""Diagnostics as runs leave them, with given numbers, and differences by chance, for the tests of what reads them."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from labelembed.lab.training.run_folder import ExampleOutcomes, RunFolder
from labelembed.metrics import joint_interval, paired_comparison
from tests.made_runs import make_comparison, run_path


def bins(rows: dict[int, tuple[int, float, float]]) -> dict[str, list[Any]]:
    """Returns 15 bins from those that hold rows: count, confidence and accuracy."""
    columns = zip(*(rows.get(b, (0, None, None)) for b in range(15)), strict=True)
    return dict(zip(("count", "confidence", "accuracy"), map(list, columns), strict=True))


def leave_errors(
    folder: Path, confusions: Sequence[tuple[int, int, int]], *, labels: int, of_label: list[int] | None = None
) -> None:
    """Leaves evidence of these mistakes in a run folder; `of_label` is how many rows each label has, by default 10."""
    rows = of_label or [10] * labels
    written = io.BytesIO()
    Image.new("L", (8, 8), 120).save(written, "PNG")
    worst = {"label": 0, "predicted": 1, "share": 0.01, "predicted_share": 0.9}
    worst |= {"png": base64.b64encode(written.getvalue()).decode()}
    value = {
        "format": 1,
        "split": "test",
        "examples": sum(rows),
        "labels": labels,
        "confusions": [list(pair) for pair in confusions],
        "left_out": 0,
        "of_label": rows,
        "right": rows,
        "reliability": {
            "before": bins({7: (4, 0.5, 0.75), 14: (6, 0.98, 1.0)}),
            "calibrated": bins({10: (10, 0.7, 0.9)}),
        },
        "worst": [worst | {"row": row} for row in range(2)],
    }
    RunFolder(folder).write("diagnostics/errors.json", value)


def leave_examples(folder: Path, right: Sequence[bool], *, split: str = "test") -> None:
    """Leaves these outcomes of examples in a run folder, each with an NLL of 0.5 nats, twice that when wrong."""
    outcomes = np.asarray(right, dtype=bool)
    losses = np.where(outcomes, 0.5, 1.0).astype(np.float16)
    RunFolder(folder).write_examples(ExampleOutcomes(split, outcomes, losses, losses / np.float16(2)))


def comparison_of_outcomes(path: Path, right: Mapping[str, NDArray[np.bool_]]) -> Path:
    """Makes a comparison of the outcomes [seeds, examples] of each variant."""
    errors = {name: dict(enumerate((1 - outcomes.mean(axis=1)).tolist())) for name, outcomes in right.items()}
    make_comparison(path, errors)
    for name, outcomes in right.items():
        for seed, one in enumerate(outcomes):
            leave_examples(run_path(path, name, seed), one.tolist())
    return path


def leave_sentences(folder: Path, outputs: Sequence[tuple[str, float]]) -> None:
    """Leaves a sample of sentences with these outputs and scores in a run folder."""
    sentences = [
        {"place": 5 * n, "source": f"source {n}", "reference": f"wanted {n}", "output": output, "score": score}
        for n, (output, score) in enumerate(outputs)
    ]
    value = {"format": 1, "split": "test", "of": 1000, "sentences": sentences, "attention": []}
    RunFolder(folder).write("diagnostics/sentences.json", value)


def crossed_effects(random, of_seeds, of_examples, rest, *, seeds=8, examples=449):
    """Returns differences [seeds, examples] with mean 0: effects of the seed, of the example, and what is left."""
    effects = random.normal(0, of_seeds, size=(seeds, 1)) + random.normal(0, of_examples, size=(1, examples))
    return effects + random.normal(0, rest, size=(seeds, examples))


def compared(differences, p_holm=None):
    """Returns the comparison, with its joint interval, of differences [seeds, examples]."""
    found = paired_comparison(differences.mean(axis=1), np.zeros(len(differences)))
    return found._replace(joint=joint_interval(differences), p_holm=p_holm)
