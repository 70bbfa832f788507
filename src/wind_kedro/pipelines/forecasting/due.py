"""Which issues of a run are made: those that were not made yet, or of which something has changed since."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pandas as pd

from wind_kedro.cards import Calendar, Fleet, Product
from wind_kedro.clock import Clock
from wind_kedro.contracts.operation import IssuesMade
from wind_kedro.datasets.derived import Derived, Sliced, days_of, frame_of
from wind_kedro.governance.champions import in_order
from wind_kedro.pipelines.forecasting.settings import FeatureGroups, Forecasting
from wind_kedro.postprocessing.settings import Calibration
from wind_kedro.storage.fingerprints import Numbers, mixed, number_of

#: Increase it if forecasts from the same features and models change.
VERSION = 1

_DEFAULTS = Forecasting()
_ISSUE = ["product_id", "issued_at"]
_MADE = [*_ISSUE, "fingerprint"]
#: Of a product, what no forecast depends on.
_NOT_READ = {"name", "goal", "deciding_score", "promotion_margin_share"}


class DueClock(Clock):
    """A clock whose issues to forecast are given, by product."""

    due: dict[str, list[dt.datetime]]

    def issues(self, calendar: Calendar) -> list[dt.datetime]:
        """The issues of the product that are due; there may be none."""
        return self.due[calendar.product.id]


def find_due_issues(
    features: Derived | pd.DataFrame,
    promotions: pd.DataFrame,
    forecasts_before: Sliced | pd.DataFrame,
    due_issues_before: Sliced | pd.DataFrame,
    issues_made_before: Sliced | pd.DataFrame,
    fleet: Fleet,
    clock: Clock,
    calibration: Calibration,
    attributions: FeatureGroups,
    forecasting: Forecasting = _DEFAULTS,
) -> tuple[pd.DataFrame, Clock]:
    """The issues of this run that are made, one row per product and issue time; and a clock that has only these.

    An issue that was made and is stored is left as it is while the features of its day, the promotions by its time, the
    cards and the settings are the same. Observations that arrive later change no issue.

    With ``forecasting.products`` only issues of these are. At a deadline (``forecasting.at_deadline``) the clock has the newest
    issue of each of its products that is not stored and has an open gate, and the table no row: none is made as it should be.
    """
    first, last = clock.issue_span(fleet)
    stored = frame_of(forecasts_before, _ISSUE, first=first, last=last)[_ISSUE].drop_duplicates()
    if forecasting.at_deadline:
        return IssuesMade.table([]), _at_deadline(stored, fleet, clock, forecasting)
    # Of an issue that a run began to make again and did not complete, what is stored is not known.
    begun, made = (frame_of(table, _MADE, first=first, last=last)[_MADE] for table in (due_issues_before, issues_made_before))
    made = made.merge(begun, on=_MADE).merge(stored, on=_ISSUE)
    days = days_of(features, ["product_id", "entity_id"], "issued_at")
    found = []
    for product in fleet.products:
        issues = pd.DatetimeIndex(clock.issues(fleet.calendar(product.id))).as_unit("us")
        own = promotions[promotions["product_id"] == product.id]
        numbers = mixed(
            _features_of(days[days["product_id"] == product.id], issues),
            _promoted(own, issues),
            np.uint64(number_of([_cards(product, fleet), calibration, attributions, VERSION])),
        )
        fingerprint = [f"{number:016x}" for number in numbers.tolist()]
        found.append(pd.DataFrame({"product_id": product.id, "issued_at": issues, "fingerprint": fingerprint}))
    wanted = IssuesMade.table(pd.concat(found, ignore_index=True))
    known = wanted.merge(made, on=list(wanted), how="left", indicator="found")["found"] == "both"
    asked = wanted["product_id"].isin(forecasting.products or [product.id for product in fleet.products])
    due = wanted[(asked & ~known.to_numpy()).to_numpy()].reset_index(drop=True)
    by_product = {product.id: due.loc[due["product_id"] == product.id, "issued_at"] for product in fleet.products}
    times = {product_id: [time.to_pydatetime() for time in issues] for product_id, issues in by_product.items()}
    return due, DueClock(**clock.model_dump(), due=times)


def _at_deadline(stored: pd.DataFrame, fleet: Fleet, clock: Clock, forecasting: Forecasting) -> DueClock:
    made_at = forecasting.made_at or clock.as_of
    there = set(zip(stored["product_id"], stored["issued_at"], strict=True))
    due: dict[str, list[dt.datetime]] = {}
    for product in fleet.products:
        calendar = fleet.calendar(product.id)
        issue = clock.newest_issue(calendar)
        is_due = product.id in forecasting.at_deadline and (product.id, issue) not in there
        is_due = is_due and max(calendar.gates_of(issue)) > made_at
        due[product.id] = [issue] if is_due else []
    return DueClock(**clock.model_dump(), due=due)


def note_issues_made(due_issues: Sliced | pd.DataFrame, fleet: Fleet, clock: Clock, *failures: pd.DataFrame) -> pd.DataFrame:
    """One row per product and issue that was made without a failure: the others are made again in the next run.

    It follows all other nodes, so that what it notes is stored.

    Args:
        due_issues: see `find_due_issues`; may hold those of other runs.
        fleet: the cards.
        clock: of the run, with the issues that were due.
        failures: of the nodes that made them; one without an issue time concerns all issues of its product, one without a product
            all issues.
    """
    first, last = clock.issue_span(fleet)
    begun = frame_of(due_issues, first=first, last=last)
    of_run = {(product.id, issue) for product in fleet.products for issue in clock.issues(fleet.calendar(product.id))}
    asked = [key in of_run for key in zip(begun["product_id"], begun["issued_at"], strict=True)]
    begun = begun[np.array(asked, dtype=bool)]
    failed = pd.concat(failures, ignore_index=True)
    whole = set(failed.loc[failed["issued_at"].isna(), "product_id"])
    if "" in whole:
        return begun.iloc[:0]
    known = begun.merge(failed[_ISSUE].dropna().drop_duplicates(), on=_ISSUE, how="left", indicator="found")["found"]
    return begun[(known == "left_only").to_numpy() & ~begun["product_id"].isin(whole)].reset_index(drop=True)


def _features_of(days: pd.DataFrame, issues: pd.DatetimeIndex) -> Numbers:
    """A number of the features of all entities on the day of each issue."""
    each, place = np.unique(days["day"].to_numpy("datetime64[us]"), return_inverse=True)
    entities = {name: number_of(name) for name in days["entity_id"].unique()}
    named = np.array([entities[name] for name in days["entity_id"]], dtype=np.uint64)
    sums = np.zeros(len(each) + 1, dtype=np.uint64)
    np.add.at(sums, place, mixed(days["digest"].to_numpy(np.uint64), named))
    wanted = issues.tz_localize(None).floor("D").to_numpy("datetime64[us]")
    found = np.searchsorted(each, wanted)
    there = np.isin(wanted, each)
    result: Numbers = sums[np.where(there, found, len(each))]
    return result


def _promoted(promotions: pd.DataFrame, issues: pd.DatetimeIndex) -> Numbers:
    """A number of the promotions that can be used at each issue."""
    ordered = in_order(promotions)
    names = ordered[["promotion", "entity_id", "model", "model_version"]].astype("str").to_dict("records")
    numbers = np.array([0, *(number_of(name) for name in names)], dtype=np.uint64)
    place = np.searchsorted(ordered["since"].to_numpy("datetime64[us]"), issues.to_numpy("datetime64[us]"), side="right")
    result: Numbers = np.cumsum(numbers, dtype=np.uint64)[place]
    return result


def _cards(product: Product, fleet: Fleet) -> object:
    """What forecasts depend on of cards."""
    capacities = {
        entity_id: [(step.since.astype("str").tolist(), step.values.tolist()) for step in fleet.capacities(entity_id).values()]
        for entity_id in product.members
    }
    analyses = [farm.id for farm in fleet.farms if farm.perfect_weather]
    return [product.model_dump(exclude=_NOT_READ), capacities, fleet.groups, analyses]
