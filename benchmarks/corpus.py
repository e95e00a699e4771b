"""Sentence pairs per second and core that `preprocess` makes of text, and its memory."""

from __future__ import annotations

import gzip
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from labelembed.lab.data import CorpusSettings, PairFiles, preprocess

ROUNDS = 5
MADE_PAIRS = 29_000
#: As many pairs as the largest published corpus of summaries; `LABELEMBED_LARGE_CORPUS` in the environment makes them.
LARGE_PAIRS = 2_400_000


def write_made_words(folder: Path, pairs: int) -> PairFiles:
    """Writes gzipped lines of 12 words with frequencies as in a language (Zipf)."""
    generator = np.random.default_rng(0)
    files = []
    for side in ("source", "target"):
        numbers = generator.zipf(1.3, (pairs, 12)) % 20_000
        lines = "".join(" ".join(f"{side}{number}" for number in row) + "\n" for row in numbers.tolist())
        files.append(folder / f"{side}.gz")
        files[-1].write_bytes(gzip.compress(lines.encode(), compresslevel=1))
    return PairFiles(*files)


def write_made_characters(folder: Path, pairs: int) -> PairFiles:
    """Writes lines of about 100 and 18 Chinese characters."""
    generator = np.random.default_rng(0)
    files = []
    for side, length in (("source", 100), ("target", 18)):
        files.append(folder / side)
        with files[-1].open("w", encoding="utf-8") as stream:
            for begin in range(0, pairs, 10_000):
                count = min(10_000, pairs - begin)
                points = (0x4E00 + generator.zipf(1.2, (count, length + 5)) % 6_000).astype(np.uint32)
                ends = generator.integers(length - 5, length + 5, count).tolist()
                lines = zip(points.view(f"<U{length + 5}")[:, 0].tolist(), ends, strict=True)
                stream.write("".join(f"{line[:end]}\n" for line, end in lines))
    return PairFiles(*files)


def words(folder: Path) -> None:
    given = Path(os.environ.get("LABELEMBED_DATA", "")) / "multi30k"
    files, what = write_made_words(folder, MADE_PAIRS), "made pairs of 12 words"
    if (given / "train.en.gz").exists():
        files, what = PairFiles(given / "train.en.gz", given / "train.de.gz"), "Multi30k en-de"
    rates = []
    for number in range(ROUNDS):
        began = time.process_time()
        corpus = preprocess(train=files, out=folder / f"words-{number}", settings=CorpusSettings(level="word"))
        rates.append(len(corpus.train) / (time.process_time() - began))
    print(
        f"  words, {what}: {statistics.median(rates):,.0f} ± {statistics.stdev(rates):,.0f} pairs a second and core, "
        f"n = {ROUNDS}  (goal at least 30,000)"
    )


def characters(folder: Path, pairs: int) -> None:
    files = write_made_characters(folder, pairs)
    # a process of its own: the most memory a process ever had is not known again once it was more
    code = f"from benchmarks.corpus import measure; measure({str(folder)!r})"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    seconds, core_seconds, peak = map(float, ran.stdout.split())
    size = sum(file.stat().st_size for file in files.files) / 2**20
    print(
        f"  characters, {pairs:,} made pairs ({size:,.0f} MiB): {seconds:.1f} s, "
        f"{pairs / core_seconds:,.0f} pairs a second and core, "
        f"at most {peak / 2**20:,.0f} MiB of memory, n = 1  (goal at most 1,024)"
    )


def measure(folder: str) -> None:
    """Prints the seconds, those of the core, and the most bytes of memory that preprocessing into characters took."""
    files = PairFiles(Path(folder) / "source", Path(folder) / "target")
    began, core_began = time.perf_counter(), time.process_time()
    preprocess(train=files, out=Path(folder) / "characters", settings=CorpusSettings(level="character"))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    print(time.perf_counter() - began, time.process_time() - core_began, peak)


def run() -> None:
    with tempfile.TemporaryDirectory() as folder:
        words(Path(folder))
        characters(Path(folder), LARGE_PAIRS if os.environ.get("LABELEMBED_LARGE_CORPUS") else 100_000)
