"""How text becomes tokens: what `preprocess` can be told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from labelembed.errors import ArgumentErrors
from labelembed.lab.special_tokens import SPECIAL_TOKENS

#: What a token is.
Level = Literal["word", "subword", "character"]
LEVELS: tuple[Level, ...] = ("word", "subword", "character")
SubwordKind = Literal["bpe", "unigram"]


@dataclass(frozen=True, kw_only=True)
class CorpusSettings:
    """How text becomes tokens.

    Args:
        level: What a token is: `word`, `subword` or `character`.
        source_level: The same for the source alone; None: as `level`.
        target_level: The same for the target alone.
        vocabulary_size: Most tokens of a vocabulary, the four special ones included; None: all, for subwords 8,000.
        min_count: How often a word or character must occur in the training text to be in the vocabulary.
        shared_vocabulary: One vocabulary for both sides, counted over both.
        lowercase: Make both sides lower-case.
        max_length: Training pairs with more tokens than this on either side are left out; None: none are.
        subword_kind: How sentencepiece finds the pieces: `bpe` or `unigram`.

    Raises:
        ValueError: A setting is out of its range.
    """

    level: Level = "word"
    source_level: Level | None = None
    target_level: Level | None = None
    vocabulary_size: int | None = None
    min_count: int = 1
    shared_vocabulary: bool = False
    lowercase: bool = False
    max_length: int | None = None
    subword_kind: SubwordKind = "bpe"

    def __post_init__(self) -> None:
        errors = ArgumentErrors()
        for name in ("level", "source_level", "target_level"):
            if getattr(self, name) is not None or name == "level":
                errors.choice(name, getattr(self, name), LEVELS)
        errors.choice("subword_kind", self.subword_kind, ("bpe", "unigram"))
        size = self.vocabulary_size
        errors.require(
            size is None or size > len(SPECIAL_TOKENS),
            "vocabulary_size",
            size,
            f"must be > {len(SPECIAL_TOKENS)}, the special tokens {', '.join(SPECIAL_TOKENS)}",
        )
        errors.require(self.min_count >= 1, "min_count", self.min_count, "must be >= 1")
        counted = self.min_count == 1 or set(self.levels) != {"subword"}
        errors.require(
            counted, "min_count", self.min_count, "is for words and characters; subwords have vocabulary_size"
        )
        errors.require(self.max_length is None or self.max_length >= 1, "max_length", self.max_length, "must be >= 1")
        one_level = len(set(self.levels)) == 1
        errors.require(
            one_level or not self.shared_vocabulary,
            "shared_vocabulary",
            self.shared_vocabulary,
            f"needs one level for both sides ({' and '.join(map(str, self.levels))})",
        )
        errors.raise_if_any()

    @property
    def levels(self) -> tuple[Level, Level]:
        """The levels of source and target."""
        return self.source_level or self.level, self.target_level or self.level
