"""R11: files of every kind with bits flipped, cut and spliced, and bombs: our own errors, little memory, no code."""

from __future__ import annotations

import os
import random
import shutil
import traceback
from pathlib import Path

import pytest

from labelembed.errors import LabelEmbedError
from labelembed.geometry import LabelGeometry, read_hierarchy
from labelembed.lab.data import DATA, PairFiles, prepare, preprocess, read_corpus, read_idx, read_inputs
from labelembed.lab.recipes.loading import load_recipe
from labelembed.lab.training.run_folder import RunFolder
from tests.made_corpus import made_pairs, write_corpus, write_pair_files
from tests.made_data import made_images, write_arrays, write_idx, write_image
from tests.made_hostile import mutated_bytes, pickle_bomb
from tests.made_pictures import write_cifar_python, write_classes
from tests.made_runs import embedding_geometry, history_lines, make_run, metrics
from tests.made_texts import reviews, write_columns, write_csv, write_json_lines
from tests.made_watching import memory_taken, watched
from tests.reliability.figures import sized

CASES = sized(short=12, full=400)
#: What reading may take besides twice the file: what a compressed file may unpack to, twice, and the readers' own.
_MEMORY = 2**29 + 2**28


def preprocessed(place: Path) -> None:
    try:
        preprocess(train=PairFiles(place / "train.source", place / "train.target"), out=place.with_name("corpus-made"))
    finally:
        shutil.rmtree(place.with_name("corpus-made"), ignore_errors=True)


def reading(name: str, file: str = "."):
    return lambda folder: DATA[name](path=str(folder / file)).read()


def prepared(folder: Path):
    return prepare(reading("images")(folder), validation=None)


def in_folder(name: str, write):
    return lambda folder: write(folder / name)


RECIPE = "data: digits\nmodel: mlp\nobjective: one_hot\nepochs: 1\nbatch_size: 4\n"
GROUPS = '{"animals": ["cat", "dog"], "things": ["car", "ship"]}'
ROWS = reviews(24)
NUMBERS = [(n / 7, n * n % 11, ("red", "blue")[n % 2]) for n in range(24)]
COLUMNS = {"text": [text for text, _ in ROWS], "label": [label for _, label in ROWS]}
# Of each reader: what writes a folder, and what reads it.
READERS = {
    "idx": (in_folder("f", lambda file: write_idx(file, made_images(4), zipped=True)), lambda at: read_idx(at / "f")),
    "npz": (in_folder("f.npz", write_arrays), reading("vectors", "f.npz")),
    "jpeg": (
        in_folder("f.jpg", lambda file: write_image(file, made_images(1, height=28, width=28)[0])),
        lambda at: read_inputs(at / "f.jpg", input_shape=(1, 28, 28), input_range=(0.0, 255.0)),
    ),
    "csv": (in_folder("f.csv", lambda file: write_csv(file, ROWS, "text", "label")), reading("texts", "f.csv")),
    "json lines": (
        in_folder("f.jsonl", lambda file: write_json_lines(file, ROWS, "text", "label")),
        reading("texts", "f.jsonl"),
    ),
    "parquet of texts": (
        in_folder("f.parquet", lambda file: write_columns(file, COLUMNS)),
        reading("texts", "f.parquet"),
    ),
    "table": (
        in_folder("f.csv", lambda file: write_csv(file, NUMBERS, "length", "width", "class")),
        reading("table", "f.csv"),
    ),
    "recipe": (in_folder("f.yaml", lambda file: file.write_text(RECIPE)), lambda at: load_recipe(str(at / "f.yaml"))),
    "groups": (
        in_folder("f.json", lambda file: file.write_text(GROUPS)),
        lambda at: read_hierarchy(at / "f.json", ("cat", "dog", "car", "ship")),
    ),
    "geometry": (
        in_folder("f", lambda file: embedding_geometry("abcd").save(file)),
        lambda at: LabelGeometry.load(at / "f"),
    ),
    "CIFAR": (lambda at: write_cifar_python(at, 10), reading("cifar")),
    "picture folder": (lambda at: write_classes(at, {"a": 3, "b": 3}, size=4), prepared),
    "sentence pairs": (lambda at: write_pair_files(at, "train", made_pairs(12)), preprocessed),
    "corpus": (lambda at: write_corpus(at, train=12), lambda at: read_corpus(at / "corpus")),
    "history": (
        lambda at: make_run(at, test=metrics(0.1), history=history_lines([0.3, 0.2, 0.1])),
        lambda at: RunFolder(at).history(),
    ),
}


@pytest.mark.parametrize("name", READERS)
def test_fuzzed_files_are_read_or_refused(name, tmp_path, figure):
    write, read = READERS[name]
    whole, place = tmp_path / "whole", tmp_path / "copy"
    whole.mkdir()
    write(whole)
    read(whole)
    files = sorted(path.relative_to(whole) for path in whole.rglob("*") if path.is_file())
    bomb = pickle_bomb(tmp_path / "sentinel")
    errors: list[str] = []
    most = 0.0
    for number in range(CASES):
        chance = random.Random(number)
        shutil.copytree(whole, place)
        file = place / chance.choice(files)
        content = file.read_bytes()
        file.write_bytes(bomb if chance.random() < 0.03 else mutated_bytes(content, chance))
        allowed = 2 * file.stat().st_size + _MEMORY
        with watched(tmp_path, Path(os.environ["LABELEMBED_CACHE"])) as done, memory_taken() as taken:
            try:
                read(place)
            except LabelEmbedError as error:
                done += ["a long message"] if len(str(error)) > 2500 else []
            except BaseException:
                done.append(traceback.format_exc(limit=-4))
        shutil.rmtree(place)
        most = max(most, round(taken[0] / allowed, 2))
        if (tmp_path / "sentinel").exists():
            done.append("the pickle was loaded")
        if done:
            errors.append("\n".join([f"{number}: {file.name}", *done]))
    print("\n\n".join(errors[:5]))
    figure.count("fuzzed files read or refused", CASES - len(errors), CASES)
    figure.at_most("bytes for a fuzzed file, of the limit", most, 1.0)
