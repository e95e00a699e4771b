"""What is told of a data set: uneven labels, and pictures that stand in training and test."""

from __future__ import annotations

import numpy as np
import torch

from labelembed.data import RawData, Split, prepare, read_parquet
from labelembed.data.data_notes import balance_notes, overlap_notes, repeated_rows
from tests.made_data import made_colours, real_data_folder, write_picture_folder


def test_balance_is_told_above_three_to_one():
    names = ("a", "b", "c")
    assert balance_notes(torch.tensor([0, 0, 0, 1]), names[:2]) == []
    (note,) = balance_notes(torch.tensor([0, 0, 0, 0, 2, 1, 1]), names)
    assert note.startswith("unbalanced labels: a has 4 training rows, c has 1 (4.0 times as many)")
    assert balance_notes(torch.tensor([0, 0, 2]), names) == ["1 of 3 labels have no training row: b"]
    many = tuple(str(number) for number in range(20))
    (note,) = balance_notes(torch.zeros(1, dtype=torch.int64), many)
    assert note == "19 of 20 labels have no training row: 1, 2, 3, 4, 5 and 14 more"


def test_repeated_rows_are_the_same_in_every_byte():
    pictures = made_colours(6, size=4)
    pictures[3] = pictures[1]
    pictures[4, 0, 0, 0] ^= 1
    other = np.stack([pictures[5], pictures[1], pictures[1]])
    other[2, -1, -1, -1] ^= 1
    assert repeated_rows(pictures, other) == [(3, 1), (6, 5), (7, 1)]
    # another layout in memory, the same pictures
    assert repeated_rows(pictures, np.asfortranarray(other)) == [(3, 1), (6, 5), (7, 1)]


def test_overlap_counts_only_pairs_across_the_sets():
    labels = {"train_labels": torch.tensor([0, 0, 1]), "test_labels": torch.tensor([0, 1, 1])}
    found = overlap_notes([(1, 0), (3, 0), (5, 4)], name_of=lambda row: f"<{row}>", **labels)
    assert found == ["1 test picture stands in the training set too: <3> = <0>"]
    assert overlap_notes([(1, 0), (5, 4)], name_of=str, **labels) == []
    found = overlap_notes([(3, 0), (4, 1)], name_of=str, **labels)
    assert found == ["2 test pictures stand in the training set too, 1 of them with another label: 3 = 0, 4 = 1"]


def test_prepare_adds_to_what_the_reader_found():
    split = Split(torch.zeros(5, 2), torch.tensor([0, 0, 0, 0, 1]))
    raw = RawData(train=split, test=None, names=("a", "b"), input_range=(0, 1), source="s", notes=("found",))
    notes = prepare(raw, development=None).notes
    assert (notes[0], len(notes)) == ("found", 2)
    assert notes[1].startswith("unbalanced labels: a has 4")


def test_pictures_of_parquet_files_in_both_sets(tmp_path, monkeypatch):
    monkeypatch.setenv("LABELEMBED_CACHE", str(tmp_path / "cache"))
    train = made_colours(7)
    folder = write_picture_folder(tmp_path / "data", train=train, test=train[[6, 2]])
    calls: list[tuple[int, int]] = []
    raw = read_parquet(path=str(folder), progress=lambda done, total: calls.append((done, total)))
    assert calls == [(7, 7), (2, 2)]
    assert raw.notes == ("2 test pictures stand in the training set too, 1 of them with another label: "
                         "test 0 = train 6, test 1 = train 2",)  # fmt: skip


def test_cifar100_has_ten_pictures_in_both_sets():
    raw = read_parquet(path=str(real_data_folder("cifar100")), labels="fine_label")
    (note,) = raw.notes
    assert note.startswith("10 test pictures stand in the training set too, 6 of them with another label: ")
