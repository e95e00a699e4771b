"""The tokens that a side of a corpus knows, by number; a plain text file with a token a line."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from labelembed.errors import DataError
from labelembed.lab.data.checks import require_file
from labelembed.lab.special_tokens import SPECIAL_TOKENS, UNKNOWN


class TokenNumbers(dict[str, int]):
    """A token's number, that of the unknown token for one that is not there."""

    def __missing__(self, token: str) -> int:
        return UNKNOWN


@dataclass(frozen=True)
class Vocabulary:
    """Tokens by number: the four special ones (see `labelembed.lab.special_tokens`), then those of the text.

    Args:
        tokens: All of them, the special ones first; each once, none empty and none with a line break.

    Raises:
        ValueError: `tokens` is not such a list.

    Example:
        >>> vocabulary = Vocabulary((*SPECIAL_TOKENS, "a", "dog"))
        >>> vocabulary.encode(["a", "cat", "<s>"]).tolist()
        [4, 1, 1]
        >>> vocabulary.decode([4, 5])
        ['a', 'dog']
    """

    tokens: tuple[str, ...]

    def __post_init__(self) -> None:
        invalid = _first_invalid(self.tokens)
        if invalid is not None:
            raise ValueError(f"`tokens` {invalid[1]} (place {invalid[0]})")

    @classmethod
    def from_counts(cls, counts: Mapping[str, int], *, size: int | None = None, min_count: int = 1) -> Vocabulary:
        """Returns the vocabulary of the most frequent tokens, those of the same count in the order of their text.

        Args:
            counts: How often each token occurs. One that is spelt like a special token is left out: what stands in
                a text must never begin or end a sentence.
            size: Most tokens it may have, the special ones included; None for no limit.
            min_count: How often a token must occur.
        """
        special = set(SPECIAL_TOKENS)
        found = [token for token, count in counts.items() if count >= min_count and token not in special]
        found.sort()
        found.sort(key=counts.__getitem__, reverse=True)  # equal ones stay in the order of their text
        return cls((*SPECIAL_TOKENS, *found)[: None if size is None else max(size, len(SPECIAL_TOKENS))])

    def __len__(self) -> int:
        return len(self.tokens)

    @cached_property
    def numbers(self) -> TokenNumbers:
        """The number of each token of the text; the special ones are not in it, so that no text can produce them."""
        begin = len(SPECIAL_TOKENS)
        return TokenNumbers(zip(self.tokens[begin:], range(begin, len(self.tokens)), strict=True))

    def encode(self, tokens: Sequence[str]) -> npt.NDArray[np.int32]:
        """Returns the numbers [T] of tokens of a text; `UNKNOWN` for what is not in the vocabulary, special or not."""
        return np.fromiter(map(self.numbers.__getitem__, tokens), np.int32, len(tokens))

    def decode(self, ids: Iterable[int]) -> list[str]:
        """Returns the tokens of numbers.

        Raises:
            ValueError: A number is not one of the vocabulary.
        """
        tokens = []
        for number in ids:
            if not 0 <= number < len(self.tokens):
                raise ValueError(f"`ids` must be 0 to {len(self.tokens) - 1}, got {number}")
            tokens.append(self.tokens[number])
        return tokens

    def content(self) -> bytes:
        """Returns what its file holds."""
        return ("\n".join(self.tokens) + "\n").encode()

    def digest(self) -> str:
        """Returns the SHA-256 of its file, in hexadecimal."""
        return hashlib.sha256(self.content()).hexdigest()

    def save(self, path: Path) -> None:
        """Writes the file: UTF-8, a token a line; the first line is number 0."""
        Path(path).write_bytes(self.content())

    @classmethod
    def load(cls, path: Path) -> Vocabulary:
        """Returns the vocabulary of a file that `save` wrote.

        Raises:
            DataError: The file is missing, damaged, or does not begin with the special tokens.
        """
        path = Path(path)
        require_file(path, "a vocabulary: a text file with a token a line")
        try:
            text = path.read_bytes().decode()
        except UnicodeDecodeError as error:
            raise DataError(f"{path}: is not UTF-8 ({error.reason} at byte {error.start:,})") from None
        tokens = tuple(text.removesuffix("\n").split("\n"))
        invalid = _first_invalid(tokens)
        if invalid is not None:
            raise DataError(f"{path}: line {invalid[0] + 1}: a vocabulary {invalid[1]}")
        return cls(tokens)


def _first_invalid(tokens: Sequence[str]) -> tuple[int, str] | None:
    """Returns (place, what is wrong) of the first token that cannot be, or None."""
    for place, special in enumerate(SPECIAL_TOKENS):
        if tokens[place : place + 1] != (special,):
            found = repr(tokens[place]) if place < len(tokens) else "its end"
            return place, f"must begin with the special tokens {', '.join(SPECIAL_TOKENS)}, found {found}"
    first: dict[str, int] = {}
    for place, token in enumerate(tokens):
        if not token or "\n" in token:
            return place, f"must have a token without line breaks in every place, found {token!r}"
        if first.setdefault(token, place) != place:
            return place, f"must have each token once, found {token!r} again"
    return None
