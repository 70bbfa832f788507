"""The one hook: reads the cards before anything runs, fixes ``as_of``, names missing inputs, tags the MLflow run."""

from __future__ import annotations

import contextlib
import datetime as dt
import sys
import threading
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.io import CatalogProtocol
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node

from wind_kedro.errors import WindKedroError
from wind_kedro.governance.provenance import Provenance, sha256
from wind_kedro.storage.lease import HeldLeaseError, Lease, LeaseSettings
from wind_kedro.storage.paths import local_path
from wind_kedro.storage.temporary import sweep, sweep_scratch

if TYPE_CHECKING:
    import pandas as pd

    from wind_kedro.cards import Fleet


class MissingInputError(WindKedroError):
    """A pipeline was asked to run before those that make its inputs."""


class BadDataError(WindKedroError):
    """Findings in the farms' data of severity error, one line each; the run did what it could without them."""


class UnreadablePartError(WindKedroError):
    """Parts of stored tables that could not be read, one line each; the run did what it could without them."""


class FailedFeedError(WindKedroError):
    """Feeds that could not be fetched, one line each; the others have landed."""


class IncidentError(WindKedroError):
    """Incidents that `monitoring.exit_code_on` makes an error of the run, one line each; all results are written."""


class ModelFailureError(WindKedroError):
    """Stored models that could not be used, one line each; all else is issued, and fallbacks where these models were needed."""


#: Parts of the parameters that the hook itself looks into; the others are checked where a node takes them.
_SECTIONS = ("clock", "lease", "monitoring", "training")
#: So many lines of a run's failures are shown; the others are in the table.
_SHOWN = 5


#: Findings in data that a run had to do without. Other errors, such as a suspected unit, are incidents of monitoring.
_NOT_USED = ("source_unreadable", "rows_lost", "quarantined")


