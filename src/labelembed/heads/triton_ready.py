"""Whether Triton's kernels can run, found out without importing Triton."""

from __future__ import annotations

import importlib.util
import os
from functools import cache

import torch

# Below this, Triton does not compile for a card of NVIDIA's.
LOWEST_CAPABILITY = (8, 0)


@cache
def installed() -> bool:
    """Returns whether there is a Triton to import."""
    return importlib.util.find_spec("triton") is not None


def why_not(device: torch.device) -> str | None:
    """Returns why `impl="triton"` cannot run on a device; None where it can.

    Of the kind of device and of what is installed only, so that all processes of a step find the same.
    """
    if not installed():
        return "triton is not installed (pip install 'labelembed[triton]')"
    if os.environ.get("TRITON_INTERPRET") == "1":
        return None
    if device.type != "cuda":
        return f"the hidden rows are on {device.type!r}, and Triton's kernels need a GPU"
    if torch.version.hip is None and torch.cuda.get_device_capability(device) < LOWEST_CAPABILITY:
        return f"{torch.cuda.get_device_name(device)} is older than what Triton compiles for"
    return None
