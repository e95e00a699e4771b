"""The idx format and folders of it: every fault has its message, and nothing else is ever raised."""

import gzip
import re
import struct
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from labelembed.data import LabelledData, idx, prepare, read_idx, read_idx_folder, streams
from labelembed.errors import DataError
from tests.made_data import idx_bytes, made_images, real_data_folder, write_idx, write_idx_folder

SMALL = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "int32", "float32", "float64"])
def test_read_idx_returns_what_was_written(tmp_path, dtype, zipped):
    array = (np.arange(-12, 12).reshape(2, 3, 4) * 5).astype(dtype)
    # the name says nothing: the content does
    read = read_idx(write_idx(tmp_path / "any.name", array, zipped=zipped))
    assert read.dtype == np.dtype(dtype)
    assert read.dtype.isnative
    np.testing.assert_array_equal(read, array)


def file_fault(tmp_path, content: bytes) -> str:
    path = tmp_path / "images-idx3-ubyte"
    path.write_bytes(content)
    with pytest.raises(DataError) as raised:
        read_idx(path)
    message = str(raised.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "found an empty file"),
        (b"\x00\x00", "expected an idx file, whose first bytes are 00 00.*found 00 00$"),
        (b"\x89PNG\r\n", "expected an idx file.*found 89 50 4e 47"),
        (b"\x00\x00\x0a\x01" + bytes(8), "expected an idx file.*found 00 00 0a 01"),
        (b"\x00\x00\x08\x00" + bytes(8), "1 to 8 dimensions; found 00 00 08 00"),
        (b"\x00\x00\x08\xff" + bytes(2000), "1 to 8 dimensions; found 00 00 08 ff"),
        (idx_bytes(SMALL)[:9], "expected a header of 16 bytes for 3 dimensions, found 9; the file is cut off"),
        (idx_bytes(SMALL)[:-1], r"expected 24 bytes of values \(2 x 3 x 4 of uint8\), found 23; the file is cut off"),
        (idx_bytes(SMALL) + b"\n", "expected 24 bytes of values .* found more; bytes follow the array"),
        (
            gzip.compress(idx_bytes(SMALL)[:-1]),
            r"expected 24 bytes of values \(2 x 3 x 4 of uint8\), found 23; the file is cut off",
        ),
        (gzip.compress(idx_bytes(SMALL) + b"\n"), "found more; bytes follow the array"),
        (gzip.compress(idx_bytes(made_images(20)))[:-200], "the gzip stream ends before its end mark.*cut off"),
        (gzip.compress(b"no idx file"), "expected an idx file"),
        (gzip.compress(b""), "found an empty file"),
    ],
)
def test_read_idx_names_file_expected_and_found(tmp_path, content, expected):
    assert re.search(expected, file_fault(tmp_path, content))


def test_read_idx_damaged_gzip_is_found_by_its_check_sum(tmp_path):
    content = bytearray(gzip.compress(idx_bytes(SMALL)))
    content[-6] ^= 1  # inside the CRC-32
    assert "damaged gzip (CRC check failed" in file_fault(tmp_path, bytes(content))


def test_read_idx_missing_file_and_folder(tmp_path):
    with pytest.raises(DataError, match=r"nowhere: does not exist; expected an idx file"):
        read_idx(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"is a folder; expected an idx file"):
        read_idx(tmp_path)
    with pytest.raises(DataError, match=r"cannot be read|does not exist"):
        read_idx(tmp_path / ("x" * 5000))


HUGE_HEADER = struct.pack(">BBBBIII", 0, 0, 8, 3, 2**32 - 1, 2**16, 2**16)


@pytest.mark.parametrize("zipped", [False, True])
def test_read_idx_does_not_believe_a_huge_header(tmp_path, zipped, monkeypatch):
    limits = []
    unwatched = streams.read_at_most
    monkeypatch.setattr(idx, "read_at_most", lambda stream, limit: limits.append(limit) or unwatched(stream, limit))
    content = HUGE_HEADER + bytes(100)
    message = file_fault(tmp_path, gzip.compress(content) if zipped else content)
    assert "4,294,967,295 x 65,536 x 65,536" in message
    assert "the file is cut off or its header is wrong" in message
    assert limits == [4, 12]  # the magic number and three sizes, no value


