"""The figures of the tables: ranking, rates with their bounds, and a distance between sets of pictures."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, stats

FloatArray = NDArray[np.float64]


def auc(positive: FloatArray, negative: FloatArray) -> float:
    """Area under the ROC curve: chance that a positive [P] outranks a negative [N], ties counting half."""
    ranks = stats.rankdata(np.concatenate([positive, negative]))
    count = len(positive)
    return float((ranks[:count].sum() - count * (count + 1) / 2) / (count * len(negative)))


def tpr_at_fpr(positive: FloatArray, negative: FloatArray, rate: float) -> float:
    """Share of positives above the score that a share `rate` of negatives exceeds."""
    return float((positive > np.quantile(negative, 1 - rate)).mean())


def bootstrap(
    figure: Callable[..., float], *samples: FloatArray, rounds: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """95 % percentile interval of a figure of independent samples, each resampled with replacement."""
    rng = np.random.default_rng(seed)
    values = [figure(*(sample[rng.integers(0, len(sample), len(sample))] for sample in samples)) for _ in range(rounds)]
    return float(np.quantile(values, 0.025)), float(np.quantile(values, 0.975))


def rate_interval(hits: int, trials: int) -> tuple[float, float]:
    """95 % Clopper-Pearson interval of a rate; its upper end is one-sided 95 % where there are no hits."""
    if trials == 0:
        return 0.0, 1.0
    tail = 0.05 if hits in (0, trials) else 0.025
    low = 0.0 if hits == 0 else float(stats.beta.ppf(tail, hits, trials - hits + 1))
    high = 1.0 if hits == trials else float(stats.beta.ppf(1 - tail, hits + 1, trials - hits))
    return low, high


def frechet_distance(first: FloatArray, second: FloatArray) -> float:
    """Frechet distance (Heusel et al. 2017) of two sets of features [N, F] taken as Gaussians."""
    gap = first.mean(0) - second.mean(0)
    one, two = np.cov(first, rowvar=False), np.cov(second, rowvar=False)
    root = linalg.sqrtm(one @ two)
    return float(gap @ gap + np.trace(one + two - 2 * root.real))
