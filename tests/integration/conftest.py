"""What several of these tests need of servers beside the stores."""

import os
from collections.abc import Iterator

import pytest

from tests.server import real_environment, running


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
