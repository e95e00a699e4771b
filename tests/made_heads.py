"""Made hidden rows, layers and label embeddings for the tests of the chunked heads."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from labelembed.heads import HeadSettings, HeadTerms, label_embedding_cross_entropy
from labelembed.seeds import generator

NAMES = ("hidden", "weight", "bias", "auxiliary_weight", "auxiliary_bias")


def settings(**changes: Any) -> HeadSettings:
    """Returns settings in which every part of the head has something to say."""
    given: dict[str, Any] = {
        "temperature": 2.0,
        "confidence_limit": 0.3,
        "hinge_norm": 1,
        "hinge_reduction": "mean",
        "output_weight": 0.7,
        "target_weight": 0.4,
        "uniform_weight": 0.0,
    }
    return HeadSettings(**(given | changes))


def made_tensors(
    count: int, num_labels: int, *, hidden_size: int = 4, rank: int = 3, seed: int = 0
) -> tuple[dict[str, Tensor], Tensor]:
    """Returns float64 tensors by name and labels, of which three in four are what o2 says; a few are frequent."""
    source = generator(seed, "chunked head")

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=source, dtype=torch.float64)

    tensors = {
        "hidden": normal(count, hidden_size),
        "weight": normal(num_labels, hidden_size),
        "bias": normal(num_labels),
        "auxiliary_weight": normal(num_labels, hidden_size),
        "auxiliary_bias": normal(num_labels),
        "full": normal(num_labels, num_labels),
        "left": normal(num_labels, rank),
        "right": normal(rank, num_labels),
    }
    labels = (tensors["hidden"] @ tensors["auxiliary_weight"].T + tensors["auxiliary_bias"]).argmax(dim=1)
    labels[3::4] = torch.randint(num_labels, (len(labels[3::4]),), generator=source)
    return tensors, labels


def run_head(
    tensors: dict[str, Tensor], labels: Tensor, given: HeadSettings, kind: str, *, scale: float = 1.0, **how: Any
) -> tuple[HeadTerms, dict[str, Tensor]]:
    """Returns the terms and the gradients of ``scale * total``, zeros where there is none.

    Args:
        tensors: As `made_tensors` returns them.
        labels: [n].
        given: Settings.
        kind: `full`, `compressed`, or `fixed`: a full E without a second layer.
        scale: What the total is multiplied with before it goes back.
        how: Passed on to the head.
    """
    leaves = {name: value.detach().clone().requires_grad_() for name, value in tensors.items()}
    embedding = (leaves["left"], leaves["right"]) if kind == "compressed" else leaves["full"]
    second = (None, None) if kind == "fixed" or given.shared else (leaves[NAMES[3]], leaves[NAMES[4]])
    first = [leaves[name] for name in NAMES[:3]]
    if kind == "fixed":
        leaves["full"].requires_grad_(False)
    terms = label_embedding_cross_entropy(*first, *second, embedding, labels, given, **how)
    (terms.total * scale).backward()
    gradients = {name: torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for name, leaf in leaves.items()}
    return HeadTerms(*(term.detach() for term in terms)), gradients
