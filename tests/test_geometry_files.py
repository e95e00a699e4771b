"""Label geometries: what is refused, what a file keeps, and files that are damaged or something else."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from labelembed.errors import DataError
from labelembed.geometry import LabelGeometry

ODD_NAMES = ("<script>alert(1)</script>", "", "🐈 cat", 'Ärger\n\t"quoted"', "犬", "a" * 1000, "null", "0", " ", "\x00")
ABOUT = {
    "format": "labelembed.label_geometry",
    "version": "1",
    "names": '["a", "b"]',
    "metric": "euclidean",
    "source": "",
}


def write(path, tensors, **changes):
    about = {key: value for key, value in (ABOUT | changes).items() if value is not None}
    save_file(tensors, path, metadata=about)
    return path


def assert_refused(path, *words):
    with pytest.raises(DataError) as caught:
        LabelGeometry.load(path)
    for word in (str(path), *words):
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "exactly one of `vectors` and `similarities`"),
        ({"vectors": torch.zeros(2, 3), "similarities": torch.zeros(2, 2)}, "exactly one of"),
        ({"vectors": torch.zeros(3, 2)}, r"2 names need a table \[2, ...\], got \[3, 2\]"),
        ({"vectors": torch.zeros(2)}, r"2 names need a table \[2, ...\], got \[2\]"),
        ({"similarities": torch.zeros(2, 3)}, r"`similarities` must be square, got \[2, 3\]"),
        ({"vectors": torch.zeros(2, 3), "metric": "cosin"}, "`metric` must be 'euclidean' or 'cosine', got 'cosin'"),
        ({"vectors": torch.tensor([[0.0], [float("nan")]])}, "label 'dog' holds a value that is not finite"),
        ({"similarities": torch.tensor([[float("inf"), 0], [0, 0]])}, "label 'cat' holds a value that is not finite"),
    ],
)
def test_tables_that_do_not_fit_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        LabelGeometry(("cat", "dog"), **arguments)


@pytest.mark.parametrize("names", [("cat", "dog", "cat"), (1, "x", "1"), ("", "a", "")])
def test_two_labels_of_one_name_are_refused(names):
    with pytest.raises(ValueError, match=f"the name {str(names[0])!r} stands for more than one label"):
        LabelGeometry(names, vectors=torch.zeros(3, 1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", ["vectors", "similarities"])
def test_a_file_keeps_everything_bit_for_bit(tmp_path, kind, dtype):
    count = len(ODD_NAMES)
    table = torch.randn(count, count, generator=torch.Generator().manual_seed(0)).to(dtype).T  # a view
    saved = LabelGeometry(ODD_NAMES, **{kind: table}, metric="cosine", source='LabelEmbedding "ü" 🐈')
    path = saved.save(tmp_path / "geometry of labels 🐈.safetensors")
    loaded = LabelGeometry.load(path)
    assert (loaded.names, loaded.metric, loaded.source) == (ODD_NAMES, saved.metric, saved.source)
    assert getattr(loaded, kind).dtype == dtype
    assert torch.equal(getattr(loaded, kind), table)
    assert len({saved.to_bytes() for _ in range(20)}) == 1  # safetensors writes the metadata in any order


def test_files_of_earlier_versions_have_no_metric(tmp_path):
    path = write(tmp_path / "old.safetensors", {"vectors": torch.eye(2)}, metric=None)
    assert LabelGeometry.load(path).metric == "euclidean"


def test_missing_files_and_folders_and_files_cut_at_any_length_are_refused(tmp_path):
    assert_refused(tmp_path / "absent.safetensors", "no such file")
    assert_refused(tmp_path, "no such file")
    whole = LabelGeometry(("a", "b"), vectors=torch.ones(2, 3), source="test").to_bytes()
    path = tmp_path / "cut.safetensors"
    for length in range(0, len(whole), 5):
        path.write_bytes(whole[:length])
        assert_refused(path)
    path.write_bytes(whole)
    assert LabelGeometry.load(path).names == ("a", "b")


CHANGED = [
    *({"format": value} for value in (None, "something.else")),
    *({"version": value} for value in (None, "one")),
    *({"names": value} for value in ("no JSON", "[" * 100_000, '["a"]', '["a", ["b"]]')),
    {"metric": "manhattan"},
]
TENSORS = [
    {},
    {"vectors": torch.zeros(2, 3), "bias": torch.zeros(2)},
    {"similarities": torch.zeros(2, 3)},
    {"vectors": torch.zeros(3, 2)},
    {"vectors": torch.tensor(1.0)},
    {"vectors": torch.full((2, 2), float("nan"))},
]


def test_other_files_are_refused_and_called_what_they_are(tmp_path):
    for changes in CHANGED:
        assert_refused(write(tmp_path / "wrong.safetensors", {"vectors": torch.ones(2, 3)}, **changes))
    for tensors in TENSORS:
        assert_refused(write(tmp_path / "other.safetensors", tensors))
    save_file({"encoder.weight": torch.zeros(2, 3)}, tmp_path / "model.safetensors")
    assert_refused(tmp_path / "model.safetensors", "not a label geometry", "encoder.weight")
    path = write(tmp_path / "newer.safetensors", {"vectors": torch.ones(2, 3)}, version="2")
    assert_refused(path, "newer labelembed (format 2)", "update")
    torch.save({"vectors": torch.zeros(2, 2)}, tmp_path / "torch.pt")
    assert_refused(tmp_path / "torch.pt")
