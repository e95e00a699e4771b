"""The arguments of `LabelEmbedding`: its presets, and what of them cannot be."""

from __future__ import annotations

from typing import Any, Literal

from labelembed import heads
from labelembed.errors import ArgumentFaults
from labelembed.geometry import LabelGeometry
from labelembed.heads import HeadSettings
from labelembed.objectives.split_labels import require_chunks

# Where the paper (eq. 14) and the code published with it differ. The paper states no reduction of the hinge;
# the published code adds 1e-8 to the count of right rows, which float32 cannot show and which is left out.
PRESETS: dict[str, dict[str, Any]] = {
    "paper": {"output_weight": 1.0, "target_weight": 1.0, "uniform_weight": 0.0, "hinge_reduction": "mean"},
    "published_code": {"output_weight": 0.5, "target_weight": 0.5, "uniform_weight": 0.0, "hinge_reduction": "sum"},
    # Not in the paper: the learned similarity together with a share of label smoothing.
    "mixture": {"output_weight": 0.3, "target_weight": 0.5, "uniform_weight": 0.2, "hinge_reduction": "mean"},
}


def head_settings(preset: str, given: dict[str, Any], **others: Any) -> HeadSettings:
    """Returns the numbers of the head.

    Args:
        preset: Of which the numbers are that `given` leaves open; one that there is not counts as `paper`.
        given: Those that a preset has; None: the preset's.
        others: The rest of `HeadSettings`.
    """
    chosen = PRESETS.get(preset, PRESETS["paper"])
    return HeadSettings(**{name: chosen[name] if value is None else value for name, value in given.items()}, **others)


def embedding_faults(
    num_labels: int,
    *,
    embedding: Literal["full", "compressed"] | LabelGeometry,
    rank: int,
    auxiliary: str,
    initial_scale: float | str | None,
    embedding_learning_rate: float,
) -> ArgumentFaults:
    """Returns what is wrong with the arguments that say what E is, and how it learns."""
    faults = ArgumentFaults()
    if not isinstance(embedding, LabelGeometry):
        faults.choice("embedding", embedding, ("full", "compressed"))
    elif len(embedding) != num_labels:
        faults.require(False, "embedding", len(embedding), f"must have {num_labels} labels as the data has")
    faults.require(rank >= 1, "rank", rank, "must be >= 1")
    faults.choice("auxiliary", auxiliary, ("separate", "shared"))
    if isinstance(initial_scale, str):
        faults.choice("initial_scale", initial_scale, ("log",))
    elif initial_scale is not None:
        faults.require(initial_scale > 0, "initial_scale", initial_scale, "must be > 0, 'log' or None")
    rate = embedding_learning_rate
    faults.require(rate > 0, "embedding_learning_rate", rate, "must be > 0")
    return faults


def require_settings(
    faults: ArgumentFaults, settings: HeadSettings, *, preset: str, impl: str, target_warmup_steps: int | float
) -> None:
    """Notes what is wrong with the numbers of the head, and with how it is computed."""
    faults.choice("preset", preset, tuple(PRESETS))
    faults.require(settings.temperature > 0, "temperature", settings.temperature, "must be > 0")
    limit = settings.confidence_limit
    faults.require(0 <= limit <= 1, "confidence_limit", limit, "must be in [0, 1]")
    faults.choice("impl", impl, heads.IMPLEMENTATIONS)
    faults.choice("hinge_norm", settings.hinge_norm, (1, 2))
    faults.choice("hinge_reduction", settings.hinge_reduction, ("mean", "sum"))
    for name in ("output_weight", "target_weight", "uniform_weight"):
        weight = getattr(settings, name)
        faults.require(weight >= 0, name, weight, "must be >= 0")
    is_share = 0 < target_warmup_steps < 1
    is_whole = is_share or (target_warmup_steps >= 0 and float(target_warmup_steps).is_integer())
    rule = "must be a whole number of steps >= 0, or a share of the run between 0 and 1"
    faults.require(is_whole, "target_warmup_steps", target_warmup_steps, rule)


def require_splittable(faults: ArgumentFaults, embedding: str | LabelGeometry, *, impl: str) -> None:
    """Notes what cannot be with labels that are split over processes."""
    require_chunks(faults, impl, vocabulary_parallel=True)
    given = "a saved geometry" if isinstance(embedding, LabelGeometry) else embedding
    rule = "must be 'compressed' with vocabulary_parallel=True: a table [C, C] has no share that a process could hold"
    faults.require(given == "compressed", "embedding", given, rule)
