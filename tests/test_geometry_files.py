"""Label geometries: what is refused, what a file keeps, and files that are damaged or something else."""

from __future__ import annotations

import contextlib
import pickle
import struct

import hypothesis
import pytest
import torch
from hypothesis import strategies
from safetensors.torch import save, save_file

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
relaxed = hypothesis.settings(
    deadline=None,  # the first example also pays for what is loaded lazily
    max_examples=60,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],  # each example writes the file anew
)


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
    table = torch.randn(count, count, generator=torch.Generator().manual_seed(0)).to(dtype)
    saved = LabelGeometry(ODD_NAMES, **{kind: table}, metric="cosine", source='LabelEmbedding "ü" 🐈')
    path = saved.save(tmp_path / "geometry of labels 🐈.safetensors")
    loaded = LabelGeometry.load(path)
    assert loaded.names == ODD_NAMES
    assert (loaded.metric, loaded.source) == (saved.metric, saved.source)
    assert getattr(loaded, kind).dtype == dtype
    assert torch.equal(getattr(loaded, kind), table)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]  # nothing temporary stays


@relaxed
@hypothesis.given(names=strategies.lists(strategies.text(), min_size=1, max_size=5, unique=True))
def test_a_file_keeps_any_names(tmp_path, names):
    path = tmp_path / "geometry.safetensors"
    LabelGeometry(names, vectors=torch.zeros(len(names), 2)).save(path)
    assert LabelGeometry.load(path).names == tuple(names)


def test_a_table_that_is_a_view_is_saved_as_it_reads(tmp_path):
    table = torch.arange(6.0).view(2, 3).T
    path = LabelGeometry(("a", "b", "c"), vectors=table).save(tmp_path / "view.safetensors")
    assert torch.equal(LabelGeometry.load(path).vectors, table)


def test_equal_geometries_are_equal_files():
    geometry = LabelGeometry(('a "quoted"', "ß"), vectors=torch.arange(6.0).reshape(2, 3), source="test")
    assert len({geometry.to_bytes() for _ in range(20)}) == 1  # the library writes the metadata in any order


def test_missing_file_and_folder_are_refused_with_the_path(tmp_path):
    assert_refused(tmp_path / "absent.safetensors", "no such file")
    assert_refused(tmp_path, "no such file")


def test_file_cut_at_any_length_is_refused(tmp_path):
    whole = LabelGeometry(("a", "b"), vectors=torch.ones(2, 3), source="test").to_bytes()
    path = tmp_path / "cut.safetensors"
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        assert_refused(path)
    path.write_bytes(whole)
    assert LabelGeometry.load(path).names == ("a", "b")


@relaxed
@hypothesis.given(
    header=strategies.text(alphabet='{}[]":,0123456789atdshpeFoNm_-. \\', max_size=60), rest=strategies.binary()
)
def test_a_random_header_of_the_right_length_is_refused(tmp_path, header, rest):
    path = tmp_path / "header.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header.encode() + rest)
    assert_refused(path)


@relaxed
@hypothesis.given(position=strategies.integers(min_value=0), value=strategies.integers(0, 255))
def test_one_wrong_byte_is_refused_or_gives_a_geometry(tmp_path, position, value):
    content = bytearray(LabelGeometry(("a", "b"), vectors=torch.ones(2, 3)).to_bytes())
    content[position % len(content)] = value
    path = tmp_path / "byte.safetensors"
    path.write_bytes(content)
    with contextlib.suppress(DataError):  # any other exception fails
        loaded = LabelGeometry.load(path)
        assert loaded.vectors.shape == (2, 3)
        assert len(set(loaded.names)) == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"format": None},
        {"format": "something.else"},
        {"version": None},
        {"version": "one"},
        {"version": "1.5"},
        {"version": ""},
        {"names": None},
        {"names": "no JSON"},
        {"names": "5"},
        {"names": "null"},
        {"names": "[" * 100_000},
        {"names": '["a"]'},
        {"names": '["a", "a"]'},
        {"names": '["a", "b", "c"]'},
        {"names": '"ab"'},
        {"names": '{"a": 0, "b": 1}'},
        {"names": '["a", ["b"]]'},
        {"metric": "manhattan"},
    ],
)
def test_wrong_metadata_is_refused(tmp_path, changes):
    write(tmp_path / "good.safetensors", {"vectors": torch.ones(2, 3)})
    assert LabelGeometry.load(tmp_path / "good.safetensors").names == ("a", "b")
    assert_refused(write(tmp_path / "wrong.safetensors", {"vectors": torch.ones(2, 3)}, **changes))


@pytest.mark.parametrize(
    "tensors",
    [
        {},
        {"encoder.weight": torch.zeros(2, 3)},
        {"vectors": torch.zeros(2, 3), "bias": torch.zeros(2)},
        {"vectors": torch.zeros(2, 3), "similarities": torch.zeros(2, 2)},
        {"similarities": torch.zeros(2, 3)},
        {"vectors": torch.zeros(3, 2)},
        {"vectors": torch.zeros(2)},
        {"vectors": torch.tensor(1.0)},
        {"vectors": torch.full((2, 2), float("nan"))},
    ],
)
def test_other_tensors_are_refused(tmp_path, tensors):
    assert_refused(write(tmp_path / "other.safetensors", tensors))


def test_a_safetensors_file_of_something_else_is_called_that(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(save({"encoder.weight": torch.zeros(2, 3)}))
    assert_refused(path, "not a label geometry", "encoder.weight")


def test_a_newer_format_asks_for_a_newer_program(tmp_path):
    path = write(tmp_path / "newer.safetensors", {"vectors": torch.ones(2, 3)}, version="2")
    assert_refused(path, "newer labelembed (format 2)", "update")


class Trap:
    """Would leave a file behind, were it unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


def test_pickled_files_are_refused_and_never_opened(tmp_path):
    sprung = tmp_path / "sprung"
    torch.save({"vectors": torch.zeros(2, 2)}, tmp_path / "torch.pt")
    torch.save(Trap(str(sprung)), tmp_path / "trap.pt")
    (tmp_path / "trap.pickle").write_bytes(pickle.dumps(Trap(str(sprung))))
    for name in ("torch.pt", "trap.pt", "trap.pickle"):
        assert_refused(tmp_path / name)
    assert not sprung.exists()
