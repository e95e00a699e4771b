"""How much memory a run needed at most: of the GPU where it ran on one, else of the process."""

from __future__ import annotations

import contextlib
from pathlib import Path

import torch

_STATUS = Path("/proc/self/status")
# Writing 5 there begins the count of the peak anew (Linux, proc(5)); several runs share a process.
_CLEAR = Path("/proc/self/clear_refs")


def begin_peak() -> None:
    """Begins to count anew; where the system cannot, the peak stays that of the whole process."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with contextlib.suppress(OSError):
        _CLEAR.write_text("5")


def peak_memory(device: torch.device) -> dict[str, int | str] | None:
    """Returns the most bytes since `begin_peak`, and of what; None where the system does not tell.

    Args:
        device: Where the run was computed.

    Returns:
        ``{"bytes": ..., "of": "gpu"}`` is what PyTorch's tensors took on the GPU, ``"process"`` the resident memory of
        the whole process, Python and libraries included.
    """
    if device.type == "cuda":
        return {"bytes": int(torch.cuda.max_memory_allocated(device)), "of": "gpu"}
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return {"bytes": int(line.split()[1]) * 1024, "of": "process"}
    return None
