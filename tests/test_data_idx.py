"""The idx format: every fault has its message, and nothing else is ever raised."""

import gzip
import re

import numpy as np
import pytest

from labelembed.data import read_idx
from labelembed.errors import DataError
from tests.made_data import idx_bytes, made_images, real_data_folder, write_idx

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
        (b"", "begins with an empty file"),
        (b"\x00\x00", "is no idx file.* begins with 00 00$"),
        (b"\x89PNG\r\n", "is no idx file.*89 50 4e 47"),
        (b"\x00\x00\x0a\x01" + bytes(8), "is no idx file.*00 00 0a 01"),
        (b"\x00\x00\x08\x00" + bytes(8), "is no idx file.*00 00 08 00"),
        (b"\x00\x00\x08\xff" + bytes(2000), "is no idx file.*00 00 08 ff"),
        (idx_bytes(SMALL)[:9], "or cut off within its header"),
        (idx_bytes(SMALL)[:-1], r"expected 24 bytes of values \(2 x 3 x 4 of uint8\), found 23; the file is cut off"),
        (idx_bytes(SMALL) + b"\n", "expected 24 bytes of values .* found 25; bytes follow the array"),
        (
            gzip.compress(idx_bytes(SMALL)[:-1]),
            r"expected 24 bytes of values \(2 x 3 x 4 of uint8\), found 23; the file is cut off",
        ),
        (gzip.compress(idx_bytes(SMALL) + b"\n"), "found 25; bytes follow the array"),
        (gzip.compress(idx_bytes(made_images(20)))[:-200], "the gzip is cut off or damaged"),
        (gzip.compress(b"no idx file"), "is no idx file"),
        (gzip.compress(b""), "begins with an empty file"),
    ],
    # Bytes with a time in them are no names: two test processes would name the tests differently.
    ids=range(14),
)
def test_read_idx_names_file_expected_and_found(tmp_path, content, expected):
    assert re.search(expected, file_fault(tmp_path, content))


def test_read_idx_damaged_gzip_is_found_by_its_check_sum(tmp_path):
    content = bytearray(gzip.compress(idx_bytes(SMALL)))
    content[-6] ^= 1  # inside the CRC-32
    assert "the gzip is cut off or damaged (CRC check failed" in file_fault(tmp_path, bytes(content))


def test_read_idx_missing_file_and_folder(tmp_path):
    with pytest.raises(DataError, match=r"nowhere: does not exist; expected an idx file"):
        read_idx(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"is a folder; expected an idx file"):
        read_idx(tmp_path)
    with pytest.raises(DataError, match=r"cannot be read|does not exist"):
        read_idx(tmp_path / ("x" * 5000))


def test_real_mnist_is_the_same_unpacked(tmp_path):
    packed = real_data_folder("mnist") / "t10k-images-idx3-ubyte.gz"
    unpacked = tmp_path / "images"
    unpacked.write_bytes(gzip.decompress(packed.read_bytes()))
    np.testing.assert_array_equal(read_idx(unpacked), read_idx(packed))
