"""Makes the package executable: ``python -m wind_kedro`` runs its pipelines as ``kedro run`` does in the project."""

import sys
from pathlib import Path
from typing import Any

from kedro.framework.cli.utils import find_run_command
from kedro.framework.project import configure_project


def main(*args: Any, **kwargs: Any) -> Any:
    """Run the project's ``run`` command with the arguments of the command line."""
    package_name = Path(__file__).parent.name
    configure_project(package_name)
    # In an interactive session Click must return its result instead of leaving Python.
    kwargs["standalone_mode"] = not hasattr(sys, "ps1")
    run = find_run_command(package_name)
    return run(*args, **kwargs)


if __name__ == "__main__":
    main()
