"""What was learned about the labels: where they stand to each other."""

from labelembed.geometry.label_geometry import LabelGeometry, Neighbour

__all__ = ["LabelGeometry", "Neighbour"]
