"""Sentences as token numbers: one array of all tokens in a mapped file, and where each sentence begins."""

from __future__ import annotations

import os
import weakref
from functools import cached_property
from itertools import repeat
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from labelembed.errors import DataError

Array = npt.NDArray[Any]


class Sentences:
    """Token numbers of many sentences.

    Args:
        tokens: Tokens [number of all tokens] of all sentences, one after the other; may be a mapped file.
        offsets: Where each sentence begins, int64 [N + 1]; the last is the number of tokens.

    Raises:
        ValueError: The shapes do not belong together.

    Example:
        >>> sentences = Sentences(np.array([7, 8, 9]), np.array([0, 1, 3]))
        >>> len(sentences), sentences[1].tolist(), sentences.lengths.tolist()
        (2, [8, 9], [1, 2])
    """

    def __init__(self, tokens: Array, offsets: Array) -> None:
        if tokens.ndim != 1 or offsets.ndim != 1 or len(offsets) == 0 or offsets[-1] != len(tokens):
            raise ValueError(
                f"`offsets` must be [N + 1] and end with the number of tokens, got shape {offsets.shape} "
                f"for {tokens.shape} tokens"
            )
        self.tokens: Array = np.asarray(tokens)  # a plain array over the same memory: np.memmap slices slowly
        self._file: int | None = None
        if isinstance(tokens, np.memmap) and hasattr(os, "pread"):
            # Read, where sentences are wanted here and there: pages of a map stay this process's memory once looked at.
            self._name = str(tokens.filename)
            self._file, self._file_offset = os.open(self._name, os.O_RDONLY), tokens.offset
            weakref.finalize(self, os.close, self._file)
        self.offsets: npt.NDArray[np.int64] = np.asarray(offsets, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, number: int) -> Array:
        """Returns the tokens [T] of one sentence, without begin and end."""
        if not -len(self) <= number < len(self):
            raise IndexError(f"sentence {number} of {len(self)}")
        number %= len(self)
        return self.tokens[self.offsets[number] : self.offsets[number + 1]]

    @cached_property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Number of tokens [N] of each sentence."""
        return np.diff(self.offsets)

    def gathered(self, numbers: npt.NDArray[np.int64]) -> Array:
        """Returns the tokens of the sentences `numbers` [B], one after the other, in that order."""
        lengths = self.lengths[numbers]
        if self._file is not None:
            size = self.tokens.itemsize
            begins = (self._file_offset + size * self.offsets[numbers]).tolist()
            try:
                pieces = b"".join(map(os.pread, repeat(self._file), (size * lengths).tolist(), begins))
            except OSError as error:
                raise DataError(f"{self._name}: cannot be read ({error.strerror}); put the corpus back") from None
            return np.frombuffer(pieces, self.tokens.dtype)
        ends = np.cumsum(lengths)
        places = np.arange(ends[-1] if len(ends) else 0)
        places += np.repeat(self.offsets[numbers] - (ends - lengths), lengths)
        return self.tokens[places]

    @classmethod
    def open(cls, tokens_file: Path, offsets_file: Path) -> Sentences:
        """Returns the sentences that `SentenceWriter` wrote, their tokens mapped from the file.

        Args:
            tokens_file: The array of tokens (.npy).
            offsets_file: The array of offsets (.npy).

        Raises:
            ValueError: The arrays do not belong together.
        """
        tokens = np.load(tokens_file, mmap_mode="r", allow_pickle=False)
        return cls(tokens, np.load(offsets_file, allow_pickle=False))


class SentenceWriter:
    """Writes sentences into an array of tokens and one of offsets as they come; a context manager.

    Args:
        tokens_file: The array of tokens (.npy).
        offsets_file: The array of offsets (.npy), written at the end.
        vocabulary_size: Decides the type: uint16 where the numbers fit, else int32.
    """

    def __init__(self, tokens_file: Path, offsets_file: Path, *, vocabulary_size: int) -> None:
        self.dtype: np.dtype[Any] = np.dtype(np.uint16 if vocabulary_size <= 2**16 else np.int32)
        self.num_tokens = 0
        self._offsets_file = offsets_file
        self._lengths: list[npt.NDArray[np.int64]] = []
        self._stream = tokens_file.open("wb")
        self._header_length = self._write_header()

    def _write_header(self) -> int:
        header = {"descr": np.lib.format.dtype_to_descr(self.dtype), "fortran_order": False}
        np.lib.format.write_array_header_1_0(self._stream, header | {"shape": (self.num_tokens,)})
        return self._stream.tell()

    def add(self, tokens: Array, lengths: npt.NDArray[np.int64]) -> None:
        """Appends sentences: their tokens one after the other, and how many each has [n]."""
        self._stream.write(tokens.astype(self.dtype, copy=False).data)
        self.num_tokens += len(tokens)
        self._lengths.append(lengths.astype(np.int64, copy=False))

    def __enter__(self) -> SentenceWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._stream:
            if kind is not None:
                return
            self._stream.seek(0)
            # numpy leaves room in the header for the first size to grow
            if self._write_header() != self._header_length:
                raise RuntimeError("the header of a growing array changed its length")
        lengths = np.concatenate(self._lengths) if self._lengths else np.zeros(0, np.int64)
        np.save(self._offsets_file, np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)]), allow_pickle=False)
