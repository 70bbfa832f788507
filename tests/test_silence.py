"""An outage on the test fleet, from raw files to messages: weather and a farm's SCADA stop for three days, then both are back."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from wind_kedro.datasets import read_table

pytestmark = pytest.mark.slow

#: Nothing comes from here on; the fleet runs as of each of these moments, the last one with all data back.
CUT = pd.Timestamp("2024-04-06T00:00Z")
OUTAGE, AN_HOUR_ON, BACK = "2024-04-09T00:30", "2024-04-09T01:30", "2024-04-09T12:30"
#: Kinds of incidents that are about what did not come.
SILENCE = {
    "weather_late", "weather_missing", "weather_constant", "signals_silent", "feed_silent", "fallback_used", "forecast_overdue",
    "inputs_stale", "training_stale", "not_scored",
}  # fmt: skip


class _Keeper(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.kept.append(body)  # type: ignore[attr-defined]
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@pytest.fixture(scope="module")
def webhook() -> Iterator[HTTPServer]:
    server = HTTPServer(("127.0.0.1", 0), _Keeper)
    server.kept = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@dataclass
class Moment:
    """A run of monitoring: its exit code, what it printed, its incidents, and the messages that went out."""

    code: int
    said: str
    incidents: pd.DataFrame
    messages: list[dict[str, Any]]

    def of_silence(self, state: str) -> list[tuple[Any, ...]]:
        own = self.incidents[self.incidents["kind"].isin(SILENCE) & (self.incidents["state"] == state)]
        columns = ["kind", "severity", "entity_id", "product_id", "subject"]
        return sorted(own[columns].itertuples(index=False, name=None))

    def sent(self, state: str) -> list[tuple[str, str]]:
        rows = [row for message in self.messages for row in message["incidents"]]
        return sorted((row["kind"], row["entity_id"] or row["product_id"] or row["subject"]) for row in rows
                      if row["kind"] in SILENCE and row["state"] == state)  # fmt: skip


_IN_TURN = """
import json, sys
from wind_kedro.__main__ import main
code = 0
for words in json.loads(sys.argv[1]):
    try:
        main(words)
    except SystemExit as stop:
        code = code or stop.code or 0
        if stop.code and words[-3] != "monitoring":
            sys.exit(f"{words}: {stop.code}")
