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
from pydantic import ValidationError

from wind_kedro.cards import CardError
from wind_kedro.contracts.operation import Incidents, Outbox
from wind_kedro.notifications import Message, build_channels, compose_message, due_incidents
from wind_kedro.notifications.channel import ChannelCards, ChannelError, ChannelRules
from wind_kedro.notifications.deduplication import incidents_of

AS_OF = dt.datetime(2024, 3, 3, tzinfo=dt.UTC)


def incidents(*rows: dict[str, Any]) -> pd.DataFrame:
    usual = {
        "raised_at": pd.Timestamp(AS_OF), "entity_id": "hill", "product_id": "hours", "kind": "behind_its_backtest",
        "subject": "trees", "severity": "warning", "amount": 0.3, "message": "'trees' is 30% worse", "evidence": "p = 0.001",
        "action": "train again",
        "state": "open", "opened_at": pd.Timestamp(AS_OF),
    }  # fmt: skip
    return Incidents.validate(pd.DataFrame([usual | row for row in rows]))


MESSAGE = compose_message(
    "chat", incidents({}, {"severity": "error", "kind": "source_unreadable", "message": "hill.csv is empty"}), AS_OF
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
    assert headers["X-Message-Id"] == body["id"] == MESSAGE.id


def test_a_servers_own_fault_passes_by_waiting(endpoint: _Endpoint) -> None:
    endpoint.answers = [503, 429]
    assert _webhook(endpoint).send(MESSAGE) == 3
    assert len(endpoint.got) == 3


def test_a_server_that_never_recovers_is_given_up_in_one_line(endpoint: _Endpoint) -> None:
    endpoint.answers = [500] * 9
    with pytest.raises(ChannelError, match=r"^channel 'chat': the server answers 500 .*; tried 2 times$"):
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
    with pytest.raises(ChannelError, match=r"channel 'chat': POST to 127\.0\.0\.1: .*refused"):
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
    assert " ".join(mail["Subject"].split()) == "[wind-kedro] 1 error, 1 warning: hours/hill: source_unreadable and 1 more"
    assert mail["To"] == "duty@example.org, boss@example.org"
    assert mail["Message-ID"] == f"<{MESSAGE.id}@example.org>"
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
        pytest.param({"credentials": {"user": "duty", "password": "wr0ng"}}, True, "SMTPAuthenticationError", id="login"),
        pytest.param({"credentials": {"user": "duty", "password": "pa55"}}, False, "the certificate does not hold", id="forged"),
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
    assert [line.split(": ")[0] for line in lines] == [
        "channel 'chat'",
        "channel 'duty'",
        "channel 'duty'",
        "channel 'post'",
    ]
    assert "nobody" not in str(told.value)


# --- once ------------------------------------------------------------------------------------------------------------


class _Runs:
    """Runs of monitoring, one after another, and the outbox that they fill."""

    def __init__(self) -> None:
        self.written: list[Message] = []

    @property
    def outbox(self) -> pd.DataFrame:
        rows = [(one.id, one.created_at, one.channel, one.subject, one.body, json.dumps(one.incidents)) for one in self.written]
        columns = list(Outbox.to_schema().columns)
        return Outbox.validate(pd.DataFrame(rows, columns=columns).astype({"created_at": "datetime64[us, UTC]"}))

    def run(self, found: pd.DataFrame, hours: float = 0) -> int:
        as_of = AS_OF + dt.timedelta(hours=hours)
        found = found.assign(raised_at=pd.Timestamp(as_of))
        due = due_incidents(found, incidents_of(self.outbox), "chat", ChannelRules(), as_of, worse_share=0.25)
        if len(due):
            self.written.append(compose_message("chat", due, as_of))
        return len(due)


@pytest.fixture
def runs() -> _Runs:
    return _Runs()


def test_an_incident_is_due_once_until_it_grows_worse_or_old(runs: _Runs) -> None:
    assert runs.run(incidents({})) == 1
    assert runs.run(incidents({})) == 0, "a rerun"
    assert runs.run(incidents({"message": "'trees' is 31% worse", "amount": 0.31}), 6) == 0, "other words, as bad"
    assert runs.run(incidents({"amount": 0.4}), 12) == 1, "a third worse"
    assert runs.run(incidents({"severity": "error", "amount": 0.4}), 13) == 1, "more severe"
    assert runs.run(incidents({"subject": "curve"}, {"amount": 0.4}), 14) == 1, "another one"
    assert runs.run(incidents({"severity": "error", "amount": 0.4}), 13 + 24) == 1, "a day on"
    assert runs.run(incidents({"severity": "info"}, {"entity_id": "shore", "severity": "info"}), 60) == 0, "of no weight"
    assert len({message.id for message in runs.written}) == 5


def test_the_end_of_an_incident_is_due_once_where_it_was_sent_and_a_new_one_anew(runs: _Runs) -> None:
    ended = {"state": "resolved", "severity": "info", "message": "resolved: 'trees' is 30% worse"}
    assert runs.run(incidents(ended)) == 0, "no message was about it"
    assert runs.run(incidents({}), 1) == 1
    assert runs.run(incidents(ended), 2) == 1, "whatever its severity is by now"
    assert runs.run(incidents(ended), 3) == 0
    assert runs.run(incidents({}), 4) == 1, "back within a day"
    assert [message.subject for message in runs.written] == [
        "[wind-kedro] 1 warning: hours/hill: behind_its_backtest",
        "[wind-kedro] 1 resolved: hours/hill: behind_its_backtest",
        "[wind-kedro] 1 warning: hours/hill: behind_its_backtest",
    ]
    assert "RESOLVED hours/hill: 'trees' is 30% worse" in runs.written[1].body
    assert [row["state"] for row in runs.written[1].incidents] == ["resolved"]


def test_two_of_the_same_are_one(runs: _Runs) -> None:
    assert runs.run(incidents({}, {})) == 1


def test_the_id_of_a_message_follows_from_channel_time_and_incidents() -> None:
    same = compose_message("chat", incidents({}), AS_OF)
    assert same.id == compose_message("chat", incidents({"message": "other words"}), AS_OF).id
    others = [
        compose_message("duty", incidents({}), AS_OF),
        compose_message("chat", incidents({}), AS_OF + dt.timedelta(hours=1)),
        compose_message("chat", incidents({"entity_id": "shore"}), AS_OF),
        compose_message("chat", incidents({"state": "resolved"}), AS_OF),
    ]
    assert len({same.id, *(other.id for other in others)}) == 5


# --- cards as parameters ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("card", "place"),
    [
        pytest.param({"credentials": {"url": "https://h/s3cret"}}, "credentials", id="inline"),
        pytest.param({"headers": {"Authorization": "Bearer s3cret"}}, "headers.Authorization", id="header"),
        pytest.param({"url": "https://me:s3cret@example.org/hook"}, "url", id="login in a URL"),
        pytest.param({"url": "https://example.org/hook?token=s3cret"}, "url", id="token in a URL"),
    ],
)
def test_a_card_that_holds_a_secret_is_refused_without_quoting_it(card: dict[str, Any], place: str) -> None:
    with pytest.raises(ValidationError) as caught:
        ChannelCards.model_validate({"chat": {"kind": "webhook", **card}})
    assert f"channel 'chat': {place}: " in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_cards_hold_names_and_an_environment_drops_one_of_base_with_null() -> None:
    cards = ChannelCards.model_validate({"chat": {"kind": "webhook", "credentials": "hook"}, "log": None})
    assert cards.model_dump() == {"chat": {"kind": "webhook", "credentials": "hook"}}
    ready = cards.with_secrets({"hook": {"url": "https://example.org/s3cret"}}.__getitem__)
    assert ready == {"chat": {"kind": "webhook", "credentials": {"url": "https://example.org/s3cret"}}}
    assert ChannelCards.model_validate(None).model_dump() == {}
