"""From text to token ids and back, by words, characters or subwords, on the library `tokenizers`."""

from __future__ import annotations

import hashlib
import importlib
import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain, islice, takewhile
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from labelembed.errors import ArgumentErrors, DataError
from labelembed.lab.data.checks import require_file
from labelembed.lab.special_tokens import BEGIN, END, PAD, SPECIAL_TOKENS, UNKNOWN

#: What a token is.
Level = Literal["word", "subword", "character"]
#: Subwords are learned from the first lines of the training text, at most so many.
LINES_OF_SUBWORDS = 200_000
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
    """

    level: Level = "word"
    vocabulary_size: int | None = None
    min_count: int = 1
    shared_vocabulary: bool = False
    lowercase: bool = False
    max_length: int | None = None

    def __post_init__(self) -> None:
        errors = ArgumentErrors()
        errors.choice("level", self.level, get_args(Level))
        errors.whole("vocabulary_size", self.vocabulary_size, least=len(SPECIAL_TOKENS) + 1, optional=True)
        errors.whole("min_count", self.min_count, least=1)
        rule = "is for words and characters; subwords have vocabulary_size"
        errors.require(self.level != "subword" or self.min_count == 1, "min_count", self.min_count, rule)
        errors.whole("max_length", self.max_length, least=1, optional=True)
        errors.raise_if_any()


class Tokenizer:
    """Splits lines into tokens, gives their ids, and writes ids as text again.

    `content` is a `tokenizers.Tokenizer` as JSON, whose vocabulary begins with our special tokens; raises ValueError
    where it is none.
    """

    def __init__(self, content: str) -> None:
        self._library = tokenizers().Tokenizer.from_str(content)
        self._library.encode_special_tokens = True  # none is found in a text
        ids = self._library.get_vocab()
        #: Tokens by id: the four special ones (see `labelembed.lab.special_tokens`), then those of the text.
        self.vocabulary = tuple(sorted(ids, key=ids.__getitem__))
        if self.vocabulary[: len(SPECIAL_TOKENS)] != SPECIAL_TOKENS or max(ids.values()) >= len(ids):
            raise ValueError(f"the vocabulary must begin with {', '.join(SPECIAL_TOKENS)} and have no gaps")
        about = json.loads(content)
        splitter = (about["pre_tokenizer"] or {}).get("type")
        #: What a token is.
        self.level: Level = "word" if splitter == "WhitespaceSplit" else "subword" if splitter else "character"
        self._lowercase = about["normalizer"] is not None

    def encode_lines(self, lines: Iterable[str]) -> list[npt.NDArray[np.int32]]:
        """Returns the ids [T] of each line, without begin and end; what is spelt like a special token is unknown."""
        plain = [normalized(line, lowercase=self._lowercase) for line in lines]
        encodings = self._library.encode_batch_fast(plain, add_special_tokens=False)
        ids = [np.array(encoding.ids, np.int32) for encoding in encodings]
        return [np.where(each < len(SPECIAL_TOKENS), UNKNOWN, each) for each in ids]

    def tokens(self, line: str) -> list[str]:
        """Returns the tokens of a line as texts, those that the vocabulary lacks included."""
        line = normalized(line, lowercase=self._lowercase)
        return [line[begin:end] for begin, end in self._library.encode(line, add_special_tokens=False).offsets]

    def decode(self, ids: Iterable[int]) -> str:
        """Returns the text of ids, up to END and without PAD and BEGIN."""
        before_end = takewhile(lambda one: one != END, map(int, ids))
        tokens = [self.vocabulary[one] for one in before_end if one not in (PAD, BEGIN)]
        text = (" " if self.level == "word" else "").join(tokens)
        return text.replace(_SPACE, " ").removeprefix(" ") if self.level == "subword" else text

    def digest(self) -> str:
        """Returns a SHA-256 over all that the ids of a text depend on, in hexadecimal."""
        return hashlib.sha256(self._library.to_str().encode()).hexdigest()

    def save(self, folder: Path, name: str) -> None:
        """Writes ``NAME-tokenizer.json``, as the library does: a token a line."""
        (folder / f"{name}-tokenizer.json").write_text(self._library.to_str(pretty=True), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path, name: str) -> Tokenizer:
        """Returns the tokenizer that `save` wrote; raises DataError where the file is missing or damaged."""
        file = folder / f"{name}-tokenizer.json"
        require_file(file, "what `labelembed preprocess` wrote")
        tokenizers()
        try:
            return cls(file.read_text(encoding="utf-8"))
        except Exception as error:  # the library raises nothing more special
            raise DataError(f"{file}: is damaged, or of another version of labelembed ({error!s:.200})") from None


def learned_tokenizer(lines: Iterable[str], settings: CorpusSettings, where: str) -> Tokenizer:
    """Returns the tokenizer of training lines; raises DataError where no token of those in `where` is frequent."""
    library, unknown = tokenizers(), SPECIAL_TOKENS[UNKNOWN]
    # A token that is spelt like a special one would take over its id.
    special = re.compile("|".join(map(re.escape, SPECIAL_TOKENS)))
    plain = (special.sub(" ", normalized(line, lowercase=settings.lowercase)) for line in lines)
    if settings.level == "subword":
        size, kept = settings.vocabulary_size or SUBWORDS, list(islice(plain, LINES_OF_SUBWORDS))
        # Characters take three quarters of the vocabulary at most (Chinese); the rarest others are unknown.
        rarest = Counter(chain.from_iterable(kept)).most_common()[size * 3 // 4 :]
        rare = {ord(character): " " for character, _ in rarest}
        trainer = library.trainers.BpeTrainer(vocab_size=size, special_tokens=list(SPECIAL_TOKENS), show_progress=False)
        learned = library.Tokenizer(library.models.BPE(unk_token=unknown))
        learned.pre_tokenizer = library.pre_tokenizers.Metaspace(replacement=_SPACE)
        learned.train_from_iterator((line.translate(rare) for line in kept), trainer)
    else:
        counts = Counter(chain.from_iterable(map(str.split, plain) if settings.level == "word" else plain))
        frequent = [token for token, count in counts.items() if count >= settings.min_count]
        if not frequent:
            too_rare = f"no token occurs {settings.min_count:,} times; set a smaller min_count"
            raise DataError(f"{where}: {too_rare if counts else 'has no token, only empty lines'}")
        frequent.sort(key=lambda token: (-counts[token], token))
        ids = {token: number for number, token in enumerate([*SPECIAL_TOKENS, *frequent][: settings.vocabulary_size])}
        if settings.level == "word":
            learned = library.Tokenizer(library.models.WordLevel(vocab=ids, unk_token=unknown))
            learned.pre_tokenizer = library.pre_tokenizers.WhitespaceSplit()
        else:  # without merges, which is several times as quick as to split at every character
            learned = library.Tokenizer(library.models.BPE(vocab=ids, merges=[], unk_token=unknown))
    if settings.lowercase:
        learned.normalizer = library.normalizers.Lowercase()
    return Tokenizer(learned.to_str())


def normalized(line: str, *, lowercase: bool) -> str:
    """Returns a line in which white space of any kind and length is one space."""
    return " ".join((line.lower() if lowercase else line).split())


def tokenizers() -> Any:
    """Returns the library; raises DataError where it is not installed."""
    try:
        return importlib.import_module("tokenizers")
    except ImportError:
        raise DataError('a corpus needs the library tokenizers: pip install "labelembed[text]"') from None
