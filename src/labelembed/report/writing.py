"""Writing a page or a table so that a reader never meets half of one."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from labelembed.errors import RunFolderError


def write_text(path: Path, text: str) -> Path:
    """Writes a whole file under a temporary name and renames it.

    Raises:
        RunFolderError: When it cannot be written; nothing half written is left.
    """
    # A label may hold what is no text at all (half a surrogate pair); the page must still be written.
    return write_bytes(path, text.encode("utf-8", errors="replace"))


def write_bytes(path: Path, content: bytes) -> Path:
    """Does what `write_text` does with a file of any kind."""
    # Two reports of one folder may be written at once.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.writing")
    try:
        temporary.unlink(missing_ok=True)
        with temporary.open("xb") as file:  # never through a link that leads elsewhere
            file.write(content)
        os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise RunFolderError(f"{path}: cannot be written ({error.strerror or error})") from error
    return path
