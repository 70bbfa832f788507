"""Paths of the project's datasets: on a disk of this machine, or in an S3-compatible object store.

The store is configured by the variables of AWS's own tools: `AWS_ENDPOINT_URL`, `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`,
`AWS_REGION`.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

_LOOPBACK = ("127.0.0.1", "::1", "localhost")


class StoreError(ValueError):
    """An object store cannot be used as it is configured."""


def local_path(path: Any, where: str) -> Path:
    """Convert a value of the configuration to a local path; ``where`` is its key.

    Raises `ValueError` if it is a URL such as ``s3://bucket/key``, which would become a folder named ``s3:``, or not a path.
    """
    if not isinstance(path, str | Path) or not str(path).strip() or "\0" in str(path):
        raise ValueError(f"{where}: {path!r} is no path; write that of a file or folder of this machine")
    # Path takes one of two slashes away.
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", str(path)):
        raise ValueError(
            f"{where}: {path} is a URL, and here only files and folders of this machine are supported; "
            f"write such a path, or mount the store and write the path where it is mounted"
        )
    return Path(path)


def data_path(path: Any, where: str) -> Path:
    """Convert a value of the configuration to a local path, or to one of an object store if it is ``s3://bucket/key``.

    A path of a store is a `upath.UPath`: it has the methods of `pathlib.Path`, but is none (`is_in_store`), and has no folders:
    these exist as long as objects are below them.

    Raises:
        ValueError: if it is no path, or of another protocol than ``s3``.
        StoreError: if the store cannot be used as it is configured.
    """
    if not isinstance(path, str) or not path.startswith("s3://"):
        return path if is_in_store(path) else local_path(path, where)
    if not re.fullmatch(r"s3://[a-z0-9][a-z0-9.-]+[a-z0-9](/[^\0]*)?", path):
        raise ValueError(f"{where}: {path!r} is no path of an object store; write s3://bucket/folder")
    try:
        import s3fs  # noqa: F401 - UPath names it less clearly
        from upath import UPath
    except ImportError:
        raise StoreError(f"{where}: {path} needs the extra 's3': pip install 'wind-kedro[s3]'") from None
    store_options()
    region = os.environ.get("AWS_REGION")  # which boto does not read
    options: dict[str, Any] = {"client_kwargs": {"region_name": region}} if region else {}
    # Other processes and Delta write there, too: a listing is not kept.
    return cast(Path, UPath(path.rstrip("/"), use_listings_cache=False, **options))


def is_in_store(path: Any) -> bool:
    """Whether a path of `data_path` is one of an object store."""
    return not isinstance(path, Path) and hasattr(path, "fs")


def make_folder(path: Path) -> None:
    """Make a folder with those above it; an object store has none."""
    if not is_in_store(path):
        path.mkdir(parents=True, exist_ok=True)


def store_options() -> dict[str, str]:
    """Options with which ``deltalake`` opens tables in the object store; keys and address it reads from the environment itself.

    Raises:
        StoreError: if data and signatures of requests would cross a network in the clear.
    """
    # A commit is an object that must not exist yet: no lock beside the store is needed.
    options = {"aws_conditional_put": "etag"}
    address = urlsplit(os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or "")
    if address.scheme == "http":
        if address.hostname not in _LOOPBACK and os.environ.get("AWS_ALLOW_HTTP", "").lower() != "true":
            raise StoreError(
                f"AWS_ENDPOINT_URL: {address.geturl()} is not encrypted: use https, or set AWS_ALLOW_HTTP=true if the network "
                f"to {address.hostname} is yours"
            )
        options["aws_allow_http"] = "true"
    return options
