"""The wheel in a clean environment: the code from the wheel, the configuration from its archive, nothing of the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from wind_kedro.datasets import read_table

pytestmark = pytest.mark.slow

#: Nothing of the environment that runs the tests may reach the clean one.
CLEAN = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV", "KEDRO", "COV"))}


def _run(*words: str | Path, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(word) for word in words], cwd=folder, env=CLEAN, capture_output=True, text=True, timeout=600, check=False
    )


def _needs_network(done: subprocess.CompletedProcess[str], what: str) -> None:
    """Skip if there is no registry; any other failure is one."""
    said = (done.stdout + done.stderr).lower()
    signs = ("network", "connection", "resolve host", "name resolution", "offline", "could not find a version")
    if done.returncode != 0 and any(sign in said for sign in signs):
        pytest.skip(f"{what} needs a package registry, and none can be reached")
    assert done.returncode == 0, said


@pytest.fixture(scope="module")
def dist(project_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `kedro package` makes."""
    folder = tmp_path_factory.mktemp("source")
    for name in ("conf/base", "conf/test", "src/wind_kedro"):
        shutil.copytree(project_path / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("conf/logging.yml", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(project_path / name, folder / name)
    (folder / "conf/local").mkdir()
    (folder / "conf/local/credentials.yml").write_text("of_mine: secret\n")
    _needs_network(_run(sys.executable, "-m", "kedro", "package", folder=folder), "building in isolation")
    return folder / "dist"


@pytest.fixture(scope="module")
def clean(dist: Path, project_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment that holds the wheel and, of the lock's versions, what it needs."""
    folder = tmp_path_factory.mktemp("clean")
    uv = Path(sys.executable).with_name("uv")
    made = _run(uv, "venv", "--quiet", "--python", sys.executable, "venv", folder=folder)
    assert made.returncode == 0, made.stderr
    (wheel,) = dist.glob("*.whl")
    words = [
        uv,
        "pip",
        "install",
        "--quiet",
        "--python",
        "venv",
        "--constraint",
        project_path / "requirements.lock",
        wheel,
    ]
    done = _run(*words, "--offline", folder=folder)  # what uv has already
    if done.returncode != 0:
        _needs_network(_run(*words, folder=folder), "installing")
    return folder / "venv" / "bin"


@pytest.fixture(scope="module")
def work(dist: Path, project_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds configuration and raw data, nothing else."""
    folder = tmp_path_factory.mktemp("work")
    (archive,) = dist.glob("conf-*.tar.gz")
    shutil.unpack_archive(archive, folder, filter="data")
    shutil.copytree(project_path / "data/test/01_raw", folder / "data/test/01_raw")
    return folder


def test_the_archive_has_the_configuration_and_no_secrets(work: Path) -> None:
    assert {path.name for path in (work / "conf").iterdir()} >= {"base", "test", "logging.yml"}
    assert not list((work / "conf").rglob("credentials*"))


def test_the_command_of_the_wheel_lists_the_farms(clean: Path, work: Path) -> None:
    done = _run(clean / "wind-kedro", "--conf-source", "conf", "--env", "test", "farms", folder=work)
    assert done.returncode == 0, done.stderr
    assert "All cards are valid: 3 farms, 1 groups, 2 markets, 2 products (environment 'test')." in done.stdout


def test_the_module_of_the_wheel_runs_pipelines(clean: Path, work: Path) -> None:
    words = ["-m", "wind_kedro", "--conf-source=conf", "--env", "test", "--pipeline", "data_engineering"]
    done = _run(clean / "python", *words, folder=work)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    observations = read_table(work / "data/test/03_primary/observations")
    assert set(observations["entity_id"]) == {"north_ridge", "east_plain", "south_bay", "coast"}
    # A page of the wheel and not only its code: what reporting is made of travels with it.
    found = _run(
        clean / "python",
        "-c",
        "import wind_kedro, pathlib; print(pathlib.Path(wind_kedro.__file__).parent)",
        folder=work,
    )
    package = Path(found.stdout.strip())
    assert package.is_relative_to(clean.parent)
    for name in ("pipelines/reporting/report.html.j2", "pipelines/training/README.md", "py.typed"):
        assert (package / name).is_file(), name
