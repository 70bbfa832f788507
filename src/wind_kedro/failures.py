"""Failures as rows: whatever did not come out as it should, noted by the node in which it happened.

Each node in which something can fail returns a table of contract `Failures` as its second output, one dataset a node
(``<stage>_failures``). Monitoring collects them into the history `failures` and opens incidents from it.
"""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

Severity = Literal["warning", "error"]


class Failure(NamedTuple):
    """One row of `contracts.operation.Failures`, without the time of the run.

    Attributes:
        stage: the node's stage, such as ``features`` or ``forecasting``.
        code: what failed, one of `contracts.operation.FAILURE_CODES`; also the kind of the incident.
        message: one line: what, where, why.
        action: what a person can do about it.
        severity: ``error`` where something is not issued, trained or read; ``warning`` where a fallback replaced it.
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


def failures_table(failures: Iterable[Failure], as_of: dt.datetime) -> pd.DataFrame:
    """Rows of contract `Failures`, each once, in a stable order; each is logged too.

    Args:
        failures: of one node.
        as_of: of the run.
    """
    import pandas as pd

    rows = sorted(
        {failure._replace(message=" ".join(failure.message.split())) for failure in failures},
        key=lambda failure: (
            failure.product_id,
            failure.entity_id,
            str(failure.issued_at),
            failure.code,
            failure.message,
        ),
    )
    for row in rows:
        logger.log(logging.ERROR if row.severity == "error" else logging.WARNING, "%s: %s", row.code, row.message)
    table = pd.DataFrame(rows, columns=Failure._fields)
    return table.assign(
        issued_at=pd.to_datetime(table["issued_at"], utc=True).astype("datetime64[us, UTC]"),
        raised_at=pd.Series(pd.Timestamp(as_of), index=table.index, dtype="datetime64[us, UTC]"),
    )
