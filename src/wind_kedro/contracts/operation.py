"""Operation: judgements of issued forecasts, incidents, notifications, the audit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
import pandera.pandas as pa
from pandera.typing import Series

from wind_kedro.contracts.base import Contract, Utc


class LiveJudgements(Contract, key=["product_id", "entity_id", "model"]):
    """One row per product, entity and model that issued: its loss, that of its backtest in such weather, and the verdict."""

    product_id: Series[str]
    entity_id: Series[str]
    model: Series[str]
    issues: Series[int] = pa.Field(ge=0, description="issues compared")
    intervals: Series[int] = pa.Field(ge=0)
    loss: Series[float] = pa.Field(
        ge=0,
        description="mean loss of the product's deciding score: of nRMSE the squared error, of money the cost of an interval",
    )
    backtest_loss: Series[float] = pa.Field(nullable=True, ge=0, description="of the whole backtest; null: not comparable")
    expected_loss: Series[float] = pa.Field(nullable=True, ge=0, description="of the backtest in the weather that was met")
    excess_share: Series[float] = pa.Field(nullable=True, description="of the expected loss; positive: worse")
    p_value: Series[float] = pa.Field(nullable=True, ge=0, le=1, description="one-sided, of the excess")
    verdict: Series[str] = pa.Field(isin=["as_promised", "behind", "weather", "unknown"])


class Outliers(Contract, key=["product_id", "entity_id", "valid_at"]):
    """One row per product, entity and interval forecast worse than the backtest nearly ever did: its weather, and the verdict."""

    product_id: Series[str]
    entity_id: Series[str]
    model: Series[str]
    model_version: Series[str]
    issued_at: Series[Utc]
    valid_at: Series[Utc]
    lead_minutes: Series[int] = pa.Field(ge=0)
    loss: Series[float] = pa.Field(ge=0, description="as in `LiveJudgements`")
    expected_loss: Series[float] = pa.Field(nullable=True, ge=0, description="null: weather the backtest never met")
    median_share: Series[float] = pa.Field(description="forecast")
    actual_share: Series[float]
    wind_speed_ms: Series[float] = pa.Field(nullable=True, description="at 100 m, as forecast at the issue")
    wind_rank: Series[float] = pa.Field(nullable=True, ge=0, le=1, description="share of the backtest's that were less")
    ramp_ms: Series[float] = pa.Field(nullable=True, ge=0, description="steepest change to a neighbouring interval")
    ramp_rank: Series[float] = pa.Field(nullable=True, ge=0, le=1)
    spread_ms: Series[float] = pa.Field(nullable=True, ge=0, description="of the weather models; null: there is one")
    spread_rank: Series[float] = pa.Field(nullable=True, ge=0, le=1)
    later_wind_speed_ms: Series[float] = pa.Field(nullable=True, description="of the newest run known by now")
    measured_wind_speed_ms: Series[float] = pa.Field(nullable=True)
    coverage_share: Series[float] = pa.Field(gt=0, le=1)
    stopped_share: Series[float] = pa.Field(ge=0, le=1)
    curtailed_share: Series[float] = pa.Field(ge=0, le=1)
    verdict: Series[str] = pa.Field(isin=["data", "availability", "storm", "weather", "model"])
    evidence: Series[str]


class Incidents(Contract):
    """One row per incident: kind, place, amount, evidence and action."""

    raised_at: Series[Utc] = pa.Field(description="as of which time")
    entity_id: Series[str]
    product_id: Series[str] = pa.Field(description="'' where no product is concerned")
    kind: Series[str] = pa.Field(description="a code: see docs/glossary.md")
    subject: Series[str] = pa.Field(description="of a kind what it concerns: a signal, candidate or channel; or ''")
    severity: Series[str] = pa.Field(isin=["info", "warning", "error"])
    amount: Series[float] = pa.Field(nullable=True, description="how much, a share; null: not a matter of more or less")
    message: Series[str]
    evidence: Series[str]
    action: Series[str]
    state: Series[str] = pa.Field(
        nullable=True, isin=["open", "resolved"], description="resolved: this run ended it; null: not recorded, open"
    )
    opened_at: Series[Utc] = pa.Field(
        nullable=True, description="the first of the unbroken series of runs that found it; null: not recorded"
    )


#: What can fail, by its code, and what it means. Monitoring opens incidents of these kinds.
FAILURE_CODES: Mapping[str, str] = {
    "source_unreadable": "a raw file could not be read",
    "rows_lost": "rows of a farm's raw data are in none of the tables",
    "quarantined": "all rows of a farm's raw data are in quarantine",
    "features_not_made": "an entity has no features",
    "backtest_failed": "a candidate could not be backtested",
    "scores_unknown": "the forecasts of an entity could not be scored",
    "challengers_not_judged": "the challengers of an entity could not be compared with its champion",
    "model_not_chosen": "no candidate could be chosen for an entity",
    "model_not_fitted": "a chosen candidate could not be fitted",
    "accuracy_unknown": "the accuracy of a chosen model could not be computed",
    "model_unusable": "a stored model could not be used",
    "fallback_used": "a fallback replaced the champion",
    "forecast_not_issued": "a forecast that was due was not issued",
    "deadline_fallback": "an issue was not made by its deadline: forecasts from what is stored were issued",
    "forecast_late": "an issue was made after gates of its intervals had closed: what was issued at its deadline holds for these",
    "revision_not_sent": "a revision changes too little to be sent",
    "calibration_failed": "a forecast was issued, or backtested, without calibration",
    "portfolio_not_issued": "the forecast of a portfolio was not issued",
    "attributions_not_made": "what moved a forecast could not be computed",
    "feed_failed": "a feed could not be fetched",
    "notification_failed": "a notification could not be delivered",
}


class Failures(Contract, key=["raised_at", "stage", "product_id", "entity_id", "issued_at", "code", "message"]):
    """One row per thing that did not come out as it should in a run: where, what, why, and what to do."""

    stage: Series[str] = pa.Field(description="of the node in which it happened")
    product_id: Series[str] = pa.Field(description="'': all products")
    entity_id: Series[str] = pa.Field(description="farm or group; '': none in particular")
    issued_at: Series[Utc] = pa.Field(nullable=True, description="the issue time concerned; null: none in particular")
    code: Series[str] = pa.Field(isin=list(FAILURE_CODES))
    severity: Series[str] = pa.Field(isin=["info", "warning", "error"])
    message: Series[str] = pa.Field(description="one line: what, where, why")
    action: Series[str] = pa.Field(description="what a person can do about it")
    raised_at: Series[Utc] = pa.Field(description="as_of of the run")


class Freshness(Contract, key=["checked_at", "source", "farm_id", "subject"]):
    """One row per weather source, turbine and feed that forecasts rely on: how old its newest data is, and may be."""

    checked_at: Series[Utc] = pa.Field(description="as of which time")
    source: Series[str] = pa.Field(isin=["weather", "signals", "feed"])
    farm_id: Series[str] = pa.Field(description="'': a feed")
    subject: Series[str] = pa.Field(description="weather: model/point; signals: the turbine; feed: its id")
    relied_on: Series[bool] = pa.Field(description="a product is made from it")
    newest_at: Series[Utc] = pa.Field(
        nullable=True, description="newest run, newest interval with a usable power, newest batch; null: nothing is known of it"
    )
    reach_at: Series[Utc] = pa.Field(nullable=True, description="the last valid time of any weather run; else null")
    age_minutes: Series[float] = pa.Field(nullable=True, description="checked_at - newest_at")
    allowed_minutes: Series[float] = pa.Field(gt=0, description="a greater age is late")
    state: Series[str] = pa.Field(isin=["fresh", "late", "missing", "constant", "not_yet"])
    detail: Series[str] = pa.Field(description="what shows the state, or ''")


class Outbox(Contract):
    """One row per message that is to be sent over a channel, written before it is sent. Append-only."""

    message_id: Series[str] = pa.Field(unique=True, description="names the message wherever it is sent")
    created_at: Series[Utc] = pa.Field(description="as of which time monitoring wrote it")
    channel: Series[str] = pa.Field(description="id of a notification channel")
    subject: Series[str]
    body: Series[str] = pa.Field(description="plain text")
    incidents: Series[str] = pa.Field(description="the incidents that it is about, rows of `Incidents`, JSON")


class Deliveries(Contract, key=["message_id", "recorded_at"]):
    """One row per message of the outbox and attempt to deliver it, written after it. Append-only."""

    message_id: Series[str]
    created_at: Series[Utc] = pa.Field(description="of the message")
    channel: Series[str]
    outcome: Series[str] = pa.Field(
        isin=["delivered", "failed", "expired"], description="failed: the next run tries again; expired: none does"
    )
    attempts: Series[int] = pa.Field(ge=0)
    fault: Series[str] = pa.Field(description="why it was not delivered; '': it was")
    recorded_at: Series[Utc] = pa.Field(description="wall clock")
    recorded_on: Series[str] = pa.Field(description="the day of that, UTC", str_matches=r"^\d{4}-\d{2}-\d{2}$")

    @pa.dataframe_check
    @classmethod
    def each_delivered_once(cls, table: pd.DataFrame) -> bool:
        """A message is delivered, or given up, once."""
        return not table.loc[table["outcome"] != "failed", "message_id"].duplicated().any()


class IssuesMade(Contract, key=["product_id", "issued_at"]):
    """One row per product and issue time that was made without a failure, and what it was made from."""

    product_id: Series[str]
    issued_at: Series[Utc]
    fingerprint: Series[str] = pa.Field(description="of features, promotions, cards and settings; with another it is made again")


class Cycles(Contract, key=["kind", "due_at", "attempt"]):
    """One row per cycle of the service that was due, and attempt to run it; written when it begins and when it ends."""

    kind: Series[str] = pa.Field(description="of cycle, a key of `operation.cycles`, or `deadline`")
    due_at: Series[Utc] = pa.Field(description="since when it is due: by its settings, or as new data was noticed")
    attempt: Series[int] = pa.Field(ge=1, description="number of the attempt")
    cause: Series[str] = pa.Field(isin=["issue", "schedule", "data", "deadline"], description="what made it due")
    as_of: Series[Utc] = pa.Field(nullable=True, description="of its runs; null: it was not run")
    started_at: Series[Utc] = pa.Field(nullable=True, description="wall clock; null: it was not run")
    ended_at: Series[Utc] = pa.Field(nullable=True, description="wall clock; null: it runs, or its process was killed")
    outcome: Series[str] = pa.Field(
        isin=["running", "succeeded", "with_failures", "failed", "interrupted", "stopped", "skipped"],
        description="with_failures: all results are written, and failures or incidents among them are of the severity "
        "`monitoring.exit_code_on`; stopped: for a deadline, and run again; skipped: it was missed and is not made up",
    )
    message: Series[str] = pa.Field(description="why it did not succeed; '': it did, or runs")
    inputs: Series[str] = pa.Field(description="digest of the files of the sources when it began; '': not known")


class Audit(Contract, key=["sequence"]):
    """One row per product, entity and issue that a run made, or was due to make: what it was made from, or why it was not made.

    A chain of hashes, append-only.
    """

    product_id: Series[str]
    entity_id: Series[str]
    issued_at: Series[Utc]
    model: Series[str]
    model_version: Series[str]
    revised_issue_at: Series[Utc] = pa.Field(
        nullable=True, description="the issue that it revises, as in `Forecasts`; null: a record of an earlier version"
    )
    revision: Series[float] = pa.Field(nullable=True, ge=0, description="its number; null likewise")
    rung: Series[str] = pa.Field(nullable=True, description="of its first interval; '': not issued; null likewise")
    run_id: Series[str] = pa.Field(description="MLflow run that fitted the model")
    fallback: Series[str]
    forecast_sha256: Series[str] = pa.Field(description="of the quantiles issued")
    features_sha256: Series[str] = pa.Field(description="of the features that the model saw")
    data_sha256: Series[str] = pa.Field(description="of the raw files of its farms")
    weather_runs: Series[str] = pa.Field(description="newest run that was there, by farm/model/point, JSON")
    weather_runs_missing: Series[str] = pa.Field(description="runs of the last day that were due and not there, JSON")
    failure_code: Series[str] = pa.Field(
        nullable=True, description="why it was not issued, a code of `Failures`; '': it was; null: a record of an earlier version"
    )
    failure_message: Series[str] = pa.Field(nullable=True, description="likewise, in words")
    failure_action: Series[str] = pa.Field(nullable=True, description="likewise, what a person can do about it")
    as_of: Series[Utc] = pa.Field(description="of the run that issued it")
    recorded_at: Series[Utc] = pa.Field(description="wall clock")
    git_commit: Series[str]
    configuration_sha256: Series[str]
    lock_sha256: Series[str]
    python: Series[str]
    platform: Series[str]
    libraries: Series[str] = pa.Field(description="versions, JSON")
    sequence: Series[int] = pa.Field(gt=0, description="number of the record")
    supersedes: Series[int] = pa.Field(ge=0, description="number of the record about the same issue before; 0: none")
    previous_sha256: Series[str] = pa.Field(str_length=64)
    sha256: Series[str] = pa.Field(str_length=64, description="of the record with its number and previous_sha256")


class AuditRecords:
    """Records on their way into the chain, which have no links yet, or out of it, with them."""

    def validate(self, data: Any) -> Any:
        """Return ``data`` in the types of `Audit`; raise where it breaks the contract."""
        if "sequence" in data:
            return Audit.validate(data)
        links = {"sequence": range(1, len(data) + 1), "supersedes": 0, "previous_sha256": "0" * 64, "sha256": "0" * 64}
        return Audit.validate(data.assign(**links)).drop(columns=list(links))
