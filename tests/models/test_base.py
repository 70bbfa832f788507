"""What stands in the protocol for all families."""

from pathlib import Path

import numpy as np
import pandas as pd

from wind_kedro.models.base import Array, Forecaster


class Careless(Forecaster, type_name="careless"):
    """A family whose quantiles cross and leave what is possible."""

    @property
    def needed_columns(self) -> list[str]:
        return []

    def _fit(self, features: pd.DataFrame, share: Array) -> None: ...

    def _predict(self, features: pd.DataFrame) -> Array:
        return np.tile([1.3, 0.4, -0.2], (len(features), 1))

    def _save(self, folder: Path) -> None: ...

    def _load(self, folder: Path) -> None: ...


def test_crossed_and_impossible_quantiles_are_put_right() -> None:
    rows = pd.DataFrame({"hour_of_day": [0.0, 1.0]})
    quantiles = Careless([0.1, 0.5, 0.9]).fit(rows, pd.Series([0.1, 0.2])).predict(rows)
    np.testing.assert_array_equal(quantiles, [[0.0, 0.4, 1.0]] * 2)
