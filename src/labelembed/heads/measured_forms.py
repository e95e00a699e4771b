"""What is measured of the heads: made rows, layers and embeddings, and every form of head by its name."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from labelembed.heads import IMPLEMENTATIONS, HeadSettings, label_embedding_cross_entropy, linear_cross_entropy

SETTINGS = HeadSettings(
    temperature=2.0,
    confidence_limit=0.9,
    hinge_norm=1,
    hinge_reduction="mean",
    output_weight=1.0,
    target_weight=1.0,
    uniform_weight=0.0,
)
# With more labels a full E, [C, C], is left out.
FULL_LABELS = 10_000
LOW_MEMORY_ROWS = 128
ONE_HOT, CHUNKED_ONE_HOT = "one-hot, naive", "one-hot, chunked"
COMPRESSED, FULL, SHARED = "label embedding, compressed", "label embedding, full", "no second head, compressed"
# Tensors [N, C] that the naive forms hold at a time, as was measured.
_NAIVE_TENSORS = {ONE_HOT: 3, f"{COMPRESSED}, naive": 12, f"{FULL}, naive": 12}


@dataclasses.dataclass(frozen=True)
class HeadSize:
    """What is measured: hidden rows [rows, hidden], so many labels, A and B of that rank."""

    rows: int
    hidden: int
    labels: int
    rank: int = 64
    device: str = "cpu"
    threads: int | None = 1
    """Of torch; None: as many as it takes by itself."""

    def bytes_needed(self, name: str) -> int:
        """Returns about how much memory a variant's step takes, with parameters and gradients; in float32."""
        layers = 2 * self.labels * (self.hidden + self.rank) + self.rows * self.hidden
        tables = self.labels**2 if ", full" in name else 0
        held = _NAIVE_TENSORS.get(name, 0) * self.rows * self.labels or 6 * min(self.rows, 640) * self.labels
        return 4 * (2 * layers + 2 * tables + held)


class MadeHead:
    """Hidden rows, layers and embeddings: labels as frequent as words are, three in five rows as o2 says.

    Args:
        size: How large.
        full: Whether there is a full E as well.
    """

    def __init__(self, size: HeadSize, *, full: bool) -> None:
        source = torch.Generator().manual_seed(0)
        count, width, device = size.labels, size.hidden, size.device
        labels = torch.multinomial(1 / torch.arange(1, count + 1.0), size.rows, True, generator=source)
        weight = 0.02 * torch.randn(count, width, generator=source)
        hidden = 0.5 * torch.randn(size.rows, width, generator=source)
        right = torch.rand(size.rows, generator=source) < 0.6
        hidden[right] += weight[labels[right]] * (10 / (width * 0.02**2))
        left, columns = (torch.randn(count, size.rank, generator=source) for _ in range(2))
        given = [weight, torch.zeros(count), weight.clone(), torch.zeros(count), left, columns.T / size.rank**0.5]
        self.labels, self.hidden = labels.to(device), hidden.to(device).requires_grad_()
        *self.layers, rows, columns = (value.contiguous().to(device).requires_grad_() for value in given)
        self.compressed = rows, columns
        self.full = torch.eye(count, device=device, requires_grad=True) if full else None

    def tensors(self) -> list[Tensor]:
        """Returns all that a gradient may go to."""
        every = [self.hidden, *self.layers, *self.compressed, self.full]
        return [value for value in every if value is not None]

    def forget(self) -> None:
        """Drops all gradients."""
        for value in self.tensors():
            value.grad = None

    def variants(self) -> dict[str, Callable[[], Tensor]]:
        """Returns, by name, functions that return a loss."""
        weight, bias = self.layers[:2]

        def one_hot() -> Tensor:
            return F.cross_entropy(F.linear(self.hidden, weight, bias), self.labels)

        def head(impl: Any) -> Callable[[], Tensor]:
            return lambda: linear_cross_entropy(self.hidden, weight, bias, self.labels, impl=impl).total

        def embedding(table: Any, impl: Any, chunk_rows: int | None = None, **more: Any) -> Callable[[], Tensor]:
            settings = SETTINGS._replace(**more)
            second = [None, None] if settings.shared else self.layers[2:]
            given: list[Any] = [self.hidden, weight, bias, *second, table, self.labels, settings]
            how: dict[str, Any] = {"impl": impl, "chunk_rows": chunk_rows}
            return lambda: label_embedding_cross_entropy(*given, **how).total

        table = self.compressed
        low: dict[str, Any] = {"auxiliary_dtype": torch.bfloat16}
        found = {
            ONE_HOT: one_hot,
            CHUNKED_ONE_HOT: head("chunked"),
            f"{COMPRESSED}, naive": embedding(table, "reference"),
            COMPRESSED: embedding(table, "chunked"),
            f"{COMPRESSED}, {LOW_MEMORY_ROWS} rows at a time": embedding(table, "chunked", LOW_MEMORY_ROWS),
            f"{COMPRESSED}, o2 in bfloat16": embedding(table, "chunked", **low),
            f"{COMPRESSED}, 1/4 of the rows": embedding(table, "chunked", auxiliary_fraction=0.25),
            f"{COMPRESSED}, 1/4 in bfloat16": embedding(table, "chunked", auxiliary_fraction=0.25, **low),
            SHARED: embedding(table, "chunked", shared=True),
        }
        if self.full is not None:
            found |= {
                f"{FULL}, naive": embedding(self.full, "reference"),
                FULL: embedding(self.full, "chunked"),
                f"{FULL}, sparse gradient": embedding(self.full, "chunked", sparse_gradients=True),
            }
        if "triton" in IMPLEMENTATIONS and self.hidden.is_cuda and find_spec("triton"):
            found |= {"one-hot, triton": head("triton"), f"{COMPRESSED}, triton": embedding(table, "triton")}
        return found


def names_that_fit(size: HeadSize, memory: int | None) -> tuple[list[str], dict[str, int]]:
    """Returns the variants to measure, and those left out for want of memory with the bytes they would take."""
    tiny = dataclasses.replace(size, rows=2, hidden=1, labels=2, rank=1)
    every = list(MadeHead(tiny, full=size.labels <= FULL_LABELS).variants())
    needed = {name: size.bytes_needed(name) for name in every}
    if memory is None:
        return every, {}
    fit = [name for name in every if needed[name] <= memory]
    # A full E is there for all of them, where there is one.
    if any(", full" in name for name in fit) and max(needed[name] for name in fit) + 8 * size.labels**2 > memory:
        fit = [name for name in fit if ", full" not in name]
    return fit, {name: count for name, count in needed.items() if name not in fit}
