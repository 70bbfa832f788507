"""What stands in for a champion: the version's own fallbacks, and a climatology that needs no stored model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wind_kedro.cards import Product
from wind_kedro.cards.columns import OBSERVED_CLIMATOLOGY
from wind_kedro.datasets.derived import Derived
from wind_kedro.datasets.models import NoModelError, RegisteredModels
from wind_kedro.evaluation.scores import latest_versions
from wind_kedro.failures import Failure, Severity, reason
from wind_kedro.models.climatology import Climatology
from wind_kedro.models.ensembles.fleet_model import Member
from wind_kedro.pipelines.forecasting.together import Together

#: Rows with their quantiles as shares of capacity, by the model that gave them; '' is the champion.
Forecast = dict[str, tuple[pd.DataFrame, NDArray[np.float64]]]


def unusable(product_id: str, entity_id: str, version: str | None, model: str, role: str, error: Exception) -> Failure:
    """A model that could not be used where it was needed; ``role``: champion, fallback or shadow."""
    stage, severity = ("shadows", "warning") if role == "shadow" else ("forecasting", "error")
    message = f"{product_id}/{entity_id}: {role} '{model}'{f' of version {version}' if version else ''}: {reason(error)}"
    action = "restore the model from a backup, put an earlier version into force (kedro wind rollback), or run training"
    return Failure(stage, "model_unusable", message, action, cast("Severity", severity), product_id, entity_id)


def champion_of(
    versions: RegisteredModels,
    promotions: pd.DataFrame,
    product: Product,
    entity_id: str,
    version: str | None,
    failures: list[Failure],
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
        failures.append(unusable(product.id, entity_id, version, model, "champion", error))
        return None
    return found


def predict_with_fallbacks(
    member: Member | None,
    fallbacks: Mapping[str, Member],
    due: pd.DataFrame,
    observations: Derived | pd.DataFrame,
    product: Product,
    entity_id: str,
    version: str | None,
    failures: list[Failure],
    together: Together,
) -> Forecast:
    """Rows that are due with their quantiles as shares, by the model that gave them: ``''`` the champion, else a fallback.

    Older weather runs stand in for newer ones in the features already. Where none reaches an interval, or the champion fails, the
    version's fallbacks are used in their order; the first that gives a number for every level has the interval. Where a stored
    model failed and none of them has, the climatology of the observations does. Without fallbacks the champion forecasts wherever
    some weather reaches the issue.

    ``due`` are features of one product and entity, a row an interval; ``version`` is the version's number, for messages.
    ``failures`` takes each stored model that failed, and each issue that a fallback has intervals of; ``together`` has the
    predictions of models that several entities have, and the limit of time.
    """
    windy = due["wind_speed_100m_ms"].notna()
    if not fallbacks:
        windy = windy.groupby(due["issued_at"]).transform("any")
    forecast: Forecast = {}
    left = due
    failed = member is None
    if member is not None and windy.any():
        try:
            reached = due if windy.all() else due[windy]
            shares = together.shares(member, reached, product.quantile_levels)
            unknown = _take(forecast, "", reached, shares)
            left = unknown if windy.all() else due[~windy | due.index.isin(unknown.index)]
            if len(unknown):
                raise ValueError(f"gives no number for {len(unknown)} intervals")
        except Exception as error:  # a damaged file, or whatever a model does: the other entities are issued all the same
            failed = True
            failures.append(unusable(product.id, entity_id, version, member.model, "champion", error))
    why = "the champion could not be used" if failed else "no weather run reaches some intervals"
    for name, fallback in fallbacks.items():
        if left.empty or not fallback.has_levels(product.quantile_levels):
            continue
        try:
            left = _take(forecast, name, left, together.shares(fallback, left, product.quantile_levels))
        except Exception as error:
            failed = True
            failures.append(unusable(product.id, entity_id, version, name, "fallback", error))
    if failed and not left.empty:
        left = _take(forecast, OBSERVED_CLIMATOLOGY, left, observed_climatology(left, observations, product, entity_id))
    action = "see the failures of its model and the incidents of its weather"
    for name, (rows, _) in forecast.items():
        message = f"{product.id}/{entity_id}: '{name}' is used instead of the champion: {why}"
        for issued_at in rows["issued_at"].unique() if name else ():
            about = (product.id, entity_id, issued_at)
            failures.append(Failure("forecasting", "fallback_used", message, action, "warning", *about))
    return forecast


def _take(forecast: Forecast, name: str, left: pd.DataFrame, shares: NDArray[np.float64]) -> pd.DataFrame:
    """Give a model the intervals of which it knows every level; those that are left are returned."""
    known = np.asarray(np.isfinite(shares).all(axis=1), dtype=np.bool_)
    if known.all():
        forecast[name] = (left, shares)
        return left.iloc[:0]
    if known.any():
        forecast[name] = (left.iloc[np.flatnonzero(known)], shares[known])
    return left.iloc[np.flatnonzero(~known)]


def observed_climatology(
    due: pd.DataFrame, observations: Derived | pd.DataFrame, product: Product, entity_id: str
) -> NDArray[np.float64]:
    """Quantiles of the power observed at each hour of the day, as shares of capacity: (rows, levels).

    Made from the observations known at each issue, and from no stored model. Missing where nothing was observed yet.
    """
    if isinstance(observations, pd.DataFrame):
        same = observations["granularity_minutes"] == product.granularity_minutes
        own = observations[same & (observations["entity_id"] == entity_id)]
    else:
        rows = observations.table()
        same = rows["granularity_minutes"] == product.granularity_minutes
        own = rows.filter(same, rows["entity_id"] == entity_id).to_pandas()
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
