"""What fits and forecasts of candidates are made from, as numbers: they are made again only where these change."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wind_kedro.cards import Fleet
from wind_kedro.datasets.derived import Derived, days_of
from wind_kedro.models.registry import ModelConfig, versions_of
from wind_kedro.pipelines.training.fitting import FitKey
from wind_kedro.pipelines.training.settings import Training
from wind_kedro.storage.fingerprints import Numbers, mixed, number_of

_ENTITY = ["product_id", "entity_id"]
#: Columns of `ModelInput` that are not known when an issue is forecast.
_OUTCOME = ["power_share", "available_capacity_kw", "target_available_at"]
#: Fields of a candidate that its forecasts do not depend on.
_NOT_READ = {"tier", "shadow", "products", "try_every_days"}
#: Libraries that fit models: another release may fit another model.
_LIBRARIES = ["catboost", "lightgbm", "numpy", "scikit-learn", "scipy"]


def read_numbers(model_input: pd.DataFrame, fleet: Fleet) -> Numbers:
    """A number per row of what a forecast of it depends on: its features, and what `forecast_rows` takes from cards."""
    numbers = row_numbers(model_input.drop(columns=_OUTCOME))
    issued_at, valid_at = (
        model_input[name].dt.tz_localize(None).to_numpy().astype("datetime64[us]") for name in ("issued_at", "valid_at")
    )
    for (product_id, entity_id), places in places_of(model_input).items():
        times = valid_at[places]
        capacity = fleet.capacity_kw(entity_id, times).view(np.uint64)
        revised, number = fleet.calendar(product_id).revisions(issued_at[places])
        numbers[places] = mixed(numbers[places], capacity, fleet.perfect_weather(entity_id, times), revised, number)
    return numbers


def row_numbers(table: pd.DataFrame) -> Numbers:
    """A number per row."""
    return np.array(pd.util.hash_pandas_object(table, index=False), dtype=np.uint64)


def places_of(table: pd.DataFrame) -> dict[tuple[str, str], NDArray[np.intp]]:
    """Positions of the rows of each product and entity."""
    groups = table[_ENTITY].reset_index(drop=True).groupby(_ENTITY)
    return {(str(product_id), str(entity_id)): rows.index.to_numpy() for (product_id, entity_id), rows in groups}


def has_shared_models(config: ModelConfig, *, alone: bool) -> bool:
    """Whether a candidate forecasts by a model that is fitted over all farms; the only farm of a product hands nothing over."""
    members = config.fleet_members or {}
    shared = any(ModelConfig.model_validate(member).scope == "fleet" for member in members.values())
    return shared and not (alone and config.hands_over)


def settings_of(config: ModelConfig) -> list[Any]:
    """Of a candidate what its forecasts depend on."""
    return [config.model_dump(mode="json", exclude=_NOT_READ), versions_of(config)]


def judged_settings(config: ModelConfig, entities: list[str], fleet: Fleet) -> list[Any]:
    """A hand-over's settings for the farms by which it is judged."""
    return [config.of_farms(fleet.farms_of(entity_id)).params for entity_id in entities] if config.hands_over else []


def digest_sums(days: pd.DataFrame, key: Sequence[str], until: pd.Timestamp | None = None) -> dict[tuple[str, ...], np.uint64]:
    """A number per key of the shards of a table with rows, up to a time (naive)."""
    days = days[days["rows"] > 0] if until is None else days[days["day"] <= until]
    sums = days.assign(number=mixed(days["digest"], days["day"])).groupby(list(key))["number"].sum()
    return {of if isinstance(of, tuple) else (of,): np.uint64(number) for of, number in sums.items()}


def fits_made_from(
    wanted: Iterable[FitKey], model_input: Derived | pd.DataFrame, fleet: Fleet, training: Training, at: pd.Timestamp
) -> dict[FitKey, str]:
    """For each product, entity and candidate of ``wanted`` what it is fitted from as of ``at``: rows, settings and releases of
    libraries, as hexadecimal digits.
    """
    sums = digest_sums(days_of(model_input, _ENTITY, "issued_at"), _ENTITY)
    of_products: dict[str, list[str]] = {}
    for product_id, entity_id in sums:
        of_products.setdefault(product_id, []).append(entity_id)
    of_fleets = {
        product_id: np.sum([sums[product_id, member] for member in members], dtype=np.uint64)
        for product_id, members in of_products.items()
    }
    judged = cache(lambda product_id, name: judged_settings(training.candidates[name], sorted(of_products[product_id]), fleet))
    none, installed = np.uint64(0), releases()
    found = {}
    for fit in wanted:
        product_id, entity_id, name = fit
        rows = sums.get((product_id, entity_id), none)
        if training.candidates[name].fleet_members is not None and product_id in of_products:
            number = number_of([sorted(of_products[product_id]), judged(product_id, name)])
            rows = np.uint64(mixed(rows, of_fleets[product_id], np.uint64(number))[()])
        found[fit] = settings_digest(fit, fleet, training, at, installed) + f"{int(rows):016x}"
    return found


def settings_digest(fit: FitKey, fleet: Fleet, training: Training, at: pd.Timestamp, installed: dict[str, str]) -> str:
    """What a model is fitted from beside rows: settings, levels and releases of libraries. `fits_made_from` begins so."""
    product_id, entity_id, name = fit
    config, product = training.candidates[name], fleet.product(product_id)
    settings = [settings_of(config.of_farms(fleet.farms_at(entity_id, at))), product.quantile_levels, training.seed, installed]
    if config.fleet_members is not None:
        settings += [training.fleet_rows, *training.recency, len(product.members) == 1]
    return f"{number_of(settings):016x}"


def releases() -> dict[str, str]:
    """The installed release of each library that fits models."""
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:  # an optional one
            continue
    return found
