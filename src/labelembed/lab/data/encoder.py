"""How examples become inputs: learned from the training examples alone, the same for all others and for new ones."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self, TypeVar

import torch
from torch import Tensor, nn

from labelembed.errors import DataError
from labelembed.lab.sparse_rows import SparseRows

#: Called with (done, total) while pictures are decoded, or texts go through a model.
ReadingProgress = Callable[[int, int], None]
Kept = TypeVar("Kept")


class Encoded(NamedTuple):
    """The inputs of examples.

    Attributes:
        inputs: Inputs [N, ...], uint8, int32 or float32, or the ids of words.
        cut: How many of the examples are longer than what is read of them.
    """

    inputs: Tensor | SparseRows
    cut: int = 0


class NewExamples(NamedTuple):
    """Examples to predict for.

    Attributes:
        inputs: Examples as the encoder takes them.
        names: What each is called: ``new.csv row 3``.
        notes: What was changed and may matter, one line each.
    """

    inputs: Any
    names: list[str]
    notes: list[str]


@dataclass(frozen=True, kw_only=True)
class CutTexts:
    """Texts that are longer than what is read of them.

    Attributes:
        count: How many; one or more.
        of: Of how many texts of all parts.
        setting: The key of `data` that says how much of a text is read.
        limit: Its value.
        most: The largest value that makes sense, which is how much an encoder reads; None: nothing says so.
    """

    count: int
    of: int
    setting: str
    limit: int
    most: int | None = None

    @property
    def note(self) -> str:
        """What the user should know."""
        share = 100 * self.count / self.of
        shown = "less than 0.1" if share < 0.1 else f"{share:.2g}" if share < 10 else f"{share:.0f}"
        unit = self.setting.removeprefix("maximum_")
        said = f"{shown} % of the texts ({self.count:,} of {self.of:,}) are longer than {self.limit:,} {unit}"
        if self.most is not None and self.limit >= self.most:
            return f"{said}, the most that the encoder reads, and are cut there"
        more = min(2 * self.limit, self.most or 2 * self.limit)
        return f"{said} and are cut there; --set data.{self.setting}={more} keeps more"


class RawInputs(NamedTuple):
    """A network that makes inputs of what the files hold.

    Attributes:
        network: From raw inputs [N, *shape] float32 to inputs [N, F].
        shape: Of one raw input.
        range: Smallest and largest value of a raw input.
    """

    network: nn.Module
    shape: tuple[int, ...]
    range: tuple[float, float]


class Encoder(ABC):
    """Turns examples into inputs.

    Attributes:
        reads_texts: Whether examples are texts.
        sparse: Whether inputs are `SparseRows`.
        left_out: Columns of which no input is made, and why.
        column: The column that the texts stood in.
        progress: Told how far a long encoding is.
        done: How many examples were encoded so far, for the progress.
        total: Examples of all splits together.
        dry_run: Nobody trains on the inputs: of what takes long a part is enough, and `left_to_do` says the rest.
        left_to_do: How many examples a dry run left out, and the seconds that they would take.
    """

    reads_texts: ClassVar[bool] = False
    sparse: ClassVar[bool] = False
    left_out: Mapping[str, str] = {}
    column: str | None = None
    progress: ReadingProgress | None = None
    done: int = 0
    total: int = 0
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
        """Learns from the training examples, and returns their inputs; what there is to learn is up to the encoder."""
        return self.transform(examples)

    @abstractmethod
    def transform(self, examples: Any) -> Encoded:
        """Returns the inputs of examples, those of training or others, to the same bits alone or among others."""

    def cut_texts(self, count: int, of: int) -> CutTexts | None:
        """Returns what to say of so many texts that are longer than what is read; None of what is never cut."""
        return None

    def raw_inputs(self) -> RawInputs | None:
        """Returns the network that makes inputs; None: what makes them is no network, or nothing is to be made."""
        return None

    def files(self) -> Mapping[str, bytes]:
        """Returns what a run folder keeps of it, plain text, by the file's name."""
        return {}

    @classmethod
    @abstractmethod
    def load(cls, folder: Path, about: Mapping[str, Any]) -> Self:
        """Returns the encoder that a run folder keeps.

        Args:
            folder: Where `files` were written.
            about: What ``environment.json`` says of the data: `input_shape` and `input_range`.

        Raises:
            DataError: A file is missing or damaged.
        """


def read_settings(file: Path, wanted: str, kept: type[Kept]) -> Kept:
    """Returns what a run folder keeps of an encoder, a JSON object.

    Args:
        file: Where it is.
        wanted: Its format.
        kept: What it holds, as pydantic checks it.

    Raises:
        DataError: It is missing, damaged or of another format.
    """
    from pydantic import TypeAdapter, ValidationError

    try:
        content = file.read_text(encoding="utf-8")
        about = json.loads(content)
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file}: damaged ({error})") from None
    if not isinstance(about, dict) or about.get("format") != wanted:
        raise DataError(f"{file}: damaged, or of another version; expected the format {wanted!r}")
    try:
        return TypeAdapter(kept).validate_json(content, strict=True)
    except ValidationError as error:
        wrong = error.errors()[0]
        raise DataError(f"{file}: damaged, {'.'.join(map(str, wrong['loc']))}: {wrong['msg']}") from None


class Unchanged(Encoder):
    """Of data whose files hold the inputs themselves, pictures and vectors; learns their shape and their range.

    Args:
        input_shape: Of one input; None: learned.
        input_range: Smallest and largest value that an input can have; None: learned.
    """

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
    def load(cls, folder: Path, about: Mapping[str, Any]) -> Unchanged:
        """Returns the encoder of a run with such inputs."""
        return cls(tuple(about["input_shape"]), tuple(about["input_range"]))
