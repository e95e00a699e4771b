"""The first pass over a corpus: what tokens there are and how often, and from that the tokenizer of a side."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence
from typing import Any

from labelembed.errors import DataError
from labelembed.lab.data.corpus.lines import MAXIMUM_LINE_BYTES
from labelembed.lab.data.corpus.settings import CorpusSettings, Level
from labelembed.lab.data.corpus.tokenizer import Characters, Subwords, Tokenizer, Words, lowered, sentencepiece
from labelembed.lab.data.corpus.vocabulary import Vocabulary
from labelembed.lab.special_tokens import BEGIN, END, PAD, SPECIAL_TOKENS, UNKNOWN

#: Subwords are trained on at most so many lines, taken evenly over the training text.
SAMPLED_LINES = 200_000
#: And on at most so many characters.
SAMPLED_CHARACTERS = 2**25
#: Default number of pieces in a subword vocabulary.
SUBWORDS = 8_000
_COVERAGE = 0.9995


class TokenCounter:
    """Sees the training lines of one side, or of both where they share a vocabulary.

    Args:
        level: What a token is.
        settings: How text becomes tokens.
    """

    def __init__(self, level: Level, settings: CorpusSettings) -> None:
        self._kind = Characters if level == "character" else Words
        self._settings = settings
        self._counts: Counter[str] = Counter()

    def segments(self, lines: Sequence[str]) -> Sequence[Any]:
        """Returns what lines are cut into; for subwords, which are not known yet, the lines themselves."""
        return self._kind.cut(lowered(lines) if self._settings.lowercase else lines)

    def add(self, segments: Sequence[Any]) -> None:
        """Counts lines that `segments` cut."""
        self._kind.count(self._counts, segments)

    def tokenizer(self, where: str) -> Tokenizer:
        """Returns the tokenizer of what was counted; `where` it stood, for messages."""
        least = self._settings.min_count
        vocabulary = Vocabulary.from_counts(self._counts, size=self._settings.vocabulary_size, min_count=least)
        if len(vocabulary) == len(SPECIAL_TOKENS):
            raise DataError(f"{where}: no token occurs {least:,} times; set a smaller --min-count")
        return self._kind(vocabulary, lowercase=self._settings.lowercase)


class LineSample(TokenCounter):
    """Every line, then every second, every fourth, ...: as many as there is room for, without knowing how many come.

    Subwords are trained on them.
    """

    def __init__(self, level: Level, settings: CorpusSettings) -> None:
        super().__init__("character", settings)  # whose cut leaves lines whole
        self.lines: list[str] = []
        self._seen = 0
        self._stride = 1

    def add(self, segments: Sequence[Any]) -> None:
        """Takes lines into the sample."""
        self.lines += segments[-self._seen % self._stride :: self._stride]
        self._seen += len(segments)
        while len(self.lines) > SAMPLED_LINES or sum(map(len, self.lines)) > SAMPLED_CHARACTERS:
            self.lines = self.lines[::2]
            self._stride *= 2

    def tokenizer(self, where: str) -> Tokenizer:
        """Returns the tokenizer of the pieces that are found in the sample."""
        settings = self._settings
        size = settings.vocabulary_size or SUBWORDS
        model = train_subwords(self.lines, vocabulary_size=size, kind=settings.subword_kind, where=where)
        return Subwords(model, lowercase=settings.lowercase)


def token_counter(level: Level, settings: CorpusSettings) -> TokenCounter:
    """Returns the counter of tokens of a kind."""
    return (LineSample if level == "subword" else TokenCounter)(level, settings)


def train_subwords(lines: Sequence[str], *, vocabulary_size: int, kind: str, where: str) -> bytes:
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
        sentencepiece().SentencePieceTrainer.train(
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
