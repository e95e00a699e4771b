"""R9: files of a run that are huge, or say so: refused before they take the memory that they ask for."""

from __future__ import annotations

import contextlib
import os
import shutil
import struct

import pytest

from labelembed.errors import LabelEmbedError
from labelembed.files import HEADER_BYTES, MAXIMUM_BYTES, MAXIMUM_VALUES
from labelembed.geometry import LabelGeometry
from labelembed.lab.runs.saved_run import SavedRun
from labelembed.lab.training.run_folder import RunFolder
from tests.made_hostile import read_everything, write_runs
from tests.made_watching import memory_taken

_SLACK = 64 * 2**20  # Python's own, torch's allocator and a parsed header
_BYTES_A_VALUE = 150  # of a list of small ones


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return write_runs(tmp_path_factory.mktemp("runs")) / "label embedding"


@pytest.fixture
def done(runs, tmp_path):
    """A copy of a finished run."""
    return shutil.copytree(runs / "done", tmp_path / "run")


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
    with memory_taken() as taken, contextlib.suppress(LabelEmbedError):
        read_everything(RunFolder(done))
    figure.at_most("bytes for a huge JSON file, of its limit", round(taken[0] / limit, 2), 1.0)


ENTRY = b'"%s": {"dtype": "U8", "shape": [%s0], "data_offsets": [0, 0]}'
HEADERS = {
    "tensors": lambda: b", ".join(ENTRY % (b"%d" % number, b"") for number in range(100_001)),
    "sizes": lambda: ENTRY % (b"a", b"0," * (MAXIMUM_VALUES + 1)),
    "one name": lambda: ENTRY % (b"a" * HEADER_BYTES, b""),
}
# Every reader of safetensors looks at the header in one place.
READERS = {
    "weights": lambda folder, file: SavedRun.load(folder),
    "geometry": lambda folder, file: LabelGeometry.load(file),
    "examples": lambda folder, file: file.replace(RunFolder(folder).examples_file) and RunFolder(folder).examples(),
}


@pytest.mark.parametrize(
    ("reader", "kind"), [*((reader, "tensors") for reader in READERS), ("weights", "sizes"), ("weights", "one name")]
)
def test_header_of_too_much_is_refused_unparsed(reader, kind, done, figure):
    text = b"{%s}" % HEADERS[kind]()
    file = done / "model.safetensors"
    file.write_bytes(struct.pack("<Q", len(text)) + text)
    del text
    with memory_taken() as taken, pytest.raises(LabelEmbedError, match="more than"):
        READERS[reader](done, file)
    figure.at_most("bytes for a header of too much, of 64 MB", round(taken[0] / _SLACK, 2), 1.0)
