"""From text to token numbers and back: one side of a corpus, all that a trained network needs of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from labelembed.data.checks import require_file
from labelembed.data.levels import LEVELS, Characters, Level, Segmenter, Subwords, Words
from labelembed.data.vocabulary import Vocabulary
from labelembed.errors import ArgumentFaults, DataError
from labelembed.special_tokens import BEGIN, END, PAD

_FORMAT = 1


class TextCodec:
    """Cuts lines into tokens, numbers them, and writes numbers as text again.

    Args:
        level: What a token is: `word` (what stands between spaces), `character` or `subword` (sentencepiece).
        vocabulary: The tokens; for subwords None: the pieces of the model.
        lowercase: Make every line lower-case first.
        subwords: The sentencepiece model, as it is written; for subwords only.

    Raises:
        ValueError: An argument is missing or one too many.
        DataError: sentencepiece is not installed, or the model is damaged.

    Example:
        >>> codec = TextCodec(level="character", vocabulary=Vocabulary((*SPECIAL_TOKENS, "a", "b")))
        >>> codec.encode("abba?").tolist(), codec.decode([4, 5, END, 4])
        ([4, 5, 5, 4, 1], 'ab')
    """

    def __init__(
        self,
        *,
        level: Level,
        vocabulary: Vocabulary | None = None,
        lowercase: bool = False,
        subwords: bytes | None = None,
    ) -> None:
        faults = ArgumentFaults()
        faults.choice("level", level, LEVELS)
        by_model = level == "subword"
        faults.require((subwords is not None) == by_model, "subwords", subwords, f"must go with level {level!r}")
        faults.require(
            (vocabulary is None) == by_model, "vocabulary", vocabulary, "must be given, except with `subwords`"
        )
        faults.raise_if_any()
        self.level: Level = level
        self.lowercase = lowercase
        self._model = subwords
        self._segmenter: Segmenter
        if subwords is not None:
            self._segmenter = Subwords(subwords)
            self.vocabulary = self._segmenter.vocabulary()
        else:
            assert vocabulary is not None
            self.vocabulary = vocabulary
            self._segmenter = Words(vocabulary) if level == "word" else Characters(vocabulary)

    def segments(self, lines: Sequence[str]) -> Sequence[Sequence[Any]]:
        """Returns what each line is cut into, one entry a token; for `numbers`."""
        return self._segmenter.segments(lowered(lines) if self.lowercase else lines)

    def numbers(self, segments: Sequence[Sequence[Any]]) -> npt.NDArray[Any]:
        """Returns the token numbers of all segments, one line after the other."""
        return self._segmenter.numbers(segments)

    def tokens(self, line: str) -> list[str]:
        """Returns the tokens of a line as texts, those the vocabulary lacks included."""
        (found,) = self.segments([line])
        return self.vocabulary.decode(found) if self.level == "subword" else list(found)

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
        return self._segmenter.text(numbers)

    def digest(self) -> str:
        """Returns a SHA-256 over all that the numbers of a text depend on, in hexadecimal."""
        return hashlib.sha256(json.dumps(self._about(), sort_keys=True).encode()).hexdigest()

    def _about(self) -> dict[str, Any]:
        model = None if self._model is None else hashlib.sha256(self._model).hexdigest()
        return {
            "format": _FORMAT,
            "level": self.level,
            "lowercase": self.lowercase,
            "vocabulary_sha256": self.vocabulary.digest(),
            "subwords_sha256": model,
        }

    def save(self, folder: Path, name: str) -> list[str]:
        """Writes ``NAME-codec.json``, ``NAME-vocabulary.txt`` and, for subwords, ``NAME-subwords.model``.

        Returns:
            The names of the files.
        """
        files = [f"{name}-codec.json", f"{name}-vocabulary.txt"]
        (folder / files[0]).write_text(json.dumps(self._about(), indent=2) + "\n", encoding="utf-8")
        self.vocabulary.save(folder / files[1])
        if self._model is not None:
            files.append(f"{name}-subwords.model")
            (folder / files[2]).write_bytes(self._model)
        return files

    @classmethod
    def load(cls, folder: Path, name: str) -> TextCodec:
        """Returns the codec that `save` wrote.

        Raises:
            DataError: A file is missing, damaged, or of a newer version; names it.
        """
        file = Path(folder) / f"{name}-codec.json"
        require_file(file, "what `labelembed preprocess` wrote")
        try:
            about = json.loads(file.read_text(encoding="utf-8"))
            level, lowercase = about["level"], about["lowercase"]
            known = about["format"] <= _FORMAT
        except (ValueError, LookupError, TypeError, RecursionError) as error:
            raise DataError(f"{file}: is damaged ({type(error).__name__}: {error})") from None
        if not known or level not in LEVELS:
            raise DataError(f"{file}: was written by a newer version of labelembed; this one reads format {_FORMAT}")
        vocabulary_file = file.with_name(f"{name}-vocabulary.txt")
        vocabulary = Vocabulary.load(vocabulary_file)
        if level == "subword":
            model_file = file.with_name(f"{name}-subwords.model")
            require_file(model_file, "a sentencepiece model")
            model = model_file.read_bytes()
            # sentencepiece does not survive every damaged model: it is compared before it is read
            if hashlib.sha256(model).hexdigest() != about.get("subwords_sha256"):
                raise DataError(f"{model_file}: is damaged, or is not the model of {file.name}")
            codec = cls(level=level, subwords=model, lowercase=bool(lowercase))
        else:
            codec = cls(level=level, vocabulary=vocabulary, lowercase=bool(lowercase))
        if not vocabulary.digest() == codec.vocabulary.digest() == about.get("vocabulary_sha256"):
            raise DataError(f"{vocabulary_file}: is damaged, or is not the vocabulary of {file.name}")
        return codec


def lowered(lines: Iterable[str]) -> list[str]:
    """Returns lines in lower case."""
    return [line.lower() for line in lines]
