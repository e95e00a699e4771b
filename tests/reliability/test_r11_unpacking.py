"""R11: parquet files and saved data sets that unpack to very many times their size are refused before they do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from labelembed.data import read_parquet
from labelembed.data.manifest import read_manifest
from labelembed.data.parquet_limits import Unpacking, read_columns
from labelembed.data.streams import UNPACKED_BYTES
from labelembed.data.table import read_table
from labelembed.data.text_rows import read_text_rows
from labelembed.errors import DataError
from tests.made_bombs import (
    categories,
    continued_texts,
    long_vectors,
    lying,
    many_rows,
    one_long_text,
    one_picture,
    plain_texts,
    saved_categories,
    saved_compressed,
)
from tests.made_cli import call
from tests.made_texts import reviews, write_columns
from tests.made_watching import memory_taken
from tests.reliability.figures import sized

arrow = pytest.importorskip("pyarrow")

MILLIONS = sized(short=40, full=400)
_SLACK = 2**26

READERS = {"texts": read_text_rows, "table": read_table, "list of pictures": read_manifest, "parquet": read_parquet}
TEXTS = {
    "rows": many_rows,
    "a dictionary": one_long_text,
    "continued texts": continued_texts,
    "plain texts": plain_texts,
    "categories": categories,
}
BOMBS = {
    **{kind: (write, "texts") for kind, write in TEXTS.items()},
    **{f"a dictionary, read as {reader}": (one_long_text, reader) for reader in ("table", "list of pictures")},
    "vectors": (long_vectors, "parquet"),
    "pictures": (one_picture, "parquet"),
    "a lying footer over plain texts": (lying(plain_texts), "texts"),
    "a lying footer over vectors": (lying(long_vectors), "parquet"),
}  # fmt: skip


@pytest.fixture(scope="module")
def bomb(tmp_path_factory):
    """Writes a file once for all readers of it."""
    place, written = tmp_path_factory.mktemp("bombs"), {}

    def file(write):
        if write not in written:
            written[write] = write(place / str(len(written)) / "f.parquet", MILLIONS)
        return written[write]

    return file


def memory_for(file: Path) -> int:
    """What may be unpacked before it is found to be too much, twice while it is put together, and the readers' own."""
    return 2 * max(UNPACKED_BYTES, 100 * file.stat().st_size) + _SLACK


@pytest.mark.parametrize("kind", BOMBS)
def test_columns_that_would_fill_the_memory_are_refused(kind, bomb, figure):
    write, reader = BOMBS[kind]
    file = bomb(write)
    with memory_taken() as taken, pytest.raises(DataError) as refused:
        READERS[reader](path=str(file))
    said = str(refused.value)
    assert f"{file}: its columns unpack to" in said, said
    assert "use_dictionary=False" in said
    figure.count("files that unpack to too much refused", 1, 1)
    share = round(taken[0] / memory_for(file), 2)
    figure.at_most("bytes for a file that unpacks to too much, of the limit", share, 1.0)


@pytest.mark.parametrize(
    ("write", "message"), [(saved_categories, "its columns unpack to"), (saved_compressed, "is a compressed arrow")]
)
def test_saved_data_sets_that_would_fill_the_memory_are_refused(write, message, tmp_path, figure):
    folder = write(tmp_path / "saved", MILLIONS)
    with memory_taken() as taken, pytest.raises(DataError, match=message):
        read_text_rows(path=str(folder))
    figure.count("files that unpack to too much refused", 1, 1)
    share = round(taken[0] / memory_for(folder / "data.arrow"), 2)
    figure.at_most("bytes for a file that unpacks to too much, of the limit", share, 1.0)


def test_several_files_unpack_to_too_much_together(tmp_path, figure):
    columns = {"text": ["x" * 2_000_000] * 50, "label": [0, 1] * 25}  # of 100 MB each: no file alone is too much
    for number in range(4):
        write_columns(tmp_path / f"train-{number:05d}-of-00004.parquet", columns)
    with pytest.raises(DataError, match=r"train-00002-of-00004\.parquet: its columns unpack to"):
        read_text_rows(path=str(tmp_path))
    figure.count("files that unpack to too much refused", 1, 1)


