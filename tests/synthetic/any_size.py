"""A fleet of any size: its cards, its recipe with faults at set shares, and its raw files by the time at which they arrive."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import yaml
from pydantic import Field

from wind_kedro.cards import Card, Farm

from . import made_up_farms, make_fleet
from .recipe import Recipe
from .weather import random_stream

#: Files arrive so often, as weather runs do.
BATCH = "6h"
#: What a drawn fault is, beside its kind, times and turbine.
_DRAWN: Mapping[str, Mapping[str, Any]] = {
    "stuck": {"signal": "wind_speed_ms"},
    "gap": {},
    "duplicate": {"count": 6},
    "curtailed": {"value": 0.4},
}


class FleetSettings(Card):
    """How a fleet of any size is made: ``conf/fleet/synthetic.yml``."""

    seed: int
    as_of: dt.datetime = Field(description="until when there is a history")
    step_minutes: int = Field(15, gt=0, description="of the simulation; divides the cadence")
    cadence_minutes: int = Field(15, gt=0, description="of the signals")
    max_turbines: int = Field(3, gt=0, description="of a farm")
    length_hours: int = Field(48, gt=0, description="of a weather run")
    fault_shares: dict[Literal["stuck", "gap", "duplicate", "curtailed"], float] = Field(
        default_factory=dict, description="share of a farm's days on which a turbine has the fault; a day has one fault at most"
    )

    @classmethod
    def read(cls, path: Path) -> FleetSettings:
        """The settings of a file."""
        return cls.model_validate(yaml.safe_load(path.read_text("utf-8")))

    def farms(self, count: int) -> list[Farm]:
        """The cards; fewer farms are the first of more."""
        return made_up_farms(
            count,
            self.seed,
            cadence_minutes=self.cadence_minutes,
            length_hours=self.length_hours,
            max_turbines=self.max_turbines,
        )

    def recipe(self, weather: Mapping[str, Any], farms: Sequence[Farm], days: int, days_after: int) -> Recipe:
        """The recipe of a history of so many days, and of days after it.

        Args:
            weather: ``scales`` and ``weather_models`` of a `Recipe`, such as ``conf/test/synthetic.yml``.
            farms: the cards.
            days: before `as_of`.
            days_after: of data that is still to arrive then.
        """
        start, end = self.as_of - dt.timedelta(days=days), self.as_of + dt.timedelta(days=days_after)
        values = {"seed": self.seed, "start": start, "end": end, "step_minutes": self.step_minutes}
        values |= {name: weather[name] for name in ("scales", "weather_models")}
        return Recipe.model_validate(values | {"faults": list(self._faults(farms, start, end))})

    def _faults(self, farms: Sequence[Farm], start: dt.datetime, end: dt.datetime) -> Iterator[dict[str, Any]]:
        # Whole days only, counted back from the end of the history: a longer history has the faults of a shorter one.
        back = (self.as_of - start).days
        for farm in farms:
            for number in range(-back, (end - self.as_of).days):
                rng = random_stream(self.seed, "faults of a day", farm.id, str(number))
                drawn, share = rng.random(), 0.0
                for kind, own in sorted(self.fault_shares.items()):
                    share += own
                    if drawn < share:
                        first = self.as_of + dt.timedelta(days=number, hours=int(rng.integers(0, 18)))
                        window = {"start": first, "end": first + dt.timedelta(hours=6)}
                        turbine = farm.turbines[int(rng.integers(len(farm.turbines)))].id
                        yield {"farm": farm.id, "kind": kind, "turbine": turbine, **window, **_DRAWN[kind]}
                        break


@dataclass(frozen=True)
class Batch:
    """Rows that arrive in one file."""

    arrives_at: pd.Timestamp
    path: str
    rows: pd.DataFrame


def batches(farms: Sequence[Farm], recipe: Recipe, history_until: pd.Timestamp) -> Iterator[Batch]:
    """A fleet's raw files, farm by farm: one of all history for each source, then one every six hours (`BATCH`).

    Paths are those of the cards with the time of arrival: read them with `patterned` cards.
    """
    for data in make_fleet(farms, recipe):
        for name, file in data.files.items():
            arrived = pd.to_datetime(file.rows["available_at" if "weather" in name else "received_at"], utc=True)
            due = arrived.dt.ceil(BATCH)
            for at, rows in file.rows.groupby(due.where(due > history_until, history_until)):
                yield Batch(at, name.replace(".parquet", f"_{at:%Y%m%dT%H}.parquet"), rows)


def patterned(farm: Farm) -> dict[str, Any]:
    """The card of a farm whose files come one after another, as it is written in YAML."""
    card = farm.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
    for source in (card["signals"], *card["weather"]):
        source["path"] = source["path"].replace(".parquet", "_*.parquet")
    return card