def test_read_idx_zero_does_not_hide_a_huge_dimension(tmp_path):
    content = struct.pack(">BBBBIIII", 0, 0, 8, 4, 0, 2**32 - 1, 2**32 - 1, 2**32 - 1)
    assert "the limit is 8 GiB" in file_fault(tmp_path, content)


def test_read_idx_stops_unpacking_a_bomb_after_the_declared_length(tmp_path, monkeypatch):
    # 64 MiB of zeros behind a header that declares 4 bytes
    bomb = gzip.compress(struct.pack(">BBBBI", 0, 0, 8, 1, 4) + bytes(2**26))
    pieces = []
    unwatched = gzip.GzipFile.read
    monkeypatch.setattr(gzip.GzipFile, "read", lambda self, size: pieces.append(size) or unwatched(self, size))
    assert "found more; bytes follow the array" in file_fault(tmp_path, bomb)
    assert sum(pieces) == 4 + 4 + 5  # magic, one size, the declared length and one byte


def test_read_idx_limit_holds_for_a_bomb_that_declares_its_size(tmp_path, monkeypatch):
    monkeypatch.setattr(streams, "MAXIMUM_BYTES", 1000)
    bomb = gzip.compress(struct.pack(">BBBBI", 0, 0, 8, 1, 5000) + bytes(5000))
    assert "its header declares 5,000 values of 1 bytes; the limit is" in file_fault(tmp_path, bomb)


def reads_or_refuses(content: bytes) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        path.write_bytes(content)
        try:
            array = read_idx(path)
        except DataError:
            return False
        assert isinstance(array, np.ndarray)
        return True


CONTENTS = [idx_bytes(SMALL), gzip.compress(idx_bytes(SMALL), mtime=0), idx_bytes(SMALL.astype(np.float64))]


@settings(max_examples=150, deadline=None)
@given(content=st.sampled_from(CONTENTS), data=st.data())
def test_read_idx_truncation_is_always_refused(content, data):
    assert not reads_or_refuses(content[: data.draw(st.integers(0, len(content) - 1))])


@settings(max_examples=300, deadline=None)
@given(
    content=st.sampled_from(CONTENTS),
    changes=st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 255)), min_size=1, max_size=4),
)
def test_read_idx_changed_bytes_give_an_array_or_data_error(content, changes):
    changed = bytearray(content)
    for place, value in changes:
        # half of the changes hit the header
        changed[place % (len(content) if place % 2 else 20)] = value
    reads_or_refuses(bytes(changed))


# ---- folders


@pytest.mark.parametrize("dotted", [False, True])
@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("test_word", ["t10k", "test"])
def test_read_idx_folder_finds_every_spelling(tmp_path, zipped, dotted, test_word):
    folder = write_idx_folder(tmp_path, zipped=zipped, dotted=dotted, test_word=test_word)
    raw = read_idx_folder(path=str(folder))
    assert raw.train.inputs.shape == (30, 1, 4, 5)
    assert raw.train.inputs.dtype == torch.uint8
    np.testing.assert_array_equal(raw.train.inputs[:, 0].numpy(), made_images(30))
    np.testing.assert_array_equal(raw.test.inputs[:, 0].numpy(), made_images(10, seed=1))
    assert raw.train.labels.tolist() == [row % 10 for row in range(30)]
    assert raw.test.labels.tolist() == list(range(10))
    assert raw.names == tuple("0123456789")
    assert raw.input_range == (0.0, 255.0)
    assert str(folder) in raw.source