def test_the_command_says_so_in_a_few_lines_and_exits_with_2(bomb, tmp_path, figure):
    file = bomb(one_long_text)
    called = call("compare", "text-bag", "--data", file, "--out", tmp_path / "out")
    assert called.code == 2, called.err
    assert "its columns unpack to" in called.err
    assert len(called.err.strip().splitlines()) <= 10
    assert "Traceback" not in called.err
    figure.count("files that unpack to too much refused", 1, 1)


# ------------------------------------------------------------------------------------------------ and what is read


def test_small_data_of_few_values_are_read_however_well_they_are_packed(tmp_path):
    rows = 1_000_000
    file = write_columns(
        tmp_path / "f.parquet", {"x": np.zeros(rows), "y": np.arange(rows) % 3, "label": np.arange(rows) % 2}
    )
    assert file.stat().st_size * 100 < rows * 24
    assert len(read_columns(file, ["x", "y", "label"], Unpacking([file]))) == rows


def test_large_data_are_read_as_far_as_their_files_are_large(tmp_path):
    rows = 36_000_000
    values = np.random.default_rng(0).integers(0, 256, rows)
    file = write_columns(tmp_path / "f.parquet", {"x": values})
    assert rows * 8 > UNPACKED_BYTES > file.stat().st_size * 5
    unpacking = Unpacking([file])
    assert read_columns(file, ["x"], unpacking).column("x").to_numpy()[-5:].tolist() == values[-5:].tolist()
    assert rows * 8 <= unpacking.taken < rows * 9


def test_texts_that_share_a_dictionary_are_read_whole_and_in_order(tmp_path):
    """A dictionary of a megabyte and so many rows that they could be too much, and are not."""
    texts = [f"{'word ' * (number % 400)}{number % 5_003}" for number in range(60_000)]
    labels = [number % 2 for number in range(60_000)]
    file = write_columns(tmp_path / "f.parquet", {"text": texts, "label": labels})
    found = read_columns(file, ["label", "text"], Unpacking([file]))
    assert found.column("text").num_chunks > 1  # a few rows at a time
    assert found.column_names == ["label", "text"]
    assert found.column("text").to_pylist() == texts
    assert found.column("label").to_pylist() == labels


VERSIONS = [(codec, version) for codec in ("none", "snappy", "zstd", "gzip", "lz4", "brotli") for version in (1, 2)]


@pytest.mark.parametrize(("codec", "version"), VERSIONS)
def test_pages_of_every_form_are_counted(codec, version, tmp_path):
    import pyarrow.parquet as parquet

    rows = [text for text, _ in reviews(40)] * 50
    table = arrow.table({
        "text": rows,
        "view": arrow.array(rows).cast("string_view"),
        "category": arrow.array(rows).dictionary_encode(),
        "number": np.arange(len(rows)),
        "flag": np.arange(len(rows)) % 2 == 0,
        "vector": [[1.0, number] for number in range(len(rows))],
        "none": arrow.nulls(len(rows), arrow.string()),
        "a.b": np.arange(len(rows)),
        "picture": [{"bytes": b"x" * (number % 50), "path": None} for number in range(len(rows))],
    })  # fmt: skip
    for number, settings in enumerate((
        {}, {"row_group_size": 300, "write_page_index": True, "write_page_checksum": True},
        {"use_dictionary": False, "column_encoding": {"text": "DELTA_BYTE_ARRAY", "number": "DELTA_BINARY_PACKED"}},
    )):  # fmt: skip
        file = tmp_path / f"{number}.parquet"
        parquet.write_table(table, file, compression=codec, data_page_version=f"{version}.0", **settings)
        for names in ([name] for name in table.column_names):
            unpacking = Unpacking([file])
            found = read_columns(file, names, unpacking)
            assert found.column(0).to_pylist() == table.column(names[0]).to_pylist()
            assert unpacking.taken >= len(rows) * 8
