"""MLflow's model registry as datasets: versions of the fleet's model, and the alias that names the champion."""

from __future__ import annotations

import functools
import importlib.metadata
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from kedro.io import AbstractDataset, DatasetError

from wind_kedro.datasets.log import Log
from wind_kedro.errors import WindKedroError
from wind_kedro.governance.promotions import Chain
from wind_kedro.models.objects import ChangedObjectError
from wind_kedro.storage.paths import data_path
from wind_kedro.storage.temporary import Scratch

if TYPE_CHECKING:
    from wind_kedro.models.ensembles.fleet_model import FleetModel

#: What a server of the model has to install. Given here, logging takes no time to find it out by loading the model.
_SERVED_WITH = ("wind-kedro", "catboost", "numpy", "pandas", "scikit-learn")


class NoModelError(WindKedroError):
    """The registry does not have the requested version."""


class RefusedVersionError(NoModelError):
    """A version differs from the promoted one, or was not promoted with a trusted key."""


@dataclass(frozen=True)
class Made:
    """The version that this run registered, and the digest of its manifest."""

    version: str
    manifest_sha256: str


@dataclass(frozen=True)
class RegisteredVersion:
    """One version in the registry."""

    version: str
    run_id: str
    trained_through: pd.Timestamp


class RegisteredModels:
    """All versions of one registered model, read when they are asked for and kept.

    A version is read only if this run made it, or if the signed log of promotions holds the digest of its manifest. The digest is
    verified before the manifest is parsed, and the manifest has the digests of the models.
    """

    def __init__(self, name: str, objects: Path, promotions: Log, made: Made | None = None) -> None:
        """``objects`` is the folder of the stored models, ``made`` the version that this very run registered."""
        self.name = name
        self.objects = objects
        self._promotions = promotions
        self._made = made
        self._read: dict[str, FleetModel | NoModelError] = {}

    def made(self) -> RegisteredVersion:
        """The version that this run registered; in a run that registered none, the newest. Another training may have registered
        one meanwhile, which is not this run's to promote.
        """
        return self.newest() if self._made is None else self.registered(self._made.version)

    def registered(self, version: str) -> RegisteredVersion:
        """The registry's entry of a version.

        Raises:
            NoModelError: if there is no such version.
        """
        import mlflow

        try:
            found = mlflow.MlflowClient().get_model_version(self.name, version)
        except mlflow.MlflowException as error:
            raise NoModelError(f"there is no version {version} of model '{self.name}'") from error
        if "trained_through" not in found.tags:
            raise NoModelError(f"version {version} of model '{self.name}' was left by a run that was interrupted")
        return RegisteredVersion(str(found.version), str(found.run_id), pd.Timestamp(found.tags["trained_through"]))

    def newest(self) -> RegisteredVersion:
        """The version registered last."""
        import mlflow

        registered = mlflow.MlflowClient().search_model_versions(f"name = '{self.name}'")
        # The tag is set last: a version without it was left by a run that was interrupted.
        versions = [int(version.version) for version in registered if "trained_through" in version.tags]
        if not versions:
            raise NoModelError(f"no version of model '{self.name}' is registered: kedro run --pipeline training")
        return self.registered(str(max(versions)))

    def version(self, version: str) -> FleetModel:
        """The models of that version; each is read when it is first asked for.

        Raises:
            NoModelError: if the version is not there.
            RefusedVersionError: if it is not what was promoted, or the log of promotions does not hold.
        """
        from wind_kedro.models.ensembles.fleet_model import FleetModel

        if version not in self._read:
            try:
                with self._one_line(version):
                    digest = self.manifest_sha256(version)
                    self._read[version] = FleetModel.load(self._folder(version), self.objects, digest)
            except NoModelError as error:
                self._read[version] = error
        found = self._read[version]
        if isinstance(found, NoModelError):
            raise found
        return found

    def manifest(self, version: str) -> dict[str, Any]:
        """Which models that version is made of, and which training made each (docs/decisions.md, 25)."""
        from wind_kedro.models.ensembles.fleet_model import read_manifest

        with self._one_line(version):
            digest = self.manifest_sha256(version)
            return read_manifest(self._folder(version), digest)

    def manifest_sha256(self, version: str) -> str:
        """The digest that the manifest of a version must have: of the version made by this run, or as promoted.

        Raises:
            RefusedVersionError: if it was never promoted, or the log of promotions does not hold.
        """
        if self._made is not None and version == self._made.version:
            return self._made.manifest_sha256
        if self.refusal:
            raise RefusedVersionError(f"version {version} of model '{self.name}' is refused: {self.refusal}")
        digest = self._chain.manifests().get(version)
        if not digest:
            raise RefusedVersionError(f"version {version} of model '{self.name}' is refused: no signed promotion names it")
        return digest

    @property
    def refusal(self) -> str:
        """Why no version may be used: the log of promotions was cut off, replaced or forged; empty: it holds."""
        return self._chain.refusal

    @property
    def fault(self) -> str:
        """Why an entry of the log of promotions is passed over; empty: all hold."""
        return self._chain.fault

    @functools.cached_property
    def _chain(self) -> Chain:
        return self._promotions.chain()

    def manifest_on_disk(self, version: str) -> str:
        """Digest of a version's manifest as it is, whatever was promoted: for `kedro wind keys adopt`."""
        from wind_kedro.models.ensembles.fleet_model import manifest_digest

        with self._one_line(version):
            return manifest_digest(self._folder(version))

    def _folder(self, version: str) -> Path:
        import mlflow

        folder = mlflow.artifacts.download_artifacts(f"models:/{self.name}/{version}")
        return Path(folder) / "artifacts" / "fleet_model"

    @contextmanager
    def _one_line(self, version: str) -> Iterator[None]:
        import mlflow

        try:
            yield
        except ChangedObjectError as error:
            raise RefusedVersionError(f"version {version} of model '{self.name}' is refused: {error}") from error
        except (mlflow.MlflowException, OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise NoModelError(
                f"version {version} of model '{self.name}' cannot be loaded: {' '.join(str(error).split())}; "
                f"train again (kedro run --pipeline training) or restore the registry"
            ) from error


class ModelVersions(AbstractDataset["FleetModel", RegisteredModels]):
    """The registered versions of the fleet's model. Saving logs a model to the active MLflow run and registers it as the next
    version; loading gives all versions (`RegisteredModels`).

    The model is logged from code with native artefacts: nothing is pickled, and it loads with
    ``MLFLOW_ALLOW_PICKLE_DESERIALIZATION=false``. What is logged is the manifest; the fitted models lie in ``objects``, by their
    digests, each once.
    """

    def __init__(
        self,
        *,
        registered_model_name: str,
        objects: str,
        promotions: str,
        read_only: bool = False,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Set the model of the registry.

        Args:
            registered_model_name: its name in the registry.
            objects: folder of the fitted models.
            promotions: folder of the signed log of promotions: no version is read that it does not name.
            read_only: whether saving is refused: for a second catalog entry, by which training reads what it found.
            metadata: ignored by Kedro, read by Kedro-Viz.
        """
        self._name = registered_model_name
        self._objects = data_path(objects, "objects")
        self._promotions = Log(
            filepath=promotions,
            number="promotion",
            contract="wind_kedro.contracts.training.Promotions",
            signed=True,
            read_only=True,
        )
        self._read_only = read_only
        self._made: Made | None = None
        self.metadata = metadata

    def load(self) -> RegisteredModels:
        """All versions, none of them read yet."""
        return RegisteredModels(self._name, self._objects, self._promotions, self._made)

    def save(self, data: FleetModel) -> None:
        """Store, log and register ``data``."""
        import mlflow

        from wind_kedro.models.ensembles.fleet_model import manifest_digest

        if self._read_only:
            raise DatasetError(f"{self._name} is read here, not written: it is a view of what earlier runs left")

        example = data.example
        active = mlflow.active_run()
        run = nullcontext(active) if active else mlflow.start_run(run_name="training")
        with run as tracked, Scratch("version") as folder:
            data.save(Path(folder) / "fleet_model", self._objects, tracked.info.run_id)
            sha256 = manifest_digest(Path(folder) / "fleet_model")
            logged = mlflow.pyfunc.log_model(
                name="fleet_model",
                python_model=str(Path(__file__).with_name("pyfunc_model.py")),
                artifacts={"fleet_model": str(Path(folder) / "fleet_model")},
                signature=mlflow.models.infer_signature(example, data.predict(example)),
                input_example=example,
                pip_requirements=[f"{name}=={importlib.metadata.version(name)}" for name in _SERVED_WITH],
                registered_model_name=self._name,
            )
        mlflow.MlflowClient().set_model_version_tag(
            self._name, logged.registered_model_version, "trained_through", data.trained_through.isoformat()
        )
        self._made = Made(str(logged.registered_model_version), sha256)

    def _exists(self) -> bool:
        import mlflow

        # The first training finds an empty registry; and where models were promoted, forecasting goes on without them.
        if self._read_only or self._promotions.has_entries():
            return True

        return bool(mlflow.MlflowClient().search_model_versions(f"name = '{self._name}'", max_results=1))

    def _describe(self) -> dict[str, Any]:
        return {"registered_model_name": self._name, "objects": str(self._objects)}


class ModelAlias(AbstractDataset[str, str]):
    """The version that an alias of a registered model names, such as ``champion``."""

    def __init__(self, *, registered_model_name: str, alias: str, metadata: dict[str, Any] | None = None) -> None:
        """``alias`` is set on the version saved."""
        self._name = registered_model_name
        self._alias = alias
        self.metadata = metadata

    def load(self) -> str:
        """The version that the alias names."""
        return self._named()

    def save(self, data: str) -> None:
        """Let the alias name version ``data``."""
        import mlflow

        mlflow.MlflowClient().set_registered_model_alias(self._name, self._alias, data)

    def _exists(self) -> bool:
        import mlflow

        try:
            return bool(self._named())
        except mlflow.MlflowException:
            return False

    def _named(self) -> str:
        import mlflow

        return str(mlflow.MlflowClient().get_model_version_by_alias(self._name, self._alias).version)

    def _describe(self) -> dict[str, Any]:
        return {"registered_model_name": self._name, "alias": self._alias}
