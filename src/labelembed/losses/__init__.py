"""Losses as pure functions: `reference` in plain lines, `chunked` the same for many labels."""

from labelembed.losses.chunked import chunk_size
from labelembed.losses.distances import distances
from labelembed.losses.linear import (
    CHUNKED_LABELS,
    IMPLEMENTATIONS,
    Implementation,
    smoothed_cross_entropy,
    takes_chunks,
)
from labelembed.losses.reference import LabelEmbeddingTerms, full_precision

__all__ = [
    "CHUNKED_LABELS",
    "IMPLEMENTATIONS",
    "Implementation",
    "LabelEmbeddingTerms",
    "chunk_size",
    "distances",
    "full_precision",
    "smoothed_cross_entropy",
    "takes_chunks",
]
