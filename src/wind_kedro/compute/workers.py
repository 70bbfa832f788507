"""Settings of workers: parameter ``workers`` of `parameters_run.yml`."""

from __future__ import annotations

import ipaddress
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from wind_kedro.strict import Strict


class Tls(Strict):
    """PEM files for connecting to a scheduler. ``$NAME`` in a path is an environment variable, ``~`` the home folder."""

    ca: str = Field(description="certificate of the authority that signed those of scheduler and workers")
    certificate: str = Field(description="of this process, signed by the same authority")
    key: str = Field(description="private key of the certificate")


class Workers(Strict):
    """How per-farm work is spread."""

    backend: Literal["loky", "threading", "dask"] = Field(
        "loky",
        description="loky (processes) and threading of joblib; dask: workers of a scheduler, or processes if none is given",
    )
    jobs: int = Field(-1, description="how many at once on this machine; -1: one a core; a scheduler has its own workers")
    scheduler: str | None = Field(None, description="address of Dask's scheduler: tls://host:port, or tcp:// on this machine")
    tls: Tls | None = Field(None, description="certificates, for tls://")
    connect_seconds: float = Field(30, gt=0, description="how long to wait for the scheduler, and for a worker to be there")
    time_limit_seconds: float | None = Field(
        None, gt=0, description="a task that takes longer has failed, and its process is ended; null: no limit; only with dask"
    )

    @model_validator(mode="after")
    def _of_dask(self) -> Self:
        if self.backend != "dask":
            given = [name for name in ("scheduler", "tls", "time_limit_seconds") if getattr(self, name) is not None]
            if given:
                raise ValueError(f"{', '.join(given)}: only with backend: dask; set it, or remove {', '.join(given)}")
        elif self.scheduler is None:
            if self.tls is not None:
                raise ValueError("tls: there is no scheduler to connect to; set scheduler, or remove tls")
        else:
            _check_address(self.scheduler, self.tls)
        return self

    def inline(self) -> Workers:
        """One task at a time in this process, for what starting processes or sending arguments would cost more than it saves."""
        return Workers(backend="threading", jobs=1)


def _check_address(address: str, tls: Tls | None) -> None:
    """Access to a scheduler is code execution on its workers: it is protected by TLS, or reached from its machine alone."""
    try:
        parts = urlsplit(address)
        complete = bool(parts.hostname and parts.port)
    except ValueError:
        complete = False
    if not complete or parts.scheme not in {"tls", "tcp"}:
        raise ValueError(f"scheduler: '{address}' is no address; write tls://host:port, or tcp://127.0.0.1:port on this machine")
    if parts.scheme == "tls" and tls is None:
        raise ValueError("scheduler: tls:// needs certificates; set tls.ca, tls.certificate and tls.key")
    if parts.scheme == "tcp" and not _is_loopback(str(parts.hostname)):
        raise ValueError(
            f"scheduler: {address} is not encrypted, so that anybody in between could run code on its workers; "
            f"start scheduler and workers with TLS and write tls://"
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
