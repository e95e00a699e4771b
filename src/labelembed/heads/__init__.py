"""Output layer and loss in one: the label-embedding head and cross entropy, in plain lines and in faster forms."""

from labelembed.heads.chunked_linear import CrossEntropyTerms
from labelembed.heads.chunks import default_chunk_rows, release_scratch
from labelembed.heads.distances import distances
from labelembed.heads.embedding_tables import embedding_rows
from labelembed.heads.head_arguments import IMPLEMENTATIONS, Implementation
from labelembed.heads.linear_heads import (
    NODES,
    auxiliary_precision,
    chosen,
    chosen_for,
    label_embedding_cross_entropy,
    linear_cross_entropy,
)
from labelembed.heads.linear_heads import terms_of_logits as label_embedding_terms
from labelembed.heads.sampling import offset_of_step
from labelembed.heads.terms import HeadSettings, HeadTerms, full_precision, require_auxiliary, require_no_auxiliary

__all__ = [
    "IMPLEMENTATIONS",
    "NODES",
    "CrossEntropyTerms",
    "HeadSettings",
    "HeadTerms",
    "Implementation",
    "auxiliary_precision",
    "chosen",
    "chosen_for",
    "default_chunk_rows",
    "distances",
    "embedding_rows",
    "full_precision",
    "label_embedding_cross_entropy",
    "label_embedding_terms",
    "linear_cross_entropy",
    "offset_of_step",
    "release_scratch",
    "require_auxiliary",
    "require_no_auxiliary",
]
