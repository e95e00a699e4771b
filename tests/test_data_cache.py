"""Arrays kept between runs: found by what they were made from, made anew when anything is wrong with them."""

from __future__ import annotations

import numpy as np
import pytest

from labelembed.lab.data.cache import cached_file, cached_with_notes


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("LABELEMBED_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


class Making:
    """Makes an array with a note and counts how often."""

    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    times = 0

    def __call__(self):
        self.times += 1
        return self.array.copy(), [7, "x"]


def test_an_array_is_made_once_for_each_key_and_may_be_changed_in_memory(folder):
    making = Making()
    for _ in range(3):
        found, noted = cached_with_notes({"files": ["a"], "version": 1}, making)
        np.testing.assert_array_equal(found, making.array)
        assert (found.dtype, noted) == (np.float32, [7, "x"])
        found[0] = 7
    cached_with_notes({"version": 1, "files": ["a"]}, making)  # the order of the keys says nothing
    assert making.times == 1
    cached_with_notes({"files": ["a"], "version": 2}, making)
    cached_with_notes({"files": ["b"], "version": 1}, making)
    assert making.times == 3


DAMAGES = {"cut": lambda content: content[:-1], "empty": lambda content: b"", "junk": lambda content: b"junk"}


@pytest.mark.parametrize("suffix", [".npy", ".json"])
@pytest.mark.parametrize("what", [*DAMAGES, "gone"])
def test_a_damaged_cache_is_made_anew(folder, suffix, what):
    making = Making()
    cached_with_notes({}, making)
    (file,) = folder.glob(f"*{suffix}")
    if what == "gone":
        file.unlink()
    else:
        file.write_bytes(DAMAGES[what](file.read_bytes()))
    for _ in range(2):
        np.testing.assert_array_equal(cached_with_notes({}, making)[0], making.array)
    assert making.times == 2
    assert sorted(entry.suffix for entry in folder.iterdir()) == [".json", ".npy"]


def test_a_cache_that_cannot_be_written_costs_only_time(folder, monkeypatch):
    making = Making()
    folder.write_text("a file where the folder should be")
    np.testing.assert_array_equal(cached_with_notes({}, making)[0], making.array)
    folder.unlink()

    def full(stream, array, **options):
        stream.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np.lib.format, "write_array", full)
    for make in (lambda: cached_with_notes({}, making)[0], lambda: cached_file(folder / "a.npy", lambda: making()[0])):
        np.testing.assert_array_equal(make(), making.array)
        assert not [*folder.glob("*.npy"), *folder.glob(".*")]
