"""R10: what a user can get wrong is one message with the word that helps, exit code 2, at once, nothing written."""

from __future__ import annotations

import json
import shlex
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from tests.made_cli import SMALL, call, listing, succeed
from tests.made_data import write_idx_folder
from tests.reliability.tables import assert_answer, read_table

SECONDS = 2.0
TABLE = read_table("bad_calls.txt")
TABLE += [
    (f"check digits-mlp --set objective.preset={'x' * 9000}", "objective.preset"),
    (f"train digits-mlp --objective one_hot:{'x' * 9000}", "one_hot"),
]
RECIPE = "data: digits\nmodel: mlp\nobjective: one_hot\nepochs: 1\nbatch_size: 10\n"
FILES = {
    "list.yaml": "- data\n- model\n",
    "twice.yaml": RECIPE + "epochs: 2\n",
    "typo.yaml": RECIPE + "bach_size: 3\n",
    "afile": "x",
    "one.txt": "a b\nc d\n",
    "comparison/comparison.json": "{}",
    "no_variants/comparison.json": '{"format": 1, "recipe": "x", "baseline": "a", "seeds": [0], "variants": []}',
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One folder with everything that the calls name; none of them may change it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("bad"))
        for name in ("folder.yaml", "old_comparison/runs", "orphan/checkpoints/step-0000000001"):
            Path(name).mkdir(parents=True)
        for name, text in FILES.items():
            Path(name).parent.mkdir(exist_ok=True)
            Path(name).write_text(text)
        np.save("too_light.npy", np.full((4, 5), 300, dtype=np.int64))
        write_idx_folder(Path("mnist"))
        write_idx_folder(Path("partly"))
        Path("partly/t10k-labels-idx1-ubyte").unlink()
        succeed("train", "mnist-mlp", "--data", "mnist", *SMALL, "--out", "run")
        for name in ("run_recipe", "run_model", "run_result", "unfinished", "newer_result"):
            shutil.copytree("run", name)
        for name in ("run_recipe/recipe.yaml", "run_model/model.safetensors", "run_result/result.json"):
            Path(name).write_bytes(Path(name).read_bytes()[:40])
        Path("unfinished/result.json").unlink()
        result = json.loads(Path("run/result.json").read_text())
        Path("newer_result/result.json").write_text(json.dumps(result | {"format": 2}))
        return Path.cwd()


@pytest.mark.parametrize(("words", "answer"), TABLE, ids=[words[:99] for words, _ in TABLE])
def test_bad_call_is_refused_at_once_with_the_word_that_helps(words, answer, folder, monkeypatch, figure):
    monkeypatch.chdir(folder)
    before, began = listing(folder), time.process_time()
    called = call(*shlex.split(words))
    seconds = time.process_time() - began
    assert_answer(called, answer)
    assert listing(folder) == before
    figure.count("bad calls refused as the table says", 1, 1)
    figure.at_most("processor seconds of a refusal", round(seconds, 2), SECONDS)
