"""From text to a corpus folder in two passes: one that learns the tokenizers, one that writes the token ids."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from labelembed.errors import DataError
from labelembed.lab.data.cache import file_digest
from labelembed.lab.data.checks import require_file
from labelembed.lab.data.corpus.pair_files import ACCEPTED, BytesRead, PairFiles
from labelembed.lab.data.corpus.sentence_pairs import token_type
from labelembed.lab.data.corpus.text_corpus import FORMAT, MANIFEST, SIDES, SPLITS, TextCorpus, read_corpus
from labelembed.lab.data.corpus.tokenizer import CorpusSettings, Tokenizer, TokenizerTrainer
from labelembed.lab.special_tokens import UNKNOWN

#: Called with what is being done and how far it is, in bytes: ("learning the vocabulary", 3, 10).
Progress = Callable[[str, int, int], None]
_OF_A_CORPUS = re.compile(rf"{MANIFEST}$|({'|'.join((*SIDES, *SPLITS))})-")
# What makes tokens or ids of the lines of a side.
_Split = Callable[[Sequence[str]], Sequence[Any]]


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
        out: The folder.
        settings: How text becomes tokens; None: as words.
        overwrite: Replace the corpus that is there.
        progress: Told how far it is.

    Raises:
        DataError: A file cannot be used (names file and line), nothing is left, or `out` holds something.
    """
    settings = settings or CorpusSettings()
    given = {"train": train, "validation": validation, "test": test}
    splits = {name: pairs for name, pairs in given.items() if pairs is not None}
    files = [file for pairs in (train, *splits.values()) for file in pairs.files]  # those of training are read twice
    for file in files:
        require_file(file, ACCEPTED)
    total, done, step = sum(file.stat().st_size for file in files), 0, "learning the vocabulary"

    def bytes_read(count: int) -> None:
        nonlocal done
        done += count
        if progress is not None:
            progress(step, min(done, total), total)

    out = Path(out).expanduser()
    _check_out(out, overwrite=overwrite)
    with _new_folder(out) as folder:
        tokenizers = _learned_tokenizers(train, settings, bytes_read)
        for side, tokenizer in zip(SIDES, tokenizers, strict=True):
            tokenizer.save(folder, side)
        counts = {}
        for name, pairs in splits.items():
            step = f"writing {name}"
            counts[name] = _write_split(folder, name, pairs, tokenizers, settings, bytes_read)
        written = sorted(folder.iterdir())
        content = json.dumps([FORMAT, *([file.name, file_digest(file)] for file in written)])
        manifest = {
            "format": FORMAT,
            "fingerprint": hashlib.sha256(content.encode()).hexdigest(),
            "settings": asdict(settings),
            "splits": counts,
            "notes": [
                f"{name}: pairs with {what} left out: {about[key]:,}"
                for name, about in counts.items()
                for key, what in (("left_out_empty", "an empty line"), ("left_out_long", "too many tokens"))
                if about[key]
            ],
            "files": {file.name: file.stat().st_size for file in written},
        }
        (folder / MANIFEST).write_text(json.dumps(manifest, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return read_corpus(out)


def _kept_pairs(
    files: PairFiles, splits: Sequence[_Split], limit: int | None, counts: Counter[str], bytes_read: BytesRead
) -> Iterator[list[tuple[list[Any], list[str]]]]:
    """Yields blocks of the pairs that are kept: for each side what its split makes of the lines, and the lines.

    Pairs with an empty side or one of more than `limit` tokens are left out; `counts` says how many.
    """
    for block in files.blocks(bytes_read=bytes_read):
        sides = [split(lines) for split, lines in zip(splits, block, strict=True)]
        kept = []
        for index, lengths in enumerate(zip(*(map(len, side) for side in sides), strict=True)):
            is_long = limit is not None and max(lengths) > limit
            counts["left_out_empty" if min(lengths) == 0 else "left_out_long" if is_long else "pairs"] += 1
            if min(lengths) > 0 and not is_long:
                kept.append(index)
        yield [([side[i] for i in kept], [lines[i] for i in kept]) for side, lines in zip(sides, block, strict=True)]
    if counts["pairs"] == 0:
        left_out = f"{counts['left_out_empty']:,} with an empty line, {counts['left_out_long']:,} above --max-length"
        raise DataError(f"{files.source}: no pair is left; left out: {left_out}")


def _learned_tokenizers(train: PairFiles, settings: CorpusSettings, bytes_read: BytesRead) -> list[Tokenizer]:
    """Returns the tokenizers of source and target, learned from the training pairs that are kept."""
    trainers = [TokenizerTrainer(settings) for _ in range(1 if settings.shared_vocabulary else 2)]
    # The length in subwords is not known before there are any.
    limit = None if settings.level == "subword" else settings.max_length
    for sides in _kept_pairs(train, [settings.pieces] * 2, limit, Counter(), bytes_read):
        for trainer, (pieces, _) in zip((trainers[0], trainers[-1]), sides, strict=True):
            trainer.add(pieces)
    learned = [trainer.tokenizer(str(train.files[-place])) for place, trainer in enumerate(trainers)]
    return [learned[0], learned[-1]]


def _write_split(
    folder: Path,
    name: str,
    files: PairFiles,
    tokenizers: Sequence[Tokenizer],
    settings: CorpusSettings,
    bytes_read: BytesRead,
) -> dict[str, Any]:
    """Writes the arrays of a split, and its text where it is not the training text; returns the counts."""
    counts: Counter[str] = Counter(pairs=0, left_out_empty=0, left_out_long=0)
    limit = settings.max_length if name == "train" else None
    lengths: tuple[list[int], list[int]] = ([], [])
    unknown = [0, 0]
    with ExitStack() as stack:
        arrays = [stack.enter_context((folder / f"{name}-{side}.bin").open("wb")) for side in SIDES]
        texts = [stack.enter_context((folder / f"{name}-{side}.txt").open("wb")) for side in SIDES if name != "train"]
        splits = [tokenizer.encode_lines for tokenizer in tokenizers]
        for sides in _kept_pairs(files, splits, limit, counts, bytes_read):
            for place, (sentences, lines) in enumerate(sides):
                ids = np.concatenate([np.zeros(0, np.int32), *sentences])
                arrays[place].write(ids.astype(token_type(len(tokenizers[place].vocabulary))).tobytes())
                unknown[place] += int(np.count_nonzero(ids == UNKNOWN))
                lengths[place].extend(map(len, sentences))
                if texts:
                    text = "".join(f"{line}\n" for line in lines)
                    texts[place].write((text.lower() if settings.lowercase else text).encode())
    about = {}
    for place, side in enumerate(SIDES):
        np.cumsum([0, *lengths[place]], dtype=np.int64).tofile(folder / f"{name}-{side}-offsets.bin")
        about[side] = {"tokens": sum(lengths[place]), "unknown": unknown[place]}
    return {**counts, **about}


def _check_out(out: Path, *, overwrite: bool) -> None:
    """Raises DataError where `out` must not be replaced."""
    if out.exists() and not out.is_dir():
        raise DataError(f"{out}: is no folder; choose another with --out")
    entries = sorted(entry.name for entry in out.iterdir()) if out.exists() else []
    foreign = [name for name in entries if not _OF_A_CORPUS.match(name)]
    if foreign:
        raise DataError(f"{out}: holds {foreign[0]}, which is not of a corpus; choose another folder with --out")
    if entries and not overwrite:
        raise DataError(f"{out}: holds a corpus; give --overwrite, or another folder with --out")


@contextlib.contextmanager
def _new_folder(out: Path) -> Iterator[Path]:
    """Gives a folder beside `out` that takes its place at the end, and goes where anything fails, Ctrl-C included."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    except OSError as error:
        raise DataError(f"{out}: cannot write here ({error.strerror or error}); choose another with --out") from None
    try:
        folder = temporary / "new"
        folder.mkdir()
        yield folder
        if out.exists():
            out.rename(temporary / "old")
        folder.rename(out)
    except OSError as error:
        raise DataError(f"{out}: cannot be written ({error.strerror or error})") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