class RunHooks:
    """What a run does once, outside its nodes."""

    _project_path: Path
    _parameters: dict[str, Any]
    _data: Path

    def __init__(self) -> None:
        # A thread makes one run at a time; a server may make several at once in one process.
        self._run = threading.local()

    @hook_impl(tryfirst=True)  # before kedro-mlflow makes its database: a bad card leaves nothing behind
    def after_context_created(self, context: KedroContext) -> None:
        """Check every card and fix ``as_of``, before a pipeline is even imported."""
        from wind_kedro.models.allowed import allow_classes, classes_of

        self._project_path = context.project_path
        loader = context.config_loader
        read_cards(loader)
        self._data = data_folder(loader, self._project_path)
        _add_secrets_of_this_machine(loader)
        # As if the moment had been typed: every node of this run, and MLflow, see the same.
        now = dt.datetime.now(dt.UTC).replace(microsecond=0).isoformat()
        if (loader.runtime_params or {}).get("as_of") == "now":
            loader.runtime_params = {
                **loader.runtime_params,
                "as_of": now,
            }  # before it is read: the loader keeps what it read
        self._parameters = loader["parameters"]
        for name in _SECTIONS:
            if not isinstance(self._parameters.get(name, {}), dict):
                raise WindKedroError(
                    f"parameters (conf/*/parameters_*.yml, or --params): {name}: is {self._parameters[name]!r:.80}; "
                    f"it holds settings of its own, such as in conf/base"
                )
        clock = self._parameters.get("clock", {})
        if clock.get("as_of") == "now":  # by configuration
            self._parameters = {**self._parameters, "clock": {**clock, "as_of": now}}
        # As if it stood in the configuration: nodes take it as a parameter, and MLflow records it.
        provenance = Provenance.collect(self._project_path, self._parameters)
        self._parameters = {**self._parameters, "provenance": provenance.model_dump()}
        loader["parameters"] = self._parameters
        # Stored models may name only classes that the configuration names, also in runs that train nothing.
        allow_classes(classes_of(self._parameters.get("training", {})))

    # Around the others: what is refused starts no MLflow run, and what is tagged has one.
    @hook_impl(wrapper=True)
    def before_pipeline_run(
        self, run_params: dict[str, Any], pipeline: Pipeline, catalog: CatalogProtocol[Any, Any]
    ) -> Generator[None, Any, Any]:
        """Take the environment's lease; refuse to start without the inputs, naming their pipelines; tag the MLflow run."""
        self._release()  # of a run of this thread that was interrupted, as in a notebook
        self._take(pipeline)
        try:
            # Under the lease: the run that was waited for may have made or removed one.
            missing = [
                name for name in sorted(pipeline.inputs()) if name != "parameters" and not _is_there(catalog, name)
            ]
            if missing:
                raise MissingInputError("; ".join(_who_makes(name) for name in missing))
            result = yield
        except BaseException:
            self._release()
            raise
        self._tag(
            {
                name: str(self._parameters["provenance"][name])
                for name in ("git_commit", "configuration_sha256", "lock_sha256")
            }
            | {
                "seed": str(self._parameters.get("training", {}).get("seed", "")),
                "as_of": str(self._parameters.get("clock", {}).get("as_of", "")),
            }
        )
        return result

    @hook_impl
    def after_node_run(self, node: Node, catalog: CatalogProtocol[Any, Any], inputs: dict[str, Any]) -> None:
        """Keep what the fleet's models are fitted from, under the training's MLflow run, so that they can be made again."""
        from wind_kedro.rebuild.refit import FIT

        if node.name != FIT:
            return
        import mlflow

        from wind_kedro.rebuild.kit import Kits, keep_training

        active = mlflow.active_run()
        if active is None:  # an environment that does not track has no run to keep it under
            return
        keep_training(
            Kits(self._data / "06_models" / "kits"),
            active.info.run_id,
            inputs,
            self._parameters,
            catalog.load("raw_manifest") if _is_there(catalog, "raw_manifest") else None,
            self._project_path / "requirements.lock",
        )

    # Around the others, which close what they opened: results stand, and MLflow's run is finished.
    @hook_impl(wrapper=True)
    def after_pipeline_run(self, pipeline: Pipeline, catalog: CatalogProtocol[Any, Any]) -> Generator[None, Any, Any]:
        """End a run with an error if something could not be read, used or fetched, after all else was done."""
        try:
            result = yield
            if errors := self._errors(pipeline, catalog):  # of the first one's type, with the lines of all
                raise type(errors[0])("\n".join(str(error) for error in errors))
        finally:
            _forget_mlflow_run()
            self._release()
        return result

    def _errors(self, pipeline: Pipeline, catalog: CatalogProtocol[Any, Any]) -> list[WindKedroError]:
        """What the run had to do without; all results are written."""
        made, errors = pipeline.all_outputs(), list[WindKedroError]()
        if "data_quality" in made:
            found = catalog.load("data_quality")
            bad = (found["severity"] == "error") & found["check"].isin(_NOT_USED)
            if bad.any():
                errors.append(BadDataError("\n".join(_finding(row) for row in found[bad].to_dict("records"))))
        if "model_failures" in made:
            messages = catalog.load("model_failures")["message"].tolist()
            more = [f"and {len(messages) - _SHOWN} more in model_failures"] if len(messages) > _SHOWN else []
            if messages:
                errors.append(ModelFailureError("\n".join([*messages[:_SHOWN], *more])))
        if "incidents" in made:
            incidents = catalog.load("incidents")
            if errors and "data_quality" in made:  # reported above
                incidents = incidents[~incidents["kind"].isin(_NOT_USED)]
            errors += self._incident_errors(incidents)
        if "landed" in made:
            failures = catalog.load("landed").failures
            if failures:
                errors.append(FailedFeedError("\n".join(failure.message for failure in failures)))
        if passed_over := _passed_over(pipeline, catalog):
            errors.append(UnreadablePartError("\n".join(passed_over)))
        return errors

    @hook_impl(wrapper=True)
    def on_pipeline_error(self) -> Generator[None, Any, Any]:
        """Leave nothing of a failed run to the next one of this process."""
        try:
            return (yield)
        finally:
            _forget_mlflow_run()
            self._release()

    def _take(self, pipeline: Pipeline) -> None:
        """Take the leases of what the pipeline writes, and remove what killed runs left.

        Ingestion has a lease of its own: it may wait for a slow server for minutes, adds batches that readers see whole or not
        at all, and writes no table that a forecast is made from, so that neither needs to wait for the other.
        """
        from wind_kedro.pipelines.ingestion.pipeline import create_pipeline

        landing = create_pipeline().all_outputs()
        wait = LeaseSettings.of(self._parameters).wait_seconds
        self._run.leases = []
        if pipeline.all_outputs() - landing:
            self._hold(Lease(self._data, "tables", wait))
            # Sweep only while no other process can write here, on whatever machine.
            with contextlib.suppress(HeldLeaseError), Lease(self._data, "landing", 0):
                sweep(self._data)
            sweep_scratch()
        if pipeline.all_outputs() & landing:
            self._hold(Lease(self._data, "landing", wait))
        _at_end_of_cell(self._release)

    def _hold(self, lease: Lease) -> None:
        self._run.leases.append(lease)
        lease.acquire()

    def _release(self, *_: object) -> None:
        for lease in getattr(self._run, "leases", []):
            lease.release()
        self._run.leases = []

    @hook_impl
    def after_dataset_saved(self, dataset_name: str, data: Any) -> None:
        """Tag the run with the fingerprint of the table its models were trained on."""
        if dataset_name == "model_input":
            from pandas.util import hash_pandas_object

            self._tag({"data_sha256": sha256(hash_pandas_object(data, index=False).to_numpy().tobytes())})

    def _incident_errors(self, incidents: pd.DataFrame) -> list[IncidentError]:
        """An error if this run found what `monitoring.exit_code_on` names, or worse."""
        import pandas as pd

        from wind_kedro.clock import Clock

        counted = {"error": ["error"], "warning": ["warning", "error"], "never": []}

        severities = counted[self._parameters["monitoring"].get("exit_code_on", "error")]
        as_of = Clock.model_validate(self._parameters["clock"]).as_of
        now = incidents[
            (incidents["raised_at"] == pd.Timestamp(as_of))
            & (incidents["state"] != "resolved")
            & incidents["severity"].isin(severities)
        ]
        lines = [f"{row['kind']}: {row['message']}" for row in now.to_dict("records")]
        return [IncidentError("\n".join(lines))] if lines else []

    @staticmethod
    def _tag(tags: dict[str, str]) -> None:
        import mlflow

        if mlflow.active_run() is not None:  # none where the environment does not track this pipeline
            mlflow.set_tags(tags)


