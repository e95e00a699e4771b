"""From text to token ids and back, by words, characters or subwords, on the library `tokenizers`."""

from __future__ import annotations

import hashlib
import importlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, takewhile
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from labelembed.errors import ArgumentErrors, DataError
from labelembed.lab.data.checks import require_file
from labelembed.lab.special_tokens import BEGIN, END, PAD, SPECIAL_TOKENS, UNKNOWN

#: What a token is.
Level = Literal["word", "subword", "character"]
LEVELS: tuple[Level, ...] = ("word", "subword", "character")
#: Subwords are learned from at most so many lines and characters, taken evenly over the training text.
SAMPLED_LINES, SAMPLED_CHARACTERS = 200_000, 2**25
#: Default size of a vocabulary of subwords.
SUBWORDS = 8_000
_SPACE = "\u2581"  # stands for a space in a subword


@dataclass(frozen=True, kw_only=True)
class CorpusSettings:
    """How text becomes tokens.

    Args:
        level: What a token is: `word`, `subword` (byte pair encoding) or `character`.
        vocabulary_size: Most tokens of a vocabulary, the four special ones included; None: all, for subwords 8,000.
        min_count: How often a word or character must occur in the training text to be in the vocabulary.
        shared_vocabulary: One vocabulary for both sides, counted over both.
        lowercase: Make both sides lower-case.
        max_length: Training pairs with more tokens than this on either side are left out; None: none are.

    Raises:
        ValueError: A setting is out of its range.
    """

    level: Level = "word"
    vocabulary_size: int | None = None
    min_count: int = 1
    shared_vocabulary: bool = False
    lowercase: bool = False
    max_length: int | None = None

    def __post_init__(self) -> None:
        errors = ArgumentErrors()
        errors.choice("level", self.level, LEVELS)
        rule = f"must be > {len(SPECIAL_TOKENS)}, the special tokens {', '.join(SPECIAL_TOKENS)}"
        size = self.vocabulary_size
        errors.require(size is None or size > len(SPECIAL_TOKENS), "vocabulary_size", size, rule)
        errors.whole("min_count", self.min_count, least=1)
        rule = "is for words and characters; subwords have vocabulary_size"
        errors.require(self.level != "subword" or self.min_count == 1, "min_count", self.min_count, rule)
        errors.whole("max_length", self.max_length, least=1, optional=True)
        errors.raise_if_any()

    def pieces(self, lines: Iterable[str]) -> list[Sequence[str]]:
        """Returns the words of each line, or its characters; white space of any kind and length is one space."""
        words = ((line.lower() if self.lowercase else line).split() for line in lines)
        return list(words) if self.level == "word" else list(map(" ".join, words))


@dataclass(frozen=True)
class Vocabulary:
    """Tokens by id: the four special ones (see `labelembed.lab.special_tokens`), then those of the text."""

    tokens: tuple[str, ...]

    @classmethod
    def from_counts(cls, counts: Mapping[str, int], *, size: int | None = None, min_count: int = 1) -> Vocabulary:
        """Returns the vocabulary of the most frequent tokens, those of the same count in the order of their text.

        Args:
            counts: How often each token occurs. One that is spelt like a special token is left out: what stands in
                a text must never begin or end a sentence.
            size: Most tokens it may have, the special ones included; None for no limit.
            min_count: How often a token must occur.
        """
        frequent = [token for token, count in counts.items() if count >= min_count and token not in SPECIAL_TOKENS]
        frequent.sort(key=lambda token: (-counts[token], token))
        return cls((*SPECIAL_TOKENS, *frequent)[:size])

    def __len__(self) -> int:
        return len(self.tokens)

    def decode(self, ids: Iterable[int]) -> list[str]:
        """Returns the tokens of ids; raises ValueError where one is not of the vocabulary."""
        ids = list(ids)
        if not all(0 <= one < len(self.tokens) for one in ids):
            raise ValueError(f"`ids` must be 0 to {len(self.tokens) - 1}, got {ids}")
        return [self.tokens[one] for one in ids]


