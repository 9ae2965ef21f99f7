"""What tests of more than one file of real servers use."""

from collections.abc import Iterator

import pytest
from django.db import connections
from psycopg2 import extensions

from iotflow.lib.postgres import silence


@pytest.fixture
def impatient() -> Iterator[None]:
    """As a server process, this one does not wait for a PostgreSQL that is silent."""
    silence.install()
    yield
    extensions.set_wait_callback(None)
    connections.close_all()
