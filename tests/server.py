"""A real server process for a test to speak to."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from django.db import connections

from iotflow.lib.child import answers, free_port, server

START_SECONDS = 60


def real_environment(**more: str) -> dict[str, str]:
    """The variables of a child on the real stores: those of this run, with its test databases."""
    names = {alias: str(connections[alias].settings_dict["NAME"]) for alias in connections}
    database = urlsplit(os.environ["DATABASE_URL"])
    return {
        **os.environ,
        "DATABASE_URL": database._replace(path=f"/{names['default']}").geturl(),
        "MONGODB_DATABASE": names["events"],
        **more,
    }


@contextmanager
def running(
    log: Path,
    environment: Mapping[str, str],
    path: str = "/health?detailed=true",
    directory: Path | None = None,
    workers: int = 1,
) -> Iterator[str]:
    """The address of a server that is healthy inside, by what `path` says, and gone after.

    It runs this code, or that of `directory`.
    """
    port = free_port()
    child = server(port, log, environment, directory, workers)
    try:
        url = f"http://127.0.0.1:{port}"
        assert answers(url, child, START_SECONDS, path), child.obituary()
        yield url
    finally:
        child.stop()
