"""Data without a recipe: what is found at a path, the recipe for it, and that the subcommands take it."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from labelembed.errors import DataError
from labelembed.lab.data import CORPORA, DATA, detect
from labelembed.lab.data.detect import RECIPES
from labelembed.lab.errors import RecipeError
from labelembed.lab.pretrained_images import PACKAGE, is_installed
from labelembed.lab.recipes.choosing import choose_recipe, folder_name
from labelembed.lab.recipes.loading import shipped_recipes
from labelembed.lab.runs.build import build_data
from labelembed.lab.runs.run import try_network
from tests.made_cli import call, succeed
from tests.made_corpus import write_corpus
from tests.made_data import made_colours, picture_bytes, write_image, write_parquet
from tests.made_pictures import write_classes
from tests.made_texts import reviews, write_columns, write_csv, write_json_lines

pytestmark = pytest.mark.usefixtures("own_folder")


def columns():
    texts, labels = zip(*reviews(120), strict=True)
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


def write_arrays(file, *shape):
    inputs = np.random.default_rng(0).integers(0, 256, (130, *shape)).astype(np.uint8)
    np.savez(file, inputs=inputs, labels=np.arange(130) % 3)
    return file


def write_pictures(at):
    for part in ("train", "test"):
        pictures = [picture_bytes(picture) for picture in made_colours(80, size=16)]
        write_parquet(at / f"{part}.parquet", img=pictures, label=[n % 3 for n in range(80)])
    return at


def write_list(at):
    write_classes(at, {"cat": 30, "dog": 30}, size=16)
    rows = [(file.relative_to(at), file.parent.name) for file in sorted(at.rglob("*.png"))]
    return write_csv(at / "list.csv", rows, "path", "label")


def write_sentences(at):
    write_corpus(at, train=70)
    return at / "corpus"


TEXTS = "120 texts, columns text and kind; recipe text-bag-small"
KINDS = {
    "csv": (lambda at: write_csv(at / "a.csv", reviews(120), "text", "kind"), TEXTS),
    "json lines": (lambda at: write_json_lines(at / "a.jsonl", reviews(120), "text", "kind"), TEXTS),
    "parquet of texts": (lambda at: write_columns(at / "a.parquet", columns()), TEXTS),
    "folder of splits": (write_text_folder, TEXTS),
    "table with names": (passengers, "130 examples, 5 columns and the labels in 'Survived'; recipe table-mlp"),
    "vectors": (lambda at: write_arrays(at / "a.npz", 7), "arrays; recipe vectors-mlp"),
    "grey squares": (lambda at: write_arrays(at / "a.npz", 8, 8), "arrays; recipe vectors-mlp"),
    "parquet of pictures": (write_pictures, "160 pictures; recipe pictures"),
    "class folders": (
        lambda at: write_classes(at / "a", {"cat": 40, "dog": 40}, size=20), "pictures in 2 folders; recipe pictures"
    ),
    "list of pictures": (write_list, "60 pictures; recipe pictures"),
    "corpus": (write_sentences, "sentence pairs; recipe translation-lstm"),
}  # fmt: skip


def chosen(path, *settings):
    """What is said of a path, and the recipe that is taken for it."""
    said = []
    recipe, name = choose_recipe(None, data=str(path), settings=settings, say=said.append)
    (line,) = said
    assert f"; recipe {name}" in line
    return line, recipe


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_found_and_a_recipe_that_trains_on_it(tmp_path, kind):
    write, expected = KINDS[kind]
    line, recipe = chosen(write(tmp_path))
    if not is_installed():  # the features of pictures
        expected = expected.replace("recipe pictures", "recipe images-resnet")
    assert line.startswith(expected)
    assert try_network(recipe, build_data(recipe)).parameter_count() > 0


def test_many_texts_take_the_recipe_for_many_and_what_was_typed_decides(tmp_path):
    for count, name in ((1_999, "text-bag-small"), (2_000, "text-bag")):
        line, _ = chosen(write_csv(tmp_path / "a.csv", reviews(count), "text", "kind"))
        assert line == f"{count:,} texts, columns text and kind; recipe {name}"
    file = passengers(tmp_path)
    assert "recipe text-bag-small" in chosen(file, "data.text_column=Name")[0]
    assert "labels in 'Sex'" in chosen(file, "data.label_column=Sex")[0]
    assert "recipe text-bag" in chosen(file, "data.name=texts")[0]
    two = write_csv(tmp_path / "two.csv", [*reviews(60)], "first", "second", delimiter="^")
    assert chosen(two, "data.delimiter=^")[0].startswith("60 texts, columns first and second")


def test_every_reader_of_a_path_has_a_recipe_that_ships():
    assert RECIPES.keys() == (DATA.keys() | CORPORA.keys()) - {"digits"}
    assert set(RECIPES.values()) <= shipped_recipes().keys()


@pytest.mark.parametrize(
    ("name", "word"), [("a.pdf", "'.pdf'"), ("empty", "is empty"), ("a", "holds train.en"), ("abc", "'abd.csv'?")]
)
def test_what_fits_no_recipe_is_one_message_with_what_would(tmp_path, name, word):
    for file in ("a.pdf", "a/train.en", "abd.csv"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text("x\n")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError) as caught:
        detect(tmp_path / name, {})
    assert str(caught.value).startswith(f"{tmp_path}/{name}: ")
    assert word in str(caught.value)
    assert "expected a file" in str(caught.value) or all(name in str(caught.value) for name in RECIPES.values())


def test_unclear_data_say_what_to_type(tmp_path):
    one = write_csv(tmp_path / "one.csv", [(text,) for text, _ in reviews(30)], "text")
    names = write_csv(tmp_path / "names.csv", [(f"Name{n}", n % 2) for n in range(40)], "name", "country")
    of_no_type = {"name": [], "label_column": 2020, "split_column": [], "test_fraction": "x"}  # the recipe reports them
    for path, words in ((one, r"--set data\.label_column"), (names, r"--set data\.text_column")):
        with pytest.raises(DataError, match=words):
            detect(path, of_no_type)
    (tmp_path / "loose").mkdir()
    write_image(tmp_path / "loose" / "a.png", made_colours(1)[0])
    assert detect(names, {"text_column": "name"}).recipe == "text-bag-small"
    (tmp_path / "loose" / "list.csv").write_text("path,label\n" + "a.png,cat\n" * 4)
    with pytest.raises(DataError, match=r"--data .*list\.csv"):
        detect(tmp_path / "loose", {})


def test_the_subcommands_print_what_was_found_and_take_its_recipe(tmp_path):
    file = write_csv(tmp_path / "a.csv", reviews(120), "text", "kind")
    checked = succeed("check", "--data", file, "--json")
    assert checked.err == f"{TEXTS}\n"
    assert checked.json["recipe"] == "text-bag-small"
    assert any(note.startswith("two labels") for note in checked.json["notes"])
    assert "logistic regression on the same inputs: validation error" in succeed("check", "--data", file).out
    assert succeed("train", "--data", file, "--set", "epochs=1", "--quiet").err.startswith(f"{TEXTS}\n")
    assert (tmp_path / "runs" / "a-text-bag-small" / "online_label_smoothing" / "seed-0" / "result.json").is_file()
    # a name that is typed is taken, and nothing is looked for
    assert succeed("check", "text-bag", "--data", file, "--json", "--set", "batch_size=20").err == ""


def test_neither_recipe_nor_path_is_a_usage_error():
    for subcommand in ("check", "train", "compare"):
        refused = call(subcommand)
        assert (refused.code, refused.out) == (2, "")
        assert "--data PATH" in refused.err
    with pytest.raises(RecipeError, match="--data PATH"):
        choose_recipe(None, settings=["data=3", "data.path=["])


def test_folders_are_called_after_the_data_and_the_recipe():
    for path, name in (("reviews.csv", "reviews-mnist-mlp"), ("a/b.csv.gz", "b-mnist-mlp"), ("mnist", "mnist-mlp")):
        assert folder_name(*choose_recipe("mnist-mlp", data=path)) == name
    assert folder_name(*choose_recipe("digits-mlp")) == "digits-mlp"


@pytest.mark.parametrize("missing", ["timm", PACKAGE])
def test_without_the_extra_the_recipe_from_scratch_is_taken_with_what_to_install(tmp_path, monkeypatch, missing):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == missing else find(name, *rest))
    folder, said = write_classes(tmp_path / "pictures", {"cat": 16, "dog": 16}, size=20), []
    _, name = choose_recipe(None, data=str(folder), say=said.append)
    assert name == "images-resnet"
    assert ["labelembed[pictures]" in line for line in said] == [True]
