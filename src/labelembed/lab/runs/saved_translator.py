"""A finished run on a corpus, ready to translate: needs its folder and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from labelembed.errors import DataError
from labelembed.lab.data import TextCorpus, Tokenizer, read_corpus
from labelembed.lab.data.corpus.text_corpus import SIDES
from labelembed.lab.errors import RunFolderError
from labelembed.lab.models import Hypothesis
from labelembed.lab.recipes.schema import Recipe
from labelembed.lab.runs.build import build_sequence_network
from labelembed.lab.runs.embedding import given_embedding
from labelembed.lab.runs.stored import stored_recipe, with_saved_weights
from labelembed.lab.special_tokens import UNKNOWN
from labelembed.lab.training.decoding import Decoding, decode, evaluate_text, hypothesis_text
from labelembed.lab.training.evaluation import token_metrics
from labelembed.lab.training.network import Network
from labelembed.lab.training.run_folder import RunFolder

# Lines translated together; sorted by length among themselves, and what is kept when the work is broken off.
_LINES_AT_ONCE = 256


class Translation(NamedTuple):
    """One way to write a line.

    Attributes:
        text: The translation.
        score: What translations of one line are ordered by: the log-probability over the length penalty.
        log_probability: Of the tokens and the end, in nats.
    """

    text: str
    score: float
    log_probability: float


class TranslatedLine(NamedTuple):
    """A line and its translations, best first.

    Attributes:
        source: The line.
        translations: One or more; none for a line without a token.
        known: Whether any of its tokens is in the vocabulary.
    """

    source: str
    translations: list[Translation]
    known: bool


@dataclass(frozen=True)
class SavedTranslator:
    """The network of a finished run on a corpus, with the vocabularies of both sides.

    Args:
        folder: Where it is.
        recipe: What it was trained with.
        network: In evaluation mode, on the CPU.
        source_tokenizer: From source text to tokens.
        target_tokenizer: From tokens to target text.
    """

    folder: RunFolder
    recipe: Recipe
    network: Network
    source_tokenizer: Tokenizer
    target_tokenizer: Tokenizer

    @classmethod
    def load(cls, path: str | Path) -> SavedTranslator:
        """Reads a finished run; nothing in the folder is unpickled.

        Raises:
            DataError: When a tokenizer is missing or damaged.
            RunFolderError: When there is none, it has not finished, translates nothing, or another file is damaged.
        """
        folder = RunFolder(path)
        folder.require_finished()
        recipe = stored_recipe(folder)
        if not recipe.of_sentences:
            kind = recipe.data["name"]
            raise RunFolderError(f"{folder.path}: was trained on data {kind!r}, it translates nothing; see predict")
        source, target = (Tokenizer.load(folder.path, side) for side in SIDES)
        sizes = len(source.vocabulary), len(target.vocabulary)
        network = with_saved_weights(
            folder,
            lambda: build_sequence_network(
                recipe,
                vocabulary_sizes=sizes,
                base=folder.path,
                embedding=given_embedding(recipe, base=folder.path),
            ),
        )
        return cls(folder, recipe, network, source, target)

    @property
    def decoding(self) -> Decoding:
        """How the run's own test sentences were translated."""
        return self.recipe.decoding or Decoding()

    def read_corpus(self, path: str | None = None) -> TextCorpus:
        """Reads the corpus the run was trained on, or one of the same vocabularies at another path.

        Raises:
            DataError: When it cannot be read, or its tokens are numbered in another way.
        """
        corpus = read_corpus(self.recipe.data["path"] if path is None else path)
        differing = self.other_vocabulary(corpus)
        if differing is not None:
            raise DataError(f"{differing}; give the corpus of the run, or its text to labelembed translate")
        return corpus

    def other_vocabulary(self, corpus: TextCorpus) -> str | None:
        """Returns in what a corpus numbers its tokens in another way than the run's; None where it does not."""
        sides = {
            "source": (corpus.source_tokenizer, self.source_tokenizer),
            "target": (corpus.target_tokenizer, self.target_tokenizer),
        }
        for side, (theirs, ours) in sides.items():
            if theirs.digest() != ours.digest():
                sizes = f"{len(theirs.vocabulary):,} tokens by {theirs.level}, the run {len(ours.vocabulary):,}"
                return (
                    f"{corpus.source}: has another {side} vocabulary than {self.folder.path} was trained on ({sizes} "
                    f"by {ours.level})"
                )
        return None

    def evaluate(self, corpus: TextCorpus, split: str, decoding: Decoding | None = None) -> dict[str, float]:
        """Returns the metrics of a split of a corpus: of its tokens, and of what is written for its sentences.

        Args:
            corpus: What `read_corpus` returned.
            split: `validation` or `test`.
            decoding: How sentences are found; None: as the recipe says.
        """
        tokens = token_metrics(self.network, corpus.splits[split])
        return tokens | evaluate_text(self.network, corpus, split, decoding or self.decoding)[0]

    def translate(
        self,
        lines: Iterable[str],
        decoding: Decoding | None = None,
        *,
        n_best: int = 1,
        observe: Callable[[int], None] = lambda lines: None,
    ) -> Iterator[TranslatedLine]:
        """Gives each line with its translations, in order, some hundred lines at a time.

        Args:
            lines: As people write them; what the corpus did to its lines (lower case, subwords) is done here too.
            decoding: How they are found; None: as the recipe says.
            n_best: Translations of each line.
            observe: Told the number of lines after each part of the work.

        Raises:
            ValueError: When `decoding` has an argument out of its range, or a line is too long for the network.
        """
        decoding = self.decoding if decoding is None else decoding
        decoding.search(n_best=n_best)  # says what is wrong before any line is read
        rest = iter(lines)
        while block := list(islice(rest, _LINES_AT_ONCE)):
            yield from self._translated(block, decoding, n_best)
            observe(len(block))

    def _translated(self, lines: list[str], decoding: Decoding, n_best: int) -> list[TranslatedLine]:
        tokens = [self.source_tokenizer.encode(line) for line in lines]
        written = [place for place, numbers in enumerate(tokens) if len(numbers)]
        best = decode(self.network, [tokens[place] for place in written], decoding, n_best=n_best)
        found = dict(zip(written, best, strict=True))
        return [
            TranslatedLine(
                line,
                [
                    Translation(self._text(hypothesis, line, decoding), hypothesis.score, hypothesis.log_probability)
                    for hypothesis in found.get(place, [])
                ],
                bool((numbers != UNKNOWN).any()),
            )
            for place, (line, numbers) in enumerate(zip(lines, tokens, strict=True))
        ]

    def _text(self, hypothesis: Hypothesis, line: str, decoding: Decoding) -> str:
        return hypothesis_text(
            hypothesis, line, self.source_tokenizer, self.target_tokenizer, replace_unknown=decoding.replace_unknown
        )
