"""Losses as pure functions: `reference` in plain lines, `chunked` the same for many labels."""

from labelembed.losses.linear import IMPLEMENTATIONS, Implementation, smoothed_cross_entropy, takes_chunks
from labelembed.losses.reference import LabelEmbeddingTerms, distances, full_precision

__all__ = [
    "IMPLEMENTATIONS",
    "Implementation",
    "LabelEmbeddingTerms",
    "distances",
    "full_precision",
    "smoothed_cross_entropy",
    "takes_chunks",
]
