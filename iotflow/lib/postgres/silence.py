"""An end to waiting for a PostgreSQL that says nothing.

A server that is frozen, or cut off by the network, keeps none of its own time limits, and libpq
waits for it without any: only psycopg2's wait callback can end that. A statement may take its time
all the same. So when nothing was heard for a while, a newcomer is sent to the server's address, as
pg_isready does: as long as that is answered, the wait goes on.
"""

import os
import select
import socket
import struct
import time
from typing import Any

import psycopg2
from django.conf import settings
from psycopg2 import extensions

from iotflow.lib.postgres.base import breaker

# It is answered with one byte before anybody has to say who they are.
SSL_REQUEST = struct.pack("!ii", 8, 80877103)
# Longer than the settings' statement_timeout: for a backend that is silent by itself.
ANSWER_SECONDS = 15.0


def install() -> None:
    """From now on no thread of this process waits for a server that is away.

    For servers and workers. Other commands rather wait.
    """
    extensions.set_wait_callback(wait)


def wait(connection: Any) -> None:
    """psycopg2's wait callback. Raises OperationalError, and then psycopg2 closes the connection.

    A third of DATABASE_TIMEOUT_MS is for the answer, the rest for that to a newcomer.
    """
    begun = time.monotonic()
    while (state := connection.poll()) != extensions.POLL_OK:
        readiness = select.POLLIN if state == extensions.POLL_READ else select.POLLOUT
        poll = select.poll()
        poll.register(connection.fileno(), readiness)
        if poll.poll(settings.DATABASE_TIMEOUT_MS / 3):
            continue
        if breaker.is_open or not answers(connection.fileno()):
            error = psycopg2.OperationalError("the server is silent, to newcomers too")
            breaker.trip(error)
            raise error
        if time.monotonic() - begun > ANSWER_SECONDS:
            raise psycopg2.OperationalError("the server has not answered this connection")


def answers(connected: int) -> bool:
    """Whether the server that this socket is connected to answers another connection."""
    seconds = settings.DATABASE_TIMEOUT_MS / 1500
    try:
        with socket.socket(fileno=os.dup(connected)) as known:
            family, address = known.family, known.getpeername()
        with socket.socket(family) as newcomer:
            newcomer.settimeout(seconds)
            newcomer.connect(address)
            newcomer.sendall(SSL_REQUEST)
            return bool(newcomer.recv(1))
    except OSError:
        return False
