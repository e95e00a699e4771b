"""A small WordNet in the format of Princeton's files."""

from __future__ import annotations

from itertools import accumulate
from pathlib import Path

#: Each synset's own lemma and its hypernyms, a "!" before those of which it is an instance.
TREE = {
    "entity": [],
    "animal": ["entity"],
    "food": ["entity"],
    "canine": ["animal"],
    "feline": ["animal"],
    "bear": ["animal"],
    "dog": ["canine"],
    "sausage": ["food"],
    "cat": ["feline"],
    "lion": ["feline"],
    "tiger": ["feline"],
    "liger": ["lion", "tiger", "animal"],
    "polar_bear": ["bear"],
    "rex": ["!dog"],
    "island": [],
}
#: Lemmas with more than their own synset.
SENSES = {"dog": ["dog", "sausage"], "sausage": ["sausage"]}
LICENCE = "".join(f"  {number} a line of the licence  \n" for number in range(1, 4))


def _data_lines(offsets: dict[str, int]) -> list[str]:
    """Lines of data.noun, with a second word and a pointer that leads elsewhere, as real lines have."""
    lines = []
    for lemma, hypernyms in TREE.items():
        pointers = [(("@i" if above[0] == "!" else "@"), above.lstrip("!")) for above in hypernyms] + [("~", "entity")]
        links = "".join(f"{kind} {offsets[above]:08d} n 0000 " for kind, above in pointers)
        words = f"{offsets[lemma]:08d} 03 n 02 {lemma} 0 {lemma}_thing 0"
        lines.append(f"{words} {len(pointers):03d} {links}| made gloss of {lemma}  \n")
    return lines


def write_wordnet(folder: Path) -> Path:
    """Writes index.noun and data.noun, each with a few lines of licence; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    lengths = map(len, [LICENCE, *_data_lines(dict.fromkeys(TREE, 0))])  # offsets are of fixed width
    offsets = dict(zip(TREE, accumulate(lengths), strict=False))
    (folder / "data.noun").write_bytes((LICENCE + "".join(_data_lines(offsets))).encode())
    index = [LICENCE]
    for lemma in sorted(TREE):
        places = [f"{offsets[one]:08d}" for one in SENSES.get(lemma, [lemma])]
        index.append(f"{lemma} n {len(places)} 1 @ {len(places)} 0 {' '.join(places)}  \n")
    (folder / "index.noun").write_bytes("".join(index).encode())
    return folder
