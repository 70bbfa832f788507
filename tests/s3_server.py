"""An S3-compatible server on loopback, in a process of its own; it keeps its objects in memory.

``python tests/s3_server.py PORT`` runs it until it is ended. Moto checks the condition of a put and then puts: requests are
handled one at a time, so that nothing comes between.
"""

from __future__ import annotations

import contextlib
import os
import socket
import socketserver
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


class Line:
    """A line to a server that can be cut; in a process of its own, as a client may keep Python from forwarding in this one.

    Args:
        variables: of the environment, that name the server.
        folder: an empty one.
    """

    def __init__(self, variables: dict[str, str], folder: Path) -> None:
        self._cut_at, self._is_cut = folder / "cut_at", folder / "is_cut"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self._address = ("127.0.0.1", port)
        target = variables["AWS_ENDPOINT_URL"].rpartition(":")[2]
        self._process = subprocess.Popen([sys.executable, str(Path(__file__)), str(port), target, str(folder)])
        self.variables = variables | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}

    def cut_at(self, request: str) -> None:
        """Let the line be cut by the first put that contains this text, which does not reach the server."""
        self._cut_at.write_text(request)

    def is_cut(self) -> bool:
        """Whether that put was tried."""
        return self._is_cut.exists()

    def mend(self) -> None:
        """Forward again."""
        self._cut_at.unlink()
        self._is_cut.unlink()

    def __enter__(self) -> Line:
        deadline = time.monotonic() + 60
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(self._address) == 0:
                    return self
            assert time.monotonic() < deadline, "the line does not start"
            time.sleep(0.05)

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()


def _forward(port: int, target: int, folder: Path) -> None:
    cut_at, is_cut = folder / "cut_at", folder / "is_cut"

    def copy(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while (data := source.recv(65536)) and not is_cut.exists():
                if data.startswith(b"PUT ") and cut_at.exists() and cut_at.read_bytes() in data:
                    is_cut.touch()
                    break
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    class Forward(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            if not is_cut.exists():
                with socket.create_connection(("127.0.0.1", target)) as server:
                    back = threading.Thread(target=copy, args=[server, self.request])
                    back.start()
                    copy(self.request, server)
                    back.join()

    socketserver.ThreadingTCPServer(("127.0.0.1", port), Forward).serve_forever()


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
    if len(sys.argv) > 2:
        _forward(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
    else:
        _serve(int(sys.argv[1]))