def test_read_idx_folder_prefix_and_labels_from_one(tmp_path):
    labels = {"train_labels": np.arange(30, dtype=np.uint8) % 26 + 1, "test_labels": np.arange(10, dtype=np.uint8) + 17}
    write_idx_folder(tmp_path, prefix="emnist-letters-", test_word="test", **labels)
    raw = read_idx_folder(path=str(tmp_path))
    assert raw.names == tuple(str(value) for value in range(1, 27))
    assert raw.train.labels.min() == 0
    assert raw.test.labels.tolist() == list(range(16, 26))
    # a second set makes the folder ambiguous until one is chosen
    write_idx_folder(tmp_path, prefix="emnist-digits-", test_word="test")
    with pytest.raises(
        DataError, match=r"holds 2 data sets; choose one by `prefix`: 'emnist-digits', 'emnist-letters'"
    ):
        read_idx_folder(path=str(tmp_path))
    assert len(read_idx_folder(path=str(tmp_path), prefix="emnist-digits").names) == 10
    with pytest.raises(DataError, match=r"unknown prefix 'emnist-leters' \(did you mean 'emnist-letters'\?\)"):
        read_idx_folder(path=str(tmp_path), prefix="emnist-leters")


def test_read_idx_folder_gaps_in_label_values_are_closed(tmp_path):
    train = np.array([3, 9, 5] * 10, dtype=np.uint8)
    test = np.array([9, 5, 3, 3, 3, 3, 3, 3, 3, 3], dtype=np.uint8)
    raw = read_idx_folder(path=str(write_idx_folder(tmp_path, train_labels=train, test_labels=test)))
    assert raw.names == ("3", "5", "9")
    assert raw.train.labels[:3].tolist() == [0, 2, 1]
    assert raw.test.labels[:3].tolist() == [2, 1, 0]


def test_read_idx_folder_fashion_names(tmp_path):
    for folder in ("fashion_mnist", "FashionMNIST/raw"):
        names = read_idx_folder(path=str(write_idx_folder(tmp_path / folder))).names
        assert (names[0], names[9], len(names)) == ("T-shirt/top", "Ankle boot", 10)
    plain = write_idx_folder(tmp_path / "plain")
    assert read_idx_folder(path=str(plain)).names[0] == "0"
    # nine labels are not Fashion-MNIST's ten
    nine = np.arange(30, dtype=np.uint8) % 9
    other = write_idx_folder(tmp_path / "fashion9", train_labels=nine, test_labels=nine[:10])
    assert read_idx_folder(path=str(other)).names[0] == "0"


def test_read_idx_folder_names_of_the_user(tmp_path):
    folder = str(write_idx_folder(tmp_path / "fashion"))
    names = [f"label {digit}" for digit in range(10)]
    assert read_idx_folder(path=folder, names=names).names == tuple(names)
    with pytest.raises(DataError, match="expected 10 names, one for each label found in training, got 9"):
        read_idx_folder(path=folder, names=names[:9])
    with pytest.raises(DataError, match="labels 0 and 9 have the same name 'label 0'"):
        read_idx_folder(path=folder, names=[*names[:9], "label 0"])
    with pytest.raises(DataError, match="the name of label 3 is empty"):
        read_idx_folder(path=folder, names=[*names[:3], " ", *names[4:]])


def folder_fault(folder: Path) -> str:
    with pytest.raises(DataError) as raised:
        read_idx_folder(path=str(folder))
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_read_idx_folder_wrong_path(tmp_path):
    assert folder_fault(tmp_path / "nowhere") == (
        f"{tmp_path / 'nowhere'}: does not exist; expected a folder with four idx files"
    )
    file = write_idx(tmp_path / "train-images-idx3-ubyte", SMALL)
    assert folder_fault(file) == f"{file}: is a file; expected the folder that holds the four idx files"


