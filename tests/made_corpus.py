"""Makers of small parallel text and of the corpus folders of it."""

from __future__ import annotations

import gzip
import random
from pathlib import Path

from labelembed.lab.data import CorpusSettings, PairFiles, TextCorpus, preprocess

SOURCE_WORDS = [f"w{number}" for number in range(20)]
TARGET_WORDS = [f"v{number}" for number in range(20)]


def made_pairs(count: int, *, seed: int = 0, longest: int = 7) -> list[tuple[str, str]]:
    """Pairs of lines: the target has for each source word its own word, in the opposite order."""
    generator = random.Random(seed)
    pairs = []
    for _ in range(count):
        # squared, so that some words are frequent and some rare, as in a language
        numbers = [int(20 * generator.random() ** 2) for _ in range(generator.randint(1, longest))]
        source = " ".join(SOURCE_WORDS[number] for number in numbers)
        pairs.append((source, " ".join(TARGET_WORDS[number] for number in reversed(numbers))))
    return pairs


def write_text(path: Path, lines: list[str]) -> Path:
    """Writes lines as text, gzipped where the name says so."""
    content = "".join(f"{line}\n" for line in lines).encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def write_pair_files(folder: Path, name: str, pairs: list[tuple[str, str]], *, suffix: str = "") -> PairFiles:
    """Writes ``NAME.source`` and ``NAME.target``."""
    folder.mkdir(parents=True, exist_ok=True)
    sides = [write_text(folder / f"{name}.{side}{suffix}", [pair[place] for pair in pairs])
             for place, side in enumerate(("source", "target"))]  # fmt: skip
    return PairFiles(*sides)


def write_corpus(folder: Path, *, train: int = 60, validation: int = 12, longest: int = 7, **settings) -> TextCorpus:
    """Makes a corpus in ``FOLDER/corpus``; settings are those of `CorpusSettings`.

    With level `subword` the text is good for a `vocabulary_size` of about 22 and no more.
    """
    files = {
        name: write_pair_files(folder / "text", name, made_pairs(count, seed=seed, longest=longest))
        for seed, (name, count) in enumerate({"train": train, "validation": validation, "test": 12}.items())
    }
    return preprocess(**files, out=folder / "corpus", settings=CorpusSettings(**settings))


def write_example_text(folder: Path) -> None:
    """Writes the files that the documentation's commands name."""
    for seed, name in enumerate(("train", "val", "test")):
        pairs = made_pairs(30, seed=seed)
        for place, side in enumerate(("en", "de")):
            write_text(folder / f"{name}.{side}.gz", [pair[place] for pair in pairs])
