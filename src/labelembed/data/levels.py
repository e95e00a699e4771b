"""What a token is: a word, a character, or a piece of a word as sentencepiece cuts it."""

from __future__ import annotations

import importlib
import io
from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import chain
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from labelembed.data.text_lines import MAXIMUM_LINE_BYTES
from labelembed.data.vocabulary import Vocabulary
from labelembed.errors import DataError
from labelembed.special_tokens import BEGIN, END, PAD, SPECIAL_TOKENS, UNKNOWN

Level = Literal["word", "subword", "character"]
LEVELS: tuple[Level, ...] = ("word", "subword", "character")
SubwordKind = Literal["bpe", "unigram"]

Array = npt.NDArray[Any]
#: Unicode has so many code points.
CODE_POINTS = 0x110000
_COVERAGE = 0.9995


class Segmenter(Protocol):
    """Cuts many lines at a time into tokens and numbers them."""

    def segments(self, lines: Sequence[str]) -> Sequence[Sequence[Any]]:
        """Returns what each line is cut into, one entry a token."""

    def numbers(self, segments: Sequence[Sequence[Any]]) -> Array:
        """Returns the token numbers of all segments, one line after the other."""

    def text(self, numbers: list[int]) -> str:
        """Returns the text that token numbers stand for."""


class Words:
    """Words are what stands between spaces."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary

    def segments(self, lines: Sequence[str]) -> list[list[str]]:
        """Returns the words of each line."""
        return split_words(lines)

    def numbers(self, segments: Sequence[Sequence[str]]) -> Array:
        """Returns the numbers of all words."""
        return np.fromiter(map(self._vocabulary.numbers.__getitem__, chain.from_iterable(segments)), np.int32)

    def text(self, numbers: list[int]) -> str:
        """Returns the words with spaces between."""
        return " ".join(self._vocabulary.decode(numbers))


class Characters:
    """Characters are Unicode's code points; a space is one, too, and white space of any kind and length is a space."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary

    def segments(self, lines: Sequence[str]) -> list[str]:
        """Returns each line with its white space made even."""
        return with_even_spaces(lines)

    def numbers(self, segments: Sequence[Sequence[str]]) -> Array:
        """Returns the numbers of all characters, by a table over all there are: no step of Python a character."""
        found: Array = self._table[code_points(segments)]
        return found

    @cached_property
    def _table(self) -> npt.NDArray[np.int32]:
        table = np.full(CODE_POINTS, UNKNOWN, np.int32)
        for number, token in enumerate(self._vocabulary.tokens[len(SPECIAL_TOKENS) :], start=len(SPECIAL_TOKENS)):
            if len(token) == 1:
                table[ord(token)] = number
        return table

    def text(self, numbers: list[int]) -> str:
        """Returns the characters with nothing between."""
        return "".join(self._vocabulary.decode(numbers))


class Subwords:
    """Pieces of words, as a sentencepiece model cuts them.

    Args:
        model: The model, as sentencepiece writes it.

    Raises:
        DataError: sentencepiece is not installed, or cannot read the model.
    """

    def __init__(self, model: bytes) -> None:
        try:
            self._processor = _sentencepiece().SentencePieceProcessor(model_proto=model)
        except (RuntimeError, ValueError, TypeError) as error:
            raise DataError(f"the sentencepiece model cannot be read ({error})") from None
        numbers = [self._processor.piece_to_id(token) for token in SPECIAL_TOKENS]
        if numbers != [PAD, UNKNOWN, BEGIN, END]:
            raise DataError(f"the sentencepiece model has not the special tokens {', '.join(SPECIAL_TOKENS)} first")

    def vocabulary(self) -> Vocabulary:
        """Returns the pieces of the model."""
        pieces = self._processor.id_to_piece(list(range(self._processor.get_piece_size())))
        return Vocabulary(tuple(pieces))

    def segments(self, lines: Sequence[str]) -> list[list[int]]:
        """Returns the numbers of the pieces of each line."""
        found: list[list[int]] = self._processor.encode(with_even_spaces(lines), out_type=int)
        return found

    def numbers(self, segments: Sequence[Sequence[int]]) -> Array:
        """Returns the numbers of all pieces."""
        return np.fromiter(chain.from_iterable(segments), np.int32)

    def text(self, numbers: list[int]) -> str:
        """Returns the text that the pieces make."""
        return str(self._processor.decode(numbers)) if numbers else ""


def split_words(lines: Iterable[str]) -> list[list[str]]:
    """Returns the words of each line."""
    return [line.split() for line in lines]


def with_even_spaces(lines: Iterable[str]) -> list[str]:
    """Returns lines in which white space of any kind and length is one space, and none stands at the ends."""
    return [" ".join(line.split()) for line in lines]


def code_points(lines: Iterable[Any]) -> npt.NDArray[np.uint32]:
    """Returns the code points of all characters of lines, one line after the other."""
    return np.frombuffer("".join(lines).encode("utf-32-le"), np.dtype("<u4"))


def train_subwords(lines: Sequence[str], *, vocabulary_size: int, kind: SubwordKind, where: str) -> bytes:
    """Returns a sentencepiece model of these lines; the same lines give the same model.

    Every character of the lines is kept where there is room for it, so that nothing that was seen is unknown; where
    they would fill more than half of the vocabulary (Chinese), the rarest 0.05 % of the text are left out.

    Args:
        lines: Lines without line breaks.
        vocabulary_size: Pieces of the model, the special tokens included.
        kind: `bpe` or `unigram`.
        where: What the lines are, for messages.

    Raises:
        DataError: sentencepiece is not installed, or the lines cannot give so many pieces.
    """
    model = io.BytesIO()
    characters = len(set().union(*lines))
    try:
        _sentencepiece().SentencePieceTrainer.train(
            sentence_iterator=iter(lines),
            model_writer=model,
            model_type=kind,
            vocab_size=vocabulary_size,
            character_coverage=1.0 if 2 * characters <= vocabulary_size else _COVERAGE,
            # the text as it stands: what is translated is compared with references that nobody normalised
            normalization_rule_name="identity",
            pad_id=PAD, unk_id=UNKNOWN, bos_id=BEGIN, eos_id=END,
            pad_piece=SPECIAL_TOKENS[PAD], unk_piece=SPECIAL_TOKENS[UNKNOWN],
            bos_piece=SPECIAL_TOKENS[BEGIN], eos_piece=SPECIAL_TOKENS[END], unk_surface=SPECIAL_TOKENS[UNKNOWN],
            max_sentence_length=MAXIMUM_LINE_BYTES,
            num_threads=1,  # sums of several threads come in any order
            minloglevel=2,
        )  # fmt: skip
    except (RuntimeError, OSError) as error:
        reason = str(error).strip().splitlines()[-1].rpartition("] ")[2][-300:].strip()  # without its own source's line
        raise DataError(
            f"{where}: sentencepiece cannot make a vocabulary of {vocabulary_size:,} pieces from {len(lines):,} "
            f"lines of {characters:,} different characters: {reason} (--vocabulary-size)"
        ) from None
    return model.getvalue()


def _sentencepiece() -> Any:
    try:
        return importlib.import_module("sentencepiece")
    except ImportError as error:
        raise DataError(
            f'subwords need sentencepiece: pip install "labelembed[text]" ({type(error).__name__}: {error})'
        ) from None
