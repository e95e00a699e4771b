"""What a user can get wrong: one clear message, exit code 2, nothing written."""

from __future__ import annotations

import gzip
import json
import shutil
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest

from tests.made_cli import SMALL, call, listing, succeed
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
        "arrays": SMALLEST.replace("data: digits", "data: arrays").replace("batch_size: 10", "batch_size: 4"),
        "variants": SMALLEST + "comparison: {objectives: [one_hot, 'label_smoothing:smothing=0.2']}\n",
        "no_name": SMALLEST.replace("objective: one_hot", "objective: {bias: true}"),
        "key_1": SMALLEST + "1: 2\n",
        "name_list": SMALLEST.replace("objective: one_hot", "objective: {name: [one_hot]}"),
    }
    for name, text in texts.items():
        Path(f"{name}.yaml").write_text(text)
    Path("latin.yaml").write_bytes(b"data: digits # caf\xe9\n")
    with open("huge.yaml", "wb") as file:
        file.truncate(10_000_000)


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
    write_idx_folder(
        Path("nine"), train_labels=np.arange(30, dtype=np.uint8) % 9, test_labels=np.arange(10, dtype=np.uint8) % 9
    )
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


def write_bad_inputs():
    Path("afile").write_text("x")
    np.save("wrong_shape.npy", np.zeros((3, 3), dtype=np.uint8))
    np.save("too_light.npy", np.full((4, 5), 300, dtype=np.int64))
    np.save("not_finite.npy", np.full((4, 5), np.nan))
    np.save("objects.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    write_image(Path("cut.png"), made_images(1)[0])
    Path("cut.png").write_bytes(Path("cut.png").read_bytes()[:50])
    write_idx(Path("labels.idx"), np.arange(10, dtype=np.uint8))
    Path("cut.gz").write_bytes(gzip.compress(b"\0\0\x08\x01")[:8])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One folder with everything that the calls below name; none of them may change it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("bad"))
        write_idx_folder(Path("mnist"))
        write_bad_recipes()
        write_bad_data()
        write_bad_runs()
        write_bad_inputs()
        return Path.cwd()


@pytest.fixture
def refused(folder, monkeypatch):
    """Calls the command line, which must refuse: returns its message."""
    monkeypatch.chdir(folder)

    def refuse(*words):
        before = listing(folder)
        called = call(*words)
        assert called.code == 2, f"exit {called.code}\n{called.out}{called.err}"
        assert listing(folder) == before, "something was written"
        assert called.out == ""
        assert "Traceback" not in called.err
        assert len(called.err.splitlines()) <= 10
        assert max(map(len, called.err.splitlines())) <= 400
        return called.err

    return refuse


# ----------------------------------------------------------------------------------- the most important, word by word

