"""A corpus ready for training: pairs of sentences as token numbers, and the codecs that made them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from labelembed.data.codec import TextCodec
from labelembed.data.sentence_pairs import SentencePairs
from labelembed.data.text_lines import line_blocks
from labelembed.errors import DataError

#: A corpus's splits, in the order in which they are told.
SPLITS = ("train", "development", "test")


@dataclass(frozen=True, eq=False, kw_only=True)
class TextCorpus:
    """What `preprocess` wrote, opened; the token arrays stay in their files.

    Attributes:
        train: Training pairs.
        development: Pairs to choose by, or None.
        test: Test pairs, or None.
        source_codec: Between text and token numbers of the source side.
        target_codec: The same of the target side; its vocabulary are the labels.
        folder: The corpus folder.
        digest: SHA-256 of the content.
        counts: For each split the pairs, what was left out, and for each side tokens and unknown tokens.
        notes: What the user should know of the corpus, one line each.
    """

    train: SentencePairs
    development: SentencePairs | None
    test: SentencePairs | None
    source_codec: TextCodec
    target_codec: TextCodec
    folder: Path
    digest: str
    counts: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def source(self) -> str:
        """Where the corpus is, for messages and reports."""
        return str(self.folder)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the labels: the tokens of the target vocabulary, the special ones included."""
        return self.target_codec.vocabulary.tokens

    @property
    def num_labels(self) -> int:
        """Number of labels."""
        return len(self.names)

    @property
    def splits(self) -> dict[str, SentencePairs]:
        """The splits there are, by name."""
        found = {"train": self.train, "development": self.development, "test": self.test}
        return {name: split for name, split in found.items() if split is not None}

    def to(self, device: torch.device | str) -> TextCorpus:
        """Returns this corpus: its arrays stay in their files, and the batches go to the device one by one."""
        return self

    def fingerprint(self) -> str:
        """Returns the SHA-256 (64 hexadecimal digits) of the content: codecs, tokens and texts.

        Where the corpus lies takes no part.
        """
        return self.digest

    def source_lines(self, split: str) -> list[str]:
        """Returns the source lines of `development` or `test` as they stood in the text, one a pair.

        Raises:
            DataError: The corpus has no such split, or keeps no text of it, as of the training pairs.
        """
        return self._lines(split, "source")

    def references(self, split: str) -> list[str]:
        """Returns the target lines of `development` or `test` as they stood in the text, one a pair.

        Where the target is made lower-case these are, too: they are what a translation is compared with.

        Raises:
            DataError: The corpus has no such split, or keeps no text of it, as of the training pairs.
        """
        return self._lines(split, "target")

    def _lines(self, split: str, side: str) -> list[str]:
        kept = [name for name in self.splits if name != "train"]
        if split not in kept:
            raise DataError(f"{self.folder}: keeps no text of {split!r}; it has that of {', '.join(kept) or 'none'}")
        lines = [line for block in line_blocks(self.folder / text_file(split, side)) for line in block]
        if len(lines) != len(self.splits[split]):
            file = self.folder / text_file(split, side)
            raise DataError(f"{file}: expected {len(self.splits[split]):,} lines, found {len(lines):,}")
        return lines


def tokens_file(split: str, side: str) -> str:
    """Returns the name of the array of tokens of one side of a split."""
    return f"{split}-{side}.npy"


def offsets_file(split: str, side: str) -> str:
    """Returns the name of the array that says where each sentence begins."""
    return f"{split}-{side}-offsets.npy"


def text_file(split: str, side: str) -> str:
    """Returns the name of the text of one side of a split."""
    return f"{split}-{side}.txt"
