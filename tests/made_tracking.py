"""What trackers show of a run, and what they are to show."""

from __future__ import annotations

import json
import struct
import time
from pathlib import Path

import pytest
import yaml

from labelembed.lab.training.run_folder import RunFolder

RECIPE_KEY = "optimizer.learning_rate"


def read_tensorboard(path):
    """Returns what TensorBoard reads, (epoch, value) by name, and the configuration."""
    reading = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    accumulator = reading.EventAccumulator(str(path / "tensorboard"))
    accumulator.Reload()
    shown = {
        tag: [(event.step, event.value) for event in accumulator.Scalars(tag)] for tag in accumulator.Tags()["scalars"]
    }
    (config,) = (path / "tensorboard").glob("*/hparams.yml")
    return shown, yaml.safe_load(config.read_text())


def read_wandb(path):
    """Returns the same from the one file that wandb has written offline below the working folder."""
    records = pytest.importorskip("wandb.proto.wandb_internal_pb2")
    (file,) = Path("wandb").glob("offline-run-*/run-*.wandb")
    for _ in range(300):  # wandb's own process may still be writing
        read = [records.Record.FromString(content) for content in _chunks(file.read_bytes())]
        if any(record.HasField("exit") for record in read):
            break
        time.sleep(0.1)
    shown, config = {}, {}
    for record in read:
        config |= {one.key: json.loads(one.value_json) for one in record.config.update}
        values = {one.key or "/".join(one.nested_key): one.value_json for one in record.history.item}
        for name, value in values.items():
            if not name.startswith("_"):
                shown.setdefault(name, []).append((int(values["_step"]), float(value)))
    return shown, config


def _chunks(data, block=32_768):
    """Yields the records of a log as LevelDB writes it, after wandb's own seven bytes."""
    position, part = 7, b""
    while position + 7 <= len(data):  # the last record may be half written
        if block - position % block < 7:  # too little for a header: zeros
            position += block - position % block
            continue
        length, kind = struct.unpack_from("<HB", data, position + 4)
        part += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4) and position <= len(data):  # a whole one, or the end of one
            yield part
            part = b""


def read_mlflow(path):
    """Returns the same from the MLflow server or file that is set."""
    client = pytest.importorskip("mlflow").MlflowClient()
    run = client.get_run(json.loads((path / "tracking.json").read_text())["mlflow"])
    history = {name: client.get_metric_history(run.info.run_id, name) for name in run.data.metrics}
    return {name: [(one.step, one.value) for one in ones] for name, ones in history.items()}, run.data.params


def expected_of(path):
    """Returns what the history says, in the same form, in single precision as TensorBoard's files."""
    expected = {}
    for line in RunFolder(path).history():
        numbers = {key: line[key] for key in ("seconds", "learning_rate", "training_seconds") if key in line}
        for place in ("train", "validation", "test"):
            numbers |= {f"{place}/{name}": number for name, number in (line[place] or {}).items()}
        for tag, number in numbers.items():
            expected.setdefault(tag, []).append((line["epoch"], pytest.approx(number, rel=1e-6)))
    return expected