EXACT = {
    "unknown recipe": (
        ["train", "mnist-mpl"],
        "unknown recipe 'mnist-mpl' (did you mean 'mnist-mlp'?); `labelembed recipes` lists what there is; "
        "or give a .yaml file",
    ),
    "no recipe file": (["train", "tpyo.yaml"], "tpyo.yaml: no such file (did you mean 'typo.yaml'?)"),
    "no --data": (["train", "mnist-mlp"], "recipe 'mnist-mlp': data.path: missing; give it with --data PATH"),
    "missing path": (
        ["train", "mnist-mlp", "--data", "nowhere"],
        "{here}/nowhere: does not exist; expected a folder with four idx files",
    ),
    "missing files": (
        ["train", "mnist-mlp", "--data", "partly"],
        "{here}/partly: missing t10k-labels-idx1-ubyte (each may end in .gz); it holds t10k-images-idx3-ubyte, "
        "train-images-idx3-ubyte, train-labels-idx1-ubyte",
    ),
    "truncated idx": (
        ["train", "mnist-mlp", "--data", "cut"],
        "{here}/cut/train-images-idx3-ubyte: expected 600 bytes of values (30 x 4 x 5 of uint8), found 593; "
        "the file is cut off or its header is wrong",
    ),
    "images and labels": (
        ["train", "mnist-mlp", "--data", "lengths"],
        "{here}/lengths/train-labels-idx1-ubyte: expected a label for each of the 30 images of "
        "train-images-idx3-ubyte, found 29 labels",
    ),
    "label outside": (
        ["train", "mnist-mlp", "--data", "label_11"],
        "{here}/label_11/t10k-labels-idx1-ubyte: row 3 has the label 11, which no training row has; "
        "the training set has 0, 1, 2, 3, 4, 5, 6, 7, 8, 9",
    ),
    "NaN": (
        ["train", "arrays.yaml", "--data", "nan.npz"],
        "{here}/nan.npz: train_inputs: row 7 has the value nan; expected finite numbers, so repair or drop that row",
    ),
    "batch too large": (
        ["train", *MNIST, "--set", "batch_size=21"],
        "idx files in {here}/mnist: `batch_size` 21 is larger than the training set, which has 20 rows after 10 were "
        "held out; take at most 20",
    ),
    "unknown key in --set": (
        ["train", "digits-mlp", "--set", "objective.temprature=3"],
        "recipe 'digits-mlp' with --set: objective.temprature: unknown key of 'label_embedding' "
        "(did you mean 'temperature'?)",
    ),
    "unknown key in YAML": (["check", "typo.yaml"], "typo.yaml: bach_size: unknown key (did you mean 'batch_size'?)"),
    "several at once": (
        ["check", "several.yaml"],
        "several.yaml: 4 faults\n"
        "  model.dropout: must be in [0, 1), got 2.0\n"
        "  objective.temprature: unknown key of 'label_embedding' (did you mean 'temperature'?)\n"
        "  epochs: must be >= 1, got 0\n"
        "  batch_size: must be a whole number, got 'ten'",
    ),
    "no mapping": (
        ["check", "list.yaml"],
        "list.yaml: must be a mapping with data, model, objective, ...; got a list: ['data', 'model']; "
        "`labelembed init` writes one",
    ),
    "broken YAML": (
        ["check", "broken.yaml"],
        "broken.yaml: line 3, column 1: no valid YAML (expected ',' or ']', but got '<stream end>')",
    ),
    "out of range": (
        ["train", "digits-mlp", "--set", "optimizer.learning_rate=-1"],
        "recipe 'digits-mlp' with --set: optimizer.learning_rate: must be > 0, got -1.0",
    ),
    "variant's key": (
        ["compare", "digits-mlp", "--objectives", "one_hot,label_smoothing:smothing=0.2"],
        "--objectives: label_smoothing smothing=0.2: objective.smothing: unknown key of 'label_smoothing' "
        "(did you mean 'smoothing'?)",
    ),
    "run of another recipe": (
        ["train", *MNIST, "--set", "objective.temperature=3", "--out", "run"],
        "run: holds the run of another recipe; choose another --out. It differs in\n"
        "  objective.temperature: here 2.0, asked for 3.0",
    ),
    "unfinished run": (
        ["train", *MNIST, "--out", "unfinished"],
        "unfinished: this run has begun and not finished; to go on: labelembed resume unfinished; "
        "to begin anew: add --overwrite",
    ),
    "no run folder": (
        ["evaluate", "nowhere"],
        "nowhere: no such folder; a run folder is what `labelembed train` leaves",
    ),
    "no such label": (
        ["neighbours", "run", "x"],
        "run/label_geometry.safetensors: no label 'x'; there are 10: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9",
    ),
    "unwritable": (
        ["train", *MNIST, "--out", "afile/run"],
        "afile/run: cannot write here (Not a directory); choose another folder with --out",
    ),
    "no seeds": (
        ["compare", "digits-mlp", "--seeds", "0"],
        "--seeds: must be a number of seeds from 1 up, or a list of seeds, got 0",
    ),
    "ambiguous baseline": (
        [
            *["compare", "digits-mlp", "--baseline", "label_smoothing"],
            *["--objectives", "one_hot,label_smoothing:smoothing=0.2,label_smoothing:smoothing=0.4"],
        ],
        "--baseline: 'label_smoothing' stands for more than one of the variants: one_hot, "
        "label_smoothing smoothing=0.2, label_smoothing smoothing=0.4",
    ),
    "no geometry": (
        ["train", "digits-mlp", "--set", "objective.embedding=compresed"],
        "objective.embedding (did you mean 'compressed'?) must be 'full', 'compressed', 'text', 'text:PATH' of "
        "a text encoder, or the path of a saved geometry; compresed: no such file; a label geometry "
        "is a .safetensors file that a run leaves",
    ),
}


