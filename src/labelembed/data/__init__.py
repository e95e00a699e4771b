"""Data sets in memory: readers, splits, batches with row numbers.

A reader turns what the user has into `RawData`; `prepare` holds out validation examples, checks everything and
returns `LabelledData`, whose splits give out batches. `read_inputs` reads new inputs to predict for. Parallel text
becomes a folder by `preprocess`, which `read_corpus` opens as a `TextCorpus` of the same kind.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from labelembed.data.batch import Batch, Split, TokenBudget
from labelembed.data.corpus.pair_files import PairFiles
from labelembed.data.corpus.preprocessing import preprocess
from labelembed.data.corpus.sentence_pairs import PairBatch, PairInputs, SentencePairs
from labelembed.data.corpus.sentences import Sentences
from labelembed.data.corpus.settings import CorpusSettings
from labelembed.data.corpus.text_corpus import TextCorpus, open_corpus, read_corpus
from labelembed.data.corpus.tokenizer import Tokenizer
from labelembed.data.corpus.vocabulary import Vocabulary
from labelembed.data.dataset import LabelledData, RawData
from labelembed.data.encoders.bag_of_words import WordBags
from labelembed.data.encoders.pictures import ReadingProgress
from labelembed.data.encoders.table import TableEncoding
from labelembed.data.encoders.text_encoder import FeatureEncoding, TokenEncoding
from labelembed.data.files.idx import read_idx
from labelembed.data.files.picture import Fit
from labelembed.data.files.texts import read_new_texts, read_text_rows
from labelembed.data.new_inputs import read_inputs
from labelembed.data.preparation import prepare
from labelembed.data.readers.cifar import read_cifar
from labelembed.data.readers.digits import read_digits
from labelembed.data.readers.images import read_images
from labelembed.data.readers.mnist import read_mnist
from labelembed.data.readers.parquet import read_parquet
from labelembed.data.readers.table import read_table
from labelembed.data.readers.texts import read_texts
from labelembed.data.readers.vectors import read_vectors
from labelembed.data.row_content import Encoding
from labelembed.data.splits import ValidationSplit, hold_out, stratified_order

#: The readers a recipe can name, each with its arguments.
DATA: dict[str, Callable[..., RawData]] = {
    "texts": read_texts,
    "table": read_table,
    "images": read_images,
    "vectors": read_vectors,
    "parquet": read_parquet,
    "mnist": read_mnist,
    "cifar": read_cifar,
    "digits": read_digits,
}

#: Names that readers had before, with what stands for them now.
OLD_NAMES: dict[str, dict[str, str]] = {
    "labelled-text": {"name": "texts", "inputs": "words"},
    "text-features": {"name": "texts", "inputs": "features"},
    "text-tokens": {"name": "texts", "inputs": "tokens"},
    "manifest": {"name": "images"},
    "arrays": {"name": "vectors"},
    "idx": {"name": "mnist"},
}

#: How a run folder is read of data whose inputs were made by what was learned from the training examples.
ENCODINGS: dict[str, Callable[[Path], Encoding]] = {
    "words": WordBags.load,
    "features": FeatureEncoding.load,
    "tokens": TokenEncoding.load,
    "table": TableEncoding.load,
}


def encoding_kind(block: Mapping[str, Any]) -> str | None:
    """Returns which of `ENCODINGS` makes inputs of the data of a recipe's block; None: the files hold inputs."""
    kind = str(block["inputs"] if block["name"] == "texts" else block["name"])
    return kind if kind in ENCODINGS else None


#: The readers of sentence pairs.
CORPORA: dict[str, Callable[..., TextCorpus]] = {"corpus": open_corpus}

__all__ = [
    "CORPORA",
    "DATA",
    "ENCODINGS",
    "OLD_NAMES",
    "Batch",
    "CorpusSettings",
    "Encoding",
    "FeatureEncoding",
    "Fit",
    "LabelledData",
    "PairBatch",
    "PairFiles",
    "PairInputs",
    "RawData",
    "ReadingProgress",
    "SentencePairs",
    "Sentences",
    "Split",
    "TableEncoding",
    "TextCorpus",
    "TokenBudget",
    "TokenEncoding",
    "Tokenizer",
    "ValidationSplit",
    "Vocabulary",
    "WordBags",
    "encoding_kind",
    "hold_out",
    "open_corpus",
    "prepare",
    "preprocess",
    "read_cifar",
    "read_corpus",
    "read_digits",
    "read_idx",
    "read_images",
    "read_inputs",
    "read_mnist",
    "read_new_texts",
    "read_parquet",
    "read_table",
    "read_text_rows",
    "read_texts",
    "read_vectors",
    "stratified_order",
]
