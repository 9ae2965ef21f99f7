"""What tests of more than one file of real servers use."""

import os
from collections.abc import Iterator

import pytest
from django.db import connections
from psycopg2 import extensions

from iotflow.lib.postgres import silence
from tests.server import real_environment, running


@pytest.fixture
def impatient() -> Iterator[None]:
    """As a server process, this one does not wait for a PostgreSQL that is silent."""
    silence.install()
    yield
    extensions.set_wait_callback(None)
    connections.close_all()


@pytest.fixture(scope="module")
def mqtt_environment(django_db_setup: None) -> dict[str, str]:
    """Of a server, or a bridge, that knows the broker."""
    return real_environment(MQTT_URL=os.environ["MOSQUITTO_URL"])


@pytest.fixture(scope="module")
def mqtt_server(
    mqtt_environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The address of one that the broker may ask for keys."""
    with running(tmp_path_factory.mktemp("mqtt") / "server.log", mqtt_environment) as url:
        yield url
