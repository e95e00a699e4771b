"""Arrays that take long to make, kept between runs as ``.npy`` files and found again by what they were made from."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def cache_folder() -> Path:
    """Returns the folder of the cache, LABELEMBED_CACHE or `~/.cache/labelembed`; it need not exist."""
    return Path(os.environ.get("LABELEMBED_CACHE") or "~/.cache/labelembed").expanduser()


def files_stamp(place: Path) -> str | None:
    """Returns a SHA-256 over path, size and times of a file, or of all files in a folder; None where one is missing."""
    digest = hashlib.sha256()
    try:
        for path in [place, *sorted(place.rglob("*"))]:
            about = path.stat()
            known = [str(path.absolute()), about.st_size, about.st_mtime_ns, about.st_ctime_ns]
            digest.update(json.dumps(known).encode() if path.is_file() else b"")
    except OSError:
        return None
    return digest.hexdigest()


def cached_file(file: Path, make: Callable[[], Array]) -> Array:
    """Returns the small array kept in a ``.npy`` file of the cache, or makes and keeps it; for arrays by the thousand.

    What is damaged is made again, and what cannot be written costs only time.
    """
    with contextlib.suppress(OSError, ValueError, EOFError):
        kept: Array = np.load(file)
        return kept
    array = make()
    _keep(file, lambda new: np.save(new, array, allow_pickle=False))
    return array


def cached_with_notes(cache_key: Mapping[str, Any], make: Callable[[], tuple[Array, Any]]) -> tuple[Array, Any]:
    """Returns the array kept for `cache_key` and what was noted of it, or makes and keeps both; see `cached_file`.

    The array is ``KEY.npy``, mapped, the notes are ``KEY.json``; changes to the array stay in memory. The key is all
    that the array depends on, as JSON: digests of files, settings, a version of the code.
    """
    key = hashlib.sha256(json.dumps(cache_key, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:32]
    file, about_file = cache_folder() / f"{key}.npy", cache_folder() / f"{key}.json"
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError, EOFError):
        return np.load(file, mmap_mode="c"), json.loads(about_file.read_bytes())["noted"]
    array, noted = make()
    _keep(about_file, lambda new: new.write_text(json.dumps({"noted": noted})))
    _keep(file, lambda new: np.save(new, array, allow_pickle=False))
    return array, noted


def _keep(file: Path, write: Callable[[Path], Any]) -> None:
    """Writes a file under a name of this thread's own, which is renamed: several may make the same one at once."""
    new = file.with_name(f".{file.stem}-{os.getpid()}-{threading.get_ident()}{file.suffix}")
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            write(new)
            os.replace(new, file)
        finally:
            new.unlink(missing_ok=True)
