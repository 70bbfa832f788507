"""An S3-compatible server on loopback, in a process of its own; it keeps its objects in memory.

``python tests/s3_server.py PORT`` runs it until it is ended. Moto checks the condition of a put and then puts: requests are
handled one at a time, so that nothing comes between.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

REGION = "eu-central-1"
#: The bucket that every server has.
BUCKET = "bucket"


@contextmanager
def served() -> Iterator[dict[str, str]]:
    """Start a server with an empty bucket, and end it; yields the variables of the environment that name it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, str(Path(__file__)), str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 60
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert server.poll() is None, "the server ended"
            assert time.monotonic() < deadline, "the server does not start"
            time.sleep(0.05)
        variables = {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": REGION,
            "NO_PROXY": "127.0.0.1",
        }
        client(variables).create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
        yield variables
    finally:
        server.terminate()
        server.wait()


def client(variables: dict[str, str]) -> Any:
    """A client of the server, which does not share code with what is tested."""
    import boto3

    keys = {name.lower(): variables[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
    return boto3.client("s3", endpoint_url=variables["AWS_ENDPOINT_URL"], region_name=REGION, **keys)


def put_folder(variables: dict[str, str], folder: Path, prefix: str) -> None:
    """Put the files of a folder below ``prefix`` of the bucket."""
    server = client(variables)
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            server.upload_file(str(file), BUCKET, f"{prefix}/{file.relative_to(folder).as_posix()}")


def _serve(port: int) -> None:
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import run_simple

    moto = DomainDispatcherApplication(create_backend_app)
    one_at_a_time = threading.Lock()

    def answer(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        with one_at_a_time:
            return list(moto(environ, start_response))

    run_simple("127.0.0.1", port, answer, threaded=True)


if __name__ == "__main__":
    os.environ.setdefault("AWS_DEFAULT_REGION", REGION)
    _serve(int(sys.argv[1]))
