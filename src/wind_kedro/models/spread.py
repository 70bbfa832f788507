"""Calibration: quantiles are spread so that they hold on time that the model had not seen."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from wind_kedro.models.base import Array

#: With fewer rows the tails of what was left out are noise.
MIN_ROWS_TO_CALIBRATE = 1000
#: A quantile nearer to the median than this share of capacity is taken to be this far, as smaller distances are not significant.
MIN_DISTANCE_SHARE = 0.003
#: Quantiles are not drawn in by more than half nor stretched beyond three times, whatever the rows left out give.
SPREAD_BOUNDS = (0.5, 3.0)


def middle_of(levels: Sequence[float]) -> int:
    """Which level is the median, or comes nearest to it."""
    return int(np.argmin(np.abs(np.asarray(levels) - 0.5)))


def spread_that_holds(quantiles: Array, share: Array, levels: Sequence[float]) -> Array:
    """By how much to stretch each quantile's distance from the median, so that it holds on rows that were left out.

    Trees know their own rows too well: their bands are too narrow elsewhere. This is conformalised quantile regression
    (Romano, Patterson and Candès, NeurIPS 2019), scaled by the band's width, over blocks instead of one split (Vovk, Annals
    of Mathematics and Artificial Intelligence 74, 2015).

    Args:
        quantiles: of rows that the model had not learnt from, one column per level, rising.
        share: the observed power.
        levels: of the columns.
    """
    center = middle_of(levels)
    middle = quantiles[:, center]
    spread = np.ones(len(levels))
    for column, level in enumerate(levels):
        if column == center:
            continue
        side = 1.0 if column > center else -1.0
        distance = np.maximum(side * (quantiles[:, column] - middle), MIN_DISTANCE_SHARE)
        # How far beyond the middle, on this side, the actual lay, in units of the forecast distance.
        reached = side * (share - middle) / distance
        spread[column] = np.quantile(reached, level if side > 0 else 1 - level)
    return np.clip(spread, *SPREAD_BOUNDS)


def stretched(quantiles: Array, spread: Array, levels: Sequence[float]) -> Array:
    """The quantiles, each at ``spread`` times its distance from the median."""
    middle = quantiles[:, [middle_of(levels)]]
    return np.asarray(middle + (quantiles - middle) * spread, dtype=np.float64)
