"""Where a result comes from: commit, configuration, lock, libraries, machine. Gathered once a run, by the hook."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from wind_kedro.strict import Strict

#: Parameters that change from run to run, or change nothing of a result.
_NOT_CONFIGURATION = {"clock", "lease", "provenance", "workers"}
#: Libraries whose version may show in a forecast.
LIBRARIES = (
    "wind-kedro", "catboost", "duckdb", "ibis-framework", "joblib", "kedro", "lightgbm", "mlflow", "numpy", "pandas",
    "pyarrow", "scikit-learn", "scipy",
)  # fmt: skip
#: Variables that set the number of threads; the last bit of a sum may depend on it.
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class Provenance(Strict):
    """What a result depends on beside its data."""

    git_commit: str
    configuration: str
    configuration_sha256: str
    lock_sha256: str
    python: str
    platform: str
    threads: str
    libraries: dict[str, str]

    @classmethod
    def collect(cls, project_path: Path, parameters: Mapping[str, Any]) -> Self:
        """Of this run: ``parameters`` are its resolved ones, all cards and settings."""
        kept = {name: value for name, value in parameters.items() if name not in _NOT_CONFIGURATION}
        configuration = json.dumps(kept, sort_keys=True, default=str)
        return cls(
            git_commit=git_commit(project_path),
            configuration=configuration,
            configuration_sha256=sha256(configuration.encode()),
            lock_sha256=lock(project_path),
            python=platform.python_version(),
            platform=f"{platform.system()} {platform.machine()}",
            threads=" ".join(f"{name}={os.environ[name]}" for name in _THREADS if name in os.environ)
            or f"{os.cpu_count()} cores",
            libraries={name: version for name in LIBRARIES if (version := _version(name))},
        )


def git_commit(project_path: Path) -> str:
    """The commit of the checkout, marked if it is not clean; where there is none, the version of the package."""
    try:
        commit, status = (
            subprocess.run(["git", *args], cwd=project_path, capture_output=True, check=True, text=True).stdout.strip()  # noqa: S603, S607
            for args in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
        )
    except (OSError, subprocess.CalledProcessError):
        from wind_kedro import __version__

        return f"not a checkout (wind-kedro {__version__})"
    return f"{commit} (changed since)" if status else commit


def lock(project_path: Path) -> str:
    """What names the lock that the environment was made from."""
    path = project_path / "requirements.lock"
    return sha256(path.read_bytes()) if path.is_file() else "no requirements.lock here"


def sha256(data: bytes) -> str:
    """As hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def file_sha256(path: Path) -> str:
    """Of a file of any size, as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""
