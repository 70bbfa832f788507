"""What happens around a run: `RunStart` before its first node, `MlflowTags` on its MLflow run."""

from __future__ import annotations

import contextlib
import datetime as dt
import sys
import threading
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.io import CatalogProtocol
from kedro.pipeline import Pipeline

from wind_kedro.errors import WindKedroError
from wind_kedro.governance.provenance import sha256
from wind_kedro.storage.layout import check_layout, record_layout
from wind_kedro.storage.lease import HeldLeaseError, Lease, LeaseSettings
from wind_kedro.storage.paths import data_path, is_in_store, local_path
from wind_kedro.storage.temporary import sweep, sweep_scratch

if TYPE_CHECKING:
    from wind_kedro.cards import Fleet


class MissingInputError(WindKedroError):
    """A pipeline was asked to run before those that make its inputs."""


#: Parts of the parameters that are read here; the others are checked where a node takes them.
_SECTIONS = ("clock", "lease", "monitoring", "training")


@dataclass(frozen=True)
class FinishedRun:
    """A run whose nodes have all returned."""

    pipeline: Pipeline
    catalog: CatalogProtocol[Any, Any]
    parameters: dict[str, Any]


# A thread makes one run at a time; a server may make several at once in one process.
_finished = threading.local()


def last_run() -> FinishedRun | None:
    """The last run of this thread; none if it failed."""
    return getattr(_finished, "run", None)


class RunStart:
    """Checks the cards, fixes ``as_of``, takes the lease, and refuses to start without the inputs."""

    _parameters: dict[str, Any]
    _data: Path

    def __init__(self) -> None:
        self._run = threading.local()

    @hook_impl(tryfirst=True)  # before kedro-mlflow makes its database: a bad card leaves nothing behind
    def after_context_created(self, context: KedroContext) -> None:
        """Check every card and fix ``as_of``, before a pipeline is even imported."""
        from wind_kedro.models.allowed import allow_classes, classes_of

        loader = context.config_loader
        read_cards(loader)
        self._data = data_folder(loader, context.project_path)
        # As if the moment had been typed: every node of this run, and MLflow, see the same.
        now = dt.datetime.now(dt.UTC).replace(microsecond=0).isoformat()
        if (loader.runtime_params or {}).get("as_of") == "now":
            loader.runtime_params = {**loader.runtime_params, "as_of": now}
        parameters = loader["parameters"]
        for name in _SECTIONS:
            if not isinstance(parameters.get(name, {}), dict):
                raise WindKedroError(
                    f"parameters (conf/*/parameters_*.yml, or --params): {name}: is {parameters[name]!r:.80}; "
                    f"it holds settings of its own, such as in conf/base"
                )
        clock = parameters.get("clock", {})
        if clock.get("as_of") == "now":  # by configuration
            parameters = {**parameters, "clock": {**clock, "as_of": now}}
        loader["parameters"] = self._parameters = parameters
        # Stored models may name only classes that the configuration names, also in runs that train nothing.
        allow_classes(classes_of(parameters.get("training", {})))

    # Around the others: what is refused starts no MLflow run.
    @hook_impl(wrapper=True, tryfirst=True)
    def before_pipeline_run(self, pipeline: Pipeline, catalog: CatalogProtocol[Any, Any]) -> Generator[None, Any, Any]:
        """Take the environment's lease; refuse to start without the inputs, naming their pipelines."""
        from kedro_mlflow.framework.hooks.mlflow_hook import mlflow_hook

        # kedro-mlflow keeps the run of the last tracked pipeline, and would open it again in an untracked one of this process.
        mlflow_hook.run_id = None
        _finished.run = None
        self._release()  # of a run of this thread that was interrupted, as in a notebook
        try:
            self._take(pipeline)
            # Under the lease: the run that was waited for may have made or removed one.
            inputs = sorted(pipeline.inputs() - {"parameters"})
            missing = [name for name in inputs if not (name in catalog and catalog.exists(name))]
            if missing:
                raise MissingInputError("; ".join(_who_makes(name) for name in missing))
            if self._run.leases:
                record_layout(self._data)
            return (yield)
        except BaseException:
            self._release()
            raise

    @hook_impl
    def before_dataset_saved(self) -> None:
        """Write nothing any more once the lease was lost."""
        for lease in getattr(self._run, "leases", []):
            lease.check()

    # Around the others, which close what they opened.
    @hook_impl(wrapper=True, tryfirst=True)
    def after_pipeline_run(self, pipeline: Pipeline, catalog: CatalogProtocol[Any, Any]) -> Generator[None, Any, Any]:
        """Release the lease."""
        try:
            result = yield
        finally:
            self._release()
        _finished.run = FinishedRun(pipeline, catalog, self._parameters)
        return result

    @hook_impl(wrapper=True, tryfirst=True)
    def on_pipeline_error(self) -> Generator[None, Any, Any]:
        """Release the lease of a failed run."""
        try:
            return (yield)
        finally:
            self._release()

    def _take(self, pipeline: Pipeline) -> None:
        """Take the leases of what the pipeline writes, and remove what killed runs left.

        Ingestion has a lease of its own: it may wait for a slow server for minutes, adds batches that readers see whole or not
        at all, and writes no table that a forecast is made from, so that neither needs to wait for the other.
        """
        from wind_kedro.pipelines.ingestion.pipeline import create_pipeline

        landing = create_pipeline().all_outputs()
        settings = LeaseSettings.of(self._parameters)
        self._run.leases = []
        if pipeline.all_outputs() - landing:
            self._acquire(Lease(self._data, "tables", settings.wait_seconds, settings.expires_seconds))
            check_layout(self._data)
            # Sweep only while no other process can write here, on whatever machine.
            if not is_in_store(self._data):
                with contextlib.suppress(HeldLeaseError), Lease(self._data, "landing", 0):
                    sweep(self._data)
            sweep_scratch()
        if pipeline.all_outputs() & landing:
            self._acquire(Lease(self._data, "landing", settings.wait_seconds, settings.expires_seconds))
        _at_end_of_cell(self._release)

    def _acquire(self, lease: Lease) -> None:
        self._run.leases.append(lease)
        lease.acquire()

    def _release(self, *_: object) -> None:
        for lease in getattr(self._run, "leases", []):
            lease.release()
        self._run.leases = []


