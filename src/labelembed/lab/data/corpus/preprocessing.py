"""From text to a corpus folder in two passes: one that counts tokens, one that writes their numbers."""

from __future__ import annotations

import contextlib
import gc
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from itertools import compress
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from labelembed.errors import DataError
from labelembed.lab.data.cache import file_digest
from labelembed.lab.data.checks import require_file
from labelembed.lab.data.corpus.counting import TokenCounter, token_counter
from labelembed.lab.data.corpus.output_folder import corpus_exists, new_folder
from labelembed.lab.data.corpus.pair_files import ACCEPTED, PairFiles
from labelembed.lab.data.corpus.sentences import SentenceWriter
from labelembed.lab.data.corpus.settings import CorpusSettings
from labelembed.lab.data.corpus.text_corpus import (
    FORMAT,
    MANIFEST,
    SPLITS,
    TextCorpus,
    files_of,
    files_of_side,
    fingerprint_of,
    read_corpus,
)
from labelembed.lab.data.corpus.tokenizer import Tokenizer, lowered
from labelembed.lab.special_tokens import UNKNOWN

SIDES = ("source", "target")
#: Called with what is being done and how far it is, in bytes: ("counting tokens", 3, 10).
Progress = Callable[[str, int, int], None]
Lengths = npt.NDArray[np.int64]
Cutter: TypeAlias = TokenCounter | Tokenizer


