"""A corpus ready for training: pairs of sentences as token numbers, and the tokenizers that made them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from labelembed.errors import DataError
from labelembed.lab.data.cache import file_digest
from labelembed.lab.data.checks import require_file
from labelembed.lab.data.corpus.lines import line_blocks
from labelembed.lab.data.corpus.sentence_pairs import SentencePairs
from labelembed.lab.data.corpus.sentences import Sentences
from labelembed.lab.data.corpus.tokenizer import Tokenizer

#: The file that says what the others are; written last.
MANIFEST = "corpus.json"
FORMAT = 2
SPLITS = ("train", "validation", "test")
_AGAIN = "make the corpus again with labelembed preprocess"


@dataclass(frozen=True, eq=False, kw_only=True)
class TextCorpus:
    """What `preprocess` wrote, opened; the token arrays stay in their files.

    Attributes:
        train: Training pairs.
        validation: Pairs to choose by, or None.
        test: Test pairs, or None.
        source_tokenizer: Between text and token numbers of the source side.
        target_tokenizer: The same of the target side; its vocabulary are the labels.
        folder: The corpus folder.
        digest: SHA-256 of the content.
        counts: For each split the pairs, what was left out, and for each side tokens and unknown tokens.
        notes: What the user should know of the corpus, one line each.
    """

    train: SentencePairs
    validation: SentencePairs | None
    test: SentencePairs | None
    source_tokenizer: Tokenizer
    target_tokenizer: Tokenizer
    folder: Path
    digest: str
    counts: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def source(self) -> str:
        """Where the corpus is, for messages and reports."""
        return str(self.folder)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the labels: the tokens of the target vocabulary, the special ones included."""
        return self.target_tokenizer.vocabulary.tokens

    @property
    def num_labels(self) -> int:
        """Number of labels."""
        return len(self.names)

    @property
    def splits(self) -> dict[str, SentencePairs]:
        """The splits there are, by name."""
        found = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: split for name, split in found.items() if split is not None}

    def to(self, device: torch.device | str) -> TextCorpus:
        """Returns this corpus: its arrays stay in their files, and the batches go to the device one by one."""
        return self

    def fingerprint(self) -> str:
        """Returns the SHA-256 (64 hexadecimal digits) of the content: tokenizers, tokens and texts.

        Where the corpus lies takes no part.
        """
        return self.digest

    def source_lines(self, split: str) -> list[str]:
        """Returns the source lines of `validation` or `test` as they stood in the text, one a pair.

        Raises:
            DataError: The corpus has no such split, or keeps no text of it, as of the training pairs.
        """
        return self._lines(split, "source")

    def references(self, split: str) -> list[str]:
        """Returns the target lines of `validation` or `test` as they stood in the text, one a pair.

        Where the target is made lower-case these are, too: they are what a translation is compared with.

        Raises:
            DataError: The corpus has no such split, or keeps no text of it, as of the training pairs.
        """
        return self._lines(split, "target")

    def _lines(self, split: str, side: str) -> list[str]:
        kept = [name for name in self.splits if name != "train"]
        if split not in kept:
            raise DataError(f"{self.folder}: keeps no text of {split!r}; it has that of {', '.join(kept) or 'none'}")
        return [line for block in line_blocks(self.folder / files_of_side(split, side)[2]) for line in block]


def files_of_side(split: str, side: str) -> tuple[str, str, str]:
    """Returns how the files of one side of a split are called: tokens, where each sentence begins, and the text."""
    return f"{split}-{side}.npy", f"{split}-{side}-offsets.npy", f"{split}-{side}.txt"


def open_corpus(*, path: str) -> TextCorpus:
    """Sentence pairs that `labelembed preprocess` wrote.

    Args:
        path: The corpus folder.
    """
    return read_corpus(path)


def read_corpus(path: Path | str) -> TextCorpus:
    """Returns the corpus of a folder that `preprocess` wrote, every file compared with its SHA-256.

    Args:
        path: The folder.

    Raises:
        DataError: The folder is no corpus, is of another version, or a file of it is missing or damaged; names it.
    """
    folder = Path(path).expanduser()
    manifest = read_manifest_of(folder)
    try:
        for name, about in manifest["files"].items():
            if file_digest(folder / name) != about["sha256"]:
                raise DataError(f"{folder / name}: is damaged, its SHA-256 is another than in {MANIFEST}; {_AGAIN}")
        counts = {split: manifest["splits"][split] for split in SPLITS if split in manifest["splits"]}
        splits = {
            split: SentencePairs(
                *(
                    Sentences.open(*(folder / name for name in files_of_side(split, side)[:2]))
                    for side in ("source", "target")
                )
            )
            for split in counts
        }
        return TextCorpus(
            train=splits["train"],
            validation=splits.get("validation"),
            test=splits.get("test"),
            source_tokenizer=Tokenizer.load(folder, "source"),
            target_tokenizer=Tokenizer.load(folder, "target"),
            folder=folder,
            digest=fingerprint_of(manifest["files"]),
            counts=counts,
            notes=tuple(manifest["notes"]),
        )
    except (LookupError, TypeError, AttributeError, ValueError, OSError) as error:
        raise DataError(f"{folder / MANIFEST}: is damaged ({type(error).__name__}: {error}); {_AGAIN}") from None


def read_manifest_of(folder: Path) -> dict[str, Any]:
    """Returns what the manifest of a corpus folder says; its files are there, as long as they were written.

    Raises:
        DataError: There is none, it is damaged, or it is of another version.
    """
    file = folder / MANIFEST
    if folder.is_dir() and not file.exists():
        raise DataError(f"{folder}: is no corpus, it has no {MANIFEST}; labelembed preprocess makes one")
    require_file(file, "a corpus folder, as labelembed preprocess makes it")
    try:
        manifest: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        version = int(manifest["format"])
        sizes = {str(name): int(about["bytes"]) for name, about in manifest["files"].items()}
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror or error})") from None
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"{file}: is damaged ({type(error).__name__}: {error}); {_AGAIN}") from None
    if version != FORMAT:
        raise DataError(f"{file}: is of format {version}; this version of labelembed reads {FORMAT}; {_AGAIN}")
    for name, size in sizes.items():
        require_file(folder / name, f"a file of the corpus; {_AGAIN}")
        found = (folder / name).stat().st_size
        if found != size:
            raise DataError(f"{folder / name}: expected {size:,} bytes, found {found:,}; {_AGAIN}")
    return manifest


def fingerprint_of(files: Mapping[str, Mapping[str, Any]]) -> str:
    """Returns the SHA-256 over names and SHA-256 of all files of a corpus."""
    digests = {name: about["sha256"] for name, about in files.items()}
    return hashlib.sha256(json.dumps([FORMAT, digests], sort_keys=True).encode()).hexdigest()


def files_of(folder: Path) -> dict[str, dict[str, Any]]:
    """Returns length and SHA-256 of every file of a folder, by name."""
    return {
        file.name: {"bytes": file.stat().st_size, "sha256": file_digest(file)}
        for file in sorted(folder.iterdir())
        if file.name != MANIFEST
    }
