"""A stream as the answer to a request, on ASGI and on WSGI.

On ASGI it runs in the server's loop. On WSGI it runs in a loop of a thread of this process, and a
thread of the server waits for its chunks; so few of them may be open there.
"""

import asyncio
import threading
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from django.conf import settings
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, StreamingHttpResponse

from iotflow.lib.live.stream import Stream

# That its client has gone is noticed in writing, and until then a thread is held.
HEARTBEAT_SECONDS = 2.0
HEADERS = {
    "Cache-Control": "no-store",
    # What nginx is told so is not gathered into buffers.
    "X-Accel-Buffering": "no",
}


def is_async(request: HttpRequest) -> bool:
    return isinstance(request, ASGIRequest)


def most(request: HttpRequest) -> int:
    """How many streams may be open in this process."""
    return settings.STREAMS_MAX if is_async(request) else settings.STREAMS_IN_THREADS


def answer(request: HttpRequest, stream: Stream) -> StreamingHttpResponse:
    """The stream as an answer; DRF's views take it as any other."""
    content: Any = stream if is_async(request) else Threaded(stream)
    return StreamingHttpResponse(
        content, content_type="text/event-stream; charset=utf-8", headers=HEADERS
    )


class Threaded:
    """The chunks of a stream, for a thread that may wait for them."""

    def __init__(self, stream: Stream) -> None:
        stream.heartbeat = min(stream.heartbeat, HEARTBEAT_SECONDS)
        self._stream = stream
        self._chunks: Any = None

    def __iter__(self) -> Iterator[bytes]:
        self._chunks = aiter(self._stream)
        while (chunk := _wait_for(anext(self._chunks, None))) is not None:
            yield chunk

    def close(self) -> None:
        if self._chunks is not None:
            _wait_for(self._chunks.aclose())
        self._stream.close()


def _wait_for(awaitable: Any) -> Any:
    async def run() -> Any:
        return await awaitable

    return asyncio.run_coroutine_threadsafe(run(), _loop()).result()


@lru_cache(maxsize=1)
def _loop() -> asyncio.AbstractEventLoop:
    """The loop of this process's own thread for streams."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="streams", daemon=True).start()
    return loop