def preprocess(
    *,
    train: PairFiles,
    validation: PairFiles | None = None,
    test: PairFiles | None = None,
    out: Path,
    settings: CorpusSettings | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> TextCorpus:
    """Makes a corpus folder and returns it opened.

    The text is read twice and never held in memory as a whole. The folder is written under a temporary name and
    renamed at the end. Pairs with an empty line on either side are left out, of training the long ones too, both
    counted in the notes.

    Args:
        train: The training pairs; the vocabularies are counted over them.
        validation: Pairs to choose by, or None; their text is kept, as references.
        test: Test pairs, or None; the same.
        out: The folder. A corpus of the same files and settings that is there already is returned as it is.
        settings: How text becomes tokens; None: as words.
        overwrite: Replace the corpus of other files or settings that is there.
        progress: Told how far it is.

    Raises:
        DataError: A file cannot be used (names file and line), nothing is left, or `out` holds something else.
    """
    settings = settings or CorpusSettings()
    given = {"train": train, "validation": validation, "test": test}
    pairs = {name: files for name, files in given.items() if files is not None}
    for files in pairs.values():
        for file in files.files:
            require_file(file, ACCEPTED)
    out = Path(out).expanduser()
    made_from = {
        "settings": asdict(settings),
        "inputs": {name: _inputs(files) for name, files in pairs.items()},
    }
    if corpus_exists(out, made_from, overwrite=overwrite):
        return read_corpus(out)
    with _collector_at_rest(), new_folder(out) as folder:
        bytes_of = {name: sum(file.stat().st_size for file in files.files) for name, files in pairs.items()}
        bytes_done = _ByteProgress(progress, bytes_of["train"] + sum(bytes_of.values()))
        tokenizers = _tokenizers(train, settings, bytes_done)
        for side, tokenizer in zip(SIDES, tokenizers, strict=True):
            tokenizer.save(folder, side)
        counts = {
            name: _write_split(folder, name, files, tokenizers, settings, bytes_done) for name, files in pairs.items()
        }
        written = files_of(folder)
        manifest = {
            "format": FORMAT,
            "fingerprint": fingerprint_of(written),
            **made_from,
            "vocabularies": {
                side: len(tokenizer.vocabulary) for side, tokenizer in zip(SIDES, tokenizers, strict=True)
            },
            "splits": counts,
            "notes": _notes(counts, settings),
            "files": written,
        }
        text = json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"
        (folder / MANIFEST).write_text(text, encoding="utf-8")
    return read_corpus(out)


class _ByteProgress:
    """Adds up the bytes of all files and passes."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress, self._total, self._done = progress, total, 0
        self.what = ""

    def __call__(self, read: int) -> None:
        self._done += read
        if self._progress is not None:
            self._progress(self.what, min(self._done, self._total), self._total)


def _inputs(files: PairFiles) -> dict[str, Any]:
    columns = {"source_column": files.source_column, "target_column": files.target_column}
    digests = [{"name": file.name, "sha256": file_digest(file)} for file in files.files]
    return {"files": digests} | ({} if files.target is not None else columns)


class _KeptPairs:
    """The pairs of a split, block by block and cut into tokens, without those with an empty or a too long side.

    Args:
        files: The split.
        cutters: What cut the lines of source and target.
        limits: Tokens at most, of each side; None: any number.
        bytes_done: Called with the bytes that were read.

    Attributes:
        counts: How many pairs were given, and how many left out for what.
    """

    def __init__(
        self, files: PairFiles, cutters: Sequence[Cutter], limits: Sequence[int | None], bytes_done: _ByteProgress
    ) -> None:
        self._files, self._cutters, self._limits, self._bytes_done = files, cutters, limits, bytes_done
        self.counts = {"pairs": 0, "left_out_empty": 0, "left_out_long": 0}

    def __iter__(self) -> Iterator[tuple[list[Sequence[Any]], list[Lengths], list[Sequence[str]]]]:
        """Gives of each block, for both sides: what the lines are cut into, their lengths [n], the lines.

        Raises:
            DataError: No pair is left, or a file cannot be read.
        """
        counts = self.counts
        for block in self._files.blocks(bytes_read=self._bytes_done):
            segments = [cutter.segments(lines) for cutter, lines in zip(self._cutters, block, strict=True)]
            lengths = [np.fromiter(map(len, each), np.int64, len(each)) for each in segments]
            there = (lengths[0] > 0) & (lengths[1] > 0)
            kept = there.copy()
            for each, limit in zip(lengths, self._limits, strict=True):
                kept &= each <= (each if limit is None else limit)
            counts["pairs"] += int(kept.sum())
            counts["left_out_empty"] += int((~there).sum())
            counts["left_out_long"] += int((there & ~kept).sum())
            yield (
                [_selected(each, kept) for each in segments],
                [each[kept] for each in lengths],
                [_selected(lines, kept) for lines in block],
            )
        if counts["pairs"] == 0:
            long = counts["left_out_long"]
            left_out = f"{counts['left_out_empty']:,} with an empty line"
            left_out += f", {long:,} longer than --max-length" if long else ""
            raise DataError(f"{self._files.source}: no pair is left; left out: {left_out}")


def _selected(lines: Sequence[Any], kept: npt.NDArray[np.bool_]) -> Sequence[Any]:
    return lines if kept.all() else list(compress(lines, kept.tolist()))


def _tokenizers(train: PairFiles, settings: CorpusSettings, bytes_done: _ByteProgress) -> tuple[Tokenizer, Tokenizer]:
    """Counts the tokens of the training pairs that are kept and returns the tokenizers of source and target."""
    bytes_done.what = "counting tokens"
    levels = settings.levels[:1] if settings.shared_vocabulary else settings.levels
    counters = [token_counter(level, settings) for level in levels]
    sides = (counters[0], counters[-1])
    # the length in subwords is not known before there are any
    limits = [None if level == "subword" else settings.max_length for level in settings.levels]
    for segments, _, _ in _KeptPairs(train, sides, limits, bytes_done):
        for counter, each in zip(sides, segments, strict=True):
            counter.add(each)
    bytes_done.what = "making the vocabulary"
    bytes_done(0)
    wheres = [str(train.source), str(train.files[-1])]
    if settings.shared_vocabulary:
        tokenizer = counters[0].tokenizer(" and ".join(dict.fromkeys(wheres)))
        return tokenizer, tokenizer
    return counters[0].tokenizer(wheres[0]), counters[1].tokenizer(wheres[1])


def _write_split(
    folder: Path,
    split: str,
    files: PairFiles,
    tokenizers: tuple[Tokenizer, Tokenizer],
    settings: CorpusSettings,
    bytes_done: _ByteProgress,
) -> dict[str, Any]:
    """Writes the arrays of a split, and its text where it is not the training text; returns the counts."""
    bytes_done.what = f"writing {split}"
    pairs = _KeptPairs(files, tokenizers, [settings.max_length if split == "train" else None] * 2, bytes_done)
    unknown = [0, 0]
    with ExitStack() as stack:
        names = [[folder / name for name in files_of_side(split, side)] for side in SIDES]
        writers = [
            stack.enter_context(SentenceWriter(*arrays, vocabulary_size=len(tokenizer.vocabulary)))
            for (*arrays, _), tokenizer in zip(names, tokenizers, strict=True)
        ]
        texts = [] if split == "train" else [stack.enter_context(text.open("wb")) for *_, text in names]
        for segments, lengths, lines in pairs:
            for side, tokenizer in enumerate(tokenizers):
                numbers = tokenizer.numbers(segments[side])
                unknown[side] += int(np.count_nonzero(numbers == UNKNOWN))
                writers[side].add(numbers, lengths[side])
            for text, side_lines in zip(texts, lines, strict=False):
                kept = lowered(side_lines) if settings.lowercase else side_lines
                text.write("".join(f"{line}\n" for line in kept).encode())
    sides = zip(SIDES, writers, unknown, strict=True)
    return pairs.counts | {side: {"tokens": writer.num_tokens, "unknown": count} for side, writer, count in sides}


def _notes(counts: Mapping[str, Mapping[str, Any]], settings: CorpusSettings) -> list[str]:
    notes = []
    for split in SPLITS:
        about = counts.get(split, {})
        if about.get("left_out_empty"):
            notes.append(f"{split}: pairs with an empty line left out: {about['left_out_empty']:,}")
        if about.get("left_out_long"):
            notes.append(
                f"{split}: pairs with more than {settings.max_length:,} tokens left out: {about['left_out_long']:,}"
            )
    return notes


@contextlib.contextmanager
def _collector_at_rest() -> Iterator[None]:
    """Keeps the garbage collector from walking over the lists of words again and again: a third of the time of cutting.

    Nothing here makes cycles.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
