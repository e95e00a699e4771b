"""The interval of a difference over two sources of chance at once: the seeds and the test examples.

The paired t interval over seeds says what another run would give *on these same test examples*. Another sample of test
examples of the same kind would give another difference, too. The interval here covers both.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray


class JointInterval(NamedTuple):
    """An interval over seeds and test examples.

    Attributes:
        low: Lower end, in the unit of the differences.
        high: Upper end.
        examples: N, how many test examples.
        mean_squares: MS_s, MS_e and MS_r of `joint_interval`: what the seeds, the examples and the rest vary by.
    """

    low: float
    high: float
    examples: int
    mean_squares: tuple[float, float, float]


def joint_interval(differences: ArrayLike, *, confidence: float = 0.95) -> JointInterval | None:
    """Returns the interval of the mean difference over seeds and test examples together.

    A model with two crossed random effects, as in multi-reader multi-case studies (seeds are the readers, examples the
    cases): ``d[s, i] = mu + a[s] + b[i] + e[s, i]``. With n seeds, N examples and the mean squares

    - ``MS_s = N var(means of the seeds)``, n - 1 degrees of freedom, expected ``N var(a) + var(e)``;
    - ``MS_e = n var(means of the examples)``, N - 1 degrees of freedom, expected ``n var(b) + var(e)``;
    - ``MS_r``, the mean square of what is left, (n - 1)(N - 1) degrees of freedom, expected ``var(e)``,

    the variance of the mean, ``var(a) / n + var(b) / N + var(e) / (n N)``, is estimated without bias by
    ``(MS_s + MS_e - MS_r) / (n N)``. A variance component below 0 is set to 0:
    ``max(MS_s + MS_e - MS_r, MS_s, MS_e) / (n N)``.

    Degrees of freedom by Satterthwaite: the mean squares are independent, and each is its expectation times a
    chi-square over its degrees of freedom, so that its variance is ``2 E[MS]^2 / df``. A chi-square with the mean and
    the variance of their sum has ``(MS_s + MS_e - MS_r)^2 / (MS_s^2 / (n - 1) + MS_e^2 / (N - 1) + MS_r^2 / ((n - 1)
    (N - 1)))`` degrees of freedom; where the maximum is MS_s or MS_e alone, its own. With two or three seeds that many
    are too many, and the interval came out narrower than the one over seeds alone in most samples. It is therefore
    never narrower than the paired t interval over seeds, ``t(n - 1) sqrt(MS_s / (n N))`` on either side.

    Args:
        differences: Of seed s on example i, method minus baseline, finite ``[n, N]``.
        confidence: Probability with which the interval covers mu, in (0, 1).

    Returns:
        The interval; None for one seed, for one example, and where nothing varies.

    Raises:
        ValueError: If `differences` is not of two dimensions, empty or not finite, or `confidence` is not in (0, 1).

    Example:
        >>> found = joint_interval([[1, 0, 0, 1], [1, 1, 0, 0], [1, 0, 1, 0]])
        >>> round(found.low, 2), round(found.high, 2)
        (-0.03, 1.03)

    References:
        Obuchowski, Rockette (1995), Hypothesis testing of diagnostic accuracy for multiple readers and multiple tests.
        Hillis (2007), A comparison of denominator degrees of freedom methods for multiple observer ROC analysis.
        Satterthwaite (1946), An approximate distribution of estimates of variance components.
    """
    d = np.asarray(differences, dtype=np.float64)
    if d.ndim != 2 or not d.size:
        raise ValueError(f"`differences` must be [seeds, examples], got shape {d.shape}")
    if not np.isfinite(d).all():
        raise ValueError("`differences` must be finite")
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
    from scipy import stats  # half a second to import, and only comparisons need it

    quantiles = stats.t.ppf(0.5 + confidence / 2, [degrees, seeds - 1])
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
