"""Paths of this machine: what the project's own datasets read and write."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from wind_kedro.errors import WindKedroError


class NotLocalError(WindKedroError):
    """A path names another machine, or is no path."""


def local_path(path: Any, where: str) -> Path:
    """A path of this machine.

    Args:
        path: as it stands in the configuration.
        where: file and key that it stands under, for the message.

    Raises:
        NotLocalError: if it is a URL such as ``s3://bucket/key``, which would become a folder named ``s3:``, or no path.
    """
    if not isinstance(path, str | Path) or not str(path).strip():
        raise NotLocalError(f"{where}: {path!r} is no path; write that of a file or folder of this machine")
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]+)::?//", str(path))
    if scheme and scheme[1] != "file":
        raise NotLocalError(
            f"{where}: {path} is on another machine, and only files and folders of this one can be used here; "
            f"mount the store and write the path where it is mounted"
        )
    return Path(re.sub("^file:(//)?", "", str(path)))
