"""What an objective remembers against the memory and the disk: told or refused before the first step."""

from __future__ import annotations

import json

import pytest
import torch

from labelembed.errors import RecipeError
from labelembed.objectives import OBJECTIVES
from labelembed.recipes import memory
from labelembed.recipes.building import network_for
from labelembed.recipes.memory import memory_notes, remembered_bytes
from labelembed.training.files import make_writable_folder
from labelembed.training.run_folder import RunFolder
from tests.made_cli import call
from tests.made_training import cached_data, no_flush, one_thread, small_recipe, stop_after, train  # noqa: F401

pytestmark = pytest.mark.usefixtures("no_flush", "one_thread")
ROWS, LABELS = 190, 10


@pytest.mark.parametrize(
    ("objective", "expected"),
    [
        ({"name": "one_hot"}, 0),
        ({"name": "label_embedding"}, 0),  # which looks to its own
        ({"name": "adaptive_labels", "label_dimension": 7}, 4 * LABELS * 7),
        # The distributions, which label each row has, and the count of storings.
        ({"name": "retrospection"}, ROWS * LABELS * 2 + ROWS * 4 + 8),
        ({"name": "retrospection", "top_k": 3}, ROWS * 3 * 4 + ROWS * 4 + 8),
        ({"name": "retrospection", "storage": "disk"}, ROWS * 4 + 8),
        ({"name": "online_label_smoothing"}, LABELS**2 * 4 + LABELS * 8),
        ({"name": "online_label_smoothing", "preset": "published", "top_k": 3}, 2 * LABELS * (3 * 8 + 8)),
        ({"name": "distillation", "teacher": "anywhere"}, ROWS * LABELS * 4),
        ({"name": "distillation", "teacher": "anywhere", "top_k": 3}, 0),
    ],
)
def test_bytes_are_those_of_what_is_remembered(objective, expected):
    recipe = small_recipe(objective=objective)
    assert remembered_bytes(recipe, cached_data(recipe)) == expected


@pytest.mark.parametrize("name", ["retrospection", "online_label_smoothing"])
def test_bytes_are_those_of_the_buffers_that_are_made(name):
    recipe = small_recipe(objective={"name": name, "top_k": 4}, epochs=6)
    data = cached_data(recipe)
    buffers = network_for(recipe, data).objective.buffers()
    assert remembered_bytes(recipe, data) == sum(buffer.numel() * buffer.element_size() for buffer in buffers)


def test_every_objective_that_stores_by_entries_is_counted():
    from labelembed.recipes.signature import keys_of

    assert {name for name, kind in OBJECTIVES.items() if "top_k" in keys_of(kind)} == {
        "retrospection",
        "online_label_smoothing",
        "distillation",
    }


def test_store_that_does_not_fit_is_refused_with_sizes_and_ways_out(tmp_path, monkeypatch):
    recipe = small_recipe(objective={"name": "retrospection", "store": "steps", "store_every": 1}, epochs=2)
    needed = remembered_bytes(recipe, cached_data(recipe))
    monkeypatch.setattr(memory, "machine_bytes", lambda: needed)
    assert len(memory_notes(recipe, cached_data(recipe))) == 1  # it just fits
    monkeypatch.setattr(memory, "machine_bytes", lambda: needed - 1)
    with pytest.raises(RecipeError) as caught:
        train(recipe, tmp_path / "run")
    assert caught.value.faults == [
        "objective.name: 'retrospection' takes 0.0 MB for 190 training rows and 10 labels, the memory is 0.0 MB; less: "
        "a small objective.top_k or objective.storage=disk with store=pass"
    ]
    assert not (tmp_path / "run").exists()
    train(on_disk(epochs=2), tmp_path / "run")
    for block, way_out in (
        ({"name": "online_label_smoothing", "top_k": 9, "preset": "published"}, "an objective.top_k below 9"),
        ({"name": "online_label_smoothing"}, "a small objective.top_k"),
    ):
        monkeypatch.setattr(memory, "machine_bytes", lambda: 100)
        with pytest.raises(RecipeError, match=rf"for 10 labels, .*; less: {way_out}$"):
            network_for(small_recipe(objective=block), cached_data(recipe), to_try=True)


