"""What the features are made of: families, and their settings (`parameters_features.yml`)."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from functools import cache
from typing import Literal, get_args

from pydantic import Field

from wind_kedro.cards import Fleet
from wind_kedro.strict import Strict

#: Groups of features that a product may use, and that an ablation leaves out.
Family = Literal[
    "wind",  # speed, components, direction, cube at 100 m; speed at standard density
    "wind_10m",  # the same at 10 m
    "profile",  # shear and veer between 10 m and 100 m
    "air",  # temperature, pressure, density
    "neighbours",  # speed of the same run before and after the interval, and in a window around it
    "neighbour_components",  # u and v of the same run before and after
    "run",  # mean, deviation, least and most of the speed in the run
    "other_farms",  # speed at other farms' points, at 100 m and 10 m
    "other_farm_components",  # u and v there
    "other_farm_neighbours",  # speed there before and after
    "fleet",  # mean wind over all these points and the own one, and how far they are apart
    "best_point",  # wind at that point, own or other, which explained the power best until then
    "models",  # how many weather models, and how far they are apart
    "runs",  # what the last runs say of the interval: mean, spread, change
    "last_run",  # what the newest run changed against the one before
    "lead",  # age of the run
    "calendar",  # hour of the day
    "production",  # power known at the issue
    "errors",  # errors of a plain power curve known at the issue
    "availability",  # capacity that was available and held back
]
FAMILIES: tuple[Family, ...] = get_args(Family)
#: Columns of no family, which every product has.
ALWAYS = ("wind_speed_100m_ms",)
#: The columns of each family, as patterns.
COLUMNS_OF: Mapping[Family, tuple[str, ...]] = {
    "wind": ("wind_[uv]_100m_ms", "wind_direction_sin", "wind_direction_cos", "wind_speed_100m_cubed", "wind_speed_density_ms"),
    "wind_10m": ("wind_speed_10m_ms", "wind_[uv]_10m_ms", "wind_direction_10m_*", "wind_speed_10m_cubed"),
    "profile": ("wind_shear_*", "wind_veer_deg"),
    "air": ("temperature_c", "pressure_pa", "air_density_kgm3"),
    "neighbours": tuple(f"wind_speed_100m_ms_{what}_*min" for what in ("minus", "plus", "mean", "std", "min", "max")),
    "neighbour_components": ("wind_[uv]_100m_ms_minus_*min", "wind_[uv]_100m_ms_plus_*min"),
    "run": ("wind_speed_100m_ms_run_*",),
    "other_farms": ("other_*_wind_speed_100m_ms", "other_*_wind_speed_10m_ms"),
    "other_farm_components": ("other_*_wind_[uv]_100m_ms",),
    "other_farm_neighbours": ("other_*_wind_speed_100m_ms_minus_*min", "other_*_wind_speed_100m_ms_plus_*min"),
    "fleet": ("fleet_*",),
    "best_point": ("best_point_*",),
    "models": ("weather_models", "weather_spread_ms"),
    "runs": ("wind_*_100m_ms_runs_*",),
    "last_run": ("wind_speed_100m_ms_last_run_change",),
    "lead": ("weather_age_minutes",),
    "calendar": ("hour_of_day",),
    "production": ("last_power_*", "power_share_mean_*h"),
    "errors": ("last_error_share", "error_share_mean_*h"),
    "availability": ("last_available_share", "last_stopped_share", "last_curtailed_share"),
}  # fmt: skip


@cache
def family_of(column: str) -> Family:
    """The family of a column.

    Raises:
        ValueError: if it is of none, as it would then be given to every product, also where a product's rules exclude it.
    """
    for family, patterns in COLUMNS_OF.items():
        if any(fnmatchcase(column, one) for one in patterns):
            return family
    raise ValueError(f"feature column '{column}' is of no family; add its pattern to COLUMNS_OF ({__name__})")


class ProductFeatures(Strict):
    """Settings of one product."""

    families: list[Family] = Field(min_length=1)


class BestPoint(Strict):
    """How the point that explains an entity's power best is found, and the power curve of its wind."""

    min_hours: float = Field(720, gt=0, description="with fewer hours forecast whose power is known, the own point is taken")
    margin: float = Field(0.01, ge=0, description="by how much another farm's point must correlate better than the own one")
    bin_width_ms: float = Field(0.5, gt=0, description="of the curve, as in IEC 61400-12-1")


class FeatureParameters(Strict):
    """Settings of features (`parameters_features.yml`)."""

    families: list[Family] = Field(list(FAMILIES), min_length=1, description="what every product gets")
    products: dict[str, ProductFeatures] = Field(default_factory=dict, description="by product: what it gets instead")
    neighbour_minutes: list[int] = Field(description="wind speed of the same run this much before and after the interval")
    component_minutes: list[int] = Field(default_factory=list, description="components likewise; none: as neighbour_minutes")
    window_minutes: list[int] = Field(description="widths of centred windows of mean and deviation of wind speed in the run")
    extremes_minutes: list[int] = Field(default_factory=list, description="likewise of least and most wind speed")
    edge_minutes: int = Field(0, ge=0, description="how far before its first and behind its last time a run's value still holds")
    runs: int = Field(4, gt=1, description="so many of the last runs are compared, the newest first")
    run_weight: float = Field(0.6, gt=0, le=1, description="of a run in the mean over runs, against the next newer one")
    run_minutes: list[int] = Field(default_factory=list, description="as neighbour_minutes, of the mean over runs")
    other_farms: int = Field(12, ge=0, description="so many other farms' points are looked at, the nearest")
    other_farm_minutes: list[int] = Field(default_factory=list, description="as neighbour_minutes, at other farms")
    best_point: BestPoint = BestPoint()
    production_memory_hours: int = Field(gt=0, description="how far back the last known production is looked for")
    production_mean_hours: list[int] = Field([3, 24], description="spans over which known production is averaged")
    error_mean_hours: list[int] = Field([24, 168], description="spans over which known errors are averaged")

    def families_of(self, product_id: str) -> frozenset[Family]:
        """Families of a product."""
        own = self.products.get(product_id)
        return frozenset(self.families if own is None else own.families)

    def check(self, fleet: Fleet) -> None:
        """Raise `CardError` if families are given for a product that no card describes."""
        for product_id in self.products:
            fleet.product(product_id)
