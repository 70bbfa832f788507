"""Delivery of the outbox over real servers on loopback: once, again with the same id after a kill, and without secrets."""

from __future__ import annotations

import datetime as dt
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Message as Keeping
from kedro.framework.session import KedroSession

from wind_kedro.clock import Clock
from wind_kedro.configuration import ConfigurationError
from wind_kedro.contracts.operation import Deliveries, Failures, Outbox
from wind_kedro.datasets import History, read_table
from wind_kedro.datasets.parts import empty_table
from wind_kedro.notifications import ChannelCards
from wind_kedro.pipelines.notification import nodes
from wind_kedro.pipelines.notification.nodes import deliver_notifications

NOW = dt.datetime.now(dt.UTC).replace(microsecond=0)
CLOCK = Clock(as_of=NOW)
SECRET = "n0t-for-anybodys-eyes"  # noqa: S105 - of nothing


class _Inbox(Keeping):
    def __init__(self) -> None:
        super().__init__()
        self.mails: list[Any] = []

    def handle_message(self, message: Any) -> None:
        self.mails.append(message)


@pytest.fixture
def smtp() -> Iterator[Controller]:
    with socket.socket() as probe:  # aiosmtpd connects to the port that it was given, so it cannot choose one itself
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    server = Controller(_Inbox(), hostname="127.0.0.1", port=port)
    server.start()
    yield server
    server.stop()


