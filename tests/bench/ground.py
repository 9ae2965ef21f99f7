"""Where the benchmark runs: databases of its own on the real servers, made and dropped by it."""

import fcntl
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import psycopg2
import pymongo
import redis

from tests.bench.failure import Failure

ROOT = Path(__file__).resolve().parents[2]
VAR = ROOT / "var" / "bench"
NAME = "iotflow_bench"
REDIS_DB = "14"
KEYS = ("targets", "keys", "taken")  # files of a run, some with keys of devices
STORES = ("DATABASE_URL", "CASSANDRA_HOSTS", "REDIS_URL", "MONGODB_URI")
LIMITS = (
    *("RATE_DEVICE_MESSAGES", "RATE_DEVICE_READINGS", "RATE_DEVICE_REQUESTS"),
    *("RATE_USER", "RATE_ANONYMOUS"),
)
START = "Start the servers: make services"


def services() -> dict[str, str]:
    """The variables of the four servers: of the environment, else of `make services`."""
    if all(name in os.environ for name in STORES):
        return dict(os.environ)
    path = ROOT / ".services" / "env"
    if not path.exists():
        raise Failure(f"The real servers are not there. {START}")
    words = shlex.split(path.read_text(), comments=True)
    return {**os.environ, **dict(word.split("=", 1) for word in words if "=" in word)}


def environment(found: Mapping[str, str]) -> dict[str, str]:
    """The variables of every process here: own databases, limits on that never bind."""
    return {
        **found,
        "DATABASE_URL": urlsplit(found["DATABASE_URL"])._replace(path=f"/{NAME}").geturl(),
        "CASSANDRA_KEYSPACE": NAME,
        "REDIS_URL": urlsplit(found["REDIS_URL"])._replace(path=f"/{REDIS_DB}").geturl(),
        "REDIS_PREFIX": NAME,
        "MONGODB_DATABASE": NAME,
        "DJANGO_SETTINGS_MODULE": "tests.bench.settings",
        "VAR_DIR": str(VAR / "server"),
        "ALLOW_HTTP": "1",
        "DEBUG": "0",
        "SECRET_KEY": "bench-" + "s" * 40,
        "API_KEY_PEPPER": "bench-" + "p" * 40,
        **dict.fromkeys(LIMITS, "999999999/d"),  # more than any run asks
    }


@contextmanager
def made() -> Iterator[dict[str, str]]:
    """The environment, with empty databases behind it and Django set up; all dropped at the end."""
    found = services()
    variables = environment(found)
    VAR.mkdir(parents=True, exist_ok=True)
    with _alone():
        _check_redis(variables)
        _drop(found, variables)
        _create(found)
        yield from _made(found, variables)


@contextmanager
def _alone() -> Iterator[None]:
    """Two at once would measure each other, and drop each other's databases."""
    with (VAR / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Failure("Another benchmark is running here.") from error
        yield


def _made(found: Mapping[str, str], variables: dict[str, str]) -> Iterator[dict[str, str]]:
    try:
        subprocess.run(
            [sys.executable, "manage.py", "setup_stores"],
            cwd=ROOT,
            env=variables,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        os.environ.update(variables)
        import django

        django.setup()
        yield variables
    except subprocess.CalledProcessError as error:
        raise Failure(f"The stores could not be set up. {START}") from error
    finally:
        for name in KEYS:
            (VAR / name).unlink(missing_ok=True)
        _drop(found, variables)


def _create(found: Mapping[str, str]) -> None:
    with _postgres(found) as cursor:
        cursor.execute(f"CREATE DATABASE {NAME}")


def _drop(found: Mapping[str, str], variables: Mapping[str, str]) -> None:
    """Everything that a run makes, or one that was killed left behind."""
    _close()
    with _postgres(found) as cursor:
        cursor.execute(f"DROP DATABASE IF EXISTS {NAME} WITH (FORCE)")
    _drop_keyspace(variables)
    with _redis(variables) as client:
        client.flushdb()
    try:
        with pymongo.MongoClient(
            variables["MONGODB_URI"], serverSelectionTimeoutMS=2000, timeoutMS=60_000
        ) as client:
            client.drop_database(NAME)
    except pymongo.errors.PyMongoError as error:
        raise Failure(f"MongoDB does not answer: {error}. {START}") from error


def _close() -> None:
    """Let go of the database that is about to be dropped."""
    from django.conf import settings

    if settings.configured:
        from django.db import connections

        connections["default"].close()


def _drop_keyspace(variables: Mapping[str, str]) -> None:
    from cassandra.cluster import Cluster, NoHostAvailable

    try:
        with Cluster(
            variables["CASSANDRA_HOSTS"].split(","),
            port=int(variables.get("CASSANDRA_PORT", "9042")),
            connect_timeout=5,
        ) as cluster:
            cluster.connect().execute(f"DROP KEYSPACE IF EXISTS {NAME}", timeout=120)
    except NoHostAvailable as error:
        raise Failure(f"Cassandra does not answer. {START}") from error


@contextmanager
def _postgres(found: Mapping[str, str]) -> Iterator[psycopg2.extensions.cursor]:
    try:
        connection = psycopg2.connect(found["DATABASE_URL"], connect_timeout=5)
    except psycopg2.OperationalError as error:
        raise Failure(f"PostgreSQL does not answer: {error} {START}") from error
    connection.autocommit = True
    try:
        with connection.cursor() as cursor:
            yield cursor
    finally:
        connection.close()


@contextmanager
def _redis(variables: Mapping[str, str]) -> Iterator[redis.Redis]:
    try:
        with redis.Redis.from_url(variables["REDIS_URL"], socket_timeout=5) as client:
            yield client
    except redis.ConnectionError as error:
        raise Failure(f"Redis does not answer: {error}. {START}") from error


def _check_redis(variables: Mapping[str, str]) -> None:
    """Redis' databases have no owners: refuse one that holds what is not ours."""
    with _redis(variables) as client:
        for key in client.scan_iter(count=1000):
            if not key.startswith(NAME.encode()):
                raise Failure(
                    f"Redis' database {REDIS_DB} is in use; the benchmark needs it empty."
                )
