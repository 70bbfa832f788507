"""The physical model: what turbines make of a wind that may be wrong, without any history."""

import numpy as np
import pandas as pd
import pytest

from wind_kedro.cards import Fleet
from wind_kedro.models.base import Forecaster
from wind_kedro.models.physical import curve_of, library
from wind_kedro.models.registry import ModelConfig, build

LEVELS = [0.1, 0.5, 0.9]
NOTHING = pd.DataFrame({"wind_speed_100m_ms": pd.Series([], dtype=float)})


def physical(**params: object) -> Forecaster:
    model = build("it", ModelConfig(type="physical", params=params), LEVELS, seed=0)
    return model.fit(NOTHING, pd.Series([], dtype=float))


def turbine(height: float = 100, kind: str | None = None, count: int = 1) -> dict[str, object]:
    return {"rated_power_kw": 2000, "hub_height_m": height, "type": kind, "count": count}


def at(model: Forecaster, wind: float, **columns: float) -> list[float]:
    row = pd.DataFrame({"wind_speed_100m_ms": [wind], **{name: [value] for name, value in columns.items()}})
    return model.predict(row)[0].tolist()


def test_without_an_error_of_the_wind_it_is_the_curve() -> None:
    model = physical(turbines=[turbine(kind="V90/2000")], wind_error_ms=0, wind_error_share=0)
    speeds, shares = curve_of("V90/2000")
    for wind in (3.0, 7.0, 9.5, 12.0, 20.0):
        assert at(model, wind) == pytest.approx([float(np.interp(wind, speeds, shares))] * 3, abs=1e-3)
    assert at(model, 40.0) == [0, 0, 0]


def test_a_known_curve_of_the_library() -> None:
    # Vestas V90, 2 MW, of windpowerlib's file: little at 3.5 m/s, all at 15; measured to 16.5, and level beyond.
    speeds, shares = curve_of("V90/2000")
    assert np.interp([3.5, 15.0, 22.0], speeds, shares).tolist() == pytest.approx([0.0, 1.0, 1.0], abs=0.03)
    assert len(library()) > 50


def test_the_error_of_the_wind_is_the_band() -> None:
    narrow, wide = (at(physical(wind_error_ms=error, wind_error_share=0), 8.0) for error in (0.5, 2.0))
    speeds, shares = curve_of(None)
    # Nine tenths of winds are below 8 + 1.2816 standard deviations.
    for quantiles, error in ((narrow, 0.5), (wide, 2.0)):
        winds = 8.0 + np.array([-1.2816, 0.0, 1.2816]) * error
        assert quantiles == pytest.approx(np.interp(winds, speeds, shares).tolist(), abs=0.01)


def test_wind_is_brought_to_the_hub() -> None:
    exact = {"wind_error_ms": 0, "wind_error_share": 0}
    low, high = physical(turbines=[turbine(50)], **exact), physical(turbines=[turbine(100)], **exact)
    # By the power law: half the height, 2^-0.2 of the wind.
    assert at(low, 8.0, wind_shear_exponent=0.2) == pytest.approx(at(high, 8.0 * 0.5**0.2), abs=1e-6)
    assert at(low, 8.0, wind_shear_exponent=np.nan) == pytest.approx(at(high, 8.0 * 0.5 ** (1 / 7)), abs=1e-6)


def test_thin_air_counts_as_less_wind() -> None:
    model = physical(wind_error_ms=0, wind_error_share=0)
    assert at(model, 8.0, wind_speed_density_ms=7.6) == pytest.approx(at(model, 7.6), abs=1e-6)


def test_turbines_count_by_what_they_are_rated() -> None:
    exact = {"wind_error_ms": 0, "wind_error_share": 0}
    kinds = [turbine(kind="V90/2000", count=3), turbine(kind="E-82/2000", count=1)]
    own = [at(physical(turbines=[kind | {"count": 1}], **exact), 8.0)[1] for kind in kinds]
    assert at(physical(turbines=kinds, **exact), 8.0)[1] == pytest.approx((3 * own[0] + own[1]) / 4)


def test_a_type_that_the_library_has_not_is_told_with_its_neighbours() -> None:
    with pytest.raises(ValueError, match=r"no power curve of turbine type 'V90-2000'.*V90/2000"):
        physical(turbines=[turbine(kind="V90-2000")])


def test_turbines_come_from_the_card(fleet: Fleet) -> None:
    farm = fleet.farms_of("hill")[0]
    config = ModelConfig(type="physical").of_farms([farm, farm])
    (kinds,) = [config.params["turbines"]]
    assert sum(kind["count"] for kind in kinds) == 2 * len(farm.turbines)
    # Also where it is a member, and not where other turbines are set.
    mixed = ModelConfig(type="hand_over", params={"members": {"curve": {"type": "physical"}}}).of_farms([farm, farm])
    assert mixed.params["members"]["curve"]["params"]["turbines"] == kinds
    set_by_hand = ModelConfig(type="physical", params={"turbines": [turbine()]})
    assert set_by_hand.of_farms([farm]).params == set_by_hand.params
