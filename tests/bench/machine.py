"""What was measured, on what: versions, cores, memory, commit."""

import argparse
import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.bench import ground, servers

PACKAGES = {
    "Django": "django",
    "Django REST framework": "djangorestframework",
    "granian": "granian",
    "scylla-driver": "scylla-driver",
    "redis-py": "redis",
    "psycopg2": "psycopg2-binary",
    "pymongo": "pymongo",
}


def facts(asked: argparse.Namespace, wrk: str) -> dict[str, Any]:
    pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "quick": asked.quick,
        "machine": {
            "cores": servers.cores(),
            "memory_gib": round(pages * size / 2**30, 1),
            "processor": processor(),
            "system": f"{platform.system()} {platform.release()}",
        },
        "settings": {
            "workers": asked.workers,
            "threads": asked.threads,
            "connections": asked.connections,
        },
        "versions": {
            "Python": platform.python_version(),
            **{name: version(package) for name, package in PACKAGES.items()},
            "load generator": wrk,
            "servers": ground.services().get("SERVICES_STACK", "not known"),
            "Cassandra's commit log": commit_log(),
        },
    }


def commit() -> str:
    """The commit, with a plus where files differ from it."""
    said = subprocess.run(
        ["git", "describe", "--always", "--dirty=+", "--exclude=*"],
        cwd=ground.ROOT,
        capture_output=True,
        text=True,
    )
    return said.stdout.strip() or "not known"


def commit_log() -> str:
    """Whether Cassandra acknowledges what is on the disk (`batch`), or before that (`periodic`)."""
    from telemetry.stores.cql import open_session

    asked = "SELECT value FROM system_views.settings WHERE name = 'commitlog_sync'"
    return str(open_session().execute(asked).one()["value"])


def processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
