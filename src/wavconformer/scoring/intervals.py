"""How sure a rate is: intervals that the true one lies in with 95 % confidence."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

CONFIDENCE = 0.95
RESAMPLES = 10_000
_DRAWS_AT_ONCE = 2**21  # 16 MB of indices


@dataclass(frozen=True)
class Interval:
    """From low to high, both shares of 1 as the rate itself."""

    low: float
    high: float


def bootstrap(
    errors: ArrayLike,
    lengths: ArrayLike,
    *,
    resamples: int = RESAMPLES,
    confidence: float = CONFIDENCE,
    seed: int | np.random.Generator = 0,
) -> Interval | None:
    """The interval of an error rate, sum of errors over sum of lengths, by resampling utterances.

    errors, lengths: (N,) of each utterance. A resample draws N utterances with replacement and has a rate of its own;
    the interval is between the quantiles of these rates (Bisani & Ney, ICASSP 2004). Utterances count as independent:
    where few speakers say many, the truth is wider.

    None for fewer than two utterances or no length at all.
    """
    parts = np.stack([np.asarray(errors, dtype=np.int64), np.asarray(lengths, dtype=np.int64)], axis=1)
    if len(parts) < 2 or not parts[:, 1].any():
        return None
    rates = _resampled(parts, resamples, np.random.default_rng(seed))
    low, high = np.quantile(rates, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(low), float(high))


def improvement(
    errors: ArrayLike,
    other_errors: ArrayLike,
    *,
    resamples: int = RESAMPLES,
    seed: int | np.random.Generator = 0,
) -> float:
    """The share of resamples in which the first system makes fewer errors than the other on the same utterances.

    errors, other_errors: (N,) of each utterance. Near 1 the first is better, near 0 the other (Bisani & Ney 2004);
    resamples in which both are equal count one half.
    """
    first, other = np.asarray(errors, dtype=np.int64), np.asarray(other_errors, dtype=np.int64)
    if first.shape != other.shape or not first.size:
        raise ValueError(f"Two systems are compared on the same utterances, not on {first.shape} and {other.shape}.")
    differences = np.stack([first - other, np.ones_like(first)], axis=1)
    means = _resampled(differences, resamples, np.random.default_rng(seed))
    return float((means < 0).mean() + (means == 0).mean() / 2)


def wilson(hits: int, count: int, confidence: float = CONFIDENCE) -> Interval | None:
    """The interval of a share of hits (Wilson 1927), which stays within 0 and 1 and has a width at both; None for 0."""
    if not count:
        return None
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share = hits / count
    middle = share + z * z / (2 * count)
    half = z * (share * (1 - share) / count + z * z / (4 * count * count)) ** 0.5
    scale = 1 + z * z / count
    return Interval(max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale))


def _resampled(parts: NDArray[np.int64], resamples: int, random: np.random.Generator) -> NDArray[np.float64]:
    """Of each resample the first column's sum over the second's (resamples,); (N, 2) in."""
    count = len(parts)
    rates = []
    step = max(1, _DRAWS_AT_ONCE // count)
    for start in range(0, resamples, step):
        drawn = random.integers(count, size=(min(step, resamples - start), count))
        sums = parts[:, 0][drawn].sum(axis=1), parts[:, 1][drawn].sum(axis=1)
        rates.append(sums[0] / np.maximum(sums[1], 1))  # utterances without words alone: as if one was there
    return np.concatenate(rates)
