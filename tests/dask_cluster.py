"""A scheduler of Dask and its workers in processes of their own on loopback, with TLS; and what the tests compute there.

Workers import this module: what is computed is a function of it.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

HOST = "127.0.0.1"


def write_certificates(folder: Path) -> dict[str, str]:
    """Make an authority and a certificate for this machine; paths by the names of `wind_kedro.compute.workers.Tls`."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    keys = {name: ec.generate_private_key(ec.SECP256R1()) for name in ("ca", "certificate")}
    names = {name: x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"wind-kedro test {name}")]) for name in keys}
    now = dt.datetime.now(dt.UTC)
    folder.mkdir(parents=True, exist_ok=True)
    for name, key in keys.items():
        made = (
            x509.CertificateBuilder()
            .subject_name(names[name])
            .issuer_name(names["ca"])
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=name == "ca", path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(HOST))]), critical=False)
            .sign(keys["ca"], hashes.SHA256())
        )
        (folder / f"{name}.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key_bytes = keys["certificate"].private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "key.pem").write_bytes(key_bytes)
    return {name: str(folder / f"{name}.pem") for name in ("ca", "certificate", "key")}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class DaskCluster:
    """A scheduler and a process that starts workers and starts them again when they end."""

    folder: Path
    tls: dict[str, str]
    port: int
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"tls://{HOST}:{self.port}"

    def start(self, workers: int) -> None:
        """Start both; workers connect as soon as the scheduler listens."""
        self._run("scheduler", "--protocol", "tls", "--host", HOST, "--port", str(self.port))
        self._run("worker", self.address, "--nworkers", str(workers), "--nthreads", "1", "--local-directory", str(self.folder))
        deadline = time.monotonic() + 60
        with socket.socket() as probe:
            while probe.connect_ex((HOST, self.port)):
                assert time.monotonic() < deadline, "the scheduler does not start"
                time.sleep(0.05)

    def kill(self) -> None:
        """End them as a power failure does; the workers themselves end with the process that started them."""
        for process in self.processes:
            process.kill()
            process.wait()
        self.processes.clear()

    def stop(self) -> None:
        for process in reversed(self.processes):
            process.terminate()
        for process in reversed(self.processes):
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.processes.clear()

    def _run(self, kind: str, *options: str) -> None:
        files = ["--tls-ca-file", self.tls["ca"], "--tls-cert", self.tls["certificate"], "--tls-key", self.tls["key"]]
        command = [sys.executable, "-m", f"distributed.cli.dask_{kind}", *options, *files, "--no-dashboard"]
        variables = os.environ | {"PYTHONPATH": str(Path(__file__).parent), "DASK_DISTRIBUTED__WORKER__DAEMON": "True"}
        log = (self.folder / f"{kind}.log").open("ab")
        self.processes.append(subprocess.Popen(command, env=variables, stdout=log, stderr=log))
        log.close()


@contextmanager
def served(folder: Path, workers: int = 2) -> Iterator[DaskCluster]:
    """A cluster; it is ended afterwards."""
    cluster = DaskCluster(folder, write_certificates(folder / "tls"), free_port())
    try:
        cluster.start(workers)
        yield cluster
    finally:
        cluster.stop()


# --- what is computed ------------------------------------------------------------------------------------------------


def halve(number: float, pause_s: float = 0.0) -> float:
    time.sleep(pause_s)
    if number < 0:
        raise ValueError(f"{number} is below nothing")
    return number / 2


def whereabouts(pause_s: float) -> int:
    time.sleep(pause_s)
    return os.getpid()


def note_and_wait(folder: str, name: str, seconds: float) -> str:
    """Write down which process computes it; so long it takes the first time only."""
    path = Path(folder) / name
    first = not path.exists()
    path.write_text(str(os.getpid()), "utf-8")
    if first:
        time.sleep(seconds)
    return name


def tasks_of_scheduler() -> int:
    """How many tasks the scheduler has at this moment."""
    from distributed import get_client

    count: int = get_client().run_on_scheduler(_count)
    return count


def _count(dask_scheduler: Any) -> int:
    return len(dask_scheduler.tasks)


class CountedTable(pd.DataFrame):
    """A table that counts how often it is sent."""

    sent = 0

    def __reduce__(self) -> tuple[Any, ...]:
        CountedTable.sent += 1
        return CountedTable, (self.to_dict("list"),)


def total(rows: pd.DataFrame, factor: pd.DataFrame, end: bool) -> float:
    """Ends its worker, or gives a number that follows from rows and their order."""
    if end:
        os._exit(3)
    return float((rows["power"].to_numpy() * range(len(rows))).sum()) * float(factor["factor"].iloc[0])