@pytest.mark.parametrize(("words", "message"), EXACT.values(), ids=EXACT)
def test_message_is_this_one(words, message, refused, folder):
    assert refused(*words) == f"error: {message.format(here=folder)}\n"


# ------------------------------------------------------------------------------------------------ and all the others

Bad = namedtuple("Bad", "words named")
TABLE = [
    # the program and its options
    Bad("trian digits-mlp", ["trian", "train"]),
    Bad("train", ["RECIPE"]),
    Bad("train digits-mlp extra", ["extra"]),
    Bad("train digits-mlp --sett a=3", ["--sett", "--set"]),
    Bad("train digits-mlp --threads 0", ["--threads"]),
    Bad("train digits-mlp --threads many", ["--threads"]),
    Bad("train digits-mlp --device tpu", ["--device", "tpu", "cpu"]),
    Bad("compare digits-mlp --jobs 0", ["--jobs"]),
    Bad("compare digits-mlp --jobs two", ["--jobs"]),
    Bad("evaluate", ["RUN"]),
    Bad("evaluate run --split dev", ["--split", "dev", "development"]),
    Bad("predict run", ["FILE"]),
    Bad("predict run afile --top 0", ["--top"]),
    Bad("neighbours run --count 0", ["--count"]),
    Bad("recipes --jsn", ["--jsn", "--json"]),
    Bad("objectives extra", ["extra"]),
    Bad("resume", ["RUN"]),
    Bad("report", ["PATH"]),
    # recipes
    Bad("check mnist", ["unknown recipe 'mnist'", ".yaml"]),
    Bad("check empty.yaml", ["empty.yaml", "got nothing"]),
    Bad("check text.yaml", ["text.yaml", "'just words'"]),
    Bad("check twice.yaml", ["twice.yaml", "line 6", "'epochs'", "twice"]),
    Bad("check nested.yaml", ["nested.yaml", "nested too deeply"]),
    Bad("check nine.yaml", ["nine.yaml: 9 faults", "wrong_7", "and 1 more"]),
    Bad("check tag.yaml", ["tag.yaml", "os.system", "not allowed"]),
    Bad("check latin.yaml", ["latin.yaml", "utf-8"]),
    Bad("check huge.yaml", ["huge.yaml", "200,000"]),
    Bad("check variants.yaml", ["comparison.objectives", "smothing", "'smoothing'"]),
    Bad("check no_name.yaml", ["objective.name", "missing", "one_hot"]),
    Bad("check name_list.yaml", ["objective.name", "['one_hot']"]),
    Bad("check key_1.yaml", ["key_1.yaml", "1: unknown key"]),
    Bad("train typo.yaml", ["bach_size", "'batch_size'"]),
    Bad("compare typo.yaml", ["bach_size", "'batch_size'"]),
    Bad("init typo.yaml -o new.yaml", ["bach_size", "'batch_size'"]),
    Bad("init digits-mpl -o new.yaml", ["digits-mpl", "'digits-mlp'"]),
    Bad("init digits-mlp", ["--out"]),
    Bad("init digits-mlp -o afile", ["afile", "exists", "--force"]),
    Bad("init digits-mlp -o nowhere/new.yaml", ["nowhere"]),
    Bad("init digits-mlp -o mnist --force", ["mnist", "is a folder"]),
    # --set
    Bad("check digits-mlp --set epochs", ["'epochs'", "key.key=value"]),
    Bad("check digits-mlp --set =3", ["'=3'", "key.key=value"]),
    Bad("check digits-mlp --set epochs=true", ["epochs", "True"]),
    Bad("check digits-mlp --set epochs=2.5", ["epochs", "2.5"]),
    Bad("check digits-mlp --set epochs.x=3", ["epochs.x", "no keys below"]),
    Bad("check digits-mlp --set model.hidden_sizes=[8", ["model.hidden_sizes", "'[8'", "YAML"]),
    Bad("check digits-mlp --set model.hidden_sizes=[0]", ["model.hidden_sizes", "[0]"]),
    Bad("check digits-mlp --set model.hidden_sizes=[2000000000,2000000000]", ["model", "cannot be built"]),
    Bad("check digits-mlp --set objective=one_ht", ["objective.name", "'one_ht'", "'one_hot'"]),
    Bad("check digits-mlp --set objective.temperature=.inf", ["objective.temperature", "inf"]),
    Bad("check digits-mlp --set objective.confidence_limit=1.5", ["objective.confidence_limit", "1.5"]),
    Bad("check digits-mlp --set objective.hinge_norm=3", ["objective.hinge_norm", "3"]),
    Bad("check digits-mlp --set optimizer.betas=[0.9]", ["optimizer.betas", "2 values"]),
    Bad("check digits-mlp --set schedule=cosin", ["schedule.name", "'cosine'"]),
    Bad("check digits-mlp --set precision=fp32", ["precision", "'fp32'"]),
    Bad("check digits-mlp --set seed=-1", ["seed", "-1"]),
    Bad("check digits-mlp --set data.scaling=none", ["data.scaling", "'none'"]),
    Bad("check digits-mlp --set data.test_fraction=2", ["data.test_fraction", "2"]),
    Bad("check digits-mlp --set data.development.first=9", ["data.development", "first: 9", "fraction: 0.15"]),
    Bad("check digits-mlp --set data.development.seed=-1", ["data.development.seed", "-1"]),
    Bad("check digits-mlp --set selection.by=last", ["selection.by", "'last'"]),
    Bad("check digits-mlp --set checkpoints.keep=1", ["checkpoints.keep", "1"]),
    Bad("check digits-mlp --data mnist", ["data.path", "'digits'"]),
    # data
    Bad("check mnist-mlp --data afile", ["afile", "is a file"]),
    Bad("check mnist-mlp --data run", ["run", "missing train-images-idx3-ubyte", "checkpoints/"]),
    Bad("check mnist-mlp --data magic", ["train-images-idx3-ubyte", "89 50 4e 47"]),
    Bad("check mnist-mlp --data zip_cut", ["train-images-idx3-ubyte.gz", "cut off"]),
    Bad("check mnist-mlp --data no_test", ["t10k-images-idx3-ubyte", "at least one"]),
    Bad("check mnist-mlp --data colours", ["t10k-images-idx3-ubyte", "4 x 5", "5 x 5"]),
    Bad("check mnist-mlp --data mnist", ["first = 5,000", "30 rows"]),
    Bad("check mnist-mlp --data mnist --set data.development.first=30", ["first = 30", "nothing to train on"]),
    Bad("check arrays.yaml --data inf.npz", ["inf.npz", "row 7", "inf"]),
    Bad("check arrays.yaml --data negative.npz", ["negative.npz", "row 3", "-1"]),
    Bad("check arrays.yaml --data outside.npz", ["outside.npz", "test_labels", "row 3", "label 3"]),
    Bad("check arrays.yaml --data no_labels.npz", ["no_labels.npz", "train_labels"]),
    Bad("check arrays.yaml --data cut.npz", ["cut.npz"]),
    Bad("check arrays.yaml --data text.npz", ["text.npz"]),
    Bad("check arrays.yaml --data nowhere.npz", ["nowhere.npz", "does not exist"]),
    # train
    Bad("train digits-mlp --objective one_ht", ["one_ht", "'one_hot'"]),
    Bad("train digits-mlp --objective one_hot:bais=true", ["objective.bais", "'bias'"]),
    Bad("train digits-mlp --objective one_hot:bias", ["--objective", "'one_hot:bias'"]),
    Bad("train digits-mlp --out afile", ["afile", "cannot write"]),
    Bad("train digits-mlp --out /proc/nowhere/run", ["/proc/nowhere/run", "cannot write", "--out"]),
    Bad("train digits-mlp --out comparison", ["comparison", "--out"]),
    Bad("train digits-mlp --out run", ["run", "another recipe", "batch_size: here 10, asked for 50"]),
    Bad(
        "train digits-mlp --set objective.embedding=run/model.safetensors",
        ["model.safetensors", "not a label geometry"],
    ),
    Bad("train mnist-mlp --data nowhere --out run --overwrite", ["nowhere", "does not exist"]),
    Bad("train digits-mlp --device cpu --set precision=fp16", ["precision", "GPU"]),
    # compare
    Bad("compare digits-mlp --objectives ,", ["--objectives"]),
    Bad("compare digits-mlp --objectives one_hot,one_hot", ["one_hot", "more than once"]),
    Bad("compare digits-mlp --objectives one_hot,label_smoothing:smoothing=7", ["smoothing=7", "[0, 1]"]),
    Bad("compare digits-mlp --objectives one_hot,label_smoothing:smoothing:7", ["'label_smoothing:smoothing:7'"]),
    Bad(
        "compare digits-mlp --objectives one_hot,label_embedding:embedding=no.file", ["objective.embedding", "no.file"]
    ),
    Bad("compare digits-mlp --seeds 1,1", ["--seeds", "1 more than once"]),
    Bad("compare digits-mlp --seeds x", ["--seeds", "'x'"]),
    Bad("compare digits-mlp --seeds -1", ["--seeds", "'-1'"]),
    Bad("compare digits-mlp --seeds 20241104", ["--seeds", "20,241,104"]),
    Bad("compare digits-mlp --baseline one_hott", ["--baseline", "'one_hott'", "'one_hot'"]),
    Bad("compare digits-mlp --out afile", ["afile", "is a file"]),
    Bad("compare digits-mlp --out afile/deeper", ["afile/deeper", "cannot write"]),
    Bad("compare digits-mlp --out run", ["run", "single run"]),
    Bad("compare mnist-mlp --data nowhere", ["nowhere", "does not exist"]),
    # run folders
    Bad("evaluate mnist", ["mnist", "recipe.yaml"]),
    Bad("evaluate afile", ["afile", "recipe.yaml"]),
    Bad("evaluate old_comparison", ["old_comparison", "comparison folder"]),
    Bad("evaluate unfinished", ["unfinished", "labelembed resume unfinished"]),
    Bad("evaluate failed", ["failed", "the loss is not finite"]),
    Bad("evaluate run --data nowhere", ["nowhere", "does not exist"]),
    Bad("evaluate run --data nine", ["nine", "labels", "trained on"]),
    Bad("evaluate run --data wide", ["wide", "[1, 4, 6]", "[1, 4, 5]"]),
    Bad("predict unfinished afile", ["labelembed resume unfinished"]),
    Bad("predict run nowhere.png", ["nowhere.png", "does not exist"]),
    Bad("predict run mnist", ["mnist", "is a folder"]),
    Bad("predict run afile", ["afile", "unknown type"]),
    Bad("predict run wrong_shape.npy", ["wrong_shape.npy", "4 x 5", "3 x 3"]),
    Bad("predict run too_light.npy", ["too_light.npy", "300", "255"]),
    Bad("predict run not_finite.npy", ["not_finite.npy", "nan"]),
    Bad("predict run objects.npy", ["objects.npy", "pickle"]),
    Bad("predict run cut.png", ["cut.png", "cut off"]),
    Bad("predict run labels.idx", ["labels.idx", "found [10]"]),
    Bad("predict run cut.gz", ["cut.gz", "cut off"]),
    Bad("neighbours unfinished", ["labelembed resume unfinished"]),
    Bad("neighbours run 0 zebra", ["zebra"]),
    Bad("report nowhere", ["nowhere"]),
    Bad("report mnist", ["mnist", "recipe.yaml"]),
    Bad("report unfinished", ["unfinished", "not finished"]),
    Bad("report comparison", ["comparison.json"]),
    Bad("resume nowhere", ["nowhere"]),
    Bad("resume mnist", ["mnist", "recipe.yaml"]),
    Bad("resume comparison", ["comparison", "recipe.yaml"]),
    Bad("resume no_numbers", ["no_numbers/result.json", "damaged"]),
    # a run folder damaged in each of its files, or without one
    Bad("evaluate run_recipe", ["run_recipe/recipe.yaml", "damaged"]),
    Bad("evaluate run_recipe_gone", ["run_recipe_gone", "recipe.yaml"]),
    Bad("evaluate run_environment", ["run_environment/environment.json", "damaged"]),
    Bad("evaluate run_environment_gone", ["run_environment_gone/environment.json", "missing"]),
    Bad("evaluate run_model", ["run_model/model.safetensors", "damaged"]),
    Bad("evaluate run_model_gone", ["run_model_gone/model.safetensors"]),
    Bad("evaluate run_result", ["run_result/result.json", "damaged"]),
    Bad("evaluate run_result_gone", ["run_result_gone", "labelembed resume"]),
    Bad("predict run_model mnist/t10k-images-idx3-ubyte", ["run_model/model.safetensors", "damaged"]),
    Bad("neighbours run_label_geometry", ["run_label_geometry/label_geometry.safetensors", "damaged"]),
    Bad("neighbours run_label_geometry_gone", ["run_label_geometry_gone/label_geometry.safetensors", "no such file"]),
    Bad("resume run_recipe", ["run_recipe/recipe.yaml", "damaged"]),
    Bad("resume run_result", ["run_result/result.json", "damaged"]),
    Bad("train mnist-mlp --data mnist --out run_recipe", ["run_recipe/recipe.yaml", "damaged"]),
    Bad("report run_result", ["run_result/result.json", "damaged"]),
]


