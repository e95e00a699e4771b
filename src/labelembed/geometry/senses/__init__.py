"""Which meaning of a word a label has: mappings that ship, and a user's own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from labelembed.errors import DataError, nearest
from labelembed.geometry.mapping_files import read_mapping

#: Files that ship; where two hold the same names they mean the same by them.
SHIPPED = ("cifar10", "cifar100", "cifar100_groups", "fashion_mnist", "awa2")
_NOTHING = (None, "", "null", "~")
_SYNSET = re.compile(r".+\.n\.\d{1,4}")

Senses = dict[str, str | None]


def senses_for(names: Sequence[str]) -> Senses | None:
    """Returns the synset of each name by the first shipped mapping that holds them all, or None.

    Case, spaces, underscores, hyphens and signs do not count: ``T-shirt/top`` is ``t_shirt_top``. A value of None
    says that the label is left out, as in the published scores.
    """
    dataset = dataset_of(names)
    if dataset is None:
        return None
    shipped = shipped_senses(dataset)
    return {name: shipped[_plain(name)] for name in names}


def dataset_of(names: Sequence[str]) -> str | None:
    """Returns which of `SHIPPED` holds all the names; None where none does."""
    return next(
        (one for one in SHIPPED if names and {_plain(name) for name in names} <= shipped_senses(one).keys()), None
    )


def shipped_senses(dataset: str) -> Senses:
    """Returns a mapping that ships, its names in plain letters with underscores."""
    return {
        _plain(name): _synset(value)
        for name, value in read_mapping(Path(__file__).with_name(f"{dataset}.yaml")).items()
    }


def read_senses(path: str | Path, names: Sequence[str]) -> Senses:
    """Returns a user's own mapping, a YAML or JSON file ``label: synset`` (``mole: mole.n.06``; ``null``: leave out).

    Args:
        path: The file.
        names: The labels there are. Those that the file does not hold mean their first sense.

    Raises:
        DataError: When the file cannot be read, a value is no synset, or a label is none of `names`; all listed.
    """
    path = Path(path)
    errors: list[str] = []
    senses: Senses = {}
    for name, value in read_mapping(path).items():
        if name not in names:
            errors.append(f"there is no label {name!r}{nearest(name, names) if len(errors) < 10 else ''}")
        elif _synset(value) is None or (isinstance(value, str) and _SYNSET.fullmatch(value)):
            senses[name] = _synset(value)
        else:
            errors.append(f"{name}: {value!r} is no synset; write it as otter.n.02, or null to leave the label out")
    if errors:
        raise DataError(
            "\n".join([f"{path}: {len(errors)} of its lines cannot be used", *(f"  {one}" for one in errors)])
        )
    return senses


def _synset(value: str | None) -> str | None:
    return None if value in _NOTHING else value


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "_", name.lower()).strip("_")
