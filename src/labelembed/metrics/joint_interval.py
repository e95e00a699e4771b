"""The interval of a difference over two sources of chance at once: the seeds and the test examples."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray


class JointInterval(NamedTuple):
    """An interval over seeds and test examples.

    `examples` is N, their number; `mean_squares` are MS_s, MS_e and MS_r of `joint_interval`.
    """

    low: float
    high: float
    examples: int
    mean_squares: tuple[float, float, float]


def joint_interval(differences: ArrayLike, *, confidence: float = 0.95) -> JointInterval | None:
    """Returns the interval of the mean difference over seeds and test examples together.

    A model with two crossed random effects (as readers and cases in multi-reader studies, Hillis 2007):
    ``d[s, i] = mu + a[s] + b[i] + e[s, i]``. With n seeds, N examples and the mean squares

    - ``MS_s = N var(means of the seeds)``, n - 1 degrees of freedom, expected ``N var(a) + var(e)``;
    - ``MS_e = n var(means of the examples)``, N - 1 degrees of freedom, expected ``n var(b) + var(e)``;
    - ``MS_r``, the mean square of what is left, (n - 1)(N - 1) degrees of freedom, expected ``var(e)``,

    the variance of the mean is ``max(MS_s + MS_e - MS_r, MS_s, MS_e) / (n N)`` (no variance component is below 0), with
    Satterthwaite's degrees of freedom ``(MS_s + MS_e - MS_r)^2 / (MS_s^2 / (n - 1) + MS_e^2 / (N - 1) + MS_r^2 /
    ((n - 1) (N - 1)))``, or those of MS_s or MS_e where it is the maximum. With two or three seeds these are too many:
    the interval is never narrower than the paired t interval over seeds.

    Args:
        differences: Of seed s on example i, method minus baseline, finite [n, N].
        confidence: Probability with which the interval covers mu, in (0, 1).

    Returns:
        None for one seed, for one example, and where nothing varies.

    Raises:
        ValueError: `differences` are not [n, N], empty or not finite, or `confidence` is not in (0, 1).

    Example:
        >>> interval = joint_interval([[1, 0, 0, 1], [1, 1, 0, 0], [1, 0, 1, 0]])
        >>> round(interval.low, 2), round(interval.high, 2)
        (-0.03, 1.03)
    """
    d = np.asarray(differences, dtype=np.float64)
    if d.ndim != 2 or not d.size or not np.isfinite(d).all():
        raise ValueError(f"`differences` must be finite and [seeds, examples], got shape {d.shape}")
    if not 0 < confidence < 1:
        raise ValueError(f"`confidence` must be in (0, 1), got {confidence!r}")
    seeds, examples = d.shape
    if seeds < 2 or examples < 2:
        return None
    mean = float(d.mean())
    squares = _mean_squares(d, mean)
    total, degrees = variance_of_mean(*squares, seeds, examples)
    # Nothing but rounding: equal runs, or differences that cancel.
    if total <= seeds * examples * (4 * float(np.finfo(np.float64).eps) * float(np.abs(d).max())) ** 2:
        return None
    from scipy.special import stdtrit  # the quantile; `scipy.stats` takes half a second to import

    quantiles = stdtrit([degrees, seeds - 1], 0.5 + confidence / 2)
    half = float(np.max(quantiles * np.sqrt(np.array([total, squares[0]]) / (seeds * examples))))
    return JointInterval(mean - half, mean + half, examples, squares)


def _mean_squares(d: NDArray[np.float64], mean: float) -> tuple[float, float, float]:
    """Returns the mean squares of seeds, of examples and of what is left."""
    seeds, examples = d.shape
    by_seed, by_example = d.mean(axis=1), d.mean(axis=0)
    left = d - by_seed[:, None] - by_example[None, :] + mean
    return (
        float(examples * by_seed.var(ddof=1)),
        float(seeds * by_example.var(ddof=1)),
        float((left**2).sum() / ((seeds - 1) * (examples - 1))),
    )


def variance_of_mean(
    of_seeds: float, of_examples: float, left: float, seeds: int, examples: int
) -> tuple[float, float]:
    """Returns the variance of the mean times seeds times examples, and its degrees of freedom."""
    both = of_seeds + of_examples - left
    if both <= max(of_seeds, of_examples):
        return (of_seeds, seeds - 1.0) if of_seeds >= of_examples else (of_examples, examples - 1.0)
    spread = of_seeds**2 / (seeds - 1) + of_examples**2 / (examples - 1) + left**2 / ((seeds - 1) * (examples - 1))
    return both, both**2 / spread
