"""Whose methods the objectives are."""

from __future__ import annotations

_PAPERS = {
    "label_smoothing": "Szegedy, Vanhoucke, Ioffe, Shlens, Wojna 2016: *Rethinking the Inception Architecture for "
    "Computer Vision.*",
    "label_embedding": "Sun, Wei, Ren, Ma 2017: *Label Embedding Network: Learning Label Representation for Soft "
    "Training of Deep Networks.*",
    "adaptive_labels": "Yu, Verma 2022: *Improving model training via self-learned label representations.*",
    "retrospection": "Deng, Zhang 2021: *Learning with retrospection.*",
    "online_label_smoothing": "Zhang et al. 2021: *Delving deep into label smoothing.*",
    "confidence_penalty": "Pereyra, Tucker, Chorowski, Kaiser, Hinton 2017: *Regularizing Neural Networks by "
    "Penalizing Confident Output Distributions.*",
    "teacher_free": "Yuan, Tay, Li, Wang, Feng 2020: *Revisiting Knowledge Distillation via Label Smoothing "
    "Regularization.*",
    "distillation": "Hinton, Vinyals, Dean 2015: *Distilling the Knowledge in a Neural Network.*",
    "static_labels": "Chen, Li, Raghupathi, Lipson 2021: *Beyond Categorical Label Representations for Image "
    "Classification.*",
}


def citations_of(objective: str) -> list[str]:
    """Returns what to cite for a run with an objective, as Markdown: its paper, where it has one, and this package."""
    paper = _PAPERS.get(objective)
    return [*([paper] if paper else []), "The labelembed developers: *labelembed* (software), Apache-2.0."]
