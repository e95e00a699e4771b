"""Arrays kept between runs: found by what they were made from, made anew when anything is wrong with them."""

from __future__ import annotations

import json

import numpy as np
import pytest

from labelembed.lab.data import cache
from labelembed.lab.data.cache import cached_array, cached_file


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("LABELEMBED_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


class Making:
    """Makes an array and counts how often."""

    def __init__(self):
        self.array = np.arange(12, dtype=np.float32).reshape(3, 4)
        self.times = 0

    def __call__(self):
        self.times += 1
        return self.array.copy()


def test_an_array_is_made_once_for_each_key_and_may_be_changed_in_memory(folder):
    making = Making()
    for _ in range(3):
        found = cached_array({"files": ["a"], "version": 1}, making)
        np.testing.assert_array_equal(found, making.array)
        found[0] = 7
        assert (found.dtype, found.flags.writeable) == (np.float32, True)
    assert making.times == 1
    cached_array({"version": 1, "files": ["a"]}, making)  # the order of the keys says nothing
    assert making.times == 1
    cached_array({"files": ["a"], "version": 2}, making)
    cached_array({"files": ["b"], "version": 1}, making)
    assert making.times == 3
    about = [json.loads(file.read_text())["cache_key"] for file in folder.glob("*.json")]
    assert {"files": ["b"], "version": 1} in about


def test_default_place_is_in_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("LABELEMBED_CACHE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache.cache_folder() == tmp_path / ".cache" / "labelembed"


DAMAGES = {"cut": lambda content: content[:-1], "empty": lambda content: b"", "junk": lambda content: b"junk"}


@pytest.mark.parametrize("suffix", [".npy", ".json"])
@pytest.mark.parametrize("what", [*DAMAGES, "gone"])
def test_a_damaged_cache_is_made_anew(folder, suffix, what):
    making = Making()
    cached_array({}, making)
    (file,) = folder.glob(f"*{suffix}")
    if what == "gone":
        file.unlink()
    else:
        file.write_bytes(DAMAGES[what](file.read_bytes()))
    for _ in range(2):
        np.testing.assert_array_equal(cached_array({}, making), making.array)
    assert making.times == 2
    assert sorted(entry.suffix for entry in folder.iterdir()) == [".json", ".npy"]


def test_a_cache_that_cannot_be_written_costs_only_time(folder, monkeypatch):
    making = Making()
    folder.write_text("a file where the folder should be")
    np.testing.assert_array_equal(cached_array({}, making), making.array)
    folder.unlink()

    def full(stream, array, **options):
        stream.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np.lib.format, "write_array", full)
    for make in (lambda: cached_array({}, making), lambda: cached_file(folder / "a.npy", making)):
        np.testing.assert_array_equal(make(), making.array)
        assert not [*folder.glob("*.npy"), *folder.glob(".*")]
