"""From text to token numbers and back, by words, characters or subwords: all that a network needs of a side's text."""

from __future__ import annotations

import hashlib
import importlib
import json
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from labelembed.errors import DataError
from labelembed.lab.data.checks import require_file
from labelembed.lab.data.corpus.settings import LEVELS, Level
from labelembed.lab.data.corpus.vocabulary import Vocabulary
from labelembed.lab.special_tokens import BEGIN, END, PAD, SPECIAL_TOKENS, UNKNOWN

_FORMAT = 1
_CODE_POINTS = 0x110000  # of Unicode


class Tokenizer(ABC):
    """Cuts lines into tokens, numbers them, and writes numbers as text again.

    Args:
        vocabulary: The tokens.
        lowercase: Make every line lower-case first.
    """

    level: ClassVar[Level]
    _model: bytes | None = None

    def __init__(self, vocabulary: Vocabulary, *, lowercase: bool = False) -> None:
        self.vocabulary = vocabulary
        self.lowercase = lowercase

    def segments(self, lines: Sequence[str]) -> Sequence[Sequence[Any]]:
        """Returns what each line is cut into, one entry a token; for `numbers`."""
        return self.cut(lowered(lines) if self.lowercase else lines)

    @abstractmethod
    def cut(self, lines: Sequence[str]) -> Sequence[Sequence[Any]]:
        """Returns what each line is cut into, as it stands."""

    @abstractmethod
    def numbers(self, segments: Sequence[Sequence[Any]]) -> npt.NDArray[Any]:
        """Returns the token numbers of all segments, one line after the other."""

    @abstractmethod
    def _text(self, numbers: list[int]) -> str:
        """Returns the text that token numbers stand for."""

    def tokens(self, line: str) -> list[str]:
        """Returns the tokens of a line as texts, those the vocabulary lacks included."""
        return list(self.segments([line])[0])

    def encode(self, line: str) -> npt.NDArray[np.int32]:
        """Returns the token numbers [T] of a line, without begin and end."""
        return self.numbers(self.segments([line])).astype(np.int32, copy=False)

    def decode(self, ids: Iterable[int]) -> str:
        """Returns the text of token numbers: up to END, without PAD and BEGIN.

        Raises:
            ValueError: A number is not one of the vocabulary.
        """
        numbers = []
        for number in map(int, ids):
            if number == END:
                break
            if not 0 <= number < len(self.vocabulary):
                raise ValueError(f"`ids` must be 0 to {len(self.vocabulary) - 1}, got {number}")
            if number not in (PAD, BEGIN):
                numbers.append(number)
        return self._text(numbers)

    def digest(self) -> str:
        """Returns a SHA-256 over all that the numbers of a text depend on, in hexadecimal."""
        return hashlib.sha256(json.dumps(self._about(), sort_keys=True).encode()).hexdigest()

    def _about(self) -> dict[str, Any]:
        return {
            "format": _FORMAT,
            "level": self.level,
            "lowercase": self.lowercase,
            "vocabulary_sha256": self.vocabulary.digest(),
            "subwords_sha256": None if self._model is None else hashlib.sha256(self._model).hexdigest(),
        }

    def save(self, folder: Path, name: str) -> None:
        """Writes ``NAME-tokenizer.json``, ``NAME-vocabulary.txt`` and, for subwords, ``NAME-subwords.model``."""
        about, vocabulary, model = _files(folder, name)
        about.write_text(json.dumps(self._about(), indent=2) + "\n", encoding="utf-8")
        self.vocabulary.save(vocabulary)
        if self._model is not None:
            model.write_bytes(self._model)

    @classmethod
    def load(cls, folder: Path, name: str) -> Tokenizer:
        """Returns the tokenizer that `save` wrote.

        Raises:
            DataError: A file is missing, damaged, or of a newer version; names it.
        """
        file, vocabulary_file, model_file = _files(folder, name)
        require_file(file, "what `labelembed preprocess` wrote")
        try:
            about = json.loads(file.read_text(encoding="utf-8"))
            level, lowercase = about["level"], bool(about["lowercase"])
            known = about["format"] <= _FORMAT and level in LEVELS
        except (ValueError, LookupError, TypeError, RecursionError) as error:
            raise DataError(f"{file}: is damaged ({type(error).__name__}: {error})") from None
        if not known:
            raise DataError(f"{file}: was written by a newer version of labelembed; this one reads format {_FORMAT}")
        vocabulary = Vocabulary.load(vocabulary_file)
        found: Tokenizer
        if level == "subword":
            require_file(model_file, "a sentencepiece model")
            model = model_file.read_bytes()
            # sentencepiece does not survive every damaged model: it is compared before it is read
            if hashlib.sha256(model).hexdigest() != about.get("subwords_sha256"):
                raise DataError(f"{model_file}: is damaged, or is not the model of {file.name}")
            found = Subwords(model, lowercase=lowercase)
        else:
            found = (Words if level == "word" else Characters)(vocabulary, lowercase=lowercase)
        if not vocabulary.digest() == found.vocabulary.digest() == about.get("vocabulary_sha256"):
            raise DataError(f"{vocabulary_file}: is damaged, or is not the vocabulary of {file.name}")
        return found