@pytest.mark.parametrize(("words", "named"), TABLE, ids=[bad.words for bad in TABLE])
def test_bad_call_is_refused(words, named, refused):
    message = " ".join(refused(*words.split()).replace("│", " ").split())  # a long line may be broken within a box
    assert [name for name in named if name not in message] == []


def test_the_table_is_as_long_as_promised():
    assert len({bad.words for bad in TABLE}) == len(TABLE) >= 60


# ------------------------------------------------------------------------------------- what needs more than a call


def test_empty_words_are_refused(refused):
    assert "--data: is empty" in refused("check", "mnist-mlp", "--data", "")
    assert "--objectives: no objective to compare" in refused("compare", "digits-mlp", "--objectives", "")
    assert "--baseline: ''" in refused("compare", "digits-mlp", "--baseline", "")
    assert "--seeds: ''" in refused("compare", "digits-mlp", "--seeds", "")
    assert "--objective: ''" in refused("train", "digits-mlp", "--objective", "")
    assert "unknown recipe ''" in refused("train", "")


def test_message_stays_short_whatever_is_given(refused):
    assert len(refused("check", "digits-mlp", "--set", f"objective.preset={'x' * 9000}")) < 300
    assert len(refused("check", "digits-mlp", "--set", f"epochs={'[' * 3000}")) < 300
    assert len(refused("train", "digits-mlp", "--objective", f"one_hot:{'x' * 9000}")) < 400


def test_full_disk_is_seen_before_anything_is_written(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9, 1000))
    called = call("train", "digits-mlp", "--set", "epochs=1", "--out", "full")
    assert called.code == 2
    assert called.err.startswith("error: full: the disk has 0 MB left and the run needs about ")
    assert called.err.endswith("free some space or choose another folder with --out\n")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert call("evaluate", folder / "run").code == 0  # what needs no room needs none
