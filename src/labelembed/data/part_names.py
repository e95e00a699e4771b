"""How the parts of a data set are called, and which of them is the validation set and which the test set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

Part = TypeVar("Part")

#: How parts are spelt in file names, folders, lists and columns.
PARTS = {
    "train": "train", "training": "train", "test": "test", "testing": "test",
    "val": "validation", "valid": "validation", "validation": "validation", "dev": "validation",
}  # fmt: skip
#: What a reader notes where there is a validation part and no test part.
NO_TEST_NOTE = "no test set: the validation set takes its place"


def validation_and_test(parts: Mapping[str, Part]) -> tuple[Part | None, Part | None]:
    """Returns the validation set and the test set of a data set that comes in parts; every reader goes by this rule.

    A validation part is the validation set, and none is held out of the training examples. Only where there is no test
    part it is the test set, as is usual where test labels are kept secret.

    Args:
        parts: By name: `validation` and `test` where there are such.
    """
    validation, test = parts.get("validation"), parts.get("test")
    return (None, validation) if test is None else (validation, test)
