"""Recipes, data, run folders and files with which no call of the command line can do anything."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

import numpy as np

from tests.made_cli import SMALL, succeed
from tests.made_data import made_images, write_arrays, write_idx, write_idx_folder, write_image

SMALLEST = "data: digits\nmodel: mlp\nobjective: one_hot\nepochs: 1\nbatch_size: 10\n"
MNIST = ["mnist-mlp", "--data", "mnist", *SMALL]
FILES = ("recipe.yaml", "environment.json", "model.safetensors", "result.json", "label_geometry.safetensors")


def write_bad_recipes():
    texts = {
        "list": "- data\n- model\n",
        "empty": "",
        "text": "just words\n",
        "broken": "data: [1,\nepochs: 3\n",
        "twice": SMALLEST + "epochs: 2\n",
        "nested": "[" * 3000,
        "typo": SMALLEST + "bach_size: 3\n",
        "several": "data: digits\nmodel: {name: mlp, dropout: 2}\nobjective: {name: label_embedding, temprature: 3}\n"
        "epochs: 0\nbatch_size: ten\n",
        "nine": SMALLEST + "".join(f"wrong_{number}: 1\n" for number in range(9)),
        "tag": SMALLEST + "x: !!python/object/apply:os.system ['touch hacked']\n",
        "arrays": SMALLEST.replace("data: digits", "data: vectors").replace("batch_size: 10", "batch_size: 4"),
        "variants": SMALLEST + "comparison: {objectives: [one_hot, 'label_smoothing:smothing=0.2']}\n",
        "no_name": SMALLEST.replace("objective: one_hot", "objective: {bias: true}"),
        "key_1": SMALLEST + "1: 2\n",
        "name_list": SMALLEST.replace("objective: one_hot", "objective: {name: [one_hot]}"),
        "tabs": SMALLEST + "selection:\n\tby: last_epoch\n",
        "inner_twice": SMALLEST + "selection:\n  by: last_epoch\n  by: validation_error\n",
        "nan": SMALLEST + "max_gradient_norm: .nan\n",
        "itself": SMALLEST + "comparison: &all {objectives: [*all]}\n",
        "bomb": "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
        + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10)),
        "many_values": "x: [" + "1," * 99_990 + "1]\n",
        "control": SMALLEST + "note: \x07\n",
        "two_documents": SMALLEST + "---\n" + SMALLEST,
        "geometry_gone": SMALLEST.replace("one_hot", "{name: static_labels, embedding: gone.safetensors}"),
        "teacher_gone": SMALLEST.replace("one_hot", "{name: distillation, teacher: gone}"),
        "date": SMALLEST.replace("epochs: 1", "epochs: 2026-11-22"),
        "digits": SMALLEST.replace("epochs: 1", f"epochs: 1{'0' * 5000}"),
    }
    for name, text in texts.items():
        Path(f"{name}.yaml").write_text(text)
    Path("latin.yaml").write_bytes(b"data: digits # caf\xe9\n")
    Path("utf16.yaml").write_bytes(SMALLEST.encode("utf-16"))
    Path("nul.yaml").write_bytes(SMALLEST.encode() + b"x: \0\n")
    with open("huge.yaml", "wb") as file:
        file.truncate(10_000_000)
    Path("long.yaml").write_text(SMALLEST + "# ten megabytes of comment\n" * 370_000)
    Path("folder.yaml").mkdir()


def write_bad_data():
    write_idx_folder(Path("partly"))
    Path("partly/t10k-labels-idx1-ubyte").unlink()
    write_idx_folder(Path("cut"))
    images = Path("cut/train-images-idx3-ubyte")
    images.write_bytes(images.read_bytes()[:-7])
    write_idx_folder(Path("magic"))
    Path("magic/train-images-idx3-ubyte").write_bytes(b"\x89PNG" + bytes(100))
    write_idx_folder(Path("zip_cut"), zipped=True)
    packed = Path("zip_cut/train-images-idx3-ubyte.gz")
    packed.write_bytes(packed.read_bytes()[:-9])
    write_idx_folder(Path("lengths"), train_labels=np.arange(29, dtype=np.uint8) % 10)
    write_idx_folder(Path("label_11"), test_labels=np.array([0, 1, 2, 11, 4, 5, 6, 7, 8, 9], dtype=np.uint8))
    write_idx_folder(Path("no_test"), test_images=made_images(0), test_labels=np.zeros(0, dtype=np.uint8))
    write_idx_folder(Path("colours"), test_images=made_images(10, height=5, width=5))
    write_idx_folder(Path("wide"), train_images=made_images(30, width=6), test_images=made_images(10, width=6))
    inputs = np.random.default_rng(0).random((12, 5))
    for name, value in (("nan", np.nan), ("inf", np.inf)):
        wrong = inputs.copy()
        wrong[7, 2] = value
        write_arrays(Path(f"{name}.npz"), train_inputs=wrong)
    write_arrays(Path("negative.npz"), train_labels=np.array([0, 1, 2, -1] * 3))
    write_arrays(Path("outside.npz"), test_labels=np.array([0, 1, 2, 3, 0, 1]))
    write_arrays(Path("no_labels.npz"), train_labels=None)
    Path("cut.npz").write_bytes(Path("nan.npz").read_bytes()[:300])
    Path("text.npz").write_text("no archive")


def write_bad_runs():
    succeed("train", *MNIST, "--out", "run")
    for name in FILES:
        folder = Path(f"run_{name.split('.')[0]}")
        shutil.copytree("run", folder)
        (folder / name).write_bytes((folder / name).read_bytes()[:40])
        shutil.copytree(folder, f"{folder}_gone")
        Path(f"{folder}_gone", name).unlink()
    shutil.copytree("run", "unfinished")
    Path("unfinished/result.json").unlink()
    shutil.copytree("run", "failed")
    Path("failed/result.json").write_text(json.dumps({"status": "failed", "message": "the loss is not finite"}))
    shutil.copytree("run", "no_numbers")
    Path("no_numbers/result.json").write_text(json.dumps({"status": "finished"}))
    Path("comparison").mkdir()
    Path("comparison/comparison.json").write_text("{}")
    Path("old_comparison/runs").mkdir(parents=True)
    for name, changes in {
        "newer_result": {"format": 2},
        "no_errors": {"test": None, "validation": None},
        "error_7": {"test": {"error": 7}},
    }.items():
        shutil.copytree("run", name)
        result = json.loads(Path(name, "result.json").read_text())
        Path(name, "result.json").write_text(json.dumps(result | changes))
    for name, content in {
        "newer_comparison": {"format": 2},
        "no_variants": {"format": 1, "recipe": "x", "baseline": "a", "seeds": [0], "variants": []},
    }.items():
        Path(name).mkdir()
        Path(name, "comparison.json").write_text(json.dumps(content))


def write_bad_inputs():
    Path("afile").write_text("x")
    np.save("wrong_shape.npy", np.zeros((3, 3), dtype=np.uint8))
    np.save("too_light.npy", np.full((4, 5), 300, dtype=np.int64))
    np.save("not_finite.npy", np.full((4, 5), np.nan))
    np.save("objects.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    write_image(Path("cut.png"), made_images(1)[0])
    Path("cut.png").write_bytes(Path("cut.png").read_bytes()[:50])
    write_idx(Path("labels.idx"), np.arange(10, dtype=np.uint8))
    Path("bad_groups.json").write_text('{"animals": [0, 1], "things": [1, 2]}')
    Path("one.txt").write_text("a b\nc d\n")
    Path("three.txt").write_text("a b\nc d\ne f\n")
    Path("cut.gz").write_bytes(gzip.compress(b"\0\0\x08\x01")[:8])
