"""E-mail through an SMTP server."""

from __future__ import annotations

import smtplib
import socket
from email.message import EmailMessage
from email.utils import formatdate
from typing import Literal

from pydantic import Field

from wind_kedro.feeds.remote import Watchdog
from wind_kedro.notifications.channel import Channel, PassingError
from wind_kedro.notifications.message import Message

#: Answers of a server from which on a fault is lasting (RFC 5321, 4.2.1); below, it asks to try again later.
_LASTING = 500


class Email(Channel):
    """Sends the incidents as plain text. ``user`` and ``password`` are in the credentials; without them there is no login."""

    kind: Literal["email"]
    host: str
    port: int = Field(587, gt=0, lt=65536)
    security: Literal["starttls", "tls", "none"] = Field(
        "starttls", description="`tls`: from the first byte on (port 465); `none`: only for a server on this machine"
    )
    sender: str = Field(pattern=r"^[^@\s]+@[^@\s]+$")
    to: list[str] = Field(min_length=1)

    def send_once(self, message: Message) -> None:
        """One mail to all."""
        mail = EmailMessage()
        mail["Subject"], mail["From"], mail["To"] = message.subject, self.sender, ", ".join(self.to)
        mail["Date"] = formatdate()
        # The same whenever this message is sent again, so that the receiver knows it.
        mail["Message-ID"] = f"<{message.id}@{self.sender.rpartition('@')[2]}>"
        mail.set_content(message.body + "\n")
        with Watchdog(self.send_seconds) as watchdog:
            try:
                with self._connect(watchdog) as server:
                    user = self.secret("user")
                    if user is not None:
                        server.login(user, self.secret("password") or "")
                    refused = server.send_message(mail)
            except (smtplib.SMTPException, OSError, ValueError) as error:
                raise self._judged(error, ended=watchdog.ended) from None
        if refused:
            raise self.fault(f"the server took the mail, but not for {', '.join(refused)}")

    def _connect(self, watchdog: Watchdog) -> smtplib.SMTP:
        class Watched(smtplib.SMTP):
            def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
                self._host = host  # whose certificate is checked; `connect` does not set it
                opened: socket.socket = super()._get_socket(host, port, timeout)  # type: ignore[misc]  # not in its stubs
                watchdog.watch(opened)
                return opened

        class WatchedTls(smtplib.SMTP_SSL, Watched):
            """The same with TLS from the first byte on."""

        if self.security == "tls":
            server: smtplib.SMTP = WatchedTls(timeout=self.timeout_seconds, context=self.tls_context())
        else:
            server = Watched(timeout=self.timeout_seconds)
        if self.security == "none" and self.credentials:
            self.warn_in_the_clear(self.host)
        try:
            server.connect(self.host, self.port)
            if self.security == "starttls":
                server.starttls(context=self.tls_context())
        except BaseException:
            server.close()
            raise
        return server

    def _judged(self, error: Exception, *, ended: bool) -> Exception:
        """What a fault means: that it may pass, or that a person must do something."""
        line = f"{type(error).__name__}: {error}"
        if ended:
            return PassingError(f"the server took more than {self.send_seconds:g} s")
        if (untrusted := self.untrusted(f"{self.host}:{self.port}", error)) is not None:
            return untrusted
        code = _LASTING
        if isinstance(error, smtplib.SMTPRecipientsRefused):
            code = max(code for code, _ in error.recipients.values())
        elif isinstance(error, smtplib.SMTPResponseException) and not isinstance(error, smtplib.SMTPAuthenticationError):
            code = error.smtp_code
        elif not isinstance(error, smtplib.SMTPAuthenticationError | smtplib.SMTPNotSupportedError):
            code = 0
        return self.fault(line) if code >= _LASTING else PassingError(line)