class Words(Tokenizer):
    """Tokens are what stands between spaces.

    Example:
        >>> words = Words(Vocabulary((*SPECIAL_TOKENS, "a", "dog")))
        >>> words.encode("a cat a").tolist(), words.decode([4, 5, END, 4])
        ([4, 1, 4], 'a dog')
    """

    level = "word"

    @staticmethod
    def cut(lines: Sequence[str]) -> list[list[str]]:
        """Returns the words of each line."""
        return [line.split() for line in lines]

    @staticmethod
    def count(counts: Counter[str], segments: Sequence[Sequence[str]]) -> None:
        """Adds the words of lines that were cut to the counts."""
        counts.update(chain.from_iterable(segments))

    def numbers(self, segments: Sequence[Sequence[str]]) -> npt.NDArray[Any]:
        """Returns the numbers of all words."""
        return np.fromiter(map(self.vocabulary.numbers.__getitem__, chain.from_iterable(segments)), np.int32)

    def _text(self, numbers: list[int]) -> str:
        return " ".join(self.vocabulary.decode(numbers))


class Characters(Tokenizer):
    """Tokens are Unicode's code points; a space is one, too, and white space of any kind and length is a space."""

    level = "character"

    @staticmethod
    def cut(lines: Sequence[str]) -> list[str]:
        """Returns lines in which white space of any kind and length is one space, and none stands at the ends."""
        return [" ".join(line.split()) for line in lines]

    @staticmethod
    def count(counts: Counter[str], segments: Sequence[Sequence[str]]) -> None:
        """Adds the characters of lines that were cut to the counts; no step of Python a character."""
        found = np.bincount(_code_points(segments))
        counts.update({chr(point): int(found[point]) for point in np.flatnonzero(found)})

    def numbers(self, segments: Sequence[Sequence[str]]) -> npt.NDArray[Any]:
        """Returns the numbers of all characters, by a table over all there are: no step of Python a character."""
        found: npt.NDArray[Any] = self._table[_code_points(segments)]
        return found

    @cached_property
    def _table(self) -> npt.NDArray[np.int32]:
        table = np.full(_CODE_POINTS, UNKNOWN, np.int32)
        for token, number in self.vocabulary.numbers.items():
            if len(token) == 1:
                table[ord(token)] = number
        return table

    def _text(self, numbers: list[int]) -> str:
        return "".join(self.vocabulary.decode(numbers))


class Subwords(Tokenizer):
    """Tokens are pieces of words, as a sentencepiece model cuts them.

    Args:
        model: The model, as sentencepiece writes it.
        lowercase: Make every line lower-case first.

    Raises:
        DataError: sentencepiece is not installed, or cannot read the model.
    """

    level = "subword"

    def __init__(self, model: bytes, *, lowercase: bool = False) -> None:
        self._model = model
        try:
            self._processor = sentencepiece().SentencePieceProcessor(model_proto=model)
        except (RuntimeError, ValueError, TypeError) as error:
            raise DataError(f"the sentencepiece model cannot be read ({error})") from None
        pieces = self._processor.id_to_piece(list(range(self._processor.get_piece_size())))
        if tuple(pieces[: len(SPECIAL_TOKENS)]) != SPECIAL_TOKENS:
            raise DataError(f"the sentencepiece model has not the special tokens {', '.join(SPECIAL_TOKENS)} first")
        super().__init__(Vocabulary(tuple(pieces)), lowercase=lowercase)

    def cut(self, lines: Sequence[str]) -> list[list[int]]:
        """Returns the numbers of the pieces of each line."""
        found: list[list[int]] = self._processor.encode(Characters.cut(lines), out_type=int)
        return found

    def numbers(self, segments: Sequence[Sequence[int]]) -> npt.NDArray[Any]:
        """Returns the numbers of all pieces."""
        return np.fromiter(chain.from_iterable(segments), np.int32)

    def tokens(self, line: str) -> list[str]:
        """Returns the pieces of a line."""
        return self.vocabulary.decode(self.segments([line])[0])

    def _text(self, numbers: list[int]) -> str:
        return str(self._processor.decode(numbers)) if numbers else ""


def _files(folder: Path, name: str) -> tuple[Path, Path, Path]:
    """Returns the files of a tokenizer: what it is, its vocabulary, its sentencepiece model."""
    folder = Path(folder)
    return folder / f"{name}-tokenizer.json", folder / f"{name}-vocabulary.txt", folder / f"{name}-subwords.model"


def sentencepiece() -> Any:
    """Returns the library.

    Raises:
        DataError: It is not installed.
    """
    try:
        return importlib.import_module("sentencepiece")
    except ImportError as error:
        raise DataError(
            f'subwords need sentencepiece: pip install "labelembed[text]" ({type(error).__name__}: {error})'
        ) from None


def lowered(lines: Iterable[str]) -> list[str]:
    """Returns lines in lower case."""
    return [line.lower() for line in lines]


def _code_points(lines: Iterable[Any]) -> npt.NDArray[np.uint32]:
    """Returns the code points of all characters of lines, one line after the other."""
    return np.frombuffer("".join(lines).encode("utf-32-le"), np.dtype("<u4"))
