"""Makers of CIFAR files as their authors publish them, and of folders of pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.made_data import made_colours, write_image

FINE = [f"fine{number}" for number in range(100)]
TEN = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def made_cifar(classes: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """(pictures [N, 3, 32, 32], labels) by the name of the file."""
    names = [f"data_batch_{number}" for number in range(1, 6)] if classes == 10 else ["train"]
    names += ["test_batch" if classes == 10 else "test"]
    made = {}
    for seed, name in enumerate(names):
        generator = np.random.default_rng(seed)
        pictures = generator.integers(0, 256, (4, 3, 32, 32), dtype=np.uint8)
        made[name] = (pictures, generator.integers(0, classes, 4))
    return made


def _string(text: bytes) -> bytes:
    return b"T" + len(text).to_bytes(4, "little") + text


def python2_pickle(values: dict[bytes, object]) -> bytes:
    """A pickle of protocol 2 as Python 2 and numpy 1 wrote CIFAR's: texts are Python 2's, arrays by _reconstruct."""

    def put(value: object) -> bytes:
        if isinstance(value, bytes):
            return _string(value)
        if isinstance(value, list):
            return b"](" + b"".join(put(item) for item in value) + b"e"
        if isinstance(value, int):
            return b"J" + value.to_bytes(4, "little", signed=True)
        assert isinstance(value, np.ndarray)
        shape = b"(" + b"".join(put(size) for size in value.shape) + b"t"
        dtype = b"cnumpy\ndtype\n" + _string(b"u1") + b"K\x00K\x01\x87R(K\x03" + _string(b"|") + b"NNNJ\xff\xff\xff\xff"
        dtype += b"J\xff\xff\xff\xffK\x00tb"
        begin = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + _string(b"b") + b"\x87R"
        return begin + b"(K\x01" + shape + dtype + b"\x89" + _string(value.tobytes()) + b"tb"

    return b"\x80\x02}(" + b"".join(put(key) + put(value) for key, value in values.items()) + b"u."


def write_cifar_python(folder: Path, classes: int) -> Path:
    """Writes the Python version of CIFAR-10 or CIFAR-100."""
    folder.mkdir(parents=True, exist_ok=True)
    prefix, meta, names = (b"", "batches.meta", TEN) if classes == 10 else (b"fine_", "meta", FINE)
    for name, (pictures, labels) in made_cifar(classes).items():
        values = {b"data": pictures.reshape(len(pictures), -1), prefix + b"labels": labels.tolist()}
        (folder / name).write_bytes(python2_pickle({b"coarse_labels": [0] * len(labels)} | values))
    (folder / meta).write_bytes(python2_pickle({prefix + b"label_names": [name.encode() for name in names]}))
    return folder


def write_classes(folder: Path, counts: dict[str, int], *, size: int = 12, seed: int = 0, suffix: str = "png") -> Path:
    """Writes `class/000.png` ...: so many pictures of random colours for each class, every one different."""
    for place, (name, count) in enumerate(counts.items()):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number, picture in enumerate(made_colours(count, size=size, seed=1000 * seed + place)):
            write_image(folder / name / f"{number:03}.{suffix}", picture)
    return folder
