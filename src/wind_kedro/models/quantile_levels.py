"""Quantile levels: learning a few and reading the others between them, and quantiles of weighted rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from wind_kedro.models.base import Array


def few_levels(levels: Sequence[float], count: int | None) -> list[float]:
    """At most ``count`` of the levels: the outermost, the one nearest to the median, and others evenly between.

    Outermost ones are kept because nothing is read beyond them: tails are learnt, never extrapolated.
    """
    if count is None or len(levels) <= count:
        return list(levels)
    middle = int(np.argmin(np.abs(np.asarray(levels) - 0.5)))
    even = np.linspace(0, len(levels) - 1, count)
    even[np.argmin(np.abs(even - middle))] = middle
    chosen = {0, middle, len(levels) - 1, *np.round(even).astype(int).tolist()}
    return [levels[index] for index in sorted(chosen)]


def between_levels(quantiles: Array, learnt: Sequence[float], levels: Sequence[float]) -> Array:
    """Quantiles of ``levels`` from those of the ``learnt`` levels, which reach as far: in straight lines.

    A straight line between two quantiles is an even distribution between them: it cannot overshoot, and what rises stays rising.
    """
    known, wanted = np.asarray(learnt), np.asarray(levels)
    if len(known) == len(wanted) and np.array_equal(known, wanted):
        return quantiles
    if len(known) == 1:
        return np.repeat(quantiles, len(wanted), axis=1)
    right = np.clip(np.searchsorted(known, wanted), 1, len(known) - 1)
    share = (wanted - known[right - 1]) / (known[right] - known[right - 1])
    between: Array = quantiles[:, right - 1] * (1 - share) + quantiles[:, right] * share
    return between


def weighted_quantiles(values: Array, weights: Array, levels: NDArray[np.float64]) -> Array:
    """Quantiles of rising ``values``, each with a positive weight; in straight lines between the middles of the weights."""
    reached = np.cumsum(weights)
    return np.interp(levels, (reached - 0.5 * weights) / reached[-1], values)
