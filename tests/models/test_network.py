"""The network's distribution function, read as quantiles."""

from __future__ import annotations

import numpy as np
import pandas as pd

from wind_kedro.models.network import Network, NetworkParameters

LEVELS = [0.1, 0.5, 0.9]


def test_calm_hours_are_a_lump_at_nothing() -> None:
    rng = np.random.default_rng(3)
    calm = np.repeat([True, False], 600)
    features = pd.DataFrame({"wind_speed_100m_ms": np.where(calm, 1.0, 9.0) + rng.normal(0, 0.1, 1200)})
    power = pd.Series(np.where(calm, 0.0, rng.uniform(0.4, 0.6, 1200)))
    model = Network(LEVELS, 1, NetworkParameters(hidden_layer_sizes=(16,), max_iter=200, learning_rate_init=0.01, alpha=0.0)).fit(
        features, power
    )
    still, windy = model.predict(pd.DataFrame({"wind_speed_100m_ms": [1.0, 9.0]}))
    assert (still[:2] == 0).all()
    np.testing.assert_allclose(windy, [0.42, 0.5, 0.58], atol=0.05)


def test_a_feature_far_beyond_what_was_learnt_does_not_run_away() -> None:
    rng = np.random.default_rng(4)
    speed = rng.uniform(3, 12, 600)
    model = Network(LEVELS, 1, NetworkParameters(hidden_layer_sizes=(16,), max_iter=30))
    model.fit(pd.DataFrame({"wind_speed_100m_ms": speed}), pd.Series(speed / 12))
    far = model.predict(pd.DataFrame({"wind_speed_100m_ms": [1e3, 1e6]}))
    np.testing.assert_array_equal(far[0], far[1])
