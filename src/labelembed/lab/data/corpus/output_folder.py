"""Where a corpus is written: a folder that takes its place whole or not at all, and replaces nothing unasked."""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from labelembed.errors import DataError
from labelembed.lab.data.corpus.text_corpus import MANIFEST, read_manifest_of


def corpus_exists(out: Path, made_from: Mapping[str, Any], *, overwrite: bool) -> bool:
    """Returns whether `out` is the corpus asked for; refuses a folder that must not be replaced.

    Args:
        out: The folder.
        made_from: Settings and digests of the input files, as the manifest would have them.
        overwrite: Whether a corpus of something else may be replaced; a folder with any other file never is.

    Raises:
        DataError: `out` holds something else.
    """
    if not out.exists() and not out.is_symlink():
        return False
    if not out.is_dir():
        raise DataError(f"{out}: is no folder; choose another with --out")
    entries = {entry.name for entry in out.iterdir()}
    if not entries:
        return False
    if MANIFEST not in entries:
        raise DataError(f"{out}: holds files that are no corpus ({min(entries)}); choose another folder with --out")
    try:
        manifest = read_manifest_of(out)
        same = {key: manifest.get(key) for key in made_from} == json.loads(json.dumps(made_from))
    except DataError:
        if not overwrite:
            raise
        manifest, same = {}, False
    if same:
        return True
    if not overwrite:
        raise DataError(
            f"{out}: holds a corpus of other files or settings; give --overwrite, or another folder with --out"
        )
    foreign = sorted(entries - {MANIFEST, *manifest.get("files", entries)})
    if foreign:
        raise DataError(f"{out}: holds {foreign[0]}, which is not of the corpus and would be lost; move it away")
    return False


@contextlib.contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """Gives a folder beside `out` that takes its place at the end, and goes where anything fails, Ctrl-C included."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        making = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    except OSError as error:
        raise DataError(f"{out}: cannot write here ({error.strerror or error}); choose another with --out") from None
    try:
        folder = making / "new"
        folder.mkdir()
        yield folder
        if out.exists():
            out.rename(making / "old")
        folder.rename(out)
    except OSError as error:
        raise DataError(f"{out}: cannot be written ({error.strerror or error})") from error
    finally:
        shutil.rmtree(making, ignore_errors=True)