def read_cards(loader: Any) -> Fleet:
    """The cards of a configuration; `CardError` names the file of each fault."""
    from wind_kedro.cards import Fleet

    kinds = ("farms", "markets", "products", "groups")
    return Fleet.from_config(*(loader["globals"].get(kind) for kind in kinds), files=_card_files(loader))


def _add_secrets_of_this_machine(loader: Any) -> None:
    """Let conf/local/credentials.yml hold in every environment; one of the environment's own comes first.

    Kedro reads base and the environment of the run only: a secret would have to stand in each.
    """
    from kedro.config import MissingConfigException

    if loader.env in {None, loader.default_run_env}:  # it is read anyway
        return
    found: dict[str, Any] = {}
    # By the loader of this run: a second one would take over the resolvers of the process, and every `${globals:…}` read after it
    # would be of that one's environment.
    local = f"{loader.conf_source}/{loader.default_run_env}"
    with contextlib.suppress(MissingConfigException):
        found |= loader.load_and_merge_dir_config(
            local, loader.config_patterns["credentials"], "credentials", set(), True
        )
    with contextlib.suppress(MissingConfigException):
        found |= loader["credentials"]
    loader["credentials"] = found


def data_folder(loader: Any, project_path: Path) -> Path:
    """The folder of the environment's data, layer by layer.

    Raises:
        WindKedroError: if globals.yml names no folder of this machine.
    """
    try:
        return project_path / local_path(loader["globals"].get("data"), "globals.yml: data")
    except ValueError as error:
        raise WindKedroError(str(error)) from None


def lease_of(context: KedroContext) -> Lease:
    """The lease of the environment's tables, for a command that writes them outside of a run."""
    loader = context.config_loader
    wait = LeaseSettings.of(loader["parameters"]).wait_seconds
    return Lease(data_folder(loader, context.project_path), "tables", wait)


def _at_end_of_cell(release: Callable[..., None]) -> None:
    # Kedro calls no hook after KeyboardInterrupt, and in a notebook the process lives on.
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell is not None and release not in shell.events.callbacks["post_run_cell"]:
        shell.events.register("post_run_cell", release)


def _forget_mlflow_run() -> None:
    # kedro-mlflow keeps the run of the last tracked pipeline, and would open it again in an untracked one of this process.
    from kedro_mlflow.framework.hooks.mlflow_hook import mlflow_hook

    mlflow_hook.run_id = None


def _card_files(loader: Any) -> dict[str, str]:
    """The file that each kind of card is read from, as people would name it."""
    kinds = {"farms": "farms.yml", "groups": "farms.yml", "markets": "markets.yml", "products": "products.yml"}
    source = Path(loader.conf_source)
    environment = loader.env or loader.default_run_env
    return {
        kind: f"{source.name}/{environment if (source / environment / file).is_file() else loader.base_env}/{file}"
        for kind, file in kinds.items()
    }


def _finding(row: dict[str, Any]) -> str:
    if row["check"] == "source_unreadable":  # names the farm and the file
        return str(row["message"])
    return f"farm '{row['farm_id']}', {row['source_table']}: {row['message']}"


def _passed_over(pipeline: Pipeline, catalog: CatalogProtocol[Any, Any]) -> list[str]:
    """What the datasets of a run could not read, a line a part; two entries may be of the same folder."""
    datasets = [catalog.get(name) for name in sorted(pipeline.datasets()) if name in catalog]
    return list(dict.fromkeys(line for dataset in datasets for line in getattr(dataset, "passed_over", [])))


def _is_there(catalog: CatalogProtocol[Any, Any], name: str) -> bool:
    return name in catalog and catalog.exists(name)


def _who_makes(dataset: str) -> str:
    """Which pipeline makes a dataset, for a message."""
    from kedro.framework.project import pipelines

    if dataset.startswith("params:"):
        return f"'{dataset}' is missing: add it to the parameters of the environment (conf/README.md lists the files)"
    pipelines.set_requested(None)
    makers = [
        name for name, pipeline in pipelines.items() if name != "__default__" and dataset in pipeline.all_outputs()
    ]
    if not makers:
        return f"'{dataset}' is missing, and no pipeline makes it: look at its entry in the catalog"
    return f"'{dataset}' is missing: pipeline '{makers[0]}' makes it (kedro run --pipeline {makers[0]})"
