"""R9: files of a run that are huge, or say so: refused before they take the memory that they ask for."""

from __future__ import annotations

import os
import shutil
import struct

import pytest
import torch
from safetensors.torch import save_file

from labelembed.errors import LabelEmbedError
from labelembed.files import HEADER_BYTES, HEADER_TENSORS, MAXIMUM_BYTES, MAXIMUM_VALUES
from labelembed.geometry import LabelGeometry
from labelembed.lab.errors import RunFolderError
from labelembed.lab.pretrained_images import read_weights
from labelembed.lab.runs.saved_run import SavedRun
from labelembed.lab.runs.teacher import teacher_identity
from labelembed.lab.training.checkpoints import load_newest
from labelembed.lab.training.run_folder import RunFolder
from tests.made_checkpoints import vouch_for
from tests.made_hostile_runs import read_everything, write_runs
from tests.made_training import no_flush, one_thread  # noqa: F401
from tests.made_watching import memory_taken
from tests.reliability.figures import sized

# Python's own, torch's allocator and a parsed header, over what is said of the file.
_SLACK = 64 * 2**20
# Of 500,000 values a list of small ones takes thirty times its text.
_BYTES_A_VALUE = 150


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return write_runs(tmp_path_factory.mktemp("runs"))


@pytest.fixture
def done(runs, tmp_path):
    """A copy of a finished run."""
    return shutil.copytree(runs / "label embedding" / "done", tmp_path / "run")


HUGE = {
    "values": lambda path: path.write_bytes(b"[" + b"[]," * (MAXIMUM_VALUES * 2) + b"[]]"),
    "text": lambda path: path.write_bytes(b'{"a": "' + b"x" * (MAXIMUM_BYTES - 20) + b'"}'),
    "nested": lambda path: path.write_bytes(b"[" * 10_000_000),
    "sparse": lambda path: os.truncate(path, 2**40),
}


@pytest.mark.parametrize("kind", HUGE)
@pytest.mark.parametrize("name", ["result.json", "history.jsonl", "recipe.yaml"])  # a reader each
def test_huge_file_takes_little_memory(kind, name, done, figure):
    HUGE[kind](done / name)
    limit = 2 * min((done / name).stat().st_size, MAXIMUM_BYTES) + MAXIMUM_VALUES * _BYTES_A_VALUE + _SLACK
    said = ""
    with memory_taken() as taken:
        try:
            read_everything(RunFolder(done))
        except LabelEmbedError as error:
            said = str(error)
    assert len(said) < 1000
    figure.at_most("bytes for a huge JSON file, of its limit", round(taken[0] / limit, 2), 1.0)


def parts(text: bytes, count: int) -> bytes:
    return b",".join(text % number for number in range(count))


ENTRY = b'"a": {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}'
HEADERS = {
    "tensors": lambda: b"{" + parts(ENTRY.replace(b'"a"', b'"%d"'), HEADER_TENSORS + 1) + b"}",
    "notes": lambda: b'{"__metadata__": {' + parts(rb'"%x\\":"\\"', 600_000) + b"}, " + ENTRY + b"}",
    "sizes": lambda: ENTRY.replace(b"[0]", b"[" + b"0," * (MAXIMUM_VALUES + 1) + b"0]").join((b"{", b"}")),
    "one name": lambda: b"{" + ENTRY.replace(b'"a"', b'"' + b"a" * HEADER_BYTES + b'"') + b"}",
}
READERS = {
    "weights": lambda folder, file: SavedRun.load(folder),
    "geometry": lambda folder, file: LabelGeometry.load(file),
    "examples": lambda folder, file: file.replace(RunFolder(folder).examples_file) and RunFolder(folder).examples(),
    "teacher": lambda folder, file: teacher_identity(file),
    "backbone": lambda folder, file: read_weights(file),
}


# Every reader looks at the header in one place.
CASES = [(reader, "tensors") for reader in READERS] + [("weights", kind) for kind in HEADERS if kind != "tensors"]


@pytest.mark.parametrize(("reader", "kind"), CASES)
def test_header_of_too_much_is_refused_unparsed(reader, kind, done, figure):
    text = HEADERS[kind]()
    file = done / "model.safetensors"
    file.write_bytes(struct.pack("<Q", len(text)) + text)
    del text
    words = "more than 100,000 tensors|bytes of header|more than 4,000,000 values"
    with memory_taken() as taken, pytest.raises(LabelEmbedError, match=words):
        READERS[reader](done, file)
    figure.count("headers of too much refused unparsed", 1, 1)
    figure.at_most("bytes for a header of too much, of 64 MB", round(taken[0] / _SLACK, 2), 1.0)


def test_sparse_checkpoint_takes_little_memory(runs, tmp_path, figure):
    checkpoints = shutil.copytree(runs / "label embedding" / "half" / "checkpoints", tmp_path / "checkpoints")
    file = sorted(checkpoints.iterdir())[-1]
    file.write_bytes(b"")
    os.truncate(file, sized(short=2**28, full=2**32))
    file = vouch_for(file)
    with memory_taken() as taken:
        checkpoint, damaged = load_newest(checkpoints)
    assert (checkpoint.step, len(damaged)) == (5, 1)
    figure.at_most(
        "bytes for a huge checkpoint, of the limit", round(taken[0] / (2 * file.stat().st_size + _SLACK), 2), 1.0
    )


def test_headers_of_large_networks_and_many_labels_are_read(tmp_path):
    weights = {f"layers.{number // 500}.experts.{number % 500}.weight": torch.zeros(1) for number in range(30_000)}
    save_file(weights, tmp_path / "f.safetensors")
    assert len(read_weights(tmp_path / "f.safetensors")) == 30_000
    names = tuple(f'the label "number {number}"' for number in range(sized(short=300_000, full=1_000_000)))
    LabelGeometry(names, vectors=torch.zeros(len(names), 1)).save(tmp_path / "g.safetensors")
    assert LabelGeometry.load(tmp_path / "g.safetensors").names == names


def test_run_that_says_it_is_huge_is_refused_before_it_is_built(done, figure):
    folder = RunFolder(done)
    recipe = folder.recipe()
    recipe["model"] |= {"hidden_sizes": [60_000, 60_000]}
    folder.write_recipe(recipe)
    with memory_taken() as taken, pytest.raises(RunFolderError, match="not of this run's recipe"):
        SavedRun.load(done)
    figure.at_most("bytes for a run that says it is huge, of 64 MB", round(taken[0] / _SLACK, 2), 1.0)
