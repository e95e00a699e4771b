"""R11: parquet files whose columns would not fit into memory are refused by their footers, before they are read."""

from __future__ import annotations

import numpy as np
import pytest

from labelembed.errors import DataError
from labelembed.lab.data import ImageReader, TableReader, TextReader
from labelembed.lab.data import table_files as parquet
from tests.made_data import write_parquet
from tests.made_texts import write_columns
from tests.made_watching import memory_taken

pytest.importorskip("pyarrow", reason="parquet files need pyarrow")

READERS = {"texts": TextReader, "table": TableReader, "list of pictures": ImageReader, "pictures": ImageReader}


@pytest.fixture(autouse=True)
def _little_room(monkeypatch):
    monkeypatch.setattr(parquet, "MOST_BYTES", 2**24)


@pytest.mark.parametrize("reader", READERS)
def test_columns_that_would_fill_the_memory_are_refused_unread(reader, tmp_path, figure):
    file = tmp_path / "f.parquet"
    if reader == "pictures":
        write_parquet(file, img=[b"%d" % number + bytes(2**20) for number in range(24)], label=[0, 1] * 12)
    else:  # texts that are packed into some kilobytes
        texts = [f"{number}{'x' * 2**20}" for number in range(24)]
        write_columns(file, {"text": texts, "label": [0, 1] * 12})
    with memory_taken() as taken, pytest.raises(DataError, match=r"f\.parquet: unpacks to 25,.* bytes"):
        READERS[reader](path=str(file)).read()
    figure.count("files that unpack to too much refused", 1, 1)
    figure.at_most("bytes for a file that unpacks to too much, of 16 MB", round(taken[0] / 2**24, 2), 1.0)


def test_data_ten_times_as_large_as_their_file_are_read_however_large(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "MOST_BYTES", 2**10)
    values = np.random.default_rng(0).integers(0, 256, 20_000)
    file = write_columns(tmp_path / "f.parquet", {"x": values, "label": values % 2})
    assert TableReader(path=str(file)).read().parts.keys() == {"train", "test"}