sys.exit(code)
"""


def _run(folder: Path, as_of: str, *rooms: str) -> tuple[int, str]:
    commands = [["--env", "test", "--pipeline", room, "--params", f"as_of={as_of}"] for room in rooms]
    command = [sys.executable, "-c", _IN_TURN, json.dumps(commands)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600, check=False)
    return done.returncode, done.stdout + done.stderr


def _cut(raw: Path) -> None:
    """Take away all weather runs from `CUT` on, and what South Bay sent after it."""
    for path in raw.glob("*/weather_*.parquet"):
        table = pd.read_parquet(path)
        table[table["run_at"] < CUT.tz_convert(table["run_at"].dt.tz)].to_parquet(path, index=False)
    path = raw / "north_ridge/weather_beta.csv.gz"
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    runs = pd.to_datetime(table["run_at"], utc=True, errors="coerce")
    table[runs.isna() | (runs < CUT)].to_csv(path, index=False, lineterminator="\n")
    path = raw / "south_bay/signals_2024-04.csv.gz"
    table = pd.read_csv(path, sep=";", encoding="latin-1", dtype=str, keep_default_na=False)
    arrived = pd.to_datetime(table["Empfangen"], utc=True)
    table[arrived < CUT].to_csv(path, sep=";", encoding="latin-1", index=False, lineterminator="\n")


@pytest.fixture(scope="module")
def moments(test_env_project: Path, tmp_path_factory: pytest.TempPathFactory, webhook: HTTPServer) -> dict[str, Moment]:
    project = tmp_path_factory.mktemp("outage") / "project"
    shutil.copytree(test_env_project, project)
    output = project / "data/test/07_model_output"
    for name in ("incidents", "outbox", "deliveries"):
        shutil.rmtree(output / name)
    url = f"http://127.0.0.1:{webhook.server_port}/"
    # The outage is long past: the channel shall send all the same.
    channels = {"log": None, "duty": {"kind": "webhook", "url": url, "past_hours": None, "attempts": 1}}
    parameters = yaml.safe_dump({"notification_channels": channels})
    (project / "conf/test/parameters_notification.yml").write_text(parameters, "utf-8")
    raw, whole = project / "data/test/01_raw", project / "whole"
    shutil.copytree(raw, whole)
    rooms = ["data_engineering", "feature_engineering", "forecasting", "monitoring", "notification"]
    found = {}

    def note(as_of: str, *names: str) -> None:
        before = len(webhook.kept)  # type: ignore[attr-defined]
        code, said = _run(project, as_of, *names)
        incidents = read_table(output / "incidents")
        raised = incidents[incidents["raised_at"] == pd.Timestamp(as_of, tz="UTC")]
        assert len(raised), said
        found[as_of] = Moment(code, said, raised, webhook.kept[before:])  # type: ignore[attr-defined]

    _cut(raw)
    note(OUTAGE, *rooms)
    note(AN_HOUR_ON, "monitoring", "notification")
    shutil.rmtree(raw)
    shutil.copytree(whole, raw)
    note(BACK, *rooms)
    return found


#: Kind, severity, entity, product and subject of each incident of the outage; whatever number of farms the weather feeds.
EXPECTED = [
    ("fallback_used", "error", "", "hourly_36h", ""),
    ("fallback_used", "error", "", "quarter_hourly_24h", ""),
    # Persistence stands in for the champion, and has nothing but South Bay's last production.
    ("signals_silent", "error", "south_bay", "", ""),
    ("weather_missing", "error", "", "", "alpha"),
    ("weather_missing", "error", "", "", "beta"),
]
SENT = [
    ("fallback_used", "hourly_36h"),
    ("fallback_used", "quarter_hourly_24h"),
    ("signals_silent", "south_bay"),
    ("weather_missing", "alpha"),
    ("weather_missing", "beta"),
]


def test_dead_weather_and_silent_signals_are_incidents_by_what_they_cost(moments: dict[str, Moment]) -> None:
    outage = moments[OUTAGE]
    assert outage.code == 1
    assert "weather_missing: weather 'alpha' is missing for 3 of 3 farms (east_plain, north_ridge, south_bay)" in outage.said
    assert "Traceback" not in outage.said
    assert outage.of_silence("open") == EXPECTED
    assert outage.of_silence("resolved") == []
    alpha = outage.incidents[outage.incidents["subject"] == "alpha"]["evidence"].item()
    assert "hourly_36h: 100% of the issue of 2024-04-09 00:00 by a fallback, expected pinball_share +" in alpha
    assert not outage.incidents["kind"].eq("all_clear").any()


def test_what_goes_on_is_sent_once(moments: dict[str, Moment]) -> None:
    assert (len(moments[OUTAGE].messages), moments[OUTAGE].sent("open")) == (1, SENT)
    going_on = moments[AN_HOUR_ON]
    assert (going_on.code, going_on.of_silence("open"), going_on.messages) == (1, EXPECTED, [])
    own = going_on.incidents[going_on.incidents["kind"].isin(SILENCE)]
    assert set(own["opened_at"]) == {pd.Timestamp(OUTAGE, tz="UTC")}


def test_when_the_data_are_back_incidents_close_by_themselves_and_once(moments: dict[str, Moment]) -> None:
    back = moments[BACK]
    assert back.code == 0, back.said
    assert back.of_silence("open") == []
    assert back.of_silence("resolved") == EXPECTED
    assert (len(back.messages), back.sent("resolved"), back.sent("open")) == (1, SENT, [])
    closed = back.incidents[back.incidents["state"] == "resolved"]
    assert set(closed.loc[closed["kind"].isin(SILENCE), "opened_at"]) == {pd.Timestamp(OUTAGE, tz="UTC")}


def test_a_fleet_whose_data_come_in_time_raises_none_of_these(test_env_project: Path) -> None:
    output = test_env_project / "data/test/07_model_output"
    incidents = read_table(output / "incidents")
    assert sorted(SILENCE & set(incidents["kind"])) == []
    assert (incidents["severity"] != "error").all()
    freshness = pd.read_parquet(output / "freshness.parquet")
    assert freshness["source"].value_counts().to_dict() == {"signals": 8, "weather": 6}
    assert (freshness["state"] == "fresh").all()
