"""R11: files of every kind with bits flipped, cut and spliced, and bombs: our own errors, little memory, no code."""

from __future__ import annotations

import gzip
import os
import random
import shutil
import traceback
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from PIL import Image

from labelembed.errors import LabelEmbedError
from labelembed.geometry import LabelGeometry, read_hierarchy
from labelembed.lab.data import (
    CifarReader,
    CorpusSettings,
    ImageReader,
    PairFiles,
    TableReader,
    TextReader,
    VectorReader,
    prepare,
    preprocess,
    read_idx,
    read_inputs,
)
from labelembed.lab.data.corpus.text_corpus import read_corpus
from labelembed.lab.recipes.loading import load_recipe
from labelembed.lab.training.run_folder import RunFolder
from tests.made_corpus import made_pairs, write_corpus, write_pair_files
from tests.made_data import made_arrays, made_images, write_arrays, write_idx, write_image, write_picture_folder
from tests.made_hostile import mutated_bytes, pickle_bomb
from tests.made_pictures import write_cifar_python, write_classes
from tests.made_runs import embedding_geometry, history_lines, make_run, metrics
from tests.made_texts import reviews, write_columns, write_csv, write_json_lines, write_saved
from tests.made_watching import memory_taken, watched
from tests.reliability.figures import sized

CASES = sized(short=12, full=400)
#: What reading may take besides twice the file: what a compressed file may unpack to, twice, and the readers' own.
_MEMORY = 2**29 + 2**28


def preprocessed(place: Path) -> None:
    out = place.with_name("corpus-made")
    try:
        files = PairFiles(place / "train.source", place / "train.target")
        preprocess(train=files, validation=None, test=None, out=out, settings=CorpusSettings())
    finally:
        shutil.rmtree(out, ignore_errors=True)


def run(place: Path) -> Path:
    make_run(place, test=metrics(0.1), history=history_lines([0.3, 0.2, 0.1]))
    return place


def npy_folder(place: Path) -> None:
    place.mkdir()
    for name, array in made_arrays().items():
        np.save(place / f"{name}.npy", array)


def picture_list(place: Path) -> None:
    write_classes(place, {"a": 4, "b": 4}, size=4)
    files = sorted(path.relative_to(place) for path in place.rglob("*.png"))
    write_csv(place / "list.csv", [(str(file), file.parts[0]) for file in files], "path", "label")


def one_file(write):
    def made(place: Path) -> None:
        place.mkdir()
        write(place)

    return made


