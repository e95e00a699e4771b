"""Data sets that cannot be trained on, and odd ones that can, of every kind that is read."""

from __future__ import annotations

import gzip
import shutil
import struct
from pathlib import Path

import numpy as np

from tests.made_corpus import made_pairs, write_corpus, write_pair_files, write_text
from tests.made_data import (
    made_arrays,
    made_colours,
    made_images,
    picture_bytes,
    write_arrays,
    write_idx_folder,
    write_image,
    write_parquet,
)
from tests.made_pictures import write_cifar_python, write_classes
from tests.made_texts import reviews, write_columns, write_csv, write_json_lines

_RUN = "objective: one_hot\nepochs: 1\nbatch_size: 4\noptimizer: sgd\n"
RECIPES = {
    **{
        name: f"data: {name}\nmodel: {{name: mlp, hidden_sizes: [4]}}\n"
        for name in ("mnist", "vectors", "images", "cifar", "table")
    },
    "text": "data: texts\nmodel: bag_of_words\n",
    "corpus": "data: corpus\nmodel: {name: attention_lstm, embedding_size: 4}\n",
    "norm": "data: vectors\nmodel: {name: mlp, hidden_sizes: [4], batch_norm: true}\n",
}  # fmt: skip


def _changed(file: Path, place: int, content: bytes) -> None:
    found = bytearray(file.read_bytes())
    found[place : place + len(content)] = content
    file.write_bytes(bytes(found))


def write_idx_sets() -> None:
    write_idx_folder(Path("idx-one"), train_labels=np.zeros(30, np.uint8), test_labels=np.zeros(10, np.uint8))
    write_idx_folder(Path("idx-empty"), train_images=made_images(0), train_labels=np.zeros(0, np.uint8))
    labels = np.arange(30, dtype=np.int8) % 10
    labels[4] = -3
    write_idx_folder(Path("idx-negative"), train_labels=labels)
    write_idx_folder(Path("idx-lying"))
    _changed(Path("idx-lying/train-images-idx3-ubyte"), 4, struct.pack(">I", 2**31))
    write_idx_folder(Path("idx-type"))
    _changed(Path("idx-type/train-labels-idx1-ubyte"), 2, b"\x0a")
    write_idx_folder(Path("idx-swapped"), train_images=np.arange(30, dtype=np.uint8), train_labels=made_images(30))


def write_array_sets() -> None:
    write_arrays(Path("one.npz"), train_labels=np.zeros(12, int), test_labels=np.zeros(6, int))
    write_arrays(Path("empty.npz"), train_inputs=np.zeros((0, 5)), train_labels=np.zeros(0, int))
    write_arrays(Path("fraction.npz"), train_labels=np.array([0.5] + [1.0, 2.0] * 5 + [0.0]))
    write_arrays(Path("identity.npz"), train_labels=np.arange(12) * 1000)
    write_arrays(Path("onehot.npz"), train_labels=np.eye(12)[:, :3])
    write_arrays(Path("width.npz"), test_inputs=np.zeros((6, 4)))
    write_arrays(Path("constant.npz"), train_inputs=np.full((12, 5), 7.0), test_inputs=np.full((6, 5), 7.0))
    write_arrays(Path("names.npz"), names=np.array(["a", "b"]))
    write_arrays(Path("pixels-last.npz"), train_inputs=np.zeros((12, 8, 8, 3)), test_inputs=np.zeros((6, 8, 8, 3)))
    np.savez(Path("objects.npz"), **made_arrays(train_labels=np.array([{"a": 1}] * 12, dtype=object)))
    write_arrays(
        Path("alone.npz"), train_inputs=np.random.default_rng(0).random((13, 5)), train_labels=np.arange(13) % 3
    )
    for name in ("folder", "folder-nan"):
        Path(name).mkdir()
        for key, array in made_arrays().items():
            np.save(Path(name, f"{key}.npy"), array)
    wrong = np.load("folder/train_inputs.npy")
    wrong[3, 1] = np.inf
    np.save("folder-nan/train_inputs.npy", wrong)
    Path("folder/names.txt").write_bytes(b"a\nb\xff\nc\n")


def write_picture_sets() -> None:
    write_classes(Path("one-class"), {"cat": 6})
    write_classes(Path("empty-class"), {"cat": 6, "dog": 6})
    shutil.rmtree(Path("empty-class/dog"))
    Path("empty-class/dog").mkdir()
    write_classes(Path("sizes"), {"cat": 6, "dog": 6})
    write_image(Path("sizes/cat/other.png"), made_colours(1, size=5)[0])
    write_classes(Path("cut-picture"), {"cat": 6, "dog": 6})
    first = sorted(Path("cut-picture/cat").iterdir())[0]
    first.rename(first.with_name("a.png"))
    Path("cut-picture/cat/a.png").write_bytes(Path("cut-picture/cat/a.png").read_bytes()[:60])
    write_classes(Path("empty-picture"), {"cat": 6, "dog": 6})
    Path("empty-picture/cat/a.png").write_bytes(b"")
    write_classes(Path("picture-bomb"), {"cat": 6, "dog": 6})
    Path("picture-bomb/cat/a.png").write_bytes(png_of(50_000, 50_000))
    for name, text in {
        "gone": "path,label\n" + "".join(f"one-class/cat/gone{n}.png,{'ab'[n % 2]}\n" for n in range(10)),
        "no-label": "path,label\na.png,x\nb.png,\n",
        "no-part": "path,label,split\na.png,x,train\nb.png,y,tset\n",
    }.items():
        Path(f"{name}.csv").write_text(text)
    write_cifar_python(Path("cifar-cut"), 10)
    file = Path("cifar-cut/data_batch_2")
    file.write_bytes(file.read_bytes()[:-1])
    write_cifar_python(Path("cifar-pickle"), 10)
    Path("cifar-pickle/data_batch_1").write_bytes(b"cos\nsystem\n(S'touch hacked'\ntR.")
    Path("cifar-none").mkdir()


