"""How far apart two labels are in WordNet's tree of nouns, read from Princeton's own files.

index.noun and data.noun are as their manual page wndb(5WN) describes them; nltk reads another layout. The meanings of
the labels of five data sets are in senses.json.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal

from torch import Tensor

from labelembed.errors import DataError, nearest
from labelembed.geometry.agreement import path_lengths

_FOLDERS = ("/usr/share/wordnet", "/usr/local/share/WordNet", "/usr/local/WordNet-3.0", "/opt/homebrew/opt/wordnet")
_WAY_OUT = (
    "On Debian and Ubuntu: apt install wordnet-base. Elsewhere: unpack Princeton's archive WNdb-3.0 "
    "(wordnet.princeton.edu) and give the folder with index.noun and data.noun, as a path or in WNSEARCHDIR"
)


class WordNet:
    """WordNet's nouns: distances are the edges of the shortest path over hypernyms, infinite without a common one.

    A word means its first sense (``dog`` is ``dog.n.01``) unless it is written as a synset (``otter.n.02``). Case does
    not count, and a space is as good as an underscore.

    Args:
        path: The folder with Princeton's index.noun and data.noun. By default the one that the environment variable
            WNSEARCHDIR names, else the usual folders.

    Raises:
        DataError: When there is no WordNet, with how to get it; later, when a file is damaged.

    Example:
        >>> WordNet().distances(["dog", "cat"])[0, 1]  # doctest: +SKIP
        tensor(4., dtype=torch.float64)
    """

    def __init__(self, path: str | Path | None = None) -> None:
        chosen = path or os.environ.get("WNSEARCHDIR")
        for folder in map(Path, [chosen] if chosen else _FOLDERS):
            for self.path in (folder, folder / "dict"):  # as the archive unpacks
                if (self.path / "index.noun").is_file() and (self.path / "data.noun").is_file():
                    return
        variable = "" if path or not chosen else " (WNSEARCHDIR)"
        raise DataError(f"{chosen or 'the usual folders'}{variable}: no WordNet there. {_WAY_OUT}")

    def distances(
        self,
        names: Sequence[str],
        senses: Mapping[str, str | None] | None = None,
        *,
        missing: Literal["raise", "drop"] = "raise",
    ) -> Tensor:
        """Returns [C, C] float64, the distance between each two names (nltk's `shortest_path_distance`).

        Args:
            names: Labels, in the order of their indices.
            senses: The synset that each label means, as `senses_for` gives them; None leaves a label out. A label that
                it does not hold means its first sense.
            missing: ``"drop"`` leaves out what WordNet lacks, too. The rows and columns of what is left out are nan;
                `kendall_agreement` scores without them, and names them.

        Raises:
            DataError: When WordNet lacks names; all are listed. When `senses` has a label that `names` has not.
        """
        if missing not in ("raise", "drop"):
            raise ValueError(f"`missing` must be 'raise' or 'drop', got {missing!r}")
        senses = senses or {}
        if unknown := [f"{label!r}{nearest(label, names)}" for label in sorted(senses.keys() - set(names))[:10]]:
            raise DataError(f"senses: there is no label {', '.join(unknown)}")
        words = [senses.get(name, name) for name in names]
        synsets = [self._synset(word) if isinstance(word, str) else None for word in words]
        lacking = [
            name if word == name else f"{name} (as {word})"
            for name, word, synset in zip(names, words, synsets, strict=True)
            if word is not None and synset is None
        ]
        if lacking and missing == "raise":
            way_out = "give their synsets as `senses`, such as otter.n.02, or leave them out (missing='drop')"
            raise DataError(f"WordNet lacks {len(lacking)} of {len(names)} names; {way_out}: {', '.join(lacking)}")
        return path_lengths([None if synset is None else self._ancestors(synset) for synset in synsets])

    def _synset(self, word: str) -> int | None:
        """Returns the byte of data.noun at which a word's synset begins; None where WordNet lacks the word."""
        plain = re.sub(r"\s+", "_", word.strip().lower())
        sense = re.fullmatch(r"(.+)\.n\.(\d{1,4})", plain)
        lemma, number = (sense[1], int(sense[2])) if sense else (plain, 1)
        synsets = self._index.get(lemma, [])
        return synsets[number - 1] if 1 <= number <= len(synsets) else None

    def _ancestors(self, synset: int) -> dict[int, int]:
        """Returns the least number of steps up to each ancestor, the synset itself among them (0)."""
        steps, newest, height = {synset: 0}, {synset}, 0
        while newest:  # breadth first, so that the first path found is a shortest
            height += 1
            newest = {above for one in newest for above in self._hypernyms(one)} - steps.keys()
            steps |= dict.fromkeys(newest, height)
        return steps

    def _hypernyms(self, synset: int) -> list[int]:
        """Returns the synsets right above one, instance hypernyms (``Paris`` is a ``city``) among them."""
        # offset file_number n word_count(hexadecimal) [word id]... pointer_count [symbol offset part source]... | gloss
        words = self._data[synset : self._data.find(b"\n", synset)].split(b"|")[0].split()
        try:
            if int(words[0]) != synset:
                raise ValueError
            first = 5 + 2 * int(words[3], 16)
            pointers = words[first : first + 4 * int(words[first - 1])]
            above = zip(pointers[::4], pointers[1::4], strict=True)
            return [int(to) for symbol, to in above if symbol in (b"@", b"@i")]
        except (ValueError, IndexError):
            raise self._damaged("data.noun", f"no synset begins at byte {synset}") from None

    @cached_property
    def _data(self) -> bytes:
        return (self.path / "data.noun").read_bytes()

    @cached_property
    def _index(self) -> dict[str, list[int]]:
        """The synsets of each lemma, its first sense first."""
        synsets = {}
        for number, line in enumerate((self.path / "index.noun").read_text("utf-8", "replace").splitlines(), start=1):
            if line.startswith(" "):  # the licence
                continue
            # lemma n synset_count pointer_count [pointer]... sense_count tagged_count [offset]...
            words = line.split()
            try:
                synsets[words[0]] = [int(word) for word in words[6 + int(words[3]) :]]
                if len(synsets[words[0]]) != int(words[2]):
                    raise ValueError
            except (ValueError, IndexError):
                raise self._damaged("index.noun", f"line {number} is not that of a noun") from None
        return synsets

    def _damaged(self, file: str, what: str) -> DataError:
        return DataError(f"{self.path / file}: {what}; the file is damaged or not WordNet's. {_WAY_OUT}")


def senses_for(names: Sequence[str]) -> dict[str, str | None] | None:
    """Returns the synset of each name by the first data set of senses.json that has them all; None without one.

    A synset of None says that the published scores (Yu, Verma 2022) leave the label out; those of AwA2 are over 23 of
    its 50. Case, spaces, underscores, hyphens and signs do not count: ``T-shirt/top`` is ``t_shirt_top``.
    """
    plain = {name: _plain(name) for name in names}
    for shipped in json.loads(Path(__file__).with_name("senses.json").read_text("utf-8")).values():
        senses = {_plain(name): synset for name, synset in shipped.items()}
        if plain and senses.keys() >= set(plain.values()):
            return {name: senses[word] for name, word in plain.items()}
    return None


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "_", name.lower()).strip("_")
