"""The stores that a test run uses, chosen by STORES before Django reads its settings.

`embedded` (the default): none but what is in the process. `real`: the servers that
`make services` started, each with a database of its own for tests. `cluster`: the same, with the
three nodes of `make cluster` for Cassandra.
"""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SERVICES = ROOT / ".services" / "env"
CLUSTER = ROOT / ".services" / "cluster-env"
STORES = os.environ.setdefault("STORES", "embedded")
STORE_VARIABLES = (
    "DATABASE_URL",
    "CASSANDRA_HOSTS",
    "CASSANDRA_PORT",
    "CASSANDRA_DATACENTER",
    "CASSANDRA_REPLICATION_FACTOR",
    "CASSANDRA_REPLICATION",
    "CASSANDRA_CONSISTENCY",
    "REDIS_URL",
    "REDIS_HOST",
    "MONGODB_URI",
    "MONGODB_DATABASE",
    "MQTT_URL",
    *(f"{store}_TLS_CA" for store in ("DATABASE", "CASSANDRA", "REDIS", "MONGODB")),
)
CHOICES = tuple(f"{name}{end}" for name in STORE_VARIABLES for end in ("", "_FILE"))


def _read(file: Path, absent: str) -> dict[str, str]:
    """The variables of a file of `export NAME=value` lines, as a shell would read them."""
    import shlex

    if not file.exists():
        raise pytest.UsageError(absent)
    words = shlex.split(file.read_text(), comments=True)
    return dict(word.split("=", 1) for word in words if "=" in word)


def _prepare() -> None:
    for name in (*CHOICES, "SECRET_KEY_FILE", "API_KEY_PEPPER_FILE"):
        os.environ.pop(name, None)
    if STORES in ("real", "cluster"):
        absent = "The real servers are not there. Start them: make services"
        os.environ.update(_read(SERVICES, absent))
        if STORES == "cluster":
            os.environ.update(_read(CLUSTER, "The cluster is not there. Start it: make cluster"))
            # Not the store that is tried there, and what a test has left in it is dropped at once.
            os.environ["MONGODB_TIMEOUT_MS"] = "10000"
        os.environ["REDIS_URL"] = os.environ["REDIS_URL"].rsplit("/", 1)[0] + "/15"
        os.environ["CASSANDRA_KEYSPACE"] = "test_telemetry"
        # A test that is about the broker names it itself; to all others nobody does.
        os.environ["MOSQUITTO_URL"] = os.environ.pop("MQTT_URL", "")
    elif STORES != "embedded":
        raise pytest.UsageError(f"STORES is embedded, real or cluster, not {STORES!r}.")
    var_dir = tempfile.mkdtemp(prefix="iotflow-tests-")
    atexit.register(shutil.rmtree, var_dir, ignore_errors=True)
    os.environ.update(
        VAR_DIR=var_dir,
        ALLOW_HTTP="1",
        SECRET_KEY="tests-" + "s" * 40,
        API_KEY_PEPPER="tests-" + "p" * 40,
        ALLOWED_HOSTS="testserver,localhost,127.0.0.1",
        DEBUG="0",
    )


_prepare()
