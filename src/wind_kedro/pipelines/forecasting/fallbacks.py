"""What stands in for a champion: the version's own fallbacks, and a climatology that needs no stored model."""

from __future__ import annotations

import datetime as dt
import logging
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wind_kedro.cards import Product
from wind_kedro.cards.columns import quantile_columns
from wind_kedro.clock import Clock
from wind_kedro.datasets.models import NoModelError, RegisteredModels
from wind_kedro.errors import WindKedroError
from wind_kedro.evaluation.scores import latest_versions
from wind_kedro.models.climatology import Climatology
from wind_kedro.models.ensembles.fleet_model import FleetModel, Member
from wind_kedro.models.tables import model_table

logger = logging.getLogger(__name__)

#: Names the fallback that is made from observations when it is needed.
OBSERVED_CLIMATOLOGY = "observed_climatology"
#: Rows with their quantiles as shares of capacity, by the model that gave them; '' is the champion.
Forecast = dict[str, tuple[pd.DataFrame, NDArray[np.float64]]]


class Failures:
    """Stored models that could not be used where they were needed, a row each."""

    def __init__(self, clock: Clock) -> None:
        self._as_of = pd.Timestamp(clock.as_of)
        self._rows: list[dict[str, Any]] = []

    def add(
        self, product_id: str, entity_id: str, version: str | None, model: str, role: str, error: Exception
    ) -> None:
        """Note and log one; ``role``: champion or fallback."""
        kind = "" if isinstance(error, WindKedroError) else f"{type(error).__name__}: "
        of_version = f" of version {version}" if version else ""
        self._note(
            f"{product_id}/{entity_id}: {role} '{model}'{of_version}: {kind}{error}",
            product_id=product_id,
            entity_id=entity_id,
            model_version=version or "",
            model=model,
            role=role,
        )

    def add_promotions(self, fault: str) -> None:
        """Note that an entry of the log of promotions is passed over; the entries before it hold."""
        self._note(fault, product_id="", entity_id="", model_version="", model="", role="promotions")

    def _note(self, message: str, **row: str) -> None:
        noted = row | {"message": " ".join(message.split()), "raised_at": self._as_of}
        if noted not in self._rows:
            self._rows.append(noted)
            logger.error("%s", noted["message"])

    def member(
        self,
        versions: RegisteredModels,
        promotions: pd.DataFrame,
        product: Product,
        entity_id: str,
        version: str | None,
    ) -> Member | None:
        """The champion of an entity; none, and noted: its version cannot be used. No file of the model itself is read yet."""
        model = model_of(promotions, product, entity_id, version)
        try:
            if version is None:
                raise NoModelError(versions.refusal)
            found = versions.version(version).members.get((product.id, entity_id))
            if found is None:
                raise NoModelError(f"version {version} has no model of it")
        except NoModelError as error:
            self.add(product.id, entity_id, version, model, "champion", error)
            return None
        return found

    def messages(self) -> list[str]:
        """One line each."""
        return [str(row["message"]) for row in self._rows]

    def table(self) -> pd.DataFrame:
        """Rows of `contracts.ModelFailures`."""
        columns = ["product_id", "entity_id", "model_version", "model", "role", "message", "raised_at"]
        return pd.DataFrame(self._rows, columns=columns).astype({"raised_at": "datetime64[us, UTC]"})


