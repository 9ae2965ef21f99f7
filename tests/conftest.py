"""What every test may use, and what no test may do: touch a database that is not for tests."""

import itertools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.conf import settings as django_settings

from iotflow.lib.errors import StoreAway
from tests.api import Api, Somebody, Something
from tests.environment import CHOICES, ROOT, STORES
from tests.services import eventually

PURE = (
    "tests/lib/",
    "tests/clients/",
    "tests/bench/",
    "tests/browser/",
)  # or with a server of their own
ADMIN, PASSWORD = "admin", "swordfish17"
_number = itertools.count(1)


def pytest_report_header() -> list[str]:
    if STORES != "embedded":
        more = [os.environ["CLUSTER_STACK"]] if STORES == "cluster" else []
        return [f"stores: {', '.join([os.environ['SERVICES_STACK'], *more])}"]
    return ["stores: embedded (SQLite, fakeredis)"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every test but the pure ones gets databases made for it, empty, MongoDB's too.

    MongoDB is not guarded by pytest-django: without this a test could write to the real one.
    Transactions are real, for the committer works in a thread of its own.
    """
    for item in items:
        if not item.nodeid.startswith(PURE):
            item.add_marker(
                pytest.mark.django_db(transaction=True, databases=["default", "events"])
            )


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """Besides Django's: what no migration makes, in the test databases."""
    from events import sinks
    from telemetry.stores import telemetry_store

    with django_db_blocker.unblock():
        sinks.ensure_indexes()
        if django_settings.CASSANDRA_HOSTS:
            drop_keyspace()
        telemetry_store().setup()
        if STORES == "cluster":
            warm_up()
    yield
    from telemetry import ingest

    if ingest._committer is not None:
        ingest._committer.stop()


def warm_up() -> None:
    """Nodes that were just started are slower, for a while, than a request may take."""
    from telemetry.readings import Reading
    from telemetry.stores import telemetry_store

    def write() -> bool:
        try:
            for n in range(50):
                telemetry_store().write([Reading(10**15 + n, 1, 0, 0, {"a": n})])
        except StoreAway:
            return False
        return True

    eventually(write, seconds=90)


def drop_keyspace() -> None:
    from django.db import connections

    session = connections["cassandra"].connection.session
    session.execute(f"DROP KEYSPACE IF EXISTS {django_settings.CASSANDRA_KEYSPACE}", timeout=30)


@pytest.fixture(autouse=True)
def fast_passwords(settings: Any) -> None:
    """Hashing a password is slow by design; a test that makes users need not wait for it."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


def close(*things: Any) -> None:
    """Close breakers, or those of stores: what one test met is not for the next."""
    for thing in things:
        for breaker in (thing, getattr(thing, "breaker", None), getattr(thing, "reads", None)):
            if hasattr(breaker, "_failed"):
                breaker._failed, breaker._shaky_until = 0, 0.0


@pytest.fixture(autouse=True)
def clean_redis(request: pytest.FixtureRequest) -> None:
    """Each test begins with an empty Redis, closed breakers, no limit used and no event missed."""
    if request.node.nodeid.startswith(PURE):
        return
    from events.news import ears
    from iotflow.lib.postgres import base
    from iotflow.lib.ratelimit import memory
    from iotflow.lib.redis import breaker, redis
    from telemetry.stores import telemetry_store

    close(breaker, base.breaker, telemetry_store())
    memory.clear()
    ears.take_missed()
    with redis() as client:
        client.flushdb()


@pytest.fixture(autouse=True)
def lasting_lease(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where queries are counted, none of them renews the lease of the key cache.

    A request that comes in its second half does, and then a slow machine counts one more.
    """
    if "django_assert_num_queries" in request.fixturenames:
        from devices import key_cache

        monkeypatch.setattr(key_cache, "LEASE_SECONDS", 600)


@pytest.fixture(autouse=True)
def no_policies(request: pytest.FixtureRequest) -> None:
    """Each test begins knowing that there are no policies of retention, no intervals of types and
    no rules of alerts; that costs no query.
    """
    if request.node.nodeid.startswith(PURE):
        return
    from devices import silence
    from telemetry import retention
    from telemetry.alerting import book

    retention.rules.put(retention.Rules())
    silence.types.put({})
    book.rules.put(book.Book())


@pytest.fixture(autouse=True)
def no_redaction(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not allowed in an event is redacted; in a test it is a mistake."""
    if request.node.nodeid.startswith((*PURE, "tests/events/test_redaction.py")):
        return
    from events import redaction

    def refuse(kind: str, values: dict[str, Any], allowed: frozenset[str]) -> dict[str, Any]:
        raise AssertionError(f"{kind} may not say {sorted(values.keys() - allowed)}")

    monkeypatch.setattr(redaction, "_without", refuse)


@pytest.fixture
def anybody() -> Api:
    return Api()


@pytest.fixture
def make_user(transactional_db: None) -> Callable[..., Somebody]:
    """Makes users; `is_staff=True` for staff."""
    from accounts.models import Token, User

    def make(username: str = "", **fields: Any) -> Somebody:
        name = username or f"user{next(_number)}"
        user = User.objects.create_user(name, f"{name}@example.org", "swordfish 17", **fields)
        return Somebody(user, Api(token=Token.objects.create(user)[1]))

    return make


@pytest.fixture
def alice(make_user: Callable[..., Somebody]) -> Somebody:
    return make_user("alice")


@pytest.fixture
def bob(make_user: Callable[..., Somebody]) -> Somebody:
    return make_user("bob")


@pytest.fixture
def staff(make_user: Callable[..., Somebody]) -> Somebody:
    return make_user("staff", is_staff=True, is_superuser=True)


@pytest.fixture
def make_device(transactional_db: None) -> Callable[..., Something]:
    from devices.services import register_device

    def make(owner: Somebody, name: str = "", **fields: Any) -> Something:
        name = name or f"device {next(_number)}"
        device, key = register_device(
            owner=owner.user, fields={"name": name, **fields}, actor="test"
        )
        return Something(device, key, Api(key=key))

    return make


@pytest.fixture
def sensor(alice: Somebody, make_device: Callable[..., Something]) -> Something:
    """A device of alice's."""
    return make_device(alice, "sensor")


@pytest.fixture(scope="session")
def superuser() -> dict[str, str]:
    """The log-in of the superuser of that server, in the variables that docs/api.md names."""
    return {"ADMIN": ADMIN, "PASSWORD": PASSWORD}


@pytest.fixture(scope="session")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real server on embedded stores of its own, started as `make demo` starts one."""
    from tests.server import running

    var_dir = tmp_path_factory.mktemp("server")
    environment = {name: value for name, value in os.environ.items() if name not in CHOICES}
    environment |= {"VAR_DIR": str(var_dir), "WORKER_THREAD": "1", "METRICS_LOOPBACK": "1"}
    for command in (
        ["setup_stores"],
        ["createsuperuser", "--noinput", "--username", ADMIN, "--email", "admin@example.com"],
    ):
        subprocess.run(
            [sys.executable, "manage.py", *command],
            cwd=ROOT,
            env={**environment, "DJANGO_SUPERUSER_PASSWORD": PASSWORD},
            check=True,
            timeout=60,
        )
    with running(var_dir / "server.log", environment) as address:
        yield address
