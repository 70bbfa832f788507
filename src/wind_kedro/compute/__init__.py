"""Work of single farms, spread over processes of this machine or over many machines."""

from __future__ import annotations

from wind_kedro.compute.farms import Mapped, map_farms
from wind_kedro.compute.shared import Rows, Shared
from wind_kedro.compute.workers import Workers

__all__ = ["Mapped", "Rows", "Shared", "Workers", "map_farms"]
