"""Tasks on workers of Dask: those of a scheduler elsewhere, or processes of this machine, whose tasks can be stopped.

Tasks are sent in shards of about half a second, and only a few shards a worker at a time, so that neither arguments nor results
pile up. A shard whose worker died is computed once more by the scheduler; then its tasks are computed one after another, each
alone in the cluster, so that only the one that ends its worker fails.
"""

from __future__ import annotations

import hashlib
import logging
import os
import platform
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Hashable, Iterator, Mapping
from concurrent.futures import CancelledError
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from wind_kedro.compute.limits import TimeLimitError, call_within
from wind_kedro.compute.shared import Rows, Shared
from wind_kedro.compute.workers import Tls, Workers
from wind_kedro.errors import WindKedroError

logger = logging.getLogger(__name__)

KeyT = TypeVar("KeyT", bound=Hashable)

#: Result of a task, and why it failed; none: it did not.
Outcome = tuple[Any, str | None]

#: How long a shard of quick tasks takes, so that sending it does not count.
_SHARD_SECONDS = 0.5
#: Shards that are sent ahead, per thread of the workers: one is computed while the next one travels.
_SHARDS_AHEAD = 2
#: How many workers' deaths a shard survives before it is split.
_ALLOWED_FAILURES = 1
#: How often it is looked whether there are workers still, if nothing finishes.
_LOOK_SECONDS = 15
#: Libraries that workers must have in the same version, beside the package itself: results depend on them, or how they travel.
_LIBRARIES = ("catboost", "cloudpickle", "distributed", "lightgbm", "numpy", "pandas", "scikit-learn", "scipy")


class ClusterError(WindKedroError):
    """The scheduler or its workers cannot be reached or used, or were lost."""


@dataclass(frozen=True)
class Shard:
    """Tasks that are sent together. An object of its own, as Dask would search lists for futures."""

    function: Callable[..., Any]
    arguments: list[tuple[Any, ...]]
    time_limit_seconds: float | None


@dataclass(frozen=True)
class Computed:
    """Outcomes of the tasks of a shard: of all, or up to the one that exceeded the time limit."""

    outcomes: list[Outcome]
    seconds: float
    #: The worker in which a task runs on that exceeded the time limit.
    occupied: str | None = None


@dataclass(frozen=True)
class _Sent:
    """An object that is sent once. An object of its own, as Dask would look into lists."""

    value: Any


@dataclass(frozen=True)
class _Reference:
    """An argument among the objects that are sent beside the shard: its number, and which of its rows; none: the object."""

    number: int
    places: NDArray[np.intp] | None


