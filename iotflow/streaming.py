"""How live streams are served on ASGI."""

import asyncio
import logging
import signal
from typing import Any

from asgiref.sync import ThreadSensitiveContext, sync_to_async
from django.conf import settings
from django.core.handlers.asgi import ASGIHandler
from django.db import connections

from iotflow.lib.live import hub
from iotflow.lib.live.views import StreamResponse

logger = logging.getLogger(__name__)
VIEWS_AT_ONCE = 8


class Application(ASGIHandler):
    """Django's, but no thread is kept for an answer that goes on, and no reader is waited for.

    Django gives each request a thread of its own for as long as it is answered. Here that ends
    with the view.
    """

    def __init__(self) -> None:
        super().__init__()
        self._views = asyncio.Semaphore(VIEWS_AT_ONCE)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await self.handle(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._live(receive, send)

    async def run_get_response(self, request: Any) -> Any:
        async with self._views, ThreadSensitiveContext():
            try:
                return await super().run_get_response(request)
            finally:
                await sync_to_async(connections.close_all)()

    async def send_response(self, response: Any, send: Any) -> None:
        """Send it; who does not take a part of it within STREAM_SEND_SECONDS is dropped."""

        async def send_in_time(message: Any) -> None:
            async with asyncio.timeout(settings.STREAM_SEND_SECONDS):
                await send(message)

        try:
            await super().send_response(response, send_in_time)
        except TimeoutError:
            if isinstance(response, StreamResponse):
                response.stream.end("slow")

    async def _live(self, receive: Any, send: Any) -> None:
        """The server begins, and ends when it has answered everybody: so streams end at a signal.

        Its own handlers of signals belong to the loop, which is woken by these here too.
        """
        await receive()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: hub.finish())
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
