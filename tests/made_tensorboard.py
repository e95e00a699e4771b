"""What TensorBoard reads of a run, and what it is to read."""

from __future__ import annotations

import pytest

from labelembed.training.run_folder import RunFolder


def tensorboard_shows(path):
    """Returns what TensorBoard reads: (step, value) by tag."""
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="tensorboard is not installed"
    ).EventAccumulator(str(path / "tensorboard"))
    accumulator.Reload()
    return {
        tag: [(event.step, event.value) for event in accumulator.Scalars(tag)] for tag in accumulator.Tags()["scalars"]
    }


def journal_for_tensorboard(path):
    """Returns what the journal says, in the same form, in single precision as TensorBoard's files."""
    expected = {}
    for line in RunFolder(path).journal():
        numbers = {"seconds": line["seconds"], "learning_rate": line["learning_rate"]}
        numbers |= {"training_seconds": line["training_seconds"]} if "training_seconds" in line else {}
        for place in ("train", "validation", "test"):
            numbers |= {f"{place}/{name}": number for name, number in (line[place] or {}).items()}
        for tag, number in numbers.items():
            expected.setdefault(tag, []).append((line["epoch"], pytest.approx(number, rel=1e-6)))
    return expected
