"""One distribution over the labels for every training row, in memory or in a file."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import torch
import torch.distributed as dist
from torch import Tensor, nn

from labelembed.errors import RunFolderError
from labelembed.heads.soft_rows import SparseRows, label_type
from labelembed.objectives.soft_label_table import SoftLabelTable, kept_entries


class SoftLabelStore(nn.Module):
    """Distributions of R training rows over C labels, float16; whole, or the largest entries and the rest even.

    In memory they are buffers. With a `folder` they are files that the system maps into memory as they are read: each
    time all rows are stored a new pair of files is written, and the pair before it stays, so that a run goes on from
    either of its last two checkpoints.

    Args:
        num_rows: R.
        num_labels: C.
        top_k: Entries kept a row; None: all up to 256 labels, 32 above.
        folder: Where the files go; None: in memory.
    """

    values: Tensor
    labels: Tensor
    generation: Tensor

    def __init__(self, num_rows: int, num_labels: int, *, top_k: int | None = None, folder: Path | None = None) -> None:
        super().__init__()
        self.num_rows = num_rows
        self.num_labels = num_labels
        self.width = kept_entries(num_labels, top_k)
        self.sparse = self.width < num_labels
        self.label_dtype = label_type(num_labels)
        self.folder = folder
        self.register_buffer("generation", torch.zeros((), dtype=torch.int64))
        # The same number: reading it needs no wait for a GPU.
        self.generations = 0
        self._files: SoftLabelTable | None = None
        self._new_files: SoftLabelTable | None = None
        if folder is None:
            self.register_buffer("values", torch.zeros(num_rows, self.width, dtype=torch.float16))
            if self.sparse:
                self.register_buffer("labels", torch.zeros(num_rows, self.width, dtype=self.label_dtype))

    @property
    def filled(self) -> bool:
        """Tells whether every row has been stored."""
        return self.generations > 0

    def rows(self, rows: Tensor, *, dtype: torch.dtype = torch.float32) -> Tensor | SparseRows:
        """Returns the distributions of rows [n]: [n, C], or by the largest entries."""
        return self._table().rows(rows, dtype=dtype)

    @torch.no_grad()
    def put(self, rows: Tensor, probabilities: Tensor) -> None:
        """Stores the distributions [n, C] of rows [n]; between `begin` and `end`."""
        (self._new_files or self._table()).put(rows, probabilities)

    def begin(self) -> None:
        """Begins to store every row anew."""
        if self.folder is not None:
            self.folder.mkdir(parents=not self.filled, exist_ok=True)  # nothing is begun anew in a folder that is gone
            self._new_files = self._mapped(self.generations + 1, new=True)

    def end(self) -> None:
        """Every row has been stored."""
        self.generations += 1
        self.generation.fill_(self.generations)
        if self.folder is None:
            return
        self._files, self._new_files = self._new_files, None
        for path in self._paths(self.generations):
            with path.open("rb") as file:  # on the disk before a checkpoint speaks of it
                os.fsync(file.fileno())
        for path in self._paths(self.generations - 2):
            path.unlink(missing_ok=True)

    def _table(self) -> SoftLabelTable:
        if self.folder is None:
            return SoftLabelTable(self.values, self.labels if self.sparse else None)
        if self._files is None:
            self._files = self._mapped(self.generations, new=False)
        return self._files

    def _paths(self, generation: int, *, process: int | None = None) -> tuple[Path, Path]:
        assert self.folder is not None
        if process is None:
            process = dist.get_rank() if dist.is_available() and dist.is_initialized() else 0
        name = f"soft-labels-{process}-{generation}"
        return self.folder / f"{name}.values", self.folder / f"{name}.labels"

    def _mapped(self, generation: int, *, new: bool) -> SoftLabelTable:
        found = []
        paths = self._paths(generation)
        if not new and not paths[0].exists():
            # The run has more processes than before. Every one has seen every row, so the first one's files do.
            paths = self._paths(generation, process=0)
        for path, dtype in zip(paths, (torch.float16, self.label_dtype), strict=True):
            size = self.num_rows * self.width if dtype == torch.float16 or self.sparse else 0
            expected = size * dtype.itemsize
            if new:
                path.unlink(missing_ok=True)
                with path.open("wb") as file:
                    if expected:  # so that a full disk shows now, and not as a fault of memory in the middle
                        os.posix_fallocate(file.fileno(), 0, expected)
            elif not path.is_file() or path.stat().st_size != expected:
                raise RunFolderError(f"{path}: missing or cut short; the run cannot go on, begin it anew")
            mapped = torch.empty(0, dtype=dtype)
            if size:
                mapped = torch.from_file(str(path), shared=True, size=size, dtype=dtype)
            if not new and dtype == self.label_dtype and self._strangers(mapped):
                raise RunFolderError(f"{path}: damaged, it names labels that there are not; begin the run anew")
            found.append(mapped.view(-1, self.width))
        return SoftLabelTable(found[0], found[1] if self.sparse else None)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Moves the tables to another device, and leaves them float16 whatever the network becomes."""
        for name, table in self._buffers.items():
            if table is not None:
                self._buffers[name] = fn(table).to(table.dtype)
        return self

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        super()._load_from_state_dict(state_dict, prefix, *rest)
        if self.folder is None and self.sparse and self._strangers(self.labels):
            rest[-1].append(f"{prefix}labels: names labels that there are not")  # torch's list of what is wrong
        self.generations = int(self.generation)
        self._files = None

    def _strangers(self, labels: Tensor) -> bool:
        """Tells whether any of some labels is none of the C; of a checkpoint nobody knows who has made it."""
        return labels.numel() > 0 and not (int(labels.min()) >= 0 and int(labels.max()) < self.num_labels)
