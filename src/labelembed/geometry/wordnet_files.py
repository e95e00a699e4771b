"""Princeton's own files of nouns, index.noun and data.noun, as their manual page wndb(5WN) describes them."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path

from labelembed.errors import DataError

_USUAL_FOLDERS = (
    "/usr/share/wordnet",
    "/usr/share/WordNet-3.0/dict",
    "/usr/local/WordNet-3.0/dict",
    "/usr/local/share/WordNet/dict",
    "/opt/homebrew/opt/wordnet/dict",
    "/opt/homebrew/opt/wordnet/share/WordNet/dict",
    "/usr/local/opt/wordnet/dict",
)
_WAY_OUT = (
    "On Debian and Ubuntu: apt install wordnet-base. Elsewhere: unpack Princeton's archive WNdb-3.0 "
    "(wordnet.princeton.edu) and give the folder with index.noun and data.noun, as a path or in WNSEARCHDIR"
)


def wordnet_folder(path: str | Path | None) -> Path:
    """Returns the folder with WordNet's nouns: the one given, else by the environment, else a usual one.

    Raises:
        DataError: When it is not there; with how to get it.
    """
    if path is not None:
        chosen, said = Path(path), ""
    elif folder := os.environ.get("WNSEARCHDIR"):
        chosen, said = Path(folder), " (WNSEARCHDIR says so)"
    elif home := os.environ.get("WNHOME"):
        chosen, said = Path(home) / "dict", " (WNHOME says so)"
    else:
        there = [Path(folder) for folder in _USUAL_FOLDERS if _holds_nouns(Path(folder))]
        if not there:
            raise DataError(f"WordNet is not in any of the usual folders ({_USUAL_FOLDERS[0]}, ...). {_WAY_OUT}")
        chosen, said = there[0], ""
    if _holds_nouns(chosen / "dict"):  # as the archive unpacks
        chosen = chosen / "dict"
    if not _holds_nouns(chosen):
        raise DataError(f"{chosen}: no WordNet there, it lacks index.noun or data.noun{said}. {_WAY_OUT}")
    return chosen


def _holds_nouns(folder: Path) -> bool:
    return (folder / "index.noun").is_file() and (folder / "data.noun").is_file()


class NounFiles:
    """Reads one folder; a synset is known by its offset, where its line begins in data.noun.

    Args:
        folder: As `wordnet_folder` finds it. The files are read when first needed.
    """

    def __init__(self, folder: Path) -> None:
        self.index_file, self.data_file = folder / "index.noun", folder / "data.noun"

    @cached_property
    def lemmas(self) -> dict[str, int]:
        """The line of each lemma in index.noun, from 0."""
        found = {}
        for number, line in enumerate(self._index_lines[:-1]):
            if not line.startswith(b" "):  # the licence is indented
                found[line.split(b" ", 1)[0].decode("utf-8", "replace")] = number
        return found

    def offsets(self, lemma: str) -> list[int]:
        """Returns the synsets of a lemma, its first sense first.

        Raises:
            DataError: When the lemma's line is none of WordNet's.
        """
        number = self.lemmas[lemma]
        # lemma n synset_count pointer_count [pointer]... sense_count tagged_count [offset]...
        words = self._index_lines[number].split()
        try:
            offsets = [int(word) for word in words[6 + int(words[3]) :]]
            if words[1] != b"n" or not offsets or len(offsets) != int(words[2]):
                raise ValueError
        except (ValueError, IndexError):
            raise self._damaged(self.index_file, number, f"{lemma!r} does not read as a noun's line") from None
        return offsets

    def hypernyms(self, offset: int) -> list[int]:
        """Returns the synsets right above one, instance hypernyms (``Paris`` is a ``city``) among them.

        Raises:
            DataError: When there is no synset at the offset.
        """
        # offset file_number n word_count(hexadecimal) [word id]... pointer_count [symbol offset part source]... | gloss
        words = self._synset_line(offset).split(b"|")[0].split()
        try:
            first = 4 + 2 * int(words[3], 16)
            pointers = words[first + 1 : first + 1 + 4 * int(words[first])]
            if len(pointers) != 4 * int(words[first]):
                raise ValueError
            return [int(pointers[at + 1]) for at in range(0, len(pointers), 4) if pointers[at] in (b"@", b"@i")]
        except (ValueError, IndexError):
            raise self._no_synset(offset) from None

    def gloss(self, offset: int) -> str:
        """Returns what WordNet says a synset means."""
        return self._synset_line(offset).partition(b"|")[2].decode("utf-8", "replace").strip()

    def _synset_line(self, offset: int) -> bytes:
        end = self._data.find(b"\n", offset)
        # The offset stands at the start of its own line: a file changed on its way (line ends) shows here.
        if end < 0 or self._data[offset : offset + 9] != b"%08d " % offset:
            raise self._no_synset(offset)
        return self._data[offset:end]

    def _no_synset(self, offset: int) -> DataError:
        if offset >= len(self._data) or self._data.find(b"\n", offset) < 0:
            last = self._data.count(b"\n")
            return self._damaged(self.data_file, last, f"cut short, the synset at byte {offset} is not in it")
        line = self._data.count(b"\n", 0, offset)
        return self._damaged(self.data_file, line, f"no synset begins at byte {offset}, where index.noun has one")

    @cached_property
    def _index_lines(self) -> list[bytes]:
        lines = self._read(self.index_file).split(b"\n")
        if lines[-1] or len(lines) == 1:
            raise self._damaged(self.index_file, len(lines) - 1, "cut short, its last line has no end")
        return lines

    @cached_property
    def _data(self) -> bytes:
        return self._read(self.data_file)

    @staticmethod
    def _read(file: Path) -> bytes:
        try:
            return file.read_bytes()
        except OSError as error:
            raise DataError(f"{file}: cannot be read ({error.strerror})") from error

    @staticmethod
    def _damaged(file: Path, line: int, what: str) -> DataError:
        return DataError(f"{file}: line {line + 1}: {what}; the file is damaged or not WordNet's. {_WAY_OUT}")
