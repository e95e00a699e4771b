"""Data that a finished run evaluates: read and decoded as its own. The labels of every reader: see R18."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from labelembed.errors import DataError
from labelembed.lab.data import DATA
from labelembed.lab.data.dataset import renumbered
from labelembed.lab.recipes.schema import parse_recipe
from labelembed.lab.runs.options import RunOptions
from labelembed.lab.runs.run import run_recipe
from labelembed.lab.runs.saved_run import SavedRun
from tests.made_data import made_colours, write_image
from tests.made_texts import reviews, write_csv

RUN = ("neg", "other", "pos")


def trained(folder, data, *, model="mlp"):
    """Returns a run of one epoch."""
    recipe = {"data": data, "model": {"name": model}, "objective": "one_hot", "epochs": 1, "batch_size": 4}
    run_recipe(parse_recipe(recipe, source="made"), folder, options=RunOptions(device="cpu"))
    return SavedRun.load(folder)


def test_labels_without_names_keep_their_numbers(tmp_path):
    np.savez(tmp_path / "a.npz", inputs=np.ones((4, 2), np.float32) * [[1], [2], [3], [4]], labels=[2, 0, 2, 1])
    raw = DATA["vectors"](path=str(tmp_path / "a.npz")).read(to_evaluate=True)
    assert renumbered(raw, RUN).train.labels.tolist() == [2, 0, 2, 1]
    with pytest.raises(DataError, match=r"does not know: 2 \(2 examples\)"):
        renumbered(raw, ("neg", "pos"))


@pytest.mark.parametrize("grey", [True, False], ids=["a grey run", "a coloured run"])
def test_pictures_to_evaluate_are_decoded_as_those_to_predict_by_the_columns_of_the_run(tmp_path, grey):
    def write_list(coloured, *heading):
        for number, picture in enumerate(made_colours(12, size=20, seed=int(coloured))):
            write_image(tmp_path / f"{coloured}{number:02}.png", picture if coloured else picture[..., 0])
        rows = [(f"{coloured}{n:02}.png", f"class {n % 2}", f"class {1 - n % 2}") for n in range(12)]
        return write_csv(tmp_path / f"{coloured}.csv", [row[: len(heading)] for row in rows], *heading)

    own = write_list(not grey, "path", "kind")
    run = trained(tmp_path / "run", {"name": "images", "path": str(own), "image_size": 8})
    assert run.classification.input_shape == (1 if grey else 3, 8, 8)
    data = run.read_data(str(write_list(grey, "path", "label", "kind")))
    files = sorted(tmp_path.glob(f"{grey}*.png"))
    assert torch.equal(data.test.inputs, torch.cat([run.read_inputs(file)[0] for file in files]))
    assert [run.names[label] for label in data.test.labels.tolist()] == [f"class {1 - n % 2}" for n in range(12)]


def test_labels_are_those_of_the_runs_own_data_or_refused(tmp_path):
    file = write_csv(tmp_path / "t.csv", reviews(40), "text", "label")
    data = {"name": "texts", "path": str(file), "names": {"neg": "bad", "pos": "good"}, "validation": {"examples": 4}}
    run = trained(tmp_path / "run", data, model="bag_of_words")
    other = str(write_csv(tmp_path / "other.csv", [("a b", "good"), ("c d", "bad"), ("e f", "neg")], "text", "label"))
    assert run.read_data(other).test.labels.tolist() == [1, 0, 0]
    write_csv(file, reviews(40, labels=("good", "poor")), "text", "label")
    with pytest.raises(DataError, match=r"has the labels good, poor .* trained on bad, good"):
        run.read_data(None)
