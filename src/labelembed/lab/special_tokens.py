"""The four tokens that every vocabulary begins with; data writes them, models and beam search read them."""

from __future__ import annotations

PAD = 0
UNKNOWN = 1
BEGIN = 2
END = 3

#: Their names, in the order of their numbers.
SPECIAL_TOKENS = ("<pad>", "<unk>", "<s>", "</s>")
