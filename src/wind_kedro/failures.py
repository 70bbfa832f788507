"""Failures as rows: whatever did not come out as it should, noted by the node in which it happened.

Each node in which something can fail returns a table of contract `Failures` as its second output, one dataset a node
(``<stage>_failures``). Monitoring collects them into the history `failures` and opens incidents from it.
"""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from wind_kedro.errors import WindKedroError

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

Severity = Literal["info", "warning", "error"]
#: Takes product, entity and exception of what failed for one entity while the others go on.
OnFailure = Callable[[str, str, Exception], None]

#: The stages whose failures monitoring collects, in the order of the data; the table of each is ``<stage>_failures``.
STAGES = (
    "ingestion", "parsing", "features", "backtest", "backtest_calibration", "backtest_scoring", "gate", "choice", "fit",
    "accuracy", "forecasting", "calibration", "deadline", "shadows", "attributions", "live_scoring",
)  # fmt: skip
#: Codes of an issue that was not made, or is not a record of its own.
NOT_ISSUED = ("forecast_not_issued", "portfolio_not_issued", "revision_not_sent")


class Failure(NamedTuple):
    """One row of `contracts.operation.Failures`, without the time of the run.

    Attributes:
        stage: the node's stage, such as ``features`` or ``forecasting``.
        code: what failed, one of `contracts.operation.FAILURE_CODES`; also the kind of the incident.
        message: one line: what, where, why.
        action: what a person can do about it.
        severity: ``error`` where something is not issued, trained or read; ``warning`` where a fallback replaced it; ``info``
            where nothing failed: the audit has the reason, and there is no incident of it.
        product_id: of one product; empty: of all.
        entity_id: of one farm or group; empty: of none in particular.
        issued_at: the issue time that it concerns; none: no issue in particular.
    """

    stage: str
    code: str
    message: str
    action: str
    severity: Severity = "error"
    product_id: str = ""
    entity_id: str = ""
    issued_at: dt.datetime | pd.Timestamp | None = None


def noting(failures: list[Failure], stage: str, code: str, what: str, action: str, severity: Severity = "warning") -> OnFailure:
    """What notes an exception of one product and entity as a failure: ``product/entity: what: why``."""

    def note(product_id: str, entity_id: str, error: Exception) -> None:
        message = f"{product_id}/{entity_id or 'all'}: {what}: {reason(error)}"
        failures.append(Failure(stage, code, message, action, severity, product_id, entity_id))

    return note


@contextmanager
def isolated(on_failure: OnFailure | None, product_id: str, entity_id: str) -> Iterator[None]:
    """Hands an exception of the block to ``on_failure``, so that the next entity goes on; none: it is raised."""
    try:
        yield
    except Exception as error:
        if on_failure is None:
            raise
        on_failure(product_id, entity_id, error)


def by_entity_where_it_raises(
    function: Callable[[pd.DataFrame], pd.DataFrame], table: pd.DataFrame, product_id: str, on_failure: OnFailure | None
) -> list[pd.DataFrame]:
    """What a function makes of the rows of one product; where it raises, of those of each entity alone.

    Args:
        function: of rows with ``entity_id``, that treats each entity for itself.
        table: the rows.
        product_id: whose.
        on_failure: takes what raises for one entity, which then has no part; none: it is raised.
    """
    try:
        return [function(table)]
    except Exception:
        if on_failure is None:
            raise
    parts = []
    for entity_id, rows in table.groupby("entity_id"):
        with isolated(on_failure, product_id, str(entity_id)):
            parts.append(function(rows))
    return parts


def failures_table(failures: Iterable[Failure], as_of: dt.datetime) -> pd.DataFrame:
    """Rows of contract `Failures`, each once, in a stable order; they are logged too, one line for all issues of one failure.

    Args:
        failures: of one node.
        as_of: of the run.
    """
    import pandas as pd

    rows = sorted(
        {failure._replace(message=" ".join(failure.message.split())) for failure in failures},
        key=lambda failure: (failure.product_id, failure.entity_id, str(failure.issued_at), failure.code, failure.message),
    )
    table = pd.DataFrame(rows, columns=Failure._fields).astype({name: "str" for name in Failure._fields if name != "issued_at"})
    table = table.assign(
        issued_at=pd.to_datetime(table["issued_at"], utc=True).astype("datetime64[us, UTC]"),
        raised_at=pd.Series(pd.Timestamp(as_of), index=table.index, dtype="datetime64[us, UTC]"),
    )
    for row in over_issues(table):
        logger.log(_LOGGED_AS[row["severity"]], "%s: %s", row["code"], row["text"])
    return table


_LOGGED_AS = {"info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def over_issues(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The failures of a table, one entry for all issue times of the same failure.

    Args:
        table: contract `Failures`.

    Returns:
        The columns without ``issued_at`` and ``raised_at``, and ``issues`` (the issue times, rising; empty: none in particular),
        ``raised_at`` (the newest), and ``text``: the message with the issue times.
    """
    import pandas as pd

    same = [name for name in Failure._fields if name != "issued_at"]
    found = []
    for key, rows in table.groupby(same, sort=False):
        row = {str(name): str(value) for name, value in zip(same, key, strict=True)}
        issues = pd.DatetimeIndex(rows["issued_at"].dropna().sort_values())
        text = f"{row['message']} ({span(issues)})" if len(issues) else row["message"]
        found.append({**row, "issues": issues, "raised_at": rows["raised_at"].max(), "text": text})
    return found


def span(issues: pd.DatetimeIndex) -> str:
    """Issue times as text: one, or how many from when to when."""
    first, last = (f"{time:%Y-%m-%dT%H:%M}" for time in (issues[0], issues[-1]))
    return f"issue of {first}" if len(issues) == 1 else f"{len(issues)} issues from {first} to {last}"


def first_of(texts: Iterable[str], named: int) -> str:
    """The first texts, and how many more there are."""
    every = list(texts)
    more = f"; and {len(every) - named} more" if len(every) > named else ""
    return "; ".join(every[:named]) + more


def reason(error: Exception) -> str:
    """Why something failed, in one line: the type of the exception only where the message is not written for people."""
    kind = "" if isinstance(error, WindKedroError) else f"{type(error).__name__}: "
    return " ".join(f"{kind}{error}".split())
