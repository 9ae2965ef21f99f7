"""A connection that sends bytes as they are, and says what became of them."""

import socket
import struct
from contextlib import suppress
from http.client import HTTPException, HTTPResponse

from tests.fuzz.hostile import Attack

ANSWER_SECONDS = 30.0
# A server that waits for the rest of a broken request is told after so long that there is none.
PATIENCE_SECONDS = 0.5
RESET = struct.pack("ii", 1, 0)


class Silence(Exception):
    """Neither an answer nor the end of the connection, in ANSWER_SECONDS."""


class Wire:
    """Keeps its connection while requests are whole, as clients do; a broken one gets its own."""

    def __init__(self, host: str, port: int) -> None:
        self._address = (host, port)
        self._socket: socket.socket | None = None

    def send(self, attack: Attack) -> int | None:
        """The status of the answer; None where the connection ended without one. May be Silence."""
        if attack.breaks:
            self.close()
        status = self._attempt(attack)
        if status is None and not attack.breaks:
            # It may have been closed before this request came: that is no answer to it.
            status = self._attempt(attack)
        if attack.breaks:
            self.close()
        return status

    def close(self) -> None:
        if self._socket:
            self._socket.close()
            self._socket = None

    def _attempt(self, attack: Attack) -> int | None:
        if self._socket is None:
            self._socket = socket.create_connection(self._address, timeout=ANSWER_SECONDS)
        try:
            with suppress(ConnectionError):  # refused while being sent: the answer may be there
                self._socket.sendall(attack.data)
            if attack.leaves:
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                return None
            return self._answer(self._socket, attack)
        except TimeoutError as error:
            self.close()
            raise Silence from error
        except (ConnectionError, HTTPException):
            self.close()
            return None

    def _answer(self, connection: socket.socket, attack: Attack) -> int:
        if attack.breaks:
            self._wait_or_end(connection)
        answer = HTTPResponse(connection, method=attack.method)
        try:
            answer.begin()
            goes_on = answer.headers.get_content_type() == "text/event-stream"
            if not goes_on:
                answer.read()
            if goes_on or answer.will_close:
                self.close()
            return answer.status
        finally:
            answer.close()

    def _wait_or_end(self, connection: socket.socket) -> None:
        connection.settimeout(PATIENCE_SECONDS)
        try:
            connection.recv(1, socket.MSG_PEEK)
        except TimeoutError:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_WR)
        connection.settimeout(ANSWER_SECONDS)