class _Hook(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.got: list[tuple[str, str, Any]] = []
        self.answers: list[int] = []
        self.wait = threading.Event()
        self.wait.set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/{SECRET}"


class _Handler(BaseHTTPRequestHandler):
    server: _Hook

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.got.append((self.headers["X-Message-Id"], self.path, body))
        self.server.wait.wait(60)
        self.send_response(self.server.answers.pop(0) if self.server.answers else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@pytest.fixture
def hook() -> Iterator[_Hook]:
    server = _Hook()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.wait.set()
    server.shutdown()
    thread.join()
    server.server_close()


def _outbox(*messages: tuple[str, str, float]) -> pd.DataFrame:
    """Messages of an id and a channel, so many hours old."""
    incident = {
        "kind": "gap",
        "entity_id": "hill",
        "product_id": "",
        "subject": "",
        "severity": "warning",
        "state": "open",
    }
    rows = [
        {
            "message_id": name, "created_at": pd.Timestamp(NOW - dt.timedelta(hours=age)), "channel": channel,
            "subject": "1 warning: hill: gap", "body": "WARNING hill: a gap", "incidents": json.dumps([incident]),
        }
        for name, channel, age in messages
    ]  # fmt: skip
    return Outbox.validate(pd.DataFrame(rows))


def _none() -> pd.DataFrame:
    return Deliveries.validate(empty_table("wind_kedro.contracts.operation.Deliveries"))


def _deliver(outbox: pd.DataFrame, before: pd.DataFrame, cards: dict[str, Any]) -> tuple[pd.DataFrame, pd.DataFrame]:
    deliveries, failures = deliver_notifications(outbox, before, ChannelCards.model_validate(cards), CLOCK)
    return Deliveries.validate(deliveries), Failures.validate(failures)


@pytest.fixture
def secrets(monkeypatch: pytest.MonkeyPatch, hook: _Hook) -> None:
    """What credentials.yml holds: the webhook's address, which is a secret."""

    def read(name: str) -> dict[str, str]:
        if name != "hook":
            raise ConfigurationError(f"credentials '{name}' are in no credentials.yml")
        return {"url": hook.url}

    monkeypatch.setattr(nodes, "read_secrets", read)


def _cards(smtp: Controller) -> dict[str, Any]:
    return {
        "chat": {"kind": "webhook", "credentials": "hook", "attempts": 1},
        "duty": {
            "kind": "email", "host": "127.0.0.1", "port": smtp.port, "security": "none", "sender": "wind@example.org",
            "to": ["duty@example.org"], "attempts": 1,
        },
    }  # fmt: skip


@pytest.mark.usefixtures("secrets")
def test_each_message_goes_out_once_under_its_own_id(smtp: Controller, hook: _Hook) -> None:
    outbox = _outbox(("a" * 32, "chat", 1), ("b" * 32, "duty", 1))
    deliveries, failures = _deliver(outbox, _none(), _cards(smtp))
    assert deliveries[["message_id", "channel", "outcome", "attempts"]].to_numpy().tolist() == [
        ["a" * 32, "chat", "delivered", 1], ["b" * 32, "duty", "delivered", 1],
    ]  # fmt: skip
    assert len(failures) == 0
    ((header, path, body),) = hook.got
    assert (header, body["id"], path) == ("a" * 32, "a" * 32, f"/{SECRET}")
    (mail,) = smtp.handler.mails
    assert mail["Message-ID"] == f"<{'b' * 32}@example.org>"
    assert mail["Subject"] == "1 warning: hill: gap"
    # The next run has nothing to send, and its record holds the same rows.
    again, _ = _deliver(outbox, deliveries, _cards(smtp))
    assert len(again) == 0
    assert (len(hook.got), len(smtp.handler.mails)) == (1, 1)


@pytest.mark.usefixtures("secrets")
def test_what_was_sent_and_not_recorded_is_sent_again_with_the_same_id(smtp: Controller, hook: _Hook) -> None:
    outbox = _outbox(("a" * 32, "chat", 1), ("b" * 32, "duty", 1))
    for _ in range(2):  # the first run's record is lost
        _deliver(outbox, _none(), _cards(smtp))
    assert [header for header, _, _ in hook.got] == ["a" * 32] * 2
    assert [mail["Message-ID"] for mail in smtp.handler.mails] == [f"<{'b' * 32}@example.org>"] * 2


@pytest.mark.usefixtures("secrets")
def test_a_channel_that_fails_is_tried_by_the_next_run_and_stops_no_other(smtp: Controller, hook: _Hook) -> None:
    outbox = _outbox(("a" * 32, "chat", 2), ("b" * 32, "duty", 1), ("c" * 32, "chat", 1))
    hook.answers = [503]
    deliveries, failures = _deliver(outbox, _none(), _cards(smtp))
    assert deliveries[["message_id", "outcome"]].to_numpy().tolist() == [["a" * 32, "failed"], ["b" * 32, "delivered"]]
    (failure,) = failures.to_dict("records")
    assert (failure["stage"], failure["code"], failure["severity"]) == (
        "notification",
        "notification_failed",
        "warning",
    )
    assert failure["message"].startswith("channel 'chat': the server answers 503")
    deliveries, failures = _deliver(outbox, deliveries, _cards(smtp))
    assert sorted(deliveries.loc[deliveries["outcome"] == "delivered", "message_id"]) == ["a" * 32, "b" * 32, "c" * 32]
    assert (len(failures), len(smtp.handler.mails)) == (0, 1)
    assert [header for header, _, _ in hook.got] == ["a" * 32, "a" * 32, "c" * 32]


@pytest.mark.usefixtures("secrets")
def test_a_message_about_the_past_is_not_sent(smtp: Controller, hook: _Hook) -> None:
    outbox = _outbox(("a" * 32, "chat", 25), ("b" * 32, "gone", 1))
    deliveries, failures = _deliver(outbox, _none(), _cards(smtp))
    assert deliveries[["outcome", "fault"]].to_numpy().tolist() == [
        ["expired", "older than past_hours of the channel (24)"],
        ["expired", "channel 'gone' is not configured any more"],
    ]
    assert (hook.got, len(failures)) == ([], 0)


@pytest.mark.usefixtures("secrets")
def test_a_channel_without_its_secret_is_a_failure(smtp: Controller) -> None:
    cards = _cards(smtp)
    cards["chat"]["credentials"] = "elsewhere"
    deliveries, failures = _deliver(_outbox(("a" * 32, "chat", 1), ("b" * 32, "duty", 1)), _none(), cards)
    assert deliveries[["channel", "outcome"]].to_numpy().tolist() == [["chat", "failed"], ["duty", "delivered"]]
    assert failures["message"].tolist() == ["channel 'chat': credentials 'elsewhere' are in no credentials.yml"]


# --- as people run it ------------------------------------------------------------------------------------------------


@pytest.fixture
def project(make_project: Callable[[], Path], inside: Callable[[Path], Path]) -> Path:
    """A project with one message in its outbox, for a webhook whose address is in credentials.yml."""
    folder = inside(make_project())
    (folder / "conf/mine").mkdir()
    cards = {"chat": {"kind": "webhook", "credentials": "hook", "attempts": 1, "past_hours": None}, "log": None}
    (folder / "conf/mine/parameters_notification.yml").write_text(yaml.safe_dump({"notification_channels": cards}))
    (folder / "conf/local/credentials.yml").write_text("hook: {url: '${oc.env:WIND_KEDRO_TEST_HOOK}'}")
    outbox = History(
        filepath=str(folder / "data/07_model_output/outbox"),
        partition_by=["created_at"],
        contract="wind_kedro.contracts.operation.Outbox",
    )
    outbox.save(_outbox(("a" * 32, "chat", 1)))
    return folder


_RUN = [sys.executable, "-m", "kedro", "run", "--env", "mine", "--pipeline", "notification"]


@pytest.mark.slow
def test_a_run_killed_between_sending_and_recording_sends_again_with_the_same_id(project: Path, hook: _Hook) -> None:
    environment = os.environ | {"WIND_KEDRO_TEST_HOOK": hook.url}
    hook.wait.clear()  # the server has the message, and the answer is on its way
    with subprocess.Popen(_RUN, cwd=project, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        for _ in range(6000):
            if hook.got:
                break
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    hook.wait.set()
    record = project / "data/07_model_output/deliveries"
    assert not record.exists()
    done = subprocess.run(_RUN, cwd=project, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [(header, body["id"]) for header, _, body in hook.got] == [("a" * 32, "a" * 32)] * 2
    assert read_table(record)["outcome"].tolist() == ["delivered"]
    # No secret in any table, in the store of MLflow, or in what was printed.
    written = [path for path in (project / "data").rglob("*") if path.is_file()] + list(project.glob("mlflow.db*"))
    assert [path for path in written if SECRET.encode() in path.read_bytes()] == []
    assert SECRET not in done.stdout + done.stderr


@pytest.mark.slow
def test_the_catalog_and_the_parameters_hold_no_secret(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WIND_KEDRO_TEST_HOOK", SECRET)
    with KedroSession.create(project_path=project, env="mine", save_on_close=False) as session:
        context = session.load_context()
        cards = context.params["notification_channels"]
        assert cards.root["chat"]["credentials"] == "hook"
        assert nodes.read_secrets("hook") == {"url": SECRET}
        assert SECRET not in repr(context.params) + repr(context.catalog.to_config())