def test_read_idx_folder_lists_what_is_missing_and_what_it_saw(tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    message = folder_fault(empty)
    assert "missing train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images" in message
    assert message.endswith("it is empty")
    folder = write_idx_folder(tmp_path / "part")
    (folder / "t10k-labels-idx1-ubyte").rename(folder / "a.bin")
    for name in ("b.bin", "c.bin", "d.bin"):
        (folder / name).touch()
    (folder / "raw").mkdir()
    message = folder_fault(folder)
    assert "missing t10k-labels-idx1-ubyte (each may end in .gz); it holds a.bin, b.bin, c.bin, d.bin, raw/" in message
    assert message.endswith("and 3 more")


@pytest.mark.parametrize(
    ("changes", "file", "expected"),
    [
        (
            {"train_labels": np.zeros(29, np.uint8)},
            "train-labels-idx1-ubyte",
            "expected a label for each of the 30 images of train-images-idx3-ubyte, found 29 labels",
        ),
        (
            {"test_labels": np.array([1, 2, 3, 77, 4, 5, 6, 7, 8, 9], np.uint8)},
            "t10k-labels-idx1-ubyte",
            "row 3 has the label 77, which no training row has; the training set has 0, 1, 2, 3, 4, 5, 6, 7, 8, 9",
        ),
        (
            {"train_labels": np.array([0] * 8 + [-1] + [1] * 21, np.int8)},
            "train-labels-idx1-ubyte",
            "row 8 has the label -1; expected 0 or more",
        ),
        (
            {"train_labels": np.zeros(30, np.float32)},
            "train-labels-idx1-ubyte",
            "expected labels of 1 dimension of whole numbers, found 1 of float32",
        ),
        (
            {"train_labels": np.zeros((30, 1), np.uint8)},
            "train-labels-idx1-ubyte",
            "expected labels of 1 dimension of whole numbers, found 2 of uint8",
        ),
        (
            {"train_images": np.zeros((30, 20), np.uint8)},
            "train-images-idx3-ubyte",
            "expected images of 3 dimensions (number, height, width) of uint8, found 2 of uint8",
        ),
        (
            {"test_images": np.zeros((10, 4, 5), np.float32)},
            "t10k-images-idx3-ubyte",
            "of uint8, found 3 of float32",
        ),
        (
            {"test_images": np.zeros((10, 5, 4), np.uint8)},
            "t10k-images-idx3-ubyte",
            "expected images of 4 x 5 as in the training set, found 5 x 4",
        ),
        (
            {"test_images": np.zeros((0, 4, 5), np.uint8), "test_labels": np.zeros(0, np.uint8)},
            "t10k-images-idx3-ubyte",
            "expected at least one image, found 0 x 4 x 5 pixels",
        ),
        (
            {"train_images": np.zeros((30, 0, 5), np.uint8)},
            "train-images-idx3-ubyte",
            "expected at least one image, found 30 x 0 x 5 pixels",
        ),
    ],
)
def test_read_idx_folder_names_file_row_and_expectation(tmp_path, changes, file, expected):
    assert folder_fault(write_idx_folder(tmp_path, **changes)) == f"{tmp_path / file}: {expected}"


def test_read_idx_folder_damaged_member_is_named(tmp_path):
    folder = write_idx_folder(tmp_path, zipped=True)
    damaged = folder / "t10k-images-idx3-ubyte.gz"
    damaged.write_bytes(damaged.read_bytes()[:60])
    assert folder_fault(folder).startswith(f"{damaged}: the gzip stream ends before its end mark, 60 bytes into")


def test_read_idx_folder_one_class_only_is_allowed(tmp_path):
    labels = {"train_labels": np.full(30, 4, np.uint8), "test_labels": np.full(10, 4, np.uint8)}
    raw = read_idx_folder(path=str(write_idx_folder(tmp_path, **labels)))
    assert raw.names == ("4",)
    assert raw.train.labels.tolist() == [0] * 30


# ---- the real files


@pytest.fixture(scope="module")
def mnist() -> LabelledData:
    return prepare(read_idx_folder(path=str(real_data_folder("mnist"))), development=None)


def test_real_mnist_has_its_published_numbers(mnist):
    assert (len(mnist.train), len(mnist.test), mnist.input_shape) == (60_000, 10_000, (1, 28, 28))
    assert mnist.names == tuple("0123456789")
    assert torch.bincount(mnist.test.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    mean, deviation = mnist.input_statistics()
    # published to four places, of pixels scaled to [0, 1]
    assert (mean / 255).tolist() == pytest.approx([0.1307], abs=5e-5)
    assert (deviation / 255).tolist() == pytest.approx([0.3081], abs=5e-5)


def test_real_mnist_is_the_same_unpacked(tmp_path):
    packed = real_data_folder("mnist") / "t10k-images-idx3-ubyte.gz"
    unpacked = tmp_path / "images"
    unpacked.write_bytes(gzip.decompress(packed.read_bytes()))
    np.testing.assert_array_equal(read_idx(unpacked), read_idx(packed))
