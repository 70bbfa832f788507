"""Wind at the hub and density there, against values worked by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from wind_kedro.pipelines.data_engineering.settings import WindProfile
from wind_kedro.pipelines.data_engineering.weather.heights import Levels, air_density, bearing, wind_at

HEIGHTS = (10, 50, 100)
PROFILE = WindProfile(shear_exponent=0.143, shear_exponents=(0.0, 0.5))
NAN = math.nan


def at(height: float, speeds: list[float], directions: list[float] | None = None) -> tuple[float, float]:
    """Wind of one row at a height, from speeds at 10, 50 and 100 m; from the west unless said otherwise."""
    speed = np.array([speeds])
    direction = np.array([directions or [270.0] * 3])
    angle = np.radians(direction)
    levels = Levels(HEIGHTS, speed, direction, -speed * np.sin(angle), -speed * np.cos(angle))
    found, angle = wind_at(np.array([float(height)]), levels, PROFILE)
    return float(found[0]), float(angle[0])


@pytest.mark.parametrize(
    ("height", "speeds", "expected"),
    [
        pytest.param(50, [5, 7, 8], 7, id="at a level: as it stands"),
        # ln(sqrt(5000)) lies half way between ln(50) and ln(100).
        pytest.param(math.sqrt(5000), [5, 7, 8], 7.5, id="between two levels: linear in ln(height)"),
        pytest.param(math.sqrt(1000), [5, NAN, 8], 6.5, id="between two levels, one between them missing"),
        # 8 (200/100)^a with a = ln(8/6) / ln(100/50) doubles the rise from 50 to 100 m: 8 * 8/6.
        pytest.param(200, [5, 6, 8], 8 * 8 / 6, id="above all levels: exponent of the highest two"),
        pytest.param(5, [3, 3.6, 8], 3 * 0.5 ** (math.log(1.2) / math.log(5)), id="below all: exponent of the lowest two"),
        pytest.param(200, [NAN, 8, 7], 7, id="wind that falls with height is held at the lowest exponent, 0"),
        pytest.param(200, [NAN, 2, 8], 8 * 2**0.5, id="steeper than the steepest: held at 0.5"),
        pytest.param(100, [5, NAN, NAN], 5 * 10**0.143, id="one level alone: the default exponent"),
        pytest.param(200, [NAN, 0, 4], 4 * 2**0.143, id="a calm below says nothing about shear"),
        pytest.param(200, [NAN, NAN, 0], 0, id="a calm stays one"),
        pytest.param(80, [NAN] * 3, NAN, id="no wind at any level"),
    ],
)
def test_speed_at_a_height(height: float, speeds: list[float], expected: float) -> None:
    assert at(height, speeds)[0] == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize(
    ("height", "speeds", "directions", "expected"),
    [
        pytest.param(math.sqrt(5000), [5, 8, 8], [0, 350, 10], 0, id="between 350 and 10 degrees: north"),
        pytest.param(math.sqrt(5000), [5, 8, 8], [0, 180, 270], 225, id="between south and west"),
        pytest.param(math.sqrt(5000), [5, 8, 8], [0, NAN, 270], 270, id="one has none: the other's"),
        pytest.param(150, [5, 8, 8], [0, 200, 210], 210, id="above all: the highest level's"),
        pytest.param(5, [5, 8, 8], [20, 200, 210], 20, id="below all: the lowest level's"),
        pytest.param(150, [5, 8, 8], [NAN] * 3, NAN, id="no level has any"),
    ],
)
def test_direction_at_a_height(height: float, speeds: list[float], directions: list[float], expected: float) -> None:
    found = at(height, speeds, directions)[1]
    assert math.isnan(found) == math.isnan(expected)
    # Angles are compared on the circle: 360 degrees are 0.
    assert math.isnan(expected) or math.cos(math.radians(found - expected)) == pytest.approx(1)


def test_speeds_without_directions_are_interpolated_by_themselves() -> None:
    assert at(math.sqrt(5000), [5, 7, 8], [NAN] * 3)[0] == pytest.approx(7.5)


def test_opposite_winds_cancel() -> None:
    # Half way between 8 m/s from the west and 8 m/s from the east there is a calm, and a calm has no direction.
    speed, direction = at(math.sqrt(5000), [NAN, 8, 8], [NAN, 270, 90])
    assert speed == pytest.approx(0, abs=1e-9)
    assert bearing(np.zeros(1), np.zeros(1)).tolist() == pytest.approx([NAN], nan_ok=True)
    assert math.isnan(direction) or speed < 1e-9


@pytest.mark.parametrize(
    ("pressure", "temperature", "height", "expected"),
    [
        # ISO 2533: 15 degrees at sea level are 14.987 degrees at 2 m.
        pytest.param(101_325, 14.987, 0, 1.2250, id="standard atmosphere at sea level"),
        pytest.param(101_325, 14.987, 100, 1.2133, id="standard atmosphere at 100 m"),
        pytest.param(101_325, 14.987, 1000, 1.1117, id="standard atmosphere at 1000 m"),
        pytest.param(NAN, 14.987, 100, NAN, id="no pressure"),
    ],
)
def test_density_is_that_of_the_standard_atmosphere(pressure: float, temperature: float, height: float, expected: float) -> None:
    found = air_density(np.array([pressure]), np.array([temperature]), np.array([float(height)]))
    assert found.tolist() == pytest.approx([expected], abs=6e-5, nan_ok=True)


@pytest.mark.parametrize("field", ["shear_exponent", "shear_exponents"])
def test_the_exponents_that_ship_are_sane(parameters: dict[str, Any], field: str) -> None:
    shipped = WindProfile.model_validate(parameters["wind_profile"])
    low, high = shipped.shear_exponents
    assert low <= shipped.shear_exponent <= high
    assert getattr(shipped, field) is not None
