"""Channels against real servers on loopback: who is told what, once, and what happens when nobody listens."""

from __future__ import annotations

import datetime as dt
import json
import socket
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Message as Keeping
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword

from wind_kedro.cards import CardError
from wind_kedro.contracts.operation import Alarms, Incidents
from wind_kedro.notifications import Ledger, Message, build_channels
from wind_kedro.notifications.channel import ChannelError

AS_OF = dt.datetime(2024, 3, 3, tzinfo=dt.UTC)


def incidents(*rows: dict[str, Any]) -> pd.DataFrame:
    usual = {
        "raised_at": pd.Timestamp(AS_OF), "entity_id": "hill", "product_id": "hours", "kind": "behind_its_backtest",
        "subject": "trees", "severity": "warning", "amount": 0.3, "message": "'trees' is 30% worse", "evidence": "p = 0.001",
        "action": "train again",
        "state": "open", "opened_at": pd.Timestamp(AS_OF),
    }  # fmt: skip
    return Incidents.validate(pd.DataFrame([usual | row for row in rows]))


MESSAGE = Message(
    incidents({}, {"severity": "error", "kind": "source_unreadable", "message": "hill.csv is empty"}), AS_OF
)


# --- a webhook -------------------------------------------------------------------------------------------------------


class _Endpoint(HTTPServer):
    answers: list[int]
    got: list[tuple[dict[str, str], Any]]


class _Handler(BaseHTTPRequestHandler):
    server: _Endpoint

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append((dict(self.headers), json.loads(body)))
        self.send_response(self.server.answers.pop(0) if self.server.answers else 200)
        self.end_headers()
        self.wfile.write(b"no such hook s3cret")

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@pytest.fixture
def endpoint() -> Iterator[_Endpoint]:
    server = _Endpoint(("127.0.0.1", 0), _Handler)
    server.answers, server.got = [], []
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def _webhook(server: _Endpoint, **card: Any) -> Any:
    card = {
        "kind": "webhook",
        "url": f"http://127.0.0.1:{server.server_port}/hook",
        "longest_wait_seconds": 0.01,
    } | card
    return build_channels({"chat": card})["chat"]


def test_a_webhook_gets_text_for_people_and_rows_for_machines(endpoint: _Endpoint) -> None:
    assert _webhook(endpoint, credentials={"token": "abc"}).send(MESSAGE) == 1
    ((headers, body),) = endpoint.got
    assert headers["Authorization"] == "Bearer abc"
    assert headers["Content-Type"] == "application/json"
    # The worst first; chat services show `text`.
    assert body["text"].startswith("*[wind-kedro] 1 error, 1 warning: hours/hill: source_unreadable and 1 more*")
    assert "Evidence: p = 0.001" in body["text"]
    assert "Do: train again" in body["text"]
    assert [row["kind"] for row in body["incidents"]] == ["source_unreadable", "behind_its_backtest"]
    assert body["incidents"][1]["amount"] == 0.3
    assert body["as_of"] == "2024-03-03T00:00:00+00:00"


def test_a_servers_own_fault_passes_by_waiting(endpoint: _Endpoint) -> None:
    endpoint.answers = [503, 429]
    assert _webhook(endpoint).send(MESSAGE) == 3
    assert len(endpoint.got) == 3


def test_a_server_that_never_recovers_is_given_up_in_one_line(endpoint: _Endpoint) -> None:
    endpoint.answers = [500] * 9
    with pytest.raises(ChannelError, match=r"^alarm 'chat': the server answers 500 .*; tried 2 times$"):
        _webhook(endpoint, attempts=2).send(MESSAGE)
    assert len(endpoint.got) == 2


def test_a_refusal_is_final_and_tells_no_secret(endpoint: _Endpoint) -> None:
    endpoint.answers = [404]
    url = f"http://127.0.0.1:{endpoint.server_port}/hook/s3cret"
    with pytest.raises(ChannelError) as told:
        _webhook(endpoint, url=None, credentials={"url": url, "token": "s3cret"}).send(MESSAGE)
    assert len(endpoint.got) == 1
    assert "404" in str(told.value)
    assert "s3cret" not in str(told.value)


def test_a_server_that_is_not_there_is_a_fault_of_the_channel() -> None:
    channel = build_channels({"chat": {"kind": "webhook", "url": "http://127.0.0.1:1/hook", "attempts": 1}})["chat"]
    with pytest.raises(ChannelError, match=r"alarm 'chat': POST to 127\.0\.0\.1: .*refused"):
        channel.send(MESSAGE)


