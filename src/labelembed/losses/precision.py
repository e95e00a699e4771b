"""Softmax and sums in at least float32."""

from __future__ import annotations

import torch
from torch import Tensor


def full_precision(values: Tensor) -> Tensor:
    """Returns float16 and bfloat16 as float32, anything else as it is."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values