def png_of(width: int, height: int) -> bytes:
    """A PNG of a few hundred kilobytes at most that says it has so many pixels, all black."""
    import zlib

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes(min(100_000_000, height * (width // 8 + 1))), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def write_parquet_sets() -> None:
    pictures = [picture_bytes(picture) for picture in made_colours(8, size=8)]
    for part in ("train", "test"):
        write_parquet(Path(f"parquet-fine/{part}.parquet"), img=pictures, label=[row % 2 for row in range(8)])
    shutil.copytree("parquet-fine", "parquet-cut")
    file = Path("parquet-cut/test.parquet")
    file.write_bytes(file.read_bytes()[:-20])
    shutil.copytree("parquet-fine", "parquet-shard")
    Path("parquet-shard/train.parquet").rename("parquet-shard/train-00000-of-00002.parquet")
    picture = picture_bytes(made_colours(1, size=8)[0])
    for name, content in {"damaged": picture[:80], "bomb": png_of(50_000, 50_000)}.items():
        write_parquet(
            Path(f"pictures-{name}/train.parquet"), img=[picture, picture, content, picture], label=[0, 1, 0, 1]
        )
        write_parquet(Path(f"pictures-{name}/test.parquet"), img=[picture, picture], label=[0, 1])


def write_text_sets() -> None:
    rows = reviews(40)
    write_csv(Path("text.csv"), rows, "text", "label")
    Path("cut.csv.gz").write_bytes(gzip.compress(b"text,label\n" + b"a b,x\nc d,y\n" * 1000, mtime=0)[:-20])
    write_csv(
        Path("empty-text.csv"),
        [(" " if n == 7 else text, label) for n, (text, label) in enumerate(rows)],
        "text",
        "label",
    )
    write_csv(Path("unknown.csv"), [*rows, *[("zzz" + "q" * n, "pos") for n in range(4)]], "text", "label")
    Path("utf16.csv").write_text("text,label\nä b,pos\n", encoding="utf-16")
    write_json_lines(Path("nested.jsonl"), [({"a": text}, label) for text, label in rows], "text", "label")
    Path("half.jsonl").write_text('{"text": "a \\ud800", "label": "x"}\n' * 4 + '{"text": "b", "label": "y"}\n' * 4)
    write_columns(
        Path("bytes.parquet"), {"text": [text.encode() for text, _ in rows], "label": [label for _, label in rows]}
    )
    numbers = [(n / 7, n * n % 11, ("red", "blue")[n % 2]) for n in range(40)]
    write_csv(Path("table-word.csv"), [*numbers, ("long", 3, "red")], "length", "width", "class")
    write_csv(Path("table-inf.csv"), [*numbers, ("inf", 3, "red")], "length", "width", "class")
    write_csv(
        Path("table-constant.csv"), [(1, 2, ("red", "blue")[n % 2]) for n in range(40)], "length", "width", "class"
    )
    write_csv(Path("table-only.csv"), [(("red", "blue")[n % 2],) for n in range(40)], "class")


def write_sentence_sets() -> None:
    pairs = made_pairs(20)
    write_pair_files(Path(), "good", pairs)
    write_text(Path("short.target"), [target for _, target in pairs[:-1]])
    write_text(Path("blank.source"), [source if n != 4 else "" for n, (source, _) in enumerate(pairs)])
    write_text(Path("all-blank.source"), ["" for _ in pairs])
    Path("latin.source").write_bytes("".join(f"{source} é\n" for source, _ in pairs).encode("latin-1"))
    Path("cut.source.gz").write_bytes(gzip.compress(b"a\n" * 1000)[:-9])
    write_corpus(Path("made"))
    tokens, words = "train-source.bin", "source-tokenizer.json"
    for name in ("missing", "token", "vocabulary", "newer", "cut"):
        shutil.copytree("made/corpus", f"corpus-{name}")
    Path("corpus-missing", tokens).unlink()
    _changed(Path("corpus-token", tokens), 0, b"\xff\xff")
    _changed(Path("corpus-vocabulary", words), 0, b"x")
    Path("corpus-newer/corpus.json").write_text('{"format": 4, "files": {}}')
    Path("corpus-cut", tokens).write_bytes(Path("corpus-cut", tokens).read_bytes()[:-2])


def write_all() -> None:
    """Writes all of them into the current folder."""
    for name, text in RECIPES.items():
        Path(f"{name}.yaml").write_text(text + _RUN)
    write_idx_sets()
    write_array_sets()
    write_picture_sets()
    write_parquet_sets()
    write_text_sets()
    write_sentence_sets()