class MlflowTags:
    """Tags a tracked run with commit, configuration, lock, seed, ``as_of`` and the fingerprint of its training table."""

    _parameters: dict[str, Any]

    @hook_impl(trylast=True)
    def after_context_created(self, context: KedroContext) -> None:
        """Keep the parameters, of which some become tags."""
        self._parameters = context.config_loader["parameters"]

    @hook_impl(wrapper=True)
    def before_pipeline_run(self) -> Generator[None, Any, Any]:
        """Tag the MLflow run once kedro-mlflow has started it."""
        result = yield
        names = ("git_commit", "configuration_sha256", "lock_sha256")
        tags = {name: str(self._parameters["provenance"][name]) for name in names}
        for section, name in (("training", "seed"), ("clock", "as_of")):
            tags[name] = str(self._parameters.get(section, {}).get(name, ""))
        self._tag(tags)
        return result

    @hook_impl
    def after_dataset_saved(self, dataset_name: str, data: Any) -> None:
        """Tag the run with the fingerprint of what its models were trained on: of the shards of model input."""
        if dataset_name == "model_input":
            shards = data.wanted.sort_values(["product_id", "entity_id", "day"])
            self._tag({"data_sha256": sha256(shards["fingerprint"].to_numpy().tobytes())})

    @staticmethod
    def _tag(tags: dict[str, str]) -> None:
        import mlflow

        if mlflow.active_run() is not None:  # none where the environment does not track this pipeline
            mlflow.set_tags(tags)


def read_cards(loader: Any) -> Fleet:
    """The cards of a configuration; `CardError` names the file of each fault, as people would name it."""
    from wind_kedro.cards import Fleet
    from wind_kedro.cards.fleet import CARD_FILES

    source, environment = Path(loader.conf_source), loader.env or loader.default_run_env
    files = {
        kind: f"{source.name}/{environment if (source / environment / file).is_file() else loader.base_env}/{file}"
        for kind, file in CARD_FILES.items()
    }
    kinds = ("farms", "markets", "products", "groups")
    return Fleet.from_config(*(loader["globals"].get(kind) for kind in kinds), files=files)


def data_folder(loader: Any, project_path: Path) -> Path:
    """The folder of the environment's data, layer by layer, on this machine or in an object store.

    Raises:
        WindKedroError: if globals.yml names none.
    """
    return _place(loader["globals"].get("data"), "data", project_path)


def raw_folder(loader: Any, project_path: Path) -> Path:
    """The folder of the environment's raw files, for a command that adds some.

    Raises:
        WindKedroError: if it is no folder of this machine.
    """
    try:
        return project_path / local_path(_raw_address(loader, project_path), "globals.yml: raw")
    except ValueError as error:
        raise WindKedroError(str(error)) from None


def raw_place(loader: Any, project_path: Path) -> Path:
    """The folder of the environment's raw files, on this machine or in an object store, for a command that reads them."""
    return _place(_raw_address(loader, project_path), "raw", project_path)


def _place(address: Any, name: str, project_path: Path) -> Path:
    """The folder at the address that globals.yml has under a name."""
    try:
        found = data_path(address, f"globals.yml: {name}")
        return found if is_in_store(found) else project_path / found
    except ValueError as error:
        raise WindKedroError(str(error)) from None


def _raw_address(loader: Any, project_path: Path) -> Any:
    return loader["globals"].get("raw") or f"{data_folder(loader, project_path)}/01_raw"


def lease_of(context: KedroContext, what: str = "tables") -> Lease:
    """A lease of the environment, for a command that writes outside of a run; ``what`` as in `Lease`."""
    loader = context.config_loader
    settings = LeaseSettings.of(loader["parameters"])
    return Lease(data_folder(loader, context.project_path), what, settings.wait_seconds, settings.expires_seconds)


def _at_end_of_cell(release: Callable[..., None]) -> None:
    # Kedro calls no hook after KeyboardInterrupt, and in a notebook the process lives on.
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell is not None and release not in shell.events.callbacks["post_run_cell"]:
        shell.events.register("post_run_cell", release)


def _who_makes(dataset: str) -> str:
    """Which pipeline makes a dataset, for a message."""
    from kedro.framework.project import pipelines

    if dataset.startswith("params:"):
        return f"'{dataset}' is missing: add it to the parameters of the environment (conf/README.md lists the files)"
    pipelines.set_requested(None)
    makers = [name for name, pipeline in pipelines.items() if name != "__default__" and dataset in pipeline.all_outputs()]
    if not makers:
        return f"'{dataset}' is missing, and no pipeline makes it: look at its entry in the catalog"
    return f"'{dataset}' is missing: pipeline '{makers[0]}' makes it (kedro run --pipeline {makers[0]})"
