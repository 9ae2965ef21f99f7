"""A TCP proxy before a server: it may be slow, break off in the middle of an answer, or refuse."""

import asyncio
import random
import socket
import struct
import threading
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

CHUNK = 65_536
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: closing it resets the connection


class Proxy:
    """Passes everything on to `port` of the loopback address until told otherwise."""

    def __init__(self, port: int) -> None:
        self.upstream = port
        self._delay = 0.0
        self._cut = 0.0
        self._clients: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True).start()
        self.port = self._do(self._listen(0))

    def delay(self, seconds: float) -> None:
        """Hold every piece back, in both directions; 0 ends that."""
        self._delay = seconds

    def cut(self, share: float) -> None:
        """Break that share of answers off in the middle; 0 ends that."""
        self._cut = share

    def refuse(self) -> None:
        """Take no connection any more, and reset those there are."""
        self._do(self._refuse())

    def accept(self) -> None:
        self._do(self._listen(self.port))

    def _do(self, task: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(task, self._loop).result(10)

    async def _listen(self, port: int) -> int:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port, backlog=512)
        return int(self._server.sockets[0].getsockname()[1])

    async def _refuse(self) -> None:
        self._server.close()
        for client in list(self._clients):
            _reset(client)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._clients.add(writer)
        server = None
        with suppress(OSError):
            source, server = await asyncio.open_connection("127.0.0.1", self.upstream)
            pumps = [
                asyncio.create_task(self._pump(reader, server, is_answer=False)),
                asyncio.create_task(self._pump(source, writer, is_answer=True)),
            ]
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            for pump in pumps:
                pump.cancel()
        self._clients.discard(writer)
        _reset(writer)
        if server is not None:
            server.close()

    async def _pump(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, is_answer: bool
    ) -> None:
        with suppress(OSError):
            while chunk := await source.read(CHUNK):
                if self._delay:
                    await asyncio.sleep(self._delay)
                is_cut = is_answer and random.random() < self._cut
                sink.write(chunk[: len(chunk) // 2] if is_cut else chunk)
                await sink.drain()
                if is_cut:
                    return


def _reset(writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    writer.close()
