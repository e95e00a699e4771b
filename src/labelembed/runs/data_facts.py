"""What a run folder keeps of the data: where they came from and what they are; of a corpus the vocabularies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from labelembed.data import Encoder, LabelledData, Reader, TextCorpus, Tokenizer
from labelembed.data.encoders.bag_of_words import SETTINGS_FILE, VOCABULARY_FILE
from labelembed.data.encoders.table import COLUMNS_FILE
from labelembed.data.encoders.text_encoder import FEATURES_FILE, TOKENS_FILE
from labelembed.errors import DataError, RunFolderError
from labelembed.training.batches import TrainingData
from labelembed.training.files import write_bytes
from labelembed.training.run_folder import RunFolder

_SIDES = ("source", "target")
#: What a run folder keeps of the vocabulary of a corpus or of labelled texts, or of a table's columns.
ENCODING_FILES = (
    VOCABULARY_FILE,
    SETTINGS_FILE,
    COLUMNS_FILE,
    FEATURES_FILE,
    TOKENS_FILE,
    *(f"{side}-{file}" for side in _SIDES for file in ("codec.json", "vocabulary.txt", "subwords.model")),
)


def data_facts(data: TrainingData) -> dict[str, Any]:
    """Returns what ``environment.json`` says of the data."""
    about: dict[str, Any] = {
        "source": data.source,
        "fingerprint": data.fingerprint(),
        "rows": {name: len(split) for name, split in data.splits.items()},
        "notes": list(data.notes),
    }
    if isinstance(data, TextCorpus):
        tokenizers = (data.source_tokenizer, data.target_tokenizer)
        return about | {
            "levels": [tokenizer.level for tokenizer in tokenizers],
            "vocabulary_sizes": [len(tokenizer.vocabulary) for tokenizer in tokenizers],
        }
    if data.cut is not None:
        cut = data.cut
        about["cut_texts"] = {"count": cut.count, "of": cut.of, cut.setting: cut.limit}
    if data.label_column is not None:
        about["label_column"] = data.label_column
    return about | {
        "names": list(data.names),
        "input_shape": list(data.input_shape),
        "input_range": list(data.input_range),
    }


def keep_tokenizers(data: TrainingData, folder: RunFolder) -> None:
    """Writes into a run folder what predicting needs of the data: vocabularies, or how columns become numbers."""
    if isinstance(data, LabelledData):
        for name, content in data.encoder.files().items():
            (folder.path / name).parent.mkdir(exist_ok=True)
            write_bytes(folder.path / name, content)
    if isinstance(data, TextCorpus):
        for side, tokenizer in zip(_SIDES, (data.source_tokenizer, data.target_tokenizer), strict=True):
            tokenizer.save(folder.path, side)


def kept_encoder(reader: Reader, folder: RunFolder, about: Mapping[str, Any]) -> Encoder:
    """Returns the encoder that made inputs of examples, as a run folder keeps it.

    Args:
        reader: That of the run's recipe.
        folder: The run's.
        about: Shape and range of the inputs, see `Encoder.load`.

    Raises:
        RunFolderError: When a file is missing or damaged.
    """
    try:
        return reader.new_encoder().load(folder.path, about)
    except DataError as error:
        raise RunFolderError(str(error)) from error


def kept_tokenizers(folder: RunFolder) -> tuple[Tokenizer, Tokenizer]:
    """Returns the tokenizers of source and target that a run folder keeps.

    Raises:
        RunFolderError: When a file is missing or damaged.
    """
    try:
        source, target = (Tokenizer.load(folder.path, side) for side in _SIDES)
    except DataError as error:
        raise RunFolderError(str(error)) from error
    return source, target
