"""A corpus ready for training: pairs of sentences as token ids, and the tokenizers that made them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from labelembed import seeds
from labelembed.errors import DataError
from labelembed.lab.data.batch import require_whole
from labelembed.lab.data.checks import require_file
from labelembed.lab.data.corpus.pair_files import read_lines
from labelembed.lab.data.corpus.sentence_pairs import SentencePairs, Sentences
from labelembed.lab.data.corpus.tokenizer import Tokenizer

#: The file that says what the others are; written last.
MANIFEST = "corpus.json"
FORMAT = 3
SIDES = ("source", "target")
SPLITS = ("train", "validation", "test")
_AGAIN = "make the corpus again with labelembed preprocess"


@dataclass(frozen=True, eq=False, kw_only=True)
class TextCorpus:
    """What `preprocess` wrote, opened; the token arrays stay in their files.

    Attributes:
        splits: The sentence pairs of `train`, and of `validation` and `test` where there are such.
        source_tokenizer: Between text and token ids of the source side.
        target_tokenizer: The same of the target side; its vocabulary are the labels.
        folder: The corpus folder.
        digest: SHA-256 of the content.
        counts: For each split the pairs, what was left out, and for each side tokens and unknown tokens.
        notes: What the user should know of the corpus, one line each.
    """

    splits: Mapping[str, SentencePairs]
    source_tokenizer: Tokenizer
    target_tokenizer: Tokenizer
    folder: Path
    digest: str
    counts: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def train(self) -> SentencePairs:
        """Training pairs."""
        return self.splits["train"]

    @property
    def validation(self) -> SentencePairs | None:
        """Pairs to choose by, or None."""
        return self.splits.get("validation")

    @property
    def test(self) -> SentencePairs | None:
        """Test pairs, or None."""
        return self.splits.get("test")

    @property
    def source(self) -> str:
        """Where the corpus is, for messages and reports."""
        return str(self.folder)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the labels: the tokens of the target vocabulary, the special ones included."""
        return self.target_tokenizer.vocabulary.tokens

    @property
    def num_labels(self) -> int:
        """Number of labels."""
        return len(self.names)

    def to(self, device: torch.device | str) -> TextCorpus:
        """Returns this corpus: its arrays stay in their files, and the batches go to the device one by one."""
        return self

    def fingerprint(self) -> str:
        """Returns the SHA-256 (64 hexadecimal digits) of the content, wherever the corpus lies."""
        return self.digest

    def source_lines(self, split: str) -> list[str]:
        """Returns the source lines of `validation` or `test`, one a pair; DataError for a split without text."""
        return self._lines(split, "source")

    def references(self, split: str) -> list[str]:
        """Returns the target lines of `validation` or `test`, which translations are compared with."""
        return self._lines(split, "target")

    def _lines(self, split: str, side: str) -> list[str]:
        kept = [name for name in self.splits if name != "train"]
        if split not in kept:
            raise DataError(f"{self.folder}: keeps no text of {split!r}; it has that of {', '.join(kept) or 'none'}")
        return list(read_lines(self.folder / f"{split}-{side}.txt"))


def open_corpus(*, path: str, train_examples: int | None = None) -> TextCorpus:
    """Sentence pairs that `labelembed preprocess` wrote.

    Args:
        path: The corpus folder.
        train_examples: Train on so many pairs only, drawn always the same, fewer a part of more; null: on all.
    """
    corpus = read_corpus(path)
    if train_examples is None:
        return corpus
    train, count = corpus.train, require_whole("train_examples", train_examples)
    if count > len(train):
        raise DataError(f"{path}: `train_examples` is {count:,}, but the training set has {len(train):,} pairs")
    drawn = torch.randperm(len(train), generator=seeds.generator(0, "train_examples"))[:count].sort().values
    return replace(
        corpus,
        splits={**corpus.splits, "train": train.select(drawn.numpy())},
        digest=hashlib.sha256(f"{corpus.digest} {count}".encode()).hexdigest(),
        notes=(*corpus.notes, f"train: {count:,} of {len(train):,} pairs (data.train_examples)"),
    )


def read_corpus(path: Path | str) -> TextCorpus:
    """Returns the corpus of a folder that `preprocess` wrote.

    Raises:
        DataError: The folder is no corpus, is of another version, or a file of it is missing or damaged; names it.
    """
    folder = Path(path).expanduser()
    manifest = read_manifest_of(folder)
    tokenizers = {side: Tokenizer.load(folder, side) for side in SIDES}
    try:
        counts = {split: manifest["splits"][split] for split in SPLITS if split in manifest["splits"]}
        splits = {}
        for split in counts:
            sides = (_sentences(folder, f"{split}-{side}", len(tokenizers[side].vocabulary)) for side in SIDES)
            splits[split] = SentencePairs(*sides)
        return TextCorpus(
            splits={"train": splits["train"], **splits},
            source_tokenizer=tokenizers["source"],
            target_tokenizer=tokenizers["target"],
            folder=folder,
            digest=str(manifest["fingerprint"]),
            counts=counts,
            notes=tuple(manifest["notes"]),
        )
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise DataError(f"{folder / MANIFEST}: is damaged ({type(error).__name__}: {error}); {_AGAIN}") from None


def _sentences(folder: Path, name: str, vocabulary_size: int) -> Sentences:
    tokens, offsets = folder / f"{name}.bin", folder / f"{name}-offsets.bin"
    try:
        return Sentences.open(tokens, offsets, vocabulary_size=vocabulary_size)
    except (ValueError, OSError) as error:
        raise DataError(f"{offsets}: is damaged, or {tokens.name} is ({error}); {_AGAIN}") from None


def read_manifest_of(folder: Path) -> dict[str, Any]:
    """Returns what the manifest of a corpus folder says; its files are there, as long as they were written.

    Raises:
        DataError: There is none, it is damaged, or it is of another version.
    """
    file = folder / MANIFEST
    if folder.is_dir() and not file.exists():
        raise DataError(f"{folder}: is no corpus, it has no {MANIFEST}; labelembed preprocess makes one")
    require_file(file, "a corpus folder, as labelembed preprocess makes it")
    try:
        manifest: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        if manifest["format"] != FORMAT:
            found = f"is of format {manifest['format']}; this version of labelembed reads {FORMAT}"
            raise DataError(f"{file}: {found}; {_AGAIN}")
        sizes = {folder / name: int(size) for name, size in manifest["files"].items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"{file}: is damaged ({type(error).__name__}: {error}); {_AGAIN}") from None
    for path, expected in sizes.items():
        require_file(path, f"a file of the corpus; {_AGAIN}")
        if path.stat().st_size != expected:
            raise DataError(f"{path}: expected {expected:,} bytes, found {path.stat().st_size:,}; {_AGAIN}")
    return manifest
