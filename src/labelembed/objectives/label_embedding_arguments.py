"""The arguments of `LabelEmbedding`: its presets, what E starts as, and what cannot be."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from labelembed import heads
from labelembed.errors import ArgumentFaults
from labelembed.geometry import LabelGeometry
from labelembed.heads import HeadSettings
from labelembed.objectives.search_space import Range, SearchSpace, Simplex

# Where the paper (eq. 14) and the code published with it differ. The paper states no reduction of the hinge;
# the published code adds 1e-8 to the count of right rows, which float32 cannot show and which is left out.
PRESETS: dict[str, dict[str, Any]] = {
    "paper": {"output_weight": 1.0, "target_weight": 1.0, "uniform_weight": 0.0, "hinge_reduction": "mean"},
    "published_code": {"output_weight": 0.5, "target_weight": 0.5, "uniform_weight": 0.0, "hinge_reduction": "sum"},
    # Not in the paper: the learned similarity together with a share of label smoothing, with the weights measured in
    # docs/results.md.
    "mixture": {"output_weight": 0.2, "target_weight": 0.5, "uniform_weight": 0.3, "hinge_reduction": "mean"},
}
# The presets differ in their weights most of all, so that what is found is none of theirs.
SEARCH_SPACE: SearchSpace = {
    "temperature": Range(1.0, 8.0, log=True),
    "weights": Simplex(("output_weight", "target_weight", "uniform_weight")),
    "embedding_learning_rate": Range(0.3, 10.0, log=True),
}
# Where Linux tells a container how much memory it may use.
CONTAINER_LIMIT = Path("/sys/fs/cgroup/memory.max")
# Why micro-batches are not the same as one batch.
SAMPLE_COUPLING = "the rows that o2 and E learn from are drawn from the rows of a batch"
TEACHING_COUPLING = "E learns from a mean over the rows that are predicted right, and each micro-batch has its own"
# What the second output layer's products may be computed in, as a recipe names it.
AUXILIARY_TYPES = {"bfloat16": torch.bfloat16}
# The step at which a share of a run ends whose length nobody has told yet.
UNKNOWN_END = torch.iinfo(torch.int64).max
UNKNOWN_LENGTH = (
    "`target_warmup_steps` {} is a share of the run's steps, and nobody has told how many there will be; call "
    "objective.begin_training(steps) before the first"
)


def head_settings(preset: str, **given: Any) -> HeadSettings:
    """Returns the numbers of the head.

    Args:
        preset: Which numbers are taken where `given` has None; one that there is not counts as `paper`.
        given: Fields of `HeadSettings`.
    """
    chosen = PRESETS.get(preset, PRESETS["paper"])
    numbers: dict[str, Any] = {name: chosen.get(name) if value is None else value for name, value in given.items()}
    return HeadSettings(**numbers)


def embedding_table(objective: nn.Module) -> Tensor | tuple[Tensor, Tensor]:
    """Returns E, or A and B (eq. 16), of an objective that has them."""
    names = ("compressed_rows", "compressed_columns") if hasattr(objective, "compressed_rows") else ("embedding",)
    found = [getattr(objective, name) for name in names]
    return (found[0], found[1]) if len(found) == 2 else found[0]


def initial_embedding(
    num_labels: int, embedding: Literal["full", "compressed"], *, rank: int, initial_scale: float | str | None
) -> dict[str, Tensor]:
    """Returns what E, or A and B, start as, by the names of the parameters."""
    scale = math.log(num_labels) + 1.5 if isinstance(initial_scale, str) else initial_scale
    if embedding == "full":
        return {"embedding": torch.eye(num_labels) * (1.0 if scale is None else scale)}
    rows = torch.randn(num_labels, rank)
    if scale is None:
        # The entries of A B start with variance 1; the relu then keeps half of them.
        columns = torch.randn(rank, num_labels)
        return {"compressed_rows": rows, "compressed_columns": columns / rank**0.5}
    rows = F.normalize(rows, dim=1) * scale**0.5
    return {"compressed_rows": rows, "compressed_columns": rows.T.clone()}


def optimizer_groups(
    objective: nn.Module, *, weight_decay: float, embedding_decay: float, learning_rate_factor: float
) -> list[dict[str, Any]]:
    """Returns the group of the output layers and that of E, A and B, as `LabelEmbedding.parameter_groups` has them."""
    groups: dict[bool, list[nn.Parameter]] = {False: [], True: []}
    for name, parameter in objective.named_parameters():
        groups[name in ("embedding", "compressed_rows", "compressed_columns")].append(parameter)
    layers: dict[str, Any] = {"params": groups[False], "weight_decay": weight_decay}
    embedding: dict[str, Any] = {"params": groups[True], "weight_decay": embedding_decay}
    if learning_rate_factor != 1:
        embedding["learning_rate_factor"] = learning_rate_factor
    return [group for group in (layers, embedding) if group["params"]]


def embedding_faults(
    num_labels: int,
    *,
    embedding: Literal["full", "compressed"] | LabelGeometry,
    rank: int,
    auxiliary: str,
    initial_scale: float | str | None,
    embedding_learning_rate: float,
    sparse_gradients: bool,
) -> ArgumentFaults:
    """Returns what is wrong with the arguments that say what E is, and how it learns."""
    faults = ArgumentFaults()
    if not isinstance(embedding, LabelGeometry):
        faults.choice("embedding", embedding, ("full", "compressed"))
    elif len(embedding) != num_labels:
        faults.require(False, "embedding", len(embedding), f"must have {num_labels} labels as the data has")
    if embedding == "full":
        require_memory(faults, num_labels, sparse_gradients=sparse_gradients)
    elif sparse_gradients:
        faults.require(False, "sparse_gradients", True, "is for embedding='full', whose gradient is large")
    faults.require(rank >= 1, "rank", rank, "must be >= 1")
    faults.choice("auxiliary", auxiliary, ("separate", "shared"))
    if isinstance(initial_scale, str):
        faults.choice("initial_scale", initial_scale, ("log",))
    elif initial_scale is not None:
        faults.require(initial_scale > 0, "initial_scale", initial_scale, "must be > 0, 'log' or None")
    rate = embedding_learning_rate
    faults.require(rate > 0, "embedding_learning_rate", rate, "must be > 0")
    return faults


def machine_bytes() -> int | None:
    """Returns the bytes of memory that this machine has, or this container may use; None where nobody tells."""
    try:
        found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # not every system has these
        return None
    try:
        limit = CONTAINER_LIMIT.read_text().strip()
    except OSError:
        return found
    return min(found, int(limit)) if limit.isdigit() else found


def require_memory(faults: ArgumentFaults, num_labels: int, *, sparse_gradients: bool) -> None:
    """Notes that a full E cannot be trained in this machine's memory: 16 C^2 bytes in float32.

    So much are E, its gradient and Adam's two moments; with sparse gradients, which are for other optimisers, E alone
    is counted. Tensors of the device `meta` have no memory.
    """
    memory = machine_bytes()
    if memory is None or num_labels < 1 or torch.get_default_device().type == "meta":
        return
    copies = 1 if sparse_gradients else 4
    size = torch.get_default_dtype().itemsize
    needed = copies * size * num_labels**2
    if needed <= memory:
        return
    what = "E alone takes" if sparse_gradients else "E, its gradient and Adam's moments take"
    rank = memory // (2 * 4 * size * num_labels)
    faults.require(
        False,
        "embedding",
        "full",
        f"must be 'compressed' for {num_labels:,} labels: {what} {needed / 1e9:,.0f} GB and this machine has "
        f"{memory / 1e9:,.0f} GB; compressed with rank=100 they take {4 * size * 200 * num_labels / 1e9:.2g} GB, and a "
        f"rank of up to {min(rank, num_labels):,} fits",
    )


def require_settings(
    faults: ArgumentFaults,
    settings: HeadSettings,
    *,
    preset: str,
    impl: str,
    target_warmup_steps: int | float,
    auxiliary_dtype: str | None,
) -> None:
    """Notes what is wrong with the numbers of the head, and with how it is computed."""
    faults.choice("preset", preset, tuple(PRESETS))
    faults.require(settings.temperature > 0, "temperature", settings.temperature, "must be > 0")
    limit = settings.confidence_limit
    faults.require(0 <= limit <= 1, "confidence_limit", limit, "must be in [0, 1]")
    faults.choice("impl", impl, heads.IMPLEMENTATIONS)
    # By name here, where recipes are checked as well.
    heads.require_auxiliary(faults, settings._replace(auxiliary_dtype=None))
    faults.choice("auxiliary_dtype", auxiliary_dtype, (None, *AUXILIARY_TYPES))
    faults.choice("hinge_norm", settings.hinge_norm, (1, 2))
    faults.choice("hinge_reduction", settings.hinge_reduction, ("mean", "sum"))
    for name in ("output_weight", "target_weight", "uniform_weight"):
        weight = getattr(settings, name)
        faults.require(weight >= 0, name, weight, "must be >= 0")
    is_share = 0 < target_warmup_steps < 1
    is_whole = is_share or (target_warmup_steps >= 0 and float(target_warmup_steps).is_integer())
    rule = "must be a whole number of steps >= 0, or a share of the run between 0 and 1"
    faults.require(is_whole, "target_warmup_steps", target_warmup_steps, rule)