ROWS = reviews(24)
NUMBERS = [(n / 7, n * n % 11, ("red", "blue")[n % 2]) for n in range(24)]
COLUMNS = {"text": [text for text, _ in ROWS], "label": [label for _, label in ROWS]}
# Of each reader: what makes the files in a folder, and what reads the folder.
READERS = {
    "idx": (one_file(lambda at: write_idx(at / "f", made_images(4))), lambda at: read_idx(at / "f")),
    "idx, gzip": (one_file(lambda at: write_idx(at / "f", made_images(4), zipped=True)), lambda at: read_idx(at / "f")),
    "npz": (one_file(lambda at: write_arrays(at / "f.npz")), lambda at: VectorReader(path=str(at / "f.npz")).read()),
    "npy folder": (npy_folder, lambda at: VectorReader(path=str(at)).read()),
    "CIFAR": (lambda at: write_cifar_python(at, 10, rows=1), lambda at: CifarReader(path=str(at)).read()),
    "picture folder": (
        lambda at: write_classes(at, {"a": 3, "b": 3}, size=4),
        lambda at: prepare(ImageReader(path=str(at)).read(), validation=None),
    ),
    "picture list": (picture_list, lambda at: prepare(ImageReader(path=str(at / "list.csv")).read(), validation=None)),
    "jpeg": (
        one_file(lambda at: write_image(at / "f.jpg", made_images(1, height=28, width=28)[0])),
        lambda at: read_inputs(at / "f.jpg", input_shape=(1, 28, 28), input_range=(0.0, 255.0)),
    ),
    "parquet": (write_picture_folder, lambda at: prepare(ImageReader(path=str(at)).read(), validation=None)),
    "parquet of texts": (
        one_file(lambda at: write_columns(at / "f.parquet", COLUMNS)),
        lambda at: TextReader(path=str(at / "f.parquet")).read(),
    ),
    "saved data set": (lambda at: write_saved(at, COLUMNS), lambda at: TextReader(path=str(at)).read()),
    "csv": (
        one_file(lambda at: write_csv(at / "f.csv", ROWS, "text", "label")),
        lambda at: TextReader(path=str(at / "f.csv")).read(),
    ),
    "csv, gzip": (
        one_file(
            lambda at: (at / "f.csv.gz").write_bytes(gzip.compress(b"text,label\n" + b"a b,x\nc d,y\n" * 8, mtime=0))
        ),
        lambda at: TextReader(path=str(at / "f.csv.gz")).read(),
    ),
    "json lines": (
        one_file(lambda at: write_json_lines(at / "f.jsonl", ROWS, "text", "label")),
        lambda at: TextReader(path=str(at / "f.jsonl")).read(),
    ),
    "table": (
        one_file(lambda at: write_csv(at / "f.csv", NUMBERS, "length", "width", "class")),
        lambda at: TableReader(path=str(at / "f.csv")).read(),
    ),
    "sentence pairs": (lambda at: write_pair_files(at, "train", made_pairs(12)), preprocessed),
    "corpus": (lambda at: write_corpus(at, train=12, validation=4, test=4), lambda at: read_corpus(at / "corpus")),
    "recipe": (
        one_file(
            lambda at: (at / "f.yaml").write_text(
                "data: digits\nmodel: mlp\nobjective: one_hot\nepochs: 1\nbatch_size: 4\n"
            )
        ),
        lambda at: load_recipe(str(at / "f.yaml")),
    ),
    "groups": (
        one_file(lambda at: (at / "f.json").write_text('{"animals": ["cat", "dog"], "things": ["car", "ship"]}')),
        lambda at: read_hierarchy(at / "f.json", ("cat", "dog", "car", "ship")),
    ),
    "geometry": (
        one_file(lambda at: embedding_geometry("abcd").save(at / "f.safetensors")),
        lambda at: LabelGeometry.load(at / "f.safetensors"),
    ),
    "history": (run, lambda at: RunFolder(at).history()),
}


@pytest.mark.parametrize("name", READERS)
def test_fuzzed_files_are_read_or_refused(name, tmp_path, figure):
    write, read = READERS[name]
    write(tmp_path / "whole")
    read(tmp_path / "whole")
    files = sorted(path.relative_to(tmp_path / "whole") for path in (tmp_path / "whole").rglob("*") if path.is_file())
    bomb = pickle_bomb(tmp_path / "sentinel")
    errors: list[str] = []
    most = [0.0]
    cache = Path(os.environ["LABELEMBED_CACHE"])

    @settings(
        max_examples=CASES,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate,),
    )
    @given(st.integers(0, 2**63))
    def read_or_refused(number):
        chance = random.Random(number)
        place = tmp_path / "copy"
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(tmp_path / "whole", place)
        file = place / chance.choice(files)
        content = file.read_bytes()
        file.write_bytes(bomb if chance.random() < 0.03 else mutated_bytes(content, chance))
        allowed = 2 * file.stat().st_size + _MEMORY
        with watched(place, tmp_path, cache) as done, memory_taken() as taken:
            try:
                read(place)
            except LabelEmbedError as error:
                done += ["a long message"] if len(str(error)) > 2500 else []
            except BaseException:
                done.append(traceback.format_exc(limit=-4))
        most[0] = max(most[0], round(taken[0] / allowed, 2))
        if (tmp_path / "sentinel").exists():
            done.append("the pickle was loaded")
        if done:
            errors.append("\n".join([f"{number}: {file.name}", *done]))

    read_or_refused()
    print("\n\n".join(errors[:5]))
    figure.count("fuzzed files read or refused", CASES - len(errors), CASES)
    figure.at_most("bytes for a fuzzed file, of the limit", most[0], 1.0)


def black(width: int, height: int, path: Path) -> Path:
    Image.new("1", (width, height)).save(path)
    return path


def test_picture_of_billions_of_pixels_is_refused_unread(tmp_path, figure):
    file = black(20_000, 10_000, tmp_path / "f.png")
    assert file.stat().st_size < 200_000
    with memory_taken() as taken, pytest.raises(LabelEmbedError, match="more than 89,478,485 pixels, the limit"):
        read_inputs(file, input_shape=(1, 28, 28), input_range=(0.0, 255.0))
    figure.at_most("bytes for a picture of 200 million pixels, of 64 MB", round(taken[0] / 2**26, 2), 1.0)
