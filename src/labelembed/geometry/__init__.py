"""What was learned about the labels: how they relate, and how well that agrees with a reference.

scipy is imported where it is used, not with the package.
"""

from labelembed.geometry.agreement import (
    AgreementResult,
    GroupAgreement,
    Hierarchy,
    group_agreement,
    kendall_agreement,
    read_hierarchy,
    shipped_hierarchy,
)
from labelembed.geometry.label_geometry import LabelGeometry, Neighbour
from labelembed.geometry.projection import linkage, multidimensional_scaling
from labelembed.geometry.wordnet import WordNet, senses_for

__all__ = [
    "AgreementResult",
    "GroupAgreement",
    "Hierarchy",
    "LabelGeometry",
    "Neighbour",
    "WordNet",
    "group_agreement",
    "kendall_agreement",
    "linkage",
    "multidimensional_scaling",
    "read_hierarchy",
    "senses_for",
    "shipped_hierarchy",
]