def test_sizes_of_a_large_corpus_are_told_in_gigabytes(monkeypatch):
    # 2.4 million sentences: 40 million tokens; 32 entries of 6 bytes each.
    recipe = small_recipe(objective={"name": "retrospection"})
    data = cached_data(recipe)

    class Large:
        num_labels = 40_000
        train = type("Rows", (), {"num_rows": 40_000_000})

    monkeypatch.setattr(memory, "machine_bytes", lambda: 16_000_000_000)
    assert memory_notes(recipe, data) == []
    assert memory_notes(recipe, Large()) == [
        "memory: retrospection takes 7.8 GB for 40,000,000 training rows and 40,000 labels, and up to 23.5 GB while a "
        "checkpoint is saved; the memory is 16.0 GB; less: a small objective.top_k or objective.storage=disk"
    ]
    monkeypatch.setattr(memory, "machine_bytes", lambda: 4_000_000_000)
    with pytest.raises(RecipeError, match=r"takes 7\.8 GB for 40,000,000 training rows .* the memory is 4\.0 GB"):
        memory_notes(recipe, Large())


def test_check_and_train_print_the_note(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(memory, "machine_bytes", lambda: 30_000)
    words = ["digits-mlp", "--set", "objective=retrospection"]  # 1,146 rows: 27,512 bytes
    found = call("check", *words)
    assert found.code == 0, found.err
    assert "  note        memory: retrospection takes 0.0 MB for 1,146 training rows and 10 labels" in found.out
    assert json.loads(call("check", *words, "--json").out)["notes"][-1].startswith("memory: retrospection takes")
    found = call("train", *words, "--set", "epochs=6", "--quiet", "--out", "run")
    assert found.code == 0, found.err
    assert "memory: retrospection takes" in found.err
    monkeypatch.setattr(memory, "machine_bytes", lambda: 20_000)
    for verb in ("check", "train"):
        found = call(verb, *words)
        assert found.code == 2
        assert "objective.storage=disk" in found.err
        assert len(found.err.splitlines()) <= 10


# ------------------------------------------------------------------------------------------ soft labels on the disk


def on_disk(**changes):
    return small_recipe(objective={"name": "retrospection", "store_every": 1, "storage": "disk"}, **changes)


def size_of(folder):
    return sum(path.stat().st_size for path in folder.iterdir()) if folder.exists() else 0


def test_soft_labels_are_there_while_a_run_can_go_on_and_gone_when_it_has_finished(tmp_path):
    stop_after(on_disk(), tmp_path / "run", 12)
    assert size_of(tmp_path / "run" / "soft_labels") == 2 * ROWS * LABELS * 2
    train(on_disk(), tmp_path / "run")
    train(on_disk(), tmp_path / "unbroken")
    assert not (tmp_path / "run" / "soft_labels").exists()
    models = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("run", "unbroken")]
    assert models[0] == models[1]


def test_soft_labels_go_only_after_the_result_is_written(tmp_path, monkeypatch):
    """A kill just before the result: the run goes on from its last checkpoint, which speaks of the files."""
    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "write_result", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            train(on_disk(), tmp_path / "run")
    assert RunFolder(tmp_path / "run").state() == "unfinished"
    assert size_of(tmp_path / "run" / "soft_labels") > 0
    with monkeypatch.context() as patch:  # and one just after it
        patch.setattr("labelembed.recipes.finishing.forget_soft_labels", lambda *_: None)
        train(on_disk(), tmp_path / "run")
    assert size_of(tmp_path / "run" / "soft_labels") > 0
    train(on_disk(), tmp_path / "run")
    assert not (tmp_path / "run" / "soft_labels").exists()


@pytest.mark.parametrize(("epochs", "pairs"), [(2, 2), (3, 3), (5, 3)])
def test_room_for_soft_labels_is_asked_for(epochs, pairs, tmp_path, monkeypatch):
    asked, largest = [], 0

    def room(path, *, needed_bytes):
        asked.append(needed_bytes)
        make_writable_folder(path)

    def watch(store, generation, *, new):
        nonlocal largest
        found = mapped(store, generation, new=new)
        largest = max(largest, size_of(store.folder))
        return found

    from labelembed.objectives.soft_label_store import SoftLabelStore

    mapped = SoftLabelStore._mapped
    monkeypatch.setattr(SoftLabelStore, "_mapped", watch)
    monkeypatch.setattr("labelembed.recipes.beginning.make_writable_folder", room)
    train(on_disk(epochs=epochs), tmp_path / "disk")
    with monkeypatch.context() as patch:
        patch.setattr(OBJECTIVES["retrospection"], "folder_bytes", lambda self, epochs: 0)
        train(on_disk(epochs=epochs), tmp_path / "unasked")
    assert asked[0] - asked[1] == largest == pairs * ROWS * LABELS * 2


def test_meta_objects_leave_no_trace_on_the_random_state():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    recipe = small_recipe(objective={"name": "retrospection"})
    remembered_bytes(recipe, cached_data(recipe))
    assert torch.equal(torch.rand(2), expected)