def attempt(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Outcome:
    """Call a function; whatever it raises is the failure of this task alone."""
    try:
        return function(*(resolved(argument) for argument in arguments)), None
    except (Exception, SystemExit) as error:
        return None, f"{type(error).__name__}: {error}"


def resolved(argument: Any) -> Any:
    """What the function of a task gets for an argument."""
    if isinstance(argument, Rows):
        return argument.take()
    return argument.value if isinstance(argument, Shared) else argument


def _shared(argument: Any) -> Any:
    """The object that is sent once for an argument; none: it is sent with the task."""
    if isinstance(argument, Rows):
        return argument.table
    return argument.value if isinstance(argument, Shared) else None


def compute(shard: Shard, *objects: Any) -> Computed:
    """Compute the tasks of a shard, in a worker."""
    began = time.perf_counter()
    outcomes: list[Outcome] = []
    for sent in shard.arguments:
        arguments = tuple(_referred(one, objects) for one in sent)
        outcome = _attempt_within(shard.time_limit_seconds, shard.function, arguments)
        if outcome is None:
            from distributed import get_worker

            why = f"TimeoutError: it took longer than {shard.time_limit_seconds:g} s (workers.time_limit_seconds)"
            return Computed([*outcomes, (None, why)], time.perf_counter() - began, get_worker().address)
        outcomes.append(outcome)
    return Computed(outcomes, time.perf_counter() - began)


def _referred(argument: Any, objects: tuple[Any, ...]) -> Any:
    if not isinstance(argument, _Reference):
        return argument
    value = objects[argument.number]
    return value if argument.places is None else Rows(value, argument.places)


def _attempt_within(seconds: float | None, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Outcome | None:
    """The outcome; none if it takes longer. A thread cannot be stopped: its process has to be ended then."""
    try:
        return call_within(seconds or 0, lambda: attempt(function, arguments))
    except TimeLimitError:
        return None


def spread(
    function: Callable[..., Any], tasks: Mapping[KeyT, tuple[Any, ...]], workers: Workers, label: str
) -> Generator[tuple[KeyT, Any, str | None]]:
    """Key, result and reason of failure of each task, in the order of their finishing.

    What is not computed yet is cancelled if the iterator is closed.

    Raises:
        ClusterError: if the scheduler or its workers cannot be reached or used, or were lost.
    """
    client = connected(workers)
    where = workers.scheduler or "processes of this machine"
    run = _Run(client, function, tasks, workers, label.replace(" ", "-"))
    try:
        yield from run.outcomes()
    except (CancelledError, OSError, _closed()) as error:
        raise ClusterError(
            f"workers.scheduler: the scheduler was lost ({where}: {_line(error)}); nothing of this step was stored; "
            f"start it and run again"
        ) from error
    finally:
        with suppress(Exception):  # it may be gone
            client.cancel([*run.sent, *run.objects.values()], reason="interrupted")


def _closed() -> type[Exception]:
    """What a client raises that could not connect again."""
    from distributed.client import ClosedClientError

    closed: type[Exception] = ClosedClientError
    return closed


@dataclass
class _Run(Generic[KeyT]):
    """One call of a function for many tasks."""

    client: Any
    function: Callable[..., Any]
    tasks: Mapping[KeyT, tuple[Any, ...]]
    workers: Workers
    label: str
    #: Shards that were sent and whose outcome is not known, with their keys.
    sent: dict[Any, list[KeyT]] = field(default_factory=dict)
    #: Keys of shards that ended their worker, or whose outcome cannot travel.
    suspects: deque[KeyT] = field(default_factory=deque)
    #: Objects that were sent once, and how many tasks still need each, by identity.
    objects: dict[int, Any] = field(default_factory=dict)
    needed: Counter[int] = field(default_factory=Counter)
    threads: int = 1
    computed: int = 0
    seconds: float = 0.0

    def outcomes(self) -> Iterator[tuple[KeyT, Any, str | None]]:
        self.needed.update(identity for key in self.tasks for identity in self._objects_of(key))
        self.threads = sum(self.client.nthreads().values())
        yield from self._outcomes_of(deque(self.tasks), ahead=_SHARDS_AHEAD * self.threads)
        # A worker that dies takes the shard with it that waits there: only what is alone fails for its own reason.
        yield from self._outcomes_of(self.suspects, ahead=1, alone=True)

    def _outcomes_of(self, keys: deque[KeyT], ahead: int, *, alone: bool = False) -> Iterator[tuple[KeyT, Any, str | None]]:
        while keys or self.sent:
            while keys and len(self.sent) < ahead:
                self._send([keys.popleft() for _ in range(1 if alone else self._size(len(keys)))])
            for future in self._finished():
                own = self.sent.pop(future)
                computed = self._computed(future)
                if isinstance(computed, Exception):
                    if alone:
                        yield self._done(own[0]), None, _reason(computed)
                    else:
                        self.suspects.extend(own)
                    continue
                self.computed, self.seconds = self.computed + len(computed.outcomes), self.seconds + computed.seconds
                for key, (result, failure) in zip(own, computed.outcomes, strict=False):
                    yield self._done(key), result, failure
                if computed.occupied:
                    keys.extendleft(reversed(own[len(computed.outcomes) :]))
                    # Its nanny starts it again; what waited there is computed elsewhere.
                    self.client.restart_workers([computed.occupied], timeout=60, raise_for_error=False)

    def _computed(self, future: Any) -> Computed | Exception:
        """The outcome of a shard, or why there is none: its workers died, or it could not be sent. The scheduler forgets it."""
        try:
            computed: Computed = future.result()
            return computed
        except CancelledError:
            raise
        except Exception as error:
            return error.with_traceback(None)  # whose frames would keep the future
        finally:
            future.release()

    def _size(self, left: int) -> int:
        """Number of tasks of the next shard: so many as take half a second, and no more than leaves work for all workers."""
        mean = self.seconds / self.computed if self.computed else _SHARD_SECONDS
        return max(1, min(int(_SHARD_SECONDS / max(mean, 1e-6)), left // (_SHARDS_AHEAD * self.threads)))

    def _send(self, keys: list[KeyT]) -> None:
        objects = {identity: value for key in keys for identity, value in self._objects_of(key).items()}
        numbers = {identity: number for number, identity in enumerate(objects)}
        arguments = [
            tuple(
                one if _shared(one) is None else _Reference(numbers[id(_shared(one))], getattr(one, "places", None))
                for one in self.tasks[key]
            )
            for key in keys
        ]
        shard = Shard(self.function, arguments, self.workers.time_limit_seconds)
        sent = [self._sent(identity, value) for identity, value in objects.items()]
        self.sent[self.client.submit(compute, shard, *sent, key=self._name(), pure=False)] = keys

    def _objects_of(self, key: KeyT) -> dict[int, Any]:
        return {id(_shared(one)): _shared(one) for one in self.tasks[key] if _shared(one) is not None}

    def _sent(self, identity: int, value: Any) -> Any:
        """An object in the cluster. It is the result of a task, so that the scheduler makes it again if its worker dies."""
        if identity not in self.objects or self.objects[identity].status == "error":
            self.objects[identity] = self.client.submit(_keep, _Sent(value), key=f"shared-{self._name()}", pure=False)
        return self.objects[identity]

    def _done(self, key: KeyT) -> KeyT:
        """The key; objects that no other task needs are dropped."""
        for identity in self._objects_of(key):
            self.needed[identity] -= 1
            if not self.needed[identity] and identity in self.objects:
                self.objects.pop(identity).release()
        return key

    def _name(self) -> str:
        return f"{self.label}-{os.urandom(8).hex()}"

    def _finished(self) -> list[Any]:
        """Shards that are finished, at least one."""
        import distributed

        wait: Any = distributed.wait
        while True:
            try:
                with self.client.as_current():
                    return list(wait(list(self.sent), timeout=_LOOK_SECONDS, return_when="FIRST_COMPLETED").done)
            except TimeoutError:
                _wait_for_worker(self.client, self.workers)


def _keep(sent: _Sent) -> Any:
    return sent.value


_clients: dict[tuple[Any, ...], Any] = {}


def connected(workers: Workers) -> Any:
    """A client of the scheduler; it is kept for later calls of this process, as processes of this machine are.

    Raises:
        ClusterError: if no scheduler answers, no worker is there, or one has another version of the package or of a library.
    """
    named = (workers.scheduler, workers.tls, workers.jobs)
    client = _clients.pop(named, None)
    if client is not None and client.status != "running":
        with suppress(Exception):
            client.close(timeout=1)
        client = None
    if client is None:
        client = _local(workers) if workers.scheduler is None else _remote(workers.scheduler, workers)
    _wait_for_worker(client, workers)
    try:
        _check_environments(client.run(environment, on_error="return"))
    except OSError as error:
        raise _unreachable(workers, error) from error
    _clients[named] = client
    return client


def _remote(address: str, workers: Workers) -> Any:
    distributed = _library()
    try:
        client = distributed.Client(
            address, security=_security(workers.tls), timeout=workers.connect_seconds, set_as_default=False, name="wind-kedro"
        )
        # By default a task may end four workers.
        client.run_on_scheduler(_allow_failures, allowed=_ALLOWED_FAILURES)
    except (OSError, RuntimeError) as error:
        raise _unreachable(workers, error) from error
    return client


def _unreachable(workers: Workers, error: BaseException) -> ClusterError:
    return ClusterError(
        f"workers.scheduler: no scheduler of Dask answers at {workers.scheduler} ({_line(error)}); start it, see whether "
        f"its certificates have the same authority, or set workers.backend to loky"
    )


def _local(workers: Workers) -> Any:
    import joblib

    distributed, jobs = _library(), joblib.effective_n_jobs(workers.jobs)
    # Any user of this machine could send code to a port without TLS.
    security = distributed.Security.temporary()
    cluster = distributed.LocalCluster(
        n_workers=jobs,
        threads_per_worker=1,
        dashboard_address="127.0.0.1:0",
        security=security,
        protocol="tls://",
        silence_logs=logging.CRITICAL,
    )
    cluster.scheduler.allowed_failures = _ALLOWED_FAILURES
    return distributed.Client(cluster, security=security, set_as_default=False, name="wind-kedro")


def _allow_failures(dask_scheduler: Any, allowed: int) -> None:
    dask_scheduler.allowed_failures = allowed


def _library() -> Any:
    try:
        import dask
    except ModuleNotFoundError:
        raise ClusterError("workers.backend: dask needs the extra 'dask': pip install 'wind-kedro[dask]'") from None
    # What is wrong is one line of the project's own. Levels are set when it is imported, so before.
    quiet = dict.fromkeys(("distributed", "distributed.client", "tornado", "tornado.application"), "critical")
    dask.config.set({"logging": quiet, "distributed.admin.large-graph-warning-threshold": "10 GB"})
    import distributed

    return distributed


def _security(tls: Tls | None) -> Any:
    """Certificates for a connection; without them only this machine is reached (see `Workers`)."""
    if tls is None:
        return None
    files = {}
    for name, path in tls.model_dump().items():
        files[name] = Path(os.path.expandvars(path)).expanduser()
        if not files[name].is_file():
            raise ClusterError(f"workers.tls.{name}: there is no file {files[name]}; name the PEM file, or set its variable")
    return _library().Security(
        tls_ca_file=str(files["ca"]),
        tls_client_cert=str(files["certificate"]),
        tls_client_key=str(files["key"]),
        require_encryption=True,
    )


def _wait_for_worker(client: Any, workers: Workers) -> None:
    try:
        if not client.nthreads():
            client.wait_for_workers(1, timeout=workers.connect_seconds)
    except TimeoutError:
        raise ClusterError(
            f"workers.scheduler: {workers.scheduler} has no workers after {workers.connect_seconds:g} s; start some: dask worker"
        ) from None
    except OSError as error:
        raise _unreachable(workers, error) from error


def environment() -> dict[str, str]:
    """Versions of Python, of the package with a digest of its code, and of libraries that must be equal on all workers."""
    found = {"Python": platform.python_version()}
    code, root = hashlib.sha256(), Path(__file__).parents[1]
    for path in sorted(root.rglob("*.py")):
        code.update(str(path.relative_to(root)).encode() + path.read_bytes())
    for name in ("wind-kedro", *_LIBRARIES):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    found["wind-kedro"] += f" ({code.hexdigest()[:12]})"
    return found


own_environment = cache(environment)


def _check_environments(found: Mapping[str, Any]) -> None:
    own = own_environment()
    for address, other in found.items():
        if isinstance(other, ImportError | AttributeError):
            raise ClusterError(
                f"worker {address} has no wind-kedro, or an older one ({_line(other)}); install this version there"
            )
        if isinstance(other, BaseException):  # it is just ending; what it computed is computed elsewhere
            continue
        for name, version in own.items():
            if other.get(name) != version:
                raise ClusterError(
                    f"worker {address} has {name} {other.get(name)}, and this process {version}; results could differ: "
                    f"install the same on all machines (requirements.lock)"
                )


def _reason(error: Exception) -> str:
    if type(error).__name__ == "KilledWorker":
        return "KilledWorker: the processes that computed it ended: out of memory, or a crash of a library; see the worker's log"
    return f"{type(error).__name__}: {_line(error)}"


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