# --- e-mail ----------------------------------------------------------------------------------------------------------


class _Inbox(Keeping):
    def __init__(self, refusals: list[str]) -> None:
        super().__init__()
        self.mails: list[Any] = []
        self.refusals = refusals

    def handle_message(self, message: Any) -> None:
        self.mails.append(message)

    async def handle_RCPT(  # noqa: N802 aiosmtpd's name
        self, server: SMTP, session: Any, envelope: Envelope, address: str, options: Any
    ) -> str:
        answer = self.refusals.pop(0) if self.refusals else "250 OK"
        if answer.startswith("250"):
            envelope.rcpt_tos.append(address)
        return answer


def _authenticate(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
    right = isinstance(data, LoginPassword) and (data.login, data.password) == (b"duty", b"pa55")
    return AuthResult(success=right, handled=False)


def _free_port() -> int:
    # aiosmtpd connects to the port that it was given, so it cannot choose one itself.
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def inbox() -> _Inbox:
    return _Inbox([])


@pytest.fixture
def plain_server(inbox: _Inbox) -> Iterator[Controller]:
    server = Controller(inbox, hostname="127.0.0.1", port=_free_port())
    server.start()
    yield server
    server.stop()


@pytest.fixture
def tls_server(inbox: _Inbox, certificate: Path) -> Iterator[Controller]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server = Controller(
        inbox,
        hostname="127.0.0.1",
        port=_free_port(),
        tls_context=context,
        require_starttls=True,
        auth_required=True,
        authenticator=_authenticate,
    )
    server.start()
    yield server
    server.stop()


def _mail(server: Controller, **card: Any) -> Any:
    card = {
        "kind": "email", "host": "127.0.0.1", "port": server.port, "security": "none", "sender": "wind@example.org",
        "to": ["duty@example.org", "boss@example.org"], "longest_wait_seconds": 0.01,
    } | card  # fmt: skip
    return build_channels({"duty": card})["duty"]


def test_a_mail_arrives_with_all_that_one_needs(plain_server: Controller, inbox: _Inbox) -> None:
    assert _mail(plain_server).send(MESSAGE) == 1
    (mail,) = inbox.mails
    # A long line of a header is folded on its way.
    assert (
        " ".join(mail["Subject"].split()) == "[wind-kedro] 1 error, 1 warning: hours/hill: source_unreadable and 1 more"
    )
    assert mail["To"] == "duty@example.org, boss@example.org"
    assert mail["X-RcptTo"] == "duty@example.org, boss@example.org"
    text = mail.get_payload(decode=True).decode()
    assert "ERROR hours/hill: hill.csv is empty" in text
    assert text.index("hill.csv is empty") < text.index("'trees' is 30% worse")


def test_a_mail_goes_over_tls_with_a_login(
    tls_server: Controller, inbox: _Inbox, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    login = {"user": "duty", "password": "pa55"}
    _mail(tls_server, security="starttls", credentials=login).send(MESSAGE)
    assert len(inbox.mails) == 1


@pytest.mark.parametrize(
    ("card", "trusted", "fault"),
    [
        pytest.param(
            {"credentials": {"user": "duty", "password": "wr0ng"}}, True, "SMTPAuthenticationError", id="login"
        ),
        pytest.param(
            {"credentials": {"user": "duty", "password": "pa55"}}, False, "the certificate does not hold", id="forged"
        ),
    ],
)
def test_a_wrong_password_or_certificate_is_final(
    tls_server: Controller,
    inbox: _Inbox,
    certificate: Path,
    monkeypatch: pytest.MonkeyPatch,
    card: dict[str, Any],
    trusted: bool,
    fault: str,
) -> None:
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with pytest.raises(ChannelError) as told:
        _mail(tls_server, security="starttls", **card).send(MESSAGE)
    assert fault in str(told.value)
    assert "tried" not in str(told.value)
    assert "wr0ng" not in str(told.value)
    assert inbox.mails == []


def test_a_greylisted_mail_is_sent_again_and_an_unknown_address_is_not(plain_server: Controller, inbox: _Inbox) -> None:
    inbox.refusals = ["451 try again later", "451 try again later"]
    assert _mail(plain_server).send(MESSAGE) == 2
    inbox.refusals = ["550 no such user", "550 no such user"]
    with pytest.raises(ChannelError, match="550"):
        _mail(plain_server).send(MESSAGE)
    inbox.refusals = ["250 OK", "550 no such user"]
    with pytest.raises(ChannelError, match=r"not for boss@example\.org"):
        _mail(plain_server).send(MESSAGE)


# --- cards -----------------------------------------------------------------------------------------------------------


def test_every_fault_of_a_card_is_one_line_without_its_value() -> None:
    with pytest.raises(CardError) as told:
        build_channels(
            {
                "chat": {"kind": "webhook"},
                "duty": {"kind": "email", "host": "h", "sender": "nobody", "to": []},
                "post": {"kind": "pigeon"},
            }
        )
    lines = str(told.value).splitlines()
    assert [line.split(": ")[0] for line in lines] == ["alarm 'chat'", "alarm 'duty'", "alarm 'duty'", "alarm 'post'"]
    assert "nobody" not in str(told.value)


# --- once ------------------------------------------------------------------------------------------------------------


class _Told:
    """A ledger kept over runs, as the history keeps it."""

    def __init__(self, channel: Any) -> None:
        self.channel = channel
        self.kept = Alarms.validate(
            pd.DataFrame({name: pd.Series(dtype="object") for name in Alarms.to_schema().columns})
        )

    def run(self, found: pd.DataFrame, hours: float = 0, late_hours: float = 0) -> int:
        as_of = AS_OF + dt.timedelta(hours=hours)
        rows, failure = Ledger(self.kept, 0.25).tell(
            found.assign(raised_at=pd.Timestamp(as_of)), self.channel, as_of, as_of + dt.timedelta(hours=late_hours)
        )
        assert failure is None
        if len(rows):
            self.kept = Alarms.validate(pd.concat([self.kept, rows], ignore_index=True))
        return len(rows)


@pytest.fixture
def told(endpoint: _Endpoint) -> _Told:
    return _Told(_webhook(endpoint))


def test_an_incident_is_told_once_until_it_grows_worse_or_old(told: _Told, endpoint: _Endpoint) -> None:
    assert told.run(incidents({})) == 1
    assert told.run(incidents({})) == 0, "a rerun"
    assert told.run(incidents({"message": "'trees' is 31% worse", "amount": 0.31}), 6) == 0, "other words, as bad"
    assert told.run(incidents({"amount": 0.4}), 12) == 1, "a third worse"
    assert told.run(incidents({"severity": "error", "amount": 0.4}), 13) == 1, "more severe"
    assert told.run(incidents({"subject": "curve"}, {"amount": 0.4}), 14) == 1, "another one"
    assert told.run(incidents({"severity": "error", "amount": 0.4}), 13 + 24) == 1, "a day on"
    assert told.run(incidents({"severity": "info"}, {"entity_id": "shore", "severity": "info"}), 60) == 0, (
        "of no weight"
    )
    assert len(endpoint.got) == 5


def test_the_end_of_an_incident_is_sent_once_where_it_was_sent_and_a_new_one_anew(
    told: _Told, endpoint: _Endpoint
) -> None:
    ended = {"state": "resolved", "severity": "info", "message": "resolved: 'trees' is 30% worse"}
    assert told.run(incidents(ended)) == 0, "nobody knows of it"
    assert told.run(incidents({}), 1) == 1
    assert told.run(incidents(ended), 2) == 1, "whatever its severity is by now"
    assert told.run(incidents(ended), 3) == 0
    assert told.run(incidents({}), 4) == 1, "back within a day"
    assert [body["subject"] for _, body in endpoint.got] == [
        "[wind-kedro] 1 warning: hours/hill: behind_its_backtest",
        "[wind-kedro] 1 resolved: hours/hill: behind_its_backtest",
        "[wind-kedro] 1 warning: hours/hill: behind_its_backtest",
    ]
    assert "RESOLVED hours/hill: 'trees' is 30% worse" in endpoint.got[1][1]["text"]
    assert [row["state"] for row in endpoint.got[1][1]["incidents"]] == ["resolved"]


def test_two_of_the_same_are_told_as_one(told: _Told) -> None:
    assert told.run(incidents({}, {})) == 1


def test_a_look_at_the_past_alarms_nobody(told: _Told, endpoint: _Endpoint) -> None:
    assert told.run(incidents({}), late_hours=25) == 0
    assert endpoint.got == []


def test_what_could_not_be_told_is_told_by_the_next_run(endpoint: _Endpoint) -> None:
    endpoint.answers = [500]
    told = _Told(_webhook(endpoint, attempts=1))
    rows, failure = Ledger(told.kept, 0.25).tell(incidents({}), told.channel, AS_OF, AS_OF)
    assert (rows["outcome"].tolist(), rows["fault"].tolist()) == (["failed"], [str(failure)])
    told.kept = Alarms.validate(rows)
    assert told.run(incidents({}), 1) == 1
