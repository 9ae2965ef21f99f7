"""Who listens to a channel for an answer that goes on: how it begins, waits and is ended."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Hashable
from time import monotonic
from weakref import finalize

from django.conf import settings

from iotflow.lib.live.hub import Hub, hub
from iotflow.lib.live.places import places
from iotflow.lib.live.topics import Channel, Permit, Topic
from iotflow.lib.metrics import Counter

RETRY_MS = 3000
# So often a store is asked while Redis is away.
AWAY_SECONDS = 2.0
ENDS = Counter("iotflow_stream_ends_total", "Live streams that ended, by why.", ("reason",))


class Listener(ABC):
    """One of `who`'s, of which there are `most` at a time: chunks, as long as `permit` holds, for
    `seconds` where that is not None.

    Raises TooManyRequests where there is no room for it.
    """

    is_stream = True

    def __init__(
        self, topic: Topic, permit: Permit, who: Hashable, most: int, seconds: float | None
    ) -> None:
        places.take(who, most)
        self._give_back = finalize(self, places.give_back, who)
        self.permit = permit
        self.heartbeat: float = settings.STREAM_HEARTBEAT_SECONDS
        self._topic = topic
        self._deadline = None if seconds is None else monotonic() + seconds
        self._reason = ""
        self._hub: Hub | None = None
        self._channel: Channel | None = None

    @abstractmethod
    def chunks(self, hub: Hub, channel: Channel) -> AsyncIterator[bytes]:
        """What is sent, until it `is_over`; from a channel that was read up to its position."""

    def end(self, reason: str) -> None:
        self._reason = self._reason or reason
        if self._channel is not None:
            self._channel.wake()

    def close(self) -> None:
        """What the answer calls at its end, in any thread, whether or not it was begun."""
        if self._hub is not None:
            self._hub.loop.call_soon_threadsafe(self._leave)
        self._give_back()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        self._hub = hub()
        self._channel = await self._hub.join(self._topic, self)
        try:
            async for chunk in self.chunks(self._hub, self._channel):
                yield chunk
        finally:
            self._leave()

    def is_over(self) -> bool:
        if self._deadline is not None and monotonic() >= self._deadline:
            self.end("time")
        return bool(self._reason)

    async def has_changed(self, changed: asyncio.Event, seconds: float) -> bool:
        """Wait for a change of the channel, so long at most, and not past the end."""
        if self._deadline is not None:
            seconds = min(seconds, self._deadline - monotonic())
        try:
            async with asyncio.timeout(seconds):
                await changed.wait()
        except TimeoutError:
            return False
        return True

    def _leave(self) -> None:
        if self._hub is not None and self._channel is not None:
            self._hub.leave(self._channel, self)
            self._channel = None
            if self.is_stream:
                ENDS.add(self._reason or "closed")
        self._give_back()
