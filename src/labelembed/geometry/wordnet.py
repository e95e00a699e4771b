"""How far apart two labels are in WordNet's tree of nouns, read from Princeton's own files.

index.noun and data.noun are as their manual page wndb(5WN) describes them; nltk reads another layout.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from labelembed.errors import DataError

_USUAL_FOLDERS = (
    "/usr/share/wordnet",
    "/usr/local/share/WordNet/dict",
    "/usr/local/WordNet-3.0/dict",
    "/opt/homebrew/opt/wordnet/dict",
)
_WAY_OUT = (
    "On Debian and Ubuntu: apt install wordnet-base. Elsewhere: unpack Princeton's archive WNdb-3.0 "
    "(wordnet.princeton.edu) and give the folder with index.noun and data.noun, as a path or in WNSEARCHDIR"
)
_WRITTEN_SYNSET = re.compile(r"(?P<lemma>.+)\.(?P<part>[a-z])\.(?P<number>\d{1,4})")
_LISTED = 6  # of these names an error says what is near


class WordNet:
    """WordNet's nouns. A distance is the number of edges of the shortest path over hypernyms.

    A word means its first sense (``dog`` is ``dog.n.01``) unless it is written as a synset (``otter.n.02``).
    Case does not count, and a space is as good as an underscore.

    Args:
        path: The folder with Princeton's index.noun and data.noun. By default what the environment variable
            WNSEARCHDIR says, else the usual folders.

    Raises:
        DataError: When there is no WordNet, with how to get it; later, when a file is damaged.

    Example:
        >>> WordNet().distance("dog", "cat")  # doctest: +SKIP
        4.0
    """

    def __init__(self, path: str | Path | None = None) -> None:
        self.path = _folder(path)

    def distance(self, one: str, other: str) -> float:
        """Returns the number of edges between two nouns; infinite where they have no hypernym in common.

        It is nltk's `shortest_path_distance`: the way goes through a common ancestor, over hypernyms and
        instance hypernyms. Every noun of WordNet 3.0 is below ``entity.n.01``.

        Raises:
            DataError: When WordNet lacks a name; with near names.
        """
        return float(self.distances([one, other])[0, 1])

    def distances(
        self,
        names: Sequence[str],
        senses: Mapping[str, str | None] | None = None,
        *,
        missing: Literal["raise", "drop"] = "raise",
    ) -> Tensor:
        """Returns [C, C] float64, the `distance` between each two names.

        Args:
            names: Labels, in the order of their indices.
            senses: The synset that each label means, as `senses_for` gives them; None for a label that is to be
                left out. A label that it does not hold means its first sense.
            missing: ``"drop"`` leaves out what WordNet lacks, too. The rows and columns of what is left out are
                nan; `kendall_agreement` scores without them, and names them.

        Raises:
            DataError: When WordNet lacks names; all are listed, each with near names.
        """
        if missing not in ("raise", "drop"):
            raise ValueError(f"`missing` must be 'raise' or 'drop', got {missing!r}")
        words = {name: senses.get(name, name) if senses is not None else name for name in names}
        lacking = {name: word for name, word in words.items() if word is not None and self._look_up(word) is None}
        if lacking and missing == "raise":
            raise DataError(self._refusal(lacking, len(names)))
        table = np.full((len(names), len(names)), np.nan)
        found = [self._look_up(words[name] or "") for name in names]
        offsets = {label: offset for label, offset in enumerate(found) if offset is not None}
        table[np.ix_(list(offsets), list(offsets))] = np.inf
        below: dict[int, list[tuple[int, int]]] = {}  # each ancestor: labels below it, and how far below
        for label, offset in offsets.items():
            for ancestor, steps in self._ancestors(offset).items():
                below.setdefault(ancestor, []).append((label, steps))
        for pairs in below.values():
            labels, steps_up = np.array(pairs).T
            block = np.ix_(labels, labels)
            table[block] = np.minimum(table[block], steps_up[:, None] + steps_up)
        return torch.from_numpy(table)

    def _look_up(self, word: str) -> int | None:
        """Returns a synset as the byte at which its line begins in data.noun; None where WordNet lacks the word."""
        lemma, part, number = _parts(word)
        offsets = self._offsets.get(lemma, []) if part == "n" else []
        return offsets[number - 1] if 1 <= number <= len(offsets) else None

    def _ancestors(self, offset: int) -> dict[int, int]:
        """Returns the least number of steps up to each ancestor, the synset itself among them (0)."""
        steps, newest, height = {offset: 0}, {offset}, 0
        while newest:  # breadth first, so that the first way found is a shortest
            height += 1
            newest = {above for synset in newest for above in self._hypernyms(synset)} - steps.keys()
            steps |= dict.fromkeys(newest, height)
        return steps

    def _hypernyms(self, offset: int) -> list[int]:
        """Returns the synsets right above one, instance hypernyms (``Paris`` is a ``city``) among them."""
        # offset file_number n word_count(hexadecimal) [word id]... pointer_count [symbol offset part source]... | gloss
        words = self._data[offset : self._data.find(b"\n", offset)].split(b"|")[0].split()
        try:
            if int(words[0]) != offset:
                raise ValueError
            first = 5 + 2 * int(words[3], 16)
            pointers = words[first : first + 4 * int(words[first - 1])]
            above = zip(pointers[::4], pointers[1::4], strict=True)
            return [int(to) for symbol, to in above if symbol in (b"@", b"@i")]
        except (ValueError, IndexError):
            raise _damaged(self.path / "data.noun", f"no synset of index.noun begins at byte {offset}") from None

    @cached_property
    def _data(self) -> bytes:
        return (self.path / "data.noun").read_bytes()

    @cached_property
    def _offsets(self) -> dict[str, list[int]]:
        """The synsets of each lemma, its first sense first."""
        file = self.path / "index.noun"
        found = {}
        for number, line in enumerate(file.read_text("utf-8", errors="replace").splitlines(), start=1):
            if line.startswith(" "):  # the licence
                continue
            # lemma n synset_count pointer_count [pointer]... sense_count tagged_count [offset]...
            words = line.split()
            try:
                found[words[0]] = [int(word) for word in words[6 + int(words[3]) :]]
                if len(found[words[0]]) != int(words[2]):
                    raise ValueError
            except (ValueError, IndexError):
                raise _damaged(file, f"line {number} does not read as a noun's") from None
        return found

    def _refusal(self, lacking: dict[str, str], count: int) -> str:
        heading = f"{self.path / 'index.noun'}: WordNet lacks {len(lacking)} of {count} names"
        said = [name if word == name else f"{name} (as {word})" for name, word in lacking.items()]
        # All are named, but only the first with what is near, so that the message stays short.
        near = [f"  {one}{self._near(word)}" for one, word in zip(said[:_LISTED], lacking.values(), strict=False)]
        rest = [f"  and {', '.join(said[_LISTED:])}"] if said[_LISTED:] else []
        return "\n".join([f"{heading}; give their senses, or ask to score without them:", *near, *rest])

    def _near(self, word: str) -> str:
        """Returns what might have been meant by a word that WordNet lacks, as ``": ..."``."""
        lemma, part, _ = _parts(word)
        if part != "n":
            return ": only nouns, written as otter.n.02"
        if lemma in self._offsets:
            return f": its senses are {lemma}.n.01 to {lemma}.n.{len(self._offsets[lemma]):02d}"
        # Not of all 117,000 lemmas, for which difflib takes seconds.
        alike = [other for other in self._offsets if other[:1] == lemma[:1] and abs(len(other) - len(lemma)) <= 2]
        near = difflib.get_close_matches(lemma, alike, n=3, cutoff=0.6)
        return f": near {', '.join(near)}" if near else ""


def _parts(word: str) -> tuple[str, str, int]:
    """Returns lemma, part of speech and number of the sense."""
    plain = re.sub(r"\s+", "_", word.strip().lower())
    written = _WRITTEN_SYNSET.fullmatch(plain)
    return (written["lemma"], written["part"], int(written["number"])) if written else (plain, "n", 1)


def _folder(path: str | Path | None) -> Path:
    """Returns the folder with WordNet's nouns: the one given, else by the environment, else a usual one."""
    given = path or os.environ.get("WNSEARCHDIR")
    tried = [Path(given)] if given else [Path(folder) for folder in _USUAL_FOLDERS]
    for folder in tried:
        for place in (folder, folder / "dict"):  # as the archive unpacks
            if _holds_nouns(place):
                return place
    said = " (WNSEARCHDIR says so)" if given and not path else ""
    where = f"{given}: no WordNet there, it lacks index.noun or data.noun{said}" if given else "WordNet is not here"
    raise DataError(f"{where}. {_WAY_OUT}")


def _holds_nouns(folder: Path) -> bool:
    return (folder / "index.noun").is_file() and (folder / "data.noun").is_file()


def _damaged(file: Path, what: str) -> DataError:
    return DataError(f"{file}: {what}; the file is damaged or not WordNet's. {_WAY_OUT}")
