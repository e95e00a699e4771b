"""Data without a recipe: what is found at a path, the recipe for it, and that the verbs take it."""

from __future__ import annotations

import numpy as np
import pytest

from labelembed.errors import DataError
from labelembed.lab.data import CORPORA, DATA, OLD_NAMES
from labelembed.lab.recipes.fitting import OF_READER, fitting_recipe
from labelembed.lab.recipes.loading import load_recipe, shipped_recipes
from labelembed.lab.runs.build import build_data
from labelembed.lab.runs.run import try_network
from tests.made_cli import call, succeed
from tests.made_corpus import write_corpus
from tests.made_data import made_colours, picture_bytes, write_idx_folder, write_image, write_parquet
from tests.made_pictures import write_cifar_python, write_classes
from tests.made_texts import reviews, write_columns, write_csv, write_json_lines, write_saved

QUICK = ["--set", "epochs=1", "--quiet"]
HELD_OUT = "data.validation={fraction: 0.15}"
MORE_STEPS = "epochs=20, batch_size=32"


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LABELEMBED_CACHE", str(tmp_path / "cache"))


def columns(count=120):
    texts, labels = zip(*reviews(count), strict=True)
    return {"text": list(texts), "kind": list(labels)}


def write_text_folder(at):
    for part in ("train", "test"):
        write_csv(at / f"{part}.csv", reviews(60), "text", "kind")
    return at


def passengers(at):
    """A table with a name of four words in each row, as that of the Titanic has it."""
    rows = [
        (n, n % 2, f"Braund, Mr. Owen {n}", ("male", "female")[n % 2], 20 + n % 40, 7.5 + n % 9) for n in range(130)
    ]
    return write_csv(at / "t.csv", rows, "PassengerId", "Survived", "Name", "Sex", "Age", "Fare")


def write_arrays(file, *shape, test=True, count=60):
    inputs = np.random.default_rng(0).integers(0, 256, (count, *shape)).astype(np.uint8)
    parts = ("train_", "test_") if test else ("",)
    arrays = {
        f"{part}{key}": value for part in parts for key, value in (("inputs", inputs), ("labels", LABELS[:count]))
    }
    if file.suffix:
        np.savez(file, **arrays)
    else:
        file.mkdir()
        for name, array in arrays.items():
            np.save(file / f"{name}.npy", array)
    return file


LABELS = np.arange(400) % 3


def write_digits(at):
    images = np.random.default_rng(0).integers(0, 256, (400, 6, 6), dtype=np.uint8)
    labels = (np.arange(400) % 10).astype(np.uint8)
    return write_idx_folder(at, train_images=images, train_labels=labels, test_images=images, test_labels=labels)


def write_pictures(file, count=80):
    pictures = [picture_bytes(picture) for picture in made_colours(count, size=16)]
    return write_parquet(file, img=pictures, label=LABELS[:count].tolist())


def write_two(at, write):
    for part in ("train", "test"):
        write(at / f"{part}.parquet")
    return at


def write_vectors(file, count=80):
    vectors = np.random.default_rng(0).normal(size=(count, 5)).tolist()
    return write_parquet(file, vector=vectors, label=LABELS[:count].tolist())


def write_list(at):
    write_classes(at, {"cat": 30, "dog": 30}, size=16)
    rows = [(file.relative_to(at), file.parent.name) for file in sorted(at.rglob("*.png"))]
    return write_csv(at / "list.csv", rows, "path", "label")


def write_sentences(at):
    write_corpus(at, train=70)
    return at / "corpus"


