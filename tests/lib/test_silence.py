"""psycopg2 against servers that take connections and say nothing: real sockets, no PostgreSQL."""

import socket
import threading
import time

import psycopg2
import pytest
from psycopg2 import extensions

from iotflow.lib.postgres import silence
from iotflow.lib.postgres.base import breaker, guarded


@pytest.fixture(autouse=True)
def impatient(settings):
    settings.DATABASE_TIMEOUT_MS = 400
    breaker._failed = 0
    silence.install()
    yield
    extensions.set_wait_callback(None)
    breaker._failed = 0


@pytest.fixture
def server():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


def connect(server):
    host, port = server.getsockname()
    return psycopg2.connect(host=host, port=port, user="a", dbname="a", sslmode="disable")


def test_a_server_that_is_silent_to_everybody_is_away(server):
    started = time.monotonic()
    with pytest.raises(psycopg2.OperationalError, match="silent, to newcomers too"):
        connect(server)
    assert time.monotonic() - started < 10
    assert breaker.is_open


def test_one_that_answers_newcomers_is_waited_for(server):
    """Until it has answered three of them; then it hangs up on the one that waits."""

    def answer():
        waiting, _ = server.accept()
        for _ in range(3):
            newcomer, _ = server.accept()
            with newcomer:
                assert newcomer.recv(8) == silence.SSL_REQUEST
                newcomer.sendall(b"N")
        waiting.close()

    thread = threading.Thread(target=answer)
    thread.start()
    with pytest.raises(psycopg2.OperationalError, match="closed the connection"):
        connect(server)
    thread.join(10)
    assert not thread.is_alive()
    assert not breaker.is_open


def test_nobody_waits_for_one_that_is_known_to_be_away(server):
    with pytest.raises(psycopg2.OperationalError), guarded():
        connect(server)
    ran = False
    with pytest.raises(Exception, match="The database did not answer in time"), guarded():
        ran = True
    assert not ran


def test_a_statement_that_is_refused_leaves_the_next_one_to_find_out():
    breaker.trip(psycopg2.OperationalError("gone"))
    breaker._next_try = 0.0  # the pause is over
    with pytest.raises(psycopg2.IntegrityError), guarded():
        raise psycopg2.IntegrityError
    assert not breaker.is_refusing
