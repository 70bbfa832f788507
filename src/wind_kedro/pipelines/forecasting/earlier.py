"""Forecasts of earlier issues, by whose errors those of a run are corrected, and their sums over the farms of each group.

Of a thousand farms and sixty days they are eleven million rows. So they are read only for what is corrected; and the sums, by
which portfolios always are, are kept in `portfolio_sums` for as long as what they were made from is the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from wind_kedro.cards import Fleet, Product
from wind_kedro.clock import Clock
from wind_kedro.datasets.derived import Derived, Sliced, frame_of
from wind_kedro.datasets.parts import empty_table
from wind_kedro.failures import OnFailure
from wind_kedro.models.tables import KEYS
from wind_kedro.postprocessing.portfolios import add_portfolios
from wind_kedro.postprocessing.settings import Calibration
from wind_kedro.storage.fingerprints import mixed, number_of

#: Increase it if sums of the same forecasts change.
_VERSION = 1
Models = Mapping[str, str]


@dataclass(frozen=True)
class Earlier:
    """Forecasts of earlier issues, as the models gave them.

    Attributes:
        model_forecasts: contract `Forecasts`, of the champions of each issue.
        backtested: contract `BacktestForecasts`: what stands in where another model was the champion.
        sums: contract `PortfolioSums`, as the run finds it.
        fleet: the cards.
        clock: names the issues of the run, whose stored sums are of forecasts that it has replaced.
        calibration: the rules.
        added: sums that were computed by this run, for the table.
    """

    model_forecasts: Sliced | pd.DataFrame
    backtested: Derived | pd.DataFrame
    sums: Sliced | pd.DataFrame
    fleet: Fleet
    clock: Clock
    calibration: Calibration
    added: list[pd.DataFrame] = field(default_factory=list)

    def known(
        self, product: Product, models: Models, first: pd.Timestamp, last: pd.Timestamp, on_failure: OnFailure
    ) -> pd.DataFrame:
        """Rows of the issues in [first, last] that farms and groups of a product can be corrected by.

        Args:
            product: the product.
            models: which model forecasts each farm now. A group looks back on these models, where it can.
            first: earliest issue.
            last: latest issue.
            on_failure: takes what raises for a group, of which there are no rows then.
        """
        parts = []
        if any(self.calibration.correction_of(product, *pair, self.fleet) != "none" for pair in models.items()):
            parts.append(self._of_models(product, models, first, last))
        if self.fleet.portfolios_of(product):
            parts += self._of_groups(product, models, first, last, on_failure)
        return pd.concat(parts, ignore_index=True) if parts else empty_table("wind_kedro.contracts.forecasts.Forecasts")

    def table(self) -> pd.DataFrame:
        """What is new of `portfolio_sums`; of an issue that was summed more than once, the last."""
        if not self.added:
            return empty_table("wind_kedro.contracts.forecasts.PortfolioSums")
        rows = pd.concat(self.added, ignore_index=True)
        newest = rows.groupby(["product_id", "issued_at"])["made_from"].transform("last")
        return rows[rows["made_from"] == newest].drop_duplicates(KEYS, keep="last", ignore_index=True)

    def _of_models(self, product: Product, models: Models, first: pd.Timestamp, last: pd.Timestamp) -> pd.DataFrame:
        """Forecasts of farms, of each interval those of the present model first."""
        days = (time.tz_localize(None) for time in (first, last))
        rows = pd.concat([frame_of(self.model_forecasts, first=first, last=last), folds_between(self.backtested, *days)])
        rows = rows[(rows["product_id"] == product.id) & rows["issued_at"].between(first, last)]
        rows = rows.drop_duplicates([*KEYS, "model"])
        rows = rows.assign(present=rows["model"] == rows["entity_id"].map(dict(models)))
        return rows.sort_values("present", ascending=False, kind="stable").drop(columns="present")

    def _of_groups(
        self, product: Product, models: Models, first: pd.Timestamp, last: pd.Timestamp, on_failure: OnFailure
    ) -> list[pd.DataFrame]:
        calendar, made_from = self.fleet.calendar(product.id), self._made_from(product, models)
        stored = frame_of(self.sums, first=first, last=last)
        stored = stored[
            (stored["product_id"] == product.id)
            & (stored["made_from"] == made_from)
            & stored["issued_at"].between(first, last)
            & ~stored["issued_at"].isin(self.clock.issues(calendar))
        ]
        issues = calendar.issues_between((first - pd.Timedelta(microseconds=1)).to_pydatetime(), last.to_pydatetime())
        found = []
        for since, until in _stretches([pd.Timestamp(issue) for issue in issues], set(stored["issued_at"])):
            rows = self._of_models(product, models, since, until).drop_duplicates(KEYS)
            sums = add_portfolios(rows, self.fleet, self.calibration.portfolios, on_failure=on_failure)
            sums = sums[~sums["entity_id"].isin(rows["entity_id"].unique())]
            found.append(sums.assign(made_from=made_from))
        self.added.extend(part for part in found if len(part))
        return [stored, *found]

    def _made_from(self, product: Product, models: Models) -> str:
        """What sums are made from besides the forecasts of their issue, which change only when the issue is made again."""
        groups = {
            group.id: {
                farm_id: [capacity.since.tolist(), capacity.values.tolist()]
                for farm_id, capacity in self.fleet.capacities(group.id).items()
            }
            for group in self.fleet.portfolios_of(product)
        }
        cards = number_of([_VERSION, dict(models), groups, product.quantile_levels, self.calibration.portfolios])
        folds = 0
        if isinstance(self.backtested, Derived):
            days = self.backtested.days
            of_product = days.loc[days["product_id"] == product.id]
            folds = int(mixed(of_product["digest"], of_product["day"]).sum(dtype=np.uint64))
        return f"{int(mixed(np.uint64(cards), np.uint64(folds))[()]):016x}"


def folds_between(backtested: Derived | pd.DataFrame, first: pd.Timestamp, last: pd.Timestamp) -> pd.DataFrame:
    """Backtest forecasts of the folds that reach into [first, last], UTC without zone; a table in memory as it is."""
    if isinstance(backtested, Derived) and first <= last:
        # Folds follow each other: of those that begin before, only the newest reaches so far.
        begun = backtested.days.loc[backtested.days["day"] <= first, "day"]
        first = first if begun.empty else begun.max()
    return frame_of(backtested, first=first, last=last).drop(columns="fold_begin", errors="ignore")


def _stretches(issues: list[pd.Timestamp], there: set[pd.Timestamp]) -> Iterator[tuple[pd.Timestamp, pd.Timestamp]]:
    """Of rising times, the first and the last of each stretch of those that are not there."""
    missing = pd.Series([issue not in there for issue in issues], index=pd.DatetimeIndex(issues), dtype=bool)
    for _, stretch in missing[missing].groupby((~missing).cumsum()[missing]):
        yield stretch.index[0], stretch.index[-1]
