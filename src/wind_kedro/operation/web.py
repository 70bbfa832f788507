"""Health, readiness and metrics of the service, over HTTP on the loopback interface."""

from __future__ import annotations

import datetime as dt
import json
import math
import threading
from collections.abc import Iterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from wind_kedro.errors import WindKedroError
from wind_kedro.operation.service import Service

_HOST = "127.0.0.1"


class Metrics:
    """Collector of `prometheus_client`: the metrics of a service when they are read."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def collect(self) -> Iterator[Metric]:
        """The metrics; all times are seconds since 1970, UTC."""
        service = self._service
        kinds = list(service.settings.cycles)
        cycles = CounterMetricFamily("wind_kedro_cycles", "Cycles since the start, by outcome.", labels=["kind", "outcome"])
        for (kind, outcome), number in list(service.counts.items()):
            cycles.add_metric([kind, outcome], number)
        yield cycles
        for name, text, numbers in (
            ("deadlines_missed", "Issues that were not made by their deadline, since the start.", service.missed),
            ("deadline_forecasts", "Issues that were made from what is stored at their deadline.", service.issued_at_deadline),
        ):
            counter = CounterMetricFamily(f"wind_kedro_{name}", text, labels=["product"])
            for product_id in service.calendars:
                counter.add_metric([product_id], numbers[product_id])
            yield counter
        yield _gauge("cycle_seconds", "Duration of the last cycle that finished.", "kind", self._durations(kinds))
        yield _gauge("cycle_finished_timestamp_seconds", "End of the last cycle that finished.", "kind", self._ends(kinds))
        due = [(kind, time.timestamp()) for kind in kinds if (time := service.next_due(kind)) is not None]
        yield _gauge("cycle_next_due_timestamp_seconds", "Next due time.", "kind", due)
        running = service.running
        now_running = [(kind, float(running is not None and running.kind == kind)) for kind in kinds]
        yield _gauge("cycle_running", "1: a cycle of this kind runs.", "kind", now_running)
        yield _gauge("newest_forecast_age_seconds", "Time since the newest issue; +Inf: there is none.", "product", self._ages())
        facts = service.facts
        yield _gauge("failures", "Rows of the table failures.", "severity", facts.failures.items())
        yield _gauge(
            "open_incidents", "Incidents that the last run of monitoring found open.", "severity", facts.incidents.items()
        )
        yield GaugeMetricFamily("wind_kedro_ready", "1: ready, 0: not.", value=float(not service.why_not_ready()))

    def _durations(self, kinds: Iterable[str]) -> Iterator[tuple[str, float]]:
        for kind in kinds:
            last = self._service.records.last_finished(kind)
            if last is not None and last.started_at is not None and last.ended_at is not None:
                yield kind, (last.ended_at - last.started_at).total_seconds()

    def _ends(self, kinds: Iterable[str]) -> Iterator[tuple[str, float]]:
        for kind in kinds:
            last = self._service.records.last_finished(kind)
            if last is not None and last.ended_at is not None:
                yield kind, last.ended_at.timestamp()

    def _ages(self) -> Iterator[tuple[str, float]]:
        now = dt.datetime.now(dt.UTC)
        for product_id in self._service.calendars:
            newest = self._service.facts.newest.get(product_id)
            yield product_id, math.inf if newest is None else (now - newest).total_seconds()


def _gauge(name: str, text: str, label: str, values: Iterable[tuple[str, float]]) -> GaugeMetricFamily:
    gauge = GaugeMetricFamily(f"wind_kedro_{name}", text, labels=[label])
    for key, value in values:
        gauge.add_metric([key], value)
    return gauge


class Web:
    """Answers ``/health``, ``/ready`` and ``/metrics`` in threads of their own; a context manager.

    Args:
        service: whose state is shown.
        port: on 127.0.0.1; 0: any that is free.

    Raises:
        WindKedroError: if the port is in use.
    """

    def __init__(self, service: Service, port: int) -> None:
        registry = CollectorRegistry()
        registry.register(Metrics(service))

        class Handler(BaseHTTPRequestHandler):
            timeout = 10

            def do_GET(self) -> None:
                """Answer a request."""
                path = self.path.partition("?")[0]
                if path == "/metrics":
                    self._answer(200, generate_latest(registry), CONTENT_TYPE_LATEST)
                elif path == "/health":
                    healthy = service.is_healthy()
                    self._answer_json(200 if healthy else 503, {"healthy": healthy})
                elif path == "/ready":
                    reasons = service.why_not_ready()
                    self._answer_json(503 if reasons else 200, {"ready": not reasons, "reasons": reasons})
                else:
                    self._answer_json(404, {"paths": ["/health", "/ready", "/metrics"]})

            def _answer_json(self, status: int, content: dict[str, object]) -> None:
                self._answer(status, (json.dumps(content) + "\n").encode(), "application/json")

            def _answer(self, status: int, body: bytes, kind: str) -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Log nothing: a watch asks every few seconds."""

        try:
            self._server = ThreadingHTTPServer((_HOST, port), Handler)
        except OSError as error:
            raise WindKedroError(
                f"port {port} of {_HOST} cannot be used ({error.strerror}): set operation.port in parameters_operation.yml, "
                f"or --port"
            ) from None
        self._server.daemon_threads = True
        self.address = f"http://{_HOST}:{self._server.server_port}"

    def __enter__(self) -> Web:
        threading.Thread(target=self._server.serve_forever, name="web", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
