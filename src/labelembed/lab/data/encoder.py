"""Encoders turn examples into inputs: fitted on training examples, then the same for all others."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self, TypeVar

import torch
from torch import Tensor, nn

from labelembed.errors import DataError
from labelembed.lab.sparse_rows import SparseRows

#: Called with (done, total) while pictures are decoded, or texts go through a model.
ReadingProgress = Callable[[int, int], None]
Kept = TypeVar("Kept")


class Texts(list[str]):
    """Texts of one split, with the column that they stood in (None: several, or none) and where they came from."""

    def __init__(self, texts: Iterable[str], *, column: str | None = None, source: str = "texts") -> None:
        super().__init__(texts)
        self.column, self.source = column, source

    def select(self, indices: Tensor) -> Texts:
        """Returns those at these positions [M] (int64)."""
        return Texts((self[index] for index in indices.tolist()), column=self.column, source=self.source)

    def lines(self, *, without: Collection[str] = ()) -> Texts:
        """Returns the texts, as a person reads them."""
        return self


class Encoded(NamedTuple):
    """The inputs [N, ...] of examples, and how many of these are longer than what is read of them."""

    inputs: Tensor | SparseRows
    truncated: int = 0


class NewExamples(NamedTuple):
    """Examples to predict for: as the encoder takes them, what each is called, and notes on what was changed."""

    inputs: Any
    names: list[str]
    notes: list[str]


class RawInputs(NamedTuple):
    """A network that makes inputs [N, F] of what the files hold: its input's shape, smallest and largest value."""

    network: nn.Module
    shape: tuple[int, ...]
    range: tuple[float, float]


class Encoder(ABC):
    """Turns examples into inputs, as it learned from the training examples."""

    #: Whether examples are texts, and whether inputs are `SparseRows`.
    reads_texts: ClassVar[bool] = False
    sparse: ClassVar[bool] = False
    #: The attribute, and key of `data`, that says how much of a text is read.
    limit_key: ClassVar[str] = ""
    #: What the inputs stand for, where they are ids; it is part of the data's fingerprint.
    vocabulary: tuple[str, ...] = ()
    #: Columns of which no input is made, and why; the column that the texts stood in.
    left_out: Mapping[str, str] = {}
    column: str | None = None
    #: Told how many examples are `done`, of the `total` of all splits.
    progress: ReadingProgress | None = None
    done: int = 0
    total: int = 0
    #: Of a dry run a part is enough; `left_to_do` says how many examples are left out, and the seconds they would take.
    dry_run: bool = False
    left_to_do: tuple[int, float] | None = None

    @property
    @abstractmethod
    def input_range(self) -> tuple[float, float]:
        """Smallest and largest value of an input."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know of what was learned, one line each."""
        return ()

    def fit_transform(self, examples: Any) -> Encoded:
        """Learns from the training examples, and returns their inputs."""
        return self.transform(examples)

    @abstractmethod
    def transform(self, examples: Any) -> Encoded:
        """Returns the inputs of examples, those of training or others, to the same bits alone or among others."""

    def raw_inputs(self) -> RawInputs | None:
        """Returns the network that makes inputs; None: none does."""
        return None

    def files(self) -> Mapping[str, bytes]:
        """Returns the files that a run folder keeps of it, by name."""
        return {}

    @classmethod
    @abstractmethod
    def load(cls, folder: Path, about: Mapping[str, Any]) -> Self:
        """Returns the encoder that a run folder keeps; `about` has the inputs' shape and range. Raises DataError."""


def read_settings(file: Path, kept: type[Kept]) -> Kept:
    """Returns settings from JSON, checked by pydantic; raises DataError where they are missing or damaged."""
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(kept).validate_json(file.read_bytes(), strict=True)
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror})") from None
    except ValidationError as error:
        wrong = error.errors()[0]
        what = f"{'.'.join(map(str, wrong['loc']))}: {wrong['msg'][:200]}"
        raise DataError(f"{file}: damaged, or of another version, {what}") from None


class IdentityEncoder(Encoder):
    """Of data whose files hold the inputs themselves; learns shape and range of an input where they are not given."""

    def __init__(
        self, input_shape: tuple[int, ...] | None = None, input_range: tuple[float, float] | None = None
    ) -> None:
        self.input_shape = input_shape
        self._range = input_range

    @property
    def input_range(self) -> tuple[float, float]:
        """What is known; else (0, 1) where the training inputs keep within it, or their smallest and largest value."""
        return self._range or (0.0, 1.0)

    def fit_transform(self, examples: Tensor) -> Encoded:
        """Learns the shape, and the range where it is not known."""
        self.input_shape = tuple(examples.shape[1:])
        if self._range is None:
            low, high = (float(end) for end in torch.aminmax(examples))
            self._range = (0.0, 1.0) if low >= 0 and high <= 1 else (low, high)
        return Encoded(examples)

    def transform(self, examples: Tensor) -> Encoded:
        """Returns the examples."""
        return Encoded(examples)

    @classmethod
    def load(cls, folder: Path, about: Mapping[str, Any]) -> IdentityEncoder:
        """Returns the encoder of a run with such inputs."""
        return cls(tuple(about["input_shape"]), tuple(about["input_range"]))
