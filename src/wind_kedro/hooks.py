"""The one hook: reads the cards before anything runs, fixes ``as_of``, names missing inputs, tags the MLflow run."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.io import CatalogProtocol
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node

from wind_kedro.errors import WindKedroError
from wind_kedro.provenance import Provenance, sha256

if TYPE_CHECKING:
    import pandas as pd

    from wind_kedro.cards import Fleet


class MissingInputError(WindKedroError):
    """A pipeline was asked to run before those that make its inputs."""


class BadDataError(WindKedroError):
    """Findings in the farms' data of severity error, one line each; the run did what it could without them."""


class FailedFeedError(WindKedroError):
    """Feeds that could not be fetched, one line each; the others have landed."""


class IncidentError(WindKedroError):
    """Incidents that `monitoring.exit_code_on` makes an error of the run, one line each; all results are written."""


class ModelFailureError(WindKedroError):
    """Stored models that could not be used, one line each; all else is issued, and fallbacks where these models were needed."""


#: So many lines of a run's failures are shown; the others are in the table.
_SHOWN = 5


class RunHooks:
    """What a run does once, outside its nodes."""

    _project_path: Path
    _parameters: dict[str, Any]
    _kits: Path

    @hook_impl(tryfirst=True)  # before kedro-mlflow makes its database: a bad card leaves nothing behind
    def after_context_created(self, context: KedroContext) -> None:
        """Check every card and fix ``as_of``, before a pipeline is even imported."""
        from wind_kedro.models.allowed import allow_classes, classes_of

        self._project_path = context.project_path
        loader = context.config_loader
        read_cards(loader)
        self._kits = Path(loader["globals"]["data"]) / "06_models" / "kits"
        _add_secrets_of_this_machine(loader)
        # As if the moment had been typed: every node of this run, and MLflow, see the same.
        now = dt.datetime.now(dt.UTC).replace(microsecond=0).isoformat()
        if (loader.runtime_params or {}).get("as_of") == "now":
            loader.runtime_params = {
                **loader.runtime_params,
                "as_of": now,
            }  # before it is read: the loader keeps what it read
        self._parameters = loader["parameters"]
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
        """Refuse to start without the inputs, saying which pipeline makes them; tag the MLflow run."""
        missing = [
            name
            for name in sorted(pipeline.inputs())
            if not name.startswith("params:") and name != "parameters" and not _is_there(catalog, name)
        ]
        if missing:
            raise MissingInputError("; ".join(_who_makes(name) for name in missing))
        result = yield
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
            Kits(self._kits),
            active.info.run_id,
            inputs,
            self._parameters,
            catalog.load("raw_manifest") if _is_there(catalog, "raw_manifest") else None,
            self._project_path / "requirements.lock",
        )

    # Around the others, which close what they opened: results stand, and MLflow's run is finished.
    @hook_impl(wrapper=True)
    def after_pipeline_run(self, pipeline: Pipeline, catalog: CatalogProtocol[Any, Any]) -> Generator[None, Any, Any]:
        """End a run with an error if data, models or feeds could not be read or used, after all else was done."""
        result = yield
        _forget_mlflow_run()
        made, errors = pipeline.all_outputs(), list[WindKedroError]()
        if "data_quality" in made:
            found = catalog.load("data_quality")
            strict = self._parameters["monitoring"].get("exit_code_on", "error") != "never"
            bad = (found["check"] == "source_unreadable") | ((found["severity"] == "error") & strict)
            if bad.any():
                errors.append(BadDataError("\n".join(_finding(row) for row in found[bad].to_dict("records"))))
        if "model_failures" in made:
            messages = catalog.load("model_failures")["message"].tolist()
            more = [f"and {len(messages) - _SHOWN} more in model_failures"] if len(messages) > _SHOWN else []
            if messages:
                errors.append(ModelFailureError("\n".join([*messages[:_SHOWN], *more])))
        if "incidents" in made:
            errors += self._incident_errors(catalog.load("incidents"))
        if "landed" in made:
            failures = catalog.load("landed").failures
            if failures:
                errors.append(FailedFeedError("\n".join(failure.message for failure in failures)))
        if errors:  # of the first one's type, with the lines of all
            raise type(errors[0])("\n".join(str(error) for error in errors))
        return result

    @hook_impl(wrapper=True)
    def on_pipeline_error(self) -> Generator[None, Any, Any]:
        """Leave nothing of a failed run to the next one of this process."""
        result = yield
        _forget_mlflow_run()
        return result

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
        now = incidents[(incidents["raised_at"] == pd.Timestamp(as_of)) & incidents["severity"].isin(severities)]
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


def _is_there(catalog: CatalogProtocol[Any, Any], name: str) -> bool:
    return name in catalog and catalog.exists(name)


def _who_makes(dataset: str) -> str:
    """Which pipeline makes a dataset, for a message."""
    from kedro.framework.project import pipelines

    pipelines.set_requested(None)
    makers = [
        name for name, pipeline in pipelines.items() if name != "__default__" and dataset in pipeline.all_outputs()
    ]
    if not makers:
        return f"'{dataset}' is missing, and no pipeline makes it: look at its entry in the catalog"
    return f"'{dataset}' is missing: pipeline '{makers[0]}' makes it (kedro run --pipeline {makers[0]})"
