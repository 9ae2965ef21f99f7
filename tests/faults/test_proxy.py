"""The proxy does to connections what a case says that it does."""

import socket
import threading
import time
from contextlib import suppress

import pytest

from tests.faults.proxy import Proxy

ANSWER = b"x" * 10_000


@pytest.fixture
def proxy():
    """Before a server that answers each request with ANSWER."""

    def serve(client):
        with client, suppress(OSError):
            while client.recv(100):
                client.sendall(ANSWER)

    def accept(listening):
        with suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listening.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=accept, args=(listening,), daemon=True).start()
        yield Proxy(listening.getsockname()[1])


def connect(proxy):
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=10)


def ask(client) -> bytes:
    """The answer; a part of it where the connection broke."""
    answer = b""
    with suppress(ConnectionError):
        client.sendall(b"?")
        while len(answer) < len(ANSWER) and (piece := client.recv(65_536)):
            answer += piece
    return answer


def test_it_passes_everything_on(proxy):
    with connect(proxy) as client:
        assert [ask(client), ask(client)] == [ANSWER, ANSWER]


def test_an_answer_is_cut_in_the_middle_and_the_next_connection_works(proxy):
    with connect(proxy) as client:
        assert ask(client) == ANSWER
        proxy.cut(1)
        assert 0 <= len(ask(client)) < len(ANSWER)
    proxy.cut(0)
    with connect(proxy) as client:
        assert ask(client) == ANSWER


def test_it_refuses_connections_and_resets_those_there_are(proxy):
    with connect(proxy) as client:
        assert ask(client) == ANSWER
        proxy.refuse()
        assert ask(client) == b""
    with pytest.raises(ConnectionRefusedError):
        connect(proxy)
    proxy.accept()
    with connect(proxy) as client:
        assert ask(client) == ANSWER


def test_it_is_slow_in_both_directions(proxy):
    proxy.delay(0.2)
    with connect(proxy) as client:
        started = time.monotonic()
        assert ask(client) == ANSWER
        assert time.monotonic() - started >= 0.4