class Tokenizer:
    """Splits lines into tokens, gives their ids, and writes ids as text again.

    Args:
        library: A `tokenizers.Tokenizer` whose vocabulary begins with our special tokens, as `TokenizerTrainer` makes
            it; or its JSON.

    Raises:
        ValueError: It is not such a tokenizer.
    """

    def __init__(self, library: Any) -> None:
        self._library = _tokenizers().Tokenizer.from_str(library) if isinstance(library, str) else library
        self._library.encode_special_tokens = True  # none is found in a text
        ids = self._library.get_vocab()
        self.vocabulary = Vocabulary(tuple(sorted(ids, key=ids.__getitem__)))
        if self.vocabulary.tokens[: len(SPECIAL_TOKENS)] != SPECIAL_TOKENS or max(ids.values()) >= len(ids):
            raise ValueError(f"the vocabulary must begin with {', '.join(SPECIAL_TOKENS)} and have no gaps")
        about = json.loads(self._library.to_str())
        splitter = (about["pre_tokenizer"] or {}).get("type")
        level: Level = "word" if splitter == "WhitespaceSplit" else "subword" if splitter else "character"
        self._settings = CorpusSettings(level=level, lowercase=about["normalizer"] is not None)

    @property
    def level(self) -> Level:
        """What a token is."""
        return self._settings.level

    def encode_lines(self, lines: Iterable[str]) -> list[npt.NDArray[np.int32]]:
        """Returns the ids [T] of each line, without begin and end; what is spelt like a special token is unknown."""
        lines = map(" ".join, CorpusSettings(lowercase=self._settings.lowercase).pieces(lines))
        encodings = self._library.encode_batch_fast(list(lines), add_special_tokens=False)
        ids = [np.array(encoding.ids, np.int32) for encoding in encodings]
        return [np.where(each < len(SPECIAL_TOKENS), UNKNOWN, each) for each in ids]

    def encode(self, line: str) -> npt.NDArray[np.int32]:
        """Returns the ids [T] of a line, without begin and end."""
        return self.encode_lines([line])[0]

    def tokens(self, line: str) -> list[str]:
        """Returns the tokens of a line as texts; words and characters that the vocabulary lacks included."""
        if self.level == "subword":
            return self.vocabulary.decode(self.encode(line))
        return list(self._settings.pieces([line])[0])

    def decode(self, ids: Iterable[int]) -> str:
        """Returns the text of ids, up to END and without PAD and BEGIN; ValueError for an id out of range."""
        before_end = takewhile(lambda one: one != END, map(int, ids))
        tokens = self.vocabulary.decode(one for one in before_end if one not in (PAD, BEGIN))
        text = (" " if self.level == "word" else "").join(tokens)
        return text.replace(_SPACE, " ").removeprefix(" ") if self.level == "subword" else text

    def digest(self) -> str:
        """Returns a SHA-256 over all that the ids of a text depend on, in hexadecimal."""
        return hashlib.sha256(self._library.to_str().encode()).hexdigest()

    def save(self, folder: Path, name: str) -> None:
        """Writes ``NAME-tokenizer.json``, as the library does: a token a line."""
        (Path(folder) / f"{name}-tokenizer.json").write_text(self._library.to_str(pretty=True), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path, name: str) -> Tokenizer:
        """Returns the tokenizer that `save` wrote.

        Raises:
            DataError: The file is missing or damaged, or the library is not installed.
        """
        file = Path(folder) / f"{name}-tokenizer.json"
        require_file(file, "what `labelembed preprocess` wrote")
        _tokenizers()
        try:
            return cls(file.read_text(encoding="utf-8"))
        except Exception as error:  # the library raises nothing more special
            raise DataError(f"{file}: is damaged, or of another version of labelembed ({error!s:.200})") from None


class TokenizerTrainer:
    """Learns a tokenizer from the training lines of one side, or of both where they share a vocabulary.

    Words and characters are counted. Subwords are learned from every line, then every second, every fourth, ...: as
    many as there is room for, without knowing how many come.

    Raises:
        DataError: The library `tokenizers` is not installed.
    """

    def __init__(self, settings: CorpusSettings) -> None:
        self._library, self._settings = _tokenizers(), settings
        self._counts: Counter[str] = Counter()
        self.sample: list[str] = []
        self._seen, self._stride = 0, 1

    def add(self, pieces: Sequence[Sequence[str]]) -> None:
        """Takes in what `CorpusSettings.pieces` returned of some lines."""
        if self._settings.level != "subword":
            self._counts.update(chain.from_iterable(pieces))
            return
        self.sample += map("".join, pieces[-self._seen % self._stride :: self._stride])
        self._seen += len(pieces)
        while len(self.sample) > SAMPLED_LINES or sum(map(len, self.sample)) > SAMPLED_CHARACTERS:
            self.sample = self.sample[::2]
            self._stride *= 2

    def tokenizer(self, where: str) -> Tokenizer:
        """Returns the tokenizer; `where` its lines stood, for messages.

        Raises:
            DataError: No token is frequent enough.
        """
        library, settings, unknown = self._library, self._settings, SPECIAL_TOKENS[UNKNOWN]
        if settings.level == "subword":
            found = self._subwords(settings.vocabulary_size or SUBWORDS)
        else:
            size, least = settings.vocabulary_size, settings.min_count
            tokens = Vocabulary.from_counts(self._counts, size=size, min_count=least).tokens
            if len(tokens) == len(SPECIAL_TOKENS):
                raise DataError(f"{where}: no token occurs {least:,} times; set a smaller --min-count")
            ids = {token: number for number, token in enumerate(tokens)}
            if settings.level == "word":
                found = library.Tokenizer(library.models.WordLevel(vocab=ids, unk_token=unknown))
                found.pre_tokenizer = library.pre_tokenizers.WhitespaceSplit()
            else:  # without merges, which is several times as quick as to split at every character
                found = library.Tokenizer(library.models.BPE(vocab=ids, merges=[], unk_token=unknown))
        if settings.lowercase:
            found.normalizer = library.normalizers.Lowercase()
        return Tokenizer(found)

    def _subwords(self, size: int) -> Any:
        """Returns the library's tokenizer of pieces found in the sample."""
        library = self._library
        # Characters take three quarters of the vocabulary at most (Chinese); the rarest others are unknown.
        counts = Counter(chain.from_iterable(self.sample))
        kept = Vocabulary.from_counts(counts, size=size * 3 // 4).tokens
        rare = {ord(character): " " for character in counts.keys() - set(kept)}
        # A piece that is spelt like a special token would take over its id.
        special = re.compile("|".join(map(re.escape, SPECIAL_TOKENS)))
        learned = library.Tokenizer(library.models.BPE(unk_token=SPECIAL_TOKENS[UNKNOWN]))
        learned.pre_tokenizer = library.pre_tokenizers.Metaspace(replacement=_SPACE)
        learned.train_from_iterator(
            (special.sub(" ", line.translate(rare)) for line in self.sample),
            library.trainers.BpeTrainer(vocab_size=size, special_tokens=list(SPECIAL_TOKENS), show_progress=False),
        )
        return learned


def _tokenizers() -> Any:
    try:
        return importlib.import_module("tokenizers")
    except ImportError:
        raise DataError('a corpus needs the library tokenizers: pip install "labelembed[text]"') from None
