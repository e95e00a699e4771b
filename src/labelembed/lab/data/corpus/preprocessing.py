"""From text to a corpus folder: the tokenizers are learned, then the token ids are written."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import tempfile
from collections.abc import Callable, Iterator
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
from labelembed.lab.data.corpus.tokenizer import CorpusSettings, Tokenizer, learned_tokenizer
from labelembed.lab.special_tokens import UNKNOWN

_OF_A_CORPUS = re.compile(rf"{MANIFEST}$|({'|'.join((*SIDES, *SPLITS))})-")


def preprocess(
    *,
    train: PairFiles,
    validation: PairFiles | None = None,
    test: PairFiles | None = None,
    out: Path,
    settings: CorpusSettings | None = None,
    overwrite: bool = False,
    progress: Callable[[str, int, int], None] = lambda step, done, total: None,
) -> TextCorpus:
    """Makes a corpus folder and returns it opened.

    The text is read several times and never held in memory as a whole. The folder is written under a temporary name
    and renamed at the end. Pairs with an empty line on either side are left out, of training the long ones too.

    Args:
        train: The training pairs; the vocabularies are counted over them.
        validation: Pairs to choose by; of these and of test pairs the text is kept, as references.
        test: Test pairs.
        out: The folder; raises DataError where it holds something else, or where a file cannot be used.
        settings: How text becomes tokens; None: as words.
        overwrite: Replace the corpus that is there.
        progress: Called with what is being done and how far it is, in bytes: ("learning the vocabulary", 3, 10).
    """
    settings = settings or CorpusSettings()
    given = {"train": train, "validation": validation, "test": test}
    splits = {name: pairs for name, pairs in given.items() if pairs is not None}
    readings = [*[train] * (1 if settings.shared_vocabulary else 2), *splits.values()]
    files = [file for pairs in readings for file in pairs.files]
    for file in files:
        require_file(file, ACCEPTED)
    total, done, step = sum(file.stat().st_size for file in files), 0, "learning the vocabulary"

    def bytes_read(count: int) -> None:
        nonlocal done
        done += count
        progress(step, min(done, total), total)

    def learn(*sides: int) -> Tokenizer:
        lines = (line for block in train.blocks(bytes_read=bytes_read) for side in sides for line in block[side])
        return learned_tokenizer(lines, settings, str(train.files[sides[0] if train.target else 0]))

    with _new_folder(Path(out).expanduser(), overwrite=overwrite) as folder:
        first = learn(0, 1) if settings.shared_vocabulary else learn(0)
        tokenizers = (first, first if settings.shared_vocabulary else learn(1))
        for side, tokenizer in zip(SIDES, tokenizers, strict=True):
            tokenizer.save(folder, side)
        counts, notes = {}, []
        for name, pairs in splits.items():
            step = f"writing {name}"
            counts[name] = _write_split(folder, name, pairs, tokenizers, settings, bytes_read)
            for what in ("with an empty line", "with too many tokens"):
                if number := counts[name][what]:
                    notes.append(f"{name}: pairs {what} left out: {number:,}")
        written = sorted(folder.iterdir())
        content = json.dumps([FORMAT, *([file.name, file_digest(file)] for file in written)])
        manifest = {
            "format": FORMAT,
            "fingerprint": hashlib.sha256(content.encode()).hexdigest(),
            "settings": asdict(settings),
            "splits": counts,
            "notes": notes,
            "files": {file.name: file.stat().st_size for file in written},
        }
        (folder / MANIFEST).write_text(json.dumps(manifest, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return read_corpus(out)


def _write_split(
    folder: Path,
    name: str,
    files: PairFiles,
    tokenizers: tuple[Tokenizer, Tokenizer],
    settings: CorpusSettings,
    bytes_read: BytesRead,
) -> dict[str, Any]:
    """Writes the arrays of a split, and its text where it is not the training text; returns the counts."""
    counts: dict[str, Any] = {"pairs": 0, "with an empty line": 0, "with too many tokens": 0}
    counts |= {side: {"tokens": 0, "unknown": 0} for side in SIDES}
    lengths: dict[str, list[int]] = {side: [0] for side in SIDES}
    most = settings.max_length if name == "train" else None
    with ExitStack() as stack:

        def new_file(ending: str) -> Any:
            return stack.enter_context((folder / f"{name}-{ending}").open("wb"))

        arrays = {side: new_file(f"{side}.bin") for side in SIDES}
        texts = {side: new_file(f"{side}.txt") for side in SIDES if name != "train"}
        for block in files.blocks(bytes_read=bytes_read):
            encoded = (tokenizer.encode_lines(lines) for tokenizer, lines in zip(tokenizers, block, strict=True))
            pairs = list(zip(*encoded, *block, strict=True))
            filled = [pair for pair in pairs if len(pair[0]) and len(pair[1])]
            kept = [pair for pair in filled if most is None or max(len(pair[0]), len(pair[1])) <= most]
            counts["with an empty line"] += len(pairs) - len(filled)
            counts["with too many tokens"] += len(filled) - len(kept)
            counts["pairs"] += len(kept)
            for place, side in enumerate(SIDES):
                ids = np.concatenate([np.zeros(0, np.int32), *(pair[place] for pair in kept)])
                arrays[side].write(ids.astype(token_type(len(tokenizers[place].vocabulary))).tobytes())
                lengths[side] += [len(pair[place]) for pair in kept]
                counts[side]["tokens"] += len(ids)
                counts[side]["unknown"] += int((ids == UNKNOWN).sum())
                if texts:
                    text = "".join(f"{pair[2 + place]}\n" for pair in kept)
                    texts[side].write((text.lower() if settings.lowercase else text).encode())
    for side in SIDES:
        np.cumsum(lengths[side], dtype=np.int64).tofile(folder / f"{name}-{side}-offsets.bin")
    if not counts["pairs"]:
        left_out = ", ".join(f"{counts[what]:,} {what}" for what in ("with an empty line", "with too many tokens"))
        raise DataError(f"{files.source}: no pair is left; left out: {left_out}")
    return counts


@contextlib.contextmanager
def _new_folder(out: Path, *, overwrite: bool) -> Iterator[Path]:
    """Gives a folder beside `out` that takes its place at the end, and goes where anything fails, Ctrl-C included."""
    try:
        entries = sorted(entry.name for entry in out.iterdir()) if out.exists() else []
        foreign = [name for name in entries if not _OF_A_CORPUS.match(name)]
        if foreign:
            raise DataError(f"{out}: holds {foreign[0]}, which is not of a corpus; choose another folder with --out")
        if entries and not overwrite:
            raise DataError(f"{out}: holds a corpus; give --overwrite, or another folder with --out")
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as temporary:
            folder = Path(temporary, "new")
            folder.mkdir()
            yield folder
            if out.exists():
                out.rename(Path(temporary, "old"))
            folder.rename(out)
    except OSError as error:
        raise DataError(f"{out}: cannot be written ({error.strerror or error}); choose another with --out") from error