TEXTS = "120 texts, 2 classes, columns text and kind; recipe text-bag-small"
OF_PICTURES = f"{HELD_OUT}, {MORE_STEPS}"
KINDS = {
    "csv": (lambda at: write_csv(at / "a.csv", reviews(120), "text", "kind"), TEXTS),
    "tsv": (lambda at: write_csv(at / "a.tsv", reviews(120), "text", "kind", delimiter="\t"), TEXTS),
    "json lines": (lambda at: write_json_lines(at / "a.jsonl", reviews(120), "text", "kind"), TEXTS),
    "parquet of texts": (lambda at: write_columns(at / "a.parquet", columns()), TEXTS),
    "saved data set": (lambda at: write_saved(at / "saved", columns()), TEXTS),
    "folder of parts": (write_text_folder, TEXTS),
    "table": (
        lambda at: write_csv(at / "a.csv", [(n % 7 + n % 3, n * 0.5, n % 3) for n in range(130)], "a", "b", "class"),
        "130 examples, 3 classes, 2 columns and the labels in 'class'; recipe table-mlp",
    ),
    "table with names": (
        passengers,
        "130 examples, 2 classes, 5 columns and the labels in 'Survived'; recipe table-mlp",
    ),
    "npz of vectors": (
        lambda at: write_arrays(at / "a.npz", 7, test=False, count=130),
        "130 vectors of 7 numbers, 3 classes; recipe vectors-mlp",
    ),
    "npy of pictures": (
        lambda at: write_arrays(at / "arrays", 16, 16),
        f"120 pictures of 16 x 16, 3 classes; recipe cifar10-small with data.name=vectors, {HELD_OUT}, {MORE_STEPS}",
    ),
    "npz of tiny pictures": (
        lambda at: write_arrays(at / "a.npz", 8, 8, count=90),
        "180 pictures of 8 x 8, 3 classes; recipe vectors-mlp",
    ),
    "idx files": (write_digits, f"800 pictures of idx files, 10 classes; recipe mnist-mlp with {HELD_OUT}"),
    "fashion": (
        lambda at: write_digits(at / "fashion"),
        f"800 pictures of idx files, 10 classes; recipe fashion-mnist-cnn with {HELD_OUT}",
    ),
    "parquet of pictures": (
        lambda at: write_two(at, write_pictures),
        f"160 pictures in parquet files, 3 classes; recipe cifar10-small with {HELD_OUT}, {MORE_STEPS}",
    ),
    "parquet file of pictures": (
        lambda at: write_pictures(at / "a.parquet"),
        f"80 pictures in parquet files, 3 classes; recipe cifar10-small with {OF_PICTURES}",
    ),
    "parquet of vectors": (
        lambda at: write_two(at, write_vectors),
        "160 vectors in parquet files, 3 classes; recipe vectors-mlp with data.name=parquet",
    ),
    "parquet file of vectors": (
        lambda at: write_vectors(at / "a.parquet", 120),
        "120 vectors in parquet files, 3 classes; recipe vectors-mlp with data.name=parquet",
    ),
    "class folders": (
        lambda at: write_classes(at / "a", {"cat": 40, "dog": 40}, size=20),
        "80 pictures, 2 classes; recipe images-resnet",
    ),
    "list of pictures": (
        write_list,
        "a list of 60 pictures, 2 classes; recipe images-resnet",
    ),
    "corpus": (write_sentences, "94 sentence pairs; recipe translation-lstm"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_found_and_a_recipe_that_trains_on_it(tmp_path, kind):
    write, line = KINDS[kind]
    path = write(tmp_path)
    found = fitting_recipe(str(path))
    assert found.line == line
    recipe, name = load_recipe(found.recipe, settings=found.settings, data=str(path))
    data = build_data(recipe)
    assert name == found.recipe
    assert try_network(recipe, data).parameter_count() > 0
    counted = int("".join(letter for letter in line.removeprefix("a list of ").split()[0] if letter.isdigit()))
    assert sum(map(len, data.splits.values())) == counted


def test_published_cifar_is_known_by_its_files(tmp_path):
    for classes, name in ((10, "cifar10-small"), (100, "cifar100-small")):
        found = fitting_recipe(str(write_cifar_python(tmp_path / str(classes), classes)))
        assert found.line == f"CIFAR-{classes}, {classes} classes; recipe {name} with data.name=cifar"
        recipe, _ = load_recipe(found.recipe, settings=found.settings, data=str(tmp_path))
        assert recipe.data["name"] == "cifar"


def test_many_texts_take_the_recipe_for_many(tmp_path):
    assert fitting_recipe(str(write_csv(tmp_path / "a.csv", reviews(1_999), "text", "kind"))).recipe == "text-bag-small"
    found = fitting_recipe(str(write_csv(tmp_path / "a.csv", reviews(2_000), "text", "kind")))
    assert found.line == "2,000 texts, 2 classes, columns text and kind; recipe text-bag"


def test_what_was_typed_decides(tmp_path):
    file = str(passengers(tmp_path))
    assert fitting_recipe(file, ["data.text_column=Name"]).recipe == "text-bag-small"
    assert "labels in 'Sex'" in fitting_recipe(file, ["data.label_column=Sex"]).line
    assert fitting_recipe(file, ["data.name=labelled-text"]).recipe == "text-bag"
    assert fitting_recipe(file, ["data.name=manifest"]).recipe == "images-resnet"
    arrays = str(write_arrays(tmp_path / "a.npz", 16, 16, test=False))
    settings = fitting_recipe(arrays, ["data.test_fraction=0.5", "data.validation.examples=4"]).settings
    assert settings == ("data.name=vectors", "epochs=20", "batch_size=32")
    two = write_csv(tmp_path / "two.csv", [*reviews(60)], "first", "second", delimiter="^")
    assert fitting_recipe(str(two), ["data.delimiter=^"]).found == "60 texts, 2 classes, columns first and second"


def test_every_reader_of_a_path_has_a_recipe_that_ships():
    assert OF_READER.keys() - OLD_NAMES.keys() == (DATA.keys() | CORPORA.keys()) - {"digits"}
    assert set(OF_READER.values()) <= shipped_recipes().keys()


def write_sentence_files(at):
    (at / "a").mkdir()
    (at / "a" / "train.en").write_text("a\n")


@pytest.mark.parametrize(
    ("write", "what"),
    [
        (lambda at: (at / "a.pdf").write_text("x"), "a.pdf: is a file '.pdf', and no recipe fits; expected one of"),
        (lambda at: (at / "a").mkdir(), "a: is empty, and no recipe fits; expected one of"),
        (write_sentence_files, "a: holds train.en, and no recipe fits; expected one of"),
        (lambda at: None, "abc: does not exist; expected a file or a folder of data"),
        (
            lambda at: write_csv(at / "abd", []),
            "abc: does not exist (did you mean 'abd'?); expected a file or a folder",
        ),
    ],
)
def test_what_fits_no_recipe_is_one_message(tmp_path, write, what):
    write(tmp_path)
    with pytest.raises(DataError) as caught:
        fitting_recipe(str(tmp_path / what.partition(":")[0]))
    assert str(caught.value).startswith(f"{tmp_path}/{what}")
    assert len(str(caught.value).splitlines()) <= 9
    if "no recipe fits" in what:
        assert all(name in str(caught.value) for name in {*OF_READER.values()} - {"text-features", "text-finetune"})


def test_unclear_data_say_what_to_type(tmp_path):
    one = write_csv(tmp_path / "one.csv", [(text,) for text, _ in reviews(30)], "text")
    with pytest.raises(
        DataError, match=r"one\.csv: which column holds the labels is unclear; name it: --set data\.lab"
    ):
        fitting_recipe(str(one))
    names = write_csv(tmp_path / "names.csv", [(f"Name{n}", n % 2) for n in range(40)], "name", "country")
    with pytest.raises(DataError, match="which column holds the texts is unclear; name it: "):
        fitting_recipe(str(names))
    assert fitting_recipe(str(names), ["data.text_column=name"]).recipe == "text-bag-small"
    (tmp_path / "loose").mkdir()
    write_image(tmp_path / "loose" / "a.png", made_colours(1)[0])
    with pytest.raises(DataError, match="holds 1 pictures but no folders, so nothing says what their labels are"):
        fitting_recipe(str(tmp_path / "loose"))
    (tmp_path / "loose" / "list.csv").write_text("path,label\n" + "a.png,cat\n" * 4)
    with pytest.raises(DataError, match=r"holds a list of pictures; give the list itself: --data .*list\.csv"):
        fitting_recipe(str(tmp_path / "loose"))


def test_the_verbs_print_what_was_found_and_take_its_recipe(tmp_path):
    file = write_csv(tmp_path / "a.csv", reviews(120), "text", "kind")
    checked = succeed("check", "--data", file, "--json")
    assert checked.err == f"{TEXTS}\n"
    assert checked.json["recipe"] == "text-bag-small"
    assert succeed("check", "--set", f"data.path={file}").err.startswith(f"{TEXTS}\n")
    trained = succeed("train", "--data", file, *QUICK)
    assert trained.err.startswith(f"{TEXTS}\n")
    assert (tmp_path / "runs" / "a-text-bag-small" / "label_embedding" / "seed-0" / "result.json").is_file()
    one = ["compare", "--seeds", 1, "--objectives", "one_hot", "--jobs", 1]
    assert succeed(*one, "--data", file, *QUICK).err.startswith(f"{TEXTS}\n")
    # a name that is typed is taken, and nothing is looked for
    assert succeed("check", "text-bag", "--data", file, "--json", "--set", "batch_size=20").err == ""


def test_neither_recipe_nor_path_is_a_usage_error():
    for verb in ("check", "train", "compare"):
        refused = call(verb)
        assert (refused.code, refused.out) == (2, "")
        missing = "RECIPE: missing; name a recipe, or give --data PATH and the recipe that fits is taken"
        assert refused.err == f"error: {missing}\n"
