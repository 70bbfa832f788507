"""The notebooks run from first cell to last, on the synthetic fleet, in a copy of the project that they cannot spoil."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A copy of the project with what data_engineering leaves behind for the synthetic fleet."""
    copy = tmp_path_factory.mktemp("project")
    for name in ("conf", "notebooks", "src", "data/test/01_raw"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in ("pyproject.toml", "requirements.lock"):
        shutil.copy(ROOT / name, copy / name)
    (copy / "conf" / "local").mkdir(exist_ok=True)
    command = [sys.executable, "-m", "kedro", "run", "--env", "test", "--pipeline", "data_engineering"]
    done = subprocess.run(command, cwd=copy, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return copy


@pytest.mark.slow
@pytest.mark.parametrize("name", [path.name for path in NOTEBOOKS])
def test_notebook_runs(project, name, monkeypatch):
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("KEDRO_ENV", "test")
    notebook = nbformat.read(project / "notebooks" / name, as_version=4)
    # The kernel is the tests' own Python, whatever kernels are installed on the machine.
    client = NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(project / "notebooks")}})
    client.create_kernel_manager().kernel_spec.argv[0] = sys.executable
    client.execute(env=dict(os.environ))
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    figures = [one for one in outputs if "application/vnd.plotly.v1+json" in one.get("data", {})]
    assert len(figures) >= 10
    assert all(figure["data"]["application/vnd.plotly.v1+json"]["data"] for figure in figures)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_notebook_holds_no_outputs(path):
    import nbformat

    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    assert cells
    assert all(not cell.outputs and cell.execution_count is None for cell in cells)
