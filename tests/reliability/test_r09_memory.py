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
from labelembed.lab.pretrained_text import load_encoder
from labelembed.lab.runs.saved_run import SavedRun
from labelembed.lab.runs.teacher import about_table
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
# Of a tensor without values: its entry in the header, and itself.
_BYTES_A_TENSOR = 2**10


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return write_runs(tmp_path_factory.mktemp("runs"))


def header_of(length: int) -> bytes:
    """A safetensors file whose header is so long and has as many tensors as it can."""
    one = b'"%d":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},'
    text = b"{" + b"".join(one % number for number in range(length // 56))
    text = text[:-1] + b"}"
    return struct.pack("<Q", len(text)) + text


HUGE = {
    "values": lambda path: path.write_bytes(b"[" + b"[]," * (MAXIMUM_VALUES * 2) + b"[]]"),
    "keys": lambda path: path.write_bytes(
        b"{" + b",".join(b'"%d":0' % n for n in range(sized(short=200_000, full=MAXIMUM_VALUES // 2))) + b"}"
    ),
    "text": lambda path: path.write_bytes(b'{"a": "' + b"x" * (MAXIMUM_BYTES - 20) + b'"}'),
    "nested": lambda path: path.write_bytes(b"[" * 10_000_000),
    "sparse": lambda path: os.truncate(path, 2**40),
}


@pytest.mark.parametrize("kind", HUGE)
@pytest.mark.parametrize("name", ["result.json", "history.jsonl", "recipe.yaml"])  # a reader each
def test_huge_file_takes_little_memory(kind, name, runs, tmp_path, figure):
    folder = tmp_path / "run"
    shutil.copytree(runs / "label embedding" / "done", folder)
    HUGE[kind](folder / name)
    limit = 2 * min((folder / name).stat().st_size, MAXIMUM_BYTES) + MAXIMUM_VALUES * _BYTES_A_VALUE + _SLACK
    with memory_taken() as taken:
        try:
            read_everything(RunFolder(folder))
            said = ""
        except LabelEmbedError as error:
            said = str(error)
    assert len(said) < 1000
    figure.at_most("bytes for a huge JSON file, of its limit", round(taken[0] / limit, 2), 1.0)


@pytest.mark.parametrize("kind", ["sparse", "a header of 100 MB", "as many tensors as may be", "a header that lies"])
def test_huge_weights_take_little_memory(kind, runs, tmp_path, figure):
    folder = tmp_path / "run"
    shutil.copytree(runs / "label embedding" / "done", folder)
    shutil.copytree(runs / "label embedding" / "half" / "checkpoints", folder / "checkpoints")
    content = {
        "sparse": b"",
        "a header of 100 MB": header_of(sized(short=10_000_000, full=99_000_000)),
        "as many tensors as may be": header_of(HEADER_TENSORS * 56),
        "a header that lies": struct.pack("<Q", 99_000_000) + b"{" * 1000,
    }[kind]
    newest = sorted((folder / "checkpoints").iterdir())[-1]
    places = [folder / "model.safetensors", folder / "label_geometry.safetensors", newest]
    places.append(RunFolder(folder).examples_file)
    for file in places:
        file.write_bytes(content)
        if kind == "sparse":
            os.truncate(file, sized(short=2**28, full=2**32))
    vouch_for(newest)
    size = places[0].stat().st_size
    assert kind != "as many tensors as may be" or size < HEADER_BYTES
    parsed = HEADER_TENSORS * _BYTES_A_TENSOR if kind == "as many tensors as may be" else 0
    limit = parsed + _SLACK  # a longer header is not parsed
    for read in (
        SavedRun.load,
        lambda run: LabelGeometry.load(run / "label_geometry.safetensors"),
        lambda run: RunFolder(run).examples(),
    ):
        with memory_taken() as taken, pytest.raises(LabelEmbedError):
            read(folder)
        figure.at_most("bytes for huge weights, of the limit", round(taken[0] / limit, 2), 1.0)
    with memory_taken() as taken:
        checkpoint, damaged = load_newest(folder / "checkpoints")
    if kind != "as many tensors as may be":
        assert (checkpoint.step, len(damaged)) == (5, 1)
    figure.at_most("bytes for a huge checkpoint, of the limit", round(taken[0] / (2 * size + limit), 2), 1.0)


def parts(text: bytes, count: int) -> bytes:
    return b",".join(text % number for number in range(count))


ENTRY = b'"a": {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}'
HEADERS = {
    "tensors": lambda: header_of(HEADER_TENSORS * 60)[8:],
    "notes": lambda: b'{"__metadata__": {' + parts(b'"%x":""', 600_000) + b"}, " + ENTRY + b"}",
    "notes with quotes": lambda: b'{"__metadata__": {' + parts(rb'"%x\\":"\\"', 600_000) + b"}, " + ENTRY + b"}",
    "sizes": lambda: ENTRY.replace(b"[0]", b"[" + b"0," * (MAXIMUM_VALUES + 1) + b"0]").join((b"{", b"}")),
    "one name": lambda: b"{" + ENTRY.replace(b'"a"', b'"' + b"a" * HEADER_BYTES + b'"') + b"}",
}
READERS = {
    "weights": lambda folder, file: SavedRun.load(folder),
    "geometry": lambda folder, file: LabelGeometry.load(file),
    "examples": lambda folder, file: file.replace(RunFolder(folder).examples_file) and RunFolder(folder).examples(),
    "teacher": lambda folder, file: about_table(file),
    "backbone": lambda folder, file: read_weights(file),
    "encoder": lambda folder, file: load_encoder(file.parent),
}


# Every reader looks at the header in one place.
CASES = [(reader, "tensors") for reader in READERS] + [("weights", kind) for kind in HEADERS if kind != "tensors"]


@pytest.mark.parametrize(("reader", "kind"), CASES)
def test_header_of_too_much_is_refused_unparsed(reader, kind, runs, tmp_path, figure):
    if reader == "encoder":
        pytest.importorskip("transformers")
    folder = tmp_path / "run"
    shutil.copytree(runs / "label embedding" / "done", folder)
    text = HEADERS[kind]()
    file = folder / "model.safetensors"
    file.write_bytes(struct.pack("<Q", len(text)) + text)
    del text
    words = "a header of more than 100,000 tensors|a header of [0-9,]+ bytes, more than|more than 4,000,000 values"
    with memory_taken() as taken, pytest.raises(LabelEmbedError, match=words):
        READERS[reader](folder, file)
    figure.count("headers of too much refused unparsed", 1, 1)
    figure.at_most("bytes for a header of too much, of 64 MB", round(taken[0] / _SLACK, 2), 1.0)


def test_headers_of_large_networks_and_many_labels_are_read(tmp_path):
    weights = {
        f"model.layers.{number // 500}.experts.{number % 500}.weight": torch.zeros(1) for number in range(30_000)
    }
    save_file(weights, tmp_path / "f.safetensors")
    assert len(read_weights(tmp_path / "f.safetensors")) == 30_000
    names = tuple(
        f'the label "number {number}", of a million' for number in range(sized(short=200_000, full=1_000_000))
    )
    LabelGeometry(names, vectors=torch.zeros(len(names), 1)).save(tmp_path / "g.safetensors")
    assert (tmp_path / "g.safetensors").stat().st_size > HEADER_BYTES + 4 * len(names)
    assert LabelGeometry.load(tmp_path / "g.safetensors").names == names


@pytest.mark.parametrize("changes", [{"hidden_sizes": [60_000, 60_000]}, {"input_shape": [1, 30_000, 30_000]}])
def test_run_that_says_it_is_huge_is_refused_before_it_is_built(changes, runs, tmp_path, figure):
    folder = RunFolder(tmp_path / "run")
    shutil.copytree(runs / "label embedding" / "done", folder.path)
    recipe, environment = folder.recipe(), folder.environment()
    recipe["model"] |= {key: value for key, value in changes.items() if key == "hidden_sizes"}
    environment["data"] |= {key: value for key, value in changes.items() if key == "input_shape"}
    folder.write_recipe(recipe)
    folder.write("environment.json", environment)
    with memory_taken() as taken, pytest.raises(RunFolderError, match="not of this run's recipe"):
        SavedRun.load(folder.path)
    figure.at_most("bytes for a run that says it is huge, of 64 MB", round(taken[0] / _SLACK, 2), 1.0)
