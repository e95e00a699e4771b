"""The folder of a corpus: what stands in it, and opening it with every file checked."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from labelembed.data.cache import file_digest
from labelembed.data.checks import require_file
from labelembed.data.codec import TextCodec
from labelembed.data.corpus import SPLITS, TextCorpus, offsets_file, tokens_file
from labelembed.data.sentence_pairs import SentencePairs
from labelembed.data.sentences import Sentences
from labelembed.errors import DataError

#: The file that says what the others are; written last.
MANIFEST = "corpus.json"
FORMAT = 1
_AGAIN = "make the corpus anew with labelembed preprocess"


def open_corpus(*, path: str) -> TextCorpus:
    """Sentence pairs that `labelembed preprocess` wrote.

    Args:
        path: The corpus folder.
    """
    return read_corpus(path)


def read_corpus(path: Path | str) -> TextCorpus:
    """Returns the corpus of a folder that `preprocess` wrote.

    The length of every file is compared with the manifest, codecs and texts with their SHA-256, and the token numbers
    are seen to be in the vocabulary; the SHA-256 of the arrays, which may be many gigabytes, is not computed again.

    Args:
        path: The folder.

    Raises:
        DataError: The folder is no corpus, is of a newer version, or a file of it is missing or damaged; names it.
    """
    folder = Path(path).expanduser()
    manifest = read_manifest_of(folder)
    try:
        return _opened(folder, manifest)
    except (LookupError, TypeError, AttributeError) as error:
        raise DataError(f"{folder / MANIFEST}: is damaged ({type(error).__name__}: {error}); {_AGAIN}") from None


def read_manifest_of(folder: Path) -> dict[str, Any]:
    """Returns what the manifest of a corpus folder says.

    Raises:
        DataError: There is none, it is damaged, or it is of a newer version.
    """
    file = folder / MANIFEST
    if folder.is_dir() and not file.exists():
        raise DataError(f"{folder}: is no corpus, it has no {MANIFEST}; labelembed preprocess makes one")
    require_file(file, "a corpus folder, as labelembed preprocess makes it")
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
        version = manifest["format"]
        newer = version > FORMAT
        files = {name: (int(each["bytes"]), str(each["sha256"])) for name, each in manifest["files"].items()}
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror or error})") from None
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"{file}: is damaged ({type(error).__name__}: {error}); {_AGAIN}") from None
    if newer:
        raise DataError(
            f"{file}: is of format {version}, written by a newer version of labelembed; this one reads {FORMAT}"
        )
    for name, (size, _) in files.items():
        if Path(name).name != name:
            raise DataError(f"{file}: is damaged: {name!r} is no file of the folder")
        require_file(folder / name, f"a file of the corpus; {_AGAIN}")
        found = (folder / name).stat().st_size
        if found != size:
            raise DataError(f"{folder / name}: expected {size:,} bytes, found {found:,}; {_AGAIN}")
    if manifest.get("fingerprint") != fingerprint_of(manifest["files"]):
        raise DataError(f"{file}: is damaged: its fingerprint is not that of its files; {_AGAIN}")
    return dict(manifest)


def fingerprint_of(files: dict[str, dict[str, Any]]) -> str:
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


def _opened(folder: Path, manifest: dict[str, Any]) -> TextCorpus:
    for name, about in manifest["files"].items():
        if not name.endswith(".npy") and file_digest(folder / name) != about["sha256"]:
            raise DataError(f"{folder / name}: is damaged, its SHA-256 is another than in {MANIFEST}; {_AGAIN}")
    codecs = {side: TextCodec.load(folder, side) for side in ("source", "target")}
    splits: dict[str, SentencePairs] = {}
    for split in SPLITS:
        if split in manifest["splits"]:
            sides = [
                Sentences.open(
                    folder / tokens_file(split, side),
                    folder / offsets_file(split, side),
                    count=manifest["splits"][split]["pairs"],
                    vocabulary_size=len(codec.vocabulary),
                )
                for side, codec in codecs.items()
            ]
            splits[split] = SentencePairs(*sides)
    return TextCorpus(
        train=splits["train"],
        development=splits.get("development"),
        test=splits.get("test"),
        source_codec=codecs["source"],
        target_codec=codecs["target"],
        folder=folder,
        digest=manifest["fingerprint"],
        counts=manifest["splits"],
        notes=tuple(manifest["notes"]),
    )
