"""Streams where a request has a thread: their loop is another one, and the thread waits for it."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from functools import lru_cache

from iotflow.lib.live.topics import Chunks

# That its client has gone is noticed in writing, and until then a thread is held.
HEARTBEAT_SECONDS = 2.0
_starting = threading.Lock()


class Threaded:
    """The chunks of a stream, for a thread that may wait for them."""

    def __init__(self, stream: Chunks) -> None:
        stream.heartbeat = min(stream.heartbeat, HEARTBEAT_SECONDS)
        self.close = stream.close
        self._stream = stream

    def __iter__(self) -> Iterator[bytes]:
        with _starting:
            loop = _loop()
        chunks = aiter(self._stream)
        while chunk := asyncio.run_coroutine_threadsafe(_next(chunks), loop).result():
            yield chunk


async def _next(chunks: AsyncIterator[bytes]) -> bytes | None:
    return await anext(chunks, None)


@lru_cache(maxsize=1)
def _loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="streams", daemon=True).start()
    return loop
