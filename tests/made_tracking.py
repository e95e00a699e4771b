"""What TensorBoard shows of a run, and what it is to show."""

from __future__ import annotations

import pytest
import yaml

from labelembed.lab.training.run_folder import RunFolder


def read_tensorboard(path):
    """Returns what TensorBoard reads, (epoch, value) by name, and the configuration."""
    reading = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    accumulator = reading.EventAccumulator(str(path / "tensorboard"))
    accumulator.Reload()
    shown = {
        tag: [(event.step, event.value) for event in accumulator.Scalars(tag)] for tag in accumulator.Tags()["scalars"]
    }
    config, *_ = (path / "tensorboard").glob("*/hparams.yml")
    return shown, yaml.safe_load(config.read_text())


def expected_of(path):
    """Returns what the history says, in the same form, in single precision as TensorBoard's files."""
    expected = {}
    for line in RunFolder(path).history():
        numbers = {key: line[key] for key in ("epoch", "seconds", "learning_rate", "training_seconds") if key in line}
        for place in ("train", "validation", "test"):
            numbers |= {f"{place}/{name}": number for name, number in (line[place] or {}).items()}
        for tag, number in numbers.items():
            expected.setdefault(tag, []).append((line["epoch"], pytest.approx(number, rel=1e-6)))
    return expected
