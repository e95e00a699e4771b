"""Writing a page or a table so that a reader never meets half of one."""

from __future__ import annotations

from pathlib import Path

from labelembed.lab.errors import RunFolderError
from labelembed.lab.training.files import write_bytes as write_whole


def write_text(path: Path, text: str) -> Path:
    """Writes a whole file under a temporary name and renames it.

    Raises:
        RunFolderError: When it cannot be written; nothing half written is left.
    """
    # A label may hold what is no text at all (half a surrogate pair); the page must still be written.
    return write_bytes(path, text.encode("utf-8", errors="replace"))


def write_bytes(path: Path, content: bytes) -> Path:
    """Does what `write_text` does with a file of any kind."""
    try:
        write_whole(path, content, durable=False)
    except OSError as error:
        raise RunFolderError(f"{path}: cannot be written ({error.strerror or error})") from error
    return path
