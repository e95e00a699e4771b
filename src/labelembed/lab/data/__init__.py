"""Data sets: readers, encoders, splits, batches with the indices of their examples.

A reader turns what the user has into `RawData`; `prepare` holds out the validation set, fits the reader's encoder on
the training examples and returns `LabelledData`, whose splits give out batches. Parallel text becomes a folder by
`preprocess`, which `read_corpus` opens as a `TextCorpus` of the same kind.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from labelembed.lab.data.arrays import VectorReader, read_inputs
from labelembed.lab.data.bag_of_words import BagOfWordsEncoder
from labelembed.lab.data.batch import Batch, Split, TokenBudget
from labelembed.lab.data.corpus.pair_files import PairFiles
from labelembed.lab.data.corpus.preprocessing import preprocess
from labelembed.lab.data.corpus.sentence_pairs import PairBatch, PairInputs, SentencePairs, Sentences
from labelembed.lab.data.corpus.text_corpus import TextCorpus, open_corpus, read_corpus
from labelembed.lab.data.corpus.tokenizer import CorpusSettings, Tokenizer
from labelembed.lab.data.data_notes import comparison_notes, reference_errors
from labelembed.lab.data.dataset import LabelledData, RawData, renumbered
from labelembed.lab.data.detect import detect
from labelembed.lab.data.encoder import Encoder, IdentityEncoder, NewExamples, ReadingProgress, Texts
from labelembed.lab.data.image_encoder import ImageFeatures
from labelembed.lab.data.image_reader import ImageReader
from labelembed.lab.data.preparation import prepare
from labelembed.lab.data.published import CifarReader, DigitsReader, MnistReader, read_idx
from labelembed.lab.data.splits import hold_out, stratified_order
from labelembed.lab.data.tabular import TableReader, TextReader
from labelembed.lab.data.text_encoder import TextFeatures, TextTokens


class Reader(Protocol):
    """What every reader does; its constructor takes the keys of a recipe's block `data` and checks them all."""

    def read(self, *, to_evaluate: bool = False) -> RawData:
        """Returns the splits with their labels; to evaluate a finished run none is held out, and any label will do."""

    def new_encoder(self) -> Encoder:
        """Returns an encoder that is not fitted yet."""

    def new_examples(self, file: Path, encoder: Encoder) -> NewExamples:
        """Returns the examples of a file to predict for, decoded as `read` does."""


#: The readers a recipe can name; their keyword arguments are its keys.
DATA: dict[str, Callable[..., Reader]] = {
    "texts": TextReader,
    "table": TableReader,
    "images": ImageReader,
    "vectors": VectorReader,
    "mnist": MnistReader,
    "cifar": CifarReader,
    "digits": DigitsReader,
}

#: The readers of sentence pairs.
CORPORA: dict[str, Callable[..., TextCorpus]] = {"corpus": open_corpus}

__all__ = [
    "CORPORA", "DATA", "BagOfWordsEncoder", "Batch", "CifarReader", "CorpusSettings", "DigitsReader", "Encoder",
    "IdentityEncoder", "ImageFeatures", "ImageReader", "LabelledData", "MnistReader", "NewExamples", "PairBatch",
    "PairFiles", "PairInputs", "RawData", "Reader", "ReadingProgress", "SentencePairs", "Sentences", "Split",
    "TableReader", "TextCorpus", "TextFeatures", "TextReader", "TextTokens", "Texts", "TokenBudget", "Tokenizer",
    "VectorReader", "comparison_notes", "detect", "hold_out", "prepare", "preprocess", "read_corpus",
    "read_idx", "read_inputs", "reference_errors", "renumbered", "stratified_order",
]  # fmt: skip
