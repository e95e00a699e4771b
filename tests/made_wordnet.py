"""A small WordNet in the format of Princeton's files."""

from __future__ import annotations

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


def write_wordnet(folder: Path, tree=TREE, senses=SENSES) -> Path:
    """Writes index.noun and data.noun, each with a few lines of licence; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    licence = "".join(f"  {number} a line of the licence  \n" for number in range(1, 4))

    def lines(offsets):
        for lemma, hypernyms in tree.items():
            pointers = [
                f"{'@i' if above.startswith('!') else '@'} {offsets[above.lstrip('!')]:08d} n 0000 "
                for above in hypernyms
            ]
            # A second word and a pointer that leads elsewhere, as real lines have.
            pointers.append(f"~ {offsets['entity']:08d} n 0000 ")
            words = f"{lemma} 0 {lemma}_thing 0"
            count = f"{len(pointers):03d} "
            yield f"{offsets[lemma]:08d} 03 n 02 {words} {count}{''.join(pointers)}| made gloss of {lemma}  \n"

    offsets = dict.fromkeys(tree, 0)
    for _ in range(2):  # offsets are of fixed width, so the second time they are right
        place = len(licence)
        for lemma, line in zip(tree, lines(offsets), strict=True):
            offsets[lemma] = place
            place += len(line)
    (folder / "data.noun").write_bytes((licence + "".join(lines(offsets))).encode())
    index = []
    for lemma in sorted(tree):
        meant = senses.get(lemma, [lemma])
        places = " ".join(f"{offsets[one]:08d}" for one in meant)
        index.append(f"{lemma} n {len(meant)} 1 @ {len(meant)} 0 {places}  \n")
    (folder / "index.noun").write_bytes((licence + "".join(index)).encode())
    return folder
