"""What was learned about the labels: where they stand to each other, and how well that agrees with a reference.

scipy is imported where it is used, not with the room.
"""

from labelembed.geometry.agreement import AgreementResult, GroupAgreement, group_agreement, kendall_agreement
from labelembed.geometry.clustering import leaf_order, linkage, to_json
from labelembed.geometry.hierarchy import Hierarchy, read_hierarchy, shipped_hierarchies
from labelembed.geometry.label_geometry import LabelGeometry, Neighbour
from labelembed.geometry.projection import LabelMap, label_plane, multidimensional_scaling
from labelembed.geometry.senses import read_senses, senses_for
from labelembed.geometry.wordnet import WordNet

__all__ = [
    "AgreementResult",
    "GroupAgreement",
    "Hierarchy",
    "LabelGeometry",
    "LabelMap",
    "Neighbour",
    "WordNet",
    "group_agreement",
    "kendall_agreement",
    "label_plane",
    "leaf_order",
    "linkage",
    "multidimensional_scaling",
    "read_hierarchy",
    "read_senses",
    "senses_for",
    "shipped_hierarchies",
    "to_json",
]
