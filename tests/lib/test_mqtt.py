"""A broker's connection, where it breaks."""

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from iotflow.lib.mqtt import Outgoing, Session

CONNACK = bytes([0x20, 3, 0, 0, 0])


@pytest.fixture
def broker_that_leaves() -> Iterator[tuple[str, threading.Event]]:
    """It takes one connection, and ends it when it is told to."""
    leave = threading.Event()

    def serve() -> None:
        connection = listening.accept()[0]
        with connection:
            connection.recv(1000)
            connection.sendall(CONNACK)
            leave.wait(10)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve)
        thread.start()
        yield f"mqtt://bridge:x@127.0.0.1:{listening.getsockname()[1]}", leave
        leave.set()
        thread.join()


def test_what_is_said_when_the_connection_has_just_ended_was_not_delivered(broker_that_leaves):
    url, leave = broker_that_leaves
    session = Session(url, None, ["a"], window=10)
    deadline = time.monotonic() + 5
    while not session.is_connected:
        assert time.monotonic() < deadline
        session.turn(0.05)
    leave.set()
    time.sleep(0.2)
    assert session.deliver([Outgoing("a", b"x")] * 3, 2) is None
    session.close()
