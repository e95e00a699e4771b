"""From text to a corpus folder: the tokenizers are learned, then the token ids are written."""

from __future__ import annotations

import contextlib
import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

import numpy as np

from labelembed.errors import DataError
from labelembed.files import file_digest
from labelembed.lab.data.checks import require_file
from labelembed.lab.data.corpus.pair_files import PairFiles
from labelembed.lab.data.corpus.sentence_pairs import token_type
from labelembed.lab.data.corpus.text_corpus import FORMAT, MANIFEST, SIDES, SPLITS, TextCorpus, read_corpus
from labelembed.lab.data.corpus.tokenizer import CorpusSettings, Tokenizer, learned_tokenizer


def preprocess(
    *,
    train: PairFiles,
    validation: PairFiles | None = None,
    test: PairFiles | None = None,
    out: Path,
    settings: CorpusSettings | None = None,
    progress: Callable[[str], None] = lambda step: None,
) -> TextCorpus:
    """Makes a corpus folder and returns it opened.

    The text is read several times and never held in memory as a whole. The folder is written under a temporary name
    and renamed at the end. Pairs with an empty line on either side are left out, of training the long ones too.

    Args:
        train: The training pairs; the vocabularies are counted over them.
        validation: Pairs to choose by; of these and of test pairs the text is kept, as references.
        test: Test pairs.
        out: The folder, new or empty; raises DataError where it is not, or a file cannot be used.
        settings: How text becomes tokens; None: as words.
        progress: Called with each step as it begins: ``writing train``.
    """
    settings = settings or CorpusSettings()
    given = zip(SPLITS, (train, validation, test), strict=True)
    splits = {name: pairs for name, pairs in given if pairs is not None}
    for file in (file for pairs in splits.values() for file in pairs):
        require_file(file, "a text file of sentences")

    def learn(*sides: int) -> Tokenizer:
        progress(f"learning the vocabulary of {' and '.join(SIDES[side] for side in sides)}")
        lines = (line for block in train.blocks() for side in sides for line in block[side])
        return learned_tokenizer(lines, settings, str(train[sides[0]]))

    with _new_folder(Path(out).expanduser()) as folder:
        tokenizers = (learn(0, 1),) * 2 if settings.shared_vocabulary else (learn(0), learn(1))
        for side, tokenizer in zip(SIDES, tokenizers, strict=True):
            tokenizer.save(folder, side)
        kept, notes = {}, list[str]()
        for name, pairs in splits.items():
            progress(f"writing {name}")
            kept[name], left_out = _write_split(folder, name, pairs, tokenizers, settings)
            notes += [f"{name}: pairs {why} left out: {number:,}" for why, number in left_out.items() if number]
            if not kept[name]:
                raise DataError(f"{pairs.source}: no pair is left; {'; '.join(notes) or 'the files are empty'}")
        content = json.dumps([FORMAT, *([file.name, file_digest(file)] for file in sorted(folder.iterdir()))])
        manifest = {
            "format": FORMAT,
            "fingerprint": hashlib.sha256(content.encode()).hexdigest(),
            "settings": asdict(settings),
            "splits": kept,
            "notes": notes,
        }
        (folder / MANIFEST).write_text(json.dumps(manifest, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return read_corpus(out)


def _write_split(
    folder: Path, name: str, pairs: PairFiles, tokenizers: tuple[Tokenizer, ...], settings: CorpusSettings
) -> tuple[int, dict[str, int]]:
    """Writes the arrays of a split, and its text unless it is for training; returns how many pairs, and left out."""
    most = settings.max_length if name == "train" else None
    left_out = {"with an empty line": 0, "with too many tokens": 0}
    lengths: tuple[list[int], list[int]] = ([0], [0])
    with ExitStack() as stack:
        arrays = [stack.enter_context((folder / f"{name}-{side}.bin").open("wb")) for side in SIDES]
        texts = [stack.enter_context((folder / f"{name}-{side}.txt").open("wb")) for side in SIDES if name != "train"]
        for block in pairs.blocks():
            encoded = (tokenizer.encode_lines(lines) for tokenizer, lines in zip(tokenizers, block, strict=True))
            filled = [pair for pair in zip(*encoded, *block, strict=True) if len(pair[0]) and len(pair[1])]
            kept = [pair for pair in filled if most is None or max(len(pair[0]), len(pair[1])) <= most]
            left_out["with an empty line"] += len(block[0]) - len(filled)
            left_out["with too many tokens"] += len(filled) - len(kept)
            for side, tokenizer in enumerate(tokenizers):
                ids = np.concatenate([np.zeros(0, np.int32), *(pair[side] for pair in kept)])
                arrays[side].write(ids.astype(token_type(len(tokenizer.vocabulary))).tobytes())
                lengths[side].extend(len(pair[side]) for pair in kept)
            for side, file in enumerate(texts):
                text = "".join(f"{pair[2 + side]}\n" for pair in kept)
                file.write((text.lower() if settings.lowercase else text).encode())
    for name_of_side, its in zip(SIDES, lengths, strict=True):
        np.cumsum(its, dtype=np.int64).tofile(folder / f"{name}-{name_of_side}-offsets.bin")
    return len(lengths[0]) - 1, left_out


@contextlib.contextmanager
def _new_folder(out: Path) -> Iterator[Path]:
    """Gives a folder beside `out` that takes its place at the end, and goes where anything fails, Ctrl-C included."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out}: is there already; remove it, or choose another folder with --out")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as temporary:
        folder = Path(temporary, "new")
        folder.mkdir()
        yield folder
        folder.rename(out)
