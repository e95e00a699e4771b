"""A corpus ready for training: pairs of sentences as token ids, and the tokenizers that made them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch

from labelembed import seeds
from labelembed.errors import DataError
from labelembed.lab.data.corpus.pair_files import read_lines
from labelembed.lab.data.corpus.sentence_pairs import SentencePairs, Sentences
from labelembed.lab.data.corpus.tokenizer import Tokenizer
from labelembed.lab.data.encoder import read_settings

#: The file that says what the others are; written last.
MANIFEST = "corpus.json"
FORMAT = 3
SIDES = ("source", "target")
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, eq=False)
class TextCorpus:
    """What `preprocess` wrote, opened; the token arrays stay in their files.

    Attributes:
        splits: The sentence pairs of `train`, and of `validation` and `test` where there are such.
        source_tokenizer, target_tokenizer: Between text and token ids; the vocabulary of the target are the labels.
        folder: The corpus folder.
        digest: SHA-256 of the content.
        notes: What the user should know of the corpus, one line each.
    """

    splits: Mapping[str, SentencePairs]
    source_tokenizer: Tokenizer
    target_tokenizer: Tokenizer
    folder: Path
    digest: str
    notes: tuple[str, ...]

    @property
    def train(self) -> SentencePairs:
        """Training pairs."""
        return self.splits["train"]

    @property
    def validation(self) -> SentencePairs | None:
        """Pairs to choose by, or None."""
        return self.splits.get("validation")

    @property
    def source(self) -> str:
        """Where the corpus is, for messages and reports."""
        return str(self.folder)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the labels: the tokens of the target vocabulary, the special ones included."""
        return self.target_tokenizer.vocabulary

    @property
    def num_labels(self) -> int:
        """Number of labels."""
        return len(self.names)

    def to(self, device: torch.device | str) -> TextCorpus:
        """Returns this corpus: its arrays stay in their files, and batches go to the device one by one."""
        return self

    def fingerprint(self) -> str:
        """Returns the SHA-256 (64 hexadecimal digits) of the content, wherever the corpus lies."""
        return self.digest

    def source_lines(self, split: str) -> list[str]:
        """Returns the source lines of `validation` or `test`, one a pair."""
        return list(read_lines(self.folder / f"{split}-source.txt"))

    def references(self, split: str) -> list[str]:
        """Returns the target lines of `validation` or `test`, which translations are compared with."""
        return list(read_lines(self.folder / f"{split}-target.txt"))


@dataclass(kw_only=True)
class _Manifest:
    format: Literal[3]
    fingerprint: str
    splits: dict[str, Any]
    notes: list[str]


def read_corpus(path: Path | str) -> TextCorpus:
    """Returns the corpus of a folder; raises DataError where it is none or of another version, or a file is damaged."""
    folder = Path(path).expanduser()
    if folder.is_dir() and not (folder / MANIFEST).exists():
        raise DataError(f"{folder}: is no corpus, it has no {MANIFEST}; labelembed preprocess makes one")
    manifest = read_settings(folder / MANIFEST, _Manifest)
    source, target = (Tokenizer.load(folder, side) for side in SIDES)
    sizes = {"source": len(source.vocabulary), "target": len(target.vocabulary)}
    splits = {}
    for split in SPLITS:
        if split == "train" or split in manifest.splits:
            sides = [Sentences.open(folder, f"{split}-{side}", size) for side, size in sizes.items()]
            if len(sides[0]) != len(sides[1]):
                what = f"is damaged, {split} has {len(sides[0])} source and {len(sides[1])} target sentences"
                raise DataError(f"{folder}: {what}; make it again with labelembed preprocess")
            splits[split] = SentencePairs(*sides)
    return TextCorpus(splits, source, target, folder, manifest.fingerprint, tuple(manifest.notes))


def open_corpus(*, path: str, train_examples: int | None = None) -> TextCorpus:
    """Sentence pairs that `labelembed preprocess` wrote.

    Args:
        path: The corpus folder.
        train_examples: Train on so many pairs only, drawn always the same, fewer a part of more; null: on all.
    """
    corpus = read_corpus(path)
    if train_examples is None:
        return corpus
    count, train = train_examples, corpus.train
    if count > len(train):
        raise DataError(f"{path}: `train_examples` is {count:,}, but the training set has {len(train):,} pairs")
    drawn = torch.randperm(len(train), generator=seeds.generator(0, "train_examples"))[:count].sort().values
    return replace(
        corpus,
        splits={**corpus.splits, "train": train.select(drawn.numpy())},
        digest=hashlib.sha256(f"{corpus.digest} {count}".encode()).hexdigest(),
        notes=(*corpus.notes, f"train: {count:,} of {len(train):,} pairs (data.train_examples)"),
    )
