"""The notebooks run from first cell to last, on the test fleet, in a copy of the project that they cannot spoil."""

import os
import sys
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))


@pytest.mark.slow
@pytest.mark.parametrize("name", [path.name for path in NOTEBOOKS])
def test_notebook_runs(test_env_project, name, monkeypatch):
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("KEDRO_ENV", "test")
    folder = test_env_project / "notebooks"
    notebook = nbformat.read(folder / name, as_version=4)
    # The kernel is the tests' own Python, whatever kernels are installed on the machine.
    client = NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(folder)}})
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
