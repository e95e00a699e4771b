"""Data sets that cannot be trained on, and odd ones that can, of every kind that is read."""

from __future__ import annotations

import gzip
import shutil
import struct
from pathlib import Path

import numpy as np
from PIL import Image

from tests.made_corpus import made_pairs, write_corpus, write_pair_files, write_text
from tests.made_data import (
    made_arrays,
    made_colours,
    picture_bytes,
    write_arrays,
    write_idx_folder,
    write_image,
    write_parquet,
)
from tests.made_pictures import write_cifar_python, write_classes
from tests.made_texts import reviews, write_columns, write_csv

_RUN = "objective: one_hot\nepochs: 1\nbatch_size: 4\noptimizer: sgd\n"
RECIPES = {
    **{
        name: f"data: {name}\nmodel: {{name: mlp, hidden_sizes: [4]}}\n"
        for name in ("mnist", "vectors", "images", "cifar", "table")
    },
    "text": "data: texts\nmodel: bag_of_words\n",
    "corpus": "data: corpus\nmodel: {name: attention_lstm, embedding_size: 4}\n",
}


def _changed(file: Path, place: int, content: bytes) -> None:
    found = bytearray(file.read_bytes())
    found[place : place + len(content)] = content
    file.write_bytes(bytes(found))


def _cut(name: str, count: int) -> None:
    Path(name).write_bytes(Path(name).read_bytes()[:-count])


def write_idx_sets() -> None:
    write_idx_folder(Path("idx-one"), train_labels=np.zeros(30, np.uint8), test_labels=np.zeros(10, np.uint8))
    write_idx_folder(Path("idx-lying"))
    _changed(Path("idx-lying/train-images-idx3-ubyte"), 4, struct.pack(">I", 2**31))


def write_array_sets() -> None:
    write_arrays(Path("fraction.npz"), train_labels=np.array([0.5] + [1.0, 2.0] * 5 + [0.0]))
    np.savez(Path("objects.npz"), **made_arrays(train_labels=np.array([{"a": 1}] * 12, dtype=object)))


def write_picture_sets() -> None:
    write_classes(Path("one-class"), {"cat": 6})
    for name in ("empty-class", "sizes", "picture-bomb"):
        write_classes(Path(name), {"cat": 6, "dog": 6})
    shutil.rmtree(Path("empty-class/dog"))
    Path("empty-class/dog").mkdir()
    write_image(Path("sizes/cat/other.png"), made_colours(1, size=5)[0])
    whole = picture_bytes(made_colours(1, size=8)[0])
    Image.new("1", (20_000, 10_000)).save("picture-bomb/cat/a.png")
    for name, text in {
        "no-label": "path,label\na.png,x\nb.png,\n",
        "no-part": "path,label,split\na.png,x,train\nb.png,y,tset\n",
    }.items():
        Path(f"{name}.csv").write_text(text)
    for name in ("cifar-cut", "cifar-pickle"):
        write_cifar_python(Path(name), 10)
    _cut("cifar-cut/data_batch_2", 1)
    Path("cifar-pickle/data_batch_1").write_bytes(b"cos\nsystem\n(S'touch hacked'\ntR.")
    for name, third in {"cut": whole, "damaged": whole[:80]}.items():
        pictures = [whole, whole, third, whole]
        write_parquet(Path(f"parquet-{name}/train.parquet"), img=pictures, label=[0, 1, 0, 1])
        write_parquet(Path(f"parquet-{name}/test.parquet"), img=[whole, whole], label=[0, 1])
    _cut("parquet-cut/test.parquet", 20)


def write_text_sets() -> None:
    rows = reviews(40)
    texts, labels = [text for text, _ in rows], [label for _, label in rows]
    names = ("text", "label")
    write_csv(Path("text.csv"), rows, *names)
    Path("cut.csv.gz").write_bytes(gzip.compress(b"text,label\n" + b"a b,x\nc d,y\n" * 1000, mtime=0)[:-20])
    write_csv(Path("empty-text.csv"), zip([*texts[:7], " ", *texts[8:]], labels, strict=True), *names)
    Path("utf16.csv").write_text("text,label\nä b,pos\n", encoding="utf-16")
    Path("half.jsonl").write_text('{"text": "a \\ud800", "label": "x"}\n' * 4 + '{"text": "b", "label": "y"}\n' * 4)
    write_columns(Path("bytes.parquet"), {"text": [text.encode() for text in texts], "label": labels})
    numbers = [(n / 7, n * n % 11, ("red", "blue")[n % 2]) for n in range(40)]
    columns = ("length", "width", "class")
    for word in ("word", "inf"):
        write_csv(Path(f"table-{word}.csv"), [*numbers, (word, 3, "red")], *columns)


def write_sentence_sets() -> None:
    pairs = made_pairs(20)
    write_pair_files(Path(), "good", pairs)
    write_text(Path("short.target"), [target for _, target in pairs[:-1]])
    write_text(Path("blank.source"), [source if n != 4 else "" for n, (source, _) in enumerate(pairs)])
    write_text(Path("all-blank.source"), ["" for _ in pairs])
    Path("latin.source").write_bytes("".join(f"{source} é\n" for source, _ in pairs).encode("latin-1"))
    Path("cut.source.gz").write_bytes(gzip.compress(b"a\n" * 1000)[:-9])
    write_corpus(Path("made"))
    tokens = "train-source.bin"
    for name in ("missing", "token", "vocabulary", "newer", "cut"):
        shutil.copytree("made/corpus", f"corpus-{name}")
    Path("corpus-missing", tokens).unlink()
    _changed(Path("corpus-token", tokens), 0, b"\xff\xff")
    _changed(Path("corpus-vocabulary/source-tokenizer.json"), 0, b"x")
    Path("corpus-newer/corpus.json").write_text('{"format": 4, "files": {}}')
    _cut(f"corpus-cut/{tokens}", 2)


def write_all() -> None:
    """Writes all of them into the current folder."""
    for name, text in RECIPES.items():
        Path(f"{name}.yaml").write_text(text + _RUN)
    write_idx_sets()
    write_array_sets()
    write_picture_sets()
    write_text_sets()
    write_sentence_sets()