def predict_with_fallbacks(
    fleet_model: FleetModel | None,
    due: pd.DataFrame,
    observations: pd.DataFrame,
    product: Product,
    entity_id: str,
    version: str | None,
    failures: Failures,
) -> Forecast:
    """Rows that are due with their quantiles as shares, by the model that gave them: ``''`` the champion, else a fallback.

    Older weather runs stand in for newer ones in the features already. Where none reaches an interval, or the champion fails, the
    version's fallbacks are used in their order; the first that gives a number for every level has the interval. Where a stored
    model failed and none of them has, the climatology of the observations does. Without fallbacks the champion forecasts wherever
    some weather reaches the issue.

    Args:
        fleet_model: the version in force; none: it cannot be used.
        due: features of one product and entity, a row an interval.
        observations: of all entities.
        product: which.
        entity_id: whose.
        version: the version's number, for messages.
        failures: notes each stored model that failed.
    """
    columns = quantile_columns(product.quantile_levels, "share")
    fallbacks = {} if fleet_model is None else fleet_model.fallbacks_of(product.id, entity_id)
    windy = due["wind_speed_100m_ms"].notna()
    if not fallbacks:
        windy = windy.groupby(due["issued_at"]).transform("any")
    forecast: Forecast = {}
    left = due
    failed = fleet_model is None
    if fleet_model is not None and windy.any():
        try:
            forecast[""] = (due[windy], fleet_model.predict(model_table(due[windy]))[columns].to_numpy())
            left = due.loc[~windy]
        except (
            Exception
        ) as error:  # a damaged file, or whatever a model does: the other entities are issued all the same
            failed = True
            model = fleet_model.members[product.id, entity_id].model
            failures.add(product.id, entity_id, version, model, "champion", error)
    for name, member in fallbacks.items():
        if left.empty or not member.has_levels(product.quantile_levels):
            continue
        try:
            shares = member.shares(left, product.quantile_levels)
        except Exception as error:
            failed = True
            failures.add(product.id, entity_id, version, name, "fallback", error)
            continue
        left = _take(forecast, name, left, shares)
    if failed and not left.empty:
        left = _take(forecast, OBSERVED_CLIMATOLOGY, left, observed_climatology(left, observations, product, entity_id))
    for name, (rows, _) in forecast.items():
        if name:
            at_issues = span(pd.DatetimeIndex(rows["issued_at"].unique()))
            logger.warning(
                "%s/%s: '%s' stands in at %s, %d intervals", product.id, entity_id, name, at_issues, len(rows)
            )
    return forecast


def _take(forecast: Forecast, name: str, left: pd.DataFrame, shares: NDArray[np.float64]) -> pd.DataFrame:
    """Give a model the intervals of which it knows every level; those that are left are returned."""
    known = np.asarray(np.isfinite(shares).all(axis=1), dtype=np.bool_)
    if known.any():
        forecast[name] = (left.iloc[np.flatnonzero(known)], shares[known])
    return left.iloc[np.flatnonzero(~known)]


def observed_climatology(
    due: pd.DataFrame, observations: pd.DataFrame, product: Product, entity_id: str
) -> NDArray[np.float64]:
    """Quantiles of the power observed at each hour of the day, as shares of capacity: (rows, levels).

    Made from the observations known at each issue, and from no stored model. Missing where nothing was observed yet.
    """
    own = observations[
        (observations["entity_id"] == entity_id) & (observations["granularity_minutes"] == product.granularity_minutes)
    ]
    shares = np.full((len(due), len(product.quantile_levels)), np.nan)
    for issued_at, positions in due.reset_index(drop=True).groupby("issued_at").indices.items():
        known = latest_versions(own, pd.Timestamp(str(issued_at)))
        share = (known["power_kw"] / known["available_capacity_kw"]).to_numpy(np.float64, na_value=np.nan)
        usable = np.isfinite(share)
        if usable.any():
            hours = pd.DataFrame({"hour_of_day": known["valid_at"].dt.hour.to_numpy(np.float64)[usable]})
            model = Climatology(product.quantile_levels).fit(hours, pd.Series(share[usable]))
            at = pd.DataFrame({"hour_of_day": due["valid_at"].iloc[positions].dt.hour.to_numpy(np.float64)})
            shares[positions] = model.predict(at)
    return shares


def model_of(promotions: pd.DataFrame, product: Product, entity_id: str, version: str | None) -> str:
    """The candidate that a version was promoted with for an entity; the climatology that stands in, where that is not known."""
    own = promotions[
        (promotions["product_id"] == product.id)
        & (promotions["entity_id"] == entity_id)
        & (promotions["model_version"] == version)
    ]
    return OBSERVED_CLIMATOLOGY if own.empty else str(own["model"].iloc[-1])


def span(issues: pd.DatetimeIndex) -> str:
    """Issue times as text: one, or how many from when to when."""

    def text(time: dt.datetime) -> str:
        return f"{time:%Y-%m-%dT%H:%M}"

    return text(issues[0]) if len(issues) == 1 else f"{len(issues)} issues from {text(issues[0])} to {text(issues[-1])}"
