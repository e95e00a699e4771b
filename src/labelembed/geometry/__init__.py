"""What was learned about the labels: where they stand to each other, and how well that agrees with a reference."""

from labelembed.geometry.agreement import AgreementResult, kendall_agreement
from labelembed.geometry.label_geometry import LabelGeometry, Neighbour
from labelembed.geometry.wordnet import WordNet

__all__ = ["AgreementResult", "LabelGeometry", "Neighbour", "WordNet", "kendall_agreement"]
