"""How far apart two labels are in WordNet's tree of nouns."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from labelembed.errors import DataError
from labelembed.geometry.wordnet_files import NounFiles, wordnet_folder

_WRITTEN_SYNSET = re.compile(r"(?P<lemma>.+)\.(?P<part>[a-z])\.(?P<number>\d{1,4})")
_LISTED = 7  # lines of an error that the command line shows in full
Missing = Literal["raise", "drop"]


class Synset(NamedTuple):
    """One meaning of a noun: its `name` as ``otter.n.02``, and its place in data.noun."""

    name: str
    offset: int


class WordNet:
    """WordNet's nouns. A distance is the number of edges of the shortest path over hypernyms.

    A word means its first sense (``dog`` is ``dog.n.01``) unless it is written as a synset (``otter.n.02``).
    Case does not count, and a space is as good as an underscore.

    Args:
        path: The folder with Princeton's index.noun and data.noun. By default what the environment variables
            WNSEARCHDIR and WNHOME say, else the usual folders.

    Raises:
        DataError: When there is no WordNet, with how to get it; later, when a file is damaged.

    Example:
        >>> WordNet().distance("dog", "cat")  # doctest: +SKIP
        4
    """

    def __init__(self, path: str | Path | None = None) -> None:
        self.path = wordnet_folder(path)
        self._files = NounFiles(self.path)
        self._ancestors: dict[int, dict[int, int]] = {}

    def distance(self, one: str, other: str) -> float:
        """Returns the number of edges between two nouns; infinite where they have no hypernym in common.

        It is nltk's `shortest_path_distance`: the way goes through a common ancestor, over hypernyms and
        instance hypernyms. Every noun of WordNet 3.0 is below ``entity.n.01``.

        Raises:
            DataError: When WordNet lacks a name; with near names.
        """
        up, down = (self._above(synset.offset) for synset in self.synsets([one, other]) if synset is not None)
        ways = [steps + down[ancestor] for ancestor, steps in up.items() if ancestor in down]
        return min(ways, default=float("inf"))

    def distances(
        self,
        names: Sequence[str],
        senses: Mapping[str, str | None] | None = None,
        *,
        missing: Missing = "raise",
    ) -> Tensor:
        """Returns [C, C] float64, the `distance` between each two names.

        Args:
            names: Labels, in the order of their numbers.
            senses: The synset that each label means, as `senses_for` gives them; None for a label that is to be
                left out. A label that it does not hold means its first sense.
            missing: ``"drop"`` leaves out what WordNet lacks, too. The rows and columns of what is left out are
                nan; `kendall_agreement` scores without them, and names them.

        Raises:
            DataError: When WordNet lacks names; all are listed, each with near names.
        """
        above = [self._above(found.offset) if found else None for found in self.synsets(names, senses, missing=missing)]
        there = [column for column, steps_to in enumerate(above) if steps_to is not None]
        below: dict[int, list[tuple[int, int]]] = {}
        for column in there:
            for ancestor, steps in (above[column] or {}).items():
                below.setdefault(ancestor, []).append((column, steps))
        # An array of columns and one of their steps for each ancestor: 1,000 labels in a tenth of a second.
        arrays = {ancestor: np.array(pairs, dtype=np.int64).T for ancestor, pairs in below.items()}
        table = np.full((len(names), len(names)), np.nan)
        for row in there:
            table[row, there] = np.inf
            for ancestor, steps in (above[row] or {}).items():
                columns, more = arrays[ancestor]
                table[row, columns] = np.minimum(table[row, columns], steps + more)
        return torch.from_numpy(table)

    def synsets(
        self,
        names: Sequence[str],
        senses: Mapping[str, str | None] | None = None,
        *,
        missing: Missing = "raise",
    ) -> list[Synset | None]:
        """Returns the synset of each name; None where `senses` or ``missing="drop"`` leave it out.

        Raises:
            DataError: When WordNet lacks names; all are listed, each with near names.
        """
        if missing not in ("raise", "drop"):
            raise ValueError(f"`missing` must be 'raise' or 'drop', got {missing!r}")
        found: list[Synset | None] = []
        lacking: dict[str, str] = {}
        for name in names:
            word = senses.get(name, name) if senses is not None else name
            found.append(None if word is None else self._look_up(word))
            if word is not None and found[-1] is None:
                lacking[name] = word
        if lacking and missing == "raise":
            raise DataError(self._refusal(lacking, len(names)))
        return found

    def gloss(self, name: str) -> str:
        """Returns what WordNet says that a noun means."""
        return next(self._files.gloss(synset.offset) for synset in self.synsets([name]) if synset is not None)

    def _look_up(self, word: str) -> Synset | None:
        lemma, part, number = _parts(word)
        if part != "n" or lemma not in self._files.lemmas:
            return None
        offsets = self._files.offsets(lemma)
        return Synset(f"{lemma}.n.{number:02d}", offsets[number - 1]) if 1 <= number <= len(offsets) else None

    def _refusal(self, lacking: dict[str, str], count: int) -> str:
        heading = f"{self._files.index_file}: WordNet lacks {len(lacking)} of {count} names"
        lines = [f"{heading}; give their senses, or ask to score without them:"]
        words = [(name if word == name else f"{name} (as {word})", word) for name, word in lacking.items()]
        # All are named, but only the first with what is near, so that the message stays short.
        shown = len(words) if len(words) <= _LISTED else _LISTED - 1
        lines += [f"  {said}{self._near(word)}" for said, word in words[:shown]]
        if words[shown:]:
            lines.append("  and " + ", ".join(said for said, _ in words[shown:]))
        return "\n".join(lines)

    def _near(self, word: str) -> str:
        """Returns what might have been meant by a word that WordNet lacks, as ``": ..."``."""
        lemma, part, _ = _parts(word)
        lemmas = self._files.lemmas
        if part != "n":
            return ": only nouns, written as otter.n.02"
        if lemma in lemmas:
            return f": its senses are {lemma}.n.01 to {lemma}.n.{len(self._files.offsets(lemma)):02d}"
        # The words of a compound are near (`fish` of `aquarium_fish`), and what is spelt alike; difflib takes
        # seconds for all 117,000 lemmas.
        near = [one for one in re.split(r"[\W_]+", lemma) if one in lemmas]
        alike = [other for other in lemmas if other[:1] == lemma[:1] and abs(len(other) - len(lemma)) <= 2]
        near += [one for one in difflib.get_close_matches(lemma, alike, n=3, cutoff=0.6) if one not in near]
        return f": near {', '.join(near[:4])}" if near else ""

    def _above(self, offset: int) -> dict[int, int]:
        """Returns the least number of steps up to each ancestor, the synset itself among them (0)."""
        if offset not in self._ancestors:
            steps, newest, height = {offset: 0}, {offset}, 0
            while newest:  # breadth first, so that the first way found is a shortest
                height += 1
                newest = {above for synset in newest for above in self._files.hypernyms(synset)} - steps.keys()
                steps |= dict.fromkeys(newest, height)
            self._ancestors[offset] = steps
        return self._ancestors[offset]


def _parts(word: str) -> tuple[str, str, int]:
    """Returns lemma, part of speech and number of the sense."""
    plain = re.sub(r"\s+", "_", word.strip().lower())
    written = _WRITTEN_SYNSET.fullmatch(plain)
    return (written["lemma"], written["part"], int(written["number"])) if written else (plain, "n", 1)
