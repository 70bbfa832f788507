"""E-mail through an SMTP server."""

from __future__ import annotations

import smtplib
import ssl
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from typing import Literal

from pydantic import Field

from .channel import Channel, PassingError
from .message import Message

#: Answers of a server from which on a fault is lasting (RFC 5321, 4.2.1); below, it asks to try again later.
_LASTING = 500


class Email(Channel):
    """Sends the incidents as plain text. ``user`` and ``password`` stand in the credentials; without them nobody logs in."""

    kind: Literal["email"]
    host: str
    port: int = Field(587, gt=0, lt=65536)
    security: Literal["starttls", "tls", "none"] = Field(
        "starttls", description="`tls`: from the first byte on (port 465); `none`: only for a server on this machine"
    )
    sender: str = Field(pattern=r"^[^@\s]+@[^@\s]+$")
    to: list[str] = Field(min_length=1)

    def tell(self, message: Message) -> None:
        """One mail to all."""
        mail = EmailMessage()
        mail["Subject"], mail["From"], mail["To"] = message.subject, self.sender, ", ".join(self.to)
        mail["Date"], mail["Message-ID"] = formatdate(), make_msgid(domain=self.sender.rpartition("@")[2])
        mail.set_content(message.text + "\n")
        try:
            with self._connect() as server:
                user = self.secret("user")
                if user is not None:
                    server.login(user, self.secret("password") or "")
                refused = server.send_message(mail)
        except (smtplib.SMTPAuthenticationError, smtplib.SMTPNotSupportedError, ssl.SSLCertVerificationError) as error:
            raise self.fault(f"{type(error).__name__}: {error}") from None
        except smtplib.SMTPRecipientsRefused as error:
            raise self._judged(max(code for code, _ in error.recipients.values()), error) from None
        except smtplib.SMTPResponseException as error:
            raise self._judged(error.smtp_code, error) from None
        except (smtplib.SMTPException, OSError) as error:
            raise PassingError(f"{type(error).__name__}: {error}") from None
        if refused:
            raise self.fault(f"the server took the mail, but not for {', '.join(refused)}")

    def _connect(self) -> smtplib.SMTP:
        context = ssl.create_default_context()
        if self.security == "tls":
            return smtplib.SMTP_SSL(self.host, self.port, timeout=self.timeout_seconds, context=context)
        server = smtplib.SMTP(self.host, self.port, timeout=self.timeout_seconds)
        if self.security == "starttls":
            try:
                server.starttls(context=context)
            except BaseException:
                server.close()
                raise
        return server

    def _judged(self, code: int, error: Exception) -> Exception:
        line = f"{type(error).__name__}: {error}"
        return self.fault(line) if code >= _LASTING else PassingError(line)
